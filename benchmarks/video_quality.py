"""PSNR of H.264 clips before and after restoration: a row for each CRF and clip, means below.

    python benchmarks/video_quality.py --clips ../shared/data/truth/test --model video

Protocol: every clean clip (lossless 8-bit 4:2:0) is coded by libx264, preset medium, one thread, at each CRF and
decoded again; PSNR of luma (peak 255) is taken frame by frame over the whole clip and averaged over frames; the gain
is mean after less mean before, the fluctuation the standard deviation of the per-frame PSNR. Of chroma the gain is
that of the squared errors of Cb and Cr over all scored frames. fp32, output rounded to 8 bit. `--map` says what the
network is told: the decoder's quantiser map; the same raised where the model `quantiser` finds that the picture was
coded before, as runs do; what that model guesses where the file tells nothing; the map's mean over each frame; or one
constant (QP 28) whatever the file says. `--first-crf` codes the clip once before, so that the map tells only the last
encode. `--clean` codes nothing: a guess is to find nothing there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ns_video.belief import softness
from ns_video.device import INT8, PRECISIONS, dtype_of
from ns_video.media.clip_files import list_clips
from ns_video.media.training_clips import (
    BLOCK,
    Clip,
    CodedClip,
    Encoding,
    code_to_step,
    encode_decode,
    read_clip,
    split_planes,
    step_to_code,
)
from ns_video.networks.int8 import int8_network
from ns_video.networks.ns_quantiser import coded_before, guessed_octaves
from ns_video.networks.ns_restore import NsRestore
from ns_video.training.evaluate import psnr
from ns_video.training.video import BLACK, LUMA_SPAN, load_checkpoint, restore_frame, told_steps
from ns_video.training.video_clips import ClipPair
from ns_video.weights import load_descriptor

CRFS = (18, 22, 28, 33, 38, 42)
CONSTANT_CODE = 4 * 28


@dataclass(frozen=True)
class Row:
    """One clip at one CRF; dB."""

    model: str
    crf: int
    clip: str
    before: float
    after: float
    gain: float
    deviation_before: float
    deviation_after: float
    worst_frame: float
    chroma_gain: float


def load_network(name: str, precision: str) -> NsRestore:
    """A shipped model, a weights file or a training's checkpoint.pt."""
    if name.endswith(".pt"):
        return load_checkpoint(Path(name)).to(dtype_of(precision))
    descriptor = load_descriptor(name)
    network = descriptor.network
    if not isinstance(network, NsRestore) or network.config.side != 6:
        sys.exit(f"{name} is no ns_restore with a quantiser map")
    if precision == INT8:
        return int8_network(network, descriptor.int8_ranges, dtype_of(precision))
    return network.to(dtype_of(precision))


def code(truth: Clip, crf: int, options: argparse.Namespace) -> ClipPair:
    """The clip through the encoder, once or twice; the kinds of its frames only where the network is told them."""
    source = truth
    if options.first_crf is not None:
        source = encode_decode(truth, Encoding(options={"crf": str(options.first_crf), "preset": "medium"})).pictures
    if options.clean:
        blocks = (len(truth), -(-truth.shape[1] * 2 // 3 // BLOCK), -(-truth.shape[2] // BLOCK))
        coded = CodedClip(source, np.zeros(blocks, np.uint8), np.zeros(len(truth), np.uint8))
    else:
        coded = encode_decode(source, Encoding(options={"crf": str(crf), "preset": "medium"}))
    return ClipPair(truth, coded if options.map in ("decoder", "raised") else replace(coded, types=coded.types * 0))


@cache
def _guesser() -> torch.nn.Module:
    return load_descriptor("quantiser").network


def _unit(picture: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(picture.astype(np.float32)) - BLACK) / LUMA_SPAN


def told(coded: CodedClip, how: str) -> Callable[[int], np.ndarray]:
    """Frame → the step codes that the network is told of it and of its neighbours, in their places of the clip's.

    As in a run, a guess is told of all three, and what the guess for a frame raises is raised in all three.
    """
    luma, steps = split_planes(coded.pictures)[0], told_steps(coded)
    if how == "mean":
        steps[:] = steps.mean((1, 2), keepdims=True).round()
    if how == "constant":
        steps[:] = CONSTANT_CODE

    @torch.inference_mode()
    def guessed(t: int) -> np.ndarray:
        return np.full_like(steps, step_to_code(np.exp2([guessed_octaves(_guesser(), _unit(luma[t]))])))

    @torch.inference_mode()
    def raised(t: int) -> np.ndarray:
        own = np.log2(np.maximum(code_to_step(steps), 1.0))
        seen, share = coded_before(_guesser(), _unit(luma[t]), float(own[t].mean()))
        if share:
            octaves = own[t].repeat(BLOCK, 0).repeat(BLOCK, 1)[: luma.shape[1], : luma.shape[2]]
            share *= softness(_unit(luma[t])[None, None], torch.from_numpy(octaves / 7.0)[None, None])
        return step_to_code(np.exp2(own + share * (seen - own))) if share else steps

    return {"guessed": guessed, "raised": raised}.get(how, lambda _: steps)


def measure(
    network: NsRestore, pair: ClipPair, how: str, scored: range
) -> tuple[list[float], list[float], tuple[float, float]]:
    """PSNR-Y of the scored frames before and after, and all squared error of their chroma; `how` is the map told."""
    steps, height = told(pair.coded, how), pair.truth.shape[1] * 2 // 3
    by_block = how in ("decoder", "raised")
    own = told_steps(pair.coded) if how == "raised" else None
    restored = {t: restore_frame(network, pair, steps(t), t, doubt_edges=by_block, told=own) for t in scored}
    before = [psnr(pair.coded.pictures[t, :height], pair.truth[t, :height]) for t in scored]
    after = [psnr(restored[t][:height], pair.truth[t, :height]) for t in scored]
    coded = {t: pair.coded.pictures[t] for t in scored}
    wrong = [sum(_square(clip[t][height:], pair.truth[t, height:]) for t in scored) for clip in (coded, restored)]
    return before, after, (wrong[0], wrong[1])


def _square(ours: np.ndarray, truth: np.ndarray) -> float:
    return float(np.square(np.subtract(ours, truth, dtype=np.float64)).sum())


def row_of(
    model: str, crf: int, clip: str, before: list[float], after: list[float], chroma: tuple[float, float]
) -> Row:
    """Means, deviations and the worst frame."""
    gain = np.array(after) - np.array(before)
    means = float(np.mean(before)), float(np.mean(after)), float(gain.mean())
    colours = 10 * math.log10(max(chroma[0], 1.0) / max(chroma[1], 1.0))
    return Row(model, crf, clip, *means, float(np.std(before)), float(np.std(after)), float(gain.min()), colours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/truth/test"))
    parser.add_argument("--model", nargs="+", default=["video"], help="shipped names, weights files, checkpoint.pt")
    parser.add_argument("--crf", type=int, nargs="+", default=CRFS)
    parser.add_argument("--map", choices=("decoder", "raised", "guessed", "mean", "constant"), default="decoder")
    parser.add_argument("--first-crf", type=int, help="code the clip at this CRF before")
    parser.add_argument("--clean", action="store_true", help="code nothing; --crf is of no account")
    parser.add_argument("--frames", type=int, help="only the first N frames of each clip")
    parser.add_argument("--every", type=int, default=1, help="score every Nth frame; the whole clip is coded")
    parser.add_argument("--precision", choices=(*PRECISIONS, INT8), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.clean:
        options.crf = [0]
    networks = {name: load_network(name, options.precision) for name in options.model}
    clips = {path.stem: read_clip(path, 0, options.frames) for path in list_clips(options.clips)}
    rows: list[Row] = []
    if not options.json:
        print("| model | CRF | clip | before | after | gain | σ before | σ after | worst frame | chroma |")
        print("|---|---|---|---|---|---|---|---|---|---|")
    for crf, (name, truth) in itertools.product(options.crf, clips.items()):
        pair = code(truth, crf, options)
        for model, network in networks.items():
            scored = range(options.every // 2, len(truth), options.every)
            row = row_of(model, crf, name, *measure(network, pair, options.map, scored))
            rows.append(row)
            print(json.dumps(asdict(row)) if options.json else line_of(row), flush=True)
    if options.json:
        return
    print("\n| model | CRF | mean gain | worst clip | mean of chroma | worst |\n|---|---|---|---|---|---|")
    for model, crf in itertools.product(networks, options.crf):
        mine = [row for row in rows if (row.model, row.crf) == (model, crf)]
        parts = [row.gain for row in mine], [row.chroma_gain for row in mine]
        cells = " | ".join(f"{np.mean(gains):+.3f} | {min(gains):+.3f}" for gains in parts)
        print(f"| {model} | {crf} | {cells} |")


def line_of(row: Row) -> str:
    """One line of the table."""
    return (
        f"| {row.model} | {row.crf} | {row.clip} | {row.before:.2f} | {row.after:.2f} | {row.gain:+.3f} | "
        f"{row.deviation_before:.2f} | {row.deviation_after:.2f} | {row.worst_frame:+.2f} | "
        f"{row.chroma_gain:+.2f} |"
    )


if __name__ == "__main__":
    main()
