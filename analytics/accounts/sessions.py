"""Sessions live in the store, not in the cookie: they can be ended everywhere. Kept is the digest of the secret."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from analytics.accounts.model import Session, time_text
from analytics.accounts.secrets import digest, new_secret
from analytics.store.errors import StaleWriteError
from analytics.store.kept import INSTALLATION, Kept, SealedKeep

KIND = "session"
IDLE = timedelta(hours=2)
LONGEST = timedelta(hours=12)
_SEEN_EVERY = timedelta(minutes=1)


class Sessions:
    """The sessions of everybody."""

    def __init__(self, keep: SealedKeep, clock: Callable[[], datetime]) -> None:
        self._keep = keep
        self._clock = clock

    def begin(self, user_id: str, device: str) -> str:
        """A new session's secret, for the cookie."""
        secret, now = new_secret(), self._clock()
        session = Session(digest(secret), user_id, now, now, now + LONGEST, device[:80])
        self._keep.put(KIND, INSTALLATION, session.id, _value(session), expires_at=session.expires_at)
        return secret

    def find(self, secret: str) -> Session | None:
        """The session behind a secret, noted as seen now; None when it ended by age, idling or logout."""
        kept = self._keep.get(KIND, INSTALLATION, digest(secret)) if secret else None
        if kept is None:
            return None
        session, now = _session(kept), self._clock()
        if now >= session.expires_at or now >= session.seen_at + IDLE:
            self.end(session.id)
            return None
        if now - session.seen_at <= _SEEN_EVERY:  # exact enough, and it spares the store
            return session
        seen = replace(session, seen_at=now)
        with suppress(StaleWriteError):  # another request of the same session was faster
            self._keep.put(KIND, INSTALLATION, seen.id, _value(seen), replaces=seen.version, expires_at=seen.expires_at)
        return seen

    def of(self, user_id: str) -> list[Session]:
        """Where a person is logged in."""
        now = self._clock()
        found = (_session(kept) for kept in self._keep.every(KIND, INSTALLATION))
        return [session for session in found if session.user_id == user_id and session.expires_at > now]

    def end(self, session_id: str) -> bool:
        """True when there was such a session."""
        return self._keep.remove(KIND, INSTALLATION, session_id)


def _session(kept: Kept) -> Session:
    value = kept.value
    return Session(
        kept.id,
        value["user"],
        datetime.fromisoformat(value["created_at"]),
        datetime.fromisoformat(value["seen_at"]),
        datetime.fromisoformat(value["expires_at"]),
        value["device"],
        kept.version,
    )


def _value(session: Session) -> dict[str, Any]:
    return {
        "user": session.user_id,
        "created_at": time_text(session.created_at),
        "seen_at": time_text(session.seen_at),
        "expires_at": time_text(session.expires_at),
        "device": session.device,
    }
