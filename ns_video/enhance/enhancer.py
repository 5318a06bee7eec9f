"""A model ready to run, over frames or over pictures.

A frame that fails is tried with smaller tiles, then in fp32, then passed through; every step is counted.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any, cast

import torch
from torch import Tensor

import ns_video.color as color
import ns_video.tile as tile
from ns_video.belief import believe
from ns_video.cells import find_pitch, fit, shrink
from ns_video.conditioning import pitch_plane, quantiser_planes
from ns_video.constraint import hold, jpeg_matrices
from ns_video.device import FAILURES, check_alive, choose_precision, is_out_of_memory, pick_devices, release_memory
from ns_video.enhance.given import check_pictures, split_side
from ns_video.enhance.in_flight import Around, Pending, same_picture, start_copy, wait, windows
from ns_video.enhance.options import EnhanceOptions
from ns_video.enhance.side_information import Side, SideInformation, domain_of
from ns_video.enhance.tiled_network import TiledNetwork
from ns_video.errors import DeviceError, ModelError, UsageError
from ns_video.estimate import JpegEvidence, find_jpeg
from ns_video.frame import Frame, JpegTables, Plane, QuantiserMap
from ns_video.preset import STILL_VIEWS
from ns_video.stage import EnhancedFrame, EnhanceStats
from ns_video.weights import Descriptor, load_descriptor

logger = logging.getLogger("ns_video")

_CONSTANT, _VARIED = 1e-4, 0.05
"""A result that spans less than the first where the input spans more than the second is no picture."""
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_PENDING = 2
"""Frames in flight on each GPU. Its work and copies wait in one queue; while it works on one frame, the host looks at
the next one, fills the queue and takes what the frame before has become."""


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
        self.domain: color.Domain = domain_of(descriptor)
        self.undoes_coding = descriptor.conditioning == "quantiser" and descriptor.scale == 1
        self.stats = EnhanceStats(device=",".join(str(device) for device in self.devices))
        self._tiled = TiledNetwork(descriptor, self.options, self.device, self.stats)
        if self.does_nothing:
            self.precision = "fp32"
        else:
            self.precision = choose_precision(
                self.options.precision,
                self.device,
                descriptor.safe_precisions,
                self._tiled.trial,
                integers=self.options.integers,
            )
        self.stats.precision = self.precision
        self._sides = SideInformation(descriptor, self.options, self.device, self.precision)
        self._others = [] if self.does_nothing else [self._on_another(device) for device in self.devices[1:]]

    @property
    def does_nothing(self) -> bool:
        """The model is `identity`: samples are never touched, only resampled or sharpened where that was asked for."""
        return self.descriptor.architecture == "identity"

    def end_by(self, cancel: threading.Event) -> None:
        """Once `cancel` is set, `run` gives the picture at hand up at the next layer, and raises Interrupted."""
        self._tiled.cancel = cancel

    @property
    def reach(self) -> int:
        """Frames to each side that a result may depend on."""
        return max(1, self.descriptor.frames // 2)  # one for equal frames

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
        Raises UsageError for another shape, for samples that are no floats, for none, and for a side that the model
        doesn't read; DeviceError where memory ends.
        """
        check_pictures(rgb)
        sides = split_side(side, rgb, self.descriptor)
        pictures = rgb.detach().float().split(1)
        try:
            return torch.cat([self._restore_rgb(one, told) for one, told in zip(pictures, sides, strict=True)])
        except (*FAILURES, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            width, height = self.output_size(rgb.shape[3], rgb.shape[2])
            what = f"memory of {self.device} is not enough for pictures that become {width}x{height}"
            raise DeviceError(what, remedy="a smaller size, or fewer pictures at once") from error

    def run(
        self,
        frames: Iterable[Frame],
        *,
        before: Sequence[Frame] = (),
        start_index: int = 0,
        restart_every: int | None = None,
    ) -> Generator[EnhancedFrame]:
        """Restores frames in order, one out per one in; reads `reach` frames ahead where the network sees neighbours,
        and for a GPU some more where it wants them aligned.

        A result depends only on the frames themselves: on the neighbours in time and, for a run of equal frames, on
        its first. To go on in the middle of a clip give `before`, the `reach` frames ahead of the first one, and the
        `start_index` of the first; where `restart_every` is given, a run of equal frames is begun anew at each
        multiple of it, and so are the turns of the devices, so that work can begin there with the same result.
        """
        descriptor, pending = self.descriptor, deque[Pending]()
        depth = _PENDING * len(self.devices) if self.device.type == "cuda" else 1
        last: Pending | None = None
        index = start_index
        computed = 0
        for around in windows(self, descriptor.frames, frames, before, aligned=descriptor.aligned):
            fresh = restart_every is not None and index % restart_every == 0
            computed = 0 if fresh else computed
            index += 1
            previous = around.previous if last is not None else None
            if (
                last is not None
                and previous is not None
                and self.options.skip_duplicates
                and not fresh
                and not self._is_free(around.current.frame)
                and same_picture(previous.frame, around.current.frame)
            ):
                entry = Pending(around, "duplicate", source=last)
            else:
                worker = self._worker(computed)
                computed += 1
                entry = worker.launch(around.on(worker), worker.precision)
            last = entry
            pending.append(entry)
            while len(pending) >= depth:
                yield self._end(pending.popleft())
        while pending:
            yield self._end(pending.popleft())

    def _on_another(self, device: torch.device) -> Enhancer:
        """One with the same network, precision and counts. Raises DeviceError."""
        options = dataclasses.replace(self.options, device=str(device), precision=self.precision)
        try:
            other = Enhancer(self.descriptor, options)
        except DeviceError as error:
            raise DeviceError(error.message, remedy="name GPUs of one kind, or --precision fp32") from error
        other.stats = other._tiled.stats = self.stats
        return other

    def _worker(self, turn: int) -> Enhancer:
        """Whose turn it is: this one's, or another's on its device."""
        place = turn % len(self.devices)
        return self._others[place - 1] if place and self._others else self

    # The way of one frame: launch (starts work), end (waits for it and checks it).

    def _keeps(self, frame: Frame) -> bool:
        """Where no network runs, the frame's samples stay as they are."""
        return self.options.sharpen == 0 and self.frame_size(frame) == (frame.width, frame.height)

    def _is_free(self, frame: Frame) -> bool:
        """Nothing at all is to be done to this frame."""
        return self.does_nothing and self._keeps(frame)

    def launch(self, around: Around, precision: str) -> Pending:
        """Computes a frame's planes, once more where memory ended; on CUDA returns before they are there."""
        entry = self._attempt(around, precision)
        if entry.out_of_memory:
            logger.warning("%s: trying once more", entry.failure)
            release_memory(self.device)
            entry = self._attempt(around, precision)
        return entry

    def _attempt(self, around: Around, precision: str) -> Pending:
        frame = around.current.frame
        try:
            with torch.inference_mode(), _on(self.device):
                if not around.looked_at:
                    around.reason = self._look(around)
                    around.looked_at = True
                reason = around.reason
                if reason is not None and self._keeps(frame):
                    return Pending(around, reason, planes=frame.planes)
                planes, healthy = self._restore_frame(around, precision, compute=reason is None)
                return Pending(around, reason, tensors=start_copy(planes), healthy=healthy, precision=precision)
        except (*FAILURES, MemoryError) as error:
            failure = str(error).splitlines()[0] if str(error) else repr(error)
            starved = is_out_of_memory(error)
            return Pending(around, around.reason, precision=precision, failure=failure, out_of_memory=starved)

    def _look(self, around: Around) -> str | None:
        """Puts together what the network is told of a frame; the reason for which it isn't to be computed, or None."""
        if self.does_nothing:
            return "identity"
        frame = around.current.frame
        around.side, reason = self._sides.of_frame(around)
        if reason is not None and self.descriptor.scale != 1:
            around.side, reason = self._sides.closed(frame.height, frame.width), None
        return reason

    def _end(self, entry: Pending) -> EnhancedFrame:
        """Waits for a frame, walks down the ladder where it failed, and counts."""
        frame = entry.around.current.frame
        if entry.source is not None:
            source = entry.source.result
            assert source is not None
            passed = source.passed_through
            reason = source.reason if passed else "duplicate"
            result = EnhancedFrame(_refill(frame, source.frame.planes), passed, reason, repeated=True)
        else:
            around = entry.around
            result = EnhancedFrame(frame, reason=entry.reason) if entry.planes is not None else self._finish(entry)
            result = dataclasses.replace(result, guessed_step=around.guessed_step, raised=around.raised)
        self.stats.count(result)
        if self.options.size is not None and self.options.fit == "stretch":
            result = dataclasses.replace(result, frame=dataclasses.replace(result.frame, pixel_aspect=Fraction(1)))
        entry.forget(result)
        return result

    def _finish(self, entry: Pending) -> EnhancedFrame:
        frame, owner = entry.around.current.frame, entry.around.current.owner
        failure = entry.failure or wait(entry)
        if failure is not None and entry.reason is None and entry.precision != "fp32":
            logger.warning("%s: trying fp32", failure)
            self.stats.fp32_retries += 1
            entry.retry(owner.launch(entry.around, "fp32"))
            failure = entry.failure or wait(entry)
        if failure is None:
            return EnhancedFrame(_refill(frame, entry.arrays()), reason=entry.reason)
        check_alive(owner.device, failure)
        logger.warning("frame at %s s passed through: %s", frame.pts_seconds, failure)
        size = self.frame_size(frame)
        planes = color.recompose(frame.planes, frame.format, frame.color, None, self.domain, size=(size[1], size[0]))
        arrays = tuple(cast(Plane, plane.numpy()) for plane in planes)
        return EnhancedFrame(_refill(frame, arrays), passed_through=True, reason=failure)

    def _restore_frame(
        self, around: Around, precision: str, *, compute: bool
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
            seen = current.seen(green=current.is_coded_rgb)
            restored = self._restored(
                around.pictures(), around.side, around.pitch, precision, self.options.ensemble or 1
            )
            told = around.jpeg or current.frame.quantiser
            restored, healthy = self._as_told(restored, seen, around.side, told, raised=around.raised)
            if self.domain == "rgb":
                restored.clamp_(0, 1)
            target = color.resample(seen, size)
            change = color.resample(restored, size).sub_(target)
            if current.is_coded_rgb:
                change = color.of_green(change)
            if self.options.strength != 1.0:
                change.mul_(self.options.strength)
        if self.options.sharpen > 0:
            target, shown = current.picture(), color.alpha_of(current.tensors(), frame.format)
            if resized and shown is not None:
                target, shown = color.resample_shown(target, shown, size), color.resample(shown, size).clamp_(0, 1)
            elif resized:
                target = color.resample(target, size)
            target = target if change is None else target + change
            sharper = color.sharpening(target, self.options.sharpen, self.domain, shown)
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
            kind = self._sides.cells
            pitch = 0 if kind is None else find_pitch(seen[0].mean(0), kind) or 0
            if self.descriptor.conditioning == "jpeg" and not isinstance(side, Tensor):
                eight = seen[0].clamp(0, 1).mul(255).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
                side = JpegEvidence(side) if isinstance(side, JpegTables) else side or find_jpeg(eight)
            planes = side.to(self.device) if isinstance(side, Tensor) else self._sides.of_picture(side, seen)
            if planes is None and self.descriptor.scale != 1:
                planes = self._sides.closed(height, width)
            if pitch or (not self.does_nothing and (planes is not None or self.descriptor.conditioning == "none")):
                pictures = [picture] * self.descriptor.frames
                views = self.options.ensemble or (STILL_VIEWS if self.descriptor.architecture == "ns_restore" else 1)
                known = None if isinstance(side, (Tensor, JpegTables)) else side
                restored = self._restored(pictures, planes, pitch, self.precision, views)
                restored, healthy = self._as_told(restored, picture, planes, known)
                if not healthy and self.precision != "fp32":
                    self.stats.fp32_retries += 1
                    restored = self._restored(pictures, planes, pitch, "fp32", views)
                    restored, healthy = self._as_told(restored, picture, planes, known)
                if healthy:
                    restored = restored.clamp(0, 1) if self.domain == "rgb" else restored
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
        self,
        restored: Tensor,
        seen: Tensor,
        planes: Tensor | None,
        told: JpegEvidence | QuantiserMap | None,
        *,
        raised: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What the network made of `seen`, as far as what was told of the damage lets it be believed; and a flag on
        the device that says that both are sound. `raised`: `planes` are of coarser steps than `told`."""
        healthy = _health(seen, restored)
        believed = self._believed(restored, seen, planes, told, raised)
        return believed, healthy & torch.isfinite(believed.sum())

    def _believed(
        self,
        restored: Tensor,
        seen: Tensor,
        planes: Tensor | None,
        told: JpegEvidence | QuantiserMap | None,
        raised: bool,
    ) -> Tensor:
        conditioning = self.descriptor.conditioning
        if conditioning == "jpeg" and self.domain == "rgb":
            restored = _stay_gray(restored, seen)
        if self.descriptor.scale != 1:
            return restored
        if conditioning == "quantiser" and planes is not None:
            if not isinstance(told, QuantiserMap):
                return believe(restored, seen, planes, doubt_edges=False)
            height, width = planes.shape[-2:]
            own = quantiser_planes(None, told, None, height, width, self.device) if raised else None
            # MPEG's are told block by block, as they were in the training, and what that costs wasn't measured.
            doubt_edges = not told.source.startswith("mpeg")
            return believe(
                restored,
                seen,
                planes,
                doubt_edges=doubt_edges,
                doubt_luma=told.source == "h264",
                louder=told.source in ("vp9", "vp9 headers", "vp8 headers"),
                told=own,
            )
        if isinstance(told, JpegEvidence) and self.domain == "rgb":
            return hold(restored, seen, told.tables, told.phase, foreign=told.foreign)
        return restored

    def _restored(
        self, pictures: Sequence[Tensor], side: Tensor | None, pitch: int, precision: str, views: int
    ) -> Tensor:
        """The mean of that many views through the network, over cells of `pitch` px where it sees those."""
        kind = self._sides.cells
        if kind is None:
            return self._averaged(pictures, side, precision, views)
        small = [shrink(picture, kind, pitch) for picture in pictures]
        planes = pitch_plane(pitch, self.device) if kind == "mosaic" else None
        enlarged = self._averaged(small, planes, precision, views)
        return fit(enlarged, kind, *pictures[0].shape[-2:])

    def _averaged(self, pictures: Sequence[Tensor], side: Tensor | None, precision: str, views: int) -> Tensor:
        """The mean of what the network makes of flipped views. `side` is padded as the network wants its pictures."""
        height, width = pictures[0].shape[-2:]
        total: Tensor | None = None
        for done, axes in enumerate(_FLIPS[:views]):
            left = views - done
            if not axes:
                result = self._tiled.run(pictures, side, precision, views=left)
            else:
                planes = side
                if side is not None and side.shape[-2:] != (1, 1):
                    planes = side[..., :height, :width].flip(axes)
                    planes = tile.pad_to_multiple(planes, self.descriptor.multiple_of)
                flipped = [picture.flip(axes) for picture in pictures]
                result = self._tiled.run(flipped, planes, precision, views=left).flip(axes)
            total = result if total is None else total.add_(result)
        assert total is not None
        return total.div_(views) if views > 1 else total

    def tiles(self, height: int, width: int) -> tuple[tile.Tile, ...]:
        """The tiles in use for a padded picture of H x W; remembers their side in `stats`."""
        return self._tiled.tiles(height, width, self.precision)


def load_enhancer(name_or_path: str, **options: Any) -> Enhancer:
    """A model by name or path, ready to run; keywords are the fields of EnhanceOptions.

    Raises ModelError, DeviceError, UsageError.
    """
    known = {field.name for field in dataclasses.fields(EnhanceOptions)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(f"there is no option {unknown[0]!r}", remedy=f"known are {', '.join(sorted(known))}")
    return Enhancer(load_descriptor(name_or_path), EnhanceOptions(**options))


def _refill(frame: Frame, planes: Sequence[Plane]) -> Frame:
    return dataclasses.replace(frame, planes=tuple(planes), width=planes[0].shape[1], height=planes[0].shape[0])


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
    weights = jpeg_matrices(restored.device).to_coded[0].view(1, 3, 1, 1)
    return torch.where(is_gray, (restored * weights).sum(1, keepdim=True).expand_as(restored), restored)


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, so that events and pinned copies belong to it."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
