"""PSNR-Y gain of a clip model on HEVC, AV1, VP8 and VP9, told what the decoder or the packets' headers tell.

    python benchmarks/codec_quality.py --clips ../shared/data/truth/test

Every clean clip (its first frames, 8-bit 4:2:0) is coded at four qualities, opened as `restore` opens it and restored
in fp32; PSNR of luma, mean over every Nth frame. `--factor` replaces the shipped factors between a codec's steps and
H.264's, to choose them; do that on clips that nothing is measured on afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
import torch

from ns_video.enhance import EnhanceOptions, Enhancer
from ns_video.media import coded_headers
from ns_video.media.carried import carry_quantisers
from ns_video.media.clip_files import list_clips
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.training_clips import Clip, read_clip
from ns_video.training.evaluate import psnr
from ns_video.weights import load_descriptor

_QUIET = {"x265-params": "log-level=none"}
LADDERS: dict[str, tuple[str, list[tuple[str, dict[str, str]]]]] = {
    "hevc": ("libx265", [(f"CRF {q}", {"crf": str(q), "preset": "fast", **_QUIET}) for q in (14, 20, 26, 32)]),
    "av1": ("libsvtav1", [(f"CRF {q}", {"crf": str(q), "preset": "8"}) for q in (12, 24, 36, 48)]),
    "vp8": (
        "libvpx",
        [
            (f"q {q}", {"qmin": str(q), "qmax": str(q), "b": "2M", "deadline": "realtime", "cpu-used": "4"})
            for q in (5, 12, 24, 40)
        ],
    ),
    "vp9": (
        "libvpx-vp9",
        [(f"CRF {q}", {"crf": str(q), "b": "0", "deadline": "realtime", "cpu-used": "5"}) for q in (15, 28, 40, 52)],
    ),
}


def code(clip: Clip, path: Path, codec: str, options: dict[str, str]) -> None:
    """Write a clip through an encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1] * 2 // 3, "yuv420p"
        for index, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def gain(enhancer: Enhancer, truth: Clip, path: Path, every: int) -> float:
    """Mean dB over every Nth frame."""
    height = truth.shape[1] * 2 // 3
    with open_clip(path, DecodeOptions(quantisers=True)) as reader:
        frames = list(reader.frames())
    gains = [
        psnr(done.frame.planes[0], truth[t, :height]) - psnr(frames[t].planes[0], truth[t, :height])
        for t, done in enumerate(enhancer.run(carry_quantisers(frames)))
        if t % every == every // 2
    ]
    return float(np.mean(gains))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/truth/test"))
    parser.add_argument("--model", default="video")
    parser.add_argument("--codec", nargs="+", choices=tuple(LADDERS), default=list(LADDERS))
    parser.add_argument("--factor", type=float)
    parser.add_argument("--frames", type=int, default=18)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = [read_clip(path, 0, options.frames) for path in list_clips(options.clips)]
    descriptor = load_descriptor(options.model)
    print("| codec | quality | mean gain | worst clip |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.codec:
            if options.factor is not None:
                coded_headers.LIKENESS[name] = options.factor
            codec, ladder = LADDERS[name]
            for quality, settings in ladder:
                gains: list[float] = []
                for clip in clips:
                    path = Path(folder) / "clip.mkv"
                    code(clip, path, codec, settings)
                    enhancer = Enhancer(descriptor, EnhanceOptions(precision="fp32"))
                    gains.append(gain(enhancer, clip, path, options.every))
                print(f"| {name} | {quality} | {np.mean(gains):+.3f} | {min(gains):+.3f} |", flush=True)


if __name__ == "__main__":
    main()
