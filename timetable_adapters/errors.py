"""How a pull may fail. Every message is fit for a person to read and holds no secret and no personal data."""

from __future__ import annotations


class AdapterError(Exception):
    """A pull failed. The message is fit for a person to read and holds no secret and no personal data."""


class ConfigurationError(AdapterError):
    """Trying again will not help: an address, a token or a setting has to change first."""


class TemporaryError(AdapterError):
    """The system is down, busy or cut us off. ``retry_after`` is in seconds where the system named a time."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(AdapterError):
    """The system answered something that is not what its interface promises."""
