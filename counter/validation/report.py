"""The report of a validation: in words, as a table, as JSON and as one HTML page."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counter.types import Direction
from counter.validation.statistics import Agreement, Equivalence, Evaluation, Verdict

WORDS = {Direction.ENTERED: "people entering", Direction.LEFT: "people leaving"}
_STYLE = {Verdict.PASSED: "bold green", Verdict.FAILED: "bold red", Verdict.UNDECIDED: "bold yellow"}
_HEADLINE = {
    Verdict.PASSED: "Passed",
    Verdict.FAILED: "Not passed",
    Verdict.UNDECIDED: "Not decided",
}


def percent(value: float | None, *, sign: bool = False) -> str:
    """``0.051`` as ``5.1 %``; unknown is a dash."""
    if value is None:
        return "–"
    return f"{value * 100:+.1f} %" if sign else f"{value * 100:.1f} %"


def sentence(direction: Direction, test: Equivalence, seconds: float, extra: int = 0) -> str:
    """What the test of one direction showed, in words."""
    who, sure = WORDS[direction], f"{1 - 2 * test.alpha:.0%}"
    if test.bias is None:
        ghosts = f", the sensor counted {extra}" if extra else ""
        return f"{who.capitalize()}: the person saw none{ghosts}; there is nothing to compare with."
    if test.low is None or test.high is None:
        return f"{who.capitalize()}: one interval says nothing about its own spread; count for longer."
    between = f"between {percent(test.low, sign=True)} and {percent(test.high, sign=True)} ({sure} interval)"
    margin = f"±{percent(test.margin)}"
    if test.verdict is Verdict.PASSED:
        return f"{who.capitalize()}: the bias lies {between}, inside the agreed {margin}."
    if test.verdict is Verdict.FAILED:
        kind = "many" if test.bias > 0 else "few"
        return (
            f"{who.capitalize()}: the sensor counts too {kind}: the bias lies {between}, outside the agreed {margin}."
        )
    words = f"{who.capitalize()}: the bias lies {between}; whether that is inside the agreed {margin} is open."
    if test.needed is None:
        return f"{words} It will hardly pass: the bias found is as large as the margin."
    minutes = (test.needed - test.intervals) * seconds / 60
    return f"{words} About {max(1, round(minutes))} more minutes like these would decide it."


def conclusion(result: Evaluation, coverage: float | None) -> str:
    """The verdict and why, in a few sentences."""
    lines = [f"{_HEADLINE[result.verdict]}."]
    lines += [
        sentence(direction, test, result.seconds, result.per_direction[direction].extra)
        for direction, test in result.equivalence.items()
    ]
    if coverage is not None and coverage < 0.99:
        lines.append(f"The sensor looked during {percent(coverage)} of the window only: see to the camera first.")
    lag = result.agreement.lag
    if lag is not None and abs(lag) > result.tolerance / 2:
        side = "after" if lag > 0 else "before"
        lines.append(
            f"Half of the sensor's events came {abs(lag):.1f} s or more {side} the taps; a tolerance of "
            f"{result.tolerance:g} s is tight for that."
        )
    return "\n".join(lines)


def as_json(result: Evaluation, sensor_id: str, coverage: float | None) -> dict[str, Any]:
    """Plain data. Shares are 0 to 1, moments are UTC, unknown is null."""
    return {
        "sensor_id": sensor_id,
        "start": _moment(result.start),
        "end": _moment(result.end),
        "coverage": coverage,
        "tolerance_seconds": result.tolerance,
        "verdict": result.verdict.value,
        "words": conclusion(result, coverage),
        "events": {
            "all": _agreement(result.agreement),
            **{direction.value: _agreement(value) for direction, value in result.per_direction.items()},
        },
        "wape": {
            "all": result.wape,
            **{direction.value: value for direction, value in result.wape_per_direction.items()},
        },
        "equivalence": {direction.value: _test(test) for direction, test in result.equivalence.items()},
        "interval_seconds": result.seconds,
        "intervals": [
            {
                "start": _moment(row.start),
                "truth": {"entered": row.truth_entered, "left": row.truth_left},
                "counted": {"entered": row.counted_entered, "left": row.counted_left},
            }
            for row in result.intervals
        ],
    }


def _agreement(value: Agreement) -> dict[str, Any]:
    return {
        "matched": value.matched,
        "missed": value.missed,
        "extra": value.extra,
        "precision": value.precision,
        "recall": value.recall,
        "lag_seconds": value.lag,
    }


def _test(test: Equivalence) -> dict[str, Any]:
    return {
        "bias": test.bias,
        "low": test.low,
        "high": test.high,
        "p_value": test.p_value,
        "margin": test.margin,
        "alpha": test.alpha,
        "intervals": test.intervals,
        "people": test.people,
        "verdict": test.verdict.value,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _rows(result: Evaluation) -> list[tuple[str, ...]]:
    """Direction, by hand, by the sensor, matched, precision, recall, WAPE, bias, interval of the bias, verdict."""
    rows: list[tuple[str, ...]] = []
    for direction, value in result.per_direction.items():
        test = result.equivalence[direction]
        between = "–" if test.low is None else f"{percent(test.low, sign=True)} to {percent(test.high, sign=True)}"
        rows.append(
            (
                direction.value,
                str(value.matched + value.missed),
                str(value.matched + value.extra),
                str(value.matched),
                percent(value.precision),
                percent(value.recall),
                percent(result.wape_per_direction[direction]),
                percent(test.bias, sign=True),
                between,
                test.verdict.value,
            )
        )
    return rows


_COLUMNS = (
    "direction",
    "by hand",
    "sensor",
    "matched",
    "precision",
    "recall",
    "WAPE",
    "bias",
    "interval of the bias",
    "verdict",
)


def as_table(result: Evaluation, sensor_id: str, coverage: float | None) -> RenderableType:
    """For the terminal."""
    header, *body = zip(_COLUMNS, *_rows(result), strict=True)  # a column a direction: it fits any terminal
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in body:
        table.add_row(*row)
    verdict, _, reasons = conclusion(result, coverage).partition("\n")
    title = f"{sensor_id}, {_local(result.start)} to {_local(result.end)}, the sensor looked {percent(coverage)} of it"
    return Group(Text(title), Text(), table, Text(), Text(verdict, _STYLE[result.verdict]), Text(reasons))


def as_html(result: Evaluation, sensor_id: str, coverage: float | None) -> str:
    """One page without scripts and without anything from elsewhere, to keep or to print."""
    head = "".join(f"<th scope=col>{html.escape(name)}" for name in _COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in _rows(result))
    verdict, _, reasons = conclusion(result, coverage).partition("\n")
    intervals = "".join(
        f"<tr><td>{html.escape(_local(row.start))}<td>{row.truth_entered}<td>{row.counted_entered}"
        f"<td>{row.truth_left}<td>{row.counted_left}"
        for row in result.intervals
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Validation of {html.escape(sensor_id)}</title>
<style>
body {{ font-family: system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.45; }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; white-space: nowrap; padding: .3rem .5rem; border-bottom: 1px solid #ccc; }}
th:first-child, td:first-child {{ text-align: left; }}
.verdict {{ font-size: 1.4rem; font-weight: bold; padding: .5rem .75rem; border-left: .5rem solid; }}
.passed {{ border-color: #0b6e4f; }} .failed {{ border-color: #b3261e; }} .undecided {{ border-color: #b07a00; }}
</style>
<h1>Validation of sensor {html.escape(sensor_id)}</h1>
<p>{html.escape(_local(result.start))} to {html.escape(_local(result.end))}; the sensor looked during
{percent(coverage)} of it. A person counted by hand beside it.</p>
<p class="verdict {result.verdict.value}">{html.escape(verdict)}</p>
<p>{html.escape(reasons).replace(chr(10), "<br>")}</p>
<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>
<p>Events match one to one, same direction, at most {result.tolerance:g} s apart. WAPE and bias are per interval of
{result.seconds:g} s. The verdict is a test of equivalence: two one-sided t tests on the differences per interval,
relative to the mean truth (Siebert and Ellenberger, Transportation 47, 2020).</p>
<h2>Intervals</h2>
<table><thead><tr><th scope=col>begin<th scope=col>entered, by hand<th scope=col>entered, sensor
<th scope=col>left, by hand<th scope=col>left, sensor</thead><tbody>{intervals}</tbody></table>
</html>
"""
