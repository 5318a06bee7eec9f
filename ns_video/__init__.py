"""Restores damaged video, stills and pipes, and gives everything else back intact.

    import ns_video

    record = ns_video.restore("in.mp4", "out.mp4", preset="video")
    enhancer = ns_video.load_model("photo", device="cpu")
    out = enhancer(rgb)  # (N, 3, H, W) float in [0, 1] -> (N, 3, scale * H, scale * W)

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
    OutputError,
    ResumeError,
    StallError,
    UsageError,
    VerificationError,
)
from ns_video.version import __version__

if TYPE_CHECKING:
    from ns_video.enhance import Enhancer
    from ns_video.enhance import load_enhancer as load_model
    from ns_video.pipeline import restore, verify
    from ns_video.record import RunRecord


__all__ = [
    "DamageError",
    "DeviceError",
    "DownstreamClosed",
    "Enhancer",
    "InputError",
    "Interrupted",
    "ModelError",
    "NsVideoError",
    "OutputError",
    "ResumeError",
    "RunRecord",
    "StallError",
    "UsageError",
    "VerificationError",
    "__version__",
    "load_model",
    "restore",
    "verify",
]

_LAZY = {
    "RunRecord": ("ns_video.record", "RunRecord"),
    "Enhancer": ("ns_video.enhance", "Enhancer"),
    "load_model": ("ns_video.enhance", "load_enhancer"),
    "restore": ("ns_video.pipeline", "restore"),
    "verify": ("ns_video.pipeline", "verify"),
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'ns_video' has no attribute {name!r}")
