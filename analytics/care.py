"""Remote care, the service's side: the last status of each sensor, and what each one is to be told.

All of it is sealed by the program before a store sees it (`analytics.store.kept`), by organisation and sensor. An order
waits until the sensor's report says that it has it: nothing is pushed, sensors are never called.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import Kept, SealedKeep
from uplink.care import CareOrder, CareReport, Command, RemoteConfig, VersionedConfig

STATUS_KIND = "sensor-status"
ORDER_KIND = "sensor-order"
COMMAND_HOURS = 24
"""A command that no sensor fetched for so long is forgotten: nobody wants a restart from last week."""
FORGOTTEN_AFTER = timedelta(days=90)
"""The last status of a sensor that is gone."""
SILENT_AFTER = timedelta(minutes=5)
_TRIES = 30


@dataclass(frozen=True, slots=True)
class CareStatus:
    """What a sensor last said of itself, and when it was received (UTC)."""

    report: CareReport
    received_at: datetime

    def silent(self, now: datetime) -> bool:
        """Whether it has not been heard for five minutes."""
        return now - self.received_at > SILENT_AFTER

    @property
    def broken_locks(self) -> list[str]:
        """Names of the privacy locks that do not hold and should."""
        return [lock.name for lock in self.report.locks if lock.required and not lock.holds]


@dataclass(frozen=True, slots=True)
class CareOrders:
    """What a sensor is to be told: its newest configuration, and a command that waits."""

    config: VersionedConfig | None = None
    command: Command | None = None
    command_at: datetime | None = None


class Care:
    """Takes reports, gives orders.

    Args:
        keep: where both lie, sealed.
        clock: the present moment, UTC.
    """

    def __init__(self, keep: SealedKeep, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._keep = keep
        self._clock = clock

    def take(self, org_id: str, sensor_id: str, report: CareReport) -> CareOrder:
        """Keep a proven report; what the sensor is to do now."""
        now = self._clock()
        value = {"report": report.model_dump(mode="json", by_alias=True), "received_at": now.isoformat()}
        self._change(STATUS_KIND, org_id, sensor_id, lambda _: value, expires_at=now + FORGOTTEN_AFTER)
        orders = self.orders(org_id, sensor_id)
        command, config = orders.command, orders.config
        if command is not None and orders.command_at is not None:
            late = now - orders.command_at > timedelta(hours=COMMAND_HOURS)
            if late or report.last_command == command.id:
                command = None
        known = max(report.config_version, report.trying_version or 0, report.refused_version or 0)
        if config is not None and config.version <= known:
            config = None
        return CareOrder(config=config, command=command)

    def status(self, org_id: str, sensor_id: str) -> CareStatus | None:
        """What a sensor last said; None when it never reported."""
        kept = self._keep.get(STATUS_KIND, org_id, sensor_id)
        return None if kept is None else _status(kept.value)

    def every(self, org_id: str) -> dict[str, CareStatus]:
        """The last status of every sensor of an organisation that ever reported."""
        found = ((kept.id, _status(kept.value)) for kept in self._keep.every(STATUS_KIND, org_id))
        return {sensor_id: status for sensor_id, status in found if status is not None}

    def orders(self, org_id: str, sensor_id: str) -> CareOrders:
        """What waits for a sensor or is in force."""
        kept = self._keep.get(ORDER_KIND, org_id, sensor_id)
        return CareOrders() if kept is None else _orders(kept.value)

    def configure(self, org_id: str, sensor_id: str, config: RemoteConfig) -> VersionedConfig:
        """Give a sensor a new configuration: it fetches it within about a minute, and keeps it or rolls it back."""
        given: list[VersionedConfig] = []

        def change(value: Mapping[str, Any] | None) -> Mapping[str, Any]:
            orders = CareOrders() if value is None else _orders(value)
            versioned = VersionedConfig(version=(orders.config.version if orders.config else 0) + 1, config=config)
            given[:] = [versioned]
            return {**(value or {}), "config": versioned.model_dump(mode="json")}

        self._change(ORDER_KIND, org_id, sensor_id, change)
        return given[0]

    def restart(self, org_id: str, sensor_id: str) -> Command:
        """Ask a sensor to begin anew, once."""
        command = Command(id=secrets.token_hex(16), action="restart")
        asked = {"command": command.model_dump(), "command_at": self._clock().isoformat()}
        self._change(ORDER_KIND, org_id, sensor_id, lambda value: {**(value or {}), **asked})
        return command

    def forget(self, org_id: str, sensor_id: str) -> None:
        """Remove what is kept of a sensor: it was revoked or deleted."""
        for kind in (STATUS_KIND, ORDER_KIND):
            self._keep.remove(kind, org_id, sensor_id)

    def _change(
        self,
        kind: str,
        org_id: str,
        item_id: str,
        change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]],
        expires_at: datetime | None = None,
    ) -> Kept:
        """Compare-and-swap: two processes of the service may take reports of one sensor."""
        for attempt in range(_TRIES):
            kept = self._keep.get(kind, org_id, item_id)
            value = change(None if kept is None else kept.value)
            try:
                version = 0 if kept is None else kept.version
                return self._keep.put(kind, org_id, item_id, value, replaces=version, expires_at=expires_at)
            except (StaleWriteError, AlreadyExistsError):
                if attempt == _TRIES - 1:
                    raise
                # Somebody was faster: step aside for a moment that differs, so that both get on.
                time.sleep(random.uniform(0, 0.002 * min(attempt + 1, 10)))  # noqa: S311
        raise AssertionError("unreachable")


def _status(value: Mapping[str, Any]) -> CareStatus | None:
    """A status that a newer or older service wrote and this one cannot read is none."""
    try:
        return CareStatus(CareReport.model_validate(value["report"]), datetime.fromisoformat(value["received_at"]))
    except (ValidationError, KeyError, ValueError):
        return None


def _orders(value: Mapping[str, Any]) -> CareOrders:
    config, command, asked = value.get("config"), value.get("command"), value.get("command_at")
    return CareOrders(
        None if config is None else VersionedConfig.model_validate(config),
        None if command is None else Command.model_validate(command),
        None if asked is None else datetime.fromisoformat(asked),
    )
