"""A stream that begins between key frames: packets whose pictures need ones that aren't there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av.video.frame import VideoFrame

from ns_video.media.containers import of_demuxer

_UNCOUNTED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "gif", "apng"})  # may begin before what is to be shown
_REFRESHED = frozenset({"h264", "hevc"})
"""Their packets count as key ones, too, where the picture only begins to be built up (recovery points)."""


class LostStart:
    """Counts packets from before the first frame that can be shown. `take(packet, decoded)` for one after the other."""

    def __init__(self, container_format: str, codec: str) -> None:
        self._is_over = container_format in _UNCOUNTED
        self._tells_times = codec in _REFRESHED and not of_demuxer(container_format).decode_times_only
        self._before_key = 0
        self._since_key: list[int] = []

    def take(self, packet: Any, decoded: Sequence[VideoFrame]) -> list[tuple[str, int | None]]:
        """What was lost, and the pts from which on frames can be shown; once it is known."""
        told: list[tuple[str, int | None]] = []
        if self._is_over:
            return told
        if packet.is_keyframe and self._before_key:
            what = f"the video begins without a key frame; {self._before_key} packets can't be shown"
            told.append((what, packet.pts))
            self._before_key = 0
        if packet.pts is not None and (packet.is_keyframe or self._since_key):
            self._since_key.append(packet.pts)
        if decoded:
            self._is_over = True
            shown = decoded[0].pts
            if self._tells_times and self._since_key and shown is not None and shown > self._since_key[0]:
                lost = sum(pts < shown for pts in self._since_key)
                told.append((f"the video begins while its picture is built up; {lost} packets can't be shown", shown))
        elif not packet.is_keyframe and not self._since_key:
            self._before_key += 1
        self._is_over |= packet.is_keyframe and (packet.pts is None or not self._tells_times)
        return told
