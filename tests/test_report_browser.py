"""The report in a real browser: nothing on the console, the slider moves, the plot zooms, the numbers are the JSON's.

Chromium is taken from PATH (or from CHROMIUM); where there is none these tests fail, unless NS_VIDEO_WITHOUT_BROWSER=1
says that they are not wanted: then they are reported as skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ns_video.frame import ColorInfo, Frame, PixelFormat
from ns_video.media.metrics import AudioOffset, FilterValues, FullReference
from ns_video.record import Damage, ModelInfo, RunRecord, StageTimes, StreamAction
from ns_video.report import Built, to_json, write_report
from ns_video.report.build import Built as BuiltType
from ns_video.report.document import (
    COMPARISON,
    RUN,
    AudioEntry,
    Cost,
    FrameEntry,
    FullMeansMeter,
    Measures,
    Report,
    StreamRow,
    TemporalEntry,
)
from ns_video.report.html import Listed, render_index
from ns_video.report.pictures import PicturePacker, choose
from ns_video.report.verdict import verdict
from ns_video.score import Sample, ScoredSample, Series, Shot

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
FORMAT = PixelFormat("gbrp", 8, True, 3, 0, 0, False)


def picture(number: int, noise: float, size: tuple[int, int] = (180, 320)) -> Frame:
    """A frame of (H, W) px."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    planes = [
        np.clip(
            128 + 90 * np.sin((columns + 9 * number) / (9 + c)) * np.cos(rows / 13) + noise * rng.standard_normal(size),
            0,
            255,
        )
        for c in range(3)
    ]
    samples = tuple(plane.astype(np.uint8) for plane in planes)
    return Frame(samples, size[1], size[0], FORMAT, ColorInfo(matrix=0, range=2), number, Fraction(1, 2))


def series(level: float) -> Series:
    made = Series()
    for number in range(40):
        made.add(number / 2, level + number % 3)
    return made


def built(kind: str, size: tuple[int, int] = (180, 320)) -> BuiltType:
    """A report made from figures that need no model: forty frames, two shots."""
    filters = FilterValues(1.5, 4.0, 60.0, 7.0, 110.0, 30.0, 200.0, 12.0, 120.0)
    entries, scored, meter = [], [], FullMeansMeter()
    for number in range(40):
        before, after = 40.0 + number / 2, 60.0 + number / 3
        sample = Sample(number, number // 20, number % 20 == 0, picture(number, 20, size), picture(number, 2, size))
        scored.append(ScoredSample(sample, before, after if kind == RUN else None))
        full = (
            FullReference(30 + number / 10, 40.0, 41.0, 29.0, 0.9, 0.89, 31.0, 40.0, 40.0)
            if kind == COMPARISON
            else None
        )
        if full is not None:
            meter.add(full, 0.95)
        entries.append(
            FrameEntry(
                index=number,
                pts_seconds=number / 2,
                shot=number // 20,
                first_of_shot=number % 20 == 0,
                before=Measures(before, filters),
                after=Measures(after, filters) if kind == RUN else None,
                full=full,
                ms_ssim=None if full is None else 0.95,
            )
        )
    record = RunRecord(
        version="1.0",
        input="in.mkv",
        output="out.mkv",
        preset="video",
        model=ModelInfo("video", "0123456789abcdef" * 4),
        device="cpu",
        precision="bf16",
        frames_in=40,
        frames_out=40,
        damage=[Damage(2.5, "h264: concealing 40 errors")],
        streams=[StreamAction(0, "video", "h264", "restored"), StreamAction(1, "audio", "aac", "copied")],
        stages={"decode": StageTimes(1, 2), "enhance": StageTimes(20, 1), "encode": StageTimes(2, 20)},
        limiting_stage="enhance",
        seconds=20.0,
        fps=2.0,
        fallbacks={"smaller tile": 1},
    )
    report = Report(
        kind=kind,
        version="1.0",
        clip="a rather long name of a clip, as files from cameras and downloads have them (2024).mkv",
        model_sha256="ab" * 32,
        frames=tuple(entries),
        shots=(Shot(0, 0, 0.0), Shot(1, 20, 10.0)),
        temporal=TemporalEntry(*(series(level) for level in (3, 1, 1, 0, 0, 0))),
        cost=Cost(0.5, 0.025, 40, 40),
        reference="truth.mkv" if kind == COMPARISON else None,
        full=meter.result() if kind == COMPARISON else None,
        streams=tuple(StreamRow(s.index, s.type, s.codec, s.action) for s in record.streams),
        damage=tuple(record.damage),
        audio=tuple(
            AudioEntry(AudioOffset(index, 0.1, 1234.567, 0.1), AudioOffset(index, -0.023, -1234.567, -0.023))
            for index in (1, 12)
        ),
        run=record if kind == RUN else None,
    )
    report = Report(**{**{name: getattr(report, name) for name in Report.__slots__}, "verdict": verdict(report)})
    chosen = choose(scored, 3) if kind == RUN else [*choose(scored, 2)]
    packer = PicturePacker(len(chosen))
    return Built(report, tuple(packer.pack(item) for item in chosen))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None and os.environ.get("NS_VIDEO_WITHOUT_BROWSER") == "1":
        pytest.skip("NS_VIDEO_WITHOUT_BROWSER=1: the report was not opened in a browser")
    assert program, "no chromium on PATH: install it (.ci/run does), set CHROMIUM, or NS_VIDEO_WITHOUT_BROWSER=1"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=[RUN, COMPARISON])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    page = tmp_path_factory.mktemp("browser") / "report.html"
    report = built(request.param)
    write_report(report, page)
    return page, to_json(report.report)


def opened(
    browser: Browser, path: Path, *, scheme: str = "light", width: int = 1200, ready: str = "html[data-ready=yes]"
) -> tuple[Page, list[str]]:
    """The page, ready, and everything that went wrong in it: console, exceptions, requests to anywhere."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # pyright: ignore
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(path.as_uri())
    page.wait_for_selector(ready, timeout=60_000)
    return page, wrong


def soon(page: Page, condition: str) -> None:
    """Waits up to 10 s; playwright's own waiting evaluates in the page, which the page forbids."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390)])
def test_it_opens_in_both_themes_and_on_a_phone(
    browser: Browser, written: tuple[Path, dict[str, Any]], scheme: str, width: int
) -> None:
    page, wrong = opened(browser, written[0], scheme=scheme, width=width)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page must not scroll sideways"
    ink, paper = (
        page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).slice(0, 3).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert (sum(ink) < sum(paper)) == (scheme == "light")
    if folder := os.environ.get("NS_VIDEO_SCREENSHOTS"):
        kind = written[1]["kind"]
        page.screenshot(path=str(Path(folder) / f"{kind}-{scheme}-{width}.png"), full_page=True)
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    assert wrong == []


@pytest.mark.parametrize("width", [1200, 390])
def test_the_table_of_sound_is_seen_whole(browser: Browser, written: tuple[Path, dict[str, Any]], width: int) -> None:
    page, wrong = opened(browser, written[0], width=width)
    table = page.locator(".sound")
    box = table.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
    widths = page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.querySelector('.sound').parentElement)")
    assert widths[0] <= widths[1], "nothing of it is to be scrolled to"
    heads, cells = table.locator("th").all(), table.locator("tbody tr").first.locator("td").all()
    assert all(cell.is_visible() for cell in cells)
    assert len(cells) == (5 if written[1]["kind"] == "run" else 3) == len(heads)
    names = [head.text_content() for head in heads]
    assert [cell.get_attribute("data-head") for cell in cells] == names
    assert [head.is_visible() for head in heads] == [width > 640] * len(heads)
    assert wrong == []


def test_the_slider_moves_and_all_views_show(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    slider = page.locator("img-comparison-slider")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box
    position = "document.querySelector('img-comparison-slider').value"
    assert page.evaluate(position) == 50
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert page.evaluate(position) == pytest.approx(20, abs=3)
    for mode, pictures in (("beside", 2), ("single", 1), ("heat", 1), ("edges", 1), ("slider", 2)):
        page.click(f"[data-mode={mode}]")
        assert page.locator("#stage img").count() == pictures
        loaded = page.evaluate(
            "Promise.all([...document.querySelectorAll('#stage img')].map(i => i.decode().then(() => i.naturalWidth)))"
        )
        assert min(loaded) > 100
    assert wrong == []


def test_zoom_is_the_same_in_both_pictures(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    page.click("[data-mode=beside]")
    page.click("#zoom-in")
    page.click("#zoom-in")
    transforms = page.evaluate("[...document.querySelectorAll('#stage img')].map(i => getComputedStyle(i).transform)")
    assert len(transforms) == 2 and transforms[0] == transforms[1]
    scale = float(re.findall(r"matrix\(([\d.]+)", transforms[0])[0])
    assert scale == pytest.approx(2.25, abs=0.01)
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 70, steps=4)
    page.mouse.up()
    moved = page.evaluate("[...document.querySelectorAll('#stage img')].map(i => getComputedStyle(i).transform)")
    assert moved[0] == moved[1] != transforms[0]
    page.click("#zoom-all")
    fitted = page.evaluate("[...document.querySelectorAll('#stage img')].map(i => i.getBoundingClientRect().width)")
    assert page.inner_text("#zoom-now") == f"{round(100 * fitted[0] / 320)} %", "of the picture's pixels"
    assert wrong == []


def test_views_are_chosen_and_swapped_with_the_keyboard(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    focused = "document.activeElement.dataset.mode ?? document.activeElement.id"
    for mode in ("beside", "heat", "edges", "slider", "single"):
        page.focus(f"[data-mode={mode}]")
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == mode
        assert page.get_attribute(f"[data-mode={mode}]", "aria-pressed") == "true"
    page.focus("#stage")
    source = "document.querySelector('#stage img').src"
    seen = [page.evaluate(source)]
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
        assert page.evaluate(focused) == "stage"
        seen.append(page.evaluate(source))
    assert seen[0] == seen[2] != seen[1]
    assert "press to swap" in (page.get_attribute("#stage", "aria-label") or "")
    page.click("[data-mode=heat]")
    assert page.get_attribute("#stage", "tabindex") is None
    assert wrong == []


def test_a_zoomed_split_is_dragged_and_its_divider_by_the_handle(
    browser: Browser, written: tuple[Path, dict[str, Any]]
) -> None:
    page, wrong = opened(browser, written[0])
    page.click("#zoom-in")
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    state = """[document.querySelector('img-comparison-slider').value,
        ...[...document.querySelectorAll('#stage img')].map(i => getComputedStyle(i).transform)]"""

    def dragged(from_x: float) -> list[Any]:
        page.mouse.move(from_x, middle[1])
        page.mouse.down()
        page.mouse.move(from_x + 60, middle[1] + 20, steps=4)
        page.mouse.up()
        return page.evaluate(state)

    before = page.evaluate(state)
    panned = dragged(middle[0] - 200)
    assert panned[0] == 50 and panned[1] == panned[2] != before[1]
    split = dragged(middle[0])
    assert split[0] == pytest.approx(50 + 6000 / box["width"], abs=1) and split[1:] == panned[1:]
    assert wrong == []


def test_the_wheel_zooms_with_ctrl_and_scrolls_without(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 250)
    scrolled, zoom = page.evaluate("scrollY"), page.inner_text("#zoom-now")
    assert scrolled > 100
    page.mouse.wheel(0, -100)
    soon(page, f"scrollY < {scrolled}")
    assert page.inner_text("#zoom-now") == zoom
    scrolled = page.evaluate("scrollY")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    soon(page, f"document.getElementById('zoom-now').innerText !== '{zoom}'")
    assert page.evaluate("scrollY") == scrolled
    assert "Ctrl" in page.inner_text("#pictures")
    assert wrong == []


@pytest.mark.parametrize("width", [1200, 390])
def test_a_portrait_picture_fits_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    write_report(built(RUN, (128, 96)), tmp_path / "report.html")
    page, wrong = opened(browser, tmp_path / "report.html", width=width)
    for mode in ("slider", "beside", "single"):
        page.click(f"[data-mode={mode}]")
        panes = page.evaluate(
            "[...document.querySelectorAll('#stage img')].map(i => [i.getBoundingClientRect(), i.width / i.height])"
        )
        stage = page.locator("#stage").bounding_box()
        assert stage
        for pane, ratio in panes:
            assert 100 < pane["height"] <= min(stage["height"], 0.8 * 844) + 1, mode
            assert ratio == pytest.approx(96 / 128, abs=0.01), mode
        assert page.inner_text("#zoom-now") == f"{round(100 * panes[0][0]['width'] / 96)} %"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []


def test_plots_have_names_and_ticks_tell_milliseconds(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    names = page.evaluate("[...document.querySelectorAll('canvas')].map(c => c.ariaLabel)")
    assert names == ["ns-iqa over time", "histogram of red", "histogram of green", "histogram of blue"]
    ticks = page.evaluate("nsVideoPlot.axes[0].values(nsVideoPlot, [-1e-9, 0.025, 0.05, 0.1 + 0.2, 59, 60, 3661.5])")
    assert ticks == ["0 s", "0.025 s", "0.05 s", "0.3 s", "59 s", "1:00", "1:01:01.500"]
    assert wrong == []


def test_the_plot_zooms_by_drag_and_buttons(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    shown = "[nsVideoPlot.scales.x.min, nsVideoPlot.scales.x.max]"
    whole = page.evaluate(shown)
    assert whole == [0, 19.5]
    page.locator("#plot .u-over").scroll_into_view_if_needed()
    box = page.locator("#plot .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40, steps=5)
    page.mouse.up()
    page.wait_for_timeout(100)
    low, high = page.evaluate(shown)
    assert low == pytest.approx(4.9, abs=0.4) and high == pytest.approx(9.75, abs=0.4)
    page.click("#plot-all")
    assert page.evaluate(shown) == whole
    page.click("#plot-in")
    low, high = page.evaluate(shown)
    assert high - low < 0.8 * 19.5
    for button in page.locator("#curves button").all():
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
    page.click("[data-histogram=hsv]")
    assert page.locator("#histograms .uplot").count() == 3
    assert wrong == []


def test_the_numbers_are_those_of_the_json(browser: Browser, written: tuple[Path, dict[str, Any]]) -> None:
    page, wrong = opened(browser, written[0])
    path, data = written
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads(json.dumps(data))
    shown = page.evaluate("[...document.querySelectorAll('[data-key]')].map(e => [e.dataset.key, e.textContent])")
    assert len(shown) >= 8
    for key, text in shown:
        value: Any = data
        for part in key.split("."):
            value = value[part]
        digits = len(text.partition(".")[2])
        assert float(text) == pytest.approx(value, abs=0.5001 * 10**-digits), key
    plotted = page.evaluate("nsVideoPlot.data.map(row => [...row])")
    assert plotted[0] == [frame["pts_seconds"] for frame in data["frames"]]
    last = [frame["after"]["ns_iqa"] if data["kind"] == "run" else frame["ns_iqa"] for frame in data["frames"]]
    assert plotted[-1] == last
    assert [s["text"] for s in data["verdict"]] == page.locator(".verdict li").all_inner_texts()
    assert wrong == []


def test_names_in_the_index_have_room_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    listed = [
        Listed(
            name, tmp_path / "x.html", 46.7, 46.9, "No visible difference in quality: 46.7 → 46.9.", damaged_places=2
        )
        for name in ("bad.mp4", "a long name of a clip, as cameras and people like them (2024-11-22).mp4")
    ]
    (tmp_path / "index.html").write_text(render_index(listed, tmp_path), encoding="utf-8")
    page, wrong = opened(browser, tmp_path / "index.html", width=390, ready="html[data-theme]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lines = page.evaluate("[...document.querySelectorAll('.index a')].map(a => a.getClientRects().length)")
    assert lines[0] == 1 and lines[1] <= 3
    row = page.locator(".index tbody tr").first
    assert row.locator("[data-head=before]").is_visible() and not page.locator(".index thead").is_visible()
    assert wrong == []
