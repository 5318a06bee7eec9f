"""libav's measuring filters on frames, and a clip measured against its reference. Floor 2.

The figures are those of libavfilter's `psnr`, `ssim` and `xpsnr`, in the clip's pixel format and bit depth; MS-SSIM,
which libav lacks, is `quality.ssim.ms_ssim` of luma.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame

from ns_video.errors import InputError
from ns_video.frame import (
    BT601_LUMA,
    MATRIX_BT601_625,
    RANGE_FULL,
    RANGE_LIMITED,
    UNSPECIFIED,
    ColorInfo,
    Frame,
    effective_matrix,
    is_full_range,
)
from ns_video.media.animation import open_animation
from ns_video.media.decode import MAX_PIXELS, ClipReader, DecodeOptions, open_clip
from ns_video.media.libav import open_input
from ns_video.media.planes import plane_views
from ns_video.media.probe import choose_video
from ns_video.media.swscale import EXACT, swscale_matrix
from ns_video.quality.offset import FoundOffset, find_offset
from ns_video.quality.thumbnail import Cells, thumbnail

TOLERANCE_SECONDS = 0.002
"""Frames of clip and reference belong together when their times differ by no more: two roundings to Matroska's 1 ms.
The nearest do, where several are as near as that."""
_TIE_SECONDS = 1e-6
"""Distances in time that differ by no more are the same."""
_OFFSET_TOLERANCE = 0.45
"""Of the time from frame to frame, the most by which times may differ where an offset is looked for."""
_LOOKED_AT = 48
"""First frames of clip and reference from which an offset is found."""
_LUMA_WEIGHTS = np.array(BT601_LUMA)
_MEASURED = ("yuv444p", "yuv422p", "yuv420p")
_NAMED = 3  # frames without partner
_LEAST_SITI_SIDE = 3
"""px that libav's siti needs: it makes room for the samples that have neighbours all around, even fewer than none."""
_LEAST_SIDE = 8
"""px of a plane below which libav's ssim divides by its 0 windows, and its xpsnr weighs by none."""
_LEAST_XPSNR_PIXELS = 2025
"""Below, the blocks of libav's xpsnr have no size, and it divides by it: their side is 4 round(√pixels / 90) px."""


@dataclass(frozen=True, slots=True)
class FilterValues:
    """What libav's no-reference filters say of one picture."""

    block: float | None
    """blockdetect: strength of 8-px blocks, about 1 without any."""
    blur: float | None
    """blurdetect: mean width of edges in px (Marziliano)."""
    spatial_information: float | None
    """siti: ITU-T P.910 SI; None below 3 px a side."""
    entropy: float | None
    """entropy of luma in bits."""
    luma_mean: float | None
    """In code values of the bit depth, as the next three."""
    luma_low: float | None
    """10th percentile of luma."""
    luma_high: float | None
    saturation_mean: float | None
    hue_median: float | None


@dataclass(frozen=True, slots=True)
class FullReference:
    """One frame against its reference. PSNR and XPSNR in dB, infinite for equal planes; None for a plane not there,
    SSIM and XPSNR also for planes too small for them.

    Y, U and V of an RGB picture are those of libav's conversion to 4:4:4 in the same bit depth.
    """

    psnr_y: float | None
    psnr_u: float | None
    psnr_v: float | None
    psnr_rgb: float | None
    """PSNR of R, G and B together, after libav's conversion to the same bit depth."""
    ssim: float | None
    """libav's "All": planes weighted by their samples."""
    ssim_y: float | None
    xpsnr: float | None
    """Of luma; its temporal weights need the frames in order."""
    xpsnr_u: float | None
    xpsnr_v: float | None
    psnr_a: float | None = None
    """Of the transparency."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A frame of the clip without partner."""

    index: int
    clip: Frame


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame of the clip, the frame of the reference that belongs to it, and what the filters say."""

    index: int
    clip: Frame
    reference: Frame
    """`coded_like` the clip's."""
    values: FullReference


@dataclass(frozen=True, slots=True)
class Alignment:
    """How clip and reference fit together in time."""

    offset_seconds: float
    """Time of the reference less time of the clip where they show the same."""
    clip_frames: int
    reference_frames: int
    compared: int
    problems: tuple[str, ...]
    """Plain words; empty when every frame has its partner at the same time, and all of it."""
    left_out: tuple[str, ...] = ()
    """What of the reference was not compared, see `left_out`."""


@dataclass(frozen=True, slots=True)
class AudioOffset:
    """Where an audio stream begins and ends relative to the video, seconds; positive is later."""

    stream_index: int
    start_seconds: float
    end_seconds: float
    first_packet_seconds: float
    """Where it begins with what an edit list discards, such as the delay of its encoder."""


def as_video_frame(frame: Frame) -> VideoFrame:
    """A libav frame with the samples of `frame`, on memory of its own."""
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    for view, samples in zip(plane_views(made, frame.format), frame.planes):
        np.copyto(view, samples)
    if frame.color.range:
        made.color_range = frame.color.range
    made.colorspace = frame.color.matrix
    made.pts, made.time_base = 0, Fraction(1, 25)
    return made


def coded_like(reference: Frame, clip: Frame) -> Frame:
    """`reference` in the pixel format, range and matrix of `clip`; itself where it has them.

    libav converts. A side that states no matrix has the other's; two that state none go by their size, as players do.
    """
    both = (reference, clip)
    told = [f.color.matrix for f in both if not f.format.is_rgb and f.color.matrix != UNSPECIFIED] or [UNSPECIFIED]
    sources = (ColorInfo(told[0]), ColorInfo(told[-1]))
    matrices = [swscale_matrix(effective_matrix(c, f.width, f.height)) for c, f in zip(sources, both)]
    spans = [RANGE_FULL if is_full_range(f.format, f.color) else RANGE_LIMITED for f in both]
    if reference.format == clip.format and matrices[0] == matrices[1] and spans[0] == spans[1]:
        return reference
    made = as_video_frame(reference).reformat(
        format=clip.format.name,
        interpolation=EXACT,
        src_colorspace=matrices[0],
        dst_colorspace=matrices[1],
        src_color_range=spans[0],
        dst_color_range=spans[1],
    )
    color = replace(clip.color, primaries=reference.color.primaries, transfer=reference.color.transfer)
    return replace(reference, planes=plane_views(made, clip.format), format=clip.format, color=color, carrier=made)


def left_out(reference: Frame, clip: Frame) -> tuple[str, ...]:
    """What the reference shows that the clip has no samples for: "colour", "transparency"."""
    found: list[str] = []
    if clip.format.name != "pal8" and clip.format.planes < 3 and _has_colour(reference):
        found.append("colour")
    if reference.format.has_alpha and not clip.format.has_alpha and _is_transparent(reference):
        found.append("transparency")
    return tuple(found)


def _is_transparent(frame: Frame) -> bool:
    """Whether any pixel isn't wholly shown."""
    return bool((frame.planes[-1] != (1 << frame.format.bit_depth) - 1).any())


def _has_colour(frame: Frame) -> bool:
    """Whether any pixel isn't gray."""
    form, planes = frame.format, frame.planes
    if form.name == "pal8" or form.planes < 3:
        return form.name == "pal8"
    gray = planes[0] if form.is_rgb else 1 << (form.bit_depth - 1)
    return any(bool((plane != gray).any()) for plane in planes[1:3])


def words_of_left_out(left: Sequence[str]) -> tuple[str, ...]:
    """The same as problems of an alignment."""
    return (f"the reference has {' and '.join(left)}, the clip has none: not compared",) if left else ()


def luma_of(frame: Frame) -> npt.NDArray[np.float64]:
    """(H, W) Y of the code values, 1 the largest; of RGB that of BT.601."""
    planes = frame.planes
    luma = np.tensordot(_LUMA_WEIGHTS, planes[:3], 1) if frame.format.is_rgb else planes[0].astype(np.float64)
    return luma / ((1 << frame.format.bit_depth) - 1)


def _source(graph: Graph, frame: VideoFrame, rate: Fraction) -> Any:
    settings = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={rate.denominator}/{rate.numerator}"
        f":frame_rate={rate.numerator}/{rate.denominator}:colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )
    return graph.add("buffer", settings)


def _suffix(picture: VideoFrame) -> str:
    """Of the names of pixel formats with as many bits."""
    depth = max(component.bits for component in picture.format.components)
    return "" if depth <= 8 else f"{depth}le"


def _in_planes(rgb: VideoFrame) -> VideoFrame:
    """RGB as 4:4:4 of limited range by BT.601, with as many bits."""
    made = rgb.reformat(
        format=f"yuv444p{_suffix(rgb)}",
        interpolation=EXACT,
        dst_colorspace=MATRIX_BT601_625,
        dst_color_range=RANGE_LIMITED,
    )
    made.pts, made.time_base = rgb.pts, rgb.time_base
    return made


def _number(values: dict[str, str], key: str, scale: float = 1.0) -> float | None:
    value = float(values.get(key, "nan")) * scale
    return None if math.isnan(value) else value


def filter_values(frame: Frame) -> FilterValues:
    """libav's no-reference measures of one picture. Gray and RGB are measured as libav converts them.

    The filters take 8 and 10 bits: other depths are measured in 10, and code values told in the picture's own.
    """
    picture = as_video_frame(frame)
    deep = frame.format.bit_depth > 8
    scale = 2.0 ** (frame.format.bit_depth - 10) if deep else 1.0
    graph = Graph()
    nodes = [_source(graph, picture, Fraction(25))]
    nodes.append(graph.add("format", "|".join(f"{name}{'10' if deep else ''}" for name in _MEASURED)))
    siti = ["siti"] if min(frame.width, frame.height) >= _LEAST_SITI_SIDE else []
    nodes += map(graph.add, ("signalstats", "blockdetect", "blurdetect", *siti, "entropy", "buffersink"))
    graph.link_nodes(*nodes).configure()
    graph.vpush(picture)
    values = dict(graph.vpull().metadata)
    blur = _number(values, "lavfi.blur")
    return FilterValues(
        block=_number(values, "lavfi.block"),
        blur=None if blur is None or blur < 0 else blur,
        spatial_information=_number(values, "lavfi.siti.si"),
        entropy=_number(values, "lavfi.entropy.entropy.normal.Y"),
        luma_mean=_number(values, "lavfi.signalstats.YAVG", scale),
        luma_low=_number(values, "lavfi.signalstats.YLOW", scale),
        luma_high=_number(values, "lavfi.signalstats.YHIGH", scale),
        saturation_mean=_number(values, "lavfi.signalstats.SATAVG", scale),
        hue_median=_number(values, "lavfi.signalstats.HUEMED"),
    )


class FullReferenceMeter:
    """Measures pairs of frames in order, through one libav graph.

    All frames have the geometry and pixel format of the first; a reference coded otherwise has to be made `coded_like`
    its clip. Raises InputError where the sizes differ.
    """

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate
        self._graph: Graph | None = None
        self._ends: tuple[Any, Any] | None = None
        self._planar_ends: tuple[Any, Any] | None = None
        """Where RGB goes in that was converted for `xpsnr`: of more than 8 bits it misreads what the graph converts."""
        self._sinks: list[Any] = []
        self._all_planes = True
        """None of the planes is too small for `ssim`."""
        self._count = 0

    def measure(self, clip: Frame, reference: Frame) -> FullReference:
        """The figures of this pair."""
        if (clip.width, clip.height) != (reference.width, reference.height):
            raise InputError(
                f"the reference is {reference.width}x{reference.height}, the clip {clip.width}x{clip.height}",
                stage="compare",
                remedy="give a reference of the clip's size",
            )
        first, second = as_video_frame(clip), as_video_frame(reference)
        second.color_range, second.colorspace = first.color_range, first.colorspace
        if self._graph is None:
            self._build(first)
        assert self._ends is not None
        for node, picture in zip(self._ends, (first, second)):
            picture.pts, picture.time_base = self._count, 1 / self._rate
            node.push(picture)
        for node, picture in zip(self._planar_ends or (), (first, second)):
            node.push(_in_planes(picture))
        self._count += 1
        values: dict[str, str] = {}
        for prefix, sink in self._sinks:
            found = dict(sink.pull().metadata)
            values.update({f"{prefix}{key.removeprefix('lavfi.')}": value for key, value in found.items()})
        if not self._all_planes:
            values.pop("ssim.All", None)
        return _full_reference(values)

    def _build(self, picture: VideoFrame) -> None:
        graph = Graph()
        self._ends = (_source(graph, picture, self._rate), _source(graph, picture, self._rate))
        is_gray, is_rgb = len(picture.format.components) < 3, bool(picture.format.is_rgb)
        self._all_planes = all(min(plane.width, plane.height) >= _LEAST_SIDE for plane in picture.planes)
        is_large = min(picture.width, picture.height) >= _LEAST_SIDE
        takes_xpsnr = is_large and picture.width * picture.height >= _LEAST_XPSNR_PIXELS
        branches = ["psnr"]
        if is_large:
            branches.append("ssim")
        if takes_xpsnr and not is_rgb:
            branches.append("xpsnr")
        if not is_gray:
            branches.append("yuv" if is_rgb else "rgb")
        splits = [graph.add("split", str(len(branches))) for _ in self._ends]
        for end, split in zip(self._ends, splits):
            end.link_to(split)
        suffix = _suffix(picture)
        formats = {"rgb": f"gbrp{suffix}", "yuv": f"yuv444p{suffix}"}
        for number, branch in enumerate(branches):
            meter, sink = graph.add("psnr" if branch in ("rgb", "yuv") else branch), graph.add("buffersink")
            for side, split in enumerate(splits):
                if formats.get(branch):
                    convert = graph.add("format", formats[branch])
                    split.link_to(convert, number, 0)
                    convert.link_to(meter, 0, side)
                else:
                    split.link_to(meter, number, side)
            meter.link_to(sink)
            self._sinks.append((f"{branch}." if branch in ("rgb", "yuv") else "", sink))
        if is_rgb and takes_xpsnr:
            planes = _in_planes(picture)
            self._planar_ends = (_source(graph, planes, self._rate), _source(graph, planes, self._rate))
            meter, sink = graph.add("xpsnr"), graph.add("buffersink")
            for side, end in enumerate(self._planar_ends):
                end.link_to(meter, 0, side)
            meter.link_to(sink)
            self._sinks.append(("", sink))
        graph.configure()
        self._graph = graph


def _full_reference(values: dict[str, str]) -> FullReference:
    is_rgb = "psnr.psnr.r" in values
    planes = {c: _number(values, f"{'yuv.' if is_rgb else ''}psnr.psnr.{c}") for c in "yuv"}
    rgb = [_number(values, f"{'psnr' if is_rgb else 'rgb.psnr'}.psnr.{c}") for c in "rgb"]
    known = [value for value in rgb if value is not None]
    return FullReference(
        psnr_y=planes["y"],
        psnr_u=planes["u"],
        psnr_v=planes["v"],
        psnr_rgb=pooled_psnr(known) if known else None,
        ssim=_number(values, "ssim.All"),
        ssim_y=_number(values, "ssim.G" if is_rgb else "ssim.Y"),
        xpsnr=_number(values, "xpsnr.xpsnr.y"),
        xpsnr_u=_number(values, "xpsnr.xpsnr.u"),
        xpsnr_v=_number(values, "xpsnr.xpsnr.v"),
        psnr_a=_number(values, "psnr.psnr.a"),
    )


def pooled_psnr(values: list[float]) -> float:
    """PSNR of the mean squared error of several planes of one size."""
    mean = math.fsum(10.0 ** (-value / 10.0) for value in values) / len(values)
    return math.inf if mean == 0.0 else -10.0 * math.log10(mean)


class Comparison:
    """A clip against its reference, in one walk through both. `walk()` or `pairs()` once, then `alignment` and
    `clip_reader`.

    Frames are paired by presentation time. Where the reference shows the same pictures at other times as a whole, the
    offset is found from the first seconds and undone; a frame without partner is counted and left out of everything.
    """

    def __init__(self, clip: Path, reference: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._paths, self._max_pixels = (clip, reference), max_pixels
        self._found, self._tolerance = _find_offset(clip, reference, max_pixels)
        self.offset_seconds = self._found.seconds
        self.alignment: Alignment | None = None
        self.clip_reader: ClipReader | None = None

    def _opened(self, path: Path) -> ClipReader:
        return frames_as_coded(path, max_pixels=self._max_pixels)

    def pairs(self) -> Iterator[Pair]:
        """All pairs in order."""
        return (found for found in self.walk() if isinstance(found, Pair))

    def walk(self) -> Generator[Pair | Unpaired]:
        """All frames of the clip in order."""
        with ExitStack() as stack:
            clip, reference = (stack.enter_context(self._opened(path)) for path in self._paths)
            self.clip_reader = clip
            meter = FullReferenceMeter(clip.info.video.rate)
            counts = [0, 0, 0]
            lonely: list[float] = []
            matched = 0
            dropped: set[str] = set()
            for index, first, second in self._matched(clip.frames(), reference.frames(), counts):
                if first is not None and second is not None:
                    matched += 1
                    dropped.update(left_out(second, first))
                    second = coded_like(second, first)
                    yield Pair(index, first, second, meter.measure(first, second))
                elif first is not None:
                    lonely += [first.pts_seconds or 0.0] if len(lonely) < _NAMED else []
                    yield Unpaired(index, first)
            self.alignment = Alignment(
                offset_seconds=self.offset_seconds,
                clip_frames=counts[0],
                reference_frames=counts[1],
                compared=matched,
                left_out=tuple(sorted(dropped)),
                problems=(
                    *words_of_left_out(sorted(dropped)),
                    *self._problems(counts, matched, lonely, clip.info.video.rate, reference.info.video.rate),
                ),
            )

    def _matched(
        self, clip: Iterator[Frame], reference: Iterator[Frame], counts: list[int]
    ) -> Generator[tuple[int, Frame | None, Frame | None]]:
        """(index in the clip, frame of the clip, frame of the reference), one of them None where it has no partner."""
        first, second = next(clip, None), next(reference, None)
        next_first, next_second = next(clip, None), next(reference, None)
        while first is not None or second is not None:
            gap = self._gap(first, second)
            nearer = abs(gap) - _TIE_SECONDS
            is_close = abs(gap) <= TOLERANCE_SECONDS
            passes_second = is_close and abs(self._gap(first, next_second)) < nearer
            passes_first = is_close and abs(self._gap(next_first, second)) < nearer
            if is_close and not passes_first and not passes_second:
                yield counts[0], first, second
                counts[0] += 1
                counts[1] += 1
                first, next_first = next_first, next(clip, None)
                second, next_second = next_second, next(reference, None)
            elif first is not None and gap > 0:
                yield counts[0], first, None
                counts[0] += 1
                first, next_first = next_first, next(clip, None)
            else:
                yield counts[0], None, second
                counts[1] += 1
                second, next_second = next_second, next(reference, None)

    def _gap(self, first: Frame | None, second: Frame | None) -> float:
        """Seconds from the clip's frame to the reference's, infinite where one isn't there."""
        if first is None or second is None:
            return math.inf
        return (second.pts_seconds or 0.0) - self.offset_seconds - (first.pts_seconds or 0.0)

    def _problems(
        self, counts: list[int], matched: int, lonely: list[float], rate: Fraction, reference_rate: Fraction
    ) -> tuple[str, ...]:
        found: list[str] = []
        if abs(self.offset_seconds) > self._tolerance:
            shows = "shows the same pictures" if self._found.is_alike else "begins with other pictures"
            found.append(f"the reference {shows} {_later(self.offset_seconds)}; the shift was undone")
        doubtful = self._found.doubtful_seconds
        if doubtful is not None:
            found.append(
                f"the reference may show the same pictures {_later(doubtful)}, which fits better"
                " but isn't certain: it was not shifted so"
            )
        if rate and abs(float(reference_rate / rate) - 1) > 0.01 and matched < max(counts):
            found.append(f"the reference has {float(reference_rate):.3f} frames a second, the clip {float(rate):.3f}")
        if matched < counts[0]:
            times = ", ".join(f"{seconds:.3f} s" for seconds in lonely)
            found.append(f"{_lonely(counts[0] - matched, 'clip', 'reference')} (first at {times})")
        if matched < counts[1]:
            found.append(_lonely(counts[1] - matched, "reference", "clip"))
        return tuple(found)


def _lonely(count: int, one: str, other: str) -> str:
    frames = "1 frame of the {} has" if count == 1 else f"{count} frames of the {{}} have"
    return f"{frames.format(one)} no partner in the {other}"


def _later(seconds: float) -> str:
    return f"{abs(seconds):.3f} s {'later' if seconds > 0 else 'earlier'}"


def _first_thumbnails(path: Path, max_pixels: int) -> tuple[list[tuple[float, Cells]], float | None]:
    """(time, thumbnail) of the first frames, and where the clip ends as far as its header tells."""
    with frames_as_coded(path, max_pixels=max_pixels) as reader:
        frames = reader.frames()
        found = [(frame.pts_seconds or 0.0, thumbnail(frame).luma) for _, frame in zip(range(_LOOKED_AT), frames)]
        frames.close()
        length = reader.info.duration_seconds
        return found, found[0][0] + length if found and length is not None else None


def _find_offset(clip_path: Path, reference_path: Path, max_pixels: int) -> tuple[FoundOffset, float]:
    """The offset, and the tolerance in seconds that it was found with."""
    (clip, end), (reference, reference_end) = (
        _first_thumbnails(path, max_pixels) for path in (clip_path, reference_path)
    )
    steps = [float(np.median(np.diff([seconds for seconds, _ in side]))) for side in (clip, reference) if len(side) > 1]
    tolerance = min([TOLERANCE_SECONDS, *(_OFFSET_TOLERANCE * step for step in steps if step > 0)])
    found = find_offset(clip, reference, tolerance=tolerance)
    if found.seconds and not found.is_alike:
        # one may be a part of the other, of the same clock: then they meet later
        late, until = (reference[0][0], end) if found.seconds > 0 else (clip[0][0], reference_end)
        if until is not None and late < until:
            return FoundOffset(0.0, is_alike=False), tolerance
    return found, tolerance


def audio_offsets(path: Path) -> tuple[AudioOffset, ...]:
    """Where each audio stream begins and ends relative to the video stream that is restored, from the times of their
    packets, without those that an edit list discards.

    Reads the container through once without decoding. Empty where there is no audio. Raises InputError where there is
    no video.
    """
    spans: dict[int, tuple[float, float]] = {}
    firsts: dict[int, float] = {}
    with open_input(path) as container:
        video = choose_video(container).index
        audio = [s.index for s in container.streams.audio]
        if not audio:
            return ()
        try:
            for packet in container.demux(*(container.streams[i] for i in (video, *audio))):
                if packet.pts is None or not packet.size:
                    continue
                index, begin = packet.stream_index, float(packet.pts * packet.time_base)
                firsts[index] = min(begin, firsts.get(index, begin))
                if packet.is_discard:
                    continue
                end = begin + float((packet.duration or 0) * packet.time_base)
                known = spans.get(index, (begin, end))
                spans[index] = (min(known[0], begin), max(known[1], end))
        except (av.FFmpegError, OSError):
            pass  # a damaged tail: the spans seen so far are the answer
    if video not in spans:
        return ()
    start, end = spans[video]
    return tuple(
        AudioOffset(index, spans[index][0] - start, spans[index][1] - end, firsts[index] - start)
        for index in audio
        if index in spans
    )


def frames_as_coded(path: Path, *, max_pixels: int = MAX_PIXELS) -> ClipReader:
    """A reader of a clip's frames as decoded, not deinterlaced; a context manager. Raises InputError."""
    options = DecodeOptions(deinterlace="off", max_pixels=max_pixels)
    return open_animation(path, options) or open_clip(path, options)
