"""Presets: every shipped one loads, an unknown name, key or type is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_video import preset
from ns_video.errors import UsageError
from ns_video.preset import Preset, load_preset, parse_preset, preset_names


def test_the_promised_presets_load() -> None:
    names = preset_names()
    assert {"auto", "video", "photo", "anime", "mosaic", "deblur", "upscale2x", "fast"} <= set(names)
    for name in names:
        found = load_preset(name)
        assert found.name == name and found.title
        assert found.clip_model and found.still_model


def test_auto_treats_clips_and_stills_apart() -> None:
    assert load_preset("auto").clip_model != load_preset("auto").still_model


@pytest.mark.parametrize("name", ["nothing", "", "../pyproject", "auto.toml", "/etc/passwd", "."])
def test_unknown_preset_names_those_that_are_there(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_preset(name)
    assert "auto" in str(caught.value)


def test_unknown_keys_and_wrong_types_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preset, "pipelines_dir", lambda: tmp_path)
    good = 'title = "t"\nclip_model = "a"\nstill_model = "b"\n'
    (tmp_path / "good.toml").write_text(good + "strength = 0.5\n")
    assert load_preset("good") == Preset("good", "t", "a", "b", strength=0.5)
    for body, word in (
        (good + "sharpness = 1\n", "sharpness"),
        (good + 'strength = "much"\n', "strength"),
        ('title = "t"\nclip_model = "a"\n', "still_model"),
        (good + "strength = 1.5\n", "between 0 and 1"),
        (good + "sharpen = nan\n", "between 0 and 1"),
        (good + 'deinterlace = "sometimes"\n', "auto, on, off"),
        (good + "ensemble = 3\n", "1, 2 or 4"),
        (good + "ensemble = 2.0\n", "must be an int"),
        (good + "ensemble = true\n", "must be an int"),
        (good + "strength = true\n", "must be a float"),
        (good + "integers = 1\n", "must be a bool"),
        (good + "strength = " + 5000 * "[", "not valid TOML"),
        ("title = ", "bad"),
    ):
        (tmp_path / "bad.toml").write_text(body)
        with pytest.raises(UsageError, match=word):
            load_preset("bad")


def test_models_by_content_and_device() -> None:
    few = parse_preset("few", 'title = "t"\nclip_model = "a"\nstill_model = "b"\n')
    assert few.models("clip") == few.models("jpeg clip") == ("a", "a") and few.models("still") == ("b", "b")
    all_ = 'title = "t"\nclip_model = "a"\nstill_model = "b"\njpeg_clip_model = "c"\n'
    some = parse_preset("some", all_ + 'gpu_clip_model = "A"\ngpu_jpeg_clip_model = "C"\n')
    assert some.models("clip") == ("a", "A") and some.models("still") == ("b", "b")
    assert some.models("jpeg clip") == ("c", "C")
    plain = 'title = "t"\nclip_model = "a"\nstill_model = "b"\n'
    for more, wanted in (
        ('gpu_jpeg_clip_model = "C"\n', ("a", "C")),
        ('gpu_clip_model = "A"\n', ("a", "A")),
        ('gpu_clip_model = "A"\njpeg_clip_model = "c"\n', ("c", "c")),
    ):
        assert parse_preset("some", plain + more).models("jpeg clip") == wanted
        newer = more.replace("jpeg_clip", "newer_clip")
        assert parse_preset("some", plain + newer).models("newer clip") == wanted


def test_a_file_that_is_no_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preset, "pipelines_dir", lambda: tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"title = '\xff\xfe'")
    with pytest.raises(UsageError, match="can't be read"):
        load_preset("bad")
    with pytest.raises(UsageError, match="there is no preset"):
        load_preset("bad\0")


WHOLE = b"""title = "t"
clip_model = "video"
still_model = "photo"
speed = "veryfast"
strength = 0.75
sharpen = 0.1
deinterlace = "off"
"""


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_preset_is_an_error_or_sound(data: st.DataObject) -> None:
    text = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        new = data.draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b"\n", b"9e999", b"nan", b"-", b"[[", b"true"]))
        )
        text[begin : begin + data.draw(st.integers(0, 12))] = new
    try:
        found = parse_preset("mutated", text.decode("utf-8", "replace"))
    except UsageError as error:
        assert "mutated" in str(error)
    else:
        assert 0 <= found.strength <= 1 and 0 <= found.sharpen <= 1 and found.deinterlace in ("auto", "on", "off")
        assert all(isinstance(name, str) for name in (found.title, found.clip_model, found.still_model, found.speed))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_no_name_reaches_outside_the_folder(name: str) -> None:
    try:
        found = load_preset(name)
    except UsageError:
        return
    assert found.name in preset_names()
