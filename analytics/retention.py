"""How long each class of data is kept, and the job that removes what is older, on every store the same.

Nothing is left to a server's own expiry: what must go goes because this job removed it, and it says how much.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

from analytics.store.base import Store

log = logging.getLogger(__name__)

LEASE = "retention"
_LEASE_TIME = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Days to keep each class of data; None: for ever.

    Names go first: a booker's name is forgotten ``booker_name_days`` after the booking ended. Let that be longer than
    the look back of the timetable's pull, or the next pull brings the name again. Roll-ups hold sums a room and hour
    and outlive the counts they came from; they go by whole months.
    """

    count_days: int | None = 730
    conflict_days: int | None = 90
    rollup_days: int | None = 3650
    booking_days: int | None = 1825
    booking_history_days: int | None = 400
    booker_name_days: int | None = 30
    enrolment_days: int | None = 30

    def __post_init__(self) -> None:
        for name, days in asdict(self).items():
            if days is not None and days < 1:
                raise ValueError(f"{name} is {days}: keep it at least one day, or None for ever")


@dataclass(frozen=True, slots=True)
class Removed:
    """What one run removed from one organisation: buckets, documents or rows of each class."""

    counts: int = 0
    conflicts: int = 0
    rollups: int = 0
    bookings: int = 0
    booking_history: int = 0
    booker_names: int = 0
    enrolments: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def remove_expired(store: Store, org_id: str, policy: RetentionPolicy, now: datetime) -> Removed:
    """Remove what is older than the policy allows. Doing it twice does no harm; StoreError ends it midway."""

    def moment(days: int) -> datetime:
        return now - timedelta(days=days)

    def day(days: int) -> date:
        return moment(days).astimezone(UTC).date()

    def by_moment(expire: Callable[[str, datetime], int], days: int | None) -> int:
        return 0 if days is None else expire(org_id, moment(days))

    def by_day(expire: Callable[[str, date], int], days: int | None) -> int:
        return 0 if days is None else expire(org_id, day(days))

    removed = Removed(  # names first: were the job to die midway, they are gone
        booker_names=by_moment(store.forget_names, policy.booker_name_days),
        enrolments=by_moment(store.expire_enrolments, policy.enrolment_days),
        bookings=by_moment(store.expire_bookings, policy.booking_days),
        booking_history=by_moment(store.expire_revisions, policy.booking_history_days),
        conflicts=by_moment(store.expire_conflicts, policy.conflict_days),
        counts=by_day(store.expire_counts, policy.count_days),
        rollups=by_day(store.expire_rollups, policy.rollup_days),
    )
    if removed.total:
        log.info("retention removed %s from organisation %s", removed, org_id)
    return removed


class RetentionJob:
    """The scheduled form: under a lease, so that of several processes one does it.

    Args:
        policy_of: the policy of an organisation, by id.
        holder: names this process among those that share the store.
        clock: now, UTC.
    """

    def __init__(
        self,
        store: Store,
        policy_of: Callable[[str], RetentionPolicy],
        holder: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._policy_of = policy_of
        self._holder = holder
        self._clock = clock

    def run(self) -> dict[str, Removed] | None:
        """What went, by organisation; None when another process is at it. Raises StaleWriteError on a lost lease."""
        lease = self._store.acquire_lease(LEASE, self._holder, _LEASE_TIME, self._clock())
        if lease is None:
            return None
        try:
            result: dict[str, Removed] = {}
            for organisation in self._store.organisations():
                lease = self._store.renew_lease(lease, _LEASE_TIME, self._clock())
                result[organisation.id] = remove_expired(
                    self._store, organisation.id, self._policy_of(organisation.id), self._clock()
                )
            return result
        finally:
            self._store.release_lease(lease)
