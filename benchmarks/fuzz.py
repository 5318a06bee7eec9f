"""Mutation fuzzing of the command line: damaged copies of clips and stills, each restored by a run of its own.

    python benchmarks/fuzz.py --seeds ../shared/data/videos --count 5000

Every run must end in time, without a signal, without a traceback, with an exit code that is true and with OUTPUT there
or not as the code says. Without --seeds the clips are generated. Inputs that break a promise are kept in --keep.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from torture.clips import make_clips, make_stills, mutated
from torture.workshop import Limits, Outcome, Workshop

PEAK_BYTES = 3 << 29
"""1.5 GiB: what no run over a small file may pass, imports included."""
STILLS = frozenset((".png", ".jpg", ".webp", ".tif", ".bmp"))


@dataclass(slots=True)
class Tally:
    """What a campaign saw."""

    files: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    """(file, what is wrong, the end of stderr)."""
    peak_memory: int = 0
    slowest: float = 0.0


def problems(outcome: Outcome, output: Path, counted: int | str | None, frames: int | None) -> list[str]:
    """Promises that one run broke. `counted`: frames of a plain decoding loop, "" where nobody counted."""
    out: list[str] = []
    if outcome.hung:
        return ["it hung"]
    if outcome.signal:
        return [f"signal {outcome.signal}"]
    if outcome.traceback:
        out.append("a traceback or an untranslated error")
    now_still = outcome.code == 2 and "is a still" in outcome.stderr  # an animation whose frame count was hit
    if outcome.code not in (0, 1, 3) and not now_still:
        out.append(f"exit code {outcome.code}")
    if outcome.code == 1 and len(outcome.error_lines) != 1:
        out.append(f"{len(outcome.error_lines)} error lines")
    if "Traceback" not in outcome.stderr and "failed-check" in outcome.stderr:
        out.append("the self-check failed")
    if output.exists() != (outcome.code in (0, 3)):
        out.append("OUTPUT and the exit code disagree")
    left = [p.name for p in output.parent.iterdir() if p != output]
    if left and not any(name.startswith(".ns-video-") and outcome.code == 1 for name in left):
        out.append(f"left behind: {left}")
    if outcome.peak_memory > PEAK_BYTES:
        out.append(f"{outcome.peak_memory >> 20} MiB of memory")
    if outcome.code == 0 and isinstance(counted, int) and frames is not None and frames < counted:
        out.append(f"{frames} of {counted} frames and exit code 0")
    return out


def campaign(seeds: list[Path], count: int, seed: int, keep: Path, *, nice: int, every: int, quiet: bool) -> Tally:
    """Run `count` damaged copies; every `every`-th is also decoded by a plain loop that counts its frames."""
    rng = random.Random(seed)
    contents = {path: path.read_bytes() for path in seeds}
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, Workshop(Path(name), nice=nice) as shop:
        folder = Path(name)
        for number in range(count):
            source = rng.choice(seeds)
            others = [contents[p] for p in seeds if p.suffix == source.suffix and p != source]
            damaged = folder / f"in-{number}{source.suffix}"
            damaged.write_bytes(mutated(contents[source], rng, others))
            place = folder / "out"
            place.mkdir()
            record = folder / "record.json"
            still = source.suffix in STILLS and source.name != "animated.webp"
            output = place / f"out{'.png' if still else rng.choice(('.mkv', '.mkv', '.mp4'))}"
            outcome = shop.restore(damaged, output, "--record", record, limits=Limits(processor_seconds=50))
            counted = shop.count(damaged) if not still and number % every == 0 else ""
            frames = json.loads(record.read_text())["frames_out"] if record.exists() else None
            wrong = problems(outcome, output, counted, frames)
            tally.files += 1
            tally.codes[f"signal {outcome.signal}" if outcome.signal else str(outcome.code)] += 1
            tally.peak_memory = max(tally.peak_memory, outcome.peak_memory)
            tally.slowest = max(tally.slowest, outcome.seconds)
            if wrong:
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{seed}-{number}-{source.name}"
                shutil.copyfile(damaged, kept)
                tally.broken.append((kept.name, "; ".join(wrong), outcome.stderr.strip()[-300:]))
                if not quiet:
                    print(
                        f"{kept.name} -> {output.suffix}: {tally.broken[-1][1]}\n    {tally.broken[-1][2]}", flush=True
                    )
            for path in (damaged, record):
                path.unlink(missing_ok=True)
            shutil.rmtree(place)
    return tally


def main() -> int:
    """Run a campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=Path, default=None, help="folder of clips; generated clips where it isn't given"
    )
    parser.add_argument("--largest", type=int, default=200_000, help="bytes; larger seeds are left out")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-kept"))
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--count-every", type=int, default=4, help="decode every n-th file with a plain loop too")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as name:
        if options.seeds is None:
            seeds = make_clips(Path(name)) + make_stills(Path(name))
        else:
            seeds = sorted(
                p
                for p in options.seeds.iterdir()
                if p.is_file() and 0 < p.stat().st_size <= options.largest and p.suffix != ".json"
            )
        tally = campaign(
            seeds, options.count, options.seed, options.keep, nice=options.nice, every=options.count_every, quiet=False
        )
    codes = ", ".join(f"{code}: {n}" for code, n in sorted(tally.codes.items()))
    print("| files | seeds | exit codes | promises broken | slowest | peak memory | seconds |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {tally.files} | {len(seeds)} | {codes} | {len(tally.broken)} | {tally.slowest:.1f} s"
        f" | {tally.peak_memory >> 20} MiB | {time.monotonic() - began:.0f} |"
    )
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
