"""The pictures of a report: chosen frames, packed small, and what differs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ns_video.color import to_tensor
from ns_video.frame import Frame
from ns_video.media.pictures import Rgb
from ns_video.media.report_pictures import fitted, resized_to, square_pixels, upright, webp
from ns_video.quality.difference import difference_map, heat, mse, psnr
from ns_video.quality.edges import compare_edges, sobel
from ns_video.quality.hashes import HashSimilarity, hash_similarity
from ns_video.quality.histograms import (
    ColorStatistics,
    Histograms,
    color_statistics,
    histogram_correlation,
    histograms,
)
from ns_video.quality.tone import is_hdr, to_sdr
from ns_video.score import ScoredSample

LONGEST = 1280
"""Longer side of a shown picture in px."""
_MAP_LONGEST = 640
TOTAL_BYTES = 3_000_000
"""All pictures of a report together, before base64 (which adds a third): the file stays under 5 MB."""
_QUALITIES = (92, 80, 60)
_LEAST_SIDE = 160
_STRETCHED = 0.02
"""Change of width / height that is no rounding."""
_EDGE_LOST, _EDGE_GAINED, _EDGE_COMMON = (230, 90, 70), (70, 150, 240), (225, 225, 225)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A frame to be shown, and why."""

    why: str
    scored: ScoredSample


@dataclass(frozen=True, slots=True)
class PairFigures:
    """How the 8-bit RGB of a frame before and after differs."""

    mse: float
    psnr: float
    """dB, infinite for equal pictures."""
    mean_difference: float
    largest_difference: float
    edges_kept: float
    """Percent."""
    histogram_correlation: float
    hashes: HashSimilarity


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame as the page shows it; its pictures are WebP files. `histograms` and `colors` have one element a side."""

    why: str
    index: int
    pts_seconds: float | None
    height: int
    width: int
    source_size: str
    """Width × height of the frame as it came."""
    before: float
    after: float | None
    """Scores."""
    histograms: tuple[Histograms, ...]
    colors: tuple[ColorStatistics, ...]
    first: bytes
    edges: bytes
    second: bytes | None
    heat: bytes | None
    """What differs."""
    pair: PairFigures | None


def choose(scored: Sequence[ScoredSample], most: int) -> list[Chosen]:
    """The frames worth a look: lowest scores, largest gains, a loss if there is one; at most `most`, each once."""
    wanted: list[Chosen] = []
    is_pair = any(item.after is not None for item in scored)
    by_score = sorted(scored, key=lambda item: item.before if item.after is None else item.after)
    by_gain = sorted(scored, key=lambda item: item.gain, reverse=True)
    losses = [item for item in reversed(by_gain) if item.gain < -1.0]
    wanted += [Chosen("worse than before", item) for item in losses[:1]]
    for rank in range(3):
        if is_pair and rank < len(by_gain) and by_gain[rank].gain > 0:
            wanted.append(Chosen("most improved" if rank == 0 else "much improved", by_gain[rank]))
        if rank < len(by_score):
            wanted.append(Chosen("lowest score" if rank == 0 else "low score", by_score[rank]))
    if not is_pair and len(by_score) > 3:
        wanted.append(Chosen("highest score", by_score[-1]))
    seen: set[int] = set()
    kept: list[Chosen] = []
    for chosen in wanted:
        if chosen.scored.sample.index not in seen and len(kept) < most:
            seen.add(chosen.scored.sample.index)
            kept.append(chosen)
    return kept


def as_rgb(frame: Frame) -> Rgb:
    """The frame as 8-bit RGB, by its own matrix and range; PQ and HLG are tone mapped to sRGB."""
    rgb = to_tensor(frame.planes, frame.format, frame.color, "rgb")[0].permute(1, 2, 0).numpy()
    if is_hdr(frame.color):
        rgb = to_sdr(rgb, frame.color)
    return np.ascontiguousarray(np.rint(np.clip(rgb, 0.0, 1.0) * 255.0).astype(np.uint8))


def _as_shown(frame: Frame) -> Rgb:
    """8-bit RGB as players show it."""
    return upright(square_pixels(as_rgb(frame), frame.pixel_aspect), frame.rotation)


def _larger(before: Rgb, after: Rgb) -> Rgb:
    """The picture in whose size both are shown: that of the result where it was stretched."""
    (height, width), (made_height, made_width) = before.shape[:2], after.shape[:2]
    stretched = abs(width * made_height / (height * made_width) - 1) > _STRETCHED
    return before if before.size > after.size and not stretched else after


def _edge_picture(first: Rgb, second: Rgb) -> tuple[Rgb, float]:
    compared = compare_edges(first, second)
    drawn = np.full((*compared.common.shape, 3), 20, np.uint8)
    drawn[compared.common], drawn[compared.lost], drawn[compared.gained] = _EDGE_COMMON, _EDGE_LOST, _EDGE_GAINED
    return drawn, compared.kept


def _compared(first: Rgb, second: Rgb, likeness: float) -> tuple[tuple[Rgb, Rgb], PairFigures]:
    """The maps of what differs (heat, edges), and its figures; `likeness` is that of the histograms."""
    difference = difference_map(first, second)
    drawn, kept = _edge_picture(*(fitted(picture, _MAP_LONGEST) for picture in (first, second)))
    figures = PairFigures(
        mse=mse(first, second),
        psnr=psnr(first, second),
        mean_difference=float(difference.mean()),
        largest_difference=float(difference.max()),
        edges_kept=kept,
        histogram_correlation=likeness,
        hashes=hash_similarity(first, second),
    )
    return (fitted(heat(difference), _MAP_LONGEST), drawn), figures


class PicturePacker:
    """Packs chosen frames one after another within `total_bytes`, with lower quality as the room gets scarce."""

    def __init__(self, expected: int, total_bytes: int = TOTAL_BYTES) -> None:
        self._left = total_bytes
        self._expected = max(1, expected)

    def _packed(self, rgb: Rgb, room: float) -> bytes:
        data = webp(rgb, _QUALITIES[0])
        for quality in _QUALITIES[1:]:
            if len(data) <= room:
                return data
            data = webp(rgb, quality)
        small = rgb
        while len(data) > room and max(small.shape[:2]) > _LEAST_SIDE:
            small = fitted(small, max(small.shape[:2]) * 2 // 3)
            data = webp(small, _QUALITIES[-1])
        return data

    def pack(self, chosen: Chosen) -> Shown:
        """The frame as the page shows it."""
        sample = chosen.scored.sample
        room = self._left / self._expected
        self._expected = max(1, self._expected - 1)
        before = _as_shown(sample.before)
        after = None if sample.after is None else _as_shown(sample.after)
        size = fitted(before if after is None else _larger(before, after), LONGEST).shape[:2]
        first = resized_to(before, *size)
        second = None if after is None else resized_to(after, *size)
        seen = (first,) if second is None else (first, second)
        spreads = tuple(histograms(picture) for picture in seen)
        if second is None:
            edges = np.repeat(np.clip(sobel(fitted(first, _MAP_LONGEST)), 0, 255).astype(np.uint8)[..., None], 3, 2)
            packed = [self._packed(first, room * 0.8), self._packed(edges, room * 0.2)]
            pair = None
        else:
            packed = [self._packed(picture, room * 0.42) for picture in (first, second)]
            maps, pair = _compared(first, second, histogram_correlation(*spreads))
            packed += [self._packed(picture, room * 0.08) for picture in maps]
        self._left -= sum(map(len, packed))
        return Shown(
            why=chosen.why,
            index=sample.index,
            pts_seconds=sample.pts_seconds,
            height=size[0],
            width=size[1],
            source_size=f"{sample.before.width}×{sample.before.height}",
            before=chosen.scored.before,
            after=chosen.scored.after,
            histograms=spreads,
            colors=tuple(color_statistics(picture) for picture in seen),
            first=packed[0],
            edges=packed[-1],
            second=None if second is None else packed[1],
            heat=None if second is None else packed[2],
            pair=pair,
        )
