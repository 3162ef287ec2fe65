"""A gRPC server with health, limits, security and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from xscene.errors import SettingsInvalid, XSceneError
from xscene.serving import security, settings
from xscene.serving.admission import Admission, Phase
from xscene.serving.border import Border
from xscene.serving.settings import ServerSettings
from xscene.serving.telemetry import Telemetry, set_up_logging, trace_interceptors

log = logging.getLogger(__name__)
S = TypeVar("S", bound=ServerSettings)
EXIT_USAGE = 2
# For the last answers, which are on their way when the last call has ended.
STOP_GRACE_S = 1.0
MIN_PING_INTERVAL_MS = 5000
LIVENESS = "liveness"
READINESS = "readiness"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Service(ABC):
    """What a service gives to the server."""

    name: str

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Add the servicers; the full names of the gRPC services they offer."""

    @abstractmethod
    async def start(self, telemetry: Telemetry) -> None:
        """Load and warm up; calls are refused until this has ended."""

    async def watch(self) -> None:
        """End when the service can no longer answer, which ends the process; begins after `start`."""
        await asyncio.Event().wait()

    @abstractmethod
    async def stop(self) -> None:
        """Give everything back; no call is being served any more."""


class Server:
    """One service behind one port."""

    def __init__(self, service: Service, given: ServerSettings) -> None:
        self.telemetry = Telemetry()
        self.port = 0
        self.metrics_port: int | None = None
        self._service = service
        self._settings = given
        self._health = HealthServicer()
        self._page: Any = None
        gate = security.gate(given, self.telemetry)
        self._admission = Admission(
            max_calls=given.max_concurrent_calls,
            max_streams=given.max_open_streams,
            telemetry=self.telemetry,
        )
        border = Border(gate, self._admission, self.telemetry, given.default_deadline_s)
        traces = trace_interceptors(given, service.name, self.telemetry)
        self._grpc = grpc.aio.server(interceptors=(*traces, border), options=_options(given))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        self._offered = service.register(self._grpc)
        if given.reflection:
            names = (*self._offered, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)

    async def start(self) -> None:
        """Listen, not ready; then load the service; then ready."""
        self.port = self._bind()
        await self._set_ready(False)
        await self._health.set(LIVENESS, SERVING)
        await self._grpc.start()
        if (metrics_port := self._settings.effective_metrics_port) is not None:
            self._page, self.metrics_port = self.telemetry.serve(self._settings.metrics_host, metrics_port)
        await self._service.start(self.telemetry)
        self._admission.phase = Phase.OPEN
        await self._set_ready(True)
        log.info("ready", extra={"service": self._service.name, "port": self.port})

    def _bind(self) -> int:
        address = f"{_bracketed(self._settings.host)}:{self._settings.port}"
        credentials = security.server_credentials(self._settings, self.telemetry)
        try:
            if credentials is None:
                return self._grpc.add_insecure_port(address)
            return self._grpc.add_secure_port(address, credentials)
        except RuntimeError:
            raise SettingsInvalid(f"host, port: cannot listen on {address}") from None

    async def _set_ready(self, ready: bool) -> None:
        self.telemetry.ready.set(int(ready))
        for name in ("", READINESS, *self._offered):
            await self._health.set(name, SERVING if ready else NOT_SERVING)

    async def drain(self) -> None:
        """Stop in order: not ready, refuse new calls, end the accepted ones, give everything back."""
        log.info("draining", extra={"service": self._service.name})
        await self._set_ready(False)
        await asyncio.sleep(self._settings.drain_delay_s)
        # gRPC's own stop would cancel calls that have arrived and not begun: these get their status
        # first, UNAVAILABLE, which clients try again elsewhere.
        self._admission.phase = Phase.DRAINING
        if not await self._admission.idle(self._settings.drain_timeout_s):
            log.warning(
                "calls did not end in time", extra={"drain_timeout_s": self._settings.drain_timeout_s}
            )
        await self._admission.quiet()
        await self._grpc.stop(STOP_GRACE_S)
        await self._service.stop()
        if self._page is not None:
            self._page.shutdown()
            self._page.server_close()
        await asyncio.to_thread(self.telemetry.flush_spans)
        log.info(
            "stopped", extra={"service": self._service.name, "num_answered": self._admission.num_answered}
        )


def _options(given: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", given.max_message_bytes),
        ("grpc.max_send_message_length", given.max_message_bytes),
        ("grpc.max_concurrent_streams", given.max_calls_per_connection),
        ("grpc.max_connection_age_ms", round(given.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(given.max_connection_grace_s * 1000)),
        ("grpc.server_handshake_timeout_ms", round(given.handshake_timeout_s * 1000)),
        ("grpc.keepalive_time_ms", round(given.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(given.keepalive_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Robots on bad networks ask often whether the connection still is one.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        # Two servers on one port would each get half of the calls.
        ("grpc.so_reuseport", 0),
    ]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


async def serve(service: Service, given: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; raises when the service ended by itself."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Python as the first process of a container ignores SIGTERM without a handler of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(service, given)
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            await _watched(service, stopping)
    finally:
        starting.cancel()
        stopping.cancel()
        await server.drain()


async def _watched(service: Service, stopping: asyncio.Task[Any]) -> None:
    watching = asyncio.create_task(service.watch())
    await asyncio.wait((stopping, watching), return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        watching.result()
        raise XSceneError("the service can no longer answer")
    watching.cancel()


def run(
    name: str,
    cls: type[S],
    make: Callable[[S], Service],
    argv: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    """Serve with settings from flags and environment, and end the process; returns for bad settings."""
    try:
        given = settings.load(cls, name, argv, environ)
    except SettingsInvalid as error:
        sys.stderr.write(f"{name}: {error.message}\n")
        return EXIT_USAGE
    set_up_logging(given)
    runner, code = asyncio.Runner(), 0
    try:
        runner.run(serve(make(given), given))
    except XSceneError as error:
        log.error("ended", extra={"service": name, "why": error.message})
        code = 1
    # The drain gave threads their time; Python would wait for those that are still at work.
    logging.shutdown()
    os._exit(code)
