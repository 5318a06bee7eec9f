"""The journal: what is noted is on disk, what isn't whole is done again, and nothing is believed that was changed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import resource
import stat
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torture.clips import content_of
from torture.kills import Reference, tunings
from torture.workshop import Workshop

import ns_video.journal as journal_module
from ns_video.errors import NsVideoError, OutputBusyError, OutputError, ResumeError, UsageError
from ns_video.journal import Journal, SegmentEntry, file_digest, source_fingerprint, work_folder, write_whole
from ns_video.pipeline import restore

pytest_plugins = ["torture.fixtures"]

PRINT: dict[str, Any] = {"input": {"size": 9}, "model": "identity", "numbers": [1, 2.5]}


def noted(folder: Path, count: int = 3) -> Journal:
    """A journal with `count` segments on disk, released."""
    journal = Journal(folder)
    journal.acquire()
    journal.begin(PRINT, resume=False)
    for number in range(count):
        path = folder / f"segment-{number}.nut"
        path.write_bytes(random.Random(number).randbytes(500))
        times = array("q", range(number * 4, number * 4 + 4))
        journal.add(
            SegmentEntry(
                number, path.name, 4, 500, file_digest(path), times, array("q", [1] * 4), {"passed_through": number}
            )
        )
    journal.release()
    return journal


def resumed(folder: Path, fingerprint: dict[str, Any] | None = None) -> Journal:
    """What a later run makes of a journal."""
    journal = Journal(folder)
    journal.acquire()
    try:
        journal.begin(PRINT if fingerprint is None else fingerprint, resume=True)
    finally:
        journal.release()
    return journal


def test_resumed_entries_are_those_noted(tmp_path: Path) -> None:
    assert resumed(tmp_path).entries == {}
    first = noted(tmp_path / "work")
    assert resumed(tmp_path / "work").entries == first.entries


def test_a_segment_is_on_disk_before_it_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = os.fsync

    def seen(handle: int) -> None:
        is_folder, access = stat.S_ISDIR(os.fstat(handle).st_mode), fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
        assert is_folder or access != os.O_RDONLY  # which Windows flushes not
        flushed.append(os.fstat(handle).st_ino)
        flush(handle)

    monkeypatch.setattr(os, "fsync", seen)
    folder = noted(tmp_path / "work", 1).folder
    segment, journal = (flushed.index((folder / name).stat().st_ino) for name in ("segment-0.nut", "journal.jsonl"))
    assert journal < segment < len(flushed) - 1  # the header; the segment; its line
    assert flushed[-1] == flushed[journal]


def test_begin_anew_removes_what_was_there(tmp_path: Path) -> None:
    noted(tmp_path / "work")
    (tmp_path / "work" / "stray").mkdir()
    journal = Journal(tmp_path / "work")
    journal.acquire()
    journal.begin(PRINT, resume=False)
    journal.release()
    assert sorted(p.name for p in journal.folder.iterdir()) == ["journal.jsonl", "lock"]
    assert resumed(journal.folder).entries == {}


@pytest.mark.parametrize("damage", ["deleted", "cut", "zeroed", "one bit", "longer"])
def test_segment_that_is_not_whole_is_done_again(tmp_path: Path, damage: str) -> None:
    journal = noted(tmp_path / "work")
    path = journal.folder / "segment-1.nut"
    data = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        changed = {
            "cut": data[:100],
            "zeroed": bytes(len(data)),
            "one bit": bytes([data[0] ^ 1]) + data[1:],
            "longer": data + b"x",
        }
        path.write_bytes(changed[damage])
    again = resumed(journal.folder)
    assert sorted(again.entries) == [0, 2]
    assert not path.exists()


@pytest.mark.parametrize("key", list(PRINT))
def test_other_fingerprint_is_refused_and_named(tmp_path: Path, key: str) -> None:
    journal = noted(tmp_path / "work")
    before = journal.path.read_bytes()
    with pytest.raises(ResumeError, match=key):
        resumed(journal.folder, {**PRINT, key: "another"})
    assert journal.path.read_bytes() == before
    assert len(resumed(journal.folder).entries) == 3


def test_second_owner_is_refused(tmp_path: Path) -> None:
    first = noted(tmp_path / "work")
    first.acquire()
    with pytest.raises(UsageError, match="another run"):
        Journal(first.folder).acquire()
    first.release()
    assert len(resumed(first.folder).entries) == 3


def test_windows_locks_otherwise_and_removes_no_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locking(handle: int, mode: int, _: int) -> None:
        fcntl.flock(handle, mode)

    windows = SimpleNamespace(locking=locking, LK_NBLCK=fcntl.LOCK_EX | fcntl.LOCK_NB)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("ns_video.journal.shutil.rmtree", lambda *_, **__: None)  # for the lock is open
    first = Journal(tmp_path / "work")
    first.acquire()
    with pytest.raises(UsageError, match="another run"):
        Journal(tmp_path / "work").acquire()
    first.remove()
    assert not (tmp_path / "work").exists()


def test_a_run_that_ends_takes_no_lock_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder may go between a second run's opening of the lock and its locking, or before its opening."""
    folder, lock = tmp_path / "work", journal_module._lock  # pyright: ignore[reportPrivateUsage]
    first, second = Journal(folder), Journal(folder)
    first.acquire()

    def late(file: Any) -> None:
        monkeypatch.setattr(journal_module, "_lock", lock)
        first.remove()
        lock(file)

    monkeypatch.setattr(journal_module, "_lock", late)
    second.acquire()
    assert folder.is_dir()
    with pytest.raises(OutputBusyError):
        Journal(folder).acquire()

    third, entered = Journal(folder), list[int]()
    monkeypatch.setattr(third, "_check_private", lambda: entered.append(1) or second.remove())
    third.acquire()
    assert folder.is_dir() and entered == [1]
    with pytest.raises(OutputBusyError):
        Journal(folder).acquire()
    third.remove()


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_file_system_without_locks(
    reason: int, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", flock)
    record = restore(plain_clip, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 0 and [w for w in record.warnings if "locked" in w and os.strerror(reason) in w]
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]


def test_mount_that_maps_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made there belongs to another than who made it."""
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    noted(tmp_path / "work")
    assert len(resumed(tmp_path / "work").entries) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


def test_folder_of_another_user_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(tmp_path / "work")
    lstat = Path.lstat

    def of_another(path: Path) -> os.stat_result:
        values = list(lstat(path))
        values[stat.ST_UID] += 1
        return os.stat_result(values)

    monkeypatch.setattr(Path, "lstat", of_another)
    with pytest.raises(OutputError, match="not a folder of yours"):
        Journal(tmp_path / "work").acquire()
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


def test_mount_that_hides_open_files_until_they_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the lock becomes `.nfs...`, and the folder can't be removed before that is gone."""
    folder, release = tmp_path / "work", Journal.release

    def rmtree(*_: object, **__: object) -> None:
        (folder / "lock").rename(folder / ".nfs1")

    def close(journal: Journal) -> None:
        release(journal)
        (folder / ".nfs1").unlink(missing_ok=True)

    monkeypatch.setattr("ns_video.journal.shutil.rmtree", rmtree)
    monkeypatch.setattr(Journal, "release", close)
    journal = Journal(folder)
    journal.acquire()
    journal.remove()
    assert not folder.exists()


def test_folder_that_takes_no_lock_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="No space left"):
        Journal(tmp_path / "work").acquire()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_is_taken_is_left(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    name = tmp_path / "a"
    write_whole(name, b"first", stage="encode", replaces=False)
    with pytest.raises(OutputBusyError, match="--overwrite"):
        write_whole(name, b"second", stage="encode", replaces=False)
    assert name.read_bytes() == b"first" and list(tmp_path.iterdir()) == [name]
    (tmp_path / "b").symlink_to(tmp_path / "c")  # which isn't there
    write_whole(tmp_path / "b", b"third", stage="encode", replaces=False)
    assert (tmp_path / "c").read_bytes() == b"third"


def test_fingerprint_sees_one_changed_byte(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    data = bytearray(random.Random(1).randbytes(10_000))
    path.write_bytes(data)
    before = source_fingerprint(path)
    assert source_fingerprint(path) == before
    data[5000] ^= 1
    path.write_bytes(data)
    assert source_fingerprint(path)["sample"] != before["sample"]


def test_work_folder_lies_beside_the_output_and_is_its_own(tmp_path: Path) -> None:
    names = ["a.mkv", "b.mkv", "x" * 250, "\udcff.mkv"]
    folders = [work_folder(tmp_path / name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(f.parent == tmp_path and len(f.name) < 40 for f in folders)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_journal_never_lies(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever a disk does to the journal: no foreign error, and every entry that is believed is one that was noted."""
    folder = tmp_path_factory.mktemp("fuzz") / "work"
    good = noted(folder)
    text = bytearray(good.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(text) - 1)))
        length = data.draw(st.sampled_from([0, 1, 3, 40, 400]))
        new = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"\n", b"9", b"}", b"null", b"[" * 2000])))
        text[at : at + length] = new
    good.path.write_bytes(bytes(text))
    try:
        again = resumed(folder)
    except NsVideoError as error:
        assert error.message
        return
    for number, entry in again.entries.items():
        assert good.entries[number] == entry


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.dictionaries(
        st.sampled_from(
            ["number", "file", "frames", "bytes", "digest", "presentation", "durations", "counts", "check"]
        ),
        st.one_of(
            st.none(),
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.sampled_from(["../../secret", "/etc/passwd", ".", "", "lock", "journal.jsonl", "\x00"]),
            st.lists(st.integers(), max_size=3),
            st.lists(st.lists(st.integers(), max_size=3), max_size=2),
        ),
    )
)
def test_forged_lines_reach_no_file_outside(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("forged") / "work"
    good = noted(folder, 1)
    secret = folder.parent.parent / "secret"
    secret.write_text("secret")
    with good.path.open("ab") as file:
        file.write(json.dumps(row).encode() + b"\n")
    assert set(resumed(folder).entries) <= {0}
    assert secret.read_text() == "secret"


# The same with whole runs: after a power cut anything may be torn.


@pytest.mark.parametrize(
    "fault",
    [
        "newest segment cut",
        "newest segment zeroed",
        "segment deleted",
        "journal torn",
        "journal zeroed",
        "journal gone",
    ],
)
def test_power_cut_resumes_the_same(shop: Workshop, reference: Reference, tmp_path: Path, fault: str) -> None:
    output, record = tmp_path / "out.mkv", tmp_path / "record.json"
    stop = {"place": "mux", "after": 0, "error": "EIO"}
    assert shop.restore(reference.source, output, tunings={**tunings(0.0), "fail": stop}).code == 1
    work = work_folder(output)
    segments = sorted(work.glob("segment-*"))
    assert len(segments) == 12
    journal = work / "journal.jsonl"
    if fault == "newest segment cut":
        segments[-1].write_bytes(segments[-1].read_bytes()[:-7])
    elif fault == "newest segment zeroed":
        segments[-1].write_bytes(bytes(segments[-1].stat().st_size))
    elif fault == "segment deleted":
        segments[3].unlink()
    elif fault == "journal torn":
        journal.write_bytes(journal.read_bytes()[:-30])
    elif fault == "journal zeroed":
        journal.write_bytes(bytes(journal.stat().st_size))
    else:
        journal.unlink()
    outcome = shop.restore(reference.source, output, "--resume", "--record", record, tunings=tunings(0.0))
    assert outcome.code == 0, outcome.stderr
    assert content_of(output) == reference.content
    kept = json.loads(record.read_text())["segments_resumed"]
    assert kept == (0 if fault in ("journal zeroed", "journal gone") else 11)
    assert not work.exists()


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, link = tmp_path / "run.json", tmp_path / "link.json"
    link.symlink_to(path)
    write_whole(path, b"first", stage="record")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        for target in (path, tmp_path / "new.json"):
            with pytest.raises(OutputError, match="File too large"):
                write_whole(target, b"x" * 1000, stage="record")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"first"
    write_whole(link, b"second", stage="record")
    write_whole(Path(os.devnull), b"third", stage="record")
    assert link.is_symlink() and path.read_bytes() == b"second" and not Path(os.devnull).is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json", "run.json"]
