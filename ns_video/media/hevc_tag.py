"""The tag of HEVC whose parameter sets are all in the header: the only one that Apple's players take.

ISO/IEC 14496-15, 8.4.1; libav writes hev1, which allows them in the packets, where nothing else is said.
"""

from __future__ import annotations

from av.container import OutputContainer

HVC1 = "hvc1"


def holds_hvc1(output: OutputContainer) -> bool:
    """Whether libav's muxer takes that tag."""
    return output.format.name in ("mp4", "mov")


__all__ = ["HVC1", "holds_hvc1"]
