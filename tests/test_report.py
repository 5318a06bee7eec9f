"""Reports of every kind of input: right numbers, documented keys, one file that asks nothing of anybody."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import resource
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from material import Recipe
from material import write_clip as clip_of

from ns_video.cli import run
from ns_video.cli.restore import summary
from ns_video.enhance import Enhancer
from ns_video.errors import InputError, Interrupted
from ns_video.frame import ColorInfo
from ns_video.media.metrics import frames_as_coded
from ns_video.media.report_pictures import square_pixels
from ns_video.pipeline import RestoreOptions, restore, restore_steps
from ns_video.places import check_places
from ns_video.quality.tone import HLG, PQ, is_hdr, to_sdr
from ns_video.record import PASSED_THROUGH, Damage, ModelInfo, RunRecord, StreamAction
from ns_video.report import Built, build_clip, build_run, json_text, to_json, write_csv, write_index, write_report
from ns_video.report.html import embedded_json, render, signed
from ns_video.report.verdict import clock
from ns_video.score import Sampler

WIDTH, HEIGHT = 256, 192
SHOT = 10
SAMPLE = Path(__file__).parents[1] / "samples" / "bbb_reference.mkv"


def two_shots() -> list[np.ndarray]:
    """Twenty pictures of real animation, (HEIGHT, WIDTH, 3) uint8: ten of one place, ten of another, mirrored."""
    with av.open(str(SAMPLE)) as container:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(SHOT), container.decode(video=0))]
    height, width = frames[0].shape[:2]
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    first = [frame[top : top + HEIGHT, left : left + WIDTH] for frame in frames]
    return first + [np.ascontiguousarray(255 - frame[:HEIGHT, :WIDTH][:, ::-1]) for frame in frames]


def write_clip(
    path: Path, pictures: list[np.ndarray], *, fmt: str = "yuv420p", pts: list[int] | None = None, **options: str
) -> Path:
    """An x264 clip, 40 ms a frame unless `pts` (1/1000 s) say otherwise."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=fmt)
            frame.pts, frame.time_base = pts[number] if pts else 40 * number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


TWO_SHOTS = two_shots()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return write_clip(folder / "clip.mkv", TWO_SHOTS, crf="36")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Path:
    return write_clip(folder / "reference.mkv", TWO_SHOTS, qp="0")


def data_of(path: Path, reference: Path | None = None) -> dict[str, Any]:
    return json.loads(json_text(build_clip(path, reference, limit=12 if reference is None else 6)))


def test_a_clip_alone_has_score_frames_and_shots(clip: Path) -> None:
    data = data_of(clip)
    assert data["schema"] == "ns-video-report/1" and data["kind"] == "clip"
    assert data["clip"] == str(clip)
    scores = [frame["ns_iqa"] for frame in data["frames"]]
    assert 6 <= len(scores) <= 12
    assert data["ns_iqa"] == pytest.approx(np.mean(scores), abs=0.01)
    assert [shot["first_frame"] for shot in data["shots"]] == [0, SHOT]
    assert [frame["index"] for frame in data["frames"] if frame["first_of_shot"]] == [0, SHOT]
    for frame in data["frames"]:
        assert frame["pts_seconds"] == pytest.approx(0.04 * frame["index"])
    assert data["streams"][0]["codec"] == "h264"
    assert data["damage"] == [] and data["run"] is None


def test_the_worse_coded_clip_scores_lower(folder: Path, clip: Path, reference: Path) -> None:
    worst = write_clip(folder / "worst.mkv", TWO_SHOTS, crf="49")
    scores = [data_of(path)["ns_iqa"] for path in (worst, clip, reference)]
    assert scores == sorted(scores)
    assert scores[2] - scores[0] > 10


def test_a_comparison_has_means_and_every_frame(clip: Path, reference: Path) -> None:
    data = data_of(clip, reference)
    assert data["kind"] == "comparison" and data["reference"] == str(reference)
    assert len(data["frames"]) == 2 * SHOT
    assert data["ssim"] == pytest.approx(np.mean([frame["ssim"] for frame in data["frames"]]), abs=1e-5)
    errors = [10 ** (-frame["psnr_y"] / 10) for frame in data["frames"]]
    assert data["psnr_y"] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-4)
    for name in ("psnr_u", "psnr_v", "psnr_rgb", "ms_ssim", "xpsnr"):
        assert isinstance(data[name], float)
    assert data["alignment"]["compared"] == 2 * SHOT and data["alignment"]["problems"] == []
    assert data["identical"] is False


def test_every_scored_frame_of_a_thinned_comparison_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ns_video.report.build._MOST_FRAMES", 10)
    path = write_clip(folder / "odd.mkv", [*TWO_SHOTS[1:], *TWO_SHOTS[:7]], qp="0")  # the second shot begins at frame 9
    data = data_of(path, path)
    scored = [frame["index"] for frame in data["frames"] if "ns_iqa" in frame]
    assert 9 in scored and len(scored) == data["cost"]["frames_sampled"]
    assert [frame["index"] for frame in data["frames"]] == sorted({*range(0, 26, 4), *scored})


def test_ms_ssim_stands_for_all_of_a_long_comparison(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first quarter equals the reference, the rest is blurred."""
    monkeypatch.setattr("ns_video.report.build._MS_SSIM_FRAMES", 10)
    pictures = [np.ascontiguousarray(picture[:64, :96]) for picture in [*TWO_SHOTS, *TWO_SHOTS]]
    blurred = [picture if n < 10 else cv2.GaussianBlur(picture, (0, 0), 4) for n, picture in enumerate(pictures)]
    sharp = write_clip(folder / "sharp.mkv", pictures, qp="0")
    long = write_clip(folder / "blurred.mkv", blurred, qp="0")
    data = data_of(long, sharp)
    measured = {frame["index"]: frame["ms_ssim"] for frame in data["frames"] if "ms_ssim" in frame}
    assert list(measured) == list(range(0, 40, 4))
    assert data["ms_ssim"] == pytest.approx(np.mean(list(measured.values())), abs=1e-5)
    monkeypatch.undo()
    assert data["ms_ssim"] == pytest.approx(data_of(long, sharp)["ms_ssim"], abs=0.03)


def test_equal_clips_are_said_to_be_equal_in_valid_json(reference: Path) -> None:
    data = data_of(reference, reference)
    assert data["identical"] is True and data["psnr_y"] is None and data["ssim"] == 1.0
    assert all(frame["identical"] for frame in data["frames"])
    assert "the same samples" in " ".join(sentence["text"] for sentence in data["verdict"])
    assert {sentence["tone"] for sentence in data["verdict"]} == {"good"}, "whatever the score"


def test_a_frame_whose_chroma_differs_is_not_identical(folder: Path, reference: Path) -> None:
    pale = folder / "pale.mkv"
    with av.open(str(reference)) as clip, av.open(str(pale), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=WIDTH, height=HEIGHT)
        for _, frame in zip(range(2), clip.decode(video=0)):
            np.frombuffer(frame.planes[2], np.uint8)[:] = 128
            frame.pict_type = 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = data_of(pale, reference)
    for frame in data["frames"]:
        assert frame["psnr_y"] is frame["psnr_u"] is None and frame["psnr_v"] < 40
        assert frame["identical"] is False
    assert data["identical"] is False and data["identical_luma"] is True
    said = {sentence["text"].partition(":")[0]: sentence["tone"] for sentence in data["verdict"]}
    assert said["Colour differs"] == ("bad" if data["psnr_v"] < 35 else "plain") and "good" not in said.values()


def drawn(path: Path, fmt: str, count: int = 2, *, start: int = 0, alpha: int = 255) -> Path:
    """FFV1 of the first pictures, with this alpha where `fmt` has one."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=WIDTH, height=HEIGHT, pix_fmt=fmt)
        for number in range(count):
            opaque = np.dstack([TWO_SHOTS[start + number], np.full((HEIGHT, WIDTH), alpha, np.uint8)])
            frame = av.VideoFrame.from_ndarray(opaque, format="rgba").reformat(format=fmt)
            frame.pts, frame.time_base = start + number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_transparency_and_colour_count(tmp_path: Path) -> None:
    truth, veiled = (drawn(tmp_path / f"a{alpha}.mkv", "yuva420p", alpha=alpha) for alpha in (255, 90))
    data = data_of(veiled, truth)
    assert data["identical_luma"] is True and data["identical"] is False and data["frames"][0]["psnr_a"] < 10
    assert any(s["tone"] == "bad" and s["text"].startswith("Transparency differs") for s in data["verdict"])
    assert data_of(truth, truth)["identical"] is True
    for fmt, left in (("yuv420p", ["transparency"]), ("gray", ["colour", "transparency"])):
        without = drawn(tmp_path / f"{fmt}.mkv", fmt)
        data = data_of(without, veiled)
        assert data["identical"] is False and data["alignment"]["left_out"] == left
        assert " and ".join(left) in data["alignment"]["problems"][0]
        data = data_of(without, truth)  # alpha that hides nothing
        assert data["alignment"]["left_out"] == left[:-1] and data["identical"] is (fmt == "yuv420p")


def test_frames_without_partner_count_for_the_clip(tmp_path: Path) -> None:
    """Its score, size, shots and frame numbers are those of the whole clip."""
    clip, part = drawn(tmp_path / "clip.mkv", "yuv420p", 20), drawn(tmp_path / "part.mkv", "yuv420p", 5, start=15)
    alone, data = (json.loads(json_text(build_clip(clip, other))) for other in (None, part))
    assert data["alignment"]["compared"] == 5 and data["alignment"]["offset_seconds"] == 0
    assert data["identical"] is True and not any("its reference's" in s["text"] for s in data["verdict"])
    assert data["cost"]["frames_seen"] == 20 and data["ns_iqa"] == alone["ns_iqa"] and data["shots"] == alone["shots"]
    assert [frame["index"] for frame in data["frames"]] == list(range(20))
    assert [frame["index"] for frame in data["frames"] if "psnr_y" in frame] == list(range(15, 20))
    assert all(frame["pts_seconds"] == pytest.approx(0.04 * frame["index"]) for frame in data["frames"])


def test_nothing_compared_is_an_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The reference begins between two frames of the clip, with other pictures."""
    small = [cv2.resize(picture, (64, 48)) for picture in TWO_SHOTS[:SHOT]]
    clip = write_clip(tmp_path / "clip.mkv", small * 6, crf="36")
    other = write_clip(tmp_path / "other.mkv", [255 - p[::-1] for p in small], pts=[2020 + 40 * n for n in range(SHOT)])
    assert run(["report", str(clip), "--reference", str(other), "-o", str(tmp_path / "x.html")]) == 1
    assert "nothing was compared" in capfd.readouterr().err
    assert json.loads((tmp_path / "x.json").read_text())["ns_iqa"] > 0


def test_flicker_is_said_without_a_run(tmp_path: Path) -> None:
    """Every second frame is darker."""
    steady = [TWO_SHOTS[0]] * 12
    pulsing = [picture if number % 2 else picture // 8 * 7 for number, picture in enumerate(steady)]
    truth, clip = write_clip(tmp_path / "a.mkv", steady, crf="20"), write_clip(tmp_path / "b.mkv", pulsing, crf="20")
    for reference, tone, words in (
        (truth, "bad", "More flicker than the reference"),
        (None, "plain", "The picture fl"),
    ):
        data = data_of(clip, reference)
        assert any(s["tone"] == tone and s["text"].startswith(words) for s in data["verdict"])
        assert ("flicker_reference" in data["temporal"]) == (reference is not None)
    assert not any("flicker" in s["text"] for s in data_of(truth)["verdict"])


def test_a_table_without_frames_is_known_as_ours(tmp_path: Path) -> None:
    clip, other = drawn(tmp_path / "clip.mkv", "yuv420p", 9), drawn(tmp_path / "other.mkv", "yuv420p", 1)
    for number, built in enumerate((build_clip(clip), build_clip(clip, other), build_clip(other))):
        write_csv(built, tmp_path / f"{number}.csv")
        check_places([tmp_path / f"{number}.csv"], [])
        head = (tmp_path / f"{number}.csv").read_text().splitlines()[0].split(",")
        assert ("psnr_a" in head) == (number == 1)


def test_a_flat_frame_makes_no_mean_infinite(clip: Path) -> None:
    report = build_clip(clip, limit=3).report
    first, rest = report.frames[0], report.frames[1:]
    assert first.before is not None
    flat = dataclasses.replace(first.before, filters=dataclasses.replace(first.before.filters, block=math.inf))
    data = to_json(dataclasses.replace(report, frames=(dataclasses.replace(first, before=flat), *rest)))
    blocks = [frame["block"] for frame in data["frames"]]
    assert blocks[0] is None and data["means"]["block"] == pytest.approx(np.mean(blocks[1:]), abs=1e-6)


def test_a_ten_bit_clip_is_compared_in_ten_bits(folder: Path) -> None:
    truth = write_clip(folder / "truth10.mkv", TWO_SHOTS[:6], fmt="yuv420p10le", qp="0")
    coded = write_clip(folder / "coded10.mkv", TWO_SHOTS[:6], fmt="yuv420p10le", crf="20")
    data = data_of(coded, truth)
    assert data["frames"][0]["luma_mean"] > 255  # 10-bit code values
    assert 30 < data["psnr_y"] < 60
    assert data["frames"][0]["ns_iqa"] > 40


def test_a_variable_rate_clip_keeps_its_times(folder: Path) -> None:
    pts = [0, 40, 80, 200, 220, 700, 1500]
    data = data_of(write_clip(folder / "vfr.mkv", TWO_SHOTS[:7], pts=pts))
    assert [frame["pts_seconds"] for frame in data["frames"]] == pytest.approx([p / 1000 for p in pts])


def test_damage_in_the_middle_is_located_and_the_rest_scored(folder: Path) -> None:
    path = write_clip(folder / "whole.ts", TWO_SHOTS * 3, crf="20", g="10")
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 4000] = np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    broken = folder / "broken.ts"
    broken.write_bytes(raw)
    data = data_of(broken)
    assert data["damage"], "damage must be seen"
    places = [place["pts_seconds"] for place in data["damage"] if place["pts_seconds"] is not None]
    start = data["frames"][0]["pts_seconds"]
    assert any(0.4 < place - start < 2.2 for place in places)
    assert any("damaged" in sentence["text"] for sentence in data["verdict"])
    assert data["cost"]["frames_seen"] >= 40 and len(data["frames"]) >= 6


def test_a_one_frame_clip_and_a_still(folder: Path) -> None:
    data = data_of(write_clip(folder / "one.mp4", TWO_SHOTS[:1]))
    assert len(data["frames"]) == len(data["shots"]) == 1
    still, worse = folder / "still.png", folder / "worse.jpg"
    cv2.imwrite(str(still), TWO_SHOTS[0][..., ::-1])
    cv2.imwrite(str(worse), TWO_SHOTS[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 12])
    alone = data_of(worse)
    assert alone["streams"][0]["type"] == "picture" and len(alone["frames"]) == 1
    compared = data_of(worse, still)
    assert 15 < compared["psnr_y"] < 45 and 0.3 < compared["ssim"] < 0.999
    assert data_of(still)["ns_iqa"] > alone["ns_iqa"]


@pytest.mark.parametrize("size", [(1, 7), (44, 44)], ids=str)
def test_the_smallest_pictures_have_a_report(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    still, other = tmp_path / "still.png", tmp_path / "other.png"
    cv2.imwrite(str(still), picture)
    cv2.imwrite(str(other), picture // 2)
    data = data_of(still, other)
    assert data["psnr_y"] > 0 and data["xpsnr"] is None and data["frames"][0]["xpsnr"] is None
    assert any(sentence["text"].startswith("Against the reference: PSNR") for sentence in data["verdict"])


def test_pictures_stand_upright(rotated_clip: Path) -> None:
    picture = build_clip(rotated_clip).pictures[0]
    with av.open(str(rotated_clip)) as container:
        stream = container.streams.video[0]
        assert (picture.width, picture.height) == (stream.height, stream.width)


def test_pictures_are_as_wide_as_their_pixels(sar_clip: Path) -> None:
    picture = build_clip(sar_clip).pictures[0]
    with av.open(str(sar_clip)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(16, 11)
        assert (picture.width, picture.height) == (round(stream.width * 16 / 11), stream.height)
        assert picture.source_size == f"{stream.width}×{stream.height}"


@pytest.mark.parametrize("size", [(80, 60), (64, 48)])
def test_a_stretched_picture_is_shown_with_square_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    source = clip_of(tmp_path / "wide.mkv", Recipe(aspect=Fraction(2), times=(0, 40)))
    page, target = tmp_path / "out.html", tmp_path / "out.mkv"
    restore(source, target, model="identity", size=size, fit="stretch", report=page)
    with av.open(str(target)) as clip:
        assert clip.streams.video[0].sample_aspect_ratio in (None, 1)
    pictures = re.search(r'id="report-pictures">(.*?)</script>', page.read_text(), re.DOTALL)
    assert pictures
    assert all((picture["width"], picture["height"]) == size for picture in json.loads(pictures[1]))


def test_a_reference_is_shown_as_its_clip(tmp_path: Path) -> None:
    clip = clip_of(tmp_path / "wide.mkv", Recipe(aspect=Fraction(2), times=(0, 40)))
    reference = clip_of(tmp_path / "square.mkv", Recipe(times=(0, 40)))
    picture = build_clip(clip, reference).pictures[0]
    assert (picture.width, picture.height) == (128, 48)


def test_absurd_pixels_are_shown_square() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    assert square_pixels(picture, Fraction(1, 1000)) is picture
    assert square_pixels(picture, Fraction(1)) is picture
    assert square_pixels(picture, Fraction(2)).shape == (20, 60, 3)


def test_pq_and_hlg_white_look_alike_and_gray() -> None:
    """BT.2408: diffuse white is 203 cd/m², 58 % of PQ's signal and 75 % of HLG's."""
    pq, hlg = ColorInfo(transfer=PQ, primaries=9), ColorInfo(transfer=HLG, primaries=9)
    assert is_hdr(pq) and is_hdr(hlg) and not is_hdr(ColorInfo(transfer=1))
    white = [
        float(to_sdr(np.full((1, 1, 3), code, np.float32), color)[0, 0, 1])
        for code, color in ((0.5806, pq), (0.75, hlg))
    ]
    assert abs(white[0] - white[1]) < 0.01
    assert 0.7 < white[0] < 0.85
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 3, 2)
    for color in (pq, hlg):
        shown = to_sdr(ramp, color)
        assert bool((np.diff(shown[0, :, 0]) >= 0).all()) and shown[0, 0, 0] == 0 and shown[0, -1, 0] > 0.999
        assert float(np.abs(shown - shown[..., :1]).max()) < 0.01


def test_a_picture_and_a_clip_cannot_be_compared(folder: Path, clip: Path) -> None:
    still = folder / "another.png"
    cv2.imwrite(str(still), TWO_SHOTS[0])
    for one, other in ((still, clip), (clip, still)):
        with pytest.raises(InputError, match="is a picture"):
            build_clip(one, other)


def observed(first: Path, second: Path) -> Sampler:
    sampler = Sampler(limit=6)
    with frames_as_coded(first) as one, frames_as_coded(second) as other:
        for before, after in zip(one.frames(), other.frames()):
            sampler.observe(before, after)
    return sampler


def run_record(clip: Path, output: Path) -> RunRecord:
    return RunRecord(
        version="9.9",
        input=str(clip),
        output=str(output),
        preset="video",
        model=ModelInfo("somebody's <model>", "cafe" * 16),
        device="cpu",
        precision="bf16",
        frames_in=20,
        frames_out=20,
        seconds=10_000.0,
        fps=1.5,
        damage=[Damage(0.4, "a <script>alert(1)</script> & more")],
        streams=[StreamAction(0, "video", "h264", "restored")],
        fallbacks={"smaller tile": 2},
    )


def test_a_run_that_changed_nothing_is_neither_improved_nor_bad(clip: Path) -> None:
    record = run_record(clip, clip)
    record.damage, record.warnings = [], ["nothing was restored: the clip is clean"]
    built = build_run(record, observed(clip, clip))
    assert not any("improved" in picture.why for picture in built.pictures)
    assert [sentence.tone for sentence in built.report.verdict] == ["plain", "plain"]


def test_a_flat_frame_has_no_say_in_the_mean_of_blocks(tmp_path: Path) -> None:
    flat = np.full_like(TWO_SHOTS[0], 90)
    flat[64:128, 64:128] = 200  # edges nowhere but on the grid of blocks
    built = build_clip(write_clip(tmp_path / "title.mkv", [flat, *TWO_SHOTS[:3]], qp="0"))
    assert built.report.frames[0].before and built.report.frames[0].before.filters.block == float("inf")
    data = to_json(built.report)
    blocks = [frame["block"] for frame in data["frames"]]
    assert blocks[0] is None and data["means"]["block"] == pytest.approx(np.mean(blocks[1:]), abs=1e-5)


def test_a_run_has_both_sides_and_its_record(folder: Path, clip: Path, reference: Path) -> None:
    built = build_run(run_record(clip, reference), observed(clip, reference))
    data = to_json(built.report)
    assert data["kind"] == "run" and data["run"]["preset"] == "video"
    assert data["after"]["ns_iqa"] > data["before"]["ns_iqa"] + 5
    assert data["ns_iqa"] == data["after"]["ns_iqa"]
    for frame in data["frames"]:
        assert frame["ns_iqa"] == frame["after"]["ns_iqa"]
    assert data["verdict"][0]["tone"] == "good"
    for name in ("flicker_before", "flicker_after", "change_flicker", "luma_drift", "cb_drift", "cr_drift"):
        assert data["temporal"][name]["mean"] is not None
    assert data["cost"]["share_of_run"] < 0.05
    backwards = to_json(build_run(run_record(reference, clip), observed(reference, clip)).report)
    assert backwards["verdict"][0]["tone"] == "bad"


def test_a_short_run_is_scored_on_few_frames(clip: Path, reference: Path) -> None:
    record = run_record(clip, reference)
    record.seconds = 0.01
    built = build_run(record, observed(clip, reference))
    assert built.report.cost.frames_sampled == 3
    assert len(built.pictures) == 1


def test_the_page_is_one_file_that_loads_nothing(folder: Path, clip: Path, reference: Path) -> None:
    page = render(build_run(run_record(clip, reference), observed(clip, reference)))
    sources = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "default-src 'none'" in page
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert "somebody&#39;s &lt;model&gt;" in page
    assert len(page.encode()) < 5_000_000
    assert "MIT" in page and "Leon Sorokin" in page and "Dmitry Snisarenko" in page


def test_embedded_json_can_not_end_its_element() -> None:
    text = str(embedded_json({"name": "</script><b>&"}))
    assert "<" not in text and json.loads(text) == {"name": "</script><b>&"}
    with pytest.raises(ValueError, match="JSON"):
        embedded_json(float("inf"))


def test_files_are_written_whole_and_csv_holds_every_frame(tmp_path: Path, clip: Path, reference: Path) -> None:
    built = build_clip(clip, reference, limit=4)
    target = write_report(built, tmp_path / "r.html")
    assert target == tmp_path / "r.json" and sorted(p.name for p in tmp_path.iterdir()) == ["r.html", "r.json"]
    write_csv(built, tmp_path / "f.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text())))
    data = json.loads(target.read_text())
    assert len(rows) == 2 * SHOT
    assert float(rows[7]["psnr_y"]) == data["frames"][7]["psnr_y"]
    assert float(rows[0]["ns_iqa"]) == data["frames"][0]["ns_iqa"]


def test_a_csv_without_frames_is_known_again(tmp_path: Path, clip: Path, reference: Path) -> None:
    built = build_clip(clip, reference, limit=2)
    target = tmp_path / "f.csv"
    write_csv(built, target)
    header = target.read_text().splitlines()[0]
    write_csv(dataclasses.replace(built, report=dataclasses.replace(built.report, frames=())), target)
    assert target.read_text().splitlines() == [header] and "psnr_y" in header
    check_places([target], [clip])


def delayed(source: Path, path: Path, streams: list[int], late: Fraction) -> Path:
    """The clip again, `late` seconds later in these streams, whose packets are in order."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as out:
        made = {stream.index: out.add_stream_from_template(stream) for stream in clip.streams}
        for stream in clip.streams:
            made[stream.index].disposition = int(stream.disposition)
        for packet in clip.demux():
            if packet.size:
                if packet.stream_index in streams:
                    packet.pts = packet.dts = packet.pts + int(late / packet.time_base)
                packet.stream = made[packet.stream_index]
                out.mux(packet)
    return path


def sound_said(source: Path, target: Path, **options: Any) -> tuple[list[tuple[float, float | None]], str]:
    """(begin of sound after, before) of a run's streams, and its verdict."""
    restore(source, target, model="identity", report=target.with_suffix(".html"), **options)
    data = json.loads(target.with_suffix(".json").read_text())
    starts = [(row["start_seconds"], row["before"] and row["before"]["start_seconds"]) for row in data["audio_offsets"]]
    return starts, " ".join(sentence["text"] for sentence in data["verdict"])


def test_sound_is_compared_with_the_stream_that_it_was(tmp_path: Path) -> None:
    """MPEG-TS takes no FLAC: the output's first sound is the input's second."""
    straight = clip_of(tmp_path / "straight.mkv", Recipe(audio=(("flac", "eng"), ("mp2", "deu"))))
    source = delayed(straight, tmp_path / "late.mkv", [2], Fraction(1))
    starts, said = sound_said(source, tmp_path / "out.ts")
    ((after, before),) = starts
    assert after == pytest.approx(before, abs=0.005) and after == pytest.approx(1, abs=0.05)
    assert "Audio" not in said


def test_frames_that_could_not_be_restored_are_no_damage_of_the_input(
    plain_clip: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Enhancer, "_restored", fail)
    page = tmp_path / "out.html"
    record = restore(plain_clip, tmp_path / "out.mkv", model=str(small_model), device="cpu", report=page)
    assert record.frames_passed_through == record.frames_in > 0 and record.exit_code == 3
    said = [sentence["text"] for sentence in json.loads(page.with_suffix(".json").read_text())["verdict"]]
    assert f"{record.frames_in} frames were passed through unrestored." in said
    told = summary(record)
    assert f"not restored: {record.frames_in} frames; the first: a frame passed through" in told
    assert "damage:" not in told
    assert not any("damaged in" in text for text in said)


def test_names_with_odd_characters_are_opened_as_they_are(tmp_path: Path) -> None:
    source = clip_of(tmp_path / "new\nline.mkv", Recipe(audio=(("mp2", "eng"),)))
    starts, _ = sound_said(source, tmp_path / "b\tell.mkv")
    ((after, before),) = starts
    assert after == before


def test_a_cut_has_no_place_where_its_sound_was(tmp_path: Path) -> None:
    straight = clip_of(tmp_path / "straight.mkv", Recipe(audio=(("mp2", "eng"),), times=tuple(range(0, 2000, 40))))
    source = delayed(straight, tmp_path / "late.mkv", [1], Fraction(1))
    starts, said = sound_said(source, tmp_path / "out.mkv", start=0.5)
    ((after, before),) = starts
    assert after == pytest.approx(0.5, abs=0.05) and before is None
    assert "Audio" not in said


def test_the_index_lists_reports_with_relative_links(tmp_path: Path, clip: Path, reference: Path) -> None:
    inner = tmp_path / "a folder"
    inner.mkdir()
    write_report(build_run(run_record(clip, reference), observed(clip, reference)), inner / "x.mkv.html")
    write_index(tmp_path / "index.html", [("a folder/<x>.mkv", inner / "x.mkv.html")])
    page = (tmp_path / "index.html").read_text()
    assert 'href="a%20folder/x.mkv.html"' in page and "&lt;x&gt;.mkv" in page
    assert "damaged in 1 place" in page
    with pytest.raises(InputError, match="missing"):
        write_index(tmp_path / "index.html", [("missing", tmp_path / "missing.html")])


def test_the_index_marks_damage(tmp_path: Path, clip: Path, reference: Path) -> None:
    sound = run_record(clip, reference)
    sound.damage = []
    damaged = dataclasses.replace(sound, damage=[Damage(0.2, "h264: concealing"), Damage(0.4, "h264: concealing")])
    passed = dataclasses.replace(sound, damage=[Damage(0.2, f"a frame was {PASSED_THROUGH}")], frames_passed_through=1)
    report = build_run(sound, observed(clip, reference)).report
    pages = []
    for name, record in (("sound", sound), ("damaged", damaged), ("passed", passed)):
        pages.append((name, tmp_path / f"{name}.html"))
        write_report(Built(dataclasses.replace(report, run=record, damage=tuple(record.damage)), ()), pages[-1][1])
    write_index(tmp_path / "index.html", pages)
    page = (tmp_path / "index.html").read_text()
    assert re.findall('<b class="bad">(.*?)</b>', page) == ["damaged in 2 places", "1 frame not restored"]
    assert ", 2 damaged or not wholly restored</p>" in page


@pytest.mark.parametrize("stopped", ["after 8 frames", "while muxing", "with a hole"])
def test_a_resumed_run_reports_all_of_the_clip(stopped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was restored before is taken from its segments: as the uninterrupted run, where these are lossless."""
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (6, 6))
    monkeypatch.setattr("ns_video.report.build.RUN_SHARE", 0.0)  # the least that is scored, always the same
    source, target = write_clip(tmp_path / "in.mkv", TWO_SHOTS, crf="30"), tmp_path / "out.mkv"

    def report() -> dict[str, Any]:
        return json.loads((tmp_path / "out.json").read_text())

    def run(**options: Any) -> RunRecord:
        return restore(source, target, model="identity", codec="ffv1", report=tmp_path / "out.html", **options)

    assert run().exit_code == 0
    whole = report()
    cancel, options = threading.Event(), RestoreOptions(model="identity", codec="ffv1", overwrite=True)
    steps = restore_steps(str(source), str(target), options, cancel)
    with suppress(Interrupted):
        for progress in steps:
            if stopped == "after 8 frames" and progress.frames == 8:
                cancel.set()
            elif stopped != "after 8 frames" and progress.phase == "mux":
                steps.close()
    if stopped == "with a hole":
        next(tmp_path.glob(".ns-video-*/segment-000001.nut")).unlink()
    done = run(resume=True, overwrite=True)
    resumed = report()
    assert done.exit_code == 0 and done.segments_resumed == {"after 8 frames": 1, "with a hole": 3}.get(stopped, 4)
    assert resumed["cost"]["frames_seen"] == whole["cost"]["frames_seen"] == 20
    for key in ("shots", "frames", "temporal", "ns_iqa", "verdict"):
        assert resumed[key] == whole[key], key
    assert any("restored before the run was resumed" in text for text in resumed["warnings"])


def test_what_a_resumed_run_takes_from_segments_is_measured_as_the_clip_is_coded(tmp_path: Path) -> None:
    """A GIF's RGB of full range beside YUV of limited range: luma was seven steps off, by a palette it is one."""
    source, target = write_clip(tmp_path / "in.mkv", TWO_SHOTS, crf="30"), tmp_path / "out.gif"
    steps = restore_steps(str(source), str(target), RestoreOptions(model="identity"))
    for progress in steps:
        if progress.phase == "mux":
            steps.close()
    assert restore(source, target, model="identity", resume=True, report=tmp_path / "out.html").segments_resumed == 1
    report = json.loads((tmp_path / "out.json").read_text())
    assert abs(report["temporal"]["luma_drift"]["mean"]) < 2 and report["ns_iqa"] is not None


def test_what_rounds_to_zero_has_no_minus() -> None:
    assert [signed(value, 3) for value in (-0.0004, 0.0, 0.0004, -0.0006)] == ["+0.000"] * 3 + ["-0.001"]
    assert signed(-0.04, 1) == "+0.0"


def test_times_read_like_clocks() -> None:
    assert clock(3.4567) == "3.457 s"
    assert clock(83.5) == "1:23.500"
    assert clock(3723.25) == "1:02:03.250"
    assert [clock(t) for t in (59.9997, 119.9999, 3599.9996)] == ["1:00.000", "2:00.000", "1:00:00.000"]
    assert [clock(t) for t in (-0.0001, -59.9999, -3723.25)] == ["0.000 s", "-1:00.000", "-1:02:03.250"]
    assert clock(None) == "an unknown time"


def loop(path: Path, source: list[np.ndarray], frames: int) -> Path:
    """A clip of `frames` frames whose packets are those of a short one, again and again."""
    short = write_clip(path.with_name("short.mkv"), source, crf="40", g=str(len(source)), bf="0")
    with av.open(str(short)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    with av.open(str(short)) as template, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(template.streams.video[0])
        for number in range(frames):
            packet = av.Packet(packets[number % len(packets)])
            packet.pts = packet.dts = 40 * number
            packet.duration, packet.time_base, packet.stream = 40, Fraction(1, 1000), stream
            packet.is_keyframe = number % len(packets) == 0
            container.mux(packet)
    return path


@pytest.mark.torture
def test_an_hour_is_reported_in_bounded_memory(tmp_path: Path) -> None:
    small = [cv2.resize(picture, (96, 64)) for picture in TWO_SHOTS]
    data_of(loop(tmp_path / "minute.mkv", small, 1500))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hour = loop(tmp_path / "hour.mkv", small, 90_000)
    built = build_clip(hour)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    data = to_json(built.report)
    assert data["cost"]["frames_seen"] == 90_000
    assert len(data["frames"]) <= 48
    assert data["frames"][-1]["pts_seconds"] > 3000
    assert len(render(built).encode()) < 5_000_000
    assert grown < 100_000, f"{grown} KiB more for an hour than for a minute"
