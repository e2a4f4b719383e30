"""The audit log, in words."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import Depends, Request, Response

from analytics import login_desk, rule_changes
from analytics.accounts.rights import Right
from analytics.web.portal.language import t
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor

AuditVisit = Annotated[Visit, Depends(visitor(Right.SEE_AUDIT))]
AUDIT_PAGE = 100


ACTIONS = {
    "bookers.reveal": t("name of a booker shown"),
    "building.hours": t("measuring hours changed"),
    "closure.add": t("days closed"),
    "closure.remove": t("closure removed"),
    "export": t("file exported"),
    "login": t("logged in"),
    "login.failed": t("login failed"),
    "organisation.change": t("organisation changed"),
    "period.add": t("periods added"),
    "period.remove": t("periods removed"),
    "retention.change": t("times of keeping changed"),
    "room.capacity": t("seats changed"),
    "room.change": t("room changed"),
    "room.import": t("rooms read in"),
    "rules.change": t("rules changed"),
    "sensor.add": t("sensor added"),
    "sensor.code": t("new code for a sensor"),
    "sensor.configure": t("sensor configured"),
    "sensor.restart": t("sensor restarted"),
    "sensor.revoke": t("sensor revoked"),
    "sensor.watch": t("sensor moved"),
    "share.activate": t("share accepted"),
    "share.look": t("shared figures looked at"),
    "share.offer": t("share offered"),
    "share.withdraw": t("share withdrawn"),
    "source.add": t("timetable added"),
    "source.change": t("timetable changed"),
    "source.pull": t("timetable pulled"),
    "source.remove": t("timetable removed"),
    "token.create": t("token made"),
    "token.withdraw": t("token withdrawn"),
    "user.accept": t("link used, account made"),
    "user.change-password": t("password changed"),
    "user.invite": t("person invited"),
    "user.remove": t("person removed"),
    "user.reset-link": t("link for a new password made"),
    "user.reset-password": t("new password set with a link"),
    "user.rights": t("rights changed"),
    "user.totp-off": t("second factor switched off"),
    "user.totp-on": t("second factor switched on"),
    "user.withdraw-invitation": t("invitation withdrawn"),
}
"""What the log names an action, to what people call it."""
ACTORS = {login_desk.ACTOR: t("command line"), rule_changes.ACTOR: t("the service")}
"""Those who are no persons."""


def add_audit_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/audit", Right.SEE_AUDIT)
    def audit(request: Request, visit: AuditVisit, before: int | None = None) -> Response:
        portal = portal_of(request)
        entries = portal.audit.entries(visit.org_id, before=before, limit=AUDIT_PAGE)
        names = {actor: visit.t(text) for actor, text in ACTORS.items()}
        return page(
            request,
            "audit.html",
            visit,
            entries=entries,
            names=names | {user.id: user.name for user in portal.people.members(visit.org_id)},
            actions={action: visit.t(text) for action, text in ACTIONS.items()},
            details={e.number: json.dumps(e.detail, ensure_ascii=False) if e.detail else "" for e in entries},
            broken=portal.audit.verify(visit.org_id),
            older=entries[-1].number if len(entries) == AUDIT_PAGE else None,
        )
