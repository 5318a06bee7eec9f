"""The README's picture: one frame of the sample clip, compressed, restored and true, enlarged without smoothing.

python benchmarks/figure.py docs/before_after.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import ns_video
from ns_video.color import to_tensor
from ns_video.media.decode import open_clip
from ns_video.media.pictures import write_png

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
FRAME, TOP, LEFT, HEIGHT, WIDTH, ENLARGE = 6, 96, 120, 150, 210, 2


def cut(clip: Path) -> np.ndarray:
    """(HEIGHT * ENLARGE, WIDTH * ENLARGE, 3) uint8 of the chosen part of the chosen frame."""
    with open_clip(clip) as reader:
        for index, frame in enumerate(reader.frames()):
            if index == FRAME:
                rgb = to_tensor(frame.planes, frame.format, frame.color, "rgb", "cpu")
                picture = (rgb[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
                part = picture[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
                return part.repeat(ENLARGE, 0).repeat(ENLARGE, 1)
    raise SystemExit(f"{clip} has no frame {FRAME}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="video")
    args = parser.parse_args()
    source = SAMPLES / "bbb_crf36.mp4"
    with tempfile.TemporaryDirectory() as folder:
        restored = Path(folder) / "restored.mkv"
        ns_video.restore(source, restored, model=args.model, codec="ffv1")
        parts = [cut(source), cut(restored), cut(SAMPLES / "bbb_reference.mkv")]
    gap = np.full((HEIGHT * ENLARGE, 8, 3), 255, np.uint8)
    write_png(args.output, np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1))


if __name__ == "__main__":
    main()
