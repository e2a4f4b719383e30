"""What `wg` reports, and what it means: pure functions.

HTTP errors cannot tell a wrong key from a cut cable (both are a connect time-out), so health is judged from the age of
the last handshake and the received bytes. Constants of the protocol: a session lives at most 180 s (REJECT_AFTER_TIME),
a new handshake is tried every 5 s (REKEY_TIMEOUT) with 148 bytes; with a keepalive there is one about every 120 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from uplink.wgkeys import PublicKey

SESSION_LIFE_S = 180.0
HANDSHAKE_BYTES = 148
# Two unanswered handshake messages: 10 s of silence in which this side did speak.
_UNANSWERED_BYTES = 2 * HANDSHAKE_BYTES


class TunnelState(StrEnum):
    OK = "ok"
    NEVER = "never"
    STALE = "stale"
    DOWN = "down"


@dataclass(frozen=True)
class PeerStatus:
    """One peer as `wg show INTERFACE dump` gives it. Times in seconds since 1970, None = no handshake ever."""

    public_key: PublicKey
    endpoint: str | None
    allowed_ips: tuple[str, ...]
    latest_handshake: float | None
    rx_bytes: int
    tx_bytes: int
    persistent_keepalive: int


@dataclass(frozen=True)
class TunnelStatus:
    """One interface; ``up`` is False and the rest empty when it does not exist."""

    interface: str
    up: bool
    backend: str | None = None
    public_key: PublicKey | None = None
    listen_port: int | None = None
    peers: tuple[PeerStatus, ...] = ()

    def peer(self, public_key: PublicKey) -> PeerStatus | None:
        return next((peer for peer in self.peers if peer.public_key == public_key), None)


@dataclass(frozen=True)
class TunnelHealth:
    state: TunnelState
    words: str


@dataclass(frozen=True)
class Sample:
    """A look at one peer, to compare the next one with. ``at``: seconds since 1970."""

    at: float
    peer: PeerStatus


def parse_dump(interface: str, text: str, backend: str) -> TunnelStatus:
    """Read `wg show INTERFACE dump` (tab separated; wg(8)). The private and preshared keys in it are dropped here.

    Raises:
        ValueError: not such a dump.
    """
    lines = [line.split("\t") for line in text.splitlines() if line]
    if not lines or len(lines[0]) != 4 or any(len(line) != 8 for line in lines[1:]):
        raise ValueError(f"unexpected output of `wg show {interface} dump`")
    _, public, port, _ = lines[0]
    return TunnelStatus(
        interface=interface,
        up=True,
        backend=backend,
        public_key=None if public == "(none)" else PublicKey.parse(public),
        listen_port=int(port) or None,
        peers=tuple(_peer(line) for line in lines[1:]),
    )


def _peer(line: list[str]) -> PeerStatus:
    public, _, endpoint, allowed, handshake, received, sent, keepalive = line
    return PeerStatus(
        public_key=PublicKey.parse(public),
        endpoint=None if endpoint == "(none)" else endpoint,
        allowed_ips=() if allowed == "(none)" else tuple(allowed.split(",")),
        latest_handshake=float(handshake) if int(handshake) else None,
        rx_bytes=int(received),
        tx_bytes=int(sent),
        persistent_keepalive=0 if keepalive == "off" else int(keepalive),
    )


def judge(status: TunnelStatus, peer: PublicKey, now: float, before: Sample | None = None) -> TunnelHealth:
    """The health of the way to `peer`, with words that say what to check.

    `now` is in seconds since 1970; `before` is an earlier look at the same peer, which finds a cut within seconds
    instead of three minutes.
    """
    if not status.up:
        return TunnelHealth(
            TunnelState.DOWN,
            f"interface {status.interface} does not exist: the tunnel is not up or wireguard-go has ended; "
            "run: headroom tunnel up",
        )
    seen = status.peer(peer)
    if seen is None:
        return TunnelHealth(
            TunnelState.DOWN, f"{status.interface} does not know the peer {peer}: run: headroom tunnel up"
        )
    if seen.latest_handshake is None:
        if seen.tx_bytes == 0:
            return TunnelHealth(TunnelState.NEVER, "nothing was sent yet: no endpoint, or no reason to speak")
        return TunnelHealth(TunnelState.NEVER, _never(seen))
    age = now - seen.latest_handshake
    if before is not None and _silent(before, seen, now):
        return TunnelHealth(
            TunnelState.STALE,
            f"nothing came back from {seen.endpoint} for {now - before.at:.0f} s although we spoke: "
            "check the cable, the way to the service, and that the service runs",
        )
    if age > SESSION_LIFE_S:
        return TunnelHealth(
            TunnelState.STALE,
            f"the last handshake with {seen.endpoint} was {age:.0f} s ago: check the network and the service; "
            "if both are well, this sensor may have been revoked or the clock has jumped",
        )
    return TunnelHealth(TunnelState.OK, f"handshake {max(age, 0):.0f} s ago, {seen.rx_bytes} bytes received")


def _never(seen: PeerStatus) -> str:
    if seen.rx_bytes:
        return (
            f"{seen.endpoint} answers, but no handshake succeeds: the public key or preshared key differs; enrol again"
        )
    return (
        f"no answer from {seen.endpoint or 'the peer'} ({seen.tx_bytes} bytes sent): the address or UDP port is wrong "
        "or blocked, the service's tunnel is down, or a key differs (WireGuard does not answer strangers)"
    )


def _silent(before: Sample, seen: PeerStatus, now: float) -> bool:
    return (
        now - before.at >= 10.0
        and seen.rx_bytes == before.peer.rx_bytes
        and seen.tx_bytes - before.peer.tx_bytes >= _UNANSWERED_BYTES
    )
