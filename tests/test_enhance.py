"""The stage: identity, order, neighbours, exact tiles end to end, the ladder of fallbacks, what is skipped."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Iterable
from fractions import Fraction
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ns_video import cells, color, constraint, tile
from ns_video import device as device_module
from ns_video.conditioning import even_map, quantiser_planes
from ns_video.enhance import EnhancedFrame, EnhanceOptions, Enhancer, load_enhancer, side_information
from ns_video.enhance import enhancer as enhancer_module
from ns_video.errors import DeviceError, ModelError, UsageError
from ns_video.estimate import JpegEvidence
from ns_video.frame import ColorInfo, Frame, JpegTables, PixelFormat, QuantiserMap
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.weights import Descriptor, load_descriptor

YUV420 = PixelFormat("yuv420p", 8, False, 3, 1, 1, False)
RGB24 = PixelFormat("gbrp", 8, True, 3, 0, 0, False)
SIDE = {"none": 0, "jpeg": 7, "quantiser": 6}


def describe(network: nn.Module, **changes: Any) -> Descriptor:
    fields: dict[str, Any] = {
        "name": "test",
        "architecture": "ns_restore",
        "network": network.eval(),
        "scale": 1,
        "halo": 0,
        "exact_tiles": True,
        "multiple_of": 4,
        "in_channels": 3,
        "out_channels": 3,
        "domain": "ycbcr",
        "conditioning": "none",
        "frames": 1,
        "sha256": "",
        "path": None,
        "card": None,
        "safe_precisions": frozenset({"fp32", "bf16", "fp16"}),
        "parameters": 0,
    }
    return Descriptor(**{**fields, **changes})


def restorer(conditioning: str = "none", frames: int = 1, domain: str = "ycbcr", scale: int = 1) -> Descriptor:
    """An ns_restore that changes pictures visibly."""
    torch.manual_seed(3)
    side = SIDE[conditioning]
    network = NsRestore(
        NsRestoreConfig(
            channels=8,
            blocks=(0, 1, 0),
            frames=frames,
            side=side,
            gated=conditioning in ("jpeg", "quantiser"),
            scale=scale,
        )
    )
    nn.init.normal_(network.tail.weight, std=0.1)
    return describe(
        network,
        scale=scale,
        halo=network.receptive_radius,
        conditioning=conditioning,
        frames=frames,
        domain=domain,
    )


class Plain(nn.Module):
    """A network of another architecture: `act` on the picture."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


def foreign(act: Any, **changes: Any) -> Descriptor:
    return describe(Plain(act), **{"architecture": "foreign", "domain": "rgb", **changes})


def clip(count: int, height: int = 66, width: int = 90, step: float = 12.0, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    frames: list[Frame] = []
    for index in range(count):
        shapes = [(height, width)] + [(-(-height // 2), -(-width // 2))] * 2
        planes: Any = tuple(rng.integers(16, 236, shape).astype(np.uint8) for shape in shapes)
        rows, columns = -(-height // 16), -(-width // 16)
        steps = QuantiserMap(rng.uniform(0.8 * step, step, (rows, columns)).astype(np.float32), 16, "P", "h264")
        frames.append(Frame(planes, width, height, YUV420, ColorInfo(), index, Fraction(1, 25), quantiser=steps))
    return frames


def fp32(**options: Any) -> EnhanceOptions:
    return EnhanceOptions(**{"device": "cpu", "precision": "fp32", **options})


def several_on_one_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cpu,cpu` are two devices, as `cuda:0,cuda:1` are."""
    devices = lambda name: tuple(torch.device(part) for part in name.split(","))  # noqa: E731
    monkeypatch.setattr(enhancer_module, "pick_devices", devices)


def planes_of(results: Iterable[EnhancedFrame]) -> list[tuple[bytes, ...]]:
    return [tuple(plane.tobytes() for plane in result.frame.planes) for result in results]


def furthest(a: EnhancedFrame, b: EnhancedFrame) -> int:
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in zip(a.frame.planes, b.frame.planes))


@pytest.fixture(autouse=True)
def believed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of noise are believed, whatever they make of the picture, but where that is the question."""
    if "doubted" not in request.keywords:
        monkeypatch.setattr(constraint, "belief", lambda *_: torch.ones(()))
        monkeypatch.setattr(enhancer_module, "believe", lambda restored, *_, **__: restored)


@pytest.mark.doubted
@pytest.mark.parametrize(("tail", "believes"), [(0.1, False), (0.001, True)])
def test_a_change_far_beyond_the_quantiser_is_not_believed(tail: float, believes: bool) -> None:
    frames = clip(2)
    descriptor = restorer("quantiser", frames=3)
    with torch.no_grad():
        cast(NsRestore, descriptor.network).tail.weight.mul_(tail / 0.1)
    results = list(Enhancer(descriptor, fp32()).run(frames))
    for result, frame in zip(results, frames, strict=True):
        assert (furthest(result, EnhancedFrame(frame)) > 0) == believes
        assert result.reason is None


def test_identity_gives_the_very_frames() -> None:
    frames = clip(3)
    enhancer = Enhancer(load_descriptor("identity"), EnhanceOptions(device="cpu"))
    assert all(out.frame is frame for out, frame in zip(enhancer.run(frames), frames, strict=True))
    assert enhancer.stats.frames == 3 and enhancer.stats.passed_through == 0


def test_one_out_per_in_with_everything_but_the_planes_kept() -> None:
    frames = [dataclasses.replace(frame, carrier=object(), duration=7) for frame in clip(4)]
    results = list(Enhancer(restorer("quantiser", frames=3), fp32()).run(frames))
    for result, frame in zip(results, frames, strict=True):
        assert dataclasses.replace(result.frame, planes=frame.planes) == frame
        assert result.frame.carrier is frame.carrier
        assert furthest(result, EnhancedFrame(frame)) > 0


def test_strength_is_a_factor_on_the_change() -> None:
    frames = clip(1)
    none, half, full = (
        next(Enhancer(restorer(), fp32(strength=strength)).run(frames)).frame.planes[0].astype(int)
        for strength in (0.0, 0.5, 1.0)
    )
    source = frames[0].planes[0].astype(int)
    assert np.array_equal(none, source)
    inside = (full > 0) & (full < 255)
    assert np.abs((half - source) * 2 - (full - source))[inside].max() <= 2
    assert np.abs(full - source).max() > 4


@pytest.mark.parametrize("conditioning", ["none", "quantiser"])
def test_an_ensemble_is_the_mean_of_flipped_views(conditioning: str) -> None:
    descriptor = restorer(conditioning, domain="rgb")
    picture = torch.rand(1, 3, 60, 84)
    steps = np.random.default_rng(1).uniform(4, 30, (4, 6)).astype(np.float32)
    side = None if conditioning == "none" else QuantiserMap(steps, 16, "P", "h264")
    one = Enhancer(descriptor, fp32(ensemble=1))
    planes = None if side is None else quantiser_planes(side, side, side, 60, 84)
    views: list[Tensor] = []
    for axes in ((), (3,), (2,), (2, 3)):
        flipped = None if planes is None else planes.flip(axes)
        views.append(descriptor.network(*(x for x in (picture.flip(axes), flipped) if x is not None)).flip(axes))
    for count in (1, 2, 4):
        restored = Enhancer(descriptor, fp32(ensemble=count))(picture, side)
        mean = torch.stack(views[:count]).mean(0).clamp(0, 1)
        assert float((restored - mean).detach().abs().max()) < 1e-5
    assert torch.equal(
        Enhancer(descriptor, fp32())(picture, side), Enhancer(descriptor, fp32(ensemble=4))(picture, side)
    )
    frames = clip(2)
    assert planes_of(Enhancer(descriptor, fp32()).run(frames)) == planes_of(one.run(frames))
    assert planes_of(Enhancer(descriptor, fp32(ensemble=2)).run(frames)) != planes_of(one.run(frames))


class Repeats(nn.Module):
    """Shows the steps that it is told, pixel by pixel."""

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        return x + 0.1 * side[:, :1]


def test_flipped_views_are_told_the_steps_of_their_own_pixels() -> None:
    """Of a picture, too, that is padded: the map is flipped with the picture, not with what is added to it."""
    descriptor = describe(Repeats(), architecture="foreign", domain="rgb", conditioning="quantiser")
    steps = np.random.default_rng(1).uniform(4, 30, (3, 5)).astype(np.float32)
    side, picture = QuantiserMap(steps, 16, "P", "h264"), torch.rand(1, 3, 46, 66) * 0.5
    one, two, four = (Enhancer(descriptor, fp32(ensemble=count))(picture, side) for count in (1, 2, 4))
    assert float((one - picture).abs().max()) > 0.01
    assert torch.allclose(two, one, atol=1e-6) and torch.allclose(four, one, atol=1e-6)


def test_networks_of_others_run_once_unless_asked() -> None:
    calls: list[int] = []

    def count(x: Tensor) -> Tensor:
        calls.append(1)
        return x

    picture = torch.rand(1, 3, 64, 64)
    plain, asked = Enhancer(foreign(count), fp32()), Enhancer(foreign(count), fp32(ensemble=2))
    for enhancer, wanted in ((plain, 1), (asked, 2)):
        enhancer(picture)  # the first call measures how much memory it takes
        calls.clear()
        enhancer(picture)
        assert len(calls) == wanted


def test_neighbours_are_the_frames_beside() -> None:
    """A network that returns the mean of what it sees: each result is the mean of its neighbours, ends repeated."""

    def mean_of_three(x: Tensor) -> Tensor:
        return (x[:, :3] + x[:, 3:6] + x[:, 6:]) / 3

    frames = clip(4, step=12)
    results = list(Enhancer(foreign(mean_of_three, frames=3, domain="ycbcr"), fp32()).run(frames))
    luma = [frame.planes[0].astype(float) for frame in frames]
    padded = [luma[0], *luma, luma[-1]]
    for index, result in enumerate(results):
        mean = (padded[index] + padded[index + 1] + padded[index + 2]) / 3
        assert np.abs(result.frame.planes[0] - mean).max() <= 0.51


@pytest.mark.doubted
@pytest.mark.parametrize(
    ("source", "doubts"),
    [
        ("h264", (True, True, False)),
        ("hevc headers", (True, False, False)),
        ("vp9", (True, False, True)),
        ("vp8 headers", (True, False, True)),
        ("WEBP headers", (True, False, False)),
        ("mpeg2video", (False, False, False)),
    ],
)
def test_who_tells_the_steps_says_what_is_doubted(
    source: str, doubts: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edges, luma, and that a frame's change is too loud."""
    found: list[tuple[bool, bool, bool]] = []

    def noted(restored: Tensor, *_: Any, doubt_edges: bool, doubt_luma: bool, louder: bool, told: Any) -> Tensor:
        assert told is None
        found.append((doubt_edges, doubt_luma, louder))
        return restored

    monkeypatch.setattr(enhancer_module, "believe", noted)
    frames = [
        dataclasses.replace(frame, quantiser=dataclasses.replace(frame.quantiser, source=source))  # type: ignore
        for frame in clip(2)
    ]
    list(Enhancer(restorer("quantiser", frames=3), fp32(assumed_step=20.0)).run(frames))
    assert found == [doubts] * 2


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("conditioning", ["none", "quantiser"])
def test_what_doesnt_undo_coding_enlarges_all_of_rgb(conditioning: str, scale: int) -> None:
    frames = [
        dataclasses.replace(frame, planes=(frame.planes[0],) * 3, format=RGB24)  # type: ignore[arg-type]
        for frame in clip(2)
    ]
    results = list(Enhancer(restorer(conditioning, scale=scale), fp32()).run(frames))
    plain = list(Enhancer(restorer(conditioning, scale=scale), fp32(strength=0.0)).run(frames))
    for result, other in zip(results, plain, strict=True):
        changed = [not np.array_equal(a, b) for a, b in zip(result.frame.planes, other.frame.planes, strict=True)]
        assert changed == ([False, True, False] if (conditioning, scale) == ("quantiser", 1) else [True] * 3)


@pytest.mark.parametrize("options", [{}, {"strength": 0.5}, {"size": (120, 80)}])
def test_of_rgb_that_was_coded_green_alone_is_restored(options: dict[str, Any]) -> None:
    """libx264rgb: what it did to green is what the network sees as luma; red and blue have damage of their own."""

    class Told(Plain):
        def forward(self, x: Tensor, side: Tensor) -> Tensor:
            assert side.shape[1] == 6
            return super().forward(x)

    act = Told(lambda x: torch.cat((0.5 * x[:, :1] + 0.2, 1 - x[:, 1:3]), 1))
    network = describe(act, conditioning="quantiser", domain="ycbcr")
    frames: list[Frame] = []
    for frame in clip(2):
        planes: Any = (frame.planes[0], frame.planes[0][::-1].copy(), frame.planes[0].T.copy().reshape(66, 90))
        frames.append(dataclasses.replace(frame, planes=planes, format=RGB24))
    left = list(Enhancer(network, fp32(**options | {"strength": 0.0})).run(frames))
    results = list(Enhancer(network, fp32(**options)).run(frames))
    for frame, before, result in zip(frames, left, results, strict=True):
        assert not result.passed_through
        for index in (0, 2):
            assert np.array_equal(before.frame.planes[index], result.frame.planes[index])
        if not options:
            wanted = np.rint(0.5 * frame.planes[1] + 0.2 * 255)
            assert np.abs(result.frame.planes[1] - wanted).max() <= 1
        gap = before.frame.planes[1].astype(float) - result.frame.planes[1]
        assert np.abs(gap).mean() > 5
    told = [dataclasses.replace(frame, quantiser=None) for frame in frames]
    whole = next(Enhancer(network, fp32(assumed_step=12.0)).run(told))  # not coded as RGB: who knows as what
    assert furthest(whole, EnhancedFrame(frames[0])) > 0
    assert not np.array_equal(whole.frame.planes[0], frames[0].planes[0])


def test_a_change_of_size_ends_the_neighbourhood() -> None:
    descriptor = restorer("quantiser", frames=3)
    small, large = clip(2, 48, 64), clip(2, 64, 80, seed=5)
    together = planes_of(Enhancer(descriptor, fp32()).run([*small, *large]))
    apart = planes_of(Enhancer(descriptor, fp32()).run(small)) + planes_of(Enhancer(descriptor, fp32()).run(large))
    assert together == apart


def test_work_can_begin_in_the_middle_with_the_same_result() -> None:
    frames = clip(3) + [clip(1, seed=9)[0]] * 4 + clip(3, seed=4)
    descriptor = restorer("quantiser", frames=3)
    whole = planes_of(Enhancer(descriptor, fp32()).run(frames, restart_every=5))
    tail = planes_of(Enhancer(descriptor, fp32()).run(frames[5:], before=frames[4:5], start_index=5, restart_every=5))
    assert whole[5:] == tail


@pytest.mark.parametrize("frames_seen", [1, 3])
def test_frames_go_to_several_devices_in_turn_with_the_same_result(
    frames_seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    several_on_one_cpu(monkeypatch)
    frames = [*clip(4), *clip(1, seed=9) * 3, *clip(3, 64, 80, seed=4)]
    descriptor = restorer("quantiser", frames=frames_seen)
    alone, shared = Enhancer(descriptor, fp32()), Enhancer(descriptor, fp32(device="cpu,cpu,cpu"))
    assert planes_of(shared.run(frames)) == planes_of(alone.run(frames))
    assert planes_of(shared.run(frames)) == planes_of(alone.run(frames))
    assert dataclasses.replace(shared.stats, device="cpu") == alone.stats and shared.stats.duplicates == 4
    assert shared.stats.device == "cpu,cpu,cpu"
    assert len(shared._others) == 2 and all(other._tiled._networks for other in shared._others)  # they did their share


def test_the_turns_of_devices_are_those_of_an_undisturbed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    several_on_one_cpu(monkeypatch)
    launch, turns = Enhancer.launch, list[tuple[int | None, bool]]()

    def seen(self: Enhancer, around: Any, precision: str) -> Any:
        turns.append((around.current.frame.pts, self is shared))
        return launch(self, around, precision)

    monkeypatch.setattr(Enhancer, "launch", seen)
    frames, shared = clip(8), Enhancer(foreign(lambda x: x), fp32(device="cpu,cpu"))
    list(shared.run(frames, restart_every=5))
    whole, turns = turns, []
    list(shared.run(frames[5:], before=frames[4:5], start_index=5, restart_every=5))
    assert turns == whole[5:] and len({first for _, first in turns}) == 2


def test_a_device_that_lacks_the_precision_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    several_on_one_cpu(monkeypatch)
    with pytest.raises(DeviceError, match=r"bf16 does not work on meta.*GPUs of one kind"):
        Enhancer(foreign(lambda x: x), EnhanceOptions(device="cpu,meta", precision="bf16"))


def test_a_failure_on_another_device_is_mended_there(monkeypatch: pytest.MonkeyPatch) -> None:
    several_on_one_cpu(monkeypatch)

    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (float("nan") if torch.is_autocast_enabled("cpu") and x.shape[-1] < 128 else 0.9)

    frames = clip(4)
    enhancer = Enhancer(foreign(Fragile()), EnhanceOptions(device="cpu,cpu", precision="bf16"))
    results = list(enhancer.run(frames))
    assert enhancer.stats.fp32_retries == 4 and not any(result.passed_through for result in results)
    assert planes_of(results) == planes_of(Enhancer(foreign(lambda x: x * 0.9), fp32()).run(frames))


def test_equal_frames_are_restored_once() -> None:
    first, second = clip(2)
    frames = [first, dataclasses.replace(first, pts=1), dataclasses.replace(first, pts=2), second]
    enhancer = Enhancer(restorer(), fp32())
    results = list(enhancer.run(frames))
    assert [result.reason for result in results] == [None, "duplicate", "duplicate", None]
    assert [result.frame.pts for result in results] == [0, 1, 2, 1]
    assert enhancer.stats.duplicates == 2 and enhancer.stats.restored == 2
    every = Enhancer(restorer(), fp32(skip_duplicates=False))
    assert planes_of(every.run(frames)) == planes_of(results)
    assert every.stats.duplicates == 0 and every.stats.restored == 4


def test_frames_that_lost_nothing_are_left_alone() -> None:
    fine, coarse = clip(1, step=0.9)[0], clip(1, step=20.0, seed=2)[0]
    enhancer = Enhancer(restorer("quantiser", frames=3), fp32())
    results = list(enhancer.run([fine, coarse]))
    assert results[0].frame is fine and results[0].reason == "undamaged" and not results[0].passed_through
    assert results[1].reason is None and enhancer.stats.undamaged == 1
    # The gate says the same: without the short cut the result is the same.
    slow = Enhancer(restorer("quantiser", frames=3), fp32(skip_undamaged=False))
    assert planes_of(slow.run([fine])) == [tuple(plane.tobytes() for plane in fine.planes)]
    assert slow.stats.undamaged == 0


def test_frames_of_unknown_damage_are_left_alone_and_counted() -> None:
    frame = dataclasses.replace(clip(1)[0], quantiser=None)
    enhancer = Enhancer(restorer("quantiser", frames=3), fp32(assumed_step=0.0))
    result = next(enhancer.run([frame]))
    assert result.frame is frame and result.reason == "unknown damage"
    assert enhancer.stats.without_side_information == 1
    told = Enhancer(restorer("quantiser", frames=3), fp32(assumed_step=12.0))
    assert furthest(next(told.run([frame])), EnhancedFrame(frame)) > 0
    assert told.stats.without_side_information == 0


def test_a_jpegs_tables_open_the_gate() -> None:
    rng = np.random.default_rng(1)
    planes: Any = tuple(rng.integers(0, 255, (40, 56)).astype(np.uint8) for _ in range(3))
    coarse = JpegTables(np.full((8, 8), 120, np.uint16), np.full((8, 8), 120, np.uint16), (2, 2))
    still = Frame(planes, 56, 40, RGB24, ColorInfo(matrix=0), 0, Fraction(1), jpeg=coarse)
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    restored = next(enhancer.run([still]))
    assert restored.reason is None and furthest(restored, EnhancedFrame(still)) > 0
    clean = next(enhancer.run([dataclasses.replace(still, jpeg=None)]))  # noise: no JPEG is found in it
    assert clean.reason == "undamaged" and np.array_equal(clean.frame.planes[0], planes[0])


def test_gray_jpegs_stay_gray() -> None:
    luma: Any = np.random.default_rng(2).integers(0, 255, (40, 56)).astype(np.uint8)
    coarse = JpegTables(np.full((8, 8), 40, np.uint16), np.full((8, 8), 60, np.uint16), (2, 2))
    still = Frame((luma, luma, luma), 56, 40, RGB24, ColorInfo(matrix=0), 0, Fraction(1), jpeg=coarse)
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    red, green, blue = next(enhancer.run([still])).frame.planes
    assert np.array_equal(red, green) and np.array_equal(red, blue) and not np.array_equal(red, luma)
    gray = torch.from_numpy(luma)[None, None].float().expand(1, 3, -1, -1) / 255
    out = enhancer(gray, coarse)
    assert float((out.amax(1) - out.amin(1)).max()) < 1e-6 and float((out - gray).abs().max()) > 0.01


def test_a_jpeg_that_is_all_border_is_left() -> None:
    planes: Any = tuple(np.random.default_rng(2).integers(0, 255, (16, 90)).astype(np.uint8) for _ in range(3))
    coarse = JpegTables(np.full((8, 8), 40, np.uint16), np.full((8, 8), 60, np.uint16), (2, 2))
    still = Frame(planes, 90, 16, RGB24, ColorInfo(matrix=0), 0, Fraction(1), jpeg=coarse)
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    result = next(enhancer.run([still]))
    assert result.reason == "too small" and all(np.array_equal(a, b) for a, b in zip(result.frame.planes, planes))
    assert enhancer.stats.undamaged == 1
    picture = torch.from_numpy(np.stack(planes))[None].float() / 255
    assert torch.equal(enhancer(picture, coarse), picture)


def test_pictures_that_lost_nothing_are_left_as_frames_are() -> None:
    picture = torch.rand(1, 3, 40, 56)
    step = even_map(0.9, 56, 40)
    table = np.full((8, 8), 1, np.uint16)
    for conditioning, side in (("quantiser", step), ("jpeg", JpegTables(table, table, (1, 1)))):
        enhancer = Enhancer(restorer(conditioning, domain="rgb"), fp32())
        enhancer._restored = None  # type: ignore[assignment]  no network is asked
        assert torch.equal(enhancer(picture, side), picture)


def test_a_flat_result_is_no_picture() -> None:
    enhancer = Enhancer(foreign(lambda x: x * 0 + 0.5), fp32())
    picture = torch.rand(1, 3, 40, 56)
    assert torch.equal(enhancer(picture), picture) and enhancer.stats.passed_through == 1


def test_each_picture_has_its_own_planes() -> None:
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    pictures, planes = torch.rand(2, 3, 40, 56), torch.tensor([0.3, 0.8]).view(2, 1, 1, 1).expand(-1, 7, -1, -1)
    alone = [enhancer(pictures[[n]], planes[[n]]) for n in (0, 1)]
    assert torch.equal(enhancer(pictures, planes), torch.cat(alone))
    assert torch.equal(enhancer(pictures, planes[:1])[:1], alone[0])
    for wrong in (planes[:, :6], planes.expand(2, 7, 40, 1), planes[[0, 1, 0]], planes[0]):
        with pytest.raises(UsageError, match="planes of shape"):
            enhancer(pictures, wrong)
    with pytest.raises(UsageError, match="reads no planes"):
        Enhancer(restorer(), fp32())(pictures, planes)
    with pytest.raises(UsageError, match="reads no planes"):  # the size of cells is found in the picture
        Enhancer(load_descriptor("mosaic"), fp32())(pictures, planes[:, :1, :1, :1])


STEPS = np.full((8, 8), 9, np.uint16)
TABLES = JpegTables(STEPS, STEPS)
MAP = QuantiserMap(np.full((3, 3), 9, np.float32), 16)


@pytest.mark.parametrize(
    ("conditioning", "side", "words"),
    [
        ("jpeg", "jpeg", "JpegTables or JpegEvidence, not a str"),
        ("jpeg", MAP, "not a QuantiserMap"),
        ("quantiser", TABLES, "reads QuantiserMap, not a JpegTables"),
        ("none", TABLES, "reads no side information"),
        ("jpeg", JpegTables(STEPS[:4, :4], STEPS), "8 x 8"),
        ("jpeg", JpegTables(STEPS, STEPS.astype(float) * np.nan), "8 x 8"),
        ("jpeg", JpegTables(STEPS, STEPS, (0,)), "subsampling"),  # type: ignore[arg-type]
        ("jpeg", JpegEvidence(TABLES, (8, 0)), "corner"),
        ("jpeg", JpegEvidence(TABLES, (1, 0), foreign=np.ones((5, 7), bool)), r"shape \(4, 7\)"),
        ("quantiser", dataclasses.replace(MAP, block=0), "blocks of 1 px"),
        ("quantiser", dataclasses.replace(MAP, step=MAP.step[0]), "rows, columns"),
        ("quantiser", dataclasses.replace(MAP, step=MAP.step * np.inf), "rows, columns"),
        ("jpeg", torch.ones(1, 7, 1, 1).to_sparse(), "dense tensor"),
    ],
)
def test_a_side_that_the_model_does_not_read_is_refused(conditioning: str, side: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Enhancer(restorer(conditioning, domain="rgb"), fp32())(torch.rand(1, 3, 40, 56), side)


@pytest.mark.parametrize("side", [10**7, 10**9])
def test_a_size_beyond_all_memory_is_an_error_of_ours(side: int) -> None:
    enhancer = Enhancer(foreign(lambda x: x), fp32(size=(side, side)))
    with pytest.raises(DeviceError, match=f"not enough for pictures that become {side}x{side}"):
        enhancer(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("module", "place"), [(side_information, "quantiser_planes"), (enhancer_module, "believe")])
def test_want_of_memory_beside_the_network_is_mended(
    module: ModuleType, place: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = clip(2)
    expected = planes_of(Enhancer(restorer("quantiser"), fp32()).run(frames))
    real, failures = getattr(module, place), iter(range(times))

    def full(*given: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        return real(*given, **named)

    monkeypatch.setattr(module, place, full)
    enhancer = Enhancer(restorer("quantiser"), fp32())
    results = list(enhancer.run(frames))
    passed = [False, False] if times == 1 else [True, False]
    assert [result.passed_through for result in results] == passed
    assert planes_of(results)[1] == expected[1] and enhancer.stats.passed_through == sum(passed)
    if times == 1:
        assert planes_of(results) == expected


def test_what_a_network_makes_ends_at_black_and_white() -> None:
    """Before the strength takes its share of the change."""
    values = np.arange(0, 240, dtype=np.uint8)[None].repeat(4, 0)
    frame = Frame((values,) * 3, 240, 4, RGB24, ColorInfo(), 0, Fraction(1, 25))
    enhancer = Enhancer(foreign(lambda x: x * 4 - 1), fp32(strength=0.5))
    made = next(enhancer.run([frame])).frame.planes[0][0].astype(float)
    wanted = (values[0] + (values[0] * 4.0 - 255).clip(0, 255)) / 2
    assert np.abs(made - wanted).max() <= 1


def test_a_type_that_a_device_lacks_passes_frames_through() -> None:
    def refuses(x: Tensor) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

    enhancer = Enhancer(foreign(refuses), fp32())
    assert [result.passed_through for result in enhancer.run(clip(2))] == [True, True]
    assert enhancer.stats.passed_through == 2


def test_a_device_that_does_nothing_more_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    enhancer = Enhancer(foreign(dies), fp32())
    assert next(enhancer.run(clip(1))).passed_through  # the device goes on
    monkeypatch.setattr(device_module, "synchronise", dies)
    with pytest.raises(DeviceError, match="cpu no longer works"):
        list(enhancer.run(clip(2)))
    assert enhancer.stats.passed_through == 1


def test_the_second_frame_brings_no_constants_to_the_device() -> None:
    """Copies from ordinary memory, which make the host wait for a GPU; `meta` stands for one."""
    meta = torch.device("meta")
    copies: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if str(func).startswith("aten._to_copy") and torch.device((kwargs or {}).get("device") or "cpu") == meta:
                copies.extend([str(func)] if args[0].device != meta else [])
            return func(*args, **(kwargs or {}))

    planes = [torch.zeros(shape, dtype=torch.uint8, device=meta) for shape in ((96, 128), (48, 64), (48, 64))]
    picture = torch.zeros(1, 3, 96, 128, device=meta)
    change = torch.zeros(1, 3, 192, 256, device=meta)
    tiles = tile.plan(96, 128, tile=64, overlap=32, multiple_of=4, shrink=False)

    def frame() -> None:
        color.recompose(planes, YUV420, ColorInfo(chroma_location=1), change, "rgb", size=(192, 256))
        color.ycbcr_to_rgb(color.sharpening(picture, 0.5, "rgb"))
        cells.shrink(picture, "mosaic", 4)
        cells.shrink(picture, "shrunk", 3)
        enhancer_module._stay_gray(picture, picture)
        constraint.jpeg_matrices(meta)
        outer = lambda group: [torch.zeros(1, 3, 64, 64, device=meta) for _ in group]  # noqa: E731
        tile.run_tiled(outer, tiles, torch.empty(1, 3, 96, 128, device=meta), scale=1, blend="gaussian")

    with Watch():
        frame()
        assert copies
        copies.clear()
        frame()
        assert not copies


def test_a_picture_that_becomes_none_comes_back() -> None:
    picture = torch.rand(1, 3, 64, 64)
    enhancer = Enhancer(foreign(lambda x: x * float("nan")), EnhanceOptions(device="cpu", precision="fp32"))
    assert torch.equal(enhancer(picture), picture)
    assert enhancer.stats.passed_through == 1


def test_endless_shortage_passes_frames_through() -> None:
    def never(x: Tensor) -> Tensor:
        raise MemoryError("no")

    frames = clip(2, 80, 80)
    enhancer = Enhancer(foreign(never), fp32(tile=64))
    results = list(enhancer.run(frames))
    assert [result.passed_through for result in results] == [True, True]
    assert planes_of(results) == [tuple(plane.tobytes() for plane in frame.planes) for frame in frames]
    assert enhancer.stats.passed_through == 2 and enhancer.stats.fallbacks()["passed_through"] == 2


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_no_numbers_in_low_precision_are_tried_in_fp32(poison: float) -> None:
    trials: list[bool] = []

    def fragile(x: Tensor) -> Tensor:
        low = torch.is_autocast_enabled("cpu")
        trials.append(low)
        return x * poison if low and len(trials) > 1 else x * 0.9

    frames = clip(1)
    enhancer = Enhancer(foreign(fragile), EnhanceOptions(device="cpu", precision="bf16"))
    result = next(enhancer.run(frames))
    assert enhancer.stats.fp32_retries == 1 and not result.passed_through
    assert np.array_equal(
        result.frame.planes[0], next(Enhancer(foreign(lambda x: x * 0.9), fp32()).run(frames)).frame.planes[0]
    )


@pytest.mark.parametrize("act", [lambda x: x * float("nan"), torch.zeros_like], ids=["nan", "black"])
def test_what_is_no_picture_is_passed_through(act: Any) -> None:
    frames = clip(1)
    enhancer = Enhancer(foreign(act), fp32())
    result = next(enhancer.run(frames))
    assert result.passed_through and result.reason is not None and "no picture" in result.reason
    assert planes_of([result]) == [tuple(plane.tobytes() for plane in frames[0].planes)]
    assert enhancer.stats.passed_through == 1


def test_tables_that_leave_no_numbers_restore_nothing() -> None:
    """What the network made is sound, but no picture has coefficients of a step of 0."""
    table = np.full((8, 8), 20, np.uint16)
    table[7, 7] = 0
    frame = clip(1)[0]
    planes: Any = tuple(np.random.default_rng(0).integers(0, 256, (40, 56)).astype(np.uint8) for _ in range(3))
    told = dataclasses.replace(frame, planes=planes, width=56, height=40, format=RGB24, jpeg=JpegTables(table, table))
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    result = next(enhancer.run([told]))
    assert result.passed_through and planes_of([result]) == [tuple(plane.tobytes() for plane in planes)]
    picture = torch.from_numpy(np.stack(planes))[None].float() / 255
    assert torch.equal(enhancer(picture, JpegTables(table, table)), picture) and enhancer.stats.passed_through == 2


def test_a_flat_frame_may_stay_flat() -> None:
    frame = clip(1)[0]
    flat: Any = tuple(np.full_like(plane, 100) for plane in frame.planes)
    result = next(Enhancer(foreign(lambda x: x), fp32()).run([dataclasses.replace(frame, planes=flat)]))
    assert not result.passed_through


@pytest.mark.parametrize("precision", ["bf16"])
def test_low_precision_stays_close(precision: str) -> None:
    """The residual alone is computed in bf16: the error is a part of the change, not of the picture."""
    frames = clip(2)
    descriptor = restorer("quantiser", frames=3)
    exact = list(Enhancer(descriptor, fp32()).run(frames))
    low = list(Enhancer(descriptor, EnhanceOptions(device="cpu", precision=precision)).run(frames))
    change = max(furthest(result, EnhancedFrame(frame)) for result, frame in zip(exact, frames))
    assert change > 20
    assert max(furthest(a, b) for a, b in zip(exact, low)) <= max(1, change // 20)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (180, 132)),
        ({"scale": 1.0}, (90, 66)),
        ({"scale": 1.5}, (135, 99)),
        ({"size": (100, 100)}, (100, 73)),
        ({"size": (100, 100), "fit": "stretch"}, (100, 100)),
    ],
)
def test_the_final_size(options: dict[str, Any], expected: tuple[int, int]) -> None:
    enhancer = Enhancer(restorer(scale=2), fp32(**options))
    assert enhancer.output_size(90, 66) == expected
    frame = next(enhancer.run(clip(1))).frame
    assert (frame.width, frame.height) == expected
    assert frame.planes[0].shape == expected[::-1]
    assert frame.planes[1].shape == (-(-expected[1] // 2), -(-expected[0] // 2))


def test_identity_only_resamples_and_sharpens_when_asked() -> None:
    smooth = np.linspace(40, 200, 90)[None].repeat(66, 0).astype(np.uint8)
    frame = clip(1)[0]
    flat: Any = (smooth, np.full((33, 45), 128, np.uint8), np.full((33, 45), 128, np.uint8))
    frame = dataclasses.replace(frame, planes=flat)
    larger = next(Enhancer(load_descriptor("identity"), fp32(scale=2.0)).run([frame])).frame
    assert larger.planes[0].shape == (132, 180) and (larger.planes[1] == 128).all()
    noisy = clip(1)[0]
    sharper = next(Enhancer(load_descriptor("identity"), fp32(sharpen=1.0)).run([noisy])).frame
    assert sharper.planes[0].astype(float).std() > noisy.planes[0].astype(float).std()
    assert np.array_equal(sharper.planes[1], noisy.planes[1])


def test_tensors_in_and_out() -> None:
    rgb = torch.rand(2, 3, 33, 47)
    enhancer = Enhancer(restorer(domain="ycbcr"), fp32())
    out = enhancer(rgb)
    assert out.shape == rgb.shape and out.dtype == torch.float32
    assert float(out.min()) >= 0.0 and float(out.max()) <= 1.0
    assert float((out - rgb).abs().max()) > 0.01
    assert float((Enhancer(restorer(), fp32(strength=0.0))(rgb) - rgb).abs().max()) == 0.0
    blind = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    assert torch.equal(blind(rgb), rgb)  # noise: no JPEG is found in it, so nothing is touched
    coarse = JpegTables(np.full((8, 8), 120, np.uint16), np.full((8, 8), 120, np.uint16), (2, 2))
    assert float((blind(rgb, coarse) - rgb).abs().max()) > 0.01
    with pytest.raises(UsageError):
        enhancer(torch.rand(3, 8, 8))
    with pytest.raises(UsageError, match="floats"):
        enhancer(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UsageError, match="not 255") as caught:
        enhancer(torch.full((1, 3, 8, 8), 255.0))
    assert caught.value.remedy == "samples of 8 bits: rgb / 255"


def test_a_stage_closed_early_closes_its_source() -> None:
    closed: list[bool] = []

    def source() -> Generator[Frame]:
        try:
            yield from clip(10)
        finally:
            closed.append(True)

    stage = Enhancer(restorer("quantiser", frames=3), fp32()).run(source())
    next(stage)
    stage.close()
    assert closed == [True]


def test_unknown_options_and_models_are_named() -> None:
    with pytest.raises(UsageError, match="no option 'tiles'"):
        load_enhancer("identity", tiles=3)
    with pytest.raises(ModelError):
        load_enhancer("there-is-no-such-model")
    with pytest.raises(ModelError, match="does not restore"):
        Enhancer(foreign(lambda x: x, architecture="ns_iqa", out_channels=1), fp32())


@pytest.mark.skipif(
    not torch.cuda.is_available() and "FAIL_WITHOUT_CUDA" not in os.environ,
    reason="needs a CUDA device; set FAIL_WITHOUT_CUDA where there must be one",
)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_agrees_with_the_cpu(precision: str) -> None:
    frames = clip(5)
    descriptor = restorer("quantiser", frames=3)
    here = list(Enhancer(descriptor, fp32()).run(frames))
    there = list(
        Enhancer(restorer("quantiser", frames=3), EnhanceOptions(device="cuda", precision=precision)).run(frames)
    )
    assert max(furthest(a, b) for a, b in zip(here, there, strict=True)) <= 3
