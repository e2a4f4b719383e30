"""People: first account, invitations, login with an optional second factor, sessions, resets, rights, erasure.

The records are in `people_kept`, what a person changes about themselves in `people_own`.

Everything here is judged again at each call; nothing is kept between calls, so several processes can serve one store.
Messages to the outside never tell whether an address is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import (
    AccountError,
    ForbiddenError,
    LinkError,
    LoginError,
    SecondFactorNeededError,
    TooManyAttemptsError,
)
from analytics.accounts.links import DEAD_LINK, Handout, Links
from analytics.accounts.model import Invitation, Session, User, membership_value
from analytics.accounts.people_kept import KeptPeople
from analytics.accounts.people_own import OwnAccount, matching_step
from analytics.accounts.rights import Membership, Right, Role
from analytics.accounts.secrets import digest, hash_password, verify_password
from analytics.accounts.sessions import Sessions
from analytics.accounts.throttle import Throttle
from analytics.store.kept import SealedKeep

INVITATION_LIFE = timedelta(days=7)
RESET_LIFE = timedelta(hours=1)


class People:
    """Everything about personal logins.

    Args:
        keep: the sealed store.
        audit: where logins and changes of rights are written.
        master: the service's master key; the index of mail addresses is keyed with it.
        clock: UTC now; tests inject one.

    Attributes:
        own: what people change about themselves.
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
        self._clock = clock
        self._kept = KeptPeople(keep, audit, master, clock)
        self._links = Links(keep, clock)
        self._sessions = Sessions(keep, clock)
        self._by_account = by_account or Throttle(5, 10)
        self._by_address = by_address or Throttle(30, 60)
        self.own = OwnAccount(self._kept, audit, self._sessions, self._by_account, clock)

    # --- finding ------------------------------------------------------------------------------------------------------

    def user(self, user_id: str) -> User | None:
        """A person by id."""
        return self._kept.user(user_id)

    def by_email(self, email: str) -> User | None:
        """A person by mail address, whatever its case."""
        return self._kept.by_email(email)

    def members(self, org_id: str) -> list[User]:
        """Everybody who may do anything in an organisation, by name."""
        return self._kept.members(org_id)

    def nobody_yet(self) -> bool:
        """Whether the installation still waits for its first account."""
        return self._kept.nobody_yet()

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
        self._kept.record(membership.org_id, actor.id, "user.invite", detail)
        return handout

    def reset_link(self, actor: User, user_id: str, org_id: str, *, with_code: bool = False) -> Handout:
        """A link with which a person of the actor's organisation sets a new password."""
        user = self._member(actor, user_id, org_id)
        self._kept.record(org_id, actor.id, "user.reset-link", {"user": user.id})
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
            self._kept.record(membership.org_id, by, "user.reset-link", detail)
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
            self._kept.record(org_id, actor.id, "user.withdraw-invitation", {})

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
            account = self._kept.address_key(address)
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
            user = self._kept.create(
                address, name.strip() or address.partition("@")[0], password_hash, invitation.membership
            )
        else:
            user = self._kept.change(known.id, lambda user: _accepted(user, password_hash, invitation))
            if invitation.membership is None:
                self.end_sessions(user.id)
        for org_id in {m.org_id for m in user.memberships}:
            self._kept.record(org_id, user.id, "user.accept" if invitation.membership else "user.reset-password", {})
            if invitation.second_factor_off:
                self._kept.record(org_id, user.id, "user.totp-off", {})
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
        account = self._kept.address_key(email)
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
            step = matching_step(user.totp_secret, totp, self._clock())
            if step is None or step <= user.totp_last_step:  # a code works once
                self._failed(account, address, user)
                raise LoginError("the code is not right or was used already")
            user = self._kept.change(user.id, lambda u: replace(u, totp_last_step=step))
        if rehashed:
            user = self._kept.change(user.id, lambda u: replace(u, password_hash=rehashed))
        self._by_account.succeeded(account)
        secret = self._sessions.begin(user.id, device)
        for membership in user.memberships:
            self._kept.record(membership.org_id, user.id, "login", {})
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
        changed = self._kept.change(user_id, lambda u: u.with_membership(membership))
        detail = {"user": user_id, "from": membership_value(before), "to": membership_value(membership)}
        self._kept.record(membership.org_id, actor.id, "user.rights", detail)
        if user_id != actor.id:
            self.end_sessions(user_id)
        return changed

    def remove_member(self, actor: User, user_id: str, org_id: str) -> None:
        """Take a person out of an organisation; an account without any organisation is erased."""
        user = self._member(actor, user_id, org_id)
        self._keep_a_controller(user, org_id, None)
        changed = self._kept.change(user_id, lambda u: u.without_membership(org_id))
        self.end_sessions(user_id)
        self._kept.record(org_id, actor.id, "user.remove", {"user": user_id})
        if not changed.memberships:
            self.erase(user_id)

    def erase(self, user_id: str) -> bool:
        """Forget a person. The audit log keeps the id, which then stands for nobody."""
        user = self.user(user_id)
        if user is None:
            return False
        self.end_sessions(user_id)
        return self._kept.forget(user)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _failed(self, account: str, address: str, user: User | None) -> None:
        self._by_account.failed(account)
        self._by_address.failed(address)
        for membership in user.memberships if user else ():
            self._kept.record(membership.org_id, user.id if user else "", "login.failed", {})

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


def _accepted(user: User, password_hash: str, invitation: Invitation) -> User:
    changed = replace(user, password_hash=password_hash)
    if invitation.second_factor_off:
        changed = replace(changed, totp_secret=None, totp_last_step=0)
    return changed.with_membership(invitation.membership) if invitation.membership else changed
