"""Who may call: bearer tokens, roles, tenants, and TLS whose files are reloaded on change."""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import json
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from xscene.errors import PermissionDenied, SettingsInvalid, Unauthenticated
from xscene.services import INFERENCE
from xscene.serving.settings import ServerSettings
from xscene.serving.telemetry import Telemetry
from xscene.v1 import annotations_pb2, fusion_pb2, scene_pb2, trainer_pb2

log = logging.getLogger(__name__)
CHECK_INTERVAL_S = 1.0
MAX_TOKEN_BYTES = 4096


class Role(enum.IntEnum):
    """What a credential may do; each role includes the ones before it."""

    PUBLIC = 0
    READER = 1
    WRITER = 2
    ADMIN = 3
    NOBODY = 4
    """Needed by a method whose proto names no role: refused to everybody."""


@dataclass(frozen=True)
class Identity:
    """Who is calling."""

    tenant: str
    role: Role
    credential: str
    """Digest of the token, or empty; names the owner of what lives as long as a credential."""


ANONYMOUS = Identity(tenant="default", role=Role.ADMIN, credential="")


# The protocol's own proto names no roles. What is not here, such as loading, needs an admin.
INFERENCE_ROLES = {
    "ServerLive": Role.PUBLIC,
    "ServerReady": Role.PUBLIC,
    "ServerMetadata": Role.READER,
    "ModelReady": Role.READER,
    "ModelMetadata": Role.READER,
    "ModelConfig": Role.READER,
    "ModelInfer": Role.READER,
    "ModelStreamInfer": Role.READER,
    "ModelStatistics": Role.READER,
    "RepositoryIndex": Role.READER,
}


def required_roles() -> dict[str, Role]:
    """The least role for each method, as the protos say, and for the methods of others."""
    roles = {
        "/grpc.health.v1.Health/Check": Role.PUBLIC,
        "/grpc.health.v1.Health/Watch": Role.PUBLIC,
        "/grpc.health.v1.Health/List": Role.PUBLIC,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.READER,
    }
    roles |= {f"/{INFERENCE}/{method}": role for method, role in INFERENCE_ROLES.items()}
    for module in (scene_pb2, fusion_pb2, trainer_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                role = method.GetOptions().Extensions[annotations_pb2.required_role]
                roles[f"/{service.full_name}/{method.name}"] = Role(role) if role else Role.NOBODY
    return roles


@dataclass(frozen=True)
class Token:
    """One line of the token table."""

    sha256: bytes
    identity: Identity
    expires: datetime | None


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Read a token table: a JSON list of {sha256, tenant, role, expires}."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise SettingsInvalid("tokens: the file is not JSON") from None
    if not isinstance(entries, list) or not entries:
        raise SettingsInvalid("tokens: the file must hold a non-empty list")
    tokens = tuple(_token(entry, f"tokens[{index}]") for index, entry in enumerate(entries))
    digests = [token.sha256 for token in tokens]
    for index, digest in enumerate(digests):
        if digest in digests[:index]:
            raise SettingsInvalid(f"tokens[{index}].sha256: stands in the table twice")
    return tokens


def _token(entry: object, where: str) -> Token:
    if not isinstance(entry, dict) or set(entry) != {"sha256", "tenant", "role", "expires"}:
        raise SettingsInvalid(f"{where}: needs exactly sha256, tenant, role and expires")
    digest, tenant, role, expires = entry["sha256"], entry["tenant"], entry["role"], entry["expires"]
    try:
        raw = bytes.fromhex(digest)
        moment = None if expires is None else datetime.fromisoformat(expires)
    except (TypeError, ValueError):
        raise SettingsInvalid(f"{where}: sha256 must be hex, expires an ISO 8601 time or null") from None
    if len(raw) != hashlib.sha256().digest_size:
        raise SettingsInvalid(f"{where}.sha256: {len(raw)} bytes, a SHA-256 has 32")
    if moment is not None and moment.tzinfo is None:
        raise SettingsInvalid(f"{where}.expires: the time needs a zone, such as Z")
    if role not in ("reader", "writer", "admin"):
        raise SettingsInvalid(f"{where}.role: {role!r} is none of reader, writer, admin")
    if not isinstance(tenant, str) or not tenant:
        raise SettingsInvalid(f"{where}.tenant: must be a non-empty string")
    return Token(raw, Identity(tenant, Role[role.upper()], digest.lower()), moment)


class WatchedFiles:
    """Notices when any of a few files changes; looks at most once in an interval."""

    def __init__(self, paths: Iterable[Path], interval_s: float = CHECK_INTERVAL_S) -> None:
        self._paths = tuple(paths)
        self._interval_s = interval_s
        self._next_look = time.monotonic() + interval_s
        self._seen = self._stamps()

    def changed(self) -> bool:
        """True once after each change."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + self._interval_s
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        return True

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class TokenTable:
    """Bearer tokens from a file; a broken new file leaves the old table in force."""

    def __init__(self, path: Path, telemetry: Telemetry, interval_s: float = CHECK_INTERVAL_S) -> None:
        self._path = path
        self._telemetry = telemetry
        self._watch = WatchedFiles([path], interval_s)
        self._tokens = parse_tokens(_read(path, "tokens"))

    def identify(self, token: bytes) -> Identity:
        """The identity of a token; every entry is compared, in constant time."""
        if self._watch.changed():
            self._reload()
        digest = hashlib.sha256(token).digest()
        found = None
        for entry in self._tokens:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is None:
            raise Unauthenticated("authorization: the token is not known")
        if found.expires is not None and found.expires <= datetime.now(UTC):
            raise Unauthenticated("authorization: the token has expired")
        return found.identity

    def _reload(self) -> None:
        try:
            self._tokens = parse_tokens(_read(self._path, "tokens"))
        except SettingsInvalid as error:
            self._telemetry.reloads.labels("tokens", "failed").inc()
            log.error("token file refused, the old one stays in force", extra={"why": error.message})
        else:
            self._telemetry.reloads.labels("tokens", "done").inc()
            log.info("token file reloaded", extra={"num_tokens": len(self._tokens)})


class Gate:
    """Decides whether a call may go on, and as whom."""

    def __init__(self, tokens: TokenTable | None, roles: dict[str, Role]) -> None:
        self._tokens = tokens
        self._roles = roles

    def required(self, method: str) -> Role:
        """The least role for a method; a method that nobody gave a role needs the highest."""
        return self._roles.get(method, Role.ADMIN)

    def admit(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> Identity:
        """The caller's identity; raises when the call is not allowed."""
        required = self.required(method)
        if required is Role.NOBODY:
            raise PermissionDenied(f"{method} names no role that may call it")
        if self._tokens is None or required is Role.PUBLIC:
            return ANONYMOUS
        identity = self._tokens.identify(_bearer(metadata))
        if identity.role < required:
            raise PermissionDenied(
                f"{method} needs role {required.name.lower()}, the token has {identity.role.name.lower()}"
            )
        return identity


def _bearer(metadata: Sequence[tuple[str, str | bytes]]) -> bytes:
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise Unauthenticated(f"authorization: {len(values)} values, exactly one 'Bearer TOKEN' is needed")
    text = values[0] if isinstance(values[0], bytes) else values[0].encode()
    scheme, _, token = text.partition(b" ")
    if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("authorization: must be 'Bearer TOKEN'")
    return token


def gate(settings: ServerSettings, telemetry: Telemetry) -> Gate:
    """The gate that the settings ask for; open only on loopback, unless said so."""
    beyond = not _is_loopback(settings.host)
    if settings.tokens is None and beyond and not settings.allow_anonymous:
        raise SettingsInvalid(f"host {settings.host} is not loopback: set tokens, or allow_anonymous")
    if settings.tls_cert is None and beyond and not settings.allow_plaintext:
        raise SettingsInvalid(f"host {settings.host} is not loopback: set tls_cert, or allow_plaintext")
    tokens = None if settings.tokens is None else TokenTable(settings.tokens, telemetry)
    return Gate(tokens, required_roles())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def server_credentials(settings: ServerSettings, telemetry: Telemetry) -> grpc.ServerCredentials | None:
    """TLS as the settings ask for; new handshakes get renewed files without a restart."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    # The files are watched from before they are first read, so that no change goes unseen.
    watch = WatchedFiles(
        path for path in (settings.tls_cert, settings.tls_key, settings.tls_client_ca) if path
    )
    return grpc.dynamic_ssl_server_credentials(
        _certificates(settings),
        # None says that nothing changed, which the type stubs do not know.
        _fetcher(settings, watch, telemetry),  # type: ignore[arg-type]
        settings.tls_client_ca is not None,
    )


def _fetcher(
    settings: ServerSettings, watch: WatchedFiles, telemetry: Telemetry
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    def fetch() -> grpc.ServerCertificateConfiguration | None:
        if not watch.changed():
            return None
        try:
            fresh = _certificates(settings)
        except SettingsInvalid as error:
            telemetry.reloads.labels("certificate", "failed").inc()
            log.error("certificate refused, the old one stays in use", extra={"why": error.message})
            return None
        telemetry.reloads.labels("certificate", "done").inc()
        log.info("certificate reloaded")
        return fresh

    return fetch


def _certificates(settings: ServerSettings) -> grpc.ServerCertificateConfiguration:
    assert settings.tls_cert is not None
    assert settings.tls_key is not None
    chain, key = _read(settings.tls_cert, "tls_cert"), _read(settings.tls_key, "tls_key")
    try:
        # Half-way through a rotation the two do not belong together; gRPC would take them unchecked.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key, "")
    except (OSError, ValueError):
        raise SettingsInvalid("tls_cert, tls_key: not a PEM certificate with its own private key") from None
    root = None if settings.tls_client_ca is None else _authorities(settings.tls_client_ca)
    return grpc.ssl_server_certificate_configuration([(key.encode(), chain.encode())], root)


def _authorities(path: Path) -> bytes:
    """The certificates of the authorities; a file without one would lock every client out."""
    text, context = _read(path, "tls_client_ca"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cadata=text)
    except (OSError, ValueError):
        raise SettingsInvalid("tls_client_ca: not a PEM file of certificates") from None
    if not context.get_ca_certs() or text.count("BEGIN CERT") != text.count("END CERT"):
        raise SettingsInvalid("tls_client_ca: holds no certificate of an authority, or is cut off")
    return text.encode()


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{name}: cannot read {path.name}: {type(error).__name__}") from None
