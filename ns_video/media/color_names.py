"""Names of colour tags, as ffmpeg prints and takes them; libav holds the numbers of ITU-T H.273."""

from __future__ import annotations


def _counted(names: str) -> dict[int, str]:
    return dict(enumerate(names.split()))


_NAMES = {
    "matrix": _counted(
        "gbr bt709 unknown reserved fcc bt470bg smpte170m smpte240m ycgco bt2020nc bt2020c smpte2085 "
        "chroma-derived-nc chroma-derived-c ictcp ipt-c2 ycgco-re ycgco-ro"
    ),
    "range": _counted("unknown limited full"),
    "primaries": _counted(
        "reserved bt709 unknown reserved bt470m bt470bg smpte170m smpte240m film bt2020 smpte428 smpte431 smpte432"
    )
    | {22: "ebu3213"},
    "transfer": _counted(
        "reserved bt709 unknown reserved bt470m bt470bg smpte170m smpte240m linear log100 log316 iec61966-2-4 bt1361e "
        "iec61966-2-1 bt2020-10 bt2020-12 smpte2084 smpte428 arib-std-b67"
    ),
    "chroma_location": _counted("unknown left center topleft top bottomleft bottom"),
}
"""Of libavutil/pixdesc.c, FFmpeg 8, by the names of ColorInfo's fields; ranges in full, which ffmpeg takes, too."""


def color_name(tag: str, value: int) -> str:
    """The name of a value of one of ColorInfo's fields; its number where it has none."""
    return _NAMES[tag].get(value, str(value))
