"""Prints the README's quality table: ours beside NS-IC's and published figures, protocol named.

    python benchmarks/quality.py [--data ../shared/data] [--only photo,anime,...] [--markdown]

Ours are measured here, on the test sets, with the shipped models; the others are quoted with their source. Where the
pictures differ from the published protocol's, the row says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ns_video.enhance import EnhanceOptions, Enhancer
from ns_video.media.degrade import parse_spec
from ns_video.media.pictures import list_pictures, read_rgb
from ns_video.training.evaluate import PictureScore, mean_score, score_picture, still_restorer
from ns_video.weights import load_descriptor


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. dB; `others` is text with the source."""

    model: str
    what: str
    before: float
    after: float
    gain: float
    smallest_gain: float
    others: str


LIVE1_PUBLISHED = {
    10: "QGAC 27.62, FBCNN 27.77 (72 M), SwinIR 28.06, GRL-S 28.13",
    20: "QGAC 29.88, FBCNN 30.11, SwinIR 30.45, GRL-S 30.49",
    30: "QGAC 31.17, FBCNN 31.43, SwinIR 31.82, GRL-S 31.85",
    40: "QGAC 32.05, FBCNN 32.34, SwinIR 32.75, GRL-S 32.79",
}
NSIC_PHOTOGRAPH = {
    10: "NS-IC +0.79 (its photograph)",
    30: "NS-IC -0.27 (its photograph)",
    50: "NS-IC -1.04 (its photograph)",
    70: "NS-IC -2.70 (its photograph)",
    90: "NS-IC -2.84 (its photograph)",
}
NSIC_MOSAIC = {2: "NS-IC +9.53", 3: "NS-IC +8.56", 4: "NS-IC +8.68"}
STUDY = "DnCNN 26.66, CNN_RES 26.46, EDSR 25.96, CNN 24.93, SuperRes 23.66"


class Bench:
    """Models are loaded once; pictures are read again for each row."""

    def __init__(self, data: Path, precision: str) -> None:
        self.data = data
        self._precision = precision
        self._enhancers: dict[str, Enhancer] = {}

    def scores(self, model: str, folder: str, spec: str, prefix: str = "") -> list[PictureScore]:
        """Every picture of a test folder whose name begins with `prefix`."""
        if model not in self._enhancers:
            self._enhancers[model] = Enhancer(load_descriptor(model), EnhanceOptions(precision=self._precision))
        enhancer = self._enhancers[model]
        degradation = None if spec == "none" else parse_spec(spec)
        return [
            score_picture(path.stem, read_rgb(path), degradation, still_restorer(enhancer), enhancer.descriptor.scale)
            for path in list_pictures(self.data / "test" / folder)
            if path.stem.startswith(prefix)
        ]

    def row(self, model: str, folder: str, spec: str, others: str = "", prefix: str = "", luma: bool = False) -> Row:
        """The mean over a folder; RGB PSNR, or PSNR-Y with `luma`."""
        scores = self.scores(model, folder, spec, prefix)
        mean = mean_score(scores)
        gains = [s.psnr_y_after - s.psnr_y_before if luma else s.gain for s in scores]
        before, after = (mean.psnr_y_before, mean.psnr_y_after) if luma else (mean.psnr_before, mean.psnr_after)
        return Row(
            model,
            f"{folder}{f' {prefix}' if prefix else ''}, {spec}",
            before,
            after,
            after - before,
            min(gains),
            others,
        )


def photo(bench: Bench) -> Iterator[Row]:
    """LIVE1, JPEG 4:2:0 and 4:4:4, RGB PSNR."""
    for quality in (10, 20, 30, 40, 50, 70, 90, 95):
        published = LIVE1_PUBLISHED.get(quality, NSIC_PHOTOGRAPH.get(quality, ""))
        yield bench.row("photo", "live1", f"jpeg:q={quality}", published)
    for quality in (90, 95):
        yield bench.row("photo", "live1", f"jpeg:q={quality},subsampling=444")


def anime(bench: Bench) -> Iterator[Row]:
    """Line-art scenes and comic pages, JPEG 4:2:0, RGB PSNR."""
    yield bench.row("anime", "art", "jpeg:q=10", "NS-IC Kyouka +3.56, Kyouka-LQ +4.05 (its own picture)")
    for quality in (30, 50, 70, 90, 95):
        yield bench.row("anime", "art", f"jpeg:q={quality}")


def mosaic(bench: Bench) -> Iterator[Row]:
    """Line-art scenes, blocks of 2 to 4 px, RGB PSNR."""
    for p in (2, 3, 4):
        yield bench.row("mosaic", "art", f"mosaic:p={p}", f"{NSIC_MOSAIC[p]} (its own picture)", prefix="scene")


def deblur(bench: Bench) -> Iterator[Row]:
    """The deblurring study's degradation, RGB PSNR of the whole picture."""
    yield bench.row("deblur", "set5", "blur-down", STUDY, prefix="butterfly")
    yield bench.row("deblur", "set5", "blur-down")
    yield bench.row("deblur", "set14", "blur-down")


def upscale2x(bench: Bench) -> Iterator[Row]:
    """Bicubic x2 (MATLAB's imresize), PSNR-Y, 2 px of border left out."""
    set5 = "FSRCNN 37.00 (12 K), SAFMN 38.00 (228 K), EDSR-baseline 37.99 (1.4 M), RCAN 38.27 (15 M)"
    yield bench.row("upscale2x", "set5", "downscale:x=2", set5, luma=True)
    set14 = "FSRCNN 32.63, SAFMN 33.54"
    yield bench.row("upscale2x", "set14", "downscale:x=2", set14, luma=True)


PARTS = {"photo": photo, "anime": anime, "mosaic": mosaic, "deblur": deblur, "upscale2x": upscale2x}


def main() -> int:
    """Prints one table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.data, arguments.precision)
    print("| model | test set, damage | before | after | gain | smallest gain of a picture | others |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.only.split(","):
        for row in PARTS[name](bench):
            print(
                f"| {row.model} | {row.what} | {row.before:.2f} | {row.after:.2f} | {row.gain:+.2f} "
                f"| {row.smallest_gain:+.2f} | {row.others} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
