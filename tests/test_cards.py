"""Model cards: read strictly, written so that they are read back equal."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_video.cards import (
    CONDITIONINGS,
    DOMAINS,
    Card,
    DataRow,
    Figures,
    Training,
    find_card,
    format_card,
    list_cards,
    parse_card,
    read_card,
    write_card,
)
from ns_video.errors import ModelError
from ns_video.resources import models_dir

CARD = Card(
    name="tiny",
    title='A "small" one',
    task="JPEG stills",
    architecture="ns_restore",
    parameters=99_228,
    scale=1,
    domain="rgb",
    conditioning="jpeg",
    frames=1,
    sha256="0123456789abcdef" * 4,
    licence="Apache-2.0",
    data=(DataRow("T91", "research", "91 pictures"), DataRow("SYNLA+", "MIT")),
    degradations=("jpeg q 5–95, 4:2:0 and 4:4:4",),
    training=Training(steps=1000, minutes=12.5, hardware="2 CPU cores", recipe="pipelines/training/photo.toml"),
    figures=(Figures("LIVE1", "RGB PSNR, 4:2:0", "ns-video evaluate …", ("q", "gain"), ((10, 1.31), ("mean", 1.2))),),
    known_failures=("text on flat ground\tis \\ softened\nsometimes",),
)

CARD_TEXT = format_card(CARD)


def write(folder: Path, card: Card = CARD) -> Path:
    path = folder / f"{card.name}.toml"
    write_card(card, path)
    return path


def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path)
    card = read_card(path)
    assert card == CARD
    assert card.path == path
    assert card.weights == tmp_path / "tiny.safetensors"


text = st.text(st.characters(codec="utf-8"), max_size=20)
words = text.filter(lambda value: bool(value.strip()))
cells = st.one_of(text, st.integers(-(2**60), 2**60), st.floats(allow_nan=False))
figures = st.integers(0, 3).flatmap(
    lambda width: st.builds(
        Figures,
        words,
        words,
        words,
        st.tuples(*[text] * width),
        st.lists(st.tuples(*[cells] * width), max_size=3).map(tuple),
    )
)
cards = st.builds(
    Card,
    name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,10}\Z"),
    title=words,
    task=words,
    architecture=words,
    parameters=st.integers(0, 2**40),
    scale=st.integers(1, 8),
    domain=st.sampled_from(DOMAINS),
    conditioning=st.sampled_from(CONDITIONINGS),
    frames=st.sampled_from([1, 3, 5]),
    sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    licence=words,
    data=st.lists(st.builds(DataRow, words, words, text), max_size=3).map(tuple),
    degradations=st.lists(text, max_size=3).map(tuple),
    training=st.builds(Training, st.integers(0, 10**9), st.floats(0, 1e6), words, text),
    figures=st.lists(figures, max_size=2).map(tuple),
    known_failures=st.lists(text, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(card=cards)
def test_any_card_is_read_back_as_it_was_written(card: Card) -> None:
    assert parse_card(format_card(card)) == card


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_card_is_a_model_error_or_a_card(data: st.DataObject) -> None:
    whole = CARD_TEXT.encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 40)))
    damaged = whole[:begin] + data.draw(st.binary(max_size=8)) + whole[end:]
    try:
        card = parse_card(damaged.decode("utf-8", "replace"))
    except ModelError as error:
        assert "model card" in str(error)
    else:
        assert isinstance(card, Card)


REQUIRED = [
    *("name", "title", "task", "architecture", "parameters", "scale", "domain", "conditioning", "frames", "sha256"),
    *("licence", "degradations", "known_failures"),
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    start = CARD_TEXT.index(f"\n{key} = ") + 1 if not CARD_TEXT.startswith(f"{key} = ") else 0
    end = (
        CARD_TEXT.index("\n]\n", start) + 3
        if key in ("degradations", "known_failures")
        else CARD_TEXT.index("\n", start)
    )
    with pytest.raises(ModelError, match=f"key '{key}' is missing"):
        parse_card(CARD_TEXT[:start] + CARD_TEXT[end:])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frames = 1", "frames = 2", "'frames' must be odd"),
        ("scale = 1", "scale = 0", "'scale' must be a whole number of at least 1"),
        ("scale = 1", "scale = true", "'scale' must be a whole number"),
        ("parameters = 99228", 'parameters = "99228"', "'parameters' must be a whole number"),
        ('domain = "rgb"', 'domain = "cmyk"', "'domain' must be one of rgb, ycbcr"),
        ('conditioning = "jpeg"', 'conditioning = "webp"', "'conditioning' must be one of none, jpeg, quantiser"),
        ('sha256 = "01', 'sha256 = "0', "'sha256' must be 64 hexadecimal digits"),
        ('name = "tiny"', 'name = "../tiny"', "'name' may hold letters"),
        ('licence = "MIT"', "", r"'data\[1\].licence' is missing"),
        ("steps = 1000", "steps = -1", "'training.steps' must be a whole number"),
        ("minutes = 12.5", "minutes = nan", "'training.minutes' must be a number"),
        ("[10, 1.31]", "[10]", r"'figures\[0\].rows' has a row of 1 cells under 2 columns"),
        ('title = "LIVE1"', 'title = ""', r"'figures\[0\].title' is empty"),
        ("[training]", "[trainin]", "'training' is missing"),
        ("[training]", "[training", "is no TOML"),
    ],
)
def test_a_wrong_value_is_named(old: str, new: str, message: str) -> None:
    assert old in CARD_TEXT
    with pytest.raises(ModelError, match=message):
        parse_card(CARD_TEXT.replace(old, new, 1))


def test_a_card_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    with pytest.raises(ModelError, match="sha256"):
        write_card(dataclasses.replace(CARD, sha256="none"), path)
    assert not path.exists()


def test_a_card_must_be_named_as_its_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(ModelError, match="names another model, 'tiny'"):
        read_card(path.rename(tmp_path / "other.toml"))


def test_a_card_that_is_no_text_or_far_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="can't be read"):
        read_card(path)
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ModelError, match="larger than"):
        read_card(path)


def test_the_first_folder_that_has_a_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    write(first, dataclasses.replace(CARD, title="first"))
    write(second, dataclasses.replace(CARD, title="second"))
    write(second, dataclasses.replace(CARD, name="other"))
    monkeypatch.setenv("NS_VIDEO_MODELS", f"{first}:{second}")
    found = find_card("tiny")
    assert found is not None and found.title == "first"
    names = [card.name for card in list_cards()]
    assert names == sorted(names)
    assert names.count("tiny") == 1 and "other" in names
    assert find_card("../a/tiny") is None


def test_every_shipped_card_can_be_read_and_has_its_weights() -> None:
    paths = sorted(models_dir().glob("*.toml"))
    for path in paths:
        card = read_card(path)
        assert card.weights is not None and card.weights.is_file(), path
        sets = [row.name for row in card.data]
        assert len(set(sets)) == len(sets) and card.name not in sets, path
    assert {path.stem for path in models_dir().glob("*.safetensors")} == {path.stem for path in paths}


def test_listing_cards_does_not_import_torch() -> None:
    code = "import sys, ns_video.cards as c; c.list_cards(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL).returncode == 0
