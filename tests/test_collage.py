"""A picture of which a part alone was a JPEG: that part is restored, the rest stays."""

from __future__ import annotations

import numpy as np
import pytest
from test_constraint import error, tensor
from test_estimate import photograph, saved

from ns_video.enhance import load_enhancer
from ns_video.estimate import find_jpeg
from ns_video.media.pictures import Rgb


def page(side: int = 256) -> Rgb:
    """White, with lines of something like letters whose edges are gray."""
    random = np.random.default_rng(2)
    plane = np.full((side, side), 255, np.uint8)
    for line in range(0, side, 16):
        shades = random.integers(20, 230, (8, side))
        plane[line + 4 : line + 12] = np.where(random.random((8, side)) > 0.5, shades, 255)
    return np.repeat(plane[..., None], 3, 2)


def pasted(photo: Rgb, beside: Rgb) -> Rgb:
    """The left of the first, the right of the second."""
    return np.concatenate([photo[:, :128], beside[:, 128:]], 1)


@pytest.mark.parametrize("quality", [30, 80])
def test_what_was_put_beside_a_jpeg_is_told_from_it(quality: int) -> None:
    found = find_jpeg(pasted(saved(photograph(1), f"jpeg:q={quality}"), page()))
    assert found is not None and found.quality == quality and found.foreign is not None
    assert not found.foreign[:, :16].any()
    assert found.foreign[:, 16:].mean() > 0.9


def test_what_was_put_beside_a_jpeg_that_is_saved_again_is_told_from_it() -> None:
    found = find_jpeg(saved(pasted(saved(photograph(1), "jpeg:q=30"), page()), "jpeg:q=92"))
    assert found is not None and found.quality == 30 and found.foreign is not None
    assert not found.foreign[:, :16].any() and found.foreign[:, 16:].mean() > 0.8


@pytest.mark.parametrize("spec", ["jpeg:q=30", "jpeg:q=85,subsampling=444", "jpeg:q=40+jpeg:q=92"])
@pytest.mark.parametrize("contrast", [1.0, 3.0])
def test_a_whole_jpeg_is_taken_whole(spec: str, contrast: float) -> None:
    """Where decoding clips a quarter of its samples, too."""
    clean = np.clip(128 + contrast * (photograph(1).astype(float) - 128), 0, 255).astype(np.uint8)
    found = find_jpeg(saved(clean, spec)[3:, 5:])
    assert found is not None and found.foreign is None


def test_the_stage_leaves_what_never_was_a_jpeg() -> None:
    clean = pasted(photograph(1), page())
    seen = tensor(pasted(saved(photograph(1), "jpeg:q=50"), page()))
    restored = load_enhancer("photo", device="cpu", ensemble=1)(seen)
    assert float((restored - seen)[..., 128:].abs().max()) < 1e-6
    assert error(restored, tensor(clean)) < 0.95 * error(seen, tensor(clean))
