"""`ns-video restore` as its users call it: options, exit codes, what goes to which stream."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from material import FRAMES, Recipe, facts, write_clip
from PIL import Image

import ns_video
from ns_video.cli.restore import ProgressShown, watched
from ns_video.errors import StallError, printable
from ns_video.journal import work_folder
from ns_video.pipeline import Progress
from ns_video.prefetch import prefetch
from ns_video.record import RunRecord

IDENTITY = ("restore", "--model", "identity")


def test_a_run_says_what_it_did_on_standard_error(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mp4")
    assert (done.code, done.out) == (0, "")
    assert f"{FRAMES} frames" in done.err and "identity" in done.err
    done = ns_video("-q", *IDENTITY, plain_clip, tmp_path / "quiet.mp4")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_is_the_record_on_standard_output(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mp4", "--json", "--record", record)
    found = json.loads(done.out)
    assert found == json.loads(record.read_text())
    assert len(done.out.strip().splitlines()) == 1
    assert found["exit_code"] == done.code == 0
    assert found["model"]["name"] == "identity"


@pytest.mark.parametrize("key", ["bogus", "pixel_format", "pix_fmt", ""])
def test_input_options_that_nothing_knows_are_refused(
    key: str, ns_video: Command, plain_clip: Path, tmp_path: Path
) -> None:
    known = {"fflags": "+genpts", "ignore_editlist": "1", "decryption_key": "00" * 16, "blocksize": "4096"}
    known |= {"dump_separator": ",", "protocol_blacklist": "http", "codec_whitelist": "h264"}
    given = [f"--input-option={name}={value}" for name, value in known.items()]
    assert ns_video(*IDENTITY, plain_clip, tmp_path / "out.mkv", *given).code == 0
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "none.mkv", *given, f"--input-option={key}=1")
    assert done.code == 2 and (not key or f"no input option '{key}'" in done.err)
    assert not (tmp_path / "none.mkv").exists()


@pytest.mark.parametrize(
    "line",
    [
        ("restore", "", "b.mkv"),
        ("restore", "a.mkv", ""),
        ("restore", "a.mkv", "b.mkv", "--record", ""),
        ("verify", "", "a.mkv"),
        ("report", "", "--json"),
        ("report", "a.mkv", "-o", ""),
        ("degrade", "a.mkv", "", "--spec", "h264:crf=30"),
        ("evaluate", "--model", "identity", "--clips", "", "--degrade", "h264:crf=30"),
        ("train", ""),
        *(("restore", "a.mkv", "b.mkv", "--model", "identity", option, "-") for option in ("--record", "--report")),
    ],
)
def test_names_of_nothing_are_refused(
    line: tuple[str, ...], ns_video: Command, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mkv").write_bytes(plain_clip.read_bytes())
    done = ns_video(*line)
    assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.parametrize("name", ["null", "ipod", "adts", "nothing", "mov:mp3", ""])
def test_formats_that_are_only_written_are_not_read(
    name: str, ns_video: Command, plain_clip: Path, tmp_path: Path
) -> None:
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mkv", "--input-format", name)
    assert done.code == 2 and f"reads no format '{name}'" in done.err
    assert not (tmp_path / "out.mkv").exists()


def test_progress_as_json_has_nothing_else(plain_clip: Path, tmp_path: Path) -> None:
    """What is logged, by Python's warnings too, and how a second signal ends the program are rows as well."""
    code = """if True:
        import logging, os, signal, sys, time, warnings
        from ns_video.cli import restore, run

        def steps(*_):
            logging.getLogger("ns_video").warning("frame at %.1f s: odd\\nname", 0.2)
            warnings.warn("a library's")
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
            time.sleep(60)
            yield

        import ns_video.pipeline
        ns_video.pipeline.restore_steps = steps
        run(["restore", *sys.argv[1:], "--progress", "json"])
        """
    command = [sys.executable, "-c", code, str(plain_clip), str(tmp_path / "x.mkv")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 130
    first, second, last = map(json.loads, done.stderr.splitlines())
    assert first == {"phase": "log", "level": "warning", "message": "frame at 0.2 s: odd\nname"}
    assert second["phase"] == "log" and "UserWarning: a library's" in second["message"]
    assert last == {"phase": "failed", "error": "interrupted at once"}


def test_progress_as_json_lines(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    done = ns_video("-q", *IDENTITY, plain_clip, tmp_path / "out.mp4", "--progress", "json")
    rows = [json.loads(line) for line in done.err.splitlines()]
    assert done.out == ""
    assert rows[0]["phase"] == "restore"
    assert {"mux", "verify"} <= {r["phase"] for r in rows}
    assert rows[-1]["frames"] == FRAMES
    assert all({"frames", "frames_total", "seconds", "fps", "limiting_stage"} <= r.keys() for r in rows)


def test_all_lines_of_json_progress_are_rows(ns_video: Command, mp4_streams_clip: Path, tmp_path: Path) -> None:
    """Notes are in the row with which they come, once; the last row is of the result, or of what ended the run."""
    line = (*IDENTITY, mp4_streams_clip, tmp_path / "out.avi", "--progress", "json")
    record = tmp_path / "record.json"
    rows = [json.loads(text) for text in ns_video(*line, "--record", record).err.splitlines()]
    assert rows[0]["notes"] and rows[0]["frames"] == 0
    assert [note for row in rows for note in row.get("notes", [])] == json.loads(record.read_text())["warnings"]
    assert (rows[-1]["phase"], rows[-1]["frames"], rows[-1]["exit_code"]) == ("done", FRAMES, 0)
    (row,) = [json.loads(text) for text in ns_video(*line).err.splitlines()]
    assert row["phase"] == "failed" and "out.avi exists" in row["error"]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.avi").write_bytes((tmp_path / "out.avi").read_bytes())
    (folder / "b.mp4").write_bytes(b"nothing")
    (folder / "c.txt").write_bytes(b"words")
    done = ns_video("batch", "--model", "identity", folder, tmp_path / "made", "--progress", "json")
    rows = [json.loads(text) for text in done.err.splitlines()]
    assert done.code == 1 and {"note", "done", "failed"} <= {row["phase"] for row in rows}


@pytest.mark.parametrize("wrong", ["--crf=900", "--crf=none", "--crx=9", "--strength=9"])
def test_what_is_wrong_with_options_is_a_row_of_json_progress(
    wrong: str, ns_video: Command, plain_clip: Path, tmp_path: Path
) -> None:
    for style in (("--progress", "json"), ("--progress=json",)):
        for command in (("restore", plain_clip, tmp_path / "out.mkv"), ("batch", plain_clip.parent, tmp_path)):
            done = ns_video(*command, wrong, *style)
            (row,) = [json.loads(text) for text in done.err.splitlines()]
            assert done.code == 2 and row["phase"] == "failed" and row["error"]
    assert not ns_video("restore", plain_clip, tmp_path / "out.mkv", wrong).err.startswith("{")


def test_what_output_cannot_hold_is_said_before_the_work(
    ns_video: Command, mp4_streams_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (*IDENTITY, mp4_streams_clip, tmp_path / "out.avi", "-y")
    whole = ns_video(*line)
    notes = [text for text in whole.err.splitlines() if text.startswith("note: ") and "dropped" in text]
    assert whole.code == 0 and notes and whole.err.count("dropped") == len(set(notes)) == len(notes)
    assert whole.err.startswith(notes[0])
    bar = ns_video(*line, "--progress", "bar").err
    assert all(bar.count(note) == 1 for note in notes)
    assert ns_video("-q", *line).err == ""
    with monkeypatch.context() as failing:
        failing.setattr("ns_video.stage.PassThrough.run", lambda *_, **__: 1 // 0)
        broken = ns_video(*line)
    assert broken.code == 1 and broken.err.splitlines()[: len(notes)] == notes


@pytest.mark.parametrize("suffix", [".mkv", ".y4m"])
def test_progress_on_the_way_to_the_start(ns_video: Command, tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "long.mkv", Recipe(times=tuple(range(0, 40 * 150, 40))))
    line = (*IDENTITY, source, tmp_path / f"out{suffix}", "--start", "5.8", "-y", "--progress")
    rows = [json.loads(text) for text in ns_video(*line, "json").err.splitlines() if text.startswith("{")]
    assert (rows[0]["phase"], rows[0]["frames"]) == ("seek", 0)
    assert 3.9 < rows[0]["pts_seconds"] < 4.1 and rows[0]["frames_total"] == 5
    assert rows[-1]["frames"] == 5
    assert "at 4 s, on the way to --start" in ns_video(*line, "bar").err


def test_progress_as_a_bar(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    done = ns_video("-q", *IDENTITY, plain_clip, tmp_path / "out.mp4", "--progress", "bar")
    assert f"{FRAMES}/{FRAMES}" in done.err and "frame/s" in done.err
    done = ns_video("-q", *IDENTITY, plain_clip, tmp_path / "none.mp4", "--progress", "none")
    assert done.err == ""


def test_the_bar_tells_no_speed_of_what_was_done_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ProgressShown("bar", quiet=False, title="clip", told=None)
    shown.show(Progress("restore", frames=500, frames_total=1000, seconds=0.5))
    shown.close()
    states = capsys.readouterr().err.strip().split("\r")
    assert all("500/1000" in state and "?frame/s" in state for state in states)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--preset", "nothing"],
        ["--preset", "../x"],
        ["--strength", "2"],
        ["--strength", "-1"],
        ["--scale", "0"],
        ["--scale", "-1"],
        ["--size", "big"],
        ["--size", "0x10"],
        ["--sharpen", "7"],
        ["--start", "later"],
        ["--start", "-5"],
        ["--start", "."],
        ["--start", "0.2", "--end", "0.1"],
        ["--tile", "much"],
        ["--blend", "soup"],
        ["--precision", "fp8"],
        ["--encoder-option", "nonsense"],
        ["--codec", "nothing"],
        ["--format", "nothing"],
        ["--pix-fmt", "nothing"],
        ["--no-such-option"],
        ["--scale", "2", "--size", "64x64"],
        ["--crf", "-7"],
        ["--crf", "nan"],
        ["--crf", "64"],
        ["--crf", "101"],
        ["--size", "100000x100000"],
        ["--scale", "4", "--max-pixels", "10000"],
        ["--pix-fmt", "pal8"],
        ["--model", "nosuch"],
        ["--device", "foo"],
        ["--device", "cuda:x"],
        ["--tile", "3"],
        ["--overlap", "-3"],
        ["--threads", "100000"],
        ["--threads", "-1"],
        ["--max-pixels", "0"],
        ["--encoder-option", "preset=nosuch"],
    ],
)
def test_wrong_options_are_usage_errors(
    arguments: list[str], ns_video: Command, plain_clip: Path, tmp_path: Path
) -> None:
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mp4", *arguments)
    assert done.code == 2, done.err
    assert done.out == "" and "internal" not in done.err and "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--pix-fmt", "pal8"], ["--encoder-option", "preset=nosuch"]])
def test_options_that_the_encoder_of_a_pipe_refuses(options: list[str], ns_video: Command, plain_clip: Path) -> None:
    done = ns_video(*IDENTITY, plain_clip, "-", "--codec", "libx264", "--format", "matroska", *options)
    assert done.code == 2 and "internal" not in done.err, done.err


def test_what_an_encoder_refuses_is_told_in_words(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    other = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mp4", "--pix-fmt", "rgb24")
    assert "libx264 doesn't take rgb24 (it takes yuv420p, " in other.err
    value = ns_video(*IDENTITY, plain_clip, tmp_path / "out.mp4", "--encoder-option", "crf=abc")
    assert "libx264 as yuv420p with crf=abc: Invalid argument (" in value.err
    assert "avcodec" not in value.err and value.code == other.code == 2


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("out.mp4", ["--format", "mkv"], "out.mp4 holds matroska, as --format says, which its name doesn't"),
        ("out.mov", ["--format", "mp4"], None),
        ("out.mp4", ["--fit", "stretch"], "--fit stretch does nothing without --size"),
        ("out.mp4", ["--fit", "stretch", "--size", "64x48"], None),
        ("-", ["--resume"], "--resume does nothing here: a run through a pipe begins anew"),
        ("out.mp4", ["--resume"], None),
    ],
)
def test_options_that_do_nothing_or_other_than_the_name_are_told(
    name: str, options: list[str], note: str | None, ns_video: Command, plain_clip: Path, tmp_path: Path
) -> None:
    done = ns_video(*IDENTITY, plain_clip, "-" if name == "-" else tmp_path / name, *options)
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line.startswith("note: ")] == ([f"note: {note}"] if note else [])


def test_a_terminal_is_no_output(program: list[str], environment: dict[str, str], plain_clip: Path) -> None:
    pty = pytest.importorskip("pty")
    there, here = pty.openpty()
    line = [*program, *IDENTITY, str(plain_clip), "-"]
    done = subprocess.run(line, stdout=here, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(here)
    os.close(there)
    assert done.returncode == 2
    assert "standard output is a terminal (pipe it into a program, or name a file)" in done.stderr


def test_a_corrected_command_is_not_blocked(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    assert ns_video(*IDENTITY, plain_clip, target, "--encoder-option", "preset=nosuch").code == 2
    work = work_folder(target)
    work.mkdir(mode=0o700)
    header = b'{"format": 1}\n'  # killed before its first segment
    (work / "journal.jsonl").write_bytes(header)
    assert ns_video(*IDENTITY, plain_clip, target).code == 0
    work.mkdir(mode=0o700)
    (work / "journal.jsonl").write_bytes(header)
    assert ns_video(*IDENTITY, plain_clip, target).code == 2  # OUTPUT is there
    assert ns_video(*IDENTITY, plain_clip, target, "--resume").code == 2  # nothing says that it may be replaced
    assert ns_video(*IDENTITY, plain_clip, target, "--resume", "-y").code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]


def test_an_error_is_one_line_with_cause_and_remedy(ns_video: Command, tmp_path: Path) -> None:
    done = ns_video("restore", tmp_path / "absent.mp4", tmp_path / "out.mp4")
    assert done.code == 1
    assert done.err.startswith("error: ") and len(done.err.strip().splitlines()) == 1
    assert "absent.mp4" in done.err and "no such file" in done.err


def test_an_unknown_device_is_refused(ns_video: Command, plain_clip: Path, small_model: Path, tmp_path: Path) -> None:
    done = ns_video("restore", plain_clip, tmp_path / "out.mp4", "--model", small_model, "--device", "cuda:77")
    assert done.code == 1 and "cuda" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["input", "output", "record"])
def test_a_name_that_is_too_long(which: str, ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 300}.mkv"
    source, target = long if which == "input" else plain_clip, long if which == "output" else tmp_path / "out.mkv"
    done = ns_video(*IDENTITY, source, target, *(["--record", long] if which == "record" else []))
    assert done.code == 1 and "File name too long" in done.err, done.err
    assert len(done.err.strip().splitlines()) == 1 and "internal" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_existing_output_needs_a_yes(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    done = ns_video(*IDENTITY, plain_clip, target)
    assert done.code == 2 and "--overwrite" in done.err
    assert target.read_bytes() == b"precious"
    assert ns_video(*IDENTITY, plain_clip, target, "-y").code == 0
    assert len(facts(target).pictures) == FRAMES


def test_damage_is_exit_3_and_located(ns_video: Command, truncated_clip: Path, tmp_path: Path) -> None:
    done = ns_video(*IDENTITY, truncated_clip, tmp_path / "out.mkv", "--json")
    record = json.loads(done.out)
    assert done.code == record["exit_code"] == 3
    assert record["damage"] and record["damage"][0]["what"]
    done = ns_video(*IDENTITY, truncated_clip, tmp_path / "strict.mkv", "--strict")
    assert done.code == 1 and "--strict" in done.err
    assert not (tmp_path / "strict.mkv").exists()


def test_quiet_runs_say_why_they_end_with_3(
    ns_video: Command, plain_clip: Path, truncated_clip: Path, tmp_path: Path
) -> None:
    done = ns_video("-q", *IDENTITY, truncated_clip, tmp_path / "out.mkv")
    assert done.code == 3 and done.err.startswith(f"{tmp_path / 'out.mkv'}: damage: ") and done.err.count("\n") == 1
    for command in ("restore", "batch"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / "a.mkv").write_bytes(truncated_clip.read_bytes())
        ends = (
            (tmp_path / "in" / "a.mkv", tmp_path / "a.mkv")
            if command == "restore"
            else (tmp_path / "in", tmp_path / "out")
        )
        done = ns_video("-q", command, "--model", "identity", *ends, "--progress", "json")
        rows = [json.loads(line) for line in done.err.splitlines()]
        assert done.code == 3 and "a.mkv: damage: " in rows[-1]["notes"][0]
    assert ns_video("-q", *IDENTITY, plain_clip, tmp_path / "whole.mkv").err == ""


def test_the_record_tells_at_what_a_strict_run_ended(ns_video: Command, truncated_clip: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "out.mkv", Path(os.devnull)):
        record = tmp_path / f"{target.name}.json"
        options = ("--strict", "--format", "matroska", "--record", record)
        done = ns_video(*IDENTITY, truncated_clip, target, *options)
        found = json.loads(record.read_text())
        assert done.code == found["exit_code"] == 1 and found["frames_in"] > 0
        assert [place["what"] in done.err for place in found["damage"]] == [True]
    picture = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(picture)
    picture.write_bytes(picture.read_bytes()[:-500])
    done = ns_video(*IDENTITY, picture, tmp_path / "out.png", "--strict", "--record", tmp_path / "still.json")
    assert done.code == 1 and json.loads((tmp_path / "still.json").read_text())["damage"]


@pytest.mark.parametrize(
    "name",
    ["-dash.mp4", "a:b.mp4", "with 'quotes' \"x\".mp4", "%03d.mp4", "$(x)*.mp4", "line\nbreak.mp4", "юникод é.mp4"],
)
def test_odd_names(
    name: str, ns_video: Command, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(plain_clip.read_bytes())
    done = ns_video(*IDENTITY, f"./{name}", f"./out-{name}", "--record", "./-r.json")
    assert done.code == 0, done.err
    assert len(facts(tmp_path / f"out-{name}").pictures) == FRAMES
    assert json.loads((tmp_path / "-r.json").read_text())["exit_code"] == 0


def test_a_name_that_is_no_utf8_is_shown_safely(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    source = os.fsencode(tmp_path) + b"/b\xff.mp4"
    Path(os.fsdecode(source)).write_bytes(plain_clip.read_bytes())
    target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xfe.mp4"))
    done = ns_video(*IDENTITY, os.fsdecode(source), target, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["frames_out"] == FRAMES
    assert target.exists()


@pytest.mark.parametrize("name", [b"at 9.41\xe2\x80\xafPM \xc2\xa0.png", b'line\nfeed\xff "\\u202f.png'])
def test_the_record_holds_the_paths_as_given(
    name: bytes, ns_video: Command, noisy: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JSON undecodable bytes are lone surrogates, which os.fsencode takes; on a terminal all is escaped."""
    monkeypatch.chdir(tmp_path)
    source, target = os.fsdecode(name), os.fsdecode(b"out " + name)
    Image.fromarray(noisy).save(source)
    options = ("--record", "record.json", "--report", "page.html")
    done = ns_video(*IDENTITY, source, target, *options, "--json")
    assert done.code == 0, done.err
    rows = [json.loads(text) for text in (done.out, Path("record.json").read_bytes())]
    rows += [json.loads(Path("page.json").read_bytes())["run"]]
    for row in rows:
        assert (row["input"], row["output"]) == (source, target)
        assert Path(row["output"]).exists()
    done = ns_video(*IDENTITY, source, target, "-y", "--progress", "json")
    assert json.loads(done.err.splitlines()[-1])["output"] == target
    done = ns_video(*IDENTITY, source, target, "-y")
    assert done.code == 0 and target not in done.err and printable(target) in done.err


@pytest.mark.parametrize("name", ["model", "codec", "format", "pix-fmt", "allow-protocol"])
@pytest.mark.parametrize("command", ["restore", "batch"])
def test_an_empty_name_is_refused(name: str, command: str, ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    """As a shell gives it whose variable isn't set."""
    source, target = (plain_clip, tmp_path / "x.mkv") if command == "restore" else (plain_clip.parent, tmp_path / "out")
    done = ns_video(command, source, target, f"--{name}", "")
    assert done.code == 2 and " is empty (a shell's variable may not be set)" in done.err, done.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("evaluate", "--images", "missing", "--degrade", "jpeg:q=10"), ("bench",)])
def test_an_empty_model_is_refused_before_any_work(command: tuple[str, ...], ns_video: Command) -> None:
    done = ns_video(*command, "--model", "")
    assert done.code == 2 and " is empty (a shell's variable may not be set)\n" in done.err, done.err
    assert done.err.count("\n") == 1


def test_times_as_seconds_and_as_a_clock(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    for name, start, end in (("a", "0.08", "0.24"), ("b", "00:00:00.080", "0:00.24"), ("c", ".08", ".24")):
        done = ns_video(
            *IDENTITY, plain_clip, tmp_path / f"{name}.mkv", "--start", start, "--end", end, "--codec", "ffv1"
        )
        assert done.code == 0, done.err
        found = facts(tmp_path / f"{name}.mkv")
        assert found.samples == facts(plain_clip).samples[2:6]
        assert found.times == [Fraction(i * 40, 1000) for i in range(4)]


def test_encoder_options_reach_the_encoder(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    ns_video(*IDENTITY, plain_clip, tmp_path / "a.mp4")
    ns_video(*IDENTITY, plain_clip, tmp_path / "b.mp4", "--encoder-option", "x264-params=bframes=0:ref=1")
    assert b"bframes=3" in (tmp_path / "a.mp4").read_bytes()
    data = (tmp_path / "b.mp4").read_bytes()
    assert b"bframes=0" in data and b"ref=1 " in data


def test_pix_fmt_and_codec_names(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    done = ns_video(*IDENTITY, plain_clip, tmp_path / "a.mp4", "--codec", "hevc", "--pix-fmt", "yuv420p10le")
    assert done.code == 0, done.err
    assert facts(tmp_path / "a.mp4").pix_fmt == "yuv420p10le"


def test_a_still(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    Image.fromarray(noisy).save(tmp_path / "a.png")
    done = ns_video(*IDENTITY, tmp_path / "a.png", tmp_path / "b.webp", "--json")
    record = json.loads(done.out)
    assert (done.code, record["kind"], record["frames_out"]) == (0, "still", 1)
    done = ns_video(*IDENTITY, tmp_path / "a.png", tmp_path / "d.png", "--format", "jpeg")
    assert "d.png holds JPEG, as --format says" in done.err
    assert ns_video(*IDENTITY, tmp_path / "a.png", tmp_path / "e.jfif").code == 0
    with Image.open(tmp_path / "e.jfif") as image:
        assert image.format == "JPEG"
    assert ns_video(*IDENTITY, tmp_path / "a.png", tmp_path / "c.png", "--size", "32x32", "--fit", "stretch").code == 0
    with Image.open(tmp_path / "c.png") as image:
        assert image.size == (32, 32)


def test_stills_average_views_and_clips_do_not(
    ns_video: Command, plain_clip: Path, small_model: Path, tmp_path: Path
) -> None:
    """The default is 4 for a still and 1 for a clip; a preset and the option change it."""
    picture = tmp_path / "in.png"
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(picture)

    def restored(source: Path, name: str, *options: str) -> bytes:
        target = tmp_path / name
        assert ns_video("restore", "--model", small_model, *options, source, target).code == 0
        return target.read_bytes()

    usual = restored(picture, "usual.png")
    assert usual == restored(picture, "four.png", "--ensemble", "4")
    one = restored(picture, "one.png", "--ensemble", "1")
    assert one != usual and one == restored(picture, "fast.png", "--preset", "fast")
    clip = restored(plain_clip, "usual.nut")
    assert clip == restored(plain_clip, "one.nut", "--ensemble", "1")
    assert clip != restored(plain_clip, "two.nut", "--ensemble", "2")


def test_an_interrupted_run_says_where_and_resumes(
    program: list[str], environment: dict[str, str], ns_video: Command, tmp_path: Path
) -> None:
    source = write_clip(
        tmp_path / "in.mkv",
        Recipe(size=(96, 64), times=tuple(range(0, 40 * 900, 40)), options={"preset": "ultrafast"}),
    )
    target = tmp_path / "out.mkv"
    command = [*program, *IDENTITY, str(source), str(target), "--progress", "json"]
    command += ["--encoder-option", "preset=slower"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"{") and json.loads(line)["frames"] >= 260:
            break
    process.send_signal(signal.SIGINT)
    err = process.stderr.read().decode()
    assert process.wait(60) == 130, err
    assert "Traceback" not in err and "--resume" in err
    assert not target.exists()
    part = facts(tmp_path / "out.partial.mkv")
    assert 240 <= len(part.pictures) < 900
    process.stderr.close()
    done = ns_video(*IDENTITY, source, target, "--encoder-option", "preset=slower")
    assert done.code == 2 and "--resume" in done.err


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(
    closed: str, program: list[str], environment: dict[str, str], plain_clip: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.mkv"
    line = shlex.join([*program, *IDENTITY, str(plain_clip), str(target)])
    done = subprocess.run(f"{line} {closed}", shell=True, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(facts(target).pictures) == FRAMES


def test_a_result_nobody_can_read_is_an_error(program: list[str], environment: dict[str, str]) -> None:
    line = shlex.join([*program, "models", "list"])
    done = subprocess.run(f"{line} >&-", shell=True, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr


def test_help_names_every_option_of_the_contract(ns_video: Command) -> None:
    text = ns_video("restore", "--help").out
    for option in (
        *("--preset", "--model", "--strength", "--scale", "--size", "--fit", "--sharpen", "--device", "--precision"),
        *("--tile", "--overlap", "--blend", "--codec", "--crf", "--pix-fmt", "--encoder-option", "--format"),
        *("--input-format", "--input-option", "--start", "--end", "--deinterlace", "--resume", "--overwrite", "-y"),
        *("--report", "--record", "--strict", "--progress", "--allow-protocol"),
    ):
        assert option in text, option
    commands = ns_video("--help").out
    for name in ("restore", "batch", "report", "verify", "models", "evaluate", "degrade", "train", "bench", "doctor"):
        assert name in commands


@pytest.mark.parametrize("place", [("-q", "restore"), ("restore", "-q"), ("restore", "--quiet")])
def test_quiet_stands_on_either_side_of_the_command(
    ns_video: Command, plain_clip: Path, tmp_path: Path, place: tuple[str, str]
) -> None:
    loud = ns_video("restore", plain_clip, tmp_path / "loud.mkv", "--model", "identity")
    quiet = ns_video(*place, plain_clip, tmp_path / "quiet.mkv", "--model", "identity")
    assert (loud.code, quiet.code) == (0, 0) and loud.err and not quiet.err
    assert "--quiet" in ns_video("models", "list", "--help").out


def test_module_and_version(program: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, env=environment, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, f"ns-video, version {ns_video.__version__}")


@pytest.mark.parametrize("module", ["ns_video.cli", "click", "ns_video.pipeline"])
def test_an_interrupt_while_it_loads_is_quiet(module: str, environment: dict[str, str], tmp_path: Path) -> None:
    script = f"""
import sys
class Interrupting:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
sys.argv = ["ns-video", "restore", "a.mkv", "b.mkv"]
from ns_video.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("phase", "stands"), [("restore", True), ("seek", True), ("mux", False), (None, False)])
def test_only_what_gives_frames_is_watched(phase: str | None, stands: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A still, a mux and a check tell nothing on their way: slow ones are not ended."""
    monkeypatch.setattr("ns_video.cli.restore._TURN_SECONDS", 0.02)
    release = threading.Event()

    def steps() -> Generator[Progress, None, RunRecord]:
        if phase is not None:
            yield Progress(phase, 1, 10, 0.0)
        release.wait(30.0 if stands else 0.5)
        return RunRecord(frames_out=1)

    if stands:
        with pytest.raises(StallError, match="encode: nothing came"):
            watched(steps(), lambda _: None, 0.2)
    else:
        assert watched(steps(), lambda _: None, 0.2).frames_out == 1
    release.set()


def test_a_stage_that_is_watched_by_who_waits_for_it_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ns_video.cli.restore._TURN_SECONDS", 0.02)

    def slow() -> Generator[int]:
        time.sleep(0.5)
        yield 0

    def steps() -> Generator[Progress, None, RunRecord]:
        yield Progress("restore", 1, 10, 0.0)
        return RunRecord(frames_out=len(list(prefetch(slow(), 1, size_of=lambda _: 1, stall_seconds=30))))

    assert watched(steps(), lambda _: None, 0.2).frames_out == 1
