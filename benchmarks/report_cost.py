"""What `--report` costs: runs with it, timed inside and outside.

    python benchmarks/report_cost.py CLIP [CLIP ...] [--preset video] [--model M]

Prints one row a clip: time of the run, of watching the frames go by, of scores, pictures and page, and their share.
"Share" is what the page itself states; the target is 5 % of the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import ns_video
import ns_video.score
from ns_video.score import Sampler


class TimedSampler(Sampler):
    """A sampler that remembers the last one made, to read its own time from."""

    last: TimedSampler | None = None

    def __init__(self) -> None:
        super().__init__()
        TimedSampler.last = self


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--model")
    options = parser.parse_args()
    ns_video.score.Sampler = TimedSampler  # pyright: ignore[reportAttributeAccessIssue]  the pipeline imports it late
    print("| clip | frames | run, s | watching, s | ms a frame | page, s | sampled | share |")
    print("|---|---|---|---|---|---|---|---|")
    for clip in options.clips:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            settings = {} if options.model is None else {"model": options.model}
            began = time.perf_counter()
            record = ns_video.restore(clip, Path(folder) / "out.mkv", preset=options.preset, report=page, **settings)
            whole = time.perf_counter() - began
            cost = json.loads(page.with_suffix(".json").read_text())["cost"]
            sampler = TimedSampler.last
            assert sampler is not None
            print(
                f"| {clip.name} | {record.frames_out} | {record.seconds:.1f} | {sampler.seconds:.2f} |"
                f" {1000 * sampler.seconds / max(1, sampler.frames):.2f} | {whole - record.seconds:.1f} |"
                f" {cost['frames_sampled']} | {100 * cost['share_of_run']:.1f} % |"
            )


if __name__ == "__main__":
    main()
