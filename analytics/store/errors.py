"""What can go wrong in a store. No message holds a key, a password or a name of a booker."""

from __future__ import annotations


class StoreError(Exception):
    """Anything a store refuses or cannot do."""


class StoreUnavailableError(StoreError):
    """The store cannot answer, or not durably, right now. Nothing may be acknowledged; trying again is right."""


class StoreConfigurationError(StoreError):
    """The store is set up wrong: another key, no TLS, a newer schema, a bad address. Trying again changes nothing."""


class StoreLockedError(StoreConfigurationError):
    """Another process holds the embedded store, which serves one process."""


class NotFoundError(StoreError, LookupError):
    """The thing asked for is not there, or belongs to another organisation: the two look the same."""


class AlreadyExistsError(StoreError):
    """A unique value is taken: a sensor id, a tunnel address, a WireGuard key, an enrolment code."""


class StaleWriteError(StoreError):
    """Another writer was faster, or a lease was lost: this work was not stored and must be done again."""
