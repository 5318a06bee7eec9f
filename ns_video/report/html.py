"""The report as one self-contained HTML file: nothing is loaded from anywhere. Jinja2, autoescape on."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ns_video.media.libav import printable
from ns_video.report.build import Built
from ns_video.report.document import COMPARISON, RUN, Report, rounded, signed, to_json
from ns_video.report.pictures import Shown
from ns_video.report.verdict import clock

_PLOT_POINTS = 1500
"""Frames of a comparison that the plot shows; a longer clip is thinned in the HTML, never in the JSON."""

_FIGURES: tuple[tuple[str, str, int, str], ...] = (
    ("ns_iqa", "ns-iqa", 1, "0–100, higher is better; estimates damage of luma, trained on that of codecs"),
    ("block", "blocks", 3, "libav blockdetect: strength of 8-px blocks, lower is better"),
    ("blur", "blur", 2, "libav blurdetect: mean edge width in px, lower is sharper"),
    ("spatial_information", "SI", 1, "ITU-T P.910 spatial information: amount of detail and noise"),
    ("entropy", "entropy", 3, "bits per luma sample"),
    ("luma_mean", "mean luma", 1, "code values of the clip's bit depth"),
    ("saturation_mean", "mean saturation", 1, "libav signalstats"),
)
_FULL_FIGURES: tuple[tuple[str, str, int, str], ...] = (
    ("psnr_y", "PSNR Y", 3, "dB, of the mean squared error of all frames"),
    ("psnr_u", "PSNR U", 3, "dB"),
    ("psnr_v", "PSNR V", 3, "dB"),
    ("psnr_a", "PSNR alpha", 3, "dB, of the transparency"),
    ("psnr_rgb", "PSNR RGB", 3, "dB, after libav's conversion"),
    ("ssim", "SSIM", 5, "all planes, weighted by their samples"),
    ("ssim_y", "SSIM Y", 5, "luma only"),
    ("ms_ssim", "MS-SSIM", 5, "luma, five scales"),
    ("xpsnr", "XPSNR Y", 3, "dB, weighted by what the eye sees"),
    ("xpsnr_u", "XPSNR U", 3, "dB"),
    ("xpsnr_v", "XPSNR V", 3, "dB"),
)
_PAIR_DIGITS = {
    "mse": 3,
    "psnr": 2,
    "mean_difference": 3,
    "largest_difference": 1,
    "edges_kept": 2,
    "histogram_correlation": 4,
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the top of the page. `key` names it in the JSON, with dots between levels."""

    value: str
    label: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure in a table."""

    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """A measure and its figures."""

    name: str
    cells: tuple[Cell, ...]
    says: str


@dataclass(frozen=True, slots=True)
class AudioRow:
    """An audio stream's offsets in words."""

    index: int
    cells: tuple[str, ...]


def _resource(folder: str, name: str) -> str:
    return (files("ns_video.report") / folder / name).read_text(encoding="utf-8")


def _inline_script(name: str) -> Markup:
    # a bundled file of ours or npm's: the only thing that could end the element early is that very tag
    return Markup(_resource("static", name).replace("</script", "<\\/script"))


def _inline_css(name: str) -> Markup:
    return Markup(_resource("static", name).replace("</style", "<\\/style"))


def _licence(name: str) -> str:
    return _resource("static", name)


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a script element, whatever file names and metadata hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _resource("templates", name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions: dict[str, Any] = {"css": _inline_css, "script": _inline_script, "text": _licence, "clock": clock}
    environment.globals.update(functions)
    return environment


def figure(value: float | None, digits: int) -> str:
    """A number as the page shows it."""
    if value is None:
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _tiles(report: Report) -> list[Tile]:
    made: list[Tile] = []
    if report.kind == RUN:
        before, after = report.mean("before"), report.mean("after")
        gain = None if before is None or after is None else after - before
        made += [
            Tile(figure(before, 1), "ns-iqa before", "before.ns_iqa"),
            Tile(figure(after, 1), "ns-iqa after", "after.ns_iqa"),
            Tile("–" if gain is None else signed(gain, 1), "gain"),
        ]
    else:
        made.append(Tile(figure(report.mean(), 1), "ns-iqa of 100", "ns_iqa"))
    if report.kind == COMPARISON:
        made += [
            Tile(figure(report.pooled("psnr_y"), 2), "PSNR Y, dB", "psnr_y"),
            Tile(figure(report.pooled("ssim"), 4), "SSIM", "ssim"),
            Tile(figure(report.pooled("ms_ssim"), 4), "MS-SSIM", "ms_ssim"),
            Tile(figure(report.pooled("xpsnr"), 2), "XPSNR, dB", "xpsnr"),
        ]
    if not report.is_still:
        seen, shots = report.cost.frames_seen, len(report.shots)
        made.append(Tile(str(seen), "frame" if seen == 1 else "frames", "cost.frames_seen"))
        made.append(Tile(str(shots), "shot" if shots == 1 else "shots"))
        flicker = report.temporal.flicker_after if report.kind == RUN else report.temporal.flicker_before
        made.append(Tile(figure(flicker.mean, 2), "flicker, 8-bit steps"))
    if report.run is not None:
        made.append(Tile(f"{report.run.fps:.2f}", "frames a second", "run.fps"))
    return made


def _figures(report: Report) -> list[FigureRow]:
    sides = ("before", "after") if report.kind == RUN else ("judged",)
    prefix = {"before": "before.", "after": "after.", "judged": "means."}
    made = [
        FigureRow(
            words,
            tuple(Cell(figure(report.mean(side, name), digits), prefix[side] + name) for side in sides),
            says,
        )
        for name, words, digits, says in _FIGURES
        if any(report.mean(side, name) is not None for side in sides)
    ]
    if report.kind == COMPARISON:
        made += [
            FigureRow(words, (Cell(figure(report.pooled(name), digits), name),), says)
            for name, words, digits, says in _FULL_FIGURES
            if report.pooled(name) is not None
        ]
    temporal = report.temporal
    if temporal.flicker_before.mean is not None:
        cells = [Cell(figure(temporal.flicker_before.mean, 3))]
        cells += [Cell(figure(temporal.flicker_after.mean, 3))] if report.kind == RUN else []
        made.append(FigureRow("flicker", tuple(cells), "8-bit steps that turn back at once, motion taken out"))
        if report.kind == COMPARISON and temporal.flicker_after.mean is not None:
            made.append(FigureRow("flicker of the reference", (Cell(figure(temporal.flicker_after.mean, 3)),), ""))
    if report.kind == RUN:
        extra = (
            ("change flicker", temporal.change_flicker, "how unsteady the restoration itself is, 8-bit steps"),
            ("luma drift", temporal.luma_drift, "mean luma after less before, 8-bit steps"),
            ("Cb drift", temporal.cb_drift, "8-bit steps"),
            ("Cr drift", temporal.cr_drift, "8-bit steps"),
        )
        made += [
            FigureRow(words, (Cell(""), Cell(figure(series.mean, 3))), says)
            for words, series, says in extra
            if series.mean is not None
        ]
    return made


def _done(report: Report) -> list[tuple[str, str]]:
    run = report.run
    if run is None:
        return []
    stages = ", ".join(
        f"{name} {times.busy_seconds:.1f} s busy, {times.waiting_seconds:.1f} s waiting"
        for name, times in run.stages.items()
    )
    rows = [
        ("input", printable(run.input)),
        ("output", printable(run.output)),
        ("model", run.model.name),
        ("model checksum", run.model.sha256),
        ("preset", run.preset),
        ("device and precision", ", ".join(part for part in (run.device, run.precision) if part)),
        ("tile", f"{run.tile} px" if run.tile else "whole frames"),
        ("frames", f"{run.frames_in} in, {run.frames_out} out, {run.frames_passed_through} passed through"),
        ("time", f"{run.seconds:.1f} s, {run.fps:.2f} frames a second"),
        ("stages", stages),
        ("limiting stage", run.limiting_stage),
        ("peak memory", f"{run.peak_memory_bytes / 2**20:.0f} MiB" if run.peak_memory_bytes else ""),
        ("self-check", run.verified),
        ("version", f"ns-video {run.version}" if run.version else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _audio(report: Report) -> list[AudioRow]:
    made: list[AudioRow] = []
    for entry in report.audio:
        cells = [entry.offset.start_seconds, entry.offset.end_seconds]
        if report.run is not None:
            cells += [entry.before.start_seconds, entry.before.end_seconds] if entry.before else []
        made.append(AudioRow(entry.offset.stream_index, tuple(f"{signed(value, 3)} s" for value in cells)))
    return made


def _thinned(data: dict[str, Any]) -> dict[str, Any]:
    """The JSON as the page needs it: of many frames every n-th and all scored ones; record and lists left out."""
    frames = data["frames"]
    step = max(1, math.ceil(len(frames) / _PLOT_POINTS))
    kept = [frame for number, frame in enumerate(frames) if number % step == 0 or "ns_iqa" in frame]
    return {**data, "frames": kept, "run": None, "damage": [], "streams": [], "warnings": []}


def _uri(data: bytes | None) -> str | None:
    return None if data is None else "data:image/webp;base64," + base64.b64encode(data).decode("ascii")


def picture_to_json(picture: Shown) -> dict[str, Any]:
    """One element of the page's `pictures`."""
    made = dataclasses.asdict(picture)
    made.update({name: _uri(made[name]) for name in ("first", "second", "heat", "edges")})
    made.update(
        pts_seconds=rounded(picture.pts_seconds), before=rounded(picture.before, 3), after=rounded(picture.after, 3)
    )
    if picture.pair is not None:
        pair: dict[str, Any] = made["pair"]
        for name, digits in _PAIR_DIGITS.items():
            pair[name] = "∞" if math.isinf(pair[name]) else rounded(pair[name], digits)
    return made


def _subtitle(report: Report) -> str:
    if report.kind == RUN and report.run is not None:
        return f"restored from {printable(Path(report.run.input).name)}"
    if report.kind == COMPARISON and report.reference is not None:
        return f"compared with {printable(Path(report.reference).name)}"
    return "judged by itself, without a reference"


def _cost(report: Report) -> str:
    cost = report.cost
    share = "" if cost.share is None else f", {100 * cost.share:.1f} % of the run"
    return f"{cost.frames_sampled} of {cost.frames_seen} frames scored in {cost.seconds:.1f} s{share}."


def render(built: Built) -> str:
    """The whole page."""
    report = built.report
    run = report.run
    fallbacks = ""
    if run is not None and run.fallbacks:
        fallbacks = "Fallbacks: " + ", ".join(f"{name} ({count})" for name, count in run.fallbacks.items()) + "."
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=printable(Path(report.clip).name) or "standard output",
            subtitle=_subtitle(report),
            tiles=_tiles(report),
            figures=_figures(report),
            figure_heads=["before", "after"] if report.kind == RUN else ["value"],
            done=_done(report),
            audio=_audio(report),
            fallbacks=fallbacks,
            cost=_cost(report),
            data=embedded_json(_thinned(to_json(report))),
            pictures=embedded_json([picture_to_json(picture) for picture in built.pictures]),
        )
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """A report as the index lists it."""

    name: str
    html: Path
    before: float | None
    after: float | None
    """Mean ns-iqa: of a run of its input and output, else `after` that of the clip."""
    verdict: str
    """The first sentence."""
    damaged_places: int = 0
    """Of the input."""
    frames_passed_through: int = 0
    """Unrestored."""

    @property
    def blemishes(self) -> str:
        """What a run ends with 3 for, in words; empty where there is nothing."""
        places, frames = self.damaged_places, self.frames_passed_through
        parts = [f"damaged in {places} place{'s' * (places > 1)}"] * (places > 0)
        parts += [f"{frames} frame{'s' * (frames > 1)} not restored"] * (frames > 0)
        return ", ".join(parts)

    @property
    def gain(self) -> float | None:
        """Points of ns-iqa, of a run."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A line of the index page."""

    name: str
    href: str
    before: str
    after: str
    gain: str
    verdict: str
    blemishes: str


def render_index(reports: Sequence[Listed], folder: Path) -> str:
    """The page that lists the reports of a folder, in which it lies."""
    gains = [listed.gain for listed in reports if listed.gain is not None]
    parts = [f"mean gain {signed(math.fsum(gains) / len(gains), 1)} points of ns-iqa"] if gains else []
    damaged = sum(bool(listed.blemishes) for listed in reports)
    parts += [f"{damaged} damaged or not wholly restored"] * (damaged > 0)
    rows = [_index_row(listed, folder) for listed in reports]
    return _environment().get_template("index.html.j2").render(rows=rows, summary=", ".join(parts))


def _index_row(listed: Listed, folder: Path) -> IndexRow:
    html = listed.html
    relative = html.relative_to(folder) if html.is_relative_to(folder) else html
    return IndexRow(
        name=printable(listed.name),
        href=urllib.parse.quote(os.fsencode(relative.as_posix())),
        before=figure(listed.before, 1),
        after=figure(listed.after, 1),
        gain="–" if listed.gain is None else signed(listed.gain, 1),
        verdict=listed.verdict,
        blemishes=listed.blemishes,
    )
