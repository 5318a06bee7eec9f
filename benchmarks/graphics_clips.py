"""What `restore` makes of H.264 clips of graphics that move: they must not lose.

    python benchmarks/graphics_clips.py --pictures ../shared/data/test/art --crf 18 23 28

Clips of 12 frames of 256×192 are drawn, coded by libx264 (preset medium, or `--encoder-preset`; or by `--encoder`, as
in `codec_quality.py`), restored whole with `--codec ffv1`, and compared: a row for each, PSNR-Y over the clip and the
gain. OpenCV's fonts and these motions are not those that training clips are drawn with
(`ns_video.media.screen_clips`); the drawings that pan and lie behind come from `--pictures`. `--moments` draws flashes,
fades, cuts and what else makes neighbours unlike the frame.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

import ns_video
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.training.evaluate import psnr

HEIGHT, WIDTH, FRAMES = 192, 256, 12
ENCODERS = {
    "libx264": {"preset": "medium"},
    "libx265": {"preset": "fast", "x265-params": "log-level=none"},
    "libsvtav1": {"preset": "8"},
    "libvpx-vp9": {"b": "0", "deadline": "realtime", "cpu-used": "5"},
}


def page(seed: int, height: int, width: int, scale: float = 0.4, dark: bool = False) -> Rgb:
    """A page of words."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 24 if dark else 250, np.uint8)
    ink = (230, 230, 200) if dark else (10, 10, 30)
    step = round(36 * scale)
    for row in range(height // step):
        words = "".join(random.choice(list("etaoin shrdlu cmfwyp vbgkqj xz"), 60))
        cv2.putText(picture, words, (4, step * (row + 1)), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return picture


def part(picture: Rgb, top: int, left: int) -> Rgb:
    """A window of a picture, mirrored where it ends."""
    rows, columns = max(0, top + HEIGHT - len(picture)), max(0, left + WIDTH - picture.shape[1])
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)), "symmetric")[top : top + HEIGHT, left : left + WIDTH]


def clips(pictures: list[Rgb]) -> Iterator[tuple[str, list[Rgb]]]:
    """(name, frames)."""
    random = np.random.default_rng(3)
    for scale, speed in ((0.4, 2), (0.6, 5)):
        text = page(1, HEIGHT + speed * FRAMES, WIDTH, scale)
        yield f"text scrolls by {speed} px", [text[speed * t :][:HEIGHT] for t in range(FRAMES)]
    titles = page(2, HEIGHT + 12, WIDTH, 0.5, dark=True)
    yield "credits scroll by 1 px", [titles[t:][:HEIGHT] for t in range(FRAMES)]
    for number, picture in enumerate(pictures):
        top, left = len(picture) // 3, picture.shape[1] // 3
        yield f"drawing {number} pans by 3 px", [part(picture, top, left + 3 * t) for t in range(FRAMES)]
        still = part(picture, top, left)
        zoomed = [cv2.resize(still[t : HEIGHT - t, t : WIDTH - t], (WIDTH, HEIGHT)) for t in range(FRAMES)]
        yield f"drawing {number} zooms", [np.asarray(frame, np.uint8) for frame in zoomed]
    sprite = np.kron(random.integers(0, 256, (12, 12, 3)).astype(np.uint8), np.ones((3, 3, 1), np.uint8))
    for name, ground in (("plain", np.full((HEIGHT, WIDTH, 3), 90, np.uint8)), ("drawn", part(pictures[0], 10, 10))):
        frames: list[Rgb] = []
        for t in range(FRAMES):
            frame = ground.copy()
            for k in range(4):
                y, x = 12 + 40 * k + (t if k % 2 else 0), (20 + 45 * k + (2 + k) * t) % (WIDTH - 36)
                frame[y : y + 36, x : x + 36] = sprite
            frames.append(frame)
        yield f"sprites, {name} ground", frames
    text = page(5, HEIGHT, WIDTH, 0.4, dark=True)
    hidden = np.zeros_like(text) + 24
    typed = [np.concatenate((text[: 30 + 14 * t], hidden[30 + 14 * t :])) for t in range(FRAMES)]
    yield "terminal", typed
    y, x = np.mgrid[0 : HEIGHT + 2 * FRAMES, 0:WIDTH]
    scene = 128 + 70 * np.sin(x / 37) * np.cos(y / 23)
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    dots = (scene > (np.tile(bayer, (len(scene) // 4, WIDTH // 4)) + 0.5) * 16) * np.uint8(255)
    yield "dithering scrolls by 2 px", [np.repeat(dots[2 * t :][:HEIGHT, :, None], 3, 2) for t in range(FRAMES)]


def moments(pictures: list[Rgb]) -> Iterator[tuple[str, list[Rgb]]]:
    """(name, frames) in which a frame's neighbours show other things, or show them in another light."""
    random = np.random.default_rng(5)
    scenes = [[part(p, len(p) // 3, p.shape[1] // 4 + 2 * t) for t in range(FRAMES)] for p in pictures]
    lights = {"white flash": [0.0] * 5 + [0.85] + [0.0] * 6, "fade to white": list(np.linspace(0, 0.9, FRAMES))}
    for name, shares in lights.items():
        lit = [frame + (255.0 - frame) * share for frame, share in zip(scenes[0], shares, strict=True)]
        yield name, [np.rint(frame).astype(np.uint8) for frame in lit]
    yield "cuts after each two frames", [scenes[t // 2 % len(scenes)][t] for t in range(FRAMES)]
    places, ways = random.integers(0, (HEIGHT, WIDTH), (300, 2)), random.integers(-12, 13, (300, 2))
    tints, sides = random.integers(0, 256, (300, 3)), random.integers(2, 6, 300)
    flying: list[Rgb] = []
    for t in range(FRAMES):
        frame = scenes[1][0].copy()
        for place, tint, side in zip((places + ways * t) % (HEIGHT - 6, WIDTH - 6), tints, sides, strict=True):
            frame[place[0] : place[0] + side, place[1] : place[1] + side] = tint
        flying.append(frame)
    yield "confetti", flying
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [128 + 80 * np.sin((x + y + 5 * t) * 2 * np.pi / 13) for t in range(FRAMES)]
    yield "diagonal waves", [np.repeat(np.rint(wave).astype(np.uint8)[..., None], 3, 2) for wave in waves]
    screen = np.full((HEIGHT, WIDTH, 3), 245, np.uint8)
    screen[:18], screen[30:90, 10:240] = (60, 70, 90), page(7, 60, 230, 0.38)
    typed: list[Rgb] = []
    for t in range(FRAMES):
        frame = screen.copy()
        line = "The quick brown fox jumps over it"[: 3 * t + 1]
        cv2.putText(frame, line, (10, 110), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
        cv2.rectangle(frame, (20 + 9 * t, 170 - 4 * t), (26 + 9 * t, 180 - 4 * t), (0, 0, 0), -1)
        typed.append(frame)
    yield "page being typed", typed


def write(path: Path, frames: list[Rgb], codec: str, options: dict[str, str]) -> None:
    """A clip of RGB frames as 4:2:0."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb in frames:
            out.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format="yuv420p"))
            )
        out.mux(stream.encode(None))


def luma(path: Path) -> np.ndarray:
    """(T, H, W) of a clip."""
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray()[:HEIGHT].astype(np.float64) for frame in clip.decode(video=0)])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/test/art"))
    parser.add_argument("--count", type=int, default=4, help="pictures that pan and zoom")
    parser.add_argument("--moments", action="store_true", help="flashes, fades, cuts and the like instead")
    parser.add_argument("--model", default="video")
    parser.add_argument("--crf", nargs="+", type=int, default=[18, 23, 28])
    parser.add_argument("--encoder", choices=tuple(ENCODERS), default="libx264")
    parser.add_argument("--encoder-preset", help="medium of x264, fast of x265, 8 of SVT-AV1; not of libvpx")
    options = parser.parse_args()
    settings = dict(ENCODERS[options.encoder])
    if options.encoder_preset:
        settings["preset"] = options.encoder_preset
    paths = list_pictures(options.pictures)
    pictures = [read_rgb(path) for path in paths[:: max(1, len(paths) // options.count)][: options.count]]
    drawn = dict(moments(pictures) if options.moments else clips(pictures))
    print("| clip | " + " | ".join(f"CRF {crf}, dB | gain" for crf in options.crf) + " |")
    print("|" + "---|" * (1 + 2 * len(options.crf)))
    gains: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        truth, coded, restored = (Path(folder) / name for name in ("truth.mkv", "coded.mkv", "restored.mkv"))
        for name, frames in drawn.items():
            write(truth, frames, "ffv1", {})
            cells: list[str] = []
            gains.append([])
            for crf in options.crf:
                write(coded, frames, options.encoder, {"crf": str(crf), **settings})
                ns_video.restore(coded, restored, model=options.model, codec="ffv1", overwrite=True)
                before = psnr(luma(coded), luma(truth))
                gains[-1].append(psnr(luma(restored), luma(truth)) - before)
                cells.append(f"{before:.2f} | {gains[-1][-1]:+.2f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    table = np.array(gains)
    for name, row in (("mean", table.mean(0)), ("least", table.min(0))):
        print(f"| **{name}** | " + " | ".join(f" | {gain:+.2f}" for gain in row) + " |")


if __name__ == "__main__":
    main()
