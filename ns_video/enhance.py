"""The stage between decode and encode: a model on a device, in a precision, over tiles. Floor 3.

A frame that fails is tried with smaller tiles, then in fp32, then passed through; every step is counted.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

import ns_video.color as color
import ns_video.tile as tile
from ns_video.belief import believe
from ns_video.cells import Kind, as_kind, find_pitch, fit, shrink
from ns_video.conditioning import even_map, example_planes, jpeg_planes, pitch_plane, quantiser_planes, raised_map
from ns_video.constraint import hold, jpeg_matrices
from ns_video.device import (
    PRECISIONS,
    available_memory,
    check_alive,
    choose_precision,
    is_out_of_memory,
    pick_devices,
    release_memory,
)
from ns_video.errors import ModelError, UsageError
from ns_video.estimate import JpegEvidence, find_jpeg, reconcile
from ns_video.frame import MATRICES_BT601, Frame, JpegTables, Plane, QuantiserMap
from ns_video.networks.ns_quantiser import NsQuantiser, coded_before, guessed_octaves
from ns_video.preset import ENSEMBLES, STILL_VIEWS
from ns_video.stage import EnhancedFrame, EnhanceStats
from ns_video.upload import upload
from ns_video.weights import Descriptor, load_descriptor

logger = logging.getLogger("ns_video")

Side = JpegTables | JpegEvidence | QuantiserMap | None

WINDOW_OVERLAP = 64
WINDOW_TILE = 256
"""Tile and total overlap for networks that look at everything: NS-IC's own."""
SMALLEST_TILE = 64
_CPU_BYTES = 1 << 30
"""Most that activations take on a CPU, reckoned in fp32: 1080p is done whole, 4K in two tiles."""
_CPU_SHARE, _CUDA_SHARE = 0.4, 0.6
"""Share of the available memory that the activations of one batch may take."""
_BATCH_PIXELS = 1 << 21
"""Pixels that fill a GPU: smaller tiles are batched up to this, as far as memory goes."""
_LEAST_SIDE = 24
"""JPEGs of fewer px a side are left: all of them is border, where a network knows least."""
_UNDAMAGED_STEP = 1.0
"""Quantiser step (8-bit sample units) that loses no more than rounding does."""
_CONSTANT, _VARIED = 1e-4, 0.05
"""A result that spans less than the first where the input spans more than the second is no picture."""
GUESSER = "quantiser"
"""The shipped model that guesses quantiser steps."""
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_PENDING = 2
"""Frames in flight on each GPU. Its work and copies wait in one queue; while it works on one frame, the host looks at
the next one, fills the queue and takes what the frame before has become."""


@dataclass(frozen=True, slots=True)
class EnhanceOptions:
    """How to run a model. Sizes in px of the input unless said otherwise."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    """Side of what the network sees at once; None: as memory and speed want."""
    overlap: int | None = None
    """Total overlap of neighbouring tiles; None: what makes tiles exact, or 64 where nothing does."""
    blend: str = "auto"
    """One of tile.BLENDS; "auto" is crop for exact tiles and gaussian otherwise."""
    strength: float = 1.0
    """0: the input, 1: fully restored."""
    scale: float | None = None
    """Final size / input size; None: the network's own."""
    size: tuple[int, int] | None = None
    """Final (width, height)."""
    fit: str = "contain"
    """"contain" keeps the aspect of picture and pixels within `size`, "stretch" takes it as it is."""
    sharpen: float = 0.0
    """Unsharp masking of the luma after the network, 0 to 1."""
    ensemble: int | None = None
    """Flipped views of a picture whose results are averaged, 1, 2 or 4: as many times the work, and a little better.
    None: 4 where an ns_restore is called with pictures, 1 for frames and for other networks."""
    skip_duplicates: bool = True
    """A frame equal to the one before it gets that one's result."""
    skip_undamaged: bool = True
    """Frames whose quantisers say that nothing was lost are left as they are."""

    recheck_tables: bool = False
    """Look for a coarser JPEG in the pixels even where the file tells its tables: a picture saved twice."""

    assumed_step: float | None = None
    """Quantiser step (8-bit sample units) taken where a clip doesn't tell its own; 0: such frames are left as they are;
    None: `ns_quantiser` guesses it from each picture, and raises what a file tells where the picture was coded before,
    more coarsely. An assumption above the truth harms good clips."""

    def __post_init__(self) -> None:
        if self.assumed_step is not None and not 0.0 <= self.assumed_step <= 200.0:
            raise UsageError(f"a quantiser step of {self.assumed_step:g} is not between 0 and 200")
        if not 0.0 <= self.strength <= 1.0:
            raise UsageError(f"strength {self.strength:g} is not between 0 and 1")
        if not 0.0 <= self.sharpen <= 1.0:
            raise UsageError(f"sharpen {self.sharpen:g} is not between 0 and 1")
        if self.scale is not None and not 0.0 < self.scale <= 16.0:
            raise UsageError(f"scale {self.scale:g} is not above 0 and up to 16")
        if self.scale is not None and self.size is not None:
            raise UsageError("scale and size exclude each other")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"size {self.size[0]}x{self.size[1]} is empty")
        if self.ensemble is not None and self.ensemble not in ENSEMBLES:
            raise UsageError(f"an ensemble of {self.ensemble} makes no sense", remedy="use 1, 2 or 4")
        if self.fit not in ("contain", "stretch"):
            raise UsageError(f"there is no fit {self.fit!r}", remedy="use contain or stretch")
        if self.tile is not None and self.tile < 16:
            raise UsageError(f"a tile of {self.tile} px is too small", remedy="use 64 or more")
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"an overlap of {self.overlap} px makes no sense")
        if self.blend != "auto" and self.blend not in tile.BLENDS:
            raise UsageError(f"there is no window {self.blend!r}", remedy=f"use {', '.join(tile.BLENDS)}")


class Enhancer:
    """A model, ready to run. Called with a tensor, or run over frames. Not thread-safe; one `run` at a time."""

    def __init__(self, descriptor: Descriptor, options: EnhanceOptions | None = None) -> None:
        """Moves the network to its device and tries the precision.

        Raises ModelError for a model that restores nothing, DeviceError for a device or precision that isn't there.
        """
        if not descriptor.restores:
            raise ModelError(f"{descriptor.name} does not restore pictures: it is a {descriptor.architecture}")
        self.descriptor = descriptor
        self.options = options or EnhanceOptions()
        self.devices = pick_devices(self.options.device)
        """Frames of a run go to them in turn; all else is done on the first."""
        self.device = self.devices[0]
        self.domain: color.Domain = "ycbcr" if descriptor.domain == "ycbcr" else "rgb"
        self.stats = EnhanceStats(device=",".join(str(device) for device in self.devices))
        self._others: list[Enhancer] = []
        self._guesser: NsQuantiser | None = None
        self._networks: dict[str, nn.Module] = {}
        self._bytes_per_pixel: float | None = None
        self._tile_limit: int | None = None
        self._batch_pixels = _BATCH_PIXELS if self.device.type == "cuda" else 0
        self._automatic: dict[tuple[int, int], int | None] = {}
        if self.does_nothing:
            self.precision = "fp32"
        else:
            self.precision = choose_precision(
                self.options.precision, self.device, descriptor.safe_precisions, self._trial
            )
        self.stats.precision = self.precision

    @property
    def does_nothing(self) -> bool:
        """The model is `identity`: samples are never touched, only resampled or sharpened where that was asked for."""
        return self.descriptor.architecture == "identity"

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what comes out for an input of this size."""
        options = self.options
        if options.size is not None:
            if options.fit == "stretch":
                return options.size
            factor = min(options.size[0] / width, options.size[1] / height)
        else:
            factor = float(self.descriptor.scale) if options.scale is None else options.scale
        return max(1, round(width * factor)), max(1, round(height * factor))

    def frame_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of what comes out for a frame; `size` of the options is that of the frame as it is shown."""
        if frame.turned:
            width, height = self.output_size(frame.height, frame.width)
            return height, width
        return self.output_size(frame.width, frame.height)

    def __call__(self, rgb: Tensor, side: Tensor | Side = None) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] → (N, 3, sH, sW) float32 in [0, 1] on the same device.

        `side` says how the pictures were damaged: a JPEG's tables (blocks begin at the corner, or as the evidence
        says), a quantiser map, or planes as the network reads them, of each picture or one for all (constants, or sides
        padded to multiples of `descriptor.multiple_of`). None: a JPEG is looked for in each picture, and where none is
        found, or a quantiser map is wanted, the picture comes back as it is; so do pictures that a run leaves, unless
        planes are given.
        Raises UsageError for another shape, and for samples that are no floats.
        """
        if not isinstance(rgb, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"a tensor of shape (N, 3, H, W) is wanted, not a {type(rgb).__name__}")
        if rgb.dim() != 4 or rgb.shape[1] != 3 or rgb.numel() == 0:
            raise UsageError(f"a tensor of shape (N, 3, H, W) is wanted, not {tuple(rgb.shape)}")
        if not rgb.is_floating_point():
            raise UsageError(f"floats in [0, 1] are wanted, not {rgb.dtype}", remedy="samples of 8 bits: rgb / 255")
        pictures = rgb.detach().float().split(1)
        sides = self._split_planes(side, rgb) if isinstance(side, Tensor) else [side] * len(pictures)
        return torch.cat([self._restore_rgb(one, told) for one, told in zip(pictures, sides, strict=True)])

    def _split_planes(self, planes: Tensor, rgb: Tensor) -> Sequence[Tensor]:
        """Those of each picture. Raises UsageError."""
        count, _, height, width = rgb.shape
        height, width = tile.padded_size(height, width, self.descriptor.multiple_of)
        wanted = example_planes(self.descriptor.conditioning, 1, 1)
        if wanted is None or self._cells is not None:  # the size of cells is found in the picture
            raise UsageError(f"{self.descriptor.name} reads no planes", remedy="give pictures alone")
        shapes = [(n, wanted.shape[1], *size) for n in (1, count) for size in ((1, 1), (height, width))]
        if tuple(planes.shape) not in shapes:
            known = " or ".join(map(str, dict.fromkeys(shapes)))
            raise UsageError(f"planes of shape {known} are wanted, not {tuple(planes.shape)}")
        return planes.to(self.device).expand(count, -1, -1, -1).split(1)

    def run(
        self,
        frames: Iterable[Frame],
        *,
        before: Frame | None = None,
        start_index: int = 0,
        restart_every: int | None = None,
    ) -> Generator[EnhancedFrame]:
        """Restores frames in order, one out per one in; reads one frame ahead where the network sees neighbours.

        A result depends only on the frames themselves: on the neighbours in time and, for a run of equal frames, on
        its first. To go on in the middle of a clip give `before`, the frame ahead of the first one, and the
        `start_index` of the first; where `restart_every` is given, a run of equal frames is begun anew at each
        multiple of it, so that work can begin there with the same result.
        """
        pending: deque[_Pending] = deque()
        depth = _PENDING * len(self.devices) if self.device.type == "cuda" else 1
        last: _Pending | None = None
        index = start_index
        computed = 0
        for around in _windows(self, frames, before):
            fresh = restart_every is not None and index % restart_every == 0
            index += 1
            previous = around.previous if last is not None else None
            if (
                last is not None
                and previous is not None
                and self.options.skip_duplicates
                and not fresh
                and not self._is_free(around.current.frame)
                and _same_picture(previous.frame, around.current.frame)
            ):
                entry = _Pending(around, "duplicate", source=last)
            else:
                worker = self._worker(computed)
                computed += 1
                entry = worker._launch(around.on(worker), worker.precision)
            last = entry
            pending.append(entry)
            while len(pending) >= depth:
                yield self._end(pending.popleft())
        while pending:
            yield self._end(pending.popleft())

    def _worker(self, turn: int) -> Enhancer:
        """Whose turn it is: this one's, or another's with the same network, precision and counts on another device."""
        place = turn % len(self.devices)
        if place == 0 or self.does_nothing:
            return self
        while len(self._others) < place:
            device = str(self.devices[len(self._others) + 1])
            options = dataclasses.replace(self.options, device=device, precision=self.precision)
            other = Enhancer(self.descriptor, options)
            other.stats = self.stats
            self._others.append(other)
        return self._others[place - 1]

    # The way of one frame: launch (starts work), end (waits for it and checks it).

    def _keeps(self, frame: Frame) -> bool:
        """Where no network runs, the frame's samples stay as they are."""
        return self.options.sharpen == 0 and self.frame_size(frame) == (frame.width, frame.height)

    def _is_free(self, frame: Frame) -> bool:
        """Nothing at all is to be done to this frame."""
        return self.does_nothing and self._keeps(frame)

    def _launch(self, around: _Around, precision: str) -> _Pending:
        """Computes a frame's planes, once more where memory ended; on CUDA returns before they are there."""
        entry = self._attempt(around, precision)
        if entry.out_of_memory:
            logger.warning("%s: trying once more", entry.failure)
            release_memory(self.device)
            entry = self._attempt(around, precision)
        return entry

    def _attempt(self, around: _Around, precision: str) -> _Pending:
        frame = around.current.frame
        try:
            with torch.inference_mode(), _on(self.device):
                if not around.looked_at:
                    around.reason = self._look(around)
                    around.looked_at = True
                reason = around.reason
                if reason is not None and self._keeps(frame):
                    return _Pending(around, reason, planes=frame.planes)
                planes, healthy = self._restore_frame(around, precision, compute=reason is None)
                return _Pending(around, reason, tensors=_start_copy(planes), healthy=healthy, precision=precision)
        except (RuntimeError, MemoryError, TypeError) as error:  # MPS refuses types that it lacks with a TypeError
            failure = str(error).splitlines()[0] if str(error) else repr(error)
            starved = is_out_of_memory(error)
            return _Pending(around, around.reason, precision=precision, failure=failure, out_of_memory=starved)

    def _look(self, around: _Around) -> str | None:
        """Puts together what the network is told of a frame; the reason for which it isn't to be computed, or None."""
        if self.does_nothing:
            return "identity"
        frame = around.current.frame
        around.side, reason = self._side_information(around)
        if reason is not None and self.descriptor.scale != 1:
            around.side, reason = self._closed(frame.height, frame.width), None
        return reason

    def _end(self, entry: _Pending) -> EnhancedFrame:
        """Waits for a frame, walks down the ladder where it failed, and counts."""
        frame = entry.around.current.frame
        self.stats.frames += 1
        if entry.source is not None:
            source = entry.source.result
            assert source is not None
            self.stats.duplicates += 1
            self.stats.passed_through += source.passed_through
            passed = source.passed_through
            result = EnhancedFrame(
                _refill(frame, source.frame.planes), passed, source.reason if passed else "duplicate"
            )
        elif entry.planes is not None:
            result = EnhancedFrame(frame, reason=entry.reason)
            self._count(entry.reason)
        else:
            result = self._finish(entry)
        if self.options.size is not None and self.options.fit == "stretch":
            result = dataclasses.replace(result, frame=dataclasses.replace(result.frame, pixel_aspect=Fraction(1)))
        entry.forget(result)
        return result

    def _finish(self, entry: _Pending) -> EnhancedFrame:
        frame, owner = entry.around.current.frame, entry.around.current.owner
        failure = entry.failure or _wait(entry)
        if failure is not None and entry.reason is None and entry.precision != "fp32":
            logger.warning("%s: trying fp32", failure)
            self.stats.fp32_retries += 1
            entry.retry(owner._launch(entry.around, "fp32"))
            failure = entry.failure or _wait(entry)
        if failure is None:
            self._count(entry.reason)
            return EnhancedFrame(_refill(frame, entry.arrays()), reason=entry.reason)
        check_alive(owner.device, failure)
        logger.warning("frame at %s s passed through: %s", frame.pts_seconds, failure)
        self.stats.passed_through += 1
        size = self.frame_size(frame)
        planes = color.recompose(frame.planes, frame.format, frame.color, None, self.domain, size=(size[1], size[0]))
        arrays = tuple(cast(Plane, plane.numpy()) for plane in planes)
        return EnhancedFrame(_refill(frame, arrays), passed_through=True, reason=failure)

    def _count(self, reason: str | None) -> None:
        if reason is None:
            self.stats.restored += 1
        elif reason != "identity":
            self.stats.undamaged += 1
            self.stats.without_side_information += reason == "unknown damage"
            self.stats.too_small += reason == "too small"

    def _restore_frame(
        self, around: _Around, precision: str, *, compute: bool
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The output planes on the device, and a flag that says that they are sound."""
        current = around.current
        frame = current.frame
        width, height = self.frame_size(frame)
        size = (height, width)
        resized = size != (frame.height, frame.width)
        healthy: Tensor | None = None
        change: Tensor | None = None
        if compute and self.options.strength > 0:
            seen = current.picture()
            restored = self._restored(
                around.pictures(), around.side, around.pitch, precision, self.options.ensemble or 1
            )
            healthy = _health(seen, restored)
            restored = self._as_told(restored, seen, around.side, around.jpeg or current.frame.quantiser)
            if self.domain == "rgb":
                restored.clamp_(0, 1)
            target = color.resample(seen, size)
            change = color.resample(restored, size).sub_(target)
            if self.options.strength != 1.0:
                change.mul_(self.options.strength)
        if self.options.sharpen > 0:
            target = color.resample(current.picture(), size)
            sharper = color.sharpening(target if change is None else target + change, self.options.sharpen, self.domain)
            change = sharper if change is None else change.add_(sharper)
        planes = color.recompose(
            current.tensors(), frame.format, frame.color, change, self.domain, size=size if resized else None
        )
        return planes, healthy

    def _restore_rgb(self, rgb: Tensor, side: Tensor | Side) -> Tensor:
        height, width = rgb.shape[-2:]
        out_width, out_height = self.output_size(width, height)
        size = (out_height, out_width)
        with torch.inference_mode():
            seen = rgb.to(self.device)
            picture = color.rgb_to_ycbcr(seen) if self.domain == "ycbcr" else seen
            change = torch.zeros(1, 3, *size, device=self.device)
            kind = self._cells
            pitch = 0 if kind is None else find_pitch(seen[0].mean(0), kind) or 0
            if self.descriptor.conditioning == "jpeg" and not isinstance(side, Tensor):
                eight = seen[0].clamp(0, 1).mul(255).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
                side = JpegEvidence(side) if isinstance(side, JpegTables) else side or find_jpeg(eight)
            planes = side if isinstance(side, Tensor) else self._side_planes(side, seen)
            if planes is None and self.descriptor.scale != 1:
                planes = self._closed(height, width)
            if pitch or (not self.does_nothing and (planes is not None or self.descriptor.conditioning == "none")):
                pictures = [picture] * self.descriptor.frames
                views = self.options.ensemble or (STILL_VIEWS if self.descriptor.architecture == "ns_restore" else 1)
                restored = self._restored(pictures, planes, pitch, self.precision, views)
                healthy = bool(_health(picture, restored))
                if not healthy and self.precision != "fp32":
                    self.stats.fp32_retries += 1
                    restored = self._restored(pictures, planes, pitch, "fp32", views)
                    healthy = bool(_health(picture, restored))
                if healthy:
                    known = None if isinstance(side, (Tensor, JpegTables)) else side
                    restored = self._as_told(restored, picture, planes, known)
                    change = color.resample(restored, size) - color.resample(picture, size)
                else:
                    logger.warning("picture passed through: the network's result is no picture")
                    self.stats.passed_through += 1
            change = change * self.options.strength
            if self.options.sharpen > 0:
                target = color.resample(picture, size) + change
                change = change + color.sharpening(target, self.options.sharpen, self.domain)
            if self.domain == "ycbcr":
                offset = torch.tensor([0.0, 0.5, 0.5], device=self.device).view(1, 3, 1, 1)
                change = color.ycbcr_to_rgb(change + offset)
            out = (color.resample(seen, size) + change).clamp_(0, 1)
        return out.to(rgb.device).clone()

    def _as_told(
        self, restored: Tensor, seen: Tensor, planes: Tensor | None, told: JpegEvidence | QuantiserMap | None
    ) -> Tensor:
        """What the network made of `seen`, as far as what was told of the damage lets it be believed."""
        conditioning = self.descriptor.conditioning
        if conditioning == "jpeg" and self.domain == "rgb":
            restored = _stay_gray(restored, seen)
        if self.descriptor.scale != 1:
            return restored
        if conditioning == "quantiser" and planes is not None:
            by_block = isinstance(told, QuantiserMap) and told.source == "h264"
            return believe(restored, seen, planes, doubt_edges=by_block)
        if isinstance(told, JpegEvidence) and self.domain == "rgb":
            return hold(restored, seen, told.tables, told.phase)
        return restored

    # Side information.

    def _side_information(self, around: _Around) -> tuple[Tensor | None, str | None]:
        """Planes for the network, or the reason for which there is nothing to restore."""
        frame = around.current.frame
        wanted = self.descriptor.conditioning
        if wanted == "none":
            return None, None
        kind = self._cells
        if kind is not None:
            around.pitch = find_pitch(around.current.picture()[0].mean(0), kind) or 0
            return None, None if around.pitch else "undamaged"
        height, width = tile.padded_size(frame.height, frame.width, self.descriptor.multiple_of)
        if wanted == "jpeg":
            known = None if frame.jpeg is None else JpegEvidence(frame.jpeg)
            if known is None or self.options.recheck_tables:
                known = reconcile(known, find_jpeg(_eight_bit_rgb(around.current)))
            reason = self._left(known, frame.height, frame.width)
            if known is None or reason is not None:
                return None, reason
            around.jpeg = known if self.descriptor.scale == 1 and _shows_coefficients(frame) else None
            return upload(jpeg_planes(known.tables), self.device), None
        current = frame.quantiser or self._assumed(around.current)
        if current is None:
            return None, self._left(None, frame.height, frame.width)
        maps = [None if held is None else held.frame.quantiser for held in (around.previous, around.following)]
        told = self._raised(around.current, [maps[0] or current, current, maps[1] or current])
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

    def _assumed(self, held: _Held) -> QuantiserMap | None:
        """One step for a frame whose file tells none: the user's, or a guess; None: the frame is to be left."""
        frame, step = held.frame, self.options.assumed_step
        if step is None:
            step = 2.0 ** guessed_octaves(self.guesser, self._luma(held))
            self.stats.guessed += 1
            self.stats.guessed_steps += step
        return even_map(step, frame.width, frame.height) if step > 0 else None

    def _raised(self, held: _Held, maps: list[QuantiserMap]) -> list[QuantiserMap]:
        """`maps` of the frame before, of `held` and of the one after, raised where the picture looks coded before.

        A file tells of its last encoder only. Where the picture looks twice as coarse and more, the guess takes over.
        """
        told = maps[1]
        if self.options.assumed_step is not None or told.source != "h264":
            return maps
        octaves = float(np.log2(np.maximum(told.step, 1.0)).mean())
        seen, share = coded_before(self.guesser, self._luma(held), octaves)
        if share == 0.0:
            return maps
        self.stats.raised += 1
        return [raised_map(one, seen, share) for one in maps]

    def _luma(self, held: _Held) -> Tensor:
        """(H, W), 0 black and 1 white."""
        picture = held.picture()
        return picture[0, 0] if self.domain == "ycbcr" else color.rgb_to_ycbcr(picture)[0, 0]

    @property
    def guesser(self) -> NsQuantiser:
        """What guesses quantisers, loaded when it is first asked for."""
        if self._guesser is None:
            network = cast(NsQuantiser, load_descriptor(GUESSER).network).to(self.device)
            self._guesser = network.compute_in(PRECISIONS[self.precision])
        return self._guesser

    def _closed(self, height: int, width: int) -> Tensor | None:
        """Planes that say "no damage": an enlarging network only enlarges."""
        if self.descriptor.conditioning == "jpeg":
            return upload(jpeg_planes(None), self.device)
        if self.descriptor.conditioning == "quantiser":
            size = tile.padded_size(height, width, self.descriptor.multiple_of)
            return quantiser_planes(None, None, None, *size, self.device)
        return None

    def _side_planes(self, side: Side, rgb: Tensor) -> Tensor | None:
        """Planes for one picture (1, 3, H, W); None where nothing is known or found, or the picture is to be left."""
        wanted = {"jpeg": JpegEvidence, "quantiser": QuantiserMap}.get(self.descriptor.conditioning)
        if wanted is None or not isinstance(side, wanted) or self._left(side, *rgb.shape[-2:]) is not None:
            return None
        if isinstance(side, JpegEvidence):
            return upload(jpeg_planes(side.tables), self.device)
        height, width = tile.padded_size(rgb.shape[-2], rgb.shape[-1], self.descriptor.multiple_of)
        return quantiser_planes(side, side, side, height, width, self.device)

    @property
    def _cells(self) -> Kind | None:
        """The kind of cells that the network sees, None where it sees pixels."""
        return as_kind(self.descriptor.conditioning)

    def _restored(
        self, pictures: Sequence[Tensor], side: Tensor | None, pitch: int, precision: str, views: int
    ) -> Tensor:
        """The mean of that many views through the network, over cells of `pitch` px where it sees those."""
        kind = self._cells
        if kind is None:
            return self._averaged(pictures, side, precision, views)
        small = [shrink(picture, kind, pitch) for picture in pictures]
        planes = pitch_plane(pitch, self.device) if kind == "mosaic" else None
        enlarged = self._averaged(small, planes, precision, views)
        return fit(enlarged, kind, *pictures[0].shape[-2:])

    def _averaged(self, pictures: Sequence[Tensor], side: Tensor | None, precision: str, views: int) -> Tensor:
        """The mean of what the network makes of flipped views."""
        total: Tensor | None = None
        for axes in _FLIPS[:views]:
            if not axes:
                result = self._network(pictures, side, precision)
            else:
                planes = side if side is None or side.shape[-2:] == (1, 1) else side.flip(axes)
                result = self._network([picture.flip(axes) for picture in pictures], planes, precision).flip(axes)
            total = result if total is None else total.add_(result)
        assert total is not None
        return total.div_(views) if views > 1 else total

    # The network over tiles.

    def _network(self, pictures: Sequence[Tensor], side: Tensor | None, precision: str) -> Tensor:
        """(1, 3, H, W) pictures in time order → (1, 3, sH, sW) float32, tiled; smaller tiles where memory ends."""
        descriptor = self.descriptor
        height, width = pictures[0].shape[-2:]
        padded = [tile.pad_to_multiple(picture, descriptor.multiple_of) for picture in pictures]
        while True:
            tiles = self.tiles(*padded[0].shape[-2:])
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
            with torch.autocast(self.device.type, PRECISIONS[precision], enabled=autocast):
                result = cast(Tensor, network(*given))
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

    def tiles(self, height: int, width: int) -> tuple[tile.Tile, ...]:
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
                if (height, width) not in self._automatic:
                    self._automatic[height, width] = self._automatic_tile(height, width, overlap)
                side = self._automatic[height, width]
        if self._tile_limit is not None:
            side = self._tile_limit if side is None else min(side, self._tile_limit)
        self.stats.tile = None if side is None or side >= max(height, width) else side
        made = tile.plan(height, width, tile=side, overlap=overlap, multiple_of=descriptor.multiple_of, shrink=exact)
        if exact and len(made) > 1:
            self.stats.missing_overlap = max(0, 2 * descriptor.halo - overlap)
        return made

    def _automatic_tile(self, height: int, width: int, overlap: int) -> int | None:
        """The largest side that memory allows, None for the whole picture: halos cost, and caches don't mind."""
        if self._bytes_per_pixel is None:
            self._bytes_per_pixel = _activation_bytes(self.descriptor, self._module("fp32"), self.device)
        free = available_memory(self.device)
        if self.device.type == "cuda":
            budget = free * _CUDA_SHARE
        else:
            budget = min(free * _CPU_SHARE, _CPU_BYTES)
        pixels = budget / self._bytes_per_pixel
        self._batch_pixels = min(self._batch_pixels, int(pixels))
        if height * width <= pixels:
            return None
        return max(SMALLEST_TILE, 4 * overlap // 3, int(pixels**0.5) // 16 * 16)

    def _module(self, precision: str) -> nn.Module:
        """The network on the device in a precision; made once. The descriptor's own stays where it is."""
        if "fp32" not in self._networks:
            own = self.descriptor.network
            own = own if self.device.type == "cpu" else copy.deepcopy(own)
            network = own.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._networks["fp32"] = network.eval().requires_grad_(False)
        if precision not in self._networks:
            if _casts_itself(self.descriptor):
                self._networks[precision] = copy.deepcopy(self._networks["fp32"]).to(PRECISIONS[precision])
            else:
                self._networks[precision] = self._networks["fp32"]
        return self._networks[precision]

    def _trial(self, precision: str) -> Tensor:
        """A small forward pass, (1, 3, s * h, s * w)."""
        side_px = -(-128 // self.descriptor.multiple_of) * self.descriptor.multiple_of
        box = tile.Box(0, 0, side_px, side_px)
        picture = torch.linspace(0, 1, 3 * side_px * side_px, device=self.device).view(1, 3, side_px, side_px)
        side = example_planes(self.descriptor.conditioning, side_px, side_px, self.device)
        with torch.inference_mode():
            return self._run_tiles([picture] * self.descriptor.frames, side, [tile.Tile(box, box)], precision)


def load_enhancer(name_or_path: str, **options: Any) -> Enhancer:
    """A model by name or path, ready to run; keywords are the fields of EnhanceOptions.

    Raises ModelError, DeviceError, UsageError.
    """
    known = {field.name for field in dataclasses.fields(EnhanceOptions)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(f"there is no option {unknown[0]!r}", remedy=f"known are {', '.join(sorted(known))}")
    return Enhancer(load_descriptor(name_or_path), EnhanceOptions(**options))


class _Held:
    """A frame with what was made of it on the device, made when first asked for."""

    def __init__(self, frame: Frame, owner: Enhancer) -> None:
        self.frame = frame
        self.owner = owner
        self._tensors: tuple[Tensor, ...] | None = None
        self._picture: Tensor | None = None
        self._elsewhere: dict[int, _Held] = {}

    def on(self, owner: Enhancer) -> _Held:
        """The same frame as another enhancer holds it."""
        if owner is self.owner:
            return self
        return self._elsewhere.setdefault(id(owner), _Held(self.frame, owner))

    def tensors(self) -> tuple[Tensor, ...]:
        """The integer planes on the device."""
        if self._tensors is None:
            self._tensors = color.as_tensors(self.frame.planes, self.owner.device)
        return self._tensors

    def picture(self) -> Tensor:
        """What the network sees, (1, 3, H, W)."""
        if self._picture is None:
            self._picture = color.to_tensor(
                self.tensors(), self.frame.format, self.frame.color, self.owner.domain, self.owner.device
            )
        return self._picture


@dataclass(slots=True)
class _Around:
    """A frame and its neighbours in time; None at the ends and where the picture's size or format changes."""

    previous: _Held | None
    current: _Held
    following: _Held | None
    frames: int
    looked_at: bool = False
    """What follows is known."""
    reason: str | None = None
    """Why the frame isn't to be computed."""
    side: Tensor | None = None
    pitch: int = 0
    """Side in px of the cells that the picture is made of, where the network sees cells."""
    jpeg: JpegEvidence | None = None
    """The JPEG whose coefficients the result must agree with."""

    def on(self, owner: Enhancer) -> _Around:
        """The same frames as another enhancer holds them."""
        if owner is self.current.owner:
            return self
        neighbours = [None if held is None else held.on(owner) for held in (self.previous, self.following)]
        return _Around(neighbours[0], self.current.on(owner), neighbours[1], self.frames)

    def pictures(self) -> list[Tensor]:
        """In time order; an end repeats itself."""
        current = self.current.picture()
        if self.frames == 1:
            return [current]
        before = current if self.previous is None else self.previous.picture()
        after = current if self.following is None else self.following.picture()
        return [before, current, after]


class _Pending:
    """A frame on its way."""

    def __init__(
        self,
        around: _Around,
        reason: str | None,
        *,
        planes: tuple[Plane, ...] | None = None,
        tensors: tuple[Tensor, ...] = (),
        healthy: Tensor | None = None,
        precision: str = "fp32",
        failure: str | None = None,
        out_of_memory: bool = False,
        source: _Pending | None = None,
    ) -> None:
        self.around = around
        self.reason = reason
        self.planes = planes
        self.tensors = tensors
        self.healthy = None if healthy is None else _start_copy((healthy,))[0]
        self.precision = precision
        self.failure = failure
        self.out_of_memory = out_of_memory
        self.source = source
        self.result: EnhancedFrame | None = None
        self.event: torch.cuda.Event | None = None
        if tensors and around.current.owner.device.type == "cuda":
            self.event = torch.cuda.Event()
            self.event.record()

    def retry(self, other: _Pending) -> None:
        """Takes over another attempt at the same frame."""
        self.tensors, self.healthy, self.event = other.tensors, other.healthy, other.event
        self.precision, self.failure = other.precision, other.failure
        self.reason, self.planes = other.reason, other.planes

    def arrays(self) -> tuple[Plane, ...]:
        """The planes as numpy, once they are there."""
        if self.planes is not None:
            return self.planes
        return tuple(cast(Plane, tensor.numpy()) for tensor in self.tensors)

    def forget(self, result: EnhancedFrame) -> None:
        """Keeps the result for duplicates, and nothing of what led to it."""
        self.result = result
        self.tensors, self.healthy, self.source, self.planes = (), None, None, None
        self.around.side = None


def _windows(owner: Enhancer, frames: Iterable[Frame], before: Frame | None) -> Generator[_Around]:
    """Each frame with its neighbours, one frame late where the network wants the one that follows."""
    count = owner.descriptor.frames
    previous = None if before is None else _Held(before, owner)
    current: _Held | None = None
    for frame in frames:
        held = _Held(frame, owner)
        if count == 1:
            yield _Around(_alike(previous, held), held, None, count)
            previous = _Held(frame, owner)  # only for comparison: its tensors are not kept
            continue
        if current is not None:
            yield _Around(_alike(previous, current), current, _alike(held, current), count)
            previous = current
        current = held
    if current is not None:
        yield _Around(_alike(previous, current), current, None, count)


def _alike(other: _Held | None, held: _Held) -> _Held | None:
    """`other` where the two can be seen together."""
    if other is None:
        return None
    a, b = other.frame, held.frame
    same = (a.width, a.height, a.format, a.color) == (b.width, b.height, b.format, b.color)
    return other if same else None


def _same_picture(a: Frame, b: Frame) -> bool:
    same = (a.width, a.height, a.format, a.color) == (b.width, b.height, b.format, b.color)
    return same and all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def _refill(frame: Frame, planes: Sequence[Plane]) -> Frame:
    return dataclasses.replace(frame, planes=tuple(planes), width=planes[0].shape[1], height=planes[0].shape[0])


def _eight_bit_rgb(held: _Held) -> Any:
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
        return float(side.step.max(initial=0.0)) <= _UNDAMAGED_STEP
    highest = max(int(side.luma.max(initial=0)), int(side.chroma.max(initial=0)))
    return highest <= _UNDAMAGED_STEP and side.subsampling == (1, 1)


def _casts_itself(descriptor: Descriptor) -> bool:
    """The architecture takes fp32 pictures with weights of a lower precision and adds its residual in fp32.

    It brings them into its own memory layout too.
    """
    return descriptor.architecture == "ns_restore"


def _health(seen: Tensor, restored: Tensor) -> Tensor:
    """A flag on the device: every value is finite, and the result isn't flat where the input is a picture."""
    finite = torch.isfinite(restored.sum())
    few_seen, few_restored = seen[..., ::8, ::8], restored[..., ::8, ::8]
    varied = few_seen.amax() - few_seen.amin() > _VARIED
    flat = few_restored.amax() - few_restored.amin() < _CONSTANT
    return finite & ~(varied & flat)


def _stay_gray(restored: Tensor, seen: Tensor) -> Tensor:
    """(1, 3, sH, sW) RGB: its luma, where the picture that was seen is gray in each pixel."""
    is_gray = (seen.amax(1) - seen.amin(1)).amax() == 0
    weights = jpeg_matrices(restored.device).to_ycbcr[0].view(1, 3, 1, 1)
    return torch.where(is_gray, (restored * weights).sum(1, keepdim=True).expand_as(restored), restored)


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, so that events and pinned copies belong to it."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _start_copy(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """To the host, without waiting where the device works on its own."""
    return tuple(_to_host(tensor) for tensor in tensors)


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _wait(entry: _Pending) -> str | None:
    """Until the planes are on the host; a word where they are not sound."""
    try:
        if entry.event is not None:
            entry.event.synchronize()
        if entry.healthy is not None and not bool(entry.healthy):
            return f"the network's result in {entry.precision} is no picture"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def _activation_bytes(descriptor: Descriptor, network: nn.Module, device: torch.device) -> float:
    """Bytes of activations per input pixel in fp32, from a small probe: four of the largest tensors at once."""
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
    pictures = 4.0 * (descriptor.in_channels * descriptor.frames + 8)
    return pictures + 4.0 * largest / (side_px * side_px)
