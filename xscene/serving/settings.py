"""Settings: flag, else environment variable, else default; unknown names are refused."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from xscene.errors import SettingsInvalid
from xscene.services import METRICS_PORT_OFFSET, SERVICES

S = TypeVar("S", bound="ServerSettings")
PREFIX = "XSCENE_"
INT32 = 2**31 - 1
DAY_S = 86400.0
MAX_PORT = 65535


def setting(default: Any, description: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A field of a settings class: its default, what it is for, and its bounds."""
    return field(default=default, metadata={"help": description, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings that every service has; a service adds its own in a subclass."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 or :: for all.")
    port: int = setting(0, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    metrics_port: int = setting(
        -1, "Port of the Prometheus page; -1: port + 1000, 0: no page.", low=-1, high=65535
    )
    metrics_host: str = setting("127.0.0.1", "Address of the Prometheus page, which is plain HTTP.")
    tls_cert: Path | None = setting(None, "PEM file with the certificate chain; reloaded on change.")
    tls_key: Path | None = setting(None, "PEM file with the private key; reloaded on change.")
    tls_client_ca: Path | None = setting(None, "PEM file; clients must then show a certificate it signed.")
    tokens: Path | None = setting(None, "JSON file of bearer tokens; reloaded on change.")
    allow_anonymous: bool = setting(False, "Serve beyond loopback without tokens.")
    allow_plaintext: bool = setting(False, "Serve beyond loopback without TLS.")
    max_message_bytes: int = setting(64 << 20, "Largest message, after decompression.", low=1024, high=INT32)
    max_concurrent_calls: int = setting(256, "Calls served at a time; one more is refused.", low=1)
    max_open_streams: int = setting(
        256, "Streams of answers, such as watches, served at a time; one more is refused.", low=1
    )
    max_calls_per_connection: int = setting(1024, "Calls on one connection.", low=1, high=INT32)
    default_deadline_s: float = setting(
        60.0, "Deadline of unary answers whose caller set none.", low=0.001, high=DAY_S
    )
    max_connection_age_s: float = setting(
        600.0, "Age at which a connection is asked to reconnect.", low=1, high=DAY_S
    )
    max_connection_grace_s: float = setting(
        600.0, "Time that calls on an old connection still have.", low=1, high=DAY_S
    )
    keepalive_s: float = setting(
        30.0, "Silence after which a connection is asked whether it still is one.", low=1, high=DAY_S
    )
    handshake_timeout_s: float = setting(
        10.0, "Time for a new connection to become one.", low=0.1, high=DAY_S
    )
    drain_delay_s: float = setting(0.0, "Wait between not ready and refusing calls.", low=0, high=DAY_S)
    drain_timeout_s: float = setting(
        30.0, "Time that accepted calls have to end at shutdown.", low=0, high=DAY_S
    )
    reflection: bool = setting(True, "Offer gRPC server reflection (to readers).")
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR.")
    log_format: str = setting("json", "json or console.")
    traces_endpoint: str = setting("", "OTLP gRPC address for traces; empty: none. Needs the otel extra.")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check_bounds(item, getattr(self, item.name))
        _one_of("log_level", self.log_level, ("DEBUG", "INFO", "WARNING", "ERROR"))
        _one_of("log_format", self.log_format, ("json", "console"))
        if (self.effective_metrics_port or 0) > MAX_PORT:
            raise SettingsInvalid(
                f"metrics_port: port {self.port} + {METRICS_PORT_OFFSET} is above {MAX_PORT}"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsInvalid("tls_cert and tls_key go together; one of them is not set")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsInvalid("tls_client_ca needs tls_cert and tls_key")

    @property
    def effective_metrics_port(self) -> int | None:
        """The Prometheus page's port; None for no page."""
        if self.metrics_port == -1:
            return self.port + METRICS_PORT_OFFSET if self.port else None
        return self.metrics_port or None


@dataclass(frozen=True)
class SettingRow:
    """One setting as `--help` and the documentation show it."""

    name: str
    flag: str
    variable: str
    default: str
    description: str


def rows(cls: type[ServerSettings], service: str) -> list[SettingRow]:
    """Every setting of a class, in order."""
    return [
        SettingRow(
            name=item.name,
            flag="--" + item.name.replace("_", "-"),
            variable=f"{PREFIX}{service}_{item.name}".upper(),
            default=_shown(item.default),
            description=item.metadata["help"],
        )
        for item in dataclasses.fields(cls)
    ]


def load(cls: type[S], service: str, argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Settings of a service from its flags and environment; exits for `--help` and bad flags."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {SERVICES[service].package}",
        description=(cls.__doc__ or "").strip(),
        epilog="A flag beats its variable, a variable beats the default.",
        allow_abbrev=False,
    )
    table = rows(cls, service)
    for row in table:
        text = f"{row.description} [{row.variable}; default: {row.default}]".replace("%", "%%")
        parser.add_argument(row.flag, dest=row.name, help=text, metavar=row.name.rpartition("_")[2].upper())
    flags = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    texts = _from_environment(table, service, environ) | flags
    hints = typing.get_type_hints(cls)
    return cls(**{name: _parse(name, hints[name], text) for name, text in texts.items()})


def _from_environment(
    table: Sequence[SettingRow], service: str, environ: Mapping[str, str]
) -> dict[str, str]:
    names = {row.variable: row.name for row in table}
    owners = (*SERVICES, "client")
    other = tuple(f"{PREFIX}{name.upper()}_" for name in owners if name != service)
    found = {}
    for variable, text in environ.items():
        if variable in names:
            found[names[variable]] = text
        elif variable.startswith(PREFIX) and not variable.startswith(other):
            near = difflib.get_close_matches(variable, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsInvalid(f"{variable} is not a setting of {service}{hint}")
    return found


def _parse(name: str, hint: Any, text: str) -> Any:
    """Read `text` as the type `hint`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
        return _parse(name, hint, text) if text else None
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        _one_of(name, text.lower(), ("true", "false", "1", "0", "yes", "no"))
        return text.lower() in ("true", "1", "yes")
    try:
        return hint(text)
    except ValueError:
        raise SettingsInvalid(f"{name}: {text!r} is not a {hint.__name__}") from None


def _check_bounds(item: dataclasses.Field[Any], value: Any) -> None:
    low, high = item.metadata["low"], item.metadata["high"]
    if low is not None and not value >= low:
        raise SettingsInvalid(f"{item.name}: {value} is below {low}")
    if high is not None and not value <= high:
        raise SettingsInvalid(f"{item.name}: {value} is above {high}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsInvalid(f"{name}: {value!r} is none of {', '.join(allowed)}")


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(default)
    return "" if default is None else str(default)
