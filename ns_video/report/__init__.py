"""The quality report: from a run or a clip to one HTML file and its JSON. Floor 4."""

from __future__ import annotations

from ns_video.report.build import Built, build_clip, build_run
from ns_video.report.document import to_json
from ns_video.report.write import (
    json_path,
    json_text,
    write_csv,
    write_index,
    write_report,
    write_run_report,
)

__all__ = [
    "Built",
    "build_clip",
    "build_run",
    "json_path",
    "json_text",
    "to_json",
    "write_csv",
    "write_index",
    "write_report",
    "write_run_report",
]
