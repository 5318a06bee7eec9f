"""ns-video report."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from ns_video.cli.local_file import LocalFile, NamedPath


@click.command()
@click.argument("clip", type=LocalFile())
@click.option("--reference", type=LocalFile(), metavar="REF", help="The undamaged clip or still.")
@click.option(
    "-o",
    "--output",
    type=NamedPath(),
    metavar="REPORT.html",
    help="Where the page goes; REPORT.json beside it.",
)
@click.option("--csv", "csv_path", type=NamedPath(), metavar="FRAMES.csv", help="Frames as CSV.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace files that are no reports.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object on stdout.")
@click.option(
    "--fail-below",
    type=click.FloatRange(0, 100),
    metavar="S",
    help="Exit 1 when the mean ns-iqa of the clip is below S (0-100).",
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=None, help="Largest picture that is opened.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda, cuda:N or mps.")
@click.pass_context
def command(
    ctx: click.Context,
    clip: Path,
    reference: Path | None,
    output: Path | None,
    csv_path: Path | None,
    overwrite: bool,
    as_json: bool,
    fail_below: float | None,
    max_pixels: int | None,
    device: str,
) -> int:
    """Quality report of CLIP (a clip or a still), alone or against a reference.

    Exit 1 where the score is too low or nothing was compared, 3 where CLIP is damaged; all is written in any case.
    """
    from ns_video.cli import emit, say
    from ns_video.errors import UsageError
    from ns_video.media.decode import MAX_PIXELS
    from ns_video.places import check_kind, check_places
    from ns_video.report import build_clip, json_path, to_json, write_csv, write_report

    if output is None and csv_path is None and not as_json and fail_below is None:
        raise UsageError("nothing to write", remedy="give -o REPORT.html, --csv FRAMES.csv, --json or --fail-below N")
    if "-" in (str(output), str(csv_path)):
        raise UsageError("reports are written into files, not a pipe", remedy="--json prints the report")
    if fail_below is not None and math.isnan(fail_below):  # which lies in every FloatRange
        raise UsageError("--fail-below nan is no number")
    if output is not None:
        check_kind(output, "HTML")
    if csv_path is not None:
        check_kind(csv_path, "CSV")
    made = [*([] if output is None else [output, json_path(output)]), *([] if csv_path is None else [csv_path])]
    check_places(made, [clip for clip in (clip, reference) if clip is not None], overwrite=overwrite)
    settings: dict[str, Any] = ctx.obj or {}
    built = build_clip(clip, reference, device=_device(device), max_pixels=max_pixels or MAX_PIXELS)
    if output is not None:
        write_report(built, output)
    if csv_path is not None:
        write_csv(built, csv_path)
    if as_json:
        emit(to_json(built.report))
    elif not settings.get("quiet"):
        for sentence in built.report.verdict:
            say(sentence.text)
    score = built.report.mean()
    if fail_below is not None and (score is None or score < fail_below):
        say("ns-iqa is unknown" if score is None else shortfall(score, fail_below))
        return 1
    alignment = built.report.alignment
    if alignment is not None and not alignment.compared:
        return 1
    return 3 if any(place.is_of_input for place in built.report.damage) else 0


def shortfall(score: float, least: float) -> str:
    """A score that is below `least` in words, with as many digits as show it."""
    shown = f"{Decimal(repr(least)).normalize():f}"
    digits = max(1, len(shown.partition(".")[2]))
    while float(f"{score:.{digits}f}") >= least:
        digits += 1
    return f"ns-iqa {score:.{digits}f} is below {shown}"


def _device(name: str) -> str:
    """The torch name of a device. Raises DeviceError where this machine lacks it."""
    from ns_video.device import pick_device

    return str(pick_device(name))
