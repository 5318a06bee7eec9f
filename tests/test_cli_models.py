"""`ns-video models`: list, show and verify, as text and as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ns_video.cards import Card, DataRow, Figures, Training, write_card
from ns_video.cli.models import command
from ns_video.errors import ModelError

CARD = Card(
    name="zz-first",
    title="Pictures, restored",
    task="JPEG stills",
    architecture="ns_restore",
    parameters=357_964,
    scale=1,
    domain="rgb",
    conditioning="jpeg",
    frames=1,
    sha256="0" * 64,
    licence="Apache-2.0",
    data=(DataRow("T91", "research set", "91 pictures"),),
    degradations=("jpeg q 10–95",),
    training=Training(1000, 12.0, "2 CPU cores"),
    figures=(Figures("LIVE1", "RGB PSNR", "ns-video evaluate", ("q", "gain in dB"), ((10, 1.31),)),),
    known_failures=("text goes soft",),
)


@pytest.fixture
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models zz-first and zz-second, whose weights are as their cards say."""
    for name in ("zz-first", "zz-second"):
        data = f"weights of {name}".encode()
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        write_card(dataclasses.replace(CARD, name=name, sha256=digest), tmp_path / f"{name}.toml")
    monkeypatch.setenv("NS_VIDEO_MODELS", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def records(result: Result) -> dict[str, dict[str, object]]:
    return {record["name"]: record for record in map(json.loads, result.stdout.splitlines())}


def test_list_names_every_model(two_models: Path) -> None:
    result = run("list")
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if line.startswith("zz-")]
    assert [line.split()[0] for line in lines] == ["zz-first", "zz-second"]
    assert "357,964" in lines[0] and "Pictures, restored" in lines[0]


def test_list_as_json_is_one_object_a_line(two_models: Path) -> None:
    found = records(run("list", "--json"))
    assert found["zz-first"]["parameters"] == 357_964
    assert found["zz-first"]["weights"] == str(two_models / "zz-first.safetensors")
    assert found["zz-second"]["known_failures"] == ["text goes soft"]


def test_show_prints_the_whole_card(two_models: Path) -> None:
    text = run("show", "zz-first").stdout
    for part in (
        "T91",
        "91 pictures",
        "research set",
        "jpeg q 10–95",
        "text goes soft",
        "1.31",
        "gain in dB",
        "12 minutes",
    ):
        assert part in text
    assert json.loads(run("show", "zz-first", "--json").stdout)["data"] == [
        {"name": "T91", "licence": "research set", "amount": "91 pictures"}
    ]


def test_show_of_an_unknown_model_names_the_installed_ones(two_models: Path) -> None:
    result = run("show", "nonsense")
    assert result.exit_code != 0
    assert isinstance(result.exception, ModelError)
    assert "zz-first, zz-second" in str(result.exception)


def test_verify_accepts_what_is_as_its_card_says(two_models: Path) -> None:
    result = run("verify")
    assert result.exit_code == 0, result.stdout
    assert "zz-first: ok" in result.stdout.splitlines()
    assert all(record["ok"] is True for record in records(run("verify", "--json")).values())


def test_verify_finds_a_changed_byte_and_a_missing_file(two_models: Path) -> None:
    path = two_models / "zz-first.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (two_models / "zz-second.safetensors").unlink()
    result = run("verify", "--json")
    assert result.exit_code == 1
    found = records(result)
    assert found["zz-first"]["ok"] is False
    assert hashlib.sha256(path.read_bytes()).hexdigest() in str(found["zz-first"]["why"])
    assert found["zz-second"]["why"] == "its weights are missing"
    text = run("verify")
    assert text.exit_code == 1
    assert "zz-second: its weights are missing" in text.stdout


def test_a_card_that_cannot_be_read_hides_no_other(two_models: Path) -> None:
    (two_models / "foreign.toml").write_text("[tool]\n")
    listed = run("list")
    assert listed.exit_code == 0 and "zz-second" in listed.stdout and "foreign.toml" in listed.stderr
    verified = run("verify", "--json")
    found = records(verified)
    assert verified.exit_code == 1 and found["zz-first"]["ok"] is True
    assert found["foreign"]["ok"] is False and "key 'name' is missing" in str(found["foreign"]["why"])


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ns_video.cli.models import command;"
        "r = CliRunner().invoke(command, ['list']); sys.exit(r.exit_code or 2 * ('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL).returncode == 0


def test_a_closed_pipe_and_a_full_device_are_told_apart(program: list[str], environment: dict[str, str]) -> None:
    for arguments in (["models", "list", "--json"], ["--help"]):
        line = shlex.join([*program, *arguments])
        done = subprocess.run(
            ["bash", "-c", f"{{ {{ {line}; echo $? >&2; }} | true; }}"],
            capture_output=True,
            env=environment,
            timeout=60,
        )
        assert done.stderr.split() == [b"141"], done.stderr
        done = subprocess.run(
            ["bash", "-c", f"{line} >/dev/full"], capture_output=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == 1 and done.stderr == b"error: output: No space left on device\n", done.stderr
