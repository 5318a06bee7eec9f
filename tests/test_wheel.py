"""The wheel, installed into an empty folder, works without the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
CARRIED = ("ns_video", "models", "pipelines", "pyproject.toml", "README.md", "LICENSE")


def run(*arguments: str | Path, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command that must succeed."""
    done = subprocess.run(
        [str(a) for a in arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def clean(environment: dict[str, str]) -> dict[str, str]:
    """An environment that knows nothing of the checkout."""
    return {k: v for k, v in environment.items() if k not in ("PYTHONPATH", "NS_VIDEO_MODELS", "PYTHONWARNINGS")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, clean: dict[str, str]) -> Path:
    """Built from a copy, so that no build folder is left in the checkout; no network."""
    copy = tmp_path_factory.mktemp("copy")
    for name in CARRIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", out, copy, cwd=copy, env=clean)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, clean: dict[str, str]) -> Path:
    """The folder it was installed into."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--no-compile", "--target", target, wheel, cwd=target, env=clean)
    return target


def test_the_wheel_holds_code_weights_and_presets_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {n.partition("/")[0] for n in names}
    assert len(tops) == 2 and "ns_video" in tops and any(t.endswith(".dist-info") for t in tops)
    for folder, pattern in (("models", "*.safetensors"), ("models", "*.toml"), ("pipelines", "*.toml")):
        wanted = {f"ns_video/{folder}/{p.name}" for p in (ROOT / folder).glob(pattern)}
        assert wanted and wanted <= set(names)
    for path in (ROOT / "ns_video").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names, path
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if "test" in n.lower().split("/")[-1] and n.endswith(".py")]


def test_the_program_restores_a_sample_from_an_empty_folder(
    installed: Path, clean: dict[str, str], tmp_path: Path
) -> None:
    env = {**clean, "PYTHONPATH": str(installed)}
    where = run(sys.executable, "-c", "import ns_video; print(ns_video.__file__)", cwd=tmp_path, env=env).stdout
    assert Path(where.strip()).is_relative_to(installed)
    sample = ROOT / "samples" / "bbb_q15.jpg"
    with Image.open(sample) as image:
        small = image.crop((64, 64, 256, 192))
        small.save(tmp_path / "in.jpg", quality=15)
    run(
        *(sys.executable, "-m", "ns_video", "restore", "in.jpg", "out.png"),
        *("--model", "photo", "--device", "cpu", "--precision", "fp32"),
        cwd=tmp_path,
        env=env,
    )
    with Image.open(tmp_path / "in.jpg") as before, Image.open(tmp_path / "out.png") as after:
        change = np.abs(np.asarray(before).astype(int) - np.asarray(after))
    assert 0.2 < change.mean() < 12


def test_the_console_script_lists_and_checks_its_models(installed: Path, clean: dict[str, str], tmp_path: Path) -> None:
    env = {**clean, "PYTHONPATH": str(installed)}
    script = installed / "bin" / "ns-video"
    assert "restore" in run(script, "--help", cwd=tmp_path, env=env).stdout
    assert "photo" in run(script, "models", "list", cwd=tmp_path, env=env).stdout
    run(script, "models", "verify", cwd=tmp_path, env=env)
