"""How cost grows: with the picture's size, the clip's length and the tile. Prints tables.

    python benchmarks/scaling.py --model video                    # sizes, lengths, tiles
    python benchmarks/scaling.py --model video --sizes 640x480,1920x1080 --lengths 50,500

Every figure is taken in a process of its own, so that peak memory is that of the run alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ns_video.enhance import EnhanceOptions, Enhancer
from ns_video.machine import peak_memory
from ns_video.media.bench_clip import make_clip
from ns_video.tile import halo_cost, padded_size
from ns_video.weights import load_descriptor

MIB = 1 << 20


def run_json(arguments: list[str]) -> Any:
    """The JSON that an ns-video command prints."""
    command = [sys.executable, "-m", "ns_video", "-q", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def by_size(model: str, sizes: list[tuple[int, int]], seconds: float) -> None:
    """Stages alone and together for each size."""
    print(f"{'size':>10} {'MP':>6} {'decode':>8} {'enhance':>8} {'encode':>8} {'whole':>8}", end="")
    print(f" {'CPU s/MP':>9} {'first':>7} {'peak':>9}   tile")
    for width, height in sizes:
        options = ["--size", f"{width}x{height}", "--seconds", str(seconds)]
        result = run_json(["bench", "--model", model, *options, "--json"])
        row, whole = result["enhance"][0], result["whole"][0]
        pixels = width * height / 1e6
        speeds = [result["decode"], row["speed"], result["encode"], whole["speed"]]
        print(f"{width:>5}x{height:<4} {pixels:6.2f} " + " ".join(f"{speed['fps']:8.2f}" for speed in speeds), end="")
        per_pixel = whole["speed"]["cpu_ms_per_frame"] / 1000 / pixels
        first, peak = whole["seconds_to_first_frame"], result["peak_memory_bytes"] / MIB
        print(f" {per_pixel:9.3f} {first:6.2f}s {peak:6.0f}MiB   {row['tile'] or 'whole'}", flush=True)


def by_length(model: str, lengths: list[int]) -> None:
    """Rate and peak memory of `restore` for clips of different length."""
    print(f"{'frames':>8} {'fps':>8} {'peak':>9}   restore, 320x240")
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            clip, target, record = (Path(folder) / name for name in ("in.mkv", "out.mkv", "record.json"))
            make_clip(clip, 320, 240, length)
            command = [sys.executable, "-m", "ns_video", "-q", "restore", str(clip), str(target), "--overwrite"]
            subprocess.run([*command, "--model", model, "--record", str(record)], check=True)
            made = json.loads(record.read_text(encoding="utf-8"))
            print(f"{length:8} {made['fps']:8.2f} {made['peak_memory_bytes'] / MIB:6.0f}MiB", flush=True)


def by_tile(model: str) -> None:
    """What halos cost, by size of picture and tile; no network is run."""
    descriptor = load_descriptor(model)
    sizes = [(640, 480), (1280, 720), (1920, 1080), (3840, 2160), (7680, 4320)]
    print(f"halo {descriptor.halo} px; pixels computed over pixels kept, less one")
    print(f"{'tile':>8} " + " ".join(f"{width}x{height}".rjust(10) for width, height in sizes))
    for tile in (128, 256, 384, 512, 1024, None):
        enhancer = Enhancer(descriptor, EnhanceOptions(device="cpu", precision="fp32", tile=tile))
        costs: list[float] = []
        for width, height in sizes:
            costs.append(halo_cost(enhancer.tiles(*padded_size(height, width, descriptor.multiple_of))))
        print(f"{tile or 'auto':>8} " + " ".join(f"{cost:10.1%}" for cost in costs))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="video")
    parser.add_argument("--sizes", default="640x480,1280x720,1920x1080,3840x2160")
    parser.add_argument("--lengths", default="50,500")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    sizes = [tuple(int(part) for part in size.split("x")) for size in arguments.sizes.split(",") if size]
    print(f"importing alone takes {peak_memory() / MIB:.0f} MiB")
    by_tile(arguments.model)
    by_size(arguments.model, [(size[0], size[1]) for size in sizes], arguments.seconds)
    by_length(arguments.model, [int(length) for length in arguments.lengths.split(",") if length])


if __name__ == "__main__":
    main()
