"""What was chosen for stills, on held-out training pictures: views to average, and how near to the file they stay.

    python benchmarks/still_choices.py photo --degrade jpeg:q=10 jpeg:q=90 --width 0 0.5 0.33
    python benchmarks/still_choices.py upscale2x --degrade downscale:x=2 --views 1 4

The pictures are those that the model's recipe (pipelines/training/NAME.toml) keeps from its training, cut to 240 px
from their upper left corner. A row for each damage, number of views and half width of the coefficients' intervals (in
steps; 0: the file is not asked): mean and least gain of a picture in dB of RGB PSNR, PSNR-Y where the model enlarges.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ns_video.constraint import WIDTH, hold
from ns_video.enhance import EnhanceOptions, Enhancer, enhancer
from ns_video.frame import JpegTables
from ns_video.media.degrade import parse_spec
from ns_video.preset import STILL_VIEWS
from ns_video.training.config import read_config
from ns_video.training.evaluate import score_picture, still_restorer
from ns_video.training.pictures import PictureSet
from ns_video.weights import load_descriptor

_SIDE = 240


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an installed model with a recipe")
    parser.add_argument("--degrade", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--views", nargs="+", type=int, default=[STILL_VIEWS])
    parser.add_argument("--width", nargs="+", type=float, default=[WIDTH])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = read_config(Path(__file__).parents[1] / "pipelines" / "training" / f"{options.model}.toml")
    pictures = PictureSet(replace(recipe.data, root=str(options.data))).held_out
    crops = [(picture.name, np.ascontiguousarray(picture.pixels[:_SIDE, :_SIDE])) for picture in pictures]
    descriptor = load_descriptor(options.model)
    print("| damage | views | half width | mean gain | least gain |\n|---|---|---|---|---|")
    for spec in options.degrade:
        for views in options.views:
            for width in options.width:
                enhancer.hold = _holding(width)  # pyright: ignore[reportAttributeAccessIssue]
                restore = still_restorer(Enhancer(descriptor, EnhanceOptions(device="cpu", ensemble=views)))
                gains = [
                    score.psnr_y_after - score.psnr_y_before if descriptor.scale > 1 else score.gain
                    for score in (
                        score_picture(name, crop, parse_spec(spec), restore, descriptor.scale) for name, crop in crops
                    )
                ]
                print(f"| {spec} | {views} | {width:g} | {np.mean(gains):+.3f} | {min(gains):+.3f} |", flush=True)


def _holding(width: float) -> object:
    def narrowed(
        restored: torch.Tensor,
        decoded: torch.Tensor,
        tables: JpegTables,
        phase: tuple[int, int] = (0, 0),
        foreign: npt.NDArray[np.bool_] | None = None,
    ) -> torch.Tensor:
        return restored if width == 0 else hold(restored, decoded, tables, phase, width, foreign)

    return narrowed


if __name__ == "__main__":
    main()
