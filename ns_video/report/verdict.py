"""The verdict in plain words."""

from __future__ import annotations

import math

from ns_video.record import NOTHING_RESTORED, PASSED_THROUGH
from ns_video.report.document import COMPARISON, RUN, Report, Sentence, signed
from ns_video.stage import counted

_NOTICEABLE_GAIN = 1.5
"""Points of ns-iqa below which a difference is called none: about its error on one clip."""
_NOTICEABLE_FLICKER = 0.1
_STRONG_FLICKER = 1.0
"""8-bit steps of a clip without reference."""
_LOW_CHROMA = 35.0
"""dB of U, V or transparency."""
_NOTICEABLE_DRIFT = 1.0
_NOTICEABLE_OFFSET = 0.02
"""Seconds; ITU-R BT.1359 puts the threshold of detecting early sound at 45 ms."""
_LEVELS = (
    (80.0, "good", "looks clean"),
    (60.0, "plain", "shows light damage"),
    (40.0, "plain", "shows clear damage"),
    (-1.0, "bad", "is heavily damaged"),
)


def clock(seconds: float | None) -> str:
    """A time as 1:02:03.456, 2:03.456 or 3.456 s."""
    if seconds is None:
        return "an unknown time"
    whole = round(seconds * 1000)
    sign = "-" if whole < 0 else ""
    minutes, rest = divmod(abs(whole), 60_000)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}:{minutes:02d}:{rest / 1000:06.3f}"
    return f"{sign}{minutes}:{rest / 1000:06.3f}" if minutes else f"{sign}{rest / 1000:.3f} s"


def verdict(report: Report) -> tuple[Sentence, ...]:
    """What the figures mean, most important first."""
    made = [*_score(report)]
    if report.kind == COMPARISON:
        made += _likeness(report)
    if report.kind == RUN:
        made += _run(report)
    else:
        made += _flicker(report)
    made += _damage(report)
    return tuple(made)


def _level(score: float) -> tuple[str, str]:
    return next((tone, words) for least, tone, words in _LEVELS if score >= least)


def _score(report: Report) -> list[Sentence]:
    score = report.mean()
    what = "picture" if report.is_still else "clip"
    if score is None:
        return [Sentence("bad", f"No frame of the {what} could be scored.")]
    judged = [entry for entry in report.frames if entry.judged is not None]
    if report.kind == RUN:
        return _gain(report, what)
    tone, words = _level(score)
    if _is_whole(report) and report.is_identical:
        tone, words = "good", "is its reference's in every sample, whatever its score"
    elif _is_whole(report) and report.pooled("psnr_y") == math.inf:
        tone, words = "plain", "has its reference's luma, whatever its score"
    text = f"The {what} {words}: ns-iqa {score:.1f} of 100"
    if len(judged) > 1:
        worst = min(judged, key=lambda entry: entry.judged.ns_iqa if entry.judged else 0.0)
        least = worst.judged.ns_iqa if worst.judged else 0.0
        text += f", mean of {len(judged)} sampled frames; lowest {least:.1f} at {clock(worst.pts_seconds)}"
    return [Sentence(tone, text + ".")]


def _is_whole(report: Report) -> bool:
    """Whether every frame of the clip was compared with its reference's."""
    return report.alignment is not None and report.alignment.compared == report.cost.frames_seen


def _gain(report: Report, what: str) -> list[Sentence]:
    before, after = report.mean("before"), report.mean("after")
    if before is None or after is None:
        return [Sentence("bad", f"No frame of the {what} could be scored.")]
    gain = after - before
    pairs = [(e.before.ns_iqa, e.after.ns_iqa, e.pts_seconds) for e in report.frames if e.before and e.after]
    better = sum(1 for one, other, _ in pairs if other > one)
    tally = f"; better in {better} of {len(pairs)} sampled frames" if len(pairs) > 1 else ""
    figures = f"ns-iqa {before:.1f} → {after:.1f} ({signed(gain, 1)}){tally}"
    if gain >= _NOTICEABLE_GAIN:
        made = [Sentence("good", f"The {what} looks better than before: {figures}.")]
    elif gain <= -_NOTICEABLE_GAIN:
        made = [Sentence("bad", f"The {what} looks worse than before: {figures}.")]
    else:
        made = [Sentence("plain", f"No visible difference in quality: {figures}.")]
    worst = min(pairs, key=lambda pair: pair[1] - pair[0])
    if worst[1] - worst[0] <= -_NOTICEABLE_GAIN and len(pairs) > 1:
        made.append(
            Sentence(
                "bad", f"The largest loss is at {clock(worst[2])}: {worst[0]:.1f} → {worst[1]:.1f}. Look at it below."
            )
        )
    return made


def _decibels(value: float | None) -> str:
    return "equal" if value == math.inf else f"{value:.2f} dB"


def _likeness(report: Report) -> list[Sentence]:
    made: list[Sentence] = []
    psnr, ssim, xpsnr = (report.pooled(name) for name in ("psnr_y", "ssim", "xpsnr"))
    alignment = report.alignment
    if psnr is None and report.pooled("psnr_rgb") is not None:
        psnr = report.pooled("psnr_rgb")
    if report.is_identical:
        made.append(Sentence("good", "Clip and reference have the same samples in every compared frame."))
    elif psnr is not None and math.isinf(psnr):
        made.append(Sentence("plain", "Clip and reference have the same luma in every compared frame."))
    elif psnr is not None:
        tail = ("" if ssim is None else f", SSIM {ssim:.4f}") + ("" if xpsnr is None else f", XPSNR {xpsnr:.2f} dB")
        made.append(Sentence("plain", f"Against the reference: PSNR {psnr:.2f} dB{tail}."))
    elif alignment is not None:
        made.append(Sentence("bad", "No frame of the clip has a partner in the reference: nothing was compared."))
    if psnr is not None:
        made += _other_planes(report, psnr)
    if alignment is not None:
        made += [Sentence("bad", f"Mind: {problem}.") for problem in alignment.problems]
    return made


def _other_planes(report: Report, luma: float) -> list[Sentence]:
    """What luma doesn't tell: colour and transparency, where they are worse."""
    made: list[Sentence] = []
    u, v, alpha = (report.pooled(name) for name in ("psnr_u", "psnr_v", "psnr_a"))
    if u is not None and v is not None and min(u, v) < min(luma, _LOW_CHROMA if math.isfinite(luma) else math.inf):
        tone = "bad" if min(u, v) < _LOW_CHROMA else "plain"
        made.append(Sentence(tone, f"Colour differs: PSNR of U {_decibels(u)}, of V {_decibels(v)}."))
    if alpha is not None and math.isfinite(alpha):
        tone = "bad" if alpha < _LOW_CHROMA else "plain"
        made.append(Sentence(tone, f"Transparency differs: PSNR {alpha:.2f} dB."))
    return made


def _flicker(report: Report) -> list[Sentence]:
    """Of a clip, against its reference where there is one."""
    found, reference = report.temporal.flicker_before.mean, report.temporal.flicker_after.mean
    if found is not None and reference is not None:
        if _is_whole(report) and found - reference >= _NOTICEABLE_FLICKER:
            words = f"More flicker than the reference: {found:.2f} against {reference:.2f} 8-bit steps."
            return [Sentence("bad", words)]
    elif found is not None and found >= _STRONG_FLICKER:
        return [
            Sentence("plain", f"The picture flickers or moves quickly: {found:.2f} 8-bit steps, usual is below 0.4.")
        ]
    return []


def _run(report: Report) -> list[Sentence]:
    made: list[Sentence] = []
    temporal = report.temporal
    before, after = temporal.flicker_before.mean, temporal.flicker_after.mean
    if before is not None and after is not None and abs(after - before) >= _NOTICEABLE_FLICKER:
        rose = after > before
        words = "More flicker" if rose else "Less flicker"
        made.append(
            Sentence("bad" if rose else "good", f"{words} than before: {before:.2f} → {after:.2f} 8-bit steps.")
        )
    drifts = (("luma", temporal.luma_drift), ("Cb", temporal.cb_drift), ("Cr", temporal.cr_drift))
    for name, series in drifts:
        if series.mean is not None and abs(series.mean) >= _NOTICEABLE_DRIFT:
            made.append(Sentence("bad", f"Mean {name} moved by {series.mean:+.1f} 8-bit steps."))
    for entry in report.audio:
        if entry.before is not None:
            # a container without edit lists shows what the input's discards, such as the delay of AAC
            was = (entry.before.start_seconds, entry.before.first_packet_seconds)
            moved = min((entry.offset.start_seconds - begin for begin in was), key=abs)
            if abs(moved) >= _NOTICEABLE_OFFSET:
                index = entry.offset.stream_index
                made.append(Sentence("bad", f"Audio stream {index} begins {moved:+.3f} s off from where it was."))
    run = report.run
    if run is not None:
        made += [Sentence("plain", f"{w[0].upper()}{w[1:]}.") for w in run.warnings if w.startswith(NOTHING_RESTORED)]
    if run is not None and run.frames_passed_through:
        made.append(Sentence("bad", f"{counted(run.frames_passed_through)} {PASSED_THROUGH}."))
    if run is not None and run.frames_in != run.frames_out:
        made.append(Sentence("bad", f"{run.frames_in} frames came in, {run.frames_out} went out."))
    return made


def _damage(report: Report) -> list[Sentence]:
    damage = [place for place in report.damage if place.is_of_input]
    if not damage:
        return []
    first = next((place.pts_seconds for place in damage if place.pts_seconds is not None), None)
    where = (
        f"one place, at {clock(first)}" if len(damage) == 1 else f"{len(damage)} places, the first at {clock(first)}"
    )
    return [Sentence("bad", f"The input is damaged in {where}.")]
