"""Identity over a folder of clips: every sample, time, copied packet and tag of the output against the input.

    python benchmarks/identity.py ../shared/data/videos [--container mkv] [--codec ffv1]

Prints one row a clip. A clip that can't be opened must fail with one clear line; it is shown as "refused".
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from ns_video.errors import NsVideoError
from ns_video.media.animation import open_animation
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.first_frame import first_frame_metadata

_SKIP = {".json"}


def facts(path: Path) -> tuple[list[str], list[Fraction], dict[str, object]]:
    """(hash of all planes per frame, presentation times, tags) of a clip."""
    digests: list[str] = []
    times: list[Fraction] = []
    tags: dict[str, object] = {}
    options = DecodeOptions(deinterlace="off")
    with open_animation(path, options) or open_clip(path, options) as reader:
        for frame in reader.frames():
            digest = hashlib.blake2b(digest_size=12)
            for plane in frame.planes:
                digest.update(plane.tobytes())
            digests.append(digest.hexdigest())
            assert frame.pts is not None
            times.append(frame.pts * frame.time_base)
            if not tags:
                matrix, hdr = first_frame_metadata(frame.carrier)
                sar = reader.info.video.sample_aspect_ratio or 1
                color = frame.color
                tags = {
                    "matrix": color.matrix,
                    "range": color.range,
                    "primaries": color.primaries,
                    "transfer": color.transfer,
                    "display": matrix[:6],  # Matroska holds turns and mirrors, no shifts
                    "hdr": hdr is not None,
                    "sar": round(float(sar), 3),
                }
    return digests, times, tags


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--container", default="mkv")
    parser.add_argument("--codec", default="ffv1")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    bad = 0
    for path in sorted(args.folder.iterdir()):
        if path.suffix in _SKIP or args.only not in path.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / f"out.{args.container}"
            command = [sys.executable, "-m", "ns_video", "restore", "--model", "identity", "--codec", args.codec]
            command += [*args.option, str(path), str(out)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
            lines = done.stderr.strip().splitlines()
            if not out.exists():
                bad += "Traceback" in done.stderr or len(lines) != 1
                print(f"{path.name:40} refused {done.returncode}  {lines[-1][:150] if lines else ''}", flush=True)
                continue
            try:
                before, after = facts(path), facts(out)
            except NsVideoError as error:
                print(f"{path.name:40} {error}")
                bad += 1
                continue
            found: list[str] = []
            if len(before[0]) != len(after[0]):
                found.append(f"{len(before[0])} frames became {len(after[0])}")
            differ = sum(a != b for a, b in zip(before[0], after[0]))
            if differ:
                found.append(f"{differ} frames differ in samples")
            shift = after[1][0] - before[1][0] if after[1] and before[1] else 0
            off = max((abs(b - a - shift) for a, b in zip(before[1], after[1])), default=0)
            if off > Fraction(1, 1000):
                found.append(f"times off by up to {float(off) * 1000:.2f} ms")
            if shift:
                found.append(f"(all times moved by {float(shift) * 1000:.1f} ms)")
            if before[2] != after[2]:
                found += [f"{k}: {v} -> {after[2][k]}" for k, v in before[2].items() if after[2][k] != v]
            bad += any(not text.startswith("(") for text in found)
            print(
                f"{path.name:40} exit {done.returncode} {len(after[0])} frames  {'; '.join(found) or 'identical'}",
                end="",
            )
            print(f"   {' | '.join(lines[1:])[:200]}", flush=True)
    print(f"{bad} clips differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
