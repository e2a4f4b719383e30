"""Enrolment: a one-time code turns a blank sensor into one with keys, an address and a service to speak to.

There is no tunnel yet, and perhaps no certificate, so the code itself protects the exchange. It carries a secret of 85
bits, from which the sensor derives an X25519 key pair; the service kept only the public half. With the service's own
enrolment key this gives a Noise KK handshake (`uplink.noise`) of one request and one answer:

* who listens learns the code's public id and nothing else, even if the service's keys leak later;
* who stands in between can neither read, nor answer, nor enrol in the sensor's place: to be the sensor takes the
  secret, to be the service takes the public half, which never travels;
* who steals the service's store cannot enrol: the public half does not lead back to the code.

The second, separately delivered verification code travels inside the sealed request.

A further camera of a board that is enrolled gets a sensor of its own with a code of its own, and speaks through the
board's tunnel. Its code works on that board alone: the sealed request proves that it comes from who has the board's key
(`BoardProof`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Self

import requests
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uplink.endpoint import Endpoint
from uplink.identity import Identity
from uplink.keyfiles import decode_key
from uplink.keys import MAX_GENERATION, SensorKey, derive
from uplink.messages import SensorId
from uplink.noise import PROTOCOL, Initiator, NoiseError
from uplink.wgconf import DEFAULT_KEEPALIVE_S, DEFAULT_MTU, MIN_MTU, Peer, TunnelConfig
from uplink.wgkeys import PresharedKey, PrivateKey, PublicKey

ENROLMENT_PATH = "/v1/enrolment"
PROBLEM_TYPE = "application/problem+json"

# Crockford's base 32 (https://www.crockford.com/base32.html): no I, L, O, U; those read as 1, 1, 0 and are refused (U).
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans({"I": "1", "L": "1", "O": "0"})
_ID_CHARACTERS, _SECRET_CHARACTERS, _CHECK_CHARACTERS = 5, 17, 2
_CODE_CHARACTERS = _ID_CHARACTERS + _SECRET_CHARACTERS + _CHECK_CHARACTERS
_TIMEOUT_S = (5.0, 15.0)
_MAX_ANSWER_BYTES = 64 * 1024
CODE_ID_PATTERN = f"^[{_ALPHABET}]{{{_ID_CHARACTERS}}}$"


class EnrolmentError(Exception):
    """The sensor could not be enrolled; the message says why and what to do."""


class CodeError(ValueError):
    """The text is no enrolment code: mistyped or cut off. Nothing was sent."""


@dataclass(frozen=True)
class EnrolmentCode:
    """A code of 24 characters in groups of four: 5 of public id, 17 of secret (85 bits), 2 of check."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A new random code."""
        return cls(_random(_ID_CHARACTERS), _random(_SECRET_CHARACTERS))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person typed: case, spaces, dashes and the confusable I, L, O do not matter.

        Raises:
            CodeError: wrong length, wrong characters, or the check does not fit.
        """
        plain = "".join(text.upper().split()).replace("-", "").translate(_READ_AS)
        if len(plain) != _CODE_CHARACTERS:
            raise CodeError(f"an enrolment code has {_CODE_CHARACTERS} characters in groups of four, not {len(plain)}")
        if any(character not in _ALPHABET for character in plain):
            raise CodeError("an enrolment code holds digits and letters without U alone")
        body, check = plain[:-_CHECK_CHARACTERS], plain[-_CHECK_CHARACTERS:]
        if not secrets.compare_digest(check, _check(body)):
            raise CodeError("the enrolment code is mistyped: its check characters do not fit; read it again")
        return cls(body[:_ID_CHARACTERS], body[_ID_CHARACTERS:])

    def text(self) -> str:
        """As shown to a person, once: six groups of four."""
        body = self.id + self.secret
        plain = body + _check(body)
        return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))

    def private_key(self) -> bytes:
        """The X25519 private key of the code, 32 bytes: only who has the code can make it."""
        return derive(self.secret.encode(), "enrolment-code", self.id)

    def verifier(self) -> bytes:
        """The public half, 32 bytes: all that the service keeps of the code."""
        return X25519PrivateKey.from_private_bytes(self.private_key()).public_key().public_bytes_raw()

    def prologue(self) -> bytes:
        """What binds the handshake to this use and this code."""
        return prologue(self.id)


def prologue(code_id: str) -> bytes:
    """The Noise prologue of an enrolment with the code of this id."""
    return b"headroom enrolment v1 " + code_id.encode()


def verification_code() -> str:
    """A second code for another channel (phone, paper): eight digits in two groups."""
    digits = f"{secrets.randbelow(10**8):08d}"
    return f"{digits[:4]} {digits[4:]}"


def normal_verification(text: str) -> str:
    """Digits alone, so that spaces and dashes do not matter."""
    return "".join(character for character in text if character.isascii() and character.isdigit())


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _check(body: str) -> str:
    number = int.from_bytes(hashlib.sha256(b"headroom code " + body.encode()).digest()[:4], "big")
    return _ALPHABET[number >> 5 & 31] + _ALPHABET[number & 31]


# -- messages


class ServiceHello(BaseModel):
    """``GET /v1/enrolment``: the service's enrolment key. It need not be trusted: with a false one enrolment fails."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: str = Field(PROTOCOL, max_length=64)
    service_key: str = Field(max_length=64, description="X25519 public key of this service's enrolments, base64.")


class SealedMessage(BaseModel):
    """One message of the handshake, base64."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message: str = Field(max_length=8192)


class EnrolmentRequest(SealedMessage):
    """``POST /v1/enrolment``: which code, and the first message of the handshake."""

    code: str = Field(pattern=CODE_ID_PATTERN, description="The public first five characters of the code.")


class BoardProof(BaseModel):
    """That a request for a further camera comes from its board: an HMAC under the board's key, bound to the code."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sensor_id: SensorId
    generation: int = Field(ge=1, le=MAX_GENERATION)
    mac: str = Field(max_length=64, repr=False)

    @classmethod
    def make(cls, key: SensorKey, code_id: str, verifier: bytes) -> Self:
        """With the key of the board's sensor, for the code of this id and public half."""
        mac = base64.b64encode(_board_mac(key, code_id, verifier)).decode()
        return cls(sensor_id=key.sensor_id, generation=key.generation, mac=mac)

    def holds(self, key: SensorKey, code_id: str, verifier: bytes) -> bool:
        """Whether it was made with this key for this code."""
        try:
            given = base64.b64decode(self.mac, validate=True)
        except (binascii.Error, ValueError):
            return False
        same = (self.sensor_id, self.generation) == (key.sensor_id, key.generation)
        return hmac.compare_digest(given, _board_mac(key, code_id, verifier)) and same


def _board_mac(key: SensorKey, code_id: str, verifier: bytes) -> bytes:
    return hmac.digest(key.subkey("enrolment-of-a-camera"), prologue(code_id) + verifier, "sha256")


class SensorHello(BaseModel):
    """Inside the sealed request: what the sensor tells the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    wireguard_public_key: str | None = Field(None, max_length=64)
    verification: str = Field("", max_length=64, repr=False)
    board: BoardProof | None = Field(None, description="For a further camera: the board that asks for it.")


class TunnelGrant(BaseModel):
    """Inside the sealed answer: how to reach the service by WireGuard."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    address: str = Field(description="The sensor's address in the tunnel, without prefix.")
    service_address: str = Field(description="The service's address in the tunnel.")
    service_public_key: str
    preshared_key: str = Field(repr=False)
    endpoint: str = Field(description="HOST:PORT of the service's WireGuard, an address or a name.")
    persistent_keepalive: int = Field(DEFAULT_KEEPALIVE_S, ge=0, le=65535)
    mtu: int = Field(DEFAULT_MTU, ge=MIN_MTU, le=9000)


class EnrolmentGrant(BaseModel):
    """Inside the sealed answer: who the sensor now is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sensor_id: SensorId
    key_generation: int = Field(ge=1)
    key: str = Field(repr=False, description="The sensor's own key, base64.")
    service_url: str
    service_seal_key: str
    tunnel: TunnelGrant | None = None
    board: SensorId | None = Field(None, description="For a further camera: the sensor that holds its board.")

    def identity(self) -> Identity:
        """For ``identity.toml``. Raises ValueError."""
        return Identity(
            sensor_id=self.sensor_id,
            service_url=self.service_url,
            tunnel_address=self.tunnel.address if self.tunnel else "",
            service_seal_key=self.service_seal_key,
            board=self.board or "",
        )

    def sensor_key(self) -> SensorKey:
        """For ``sensor.key``. Raises KeyFileError, ValueError."""
        return SensorKey(self.sensor_id, self.key_generation, decode_key(self.key, "key"))

    def tunnel_config(self, private_key: PrivateKey, outgoing: str | None = None) -> TunnelConfig | None:
        """For the tunnel's file: one peer, one address each way. None when counts go without a tunnel.

        Raises:
            ValueError: a field is unusable.
        """
        if self.tunnel is None:
            return None
        service = ipaddress.ip_address(self.tunnel.service_address)
        peer = Peer(
            public_key=PublicKey.parse(self.tunnel.service_public_key),
            allowed_ips=(ipaddress.ip_network(service),),
            endpoint=Endpoint.parse(self.tunnel.endpoint),
            preshared_key=PresharedKey.parse(self.tunnel.preshared_key),
            persistent_keepalive=self.tunnel.persistent_keepalive,
        )
        address = ipaddress.ip_interface(ipaddress.ip_address(self.tunnel.address))
        return TunnelConfig(private_key, (address,), (peer,), mtu=self.tunnel.mtu, outgoing=outgoing)


# -- the sensor's side


def request_grant(
    service: str,
    code: EnrolmentCode,
    *,
    wireguard_public_key: PublicKey | None = None,
    verification: str = "",
    board: SensorKey | None = None,
    session: requests.Session | None = None,
) -> EnrolmentGrant:
    """Ask the service at the address `service` (``http://HOST:PORT``) to enrol this sensor.

    Args:
        board: the key of this board's sensor, where the code is that of a further camera of it.

    Raises:
        EnrolmentError: not reachable, refused, or not answered by the service that made the code.
    """
    url = service.rstrip("/") + ENROLMENT_PATH
    with session or requests.Session() as http:
        try:
            hello = ServiceHello.model_validate(_call(http, "GET", url))
            if hello.protocol != PROTOCOL:
                raise EnrolmentError(f"{url} speaks {hello.protocol}, this sensor {PROTOCOL}: update the older one")
            exchange = Initiator(code.private_key(), decode_key(hello.service_key, "service_key"), code.prologue())
            inner = SensorHello(
                wireguard_public_key=str(wireguard_public_key) if wireguard_public_key else None,
                verification=normal_verification(verification),
                board=BoardProof.make(board, code.id, code.verifier()) if board else None,
            )
            first = base64.b64encode(exchange.write(inner.model_dump_json().encode())).decode()
            answer = SealedMessage.model_validate(_call(http, "POST", url, {"code": code.id, "message": first}))
            plain = exchange.read(base64.b64decode(answer.message, validate=True))
            return EnrolmentGrant.model_validate_json(plain)
        except NoiseError:
            raise EnrolmentError(
                f"{url} is not the service that made this code, or something between changed its answer; nothing was "
                "stored. Check the address and ask for a new code"
            ) from None
        except (ValidationError, binascii.Error, ValueError):
            raise EnrolmentError(f"{url} gave an answer that is not an enrolment; check the address") from None


def _call(http: requests.Session, method: str, url: str, body: dict[str, str] | None = None) -> Any:
    try:
        # No redirects: the code's owner named the address. No proxy or .netrc from the environment either.
        http.trust_env = False
        answer = http.request(method, url, json=body, timeout=_TIMEOUT_S, allow_redirects=False, stream=True)
        content = answer.raw.read(_MAX_ANSWER_BYTES + 1, decode_content=True)
    except requests.RequestException as error:
        raise EnrolmentError(f"{url} cannot be reached: {_reason(error)}") from None
    if len(content) > _MAX_ANSWER_BYTES:
        raise EnrolmentError(f"{url} gave an answer that is not an enrolment; check the address")
    if answer.status_code != 200:
        raise EnrolmentError(_problem(url, answer, content))
    return json.loads(content)


def _problem(url: str, answer: requests.Response, content: bytes) -> str:
    if answer.headers.get("Content-Type", "").partition(";")[0] == PROBLEM_TYPE:
        try:
            problem = json.loads(content)
            detail = str(problem["detail"])[:500]
        except (ValueError, KeyError, TypeError):
            pass
        else:
            return f"the service refused ({answer.status_code}): {detail}"
    return f"{url} answered {answer.status_code}: no Headroom service enrols there; check the address"


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "no answer; check the address and that the network lets you through"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    return "the connection was refused or broken; check the address and that the service runs"
