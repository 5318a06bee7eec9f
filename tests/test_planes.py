"""Planes as numpy sees them, and the layouts whose samples they hold."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from decoded import frames

from ns_video.media.planes import PLANAR, planar_name, plane_views
from ns_video.media.probe import pixel_format


def test_planes_are_views_of_the_right_shape(odd_size_clip: Path, ten_bit_pq_clip: Path, gray_clip: Path) -> None:
    odd = frames(odd_size_clip)[0]
    assert [p.shape for p in odd.planes] == [(49, 67), (25, 34), (25, 34)]
    assert odd.planes[0].dtype == np.uint8 and odd.nbytes == 49 * 67 + 2 * 25 * 34
    deep = frames(ten_bit_pq_clip)[0]
    assert deep.planes[0].dtype == np.uint16 and int(deep.planes[0].max()) < 1024
    assert len(frames(gray_clip)[0].planes) == 1


def test_rgb_comes_in_the_order_red_green_blue(rgb_clip: Path) -> None:
    first = frames(rgb_clip)[0]
    with av.open(str(rgb_clip)) as clip:
        wanted = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(np.stack(first.planes, -1), wanted)


@pytest.mark.parametrize(
    ("name", "planar"),
    [(a, b) for a, b in PLANAR.items() if b.startswith("yuv") and a != "uyyvyy411"] + [("x2bgr10le", "gbrp10le")],
)
def test_packed_layouts_have_a_planar_one_of_the_same_samples(name: str, planar: str) -> None:
    assert planar_name(name) == planar and planar_name(planar) == planar
    assert planar_name(name.replace("le", "be")) == planar or not name.endswith("le")
    fmt = pixel_format(planar)
    frame = av.VideoFrame(64, 48, planar)
    rng = np.random.default_rng(3)
    for view in plane_views(frame, fmt):
        view[:] = rng.integers(0, 1 << fmt.bit_depth, view.shape, view.dtype)
    back = frame.reformat(format=name).reformat(format=planar)
    assert all(np.array_equal(a, b) for a, b in zip(plane_views(frame, fmt), plane_views(back, fmt)))
