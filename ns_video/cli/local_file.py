"""Paths as commands take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ns_video.errors import UsageError, printable


class NamedPath(click.Path):
    """A path. Raises UsageError for an empty one, which would be the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            shown = "a path" if param is None else param.human_readable_name
            raise UsageError(f"{shown} is empty", remedy="a shell's variable may not be set")
        return super().convert(value, param, ctx)


class LocalFile(NamedPath):
    """The path of a file. Raises UsageError for a URL, of which a path would be another name, and for pipes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from ns_video.media.libav import is_url

        if isinstance(value, str) and is_url(value):
            raise UsageError(f"{printable(value)}: only files are read here", remedy="fetch it first")
        if value == "-" or (isinstance(value, str) and Path(value).is_fifo()):
            shown = "standard input" if value == "-" else printable(value)
            raise UsageError(f"{shown}: only files are read here, no pipes", remedy="write it to a file first")
        return super().convert(value, param, ctx)
