"""The service's end of the tunnel: its peers are the sensors that are enrolled and not revoked."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Iterable
from dataclasses import replace

from analytics.domain.model import Sensor
from analytics.service_keys import ServiceKeys
from analytics.settings import TunnelSettings
from uplink.tunnel import Tunnel
from uplink.tunnel_health import TunnelStatus
from uplink.wg_backends import Run, TunnelError, default_backends, system_run
from uplink.wgconf import Peer, TunnelConfig
from uplink.wgkeys import KeyFormatError, PublicKey

logger = logging.getLogger(__name__)


class ServiceTunnel:
    """Keeps the WireGuard interface and its peers in step with the store. Thread-safe."""

    def __init__(self, settings: TunnelSettings, keys: ServiceKeys, *, run: Run = system_run) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._tunnel = Tunnel(
            settings.interface,
            TunnelConfig(keys.wireguard, (settings.address,), listen_port=settings.udp_port, mtu=settings.mtu),
            run=run,
            backends=default_backends(run, settings.backend),
        )

    def start(self, sensors: Iterable[Sensor]) -> None:
        """Bring the tunnel up with these sensors as peers. Raises TunnelError with the reason."""
        with self._lock:
            peers = tuple(self.peers(sensors).values())
            self._tunnel.config = replace(self._tunnel.config, peers=peers)
            self._tunnel.up()

    def stop(self) -> None:
        """Take the interface away."""
        with self._lock:
            try:
                self._tunnel.down()
            except TunnelError as error:
                logger.error("the tunnel could not be taken down: %s", error)

    def sync(self, sensors: Iterable[Sensor]) -> None:
        """Let revoked sensors go and new ones in; the others notice nothing. Raises TunnelError."""
        with self._lock:
            wanted = self.peers(sensors)
            present = {peer.public_key: peer for peer in self._tunnel.config.peers}
            for key in present.keys() - wanted.keys():  # first: a new key may take over an old one's address
                self._tunnel.remove_peer(key)
            for key, peer in wanted.items():
                if present.get(key) != peer:
                    self._tunnel.add_peer(peer)

    def tick(self) -> None:
        """Bring the interface back should it have vanished. Raises TunnelError."""
        with self._lock:
            self._tunnel.tick()

    def status(self) -> TunnelStatus:
        """What WireGuard says. Raises TunnelError."""
        with self._lock:
            return self._tunnel.status()

    def peers(self, sensors: Iterable[Sensor]) -> dict[PublicKey, Peer]:
        """The peers that these sensors are: enrolled, with an address, not revoked."""
        found: dict[PublicKey, Peer] = {}
        for sensor in sensors:
            if sensor.revoked_at is not None or sensor.wireguard_public_key is None or sensor.tunnel_ip is None:
                continue
            try:
                key = PublicKey.parse(sensor.wireguard_public_key)
            except KeyFormatError as error:
                logger.error("sensor %s: %s", sensor.id, error)
                continue
            found[key] = Peer(
                public_key=key,
                allowed_ips=(ipaddress.ip_network(sensor.tunnel_ip),),
                preshared_key=self._keys.peer_preshared(sensor.id, key),
            )
        return found
