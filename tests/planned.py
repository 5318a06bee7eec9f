"""Plans of output videos for clips, and what such a plan writes."""

from __future__ import annotations

import io
from pathlib import Path

import av

from ns_video.frame import Frame
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.encode import FrameEncoder, add_video_stream, encoded
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.video_plan import VideoPlan, plan_video


def plan(path: Path, container: str, **wanted: object) -> tuple[VideoPlan, list[Frame]]:
    """The plan for a clip, and its frames."""
    with open_clip(path) as reader:
        found = list(reader.frames())
        size = (found[0].width, found[0].height)
        return plan_video(container, reader.info.video, found[0], size, EncodeOptions(**wanted)), found


def written(chosen: VideoPlan, frames: list[Frame]) -> list[Frame]:
    """The frames, encoded into a container in memory and read back."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=chosen.container_format) as out:
        encoder = FrameEncoder(add_video_stream(out, chosen), chosen)
        for packet in encoded(frames, encoder):
            out.mux(packet)
    buffer.seek(0)
    with open_clip(buffer, DecodeOptions(deinterlace="off")) as reader:
        return list(reader.frames())
