"""A WireGuard tunnel: up, down, status, health, peers that come and go while it runs.

Both ends use this class: the sensor with one peer that has an endpoint, the service with many that have none. All
steps are safe to repeat, an interface that already carries our key is adopted, and nothing here ever replaces all peers
at once: what already flows goes on flowing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from uplink.clock import Clock, SystemClock
from uplink.endpoint import Endpoint, IPAddress, Resolver
from uplink.outgoing import pin, unpin
from uplink.tunnel_health import Sample, TunnelHealth, TunnelState, TunnelStatus, judge, parse_dump
from uplink.wg_backends import (
    Backend,
    ProgramError,
    Run,
    TunnelError,
    control_socket,
    default_backends,
    link_exists,
    socket_answers,
    system_run,
)
from uplink.wgconf import ConfigError, Peer, TunnelConfig, check_interface_name, render_wg
from uplink.wgkeys import PublicKey

logger = logging.getLogger(__name__)

DEFAULT_INTERFACE = "headroom0"
# A peer with a name is looked up again when its handshake is older than this (a healthy one renews every 120 s).
MOVED_AFTER_S = 135.0


class Tunnel:
    """One WireGuard interface of this machine. Not thread-safe: one owner."""

    def __init__(
        self,
        interface: str,
        config: TunnelConfig,
        *,
        run: Run = system_run,
        backends: Sequence[Backend] | None = None,
        resolver: Resolver | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.interface = check_interface_name(interface)
        self.config = config
        self._run = run
        self._backends = list(backends) if backends is not None else default_backends(run)
        self._resolver = resolver
        self._clock = clock or SystemClock()
        self._endpoints: dict[PublicKey, Endpoint] = {}  # where each peer was last sent to
        self._samples: dict[PublicKey, Sample] = {}

    # -- up and down

    def up(self) -> None:
        """Bring the tunnel up, or bring a running one to this configuration.

        Raises:
            TunnelError: with the reason; nothing is left behind, except an interface that was up before.
        """
        created = False
        try:
            self._resolve_all()
            self._pin_all()
            created = self._ensure_interface()
            self._configure()
        except TunnelError:
            self._undo(created)
            raise
        logger.info("tunnel %s is up", self.interface)

    def down(self) -> None:
        """Take the interface away. Safe to repeat. Raises TunnelError when the system refuses."""
        if link_exists(self._run, self.interface):
            self._run(["ip", "link", "delete", "dev", self.interface])
        path = control_socket(self.interface)
        if path.exists() and not socket_answers(path):
            path.unlink(missing_ok=True)
        self._unpin_all()
        self._samples.clear()
        logger.info("tunnel %s is down", self.interface)

    def apply(self, config: TunnelConfig) -> None:
        """Bring the running tunnel to another configuration without disturbing the peers that stay."""
        gone = {peer.public_key for peer in self.config.peers} - {peer.public_key for peer in config.peers}
        self.config = config
        for key in gone:
            self._forget(key)
        self.up()

    # -- peers while running

    def add_peer(self, peer: Peer) -> None:
        """Add a peer, or change one. The others notice nothing.

        Raises:
            ConfigError: its addresses belong to another peer.
            TunnelError: the interface is not up, or refuses.
        """
        others = tuple(known for known in self.config.peers if known.public_key != peer.public_key)
        config = replace(self.config, peers=(*others, peer))
        self._resolve(peer)
        if self.config.outgoing and (address := self._address(peer)) is not None:
            pin(self._run, address, self.config.outgoing)
        argv = ["wg", "set", self.interface, "peer", str(peer.public_key)]
        if peer.preshared_key is not None:
            argv += ["preshared-key", "/dev/stdin"]
        if (endpoint := self._endpoints.get(peer.public_key)) is not None:
            argv += ["endpoint", str(endpoint)]
        argv += ["persistent-keepalive", str(peer.persistent_keepalive)]
        argv += ["allowed-ips", ",".join(str(network) for network in peer.allowed_ips)]
        self._run(argv, stdin=peer.preshared_key.secret_text() + "\n" if peer.preshared_key else None)
        self.config = config
        self._routes(peer)

    def remove_peer(self, public_key: PublicKey) -> None:
        """Forget a peer at once: not one more of its packets is read. Safe to repeat."""
        self._run(["wg", "set", self.interface, "peer", str(public_key), "remove"])
        for peer in self.config.peers:
            if peer.public_key == public_key:
                for network in self._routed(peer):
                    self._quiet(["ip", "route", "del", str(network), "dev", self.interface])
        self.config = replace(
            self.config, peers=tuple(peer for peer in self.config.peers if peer.public_key != public_key)
        )
        self._forget(public_key)

    # -- looking

    def status(self) -> TunnelStatus:
        """What the system says now. An interface that is not there is a status, not an error.

        Raises:
            TunnelError: `wg` is missing or may not be asked.
        """
        if not link_exists(self._run, self.interface):
            return TunnelStatus(self.interface, up=False)
        path = control_socket(self.interface)
        try:
            text = self._run(["wg", "show", self.interface, "dump"])
        except ProgramError:
            # A wireguard-go that was killed takes its interface along a moment later, and leaves a dead socket.
            dying = path.exists() and not socket_answers(path)
            if dying or not link_exists(self._run, self.interface):
                return TunnelStatus(self.interface, up=False)
            raise
        backend = "userspace" if socket_answers(path) else "kernel"
        try:
            return parse_dump(self.interface, text, backend)
        except ValueError as error:
            raise TunnelError(str(error)) from None

    def health(self) -> TunnelHealth:
        """The health of the way to the first peer, compared with the last look at it. Raises TunnelError."""
        if not self.config.peers:
            state = TunnelState.OK if self.status().up else TunnelState.DOWN
            return TunnelHealth(state, f"{self.interface} has no peers")
        return self._look(self.status(), self.config.peers[0].public_key)

    def tick(self) -> TunnelHealth:
        """Look after the tunnel; to be called every half minute or so.

        Brings a tunnel that vanished up again, follows an endpoint's name when it moves, and renews the routes of a
        link that went and came back. Returns the health as it was found.

        Raises:
            TunnelError: it could not be mended; call again.
        """
        status = self.status()
        if not status.up:
            logger.warning("tunnel %s has vanished; bringing it up again", self.interface)
            self.up()
            return TunnelHealth(TunnelState.DOWN, f"{self.interface} had vanished and was brought up again")
        for peer in self.config.peers:
            if peer.endpoint is not None:
                self._follow(peer, status)
        self._pin_all()
        return self.health()

    # -- inside

    def _look(self, status: TunnelStatus, key: PublicKey) -> TunnelHealth:
        now = self._clock.time()
        before = self._samples.get(key)
        health = judge(status, key, now, before)
        seen = status.peer(key)
        # The base of comparison moves only when something came in: silence is measured from the last sign of life.
        if seen is not None and (before is None or seen.rx_bytes != before.peer.rx_bytes or now < before.at):
            self._samples[key] = Sample(now, seen)
        return health

    def _ensure_interface(self) -> bool:
        if link_exists(self._run, self.interface):
            self._adopt()
            return False
        reasons = []
        for backend in self._backends:
            reason = backend.unavailable()
            if reason is None:
                try:
                    backend.create(self.interface)
                except TunnelError as error:
                    reason = error.reason if isinstance(error, ProgramError) else str(error)
                else:
                    return True
            reasons.append(f"{backend.name}: {reason}")
        raise TunnelError(f"cannot make the WireGuard interface {self.interface}: " + "; ".join(reasons))

    def _adopt(self) -> None:
        try:
            owner = self._run(["wg", "show", self.interface, "public-key"]).strip()
        except ProgramError as error:
            raise TunnelError(
                f"interface {self.interface} exists and is no WireGuard interface that answers ({error.reason}); "
                "choose another name"
            ) from None
        if owner not in {str(self.config.private_key.public), "(none)"}:
            raise TunnelError(
                f"interface {self.interface} exists and carries another key; choose another name, or take it down: "
                f"ip link delete dev {self.interface}"
            )

    def _configure(self) -> None:
        text = render_wg(self.config, lambda peer: self._endpoints.get(peer.public_key))
        # syncconf changes only what differs, so it serves a new interface and a running one alike.
        self._run(["wg", "syncconf", self.interface, "/dev/stdin"], stdin=text)
        wanted = {str(address) for address in self.config.addresses}
        for link in json.loads(self._run(["ip", "-j", "address", "show", "dev", self.interface]) or "[]"):
            for entry in link.get("addr_info", []):
                address = f"{entry['local']}/{entry['prefixlen']}"
                if entry.get("scope") != "link" and address not in wanted:
                    self._run(["ip", "address", "del", address, "dev", self.interface])
        for address in sorted(wanted):
            self._run(["ip", "address", "replace", address, "dev", self.interface])
        self._run(["ip", "link", "set", "dev", self.interface, "mtu", str(self.config.mtu), "up"])
        for peer in self.config.peers:
            self._routes(peer)

    def _routed(self, peer: Peer) -> list[str]:
        """The networks of `peer` that the interface's own addresses do not already route."""
        return [
            str(network)
            for network in peer.allowed_ips
            if not any(
                network.version == own.version
                and own.network.prefixlen < own.max_prefixlen
                and network.network_address in own.network
                for own in self.config.addresses
            )
        ]

    def _routes(self, peer: Peer) -> None:
        for network in self._routed(peer):
            self._run(["ip", "route", "replace", network, "dev", self.interface])

    def _undo(self, created: bool) -> None:
        if created:
            self._quiet(["ip", "link", "delete", "dev", self.interface])
            self._unpin_all()

    def _quiet(self, argv: list[str]) -> None:
        try:
            self._run(argv)
        except TunnelError as error:
            logger.debug("%s", error)

    # -- endpoints

    def _resolve_all(self) -> None:
        for peer in self.config.peers:
            self._resolve(peer)

    def _resolve(self, peer: Peer) -> None:
        if peer.endpoint is None or peer.public_key in self._endpoints:
            return
        found = self._lookup(peer)
        self._endpoints[peer.public_key] = found[0]

    def _lookup(self, peer: Peer) -> list[Endpoint]:
        assert peer.endpoint is not None
        try:
            found = peer.endpoint.resolve(self._resolver)
        except OSError as error:
            raise TunnelError(
                f"the service's name {peer.endpoint.host} cannot be resolved ({error}); "
                "check DNS, or enrol with an address"
            ) from None
        if not found:
            raise TunnelError(f"the service's name {peer.endpoint.host} has no address")
        return found

    def _follow(self, peer: Peer, status: TunnelStatus) -> None:
        """Go where the name now points: at once when its answer changed, to the next address when one is silent."""
        assert peer.endpoint is not None
        key = peer.public_key
        current = self._endpoints.get(key)
        if peer.endpoint.address is not None and current == peer.endpoint:
            return
        seen = status.peer(key)
        age = None if seen is None or seen.latest_handshake is None else self._clock.time() - seen.latest_handshake
        silent = age is None or age > MOVED_AFTER_S
        try:
            found = self._lookup(peer)
        except TunnelError as error:
            logger.warning("%s", error)  # the address that we have may still be right
            return
        if current in found and not silent:
            return
        if current in found:
            target = found[(found.index(current) + 1) % len(found)]
        else:
            target = found[0]
        if target == current:
            return
        logger.info("peer %s moves from %s to %s", key, current, target)
        if self.config.outgoing:
            if current is not None and current.address is not None:
                unpin(self._run, current.address)
            assert target.address is not None
            pin(self._run, target.address, self.config.outgoing)
        self._run(["wg", "set", self.interface, "peer", str(key), "endpoint", str(target)])
        self._endpoints[key] = target

    def _address(self, peer: Peer) -> IPAddress | None:
        endpoint = self._endpoints.get(peer.public_key)
        return endpoint.address if endpoint else None

    def _pin_all(self) -> None:
        if self.config.outgoing is None:
            return
        for peer in self.config.peers:
            if (address := self._address(peer)) is not None:
                pin(self._run, address, self.config.outgoing)

    def _unpin_all(self) -> None:
        if self.config.outgoing is None:
            return
        for peer in self.config.peers:
            address = self._address(peer) or (peer.endpoint.address if peer.endpoint else None)
            if address is not None:
                unpin(self._run, address)

    def _forget(self, key: PublicKey) -> None:
        self._endpoints.pop(key, None)
        self._samples.pop(key, None)


__all__ = ["DEFAULT_INTERFACE", "ConfigError", "Tunnel", "TunnelError"]
