"""ns-video bench: stage speeds alone and together on this machine."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ns_video.cli import columns, emit, say
from ns_video.cli.local_file import LocalFile
from ns_video.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ns_video.bench import BenchOptions, ClipBench, PictureSpeed, StageSpeed


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    width, cross, height = value.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal() or min(int(width), int(height)) < 16:
        raise click.BadParameter("give WIDTHxHEIGHT, 16 or more each")
    return int(width) // 2 * 2, int(height) // 2 * 2


def _tiles(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[int | None, ...]:
    for value in values:
        if value != "auto" and not value.isdecimal():
            raise click.BadParameter("give a number or auto")
    return tuple(None if value == "auto" else int(value) for value in values)


def _seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which lies in every FloatRange
        raise click.BadParameter("give a number")
    return value


@click.command()
@click.argument("clip", required=False, type=LocalFile())
@click.option("--model", "models", multiple=True, help="What to measure; several are measured one after the other.")
@click.option("--preset", default="auto", show_default=True, help="Whose clip model and encoder speed to take.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda (all GPUs), cuda:N, cuda:0,cuda:1, mps.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
    multiple=True,
    default=("auto",),
    show_default=True,
)
@click.option("--tile", "tiles", multiple=True, default=("auto",), callback=_tiles, help="Tile side in px, or auto.")
@click.option("--size", default="640x480", callback=_size, show_default=True, help="Of the clip made without CLIP.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.2, 600),
    callback=_seconds,
    default=10.0,
    show_default=True,
    help="Per measurement.",
)
@click.option("--pictures", is_flag=True, help="NS-IC's own benchmark instead: 1280x640, its tiles and three others.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def command(
    ctx: click.Context,
    clip: Path | None,
    models: tuple[str, ...],
    preset: str,
    device: str,
    precisions: tuple[str, ...],
    tiles: tuple[int | None, ...],
    size: tuple[int, int],
    seconds: float,
    pictures: bool,
    as_json: bool,
) -> None:
    """Measure decode, enhance and encode alone and all together, on CLIP or on a clip made on the spot."""
    import tempfile
    from pathlib import Path

    from ns_video.bench import BenchOptions
    from ns_video.device import pick_devices
    from ns_video.media.bench_clip import RATE, make_clip
    from ns_video.media.libav import check_input_file
    from ns_video.preset import load_preset
    from ns_video.weights import load_descriptor

    if "" in models:
        raise UsageError("model is empty", remedy="a shell's variable may not be set")
    if pictures:
        _refuse(ctx, "clip", "tiles", "size", "seconds")
    if clip is not None:
        check_input_file(clip)
    chosen = load_preset(preset)
    options = BenchOptions(
        models=models or (chosen.models("clip")[pick_devices(device)[0].type != "cpu"],),
        device=device,
        precisions=precisions,
        tiles=tiles,
        seconds=seconds,
        speed=chosen.speed,
        integers=chosen.integers,
    )
    for model in options.models:
        load_descriptor(model)  # one that isn't there fails at once, not after what the others take
    quiet = bool((ctx.obj or {}).get("quiet"))
    if pictures:
        rows = _pictures(options, quiet)
        if as_json:
            for row in rows:
                emit(dataclasses.asdict(row))
        else:
            click.echo(_picture_table(rows))
        return
    with tempfile.TemporaryDirectory(prefix="ns-video-bench-") as folder:
        path = clip or Path(folder) / f"made-{size[0]}x{size[1]}.mkv"
        if clip is None:
            _note("making a clip", quiet)
            make_clip(path, *size, frames=10 * RATE)
        result = _measure(path, Path(folder), options, quiet)
    if as_json:
        emit(dataclasses.asdict(result))
    else:
        click.echo(_clip_table(result))


def _refuse(ctx: click.Context, *names: str) -> None:
    """Raises UsageError for a parameter that `--pictures` has no use for and that was given all the same."""
    for parameter in ctx.command.params:
        if parameter.name in names and ctx.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            shown = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            raise UsageError(f"{shown} has no meaning with --pictures, whose picture and tiles are fixed")


def _note(text: str, quiet: bool) -> None:
    if not quiet:
        say(f"{text} …")


def _measure(path: Any, folder: Any, options: BenchOptions, quiet: bool) -> ClipBench:
    from ns_video.bench import measure_clip

    steps = measure_clip(path, folder, options)
    while True:
        try:
            _note(next(steps), quiet)
        except StopIteration as done:
            return done.value


def _pictures(options: BenchOptions, quiet: bool) -> list[PictureSpeed]:
    from ns_video.bench import measure_pictures

    rows: list[PictureSpeed] = []
    precisions = ("fp32", "auto") if options.precisions == ("auto",) else options.precisions
    for model in options.models:
        for row in measure_pictures(model, options.device, precisions):
            _note(f"{row.model} {row.precision}, tile {row.tile}: {row.seconds_per_picture:.2f} s", quiet)
            rows.append(row)
    return rows


def _speed_cells(speed: StageSpeed) -> tuple[str, ...]:
    return f"{speed.fps:.2f}", f"{speed.megapixels_per_second:.2f}", f"{speed.cpu_ms_per_frame:.1f}"


def _clip_table(result: ClipBench) -> str:
    rows: list[tuple[str, ...]] = [("stage", "fps", "MP/s", "CPU ms/frame", "")]
    rows.append(("decode alone", *_speed_cells(result.decode), ""))
    for row in result.enhance:
        share = f" = {row.share_of_peak:.0%} of the matrix product" if row.share_of_peak else ""
        notes = (
            f"{row.precision}, tile {row.tile or 'whole'}, {row.gflops:.0f} GFLOP/s{share}"
            f", {row.peak_memory_bytes / 2**20:.0f} MiB"
        )
        rows.append((f"enhance alone, {row.model}", *_speed_cells(row.speed), notes))
    rows.append(("encode alone", *_speed_cells(result.encode), ""))
    for run in result.whole:
        notes = (
            f"{run.precision}, limited by {run.limiting_stage}, {run.share_of_slowest:.2f} of the slowest alone,"
            f" {run.share_of_processor:.2f} of the processor time, first frame after {run.seconds_to_first_frame:.2f} s"
        )
        rows.append((f"all together, {run.model}", *_speed_cells(run.speed), notes))
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in result.peaks.matrix_gflops.items())
    head = (
        f"{result.clip}: {result.width}x{result.height}, {result.cores} cores\n"
        f"{result.peaks.device}: matrix product {rates}; copy {result.peaks.copy_gbytes:.1f} GB/s"
    )
    return f"{head}\n{columns(rows)}\npeak memory {result.peak_memory_bytes / 2**20:.0f} MiB"


def _picture_table(rows: list[PictureSpeed]) -> str:
    table: list[tuple[str, ...]] = [("model", "device", "precision", "tile", "overlap", "s/picture", "MP/s")]
    for row in rows:
        cells = (row.model, row.device, row.precision, str(row.tile), str(row.overlap))
        table.append((*cells, f"{row.seconds_per_picture:.3f}", f"{row.megapixels_per_second:.3f}"))
    return columns(table)
