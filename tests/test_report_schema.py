"""docs/report.schema.json: each kind of report is as it says, down to the last key."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ffmpeg
from jsonschema import Draft202012Validator

from ns_video.pipeline import restore
from ns_video.report import build_clip, to_json

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text("utf-8"))


def closed(schema: Any) -> Any:
    """The schema, with no room for keys that it doesn't name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(part) for key, part in schema.items()}
    if "properties" in made and "type" in made:
        made.setdefault("additionalProperties", False)
    return made


def faults(report: dict[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(report, allow_nan=False))
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(closed(SCHEMA)).iter_errors(plain)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("schema")
    clip, reference = folder / "clip.mp4", folder / "reference.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=10:duration=0.6", "-c:v", "ffv1", reference)
    ffmpeg("-i", reference, "-f", "lavfi", "-i", "sine=duration=0.6", "-c:v", "libx264", "-crf", "40", clip)
    return clip, reference


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_reports_of_clips_comparisons_and_runs(clips: tuple[Path, Path], tmp_path: Path) -> None:
    clip, reference = clips
    assert faults(to_json(build_clip(clip).report)) == []
    compared = to_json(build_clip(clip, reference).report)
    assert compared["kind"] == "comparison" and faults(compared) == []
    restore(clip, tmp_path / "out.mkv", model="fast-video", report=tmp_path / "r.html", device="cpu")
    run = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert run["kind"] == "run" and run["run"]["model"]["name"] == "fast-video" and faults(run) == []


def test_reports_of_stills_and_of_damage(clips: tuple[Path, Path], tmp_path: Path) -> None:
    clip, _ = clips
    ffmpeg("-i", clip, "-frames:v", "1", "-update", "1", tmp_path / "still.jpg")
    assert faults(to_json(build_clip(tmp_path / "still.jpg").report)) == []
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "whole.mkv")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    cut = to_json(build_clip(tmp_path / "cut.mkv").report)
    assert cut["damage"] and faults(cut) == []


def test_what_is_wrong_is_found(clips: tuple[Path, Path]) -> None:
    report = to_json(build_clip(clips[0]).report)
    changes: list[tuple[str, Any]] = [("ns_iqa", 101.0), ("kind", "film"), ("frames", [{}]), ("run", {}), ("new", 1)]
    for key, value in changes:
        assert faults({**copy.deepcopy(report), key: value}), key
    del report["means"]
    assert faults(report) == ["$: 'means' is a required property"]
