"""The clients against a gateway on the real runtime: both kinds, the same tests where they can be."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from tests.service.probe import serving_in_thread
from tests.service.twin_gateway import TwinGateway
from xscene import errors
from xscene.client import (
    AsyncFusionClient,
    AsyncSceneClient,
    AsyncTrainerClient,
    Connection,
    FusionClient,
    SceneClient,
    TrainerClient,
)
from xscene.serving.settings import ServerSettings
from xscene.types import (
    Image,
    LocalizeOptions,
    MatchQuery,
    Modality,
    ObjectQuery,
    PointCloud,
    ReindexOrder,
    RunState,
    SceneContent,
    SceneFilter,
    SceneHeader,
    SceneObject,
    SceneQuery,
    SceneRecord,
    SearchOptions,
)
from xscene.v1 import scene_pb2

RANDOM = np.random.default_rng(5)
FAST = {"initial_backoff_s": 0.01, "max_backoff_s": 0.05}


class GarblingGateway(TwinGateway):
    """A gateway whose answers lack what they must have."""

    async def GetScene(self, request: Any, context: Any) -> Any:
        return scene_pb2.GetSceneResponse()

    async def IngestScene(self, request_iterator: Any, context: Any) -> Any:
        _ = [message async for message in request_iterator]
        return scene_pb2.IngestSceneResponse(model={"model_id": "x"})

    async def WatchReindex(self, request: Any, context: Any) -> Any:
        yield scene_pb2.WatchReindexResponse()


@pytest.fixture
def twin(request: pytest.FixtureRequest) -> TwinGateway:
    return getattr(request, "param", TwinGateway)()


@pytest.fixture
def address(twin: TwinGateway) -> Iterator[str]:
    with serving_in_thread(lambda: twin, ServerSettings(metrics_port=0)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(address: str) -> Iterator[SceneClient]:
    with SceneClient(Connection(address=address, **FAST)) as made:
        yield made


def record(scene_id: str, num_points: int = 10) -> SceneRecord:
    cloud = PointCloud.from_arrays(
        RANDOM.normal(size=(num_points, 3)), RANDOM.integers(0, 256, size=(num_points, 3))
    )
    pixels = RANDOM.integers(0, 256, size=(6, 8, 3)).astype(np.uint8)
    chair = SceneObject(
        object_id="chair", label="chair", point_indices=np.arange(5, dtype=np.uint32), referrals=("a chair",)
    )
    content = SceneContent(texts=("a kitchen",), images=(Image(pixels=pixels),), point_cloud=cloud)
    return SceneRecord(header=SceneHeader(scene_id=scene_id), content=content, objects=(chair,))


def without_header(record: SceneRecord) -> tuple[object, ...]:
    return record.content, record.objects


def test_a_scene_larger_than_a_chunk_arrives_whole(client: SceneClient, twin: TwinGateway) -> None:
    sent = record("big", num_points=1_000_000)  # 15 MB, eight chunks
    outcome = client.ingest(sent)
    assert (outcome.scene_id, outcome.num_objects) == ("big", 1)
    assert [o.modality for o in outcome.outcomes] == [Modality.TEXT, Modality.IMAGE, Modality.POINT_CLOUD]
    assert without_header(twin.records["big"]) == without_header(sent)


def test_an_ingest_goes_on_when_the_server_is_away_in_its_midst(
    client: SceneClient, twin: TwinGateway
) -> None:
    twin.failures = 2
    sent = record("late", num_points=500_000)
    client.ingest(sent)
    assert twin.num_ingests == 3
    assert without_header(twin.records["late"]) == without_header(sent)


def test_an_ingest_gives_up_after_its_attempts(client: SceneClient, twin: TwinGateway) -> None:
    twin.failures = 100
    with pytest.raises(errors.NotReady, match="away in the middle"):
        client.ingest(record("never"))
    assert twin.num_ingests == 4


def test_a_call_is_tried_again_while_the_server_is_away(client: SceneClient, twin: TwinGateway) -> None:
    client.ingest(record("a"))
    twin.failures = 3
    assert client.scene("a").header.scene_id == "a"
    twin.failures = 4
    with pytest.raises(errors.NotReady):
        client.scene("a")


def test_a_client_without_retries_asks_once(address: str, twin: TwinGateway) -> None:
    twin.failures = 1
    with SceneClient(Connection(address=address, max_attempts=1)) as client:
        with pytest.raises(errors.NotReady):
            client.scene("a")
        with pytest.raises(errors.NotFound):
            client.scene("a")


def test_errors_are_those_that_the_server_raised(client: SceneClient) -> None:
    with pytest.raises(errors.NotFound, match="scene nowhere is not there"):
        client.scene("nowhere")
    with pytest.raises(errors.InvalidInput) as caught:
        client.scene("")
    assert caught.value.violations[0].field == "scene_id"


@pytest.mark.parametrize("twin", [GarblingGateway], indirect=True)
def test_an_answer_that_cannot_be_right_is_no_fault_of_the_caller(client: SceneClient) -> None:
    calls = {
        "GetScene is not valid: scene.header: missing": lambda: client.scene("a"),
        "IngestScene is not valid: model.model_id: 'x'": lambda: client.ingest(record("a")),
        "WatchReindex is not valid: reindex.created_at: missing": lambda: next(client.watch_reindex("r1")),
    }
    for message, call in calls.items():
        with pytest.raises(errors.XSceneError) as caught:
            call()
        assert type(caught.value) is errors.XSceneError
        assert caught.value.message.startswith(f"the answer of {message}")


async def test_half_a_character_is_the_callers_fault_and_named(address: str, twin: TwinGateway) -> None:
    torn = "ab\ud83d"
    torn_record = replace(record("a"), content=SceneContent(texts=("a kitchen", torn)))
    torn_label = replace(record("a"), objects=(SceneObject(object_id="chair", label=torn),))
    content = SceneContent(texts=(torn,))
    with SceneClient(Connection(address=address)) as client:
        calls = {
            "scene_id": lambda: client.scene(torn),
            "content.texts[0]": lambda: client.search_scenes(SceneQuery(content=content)),
            "content.texts[1]": lambda: client.ingest(torn_record),
            "objects[0].label": lambda: client.ingest(torn_label),
            "texts[0]": lambda: list(client.localize([content])),
            "filter.metadata": lambda: list(client.scenes(SceneFilter(metadata={torn: "x"}))),
            'filter.metadata["floor"]': lambda: list(client.scenes(SceneFilter(metadata={"floor": torn}))),
        }
        for field, call in calls.items():
            with pytest.raises(errors.InvalidInput, match="at 2 is half of a surrogate pair") as caught:
                call()
            assert caught.value.violations[0].field == field
    async with AsyncSceneClient(Connection(address=address)) as other:
        with pytest.raises(errors.InvalidInput) as caught:
            await other.ingest(torn_record)
        assert caught.value.violations[0].field == "content.texts[1]"
        with pytest.raises(errors.InvalidInput, match=r"texts\[0\]"):
            _ = [belief async for belief in other.localize([content])]
    assert twin.records == {}


def test_lists_go_through_all_pages(client: SceneClient) -> None:
    for name in "abcde":
        client.ingest(record(name))
    assert [scene.header.scene_id for scene in client.scenes()] == list("abcde")
    assert [scene.header.scene_id for scene in client.scenes(page_size=4)] == list("abcde")
    assert (client.delete("c"), client.delete("c")) == (1, 0)
    assert [scene.header.scene_id for scene in client.scenes()] == list("abde")


def test_questions_and_answers_cross_the_wire(client: SceneClient) -> None:
    client.ingest(record("a"))
    client.ingest(record("b"))
    content = SceneContent(texts=("where I cook",))
    hits = client.search_scenes(SceneQuery(content=content, options=SearchOptions(limit=1)))
    assert [(hit.scene.header.scene_id, hit.score) for hit in hits.hits] == [("a", 1.0)]
    found = client.search_objects(ObjectQuery(content=SceneObjectContent("a chair")))
    assert [(hit.scene_id, hit.object_id) for hit in found.hits] == [("a", "chair"), ("b", "chair")]
    matches = client.match_objects(MatchQuery(source_scene_id="a", target_scene_id="b"))
    assert [(m.source_object_id, m.target_object_id) for m in matches.matches] == [("chair", "chair")]
    assert [e.modality for e in client.embed(content).embeddings] == [Modality.TEXT]


def SceneObjectContent(text: str) -> object:
    from xscene.types import ObjectContent

    return ObjectContent(texts=(text,))


def test_localising_answers_each_observation(client: SceneClient) -> None:
    parts = [LocalizeOptions(limit=3), SceneContent(texts=("a door",)), SceneContent(texts=("a window",))]
    beliefs = list(client.localize(parts))
    assert [belief.observation for belief in beliefs] == [0, 1]
    assert beliefs[0].unknown_probability == 0.25
    assert beliefs[0].model.trained


def test_a_fault_in_the_callers_own_stream_is_what_the_caller_gets(client: SceneClient) -> None:
    def parts() -> Iterator[SceneContent]:
        yield SceneContent(texts=("a door",))
        raise ZeroDivisionError("the camera broke")

    with pytest.raises(ZeroDivisionError, match="the camera broke"):
        list(client.localize(parts()))


def test_a_watch_goes_on_at_its_offset_when_it_breaks(client: SceneClient) -> None:
    assert client.start_reindex(ReindexOrder(reindex_id="r1", bundle="next")).state is RunState.QUEUED
    events = list(client.watch_reindex("r1"))
    assert [event.offset for event in events] == [0, 1, 2, 3, 4, 5]
    assert events[-1].reindex.state is RunState.SUCCEEDED
    assert [event.offset for event in client.watch_reindex("r1", offset=4)] == [4, 5]
    assert client.reindex("r1").state is RunState.RUNNING
    assert client.cancel_reindex("r1").state is RunState.CANCELLED


def test_a_deadline_ends_the_call() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with SceneClient(Connection(address=address)) as client:
            started = time.monotonic()
            with pytest.raises(errors.DeadlineExceeded):
                client.scene("a", timeout_s=0.3)
            assert time.monotonic() - started < 5


def test_a_server_that_is_not_there_is_not_ready(free_port: int) -> None:
    connection = Connection(address=f"127.0.0.1:{free_port}", max_attempts=1)
    with SceneClient(connection) as client, pytest.raises(errors.NotReady):
        client.scene("a", timeout_s=5)


async def test_the_asyncio_client_does_the_same(address: str, twin: TwinGateway) -> None:
    async with AsyncSceneClient(Connection(address=address, **FAST)) as client:
        twin.failures = 2
        sent = record("big", num_points=400_000)
        assert (await client.ingest(sent)).scene_id == "big"
        assert without_header(twin.records["big"]) == without_header(sent)
        twin.failures = 0
        await client.ingest(record("a"))
        await client.ingest(record("b"))
        assert [s.header.scene_id async for s in client.scenes()] == ["a", "b", "big"]
        hits = await client.search_scenes(SceneQuery(content=SceneContent(texts=("x",))))
        assert len(hits.hits) == 3
        observations = [SceneContent(texts=("a door",))] * 2
        assert [b.observation async for b in client.localize(observations)] == [0, 1]
        assert [e.offset async for e in client.watch_reindex("r1")] == [0, 1, 2, 3, 4, 5]
        with pytest.raises(errors.NotFound):
            await client.scene("nowhere")

        async def broken():
            yield SceneContent(texts=("a door",))
            raise ZeroDivisionError("the camera broke")

        with pytest.raises(ZeroDivisionError):
            _ = [b async for b in client.localize(broken())]


@pytest.mark.parametrize(
    ("threads", "asyncio"),
    [
        (SceneClient, AsyncSceneClient),
        (FusionClient, AsyncFusionClient),
        (TrainerClient, AsyncTrainerClient),
    ],
)
def test_both_kinds_offer_the_same_calls(threads: type, asyncio: type) -> None:
    def calls(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(threads) == calls(asyncio)


def test_many_threads_share_a_client(client: SceneClient) -> None:
    client.ingest(record("a"))
    seen: list[str] = []

    def ask() -> None:
        seen.extend(client.scene("a").header.scene_id for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["a"] * 400


@pytest.mark.parametrize(
    "address", ["localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "unix:/s"]
)
def test_a_token_may_travel_plain_on_this_machine(address: str) -> None:
    assert Connection(address=address, token="t").metadata == (("authorization", "Bearer t"),)


def test_a_token_may_travel_plain_where_the_caller_says_so_and_over_tls() -> None:
    Connection(address="robot.local:1", token="t", allow_plaintext_token=True)
    assert isinstance(
        Connection(address="robot.local:1", token="t", tls=True).credentials(), grpc.ChannelCredentials
    )
