"""Settings: the rules by which minutes become use and bookings get their outcome, with their values at this site.

Shown, not changed: the rules are a file of whoever runs the service, because the command line's reports, the scheduled
roll-ups and every page must judge by the same ones, and the figures of the past are computed again after a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.assemble import RulesOf
from analytics.domain.model import Building
from analytics.domain.plan import MatchRules
from analytics.site_rules import RULES_FILE
from analytics.web.portal.language import Language, t
from analytics.web.portal.pages.settings import settings_page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor

RulesVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
SHIPPED = MatchRules()


class Unit(StrEnum):
    """How a value is written."""

    MINUTES = "minutes"
    PEOPLE = "people"
    SHARE = "share"
    TIMES = "times"


@dataclass(frozen=True, slots=True)
class Rule:
    """A field of `MatchRules` as people read it."""

    name: str
    title: str
    text: str
    unit: Unit = Unit.MINUTES


GROUPS: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    (
        t("When a room is in use"),
        (
            Rule("min_people", t("Fewest people"), t("A minute with fewer people is no use of the room."), Unit.PEOPLE),
            Rule("min_run", t("Shortest use"), t("Shorter is somebody passing by.")),
            Rule("bridge", t("Pause"), t("A pause shorter than this still counts as use.")),
        ),
    ),
    (
        t("Which minutes belong to a booking"),
        (
            Rule(
                "start_offset",
                t("Academic quarter at the start"),
                t("The event starts this much after the booking; late is counted from there."),
            ),
            Rule(
                "end_offset",
                t("Academic quarter at the end"),
                t("The event ends this much before the booking; leaving early is counted from there."),
            ),
            Rule(
                "breaks",
                t("Breaks of the day"),
                t("Minutes in these local times are left out of the attendance."),
                Unit.TIMES,
            ),
            Rule(
                "margin_before",
                t("Time before a booking"),
                t("Whoever is there this early belongs to it, unless the time is a neighbour's."),
            ),
            Rule(
                "margin_after",
                t("Time after a booking"),
                t("Whoever stays this long belongs to it, unless the time is a neighbour's."),
            ),
            Rule(
                "split_before",
                t("Changeover, at the earliest"),
                t("Between two neighbours the emptiest minute is the boundary; it is sought from this long before."),
            ),
            Rule(
                "split_after",
                t("Changeover, at the latest"),
                t("Sought until this long after. Longer finds longer overruns, and takes breaks for changeovers."),
            ),
        ),
    ),
    (
        t("What became of a booking"),
        (
            Rule(
                "min_coverage",
                t("Measured at least"),
                t("Less of the booking measured, or half as much of its first half: the outcome is unknown."),
                Unit.SHARE,
            ),
            Rule(
                "sustained",
                t("Shortest presence"),
                t("Unless people are there for this long on end (in a short booking: a third of it), nobody came."),
            ),
            Rule("late", t("Late start"), t("Half of the attendance is in more than this after the start.")),
            Rule("early", t("Early end"), t("Half of the attendance has gone more than this before the end.")),
            Rule("overrun", t("Overrun"), t("Half of the attendance stays more than this after the end.")),
            Rule("overrun_horizon", t("Followed after the end"), t("An overrun is looked for this long.")),
        ),
    ),
    (
        t("Attendance and seats"),
        (
            Rule("core_trim", t("Left out at both ends"), t("Coming and going: these minutes are not attendance.")),
            Rule(
                "dip",
                t("Pause within an event"),
                t("A minute below this share of the busy ones (their 75th percentile) is not attendance."),
                Unit.SHARE,
            ),
            Rule(
                "over_people",
                t("Over capacity, people"),
                t("Attendance above the seats by more than this, and by more than the share below."),
                Unit.PEOPLE,
            ),
            Rule("over_share", t("Over capacity, share"), t("Of the seats. Both must be exceeded."), Unit.SHARE),
        ),
    ),
    (
        t("Giving rooms back"),
        (
            Rule(
                "grace",
                t("Patience"),
                t("A booking to which nobody came could be given back this long after its start."),
            ),
            Rule("min_block", t("Shortest gain"), t("Shorter free time is not counted as worth giving back.")),
        ),
    ),
)


def add_rule_pages(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/settings/rules", Right.SEE_FIGURES)
    def rules(request: Request, visit: RulesVisit) -> Response:
        found = site_rules(visit, portal_of(request).rules_of)
        groups = [(visit.t(head), [_row(visit.t, rule, found) for rule in rules]) for head, rules in GROUPS]
        return settings_page(
            request, "settings_rules.html", visit, groups=groups, file=RULES_FILE, version=SHIPPED.version
        )


def site_rules(visit: Visit, rules_of: RulesOf) -> list[tuple[str, MatchRules]]:
    """The buildings that the reader may see, by name, each with its rules; without any, what a new one would get."""
    buildings = visit.buildings or (Building(visit.org_id, "", ""),)
    return [(building.name, rules_of(building)) for building in buildings]


def _row(t: Language, rule: Rule, found: list[tuple[str, MatchRules]]) -> dict[str, Any]:
    shipped = getattr(SHIPPED, rule.name)
    where: dict[Any, list[str]] = {}
    for building, rules in found:
        where.setdefault(getattr(rules, rule.name), []).append(building)
    return {
        "name": rule.name,
        "title": t(rule.title),
        "text": t(rule.text),
        "shipped": written(t, rule.unit, shipped),
        "values": [
            {
                "text": written(t, rule.unit, value),
                "ours": value != shipped,
                "buildings": ", ".join(names) if len(where) > 1 else "",
            }
            for value, names in where.items()
        ],
    }


def written(t: Language, unit: Unit, value: Any) -> str:
    """A value with its unit."""
    if unit is Unit.TIMES:
        spans = [f"{a // 60:02}:{a % 60:02}–{b // 60:02}:{b % 60:02}" for a, b in value]
        return ", ".join(spans) or t("none")
    if unit is Unit.SHARE:
        return t.percent(value, 0 if value * 100 == round(value * 100) else 1)
    number = t.number(value, 0 if value == round(value) else 1)
    if unit is Unit.MINUTES:
        return t("{number} min", number=number)
    return t("1 person") if value == 1 else t("{number} people", number=number)
