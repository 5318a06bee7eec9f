"""The self-check: silent on what is right, and each doctored output is named."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from checked import found
from conftest import ffmpeg
from material import FRAMES, Recipe, picture, write_clip
from PIL import Image, ImageCms

import ns_video
from ns_video.color import to_tensor
from ns_video.enhance import Enhancer
from ns_video.errors import UsageError, VerificationError
from ns_video.frame import ColorInfo, Frame
from ns_video.media import encode, mux
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.decode import open_clip
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore


def test_silent_on_what_is_right(finished: Path, two_audio_subs_chapters_clip: Path) -> None:
    assert ns_video.verify(two_audio_subs_chapters_clip, finished) == []
    assert ns_video.verify(two_audio_subs_chapters_clip, finished, full=False) == []


@pytest.mark.parametrize("name", ["rotated_clip", "sar_clip", "full_range_601_clip", "vfr_clip", "one_frame_clip"])
def test_silent_on_every_hazard(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source: Path = request.getfixturevalue(name)
    for suffix in ("mkv", "mp4", "mov"):
        target = tmp_path / f"out.{suffix}"
        restore(source, target, model="identity")
        assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["ts", "flv", "nut", "avi"])
def test_silent_where_sound_begins_before_the_container_does(suffix: str, tmp_path: Path) -> None:
    """All streams are moved, or the sound before 0 is left out; both the run says."""
    source = write_clip(tmp_path / "priming.mp4", Recipe(audio=[("aac", "eng")]))
    target = tmp_path / f"out.{suffix}"
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []
    with av.open(str(target)) as clip:
        late = clip.streams.video[0].start_time
    if suffix == "ts":
        assert late and late > 0
        ffmpeg("-i", target, "-c", "copy", "-output_ts_offset", "0.2", "-copyts", tmp_path / "late.ts")
        assert "the video begins at" in found(source, tmp_path / "late.ts")


def test_silent_on_limited_range_without_other_tags(tmp_path: Path) -> None:
    """H.264 and HEVC write no range where nothing else is tagged: limited is what players take for granted."""
    source = write_clip(tmp_path / "limited.mkv", Recipe("ffv1", options={}, color=(2, 1, 2, 2)))
    for name, codec in (("a.mov", "libx264"), ("b.mp4", "libx265"), ("c.mkv", "libx264")):
        restore(source, tmp_path / name, model="identity", codec=codec)
        assert ns_video.verify(source, tmp_path / name) == []


@pytest.mark.parametrize("container", ["matroska", "webm", "mp4", "mov", "mpegts", "avi", "nut", "gif"])
def test_the_container_is_told_by_what_the_file_holds(container: str, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "in.mkv", Recipe(audio=[("aac", "eng")])), tmp_path / "out.bin"
    assert restore(source, target, model="identity", format=container).exit_code == 0
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["gif", "apng", "y4m", "mxf", "mpg", "webp"])
def test_silent_where_a_late_start_is_not_held(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.ts", tmp_path / f"out.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.4", "-c:v", "libx264", "-output_ts_offset", "1.013", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and ns_video.verify(source, target) == []
    assert any("ms earlier" in text for text in record.warnings) == (suffix not in ("mpg", "webp"))


@pytest.mark.parametrize("suffix", ["gif", "apng", "webp", "avi", "ts", "nut", "mpg", "ivf"])
def test_turns_that_a_container_cannot_tell(
    suffix: str, rotated_clip: Path, mirrored_clip: Path, tmp_path: Path
) -> None:
    """Animations are turned; the others say what is to be done."""
    for source, how in ((rotated_clip, "turned by 90 degrees clockwise"), (mirrored_clip, "mirrored")):
        target = tmp_path / f"{source.stem}.{suffix}"
        record = restore(source, target, model="identity")
        assert any(f"shown {how}, which" in text for text in record.warnings)
        assert record.exit_code == 0 and ns_video.verify(source, target) == []
        if suffix in ("apng", "webp"):
            with Image.open(target) as made:
                shown = np.asarray(made.convert("RGB"))
            with open_clip(source) as reader:
                frame = next(reader.frames())
            stored = to_tensor(frame.planes, frame.format, frame.color, "rgb")[0].permute(1, 2, 0).numpy() * 255
            wanted = np.rot90(stored, -1) if source == rotated_clip else stored[:, ::-1]
            assert np.abs(shown - wanted).mean() < 3


@pytest.mark.parametrize(
    ("suffix", "told"), [("mpg", False), ("ivf", False), ("webp", False), ("gif", True), ("avi", True)]
)
def test_the_shape_of_pixels_is_kept_or_named(suffix: str, told: bool, sar_clip: Path, tmp_path: Path) -> None:
    record = restore(sar_clip, tmp_path / f"out.{suffix}", model="identity")
    assert record.exit_code == 0 and ns_video.verify(sar_clip, tmp_path / f"out.{suffix}") == []
    assert any("shape of a pixel, 16:11" in text for text in record.warnings) != told


def test_silent_on_an_empty_tick_in_avi(tmp_path: Path) -> None:
    """libav makes up presentation times of H.264 in AVI, wrong ones behind a tick without a frame."""
    source, target = tmp_path / "in.avi", tmp_path / "out.avi"
    video = write_clip(tmp_path / "in.mkv", Recipe(times=(0, *range(80, 400, 40))))
    ffmpeg("-i", video, "-c:v", "mpeg4", "-fps_mode", "passthrough", "-enc_time_base", "1/25", source)
    with open_clip(source) as reader:
        assert [frame.pts for frame in reader.frames()][:3] == [0, 2, 3]
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["y4m", "mpg", "avi", "mkv"])
def test_an_animation_has_the_rate_of_its_durations(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.webp", tmp_path / f"out.{suffix}"
    pictures = [Image.fromarray(picture(n)) for n in range(5)]
    pictures[0].save(source, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []
    with open_clip(target) as reader:
        times = [float(frame.pts_seconds or 0) for frame in reader.frames()]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_uneven_times_do_not_fit_into_y4m(vfr_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not fit into y4m"):
        restore(vfr_clip, tmp_path / "out.y4m", model="identity")
    assert not list(tmp_path.iterdir())


def test_silent_on_gray_in_apng(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", "gray", options={}))
    assert restore(source, tmp_path / "out.apng", model="identity").exit_code == 0
    assert ns_video.verify(source, tmp_path / "out.apng") == []


def test_a_turn_without_its_shift_is_the_same_turn(tmp_path: Path) -> None:
    """Phones move the turned picture back into view; Matroska keeps only the angle."""
    turned = (0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    source = write_clip(tmp_path / "turned.mov", Recipe(display_matrix=turned))
    target = tmp_path / "out.mkv"
    restore(source, target, model="identity")
    assert ns_video.verify(source, target) == []
    mirrored = (0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
    assert "rotation" in found(source, write_clip(tmp_path / "wrong.mov", Recipe(display_matrix=mirrored)))
    assert "rotation" in found(source, write_clip(tmp_path / "lost.mov"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-map", "0", "-map", "-0:a:1"], "stream 2 (audio aac) is missing"),
        (["-map", "0", "-map", "-0:s:0"], "subtitle"),
        (["-map", "0", "-map_chapters", "-1"], "chapters"),
        (["-map", "0", "-metadata:s:a:0", "language=rus"], "language eng"),
        (["-map", "0", "-bsf:a:0", "noise=amount=1"], "stream 1 (audio flac): its packets differ"),
        (["-map", "0", "-bsf:a:1", "noise=amount=1"], "stream 2 (audio aac): its packets differ"),
        (["-map", "0", "-bsf:v", "noise=drop='eq(n,4)'"], "10 frames went in, 9"),
        (["-map", "0", "-bsf:v", "setts=ts=if(eq(N\\,4)\\,TS+7\\,TS)"], "ms off"),
        (["-map", "0", "-aspect", "2:1"], "aspect"),
        (["-map", "0", "-metadata", "title=Changed"], "the tag title was"),
        (["-map", "0", "-metadata", "title="], "the tag title is missing"),
        (["-map", "0", "-metadata:s:a:0", "language=eng", "-metadata", "comment=x"], "the tag COMMENT was"),
        (["-map", "0", "-disposition:a:0", "forced"], "stream 1 (audio flac) gained the flag forced"),
        (["-map", "0", "-bsf:a:0", "setts=ts=TS+300"], "stream 1 (audio flac): its packet at"),
        (
            ["-map", "0", "-bsf:s:0", "setts=duration=DURATION/2"],
            "its cue at 0.0230 s was shown for 0.100 s, is for 0.050 s",
        ),
        (["-map", "0", "-metadata:s:t", "filename=other.ttf"], "its filename was 'font.ttf', is 'other.ttf'"),
        (["-map", "0", "-metadata:s:t", "mimetype=font/otf"], "its mimetype was"),
        (["-map", "0", "-map", "0:a:0"], "was not in the input"),
    ],
)
def test_each_doctored_output_is_named(
    options: list[str], word: str, finished: Path, two_audio_subs_chapters_clip: Path, tmp_path: Path
) -> None:
    doctored = tmp_path / "doctored.mkv"
    ffmpeg("-i", finished, *options, "-c", "copy", doctored)
    assert word in found(two_audio_subs_chapters_clip, doctored)


def test_changed_covers_and_attachments_are_named(
    finished: Path, two_audio_subs_chapters_clip: Path, cover_clip: Path, tmp_path: Path
) -> None:
    font, data = bytes(range(200)), finished.read_bytes()
    assert font in data
    finished.write_bytes(data.replace(font, font[:100] + b"\0" + font[101:]))
    assert "stream 5 (attachment font.ttf): its content differs" in found(two_audio_subs_chapters_clip, finished)
    for suffix in ("mkv", "mp4"):
        target = tmp_path / f"cover.{suffix}"
        restore(cover_clip, target, model="identity")
        assert ns_video.verify(cover_clip, target) == []
        with av.open(str(cover_clip)) as clip:
            stream = next(s for s in clip.streams.video if s.codec_context.name == "png")
            cover = next(bytes(p) for p in clip.demux(stream) if p.size)
        data = target.read_bytes()
        assert cover in data
        target.write_bytes(data.replace(cover, cover[:-20] + bytes(20)))
        assert "(video png): its content differs" in found(cover_clip, target)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "ts"])
def test_a_language_that_nobody_told_is_named(suffix: str, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "in.mkv", Recipe(audio=[("ac3", "und")])), tmp_path / f"out.{suffix}"
    restore(source, target, model="identity")
    assert ns_video.verify(source, target) == []
    ffmpeg("-i", target, "-map", "0", "-c", "copy", "-metadata:s:a", "language=fra", tmp_path / f"told.{suffix}")
    assert "stream 1 (audio ac3) had no language, has fr" in found(source, tmp_path / f"told.{suffix}")


def test_a_run_sees_copied_packets_that_its_muxer_moves(
    two_audio_subs_chapters_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mux.ClipWriter._mux  # pyright: ignore[reportPrivateUsage]

    def late(self: mux.ClipWriter, packet: Any) -> None:
        if packet.stream.index == 1 and packet.pts * packet.time_base > Fraction(1, 10):
            packet.pts += 60
            packet.dts += 60
        whole(self, packet)

    monkeypatch.setattr(mux.ClipWriter, "_mux", late)
    with pytest.raises(VerificationError, match=r"stream 1 \(audio flac\): its packet at 0\.\d+ s is \+60\.000 ms off"):
        restore(two_audio_subs_chapters_clip, tmp_path / "out.mkv", model="identity")


def test_a_last_frame_that_is_gone_too_soon_or_too_late_is_named(tmp_path: Path) -> None:
    plain, source = write_clip(tmp_path / "a.mp4", Recipe(options={"bf": "0"})), tmp_path / "slides.mp4"
    ffmpeg("-i", plain, "-c", "copy", "-bsf:v", "setts=duration=if(eq(N\\,9)\\,2/TB\\,DURATION)", source)
    restore(source, tmp_path / "out.mp4", model="identity")
    assert ns_video.verify(source, tmp_path / "out.mp4") == []
    assert "the last frame was shown for 2.0000 s" in found(source, plain)
    assert "the last frame was shown for 0.0400 s, is for 2.0000 s" in found(plain, source)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_file_whose_header_lets_it_end_too_late_is_named(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "gap.mp4", tmp_path / f"out.{suffix}"
    later = "setpts=PTS+if(gte(N\\,20)\\,60/TB\\,0)"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=2", "-vf", later, "-fps_mode", "passthrough")
    ffmpeg(*film, "-c:v", "libx264", "-x264-params", "b-adapt=0", source)
    restore(source, target, model="identity", verify="full")
    assert ns_video.verify(source, target) == []
    data = target.read_bytes()
    if suffix == "mkv":
        target.write_bytes(data.replace(b"00:01:02.0", b"00:02:02.0"))
        assert found(source, target) == "the video ends at 62.000 s, its header promises 122.000 s"
    else:
        at = data.index(b"mvhd") + 16
        target.write_bytes(data[:at] + struct.pack(">II", 1000, 122_000) + data[at + 8 :])
        assert found(source, target) == "its streams end at 62.000 s, its header promises 122.000 s"


def test_lost_tags_and_turns_are_named(full_range_601_clip: Path, rotated_clip: Path, tmp_path: Path) -> None:
    gray = tmp_path / "tags.mkv"
    ffmpeg("-i", full_range_601_clip, "-c:v", "ffv1", "-colorspace", "bt709", "-color_primaries", "bt709", gray)
    assert "colour matrix was smpte170m, is bt709" in found(full_range_601_clip, gray)
    assert "the display matrix (rotation) differs" in found(rotated_clip, write_clip(tmp_path / "straight.mp4"))


def test_a_late_start_and_a_cut_end_are_named(plain_clip: Path, tmp_path: Path) -> None:
    late = write_clip(tmp_path / "late.mkv", Recipe(times=tuple(500 + 40 * i for i in range(10))))
    assert "begins at 0.500000 s" in found(plain_clip, late)
    short = write_clip(tmp_path / "short.mp4", Recipe(times=tuple(40 * i for i in range(9))))
    told = [difference.what for difference in ns_video.verify(plain_clip, short)]
    assert [what for what in told if "frames" in what] == ["10 frames went in, 9 are in the output"]


def test_stills_are_compared_by_size_channels_depth_and_profile(noisy: np.ndarray, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, alpha = Image.fromarray(noisy), np.dstack([noisy, noisy[..., :1]])
    plain.save(tmp_path / "a.png")
    plain.save(tmp_path / "b.webp", lossless=True)
    plain.resize((32, 24)).save(tmp_path / "c.png")
    plain.convert("L").save(tmp_path / "gray.png")
    plain.save(tmp_path / "profile.jpg", icc_profile=profile)
    plain.save(tmp_path / "bare.jpg")
    exif = Image.Exif()
    exif[274] = 3
    plain.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), noisy.astype(np.uint16) * 257)
    assert ns_video.verify(tmp_path / "a.png", tmp_path / "b.webp") == []
    assert ns_video.verify(tmp_path / "alpha.png", tmp_path / "bare.jpg") == []  # which holds no alpha
    assert "64x48" in found(tmp_path / "a.png", tmp_path / "c.png")
    assert "had colours" in found(tmp_path / "a.png", tmp_path / "gray.png")
    assert "alpha" in found(tmp_path / "alpha.png", tmp_path / "a.png")
    assert "16 bits, have 8" in found(tmp_path / "deep.png", tmp_path / "a.png")
    assert "profile is missing" in found(tmp_path / "profile.jpg", tmp_path / "bare.jpg")
    assert "orientation (EXIF) was 3" in found(tmp_path / "turned.jpg", tmp_path / "bare.jpg")


def packets_written(count: int, change: Callable[[Any], bool]) -> Callable[..., None]:
    """A muxer's write_video that lets `change` see its packet number `count`, and drops it where that says False."""
    whole, seen = mux.ClipWriter.write_video, itertools.count()

    def write_video(self: mux.ClipWriter, packet: Any) -> None:
        if next(seen) != count or change(packet):
            whole(self, packet)

    return write_video


def moved(packet: Any) -> bool:
    """The packet, 7 ms late."""
    packet.pts += 7
    return True


@pytest.mark.parametrize(
    ("change", "word"), [(moved, "7.000 ms off"), (lambda packet: False, "10 frames went in, 9 are in the output")]
)
def test_an_output_that_fails_the_check_is_kept_aside_and_the_old_one_is_untouched(
    change: Callable[[Any], bool], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    target.write_bytes(b"precious")
    monkeypatch.setattr(mux.ClipWriter, "write_video", packets_written(4, change))
    with pytest.raises(VerificationError, match=f"not what it should be: .*{word}") as caught:
        restore(source, target, model="identity", overwrite=True, codec="ffv1")
    assert "failed-check" in str(caught.value)
    assert target.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir() if "failed-check" in p.name]


def test_frames_that_could_not_be_restored_excuse_no_fault_of_the_output(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cue that is late is explained by a damaged input, which this isn't."""

    def fail(*_: Any) -> None:
        raise RuntimeError("out of order")

    def write_late(self: mux.ClipWriter, item: CopiedPacket) -> bool:
        item.packet.pts += 70
        item.packet.dts = item.packet.pts
        return whole(self, item)

    whole = mux.ClipWriter.write_copy
    source, target = write_clip(tmp_path / "in.mkv", Recipe(subtitles=[("subrip", "eng")])), tmp_path / "out.mkv"
    monkeypatch.setattr(Enhancer, "_restored", fail)
    monkeypatch.setattr(mux.ClipWriter, "write_copy", write_late)
    with pytest.raises(VerificationError, match=r"stream 1 .*off beside the video"):
        restore(source, target, model=str(small_model), device="cpu", codec="ffv1")
    assert not target.exists()


def test_a_run_sees_what_its_muxer_forgets_of_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    recipe = Recipe(display_matrix=turned, color=(9, 1, 9, 16), aspect=Fraction(4, 3), chapters=((0, 200, "a"),))
    source, target, whole = write_clip(tmp_path / "in.mp4", recipe), tmp_path / "out.mp4", mux.add_video_stream
    plain = {"display_matrix": (), "color": ColorInfo(1, 2, 1, 1), "sample_aspect_ratio": Fraction(1)}
    monkeypatch.setattr(mux, "add_video_stream", lambda out, plan: whole(out, replace(plan, **plain)))
    with pytest.raises(
        VerificationError,
        match=r"matrix was bt2020nc, is bt709; .*range was limited, is full; .*primaries was bt2020, .*rotation",
    ):
        restore(source, target, model="identity", overwrite=True)
    monkeypatch.setattr(mux, "add_video_stream", lambda out, plan: whole(out, replace(plan, sample_aspect_ratio=1)))
    with pytest.raises(VerificationError, match=r"sample aspect ratio was 4/3, is 1"):
        restore(source, target, model="identity", overwrite=True)
    monkeypatch.setattr(mux, "add_video_stream", whole)
    monkeypatch.setattr(mux, "cut_chapters", lambda *_: [])
    with pytest.raises(VerificationError, match=r"1 chapters went in, 0 are in the output"):
        restore(source, target, model="identity", overwrite=True)
    assert not target.exists()


def test_what_the_user_told_the_encoder_is_no_fault_of_the_run(tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "in.mkv", Recipe(color=(1, 1, 1, 1))), tmp_path / "out.mkv"
    record = restore(source, target, model="identity", encoder_options={"color_primaries": "bt2020"})
    assert record.exit_code == 0 and "colour primaries was bt709, is bt2020" in record.warnings
    assert "colour primaries was bt709, is bt2020" in found(source, target)


@pytest.mark.parametrize(
    ("name", "codec", "noted"),
    [
        ("a.mkv", "mpeg2video", False),
        ("a.mkv", "mjpeg", False),
        ("a.webm", "libvpx", False),
        ("a.mov", "mpeg4", True),
        ("a.mp4", "mpeg4", False),
        ("a.3gp", "mpeg4", True),
    ],
)
def test_silent_where_container_and_codec_cannot_tell_the_colours(
    name: str, codec: str, noted: bool, full_range_601_clip: Path, tmp_path: Path
) -> None:
    """Decoders of old codecs know their colours by themselves; QuickTime tells no range, 3GP nothing."""
    record = restore(full_range_601_clip, tmp_path / name, model="identity", codec=codec)
    assert record.exit_code == 0 and ns_video.verify(full_range_601_clip, tmp_path / name) == []
    assert any("can't tell of the colours" in text and "full range" in text for text in record.warnings) == noted


def test_mp4_tells_its_colours_all_together_or_not_at_all(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", options={}, color=(2, 2, 2, 2)))
    record = restore(source, tmp_path / "out.mp4", model="identity", codec="ffv1")
    assert "ffv1 in mp4 can't tell of the colours: full range; Matroska keeps that" in record.warnings
    assert ns_video.verify(source, tmp_path / "out.mp4") == []


def test_the_first_chapter_of_mp4_begins_at_zero(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(chapters=((40, 200, "a"), (200, 400, "b"))))
    record = restore(source, tmp_path / "out.mp4", model="identity")
    assert record.warnings == ["the first chapter begins at 0, not 0.040 s: so in mp4"]
    assert ns_video.verify(source, tmp_path / "out.mp4") == []
    assert restore(source, tmp_path / "cut.mkv", model="identity", start=0.1, end=0.3).exit_code == 0


def test_a_frame_that_the_encoder_moves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = write_clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    whole = encode.FrameEncoder.encode

    def wrong(self: encode.FrameEncoder, frame: Frame) -> list[Any]:
        return whole(self, replace(frame, pts=167) if frame.pts == 160 else frame)

    monkeypatch.setattr(encode.FrameEncoder, "encode", wrong)
    with pytest.raises(VerificationError, match=r"moved the frame at 0\.1600 s to 0\.1670 s"):
        restore(source, target, model="identity")
    assert not target.exists()


def test_a_size_that_only_the_frames_tell(tmp_path: Path) -> None:
    """libav has read enough of the transport stream before its first picture is whole."""
    times = tuple(8300 + 40 * i for i in range(FRAMES))
    source = write_clip(tmp_path / "in.ts", Recipe(times=times, muxing={"muxdelay": "0"}, audio=[("mp2", "deu")]))
    with open_clip(source) as reader:
        assert reader.info.video.width == 0
    assert ns_video.restore(source, tmp_path / "out.mkv", model="identity").exit_code == 0
    assert ns_video.verify(source, tmp_path / "out.mkv") == []


@pytest.mark.parametrize("suffix", ["mkv", "flv"])
def test_frames_that_share_a_tick_are_named_and_no_damage(suffix: str, tmp_path: Path) -> None:
    source, target, notes = tmp_path / "in.mp4", tmp_path / f"out.{suffix}", list[str]()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=2000:d=0.01", "-c:v", "libx264", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and any("9 frames share the time of the one before" in w for w in record.warnings)
    assert verify_files(source, target, notes=notes) == []
    assert any("9 frames share" in note for note in notes)


def test_a_last_frame_whose_duration_a_container_does_not_hold_is_no_cut(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.flv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=0.1:d=40", "-c:v", "libx264", source)
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []
