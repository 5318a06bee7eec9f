"""What this machine can do: devices, precisions that work, memory, threads. Floor 3.

Precision is decided by what the hardware says it has and by a trial of whether it works, never by a device's name or
a stopwatch: the same machine chooses the same, however busy it is.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ns_video.errors import DeviceError
from ns_video.machine import check_device_name, control_groups, read_text, usable_cores
from ns_video.networks.int8 import Int8Conv

logger = logging.getLogger("ns_video")

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
INT8 = "int8"
"""Blocks of ns-restore in 8-bit integers on a CPU (`ns_video.networks.int8`), all else as `dtype_of` says. Where it, or
speed, is asked for."""

FAILURES = (RuntimeError, TypeError)
"""What PyTorch raises where a device can't compute something; MPS refuses types that it lacks with a TypeError."""
_TENSOR_CORES = (7, 0)  # CUDA compute capability that brought them
_BF16_CUDA = (8, 0)
_RUNS = 3  # of a measurement that `doctor` shows; the best one counts
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate",
    "cannot allocate",
    "alloc_cpu",
    "alloc_failed",
    "storage size calculation overflowed",
)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """One device of this machine."""

    name: str
    """As `--device` takes it."""
    title: str
    memory_bytes: int
    available_bytes: int
    precisions: dict[str, str]
    """Precision → "works, 2.1 × fp32" or why it doesn't."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `ns-video doctor` shows of the machine, without the codecs."""

    system: str
    python: str
    torch: str
    cores: int
    cpu_features: tuple[str, ...]
    devices: tuple[DeviceReport, ...]
    chosen: str


def pick_device(name: str = "auto") -> torch.device:
    """The device that `--device` names; `auto` is CUDA, then Apple's MPS, then the CPU.

    Raises DeviceError where this machine doesn't have it, UnknownDeviceError where no machine does.
    """
    _outlast_forks()
    if name == "auto":
        if torch.cuda.is_available():
            _check_fork()
            return torch.device("cuda", 0)
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    check_device_name(name)
    kind, _, number = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            found = f"{count} CUDA device{'' if count == 1 else 's'}"
            raise DeviceError(f"{name} is not there: this machine has {found}", remedy="use --device auto or cpu")
        _check_fork()
        return torch.device("cuda", int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("mps is not there: this is not an Apple GPU", remedy="use --device auto or cpu")
    return torch.device(kind)


def pick_devices(name: str = "auto") -> tuple[torch.device, ...]:
    """The devices that `--device` names: `cuda:0,cuda:1`, each once, or all of CUDA's for `cuda`; else `pick_device`.

    Raises DeviceError where this machine doesn't have one, or they are of different kinds.
    """
    if name == "cuda" and torch.cuda.is_available():
        return tuple(pick_device(f"cuda:{index}") for index in range(torch.cuda.device_count()))
    devices = tuple(dict.fromkeys(pick_device(part.strip()) for part in name.split(",")))
    if len({device.type for device in devices}) > 1:
        raise DeviceError(f"{name} are devices of different kinds", remedy="name GPUs only: cuda:0,cuda:1")
    return devices


def kinds_of(devices: Sequence[torch.device]) -> str:
    """What they are: "cpu", "mps" or the names of GPUs, whose arithmetic differs; one where all are alike."""
    names = [torch.cuda.get_device_name(device) if device.type == "cuda" else device.type for device in devices]
    return ", ".join(names if len(set(names)) > 1 else names[:1])


def cpu_features() -> tuple[str, ...]:
    """The instruction sets that matter here, out of avx2, avx512, avx512_vnni, avx512_bf16, amx_bf16."""
    cpu = torch.cpu
    checks: list[tuple[str, str]] = [
        ("avx2", "_is_avx2_supported"),
        ("avx512", "_is_avx512_supported"),
        ("avx512_vnni", "_is_vnni_supported"),
        ("avx512_bf16", "_is_avx512_bf16_supported"),
        ("amx_bf16", "_is_amx_tile_supported"),
    ]
    found: list[str] = []
    for name, attribute in checks:
        check: Callable[[], bool] | None = getattr(cpu, attribute, None)
        if check is not None and check():
            found.append(name)
    return tuple(found)


def capable_precisions(device: torch.device) -> tuple[str, ...]:
    """Precisions below fp32 that the hardware computes natively and therefore faster, best first (docs/speed.md)."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= _BF16_CUDA:
            return ("fp16", "bf16")
        return ("fp16",) if capability >= _TENSOR_CORES else ()
    if device.type == "mps":
        return ("fp16",)
    features = cpu_features()
    return ("bf16",) if "avx512_bf16" in features or "amx_bf16" in features else ()


def dtype_of(precision: str) -> torch.dtype:
    """What layers are computed in; with int8 those that stay in floating point."""
    if precision != INT8:
        return PRECISIONS[precision]
    return torch.bfloat16 if "bf16" in capable_precisions(torch.device("cpu")) else torch.float32


def choose_precision(
    requested: str,
    device: torch.device,
    safe: frozenset[str],
    trial: Callable[[str], Tensor],
    *,
    integers: bool = False,
) -> str:
    """The precision to run in: fp32, fp16, bf16 or int8.

    `trial(precision)` runs a small forward pass and returns its result. `auto` takes the first of the device's
    native precisions that the network is known to stand (`safe`) and whose trial succeeds with finite values; with
    `integers` int8 comes first, where the device computes it.
    A named precision is tried too. Raises DeviceError where that one fails or is unknown.
    """
    if requested == "fp32":
        return requested
    if requested != "auto":
        if requested not in (*PRECISIONS, INT8):
            raise DeviceError(f"there is no precision {requested!r}", remedy="use auto, fp32, fp16, bf16 or int8")
        if requested == INT8:
            _check_int8(device, safe)
        try:
            works = bool(torch.isfinite(trial(requested)).all())
        except FAILURES as error:
            raise DeviceError(
                f"{requested} does not work on {device}: {error}", remedy="use --precision auto"
            ) from error
        if not works:
            raise DeviceError(f"{requested} overflows on {device} with this network", remedy="use --precision auto")
        return requested
    first = (INT8,) if integers and _computes_int8(device) else ()
    for candidate in (*first, *capable_precisions(device)):
        if candidate not in safe:
            continue
        try:
            if bool(torch.isfinite(trial(candidate)).all()):
                return candidate
            logger.info("%s overflows on %s", candidate, device)
        except FAILURES as error:
            logger.info("%s does not work on %s: %s", candidate, device, error)
    return "fp32"


def _computes_int8(device: torch.device) -> bool:
    return device.type == "cpu" and "avx512_vnni" in cpu_features()


def _check_int8(device: torch.device, safe: frozenset[str]) -> None:
    why = ""
    if not _computes_int8(device):
        why = f"int8 does not work on {device}: it is for processors with AVX512-VNNI"
    elif INT8 not in safe:
        why = "this model can't be computed in int8: its file doesn't tell the ranges of what its layers see"
    if why:
        raise DeviceError(why, remedy="use --precision auto")


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device; on the CPU within the control group's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    return min(_system_memory()[1], _group_headroom())


def total_memory(device: torch.device) -> int:
    """Bytes of memory the device has; on the CPU within the control group's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    limits = [limit for limit, _ in _group_limits()]
    return min([_system_memory()[0], *limits])


def snapshot() -> Snapshot:
    """Looks at every device and tries every precision on it; takes a second or two."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return Snapshot(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        cores=usable_cores(),
        cpu_features=cpu_features(),
        devices=tuple(_report(name) for name in names),
        chosen=str(pick_device("auto")),
    )


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def beside(device: torch.device) -> Generator[None]:
    """On CUDA the work begun within has its own stream: a host that waits for it doesn't wait for frames in flight.

    What is begun afterwards finds it done. Tensors that were made outside are not to be used within.
    """
    if device.type != "cuda":
        yield
        return
    stream = _stream_beside(device)
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


@cache
def _stream_beside(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, had too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Gives back what PyTorch keeps of a GPU's memory for later."""
    with suppress(RuntimeError):  # a device that failed: what is tried next will say so
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elif device.type == "mps":
            torch.mps.empty_cache()


_counting = threading.Lock()
_in_one_thread: list[int] = []  # the threads inside `one_thread`
_threads_before = [1]  # those of torch before the first one came


@contextmanager
def one_thread() -> Generator[None]:
    """torch on one CPU thread inside, and afterwards on as many as before the first of those that overlap.

    What is made of thousands of small operations, such as scores, is slow on a busy machine otherwise: two threads wait
    for each other at every one of them (measured with five times as many processes as cores: 1.0 s a view with two
    threads, 0.05 s with one). torch keeps the number both for the thread that sets it and for those that come later:
    one that first asks it for something meanwhile stays on one thread.
    """
    thread = threading.get_ident()
    with _counting:
        before = torch.get_num_threads()  # which a thread has to ask first: torch sets it then, to the last one set
        if not _in_one_thread:
            _threads_before[0] = before
        _in_one_thread.append(thread)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _counting:
            _in_one_thread.remove(thread)
            if thread not in _in_one_thread:
                torch.set_num_threads(_threads_before[0])


def check_alive(device: torch.device, failure: str) -> None:
    """Raises DeviceError where the device does nothing more after a failure: some errors of CUDA end all use of it."""
    try:
        torch.zeros(1, device=device).add_(1.0)
        synchronise(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise DeviceError(
                f"{device} no longer works: {failure}", stage="enhance", remedy="run again with --resume to go on"
            ) from error


@cache
def _outlast_forks() -> None:
    """A forked child has no other thread: OpenMP would wait there forever for those that it had. So it uses none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _check_fork() -> None:
    """Raises DeviceError in a forked child of a process that used CUDA."""
    in_bad_fork: Callable[[], bool] | None = getattr(torch.cuda, "_is_in_bad_fork", None)
    if in_bad_fork is not None and in_bad_fork():
        raise DeviceError(
            "CUDA does not outlast a fork, and was used before this one",
            remedy="start processes with multiprocessing.get_context('spawn'), or use the device cpu",
        )


def _best_time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the quickest of some runs; on the CPU of one thread's own time, which other work doesn't blur."""
    on_cpu = device.type == "cpu"
    clock = time.thread_time if on_cpu else time.perf_counter
    best = float("inf")
    with one_thread() if on_cpu else nullcontext():
        for _ in range(_RUNS):
            synchronise(device)
            began = clock()
            run()
            synchronise(device)
            best = min(best, clock() - began)
    return best


def _report(name: str) -> DeviceReport:
    device = torch.device(name)
    title = _cpu_title() if name == "cpu" else name
    total = available = 0
    precisions: dict[str, str] = {}
    reference = 0.0
    try:
        title = torch.cuda.get_device_name(device) if device.type == "cuda" else title
        total, available = total_memory(device), available_memory(device)
    except RuntimeError as error:
        logger.info("%s doesn't tell its memory: %s", name, error)
    for precision, dtype in PRECISIONS.items():
        try:
            weight = torch.randn(64, 64, 3, 3).to(device, dtype).to(memory_format=torch.channels_last)
            picture = torch.randn(1, 64, 128, 128).to(device, dtype).to(memory_format=torch.channels_last)

            def convolve(picture: Tensor = picture, weight: Tensor = weight) -> Tensor:
                with torch.inference_mode():
                    return torch.nn.functional.conv2d(picture, weight, padding=1)

            if not bool(torch.isfinite(convolve().float()).all()):
                precisions[precision] = "gives no finite values"
                continue
            taken = _best_time(convolve, device)
        except FAILURES as error:
            precisions[precision] = f"fails: {str(error).splitlines()[0]}"
            continue
        if precision == "fp32":
            reference = taken
            precisions[precision] = "works"
        else:
            precisions[precision] = f"works, {reference / taken:.1f} x the speed of fp32"
    if _computes_int8(device):
        precisions[INT8] = _int8_verdict(device, reference)
    return DeviceReport(name, title, total, available, precisions)


def _int8_verdict(device: torch.device, reference: float) -> str:
    try:
        convolution = Int8Conv(torch.nn.Conv2d(64, 64, 3, padding=1), 0.01, 0)
        picture = torch.zeros(1, 64, 128, 128, dtype=torch.uint8).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            taken = _best_time(lambda: convolution(picture, 0.01, torch.uint8, "relu"), device)
    except FAILURES as error:
        return f"fails: {str(error).splitlines()[0]}"
    return f"works, {reference / taken:.1f} x the speed of fp32"


def _cpu_title() -> str:
    for line in read_text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read_words(path: Path) -> list[str]:
    return read_text(path).split()


def _system_memory() -> tuple[int, int]:
    """(total, available) bytes of the system's memory."""
    fields: dict[str, int] = {}
    for line in read_text(Path("/proc/meminfo")).splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            fields[key] = int(words[0]) * 1024
    if "MemTotal" in fields:
        return fields["MemTotal"], fields.get("MemAvailable", fields["MemTotal"] // 2)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total // 2
    return _windows_memory()


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong),
            ("rest", ctypes.c_ulonglong * 5),
        )

    assumed = 4 << 30
    library = getattr(ctypes, "windll", None)
    if library is None:
        return assumed, assumed // 2
    status = Status()
    status.length = ctypes.sizeof(Status)
    if not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return assumed, assumed // 2
    return int(status.total), int(status.available)


def _group_limits() -> list[tuple[int, int]]:
    """(limit, in use without file cache) bytes of every limited control group above this process, v2 and v1."""
    found: list[tuple[int, int]] = []
    for group, version in control_groups("memory"):
        names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
        limit, use = (_read_words(group / f"memory.{name}") for name in names)
        if limit and limit[0].isdigit() and int(limit[0]) < 1 << 60:
            used = int(use[0]) if use and use[0].isdigit() else 0
            found.append((int(limit[0]), max(0, used - _file_cache(group / "memory.stat"))))
    return found


def _file_cache(path: Path) -> int:
    """Bytes of file cache of a control group: counted as used, but given up on demand."""
    total = 0
    for line in read_text(path).splitlines():
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "active_file") and value.isdigit():
            total += int(value)
    return total


def _group_headroom() -> int:
    return min((max(0, limit - use) for limit, use in _group_limits()), default=1 << 62)
