"""The shipped `quantiser`: what was never coded is left, what was coded gains, a wrong header doesn't fool."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ns_video.belief import believe
from ns_video.enhance import EnhancedFrame, EnhanceOptions, Enhancer
from ns_video.enhance import enhancer as enhancer_module
from ns_video.frame import Frame, QuantiserMap
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.training_clips import Encoding, code_to_step, encode_decode, read_clip, split_planes
from ns_video.networks.ns_quantiser import coded_before, guessed_octaves
from ns_video.weights import load_descriptor

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return read_clip(SAMPLES / "bbb_reference.mkv", 0, 6)


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer(load_descriptor("video"), EnhanceOptions(device="cpu", precision="fp32"))


def coded(clip: np.ndarray, crf: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and told steps of x264."""
    out = encode_decode(clip, Encoding(options={"crf": str(crf), "preset": "medium"}))
    return out.pictures, code_to_step(out.steps)


def frames(pictures: np.ndarray, steps: np.ndarray | None) -> list[Frame]:
    with open_clip(SAMPLES / "bbb_reference.mkv", DecodeOptions()) as reader:
        first = next(reader.frames())
    planes = split_planes(pictures)
    made: list[Frame] = []
    for t in range(len(pictures)):
        told = None if steps is None else QuantiserMap(steps[t].astype(np.float32), 16, "P", "h264")
        held = tuple(np.ascontiguousarray(plane[t]) for plane in planes)
        made.append(dataclasses.replace(first, planes=held, pts=t, quantiser=told, carrier=None))
    return made


def error(results: list[EnhancedFrame], truth: np.ndarray) -> float:
    luma = split_planes(truth)[0]
    return float(np.mean([(np.float32(r.frame.planes[0]) - luma[t]) ** 2 for t, r in enumerate(results)]))


def unit(picture: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(split_planes(picture[None])[0][0].astype(np.float32)) - 16) / 219


def test_clean_frames_are_left_or_nearly(truth: np.ndarray, enhancer: Enhancer) -> None:
    """The clip is a smaller one of a file that was coded itself: two of six frames, a key frame among them, show it."""
    results = list(enhancer.run(frames(truth, None)))
    errors = [error([result], truth[t : t + 1]) for t, result in enumerate(results)]
    assert [result.reason for result in results].count("undamaged") >= 4 and sum(error > 0 for error in errors) <= 2
    assert max(errors) < 255.0**2 / 10**4.8 and np.mean(errors) < 255.0**2 / 10**5.35


def test_guesses_rise_with_the_damage(truth: np.ndarray) -> None:
    network = load_descriptor("quantiser").network
    with torch.inference_mode():
        octaves = [guessed_octaves(network, unit(coded(truth, crf)[0][3])) for crf in (24, 30, 36, 42)]
    assert octaves == sorted(octaves) and octaves[0] > 1.0 and octaves[-1] > 4.0


@pytest.mark.parametrize("crf", [26, 34])
def test_raw_frames_that_were_coded_gain(truth: np.ndarray, enhancer: Enhancer, crf: int) -> None:
    pictures, _ = coded(truth, crf)
    guessed = enhancer.stats.guessed
    given = frames(pictures, None)
    results = list(enhancer.run(given))
    assert error(results, truth) < 0.97 * error([EnhancedFrame(frame) for frame in given], truth)
    assert enhancer.stats.guessed == guessed + len(given)


def test_a_finer_encode_does_not_hide_the_coarser_one_before(truth: np.ndarray, enhancer: Enhancer) -> None:
    pictures, steps = coded(coded(truth, 38)[0], 16)
    raised = enhancer.stats.raised
    told = list(enhancer.run(frames(pictures, steps)))
    assert enhancer.stats.raised > raised
    believing = Enhancer(enhancer.descriptor, dataclasses.replace(enhancer.options, assumed_step=0.0))
    believed = list(believing.run(frames(pictures, steps)))
    assert believing.stats.raised == 0
    assert error(told, truth) < 0.98 * error(believed, truth)


def test_hard_edges_of_what_looks_coded_before_are_measured_by_what_the_file_tells(
    truth: np.ndarray, enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, steps = coded(coded(truth, 38)[0], 16)
    given = frames(pictures, steps)
    raised: list[bool] = []

    def noted(restored: torch.Tensor, seen: torch.Tensor, side: torch.Tensor, **how: Any) -> torch.Tensor:
        own = how["told"]
        if own is not None:
            quantiser = given[len(raised)].quantiser
            assert quantiser is not None
            height, width = seen.shape[-2:]
            step = quantiser.step.repeat(quantiser.block, 0).repeat(quantiser.block, 1)[:height, :width]
            assert np.allclose(2 ** (7 * own[0, 0, :height, :width].numpy()), np.maximum(step, 1.0), rtol=1e-3)
            assert float((side - own)[:, 0].max()) > 0.1
        raised.append(own is not None)
        return believe(restored, seen, side, **how)

    monkeypatch.setattr(enhancer_module, "believe", noted)
    results = list(enhancer.run(given))
    assert raised == [result.raised for result in results] and any(raised)


def test_what_was_coded_once_is_not_doubted(truth: np.ndarray) -> None:
    network = load_descriptor("quantiser").network
    for crf in (16, 20, 24):
        pictures, steps = coded(truth, crf)
        with torch.inference_mode():
            shares = [
                coded_before(network, unit(pictures[t]), float(np.log2(np.maximum(steps[t], 1)).mean()))[1]
                for t in range(len(pictures))
            ]
        assert max(shares[1:]) == 0.0 and shares[0] < 0.6, shares
