"""Whether a reference shows the same pictures earlier or later as a whole, from the first thumbnails of both.

Damage outweighs one frame's motion, and coded frames lag behind where little moves, so no mean difference tells the
offset. What tells it is on which side the clip lies: of two frames of the reference, A and B, the clip's frame C has
the nearness ⟨C − B, A − B⟩ / |A − B|² to A, which is 1 at A and 0 at B whatever C's damage, as far as that has nothing
to do with A − B. The limits were chosen on 31 clips of training material, 48 frames each, coded by x264 at CRF 18 to 46
and by MPEG-2 at quantiser 20, blurred and made noisy, with references up to 30 frames earlier and later: so that no
aligned clip is shifted, hardly a shifted one wrongly, and that of clips that hardly move nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ns_video.quality.thumbnail import Cells

_LEAST_PAIRS, _FEWEST_PAIRS = 8, 4
"""Frames that an offset has to pair; of clips of fewer than 16 frames half of them, but no fewer than the second."""
_TOLD_APART = 0.1
"""Percent of full scale, root mean square, by which the reference's frames under two offsets differ at least; below,
they are the same pictures."""
_NOTICEABLE = 0.5
"""Likewise, below which the clip stands still and no offset is worth a word."""
_NEAR, _NEARER = 0.6, 0.85
"""Nearness of the clip that lets an offset win: against others, and against those that differ by less than
_NOTICEABLE."""
_NEAR_TO_WIN, _NEAR_TO_WIN_FAR, _FAR = 0.75, 0.65, 1.2
"""Likewise, against the offset that holds without proof, and against it where they differ by more than the third:
aligned clips had at most 0.73 and 0.59 there, but for one of 279, at CRF 46."""
_LEAST_FRAMES = 3.0
"""Frames that have to carry the proof, as (Σe)² / Σe² counts them; or nearly all that move have to agree."""
_MOVING, _LEAST_MOVING, _MOST = 0.14, 8, 0.9
_UNLIKE = 0.35
"""Of the spread of both that the difference of a clip and its reference has at most; 0.24 was the largest of a clip
that was blurred or made noisy, flat pictures left aside."""
_CLOSE = 2.0
"""Percent of full scale, root mean square: pictures that differ by less are the same, however flat they are."""

Errors = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FoundOffset:
    """Times are those of the reference less those of the clip, in seconds."""

    seconds: float
    is_alike: bool
    """Under this offset both show the same pictures, as far as the first frames tell."""
    doubtful_seconds: float | None = None
    """An offset that fits better than `seconds`, but not clearly enough."""


@dataclass(frozen=True, slots=True)
class _Contest:
    difference: float
    """Root mean square, in percent of full scale, of the frames that stand under one offset and under the other."""
    nearness: float
    frames: float
    """That carry it."""
    agreeing: float
    """Share of the moving frames that lie nearer; 0 where too few move."""


class _Pairings:
    """Frames of clip and reference under every offset that pairs enough of them."""

    def __init__(
        self, clip: Sequence[tuple[float, Cells]], reference: Sequence[tuple[float, Cells]], tolerance: float
    ) -> None:
        self._times = tuple(np.array([seconds for seconds, _ in side]) for side in (clip, reference))
        one, other = (np.stack([cells.ravel() for _, cells in side]) / 2.55 for side in (clip, reference))
        self._cells = (one.astype(np.float64), other.astype(np.float64))
        self._errors = _squared(*self._cells)
        self._changes = tuple(_squared(side, side) for side in self._cells)
        self._tolerance = tolerance
        shorter = min(len(clip), len(reference))
        self.least = max(_FEWEST_PAIRS, min(_LEAST_PAIRS, shorter // 2))

    def pairs(self, offset: float) -> npt.NDArray[np.intp]:
        """Of every frame of the clip the reference's under `offset`, or -1."""
        wanted, times = self._times[0] + offset, self._times[1]
        after = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(times[before] - wanted) < np.abs(times[after] - wanted), before, after)
        return np.where(np.abs(times[nearest] - wanted) <= self._tolerance, nearest, -1)

    def offsets(self) -> list[float]:
        """Ascending; those that bring one's first frame onto any of the other's and pair enough frames."""
        one, other = self._times
        found: list[float] = []
        for offset in sorted([*(other - one[0]), *(other[0] - one)]):
            is_new = not found or offset - found[-1] > self._tolerance
            if is_new and np.count_nonzero(self.pairs(offset) >= 0) >= self.least:
                found.append(float(offset))
        return found

    def exactly(self, offset: float) -> float:
        """The median of what the paired frames say: containers round their times."""
        pairs = self.pairs(offset)
        return float(np.median(self._times[1][pairs[pairs >= 0]] - self._times[0][pairs >= 0]))

    def error(self, offset: float) -> float:
        """Mean squared difference in percent of full scale; infinite where nothing pairs."""
        pairs = self.pairs(offset)
        clip = np.flatnonzero(pairs >= 0)
        return float(self._errors[clip, pairs[clip]].mean()) if clip.size else np.inf

    def is_alike(self, offset: float) -> bool:
        """Whether the paired frames show the same."""
        pairs = self.pairs(offset)
        one, other = self._cells[0][pairs >= 0], self._cells[1][pairs[pairs >= 0]]
        if not len(one):
            return False
        spread = float(one.var(1).mean() + other.var(1).mean())
        return self.error(offset) < _CLOSE**2 or float((one - other).var(1).mean()) < _UNLIKE * spread

    def contest(self, offset: float, rival: float) -> _Contest | None:
        """`offset` against `rival`, over the frames of the clip with a partner under both; None where those are few."""
        here, there = self.pairs(offset), self.pairs(rival)
        both = np.flatnonzero((here >= 0) & (there >= 0))
        if len(both) < self.least:
            return None
        here, there = here[both], there[both]
        return _contest(self._errors[both, here], self._errors[both, there], self._changes[1][here, there])

    def far_contest(self, offset: float, rival: float) -> _Contest:
        """The same over the frames of the reference: the clip's damage has a say, too."""
        found, here, there = np.intersect1d(self.pairs(offset), self.pairs(rival), return_indices=True)
        both, here, there = found[found >= 0], here[found >= 0], there[found >= 0]
        return _contest(self._errors[here, both], self._errors[there, both], self._changes[0][here, there])


def _contest(near: Errors, far: Errors, change: Errors) -> _Contest:
    """From squared differences to the frames under one offset, under the other, and of those from each other."""
    total = float(change.sum())
    if not total:
        return _Contest(0.0, 0.5, 0.0, 0.0)
    nearer = (far - near + change) / 2
    moving = change > _MOVING**2
    agreeing = float((nearer > change / 2)[moving].mean()) if np.count_nonzero(moving) >= _LEAST_MOVING else 0.0
    frames = total**2 / float((change**2).sum())
    return _Contest((total / len(change)) ** 0.5, float(nearer.sum()) / total, frames, agreeing)


def _squared(one: Errors, other: Errors) -> Errors:
    """(len(one), len(other)) mean squared differences of rows."""
    lengths = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2.0 * one @ other.T
    return np.maximum(lengths / one.shape[1], 0.0)


def find_offset(
    clip: Sequence[tuple[float, Cells]], reference: Sequence[tuple[float, Cells]], *, tolerance: float
) -> FoundOffset:
    """From (time in seconds, thumbnail) of the first frames of both; frames within `tolerance` seconds are a pair.

    0 holds until another offset is proved better; where nothing is paired then, the one that brings both beginnings
    together. The largest offsets that the frames allow are never proved: the true one may lie beyond.
    """
    if not clip or not reference or len({cells.shape for _, cells in (*clip, *reference)}) > 1:
        return FoundOffset(0.0, is_alike=False)
    pairings = _Pairings(clip, reference, tolerance)
    start = reference[0][0] - clip[0][0]
    paired = int(np.count_nonzero(pairings.pairs(0.0) >= 0))
    held = 0.0 if paired >= pairings.least else min((0.0, start), key=pairings.error)
    offsets = pairings.offsets()
    best = _best(pairings, held, offsets)
    won = pairings.contest(best, held) or pairings.far_contest(best, held)
    least_near = _NEAR_TO_WIN if won.difference < _FAR else _NEAR_TO_WIN_FAR
    is_alike = pairings.is_alike(best)
    if won.difference < _NOTICEABLE or won.nearness < least_near or not is_alike:
        return FoundOffset(pairings.exactly(held) if held else 0.0, pairings.is_alike(held))
    is_proved = (
        best not in (offsets[0], offsets[-1])
        and (won.frames >= _LEAST_FRAMES or won.agreeing >= _MOST)
        and all(_beats(pairings.contest(best, rival)) for rival in offsets if rival not in (best, held))
    )
    if is_proved:
        return FoundOffset(pairings.exactly(best), is_alike)
    return FoundOffset(pairings.exactly(held) if held else 0.0, pairings.is_alike(held), pairings.exactly(best))


def _best(pairings: _Pairings, held: float, offsets: Sequence[float]) -> float:
    """The one that fits best; of those that show the same the nearest to `held`, as in what repeats itself."""
    best = held
    for offset in sorted(offsets, key=lambda offset: abs(offset - held)):
        if pairings.error(offset) < pairings.error(best):
            contest = pairings.contest(offset, best) or pairings.far_contest(offset, best)
            if contest.difference >= _TOLD_APART and contest.nearness >= _NEAR:
                best = offset
    return best


def _beats(contest: _Contest | None) -> bool:
    if contest is None or contest.difference < _TOLD_APART:
        return True
    return contest.nearness >= (_NEARER if contest.difference < _NOTICEABLE else _NEAR)
