"""How dealing with accounts may fail. Messages are for the person at the screen and give nothing away."""

from __future__ import annotations


class AccountError(Exception):
    """Anything that is refused."""


class LoginError(AccountError):
    """Wrong mail address, password or second factor: which one is not said."""


class SecondFactorNeededError(LoginError):
    """The password is right; the code of the second factor is asked for now."""


class TooManyAttemptsError(AccountError):
    """Wait. ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many attempts; try again in {max(1, round(retry_after / 60))} minutes")
        self.retry_after = retry_after


class WeakPasswordError(AccountError):
    """The password is refused; the message says why."""


class LinkError(AccountError):
    """An invitation, reset link or share does not exist, was used, withdrawn or has expired: which one is not said."""


class CodeError(AccountError):
    """The verification code that belongs to a link is wrong or missing."""


class ForbiddenError(AccountError):
    """The person has no right to do this."""
