"""A customer lets another organisation see the figures of some of its buildings.

A share is a grant that is activated once by a member of the other organisation, may demand that member's personal PIN
at each look, expires, and can be withdrawn. The customer's audit log says which organisation looked; the other
organisation's own log says which of its people did.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import CodeError, ForbiddenError, LinkError
from analytics.accounts.links import Handout
from analytics.accounts.model import User, time_text
from analytics.accounts.people import People
from analytics.accounts.rights import Right
from analytics.accounts.secrets import digest, new_secret
from analytics.store.errors import StaleWriteError
from analytics.store.kept import INSTALLATION, Kept, SealedKeep

ACTIVATION_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Share:
    """One share. ``to_org`` is None until somebody activated it."""

    id: str
    from_org: str
    buildings: frozenset[str]
    label: str
    demands_pin: bool
    created_at: datetime
    expires_at: datetime
    to_org: str | None = None
    withdrawn: bool = False
    version: int = field(default=0, compare=False)

    def holds(self, now: datetime) -> bool:
        """Whether it gives anything now."""
        return self.to_org is not None and not self.withdrawn and now < self.expires_at


class Shares:
    """The shares of all organisations."""

    def __init__(
        self,
        keep: SealedKeep,
        audit: AuditLog,
        people: People,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keep = keep
        self._audit = audit
        self._people = people
        self._clock = clock

    def offer(
        self, actor: User, org_id: str, buildings: Collection[str], label: str, *, days: int, demands_pin: bool = False
    ) -> Handout:
        """A secret to hand to the other organisation. Raises ForbiddenError."""
        self._demand(actor, org_id)
        if not buildings:
            raise ForbiddenError("name at least one building to share")
        secret, now = new_secret(), self._clock()
        share = Share(
            uuid.uuid4().hex, org_id, frozenset(buildings), label[:120], demands_pin, now, now + timedelta(days=days)
        )
        self._keep.put("share", INSTALLATION, share.id, _value(share), expires_at=share.expires_at)
        ends = now + ACTIVATION_LIFE
        self._keep.put("share-link", INSTALLATION, digest(secret), {"share": share.id}, expires_at=ends)
        detail = {"share": share.id, "buildings": sorted(buildings), "days": days, "pin": demands_pin}
        self._audit.record(org_id, actor.id, "share.offer", detail, at=now)
        return Handout(secret, None, ends)

    def activate(self, actor: User, org_id: str, secret: str) -> Share:
        """Take a share for the actor's organisation; works once. Raises ForbiddenError or LinkError."""
        self._demand(actor, org_id)
        gone = LinkError("this share was activated already, was withdrawn, or has expired; ask for a new one")
        kept = self._keep.get("share-link", INSTALLATION, digest(secret))
        now = self._clock()
        if kept is None or (kept.expires_at is not None and kept.expires_at <= now):
            raise gone
        share = self._get(kept.value["share"])
        if share is None or share.withdrawn or share.expires_at <= now:
            raise gone
        if share.from_org == org_id:
            raise ForbiddenError("this share is for another organisation")
        if not self._keep.remove("share-link", INSTALLATION, kept.id):
            raise gone
        changed = self._change(share.id, to_org=org_id)
        self._audit.record(org_id, actor.id, "share.activate", {"share": share.id}, at=now)
        self._audit.record(share.from_org, f"organisation {org_id}", "share.activate", {"share": share.id}, at=now)
        return changed

    def withdraw(self, actor: User, org_id: str, share_id: str) -> None:
        """End a share at once. Raises ForbiddenError."""
        self._demand(actor, org_id)
        share = self._get(share_id)
        if share is None or share.from_org != org_id:
            raise ForbiddenError("there is no such share in your organisation")
        self._change(share_id, withdrawn=True)
        self._audit.record(org_id, actor.id, "share.withdraw", {"share": share_id}, at=self._clock())

    def look(self, actor: User, org_id: str, share_id: str, *, pin: str = "") -> Share:
        """Open a share for reading: judged and written down at each look, in both logs.

        Raises:
            ForbiddenError: it does not hold, or not for this organisation.
            CodeError: the personal PIN is demanded and is not right.
        """
        share = self._get(share_id)
        if share is None or share.to_org != org_id or not share.holds(self._clock()):
            raise ForbiddenError("this share has ended")
        if not actor.allows(Right.SEE_FIGURES, org_id):
            raise ForbiddenError("you have no right to see figures")
        if share.demands_pin and not self._people.own.check_pin(actor, pin):
            raise CodeError("this share demands your personal PIN")
        now = self._clock()
        self._audit.record(share.from_org, f"organisation {org_id}", "share.look", {"share": share.id}, at=now)
        self._audit.record(org_id, actor.id, "share.look", {"share": share.id}, at=now)
        return share

    def offered(self, org_id: str) -> list[Share]:
        """What an organisation gave."""
        return [share for share in self._every() if share.from_org == org_id]

    def received(self, org_id: str) -> list[Share]:
        """What an organisation was given and still holds."""
        return [share for share in self._every() if share.to_org == org_id and share.holds(self._clock())]

    def _every(self) -> list[Share]:
        return [_share(kept) for kept in self._keep.every("share", INSTALLATION)]

    def _get(self, share_id: str) -> Share | None:
        kept = self._keep.get("share", INSTALLATION, share_id)
        return None if kept is None else _share(kept)

    def _change(self, share_id: str, **changes: Any) -> Share:
        while True:
            kept = self._keep.get("share", INSTALLATION, share_id)
            if kept is None:
                raise LinkError("this share has ended")
            value = {**kept.value, **changes}
            try:
                return _share(
                    self._keep.put(
                        "share", INSTALLATION, share_id, value, replaces=kept.version, expires_at=kept.expires_at
                    )
                )
            except StaleWriteError:
                continue

    def _demand(self, actor: User, org_id: str) -> None:
        if not actor.allows(Right.MANAGE_SHARES, org_id):
            raise ForbiddenError("you have no right to do this; ask your controller")


def _value(share: Share) -> dict[str, Any]:
    return {
        "from_org": share.from_org,
        "buildings": sorted(share.buildings),
        "label": share.label,
        "demands_pin": share.demands_pin,
        "created_at": time_text(share.created_at),
        "expires_at": time_text(share.expires_at),
        "to_org": share.to_org,
        "withdrawn": share.withdrawn,
    }


def _share(kept: Kept) -> Share:
    value = kept.value
    return Share(
        kept.id,
        value["from_org"],
        frozenset(value["buildings"]),
        value["label"],
        value["demands_pin"],
        datetime.fromisoformat(value["created_at"]),
        datetime.fromisoformat(value["expires_at"]),
        value["to_org"],
        value["withdrawn"],
        kept.version,
    )
