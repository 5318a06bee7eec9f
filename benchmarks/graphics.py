"""What the still networks make of JPEGs of graphics that they never learned: they must leave them, not smooth them.

    python benchmarks/graphics.py --model photo --quality 30 75 90

Dithering, halftones, QR codes, pixel art, bitmap text, stripes and checks are drawn, saved as JPEG and restored. A row
for each: PSNR of the JPEG, gain as `restore` does it, and gain where the change is always believed
(`ns_video.constraint.belief` is taken for 1). The pictures are 256 px a side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ns_video import constraint
from ns_video.enhance import Enhancer, load_enhancer
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.pictures import Rgb
from ns_video.training.evaluate import psnr, to_rgb, to_tensor

_SIDE = 256


def graphics() -> dict[str, Rgb]:
    """Name → (256, 256, 3) picture."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float64)
    scene = 128 + 70 * np.sin(x / 37) * np.cos(y / 23) + 50 * (np.hypot(x - 150, y - 90) < 60)
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    modules = random.random((_SIDE // 4, _SIDE // 4)) > 0.5
    palette = random.integers(0, 256, (8, 3)).astype(np.uint8)
    glyphs = random.random((64, 16, 8)) > 0.6
    letters = glyphs[random.integers(0, 64, (_SIDE // 16, _SIDE // 8))].transpose(0, 2, 1, 3).reshape(_SIDE, _SIDE)
    text = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    for line in range(15):
        words = "".join(random.choice(list("etaoin shrdlu"), 40))
        cv2.putText(text, words, (4, 16 + 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)

    def gray(plane: npt.NDArray[np.generic]) -> Rgb:
        return np.repeat(np.clip(plane, 0, 255).astype(np.uint8)[..., None], 3, 2)

    return {
        "error diffusion": np.asarray(Image.fromarray(gray(scene)).convert("1").convert("RGB")),
        "ordered dithering": gray(255.0 * (scene > (np.tile(bayer, (64, 64)) + 0.5) * 16)),
        "halftone": gray(255.0 * (scene > (np.cos(x * np.pi / 3) * np.cos(y * np.pi / 3) + 1) * 127.5)),
        "QR code, 4 px": gray(np.kron(modules, np.ones((4, 4))) * 255),
        "pixel art, 4 px": np.kron(palette[random.integers(0, 8, (64, 64))], np.ones((4, 4, 1), np.uint8)),
        "pixel art, 8 px": np.kron(palette[random.integers(0, 8, (32, 32))], np.ones((8, 8, 1), np.uint8)),
        "bitmap font": gray(letters * 200.0),
        "text": text,
        "stripes, 4 px": gray((x % 4 < 2) * 200.0 + 20),
        "checks, 8 px": gray(((x % 8 < 4) ^ (y % 8 < 4)) * 180.0 + 40),
    }


def restored(enhancer: Enhancer, picture: Rgb, quality: int) -> tuple[Rgb, Rgb]:
    """(the JPEG, what `restore` makes of it)."""
    damaged = degrade_still(picture, parse_spec(f"jpeg:q={quality}"))
    return damaged.rgb, to_rgb(enhancer(to_tensor(damaged.rgb), damaged.jpeg))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", nargs="+", type=int, default=[30, 75, 90])
    options = parser.parse_args()
    enhancer = load_enhancer(options.model, device="cpu")
    doubting: Callable[..., torch.Tensor] = constraint.belief
    print("| graphics | quality | JPEG | gain | gain, always believed |\n|---|---|---|---|---|")
    for quality in options.quality:
        for name, picture in graphics().items():
            gains: list[float] = []
            before = 0.0
            for belief in (doubting, lambda *_: torch.ones(())):
                constraint.belief = belief
                damaged, result = restored(enhancer, picture, quality)
                before = psnr(damaged, picture)
                gains.append(psnr(result, picture) - before)
            print(f"| {name} | {quality} | {before:.2f} | {gains[0]:+.2f} | {gains[1]:+.2f} |", flush=True)


if __name__ == "__main__":
    main()
