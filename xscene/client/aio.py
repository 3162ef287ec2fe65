"""Clients for asyncio; the same calls as those for threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from xscene.client import methods
from xscene.client.connection import AsyncOutgoing, Connection, cause
from xscene.client.methods import Method
from xscene.errors import NotReady
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
    Reindex,
    ReindexEvent,
    ReindexOrder,
    Scene,
    SceneContent,
    SceneFilter,
    SceneHits,
    SceneListing,
    SceneQuery,
    SceneRecord,
)
from xscene.v1 import fusion_pb2_grpc, scene_pb2_grpc

Q = TypeVar("Q")
A = TypeVar("A")


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
        return await self._answer(method, method.encode(question), timeout_s or self._connection.timeout_s)

    async def _answer(self, method: Method[Any, A], request: Any, timeout_s: float) -> A:
        call = getattr(self._stub, method.name)
        try:
            answer = await call(request, timeout=timeout_s, metadata=self._connection.metadata)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise cause(request, error) from None
        return method.decode(answer)

    async def _stream(
        self, method: Method[Any, A], request: Any, timeout_s: float | None
    ) -> AsyncIterator[A]:
        """Answers as they come; leaving the iteration cancels the call."""
        call = getattr(self._stub, method.name)
        answers = call(request, timeout=timeout_s, metadata=self._connection.metadata)
        try:
            async for answer in answers:
                yield method.decode(answer)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise cause(request, error) from None
        finally:
            answers.cancel()


class AsyncSceneClient(_AsyncClient):
    """Stores scenes and asks for them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, scene_pb2_grpc.SceneServiceStub)

    async def ingest(self, record: SceneRecord, *, timeout_s: float | None = None) -> IngestOutcome:
        """Store a scene; tried again from the start while the server is away, as a repeat changes nothing."""
        until = time.monotonic() + (timeout_s or self._connection.timeout_s)
        waits = self._connection.backoffs_s()
        while True:
            try:
                messages = AsyncOutgoing(methods.INGEST_SCENE.encode(record))
                return await self._answer(
                    methods.INGEST_SCENE, messages, max(until - time.monotonic(), 0.001)
                )
            except NotReady:
                wait_s = next(waits, None)
                if wait_s is None or time.monotonic() + wait_s >= until:
                    raise
                await asyncio.sleep(wait_s)

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
        token = ""
        while True:
            listing = SceneListing(filter=scenes or SceneFilter(), page_size=page_size, page_token=token)
            page = await self._ask(methods.LIST_SCENES, listing, timeout_s)
            for scene in page.scenes:
                yield scene
            token = page.next_page_token
            if not token:
                return

    async def delete(self, scene_id: str, *, timeout_s: float | None = None) -> int:
        """Delete a scene; how many objects went with it."""
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

    def localize(
        self,
        parts: Iterable[LocalizeOptions | SceneContent] | AsyncIterable[LocalizeOptions | SceneContent],
        *,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Belief]:
        """A belief for each observation; options, if any, come first."""
        if isinstance(parts, AsyncIterable):
            return self._stream(methods.LOCALIZE, AsyncOutgoing(_encoded(parts)), timeout_s)
        requests = AsyncOutgoing(map(methods.LOCALIZE.encode, parts))
        return self._stream(methods.LOCALIZE, requests, timeout_s)

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

    async def watch_reindex(self, reindex_id: str, *, offset: int = 0) -> AsyncIterator[ReindexEvent]:
        """Events of a reindex until it ends; a broken watch goes on where it was."""
        waits = self._connection.backoffs_s()
        while True:
            try:
                request = methods.WATCH_REINDEX.encode((reindex_id, offset))
                async for event in self._stream(methods.WATCH_REINDEX, request, None):
                    offset = event.offset + 1
                    waits = self._connection.backoffs_s()
                    yield event
                return
            except NotReady:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)

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


async def _encoded(parts: AsyncIterable[LocalizeOptions | SceneContent]) -> AsyncIterator[Any]:
    async for part in parts:
        yield methods.LOCALIZE.encode(part)
