"""How clients reach a service: address, TLS, token, deadlines and retries."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from xscene.codec import status
from xscene.errors import Cancelled, InvalidInput, NotReady, XSceneError

DEFAULT_TIMEOUT_S = 60.0
# A longer wait is meant as none, and past some length the clocks of gRPC overflow.
MAX_TIMEOUT_S = 365 * 86400.0
# gRPC shortens a wait by chance, and one that comes down to nothing never ends.
MIN_BACKOFF_S = 0.01
MAX_ATTEMPTS = 5
MAX_MESSAGE_BYTES = (1 << 31) - 1
# What a call that may be repeated is tried again after. A server that goes away cancels calls which have
# reached it and not begun.
RETRIED = (NotReady, Cancelled)
# gRPC keeps too little of a stream to send it again; the clients do that themselves.
OWN_RETRIES = [
    {"service": "xscene.v1.SceneService", "method": "IngestScene"},
    {"service": "xscene.v1.SceneService", "method": "WatchReindex"},
    {"service": "xscene.v1.TrainerService", "method": "WatchRun"},
]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a service is and how to speak to it.

    `address` is host:port or any gRPC name, such as dns:///gateway:50050; a name with several
    addresses is used round robin. A token goes only over TLS, or to this machine, unless
    `allow_plaintext_token` says otherwise.
    """

    address: str
    token: str = ""
    ca_cert: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    tls: bool = False
    allow_plaintext_token: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_message_bytes: int = 64 << 20
    max_attempts: int = 4
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.address:
            raise InvalidInput.at("address", "is empty")
        if (self.client_cert is None) != (self.client_key is None):
            raise InvalidInput.at("client_cert, client_key", "go together; one of them is not set")
        self._check_numbers()
        if self.token and not self.secure and not self.allow_plaintext_token and not self._is_local():
            raise InvalidInput.at("token", "would travel in clear text; use TLS or allow_plaintext_token")

    def _check_numbers(self) -> None:
        require_timeout(self.timeout_s)
        for name, most in (("max_attempts", MAX_ATTEMPTS), ("max_message_bytes", MAX_MESSAGE_BYTES)):
            count = getattr(self, name)
            if not isinstance(count, int) or not 1 <= count <= most:
                raise InvalidInput.at(name, f"{count}, gRPC allows 1 to {most}")
        for name in ("initial_backoff_s", "max_backoff_s"):
            wait_s = getattr(self, name)
            if not MIN_BACKOFF_S <= wait_s <= MAX_TIMEOUT_S:
                raise InvalidInput.at(name, f"{wait_s} s, needs {MIN_BACKOFF_S} to {MAX_TIMEOUT_S:.0f}")

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls or self.ca_cert is not None or self.client_cert is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def credentials(self) -> grpc.ChannelCredentials:
        """TLS with the given files, else with the system's authorities."""
        return grpc.ssl_channel_credentials(
            _bytes(self.ca_cert, "ca_cert"),
            _bytes(self.client_key, "client_key"),
            _bytes(self.client_cert, "client_cert"),
        )

    def channel(self) -> grpc.Channel:
        """A channel for threads."""
        if self.secure:
            return grpc.secure_channel(self.address, self.credentials(), self.options())
        return grpc.insecure_channel(self.address, self.options())

    def aio_channel(self) -> grpc.aio.Channel:
        """A channel for asyncio."""
        if self.secure:
            return grpc.aio.secure_channel(self.address, self.credentials(), self.options())
        return grpc.aio.insecure_channel(self.address, self.options())

    def options(self) -> list[tuple[str, Any]]:
        """Limits, and the policy that calls to a server which is away are tried again."""
        policy = {
            "maxAttempts": self.max_attempts,
            "initialBackoff": f"{self.initial_backoff_s:.9f}s",
            "maxBackoff": f"{self.max_backoff_s:.9f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": [error.status for error in RETRIED],
        }
        methods: list[dict[str, Any]] = [{"name": OWN_RETRIES}]
        if self.max_attempts > 1:
            methods.append({"name": [{}], "retryPolicy": policy})
        config = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": methods}
        return [
            ("grpc.service_config", json.dumps(config)),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
        ]

    def deadline_s(self, timeout_s: float | None) -> float:
        """Seconds that a call may take: its own, else those of the connection."""
        return self.timeout_s if timeout_s is None else require_timeout(timeout_s)

    def backoffs_s(self) -> Iterator[float]:
        """Waits between attempts that a client makes itself: gRPC does not try streams again."""
        for attempt in range(self.max_attempts - 1):
            yield min(self.initial_backoff_s * 2**attempt, self.max_backoff_s)

    def _is_local(self) -> bool:
        if self.address.startswith("unix:"):
            return True
        host = self.address.rpartition("/")[2].rpartition(":")[0].strip("[]")
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def require_timeout(timeout_s: float) -> float:
    """Refuses a time that a call cannot take."""
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput.at(
            "timeout_s", f"{timeout_s} s, needs more than 0 and at most {MAX_TIMEOUT_S:.0f}"
        )
    return timeout_s


class Outgoing:
    """Messages of a stream; remembers the fault that kept one from being made.

    gRPC takes messages on a thread of its own and would report such a fault as an unknown error.
    """

    def __init__(self, messages: Iterable[Any]) -> None:
        self._messages = iter(messages)
        self.fault: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as fault:
            self.fault = fault
            raise


def raised(error: grpc.RpcError) -> XSceneError:
    """The error that the server raised, as the same class."""
    # Every error of a call is also a grpc.Call; the type stubs leave that out.
    call: Any = error
    trailers = dict(call.trailing_metadata() or ())
    return status.decode(call.code().name, call.details() or "", trailers.get(status.TRAILER))


def cause(request: Any, error: grpc.RpcError) -> Exception:
    """What the caller is told: a fault in its own stream before what gRPC made of it."""
    fault = request.fault if isinstance(request, Outgoing) else None
    return raised(error) if fault is None else fault


def _bytes(path: Path | None, field: str) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise InvalidInput.at(field, f"cannot be read: {error.strerror}") from None
