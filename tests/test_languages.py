"""Languages of streams in containers that hold codes of ISO 639-2 only."""

from __future__ import annotations

from pathlib import Path

import pytest
from checked import found
from conftest import ffmpeg
from material import Recipe, facts, write_clip

from ns_video.media.containers import of_muxer
from ns_video.media.languages import same_language, told_language
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore


@pytest.mark.parametrize(
    ("language", "mp4", "mov", "mpegts"),
    [
        ("en", "eng", "eng", "eng"),
        ("EN", "eng", "eng", "eng"),
        ("pt-BR", "por", "por", "por"),
        ("zh-Hans", "zho", "chi", "zho"),
        ("en_US", "eng", "eng", "eng"),
        ("fre", "fre", "fra", "fre"),
        ("gsw-CH", "gsw", "gsw", "gsw"),
        ("iw", "heb", "heb", "heb"),
        ("eng,fr", "eng", "eng", "eng,fra"),
        ("deutsch", "", "", ""),
        ("x-elvish", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_languages_become_codes(language: str, mp4: str, mov: str, mpegts: str) -> None:
    for name, told in (("mp4", mp4), ("mov", mov), ("mpegts", mpegts), ("matroska", language)):
        assert told_language(language, of_muxer(name)) == told


def test_codes_of_both_kinds_are_one_language() -> None:
    assert same_language("ger", "deu") and same_language("fra", "FRE") and not same_language("ger", "eng")


@pytest.mark.parametrize("suffix", ["mp4", "mov", "ts"])
@pytest.mark.parametrize(
    ("language", "kept", "note"),
    [
        ("en", "eng", ""),
        ("pt-BR", "por", "stream 1: language (pt-BR, por is told)"),
        ("deutsch", None, "stream 1: language"),
    ],
)
def test_a_language_that_is_no_code_fails_no_run(
    suffix: str, language: str, kept: str | None, note: str, tmp_path: Path
) -> None:
    source, target, notes = tmp_path / "in.mkv", tmp_path / f"out.{suffix}", list[str]()
    plain = write_clip(tmp_path / "plain.mkv", Recipe(audio=[("aac", "und")]))
    ffmpeg("-i", plain, "-c", "copy", "-metadata:s:a", f"language={language}", source)
    told = [f"tags that this container doesn't hold: {note}"] * bool(note)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and [text for text in record.warnings if "language" in text] == told
    assert facts(target).streams[0].language in (kept, "und" if kept is None else kept)
    assert verify_files(source, target, notes=notes) == [] and [text for text in notes if "language" in text] == told
    if kept is not None:
        ffmpeg("-i", target, "-c", "copy", "-metadata:s:a", "language=rus", tmp_path / f"other.{suffix}")
        assert "lost its language" in found(source, tmp_path / f"other.{suffix}")
