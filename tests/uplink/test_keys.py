"""Keys, key files, signatures: what opens, what is refused, and that nothing shows."""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from uplink.identity import Identity, IdentityError, load_sensor_key, save_sensor_key, state_folder
from uplink.keyfiles import KeyFileError, find_secret, read_secret, write_atomic
from uplink.keys import MasterKeyRing, SensorKey, unwrap_next_key, wrap_next_key
from uplink.sealing import SealKeyRing
from uplink.signing import (
    WINDOW_SECONDS,
    ClockSkewError,
    ReplayError,
    ReplayGuard,
    RequestSignature,
    SignatureError,
    parse_authorization,
    sign_answer,
    sign_request,
    verify_answer,
    verify_request,
)

NOW = 1_790_000_000.0
RING = MasterKeyRing({1: bytes(range(32)), 2: bytes(range(1, 33))})
KEY = RING.sensor_key("hall-3")
assert KEY is not None


# -- derivation and rotation ------------------------------------------------------------------------------------


def test_every_sensor_and_generation_has_its_own_key() -> None:
    keys = {RING.sensor_key(name, generation).secret for name in ("a", "b", "a-1", "a1") for generation in (1, 2)}
    assert len(keys) == 8


def test_derivation_is_fixed_for_ever() -> None:
    """A known answer: changing the derivation would lock out every enrolled sensor."""
    key = MasterKeyRing({1: bytes(range(32))}).sensor_key("hall-3")
    assert key.secret.hex() == "329036ad05bd9a87b2e3232251f5b1ccd922875a2001d3496083ad929672e5a0"


def test_rotation_overlaps_and_ends() -> None:
    ring = MasterKeyRing.create()
    first = ring.sensor_key("hall-3")
    both = ring.rotated()
    assert both.sensor_key("hall-3", 1) == first
    assert both.sensor_key("hall-3").generation == 2
    assert both.without(1).sensor_key("hall-3", 1) is None
    with pytest.raises(ValueError, match="rotate first"):
        both.without(2)


def test_the_next_key_comes_sealed_under_the_present_one() -> None:
    old, new, other = RING.sensor_key("hall-3", 1), RING.sensor_key("hall-3", 2), RING.sensor_key("hall-4", 1)
    sealed = wrap_next_key(old, new)
    assert unwrap_next_key(old, sealed) == new
    for key, text in [
        (other, sealed),
        (new, sealed),
        (old, sealed[:-8]),
        (old, "3" + sealed[1:]),
        (old, "x:y"),
        (old, ""),
    ]:
        with pytest.raises(KeyFileError):
            unwrap_next_key(key, text)


def test_no_repr_shows_key_material() -> None:
    seals = SealKeyRing.create()
    claim = sign_request(KEY, method="POST", path="/", body=b"", now=NOW)
    shown = " ".join(map(repr, (RING, KEY, seals, claim))) + str(RING) + str(KEY)
    for secret in (*RING.keys.values(), KEY.secret, *seals.keys.values()):
        for form in (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()):
            assert form not in shown
    assert claim.signature not in shown


# -- files ------------------------------------------------------------------------------------------------------


def test_rings_and_keys_come_back_from_their_files_with_mode_0600(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    old = os.umask(0)
    try:
        RING.save(folder)
        SealKeyRing.create().save(folder)
        save_sensor_key(folder, KEY)
    finally:
        os.umask(old)
    assert MasterKeyRing.load(folder).keys == RING.keys
    assert load_sensor_key(folder, "hall-3") == KEY
    assert len(SealKeyRing.load(folder).public_key) == 32
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_may_open_is_refused_with_what_to_do(mode: int, tmp_path: Path) -> None:
    RING.save(tmp_path)
    (tmp_path / "master.key").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        MasterKeyRing.load(tmp_path)


def test_links_folders_open_folders_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write_atomic(tmp_path / "real", b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "absent"):
        with pytest.raises(KeyFileError, match=name):
            read_secret(tmp_path / name)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="plain file"):
        read_secret(tmp_path / "pipe")
    if os.geteuid() == 0:
        os.chown(tmp_path / "real", 12345, -1)
        with pytest.raises(KeyFileError, match="owned by"):
            read_secret(tmp_path / "real")
        os.chown(tmp_path / "real", 0, -1)
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError, match="exchange files"):
        read_secret(tmp_path / "real")


def test_systemd_credentials_come_first_and_may_have_group_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, folder = tmp_path / "credentials", tmp_path / "state"
    write_atomic(credentials / "sensor.key", b"from systemd\n")
    write_atomic(folder / "sensor.key", b"from the state folder\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    (credentials / "sensor.key").chmod(0o440)
    assert find_secret("sensor.key", folder) == b"from systemd"
    (credentials / "sensor.key").chmod(0o444)
    with pytest.raises(KeyFileError, match="0444"):
        find_secret("sensor.key", folder)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert find_secret("sensor.key", folder) == b"from the state folder"


@pytest.mark.parametrize(
    "content", [b"", b"1", b"1 abc", b"x" * 44, b"0 " + b"A" * 43 + b"=", b"1 " + b"A" * 43 + b"=", b"\xff\x00"]
)
def test_what_is_no_key_is_refused_and_not_repeated(content: bytes, tmp_path: Path) -> None:
    write_atomic(tmp_path / "master.key", content)
    with pytest.raises(KeyFileError) as caught:
        MasterKeyRing.load(tmp_path)
    assert content.decode("latin-1").strip() not in str(caught.value) or len(content) < 3


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "key", b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        write_atomic(tmp_path / "key", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").read_bytes() == b"old"


# -- identity ---------------------------------------------------------------------------------------------------


def identity(**change: str) -> Identity:
    seal = base64.b64encode(SealKeyRing.create().public_key).decode()
    values = {"sensor_id": "hall-3", "service_url": "http://10.77.0.1:8400/", "tunnel_address": "10.77.0.12"}
    return Identity.model_validate({**values, "service_seal_key": seal, **change})


def test_an_identity_comes_back_from_its_file(tmp_path: Path) -> None:
    identity().save(tmp_path)
    assert Identity.load(tmp_path).service_url == "http://10.77.0.1:8400"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_url", "ftp://host"),
        ("service_url", "http://user:secret@host"),
        ("service_url", 'http://host/"'),
        ("service_url", "http://"),
        ("service_url", 'http://ho"st'),
        ("service_url", "http://ho\\st"),
        ("service_url", "http://host:99999"),
        ("service_url", "http://host:0"),
        ("tunnel_address", "10.77.0.300"),
        ("service_seal_key", "short"),
        ("sensor_id", "Hall 3"),
    ],
)
def test_a_wrong_identity_is_refused_by_field(field: str, value: str, tmp_path: Path) -> None:
    identity().save(tmp_path)
    path = tmp_path / "identity.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(field)]
    path.write_text("\n".join([*lines, f"{field} = '{value}'"]))
    with pytest.raises(IdentityError, match=f"identity.toml: {field}"):
        Identity.load(tmp_path)


def test_a_sensor_that_is_not_enrolled_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="headroom sensor enrol"):
        Identity.load(tmp_path)


def test_the_state_folder_is_chosen_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADROOM_STATE", str(tmp_path / "variable"))
    assert state_folder(tmp_path / "option") == tmp_path / "option"
    assert state_folder() == tmp_path / "variable"
    monkeypatch.delenv("HEADROOM_STATE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_folder() == Path("/var/lib/headroom")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "headroom"


# -- signatures -------------------------------------------------------------------------------------------------

SIGNED = {
    "method": "POST",
    "path": "/v1/counts",
    "body": b"{}",
    "content_type": "application/json",
    "content_encoding": "gzip",
}


def signed(key: SensorKey = KEY, now: float = NOW) -> RequestSignature:
    return parse_authorization(sign_request(key, now=now, **SIGNED).header())


def test_what_was_signed_verifies() -> None:
    verify_request(KEY, signed(), now=NOW, **SIGNED)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/v1/counts?x=1"},
        {"body": b"{} "},
        {"content_type": ""},
        {"content_encoding": ""},
        {"content_type": "application/jsongzip", "content_encoding": ""},
    ],
)
def test_nothing_of_a_signed_request_can_be_changed(change: dict[str, object]) -> None:
    with pytest.raises(SignatureError, match="does not fit"):
        verify_request(KEY, signed(), now=NOW, **{**SIGNED, **change})


def test_no_claim_of_the_header_can_be_changed() -> None:
    claim = signed()
    other = RING.sensor_key("hall-4")
    for changed, key in [
        (replace(claim, sensor_id="hall-4"), other),
        (replace(claim, generation=1), RING.sensor_key("hall-3", 1)),
        (replace(claim, time=claim.time + 1), KEY),
        (replace(claim, nonce="0" * 32), KEY),
        (replace(claim, signature="0" * 64), KEY),
        (claim, other),
        (claim, None),
    ]:
        with pytest.raises(SignatureError):
            verify_request(key, changed, now=NOW, **SIGNED)


@pytest.mark.parametrize("away", [-WINDOW_SECONDS - 2, WINDOW_SECONDS + 2, 86_400 * 365, -1e9])
def test_a_right_signature_at_a_wrong_time_is_told_apart(away: float) -> None:
    with pytest.raises(ClockSkewError):
        verify_request(KEY, signed(now=NOW + away), now=NOW, **SIGNED)


def test_a_wrong_signature_at_a_wrong_time_learns_nothing() -> None:
    with pytest.raises(SignatureError) as caught:
        verify_request(RING.sensor_key("hall-3", 1), replace(signed(now=0), generation=1), now=NOW, **SIGNED)
    assert not isinstance(caught.value, ClockSkewError)


def test_a_repeated_request_is_seen_and_memory_is_bounded() -> None:
    guard = ReplayGuard(most=10)
    claim = signed()
    guard.check(claim, NOW)
    with pytest.raises(ReplayError):
        guard.check(claim, NOW + WINDOW_SECONDS)
    for _ in range(100):
        guard.check(signed(), NOW)
    assert len(guard._seen) <= 10
    guard.check(claim, NOW + 2 * WINDOW_SECONDS + 1)  # long outside the window: the time refuses it


def test_an_answer_belongs_to_one_request_status_and_body() -> None:
    claim, other = signed(), signed()
    header = sign_answer(KEY, claim, status=200, body=b"ok", now=NOW)
    assert verify_answer(KEY, claim, header, status=200, body=b"ok") == int(NOW)
    for case in [
        (KEY, other, header, 200, b"ok"),
        (KEY, claim, header, 201, b"ok"),
        (KEY, claim, header, 200, b"no"),
        (RING.sensor_key("hall-4"), claim, header, 200, b"ok"),
        (KEY, claim, header.replace("time=1", "time=2"), 200, b"ok"),
        (KEY, claim, None, 200, b"ok"),
        (KEY, claim, claim.signature, 200, b"ok"),
    ]:
        with pytest.raises(SignatureError):
            verify_answer(case[0], case[1], case[2], status=case[3], body=case[4])
