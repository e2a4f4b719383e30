"""Charts as data: what Plotly draws, the table that says the same, and one sentence that sums it up.

Nothing here writes JavaScript: a figure goes into the page as JSON and static/charts.js hands it to Plotly. Unknown is
None in every series, so lines break and cells stay empty. Colours are told apart by light alone, lines by their dash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from analytics.web.portal.language import Language

MEASURED, USED, PLANNED, LIMIT, SOFT = "#14532d", "#b26a00", "#5470a6", "#9b1c1c", "#55625b"
NO_DATA = "#c9cfcb"
"""What shows through where a cell has no value: darker than 0 %, and in no scale."""
SCALE = [[0.0, "#f4faf6"], [0.25, "#b5ddc2"], [0.5, "#6aae87"], [0.75, "#2e7d52"], [1.0, "#0b3d20"]]
"""One hue from light to dark: the same order for colour-blind eyes and on grey paper."""


@dataclass(frozen=True)
class Table:
    """A chart's twin. The first cell of a row is its head."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """One chart with its twin.

    Attributes:
        summary: what the chart says, for those who do not see it.
        figure: ``{"data": [...], "layout": {...}}`` for Plotly.
        note: how to read it, shown under the title.
    """

    id: str
    title: str
    summary: str
    figure: dict[str, Any] = field(repr=False)
    table: Table = field(repr=False)
    note: str = ""


@cache
def style_ids() -> tuple[str, ...]:
    """Ids of the style elements that plotly.js writes into the page on loading, for maps that we never draw.

    Where an element of that id is there already it writes none: so the strict policy has nothing to refuse.
    """
    from plotly.offline import get_plotlyjs

    return tuple(sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', get_plotlyjs()))))


def layout(t: Language, **more: Any) -> dict[str, Any]:
    """The common look. Numbers are written in the reader's way without any locale file."""
    base: dict[str, Any] = {
        "font": {"family": 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif', "size": 13, "color": "#1c2520"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "separators": ",." if t.code == "nl" else ".,",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": SOFT, "font": {"color": "#1c2520"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "dragmode": False,
        "height": 320,
    }
    return {**base, **more}


def percent_axis(highest: float | None = None) -> dict[str, Any]:
    """0 to 100 %, and higher where a value is: above 100 % is shown as such."""
    return {
        "range": [0, max(1.0, (highest or 0) * 1.05)],
        "tickformat": ".0%",
        "gridcolor": "#e3e9e5",
        "zeroline": False,
        "fixedrange": True,
    }


def category_axis(**more: Any) -> dict[str, Any]:
    return {"type": "category", "showgrid": False, "fixedrange": True, "automargin": True, **more}


def lines(
    t: Language, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float | None], str, str]]
) -> dict[str, Any]:
    """Shares over time; ``series`` is (name, values, colour, dash). A gap is unknown."""
    highest = max((v for _, values, _, _ in series for v in values if v is not None), default=0.0)
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": name, "x": list(labels), "y": list(values),
            "connectgaps": False, "line": {"color": colour, "dash": dash, "width": 2.5},
            "marker": {"size": 7, "symbol": {"solid": "circle", "dot": "diamond"}.get(dash, "square")},
            "hovertemplate": "%{x}: %{y:.0%}<extra>%{fullData.name}</extra>",
        }
        for name, values, colour, dash in series
    ]  # fmt: skip
    return {"data": data, "layout": layout(t, xaxis=category_axis(), yaxis=percent_axis(highest), hovermode="x")}


def bars(
    t: Language, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float | None], str]], unit: str,
    *, sideways: bool = False, share: bool = False, digits: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Bars beside each other; ``series`` is (name, values, colour). Sideways ones are read from the top."""
    shown = ":.0%" if share else f":,.{digits}f"
    along, across = ("y", "x") if sideways else ("x", "y")
    data = [
        {
            "type": "bar", "name": name, along: list(labels), across: list(values), "orientation": "h" if sideways else
            "v", "marker": {"color": colour},
            "hovertemplate": f"%{{{along}}}: %{{{across}{shown}}}{'' if share else ' ' + unit}<extra></extra>",
        }
        for name, values, colour in series
    ]  # fmt: skip
    highest = max((v for _, values, _ in series for v in values if v is not None), default=0.0)
    value: dict[str, Any] = {"gridcolor": "#e3e9e5", "zeroline": True, "fixedrange": True, "rangemode": "tozero"}
    value = percent_axis(highest) if share else {**value, "title": {"text": unit}}
    names = category_axis(**({"autorange": "reversed"} if sideways else {}))
    axes = {"xaxis": value, "yaxis": names} if sideways else {"xaxis": names, "yaxis": value}
    height = 90 + len(labels) * (18 + 14 * len(series)) if sideways else 300
    extra = {"showlegend": len(series) > 1, "height": max(height, 160), "bargap": 0.25}
    return {"data": data, "layout": layout(t, **axes, **extra)}


def heat(t: Language, hours: Sequence[int], values: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Weekday by local hour on a fixed scale of 0 to 100 %; a cell without a value stays empty.

    ``heatmapgl`` and smoothing would turn gaps into values, so plain cells it is.

    Args:
        values: shape (7, hours), Monday first.
    """
    days = [t.weekday(i) for i in range(7)]
    data = [
        {
            "type": "heatmap", "x": [f"{hour:02d}" for hour in hours], "y": days, "z": [list(row) for row in values],
            "zmin": 0, "zmax": 1, "colorscale": SCALE, "hoverongaps": False, "xgap": 2, "ygap": 2,
            "colorbar": {"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
            "hovertemplate": "%{y} %{x}:00: %{z:.0%}<extra></extra>",
        }
    ]  # fmt: skip
    axes = {
        "xaxis": category_axis(ticksuffix=":00", tickangle=0, showgrid=False),
        "yaxis": category_axis(autorange="reversed"),
    }
    return {"data": data, "layout": layout(t, **axes, plot_bgcolor=NO_DATA, height=300)}


@dataclass(frozen=True)
class Block:
    """One planned block of a day: minutes since local midnight as they pass, and its people."""

    start: float
    end: float
    expected: float | None
    text: str


@dataclass(frozen=True)
class DayLine:
    """The measured steps of a day.

    Attributes:
        minutes, people: where the count changes and to what; None in a gap.
        ticks: minutes with their local times, so that a day of 23 or 25 hours reads right.
        span: first and last minute shown.
    """

    minutes: Sequence[float]
    people: Sequence[float | None]
    times: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    span: tuple[float, float]
    seats: float | None
    blocks: Sequence[Block]


def day(t: Language, line: DayLine) -> dict[str, Any]:
    """Measured steps over planned blocks, with the line of the capacity."""
    top = max((p for p in line.people if p is not None), default=0.0)
    top = max(top, line.seats or 0, *(b.expected or 0 for b in line.blocks), 4.0) * 1.12
    data: list[dict[str, Any]] = []
    for known_size, name, fill, dash in (
        (True, t("planned (people expected)"), "rgba(84,112,166,0.28)", "solid"),
        (False, t("planned (size not known)"), "rgba(84,112,166,0.12)", "dot"),
    ):
        blocks = [b for b in line.blocks if (b.expected is not None) is known_size]
        if not blocks:
            continue
        xs: list[float | None] = []
        ys: list[float | None] = []
        for b in blocks:
            height = b.expected or line.seats or top / 1.12
            xs += [b.start, b.start, b.end, b.end, None]
            ys += [0, height, height, 0, None]
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": name, "x": xs, "y": ys, "fill": "toself",
                "fillcolor": fill, "line": {"color": PLANNED, "width": 1, "dash": dash}, "hoverinfo": "skip",
            }
        )  # fmt: skip
    data += [
        {  # a place in each block for the pointer
            "type": "scatter", "mode": "markers", "showlegend": False, "opacity": 0, "marker": {"size": 24},
            "x": [(b.start + b.end) / 2 for b in line.blocks], "y": [(b.expected or top) / 2 for b in line.blocks],
            "text": [b.text for b in line.blocks], "hovertemplate": "%{text}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "lines", "name": t("measured"), "x": list(line.minutes), "y": list(line.people),
            "text": list(line.times), "connectgaps": False, "line": {"shape": "hv", "color": MEASURED, "width": 2},
            "hovertemplate": "%{text}: %{y:.0f}<extra></extra>",
        },
    ]  # fmt: skip
    if line.seats:
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": t("seats"), "x": list(line.span),
                "y": [line.seats, line.seats], "line": {"color": LIMIT, "dash": "dash", "width": 2},
                "hoverinfo": "skip",
            }
        )  # fmt: skip
    axes = {
        "xaxis": {
            "range": list(line.span), "tickvals": [at for at, _ in line.ticks], "ticktext": [s for _, s in line.ticks],
            "showgrid": False, "zeroline": False, "fixedrange": True,
            "ticks": "outside", "ticklen": 7, "tickcolor": "#75827b",  # else the first label runs into that of the 0
        },
        "yaxis": {"range": [0, top], "title": {"text": t("people")}, "gridcolor": "#e3e9e5", "zeroline": False,
                  "fixedrange": True, "rangemode": "tozero"},
    }  # fmt: skip
    return {"data": data, "layout": layout(t, **axes, height=360, hovermode="closest")}
