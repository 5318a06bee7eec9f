"""Signals, full disks, failing writes, stalls and other runs: OUTPUT is absent or whole, and --resume finishes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import Command, ffmpeg
from material import FRAMES, Recipe, facts, write_clip
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torture.clips import RECIPES, Content, content_of, make_clip
from torture.kills import PLACES, Reference, kill_and_resume, tunings
from torture.workshop import Limits, Outcome, Run, Workshop

from ns_video.cli.restore import interruptible
from ns_video.errors import InputError, Interrupted, OutputBusyError, OutputError, ResumeError
from ns_video.journal import Journal
from ns_video.pipeline import RestoreOptions, restore, restore_steps
from ns_video.pipeline.run import Run as PipelineRun

pytest_plugins = ["torture.fixtures"]
IDENTITY = ("restore", "--model", "identity")


def digest(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def work_left(folder: Path) -> list[Path]:
    """Private folders of unfinished runs."""
    return [p for p in folder.iterdir() if p.name.startswith(".ns-video-")]


def wait_for_segments(folder: Path, count: int, seconds: float = 30.0) -> None:
    """Until a run has noted `count` segments."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for work in work_left(folder):
            journal = work / "journal.jsonl"
            if journal.exists() and journal.read_bytes().count(b"\n") > count:
                return
        time.sleep(0.01)
    raise AssertionError("the run noted no segments")


def start(shop: Workshop, reference: Reference, output: Path, *arguments: str, **more: Any) -> Run:
    """A run of the reference clip in short segments."""
    setting = {**tunings(more.pop("delay", 0.02)), **more}
    return shop.start("restore", "--model", "identity", reference.source, output, *arguments, tunings=setting)


def resumes(shop: Workshop, reference: Reference, output: Path) -> dict[str, Any]:
    """Resume a run, compare with the undisturbed one, and give its record."""
    record = output.with_name("record.json")
    outcome = shop.restore(reference.source, output, "--resume", "--record", record, tunings=tunings(0.0))
    assert outcome.code == 0, outcome.stderr
    assert content_of(output) == reference.content
    assert not work_left(output.parent)
    return json.loads(record.read_text())


def failed(outcome: Outcome, *words: str) -> None:
    """Exit 1 with one line that holds these words, and no traceback."""
    assert not outcome.hung and not outcome.signal, outcome
    assert outcome.code == 1, (outcome.code, outcome.stderr)
    assert "Traceback" not in outcome.stderr
    assert len(outcome.error_lines) == 1, outcome.stderr
    for word in words:
        assert word in outcome.error_lines[0], outcome.stderr


# Kills.


def test_killed_anywhere_resumes_the_same(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    """The short form of benchmarks/kills.py."""
    rng = random.Random(3)
    taken_over = 0
    for number, place in enumerate([None, None, "journal", "segment close", "mux", "sync"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = kill_and_resume(shop, reference, folder / "out.mkv", rng, place=place)
        assert done.same and not done.problems, done
        taken_over += done.segments_kept
    assert taken_over > 10


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_hevc_that_was_killed_is_tagged_for_all_players(
    suffix: str, shop: Workshop, reference: Reference, tmp_path: Path
) -> None:
    """Apple's take hvc1 alone."""
    output = tmp_path / f"out.{suffix}"
    quick = ("--codec", "libx265", "--encoder-option", "preset=ultrafast")
    run = start(shop, reference, output, *quick)
    wait_for_segments(tmp_path, 2)
    run.kill(signal.SIGKILL)
    run.wait()
    assert not output.exists()
    outcome = shop.restore(reference.source, output, *quick, "--resume", tunings=tunings(0.0))
    assert outcome.code == 0, outcome.stderr
    assert [t for t, _ in content_of(output).frames] == [t for t, _ in reference.content.frames]
    with av.open(str(output)) as clip:
        assert clip.streams.video[0].codec_context.codec_tag == "hvc1"
    ffmpeg("-xerror", "-i", output, "-f", "null", "-")


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_leaves_a_playable_part(
    shop: Workshop, reference: Reference, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out.mkv"
    run = start(shop, reference, output)
    wait_for_segments(tmp_path, 3)
    run.kill(number)
    outcome = run.wait()
    assert outcome.code == 130, (outcome.code, outcome.signal, outcome.stderr)
    assert "out.partial.mkv" in outcome.error_lines[0] and "--resume" in outcome.error_lines[0]
    assert not output.exists()
    part: Content = content_of(tmp_path / "out.partial.mkv")
    assert 24 <= len(part.frames) < len(reference.content.frames)
    assert [t for t, _ in part.frames] == [t for t, _ in reference.content.frames[: len(part.frames)]]
    end = part.frames[-1][0]
    sound = dict(part.packets)["audio"]
    assert sound == dict(reference.content.packets)["audio"][: len(sound)]
    assert sound and abs(float(sound[-1][0] - end)) < 0.3  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    row = resumes(shop, reference, output)
    assert row["segments_resumed"] >= 3


def test_first_signal_ends_a_still_within_a_layer(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jpg", tmp_path / "out.png"
    Image.effect_noise((160, 96), 60).convert("RGB").save(source, quality=40)
    cancel, layers = threading.Event(), list[nn.Module]()

    def see(module: nn.Module, given: tuple[Any, ...]) -> None:
        if layers or (isinstance(given[0], Tensor) and given[0].shape[-2:] == (96, 160)):
            layers.append(module)
        if len(layers) == 5:
            cancel.set()

    handle = register_module_forward_pre_hook(see)
    try:
        with pytest.raises(Interrupted, match="before the picture was done"):
            list(restore_steps(source, output, RestoreOptions(model="photo"), cancel))
    finally:
        handle.remove()
    assert len(layers) == 5 and list(tmp_path.iterdir()) == [source]


def test_second_signal_stops_at_once(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    run = start(shop, reference, output, enhance_stalls_after=40)
    wait_for_segments(tmp_path, 2)
    run.kill(signal.SIGINT)
    time.sleep(0.8)
    assert run.running()
    sent = time.monotonic()
    run.kill(signal.SIGINT)
    outcome = run.wait()
    assert outcome.code == 130 and time.monotonic() - sent < 5
    assert not output.exists()
    assert resumes(shop, reference, output)["segments_resumed"] >= 2


@pytest.mark.parametrize(("name", "ignored", "code"), [("SIGTERM", 0, 130), ("SIGHUP", 0, 130), ("SIGHUP", 1, 7)])
def test_signal_while_the_command_still_loads(name: str, ignored: int, code: int) -> None:
    """Before any command has handlers of its own; under nohup a hang-up is none."""
    lines = (
        "import os, signal, sys, types",
        "cli = sys.modules['ns_video.cli'] = types.ModuleType('cli')",
        f"cli.main = lambda: (signal.raise_signal(signal.{name}), os._exit(7))",
        f"signal.signal(signal.{name}, signal.SIG_IGN if {ignored} else signal.SIG_DFL)",
        "import ns_video.__main__ as program; program.main()",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (code, b"")


def test_hang_up_under_nohup_is_none() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as cancel:
            signal.raise_signal(signal.SIGHUP)
            assert not cancel.wait(0.1)
            signal.raise_signal(signal.SIGTERM)
            assert cancel.wait(10)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_interrupt_while_a_pipe_is_silent(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    pipe, output = tmp_path / "pipe", tmp_path / "out.mkv"
    os.mkfifo(pipe)
    ends: list[Any] = []

    def write() -> None:
        end = pipe.open("wb")
        ends.append(end)
        data = reference.source.read_bytes()
        end.write(data[: len(data) // 2])
        end.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    run = shop.start("restore", "--model", "identity", "-", output, stdin=pipe)
    writer.join(30)
    time.sleep(2.0)
    run.kill(signal.SIGINT)
    outcome = run.wait(30)
    ends[0].close()
    assert not outcome.hung and outcome.code == 130, (outcome.code, outcome.stderr)
    assert not output.exists() and not work_left(tmp_path)
    assert len(content_of(tmp_path / "out.partial.mkv").frames) > 5


# Pipes.


def test_reader_that_goes_away_is_a_quiet_end(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read() -> None:
        with pipe.open("rb") as end:
            end.read(20_000)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    outcome = shop.restore(reference.source, "-", stdout=pipe)
    assert outcome.code == 141, (outcome.code, outcome.stderr)
    assert all(line.startswith("note: ") for line in outcome.stderr.splitlines())  # from before the work


def test_slow_writer_loses_nothing(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    pipe, output = tmp_path / "named.mkv", tmp_path / "out.mkv"
    os.mkfifo(pipe)
    data = reference.source.read_bytes()

    def write() -> None:
        with pipe.open("wb") as end:
            for at in range(0, len(data), 7001):
                end.write(data[at : at + 7001])
                end.flush()
                time.sleep(0.01)

    threading.Thread(target=write, daemon=True).start()
    outcome = shop.restore(pipe, output)
    assert outcome.code == 0, outcome.stderr
    assert [t for t, _ in content_of(output).frames] == [t for t, _ in reference.content.frames]


def test_pipe_cut_in_the_middle(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    data = reference.source.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    outcome = shop.restore("-", tmp_path / "out.mkv", stdin=cut)
    assert outcome.code == 3, (outcome.code, outcome.stderr)
    assert 10 < len(content_of(tmp_path / "out.mkv").frames) < len(reference.content.frames)


def test_shell_pipe_both_ways(reference: Reference, tmp_path: Path) -> None:
    """The one run of the installed command line itself: stdout carries only media, stderr stays readable."""
    command = f"cat '{reference.source}' | python -m ns_video -q restore --model identity - - | cat > out.nut"
    path = f"{Path(os.sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # pyright: ignore[reportAttributeAccessIssue]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(content_of(tmp_path / "out.nut").frames) == len(reference.content.frames)


# Disks that are full or fail.


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_no_more_room_is_said_and_resumable(
    shop: Workshop, reference: Reference, tmp_path: Path, share: float, suffix: str
) -> None:
    """RLIMIT_FSIZE: a write past the limit fails like one on a full disk, in a segment or in the final file."""
    output = tmp_path / f"out{suffix}"
    whole = sum(len(p) for p in [reference.source.read_bytes()])
    limits = Limits(file_bytes=int(whole * share))
    outcome = shop.restore(reference.source, output, tunings=tunings(0.0), limits=limits)
    failed(outcome)
    assert not output.exists()
    assert bool(work_left(tmp_path)) == (share > 0.1)  # before the first segment there is nothing to keep
    outcome = shop.restore(reference.source, output, "--resume", tunings=tunings(0.0))
    assert outcome.code == 0, outcome.stderr
    assert len(content_of(output).frames) == len(reference.content.frames)
    assert not work_left(tmp_path)


def test_full_device_on_standard_output(shop: Workshop, reference: Reference) -> None:
    for target in ("-", "/dev/full"):  # neither can be gone on with
        outcome = shop.restore(reference.source, target, "--format", "nut", stdout="/dev/full")
        failed(outcome, "no space left")
        assert "--resume" not in outcome.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root; RLIMIT_FSIZE is tested without")
def test_full_tmpfs_is_said_and_resumable(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this container may not mount; RLIMIT_FSIZE is tested without")
    try:
        output = folder / "out.mkv"
        outcome = shop.restore(reference.source, output, tunings=tunings(0.0))
        failed(outcome, "no space left", "--resume")
        assert not output.exists()
        subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)
        resumes(shop, reference, output)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("place", ["segment", "segment close", "mux", "mux close", "sync", "verify"])
def test_failing_write_at_every_stage(
    shop: Workshop, reference: Reference, tmp_path: Path, place: str, error: str
) -> None:
    output = tmp_path / "out.mkv"
    after = {"segment": 30, "segment close": 3, "mux": 50}.get(place, 0)
    fault = {"place": place, "after": after, "error": error}
    outcome = shop.restore(reference.source, output, tunings={**tunings(0.0), "fail": fault})
    failed(outcome, "o space left" if error == "ENOSPC" else "nput/output error")
    assert not outcome.traceback, outcome.stderr
    assert not output.exists()
    assert resumes(shop, reference, output)["segments_resumed"] >= 3


@pytest.mark.parametrize("place", ["decode", "enhance", "encode", "flush", "mux", "verify"])
def test_exception_at_every_stage_boundary(shop: Workshop, reference: Reference, tmp_path: Path, place: str) -> None:
    """A defect of our own: one line that says so, no OUTPUT, and nothing that was done is lost."""
    output = tmp_path / "out.mkv"
    after = {"decode": 60, "enhance": 60, "encode": 60, "flush": 4}.get(place, 0)
    fault = {"place": place, "after": after, "error": "KeyError"}
    outcome = shop.restore(reference.source, output, tunings={**tunings(0.0), "fail": fault})
    failed(outcome, "error: internal: KeyError", "please report")
    assert not output.exists()
    resumes(shop, reference, output)


# Stages that stand still.


@pytest.mark.parametrize("stage", ["decode", "enhance", "encode"])
def test_stall_becomes_an_error_that_names_the_stage(
    shop: Workshop, reference: Reference, tmp_path: Path, stage: str
) -> None:
    output = tmp_path / "out.mkv"
    stall = {f"{stage}_stalls_after": 40, "stall_seconds": 1.0}
    outcome = shop.restore(reference.source, output, tunings={**tunings(0.0), **stall}, seconds=40)
    failed(outcome, f"error: {stage}: nothing came for")
    assert not output.exists()
    assert resumes(shop, reference, output)["segments_resumed"] >= 2


# Outputs and other runs.


def test_existing_output_is_kept(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    output.write_bytes(b"my own file")
    outcome = shop.restore(reference.source, output)
    assert outcome.code == 2 and "--overwrite" in outcome.error_lines[0]
    assert output.read_bytes() == b"my own file"


@pytest.mark.parametrize("suffix", [".mkv", ".gif"])
def test_file_that_comes_to_outputs_place_during_the_run(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    target, kept = tmp_path / f"out{suffix}", tmp_path / f"out.restored{suffix}"
    steps = restore_steps(plain_clip, target, RestoreOptions(model="identity"))
    next(steps)
    target.write_bytes(b"my own file")
    with pytest.raises(OutputError, match=f"was not there.*out.restored{suffix}"):
        list(steps)
    assert target.read_bytes() == b"my own file" and len(facts(kept).pictures) == FRAMES
    assert set(tmp_path.iterdir()) == {kept, target}
    steps = restore_steps(plain_clip, target, RestoreOptions(model="identity", overwrite=True))
    next(steps)
    target.write_bytes(b"another of mine")
    list(steps)
    assert len(facts(target).pictures) == FRAMES


@pytest.mark.parametrize("name", ["out.mkv", "out.gif", "out.png"])
def test_output_that_came_while_the_model_was_loaded(
    name: str, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another run, which had the folder locked, leaves it."""
    source, target, load = plain_clip, tmp_path / name, PipelineRun.load_enhancer
    if name == "out.png":
        source = tmp_path / "in.png"
        Image.new("RGB", (8, 8)).save(source)

    def slow(run: PipelineRun, *arguments: Any) -> Any:
        target.write_bytes(b"of another run")
        return load(run, *arguments)

    monkeypatch.setattr(PipelineRun, "load_enhancer", slow)
    with pytest.raises(OutputBusyError, match="--overwrite"):
        restore(source, target, model="identity")
    assert target.read_bytes() == b"of another run" and not work_left(tmp_path)


def test_overwrite_replaces_only_what_was_checked(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    output.write_bytes(b"my own file")
    fault = {"place": "verify", "after": 0, "error": "EIO"}
    outcome = shop.restore(reference.source, output, "-y", tunings={**tunings(0.0), "fail": fault})
    failed(outcome)
    assert output.read_bytes() == b"my own file"
    assert shop.restore(reference.source, output, "-y", tunings=tunings(0.0)).code == 0
    assert content_of(output) == reference.content


@pytest.mark.parametrize("kind", ["same", "dotted", "symlink", "hard link"])
def test_input_is_never_the_output(shop: Workshop, reference: Reference, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "clip.mkv"
    source.write_bytes(reference.source.read_bytes())
    other = tmp_path / "other.mkv"
    if kind == "symlink":
        other.symlink_to(source)
    elif kind == "hard link":
        other.hardlink_to(source)
    target = {"same": str(source), "dotted": "./clip.mkv"}.get(kind, str(other))
    before = digest(source)
    outcome = shop.restore(source, target, "--overwrite", cwd=tmp_path)
    assert outcome.code == 2 and "same file" in outcome.error_lines[0], outcome.stderr
    assert digest(source) == before


def test_resume_replaces_only_what_the_killed_run_might(
    ns_video: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OUTPUT as it was when a run with --overwrite began, or as the run itself put it there before it was killed."""
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 260, 40))))
    target = tmp_path / "out.mkv"

    def killed(*, overwrite: bool) -> None:
        options = RestoreOptions(model="identity", overwrite=overwrite)
        for update in (steps := restore_steps(str(source), str(target), options)):
            if update.frames > 250:
                steps.close()

    def resumed(*more: str) -> int:
        return ns_video(*IDENTITY, source, target, "--resume", *more).code

    killed(overwrite=False)
    target.write_bytes(b"another program's")
    assert resumed() == 2 and target.read_bytes() == b"another program's"
    target.unlink()
    assert resumed() == 0
    whole = target.read_bytes()

    killed(overwrite=True)
    assert resumed() == 0 and target.read_bytes() == whole
    killed(overwrite=True)
    target.write_bytes(b"newer")
    assert resumed() == 2 and target.read_bytes() == b"newer"
    assert resumed("-y") == 0 and target.read_bytes() == whole

    target.unlink()
    with monkeypatch.context() as killing:
        killing.setattr(Journal, "remove", Journal.release)  # between the rename and the removal
        assert ns_video(*IDENTITY, source, target).code == 0
    assert resumed() == 0 and target.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir() if p not in (source, target)] == []


@pytest.mark.parametrize(
    "line",
    [
        "{in} - --format matroska 1<> {in}",
        "{in} - --format matroska >> {in}",
        "- {in} -y < {in}",
        "- - --format matroska < {in} >> {in}",
        "- {out} -y --record {in} < {in}",
    ],
)
def test_one_file_is_seen_through_standard_streams(
    line: str, program: list[str], environment: dict[str, str], plain_clip: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(plain_clip.read_bytes())
    names = line.replace("{in}", shlex.quote(str(source))).replace("{out}", shlex.quote(str(tmp_path / "out.mp4")))
    command = f"{shlex.join([*program, *IDENTITY])} {names}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2 and ("same file" in done.stderr or "itself" in done.stderr), done.stderr
    assert source.read_bytes() == plain_clip.read_bytes() and list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("suffix", [".mkv", ".png"])
def test_output_is_replaced_only_once_the_record_is_written(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source, target = plain_clip, tmp_path / f"out{suffix}"
    if suffix == ".png":
        source = tmp_path / "in.png"
        Image.new("RGB", (8, 8)).save(source)
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"record: /dev/full: No space left on device") as ended:
        restore(source, target, model="identity", overwrite=True, record="/dev/full")
    assert target.read_bytes() == b"old" and ("--resume" in str(ended.value)) == (suffix == ".mkv")


@pytest.mark.parametrize(
    "news",
    [
        "--progress bar 2>/dev/full",
        "--progress json 2> >(true)",
        "--progress none 2>/dev/full",
        "--json >/dev/full",
        "--json > >(true)",
    ],
)
def test_who_reads_no_news_stops_no_run(
    news: str, program: list[str], environment: dict[str, str], plain_clip: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.mkv"
    line = f"{shlex.join([*program, *IDENTITY, str(plain_clip), str(target)])} {news}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert ("out.mkv is whole" in done.stderr) == (news == "--json >/dev/full")
    assert len(facts(target).pictures) == FRAMES


def test_symlink_is_replaced_not_followed(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    precious = tmp_path / "precious.mkv"
    precious.write_bytes(b"precious")
    output = tmp_path / "out.mkv"
    output.symlink_to(precious)
    assert shop.restore(reference.source, output, "-y", tunings=tunings(0.0)).code == 0
    assert precious.read_bytes() == b"precious" and not output.is_symlink()


def test_planted_work_folder_is_not_entered(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    from ns_video.journal import work_folder

    output, trap = tmp_path / "out.mkv", tmp_path / "trap"
    trap.mkdir()
    (trap / "keep.txt").write_text("keep")
    work_folder(output).symlink_to(trap)
    failed(shop.restore(reference.source, output), "not a folder of yours")
    assert (trap / "keep.txt").read_text() == "keep"


@pytest.mark.parametrize("target", ["folder", "missing", "proc"])
def test_places_that_take_no_output(shop: Workshop, reference: Reference, tmp_path: Path, target: str) -> None:
    if target == "folder":
        (tmp_path / "out.mkv").mkdir()
    path = {"folder": tmp_path / "out.mkv", "missing": tmp_path / "no" / "out.mkv", "proc": Path("/proc/out.mkv")}[
        target
    ]
    outcome = shop.restore(reference.source, path, tunings={"decode_stalls_after": 0})
    failed(outcome, "open:")


def test_read_only_folder(shop: Workshop, reference: Reference) -> None:
    """As a user without rights: root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:
        top, folder = Path(name), Path(name) / "locked"
        top.chmod(0o755)
        folder.mkdir(0o555)
        folder.chmod(0o555)
        source = top / "in.mkv"
        source.write_bytes(reference.source.read_bytes())
        source.chmod(0o644)
        user = {"user": 65534} if os.geteuid() == 0 else {}
        outcome = shop.restore(source, folder / "out.mkv", tunings=user)
        failed(outcome, "open:", "no permission")
        source.chmod(0)
        (top / "open").mkdir()
        (top / "open").chmod(0o777)
        failed(shop.restore(source, top / "open" / "out.mkv", tunings=user), "open:", "Permission denied")
        assert not list(folder.iterdir())


def test_folder_that_vanishes(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    run = start(shop, reference, folder / "out.mkv")
    wait_for_segments(folder, 2)
    folder.rename(tmp_path / "elsewhere")
    failed(run.wait())
    assert not folder.exists()


def test_two_runs_on_one_output(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    first = start(shop, reference, output)
    wait_for_segments(tmp_path, 2)
    for extra in ("--resume", "--overwrite"):
        second = shop.restore(reference.source, output, extra)
        assert second.code == 2 and "another run" in second.error_lines[0], second.stderr
    assert first.wait().code == 0
    assert content_of(output) == reference.content


def test_lock_of_a_dead_run_is_taken_over(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    run = start(shop, reference, output)
    wait_for_segments(tmp_path, 4)
    run.kill()
    assert run.wait().signal == signal.SIGKILL
    outcome = shop.restore(reference.source, output)
    assert outcome.code == 2 and "unfinished run" in outcome.error_lines[0] and "--resume" in outcome.error_lines[0]
    assert resumes(shop, reference, output)["segments_resumed"] >= 4


# What a run must not do when something changed.


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("how", ["replaced", "grown"])
def test_input_that_changes_during_the_run(
    how: str, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two segments, or once all are done: OUTPUT never holds the picture of one file and the sound of another.
    With the old file in its place `--resume` goes on."""
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (8, 8))
    source, old, target = (tmp_path / name for name in ("in.mkv", "old.mkv", "out.mkv"))
    recipe = Recipe(size=(32, 32), times=tuple(range(0, 40 * 40, 40)), audio=[("flac", "eng")])
    write_clip(source, recipe)
    shutil.copy2(source, old)
    restore(source, tmp_path / "whole.mkv", model="identity")
    steps = restore_steps(source, target, RestoreOptions(model="identity"))
    for update in steps:
        if update.phase == "mux" if late else update.frames == 17:
            break
    if how == "grown":
        source.write_bytes(source.read_bytes() + b"more")
    else:
        write_clip(tmp_path / "new.mkv", replace(recipe, audio=[("pcm_s16le", "eng")])).replace(source)
    with pytest.raises(InputError, match="changed while it was restored"):
        list(steps)
    with pytest.raises(ResumeError, match="another input"):
        restore(source, target, model="identity", resume=True)
    assert not target.exists() and work_left(tmp_path)
    old.replace(source)
    record = restore(source, target, model="identity", resume=True)
    assert record.segments_resumed == (5 if late else 2)
    assert digest(target) == digest(tmp_path / "whole.mkv") and not work_left(tmp_path)


def test_input_whose_time_alone_changes_is_the_same(plain_clip: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(plain_clip, tmp_path / "in.mp4"))
    steps = restore_steps(source, tmp_path / "out.mkv", RestoreOptions(model="identity"))
    next(steps)
    os.utime(source, ns=(1, 1))
    list(steps)
    assert len(facts(tmp_path / "out.mkv").pictures) == FRAMES


@pytest.mark.parametrize("what", ["input", "option", "model"])
def test_resume_refuses_what_changed(shop: Workshop, reference: Reference, tmp_path: Path, what: str) -> None:
    source, output = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    source.write_bytes(reference.source.read_bytes())
    run = shop.start("restore", "--model", "identity", source, output, tunings=tunings(0.02))
    wait_for_segments(tmp_path, 3)
    run.kill()
    run.wait()
    extra: list[str] = []
    if what == "input":
        data = bytearray(source.read_bytes())
        data[len(data) // 2] ^= 1
        status = source.stat()
        source.write_bytes(bytes(data))
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "option":
        extra = ["--crf", "30"]
    else:
        extra = ["--model", "photo", "--device", "cpu", "--precision", "fp32"]
    journal = work_left(tmp_path)[0] / "journal.jsonl"
    before = journal.read_bytes()
    limits = Limits(address_space_growth=None)  # a real network maps more than a clip does
    outcome = shop.restore(source, output, "--resume", *extra, tunings=tunings(0.0), limits=limits)
    failed(outcome, "unfinished run was made with another", "--overwrite")
    assert not output.exists()
    assert journal.read_bytes() == before


def test_input_that_is_away_for_a_moment_loses_no_work(shop: Workshop, reference: Reference, tmp_path: Path) -> None:
    source, output = tmp_path / "clip.mkv", tmp_path / "out.mkv"
    source.write_bytes(reference.source.read_bytes())
    run = shop.start("restore", "--model", "identity", source, output, tunings=tunings(0.02))
    wait_for_segments(tmp_path, 4)
    run.kill()
    run.wait()
    away = source.rename(tmp_path / "away.mkv")
    failed(shop.restore(source, output, "--resume"), "no such file")
    source.write_bytes(b"")
    failed(shop.restore(source, output, "--resume"), "empty file")
    outcome = shop.restore(away, output, "--resume", "--codec", "nonsense")
    assert outcome.code == 2
    away.rename(source)
    outcome = shop.restore(source, output, "--resume", "--record", tmp_path / "r.json", tunings=tunings(0.0))
    assert outcome.code == 0, outcome.stderr
    assert json.loads((tmp_path / "r.json").read_text())["segments_resumed"] >= 4


# The self-check.


@pytest.mark.parametrize("at", [60, 120])
def test_lost_packet_fails_the_self_check(shop: Workshop, reference: Reference, tmp_path: Path, at: int) -> None:
    output = tmp_path / "out.mkv"
    outcome = shop.restore(reference.source, output, tunings={**tunings(0.0), "lose": {"place": "mux", "at": at}})
    failed(outcome, "verify:", "out.failed-check.mkv")
    assert not output.exists() and (tmp_path / "out.failed-check.mkv").exists()


# In a program of one's own.


def test_failure_leaves_no_thread_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ns_video
    from ns_video.media.encode import FrameEncoder

    source = make_clip(tmp_path / "clip.mkv", RECIPES["ffv1.nut"].__class__("matroska", "ffv1"), 30)
    threads = set(threading.enumerate())
    calls = 0

    def broken(self: FrameEncoder, frame: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        raise ValueError("broken")

    monkeypatch.setattr(FrameEncoder, "encode", broken)
    with pytest.raises(ns_video.NsVideoError, match="the encoder failed: broken"):
        ns_video.restore(source, tmp_path / "out.mkv", model="identity")
    assert calls == 1
    assert set(threading.enumerate()) <= threads
    assert not (tmp_path / "out.mkv").exists()


def test_places_of_kills_exist() -> None:
    from torture.faults import _places

    assert set(PLACES) <= set(_places())
