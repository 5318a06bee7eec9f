"""Trains `content`, which tells drawings from photographs, and prints what its choice of a network gains.

python benchmarks/train_content.py pipelines/training/content.toml models/content.safetensors --data ../shared/data
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from ns_video.training.content import read_content_config, train_content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    outcome = train_content(read_content_config(options.config, options.data), options.output)
    print("| held-out regions | photo, dB | anime | chosen | the better of both |")
    print("|---|---|---|---|---|")
    means = (outcome.photographed, outcome.drawn, outcome.chosen, outcome.best)
    print(f"| {outcome.regions} | " + " | ".join(f"{mean:+.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
