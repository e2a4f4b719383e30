"""Signed requests and signed answers: who sent it, to what, when, and that nobody changed it on the way.

A request carries::

    Authorization: Headroom-HMAC-SHA256 sensor=hall-3,generation=1,time=1790000000,nonce=32hex,signature=64hex

The signature covers method, path with query, content type and encoding, sensor, generation, time, nonce and the body's
digest. A log of headers holds nothing that opens anything: a signature serves one request, once, for a few minutes.

An answer carries ``Headroom-Answer: time=...,signature=64hex`` over the request's signature, the status, the service's
time and the body's digest. The spool forgets records on nothing less: a captive portal, a stale answer or an impostor
cannot make a sensor forget. The time in it is how a sensor with a wrong clock learns the service's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from uplink.keys import MAX_GENERATION, SensorKey
from uplink.messages import SENSOR_ID_PATTERN

SCHEME = "Headroom-HMAC-SHA256"
ANSWER_HEADER = "Headroom-Answer"
NEXT_KEY_HEADER = "Headroom-Next-Key"
WINDOW_SECONDS = 300
"""How far apart the clocks of sensor and service may be."""

_SENSOR_ID = SENSOR_ID_PATTERN.removeprefix("^").removesuffix("$")
_AUTHORIZATION = re.compile(
    SCHEME + r" +sensor=(?P<sensor>" + _SENSOR_ID + r"),generation=(?P<generation>[1-9][0-9]{0,6}),"
    r"time=(?P<time>[0-9]{1,12}),nonce=(?P<nonce>[0-9a-f]{32}),signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)
_ANSWER = re.compile(r"time=(?P<time>[0-9]{1,12}),signature=(?P<signature>[0-9a-f]{64})", re.ASCII)


class SignatureError(Exception):
    """The request or answer is not proven: refuse it (401). The text is safe to show to the other side."""


class ClockSkewError(SignatureError):
    """The signature is right but the sender's clock is not.

    The service answers 401 with a signed answer, so that the sensor learns the time.
    """

    def __init__(self, sent: float, now: float) -> None:
        super().__init__(
            f"the request's time is {sent - now:+.0f} s from the service's; at most {WINDOW_SECONDS} s are allowed"
        )
        self.sent = sent
        self.now = now


class ReplayError(SignatureError):
    """The same signed request was seen before."""


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """What the Authorization header claims. Nothing of it is proven before `verify_request`."""

    sensor_id: str
    generation: int
    time: int
    nonce: str
    signature: str = field(repr=False)

    def header(self) -> str:
        """The value of the Authorization header."""
        return (
            f"{SCHEME} sensor={self.sensor_id},generation={self.generation},time={self.time},"
            f"nonce={self.nonce},signature={self.signature}"
        )


def sign_request(
    key: SensorKey,
    *,
    method: str,
    path: str,
    body: bytes,
    now: float,
    content_type: str = "",
    content_encoding: str = "",
    nonce: str | None = None,
) -> RequestSignature:
    """Sign one attempt. Every attempt gets its own nonce; `path` holds the query where there is one.

    Args:
        now: seconds since 1970 as the *service* counts them, as far as the sensor knows.
    """
    chosen = nonce or secrets.token_hex(16)
    sent = max(0, int(now))
    signature = _request_mac(key, method, path, content_type, content_encoding, sent, chosen, body)
    return RequestSignature(key.sensor_id, key.generation, sent, chosen, signature)


def parse_authorization(header: str | None) -> RequestSignature:
    """Read the Authorization header, to know whose key to fetch.

    Raises:
        SignatureError: absent or not of this scheme.
    """
    match = _AUTHORIZATION.fullmatch(header or "")
    if match is None or int(match["generation"]) > MAX_GENERATION:
        raise SignatureError(f"expected an Authorization header of the scheme {SCHEME}")
    return RequestSignature(
        match["sensor"], int(match["generation"]), int(match["time"]), match["nonce"], match["signature"]
    )


def verify_request(
    key: SensorKey | None,
    claim: RequestSignature,
    *,
    method: str,
    path: str,
    body: bytes,
    now: float,
    content_type: str = "",
    content_encoding: str = "",
    window: float = WINDOW_SECONDS,
) -> None:
    """Prove that the holder of `key` sent exactly this, within `window` seconds of `now`.

    Args:
        key: what `MasterKeyRing.sensor_key` gives for the claim's sensor and generation; None always fails.

    Raises:
        SignatureError: wrong key, unknown generation, or anything was changed.
        ClockSkewError: all right but the time.
    """
    if key is None or (key.sensor_id, key.generation) != (claim.sensor_id, claim.generation):
        raise SignatureError("this key is not known or no longer valid; enrol the sensor again")
    expected = _request_mac(key, method, path, content_type, content_encoding, claim.time, claim.nonce, body)
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureError("the signature does not fit the request and the sensor's key")
    if abs(claim.time - now) > window:
        raise ClockSkewError(claim.time, now)


def sign_answer(key: SensorKey, claim: RequestSignature, *, status: int, body: bytes, now: float) -> str:
    """The value of the ``Headroom-Answer`` header for the answer to a request whose signature was right."""
    sent = max(0, int(now))
    return f"time={sent},signature={_answer_mac(key, claim, status, sent, body)}"


def verify_answer(key: SensorKey, claim: RequestSignature, header: str | None, *, status: int, body: bytes) -> int:
    """Prove that the service answered this very request with this. Returns the service's time, seconds since 1970.

    Raises:
        SignatureError: the header is absent, or does not fit.
    """
    match = _ANSWER.fullmatch(header or "")
    if match is None:
        raise SignatureError("the answer is not signed")
    sent = int(match["time"])
    if not hmac.compare_digest(_answer_mac(key, claim, status, sent, body), match["signature"]):
        raise SignatureError("the answer's signature does not fit")
    return sent


class ReplayGuard:
    """Remembers proven signatures for as long as they would be valid, at most `most` of them.

    Posting counts twice changes nothing anyway; this stops a repeated request from costing more than its signature.
    """

    def __init__(self, window: float = WINDOW_SECONDS, most: int = 100_000) -> None:
        self._window = window
        self._most = most
        self._seen: OrderedDict[str, float] = OrderedDict()

    def check(self, claim: RequestSignature, now: float) -> None:
        """Remember a proven claim.

        Raises:
            ReplayError: it was seen before.
        """
        while self._seen and (len(self._seen) >= self._most or next(iter(self._seen.values())) < now):
            self._seen.popitem(last=False)
        if claim.signature in self._seen:
            raise ReplayError("this request was received before")
        self._seen[claim.signature] = now + 2 * self._window


def _request_mac(
    key: SensorKey, method: str, path: str, content_type: str, content_encoding: str, sent: int, nonce: str, body: bytes
) -> str:
    parts = (
        "headroom-request-v1",
        method.upper(),
        path,
        content_type,
        content_encoding,
        key.sensor_id,
        str(key.generation),
        str(sent),
        nonce,
        hashlib.sha256(body).hexdigest(),
    )
    return _mac(key.subkey("request"), parts)


def _answer_mac(key: SensorKey, claim: RequestSignature, status: int, sent: int, body: bytes) -> str:
    parts = ("headroom-answer-v1", claim.signature, str(status), str(sent), hashlib.sha256(body).hexdigest())
    return _mac(key.subkey("answer"), parts)


def _mac(key: bytes, parts: tuple[str, ...]) -> str:
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    return hmac.new(key, message, hashlib.sha256).hexdigest()
