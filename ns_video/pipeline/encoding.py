"""What encoders answer: packets, or an error and what it means."""

from __future__ import annotations

import errno
from typing import Any

from ns_video.errors import NsVideoError, OutputError, UsageError
from ns_video.frame import Frame
from ns_video.media.encode import ENCODER_ERRORS, FrameEncoder
from ns_video.media.libav import EXTERNAL_ERROR
from ns_video.media.video_plan import VideoPlan

__all__ = ["REFUSED", "packets_of"]

_UNFIT = (errno.EINVAL, errno.EOPNOTSUPP)  # what it answers to pictures of a size, rate or pixel format it can't code
REFUSED = (errno.EINVAL, errno.EOPNOTSUPP, EXTERNAL_ERROR)  # what an encoder answers that can't be opened so


def packets_of(encoder: FrameEncoder, frame: Frame | None, *, wished: bool = False) -> list[Any]:
    """Packets that `frame` completes, None: all that are left. Raises OutputError.

    `wished`: the user set up this encoder and it has not worked yet, so it may be a UsageError.
    """
    try:
        return encoder.flush() if frame is None else encoder.encode(frame)
    except ENCODER_ERRORS as error:
        raise _encoder_failure(error, frame, encoder, wished=wished) from error


def _encoder_failure(error: Exception, frame: Frame | None, encoder: FrameEncoder, *, wished: bool) -> NsVideoError:
    """What an encoder's error means; `wished`: at its first frame, after the user set it up."""
    if wished and getattr(error, "errno", None) in REFUSED:
        return UsageError(_refusal(error, encoder.plan), remedy="change --encoder-option or --pix-fmt")
    if not encoder.is_open and getattr(error, "errno", None) in _UNFIT:
        return UsageError(
            f"the encoder {encoder.plan.codec} doesn't take such pictures: {encoder.plan.shown}",
            remedy="choose another --codec, --pix-fmt or container",
        )
    seconds = None if frame is None else frame.pts_seconds
    return OutputError(f"the encoder failed: {error}", stage="encode", pts_seconds=seconds)


def _refusal(error: Exception, plan: VideoPlan) -> str:
    """What was asked of an encoder that could not be opened, and what it said."""
    options = dict(plan.options)
    given = ", ".join(f"{name}={options[name]}" for name in plan.wished if name in options)
    said = getattr(error, "strerror", None) or str(error)
    return f"the encoder refuses these options: {plan.codec} as {plan.pix_fmt}{given and f' with {given}'}: {said}"
