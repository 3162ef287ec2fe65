"""What each model has done since the start, as the Open Inference Protocol's statistics tell it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from xscene.serving.lanes import Request
from xscene.serving.models import Model


@dataclass
class Duration:
    """How often something happened, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more."""
        self.count += 1
        self.ns += ns


@dataclass
class ModelStatistics:
    """The counts of one model at one version."""

    num_items: int = 0
    num_batches: int = 0
    last_request_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    prepare: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    finish: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    """By number of items."""


class Statistics:
    """Counts by model and version; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], ModelStatistics] = defaultdict(ModelStatistics)

    def of(self, name: str, version: str) -> ModelStatistics:
        """The counts of a model."""
        with self._lock:
            return self._models[name, version]

    def add_batch(self, model: Model, num_items: int, elapsed_ns: int) -> None:
        """Count a computed batch."""
        with self._lock:
            counts = self._models[model.name, model.version]
            counts.num_items += num_items
            counts.num_batches += 1
            counts.batches[num_items].add(elapsed_ns)

    def add_success(self, request: Request) -> None:
        """Count a request that got its outputs."""
        now_ns = time.monotonic_ns()
        with self._lock:
            counts = self._models[request.model.name, request.model.version]
            counts.last_request_ms = time.time_ns() // 1_000_000
            counts.success.add(now_ns - request.arrived_ns)
            counts.queue.add(request.queue_ns)
            counts.prepare.add(request.prepare_ns)
            counts.compute.add(request.compute_ns)
            counts.finish.add(request.finish_ns)

    def add_failure(self, request: Request) -> None:
        """Count a request that got an error."""
        now_ns = time.monotonic_ns()
        with self._lock:
            counts = self._models[request.model.name, request.model.version]
            counts.last_request_ms = time.time_ns() // 1_000_000
            counts.fail.add(now_ns - request.arrived_ns)
