"""The trainer's clients against a trainer on the real runtime, for threads and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.service.probe import serving_in_thread
from tests.service.twin_trainer import EVENTS, TwinTrainer
from xscene import errors
from xscene.client import AsyncTrainerClient, Connection, TrainerClient
from xscene.client.connection import OWN_RETRIES
from xscene.serving.settings import ServerSettings
from xscene.types import ModelInfo, PublishOutcome, RunConfig, RunState
from xscene.v1 import scene_pb2, trainer_pb2

FAST = {"initial_backoff_s": 0.01, "max_backoff_s": 0.05}
CONFIG = RunConfig(
    recipe="scene",
    datasets=("rooms-train",),
    seed=7,
    overrides={"epochs": 3, "lr": 1e-3, "heads": [{"width": 256, "bias": False}], "resume": None},
)


class GarblingTrainer(TwinTrainer):
    """A trainer whose answers lack what they must have."""

    async def GetRun(self, request: Any, context: Any) -> Any:
        return trainer_pb2.GetRunResponse(run={"run_id": request.run_id})

    async def ListRuns(self, request: Any, context: Any) -> Any:
        return trainer_pb2.ListRunsResponse(runs=[{"run_id": "x"}])

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.offsets_asked.append(request.offset)
        yield trainer_pb2.WatchRunResponse(offset=0, time={"seconds": 1}, state=0)


@pytest.fixture
def twin(request: pytest.FixtureRequest) -> TwinTrainer:
    return getattr(request, "param", TwinTrainer)()


@pytest.fixture
def address(twin: TwinTrainer) -> Iterator[str]:
    with serving_in_thread(lambda: twin, ServerSettings(metrics_port=0)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(address: str) -> Iterator[TrainerClient]:
    with TrainerClient(Connection(address=address, **FAST)) as made:
        yield made


def test_a_run_is_created_once_however_often_it_is_asked_for(
    client: TrainerClient, twin: TwinTrainer
) -> None:
    twin.failures = 2
    run = client.create_run("night-1", CONFIG)
    assert (run.run_id, run.config, run.state) == ("night-1", CONFIG, RunState.QUEUED)
    assert isinstance(run.config.overrides["epochs"], int)
    assert client.create_run("night-1", CONFIG) == run == client.run("night-1")
    with pytest.raises(errors.AlreadyExists, match="night-1 has another config"):
        client.create_run("night-1", RunConfig(recipe="instance"))
    assert list(twin.runs) == ["night-1"]


def test_errors_are_those_that_the_trainer_raised(client: TrainerClient) -> None:
    with pytest.raises(errors.NotFound, match="run nowhere is not there"):
        client.run("nowhere")
    with pytest.raises(errors.InvalidInput) as caught:
        client.create_run("Night 1", CONFIG)
    assert caught.value.violations[0].field == "run_id"
    with pytest.raises(errors.LimitExceeded, match=r"config.overrides: \d+ bytes, the limit is 65536"):
        client.create_run("big", RunConfig(recipe="scene", overrides={"note": "a" * 70_000}))


def test_lists_go_through_all_pages_newest_first(client: TrainerClient) -> None:
    for name in "abcde":
        client.create_run(name, CONFIG)
    client.cancel_run("b")
    client.cancel_run("d")
    assert [run.run_id for run in client.runs()] == list("edcba")
    assert [run.run_id for run in client.runs(page_size=4)] == list("edcba")
    assert [run.run_id for run in client.runs((RunState.CANCELLED,), page_size=1)] == ["d", "b"]
    assert list(client.runs((RunState.FAILED, RunState.RUNNING))) == []


def test_a_lone_state_is_not_taken_letter_by_letter(client: TrainerClient) -> None:
    with pytest.raises(errors.InvalidInput, match="states: RunState, needs a tuple"):
        list(client.runs(RunState.FAILED))  # type: ignore[arg-type]


def test_a_watch_goes_on_at_its_offset_when_it_breaks(client: TrainerClient, twin: TwinTrainer) -> None:
    client.create_run("r1", CONFIG)
    assert tuple(client.watch_run("r1")) == EVENTS
    assert twin.offsets_asked == [0, 2, 4]
    assert tuple(client.watch_run("r1", offset=4)) == EVENTS[4:]


def test_a_watch_gives_up_after_its_attempts(client: TrainerClient, twin: TwinTrainer) -> None:
    client.create_run("r1", CONFIG)
    twin.failures = 100
    with pytest.raises(errors.NotReady, match="away for a moment"):
        list(client.watch_run("r1"))
    assert twin.offsets_asked == [0, 0, 0, 0]


def test_a_watch_of_what_is_not_there_is_not_tried_again(client: TrainerClient, twin: TwinTrainer) -> None:
    with pytest.raises(errors.NotFound):
        list(client.watch_run("nowhere"))
    assert twin.offsets_asked == [0]


@pytest.mark.parametrize("offset", [-1, 1 << 64])
def test_an_offset_that_no_message_can_hold_is_refused(client: TrainerClient, offset: int) -> None:
    with pytest.raises(errors.InvalidInput, match=f"offset: {offset}, needs 0 to"):
        next(client.watch_run("r1", offset=offset))


def test_publishing_tells_what_each_service_did(client: TrainerClient) -> None:
    client.create_run("night-1", CONFIG)
    published = client.publish_bundle("night-1", "night-1.2026")
    assert published.model == ModelInfo(model_id="cd" * 32, bundle="night-1.2026", trained=True)
    assert published.outcomes == (
        PublishOutcome(service="text", loaded=True),
        PublishOutcome(service="points", loaded=False, reason="not reachable"),
    )
    with pytest.raises(errors.InvalidInput, match=r"bundle: '\.hidden'"):
        client.publish_bundle("night-1", ".hidden")


async def test_the_asyncio_client_does_the_same(address: str, twin: TwinTrainer) -> None:
    async with AsyncTrainerClient(Connection(address=address, **FAST)) as client:
        for name in "abc":
            assert (await client.create_run(name, CONFIG)).config == CONFIG
        assert (await client.run("a")).state is RunState.QUEUED
        assert (await client.cancel_run("b")).state is RunState.CANCELLED
        assert [run.run_id async for run in client.runs()] == ["c", "b", "a"]
        assert [run.run_id async for run in client.runs((RunState.CANCELLED,), page_size=1)] == ["b"]
        assert tuple([event async for event in client.watch_run("a")]) == EVENTS
        assert twin.offsets_asked == [0, 2, 4]
        assert (await client.publish_bundle("a", "next")).model.bundle == "next"
        twin.failures = 100
        with pytest.raises(errors.NotReady):
            _ = [event async for event in client.watch_run("a")]
        assert twin.offsets_asked == [0, 2, 4, 0, 0, 0, 0]
        with pytest.raises(errors.InvalidInput, match="offset: -1"):
            await anext(client.watch_run("a", offset=-1))
        with pytest.raises(errors.InvalidInput, match="run_id"):
            await client.run("a\ud800")


@pytest.mark.parametrize("twin", [GarblingTrainer], indirect=True)
async def test_an_answer_that_cannot_be_right_is_no_fault_of_the_caller(
    address: str, client: TrainerClient, twin: TwinTrainer
) -> None:
    with pytest.raises(errors.XSceneError) as caught:
        client.run("a")
    assert type(caught.value) is errors.XSceneError
    assert caught.value.message == "the answer of GetRun is not valid: run.config: missing"
    with pytest.raises(errors.XSceneError, match=r"answer of ListRuns is not valid: runs\[0\].config: missi"):
        list(client.runs())
    with pytest.raises(errors.XSceneError, match="answer of WatchRun is not valid: state: unset") as caught:
        list(client.watch_run("a"))
    assert caught.value.status == "INTERNAL"
    assert twin.offsets_asked == [0]
    async with AsyncTrainerClient(Connection(address=address, **FAST)) as other:
        with pytest.raises(errors.XSceneError, match="answer of GetRun is not valid") as caught:
            await other.run("a")
        assert caught.value.status == "INTERNAL"
        with pytest.raises(errors.XSceneError, match="answer of WatchRun is not valid") as caught:
            _ = [event async for event in other.watch_run("a")]
        assert caught.value.status == "INTERNAL"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"recipe": "a\ud800"}, "config.recipe"),
        ({"recipe": "a", "datasets": ("b", "a\udfff")}, "config.datasets[1]"),
        ({"recipe": "a", "overrides": {"a\ud800": 1}}, "config.overrides"),
        ({"recipe": "a", "overrides": {"b": [0, {"c": "a\ud800"}]}}, 'config.overrides["b"][1]["c"]'),
    ],
)
def test_half_a_character_is_the_callers_fault_and_named(
    client: TrainerClient, twin: TwinTrainer, config: dict, field: str
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        client.create_run("r1", RunConfig(**config))
    assert caught.value.violations[0].field == field
    assert "at 1 is half of a surrogate pair" in caught.value.message
    caught.value.message.encode()
    assert twin.runs == {}


@pytest.mark.parametrize("call", ["run", "cancel_run", "watch_run"])
def test_half_a_character_in_an_id_is_named(client: TrainerClient, call: str) -> None:
    with pytest.raises(errors.InvalidInput, match=r"run_id: character '\\udc80' at 2"):
        list(getattr(client, call)("ab\udc80"))


def test_grpc_leaves_every_watch_to_the_client() -> None:
    services = [
        scene_pb2.DESCRIPTOR.services_by_name["SceneService"],
        trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"],
    ]
    watches = [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if method.name.startswith("Watch")
    ]
    assert len(watches) == 2
    assert [watch for watch in watches if watch not in OWN_RETRIES] == []
