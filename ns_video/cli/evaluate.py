"""`ns-video evaluate`: degrades, restores, and prints what was gained."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ns_video.cli import emit
from ns_video.cli.local_file import NamedPath
from ns_video.errors import UsageError, printable
from ns_video.preset import ENSEMBLES

if TYPE_CHECKING:
    from ns_video.enhance import Enhancer
    from ns_video.media.degrade import Degradation
    from ns_video.training.evaluate import ClipScore, PictureScore

PICTURE_HEADER = ("picture", "PSNR", "after", "gain", "PSNR-Y", "after", "SSIM-Y", "after", "to input")
CLIP_HEADER = (
    "clip",
    "frames",
    "unrestored",
    "PSNR-Y",
    "after",
    "gain",
    "worst frame",
    "deviation",
    "after",
    "SSIM-Y",
    "after",
    "bit/px",
)


@click.command(name="evaluate")
@click.option("--model", "model", required=True, help="Name of an installed model, or a weights file.")
@click.option("--images", type=NamedPath(), help="Folder of clean pictures.")
@click.option("--clips", type=NamedPath(), help="Folder of clean clips.")
@click.option("--degrade", "spec", required=True, help="SPEC, or `none` for the pictures as they are.")
@click.option("--seed", default=0, show_default=True)
@click.option("--frames", type=click.IntRange(min=0), default=0, help="Frames of each clip; 0 for all.")
@click.option("--blind", is_flag=True, help="Hide what the JPEG file says: estimate it from the pixels.")
@click.option(
    "--ensemble",
    type=click.Choice([str(views) for views in ENSEMBLES]),
    help="Flipped views to average. [default: as `restore` does]",
)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]), default="auto", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    images: Path | None,
    clips: Path | None,
    spec: str,
    seed: int,
    frames: int,
    blind: bool,
    ensemble: str | None,
    device: str,
    precision: str,
    as_json: bool,
) -> int:
    """Degrade the pictures or clips of a folder, restore them, print PSNR and SSIM before and after.

    PSNR is over R, G and B of the whole picture, PSNR-Y over BT.601 luma, SSIM over luma; for clips PSNR-Y and SSIM
    are means over the frames. Equal pictures count as 100 dB. A model that enlarges is compared with bicubic
    enlargement, without a border of its scale. The exit code is 3 where frames of clips could not be restored; they
    count as they were.
    """
    from ns_video.enhance import EnhanceOptions, Enhancer
    from ns_video.media.degrade import parse_spec
    from ns_video.weights import load_descriptor

    if (images is None) == (clips is None):
        raise UsageError("give either --images or --clips")
    if blind and clips is not None:
        raise UsageError("--blind is for --images")
    if frames and images is not None:
        raise UsageError("--frames is for --clips")
    degradation = None if spec == "none" else parse_spec(spec)
    views = None if ensemble is None else int(ensemble)
    enhancer = Enhancer(load_descriptor(model), EnhanceOptions(device=device, precision=precision, ensemble=views))
    about: dict[str, object] = {
        "model": enhancer.descriptor.name,
        "degrade": spec if degradation is None else str(degradation),
        "seed": seed,
        "device": str(enhancer.device),
        "precision": enhancer.precision,
    }
    if images is not None:
        _evaluate_images(enhancer, images, degradation, seed, blind, about, as_json)
    elif clips is not None:
        if degradation is None:
            raise UsageError("clips need a degradation")
        return _evaluate_clips(enhancer, clips, degradation, seed, frames, about, as_json)
    return 0


def _print_rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    for row in (header, *rows):
        click.echo(f"{printable(row[0]):<24.24}" + "".join(f"{cell:>12}" for cell in row[1:]))


def _picture_row(score: PictureScore) -> tuple[str, ...]:
    figures = (
        f"{value:.2f}"
        for value in (score.psnr_before, score.psnr_after, score.gain, score.psnr_y_before, score.psnr_y_after)
    )
    return (score.name, *figures, *_likeness(score), f"{score.self_psnr:.2f}")


def _likeness(score: PictureScore | ClipScore) -> tuple[str, str]:
    """SSIM before and after."""
    before, after = ("–" if value is None else f"{value:.4f}" for value in (score.ssim_before, score.ssim_after))
    return before, after


def _evaluate_images(
    enhancer: Enhancer,
    folder: Path,
    degradation: Degradation | None,
    seed: int,
    blind: bool,
    about: dict[str, object],
    as_json: bool,
) -> None:
    from ns_video.media.pictures import list_pictures, read_rgb
    from ns_video.training.evaluate import mean_score, score_picture, still_restorer

    restore = still_restorer(enhancer, blind)
    paths = list_pictures(folder)
    scores = [
        score_picture(name, read_rgb(path), degradation, restore, enhancer.descriptor.scale, seed)
        for name, path in zip(_names(paths), _with_progress(paths))
    ]
    mean = mean_score(scores)
    if as_json:
        rows = [{**dataclasses.asdict(score), "gain": score.gain} for score in scores]
        worst = min(score.gain for score in scores)
        means = {**dataclasses.asdict(mean), "gain": mean.gain, "smallest_gain": worst}
        emit({**about, "pictures": rows, "mean": means})
    else:
        _print_rows(PICTURE_HEADER, map(_picture_row, (*scores, mean)))


def _clip_row(score: ClipScore) -> tuple[str, ...]:
    return (
        score.name,
        str(score.frames),
        str(score.frames_passed_through),
        f"{score.psnr_y_before:.2f}",
        f"{score.psnr_y_after:.2f}",
        f"{score.gain:+.3f}",
        f"{score.worst_frame_gain:+.3f}",
        f"{score.deviation_before:.3f}",
        f"{score.deviation_after:.3f}",
        *_likeness(score),
        f"{score.bits_per_pixel:.3f}",
    )


def _evaluate_clips(
    enhancer: Enhancer,
    folder: Path,
    degradation: Degradation,
    seed: int,
    frames: int,
    about: dict[str, object],
    as_json: bool,
) -> int:
    """The exit code: 3 where frames could not be restored."""
    from ns_video.media.clip_files import list_clips
    from ns_video.training.evaluate import mean_clip_score, score_clip

    paths = list_clips(folder)
    scores = [
        dataclasses.replace(score_clip(path, degradation, enhancer, seed, frames), name=name)
        for name, path in zip(_names(paths), _with_progress(paths))
    ]
    mean = mean_clip_score(scores)
    if as_json:
        rows = [{**dataclasses.asdict(score), "gain": score.gain} for score in scores]
        worst = min(score.gain for score in scores)
        means = {**dataclasses.asdict(mean), "gain": mean.gain, "smallest_gain": worst}
        emit({**about, "clips": rows, "mean": means})
    else:
        _print_rows(CLIP_HEADER, map(_clip_row, (*scores, mean)))
    return 3 if mean.frames_passed_through else 0


def _names(paths: list[Path]) -> list[str]:
    """What files are called in the results: without suffix, unless several would share that name."""
    stems = Counter(path.stem for path in paths)
    return [path.stem if stems[path.stem] == 1 else path.name for path in paths]


def _with_progress(paths: list[Path]) -> Iterator[Path]:
    from tqdm import tqdm

    with tqdm(paths, unit="file", leave=False, disable=None) as bar:
        for path in bar:
            bar.set_postfix_str(path.name)
            yield path
