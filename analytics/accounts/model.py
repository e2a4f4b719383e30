"""The plain types of accounts, and their way into and out of the sealed store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from analytics.accounts.rights import Membership, Right, Role


@dataclass(frozen=True, slots=True)
class User:
    """A person with a personal login."""

    id: str
    email: str
    name: str
    password_hash: str | None = field(repr=False)
    created_at: datetime
    memberships: tuple[Membership, ...] = ()
    language: str = "nl"
    totp_secret: str | None = field(default=None, repr=False)
    totp_last_step: int = 0
    pin_hash: str | None = field(default=None, repr=False)
    disabled: bool = False
    version: int = field(default=0, compare=False)

    def membership(self, org_id: str) -> Membership | None:
        """What the person may do in an organisation; None = nothing at all."""
        return next((m for m in self.memberships if m.org_id == org_id), None)

    def allows(self, right: Right, org_id: str, building_id: str | None = None) -> bool:
        """Deny by default."""
        membership = self.membership(org_id)
        return not self.disabled and membership is not None and membership.allows(right, building_id)

    def with_membership(self, membership: Membership) -> Self:
        others = tuple(m for m in self.memberships if m.org_id != membership.org_id)
        return replace(self, memberships=(*others, membership))

    def without_membership(self, org_id: str) -> Self:
        return replace(self, memberships=tuple(m for m in self.memberships if m.org_id != org_id))


@dataclass(frozen=True, slots=True)
class Session:
    """One login on one device. ``id`` is the digest of the cookie's secret."""

    id: str
    user_id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    device: str = ""
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that works once. ``membership`` is what accepting it gives; None = a reset of ``user_id``'s password."""

    id: str
    expires_at: datetime
    membership: Membership | None
    email: str = ""
    user_id: str | None = None
    invited_by: str = ""
    code_hash: str | None = field(default=None, repr=False)
    attempts_left: int = 5
    second_factor_off: bool = False
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A key for a machine, with the rights it needs and no others. ``id`` is the digest of the secret."""

    id: str
    org_id: str
    name: str
    rights: frozenset[Right]
    buildings: frozenset[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    version: int = field(default=0, compare=False)

    def allows(self, right: Right, org_id: str, building_id: str | None = None) -> bool:
        """Deny by default."""
        if org_id != self.org_id or right not in self.rights:
            return False
        return building_id is None or not self.buildings or building_id in self.buildings


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat()


def membership_value(membership: Membership | None) -> dict[str, Any] | None:
    if membership is None:
        return None
    return {
        "org": membership.org_id,
        "role": membership.role.value,
        "buildings": sorted(membership.buildings),
        "extra": sorted(membership.extra),
        "without": sorted(membership.without),
    }


def membership_of(value: Mapping[str, Any] | None) -> Membership | None:
    if value is None:
        return None
    return Membership(
        value["org"],
        Role(value["role"]),
        frozenset(value["buildings"]),
        rights_of(value["extra"]),
        rights_of(value["without"]),
    )


def rights_of(names: list[str]) -> frozenset[Right]:
    """Known rights among names: one that this program no longer has gives nothing."""
    known = {right.value: right for right in Right}
    return frozenset(known[name] for name in names if name in known)


def user_value(user: User) -> dict[str, Any]:
    return {
        "email": user.email,
        "name": user.name,
        "password": user.password_hash,
        "created_at": time_text(user.created_at),
        "memberships": [membership_value(membership) for membership in user.memberships],
        "language": user.language,
        "totp": user.totp_secret,
        "totp_step": user.totp_last_step,
        "pin": user.pin_hash,
        "disabled": user.disabled,
    }


def user_of(user_id: str, value: Mapping[str, Any], version: int) -> User:
    memberships = (membership_of(item) for item in value["memberships"])
    return User(
        id=user_id,
        email=value["email"],
        name=value["name"],
        password_hash=value["password"],
        created_at=datetime.fromisoformat(value["created_at"]),
        memberships=tuple(membership for membership in memberships if membership is not None),
        language=value["language"],
        totp_secret=value["totp"],
        totp_last_step=value["totp_step"],
        pin_hash=value["pin"],
        disabled=value["disabled"],
        version=version,
    )
