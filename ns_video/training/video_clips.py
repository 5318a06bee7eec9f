"""Makes pairs of clean and coded clips: real motion, and stills moved by a synthetic camera, through real encoders.

Every clip is one `.npy` of bytes in a cache folder (written whole or not at all), so that a pool can grow in the
background while a training reads from it through the page cache.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ns_video.errors import InputError
from ns_video.journal import write_whole
from ns_video.media.clip_files import find_clips
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.pattern_clips import pattern_pictures
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.media.screen_clips import add_caption, screen_pictures
from ns_video.media.training_clips import (
    BLOCK,
    PICTURE_TYPES,
    UNKNOWN_STEP,
    Clip,
    CodedClip,
    Encoding,
    bend,
    blur_mask,
    clip_to_rgb,
    crop_clip,
    ellipse_mask,
    encode_decode,
    read_clip,
    resize_clip,
    rgb_to_clip,
    sharpen_clip,
    shrink,
    step_to_code,
    warp,
    warp_mask,
)

VALIDATION_CRFS = (18, 22, 28, 33, 38, 42)
VALIDATION = {f"crf{q}": Encoding(options={"crf": str(q), "preset": "medium"}) for q in VALIDATION_CRFS}
"""Name of a group of validation clips → how they are coded."""
_ONE_THREAD = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
NEWER_VALIDATION = {
    **{f"hevc{q}": Encoding("libx265", {"crf": str(q), "preset": "fast", **_ONE_THREAD}) for q in (20, 30)},
    **{f"av1_{q}": Encoding("libsvtav1", {"crf": str(q), "preset": "8", "svtav1-params": "lp=1"}) for q in (24, 44)},
    "vp9_36": Encoding("libvpx-vp9", {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "5"}),
    "vp8_24": Encoding("libvpx", {"qmin": "24", "qmax": "24", "b": "2M", "deadline": "realtime", "cpu-used": "4"}),
}
"""The same for models of newer codecs; stills as WebP and AVIF beside them."""
_HEADER = 4  # int32: frames, height, width, reserved


@dataclass(frozen=True, slots=True)
class ClipPair:
    """A clean clip and what an encoder made of it."""

    truth: Clip
    coded: CodedClip


@dataclass(frozen=True, slots=True)
class ClipSources:
    """What clips are made from."""

    clips: tuple[Path, ...]
    """Files of clean clips with real motion."""
    pictures: tuple[Path, ...]
    """Stills for the synthetic camera."""
    real_share: float = 0.4
    """Share of clips cut from `clips`."""
    screen_share: float = 0.0
    """Share of clips drawn by `screen_clips`; half as many again are other clips with captions."""
    pattern_share: float = 0.0
    """Share of clips drawn by `pattern_clips`; `screen_share` is one of the others."""
    fine_share: float = 0.0
    """Share of clips coded finely by fast settings, see `fine_encoding`; of the others a part is, too."""
    newer_share: float = 0.0
    """Share of clips coded by HEVC, AV1, VP9 or VP8, see `newer_encoding`, or as stills."""
    still_share: float = 0.25
    """Share of the latter: single frames coded as WebP or AVIF."""
    held_out_share: float = 0.06
    """Share of the stills, and the last third of every clip longer than 50 frames, kept for validation."""
    validation: bool = False
    """Take the held-out part instead of the rest."""

    @property
    def stills(self) -> list[Path]:
        """Those of `pictures` on this side of the hold-out."""
        return [path for path in self.pictures if is_held_out(path, self.held_out_share) == self.validation]


def find_sources(
    clip_folders: list[Path],
    picture_folders: list[Path],
    *,
    validation: bool = False,
    screen_share: float = 0.0,
    pattern_share: float = 0.0,
    fine_share: float = 0.0,
    newer_share: float = 0.0,
    still_share: float = 0.25,
) -> ClipSources:
    """The clips and stills in some folders.

    Raises:
        InputError: a folder isn't there, or what clips are to be made from was not found.
    """
    clips = [path for folder in clip_folders for path in find_clips(folder)]
    pictures = [path for folder in picture_folders for path in list_pictures(folder)]
    if not clips and not pictures:
        raise InputError("no clip and no picture to train on")
    sources = ClipSources(
        tuple(clips),
        tuple(pictures),
        screen_share=screen_share,
        pattern_share=pattern_share,
        fine_share=fine_share,
        newer_share=newer_share,
        still_share=still_share,
        validation=validation,
    )
    if not sources.stills and (screen_share or pattern_share or not clips):
        raise InputError(
            f"none of {len(pictures)} pictures is kept for {'validation' if validation else 'training'}",
            remedy="add pictures: by their names, one in 17 is kept for validation, the rest for training",
        )
    return sources


def is_held_out(path: Path, share: float) -> bool:
    """Whether a still belongs to validation: by its name, so that it never changes sides."""
    return zlib.crc32(path.name.encode()) % 1000 < share * 1000


class ClipMaker:
    """Draws clean clips and codes them.

    The same (seed, index) gives the same clean clip and the same encoder settings; x264 itself was seen to give
    slightly different quantisers to the same frames from one call to the next.
    """

    def __init__(self, sources: ClipSources, seed: int) -> None:
        self._sources = sources
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._real = [_usable(read_clip(path), sources) for path in sources.clips]
        self._pictures = sources.stills

    def truth(self, index: int, shape: tuple[int, int, int] | None = None) -> Clip:
        """A clean clip; the next draws of `pair` follow from the same index.

        `shape`: (frames, height, width), both sides multiples of 32; None: 8 to 36 frames, 192 to 384 pixels wide.
        """
        self._rng = np.random.default_rng((self._seed, index))
        return self._truth(shape)

    def _truth(self, shape: tuple[int, int, int] | None = None) -> Clip:
        rng = self._rng
        frames = int(rng.choice((8, 12, 12, 16, 16, 20, 24, 36)))
        height, width = ((192, 256), (224, 288), (192, 320), (256, 256), (256, 320), (224, 384))[int(rng.integers(6))]
        if shape is not None:
            frames, height, width = shape
        centred = bool(rng.random() < 0.5)
        if self._sources.pattern_share and rng.random() < self._sources.pattern_share:
            return rgb_to_clip(pattern_pictures(self._draw, rng, frames, height, width), centred=centred)
        share = self._sources.screen_share
        kind = rng.random() if share else 1.0
        if kind < share:
            return rgb_to_clip(screen_pictures(self._draw, rng, frames, height, width), centred=centred)
        clip = self._filmed(frames, height, width, centred)
        if kind < 1.5 * share:
            clip = rgb_to_clip(add_caption([clip_to_rgb(clip, t) for t in range(len(clip))], rng), centred=centred)
        return clip

    def _filmed(self, frames: int, height: int, width: int, centred: bool) -> Clip:
        """Real motion, or a synthetic camera's, whose chroma may be `centred`."""
        rng = self._rng
        if self._real and (not self._pictures or rng.random() < self._sources.real_share):
            return self._cut(frames, height, width)
        if rng.random() < 0.4:  # a camera of more pixels, reduced: as crisp as a real clip that was made smaller
            clip = _camera(self._draw, rng, frames, 2 * height, 2 * width, centred)
            clip = resize_clip(clip, height, width, crisp=rng.random() < 0.3)
        else:
            clip = _camera(self._draw, rng, frames, height, width, centred)
        if rng.random() < 0.3:
            clip = sharpen_clip(clip, float(rng.uniform(0.3, 1.6)))
        return clip

    def pair(self, index: int) -> ClipPair:
        """A clean clip and its coded twin, frame by frame."""
        clip = self.truth(index)
        rng = self._rng
        if self._sources.newer_share and rng.random() < self._sources.newer_share:
            still = rng.random() < self._sources.still_share
            return _coded_still(clip[:1], rng) if still else ClipPair(clip, encode_decode(clip, newer_encoding(rng)))
        if self._sources.fine_share and rng.random() < self._sources.fine_share:
            return ClipPair(clip, encode_decode(clip, fine_encoding(rng)))
        if rng.random() < 0.12:  # somebody's re-encode: the map tells only of the last encoder
            first = x264_encoding(rng, crf=float(rng.uniform(29, 40)))
            last = x264_encoding(rng, crf=float(rng.uniform(17, 25)))
            return ClipPair(clip, encode_decode(encode_decode(clip, first).pictures, last))
        if rng.random() < 0.08:
            return ClipPair(clip, encode_decode(clip, mpeg_encoding(rng)))
        return ClipPair(clip, encode_decode(clip, x264_encoding(rng, crf=float(rng.uniform(16, 44)))))

    def _draw(self) -> Rgb:
        return read_rgb(self._pictures[int(self._rng.integers(len(self._pictures)))])

    def _cut(self, frames: int, height: int, width: int) -> Clip:
        """A window of a real clip, sometimes smaller, faster, backwards or mirrored."""
        rng = self._rng
        clip = self._real[int(rng.integers(len(self._real)))]
        stride = 2 if len(clip) > 2 * frames and rng.random() < 0.15 else 1
        frames = min(frames, len(clip) // stride)
        start = int(rng.integers(len(clip) - frames * stride + 1))
        clip = clip[start : start + frames * stride : stride]
        rows, columns = clip.shape[1] * 2 // 3, clip.shape[2]
        shrinking = min(float(rng.choice((1.0, 1.0, 1.25, 1.5, 1.5, 2.0, 2.25))), rows / height, columns / width)
        h, w = int(height * shrinking) // 4 * 4, int(width * shrinking) // 4 * 4
        top, left = int(rng.integers((rows - h) // 2 + 1)) * 2, int(rng.integers((columns - w) // 2 + 1)) * 2
        clip = crop_clip(clip, top, left, h, w)
        if (h, w) != (height, width):
            clip = resize_clip(clip, height, width, crisp=rng.random() < 0.4)
        if rng.random() < 0.35:
            clip = sharpen_clip(clip, float(rng.uniform(0.3, 1.6)))
        if rng.random() < 0.3:
            clip = clip[::-1]
        return _grain(np.ascontiguousarray(clip), rng, 0.1)


def _usable(clip: Clip, sources: ClipSources) -> Clip:
    """The part of a real clip on this side of the hold-out."""
    if len(clip) < 50:
        return clip
    split = len(clip) * 2 // 3
    return clip[split:] if sources.validation else clip[:split]


def x264_encoding(rng: np.random.Generator, crf: float) -> Encoding:
    """Settings as they are met in the wild: mostly plain presets, sometimes odd ones."""
    preset = str(rng.choice(("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "medium", "medium")))
    options = {"crf": f"{crf:.1f}", "preset": preset}
    if rng.random() < 0.3:
        options["bf"] = str(int(rng.integers(0, 4)))
    if rng.random() < 0.35:
        options["g"] = str(int(rng.choice((1, 5, 8, 12, 25, 50))))
    if rng.random() < 0.15:
        options["tune"] = str(rng.choice(("film", "animation", "grain", "fastdecode", "zerolatency", "ssim")))
    elif rng.random() < 0.07:
        options["x264-params"] = "no-deblock=1"
    if rng.random() < 0.08:
        options["profile"] = "baseline"
    return Encoding("libx264", options)


def fine_encoding(rng: np.random.Generator) -> Encoding:
    """H.264 of little damage by which drawings look coarse: fast presets, or without adaptive quantisation."""
    options = {"crf": f"{float(rng.uniform(10, 27)):.1f}"}
    options["preset"] = str(rng.choice(("ultrafast", "ultrafast", "superfast", "veryfast", "medium")))
    if options["preset"] != "ultrafast" and rng.random() < 0.6:
        options["aq-mode"] = "0"
    if rng.random() < 0.2:
        options["g"] = str(int(rng.choice((1, 12, 50))))
    if rng.random() < 0.2:
        options["tune"] = str(rng.choice(("animation", "stillimage", "zerolatency")))
    return Encoding("libx264", options)


def mpeg_encoding(rng: np.random.Generator) -> Encoding:
    """MPEG-2 or MPEG-4 part 2 at one fixed quantiser of 2 to 20."""
    quantiser = str(round(float(np.exp(rng.uniform(np.log(2), np.log(20))))))
    options = {"qmin": quantiser, "qmax": quantiser, "g": str(int(rng.choice((6, 12, 25)))), "b": "4000000"}
    codec = str(rng.choice(("mpeg2video", "mpeg4")))
    if rng.random() < 0.6:
        options["bf"] = "2"
    return Encoding(codec, options)


def newer_encoding(rng: np.random.Generator) -> Encoding:
    """HEVC, AV1, VP9 or VP8, mostly by plain presets."""
    codec = str(rng.choice(("libx265", "libsvtav1", "libvpx-vp9", "libvpx"), p=(0.42, 0.32, 0.16, 0.1)))
    options = {"g": str(int(rng.choice((1, 5, 12, 25, 50))))} if rng.random() < 0.35 else {}
    if codec == "libx265":
        options["crf"] = f"{float(rng.uniform(11, 38)):.1f}"
        options["preset"] = str(
            rng.choice(("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "medium"))
        )
        options |= _ONE_THREAD
        if rng.random() < 0.2:
            options["tune"] = str(rng.choice(("grain", "animation", "fastdecode", "zerolatency", "ssim")))
    elif codec == "libsvtav1":
        options |= {"crf": str(int(rng.integers(8, 58))), "preset": str(int(rng.integers(6, 12)))}
        options["svtav1-params"] = "lp=1"
    elif codec == "libvpx-vp9":
        options |= {"crf": str(int(rng.integers(8, 58))), "b": "0", "threads": "1"}
        options |= {"deadline": str(rng.choice(("realtime", "good"))), "cpu-used": str(int(rng.integers(4, 6)))}
    else:
        q = str(round(float(np.exp(rng.uniform(np.log(4), np.log(56))))))
        options |= {"qmin": q, "qmax": q, "b": "2M", "deadline": "realtime", "cpu-used": "4", "threads": "1"}
    return Encoding(codec, options)


def _coded_still(clip: Clip, rng: np.random.Generator) -> ClipPair:
    """One frame as WebP or AVIF of quality 5 to 95, told as a run tells it."""
    kind = str(rng.choice(("webp", "avif"), p=(0.6, 0.4)))
    return _through_file(clip, f"{kind}:q={int(rng.integers(5, 96))}")


def _through_file(clip: Clip, spec: str) -> ClipPair:
    """A clip of one frame through what SPEC says, told what the file tells. The truth is made of the RGB that was
    coded, as the other is: so they differ by the coding alone."""
    rgb = clip_to_rgb(clip, 0)
    done = degrade_still(rgb, parse_spec(spec))
    blocks = (1, -(-rgb.shape[0] // BLOCK), -(-rgb.shape[1] // BLOCK))
    steps = np.full(blocks, UNKNOWN_STEP, np.uint8)
    if done.quantiser is not None:
        steps[:] = step_to_code(done.quantiser.step)
    coded = CodedClip(rgb_to_clip([done.rgb]), steps, np.array([PICTURE_TYPES.index("I")], np.uint8))
    return ClipPair(rgb_to_clip([rgb]), coded)


@dataclass(frozen=True, slots=True)
class _Path:
    """The camera's way over one picture: (T,) each, in output pixels, radians and factors."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    angle: npt.NDArray[np.float64]
    zoom: npt.NDArray[np.float64]


def _path(rng: np.random.Generator, frames: int) -> _Path:
    time = np.arange(frames, dtype=np.float64)
    speed = float(rng.choice((0.0, 0.5, 2.0, 5.0, 9.0))) * float(rng.uniform(0.3, 1.2))
    direction = float(rng.uniform(0, 2 * np.pi))
    curve = float(rng.normal(0, 0.05))
    x = np.cumsum(np.cos(direction + curve * time)) * speed
    y = np.cumsum(np.sin(direction + curve * time)) * speed
    if rng.random() < 0.5:  # a hand
        shake = float(rng.uniform(0.1, 1.5))
        kernel = np.array((0.25, 0.5, 0.25))
        x = x + shake * np.convolve(rng.normal(size=frames + 2), kernel, "valid")
        y = y + shake * np.convolve(rng.normal(size=frames + 2), kernel, "valid")
    angle = float(rng.uniform(-0.2, 0.2)) + time * (float(rng.normal(0, 0.006)) if rng.random() < 0.3 else 0.0)
    zoom = np.exp(time * (float(rng.normal(0, 0.008)) if rng.random() < 0.4 else 0.0))
    if rng.random() < 0.5:
        angle = angle * 0.0
    return _Path(x, y, angle, zoom)


def _matrix(
    path: _Path, t: int, picture: Rgb, start: tuple[float, float], height: int, width: int
) -> npt.NDArray[np.float64]:
    cos, sin = np.cos(path.angle[t]) * path.zoom[t], np.sin(path.angle[t]) * path.zoom[t]
    cx, cy = start[0] * picture.shape[1] + path.x[t], start[1] * picture.shape[0] + path.y[t]
    hx, hy = width / 2.0, height / 2.0
    return np.array([[cos, -sin, cx - cos * hx + sin * hy], [sin, cos, cy - sin * hx - cos * hy]])


class _Layer:
    """One still under its own camera."""

    def __init__(self, picture: Rgb, rng: np.random.Generator, frames: int, shape: tuple[int, int]) -> None:
        room = min(picture.shape[0] / shape[0], picture.shape[1] / shape[1])
        self._picture = shrink(picture, float(rng.uniform(1.0, max(1.0, min(2.5, room)))))
        self._path = _path(rng, frames)
        self._start = (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))
        self._shape = shape
        self._wave = rng.normal(0, 1.2, (2, 5, 6, 2)).astype(np.float32) if rng.random() < 0.3 else None
        self._tempo = float(rng.uniform(0.1, 0.5))
        self._blur = int(rng.choice((1, 1, 1, 3)))

    def at(self, t: int) -> Rgb:
        height, width = self._shape
        picture = warp(self._picture, _matrix(self._path, t, self._picture, self._start, height, width), height, width)
        if self._blur > 1 and t > 0:  # motion blur: the shutter is open while the camera moves
            views = [picture.astype(np.uint16)]
            now = _matrix(self._path, t, self._picture, self._start, height, width)
            before = _matrix(self._path, t - 1, self._picture, self._start, height, width)
            for part in (0.25, 0.5):
                views.append(warp(self._picture, now * (1 - part) + before * part, height, width).astype(np.uint16))
            picture = (sum(views[1:], views[0]) // len(views)).astype(np.uint8)
        if self._wave is not None:
            swing = np.sin(self._tempo * t) * self._wave[0] + np.cos(self._tempo * t) * self._wave[1]
            picture = bend(picture, swing.astype(np.float32) * 2.0)
        return picture


def _camera(
    draw: Callable[[], Rgb], rng: np.random.Generator, frames: int, height: int, width: int, centred: bool
) -> Clip:
    """A clip from stills: one to three layers with their own motion, sometimes a cut or a fade, sometimes grain."""
    shape = (height, width)
    base = _Layer(draw(), rng, frames, shape)
    fore = _Layer(draw(), rng, frames, shape) if rng.random() < 0.4 else None
    mask_path, mask = _path(rng, frames), None
    if fore is not None:
        plain = ellipse_mask(2 * height, 2 * width, int(rng.integers(1, 5)), int(rng.integers(1 << 31)))
        mask = blur_mask(plain, float(rng.choice((0.7, 1.0, 3.0))))
    other = _Layer(draw(), rng, frames, shape) if rng.random() < 0.2 else None
    cut = int(rng.integers(1, max(2, frames - 1)))
    fade = int(rng.choice((1, 1, 8)))
    pictures: list[Rgb] = []
    for t in range(frames):
        picture = base.at(t)
        if fore is not None and mask is not None:
            matrix = np.array([[1.0, 0.0, width / 2 + mask_path.x[t]], [0.0, 1.0, height / 2 + mask_path.y[t]]])
            alpha = warp_mask(mask, matrix, height, width)[..., None]
            picture = np.rint(picture * (1.0 - alpha) + fore.at(t) * alpha).clip(0, 255).astype(np.uint8)
        if other is not None and t > cut - fade:
            share = min(1.0, (t - cut + fade) / fade)
            picture = np.rint(picture * (1.0 - share) + other.at(t) * share).astype(np.uint8)
        pictures.append(picture)
    return _grain(rgb_to_clip(pictures, centred=centred), rng, 0.3)


def _grain(clip: Clip, rng: np.random.Generator, share: float) -> Clip:
    """Sometimes film grain or sensor noise, less of it on chroma, new in each frame. It is part of the truth."""
    if rng.random() >= share:
        return clip
    height = clip.shape[1] * 2 // 3
    sigma = float(rng.uniform(0.7, 4.0))
    noisy = clip.copy()
    noise = rng.standard_normal((len(clip), height, clip.shape[2]), dtype=np.float32) * sigma
    noisy[:, :height] = np.rint(clip[:, :height] + noise).clip(0, 255)
    noise = (
        rng.standard_normal((len(clip), height // 2, clip.shape[2]), dtype=np.float32) * sigma * rng.uniform(0.0, 0.6)
    )
    noisy[:, height:] = np.rint(clip[:, height:] + noise).clip(0, 255)
    return noisy


def write_pair(pair: ClipPair, path: Path) -> None:
    """One flat array of bytes: header, truth, decoded, steps, types. Raises OutputError."""
    frames, rows, width = pair.truth.shape
    header = np.array((frames, rows * 2 // 3, width, 0), np.int32).view(np.uint8)
    parts = (header, pair.truth, pair.coded.pictures, pair.coded.steps, pair.coded.types)
    data = io.BytesIO()
    np.save(data, np.concatenate([part.reshape(-1) for part in parts]))
    write_whole(path, data.getvalue(), stage="train")


def read_pair(path: Path) -> ClipPair:
    """A pair of `write_pair`, mapped, not read.

    Raises:
        InputError: the file isn't whole.
    """
    try:
        flat = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a clip pair: {error}") from error
    if not isinstance(flat, np.ndarray) or flat.dtype != np.uint8 or flat.ndim != 1 or flat.size < _HEADER * 4:
        raise InputError(f"{path} is not a clip pair", remedy="remove it from the folder")
    frames, height, width, _ = (int(value) for value in flat[: _HEADER * 4].view(np.int32))
    size = frames * height * 3 // 2 * width
    blocks = (frames, -(-height // BLOCK), -(-width // BLOCK))
    at = _HEADER * 4
    if flat.size != at + 2 * size + frames * (blocks[1] * blocks[2] + 1):
        raise InputError(f"{path} is not a whole clip pair")
    truth = flat[at : at + size].reshape(frames, height * 3 // 2, width)
    at += size
    pictures = flat[at : at + size].reshape(frames, height * 3 // 2, width)
    at += size
    count = blocks[0] * blocks[1] * blocks[2]
    steps = flat[at : at + count].reshape(blocks)
    return ClipPair(truth, CodedClip(pictures, steps, flat[at + count :]))


def grow_pool(sources: ClipSources, folder: Path, clips: int, seed: int = 0) -> Iterator[Path]:
    """Makes clips 0 to `clips` - 1 of a seed, passing over those that are there; yields each finished file."""
    folder.mkdir(parents=True, exist_ok=True)
    maker: ClipMaker | None = None
    for index in range(clips):
        path = folder / f"clip-{seed}-{index:05d}.npy"
        if not path.exists():
            if maker is None:
                maker = ClipMaker(sources, seed)
            write_pair(maker.pair(index), path)
            yield path


def grow_validation(sources: ClipSources, folder: Path, clips: int = 6, seed: int = 77) -> Iterator[Path]:
    """Clips of the held-out material, each coded in every one of the ways of VALIDATION, or of NEWER_VALIDATION where
    most of the pool is of newer codecs.

    The files are named after the way, so that `validate` tells them apart. `sources` must be of `validation=True`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker: ClipMaker | None = None
    newer = sources.newer_share > 0.5
    ways = NEWER_VALIDATION if newer else VALIDATION
    specs = {"webp30": "webp:q=30", "avif50": "avif:q=50"} if newer else {}
    for index in range(clips):
        paths = {way: folder / f"{way}-{seed}-{index:03d}.npy" for way in (*ways, *specs)}
        if all(path.exists() for path in paths.values()):
            continue
        maker = maker or ClipMaker(sources, seed)
        truth = maker.truth(index)
        for way, path in paths.items():
            coded = (
                _through_file(truth[:1], specs[way])
                if way in specs
                else ClipPair(truth, encode_decode(truth, ways[way]))
            )
            write_pair(coded, path)
            yield path
