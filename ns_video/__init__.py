"""Restores damaged video, stills and pipes, and gives everything else back intact.

    import ns_video

    record = ns_video.restore("in.mp4", "out.mp4", preset="video")
    enhancer = ns_video.load_model("photo", device="cpu")
    out = enhancer(rgb)  # (N, 3, H, W) float in [0, 1] -> (N, 3, scale * H, scale * W)

`restore` takes the fields of RestoreOptions, `load_model` those of EnhanceOptions. `restore_steps` is `restore` as a
generator of Progress, `verify` gives a list of Difference.
Heavy modules are imported on first use, so `import ns_video` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ns_video.errors import (
    DamageError,
    DeviceError,
    DownstreamClosed,
    InputError,
    Interrupted,
    ModelError,
    NsVideoError,
    OutputBusyError,
    OutputError,
    ResumeError,
    StallError,
    TooLargeError,
    UnknownDeviceError,
    UnknownModelError,
    UsageError,
    VerificationError,
)
from ns_video.version import __version__

if TYPE_CHECKING:
    from ns_video.enhance import EnhanceOptions, Enhancer
    from ns_video.enhance import load_enhancer as load_model
    from ns_video.media.promise import Difference
    from ns_video.pipeline import Progress, RestoreOptions, restore, restore_steps, verify
    from ns_video.record import RunRecord


__all__ = [
    "DamageError",
    "DeviceError",
    "Difference",
    "DownstreamClosed",
    "EnhanceOptions",
    "Enhancer",
    "InputError",
    "Interrupted",
    "ModelError",
    "NsVideoError",
    "OutputBusyError",
    "OutputError",
    "Progress",
    "RestoreOptions",
    "ResumeError",
    "RunRecord",
    "StallError",
    "TooLargeError",
    "UnknownDeviceError",
    "UnknownModelError",
    "UsageError",
    "VerificationError",
    "__version__",
    "load_model",
    "restore",
    "restore_steps",
    "verify",
]

_LAZY = {
    "RunRecord": ("ns_video.record", "RunRecord"),
    "Difference": ("ns_video.media.promise", "Difference"),
    "EnhanceOptions": ("ns_video.enhance", "EnhanceOptions"),
    "Enhancer": ("ns_video.enhance", "Enhancer"),
    "load_model": ("ns_video.enhance", "load_enhancer"),
    "Progress": ("ns_video.pipeline", "Progress"),
    "RestoreOptions": ("ns_video.pipeline", "RestoreOptions"),
    "restore": ("ns_video.pipeline", "restore"),
    "restore_steps": ("ns_video.pipeline", "restore_steps"),
    "verify": ("ns_video.pipeline", "verify"),
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'ns_video' has no attribute {name!r}")
