"""Text subtitles from codec to codec."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ffmpeg
from material import cues, facts

import ns_video
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

_ASS = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def spoken(path: Path, film: Path, texts: list[str], codec: str = "subrip") -> Path:
    """A film with cues of a tenth of a second, one each fifth."""
    if codec == "ass":
        lines = [f"Dialogue: 0,0:00:00.{2 * n}0,0:00:00.{2 * n + 1}0,,,0,0,0,,{t}\n" for n, t in enumerate(texts)]
        written = _ASS + "".join(lines)
    else:
        spans = [f"00:00:00,{2 * n}00 --> 00:00:00,{2 * n + 1}00" for n in range(len(texts))]
        written = "".join(f"{n}\n{span}\n{text}\n\n" for n, (span, text) in enumerate(zip(spans, texts), 1))
    words = ("-f", "ass" if codec == "ass" else "srt", "-i", "-", "-map", "0", "-map", "1")
    ffmpeg("-i", film, *words, "-c", "copy", path, data=written.encode())
    return path


def said(path: Path) -> list[str]:
    """The words of an MP4."""
    return [data[2:].decode() for _, _, data in cues(path) if data != b"\0\0"]


@pytest.mark.parametrize(
    ("codec", "texts", "left", "lost"),
    [
        ("subrip", ["one", "<i></i>", "two"], ["one", "two"], "a cue"),
        ("subrip", ["<b></b>", " ", "one"], ["one"], "2 cues"),
        ("subrip", ["<b></b>"], [], "a cue"),
        ("ass", ["one", r"{\an8\fad(1,1)}", "two"], ["one", "two"], "a cue"),
        (
            "ass",
            [r"{\p1}m 0 0 l 99 0 99 9{\p0}", r"{\pos(5,5)\pbo0}one {\p4\c&H0&}m 0 0 l 9 9{\i1}m 1 1{\p0}two"],
            ["one two"],
            "a cue",
        ),
    ],
)
def test_cues_without_words_are_left_out_and_named(
    codec: str, texts: list[str], left: list[str], lost: str, plain_clip: Path, tmp_path: Path
) -> None:
    source, target = spoken(tmp_path / "in.mkv", plain_clip, texts, codec), tmp_path / "out.mp4"
    assert len(cues(source)) == len(texts)
    record, notes = restore(source, target, model="identity"), list[str]()
    told = f"stream 1: {lost} left out: without markup no words remain"
    assert record.exit_code == 0 and told in record.warnings
    assert verify_files(source, target, notes=notes) == [] and told in notes
    if left:
        assert said(target) == left


def test_lost_words_are_still_found(plain_clip: Path, tmp_path: Path) -> None:
    source = spoken(tmp_path / "in.mkv", plain_clip, ["one", "<i></i>", "two"])
    other = spoken(tmp_path / "other.mkv", plain_clip, ["one", "<i></i>", "<i></i>"])
    assert restore(other, tmp_path / "out.mp4", model="identity").exit_code == 0
    found = ns_video.verify(source, tmp_path / "out.mp4")
    assert [d.what for d in found] == ["stream 1 (subtitle subrip): 2 packets went in, 1 are in the output"]


def test_words_of_ass_without_markup_go_into_webm(plain_clip: Path, tmp_path: Path) -> None:
    source = spoken(tmp_path / "in.mkv", plain_clip, [r"{\i1}one{\i0}\hand\Ntwo", r"{\an8}"], "ass")
    record = restore(source, tmp_path / "out.webm", model="identity")
    assert "stream 1: a cue left out: without markup no words remain" in record.warnings
    assert [data.decode() for _, _, data in cues(tmp_path / "out.webm")] == ["one\N{NO-BREAK SPACE}and\ntwo"]
    assert ns_video.verify(source, tmp_path / "out.webm") == []


@pytest.mark.parametrize("character", ["a", "ä", "日", "\U0001f600"])
def test_words_beyond_what_mp4_holds_are_cut_between_characters(
    character: str, plain_clip: Path, tmp_path: Path
) -> None:
    line = character * 500
    source = spoken(tmp_path / "in.mkv", plain_clip, ["\n".join([line] * 200), "next"])
    record = restore(source, tmp_path / "out.mp4", model="identity")
    assert record.exit_code == 0
    assert "stream 1: a cue was cut: this container holds 65535 bytes of words at a time" in record.warnings
    long, following = said(tmp_path / "out.mp4")
    assert following == "next" and set(long) == {character, "\n"} and 65_532 <= len(long.encode()) <= 65_535
    assert ns_video.verify(source, tmp_path / "out.mp4") == []


def test_words_that_just_fit_into_mp4_are_whole(plain_clip: Path, tmp_path: Path) -> None:
    text = "\n".join(["a" * 1023] * 64)
    source = spoken(tmp_path / "in.mkv", plain_clip, [text])
    record = restore(source, tmp_path / "out.mp4", model="identity")
    assert said(tmp_path / "out.mp4") == [text] and len(text) == 65_535
    assert record.warnings == ["stream 1: converted: subrip to mov_text"]


def test_text_survives_the_way_to_mov_text_and_back(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    restore(two_audio_subs_chapters_clip, tmp_path / "a.mp4", model="identity")
    restore(tmp_path / "a.mp4", tmp_path / "b.mkv", model="identity")
    words = [
        ffmpeg("-i", path, "-map", "0:s:0", "-f", "srt", "-")
        for path in (two_audio_subs_chapters_clip, tmp_path / "b.mkv")
    ]
    assert words[0].count(b"cue") == 3
    assert [line for line in words[1].splitlines() if b"cue" in line] == [
        line for line in words[0].splitlines() if b"cue" in line
    ]
    first = next(s for s in facts(two_audio_subs_chapters_clip).streams if s.type == "subtitle").packets
    last = next(s for s in facts(tmp_path / "b.mkv").streams if s.type == "subtitle").packets
    assert max(abs(a[0] - b[0]) for a, b in zip(first, last) if a[0] is not None and b[0] is not None) <= Fraction(
        1, 1000
    )
