"""Model cards: what a model is, was trained on and does badly. Floor 1: standard library only, so no torch."""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ns_video.errors import ModelError
from ns_video.resources import model_folders

__all__ = [
    "Card",
    "DataRow",
    "Figures",
    "Training",
    "find_card",
    "format_card",
    "list_cards",
    "parse_card",
    "read_card",
    "read_cards",
    "write_card",
]

CONDITIONINGS = ("none", "jpeg", "quantiser", "mosaic", "shrunk")
DOMAINS = ("rgb", "ycbcr")
MAX_CARD_BYTES = 1 << 20
"""A card is text that somebody wrote; more than this is none."""

Cell = str | int | float
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class DataRow:
    """A set of pictures or clips that a model was trained on."""

    name: str
    licence: str
    amount: str = ""
    """How much of it, in words: "91 pictures"."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a model was made."""

    steps: int
    minutes: float
    """Wall-clock time."""
    hardware: str
    """Class of machine: "2 CPU cores", "one H200"."""
    recipe: str = ""
    """Path of the configuration in the repository."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One table of measured figures."""

    title: str
    protocol: str
    """What was measured on what, and how."""
    command: str
    """The command that prints these figures again."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """Each as long as `columns`."""


@dataclass(frozen=True, slots=True)
class Card:
    """All that models/<name>.toml says. `weights` lie beside it as <name>.safetensors."""

    name: str
    title: str
    task: str
    architecture: str
    parameters: int
    scale: int
    domain: str
    """One of DOMAINS."""
    conditioning: str
    """One of CONDITIONINGS."""
    frames: int
    """Pictures the network sees at once; odd."""
    sha256: str
    """Of the weights file, lower-case hex."""
    licence: str
    data: tuple[DataRow, ...]
    degradations: tuple[str, ...]
    training: Training
    figures: tuple[Figures, ...]
    known_failures: tuple[str, ...]
    path: Path | None = field(default=None, compare=False)
    """Where the card was read from."""

    @property
    def weights(self) -> Path | None:
        """The weights file beside the card; None for a card that was not read from a file."""
        return None if self.path is None else self.path.with_suffix(".safetensors")


class _Reader:
    """Takes typed values out of a TOML table and says which card and key were wrong."""

    def __init__(self, table: dict[str, object], source: str, prefix: str = "") -> None:
        self._table = table
        self._source = source
        self._prefix = prefix

    def fail(self, key: str, why: str) -> ModelError:
        return ModelError(f"model card {self._source}: key '{self._prefix}{key}' {why}")

    def _get(self, key: str) -> object:
        if key not in self._table:
            raise self.fail(key, "is missing")
        return self._table[key]

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self._table:
            return default
        value = self._get(key)
        if not isinstance(value, str):
            raise self.fail(key, f"must be text, not {value!r:.60}")
        if default is None and not value.strip():
            raise self.fail(key, "is empty")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise self.fail(key, f"must be one of {', '.join(choices)}, not '{value:.60}'")
        return value

    def whole(self, key: str, least: int) -> int:
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 62:
            raise self.fail(key, f"must be a whole number of at least {least}, not {value!r:.60}")
        return value

    def number(self, key: str) -> float:
        value = self._get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise self.fail(key, f"must be a number of at least 0, not {value!r:.60}")
        return float(value)

    def array(self, key: str) -> list[object]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fail(key, f"must be an array, not {value!r:.60}")
        return cast(list[object], value)

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.array(key)
        if not all(isinstance(value, str) for value in values):
            raise self.fail(key, "must hold text only")
        return tuple(cast(list[str], values))

    def tables(self, key: str) -> list[_Reader]:
        values = self.array(key)
        if not all(isinstance(value, dict) for value in values):
            raise self.fail(key, "must hold tables only")
        rows = cast(list[dict[str, object]], values)
        return [_Reader(row, self._source, f"{self._prefix}{key}[{i}].") for i, row in enumerate(rows)]

    def table(self, key: str) -> _Reader:
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.fail(key, "must be a table")
        return _Reader(cast(dict[str, object], value), self._source, f"{self._prefix}{key}.")


def _figures(reader: _Reader) -> Figures:
    columns = reader.texts("columns")
    rows: list[tuple[Cell, ...]] = []
    for row in reader.array("rows"):
        if not isinstance(row, list):
            raise reader.fail("rows", "must hold arrays")
        cells = cast(list[object], row)
        if len(cells) != len(columns):
            raise reader.fail("rows", f"has a row of {len(cells)} cells under {len(columns)} columns")
        if not all(isinstance(cell, str | int | float) for cell in cells):
            raise reader.fail("rows", "must hold text and numbers only")
        rows.append(tuple(cast(list[Cell], cells)))
    return Figures(reader.text("title"), reader.text("protocol"), reader.text("command"), columns, tuple(rows))


def parse_card(text: str, path: Path | None = None) -> Card:
    """The card that `text` (TOML) holds. Unknown keys are ignored.

    Raises ModelError naming the key that is missing, or of the wrong type or value.
    """
    source = str(path) if path is not None else "(text)"
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ModelError(f"model card {source} is no TOML: {error}") from error
    reader = _Reader(table, source)
    name = reader.text("name")
    if not _NAME.fullmatch(name):
        raise reader.fail("name", f"may hold letters, digits, '.', '_' and '-' only, not '{name:.60}'")
    sha256 = reader.text("sha256").lower()
    if not _SHA256.fullmatch(sha256):
        raise reader.fail("sha256", "must be 64 hexadecimal digits")
    frames = reader.whole("frames", 1)
    if frames % 2 == 0:
        raise reader.fail("frames", "must be odd")
    training = reader.table("training")
    return Card(
        name=name,
        title=reader.text("title"),
        task=reader.text("task"),
        architecture=reader.text("architecture"),
        parameters=reader.whole("parameters", 0),
        scale=reader.whole("scale", 1),
        domain=reader.choice("domain", DOMAINS),
        conditioning=reader.choice("conditioning", CONDITIONINGS),
        frames=frames,
        sha256=sha256,
        licence=reader.text("licence"),
        data=tuple(
            DataRow(row.text("name"), row.text("licence"), row.text("amount", "")) for row in reader.tables("data")
        ),
        degradations=reader.texts("degradations"),
        training=Training(
            steps=training.whole("steps", 0),
            minutes=training.number("minutes"),
            hardware=training.text("hardware"),
            recipe=training.text("recipe", ""),
        ),
        figures=tuple(_figures(row) for row in reader.tables("figures")),
        known_failures=reader.texts("known_failures"),
        path=path,
    )


def read_card(path: Path) -> Card:
    """The card in the file `path`.

    Raises ModelError when it can't be read, or as `parse_card`.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise ModelError(f"model card {path} is larger than {MAX_CARD_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"model card {path} can't be read: {error}") from error
    card = parse_card(text, path)
    if card.name != path.stem:
        raise ModelError(f"model card {path} names another model, '{card.name}'")
    return card


def read_cards() -> tuple[list[Card], list[tuple[Path, ModelError]]]:
    """The cards of all installed models, by name, and what is wrong with files beside them that are none.

    The first folder of `model_folders` that has a name wins.
    """
    cards: dict[str, Card] = {}
    wrong: dict[str, tuple[Path, ModelError]] = {}
    for folder in model_folders():
        for path in sorted(folder.glob("*.toml")):
            if path.stem in cards or path.stem in wrong:
                continue
            try:
                cards[path.stem] = read_card(path)
            except ModelError as error:
                wrong[path.stem] = path, error
    return [cards[name] for name in sorted(cards)], list(wrong.values())


def list_cards() -> list[Card]:
    """The cards of all installed models, by name, as `read_cards`; files that are none are left out."""
    return read_cards()[0]


def find_card(name: str) -> Card | None:
    """The card of the installed model `name`; None where there is none.

    Raises ModelError for a card that can't be parsed.
    """
    if not _NAME.fullmatch(name):
        return None
    for folder in model_folders():
        path = folder / f"{name}.toml"
        if path.is_file():
            return read_card(path)
    return None


def _toml(value: object) -> str:
    """A TOML value. JSON's escapes for text are TOML's too, save that TOML wants DEL escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in cast(tuple[object, ...], value)) + "]"
    if isinstance(value, float):
        return f"{value!r}"
    return str(value)


def _lines(texts: tuple[str, ...]) -> str:
    return "[\n" + "".join(f"    {_toml(text)},\n" for text in texts) + "]" if texts else "[]"


def format_card(card: Card) -> str:
    """`card` as TOML; `parse_card` gives an equal one.

    Raises ModelError when the card would not be read back (a wrong checksum, an unknown domain ...).
    """
    lines = [
        f"{key} = {_toml(getattr(card, key))}"
        for key in (
            *("name", "title", "task", "architecture", "parameters", "scale", "domain", "conditioning", "frames"),
            *("sha256", "licence"),
        )
    ]
    lines += [f"degradations = {_lines(card.degradations)}", f"known_failures = {_lines(card.known_failures)}"]
    if not card.data:
        lines.append("data = []")
    if not card.figures:
        lines.append("figures = []")
    training = card.training
    lines += ["", "[training]", f"steps = {training.steps}", f"minutes = {_toml(float(training.minutes))}"]
    lines += [f"hardware = {_toml(training.hardware)}", f"recipe = {_toml(training.recipe)}"]
    for row in card.data:
        lines += ["", "[[data]]", f"name = {_toml(row.name)}", f"licence = {_toml(row.licence)}"]
        lines += [f"amount = {_toml(row.amount)}"] if row.amount else []
    for table in card.figures:
        lines += ["", "[[figures]]", f"title = {_toml(table.title)}", f"protocol = {_toml(table.protocol)}"]
        lines += [f"command = {_toml(table.command)}", f"columns = {_toml(table.columns)}", "rows = ["]
        lines += [f"    {_toml(cells)}," for cells in table.rows] + ["]"]
    text = "\n".join(lines) + "\n"
    parse_card(text)
    return text


def write_card(card: Card, path: Path) -> None:
    """Write `card` as TOML to `path`. Raises ModelError as `format_card`."""
    path.write_text(format_card(card), encoding="utf-8")
