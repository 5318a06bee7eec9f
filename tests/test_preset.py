"""Presets: every shipped one loads, an unknown name, key or type is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ns_video import preset
from ns_video.errors import UsageError
from ns_video.preset import Preset, load_preset, preset_names


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
        ("title = ", "bad"),
    ):
        (tmp_path / "bad.toml").write_text(body)
        with pytest.raises(UsageError, match=word):
            load_preset("bad")
