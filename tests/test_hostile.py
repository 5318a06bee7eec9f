"""Files from strangers, names from hell: one clear line, the right exit code, nothing opened, nothing left behind."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import random
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torture.clips import (
    RECIPES,
    content_of,
    cut,
    decodable_frames,
    jpeg_claiming,
    make_clip,
    matroska_claiming,
    mutated,
    png_claiming,
)
from torture.workshop import Limits, Outcome, Workshop

pytest_plugins = ["torture.fixtures"]

MEMORY_BYTES = 300 << 20
"""What a refused file may cost beyond the imports."""


def refused(outcome: Outcome, *words: str) -> None:
    """Exit 1 in time, with one line that says why and no traceback."""
    assert not outcome.hung
    assert outcome.code == 1, (outcome.code, outcome.signal, outcome.stderr)
    assert not outcome.traceback, outcome.stderr
    assert len(outcome.error_lines) == 1, outcome.stderr
    for word in words:
        assert word in outcome.error_lines[0], (word, outcome.stderr)


def nothing_but(folder: Path, *names: str) -> None:
    """The folder holds these files and nothing else."""
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


# Inputs that hold nothing to restore.


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _audio_only(folder: Path, seeds: dict[str, Path]) -> Path:
    import av

    path = folder / "sound.mp4"
    with av.open(str(seeds["h264.ts"])) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path


def _loop(folder: Path, _: dict[str, Path]) -> Path:
    path = folder / "loop.mp4"
    path.symlink_to(path)
    return path


def _silent_pipe(folder: Path, _: dict[str, Path]) -> Path:
    path = folder / "pipe.mkv"
    os.mkfifo(path)
    return path


def _pixmap_pipe(folder: Path, _: dict[str, Path]) -> Path:
    """Which has nothing more for whoever opens it again."""
    path = folder / "a.ppm"
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(PIXMAP,), daemon=True).start()
    return path


PIXMAP = b"P6\n2 2\n255\n" + bytes(12)
UNUSABLE: dict[str, tuple[Callable[[Path, dict[str, Path]], Path], str]] = {
    "missing": (lambda f, _: f / "nothing.mp4", "no such file"),
    "empty": (lambda f, _: _written(f / "empty.webm", b""), "is an empty file"),
    "text": (lambda f, _: _written(f / "notes.mp4", b"dear diary,\nthis is no film\n" * 40), "not a media file"),
    "page": (lambda f, _: _written(f / "page.mkv", b"<!DOCTYPE html><html><body>404</body></html>" * 9), "media file"),
    "git-lfs": (
        lambda f, _: _written(f / "big.mov", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        "git-lfs pointer",
    ),
    "zeros": (lambda f, _: _written(f / "zeros.ts", bytes(50_000)), "zeros.ts"),
    "noise": (lambda f, _: _written(f / "noise.avi", random.Random(1).randbytes(50_000)), "noise.avi"),
    "folder": (lambda f, _: f, "is a folder"),
    "audio only": (_audio_only, "no video stream"),
    "link to itself": (_loop, "loop.mp4"),
    "index missing": (
        lambda f, c: _written(f / "cut.mp4", cut(c["index-at-end.mp4"].read_bytes(), 0.9)),
        "header is damaged",
    ),
    "262 bytes": (lambda f, c: _written(f / "short.mp4", c["faststart.mp4"].read_bytes()[:262]), "short.mp4"),
    "pixmap": (
        lambda f, c: _written(f / "a.ppm", PIXMAP),
        "is a picture (Pbmplus image), but no JPEG, PNG, WebP",
    ),
    "pixmap through a pipe": (_pixmap_pipe, "no JPEG, PNG, WebP"),
    "header only": (lambda f, c: _written(f / "header.webm", c["vp9.webm"].read_bytes()[:700]), "header.webm"),
    "pipe without a writer": (_silent_pipe, "nobody writes to the pipe"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_input_is_named(shop: Workshop, seeds: dict[str, Path], tmp_path: Path, kind: str) -> None:
    made = tmp_path / "in"
    made.mkdir()
    build, words = UNUSABLE[kind]
    out = tmp_path / "out"
    out.mkdir()
    outcome = shop.restore(build(made, seeds), out / "out.mkv")
    refused(outcome, words)
    assert outcome.seconds < 30
    nothing_but(out)


def test_encrypted_input_is_named(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    data = seeds["faststart.mp4"].read_bytes().replace(b"avc1", b"encv")
    source = _written(tmp_path / "drm.mp4", data)
    outcome = shop.restore(source, tmp_path / "out.mkv")
    refused(outcome, "drm.mp4")
    nothing_but(tmp_path, "drm.mp4")


def test_index_at_the_end_cannot_come_through_a_pipe(shop: Workshop, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPES["index-at-end.mp4"], codec="mjpeg", pix_fmt="yuvj420p", codec_options=())
    source = make_clip(tmp_path / "long.mp4", recipe, 150, size=(320, 240))
    assert source.stat().st_size > 600_000
    outcome = shop.restore("-", tmp_path / "out.mkv", stdin=source)
    refused(outcome, "standard input", "faststart")
    nothing_but(tmp_path, "long.mp4")


def test_closed_standard_input_is_named(shop: Workshop, tmp_path: Path) -> None:
    refused(shop.restore("-", tmp_path / "out.mkv"), "standard input")
    nothing_but(tmp_path)


# Headers that lie about sizes.


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_still_that_claims_65535_squared_is_refused_unread(shop: Workshop, tmp_path: Path, kind: str) -> None:
    data = png_claiming(65535, 65535) if kind == "png" else jpeg_claiming(65535, 65535)
    source = _written(tmp_path / f"bomb.{kind}", data)
    outcome = shop.restore(source, tmp_path / "out.png")
    refused(outcome, "claims 65535x65535 pixels", "--max-pixels")
    assert outcome.peak_memory < shop.baseline + MEMORY_BYTES
    nothing_but(tmp_path, source.name)


@pytest.mark.parametrize("side", [16383, 0])
def test_clip_that_claims_a_huge_picture_is_bounded(
    shop: Workshop, seeds: dict[str, Path], tmp_path: Path, side: int
) -> None:
    source = _written(tmp_path / "bomb.mkv", matroska_claiming(seeds["h264.mkv"].read_bytes(), side, side))
    outcome = shop.restore(source, tmp_path / "out.mkv")
    assert not outcome.hung and not outcome.traceback and not outcome.signal, outcome.stderr
    assert outcome.code in (0, 1, 3)
    assert outcome.peak_memory < shop.baseline + MEMORY_BYTES
    if outcome.code != 1:
        assert len(content_of(tmp_path / "out.mkv").frames) == 24


def test_max_pixels_is_the_users(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    outcome = shop.restore(seeds["h264.mkv"], tmp_path / "out.mkv", "--max-pixels", "3071")
    refused(outcome, "64x48", "--max-pixels 3072")
    assert shop.restore(seeds["h264.mkv"], tmp_path / "out.mkv", "--max-pixels", "3072").code == 0


# Names.

NAMES = [
    "a:b.mp4",
    "concat:x.mp4",
    "http:x.mp4",
    "pipe:0.mp4",
    "%03d.mp4",
    "two\nlines.mp4",
    "$(touch pwned).mp4",
    "'quoted' \"name\".mp4",
    "*.mp4",
    "фильм 映画 e\u0301.mp4",
    "\u202egnp.mp4",
    "\x1b[31mred.mp4",
    "x" * 240 + ".mp4",
    "not-utf8-\udcff.mp4",
    " leading space.mp4",
    "[1].mp4",
]


@pytest.mark.parametrize("name", NAMES, ids=[str(i) for i in range(len(NAMES))])
def test_odd_names_are_only_names(shop: Workshop, seeds: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    _written(folder / name, seeds["fragmented.mp4"].read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    outcome = shop.restore(name, os.path.join("..", "out", name), cwd=folder)  # noqa: PTH118 - a string, as typed
    assert outcome.code == 0, outcome.stderr
    assert [os.fsencode(p.name) for p in out.iterdir()] == [os.fsencode(name)]
    assert len(content_of(out / name).frames if "\udcff" not in name else "x" * 24) == 24
    assert "\x1b" not in outcome.stderr and "\u202e" not in outcome.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_name_with_a_leading_dash(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    _written(tmp_path / "-y.mp4", seeds["fragmented.mp4"].read_bytes())
    outcome = shop.restore("./-y.mp4", "./-o.mkv", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    nothing_but(tmp_path, "-y.mp4", "-o.mkv")


def test_control_characters_are_escaped_in_messages(shop: Workshop, tmp_path: Path) -> None:
    outcome = shop.restore(tmp_path / "a\n\x1b[31m\u202eb.mp4", tmp_path / "out.mkv")
    refused(outcome, "\\n\\x1b[31m\\u202eb.mp4: no such file")


# Files that name other files.


def test_playlists_open_nothing(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    secret = _written(tmp_path / "secret.ts", seeds["h264.ts"].read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        m3u = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
        svg = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{url}"/></svg>'
        hostile = {
            "a.m3u8": m3u.format(secret.name),
            "b.m3u8": m3u.format(url),
            "c.mp4": m3u.format(secret.name),
            "d.ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
            "e.mkv": f"ffconcat version 1.0\nfile '{secret}'\n",
            "f.svg": svg,
            "g.sdp": sdp,
            "h.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>',
            "i.mp4": f"subfile,,start,0,end,0,,:{secret}",
        }
        for name, text in hostile.items():
            source = tmp_path / name
            source.write_text(text)
            refused(shop.restore(source, tmp_path / "out.mkv"), name)
            source.unlink()
        with pytest.raises(TimeoutError):
            server.accept()
    nothing_but(tmp_path, "secret.ts")


def test_an_allowed_protocol_is_read(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in.mkv").write_bytes(seeds["h264.mkv"].read_bytes())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/in.mkv"
        outcome = shop.restore(url, tmp_path / "out.mkv", "--allow-protocol", "http", "--codec", "ffv1")
        server.shutdown()
    assert outcome.code == 0, outcome.stderr
    assert content_of(tmp_path / "out.mkv").frames == content_of(tmp_path / "in.mkv").frames
    nothing_but(tmp_path, "in.mkv", "out.mkv")


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/x.mp4", "concat://a|b", "subfile://x", "tcp://127.0.0.1:9"])
def test_protocols_are_refused(shop: Workshop, tmp_path: Path, name: str) -> None:
    outcome = shop.restore(name, tmp_path / "out.mkv")
    assert outcome.code == 2, outcome.stderr
    assert "--allow-protocol" in outcome.error_lines[0]
    outcome = shop.restore(name, name + ".mkv")
    assert outcome.code == 2, outcome.stderr
    nothing_but(tmp_path)


# Damage: what can be decoded comes out, and the exit code says that something is missing.


@pytest.mark.parametrize("share", [0.25, 0.6, 0.93])
@pytest.mark.parametrize("name", ["faststart.mp4", "h264.mkv", "vp9.webm", "mpeg4.avi", "h264.ts", "ffv1.nut"])
def test_truncated_clip_gives_every_decodable_frame(
    shop: Workshop, seeds: dict[str, Path], tmp_path: Path, name: str, share: float
) -> None:
    source = _written(tmp_path / name, cut(seeds[name].read_bytes(), share))
    record = tmp_path / "record.json"
    outcome = shop.restore(source, tmp_path / "out.mkv", "--record", record)
    expected = decodable_frames(source)
    if expected == 0:
        refused(outcome, name)
        return
    row = json.loads(record.read_text())
    assert outcome.code in ((0, 3) if name == "h264.ts" else (3,)), (outcome.code, outcome.stderr)
    assert row["frames_out"] >= expected
    assert len(content_of(tmp_path / "out.mkv").frames) == row["frames_out"]
    if outcome.code == 3:
        assert any(d["pts_seconds"] is not None for d in row["damage"]), row["damage"]


def test_strict_stops_at_damage(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    source = _written(tmp_path / "cut.mkv", cut(seeds["h264.mkv"].read_bytes(), 0.6))
    refused(shop.restore(source, tmp_path / "out.mkv", "--strict"), "decode at", "--strict")
    assert not (tmp_path / "out.mkv").exists()


def test_stream_without_its_first_key_frame(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    data = seeds["h264.ts"].read_bytes()
    source = _written(tmp_path / "middle.ts", data[len(data) // 752 * 188 :])
    record = tmp_path / "record.json"
    outcome = shop.restore(source, tmp_path / "out.mkv", "--record", record)
    assert outcome.code == 3, outcome.stderr
    assert json.loads(record.read_text())["damage"]
    assert len(content_of(tmp_path / "out.mkv").frames) >= decodable_frames(source) > 0


def test_burst_in_the_middle_keeps_the_rest_in_time(shop: Workshop, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "whole.mkv", RECIPES["h264.mkv"], 48)
    whole = dict(content_of(source).frames)
    data = bytearray(source.read_bytes())
    start = len(data) // 2
    data[start : start + 600] = random.Random(5).randbytes(600)
    source.write_bytes(bytes(data))
    outcome = shop.restore(source, tmp_path / "out.mkv", "--record", tmp_path / "record.json")
    assert outcome.code == 3, outcome.stderr
    out = content_of(tmp_path / "out.mkv")
    assert decodable_frames(source) <= len(out.frames) <= 48
    assert {time for time, _ in out.frames} <= set(whole)


def test_truncated_still(shop: Workshop, pictures: dict[str, Path], tmp_path: Path) -> None:
    for name in ("still.jpg", "still.png", "still.tif", "animated.webp"):
        source = _written(tmp_path / name, cut(pictures[name].read_bytes(), 0.6))
        target = tmp_path / ("out.mkv" if name == "animated.webp" else "out.png")
        outcome = shop.restore(source, target, "-y")
        assert outcome.code in (1, 3), (name, outcome.stderr)
        assert not outcome.traceback and target.exists() == (outcome.code == 3)
        target.unlink(missing_ok=True)
    assert shop.restore(pictures["still.jpg"], tmp_path / "out.png").code == 0


def test_damaged_still_is_exit_3(shop: Workshop, pictures: dict[str, Path], tmp_path: Path) -> None:
    source = _written(tmp_path / "cut.jpg", cut(pictures["still.jpg"].read_bytes(), 0.7))
    outcome = shop.restore(source, tmp_path / "out.png")
    assert outcome.code == 3, outcome.stderr
    assert "damage" in outcome.stderr
    refused(shop.restore(source, tmp_path / "strict.png", "--strict"), "decode")


def test_mutated_files_never_break_a_promise(
    shop: Workshop, seeds: dict[str, Path], pictures: dict[str, Path], tmp_path: Path
) -> None:
    """The short form of benchmarks/fuzz.py: any bytes end in time, without a signal or traceback, with a true code."""
    rng = random.Random(7)
    sources = [*seeds.values(), *(p for n, p in pictures.items() if n != "animated.webp")]
    for number in range(45):
        seed = sources[number % len(sources)]
        source = _written(tmp_path / f"in{seed.suffix}", mutated(seed.read_bytes(), rng))
        output = tmp_path / ("out.png" if seed.parent.name.startswith("stills") else "out.mkv")
        outcome = shop.restore(source, output)
        told = (seed.name, number, outcome.code, outcome.stderr)
        assert not outcome.hung and not outcome.signal and not outcome.traceback, told
        assert outcome.code in (0, 1, 3), told
        assert output.exists() == (outcome.code != 1), told
        output.unlink(missing_ok=True)
        source.unlink()
        nothing_but(tmp_path)


# Resources.


def test_little_address_space_is_an_error_not_a_crash(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    """What libav would crash of is refused before its threads start."""
    for growth in (4 << 20, 24 << 20, 64 << 20, 128 << 20):
        limits = Limits(address_space_growth=growth)
        refused(shop.restore(seeds["h264.mkv"], tmp_path / "out.mkv", limits=limits), "memory")


def test_few_descriptors_suffice(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    outcome = shop.restore(seeds["h264.mkv"], tmp_path / "out.mkv", limits=Limits(open_files=32))
    assert outcome.code == 0, outcome.stderr


def test_report_and_record_never_replace_input_or_output(
    shop: Workshop, seeds: dict[str, Path], tmp_path: Path
) -> None:
    source = _written(tmp_path / "in.mkv", seeds["h264.mkv"].read_bytes())
    before = source.read_bytes()
    (tmp_path / "link.json").symlink_to(source)
    for name in ("in.mkv", "link.json", "out.mkv"):
        outcome = shop.restore(source, tmp_path / "out.mkv", "--record", tmp_path / name)
        assert outcome.code == 2, (name, outcome.stderr)
    refused(shop.restore(source, tmp_path / "out.mkv", "--record", tmp_path / "no" / "x.json"), "can't be written")
    assert source.read_bytes() == before and not (tmp_path / "out.mkv").exists()


def test_report_and_record_keep_out_of_each_others_way(shop: Workshop, seeds: dict[str, Path], tmp_path: Path) -> None:
    source = _written(tmp_path / "in.mkv", seeds["h264.mkv"].read_bytes())
    page = tmp_path / "run.html"
    for name in ("run.html", "run.json", "./run.json"):
        outcome = shop.restore(source, tmp_path / "out.mkv", "--report", page, "--record", f"{tmp_path}/{name}")
        assert outcome.code == 2 and "--record" in outcome.error_lines[0], (name, outcome.stderr)
    nothing_but(tmp_path, "in.mkv")
    kept = _written(tmp_path / "run.json", b"{}")
    outcome = shop.restore(source, tmp_path / "out.mkv", "--report", page)
    assert outcome.code == 2 and "--overwrite" in outcome.error_lines[0], outcome.stderr
    assert kept.read_bytes() == b"{}"
    nothing_but(tmp_path, "in.mkv", "run.json")
