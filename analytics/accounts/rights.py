"""Rights and the roles that bundle them. Deny by default: what is not listed is not allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Right(StrEnum):
    """One thing that a person may do in one organisation."""

    SEE_FIGURES = "see-figures"
    """Occupancy and utilisation per room and per unit of time."""
    SEE_EVENTS = "see-events"
    """Names of events and what became of each booking."""
    SEE_SMALL_COUNTS = "see-small-counts"
    """Attendance under five people of a named event."""
    SEE_BOOKERS = "see-bookers"
    """Names of the people who booked. In no role: given to a person, by itself."""
    EXPORT = "export"
    SEE_SENSORS = "see-sensors"
    MANAGE_ROOMS = "manage-rooms"
    MANAGE_SENSORS = "manage-sensors"
    MANAGE_SOURCES = "manage-sources"
    MANAGE_RETENTION = "manage-retention"
    MANAGE_USERS = "manage-users"
    MANAGE_SHARES = "manage-shares"
    SEE_AUDIT = "see-audit"


class Role(StrEnum):
    """A named set of rights."""

    VIEWER = "viewer"
    FACILITY_MANAGER = "facility-manager"
    TIMETABLER = "timetabler"
    CONTROLLER = "controller"
    """The customer's administrator: sets everybody's rights."""
    OPERATOR = "operator"
    """The provider's staff; all they do in a customer's data is in that customer's audit log."""


_VIEWER = frozenset({Right.SEE_FIGURES})
_FACILITY = _VIEWER | {Right.EXPORT, Right.SEE_SENSORS, Right.MANAGE_ROOMS}
_TIMETABLER = _VIEWER | {Right.EXPORT, Right.SEE_EVENTS, Right.SEE_SMALL_COUNTS}
ROLES: dict[Role, frozenset[Right]] = {
    Role.VIEWER: _VIEWER,
    Role.FACILITY_MANAGER: _FACILITY,
    Role.TIMETABLER: _TIMETABLER,
    Role.CONTROLLER: frozenset(Right) - {Right.SEE_BOOKERS},
    Role.OPERATOR: frozenset({Right.SEE_SENSORS, Right.MANAGE_SENSORS, Right.MANAGE_ROOMS, Right.MANAGE_SOURCES}),
}


@dataclass(frozen=True, slots=True)
class Membership:
    """What one person may do in one organisation.

    Attributes:
        buildings: ids; empty = every building of the organisation.
        extra, without: rights on top of the role's, and taken from it.
    """

    org_id: str
    role: Role
    buildings: frozenset[str] = frozenset()
    extra: frozenset[Right] = frozenset()
    without: frozenset[Right] = frozenset()

    @property
    def rights(self) -> frozenset[Right]:
        return (ROLES[self.role] | self.extra) - self.without

    def allows(self, right: Right, building_id: str | None = None) -> bool:
        """Whether ``right`` holds, in one building where one is named.

        A right over the whole organisation (no building named) needs a membership of the whole organisation, save
        for seeing: what is seen is narrowed to the buildings instead.
        """
        if right not in self.rights:
            return False
        if building_id is not None:
            return not self.buildings or building_id in self.buildings
        return not self.buildings or right not in WHOLE_ORGANISATION

    def visible(self, buildings: Iterable[str]) -> list[str]:
        """Those of an organisation's buildings that this person may see."""
        return [building for building in buildings if not self.buildings or building in self.buildings]


WHOLE_ORGANISATION: Collection[Right] = frozenset(
    {Right.MANAGE_USERS, Right.MANAGE_SOURCES, Right.MANAGE_RETENTION, Right.MANAGE_SHARES, Right.SEE_AUDIT}
)
"""Rights that cannot be held for a single building: they reach over all of them."""
