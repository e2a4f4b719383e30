"""Noise_KK_25519_ChaChaPoly_SHA256: one message each way between two sides that know each other's static key.

Implements the Noise Protocol Framework, revision 34 (https://noiseprotocol.org/noise.html), for the one pattern that
enrolment needs, on the primitives of `cryptography`::

    KK:
      -> s
      <- s
      ...
      -> e, es, ss
      <- e, ee, se

Both messages are encrypted and authenticated; the second one is secret even if both static keys leak later.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PROTOCOL = "Noise_KK_25519_ChaChaPoly_SHA256"
KEY_BYTES = 32
MAX_MESSAGE_BYTES = 65_535
_TAG_BYTES = 16


class NoiseError(Exception):
    """The message was not made by the holder of the expected key for this exchange, or was changed on the way."""


class _Symmetric:
    """CipherState and SymmetricState of the specification (sections 5.1 and 5.2)."""

    def __init__(self, prologue: bytes) -> None:
        name = PROTOCOL.encode()
        self.hash = name.ljust(32, b"\0") if len(name) <= 32 else hashlib.sha256(name).digest()
        self._chaining = self.hash
        self._cipher: ChaCha20Poly1305 | None = None
        self._counter = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        temporary = hmac.digest(self._chaining, material, "sha256")
        self._chaining = hmac.digest(temporary, b"\x01", "sha256")
        key = hmac.digest(temporary, self._chaining + b"\x02", "sha256")
        self._cipher, self._counter = ChaCha20Poly1305(key), 0

    def encrypt(self, plain: bytes) -> bytes:
        assert self._cipher is not None
        sealed = self._cipher.encrypt(self._nonce(), plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        assert self._cipher is not None
        try:
            plain = self._cipher.decrypt(self._nonce(), sealed, self.hash)
        except InvalidTag:
            raise NoiseError("the message does not belong to this exchange or its key") from None
        self.mix_hash(sealed)
        return plain

    def _nonce(self) -> bytes:
        nonce = b"\0\0\0\0" + self._counter.to_bytes(8, "little")
        self._counter += 1
        return nonce


class Initiator:
    """The side that speaks first. For one exchange: `write`, then `read`."""

    def __init__(self, static: bytes, remote_static: bytes, prologue: bytes, *, ephemeral: bytes | None = None) -> None:
        """All keys are raw X25519 keys, 32 bytes. `ephemeral` is for test vectors alone."""
        self._static, self._remote = static, remote_static
        self._ephemeral = ephemeral or X25519PrivateKey.generate().private_bytes_raw()
        self._state = _Symmetric(prologue)
        self._state.mix_hash(_public(static))
        self._state.mix_hash(remote_static)

    def write(self, payload: bytes) -> bytes:
        """The first message. Raises NoiseError when the other side's key is unusable."""
        state, public = self._state, _public(self._ephemeral)
        state.mix_hash(public)
        state.mix_key(_dh(self._ephemeral, self._remote))  # es
        state.mix_key(_dh(self._static, self._remote))  # ss
        return public + state.encrypt(payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the answer. Raises NoiseError."""
        state, remote = self._state, _split(message)
        state.mix_hash(remote)
        state.mix_key(_dh(self._ephemeral, remote))  # ee
        state.mix_key(_dh(self._static, remote))  # se
        return state.decrypt(message[KEY_BYTES:])


class Responder:
    """The side that answers. For one exchange: `read`, then `write`."""

    def __init__(self, static: bytes, remote_static: bytes, prologue: bytes, *, ephemeral: bytes | None = None) -> None:
        """All keys are raw X25519 keys, 32 bytes. `ephemeral` is for test vectors alone."""
        self._static, self._remote = static, remote_static
        self._ephemeral = ephemeral or X25519PrivateKey.generate().private_bytes_raw()
        self._their_ephemeral = b""
        self._state = _Symmetric(prologue)
        self._state.mix_hash(remote_static)
        self._state.mix_hash(_public(static))

    def read(self, message: bytes) -> bytes:
        """The payload of the first message. Raises NoiseError."""
        state, remote = self._state, _split(message)
        self._their_ephemeral = remote
        state.mix_hash(remote)
        state.mix_key(_dh(self._static, remote))  # es
        state.mix_key(_dh(self._static, self._remote))  # ss
        return state.decrypt(message[KEY_BYTES:])

    def write(self, payload: bytes) -> bytes:
        """The answer, after `read`."""
        state, public = self._state, _public(self._ephemeral)
        state.mix_hash(public)
        state.mix_key(_dh(self._ephemeral, self._their_ephemeral))  # ee
        state.mix_key(_dh(self._ephemeral, self._remote))  # se
        return public + state.encrypt(payload)


def _split(message: bytes) -> bytes:
    if not KEY_BYTES + _TAG_BYTES <= len(message) <= MAX_MESSAGE_BYTES:
        raise NoiseError(f"{len(message)} bytes are no message of this exchange")
    return message[:KEY_BYTES]


def _public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _dh(private: bytes, public: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise NoiseError("an unusable public key") from None
