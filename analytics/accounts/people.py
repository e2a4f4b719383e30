"""People: first account, invitations, login with an optional second factor, sessions, resets, rights, erasure.

Everything here is judged again at each call; nothing is kept between calls, so several processes can serve one store.
Messages to the outside never tell whether an address is known.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import (
    AccountError,
    CodeError,
    ForbiddenError,
    LinkError,
    LoginError,
    SecondFactorNeededError,
    TooManyAttemptsError,
)
from analytics.accounts.links import DEAD_LINK, Handout, Links
from analytics.accounts.model import (
    Invitation,
    Session,
    User,
    membership_value,
    time_text,
    user_of,
    user_value,
)
from analytics.accounts.rights import Membership, Right, Role
from analytics.accounts.secrets import code_digest, digest, hash_password, same, verify_password
from analytics.accounts.sessions import Sessions
from analytics.accounts.throttle import Throttle
from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import INSTALLATION, SealedKeep
from analytics.store.sealing import derive_key

INVITATION_LIFE = timedelta(days=7)
RESET_LIFE = timedelta(hours=1)
_TOTP_STEP = 30


class People:
    """Everything about personal logins.

    Args:
        keep: the sealed store.
        audit: where logins and changes of rights are written.
        master: the service's master key; the index of mail addresses is keyed with it.
        clock: UTC now; tests inject one.
    """

    def __init__(
        self,
        keep: SealedKeep,
        audit: AuditLog,
        master: bytes,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        by_account: Throttle | None = None,
        by_address: Throttle | None = None,
    ) -> None:
        self._keep = keep
        self._audit = audit
        self._index_key = derive_key(master, "mail address index v1")
        self._clock = clock
        self._links = Links(keep, clock)
        self._sessions = Sessions(keep, clock)
        self._by_account = by_account or Throttle(5, 10)
        self._by_address = by_address or Throttle(30, 60)

    # --- finding ------------------------------------------------------------------------------------------------------

    def user(self, user_id: str) -> User | None:
        """A person by id."""
        kept = self._keep.get("user", INSTALLATION, user_id)
        return None if kept is None else user_of(kept.id, kept.value, kept.version)

    def by_email(self, email: str) -> User | None:
        """A person by mail address, whatever its case."""
        kept = self._keep.get("mail", INSTALLATION, self._email_key(email))
        return None if kept is None else self.user(kept.value["user"])

    def members(self, org_id: str) -> list[User]:
        """Everybody who may do anything in an organisation, by name."""
        everybody = (user_of(kept.id, kept.value, kept.version) for kept in self._keep.every("user", INSTALLATION))
        return sorted((user for user in everybody if user.membership(org_id)), key=lambda user: user.name.casefold())

    def nobody_yet(self) -> bool:
        """Whether the installation still waits for its first account."""
        return not self._keep.page("user", INSTALLATION, limit=1)

    # --- links that work once -----------------------------------------------------------------------------------------

    def first_link(self, org_id: str) -> Handout:
        """The link that creates the first account, a controller of ``org_id``. An older one stops working."""
        if not self.nobody_yet():
            raise ForbiddenError("there is an account already; ask for an invitation")
        for older in self._links.open():
            self._links.use_up(older)
        return self._links.hand_out(Membership(org_id, Role.CONTROLLER), INVITATION_LIFE, invited_by="first start")

    def invite(self, actor: User, email: str, membership: Membership, *, with_code: bool = False) -> Handout:
        """Invite a person. Nobody can give a right that they do not hold themselves.

        Raises:
            ForbiddenError: the actor may not.
        """
        self._may_give(actor, membership)
        handout = self._links.hand_out(
            membership, INVITATION_LIFE, email=email, invited_by=actor.id, with_code=with_code
        )
        detail = {"role": membership.role.value, "buildings": sorted(membership.buildings), "code": with_code}
        self._record(membership.org_id, actor.id, "user.invite", detail)
        return handout

    def reset_link(self, actor: User, user_id: str, org_id: str, *, with_code: bool = False) -> Handout:
        """A link with which a person of the actor's organisation sets a new password."""
        user = self._member(actor, user_id, org_id)
        self._record(org_id, actor.id, "user.reset-link", {"user": user.id})
        return self._links.hand_out(None, RESET_LIFE, email=user.email, user_id=user.id, with_code=with_code)

    def restore_link(self, email: str, by: str, *, second_factor_off: bool = False) -> Handout:
        """The same for whoever runs the service: nobody of the organisation can give one any more.

        Args:
            by: who stands in the audit log of each of the person's organisations.
            second_factor_off: using the link also takes the second factor off.

        Raises:
            AccountError: there is no such account, or it was shut.
        """
        user = self.by_email(email)
        if user is None or user.disabled:
            raise AccountError("there is no open account with this mail address")
        for older in self._links.open():
            if older.user_id == user.id:
                self._links.withdraw(older.id)
        for membership in user.memberships:
            detail = {"user": user.id, "second_factor_off": second_factor_off}
            self._record(membership.org_id, by, "user.reset-link", detail)
        return self._links.hand_out(
            None, RESET_LIFE, email=user.email, user_id=user.id, second_factor_off=second_factor_off
        )

    def invitations(self, org_id: str) -> list[Invitation]:
        """Open invitations of an organisation."""
        return [i for i in self._links.open() if i.membership and i.membership.org_id == org_id]

    def withdraw(self, actor: User, org_id: str, invitation_id: str) -> None:
        """Make an open invitation stop working."""
        self._demand(actor, Right.MANAGE_USERS, org_id)
        if invitation_id in {invitation.id for invitation in self.invitations(org_id)}:
            self._links.withdraw(invitation_id)
            self._record(org_id, actor.id, "user.withdraw-invitation", {})

    def look(self, secret: str) -> Invitation:
        """What a link is for, without using it. Raises LinkError."""
        return self._links.look(secret)

    def accept(self, secret: str, password: str, *, name: str = "", email: str = "", code: str = "") -> User:
        """Use a link: create the account, add the membership to an existing one, or set a new password.

        Raises:
            LinkError: used, withdrawn or expired.
            CodeError: the verification code is wrong; after five tries the link is dead.
            WeakPasswordError: nothing was used up.
        """
        invitation = self.look(secret)
        self._links.check_code(invitation, secret, code)
        address = invitation.email or email.strip()
        if "@" not in address or len(address) > 254 or any(letter.isspace() for letter in address):
            raise AccountError("this is not a mail address")
        password_hash = hash_password(password, about=address)
        known = self.user(invitation.user_id) if invitation.user_id else self.by_email(address)
        if invitation.membership is not None and known is not None:
            # An account that exists proves itself with its own password; the link must not replace that.
            account = self._email_key(address)
            if wait := self._by_account.wait(account):
                raise TooManyAttemptsError(wait)
            if not verify_password(known.password_hash, password)[0]:
                self._by_account.failed(account)
                raise LoginError("there is an account with this mail address; give its present password")
            password_hash = known.password_hash or password_hash
        # From here on the link is used up: whoever removes it is the one who goes on.
        if not self._links.use_up(invitation):
            raise LinkError(DEAD_LINK)
        if known is None:
            user = self._create(
                address, name.strip() or address.partition("@")[0], password_hash, invitation.membership
            )
        else:
            user = self._change(known.id, lambda user: _accepted(user, password_hash, invitation))
            if invitation.membership is None:
                self.end_sessions(user.id)
        for org_id in {m.org_id for m in user.memberships}:
            self._record(org_id, user.id, "user.accept" if invitation.membership else "user.reset-password", {})
            if invitation.second_factor_off:
                self._record(org_id, user.id, "user.totp-off", {})
        return user

    # --- login --------------------------------------------------------------------------------------------------------

    def login(
        self, email: str, password: str, *, totp: str = "", address: str = "", device: str = ""
    ) -> tuple[str, User]:
        """A new session's secret and the person.

        Raises:
            LoginError: not right; the same message and the same work for known and unknown addresses.
            SecondFactorNeededError: all right so far.
            TooManyAttemptsError: too many failures for this account or this network address.
        """
        account = self._email_key(email)
        wait = max(self._by_account.wait(account), self._by_address.wait(address))
        if wait:
            raise TooManyAttemptsError(wait)
        user = self.by_email(email)
        right, rehashed = verify_password(None if user is None or user.disabled else user.password_hash, password)
        if user is None or not right:
            self._failed(account, address, user)
            raise LoginError("mail address or password is not right")
        if user.totp_secret is not None:
            if not totp:
                raise SecondFactorNeededError("give the code of your authenticator app")
            step = _matching_step(user.totp_secret, totp, self._clock())
            if step is None or step <= user.totp_last_step:  # a code works once
                self._failed(account, address, user)
                raise LoginError("the code is not right or was used already")
            user = self._change(user.id, lambda u: replace(u, totp_last_step=step))
        if rehashed:
            user = self._change(user.id, lambda u: replace(u, password_hash=rehashed))
        self._by_account.succeeded(account)
        secret = self._sessions.begin(user.id, device)
        for membership in user.memberships:
            self._record(membership.org_id, user.id, "login", {})
        return secret, user

    def authenticate(self, secret: str) -> tuple[User, Session] | None:
        """The person and session behind a cookie; None when it ended."""
        session = self._sessions.find(secret)
        if session is None:
            return None
        user = self.user(session.user_id)
        if user is None or user.disabled:
            self._sessions.end(session.id)
            return None
        return user, session

    def rotate(self, secret: str) -> str:
        """A new secret for a session, to be called when what it may do changes. Raises LoginError when it ended."""
        found = self.authenticate(secret)
        if found is None:
            raise LoginError("the session has ended; log in again")
        user, session = found
        self._sessions.end(session.id)
        return self._sessions.begin(user.id, session.device)

    def logout(self, secret: str) -> None:
        """End one session."""
        self._sessions.end(digest(secret))

    def sessions(self, user_id: str) -> list[Session]:
        """Where a person is logged in."""
        return self._sessions.of(user_id)

    def end_sessions(self, user_id: str, *, but: str = "") -> int:
        """End every session of a person (but the one with this id)."""
        return sum(self._sessions.end(session.id) for session in self.sessions(user_id) if session.id != but)

    # --- what a person changes about themselves -----------------------------------------------------------------------

    def change_password(self, user: User, present: str, new: str) -> User:
        """Raises LoginError (the present one is wrong) or WeakPasswordError."""
        if not verify_password(user.password_hash, present)[0]:
            raise LoginError("the present password is not right")
        hashed = hash_password(new, about=user.email)
        changed = self._change(user.id, lambda u: replace(u, password_hash=hashed))
        self._everywhere(changed, "user.change-password")
        return changed

    def new_totp(self) -> str:
        """A secret to show once as a picture and a text; it counts when `enable_totp` saw a right code."""
        return str(pyotp.random_base32())

    def enable_totp(self, user: User, secret: str, code: str) -> User:
        """Switch the second factor on. Raises CodeError."""
        step = _matching_step(secret, code, self._clock())
        if step is None:
            raise CodeError("the code is not right; is the clock of your phone right?")
        changed = self._change(user.id, lambda u: replace(u, totp_secret=secret, totp_last_step=step))
        self._everywhere(changed, "user.totp-on")
        return changed

    def disable_totp(self, user: User, password: str) -> User:
        """Switch it off again, with the password. Raises LoginError."""
        if not verify_password(user.password_hash, password)[0]:
            raise LoginError("the password is not right")
        changed = self._change(user.id, lambda u: replace(u, totp_secret=None, totp_last_step=0))
        self._everywhere(changed, "user.totp-off")
        return changed

    def set_pin(self, user: User, password: str, pin: str) -> User:
        """The personal PIN that a share can demand. Raises LoginError or CodeError."""
        if not verify_password(user.password_hash, password)[0]:
            raise LoginError("the password is not right")
        if not (pin.isdigit() and 4 <= len(pin) <= 12) or len(set(pin)) < 3:
            raise CodeError("a PIN has 4 to 12 digits, at least three of them different")
        hashed = code_digest(pin, user.id)
        return self._change(user.id, lambda u: replace(u, pin_hash=hashed))

    def check_pin(self, user: User, pin: str) -> bool:
        """Whether the PIN is right; failures are counted like those of a login."""
        key = f"pin {user.id}"
        if wait := self._by_account.wait(key):
            raise TooManyAttemptsError(wait)
        right = user.pin_hash is not None and same(user.pin_hash, code_digest(pin, user.id))
        if right:
            self._by_account.succeeded(key)
        else:
            self._by_account.failed(key)
        return right

    def set_language(self, user: User, language: str) -> User:
        """``nl`` or ``en``."""
        return self._change(user.id, lambda u: replace(u, language=language if language in ("nl", "en") else "nl"))

    # --- rights -------------------------------------------------------------------------------------------------------

    def set_membership(self, actor: User, user_id: str, membership: Membership) -> User:
        """Change what a person may do. Their sessions end, so that no page of theirs goes on with old rights.

        Raises:
            ForbiddenError: the actor may not, or would take the last controller away.
        """
        self._may_give(actor, membership)
        user = self._member(actor, user_id, membership.org_id)
        self._keep_a_controller(user, membership.org_id, membership)
        before = user.membership(membership.org_id)
        changed = self._change(user_id, lambda u: u.with_membership(membership))
        detail = {"user": user_id, "from": membership_value(before), "to": membership_value(membership)}
        self._record(membership.org_id, actor.id, "user.rights", detail)
        if user_id != actor.id:
            self.end_sessions(user_id)
        return changed

    def remove_member(self, actor: User, user_id: str, org_id: str) -> None:
        """Take a person out of an organisation; an account without any organisation is erased."""
        user = self._member(actor, user_id, org_id)
        self._keep_a_controller(user, org_id, None)
        changed = self._change(user_id, lambda u: u.without_membership(org_id))
        self.end_sessions(user_id)
        self._record(org_id, actor.id, "user.remove", {"user": user_id})
        if not changed.memberships:
            self.erase(user_id)

    def erase(self, user_id: str) -> bool:
        """Forget a person. The audit log keeps the id, which then stands for nobody."""
        user = self.user(user_id)
        if user is None:
            return False
        self.end_sessions(user_id)
        self._keep.remove("mail", INSTALLATION, self._email_key(user.email))
        return self._keep.remove("user", INSTALLATION, user_id)

    def personal_data(self, user_id: str) -> dict[str, Any]:
        """All that is kept about a person, for their own export (GDPR article 15). Raises AccountError."""
        user = self.user(user_id)
        if user is None:
            raise AccountError("there is no such account")
        sessions = [{"since": time_text(s.created_at), "device": s.device} for s in self.sessions(user_id)]
        audit = {
            m.org_id: [
                {"at": time_text(entry.at), "action": entry.action}
                for entry in self._audit.entries(m.org_id, limit=10_000)
                if entry.actor == user_id
            ]
            for m in user.memberships
        }
        return {
            "email": user.email,
            "name": user.name,
            "language": user.language,
            "created_at": time_text(user.created_at),
            "second_factor": user.totp_secret is not None,
            "rights": [membership_value(m) for m in user.memberships],
            "sessions": sessions,
            "audit": audit,
        }

    # --- inside -------------------------------------------------------------------------------------------------------

    def _email_key(self, email: str) -> str:
        return hmac.new(self._index_key, email.strip().casefold().encode(), "sha256").hexdigest()

    def _create(self, email: str, name: str, password_hash: str, membership: Membership | None) -> User:
        user = User(
            id=uuid.uuid4().hex,
            email=email,
            name=name[:120],
            password_hash=password_hash,
            created_at=self._clock(),
            memberships=(membership,) if membership else (),
        )
        # The address first: of two people at once with one address only one gets on.
        try:
            self._keep.put("mail", INSTALLATION, self._email_key(email), {"user": user.id})
        except AlreadyExistsError:
            raise AccountError("there is an account with this mail address; log in") from None
        self._keep.put("user", INSTALLATION, user.id, user_value(user))
        return user

    def _change(self, user_id: str, change: Callable[[User], User]) -> User:
        for _ in range(20):
            user = self.user(user_id)
            if user is None:
                raise AccountError("there is no such account")
            changed = change(user)
            try:
                kept = self._keep.put("user", INSTALLATION, user_id, user_value(changed), replaces=user.version)
            except StaleWriteError:
                continue
            return replace(changed, version=kept.version)
        raise AccountError("the account is being changed by others; try again")

    def _failed(self, account: str, address: str, user: User | None) -> None:
        self._by_account.failed(account)
        self._by_address.failed(address)
        for membership in user.memberships if user else ():
            self._record(membership.org_id, user.id if user else "", "login.failed", {})

    def _demand(self, actor: User, right: Right, org_id: str) -> None:
        if not actor.allows(right, org_id):
            raise ForbiddenError("you have no right to do this; ask your controller")

    def _may_give(self, actor: User, membership: Membership) -> None:
        self._demand(actor, Right.MANAGE_USERS, membership.org_id)
        own = actor.membership(membership.org_id)
        # The controller decides who sees bookers' names, without seeing them: the one right given without holding it.
        given = membership.rights - {Right.SEE_BOOKERS}
        if own is None or not given <= own.rights:
            raise ForbiddenError("you cannot give rights that you do not have yourself")

    def _member(self, actor: User, user_id: str, org_id: str) -> User:
        self._demand(actor, Right.MANAGE_USERS, org_id)
        user = self.user(user_id)
        if user is None or user.membership(org_id) is None:
            raise ForbiddenError("there is no such person in your organisation")
        return user

    def _keep_a_controller(self, user: User, org_id: str, after: Membership | None) -> None:
        if after is not None and Right.MANAGE_USERS in after.rights:
            return
        others = (other for other in self.members(org_id) if other.id != user.id and not other.disabled)
        if not any(other.allows(Right.MANAGE_USERS, org_id) for other in others):
            raise ForbiddenError("somebody has to remain who sets rights; make another person controller first")

    def _everywhere(self, user: User, action: str) -> None:
        for membership in user.memberships:
            self._record(membership.org_id, user.id, action, {})

    def _record(self, org_id: str, actor: str, action: str, detail: dict[str, Any]) -> None:
        self._audit.record(org_id, actor, action, detail, at=self._clock())


def _accepted(user: User, password_hash: str, invitation: Invitation) -> User:
    changed = replace(user, password_hash=password_hash)
    if invitation.second_factor_off:
        changed = replace(changed, totp_secret=None, totp_last_step=0)
    return changed.with_membership(invitation.membership) if invitation.membership else changed


def _matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step (RFC 6238) that a code belongs to, one step of clock difference allowed; None = wrong."""
    totp = pyotp.TOTP(secret, interval=_TOTP_STEP)
    plain = "".join(code.split())
    step = int(now.timestamp()) // _TOTP_STEP
    return next((s for s in (step, step - 1, step + 1) if same(totp.at(s * _TOTP_STEP), plain)), None)
