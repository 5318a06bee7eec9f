"""Pictures with a palette of their own, and the packets of GIF (GIF89a, W3C) that libav's encoder makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from PIL import Image

COLORS = 256  # of a palette
_SOLID = 128  # alpha from which a pixel is shown
_MAGIC = b"GIF89a"
_HEADER_BYTES, _FLAGS, _BACKGROUND = 13, 10, 11  # of a header, and the places of its flags and background colour
_IMAGE_FLAGS = 9  # their place in an image descriptor, whose last byte they are
_EXTENSION, _CONTROL = 0x21, 0xF9
_HAS_TABLE, _TABLE_BITS = 0x80, 0x07
_DISPOSAL, _TO_BACKGROUND = 0x1C, 2 << 2


def with_palette(picture: VideoFrame, *, translucent: bool) -> VideoFrame:
    """An rgba picture as pal8: exact where the palette has room for all its colours, else dithered.

    A pixel is transparent or it isn't. `translucent`: others of the pictures may have holes. Then this one's palette
    has a transparent entry too if there is room, for most readers empty the canvas behind no other pictures.
    """
    samples: npt.NDArray[np.uint8] = picture.to_ndarray(format="rgba").astype(np.uint8, copy=False)
    solid = samples[..., 3] >= _SOLID
    holes = not solid.all()
    samples[..., 3] = 255
    samples[~solid] = 0
    if Image.fromarray(samples).getcolors(COLORS) is not None:
        packed, indices = np.unique(samples.view(np.uint32), return_inverse=True)
        if translucent and not holes and len(packed) < COLORS:
            packed, indices = np.insert(packed, 0, 0), indices + 1
        table = packed.view(np.uint8).reshape(-1, 4)
    else:
        reserved = int(translucent or holes)
        image = Image.fromarray(samples[..., :3])
        coarse = image.quantize(COLORS - reserved, method=Image.Quantize.FASTOCTREE)
        indices = np.asarray(image.quantize(palette=coarse, dither=Image.Dither.FLOYDSTEINBERG))
        found = np.array(coarse.getpalette("RGB"), np.uint8).reshape(-1, 3)[: COLORS - reserved]
        table = np.pad(np.insert(found, 3, 255, axis=1), ((reserved, 0), (0, 0)))
        indices = np.where(solid, indices + reserved, 0)
    palette = np.repeat(table[-1:], COLORS, axis=0)
    palette[: len(table)] = table
    indices = indices.reshape(solid.shape).astype(np.uint8)
    argb: Any = (indices, np.roll(palette, 1, axis=1))
    made = VideoFrame.from_ndarray(argb, format="pal8")
    made.pts, made.time_base = picture.pts, picture.time_base
    return made


class GifPackets:
    """The packets of several encoders as those of one file."""

    def __init__(self, *, whole: bool) -> None:
        """`whole`: each picture is a whole one, for it may have holes: it is to begin on an empty canvas."""
        self._whole = whole
        self._first = True
        self._header = b""

    def take(self, packet: Packet) -> Packet:
        """The next packet. Only the file's first keeps its header; later headers' tables go to the pictures."""
        made = Packet(self._fitted(bytes(packet)))
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        made.time_base, made.is_keyframe = packet.time_base, packet.is_keyframe
        return made

    def _fitted(self, packet: bytes) -> bytes:
        begins = 0
        if packet.startswith(_MAGIC):
            bits = packet[_FLAGS] & _TABLE_BITS
            begins = _HEADER_BYTES + (3 << bits + 1 if packet[_FLAGS] & _HAS_TABLE else 0)
            self._header, self._first = packet[:begins], not self._header
        data, at, control = bytearray(packet[begins:]), 0, 0
        while data[at] == _EXTENSION:
            control = at if data[at + 1] == _CONTROL else control
            at += 2
            while data[at]:
                at += data[at] + 1
            at += 1
        by_header = not data[at + _IMAGE_FLAGS] & _HAS_TABLE
        if self._whole:
            data[control + 3] = data[control + 3] & ~_DISPOSAL | _TO_BACKGROUND
            if by_header and not self._header[_BACKGROUND]:
                # The transparent entry, of which libav tells here only where the picture has holes.
                data[control + 3] |= 1
                data[control + 6] = 0
        if by_header and not self._first:
            data[at + _IMAGE_FLAGS] |= self._header[_FLAGS] & (_HAS_TABLE | _TABLE_BITS)
            at += _IMAGE_FLAGS + 1
            data[at:at] = self._header[_HEADER_BYTES:]
        return (self._header if begins and self._first else b"") + bytes(data)
