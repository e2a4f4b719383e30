"""Sensors come and go: codes are issued, spent once, and revocation ends key and tunnel at once.

The service's half of `uplink.enrolment`. Of a code it keeps the public half of a key pair, of a verification code an
HMAC under a key that is not in the store: who steals the store can use neither.

A sensor may be a further camera of another one's board (`Sensor.board`): it has its own id, key and code, and speaks
through the board's tunnel. Its code is spent by its board alone. Revoking it leaves the others as they are; revoking
the sensor that holds the board revokes its further cameras too, because all their keys lie on that one card.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError

from analytics.domain.model import EnrolmentCode as StoredCode
from analytics.domain.model import Sensor
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.base import SensorStore
from analytics.store.errors import AlreadyExistsError, NotFoundError
from uplink.enrolment import (
    EnrolmentCode,
    EnrolmentGrant,
    EnrolmentRequest,
    SealedMessage,
    SensorHello,
    ServiceHello,
    TunnelGrant,
    normal_verification,
    prologue,
    verification_code,
)
from uplink.identity import TAKEN_FOLDERS
from uplink.keyfiles import encode_key
from uplink.keys import derive
from uplink.noise import NoiseError, Responder
from uplink.wgkeys import KeyFormatError, PublicKey

logger = logging.getLogger(__name__)

_HASH_PREFIX = "x25519:"
_NO_SUCH_CODE = (
    "this code is not valid here: mistyped, expired, used, tried too often, or of another service; ask for a new one"
)


class AdministrationError(Exception):
    """An order of the administrator that cannot be carried out; the message says why."""


class RefusedError(Exception):
    """An enrolment that is refused; `kind` names the problem, the text is safe to show."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class IssuedCode:
    """A new code, shown once. `verification` travels by another way than `code`."""

    sensor: Sensor
    code: str = field(repr=False)
    verification: str | None = field(repr=False)
    expires_at: datetime


class Enrolment:
    """Issues and spends codes, and revokes. Thread-safe as far as the store is."""

    def __init__(
        self,
        store: SensorStore,
        keys: ServiceKeys,
        settings: ServiceSettings,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_revoke: Callable[[Sensor], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`on_change` is called after a sensor was enrolled or revoked, before anybody is told.

        `on_revoke` forgets what else is kept of a sensor.
        """
        self._store = store
        self._keys = keys
        self._settings = settings
        self._on_change = on_change
        self._on_revoke = on_revoke
        self._now = now

    # -- for the administrator

    def add(
        self, sensor_id: str, *, org_id: str, name: str = "", verification: bool = True, board: str | None = None
    ) -> IssuedCode:
        """Add a sensor and issue its code.

        Args:
            board: the sensor on whose board it is a further camera; None: it comes on a board of its own.

        Raises:
            AdministrationError: the id is taken, or there is no such board.
        """
        if board is not None:
            self._check_board(sensor_id, org_id, board)
        sensor = Sensor(org_id=org_id, id=sensor_id, name=name, created_at=self._now(), board=board)
        try:
            self._store.add_sensor(sensor)
        except AlreadyExistsError as error:
            raise AdministrationError(f"{error}; for a new code of it: headroom service sensor code") from None
        return self._issue(sensor, verification)

    def issue(self, sensor_id: str, *, verification: bool = True) -> IssuedCode:
        """A new code for a sensor that is known, e.g. after its card was replaced. Older codes end.

        Raises:
            AdministrationError: unknown, or revoked (its key may be in wrong hands: add a new sensor instead).
        """
        sensor = self._known(sensor_id)
        board = None if sensor.board is None else self._store.find_sensor(sensor.board)
        if sensor.revoked_at is not None or (board is not None and board.revoked_at is not None):
            raise AdministrationError(
                f"sensor {sensor_id!r} was revoked for good, since its key may be in wrong hands; "
                "add one of another name"
            )
        self._store.remove_enrolments(sensor.org_id, sensor.id)
        return self._issue(sensor, verification)

    def cameras_of(self, sensor: Sensor) -> list[Sensor]:
        """The further cameras of this sensor's board that are not revoked: what revoking it ends as well."""
        found = self._store.sensors_on_board(sensor.org_id, sensor.id)
        return [camera for camera in found if camera.revoked_at is None]

    def revoke(self, sensor_id: str, *, with_cameras: bool = False) -> list[Sensor]:
        """End a sensor's key, tunnel and codes, for good, and those of its board's further cameras. Safe to repeat.

        Args:
            with_cameras: whoever orders it knows that the board's further cameras end as well.

        Returns what was revoked, the sensor itself first. Raises AdministrationError.
        """
        known = self._known(sensor_id)
        cameras = self.cameras_of(known)
        if cameras and not with_cameras:
            names = ", ".join(camera.id for camera in cameras)
            raise AdministrationError(
                f"sensor {sensor_id!r} holds the board of {names}: all their keys lie on it, so they would be revoked "
                f"too. If so: headroom service sensor revoke {sensor_id} --with-cameras"
            )
        # The board first: from then on the door takes nothing of its cameras either, whatever happens to this process.
        revoked = [self._revoke(sensor) for sensor in (known, *cameras)]
        self._on_change()
        for sensor in revoked:
            self._on_revoke(sensor)
            logger.warning("sensor %s is revoked", sensor.id)
        return revoked

    def _revoke(self, known: Sensor) -> Sensor:
        now = self._now()
        # The public key stays on record, so that nobody can enrol with it again; the address is free again.
        revoked = self._store.update_sensor(
            known.org_id, known.id, lambda sensor: replace(sensor, revoked_at=sensor.revoked_at or now, tunnel_ip=None)
        )
        self._store.remove_enrolments(known.org_id, known.id)
        return revoked

    def sensors(self) -> Sequence[Sensor]:
        """All sensors of all organisations."""
        return self._store.all_sensors()

    def _known(self, sensor_id: str) -> Sensor:
        sensor = self._store.find_sensor(sensor_id)
        if sensor is None:
            raise AdministrationError(f"there is no sensor {sensor_id!r}; headroom service sensor list shows them")
        return sensor

    def _check_board(self, sensor_id: str, org_id: str, board_id: str) -> None:
        board = self._store.find_sensor(board_id)
        if board is None or board.org_id != org_id:
            raise AdministrationError(f"there is no sensor {board_id!r}; headroom service sensor list shows them")
        if board.board is not None:
            raise AdministrationError(f"{board_id!r} is itself a camera of board {board.board!r}: name that one")
        if board.revoked_at is not None:
            raise AdministrationError(f"sensor {board_id!r} was revoked for good, and its board with it")
        if sensor_id in TAKEN_FOLDERS:  # of the board's state folder, in which the camera gets one of its name
            raise AdministrationError(f"a further camera cannot be called {sensor_id!r}; choose another name")

    def _issue(self, sensor: Sensor, verification: bool) -> IssuedCode:
        now = self._now()
        second = verification_code() if verification else None
        for _ in range(20):
            code = EnrolmentCode.generate()
            stored = StoredCode(
                id=code.id,
                org_id=sensor.org_id,
                sensor_id=sensor.id,
                secret_hash=_HASH_PREFIX + encode_key(code.verifier()),
                expires_at=now + timedelta(hours=self._settings.code_hours),
                attempts_left=self._settings.code_attempts,
                created_at=now,
                verification_hash=None if second is None else self._verification_hash(code.id, second),
            )
            try:
                self._store.add_enrolment(stored)
            except AlreadyExistsError:  # the public id is short: take another
                continue
            return IssuedCode(sensor, code.text(), second, stored.expires_at)
        raise AdministrationError("no free code was found; withdraw old ones")

    # -- for the blank sensor

    def hello(self) -> ServiceHello:
        """What a blank sensor asks for first."""
        public = X25519PrivateKey.from_private_bytes(self._keys.enrolment).public_key().public_bytes_raw()
        return ServiceHello(service_key=encode_key(public))

    def activate(self, request: EnrolmentRequest) -> SealedMessage:
        """Spend a code. One caller wins, whatever happens at the same time.

        Raises:
            RefusedError: the code is not valid, not proven, or a second code is missing.
            StoreError: the store cannot answer; the attempt may be spent.
        """
        stored = self._store.spend_enrolment_attempt(request.code, self._now())
        if stored is None or not stored.secret_hash.startswith(_HASH_PREFIX):
            raise RefusedError("code-not-valid", _NO_SUCH_CODE)
        exchange = Responder(
            self._keys.enrolment,
            _verifier(stored),
            prologue(stored.id),
        )
        try:
            hello = SensorHello.model_validate_json(exchange.read(base64.b64decode(request.message, validate=True)))
        except (NoiseError, ValidationError, binascii.Error, ValueError):
            raise RefusedError("code-not-valid", _NO_SUCH_CODE) from None
        self._check_verification(stored, hello.verification)
        board = self._board(hello, stored)
        public_key = self._public_key(hello, stored) if board is None else None
        if public_key is not None:
            self._free_address(stored.sensor_id)  # full: say so before the code is spent
        if not self._store.activate_enrolment(stored.id, self._now()):
            raise RefusedError("code-not-valid", _NO_SUCH_CODE)
        sensor = self._enrol(stored, public_key)
        self._on_change()
        logger.info("sensor %s is enrolled", sensor.id)
        return SealedMessage(
            message=base64.b64encode(
                exchange.write(self._grant(sensor, public_key).model_dump_json().encode())
            ).decode()
        )

    def _check_verification(self, stored: StoredCode, given: str) -> None:
        if stored.verification_hash is None:
            return
        digits = normal_verification(given)
        left = f"{stored.attempts_left} attempts are left"
        if not digits:
            raise RefusedError("verification-missing", f"this code asks for its verification code too; {left}")
        if not hmac.compare_digest(self._verification_hash(stored.id, digits), stored.verification_hash):
            raise RefusedError("verification-wrong", f"the verification code is not the one of this code; {left}")

    def _board(self, hello: SensorHello, stored: StoredCode) -> Sensor | None:
        """The board that a further camera's code asks for, and that has proven itself; None for a board's own code."""
        sensor = self._store.find_sensor(stored.sensor_id)
        if sensor is None:
            raise RefusedError("code-not-valid", _NO_SUCH_CODE)
        if sensor.board is None:
            if hello.board is not None:
                raise RefusedError("not-a-camera", f"{sensor.id} has a board of its own: enrol it without --camera")
            return None
        board = self._store.find_sensor(sensor.board)
        if board is None or board.revoked_at is not None or board.org_id != sensor.org_id:
            raise RefusedError("code-not-valid", _NO_SUCH_CODE)
        if board.enrolled_at is None:
            raise RefusedError("board-not-enrolled", f"enrol its board first: {board.id}")
        proof = hello.board
        if proof is None:
            wanted = f"{sensor.id} is a further camera of board {board.id}: enrol it there, with --camera"
            raise RefusedError("board-missing", wanted)
        key = self._keys.master.sensor_key(board.id, proof.generation)
        if key is None or not proof.holds(key, stored.id, _verifier(stored)):
            raise RefusedError("board-wrong", f"this code is for a camera of board {board.id}, and of that board alone")
        return board

    def _public_key(self, hello: SensorHello, stored: StoredCode) -> PublicKey | None:
        if self._settings.tunnel is None:
            return None
        if hello.wireguard_public_key is None:
            raise RefusedError("key-missing", "this service speaks through WireGuard; send a WireGuard public key")
        try:
            key = PublicKey.parse(hello.wireguard_public_key)
        except KeyFormatError as error:
            raise RefusedError("key-not-valid", str(error)) from None
        owners = [sensor.id for sensor in self._store.all_sensors() if sensor.wireguard_public_key == str(key)]
        if key == self._keys.wireguard.public or any(owner != stored.sensor_id for owner in owners):
            raise RefusedError("key-not-valid", "this WireGuard key belongs to another; make a new one")
        return key

    def _enrol(self, stored: StoredCode, public_key: PublicKey | None) -> Sensor:
        for _ in range(20):
            address = self._free_address(stored.sensor_id) if public_key is not None else None

            def change(sensor: Sensor, address: str | None = address) -> Sensor:
                if sensor.revoked_at is not None:
                    raise RefusedError("code-not-valid", _NO_SUCH_CODE)
                return replace(
                    sensor,
                    wireguard_public_key=None if public_key is None else str(public_key),
                    tunnel_ip=address,
                    key_generation=self._keys.master.current,
                    enrolled_at=self._now(),
                )

            try:
                return self._store.update_sensor(stored.org_id, stored.sensor_id, change)
            except AlreadyExistsError:  # another sensor took the address just now
                continue
            except NotFoundError:
                break
        raise RefusedError("code-not-valid", _NO_SUCH_CODE)

    def _free_address(self, sensor_id: str) -> str:
        tunnel = self._settings.tunnel
        assert tunnel is not None
        sensors = self._store.all_sensors()
        own = next((sensor.tunnel_ip for sensor in sensors if sensor.id == sensor_id), None)
        if own is not None and ipaddress.ip_address(own) in tunnel.network:
            return own
        taken = {sensor.tunnel_ip for sensor in sensors} | {str(tunnel.ip)}
        for address in tunnel.network.hosts():
            if str(address) not in taken:
                return str(address)
        raise RefusedError("tunnel-full", f"the tunnel's network {tunnel.network} has no free address left")

    def _grant(self, sensor: Sensor, public_key: PublicKey | None) -> EnrolmentGrant:
        key = self._keys.master.sensor_key(sensor.id)
        assert key is not None
        tunnel = self._settings.tunnel
        grant = None
        if tunnel is not None and public_key is not None and sensor.tunnel_ip is not None:
            grant = TunnelGrant(
                address=sensor.tunnel_ip,
                service_address=str(tunnel.ip),
                service_public_key=str(self._keys.wireguard.public),
                preshared_key=self._keys.peer_preshared(sensor.id, public_key).secret_text(),
                endpoint=tunnel.endpoint,
                mtu=tunnel.mtu,
            )
        return EnrolmentGrant(
            sensor_id=sensor.id,
            key_generation=key.generation,
            key=encode_key(key.secret),
            service_url=self._settings.service_url,
            service_seal_key=encode_key(self._keys.seal.public_key),
            tunnel=grant,
            board=sensor.board,
        )

    def _verification_hash(self, code_id: str, verification: str) -> str:
        key = derive(self._keys.enrolment, "enrolment-verification", code_id)
        return hmac.new(key, normal_verification(verification).encode(), "sha256").hexdigest()


def _verifier(stored: StoredCode) -> bytes:
    """The public half of the code."""
    return base64.b64decode(stored.secret_hash.removeprefix(_HASH_PREFIX))
