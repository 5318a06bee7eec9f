"""Where reports, tables and records may be written: in place of nothing but their like. Floor 0."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ns_video.errors import OutputError, UsageError, printable

_REPORT = re.compile(
    rb'<!doctype html>.*( quality report|<title>ns-video \S+ \d+ reports)</title>|\{\s*"schema": "ns-video|'
    rb"index,pts_seconds,",
    re.DOTALL,
)
"""How a page, an index of pages, a page's JSON and a table of frames begin."""
_RECORD = re.compile(rb'\{\s*"version": "[^"]*",\s*"input": "')
"""How a run's record begins."""
_MARKED_BYTES = 4096
_KINDS = {".html": "HTML", ".htm": "HTML", ".json": "JSON", ".csv": "CSV"}


def check_kind(path: Path, kind: str) -> None:
    """Raises UsageError for the name of a report's page ("HTML") or table ("CSV") that is of another kind of file."""
    named = _KINDS.get(path.suffix.lower(), kind)
    if named == kind:
        return
    if kind == "HTML":
        what, remedy = "a report is a page of HTML", f"name it {path.stem}.html; {path.stem}.json is written beside it"
    else:
        what, remedy = "frames are written as CSV", f"name it {path.stem}.csv"
    raise UsageError(f"{printable(path)} is the name of {named}: {what}", remedy=printable(remedy))


def check_places(
    made: Sequence[Path], kept: Sequence[Path | str], *, record: Path | None = None, overwrite: bool = False
) -> None:
    """What a report is to be written into (and a run's record): each a file of its own, in a folder that takes it.

    Raises UsageError where two are the same, where one is of `kept`, the clips, or, without `overwrite`, would replace
    a file that is no report or, for the record, neither a record nor empty; OutputError where a file can't be written.
    """
    places = [*made] if record is None else [*made, record]
    for one, other in combinations(places, 2):
        if _same(one, other):
            both = "--record and the report" if other is record else "two files of the report"
            raise UsageError(f"{both} would both be {printable(other)}", remedy="give one of them another name")
    for path in places:
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(f"{printable(path)} can't be written there", stage="open")
        if any(_same(path, clip) for clip in kept):
            raise UsageError(f"{printable(path)} is the input or the output itself", remedy="give another name")
        what = "report" if path in made else "record"
        if path.is_file() and not overwrite and not (_is_report(path) if path in made else _is_record(path)):
            raise UsageError(
                f"{printable(path)} exists and is no {what}, and one goes there", remedy="--overwrite replaces it"
            )


def _same(one: Path, other: Path | str) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other) or one.samefile(other)
    except OSError:
        return False


def _is_report(path: Path) -> bool:
    """Whether a file is a report of an earlier run, which may be replaced."""
    return _REPORT.match(_head(path)) is not None


def _is_record(path: Path) -> bool:
    """Whether a file is a record of an earlier run, or empty as `mktemp` makes them: it may be replaced."""
    head = _head(path)
    return _RECORD.match(head) is not None or (not head and path.stat().st_size == 0)


def _head(path: Path) -> bytes:
    """How a file begins; nothing of one that can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MARKED_BYTES)
    except OSError:
        return b""
