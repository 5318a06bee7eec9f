"""A training's configuration: TOML tables → frozen dataclasses. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from ns_video.cells import PITCHES, Kind, as_kind
from ns_video.errors import UsageError, printable
from ns_video.media.degrade import Degradation, parse_spec
from ns_video.networks.discriminator import DiscriminatorConfig
from ns_video.networks.ns_restore import SIZES
from ns_video.training.losses import Terms, make_terms
from ns_video.training.optimizer import OPTIMIZERS

Flat = TypeVar("Flat")

KINDS = ("jpeg", "spec")
LOW_QUALITY = 50
STUDY = ("DeblurCNN", "DeblurCNN_RES", "DeblurSuperResCNN", "DnCNN", "EDSR_Deblur")
ENLARGING = ("ns_restore", "rcan", "hat")
ARCHITECTURES = (*ENLARGING, "nsie", *STUDY)
HAT_SIZES = {"small": 8, "base": 16, "medium": 16, "large": 16}
"""Name → side of its windows."""
_RCAN_SIZE = re.compile(r"[1-9]\d?x[1-9]\d?x(1[6-9]|[2-9]\d|[1-9]\d\d)")  # attention has a sixteenth of the channels
SCHEDULES = ("cosine", "plateau", "constant")
DISCRIMINATOR_LOSSES = ("ragan", "gan")
_LIKE = "pipelines/training/ has configurations to begin with"
_IN_WORDS: dict[type[Any], tuple[str, str]] = {
    int: ("a whole number", "without quotes or a point"),
    float: ("a number", "without quotes"),
    str: ("a text", "in quotes"),
    bool: ("true or false", "without quotes"),
}
"""Types of values, and how they are written in TOML."""


def check_unit(table: object, *names: str) -> None:
    """Raises UsageError for the first of a dataclass's values that isn't between 0 and 1."""
    for name in names:
        value = getattr(table, name)
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must be between 0 and 1, not {value:g}")


def check_seed(seed: int) -> None:
    """Raises UsageError for one that torch doesn't take."""
    if not 0 <= seed < 1 << 63:
        raise UsageError("seed must be at least 0, and less than 2**63")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of clean pictures."""

    folder: str
    """Below `data.root`."""
    weight: float = 1.0
    """How often its pictures are drawn, times the square root of their area."""
    spotless: bool = True
    """False for pictures that were compressed before: they teach nothing about fine damage (quality above 80)."""


@dataclass(frozen=True, slots=True)
class Data:
    """[data]: pictures and how crops are drawn from them."""

    sources: tuple[Source, ...]
    root: str = "../shared/data/train"
    cache: str = ""
    """Folder for decoded pictures (.npy); empty: they are kept in memory."""
    crop: int = 96
    """Side of a crop of the reference, in pixels, or in cells where the network sees those."""
    batch: int = 16
    hold_out: int = 20
    """Every so many pictures of a folder one is kept for validation; 0: none, those that are trained on validate."""
    augment: bool = True
    """Flips and quarter turns."""
    workers: int = 0
    """Processes that make batches beside the training; 0: a thread."""
    line_sharpened: float = 0.0
    """Share of line-sharpened targets during the first 80 % of the steps (line art)."""
    graphics_share: float = 0.0
    """Share of crops that are drawn: pages of text, sprites, dithering, halftones, pixel art, gratings."""


@dataclass(frozen=True, slots=True)
class Damage:
    """[damage]: "jpeg" draws quality, subsampling and tables and tells the network; "spec" draws from `specs`."""

    kind: str = "jpeg"
    specs: tuple[str, ...] = ()
    quality: tuple[int, int] = (5, 98)
    low_quality_share: float = 0.55
    """Share of samples at LOW_QUALITY or less, where `quality` goes below; the rest is even over `quality`."""
    other_tables: float = 0.12
    """Share with tables of other encoders' kinds."""
    off_grid: float = 0.12
    """Share of crops that begin at any pixel. The others begin at multiples of 4 px: a third of them on a corner of a
    block of 8 px."""
    saved_twice: float = 0.05
    """Share that is saved once more at a fine quality."""


@dataclass(frozen=True, slots=True)
class Network:
    """[network]: what is trained."""

    architecture: str = "ns_restore"
    size: str = "small"
    """Of ns_restore (a name of `SIZES`) and hat (small, base, medium, large); of rcan groups x blocks x
    channels, "10x20x64" in the paper; the others have one."""
    conditioning: str = ""
    """"mosaic" or "shrunk": the network sees one pixel for each cell of a mosaic, or of a picture that was shrunk and
    enlarged bilinearly (`ns_video.cells`). A network for JPEG always reads the
    file's tables."""
    start: str = ""
    """Model name or weights file to begin with; layers of another shape, and those that it lacks, begin anew."""
    revive: bool = False
    """Channels of ns_restore's blocks that never act on the first batches begin anew."""


@dataclass(frozen=True, slots=True)
class Loss:
    """[loss]: a recipe, and weights that change it."""

    recipe: str = "charbonnier"
    terms: tuple[tuple[str, float], ...] = ()
    """TOML table `[loss.terms]`: name = weight."""
    balance: float = 0.0
    """Each sample's error is divided by its damage to this power: 0 counts absolute errors, 1 counts decibels."""
    vgg: str = ""
    """File of torchvision's VGG-19 weights, for `perceptual`."""
    discriminator: str = "ragan"
    discriminator_rate: float = 5e-6
    detector_rate: float = 1e-4
    """Of the artifact detector that is trained along."""

    def make(self) -> Terms:
        """The terms with their weights."""
        return make_terms(self.recipe, dict(self.terms))


@dataclass(frozen=True, slots=True)
class Schedule:
    """[schedule]: how long, and how the learning rate goes."""

    steps: int = 20000
    rate: float = 2e-3
    least_rate: float = 1e-6
    kind: str = "cosine"
    warm_up: int = 300
    patience: int = 5
    """Plateau: validations without gain before the rate is halved."""
    factor: float = 0.5
    clip: float = 0.2
    """Largest norm of the gradient; 0: not clipped."""
    average: float = 0.999
    """Decay of the averaged weights (EMA)."""
    optimizer: str = "adam"
    """"adam" or "muon" (convolutions between the first and the last layer; Adam for the rest)."""
    precision: str = "auto"
    """"bf16" or "fp16" for automatic mixed precision, "fp32", or "auto"."""


@dataclass(frozen=True, slots=True)
class Seam:
    """[seam]: the seam-robustness fine-tune. Patches go through the network in tiles, inside the training loop."""

    tile: int = 0
    """Side of a tile; 0: off."""
    overlap: int = 0
    """Total overlap of neighbouring tiles."""


@dataclass(frozen=True, slots=True)
class Log:
    """[log]: what is kept beside the weights."""

    validate_every: int = 1000
    validation_pictures: int = 8
    report_every: int = 20
    save_seconds: float = 60.0
    tensorboard: bool = False


SHARES = ("screen_share", "pattern_share", "fine_share", "newer_share", "still_share")
"""Keys of `Make` that ClipSources has, too."""


@dataclass(frozen=True, slots=True)
class Make:
    """[[make]]: a part of the pool of coded clips, and what it is made from."""

    count: int
    """Clips."""
    clips: tuple[str, ...] = ()
    """Folders of clips."""
    pictures: tuple[str, ...] = ()
    """Folders of stills."""
    screen_share: float = 0.0
    """Share of clips that are graphics and text, see ClipSources."""
    pattern_share: float = 0.0
    """Share of clips that are fine patterns and changing light, see ClipSources."""
    fine_share: float = 0.0
    """Share of clips coded finely by fast settings, see ClipSources."""
    newer_share: float = 0.0
    """Share of clips of codecs newer than H.264, see ClipSources."""
    still_share: float = 0.25
    """Share of those that are stills, see ClipSources."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0 or self.seed < 0:
            raise UsageError("make: count and seed are at least 0")
        check_unit(self, *SHARES)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The whole file."""

    name: str
    output: str
    """Folder for checkpoint, log, curves and the exported model."""
    data: Data
    damage: Damage = field(default_factory=Damage)
    network: Network = field(default_factory=Network)
    loss: Loss = field(default_factory=Loss)
    schedule: Schedule = field(default_factory=Schedule)
    seam: Seam = field(default_factory=Seam)
    log: Log = field(default_factory=Log)
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self)

    @property
    def scale(self) -> int:
        """By how much the network enlarges: what the damage's `downscale` shrinks."""
        return parse_spec(self.damage.specs[0]).scale if self.damage.kind == "spec" else 1

    @property
    def side_step(self) -> int:
        """Pixels by which the sides of reference pictures go: whole blocks, and whole pixels once shrunk."""
        return math.lcm(8, self.scale)

    @property
    def cells(self) -> Kind | None:
        """The kind of cells that the network sees, None where it sees pixels."""
        network = self.network
        able = network.architecture == "ns_restore" and self.damage.kind == "spec" and self.scale == 1
        return as_kind(network.conditioning) if able else None


def _check(config: TrainingConfig) -> None:
    def need(good: bool, why: str) -> None:
        if not good:
            raise UsageError(f"training {config.name!r}: {why}")

    data, damage, schedule = config.data, config.damage, config.schedule
    plain = config.name == PureWindowsPath(config.name).name and config.name not in ("", "..")
    need(plain, "name is that of the model's file in the output folder: no folders in it")
    check_seed(config.seed)
    need(bool(data.sources), "data.sources is empty")
    need(all(0 < source.weight < math.inf for source in data.sources), "the weight of a source must be positive")
    need(data.crop % 8 == 0 and data.crop >= 32, "data.crop must be a multiple of 8, at least 32")
    need(data.batch >= 1 and data.workers >= 0, "data.batch must be at least 1 and data.workers at least 0")
    need(data.hold_out == 0 or data.hold_out >= 2, "data.hold_out must be 0 or at least 2")
    need(damage.kind in KINDS, f"damage.kind is one of {', '.join(KINDS)}")
    need((damage.kind == "spec") == bool(damage.specs), 'damage.specs belongs to damage.kind = "spec"')
    scales = {parse_spec(text).scale for text in damage.specs}
    need(len(scales) <= 1, "all damage.specs must shrink by the same factor")
    need(data.crop % config.side_step == 0, f"data.crop must be a multiple of {config.side_step} at this downscale")
    need(len(damage.quality) == 2, "damage.quality is a pair of numbers")
    need(1 <= damage.quality[0] <= damage.quality[1] <= 100, "damage.quality must be within 1..100")
    check_unit(damage, "low_quality_share", "other_tables", "off_grid", "saved_twice")
    check_unit(data, "line_sharpened", "graphics_share")
    need(not (data.line_sharpened and config.cells), "data.line_sharpened is for networks that see pixels, not cells")
    need(config.network.architecture in ARCHITECTURES, f"network.architecture is one of {', '.join(ARCHITECTURES)}")
    known = ("", *PITCHES)
    need(config.network.conditioning in known, f"network.conditioning is one of {', '.join(PITCHES)}, or empty")
    fits = not config.network.conditioning or config.cells is not None
    need(fits, "network.conditioning is for ns_restore at scale 1, not for JPEG")
    ours = config.network.architecture == "ns_restore"
    need(ours or not config.network.revive, "network.revive is for ns_restore")
    _check_size(config, need)
    _check_cells(config, need)
    need(schedule.kind in SCHEDULES, f"schedule.kind is one of {', '.join(SCHEDULES)}")
    need(schedule.optimizer in OPTIMIZERS, f"schedule.optimizer is one of {', '.join(OPTIMIZERS)}")
    need(schedule.steps >= 1, "schedule.steps must be positive")
    need(min(schedule.warm_up, schedule.patience) >= 0, "schedule.warm_up and schedule.patience must be at least 0")
    check_unit(schedule, "rate", "least_rate", "factor", "average")
    check_unit(config.loss, "discriminator_rate", "detector_rate")
    need(schedule.rate > 0, "schedule.rate must be positive")
    least = f"schedule.least_rate must be at most schedule.rate; it is {schedule.least_rate:g}"
    need(schedule.least_rate <= schedule.rate, least)
    need(
        0 <= schedule.clip < math.inf and 0 <= config.loss.balance < math.inf,
        "schedule.clip and loss.balance are at least 0",
    )
    need(schedule.precision in ("auto", "bf16", "fp16", "fp32"), "schedule.precision is auto, bf16, fp16 or fp32")
    need(config.loss.discriminator in DISCRIMINATOR_LOSSES, "loss.discriminator is ragan or gan")
    terms = config.loss.make()
    need(bool(terms.weights), "no term of the loss has a weight")
    need(not terms.weight("perceptual") or bool(config.loss.vgg), "the perceptual term needs loss.vgg, a weights file")
    if terms.weight("adversarial"):
        _check_side(config, need)
    seam = config.seam
    need(seam.tile == 0 or (seam.tile % 8 == 0 and seam.overlap % 8 == 0), "seam sizes must be multiples of 8")
    crop, seen = data.crop // config.scale, "data.crop" if config.scale == 1 else "data.crop / downscale"
    need(seam.tile == 0 or 0 <= seam.overlap < seam.tile < crop, f"seam: overlap < tile < {seen}, which is {crop}")
    if config.network.architecture == "hat":
        side, window = seam.tile or crop, HAT_SIZES[config.network.size]
        need(-side % window < side, f"hat sees {side} px (data.crop / downscale, or seam.tile), less than its windows")
    log = config.log
    often = min(log.validate_every, log.validation_pictures, log.report_every)
    need(often >= 1, "log.validate_every, log.validation_pictures and log.report_every must be at least 1")
    need(log.save_seconds >= 0, f"log.save_seconds must be at least 0; it is {log.save_seconds:g}")


def cell_pitch(spec: Degradation, kind: Kind) -> int:
    """Side in px of the cells that a damage makes; 0 where it makes none of that kind."""
    step = spec.steps[0]
    makes, key = ("mosaic", "p") if kind == "mosaic" else ("blur-down", "x")
    return int(step.number(key)) if len(spec.steps) == 1 and step.name == makes else 0


def _check_cells(config: TrainingConfig, need: Callable[[bool, str], None]) -> None:
    kind = config.cells
    if kind is None:
        return
    pitches = _pitches(config, kind)
    known = " ".join(str(pitch) for pitch in PITCHES[kind])
    need(set(pitches) <= set(PITCHES[kind]), f"a network that sees {kind} cells learns from cells of {known} px")
    need(config.seam.tile == 0, "seam tiles and cells exclude each other")


def _check_side(config: TrainingConfig, need: Callable[[bool, str], None]) -> None:
    """The discriminator halves the picture again and again."""
    kind, crop = config.cells, config.data.crop
    if kind is not None:  # crops are counted in cells; a batch's may be half a cell less
        pitch = min(_pitches(config, kind))
        crop = crop * pitch - (pitch - 1) // 2
    least = DiscriminatorConfig().least_side
    need(crop >= least, f"the adversarial term sees crops of {crop} px, and needs {least} (data.crop)")


def _pitches(config: TrainingConfig, kind: Kind) -> list[int]:
    return [cell_pitch(parse_spec(text), kind) for text in config.damage.specs]


def _check_size(config: TrainingConfig, need: Callable[[bool, str], None]) -> None:
    name, size = config.network.architecture, config.network.size
    if name == "ns_restore":
        need(size in SIZES, f"network.size is one of {', '.join(SIZES)}")
    elif name == "hat":
        need(size in HAT_SIZES, f"network.size is one of {', '.join(HAT_SIZES)}")
    elif name == "rcan":
        said = "network.size is groups x blocks x channels (16 or more), for example 5x3x32"
        need(bool(_RCAN_SIZE.fullmatch(size)), said)
    enlarges = config.scale > 1
    need(name in ENLARGING or not enlarges, f"{name} does not enlarge")
    scales = (1, 2, 3, 4) if name == "ns_restore" else (1, 2, 3, 4, 8)
    need(config.scale in scales, f"{name} does not enlarge {config.scale} times")
    need(name not in ("rcan", "hat") or enlarges, f"{name} enlarges: damage.specs must hold downscale:x=2 or more")


def _build(kind: type[Any], table: dict[str, Any], where: str = "") -> Any:
    """A dataclass from a TOML table; nested tables and arrays of tables too. `where`: the table's name in the file."""
    hints, begins = get_type_hints(kind), f"{where}." if where else ""
    if unknown := sorted(set(table) - set(hints)):
        near = [name for key in unknown for name in get_close_matches(key, hints, 1)]
        meant = f"is {' or '.join(near)} meant? " if near else ""
        what = f"unknown key{'s' * (len(unknown) > 1)}: {', '.join(begins + key for key in unknown)}"
        raise UsageError(what, remedy=f"{meant}known are {', '.join(hints)}")
    lacking = [item.name for item in dataclasses.fields(kind) if item.name not in table and _is_needed(item)]
    if lacking:
        raise UsageError(f"{where or 'it'} lacks {', '.join(lacking)}", remedy=_LIKE)
    values: dict[str, Any] = {}
    for key, value in table.items():
        wanted, place = hints[key], begins + key
        if dataclasses.is_dataclass(wanted):
            if not isinstance(value, dict):
                raise UsageError(f"{place} must be a table, not {value!r:.60}", remedy=f"begin it with [{place}]")
            values[key] = _build(cast(type[Any], wanted), cast(dict[str, Any], value), place)
        elif key == "sources":
            values[key] = _build_rows(Source, value, place)
        elif key == "terms":
            if not isinstance(value, dict):
                raise UsageError(f"{place} must be a table of name = weight", remedy=f"begin it with [{place}]")
            rows = cast(dict[str, Any], value).items()
            values[key] = tuple((name, _plain(float, weight, f"{place}.{name}")) for name, weight in rows)
        else:
            values[key] = _plain(wanted, value, place)
    return kind(**values)


def _is_needed(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _build_rows(kind: type[Any], value: Any, place: str) -> tuple[Any, ...]:
    rows = cast(list[Any], value) if isinstance(value, list) else []
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{place} must be an array of tables", remedy=f"begin each with [[{place}]]")
    return tuple(_build(kind, row, place) for row in rows)


def _plain(wanted: Any, value: Any, place: str) -> Any:
    if wanted in (Path, Path | None):
        return Path(_plain(str, value, place))
    if get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{place} must be a list, not {value!r:.60}", remedy="lists stand in [brackets]")
        kind = get_args(wanted)[0]  # all are of one type
        return tuple(_plain(kind, item, f"{place}[{i}]") for i, item in enumerate(cast(list[Any], value)))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted in _IN_WORDS and type(value) is not wanted:
        word, remedy = _IN_WORDS[wanted]
        raise UsageError(f"{place} must be {word}, not {value!r:.60}", remedy=remedy)
    return value


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """What is wrong in a file is told with its name."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{printable(path)}: {error.message}", remedy=error.remedy) from error


def read_table(path: Path) -> dict[str, Any]:
    """The tables in a TOML file.

    Raises:
        UsageError: the file can't be read, or is no TOML.
    """
    shown = printable(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{shown}: no such file", remedy=_LIKE) from error
    except OSError as error:
        raise UsageError(f"{shown} can't be read: {error.strerror}", remedy="name a TOML file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown} is no TOML: it is no UTF-8 text", remedy=_LIKE) from error
    except tomllib.TOMLDecodeError as error:
        remedy = "write key = value, texts in quotes, tables as [name]"
        raise UsageError(f"{shown} is no TOML: {printable(str(error))}", remedy=remedy) from error


def read_config(path: Path) -> TrainingConfig:
    """The configuration in a file.

    Raises:
        UsageError: the file can't be read, or a key or value is wrong.
    """
    table = read_table(path)
    with _naming(path):
        return _build(TrainingConfig, table)


def read_makes(path: Path) -> tuple[Make, ...]:
    """The parts of the pool that `[make]`, or each `[[make]]`, of a file asks for.

    Raises:
        UsageError: the file can't be read, or a key or value is wrong.
    """
    make = read_table(path).get("make")
    with _naming(path):
        return () if make is None else _build_rows(Make, [make] if isinstance(make, dict) else make, "make")


def read_flat(kind: type[Flat], path: Path, changes: dict[str, Any]) -> Flat:
    """A dataclass from a file whose keys are its fields, but for `make`; folders are relative to the working directory.

    Raises:
        UsageError: the file can't be read, or a key or value is wrong.
    """
    table = {key: value for key, value in read_table(path).items() if key != "make"}
    with _naming(path):
        return _build(kind, table | changes)
