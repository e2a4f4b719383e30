"""How the service is reached: the first link, HTTPS, proxies, and what is refused."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from analytics.cli.serve import serve
from analytics.runtime import ListenError, Tls, _Server, bind, open_store
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings, SettingsError, load_settings
from analytics.store.errors import StoreError
from analytics.web.bodies import BoundedBodies
from analytics.web.problems import add_problem_handlers
from analytics.web.proxy import BehindProxy
from tests.bench._service import free_port

SECRET = "s3cr3t-passw0rd"


def certificate(folder: Path, name: str = "localhost") -> Tls:
    """A certificate of its own for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    found = Tls(folder / "certificate.pem", folder / "key.pem")
    found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.private_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[list[str]]:
    """A service in a folder; its lines on stdout once it answers."""
    out = folder.parent / "stdout"
    log = folder.parent / "stderr"
    command = [sys.executable, "-m", "headroom", "serve", "--data", str(folder), *options]
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=dict(os.environ))
    try:
        until = time.monotonic() + 60
        while b"Listening on" not in log.read_bytes() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
        yield out.read_text().splitlines()
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_the_first_start_prints_a_link_once_and_serves_https(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    port = free_port()
    options = ["--port", str(port), "--certificate", str(tls.certificate), "--key", str(tls.private_key)]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with serving(tmp_path / "service", *options) as lines:
        (link,) = re.findall(r"https://127\.0\.0\.1:\d+/invitation/[\w-]{40,}", "\n".join(lines))
        with urllib.request.urlopen(link, context=context) as answer:
            assert "Account" in answer.read().decode()
            assert "Strict-Transport-Security" in answer.headers
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", context=context) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=context) as answer:
            assert "headroom_job_last_success_timestamp_seconds" in answer.read().decode()
    secret = link.rsplit("/", 1)[1]
    assert secret not in (tmp_path / "stderr").read_text()  # the log of a service is read by many


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "passwords would travel in the clear"),
        (["--host", "::"], "passwords would travel in the clear"),
        (["--certificate", "x.pem"], "belong together"),
        (["--public-url", "rooms.example.org"], "https://rooms.example.org"),
    ],
)
def test_what_would_not_be_safe_is_refused(tmp_path: Path, options: list[str], words: str) -> None:
    done = CliRunner().invoke(serve, ["--data", str(tmp_path), *options])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_files_that_are_no_certificate_are_named(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    swapped = Tls(tls.private_key, tls.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ListenError, match="without a password"):
        swapped.load_into(context)
    with pytest.raises(ListenError, match="No such file"):
        Tls(tmp_path / "none", tls.private_key).load_into(context)


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tls = certificate(tmp_path)
    with bind("127.0.0.1", 0) as bound:
        server = _Server(FastAPI(), bound, tls)
        server.config.load()
        server.renew_certificate()
        assert "replaced" not in caplog.text
        certificate(tmp_path, "renewed")
        os.utime(tls.certificate, (1, 1))
        server.renew_certificate()
        assert "was replaced" in caplog.text
        tls.private_key.write_text("half a file")
        os.utime(tls.private_key, (2, 2))
        server.renew_certificate()
        assert "is not used" in caplog.text


# -- behind a proxy


def proxied(client: tuple[str, int], public_url: str | None) -> TestClient:
    app = FastAPI()

    @app.get("/{path:path}")
    def echo(request: Request) -> dict[str, str]:
        host = request.client.host if request.client else ""
        return {"client": host, "url": str(request.base_url)}

    app.add_middleware(BehindProxy, public_url=public_url)
    return TestClient(app, base_url="http://127.0.0.1:8400", client=client)


FORWARDED = {"x-forwarded-for": "6.6.6.6, 203.0.113.9", "x-forwarded-proto": "https", "host": "evil.example"}


def test_a_proxy_of_this_machine_is_believed() -> None:
    seen = proxied(("127.0.0.1", 5), "https://rooms.example.org").get("/login", headers=FORWARDED).json()
    assert seen == {"client": "203.0.113.9", "url": "https://rooms.example.org/"}


def test_others_cannot_claim_an_address() -> None:
    seen = proxied(("198.51.100.7", 5), "https://rooms.example.org").get("/login", headers=FORWARDED).json()
    assert seen["client"] == "198.51.100.7"


def test_sensors_are_judged_by_their_real_address() -> None:
    seen = proxied(("127.0.0.1", 5), "https://rooms.example.org").get("/v1/counts", headers=FORWARDED).json()
    assert seen["client"] == "127.0.0.1"


def test_nonsense_in_the_header_changes_nothing() -> None:
    for text in ("", "unknown", "a" * 9000, "[::x", "1.2.3.4:80"):
        headers = {"x-forwarded-for": text, "x-forwarded-proto": "gopher"}
        seen = proxied(("127.0.0.1", 5), None).get("/login", headers=headers).json()
        assert seen == {"client": "127.0.0.1", "url": "http://127.0.0.1:8400/"}


# -- bodies


def test_bodies_are_bounded_whether_they_say_their_length_or_not() -> None:
    app = FastAPI()
    add_problem_handlers(app)

    @app.post("/{path:path}")
    async def take(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BoundedBodies, most=1000)
    client = TestClient(app)
    assert client.post("/login", content=b"x" * 1000).json() == 1000
    assert client.post("/login", content=b"x" * 1001).status_code == 413
    assert client.post("/login", content=iter([b"x" * 600] * 2)).status_code == 413
    assert client.post("/login", content=b"x", headers={"content-length": "-1"}).status_code == 413
    assert client.post("/v1/counts", content=b"x" * 2000).json() == 2000


# -- MongoDB


def test_the_address_of_mongodb_is_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"mongodb://user:{SECRET}@db.example.org/headroom"
    monkeypatch.setenv("HEADROOM_STORE", address)
    settings = load_settings(tmp_path)
    assert SECRET not in repr(settings) + str(settings)
    with pytest.raises(StoreError) as caught:  # not on this machine and no TLS
        open_store(settings, ServiceKeys.create())
    assert "tls=true" in str(caught.value)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("HEADROOM_STORE", f"postgres://user:{SECRET}@db.example.org")
    with pytest.raises(SettingsError, match="mongodb") as wrong:
        load_settings(tmp_path)
    assert SECRET not in str(wrong.value)
    done = CliRunner().invoke(serve, ["--data", str(tmp_path)])
    assert done.exit_code == 2
    assert SECRET not in done.output


def test_people_are_told_the_public_address(tmp_path: Path) -> None:
    settings = ServiceSettings(data=tmp_path, public_url="https://rooms.example.org")
    assert settings.https
    assert not ServiceSettings(data=tmp_path, public_url="http://rooms.example.org").https
    tls = certificate(tmp_path)
    assert ServiceSettings(data=tmp_path, certificate=tls.certificate, private_key=tls.private_key).service_url == (
        "https://127.0.0.1:8400"
    )
