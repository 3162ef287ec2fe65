"""A trainer that keeps runs in memory, on the real runtime and codec: the other end for client tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from xscene import codec, errors
from xscene.serving.server import Service
from xscene.serving.telemetry import Telemetry
from xscene.types import (
    ModelInfo,
    Publication,
    PublishOutcome,
    Run,
    RunCheckpoint,
    RunEvent,
    RunMetrics,
    RunPage,
    RunState,
)
from xscene.v1 import trainer_pb2_grpc

MODEL = ModelInfo(model_id="cd" * 32, bundle="night-1", trained=True)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PAGE_SIZE = 2
EVENTS = tuple(
    RunEvent(offset=offset, time=NOW + timedelta(seconds=offset), **what)
    for offset, what in enumerate(
        (
            {"state": RunState.RUNNING},
            {"log": "epoch 1"},
            {"metrics": RunMetrics(step=10, values={"loss": 0.5, "recall": 0.25})},
            {"checkpoint": RunCheckpoint(step=10, best=True)},
            {"log": ""},
            {"state": RunState.SUCCEEDED},
        )
    )
)


class TwinTrainer(Service, trainer_pb2_grpc.TrainerServiceServicer):
    """`failures` says how many of the next calls answer UNAVAILABLE; a watch breaks after each odd event."""

    name = "trainer"

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.failures = 0
        self.offsets_asked: list[int] = []

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self, server)
        return ("xscene.v1.TrainerService",)

    async def start(self, telemetry: Telemetry) -> None: ...

    async def stop(self) -> None: ...

    def _fail_sometimes(self) -> None:
        if self.failures:
            self.failures -= 1
            raise errors.NotReady("away for a moment")

    def _run(self, run_id: str) -> Run:
        if run_id not in self.runs:
            raise errors.NotFound(f"run {run_id} is not there")
        return self.runs[run_id]

    async def CreateRun(self, request: Any, context: Any) -> Any:
        self._fail_sometimes()
        order = codec.decode_create_run_request(request, codec.Limits())
        created_at = NOW + timedelta(minutes=len(self.runs))
        made = Run(
            run_id=order.run_id,
            config=order.config,
            state=RunState.QUEUED,
            created_at=created_at,
            updated_at=created_at,
        )
        run = self.runs.setdefault(order.run_id, made)
        if run.config != order.config:
            raise errors.AlreadyExists(f"run {order.run_id} has another config")
        return codec.encode_create_run_response(run)

    async def GetRun(self, request: Any, context: Any) -> Any:
        self._fail_sometimes()
        return codec.encode_get_run_response(self._run(codec.decode_get_run_request(request)))

    async def ListRuns(self, request: Any, context: Any) -> Any:
        listing = codec.decode_list_runs_request(request, codec.Limits())
        runs = [run for run in reversed(self.runs.values()) if run.state in (listing.states or RunState)]
        first = int(listing.page_token or 0)
        end = first + (listing.page_size or PAGE_SIZE)
        token = str(end) if end < len(runs) else ""
        return codec.encode_list_runs_response(RunPage(runs=tuple(runs[first:end]), next_page_token=token))

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        run_id, start = codec.decode_watch_run_request(request)
        self.offsets_asked.append(start)
        self._run(run_id)
        self._fail_sometimes()
        for event in EVENTS[start:]:
            yield codec.encode_watch_run_response(event)
            if event.offset % 2 == 1 and event is not EVENTS[-1]:
                raise errors.NotReady("the connection is old")

    async def CancelRun(self, request: Any, context: Any) -> Any:
        run = self._run(codec.decode_cancel_run_request(request))
        self.runs[run.run_id] = replace(run, state=RunState.CANCELLED)
        return codec.encode_cancel_run_response(self.runs[run.run_id])

    async def PublishBundle(self, request: Any, context: Any) -> Any:
        order = codec.decode_publish_bundle_request(request)
        self._run(order.run_id)
        outcomes = (
            PublishOutcome(service="text", loaded=True),
            PublishOutcome(service="points", loaded=False, reason="not reachable"),
        )
        publication = Publication(model=replace(MODEL, bundle=order.bundle), outcomes=outcomes)
        return codec.encode_publish_bundle_response(publication)
