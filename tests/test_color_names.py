"""Colour tags by name: the names are libav's own."""

from __future__ import annotations

import av
import pytest

from ns_video.media.color_names import _NAMES, color_name

_UNTAKEN = {"reserved", "gbr"}
"""Nothing has the one, and an encoder's option calls the other one "rgb"."""


@pytest.mark.parametrize(
    ("tag", "option", "most"),
    [
        ("matrix", "colorspace", 17),
        ("range", "color_range", 2),
        ("primaries", "color_primaries", 22),
        ("transfer", "color_trc", 18),
    ],
)
def test_names_are_those_that_libav_takes(tag: str, option: str, most: int) -> None:
    for value, name in _NAMES[tag].items():
        if name in _UNTAKEN:
            continue
        context = av.VideoCodecContext.create("rawvideo", "w")
        context.width, context.height, context.pix_fmt, context.options = 16, 16, "yuv420p", {option: name}
        context.open()
        assert int(getattr(context, option)) == value, name
    assert color_name(tag, most) in _NAMES[tag].values() and color_name(tag, 200) == "200"
