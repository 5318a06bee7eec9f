"""Writing reports: HTML, JSON beside it, CSV and the index of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from ns_video.errors import InputError
from ns_video.journal import WrittenBeside, write_whole
from ns_video.record import Damage, RunRecord
from ns_video.report.build import Built, build_run
from ns_video.report.document import to_csv, to_json
from ns_video.report.html import Listed, render, render_index
from ns_video.score import Sampler


def json_path(html: Path) -> Path:
    """Where the JSON of a report lies: beside it, with the suffix .json."""
    return html.with_suffix(".json") if html.suffix.lower() != ".json" else html.with_name(html.name + ".json")


def json_text(built: Built) -> str:
    """The documented JSON of a report."""
    return json.dumps(to_json(built.report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(built: Built, html: Path) -> Path:
    """Write the page to `html` and its JSON beside it, both whole or neither; returns the JSON's path.

    Raises OutputError.
    """
    target = json_path(html)
    texts = [text.encode("utf-8", "backslashreplace") for text in (json_text(built), render(built))]
    with ExitStack() as undone:
        data = WrittenBeside(target, texts[0], stage="report")
        undone.callback(data.drop)
        page = WrittenBeside(html, texts[1], stage="report")
        undone.callback(page.drop)
        is_new = not target.exists()
        data.put_in_place()
        if is_new:
            undone.callback(target.unlink, missing_ok=True)
        page.put_in_place()
        undone.pop_all()
    return target


def write_run_report(
    record: RunRecord,
    sampler: Sampler,
    path: Path,
    *,
    source: Path | None = None,
    output: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Write the report of a finished run to `path` (HTML) and its JSON beside it; returns the JSON's path.

    `sampler` has observed every (input, output) frame pair of the run; `source` and `output` are `build_run`'s. Scoring
    happens here, on `device`, and takes no more than 5 % of `record.seconds` beyond the first few frames. Raises
    OutputError where a file can't be written.
    """
    return write_report(build_run(record, sampler, source=source, output=output, device=device), path)


def write_csv(built: Built, path: Path) -> None:
    """Write the frames of a report as CSV. Raises OutputError."""
    write_whole(path, to_csv(built.report).encode("utf-8"), stage="report")


def _listed(name: str, html: Path) -> Listed:
    """What the JSON beside a report says of it. Raises InputError."""
    try:
        data = cast(dict[str, Any], json.loads(json_path(html).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{json_path(html)} can't be read: {error}", stage="report") from error
    before, after, run = (data.get(side) or {} for side in ("before", "after", "run"))
    sentences = data.get("verdict") or [{"text": ""}]
    damaged = sum(Damage(place["pts_seconds"], place["what"]).is_of_input for place in data.get("damage") or ())
    return Listed(
        name,
        html,
        before.get("ns_iqa"),
        after.get("ns_iqa", data.get("ns_iqa")),
        verdict=str(sentences[0]["text"]),
        damaged_places=damaged,
        frames_passed_through=int(run.get("frames_passed_through") or 0),
    )


def write_index(index: Path, reports: Sequence[tuple[str, Path]]) -> None:
    """Write one page that lists reports, given as (name, HTML path), by what they say; links are relative to the page.

    Raises InputError for a report whose JSON is missing or damaged, OutputError.
    """
    listed = [_listed(name, html) for name, html in reports]
    page = render_index(listed, index.parent).encode("utf-8", "backslashreplace")
    write_whole(index, page, stage="report")
