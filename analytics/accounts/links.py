"""Links that work once: invitations and new passwords, with a verification code where wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from analytics.accounts.errors import CodeError, LinkError
from analytics.accounts.model import Invitation, membership_of, membership_value, time_text
from analytics.accounts.rights import Membership
from analytics.accounts.secrets import code_digest, digest, new_code, new_secret, same
from analytics.store.errors import StaleWriteError
from analytics.store.kept import INSTALLATION, Kept, SealedKeep

KIND = "invitation"
CODE_TRIES = 5
DEAD_LINK = "this link was used already, was withdrawn, or has expired; ask for a new one"


@dataclass(frozen=True, slots=True)
class Handout:
    """What is handed out once: the link's secret and, where wanted, the code that travels by another way."""

    secret: str = field(repr=False)
    code: str | None = field(repr=False)
    expires_at: datetime


class Links:
    """Makes links, looks at them and uses them up."""

    def __init__(self, keep: SealedKeep, clock: Callable[[], datetime]) -> None:
        self._keep = keep
        self._clock = clock

    def hand_out(
        self,
        membership: Membership | None,
        life: timedelta,
        *,
        email: str = "",
        user_id: str | None = None,
        invited_by: str = "",
        with_code: bool = False,
        second_factor_off: bool = False,
    ) -> Handout:
        """A new link. ``membership`` is what accepting it gives; None = a new password for ``user_id``.

        ``second_factor_off``: with the new password the second factor goes, too.
        """
        secret, code = new_secret(), new_code() if with_code else None
        expires_at = self._clock() + life
        value = {
            "membership": membership_value(membership),
            "email": email.strip(),
            "user": user_id,
            "by": invited_by,
            "code": code_digest(code, secret) if code else None,
            "attempts": CODE_TRIES,
            "second_factor_off": second_factor_off,
            "expires_at": time_text(expires_at),
        }
        self._keep.put(KIND, INSTALLATION, digest(secret), value, expires_at=expires_at)
        return Handout(secret, code, expires_at)

    def open(self) -> list[Invitation]:
        """All that still work."""
        now = self._clock()
        found = (_invitation(kept) for kept in self._keep.every(KIND, INSTALLATION))
        return [invitation for invitation in found if invitation.expires_at > now]

    def look(self, secret: str) -> Invitation:
        """What a link is for, without using it. Raises LinkError."""
        kept = self._keep.get(KIND, INSTALLATION, digest(secret))
        invitation = None if kept is None else _invitation(kept)
        if invitation is None or invitation.expires_at <= self._clock():
            raise LinkError(DEAD_LINK)
        return invitation

    def check_code(self, invitation: Invitation, secret: str, code: str) -> None:
        """Take one of the tries and compare; nothing happens where no code is asked for.

        Raises:
            CodeError: not right.
            LinkError: the tries are used up.
        """
        if invitation.code_hash is None:
            return
        kept = self._keep.get(KIND, INSTALLATION, invitation.id)
        if kept is None:
            raise LinkError(DEAD_LINK)
        left = kept.value["attempts"] - 1
        if left < 0:
            self.use_up(invitation)
            raise LinkError(DEAD_LINK)
        # The try is taken before the code is looked at: a crash in between never gives one back.
        try:
            self._keep.put(
                KIND,
                INSTALLATION,
                kept.id,
                {**kept.value, "attempts": left},
                replaces=kept.version,
                expires_at=invitation.expires_at,
            )
        except StaleWriteError:
            raise CodeError("somebody else is using this link at this moment") from None
        if not same(invitation.code_hash, code_digest(code, secret)):
            raise CodeError(f"the verification code is not right; {left} tries are left")

    def use_up(self, invitation: Invitation) -> bool:
        """True for the one caller that used it."""
        return self._keep.remove(KIND, INSTALLATION, invitation.id)

    def withdraw(self, invitation_id: str) -> bool:
        """Make it stop working."""
        return self._keep.remove(KIND, INSTALLATION, invitation_id)


def _invitation(kept: Kept) -> Invitation:
    value = kept.value
    return Invitation(
        id=kept.id,
        expires_at=datetime.fromisoformat(value["expires_at"]),
        membership=membership_of(value["membership"]),
        email=value["email"],
        user_id=value["user"],
        invited_by=value["by"],
        code_hash=value["code"],
        attempts_left=value["attempts"],
        second_factor_off=value.get("second_factor_off", False),
        version=kept.version,
    )
