"""Clip pairs and the video training: real codecs, tiny sizes."""

from __future__ import annotations

import dataclasses
import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from ns_video.cli.train import command as train_command
from ns_video.conditioning import quantiser_planes
from ns_video.errors import DeviceError, InputError, ModelError, OutputError, ResumeError, UsageError
from ns_video.frame import QuantiserMap
from ns_video.media.coded_headers import LIKENESS
from ns_video.media.pattern_clips import PATTERNS, Pattern, bayer_matrix
from ns_video.media.screen_clips import add_caption, draw_page
from ns_video.media.training_clips import (
    PICTURE_TYPES,
    UNKNOWN_STEP,
    Clip,
    CodedClip,
    Encoding,
    code_to_step,
    encode_decode,
    join_planes,
    resize_clip,
    rgb_to_clip,
    split_planes,
    step_to_code,
)
from ns_video.networks.ns_restore import SIZES, NsRestore
from ns_video.training.checkpoint import write_checkpoint
from ns_video.training.config import read_makes
from ns_video.training.evaluate import psnr
from ns_video.training.process import Arithmetic, Process
from ns_video.training.video import (
    Batch,
    Pool,
    VideoTraining,
    batch_loss,
    centre_head,
    draw_batch,
    identity,
    learning_rate,
    load_checkpoint,
    model_file,
    network_config,
    pictures_to_network,
    read_config,
    restore_luma,
    side_planes,
    told_steps,
    train_video,
)
from ns_video.training.video_clips import (
    VALIDATION_CRFS,
    ClipMaker,
    ClipPair,
    find_sources,
    grow_pool,
    grow_validation,
    is_held_out,
    read_pair,
    write_pair,
)
from ns_video.weights import Metadata, load_descriptor, save_model
from ns_video.weights.load import load_weights

FIXED = {"qp": "30", "x264-params": "ipratio=1:pbratio=1:b-adapt=0:bframes=2"}


def textured(height: int, width: int, seed: int) -> np.ndarray:
    """An RGB picture with edges and texture."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (width, height), interpolation=0)
    fine = rng.integers(-25, 26, (height, width, 1))
    return (coarse + fine).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def moving():
    """Ten frames that differ strongly from each other: a picture that jumps 16 pixels and brightens."""
    picture = textured(160, 400, 1)
    return rgb_to_clip([np.clip(picture[:128, 16 * t : 16 * t + 192] * (0.6 + 0.04 * t), 0, 255).astype(np.uint8)
                        for t in range(10)])  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs made from two stills by the synthetic camera."""
    stills, folder = tmp_path_factory.mktemp("stills"), tmp_path_factory.mktemp("pool")
    for seed in range(2):
        cv2.imwrite(str(stills / f"still{seed}.png"), textured(300, 420, seed))
    assert len(list(grow_pool(find_sources([], [stills]), folder, 3, seed=5))) == 3
    return folder


def small(pool: Path, output: Path, **changes: object) -> VideoTraining:
    config = VideoTraining(cache=pool, output=output, size="tiny", steps=4, batch=2, crop=48, warm_up=1)
    return dataclasses.replace(config, **changes)  # pyright: ignore[reportArgumentType]


def test_planes_split_and_join_without_loss(moving: np.ndarray) -> None:
    luma, cb, cr = split_planes(moving)
    assert luma.shape == (10, 128, 192) and cb.shape == cr.shape == (10, 64, 96)
    assert np.array_equal(join_planes(luma, cb, cr), moving)
    assert abs(float(resize_clip(moving, 64, 96)[:, :64].mean()) - float(luma.mean())) < 1.0


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(options={"crf": "23", "preset": "medium", "bf": "3"}),
        Encoding(options={"crf": "23", "preset": "ultrafast", "tune": "zerolatency"}),
        Encoding("mpeg2video", {"qmin": "3", "qmax": "3", "bf": "2"}),
        Encoding("mpeg4", {"qmin": "3", "qmax": "3"}),
    ],
    ids=["b-frames", "zerolatency", "mpeg2", "mpeg4"],
)
def test_decoded_frames_stay_with_their_truth(moving: np.ndarray, encoding: Encoding) -> None:
    coded = encode_decode(moving, encoding)
    assert coded.pictures.shape == moving.shape
    for t in range(len(moving)):
        scores = [psnr(coded.pictures[t, :128], moving[other, :128]) for other in range(len(moving))]
        assert int(np.argmax(scores)) == t


@pytest.mark.parametrize("centred", [False, True])
def test_chroma_is_averaged_where_it_lies(centred: bool) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, :, None], (32, 64, 3)) * (1.0, 0.0, 0.0)
    red = np.rint(ramp).astype(np.uint8)
    cr = split_planes(rgb_to_clip([red], centred=centred))[2][0].astype(float)
    at = np.arange(0, 64, 2) + (0.5 if centred else 0.0)
    assert np.abs(cr - (128 + 112 / 255 * 255 * at / 63))[:, 1:].max() < 0.8
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    every_other = cv2.cvtColor(noise, cv2.COLOR_RGB2YUV_I420)[None]
    mine = rgb_to_clip([noise], centred=centred)
    assert np.array_equal(mine[:, :64], every_other[:, :64])
    assert split_planes(mine)[1].std() < 0.7 * split_planes(every_other)[1].std()


def test_h264_map_is_the_requested_qp(moving: np.ndarray) -> None:
    coded = encode_decode(moving, Encoding(options=FIXED))
    assert set(np.unique(coded.steps)) == {4 * 30}
    assert np.allclose(code_to_step(coded.steps), 0.625 * 2 ** (30 / 6), rtol=1e-6)
    assert PICTURE_TYPES[coded.types[0]] == "I"
    assert {PICTURE_TYPES[kind] for kind in coded.types[1:]} == {"P", "B"}


def test_mpeg4_map_is_twice_the_quantiser(moving: np.ndarray) -> None:
    coded = encode_decode(moving, Encoding("mpeg4", {"qmin": "7", "qmax": "7"}))
    told = coded.steps[coded.steps != UNKNOWN_STEP]
    assert told.size and set(np.unique(told)) == {int(step_to_code(np.array([14.0]))[0])}


def test_an_encoder_that_is_not_there_is_named(moving: np.ndarray) -> None:
    with pytest.raises(OutputError, match="libnothing"):
        encode_decode(moving, Encoding("libnothing", {}))


def test_pairs_survive_the_cache(moving: np.ndarray, tmp_path: Path) -> None:
    pair = ClipPair(moving, encode_decode(moving, Encoding(options={"crf": "30"})))
    write_pair(pair, tmp_path / "a.npy")
    back = read_pair(tmp_path / "a.npy")
    assert np.array_equal(back.truth, pair.truth) and np.array_equal(back.coded.pictures, pair.coded.pictures)
    assert np.array_equal(back.coded.steps, pair.coded.steps) and np.array_equal(back.coded.types, pair.coded.types)
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        read_pair(tmp_path / "cut.npy")


def test_the_camera_moves_and_the_seed_decides(tmp_path: Path) -> None:
    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"still{seed}.png"), textured(300, 420, seed))
    sources = find_sources([], [tmp_path])
    one, again = ClipMaker(sources, 3).pair(8), ClipMaker(sources, 3).pair(8)
    assert np.array_equal(one.truth, again.truth) and one.coded.types[0] == again.coded.types[0]
    assert not np.array_equal(one.truth, ClipMaker(sources, 3).pair(9).truth)
    moved = [ClipMaker(sources, 3).pair(index).truth for index in range(4)]
    assert any(not np.array_equal(clip[0], clip[-1]) for clip in moved)


def test_a_share_of_clips_is_coded_finely_in_fast_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), textured(300, 420, 3))
    seen: list[dict[str, str]] = []

    def noted(clip: Clip, encoding: Encoding) -> CodedClip:
        seen.append(encoding.options)
        return CodedClip(clip, np.zeros(1, np.uint8), np.zeros(1, np.uint8))

    monkeypatch.setattr("ns_video.training.video_clips.encode_decode", noted)
    maker = ClipMaker(find_sources([], [tmp_path], fine_share=1.0), 5)
    for index in range(20):
        maker.pair(index)
    assert len(seen) == 20 and all(10 <= float(options["crf"]) <= 27 for options in seen)
    fast = [options for options in seen if options["preset"] == "ultrafast" or options.get("aq-mode") == "0"]
    assert len(fast) >= 10


def test_clips_of_newer_codecs_are_told_as_a_run_tells_them(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), textured(300, 420, 3))
    sources = find_sources([], [tmp_path], newer_share=1.0)
    still = list(grow_validation(dataclasses.replace(sources, held_out_share=0.0), tmp_path / "held", clips=1))
    names = {path.name.split("-")[0] for path in still}
    assert names == {"hevc20", "hevc30", "av1_24", "av1_44", "vp9_36", "vp8_24", "webp30", "avif50"}
    octaves: dict[str, float] = {}
    for path in still:
        pair = read_pair(path)
        assert psnr(pair.truth, pair.coded.pictures) > 20
        assert (pair.coded.steps != UNKNOWN_STEP).all()
        if len(pair.truth) == 1:  # coded as RGB: nothing but the coding makes them differ
            height = pair.truth.shape[1] * 2 // 3
            assert abs(float(np.subtract(pair.truth, pair.coded.pictures, dtype=float)[:, :height].mean())) < 0.4
        octaves[path.name.split("-")[0]] = float(np.log2(code_to_step(pair.coded.steps)).mean())
    assert octaves["hevc30"] - octaves["hevc20"] == pytest.approx(10 / 6, abs=0.2)
    clip = ClipMaker(sources, 6).truth(0, (8, 96, 128))
    even = encode_decode(clip, Encoding("libx265", {"x265-params": "qp=28:ipratio=1:pbratio=1:log-level=none"}))
    assert code_to_step(even.steps).mean() == pytest.approx(LIKENESS["hevc"] * 2 ** ((28 - 4) / 6), rel=0.03)
    assert not even.types.any()
    kinds = [ClipMaker(sources, 6).pair(index) for index in range(12)]
    assert {len(pair.truth) == 1 for pair in kinds} == {True, False}


def test_screen_clips_have_hard_edges_and_move_by_whole_pixels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), textured(300, 420, 3))
    sources = find_sources([], [tmp_path], screen_share=1.0)
    maker = ClipMaker(sources, 4)
    clips = [maker.truth(index, (8, 96, 128)) for index in range(24)]
    assert all(clip.shape == (8, 144, 128) and clip.dtype == np.uint8 for clip in clips)
    assert np.array_equal(clips[5], ClipMaker(sources, 4).truth(5, (8, 96, 128)))
    moving = [clip for clip in clips if not np.array_equal(clip[0], clip[-1])]
    assert len(moving) > 12
    scrolled = sum(
        any(np.array_equal(clip[0, shift:96, :], clip[1, : 96 - shift, :]) for shift in range(1, 14)) for clip in moving
    )
    assert scrolled > 0  # a page without a bar goes up by whole pixels: its luma is that of the frame before, shifted


@pytest.mark.parametrize("kind", dict.fromkeys(PATTERNS))
def test_patterns_are_of_the_shape_asked_for_and_each_seed_draws_its_own(kind: Pattern) -> None:
    still = textured(120, 200, 3)
    drawn: list[np.ndarray] = []
    for seed in range(16):
        clip, again = (np.stack(kind(lambda: still, np.random.default_rng(seed), 9, 96, 136)) for _ in range(2))
        assert clip.shape == (9, 96, 136, 3) and clip.dtype == np.uint8
        assert np.array_equal(clip, again)
        drawn.append(clip)
    assert len({clip.tobytes() for clip in drawn}) == 16
    assert sum((clip[0] != clip[-1]).any() for clip in drawn) >= 8  # most move


def test_ordered_dithering_has_bayers_thresholds() -> None:
    assert (bayer_matrix(1) * 4 - 0.5).tolist() == [[0, 2], [3, 1]]
    for order in (2, 3):
        matrix = bayer_matrix(order)
        side = 2**order
        assert matrix.shape == (side, side)
        assert np.array_equal(np.sort(matrix.ravel()), (np.arange(side * side) + 0.5) / side / side)
        for share in (0.25, 0.5, 0.75):  # and what a level lights up is spread evenly
            lit = (share > matrix).reshape(side // 2, 2, side // 2, 2).mean((1, 3))
            assert (lit == share).all()


def test_pools_of_patterns(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), textured(300, 420, 3))
    sources = find_sources([], [tmp_path], pattern_share=1.0)
    clips = [ClipMaker(sources, 4).truth(index, (8, 96, 128)) for index in range(8)]
    assert all(clip.shape == (8, 144, 128) and clip.dtype == np.uint8 for clip in clips)
    few = [len(np.unique(clip[:, :96])) for clip in clips]
    assert min(few) < 20 < max(few)  # dots and cells have few levels, lit scenes many


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (300, 24)])
def test_pages_of_any_size_are_drawn(size: tuple[int, int]) -> None:
    for seed in range(60):
        assert draw_page(np.random.default_rng(seed), *size).shape == (*size, 3)


def test_captions_stand_on_the_pictures_below() -> None:
    pictures = [np.full((96, 160, 3), 90, np.uint8) for _ in range(6)]
    for seed in range(8):
        captioned = add_caption(pictures, np.random.default_rng(seed))
        assert len(captioned) == 6 and all((picture == 90).all() for picture in pictures)
        assert all((picture[:40] == 90).all() and (picture != 90).any() for picture in captioned)


def test_validation_clips_are_told_by_their_crf(tmp_path: Path) -> None:
    for seed in range(20):
        cv2.imwrite(str(tmp_path / f"still{seed}.png"), textured(200, 300, seed))
    sources = find_sources([], [tmp_path], validation=True)
    sources = dataclasses.replace(sources, held_out_share=0.5)
    made = list(grow_validation(sources, tmp_path / "held", clips=1))
    assert [path.name.split("-")[0] for path in made] == [f"crf{crf}" for crf in VALIDATION_CRFS]
    pairs = [read_pair(path) for path in made]
    assert all(np.array_equal(pair.truth, pairs[0].truth) for pair in pairs)
    sizes = [psnr(pair.coded.pictures[1], pair.truth[1]) for pair in pairs]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert list(grow_validation(sources, tmp_path / "held", clips=1)) == []


def test_side_planes_are_those_of_the_restoration(moving: np.ndarray) -> None:
    coded = encode_decode(moving, Encoding(options={"crf": "30", "x264-params": "b-adapt=0:bframes=2"}))
    t = int(np.flatnonzero(coded.types == PICTURE_TYPES.index("B"))[0])
    maps = [QuantiserMap(code_to_step(coded.steps[i]), 16, PICTURE_TYPES[coded.types[i]]) for i in (t - 1, t, t + 1)]
    wanted = quantiser_planes(maps[0], maps[1], maps[2], 128, 192)
    codes = np.stack([coded.steps[i].repeat(16, 0).repeat(16, 1) for i in (t, t - 1, t + 1)])
    got = side_planes(torch.from_numpy(codes)[None], torch.tensor([int(coded.types[t])]))
    assert torch.allclose(got, wanted, atol=1e-6)


def test_network_planes_follow_the_convention(moving: np.ndarray) -> None:
    luma, cb, cr = split_planes(moving)
    chroma = np.stack((cb, cr), 1)
    x = pictures_to_network(torch.from_numpy(luma[None, :3].copy()), torch.from_numpy(chroma[None, :3].copy()))
    assert x.shape == (1, 9, 128, 192)
    assert float(x[0, 3, 5, 7]) == pytest.approx((float(luma[1, 5, 7]) - 16) / 219)
    assert float(x[0, 5, 10, 12]) == pytest.approx((float(cr[1, 5, 6]) - 128) / 224 + 0.5)


def test_frames_without_a_map_take_their_neighbours() -> None:
    steps = np.full((4, 2, 2), 40, np.uint8)
    steps[3] = UNKNOWN_STEP
    coded = dataclasses.replace(
        encode_decode(np.zeros((4, 48, 32), np.uint8) + 90, Encoding(options={"qp": "20"})), steps=steps
    )
    assert (told_steps(coded) == 40).all()


def test_the_benchmark_tells_a_network_its_map_once(moving: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that repeated blocks carry on were mixed into means and guesses again."""
    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "video_quality.py"))
    still = np.concatenate((moving[:3], moving[2:3].repeat(3, 0)))
    coded = encode_decode(still, Encoding(options={"crf": "30"}))
    coded = dataclasses.replace(coded, steps=np.arange(len(still), dtype=np.uint8)[:, None, None] * 9 + coded.steps)
    assert np.array_equal(benchmark["told"](coded, "decoder")(2), told_steps(coded))
    mean, octaves = benchmark["told"](coded, "mean")(2), iter((3.0, 5.0))
    assert (mean == mean[:, :1, :1]).all() and (coded.steps != coded.steps[:, :1, :1]).any()
    told = benchmark["told"](coded, "guessed")
    monkeypatch.setitem(benchmark["told"].__globals__, "guessed_octaves", lambda *_: next(octaves))
    assert [set(told(t).ravel()) for t in (1, 2)] == [set(step_to_code(np.array([step]))) for step in (8.0, 32.0)]


def test_an_untrained_network_changes_nothing(pool: Path) -> None:
    config = VideoTraining(cache=pool, output=pool)
    from ns_video.networks.ns_restore import NsRestore

    pair = read_pair(sorted(pool.glob("*.npy"))[0])
    network = NsRestore(network_config(config)).eval()
    restored = restore_luma(network, pair, told_steps(pair.coded), 1)
    assert np.array_equal(restored, np.clip(pair.coded.pictures[1, : restored.shape[0]], 0, 255))


def test_a_pool_takes_no_descriptor_for_each_clip(pool: Path) -> None:
    clips, before = Pool(pool), len(list(Path("/dev/fd").iterdir()))
    assert len({id(clips.pair(path)[1]) for path in clips.names()}) == 3
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert all(clips.pair(path)[1] is clips.pair(path)[1] for path in clips.names())  # made once


def test_training_on_one_batch_lowers_its_loss(pool: Path, tmp_path: Path) -> None:
    from ns_video.networks.ns_restore import NsRestore

    torch.manual_seed(0)
    config = small(pool, tmp_path)
    batch = draw_batch(Pool(pool), config, 0)
    network = NsRestore(network_config(config))
    centre_head(network, 25.0)
    arithmetic = Arithmetic("auto", torch.device("cpu"))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    first = batch_loss(network, batch, config, arithmetic)[0].item()
    for _ in range(12):
        optimizer.zero_grad()
        batch_loss(network, batch, config, arithmetic)[0].backward()
        optimizer.step()
    loss, gain = batch_loss(network, batch, config, arithmetic)
    assert loss.item() < 0.999 * first and float(gain) > 0.0


def test_a_training_goes_on_exactly_where_it_stopped(pool: Path, tmp_path: Path) -> None:
    whole = [update.loss for update in train_video(small(pool, tmp_path / "whole"), "cpu")]
    interrupted = train_video(small(pool, tmp_path / "parts"), "cpu")
    parts = [next(interrupted).loss, next(interrupted).loss]
    interrupted.close()
    parts += [update.loss for update in train_video(small(pool, tmp_path / "parts"), "cpu", resume=True)]
    assert len(whole) == 4 and parts == whole
    ends = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(ends[0]["averaged"][key], value) for key, value in ends[1]["averaged"].items())


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_training_begins_with_a_shipped_model(pool: Path, tmp_path: Path, optimizer: str) -> None:
    shipped = load_descriptor("video").network.state_dict()
    config = VideoTraining(
        cache=pool, output=tmp_path / "out", size="deeper", start=Path("video"), aligned=True, frames=5, steps=1,
        batch=1, crop=64, rate=1e-5, warm_up=0, optimizer=optimizer,
    )  # fmt: skip
    assert len(list(train_video(config, "cpu"))) == 1
    assert load_descriptor(str(model_file(config))).conditioning == "quantiser"
    for name, tensor in load_checkpoint(tmp_path / "out" / "checkpoint.pt").state_dict().items():
        assert float((tensor - shipped[name]).abs().max()) < 1e-4
    with pytest.raises(UsageError, match="another network"):
        list(train_video(dataclasses.replace(config, size="tiny", output=tmp_path / "other"), "cpu"))
    with pytest.raises(UsageError, match="sees 5 frames") as refused:
        list(train_video(dataclasses.replace(config, frames=3, output=tmp_path / "fewer"), "cpu"))
    assert refused.value.remedy == "set frames = 5"


def test_a_deeper_video_network_grows_from_a_model(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "bigger", (24, (1, 3, 1)))
    start = small(pool, tmp_path / "start", steps=2, rate=1e-2)
    assert len(list(train_video(start, "cpu"))) == 2
    deeper = small(pool, tmp_path / "grown", size="bigger", start=model_file(start), steps=1, rate=1e-12)
    assert len(list(train_video(deeper, "cpu"))) == 1
    pair = read_pair(sorted(pool.glob("*.npy"))[0])
    before, after = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("start", "grown"))
    assert sum(p.numel() for p in after.parameters()) > sum(p.numel() for p in before.parameters())
    steps = told_steps(pair.coded)
    assert np.array_equal(restore_luma(before, pair, steps, 1), restore_luma(after, pair, steps, 1))


def test_a_training_aligns_neighbours_and_goes_on_from_what_did_not(pool: Path, tmp_path: Path) -> None:
    plain = small(pool, tmp_path / "plain", steps=2, rate=1e-2)
    assert len(list(train_video(plain, "cpu"))) == 2
    config = small(pool, tmp_path / "aligned", aligned=True, start=model_file(plain), steps=2, rate=1e-12)
    losses = [update.loss for update in train_video(config, "cpu")]
    assert load_descriptor(str(model_file(config))).aligned
    assert identity(config) != identity(dataclasses.replace(config, aligned=False))
    pair = read_pair(sorted(pool.glob("*.npy"))[0])
    steps = told_steps(pair.coded)
    standing = pair.coded.pictures[1:2].repeat(len(pair.truth), 0)
    still = ClipPair(pair.truth, dataclasses.replace(pair.coded, pictures=standing))
    before, after = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("plain", "aligned"))
    assert after.config == dataclasses.replace(before.config, aligned=True)
    gap = restore_luma(before, still, steps, 1).astype(int) - restore_luma(after, still, steps, 1)
    assert np.abs(gap).max() <= 1 and (gap != 0).mean() < 1e-3  # one sample or two round otherwise
    more = dataclasses.replace(config, start=model_file(config), output=tmp_path / "more")
    assert [update.loss for update in train_video(more, "cpu")] == pytest.approx(losses, rel=1e-3)
    with pytest.raises(UsageError, match="sees its neighbours aligned"):
        list(train_video(dataclasses.replace(more, aligned=False, output=tmp_path / "other"), "cpu"))
    with pytest.raises(UsageError, match="aligned is for 3 frames"):
        dataclasses.replace(config, frames=1)


def test_a_training_sees_five_frames_and_goes_on_from_three(pool: Path, tmp_path: Path) -> None:
    plain = small(pool, tmp_path / "plain", steps=2, rate=1e-2)
    assert len(list(train_video(plain, "cpu"))) == 2
    three = small(pool, tmp_path / "three", aligned=True, start=model_file(plain), steps=2, rate=1e-12)
    five = dataclasses.replace(three, frames=5, output=tmp_path / "five")
    losses = [[update.loss for update in train_video(config, "cpu")] for config in (three, five)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert load_descriptor(str(model_file(five))).frames == 5
    after = dataclasses.replace(five, start=model_file(three), output=tmp_path / "after", rate=1e-2)
    assert len(list(train_video(after, "cpu"))) == 2
    outer = load_checkpoint(tmp_path / "after" / "checkpoint.pt").head.weight[:, [*range(12), *range(48, 60)]]
    assert float(outer.detach().abs().mean()) > 0
    with pytest.raises(UsageError, match="frames 1, 3 or 5"):
        dataclasses.replace(five, frames=7)
    with pytest.raises(UsageError, match="3 frames and 5, which must be"):
        dataclasses.replace(five, aligned=False)


def test_a_part_of_what_a_training_began_with_is_kept(pool: Path, tmp_path: Path) -> None:
    start = small(pool, tmp_path / "start", steps=1, rate=1e-2)
    assert len(list(train_video(start, "cpu"))) == 1
    config = small(pool, tmp_path / "out", start=model_file(start), steps=2, rate=1e-2, average=0.1, kept_share=0.25)
    updates = train_video(config, "cpu")
    next(updates)
    updates.close()
    assert len(list(train_video(config, "cpu", resume=True))) == 1
    made, begun = (load_descriptor(str(model_file(one))).network.state_dict() for one in (config, start))
    learned = load_checkpoint(tmp_path / "out" / "checkpoint.pt").state_dict()
    assert max(float((learned[name] - begun[name]).abs().max()) for name in begun) > 1e-3  # far more than rounds off
    for name, weight in made.items():
        torch.testing.assert_close(weight, 0.75 * learned[name] + 0.25 * begun[name])
    assert identity(config) != identity(dataclasses.replace(config, kept_share=0.0))
    with pytest.raises(UsageError, match="kept_share is of the weights of start"):
        small(pool, tmp_path, kept_share=0.5)


def test_what_a_training_can_not_start_from_is_told(pool: Path, tmp_path: Path) -> None:
    config = small(pool, tmp_path / "out", aligned=True, steps=1)
    for start, error, why in (("photo", UsageError, "another network"), ("ns-iqa", UsageError, "is no ns_restore")):
        with pytest.raises(error, match=why):
            list(train_video(dataclasses.replace(config, start=Path(start)), "cpu"))
    network = load_descriptor("fast-video").network
    broken = tmp_path / "broken.safetensors"
    save_file(network.state_dict(), broken, {"architecture": "ns_restore", "config": "{bad"})
    with pytest.raises(ModelError, match="config"):
        list(train_video(dataclasses.replace(config, start=broken), "cpu"))


def test_a_training_on_clips_revives(pool: Path, tmp_path: Path) -> None:
    first = small(pool, tmp_path / "start", steps=1)
    assert len(list(train_video(first, "cpu"))) == 1
    start = NsRestore(network_config(first))
    start.load_state_dict(load_weights(str(model_file(first))).tensors)
    with torch.no_grad():
        start.get_parameter("body.0.conv1.bias")[:16] = -1e4
    save_model(start, tmp_path / "silent.safetensors", Metadata("ns_restore", "quantiser", "ycbcr"))
    found: dict[bool, int] = {}
    for revives in (False, True):
        config = small(
            pool, tmp_path / f"{revives}", start=tmp_path / "silent.safetensors", revive=revives, steps=2,
            validation=pool, validate_every=2,
        )  # fmt: skip
        found[revives] = list(train_video(config, "cpu"))[-1].silent_channels
    assert found[False] >= 16 > found[True]


def test_the_configuration_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "video.toml"
    file.write_text('cache = "c"\noutput = "o"\nsize = "tiny"\n')
    assert read_config(file, steps=7) == VideoTraining(cache=Path("c"), output=Path("o"), size="tiny", steps=7)
    for wrong in (
        "sise = 'tiny'",
        "size = 'gigantic'",
        "crop = 7",
        "seed = -1",
        "validate_every = 0",
        "rate = 'x'",
        "rate = inf",
        "rate = 0.0",
        "caution = -1.0",
        "head_gain = 0.0",
        "blind_share = 2.0",
        "warm_up = -1",
        "save_seconds = nan",
        "=",
    ):
        file.write_text(f'cache = "c"\noutput = "o"\n{wrong}\n')
        with pytest.raises(UsageError):
            read_config(file)


def test_an_empty_pool_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip pair"):
        next(train_video(small(tmp_path, tmp_path / "out"), "cpu"))


def test_clips_that_are_too_small_or_none_are_named(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clip-5-0000\d\.npy is \d+x\d+, smaller than a crop of 400"):
        next(train_video(small(pool, tmp_path / "out", crop=400), "cpu"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    np.save(foreign / "x.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"x\.npy is not a clip pair"):
        next(train_video(small(foreign, tmp_path / "out"), "cpu"))


def test_a_checkpoint_of_stills_is_no_start(pool: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    config = small(pool, tmp_path / "out", start=tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="no checkpoint of a training on clips"):
        next(train_video(config, "cpu"))


def test_the_command_makes_each_part_of_the_pool_and_trains(tmp_path: Path) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    for seed in range(2):
        cv2.imwrite(str(stills / f"still{seed}.png"), textured(300, 420, seed))
    part = f'[[make]]\npictures = ["{stills}"]\ncount = 1\n'
    recipe = tmp_path / "video.toml"
    recipe.write_text(
        f'cache = "{tmp_path / "pool"}"\noutput = "{tmp_path / "out"}"\n'
        'size = "tiny"\nsteps = 1\nbatch = 1\ncrop = 48\n'
        f"{part}seed = 1\n{part}seed = 2\nscreen_share = 1.0\n"
    )
    result = CliRunner().invoke(train_command, [str(recipe), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [path.name for path in sorted((tmp_path / "pool").iterdir())] == ["clip-1-00000.npy", "clip-2-00000.npy"]
    assert (tmp_path / "out" / "video.safetensors").is_file()
    assert [json.loads(row)["update"] for row in result.stdout.splitlines()] == ["step", "finished"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("[[make]]\nseed = 1", "count"),
        ('[[make]]\ncount = "many"', "count must be a whole number"),
        ("[make]\ncount = 1\nframes = 2", "unknown key: make.frames"),
        ("make = 5", "must be an array of tables"),
        ("[[make]]\ncount = 1\nseed = -1", "at least 0"),
    ],
)
def test_a_pool_that_cannot_be_made_is_named(make: str, said: str, tmp_path: Path) -> None:
    recipe = tmp_path / "video.toml"
    head = f'cache = "{tmp_path / "pool"}"\noutput = "{tmp_path / "out"}"\n'
    recipe.write_text(f"{make}\n{head}" if make.startswith("make") else f"{head}{make}\n")
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(train_command, [str(recipe)], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == [recipe]


def test_ctrl_c_waits_for_the_end_of_the_step(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [update.loss for update in train_video(small(pool, tmp_path / "whole"), "cpu")]
    parts: list[float] = []

    def interrupted(config: VideoTraining, step: int) -> float:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return learning_rate(config, step)

    with monkeypatch.context() as patch:
        patch.setattr("ns_video.training.video.learning_rate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parts += [update.loss for update in train_video(small(pool, tmp_path / "parts"), "cpu")]
    rest = [update.loss for update in train_video(small(pool, tmp_path / "parts"), "cpu", resume=True)]
    assert rest == whole[3:]  # the third step was finished and saved
    ends = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(ends[0]["averaged"][key], value) for key, value in ends[1]["averaged"].items())


@pytest.mark.parametrize(
    ("screen", "validation", "said"), [(0.0, True, "for validation"), (0.5, False, "for training")]
)
def test_a_side_without_pictures_is_named_before_clips_are_made(
    screen: float, validation: bool, said: str, moving: np.ndarray, tmp_path: Path
) -> None:
    """One still, which its name holds out or not; clips tell of no graphics."""
    stills, clips = tmp_path / "stills", tmp_path / "clips"
    stills.mkdir()
    clips.mkdir()
    name = next(f"{i}.png" for i in range(999) if is_held_out(Path(f"{i}.png"), 0.06) != validation)
    cv2.imwrite(str(stills / name), textured(300, 420, 1))
    (clips / "film.mkv").touch()
    recipe = tmp_path / "video.toml"
    recipe.write_text(
        f'cache = "{tmp_path / "pool"}"\noutput = "{tmp_path / "out"}"\nvalidation = "{tmp_path / "held"}"\n'
        f'[[make]]\npictures = ["{stills}"]\nclips = [{"" if validation else repr(str(clips))}]\n'
        f"count = 1\nscreen_share = {screen}\n"
    )
    with pytest.raises(InputError, match=f"none of 1 pictures is kept {said}"):
        CliRunner().invoke(train_command, [str(recipe)], catch_exceptions=False)
    assert not (tmp_path / "pool").exists()
    assert find_sources([clips], [stills], validation=True).clips  # clips suffice without graphics


def test_a_training_that_diverges_ends(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []

    def ruined(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        loss, gain = batch_loss(*given)  # pyright: ignore[reportArgumentType]
        losses.append(loss.item())
        return loss * (torch.inf if len(losses) == 3 else 1.0), gain

    monkeypatch.setattr("ns_video.training.video.batch_loss", ruined)
    updates = train_video(small(pool, tmp_path, save_seconds=0.0), "cpu")
    assert [next(updates).step for _ in range(2)] == [1, 2]
    with pytest.raises(ModelError, match="the training diverged"):
        next(updates)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not model_file(small(pool, tmp_path)).exists()


def test_only_a_training_s_own_checkpoint_is_resumed(pool: Path, tmp_path: Path) -> None:
    config = small(pool, tmp_path)
    with pytest.raises(ResumeError, match="no checkpoint"):
        train_video(config, "cpu", resume=True)
    updates = train_video(config, "cpu")
    next(updates)
    updates.close()
    with pytest.raises(UsageError, match="--resume"):
        train_video(config, "cpu")
    for change in ({"seed": 9}, {"rate": 1e-2}, {"optimizer": "muon"}, {"size": "small"}, {"start": Path("video")}):
        with pytest.raises(ResumeError, match="another configuration"):
            next(train_video(dataclasses.replace(config, **change), "cpu", resume=True))
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    earlier = content["training"].replace(', "repeats": "told as their source"', "")
    assert earlier != content["training"]
    torch.save({**content, "training": earlier}, tmp_path / "checkpoint.pt")
    with pytest.raises(ResumeError, match="another configuration"):  # its batches were told other quantisers
        next(train_video(config, "cpu", resume=True))
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(ResumeError, match="is damaged"):
        next(train_video(config, "cpu", resume=True))


def test_the_device_is_the_one_asked_for(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "video.toml"
    recipe.write_text(f'cache = "{pool}"\noutput = "{tmp_path / "out"}"\nsize = "tiny"\nsteps = 1\nbatch = 1\n')
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="cuda:7 is not there"):
        CliRunner().invoke(train_command, [str(recipe), "--device", "cuda:7"], catch_exceptions=False)
    with pytest.raises(UsageError, match="no device called"):
        CliRunner().invoke(train_command, [str(recipe), "--device", "gpu"], catch_exceptions=False)
    found: list[torch.device] = []
    sent = Process.sent

    def noted(self: Process, batch: Batch) -> Batch:
        found.append(sent(self, batch).luma.device)
        return sent(self, batch)

    monkeypatch.setattr("ns_video.training.video.find_process", lambda _: Process(0, 1, torch.device("meta")))
    monkeypatch.setattr(Process, "sent", noted)
    with pytest.raises((RuntimeError, NotImplementedError)):  # a loss on it has no value
        next(train_video(small(pool, tmp_path / "other"), "meta"))
    assert found == [torch.device("meta")] and not (tmp_path / "other" / "checkpoint.pt").exists()


def test_torchrun_trains_on_clips(pool: Path, tmp_path: Path) -> None:
    output, recipe = tmp_path / "out", tmp_path / "video.toml"
    recipe.write_text(
        f'cache = "{pool}"\noutput = "{output}"\nsize = "tiny"\nsteps = 2\nbatch = 1\ncrop = 32\nsave_seconds = 0\n'
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "ns_video", "train", str(recipe), "--device", "cpu", "--threads", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    updates = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [update.get("step") for update in updates] == [1, 2, None]  # one process speaks
    assert (output / "video.safetensors").is_file() and not list(output.glob("*.partial"))


def test_each_process_draws_its_own_batch(pool: Path, tmp_path: Path) -> None:
    config = small(pool, tmp_path)
    alone, first, second = (draw_batch(Pool(pool), config, 3, *rank) for rank in ((), (0,), (1,)))
    assert torch.equal(alone.luma, first.luma) and not torch.equal(first.luma, second.luma)


@pytest.mark.parametrize(
    ("name", "size", "parts"),
    [("video", "deeper", 3), ("newer-video", "deeper", 4), ("fast-video", "lean", 3), ("fast-newer-video", "lean", 3)],
)
def test_the_shipped_configurations_of_clips_are_sound(name: str, size: str, parts: int) -> None:
    """They go on from the model that they made."""
    path = Path(__file__).parent.parent / "pipelines" / "training" / f"{name}.toml"
    config = read_config(path)
    assert config.size == size and str(config.start) == name and len(read_makes(path)) == parts
    channels, blocks = SIZES[size]
    network = load_descriptor(name).network
    assert isinstance(network, NsRestore) and (network.config.channels, network.config.blocks) == (channels, blocks)
