"""Plain 8-bit RGB pictures in and out of files: what training, evaluation and `degrade` need of a still.

Read by `ns_video.media.still`; here a picture is only its samples.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ns_video.errors import InputError, OutputError, TooLargeError, printable
from ns_video.frame import Frame, JpegTables
from ns_video.journal import write_whole
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.still import read_still
from ns_video.media.still_samples import to_eight_bits

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8."""

SUFFIXES = (".png", ".webp", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")
_PIL_SUBSAMPLING = {(1, 1): 0, (2, 1): 1, (2, 2): 2}  # Pillow's numbers


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, by name, but for hidden ones (macOS leaves `._a.png`).

    Raises:
        InputError: the folder isn't there or holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise InputError(f"{folder} holds no picture", remedy=f"known are {' '.join(SUFFIXES)}")
    return found


def read_rgb(path: Path) -> Rgb:
    """One picture as RGB, not turned; gray is repeated, alpha dropped, 16 bit rounded to 8.

    Raises:
        InputError: the file can't be read, is no picture, too large, damaged or of samples that aren't supported; it is
            named.
    """
    name = printable(path)
    try:
        frame, info = read_still(path)
    except TooLargeError as error:  # those who call have no --max-pixels
        raise InputError(f"{name} has more than {MAX_PIXELS} pixels", stage=error.stage) from error
    except InputError as error:
        if name in error.message:
            raise
        raise InputError(f"{name}: {error.message}", stage=error.stage, remedy=error.remedy) from error
    if info.damage:
        raise InputError(f"{name}: {info.damage[0].what}")
    return rgb_of(frame)


def rgb_of(frame: Frame) -> Rgb:
    """A still's samples as such RGB."""
    planes = frame.planes[:3] if frame.format.is_rgb else frame.planes[:1] * 3
    return to_eight_bits(np.stack(planes, -1))


def write_png(path: Path, rgb: Rgb) -> None:
    """Writes a lossless PNG, whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    write_whole(path, encode_png(rgb), stage="encode")


def encode_png(rgb: Rgb) -> bytes:
    """A lossless PNG of `rgb`."""
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError("a picture can't be encoded as PNG", stage="encode")
    return data.tobytes()


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


def encode_picture(rgb: Rgb, kind: str, **options: Any) -> bytes:
    """A file of Pillow's format `kind`, with its options."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, kind, **options)
    return stream.getvalue()


def decode_picture(data: bytes) -> Rgb:
    """The pixels of a file; of a JPEG, chroma is enlarged as libjpeg does by default ("fancy upsampling")."""
    with Image.open(io.BytesIO(data)) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8))
