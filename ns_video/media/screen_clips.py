"""Draws clips of what cameras don't film: pages that scroll, sprites, captions, typed text, moving line art. Floor 2.

They are the truth of training clips beside those from `video_clips`. Edges are hard and motion goes by whole pixels,
where a codec's damage is easily taken for detail, or detail for damage.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ns_video.media.pictures import Rgb
from ns_video.media.training_clips import shrink

Draw = Callable[[], Rgb]
"""Gives a still to make things of."""

_LETTERS = string.ascii_lowercase * 3 + string.ascii_uppercase + string.digits
_MARKS = ".,;:-!?()/+=%#@&*"


def screen_pictures(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """`frames` pictures of (height, width, 3) uint8 RGB of one kind of moving graphics."""
    kinds = (_scroll, _scroll, _sprites, _sprites, _typing, _captions)
    return kinds[int(rng.integers(len(kinds)))](draw, rng, frames, height, width)


def add_caption(pictures: list[Rgb], rng: np.random.Generator) -> list[Rgb]:
    """The pictures with a line or two of burnt-in subtitles, which change at one frame, or with a ticker."""
    height, width = pictures[0].shape[:2]
    font, size = _font(rng, height, large=True)
    ticker = rng.random() < 0.25
    speed = int(rng.integers(1, 6))
    change = int(rng.integers(1, max(2, len(pictures))))
    lines = [_words(rng, int(rng.integers(2, 8))) for _ in range(2)]
    fill = tuple(int(v) for v in rng.choice(((255, 255, 255), (255, 255, 0), (235, 235, 235))))
    top = height - int(size * rng.uniform(1.3, 2.5))
    captioned: list[Rgb] = []
    for t, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        if ticker:
            pen.rectangle((0, top - 2, width, height), fill=(20, 20, 60))
            pen.text((width // 2 - speed * t, top), " ".join(lines), font=font, fill=fill)
        else:
            line = lines[int(t >= change)]
            pen.text((width // 2, top), line, font=font, fill=fill, anchor="ma", stroke_width=1, stroke_fill=(0, 0, 0))
        captioned.append(np.asarray(image))
    return captioned


def _font(rng: np.random.Generator, height: int, *, large: bool = False) -> tuple[ImageFont.FreeTypeFont, int]:
    size = int(rng.integers(max(9, height // 20), max(12, height // 8))) if large else int(rng.integers(8, 24))
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font, size


def _words(rng: np.random.Generator, count: int) -> str:
    words: list[str] = []
    for _ in range(count):
        letters = [_LETTERS[int(i)] for i in rng.integers(len(_LETTERS), size=int(rng.integers(1, 10)))]
        words.append("".join(letters) + (_MARKS[int(rng.integers(len(_MARKS)))] if rng.random() < 0.2 else ""))
    return " ".join(words)


def _colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(paper, ink): mostly black on white or white on black, else any two of different brightness."""
    kind = rng.random()
    if kind < 0.35:
        paper, ink = rng.integers(225, 256, 3), rng.integers(0, 50, 3)
    elif kind < 0.6:
        paper, ink = rng.integers(0, 50, 3), rng.integers(180, 256, 3)
    else:
        paper, ink = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        if abs(int(paper.sum()) - int(ink.sum())) < 200:
            ink = 255 - paper
    return tuple(int(v) for v in paper), tuple(int(v) for v in ink)


def _up_to(rng: np.random.Generator, low: int, high: int) -> int:
    """Evenly from `low` up to but without `high`; `low` where there is nothing between."""
    return int(rng.integers(low, max(low + 1, high)))


def draw_page(rng: np.random.Generator, height: int, width: int) -> Rgb:
    """A page of text with headings, rules, boxes and charts."""
    paper, ink = _colours(rng)
    image = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        pen.fontmode = "1"  # no smooth edges
    font, size = _font(rng, height)
    spacing = int(size * rng.uniform(1.1, 1.8))
    left, y = _up_to(rng, 2, width // 6), int(rng.integers(0, spacing))
    while y < height:
        kind = rng.random()
        if kind < 0.72:
            pen.text((left, y), _words(rng, int(rng.integers(1, 14))), font=font, fill=ink)
            y += spacing
        elif kind < 0.8:
            pen.line((left, y + 2, max(left, width - left), y + 2), fill=ink, width=int(rng.integers(1, 3)))
            y += 6
        elif kind < 0.9:
            tall = int(rng.integers(10, 60))
            x = _up_to(rng, left, width // 2)
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            pen.rectangle((x, y, x + _up_to(rng, 20, width // 2), y + tall), fill=colour, outline=ink)
            y += tall + 4
        elif kind < 0.95:
            tall = int(rng.integers(20, 60))
            for x in range(left, width - left, int(rng.integers(6, 20))):
                colour = tuple(int(v) for v in rng.integers(0, 256, 3))
                pen.rectangle((x, y + int(rng.integers(tall)), x + 4, y + tall), fill=colour)
            y += tall + 4
        else:
            tall = int(rng.integers(20, 60))
            xs = np.arange(left, width - left, 5)
            points = [(int(x), int(y + v)) for x, v in zip(xs, rng.uniform(0, tall, len(xs)), strict=True)]
            pen.line(points, fill=ink, width=int(rng.integers(1, 3)))
            y += tall + 4
    return np.asarray(image)


def _tiled(picture: Rgb, height: int, width: int) -> Rgb:
    """At least (height, width): mirrored and repeated."""
    rows, columns = max(0, height - picture.shape[0]), max(0, width - picture.shape[1])
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="symmetric") if rows or columns else picture


def pick_ground(draw: Draw, rng: np.random.Generator, height: int, width: int) -> Rgb:
    """Something to lie behind: a page, a drawing, one colour, a gradient or a pattern of tiles."""
    kind = rng.random()
    if kind < 0.3:
        return draw_page(rng, height, width)
    if kind < 0.65:
        picture = draw()
        room = min(picture.shape[0] / height, picture.shape[1] / width)
        picture = _tiled(shrink(picture, float(rng.uniform(1.0, max(1.0, min(2.5, room))))), height, width)
        top = int(rng.integers(picture.shape[0] - height + 1))
        left = int(rng.integers(picture.shape[1] - width + 1))
        return picture[top : top + height, left : left + width]
    if kind < 0.8:
        return np.tile(rng.integers(0, 256, 3).astype(np.uint8), (height, width, 1))
    if kind < 0.9:
        ends = rng.integers(0, 256, (2, 3)).astype(np.float64)
        share = np.linspace(0, 1, height)[:, None, None]
        return np.rint(ends[0] * (1 - share) + ends[1] * share + np.zeros((1, width, 1))).astype(np.uint8)
    tile = rng.choice(rng.integers(0, 256, (4, 3)), (int(rng.integers(2, 9)),) * 2).astype(np.uint8)
    tile = tile.repeat(factor := int(rng.integers(2, 9)), 0).repeat(factor, 1)
    return np.tile(tile, (-(-height // len(tile)), -(-width // len(tile)), 1))[:height, :width]


def _scroll(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """A page or a drawing scrolls by whole pixels, often below a bar that stands."""
    speed = int(rng.choice((1, 1, 2, 2, 3, 4, 6, 8, 13)))
    sideways = rng.random() < 0.3
    length = (width if sideways else height) + speed * (frames - 1)
    shape = (height, length) if sideways else (length, width)
    page = draw_page(rng, *shape) if rng.random() < 0.55 else pick_ground(draw, rng, *shape)
    bar = draw_page(rng, height, width)[: int(rng.integers(8, height // 5))] if rng.random() < 0.4 else None
    rest = int(rng.integers(1, frames)) if rng.random() < 0.3 else frames  # the reader stops
    backwards = rng.random() < 0.3
    pictures: list[Rgb] = []
    for t in range(frames):
        at = speed * min(t, rest)
        at = length - (width if sideways else height) - at if backwards else at
        picture = (page[:, at : at + width] if sideways else page[at : at + height]).copy()
        if bar is not None:
            picture[: len(bar)] = bar
        pictures.append(picture)
    return pictures


def _sprite(draw: Draw, rng: np.random.Generator, height: int, width: int) -> tuple[Rgb, np.ndarray]:
    """(picture, mask): pixel art, an ellipse cut from a drawing, or a box."""
    kind = rng.random()
    if kind < 0.4:
        side, factor = int(rng.integers(6, 20)), int(rng.integers(1, 6))
        colours = rng.integers(0, 256, (int(rng.integers(2, 6)), 3)).astype(np.uint8)
        half = rng.integers(0, len(colours) + 1, (side, -(-side // 2)))
        drawing = np.concatenate((half, half[:, ::-1]), 1)  # faces and ships are symmetric
        picture = colours[np.minimum(drawing, len(colours) - 1)]
        return tuple(part.repeat(factor, 0).repeat(factor, 1) for part in (picture, drawing < len(colours)))  # type: ignore[return-value]
    h, w = int(rng.integers(16, height // 2)), int(rng.integers(16, width // 2))
    picture = pick_ground(draw, rng, h, w)
    if kind < 0.7:
        return picture, np.ones((h, w), bool)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    return picture, y * y + x * x < 1


def _sprites(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """One to five things with hard edges over a ground that stands or goes by whole pixels."""
    speed = int(rng.choice((0, 0, 0, 1, 2, 4)))
    ground = pick_ground(draw, rng, height, width + speed * frames)
    things = [_sprite(draw, rng, height, width) for _ in range(int(rng.integers(1, 6)))]
    starts = [(rng.uniform(-0.1, 0.9) * height, rng.uniform(-0.1, 0.9) * width) for _ in things]
    ways = [rng.normal(0, 3.0, 2) for _ in things]
    pictures: list[Rgb] = []
    for t in range(frames):
        picture = ground[:, speed * t : speed * t + width].copy()
        for (thing, mask), (y, x), (dy, dx) in zip(things, starts, ways, strict=True):
            top, left = round(y + dy * t), round(x + dx * t)
            rows = slice(max(0, top), max(0, min(height, top + len(thing))))
            columns = slice(max(0, left), max(0, min(width, left + thing.shape[1])))
            cut = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
            if rows.start < rows.stop and columns.start < columns.stop:
                picture[rows, columns][mask[cut]] = thing[cut][mask[cut]]
        pictures.append(picture)
    return pictures


def _typing(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """Text is typed over a ground, a few characters a frame."""
    ground = pick_ground(draw, rng, height, width)
    paper, ink = _colours(rng)
    font, size = _font(rng, height)
    box = (int(rng.integers(0, width // 4)), int(rng.integers(0, height // 3)))
    end = (int(rng.integers(3 * width // 4, width)), int(rng.integers(2 * height // 3, height)))
    text = "\n".join(_words(rng, int(rng.integers(2, 9))) for _ in range(int(rng.integers(2, 12))))
    speed = int(rng.integers(1, 8))
    first = int(rng.integers(0, len(text) // 2 + 1))
    pictures: list[Rgb] = []
    for t in range(frames):
        image = Image.fromarray(ground)
        pen = ImageDraw.Draw(image)
        pen.rectangle((*box, *end), fill=paper)
        pen.multiline_text((box[0] + 4, box[1] + 4), text[: first + speed * t], font=font, fill=ink, spacing=size // 3)
        pictures.append(np.asarray(image))
    return pictures


def _captions(draw: Draw, rng: np.random.Generator, frames: int, height: int, width: int) -> list[Rgb]:
    """A drawing that drifts by whole pixels, with subtitles."""
    return add_caption(_scroll(draw, rng, frames, height, width), rng)
