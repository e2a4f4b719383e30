"""wg-quick files: a strict reader and a writer.

One file serves both this program and `wg-quick`. What runs commands as root (PostUp and its kind), rewrites name
resolution or routes everything is refused rather than ignored: the file comes from an enrolment over a network, and a
tunnel of Headroom carries Headroom's traffic alone. Source of the format: wg(8) and wg-quick(8).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uplink.endpoint import Endpoint, EndpointError
from uplink.keyfiles import KeyFileError, read_secret, write_atomic
from uplink.wgkeys import KeyFormatError, PresharedKey, PrivateKey, PublicKey

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

T = TypeVar("T")

DEFAULT_KEEPALIVE_S = 25
# 1500 minus the outer IPv6 + UDP + WireGuard headers (80 bytes): fits IPv4 and IPv6 alike.
DEFAULT_MTU = 1420
MIN_MTU = 1280  # the least that IPv6 allows (RFC 8200, section 5)
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_=+.-]{1,15}")
# Our own settings travel in comments that wg-quick skips: `# headroom: outgoing = eth0.20`.
_OWN = re.compile(r"^#\s*headroom:\s*(?P<key>[a-z]+)\s*=\s*(?P<value>.*)$", re.IGNORECASE)
_HOOKS = frozenset({"preup", "postup", "predown", "postdown"})
_REFUSED = {
    "dns": "the tunnel changes no name resolution",
    "saveconfig": "the file is the truth; nothing writes it behind your back",
    "table": "routes follow AllowedIPs",
    "fwmark": "routes follow AllowedIPs",
}


class ConfigError(ValueError):
    """A tunnel file that cannot be used; the message names file, line and field, never a key."""


@dataclass(frozen=True)
class Peer:
    """The other end: who it is, where it is, and which addresses it may use inside the tunnel."""

    public_key: PublicKey
    allowed_ips: tuple[Network, ...]
    endpoint: Endpoint | None = None
    preshared_key: PresharedKey | None = None
    persistent_keepalive: int = 0  # seconds; 0 = off

    def __post_init__(self) -> None:
        if not 0 <= self.persistent_keepalive <= 65535:
            raise ConfigError(f"PersistentKeepalive {self.persistent_keepalive} is outside 0..65535 seconds")
        if not self.allowed_ips:
            raise ConfigError(f"peer {self.public_key} has no AllowedIPs: nothing could travel to it")
        outer = self.endpoint.address if self.endpoint else None
        for network in self.allowed_ips:
            if network.prefixlen == 0:
                raise ConfigError(f"AllowedIPs {network} would send all traffic through the tunnel; name its networks")
            if outer is not None and outer.version == network.version and outer in network:
                raise ConfigError(f"AllowedIPs {network} holds the peer's own endpoint {outer}: packets would loop")


@dataclass(frozen=True)
class TunnelConfig:
    """One WireGuard interface. `outgoing` is the interface or VLAN that the encrypted packets must leave by."""

    private_key: PrivateKey
    addresses: tuple[Address, ...]
    peers: tuple[Peer, ...] = ()
    listen_port: int | None = None
    mtu: int = DEFAULT_MTU
    outgoing: str | None = None

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigError("[Interface] has no Address")
        if self.listen_port is not None and not 1 <= self.listen_port <= 65535:
            raise ConfigError(f"ListenPort {self.listen_port} is outside 1..65535")
        if not MIN_MTU <= self.mtu <= 9000:
            raise ConfigError(f"MTU {self.mtu} is outside {MIN_MTU}..9000")
        if self.outgoing is not None:
            check_interface_name(self.outgoing)
        owners: dict[Network, PublicKey] = {}
        seen: set[PublicKey] = set()
        for peer in self.peers:
            if peer.public_key in seen:
                raise ConfigError(f"peer {peer.public_key} appears twice")
            seen.add(peer.public_key)
            for network in peer.allowed_ips:
                # The kernel would silently move the address to the later peer.
                if network in owners:
                    raise ConfigError(
                        f"AllowedIPs {network} belongs to two peers: {owners[network]}, {peer.public_key}"
                    )
                owners[network] = peer.public_key


def check_interface_name(name: str) -> str:
    """`name` when Linux can have an interface called so (15 characters, no slash or space). Raises ConfigError."""
    if not _INTERFACE_NAME.fullmatch(name) or name in {".", ".."}:
        raise ConfigError(f"{name!r} cannot be an interface name: 1 to 15 of letters, digits and _ = + . -")
    return name


def render(config: TunnelConfig) -> str:
    """The file for wg-quick. Holds the private key: write it with `save` alone."""
    lines = ["[Interface]", f"PrivateKey = {config.private_key.secret_text()}"]
    lines.append("Address = " + ", ".join(str(address) for address in config.addresses))
    lines.append(f"MTU = {config.mtu}")
    if config.listen_port is not None:
        lines.append(f"ListenPort = {config.listen_port}")
    if config.outgoing is not None:
        lines.append(f"# headroom: outgoing = {config.outgoing}")
    for peer in config.peers:
        lines += ["", "[Peer]", *_peer_lines(peer)]
    return "\n".join(lines) + "\n"


def render_wg(config: TunnelConfig, endpoints: Callable[[Peer], Endpoint | None]) -> str:
    """What `wg setconf` and `wg syncconf` take: no wg-quick fields, and `endpoints(peer)` as a bare address."""
    lines = ["[Interface]", f"PrivateKey = {config.private_key.secret_text()}"]
    if config.listen_port is not None:
        lines.append(f"ListenPort = {config.listen_port}")
    for peer in config.peers:
        lines += ["[Peer]", *_peer_lines(peer, endpoints(peer))]
    return "\n".join(lines) + "\n"


_SAME = Endpoint("same.invalid", 1)


def _peer_lines(peer: Peer, endpoint: Endpoint | None = _SAME) -> Iterator[str]:
    endpoint = peer.endpoint if endpoint is _SAME else endpoint
    yield f"PublicKey = {peer.public_key}"
    if peer.preshared_key is not None:
        yield f"PresharedKey = {peer.preshared_key.secret_text()}"
    yield "AllowedIPs = " + ", ".join(str(network) for network in peer.allowed_ips)
    if endpoint is not None:
        yield f"Endpoint = {endpoint}"
    if peer.persistent_keepalive:
        yield f"PersistentKeepalive = {peer.persistent_keepalive}"


def parse(text: str, source: str = "tunnel file") -> TunnelConfig:
    """Read a wg-quick file. Raises ConfigError naming `source`, line and field for anything not understood."""
    interface: _Fields | None = None
    peers: list[_Fields] = []
    current: _Fields | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{source}, line {number}"
        own = _OWN.match(line.strip())
        stripped = line.strip() if own else line.partition("#")[0].strip()
        if not stripped:
            continue
        if stripped.lower() == "[interface]":
            if interface is not None:
                raise ConfigError(f"{where}: a second [Interface]")
            interface = current = _Fields(where, {})
        elif stripped.lower() == "[peer]":
            current = _Fields(where, {})
            peers.append(current)
        elif current is None:
            raise ConfigError(f"{where}: the file must begin with [Interface]")
        else:
            _take(current, own, stripped, where)
    if interface is None:
        raise ConfigError(f"{source}: there is no [Interface]")
    try:
        config = _interface(interface, tuple(_peer(fields) for fields in peers))
    except ConfigError as error:
        raise error if str(error).startswith(source) else ConfigError(f"{source}: {error}") from None
    return config


@dataclass
class _Fields:
    where: str
    values: dict[str, tuple[str, str]]  # lower-case key -> (where, value)

    def pop(self, key: str) -> tuple[str, str] | None:
        return self.values.pop(key, None)

    def must(self, key: str, section: str) -> tuple[str, str]:
        found = self.pop(key.lower())
        if found is None:
            raise ConfigError(f"{self.where}: [{section}] has no {key}")
        return found

    def finish(self, section: str) -> None:
        for key, (where, _) in self.values.items():
            if key in _HOOKS:
                raise ConfigError(f"{where}: {key} runs commands as root and is refused; remove the line")
            reason = _REFUSED.get(key, f"[{section}] knows no such field")
            raise ConfigError(f"{where}: {key} is refused: {reason}; remove the line")


def _take(fields: _Fields, own: re.Match[str] | None, stripped: str, where: str) -> None:
    if own:
        key, value = "headroom:" + own["key"].lower(), own["value"].strip()
    else:
        name, separator, value = stripped.partition("=")
        key, value = name.strip().lower(), value.strip()
        if not separator or not key.isalnum() or not value:
            raise ConfigError(f"{where}: expected `Field = value`")
    if key in fields.values:
        if key not in {"address", "allowedips"}:
            raise ConfigError(f"{where}: {key} appears twice")
        value = fields.values[key][1] + ", " + value
    fields.values[key] = (where, value)


def _interface(fields: _Fields, peers: tuple[Peer, ...]) -> TunnelConfig:
    private_key = _convert(fields.must("PrivateKey", "Interface"), "PrivateKey", PrivateKey.parse)
    addresses = _convert(fields.must("Address", "Interface"), "Address", _many(ipaddress.ip_interface))
    port, mtu, outgoing = fields.pop("listenport"), fields.pop("mtu"), fields.pop("headroom:outgoing")
    config = TunnelConfig(
        private_key=private_key,
        addresses=addresses,
        peers=peers,
        listen_port=_convert(port, "ListenPort", _number) if port else None,
        mtu=_convert(mtu, "MTU", _number) if mtu else DEFAULT_MTU,
        outgoing=outgoing[1] if outgoing else None,
    )
    fields.finish("Interface")
    return config


def _peer(fields: _Fields) -> Peer:
    psk, endpoint, keepalive = (fields.pop(key) for key in ("presharedkey", "endpoint", "persistentkeepalive"))
    off = keepalive is not None and keepalive[1].lower() == "off"
    peer = Peer(
        public_key=_convert(fields.must("PublicKey", "Peer"), "PublicKey", PublicKey.parse),
        allowed_ips=_convert(fields.must("AllowedIPs", "Peer"), "AllowedIPs", _many(ipaddress.ip_network)),
        endpoint=_convert(endpoint, "Endpoint", Endpoint.parse) if endpoint else None,
        preshared_key=_convert(psk, "PresharedKey", PresharedKey.parse) if psk else None,
        persistent_keepalive=_convert(keepalive, "PersistentKeepalive", _number) if keepalive and not off else 0,
    )
    fields.finish("Peer")
    return peer


def _convert(found: tuple[str, str], field: str, reader: Callable[[str], T]) -> T:
    where, value = found
    try:
        return reader(value)
    except (KeyFormatError, EndpointError) as error:
        raise ConfigError(f"{where}: {field}: {error}") from None
    except ValueError:
        raise ConfigError(f"{where}: {field}: {value!r} is not usable here") from None


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise ValueError(text)
    return int(text)


def _many(reader: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(reader(part.strip()) for part in text.split(","))


def save(path: Path, config: TunnelConfig) -> None:
    """Write `config` whole or not at all, with mode 0600. Raises OSError."""
    write_atomic(path, render(config).encode())


def load(path: Path) -> TunnelConfig:
    """Read the file of a tunnel. Raises ConfigError when it is absent, readable by others, or not understood."""
    try:
        return parse(read_secret(path).decode(), str(path))
    except KeyFileError as error:
        raise ConfigError(str(error)) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text") from None
