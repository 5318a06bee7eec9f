"""Quantisers of a frame's blocks as libav's decoders export them (VIDEO_ENC_PARAMS)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.sidedata.encparams import VideoEncParams, VideoEncParamsType
from av.video.frame import VideoFrame

from ns_video.frame import QuantiserMap
from ns_video.media.coded_headers import LIKENESS, vp9_steps

PICTURE_TYPES = {0: "?", 1: "I", 2: "P", 3: "B", 4: "P", 5: "I", 6: "P", 7: "B"}


_FLUSHED = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs of whose last frame, which their decoders give out once there are no more packets, libav exports nothing."""


class ExportedQuantisers:
    """Reads libav's VIDEO_ENC_PARAMS into QuantiserMaps."""

    def __init__(self, codec: str, bit_depth: int) -> None:
        self._codec = codec
        self._depth = bit_depth
        self._usual: np.float32 | None = None
        """Mean step of the latest frame that others are predicted from."""

    def read(self, frame: VideoFrame) -> QuantiserMap | None:
        """The frame's map in blocks of 16 x 16; None where its decoder exported none.

        Of the last frame of MPEG-1, -2 and -4 one step for all of it: that of the frame it was predicted from.
        """
        steps, kind = exported_steps(frame, self._depth), PICTURE_TYPES.get(int(frame.pict_type), "?")
        if steps is not None:
            if kind != "B":
                self._usual = steps.mean()
            return QuantiserMap(steps, 16, kind, self._codec)
        if self._usual is None or self._codec not in _FLUSHED:
            return None
        side = max(frame.width, frame.height)
        return QuantiserMap(np.full((1, 1), self._usual, np.float32), side, kind, self._codec)


def exported_steps(frame: VideoFrame, bit_depth: int) -> npt.NDArray[np.float32] | None:
    """(ceil(H / 16), ceil(W / 16)) steps in 8-bit sample units; None where the decoder exported none."""
    side_data: list[Any] = list(frame.side_data)
    params: Any = next((d for d in side_data if isinstance(d, VideoEncParams)), None)
    if params is None:
        return None
    qp = np.full((-(-frame.height // 16), -(-frame.width // 16)), params.qp, np.float32)
    count, size, offset = params.nb_blocks, params.block_size, params.blocks_offset
    if count:
        raw = np.frombuffer(params, np.uint8)[offset : offset + count * size].reshape(count, size)
        block = raw[:, :20].copy().view(np.int32)  # AVVideoBlockParams: src_x, src_y, w, h, delta_qp
        delta = block[:, 4].astype(np.float32)
        x0, y0 = block[:, 0] // 16, block[:, 1] // 16
        inside = (x0 >= 0) & (y0 >= 0) & (x0 < qp.shape[1]) & (y0 < qp.shape[0])
        big = int(max(block[:, 2].max(), block[:, 3].max(), 16)) // 16
        for dy in range(big):
            for dx in range(big):
                covers = inside & (block[:, 2] > 16 * dx) & (block[:, 3] > 16 * dy)
                yy, xx = y0[covers] + dy, x0[covers] + dx
                ok = (yy < qp.shape[0]) & (xx < qp.shape[1])
                qp[yy[ok], xx[ok]] = params.qp + delta[covers][ok]
    kind = VideoEncParamsType(params.codec_type)
    if kind == VideoEncParamsType.H264:
        return (0.625 * np.exp2((qp - 6 * (bit_depth - 8)) / 6)).astype(np.float32)
    if kind == VideoEncParamsType.MPEG2:
        return qp  # libav exports 2 * quant for MPEG-1 and -4, quantiser_scale for MPEG-2: the step itself
    if kind == VideoEncParamsType.VP9:
        return (LIKENESS["vp9"] * vp9_steps(qp)).astype(np.float32)
    return None
