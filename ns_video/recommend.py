"""Which model suits a still: what it shows, what it was made of, and what was done to it. Floor 3."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ns_video.cells import find_pitch
from ns_video.color import to_tensor
from ns_video.errors import ModelError, UsageError
from ns_video.estimate import JpegEvidence, find_jpeg, reconcile
from ns_video.frame import Frame, Plane, QuantiserMap
from ns_video.media.pictures import rgb_of
from ns_video.quality.ns_content import NsContent
from ns_video.weights import load_descriptor

DRAWN, PHOTOGRAPHED, CODED = "anime", "photo", "newer-video"
"""What the first two gain is what `content` compares."""
_MOST_SIDE = 4096
"""px; of a larger picture its middle is looked at."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a still looks like, and the shipped model that suits it."""

    model: str
    drawn_db: float
    """dB that `anime` is expected to gain more than `photo`; below 0 where the picture looks photographed."""
    coded: QuantiserMap | None
    """What a file of a video codec (lossy WebP, AVIF) tells of its quantisers, where they lost anything."""
    jpeg: JpegEvidence | None
    """What its file, or its pixels, tell of a JPEG; None: it shows no loss by JPEG."""
    mosaic_px: int | None
    """Side of the blocks that it is made of, where it is."""
    shrunk_px: int | None
    """What it was shrunk by, where it was, and enlarged again."""


def looks_drawn(frame: Frame) -> float:
    """dB that line art's network is expected to gain more on a still than that of photographs.

    Raises ModelError where the model `content` can't be loaded.
    """
    return _judge().advantage(_seen(frame))


def blocks_of(frame: Frame) -> int | None:
    """Side in px of the blocks that a still is made of; None where it isn't made of any."""
    return find_pitch(_seen(frame)[0].mean(0), "mosaic")


def recommend(frame: Frame) -> Recommendation:
    """The shipped model for a still of `read_still`. Raises ModelError where the model `content` can't be loaded."""
    seen = _seen(frame)
    drawn, luma = _judge().advantage(seen), seen[0].mean(0)
    mosaic, shrunk = find_pitch(luma, "mosaic"), find_pitch(luma, "shrunk")
    told = None if frame.jpeg is None else JpegEvidence(frame.jpeg)
    jpeg = reconcile(told, find_jpeg(rgb_of(frame)))
    coded = None if frame.quantiser is None or frame.quantiser.is_lossless else frame.quantiser
    by_look = CODED if coded is not None else DRAWN if drawn > 0 else PHOTOGRAPHED
    model = "mosaic" if mosaic else "deblur" if shrunk else by_look
    return Recommendation(model, drawn, coded, jpeg, mosaic, shrunk)


def classes_of(frame: Frame, classifier: str | Path, labels: Path) -> list[tuple[str, float]]:
    """(class, probability) of a still by an NS-C network, the likeliest first.

    Raises:
        ModelError: either file can't be read, or they name different numbers of classes.
        UsageError: `classifier` holds another kind of network.
    """
    from ns_video.networks.ns_c import NsC, read_labels  # torchvision takes a second to import

    network, names = load_descriptor(str(classifier)).network, read_labels(labels)
    if not isinstance(network, NsC):
        raise UsageError(f"{classifier} is no NS-C", remedy="give the weights of a classifier")
    if len(names) != network.config.classes:
        raise ModelError(f"{labels} names {len(names)} classes, {classifier} tells {network.config.classes} apart")
    with torch.inference_mode():
        shares: Sequence[float] = network.probabilities(_seen(frame))[0].tolist()
    return sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1])


def _seen(frame: Frame) -> Tensor:
    """(1, 3, H, W) RGB in [0, 1] of a still, of a large one its middle, cut on the codec's grid."""
    height, width = frame.planes[0].shape
    top, left = (max(0, side - _MOST_SIDE) // 2 // 16 * 16 for side in (height, width))
    part = (slice(top, top + _MOST_SIDE), slice(left, left + _MOST_SIDE))
    planes = [np.ascontiguousarray(plane[part]) for plane in frame.planes]
    return to_tensor(cast("list[Plane]", planes), frame.format, frame.color, "rgb")


@functools.cache
def _judge() -> NsContent:
    network = load_descriptor("content").network
    if not isinstance(network, NsContent):
        raise ModelError("the model 'content' is no ns_content")
    return network
