"""`ns-video batch`: a tree in, the same tree out; finished files are skipped, failed ones don't stop it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, ffmpeg
from material import FRAMES, Recipe, facts, write_clip
from PIL import Image
from torture.workshop import Workshop

from ns_video.errors import Interrupted, OutputError
from ns_video.frame import Frame
from ns_video.media.encode import FrameEncoder
from ns_video.pipeline import RestoreOptions, restore_steps
from ns_video.pipeline.segment import Segment

IDENTITY = ("batch", "--model", "identity")


@pytest.fixture
def folder(plain_clip: Path, noisy: object, tmp_path: Path) -> Path:
    """A clip, stills in a sub-folder, notes that are no media, a broken clip."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "a.mp4").write_bytes(plain_clip.read_bytes())
    Image.fromarray(noisy).save(root / "sub" / "photo.jpg")
    Image.fromarray(noisy).save(root / "sub" / "photo.webp", lossless=True)
    (root / "notes.txt").write_text("not media")
    (root / "broken.mp4").write_text("not a clip")
    return root


JOURNAL = ".ns-video-finished.jsonl"


def tree(folder: Path) -> list[str]:
    """All files below, by relative name, but for the note of what is finished."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != JOURNAL)


def test_same_tree_a_broken_file_and_what_is_finished(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ns_video(*IDENTITY, folder, out)
    assert done.code == 1
    assert "error: " in done.err and "broken.mp4" in done.err and "Traceback" not in done.err
    assert tree(out) == ["a.mp4", "sub/photo.jpg.png", "sub/photo.webp.png"]
    assert len(facts(out / "a.mp4").pictures) == FRAMES
    assert "3 restored, 0 were finished, 1 failed" in done.err
    stamp = (out / "a.mp4").stat().st_mtime_ns
    done = ns_video(*IDENTITY, folder, out)
    assert done.code == 1 and "0 restored, 3 were finished, 1 failed" in done.err
    assert (out / "a.mp4").stat().st_mtime_ns == stamp
    (folder / "broken.mp4").unlink()
    (out / "a.mp4").unlink()
    done = ns_video(*IDENTITY, folder, out)
    assert done.code == 0 and "1 restored, 2 were finished, 0 failed" in done.err
    done = ns_video(*IDENTITY, folder, out, "-y")
    assert done.code == 0 and "3 restored" in done.err


def test_json_is_a_record_a_line(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    done = ns_video("-q", *IDENTITY, folder, tmp_path / "out", "--json", "--still-format", "webp")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(Path(r["input"]).name for r in rows) == ["a.mp4", "broken.mp4", "photo.jpg", "photo.webp"]
    assert [r["exit_code"] for r in rows if r["input"].endswith("broken.mp4")] == [1]
    assert all(r["frames_out"] for r in rows if "broken" not in r["input"])
    assert tree(tmp_path / "out") == ["a.mp4", "sub/photo.jpg.webp", "sub/photo.webp.webp"]


def test_what_other_options_made_is_left_and_named(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "broken.mp4").unlink()
    assert ns_video("-q", *IDENTITY, folder, out, "--threads", "1").code == 0
    done = ns_video(*IDENTITY, folder, out)
    assert done.code == 0 and "note: finished before, and left: 3 (--overwrite restores again)\n" in done.err
    assert "with other options" not in done.err
    done = ns_video("batch", "--preset", "fast", "--crf", "20", folder, out)
    assert done.code == 0 and "0 restored, 3 were finished" in done.err
    both = "preset auto, now fast, model identity, now unset"
    again = "(--overwrite restores again)"
    assert f"note: finished with other options ({both}, crf unset, now 20.0): a.mp4 {again}\n" in done.err
    assert f"with other options ({both}): sub/photo.jpg.png, sub/photo.webp.png {again}\n" in done.err
    assert not ns_video("-q", "batch", "--preset", "fast", folder, out).err
    (out / "a.mp4").write_bytes((folder / "a.mp4").read_bytes())  # of which nobody knows what made it
    rows = [*map(json.loads, (out / JOURNAL).read_text().splitlines())]
    assert rows[0]["output"] == "a.mp4" and rows[0]["options"]["model"] == "identity"
    assert "a.mp4" not in ns_video("batch", "--preset", "fast", folder, out).err


def test_what_is_left_has_its_row(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    def rows(*options: str) -> dict[str, Any]:
        done = ns_video("-q", "batch", folder, tmp_path / "out", "--json", *options)
        return {Path(row["input"]).name: row for row in map(json.loads, done.out.splitlines())}

    first = rows("--model", "identity")
    states = {name: row["state"] for name, row in first.items()}
    assert states == {**dict.fromkeys(("a.mp4", "photo.jpg", "photo.webp"), "restored"), "broken.mp4": "failed"}
    again = rows("--model", "identity")
    assert {name: row["state"] for name, row in again.items()} == {
        **dict.fromkeys(("a.mp4", "photo.jpg", "photo.webp"), "finished"),
        "broken.mp4": "failed",
    }
    for name in ("a.mp4", "photo.jpg"):
        assert again[name] == {key: first[name][key] for key in ("input", "output", "exit_code")} | {
            "state": "finished"
        }
    other = rows()["a.mp4"]["other_options"]
    assert other == {"model": {"was": "identity", "is": None}}
    stamp = (folder / "a.mp4").stat().st_mtime_ns + 10**12
    os.utime(folder / "a.mp4", ns=(stamp, stamp))
    with (tmp_path / "out" / "a.mp4").open("ab") as made:
        made.write(b"\0")
    assert rows("--model", "identity")["a.mp4"]["state"] == "doubtful"


@pytest.mark.parametrize("what", ["write_run_report", "write_index"])
def test_a_report_that_is_lost_is_counted_and_ends_with_1(
    what: str,
    ns_video: Command,
    noisy: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise OutputError("index.html: No space left on device", stage="report")

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noisy).save(source / name)
    monkeypatch.setattr(f"ns_video.report.{what}", lost)
    done = ns_video(*IDENTITY, source, out, "--report", "--json")
    count = ", 2 without a report or record" if what == "write_run_report" else ""
    assert done.code == 1 and f"2 restored, 0 were finished, 0 failed{count}\n" in done.err
    assert "No space left on device" in done.err + caplog.text and "Traceback" not in done.err
    codes = [json.loads(line)["exit_code"] for line in done.out.splitlines()]
    assert codes == [int(what == "write_run_report")] * 2
    assert {name for name in tree(out) if name.endswith(".png")} == {"a.png", "b.png"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError()])
def test_rows_that_nobody_takes_end_no_batch(
    error: OSError, ns_video: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emit(_: object) -> None:
        raise error

    monkeypatch.setattr("ns_video.cli.batch.emit", emit)
    done = ns_video("-q", *IDENTITY, folder, tmp_path / "out", "--json")
    assert done.code == 1 and tree(tmp_path / "out") == ["a.mp4", "sub/photo.jpg.png", "sub/photo.webp.png"]
    told = [line for line in done.err.splitlines() if "broken.mp4" not in line]
    full = ["error: standard output: No space left on device (the outputs are whole)"]
    assert told == ([] if isinstance(error, BrokenPipeError) else full)


def test_damaged_files_are_finished_and_counted(ns_video: Command, truncated_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.mkv").write_bytes(truncated_clip.read_bytes())
    done = ns_video("-q", *IDENTITY, tmp_path / "in", tmp_path / "out", "--json")
    assert done.code == json.loads(done.out)["exit_code"] == 3
    assert (tmp_path / "out" / "t.mkv").exists()
    done = ns_video("-q", *IDENTITY, tmp_path / "in", tmp_path / "out", "-y")
    assert done.code == 3 and "t.mkv: damage: " in done.err and len(done.err.splitlines()) == 1
    done = ns_video(*IDENTITY, tmp_path / "in", tmp_path / "out", "-y")
    assert done.code == 3 and "1 restored, 0 were finished, 0 failed, 1 with damage\n" in done.err
    assert ns_video("-q", *IDENTITY, tmp_path / "in", tmp_path / "out").code == 0
    (tmp_path / "in" / "broken.mp4").write_text("not a clip")
    assert ns_video("-q", *IDENTITY, tmp_path / "in", tmp_path / "out", "-y").code == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.apng", "a.webp", "a.y4m", "a.ivf", "b.png", "b.avif"])
def test_what_cannot_be_opened_is_not_called_finished(
    name: str, ns_video: Command, plain_clip: Path, noisy: Any, tmp_path: Path
) -> None:
    source = tmp_path / "in" / name
    source.parent.mkdir()
    if name.startswith("a"):
        assert ns_video("-q", "restore", "--model", "identity", plain_clip, source).code == 0
    else:
        Image.fromarray(noisy).save(source)
    assert ns_video("-q", *IDENTITY, source.parent, tmp_path / "out").code == 0
    done = ns_video(*IDENTITY, source.parent, tmp_path / "out")
    assert done.code == 0 and "0 restored, 1 were finished, 0 failed" in done.err
    (made,) = (tmp_path / "out" / name for name in tree(tmp_path / "out"))
    made.write_bytes(b"8 bytes\n")
    done = ns_video("-q", *IDENTITY, source.parent, tmp_path / "out")
    assert done.code == 1 and f"{made.name} is there, but no clip and no still (--overwrite" in done.err
    assert ns_video("-q", *IDENTITY, source.parent, tmp_path / "out", "-y").code == 0
    made.unlink()
    made.mkdir()
    assert ns_video("-q", *IDENTITY, source.parent, tmp_path / "out").code == 1


def test_output_inside_the_input_is_not_eaten(ns_video: Command, folder: Path) -> None:
    (folder / "broken.mp4").unlink()
    assert ns_video("-q", *IDENTITY, folder, folder / "restored").code == 0
    assert ns_video("-q", *IDENTITY, folder, folder / "restored").code == 0
    assert tree(folder / "restored") == ["a.mp4", "sub/photo.jpg.png", "sub/photo.webp.png"]


def test_output_into_a_folder_above_the_input(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "proj" / "in"
    (source / "in").mkdir(parents=True)
    (source / "a.mp4").write_bytes(plain_clip.read_bytes())
    assert ns_video("-q", *IDENTITY, source, source.parent).code == 0
    assert tree(source.parent) == ["a.mp4", "in/a.mp4"]
    (source / "in" / "a.mp4").write_bytes(plain_clip.read_bytes())
    done = ns_video("-q", *IDENTITY, source, source.parent, "-y")
    assert done.code == 2 and "in/a.mp4 would lie in INPUT_DIR" in done.err
    assert (source / "a.mp4").read_bytes() == plain_clip.read_bytes()


def test_wrong_folders(ns_video: Command, plain_clip: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ns_video(*IDENTITY, tmp_path / "absent", tmp_path / "out").code == 1
    assert ns_video(*IDENTITY, plain_clip, tmp_path / "out").code == 1
    assert ns_video(*IDENTITY, tmp_path / "empty", tmp_path / "out").code == 1
    assert ns_video(*IDENTITY, folder, folder).code == 2
    assert ns_video(*IDENTITY, "", tmp_path / "out").code == ns_video(*IDENTITY, folder, "").code == 2
    assert ns_video(*IDENTITY, folder, tmp_path / "out", "--preset", "nothing").code == 2
    assert not (tmp_path / "out" / "a.mp4").exists()


@pytest.mark.parametrize(("first", "second"), [("jpg", "webp"), ("webp", "jpg"), ("png", "jpg"), ("bmp", "png")])
def test_a_file_that_came_later_is_not_called_finished(
    first: str, second: str, ns_video: Command, noisy: object, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(noisy).save(folder / f"p.{first}")
    assert ns_video(*IDENTITY, folder, out).code == 0
    assert tree(out) == ["p.png"]
    Image.fromarray(255 - noisy).save(folder / f"p.{second}")
    done = ns_video(*IDENTITY, folder, out)
    assert done.code == 0 and "0 restored" not in done.err, done.err
    later = out / f"p.{second}.png"
    with Image.open(folder / f"p.{second}") as wanted, Image.open(later) as found:
        assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(wanted.convert("RGB")))
    assert "0 restored, 2 were finished" in ns_video(*IDENTITY, folder, out).err


def test_a_name_that_holds_no_times_becomes_mkv(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    ffmpeg("-i", plain_clip, "-c", "copy", source / "a.264")
    assert ns_video("batch", source, tmp_path / "out", "--model", "identity").code == 0
    assert tree(tmp_path / "out") == ["a.mkv"]


def test_a_folder_that_cannot_be_made_fails_its_files_alone(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "a").mkdir(parents=True)
    out.mkdir()
    (out / "a").write_text("in the way")
    for name in ("a/x.png", "b.png"):
        Image.fromarray(noisy).save(source / name)
    done = ns_video(*IDENTITY, source, out, "--json")
    assert done.code == 1 and "1 restored, 0 were finished, 1 failed" in done.err
    failed, record = (json.loads(line) for line in done.out.splitlines())
    assert failed["input"].endswith("x.png") and failed["exit_code"] == 1
    assert record["output"].endswith("b.png") and (out / "b.png").exists()


def test_the_index_lists_reports_of_earlier_runs(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name, extra in (("plain.png", ()), ("first.png", ("--report",)), ("second.png", ("--report",))):
        Image.fromarray(noisy).save(source / name)
        assert ns_video(*IDENTITY, source, out, *extra).code == 0
    index = (out / "index.html").read_text()
    assert "first.png.html" in index and "second.png.html" in index and "plain.png" not in index


def test_names_are_shown_safely_and_broken_links_are_named(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "evil\x1b[2J.mp4").write_text("not a clip")
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    done = ns_video(*IDENTITY, folder, tmp_path / "out")
    assert done.code == 1 and "3 failed" in done.err
    assert "\x1b" not in done.err and "evil\\x1b[2J.mp4" in done.err and "gone.mp4: open: " in done.err
    done = ns_video(*IDENTITY, tmp_path / "no\x1b[2J", tmp_path / "out")
    assert "is not a folder" in done.err and "\x1b" not in done.err


def test_names_that_are_no_utf8_are_listed(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    named, broken = (source / os.fsdecode(name) for name in (b"caf\xe9.png", b"b\xff.mp4"))
    Image.fromarray(noisy).save(named)
    broken.write_text("not a clip")
    done = ns_video(*IDENTITY, source, out, "--report", "--json")
    assert done.code == 1 and "1 restored, 0 were finished, 1 failed" in done.err
    failed, record = map(json.loads, done.out.splitlines())
    assert "error" in failed and failed["input"] == str(broken)
    assert record["input"] == str(named) and Path(record["output"]).exists()
    assert "caf%E9.png.html" in (out / "index.html").read_text()
    assert (out / os.fsdecode(b"caf\xe9.png.html")).is_file()


def test_a_file_that_fails_by_surprise_ends_no_batch(
    ns_video: Command, noisy: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ns_video.pipeline import still

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noisy).save(source / name)
    (source / "loop.png").symlink_to("loop.png")
    read = still.read_still

    def surprising(path: Path, **options: int) -> object:
        if path.name == "a.png":
            raise ZeroDivisionError("by surprise")
        return read(path, **options)

    monkeypatch.setattr(still, "read_still", surprising)
    done = ns_video(*IDENTITY, source, out, "--json")
    assert done.code == 1 and tree(out) == ["b.png"]
    assert "1 restored, 0 were finished, 2 failed" in done.err and "Traceback" not in done.err
    assert "a.png: internal: ZeroDivisionError: by surprise" in done.err and "loop.png: " in done.err
    assert [row.get("exit_code") for row in map(json.loads, done.out.splitlines())] == [1, 0, 1]


def test_clips_and_stills_are_told_by_content_and_the_rest_is_named(
    ns_video: Command, plain_clip: Path, noisy: object, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("noext", "x.dv", "x.2019"):
        (source / name).write_bytes(plain_clip.read_bytes())
    ffmpeg("-i", plain_clip, source / "e.m2v")
    Image.fromarray(noisy).save(source / "photo", "PNG")
    Image.fromarray(noisy).save(tmp_path / "cover.jpg")
    Image.fromarray(noisy).save(source / "camera.nef", "TIFF")
    Image.fromarray(noisy).resize((64, 64)).save(source / "icon.ico")
    sound = ("-f", "lavfi", "-i", "sine=duration=0.2", "-i", tmp_path / "cover.jpg", "-map", "0", "-map", "1")
    ffmpeg(*sound, "-c:v", "copy", "-disposition:v", "attached_pic", source / "song.mp3")
    (source / "a.txt").write_text("BMW and notes")
    (source / "b.nfo").write_text("text that libav draws")
    os.mkfifo(source / "pipe.nut")
    (tmp_path / "elsewhere").mkdir()
    (source / "album").symlink_to(tmp_path / "elsewhere")
    (source / "itself").symlink_to(source)
    done = ns_video(*IDENTITY, source, out)
    assert done.code == 0, done.err
    assert tree(out) == ["e.mkv", "noext.mkv", "photo.png", "x.2019.mkv", "x.dv.mkv"]
    assert "no clip and no still: a.txt, b.nfo, camera.nef, icon.ico, pipe.nut, song.mp3\n" in done.err
    assert "linked folders are not followed: album, itself\n" in done.err
    assert "5 restored, 0 were finished, 0 failed, 8 left out" in done.err
    assert not ns_video("-q", *IDENTITY, source, out).err


def test_raw_clips_are_found_by_their_options(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ffmpeg("-i", plain_clip, "-vf", "scale=64:48", "-pix_fmt", "yuv420p", tmp_path / "in" / "a.yuv")
    arguments = (*IDENTITY, tmp_path / "in", tmp_path / "out")
    assert ns_video(*arguments).code == 1
    raw = ("--input-format", "rawvideo", "--input-option", "video_size=64x48")
    for wrong in (raw[:2], (*raw, "--input-option", "r=50"), ("--input-format", "null")):
        assert ns_video(*arguments, *wrong).code == 2
    assert ns_video(*arguments, *raw).code == 0
    assert tree(tmp_path / "out") == ["a.mkv"]


def test_folders_that_cannot_be_read_fail(plain_clip: Path, tmp_path: Path) -> None:
    """As a user without rights: root may read everywhere."""
    with tempfile.TemporaryDirectory() as name, Workshop(tmp_path) as shop:
        top = Path(name)
        source = top / "in"
        for folder in ("closed", "shut", "open"):
            (source / folder).mkdir(parents=True)
            (source / folder / "a.mp4").write_bytes(plain_clip.read_bytes())
        top.chmod(0o777)
        (source / "closed").chmod(0)
        (source / "shut").chmod(0o444)
        user = {"user": 65534} if os.geteuid() == 0 else {}
        done = shop.start(*IDENTITY, source, top / "out", "--json", tunings=user).wait()
        (source / "closed").chmod(0o755)
        (source / "shut").chmod(0o755)
        assert done.code == 1 and tree(top / "out") == ["open/a.mp4"], done.stderr
        assert "1 restored, 0 were finished, 2 failed" in done.stderr
        assert f"error: {source / 'closed'}: Permission denied" in done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["input"] for row in rows if "error" in row] == [str(source / "closed"), str(source / "shut/a.mp4")]


def test_the_index_replaces_only_an_index(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    Image.fromarray(noisy).save(source / "a.png")
    own = "<!doctype html><title>My pictures</title>"
    (out / "index.html").write_text(own)
    done = ns_video(*IDENTITY, source, out, "--report")
    assert done.code == 2 and "index.html exists and is no report" in done.err
    assert (out / "index.html").read_text() == own and tree(out) == ["index.html"]
    assert ns_video(*IDENTITY, source, out, "--report", "-y").code == 0
    assert (out / "index.html").read_text() != own
    assert ns_video(*IDENTITY, source, out, "--report").code == 0


def test_records_lie_beside_the_outputs(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    Image.fromarray(noisy).save(source / "sub" / "a.png")
    assert ns_video(*IDENTITY, source, out).code == 0
    done = ns_video(*IDENTITY, source, out, "--record")
    assert done.code == 0 and "finished without a record: 1 " in done.err
    done = ns_video(*IDENTITY, source, out, "--record", "--json", "--overwrite")
    kept = json.loads((out / "sub" / "a.png.record.json").read_text())
    assert {**kept, "state": "restored"} == json.loads(done.out)
    (out / "sub" / "a.png.record.json").write_text("notes of mine")
    (source / "sub" / "a.png").touch()
    done = ns_video(*IDENTITY, source, out, "--record")
    assert done.code == 1 and "a.png.record.json exists and is no record" in done.err


def test_finished_files_without_a_report_are_counted(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    Image.fromarray(noisy).save(source / "a.png")
    assert "without a report" not in ns_video(*IDENTITY, source, out).err
    done = ns_video(*IDENTITY, source, out, "--report")
    assert done.code == 0 and "finished without a report: 1 " in done.err and "--overwrite" in done.err
    assert ns_video(*IDENTITY, source, out, "--report", "--overwrite").code == 0
    assert "without a report" not in ns_video(*IDENTITY, source, out, "--report").err


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (("--model", "nothing"), 2),
        (("--model", "absent.pth"), 1),
        (("--codec", "nothing"), 2),
        (("--format", "nothing"), 2),
        (("--device", "nothing"), 2),
        (("--preset", "nothing"), 2),
    ],
)
def test_what_nothing_is_called_is_told_once(
    wish: tuple[str, str], code: int, ns_video: Command, noisy: object, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noisy).save(tmp_path / "in" / name)
    done = ns_video("batch", tmp_path / "in", tmp_path / "out", *wish)
    assert done.code == code and done.err.count("error: ") == 1, done.err
    assert "failed" not in done.err and not tree(tmp_path / "out")


def test_options_of_clips_leave_stills_alone(ns_video: Command, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.mp4").unlink()
    (folder / "sub" / "photo.webp").unlink()
    sizes: list[int] = []
    for number, more in enumerate((("--still-quality", "95"), ("--still-quality", "20"))):
        options = ("--crf", "40", "--codec", "libx264", "--format", "mp4", "--still-format", "jpg", *more)
        done = ns_video(*IDENTITY, folder, tmp_path / f"{number}", *options)
        assert done.code == 0 and "2 restored" in done.err
        sizes.append((tmp_path / f"{number}" / "sub" / "photo.jpg").stat().st_size)
    assert sizes[1] < sizes[0] / 2
    assert (tmp_path / "0" / "a.mp4").read_bytes() == (tmp_path / "1" / "a.mp4").read_bytes()
    done = ns_video("restore", folder / "sub" / "photo.jpg", tmp_path / "o.jpg", "--crf", "18")
    assert done.code == 2 and "--still-quality" in done.err
    done = ns_video("restore", folder / "a.mp4", tmp_path / "o.mp4", "--still-quality", "18")
    assert done.code == 2 and "--crf" in done.err


def test_an_encoder_that_stands_still_fails_its_file_only(
    ns_video: Command, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ns_video.cli.restore._patience", lambda *_: 1.0)
    monkeypatch.setattr("ns_video.cli.restore._TURN_SECONDS", 0.1)
    encode, calls, release = FrameEncoder.encode, itertools.count(), threading.Event()

    def standing(self: FrameEncoder, frame: Frame) -> Any:
        if next(calls) == 3:
            release.wait(30)
        return encode(self, frame)

    monkeypatch.setattr(FrameEncoder, "encode", standing)
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / "in" / name).write_bytes(plain_clip.read_bytes())
    done = ns_video(*IDENTITY, tmp_path / "in", tmp_path / "out")
    assert done.code == 1 and "a.mkv: encode: nothing came for 1 s" in done.err, done.err
    assert "1 restored, 0 were finished, 1 failed" in done.err and "--resume" not in done.err
    assert (tmp_path / "out" / "b.mkv").exists() and not (tmp_path / "out" / "a.mkv").exists()
    release.set()
    for thread in threading.enumerate():
        if thread.name == "run":
            thread.join(30)
    assert tree(tmp_path / "out") == ["b.mkv"]  # what was given up is not finished behind one's back


def test_an_interrupted_batch_is_to_be_run_again(
    ns_video: Command, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted("interrupted", remedy="run again with --resume")

    monkeypatch.setattr("ns_video.cli.batch.run_one", interrupted)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mkv").write_bytes(plain_clip.read_bytes())
    done = ns_video(*IDENTITY, tmp_path / "in", tmp_path / "out")
    assert done.code == 130 and done.err == "error: interrupted (run batch again to go on)\n"


def test_unfinished_work_of_other_options_is_no_dead_end(ns_video: Command, tmp_path: Path) -> None:
    out, pictures = tmp_path / "out", tuple(range(0, 40 * 260, 40))
    for folder in (tmp_path / "in", out):
        folder.mkdir()
    source = write_clip(tmp_path / "in" / "a.mkv", Recipe(size=(32, 32), times=pictures))
    options = RestoreOptions(model="identity", codec="ffv1")
    for update in (steps := restore_steps(str(source), str(out / "a.mkv"), options)):
        if update.frames > 250:
            steps.close()
    other = ("batch", "--model", "identity", "--codec", "libx264", "-q", source.parent, out)
    done = ns_video(*other)
    assert done.code == 1 and "another encoding" in done.err and "without --resume" not in done.err
    assert done.code == 1 and "`ns-video batch --overwrite`" in done.err, done.err
    assert tree(out) != []  # the work is kept
    assert ns_video(*other, "--overwrite").code == 0
    assert tree(out) == ["a.mkv"] and len(facts(out / "a.mkv").pictures) == len(pictures)


def test_input_that_grows_while_it_is_restored_is_begun_anew(
    ns_video: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (4, 4))
    (tmp_path / "in").mkdir()
    source, out = tmp_path / "in" / "a.mkv", tmp_path / "out"
    write_clip(source, Recipe(size=(32, 32), times=tuple(range(0, 40 * 40, 40)), audio=[("flac", "eng")]))
    close, closed = Segment.close, list[int]()

    def grow(segment: Segment, **more: bool) -> None:
        close(segment, **more)
        closed.append(1)
        if len(closed) == 3:
            write_clip(source, Recipe(size=(32, 32), times=tuple(range(0, 60 * 40, 40)), audio=[("flac", "eng")]))

    monkeypatch.setattr(Segment, "close", grow)
    done = ns_video(*IDENTITY, source.parent, out)
    assert done.code == 1 and "a.mkv changed while it was restored (run again once it is whole" in done.err, done.err
    assert tree(out) != [] and not (out / "a.mkv").exists()
    assert ns_video(*IDENTITY, source.parent, out).code == 0
    assert tree(out) == ["a.mkv"] and len(facts(out / "a.mkv").pictures) == 60


def test_a_link_in_output_dir_is_a_finished_file(ns_video: Command, noisy: object, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noisy).save(source / name)
    (out / "a.png").symlink_to(source / "a.png")
    done = ns_video(*IDENTITY, source, out)
    assert done.code == 0 and "1 restored, 1 were finished" in done.err, done.err


def pixels(path: Path) -> Any:
    """Of a still."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_an_input_that_changed_is_restored_again(ns_video: Command, truncated_clip: Path, tmp_path: Path) -> None:
    """A clip that was still being copied is finished with damage; once it is whole, so is its output."""
    source, out = tmp_path / "in" / "a.mkv", tmp_path / "out"
    source.parent.mkdir()
    whole = truncated_clip.with_name("whole.mkv")
    source.write_bytes(truncated_clip.read_bytes())
    arguments = (*IDENTITY, source.parent, out)
    assert ns_video(*arguments).code == 3
    assert "0 restored, 1 were finished" in ns_video(*arguments).err
    assert len(facts(out / "a.mkv").pictures) < len(facts(whole).pictures)
    source.write_bytes(whole.read_bytes())
    done = ns_video(*arguments, "--report")
    assert done.code == 0 and "1 restored, 0 were finished" in done.err, done.err
    assert len(facts(out / "a.mkv").pictures) == len(facts(whole).pictures)
    assert "0 restored, 1 were finished" in ns_video(*arguments).err
    stamp = source.stat().st_mtime_ns
    os.utime(source, ns=(stamp, stamp - 10**12))  # an older one took its place
    (out / "a.mkv.html").write_text("not ours")
    done = ns_video(*arguments, "--report")
    assert done.code == 1 and "a.mkv.html exists and is no report" in done.err, done.err
    assert "1 restored, 0 were finished" in ns_video(*arguments).err


def test_another_file_of_the_same_output_is_not_finished(ns_video: Command, noisy: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    Image.fromarray(noisy).save(source / "p.jpg")
    assert ns_video(*IDENTITY, source, out).code == 0
    (source / "p.jpg").unlink()
    Image.fromarray(255 - noisy).save(source / "p.png")
    done = ns_video(*IDENTITY, source, out)
    assert done.code == 0 and "1 restored, 0 were finished" in done.err, done.err
    assert tree(out) == ["p.png", "p.png.png"]  # what was made of p.jpg may be all that is left of it
    assert np.array_equal(pixels(out / "p.png.png"), pixels(source / "p.png"))
    assert "0 restored, 1 were finished" in ns_video(*IDENTITY, source, out).err
    (out / "p.png").unlink()
    assert "0 restored, 1 were finished" in ns_video(*IDENTITY, source, out).err


@pytest.mark.parametrize("why", ["nobody noted it", "it was changed since"])
def test_what_may_not_be_ours_is_not_replaced(why: str, ns_video: Command, noisy: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in" / "a.png", tmp_path / "out"
    source.parent.mkdir()
    Image.fromarray(noisy).save(source)
    arguments = (*IDENTITY, source.parent, out)
    assert ns_video(*arguments).code == 0
    if why == "nobody noted it":
        (out / JOURNAL).unlink()
    else:
        Image.fromarray(noisy // 2).save(out / "a.png")
    kept = (out / "a.png").read_bytes()
    assert "0 restored, 1 were finished, 0 failed\n" in ns_video(*arguments).err
    later = (out / "a.png").stat().st_mtime_ns + 1
    os.utime(source, ns=(later, later))
    done = ns_video(*arguments)
    assert done.code == 0 and "may not be ours (--overwrite): a.png\n" in done.err, done.err
    assert "0 restored, 0 were finished, 0 failed, 1 doubtful\n" in done.err
    assert (out / "a.png").read_bytes() == kept
    assert ns_video(*arguments, "--overwrite").code == 0
    assert "0 restored, 1 were finished, 0 failed\n" in ns_video(*arguments).err


def test_notes_of_what_is_finished_are_believed_only_where_they_are_whole(
    ns_video: Command, noisy: Any, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.png", "b.png", os.fsdecode(b"c\xff.png")):
        Image.fromarray(noisy).save(source / name)
        assert ns_video(*IDENTITY, source, out).code == 0
    journal = out / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(lines[0].replace(b"a.png", b"b.png") + b"\xff[\n" + lines[2][:-9])
    (source / "b.png").touch()
    stamp = (out / "b.png").stat().st_mtime_ns + 1
    os.utime(source / "b.png", ns=(stamp, stamp))
    assert "2 were finished, 0 failed, 1 doubtful" in ns_video(*IDENTITY, source, out).err
    assert ns_video(*IDENTITY, source, out, "-y").code == 0
    assert [json.loads(line)["source"]["name"] for line in journal.read_bytes().splitlines()[3:]] == [
        "a.png",
        "b.png",
        os.fsdecode(b"c\xff.png"),
    ]
    journal.unlink()
    journal.symlink_to(tmp_path / "elsewhere")
    Image.fromarray(noisy).save(source / "d.png")
    done = ns_video(*IDENTITY, source, out)
    assert done.code == 0 and "note: what is finished can't be noted: " in done.err, done.err
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_finished_keeps_its_name(ns_video: Command, plain_clip: Path, noisy: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    ffmpeg("-i", plain_clip, "-c", "copy", source / "clip.mkv")
    Image.fromarray(noisy).save(source / "p.webp", lossless=True)
    assert ns_video(*IDENTITY, source, out).code == 0
    assert tree(out) == ["clip.mkv", "p.png"]
    ffmpeg("-i", plain_clip, "-c", "copy", source / "clip.h264")
    Image.fromarray(noisy).save(source / "p.bmp")
    done = ns_video(*IDENTITY, source, out)
    assert done.code == 0 and "2 restored, 2 were finished" in done.err, done.err
    wanted = ["clip.h264.mkv", "clip.mkv", "p.bmp.png", "p.png"]
    assert tree(out) == wanted
    for again in ((), ("--overwrite",)):
        assert ns_video(*IDENTITY, source, out, *again).code == 0
        assert tree(out) == wanted
    done = ns_video(*IDENTITY, source, out, "--still-format", "webp")
    assert "2 restored, 2 were finished" in done.err and tree(out) == sorted([*wanted, "p.bmp.webp", "p.webp.webp"])
    (source / "p.webp").unlink()
    (out / "p.png").unlink()
    assert "0 restored, 3 were finished" in ns_video(*IDENTITY, source, out).err


def test_what_another_batch_writes_is_not_failed(ns_video: Command, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_clip(source / name, Recipe(size=(32, 32), times=tuple(range(0, 40 * 260, 40))))
    options = RestoreOptions(model="identity", codec="ffv1", resume=True)
    running = restore_steps(str(source / "a.mkv"), str(out / "a.mkv"), options)
    next(running)
    done = ns_video(*IDENTITY, "--codec", "ffv1", source, out, "--json")
    assert done.code == 0, done.err
    assert done.err == "1 restored, 0 were finished, 0 failed, 1 is being written by another run\n"
    states = {Path(row["output"]).name: row["state"] for row in map(json.loads, done.out.splitlines())}
    assert states == {"a.mkv": "busy", "b.mkv": "restored"}
    for _ in running:
        pass
    assert "0 restored, 2 were finished, 0 failed\n" in ns_video(*IDENTITY, source, out).err
