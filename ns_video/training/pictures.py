"""Crops of clean pictures and their damaged twins. A batch depends on the configuration and the step alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ns_video.cells import Kind, shrink
from ns_video.conditioning import jpeg_planes, pitch_plane
from ns_video.errors import InputError
from ns_video.frame import JpegTables
from ns_video.journal import write_whole
from ns_video.jpeg_tables import SUBSAMPLINGS, ijg_tables
from ns_video.media.degrade import Degradation, degrade_still, parse_spec
from ns_video.media.pattern_clips import pattern_pictures
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg, list_pictures, read_rgb
from ns_video.media.screen_clips import Draw, screen_pictures
from ns_video.training.config import LOW_QUALITY, Damage, Data, TrainingConfig, cell_pitch

Random = np.random.Generator

_MARGIN = 16
"""Pixels that are degraded around a crop, so that blocks, blurs and kernels don't end at its border."""
_LEAST_HELD_OUT = 16  # px a side, times the scale: SSIM's window is 11 wide, HAT's 16
_LEAST_DRAWN = 192  # px a side of graphics that a crop is taken from
_FINE = 80  # IJG quality above which only spotless pictures are drawn
_SUBSAMPLING_SHARES = {"420": 0.62, "422": 0.10, "444": 0.28}
_SHARPENED_UNTIL = 0.8  # of the steps: plain targets after (idea of APISR, CVPR 2024)


@dataclass(frozen=True, slots=True)
class Picture:
    """A clean picture, in memory or a file of the cache."""

    source: Rgb | Path
    weight: float
    spotless: bool
    name: str
    """Its folder, as the configuration has it, and file."""

    @property
    def pixels(self) -> Rgb:
        """(H, W, 3). Those of a file are mapped anew each time: a map takes a file descriptor. Raises InputError."""
        if not isinstance(self.source, Path):
            return self.source
        try:
            return np.load(self.source, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.source} of data.cache can't be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Sample:
    """One crop: (h, w, 3) uint8 damaged, (s h, s w, 3) uint8 reference, and what a file would say."""

    degraded: Rgb
    reference: Rgb
    tables: JpegTables | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """(N, 3, h, w) and (N, 3, s h, s w) float32 in [0, 1]; `side` (N, 7, 1, 1) where the network reads tables,
    (N, 1, 1, 1) where it is told the pitch of the cells that it sees."""

    degraded: Tensor
    reference: Tensor
    side: Tensor | None


class PictureSet:
    """The pictures of a configuration, apart into those to train with and those held out."""

    def __init__(self, data: Data, pitch: int = 1, scale: int = 1) -> None:
        """`pitch`: pixels a side for each of `data.crop`; `scale`: by how much the network enlarges.

        Raises InputError where a folder is missing, nothing is large enough for a crop, or nothing is held out that
        should be.
        """
        self._data = data
        self.training: list[Picture] = []
        self.held_out: list[Picture] = []
        for source in data.sources:
            folder = Path(data.root) / source.folder
            for index, path in enumerate(list_pictures(folder)):
                picture = Picture(self._kept(path), source.weight, source.spotless, f"{source.folder}/{path.name}")
                kept = data.hold_out > 0 and index % data.hold_out == data.hold_out // 3
                (self.held_out if kept else self.training).append(picture)
        least = data.crop * pitch + _MARGIN
        self.training = _at_least(least, self.training)
        if not self.training:
            raise InputError(f"no training picture is at least {least} pixels wide and high")
        self.held_out = _at_least(_LEAST_HELD_OUT * scale, self.held_out)
        if data.hold_out and not self.held_out:
            raise InputError(
                f"data.hold_out = {data.hold_out} keeps no picture for validation",
                remedy="make it smaller; 0 validates on the pictures that are trained on",
            )

    @property
    def digest(self) -> str:
        """Of the names of those to train with and of those held out, in their order."""
        names = [[picture.name for picture in part] for part in (self.training, self.held_out)]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def _kept(self, path: Path) -> Rgb | Path:
        """The picture's pixels, or their file in the cache. Raises InputError, OutputError."""
        if not self._data.cache:
            return read_rgb(path)
        folder = Path(self._data.cache)
        folder.mkdir(parents=True, exist_ok=True)
        about = path.stat()
        key = hashlib.sha256(f"{path.resolve()}:{about.st_size}:{about.st_mtime_ns}".encode()).hexdigest()[:24]
        cached = folder / f"{key}.npy"
        if not cached.exists():
            data = io.BytesIO()
            np.save(data, read_rgb(path), allow_pickle=False)
            write_whole(cached, data.getvalue(), stage="train")  # other processes may read the same picture
        return cached

    @cached_property
    def _shares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        areas = np.array([picture.pixels.size // 3 for picture in self.training])
        weights = np.sqrt(areas) * np.array([picture.weight for picture in self.training])
        fine = weights * np.array([picture.spotless for picture in self.training])
        if not fine.any():
            fine = weights
        return weights / weights.sum(), fine / fine.sum()

    def _pick(self, random: Random, fine: bool) -> Rgb:
        return self.training[int(random.choice(len(self.training), p=self._shares[fine]))].pixels

    def draw(self, random: Random, side: int, fine: bool, augment: bool) -> Rgb:
        """A (side, side, 3) crop of a training picture, `fine`: of a spotless one; or of graphics."""
        if self._data.graphics_share and random.random() < self._data.graphics_share:
            pixels = draw_graphics(lambda: self._pick(random, True), random, max(_LEAST_DRAWN, side))
        else:
            pixels = self._pick(random, fine)
        top = int(random.integers(0, pixels.shape[0] - side + 1))
        left = int(random.integers(0, pixels.shape[1] - side + 1))
        crop = pixels[top : top + side, left : left + side]
        turn = int(random.integers(0, 8)) if augment else 0
        crop = np.rot90(crop, turn & 3)
        return np.ascontiguousarray(crop[:, ::-1] if turn & 4 else crop)


def _at_least(side: int, pictures: list[Picture]) -> list[Picture]:
    """Those that are `side` pixels wide and high, or more."""
    return [picture for picture in pictures if min(picture.pixels.shape[:2]) >= side]


def draw_graphics(draw: Draw, random: Random, side: int) -> Rgb:
    """(side, side, 3): a page of text, sprites, captions, or a pattern, made of pictures that `draw` gives."""
    kind = screen_pictures if random.random() < 0.5 else pattern_pictures
    return kind(draw, random, 2, side, side)[-1]  # both draw clips, of two frames or more


def draw_tables(random: Random, damage: Damage, quality: int) -> JpegTables:
    """Tables of a quality, now and then of another encoder's kind, with a random subsampling."""
    name = str(random.choice(list(_SUBSAMPLING_SHARES), p=list(_SUBSAMPLING_SHARES.values())))
    tables = ijg_tables(quality, SUBSAMPLINGS[name])
    if random.random() >= damage.other_tables:
        return tables
    luma, chroma = tables.luma.astype(np.float64), tables.chroma.astype(np.float64)
    kind = random.random()
    if kind < 0.4:  # another scale for luma, chroma and the high frequencies
        slope = (1 + 0.05 * np.add.outer(np.arange(8), np.arange(8))) ** random.normal(0, 0.5)
        luma = luma * np.exp(random.normal(0, 0.15)) * slope
        chroma = chroma * np.exp(random.normal(0, 0.3))
    elif kind < 0.7:  # one table for both
        chroma = luma.copy()
    else:  # flat tables
        step = float(np.clip(luma.mean() * 0.6, 1, 60))
        luma, chroma = np.full((8, 8), step), np.full((8, 8), step * random.uniform(1, 2))
    as_steps = [np.clip(np.rint(table), 1, 255).astype(np.uint16) for table in (luma, chroma)]
    return JpegTables(as_steps[0], as_steps[1], tables.subsampling)


def _jpeg_sample(pictures: PictureSet, config: TrainingConfig, random: Random) -> Sample:
    damage, crop = config.damage, config.data.crop
    low, high = damage.quality
    if random.random() < damage.low_quality_share and low < LOW_QUALITY:
        high = min(high, LOW_QUALITY)
    quality = int(random.integers(low, high + 1))
    reference = pictures.draw(random, crop + _MARGIN, quality > _FINE, config.data.augment)
    tables = draw_tables(random, damage, quality)
    degraded = decode_picture(encode_jpeg(reference, tables))
    if random.random() < damage.off_grid:
        top, left = (int(v) for v in random.integers(0, _MARGIN + 1, 2))
    else:
        top, left = (int(v) * 4 for v in random.integers(0, _MARGIN // 4 + 1, 2))
    degraded = np.ascontiguousarray(degraded[top : top + crop, left : left + crop])
    reference = reference[top : top + crop, left : left + crop]
    if random.random() < damage.saved_twice:
        again = ijg_tables(int(random.integers(88, 98)), tables.subsampling)
        degraded = decode_picture(encode_jpeg(degraded, again))
    return Sample(degraded, reference, tables)


def _spec_sample(
    pictures: PictureSet, config: TrainingConfig, specs: tuple[Degradation, ...], random: Random
) -> Sample:
    crop, scale = config.data.crop, config.scale
    side = crop + _MARGIN
    if scale == 1:
        side -= int(random.integers(3))  # as pictures are: cells of 3 px are then a little larger or smaller at times
    else:
        side -= side % scale
    reference = pictures.draw(random, side, True, config.data.augment)
    spec = specs[int(random.integers(len(specs)))]
    degraded = degrade_still(reference, spec, int(random.integers(2**31))).rgb
    step = 4 * scale
    top, left = (int(v) * step for v in random.integers(0, (side - crop) // step + 1, 2))
    reference = reference[top : top + crop, left : left + crop]
    small = slice(top // scale, (top + crop) // scale), slice(left // scale, (left + crop) // scale)
    return Sample(degraded[small], reference)


def _cell_batch(pictures: PictureSet, config: TrainingConfig, kind: Kind, spec: Degradation, random: Random) -> Batch:
    """A batch with one damage and one size: `data.crop` cells a side, and as many pixels as they may have been.

    Every second batch has sides that are no multiple of the cells'.
    """
    pitch = cell_pitch(spec, kind)
    beyond = (0, pitch) if kind == "mosaic" else (-((pitch - 1) // 2), (pitch - 1) // 2 + 1)
    side = config.data.crop * pitch + (int(random.integers(*beyond)) if random.random() < 0.5 else 0)
    references = [pictures.draw(random, side, True, config.data.augment) for _ in range(config.data.batch)]
    degraded = [degrade_still(reference, spec, int(random.integers(2**31))).rgb for reference in references]
    small = shrink(_tensor(degraded), kind, pitch)
    planes = pitch_plane(pitch).expand(len(references), -1, -1, -1) if kind == "mosaic" else None
    return Batch(small, _tensor(references), planes)


def line_sharpened(rgb: Rgb) -> Rgb:
    """A target with crisper lines: unsharp masking only where a line is (darker than its surroundings)."""
    picture = rgb.astype(np.float32)
    soft = picture.copy()
    for axis in (0, 1):  # a small binomial blur, twice; the border stays: whether lines go on beyond it is not known
        along = np.moveaxis(soft, axis, 0)
        for _ in range(2):
            along[1:-1] = 0.5 * along[1:-1] + 0.25 * (along[:-2] + along[2:])
    detail = picture - soft
    line = np.clip(-detail.mean(-1, keepdims=True) / 8.0, 0, 1)
    return np.clip(np.rint(picture + line * detail), 0, 255).astype(np.uint8)


def _tensor(crops: list[Rgb]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)


def draw_batch(pictures: PictureSet, config: TrainingConfig, step: int, rank: int = 0) -> Batch:
    """The batch of a step (and of a process, in a training of several)."""
    random = np.random.default_rng((config.seed, step, rank))
    specs = tuple(parse_spec(text) for text in config.damage.specs)
    if config.cells is not None:
        return _cell_batch(pictures, config, config.cells, specs[step % len(specs)], random)
    samples = [
        _jpeg_sample(pictures, config, random)
        if config.damage.kind == "jpeg"
        else _spec_sample(pictures, config, specs, random)
        for _ in range(config.data.batch)
    ]
    sharp = config.data.line_sharpened if step < _SHARPENED_UNTIL * config.schedule.steps else 0.0
    references = [line_sharpened(s.reference) if random.random() < sharp else s.reference for s in samples]
    side: Tensor | None = None
    if config.damage.kind == "jpeg":
        side = torch.cat([jpeg_planes(sample.tables) for sample in samples])
    return Batch(_tensor([sample.degraded for sample in samples]), _tensor(references), side)


class _Steps(torch.utils.data.Dataset[Batch]):
    """Batches by step, for torch's worker processes."""

    def __init__(self, pictures: PictureSet, config: TrainingConfig, rank: int) -> None:
        self._pictures, self._config, self._rank = pictures, config, rank

    def __getitem__(self, step: int) -> Batch:
        torch.set_num_threads(1)
        return draw_batch(self._pictures, self._config, step, self._rank)


def _outlast_interrupts(worker: int) -> None:
    """What interrupts a whole process group or service is the training's to heed: it ends its step, then its workers.

    A second SIGTERM ends a worker: multiprocessing sends them where all else failed.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # not every system has all
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(0)  # no failure, of which torch would make an error in the training's midst

    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, end))


def batches(pictures: PictureSet, config: TrainingConfig, first: int, rank: int = 0) -> Iterator[Batch]:
    """The batches of steps `first` to the last, in order; made by `data.workers` processes, or here for 0."""
    steps = range(first, config.schedule.steps)
    if config.data.workers == 0:
        return (draw_batch(pictures, config, step, rank) for step in steps)
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        _Steps(pictures, config, rank),
        batch_size=None,
        sampler=list(steps),
        num_workers=config.data.workers,
        prefetch_factor=4,
        worker_init_fn=_outlast_interrupts,
    )
    return iter(loader)
