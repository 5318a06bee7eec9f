"""Draws clips of patterns: dithering, halftones, pixel art, gratings, cellular automata, and changing light. Floor 2.

They are the truth of training clips beside those from `screen_clips`: in them nearly every sample lies at an edge, and
neighbours in time look alike where they aren't (a period further), or unlike where they are (a flash, a cut). A network
that never saw such takes detail for damage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from ns_video.media.pictures import Rgb
from ns_video.media.screen_clips import Draw, pick_ground, screen_pictures
from ns_video.media.training_clips import shrink

Levels = npt.NDArray[np.float64]
"""(H, W) or (H, W, 3) in [0, 1]."""


def pattern_pictures(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """`frames` pictures of (height, width, 3) uint8 RGB of one kind of pattern, or of changing light."""
    draw_one = PATTERNS[int(rng.integers(len(PATTERNS)))]
    return draw_one(draw, rng, frames, height, width)


def bayer_matrix(order: int) -> Levels:
    """Thresholds in (0, 1) for ordered dithering, (2^order, 2^order) (Bayer 1973)."""
    matrix = np.zeros((1, 1))
    for _ in range(order):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return (matrix + 0.5) / matrix.size


def _pair(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(2, 3): a dark colour and a bright one, mostly black and white."""
    if rng.random() < 0.5:
        return np.array([[0.0] * 3, [255.0] * 3])
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(140, 255, 3)
    return np.array([dark, bright])


def _between(colours: npt.NDArray[np.float64], share: Levels) -> Rgb:
    """(H, W) shares of the second of two colours → RGB."""
    return np.rint(colours[0] + (colours[1] - colours[0]) * share[..., None]).astype(np.uint8)


def _scene(draw: Draw, rng: np.random.Generator, height: int, width: int) -> Rgb:
    """(height, width, 3): mostly a good part of a picture, mirrored where it ends."""
    if rng.random() < 0.3:
        return pick_ground(draw, rng, height, width)
    picture = draw()
    room = min(picture.shape[0] / height, picture.shape[1] / width)
    picture = shrink(picture, max(1.0, room * float(rng.uniform(0.3, 1.0))))
    rows, columns = max(0, height - picture.shape[0]), max(0, width - picture.shape[1])
    picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), "symmetric")
    top, left = (int(rng.integers(have - want + 1)) for have, want in zip(picture.shape, (height, width), strict=False))
    return picture[top : top + height, left : left + width]


def _windows(
    picture: npt.NDArray[np.uint8], rng: np.random.Generator, frames: int, height: int, unit: int
) -> list[Rgb]:
    """Windows of `height` rows that move down, or up, a picture by whole units of pixels."""
    room = len(picture) - height
    speed = min(unit * int(rng.choice((0, 1, 1, 2, 3, 5))), room // max(1, frames - 1))
    starts = [speed * t for t in range(frames)]
    if rng.random() < 0.4:
        starts.reverse()
    return [picture[start : start + height].copy() for start in starts]


def _sideways(pictures: list[Rgb]) -> list[Rgb]:
    return [np.ascontiguousarray(picture.transpose(1, 0, 2)) for picture in pictures]


def _thresholds(rng: np.random.Generator, height: int, width: int) -> Levels:
    """Of a Bayer matrix, of round halftone dots, or of noise."""
    kind = rng.random()
    if kind < 0.6:
        matrix = bayer_matrix(int(rng.integers(1, 4)))
        return np.tile(matrix, (-(-height // len(matrix)), -(-width // len(matrix))))[:height, :width]
    y, x = np.mgrid[0:height, 0:width]
    if kind < 0.85:
        pitch, angle = rng.uniform(3, 9), rng.uniform(0, np.pi / 2)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        return 0.5 + 0.25 * (np.sin(2 * np.pi * u / pitch) + np.sin(2 * np.pi * v / pitch)) * 0.98
    return rng.uniform(0.02, 0.98, (height, width))


def _dithered(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """Something in few levels: its dots go with it, or stand while it moves beneath them."""
    factor = int(rng.choice((1, 1, 1, 2, 3)))
    turned = rng.random() < 0.4
    rows, columns = (width, height) if turned else (height, width)
    rows, columns = -(-rows // factor), -(-columns // factor)
    scene = _scene(draw, rng, rows + 5 * frames, columns)
    if rng.random() < 0.3:  # Floyd and Steinberg's, to a few colours
        palette = Image.fromarray(scene).quantize(int(rng.choice((2, 4, 8, 16))), dither=Image.Dither.NONE)
        dithered = Image.fromarray(scene).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        pictures = _windows(np.asarray(dithered.convert("RGB")), rng, frames, rows, 1)
    else:
        steps, colours = int(rng.choice((1, 1, 1, 2, 3))), _pair(rng)
        standing = rng.random() < 0.3
        thresholds = _thresholds(rng, len(scene), columns)

        def few(picture: Rgb) -> Rgb:
            level = picture.mean(2) / 255.0 * steps + thresholds[: len(picture)]
            return _between(colours, np.floor(level).clip(0, steps) / steps)

        windows = _windows(scene if standing else few(scene), rng, frames, rows, 1)
        pictures = [few(window) for window in windows] if standing else windows
    pictures = [picture.repeat(factor, 0).repeat(factor, 1) for picture in pictures]
    pictures = _sideways(pictures) if turned else pictures
    return [picture[:height, :width] for picture in pictures]


def _pixel_art(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """A picture of few large pixels and colours, as in old games, that goes by pixels of the screen or its own."""
    factor = int(rng.integers(2, 7))
    turned = rng.random() < 0.5
    rows, columns = (width, height) if turned else (height, width)
    small = _scene(draw, rng, -(-rows // factor) + 5 * frames, -(-columns // factor))
    if rng.random() < 0.7:
        dither = Image.Dither.FLOYDSTEINBERG if rng.random() < 0.3 else Image.Dither.NONE
        image = Image.fromarray(small)
        palette = image.quantize(int(rng.choice((4, 8, 16, 32, 64))), dither=Image.Dither.NONE)
        small = np.asarray(image.quantize(palette=palette, dither=dither).convert("RGB"))
    large = small.repeat(factor, 0).repeat(factor, 1)[:, :columns]
    pictures = _windows(large, rng, frames, rows, factor if rng.random() < 0.4 else 1)
    return _sideways(pictures) if turned else pictures


def _grating(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """Stripes, checks or waves that move by parts of their period, alone or over something."""
    period, angle = float(np.exp(rng.uniform(np.log(2), np.log(28)))), float(rng.uniform(0, np.pi))
    hard, checked = bool(rng.random() < 0.6), bool(rng.random() < 0.4)
    if hard:  # of whole pixels, along the axes
        period, angle = float(2 * max(1, round(period / 2))), float(rng.choice((0.0, np.pi / 2)))
    speed = float(rng.choice((0.0, 1.0, 2.0, 3.0, 5.0))) if hard else float(rng.uniform(0, 0.6) * period)
    colours = _pair(rng)
    ground = pick_ground(draw, rng, height, width) if rng.random() < 0.4 else None
    y, x = np.mgrid[0:height, 0:width]
    inside = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2 < 0.12)[..., None]
    pictures: list[Rgb] = []
    for t in range(frames):
        u, v = x * np.cos(angle) + y * np.sin(angle) + speed * t, y * np.cos(angle) - x * np.sin(angle)
        wave = np.sin(2 * np.pi * (u + 0.5) / period)
        if checked:
            wave = wave * np.sin(2 * np.pi * (v + 0.5) / period)
        picture = _between(colours, (wave > 0).astype(np.float64) if hard else 0.5 + 0.5 * wave)
        pictures.append(picture if ground is None else np.where(inside, picture, ground))
    return pictures


def _automaton(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """Cells that live by Conway's rules, turn at random, or fall as snow, in front of something or nothing."""
    side = int(rng.integers(1, 6))
    rows, columns = -(-height // side), -(-width // side)
    cells = rng.random((rows, columns)) < rng.uniform(0.02, 0.4)
    kind, turning, speed = int(rng.integers(3)), float(rng.uniform(0.005, 0.1)), int(rng.integers(1, 5))
    colours = np.rint(_pair(rng)).astype(np.uint8)[:: int(rng.choice((1, -1)))]
    ground = (
        pick_ground(draw, rng, height, width) if rng.random() < 0.4 else np.broadcast_to(colours[0], (height, width, 3))
    )
    pictures: list[Rgb] = []
    for _ in range(frames):
        alive = cells.repeat(side, 0).repeat(side, 1)[:height, :width, None]
        pictures.append(np.where(alive, colours[1], ground).astype(np.uint8))
        if kind == 0:
            around = sum(np.roll(cells, (i, j), (0, 1)).astype(int) for i in (-1, 0, 1) for j in (-1, 0, 1))
            cells = (around == 3) | (cells & (around == 4))
        elif kind == 1:
            cells = cells ^ (rng.random(cells.shape) < turning)
        else:
            cells = np.roll(cells, (speed, int(rng.integers(-1, 2))), (0, 1))
    return pictures


def _light(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """Moving graphics that flash, fade, flicker, or are cut from one scene to another after every few frames."""
    scenes = [screen_pictures(draw, rng, frames, height, width) for _ in range(2)]
    kind, every = int(rng.integers(4)), int(rng.integers(1, 5))
    if kind == 0:
        return [scenes[t // every % 2][t] for t in range(frames)]
    light = np.float64(rng.choice((0.0, 255.0)))
    if kind == 1:
        shares = np.linspace(0, rng.uniform(0.5, 1), frames)
    elif kind == 2:
        shares = np.where(np.arange(frames) == int(rng.integers(frames)), rng.uniform(0.3, 0.95), 0.0)
    else:
        shares = rng.uniform(0, 0.3, frames)
    shares = shares[:: int(rng.choice((1, -1)))]
    return [np.rint(p + (light - p) * s).astype(np.uint8) for p, s in zip(scenes[0], shares, strict=True)]


Pattern = Callable[[Draw, np.random.Generator, int, int, int], list[Rgb]]
PATTERNS: tuple[Pattern, ...] = (_dithered, _dithered, _pixel_art, _pixel_art, _grating, _automaton, _light)
"""All kinds, each as often as it is drawn."""
