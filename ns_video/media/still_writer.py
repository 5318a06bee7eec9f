"""Pictures into files: samples as their format holds them, and what rides along."""

from __future__ import annotations

import io
import itertools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from ns_video.errors import NsVideoError, OutputError, UsageError
from ns_video.frame import BT601_LUMA, Frame
from ns_video.media import jpeg_segments, png_chunks
from ns_video.media.icc import gray_to_srgb, space_of
from ns_video.media.libav import printable
from ns_video.media.still_info import EXIF, HOLDS, StillInfo, encoded_comment, exif_directory, fitted
from ns_video.media.still_samples import READING, Samples, open_picture, said, to_eight_bits, upright

_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
# Tags of a TIFF that say how its samples lie in the file, and its profile: the writer's own.
TIFF_STRUCTURE = frozenset(
    (*range(254, 260), 262, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 317, *range(320, 326), 330, 332)
) | frozenset((*range(334, 348), *range(512, 522), 529, 530, 531, 532, 34675))
TIFF_XMP = 700
_TIFF_STRIP = 1 << 20  # bytes of samples in a strip, about
_JPEG_QUALITY = 95  # 4:4:4, visually lossless
_LUMA = np.array(BT601_LUMA)


def still_kind(path: str, name: str | None = None) -> str | None:
    """Pillow's format name of what `--format` calls by a suffix, or the path has; None where that is not a still's."""
    return still_suffix(path) if name is None else _SUFFIXES.get(f".{name.lower().lstrip('.')}")


def still_suffix(path: str) -> str | None:
    """Pillow's format name for an output path, None where the suffix is not a still's."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def encode_still(
    path: Path, frame: Frame, info: StillInfo, *, kind: str | None = None, quality: float | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """One picture as the file that goes to `path`, and what its format can not hold.

    `kind` is the format, by default the suffix's. `quality` is JPEG's or lossy WebP's, 1 to 100. Raises OutputError,
    UsageError for an unknown suffix.
    """
    kind = kind or still_suffix(str(path))
    if kind is None:
        raise UsageError(f"{printable(path)}: not a still's suffix", remedy="use .png, .jpg, .webp, .tif or .bmp")
    notes: list[str] = []
    if quality is not None and not HOLDS[kind].has_quality:
        notes.append(f"{kind} loses nothing: there is no quality to choose")
    try:
        samples = _held_samples(np.stack(frame.planes, axis=-1), kind, info, notes)
        kept, lost = fitted(info, kind, is_gray=samples.shape[2] < 3)
        if kept.orientation != info.orientation:
            samples = upright(samples, info.orientation)
        data = _encode(samples, kind, kept, quality)
        _check(data, samples)
    except (NsVideoError, MemoryError):
        raise
    except Exception as error:  # Pillow's writers raise whatever they run into
        what = f"{printable(path)} can't be written as {kind}: {said(error)}"
        raise OutputError(what, stage="encode", remedy="give OUTPUT another suffix") from error
    return data, (*notes, *lost)


def with_riders(data: bytes, kind: str, kept: StillInfo) -> bytes:
    """A PNG or JPEG file with what rides along with it, which `fitted` made."""
    if kind == "PNG":
        chunks = list(kept.chunks)
        if kept.icc:
            chunks.append(png_chunks.profile(kept.icc))
        if kept.dpi:
            chunks.append(png_chunks.resolution(kept.dpi))
        if kept.exif:
            chunks.append((b"eXIf", kept.exif.removeprefix(EXIF)))
        if kept.xmp:
            chunks.append(png_chunks.text(png_chunks.XMP, kept.xmp.decode("utf-8", "replace")))
        if kept.source_format != "PNG":  # those of a PNG are chunks
            chunks += [png_chunks.text(key, text) for key, text in kept.texts]
        return png_chunks.put_in(data, chunks)
    segments: list[jpeg_segments.Segment] = []
    if kept.exif:
        segments.append((jpeg_segments.APP1, kept.exif))
    if kept.xmp:
        segments.append((jpeg_segments.APP1, jpeg_segments.XMP + kept.xmp))
    segments += [*jpeg_segments.icc_segments(kept.icc), *kept.segments]
    for _, text in kept.texts:
        segments.append((jpeg_segments.COM, encoded_comment(text)))
    return jpeg_segments.put_in(data, segments, kept.dpi)


def _held_samples(samples: Samples, kind: str, info: StillInfo, notes: list[str]) -> Samples:
    """(H, W, C) samples as a format holds them: their bits, alpha, gray. C is 2 for gray with alpha."""
    holds = HOLDS[kind]
    if samples.dtype == np.uint16 and not holds.deep:
        notes.append(f"{kind} holds 8 of 16 bits per sample")
        samples = to_eight_bits(samples)
    alpha = samples[..., 3:]
    if alpha.size and not holds.alpha:
        notes.append(f"{kind} can't hold the alpha channel; it is left out")
        samples, alpha = samples[..., :3], samples[..., :0]
    if not info.is_gray:
        return samples
    colors = samples[..., :3]
    gray = colors if colors.shape[2] == 1 else np.rint(colors @ _LUMA)[..., None].astype(samples.dtype)
    # Pillow opens no TIFF of gray with alpha in 16 bits.
    if holds.gray and not (kind == "TIFF" and alpha.size and samples.dtype == np.uint16):
        return np.concatenate([gray, alpha], -1)
    if space_of(info.icc) == "gray" and (rgb := gray_to_srgb(gray[..., 0], info.icc)) is not None:
        notes.append("gray was converted to sRGB through its profile")
        return np.concatenate([rgb, alpha], -1)
    return np.concatenate([gray, gray, gray, alpha], -1)


def _check(data: bytes, samples: Samples) -> None:
    """Raises OutputError where a written picture doesn't read back."""
    with READING, open_picture(io.BytesIO(data)) as image:
        # Pillow gives a TIFF's size as it is shown; these are width and height of its samples.
        size = (
            (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImagePlugin.TiffImageFile) else image.size
        )
        if size != (samples.shape[1], samples.shape[0]):
            raise OutputError(f"the picture reads back as {size[0]}x{size[1]}", stage="verify")
        image.load()


def _encode(samples: Samples, kind: str, kept: StillInfo, quality: float | None) -> bytes:
    if kind == "TIFF":
        return _tiff(samples, kept)
    if kind == "PNG":
        deep = samples.dtype == np.uint16
        return with_riders(png_chunks.deep_png(samples) if deep else _saved(samples, "PNG", {}), kind, kept)
    if kind == "JPEG":
        options: dict[str, Any] = {"quality": max(1, round(_JPEG_QUALITY if quality is None else quality))}
        return with_riders(_saved(samples, kind, options | {"subsampling": 0, "optimize": True}), kind, kept)
    if kind == "BMP":
        return _saved(samples, kind, {"dpi": kept.dpi} if kept.dpi else {})
    options = {name: data for name, data in (("exif", kept.exif), ("xmp", kept.xmp), ("icc_profile", kept.icc)) if data}
    if quality is None:
        options |= {"lossless": True, "quality": 75, "exact": True}  # exact: colours under alpha 0 stay
    else:
        options["quality"] = round(quality)
    return _saved(samples, kind, options)


def _saved(samples: Samples, kind: str, options: dict[str, Any]) -> bytes:
    """8-bit samples as Pillow writes them."""
    buffer = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(samples: Samples, kept: StillInfo) -> bytes:
    """EXIF data is a TIFF without a picture; here it gets one, in strips of differenced and deflated rows (TIFF 6.0).

    Pillow's writer compresses no file that has inner directories (a camera's exposure, GPS), cv2's knows no EXIF.
    """
    directory = exif_directory(kept.exif)
    for tag in TIFF_STRUCTURE & set(directory):
        del directory[tag]
    height, width, channels = samples.shape
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    ordered = differences.astype(samples.dtype.newbyteorder("<" if directory.endian == "<" else ">"))
    rows = max(1, _TIFF_STRIP // ordered[0].nbytes)
    strips = [zlib.compress(ordered[top : top + rows].tobytes()) for top in range(0, height, rows)]
    tags: dict[int, Any] = {
        256: width,
        257: height,
        258: (samples.itemsize * 8,) * channels,
        259: 8,  # deflate
        262: 1 if channels < 3 else 2,  # gray or RGB
        273: tuple(itertools.accumulate(map(len, strips[:-1]), initial=0)),  # Pillow adds where the directory ends
        277: channels,
        278: rows,
        279: tuple(map(len, strips)),
        284: 1,  # samples of a pixel lie together
        317: 2,  # horizontal differences
        338: 2 if channels in (2, 4) else None,  # alpha that is not multiplied in
        TIFF_XMP: kept.xmp,
        34675: kept.icc,
    }
    if kept.dpi:
        tags |= {282: kept.dpi[0], 283: kept.dpi[1], 296: 2}
    for tag, value in tags.items():
        if value not in (None, b""):
            directory[tag] = value
    return b"".join([directory.tobytes().removeprefix(EXIF), *strips])
