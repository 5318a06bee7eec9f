"""--max-pixels is the user's wherever pictures are opened: what it allows is, what it doesn't is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from conftest import Command, ffmpeg
from material import picture, write_clip

from ns_video.errors import InputError
from ns_video.media.decode import check_pixels
from ns_video.media.pictures import read_rgb
from ns_video.pipeline import restore

_PIXELS = 64 * 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, an animation of those of its frames that change something, and a still: all 64x48."""
    folder = tmp_path_factory.mktemp("sizes")
    ffmpeg("-i", write_clip(folder / "whole.mkv"), "-vf", "loop=5:1:4", "-c:v", "ffv1", folder / "clip.mkv")
    restore(folder / "clip.mkv", folder / "clip.webp", model="identity")
    cv2.imwrite(str(folder / "still.png"), picture(0, 64, 48)[..., ::-1])
    return folder


_COMMANDS = {
    "verify a still": ["verify", "{}/still.png", "{}/still.png"],
    "verify a clip": ["verify", "{}/clip.mkv", "{}/clip.mkv"],
    "verify an animation": ["verify", "{}/clip.mkv", "{}/clip.webp"],
    "report on a still": ["report", "{}/still.png", "--json"],
    "report on a still with its reference": ["report", "{}/still.png", "--reference", "{}/still.png", "--json"],
    "report on a clip": ["report", "{}/clip.mkv", "--json"],
    "report on an animation": ["report", "{}/clip.webp", "--json"],
    "report on a clip with its reference": ["report", "{}/clip.mkv", "--reference", "{}/clip.webp", "--json"],
    "degrade a still": ["degrade", "{}/still.png", "{}/out.png", "--spec", "noise:sigma=5", "-y"],
    "degrade a clip": ["degrade", "{}/clip.mkv", "{}/out.mkv", "--spec", "noise:sigma=5", "--frames", "4", "-y"],
    "restore a still": ["restore", "{}/still.png", "{}/out.png", "--model", "identity", "-y"],
    "restore a clip": ["restore", "{}/clip.mkv", "{}/out.webp", "--model", "identity", "-y"],
}


@pytest.mark.parametrize("arguments", _COMMANDS.values(), ids=_COMMANDS.keys())
def test_the_option_is_the_limit_wherever_pictures_are_opened(
    arguments: list[str], ns_video: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: set[int] = set()

    def watched(width: int, height: int, most: int) -> None:
        limits.add(most)
        check_pixels(width, height, most)

    for module in ("decode", "still", "animation"):
        monkeypatch.setattr(f"ns_video.media.{module}.check_pixels", watched)
    command = [argument.format(folder) for argument in arguments]
    refused = ns_video(*command, "--max-pixels", str(_PIXELS - 1))
    assert refused.code == 1 and f"64x48 pixels, more than --max-pixels allows (--max-pixels {_PIXELS})" in refused.err
    limits.clear()
    done = ns_video(*command, "--max-pixels", str(_PIXELS))
    assert done.code == 0, done.err
    assert limits == {_PIXELS}


def test_pictures_to_train_on_name_no_option_that_training_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(width: int, height: int, _: int) -> None:
        check_pixels(width, height, 100)

    monkeypatch.setattr("ns_video.media.still.check_pixels", refuse)
    with pytest.raises(InputError, match=r"still\.png has more than [0-9]+ pixels") as caught:
        read_rgb(folder / "still.png")
    assert "--max-pixels" not in str(caught.value)
