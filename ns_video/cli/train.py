"""`ns-video train`: trains a model for stills or clips from a configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ns_video.cli import emit, say
from ns_video.cli.local_file import NamedPath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ns_video.training.config import Make
    from ns_video.training.quantiser import QuantiserUpdate
    from ns_video.training.trainer import Update, ValidationUpdate
    from ns_video.training.video import VideoUpdate


@click.command(name="train")
@click.argument("config", type=NamedPath())
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the output folder, exactly.")
@click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or mps; torchrun: cuda gives each its own."
)
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="CPU threads of the training; 0: torch's choice."
)
@click.option("--json", "as_json", is_flag=True, help="Print every update as a JSON line.")
@click.pass_context
def command(ctx: click.Context, config: Path, resume: bool, device: str, threads: int, as_json: bool) -> None:
    """Train the model that the file CONFIG describes (see pipelines/training/).

    The output folder gets the checkpoint (every minute) and at the end the model as .safetensors; a training of stills
    also leaves log.csv and curves.png. What another training left there is not overwritten. With torchrun each process
    takes its own GPU and its own samples. A configuration with a `cache` of coded clips trains a model for clips, or
    with `task = "quantiser"` what guesses their quantisers; the clips are made first.
    """
    import torch
    from tqdm import tqdm

    from ns_video.errors import UsageError
    from ns_video.machine import keep_freed_memory
    from ns_video.training.config import read_config, read_table
    from ns_video.training.trainer import FinishedUpdate, StepUpdate, Trainer, ValidationUpdate

    keep_freed_memory()
    if threads > 0:
        torch.set_num_threads(threads)
    table = read_table(config)
    quiet = bool(ctx.obj and ctx.obj["quiet"])
    if "folders" in table:
        script = "train_content.py" if "drawn" in table else "train_iqa.py"
        raise UsageError(f"{config} is the recipe of a judge", remedy=f"python benchmarks/{script} {config} OUTPUT")
    if "task" in table or "cache" in table:
        _train_clips(config, device, resume, as_json, quiet)
        return
    trainer = Trainer(read_config(config), device)
    if trainer.process.leads and not (quiet or resume):
        for note in trainer.notes:
            say(f"note: {note}")
    if resume:
        trainer.resume()
    total = trainer.config.schedule.steps
    shown = not (quiet or as_json) and trainer.process.leads
    with tqdm(total=total, initial=trainer.step, unit="step", disable=None if shown else True) as bar:
        for update in trainer.run():
            if not trainer.process.leads:
                continue
            if as_json:
                emit(_record(update))
            elif isinstance(update, StepUpdate):
                bar.update(update.step - bar.n)
                bar.set_postfix_str(
                    f"loss {update.loss:.5f}, rate {update.rate:.1e}, samples/s: loader "
                    f"{update.loader_samples_per_second:.0f}, step {update.step_samples_per_second:.0f}"
                )
            elif isinstance(update, ValidationUpdate) and shown:
                bar.write(_validation_text(update))
            elif isinstance(update, FinishedUpdate):
                click.echo(f"{update.model}")


def _make_clips(parts: tuple[Make, ...], cache: Path, validation: Path | None, quiet: bool) -> None:
    """Makes the pool of coded clips."""
    from tqdm import tqdm

    from ns_video.training.config import SHARES
    from ns_video.training.video_clips import find_sources, grow_pool, grow_validation

    jobs: list[tuple[str, Iterator[Path]]] = []  # all sources are looked for before the first clip is made
    for number, part in enumerate(parts):
        folders = [[Path(folder) for folder in names] for names in (part.clips, part.pictures)]
        shares = {name: getattr(part, name) for name in SHARES}
        jobs.append(("coded clips", grow_pool(find_sources(*folders, **shares), cache, part.count, part.seed)))
        if number == 0 and validation is not None:
            held_out = find_sources(*folders, validation=True, newer_share=part.newer_share)
            jobs.append(("validation clips", grow_validation(held_out, validation)))
    for name, made in jobs:
        for _ in tqdm(made, desc=name, unit="clip", disable=True if quiet else None):
            pass


def _train_clips(path: Path, device: str, resume: bool, as_json: bool, quiet: bool) -> None:
    from tqdm import tqdm

    from ns_video.training import quantiser, video
    from ns_video.training.config import read_makes, read_table
    from ns_video.training.process import find_process

    parts = read_makes(path)
    if "task" in read_table(path):
        settings = quantiser.read_config(path)
        updates, model = quantiser.train_quantiser(settings, device, resume=resume), quantiser.model_file(settings)
    else:
        settings = video.read_config(path)
        updates, model = video.train_video(settings, device, resume=resume), video.model_file(settings)
    process = find_process(device)
    with process.together():
        if process.leads:
            _make_clips(parts, settings.cache, settings.validation, quiet or as_json)
    shown = not as_json and not quiet and process.leads
    with tqdm(total=settings.steps, unit="step", disable=None if shown else True) as bar:
        for update in updates:
            if not process.leads:
                continue
            bar.update(update.step - bar.n)
            bar.set_postfix_str(_clip_text(update))
            if as_json:
                emit({"update": "step", **dataclasses.asdict(update)})
            elif update.validation is not None and not quiet:
                bar.write(_groups_text(update))
    if process.leads:
        if as_json:
            emit({"update": "finished", "model": str(model)})
        else:
            click.echo(str(model))


def _clip_text(update: VideoUpdate | QuantiserUpdate) -> str:
    from ns_video.training.video import VideoUpdate

    gain = f", gain {update.gain:+.3f} dB" if isinstance(update, VideoUpdate) else ""
    return f"loss {update.loss:.4f}{gain}"


def _groups_text(update: VideoUpdate | QuantiserUpdate) -> str:
    from ns_video.training.video import VideoUpdate

    digits, unit = (3, "dB PSNR-Y") if isinstance(update, VideoUpdate) else (2, "octaves beside the truth")
    groups = (update.validation or {}).items()
    values = ", ".join(f"{name} {value:+.{digits}f}" for name, value in groups)
    silent = _silent_text(update.silent_channels) if isinstance(update, VideoUpdate) else ""
    return f"step {update.step}: {values} {unit}{silent}"


def _record(update: Update) -> dict[str, object]:
    values = {
        key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(update).items()
    }
    return {"update": type(update).__name__.removesuffix("Update").lower(), **values}


def _validation_text(update: ValidationUpdate) -> str:
    scores = ", ".join(
        f"{score.spec} {score.psnr_before:.2f} {score.psnr_after - score.psnr_before:+.2f}" for score in update.scores
    )
    return f"step {update.step}: {scores} dB{_silent_text(update.silent_channels)}"


def _silent_text(silent: int) -> str:
    return f"; {silent} channel{'s' if silent > 1 else ''} silent" if silent else ""
