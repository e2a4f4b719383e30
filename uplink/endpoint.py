"""Where a peer can be reached: an address or a name, and which way the packets leave this machine."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# name, port -> addresses, best first; raises OSError where the name cannot be resolved.
Resolver = Callable[[str, int], list[IPAddress]]

_LABEL = re.compile(r"^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$")


class EndpointError(ValueError):
    """The text is no ``HOST:PORT``."""


@dataclass(frozen=True)
class Endpoint:
    """``host`` is an IPv4 or IPv6 address without brackets, or a DNS name; ``port`` is 1..65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``192.0.2.1:51820``, ``[2001:db8::1]:51820`` or ``vpn.example.org:51820``. Raises EndpointError."""
        text = text.strip()
        host, separator, port_text = text.rpartition(":")
        if not separator or not port_text.isascii() or not port_text.isdigit():
            raise EndpointError(f"{text!r} has no port; write it as HOST:PORT, e.g. 192.0.2.1:51820")
        port = int(port_text)
        if not 1 <= port <= 65535:
            raise EndpointError(f"{text!r}: the port must be 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            try:
                return cls(str(ipaddress.IPv6Address(host[1:-1])), port)
            except ValueError:
                raise EndpointError(f"{text!r}: no IPv6 address between the brackets") from None
        if ":" in host:
            raise EndpointError(f"{text!r}: write an IPv6 address in brackets, e.g. [2001:db8::1]:51820")
        return cls(_host(host, text), port)

    @property
    def address(self) -> IPAddress | None:
        """The address, or None where the host is a name that must be resolved."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def resolve(self, resolver: Resolver | None = None) -> list[Endpoint]:
        """All addresses behind the host, best first; itself for an address. Raises OSError when a name has none."""
        if self.address is not None:
            return [self]
        found = (resolver or system_resolver)(self.host, self.port)
        return [Endpoint(str(address), self.port) for address in found]


def _host(host: str, text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    labels = host.rstrip(".").split(".")
    looks_numeric = all(label.isdigit() for label in labels)
    if looks_numeric or len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        raise EndpointError(f"{text!r}: {host!r} is neither an IPv4 address nor a host name")
    return host.lower()


def system_resolver(name: str, port: int) -> list[IPAddress]:
    """The system's addresses of `name` in its order of preference, each once. Raises OSError."""
    infos = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
    unique = dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos)
    return [ipaddress.ip_address(text) for text in unique]
