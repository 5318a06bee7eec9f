"""Frames on their way through a device: what is held of them and their neighbours there, and results to come."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import ns_video.color as color
from ns_video.align import compensate, matched
from ns_video.belief import OTHER_CODECS
from ns_video.estimate import JpegEvidence
from ns_video.frame import Frame, Motion, Plane
from ns_video.machine import usable_cores
from ns_video.media.motion import compensate_here, find_motion
from ns_video.stage import EnhancedFrame
from ns_video.upload import upload

_SEARCHES = 8
"""Frames whose motion is looked for ahead of a GPU, each in its thread, where the machine has twice as many cores."""

_AHEAD_BYTES = 256 << 20
"""Of frames that are ahead of it, but for one: ten of 4K in 10 bits, two of 8K."""

Motions = tuple[Motion | None, ...]
"""From a frame to those that are seen with it, itself among them; None: nothing moves, or it is the frame itself."""


class Worker(Protocol):
    """Who restores frames on one device."""

    device: torch.device
    domain: color.Domain
    undoes_coding: bool
    """Its network is told quantiser steps, and gives pictures of the same size."""

    def launch(self, around: Around, precision: str) -> Pending:
        """Computes a frame's planes, once more where memory ended; on CUDA returns before they are there."""
        ...


class Held:
    """A frame with what was made of it on the device, made when first asked for."""

    def __init__(self, frame: Frame, owner: Worker) -> None:
        self.frame = frame
        self.owner = owner
        self._tensors: tuple[Tensor, ...] | None = None
        self._picture: Tensor | None = None
        self._green: Tensor | None = None
        self._eight_bit: npt.NDArray[np.uint8] | None = None
        self._elsewhere: dict[int, Held] = {}

    def on(self, owner: Worker) -> Held:
        """The same frame as another enhancer holds it."""
        if owner is self.owner:
            return self
        return self._elsewhere.setdefault(id(owner), Held(self.frame, owner))

    def apart(self) -> Held:
        """The same frame for the host to look at; on CUDA held once more, on the stream that is current then."""
        return Held(self.frame, self.owner) if self.owner.device.type == "cuda" else self

    def eight_bit_luma(self) -> npt.NDArray[np.uint8]:
        """(H, W) to look for motion in; green of RGB."""
        if self._eight_bit is None:
            depth = self.frame.format.bit_depth
            plane = self.frame.planes[1 if self.frame.format.is_rgb else 0]
            self._eight_bit = (plane >> (depth - 8) if depth > 8 else plane).astype(np.uint8, copy=False)
        return self._eight_bit

    def tensors(self) -> tuple[Tensor, ...]:
        """The integer planes on the device."""
        if self._tensors is None:
            self._tensors = color.as_tensors(self.frame.planes, self.owner.device)
        return self._tensors

    def picture(self) -> Tensor:
        """The picture in the network's domain, (1, 3, H, W)."""
        if self._picture is None:
            self._picture = color.to_tensor(
                self.tensors(), self.frame.format, self.frame.color, self.owner.domain, self.owner.device
            )
        return self._picture

    @property
    def is_coded_rgb(self) -> bool:
        """A video codec coded red, green and blue, each for itself: what it did to green says nothing of the others."""
        frame = self.frame
        return self.owner.undoes_coding and frame.format.is_rgb and frame.quantiser is not None and not frame.was_ycbcr

    def seen(self, *, green: bool) -> Tensor:
        """What the network sees: the picture, or its green alone in the place of luma."""
        if not green:
            return self.picture()
        if self._green is None:
            self._green = color.green_as_luma(self.tensors(), self.frame.format, self.frame.color)
        return self._green


@dataclass(slots=True)
class Around:
    """A frame and its neighbours in time; None at the ends and where the picture's size or format changes."""

    previous: Held | None
    current: Held
    following: Held | None
    frames: int
    outer: tuple[Held | None, Held | None] = (None, None)
    """Two frames before and two after, where the network sees five."""
    looked_at: bool = False
    """What follows is known."""
    reason: str | None = None
    """Why the frame isn't to be computed."""
    side: Tensor | None = None
    pitch: int = 0
    """Side in px of the cells that the picture is made of, where the network sees cells."""
    jpeg: JpegEvidence | None = None
    """The JPEG whose coefficients the result must agree with."""
    guessed_step: float | None = None
    """The quantiser step that was guessed from the picture."""
    raised: bool = False
    """The quantisers that the file tells were raised."""
    aligned: bool = False
    """The network wants the neighbours moved onto the frame."""
    _motions: Motions | Future[Motions] | None = field(default=None, repr=False)

    def on(self, owner: Worker) -> Around:
        """The same frames as another enhancer holds them."""
        if owner is self.current.owner:
            return self
        all_held = (self.outer[0], self.previous, self.following, self.outer[1])
        first, previous, following, last = (None if held is None else held.on(owner) for held in all_held)
        outer = (first, last)
        there = Around(previous, self.current.on(owner), following, self.frames, outer, aligned=self.aligned)
        there._motions = self._motions
        return there

    def _seen(self) -> list[Held]:
        """What the network sees, in time order; an end repeats itself."""
        if self.frames == 1:
            return [self.current]
        before, after = self.previous or self.current, self.following or self.current
        if self.frames == 3:
            return [before, self.current, after]
        return [self.outer[0] or before, before, self.current, after, self.outer[1] or after]

    def pictures(self) -> list[Tensor]:
        """In time order, neighbours moved onto the frame where that is wanted, and where they show what it does; an end
        repeats itself."""
        seen = self._seen()
        pictures = [held.seen(green=self.current.is_coded_rgb) for held in seen]
        if not self.aligned:
            return pictures
        frame = self.current.seen(green=self.current.is_coded_rgb)
        moved = [self._moved(*pair) for pair in zip(pictures, self._found(), strict=True)]
        if self.side is None:
            return moved
        octaves = self.side[:, :1, : frame.shape[-2], : frame.shape[-1]].float() * 7.0
        told = self.current.frame.quantiser
        likeness = 1.0 if told is not None and told.source == "h264" else OTHER_CODECS
        return [
            one if held is self.current else matched(one, frame, octaves, likeness)
            for held, one in zip(seen, moved, strict=True)
        ]

    def search_in(self, pool: ThreadPoolExecutor) -> None:
        """Begins to look for motion, which `pictures` waits for."""
        self._motions = pool.submit(self._search)

    def _found(self) -> Motions:
        """Looked for here and now where nobody began to, or who did failed."""
        motions = self._motions
        if isinstance(motions, Future):
            self._motions = None
            motions = None if motions.cancelled() else motions.result()
        self._motions = motions or self._search()
        return self._motions

    def _search(self) -> Motions:
        luma = self.current.eight_bit_luma()
        seen = self._seen()
        others = {id(held): held for held in seen if held is not self.current}
        found = {key: find_motion(luma, held.eight_bit_luma()) for key, held in others.items()}
        return tuple(found.get(id(held)) for held in seen)

    def _moved(self, picture: Tensor, motion: Motion | None) -> Tensor:
        if motion is None:
            return picture
        owner, format = self.current.owner, self.current.frame.format
        stored_small = owner.domain == "ycbcr" and not format.is_rgb
        shifts = (format.chroma_shift_y, format.chroma_shift_x) if stored_small else (0, 0)
        subsampling = (1 << shifts[0], 1 << shifts[1])
        if picture.device.type != "cuda":  # not every PyTorch has MPS sample like that
            return upload(compensate_here(picture.cpu(), motion, subsampling), owner.device)
        vectors = upload(torch.from_numpy(motion).permute(2, 0, 1)[None].contiguous(), owner.device)
        return compensate(picture, vectors, subsampling)


class Pending:
    """A frame on its way."""

    def __init__(
        self,
        around: Around,
        reason: str | None,
        *,
        planes: tuple[Plane, ...] | None = None,
        tensors: tuple[Tensor, ...] = (),
        healthy: Tensor | None = None,
        precision: str = "fp32",
        failure: str | None = None,
        out_of_memory: bool = False,
        source: Pending | None = None,
    ) -> None:
        self.around = around
        self.reason = reason
        self.planes = planes
        self.tensors = tensors
        self.healthy = None if healthy is None else start_copy((healthy,))[0]
        self.precision = precision
        self.failure = failure
        self.out_of_memory = out_of_memory
        self.source = source
        self.result: EnhancedFrame | None = None
        self.event: torch.cuda.Event | None = None
        if tensors and around.current.owner.device.type == "cuda":
            self.event = torch.cuda.Event()
            self.event.record()

    def retry(self, other: Pending) -> None:
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


def windows(
    owner: Worker, count: int, frames: Iterable[Frame], before: Sequence[Frame], *, aligned: bool = False
) -> Generator[Around]:
    """Each frame with its neighbours, one or two frames late where a network of `count` frames wants the next.

    `before`: the frames ahead of the first one. `aligned`: the neighbours are wanted moved onto the frame; for a GPU
    the motion is looked for some frames ahead.
    """
    found = _windows(owner, count, frames, before)
    if not aligned:
        yield from found
    elif owner.device.type != "cuda":
        for around in found:
            around.aligned = True
            yield around
    else:
        yield from _searched_ahead(found)


def _searched_ahead(found: Generator[Around]) -> Generator[Around]:
    """The same, each as soon as those behind it are being looked at; where `found` fails, what is ahead comes first."""
    threads = max(1, min(_SEARCHES, usable_cores() // 2))
    ahead: deque[Around] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="motion")
    try:
        while True:
            failure: Exception | None = None
            try:
                around = next(found, None)
            except Exception as error:
                around, failure = None, error
            if around is None:
                yield from ahead
                if failure is not None:
                    raise failure
                return
            around.aligned = True
            quantiser = around.current.frame.quantiser
            if quantiser is None or not quantiser.is_lossless:
                around.search_in(pool)
            ahead.append(around)
            size = sum(plane.nbytes for plane in around.current.frame.planes)
            if len(ahead) > min(threads, max(1, _AHEAD_BYTES // max(1, size))):
                yield ahead.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _windows(owner: Worker, count: int, frames: Iterable[Frame], before: Sequence[Frame]) -> Generator[Around]:
    if count == 1:
        previous = Held(before[-1], owner) if before else None
        for frame in frames:
            held = Held(frame, owner)
            yield Around(_alike(previous, held), held, None, count)
            previous = Held(frame, owner)  # only for comparison: its tensors are not kept
        return
    reach = count // 2
    behind = deque((Held(frame, owner) for frame in before[-reach:]), reach)
    ahead = deque[Held]()  # the frame whose turn it is, and those after it
    for frame in frames:
        ahead.append(Held(frame, owner))
        if len(ahead) > reach:
            yield _around(behind, ahead, count)
            behind.append(ahead.popleft())
    while ahead:
        yield _around(behind, ahead, count)
        behind.append(ahead.popleft())


def _around(behind: Sequence[Held], ahead: Sequence[Held], count: int) -> Around:
    """Neighbours as far as they and those between can be seen together with the first of `ahead`."""
    current = ahead[0]
    previous = _alike(behind[-1] if behind else None, current)
    following = _alike(ahead[1] if len(ahead) > 1 else None, current)
    if count == 3:
        return Around(previous, current, following, count)
    first = _alike(behind[-2] if previous is not None and len(behind) > 1 else None, current)
    last = _alike(ahead[2] if following is not None and len(ahead) > 2 else None, current)
    return Around(previous, current, following, count, (first, last))


def _alike(other: Held | None, held: Held) -> Held | None:
    """`other` where the two can be seen together."""
    if other is None:
        return None
    a, b = other.frame, held.frame
    same = (a.width, a.height, a.format, a.color) == (b.width, b.height, b.format, b.color)
    return other if same else None


def same_picture(a: Frame, b: Frame) -> bool:
    """Whether two frames have the same samples, and are to be shown alike."""
    same = (a.width, a.height, a.format, a.color) == (b.width, b.height, b.format, b.color)
    return same and all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def start_copy(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """To the host, without waiting where the device works on its own."""
    return tuple(_to_host(tensor) for tensor in tensors)


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def wait(entry: Pending) -> str | None:
    """Until the planes are on the host; a word where they are not sound."""
    try:
        if entry.event is not None:
            entry.event.synchronize()
        if entry.healthy is not None and not bool(entry.healthy):
            return f"the network's result in {entry.precision} is no picture"
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None
