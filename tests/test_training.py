"""The trainer on tiny pictures: it learns, resumes exactly, exports what loads, and refuses wrong configurations."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ns_video.cli import run
from ns_video.errors import InputError, ModelError, OutputError, ResumeError, UsageError
from ns_video.frame import JpegTables
from ns_video.media.degrade import DegradedStill, degrade_still
from ns_video.media.pictures import read_rgb, write_png
from ns_video.networks.discriminator import DiscriminatorConfig, MultiScaleDiscriminator
from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
from ns_video.training import video
from ns_video.training.adversarial import (
    ArtifactDetector,
    artifact_terms,
    detector_loss,
    gan_discriminator,
    gan_generator,
    ragan_discriminator,
    ragan_generator,
)
from ns_video.training.checkpoint import WholeSteps, check_output, write_checkpoint
from ns_video.training.config import HAT_SIZES, Damage, TrainingConfig, read_config, read_table
from ns_video.training.log import TrainingLog
from ns_video.training.optimizer import Muon, make_optimizer, orthogonalised
from ns_video.training.pictures import PictureSet, batches, draw_batch, draw_graphics, draw_tables, line_sharpened
from ns_video.training.process import Arithmetic, Process, find_process
from ns_video.training.start import start_from
from ns_video.training.trainer import (
    FinishedUpdate,
    SpecScore,
    StepUpdate,
    Trainer,
    ValidationUpdate,
    learning_rate,
    make_network,
    tiled_forward,
)
from ns_video.weights import Metadata, load_descriptor, save_model
from ns_video.weights.foreign import HAT_SIZES as HAT_NETWORKS
from ns_video.weights.foreign import HatConfig, RcanConfig, build_hat, build_rcan
from ns_video.weights.load import load_weights


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of smooth shapes with hard edges: what JPEG damages."""
    folder = tmp_path_factory.mktemp("pictures") / "shapes"
    folder.mkdir()
    y, x = np.mgrid[0:128, 0:128]
    for index in range(6):
        random = np.random.default_rng(index)
        picture = np.zeros((128, 128, 3))
        for _ in range(6):
            a, b, c = random.normal(0, 1, 3)
            picture += (np.sign(a * (x - 64) + b * (y - 64) + 20 * c)[..., None] + 1) * random.uniform(5, 40, 3)
        write_png(folder / f"{index}.png", np.clip(picture, 0, 255).astype(np.uint8))
    return folder


def config_text(folder: Path, output: Path, extra: str = "", steps: int = 8, damage: str = 'kind = "jpeg"') -> str:
    return f"""
name = "trial"
output = "{output}"
[data]
root = "{folder.parent}"
sources = [{{ folder = "{folder.name}" }}]
crop = 32
batch = 2
hold_out = 3
[damage]
{damage}
[network]
size = "tiny"
[schedule]
steps = {steps}
warm_up = 2
precision = "fp32"
[log]
validate_every = 4
validation_pictures = 2
report_every = 2
{extra}
"""


def parse_config(text: str) -> TrainingConfig:
    """What a file of this text says."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return read_config(Path(file.name))


def make(folder: Path, output: Path, **changes: object) -> TrainingConfig:
    return parse_config(config_text(folder, output, **changes))  # pyright: ignore[reportArgumentType]


def test_a_training_logs_exports_and_its_model_loads(picture_folder: Path, tmp_path: Path) -> None:
    updates = list(Trainer(make(picture_folder, tmp_path / "run"), "cpu").run())
    steps = [update for update in updates if isinstance(update, StepUpdate)]
    assert [update.step for update in steps] == [2, 4, 6, 8]
    assert all(u.loader_samples_per_second > 0 and u.step_samples_per_second > 0 for u in steps)
    assert [u.step for u in updates if isinstance(u, ValidationUpdate)] == [4, 8]
    finished = updates[-1]
    assert isinstance(finished, FinishedUpdate)
    descriptor = load_descriptor(finished.model)
    assert (descriptor.conditioning, descriptor.scale, descriptor.sha256) == ("jpeg", 1, finished.sha256)
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["loss"]) for row in rows) == 4
    assert read_rgb(tmp_path / "run" / "curves.png").std() > 5


def test_learning_lowers_the_loss(picture_folder: Path, tmp_path: Path) -> None:
    config = make(picture_folder, tmp_path, steps=60, damage='kind = "spec"\nspecs = ["mosaic:p=4"]')
    losses = [update.loss for update in Trainer(config, "cpu").run() if isinstance(update, StepUpdate)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_resume_gives_the_weights_of_an_unbroken_training(picture_folder: Path, tmp_path: Path) -> None:
    whole = Trainer(make(picture_folder, tmp_path / "whole"), "cpu")
    list(whole.run())
    broken = Trainer(make(picture_folder, tmp_path / "broken"), "cpu")
    updates = broken.run()
    assert isinstance(next(updates), StepUpdate)
    updates.close()  # the checkpoint is written on the way out
    assert broken.step == 2
    again = Trainer(make(picture_folder, tmp_path / "broken"), "cpu")
    again.resume()
    assert again.step == broken.step
    list(again.run())
    for key, tensor in whole.averaged.state_dict().items():
        assert torch.equal(tensor, again.averaged.state_dict()[key]), key
    for key, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[key]), key


def silence(network: torch.nn.Module, channels: list[int]) -> None:
    """Shuts the ReLUs of those channels of the second lower block for good."""
    with torch.no_grad():
        network.get_parameter("body.1.conv1.bias")[channels] = -1e4


def with_silent_start(folder: Path, where: Path, output: Path, revives: bool, steps: int = 8) -> TrainingConfig:
    start = Trainer(parse_config(config_text(folder, where / "start")), "cpu").network
    torch.nn.init.normal_(start.tail.weight, std=0.01)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    silence(start, list(range(20)))
    save_model(start, where / "start.safetensors", Metadata("ns_restore", "jpeg"))
    config = parse_config(config_text(folder, output, steps=steps))
    network = replace(config.network, start=str(where / "start.safetensors"), revive=revives)
    schedule = replace(config.schedule, optimizer="muon")
    return replace(config, network=network, schedule=schedule)


def test_a_training_revives_and_tells_what_is_silent(picture_folder: Path, tmp_path: Path) -> None:
    silent: dict[bool, list[tuple[int, int]]] = {}
    for revives in (False, True):
        config = with_silent_start(picture_folder, tmp_path, tmp_path / f"{revives}", revives)
        updates = list(Trainer(config, "cpu").run())
        silent[revives] = [
            (update.silent_channels, update.inner_channels)
            for update in updates
            if isinstance(update, ValidationUpdate)
        ]
    inner = 2 * SIZES["tiny"][0] * SIZES["tiny"][1][1]
    assert [total for _, total in silent[False] + silent[True]] == [inner] * 4
    assert all(count >= 20 for count, _ in silent[False])
    assert all(count < 10 for count, _ in silent[True])


def test_a_revived_training_resumes_exactly(picture_folder: Path, tmp_path: Path) -> None:
    whole = Trainer(with_silent_start(picture_folder, tmp_path, tmp_path / "whole", True), "cpu")
    list(whole.run())
    config = with_silent_start(picture_folder, tmp_path, tmp_path / "parts", True)
    first = Trainer(config, "cpu")
    updates = first.run()
    next(updates)
    updates.close()
    again = Trainer(config, "cpu")
    again.resume()
    assert 0 < again.step < 8
    list(again.run())
    for key, tensor in whole.averaged.state_dict().items():
        assert torch.equal(tensor, again.averaged.state_dict()[key]), key


def test_ctrl_c_waits_for_the_end_of_the_step(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(make(picture_folder, tmp_path / "whole"), "cpu")
    list(whole.run())
    broken = Trainer(make(picture_folder, tmp_path / "broken"), "cpu")
    average = broken._average

    def interrupted() -> None:  # between the optimizer and the count of the step
        if broken.step == 4:
            signal.raise_signal(signal.SIGINT)
        average()

    monkeypatch.setattr(broken, "_average", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(broken.run())
    assert broken.step == 5
    again = Trainer(broken.config, "cpu")
    again.resume()
    assert again.step == 5
    list(again.run())
    for key, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[key]), key


def test_ctrl_c_in_a_validation_is_made_up_for_by_a_resume(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trainer(name: str) -> Trainer:
        text = config_text(picture_folder, tmp_path / name, steps=4).replace("validate_every = 4", "validate_every = 2")
        return Trainer(parse_config(text.replace("warm_up = 2", 'warm_up = 0\nkind = "plateau"\npatience = 0')), "cpu")

    def logged(name: str) -> list[str]:
        with (tmp_path / name / "log.csv").open() as file:
            return [row["step"] for row in csv.DictReader(file) if row["spec"]]

    whole, broken = trainer("whole"), trainer("broken")
    whole.best_gain = broken.best_gain = 1e9  # no validation is better: each halves the rate
    list(whole.run())
    validate = broken.validate

    def interrupted() -> ValidationUpdate:
        signal.raise_signal(signal.SIGINT)
        return validate()

    monkeypatch.setattr(broken, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(broken.run())
    again = trainer("broken")
    again.resume()
    list(again.run())
    assert logged("broken") == logged("whole")
    assert again.halvings == whole.halvings == 2
    for key, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[key]), key


def test_a_step_cut_short_leaves_the_checkpoint_before_it(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(make(picture_folder, tmp_path, extra="save_seconds = 0.0"), "cpu")

    def fail() -> None:
        if trainer.step == 3:
            raise MemoryError

    monkeypatch.setattr(trainer, "_average", fail)
    with pytest.raises(MemoryError):
        list(trainer.run())
    again = Trainer(trainer.config, "cpu")
    again.resume()
    assert again.step == 3


@pytest.mark.parametrize(("ruin", "last"), [(np.nan, 3), (1e30, 4)])
def test_a_training_that_diverges_ends_and_keeps_its_last_good_checkpoint(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ruin: float, last: int
) -> None:
    """By weights that are not finite after step 4, or by a loss that isn't at step 5."""
    trainer = Trainer(make(picture_folder, tmp_path, extra="save_seconds = 0.0"), "cpu")

    def ruined() -> None:
        if trainer.step == 3:
            torch.nn.init.constant_(next(trainer.network.parameters()), ruin)

    monkeypatch.setattr(trainer, "_average", ruined)
    with pytest.raises(ModelError, match=r"the training diverged.*lower its rate"):
        list(trainer.run())
    assert not trainer.model.exists()
    again = Trainer(trainer.config, "cpu")
    again.resume()
    assert again.step == last and all(bool(tensor.isfinite().all()) for tensor in again.network.state_dict().values())


def test_steps_that_overflow_in_fp16_are_left_out() -> None:
    plain, scaled = Arithmetic("fp32", torch.device("cpu")), Arithmetic("fp32", torch.device("cpu"))
    scaled._scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    assert scaled.kept((1.0, np.inf)) == plain.kept((1.0,)) == [1.0]
    with pytest.raises(ModelError, match="diverged"):
        plain.kept((1.0, np.inf))
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(30):
        scaled.descend(network(torch.full((1, 1), np.inf)).mean(), network, optimizer, 0.2)
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
    with pytest.raises(ModelError, match="diverged"):
        scaled.kept((np.inf,))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_interrupt_wait_for_the_end_of_the_step(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)  # as the command has it
    try:
        steps, done = WholeSteps(), False
        with pytest.raises(KeyboardInterrupt), steps:
            signal.raise_signal(number)
            done = True
        assert done and steps.whole and signal.getsignal(number) is signal.default_int_handler
        signal.signal(number, signal.SIG_IGN)  # nohup
        with steps:
            signal.raise_signal(number)
        assert steps.whole and signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_second_ctrl_c_does_not_wait() -> None:
    steps = WholeSteps()
    with pytest.raises(KeyboardInterrupt), steps:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError
    assert not steps.whole
    with steps:
        pass
    assert steps.whole and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_dropout_is_the_same_after_a_resume(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(NsRestore):
        def forward(self, x: torch.Tensor, side: torch.Tensor | None = None) -> torch.Tensor:
            return torch.nn.functional.dropout(super().forward(x, side), 0.2, self.training)

    def forgetful(config: TrainingConfig) -> NsRestore:
        network = make_network(config)
        assert isinstance(network, NsRestore)
        return Forgetful(network.config)

    monkeypatch.setattr("ns_video.training.trainer.make_network", forgetful)
    whole = Trainer(make(picture_folder, tmp_path / "whole"), "cpu")
    list(whole.run())
    list(Trainer(make(picture_folder, tmp_path / "half"), "cpu").run(stop_at=4))
    torch.manual_seed(99)
    again = Trainer(make(picture_folder, tmp_path / "half"), "cpu")
    again.resume()
    list(again.run())
    for key, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[key]), key
    draws = []
    for rank, step in ((0, 1), (0, 1), (1, 1), (0, 2)):
        Process(rank, 2, torch.device("cpu")).seed(1, step)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[1] and len(set(draws)) == 3


def test_nothing_is_overwritten_without_resume(picture_folder: Path, tmp_path: Path) -> None:
    config = make(picture_folder, tmp_path, steps=2)
    list(Trainer(config, "cpu").run())
    with pytest.raises(UsageError, match=r"checkpoint\.pt is there already.*--resume"):
        next(Trainer(config, "cpu").run())
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(UsageError, match=r"trial\.safetensors is there already"):
        next(Trainer(config, "cpu").run())
    (tmp_path / "trial.safetensors").unlink()
    list(Trainer(config, "cpu").run())  # of a training that was killed early a log may be left
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["loss"]] == ["2"]


def test_the_log_ends_where_the_checkpoint_was_written(picture_folder: Path, tmp_path: Path) -> None:
    config = make(picture_folder, tmp_path)
    list(Trainer(config, "cpu").run(stop_at=4))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("6,0.5,0.1,,,,,\n")
    again = Trainer(config, "cpu")
    again.resume()
    with (tmp_path / "log.csv").open() as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"2", "4"}


@pytest.mark.parametrize(
    "tail",
    ['4,,,"jpeg:q=10,sub', "4,,,jpeg:q=10,25.6", "4,0.5,0.00", "\0" * 4096],
    ids=["in quotes", "in a number", "before the end", "zeros"],
)
def test_rows_that_a_power_cut_tore_are_left_out_of_the_log(tail: str, tmp_path: Path) -> None:
    log, score = TrainingLog(tmp_path), SpecScore("jpeg:q=10,subsampling=444", 25.0, 26.0, 0.5, 0.9)
    for update in (StepUpdate(2, 9, 0.5, 0.1, 1.0, 1.0, 1.0), ValidationUpdate(2, (score,))):
        log.add(update, tensorboard=False)
    rows = log.rows()
    with log.path.open("a") as file:
        file.write(tail)
    assert len(rows) == 2 and log.rows() == rows
    log.draw()
    log.cut(2, 2)
    log.add(StepUpdate(4, 9, 0.4, 0.1, 1.0, 1.0, 1.0), tensorboard=False)
    with log.path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read == log.rows() and read[:2] == rows and read[2]["step"] == "4"


def test_tensorboard_shows_each_step_once(picture_folder: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    text = config_text(picture_folder, tmp_path, "tensorboard = true", steps=6)
    text = text.replace("validate_every = 4", "validate_every = 100")
    trainer = Trainer(parse_config(text), "cpu")
    list(trainer.run())
    (tmp_path / "trial.safetensors").unlink()
    again = Trainer(trainer.config, "cpu")
    content = torch.load(again.checkpoint, weights_only=True)
    write_checkpoint(again.checkpoint, content | {"step": 2})
    again.resume()
    list(again.run())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6]


def test_a_scaled_training_resumes_from_one_that_was_not() -> None:
    scaled = Arithmetic("fp32", torch.device("cpu"))
    assert scaled.state() == {}
    scaled._scaler = torch.amp.GradScaler("cpu", enabled=True)
    scaled.load({})
    with pytest.raises(UsageError, match="CUDA"):
        Arithmetic("fp16", torch.device("cpu"))


def test_processes_may_share_the_cache_of_pictures(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(make(picture_folder, tmp_path).data, cache=str(tmp_path / "cache"))
    both = threading.Barrier(2)
    save = np.save

    def saved(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        both.wait(10)  # both have written, neither has renamed

    monkeypatch.setattr("ns_video.training.pictures.np.save", saved)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(PictureSet, (data, data))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one.training, two.training, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 6
    monkeypatch.setattr("ns_video.training.pictures.np.save", save)
    changed = tmp_path / "again" / picture_folder.name
    shutil.copytree(picture_folder, changed)
    there = replace(data, root=str(changed.parent))
    before = PictureSet(there).training[0].pixels
    stamp = (changed / "0.png").stat()
    (changed / "0.png").write_bytes((changed / "3.png").read_bytes()[: stamp.st_size].ljust(stamp.st_size, b"\0"))
    assert not np.array_equal(PictureSet(there).training[0].pixels, before)


def test_a_cache_of_many_pictures_takes_no_descriptor_for_each(picture_folder: Path, tmp_path: Path) -> None:
    data = replace(make(picture_folder, tmp_path).data, cache=str(tmp_path / "cache"))
    before = len(list(Path("/dev/fd").iterdir()))
    pictures = PictureSet(data)
    drawn = [pictures.draw(np.random.default_rng(n), 32, False, True) for n in range(20)]
    assert len(list(Path("/dev/fd").iterdir())) == before
    plain = PictureSet(replace(data, cache=""))
    again = [plain.draw(np.random.default_rng(n), 32, False, True) for n in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(drawn, again, strict=True))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match=r"data\.cache"):
        pictures.draw(np.random.default_rng(0), 32, False, True)


def test_a_share_of_the_crops_is_graphics(picture_folder: Path) -> None:
    """Drawn anew for each crop, the same by the same seed: none of them is a part of a picture of the folder."""
    plain_config = make(picture_folder, picture_folder)
    data = plain_config.data
    plain, mixed = PictureSet(data), PictureSet(replace(data, graphics_share=0.4))
    shades = [set(map(tuple, picture.pixels.reshape(-1, 3))) for picture in plain.training]

    def foreign(pictures: PictureSet, seed: int) -> bool:
        """Whether a crop has colours that no picture has."""
        crop = pictures.draw(np.random.default_rng(seed), 48, True, True)
        assert crop.shape == (48, 48, 3)
        assert crop.dtype == np.uint8
        colours = set(map(tuple, crop.reshape(-1, 3)))
        return not any(colours <= known for known in shades)

    assert not any(foreign(plain, seed) for seed in range(60))
    assert 12 <= sum(foreign(mixed, seed) for seed in range(60)) <= 34
    again = [mixed.draw(np.random.default_rng(7), 48, True, True) for _ in range(2)]
    assert np.array_equal(*again)
    for share in (-0.1, 1.1):
        with pytest.raises(UsageError, match="graphics_share"):
            replace(plain_config, data=replace(data, graphics_share=share))


def test_each_kind_of_graphics_gives_a_picture(picture_folder: Path) -> None:
    """Of whatever size the pictures are."""
    random = np.random.default_rng(1)
    still = np.random.default_rng(3).integers(0, 256, (56, 60, 3), np.uint8)
    drawn = [draw_graphics(lambda: still, random, side) for side in (112, 192) for _ in range(60)]
    assert {picture.shape for picture in drawn} == {(112, 112, 3), (192, 192, 3)}
    assert len({picture.tobytes() for picture in drawn}) == len(drawn)


def test_a_training_on_targets_that_are_made_otherwise_now_is_not_resumed(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path, steps=2).replace("crop = 32", "crop = 32\nline_sharpened = 0.5")
    trainer = Trainer(parse_config(text), "cpu")
    list(trainer.run())
    trainer.resume()
    content = torch.load(trainer.checkpoint, weights_only=True)
    content["training"] = content["training"].replace(', "sharpened": "within borders"', "")
    write_checkpoint(trainer.checkpoint, content)
    with pytest.raises(ResumeError, match="another configuration"):
        trainer.resume()


def test_resume_refuses_another_configuration_and_a_missing_checkpoint(picture_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError):
        Trainer(make(picture_folder, tmp_path), "cpu").resume()
    list(Trainer(make(picture_folder, tmp_path, steps=2), "cpu").run())
    with pytest.raises(ResumeError, match="another configuration"):
        Trainer(make(picture_folder, tmp_path, steps=3), "cpu").resume()


def test_resume_refuses_other_pictures(picture_folder: Path, tmp_path: Path) -> None:
    """One file more, and those held out are trained with."""
    folder = tmp_path / "here" / "shapes"
    shutil.copytree(picture_folder, folder)
    trainer = Trainer(make(folder, tmp_path / "run", steps=2), "cpu")
    trainer.save()
    shutil.copytree(folder, tmp_path / "there" / "shapes")
    shutil.copy(folder / "0.png", folder / "00.png")
    again = Trainer(make(folder, tmp_path / "run", steps=2), "cpu")
    with pytest.raises(ResumeError, match="is of other pictures"):
        again.resume()
    Trainer(make(tmp_path / "there" / "shapes", tmp_path / "run", steps=2), "cpu").resume()
    content = torch.load(trainer.checkpoint, weights_only=True)
    del content["pictures"]  # as before 0.14.0
    write_checkpoint(trainer.checkpoint, content)
    again.resume()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"junk" * 99, lambda _: b""])
def test_a_damaged_checkpoint_is_named(damage: Callable[[bytes], bytes], picture_folder: Path, tmp_path: Path) -> None:
    list(Trainer(make(picture_folder, tmp_path, steps=2), "cpu").run())
    again = Trainer(make(picture_folder, tmp_path, steps=2), "cpu")
    again.checkpoint.write_bytes(damage(again.checkpoint.read_bytes()))
    with pytest.raises(ResumeError, match=r"checkpoint\.pt is damaged, or no checkpoint \(remove it"):
        again.resume()


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    before = (tmp_path / "checkpoint.pt").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt: File too large"):
            write_checkpoint(tmp_path / "checkpoint.pt", {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_what_a_kill_left_of_a_checkpoint_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("ns_video.journal.os.fsync", killed)
    monkeypatch.setattr("ns_video.journal.WrittenBeside.drop", lambda _: None)  # as after SIGKILL
    with pytest.raises(SystemExit):
        write_checkpoint(tmp_path / "checkpoint.pt", {"weights": torch.zeros(100)})
    monkeypatch.undo()
    (left,) = tmp_path.iterdir()
    left.write_bytes(left.read_bytes()[:200])
    (tmp_path / ".ns-video-0123456789abcdef").write_text("another's")
    (tmp_path / ".ns-video-fedcba9876543210").mkdir()
    check_output(tmp_path / "checkpoint.pt", tmp_path / "a.safetensors", resume=False)
    kept = {".ns-video-0123456789abcdef", ".ns-video-fedcba9876543210"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_cache_on_a_full_disk_is_named(picture_folder: Path, tmp_path: Path) -> None:
    data = replace(make(picture_folder, tmp_path).data, cache=str(tmp_path / "cache"))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"/cache/.*\.npy: File too large"):
            PictureSet(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "cache").iterdir()) == []


def test_held_out_pictures_are_never_trained_on(picture_folder: Path, tmp_path: Path) -> None:
    pictures = PictureSet(make(picture_folder, tmp_path).data)
    kept, used = {p.name for p in pictures.held_out}, {p.name for p in pictures.training}
    assert len(kept) == 2 and len(used) == 4 and not kept & used


def test_a_hold_out_that_keeps_nothing_is_named(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path)
    with pytest.raises(InputError, match=r"hold_out = 20 keeps no picture.*make it smaller; 0 validates"):
        PictureSet(parse_config(text.replace("hold_out = 3", "hold_out = 20")).data)
    nothing = PictureSet(parse_config(text.replace("hold_out = 3", "hold_out = 0")).data)
    assert len(nothing.training) == 6 and not nothing.held_out


def test_a_thumbnail_is_not_validated_on(picture_folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "pictures" / "mixed"
    shutil.copytree(picture_folder, mixed)
    write_png(mixed / "1.png", np.zeros((9, 9, 3), np.uint8))  # of 0, 1, 2, ... the held-out are 1 and 4
    trainer = Trainer(make(mixed, tmp_path / "run"), "cpu")
    assert [picture.name for picture in trainer.pictures.held_out] == ["mixed/4.png"]
    assert trainer.validate().scores[0].ssim_after > 0


def test_a_batch_depends_on_seed_step_and_rank_alone(picture_folder: Path, tmp_path: Path) -> None:
    config = make(picture_folder, tmp_path)
    pictures = PictureSet(config.data)
    first = draw_batch(pictures, config, 5)
    assert torch.equal(first.degraded, draw_batch(PictureSet(config.data), config, 5).degraded)
    assert not torch.equal(first.degraded, draw_batch(pictures, config, 6).degraded)
    assert not torch.equal(first.degraded, draw_batch(pictures, config, 5, rank=1).degraded)
    assert first.side is not None and first.side.shape == (2, 7, 1, 1)
    assert not torch.equal(first.degraded, first.reference)


def test_worker_processes_make_the_same_batches(picture_folder: Path, tmp_path: Path) -> None:
    alone = Trainer(make(picture_folder, tmp_path / "a", steps=3), "cpu")
    helped_text = config_text(picture_folder, tmp_path / "b", steps=3).replace("batch = 2", "batch = 2\nworkers = 2")
    helped = Trainer(parse_config(helped_text), "cpu")
    list(alone.run())
    list(helped.run())
    for key, tensor in alone.network.state_dict().items():
        assert torch.equal(tensor, helped.network.state_dict()[key]), key


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals on this system")
def test_workers_outlast_what_interrupts_the_whole_group(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path, steps=30).replace("batch = 2", "batch = 2\nworkers = 2")
    config = parse_config(text)
    pictures, before = PictureSet(config.data), set(multiprocessing.active_children())
    made = batches(pictures, config, 0)
    for _ in range(2):  # each worker is at work
        next(made)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        for worker in workers:
            os.kill(worker.pid or 0, number)
    rest = list(made)
    assert len(rest) == 28
    assert torch.equal(rest[-1].degraded, draw_batch(pictures, config, 29).degraded)
    del made
    for worker in workers:
        worker.join(10)
    assert [worker.exitcode for worker in workers] == [0, 0]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals on this system")
def test_workers_end_at_the_second_sigterm(picture_folder: Path, tmp_path: Path) -> None:
    """As multiprocessing sends it when the program ends and they haven't."""
    text = config_text(picture_folder, tmp_path, steps=30).replace("batch = 2", "batch = 2\nworkers = 1")
    config = parse_config(text)
    before = set(multiprocessing.active_children())
    made = batches(PictureSet(config.data), config, 0)
    next(made)
    (worker,) = set(multiprocessing.active_children()) - before
    until = time.monotonic() + 20
    while worker.is_alive() and time.monotonic() < until:
        worker.terminate()
        worker.join(0.05)
    assert worker.exitcode == 0
    del made


@pytest.mark.parametrize(("low", "most"), [(60, 0.15), (20, 0.2)])
def test_qualities_are_even_where_none_is_low(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: int, most: float
) -> None:
    seen: list[int] = []

    def draw(random: np.random.Generator, damage: Damage, quality: int) -> JpegTables:
        seen.append(quality)
        return draw_tables(random, damage, quality)

    text = config_text(picture_folder, tmp_path, damage=f"quality = [{low}, 98]").replace("batch = 2", "batch = 64")
    config = parse_config(text)
    monkeypatch.setattr("ns_video.training.pictures.draw_tables", draw)
    draw_batch(PictureSet(config.data), config, 0)
    assert max(seen.count(quality) for quality in seen) / len(seen) < most
    assert (sum(quality <= 50 for quality in seen) / len(seen) > 0.5) == (low < 50)


def test_an_enlarging_training_pairs_crops_of_the_right_place(picture_folder: Path, tmp_path: Path) -> None:
    config = make(picture_folder, tmp_path, damage='kind = "spec"\nspecs = ["downscale:x=2"]')
    batch = draw_batch(PictureSet(config.data), config, 0)
    assert batch.degraded.shape[-2:] == (16, 16) and batch.reference.shape[-2:] == (32, 32)
    small = torch.nn.functional.avg_pool2d(batch.reference, 2)
    shifted = small.roll(1, -1)
    assert (small - batch.degraded).abs().mean() < 0.5 * (shifted - batch.degraded).abs().mean()


@pytest.mark.parametrize("scale", [3, 4])
def test_every_enlargement_trains_and_validates(picture_folder: Path, tmp_path: Path, scale: int) -> None:
    text = config_text(picture_folder, tmp_path, "", 2, f'kind = "spec"\nspecs = ["downscale:x={scale}"]')
    updates = list(Trainer(parse_config(text.replace("crop = 32", "crop = 48")), "cpu").run())
    assert isinstance(updates[-1], FinishedUpdate)
    assert load_descriptor(updates[-1].model).scale == scale


def test_every_kind_of_loss_network_trains(picture_folder: Path, tmp_path: Path) -> None:
    extra = """
[loss]
recipe = "charbonnier"
[loss.terms]
adversarial = 0.1
artifact_cross_entropy = 0.1
artifact_features = 1.0
"""
    text = config_text(picture_folder, tmp_path, extra, steps=2).replace("crop = 32", "crop = 128")

    with pytest.raises(Exception, match="at least 144 pixels"):
        Trainer(parse_config(text), "cpu")
    wide = tmp_path / "wide" / "wide"
    wide.mkdir(parents=True)
    write_png(wide / "0.png", np.random.default_rng(0).integers(0, 255, (160, 160, 3)).astype(np.uint8))
    text = text.replace(str(picture_folder.parent), str(wide.parent)).replace(picture_folder.name, "wide")
    trainer = Trainer(parse_config(text.replace("hold_out = 3", "hold_out = 0")), "cpu")
    judge, detector = trainer.rivals.discriminator, trainer.rivals.detector
    assert judge is not None and detector is not None
    before = [p.detach().clone() for p in (*judge.parameters(), *detector.parameters())]
    list(trainer.run())
    after = [*judge.parameters(), *detector.parameters()]
    assert any(not torch.equal(one, two) for one, two in zip(before, after))
    again = Trainer(trainer.config, "cpu")
    again.resume()
    assert again.rivals.discriminator is not None
    for one, two in zip(judge.parameters(), again.rivals.discriminator.parameters()):
        assert torch.equal(one, two)


def test_relativistic_losses_prefer_what_looks_real() -> None:
    high, low = [torch.full((2, 1, 4, 4), 3.0)], [torch.full((2, 1, 4, 4), -3.0)]
    assert ragan_generator(low, high) < ragan_generator(high, low)
    assert ragan_discriminator(high, low) < ragan_discriminator(low, high)
    assert gan_generator(high) < gan_generator(low)
    assert gan_discriminator(high, low) < gan_discriminator(low, high)
    judge = MultiScaleDiscriminator(DiscriminatorConfig(sigmoid=False))
    assert len(judge(torch.rand(1, 3, 96, 96))) == 3


def test_an_artifact_detector_learns_and_its_terms_vanish_on_equal_pictures() -> None:
    torch.manual_seed(0)
    detector = ArtifactDetector(8)
    clean, damaged = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    losses: list[float] = []
    for _ in range(30):
        loss = detector_loss(detector, clean, damaged)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert artifact_terms(detector, clean, clean)[1] == 0
    assert artifact_terms(detector, damaged, clean)[0] > artifact_terms(detector, clean, clean)[0]


def test_tiles_inside_the_loop_equal_the_whole_where_the_overlap_covers_the_network() -> None:
    torch.manual_seed(1)
    network = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0)))
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    picture = torch.rand(1, 3, 128, 128)
    overlap = 2 * network.receptive_radius
    whole, tiled = network(picture), tiled_forward(network, picture, None, 64, overlap)
    assert torch.allclose(whole, tiled, atol=1e-5)
    assert not torch.allclose(whole, tiled_forward(network, picture, None, 64, 0), atol=1e-4)


def test_a_seam_training_runs(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path, "[seam]\ntile = 32\noverlap = 8\n", steps=2)
    updates = list(Trainer(parse_config(text.replace("crop = 32", "crop = 64")), "cpu").run())
    assert isinstance(updates[-1], FinishedUpdate)


def test_rates_follow_the_schedule(picture_folder: Path, tmp_path: Path) -> None:
    cosine = make(picture_folder, tmp_path, steps=100)
    rates = [learning_rate(cosine, step) for step in range(100)]
    assert rates[0] < rates[1] and max(rates) == rates[2] and rates == [*rates[:2], *sorted(rates[2:], reverse=True)]
    text = config_text(picture_folder, tmp_path).replace("warm_up = 2", 'warm_up = 2\nkind = "plateau"')
    plateau = parse_config(text)
    assert learning_rate(plateau, 50, halvings=2) == pytest.approx(plateau.schedule.rate / 4)


def test_a_start_model_gives_its_layers(picture_folder: Path, tmp_path: Path) -> None:
    list(Trainer(make(picture_folder, tmp_path / "one", steps=4), "cpu").run())
    network = NsRestore(NsRestoreConfig(channels=24, blocks=(0, 2, 0)))
    copied, total = start_from(network, str(tmp_path / "one" / "trial.safetensors"))
    assert copied == total  # the head takes the picture's part of a head that also sees tables
    theirs = load_descriptor(tmp_path / "one" / "trial.safetensors").network.state_dict()
    assert torch.equal(network.state_dict()["body.0.conv1.weight"], theirs["body.0.conv1.weight"])
    assert torch.equal(network.state_dict()["head.weight"], theirs["head.weight"][:, :12])


def test_a_start_that_does_not_fit_is_refused_and_a_part_is_told(picture_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "trial.safetensors"
    save_model(NsRestore(NsRestoreConfig(channels=24, blocks=(0, 4, 0))), model, Metadata("ns_restore"))

    def begin(size: str, damage: str = 'kind = "spec"\nspecs = ["noise:sigma=9"]') -> Trainer:
        text = config_text(picture_folder, tmp_path / "out", damage=damage).replace("crop = 32", "crop = 48")
        return Trainer(parse_config(text.replace('size = "tiny"', f'size = "{size}"\nstart = "{model}"')), "cpu")

    with pytest.raises(
        UsageError, match=r"has more than the network: body\.2\.conv1\.bias.*choose its architecture and size"
    ):
        begin("tiny")
    with pytest.raises(UsageError, match="has no layer of the network's shapes"):
        begin("small")
    save_model(NsRestore(NsRestoreConfig(channels=24, blocks=(0, 1, 0))), model, Metadata("ns_restore"))
    (note,) = begin("tiny").notes
    assert re.fullmatch(r"(\d+) of \d+ tensors are those of .*, the others begin anew", note)
    save_model(NsRestore(NsRestoreConfig(channels=24, blocks=(0, 2, 0))), model, Metadata("ns_restore"))
    assert begin("tiny").notes == ()
    assert begin("tiny", 'kind = "spec"\nspecs = ["downscale:x=3"]').notes  # layers of another shape


def test_a_deeper_network_grows_from_a_model(picture_folder: Path, tmp_path: Path) -> None:
    list(Trainer(make(picture_folder, tmp_path, steps=4), "cpu").run())
    model = tmp_path / "trial.safetensors"
    shallow = load_descriptor(model).network
    assert isinstance(shallow, NsRestore)
    deep = NsRestore(replace(shallow.config, blocks=(1, 4, 2)))
    copied, total = start_from(deep, str(model))
    assert copied == len(shallow.state_dict()) < total
    picture, side = torch.rand(1, 3, 32, 32), torch.rand(1, shallow.config.side, 32, 32)
    with torch.no_grad():
        assert torch.equal(deep(picture, side), shallow(picture, side))
    deep(picture, side).square().sum().backward()
    grown = deep.decoder[1].conv2.weight.grad  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(grown, torch.Tensor) and bool(grown.abs().sum() > 0)  # and it learns


@pytest.mark.parametrize(("architecture", "size"), [("rcan", "1x1x16"), ("hat", "small")])
def test_published_architectures_can_be_built_for_training(
    picture_folder: Path, tmp_path: Path, architecture: str, size: str
) -> None:
    text = config_text(picture_folder, tmp_path, damage='kind = "spec"\nspecs = ["downscale:x=2"]')
    config = parse_config(text.replace('size = "tiny"', f'architecture = "{architecture}"\nsize = "{size}"'))
    with torch.no_grad():
        assert make_network(config)(torch.rand(1, 3, 16, 16)).shape == (1, 3, 32, 32)
    with pytest.raises(UsageError, match="size is"):
        parse_config(text.replace('size = "tiny"', f'architecture = "{architecture}"\nsize = "tiny"'))


def test_muon_leaves_first_and_last_layer_means_and_tables_to_adam(picture_folder: Path, tmp_path: Path) -> None:
    def by_adam(network: torch.nn.Module) -> tuple[set[str], set[str]]:
        """Names of weights that go by Adam as a group, and of all that is left out."""
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        inner, outer = (
            {names[id(parameter)] for parameter in group["params"]}
            for group in make_optimizer(network, "muon", 1e-3).param_groups
        )
        assert not inner & outer
        return outer, set(names.values()) - inner - outer

    rcan, hat = build_rcan(RcanConfig(1, 1, 16)), build_hat(HatConfig(12, (1,), 8))
    outer, frozen = by_adam(rcan)
    assert outer == {"head.0.weight", "tail.1.weight"}
    assert frozen == {f"{name}_mean.{part}" for name in ("sub", "add") for part in ("weight", "bias")}
    outer, frozen = by_adam(hat)
    tables = {name for name, _ in hat.named_parameters() if name.endswith("relative_position_bias_table")}
    assert tables and outer == {"conv_first.weight", "conv_last.weight"} | tables and not frozen
    assert by_adam(make_network(make(picture_folder, tmp_path))) == ({"head.weight", "tail.weight"}, set())


def test_muon_learns_and_resumes_exactly(picture_folder: Path, tmp_path: Path) -> None:
    def trainer(name: str) -> Trainer:
        text = config_text(picture_folder, tmp_path / name)
        return Trainer(parse_config(text.replace("warm_up = 2", 'warm_up = 0\noptimizer = "muon"')), "cpu")

    whole = trainer("whole")
    losses = [update.loss for update in whole.run() if isinstance(update, StepUpdate)]
    assert losses[-1] < losses[0]
    list(trainer("half").run(stop_at=4))
    again = trainer("half")
    again.resume()
    list(again.run())
    for ours, theirs in zip(again.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_torchrun_trains_with_two_processes_and_writes_for_tensorboard(picture_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    recipe = tmp_path / "two.toml"
    recipe.write_text(config_text(picture_folder, output).replace("[log]", "[log]\ntensorboard = true"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "ns_video", "train", str(recipe), "--device", "cpu", "--threads", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    updates = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [update["step"] for update in updates if update["update"] == "step"] == [2, 4, 6, 8]  # one process speaks
    assert load_descriptor(str(output / "trial.safetensors")).parameters > 0
    assert list((output / "tensorboard").iterdir())


TWO_PROCESSES = """
import json, os, sys
import torch
import torch.distributed as dist
from pathlib import Path
from ns_video.training.config import read_config
from ns_video.training.trainer import Trainer

torch.set_num_threads(1)
trainer = Trainer(read_config(Path(sys.argv[1])), "cpu")
trainer.best_gain = 1e9  # no validation is better: each halves the rate
for _ in trainer.run():
    pass

def apart(network):
    flat = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    both = [torch.zeros_like(flat) for _ in range(2)]
    dist.all_gather(both, flat)
    return float((both[0] - both[1]).abs().max())

found = [apart(network) for network in (trainer.network, trainer.rivals.discriminator, trainer.rivals.detector)]
if trainer.process.rank == 1:
    print(json.dumps({"halvings": trainer.halvings, "apart": found}))
sys.stdout.flush()
dist.barrier()
os._exit(0)  # as the command does
"""


def test_two_processes_keep_equal_networks_and_rates(picture_folder: Path, tmp_path: Path) -> None:
    terms = "[loss.terms]\nadversarial = 0.01\nartifact_features = 0.1\n"
    text = config_text(picture_folder, tmp_path / "out", terms, 3, 'kind = "spec"\nspecs = ["mosaic:p=2"]')
    text = text.replace("crop = 32", f'crop = 96\ncache = "{tmp_path / "cache"}"').replace("batch = 2", "batch = 1")
    text = text.replace("warm_up = 2", 'warm_up = 0\nkind = "plateau"\npatience = 0')
    text = text.replace("validate_every = 4", "validate_every = 1").replace("pictures = 2", "pictures = 1")
    script, recipe = tmp_path / "two.py", tmp_path / "two.toml"
    script.write_text(TWO_PROCESSES)
    recipe.write_text(text)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(script), str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert found == {"halvings": 3, "apart": [0.0, 0.0, 0.0]}


def test_an_incomplete_environment_of_torchrun_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="RANK"):
        find_process("cpu")


def test_a_quiet_training_says_only_where_its_model_is(
    picture_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "quiet.toml"
    recipe.write_text(config_text(picture_folder, tmp_path / "out"))
    assert run(["train", "-q", str(recipe), "--device", "cpu", "--threads", "1"]) == 0
    said = capfd.readouterr()
    assert said.err == "" and said.out.splitlines() == [str(tmp_path / "out" / "trial.safetensors")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file (pipelines/training/ has configurations to begin with)"),
        (b"name = trial", "is no TOML: Invalid value (at line 1, column 8) (write key = value, texts in quotes, "),
        (b'name = "\xff"', "is no TOML: it is no UTF-8 text (pipelines"),
        (b'cache = "c"\noutput = "o"\nwarmup = 1', "unknown key: warmup (is warm_up meant? known are cache, "),
        (
            b'cache = "c"\noutput = "o"\nsteps = 1.5',
            "steps must be a whole number, not 1.5 (without quotes or a point)",
        ),
        (b"", "it lacks name, output, data (pipelines"),
    ],
)
def test_a_configuration_that_says_nothing_is_told_in_a_line(
    text: bytes | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "wrong.toml"
    if text is not None:
        recipe.write_bytes(text)
    assert run(["train", str(recipe)]) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"error: {recipe}") and said in told and len(told.splitlines()) == 1


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(*shape, generator=generator)))
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_adam_inside_muon_is_torchs(picture_folder: Path) -> None:
    torch.manual_seed(3)
    one = torch.nn.Conv2d(3, 4, 3)
    two = torch.nn.Conv2d(3, 4, 3)
    two.load_state_dict(one.state_dict())
    ours = Muon([{"params": list(one.parameters()), "adam": True}], 1e-2)
    theirs = torch.optim.Adam(two.parameters(), 1e-2, betas=(0.9, 0.99))
    for step in range(5):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        for network, optimizer in ((one, ours), (two, theirs)):
            optimizer.zero_grad()
            (network(x) ** 2).mean().backward()
            optimizer.step()
    for left, right in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_balance_counts_fine_damage_more(picture_folder: Path, tmp_path: Path) -> None:
    trainer = Trainer(make(picture_folder, tmp_path, extra="[loss]\nbalance = 1.0"), "cpu")
    reference = torch.full((2, 3, 8, 8), 0.5)
    degraded = reference + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    restored = reference + torch.tensor([0.05, 0.005]).view(2, 1, 1, 1)  # both half repaired
    error = (trainer.balanced(restored, reference, degraded) - reference).mean((1, 2, 3))
    assert 0.8 < float(error[0] / error[1]) < 1.3
    plain = Trainer(make(picture_folder, tmp_path), "cpu")
    assert plain.balanced(restored, reference, degraded) is restored


@pytest.mark.parametrize(("kind", "specs"), [("mosaic", ["mosaic:p=2", "mosaic:p=3"]), ("shrunk", ["blur-down"])])
def test_a_network_that_sees_cells_learns(picture_folder: Path, tmp_path: Path, kind: str, specs: list[str]) -> None:
    def config_of(damage: str, conditioning: str = kind) -> TrainingConfig:
        text = config_text(picture_folder, tmp_path, damage=damage)
        return parse_config(text.replace('size = "tiny"', f'size = "tiny"\nconditioning = "{conditioning}"'))

    config = config_of(f'kind = "spec"\nspecs = {specs}'.replace("'", '"'))
    trainer = Trainer(config, "cpu")
    cells = config.data.crop
    pitches: set[int] = set()
    for step in range(4):
        batch = draw_batch(trainer.pictures, config, step)
        assert batch.degraded.shape[-2:] == (cells, cells)
        pitch = round(batch.reference.shape[-1] / cells)
        pitches.add(pitch)
        if kind == "mosaic":
            assert batch.side is not None and float(batch.side[0]) == pitch - 3
            for reference, degraded in zip(batch.reference, batch.degraded, strict=True):
                shown = reference.permute(1, 2, 0).mul(255).round().byte().numpy()
                small = cv2.resize(shown, (cells, cells), interpolation=cv2.INTER_LINEAR)
                assert torch.allclose(degraded.permute(1, 2, 0) * 255, torch.from_numpy(small).float(), atol=1e-3)
        else:
            assert batch.side is None
    assert pitches == ({2, 3} if kind == "mosaic" else {3})
    updates = list(trainer.run())
    assert any(isinstance(update, FinishedUpdate) for update in updates)
    assert load_descriptor(str(tmp_path / "trial.safetensors")).conditioning == kind
    with pytest.raises(UsageError, match="line_sharpened is for networks that see pixels"):
        replace(config, data=replace(config.data, line_sharpened=0.5))
    for damage, word in (('kind = "jpeg"', "conditioning"), ('kind = "spec"\nspecs = ["noise:sigma=9"]', "cells")):
        with pytest.raises(UsageError, match=word):
            config_of(damage)


def test_line_sharpening_darkens_lines_and_leaves_flat_places() -> None:
    picture = np.full((32, 32, 3), 200, np.uint8)
    picture[:, 15:17] = 120
    sharp = line_sharpened(picture)
    assert sharp[10, 15, 0] < 120 and (sharp[:, :8] == 200).all()
    ramp = np.tile(np.linspace(40, 215, 32).astype(np.uint8)[None, :, None], (32, 1, 3))
    for turned in (ramp, ramp[:, ::-1], ramp.swapaxes(0, 1)):  # no line: opposite borders are not neighbours
        assert np.abs(line_sharpened(turned).astype(int) - turned).max() <= 1


def test_a_seam_is_counted_in_the_pixels_that_the_network_sees(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path, "[seam]\ntile = 32", damage='kind = "spec"\nspecs = ["downscale:x=2"]')
    with pytest.raises(UsageError, match=r"data\.crop / downscale, which is 32"):
        parse_config(text.replace("crop = 32", "crop = 64"))
    assert parse_config(text.replace("crop = 32", "crop = 96")).seam.tile == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("crop = 32", "crop = 33"), "multiple of 8"),
        (('size = "tiny"', 'size = "huge"'), "network.size"),
        (('size = "tiny"', 'architecture = "rcan"\nsize = "1x1x15"'), "16 or more"),
        (("warm_up = 2", "warm = 2"), r"\.toml: unknown key: schedule.warm \(is warm_up meant\? known are steps, "),
        (("steps = 8", 'steps = "8"'), r"schedule.steps must be a whole number, not '8' \(without quotes"),
        (('kind = "jpeg"', 'kind = "spec"'), "damage.specs"),
        (('kind = "jpeg"', 'kind = "spec"\nspecs = ["nothing"]'), "unknown degradation"),
        (("[network]", '[loss]\nrecipe = "none"\n[network]'), "unknown loss recipe"),
        (("[network]", '[loss]\nrecipe = "hat-full"\n[network]'), "loss.vgg"),
        (("[network]", '[loss]\nrecipe = "kairitsu-v9"\n[network]'), "needs 96"),
        (("[network]", '[loss]\nterms = { l1 = "1" }\n[network]'), "terms.l1 must be a number"),
        (("report_every = 2", "report_every = 0"), "report_every"),
        (("validate_every = 4", "validate_every = 0"), "validate_every"),
        (("validation_pictures = 2", "validation_pictures = 0"), "validation_pictures"),
        (('name = "trial"', 'name = "../evil"'), "no folders"),
        (('name = "trial"', 'name = "trial"\nseed = -1'), "seed"),
        (('name = "trial"', f'name = "trial"\nseed = {2**64}'), "seed must be at least 0, and less than"),
        (('name = "trial"', ""), "lacks name"),
        (('folder = "shapes', 'weight = 1.0 }, { folder = "shapes'), r"sources lacks folder"),
        (("[network]", "[loss]\nterms = { charbonnier = 0 }\n[network]"), "no term of the loss has a weight"),
        (('kind = "jpeg"', 'kind = "spec"\nspecs = ["downscale:x=3"]'), "multiple of 24"),
        (('kind = "jpeg"', 'kind = "spec"\nspecs = ["downscale:x=8"]'), "does not enlarge 8 times"),
        (('kind = "jpeg"', 'kind = "spec"\nspecs = [1]'), r"specs\[0\] must be a text"),
        (('kind = "jpeg"', 'kind = "spec"\nspecs = "noise:sigma=25"'), "specs must be a list"),
        (('kind = "jpeg"', "quality = [10.5, 20]"), r"quality\[0\] must be a whole number"),
        (('kind = "jpeg"', "saved_twice = -3.0"), "saved_twice must be between 0 and 1"),
        (("hold_out = 3", "hold_out = 1"), "hold_out"),
        (("[log]", "[log]\nsave_seconds = nan"), "save_seconds must be at least 0; it is nan"),
        (("warm_up = 2", "warm_up = -1"), "warm_up"),
        (('size = "tiny"', 'architecture = "nsie"\nrevive = true'), "network.revive is for ns_restore"),
        (("warm_up = 2", "rate = 1e38"), r"rate must be between 0 and 1, not 1e\+38"),
        (("warm_up = 2", "average = 1.5"), "average must be between"),
        (("[network]", "[loss]\nterms = { l1 = nan }\n[network]"), "'l1' is nan"),
        (("warm_up = 2", "rate = 1e-4\nleast_rate = 1e-3"), "least_rate must be at most schedule.rate"),
        (("[network]", "[seam]\ntile = 32\n[network]"), "tile < data.crop, which is 32"),
        (("shapes", 'shapes", weight = 0, spotless = true } , { folder = "shapes'), "weight"),
    ],
)
def test_wrong_configurations_are_named(
    picture_folder: Path, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        parse_config(config_text(picture_folder, tmp_path).replace(*change))


def test_a_crop_smaller_than_the_windows_of_hat_is_named(picture_folder: Path, tmp_path: Path) -> None:
    text = config_text(picture_folder, tmp_path, damage='kind = "spec"\nspecs = ["downscale:x=8"]')
    text = text.replace('size = "tiny"', 'architecture = "hat"\nsize = "small"')
    with pytest.raises(UsageError, match="hat sees 4 px"):
        parse_config(text)
    assert {name: hat.window for name, hat in HAT_NETWORKS.items()} == HAT_SIZES
    enough = parse_config(text.replace("crop = 32", "crop = 64"))
    assert make_network(enough)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 64, 64)


def test_the_shipped_configurations_are_sound() -> None:
    folder = Path(__file__).parent.parent / "pipelines" / "training"
    names = {path.stem for path in folder.glob("*.toml") if "cache" not in path.read_text().split("[data]")[0]}
    for name in (
        "photo",
        "anime",
        "mosaic",
        "deblur",
        "upscale2x",
        "fast-photo",
        "best-photo",
        "seam-robust",
        "study-dncnn",
        "rcan2x",
        "hat2x-anime",
    ):
        assert name in names
        assert read_config(folder / f"{name}.toml").name == name


def test_every_shipped_configuration_fits_what_it_starts_from() -> None:
    folder, started = Path(__file__).parent.parent / "pipelines" / "training", 0
    for path in sorted(folder.glob("*.toml")):
        table = read_table(path)
        if "task" in table or "folders" in table:  # networks of their own, made by other trainers
            continue
        if "cache" in table:
            settings = video.read_config(path)
            start, network = settings.start, NsRestore(video.network_config(settings))
        else:
            config = read_config(path)
            start, network = config.network.start, make_network(config) if config.network.start else None
        if start and network is not None:
            started += 1
            assert start_from(network, str(start))[0] == len(load_weights(str(start)).tensors), path.name
    assert started > 5


def test_patches_of_many_sides_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that are and are no multiple of a damage's cells; of pictures that are just large enough for a crop."""
    sides: set[tuple[int, int]] = set()

    def damaged(rgb: np.ndarray, *settings: Any) -> DegradedStill:
        sides.add(rgb.shape[:2])
        return degrade_still(rgb, *settings)

    folder = tmp_path / "pictures" / "shapes"
    folder.mkdir(parents=True)
    least = make(folder, tmp_path).data.crop + 16
    for seed in range(6):
        noise = np.random.default_rng(seed).integers(0, 256, (least, least, 3), np.uint8)
        write_png(folder / f"{seed}.png", noise)
    config = make(folder, tmp_path, damage='kind = "spec"\nspecs = ["blur-down"]')
    pool = PictureSet(config.data)
    monkeypatch.setattr("ns_video.training.pictures.degrade_still", damaged)
    for step in range(12):
        batch = draw_batch(pool, config, step)
        assert batch.degraded.shape == batch.reference.shape
        assert batch.degraded.shape[-2:] == (config.data.crop, config.data.crop)
    assert sides == {(least - n, least - n) for n in range(3)}
