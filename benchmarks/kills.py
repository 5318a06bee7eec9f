"""Kill runs at random instants and at every stage, resume them, compare with the undisturbed run.

    python benchmarks/kills.py --count 50

Compared are the decoded frames and their times, and every packet of every other stream with its time. With --overhead
the cost of segments and journal is measured: the same clip written in segments, and in one walk without them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from torture.clips import RECIPES, make_clip
from torture.kills import PLACES, Round, kill_and_resume, reference_run
from torture.workshop import Workshop


def kills(shop: Workshop, folder: Path, count: int, seed: int) -> list[Round]:
    """`count` rounds: three of five at random instants, the others at the places in turn; a few are killed twice."""
    rng = random.Random(seed)
    reference = reference_run(shop, folder)
    rounds: list[Round] = []
    for number in range(count):
        place = (
            None
            if number % 5 < 3
            else PLACES[number // 5 * 2 % len(PLACES) if number % 5 == 3 else (number // 5 * 2 + 1) % len(PLACES)]
        )
        target = folder / f"round-{number}"
        target.mkdir()
        done = kill_and_resume(shop, reference, target / "out.mkv", rng, place=place, times=3 if number % 7 == 6 else 1)
        rounds.append(done)
        if not done.same or done.problems:
            print(f"round {number} ({done.where}): {done}", flush=True)
    return rounds


def overhead(folder: Path, repeats: int, frames: int) -> tuple[float, float]:
    """Median processor seconds of a run (in segments, in one walk); the same clip, model and encoder."""
    import torch

    from ns_video import pipeline

    torch.set_num_threads(1)
    source = make_clip(folder / "clip.mkv", RECIPES["h264.mkv"], frames, size=(320, 180))
    options = pipeline.RestoreOptions(model="identity", overwrite=True, threads=1)

    def once(direct: bool) -> float:
        original = pipeline.restore_segmented
        if direct:
            pipeline.restore_segmented = pipeline.restore_direct
        try:
            began = time.process_time()
            for _ in pipeline.restore_steps(str(source), str(folder / "out.mkv"), options):
                continue
            return time.process_time() - began
        finally:
            pipeline.restore_segmented = original

    once(True)
    pairs = [(once(False), once(True)) for _ in range(repeats)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--overhead", action="store_true", help="measure the cost of segments and journal instead")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=720)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        if options.overhead:
            parts, whole = overhead(Path(name), options.repeats, options.frames)
            print("| frames | in segments | in one walk | overhead |")
            print("|---|---|---|---|")
            print(f"| {options.frames} | {parts:.2f} s | {whole:.2f} s | {(parts / whole - 1) * 100:+.1f} % |")
            return 0
        with Workshop(Path(name), nice=options.nice) as shop:
            rounds = kills(shop, Path(name), options.count, options.seed)
    print("| killed | rounds | kills | resumed the same | segments taken over (median) |")
    print("|---|---|---|---|---|")
    for where in sorted({r.where for r in rounds}):
        some = [r for r in rounds if r.where == where]
        kept = statistics.median(r.segments_kept for r in some)
        same = sum(r.same and not r.problems for r in some)
        print(f"| {where} | {len(some)} | {sum(r.kills for r in some)} | {same} | {kept:g} |")
    return 0 if all(r.same and not r.problems for r in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
