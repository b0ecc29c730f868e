"""What was noted of a film's pieces in; a page for a browser, whole in itself, out."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cagface_core import OutputError
from realtime.stats import Summary

_BINS = 400
_HEIGHT_PX = 90
_MOST_TRACKS = 120

_STYLE = """
:root { color-scheme: light dark; --dim: #777; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: 110px; display: block; border-bottom: 1px solid var(--line) }
.key span { display: inline-block; margin-right: 1.2rem }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem }
figure { margin: 0 } figure img { width: 50%; display: inline-block; vertical-align: top }
figcaption { color: var(--dim); font-size: .85rem }
"""

_COLOURS = {"found": "#b9c6d4", "enhanced": "#2b7a4b", "left plain": "#c98a1b", "passed": "#b03a2e"}


def write_report(
    path: Path, facts: Mapping[str, str], pieces: Sequence[Mapping[str, Any]], summary: Summary
) -> None:
    """Write the page.

    Args:
        path: the file to make, ``.html``.
        facts: what is told at the top, by name.
        pieces: what `FilmNotes.take` gave of each, in order.
        summary: of this run, for the times.

    Raises:
        OutputError: it cannot be written.
    """
    frames = [counts for piece in pieces for counts in piece["frames"]]
    times_s = [time_s for piece in pieces for time_s in piece["times_s"]]
    tracks = [track for piece in pieces for track in piece["tracks"] if track["before"]]
    body = [
        "<h1>What became of the faces</h1>", _rows(facts),
        "<h2>Over time</h2>", _timeline(frames, times_s), _totals(frames, times_s),
        "<h2>Before and after</h2>", _faces(tracks),
        "<h2>Time spent</h2>", _stages(summary),
    ]  # fmt: skip
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(next(iter(facts.values()), 'report'))}</title>"
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError(f"{path}: the report cannot be written ({error.strerror})") from error


def _rows(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"


def _timeline(frames: Sequence[Sequence[int]], times_s: Sequence[float]) -> str:
    """Faces a frame, from the film's beginning to its end."""
    if not frames:
        return "<p>No frame was made.</p>"
    count = min(_BINS, len(frames))
    bins = [
        frames[len(frames) * k // count : max(len(frames) * (k + 1) // count, 1)]
        for k in range(count)
    ]
    most = max(1.0, *(sum(f[0] for f in part) / len(part) for part in bins))
    bars: list[str] = []

    def bar(k: int, bottom: float, height: float, colour: str) -> float:
        if height > 0:
            bars.append(
                f'<rect x="{k}" y="{_HEIGHT_PX - bottom - height:.2f}" width="1.02" '
                f'height="{height:.2f}" fill="{colour}"/>'
            )
        return bottom + height

    for k, part in enumerate(bins):
        found, done, plain, passed = (sum(f[i] for f in part) / len(part) for i in range(4))
        unit = _HEIGHT_PX / most
        bar(k, 0, found * unit, _COLOURS["found"])
        top = bar(k, 0, done * unit, _COLOURS["enhanced"])
        bar(k, top, plain * unit, _COLOURS["left plain"])
        bar(k, 0, _HEIGHT_PX * passed, _COLOURS["passed"])
    key = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in _COLOURS.items()
    )
    return (
        f'<svg viewBox="0 0 {count} {_HEIGHT_PX}" preserveAspectRatio="none" role="img" '
        f'aria-label="faces over time">{"".join(bars)}</svg>'
        f'<p class="key">{key} {_clock(times_s[0])} to {_clock(times_s[-1])}, up to {most:.1f} '
        "faces a frame</p>"
    )


def _totals(frames: Sequence[Sequence[int]], times_s: Sequence[float]) -> str:
    found, done, plain, passed = (sum(f[i] for f in frames) for i in range(4))
    empty = sum(f[0] == 0 for f in frames)
    longest = longest_from = run = 0
    for at, counts in enumerate(frames):
        run = 0 if counts[0] else run + 1
        if run > longest:
            longest, longest_from = run, at - run + 1
    facts = {
        "frames": f"{len(frames)}",
        "faces found": f"{found}",
        "enhanced": f"{done}",
        "left plain by the guard, or failed": f"{plain}",
        "frames passed through": f"{passed}",
        "frames without a face": f"{empty}"
        + (f", {longest} together from {_clock(times_s[longest_from])}" if longest > 1 else ""),
    }
    return _rows(facts)


def _faces(tracks: Sequence[Mapping[str, Any]]) -> str:
    if not tracks:
        return "<p>No face was enhanced.</p>"
    shown = sorted(tracks, key=lambda track: -track["frames"])[:_MOST_TRACKS]
    shown.sort(key=lambda track: track["first_s"])
    figures = "".join(
        f'<figure><img alt="before" src="data:image/jpeg;base64,{t["before"]}">'
        f'<img alt="after" src="data:image/jpeg;base64,{t["after"]}">'
        f"<figcaption>{_clock(t['first_s'])} to {_clock(t['last_s'])}, {t['frames']} frames, "
        f"{t['side_px']:.0f} px; fine detail {t['detail']:.2f} times that of the plain upscale, "
        f"{t['drift']:.1f} levels off its input</figcaption></figure>"
        for t in shown
    )
    more = len(tracks) - len(shown)
    rest = f"<p>{more} shorter tracks are not shown.</p>" if more else ""
    return (
        "<p>Left the plain upscale, right enhanced: each face where it was largest in its shot. "
        f'</p><div class="faces">{figures}</div>{rest}'
    )


def _stages(summary: Summary) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{stage.n}</td>'
        f'<td class="n">{stage.mean_ms:.1f}</td><td class="n">{stage.p95_ms:.1f}</td></tr>'
        for name, stage in summary.stages.items()
    )
    return (
        f"<p>{html.escape(summary.line())}</p><table><tr><th>stage</th><th>frames</th>"
        f"<th>mean ms</th><th>p95 ms</th></tr>{rows}</table>"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
