"""Clients for asyncio; the same calls as those for threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from xscene.client import methods
from xscene.client.connection import RETRIED, Connection, raised
from xscene.client.methods import Method
from xscene.client.threaded import Feed, ThreadedCall
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


class _AsyncClient:
    """One channel; `timeout_s` of a call replaces that of the connection."""

    def __init__(self, connection: Connection, make_stub: Any) -> None:
        self._connection = connection
        self._channel = connection.aio_channel()
        self._stub = make_stub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that are going on are cancelled."""
        await self._channel.close()

    async def _ask(self, method: Method[Q, A], question: Q, timeout_s: float | None) -> A:
        """One question, one answer."""
        return await self._answer(method, method.question(question), self._connection.deadline_s(timeout_s))

    async def _answer(self, method: Method[Any, A], request: Any, timeout_s: float) -> A:
        call = getattr(self._stub, method.name)
        try:
            answer = await call(request, timeout=timeout_s, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise raised(error) from None
        return method.answer(answer)

    async def _stream(self, method: Method[Any, A], request: Any) -> AsyncGenerator[A, None]:
        """Answers as they come, without a deadline; leaving the iteration cancels the call."""
        call = getattr(self._stub, method.name)
        answers = call(request, metadata=self._connection.metadata)
        try:
            async for answer in answers:
                yield method.answer(answer)
        except grpc.RpcError as error:
            raise raised(error) from None
        finally:
            answers.cancel()

    async def _pages(self, method: Method[L, P], listing: L, timeout_s: float | None) -> AsyncIterator[P]:
        """All pages from this one on."""
        while True:
            page = await self._ask(method, listing, timeout_s)
            yield page
            if not page.next_page_token:
                return
            listing = replace(listing, page_token=page.next_page_token)

    async def _watch(self, method: Method[tuple[str, int], E], name: str, offset: int) -> AsyncIterator[E]:
        """Events until the watched work ends; a broken watch goes on after the last event."""
        require_count(offset, "offset", low=0, num_bits=64)
        waits = self._connection.backoffs_s()
        while True:
            try:
                stream = self._stream(method, method.question((name, offset)))
                async with aclosing(stream) as events:
                    async for event in events:
                        offset = event.offset + 1
                        waits = self._connection.backoffs_s()
                        yield event
                return
            except RETRIED:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)


class AsyncSceneClient(_AsyncClient):
    """Stores scenes and asks for them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, scene_pb2_grpc.SceneServiceStub)
        self._calls: set[ThreadedCall] = set()

    async def close(self) -> None:
        """Close the connection; calls that are going on are cancelled."""
        for call in tuple(self._calls):
            call.client.close()
        await super().close()

    @contextmanager
    def _threaded(self) -> Iterator[ThreadedCall]:
        with ThreadedCall(self._connection) as call:
            self._calls.add(call)
            try:
                yield call
            finally:
                self._calls.discard(call)

    async def ingest(self, record: SceneRecord, *, timeout_s: float | None = None) -> IngestOutcome:
        """Store a scene; tried again from the start while the server is away, as a repeat changes nothing.

        A scene without `captured_at` is captured now.
        """
        with self._threaded() as call:
            return await call.run(call.client.ingest, record, timeout_s=timeout_s)

    async def scene(self, scene_id: str, *, timeout_s: float | None = None) -> Scene:
        """One stored scene."""
        return await self._ask(methods.GET_SCENE, scene_id, timeout_s)

    async def scenes(
        self,
        scenes: SceneFilter | None = None,
        *,
        page_size: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Scene]:
        """All scenes that a filter lets through, page by page."""
        listing = SceneListing(filter=scenes or SceneFilter(), page_size=page_size)
        async for page in self._pages(methods.LIST_SCENES, listing, timeout_s):
            for scene in page.scenes:
                yield scene

    async def delete(self, scene_id: str, *, timeout_s: float | None = None) -> int:
        """Delete a scene; how many objects went with it, 0 where it was not there."""
        return await self._ask(methods.DELETE_SCENE, scene_id, timeout_s)

    async def search_scenes(self, query: SceneQuery, *, timeout_s: float | None = None) -> SceneHits:
        """The scenes that fit best."""
        return await self._ask(methods.SEARCH_SCENES, query, timeout_s)

    async def search_objects(self, query: ObjectQuery, *, timeout_s: float | None = None) -> ObjectHits:
        """The objects that fit best."""
        return await self._ask(methods.SEARCH_OBJECTS, query, timeout_s)

    async def match_objects(self, query: MatchQuery, *, timeout_s: float | None = None) -> ObjectMatches:
        """Which objects of one scene are which of another."""
        return await self._ask(methods.MATCH_OBJECTS, query, timeout_s)

    async def localize(
        self,
        parts: Iterable[LocalizeOptions | SceneContent] | AsyncIterable[LocalizeOptions | SceneContent],
        *,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Belief]:
        """A belief for each observation; options, if any, come first.

        Parts of a plain iterable are taken on another thread, so that waiting for one blocks nothing here.
        """
        with ExitStack() as stack:
            call = stack.enter_context(self._threaded())
            taken = stack.enter_context(Feed(parts)) if isinstance(parts, AsyncIterable) else parts
            beliefs = call.client.localize(taken, timeout_s=timeout_s)
            while (belief := await call.run(next, beliefs, None)) is not None:
                yield belief

    async def embed(
        self, content: SceneContent | ObjectContent, *, timeout_s: float | None = None
    ) -> EmbedResult:
        """Embeddings of content, without storing it."""
        return await self._ask(methods.EMBED, content, timeout_s)

    async def start_reindex(self, order: ReindexOrder, *, timeout_s: float | None = None) -> Reindex:
        """Start to embed all scenes with another bundle."""
        return await self._ask(methods.START_REINDEX, order, timeout_s)

    async def reindex(self, reindex_id: str, *, timeout_s: float | None = None) -> Reindex:
        """How far a reindex has come."""
        return await self._ask(methods.GET_REINDEX, reindex_id, timeout_s)

    def watch_reindex(self, reindex_id: str, *, offset: int = 0) -> AsyncIterator[ReindexEvent]:
        """Events of a reindex until it ends; a broken watch goes on where it was."""
        return self._watch(methods.WATCH_REINDEX, reindex_id, offset)

    async def cancel_reindex(self, reindex_id: str, *, timeout_s: float | None = None) -> Reindex:
        """Stop a reindex."""
        return await self._ask(methods.CANCEL_REINDEX, reindex_id, timeout_s)


class AsyncFusionClient(_AsyncClient):
    """Fuses embeddings."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, fusion_pb2_grpc.FusionServiceStub)

    async def fuse(
        self, items: Sequence[FuseItem], *, model_id: str = "", timeout_s: float | None = None
    ) -> FuseResult:
        """One vector of each item's embeddings, whichever are there."""
        return await self._ask(methods.FUSE, FuseQuery(items=tuple(items), model_id=model_id), timeout_s)

    async def embed_objects(self, query: ObjectsQuery, *, timeout_s: float | None = None) -> ObjectsResult:
        """Objects of one scene in their context, and its summary."""
        return await self._ask(methods.embed_objects(len(query.object_ids)), query, timeout_s)


class AsyncTrainerClient(_AsyncClient):
    """Trains, and publishes what was trained."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, trainer_pb2_grpc.TrainerServiceStub)

    async def create_run(self, run_id: str, config: RunConfig, *, timeout_s: float | None = None) -> Run:
        """Start a run; with the name and config of one that is there, that one."""
        order = RunOrder(run_id=run_id, config=config)
        return await self._ask(methods.CREATE_RUN, order, timeout_s)

    async def run(self, run_id: str, *, timeout_s: float | None = None) -> Run:
        """How far a run has come."""
        return await self._ask(methods.GET_RUN, run_id, timeout_s)

    async def runs(
        self,
        states: tuple[RunState, ...] = (),
        *,
        page_size: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Run]:
        """All runs in one of these states, or in any, newest first, page by page."""
        listing = RunListing(states=states, page_size=page_size)
        async for page in self._pages(methods.LIST_RUNS, listing, timeout_s):
            for run in page.runs:
                yield run

    def watch_run(self, run_id: str, *, offset: int = 0) -> AsyncIterator[RunEvent]:
        """Events of a run until it ends; a broken watch goes on where it was."""
        return self._watch(methods.WATCH_RUN, run_id, offset)

    async def cancel_run(self, run_id: str, *, timeout_s: float | None = None) -> Run:
        """Stop a run after its current step."""
        return await self._ask(methods.CANCEL_RUN, run_id, timeout_s)

    async def publish_bundle(
        self, run_id: str, bundle: str, *, timeout_s: float | None = None
    ) -> Publication:
        """Make a bundle of a run's best checkpoint and have the services load it."""
        order = PublishOrder(run_id=run_id, bundle=bundle)
        return await self._ask(methods.PUBLISH_BUNDLE, order, timeout_s)
