"""Clips by the names of their files: nothing is opened, nothing heavy imported."""

from __future__ import annotations

from pathlib import Path

from ns_video.errors import InputError

CLIP_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".ts",
    ".mts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".vob",
    ".flv",
    ".wmv",
    ".asf",
    ".mxf",
    ".3gp",
    ".ogv",
    ".gif",
    ".apng",
    ".nut",
    ".y4m",
    ".264",
    ".h264",
    ".265",
    ".h265",
    ".hevc",
    ".ivf",
)


def find_clips(folder: Path) -> list[Path]:
    """The clips directly in `folder`, by name, but for hidden ones (macOS leaves `._a.mkv`); there may be none.

    Raises:
        InputError: the folder isn't there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in CLIP_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def list_clips(folder: Path) -> list[Path]:
    """`find_clips` where there has to be one.

    Raises:
        InputError: the folder isn't there or holds no clip.
    """
    if not (found := find_clips(folder)):
        raise InputError(f"{folder} holds no clip", remedy=f"known are {' '.join(CLIP_SUFFIXES)}")
    return found
