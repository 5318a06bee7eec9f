"""Ours beside what people use: the loop of Real-ESRGAN's video script, and the filters of the ffmpeg program.

    python benchmarks/peers.py loop CLIP --model video           # same network, same tile, side by side
    python benchmarks/peers.py filters REFERENCE --crf 33        # speed and PSNR-Y on a coded clip

`loop` is built from the description of Real-ESRGAN's script, not from its code: a decoder process writes BGR frames
into a pipe; each is read into numpy, made fp32 RGB in [0, 1], cut into padded tiles, run, clamped on the CPU, made
8-bit BGR and written into the pipe of an encoder process; one step after the other. Both sides run in turn, `--rounds`
times, and the ratio of the medians is printed. Idle OpenMP threads sleep on both sides. Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ns_video.conditioning import jpeg_planes, quantiser_planes
from ns_video.frame import JpegTables, QuantiserMap
from ns_video.weights import Descriptor, load_descriptor

QUIET = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
LOSSLESS = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0"]
FILTERS = {
    "deblock": "deblock=filter=strong:block=8",
    "hqdn3d": "hqdn3d",
    "nlmeans": "nlmeans=s=2.0:p=5:r=9",
    "bm3d": "bm3d=sigma=3",
    "fspp": "fspp",
    "uspp": "uspp=quality=2",
}
"""Filter → its graph, at strengths that fit compression damage; those not built into the program are left out."""


def picture_size(clip: Path) -> tuple[int, int, str]:
    """(width, height, rate) by ffprobe."""
    fields = ["-show_entries", "stream=width,height,r_frame_rate", "-of", "json"]
    text = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", *fields, str(clip)], check=True, capture_output=True
    ).stdout
    stream = json.loads(text)["streams"][0]
    return stream["width"], stream["height"], stream["r_frame_rate"]


def side_of(descriptor: Descriptor, height: int, width: int) -> Tensor | None:
    """Planes of a middling damage: the loop knows nothing of the file, but the network must run."""
    if descriptor.conditioning == "jpeg":
        return jpeg_planes(JpegTables(np.full((8, 8), 20, np.uint16), np.full((8, 8), 25, np.uint16), (2, 2)))
    if descriptor.conditioning == "quantiser":
        steps = QuantiserMap(np.full((1, 1), 12.0, np.float32), 4096)
        return quantiser_planes(steps, steps, steps, height, width)
    return None


def enhance_by_tiles(descriptor: Descriptor, picture: Tensor, tile: int, pad: int) -> Tensor:
    """(1, 3, H, W) → the same, tile by tile; each is padded by `pad` px of its surroundings, as that script does."""
    _, _, height, width = picture.shape
    out = torch.empty_like(picture)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y0, x0 = max(0, top - pad), max(0, left - pad)
            part = picture[..., y0 : min(bottom + pad, height), x0 : min(right + pad, width)]
            h, w = part.shape[-2:]
            step = descriptor.multiple_of
            padded = torch.nn.functional.pad(part, (0, -w % step, 0, -h % step), mode="reflect")
            seen = padded.repeat(1, descriptor.frames, 1, 1)
            side = side_of(descriptor, padded.shape[-2], padded.shape[-1])
            result = descriptor.network(seen) if side is None else descriptor.network(seen, side)
            out[..., top:bottom, left:right] = result[..., top - y0 : bottom - y0, left - x0 : right - x0]
    return out


def peer_loop(clip: Path, target: Path, descriptor: Descriptor, tile: int, pad: int, device: str) -> tuple[int, float]:
    """(frames, seconds) of the loop, without loading the network."""
    width, height, rate = picture_size(clip)
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24"]
    encode = [
        "-s",
        f"{width}x{height}",
        "-r",
        rate,
        "-i",
        "pipe:",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        str(target),
    ]
    began = time.perf_counter()
    reader = subprocess.Popen([*QUIET, "-i", str(clip), *raw, "pipe:"], stdout=subprocess.PIPE)
    writer = subprocess.Popen([*QUIET, *raw, *encode], stdin=subprocess.PIPE)
    assert reader.stdout is not None and writer.stdin is not None
    count = 0
    while len(data := reader.stdout.read(width * height * 3)) == width * height * 3:
        image = np.frombuffer(data, np.uint8).reshape(height, width, 3).astype(np.float32) / 255
        rgb = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)))[None].to(device)
        with torch.no_grad():
            restored = enhance_by_tiles(descriptor, rgb, tile, pad)
        result = restored[0].float().cpu().clamp_(0, 1).numpy()
        image = (result[::-1].transpose(1, 2, 0) * 255.0).round().astype(np.uint8)
        writer.stdin.write(image.tobytes())
        count += 1
    writer.stdin.close()
    reader.wait()
    writer.wait()
    return count, time.perf_counter() - began


def ours(clip: Path, target: Path, arguments: list[str]) -> tuple[int, float, str]:
    """(frames, seconds, precision) of `ns-video restore`, by its own record."""
    record = target.with_suffix(".json")
    command = [sys.executable, "-m", "ns_video", "-q", "restore", str(clip), str(target), "--overwrite"]
    outcome = subprocess.run([*command, "--record", str(record), *arguments])
    if outcome.returncode not in (0, 3):
        raise SystemExit(outcome.returncode)
    made = json.loads(record.read_text(encoding="utf-8"))
    return made["frames_out"], made["seconds"], made["precision"]


def run_loop(arguments: argparse.Namespace) -> None:
    """Same network and tile, in turn."""
    descriptor = load_descriptor(arguments.model)
    if descriptor.scale != 1:
        raise SystemExit("the loop here is for networks of scale 1")
    descriptor.network.to(arguments.device)
    pad = descriptor.halo
    rates: dict[str, list[float]] = {"peer": [], "ours": []}
    note = ""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            target = Path(folder) / "peer.mkv"
            count, seconds = peer_loop(arguments.clip, target, descriptor, arguments.tile, pad, arguments.device)
            rates["peer"].append(count / seconds)
            # The tile of `restore` counts its halo in, that script's doesn't.
            options = [
                "--model",
                arguments.model,
                "--tile",
                str(arguments.tile + 2 * pad),
                "--device",
                arguments.device,
            ]
            target = Path(folder) / "ours.mkv"
            count, seconds, note = ours(arguments.clip, target, [*options, "--crf", "23", "--every-frame"])
            rates["ours"].append(count / seconds)
            count, seconds, _ = ours(
                arguments.clip, target, ["--model", arguments.model, "--device", arguments.device, "--crf", "23"]
            )
            rates.setdefault("ours, automatic tile", []).append(count / seconds)
    peer = statistics.median(rates["peer"])
    print(f"{'way':22} {'fps':>7} {'ratio':>6}   {arguments.clip.name}, {arguments.model}, tile {arguments.tile}")
    for name, values in rates.items():
        middle = statistics.median(values)
        extra = f"   {note}" if name != "peer" else "   fp32"
        print(f"{name:22} {middle:7.2f} {middle / peer:6.2f}{extra}")


def psnr_y(clip: Path, reference: Path) -> float:
    """PSNR of the luma over the whole clip (mean squared error of all frames), by the ffmpeg program."""
    graph = ["-lavfi", "[0:v][1:v]psnr", "-f", "null", "-"]
    outcome = subprocess.run(
        ["ffmpeg", "-nostdin", "-i", str(clip), "-i", str(reference), *graph],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"PSNR y:([\d.]+|inf)", outcome.stderr)
    if found is None:
        raise SystemExit("the ffmpeg program gave no PSNR")
    return float(found[1])


def run_filters(arguments: argparse.Namespace) -> None:
    """The reference is coded by x264, decoded by each way and compared with what it was."""
    built = subprocess.run(["ffmpeg", "-v", "error", "-filters"], capture_output=True, text=True, check=True).stdout
    there = {line.split()[1] for line in built.splitlines() if len(line.split()) > 2}
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        limit = ["-t", str(arguments.seconds), "-an", "-sn", "-dn", "-map", "0:v:0"]
        source = room / "reference.mkv"
        subprocess.run(
            [*QUIET, "-i", str(arguments.clip), *limit, *LOSSLESS, "-pix_fmt", "yuv420p", str(source)], check=True
        )
        coded = room / "coded.mkv"
        subprocess.run(
            [*QUIET, "-i", str(source), "-c:v", "libx264", "-crf", str(arguments.crf), str(coded)], check=True
        )
        before = psnr_y(coded, source)
        print(f"{'way':22} {'fps':>8} {'PSNR-Y':>7} {'change':>7}   {arguments.clip.name}, x264 CRF {arguments.crf}")
        print(f"{'coded':22} {'':8} {before:7.2f}")
        frames = 0
        for model in arguments.model:
            target = room / "ours.mkv"
            lossless = ["--codec", "libx264", "--crf", "0", "--encoder-option", "preset=ultrafast"]
            frames, seconds, precision = ours(coded, target, ["--model", model, *lossless])
            after = psnr_y(target, source)
            name = f"ns-video {model} {precision}"
            print(f"{name:22} {frames / seconds:8.2f} {after:7.2f} {after - before:+7.2f}", flush=True)
        for name, graph in FILTERS.items():
            if name not in there:
                print(f"{name:22} not built in")
                continue
            target = room / "filtered.mkv"
            began = time.perf_counter()
            subprocess.run([*QUIET, "-i", str(coded), "-vf", graph, *LOSSLESS, str(target)], check=True)
            seconds = time.perf_counter() - began
            after = psnr_y(target, source)
            print(f"{name:22} {frames / seconds:8.2f} {after:7.2f} {after - before:+7.2f}", flush=True)


def main() -> None:
    """Prints one table."""
    if "OMP_WAIT_POLICY" not in os.environ:  # is read when torch loads: begin again with what ns-video sets for itself
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(required=True)
    loop = ways.add_parser("loop", help="the loop of Real-ESRGAN's video script")
    loop.add_argument("clip", type=Path)
    loop.add_argument("--model", default="video")
    loop.add_argument("--tile", type=int, default=256, help="side of a tile without its padding")
    loop.add_argument("--device", default="cpu")
    loop.add_argument("--rounds", type=int, default=3)
    loop.set_defaults(run=run_loop)
    filters = ways.add_parser("filters", help="filters of the ffmpeg program")
    filters.add_argument("clip", type=Path, help="a clip of good quality")
    filters.add_argument("--model", action="append", default=None)
    filters.add_argument("--crf", type=int, default=33)
    filters.add_argument("--seconds", type=float, default=4.0)
    filters.set_defaults(run=run_filters)
    arguments = parser.parse_args()
    if arguments.run is run_filters and arguments.model is None:
        arguments.model = ["video"]
    arguments.run(arguments)


if __name__ == "__main__":
    main()
