"""`ns-video train`: trains a still model from a configuration."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ns_video.training.trainer import Update, ValidationUpdate


@click.command(name="train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the output folder, exactly.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:N; torchrun gives each its own.")
@click.option("--threads", default=0, help="CPU threads of the training; 0: torch's choice.")
@click.option("--json", "as_json", is_flag=True, help="Print every update as a JSON line.")
def command(config: Path, resume: bool, device: str, threads: int, as_json: bool) -> None:
    """Train the model that the file CONFIG describes (see pipelines/training/).

    The output folder gets the checkpoint (every minute), log.csv, curves.png and at the end the model as
    .safetensors. With torchrun each process takes its own GPU and its own part of the samples.
    """
    import torch
    from tqdm import tqdm

    from ns_video.training.config import read_config
    from ns_video.training.trainer import FinishedUpdate, StepUpdate, Trainer, ValidationUpdate

    if threads > 0:
        torch.set_num_threads(threads)
    trainer = Trainer(read_config(config), device)
    if resume:
        trainer.resume()
    total = trainer.config.schedule.steps
    shown = not as_json and trainer.process.leads
    with tqdm(total=total, initial=trainer.step, unit="step", disable=None if shown else True) as bar:
        for update in trainer.run():
            if as_json:
                click.echo(json.dumps(_record(update)))
            elif isinstance(update, StepUpdate):
                bar.update(update.step - bar.n)
                bar.set_postfix_str(
                    f"loss {update.loss:.5f}, rate {update.rate:.1e}, samples/s: loader "
                    f"{update.loader_samples_per_second:.0f}, step {update.step_samples_per_second:.0f}"
                )
            elif isinstance(update, ValidationUpdate):
                bar.write(_validation_text(update))
            elif isinstance(update, FinishedUpdate):
                click.echo(f"{update.model}")


def _record(update: Update) -> dict[str, object]:
    values = {
        key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(update).items()
    }
    return {"update": type(update).__name__.removesuffix("Update").lower(), **values}


def _validation_text(update: ValidationUpdate) -> str:
    scores = ", ".join(
        f"{score.spec} {score.psnr_before:.2f} {score.psnr_after - score.psnr_before:+.2f}" for score in update.scores
    )
    return f"step {update.step}: {scores} dB"
