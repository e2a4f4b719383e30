"""How one service is set up: ``service.toml`` in the data folder, with the command line's word above it.

``service.toml``, every line optional::

    host = "127.0.0.1"          # portal, API and ingest; put a TLS proxy before it to serve people
    port = 8400
    enrol = "0.0.0.0:8401"      # blank sensors knock here; leave out to enrol on the first address alone
    public_url = "https://rooms.example.org"   # where people and sensors without a tunnel reach this service
    certificate = "/etc/headroom/fullchain.pem"    # HTTPS by the program itself ...
    private_key = "/etc/headroom/privkey.pem"
    behind_proxy = false        # ... or by a TLS proxy before it: then any address may be listened on without
    store = "mongodb+srv://user:password@cluster.example.org/headroom"  # leave out for the embedded store; better in
                                # the environment: HEADROOM_STORE

    [tunnel]                    # leave out to run without WireGuard
    address = "10.77.0.1/16"    # the service's address, and the network of its sensors
    endpoint = "counts.example.org:51820"   # where sensors reach this machine: an address or a name
    interface = "headroom0"

    [limits]
    sensor_burst = 200          # requests a sensor may make at once ...
    sensor_rate = 20            # ... and a second after that
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from uplink.endpoint import Endpoint, EndpointError
from uplink.wgconf import DEFAULT_MTU, MIN_MTU, ConfigError, check_interface_name

SETTINGS_FILE = "service.toml"
STORE_VARIABLE = "HEADROOM_STORE"
DEFAULT_PORT = 8400


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, field and value."""


class TunnelSettings(BaseModel):
    """The service's end of the WireGuard tunnel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface = Field(
        description="The service's address with the prefix of the sensors' network."
    )
    endpoint: str = Field(description="HOST:PORT at which sensors reach this machine from outside.")
    listen_port: int | None = Field(None, ge=1, le=65535, description="UDP port; default: the endpoint's.")
    interface: str = "headroom0"
    mtu: int = Field(DEFAULT_MTU, ge=MIN_MTU, le=9000)
    backend: str | None = Field(None, description="kernel, userspace; default: what the machine has.")

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        try:
            return str(Endpoint.parse(value))
        except EndpointError as error:
            raise ValueError(str(error)) from None

    @field_validator("interface")
    @classmethod
    def _interface(cls, value: str) -> str:
        try:
            return check_interface_name(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.address.network.num_addresses < 4:
            raise ValueError(f"address: {self.address} leaves no room for sensors; give a prefix, e.g. 10.77.0.1/16")
        return self

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The service's own address."""
        return self.address.ip

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The network that sensors get their addresses from."""
        return self.address.network

    @property
    def udp_port(self) -> int:
        return self.listen_port or Endpoint.parse(self.endpoint).port


class Limits(BaseModel):
    """What one caller may ask for. Bodies and records are bounded by the wire contract (`uplink.messages`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor_burst: int = Field(200, ge=1, description="Requests of one sensor at once.")
    sensor_rate: float = Field(20.0, gt=0, description="Requests of one sensor a second.")
    stranger_burst: int = Field(30, ge=1, description="Unproven requests of one address at once.")
    stranger_rate: float = Field(0.5, gt=0, description="Unproven requests of one address a second.")
    body_seconds: float = Field(30.0, gt=0, description="How long a body may take to arrive.")
    waiting_records: int = Field(200_000, ge=1_000, description="Records that may wait for the store; then 503.")


class ServiceSettings(BaseModel):
    """Everything `headroom serve` needs to know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    host: str = "127.0.0.1"
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="0 = any free port.")
    enrol: str | None = Field(None, description="HOST:PORT where blank sensors enrol, besides the first address.")
    public_url: str | None = Field(
        None, description="Where people, and sensors without a tunnel, reach this service: a TLS proxy's address."
    )
    certificate: Path | None = Field(None, description="PEM file with the certificate and its chain: HTTPS.")
    private_key: Path | None = Field(None, description="PEM file with the certificate's key, without a password.")
    behind_proxy: bool = Field(False, description="A TLS proxy stands before the first address.")
    store: SecretStr | None = Field(None, description="Address of MongoDB; none: the embedded store.")
    tunnel: TunnelSettings | None = None
    limits: Limits = Limits()
    organisation: str = Field("default", pattern=r"^[a-z0-9-]{1,63}$", description="Where new sensors go.")
    code_hours: float = Field(48.0, gt=0, le=24 * 30, description="Life of an enrolment code.")
    code_attempts: int = Field(5, ge=1, le=100, description="Tries until an enrolment code is dead.")

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("expected an address of this machine, e.g. 127.0.0.1 or ::1") from None

    @field_validator("enrol")
    @classmethod
    def _enrol(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            endpoint = Endpoint.parse(value)
        except EndpointError as error:
            raise ValueError(str(error)) from None
        if endpoint.address is None:
            raise ValueError("expected an address of this machine and a port, e.g. 0.0.0.0:8401")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://none")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected an address such as https://rooms.example.org")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("expected an address that begins with mongodb:// or mongodb+srv://")
        return value

    @model_validator(mode="after")
    def _sealed_off(self) -> Self:
        """People's passwords never travel in the clear: off this machine the portal speaks TLS, or a proxy does."""
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together: give both, or neither")
        if self.certificate is None and not self.behind_proxy and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"host: {self.host} can be reached from elsewhere, and passwords would travel in the clear; give "
                "--certificate and --key, or say --behind-proxy where a TLS proxy alone can reach it"
            )
        return self

    @property
    def https(self) -> bool:
        """Whether people reach the portal through TLS."""
        return self.certificate is not None or (self.public_url or "").startswith("https://")

    @property
    def keys(self) -> Path:
        """The folder of the service's secrets."""
        return self.data / "keys"

    @property
    def admin_socket(self) -> Path:
        """Where the running service takes the administrator's orders: a socket that its user alone may open."""
        return self.data / "admin.sock"

    @property
    def service_url(self) -> str:
        """The address that sensors send to: inside the tunnel when there is one."""
        if self.tunnel is None:
            return self.portal_url
        host = self.tunnel.ip
        return f"http://[{host}]:{self.port}" if host.version == 6 else f"http://{host}:{self.port}"

    @property
    def portal_url(self) -> str:
        """The address that people go to, as far as these settings know it."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = ipaddress.ip_address(self.host)
        scheme = "https" if self.certificate is not None else "http"
        return f"{scheme}://[{host}]:{self.port}" if host.version == 6 else f"{scheme}://{host}:{self.port}"


def load_settings(data: Path, overrides: Mapping[str, Any] | None = None) -> ServiceSettings:
    """Read ``service.toml`` in `data` (it may be absent) and lay `overrides` over it, tables key by key.

    The address of MongoDB may come from the environment (HEADROOM_STORE), which goes before the file.

    Raises:
        SettingsError: not readable, or a field is wrong.
    """
    path = data / SETTINGS_FILE
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        values = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if os.environ.get(STORE_VARIABLE):
        values["store"] = os.environ[STORE_VARIABLE]
    for name, value in (overrides or {}).items():
        if isinstance(value, Mapping) and isinstance(values.get(name), dict):
            values[name] = {**values[name], **value}
        else:
            values[name] = value
    try:
        return ServiceSettings.model_validate({**values, "data": data})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        # Faults between fields name theirs; the address of MongoDB holds a password.
        given = "" if field in ("", "store") else f" (given: {first.get('input')!r})"
        raise SettingsError(f"{path}: {field + ': ' if field else ''}{first['msg']}{given}") from None
