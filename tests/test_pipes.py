"""Pipes: programs before and behind, every container that goes through one, and how each end may go away."""

from __future__ import annotations

import io
import os
import subprocess
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import ffmpeg
from material import FRAMES, WIDTH, Recipe, cues, facts, write_clip

from ns_video.color import to_tensor
from ns_video.errors import Interrupted
from ns_video.media.decode import ClipReader, open_clip
from ns_video.media.verify import verify_files
from ns_video.pipeline import RestoreOptions, restore_steps

IDENTITY = ("restore", "--model", "identity")


@pytest.fixture
def piped(program: list[str], environment: dict[str, str]):
    """Run the command line with bytes on standard input; (exit code, standard output, standard error)."""

    def call(*arguments: str | Path, data: bytes | None = None) -> tuple[int, bytes, str]:
        done = subprocess.run(
            [*program, *map(str, arguments)],
            capture_output=True,
            env=environment,
            timeout=120,
            **({"stdin": subprocess.DEVNULL} if data is None else {"input": data}),
        )
        err = done.stderr.decode()
        assert "Traceback" not in err and "internal" not in err, err
        return done.returncode, done.stdout, err

    return call


def received(data: bytes, tmp_path: Path, **options: object):
    """The facts of what came out of a pipe."""
    path = tmp_path / "received.bin"
    path.write_bytes(data)
    return facts(path, **options)


def test_sound_follows_a_clock_that_jumps_back(piped, tmp_path: Path) -> None:
    """Joined MPEG-TS: what is read from a pipe is moved on as what is read from a file is."""
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2")
    for part, begins in zip(parts, (100, 70)):
        codecs = ("-c:v", "libx264", "-g", "25", "-c:a", "mp2", "-preset", "ultrafast")
        ffmpeg(*inputs, *codecs, "-output_ts_offset", str(begins), part)
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    heard = []
    for name, source, data in (("file.mkv", both, None), ("pipe.mkv", "-", both.read_bytes())):
        code, _, err = piped(*IDENTITY, source, tmp_path / name, data=data)
        assert code == 3 and "run backwards" not in err
        heard.append(facts(tmp_path / name).streams[0].packets)
    assert heard[0] == heard[1]
    times = [time for time, _ in heard[1] if time is not None]
    assert times[-1] - times[0] > 3.9 and all(0 < b - a < Fraction(1, 10) for a, b in pairwise(times))


def test_covers_and_tracks_of_a_cut_through_a_pipe(piped, cover_clip: Path, second_video_clip: Path) -> None:
    cut = ("--start", "0.1", "--format", "matroska")
    code, out, err = piped(*IDENTITY, "-", "-", *cut, data=second_video_clip.read_bytes())
    assert code == 0 and "stream 0 is empty: no key frame of it lies in the cut" in err
    code, out, _ = piped(*IDENTITY, cover_clip, "-", *cut)
    with av.open(io.BytesIO(out)) as clip:
        assert code == 0 and sum(1 for s in clip.streams.video if s.codec_context.name == "png") == 1


def test_ffmpeg_before_and_behind_with_sound_times_and_colour(
    program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    recipe = Recipe(times=(0, 17, 50, 120, 121, 400, 433, 440), audio=[("flac", "eng")], color=(1, 1, 1, 1))
    source = write_clip(tmp_path / "in.mkv", recipe)
    target = tmp_path / "out.mkv"
    exact = ["-fps_mode", "passthrough", "-enc_time_base", "-1"]  # else ffmpeg rounds times to the frame rate
    quiet = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
    before = subprocess.Popen(
        [*quiet, "-i", source, *exact, "-map", "0", "-c:v", "rawvideo", "-c:a", "copy", "-f", "nut", "-"],
        stdout=subprocess.PIPE,
    )
    middle = subprocess.Popen(
        [*program, *IDENTITY, "-", "-"], stdin=before.stdout, stdout=subprocess.PIPE, env=environment
    )
    behind = subprocess.Popen(
        [*quiet, "-i", "-", *exact, "-map", "0", "-c:v", "ffv1", "-c:a", "copy", target],
        stdin=middle.stdout,
    )
    assert before.stdout is not None and middle.stdout is not None
    before.stdout.close()
    middle.stdout.close()
    assert [p.wait(90) for p in (before, middle, behind)] == [0, 0, 0]
    was, now = facts(source), facts(target)
    assert now.samples == was.samples
    assert max(abs(a - b) for a, b in zip(was.times, now.times)) <= Fraction(1, 1000)
    assert [p[1] for p in now.streams[0].packets] == [p[1] for p in was.streams[0].packets]


def test_colour_goes_through_where_the_format_holds_it(piped, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(color=(1, 1, 1, 1)))
    data = ffmpeg("-i", source, "-c", "copy", "-f", "nut", "-")
    code, out, err = piped(*IDENTITY, "-", "-", "--format", "matroska", "--codec", "ffv1", data=data)
    assert code == 0 and "colour" not in err
    assert received(out, tmp_path).color == (1, 1, 1, 1)
    code, out, err = piped(*IDENTITY, "-", "-", data=data)
    assert code == 0 and "can't tell of the colours: matrix, primaries, transfer;" in err


def test_what_raw_video_cannot_tell_is_named(ten_bit_pq_clip: Path, rotated_clip: Path, piped, tmp_path: Path) -> None:
    assert "HDR metadata" in piped(*IDENTITY, ten_bit_pq_clip, "-")[2]
    assert "turned by 90 degrees clockwise, which nut can't say" in piped(*IDENTITY, rotated_clip, "-")[2]
    full = write_clip(tmp_path / "full.mkv", Recipe("ffv1", options={}, color=(2, 2, 2, 2)))
    assert "can't tell of the colours: full range;" in piped(*IDENTITY, full, "-")[2]
    code, out, err = piped(*IDENTITY, full, "-", "--format", "y4m")
    assert code == 0 and "colours" not in err and b"COLORRANGE=FULL" in out.partition(b"\n")[0]


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("nut", "rawvideo"),
        ("matroska", "ffv1"),
        ("mpegts", "copy"),
        ("yuv4mpegpipe", "wrapped_avframe"),
        ("mp4", "copy"),
    ],
)
def test_every_streamable_container_is_recognised(
    container: str, codec: str, plain_clip: Path, piped, tmp_path: Path
) -> None:
    more = ["-movflags", "frag_keyframe+empty_moov"] if container == "mp4" else []
    strict = ["-pix_fmt", "yuv420p"] if container == "yuv4mpegpipe" else []
    data = ffmpeg("-i", plain_clip, "-c:v", codec, *more, *strict, "-f", container, "-")
    code, out, err = piped(*IDENTITY, "-", "-", data=data)
    assert code == 0, err
    was, now = facts(plain_clip), received(out, tmp_path)
    assert now.samples == was.samples
    shift = now.times[0] - was.times[0]  # MPEG-TS begins where its muxer likes
    assert max(abs(b - a - shift) for a, b in zip(was.times, now.times)) <= Fraction(1, 1000)


def test_fast_start_mp4_and_its_sound_go_through(tmp_path: Path, piped) -> None:
    source = write_clip(tmp_path / "in.mp4", Recipe(audio=[("aac", "eng")], muxing={"movflags": "+faststart"}))
    code, out, err = piped(*IDENTITY, "-", "-", data=source.read_bytes())
    assert code == 0, err
    was, now = facts(source), received(out, tmp_path)
    assert now.samples == was.samples
    assert [p[1] for p in now.streams[0].packets] == [p[1] for p in was.streams[0].packets]
    offsets = {b - a for (a, _), (b, _) in zip(was.streams[0].packets, now.streams[0].packets)}
    moved = now.times[0] - was.times[0]
    assert all(abs(o - moved) <= Fraction(1, 1000) for o in offsets)  # picture and sound moved alike


def test_y4m_and_rawvideo_out(plain_clip: Path, piped, tmp_path: Path) -> None:
    raw = b"".join(b"".join(planes) for planes in facts(plain_clip).samples)
    code, out, _ = piped(*IDENTITY, plain_clip, "-", "--format", "rawvideo")
    assert (code, out) == (0, raw)
    code, out, _ = piped(*IDENTITY, plain_clip, "-", "--format", "y4m")
    assert code == 0 and out.startswith(b"YUV4MPEG2 W64 H48 F25:1")
    assert received(out, tmp_path).samples == facts(plain_clip).samples
    assert out.count(b"FRAME") == FRAMES


def test_uneven_times_into_y4m_are_told(vfr_clip: Path, piped, tmp_path: Path) -> None:
    code, out, err = piped(*IDENTITY, vfr_clip, "-", "--format", "y4m")
    assert code == 0 and "uneven times" in err
    assert received(out, tmp_path).samples == facts(vfr_clip).samples


def test_rawvideo_in(plain_clip: Path, piped, tmp_path: Path) -> None:
    raw = b"".join(b"".join(planes) for planes in facts(plain_clip).samples)
    options = ("--input-format", "rawvideo", "--input-option", f"video_size={WIDTH}x48")
    more = ("--input-option", "pixel_format=yuv420p", "--input-option", "framerate=25")
    code, out, err = piped(*IDENTITY, "-", "-", *options, *more, data=raw)
    assert code == 0, err
    now = received(out, tmp_path)
    assert now.samples == facts(plain_clip).samples
    assert now.times == [Fraction(i, 25) for i in range(FRAMES)]
    code, out, err = piped(*IDENTITY, "-", "-", *options[:2], data=raw)
    assert code == 2 and "--input-option video_size=WxH" in err
    code, out, err = piped(*IDENTITY, "-", "-", *options, "--input-option", "pix_fmt=rgb24", data=raw)
    assert (code, out) == (2, b"") and "no input option 'pix_fmt'" in err


def test_pipe_into_a_file_and_a_file_into_matroska(plain_clip: Path, piped, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    data = ffmpeg("-i", plain_clip, "-c", "copy", "-f", "nut", "-")
    code, _, err = piped(*IDENTITY, "-", target, "--codec", "ffv1", data=data)
    assert code == 0, err
    assert facts(target).samples == facts(plain_clip).samples
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]
    code, out, err = piped(*IDENTITY, plain_clip, "-", "--format", "matroska", "--codec", "ffv1")
    assert code == 0, err
    assert received(out, tmp_path).samples == facts(plain_clip).samples


def test_a_cut_through_a_pipe_takes_chapters_and_cues_along(running_cue_clip: Path, piped, tmp_path: Path) -> None:
    cut = ("--start", "0.5", "--end", "1.2")
    code, out, err = piped(*IDENTITY, running_cue_clip, "-", "--format", "matroska", *cut)
    assert code == 0, err
    assert [c[2] for c in received(out, tmp_path).chapters] == ["One", "Two"]
    assert cues(tmp_path / "received.bin") == [(0, 400, b"into"), (200, 100, b"inside")]


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_sound_behind_the_last_frame_of_a_cut_goes_through_a_pipe(suffix: str, piped, tmp_path: Path) -> None:
    """MPEG-TS is written with the sound behind the picture that it belongs to."""
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30000/1001:d=3", "-f", "lavfi", "-i", "sine=d=3")
    source, heard = tmp_path / f"in.{suffix}", []
    ffmpeg(*inputs, "-c:v", "libx264", "-bf", "3", "-preset", "ultrafast", "-c:a", "aac", source)
    for name, given, data in (("file.mkv", source, None), ("pipe.mkv", "-", source.read_bytes())):
        assert piped(*IDENTITY, given, tmp_path / name, "--end", "2.2", data=data)[0] == 0
        heard.append([payload for _, payload in facts(tmp_path / name).streams[0].packets])
    assert heard[0] == heard[1]


def test_fragmented_mp4_out(plain_clip: Path, piped, tmp_path: Path) -> None:
    code, out, err = piped(*IDENTITY, plain_clip, "-", "--format", "mp4", "--crf", "0")
    assert code == 0, err
    assert received(out, tmp_path).samples == facts(plain_clip).samples


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_times_of_fragmented_output_are_those_of_a_file(container: str, piped, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", Recipe(audio=[("aac", "eng")], times=tuple(range(0, 1600, 40))))
    code, out, err = piped(*IDENTITY, source, "-", "--format", container)
    assert code == 0, err
    was, now = facts(source), received(out, tmp_path)
    assert now.times == was.times
    assert now.streams[0].packets == was.streams[0].packets


def test_tags_of_cameras_go_through_a_pipe(piped, tmp_path: Path) -> None:
    muxing = {"movflags": "+use_metadata_tags"}
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "a phone"}
    source = write_clip(tmp_path / "in.mov", Recipe(muxing=muxing, metadata=tags))
    code, out, err = piped(*IDENTITY, source, "-", "--format", "mov")
    assert code == 0, err
    now = received(out, tmp_path)
    assert tags.items() <= now.metadata.items() and now.metadata["major_brand"] == "qt  "
    assert now.times == facts(source).times


def test_a_named_pipe_takes_mp4(plain_clip: Path, program: list[str], environment: dict[str, str], tmp_path: Path):
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    process = subprocess.Popen([*program, *IDENTITY, str(plain_clip), str(fifo)], env=environment)
    data = fifo.read_bytes()
    assert process.wait(60) == 0
    assert received(data, tmp_path).times == facts(plain_clip).times


def test_standard_output_holds_nothing_but_the_clip(plain_clip: Path, piped) -> None:
    code, out, err = piped("-v", *IDENTITY, plain_clip, "-", "--progress", "json")
    assert code == 0 and '"phase"' in err
    with av.open(io.BytesIO(out), format="nut") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == FRAMES
    code, _, err = piped(*IDENTITY, plain_clip, "-", "--json")
    assert code == 2 and "--record" in err


def test_mp4_with_its_index_at_the_end_says_so(moov_at_end_clip: Path, piped) -> None:
    code, out, err = piped(*IDENTITY, "-", "-", data=moov_at_end_clip.read_bytes())
    assert (code, out) == (1, b"")
    assert "faststart" in err and "index at the end" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b"this is no clip\n" * 100, b"\0" * 5000])
def test_nothing_useful_on_standard_input(data: bytes, piped) -> None:
    code, out, err = piped(*IDENTITY, "-", "-", data=data)
    assert (code, out) == (1, b"")
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1


def test_closed_standard_input(program: list[str], environment: dict[str, str]) -> None:
    command = " ".join([*program, *IDENTITY, "-", "-", "<&-"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment, timeout=60)
    err = done.stderr.decode()
    assert done.returncode == 1 and done.stdout == b""
    assert "Traceback" not in err and err.startswith("error: ")


@pytest.mark.parametrize("container", ["nut", "matroska", "mpegts"])
def test_an_input_that_is_cut_ends_cleanly(container: str, piped, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(times=tuple(range(0, 1600, 40))))
    data = ffmpeg("-i", source, "-c:v", "copy", "-f", container, "-")
    code, out, err = piped(*IDENTITY, "-", "-", data=data[: len(data) * 2 // 3])
    assert code in (0, 3), err
    got = received(out, tmp_path)
    assert 15 <= len(got.pictures) < 40
    assert got.samples[:14] == facts(source).samples[:14]


@pytest.mark.parametrize("way", ["file", "pipe", "named pipe"])
@pytest.mark.parametrize(("more", "code"), [(0, 0), (1, 3), (1000, 3)])
def test_y4m_that_ends_within_a_frame_says_so(
    more: int, code: int, way: str, plain_clip: Path, piped, tmp_path: Path
) -> None:
    head, *frames = ffmpeg("-i", plain_clip, "-f", "yuv4mpegpipe", "-").split(b"FRAME\n")
    data, source = b"FRAME\n".join([head, *frames[:3], frames[3][:more]])[: None if more else -6], tmp_path / "in.y4m"
    if way == "named pipe":
        os.mkfifo(source)
        threading.Thread(target=source.write_bytes, args=(data,), daemon=True).start()
    elif way == "file":
        source.write_bytes(data)
    found, _, err = piped(*IDENTITY, "-" if way == "pipe" else source, tmp_path / "out.mkv", data=data)
    assert found == code, err
    assert ("the video was cut" in err) == bool(code)
    assert len(facts(tmp_path / "out.mkv").pictures) == 3


def test_a_reader_that_leaves_early_ends_it_quietly(
    program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(96, 64), times=tuple(range(0, 40 * 200, 40))))
    for arguments in (["-", "-"], [str(source), "-"]):
        process = subprocess.Popen(
            [*program, *IDENTITY, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None

        def feed(process: subprocess.Popen[bytes] = process) -> None:
            try:
                process.stdin.write(ffmpeg("-i", source, "-c", "copy", "-f", "nut", "-"))
                process.stdin.close()
            except OSError:
                return

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert len(process.stdout.read(10_000)) == 10_000
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 141, err
        assert err == ""
        feeder.join(30)
        process.stderr.close()


def test_a_slow_writer_is_waited_for(program: list[str], environment: dict[str, str], plain_clip: Path) -> None:
    data = ffmpeg("-i", plain_clip, "-c:v", "rawvideo", "-f", "nut", "-")
    process = subprocess.Popen(
        [*program, *IDENTITY, "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    for start in range(0, len(data), len(data) // 6):
        os.write(process.stdin.fileno(), data[start : start + len(data) // 6])
        time.sleep(0.15)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    with av.open(io.BytesIO(out), format="nut") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == FRAMES


def test_a_named_pipe_as_output(
    plain_clip: Path, program: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo.nut"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*program, *IDENTITY, str(plain_clip), str(fifo), "--codec", "rawvideo"], env=environment
    )
    data = fifo.read_bytes()
    assert process.wait(60) == 0
    with av.open(io.BytesIO(data), format="nut") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == FRAMES
    assert fifo.is_fifo()


@pytest.mark.parametrize("layout", ["rgb24", "bgra", "nv12", "uyvy422", "gray16be", "yuv420p16be", "yuv444p10le"])
def test_raw_pixels_leave_in_the_layout_in_which_they_came(layout: str, piped) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=32x32:r=25:d=0.08", "-pix_fmt", layout)
    data = ffmpeg(*picture, "-f", "rawvideo", "-")
    said = [f"--input-option={word}" for word in ("video_size=32x32", f"pixel_format={layout}", "framerate=25")]
    raw = ("--input-format", "rawvideo", *said, "--format", "rawvideo")
    code, out, _ = piped("restore", "-", "-", *raw, "--model", "identity", data=data)
    assert code == 0 and out == data


def test_raw_pixels_that_leave_in_another_layout_are_named(piped) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=32x32:r=25:d=0.08", "-pix_fmt", "pal8")
    data = ffmpeg(*picture, "-f", "rawvideo", "-")
    said = [f"--input-option={word}" for word in ("video_size=32x32", "pixel_format=pal8", "framerate=25")]
    raw = ("--input-format", "rawvideo", *said, "--format", "rawvideo")
    code, _, err = piped("restore", "-", "-", *raw, "--model", "identity", data=data)
    assert code == 0 and "came as pal8 and leave as" in err


@pytest.mark.parametrize("container", [None, "yuv4mpegpipe", "nut"])
def test_a_pipe_through_which_nothing_comes_is_named(container: str | None, piped, tmp_path: Path) -> None:
    given = () if container is None else ("--input-format", container)
    code, _, err = piped(*IDENTITY, "-", tmp_path / "out.mkv", *given, data=b"")
    assert code == 1 and "standard input: nothing came through the pipe" in err
    code, _, err = piped(*IDENTITY, "-", tmp_path / "out.mkv", *given, data=b"no clip at all")
    assert code == 1 and "nothing came" not in err


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_while_the_writer_stands_still_keeps_what_is_done(
    fails: bool, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, target, cancel, release = tmp_path / "pipe", tmp_path / "out.mkv", threading.Event(), threading.Event()
    os.mkfifo(pipe)
    data = ffmpeg("-i", plain_clip, "-f", "yuv4mpegpipe", "-")

    def write() -> None:
        with pipe.open("wb", buffering=0) as end:
            end.write(data[: len(data) * 7 // 10])
            release.wait(60)

    def broken(*_: Any) -> None:
        raise RuntimeError("the reader can't be closed")

    threading.Thread(target=write, daemon=True).start()
    if fails:
        monkeypatch.setattr(ClipReader, "close", broken)
    try:
        with pytest.raises(RuntimeError if fails else Interrupted):
            for progress in restore_steps(str(pipe), str(target), RestoreOptions(model="identity"), cancel):
                if progress.frames == 3:
                    cancel.set()
    finally:
        release.set()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.partial.mkv", "pipe"]
    assert len(facts(tmp_path / "out.partial.mkv").pictures) >= 3


def test_a_scale_through_pipes_is_applied_once_and_keeps_untagged_colours(piped) -> None:
    """320x240 is read as BT.601, 960x720 as BT.709."""
    data = ffmpeg("-f", "lavfi", "-i", "smptebars=s=320x240:d=0.2", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-")
    code, out, err = piped(*IDENTITY, "-", "-", "--format", "y4m", "--scale", "3", data=data)
    assert code == 0, err
    seen: list[np.ndarray] = []
    for clip in (data, out):
        with open_clip(io.BytesIO(clip)) as reader:
            frame = next(reader.frames())
        seen.append(to_tensor(frame.planes, frame.format, frame.color, "rgb")[0].numpy())
    assert seen[1].shape == (3, 720, 960)
    for x in (20, 70, 110, 160, 205, 250, 300):
        assert np.abs(seen[0][:, 100, x] - seen[1][:, 300, 3 * x + 1]).max() < 0.01


def sound_of(path: Path) -> bytes:
    """Every sample."""
    with av.open(str(path)) as clip:
        return b"".join(frame.to_ndarray().tobytes() for frame in clip.decode(audio=0))


@pytest.mark.parametrize("container", ["matroska", "mp4", "mov", "nut"])
@pytest.mark.parametrize("through", ["file", "pipe"])
def test_aac_of_transport_streams_goes_out_through_a_pipe(through: str, container: str, piped, tmp_path: Path) -> None:
    """There each packet has a header of its own; Matroska and MP4 tell it in theirs, which a pipe never gets back."""
    source, target = tmp_path / "in.ts", tmp_path / "out"
    tone = ("-f", "lavfi", "-i", "testsrc2=s=64x48:d=1", "-f", "lavfi", "-i", "sine=d=1", "-ac", "2")
    ffmpeg(*tone, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", source)
    named, data = ("-", source.read_bytes()) if through == "pipe" else (source, None)
    code, out, said = piped(*IDENTITY, named, "-", "--format", container, "-q", data=data)
    assert (code, said) == (0, "")
    target.write_bytes(out)
    assert verify_files(str(source), str(target)) == []
    assert sound_of(target) == sound_of(source)
