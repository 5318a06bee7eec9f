"""Small clips made with real encoders, in every container that is fuzzed, and ways to damage them."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a clip is made of."""

    container: str
    codec: str
    pix_fmt: str = "yuv420p"
    audio: str = ""
    subtitles: bool = False
    options: tuple[tuple[str, str], ...] = ()
    """The muxer's."""
    codec_options: tuple[tuple[str, str], ...] = ()


_X264 = (("preset", "veryfast"), ("g", "12"), ("bf", "2"), ("threads", "1"))
RECIPES: dict[str, Recipe] = {
    "faststart.mp4": Recipe("mp4", "libx264", audio="aac", options=(("movflags", "+faststart"),), codec_options=_X264),
    "index-at-end.mp4": Recipe("mp4", "libx264", audio="aac", codec_options=_X264),
    "fragmented.mp4": Recipe(
        "mp4", "libx264", options=(("movflags", "+frag_keyframe+empty_moov+default_base_moof"),), codec_options=_X264
    ),
    "h264.mkv": Recipe("matroska", "libx264", audio="flac", subtitles=True, codec_options=_X264),
    "h264.ts": Recipe("mpegts", "libx264", audio="mp2", codec_options=_X264),
    "mpeg4.avi": Recipe("avi", "mpeg4", audio="mp2"),
    "vp9.webm": Recipe("webm", "libvpx-vp9", codec_options=(("cpu-used", "8"), ("deadline", "realtime"))),
    "hevc.mov": Recipe(
        "mov", "libx265", codec_options=(("preset", "ultrafast"), ("x265-params", "log-level=none:pools=1"))
    ),
    "mpeg2.mpg": Recipe("mpeg", "mpeg2video", audio="mp2"),
    "mjpeg.avi": Recipe("avi", "mjpeg", "yuvj420p"),
    "ffv1.nut": Recipe("nut", "ffv1"),
    "flv1.flv": Recipe("flv", "flv"),
    "raw.h264": Recipe("h264", "libx264", codec_options=_X264),
    "theora-free.ogv": Recipe("ogg", "libvpx", codec_options=(("deadline", "realtime"),)),
    "wmv2.asf": Recipe("asf", "wmv2"),
    "screen.gif": Recipe("gif", "gif", "rgb8"),
    "screen.apng": Recipe("apng", "apng", "rgb24"),
    "mpeg2.mxf": Recipe("mxf", "mpeg2video", "yuv422p"),
}
"""By file name."""


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: a gradient that moves, a bar, and noise that compresses badly; every index another picture."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(index).integers(0, 48, (height, width))
    out = np.stack([(x * 4 + index * 3) % 256, (y * 5 + index) % 256, (x + y + noise) % 256], -1).astype(np.uint8)
    out[:, (index * 2) % width] = 255
    return out


def make_clip(
    path: Path, recipe: Recipe, frames: int = 40, *, size: tuple[int, int] = (WIDTH, HEIGHT), variable: bool = False
) -> Path:
    """Encode `frames` pictures at 25 per second (`variable`: unevenly), with what the recipe names beside them."""
    rate = 25
    with av.open(str(path), "w", format=recipe.container, container_options=dict(recipe.options)) as out:
        video = out.add_stream(recipe.codec, rate=rate, width=size[0], height=size[1])
        video.pix_fmt = recipe.pix_fmt
        video.codec_context.options = dict(recipe.codec_options)
        video.codec_context.thread_count = 1
        fixed_rate = recipe.codec in ("mpeg2video", "mpeg4", "flv", "wmv2", "mjpeg")
        if not fixed_rate:
            video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream(recipe.audio, rate=44100, layout="stereo") if recipe.audio else None
        words = out.add_mux_stream("subrip") if recipe.subtitles else None
        ticks = 0
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24").reformat(format=recipe.pix_fmt)
            frame.pts = index if fixed_rate else ticks
            frame.time_base = Fraction(1, rate) if fixed_rate else Fraction(1, 1000)
            ticks += 40 if not variable else 17 + 13 * (index % 4)
            out.mux(video.encode(frame))
            if words is not None and index % 10 == 0:
                cue = av.Packet(f"cue {index}".encode())
                cue.pts = cue.dts = index * 40
                cue.duration, cue.time_base, cue.stream = 300, Fraction(1, 1000), words
                out.mux(cue)
        out.mux(video.encode(None))
        if audio is not None:
            length = max(1, ticks * 44100 // 1000 if not fixed_rate else frames * 44100 // rate)
            wave = (np.sin(np.arange(length) / 20) * 8000).astype(np.int16)
            size_of = 1152
            for start in range(0, length, size_of):
                block = np.repeat(wave[start : start + size_of], 2)[None]
                sound = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
                sound.sample_rate, sound.pts, sound.time_base = 44100, start, Fraction(1, 44100)
                out.mux(audio.encode(sound))
            out.mux(audio.encode(None))
    return path


def make_clips(folder: Path, frames: int = 24) -> list[Path]:
    """Every recipe in a folder."""
    return [make_clip(folder / name, recipe, frames) for name, recipe in RECIPES.items()]


def make_stills(folder: Path) -> list[Path]:
    """One picture in every still format."""
    image = Image.fromarray(picture(3))
    out: list[Path] = []
    for name, options in {
        "still.png": {},
        "still.jpg": {"quality": 60},
        "progressive.jpg": {"quality": 60, "progressive": True},
        "still.webp": {"quality": 50},
        "still.tif": {"compression": "tiff_lzw"},
        "still.bmp": {},
    }.items():
        image.save(folder / name, **options)
        out.append(folder / name)
    palette = folder / "palette.png"
    image.convert("P").save(palette)
    deep = folder / "deep.png"
    Image.fromarray(picture(4)[..., 0].astype(np.uint16) * 257).save(deep)
    animated = folder / "animated.webp"
    Image.fromarray(picture(0)).save(
        animated, save_all=True, append_images=[Image.fromarray(picture(i)) for i in range(1, 6)], duration=40
    )
    return [*out, palette, deep, animated]


# Damage.


def mutated(data: bytes, rng: random.Random, others: list[bytes] | None = None) -> bytes:
    """A damaged copy: bits, bursts, zeros, cuts, blocks moved, doubled or taken from elsewhere, extreme numbers."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            break
        kind = rng.randrange(9)
        at = rng.randrange(len(out)) if rng.random() < 0.7 else rng.randrange(min(len(out), 1024))
        length = min(len(out) - at, rng.choice((1, 2, 4, 16, 188, 512, 4096)))
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            out[at : at + length] = bytes(length)
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            to = rng.randrange(len(out))
            block = bytes(out[at : at + length])
            out[to : to + length] = block
        elif kind == 6:
            block = bytes(out[at : at + length])
            out[at:at] = block * rng.choice((1, 3))
        elif kind == 7:
            extreme = rng.choice(
                (
                    b"\xff\xff\xff\xff",
                    b"\x7f\xff\xff\xff",
                    b"\x00\x00\x00\x00",
                    b"\x80\x00\x00\x00",
                    b"\x01\x00\x00\x00",
                )
            )
            out[at : at + 4] = extreme[: max(0, len(out) - at)]
        elif others:
            other = rng.choice(others)
            start = rng.randrange(max(1, len(other)))
            out[at : at + length] = other[start : start + length]
    return bytes(out)


def cut(data: bytes, share: float) -> bytes:
    """The first `share` of a file."""
    return data[: max(1, int(len(data) * share))]


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes don't hold."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims a size that its few bytes don't hold."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def matroska_claiming(clip: bytes, width: int, height: int) -> bytes:
    """A Matroska file whose track header claims another size (PixelWidth 0xB0, PixelHeight 0xBA, two bytes each)."""
    data = bytearray(clip)
    done = 0
    for identifier, value, now in ((0xB0, width, WIDTH), (0xBA, height, HEIGHT)):
        old = bytes((identifier, 0x81, now))
        at = data.index(old)
        data[at : at + 3] = bytes((identifier, 0x82)) + struct.pack(">H", value)
        done += 1
    assert done == 2
    return bytes(data)


# What two files hold.


@dataclass(frozen=True, slots=True)
class Content:
    """What a clip holds, so that two of them can be compared exactly."""

    frames: tuple[tuple[Fraction, str], ...]
    """(time, hash of all planes) of each frame of the first video stream."""
    packets: tuple[tuple[str, tuple[tuple[Fraction | None, str], ...]], ...]
    """(kind, (time, hash) of each packet) of every other stream."""


def content_of(path: Path) -> Content:
    """Decode the first video stream, read the packets of the others."""
    import hashlib

    frames: list[tuple[Fraction, str]] = []
    others: dict[int, list[tuple[Fraction | None, str]]] = {}
    kinds: dict[int, str] = {}
    with av.open(str(path)) as clip:
        video = clip.streams.video[0]
        video.codec_context.thread_count = 1
        for stream in clip.streams:
            if stream.index != video.index:
                kinds[stream.index], others[stream.index] = stream.type, []
        for packet in clip.demux():
            if packet.stream_index == video.index:
                for frame in packet.decode():
                    digest = hashlib.md5(frame.to_ndarray().tobytes(), usedforsecurity=False).hexdigest()
                    assert frame.pts is not None
                    frames.append((frame.pts * frame.time_base, digest))
            elif packet.size:
                stamp = None if packet.pts is None else packet.pts * packet.time_base
                digest = hashlib.md5(bytes(packet), usedforsecurity=False).hexdigest()
                others[packet.stream_index].append((stamp, digest))
    return Content(tuple(frames), tuple((kinds[i], tuple(others[i])) for i in sorted(others)))


def decodable_frames(path: Path) -> int:
    """Frames that a plain loop with one decoder thread gets out of a file; 0 where it doesn't open."""
    count = 0
    try:
        with av.open(str(path)) as clip:
            if not clip.streams.video:
                return 0
            video = clip.streams.video[0]
            video.codec_context.thread_count = 1
            packets = clip.demux(video)
            failures = 0
            while failures < 8:
                try:
                    packet = next(packets)
                except StopIteration:
                    break
                except av.FFmpegError:
                    failures += 1
                    continue
                try:
                    count += len(packet.decode())
                except av.FFmpegError:
                    continue
    except (av.FFmpegError, ValueError, OSError):
        return count
    return count
