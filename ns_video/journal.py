"""The journal of a segmented run: what is done, and for which input and options it was done. Floor 0.

One folder beside the output holds the segments and `journal.jsonl`: a header line with the fingerprint, then a line
for every closed segment, each written whole and flushed to disk. A line that doesn't parse, and a segment that is
missing, short or changed, is work not done.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from array import array
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ns_video.errors import OutputBusyError, OutputError, ResumeError, printable

_FORMAT = 2
_SAMPLE_BYTES = 1 << 20  # of the beginning, middle and end of the input
_HELD = (errno.EACCES, errno.EAGAIN)  # what systems call a lock that another holds; Windows says the first
_TRIES = 100  # each is lost only to a run that ends in that instant


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One closed segment."""

    number: int
    file: str
    frames: int
    bytes: int
    digest: str
    presentation: array[int]
    """Packet times in decode order, in ticks of the output's time base; in presentation order they are the frames'."""
    durations: array[int]
    """Ticks that each of them is shown for, 0 where that isn't known."""
    counts: dict[str, float] = field(default_factory=dict)
    """What was done with its frames, by name."""


def work_folder(output: Path) -> Path:
    """Where the run that writes `output` keeps its segments: in the same folder, private, named after the output."""
    tag = hashlib.blake2b(output.name.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return output.parent / f".ns-video-{tag}"


def source_fingerprint(path: Path) -> dict[str, Any]:
    """Size, time of change and a hash of samples of a file."""
    status = path.stat()
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for offset in (0, max(0, status.st_size // 2), max(0, status.st_size - _SAMPLE_BYTES)):
            file.seek(offset)
            digest.update(file.read(_SAMPLE_BYTES))
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sample": digest.hexdigest()}


def file_identity(path: Path) -> list[int] | None:
    """What tells the file of this name from any other, and stays with it when it is renamed; None where nothing is.

    Without the device, whose number may be another one after a restart.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return [status.st_ino, status.st_mtime_ns, status.st_size]


def file_digest(path: Path) -> str:
    """Hash of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file and its folder entry to disk."""
    with path.open("r+b") as file:  # Windows flushes none that is only read
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def give_name(path: Path, name: Path, *, replaces: bool) -> None:
    """Rename a file and flush that to disk. Raises FileExistsError where `name` is taken and it `replaces` nothing."""
    if replaces:
        path.replace(name)
    else:
        try:
            os.link(path, name)
        except OSError as error:  # it is taken, or this file system has no links
            if name.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name)) from error
            path.replace(name)
        else:
            path.unlink()
    sync_folder(name.parent)


def write_whole(path: Path, data: bytes, *, stage: str, replaces: bool = True) -> None:
    """Write a file beside its place, flush it to disk, then rename it.

    A link stays and what it leads to is replaced; a device or pipe is written as it is. Raises OutputError, and
    OutputBusyError where something is there and it `replaces` nothing.
    """
    WrittenBeside(path, data, stage=stage).put_in_place(replaces=replaces)


class WrittenBeside:
    """A file that is written, but has not its name yet: whatever comes first may still fail.

    A link stays and what it leads to is replaced; a device or pipe is written at once, as it is.
    """

    def __init__(self, path: Path, data: bytes, *, stage: str) -> None:
        """Write `data` beside `path` and flush it to disk. Raises OutputError."""
        self._path, self._stage = path, stage
        self._temporary: Path | None = None
        with self._named():
            if path.exists() and not path.is_file():
                path.write_bytes(data)
                return
            self._place = Path(os.path.realpath(path))
            self._temporary = self._place.with_name(f".ns-video-{os.urandom(8).hex()}")
            try:
                with self._temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                self.drop()
                raise

    def put_in_place(self, *, replaces: bool = True) -> None:
        """Give it its name. Raises OutputError, OutputBusyError where that is taken and it `replaces` nothing; it is
        dropped then."""
        if self._temporary is None:
            return
        with self._named():
            try:
                give_name(self._temporary, self._place, replaces=replaces)
            except FileExistsError as error:
                self.drop()
                raise taken_meanwhile(self._path) from error
            except BaseException:
                self.drop()
                raise

    def drop(self) -> None:
        """Remove it: it is not to have its name."""
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _named(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{printable(self._path)}: {error.strerror or error}", stage=self._stage) from error


def taken_meanwhile(output: Path | str) -> OutputBusyError:
    """What is raised where OUTPUT wasn't there when the run began, and is now."""
    return OutputBusyError(f"{printable(output)} is there by now", stage="open", remedy="--overwrite replaces it")


class Journal:
    """The folder of one run, locked while this object is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[int, SegmentEntry] = {}
        self.open: set[int] = set()
        """Numbers of `entries` that are playable but not noted: they are done again."""
        self._fingerprint: dict[str, Any] = {}
        self._partial: dict[str, Any] = {}
        self._replaceable: list[Any] = []
        self._lock: Any = None
        self.unlocked: str | None = None
        """Why the folder can't be locked, where its file system has no locks: nothing keeps another run out."""

    @property
    def path(self) -> Path:
        """The journal itself."""
        return self.folder / "journal.jsonl"

    def exists(self) -> bool:
        """Whether an unfinished run left something to go on with: a line for a segment, not only the header."""
        try:
            with self.path.open("rb") as file:
                return sum(1 for _ in zip(range(2), file, strict=False)) > 1
        except OSError:
            return self.path.exists()

    def acquire(self) -> None:
        """Make the folder and lock it; where the file system has no locks, `unlocked` says so.

        Raises OutputError where it can't be made, OutputBusyError where another run holds it.
        """
        try:
            if any(self._enter() for _ in range(_TRIES)):
                return
        except OSError as error:
            raise OutputError(f"{printable(self.folder)}: {error.strerror}", stage="open") from error
        raise self._busy()

    def _enter(self) -> bool:
        """Make the folder and lock it; False where a run that ended removed it meanwhile."""
        try:
            self.folder.mkdir(mode=0o700)
            is_new = True
        except FileExistsError:
            is_new = False
        path = self.folder / "lock"
        try:
            if not is_new:
                self._check_private()
            lock = path.open("a+b")
        except FileNotFoundError:
            return False
        except OSError:
            if is_new:
                self.folder.rmdir()
            raise
        try:
            _lock(lock)
        except OSError as error:
            if error.errno in _HELD:
                lock.close()
                raise self._busy() from error
            self.unlocked = error.strerror or str(error)
        try:
            is_there = os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except FileNotFoundError:
            is_there = False
        if not is_there:
            lock.close()
            return False
        self._lock = lock
        return True

    def _busy(self) -> OutputBusyError:
        return OutputBusyError("another run is writing this output", remedy="wait for it, or choose another OUTPUT")

    def _check_private(self) -> None:
        """A folder of this name that somebody else laid out, or a link to elsewhere, is not worked in."""
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or not self._is_own(status.st_uid):
            raise OutputError(
                f"{printable(self.folder)} is not a folder of yours",
                stage="open",
                remedy="remove it, or choose another OUTPUT",
            )

    def _is_own(self, owner: int) -> bool:
        """Whether what is beside the folder would be of this owner, too, were it made now: mounts may map owners."""
        if not hasattr(os, "geteuid") or owner == os.geteuid():
            return True
        beside = self.folder.with_name(f".ns-video-{os.urandom(8).hex()}")
        with beside.open("xb") as file:
            ours = os.fstat(file.fileno()).st_uid
        beside.unlink()
        return ours == owner

    def noted(self, name: str) -> Any:
        """What the unfinished run's fingerprint says of `name`, None where it says nothing."""
        return _table(self._head().get("fingerprint")).get(name)

    def begin(self, fingerprint: dict[str, Any], *, resume: bool, replaces: Path | None = None) -> None:
        """Start anew, or go on where `fingerprint` is that of the unfinished run. Raises ResumeError where it isn't.

        `replaces`: the OUTPUT that the user gave leave to replace, if anything is there.
        """
        head = self._head()
        self._fingerprint, self._partial = fingerprint, _table(head.get("partial"))
        self._replaceable = _items(head.get("replaceable")) if resume else []
        if replaces is not None and (identity := file_identity(replaces)) is not None:
            self._replaceable.append(identity)
        if resume and head and self.exists():
            self._read(head, fingerprint)
            return
        self.clear()
        self._append(self._header())

    def may_replace(self, output: Path) -> bool:
        """Whether the unfinished run may replace the file at OUTPUT: it had leave to, or put it there itself."""
        return file_identity(output) in _items(self._head().get("replaceable"))

    def note_output(self, temporary: Path) -> None:
        """Note the file that is about to take OUTPUT's name: a kill may come between that and the end of the run."""
        self._replaceable.append(file_identity(temporary))
        self._rewrite(self.entries.keys() - self.open)

    def note_partial(self, path: Path) -> None:
        """Note the playable part that an interrupted run leaves beside OUTPUT, so that the one that finishes it may
        replace or remove it."""
        status = path.stat()
        self._partial = {"name": path.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        self._rewrite(self.entries.keys() - self.open)

    def own_partial(self) -> Path | None:
        """That part, where it still is as it was left."""
        name = str(self._partial.get("name", ""))
        if not name or Path(name).name != name:
            return None
        path = self.folder.parent / name
        try:
            status = path.lstat()
        except OSError:
            return None
        left = [self._partial.get(key) for key in ("size", "mtime_ns")]
        return path if stat.S_ISREG(status.st_mode) and left == [status.st_size, status.st_mtime_ns] else None

    def _header(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            **({"partial": self._partial} if self._partial else {}),
            **({"replaceable": self._replaceable} if self._replaceable else {}),
        }

    def _rows(self) -> Generator[dict[str, Any]]:
        """The lines that are whole, one by one: those of a long clip are many."""
        try:
            with self.path.open("rb") as lines:
                yield from whole_rows(lines)
        except OSError:
            return

    def _head(self) -> dict[str, Any]:
        head = next(self._rows(), {})
        return head if "fingerprint" in head else {}

    def clear(self) -> None:
        """Remove all that an earlier run left; the lock stays."""
        self.entries.clear()
        self.open.clear()
        self.path.unlink(missing_ok=True)  # first: segments without a journal are nothing, the reverse is a lie
        for path in self.folder.iterdir():
            if path.name != "lock":
                _remove(path)

    def _read(self, head: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        old = _table(head["fingerprint"])
        wanted = json.loads(json.dumps(fingerprint))
        changed = sorted(k for k in wanted.keys() | old.keys() if wanted.get(k) != old.get(k))
        if head.get("format") != _FORMAT or changed:
            raise ResumeError(
                f"the unfinished run was made with another {', '.join(changed) or 'program version'}",
                stage="resume",
                remedy="run without --resume and with --overwrite to begin anew",
            )
        for row in self._rows():
            entry = _entry(row)
            if entry is not None and self._is_whole(entry):
                self.entries[entry.number] = entry
        good = {e.file for e in self.entries.values()} | {"lock", self.path.name}
        for path in self.folder.iterdir():
            if path.name not in good:
                _remove(path)
        self._rewrite(self.entries)  # so that a torn last line never has another appended to it

    def _rewrite(self, numbers: Iterable[int]) -> None:
        fresh = self.path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(checked_line(self._header()))
                file.writelines(checked_line(dataclasses.asdict(self.entries[n])) for n in sorted(numbers))
            sync_file(fresh)
            fresh.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        sync_folder(self.folder)

    def _is_whole(self, entry: SegmentEntry) -> bool:
        path = self.folder / entry.file
        try:
            return (
                path.parent == self.folder and path.stat().st_size == entry.bytes and file_digest(path) == entry.digest
            )
        except OSError:
            return False

    def add(self, entry: SegmentEntry) -> None:
        """Note a closed segment; its file is on disk when this returns."""
        sync_file(self.folder / entry.file)
        self._append(dataclasses.asdict(entry))
        self.entries[entry.number] = entry

    def _append(self, row: dict[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(checked_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{printable(self.path)}: {error.strerror}",
            stage="encode",
            remedy="free some space and run again with --resume",
        )

    def release(self) -> None:
        """Unlock; what is there stays for --resume."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """The work is done: remove the folder."""
        with suppress(OSError):
            self.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()
        with suppress(OSError):  # only now where the lock stayed until it was closed, as on Windows and NFS
            if sys.platform == "win32":  # which removes no file that is open, so none of another run
                (self.folder / "lock").unlink()
            self.folder.rmdir()  # which removes none that another run works in

    def drop(self) -> None:
        """Remove the folder, and the playable part that an interrupted run left beside OUTPUT."""
        self._partial = _table(self._head().get("partial"))
        with suppress(OSError):
            if (partial := self.own_partial()) is not None:
                partial.unlink()
        self.remove()


def _lock(file: IO[bytes]) -> None:
    """Until it is closed. Raises OSError where another run holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(path: Path) -> None:
    """A file, a link or a folder that has no business here."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _check(row: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=8).hexdigest()


def whole_rows(lines: Iterable[bytes]) -> Generator[dict[str, Any]]:
    """What `checked_line` made, but for lines that are not whole."""
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # torn by a power cut: that work is done again
        if isinstance(row, dict) and row.pop("check", None) == _check(row):
            yield row


def checked_line(row: dict[str, Any]) -> bytes:
    """One line of a journal, with a checksum: what a dying disk made of it is not believed."""
    plain = json.loads(json.dumps(row, default=list))
    return json.dumps({**plain, "check": _check(plain)}).encode() + b"\n"


def _entry(row: dict[str, Any]) -> SegmentEntry | None:
    try:
        name = str(row["file"])
        if Path(name).name != name or name.startswith("."):
            return None
        entry = SegmentEntry(
            number=int(row["number"]),
            file=name,
            frames=int(row["frames"]),
            bytes=int(row["bytes"]),
            digest=str(row["digest"]),
            presentation=array("q", row["presentation"]),
            durations=array("q", row["durations"]),
            counts={str(k): float(v) for k, v in dict(row.get("counts", {})).items()},
        )
        whole = 0 < entry.frames == len(set(entry.presentation)) == len(entry.durations)
        return entry if whole else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
