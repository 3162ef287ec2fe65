"""Bundles of a running encoder: loading, unloading and switching, under traffic."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.service.toy_models import FILE, ToyFactory, write_bundle
from tests.service.toy_service import TIMEOUT_S, Toys, toys, until
from xscene.errors import (
    AlreadyExists,
    BundleInvalid,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotReady,
    Overloaded,
    SettingsInvalid,
)
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.server import Server
from xscene.serving.telemetry import BUNDLES


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """Three bundles whose model `shift` adds 0, 10 and 20."""
    for number in range(3):
        write_bundle(tmp_path, f"b{number}", offset=10 * number)
    return tmp_path


def version(bundles: Path, name: str) -> str:
    digest = hashlib.sha256((bundles / name / FILE).read_bytes()).hexdigest()
    return str(int(digest[:15], 16))


async def load(service: Toys, bundle: str, model: str = "shift") -> None:
    await service.client.load(model, bundle, timeout_s=TIMEOUT_S)


async def unload(service: Toys, version: str = "") -> None:
    await service.client.unload("shift", version, timeout_s=TIMEOUT_S)


def loaded(service: Toys) -> set[str]:
    """Bundles that the metrics name."""
    (family,) = service.server.telemetry.bundles.collect()
    assert family.name == BUNDLES.name
    return {sample.labels["bundle"] for sample in family.samples if sample.value == 1}


async def test_a_request_without_a_version_gets_the_bundle_loaded_last(bundles: Path) -> None:
    async with toys(bundles, "b0", "b1") as service:
        assert await service.copy("shift", 1) == [11]
        assert await service.copy("shift", 1, version=version(bundles, "b0")) == [1]
        await load(service, "b2")
        assert await service.copy("shift", 1) == [21]
        await load(service, "b0")
        assert await service.copy("shift", 1) == [1]
        versions = (await service.client.describe("shift", timeout_s=TIMEOUT_S)).versions
        assert versions == tuple(version(bundles, name) for name in ("b1", "b2", "b0"))


async def test_answers_and_configuration_say_which_bundle_they_are_of(bundles: Path) -> None:
    write_bundle(bundles, "raw", trained=False)
    digest = hashlib.sha256((bundles / "raw" / FILE).read_bytes()).hexdigest()
    async with toys(bundles, "b0", "raw", allow_untrained=True) as service:
        answer = await service.ask("shift", 1)
        assert (answer.model_id, answer.bundle, answer.trained) == (digest, "raw", False)
        assert answer.version == version(bundles, "raw")
        assert (await service.ask("shift", 1, version=version(bundles, "b0"))).trained is True
        assert await service.client.parameters("shift", timeout_s=TIMEOUT_S) == {
            "model_id": digest,
            "bundle": "raw",
            "trained": "false",
            "version": answer.version,
            "max_values": "1024",
        }


async def test_bundles_are_switched_under_traffic_without_a_failed_call(bundles: Path) -> None:
    async with toys(bundles, "b0") as service:
        found: list[int] = []
        stopped = asyncio.Event()

        async def call() -> None:
            while not stopped.is_set():
                found.extend(await service.copy("shift", 1))

        callers = [asyncio.create_task(call()) for _ in range(16)]
        for number in (1, 2, 0, 1, 2, 0, 1):
            old = (await service.ask("shift", 0)).version
            await load(service, f"b{number}")
            await unload(service, old)
            await asyncio.sleep(0.02)
        stopped.set()
        await asyncio.gather(*callers)
        assert set(found) == {1, 11, 21}
        assert len(found) > 100
        index = await service.client.index(timeout_s=TIMEOUT_S)
        assert [row.version for row in index if row.name == "shift"] == [version(bundles, "b1")]


async def test_a_bundle_is_seen_only_when_it_is_warm_and_others_answer_meanwhile(bundles: Path) -> None:
    async with toys(bundles, "b0") as service:
        service.factory.gate.clear()
        loading = asyncio.create_task(load(service, "b1"))
        await asyncio.sleep(0.1)
        assert await service.copy("shift", 1) == [1]
        assert not await service.client.is_model_ready("shift", version(bundles, "b1"), timeout_s=TIMEOUT_S)
        service.factory.gate.set()
        await loading
        assert service.toy("shift").num_warm_ups == 1
        assert await service.copy("shift", 1) == [11]


async def test_a_load_whose_caller_gives_up_goes_on(bundles: Path) -> None:
    async with toys(bundles, "b0") as service:
        service.factory.gate.clear()
        with pytest.raises(DeadlineExceeded):
            await service.client.load("shift", "b1", timeout_s=0.1)
        service.factory.gate.set()
        new = version(bundles, "b1")
        await until(lambda: service.client.is_model_ready("shift", new, timeout_s=TIMEOUT_S))


async def test_loading_the_same_bundle_at_once_from_two_sides_loads_one_version(bundles: Path) -> None:
    async with toys(bundles, "b0") as service:
        await asyncio.gather(load(service, "b1"), load(service, "b1"), load(service, "b1"))
        index = await service.client.index(timeout_s=TIMEOUT_S)
        assert [row.version for row in index if row.name == "shift"] == [
            version(bundles, "b0"),
            version(bundles, "b1"),
        ]


async def test_unloading_waits_for_the_calls_that_use_the_version(bundles: Path) -> None:
    async with toys(bundles, "b0", "b1") as service:
        toy = service.toy("shift")
        toy.gate.clear()
        asked = asyncio.create_task(service.copy("shift", 1))
        await asyncio.sleep(0.1)
        unloading = asyncio.create_task(unload(service, toy.version))
        await asyncio.sleep(0.1)
        assert not unloading.done()
        # Already out of sight, so that nobody else begins to use it.
        assert not await service.client.is_model_ready("shift", toy.version, timeout_s=TIMEOUT_S)
        toy.gate.set()
        assert await asked == [11]
        await unloading
        assert await service.copy("shift", 1) == [1]


async def test_a_model_without_a_version_is_away_and_comes_back(bundles: Path) -> None:
    async with toys(bundles, "b0", "b1") as service:
        await unload(service)
        await unload(service)
        with pytest.raises(NotReady, match="no version of model shift is loaded"):
            await service.ask("shift", 1)
        assert await service.copy("sleepy", 1) == [1]
        assert [(row.name, row.ready) for row in await service.client.index(timeout_s=TIMEOUT_S)] == [
            ("shift", False),
            *[(name, True) for name in ("sleepy", "sleepy", "poisonous", "poisonous")],
        ]
        await service.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="shift"))
        assert await service.copy("shift", 1) == [11]


async def test_metrics_name_a_bundle_as_long_as_one_model_of_it_is_loaded(bundles: Path) -> None:
    async with toys(bundles, "b0", "b1", factory=ToyFactory("shift", "sleepy")) as service:
        assert loaded(service) == {"b0", "b1"}
        old = version(bundles, "b0")
        await unload(service, old)
        assert loaded(service) == {"b0", "b1"}
        await service.client.unload("sleepy", old, timeout_s=TIMEOUT_S)
        assert loaded(service) == {"b1"}
        await asyncio.gather(unload(service), service.client.unload("sleepy", timeout_s=TIMEOUT_S))
        assert loaded(service) == set()


async def test_a_torn_bundle_is_refused_and_the_old_one_stays(bundles: Path) -> None:
    (bundles / "torn").mkdir()
    (bundles / "torn" / FILE).write_text("torn")
    async with toys(bundles, "b0") as service:
        with pytest.raises(BundleInvalid, match="bundle torn"):
            await load(service, "torn")
        assert await service.copy("shift", 1) == [1]
        assert loaded(service) == {"b0"}


@pytest.mark.parametrize("name", ["", "..", ".", "../b0", "b0/", "/b0", "b0/../b1", "b\0", "b" * 129, "-x"])
async def test_a_name_that_leads_elsewhere_is_no_bundle(bundles: Path, name: str) -> None:
    async with toys(bundles, "b0", factory=ToyFactory("shift")) as service:
        with pytest.raises(InvalidInput, match="bundle"):
            await load(service, name)


async def test_a_bundle_that_is_not_there_is_not_found(bundles: Path) -> None:
    async with toys(bundles, "b0", factory=ToyFactory("shift")) as service:
        with pytest.raises(NotFound, match="there is no bundle b9"):
            await load(service, "b9")


async def test_untrained_bundles_need_a_setting(bundles: Path) -> None:
    write_bundle(bundles, "raw", trained=False)
    async with toys(bundles, "b0") as service:
        with pytest.raises(SettingsInvalid, match="allow_untrained") as caught:
            await load(service, "raw")
        assert caught.value.status == "FAILED_PRECONDITION"


async def test_one_bundle_too_many_is_refused_until_another_is_unloaded(bundles: Path) -> None:
    async with toys(bundles, "b0", factory=ToyFactory("shift"), max_loaded_bundles=2) as service:
        await load(service, "b1")
        await load(service, "b1")
        with pytest.raises(Overloaded, match="2 bundles are loaded, the limit max_loaded_bundles is 2"):
            await load(service, "b2")
        await unload(service, version(bundles, "b0"))
        await load(service, "b2")
        assert await service.copy("shift", 1) == [21]


async def test_a_version_that_is_another_model_already_is_refused(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with toys(bundles, "b0", factory=ToyFactory("shift")) as service:
        taken = service.toy("shift")
        original = ToyFactory.load

        def clash(factory: ToyFactory, name: str, directory: Path) -> Any:
            toy = original(factory, name, directory)
            toy.version = taken.version
            toy.model_id = taken.model_id[:15] + "0" * 49
            return toy

        monkeypatch.setattr(ToyFactory, "load", clash)
        with pytest.raises(AlreadyExists, match=f"version {taken.version} is {taken.model_id}, not"):
            await load(service, "b1")
        assert await service.copy("shift", 1) == [1]


async def start(folder: Path, factory: ToyFactory, *names: str) -> None:
    given = EncoderSettings(metrics_port=0, bundles_dir=folder, bundles=names)
    server = Server(EncoderService("text", given, factory), given)
    try:
        await server.start()
    finally:
        await server.drain()


async def test_a_service_does_not_start_without_one_of_its_bundles(bundles: Path) -> None:
    with pytest.raises(NotFound, match="there is no bundle nope"):
        await start(bundles, ToyFactory("shift"), "b0", "nope")


async def test_a_service_does_not_start_with_a_torn_bundle(bundles: Path) -> None:
    (bundles / "b1" / FILE).write_text("torn")
    with pytest.raises(BundleInvalid, match="bundle b1: torn"):
        await start(bundles, ToyFactory("shift"), "b0", "b1")


async def test_a_bundle_without_one_of_the_models_serves_the_others(bundles: Path) -> None:
    write_bundle(bundles, "half", without=["sleepy", "poisonous"])
    async with toys(bundles, "half") as service:
        assert await service.copy("shift", 1) == [1]
        with pytest.raises(NotReady, match="no version of model sleepy"):
            await service.ask("sleepy", 1)
    with pytest.raises(NotFound, match="holds no sleepy"):
        await start(bundles, ToyFactory("sleepy"), "half")
