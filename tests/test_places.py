"""Where reports and records may be written: what they must not replace, however it is spelled."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
from pathlib import Path

import pytest
from conftest import Command

from ns_video.errors import OutputError, UsageError
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


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("place", ["a.html", "a.json"])
def test_no_half_of_a_report_is_left(
    place: str, is_new: bool, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk is full while its second file is written, or a name is taken in the end."""
    built, page = build_clip(plain_clip), tmp_path / "a.html"
    before = {}
    if not is_new:
        write_report(built, page)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fsync, calls = os.fsync, itertools.count()

    def full(handle: int) -> None:
        if next(calls) == (place == "a.html"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match=f"{place}: No space left"):
        patch.setattr("os.fsync", full)
        write_report(built, page)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if is_new:
        (tmp_path / place).mkdir()
        with pytest.raises(OutputError, match=place):
            write_report(built, page)
        assert [path.name for path in tmp_path.iterdir()] == [place]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("-o", "a.json"), r"a.json is the name of JSON: a report .* \(name it a.html; a.json is written beside it\)"),
        (("-o", "a.CSV"), r"a.CSV is the name of CSV: a report is a page of HTML \(name it a.html; "),
        (("--csv", "a.html"), r"a.html is the name of HTML: frames are written as CSV \(name it a.csv\)"),
        (("-o", "a.html", "--csv", "a.json"), "a.json is the name of JSON: frames"),
    ],
)
def test_a_report_of_another_kinds_name_is_refused(
    options: tuple[str, ...], remedy: str, ns_video: Command, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plain_clip.parent)
    before = sorted(plain_clip.parent.iterdir())
    done = ns_video("report", plain_clip, *options)
    assert done.code == 2 and re.search(remedy, done.err), done.err
    if options[0] == "-o" and len(options) == 2:
        with pytest.raises(UsageError, match=remedy):
            restore(plain_clip, "out.mkv", model="identity", report=options[1])
    assert sorted(plain_clip.parent.iterdir()) == before


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
