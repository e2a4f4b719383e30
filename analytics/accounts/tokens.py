"""Keys for machines: BI tools and building systems. Shown once, kept as a digest, with the rights they need."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import ForbiddenError
from analytics.accounts.model import Token, User, rights_of, time_text
from analytics.accounts.rights import Right
from analytics.accounts.secrets import digest, new_secret
from analytics.store.kept import INSTALLATION, Kept, SealedKeep

PREFIX = "hdr_"
"""Makes a token recognisable to scanners that look for leaked ones."""
MACHINE_RIGHTS = frozenset({Right.SEE_FIGURES, Right.SEE_EVENTS, Right.SEE_SENSORS, Right.EXPORT})
"""What a machine can be given: reading, and nothing about people."""


class Tokens:
    """The tokens of all organisations."""

    def __init__(
        self, keep: SealedKeep, audit: AuditLog, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._keep = keep
        self._audit = audit
        self._clock = clock

    def create(
        self,
        actor: User,
        org_id: str,
        name: str,
        rights: Collection[Right],
        *,
        buildings: Collection[str] = (),
        days: int | None = 365,
    ) -> str:
        """A new token's secret, which is shown once.

        Raises:
            ForbiddenError: the actor may not, does not hold a right themselves, or it is none for machines.
        """
        if not actor.allows(Right.MANAGE_USERS, org_id):
            raise ForbiddenError("you have no right to do this; ask your controller")
        for right in rights:
            if right not in MACHINE_RIGHTS or not actor.allows(right, org_id):
                raise ForbiddenError(f"a token cannot be given the right {right.value!r}")
        secret, now = PREFIX + new_secret(), self._clock()
        expires_at = now + timedelta(days=days) if days else None
        value = {
            "org": org_id,
            "name": name[:80],
            "rights": sorted(right.value for right in rights),
            "buildings": sorted(buildings),
            "by": actor.id,
            "created_at": time_text(now),
            "expires_at": time_text(expires_at) if expires_at else None,
        }
        self._keep.put("token", INSTALLATION, digest(secret), value, expires_at=expires_at)
        detail: dict[str, Any] = {"rights": value["rights"], "buildings": value["buildings"]}
        self._audit.record(org_id, actor.id, "token.create", detail, at=now)
        return secret

    def authenticate(self, secret: str) -> Token | None:
        """The token behind a secret; None when unknown, withdrawn or expired."""
        kept = self._keep.get("token", INSTALLATION, digest(secret)) if secret.startswith(PREFIX) else None
        token = None if kept is None else _token(kept)
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock()):
            return None
        return token

    def of(self, org_id: str) -> list[Token]:
        """The tokens of an organisation, by name."""
        found = (_token(kept) for kept in self._keep.every("token", INSTALLATION))
        return sorted((token for token in found if token.org_id == org_id), key=lambda token: token.name.casefold())

    def withdraw(self, actor: User, org_id: str, token_id: str) -> None:
        """Make a token stop working at once. Raises ForbiddenError."""
        if not actor.allows(Right.MANAGE_USERS, org_id):
            raise ForbiddenError("you have no right to do this; ask your controller")
        if any(token.id == token_id for token in self.of(org_id)) and self._keep.remove(
            "token", INSTALLATION, token_id
        ):
            self._audit.record(org_id, actor.id, "token.withdraw", {}, at=self._clock())


def _token(kept: Kept) -> Token:
    value = kept.value
    return Token(
        id=kept.id,
        org_id=value["org"],
        name=value["name"],
        rights=rights_of(value["rights"]),
        buildings=frozenset(value["buildings"]),
        created_by=value["by"],
        created_at=datetime.fromisoformat(value["created_at"]),
        expires_at=datetime.fromisoformat(value["expires_at"]) if value["expires_at"] else None,
        version=kept.version,
    )
