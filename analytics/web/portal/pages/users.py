"""Users and rights, keys for machines, shares, and the audit log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from analytics.accounts.errors import AccountError, ForbiddenError
from analytics.accounts.links import Handout
from analytics.accounts.model import rights_of
from analytics.accounts.rights import Membership, Right, Role
from analytics.accounts.tokens import MACHINE_RIGHTS
from analytics.web.portal.pages.login import link_of
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor

Text = Annotated[str, Form(max_length=400)]
Texts = Annotated[list[str], Form()]
UserVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_USERS))]
ShareVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_SHARES))]


def add_user_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/users"

    @pages.get(base, Right.MANAGE_USERS)
    def users(request: Request, visit: UserVisit) -> Response:
        return _users_page(request, visit)

    @pages.post(f"{base}/invite", Right.MANAGE_USERS)
    def invite(
        request: Request,
        visit: UserVisit,
        email: Text = "",
        role: Text = "viewer",
        buildings: Texts = [],  # noqa: B006
        bookers: Text = "",
        with_code: Text = "",
    ) -> Response:
        people = portal_of(request).people
        return _handing_out(
            request,
            visit,
            lambda: people.invite(
                visit.user, email, _membership(visit, role, buildings, bookers), with_code=bool(with_code)
            ),
        )

    @pages.post(f"{base}/withdraw", Right.MANAGE_USERS)
    def withdraw(request: Request, visit: UserVisit, invitation: Text = "") -> Response:
        return _doing(request, visit, lambda: portal_of(request).people.withdraw(visit.user, visit.org_id, invitation))

    @pages.post(base + "/{user_id}/rights", Right.MANAGE_USERS)
    def rights(
        request: Request,
        visit: UserVisit,
        user_id: str,
        role: Text = "viewer",
        buildings: Texts = [],  # noqa: B006
        bookers: Text = "",
    ) -> Response:
        people = portal_of(request).people
        return _doing(
            request,
            visit,
            lambda: people.set_membership(visit.user, user_id, _membership(visit, role, buildings, bookers)),
        )

    @pages.post(base + "/{user_id}/reset", Right.MANAGE_USERS)
    def reset(request: Request, visit: UserVisit, user_id: str) -> Response:
        people = portal_of(request).people
        return _handing_out(request, visit, lambda: people.reset_link(visit.user, user_id, visit.org_id))

    @pages.post(base + "/{user_id}/remove", Right.MANAGE_USERS)
    def remove(request: Request, visit: UserVisit, user_id: str) -> Response:
        people = portal_of(request).people
        return _doing(request, visit, lambda: people.remove_member(visit.user, user_id, visit.org_id))

    @pages.post("/o/{org_id}/tokens", Right.MANAGE_USERS)
    def make_token(request: Request, visit: UserVisit, token_name: Text = "", rights: Texts = []) -> Response:  # noqa: B006
        def make() -> Handout:
            portal = portal_of(request)
            secret = portal.tokens.create(visit.user, visit.org_id, token_name, rights_of(rights))
            token = portal.tokens.authenticate(secret)
            assert token is not None
            assert token.expires_at is not None
            return Handout(secret, None, token.expires_at)

        return _handing_out(request, visit, make, as_link=False)

    @pages.post("/o/{org_id}/tokens/withdraw", Right.MANAGE_USERS)
    def withdraw_token(request: Request, visit: UserVisit, token: Text = "") -> Response:
        return _doing(request, visit, lambda: portal_of(request).tokens.withdraw(visit.user, visit.org_id, token))

    _add_share_routes(pages)


def _add_share_routes(pages: Pages) -> None:
    @pages.post("/o/{org_id}/shares", Right.MANAGE_SHARES)
    def offer(
        request: Request,
        visit: ShareVisit,
        label: Text = "",
        buildings: Texts = [],  # noqa: B006
        days: Annotated[int, Form(ge=1, le=730)] = 90,
        pin: Text = "",
    ) -> Response:
        shares = portal_of(request).shares
        known = {building.id for building in visit.buildings}
        chosen = [building for building in buildings if building in known]
        return _handing_out(
            request,
            visit,
            lambda: shares.offer(visit.user, visit.org_id, chosen, label, days=days, demands_pin=bool(pin)),
            as_link=False,
        )

    @pages.post("/o/{org_id}/shares/withdraw", Right.MANAGE_SHARES)
    def withdraw(request: Request, visit: ShareVisit, share: Text = "") -> Response:
        return _doing(request, visit, lambda: portal_of(request).shares.withdraw(visit.user, visit.org_id, share))

    @pages.post("/o/{org_id}/shares/activate", Right.MANAGE_SHARES)
    def activate(request: Request, visit: ShareVisit, secret: Text = "") -> Response:
        shares = portal_of(request).shares
        return _doing(request, visit, lambda: shares.activate(visit.user, visit.org_id, secret.strip()))


def _membership(visit: Visit, role: str, buildings: Sequence[str], bookers: str) -> Membership:
    known = {building.id for building in visit.buildings}
    unknown = set(buildings) - known
    if unknown:
        raise ForbiddenError("there is no such building")
    try:
        chosen = Role(role)
    except ValueError:
        raise ForbiddenError("there is no such role") from None
    extra = frozenset({Right.SEE_BOOKERS}) if bookers else frozenset()
    return Membership(visit.org_id, chosen, frozenset(buildings), extra)


def _doing(request: Request, visit: Visit, action: Callable[[], object]) -> Response:
    try:
        action()
    except AccountError as error:
        return _users_page(request, visit, problem=str(error), status=403 if isinstance(error, ForbiddenError) else 400)
    return RedirectResponse(f"/o/{visit.org_id}/users", 303)


def _handing_out(request: Request, visit: Visit, action: Callable[[], Handout], *, as_link: bool = True) -> Response:
    """The secret goes onto the page that answers, and nowhere else: not into an address, not into a log."""
    try:
        handout = action()
    except AccountError as error:
        return _users_page(request, visit, problem=str(error), status=403 if isinstance(error, ForbiddenError) else 400)
    shown = link_of(request, handout.secret) if as_link else handout.secret
    return _users_page(request, visit, handout=handout, handout_link=shown)


def _users_page(
    request: Request,
    visit: Visit,
    *,
    problem: str = "",
    handout: Handout | None = None,
    handout_link: str = "",
    status: int = 200,
) -> Response:
    portal = portal_of(request)
    return page(
        request,
        "users.html",
        visit,
        status=status,
        done="",
        problem_text=visit.t(problem),
        handout=handout,
        handout_link=handout_link,
        members=portal.people.members(visit.org_id),
        invitations=portal.people.invitations(visit.org_id),
        tokens=portal.tokens.of(visit.org_id),
        machine_rights=sorted(MACHINE_RIGHTS),
        shares=portal.shares.offered(visit.org_id),
    )
