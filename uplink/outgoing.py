"""Encrypted packets leave by one named interface or VLAN, or not at all.

A route to the one address of the endpoint goes through the interface, and an `unreachable` route of the worst metric
stands behind it: when the link drops, the kernel removes the first, and the second keeps the packets from another way
out. No mark, rule or table is needed, so it is the same for the kernel module and wireguard-go, it works in a
container, and strict reverse-path filtering accepts the answers. It holds for all traffic to that address.
"""

from __future__ import annotations

import ipaddress
import json

from uplink.endpoint import IPAddress
from uplink.wg_backends import ProgramError, Run, TunnelError

WORST_METRIC = "4294967294"
METRIC = "1"


def pin(run: Run, address: IPAddress, outgoing: str) -> None:
    """Route `address` through `outgoing` alone. Safe to repeat. Raises TunnelError when the interface is not there."""
    family = f"-{address.version}"
    host = f"{address}/{address.max_prefixlen}"
    run(["ip", family, "route", "replace", "unreachable", host, "metric", WORST_METRIC])
    way = ["dev", outgoing]
    gateway = _gateway(run, address, outgoing)
    if gateway is not None:
        way = ["via", gateway, *way]
    try:
        run(["ip", family, "route", "replace", host, *way, "metric", METRIC])
    except ProgramError as error:
        raise TunnelError(f"no way to {address} through {outgoing}: {error.reason}; is the link up?") from None


def unpin(run: Run, address: IPAddress) -> None:
    """Take both routes away. Safe to repeat."""
    host = f"{address}/{address.max_prefixlen}"
    for kind in (["unreachable", host, "metric", WORST_METRIC], [host, "metric", METRIC]):
        try:
            run(["ip", f"-{address.version}", "route", "del", *kind])
        except ProgramError as error:
            if "No such process" not in error.reason:
                raise


def _gateway(run: Run, address: IPAddress, outgoing: str) -> str | None:
    """The next hop behind `outgoing`: None when the address is on the link itself or there is no router."""
    family = f"-{address.version}"
    try:
        links = json.loads(run(["ip", "-j", family, "address", "show", "dev", outgoing]) or "[]")
    except ProgramError as error:
        raise TunnelError(
            f"interface {outgoing} is not there ({error.reason}); for VLAN 20 of eth0: "
            "ip link add link eth0 name eth0.20 type vlan id 20"
        ) from None
    for link in links:
        for entry in link.get("addr_info", []):
            if address in ipaddress.ip_network(f"{entry['local']}/{entry['prefixlen']}", strict=False):
                return None
    routes = json.loads(run(["ip", "-j", family, "route", "show", "default", "dev", outgoing]) or "[]")
    gateways = [str(route["gateway"]) for route in routes if "gateway" in route]
    return gateways[0] if gateways else None
