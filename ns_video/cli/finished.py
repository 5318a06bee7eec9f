"""What `batch` has finished in a folder, and of which input each output was made."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ns_video.journal import checked_line, whole_rows

if TYPE_CHECKING:
    from ns_video.pipeline import RestoreOptions

_NAME = ".ns-video-finished.jsonl"
_OF_THE_RUN = frozenset(
    (
        "resume",
        "overwrite",
        "report",
        "record",
        "strict",
        "allow_protocols",
        "max_pixels",
        "verify",
        "threads",
        "device",
    )
)
"""Options that say how a run goes, or what lies beside OUTPUT."""
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _deciding(options: RestoreOptions) -> dict[str, Any]:
    """The options of a run that decide what comes out, as JSON values, but for those that are as ever."""
    told, plain = _values(options), _values(type(options)())
    return {name: value for name, value in told.items() if value != plain[name]}


def _values(options: RestoreOptions) -> dict[str, Any]:
    return json.loads(json.dumps({k: v for k, v in asdict(options).items() if k not in _OF_THE_RUN}))


class State(Enum):
    """What an output that is there is, as far as its input goes."""

    FINISHED = "made of the input as it is, or nothing tells of what"
    CHANGED = "made by us of the input as it was"
    DOUBTFUL = "older than its input, and maybe not ours: nobody noted it, or it was changed since"


@dataclass(frozen=True, slots=True)
class Source:
    """An input, as it was when its restoration began."""

    name: str
    """Below INPUT_DIR."""
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, folder: Path) -> Source | None:
        """A file below a folder; None where there is none."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class _Made:
    """An output, and of what it was made."""

    source: Source
    mtime_ns: int
    size: int
    options: dict[str, Any] | None = None
    """As `_deciding` tells them; None: nobody noted them."""


class Finished:
    """A hidden file in OUTPUT_DIR: a line for each output, flushed to disk; the last one holds.

    Runs that work on one folder share it. A line that isn't whole tells nothing, nor does a file that is a link.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / _NAME
        self._made: dict[str, _Made] = {}
        self._read = 0
        """Bytes."""

    def owner(self, target: Path) -> str | None:
        """The name of the input that an output was made of; None where it isn't there, or nothing tells."""
        made = self._of(target) if os.path.lexists(target) else None
        return None if made is None else made.source.name

    def state(self, target: Path, source: Source | None) -> State:
        """What an output that is there is, beside its input."""
        made, status = self._of(target), target.stat()
        if source is None or (made is not None and made.source == source):
            return State.FINISHED
        if made is None:
            return State.DOUBTFUL if source.mtime_ns > status.st_mtime_ns else State.FINISHED
        is_ours = (made.mtime_ns, made.size) == (status.st_mtime_ns, status.st_size)
        return State.CHANGED if is_ours else State.DOUBTFUL

    def other_options(self, target: Path, options: RestoreOptions) -> dict[str, tuple[Any, Any]]:
        """The options by which an output that is there wasn't made: what they were, and what they are.

        Empty where they are the same, where nobody noted them, and where the output was changed since.
        """
        made, status = self._of(target), target.stat()
        if made is None or made.options is None or (made.mtime_ns, made.size) != (status.st_mtime_ns, status.st_size):
            return {}
        were, plain = made.options, _values(type(options)())
        pairs = {name: (were.get(name, plain[name]), now) for name, now in _values(options).items()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def note(self, target: Path, source: Source, options: RestoreOptions) -> None:
        """Note an output that is whole, and the options that made it. Raises OSError."""
        status = target.stat()
        made = {"made": [status.st_mtime_ns, status.st_size], "source": asdict(source)}
        row = {"output": self._name(target), **made, "options": _deciding(options)}
        with self._opened(os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + checked_line(row))
            file.flush()
            os.fsync(file.fileno())

    def _name(self, target: Path) -> str:
        return target.relative_to(self._folder).as_posix()

    def _of(self, target: Path) -> _Made | None:
        self._read_on()
        return self._made.get(self._name(target))

    def _read_on(self) -> None:
        """Take what is new: other runs write, too."""
        try:
            if self._path.lstat().st_size == self._read:
                return
            with self._opened(os.O_RDONLY) as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        for row in whole_rows(data.splitlines()):
            try:
                mtime_ns, size = row["made"]
                options = row.get("options")
                if not isinstance(options, dict):
                    options = None  # of an older version
                self._made[row["output"]] = _Made(Source(**row["source"]), mtime_ns, size, options)
            except (KeyError, TypeError, ValueError):
                continue  # of another version

    @contextmanager
    def _opened(self, flags: int) -> Generator[IO[bytes]]:
        handle = os.open(self._path, flags | _NO_LINKS, 0o644)
        with os.fdopen(handle, "r+b" if flags & os.O_RDWR else "rb", 0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(f"{self._path} is no file")
            yield file
