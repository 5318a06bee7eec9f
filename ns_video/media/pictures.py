"""Plain 8-bit RGB pictures in and out of files: what training, evaluation and `degrade` need of a still.

`ns_video.media.still` is the careful road (EXIF, ICC, alpha, 16 bit); here a picture is only its samples.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ns_video.errors import InputError, OutputError
from ns_video.frame import JpegTables
from ns_video.journal import write_whole

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8."""

SUFFIXES = (".png", ".webp", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")
_PIL_SUBSAMPLING = {(1, 1): 0, (2, 1): 1, (2, 2): 2}  # Pillow's numbers


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, by name.

    Raises:
        InputError: the folder isn't there or holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder} holds no picture", remedy=f"known are {' '.join(SUFFIXES)}")
    return found


def read_rgb(path: Path) -> Rgb:
    """One picture as RGB; gray is repeated, alpha dropped, 16 bit rounded to 8.

    Raises:
        InputError: the file can't be read or is no picture.
    """
    try:
        with Image.open(path) as image:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} can't be read as a picture: {error}") from error


def write_png(path: Path, rgb: Rgb) -> None:
    """Writes a lossless PNG, whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(f"{path} can't be encoded as PNG")
    write_whole(path, data.tobytes(), stage="encode")


def encode_jpeg(rgb: Rgb, tables: JpegTables) -> bytes:
    """A baseline JPEG of `rgb` with exactly these tables (libjpeg through Pillow)."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(
        stream,
        "JPEG",
        qtables=[tables.luma.ravel().tolist(), tables.chroma.ravel().tolist()],
        subsampling=_PIL_SUBSAMPLING[tables.subsampling],
    )
    return stream.getvalue()


def decode_jpeg(data: bytes) -> Rgb:
    """The pixels of a JPEG, chroma enlarged as libjpeg does by default ("fancy upsampling")."""
    with Image.open(io.BytesIO(data)) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8))
