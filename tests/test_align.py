"""Neighbours moved onto a frame: what the search finds, what moving gives, and that a run does as a training does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from pretended_cuda import GPU, PretendedCuda, pretended_cuda
from test_enhance import YUV420, describe, fp32, furthest
from torch import nn

import ns_video.enhance.in_flight as in_flight
from ns_video.align import compensate, matched
from ns_video.conditioning import even_map
from ns_video.enhance import EnhancedFrame, Enhancer
from ns_video.enhance import enhancer as enhancer_module
from ns_video.errors import ModelError
from ns_video.frame import MOTION_CELL, ColorInfo, Frame, Motion, QuantiserMap
from ns_video.media.motion import compensate_here, find_motion
from ns_video.media.probe import pixel_format
from ns_video.media.training_clips import CodedClip, rgb_to_clip, split_planes, step_to_code
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.training.start import see_differences, see_further
from ns_video.training.video import (
    _view,  # pyright: ignore[reportPrivateUsage]
    restore_frame,
)
from ns_video.training.video_clips import ClipPair
from ns_video.weights import Descriptor, Metadata, load_descriptor, save_model

Luma = npt.NDArray[np.uint8]


def scenery(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Smooth enough to be moved by parts of a pixel, with detail enough to be followed."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1.5, 6.0))
    return np.asarray(128 + 40 * fine / fine.std() + 30 * coarse / coarse.std(), np.float32)


def seen_at(picture: npt.NDArray[np.float32], x: float, y: float, height: int, width: int) -> Luma:
    """A window of it whose corner is at 40 + x, 40 + y."""
    matrix = np.array([[1.0, 0.0, 40 + x], [0.0, 1.0, 40 + y]])
    seen = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(np.rint(seen).clip(0, 255), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 131), (49, 200), (1102, 1203)])
@pytest.mark.parametrize(("x", "y"), [(3.0, 0.0), (-2.0, 5.0), (1.5, -0.75)])
def test_motion_says_where_the_neighbour_has_it(height: int, width: int, x: float, y: float) -> None:
    picture = scenery(height + 80, width + 80)
    current, other = seen_at(picture, 0, 0, height, width), seen_at(picture, -x, -y, height, width)
    motion = find_motion(current, other)
    assert motion is not None and motion.dtype == np.float32
    assert motion.shape == (-(-height // MOTION_CELL), -(-width // MOTION_CELL), 2)
    inner = motion[3:-3, 3:-3].reshape(-1, 2)
    assert np.abs(np.median(inner, 0) - (x, y)).max() < 0.3
    assert np.percentile(np.abs(inner - (x, y)), 80) < 0.5


@pytest.mark.parametrize("shape", [(32, 40_000), (40_000, 32), (36, 300_000)])
def test_pictures_too_wide_to_be_searched_have_no_motion(shape: tuple[int, int]) -> None:
    one = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert find_motion(one, 255 - one) is None


def test_what_stands_still_or_is_too_small_has_no_motion() -> None:
    picture = scenery(160, 160)
    one = seen_at(picture, 0, 0, 64, 64)
    assert find_motion(one, one.copy()) is None
    assert find_motion(one[:31], one[1:32]) is None


def searched(pair: tuple[Luma, Luma]) -> Motion:
    found = find_motion(*pair)
    assert found is not None
    return found


def test_motion_depends_on_the_pictures_alone() -> None:
    picture = scenery(400, 500)
    pairs = [(seen_at(picture, 0, 0, 288, 352), seen_at(picture, step, -step, 288, 352)) for step in range(1, 7)]
    pairs = [(a[:side, : side + 16], b[:side, : side + 16]) for (a, b), side in zip(pairs, (288, 64, 60, 128, 64, 96))]
    large = scenery(1184, 1304)
    pairs.append((seen_at(large, 0, 0, 1104, 1224), seen_at(large, 3, -2, 1104, 1224)))  # searched at half the size
    alone = [searched(pair) for pair in pairs]
    threads = cv2.getNumThreads()
    try:
        with ThreadPoolExecutor(4) as pool:
            for count in (1, 2, 5):
                cv2.setNumThreads(count)
                found = list(pool.map(searched, pairs[::-1]))[::-1]
                assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
    finally:
        cv2.setNumThreads(threads)


def test_large_planes_are_moved_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(1, 3, 70, 52, generator=torch.Generator().manual_seed(0))
    motion = torch.randn(1, 2, 18, 13, generator=torch.Generator().manual_seed(1)) * 3
    whole = [compensate(picture, motion, subsampling) for subsampling in ((1, 1), (2, 2))]
    monkeypatch.setattr("ns_video.align._AT_ONCE", 300)
    parts = [compensate(picture, motion, subsampling) for subsampling in ((1, 1), (2, 2))]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_search_without_memory_is_tried_again_and_the_frame_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """As other lacks of memory; any other error of OpenCV's is one of ours."""
    frames, _ = panning(4)
    refuse: list[int] = []

    def refused(*_: object) -> None:
        error = cv2.error("OpenCV: Failed to allocate")
        error.code = refuse[0]
        raise error

    monkeypatch.setattr("ns_video.media.motion._search", refused)
    refuse.append(cv2.Error.StsNoMem)
    results = list(Enhancer(aligned(), fp32()).run(frames))
    assert all(result.passed_through for result in results)
    refuse[0] = cv2.Error.StsAssert
    with pytest.raises(cv2.error):
        list(Enhancer(aligned(), fp32()).run(frames))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (1, 2), (2, 1), (1, 4)])
def test_a_neighbour_is_moved_onto_the_frame(subsampling: tuple[int, int]) -> None:
    rows, columns = subsampling
    height, width, x, y = 66, 94, 2.0, -4.0
    planes = [scenery(height + 80, width + 80, seed) / 255.0 for seed in range(3)]

    def seen(dx: float, dy: float) -> torch.Tensor:
        luma = seen_at(planes[0] * 255, dx, dy, height, width)
        parts = [torch.from_numpy(luma)]
        for plane in planes[1:]:
            chroma = torch.from_numpy(seen_at(plane * 255, dx, dy, height, width))[::rows, ::columns]
            parts.append(chroma.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:height, :width])
        return torch.stack(parts)[None].float() / 255.0

    current, other = seen(0, 0), seen(-x, -y)
    motion = torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, -(-height // MOTION_CELL), -(-width // MOTION_CELL))
    moved = compensate(other, motion, subsampling)
    inner = (..., slice(8, -8), slice(8, -8))
    before, after = ((one - current)[inner].abs().mean((0, 2, 3)) for one in (other, moved))
    assert moved.shape == current.shape
    assert float(after[0]) < 1e-5 < 0.05 < float(before.min())
    assert float((after / before).max()) < (1e-4 if x % columns == 0 and y % rows == 0 else 0.4)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (1, 2), (2, 1), (1, 4)])
@pytest.mark.parametrize(("height", "width"), [(66, 94), (65, 93)])
def test_opencv_moves_as_torch_does(
    subsampling: tuple[int, int], height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(5)
    smooth = [torch.from_numpy(scenery(height, width, seed) / 255) for seed in range(3)]
    rows, columns = subsampling
    chroma = torch.stack(smooth[1:])[:, ::rows, ::columns].repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    picture = torch.cat((smooth[0][None], chroma[:, :height, :width]))[None]
    motion = torch.randn(1, 2, -(-height // MOTION_CELL), -(-width // MOTION_CELL), generator=generator) * 6
    wanted = compensate(picture, motion, subsampling)
    given = motion[0].permute(1, 2, 0).contiguous().numpy()
    found = compensate_here(picture, given, subsampling)
    assert float((found - wanted).abs().max()) < 2e-3 < 0.02 < float((wanted - picture).abs().mean())
    monkeypatch.setattr("ns_video.media.motion._LARGEST_SIDE", 64)
    assert torch.equal(compensate_here(picture, given, subsampling), wanted)


def aligned(seed: int = 3, gated: bool = True, count: int = 3) -> Descriptor:
    """A network of some frames that changes pictures visibly, most of all by what their neighbours differ by."""
    torch.manual_seed(seed)
    network = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), frames=count, side=6, gated=gated, aligned=True))
    nn.init.normal_(network.tail.weight, std=0.02)
    return describe(
        network, halo=network.receptive_radius, conditioning="quantiser", frames=count, domain="ycbcr", aligned=True
    )


def panning(count: int, height: int = 66, width: int = 90) -> tuple[list[Frame], CodedClip]:
    """A pan, as frames and as a clip."""
    picture = scenery(height + 200, width + 200, 5)
    views = [seen_at(picture, 3 * t, 2 * t, height // 4 * 4, width // 4 * 4) for t in range(count)]
    clip = rgb_to_clip([np.stack((view, view // 2 + 60, 255 - view), -1) for view in views])
    planes = split_planes(clip)
    height, width = views[0].shape
    steps = np.full((count, -(-height // 16), -(-width // 16)), 12.0)
    frames: list[Frame] = []
    for t in range(count):
        seen = tuple(np.ascontiguousarray(plane[t]) for plane in planes)
        told = QuantiserMap(steps[t].astype(np.float32), 16, "P", "h264")
        frames.append(Frame(seen, width, height, YUV420, ColorInfo(), t, Fraction(1, 25), quantiser=told))
    return frames, CodedClip(clip, step_to_code(steps), np.full(count, 2, np.uint8))


@pytest.fixture(autouse=True)
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of noise are believed."""
    monkeypatch.setattr(enhancer_module, "believe", lambda restored, *_, **__: restored)


@pytest.mark.parametrize("count", [3, 5])
def test_a_run_moves_neighbours_as_a_training_does(count: int) -> None:
    frames, coded = panning(6)
    descriptor = aligned(count=count)
    results = list(Enhancer(descriptor, fp32()).run(frames))
    network = cast(NsRestore, descriptor.network)
    pair = ClipPair(coded.pictures, coded)
    unmoved = list(Enhancer(dataclasses.replace(descriptor, aligned=False), fp32()).run(frames))
    height = frames[0].height
    for t, result in enumerate(results):
        trained = restore_frame(network, pair, coded.steps, t)
        gap = result.frame.planes[0].astype(int) - trained[:height]
        assert result.reason is None and np.abs(gap).mean() < 0.6  # a training rounds what it moves to 8 bits
        assert furthest(result, EnhancedFrame(frames[t])) > 0
        other = unmoved[t].frame.planes[0].astype(int) - trained[:height]
        assert np.abs(other).mean() > 3 * np.abs(gap).mean()


@pytest.mark.parametrize("top", [0, 8, 32])
@pytest.mark.parametrize("other", [0, 1, 3, 4])
def test_a_training_moves_no_more_than_its_crop(top: int, other: int) -> None:
    _, coded = panning(5, 96, 128)
    pair = ClipPair(coded.pictures, coded)
    luma, chroma = _view(pair, 2, other, (slice(0, 96), slice(0, 128)), aligned=True)
    assert not np.array_equal(luma, split_planes(coded.pictures)[0][other])
    window = (slice(top, top + 64), slice(top, top + 64))
    half = (slice(top // 2, top // 2 + 32), slice(top // 2, top // 2 + 32))
    part = _view(pair, 2, other, window, aligned=True)
    for seen, wanted in zip(part, (luma[window], chroma[:, *half]), strict=True):
        gap = np.abs(seen.astype(int) - wanted)
        assert gap.max() <= 1 and (gap > 0).mean() < 0.01  # what lies in the middle rounds to either side


def test_a_crop_sees_what_moves_in_from_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are interpolated with those of the cell beside the crop."""
    _, coded = panning(3, 96, 192)
    motion = np.zeros((24, 48, 2), np.float32)
    motion[:, 20:] = 40.0
    monkeypatch.setattr("ns_video.training.video.find_motion", lambda *_: motion)
    pair = ClipPair(coded.pictures, coded)
    whole, _ = _view(pair, 1, 0, (slice(0, 96), slice(0, 192)), aligned=True)
    part, _ = _view(pair, 1, 0, (slice(16, 80), slice(16, 80)), aligned=True)
    assert np.abs(part.astype(int) - whole[16:80, 16:80]).max() <= 1


@pytest.mark.parametrize("name", ["yuv420p10le", "gbrp", "yuv444p", "gray", "yuv411p"])
def test_frames_of_other_formats_are_moved_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format = pixel_format(name)
    base, _ = panning(4)
    frames: list[Frame] = []
    for frame in base:
        luma = frame.planes[0]
        shape = (-(-frame.height >> format.chroma_shift_y), -(-frame.width >> format.chroma_shift_x))
        chroma: Any = [cv2.resize(luma, shape[::-1], interpolation=cv2.INTER_AREA)] * (min(3, format.planes) - 1)
        planes = [luma, *chroma]
        if format.bit_depth > 8:
            planes = [plane.astype(np.uint16) << (format.bit_depth - 8) for plane in planes]
        frames.append(dataclasses.replace(frame, planes=tuple(planes), format=format))
    pictures: list[list[torch.Tensor]] = []
    enhancer = Enhancer(aligned(), fp32())
    restored = enhancer._restored  # pyright: ignore[reportPrivateUsage]

    def noted(given: Sequence[torch.Tensor], *rest: Any) -> torch.Tensor:
        pictures.append(list(given))
        return restored(given, *rest)

    monkeypatch.setattr(enhancer, "_restored", noted)
    results = list(enhancer.run(frames))
    assert len(pictures) == 4 and not any(result.passed_through for result in results)
    for t, (before, current, after) in enumerate(pictures):
        for moved, there in ((before, t > 0), (after, t < 3)):
            gap = (moved - current)[0, :, 12:-12, 12:-12].abs().mean((1, 2))
            unmoved = pictures[t - 1 if moved is before else t + 1][1] - current if there else current * 0
            assert float(gap.max()) <= 0.2 * float(unmoved[0, 0].abs().mean())


@pytest.mark.parametrize("count", [3, 5])
def test_on_a_gpu_motion_is_looked_for_ahead_and_nothing_waits(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = panning(9)
    here = list(Enhancer(aligned(count=count), fp32()).run(frames))

    def run(gpu: PretendedCuda) -> list[EnhancedFrame]:
        enhancer = Enhancer(aligned(count=count), fp32(device=str(GPU)))
        list(enhancer.run(frames))
        gpu.waits.clear()
        return list(enhancer.run(frames))

    with pretended_cuda(monkeypatch) as gpu:
        there = run(gpu)
        assert not gpu.waits
    gaps = [furthest(a, b) for a, b in zip(here, there, strict=True)]
    assert max(gaps) <= 1  # neighbours are moved by OpenCV here, by torch there


def test_searches_that_were_ended_are_made_when_they_are_asked_for() -> None:
    frames, _ = panning(6)
    owner = cast(in_flight.Worker, SimpleNamespace(device=torch.device("cuda"), domain="ycbcr", undoes_coding=True))
    found = list(in_flight.windows(owner, 3, frames, (), aligned=True))
    waiting: Any = Future()
    assert waiting.cancel()
    for around in found:
        there = around._found()
        around._motions = waiting
        again = around._found()
        for one, other in zip(there, again, strict=True):
            assert (one is None) == (other is None) and (one is None or np.array_equal(one, other))


@pytest.mark.parametrize(("held", "read"), [(1 << 40, 10), (3 * 66 * 90, 4), (1, 3)])
def test_what_is_looked_for_ahead_is_bounded(held: int, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is ahead comes out before the source's failure."""
    monkeypatch.setattr(in_flight, "usable_cores", lambda: 64)
    monkeypatch.setattr(in_flight, "_AHEAD_BYTES", held)
    frames, _ = panning(20)
    given: list[Frame] = []

    def source() -> Iterator[Frame]:
        for frame in frames:
            given.append(frame)
            yield frame
        raise OSError("the source ended")

    owner = cast(in_flight.Worker, SimpleNamespace(device=torch.device("cuda"), domain="ycbcr", undoes_coding=True))
    out: list[in_flight.Around] = []
    with pytest.raises(OSError, match="the source ended"):
        for around in in_flight.windows(owner, 3, source(), (), aligned=True):
            out.append(around)
            if len(out) == 1:
                assert len(given) == read
    assert len(out) == 19  # the last one's neighbour never came


def test_frames_without_damage_are_not_searched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = panning(6)
    fine = [dataclasses.replace(frame, quantiser=even_map(1.0, frame.width, frame.height)) for frame in frames]
    searches: list[int] = []
    monkeypatch.setattr(in_flight.Around, "_search", lambda self: searches.append(1) or (None,) * 3)
    owner = cast(in_flight.Worker, SimpleNamespace(device=torch.device("cuda"), domain="ycbcr", undoes_coding=True))
    assert len(list(in_flight.windows(owner, 3, fine, (), aligned=True))) == 6 and not searches
    list(in_flight.windows(owner, 3, frames, (), aligned=True))
    assert searches


def test_a_run_that_is_left_ends_its_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = panning(9)
    pools: list[ThreadPoolExecutor] = []

    class Noted(ThreadPoolExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            pools.append(self)

    monkeypatch.setattr(in_flight, "ThreadPoolExecutor", Noted)
    with pretended_cuda(monkeypatch):
        run = Enhancer(aligned(), fp32(device=str(GPU))).run(frames)
        next(run)
        run.close()
    assert len(pools) == 1
    with pytest.raises(RuntimeError, match="shutdown"):
        pools[0].submit(print)


@pytest.mark.parametrize("count", [3, 5])
def test_work_that_begins_in_the_middle_gives_the_same(count: int) -> None:
    frames, _ = panning(8)
    reach = Enhancer(aligned(count=count), fp32()).reach
    assert reach == count // 2

    def run(first: int, behind: int) -> list[EnhancedFrame]:
        enhancer = Enhancer(aligned(count=count), fp32())
        before = frames[first - behind : first]
        return list(enhancer.run(frames[first:], before=before, start_index=first, restart_every=4))

    whole = run(0, 0)
    assert max(furthest(a, b) for a, b in zip(whole[4:], run(4, reach), strict=True)) == 0
    assert max(furthest(a, b) for a, b in zip(whole[4:], run(4, reach - 1), strict=True)) > 0


def test_five_frames_are_seen_as_far_as_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends and changes of size end what is seen; the nearest that there is stands for what isn't."""
    frames, _ = panning(4)
    other, _ = panning(3, 80, 100)
    seen: list[list[int]] = []

    def noted(around: in_flight.Around) -> list[in_flight.Held]:
        found = look(around)
        seen.append([cast(int, held.frame.pts) for held in found])
        return found

    look = in_flight.Around._seen  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(in_flight.Around, "_seen", noted)
    shifted = [dataclasses.replace(frame, pts=10 + cast(int, frame.pts)) for frame in other]
    list(Enhancer(dataclasses.replace(aligned(count=5), aligned=False), fp32()).run([*frames, *shifted]))
    first = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    second = [[10, 10, 10, 11, 12], [10, 10, 11, 12, 12], [10, 11, 12, 12, 12]]
    assert seen == first + second


def test_a_network_sees_the_same_in_differences() -> None:
    config = NsRestoreConfig(channels=8, blocks=(1, 1, 0), frames=3, side=6, gated=True)
    torch.manual_seed(1)
    plain = NsRestore(config).eval()
    nn.init.normal_(plain.tail.weight, std=0.1)
    seeing = NsRestore(dataclasses.replace(config, aligned=True)).eval()
    seeing.load_state_dict(plain.state_dict() | {"head.weight": see_differences(plain.head.weight.detach())})
    x, side = torch.rand(1, 9, 24, 32), torch.rand(1, 6, 24, 32)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert torch.allclose(plain(x, side), seeing(x, side), atol=1e-5)
            assert not torch.allclose(plain(x, side), x[:, 3:6], atol=1e-3)


def test_a_file_tells_that_its_network_wants_aligned_neighbours(tmp_path: Path) -> None:
    network = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), frames=3, side=6, gated=True, aligned=True))
    save_model(network, tmp_path / "a.safetensors", Metadata("ns_restore", "quantiser", "ycbcr"))
    assert load_descriptor(str(tmp_path / "a.safetensors")).aligned
    assert not load_descriptor("fast-video").aligned
    single = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), side=6, gated=True, aligned=True))
    save_model(single, tmp_path / "b.safetensors", Metadata("ns_restore", "quantiser", "ycbcr"))
    with pytest.raises(ModelError, match="aligns what can't be"):
        load_descriptor(str(tmp_path / "b.safetensors"))


def test_a_network_of_three_frames_begins_one_of_five() -> None:
    config = NsRestoreConfig(channels=8, blocks=(1, 1, 0), frames=3, side=6, gated=True, aligned=True)
    torch.manual_seed(1)
    three, five = NsRestore(config).eval(), NsRestore(dataclasses.replace(config, frames=5)).eval()
    nn.init.normal_(three.tail.weight, std=0.1)
    five.load_state_dict(three.state_dict() | {"head.weight": see_further(three.head.weight.detach(), 5)})
    x, side = torch.rand(1, 15, 24, 32), torch.rand(1, 6, 24, 32)
    with torch.inference_mode():
        assert torch.allclose(three(x[:, 3:12], side), five(x, side), atol=1e-5)


def test_neighbours_count_where_they_show_what_the_frame_does() -> None:
    """After a cut what they differ by was shown to the network thirty-two times as large, and it lost by it."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16, generator=generator), scale_factor=8.0)
    octaves = torch.full((1, 1, 96, 128), 3.0)  # a step of 8
    grain = frame + 2 / 219 * torch.randn(frame.shape, generator=generator)
    assert torch.allclose(matched(grain, frame, octaves, 1.0), grain, atol=1e-6)
    other = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16, generator=generator), scale_factor=8.0)
    assert torch.equal(matched(other, frame, octaves, 1.0), frame)
    lit = matched(grain + torch.tensor([12 / 219, 0.02, 0.0]).view(1, 3, 1, 1), frame, octaves, 1.0)
    assert (lit - grain).abs().mean() < 0.5 / 219  # a fade is taken out
    half = torch.cat((grain[..., :64], other[..., 64:]), -1)
    seen = matched(half, frame, octaves, 1.0)
    assert torch.allclose(seen[..., :32], grain[..., :32], atol=1e-6) and torch.equal(seen[..., 96:], frame[..., 96:])
    coarse = frame + 12 / 219 * torch.randn(frame.shape, generator=generator)
    assert torch.allclose(matched(coarse, frame, octaves, 2.0), coarse, atol=1e-6)  # as AV1's steps are told
    assert not torch.allclose(matched(coarse, frame, octaves, 1.0), coarse, atol=1e-2)
    odd = matched(grain[..., :91, :77], frame[..., :91, :77], octaves[..., :91, :77], 1.0)
    assert odd.shape == (1, 3, 91, 77)
