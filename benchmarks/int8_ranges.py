"""Measures the ranges that a model's blocks need to be computed in int8, and writes the model with them.

    python benchmarks/int8_ranges.py pipelines/training/photo.toml photo photo.safetensors
    python benchmarks/int8_ranges.py pipelines/training/video.toml video video.safetensors --cache CLIPS

The configuration says what the model is measured on: the first batches of its training, as every training does at its
end. Weights stay the same, bit for bit; the checksum of the file changes.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from ns_video.networks.ns_restore import NsRestore
from ns_video.training import video
from ns_video.training.config import read_config, read_table
from ns_video.training.firing import Firing
from ns_video.training.process import find_process
from ns_video.training.ranges import MEASURING_BATCHES, measure_ranges
from ns_video.training.trainer import Trainer
from ns_video.weights import Metadata, load_descriptor, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("model", help="a name or a file")
    parser.add_argument("output", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of coded clips, where it isn't the configuration's")
    arguments = parser.parse_args()
    descriptor = load_descriptor(arguments.model)
    network = descriptor.network
    assert isinstance(network, NsRestore), "only ns-restore is computed in int8"
    if "cache" in read_table(arguments.config):
        config = video.read_config(arguments.config)
        cache = arguments.cache or config.cache
        config = dataclasses.replace(config, cache=cache, frames=network.config.frames, aligned=network.config.aligned)
        pool, process = video.Pool(config.cache), find_process("cpu")
        forwards = video.forwards(network, pool, config, process, MEASURING_BATCHES)
    else:
        forwards = Trainer(read_config(arguments.config), "cpu").forwards(network, MEASURING_BATCHES)
    with torch.inference_mode(), Firing(network) as firing:
        for forward in forwards:
            forward()
    ranges = measure_ranges(network, forwards)
    metadata = Metadata("ns_restore", descriptor.conditioning, descriptor.domain, ranges)
    sha256 = save_model(network, arguments.output, metadata)
    blocks = [name for name, _ in network.named_modules() if name.endswith(".conv1")]
    print(f"{len(ranges)} of {len(blocks)} blocks may be int8: {sha256}")
    print("{} of {} channels are silent".format(*firing.tally()))


if __name__ == "__main__":
    main()
