"""What this process may use of the machine. Floor 0: no torch."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import platform
import re
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ns_video.errors import NsVideoError, UnknownDeviceError

_DEVICE = re.compile(r"auto|mps:?|cpu(?::0?)?|cuda(?::[0-9]*)?")
_THREAD_BYTES = 32 << 20  # of address space: a thread's stack, and what it allocates
_CODECS_BYTES = 448 << 20  # of address space: an input and an output with all their codecs
_IMPORTS_BYTES = 512 << 20  # of address space: libav, numpy and their threads
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def read_text(path: Path) -> str:
    """A file of the system, empty where it isn't there."""
    try:
        return path.read_text()
    except OSError:
        return ""


def usable_cores() -> int:
    """Processor cores this process may use: its affinity, within the quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([cores, *map(round, _core_quotas())]))


def control_groups(controller: str) -> Generator[tuple[Path, int]]:
    """Folders of the control groups that bound this process, its own first, each with its version: 2, or 1 where that
    one holds `controller` ("cpu", "memory")."""
    for line in read_text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root, version = Path("/sys/fs/cgroup"), 2
        elif controller in controllers.split(","):
            root, version = Path("/sys/fs/cgroup", controller), 1
        else:
            continue
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            yield group, version
            if group == root:
                break


def _core_quotas() -> Generator[float]:
    """How many cores' time each control group may take that has a quota."""
    for group, version in control_groups("cpu"):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(read_text(group / name) for name in names).split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
            yield int(words[0]) / int(words[1])


def check_device_name(name: str) -> None:
    """Raises UnknownDeviceError for a name that no machine has a device for."""
    if not _DEVICE.fullmatch(name):
        raise UnknownDeviceError(
            f"there is no device called {name!r}", remedy="use auto, cpu, cuda, cuda:N, cuda:0,cuda:1 or mps"
        )


def codec_threads() -> int:
    """Threads for one libav codec: all cores, up to where more stop helping."""
    return max(1, min(usable_cores(), 16))


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that the system gave no more memory, or no more threads."""
    if isinstance(error, (RuntimeError, ImportError)):
        return any(sign in str(error) for sign in ("can't start new thread", "failed to map segment"))
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


@contextmanager
def exhaustion_named() -> Generator[None]:
    """Within it, a lack of memory or threads is an NsVideoError."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError) as error:
        if not is_exhausted(error):
            raise
        raise NsVideoError("there is not enough memory", remedy="a smaller --tile, or fewer --threads") from error


def can_map(count: int) -> bool:
    """Whether `count` bytes of address space can still be mapped; always where the process has no such limit.

    Shells set one with `ulimit -v`, batch systems for a job.
    """
    try:
        import resource
    except ImportError:
        return True
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return True
    kept_free = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mmap.mmap(-1, count, flags=kept_free, prot=0).close()
    except (OSError, MemoryError):
        return False
    return True


def check_address_space() -> None:
    """Raises NsVideoError where this process may not map what codecs need, even for small pictures.

    Libraries that load and libav's threads crash when an allocation fails at the wrong place, so it is asked before.
    """
    count = _CODECS_BYTES + codec_threads() * _THREAD_BYTES + (0 if "av" in sys.modules else _IMPORTS_BYTES)
    if not can_map(count):
        raise NsVideoError(
            f"too little memory: this process may not map another {count >> 20} MiB", remedy="raise `ulimit -v`"
        )


def keep_freed_memory() -> bool:
    """Asks the C library to keep freed memory for the next allocation; False where it has no such call (not glibc).

    Large tensors are otherwise given back to the system and asked for again in every step, each page zeroed anew:
    measured, half of a training's processor time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    outcomes = [mallopt(name, value) for name, value in settings]
    return all(outcome == 1 for outcome in outcomes)


_collecting = threading.Lock()
_short = [0]  # runs that count on short collections


@contextmanager
def short_collections() -> Generator[None]:
    """Within it the garbage collector looks only at what was made within it.

    A full collection otherwise walks over all that was imported, of which PyTorch brings much. What
    was there before is looked at again afterwards, or when the last of several runs side by side has ended.
    """
    with _collecting:
        _short[0] += 1
        if _short[0] == 1:
            gc.freeze()
    try:
        yield
    finally:
        with _collecting:
            _short[0] -= 1
            if _short[0] == 0:
                gc.unfreeze()


def peak_memory() -> int:
    """Peak resident bytes of this process so far; 0 where the system doesn't say."""
    for line in read_text(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if platform.system() == "Darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
