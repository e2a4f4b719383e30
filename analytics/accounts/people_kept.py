"""People as they are kept: sealed records, an index of mail addresses that tells nobody an address, one way to change.

Nothing here asks whether somebody may: that is `analytics.accounts.people`.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import AccountError
from analytics.accounts.model import User, user_of, user_value
from analytics.accounts.rights import Membership
from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import INSTALLATION, SealedKeep
from analytics.store.sealing import derive_key


class KeptPeople:
    """The records of everybody who has an account.

    Args:
        master: the service's master key; the index of mail addresses is keyed with it.
        clock: UTC now.
    """

    def __init__(self, keep: SealedKeep, audit: AuditLog, master: bytes, clock: Callable[[], datetime]) -> None:
        self._keep = keep
        self._audit = audit
        self._index_key = derive_key(master, "mail address index v1")
        self._clock = clock

    def user(self, user_id: str) -> User | None:
        """A person by id."""
        kept = self._keep.get("user", INSTALLATION, user_id)
        return None if kept is None else user_of(kept.id, kept.value, kept.version)

    def by_email(self, email: str) -> User | None:
        """A person by mail address, whatever its case."""
        kept = self._keep.get("mail", INSTALLATION, self.address_key(email))
        return None if kept is None else self.user(kept.value["user"])

    def members(self, org_id: str) -> list[User]:
        """Everybody who may do anything in an organisation, by name."""
        everybody = (user_of(kept.id, kept.value, kept.version) for kept in self._keep.every("user", INSTALLATION))
        return sorted((user for user in everybody if user.membership(org_id)), key=lambda user: user.name.casefold())

    def nobody_yet(self) -> bool:
        """Whether the installation still waits for its first account."""
        return not self._keep.page("user", INSTALLATION, limit=1)

    def address_key(self, email: str) -> str:
        """What stands for a mail address, whatever its case, where it must not be read."""
        return hmac.new(self._index_key, email.strip().casefold().encode(), "sha256").hexdigest()

    def create(self, email: str, name: str, password_hash: str, membership: Membership | None) -> User:
        """Keep a new person. Raises AccountError when the address has an account."""
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
            self._keep.put("mail", INSTALLATION, self.address_key(email), {"user": user.id})
        except AlreadyExistsError:
            raise AccountError("there is an account with this mail address; log in") from None
        self._keep.put("user", INSTALLATION, user.id, user_value(user))
        return user

    def change(self, user_id: str, change: Callable[[User], User]) -> User:
        """Change a person as they are now, however many change them at once. Raises AccountError."""
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

    def forget(self, user: User) -> bool:
        """Remove a person and their address; whether there was somebody."""
        self._keep.remove("mail", INSTALLATION, self.address_key(user.email))
        return self._keep.remove("user", INSTALLATION, user.id)

    def record(self, org_id: str, actor: str, action: str, detail: dict[str, Any]) -> None:
        """Write to an organisation's audit log."""
        self._audit.record(org_id, actor, action, detail, at=self._clock())

    def record_everywhere(self, user: User, action: str) -> None:
        """Write what a person did to the log of each of their organisations."""
        for membership in user.memberships:
            self.record(membership.org_id, user.id, action, {})
