"""The running service: store, tunnel, listeners and the loop that looks after them, brought up and down in order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from analytics.admin import create_admin_app
from analytics.admin_socket import listen
from analytics.domain.model import Organisation
from analytics.login_desk import DirectLogins, login_router
from analytics.service_keys import ServiceKeys
from analytics.service_tunnel import ServiceTunnel
from analytics.settings import ServiceSettings
from analytics.store.base import Store
from analytics.store.errors import StoreError
from analytics.store.sqlite import SqliteStore
from analytics.timetable_desk import DirectDesk, desk_router
from analytics.web.app import Services, create_app, create_enrolment_app, create_ingest_app
from analytics.web.portal.core import PortalStore
from uplink.endpoint import Endpoint
from uplink.wg_backends import TunnelError
from uplink.wgconf import ConfigError

logger = logging.getLogger(__name__)

STORE_FILE = "headroom.db"
PEERS_EVERY_S = 5.0  # how long another process's change of the store may take to reach this tunnel
TUNNEL_EVERY_S = 30.0
_IP_FREEBIND = getattr(socket, "IP_FREEBIND", 15)


class ListenError(Exception):
    """An address cannot be listened on."""


def open_store(settings: ServiceSettings, keys: ServiceKeys) -> PortalStore:
    """MongoDB where the settings name one, else the embedded store of the data folder. Raises StoreError."""
    if settings.store is not None:
        from analytics.store.mongodb import MongoStore  # the driver takes a while to load: only where it is used

        return MongoStore.open(settings.store.get_secret_value(), keys.store)
    return SqliteStore.open(settings.data / STORE_FILE, keys.store)


def ensure_organisation(store: Store, settings: ServiceSettings) -> None:
    """New sensors need an organisation to belong to: make it in an empty store."""
    if not store.organisations():
        store.put_organisation(Organisation(settings.organisation, settings.organisation))


@dataclass(frozen=True)
class Tls:
    """Certificate and key of a listener, as PEM files."""

    certificate: Path
    private_key: Path

    def load_into(self, context: ssl.SSLContext) -> None:
        """Raises ListenError: not readable, not a pair, or locked with a password."""
        try:
            context.load_cert_chain(self.certificate, self.private_key, password=lambda: b"")
        except ssl.SSLError:
            reason = "not a certificate and its key, both PEM and without a password"
        except OSError as error:
            reason = str(error.strerror)
        else:
            return
        raise ListenError(f"{self.certificate} and {self.private_key} cannot be used for HTTPS: {reason}")

    def times(self) -> tuple[float, ...]:
        """When the files were written; empty while they are being replaced."""
        try:
            return tuple(path.stat().st_mtime for path in (self.certificate, self.private_key))
        except OSError:
            return ()


class Service:
    """One service process."""

    def __init__(self, settings: ServiceSettings, keys: ServiceKeys, store: PortalStore) -> None:
        self._settings = settings
        self._store = store
        self._tunnel = ServiceTunnel(settings.tunnel, keys) if settings.tunnel else None
        self.services = Services.build(settings, store, keys, on_sensor_change=self._sync_peers)
        self._servers: list[_Server] = []

    async def run(self, ready: Callable[[list[str]], None] = lambda _: None) -> None:
        """Serve until SIGTERM or SIGINT. `ready` is told the addresses once all of them listen.

        Raises:
            TunnelError: the tunnel does not come up.
            ListenError: an address is taken or not ours.
        """
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self.services.close)
            if self._tunnel is not None:
                self._tunnel.start(self._store.all_sensors())
                cleanup.callback(self._tunnel.stop)
            doors = self._doors(cleanup)
            self._servers = [_Server(app, bound, tls) for app, bound, tls in doors]
            self.services.jobs.start()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
            tasks = [
                asyncio.create_task(self._keep()),
                asyncio.create_task(self._announce(ready)),
            ]
            try:
                await asyncio.gather(*(server.serve(sockets=[server.bound]) for server in self._servers))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Finish what is under way and end."""
        for server in self._servers:
            server.should_exit = True

    def _doors(self, cleanup: contextlib.ExitStack) -> list[tuple[FastAPI, socket.socket, Tls | None]]:
        settings, services = self._settings, self.services
        tls = None
        if settings.certificate is not None and settings.private_key is not None:
            tls = Tls(settings.certificate, settings.private_key)
            tls.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a fault shows before anything listens
        doors = [(create_app(settings, self._store, services), bind(settings.host, settings.port), tls)]
        cleanup.callback(doors[0][1].close)
        if settings.tunnel is not None:
            bound = bind(str(settings.tunnel.ip), settings.port, free=True)
            cleanup.callback(bound.close)
            doors.append((create_ingest_app(services), bound, None))
        if settings.enrol is not None:
            endpoint = Endpoint.parse(settings.enrol)
            bound = bind(endpoint.host, endpoint.port)
            cleanup.callback(bound.close)
            doors.append((create_enrolment_app(services), bound, None))
        bound = listen(settings.admin_socket)
        cleanup.callback(bound.close)
        cleanup.callback(settings.admin_socket.unlink, missing_ok=True)
        admin = create_admin_app(services.enrolment)
        admin.include_router(desk_router(DirectDesk(self._store, services.portal.keep)))
        base_url = settings.public_url or _url(doors[0][1], tls is not None)
        admin.include_router(login_router(DirectLogins(services.portal.people, base_url)))
        doors.append((admin, bound, None))
        return doors

    async def _announce(self, ready: Callable[[list[str]], None]) -> None:
        while not all(server.started for server in self._servers):
            await asyncio.sleep(0.01)
        ready([_url(s.bound, s.tls is not None) for s in self._servers if s.bound.family != socket.AF_UNIX])

    async def _keep(self) -> None:
        """Peers follow the store, whoever changed it; a tunnel that vanished comes back."""
        elapsed = 0.0
        while True:
            await asyncio.sleep(PEERS_EVERY_S)
            elapsed += PEERS_EVERY_S
            await asyncio.to_thread(self._sync_peers)
            for server in self._servers:
                server.renew_certificate()
            if self._tunnel is not None and elapsed >= TUNNEL_EVERY_S:
                elapsed = 0.0
                try:
                    await asyncio.to_thread(self._tunnel.tick)
                except (TunnelError, ConfigError) as error:
                    logger.error("the tunnel is not well: %s", error)

    def _sync_peers(self) -> None:
        if self._tunnel is None:
            return
        try:
            self._tunnel.sync(self._store.all_sensors())
        except (TunnelError, ConfigError, StoreError) as error:
            logger.error("the tunnel's peers do not follow the store: %s", error)


class _Server(uvicorn.Server):
    """One listener among several: signals are the service's business."""

    def __init__(self, app: FastAPI, bound: socket.socket, tls: Tls | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # links hold secrets; addresses and ids of sensors are nobody's log line
                server_header=False,
                proxy_headers=False,  # nobody may claim another's address (analytics.web.proxy)
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.private_key if tls else None,
                timeout_graceful_shutdown=5,
                limit_concurrency=1_000,
            )
        )
        self.bound = bound
        self.tls = tls
        self._times = tls.times() if tls else ()

    def renew_certificate(self) -> None:
        """Use a certificate that was replaced, for new connections; a faulty one is left alone and reported."""
        context = self.config.ssl if self.config.loaded else None
        if self.tls is None or context is None or (times := self.tls.times()) in ((), self._times):
            return
        self._times = times
        try:
            # First apart: a key that does not fit must not end up beside the old certificate.
            self.tls.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self.tls.load_into(context)
        except ListenError as error:
            logger.error("the new certificate is not used: %s", error)
        else:
            logger.info("the certificate was replaced")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int, *, free: bool = False) -> socket.socket:
    """A listening socket. `free`: also on an address that is not there yet or vanishes for a while (the tunnel's).

    Raises:
        ListenError: taken, or not an address of this machine.
    """
    address = ipaddress.ip_address(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # With the protocol named: asyncio turns Nagle's delay off (40 ms an answer) only where it sees TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if free:
            bound.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        raise ListenError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None
    return bound


def _url(bound: socket.socket, tls: bool) -> str:
    host, port = bound.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
