"""Settings: how long each class of data is kept, and how a person is erased and gets what is kept about them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.master import Policies
from analytics.retention import RetentionPolicy
from analytics.sources import Sources
from analytics.web.portal.language import t
from analytics.web.portal.pages.settings import go_on, record, settings_page
from analytics.web.portal.pages.settings_sources import Form
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor

RetentionVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_RETENTION))]
_MOST_DAYS = 36_500


CLASSES: dict[str, tuple[str, str]] = {
    "booker_name_days": (t("Names of bookers"), t("after the booking ended; only where names are kept at all")),
    "count_days": (t("Counts per minute"), t("what the sensors sent, without any person")),
    "conflict_days": (t("Contradicting counts"), t("a second value for a minute that had one already")),
    "booking_days": (t("Bookings"), t("after they ended, with all their versions")),
    "booking_history_days": (t("Old versions of bookings"), t("the present plan stays")),
    "rollup_days": (t("Figures per hour"), t("sums per room and hour, by whole months")),
    "enrolment_days": (t("Expired codes of sensors"), t("used or not")),
}
"""Field of `RetentionPolicy` to its name and what it is."""


def add_retention_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/settings/retention"

    @pages.get(base, Right.MANAGE_RETENTION)
    def retention(request: Request, visit: RetentionVisit) -> Response:
        return _page(request, visit)

    @pages.post(base, Right.MANAGE_RETENTION)
    def change(request: Request, visit: RetentionVisit, form: Form) -> Response:
        days: dict[str, int | None] = {}
        for name in CLASSES:
            text = form.get(name, "").strip()
            if text and not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_DAYS):
                problem = visit.t("Days are a whole number from 1; empty means for ever.")
                return _page(request, visit, problem=problem, status=400)
            days[name] = int(text) if text else None
        policy = RetentionPolicy(**days)
        look_back = max(
            (s.look_back_days for s in Sources(portal_of(request).keep).of(visit.org_id) if s.booker_names), default=0
        )
        if policy.booker_name_days is not None and policy.booker_name_days <= look_back:
            problem = visit.t(
                "Keep names longer than the {days} days a timetable looks back, or the next pull brings them again.",
                days=look_back,
            )
            return _page(request, visit, problem=problem, status=400)
        policies = Policies(portal_of(request).keep)
        before = asdict(policies.retention(visit.org_id))
        policies.set_retention(visit.org_id, policy)
        changed = {name: [before[name], value] for name, value in asdict(policy).items() if before[name] != value}
        record(request, visit, "retention.change", **changed)
        return go_on(visit, "/retention")


def _page(request: Request, visit: Visit, *, problem: str = "", status: int = 200) -> Response:
    policy = asdict(Policies(portal_of(request).keep).retention(visit.org_id))
    rows = [
        (name, visit.t(label), visit.t(hint), "" if policy[name] is None else policy[name])
        for name, (label, hint) in CLASSES.items()
    ]
    return settings_page(request, "settings_retention.html", visit, status=status, problem_text=problem, rows=rows)
