"""The report of a validation, in words and as plain data: Dutch or English."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from counter.types import Direction
from counter.validation.language import Language
from counter.validation.presence import Mean, Presence
from counter.validation.statistics import Agreement, Equivalence, Evaluation, Verdict, together


@dataclass(frozen=True, slots=True)
class Findings:
    """What a window showed.

    Attributes:
        passages: people who came and went.
        presence: people who were there; None where nobody counted heads.
        coverage: share of the window in which the sensor counted; None when that is not known.
    """

    sensor_id: str
    passages: Evaluation
    presence: Presence | None = None
    coverage: float | None = None

    @property
    def judges_passages(self) -> bool:
        """Who counted heads alone has not said that nobody passed."""
        tapped = self.passages.agreement.matched + self.passages.agreement.missed
        return bool(tapped) or self.presence is None

    @property
    def verdict(self) -> Verdict:
        """Of all that was counted by hand."""
        asked = self.passages.verdicts if self.judges_passages else []
        if self.presence is not None:
            asked = [*asked, self.presence.test.verdict]
        return together(asked)


def headline(verdict: Verdict, t: Language) -> str:
    """The verdict, as people say it."""
    return {
        Verdict.PASSED: t("Passed."),
        Verdict.FAILED: t("Not passed."),
        Verdict.UNDECIDED: t("Not decided."),
    }[verdict]


def conclusion(found: Findings, t: Language) -> str:
    """The verdict and why, in a few sentences, one a line."""
    lines = [headline(found.verdict, t)]
    passages, presence = found.passages, found.presence
    if found.judges_passages:
        for direction, test in passages.equivalence.items():
            extra = passages.per_direction[direction].extra
            lines += [_direction(direction, test, passages.seconds, extra, t)]
    if presence is not None:
        lines += _present(presence, t)
    if found.coverage is not None and found.coverage < 0.99:
        lines.append(
            t(
                "The sensor looked during {share} of the window only: see to the camera first.",
                share=t.percent(found.coverage),
            )
        )
    lag = passages.agreement.lag
    if lag is not None and abs(lag) > passages.tolerance / 2:
        gaps = {"seconds": t.number(abs(lag)), "tolerance": t.number(passages.tolerance)}
        if lag > 0:
            lines.append(
                t(
                    "Half of the sensor's events came {seconds} s or more after the taps; "
                    "a tolerance of {tolerance} s is tight for that.",
                    **gaps,
                )
            )
        else:
            lines.append(
                t(
                    "Half of the sensor's events came {seconds} s or more before the taps; "
                    "a tolerance of {tolerance} s is tight for that.",
                    **gaps,
                )
            )
    return "\n".join(lines)


def _direction(direction: Direction, test: Equivalence, seconds: float, extra: int, t: Language) -> str:
    """What the test of one direction showed."""
    who = t("People entering") if direction is Direction.ENTERED else t("People leaving")
    if test.bias is None:
        if extra:
            return t(
                "{who}: the person saw none, the sensor counted {extra}; there is nothing to compare with.",
                who=who,
                extra=extra,
            )
        return t("{who}: the person saw none; there is nothing to compare with.", who=who)
    if test.low is None:
        return t("{who}: one interval says nothing about its own spread; count for longer.", who=who)
    words = _tested(who, test, t)
    if test.verdict is not Verdict.UNDECIDED:
        return words
    if test.needed is None:
        return f"{words} {t('It will hardly pass: the bias found is as large as the margin.')}"
    minutes = max(1, round((test.needed - test.intervals) * seconds / 60))
    return f"{words} {t('About {minutes} more minutes like these would decide it.', minutes=minutes)}"


def _tested(who: str, test: Equivalence, t: Language) -> str:
    gaps = {
        "who": who,
        "low": t.percent(test.low, sign=True),
        "high": t.percent(test.high, sign=True),
        "sure": t.percent(1.0 - 2.0 * test.alpha, digits=0),
        "margin": t.percent(test.margin),
    }
    if test.verdict is Verdict.PASSED:
        return t(
            "{who}: the bias lies between {low} and {high} ({sure} interval), inside the agreed ±{margin}.", **gaps
        )
    if test.verdict is Verdict.FAILED and (test.bias or 0.0) > 0:
        return t(
            "{who}: the sensor counts too many: the bias lies between {low} and {high} ({sure} interval), "
            "outside the agreed ±{margin}.",
            **gaps,
        )
    if test.verdict is Verdict.FAILED:
        return t(
            "{who}: the sensor counts too few: the bias lies between {low} and {high} ({sure} interval), "
            "outside the agreed ±{margin}.",
            **gaps,
        )
    return t(
        "{who}: the bias lies between {low} and {high} ({sure} interval); whether that is inside the agreed "
        "±{margin} is open.",
        **gaps,
    )


def _present(presence: Presence, t: Language) -> list[str]:
    """What the counts of heads showed."""
    lines, test = [], presence.test
    who = t("People present")
    if test.bias is not None and test.low is None:
        lines.append(t("{who}: one moment says nothing about its own spread; count at more of them.", who=who))
    elif test.bias is not None:
        words = _tested(who, test, t)
        if test.verdict is Verdict.UNDECIDED and test.needed is not None:
            more = test.needed - test.intervals
            words += " " + t("About {count} more moments like these would decide it.", count=more)
        elif test.verdict is Verdict.UNDECIDED:
            words += " " + t("It will hardly pass: the bias found is as large as the margin.")
        lines.append(words)
    elif test.intervals:
        lines.append(t("{who}: the person saw nobody; a bias in percent has no meaning.", who=who))
    if presence.error is not None and presence.bias is not None:
        lines.append(
            t(
                "At {count} moments the sensor was off by {error} people on average ({error_interval}), "
                "its bias was {bias} people ({bias_interval}); {exact} were right, {within} at most one off.",
                count=test.intervals,
                error=t.number(presence.error.value, 2),
                error_interval=between(presence.error, t),
                bias=t.number(presence.bias.value, 2, sign=True),
                bias_interval=between(presence.bias, t, sign=True),
                exact=t.percent(presence.exact, digits=0),
                within=t.percent(presence.within_one, digits=0),
            )
        )
    if presence.unknown:
        lines.append(
            t("At {count} moments the sensor did not look: they are not in the figures.", count=presence.unknown)
        )
    return lines


def between(mean: Mean, t: Language, *, sign: bool = False) -> str:
    """``0.10 to 0.45``; a dash where there is no interval."""
    if mean.low is None or mean.high is None:
        return t.number(None)
    return t("{low} to {high}", low=t.number(mean.low, 2, sign=sign), high=t.number(mean.high, 2, sign=sign))


def as_json(found: Findings, t: Language | None = None) -> dict[str, Any]:
    """Plain data. Shares are 0 to 1, moments are UTC, unknown is null; ``words`` alone is in the reader's language."""
    passages, presence = found.passages, found.presence
    return {
        "sensor_id": found.sensor_id,
        "start": _moment(passages.start),
        "end": _moment(passages.end),
        "coverage": found.coverage,
        "tolerance_seconds": passages.tolerance,
        "verdict": found.verdict.value,
        "words": conclusion(found, t or Language()),
        "events": {
            "all": _agreement(passages.agreement),
            **{direction.value: _agreement(value) for direction, value in passages.per_direction.items()},
        },
        "wape": {
            "all": passages.wape,
            **{direction.value: value for direction, value in passages.wape_per_direction.items()},
        },
        "equivalence": {direction.value: _test(test) for direction, test in passages.equivalence.items()},
        "interval_seconds": passages.seconds,
        "intervals": [
            {
                "start": _moment(row.start),
                "truth": {"entered": row.truth_entered, "left": row.truth_left},
                "counted": {"entered": row.counted_entered, "left": row.counted_left},
            }
            for row in passages.intervals
        ],
        "present": None if presence is None else _presence(presence),
    }


def _presence(value: Presence) -> dict[str, Any]:
    return {
        "mean_absolute_error": _mean(value.error),
        "bias_people": _mean(value.bias),
        "interval_level": value.sure,
        "exact": value.exact,
        "within_one": value.within_one,
        "wape": value.wape,
        "equivalence": _test(value.test),
        "moments": [{"t": _moment(one.t), "truth": one.truth, "counted": one.counted} for one in value.moments],
    }


def _mean(value: Mean | None) -> dict[str, float | None] | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


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
