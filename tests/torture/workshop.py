"""Runs of the real command line in processes of their own, cheap enough for thousands of them.

A server process imports everything once and forks for each run, so that a run is a real process with its own signals,
limits, exit code and memory, without two seconds of imports before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

HANG_SECONDS = 60.0
"""A run over a clip of a few frames that isn't done by then hangs."""
ADDRESS_SPACE_GROWTH = 2 << 30
"""Bytes of address space that a run may map beyond what the imports take."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    code: int | None
    """Exit code; None where a signal ended it."""
    signal: int
    """The signal that ended it, 0 for none."""
    hung: bool
    """It was still running at the limit and was killed by the watcher."""
    seconds: float
    peak_memory: int
    """Peak resident bytes, imports included."""
    stdout: bytes
    stderr: str

    @property
    def traceback(self) -> bool:
        """A user saw a Python traceback, or an error that nobody translated."""
        return "Traceback" in self.stderr or "error: internal" in self.stderr

    @property
    def error_lines(self) -> list[str]:
        """Lines of stderr that begin with `error:`."""
        return [line for line in self.stderr.splitlines() if line.startswith("error:")]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take. None: no limit."""

    address_space_growth: int | None = ADDRESS_SPACE_GROWTH
    file_bytes: int | None = None
    open_files: int | None = None
    processor_seconds: int | None = None


@dataclass(slots=True)
class Run:
    """A run in progress."""

    pid: int
    began: float
    folder: Path
    tag: str
    workshop: Workshop = field(repr=False)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; harmless when the run has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    def wait(self, seconds: float = HANG_SECONDS) -> Outcome:
        """Wait for the end; past `seconds` the run is killed and counts as hung."""
        answer = self.workshop.ask({"op": "wait", "pid": self.pid, "seconds": seconds})
        status, hung = int(answer["status"]), bool(answer["hung"])
        out, err = self.folder / f"{self.tag}.out", self.folder / f"{self.tag}.err"
        outcome = Outcome(
            code=os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            hung=hung,
            seconds=time.monotonic() - self.began,
            peak_memory=int(answer["peak_memory"]),
            stdout=out.read_bytes() if out.exists() else b"",
            stderr=err.read_text("utf-8", "replace") if err.exists() else "",
        )
        out.unlink(missing_ok=True)
        err.unlink(missing_ok=True)
        return outcome


class Workshop:
    """The server. Use as a context manager; `folder` holds the output of runs until it is read."""

    def __init__(self, folder: Path, *, nice: int = 0) -> None:
        self.folder = folder
        self._number = 0
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        root = Path(__file__).resolve().parents[2]
        environment["PYTHONPATH"] = os.pathsep.join([str(root), environment.get("PYTHONPATH", "")])
        command = [sys.executable, str(Path(__file__).resolve())]
        self._server = subprocess.Popen(
            ["nice", "-n", str(nice), *command] if nice else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.baseline = int(self.ask({"op": "hello"})["resident"])

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:  # nothing runs in it any more; a busy machine is slow to unload it
            self._server.kill()
            self._server.wait()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request and its answer."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError("the workshop's server ended")
        return json.loads(answer)

    def start(
        self,
        *arguments: str | Path,
        stdin: str | Path | None = None,
        stdout: str | Path | None = None,
        cwd: Path | None = None,
        limits: Limits | None = None,
        tunings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Start `ns-video *arguments`.

        `stdin` and `stdout` name files or named pipes (default: nothing, and a file that `wait` reads). `tunings` are
        those of `_tune`: smaller segments, delays and faults at named places.
        """
        self._number += 1
        tag = f"run-{os.getpid()}-{self._number}"
        request = {
            "op": "start",
            "arguments": [os.fsencode(a).hex() for a in arguments],
            "stdin": None if stdin is None else str(stdin),
            "stdout": str(stdout) if stdout is not None else str(self.folder / f"{tag}.out"),
            "stderr": str(self.folder / f"{tag}.err"),
            "cwd": str(cwd or self.folder),
            "limits": {name: getattr(limits or Limits(), name) for name in Limits.__slots__},
            "tunings": dict(tunings or {}),
            "environment": dict(environment or {}),
        }
        began = time.monotonic()
        pid = int(self.ask(request)["pid"])
        return Run(pid, began, self.folder, tag, self)

    def count(self, path: Path) -> int | None:
        """Frames that a plain decoding loop finds in a file; None where libav crashes or hangs on it."""
        return self.ask({"op": "count", "path": str(path)})["frames"]

    def run(self, *arguments: str | Path, seconds: float = HANG_SECONDS, **settings: Any) -> Outcome:
        """`start` and `wait`."""
        return self.start(*arguments, **settings).wait(seconds)

    def restore(self, *arguments: str | Path, seconds: float = HANG_SECONDS, **settings: Any) -> Outcome:
        """`ns-video restore --model identity`, waited for."""
        return self.run("restore", "--model", "identity", *arguments, seconds=seconds, **settings)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


def _limit(limits: Mapping[str, int | None]) -> None:
    growth = limits["address_space_growth"]
    kinds = {
        resource.RLIMIT_AS: None if growth is None else _address_space() + growth,
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CPU: limits["processor_seconds"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in kinds.items():
        if value is not None:
            resource.setrlimit(kind, (value, value))


def _tune(tunings: Mapping[str, Any]) -> None:
    """Places where a run can be made slow, small or broken."""
    from torture.faults import inject

    inject(tunings)


def _child(request: Mapping[str, Any]) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start: EFBIG instead of a signal
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    ends = [
        (request["stdin"] or os.devnull, os.O_RDONLY, 0),
        (request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 1),
        (request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 2),
    ]
    for name, flags, place in ends:
        handle = os.open(name, flags, 0o600)
        if handle != place:
            os.dup2(handle, place)
            os.close(handle)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the run's own standard input
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["ns-video", *[os.fsdecode(bytes.fromhex(a)) for a in request["arguments"]]]
    _limit(request["limits"])
    _tune(request["tunings"])
    from ns_video.cli import main

    main()


def _wait(request: Mapping[str, Any]) -> dict[str, Any]:
    pid, until = int(request["pid"]), time.monotonic() + float(request["seconds"])
    hung, pause = False, 0.002
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() >= until:
            hung = True
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            break
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return {"status": status, "hung": hung, "peak_memory": usage.ru_maxrss * 1024}


def _count(path: Path) -> int | None:
    """What `clips.decodable_frames` says, in a process of its own; None where that didn't live."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            from torture.clips import decodable_frames

            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(20)
            os.write(writing, str(decodable_frames(path)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return int(text) if text else None


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    for name in ("restore", "batch", "verify", "report", "models"):
        __import__(f"ns_video.cli.{name}")
    for name in (
        "ns_video.pipeline",
        "ns_video.enhance",
        "ns_video.weights.load",
        "ns_video.media.animation",
        "ns_video.media.still",
        "torture.faults",
        "PIL.PngImagePlugin",
    ):
        __import__(name)
    from PIL import Image

    Image.init()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "start":
            pid = os.fork()
            if pid == 0:
                try:
                    _child(request)
                except BaseException:
                    import traceback

                    traceback.print_exc()
                    sys.stderr.flush()
                finally:
                    os._exit(70)
            answer: dict[str, Any] = {"pid": pid}
        elif request["op"] == "wait":
            answer = _wait(request)
        elif request["op"] == "count":
            answer = {"frames": _count(Path(request["path"]))}
        else:
            answer = {"resident": _resident()}
        replies.write(json.dumps(answer) + "\n")
        replies.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve()
