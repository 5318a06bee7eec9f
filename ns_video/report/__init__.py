"""The quality report: from a run or a clip to one HTML file and its JSON. Floor 4."""

from __future__ import annotations

from ns_video.report.run import write_run_report

__all__ = ["write_run_report"]
