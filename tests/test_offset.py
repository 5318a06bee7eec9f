"""The offset between a clip and its reference, from thumbnails: found where it can be told, never guessed."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ns_video.quality.offset import FoundOffset, find_offset

FRAMES, RATE = 48, 25
TEXTURE = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (36, 400)).astype(np.float32), (0, 0), 4) * 4 - 380


def pan(number: int) -> np.ndarray:
    """A cell a frame, from 60 frames before the first on."""
    return TEXTURE[:, number + 60 : number + 124]


def loop(number: int) -> np.ndarray:
    return pan(4 * (number % 6))


def blink(number: int) -> np.ndarray:
    return pan(0) + 60 * (number % 2)


def still(number: int) -> np.ndarray:
    return pan(0)


def slides(number: int) -> np.ndarray:
    return pan(40 * (number // 20))


Scene = Callable[[int], np.ndarray]


def frames(scene: Scene, first: int = 0, damage: float = 0.0, start: float = 0.0) -> list[tuple[float, np.ndarray]]:
    """FRAMES of a scene from `first` on, with a damage that stays where it is for eight frames, as of a codec."""
    made: list[tuple[float, np.ndarray]] = []
    for number in range(FRAMES):
        rng = np.random.default_rng(100 + number // 8)
        noise = damage * rng.standard_normal((36, 64)) + damage / 4 * np.random.default_rng(number).standard_normal()
        made.append((start + number / RATE, (scene(first + number) + noise).astype(np.float32)))
    return made


def found(clip: list[tuple[float, np.ndarray]], reference: list[tuple[float, np.ndarray]]) -> FoundOffset:
    return find_offset(clip, reference, tolerance=0.002)


@pytest.mark.parametrize("damage", [1.0, 12.0])
@pytest.mark.parametrize("shift", [1, 2, 3, 8, 15, 20, 30, -1, -2, -8, -30])
def test_a_shift_is_found_whatever_the_damage(shift: int, damage: float) -> None:
    """12 levels of damage are more than a frame's motion changes."""
    offset = found(frames(pan, 0, damage), frames(pan, -shift))
    assert offset.seconds == pytest.approx(shift / RATE) and offset.is_alike and offset.doubtful_seconds is None


@pytest.mark.parametrize("scene", [pan, loop, blink, still, slides])
@pytest.mark.parametrize("damage", [0.0, 2.0, 12.0])
def test_what_is_aligned_stays(scene: Scene, damage: float) -> None:
    assert found(frames(scene, 0, damage), frames(scene)) == FoundOffset(0.0, is_alike=True)


def test_a_shift_beyond_the_frames_is_not_guessed() -> None:
    for shift in (42, 60, -42):
        assert found(frames(pan, 0, 2.0), frames(pan, -shift)).seconds == 0.0


def test_what_a_single_frame_says_is_doubted() -> None:
    """Slides that change one frame later: so they do where a frame was repeated."""
    offset = found(frames(slides, 0, 1.0), frames(slides, -1))
    assert offset.seconds == 0.0 and offset.doubtful_seconds == pytest.approx(1 / RATE)


def test_loops_are_shifted_by_less_than_their_period() -> None:
    assert found(frames(loop, 0, 2.0), frames(loop, -14)).seconds == pytest.approx(2 / RATE)


@pytest.mark.parametrize("start", [100.0, -3.0])
def test_without_a_common_time_beginnings_come_together(start: float) -> None:
    same, late = found(frames(pan, 0, 2.0), frames(pan, start=start)), found(frames(pan), frames(pan, -5, start=start))
    other = found(frames(pan), frames(lambda number: 255 - TEXTURE[::-1, 300:364], start=start))
    assert [offset.seconds - start for offset in (same, late, other)] == pytest.approx([0.0, 5 / RATE, 0.0])
    assert [offset.is_alike for offset in (same, late, other)] == [True, True, False]
    assert same.doubtful_seconds is late.doubtful_seconds is other.doubtful_seconds is None


def test_short_clips_and_other_sizes_keep_their_times() -> None:
    for count in (0, 1, 2, 5):
        assert found(frames(pan)[:count], frames(pan, -1)[:count]).seconds == 0.0
    assert found(frames(pan), [(seconds, cells[:20]) for seconds, cells in frames(pan, -5)]).seconds == 0.0
