"""Streams whose pictures change on their way: converted back so that they look the same, or told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from decoded import frames
from material import FRAMES, X264, Recipe, write_clip

from ns_video import restore
from ns_video.color import to_tensor
from ns_video.frame import Frame
from ns_video.media.decode import open_clip

_ENCODED = {**X264, "bf": "0", "crf": "16"}
_Tags = tuple[int, int, int, int] | None
_BT709, _FULL_BT601 = (1, 1, 1, 1), (5, 2, 1, 1)


def joined(folder: Path, *recipes: Recipe, suffix: str = "h264") -> Path:
    """The clips one behind the other, raw or in MPEG-TS ("ts")."""
    path, parts = folder / f"joined.{suffix}", list[bytes]()
    for number, recipe in enumerate(recipes):
        later = replace(recipe, times=[time + 40 * FRAMES * number for time in recipe.times])
        parts.append(write_clip(folder / f"part.{suffix}", later).read_bytes())
    path.write_bytes(b"".join(parts))
    return path


def coloured(folder: Path, *colors: _Tags, pix_fmt: str = "yuv420p") -> tuple[Path, list[Frame]]:
    """Clips with these tags joined, and the frames that each of them has alone."""
    recipes = [Recipe(pix_fmt=pix_fmt, options=_ENCODED, color=color) for color in colors]
    alone = [frame for recipe in recipes for frame in frames(joined(folder, recipe))]
    return joined(folder, *recipes), alone


def rgb(frame: Frame) -> np.ndarray:
    return to_tensor(frame.planes, frame.format, frame.color, "rgb")[0].numpy()


def read(path: Path) -> tuple[list[Frame], list[str]]:
    with open_clip(path) as reader:
        return list(reader.frames()), [told for told in reader.warnings if "change" in told]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("colors", [(_BT709, _FULL_BT601), (_FULL_BT601, _BT709), (_BT709, (5, 1, 1, 1))])
def test_another_matrix_or_range_is_converted_back(colors: Sequence[_Tags], pix_fmt: str, tmp_path: Path) -> None:
    clip, alone = coloured(tmp_path, *colors, pix_fmt=pix_fmt)
    found, told = read(clip)
    assert len(found) == len(alone) == 2 * FRAMES
    assert {(f.color.matrix, f.color.range, f.format.name) for f in found} == {
        (alone[0].color.matrix, alone[0].color.range, alone[0].format.name)
    }
    assert len(told) == 1 and ", matrix bt709" in told[0] and told[0].endswith("; it was converted back")
    for ours, theirs in zip(found, alone):
        assert np.abs(rgb(ours) - rgb(theirs)).mean() < 0.006
    assert np.abs(rgb(alone[-1])[:, ::2] - rgb(alone[0])[:, ::2]).mean() > 0.02
    if pix_fmt == "yuv420p":
        record = restore(str(clip), str(tmp_path / "out.mkv"), model="identity", codec="ffv1")
        assert record.exit_code == 0 and told[0] in record.warnings
        again = frames(tmp_path / "out.mkv")
        assert all(np.array_equal(a, b) for f, g in zip(found, again) for a, b in zip(f.planes, g.planes))


@pytest.mark.parametrize("colors", [(None, _BT709), (_BT709, None), ((5, 1, 5, 6), (6, 1, 5, 1))])
def test_tags_that_are_missing_or_mean_the_same_change_nothing(colors: Sequence[_Tags], tmp_path: Path) -> None:
    clip, alone = coloured(tmp_path, *colors)
    found, told = read(clip)
    assert not told and len(found) == len(alone)
    assert all(np.array_equal(a, b) for f, g in zip(found, alone) for a, b in zip(f.planes, g.planes))


def test_primaries_and_transfer_that_change_are_told(tmp_path: Path) -> None:
    clip, alone = coloured(tmp_path, (9, 1, 9, 16), (9, 1, 9, 18), (9, 1, 1, 18))
    found, told = read(clip)
    assert all(np.array_equal(f.planes[0], g.planes[0]) for f, g in zip(found, alone))
    first, second = (f"at {float(found[n * FRAMES].pts_seconds or 0):.3f} s the colours change from " for n in (1, 2))
    end = "; what is written says of all what it says of the first"
    assert told == [
        f"{first}transfer smpte2084 to transfer arib-std-b67{end}",
        f"{second}primaries bt2020 to primaries bt709{end}",
    ]


def test_a_shape_of_pixels_that_changes_is_told(tmp_path: Path) -> None:
    recipes = [Recipe(options=_ENCODED, aspect=aspect) for aspect in (None, Fraction(64, 45), Fraction(16, 15))]
    clip = joined(tmp_path, *recipes, suffix="ts")
    found, told = read(clip)
    seconds = float(found[2 * FRAMES].pts_seconds or 0)
    assert [text.partition(";")[0] for text in told] == [
        f"at {seconds:.3f} s the sample aspect ratio changes from 64/45 to 16/15"
    ]


def test_many_changes_of_colours_are_counted(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / "part.h264", Recipe(times=(0,), color=(9, 1, 9, t))).read_bytes() for t in (16, 18)]
    clip = tmp_path / "joined.h264"
    clip.write_bytes((parts[0] + parts[1]) * 22)
    found, told = read(clip)
    assert len(found) == 44 and len(told) == 21 and told[-1].startswith("22 changes")
