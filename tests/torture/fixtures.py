"""Fixtures of the tests that run the command line under faults; loaded by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torture.clips import make_clips, make_stills
from torture.kills import Reference, reference_run
from torture.workshop import Workshop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """One server for all runs of a session."""
    with Workshop(tmp_path_factory.mktemp("shop")) as workshop:
        yield workshop


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip of every recipe, by name."""
    return {path.name: path for path in make_clips(tmp_path_factory.mktemp("clips"))}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A still of every format, by name."""
    return {path.name: path for path in make_stills(tmp_path_factory.mktemp("stills"))}


@pytest.fixture(scope="session")
def reference(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A clip of uneven frame times with sound and subtitles, and its undisturbed restoration."""
    return reference_run(shop, tmp_path_factory.mktemp("reference"), frames=96)
