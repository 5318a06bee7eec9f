"""The data folders are found in a checkout, an editable install and a wheel alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ns_video
from ns_video.errors import NsVideoError
from ns_video.resources import model_folders, models_dir, pipelines_dir

PACKAGE = Path(ns_video.__file__).resolve().parent
ASK = "from ns_video.resources import models_dir, pipelines_dir; print(models_dir()); print(pipelines_dir())"


def ask(site: Path) -> subprocess.CompletedProcess[str]:
    """What an interpreter answers that has nothing but `site` on its path."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", ASK]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def lay_out(site: Path, *folders: str) -> None:
    """The floor-0 modules in site/ns_video, and data folders beside or inside."""
    package = site / "ns_video"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name in ("errors.py", "resources.py"):
        shutil.copy(PACKAGE / name, package / name)
    for folder in folders:
        (site / folder).mkdir(parents=True)


def test_this_installation_has_both_folders() -> None:
    assert models_dir().is_dir() and models_dir().name == "models"
    assert pipelines_dir().is_dir() and pipelines_dir().name == "pipelines"


def test_a_checkout_has_them_beside_the_package(tmp_path: Path) -> None:
    lay_out(tmp_path, "models", "pipelines")
    assert ask(tmp_path).stdout.splitlines() == [str(tmp_path / "models"), str(tmp_path / "pipelines")]


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    lay_out(tmp_path, "ns_video/models", "ns_video/pipelines", "models")  # somebody else's 'models' in site-packages
    inside = tmp_path / "ns_video"
    assert ask(tmp_path).stdout.splitlines() == [str(inside / "models"), str(inside / "pipelines")]


def test_an_installation_without_them_says_so(tmp_path: Path) -> None:
    lay_out(tmp_path)
    answer = ask(tmp_path)
    assert answer.returncode != 0
    assert "data folder 'models'" in answer.stderr


def test_extra_folders_come_first_and_missing_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("NS_VIDEO_MODELS", os.pathsep.join([str(second), str(tmp_path / "none"), "", str(first)]))
    assert model_folders() == (second, first, models_dir())
    monkeypatch.delenv("NS_VIDEO_MODELS")
    assert model_folders() == (models_dir(),)


def test_the_error_is_one_of_ours() -> None:
    assert issubclass(NsVideoError, Exception)
    with pytest.raises(NsVideoError, match="data folder 'nonsense'"):
        from ns_video import resources

        resources._data_dir("nonsense")  # pyright: ignore[reportPrivateUsage]  the public ones exist here
