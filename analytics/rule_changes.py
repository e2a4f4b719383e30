"""Other matching rules than before: the figures of the past year are computed again, and the audit log says so.

Rules are a file that the service reads when it starts (`analytics.site_rules`), so this compares what each building is
judged by now with what the store says it was judged by.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from analytics.accounts.audit import AuditLog
from analytics.assemble import RulesOf
from analytics.domain.model import Building, Organisation
from analytics.domain.plan import MatchRules
from analytics.master import LOOK_BACK_DAYS
from analytics.store.base import Store
from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import SealedKeep

logger = logging.getLogger(__name__)

ACTOR = "service"
_KIND = "match-rules"


class RuleChanges:
    """Looks at each building once: the rules of a process never change while it runs."""

    def __init__(self, store: Store, keep: SealedKeep, rules_of: RulesOf, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._keep = keep
        self._audit = AuditLog(keep)
        self._rules_of = rules_of
        self._clock = clock
        self._seen: set[tuple[str, str]] = set()

    def follow(self) -> int:
        """Have the days of changed buildings computed again. Returns the buildings."""
        changed = 0
        for organisation in self._store.organisations():
            for building in self._store.buildings(organisation.id):
                if (organisation.id, building.id) not in self._seen:
                    changed += self._look(organisation, building)
                    self._seen.add((organisation.id, building.id))
        return changed

    def _look(self, organisation: Organisation, building: Building) -> bool:
        now, kept = _plain(self._rules_of(building)), self._keep.get(_KIND, organisation.id, building.id)
        if kept is not None and kept.value == now:
            return False
        if kept is not None:
            # First the days, then the note of it: a crash in between does it twice, never not at all.
            self._mark(organisation, building)
        try:
            self._keep.put(_KIND, organisation.id, building.id, now, replaces=kept.version if kept else 0)
        except (AlreadyExistsError, StaleWriteError):  # another process saw it too
            return False
        if kept is None:
            return False
        names = sorted(name for name in {*kept.value, *now} if kept.value.get(name) != now.get(name))
        detail = {"building": building.id, **{name: [kept.value.get(name), now.get(name)] for name in names}}
        self._audit.record(organisation.id, ACTOR, "rules.change", detail, at=self._clock())
        logger.info("other rules for building %s (%s): a year is computed again", building.id, ", ".join(names))
        return True

    def _mark(self, organisation: Organisation, building: Building) -> None:
        today = self._clock().astimezone(ZoneInfo(organisation.time_zone)).date()
        days = [today - timedelta(days=back) for back in range(LOOK_BACK_DAYS)]
        rooms = [room.id for room in self._store.rooms(organisation.id, building.id)]
        self._store.mark_stale(organisation.id, ((room, day) for room in rooms for day in days))


def _plain(rules: MatchRules) -> dict[str, Any]:
    """The rules as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(rules)))
    return plain
