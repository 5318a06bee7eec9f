"""Training of the no-reference score: damaged pictures, their SSIM, two small judges. Floor 4."""

from __future__ import annotations

import dataclasses
import functools
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from ns_video.enhance import load_enhancer
from ns_video.errors import UsageError
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.iqa_material import DAMAGES, gaussian_blur, over_denoised, over_sharpened, shrunk
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.media.training_clips import Encoding, clip_to_rgb, encode_decode
from ns_video.networks.ns_restore import NsRestore
from ns_video.quality.correlation import rank_correlation
from ns_video.quality.ns_iqa import CROP, GRID, NsIqaJudges, StatisticsHead, score_of_ssim
from ns_video.quality.picture_statistics import picture_statistics
from ns_video.quality.ssim import ssim_maps
from ns_video.training.config import check_unit, read_flat
from ns_video.training.evaluate import Restorer, still_restorer
from ns_video.training.losses import luma
from ns_video.training.optimizer import cosine_fall
from ns_video.training.video import restore_luma, told_steps
from ns_video.training.video_clips import ClipMaker, ClipPair, find_sources
from ns_video.weights import Metadata, load_descriptor, save_model

log = logging.getLogger("ns_video")

_HEAD_CONTENTS = 24
_SHAKE = 0.1
"""Deviations of noise on the statistics: a picture's own numbers must not be learned by heart."""
_LADDER = (0.08, 0.35, 0.65, 1.0)
_CLIP_SIZES = ((256, 256), (256, 320), (288, 384))
_CLIP_FRAMES = 12
_CLIP_STEPS = 7
_RESTORED_STEPS = 2
"""Of the codings of a clip, how many are restored too."""
_SLOW = ("inter_frame", "mpeg2")
_QUALITIES = (8, 88)
"""Of the JPEGs that are filtered and restored."""
_FILTERS = (0.15, 0.45, 0.85)
_RESTORERS = ("photo", "fast-photo", "anime")


@dataclass(frozen=True, slots=True)
class IqaConfig:
    """Settings of `train_iqa`; pipelines/training/ns_iqa.toml holds them."""

    folders: tuple[str, ...]
    """Folders of undamaged pictures."""
    clips: tuple[str, ...] = ()
    """Folders of undamaged clips; with them, clips (and stills moved by a camera) through x264, x265 and MPEG-2."""
    clip_share: float = 0.4
    """Share of contents that are frames of coded clips, where `clips` are given."""
    treated_share: float = 0.3
    """Share of contents that are coded once and then filtered, restored or sharpened."""
    contents: int = 1000
    head_steps: int = 2500
    head_rate: float = 2e-3
    region: int = 384
    """Side of the part of a picture that is damaged at once."""
    large_region: int = 768
    large_share: float = 0.25
    """How often the larger region is taken: it teaches the resized view how damage looks when shrunk."""
    validation_share: float = 0.1
    seed: int = 7

    def __post_init__(self) -> None:
        check_unit(self, "clip_share", "treated_share", "large_share", "validation_share", "head_rate")
        if not self.folders or min(self.contents, self.head_steps) < 1 or self.seed < 0:
            raise UsageError("folders must not be empty, contents and head_steps at least 1, seed at least 0")
        if min(self.region, self.large_region) < CROP:
            raise UsageError(f"region and large_region must be at least {CROP}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way a content may look. All variants of a content have one size; the first is undamaged."""

    picture: Rgb
    filtered_from: Rgb | None = None
    """The damaged picture that a filter made this of which knows nothing of the damage."""


@dataclass(frozen=True, slots=True)
class View:
    """Statistics (N, K), target SSIM (N,) and the number of the content (N,) of N crops, or of N whole pictures."""

    statistics: Tensor
    ssim: Tensor
    content: Tensor


@dataclass(frozen=True, slots=True)
class Material:
    """What both judges learn from."""

    crops: View
    wholes: View
    held_out: frozenset[int]
    """Contents kept for validation: never trained on."""


def _as_tensor(pictures: list[Rgb]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0


def damaged_variants(region: Rgb, rng: Generator) -> Iterator[Variant]:
    """The region itself, four severities of one damage, and three damages of any severity."""
    yield Variant(region)
    names = [name for name in DAMAGES if max(region.shape[:2]) <= 512 or not any(slow in name for slow in _SLOW)]
    ladder = DAMAGES[str(rng.choice(names))]
    for severity in _LADDER:
        yield Variant(ladder(region, min(1.0, severity * float(rng.uniform(0.85, 1.15))), rng))
    for _ in range(3):
        yield Variant(DAMAGES[str(rng.choice(names))](region, float(rng.random()) ** 1.3, rng))


def treated_variants(region: Rgb, rng: Generator) -> Iterator[Variant]:
    """The region, a coded one, and what people make of that: filtered four times, half restored, and restored by one of
    the shipped networks (JPEG) or sharpened (other codings)."""
    yield Variant(region)
    restored: Rgb | None = None
    if rng.random() < 0.5:
        subsampling = "420" if rng.random() < 0.7 else "444"
        saved = degrade_still(region, parse_spec(f"jpeg:q={rng.integers(*_QUALITIES)},subsampling={subsampling}"))
        coded = saved.rgb
        restored = _restorer(str(rng.choice(_RESTORERS)))(coded, saved.jpeg)
    else:
        kinds = ["noise_then_jpeg", "enlarged", *(_SLOW if max(region.shape[:2]) <= 512 else ())]
        coded = DAMAGES[str(rng.choice(kinds))](region, float(rng.uniform(0.15, 0.85)), rng)
    yield Variant(coded)
    for severity in _FILTERS:
        yield Variant(over_denoised(coded, min(1.0, severity * float(rng.uniform(0.7, 1.3))), rng), coded)
    yield Variant(gaussian_blur(coded, 0.4 * float(rng.random()), rng), coded)
    share = float(rng.uniform(0.2, 0.8))
    yield Variant((share * region + (1 - share) * coded).round().astype(np.uint8))
    yield Variant(over_sharpened(coded, float(rng.uniform(0.02, 0.4)), rng) if restored is None else restored)


@functools.cache
def _restorer(name: str) -> Restorer:
    return still_restorer(load_enhancer(name))


@functools.cache
def _clip_network() -> NsRestore:
    network = load_descriptor("video").network
    assert isinstance(network, NsRestore)
    return network


def clip_maker(config: IqaConfig) -> ClipMaker | None:
    """What draws the clean clips; None where the configuration asks for none."""
    if not config.clips:
        return None
    sources = find_sources([Path(folder) for folder in config.clips], [Path(folder) for folder in config.folders])
    return ClipMaker(sources, config.seed)


def clip_variants(maker: ClipMaker, index: int, rng: Generator) -> list[Variant]:
    """One frame of a clean clip, the same of seven codings by one codec, from fine to coarse, and two of them restored
    where the codec tells its quantisers."""
    height, width = _CLIP_SIZES[int(rng.integers(len(_CLIP_SIZES)))]
    clip = maker.truth(index, (_CLIP_FRAMES, height, width))
    t = int(rng.integers(min(_CLIP_FRAMES, len(clip)) // 2, len(clip)))
    codec = str(rng.choice(("libx264", "libx264", "libx265", "mpeg2video")))
    to_restore = set(rng.choice(_CLIP_STEPS, _RESTORED_STEPS, replace=False)) if codec != "libx265" else set[int]()
    made, restored = [Variant(clip_to_rgb(clip, t))], list[Variant]()
    for number, severity in enumerate(np.linspace(0.0, 1.0, _CLIP_STEPS)):
        place = float(np.clip(severity + rng.normal(0, 0.05), 0, 1))
        if codec == "mpeg2video":
            quantiser = str(round(2 + 29 * place**1.5))
            options = {"qmin": quantiser, "qmax": quantiser, "g": "12", "b": "4000000"}
        else:
            options = {"crf": f"{17 + 34 * place:.1f}", "preset": "veryfast"}
            if codec == "libx265":
                options["x265-params"] = "log-level=none"
        coded = encode_decode(clip, Encoding(codec, options))
        made.append(Variant(clip_to_rgb(coded.pictures, t)))
        if number in to_restore:
            picture = coded.pictures[t : t + 1].copy()
            picture[0, :height] = restore_luma(_clip_network(), ClipPair(clip, coded), told_steps(coded), t)
            restored.append(Variant(clip_to_rgb(picture, 0)))
    return made + restored


class _Contents:
    """Draws contents by number: each depends on its number and the seed alone."""

    def __init__(self, config: IqaConfig) -> None:
        self._config = config
        self._maker = clip_maker(config)
        self._paths = [path for folder in config.folders for path in list_pictures(Path(folder))]
        self._order = np.random.default_rng(config.seed).permutation(len(self._paths))

    def variants(self, index: int) -> tuple[list[Variant], bool, Generator]:
        """Variants of a content, whether it is held out (as is every other content of its picture; of
        clips it alone), and its random numbers. No variants: the picture is too small for a crop."""
        config, rng = self._config, np.random.default_rng((self._config.seed, index))
        clip_share = config.clip_share if self._maker is not None else 0.0
        if self._maker is not None and rng.random() < clip_share:
            return clip_variants(self._maker, index, rng), bool(rng.random() < config.validation_share), rng
        turn = index % len(self._paths)
        held_out = turn < int(len(self._paths) * config.validation_share)
        picture = read_rgb(self._paths[int(self._order[turn])])
        if min(picture.shape[:2]) < CROP:
            return [], held_out, rng
        side = config.large_region if rng.random() < config.large_share else config.region
        make = treated_variants if rng.random() * (1 - clip_share) < config.treated_share else damaged_variants
        return list(make(_region(picture, side, rng), rng)), held_out, rng


def _region(picture: Rgb, side: int, rng: Generator) -> Rgb:
    height, width = (min(side, size) // 16 * 16 for size in picture.shape[:2])
    top = int(rng.integers(0, (picture.shape[0] - height) // GRID + 1)) * GRID
    left = int(rng.integers(0, (picture.shape[1] - width) // GRID + 1)) * GRID
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def make_material(config: IqaConfig, workers: int = 1) -> Material:
    """Damage `config.contents` regions in eight to ten variants each; the same material for any number of workers."""
    shares = [range(config.contents)[begin::workers] for begin in range(workers)]
    if workers == 1:
        return _material_of(config, shares[0])
    context = multiprocessing.get_context("spawn")  # libav and torch have threads: a fork may hang
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        parts = list(pool.map(functools.partial(_material_of, config), shares))
    held_out = frozenset[int]().union(*(part.held_out for part in parts))
    return Material(_joined([part.crops for part in parts]), _joined([part.wholes for part in parts]), held_out)


def _joined(views: list[View]) -> View:
    """In the order of their contents."""
    content = torch.cat([view.content for view in views])
    order = content.sort(stable=True).indices
    statistics, ssim = (torch.cat([getattr(view, name) for view in views])[order] for name in ("statistics", "ssim"))
    return View(statistics, ssim, content[order])


def _material_of(config: IqaConfig, indices: Sequence[int]) -> Material:
    contents, crops, wholes, held_out = _Contents(config), list[View](), list[View](), set[int]()
    for count, index in enumerate(indices):
        variants, is_held_out, rng = contents.variants(index)
        if not variants:
            continue
        crop, whole = _views(variants, index, rng)
        crops.append(crop)
        wholes.append(whole)
        if is_held_out:
            held_out.add(index)
        if (count + 1) % 100 == 0:
            log.info("material: %d of %d contents", count + 1, len(indices))
    return Material(_joined(crops), _joined(wholes), frozenset(held_out))


@torch.inference_mode()
def _views(variants: list[Variant], index: int, rng: Generator) -> tuple[View, View]:
    """Crops of, and the whole of, every variant."""
    truth = luma(_as_tensor([variants[0].picture]))
    height, width = truth.shape[-2:]
    corners = sorted(
        {
            (
                int(rng.integers(0, (height - CROP) // GRID + 1)) * GRID,
                int(rng.integers(0, (width - CROP) // GRID + 1)) * GRID,
            )
            for _ in range(2 if max(height, width) > 300 else 1)
        }
    )
    crops, wholes = list[tuple[Tensor, Tensor, int]](), list[tuple[Tensor, Tensor, int]]()
    for variant in variants:
        rgb, maps = _as_tensor([variant.picture]), _likeness_maps(variant, truth)
        whole = _as_tensor([shrunk(variant.picture, CROP)])
        wholes.append((picture_statistics(whole)[0], _target(maps, (...,)), index))
        for top, left in corners:
            part = (..., slice(top, top + CROP), slice(left, left + CROP))
            crops.append((picture_statistics(rgb[part])[0], _target(maps, part), index))
    return _stacked(crops), _stacked(wholes)


def _stacked(rows: list[tuple[Tensor, Tensor, int]]) -> View:
    statistics, ssim, content = zip(*rows, strict=True)
    return View(torch.stack(statistics).clone(), torch.stack(ssim).clone(), torch.tensor(content))


def _likeness_maps(variant: Variant, truth: Tensor) -> list[Tensor]:
    """(1, 1, H, W) SSIM of luma to `truth`; and, of what a filter made that knows nothing of the damage, what its
    changes leave of the SSIM that it began with. It may come nearer to the truth by chance, but takes detail with the
    damage: no change of its counts as a gain."""
    picture = luma(_as_tensor([variant.picture]))
    maps = [_ssim_map(picture, truth)]
    if variant.filtered_from is not None:
        before = luma(_as_tensor([variant.filtered_from]))
        maps.append(_ssim_map(before, truth) - (1 - _ssim_map(picture, before)))
    return maps


def _ssim_map(first: Tensor, second: Tensor) -> Tensor:
    return F.pad(ssim_maps(first, second)[0], (5, 5, 5, 5), mode="replicate")


def _target(maps: list[Tensor], part: tuple[Any, ...]) -> Tensor:
    return torch.stack([likeness[part].mean() for likeness in maps]).amin()


def _order_loss(judged: Tensor, target: Tensor, content: Tensor) -> Tensor:
    """Distance to the truth, and of differences between variants of one content to the true differences."""
    loss = F.smooth_l1_loss(judged, target, beta=0.05)
    same = content[:, None] == content[None]
    difference = (judged[:, None] - judged[None]) - (target[:, None] - target[None])
    return loss + F.smooth_l1_loss(difference[same], torch.zeros_like(difference[same]), beta=0.05)


def _rate(share: float) -> float:
    """Cosine from 1 to 0.02 with a short warm-up; `share` of the training done, 0–1."""
    return min(1.0, share / 0.03 + 0.05) * (0.02 + 0.98 * cosine_fall(share))


def train_head(view: View, config: IqaConfig) -> StatisticsHead:
    """A small network that tells SSIM from statistics."""
    statistics, ssim, content = view.statistics, view.ssim, view.content
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


def _without(view: View, contents: Tensor) -> View:
    kept = ~torch.isin(view.content, contents)
    return View(view.statistics[kept], view.ssim[kept], view.content[kept])


def train_judges(material: Material, config: IqaConfig) -> Outcome:
    """Both heads."""
    judges = NsIqaJudges()
    held_out = torch.tensor(sorted(material.held_out))
    judges.crop = train_head(_without(material.crops, held_out), config)
    judges.whole = train_head(_without(material.wholes, held_out), config)
    kept = torch.isin(material.crops.content, held_out)
    with torch.inference_mode():
        judged = judges.crop(material.crops.statistics[kept])[:, 0]
    truth, belongs = material.crops.ssim[kept], material.crops.content[kept]
    within = [rank_correlation(judged[belongs == c], truth[belongs == c]) for c in belongs.unique()]
    return Outcome(
        judges=judges.eval(),
        contents=len(material.crops.content.unique()),
        across=rank_correlation(judged, truth),
        within=float(np.mean(within)) if within else float("nan"),
    )


def read_iqa_config(path: Path, data: Path) -> IqaConfig:
    """The settings in a TOML file; its folders are relative to `data`.

    Raises UsageError for an unknown key, a missing one, one of another type or out of its range.
    """
    config = read_flat(IqaConfig, path, {})
    folders, clips = (tuple(str(data / folder) for folder in names) for names in (config.folders, config.clips))
    return dataclasses.replace(config, folders=folders, clips=clips)


def train_iqa(config: IqaConfig, output: Path, workers: int = 1) -> Outcome:
    """Make material in `workers` processes, train both heads, write the weights to `output`.

    Raises InputError, ModelError.
    """
    material = make_material(config, workers)
    outcome = train_judges(material, config)
    checksum = save_model(outcome.judges, output, Metadata("ns_iqa_statistics"))
    log.info("%s: %s, SRCC across %.4f, within %.4f", output, checksum, outcome.across, outcome.within)
    return outcome
