"""How the report of a validation looks: a table in a terminal, and one HTML page to keep or to print."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counter.types import Direction
from counter.validation.language import Language
from counter.validation.presence import Presence
from counter.validation.report import Findings, between, conclusion
from counter.validation.statistics import Evaluation, Verdict

_COLOURS = {Verdict.PASSED: "bold green", Verdict.FAILED: "bold red", Verdict.UNDECIDED: "bold yellow"}
_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.45; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid #ccc; }
th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; }
.verdict { font-size: 1.4rem; font-weight: bold; padding: .5rem .75rem; border-left: .5rem solid; }
.passed { border-color: #0b6e4f; } .failed { border-color: #b3261e; } .undecided { border-color: #b07a00; }
"""

Rows = Sequence[tuple[str, ...]]


def as_table(found: Findings, t: Language) -> RenderableType:
    """For the terminal."""
    verdict, _, reasons = conclusion(found, t).partition("\n")
    parts: list[RenderableType] = [Text(_title(found, t)), Text()]
    if found.judges_passages:
        parts += [_standing(_columns(t), _passages(found.passages, t)), Text()]
    if found.presence is not None:
        parts += [_standing(*_figures(found.presence, t)), Text()]
    return Group(*parts, Text(verdict, _COLOURS[found.verdict]), Text(reasons))


def as_html(found: Findings, t: Language) -> str:
    """One page without scripts and without anything from elsewhere."""
    verdict, _, reasons = conclusion(found, t).partition("\n")
    heading = t("Validation of sensor {name}", name=found.sensor_id)
    parts = [
        f"<h1>{_safe(heading)}</h1>",
        f"<p>{_safe(_title(found, t))}. {_safe(t('A person counted by hand beside it.'))}</p>",
        f'<p class="verdict {found.verdict.value}">{_safe(verdict)}</p>',
        f"<p>{_safe(reasons).replace(chr(10), '<br>')}</p>",
    ]
    if found.judges_passages:
        parts += _passages_html(found.passages, t)
    if found.presence is not None:
        parts += _presence_html(found.presence, t)
    return (
        f'<!doctype html>\n<html lang="{t.code}"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(heading)}</title>\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _passages_html(passages: Evaluation, t: Language) -> list[str]:
    rows = [
        (
            _local(row.start),
            str(row.truth_entered),
            str(row.counted_entered),
            str(row.truth_left),
            str(row.counted_left),
        )
        for row in passages.intervals
    ]
    columns = (
        t("begin"),
        t("entered, by hand"),
        t("entered, sensor"),
        t("left, by hand"),
        t("left, sensor"),
    )
    how = t(
        "Events match one to one, same direction, at most {tolerance} s apart. WAPE and bias are per interval of "
        "{seconds} s. The verdict is a test of equivalence: two one-sided t tests on the differences per interval, "
        "relative to the mean truth (Siebert and Ellenberger, Transportation 47, 2020).",
        tolerance=t.number(passages.tolerance),
        seconds=t.number(passages.seconds, 0),
    )
    return [
        f"<h2>{_safe(t('People who came and went'))}</h2>",
        _table(*_upright(_columns(t), _passages(passages, t))),
        f"<p>{_safe(how)}</p>",
        f"<h3>{_safe(t('Intervals'))}</h3>",
        _table(columns, rows),
    ]


def _presence_html(presence: Presence, t: Language) -> list[str]:
    rows = [
        (_local(one.t), str(one.truth), t.number(None) if one.counted is None else str(one.counted))
        for one in presence.moments
    ]
    how = t(
        "The sensor's figure is the median of its looks within 5 s of the moment. The intervals ({sure}) and the test "
        "take the moments for independent: minutes apart, with people coming and going between them.",
        sure=t.percent(presence.sure, digits=0),
    )
    columns, figures = _figures(presence, t)
    return [
        f"<h2>{_safe(t('People present'))}</h2>",
        _table(*_upright(columns, figures)),
        f"<p>{_safe(how)}</p>",
        f"<h3>{_safe(t('Moments'))}</h3>",
        _table((t("moment"), t("by hand"), t("sensor")), rows),
    ]


def _columns(t: Language) -> tuple[str, ...]:
    return (
        t("direction"),
        t("by hand"),
        t("sensor"),
        t("matched"),
        t("precision"),
        t("recall"),
        t("WAPE"),
        t("bias"),
        t("interval of the bias"),
        t("verdict"),
    )


def _passages(passages: Evaluation, t: Language) -> Rows:
    ways = {Direction.ENTERED: t("entered"), Direction.LEFT: t("left")}
    rows: list[tuple[str, ...]] = []
    for direction, value in passages.per_direction.items():
        test = passages.equivalence[direction]
        rows.append(
            (
                ways[direction],
                str(value.matched + value.missed),
                str(value.matched + value.extra),
                str(value.matched),
                t.percent(value.precision),
                t.percent(value.recall),
                t.percent(passages.wape_per_direction[direction]),
                t.percent(test.bias, sign=True),
                _span(test.low, test.high, t),
                _word(test.verdict, t),
            )
        )
    return rows


def _figures(presence: Presence, t: Language) -> tuple[tuple[str, ...], Rows]:
    error, bias, test = presence.error, presence.bias, presence.test
    unknown = t.number(None)
    columns = (
        t("moments"),
        t("by hand, on average"),
        t("mean absolute error"),
        t("its interval"),
        t("bias, people"),
        t("interval, people"),
        t("right"),
        t("at most one off"),
        t("bias"),
        t("interval of the bias"),
        t("verdict"),
    )
    row = (
        str(test.intervals),
        t.number(test.people / test.intervals if test.intervals else None),
        t.number(error.value if error else None, 2),
        between(error, t) if error else unknown,
        t.number(bias.value if bias else None, 2, sign=True),
        between(bias, t, sign=True) if bias else unknown,
        t.percent(presence.exact, digits=0),
        t.percent(presence.within_one, digits=0),
        t.percent(test.bias, sign=True),
        _span(test.low, test.high, t),
        _word(test.verdict, t),
    )
    return columns, [row]


def _word(verdict: Verdict, t: Language) -> str:
    return {
        Verdict.PASSED: t("passed"),
        Verdict.FAILED: t("failed"),
        Verdict.UNDECIDED: t("undecided"),
    }[verdict]


def _span(low: float | None, high: float | None, t: Language) -> str:
    if low is None:
        return t.number(None)
    return t("{low} to {high}", low=t.percent(low, sign=True), high=t.percent(high, sign=True))


def _title(found: Findings, t: Language) -> str:
    return t(
        "{name}, {start} to {end}, the sensor looked {share} of it",
        name=found.sensor_id,
        start=_local(found.passages.start),
        end=_local(found.passages.end),
        share=t.percent(found.coverage),
    )


def _upright(columns: tuple[str, ...], rows: Rows) -> tuple[tuple[str, ...], Rows]:
    """A column a row: it fits any terminal, paper and phone."""
    header, *body = zip(columns, *rows, strict=True)
    return header, body


def _standing(columns: tuple[str, ...], rows: Rows) -> Table:
    header, body = _upright(columns, rows)
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for line in body:
        table.add_row(*line)
    return table


def _table(columns: tuple[str, ...], rows: Rows) -> str:
    head = "".join(f"<th scope=col>{_safe(name)}" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}" for cell in row) for row in rows)
    return f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"


def _safe(text: str) -> str:
    return html.escape(text)


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
