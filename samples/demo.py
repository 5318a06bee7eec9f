"""What `make demo` runs: restore the sample clip, write its report, print what it gained."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

import ns_video
from ns_video.media.decode import open_clip

HERE = Path(__file__).resolve().parent


def luma_psnr(clip: Path, reference: Path) -> float:
    """Mean over the frames of PSNR-Y in dB."""
    values: list[float] = []
    with open_clip(clip) as a, open_clip(reference) as b:
        for made, true in zip(a.frames(), b.frames(), strict=True):
            error = made.planes[0].astype(np.float64) - true.planes[0]
            values.append(10 * math.log10(255**2 / max(1e-9, float((error**2).mean()))))
    return sum(values) / len(values)


def main() -> int:
    clip, reference, restored = HERE / "bbb_crf36.mp4", HERE / "bbb_reference.mkv", Path("restored.mp4")
    record = ns_video.restore(clip, restored, overwrite=True, report=Path("restored.html"))
    before, after = luma_psnr(clip, reference), luma_psnr(restored, reference)
    print(f"{restored}: {record.frames_out} frames, {record.fps:.1f} fps, model {record.model.name} on {record.device}")
    for stream in record.streams:
        print(f"  stream {stream.index}: {stream.type} {stream.codec}, {stream.action}")
    print(f"PSNR-Y against the reference: {before:.2f} dB before, {after:.2f} dB after ({after - before:+.2f} dB)")
    print("report: restored.html")
    return record.exit_code


if __name__ == "__main__":
    sys.exit(main())
