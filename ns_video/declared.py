"""Options as they were declared: every field of a dataclass holds what its annotation says. Floor 0."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from ns_video.errors import UsageError

_KINDS: dict[Any, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    Path: (Path, "a path"),
    types.NoneType: (types.NoneType, "None"),
}
"""By annotation: what is taken for it (numpy's numbers, too), and its name."""


def check_types(options: Any) -> None:
    """Raises UsageError that names the first field of a dataclass whose value is not of its declared type.

    Knows the types of _KINDS, unions, tuples (for which lists do) and mappings of these. Other libraries' numbers
    become Python's own, and lists tuples.
    """
    hints = _hints(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        if not _fits(value, hints[field.name]):
            raise UsageError(f"{field.name.replace('_', ' ')} {value!r:.60} is not {_named(hints[field.name])}")
        object.__setattr__(options, field.name, _plain(value))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        items = cast("tuple[Any, ...]", value)
        wanted = inner[:1] * len(items) if inner[-1] is ... else inner
        return len(items) == len(wanted) and all(map(_fits, items, wanted))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return False
        pairs = cast("Mapping[Any, Any]", value).items()
        return all(_fits(key, inner[0]) and _fits(one, inner[1]) for key, one in pairs)
    return isinstance(value, _KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_plain, cast("tuple[Any, ...]", value)))
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _named(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_named, inner))
    if origin is tuple:
        return f"a tuple of {_named(inner[0])} each" if inner[-1] is ... else f"({', '.join(map(_named, inner))})"
    if origin is Mapping:
        return f"a table of {_named(inner[0])} = {_named(inner[1])}"
    return _KINDS[hint][1]
