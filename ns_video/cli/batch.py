"""ns-video batch."""

from __future__ import annotations

import dataclasses
import os
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ns_video.cli import complain, emit, in_words
from ns_video.cli.restore import interruptible, options_from, restore_options, run_one, summary
from ns_video.errors import InputError, Interrupted, NsVideoError, UsageError, printable
from ns_video.preset import load_preset

_STILL_FORMATS = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_CLIP_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".vob",
        ".flv",
        ".wmv",
        ".asf",
        ".mxf",
        ".3gp",
        ".ogv",
        ".gif",
        ".apng",
        ".nut",
        ".y4m",
        ".264",
        ".h264",
        ".265",
        ".h265",
        ".hevc",
        ".ivf",
    }
)
_STILL_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"])


def _target(source: Path, folder: Path, out: Path, still_format: str) -> Path:
    """Where a file goes: the same tree and name; a still gets the still format's suffix."""
    from ns_video.media.encode import format_for, refuse_as_file
    from ns_video.media.probe import still_format as sniffed

    relative = out / source.relative_to(folder)
    if sniffed(source) is not None:
        return relative.with_suffix(_STILL_FORMATS[still_format])
    try:
        refuse_as_file(format_for(relative.name))
    except UsageError:
        return relative.with_suffix(".mkv")
    return relative


def _targets(files: list[Path], folder: Path, out: Path, still_format: str) -> dict[Path, Path]:
    """Where each file goes. a.jpg and a.webp, which would both become a.png, become a.jpg.png and a.webp.png.

    A name does not depend on the order of the files, so what is finished is told by its own.
    """
    plain = {source: _target(source, folder, out, still_format) for source in files}
    shared = Counter(plain.values())
    targets: dict[Path, Path] = {s: t for s, t in plain.items() if shared[t] == 1}
    taken = set(targets.values())
    for source in files:
        if source not in targets:
            target = plain[source].with_name(f"{source.name}{plain[source].suffix}")
            while target in taken:
                target = target.with_name(f"{target.name}{target.suffix}")
            targets[source] = target
            taken.add(target)
    return targets


def _page(target: Path) -> Path:
    """Where the report of a file goes."""
    return target.with_name(target.name + ".html")


@click.command()
@click.argument("input_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@restore_options
@click.option("--still-format", type=click.Choice(sorted(_STILL_FORMATS)), default="png", show_default=True)
@click.option("--report", is_flag=True, help="A quality report beside each output, and an index page.")
@click.option("--json", "as_json", is_flag=True, help="A run record per file as NDJSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context, input_dir: Path, output_dir: Path, still_format: str, report: bool, as_json: bool, **values: Any
) -> int:
    """Restore every clip and still of INPUT_DIR into OUTPUT_DIR: same names and tree, finished files skipped."""
    quiet = bool(ctx.obj and ctx.obj["quiet"])
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder", stage="open")
    made = Path(os.path.realpath(output_dir))  # links that lead to themselves have no resolve()
    if made == Path(os.path.realpath(input_dir)):
        raise UsageError("INPUT_DIR and OUTPUT_DIR are the same folder")
    files = sorted(
        p
        for p in input_dir.rglob("*")
        if (p.is_file() or (p.is_symlink() and not p.exists()))  # a broken link fails, by its name
        and p.suffix.lower() in _CLIP_SUFFIXES | _STILL_SUFFIXES
        and made not in Path(os.path.realpath(p)).parents
        and not p.name.startswith(".ns-video-")
    )
    if not files:
        raise InputError(f"{input_dir} holds no clip and no still", stage="open")
    failed = skipped = 0
    options = options_from(values)
    load_preset(options.preset)  # one that isn't there fails no file, but the command
    targets = _targets(files, input_dir, output_dir, still_format)
    with interruptible() as cancel:
        for source in files:
            target = targets[source]
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists() and not options.overwrite:
                    skipped += 1
                    continue
                settings = dataclasses.replace(options, resume=True, report=_page(target) if report else None)
                record = run_one(str(source), str(target), settings, str(values["progress"]), quiet, cancel)
            except Interrupted:
                raise
            except Exception as error:  # whatever a file runs into, the next one may be sound
                failed += 1
                if as_json:
                    code = error.exit_code if isinstance(error, NsVideoError) else 1
                    emit({"input": printable(source), "error": in_words(error), "exit_code": code})
                complain(f"{source}: {in_words(error)}")
                if ctx.obj and ctx.obj["debug"]:
                    traceback.print_exc()
                continue
            if as_json:
                emit(record.to_json())
            elif not quiet:
                click.echo(summary(record), err=True)
    if report:
        from ns_video.report import json_path, write_index

        reports = [
            (str(target.relative_to(output_dir)), page)
            for target in targets.values()
            if target.is_file() and (page := _page(target)).is_file() and json_path(page).is_file()
        ]
        if reports:
            write_index(output_dir / "index.html", reports)
    if not quiet:
        click.echo(f"{len(files) - failed - skipped} restored, {skipped} were finished, {failed} failed", err=True)
    return 1 if failed else 0
