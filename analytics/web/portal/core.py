"""What the portal's pages share: accounts, store and settings, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from analytics.accounts.audit import AuditLog
from analytics.accounts.people import People
from analytics.accounts.shares import Shares
from analytics.accounts.tokens import Tokens
from analytics.assemble import RulesOf, default_rules
from analytics.store.base import Store
from analytics.store.kept import KeptStore, SealedKeep

HERE = Path(__file__).parent


class PortalStore(Store, KeptStore, Protocol):
    """The analytics' store with its sealed values: both implementations are this."""


@dataclass(frozen=True)
class Portal:
    """Everything a page may lean on.

    Attributes:
        https: people reach the portal through TLS, so cookies are marked Secure.
        clock: UTC now; tests inject one.
        rules_of: matching rules by building; the same ones that the roll-ups are made with.
    """

    store: PortalStore
    keep: SealedKeep
    audit: AuditLog
    people: People
    tokens: Tokens
    shares: Shares
    https: bool
    clock: Callable[[], datetime]
    rules_of: RulesOf = default_rules

    @classmethod
    def build(
        cls,
        store: PortalStore,
        master: bytes,
        *,
        https: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rules_of: RulesOf = default_rules,
    ) -> Portal:
        """Put it together on a store; ``master`` is the store's master key."""
        keep = SealedKeep(store, master)
        audit = AuditLog(keep)
        people = People(keep, audit, master, clock=clock)
        tokens, shares = Tokens(keep, audit, clock), Shares(keep, audit, people, clock)
        return cls(store, keep, audit, people, tokens, shares, https, clock, rules_of)
