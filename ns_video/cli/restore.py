"""ns-video restore."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ns_video.cli import complain, emit, hint, say
from ns_video.cli.local_file import NamedPath
from ns_video.errors import StallError, UsageError, printable
from ns_video.journal import Journal, work_folder
from ns_video.prefetch import is_watching
from ns_video.preset import BLENDS, ENSEMBLES

if TYPE_CHECKING:
    from ns_video.pipeline import Progress, RestoreOptions
    from ns_video.record import Damage, RunRecord

_JSON_PROGRESS_SECONDS = 0.5
_MANY = ("seek", "restore")  # phases of which many updates come
_TURN_SECONDS = 1.0
_SAME_PRESS_SECONDS = 0.3  # a signal to the group and one from the shell are one wish


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d*)?|\.\d+)", value.strip())
    if match is None:
        raise click.BadParameter("give seconds or HH:MM:SS.mmm")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _size(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", value.strip())
    if match is None:
        raise click.BadParameter("give WIDTHxHEIGHT")
    return int(match[1]), int(match[2])


def _pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r}: give KEY=VALUE")
        out[key] = rest
    return out


def _number_or_auto(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter("give a number or auto") from None


def restore_options(function: Any) -> Any:
    """The options that `restore` and `batch` share."""
    options = [
        click.option("--preset", default="auto", show_default=True, help="One of pipelines/*.toml."),
        click.option("--model", default=None, help="A shipped model or a file of weights; identity does nothing."),
        click.option("--strength", type=float, default=None, help="0 = input, 1 = fully restored.  [default: 1]"),
        click.option(
            "--ensemble",
            type=click.Choice([str(views) for views in ENSEMBLES]),
            default=None,
            help="Flipped views to average: slower, a little better. [default: 4 for stills, 1 for clips]",
        ),
        click.option("--scale", type=float, default=None, help="Final size as a factor."),
        click.option("--size", callback=_size, default=None, metavar="WxH", help="Final size, as players turn it."),
        click.option(
            "--fit",
            type=click.Choice(["contain", "stretch"]),
            default="contain",
            show_default=True,
            help="contain: within --size, pixels keep their aspect; stretch: of --size, pixels are square.",
        ),
        click.option("--sharpen", type=float, default=None, help="Sharpening after the network, 0 to 1.  [default: 0]"),
        click.option(
            "--device", default="auto", show_default=True, help="cpu, cuda (all GPUs), cuda:N, cuda:0,cuda:1, mps."
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
            default="auto",
            show_default=True,
            help="auto: bf16, or fp16 on GPUs, where native; with --preset fast int8 on CPUs with AVX512-VNNI.",
        ),
        click.option("--tile", default="auto", show_default=True, callback=_number_or_auto, help="Tile side in px."),
        click.option(
            "--overlap", default="auto", show_default=True, callback=_number_or_auto, help="Total overlap in px."
        ),
        click.option(
            "--blend", type=click.Choice(BLENDS), default="auto", show_default=True, help="How tiles are joined."
        ),
        click.option("--codec", default=None, help="Encoder of the output video."),
        click.option("--crf", type=float, default=None, help="Quality of the output video, on its encoder's scale."),
        click.option("--still-quality", type=float, default=None, help="Of a still as JPEG or lossy WebP, 1 to 100."),
        click.option("--pix-fmt", default=None, help="Pixel format of the output video."),
        click.option(
            "--encoder-option",
            "encoder_options",
            multiple=True,
            callback=_pairs,
            metavar="K=V",
            help="Of the encoder; may be given again.",
        ),
        click.option(
            "--format",
            "format",
            default=None,
            help="Container of the output; of a still: png, jpeg, webp, tiff or bmp.",
        ),
        click.option("--input-format", default=None, help="Container of the input, for raw pipes."),
        click.option(
            "--input-option",
            "input_options",
            multiple=True,
            callback=_pairs,
            metavar="K=V",
            help="Of the demuxer, for raw pipes.",
        ),
        click.option(
            "--start",
            callback=_seconds,
            default=None,
            metavar="T",
            help="Seconds or HH:MM:SS.mmm from the clip's beginning, as players count.",
        ),
        click.option("--end", callback=_seconds, default=None, metavar="T", help="Likewise."),
        click.option(
            "--deinterlace",
            type=click.Choice(["auto", "on", "off"]),
            default="auto",
            show_default=True,
            help="auto: frames that are marked as interlaced, under every model but identity.",
        ),
        click.option("--resume", is_flag=True, help="Go on after a kill."),
        click.option("--overwrite", "-y", is_flag=True, help="Replace an existing OUTPUT."),
        click.option("--strict", is_flag=True, help="The first damage in the input fails the run."),
        click.option("--allow-protocol", "allow_protocols", multiple=True, help="Let INPUT be a URL of this protocol."),
        click.option(
            "--max-pixels", type=int, default=None, help="Largest picture that is opened.  [default: 268 million]"
        ),
        click.option(
            "--verify",
            type=click.Choice(["structure", "full", "none"]),
            default="structure",
            show_default=True,
            help="The check of OUTPUT; full: its pictures are decoded, too.",
        ),
        click.option("--every-frame", is_flag=True, help="Restore identical and undamaged frames too."),
        click.option(
            "--assumed-step",
            type=float,
            help="Quantiser step (H.264: 0.625 * 2^(QP/6)) of clips that don't tell theirs; 0 leaves them as they are. "
            " [default: guessed from each picture]",
        ),
        click.option(
            "--threads", type=int, default=0, show_default=True, help="Threads of each codec; 0 divides the machine."
        ),
        click.option(
            "--progress", type=click.Choice(["auto", "bar", "json", "none"]), default="auto", show_default=True
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def options_from(values: dict[str, Any]) -> RestoreOptions:
    """RestoreOptions from the parameters of `restore_options`."""
    from ns_video.pipeline import RestoreOptions

    settings = {k: v for k, v in values.items() if k not in ("progress", "every_frame")}
    every = bool(values.get("every_frame"))
    if settings.get("ensemble") is not None:
        settings["ensemble"] = int(settings["ensemble"])
    if settings.get("max_pixels") is None:
        settings.pop("max_pixels", None)
    return RestoreOptions(**settings, skip_identical=not every, skip_undamaged=not every)


@contextmanager
def interruptible(style: str = "auto") -> Generator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP set the event; a second one ends the program at once. Ignored ones stay so (nohup).

    A thread of its own waits for them: the main one may be inside a call of libav that returns when a pipe's writer
    pleases, and Python runs signal handlers only between calls.
    """
    cancel = threading.Event()
    at_once = b"error: interrupted at once\n"
    if style == "json":
        at_once = b'{"phase": "failed", "error": "interrupted at once"}\n'
    known = [s for s in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, s)]
    names = [s for s in known if signal.getsignal(getattr(signal, s)) is not signal.SIG_IGN]
    numbers = {int(getattr(signal, name)) for name in names}
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def watch() -> None:
        first = 0.0
        while received := reading.recv(64):
            for _ in numbers.intersection(received):
                if not cancel.is_set():
                    cancel.set()
                    first = time.monotonic()
                elif time.monotonic() - first > _SAME_PRESS_SECONDS:
                    os.write(2, at_once)
                    os._exit(130)

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    before = {name: signal.signal(getattr(signal, name), lambda *_: None) for name in names}
    try:
        yield cancel
    finally:
        for name, old in before.items():
            signal.signal(getattr(signal, name), old)
        signal.set_wakeup_fd(wakeup)
        writing.close()
        watcher.join()
        reading.close()


def _patience(source: str, target: str) -> float:
    """Seconds for which a run may give no frame: who is at the other end of a pipe may take as long as they want."""
    from ns_video.pipeline.clip import STALL_SECONDS

    files = target != "-" and os.path.isfile(source) and (os.path.isfile(target) or not os.path.exists(target))  # noqa: PTH110, PTH113 - they never raise
    return STALL_SECONDS * 1.5 + 5 if files else float("inf")


def watched(
    steps: Generator[Progress, None, RunRecord], show: Callable[[Progress], None], patience: float
) -> RunRecord:
    """Run `steps` in a thread of its own, show them and return what they return.

    Raises what they raise, and StallError where frames come no more: only encoders stand still so, for who waits for
    other stages watches those, and as nothing ends a thread that is inside one, it is left to itself with all that it
    holds; should it go on, it ends there. Turns of waiting are counted, not time, for which the process may be stopped.
    What gives no frames on its way, such as a still, may take its time.
    """
    outcome: Future[RunRecord] = Future()
    last: Progress | None = None
    given_up = threading.Event()

    def work() -> None:
        nonlocal last
        try:
            while True:
                last = next(steps)
                if given_up.is_set():
                    steps.close()
                    return
                show(last)
        except StopIteration as done:
            outcome.set_result(done.value)
        except BaseException as error:
            outcome.set_exception(error)

    worker = threading.Thread(target=work, name="run", daemon=True)
    worker.start()
    waited, before = 0.0, last
    while not wait([outcome], _TURN_SECONDS).done:
        stands = last is before and last is not None and last.phase in _MANY and not is_watching(worker)
        waited, before = waited + _TURN_SECONDS if stands else 0.0, last
        if waited > patience:
            given_up.set()
            raise StallError(f"nothing came for {patience:.0f} s", stage="encode")
    return outcome.result()


class ProgressShown:
    """A bar, NDJSON or nothing, on stderr; nothing more once that takes no more."""

    def __init__(self, style: str, quiet: bool, title: str, told: list[str] | None = None) -> None:
        """`told` gets the notes that are shown; None: none are."""
        if style == "auto":
            style = "bar" if sys.stderr.isatty() and not quiet else "none"
        self._style, self._title = style, title
        self._told = None if quiet else told
        self._bar: Any = None
        self._last = -1.0

    def show(self, update: Progress) -> None:
        """One update of a run."""
        notes = [] if self._told is None else [note for note in update.notes if note not in self._told]
        if self._told is not None:
            self._told += notes
        try:
            if self._style == "json":
                self._show_row(update, notes)
                return
            for note in notes:
                self._show_note(note)
            if self._style == "bar":
                self._show_bar(update)
        except OSError:
            self._style, self._told = "none", None
            if self._bar is not None:
                self._bar.disable = True

    def _show_row(self, update: Progress, notes: list[str]) -> None:
        is_due = update.seconds - self._last >= _JSON_PROGRESS_SECONDS or self._last < 0
        if not (is_due or notes or update.phase not in _MANY):
            return
        self._last = update.seconds
        row = {
            "phase": update.phase,
            "frames": update.frames,
            "frames_total": update.frames_total or None,
            "pts_seconds": update.pts_seconds,
            "seconds": round(update.seconds, 3),
            "fps": round(update.fps, 3),
            "limiting_stage": update.limiting_stage,
        }
        parts = {"parts": list(update.parts)} if update.parts[1] else {}
        click.echo(json.dumps({**row, **parts, **({"notes": notes} if notes else {})}), err=True)

    def _show_note(self, note: str) -> None:
        if self._bar is None:
            click.echo(f"note: {note}", err=True)
        else:
            self._bar.write(f"note: {note}", file=sys.stderr)

    def _show_bar(self, update: Progress) -> None:
        if self._bar is None:
            from tqdm import tqdm

            total, done = update.frames_total or None, update.frames  # what was done before tells of no speed
            self._bar = tqdm(total=total, initial=done, unit="frame", desc=self._title, file=sys.stderr)
        self._bar.update(update.frames - self._bar.n)
        if update.phase == "restore":
            limit = f"limited by {update.limiting_stage}" if update.limiting_stage else ""
            self._bar.set_postfix_str("{} of {} parts done".format(*update.parts) if update.parts[1] else limit)
        elif update.phase == "seek":
            self._bar.set_postfix_str(f"at {update.pts_seconds or 0:.0f} s, on the way to --start")
        else:
            self._bar.set_postfix_str({"mux": "muxing", "verify": "checking"}.get(update.phase, update.phase))

    def close(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()


def run_one(
    source: str,
    target: str,
    options: RestoreOptions,
    style: str,
    quiet: bool,
    cancel: threading.Event,
    told: list[str] | None = None,
    again: str = "run again with --resume",
) -> RunRecord:
    """One restoration with its progress shown, and its notes as they come: `told` gets those, None: none are.

    `again` says how what stood still goes on, where something is done already.
    """
    from ns_video.pipeline import restore_steps

    shown = ProgressShown(style, quiet, Path(source).name[:24] if source != "-" else "stdin", told)
    try:
        return watched(restore_steps(source, target, options, cancel), shown.show, _patience(source, target))
    except StallError as error:
        if Journal(work_folder(Path(target))).exists():
            error.remedy = f"{again} to go on"
        raise
    finally:
        shown.close()


def tell(record: RunRecord, style: str, told: Sequence[str] = ()) -> None:
    """Say on stderr what a run did, but for the notes that were told: in `--progress json` as its last row."""
    if style != "json":
        say(summary(record, told))
        return
    row = {
        "phase": "done",
        "frames": record.frames_out,
        "frames_total": record.frames_out,
        "pts_seconds": None,
        "seconds": round(record.seconds, 3),
        "fps": round(record.fps, 3),
        "limiting_stage": record.limiting_stage,
        "notes": [text for text in record.warnings if text not in told],
        "output": record.output,
        "damage": sum(place.is_of_input for place in record.damage),
        "frames_passed_through": record.frames_passed_through,
        "exit_code": record.exit_code,
    }
    say(json.dumps(row))


def summary(record: RunRecord, told: Sequence[str] = ()) -> str:
    """What a run did, in a line or a few, but for the notes that were `told`."""
    lines = [
        f"{printable(record.output)}: {record.frames_out} frame{'s' if record.frames_out != 1 else ''}"
        f" in {record.seconds:.1f} s ({record.fps:.2f} fps, limited by {record.limiting_stage}),"
        f" {record.model.name} on {record.device} {record.precision}"
    ]
    lines += [f"note: {text}" for text in record.warnings if text not in told]
    return "\n".join(lines + blemishes(record))


def blemishes(record: RunRecord) -> list[str]:
    """What a run ends with 3 for: damage of the input, and what was not restored; a line each."""
    passed = [place for place in record.damage if not place.is_of_input]
    return [
        *_places("damage", [place for place in record.damage if place.is_of_input], "place"),
        *_places("not restored", passed, "frame", record.frames_passed_through),
    ]


def tell_blemishes(record: RunRecord, style: str) -> None:
    """Say on stderr what is said with -q, too: what a run ends with 3 for. In `--progress json` as rows."""
    for line in blemishes(record):
        text = f"{printable(record.output)}: {line}"
        hint(text, as_json=True) if style == "json" else say(text)


def _places(kind: str, places: list[Damage], unit: str, count: int = 0) -> list[str]:
    """A line on places of one kind, where there are any; `count`: of what isn't listed one by one."""
    if not places:
        return []
    first, count = places[0], count or len(places)
    where = "somewhere" if first.pts_seconds is None else f"at {first.pts_seconds:.3f} s"
    many = f"one {unit}" if count == 1 else f"{count} {unit}s; the first"
    return [f"{kind}: {many}: {first.what} ({where})"]


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("input")
@click.argument("output")
@restore_options
@click.option("--report", type=NamedPath(), default=None, metavar="PATH.html", help="Quality report.")
@click.option("--record", type=NamedPath(), default=None, metavar="PATH.json", help="Run record.")
@click.option("--json", "as_json", is_flag=True, help="The run record on stdout.")
@click.pass_context
def command(ctx: click.Context, input: str, output: str, as_json: bool, **values: Any) -> int:
    """Restore INPUT into OUTPUT: a clip, a still or a pipe ("-")."""
    quiet = bool(ctx.obj and ctx.obj["quiet"])
    if as_json and output == "-":
        raise UsageError("--json and OUTPUT - both want standard output", remedy="--record PATH.json")
    if output == "-" and sys.stdout.isatty():
        raise UsageError("standard output is a terminal", remedy="pipe it into a program, or name a file")
    style = str(values["progress"])
    options = options_from(values)
    told: list[str] = []
    with interruptible(style) as cancel:
        record = run_one(input, output, options, style, quiet, cancel, told)
    if not as_json:
        if quiet:
            tell_blemishes(record, style)
        else:
            tell(record, style, told)
        return record.exit_code
    try:
        emit(record.to_json())
    except BrokenPipeError:  # its reader has seen enough
        pass
    except OSError as error:
        complain(f"standard output: {error.strerror or error} ({record.output} is whole)", as_json=style == "json")
    return record.exit_code
