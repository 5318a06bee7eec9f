"""Where reports and records may be written: what they must not replace, however it is spelled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ns_video.errors import UsageError
from ns_video.pipeline import restore
from ns_video.places import check_places
from ns_video.report import build_clip, json_path, write_csv, write_report


@pytest.mark.parametrize("spelling", ["sub/../out.mkv", "./out.mkv", "linked/out.mkv", "link.json"])
def test_no_spelling_of_the_output_is_another_place(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output isn't there yet: only names can be compared."""
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("linked").symlink_to(".")
    Path("link.json").symlink_to("out.mkv")
    for output in ("out.mkv", tmp_path / "out.mkv"):
        with pytest.raises(UsageError, match="the input or the output itself"):
            check_places([], [output], record=Path(spelling))
        with pytest.raises(UsageError, match="would both be"):
            check_places([Path("out.mkv")], [], record=Path(spelling))
    check_places([Path("sub/out.mkv")], ["out.mkv"], record=Path("sub/out.json"))


def test_a_link_to_itself_is_no_clash(tmp_path: Path) -> None:
    (tmp_path / "loop.json").symlink_to("loop.json")
    check_places([], [tmp_path / "out.mkv"], record=tmp_path / "loop.json")


@pytest.mark.parametrize(
    "text", ['{"notes": {"pts_seconds": 1}}', "frame,pts_seconds\n", "<p>My quality report</title>", "", "{}"]
)
def test_what_only_mentions_a_reports_words_is_no_report(text: str, tmp_path: Path) -> None:
    mine = tmp_path / "notes.json"
    mine.write_text(text)
    with pytest.raises(UsageError, match="is no report"):
        check_places([mine], [])
    check_places([mine], [], overwrite=True)


def test_reports_of_earlier_runs_may_be_replaced(plain_clip: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "a.html", tmp_path / "a.csv"
    built = build_clip(plain_clip)
    write_report(built, page)
    write_csv(built, table)
    check_places([page, json_path(page), table], [plain_clip])


def test_a_record_replaces_only_records(plain_clip: Path, tmp_path: Path) -> None:
    record, taken = tmp_path / "run.json", tmp_path / "film.json"
    for _ in range(2):
        restore(plain_clip, tmp_path / "out.mkv", model="identity", overwrite=True, record=record)
        check_places([], [], record=record)
    record.write_text(json.dumps(json.loads(record.read_text())))  # as --json prints it
    check_places([], [], record=record)
    record.write_bytes(b"")  # as mktemp makes it
    check_places([], [], record=record)
    check_places([], [], record=Path(os.devnull))
    for data in (plain_clip.read_bytes(), b"{}", b'{"version": 1, "input": "a"}'):
        taken.write_bytes(data)
        with pytest.raises(UsageError, match="exists and is no record"):
            restore(plain_clip, tmp_path / "new.mkv", model="identity", record=taken)
        assert taken.read_bytes() == data and not (tmp_path / "new.mkv").exists()
    check_places([], [], record=taken, overwrite=True)
