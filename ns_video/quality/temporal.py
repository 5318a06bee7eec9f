"""Temporal measures on thumbnails: what changes from frame to frame though neither motion nor a fade explains it."""

from __future__ import annotations

import numpy as np

from ns_video.quality.thumbnail import Cells

SHOT_THRESHOLD = 5.0
"""Percent of full scale by which a cut exceeds the change before it; see `shot_change`."""


def mean_change(previous: Cells, current: Cells) -> float:
    """Mean absolute difference of two thumbnails in percent of full scale (libav's scdet calls it MAFD)."""
    if previous.shape != current.shape:
        return 100.0
    return float(np.abs(current - previous).mean()) * (100.0 / 255.0)


def shot_change(change: float, usual_change: float) -> float:
    """How much of a cut this is, in percent: the change itself, but no more than it exceeds the usual one.

    The rule of libav's scdet, min(MAFD, |MAFD - previous MAFD|), with the mean of the last frames instead of one:
    steady fast motion has a large change, but no jump in it.
    """
    return min(change, max(0.0, change - usual_change))


def _unexplained(source: Cells, target: Cells) -> Cells:
    """target - source for each cell, against that neighbour of the 3x3 in `source` that explains it best."""
    padded = np.pad(source, 1, mode="edge")
    rows, columns = source.shape
    shifted = np.stack([padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)])
    difference = target[None] - shifted
    best = np.abs(difference).argmin(0)
    return np.take_along_axis(difference, best[None], 0)[0]


def flicker(previous: Cells, current: Cells, following: Cells) -> float:
    """Flicker of the middle frame, in 8-bit steps, 0 for a steady picture.

    Mean over cells of the part of the change that turns back at once: min(|a|, |b|) where the changes a (into the
    frame) and b (out of it) have opposite signs, else 0. Each change is measured against the best of the 3x3
    neighbouring cells. So a pan, a fade or a light that goes on count for nothing; a pulsing picture counts whole.
    """
    if not previous.shape == current.shape == following.shape:
        return 0.0
    into, out = _unexplained(previous, current), -_unexplained(following, current)
    turned = np.where(into * out < 0, np.minimum(np.abs(into), np.abs(out)), 0.0)
    return float(turned.mean())


def change_flicker(previous_before: Cells, previous_after: Cells, before: Cells, after: Cells) -> float:
    """How unsteady a restoration is, in 8-bit steps: mean |(after - before) now - (after - before) a frame ago|.

    The content's motion is in both terms and largely cancels. 0 for a restoration that changes every frame alike.
    """
    if not previous_before.shape == previous_after.shape == before.shape == after.shape:
        return 0.0
    return float(np.abs((after - before) - (previous_after - previous_before)).mean())
