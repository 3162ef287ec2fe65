"""Streams that a client sends: refused early, cancelled, broken off, and repeated."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tests.service.probe import serving_in_thread
from tests.service.twin_gateway import TwinGateway
from xscene import codec, errors
from xscene.client import AsyncSceneClient, Connection, SceneClient
from xscene.serving.settings import ServerSettings
from xscene.types import PointCloud, SceneContent, SceneHeader, SceneRecord

FAST = {"initial_backoff_s": 0.01, "max_backoff_s": 0.05}
ROUNDS = 30
REFUSALS = (
    errors.InvalidInput.at("messages[1].item", "not wanted"),
    errors.LimitExceeded.of("messages[1].item", value=2, limit=1, unit="bytes"),
    errors.PermissionDenied("not you"),
    errors.StaleRevision("a newer one is stored"),
    errors.Overloaded("full"),
)
CLOUD = PointCloud.from_arrays(np.zeros((1_000_000, 3)))  # 12 MB, six chunks
RECORD = SceneRecord(header=SceneHeader(scene_id="a"), content=SceneContent(point_cloud=CLOUD))
OBSERVATION = SceneContent(point_cloud=PointCloud.from_arrays(np.zeros((200_000, 3))))


class StrictGateway(TwinGateway):
    """A gateway that refuses a stream at its first message, while more of them are on their way."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = REFUSALS[0]
        self.num_localisations = 0

    async def IngestScene(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        self.num_ingests += 1
        await anext(request_iterator)
        raise self.refusal

    async def Localize(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.num_localisations += 1
        async for _ in request_iterator:
            raise self.refusal
            yield


class SlowGateway(TwinGateway):
    """A gateway that takes a stream and never answers; notes that it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.cancelled = threading.Event(), threading.Event()

    async def IngestScene(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        self.num_ingests += 1
        await self._hang()

    async def Localize(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in request_iterator:
            await self._hang()
            yield

    async def _hang(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class HeaderGateway(TwinGateway):
    """A gateway that is away in the midst of the first ingests; keeps the header of each."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[SceneHeader] = []

    async def IngestScene(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        first = await anext(request_iterator)
        self.headers.append(codec.scenes.decode_header(first.header, "header", codec.Limits()))
        if len(self.headers) < 3:
            raise errors.NotReady("away in the middle of a stream")

        async def all_messages() -> AsyncIterator[Any]:
            yield first
            async for message in request_iterator:
                yield message

        return await super().IngestScene(all_messages(), context)


@pytest.fixture
def twin(request: pytest.FixtureRequest) -> TwinGateway:
    return request.param()


@pytest.fixture
def connection(twin: TwinGateway) -> Iterator[Connection]:
    with serving_in_thread(lambda: twin, ServerSettings(metrics_port=0)) as server:
        yield Connection(address=f"127.0.0.1:{server.port}", **FAST)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("twin", [StrictGateway], indirect=True)
async def test_a_stream_that_is_refused_early_ends_with_the_servers_own_error(
    connection: Connection, twin: StrictGateway, refusal: errors.XSceneError
) -> None:
    twin.refusal = refusal
    seen = []
    with SceneClient(connection) as client:
        for _ in range(ROUNDS // len(REFUSALS)):
            with pytest.raises(errors.XSceneError) as caught:
                client.ingest(RECORD)
            seen.append(caught.value)
            with pytest.raises(errors.XSceneError) as caught:
                list(client.localize([OBSERVATION] * 4))
            seen.append(caught.value)
    async with AsyncSceneClient(connection) as other:
        for _ in range(ROUNDS):
            with pytest.raises(errors.XSceneError) as caught:
                await other.ingest(RECORD)
            seen.append(caught.value)
            with pytest.raises(errors.XSceneError) as caught:
                _ = [belief async for belief in other.localize([OBSERVATION] * 4)]
            seen.append(caught.value)
    assert {type(error) for error in seen} == {type(refusal)}
    assert {error.message for error in seen} == {refusal.message}
    assert twin.num_ingests == twin.num_localisations == len(seen) // 2


@pytest.mark.parametrize("twin", [SlowGateway], indirect=True)
async def test_an_ingest_that_is_cancelled_is_cancelled_at_the_server(
    connection: Connection, twin: SlowGateway
) -> None:
    async with AsyncSceneClient(connection) as client:
        ingest = asyncio.create_task(client.ingest(RECORD))
        assert await asyncio.to_thread(twin.begun.wait, 10)
        ingest.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ingest
        assert await asyncio.to_thread(twin.cancelled.wait, 10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.ingest(RECORD)
        assert twin.num_ingests == 2


@pytest.mark.parametrize("twin", [SlowGateway], indirect=True)
async def test_closing_a_client_ends_its_ingest_without_another_attempt(
    connection: Connection, twin: SlowGateway
) -> None:
    client = AsyncSceneClient(connection)
    ingest = asyncio.create_task(client.ingest(RECORD))
    assert await asyncio.to_thread(twin.begun.wait, 10)
    await client.close()
    with pytest.raises(errors.Cancelled):
        await ingest
    assert await asyncio.to_thread(twin.cancelled.wait, 10)
    assert twin.num_ingests == 1


async def test_closing_a_client_ends_its_wait_for_the_next_attempt(free_port: int) -> None:
    connection = Connection(address=f"127.0.0.1:{free_port}", initial_backoff_s=30, max_backoff_s=30)
    client = AsyncSceneClient(connection)
    ingest = asyncio.create_task(client.ingest(RECORD))
    await asyncio.sleep(0.5)
    started = time.monotonic()
    await client.close()
    with pytest.raises(errors.NotReady):
        await ingest
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("twin", [SlowGateway], indirect=True)
async def test_a_localisation_that_is_left_takes_no_more_parts(
    connection: Connection, twin: SlowGateway
) -> None:
    ended = asyncio.Event()

    async def frames() -> AsyncIterator[SceneContent]:
        yield SceneContent(texts=("a door",))
        try:
            await asyncio.Event().wait()  # the camera gives nothing more
        finally:
            ended.set()

    async with AsyncSceneClient(connection) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                _ = [belief async for belief in client.localize(frames())]
        assert twin.begun.is_set()
        await asyncio.wait_for(ended.wait(), 10)
        assert await asyncio.to_thread(twin.cancelled.wait, 10)


@pytest.mark.parametrize("twin", [TwinGateway], indirect=True)
async def test_a_localisation_goes_back_and_forth(connection: Connection) -> None:
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def frames() -> AsyncIterator[SceneContent]:
        for number in range(5):
            yield SceneContent(texts=("a door",))
            assert await answers.get() == number  # no frame before the answer to the one before

    async with AsyncSceneClient(connection) as client:
        async for belief in client.localize(frames(), timeout_s=20):
            answers.put_nowait(belief.observation)


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
@pytest.mark.parametrize("twin", [HeaderGateway], indirect=True)
async def test_a_repeat_carries_the_revision_of_the_first_attempt(
    connection: Connection, twin: HeaderGateway, kind: str
) -> None:
    before = datetime.now(UTC)
    if kind == "threads":
        with SceneClient(connection) as client:
            outcome = client.ingest(RECORD)
    else:
        async with AsyncSceneClient(connection) as other:
            outcome = await other.ingest(RECORD)
    first, *repeats = twin.headers
    assert repeats == [first, first]
    assert before <= first.captured_at <= datetime.now(UTC)
    assert first == RECORD.header.resolved(first.captured_at)
    assert outcome.revision == first.revision > 0


@pytest.mark.parametrize("twin", [HeaderGateway], indirect=True)
def test_a_header_that_is_complete_is_sent_as_it_is(connection: Connection, twin: HeaderGateway) -> None:
    header = SceneHeader(scene_id="a", place_id="b", captured_at=datetime(2026, 1, 2, tzinfo=UTC), revision=7)
    with SceneClient(connection) as client:
        assert client.ingest(replace(RECORD, header=header)).revision == 7
    assert twin.headers == [header] * 3
