"""Short 4:2:0 clips for training and SPECs: read, move a still, encode and decode with what the decoder knows. Floor 2.

A clip is a stack of I420 pictures: (T, H * 3 / 2, W) uint8, limited range, Y above Cb (left half of the lower
rows, row by row) above Cr, as libav's and OpenCV's `yuv420p` arrays are. H and W are multiples of 4.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import numpy.typing as npt

from ns_video.errors import InputError, OutputError
from ns_video.media.coded_headers import CODECS, HeaderQuantisers
from ns_video.media.encode import in_order
from ns_video.media.exported_quantisers import exported_steps
from ns_video.media.pictures import Rgb

Clip = npt.NDArray[np.uint8]
"""(T, H * 3 / 2, W) uint8, limited range."""

STEP_CODES_PER_OCTAVE = 24
SMALLEST_STEP = 0.625
"""H.264's step at QP 0; code 0. A code is 24 * log2(step / 0.625): exactly 4 * QP for H.264."""
BLOCK = 16
"""Side of a macroblock in luma samples."""
UNKNOWN_STEP = 255
"""The code of a block whose step the decoder doesn't tell."""
PICTURE_TYPES = "?IPB"
"""Index = what `CodedClip.types` holds."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One pass through an encoder."""

    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "28"})
    """Private and generic libav options, e.g. crf, preset, bf, g."""


@dataclass(frozen=True, slots=True)
class CodedClip:
    """What came out of a decoder, frame by frame in presentation order."""

    pictures: Clip
    steps: npt.NDArray[np.uint8]
    """(T, ceil(H / 16), ceil(W / 16)) codes of the luma step of each macroblock, see SMALLEST_STEP; 255 = untold."""
    types: npt.NDArray[np.uint8]
    """(T,) index into PICTURE_TYPES."""


def step_to_code(step: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Luma quantiser step (8-bit sample units) → code; steps below 0.625 count as 0.625."""
    code = STEP_CODES_PER_OCTAVE * np.log2(np.maximum(step, SMALLEST_STEP) / SMALLEST_STEP)
    return np.clip(np.rint(code), 0, UNKNOWN_STEP - 1).astype(np.uint8)


def code_to_step(code: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The inverse of `step_to_code`. UNKNOWN_STEP has no step: callers look for it first."""
    return (SMALLEST_STEP * np.exp2(code.astype(np.float32) / STEP_CODES_PER_OCTAVE)).astype(np.float32)


_CHROMA = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32) / 255.0
"""Of BT.601 in limited range, from R, G, B of 0 to 255."""


def read_clip(path: Path, start: int = 0, count: int | None = None) -> Clip:
    """Frames `start` to `start + count` of the first video stream as limited-range 8-bit 4:2:0.

    Raises:
        InputError: the file can't be read or holds no such frame.
    """
    frames: list[Clip] = []
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if count is not None and index >= start + count:
                    break
                if index >= start:
                    frames.append(_limited(frame))
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} can't be read as a clip: {error}") from error
    if not frames:
        raise InputError(f"{path} has no frame {start}")
    return np.stack(frames)


def _limited(frame: av.VideoFrame) -> Clip:
    picture = _bytes(frame, "yuvj420p" if frame.format.name.startswith("yuvj") else "yuv420p")
    if not frame.format.name.startswith("yuvj"):
        return picture
    rows = frame.height
    scaled = np.empty_like(picture)
    scaled[:rows] = np.rint(picture[:rows] * (219.0 / 255.0) + 16.0)
    scaled[rows:] = np.rint((picture[rows:] - 128.0) * (224.0 / 255.0) + 128.0)
    return scaled


def _bytes(frame: av.VideoFrame, pixel_format: str) -> Clip:
    """The frame as one uint8 array; the format has 8 bits."""
    return np.asarray(frame.to_ndarray(format=pixel_format), np.uint8)


def rgb_to_clip(pictures: Sequence[Rgb], *, centred: bool = False) -> Clip:
    """RGB pictures of one even size → a clip (BT.601, limited).

    Chroma is averaged where H.264 takes it to lie by default, beside the left luma samples of each block, or `centred`
    in it, where most scalers put it.
    """
    parts = [_to_ycbcr(np.ascontiguousarray(picture), centred) for picture in pictures]
    return join_planes(*(np.stack(planes) for planes in zip(*parts, strict=True)))


def _to_ycbcr(picture: Rgb, centred: bool) -> tuple[Clip, Clip, Clip]:
    height, width = picture.shape[:2]
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)[:height]  # whose chroma is every other pixel's, not averaged
    colours = (_CHROMA @ picture.reshape(-1, 3).T).reshape(2, height, width) + 128.0
    rows = 0.5 * (colours[:, 0::2] + colours[:, 1::2])
    here, right = rows[..., 0::2], rows[..., 1::2]
    left = right if centred else np.concatenate((here[..., :1], right[..., :-1]), -1)
    cb, cr = np.rint(0.25 * left + 0.5 * here + 0.25 * right).clip(0, 255).astype(np.uint8)
    return luma.astype(np.uint8, copy=False), cb, cr


def clip_to_rgb(clip: Clip, index: int) -> Rgb:
    """Frame `index` of a clip, BT.601 limited, as (H, W, 3) uint8."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(clip[index]), format="yuv420p")
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def split_planes(clip: Clip) -> tuple[Clip, Clip, Clip]:
    """A clip → Y (T, H, W), Cb and Cr (T, H / 2, W / 2): views."""
    frames, rows, width = clip.shape
    height = rows * 2 // 3
    chroma = clip[:, height:].reshape(frames, 2, height // 2, width // 2)
    return clip[:, :height], chroma[:, 0], chroma[:, 1]


def resize_clip(clip: Clip, height: int, width: int, *, crisp: bool = False) -> Clip:
    """Each plane to the new size (multiples of 4): averaged where it shrinks, cubic where it grows.

    `crisp` takes the cubic for both, as cheap scalers do: sharper, with aliasing.
    """
    planes = split_planes(clip)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    parts: list[Clip] = []
    for plane, (rows, columns) in zip(planes, sizes, strict=True):
        method = cv2.INTER_AREA if rows < plane.shape[1] and not crisp else cv2.INTER_CUBIC
        parts.append(np.stack([cv2.resize(picture, (columns, rows), interpolation=method) for picture in plane]))
    return join_planes(parts[0], parts[1], parts[2])


def sharpen_clip(clip: Clip, amount: float) -> Clip:
    """Unsharp masking of luma as cameras do it: `amount` times the difference from a Gaussian of sigma 1."""
    height = clip.shape[1] * 2 // 3
    sharp = clip.copy()
    for t, picture in enumerate(clip[:, :height]):
        plane = picture.astype(np.float32)
        sharp[t, :height] = np.rint(plane + amount * (plane - blur_mask(plane, 1.0))).clip(0, 255)
    return sharp


def join_planes(luma: Clip, cb: Clip, cr: Clip) -> Clip:
    """The inverse of `split_planes`."""
    frames, height, width = luma.shape
    chroma = np.stack((cb, cr), 1).reshape(frames, height // 2, width)
    return np.concatenate((luma, chroma), 1)


def crop_clip(clip: Clip, top: int, left: int, height: int, width: int) -> Clip:
    """A window of the clip; all four numbers even."""
    luma, cb, cr = split_planes(clip)
    y, x, h, w = top // 2, left // 2, height // 2, width // 2
    return join_planes(
        luma[:, top : top + height, left : left + width], cb[:, y : y + h, x : x + w], cr[:, y : y + h, x : x + w]
    )


def warp(picture: Rgb, matrix: npt.NDArray[np.float64], height: int, width: int) -> Rgb:
    """`picture` seen through a (2, 3) affine that maps output to input coordinates; borders reflect."""
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8)


def warp_mask(
    mask: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.float32]:
    """`warp` for one float plane: linear, so that it stays in [0, 1]; zero outside."""
    seen = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(seen, np.float32)


def bend(picture: Rgb, shift: npt.NDArray[np.float32]) -> Rgb:
    """`picture` displaced by `shift` (h, w, 2) in pixels (x, y), enlarged smoothly to the picture's size."""
    height, width = picture.shape[:2]
    field_ = cv2.resize(shift, (width, height), interpolation=cv2.INTER_CUBIC)
    x = np.arange(width, dtype=np.float32)[None] + field_[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field_[..., 1]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def shrink(picture: Rgb, factor: float) -> Rgb:
    """`picture` made smaller by `factor` (≥ 1) with area averaging."""
    if factor <= 1.0:
        return picture
    height, width = picture.shape[:2]
    size = (max(16, round(width / factor)), max(16, round(height / factor)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def alter_luma(luma: npt.NDArray[np.uint8], rng: np.random.Generator, least: int) -> npt.NDArray[np.uint8]:
    """An (H, W) plane resized (no side below `least`), noisy, blurred or sharpened: what people do after decoding."""
    kind = int(rng.integers(6))
    if kind < 3:
        factor = float(rng.choice((0.5, 0.67, 0.75, 1.25, 1.5, 2.0, 3.0)))
        height, width = (max(least, round(side * factor)) for side in luma.shape)
        methods = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
        return np.asarray(cv2.resize(luma, (width, height), interpolation=methods[int(rng.integers(4))]), np.uint8)
    plane = luma.astype(np.float32)
    if kind == 3:
        changed = plane + rng.standard_normal(plane.shape, np.float32) * float(rng.uniform(1.0, 10.0))
    elif kind == 4:
        changed = blur_mask(plane, float(rng.uniform(0.4, 2.0)))
    else:
        changed = plane + float(rng.uniform(0.3, 2.0)) * (plane - blur_mask(plane, 1.0))
    return np.rint(changed).clip(0, 255).astype(np.uint8)


def blur_mask(mask: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A Gaussian blur of an (H, W) float32 plane."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)


def ellipse_mask(height: int, width: int, count: int, seed: int) -> npt.NDArray[np.float32]:
    """(height, width) float32 in [0, 1]: `count` filled ellipses of random place and size."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.float32)
    for _ in range(count):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(rng.uniform(0.06, 0.3) * width), int(rng.uniform(0.06, 0.3) * height))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, (1.0,), -1, cv2.LINE_AA)
    return mask


def encode_decode(clip: Clip, encoding: Encoding, frames_per_second: int = 25) -> CodedClip:
    """Through a real encoder and back, in memory: the same number of frames, in the same order.

    Raises:
        OutputError: the codec isn't in this build, refuses the options, or lost a frame.
    """
    frames, rows, width = clip.shape
    height = rows * 2 // 3
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as container:
            stream = container.add_stream(encoding.codec, rate=frames_per_second, options=dict(encoding.options))
            if not isinstance(stream, av.VideoStream):
                raise OutputError(f"{encoding.codec} is no video codec")
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            packets: list[av.Packet] = []
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(clip[index], format="yuv420p")
                frame.pts = index
                packets += stream.encode(frame)
            container.mux(in_order([*packets, *stream.encode(None)]))
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"{encoding.codec} {encoding.options} failed: {error}") from error
    decoded = _decode(buffer)
    if len(decoded.pictures) != frames:
        raise OutputError(f"{encoding.codec} {encoding.options} gave {len(decoded.pictures)} of {frames} frames back")
    return decoded


def _decode(data: io.BytesIO) -> CodedClip:
    """All frames of an 8-bit 4:2:0 stream, with the quantiser of each macroblock.

    Raises:
        InputError: the stream can't be decoded.
    """
    data.seek(0)
    pictures: list[Clip] = []
    steps: list[npt.NDArray[np.uint8]] = []
    types: list[int] = []
    try:
        with av.open(data, "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"export_side_data": "venc_params"}
            stream.codec_context.thread_count = 1
            codec = stream.codec_context.codec.canonical_name
            headers = HeaderQuantisers(stream, codec) if codec in CODECS else None
            for packet in container.demux(stream):
                if headers is not None:
                    headers.see(packet)
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    pictures.append(_bytes(frame, "yuv420p"))
                    codes, kind = _told(frame, headers)
                    steps.append(codes)
                    types.append(kind)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"the clip can't be decoded: {error}") from error
    if not pictures:
        raise InputError("the clip has no frame")
    return CodedClip(np.stack(pictures), np.stack(steps), np.array(types, np.uint8))


def _told(frame: av.VideoFrame, headers: HeaderQuantisers | None) -> tuple[npt.NDArray[np.uint8], int]:
    """Codes of a decoded frame's macroblocks and its type, as a run is told them: the headers tell no type."""
    blocks = (-(-frame.height // BLOCK), -(-frame.width // BLOCK))
    if headers is not None:
        told = headers.of(frame.pts, frame.width, frame.height)
        kind, steps = 0, None if told is None else np.broadcast_to(told.step, blocks)
    else:
        kind = int(frame.pict_type) if 0 < int(frame.pict_type) < len(PICTURE_TYPES) else 0
        steps = exported_steps(frame, 8)
    return np.full(blocks, UNKNOWN_STEP, np.uint8) if steps is None else step_to_code(steps), kind
