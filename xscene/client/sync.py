"""Clients for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from xscene.client import methods
from xscene.client.connection import RETRIED, Connection, Outgoing, cause, require_timeout
from xscene.client.methods import Method
from xscene.types import (
    Belief,
    EmbedResult,
    FuseItem,
    FuseQuery,
    FuseResult,
    IngestOutcome,
    LocalizeOptions,
    MatchQuery,
    ObjectContent,
    ObjectHits,
    ObjectMatches,
    ObjectQuery,
    ObjectsQuery,
    ObjectsResult,
    Publication,
    PublishOrder,
    Reindex,
    ReindexEvent,
    ReindexOrder,
    Run,
    RunConfig,
    RunEvent,
    RunListing,
    RunOrder,
    RunPage,
    RunState,
    Scene,
    SceneContent,
    SceneFilter,
    SceneHits,
    SceneListing,
    ScenePage,
    SceneQuery,
    SceneRecord,
)
from xscene.types.values import require_count
from xscene.v1 import fusion_pb2_grpc, scene_pb2_grpc, trainer_pb2_grpc

Q = TypeVar("Q")
A = TypeVar("A")
L = TypeVar("L", SceneListing, RunListing)
P = TypeVar("P", ScenePage, RunPage)
E = TypeVar("E", ReindexEvent, RunEvent)


class _Client:
    """One channel; `timeout_s` of a call replaces that of the connection."""

    def __init__(self, connection: Connection, make_stub: Any) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._stub = make_stub(self._channel)
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls that are going on are cancelled."""
        self._closed.set()
        self._channel.close()

    def _wait(self, wait_s: float | None) -> bool:
        """Wait for the next attempt; False when there is none: no wait is left, or the client was closed."""
        return wait_s is not None and not self._closed.wait(wait_s)

    def _ask(self, method: Method[Q, A], question: Q, timeout_s: float | None) -> A:
        """One question, one answer."""
        return self._answer(method, method.question(question), self._connection.deadline_s(timeout_s))

    def _answer(self, method: Method[Any, A], request: Any, timeout_s: float) -> A:
        call = getattr(self._stub, method.name)
        try:
            answer = call(request, timeout=timeout_s, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise cause(request, error) from None
        return method.answer(answer)

    def _stream(self, method: Method[Any, A], request: Any, timeout_s: float | None) -> Iterator[A]:
        """Answers as they come, for as long as it takes; leaving the iteration cancels the call."""
        if timeout_s is not None:
            require_timeout(timeout_s)
        call = getattr(self._stub, method.name)
        answers = call(request, timeout=timeout_s, metadata=self._connection.metadata)
        try:
            for answer in answers:
                yield method.answer(answer)
        except grpc.RpcError as error:
            raise cause(request, error) from None
        finally:
            answers.cancel()

    def _pages(self, method: Method[L, P], listing: L, timeout_s: float | None) -> Iterator[P]:
        """All pages from this one on."""
        while True:
            page = self._ask(method, listing, timeout_s)
            yield page
            if not page.next_page_token:
                return
            listing = replace(listing, page_token=page.next_page_token)

    def _watch(self, method: Method[tuple[str, int], E], name: str, offset: int) -> Iterator[E]:
        """Events until the watched work ends; a broken watch goes on after the last event."""
        require_count(offset, "offset", low=0, num_bits=64)
        waits = self._connection.backoffs_s()
        while True:
            try:
                for event in self._stream(method, method.question((name, offset)), None):
                    offset = event.offset + 1
                    waits = self._connection.backoffs_s()
                    yield event
                return
            except RETRIED:
                if not self._wait(next(waits, None)):
                    raise


class SceneClient(_Client):
    """Stores scenes and asks for them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, scene_pb2_grpc.SceneServiceStub)

    def ingest(self, record: SceneRecord, *, timeout_s: float | None = None) -> IngestOutcome:
        """Store a scene; tried again from the start while the server is away, as a repeat changes nothing.

        A scene without `captured_at` is captured now.
        """
        until = time.monotonic() + self._connection.deadline_s(timeout_s)
        # Filled in before the first attempt, so that a repeat carries the same revision.
        record = replace(record, header=record.header.resolved(datetime.now(UTC)))
        waits = self._connection.backoffs_s()
        while True:
            try:
                messages = Outgoing(methods.INGEST_SCENE.questions(record))
                return self._answer(methods.INGEST_SCENE, messages, max(until - time.monotonic(), 0.001))
            except RETRIED:
                wait_s = next(waits, None)
                if wait_s is None or time.monotonic() + wait_s >= until or not self._wait(wait_s):
                    raise

    def scene(self, scene_id: str, *, timeout_s: float | None = None) -> Scene:
        """One stored scene."""
        return self._ask(methods.GET_SCENE, scene_id, timeout_s)

    def scenes(
        self,
        scenes: SceneFilter | None = None,
        *,
        page_size: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Scene]:
        """All scenes that a filter lets through, page by page."""
        listing = SceneListing(filter=scenes or SceneFilter(), page_size=page_size)
        for page in self._pages(methods.LIST_SCENES, listing, timeout_s):
            yield from page.scenes

    def delete(self, scene_id: str, *, timeout_s: float | None = None) -> int:
        """Delete a scene; how many objects went with it, 0 where it was not there."""
        return self._ask(methods.DELETE_SCENE, scene_id, timeout_s)

    def search_scenes(self, query: SceneQuery, *, timeout_s: float | None = None) -> SceneHits:
        """The scenes that fit best."""
        return self._ask(methods.SEARCH_SCENES, query, timeout_s)

    def search_objects(self, query: ObjectQuery, *, timeout_s: float | None = None) -> ObjectHits:
        """The objects that fit best."""
        return self._ask(methods.SEARCH_OBJECTS, query, timeout_s)

    def match_objects(self, query: MatchQuery, *, timeout_s: float | None = None) -> ObjectMatches:
        """Which objects of one scene are which of another."""
        return self._ask(methods.MATCH_OBJECTS, query, timeout_s)

    def localize(
        self, parts: Iterable[LocalizeOptions | SceneContent], *, timeout_s: float | None = None
    ) -> Iterator[Belief]:
        """A belief for each observation; options, if any, come first."""
        requests = Outgoing(map(methods.LOCALIZE.question, parts))
        return self._stream(methods.LOCALIZE, requests, timeout_s)

    def embed(self, content: SceneContent | ObjectContent, *, timeout_s: float | None = None) -> EmbedResult:
        """Embeddings of content, without storing it."""
        return self._ask(methods.EMBED, content, timeout_s)

    def start_reindex(self, order: ReindexOrder, *, timeout_s: float | None = None) -> Reindex:
        """Start to embed all scenes with another bundle."""
        return self._ask(methods.START_REINDEX, order, timeout_s)

    def reindex(self, reindex_id: str, *, timeout_s: float | None = None) -> Reindex:
        """How far a reindex has come."""
        return self._ask(methods.GET_REINDEX, reindex_id, timeout_s)

    def watch_reindex(self, reindex_id: str, *, offset: int = 0) -> Iterator[ReindexEvent]:
        """Events of a reindex until it ends; a broken watch goes on where it was."""
        return self._watch(methods.WATCH_REINDEX, reindex_id, offset)

    def cancel_reindex(self, reindex_id: str, *, timeout_s: float | None = None) -> Reindex:
        """Stop a reindex."""
        return self._ask(methods.CANCEL_REINDEX, reindex_id, timeout_s)


class FusionClient(_Client):
    """Fuses embeddings."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, fusion_pb2_grpc.FusionServiceStub)

    def fuse(
        self, items: Sequence[FuseItem], *, model_id: str = "", timeout_s: float | None = None
    ) -> FuseResult:
        """One vector of each item's embeddings, whichever are there."""
        return self._ask(methods.FUSE, FuseQuery(items=tuple(items), model_id=model_id), timeout_s)

    def embed_objects(self, query: ObjectsQuery, *, timeout_s: float | None = None) -> ObjectsResult:
        """Objects of one scene in their context, and its summary."""
        return self._ask(methods.embed_objects(len(query.object_ids)), query, timeout_s)


class TrainerClient(_Client):
    """Trains, and publishes what was trained."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, trainer_pb2_grpc.TrainerServiceStub)

    def create_run(self, run_id: str, config: RunConfig, *, timeout_s: float | None = None) -> Run:
        """Start a run; with the name and config of one that is there, that one."""
        order = RunOrder(run_id=run_id, config=config)
        return self._ask(methods.CREATE_RUN, order, timeout_s)

    def run(self, run_id: str, *, timeout_s: float | None = None) -> Run:
        """How far a run has come."""
        return self._ask(methods.GET_RUN, run_id, timeout_s)

    def runs(
        self,
        states: tuple[RunState, ...] = (),
        *,
        page_size: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Run]:
        """All runs in one of these states, or in any, newest first, page by page."""
        listing = RunListing(states=states, page_size=page_size)
        for page in self._pages(methods.LIST_RUNS, listing, timeout_s):
            yield from page.runs

    def watch_run(self, run_id: str, *, offset: int = 0) -> Iterator[RunEvent]:
        """Events of a run until it ends; a broken watch goes on where it was."""
        return self._watch(methods.WATCH_RUN, run_id, offset)

    def cancel_run(self, run_id: str, *, timeout_s: float | None = None) -> Run:
        """Stop a run after its current step."""
        return self._ask(methods.CANCEL_RUN, run_id, timeout_s)

    def publish_bundle(self, run_id: str, bundle: str, *, timeout_s: float | None = None) -> Publication:
        """Make a bundle of a run's best checkpoint and have the services load it."""
        order = PublishOrder(run_id=run_id, bundle=bundle)
        return self._ask(methods.PUBLISH_BUNDLE, order, timeout_s)
