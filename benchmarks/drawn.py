"""What it gains that stills which look drawn go to another network: a row for each folder and damage.

    python benchmarks/drawn.py --images ../shared/data/test/live1 ../shared/data/test/art --degrade jpeg:q=30

Mean gain in dB of RGB PSNR over the folder's pictures were all of them restored by `photo`, by `anime`, and by the one
that `content` chooses, as the preset `auto` does on a CPU; one view each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from ns_video.enhance import load_enhancer
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.pictures import list_pictures, read_rgb
from ns_video.quality.ns_content import NsContent
from ns_video.recommend import DRAWN, PHOTOGRAPHED
from ns_video.training.evaluate import score_picture, still_restorer, to_tensor
from ns_video.weights import load_descriptor


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=Path, required=True, metavar="DIR")
    parser.add_argument("--degrade", nargs="+", default=["jpeg:q=30"], metavar="SPEC")
    parser.add_argument("--limit", type=int, default=1000, help="pictures of a folder at most")
    parser.add_argument("--judge", default="content", help="a model's name, or a file of an ns_content")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = load_descriptor(options.judge).network
    if not isinstance(judge, NsContent):
        raise SystemExit(f"{options.judge} is no ns_content")
    both = [still_restorer(load_enhancer(name)) for name in (PHOTOGRAPHED, DRAWN)]
    print(
        "| folder | damage | look drawn | photo | anime | chosen | the better of both |\n|---|---|---|---|---|---|---|"
    )
    for folder in options.images:
        for text in options.degrade:
            spec, gains, drawn = parse_spec(text), list[list[float]](), list[bool]()
            for path in list_pictures(folder)[: options.limit]:
                rgb = read_rgb(path)
                drawn.append(judge.advantage(to_tensor(degrade_still(rgb, spec, 0).rgb)) > 0)
                gains.append([score_picture(path.name, rgb, spec, restore, 1).gain for restore in both])
            table, chosen = np.array(gains), np.array(drawn)
            picked = np.where(chosen, table[:, 1], table[:, 0])
            means = (table[:, 0], table[:, 1], picked, table.max(1))
            shown = " | ".join(f"{column.mean():+.3f}" for column in means)
            print(f"| {folder.name} | {text} | {chosen.sum()} of {len(chosen)} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
