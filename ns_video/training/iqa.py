"""Training of the no-reference score: damaged pictures, their SSIM, two small judges. Floor 4."""

from __future__ import annotations

import dataclasses
import logging
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from ns_video.errors import UsageError
from ns_video.media.iqa_material import DAMAGES, shrunk
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.media.training_clips import Encoding, clip_to_rgb, encode_decode
from ns_video.quality.correlation import rank_correlation
from ns_video.quality.ns_iqa import CROP, GRID, NsIqaJudges, StatisticsHead, score_of_ssim
from ns_video.quality.picture_statistics import picture_statistics
from ns_video.quality.ssim import ssim_maps
from ns_video.training.losses import luma
from ns_video.training.video_clips import ClipMaker, find_sources
from ns_video.weights import Metadata, save_model

log = logging.getLogger("ns_video")

_HEAD_CONTENTS = 24
_SHAKE = 0.1
"""Deviations of noise on the statistics: a picture's own numbers must not be learned by heart."""
_LADDER = (0.08, 0.35, 0.65, 1.0)
_CLIP_SIZES = ((256, 256), (256, 320), (288, 384))
_CLIP_FRAMES = 12
_SLOW = ("inter_frame", "mpeg2")


@dataclass(frozen=True, slots=True)
class IqaConfig:
    """Settings of `train_iqa`; pipelines/training/ns_iqa.toml holds them."""

    folders: tuple[str, ...]
    """Folders of undamaged pictures."""
    clips: tuple[str, ...] = ()
    """Folders of undamaged clips; with them, clips (and stills moved by a camera) through x264, x265 and MPEG-2."""
    clip_share: float = 0.4
    """Share of contents that are frames of coded clips, where `clips` are given."""
    material_minutes: float = 7.0
    head_steps: int = 2500
    head_rate: float = 2e-3
    region: int = 384
    """Side of the part of a picture that is damaged at once."""
    large_region: int = 768
    large_share: float = 0.25
    """How often the larger region is taken: it teaches the resized view how damage looks when shrunk."""
    validation_share: float = 0.1
    seed: int = 7


@dataclass(slots=True)
class Material:
    """Damaged crops with their truth. `content` numbers the undamaged region that variants share."""

    crops: list[Rgb] = field(default_factory=list)
    cells: list[Tensor] = field(default_factory=list)
    """(32, 32) SSIM of each 8-px cell of a crop."""
    statistics: list[Tensor] = field(default_factory=list)
    crop_content: list[int] = field(default_factory=list)
    views: list[Rgb] = field(default_factory=list)
    view_ssim: list[float] = field(default_factory=list)
    view_content: list[int] = field(default_factory=list)
    view_statistics: list[Tensor] = field(default_factory=list)
    held_out: set[int] = field(default_factory=set)
    """Contents kept for validation: never trained on."""


def _as_tensor(pictures: list[Rgb]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0


def _variants(region: Rgb, rng: Generator) -> Iterator[Rgb]:
    """The region itself, four severities of one damage, and three damages of any severity."""
    yield region
    names = [name for name in DAMAGES if max(region.shape[:2]) <= 512 or not any(slow in name for slow in _SLOW)]
    ladder = DAMAGES[str(rng.choice(names))]
    for severity in _LADDER:
        yield ladder(region, min(1.0, severity * float(rng.uniform(0.85, 1.15))), rng)
    for _ in range(3):
        yield DAMAGES[str(rng.choice(names))](region, float(rng.random()) ** 1.3, rng)


def _region(picture: Rgb, side: int, rng: Generator) -> Rgb:
    height, width = (min(side, size) // 16 * 16 for size in picture.shape[:2])
    top = int(rng.integers(0, (picture.shape[0] - height) // GRID + 1)) * GRID
    left = int(rng.integers(0, (picture.shape[1] - width) // GRID + 1)) * GRID
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def make_material(config: IqaConfig) -> Material:
    """Damage pictures for `config.material_minutes`, each content in eight variants."""
    rng = np.random.default_rng(config.seed)
    paths = [path for folder in config.folders for path in list_pictures(Path(folder))]
    order = rng.permutation(len(paths))
    held_out_pictures = set(order[: int(len(paths) * config.validation_share)].tolist())
    material, began, content, turn = Material(), time.monotonic(), 0, 0
    maker = clip_maker(config)
    while time.monotonic() - began < config.material_minutes * 60:
        if maker is not None and rng.random() < config.clip_share:
            _add_variants(material, clip_variants(maker, content, rng), content, rng)
            if rng.random() < config.validation_share:
                material.held_out.add(content)
            content += 1
            continue
        number = int(order[turn % len(paths)])
        turn += 1
        picture = read_rgb(paths[number])
        if min(picture.shape[:2]) < CROP:
            continue
        side = config.large_region if rng.random() < config.large_share else config.region
        _add_variants(material, list(_variants(_region(picture, side, rng), rng)), content, rng)
        if number in held_out_pictures:
            material.held_out.add(content)
        content += 1
        if content % 100 == 0:
            log.info("material: %d contents, %d crops", content, len(material.crops))
    return material


def clip_maker(config: IqaConfig) -> ClipMaker | None:
    """What draws the clean clips; None where the configuration asks for none."""
    if not config.clips:
        return None
    sources = find_sources([Path(folder) for folder in config.clips], [Path(folder) for folder in config.folders])
    return ClipMaker(sources, config.seed)


def clip_variants(maker: ClipMaker, index: int, rng: Generator) -> list[Rgb]:
    """One frame of a clean clip, and the same of seven codings by one codec, from fine to coarse."""
    height, width = _CLIP_SIZES[int(rng.integers(len(_CLIP_SIZES)))]
    clip = maker.truth(index, (_CLIP_FRAMES, height, width))
    t = int(rng.integers(_CLIP_FRAMES // 2, len(clip)))
    codec = str(rng.choice(("libx264", "libx264", "libx265", "mpeg2video")))
    made = [clip_to_rgb(clip, t)]
    for severity in np.linspace(0.0, 1.0, 7):
        place = float(np.clip(severity + rng.normal(0, 0.05), 0, 1))
        if codec == "mpeg2video":
            quantiser = str(round(2 + 29 * place**1.5))
            options = {"qmin": quantiser, "qmax": quantiser, "g": "12", "b": "4000000"}
        else:
            options = {"crf": f"{17 + 34 * place:.1f}", "preset": "veryfast"}
            if codec == "libx265":
                options["x265-params"] = "log-level=none"
        made.append(clip_to_rgb(encode_decode(clip, Encoding(codec, options)).pictures, t))
    return made


@torch.inference_mode()
def _add_variants(material: Material, variants: list[Rgb], content: int, rng: Generator) -> None:
    """Variants of one content, the undamaged one first."""
    truth = luma(_as_tensor(variants[:1]))
    height, width = variants[0].shape[:2]
    corners = {
        (
            int(rng.integers(0, (height - CROP) // GRID + 1)) * GRID,
            int(rng.integers(0, (width - CROP) // GRID + 1)) * GRID,
        )
        for _ in range(2 if max(height, width) > 300 else 1)
    }
    for picture in variants:
        rgb = _as_tensor([picture])
        full = F.pad(ssim_maps(luma(rgb), truth)[0], (5, 5, 5, 5), mode="replicate")
        material.views.append(shrunk(picture, CROP))
        material.view_ssim.append(float(full.mean()))
        material.view_content.append(content)
        material.view_statistics.append(picture_statistics(_as_tensor([material.views[-1]]))[0].clone())
        for top, left in corners:
            part = slice(top, top + CROP), slice(left, left + CROP)
            material.crops.append(np.ascontiguousarray(picture[part]))
            material.cells.append(F.avg_pool2d(full[..., part[0], part[1]], GRID)[0, 0].clone())
            material.statistics.append(picture_statistics(rgb[..., part[0], part[1]])[0].clone())
            material.crop_content.append(content)


def _order_loss(judged: Tensor, target: Tensor, content: Tensor) -> Tensor:
    """Distance to the truth, and of differences between variants of one content to the true differences."""
    loss = F.smooth_l1_loss(judged, target, beta=0.05)
    same = content[:, None] == content[None]
    difference = (judged[:, None] - judged[None]) - (target[:, None] - target[None])
    return loss + F.smooth_l1_loss(difference[same], torch.zeros_like(difference[same]), beta=0.05)


def _rate(share: float) -> float:
    """Cosine from 1 to 0.02 with a short warm-up; `share` of the training done, 0–1."""
    return min(1.0, share / 0.03 + 0.05) * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share)))))


def train_head(statistics: Tensor, ssim: Tensor, content: Tensor, config: IqaConfig) -> StatisticsHead:
    """A small network on statistics (M, K) of views and their SSIM (M,); `content` (M,) says what belongs together."""
    torch.manual_seed(config.seed)
    target = score_of_ssim(ssim) / 100.0
    head = StatisticsHead(statistics.shape[1])
    head.get_buffer("center").copy_(statistics.mean(0))
    head.get_buffer("spread").copy_(statistics.std(0).clamp(min=1e-3))
    optimiser = torch.optim.AdamW(head.parameters(), config.head_rate, weight_decay=1e-2)
    groups = content.unique()
    generator = torch.Generator().manual_seed(config.seed)
    members = {int(group): torch.nonzero(content == group)[:, 0] for group in groups}
    for step in range(config.head_steps):
        chosen = groups[torch.randperm(len(groups), generator=generator)[:_HEAD_CONTENTS]]
        rows = torch.cat([members[int(group)] for group in chosen])
        shaken = torch.randn(len(rows), statistics.shape[1], generator=generator) * head.get_buffer("spread")
        for settings in optimiser.param_groups:
            settings["lr"] = config.head_rate * _rate(step / config.head_steps)
        loss = _order_loss(head(statistics[rows] + _SHAKE * shaken)[:, 0] / 100.0, target[rows], content[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 500 == 0:
            log.info("head: step %d, loss %.4f", step + 1, loss.item())
    return head.eval()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Trained judges and what they reach on contents held out from the training."""

    judges: NsIqaJudges
    contents: int
    across: float
    """Spearman correlation with SSIM over all held-out crops, whatever their content and damage."""
    within: float
    """Mean over held-out contents of the same, eight variants each."""


def train_judges(material: Material, config: IqaConfig) -> Outcome:
    """Both heads."""
    judges = NsIqaJudges()
    held_out = torch.tensor(sorted(material.held_out))
    content, views = torch.tensor(material.crop_content), torch.tensor(material.view_content)
    kept, kept_views = ~torch.isin(content, held_out), ~torch.isin(views, held_out)
    statistics, ssim = torch.stack(material.statistics), torch.stack(material.cells).mean((1, 2))
    judges.crop = train_head(statistics[kept], ssim[kept], content[kept], config)
    view_statistics, view_ssim = torch.stack(material.view_statistics), torch.tensor(material.view_ssim)
    judges.whole = train_head(view_statistics[kept_views], view_ssim[kept_views], views[kept_views], config)
    with torch.inference_mode():
        judged = judges.crop(statistics[~kept])[:, 0]
    truth, belongs = ssim[~kept], content[~kept]
    within = [rank_correlation(judged[belongs == c], truth[belongs == c]) for c in belongs.unique()]
    return Outcome(
        judges=judges.eval(),
        contents=len(content.unique()),
        across=rank_correlation(judged, truth),
        within=float(np.mean(within)) if within else float("nan"),
    )


def read_iqa_config(path: Path, data: Path) -> IqaConfig:
    """The settings in a TOML file; its folders are relative to `data`.

    Raises UsageError for an unknown key, a missing one or one of another type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    known = {item.name: item for item in dataclasses.fields(IqaConfig)}
    for name, value in table.items():
        if name not in known:
            raise UsageError(f"{path}: unknown key '{name}'", remedy=f"known are {', '.join(known)}")
        is_right = isinstance(value, list) if name in ("folders", "clips") else isinstance(value, (int, float))
        if not is_right:
            raise UsageError(f"{path}: '{name}' can't be {value!r:.60}")
    if "folders" not in table:
        raise UsageError(f"{path}: 'folders' is missing")
    folders: dict[str, Any] = {
        name: tuple(str(data / str(folder)) for folder in table[name]) for name in ("folders", "clips") if name in table
    }
    return IqaConfig(**{**table, **folders})


def train_iqa(config: IqaConfig, output: Path) -> Outcome:
    """Make material, train both heads, write the weights to `output`. Raises InputError, ModelError."""
    material = make_material(config)
    outcome = train_judges(material, config)
    checksum = save_model(outcome.judges, output, Metadata("ns_iqa_statistics"))
    log.info("%s: %s, SRCC across %.4f, within %.4f", output, checksum, outcome.across, outcome.within)
    return outcome
