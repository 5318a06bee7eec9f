"""A segment: some seconds of the picture, encoded by themselves and noted in the journal."""

from __future__ import annotations

import dataclasses
from array import array

from ns_video.errors import VerificationError
from ns_video.frame import Frame
from ns_video.journal import Journal, SegmentEntry, file_digest
from ns_video.media.encode import FrameEncoder
from ns_video.media.segment_file import SegmentFile, segment_packets, segment_suffix
from ns_video.media.video_plan import VideoPlan
from ns_video.pipeline.encoding import packets_of
from ns_video.stage import EnhancedFrame, FrameCounts

__all__ = ["Segment"]


class Segment:
    """A segment being written."""

    def __init__(self, journal: Journal, plan: VideoPlan, number: int, *, wished: bool = False) -> None:
        """`wished`: the user set up this encoder, and it has not worked yet."""
        self._journal, self._number, self._wished = journal, number, wished
        name = f"segment-{number:06d}{segment_suffix(plan)}"
        self._file = SegmentFile(journal.folder / name, plan)
        self._encoder = FrameEncoder(self._file.stream, plan)
        self._plan = plan
        self._times: array[int] = array("q")
        self._counts = FrameCounts()

    def write(self, frame: Frame, out: EnhancedFrame) -> None:
        """Encode a frame, on the clock of the output; `out` says what the stage did with it."""
        assert frame.pts is not None
        self._counts.count(out)
        packets = packets_of(self._encoder, frame, wished=self._wished and not self._times)
        self._times.append(self._plan.tick_of(frame.pts * frame.time_base))
        self._file.write(packets)

    def close(self, *, complete: bool = True) -> None:
        """Drain the encoder and note the segment; an incomplete one is noted too, but its place stays open."""
        self._file.write(packets_of(self._encoder, None))
        self._file.close()
        path, count = self._file.path, len(self._times)
        found = sum(1 for _ in segment_packets(path))
        if found != count or len(self._file.presentation) != count:
            raise VerificationError(
                f"segment {self._number} holds {found} of {count} frames; is the disk full?", stage="encode"
            )
        moved = next(((a, b) for a, b in zip(self._times, sorted(self._file.presentation)) if a != b), None)
        if moved is not None:
            was, now = (float(self._plan.time_of(tick)) for tick in moved)
            raise VerificationError(f"the encoder moved the frame at {was:.4f} s to {now:.4f} s", stage="encode")
        entry = SegmentEntry(
            number=self._number,
            file=path.name,
            frames=count,
            bytes=path.stat().st_size,
            digest=file_digest(path),
            presentation=self._file.presentation,
            durations=self._file.durations,
            counts=dataclasses.asdict(self._counts),
        )
        if complete:
            self._journal.add(entry)
        else:
            self._journal.entries[self._number] = entry  # playable in the partial file, done again by --resume
            self._journal.open.add(self._number)

    def abandon(self) -> None:
        """Let go of a segment that is not to be closed."""
        self._file.abandon()
