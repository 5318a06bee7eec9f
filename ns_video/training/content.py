"""Training of `ns_content`: damaged regions, what two networks gained on each, one small judge. Floor 4."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from ns_video.enhance import load_enhancer
from ns_video.errors import InputError, UsageError
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.quality.ns_content import NsContent
from ns_video.quality.ns_iqa import CROP, GRID
from ns_video.quality.picture_statistics import LEAST_SIDE, picture_statistics
from ns_video.training.config import check_seed, check_unit, read_flat
from ns_video.training.evaluate import psnr, still_restorer, to_tensor
from ns_video.weights import Metadata, save_model

log = logging.getLogger("ns_video")

_SHAKE = 0.2
"""Deviations of noise on the statistics: a picture's own numbers must not be learned by heart."""
_MOST_DB = 2.0
"""Differences beyond count as this."""
_BATCH = 96
_COARSE = 50
"""Half of the qualities lie below."""


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """Settings of `train_content`; pipelines/training/content.toml holds them."""

    folders: tuple[str, ...]
    """Of undamaged pictures, photographs and drawings; each gives as many regions."""
    drawn: str = "anime"
    photographed: str = "photo"
    """The networks that are compared."""
    regions: int = 160
    """Of each folder."""
    quality: tuple[int, int] = (5, 93)
    steps: int = 1500
    rate: float = 2e-3
    validation_share: float = 0.1
    """Share of each folder's pictures that is held out from the training."""
    seed: int = 5

    def __post_init__(self) -> None:
        check_unit(self, "rate", "validation_share")
        check_seed(self.seed)
        if not self.folders or min(self.regions, self.steps) < 1:
            raise UsageError("folders must not be empty, regions and steps at least 1")
        if len(self.quality) != 2 or not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise UsageError("quality is a pair of numbers within 1..100, the smaller one first")


@dataclass(frozen=True, slots=True)
class Material:
    """N damaged regions."""

    statistics: Tensor
    """(N, 136)."""
    gains: Tensor
    """(N, 2) dB of RGB PSNR by the network of photographs and by that of line art."""
    held_out: Tensor
    """(N,) bool."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained judge, and mean gains in dB on the regions held out from its training."""

    judge: NsContent
    regions: int
    photographed: float
    """Were all of them given to the network of photographs."""
    drawn: float
    chosen: float
    """By the judge."""
    best: float
    """By who knows both results."""


def _region(picture: Rgb, rng: Generator) -> Rgb:
    """Up to CROP px of each side, on the codec's grid, maybe mirrored."""
    height, width = (min(CROP, side // GRID * GRID) for side in picture.shape[:2])
    top, left = (int(rng.integers(0, (side - part) // GRID + 1)) * GRID
                 for side, part in zip(picture.shape, (height, width), strict=False))  # fmt: skip
    region = picture[top : top + height, left : left + width]
    return np.ascontiguousarray(region[:, ::-1] if rng.random() < 0.5 else region)


def make_material(config: ContentConfig) -> Material:
    """Damages `regions` of each folder and restores them with both networks. Raises InputError, ModelError."""
    both = [still_restorer(load_enhancer(name)) for name in (config.photographed, config.drawn)]
    statistics, gains, held_out = list[Tensor](), list[list[float]](), list[bool]()
    for number, folder in enumerate(config.folders):
        paths = [path for path in list_pictures(Path(folder)) if min(read_rgb(path).shape[:2]) >= LEAST_SIDE]
        if len(paths) < 2:
            raise InputError(f"{folder} holds fewer than two pictures of {LEAST_SIDE} px a side, one to be held out")
        order = np.random.default_rng((config.seed, number)).permutation(len(paths))
        kept = min(max(1, round(len(paths) * config.validation_share)), len(paths) - 1)
        for index in range(config.regions):
            turn, rng = index % len(paths), np.random.default_rng((config.seed, number, index))
            region = _region(read_rgb(paths[int(order[turn])]), rng)
            lowest, highest = config.quality
            coarse = max(lowest, min(highest, _COARSE))
            quality = int(rng.integers(lowest, (coarse if rng.random() < 0.5 else highest) + 1))
            subsampling = "420" if rng.random() < 0.7 else "444"
            saved = degrade_still(region, parse_spec(f"jpeg:q={quality},subsampling={subsampling}"))
            before = psnr(saved.rgb, region)
            gains.append([psnr(restore(saved.rgb, saved.jpeg), region) - before for restore in both])
            statistics.append(picture_statistics(to_tensor(saved.rgb))[0])
            held_out.append(turn < kept)
        log.info("material: %s", folder)
    return Material(torch.stack(statistics), torch.tensor(gains), torch.tensor(held_out))


def train_judge(material: Material, config: ContentConfig) -> Outcome:
    """The judge that tells the difference of both gains from a region's statistics."""
    torch.manual_seed(config.seed)
    learned = ~material.held_out
    statistics, gains = material.statistics[learned], material.gains[learned]
    target = (gains[:, 1] - gains[:, 0]).clamp(-_MOST_DB, _MOST_DB)
    judge = NsContent(statistics.shape[1])
    spread = statistics.std(0).clamp(min=1e-3)
    judge.get_buffer("center").copy_(statistics.mean(0))
    judge.get_buffer("spread").copy_(spread)
    optimiser = torch.optim.AdamW(judge.parameters(), config.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for _ in range(config.steps):
        rows = torch.randint(len(target), (_BATCH,))
        shaken = statistics[rows] + _SHAKE * spread * torch.randn(_BATCH, statistics.shape[1])
        loss = F.smooth_l1_loss(judge(shaken), target[rows], beta=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    judge.eval()
    kept = material.gains[material.held_out]
    with torch.inference_mode():
        looks_drawn = judge(material.statistics[material.held_out]) > 0
    chosen = torch.where(looks_drawn, kept[:, 1], kept[:, 0])
    means = (float(x.mean()) for x in (kept[:, 0], kept[:, 1], chosen, kept.amax(1)))
    return Outcome(judge, len(kept), *means)


def read_content_config(path: Path, data: Path) -> ContentConfig:
    """The settings in a TOML file; its folders are relative to `data`.

    Raises UsageError for an unknown key, a missing one, one of another type or out of its range.
    """
    config = read_flat(ContentConfig, path, {})
    return dataclasses.replace(config, folders=tuple(str(data / folder) for folder in config.folders))


def train_content(config: ContentConfig, output: Path) -> Outcome:
    """Makes the material, trains the judge, writes the weights to `output`. Raises InputError, ModelError."""
    outcome = train_judge(make_material(config), config)
    log.info("%s: %s", output, save_model(outcome.judge, output, Metadata("ns_content")))
    return outcome
