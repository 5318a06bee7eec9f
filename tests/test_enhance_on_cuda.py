"""The stage on a pretended GPU (`pretended_cuda.py`): devices of tensors, waits of the host, order of streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from pretended_cuda import GPU, PretendedCuda, pretended_cuda
from test_enhance import RGB24, clip, describe, foreign, fp32, furthest, restorer

from ns_video import constraint
from ns_video.device import beside
from ns_video.enhance import EnhancedFrame, EnhanceOptions, Enhancer, side_information
from ns_video.enhance import enhancer as enhancer_module
from ns_video.estimate import JpegEvidence
from ns_video.frame import Frame, JpegTables
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.upload import upload
from ns_video.weights import Descriptor

TABLES = JpegTables(np.full((8, 8), 20, np.uint16), np.full((8, 8), 30, np.uint16), (2, 2))


def told(frames: Iterable[Frame]) -> list[Frame]:
    return [dataclasses.replace(frame, jpeg=TABLES) for frame in frames]


def unknown(frames: Iterable[Frame]) -> list[Frame]:
    return [dataclasses.replace(frame, quantiser=None) for frame in frames]


def cells(count: int) -> list[Frame]:
    """Mosaics of 4 px."""
    rng = np.random.default_rng(5)
    frames: list[Frame] = []
    for frame in clip(count, 64, 96):
        planes = tuple(rng.integers(16, 236, (16, 24)).astype(np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(3))
        frames.append(dataclasses.replace(frame, planes=planes, format=RGB24, quantiser=None))
    return frames


def enlarger() -> Descriptor:
    """Of cells, four times."""
    torch.manual_seed(4)
    network = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), side=1, scale=4))
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    halo = network.receptive_radius
    return describe(network, scale=1, halo=halo, conditioning="mosaic", domain="rgb")


CASES = {
    "quantisers of a file, looked at": (lambda: restorer("quantiser", frames=3), clip(5)),
    "quantisers guessed": (lambda: restorer("quantiser"), unknown(clip(5))),
    "tables of a file": (lambda: restorer("jpeg", domain="rgb"), told(clip(5))),
    "tables looked for": (lambda: restorer("jpeg", domain="rgb"), unknown(clip(5))),
    "cells": (enlarger, cells(5)),
    "enlarged": (lambda: restorer(scale=2), clip(5)),
    "another's network": (lambda: foreign(lambda x: 1.0 - x), clip(5)),
}


def on_cuda(
    monkeypatch: pytest.MonkeyPatch, descriptor: Descriptor, frames: list[Frame], **options: object
) -> tuple[list[EnhancedFrame], PretendedCuda]:
    """Results of a second run, and what was waited for in it: networks and constants are there."""
    with pretended_cuda(monkeypatch) as gpu:
        enhancer = Enhancer(descriptor, fp32(device=str(GPU), **options))
        list(enhancer.run(frames))
        gpu.waits.clear()
        return list(enhancer.run(frames)), gpu


@pytest.mark.parametrize("case", CASES)
def test_results_are_the_cpus_and_the_host_never_waits_for_frames_in_flight(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, frames = CASES[case]
    here = list(Enhancer(make(), fp32()).run(frames))
    there, gpu = on_cuda(monkeypatch, make(), frames)
    assert not gpu.waits
    assert [one.reason for one in there] == [one.reason for one in here]
    assert not any(one.passed_through for one in there)
    assert max(furthest(a, b) for a, b in zip(here, there, strict=True)) == 0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_what_is_foreign_in_a_picture_is_told_from_its_own_without_waiting(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    evidence = JpegEvidence(TABLES, (3, 2), foreign=rng.random((7, 11)) < share)
    monkeypatch.setattr(side_information, "find_jpeg", lambda _: evidence)
    monkeypatch.setattr(constraint, "belief", lambda was, *_: torch.ones((), device=was.device))
    frames: list[Frame] = []
    for frame in clip(3):
        planes = tuple(rng.integers(0, 256, (66, 90)).astype(np.uint8) for _ in range(3))
        frames.append(dataclasses.replace(frame, planes=planes, format=RGB24, quantiser=None))
    here = list(Enhancer(restorer("jpeg", domain="rgb"), fp32()).run(frames))
    there, gpu = on_cuda(monkeypatch, restorer("jpeg", domain="rgb"), frames)
    assert not gpu.waits and {one.reason for one in there} == {None}
    assert max(furthest(a, b) for a, b in zip(here, there, strict=True)) == 0
    moved = [(a.frame.planes[0] != b.planes[0])[3:59, 2:90] for a, b in zip(here, frames, strict=True)]
    own = ~evidence.foreign.repeat(8, 0).repeat(8, 1)
    assert all(not one[~own].any() and (share == 1.0 or one[own].mean() > 0.5) for one in moved)


@pytest.mark.parametrize(
    "options", [{"tile": 48}, {"ensemble": 4}, {"sharpen": 0.5}, {"scale": 1.5}, {"strength": 0.5}]
)
def test_options_are_done_on_the_device(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    frames = clip(4)
    here = list(Enhancer(restorer("quantiser"), fp32(**options)).run(frames))
    there, gpu = on_cuda(monkeypatch, restorer("quantiser"), frames, **options)
    assert not gpu.waits
    assert max(furthest(a, b) for a, b in zip(here, there, strict=True)) == 0


def test_a_picture_comes_back_to_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    here = Enhancer(restorer("jpeg", domain="rgb"), fp32())(picture, TABLES)
    with pretended_cuda(monkeypatch):
        enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32(device=str(GPU)))
        assert torch.equal(enhancer(picture, TABLES), here)
        there = enhancer(upload(picture, GPU), TABLES)
        assert there.is_cuda and torch.equal(there.cpu(), here)


def test_what_fails_is_done_once_more_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([False, True, True, False, True])
    monkeypatch.setattr(
        enhancer_module, "_health", lambda seen, _: torch.tensor(next(verdicts)).to(seen.device, non_blocking=True)
    )
    with pretended_cuda(monkeypatch):
        enhancer = Enhancer(restorer("quantiser"), EnhanceOptions(device=str(GPU), precision="bf16"))
        results = list(enhancer.run(clip(3)))
    assert not any(one.passed_through for one in results)
    assert enhancer.stats.fp32_retries == 2


class TestThePretence:
    """It sees what it is for."""

    def test_two_devices_in_one_operation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pretended_cuda(monkeypatch), pytest.raises(RuntimeError, match="same device: add"):
            torch.add(torch.ones(3), torch.ones(3, device=GPU))

    def test_reads_and_copies_from_memory_that_is_not_pinned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pretended_cuda(monkeypatch) as gpu:
            torch.ones(3).to(GPU, non_blocking=True)
            upload(torch.ones(3), GPU).sum().item()
            upload(torch.ones(3), GPU)[upload(torch.ones(3).bool(), GPU)]
            assert [why.split()[0] for why in gpu.waits] == ["upload", "item", "__getitem__"]

    def test_results_that_are_read_before_they_came(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pretended_cuda(monkeypatch):
            host = torch.empty(3, pin_memory=True).copy_(torch.ones(3, device=GPU), non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            assert host.sum() == 0
            event.synchronize()
            assert host.sum() == 3

    def test_streams_that_do_not_wait_for_each_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pretended_cuda(monkeypatch):
            made = torch.ones(3, device=GPU)
            with beside(GPU):
                mine = torch.ones(3, device=GPU) * 2
                with pytest.raises(RuntimeError, match="another stream"):
                    made.mul_(2)
            assert float(mine.sum()) == 6
