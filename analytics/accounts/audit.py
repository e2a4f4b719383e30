"""The audit log: append-only, one chain of hashes per organisation.

Each entry holds the hash of the one before it, so that an entry that was changed, removed or put in between breaks the
chain from there on. What is logged: logins, exports (filter and rows), changes of rights and settings, names revealed,
and everything an operator does in a customer's data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from analytics.store.errors import AlreadyExistsError
from analytics.store.kept import SealedKeep

KIND = "audit"
_DIGITS = 12
_FIRST = "0" * 64
_TRIES = 50


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did."""

    number: int
    at: datetime
    actor: str
    """Id of the person or token; the name is looked up when the log is shown, so that it can be erased."""
    action: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    previous: str = _FIRST
    digest: str = ""


class AuditLog:
    """The logs of all organisations."""

    def __init__(self, keep: SealedKeep) -> None:
        self._keep = keep

    def record(
        self, org_id: str, actor: str, action: str, detail: Mapping[str, Any] | None = None, *, at: datetime
    ) -> AuditEntry:
        """Append an entry, durably. Several writers at once are put in an order; none is lost."""
        for _ in range(_TRIES):
            last = next(iter(self.entries(org_id, limit=1)), None)
            number = last.number + 1 if last else 1
            entry = _sealed(AuditEntry(number, at, actor, action, detail or {}, last.digest if last else _FIRST))
            try:
                self._keep.put(KIND, org_id, f"{number:0{_DIGITS}d}", _value(entry))
            except AlreadyExistsError:
                continue
            return entry
        raise AlreadyExistsError("the audit log is too busy; try again")

    def entries(self, org_id: str, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest first; ``before`` goes on from a number."""
        after = f"{before:0{_DIGITS}d}" if before else ""
        page = self._keep.page(KIND, org_id, after=after, limit=limit, newest_first=True)
        return [_entry(kept.value) for kept in page]

    def verify(self, org_id: str) -> int | None:
        """The number of the first entry that does not fit its predecessor; None when the chain is whole."""
        expected = _FIRST
        for number, entry in enumerate(self._oldest_first(org_id), start=1):
            if entry.number != number or entry.previous != expected or _sealed(entry).digest != entry.digest:
                return number
            expected = entry.digest
        return None

    def _oldest_first(self, org_id: str) -> Iterator[AuditEntry]:
        after = ""
        while page := self._keep.page(KIND, org_id, after=after):
            yield from (_entry(kept.value) for kept in page)
            after = page[-1].id


def _value(entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": entry.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "detail": dict(entry.detail),
        "previous": entry.previous,
        "digest": entry.digest,
    }


def _entry(value: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(
        value["number"],
        datetime.fromisoformat(value["at"]),
        value["actor"],
        value["action"],
        value["detail"],
        value["previous"],
        value["digest"],
    )


def _sealed(entry: AuditEntry) -> AuditEntry:
    content = _value(entry)
    del content["digest"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    hashed = hashlib.sha256(text.encode()).hexdigest()
    return AuditEntry(entry.number, entry.at, entry.actor, entry.action, entry.detail, entry.previous, hashed)
