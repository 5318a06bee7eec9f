"""What pyproject.toml says agrees with what is there."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import ns_video
from ns_video.preset import load_preset, preset_names
from ns_video.resources import models_dir, pipelines_dir

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Distribution to module, where the names differ.
MODULES = {"opencv-python": "cv2", "pillow": "PIL"}


def names(requirements: list[str]) -> set[str]:
    """Distribution names without versions."""
    return {re.split(r"[<>=!~\[ ;]", r)[0].lower() for r in requirements}


def test_every_package_is_listed_and_every_listed_one_is_there() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"]) - {"ns_video.models", "ns_video.pipelines"}
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "ns_video").rglob("__init__.py")}
    assert listed == found


def test_every_import_is_declared_and_every_declaration_is_used() -> None:
    used: set[str] = set()
    for path in (ROOT / "ns_video").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module)
    foreign = {u.partition(".")[0] for u in used} - sys.stdlib_module_names - {"ns_video"}
    project = PROJECT["project"]
    required = {MODULES.get(n, n) for n in names(project["dependencies"])}
    for_training = names(project["optional-dependencies"]["train"])
    assert required <= foreign <= required | for_training
    assert for_training <= {part for name in used for part in name.split(".")}  # torch.utils.tensorboard
    assert for_training <= names(project["optional-dependencies"]["test"])


def test_the_version_is_one() -> None:
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ns_video.version.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", ns_video.__version__)


def test_python_of_the_contract() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert "torch" in names(PROJECT["project"]["dependencies"])
    for requirement in PROJECT["project"]["dependencies"]:
        importlib.metadata.version(re.split(r"[<>=!~\[ ;]", requirement)[0])


def test_the_finder_finds_the_checkout() -> None:
    assert models_dir() == ROOT / "models" and pipelines_dir() == ROOT / "pipelines"


def test_every_preset_has_its_models() -> None:
    there = {p.stem for p in models_dir().glob("*.safetensors")} | {"identity"}
    assert {"auto", "video", "photo", "anime", "mosaic", "deblur", "upscale2x", "fast"} <= set(preset_names())
    for name in preset_names():
        preset = load_preset(name)
        for of in ("clip", "still", "jpeg clip"):
            assert set(preset.models(of)) <= there, (name, of)


def test_two_commands_are_all_the_set_up() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", text, re.M))
    assert {"demo", "test"} <= targets
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_nothing_large_or_foreign_is_tracked() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, stdin=subprocess.DEVNULL
    )
    for name in done.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            assert path.stat().st_size < 32 << 20, name
            assert not name.endswith((".pyc", ".pth", ".egg-info")), name
