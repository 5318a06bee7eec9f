"""The no-reference score ns-iqa against severity and against SSIM, on pictures and clips it was not trained on.

    cd ../shared/data && python .../benchmarks/iqa.py --images test/live1 test/art --clips truth/test

Prints four tables. Severity: for each damage, SRCC of the score with the true order of severities within one content,
mean and worst over contents. Across: SRCC with SSIM over all contents and severities of a damage, and of all damages
together. Directions: how often a picture made worse in a way that scores like to reward (blur, over-denoising,
over-sharpening) scores below its source, for clean sources and for JPEG-damaged ones. A fourth table tells how often
JPEGs that a model restored score higher than before, by how much, and by how much their SSIM says they should.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from ns_video.enhance import load_enhancer
from ns_video.media.degrade import degrade_frames, degrade_still, parse_spec
from ns_video.media.pictures import Rgb, list_pictures, read_rgb
from ns_video.quality.correlation import rank_correlation
from ns_video.quality.ns_iqa import NsIqaJudges, score_of_ssim
from ns_video.quality.ssim import ssim
from ns_video.training.evaluate import still_restorer, to_tensor
from ns_video.training.losses import luma
from ns_video.weights import load_descriptor

LADDERS: dict[str, list[str]] = {
    "JPEG 4:2:0": [f"jpeg:q={q}" for q in (90, 70, 50, 30, 20, 10)],
    "JPEG 4:4:4": [f"jpeg:q={q},subsampling=444" for q in (90, 70, 50, 30, 20, 10)],
    "x264 still": [f"h264:crf={crf}" for crf in (18, 24, 30, 36, 42, 48)],
    "mosaic": [f"mosaic:p={p}" for p in (2, 3, 4, 6, 8)],
    "noise": [f"noise:sigma={sigma}" for sigma in (3, 6, 12, 25, 50)],
    "gaussian blur": [f"gaussian-blur:sigma={sigma}" for sigma in (0.6, 1.0, 1.6, 2.5, 4.0)],
    "defocus": [f"defocus-blur:radius={radius}" for radius in (1, 2, 4, 7)],
    "motion blur": [f"motion-blur:length={length}" for length in (3, 6, 11, 18)],
    "downscale": [f"downscale:x={x}+enlarge" for x in (2, 3, 4)],
    "noise, then JPEG": [f"noise:sigma={s}+jpeg:q={q}" for s, q in ((4, 80), (8, 60), (16, 40), (25, 20), (40, 10))],
    "blur, then JPEG": [f"gaussian-blur:sigma={s}+jpeg:q={q}" for s, q in ((0.6, 80), (1, 60), (1.6, 40), (2.5, 20))],
}
CLIP_LADDERS: dict[str, list[str]] = {
    "x264 clip": [f"h264:crf={crf}" for crf in (20, 26, 32, 38, 44, 50)],
    "HEVC clip": [f"hevc:crf={crf}" for crf in (20, 26, 32, 38, 44, 50)],
    "MPEG-2 clip": [f"mpeg2:q={q}" for q in (2, 5, 10, 18, 31)],
}
WORSE: dict[str, Callable[[Rgb], Rgb]] = {
    "blur, sigma 1": lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 1.0), np.uint8),
    "blur, sigma 2": lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 2.0), np.uint8),
    "bilateral filter": lambda rgb: np.asarray(cv2.bilateralFilter(rgb, 9, 60, 4), np.uint8),
    "median 5x5": lambda rgb: np.asarray(cv2.medianBlur(rgb, 5), np.uint8),
    "unsharp mask, amount 2": lambda rgb: np.asarray(
        cv2.addWeighted(rgb, 3.0, cv2.GaussianBlur(rgb, (0, 0), 1.2), -2.0, 0), np.uint8
    ),
}
_CLIP_FRAMES = (8, 20, 32)
_RESTORED_QUALITIES = (10, 30, 60, 85)


def likeness(damaged: Rgb, truth: Rgb) -> float:
    with torch.inference_mode():
        return float(ssim(luma(to_tensor(damaged)), luma(to_tensor(truth))))


def damaged(rgb: Rgb, spec: str) -> Rgb:
    if spec.endswith("+enlarge"):
        small = degrade_still(rgb, parse_spec(spec.removesuffix("+enlarge"))).rgb
        return np.asarray(cv2.resize(small, rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return degrade_still(rgb, parse_spec(spec)).rgb


def clip_frames(path: Path) -> list[Rgb]:
    capture, found = cv2.VideoCapture(str(path)), []
    while len(found) <= max(_CLIP_FRAMES):
        done, picture = capture.read()
        if not done:
            break
        found.append(np.ascontiguousarray(picture[..., ::-1]))
    return found


def still_ladders(pictures: Iterable[Rgb]) -> Iterator[tuple[str, int, list[Rgb], Rgb]]:
    """(damage, content, damaged pictures from least to most, truth)."""
    for content, rgb in enumerate(pictures):
        for name, specs in LADDERS.items():
            yield name, content, [damaged(rgb, spec) for spec in specs], rgb


def clip_ladders(paths: Iterable[Path]) -> Iterator[tuple[str, int, list[Rgb], Rgb]]:
    for number, path in enumerate(paths):
        frames = clip_frames(path)
        for name, specs in CLIP_LADDERS.items():
            made = [list(degrade_frames(frames, parse_spec(spec))) for spec in specs]
            for place in _CLIP_FRAMES:
                if place < len(frames):
                    yield name, 1000 + 10 * number + place, [clip[place] for clip in made], frames[place]


def print_restored(pictures: list[Rgb], score: Callable[[Rgb], float], model: str) -> None:
    """The table of JPEGs, 4:2:0, before and after a model of ours."""
    restore = still_restorer(load_enhancer(model))
    print(f"\n| restored by {model} | higher than before | mean change | change of the target, from SSIM |")
    print("|---|---|---|---|")
    for quality in _RESTORED_QUALITIES:
        changes: list[tuple[float, float]] = []
        for rgb in pictures:
            coded = degrade_still(rgb, parse_spec(f"jpeg:q={quality}"))
            after = restore(coded.rgb, coded.jpeg)
            likenesses = torch.tensor([likeness(picture, rgb) for picture in (coded.rgb, after)])
            changes.append((score(after) - score(coded.rgb), float(score_of_ssim(likenesses).diff())))
        ours, true = np.array(changes).T
        print(f"| JPEG q {quality} | {100 * (ours > 0).mean():.0f} % | {ours.mean():+.1f} | {true.mean():+.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="*", type=Path, default=[], help="folders of undamaged pictures")
    parser.add_argument("--clips", type=Path, help="folder of undamaged clips")
    parser.add_argument("--limit", type=int, default=1000, help="pictures per folder")
    parser.add_argument("--model", default="ns-iqa")
    parser.add_argument("--restorer", default="photo", help="a model for JPEG stills")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judges = load_descriptor(options.model).network
    assert isinstance(judges, NsIqaJudges)

    def score(rgb: Rgb) -> float:
        return judges.score(to_tensor(rgb))

    pictures = [read_rgb(path) for folder in options.images for path in list_pictures(folder)[: options.limit]]
    clips = sorted(options.clips.glob("*.mkv")) if options.clips else []
    rows: dict[str, list[tuple[int, list[float], list[float]]]] = {}
    for ladders in (still_ladders(pictures), clip_ladders(clips)):
        for name, content, made, truth in ladders:
            scores, truths = [score(rgb) for rgb in made], [likeness(rgb, truth) for rgb in made]
            rows.setdefault(name, []).append((content, scores, truths))

    print(f"{len(pictures)} pictures, {len(clips)} clips; model {options.model}\n")
    print("| damage | contents | severity: SRCC within content, mean | worst | SSIM: SRCC across contents |")
    print("|---|---|---|---|---|")
    every: tuple[list[float], list[float], list[float]] = ([], [], [])
    for name, found in rows.items():
        within = [rank_correlation(torch.tensor(scores), -torch.arange(len(scores)).float()) for _, scores, _ in found]
        flat_scores = [value for _, scores, _ in found for value in scores]
        flat_truths = [value for _, _, truths in found for value in truths]
        across = rank_correlation(torch.tensor(flat_scores), torch.tensor(flat_truths))
        every[0].extend(within)
        every[1].extend(flat_scores)
        every[2].extend(flat_truths)
        print(f"| {name} | {len(found)} | {np.mean(within):.3f} | {min(within):.3f} | {across:.3f} |")
    together = rank_correlation(torch.tensor(every[1]), torch.tensor(every[2]))
    print(f"| all | {len(every[0])} | {np.mean(every[0]):.3f} | {min(every[0]):.3f} | {together:.3f} |\n")

    if pictures:
        print("| made worse by | below its clean source | mean change | below its JPEG q30 source | mean change |")
        print("|---|---|---|---|---|")
        sources = [(rgb, damaged(rgb, "jpeg:q=30")) for rgb in pictures]
        before = [(score(clean), score(coded)) for clean, coded in sources]
        for name, make in WORSE.items():
            changes = np.array(
                [
                    [score(make(picture)) - was for picture, was in zip(pair, scores)]
                    for pair, scores in zip(sources, before)
                ]
            )
            cells = [f"{100 * (changes[:, i] < 0).mean():.0f} % | {changes[:, i].mean():+.1f}" for i in (0, 1)]
            print(f"| {name} | {cells[0]} | {cells[1]} |")
        print_restored(pictures, score, options.restorer)
        print(f"\nclean sources: {np.mean([one for one, _ in before]):.1f}, lowest {min(one for one, _ in before):.1f}")


if __name__ == "__main__":
    main()
