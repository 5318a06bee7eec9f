"""The numbers under which receivers know a channel of MPEG-TS: of its tables, which libav reads but tells nobody.

ISO/IEC 13818-1, 2.4.4.3 (program association section). Floor 2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_LOOKED_AT = 1 << 21  # bytes, in which the table comes many times
_SIZES = ((188, 0), (192, 4))  # bytes of a packet, and of what Blu-ray puts before it
_OTHER_PIDS = range(0x20, 0x1FFB)  # those below are of DVB's own tables


@dataclass(frozen=True, slots=True)
class Program:
    """The only channel of a transport stream."""

    transport_stream: int
    number: int
    table: int
    """PID of its table (PMT)."""

    def muxer_options(self, pids: Collection[int]) -> dict[str, str]:
        """Of libav's muxer, for streams of these PIDs; none where it would refuse them."""
        if self.table in pids or self.table not in _OTHER_PIDS or not self.number or not are_free(pids):
            return {}
        stream = {"mpegts_transport_stream_id": str(self.transport_stream)} if self.transport_stream else {}
        return {**stream, "mpegts_service_id": str(self.number), "mpegts_pmt_start_pid": str(self.table)}


def are_free(pids: Collection[int]) -> bool:
    """Whether streams may have these PIDs, each its own."""
    return len(set(pids)) == len(pids) and all(pid in _OTHER_PIDS for pid in pids)


def table_pid(options: Mapping[str, str], name: str) -> int:
    """The PID of the program's table that libav's muxer writes with such options into an output of this name."""
    return 0x100 if name.lower().endswith(".m2ts") else int(options.get("mpegts_pmt_start_pid", 0x1000))


def only_program(path: Path) -> Program | None:
    """The channel of a file; None where there are several or nothing tells of it. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(_LOOKED_AT)
    size, before = next((s for s in _SIZES if data[s[1] :: s[0]][:5] == b"G" * 5), (0, 0))
    for begin in range(before, len(data) - 187, size) if size else ():
        packet = data[begin : begin + 188]
        if packet[:1] != b"G" or int.from_bytes(packet[1:3]) & 0x5FFF != 0x4000:  # the first packet of PID 0's table
            continue
        at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)  # behind the adaptation field
        if not packet[3] & 0x10 or at >= len(packet):
            continue
        section = packet[at + 1 + packet[at] :]
        length = int.from_bytes(section[1:3]) & 0xFFF
        entries = section[8 : 3 + length - 4]
        if section[:1] != b"\0" or length + 3 > len(section):
            continue
        told = [(int.from_bytes(entries[n : n + 2]), entries[n + 2 : n + 4]) for n in range(0, len(entries) - 3, 4)]
        programs = [(number, int.from_bytes(pid) & 0x1FFF) for number, pid in told if number]
        return Program(int.from_bytes(section[3:5]), *programs[0]) if len(programs) == 1 else None
    return None
