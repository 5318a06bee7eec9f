"""docs/reliability.md says what is tested: every row names a test that exists, and every such test has its row."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"


def _defined(*names: str) -> dict[str, str]:
    """Test functions of these files, with their source."""
    found: dict[str, str] = {}
    for name in names:
        text = (TESTS / name).read_text(encoding="utf-8")
        for match in re.finditer(r"^def (test_\w+)\(.*?(?=^(?:def|@|[A-Z#]\w*)|\Z)", text, re.M | re.S):
            found[match[1]] = match[0]
    return found


def _rows() -> list[list[str]]:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.partition("| fault |")[2].partition("\n## ")[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:] if line.startswith("|")]


def test_every_row_is_a_test() -> None:
    files = ("hostile", "interrupt", "journal", "prefetch", "cli_batch")
    defined = _defined(*(f"test_{name}.py" for name in files), "torture/test_torture.py")
    rows = _rows()
    assert len(rows) >= 30
    for fault, seen, disk, test in rows:
        assert fault and seen and disk
        names = re.findall(r"`(test_\w+)`", test)
        assert names, fault
        for name in names:
            assert "assert" in defined[name] or "failed(" in defined[name] or "refused(" in defined[name], name


def test_every_fault_that_is_tested_has_its_row() -> None:
    told = {name for row in _rows() for name in re.findall(r"`(test_\w+)`", row[3])}
    missing = set(_defined("test_hostile.py", "test_interrupt.py")) - told
    assert missing <= {"test_places_of_kills_exist", "test_shell_pipe_both_ways"}


def test_exit_codes_are_those_of_the_errors() -> None:
    from ns_video import errors

    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.NsVideoError)
    }
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").partition("| fault |")[0]
    assert codes == {1, 2, 130, 141}
    assert all(f"{code} " in text for code in codes | {0, 3})
