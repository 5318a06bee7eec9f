"""Fixtures: clips and stills named after the hazard they hold, a small network's weights, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from material import FRAMES, X264, Recipe, captions_sei, picture, write_clip
from PIL import Image

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them send themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).parents[1]
QUICK_X265 = {"preset": "ultrafast", "crf": "28"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left: exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def ns_video(capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line within this process (imports paid once): `ns_video("restore", a, b)`."""
    from ns_video.cli import run

    def call(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        text = capfd.readouterr()
        return Outcome(code, text.out, text.err)

    return call


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Surroundings for a command in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-m", "ns_video"]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all made clips."""
    return tmp_path_factory.mktemp("clips")


def ffmpeg(*arguments: str | Path, data: bytes | None = None, timeout: float = 60) -> bytes:
    """Run the ffmpeg program; what it wrote to standard output."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *map(str, arguments)],
        capture_output=True,
        timeout=timeout,
        check=True,
        **({"stdin": subprocess.DEVNULL} if data is None else {"input": data}),
    )
    return done.stdout


@pytest.fixture(scope="session")
def plain_clip(clips: Path) -> Path:
    """H.264 with B-frames and nothing else."""
    return write_clip(clips / "plain.mp4")


@pytest.fixture(scope="session")
def vfr_clip(clips: Path) -> Path:
    """Frames at uneven times, one of them long."""
    times = (0, 17, 50, 120, 121, 400, 433, 440, 900, 1000)
    return write_clip(clips / "vfr.mkv", Recipe(times=times))


@pytest.fixture(scope="session")
def negative_start_clip(clips: Path) -> Path:
    """Audio whose encoder delay lies before 0: the first audio packet has a negative time."""
    path = write_clip(clips / "for-negative.mp4", Recipe(audio=[("aac", "eng")]))
    out = clips / "negative.mkv"
    ffmpeg("-i", path, "-map", "0", "-c", "copy", "-avoid_negative_ts", "disabled", out)
    return out


@pytest.fixture(scope="session")
def late_start_clip(clips: Path) -> Path:
    """A transport stream that begins at 8.3 seconds."""
    times = tuple(8300 + 40 * i for i in range(FRAMES))
    return write_clip(clips / "late.ts", Recipe(times=times, muxing={"muxdelay": "0"}))


@pytest.fixture(scope="session")
def two_audio_subs_chapters_clip(clips: Path) -> Path:
    """Two audio tracks, two subtitle tracks, chapters, languages, tags and a font."""
    recipe = Recipe(
        audio=[("flac", "eng"), ("aac", "deu")],
        subtitles=[("subrip", "eng"), ("subrip", "fra")],
        chapters=[(0, 200, "One"), (200, 400, "Zwei — ü")],
        attachments=[("font.ttf", "application/x-truetype-font", bytes(range(200)))],
        metadata={"title": "Ünïcode title", "comment": "a; b=c"},
    )
    path = write_clip(clips / "streams-raw.mkv", recipe)
    out = clips / "streams.mkv"
    ffmpeg(
        *("-i", path, "-map", "0", "-c", "copy"),
        *("-disposition:a:0", "0", "-disposition:a:1", "default+forced", "-disposition:s:1", "hearing_impaired", out),
    )
    return out


@pytest.fixture(scope="session")
def running_cue_clip(clips: Path) -> Path:
    """Chapters and cues of which some end before, some run into a cut at 0.5 s."""
    spans = [(100, 300, "before"), (200, 900, "into"), (700, 800, "inside")]
    cues = [f"{n}\n00:00:00,{a} --> 00:00:00,{b}\n{text}\n" for n, (a, b, text) in enumerate(spans, 1)]
    words = clips / "running.srt"
    words.write_text("\n".join(cues))
    chapters = [(0, 400, "Out"), (400, 700, "One"), (700, 1600, "Two"), (1600, 2000, "Past")]
    film = write_clip(clips / "running-film.mkv", Recipe(times=tuple(range(0, 2000, 40)), chapters=chapters))
    out = clips / "running.mkv"
    ffmpeg("-i", film, "-i", words, "-map", "0", "-map", "1", "-c", "copy", out)
    return out


@pytest.fixture(scope="session")
def mp4_streams_clip(clips: Path) -> Path:
    """AAC, mov_text and chapters in MP4."""
    recipe = Recipe(
        audio=[("aac", "eng"), ("aac", "spa")],
        subtitles=[("mov_text", "eng")],
        chapters=[(0, 200, "One"), (200, 400, "Two")],
        metadata={"title": "A title"},
    )
    return write_clip(clips / "streams.mp4", recipe)


QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
MIRROR = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


@pytest.fixture(scope="session")
def rotated_clip(clips: Path) -> Path:
    """A display matrix that turns by 90 degrees."""
    return write_clip(clips / "rotated.mp4", Recipe(display_matrix=QUARTER_TURN))


@pytest.fixture(scope="session")
def mirrored_clip(clips: Path) -> Path:
    """A display matrix that mirrors."""
    return write_clip(clips / "mirrored.mp4", Recipe(display_matrix=MIRROR))


@pytest.fixture(scope="session")
def sar_clip(clips: Path) -> Path:
    """Samples that aren't square: 16:11."""
    return write_clip(clips / "sar.mp4", Recipe(aspect=Fraction(16, 11)))


@pytest.fixture(scope="session")
def ten_bit_pq_clip(clips: Path) -> Path:
    """10-bit HEVC, BT.2020 PQ with mastering display and content light level."""
    hdr = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    options = {**QUICK_X265, "x265-params": f"log-level=none:pools=1:hdr10=1:repeat-headers=1:{hdr}"}
    recipe = Recipe("libx265", "yuv420p10le", times=tuple(range(0, 240, 40)), options=options, color=(9, 1, 9, 16))
    return write_clip(clips / "pq.mkv", recipe)


@pytest.fixture(scope="session")
def full_range_601_clip(clips: Path) -> Path:
    """Full range BT.601."""
    return write_clip(clips / "full601.mp4", Recipe(color=(6, 2, 6, 6)))


@pytest.fixture(scope="session")
def odd_size_clip(clips: Path) -> Path:
    """67 x 49, 4:2:0: half a chroma sample at each edge."""
    options = {"deadline": "realtime", "cpu-used": "8"}
    return write_clip(clips / "odd.webm", Recipe("libvpx-vp9", size=(67, 49), options=options))


@pytest.fixture(scope="session")
def interlaced_clip(clips: Path) -> Path:
    """H.264 coded as interlaced, top field first."""
    options = {**X264, "x264-params": "tff=1"}
    return write_clip(clips / "interlaced.mp4", Recipe(options=options, interlaced=True))


@pytest.fixture(scope="session")
def captions_clip(clips: Path) -> Path:
    """CEA-608 captions in the SEI of every H.264 picture."""
    raw = write_clip(clips / "without-captions.h264", Recipe(options={**X264, "bf": "0"}))
    marked = bytearray()
    with av.open(str(raw)) as clip:
        for index, packet in enumerate(p for p in clip.demux(video=0) if p.size):
            data = bytes(packet)
            at = 0  # before the first slice (NAL types 1 and 5)
            while (at := data.index(b"\0\0\1", at)) and data[at + 3] & 31 not in (1, 5):
                at += 3
            at -= int(at > 0 and data[at - 1] == 0)
            marked += data[:at] + captions_sei(index) + data[at:]
    annexb, path = clips / "captions.h264", clips / "captions.mp4"
    annexb.write_bytes(marked)
    with av.open(str(annexb)) as clip, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(clip.streams.video[0])
        for index, packet in enumerate(p for p in clip.demux(video=0) if p.size):
            packet.pts = packet.dts = 40 * index
            packet.time_base, packet.duration, packet.stream = Fraction(1, 1000), 40, stream
            out.mux(packet)
    return path


@pytest.fixture(scope="session")
def gray_clip(clips: Path) -> Path:
    """One plane, no chroma."""
    return write_clip(clips / "gray.mkv", Recipe("ffv1", "gray", options={}))


@pytest.fixture(scope="session")
def yuv422_ten_bit_clip(clips: Path) -> Path:
    """4:2:2, 10 bit, BT.709."""
    return write_clip(clips / "yuv422p10.mkv", Recipe("ffv1", "yuv422p10le", options={}, color=(1, 1, 1, 1)))


@pytest.fixture(scope="session")
def yuv444_clip(clips: Path) -> Path:
    """4:4:4."""
    return write_clip(clips / "yuv444.mp4", Recipe(pix_fmt="yuv444p"))


@pytest.fixture(scope="session")
def twelve_bit_clip(clips: Path) -> Path:
    """12 bit."""
    return write_clip(clips / "yuv420p12.mkv", Recipe("ffv1", "yuv420p12le", options={}, color=(9, 1, 9, 18)))


@pytest.fixture(scope="session")
def rgb_clip(clips: Path) -> Path:
    """Planar RGB in H.264."""
    return write_clip(clips / "rgb.mkv", Recipe("libx264rgb", "rgb24", options={"preset": "ultrafast", "qp": "0"}))


@pytest.fixture(scope="session")
def alpha_clip(clips: Path) -> Path:
    """FFV1 with an alpha plane."""
    return write_clip(clips / "alpha.mkv", Recipe("ffv1", "yuva420p", options={}, alpha=True))


@pytest.fixture(scope="session")
def cover_clip(clips: Path, plain_clip: Path) -> Path:
    """An MP4 with album art, stored before the film."""
    art = clips / "art.png"
    Image.fromarray(picture(90, 40, 40)).save(art)
    out = clips / "cover.mp4"
    ffmpeg("-i", art, "-i", plain_clip, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", out)
    return out


@pytest.fixture(scope="session")
def second_video_clip(clips: Path) -> Path:
    """Two video streams; the second one is marked default."""
    small = write_clip(clips / "small.mp4", Recipe(size=(32, 32)))
    large = write_clip(clips / "large.mp4", Recipe())
    out = clips / "two-videos.mkv"
    ffmpeg(
        *("-i", small, "-i", large, "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v:0", "0", "-disposition:v:1", "default", out),
    )
    return out


@pytest.fixture(scope="session")
def one_frame_clip(clips: Path) -> Path:
    """A single picture."""
    return write_clip(clips / "one.mp4", Recipe(times=(0,)))


@pytest.fixture(scope="session")
def moov_at_end_clip(clips: Path) -> Path:
    """An MP4 larger than a pipe's buffer, its index behind the data."""
    noise = {"preset": "ultrafast", "qp": "0"}
    return write_clip(clips / "moov-at-end.mp4", Recipe(size=(96, 64), options=noise, times=tuple(range(0, 1000, 40))))


@pytest.fixture(scope="session")
def audio_only_clip(clips: Path) -> Path:
    """No video at all."""
    out = clips / "audio-only.mkv"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "flac", out)
    return out


@pytest.fixture(scope="session")
def truncated_clip(clips: Path) -> Path:
    """A Matroska file that stops in the middle."""
    path = write_clip(clips / "whole.mkv", Recipe(times=tuple(range(0, 1200, 40)), options={**X264, "crf": "20"}))
    data = path.read_bytes()
    out = clips / "truncated.mkv"
    out.write_bytes(data[: len(data) // 2])
    return out


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ns_restore with random weights in its last layer: it changes every picture a little."""
    import torch

    from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
    from ns_video.weights.save import Metadata, save_model

    torch.manual_seed(4)
    channels, blocks = SIZES["tiny"]
    network = NsRestore(NsRestoreConfig(channels=channels, blocks=blocks))
    with torch.no_grad():
        for weights in network.parameters():
            if not bool(weights.abs().sum()):
                weights.normal_(0, 0.02)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(network, path, Metadata("ns_restore"))
    return path


@pytest.fixture
def noisy() -> np.ndarray:
    """(48, 64, 3) uint8."""
    return picture(7)


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    """Two video tracks of 2 s, the second in French, its key frames 0.8 s apart."""
    source = tmp_path / "two.mkv"
    made = [("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=2") for size in ("96x64", "64x48")]
    options = ("-c:v", "libx264", "-g", "20", "-metadata:s:v:1", "language=fra")
    ffmpeg(*made[0], *made[1], "-map", "0", "-map", "1", *options, source)
    return source


@pytest.fixture
def finished(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> Path:
    """A run's output."""
    from ns_video.pipeline import restore

    target = tmp_path / "finished.mkv"
    restore(two_audio_subs_chapters_clip, target, model="identity", codec="ffv1")
    return target
