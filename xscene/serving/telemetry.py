"""Logs, metrics and traces of a server; every metric stands in one table."""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    make_wsgi_app,
)

from xscene.errors import ExtraMissing, SettingsInvalid
from xscene.serving.settings import ServerSettings

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""Trace of the call that is being served: 32 hex digits, or empty outside a call."""


@dataclass(frozen=True)
class MetricRow:
    """One metric as it is exposed and documented."""

    name: str
    kind: type[Counter | Gauge | Histogram]
    labels: tuple[str, ...]
    unit: str
    description: str


CALLS = MetricRow(
    "xscene_rpc_handled_total", Counter, ("method", "code"), "calls", "Calls ended, by status code."
)
SECONDS = MetricRow(
    "xscene_rpc_seconds", Histogram, ("method",), "seconds", "Time from a call's start to its end."
)
IN_FLIGHT = MetricRow("xscene_rpc_in_flight", Gauge, (), "calls", "Calls that are being served.")
READY = MetricRow("xscene_ready", Gauge, (), "0 or 1", "Whether the service takes calls.")
RELOADS = MetricRow(
    "xscene_reloads_total", Counter, ("file", "result"), "reloads", "Reloads of tokens and certificates."
)
BUNDLES = MetricRow(
    "xscene_bundle_info", Gauge, ("bundle", "model_id", "trained"), "1", "Bundles that are loaded."
)
QUEUE = MetricRow("xscene_queue_requests", Gauge, (), "requests", "Requests that wait for the model.")
BATCH_ITEMS = MetricRow("xscene_batch_items", Histogram, ("model",), "items", "Items computed together.")
BATCH_SECONDS = MetricRow(
    "xscene_batch_seconds", Histogram, ("model",), "seconds", "Time to compute a batch."
)
METRICS = (CALLS, SECONDS, IN_FLIGHT, READY, RELOADS, BUNDLES, QUEUE, BATCH_ITEMS, BATCH_SECONDS)

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# The standard process metrics (CPU, memory, file descriptors) come beside the table's own.
PROCESS_PREFIX = "process_"


class Telemetry:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.calls: Counter = self._make(CALLS)
        self.seconds: Histogram = self._make(SECONDS, buckets=LATENCY_BUCKETS_S)
        self.in_flight: Gauge = self._make(IN_FLIGHT)
        self.ready: Gauge = self._make(READY)
        self.reloads: Counter = self._make(RELOADS)
        self.bundles: Gauge = self._make(BUNDLES)
        self.queue: Gauge = self._make(QUEUE)
        self._batch_items: Histogram = self._make(BATCH_ITEMS, buckets=BATCH_BUCKETS)
        self._batch_seconds: Histogram = self._make(BATCH_SECONDS, buckets=LATENCY_BUCKETS_S)
        self.span_trace_id: Callable[[], str] = str
        self.flush_spans: Callable[[], None] = lambda: None
        self._children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def _make(self, row: MetricRow, **options: Any) -> Any:
        return row.kind(row.name, row.description, row.labels, registry=self.registry, **options)

    def count_call(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended."""
        found = self._children.get((method, code))
        if found is None:
            found = self.calls.labels(method, code), self.seconds.labels(method)
            self._children[method, code] = found
        found[0].inc()
        found[1].observe(seconds)

    def count_batch(self, model: str, num_items: int, seconds: float) -> None:
        """Count a computed batch."""
        self._batch_items.labels(model).observe(num_items)
        self._batch_seconds.labels(model).observe(seconds)

    def serve(self, host: str, port: int) -> tuple[Any, int]:
        """Offer the metrics to Prometheus; the page's server and its port."""
        try:
            page = make_server(host, port, make_wsgi_app(self.registry), _PageServer, _PageHandler)
        except OSError as error:
            raise SettingsInvalid(f"metrics_host, metrics_port: {host}:{port}: {error.strerror}") from None
        threading.Thread(target=page.serve_forever, name="metrics", daemon=True).start()
        return page, page.server_port


class _PageServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _PageHandler(WSGIRequestHandler):
    # A socket that says nothing must not keep its thread.
    timeout = 5

    def log_message(self, *_: object) -> None:
        """Pages that were read are no events."""


def set_up_logging(settings: ServerSettings) -> None:
    """Send every log record of the process to standard error, as JSON or for the eye."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    final: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        final.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*final, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)


def _add_trace_id(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    if current := trace_id.get():
        event["trace_id"] = current
    return event


def trace_interceptors(settings: ServerSettings, service: str, telemetry: Telemetry) -> Sequence[Any]:
    """The interceptor that makes spans, if traces are asked for."""
    if not settings.traces_endpoint:
        return ()
    if importlib.util.find_spec("opentelemetry.instrumentation.grpc") is None:
        raise ExtraMissing.named("traces_endpoint", "otel")
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.grpc import aio_server_interceptor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"xscene-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.traces_endpoint)))
    telemetry.flush_spans = provider.shutdown

    def span_trace_id() -> str:
        context = trace.get_current_span().get_span_context()
        return format(context.trace_id, "032x") if context.is_valid else ""

    telemetry.span_trace_id = span_trace_id
    return (aio_server_interceptor(tracer_provider=provider),)  # type: ignore[no-untyped-call]
