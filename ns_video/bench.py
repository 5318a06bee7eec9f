"""How fast the stages are on this machine, alone and together. Floor 4.

Peaks (a matrix product, a copy) are timed in the same run, so that a share of the peak means something on a machine
that others use too. On a CPU the stages share the cores: beside the slowest stage alone, the whole run is held
against the processor time that all stages need.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ns_video.cells import PITCHES, Kind, as_kind
from ns_video.conditioning import example_planes
from ns_video.device import FAILURES, PRECISIONS, synchronise
from ns_video.enhance import EnhancedFrame, EnhanceOptions, Enhancer
from ns_video.errors import InputError
from ns_video.flow import FlowTimes, Meters, decoded_ahead, enhanced_ahead, settle
from ns_video.frame import Frame, QuantiserMap
from ns_video.jpeg_tables import ijg_tables
from ns_video.machine import codec_threads, peak_memory, usable_cores
from ns_video.media.bench_clip import picture
from ns_video.media.carried import carry_quantisers
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.degrade import blur_down, mosaic
from ns_video.media.encode import FrameEncoder
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.probe import VideoInfo
from ns_video.media.segment_file import SegmentFile
from ns_video.media.video_plan import plan_video
from ns_video.weights import Descriptor, load_descriptor

HELD_BYTES = 256 << 20
"""Decoded frames kept in memory for the stages that are measured alone."""
_MATRIX = {"cpu": 2048, "cuda": 8192, "mps": 4096}
_COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30, "mps": 256 << 20}
_TABLES = ijg_tables(50)
"""What a network that reads a JPEG's tables is told."""
_WARM_UP_FRAMES = 2
NS_IC_SIZE = (1280, 640)
NS_IC_TILE, NS_IC_OVERLAP = 256, 128


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the device reached in this run."""

    device: str
    matrix_gflops: dict[str, float]
    """Precision → GFLOP/s of a square matrix product."""
    copy_gbytes: float
    """GB/s of a copy, read and write counted."""


@dataclass(frozen=True, slots=True)
class StageSpeed:
    """One stage alone."""

    frames: int
    seconds: float
    fps: float
    megapixels_per_second: float
    cpu_ms_per_frame: float
    """Processor time of the whole process, all threads."""


@dataclass(frozen=True, slots=True)
class EnhanceSpeed:
    """The network's stage alone."""

    model: str
    device: str
    precision: str
    tile: int | None
    speed: StageSpeed
    gflop_per_frame: float
    gflops: float
    share_of_peak: float
    """Of the matrix product in the same precision; 0 where that wasn't timed (int8)."""
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class WholeRun:
    """Decode, enhance and encode together, as `restore` chains them."""

    model: str
    precision: str
    speed: StageSpeed
    limiting_stage: str
    share_of_slowest: float
    """fps / fps of the slowest stage alone."""
    share_of_processor: float
    """fps / what the cores could do if the stages' processor time alone counted. On a CPU this is the ceiling."""
    seconds_to_first_frame: float
    busy_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClipBench:
    """Everything measured on one clip."""

    clip: str
    width: int
    height: int
    cores: int
    decode: StageSpeed
    enhance: tuple[EnhanceSpeed, ...]
    encode: StageSpeed
    whole: tuple[WholeRun, ...]
    peaks: Peaks
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class PictureSpeed:
    """One row of NS-IC's protocol: a 1280 × 640 picture."""

    model: str
    device: str
    precision: str
    tile: int
    overlap: int
    seconds_per_picture: float
    megapixels_per_second: float


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure."""

    models: tuple[str, ...] = ("video",)
    device: str = "auto"
    precisions: tuple[str, ...] = ("auto",)
    tiles: tuple[int | None, ...] = (None,)
    seconds: float = 10.0
    """Of measuring per stage and combination, about."""
    speed: str = "medium"
    """Preset of the encoder."""
    integers: bool = False
    """The precision "auto" takes int8 where CPU and model can."""


def measure_peaks(device: torch.device, precisions: Iterable[str] = ("fp32", "bf16", "fp16")) -> Peaks:
    """Times a matrix product per precision and a copy; the best of several. What fails counts 0."""
    natively = [p for p in precisions if not (device.type == "cpu" and p == "fp16")]  # else it takes minutes
    rates = {precision: _product_rate(device, precision) for precision in natively}
    return Peaks(str(device), rates, _copy_rate(device))


def _product_rate(device: torch.device, precision: str) -> float:
    """GFLOP/s of a matrix product; 0 where it fails."""
    side = _MATRIX[device.type]
    try:
        left = torch.randn(side, side, device=device).to(PRECISIONS[precision])
        right = torch.randn(side, side, device=device).to(PRECISIONS[precision])
        with _like_convolutions():
            seconds = _best(lambda: torch.mm(left, right), device, 6)
    except FAILURES:
        return 0.0
    return 2.0 * side**3 / seconds / 1e9


@contextmanager
def _like_convolutions() -> Generator[None]:
    """Products of fp32 take TF32 where convolutions do, which most of a network's work is."""
    products, backends = torch.backends.cuda.matmul, cast(Any, torch.backends)
    before, products.fp32_precision = products.fp32_precision, backends.cudnn.conv.fp32_precision
    try:
        yield
    finally:
        products.fp32_precision = before


def _copy_rate(device: torch.device) -> float:
    """GB/s read and written by a copy; 0 where it fails, for want of memory for example."""
    try:
        source = torch.empty(_COPY_BYTES[device.type], dtype=torch.uint8, device=device).fill_(1)
        target = torch.empty_like(source)
        seconds = _best(lambda: target.copy_(source), device, 6)
    except FAILURES:
        return 0.0
    return 2.0 * source.numel() / seconds / 1e9


def gflop_per_pixel(descriptor: Descriptor) -> float:
    """GFLOP of the network per input pixel, from a small picture; a multiply-add counts two.

    Where it sees cells, per pixel of a picture of the largest ones.
    """
    side_px = -(-128 // descriptor.multiple_of) * descriptor.multiple_of
    given: list[Tensor] = [torch.zeros(1, descriptor.in_channels * descriptor.frames, side_px, side_px)]
    planes = example_planes(descriptor.conditioning, side_px, side_px)
    given += [] if planes is None else [planes]
    device = next(itertools.chain(descriptor.network.parameters(), [torch.zeros(1)])).device
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        descriptor.network(*(tensor.to(device) for tensor in given))
    kind = as_kind(descriptor.conditioning)
    pitch = 1 if kind is None else PITCHES[kind][0]
    return counter.get_total_flops() / 1e9 / (side_px * pitch) ** 2


def measure_clip(clip: Path, folder: Path, options: BenchOptions) -> Generator[str, None, ClipBench]:
    """Measures the stages on a clip; yields what it does next, returns the figures. `folder` takes the encoded output.

    Raises InputError for a clip too short to measure or of which a model restores nothing, and what loading one raises.
    """
    yield "decoding"
    held, video, decode = _measure_decode(clip, options)
    first = held[0]
    threads = codec_threads()
    rows: list[EnhanceSpeed] = []
    enhancers: list[Enhancer] = []
    for model in options.models:
        descriptor = load_descriptor(model)
        work = gflop_per_pixel(descriptor) * first.width * first.height
        for precision in options.precisions:
            for tile in options.tiles:
                yield f"enhancing with {model}, {precision}, tile {tile or 'auto'}"
                enhancer = Enhancer(descriptor, _enhance_options(options, precision, tile))
                given = [_damaged(frame, enhancer) for frame in held]
                speed, memory = _measure_enhance(enhancer, given, options.seconds)
                if not enhancer.does_nothing and enhancer.stats.restored == 0:
                    raise InputError(f"{model} restored no frame of {clip}: there is nothing to measure", stage="bench")
                rows.append(
                    EnhanceSpeed(
                        model=model,
                        device=str(enhancer.device),
                        precision=enhancer.precision,
                        tile=enhancer.stats.tile,
                        speed=speed,
                        gflop_per_frame=work,
                        gflops=work * speed.fps,
                        share_of_peak=0.0,
                        peak_memory_bytes=memory,
                    )
                )
                enhancers.append(enhancer)
    size = enhancers[0].frame_size(first)
    shown = (size[1], size[0]) if first.turned else size
    wanted = EncodeOptions(threads=threads, speed=options.speed)
    yield "encoding"
    resized = [out.frame for out in Enhancer(load_descriptor("identity"), EnhanceOptions(size=shown)).run(held)]
    encode = _measure_encode(resized, video, folder / "alone.nut", wanted, options.seconds)
    whole: list[WholeRun] = []
    for enhancer, row in zip(enhancers, rows, strict=True):
        yield f"all together with {row.model}, {row.precision}, tile {row.tile or 'whole'}"
        again = Enhancer(enhancer.descriptor, enhancer.options)
        whole.append(_measure_whole(clip, folder / "whole.nut", again, row, decode, encode, wanted, options))
    peak_bytes = peak_memory()
    yield "timing a matrix product and a copy"
    peaks = measure_peaks(enhancers[0].device)
    rates = peaks.matrix_gflops
    rows = [
        dataclasses.replace(row, share_of_peak=row.gflops / rates[row.precision]) if rates.get(row.precision) else row
        for row in rows
    ]
    return ClipBench(
        clip=str(clip),
        width=first.width,
        height=first.height,
        cores=usable_cores(),
        decode=decode,
        enhance=tuple(rows),
        encode=encode,
        whole=tuple(whole),
        peaks=peaks,
        peak_memory_bytes=peak_bytes,
    )


def measure_pictures(
    model: str,
    device: str = "auto",
    precisions: Sequence[str] = ("fp32", "auto"),
    tiles: Sequence[tuple[int, int]] = ((NS_IC_TILE, NS_IC_OVERLAP), (512, 128), (256, 64), (128, 32)),
    repeats: int = 3,
) -> Generator[PictureSpeed]:
    """NS-IC's benchmark: seconds per 1280 × 640 picture, best of `repeats` after a warm-up, by precision and tile."""
    descriptor = load_descriptor(model)
    width, height = NS_IC_SIZE
    shown = picture(width, height)
    kind = as_kind(descriptor.conditioning)
    if kind is not None:
        shown = np.stack([_in_cells(plane, kind, 1) for plane in shown])
    rgb = torch.from_numpy(shown)[None]
    side: QuantiserMap | Tensor | None = None
    if descriptor.conditioning == "quantiser":
        steps = torch.full((-(-height // 16), -(-width // 16)), 10.0).numpy()
        side = QuantiserMap(steps, 16)
    elif descriptor.conditioning == "jpeg":
        side = torch.full((1, 7, 1, 1), 0.5)
    for precision in precisions:
        for tile, overlap in tiles:
            enhancer = Enhancer(
                descriptor, EnhanceOptions(device=device, precision=precision, tile=tile, overlap=overlap)
            )
            given = side.to(enhancer.device) if isinstance(side, Tensor) else side
            seconds = _best(lambda run=enhancer, given=given: run(rgb, given), enhancer.device, repeats)
            yield PictureSpeed(
                model=model,
                device=str(enhancer.device),
                precision=enhancer.precision,
                tile=tile,
                overlap=overlap,
                seconds_per_picture=seconds,
                megapixels_per_second=width * height / 1e6 / seconds,
            )


def _enhance_options(options: BenchOptions, precision: str, tile: int | None) -> EnhanceOptions:
    return EnhanceOptions(
        device=options.device,
        precision=precision,
        integers=options.integers,
        tile=tile,
        skip_duplicates=False,
        skip_undamaged=False,
    )


def _measure_decode(clip: Path, options: BenchOptions) -> tuple[list[Frame], VideoInfo, StageSpeed]:
    """Decodes for the time there is; keeps the first frames, as many as HELD_BYTES allow."""
    held: list[Frame] = []
    nbytes = count = 0
    watch = _Watch()
    with open_clip(clip, _decode_options()) as reader, closing(reader.frames()) as frames:
        for frame in frames:
            count += 1
            if nbytes < HELD_BYTES:
                held.append(frame)
                nbytes += frame.nbytes
            if watch.seconds() > options.seconds and count > _WARM_UP_FRAMES:
                break
        video = reader.info.video
    if count <= _WARM_UP_FRAMES:
        frames = "1 frame" if count == 1 else f"{count} frames"
        raise InputError(f"{clip} has {frames}: too few to measure with", stage="bench")
    return held, video, watch.speed(count, held[0])


def _measure_enhance(enhancer: Enhancer, held: Sequence[Frame], seconds: float) -> tuple[StageSpeed, int]:
    """The stage over frames in memory, again and again, and the peak memory on its device."""
    on_cuda = enhancer.device.type == "cuda"
    for _ in enhancer.run(held[:_WARM_UP_FRAMES]):
        pass
    synchronise(enhancer.device)
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(enhancer.device)
    watch, count = _Watch(), 0
    with closing(enhancer.run(itertools.cycle(held))) as stage:
        for _ in stage:
            count += 1
            if watch.seconds() > seconds and count > _WARM_UP_FRAMES:
                break
        speed = watch.speed(count, held[0])
    memory = torch.cuda.max_memory_allocated(enhancer.device) if on_cuda else peak_memory()
    return speed, memory


def _measure_encode(
    frames: Sequence[Frame], video: VideoInfo, path: Path, wanted: EncodeOptions, seconds: float
) -> StageSpeed:
    plan = plan_video("nut", video, frames[0], (frames[0].width, frames[0].height), wanted)
    stamps = [frame.pts for frame in frames[:2] if frame.pts is not None]  # of a large one there is one alone
    step = stamps[1] - stamps[0] if len(stamps) == 2 else frames[0].duration or 1
    segment = SegmentFile(path, plan)
    try:
        encoder = FrameEncoder(segment.stream, plan)
        watch, count = _Watch(), 0
        for frame in itertools.cycle(frames):
            segment.write(encoder.encode(_at(frame, count * step)))
            count += 1
            if watch.seconds() > seconds:
                break
        segment.write(encoder.flush())
        segment.close()
    finally:
        segment.abandon()
    path.unlink()
    return watch.speed(count, frames[0])


def _measure_whole(
    clip: Path,
    path: Path,
    enhancer: Enhancer,
    alone: EnhanceSpeed,
    decode: StageSpeed,
    encode: StageSpeed,
    wanted: EncodeOptions,
    options: BenchOptions,
) -> WholeRun:
    """The chain of `restore` over the clip from its beginning, for the time there is."""
    times, meters = FlowTimes(), Meters()
    count = 0
    to_first = 0.0
    segment: SegmentFile | None = None
    encoder: FrameEncoder | None = None
    first: Frame | None = None
    watch = _Watch()
    with (
        ExitStack() as files,
        open_clip(clip, _decode_options()) as reader,
        closing(carry_quantisers(reader.frames())) as source,
    ):
        given = (_damaged(frame, enhancer) for frame in _until(source, watch, options.seconds))
        decoded = decoded_ahead(given, times, meters, None)
        with closing(enhanced_ahead(decoded, enhancer, times, meters)) as enhanced:
            for item in enhanced:
                if not isinstance(item, EnhancedFrame):
                    continue
                began = time.perf_counter()
                frame = item.frame
                if segment is None or encoder is None:
                    plan = plan_video("nut", reader.info.video, frame, (frame.width, frame.height), wanted)
                    segment = SegmentFile(path, plan)
                    files.callback(segment.abandon)
                    encoder = FrameEncoder(segment.stream, plan)
                    first = frame
                    to_first = watch.seconds()
                segment.write(encoder.encode(frame))
                times.encode.busy_seconds += time.perf_counter() - began
                count += 1
            if segment is None or encoder is None or first is None:
                raise InputError(f"{clip} gave no frames", stage="bench")
            segment.write(encoder.flush())
            segment.close()
    path.unlink()
    speed = watch.speed(count, first)
    settle(times, meters)
    slowest = min(decode.fps, alone.speed.fps, encode.fps)
    stages = [decode, encode] + ([alone.speed] if enhancer.device.type == "cpu" else [])
    processor = usable_cores() * 1000.0 / max(1e-9, sum(stage.cpu_ms_per_frame for stage in stages))
    return WholeRun(
        model=alone.model,
        precision=alone.precision,
        speed=speed,
        limiting_stage=times.limiting(),
        share_of_slowest=speed.fps / slowest,
        share_of_processor=speed.fps / processor,
        seconds_to_first_frame=to_first,
        busy_seconds={
            "decode": times.decode.busy_seconds,
            "enhance": times.enhance.busy_seconds,
            "encode": times.encode.busy_seconds,
        },
    )


def _decode_options() -> DecodeOptions:
    return DecodeOptions(threads=codec_threads(), quantisers=True, deinterlace="off")


def _until(frames: Iterable[Frame], watch: _Watch, seconds: float) -> Generator[Frame]:
    for frame in frames:
        yield frame
        if watch.seconds() > seconds:
            return


def _damaged(frame: Frame, enhancer: Enhancer) -> Frame:
    """A frame that the network will restore: one that reads a JPEG's tables, or sees cells, would leave a clip's frames
    as they are. Cells are gray, so that subsampled chroma doesn't soften them."""
    conditioning = enhancer.descriptor.conditioning
    if conditioning == "jpeg":
        return dataclasses.replace(frame, jpeg=_TABLES)
    kind = as_kind(conditioning)
    if kind is None:
        return frame
    middle = 1 << (frame.format.bit_depth - 1)
    luma = _in_cells(frame.planes[0], kind, 2 * middle - 1)
    others = [luma if frame.format.is_rgb else np.full_like(plane, middle) for plane in frame.planes[1:]]
    return dataclasses.replace(frame, planes=(luma, *others))


def _in_cells(plane: npt.NDArray[Any], kind: Kind, peak: int) -> npt.NDArray[Any]:
    """(H, W) in [0, peak] made of the largest cells of that kind, in steps of 8 bits."""
    made = (plane * (255 / peak)).round().astype(np.uint8)
    for damage in (mosaic,) if kind == "mosaic" else (blur_down, blur_down):  # once, grain is too sharp to be found out
        made = damage(made, PITCHES[kind][0])
    return (made * (peak / 255)).astype(plane.dtype)


def _at(frame: Frame, pts: int) -> Frame:
    return dataclasses.replace(frame, pts=pts)


class _Watch:
    """Wall and processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    def speed(self, frames: int, like: Frame) -> StageSpeed:
        seconds, processor = self.seconds(), time.process_time() - self._processor
        return StageSpeed(
            frames=frames,
            seconds=seconds,
            fps=frames / seconds,
            megapixels_per_second=frames * like.width * like.height / 1e6 / seconds,
            cpu_ms_per_frame=1000.0 * processor / frames,
        )


def _best(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of the quickest of `repeats` runs after one to warm up."""
    run()
    best = float("inf")
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        run()
        synchronise(device)
        best = min(best, time.perf_counter() - began)
    return best
