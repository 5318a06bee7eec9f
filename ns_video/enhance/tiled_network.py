"""A network over the tiles of a picture, as many and as large as memory holds."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

import ns_video.tile as tile
from ns_video.conditioning import example_planes
from ns_video.device import INT8, available_memory, dtype_of, is_out_of_memory, release_memory
from ns_video.enhance.options import EnhanceOptions
from ns_video.errors import Interrupted
from ns_video.networks.int8 import int8_network
from ns_video.networks.ns_restore import NsRestore
from ns_video.stage import EnhanceStats
from ns_video.weights import Descriptor

logger = logging.getLogger("ns_video")

WINDOW_OVERLAP = 64
WINDOW_TILE = 256
"""Tile and total overlap for networks that look at everything: NS-IC's own."""
SMALLEST_TILE = 64
_CPU_BYTES = 3 << 29
"""Most that pictures and activations take on a CPU: 4K is done whole in bf16, in two tiles in fp32."""
_CPU_SHARE, _CUDA_SHARE = 0.4, 0.6
"""Share of the available memory that the activations of one batch may take."""
_BATCH_PIXELS = 1 << 21
"""Pixels that fill a GPU: smaller tiles are batched up to this, as far as memory goes."""


class TiledNetwork:
    """A network on one device, run over tiles; where memory ends, over fewer at once, then over smaller ones."""

    def __init__(
        self, descriptor: Descriptor, options: EnhanceOptions, device: torch.device, stats: EnhanceStats
    ) -> None:
        """`stats` is told the side of the tiles, where they became smaller, and how often the network ran."""
        self.descriptor = descriptor
        self.options = options
        self.device = device
        self.stats = stats
        self.cancel: threading.Event | None = None
        """Ends `run` early, before the next layer, with Interrupted."""
        self._networks: dict[str, nn.Module] = {}
        self._activations: float | None = None
        self._tile_limit: int | None = None
        self._batch_pixels = _BATCH_PIXELS if device.type == "cuda" else 0
        self._automatic: dict[tuple[int, int, str], int | None] = {}

    def run(self, pictures: Sequence[Tensor], side: Tensor | None, precision: str, *, views: int = 1) -> Tensor:
        """(1, 3, H, W) pictures in time order → (1, 3, sH, sW) float32, tiled; smaller tiles where memory ends.

        `views`: of the picture that are to be run yet, this one with them.
        """
        descriptor = self.descriptor
        height, width = pictures[0].shape[-2:]
        padded = [tile.pad_to_multiple(picture, descriptor.multiple_of) for picture in pictures]
        while True:
            tiles = self.tiles(padded[0].shape[-2], padded[0].shape[-1], precision)
            self.stats.passes_due = self.stats.passes + views * -(-len(tiles) // self._tiles_at_once(tiles))
            try:
                restored = self._run_tiles(padded, side, tiles, precision)
                return restored[..., : height * descriptor.enlarges, : width * descriptor.enlarges]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._lessen(tiles):
                    raise
            release_memory(self.device)

    def _lessen(self, tiles: Sequence[tile.Tile]) -> bool:
        """After want of memory: fewer tiles at once, then smaller ones; False where neither can be."""
        area = tiles[0].outer.height * tiles[0].outer.width
        at_once = self._tiles_at_once(tiles)
        if at_once == 1:
            side_px = max(max(one.outer.height, one.outer.width) for one in tiles)
            smaller = max(SMALLEST_TILE, side_px // 2)
            if side_px <= SMALLEST_TILE or (self._tile_limit is not None and self._tile_limit <= smaller):
                return False
            logger.warning("not enough memory for tiles of %d px: trying %d px", side_px, smaller)
            self._tile_limit = smaller
            self.stats.smaller_tiles += 1
        self._batch_pixels = min(self._batch_pixels, at_once * area // 2)
        return True

    def _tiles_at_once(self, tiles: Sequence[tile.Tile]) -> int:
        """How many go through the network together."""
        area = tiles[0].outer.height * tiles[0].outer.width
        return max(1, min(len(tiles), self._batch_pixels // area))

    def _run_tiles(
        self, pictures: Sequence[Tensor], side: Tensor | None, tiles: Sequence[tile.Tile], precision: str
    ) -> Tensor:
        descriptor = self.descriptor
        network = self._module(precision)
        lays_out = _casts_itself(descriptor)
        autocast = precision != "fp32" and not lays_out
        whole_side = side is not None and side.shape[-1] == 1 and side.shape[-2] == 1

        def forward(group: Sequence[tile.Tile]) -> Sequence[Tensor]:
            rows = [torch.cat([one.outer.cut(picture) for picture in pictures], 1) for one in group]
            x = rows[0] if len(rows) == 1 else torch.cat(rows)
            if not lays_out:
                x = x.contiguous(memory_format=torch.channels_last)
            given: list[Tensor] = [x]
            if side is not None:
                given.append(side if whole_side else torch.cat([one.outer.cut(side) for one in group]))
            with (
                torch.autocast(self.device.type, dtype_of(precision), enabled=autocast),
                _ended_by(self.cancel, network),
            ):
                result = cast(Tensor, network(*given))
            self.stats.passes += 1
            return result.float().split(1)

        if len(tiles) == 1:
            return forward(tiles)[0]
        batch = self._tiles_at_once(tiles)
        height, width = pictures[0].shape[-2:]
        canvas = torch.empty(
            1, descriptor.out_channels, height * descriptor.enlarges, width * descriptor.enlarges, device=self.device
        )
        return tile.run_tiled(forward, tiles, canvas, scale=descriptor.enlarges, blend=self._blend(), batch=batch)

    def _blend(self) -> tile.Blend:
        if self.options.blend == "auto":
            return "crop" if self.descriptor.exact_tiles else "gaussian"
        return cast(tile.Blend, self.options.blend)

    def tiles(self, height: int, width: int, precision: str) -> tuple[tile.Tile, ...]:
        """The tiles in use for a padded picture of H x W; remembers their side in `stats`."""
        descriptor, options = self.descriptor, self.options
        exact = descriptor.exact_tiles
        overlap = options.overlap
        if overlap is None:
            overlap = 2 * descriptor.halo if exact else WINDOW_OVERLAP
        side = options.tile
        if side is None:
            if not exact:
                side = WINDOW_TILE
            else:
                key = height, width, precision
                if key not in self._automatic:
                    self._automatic[key] = self._automatic_tile(height, width, overlap, precision)
                side = self._automatic[key]
        if self._tile_limit is not None:
            side = self._tile_limit if side is None else min(side, self._tile_limit)
        self.stats.tile = None if side is None or side >= max(height, width) else side
        made = tile.plan(height, width, tile=side, overlap=overlap, multiple_of=descriptor.multiple_of, shrink=exact)
        if exact and len(made) > 1:
            self.stats.missing_overlap = max(0, 2 * descriptor.halo - overlap)
        return made

    def _automatic_tile(self, height: int, width: int, overlap: int, precision: str) -> int | None:
        """The largest side that memory allows, None for the whole picture: halos cost, and caches don't mind."""
        if self._activations is None:
            self._activations = _activation_bytes(self.descriptor, self._module("fp32"), self.device)
        halved = dtype_of(precision) != torch.float32 and _casts_itself(self.descriptor)
        seen = self.descriptor.in_channels * self.descriptor.frames
        pictures = 4.0 * (seen * (2 if self.descriptor.aligned else 1) + 8)
        free = available_memory(self.device)
        if self.device.type == "cuda":
            budget = free * _CUDA_SHARE
        else:
            budget = min(free * _CPU_SHARE, _CPU_BYTES)
        pixels = budget / (pictures + self._activations / (2 if halved else 1))
        self._batch_pixels = min(self._batch_pixels, int(pixels))
        if height * width <= pixels:
            return None
        return max(SMALLEST_TILE, 4 * overlap // 3, int(pixels**0.5) // 16 * 16)

    def _module(self, precision: str) -> nn.Module:
        """The network on the device in a precision; made once.

        The descriptor's own stays where it is. On a CPU it is this one: laid out channels-last, evaluating, its
        parameters without gradients.
        """
        if "fp32" not in self._networks:
            own = self.descriptor.network
            own = own if self.device.type == "cpu" else copy.deepcopy(own)
            network = own.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._networks["fp32"] = network.eval().requires_grad_(False)
        if precision not in self._networks:
            whole = self._networks["fp32"]
            if precision == INT8:
                assert isinstance(whole, NsRestore)
                self._networks[precision] = int8_network(whole, self.descriptor.int8_ranges, dtype_of(precision))
            elif _casts_itself(self.descriptor):
                self._networks[precision] = copy.deepcopy(whole).to(dtype_of(precision))
            else:
                self._networks[precision] = whole
        return self._networks[precision]

    def trial(self, precision: str) -> Tensor:
        """A small forward pass, (1, 3, s * h, s * w)."""
        side_px = -(-128 // self.descriptor.multiple_of) * self.descriptor.multiple_of
        box = tile.Box(0, 0, side_px, side_px)
        picture = torch.linspace(0, 1, 3 * side_px * side_px, device=self.device).view(1, 3, side_px, side_px)
        side = example_planes(self.descriptor.conditioning, side_px, side_px, self.device)
        with torch.inference_mode():
            return self._run_tiles([picture] * self.descriptor.frames, side, [tile.Tile(box, box)], precision)


@contextmanager
def _ended_by(cancel: threading.Event | None, network: nn.Module) -> Generator[None]:
    """Within it, a layer that begins once `cancel` is set raises Interrupted."""

    def check(*_: object) -> None:
        assert cancel is not None
        if cancel.is_set():
            raise Interrupted("interrupted before the picture was done")

    handles = [] if cancel is None else [module.register_forward_pre_hook(check) for module in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _casts_itself(descriptor: Descriptor) -> bool:
    """The architecture takes fp32 pictures with weights of a lower precision and adds its residual in fp32.

    It brings them into its own memory layout too.
    """
    return descriptor.architecture == "ns_restore"


def _activation_bytes(descriptor: Descriptor, network: nn.Module, device: torch.device) -> float:
    """Bytes of activations per input pixel in fp32, pictures not counted: four of the largest tensors of a probe."""
    side_px = -(-64 // descriptor.multiple_of) * descriptor.multiple_of
    largest = 0

    def see(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    handles = [module.register_forward_hook(see) for module in network.modules()]
    try:
        with torch.inference_mode():
            given = [torch.full((1, descriptor.in_channels * descriptor.frames, side_px, side_px), 0.5, device=device)]
            planes = example_planes(descriptor.conditioning, side_px, side_px, device)
            given += [] if planes is None else [planes]
            network(*given)
    finally:
        for handle in handles:
            handle.remove()
    return 4.0 * largest / (side_px * side_px)
