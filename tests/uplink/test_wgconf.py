"""Keys, endpoints and tunnel files: what is accepted, what is refused, and that no key ever shows."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uplink.endpoint import Endpoint, EndpointError
from uplink.wgconf import ConfigError, Peer, TunnelConfig, check_interface_name, load, parse, render, render_wg, save
from uplink.wgkeys import KeyFormatError, PresharedKey, PrivateKey, PublicKey

PRIVATE = PrivateKey(bytes(range(32)))
OTHER = PrivateKey(bytes(range(1, 33)))
FILE = f"""[Interface]
PrivateKey = {PRIVATE.secret_text()}
Address = 10.77.0.2/32
# a remark
ListenPort = 51820
# headroom: outgoing = eth0.20

[Peer]
PublicKey = {OTHER.public}   # the service
AllowedIPs = 10.77.0.1/32, fd00::1/128
Endpoint = counts.example.org:51820
PersistentKeepalive = 25
"""


def config(**changes: object) -> TunnelConfig:
    peer = Peer(OTHER.public, (ipaddress.ip_network("10.77.0.1/32"),), Endpoint("192.0.2.1", 51820))
    values: dict[str, object] = {
        "private_key": PRIVATE,
        "addresses": (ipaddress.ip_interface("10.77.0.2/32"),),
        "peers": (peer,),
    }
    return TunnelConfig(**{**values, **changes})  # type: ignore[arg-type]


# -- keys


@pytest.mark.skipif(shutil.which("wg") is None, reason="wireguard-tools is not installed")
def test_public_keys_equal_those_of_the_wireguard_tools() -> None:
    for private in (PRIVATE, OTHER, *(PrivateKey.generate() for _ in range(5))):
        told = subprocess.run(["wg", "pubkey"], input=private.secret_text(), capture_output=True, text=True, check=True)
        assert told.stdout.strip() == str(private.public)
        assert PublicKey.parse(told.stdout) == private.public


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!" * 44, "not base64"),
        ("", "0 bytes"),
        (base64.b64encode(bytes(32)).decode(), "all zero"),
        (base64.b64encode(bytes(31) + b"\x01").decode()[:-4], "30 bytes"),
        (base64.b64encode(os.urandom(33)).decode(), "33 bytes"),
        (base64.b64encode(b"\x01" * 32).decode().replace("=", ""), "not base64"),
        ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQF=", "not canonical"),
    ],
)
def test_broken_keys_are_refused(text: str, reason: str) -> None:
    for kind in (PublicKey, PrivateKey, PresharedKey):
        with pytest.raises(KeyFormatError, match=reason):
            kind.parse(text)


def test_points_of_small_order_are_no_public_keys() -> None:
    for raw in (b"\x01" + bytes(31), bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")):
        with pytest.raises(KeyFormatError, match="small order"):
            PublicKey(raw)


def test_secrets_do_not_show() -> None:
    secret = PRIVATE.secret_text()
    shown = [repr(PRIVATE), str(PRIVATE), repr(config()), repr(PresharedKey(PRIVATE.raw))]
    assert not any(secret in text or PRIVATE.raw.hex() in text or repr(PRIVATE.raw) in text for text in shown)
    for broken in (FILE.replace("ListenPort", "Nonsense"), FILE.replace(secret, secret[:-3] + "!!=")):
        with pytest.raises(ConfigError) as caught:
            parse(broken)
        assert secret[:20] not in str(caught.value)


# -- endpoints


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:51820", "192.0.2.1", 51820),
        ("[2001:db8::1]:1", "2001:db8::1", 1),
        ("Counts.Example.org:65535", "counts.example.org", 65535),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.256:1",
        "2001:db8::1:51820",
        "[zz]:1",
        "a b:1",
        "-x:1",
        ":1",
        "1:1",
        "host:+5",
        "host:٣",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(EndpointError):
        Endpoint.parse(text)


def test_an_address_needs_no_resolver() -> None:
    def never(name: str, port: int) -> list[ipaddress.IPv4Address]:
        raise AssertionError("an address must not be looked up")

    assert Endpoint.parse("192.0.2.1:1").resolve(never) == [Endpoint("192.0.2.1", 1)]
    assert Endpoint.parse("[2001:db8::1]:1").resolve(never)[0].host == "2001:db8::1"


# -- files


def test_reads_a_wg_quick_file() -> None:
    read = parse(FILE)
    assert read.private_key == PRIVATE
    assert read.outgoing == "eth0.20"
    assert read.listen_port == 51820
    (peer,) = read.peers
    assert peer.public_key == OTHER.public
    assert [str(network) for network in peer.allowed_ips] == ["10.77.0.1/32", "fd00::1/128"]
    assert peer.persistent_keepalive == 25
    assert parse(render(read)) == read


@pytest.mark.parametrize("hook", ["PreUp", "PostUp", "PreDown", "PostDown", "postup"])
def test_commands_are_refused(hook: str) -> None:
    with pytest.raises(ConfigError, match=r"line 3.*runs commands as root"):
        parse(FILE.replace("Address =", f"{hook} = touch /tmp/x\nAddress =", 1))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ListenPort = 51820", "DNS = 1.1.1.1", "dns is refused"),
        ("ListenPort = 51820", "Table = off", "table is refused"),
        ("ListenPort = 51820", "SaveConfig = true", "saveconfig is refused"),
        ("ListenPort = 51820", "Whatever = 1", "knows no such field"),
        ("ListenPort = 51820", "ListenPort = 70000", "outside 1..65535"),
        ("ListenPort = 51820", "ListenPort = 51820\nListenPort = 1", "appears twice"),
        ("ListenPort = 51820", "MTU = 100", "MTU 100 is outside"),
        ("ListenPort = 51820", "ListenPort", "expected `Field = value`"),
        ("eth0.20", "eth0/../x", "cannot be an interface name"),
        ("outgoing", "nonsense", "knows no such field"),
        ("10.77.0.1/32, fd00::1/128", "0.0.0.0/0", "all traffic"),
        ("10.77.0.1/32, fd00::1/128", "::/0", "all traffic"),
        ("counts.example.org:51820", "10.77.0.1:51820", "would loop"),
        ("counts.example.org:51820", "counts.example.org", "has no port"),
        ("PersistentKeepalive = 25", "PersistentKeepalive = 70000", "outside 0..65535"),
        ("[Interface]\n", "", "must begin with"),
        ("[Peer]", "[Interface]", "second .Interface."),
        ("Address = 10.77.0.2/32\n", "", "has no Address"),
        (f"PublicKey = {OTHER.public}", "PublicKey = AAAA", "3 bytes"),
    ],
)
def test_what_is_refused(old: str, new: str, reason: str) -> None:
    assert old in FILE
    with pytest.raises(ConfigError, match=reason):
        parse(FILE.replace(old, new, 1))


def test_two_peers_cannot_share_an_address() -> None:
    one = Peer(OTHER.public, (ipaddress.ip_network("10.77.0.1/32"),))
    two = Peer(PrivateKey.generate().public, (ipaddress.ip_network("10.77.0.1/32"),))
    with pytest.raises(ConfigError, match="belongs to two peers"):
        config(peers=(one, two))
    with pytest.raises(ConfigError, match="appears twice"):
        config(peers=(one, one))


def test_wg_gets_bare_addresses_and_nothing_of_wg_quick() -> None:
    text = render_wg(parse(FILE), lambda peer: Endpoint("192.0.2.9", 51820))
    assert "Endpoint = 192.0.2.9:51820" in text
    assert "Address" not in text
    assert "example.org" not in text
    assert "Endpoint" not in render_wg(parse(FILE), lambda peer: None)


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(
    keys=st.lists(st.binary(min_size=32, max_size=32).filter(any), min_size=1, max_size=4, unique=True),
    hosts=st.lists(addresses, min_size=4, max_size=4, unique=True),
    psk=st.booleans(),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    mtu=st.integers(1280, 9000),
    keepalive=st.integers(0, 65535),
    outgoing=st.one_of(st.none(), st.sampled_from(["eth0", "eth0.20", "enp3s0", "wlan-1"])),
)
def test_what_is_written_reads_back(keys, hosts, psk, port, mtu, keepalive, outgoing) -> None:  # type: ignore[no-untyped-def]
    publics = list(dict.fromkeys(PrivateKey(raw).public for raw in keys))
    peers = tuple(
        Peer(
            public,
            (ipaddress.ip_network(host),),
            Endpoint("192.0.2.77", 1) if str(host) != "192.0.2.77" else None,
            PresharedKey(b"\x07" * 32) if psk else None,
            keepalive,
        )
        for public, host in zip(publics, hosts, strict=False)
    )
    written = config(peers=peers, listen_port=port, mtu=mtu, outgoing=outgoing)
    assert parse(render(written)) == written


@given(st.text(max_size=400))
def test_garbage_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(ConfigError, match=r"tunnel\.conf"):
        parse(text, "tunnel.conf")


@given(st.integers(0, len(FILE) - 1), st.characters())
def test_one_wrong_character_never_crashes(place: int, character: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(FILE[:place] + character + FILE[place + 1 :])


def test_the_file_opens_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tunnel.conf"
    before = os.umask(0)
    try:
        save(path, config())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == config()
    assert [entry.name for entry in path.parent.iterdir()] == ["tunnel.conf"]
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(path)
    with pytest.raises(ConfigError, match="no such"):
        load(tmp_path / "absent.conf")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 16, "..", ".", "-;rm", "wg0\n"])
def test_what_is_no_interface_name(name: str) -> None:
    with pytest.raises(ConfigError):
        check_interface_name(name)
