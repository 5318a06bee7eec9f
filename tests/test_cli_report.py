"""ns-video report as users and scripts call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from material import Recipe, write_clip

from ns_video.cli import emit
from ns_video.cli.report import shortfall

FIELD = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), 1.5)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "still ü.png"
    path.write_bytes(cv2.imencode(".png", FIELD)[1].tobytes())
    return path


def ns_video(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ns_video", "report", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_a_report_lands_with_json_csv_and_stdout(still: Path, tmp_path: Path) -> None:
    done = ns_video(
        still,
        "--reference",
        still,
        "-o",
        "out.html",
        "--csv",
        "frames.csv",
        "--json",
        "--fail-below",
        "0",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    written = json.loads((tmp_path / "out.json").read_text())
    printed.pop("cost"), written.pop("cost")
    assert printed == written
    assert written["identical"] is True and written["reference"] == str(still)
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "frames.csv").read_text().count("\n") == 2


def test_fail_below_is_an_exit_code_and_a_line(still: Path, tmp_path: Path) -> None:
    done = ns_video(still, "-o", "low.html", "--fail-below", "100", folder=tmp_path)
    assert done.returncode == 1
    assert "is below 100\n" in done.stderr and done.stdout == ""
    assert (tmp_path / "low.html").exists(), "the report is written even when the threshold fails"


def test_fail_below_alone_writes_no_file(still: Path, tmp_path: Path) -> None:
    for least, code in (("100", 1), ("0", 0)):
        done = ns_video(still, "--fail-below", least, folder=tmp_path)
        assert done.returncode == code and done.stdout == ""
        assert ("is below 100\n" in done.stderr) == (code == 1)
    assert [p for p in tmp_path.iterdir() if p != still] == []


@pytest.mark.parametrize(
    ("score", "least", "words"),
    [
        (47.3391, 47.34, "47.339 is below 47.34"),
        (47.3, 47.34, "47.30 is below 47.34"),
        (59.96, 60.0, "59.96 is below 60"),
        (12.345, 100.0, "12.3 is below 100"),
        (46.9999996, 47.0, "46.9999996 is below 47"),
    ],
)
def test_a_score_below_is_told_with_the_digits_that_show_it(score: float, least: float, words: str) -> None:
    assert shortfall(score, least) == f"ns-iqa {words}"


def test_damage_is_an_exit_code(tmp_path: Path) -> None:
    """3 as of `restore`; all is written."""
    whole = write_clip(tmp_path / "whole.mkv", Recipe("ffv1", "yuv420p", options={}))
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert ns_video(whole, "-o", "a.html", folder=tmp_path).returncode == 0
    assert ns_video("cut.mkv", "-o", "b.html", folder=tmp_path).returncode == 3
    assert (tmp_path / "b.html").is_file()


def test_usage_errors_leave_files_alone(still: Path, tmp_path: Path) -> None:
    before = still.read_bytes()
    onto_itself = ns_video(still, "-o", still, folder=tmp_path)
    assert onto_itself.returncode == 2 and "is the input" in onto_itself.stderr
    assert still.read_bytes() == before
    assert ns_video(still, folder=tmp_path).returncode == 2
    for least in ("nan", "150", "-5"):
        assert ns_video(still, "-o", "x.html", "--fail-below", least, folder=tmp_path).returncode == 2
    missing = ns_video("nothing.mkv", "-o", "x.html", folder=tmp_path)
    assert missing.returncode == 1 and "no such file" in missing.stderr
    assert not (tmp_path / "x.html").exists()


def test_what_is_no_file_is_refused_by_its_name(still: Path, tmp_path: Path) -> None:
    for arguments in (("http://x/y.mp4", "--json"), (still, "--reference", "http://x/y.mp4", "--json")):
        done = ns_video(*arguments, folder=tmp_path)
        assert done.returncode == 2 and "http://x/y.mp4: only files are read" in done.stderr
    os.mkfifo(tmp_path / "pipe")
    for name, shown in (("-", "standard input"), ("pipe", "pipe")):
        done = ns_video(name, "--json", folder=tmp_path)
        assert done.returncode == 2 and f"{shown}: only files are read here, no pipes" in done.stderr
    (tmp_path / "pipe").unlink()
    for option in ("-o", "--csv"):
        assert ns_video(still, option, "-", folder=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_stay(still: Path, tmp_path: Path) -> None:
    """The JSON of x.html is x.json, which may be the clip itself or somebody's."""
    data = still.read_bytes()
    (tmp_path / "pictured.json").write_bytes(data)
    refused = ns_video("pictured.json", "-o", "pictured.html", folder=tmp_path)
    assert refused.returncode == 2 and (tmp_path / "pictured.json").read_bytes() == data
    (tmp_path / "x.json").write_text('{"mine": 1}')
    refused = ns_video(still, "-o", "x.html", folder=tmp_path)
    assert refused.returncode == 2 and "is no report" in refused.stderr
    assert (tmp_path / "x.json").read_text() == '{"mine": 1}'
    for name in ("y.html", "y.json"):
        assert ns_video(still, "-o", "y.html", "--csv", name, folder=tmp_path).returncode == 2
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with subprocess.Popen(["cat", tmp_path / "pipe.html"], stdout=subprocess.PIPE, text=True) as reader:
        try:
            piped = ns_video(still, "-o", "pipe.html", "--csv", "link.csv", folder=tmp_path)
            assert piped.returncode == 0 and (tmp_path / "pipe.html").is_fifo(), piped.stderr
            assert reader.communicate(timeout=20)[0].startswith("<!doctype html>")
        finally:
            reader.kill()
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").is_file()
    for again in ((), (), ("-y",)):
        assert ns_video(still, "-o", "z.html", "--csv", "z.csv", *again, folder=tmp_path).returncode == 0
    assert ns_video(still, "-o", "x.html", "-y", folder=tmp_path).returncode == 0


def test_json_is_utf8_whatever_names_hold(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    named = {"clip": os.fsdecode(b"caf\xe9 \xc3\xbc.png")}
    emit(named)
    assert json.loads(capfdbinary.readouterr().out.decode()) == named
