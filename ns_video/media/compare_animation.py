"""Animated WebP against what went in: its encoder shows a frame longer where the next changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ns_video.frame import Frame
from ns_video.media.animation import open_clip_or_animation
from ns_video.media.promise import Difference

_ANIMATION_SLACK_SECONDS = Fraction(2, 1000)
_ALIKE = 5  # of 255, by which all samples of a frame may differ that libwebp, at its usual quality, takes for no change


def compare_animation(
    expected: Sequence[Fraction],
    found: Sequence[Fraction],
    shown: Fraction = Fraction(0),
    lasts: Fraction = Fraction(0),
) -> list[Difference]:
    """Times of an animated WebP, whose encoder shows a frame longer where the next one changes nothing.

    `shown`: seconds for which the last frame is shown, for which libwebp takes the mean of the others'; `lasts`: how
    long the animation does, 0 where that isn't known.
    """
    if not found or len(found) > len(expected):
        return [Difference(f"{len(expected)} frames went in, {len(found)} decode")]
    wanted = [t - expected[0] for t in expected]
    _, strange = _unmatched(wanted, found)
    if strange:
        return [Difference(f"no frame went in at {float(strange[0]):.3f} s")]
    longest = wanted[-1] + max(shown, wanted[-1] / max(1, len(wanted) - 1)) + _ANIMATION_SLACK_SECONDS
    if lasts and not wanted[-1] - _ANIMATION_SLACK_SECONDS < lasts < longest:
        ends = f"the last frame begins at {float(wanted[-1]):.3f} s, the animation ends at {float(lasts):.3f} s"
        return [Difference(ends)]
    return []


def _unmatched(wanted: Sequence[Fraction], found: Iterable[Fraction]) -> tuple[list[int], list[Fraction]]:
    """Numbers of the wanted times that an animation doesn't have, and its times that nobody wants. All in order."""
    missing: list[int] = []
    strange: list[Fraction] = []
    place = 0
    for time in found:
        while place < len(wanted) and wanted[place] < time - _ANIMATION_SLACK_SECONDS:
            missing.append(place)
            place += 1
        if place < len(wanted) and wanted[place] <= time + _ANIMATION_SLACK_SECONDS:
            place += 1
        else:
            strange.append(time)
    return missing + list(range(place, len(wanted))), strange


def compare_missing(
    source: str | Path, expected: Sequence[Fraction], found: Sequence[Fraction], *, max_pixels: int
) -> list[Difference]:
    """Whether each frame that an animation doesn't have looks like the one that is shown instead."""
    missing = set(_unmatched([t - expected[0] for t in expected], found)[0])
    if not missing:
        return []
    lost: list[Fraction] = []
    reader, _ = open_clip_or_animation(source, max_pixels=max_pixels)
    with reader:
        instead: Frame | None = None
        for number, frame in enumerate(reader.frames()):
            if number not in missing:
                instead = frame
            elif instead is None or not _is_alike(instead, frame):
                lost.append(expected[number])
    return _missing_frames(lost)


def compare_joined(expected: Sequence[Fraction], found: Sequence[Fraction], changes: Sequence[int]) -> list[Difference]:
    """Whether each frame that an animation doesn't have changed nothing, by its `changes` from the frame before.

    Behind one that isn't there either, both may differ from what is shown instead.
    """
    missing = _unmatched([t - expected[0] for t in expected], found)[0]
    gone = set(missing)
    return _missing_frames([expected[n] for n in missing if changes[n] > _ALIKE * (2 if n - 1 in gone else 1)])


def _missing_frames(lost: Sequence[Fraction]) -> list[Difference]:
    return [Difference(f"frames missing: {len(lost)}, the first at {float(lost[0]):.3f} s")] if lost else []


def _is_alike(a: Frame, b: Frame) -> bool:
    shown = [frame.carrier.to_ndarray(format="rgba").astype(np.int16) for frame in (a, b)]
    return shown[0].shape == shown[1].shape and bool(np.abs(shown[0] - shown[1]).max() <= _ALIKE)
