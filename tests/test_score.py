"""Which frames are sampled: the written rule, its bounds, and what the sampler must not do to its frames."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_video.frame import ColorInfo, Frame, PixelFormat
from ns_video.score import Sample, Sampler, Scorer, Series, score_samples, spread_order

YUV420 = PixelFormat("yuv420p", 8, False, 3, 1, 1, False)
HEIGHT, WIDTH = 72, 128


def frame(luma: np.ndarray, number: int, chroma: int = 128) -> Frame:
    plane = np.full((HEIGHT // 2, WIDTH // 2), chroma, np.uint8)
    return Frame(
        (luma, plane, plane.copy()), WIDTH, HEIGHT, YUV420, ColorInfo(), number, Fraction(1, 25), carrier=object()
    )


def scene(seed: int, x: int = 0) -> np.ndarray:
    """A scene with coarse structure, seen from `x` px further to the right."""
    coarse = np.random.default_rng(seed).integers(16, 236, (9, 40)).astype(np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8), np.uint8))[:, x : x + WIDTH])


def run(lengths: list[int], sampler: Sampler) -> list[int]:
    """Feed shots of these lengths, each a slow pan; the index of each shot's first frame."""
    firsts, number = [], 0
    for shot, length in enumerate(lengths):
        firsts.append(number)
        for step in range(length):
            sampler.observe(frame(scene(shot, step % 60), number))
            number += 1
    return firsts


def test_cuts_are_found_and_pans_are_none() -> None:
    sampler = Sampler()
    firsts = run([30, 41, 12, 50], sampler)
    assert [shot.first_index for shot in sampler.shots] == firsts
    assert [shot.pts_seconds for shot in sampler.shots] == [number / 25 for number in firsts]


def test_a_fade_is_no_cut_and_the_end_of_a_flash_none() -> None:
    fading = Sampler()
    for number in range(40):
        fading.observe(frame((scene(1) * (1 - number / 50)).astype(np.uint8), number))
    assert len(fading.shots) == 1
    flashed = Sampler()
    for number in range(40):
        flashed.observe(frame(np.full((HEIGHT, WIDTH), 250, np.uint8) if number == 20 else scene(1), number))
    assert [shot.first_index for shot in flashed.shots] == [0, 20]


def test_first_frames_of_shots_are_sampled_and_the_rest_lies_evenly() -> None:
    sampler = Sampler(limit=24)
    firsts = run([50, 60, 55, 45, 58], sampler)
    kept = [sample.index for sample in sampler.samples]
    assert set(firsts) <= set(kept)
    assert len(kept) <= 24
    even = [index for index in kept if index not in firsts]
    gaps = np.diff(even)
    assert gaps.max() <= 2 * gaps.min()
    assert [sample.first_of_shot for sample in sampler.samples] == [index in firsts for index in kept]


def test_a_short_clip_and_a_still_are_sampled_whole() -> None:
    for length in (1, 7, 20):
        sampler = Sampler(limit=24)
        run([length], sampler)
        assert [sample.index for sample in sampler.samples] == list(range(length))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(6, 40), min_size=1, max_size=12), st.integers(2, 30))
def test_never_more_than_the_limit_and_never_few(lengths: list[int], limit: int) -> None:
    sampler = Sampler(limit=limit)
    run(lengths, sampler)
    kept = len(sampler.samples)
    assert kept <= limit
    assert kept >= min(sum(lengths), limit) // 3
    assert kept == len({sample.index for sample in sampler.samples})


def test_memory_bounds_the_kept_frames_whatever_the_length() -> None:
    pair = HEIGHT * WIDTH * 3 // 2
    sampler = Sampler(memory_bytes=10 * pair)
    run([300], sampler)
    assert 4 <= len(sampler.samples) <= 10
    assert sum(sample.before.nbytes for sample in sampler.samples) <= 10 * pair


def test_frames_that_grow_have_fewer_places() -> None:
    """What became of them comes with many shots known: a run that is resumed had nothing to show for a while."""
    size = HEIGHT * WIDTH * 3 // 2
    sampler = Sampler(memory_bytes=48 * size)
    run([6] * 30, sampler)
    assert len(sampler.samples) > 24
    for number in range(180, 260):
        after = frame(np.zeros((8 * HEIGHT, 8 * WIDTH), np.uint8), number)
        sampler.observe(frame(scene(29, 5), number), dataclasses.replace(after, width=8 * WIDTH, height=8 * HEIGHT))
    assert 2 <= len(sampler.samples) <= 4 and len(sampler.shots) == 30


def test_kept_frames_are_copies_without_their_carrier() -> None:
    sampler = Sampler()
    luma = scene(0)
    seen = frame(luma, 0)
    sampler.observe(seen, seen)
    luma[:] = 0
    (kept,) = sampler.samples
    assert kept.after is not None
    for copy in (kept.before, kept.after):
        assert copy.planes[0].any() and copy.carrier is None


def test_drift_and_flicker_are_measured_on_the_way() -> None:
    sampler = Sampler()
    for number in range(60):
        before = scene(0, number // 2)
        pulse = 6 if number % 2 else 0
        after = np.clip(before.astype(int) + 4 + pulse, 0, 255).astype(np.uint8)
        sampler.observe(frame(before, number), frame(after, number, chroma=131))
    temporal = sampler.temporal
    assert temporal.luma_drift.mean == pytest.approx(6.5, abs=1.0)
    assert temporal.cb_drift.mean == pytest.approx(3.0, abs=0.01)
    assert temporal.change_flicker.mean == pytest.approx(6.0, abs=1.0)
    assert temporal.flicker_before.mean is not None and temporal.flicker_after.mean is not None
    assert temporal.flicker_after.mean > temporal.flicker_before.mean + 2


@pytest.mark.parametrize("most", [1, 2, 5, 16, 17])
def test_a_series_keeps_its_mean_in_bounded_points(most: int) -> None:
    series = Series(most_points=most)
    for number in range(1000):
        series.add(number / 25, float(number % 10))
    assert max(1, most // 2) <= len(series.points) <= most
    assert series.mean == pytest.approx(4.5)
    assert series.largest == 9
    assert sum(point.frames for point in series.points) == 1000
    assert sum(point.frames * point.value for point in series.points) == pytest.approx(4500)
    assert [p.pts_seconds for p in series.points] == sorted(p.pts_seconds for p in series.points)


@given(st.integers(0, 200))
def test_every_order_is_complete_and_spread_from_the_start(count: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    if count > 8:
        assert np.diff(sorted(order[:5])).max() <= count // 4 + 1


class CountingScorer(Scorer):
    """A scorer that knows the mean only, to test what is scored, not how."""

    def __init__(self, clock: list[float]) -> None:
        self.calls = 0
        self._clock = clock

    def score(self, frame: Frame) -> float:
        self.calls += 1
        self._clock[0] += 1.0
        return float(frame.planes[0].mean())


def samples(count: int) -> list[Sample]:
    return [Sample(n, 0, n == 0, frame(scene(n), n), frame(scene(n + 1), n)) for n in range(count)]


def test_a_time_budget_limits_the_scoring_but_never_below_three(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("ns_video.score.time.perf_counter", lambda: clock[0])
    for budget, expected in ((0.0, 3), (8.0, 4), (20.0, 10), (None, 24)):
        clock[0] = 0.0
        scored = score_samples(samples(24), CountingScorer(clock), budget_seconds=budget)
        assert len(scored) == expected
        indices = [item.sample.index for item in scored]
        assert indices == sorted(indices)
        assert {0, 23} <= set(indices)


def test_a_budget_alone_limits_the_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("ns_video.score.time.perf_counter", lambda: clock[0])
    assert len(score_samples(samples(24), CountingScorer(clock), budget_seconds=8.0, least=0)) == 4


def test_a_reference_is_not_scored() -> None:
    scorer = CountingScorer([0.0])
    scored = score_samples(samples(5), scorer, both=False)
    assert scorer.calls == 5
    assert all(item.after is None and item.gain == 0.0 for item in scored)


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer()


def still(rgb: np.ndarray) -> Frame:
    planes = tuple(np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
    fmt = PixelFormat("gbrp", 8, True, 3, 0, 0, False)
    return Frame(planes, rgb.shape[1], rgb.shape[0], fmt, ColorInfo(matrix=0, range=2), 0, Fraction(1, 25))


@pytest.fixture(scope="module")
def animation() -> np.ndarray:
    """A frame of the sample clip: not among the pictures the score was trained on."""
    with av.open(str(Path(__file__).parents[1] / "samples" / "bbb_reference.mkv")) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def as_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_the_shipped_score_orders_severities(shipped: Scorer, animation: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    height, width = animation.shape[:2]

    def mosaic(block: int) -> np.ndarray:
        small = cv2.resize(animation, (width // block, height // block))
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)

    ladders = {
        "jpeg": [as_jpeg(animation, quality) for quality in (95, 70, 40, 20, 8)],
        "noise": [np.clip(animation + s * rng.standard_normal(animation.shape), 0, 255) for s in (4, 12, 30)],
        "blur": [cv2.GaussianBlur(animation, (0, 0), sigma) for sigma in (0.8, 1.6, 3.0)],
        "mosaic": [mosaic(block) for block in (2, 4, 8)],
    }
    clean = shipped.score(still(animation))
    for name, pictures in ladders.items():
        scores = [shipped.score(still(picture.astype(np.uint8))) for picture in pictures]
        assert scores == sorted(scores, reverse=True), name
        assert clean > scores[-1] + 20, name


def test_the_shipped_score_rewards_neither_smoothing_nor_sharpening(shipped: Scorer, animation: np.ndarray) -> None:
    for source in (animation, as_jpeg(animation, 50)):
        was = shipped.score(still(source))
        soft = cv2.GaussianBlur(source, (0, 0), 1.2)
        assert shipped.score(still(soft)) < was
        assert shipped.score(still(cv2.medianBlur(source, 7))) < was
        assert shipped.score(still(cv2.addWeighted(source, 4.0, soft, -3.0, 0))) < was


def test_the_shipped_score_is_deterministic_and_bounded(shipped: Scorer, animation: np.ndarray) -> None:
    assert shipped.score(still(animation)) == shipped.score(still(animation))
    for rgb in (np.zeros((5, 7, 3), np.uint8), np.full((300, 300, 3), 255, np.uint8)):
        assert 0.0 <= shipped.score(still(rgb)) <= 100.0


def test_drift_is_that_of_samples_under_one_matrix() -> None:
    """An untagged picture that grows past 1024 x 576 holds other samples for the same colours."""
    sampler = Sampler()
    for number in range(3):
        before = frame(scene(0, number), number)
        large = frame(np.zeros((720, 1280), np.uint8), number)
        sampler.observe(before, dataclasses.replace(large, width=1280, height=720))
    assert sampler.temporal.luma_drift.mean is None and sampler.temporal.cb_drift.mean is None
