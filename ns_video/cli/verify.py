"""ns-video verify."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ns_video.cli.local_file import LocalFile


@click.command()
@click.argument("input", type=LocalFile())
@click.argument("output", type=LocalFile())
@click.option(
    "--full/--structure",
    default=True,
    show_default=True,
    help="Decode OUTPUT, or only its first frame and read its packets; INPUT is decoded all the same.",
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=None, help="Largest picture that is opened.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def command(ctx: click.Context, input: Path, output: Path, full: bool, max_pixels: int | None, as_json: bool) -> int:
    """Check frames, times, streams and tags of OUTPUT against INPUT; exit 1 names each difference.

    What OUTPUT's container can't hold is no difference; it is named, too.
    """
    from ns_video.media.decode import MAX_PIXELS
    from ns_video.pipeline import verify

    notes: list[str] = []
    differences = verify(input, output, full=full, notes=notes, max_pixels=max_pixels or MAX_PIXELS)
    if as_json:
        whats = [d.what for d in differences]
        click.echo(json.dumps({"same": not differences, "differences": whats, "notes": notes}))
    else:
        for what in [d.what for d in differences] or ["the output is what the input promised"]:
            click.echo(what)
        quiet = bool(ctx.obj and ctx.obj["quiet"])
        for note in notes if not quiet else ():
            click.echo(f"note: {note}", err=True)
    return 1 if differences else 0
