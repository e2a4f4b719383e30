"""Results for people: a table in the terminal, and one HTML page that needs no network."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from counter.bench.evaluate import Score

DASH = "–"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
TRUTH_COLOUR = "#222222"
ACCURACY = ("exact", "within 1", "MAE", "WAPE", "bias", "events P", "events R", "total off")
SPEED = ("HOTA", "IDF1", "MOTA", "frames/s", "ms", "p95", "MiB")


def cells(score: Score) -> dict[str, str]:
    """One score as the cells of the table by heading; a dash where nothing was measured."""
    presence, tracking, events, interval = score.presence, score.tracking, score.events, score.interval_presence
    median, p95 = whole_frame_ms(score)
    return {
        "exact": _percent(presence.exact / presence.seconds if presence else None),
        "within 1": _percent(presence.within_one / presence.seconds if presence else None),
        "MAE": _number(interval.mae if interval else None),
        "WAPE": _percent(interval.wape if interval else None),
        "bias": _percent(interval.bias if interval else None, signed=True),
        "events P": _percent(events.precision if events else None),
        "events R": _percent(events.recall if events else None),
        "total off": _number(score.totals.absolute if score.totals else None, 0),
        "HOTA": _number(tracking.hota if tracking else None, 3),
        "IDF1": _number(tracking.idf1 if tracking else None, 3),
        "MOTA": _number(tracking.mota if tracking else None, 3),
        "frames/s": _number(score.frames / score.seconds if score.seconds else None, 1),
        "ms": _number(median, 1),
        "p95": _number(p95, 1),
        "MiB": _number(score.peak_mb, 0),
    }


def whole_frame_ms(score: Score) -> tuple[float | None, float | None]:
    """Median and 95th percentile of all stages of a frame together."""
    columns = [ms for ms in score.stage_ms.values() if len(ms) == score.frames]
    if not columns:
        return None, None
    total = np.sum(columns, axis=0)
    return float(np.median(total)), float(np.percentile(total, 95))


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return DASH
    return f"{value:+.1%}" if signed else f"{value:.1%}"


def _number(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def table(scores: Sequence[Score], headings: Sequence[str]) -> Table:
    """Some columns of all scores as a table for the terminal, those left out in which nothing was measured."""
    rows = [cells(score) for score in scores]
    used = [heading for heading in headings if any(row[heading] != DASH for row in rows)]
    result = Table(box=None, header_style="bold", pad_edge=False)
    result.add_column("", no_wrap=True)
    for heading in used:
        result.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for score, row in zip(scores, rows, strict=True):
        if score.clip != previous:
            result.add_row(Text(score.clip, style="bold"))
            previous = score.clip
        result.add_row(f"  {score.system}", *(row[heading] for heading in used))
    return result


def legend(interval: float) -> str:
    """What the columns mean."""
    return (
        f"exact, within 1: share of the time in which presence is right, or at most one person off. MAE, WAPE, bias: "
        f"median presence per {interval:g} s. Events P, R: precision and recall within 1 s, same line and direction. "
        f"total off: sum of the errors of the totals per line and direction. ms, p95: all stages of a frame."
    )


def write_html(path: Path, scores: Sequence[Score], interval: float, title: str) -> None:
    """Write the page, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(page(scores, interval, title), encoding="utf-8")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def page(scores: Sequence[Score], interval: float, title: str) -> str:
    """The whole page, plotly.js inside."""
    systems = list(dict.fromkeys(score.system for score in scores))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(systems)}
    figures = [
        figure
        for figure in (_error_bars(scores, colour), *_timelines(scores, colour), _stages(scores, colour))
        if figure
    ]
    charts = "\n".join(
        figure.to_html(full_html=False, include_plotlyjs="inline" if i == 0 else False, config={"displaylogo": False})
        for i, figure in enumerate(figures)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><div class=scroll>{_html_table(scores)}</div>"
        f"<p class=legend>{html.escape(legend(interval))}</p>\n{charts}\n</main></body></html>\n"
    )


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0;color:#1a1a1a;background:#fff}
main{max-width:1180px;margin:0 auto;padding:1rem}
h1{font-size:1.5rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e3e3e3}
th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}
tr.first td{border-top:2px solid #999}
.legend{color:#555;max-width:75ch}
"""


def _html_table(scores: Sequence[Score]) -> str:
    rows = [cells(score) for score in scores]
    used = [heading for heading in (*ACCURACY, *SPEED) if any(row[heading] != DASH for row in rows)]
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in ("clip", "system", *used))
    lines, previous = [], None
    for score, row in zip(scores, rows, strict=True):
        first = ' class="first"' if score.clip != previous else ""
        previous = score.clip
        values = (score.clip, score.system, *(row[heading] for heading in used))
        lines.append(f"<tr{first}>" + "".join(f"<td>{html.escape(value)}</td>" for value in values) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _figure(title: str, height: int, **layout: Any) -> Any:
    import plotly.graph_objects as go

    return go.Figure(
        layout={
            "title": {"text": title}, "height": height, "template": "plotly_white", "margin": {"l": 60, "r": 20},
            "legend": {"orientation": "h", "y": -0.32, "yanchor": "top"}, **layout,
        }
    )  # fmt: skip


def _error_bars(scores: Sequence[Score], colour: dict[str, str]) -> Any:
    measured = [score for score in scores if score.presence is not None]
    if not measured:
        return None
    axis = {"title": "share of the time", "tickformat": ".0%", "range": [0, 1]}
    figure = _figure("Time in which presence is right", 380, barmode="group", yaxis=axis)
    for name, shade in colour.items():
        mine = [score for score in measured if score.system == name]
        figure.add_bar(
            name=name, x=[score.clip for score in mine],
            y=[score.presence.exact / score.presence.seconds for score in mine if score.presence], marker_color=shade,
        )  # fmt: skip
    return figure


def _timelines(scores: Sequence[Score], colour: dict[str, str]) -> list[Any]:
    figures = []
    for clip in dict.fromkeys(score.clip for score in scores if score.series is not None):
        people = {"title": "people", "rangemode": "tozero", "dtick": 1}
        figure = _figure(f"People present: {clip}", 340, xaxis={"title": "seconds"}, yaxis=people)
        mine = [score for score in scores if score.clip == clip and score.series is not None]
        times, _, true = mine[0].series or (np.empty(0),) * 3
        figure.add_scatter(
            name="truth", x=times.tolist(), y=[int(v) if v >= 0 else None for v in true],
            line={"color": TRUTH_COLOUR, "width": 5, "shape": "hv"}, opacity=0.35,
        )  # fmt: skip
        for score in mine:
            x, y, _ = score.series or (np.empty(0),) * 3
            figure.add_scatter(
                name=score.system, x=x.tolist(), y=y.tolist(),
                line={"color": colour[score.system], "width": 1.6, "shape": "hv"},
            )  # fmt: skip
        if max((int(score.series[1].max(initial=0)) for score in mine if score.series), default=0) > 12:
            figure.update_yaxes(dtick=None)
        figures.append(figure)
    return figures


def _stages(scores: Sequence[Score], colour: dict[str, str]) -> Any:
    totals = [score for score in scores if score.clip == "all clips"] or list(scores)
    figure = _figure("Milliseconds a frame, by stage: median, and the 95th percentile above it", 380,
                     barmode="group", yaxis={"title": "ms (logarithmic)", "type": "log"})  # fmt: skip
    found = False
    for score in totals:
        stages = {name: ms for name, ms in score.stage_ms.items() if ms}
        if not stages:
            continue
        found = True
        medians = [float(np.median(ms)) for ms in stages.values()]
        above = [float(np.percentile(ms, 95)) - m for ms, m in zip(stages.values(), medians, strict=True)]
        figure.add_bar(
            name=score.system, x=list(stages), y=medians, marker_color=colour[score.system],
            error_y={"type": "data", "array": above, "arrayminus": [0.0] * len(above), "symmetric": False},
        )  # fmt: skip
    return figure if found else None
