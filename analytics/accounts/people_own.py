"""What people change about themselves: password, second factor, PIN, language; and what is kept about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyotp

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import AccountError, CodeError, LoginError, TooManyAttemptsError
from analytics.accounts.model import User, membership_value, time_text
from analytics.accounts.people_kept import KeptPeople
from analytics.accounts.secrets import code_digest, hash_password, same, verify_password
from analytics.accounts.sessions import Sessions
from analytics.accounts.throttle import Throttle

_TOTP_STEP = 30


class OwnAccount:
    """Whoever calls has made sure that ``user`` is the person who asks.

    Args:
        by_account: counts wrong PINs, as it does wrong passwords.
    """

    def __init__(
        self,
        kept: KeptPeople,
        audit: AuditLog,
        sessions: Sessions,
        by_account: Throttle,
        clock: Callable[[], datetime],
    ) -> None:
        self._kept = kept
        self._audit = audit
        self._sessions = sessions
        self._by_account = by_account
        self._clock = clock

    def change_password(self, user: User, present: str, new: str) -> User:
        """Raises LoginError (the present one is wrong) or WeakPasswordError."""
        if not verify_password(user.password_hash, present)[0]:
            raise LoginError("the present password is not right")
        hashed = hash_password(new, about=user.email)
        changed = self._kept.change(user.id, lambda u: replace(u, password_hash=hashed))
        self._kept.record_everywhere(changed, "user.change-password")
        return changed

    def new_totp(self) -> str:
        """A secret to show once as a picture and a text; it counts when `enable_totp` saw a right code."""
        return str(pyotp.random_base32())

    def enable_totp(self, user: User, secret: str, code: str) -> User:
        """Switch the second factor on. Raises CodeError."""
        step = matching_step(secret, code, self._clock())
        if step is None:
            raise CodeError("the code is not right; is the clock of your phone right?")
        changed = self._kept.change(user.id, lambda u: replace(u, totp_secret=secret, totp_last_step=step))
        self._kept.record_everywhere(changed, "user.totp-on")
        return changed

    def disable_totp(self, user: User, password: str) -> User:
        """Switch it off again, with the password. Raises LoginError."""
        if not verify_password(user.password_hash, password)[0]:
            raise LoginError("the password is not right")
        changed = self._kept.change(user.id, lambda u: replace(u, totp_secret=None, totp_last_step=0))
        self._kept.record_everywhere(changed, "user.totp-off")
        return changed

    def set_pin(self, user: User, password: str, pin: str) -> User:
        """The personal PIN that a share can demand. Raises LoginError or CodeError."""
        if not verify_password(user.password_hash, password)[0]:
            raise LoginError("the password is not right")
        if not (pin.isdigit() and 4 <= len(pin) <= 12) or len(set(pin)) < 3:
            raise CodeError("a PIN has 4 to 12 digits, at least three of them different")
        hashed = code_digest(pin, user.id)
        return self._kept.change(user.id, lambda u: replace(u, pin_hash=hashed))

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
        return self._kept.change(user.id, lambda u: replace(u, language=language if language in ("nl", "en") else "nl"))

    def personal_data(self, user_id: str) -> dict[str, Any]:
        """All that is kept about a person, for their own export (GDPR article 15). Raises AccountError."""
        user = self._kept.user(user_id)
        if user is None:
            raise AccountError("there is no such account")
        sessions = [{"since": time_text(s.created_at), "device": s.device} for s in self._sessions.of(user_id)]
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


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step (RFC 6238) that a code belongs to, one step of clock difference allowed; None = wrong."""
    totp = pyotp.TOTP(secret, interval=_TOTP_STEP)
    plain = "".join(code.split())
    step = int(now.timestamp()) // _TOTP_STEP
    return next((s for s in (step, step - 1, step + 1) if same(totp.at(s * _TOTP_STEP), plain)), None)
