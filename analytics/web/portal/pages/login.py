"""Login, invitation links and a person's own account."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from analytics.accounts.errors import (
    AccountError,
    CodeError,
    LinkError,
    LoginError,
    SecondFactorNeededError,
    TooManyAttemptsError,
)
from analytics.accounts.people import People
from analytics.web.portal.security import clear_session, cookie_name, set_session
from analytics.web.portal.view import bare_page
from analytics.web.portal.visit import LOGGED_IN, PUBLIC, Guest, Pages, find_guest, guest, language_of, portal_of

Text = Annotated[str, Form(max_length=400)]
Secret = Annotated[str, Form(max_length=1000)]
Who = Annotated[Guest, Depends(guest)]


def add_login_pages(pages: Pages) -> None:
    """Register the routes."""

    @pages.get("/", PUBLIC)
    def first(request: Request) -> Response:
        who = find_guest(request)
        if who is None:
            return RedirectResponse("/login", 303)
        if not who.user.memberships:
            return RedirectResponse("/account", 303)
        return RedirectResponse(f"/o/{who.user.memberships[0].org_id}/now", 303)

    @pages.get("/login", PUBLIC)
    def login_form(request: Request, next: str = "/") -> Response:  # noqa: A002
        if find_guest(request):
            return RedirectResponse(local_path(next), 303)
        return _login_page(request, target=next)

    @pages.post("/login", PUBLIC)
    def login(
        request: Request,
        email: Text = "",
        password: Secret = "",
        totp: Text = "",
        next: Text = "/",  # noqa: A002
    ) -> Response:
        portal = portal_of(request)
        address = request.client.host if request.client else ""
        old = request.cookies.get(cookie_name(portal.https), "")
        try:
            secret, _ = portal.people.login(email, password, totp=totp, address=address, device=device_of(request))
        except SecondFactorNeededError as error:
            return _login_page(request, str(error), email=email, target=next, ask_totp=True)
        except TooManyAttemptsError as error:
            page = _login_page(request, str(error), email=email, target=next, status=429)
            page.headers["Retry-After"] = str(int(error.retry_after) + 1)
            return page
        except LoginError as error:
            return _login_page(request, str(error), email=email, target=next, ask_totp=bool(totp), status=401)
        if old:  # whoever was logged in with this browser, or planted the cookie, is not any more
            portal.people.logout(old)
        response = RedirectResponse(local_path(next), 303)
        set_session(response, secret, https=portal.https)
        return response

    @pages.post("/logout", PUBLIC)
    def logout(request: Request) -> Response:
        portal = portal_of(request)
        portal.people.logout(request.cookies.get(cookie_name(portal.https), ""))
        response = RedirectResponse("/login", 303)
        clear_session(response, https=portal.https)
        return response

    @pages.get("/invitation/{secret}", PUBLIC)
    def invitation_form(request: Request, secret: str) -> Response:
        return _accept_page(request, secret)

    @pages.post("/invitation/{secret}", PUBLIC)
    def accept(
        request: Request, secret: str, password: Secret = "", name: Text = "", email: Text = "", code: Text = ""
    ) -> Response:
        portal = portal_of(request)
        try:
            user = portal.people.accept(secret, password, name=name, email=email, code=code)
            session, _ = portal.people.login(user.email, password, device=device_of(request))
        except SecondFactorNeededError:
            return RedirectResponse("/login", 303)
        except (AccountError, CodeError) as error:
            return _accept_page(request, secret, str(error), name=name, email=email)
        response = RedirectResponse("/", 303)
        set_session(response, session, https=portal.https)
        return response

    _add_account_pages(pages)


def _add_account_pages(pages: Pages) -> None:
    @pages.get("/account", LOGGED_IN)
    def account(request: Request, who: Who, done: str = "") -> Response:
        return _account_page(request, who, done=who.t(_DONE[done]) if done in _DONE else "")

    @pages.post("/account/language", LOGGED_IN)
    def language(request: Request, who: Who, language: Text = "nl") -> Response:
        portal_of(request).people.own.set_language(who.user, language)
        return RedirectResponse("/account", 303)

    @pages.post("/account/password", LOGGED_IN)
    def password(request: Request, who: Who, present: Secret = "", new: Secret = "") -> Response:
        portal = portal_of(request)
        try:
            portal.people.own.change_password(who.user, present, new)
        except AccountError as error:
            return _account_page(request, who, problem=str(error), status=400)
        portal.people.end_sessions(who.user.id, but=who.session.id)
        response = RedirectResponse("/account?done=password", 303)
        set_session(response, portal.people.rotate(who.secret), https=portal.https)
        return response

    @pages.post("/account/totp/on", LOGGED_IN)
    def totp_on(request: Request, who: Who, secret: Text = "", code: Text = "") -> Response:
        return _own_change(request, who, lambda p: p.own.enable_totp(who.user, secret, code), "totp-on")

    @pages.post("/account/totp/off", LOGGED_IN)
    def totp_off(request: Request, who: Who, password: Secret = "") -> Response:
        return _own_change(request, who, lambda p: p.own.disable_totp(who.user, password), "totp-off")

    @pages.post("/account/pin", LOGGED_IN)
    def pin(request: Request, who: Who, pin: Text = "", pin_password: Secret = "") -> Response:
        return _own_change(request, who, lambda p: p.own.set_pin(who.user, pin_password, pin), "pin")

    @pages.post("/account/logout-everywhere", LOGGED_IN)
    def logout_everywhere(request: Request, who: Who) -> Response:
        portal_of(request).people.end_sessions(who.user.id, but=who.session.id)
        return RedirectResponse("/account?done=sessions", 303)

    @pages.get("/account/data.json", LOGGED_IN)
    def data(request: Request, who: Who) -> Response:
        return JSONResponse(portal_of(request).people.own.personal_data(who.user.id))


_DONE = {
    "password": "Your password was changed.",
    "totp-on": "The second factor is on.",
    "totp-off": "The second factor is off.",
    "pin": "Your PIN was set.",
    "sessions": "You are logged out everywhere else.",
}


def _own_change(request: Request, who: Guest, change: object, done: str) -> Response:
    assert callable(change)
    try:
        change(portal_of(request).people)
    except AccountError as error:
        return _account_page(request, who, problem=str(error), status=400)
    return RedirectResponse(f"/account?done={done}", 303)


def _account_page(request: Request, who: Guest, *, problem: str = "", done: str = "", status: int = 200) -> Response:
    people: People = portal_of(request).people
    names = {organisation.id: organisation.name for organisation in portal_of(request).store.organisations()}
    return bare_page(
        request, "account.html", who.t, who=who, status=status, problem_text=who.t(problem), done=done, names=names,
        totp_secret=people.own.new_totp(), sessions=people.sessions(who.user.id), this_session=who.session.id,
    )  # fmt: skip


def _login_page(
    request: Request,
    problem: str = "",
    *,
    email: str = "",
    target: str = "/",
    ask_totp: bool = False,
    status: int = 200,
) -> Response:
    t = language_of(request, None)
    return bare_page(
        request, "login.html", t, status=status, problem_text=t(problem), email=email, next=local_path(target),
        ask_totp=ask_totp,
    )  # fmt: skip


def _accept_page(request: Request, secret: str, problem: str = "", *, name: str = "", email: str = "") -> Response:
    t = language_of(request, None)
    people = portal_of(request).people
    try:
        invitation = people.look(secret)
    except LinkError as error:
        return bare_page(
            request, "accept.html", t, status=404, heading=t("This link does not work"), explanation=t(str(error)),
            problem_text="", dead=True,
        )  # fmt: skip
    reset = invitation.membership is None
    return bare_page(
        request, "accept.html", t, status=400 if problem else 200, dead=False, problem_text=t(problem),
        person_name=name,
        heading=t("Set a new password") if reset else t("Create your account"),
        explanation=t("This link works once."), email=invitation.email or email, asks_email=not invitation.email,
        asks_name=not reset, asks_code=invitation.code_hash is not None,
    )  # fmt: skip


def local_path(target: str) -> str:
    """``target`` when it is a path of this portal, else the first page: no open redirect."""
    parts = urlsplit(target)
    safe = not parts.scheme and not parts.netloc and target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if safe and "\\" not in target and target.isprintable() else "/"


def device_of(request: Request) -> str:
    """A few words on the browser, so that people recognise their sessions; not the whole string."""
    agent = request.headers.get("user-agent", "")
    browser = next((name for name in ("Firefox", "Edg", "Chrome", "Safari") if name in agent), "")
    system = next((name for name in ("Android", "iPhone", "Windows", "Mac OS", "Linux") if name in agent), "")
    return " ".join(word for word in (browser, system) if word)


def link_of(request: Request, secret: str) -> str:
    """The address to hand over; the secret is in it and nowhere in a log: access logs are off."""
    return f"{str(request.base_url).rstrip('/')}/invitation/{secret}"
