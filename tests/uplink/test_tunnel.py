"""The tunnel's decisions, told by the commands it gives: no root and no WireGuard needed."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from uplink.endpoint import Endpoint, IPAddress
from uplink.outgoing import METRIC, WORST_METRIC, pin
from uplink.tunnel import Tunnel
from uplink.tunnel_health import PeerStatus, Sample, TunnelState, TunnelStatus, judge, parse_dump
from uplink.wg_backends import (
    KernelBackend,
    ProgramError,
    PythonWireguardBackend,
    TunnelError,
    default_backends,
    system_run,
)
from uplink.wgconf import ConfigError, Peer, TunnelConfig
from uplink.wgkeys import PresharedKey, PrivateKey, PublicKey

OWN, SERVICE = PrivateKey(b"\x11" * 32), PrivateKey(b"\x22" * 32)
PSK = PresharedKey(b"\x33" * 32)
NOW = 1_800_000_000.0


class Machine:
    """Answers the programs as Linux would: knows links, routes and what `wg` was told."""

    def __init__(self) -> None:
        self.links: set[str] = {"eth0", "eth0.20"}
        self.kernel = True
        self.calls: list[list[str]] = []
        self.stdin: list[str] = []
        self.public = str(OWN.public)
        self.dump = ""
        self.fail: dict[str, str] = {}

    def __call__(self, argv: Sequence[str], *, stdin: str | None = None) -> str:
        argv = list(argv)
        self.calls.append(argv)
        self.stdin.append(stdin or "")
        line = " ".join(argv)
        for start, reason in self.fail.items():
            if line.startswith(start):
                raise ProgramError(f"{line}: {reason}", reason)
        match argv:
            case ["ip", "-j", "link", "show", "dev", name]:
                return self._known(name, "[]")
            case ["ip", "link", "add", "dev", name, "type", "wireguard"]:
                if not self.kernel:
                    raise ProgramError(line, "Error: Unknown device type.")
                self.links.add(name)
            case ["ip", "link", "delete", "dev", name]:
                self.links.discard(name)
            case ["ip", "-j", "-4", "address", "show", "dev", name]:
                return self._known(name, json.dumps([{"addr_info": [{"local": "198.51.100.7", "prefixlen": 24}]}]))
            case ["ip", "-j", "-4", "route", "show", "default", "dev", _]:
                return json.dumps([{"dst": "default", "gateway": "198.51.100.1"}])
            case ["wg", "show", _, "public-key"]:
                return self.public + "\n"
            case ["wg", "show", _, "dump"]:
                return self.dump
        return ""

    def _known(self, name: str, answer: str) -> str:
        if name not in self.links:
            raise ProgramError(f"ip: {name}", f'Device "{name}" does not exist.')
        return answer

    def told(self, *start: str) -> list[list[str]]:
        return [call for call in self.calls if call[: len(start)] == list(start)]


class Hands:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def peer(endpoint: str | None = "192.0.2.1:51820", address: str = "10.77.0.1/32", psk: bool = True) -> Peer:
    return Peer(
        SERVICE.public,
        (ipaddress.ip_network(address),),
        Endpoint.parse(endpoint) if endpoint else None,
        PSK if psk else None,
        25,
    )


def config(one: Peer | None = None, **changes: object) -> TunnelConfig:
    return replace(
        TunnelConfig(OWN, (ipaddress.ip_interface("10.77.0.2/32"),), (one or peer(),)),
        **changes,  # type: ignore[arg-type]
    )


def tunnel(machine: Machine, settings: TunnelConfig | None = None, **options: object) -> Tunnel:
    backends = [KernelBackend(machine)]
    return Tunnel("wg7", settings or config(), run=machine, backends=backends, **options)  # type: ignore[arg-type]


def dump(handshake: float, received: int = 500, sent: int = 500, endpoint: str = "192.0.2.1:51820") -> str:
    own = f"{OWN.secret_text()}\t{OWN.public}\t4242\toff"
    other = f"{SERVICE.public}\t{PSK.secret_text()}\t{endpoint}\t10.77.0.1/32\t{int(handshake)}\t{received}\t{sent}\t25"
    return f"{own}\n{other}\n"


# -- up and down


def test_up_gives_the_steps_in_order_and_no_secret_as_an_argument() -> None:
    machine = Machine()
    tunnel(machine).up()
    steps = [" ".join(call[:3]) for call in machine.calls]
    order = ["ip link add", "wg syncconf wg7", "ip address replace", "ip link set", "ip route replace"]
    assert [step for step in steps if step in order] == order
    assert machine.told("ip", "address", "replace") == [["ip", "address", "replace", "10.77.0.2/32", "dev", "wg7"]]
    assert machine.told("ip", "route", "replace") == [["ip", "route", "replace", "10.77.0.1/32", "dev", "wg7"]]
    everything = json.dumps(machine.calls)
    assert OWN.secret_text() not in everything
    assert PSK.secret_text() not in everything
    given = machine.stdin[steps.index("wg syncconf wg7")]
    assert f"PrivateKey = {OWN.secret_text()}" in given
    assert "Address" not in given


def test_failing_to_come_up_says_why_and_leaves_nothing() -> None:
    machine = Machine()
    machine.kernel = False
    with pytest.raises(TunnelError, match=r"kernel: Error: Unknown device type"):
        tunnel(machine).up()
    machine = Machine()
    machine.fail["wg syncconf"] = "Operation not permitted"
    with pytest.raises(TunnelError, match="not permitted"):
        tunnel(machine).up()
    assert "wg7" not in machine.links


def test_the_next_backend_is_tried_and_all_reasons_are_told() -> None:
    class Refuses:
        name = "first"

        def unavailable(self) -> str | None:
            return "not on this machine"

        def create(self, interface: str) -> None:
            raise AssertionError("must not be asked")

    machine = Machine()
    Tunnel("wg7", config(), run=machine, backends=[Refuses(), KernelBackend(machine)]).up()
    assert "wg7" in machine.links
    machine.kernel = False
    machine.links.clear()
    with pytest.raises(TunnelError, match=r"first: not on this machine; kernel: Error"):
        Tunnel("wg7", config(), run=machine, backends=[Refuses(), KernelBackend(machine)]).up()


def test_a_running_interface_is_adopted_when_it_is_ours_alone() -> None:
    machine = Machine()
    machine.links.add("wg7")
    tunnel(machine).up()
    assert not machine.told("ip", "link", "add")
    assert machine.told("wg", "syncconf")
    machine.public = str(SERVICE.public)
    with pytest.raises(TunnelError, match="carries another key"):
        tunnel(machine).up()
    assert "wg7" in machine.links
    machine.fail["wg show wg7 public-key"] = "Operation not supported"
    with pytest.raises(TunnelError, match="no WireGuard interface"):
        tunnel(machine).up()


def test_down_is_safe_to_repeat() -> None:
    machine = Machine()
    ours = tunnel(machine)
    ours.up()
    ours.down()
    ours.down()
    assert "wg7" not in machine.links
    assert len(machine.told("ip", "link", "delete")) == 1
    assert not ours.status().up


def test_a_name_that_does_not_resolve_is_a_reason() -> None:
    def nothing(name: str, port: int) -> list[IPAddress]:
        raise OSError("Temporary failure in name resolution")

    machine = Machine()
    with pytest.raises(TunnelError, match="cannot be resolved"):
        tunnel(machine, config(peer("counts.example.org:51820")), resolver=nothing).up()
    assert "wg7" not in machine.links


# -- peers while running


def test_peers_come_and_go_without_touching_the_others() -> None:
    machine = Machine()
    service = tunnel(machine, config(peers=(), addresses=(ipaddress.ip_interface("10.77.0.1/16"),)))
    service.up()
    machine.calls.clear()
    sensor = Peer(SERVICE.public, (ipaddress.ip_network("10.77.0.9/32"),), preshared_key=PSK)
    service.add_peer(sensor)
    service.remove_peer(SERVICE.public)
    said = [" ".join(call) for call in machine.calls]
    assert said == [
        f"wg set wg7 peer {SERVICE.public} preshared-key /dev/stdin persistent-keepalive 0 allowed-ips 10.77.0.9/32",
        f"wg set wg7 peer {SERVICE.public} remove",
    ]
    assert service.config.peers == ()


def test_an_address_cannot_be_taken_from_another_peer() -> None:
    machine = Machine()
    ours = tunnel(machine)
    ours.up()
    machine.calls.clear()
    thief = Peer(PrivateKey.generate().public, (ipaddress.ip_network("10.77.0.1/32"),))
    with pytest.raises(ConfigError, match="belongs to two peers"):
        ours.add_peer(thief)
    assert machine.calls == []


# -- a moving endpoint


def test_follows_a_name_that_moves_and_the_next_address_when_one_is_silent() -> None:
    answers = [[ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")]]
    machine, hands = Machine(), Hands()
    ours = tunnel(
        machine, config(peer("counts.example.org:51820")), resolver=lambda name, port: list(answers[-1]), clock=hands
    )
    ours.up()
    machine.dump = dump(NOW - 10)
    ours.tick()
    assert not machine.told("wg", "set")  # healthy: stay

    machine.dump = dump(NOW - 140)
    ours.tick()
    assert machine.told("wg", "set")[-1][-1] == "192.0.2.2:51820"  # silent: the name's other address

    machine.dump = dump(NOW - 5)
    answers.append([ipaddress.ip_address("203.0.113.5")])
    ours.tick()
    assert machine.told("wg", "set")[-1][-1] == "203.0.113.5:51820"  # moved: at once

    count = len(machine.told("wg", "set"))
    answers.append([])
    machine.dump = dump(NOW - 300)
    ours.tick()  # DNS is out: what we have may still be right
    assert len(machine.told("wg", "set")) == count


def test_a_tunnel_that_vanished_comes_back() -> None:
    machine = Machine()
    ours = tunnel(machine)
    ours.up()
    machine.links.discard("wg7")
    assert ours.tick().state is TunnelState.DOWN
    assert "wg7" in machine.links


def test_an_interface_that_dies_while_it_is_asked_is_down_and_not_an_error() -> None:
    machine = Machine()
    ours = tunnel(machine)
    ours.up()
    machine.fail["wg show wg7 dump"] = "Unable to access interface: Protocol not supported"
    with pytest.raises(TunnelError, match="Protocol not supported"):
        ours.status()  # it is there and cannot be read: that must be said

    def dying(argv: Sequence[str], *, stdin: str | None = None) -> str:
        if list(argv[:2]) == ["wg", "show"]:
            machine.links.discard("wg7")
        return machine(argv, stdin=stdin)

    assert not Tunnel("wg7", config(), run=dying, backends=[]).status().up


# -- leaving by one interface


def test_outgoing_traffic_is_pinned_before_anything_is_sent() -> None:
    machine = Machine()
    ours = tunnel(machine, config(outgoing="eth0.20"))
    ours.up()
    routes = [call for call in machine.calls if "route" in call and "replace" in call]
    assert routes[:2] == [
        ["ip", "-4", "route", "replace", "unreachable", "192.0.2.1/32", "metric", WORST_METRIC],
        *[["ip", "-4", "route", "replace", "192.0.2.1/32", "via", "198.51.100.1", "dev", "eth0.20", "metric", METRIC]],
    ]
    assert machine.calls.index(routes[1]) < machine.calls.index(machine.told("wg", "syncconf")[0])
    ours.down()
    assert machine.calls[-1] == ["ip", "-4", "route", "del", "192.0.2.1/32", "metric", METRIC]


def test_an_endpoint_on_the_link_needs_no_gateway_and_a_missing_vlan_is_explained() -> None:
    machine = Machine()
    pin(machine, ipaddress.ip_address("198.51.100.9"), "eth0.20")
    assert machine.calls[-1] == ["ip", "-4", "route", "replace", "198.51.100.9/32", "dev", "eth0.20", "metric", METRIC]
    with pytest.raises(TunnelError, match=r"ip link add link eth0 name eth0\.20 type vlan id 20"):
        pin(machine, ipaddress.ip_address("198.51.100.9"), "eth9.20")


# -- health


def status(**values: object) -> TunnelStatus:
    entry = PeerStatus(SERVICE.public, "192.0.2.1:51820", ("10.77.0.1/32",), NOW - 30, 1_000, 1_000, 25)
    return TunnelStatus("wg7", True, "kernel", OWN.public, 1, (replace(entry, **values),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        ({}, TunnelState.OK, "handshake 30 s ago"),
        ({"latest_handshake": NOW - 181}, TunnelState.STALE, "181 s ago"),
        ({"latest_handshake": None}, TunnelState.NEVER, "no handshake succeeds"),
        ({"latest_handshake": None, "rx_bytes": 0}, TunnelState.NEVER, "a key differs"),
        ({"latest_handshake": None, "rx_bytes": 0, "tx_bytes": 0}, TunnelState.NEVER, "nothing was sent"),
        ({"latest_handshake": NOW + 500}, TunnelState.OK, "handshake 0 s ago"),
    ],
)
def test_health(values: dict[str, object], state: TunnelState, words: str) -> None:
    health = judge(status(**values), SERVICE.public, NOW)
    assert health.state is state
    assert words in health.words


def test_health_without_an_interface_or_peer() -> None:
    assert judge(TunnelStatus("wg7", False), SERVICE.public, NOW).state is TunnelState.DOWN
    assert "does not know the peer" in judge(status(), OWN.public, NOW).words


def test_a_cut_shows_long_before_the_session_ends() -> None:
    before = Sample(NOW - 15, status().peers[0])
    cut = status(tx_bytes=1_000 + 3 * 148)
    assert judge(cut, SERVICE.public, NOW, before).state is TunnelState.STALE
    assert judge(status(tx_bytes=1_032), SERVICE.public, NOW, before).state is TunnelState.OK  # a keepalive alone
    assert judge(status(tx_bytes=2_000, rx_bytes=1_092), SERVICE.public, NOW, before).state is TunnelState.OK


def test_silence_is_measured_from_the_last_sign_of_life() -> None:
    machine, hands = Machine(), Hands()
    ours = tunnel(machine, clock=hands)
    ours.up()
    machine.dump = dump(NOW - 1, received=100, sent=100)
    assert ours.health().state is TunnelState.OK
    for second in range(1, 6):
        hands.now = NOW + 5 * second
        machine.dump = dump(NOW - 1, received=100, sent=100 + 148 * second)
        last = ours.health()
    assert last.state is TunnelState.STALE
    assert "25 s" in last.words


def test_the_dump_is_read_without_its_secrets() -> None:
    seen = parse_dump("wg7", dump(NOW), "userspace")
    assert seen.peers[0].latest_handshake == NOW
    assert seen.listen_port == 4242
    assert OWN.secret_text() not in repr(seen)
    assert PSK.secret_text() not in repr(seen)
    for broken in ("", "a\tb\n", dump(NOW) + "x\ty\n"):
        with pytest.raises(ValueError, match="unexpected output"):
            parse_dump("wg7", broken, "kernel")


# -- programs


def test_a_program_that_is_missing_or_fails_is_a_reason() -> None:
    with pytest.raises(TunnelError, match="not installed"):
        system_run(["headroom-no-such-program"])
    with pytest.raises(ProgramError, match="exit code 3"):
        system_run([sys.executable, "-c", "raise SystemExit(3)"])
    assert system_run([sys.executable, "-c", "print(input())"], stdin="through\n") == "through\n"


def test_python_wireguard_cannot_take_us_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its library ends the process it is in: that process is never ours."""
    (tmp_path / "python_wireguard.py").write_text(
        "import os\nclass Key:\n    key_pair = staticmethod(lambda: (1, 2))\n"
        "class Server:\n    def __init__(self, *a): pass\n"
        "    def enable(self):\n        print('Unable to add device', flush=True); os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    machine = Machine()

    def run(argv: Sequence[str], *, stdin: str | None = None) -> str:
        if argv[0] == sys.executable:
            code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from uplink.wg_python_child import main; "
            return system_run([sys.executable, "-c", code + "main(['wg7'])"])
        return machine(argv, stdin=stdin)

    with pytest.raises(TunnelError, match="python-wireguard made no interface wg7: Unable to add device"):
        Tunnel("wg7", config(), run=run, backends=[PythonWireguardBackend(run)]).up()


def test_backends_by_name() -> None:
    assert [backend.name for backend in default_backends()] == ["kernel", "userspace"]
    assert [backend.name for backend in default_backends(name="python-wireguard")] == ["python-wireguard"]
    with pytest.raises(TunnelError, match="unknown"):
        default_backends(name="magic")


def test_public_keys_name_peers() -> None:
    assert status().peer(PublicKey.parse(str(SERVICE.public))) is not None
    assert status().peer(OWN.public) is None
