"""The long form: fifty kills, thousands of damaged files, an hour of video. `make torture`."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import pytest

from torture.clips import RECIPES, content_of, cut, decodable_frames, make_clip, picture
from torture.kills import PLACES, kill_and_resume, reference_run
from torture.workshop import Limits, Workshop

pytestmark = pytest.mark.torture
pytest_plugins = ["torture.fixtures"]

KILLS = int(os.environ.get("NS_VIDEO_TORTURE_KILLS", "50"))
FILES = int(os.environ.get("NS_VIDEO_TORTURE_FILES", "5000"))
MINUTES = float(os.environ.get("NS_VIDEO_TORTURE_MINUTES", "60"))
SEEDS = os.environ.get("NS_VIDEO_TORTURE_SEEDS")
"""A folder of clips to be damaged beside the generated ones."""


def _benchmark(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up.
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_fifty_kills_resume_the_same(shop: Workshop, tmp_path: Path) -> None:
    rng = random.Random(time.time_ns())
    reference = reference_run(shop, tmp_path)
    rounds = []
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        place = PLACES[number // 2 % len(PLACES)] if number % 2 else None
        rounds.append(
            kill_and_resume(shop, reference, folder / "out.mkv", rng, place=place, times=3 if number % 7 == 6 else 1)
        )
    assert [r for r in rounds if not r.same or r.problems] == []
    assert sum(r.segments_kept > 0 for r in rounds) >= KILLS // 3


def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    fuzz = _benchmark("fuzz")
    from torture.clips import make_clips, make_stills

    seeds = make_clips(tmp_path) + make_stills(tmp_path)
    if SEEDS:
        seeds += [p for p in sorted(Path(SEEDS).iterdir()) if p.is_file() and 0 < p.stat().st_size <= 110_000]
    tally = fuzz.campaign(seeds, FILES, time.time_ns(), tmp_path / "kept", nice=0, every=5, quiet=False)
    assert tally.files == FILES
    assert tally.broken == []


@pytest.mark.parametrize("name", ["faststart.mp4", "fragmented.mp4", "h264.mkv", "h264.ts", "mpeg4.avi", "vp9.webm"])
def test_twenty_cuts_of_each_container(shop: Workshop, seeds: dict[str, Path], tmp_path: Path, name: str) -> None:
    data = seeds[name].read_bytes()
    for percent in (1, *range(5, 100, 5), 99):
        source = tmp_path / name
        source.write_bytes(cut(data, percent / 100))
        output = tmp_path / "out.mkv"
        outcome = shop.restore(source, output)
        expected = decodable_frames(source)
        told = (percent, outcome.code, outcome.stderr)
        assert not outcome.hung and not outcome.signal and not outcome.traceback, told
        assert outcome.code == 1 if expected == 0 else outcome.code in (0, 3), told
        if expected:
            assert len(content_of(output).frames) >= expected, told
            output.unlink()


def test_disk_that_fills_up_at_every_size(shop: Workshop, tmp_path: Path) -> None:
    reference = reference_run(shop, tmp_path, frames=96)
    for suffix in (".mkv", ".mp4", ".ts"):
        for kib in (1, 2, 4, 8, 16, 32, 64):
            output = tmp_path / f"out{suffix}"
            outcome = shop.restore(reference.source, output, limits=Limits(file_bytes=kib << 10))
            assert outcome.code in (0, 1) and not outcome.hung and not outcome.signal, (suffix, kib, outcome.stderr)
            assert output.exists() == (outcome.code == 0)
            if outcome.code:
                outcome = shop.restore(reference.source, output, "--resume")
                assert outcome.code == 0, (suffix, kib, outcome.stderr)
            assert len(content_of(output).frames) == 96
            output.unlink()
            assert not [p for p in tmp_path.iterdir() if p.name.startswith(".ns-video-")]


def _long_clip(path: Path, minutes: float) -> int:
    """An hour of 480p with sound, made by copying the packets of ten seconds again and again."""
    recipe = replace(RECIPES["h264.mkv"], codec_options=(("preset", "ultrafast"), ("g", "50"), ("bf", "0")))
    short = make_clip(path.with_name("ten.mkv"), recipe, 250, size=(854, 480))
    loops = max(1, round(minutes * 6))
    frames = 0
    with av.open(str(path), "w") as out:
        with av.open(str(short)) as source:
            made = {s.index: out.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio")}
        for loop in range(loops):
            with av.open(str(short)) as source:
                for packet in source.demux(*[source.streams[i] for i in made]):
                    if not packet.size:
                        continue
                    ticks = round(Fraction(10 * loop) / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    frames += packet.stream.type == "video"
                    packet.stream = made[packet.stream_index]
                    out.mux(packet)
    return frames


def test_an_hour_of_video_in_flat_memory(shop: Workshop, tmp_path: Path) -> None:
    """Resident memory and descriptors are read from outside while a long clip is restored."""
    source, output = tmp_path / "long.mkv", tmp_path / "out.mkv"
    frames = _long_clip(source, MINUTES)
    run = shop.start(
        "restore", "--model", "identity", "--encoder-option", "preset=ultrafast", source, output,
        limits=Limits(address_space_growth=None),
    )  # fmt: skip
    resident: list[int] = []
    descriptors: list[int] = []
    threads: list[int] = []
    while run.running():
        try:
            resident.append(int(Path(f"/proc/{run.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))
            descriptors.append(len(os.listdir(f"/proc/{run.pid}/fd")))  # noqa: PTH208 - of another process
            threads.append(len(os.listdir(f"/proc/{run.pid}/task")))  # noqa: PTH208
        except OSError:
            break
        time.sleep(1)
    outcome = run.wait()
    assert outcome.code == 0, outcome.stderr
    settled = [r for r in resident[len(resident) // 5 :] if r]
    assert len(settled) > 10
    first, last = settled[: len(settled) // 4], settled[-(len(settled) // 4) :]
    assert sum(last) / len(last) < 1.05 * sum(first) / len(first)
    assert max(descriptors[len(descriptors) // 5 :]) <= max(descriptors[: len(descriptors) // 5]) + 2
    assert max(threads[len(threads) // 5 :]) <= max(threads[: len(threads) // 5]) + 2
    with av.open(str(source)) as before, av.open(str(output)) as after:
        counted = [0, 0]
        ends = []
        for place, clip in enumerate((before, after)):
            last_times = {}
            for packet in clip.demux():
                if packet.size:
                    counted[place] += packet.stream.type == "video"
                    last_times[packet.stream.type] = packet.pts * packet.time_base
            ends.append(last_times["audio"] - last_times["video"])
    assert counted[0] == counted[1] == frames
    assert abs(ends[0] - ends[1]) < Fraction(3, 1000)


def test_interpreter_ends_while_frame_threads_log(seeds: dict[str, Path], tmp_path: Path) -> None:
    """A reader that is dropped in the middle of a damaged clip, over and over: closing must not wait for a log line."""
    data = bytearray(make_clip(tmp_path / "many.mkv", RECIPES["h264.mkv"], 200, size=(320, 240)).read_bytes())
    rng = random.Random(2)
    for _ in range(400):
        data[rng.randrange(3000, len(data))] ^= 255
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(bytes(data))
    script = tmp_path / "drop.py"
    script.write_text(
        "import sys\n"
        "from ns_video.errors import NsVideoError\n"
        "from ns_video.media.decode import DecodeOptions, open_clip\n"
        "for stop in range(60):\n"
        "    with open_clip(sys.argv[1], DecodeOptions(threads=4)) as reader:\n"
        "        frames = reader.frames()\n"
        "        try:\n"
        "            for number, frame in enumerate(frames):\n"
        "                if number >= stop:\n"
        "                    break\n"
        "        except NsVideoError:\n"
        "            continue\n"
        "        del frames\n"
    )
    for _ in range(5):
        done = subprocess.run(
            [os.sys.executable, script, damaged],  # pyright: ignore[reportAttributeAccessIssue]
            timeout=120,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            check=False,
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr


def test_pictures_of_the_generator_differ() -> None:
    """Kills can only be told from whole runs by frames that differ."""
    assert len({picture(i).tobytes() for i in range(200)}) == 200
