"""`ns-video degrade`: makes damaged material, to train with and to measure on."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ns_video.cli import say
from ns_video.cli.local_file import LocalFile, NamedPath
from ns_video.errors import UsageError, printable


def _describe(ctx: click.Context, _parameter: click.Parameter, spec: str) -> str:
    if spec == "help":
        from ns_video.media.degrade import describe

        click.echo(describe())
        ctx.exit()
    return spec


@click.command(name="degrade")
@click.argument("source", metavar="INPUT", type=LocalFile())
@click.argument("output", metavar="OUTPUT", type=NamedPath())
@click.option(
    "--spec",
    required=True,
    is_eager=True,  # `help` needs no INPUT
    callback=_describe,
    help="For example jpeg:q=10, noise:sigma=5+h264:crf=30; `help` lists all.",
)
@click.option("--seed", default=0, show_default=True, help="Same input, SPEC and seed: same damage.")
@click.option("--frames", type=click.IntRange(min=0), default=0, help="Stop after this many frames of a clip.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=None, help="Largest picture that is opened.")
@click.option("--overwrite", "-y", is_flag=True, help="Replace OUTPUT if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.pass_context
def command(
    ctx: click.Context,
    source: Path,
    output: Path,
    spec: str,
    seed: int,
    frames: int,
    max_pixels: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Damage INPUT (a picture or a clip) as SPEC says and write OUTPUT.

    A SPEC is name:key=value,... and several are joined with +. A picture goes to PNG, or to .jpg, .webp or .avif where
    the SPEC ends in jpeg (with exactly those tables), webp or avif; a clip to .mkv or .mp4 with the codec that the SPEC
    ends in, else lossless. All but the pictures is kept (a clip's sound, a photo's EXIF), as far as OUTPUT holds it.
    """
    from ns_video.media.decode import MAX_PIXELS
    from ns_video.media.degrade import parse_spec
    from ns_video.media.degraded_clip import degrade_clip
    from ns_video.media.degraded_still import degrade_file
    from ns_video.media.probe import still_format
    from ns_video.media.still_writer import still_suffix

    quiet = bool(ctx.obj and ctx.obj["quiet"])
    degradation, most = parse_spec(spec), max_pixels or MAX_PIXELS
    if str(output) == "-":
        raise UsageError("damaged material is written into a file, not a pipe", remedy="name a file for OUTPUT")
    if output.exists():
        if output.resolve() == source.resolve():
            raise UsageError("INPUT and OUTPUT are the same file")
        if not overwrite:
            raise UsageError(f"{output} exists", remedy="give --overwrite")
    if still_format(source) is None:
        if still_suffix(str(output)) is not None:
            raise UsageError(f"{printable(source)} is no still; {printable(output)} is", remedy="write .mkv or .mp4")
        outcome = degrade_clip(source, output, degradation, seed, frames, max_pixels=most)
        notes = outcome.notes
        result: dict[str, object] = {
            "output": str(output),
            "spec": str(degradation),
            "frames": outcome.frames,
            "codec": outcome.codec,
            "bytes": outcome.payload_bytes,
        }
    else:
        if frames:
            raise UsageError(f"{printable(source)} is a still; --frames is for clips")
        still = degrade_file(source, output, degradation, seed, max_pixels=most)
        notes = still.notes
        result = {
            "output": str(output),
            "spec": str(degradation),
            "width": still.width,
            "height": still.height,
        }
    for note in notes if not quiet else ():
        say(f"note: {note}")
    click.echo(json.dumps(result) if as_json else f"{printable(output)}: {degradation}")
