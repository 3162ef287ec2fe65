"""An encoder under overload, deadlines, poisoned items, broken streams, and the death of its thread."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.contract.tree import ROOT
from tests.service.toy_models import DEADLY, POISON, ToyFactory, write_bundle
from tests.service.toy_service import TIMEOUT_S, Toys, toys, until
from xscene.errors import DeadlineExceeded, InvalidInput, Overloaded, XSceneError
from xscene.oip import InferenceClient
from xscene.serving.encoder import EncoderService, EncoderSettings
from xscene.serving.server import Server, Service, serve
from xscene.serving.settings import ServerSettings

MIB = 1 << 20


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    write_bundle(tmp_path, "toy")
    return tmp_path


def message(model: str, value: int, request_id: str = "") -> Any:
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="values", datatype="INT32", shape=[1])
    request.raw_input_contents.append(np.int32(value).tobytes())
    return request


async def outcome(work: Any) -> str:
    try:
        await work
    except XSceneError as error:
        return error.status
    return "OK"


async def test_ten_times_the_queue_is_refused_at_once_and_the_rest_answered(bundles: Path) -> None:
    async with toys(bundles, "toy", max_queue=8) as service:
        toy = service.toy("shift")
        toy.gate.clear()
        calls = [asyncio.create_task(outcome(service.ask("shift", n))) for n in range(80)]
        await until(lambda: sum(call.done() for call in calls) == 72)
        assert {call.result() for call in calls if call.done()} == {"RESOURCE_EXHAUSTED"}
        with pytest.raises(Overloaded, match="the limit max_queue is 8") as caught:
            await service.ask("shift", 1)
        assert caught.value.retry_after_s == pytest.approx(0.1)
        toy.gate.set()
        assert Counter(await asyncio.gather(*calls)) == {"OK": 8, "RESOURCE_EXHAUSTED": 72}
        assert await service.copy("shift", 1) == [1]


async def test_work_past_its_deadline_or_given_up_never_reaches_the_model(bundles: Path) -> None:
    async with toys(bundles, "toy") as service:
        toy = service.toy("shift")
        toy.gate.clear()
        first = asyncio.create_task(service.copy("shift", 1))
        await until(lambda: service.server.telemetry.queue.collect()[0].samples[0].value == 1)
        await asyncio.sleep(0.05)
        with pytest.raises(DeadlineExceeded):
            await service.ask("shift", 2, timeout_s=0.2)
        given_up = asyncio.create_task(service.ask("shift", 3))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.sleep(0.1)
        toy.gate.set()
        assert await first == [1]
        assert await service.copy("shift", 4) == [4]
        assert toy.seen == [1, 4]


async def test_a_poisoned_item_fails_alone_and_says_nothing_of_our_insides(bundles: Path) -> None:
    async with toys(bundles, "toy", factory=ToyFactory("poisonous"), window_ms=100) as service:
        toy = service.toy("poisonous")
        toy.gate.clear()
        held = asyncio.create_task(service.copy("poisonous", 0))
        await asyncio.sleep(0.1)
        calls = [asyncio.create_task(service.copy("poisonous", n)) for n in (1, POISON, 2)]
        refused = asyncio.create_task(service.copy("poisonous", -5))
        with pytest.raises(InvalidInput, match=r"values\[0\]: -5 is negative"):
            await refused
        await asyncio.sleep(0.1)
        toy.gate.set()
        assert await held == [0]
        one, poisoned, two = await asyncio.gather(*calls, return_exceptions=True)
        assert (one, two) == ([1], [2])
        assert toy.batches[:2] == [1, 3]
        assert type(poisoned) is XSceneError
        assert "poisoned" not in poisoned.message
        assert "under trace" in poisoned.message


async def test_a_stream_is_read_no_further_than_its_limit(bundles: Path) -> None:
    sent: list[int] = []

    async def requests() -> AsyncIterator[Any]:
        for number in range(50):
            sent.append(number)
            yield message("shift", number, str(number))

    async with toys(bundles, "toy", max_stream_requests=4, max_queue=4) as service:
        toy = service.toy("shift")
        toy.gate.clear()
        stream = service.stub.ModelStreamInfer(requests())
        await asyncio.sleep(0.3)
        assert service.server.telemetry.queue.collect()[0].samples[0].value == 4
        toy.gate.set()
        answers = [answer async for answer in stream]
        # A queue as long as the limit was never full, though the stream is much longer.
        assert [answer.error_message for answer in answers] == [""] * 50
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(50)]


async def test_a_stream_tells_each_fault_with_the_id_of_its_request(bundles: Path) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield message("shift", 1, "good")
        yield message("nope", 1, "unknown")
        yield message("poisonous", -1, "refused")
        yield message("poisonous", POISON, "poisoned")
        yield message("shift", 2, "good too")

    async with toys(bundles, "toy") as service:
        answers = [answer async for answer in service.stub.ModelStreamInfer(requests())]
        told = {answer.infer_response.id: answer.error_message for answer in answers}
        assert list(told) == ["good", "unknown", "refused", "poisoned", "good too"]
        assert (told["good"], told["good too"]) == ("", "")
        assert "'nope' is none of" in told["unknown"]
        assert told["refused"] == "values[0]: -1 is negative"
        assert "under trace" in told["poisoned"]


async def test_bytes_that_are_no_message_end_a_stream_after_the_answers_before_them(bundles: Path) -> None:
    async with toys(bundles, "toy") as service:
        call = service.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        await call.write(message("shift", 1, "good").SerializeToString())
        await call.write(b"\xff\xff\xff")
        answer = pb.ModelStreamInferResponse.FromString(await call.read())
        assert answer.infer_response.id == "good"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "3 bytes that are not the message" in caught.value.details()


async def test_a_stream_that_is_left_leaves_nothing_behind(bundles: Path) -> None:
    async def requests() -> AsyncIterator[Any]:
        for number in range(20):
            yield message("shift", number)
        await asyncio.Event().wait()

    async with toys(bundles, "toy", max_stream_requests=8) as service:
        toy = service.toy("shift")
        toy.gate.clear()
        stream = service.stub.ModelStreamInfer(requests())
        queue = service.server.telemetry.queue
        await until(lambda: queue.collect()[0].samples[0].value == 8)
        stream.cancel()
        await until(lambda: queue.collect()[0].samples[0].value == 0)
        toy.gate.set()
        assert await service.copy("shift", 99) == [99]
        # Eight were let in; no other was read, and at most these eight were at work.
        assert set(toy.seen) <= {*range(8), 99}


async def ready(service: Toys) -> bool:
    return await service.client.is_server_ready(timeout_s=TIMEOUT_S)


async def test_the_server_is_ready_from_warm_up_to_drain(bundles: Path) -> None:
    async with toys(bundles, "toy", drain_delay_s=0.5) as service:
        assert await ready(service)
        draining = asyncio.create_task(service.server.drain())
        await asyncio.sleep(0.1)
        assert not await ready(service)
        await draining


async def test_it_is_live_but_not_ready_while_it_warms_up(bundles: Path) -> None:
    factory = ToyFactory("shift")
    factory.gate.clear()
    given = EncoderSettings(metrics_port=0, bundles_dir=bundles, bundles=("toy",))
    server = Server(EncoderService("text", given, factory), given)
    starting = asyncio.create_task(server.start())
    await until(lambda: server.port != 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        client, stub = InferenceClient(channel), service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest(), wait_for_ready=True)).live
        assert not await client.is_server_ready(timeout_s=TIMEOUT_S)
        assert await outcome(client.index(timeout_s=TIMEOUT_S)) == "UNAVAILABLE"
        factory.gate.set()
        await starting
        assert await client.is_server_ready(timeout_s=TIMEOUT_S)
    await server.drain()


PROGRAM = """
import sys
from pathlib import Path
from tests.service.toy_models import ToyFactory
from xscene.serving import server
from xscene.serving.encoder import EncoderService, EncoderSettings

def make(given):
    return EncoderService("text", given, ToyFactory("poisonous"))

sys.exit(server.run("text", EncoderSettings, make, sys.argv[1:], {}))
"""


@contextmanager
def crashing(bundles: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A service in a process of its own, whose model can end the thread that computes."""
    flags = ["--port", str(port), "--metrics-port", "0", "--bundles-dir", str(bundles)]
    flags += ["--bundles", "toy", "--drain-delay-s", "1"]
    command = [sys.executable, "-c", PROGRAM, *flags]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_dead_thread_is_told_to_callers_and_to_health_and_ends_the_process(
    bundles: Path, free_port: int
) -> None:
    with crashing(bundles, free_port) as process:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port}") as channel:
            client, health = InferenceClient(channel), health_pb2_grpc.HealthStub(channel)
            await channel.channel_ready()
            await until(lambda: client.is_server_ready(timeout_s=TIMEOUT_S))
            values = {"values": np.array([DEADLY], np.int32)}
            with pytest.raises(XSceneError, match="a thread that computes has died"):
                await client.infer("poisonous", values, timeout_s=TIMEOUT_S)
            await asyncio.sleep(0.3)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert not await client.is_server_ready(timeout_s=TIMEOUT_S)
        _, log = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    last = json.loads(log.splitlines()[-1])
    assert (last["event"], last["why"]) == ("ended", "the service can no longer answer")


class Brief(Service):
    """A service whose watch ends at once."""

    name = "text"

    def __init__(self, fault: Exception | None) -> None:
        self._fault = fault
        self.stopped = False

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        return ()

    async def start(self, telemetry: Any) -> None:
        """Nothing to load."""

    async def watch(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(
    ("fault", "why"),
    [(None, "the service can no longer answer"), (XSceneError("the device is gone"), "the device is gone")],
)
async def test_a_watch_that_ends_drains_the_server_and_is_told(fault: Exception | None, why: str) -> None:
    brief = Brief(fault)
    with pytest.raises(XSceneError, match=why):
        await serve(brief, ServerSettings(metrics_port=0))
    assert brief.stopped


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
async def test_memory_stays_flat_over_ten_thousand_calls_good_and_bad(
    bundles: Path, request: pytest.FixtureRequest
) -> None:
    # The test run itself would keep every record.
    logging.disable()
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    process, cloud = psutil.Process(), np.zeros((100_000, 3), np.float32)

    async def round_trip(service: Toys) -> None:
        """500 calls."""
        for number in range(166):
            await service.client.infer("matrix", {"values": cloud}, timeout_s=TIMEOUT_S)
            assert await outcome(service.ask("nope", number)) == "NOT_FOUND"
            assert await outcome(service.ask("poisonous", POISON)) == "INTERNAL"
        for _ in range(2):
            await service.client.load("shift", "toy", timeout_s=TIMEOUT_S)

    async with toys(bundles, "toy", factory=ToyFactory("matrix", "poisonous", "shift")) as service:
        for _ in range(3):
            await round_trip(service)
        before = process.memory_info().rss
        for _ in range(20):
            await round_trip(service)
        assert process.memory_info().rss - before < 24 * MIB
