"""`ns-video verify`: exit 0 and a sentence, or exit 1 and each difference by name."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Command, ffmpeg


def test_good_and_doctored(ns_video: Command, two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    source, target = two_audio_subs_chapters_clip, tmp_path / "out.mkv"
    assert ns_video("-q", "restore", "--model", "identity", source, target).code == 0
    done = ns_video("verify", source, target)
    assert done.code == 0 and "promised" in done.out
    assert json.loads(ns_video("verify", source, target, "--json").out) == {
        "same": True,
        "differences": [],
        "notes": [],
    }
    assert ns_video("verify", source, target, "--structure").code == 0
    doctored = tmp_path / "doctored.mkv"
    ffmpeg("-i", target, "-map", "0", "-map", "-0:a:0", "-map_chapters", "-1", "-c", "copy", doctored)
    done = ns_video("verify", source, doctored)
    assert done.code == 1
    lines = done.out.strip().splitlines()
    assert any("stream 1 (audio flac) is missing" in line for line in lines)
    assert any("chapters" in line for line in lines)
    found = json.loads(ns_video("verify", source, doctored, "--json").out)
    assert found == {"same": False, "differences": lines, "notes": []}


def test_what_cannot_be_opened_is_one_line(ns_video: Command, plain_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    for target in (tmp_path / "absent.mp4", tmp_path / "text.mp4", tmp_path):
        done = ns_video("verify", plain_clip, target)
        assert done.code == 1
        assert done.err.startswith("error: ") and len(done.err.strip().splitlines()) == 1


def test_quiet_says_no_notes(ns_video: Command, running_cue_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.avi"
    assert ns_video("-q", "restore", "--model", "identity", running_cue_clip, target).code == 0
    loud, quiet = ns_video("verify", running_cue_clip, target), ns_video("verify", "-q", running_cue_clip, target)
    assert loud.code == quiet.code == 0 and loud.out == quiet.out
    assert loud.err.startswith("note: ") and not quiet.err
