"""What tests are made of: clips written by real encoders, and what a file holds, read by libav alone.

Nothing here comes from `ns_video.media`: the facts that outputs are compared by are read by other code than wrote them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, FRAMES = 64, 48, 10
_PACKED = {"bgr0": "gbrp", "bgra": "gbrap", "rgb24": "gbrp", "rgba": "gbrap"}
MILLISECOND = Fraction(1, 1000)
X264 = {"preset": "veryfast", "crf": "30", "bf": "2", "g": "8"}


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: a moving gradient, a bar and noise; every index another picture."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(index).integers(0, 40, (height, width))
    out = np.stack([(x * 3 + index * 5) % 256, (y * 4 + index) % 256, (x + y + noise) % 256], -1).astype(np.uint8)
    out[:, (index * 3) % width] = 250
    return out


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a clip is made of."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    times: Sequence[int] = tuple(range(0, 40 * FRAMES, 40))
    """Presentation times in milliseconds."""
    options: Mapping[str, str] = field(default_factory=lambda: dict(X264))
    """The encoder's."""
    muxing: Mapping[str, str] = field(default_factory=dict)
    color: tuple[int, int, int, int] | None = None
    """Matrix, range, primaries, transfer (H.273)."""
    aspect: Fraction | None = None
    display_matrix: tuple[int, ...] = ()
    audio: Sequence[tuple[str, str]] = ()
    """(codec, language) of each track."""
    subtitles: Sequence[tuple[str, str]] = ()
    chapters: Sequence[tuple[int, int, str]] = ()
    """(start, end) in milliseconds and title."""
    attachments: Sequence[tuple[str, str, bytes]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False
    interlaced: bool = False
    rate: Fraction = Fraction(25)
    fixed_rate: bool = False
    """The codec knows only whole frames."""


def write_clip(path: Path, recipe: Recipe | None = None) -> Path:
    """Encode a recipe into `path`; the container is libav's guess by the name."""
    recipe = recipe or Recipe()
    with av.open(str(path), "w", container_options=dict(recipe.muxing)) as out:
        video = out.add_stream(recipe.codec, rate=recipe.rate, width=recipe.size[0], height=recipe.size[1])
        context = video.codec_context
        context.pix_fmt = recipe.pix_fmt
        tick = 1 / recipe.rate if recipe.fixed_rate else MILLISECOND
        context.time_base = video.time_base = tick
        context.thread_count = 1
        context.options = dict(recipe.options)
        if recipe.color is not None:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = recipe.color
        if recipe.aspect is not None:
            context.sample_aspect_ratio = recipe.aspect
        if recipe.interlaced:
            context.flags |= int(av.codec.context.Flags.interlaced_dct)
        if recipe.display_matrix:
            video.set_display_matrix(recipe.display_matrix)
        tracks = [_audio_track(out, codec, language) for codec, language in recipe.audio]
        words = [_subtitle_track(out, codec, language) for codec, language in recipe.subtitles]
        for name, mime, data in recipe.attachments:
            out.add_attachment(name, mime, data)
        out.metadata.update(recipe.metadata)
        if recipe.chapters:
            out.set_chapters(
                [
                    {"id": n, "start": a, "end": b, "time_base": MILLISECOND, "metadata": {"title": title}}
                    for n, (a, b, title) in enumerate(recipe.chapters, 1)
                ]
            )
        for index, milliseconds in enumerate(recipe.times):
            out.mux(video.encode(_frame(recipe, index, milliseconds if not recipe.fixed_rate else index, tick)))
            if index % 4 == 0:
                for stream, codec in words:
                    out.mux(_cue(stream, codec, index, milliseconds))
        out.mux(video.encode(None))
        length = (max(recipe.times) + 40) / 1000
        for track in tracks:
            _write_tone(out, track, length)
    return path


def _frame(recipe: Recipe, index: int, pts: int, tick: Fraction) -> av.VideoFrame:
    rgb = picture(index, *recipe.size)
    if recipe.alpha:
        mask = (np.mgrid[0 : recipe.size[1], 0 : recipe.size[0]][1] * 4 % 256).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.dstack([rgb, mask]), format="rgba")
    else:
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if frame.format.name != recipe.pix_fmt:
        matrix, span = (recipe.color[0], recipe.color[1]) if recipe.color else (2, 1)
        frame = frame.reformat(
            format=recipe.pix_fmt, dst_colorspace="ITU709" if matrix == 1 else "ITU601", dst_color_range=span
        )
    frame.pts, frame.time_base = pts, tick
    return frame


def _audio_track(out: Any, codec: str, language: str) -> Any:
    track = out.add_stream(codec, rate=44100, layout="stereo")
    track.metadata["language"] = language
    return track


def _subtitle_track(out: Any, codec: str, language: str) -> tuple[Any, str]:
    stream = out.add_mux_stream(codec)
    stream.time_base = MILLISECOND
    stream.metadata["language"] = language
    return stream, codec


def _cue(stream: Any, codec: str, index: int, milliseconds: int) -> av.Packet:
    text = f"cue {index}".encode()
    packet = av.Packet(len(text).to_bytes(2, "big") + text if codec == "mov_text" else text)
    packet.pts = packet.dts = max(0, milliseconds)
    packet.duration, packet.time_base, packet.stream = 100, MILLISECOND, stream
    return packet


def _write_tone(out: Any, track: Any, seconds: float) -> None:
    size = 1024
    wave = (np.sin(np.arange(int(seconds * 44100)) / 15) * 9000).astype(np.int16)
    for start in range(0, len(wave), size):
        block = np.repeat(wave[start : start + size], 2)[None]
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="s16", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = 44100, start, Fraction(1, 44100)
        out.mux(track.encode(sound))
    out.mux(track.encode(None))


def captions_sei(index: int) -> bytes:
    """An H.264 SEI NAL unit with one CEA-608 byte pair (ITU-T T.35, ATSC A/53 part 4)."""
    pair = bytes((0xFC, 0x80 | (0x20 + index % 64), 0xC1))
    body = b"\xb5\x00\x31GA94\x03" + bytes((0xC1, 0xFF)) + pair + b"\xff"
    return b"\0\0\0\1\x06\x04" + bytes((len(body),)) + body + b"\x80"


# What a file holds.


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame."""

    seconds: Fraction
    planes: tuple[bytes, ...]
    """Samples of each plane, rows without padding."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream that isn't the restored one."""

    type: str
    codec: str
    language: str | None
    disposition: int
    packets: tuple[tuple[Fraction | None, str], ...]
    """(seconds, hash) of each packet."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that INTERFACE promises to keep."""

    pix_fmt: str
    pictures: tuple[Picture, ...]
    color: tuple[int, int, int, int]
    aspect: Fraction
    display_matrix: tuple[int, ...]
    mastering: tuple[Fraction, ...] | None
    """Red, green, blue and white point (x, y each), least and most luminance."""
    light: bytes | None
    captions: tuple[bytes, ...]
    disposition: int
    streams: tuple[Stream, ...]
    chapters: tuple[tuple[Fraction, Fraction, str], ...]
    metadata: dict[str, str]
    video_metadata: dict[str, str]

    @property
    def times(self) -> list[Fraction]:
        """Presentation times."""
        return [p.seconds for p in self.pictures]

    @property
    def samples(self) -> list[tuple[bytes, ...]]:
        """Samples of every frame."""
        return [p.planes for p in self.pictures]


def _rows(plane: Any, frame: av.VideoFrame) -> bytes:
    component = next(c for c in frame.format.components if c.plane == plane_index(frame, plane))
    width = plane.width * sum(1 for c in frame.format.components if c.plane == component.plane)
    width *= 2 if component.bits > 8 else 1
    data = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
    return data[:, :width].tobytes()


def plane_index(frame: av.VideoFrame, plane: Any) -> int:
    """The number of a plane in its frame."""
    return next(i for i, p in enumerate(frame.planes) if p.buffer_ptr == plane.buffer_ptr)


def planes_of(frame: av.VideoFrame) -> tuple[bytes, ...]:
    """The samples of every plane; packed RGB as the planes that hold the same."""
    if frame.format.name in _PACKED:
        frame = frame.reformat(format=_PACKED[frame.format.name])
    return tuple(_rows(plane, frame) for plane in frame.planes)


def _side(frame: av.VideoFrame, name: str) -> bytes | None:
    return next((bytes(d) for d in frame.side_data if d.type.name == name), None)


def _mastering(frame: av.VideoFrame) -> tuple[Fraction, ...] | None:
    """AVMasteringDisplayMetadata: ten rationals, and whether primaries and luminance are told."""
    data = _side(frame, "MASTERING_DISPLAY_METADATA")
    if data is None:
        return None
    *numbers, primaries, luminance = struct.unpack("<22i", data[:88])
    assert primaries and luminance
    return tuple(Fraction(*pair) for pair in zip(numbers[::2], numbers[1::2]))


def facts(path: Path, *, restored: int = 0, **options: Any) -> Facts:
    """Read a whole clip; `restored` is the number of the video stream among those that are no covers."""
    pictures: list[Picture] = []
    captions: list[bytes] = []
    first: av.VideoFrame | None = None
    packets: dict[int, list[tuple[Fraction | None, str]]] = {}

    def take(frames: list[av.VideoFrame]) -> None:
        nonlocal first
        for frame in frames:
            first = first or frame
            pictures.append(Picture(frame.pts * video.time_base, planes_of(frame)))
            if (data := _side(frame, "A53_CC")) is not None:
                captions.append(data)

    with av.open(str(path), **options) as clip:
        covers = int(av.stream.Disposition.attached_pic)
        video = [s for s in clip.streams.video if not int(s.disposition) & covers][restored]
        video.codec_context.thread_count = 1
        for packet in clip.demux():
            if packet.stream_index != video.index:
                if packet.size and bytes(packet) != b"\0\0":  # with which mov_text fills gaps between cues
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    when = None if stamp is None else stamp * packet.time_base
                    digest = hashlib.blake2b(bytes(packet), digest_size=8).hexdigest()
                    packets.setdefault(packet.stream_index, []).append((when, digest))
                continue
            if packet.size:
                take(video.decode(packet))
        take(video.decode(None))
        assert first is not None
        streams = tuple(
            Stream(
                s.type,
                s.codec_context.codec.canonical_name if s.codec_context is not None else "none",
                s.metadata.get("language"),
                int(s.disposition),
                tuple(packets.get(s.index, ())),
            )
            for s in clip.streams
            if s.index != video.index
        )
        matrix = _side(first, "DISPLAYMATRIX")
        return Facts(
            pix_fmt=first.format.name,
            pictures=tuple(pictures),
            color=(
                int(first.colorspace),
                int(first.color_range),
                int(first.color_primaries),
                int(first.color_trc),
            ),
            aspect=Fraction(video.sample_aspect_ratio or 1) or Fraction(1),
            display_matrix=() if matrix is None else tuple(np.frombuffer(matrix, np.int32).tolist()),
            mastering=_mastering(first),
            light=_side(first, "CONTENT_LIGHT_LEVEL"),
            captions=tuple(captions),
            disposition=int(video.disposition),
            streams=streams,
            chapters=tuple(
                (
                    c["start"] * Fraction(c["time_base"]),
                    c["end"] * Fraction(c["time_base"]),
                    str(dict(c["metadata"]).get("title", "")),
                )
                for c in clip.chapters()
            ),
            metadata=dict(clip.metadata),
            video_metadata=dict(video.metadata),
        )


def cues(path: Path) -> list[tuple[int | None, int | None, bytes]]:
    """Time, duration (both in ticks) and payload of each packet of the first subtitle stream."""
    with av.open(str(path)) as clip:
        return [(p.pts, p.duration, bytes(p)) for p in clip.demux(subtitles=0) if p.size]
