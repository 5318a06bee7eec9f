"""`ns-video models`: what is installed, its card, its checksums, what suits a picture. Only the last imports torch."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ns_video.cli import columns, emit, say
from ns_video.cli.local_file import LocalFile, NamedPath
from ns_video.errors import UnknownModelError, printable

if TYPE_CHECKING:
    from ns_video.cards import Card, Figures
    from ns_video.recommend import Recommendation

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group(name="models")
def command() -> None:
    """Show the installed models."""


def _record(card: Card) -> dict[str, object]:
    record = dataclasses.asdict(card)
    record.update(path=str(card.path), weights=str(card.weights))
    return record


@command.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """List the installed models, one a line."""
    from ns_video.cards import read_cards

    cards, wrong = read_cards()
    for _, error in wrong:
        say(f"note: {error}")
    if as_json:
        for card in cards:
            emit(_record(card))
    elif cards:
        rows = [("name", "parameters", "scale", "title")]
        rows += [(card.name, f"{card.parameters:,}", f"×{card.scale}", card.title) for card in cards]
        click.echo(columns(rows))
    else:
        click.echo("No model is installed.", err=True)


def _figures_text(table: Figures) -> str:
    rows = [table.columns] if table.columns else []
    rows += [tuple(f"{cell}" for cell in cells) for cells in table.rows]
    lines = [table.title, f"  {table.protocol}", f"  $ {table.command}"]
    lines += [f"    {line}" for line in columns(rows).splitlines()] if rows else []
    return "\n".join(lines)


def _card_text(card: Card) -> str:
    training = card.training
    made = f"{training.steps:,} steps, {training.minutes:g} minutes, {training.hardware}"
    facts = [
        ("task", card.task),
        ("architecture", f"{card.architecture}, {card.parameters:,} parameters, ×{card.scale}"),
        (
            "reads",
            f"{card.domain}, {card.frames} frame{'s' if card.frames > 1 else ''}, side data: {card.conditioning}",
        ),
        ("licence", card.licence),
        ("training", f"{made}, {training.recipe}" if training.recipe else made),
        ("weights", printable(str(card.weights))),
        ("sha256", card.sha256),
    ]
    parts = [f"{card.name}: {card.title}", columns(facts)]
    lists = (
        ("Trained on", [f"{row.name}{f', {row.amount}' if row.amount else ''} ({row.licence})" for row in card.data]),
        ("Degradations", list(card.degradations)),
        ("Known failures", list(card.known_failures)),
    )
    parts += ["\n".join([title, *(f"  - {item}" for item in items)]) for title, items in lists if items]
    parts += [_figures_text(table) for table in card.figures]
    return "\n\n".join(parts)


@command.command("show")
@click.argument("name")
@_json_option
def show(name: str, as_json: bool) -> None:
    """Show the card of the model NAME."""
    from ns_video.cards import find_card, list_cards

    card = find_card(name)
    if card is None:
        names = ", ".join(known.name for known in list_cards()) or "none"
        raise UnknownModelError(f"there is no card of a model '{name}'", remedy=f"installed are: {names}")
    if as_json:
        emit(_record(card))
    else:
        click.echo(_card_text(card))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verdict(card: Card) -> tuple[bool, str]:
    """Whether the weights are what the card says, and what is wrong."""
    path = card.weights
    if path is None or not path.is_file():
        return False, "its weights are missing"
    try:
        found = _checksum(path)
    except OSError as error:
        return False, f"its weights can't be read: {error.strerror or error}"
    return (True, "") if found == card.sha256 else (False, f"its weights have the checksum {found}")


@command.command("verify")
@_json_option
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Compare weights with the checksums on their cards.

    Exit 1 if any differs, or a card can't be read.
    """
    from ns_video.cards import read_cards

    cards, unread = read_cards()
    wrong = len(unread)
    for path, error in unread:
        if as_json:
            emit({"name": path.stem, "ok": False, "sha256": None, "why": str(error)})
        else:
            click.echo(f"{printable(path.stem)}: {error}")
    for card in cards:
        good, why = _verdict(card)
        wrong += not good
        if as_json:
            emit({"name": card.name, "ok": good, "sha256": card.sha256, "why": why})
        else:
            click.echo(f"{card.name}: {'ok' if good else why}")
    if wrong:
        context.exit(1)


@command.command("recommend")
@click.argument("picture", type=LocalFile())
@click.option("--classifier", type=NamedPath(), help="Weights of an NS-C network, to ask it too.")
@click.option("--labels", type=LocalFile(), help="The classifier's labels file, a class a line.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=None, help="Largest picture that is opened.")
@_json_option
def recommend(
    picture: Path, classifier: Path | None, labels: Path | None, max_pixels: int | None, as_json: bool
) -> None:
    """Say which model suits PICTURE, and why."""
    if (classifier is None) != (labels is None):
        raise click.UsageError("--classifier and --labels go together")
    from ns_video.media.decode import MAX_PIXELS
    from ns_video.media.still import read_still
    from ns_video.recommend import classes_of
    from ns_video.recommend import recommend as look_at

    frame, _ = read_still(picture, max_pixels=max_pixels or MAX_PIXELS)
    found = look_at(frame)
    classes = [] if classifier is None or labels is None else classes_of(frame, classifier, labels)
    if as_json:
        emit(
            {
                "model": found.model,
                "drawn_db": round(found.drawn_db, 3),
                "coded_step": None if found.coded is None else round(float(found.coded.step.mean()), 2),
                "jpeg": found.jpeg is not None,
                "jpeg_quality": None if found.jpeg is None else found.jpeg.quality,
                "mosaic_px": found.mosaic_px,
                "shrunk_px": found.shrunk_px,
                "classes": [{"label": label, "probability": round(share, 4)} for label, share in classes],
            }
        )
        return
    click.echo("\n".join([found.model, *(f"  {line}" for line in _reasons(found))]))
    if classes:
        click.echo("\n" + columns([("class", "probability"), *((name, f"{share:.1%}") for name, share in classes)]))


def _reasons(found: Recommendation) -> list[str]:
    from ns_video.recommend import CODED, DRAWN, PHOTOGRAPHED

    looks = f"looks {'drawn' if found.drawn_db > 0 else 'photographed'}"
    better, other = (DRAWN, PHOTOGRAPHED) if found.drawn_db > 0 else (PHOTOGRAPHED, DRAWN)
    reasons = [f"{looks}: {better} is expected to gain {abs(found.drawn_db):.1f} dB more than {other}"]
    if found.mosaic_px:
        reasons.append(f"is made of blocks of {found.mosaic_px} px, which mosaic restores unless it was drawn so")
    if found.shrunk_px:
        reasons.append(f"was shrunk by {found.shrunk_px} and enlarged again, which deblur restores")
    if found.coded is not None:
        reasons.append(f"was coded by a video codec (lossy WebP or AVIF), which {CODED} restores")
    if found.jpeg is None:
        reasons.append(f"shows no loss by JPEG: {PHOTOGRAPHED} and {DRAWN} leave it as it is")
    elif found.jpeg.quality is not None:
        reasons.append(f"was a JPEG of about quality {found.jpeg.quality}")
    else:
        reasons.append("was a JPEG")
    return reasons
