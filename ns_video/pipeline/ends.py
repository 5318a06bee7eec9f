"""Where a run begins and ends: what its INPUT and OUTPUT are, and what is refused before anything is decoded."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from ns_video.errors import OutputError, UsageError
from ns_video.journal import Journal, work_folder
from ns_video.media.containers import format_for, of_muxer, refuse_as_file
from ns_video.media.libav import printable
from ns_video.media.probe import still_format
from ns_video.media.still_writer import still_kind
from ns_video.pipeline.options import OF_CLIPS, RestoreOptions
from ns_video.places import check_kind, check_places

__all__ = [
    "between_stills",
    "check_beside",
    "check_ends",
    "goes_direct",
    "idle_options",
    "is_special",
    "may_replace",
    "meant_for",
]


def is_special(path: Path) -> bool:
    """A device or named pipe: written as it is, nothing to rename."""
    return path.exists() and not path.is_file() and not path.is_dir()


def between_stills(source: str, target: str, options: RestoreOptions) -> bool:
    """Whether INPUT and OUTPUT are pictures. Raises UsageError where only INPUT is one, and for the other's options."""
    kind = _still(source, options)
    if kind is None:
        if options.still_quality is not None:
            raise UsageError(f"{printable(source)} is no still", remedy="--crf sets the quality of a clip")
        return False
    if options.format is not None and still_kind(target, options.format) is None:
        raise UsageError(
            f"{printable(source)} is a still ({kind}); --format {printable(options.format)} is of clips",
            remedy="use png, jpeg, webp, tiff or bmp",
        )
    if target == "-" or still_kind(target, options.format) is None:
        raise UsageError(
            f"{printable(source)} is a still ({kind}); {'a pipe' if target == '-' else printable(target)} isn't",
            remedy="give OUTPUT a picture's suffix: .png, .jpg, .webp, .tif or .bmp",
        )
    if given := [name for name in OF_CLIPS if getattr(options, name) not in (None, {})]:
        named = ", ".join(f"--{name.removesuffix('s').replace('_', '-')}" for name in given)
        remedy = "--still-quality sets a still's" if "crf" in given else None
        raise UsageError(f"{printable(source)} is a still ({kind}): {named} can't be used", remedy=remedy)
    return True


def meant_for(source: str, options: RestoreOptions) -> RestoreOptions:
    """The options of a whole folder that concern one file: a still leaves those of clips, a clip those of stills."""
    others = (*OF_CLIPS, "format") if _still(source, options) else ("still_quality",)
    plain = RestoreOptions()
    return replace(options, **{name: getattr(plain, name) for name in others})


def _still(source: str, options: RestoreOptions) -> str | None:
    return None if source == "-" or options.input_format else still_format(Path(source))


def goes_direct(source: str, target: str, options: RestoreOptions, *, is_still: bool) -> bool:
    """Whether the run is one walk: from or to a pipe or device, or into what segments can't hold."""
    if source == "-" or target == "-" or is_special(Path(target)) or not Path(source).is_file():
        return True
    return not is_still and not of_muxer(format_for(target, options.format)).in_segments


def check_ends(source: str, target: str, options: RestoreOptions, *, is_still: bool) -> None:
    """What can be refused is refused before anything is decoded or loaded."""
    path = Path(target)
    if _one_file(source, target):
        raise UsageError("INPUT and OUTPUT are the same file", remedy="choose another name for OUTPUT")
    if target == "-" or is_special(path):
        return
    if path.is_dir():
        raise OutputError(f"{printable(path)} is a folder", stage="open", remedy="name a file, or use `ns-video batch`")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{printable(folder)}: no such folder", stage="open")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{printable(folder)}: no permission to write there", stage="open")
    if path.exists() and not may_replace(path, options):
        raise UsageError(f"{printable(path)} exists", remedy="--overwrite replaces it")
    if not is_still:
        _refuse_picture(source, target, options)
        container_format = format_for(target, options.format)
        if options.verify != "none":
            refuse_as_file(container_format)


def idle_options(source: str, target: str, options: RestoreOptions, *, is_still: bool) -> list[str]:
    """Notes on what was asked for and does nothing here, or other than OUTPUT's name says."""
    notes: list[str] = []
    if options.fit != "contain" and options.size is None:
        notes.append(f"--fit {options.fit} does nothing without --size")
    if options.resume and "-" in (source, target):
        notes.append("--resume does nothing here: a run through a pipe begins anew")
    named, asked = _named_kind(target, None, is_still=is_still), _named_kind(target, options.format, is_still=is_still)
    if options.format is not None and None not in (named, asked) and named != asked:
        notes.append(f"{printable(Path(target).name)} holds {asked}, as --format says, which its name doesn't")
    return notes


def _named_kind(target: str, name: str | None, *, is_still: bool) -> str | None:
    """The format of OUTPUT as its name, or --format, tells it; None for pipes and names that tell none."""
    if target == "-" or is_special(Path(target)):
        return None
    if is_still:
        return still_kind(target, name)
    try:
        container = of_muxer(format_for(target, name))
    except UsageError:
        return None
    return "QuickTime" if container.is_mov else container.name


def may_replace(output: Path, options: RestoreOptions) -> bool:
    """Whether a file at OUTPUT may be replaced: the user gave leave, now or to the unfinished run."""
    return options.overwrite or (options.resume and Journal(work_folder(output)).may_replace(output))


def _refuse_picture(source: str, target: str, options: RestoreOptions) -> None:
    """Raises UsageError for a clip that is to become a picture; PNG and WebP hold animations."""
    is_there = source == "-" or Path(source).exists()
    if not is_there or still_kind(target, options.format) in (None, "PNG", "WEBP"):
        return
    shown = "standard input" if source == "-" else printable(source)
    picture = printable(target) if options.format is None else f"--format {printable(options.format)}"
    raise UsageError(
        f"{shown} is a clip; {picture} holds one picture",
        remedy="give OUTPUT a clip's suffix such as .mkv or .mp4; .gif, .apng and .webp hold animations",
    )


def _one_file(source: str, target: str) -> bool:
    """Whether INPUT and OUTPUT are one file, by its name or as a standard stream."""
    try:
        one, other = (os.fstat(n) if name == "-" else Path(name).stat() for n, name in enumerate((source, target)))
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(one.st_mode) and os.path.samestat(one, other)


def check_beside(source: str, target: str, options: RestoreOptions) -> None:
    """Report, its JSON and record: in a folder that takes them, each a file of its own."""
    report, record = options.report, options.record
    made: list[Path] = []
    if report is not None:
        from ns_video.report import json_path

        check_kind(report, "HTML")
        made = [report, json_path(report)]
    ends = [place for place in (_place_of(source, 0), _place_of(target, 1)) if place is not None]
    check_places(made, ends, record=record, overwrite=options.overwrite)


def _place_of(name: str, number: int) -> str | None:
    """The path of INPUT or OUTPUT; of a standard stream, which has this `number`, only where it is a file."""
    if name != "-":
        return name
    stream = f"/dev/fd/{number}"
    return stream if os.path.isfile(stream) else None  # noqa: PTH113 - it never raises
