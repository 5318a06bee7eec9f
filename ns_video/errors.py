"""The exception tree. Everything the package raises on purpose derives from NsVideoError.

NsVideoError                 exit 1
├── UsageError               exit 2   wrong option, preset, size, input == output, output exists
│   └── OutputBusyError      exit 2   another run is writing this output
├── InputError               exit 1   the input can't be opened or holds nothing to restore
│   ├── DamageError          exit 1   the input is damaged and --strict was given
│   └── TooLargeError        exit 1   the input has more pixels than --max-pixels
├── OutputError              exit 1   the output can't be written
│   └── DownstreamClosed     exit 141 the reader of our pipe went away (a quiet end)
├── ModelError               exit 1   a model is unknown, unsafe, damaged or of unknown architecture
│   └── UnknownModelError    exit 2   a UsageError, too: no model has this name
├── DeviceError              exit 1   a device or precision that this machine doesn't have, or that failed
│   └── UnknownDeviceError   exit 2   a UsageError, too: no device is ever called so
├── VerificationError        exit 1   the output is not what the input promised
├── ResumeError              exit 1   an unfinished run doesn't belong to this input or these options
├── StallError               exit 1   a stage stopped moving
└── Interrupted              exit 130 SIGINT or SIGTERM; what is done is playable
"""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = [
    "DamageError",
    "DeviceError",
    "DownstreamClosed",
    "InputError",
    "Interrupted",
    "ModelError",
    "NsVideoError",
    "OutputBusyError",
    "OutputError",
    "ResumeError",
    "StallError",
    "TooLargeError",
    "UnknownDeviceError",
    "UnknownModelError",
    "UsageError",
    "VerificationError",
    "first_of",
    "printable",
]


def first_of(names: Sequence[str], most: int = 12) -> str:
    """Names in one sentence: the first ones, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def printable(name: str | os.PathLike[str]) -> str:
    """A name from outside that is safe to show: control, bidirectional and undecodable characters are escaped."""
    text = os.fspath(name)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


class NsVideoError(Exception):
    """An error a user can act on.

    `message` says what failed and why, `stage` where in the run (decode, enhance, encode, ...),
    `pts_seconds` when in the clip, `remedy` what to try next.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        stage: str | None = None,
        pts_seconds: float | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.pts_seconds = pts_seconds
        self.remedy = remedy

    def __str__(self) -> str:
        where = self.stage or ""
        if self.pts_seconds is not None:
            where = f"{where} at {self.pts_seconds:.3f} s".strip()
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class UsageError(NsVideoError):
    """The command or call itself is wrong; nothing was touched."""

    exit_code = 2


class OutputBusyError(UsageError):
    """Another run is writing this output, or wrote it since this one began."""


class InputError(NsVideoError):
    """The input can't be opened, or holds nothing to restore."""


class DamageError(InputError):
    """The input is damaged and the caller asked to stop at the first damage."""


class TooLargeError(InputError):
    """The input has more pixels than --max-pixels."""


class OutputError(NsVideoError):
    """The output can't be written: permission, space, container limits."""


class DownstreamClosed(OutputError):
    """The program that read our pipe closed it. 141 is what a shell shows for SIGPIPE."""

    exit_code = 141


class ModelError(NsVideoError):
    """A model is unknown, unsafe, damaged or of an unknown architecture."""


class UnknownModelError(ModelError, UsageError):
    """No model has this name."""


class DeviceError(NsVideoError):
    """A device or precision is not there, or failed."""


class UnknownDeviceError(DeviceError, UsageError):
    """No device is ever called so."""


class VerificationError(NsVideoError):
    """The output is not what the input promised."""


class ResumeError(NsVideoError):
    """An unfinished run does not belong to this input, these options or this model."""


class StallError(NsVideoError):
    """A stage stopped moving for longer than the watchdog allows."""


class Interrupted(NsVideoError):
    """The run was interrupted; what is done is playable and resumable."""

    exit_code = 130
