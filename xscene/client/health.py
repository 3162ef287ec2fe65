"""Asking a service whether it is there and ready."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from xscene.client.connection import Connection, require_timeout


@dataclass(frozen=True)
class Health:
    """What a service answered: `state` is ready, not ready, or the status of the failure."""

    state: str
    detail: str
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether calls are taken."""
        return self.state == "ready"


def check(connection: Connection, *, timeout_s: float = 2.0) -> Health:
    """Ask once, without retries."""
    require_timeout(timeout_s)
    started = time.monotonic()
    with replace(connection, max_attempts=1).channel() as channel:
        # The methods of a stub are set when it is made, which the type stubs leave out.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(
                health_pb2.HealthCheckRequest(service=""), timeout=timeout_s, metadata=connection.metadata
            )
        except grpc.RpcError as error:
            code = getattr(error, "code", lambda: grpc.StatusCode.UNKNOWN)()
            detail = getattr(error, "details", lambda: "")() or ""
            return Health(code.name, detail, time.monotonic() - started)
    ready = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Health("ready" if ready else "not ready", "", time.monotonic() - started)
