"""What networks are told of a picture's damage: a JPEG's tables, quantisers, the size of cells; or why it is left."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import ns_video.color as color
import ns_video.tile as tile
from ns_video.belief import softness
from ns_video.cells import Kind, as_kind, find_pitch
from ns_video.conditioning import even_map, jpeg_planes, quantiser_planes, raised_map
from ns_video.device import beside, dtype_of
from ns_video.enhance.in_flight import Around, Held
from ns_video.enhance.options import EnhanceOptions
from ns_video.estimate import JpegEvidence, find_jpeg, reconcile
from ns_video.frame import MATRICES_BT601, UNDAMAGED_STEP, Frame, JpegTables, QuantiserMap
from ns_video.networks.ns_quantiser import NsQuantiser, coded_before, guessed_octaves, may_be_finer
from ns_video.upload import upload
from ns_video.weights import Descriptor, load_descriptor

Side = JpegTables | JpegEvidence | QuantiserMap | None

_LEAST_SIDE = 24
"""JPEGs of fewer px a side are left: all of them is border, where a network knows least."""
GUESSER = "quantiser"
"""The shipped model that guesses quantiser steps."""


def domain_of(descriptor: Descriptor) -> color.Domain:
    """The colours that a network sees."""
    return "ycbcr" if descriptor.domain == "ycbcr" else "rgb"


class SideInformation:
    """What a network is told of the damage to a picture, as its descriptor's `conditioning` wants it."""

    def __init__(self, descriptor: Descriptor, options: EnhanceOptions, device: torch.device, precision: str) -> None:
        """`precision`: that of the network which guesses quantisers."""
        self.descriptor = descriptor
        self.options = options
        self.device = device
        self.precision = precision
        self.domain: color.Domain = domain_of(descriptor)
        self._guesser: NsQuantiser | None = None

    def of_frame(self, around: Around) -> tuple[Tensor | None, str | None]:
        """Planes for the network, or the reason for which there is nothing to restore."""
        frame = around.current.frame
        wanted = self.descriptor.conditioning
        if wanted == "none":
            return None, None
        kind = self.cells
        if kind is not None:
            with beside(self.device):
                around.pitch = find_pitch(around.current.apart().picture()[0].mean(0), kind) or 0
            return None, None if around.pitch else "undamaged"
        height, width = tile.padded_size(frame.height, frame.width, self.descriptor.multiple_of)
        if wanted == "jpeg":
            known = None if frame.jpeg is None else JpegEvidence(frame.jpeg)
            if known is None or self.options.recheck_tables:
                with beside(self.device):
                    eight = _eight_bit_rgb(around.current.apart())
                known = reconcile(known, find_jpeg(eight))
            reason = self._left(known, frame.height, frame.width)
            if known is None or reason is not None:
                return None, reason
            around.jpeg = known if self.descriptor.scale == 1 and _shows_coefficients(frame) else None
            return upload(jpeg_planes(known.tables), self.device), None
        current = frame.quantiser or self._assumed(around)
        if current is None:
            return None, self._left(None, frame.height, frame.width)
        maps = [None if held is None else held.frame.quantiser for held in (around.previous, around.following)]
        told = self._raised(around, [maps[0] or current, current, maps[1] or current])
        reason = self._left(told[1], frame.height, frame.width)
        if reason is not None:
            return None, reason
        return quantiser_planes(told[0], told[1], told[2], height, width, self.device), None

    def _left(self, told: JpegEvidence | QuantiserMap | None, height: int, width: int) -> str | None:
        """Why a picture of whose damage this is known isn't to be computed; None where it is."""
        if told is None:
            return "undamaged" if self.descriptor.conditioning == "jpeg" else "unknown damage"
        if self.options.skip_undamaged and _is_undamaged(told.tables if isinstance(told, JpegEvidence) else told):
            return "undamaged"
        is_small = isinstance(told, JpegEvidence) and min(height, width) < _LEAST_SIDE
        return "too small" if is_small and self.descriptor.scale == 1 else None

    def _assumed(self, around: Around) -> QuantiserMap | None:
        """One step for a frame whose file tells none: the user's, or a guess; None: the frame is to be left."""
        frame, step = around.current.frame, self.options.assumed_step
        if step is None:
            with beside(self.device):
                step = 2.0 ** guessed_octaves(self.guesser, self._luma(around.current.apart()))
            around.guessed_step = step
        return even_map(step, frame.width, frame.height) if step > 0 else None

    def _raised(self, around: Around, maps: list[QuantiserMap]) -> list[QuantiserMap]:
        """`maps` of the frame before, of this one and of the one after, raised where the picture looks coded before.

        A file tells of its last encoder only. Where the picture looks twice as coarse and more, the guess takes over.
        """
        told = maps[1]
        if self.options.assumed_step is not None or told.source != "h264":
            return maps
        octaves = float(np.log2(np.maximum(told.step, 1.0)).mean())
        if not may_be_finer(octaves):
            return maps
        with beside(self.device):
            held = around.current.apart()
            seen, share = coded_before(self.guesser, self._luma(held), octaves)
            share *= self._softness(held, told) if share > 0.0 else 0.0
        if share == 0.0:
            return maps
        around.raised = True
        return [raised_map(one, seen, share) for one in maps]

    def _softness(self, held: Held, told: QuantiserMap) -> float:
        """How far a guess of coarser steps is to be followed."""
        luma = self._luma(held)[None, None]
        height, width = luma.shape[-2:]
        return softness(luma, quantiser_planes(None, told, None, height, width, luma.device))

    def _luma(self, held: Held) -> Tensor:
        """(H, W), 0 black and 1 white."""
        picture = held.seen(green=held.is_coded_rgb)
        return picture[0, 0] if self.domain == "ycbcr" else color.rgb_to_ycbcr(picture)[0, 0]

    @property
    def guesser(self) -> NsQuantiser:
        """What guesses quantisers, loaded when it is first asked for."""
        if self._guesser is None:
            network = cast(NsQuantiser, load_descriptor(GUESSER).network).to(self.device)
            self._guesser = network.compute_in(dtype_of(self.precision))
        return self._guesser

    def closed(self, height: int, width: int) -> Tensor | None:
        """Planes that say "no damage": an enlarging network only enlarges."""
        if self.descriptor.conditioning == "jpeg":
            return upload(jpeg_planes(None), self.device)
        if self.descriptor.conditioning == "quantiser":
            size = tile.padded_size(height, width, self.descriptor.multiple_of)
            return quantiser_planes(None, None, None, *size, self.device)
        return None

    def of_picture(self, side: Side, rgb: Tensor) -> Tensor | None:
        """Planes for one picture (1, 3, H, W); None where nothing is known or found, or the picture is to be left."""
        wanted = {"jpeg": JpegEvidence, "quantiser": QuantiserMap}.get(self.descriptor.conditioning)
        if wanted is None or not isinstance(side, wanted) or self._left(side, *rgb.shape[-2:]) is not None:
            return None
        if isinstance(side, JpegEvidence):
            return upload(jpeg_planes(side.tables), self.device)
        height, width = tile.padded_size(rgb.shape[-2], rgb.shape[-1], self.descriptor.multiple_of)
        return quantiser_planes(side, side, side, height, width, self.device)

    @property
    def cells(self) -> Kind | None:
        """The kind of cells that the network sees, None where it sees pixels."""
        return as_kind(self.descriptor.conditioning)


def _eight_bit_rgb(held: Held) -> Any:
    """(H, W, 3) uint8 on the CPU: what a blind estimate looks at."""
    rgb = color.to_tensor(held.tensors(), held.frame.format, held.frame.color, "rgb", held.tensors()[0].device)
    return rgb[0].mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def _shows_coefficients(frame: Frame) -> bool:
    """A JPEG's luma can be had back from the frame's RGB: it is RGB, gray, or YCbCr as JFIF has it."""
    if frame.format.is_rgb:
        return True
    matrix = color.effective_matrix(frame.color, frame.width, frame.height)
    return color.is_full_range(frame.format, frame.color) and (frame.format.planes < 3 or matrix in MATRICES_BT601)


def _is_undamaged(side: JpegTables | QuantiserMap) -> bool:
    if isinstance(side, QuantiserMap):
        return side.is_lossless
    highest = max(int(side.luma.max(initial=0)), int(side.chroma.max(initial=0)))
    return highest <= UNDAMAGED_STEP and side.subsampling == (1, 1)
