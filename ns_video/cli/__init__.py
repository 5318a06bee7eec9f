"""The command line: one command a file, loaded when it is called. The only place that prints."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import Any, cast

import click

from ns_video.errors import NsVideoError, printable
from ns_video.machine import check_address_space, exhaustion_named
from ns_video.version import __version__

_COMMANDS = {
    "restore": "Restore a clip, a still or a pipe.",
    "batch": "Restore a folder.",
    "report": "Quality report of a clip or still.",
    "verify": "Check a finished OUTPUT against its INPUT.",
    "models": "What is installed: list, show, verify.",
    "evaluate": "Degrade, restore and measure.",
    "degrade": "Make damaged material.",
    "train": "Train a model.",
    "bench": "Stage speeds on this machine.",
    "doctor": "Devices, precisions, codecs, versions.",
}


class _LogRows(logging.Handler):
    """What is logged as rows of `--progress json`."""

    def emit(self, record: logging.LogRecord) -> None:
        say(json.dumps({"phase": "log", "level": record.levelname.lower(), "message": self.format(record)}))


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"ns_video.cli.{cmd_name}").command
        command.name = cmd_name
        return _with_common_options(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _level(verbose: bool, quiet: bool) -> int:
    return logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING


def _heard(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """`-v`, `-q` or `--debug` behind the command's name."""
    if not value:
        return
    ctx.obj = {"quiet": False, "debug": False} if ctx.obj is None else ctx.obj
    if param.name in ctx.obj:
        ctx.obj[param.name] = True
    if param.name != "debug":
        logging.getLogger().setLevel(_level(param.name == "verbose", param.name == "quiet"))


def _with_common_options(command: click.Command) -> click.Command:
    """The command with the group's own options, so that they may stand on either side of its name."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _with_common_options(inner)
    elif not any(param.name == "quiet" for param in command.params):
        for names, text in _COMMON:
            command.params.append(click.Option(names, is_flag=True, expose_value=False, callback=_heard, help=text))
    return command


_COMMON = (
    (["-v", "--verbose"], "Say more on stderr."),
    (["-q", "--quiet"], "Say nothing but errors."),
    (["--debug"], "Show tracebacks."),
)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ns-video")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def group(ctx: click.Context, verbose: bool, quiet: bool, debug: bool) -> None:
    """Restores damaged video, stills and pipes, and gives everything else back intact."""
    rows = bool(ctx.obj and ctx.obj["rows"])
    ctx.obj = {"quiet": quiet, "debug": debug}
    if rows:
        logging.basicConfig(handlers=[_LogRows()], level=_level(verbose, quiet), format="%(message)s")
        logging.captureWarnings(True)
    else:
        logging.basicConfig(stream=sys.stderr, level=_level(verbose, quiet), format="%(levelname)s: %(message)s")
    for foreign in ("libav", "PIL"):
        logging.getLogger(foreign).setLevel(logging.CRITICAL)


def emit(value: Any) -> None:
    """One JSON value on stdout, on a line of its own: UTF-8 whatever the locale, also where names are none.

    A float that is no finite number, for which JSON has no word, is null.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    click.echo(text.encode("utf-8", "backslashreplace"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast(Sequence[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of as many cells each, as text whose columns are aligned."""
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def say(text: str) -> None:
    """A line on stderr, if it takes one: that nobody can read it ends no work."""
    with suppress(OSError):
        click.echo(text, err=True)


def hint(text: str, *, as_json: bool = False) -> None:
    """What is worth knowing beside the results, in one line on stderr, of `--progress json` if `as_json`."""
    say(json.dumps({"phase": "note", "notes": [text]}) if as_json else f"note: {text}")


def complain(what: object, *, as_json: bool = False) -> None:
    """An error in one line on stderr, of `--progress json` if `as_json`; names in it may hold anything."""
    text = printable(str(what))
    say(json.dumps({"phase": "failed", "error": text}) if as_json else f"error: {text}")


def in_words(error: Exception) -> str:
    """An error that ended a run: one of ours, the system's, or one that should not be."""
    if isinstance(error, NsVideoError):
        return str(error)
    if isinstance(error, OSError):
        where = os.fsdecode(error.filename) if error.filename else "output"
        return f"{where}: {error.strerror or error}"
    return f"internal: {type(error).__name__}: {error} (please report this; --debug shows where)"


def main() -> None:
    """The console script: errors become one line on stderr and the exit code of the contract."""
    # Read when torch loads: idle OpenMP threads sleep. Spinning, they take the cores that the codecs' threads and
    # other programs need; on a busy machine a frame took eight times as long (docs/speed.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _fill_closed_streams()
    _leave(run(sys.argv[1:]))


def _fill_closed_streams() -> None:
    """A standard stream that the shell closed (`<&-`) must not become the next file that is opened.

    Python sets a closed one to None; here it is a stream again: reading 0 and writing 1 still fail, 2 takes all.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _wants_rows(arguments: Sequence[str]) -> bool:
    """Whether `--progress json` is given: also to what is said of options that can't be parsed."""
    return "--progress=json" in arguments or ("--progress", "json") in pairwise(arguments)


def run(arguments: list[str]) -> int:
    """One command; its exit code. What goes wrong is one line on stderr."""
    debug, rows = "--debug" in arguments, _wants_rows(arguments)
    stdout = sys.stdout
    code = 0
    try:
        check_address_space()
        with exhaustion_named():
            outcome = group.main(args=arguments, prog_name="ns-video", standalone_mode=False, obj={"rows": rows})
        code = outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        if rows:
            complain(error.format_message(), as_json=True)
        else:
            error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted", as_json=rows)
        code = 130
    except BrokenPipeError:
        code = 141
    except SystemExit as error:  # click wraps the streams and exits with 1 where the reader of a pipe went away
        code = 141 if sys.stdout is not stdout else int(error.code or 0)
    except Exception as error:
        code = error.exit_code if isinstance(error, NsVideoError) else 1
        if code != 141:
            complain(in_words(error), as_json=rows)
        if debug:
            traceback.print_exc()
    return code


def _leave(code: int) -> None:
    """Exit without waiting for a thread that is still inside a blocking read."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
