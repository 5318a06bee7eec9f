"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const pictures = JSON.parse(document.getElementById("report-pictures").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  };
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const clock = (s) => {
    if (s === null || s === undefined) return "–";
    const ms = Math.round(Math.abs(s) * 1000), m = Math.floor(ms / 60000), h = Math.floor(m / 60);
    const sign = s < 0 && ms ? "-" : "", rest = ((ms - 60000 * m) / 1000).toFixed(3);
    if (!m) return `${sign}${rest} s`;
    return sign + (h ? `${h}:${String(m % 60).padStart(2, "0")}:${rest.padStart(6, "0")}` : `${m}:${rest.padStart(6, "0")}`);
  };
  const number = (v, digits = 2) => (v === null || v === undefined ? "–" : typeof v === "number" ? v.toFixed(digits) : v);
  const labels = data.kind === "comparison" ? ["clip", "reference"] : ["before", "after"];

  // ---- light and dark -------------------------------------------------------------------------------------------
  const redrawn = [];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (name) => {
    root.dataset.theme = name;
    byId("theme").textContent = name === "dark" ? "Light" : "Dark";
    redrawn.forEach((draw) => draw());
  };
  byId("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));

  // ---- plots (uPlot) --------------------------------------------------------------------------------------------
  const axes = (format) => {
    const line = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    return [{ ...line, values: format ? (u, ticks) => ticks.map(format) : undefined }, { ...line, size: 52 }];
  };
  const shotLines = (u) => {
    const context = u.ctx, ratio = devicePixelRatio || 1;
    context.save();
    context.strokeStyle = color("--shot");
    context.lineWidth = ratio;
    context.setLineDash([4 * ratio, 4 * ratio]);
    for (const shot of data.shots.slice(1)) {
      if (shot.pts_seconds < u.scales.x.min || shot.pts_seconds > u.scales.x.max) continue;
      const x = Math.round(u.valToPos(shot.pts_seconds, "x", true));
      context.beginPath();
      context.moveTo(x, u.bbox.top);
      context.lineTo(x, u.bbox.top + u.bbox.height);
      context.stroke();
    }
    context.restore();
  };

  const paint = { before: "--before", after: "--after", plain: "--accent" };
  const curves = {};
  const sampled = data.frames.filter((frame) => frame.ns_iqa !== undefined);
  const times = (rows) => rows.map((row) => row.pts_seconds ?? row.index);
  if (sampled.length > 1) {
    curves["ns-iqa"] = data.kind === "run"
      ? { x: times(sampled), y: [["before", "before", sampled.map((f) => f.before.ns_iqa)], ["after", "after", sampled.map((f) => f.after && f.after.ns_iqa)]], range: [0, 100] }
      : { x: times(sampled), y: [["ns-iqa", "plain", sampled.map((f) => f.ns_iqa)]], range: [0, 100] };
  }
  if (data.kind === "comparison" && data.frames.length > 1) {
    for (const [key, title] of [["psnr_y", "PSNR Y"], ["ssim", "SSIM"], ["ms_ssim", "MS-SSIM"], ["xpsnr", "XPSNR"]]) {
      const rows = key === "ms_ssim" ? data.frames.filter((f) => key in f) : data.frames;  // of every nth frame alone
      if (rows.some((f) => typeof f[key] === "number")) curves[title] = { x: times(rows), y: [[title, "plain", rows.map((f) => f[key] ?? null)]] };
    }
  }
  const timeline = (name, entries) => {
    const used = entries.filter(([, , series]) => series && series.points.length > 1);
    if (used.length) curves[name] = { x: used[0][2].points.map((p) => p[0]), y: used.map(([label, ink, series]) => [label, ink, series.points.map((p) => p[1])]) };
  };
  const temporal = data.temporal;
  timeline("Flicker", temporal.flicker ? [[data.kind === "comparison" ? "clip" : "flicker", "plain", temporal.flicker], ...(temporal.flicker_reference && temporal.flicker_reference.points.length === temporal.flicker.points.length ? [["reference", "before", temporal.flicker_reference]] : [])] : [["before", "before", temporal.flicker_before], ["after", "after", temporal.flicker_after]]);
  timeline("Luma drift", [["luma", "plain", temporal.luma_drift]]);
  timeline("Chroma drift", [["Cb", "plain", temporal.cb_drift], ["Cr", "bad", temporal.cr_drift]]);

  const named = (drawn, words) => {
    const canvas = drawn.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words);
    return drawn;
  };
  const tick = (t) => (Math.abs(t) < 60 ? `${+t.toFixed(6)} s` : clock(t).replace(/\.000$/, ""));

  let plot = null, current = Object.keys(curves)[0];
  const drawPlot = () => {
    const host = byId("plot");
    if (!current) return;
    const seen = plot && plot.name === current ? { min: plot.scales.x.min, max: plot.scales.x.max } : null;
    if (plot) plot.destroy();
    const curve = curves[current];
    const points = curve.x.length < 120;
    plot = named(new uPlot({
      width: host.clientWidth, height: Math.max(220, Math.min(320, host.clientWidth * 0.5)),
      scales: { x: { time: false }, y: curve.range ? { range: curve.range } : {} },
      cursor: { drag: { x: true, y: false } },
      axes: axes(clock).map((axis, i) => (i === 0 ? { ...axis, values: (u, ticks) => ticks.map(tick) } : axis)),
      series: [{ label: "time", value: (u, v) => (v === null ? "–" : clock(v)) },
        ...curve.y.map(([label, ink]) => ({ label, stroke: color(paint[ink] || `--${ink}`), width: 2, points: { show: points, size: 6 }, value: (u, v) => number(v, 3) }))],
      hooks: { drawAxes: [shotLines] },
    }, [curve.x, ...curve.y.map((row) => row[2])], host), `${current} over time`);
    plot.name = current;
    window.nsVideoPlot = plot;
    if (seen) plot.setScale("x", seen);
  };
  const zoomPlot = (factor) => {
    if (!plot) return;
    const { min, max } = plot.scales.x, half = ((max - min) * factor) / 2;
    const x = curves[current].x, low = x[0], high = x[x.length - 1];
    const middle = plot.cursor.left > 0 ? plot.posToVal(plot.cursor.left, "x") : (min + max) / 2;
    if (factor === 0) plot.setScale("x", { min: low, max: high });
    else plot.setScale("x", { min: Math.max(low, middle - half), max: Math.min(high, middle + half) });
  };
  if (current) {
    for (const name of Object.keys(curves)) {
      const button = make("button", { type: "button", textContent: name });
      button.setAttribute("aria-pressed", String(name === current));
      button.addEventListener("click", () => {
        current = name;
        for (const other of byId("curves").children) other.setAttribute("aria-pressed", String(other === button));
        drawPlot();
      });
      byId("curves").append(button);
    }
    byId("plot-in").addEventListener("click", () => zoomPlot(0.5));
    byId("plot-out").addEventListener("click", () => zoomPlot(2));
    byId("plot-all").addEventListener("click", () => zoomPlot(0));
    redrawn.push(drawPlot);
  } else byId("over-time").hidden = true;

  // ---- pictures -------------------------------------------------------------------------------------------------
  const stage = byId("stage");
  const view = { number: 0, mode: null, zoom: 1, x: 0, y: 0, second: true };
  const modes = () => {
    const picture = pictures[view.number];
    return picture.second ? [["slider", "Split"], ["beside", "Side by side"], ["single", "Single"], ["heat", "Difference"], ["edges", "Edges"]] : [["single", "Picture"], ["edges", "Edges"]];
  };
  const place = () => {
    const frame = stage.querySelector("img").parentElement.getBoundingClientRect();
    view.x = Math.min(0, Math.max(frame.width * (1 - view.zoom), view.x));
    view.y = Math.min(0, Math.max(frame.height * (1 - view.zoom), view.y));
    const slider = stage.querySelector("img-comparison-slider");
    if (slider) slider.handle = view.zoom > 1; // the rest of an enlarged picture is for dragging it
    stage.style.setProperty("--zoom", view.zoom);
    stage.style.setProperty("--x", `${view.x}px`);
    stage.style.setProperty("--y", `${view.y}px`);
    stage.classList.toggle("zoomed", view.zoom > 1);
    stage.classList.toggle("zoomed-in", view.zoom >= 3);
    byId("zoom-now").textContent = `${Math.round((100 * view.zoom * frame.width) / pictures[view.number].width)} %`;
  };
  const zoomAt = (factor, event) => {
    const under = event && event.target.closest(".pane, figure");
    const frame = (under || stage.querySelector("img").parentElement).getBoundingClientRect();
    const px = under ? event.clientX - frame.left : frame.width / 2;
    const py = under ? event.clientY - frame.top : frame.height / 2;
    const zoom = Math.min(16, Math.max(1, view.zoom * factor)), ratio = zoom / view.zoom;
    view.x = px - (px - view.x) * ratio;
    view.y = py - (py - view.y) * ratio;
    view.zoom = zoom;
    place();
  };
  const image = (source, picture, words) => make("img", { src: source, alt: words, width: picture.width, height: picture.height, draggable: false });
  const pane = (source, picture, words) => make("div", { className: "pane" }, image(source, picture, words), make("span", { className: "tag left", textContent: words }));
  const showModes = () => {
    const bar = byId("modes"), wanted = modes();
    if (!wanted.some(([name]) => name === view.mode)) view.mode = wanted[0][0];
    if (bar.children.length !== wanted.length) {
      bar.replaceChildren(...wanted.map(([name, words]) => {
        const button = make("button", { type: "button", textContent: words });
        button.dataset.mode = name;
        button.addEventListener("click", () => { view.mode = name; show(); });
        return button;
      }));
    }
    for (const button of bar.children) button.setAttribute("aria-pressed", String(button.dataset.mode === view.mode));
  };
  const swaps = () => view.mode === "single" && Boolean(pictures[view.number].second);
  const swap = () => { view.second = !view.second; show(); };
  let drag = null;
  const show = () => {
    const picture = pictures[view.number];
    showModes();
    stage.className = `stage ${view.mode}`;
    stage.style.setProperty("--ratio", picture.width / picture.height);
    const [one, other] = labels;
    if (view.mode === "slider") {
      const slider = make("img-comparison-slider", { value: 50 });
      slider.addEventListener("slide", () => { drag = null; });
      slider.setAttribute("aria-label", "split between both pictures");
      [["first", picture.first, one, "left"], ["second", picture.second, other, "right"]].forEach(([slot, source, words, side]) => {
        const figure = make("figure", {}, image(source, picture, words), make("span", { className: `tag ${side}`, textContent: words }));
        figure.slot = slot;
        slider.append(figure);
      });
      stage.replaceChildren(slider);
    } else if (view.mode === "beside") stage.replaceChildren(pane(picture.first, picture, one), pane(picture.second, picture, other));
    else if (view.mode === "single") {
      const sources = picture.second ? [[picture.first, one], [picture.second, other]] : [[picture.first, "clip"]];
      const chosen = sources[picture.second && view.second ? 1 : 0];
      stage.replaceChildren(pane(chosen[0], picture, chosen[1] + (picture.second ? " (press to swap)" : "")));
    } else if (view.mode === "heat") stage.replaceChildren(pane(picture.heat, picture, "absolute difference, black 0 to pale 32 and more"));
    else stage.replaceChildren(pane(picture.edges, picture, picture.second ? "edges: white both, red lost, blue gained" : "edges"));
    for (const [name, value] of [["role", "button"], ["tabindex", "0"], ["aria-label", stage.textContent]]) {
      if (swaps()) stage.setAttribute(name, value);
      else stage.removeAttribute(name);
    }
    place();
    for (const button of byId("thumbs").children) button.setAttribute("aria-pressed", String(+button.dataset.number === view.number));
    const scores = picture.second && data.kind === "run" ? `ns-iqa ${number(picture.before, 1)} → ${number(picture.after, 1)}` : `ns-iqa ${number(picture.before, 1)}`;
    const size = `${picture.width}×${picture.height}`;
    byId("caption").textContent = `Frame ${picture.index} at ${clock(picture.pts_seconds)}: ${picture.why}, ${scores}.` + (size === picture.source_size ? "" : ` Shown at ${size}; the clip is ${picture.source_size}.`);
    figures(picture);
    drawHistograms();
  };
  const table = (rows, heads) => make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((words, i) => make("th", { textContent: words, className: i ? "n" : "" })))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, i) => make(i ? "td" : "th", { textContent: cell, className: i ? "n" : "" }))))));
  const figures = (picture) => {
    const both = picture.colors.length > 1;
    const line = (words, pick, digits = 1) => [words, ...picture.colors.map((c) => number(pick(c), digits))];
    const rows = [
      line("mean red", (c) => c.mean_rgb[0]), line("mean green", (c) => c.mean_rgb[1]), line("mean blue", (c) => c.mean_rgb[2]),
      line("brightness", (c) => c.luma_mean), line("contrast", (c) => c.contrast), line("saturation, %", (c) => c.saturation_mean), line("colourfulness", (c) => c.colorfulness)];
    byId("colors").replaceChildren(table(rows, both ? ["", ...labels] : ["", "clip"]));
    byId("pair").hidden = !picture.pair;
    if (!picture.pair) return;
    const pair = picture.pair;
    byId("pair-table").replaceChildren(table([
      ["MSE (RGB, 8 bit)", number(pair.mse, 2)], ["PSNR (RGB), dB", number(pair.psnr, 2)], ["mean difference", number(pair.mean_difference, 2)], ["largest difference", number(pair.largest_difference, 1)],
      ["edges kept, %", number(pair.edges_kept, 1)], ["histogram correlation", number(pair.histogram_correlation, 4)],
      ["average hash, %", number(pair.hashes.average, 1)], ["difference hash, %", number(pair.hashes.difference, 1)], ["perceptual hash, %", number(pair.hashes.perceptual, 1)],
    ], ["", labels.join(" / ")]));
  };
  const histogramPlots = [];
  let histogramKind = "rgb";
  const drawHistograms = () => {
    const picture = pictures[view.number];
    if (!picture) return;
    const host = byId("histograms");
    histogramPlots.splice(0).forEach((p) => p.destroy());
    const channels = histogramKind === "rgb" ? [["red", "#d8453b", 256], ["green", "#3a9d4f", 256], ["blue", "#3f7be0", 256]] : [["hue", "#a060c8", 360], ["saturation", "#c98a1b", 256], ["value", color("--soft"), 256]];
    const count = picture.histograms[0].red.length;
    for (const [name, ink, high] of channels) {
      const x = Array.from({ length: count }, (_, i) => (i * high) / count);
      const series = picture.histograms.map((h, i) => ({ label: picture.histograms.length > 1 ? `${name} ${labels[i]}` : name, stroke: ink, width: i ? 2 : 1.5, dash: i || picture.histograms.length === 1 ? undefined : [4, 3], points: { show: false }, fill: i === picture.histograms.length - 1 ? ink + "22" : undefined }));
      histogramPlots.push(named(new uPlot({ width: Math.max(200, host.clientWidth), height: 130, scales: { x: { time: false } }, cursor: { drag: { x: true, y: false } }, legend: { show: true }, axes: axes(), series: [{ label: name === "hue" ? "degrees" : "level" }, ...series] }, [x, ...picture.histograms.map((h) => h[name])], host), `histogram of ${name}`));
    }
  };
  if (pictures.length) {
    byId("thumbs").replaceChildren(...pictures.map((picture, i) => {
      const button = make("button", { type: "button" }, make("img", { src: picture.second || picture.first, alt: "" }), make("span", { textContent: picture.why }), make("small", { textContent: clock(picture.pts_seconds) }));
      button.dataset.number = i;
      button.addEventListener("click", () => { view.number = i; show(); });
      return button;
    }));
    byId("thumbs").hidden = pictures.length < 2;
    for (const button of document.querySelectorAll("[data-histogram]")) {
      button.addEventListener("click", () => {
        histogramKind = button.dataset.histogram;
        for (const other of document.querySelectorAll("[data-histogram]")) other.setAttribute("aria-pressed", String(other === button));
        drawHistograms();
      });
    }
    byId("zoom-in").addEventListener("click", () => zoomAt(1.5));
    byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.5));
    byId("zoom-all").addEventListener("click", () => { view.zoom = 1; view.x = view.y = 0; place(); });
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoomAt(event.deltaY < 0 ? 1.25 : 0.8, event);
    }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      if (!swaps() || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      swap();
    });
    stage.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; });
    addEventListener("pointermove", (event) => {
      if (!drag || view.zoom === 1) return;
      view.x += event.clientX - drag.x;
      view.y += event.clientY - drag.y;
      drag = { x: event.clientX, y: event.clientY, moved: true };
      place();
    });
    addEventListener("pointerup", () => {
      if (drag && !drag.moved && swaps() && stage.matches(":hover")) swap();
      drag = null;
    });
    redrawn.push(drawHistograms);
  } else byId("pictures").hidden = true;

  setTheme(dark.matches ? "dark" : "light");
  if (pictures.length) show();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; redrawn.forEach((draw) => draw()); }
    if (pictures.length) place();
  });
  root.dataset.ready = "yes";
})();
