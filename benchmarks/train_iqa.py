"""Trains the no-reference score and prints what it reaches on pictures held out from its training.

python benchmarks/train_iqa.py pipelines/training/ns_iqa.toml models/ns-iqa.safetensors --data ../shared/data
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import torch

from ns_video.training.iqa import read_iqa_config, train_iqa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that make the material")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    outcome = train_iqa(read_iqa_config(options.config, options.data), options.output, options.workers)
    print("| contents | SRCC with SSIM, all held-out crops | SRCC within one content, mean |")
    print("|---|---|---|")
    print(f"| {outcome.contents} | {outcome.across:.3f} | {outcome.within:.3f} |")


if __name__ == "__main__":
    main()
