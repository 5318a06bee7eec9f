"""Where the package's data folders lie. Floor 0: standard library only.

`models/` and `pipelines/` hold data, not packages. A wheel carries them inside `ns_video`; an editable install and a
bare checkout have them beside it, at the top of the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

from ns_video.errors import NsVideoError

__all__ = ["MODELS_VARIABLE", "model_folders", "models_dir", "pipelines_dir"]

MODELS_VARIABLE = "NS_VIDEO_MODELS"
"""Environment variable: folders searched for models before the installed one, separated as in PATH."""

_PACKAGE = Path(__file__).resolve().parent


def _data_dir(name: str) -> Path:
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise NsVideoError(
        f"the data folder '{name}' is neither in {_PACKAGE} nor beside it", remedy="install ns-video again"
    )


def models_dir() -> Path:
    """The folder of the shipped weights and their cards.

    Raises NsVideoError when the installation lacks it.
    """
    return _data_dir("models")


def pipelines_dir() -> Path:
    """The folder of the shipped presets.

    Raises NsVideoError when the installation lacks it.
    """
    return _data_dir("pipelines")


def model_folders() -> tuple[Path, ...]:
    """Folders that hold models, searched in this order: those that NS_VIDEO_MODELS names, then `models_dir()`.

    A folder that does not exist is left out.
    """
    named = [Path(part).expanduser() for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]
    folders = [folder for folder in named if folder.is_dir()]
    return (*folders, models_dir())
