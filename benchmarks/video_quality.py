"""PSNR-Y of H.264 clips before and after restoration: a row for each CRF and clip, means below.

    python benchmarks/video_quality.py --clips ../shared/data/truth/test --model video

Protocol: every clean clip (lossless 8-bit 4:2:0) is coded by libx264, preset medium, one thread, at each CRF and
decoded again; PSNR of luma (peak 255) is taken frame by frame over the whole clip and averaged over frames; the gain
is mean after less mean before, the fluctuation the standard deviation of the per-frame PSNR. fp32, output rounded to
8 bit. `--map` says what the network is told: the decoder's quantiser map, its mean over each frame, or one constant
(QP 28) whatever the file says. `--first-crf` codes the clip once before, so that the map tells only the last encode.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ns_video.media.training_clips import Clip, Encoding, encode_decode, read_clip, split_planes
from ns_video.networks.ns_restore import NsRestore
from ns_video.training.video import load_checkpoint, luma_psnr, restore_luma, told_steps
from ns_video.training.video_clips import CLIP_SUFFIXES, ClipPair
from ns_video.weights import load_descriptor

CRFS = (18, 22, 28, 33, 38, 42)
CONSTANT_CODE = 4 * 28


@dataclass(frozen=True)
class Row:
    """One clip at one CRF; dB."""

    crf: int
    clip: str
    before: float
    after: float
    gain: float
    deviation_before: float
    deviation_after: float
    worst_frame: float


def load_network(name: str) -> NsRestore:
    """A shipped model, a weights file or a training's checkpoint.pt."""
    if name.endswith(".pt"):
        return load_checkpoint(Path(name))
    network = load_descriptor(name).network
    if not isinstance(network, NsRestore) or network.config.side != 6:
        sys.exit(f"{name} is no ns_restore with a quantiser map")
    return network


def measure(network: NsRestore, name: str, truth: Clip, crf: int, options: argparse.Namespace) -> Row:
    """Codes, restores and scores one clip."""
    source = truth
    if options.first_crf is not None:
        source = encode_decode(truth, Encoding(options={"crf": str(options.first_crf), "preset": "medium"})).pictures
    pair = ClipPair(truth, encode_decode(source, Encoding(options={"crf": str(crf), "preset": "medium"})))
    steps = told_steps(pair.coded)
    if options.map != "decoder":
        mean = steps.mean((1, 2), keepdims=True).round() if options.map == "mean" else CONSTANT_CODE
        steps[:] = mean
        pair.coded.types[:] = 0
    luma, decoded = split_planes(truth)[0], split_planes(pair.coded.pictures)[0]
    before = np.array([luma_psnr(decoded[t], luma[t]) for t in range(len(luma))])
    after = np.array([luma_psnr(restore_luma(network, pair, steps, t), luma[t]) for t in range(len(luma))])
    gain = after - before
    return Row(crf, name, before.mean(), after.mean(), gain.mean(), before.std(), after.std(), gain.min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/truth/test"))
    parser.add_argument("--model", default="video", help="shipped name, weights file or checkpoint.pt")
    parser.add_argument("--crf", type=int, nargs="+", default=CRFS)
    parser.add_argument("--map", choices=("decoder", "mean", "constant"), default="decoder")
    parser.add_argument("--first-crf", type=int, help="code the clip at this CRF before")
    parser.add_argument("--frames", type=int, help="only the first N frames of each clip")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = load_network(options.model)
    paths = sorted(path for path in options.clips.iterdir() if path.suffix in CLIP_SUFFIXES)
    clips = {path.stem: read_clip(path, 0, options.frames) for path in paths}
    rows: list[Row] = []
    if not options.json:
        print("| CRF | clip | before | after | gain | σ before | σ after | worst frame |")
        print("|---|---|---|---|---|---|---|---|")
    for crf in options.crf:
        for name, truth in clips.items():
            row = measure(network, name, truth, crf, options)
            rows.append(row)
            if options.json:
                print(json.dumps(asdict(row)), flush=True)
                continue
            print(
                f"| {crf} | {name} | {row.before:.2f} | {row.after:.2f} | {row.gain:+.3f} | "
                f"{row.deviation_before:.2f} | {row.deviation_after:.2f} | {row.worst_frame:+.2f} |",
                flush=True,
            )
    if options.json:
        return
    print("\n| CRF | mean gain | worst clip |\n|---|---|---|")
    for crf in options.crf:
        gains = [row.gain for row in rows if row.crf == crf]
        print(f"| {crf} | {np.mean(gains):+.3f} | {min(gains):+.3f} |")


if __name__ == "__main__":
    main()
