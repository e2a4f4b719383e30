"""Passwords, links and codes: what is handed out once and kept only as a digest.

Passwords are argon2id with the parameters that OWASP's password storage cheat sheet gives (19 MiB, 2 passes, 1 lane).
Links and tokens carry 256 random bits, so a plain SHA-256 keeps them safe at rest. Codes that people type are short and
therefore live behind a bounded number of attempts.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from analytics.accounts.errors import WeakPasswordError

MIN_PASSWORD = 12
MAX_PASSWORD = 256
CODE_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # no 0 and O, no 1 and I
CODE_LENGTH = 8
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
_SOME_HASH = _HASHER.hash(secrets.token_urlsafe(16))
# The most common beginnings of the lists that attackers begin with; a long password of these is still weak.
_COMMON = (
    "password",
    "wachtwoord",
    "welkom",
    "welcome",
    "qwerty",
    "azerty",
    "letmein",
    "iloveyou",
    "admin",
    "headroom",
)


def hash_password(password: str, *, about: str = "") -> str:
    """The argon2id string of a password.

    Raises:
        WeakPasswordError: too short or long, one of the common ones, or it holds the mail address's name (``about``).
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise WeakPasswordError(f"use {MIN_PASSWORD} to {MAX_PASSWORD} characters; a short sentence is fine")
    folded = password.casefold()
    plain = folded.strip("0123456789!@#$%^&*().,-_ ")
    if any(plain == word or (folded.startswith(word) and len(set(folded)) < 12) for word in _COMMON):
        raise WeakPasswordError("this is one of the passwords that are tried first; use a short sentence")
    if len(set(folded)) < 5:
        raise WeakPasswordError("use at least five different characters")
    name = about.partition("@")[0].casefold()
    if len(name) > 3 and name in folded:
        raise WeakPasswordError("it holds your mail address; use something else")
    return _HASHER.hash(password)


def verify_password(stored: str | None, password: str) -> tuple[bool, str | None]:
    """Whether the password is right, and a new hash when the stored one has old parameters.

    For an unknown user (``stored`` None) the same work is done: the time tells nothing.
    """
    try:
        ok = _HASHER.verify(stored or _SOME_HASH, password[:MAX_PASSWORD])
    except (VerificationError, InvalidHashError):
        return False, None
    if stored is None:
        return False, None
    return ok, _HASHER.hash(password) if _HASHER.check_needs_rehash(stored) else None


def new_secret() -> str:
    """256 random bits for a link, a session or a token."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a link, session or token, and what it is found by."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_code() -> str:
    """A code for people to type, such as ``K7PX-4MQ9``: 40 random bits, given by another way than the link."""
    letters = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def code_digest(code: str, salt: str) -> str:
    """What is kept of a code. Case, dashes and spaces do not matter."""
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return hashlib.scrypt(plain.encode(), salt=salt.encode(), n=2**12, r=8, p=1, dklen=32).hex()


def same(left: str, right: str) -> bool:
    """Compare without telling by time where they differ."""
    return hmac.compare_digest(left.encode(), right.encode())
