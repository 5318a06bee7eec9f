"""Checkpoints of all trainings: written whole or not at all, between steps, and never over another training's."""

from __future__ import annotations

import io
import itertools
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import torch

from ns_video.errors import ModelError, ResumeError, UsageError
from ns_video.journal import write_whole

CHECKPOINT = "checkpoint.pt"
"""Its name in the output folder."""
_UNFINISHED = re.compile(r"\.ns-video-[0-9a-f]{16}")
_INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has all


def diverged(sign: str) -> ModelError:
    """The error of a training that no further step will mend, and how it shows."""
    return ModelError(
        f"the training diverged: {sign}", remedy="lower its rate; the last checkpoint from before is kept"
    )


def check_output(checkpoint: Path, model: Path, *, resume: bool) -> None:
    """What a training finds where it is going to write. Halves of checkpoints that a kill left there are removed.

    Raises:
        ResumeError: there is nothing to resume; UsageError: a new training would overwrite an old one's results.
    """
    if resume and not checkpoint.exists():
        raise ResumeError(f"there is no checkpoint {checkpoint}", remedy="train without --resume")
    if not resume and checkpoint.exists():
        raise UsageError(f"{checkpoint} is there already", remedy="add --resume, or choose another output")
    if not resume and model.exists():
        raise UsageError(f"{model} is there already", remedy="choose another output")
    for path in checkpoint.parent.glob(".ns-video-*"):
        if _is_unfinished(path):
            path.unlink(missing_ok=True)


def _is_unfinished(path: Path) -> bool:
    """Whether it is a checkpoint that a training was writing when it was killed (`write_whole`)."""
    if not _UNFINISHED.fullmatch(path.name) or not path.is_file() or path.is_symlink():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:  # another process of the training was quicker
        return False
    return head.startswith(b"PK\3\4") and b"archive/data.pkl" in head  # as `torch.save` begins


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all.

    Raises:
        OutputError; ModelError: a weight is not finite. The checkpoint of before stays then.
    """
    for key, tensor in itertools.chain(*(content.get(name, {}).items() for name in ("network", "averaged"))):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise diverged(f"'{key}' is not finite")
    data = io.BytesIO()
    torch.save(content, data)  # into a file, a full disk would be an error of torch's own
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data.getvalue(), stage="train")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote, on the CPU: the networks and optimizers that take it have their own device.

    Raises:
        ResumeError: it is damaged or not there.
    """
    try:
        with path.open("rb") as file:
            data = io.BytesIO(file.read())
    except OSError as error:
        raise ResumeError(f"{path} can't be read: {error.strerror}") from error
    try:
        content: object = torch.load(data, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError("no table")
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise ResumeError(
            f"{path} is damaged, or no checkpoint", remedy="remove it to begin anew, or choose another output"
        ) from error
    return cast("dict[str, Any]", content)


def take_up(path: Path, training: str, load: Callable[[dict[str, Any]], None]) -> None:
    """Reads a checkpoint into the training that it is of: `training` says what must be equal.

    Raises:
        ResumeError: it is damaged, not there, or another training's.
    """
    content = read_checkpoint(path)
    if content.get("training", training) != training:  # those from before 0.6.0 don't tell
        raise ResumeError(f"{path} belongs to another configuration", remedy="choose another output")
    try:
        load(content)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ResumeError(f"{path} doesn't fit this training: {error}") from error


class WholeSteps:
    """`with` around each step: Ctrl-C, SIGTERM and SIGHUP wait for the step's end, so that a checkpoint is never that
    of half a step.

    A second one doesn't wait.
    """

    def __init__(self) -> None:
        self.whole = True
        """False once a step was cut short: the state is then that of no step."""
        self._asked: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> None:
        self._asked = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # signals reach no other
            numbers = [getattr(signal, name) for name in _INTERRUPTS if hasattr(signal, name)]
            handlers = {number: signal.getsignal(number) for number in numbers}
            # what isn't Python's is left where it is: a default, and what nohup ignores
            self._before = {number: handler for number, handler in handlers.items() if callable(handler)}
        for number in self._before:
            signal.signal(number, self._ask)
        self.whole = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.whole = kind is None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asked is not None and self.whole:
            signal.raise_signal(self._asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            self._before[number](number, frame)
        self._asked = number
