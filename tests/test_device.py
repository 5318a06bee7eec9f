"""What the machine can do: choices follow capability and trial, never a name."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ns_video import device as device_module
from ns_video.device import (
    available_memory,
    capable_precisions,
    check_alive,
    choose_precision,
    cpu_features,
    is_out_of_memory,
    kinds_of,
    one_thread,
    pick_device,
    pick_devices,
    snapshot,
    total_memory,
    usable_cores,
)
from ns_video.errors import DeviceError

CPU = torch.device("cpu")
SAFE = frozenset({"fp32", "bf16", "fp16"})


def trial(broken: frozenset[str] = frozenset()) -> Callable[[str], Tensor]:
    def run(precision: str) -> Tensor:
        return torch.full((1,), float("nan") if precision in broken else 0.5)

    return run


def native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "capable_precisions", lambda _: ("bf16",))


def test_gpus_are_told_apart_by_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [torch.device("cuda", index) for index in range(3)]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: "large" if gpu.index == 1 else "small")
    assert kinds_of(gpus) == "small, large, small" and kinds_of([gpus[0], gpus[2]]) == "small"
    assert kinds_of([CPU]) == "cpu"


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:99", "mps:1", "", "cpu;", "cpu:7"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DeviceError, match=r"there is no device|is not there"):
        pick_device(name)


def test_several_devices_are_named_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_devices("cpu") == (CPU,) and pick_devices("cpu, cpu:0") == (CPU,)
    with pytest.raises(DeviceError, match="is not there"):
        pick_devices("cpu,cuda:99")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [device.index for device in pick_devices("cuda")] == [0, 1, 2]
    assert [device.index for device in pick_devices("cuda:2,cuda:0")] == [2, 0]
    assert [device.index for device in pick_devices("cuda:1,cuda:0,cuda:1")] == [1, 0]
    assert pick_devices("auto") == (torch.device("cuda", 0),)
    with pytest.raises(DeviceError, match="different kinds"):
        pick_devices("cuda:0,cpu")


def test_a_forked_child_of_a_process_that_used_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(DeviceError, match="spawn"):
            pick_devices(name)
    assert pick_devices("cpu") == (CPU,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_computes_as_its_parent_did() -> None:
    code = """
import os, torch
torch.set_num_threads(4)
from ns_video import load_model
picture = torch.rand(1, 3, 128, 128)
whole = load_model("photo", device="cpu", ensemble=4)
expected = whole(picture)
child = os.fork()
if child == 0:
    os._exit(0 if torch.allclose(whole(picture), expected, atol=1e-3) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first_leaves", [True, False])
def test_runs_that_share_the_time_on_one_thread_leave_torch_its_threads(first_leaves: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    found: list[int] = []
    inside = [threading.Event() for _ in range(2)]
    leave = [threading.Event() for _ in range(2)]

    def run(number: int) -> None:
        with one_thread():
            with one_thread():
                inside[number].set()
            leave[number].wait(30)
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        assert inside[number].wait(30)
    for number in (0, 1) if first_leaves else (1, 0):
        leave[number].set()
        threads[number].join(30)
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join(30)
    torch.set_num_threads(before)
    assert found == [1, 3, 1, 3, 3]


def test_a_native_precision_is_taken_however_busy_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    native_bf16(monkeypatch)

    def held_up(precision: str) -> Tensor:
        until = time.thread_time() + 0.02 * (precision == "bf16")
        while time.thread_time() < until:
            pass
        return torch.zeros(1)

    assert choose_precision("auto", CPU, SAFE, trial()) == "bf16"
    assert choose_precision("auto", CPU, SAFE, held_up) == "bf16"


def test_a_precision_is_refused_that_is_unsafe_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    native_bf16(monkeypatch)
    assert choose_precision("auto", CPU, frozenset({"fp32"}), trial()) == "fp32"
    assert choose_precision("auto", CPU, SAFE, trial(frozenset({"bf16"}))) == "fp32"


@pytest.mark.parametrize("failure", [RuntimeError, NotImplementedError, TypeError])
def test_a_precision_that_a_device_refuses_is_not_taken(
    failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPS refuses types that it lacks with a TypeError."""
    native_bf16(monkeypatch)

    def refuses(precision: str) -> Tensor:
        raise failure("BFloat16 is not supported on this device")

    assert choose_precision("auto", CPU, SAFE, refuses) == "fp32"
    with pytest.raises(DeviceError, match="BFloat16 is not supported"):
        choose_precision("bf16", CPU, SAFE, refuses)


def test_without_the_hardware_no_trial_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_features", lambda: ("avx2", "avx512"))
    asked: list[str] = []

    def run(precision: str) -> Tensor:
        asked.append(precision)
        return torch.zeros(1)

    assert choose_precision("auto", CPU, SAFE, run) == "fp32"
    assert asked == []


@pytest.mark.parametrize(
    ("capability", "expected"), [((6, 1), ()), ((7, 0), ("fp16",)), ((7, 5), ("fp16",)), ((9, 0), ("fp16", "bf16"))]
)
def test_cuda_precisions_follow_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert capable_precisions(torch.device("cuda", 0)) == expected


def test_a_named_precision_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("bf16", CPU, SAFE, trial()) == "bf16"
    with pytest.raises(DeviceError, match="overflows"):
        choose_precision("fp16", CPU, SAFE, trial(frozenset({"fp16"})))
    with pytest.raises(DeviceError, match="there is no precision"):
        choose_precision("int4", CPU, SAFE, trial())


def test_memory_and_cores_are_plausible() -> None:
    assert 0 < available_memory(CPU) <= total_memory(CPU)
    assert usable_cores() >= 1


def test_a_control_groups_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit, less what it uses without its file cache, bounds the memory that may be taken."""
    files = {
        "/proc/self/cgroup": "0::/box\n",
        "/sys/fs/cgroup/box/memory.max": "1000000000\n",
        "/sys/fs/cgroup/box/memory.current": "900000000\n",
        "/sys/fs/cgroup/box/memory.stat": "anon 300000000\ninactive_file 500000000\nactive_file 100000000\n",
        "/proc/meminfo": "MemTotal: 99999999 kB\nMemAvailable: 88888888 kB\n",
    }
    for module in ("device", "machine"):
        monkeypatch.setattr(f"ns_video.{module}.read_text", lambda path: files.get(str(path), ""))
    assert available_memory(CPU) == 700_000_000
    assert total_memory(CPU) == 1_000_000_000


def test_snapshot_tries_every_precision() -> None:
    seen = snapshot()
    assert seen.devices[0].name == "cpu"
    assert seen.devices[0].precisions["fp32"] == "works"
    integers = {"int8"} if "avx512_vnni" in cpu_features() else set[str]()
    assert set(seen.devices[0].precisions) == {"fp32", "fp16", "bf16"} | integers
    assert seen.cores >= 1 and seen.torch


def test_a_snapshot_names_types_that_a_device_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = torch.nn.functional.conv2d

    def refuses(picture: Tensor, *others: Any, **options: Any) -> Tensor:
        if picture.dtype == torch.bfloat16:
            raise TypeError("BFloat16 is not supported on MPS")
        return convolve(picture, *others, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuses)
    seen = snapshot().devices[0].precisions
    assert seen["fp32"] == "works" and seen["bf16"] == "fails: BFloat16 is not supported on MPS"


def test_a_device_that_does_not_tell_its_memory_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: torch.device) -> int:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(device_module, "available_memory", busy)
    shown = snapshot().devices[0]
    assert shown.name == "cpu" and shown.available_bytes == 0 and shown.precisions["fp32"] == "works"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("MPS backend out of memory (MPS allocated: 1 GB)", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_want_of_memory_is_known_by_its_words(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) == expected


@pytest.mark.parametrize(
    ("text", "dead"), [("an illegal memory access was encountered", True), ("out of memory", False)]
)
def test_a_device_that_does_nothing_more_is_told_from_a_full_one(
    monkeypatch: pytest.MonkeyPatch, text: str, dead: bool
) -> None:
    check_alive(CPU, "a failure")

    def fails(_: torch.device) -> None:
        raise RuntimeError(f"CUDA error: {text}")

    monkeypatch.setattr(device_module, "synchronise", fails)
    if not dead:
        check_alive(CPU, "a failure")
        return
    with pytest.raises(DeviceError, match="no longer works: a failure") as caught:
        check_alive(CPU, "a failure")
    assert caught.value.remedy is not None and "--resume" in caught.value.remedy
