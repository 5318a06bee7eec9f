"""ns-video batch."""

from __future__ import annotations

import dataclasses
import os
import traceback
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ns_video.cli import complain, emit, hint, in_words, say
from ns_video.cli.finished import Finished, Source, State
from ns_video.cli.local_file import NamedPath
from ns_video.cli.restore import interruptible, options_from, restore_options, run_one, tell, tell_blemishes
from ns_video.errors import (
    InputError,
    Interrupted,
    ModelError,
    NsVideoError,
    OutputBusyError,
    OutputError,
    ResumeError,
    UsageError,
    first_of,
    printable,
)
from ns_video.journal import Journal, source_fingerprint, work_folder
from ns_video.media.clip_files import CLIP_SUFFIXES
from ns_video.places import check_places
from ns_video.preset import load_preset

if TYPE_CHECKING:
    from ns_video.pipeline import RestoreOptions
    from ns_video.record import RunRecord

_STILL_FORMATS = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_STILL_SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"])
_SUFFIXES = _STILL_SUFFIXES.union(CLIP_SUFFIXES)
_OURS = ".ns-video-"  # how the names of what a run works with begin
_MOST_NAMES = 10  # of what is left out
_MOST_TRIED = 4  # names at which the output of a file is looked for
_AGAIN = "run batch again"  # which always resumes


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies below a folder."""

    files: list[Path] = field(default_factory=list)
    """Clips and stills, sorted: by their suffix, where they have a usual one, else by their content."""
    others: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    """Linked folders, which are not followed."""
    unread: list[OSError] = field(default_factory=list)
    """Of folders that can't be read."""


def _check_names(options: RestoreOptions) -> None:
    """Raises UsageError for names that nothing has: these fail no file, but the command."""
    from ns_video.media.containers import format_for
    from ns_video.media.encoder_choice import video_encoder
    from ns_video.media.libav import check_demuxer

    load_preset(options.preset)
    if options.codec:
        video_encoder(options.codec)
    if options.format:
        format_for("", options.format)
    if options.input_format is not None:
        check_demuxer(options.input_format)


def _find(folder: Path, made: Path | None, options: RestoreOptions) -> _Found:
    """What is to be restored below a folder, and what is not; nothing of `made`, a resolved folder in it."""
    from ns_video.media.probe import holds_pictures

    found = _Found()
    for root, folders, names in os.walk(folder, onerror=found.unread.append):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(_OURS) and made != Path(os.path.realpath(here / name))
        )
        found.links.extend(here / name for name in folders if (here / name).is_symlink())
        for path in sorted(here / name for name in names if not name.startswith(_OURS)):
            if made is not None and made in Path(os.path.realpath(path)).parents:
                continue
            is_file = os.path.isfile(path)  # noqa: PTH113 - it never raises
            if path.suffix.lower() in _SUFFIXES:
                is_wanted = is_file or not os.path.exists(path)  # noqa: PTH110 - a broken link fails, by its name
            else:
                is_wanted = is_file and holds_pictures(path, options.input_format, options.input_options)
            (found.files if is_wanted else found.others).append(path)
    found.files.sort()
    return found


def _named(paths: Sequence[Path], folder: Path) -> str:
    """The first of some paths, relative to a folder, and how many more there are."""
    return first_of([printable(path.relative_to(folder)) for path in paths], _MOST_NAMES)


def _target(source: Path, folder: Path, out: Path, still_format: str) -> Path:
    """Where a file goes: the same tree and name; a still gets the still format's suffix, an unusual clip .mkv."""
    from ns_video.media.containers import format_for, refuse_as_file
    from ns_video.media.probe import still_format as sniffed

    relative = out / source.relative_to(folder)
    if sniffed(source) is not None:
        return relative.with_suffix(_STILL_FORMATS[still_format])
    if source.suffix.lower() not in _SUFFIXES:
        return relative.with_suffix(".mkv")
    try:
        refuse_as_file(format_for(relative.name))
    except UsageError:
        return relative.with_suffix(".mkv")
    return relative


def _names(source: Path, plain: Path) -> Generator[Path]:
    """Where a file may go, best first: a.png, then a.jpg.png, a.jpg.png.png and so on."""
    yield plain
    target = plain.with_name(f"{source.name}{plain.suffix}")
    while True:
        yield target
        target = target.with_name(f"{target.name}{target.suffix}")


def _targets(files: list[Path], folder: Path, out: Path, still_format: str, finished: Finished) -> dict[Path, Path]:
    """Where each file goes. a.jpg and a.webp, which would both become a.png, become a.jpg.png and a.webp.png.

    What is finished keeps its name, and what was made of another file its own; else a name depends on the names of the
    files alone, not on their order.
    """
    plain = {source: _target(source, folder, out, still_format) for source in files}
    shared = Counter(plain.values())
    targets: dict[Path, Path] = {}
    for source in files:
        name = source.relative_to(folder).as_posix()
        for target in islice(_names(source, plain[source]), _MOST_TRIED):
            if finished.owner(target) == name:
                targets[source] = target
                break
    taken = set(targets.values())

    def is_free(target: Path) -> bool:
        return target not in taken and finished.owner(target) is None

    named = [source for source in files if source not in targets]
    targets |= {s: plain[s] for s in named if shared[plain[s]] == 1 and is_free(plain[s])}
    taken |= set(targets.values())
    for source in files:
        if source not in targets:
            targets[source] = next(filter(is_free, islice(_names(source, plain[source]), 1, None)))
            taken.add(targets[source])
    return targets


def _check_finished(target: Path) -> None:
    """Raises OutputError for what no run has made: it can't be opened as a clip or still."""
    from ns_video.media.probe import holds_pictures, still_format

    if still_format(target) is None and not (target.is_file() and holds_pictures(target)):
        remedy = "--overwrite replaces it" if target.is_file() else None
        raise OutputError(f"{printable(target)} is there, but no clip and no still", remedy=remedy)


def _is_dropped(source: Path, target: Path) -> bool:
    """Whether unfinished work was of the input as it was, and not of what it is: then it is removed."""
    journal = Journal(work_folder(target))
    if journal.noted("input") == source_fingerprint(source):
        return False
    journal.acquire()
    journal.drop()
    return True


def _page(target: Path) -> Path:
    """Where the report of a file goes."""
    return target.with_name(target.name + ".html")


def _report_of(target: Path) -> list[Path]:
    """The files of that report."""
    from ns_video.report import json_path

    return [_page(target), json_path(_page(target))]


def _is_reported(target: Path) -> bool:
    """Whether a file's report is there."""
    return all(path.is_file() for path in _report_of(target))


def _shown(value: Any) -> str:
    """An option's value in words."""
    return "unset" if value is None else printable(str(value))


def _record_of(target: Path) -> Path:
    """Where the run record of a file goes."""
    return target.with_name(target.name + ".record.json")


@click.command()
@click.argument("input_dir", type=NamedPath())
@click.argument("output_dir", type=NamedPath())
@restore_options
@click.option("--still-format", type=click.Choice(sorted(_STILL_FORMATS)), default="png", show_default=True)
@click.option("--report", is_flag=True, help="A quality report beside each output, and an index page.")
@click.option("--record", is_flag=True, help="A run record beside each output, NAME.record.json.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A row per file as NDJSON on stdout: its run record, or its state where it has none.",
)
@click.pass_context
def command(
    ctx: click.Context,
    input_dir: Path,
    output_dir: Path,
    still_format: str,
    report: bool,
    record: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Restore every clip and still of INPUT_DIR into OUTPUT_DIR: same names and tree, finished files skipped.

    A file is restored again once its name, size or time isn't that of what its output was made of. An output that
    nobody noted, or that was changed since, stays as it is, and is named where its input is newer or another.

    A finished file is left whatever options are given now; where those that made it were others, that is said.

    Exit 1 if any failed, else 3 if parts of any were damaged or not restored.
    """
    quiet = bool(ctx.obj and ctx.obj["quiet"])
    rows = values["progress"] == "json"
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder", stage="open")
    origin, made = (Path(os.path.realpath(folder)) for folder in (input_dir, output_dir))  # resolve() may raise
    if made == origin:
        raise UsageError("INPUT_DIR and OUTPUT_DIR are the same folder")
    is_inside = origin in made.parents
    from ns_video.pipeline.ends import meant_for

    options = options_from(values)
    _check_names(options)
    found = _find(input_dir, made if is_inside else None, options)
    files = found.files
    if not quiet and found.others:
        hint(f"left out, no clip and no still: {_named(found.others, input_dir)}", as_json=rows)
    if not quiet and found.links:
        hint(f"left out, linked folders are not followed: {_named(found.links, input_dir)}", as_json=rows)
    if not files and not found.unread:
        raise InputError(f"{input_dir} holds no clip and no still", stage="open")
    index = output_dir / "index.html"
    if report:
        output_dir.mkdir(parents=True, exist_ok=True)
        check_places([index], [], overwrite=options.overwrite)
    failed = skipped = unreported = unrecorded = damaged = busy = 0
    lost, is_index_lost = 0, False  # reports and records of what was restored
    doubtful: list[Path] = []
    others_made: dict[str, list[Path]] = {}
    finished = Finished(output_dir)
    unnoted: OSError | None = None
    is_deaf = False  # standard output took a row no more

    def tell_row(row: dict[str, Any]) -> None:
        nonlocal is_deaf
        try:
            emit(row)
        except OSError as error:
            if not (is_deaf or isinstance(error, BrokenPipeError)):  # whose reader has seen enough
                complain(f"standard output: {error.strerror or error} (the outputs are whole)", as_json=rows)
            is_deaf = True

    def fail(name: str, error: Exception) -> None:
        nonlocal failed
        failed += 1
        if as_json:
            code = error.exit_code if isinstance(error, NsVideoError) else 1
            tell_row({"input": name, "error": in_words(error), "exit_code": code, "state": "failed"})

    def leave(source: Path, target: Path, state: str, other: dict[str, tuple[Any, Any]] | None = None) -> None:
        if other:
            told = ", ".join(f"{name} {_shown(was)}, now {_shown(now)}" for name, (was, now) in other.items())
            others_made.setdefault(told, []).append(target)
        if as_json:
            row: dict[str, Any] = {"input": str(source), "output": str(target), "exit_code": 0, "state": state}
            if other:
                row["other_options"] = {name: {"was": was, "is": now} for name, (was, now) in other.items()}
            tell_row(row)

    for error in found.unread:
        fail(os.fsdecode(error.filename), error)
        complain(in_words(error), as_json=rows)
    targets = _targets(files, input_dir, output_dir, still_format, finished)
    for target in targets.values() if not is_inside else ():
        folder = Path(os.path.realpath(target.parent))  # what the file itself links to is replaced, not written
        if origin == folder or origin in folder.parents:
            raise UsageError(f"{printable(target)} would lie in INPUT_DIR", remedy="choose another OUTPUT_DIR")
    with interruptible(str(values["progress"])) as cancel:
        for source in files:
            target = targets[source]
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                seen, wanted = Source.of(source, input_dir), meant_for(str(source), options)
                is_there = target.exists() and not options.overwrite
                if is_there:
                    _check_finished(target)
                    state = finished.state(target, seen)
                    if state is not State.CHANGED:
                        skipped += state is State.FINISHED
                        doubtful += [target] * (state is State.DOUBTFUL)
                        other = finished.other_options(target, wanted)
                        leave(source, target, "finished" if state is State.FINISHED else "doubtful", other)
                        unreported += report and not _is_reported(target)
                        unrecorded += record and not _record_of(target).is_file()
                        continue
                    check_places(
                        _report_of(target) if report else [], [], record=_record_of(target) if record else None
                    )
                settings = dataclasses.replace(
                    wanted,
                    resume=True,
                    overwrite=options.overwrite or is_there,
                    report=_page(target) if report else None,
                    record=_record_of(target) if record else None,
                )
                run = partial(
                    run_one,
                    str(source),
                    str(target),
                    style=str(values["progress"]),
                    quiet=quiet,
                    cancel=cancel,
                    again=_AGAIN,
                )
                done: RunRecord | None = None
                try:
                    done = run(settings)
                except ResumeError as error:
                    if not (settings.overwrite or _is_dropped(source, target)):
                        error.remedy = (
                            "begin this file anew with `ns-video restore --overwrite`, "
                            "or every file with `ns-video batch --overwrite`"
                        )
                        raise
                done = done or run(dataclasses.replace(settings, resume=False))
            except Interrupted as error:
                error.remedy = f"{_AGAIN} to go on"
                raise
            except OutputBusyError:
                busy += 1
                leave(source, target, "busy")
                continue
            except ModelError:  # a model that can't be had fails all files
                raise
            except Exception as error:  # whatever a file runs into, the next one may be sound
                fail(str(source), error)
                complain(f"{source}: {in_words(error)}", as_json=rows)
                if ctx.obj and ctx.obj["debug"]:
                    traceback.print_exc()
                continue
            if seen is not None:
                try:
                    finished.note(target, seen, wanted)
                except OSError as error:  # it is whole all the same
                    unnoted = unnoted or error
            damaged += bool(done.damage or done.frames_passed_through)
            lost += done.exit_code == 1
            if as_json:
                tell_row({**done.to_json(), "state": "restored"})
            elif not quiet:
                tell(done, str(values["progress"]))
            else:
                tell_blemishes(done, str(values["progress"]))
    if report:
        from ns_video.report import write_index

        reports = [
            (str(target.relative_to(output_dir)), _page(target))
            for target in targets.values()
            if target.is_file() and _is_reported(target)
        ]
        try:
            if reports:
                write_index(index, reports)
        except NsVideoError as error:
            is_index_lost = True
            complain(f"{in_words(error)} (the outputs are whole)", as_json=rows)
    if not quiet:
        if skipped:
            hint(f"finished before, and left: {skipped} (--overwrite restores again)", as_json=rows)
        for told, outputs in others_made.items():
            named = _named(outputs, output_dir)
            hint(f"finished with other options ({told}): {named} (--overwrite restores again)", as_json=rows)
        for missing, what in (unreported, "report"), (unrecorded, "record"):
            if missing:
                hint(f"finished without a {what}: {missing} (--overwrite restores again, with one)", as_json=rows)
        if doubtful:
            named = _named(doubtful, output_dir)
            hint(f"their inputs are newer or others, and they may not be ours (--overwrite): {named}", as_json=rows)
        if unnoted is not None:
            hint(f"what is finished can't be noted: {unnoted.strerror or unnoted}", as_json=rows)
        left_out = len(found.others) + len(found.links)
        restored = len(files) + len(found.unread) - failed - skipped - busy - len(doubtful)
        being = f", {busy} {'is' if busy == 1 else 'are'} being written by another run" * (busy > 0)
        others = f", {len(doubtful)} doubtful" * bool(doubtful)
        others += f", {left_out} left out" * (left_out > 0) + f", {damaged} with damage" * (damaged > 0)
        others += f", {lost} without a report or record" * (lost > 0)
        total = f"{restored} restored, {skipped} were finished, {failed} failed{being}{others}"
        hint(total, as_json=True) if rows else say(total)
    return 1 if failed or lost or is_index_lost else 3 if damaged else 0
