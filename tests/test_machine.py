"""What a process asks of the machine: short collections, kept memory, cores."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from ns_video.errors import NsVideoError
from ns_video.machine import can_map, codec_threads, exhaustion_named, peak_memory, short_collections, usable_cores


class Ring:
    """An object in a cycle."""

    def __init__(self) -> None:
        self.itself = self


def test_short_collections_take_what_is_new_and_leave_what_was() -> None:
    assert gc.get_freeze_count() == 0
    old = Ring()
    seen = weakref.ref(old)
    with short_collections():
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        del old
        fresh = weakref.ref(Ring())
        with short_collections():
            gc.collect()
        # What lies frozen may still end by its reference count, so the number falls by a few; it never grows.
        assert fresh() is None and seen() is not None and 1000 < gc.get_freeze_count() <= frozen
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert seen() is None


def test_collections_are_whole_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="inside"), short_collections():
        raise ValueError("inside")
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), ImportError("libx.so: failed to map segment")]
)
def test_a_lack_of_memory_or_threads_is_told_as_one(error: Exception) -> None:
    with pytest.raises(NsVideoError, match="not enough memory"), exhaustion_named():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="another"), exhaustion_named():
        raise RuntimeError("another")


_LIMITED = """
import resource
from ns_video.machine import can_map, read_text
from pathlib import Path
taken = int(read_text(Path("/proc/self/statm")).split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
print(can_map(16 << 20), can_map(128 << 20), can_map(16 << 20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is told by /proc")
def test_what_may_still_be_mapped() -> None:
    assert can_map(1 << 40)  # no limit, no answer
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "False", "True"]


_FAULTS = """
import resource
from ns_video.machine import keep_freed_memory
kept = keep_freed_memory()
import numpy as np
def touch():
    for _ in range(30):
        np.ones(4_000_000, np.float32)  # 16 MB: by itself malloc maps and unmaps it each time
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True, timeout=120)
    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 4000  # 30 × 3907 pages, were they fresh each time


_GROUPS = {
    "the root's": ({"cpu.max": "300000 100000\n"}, "0::/\n", 3),
    "its own": ({"box/cpu.max": "150000 100000\n"}, "0::/box\n", 2),
    "one above it": (
        {"slice/cpu.max": "200000 100000\n", "slice/box/cpu.max": "max 100000\n"},
        "0::/slice/box\n",
        2,
    ),
    "the least": ({"slice/cpu.max": "200000 100000\n", "slice/box/cpu.max": "50000 100000\n"}, "0::/slice/box\n", 1),
    "of version 1": (
        {"cpu/box/cpu.cfs_quota_us": "400000\n", "cpu/box/cpu.cfs_period_us": "100000\n"},
        "4:memory:/other\n3:cpu,cpuacct:/box\n0::/\n",
        4,
    ),
    "none of version 1": (
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        "3:cpu,cpuacct:/\n",
        64,
    ),
    "no group": ({}, "", 64),
    "nonsense": ({"cpu.max": "100000 0\n", "box/cpu.max": "100000\n"}, "0::/box\nx\n", 64),
}


@pytest.mark.parametrize(("files", "groups", "cores"), _GROUPS.values(), ids=_GROUPS.keys())
def test_cores_are_those_of_the_narrowest_control_group(
    files: dict[str, str], groups: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {f"/sys/fs/cgroup/{name}": text for name, text in files.items()} | {"/proc/self/cgroup": groups}
    monkeypatch.setattr("ns_video.machine.read_text", lambda path: tree.get(str(path), ""))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert usable_cores() == cores


def test_the_machine_is_seen() -> None:
    assert usable_cores() >= 1 and 1 <= codec_threads() <= 16
    assert peak_memory() > 1 << 20
