"""The server runtime under overload, deadlines, cancellation, errors and shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.service.probe import Probe, empty, serving, stub
from xscene.codec import status
from xscene.errors import InvalidInput, ModelMismatch, SettingsInvalid
from xscene.serving import calls
from xscene.serving.server import Server
from xscene.serving.settings import ServerSettings
from xscene.serving.worker import Worker
from xscene.v1 import fusion_pb2, trainer_pb2, trainer_pb2_grpc

REQUEST = fusion_pb2.FuseRequest()


def channel(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def health(ch: grpc.aio.Channel, name: str) -> int:
    answer = await health_pb2_grpc.HealthStub(ch).Check(health_pb2.HealthCheckRequest(service=name))
    return answer.status


async def failure(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailer(error: grpc.aio.AioRpcError) -> bytes:
    return dict(error.trailing_metadata())[status.TRAILER]


async def test_health_is_not_serving_until_the_warm_up_ran_and_calls_are_refused() -> None:
    probe = Probe()
    probe.warm.clear()
    server = Server(probe, ServerSettings(metrics_port=0))
    starting = asyncio.create_task(server.start())
    while not server.port:
        await asyncio.sleep(0.01)
    async with channel(server) as ch:
        assert await health(ch, "liveness") == health_pb2.HealthCheckResponse.SERVING
        for name in ("", "readiness", "xscene.v1.FusionService"):
            assert await health(ch, name) == health_pb2.HealthCheckResponse.NOT_SERVING
        error = await failure(stub(ch).Fuse(REQUEST))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "warming up" in error.details()
        probe.warm.set()
        await starting
        for name in ("", "readiness", "xscene.v1.FusionService"):
            assert await health(ch, name) == health_pb2.HealthCheckResponse.SERVING
        await stub(ch).Fuse(REQUEST)
    await server.drain()
    assert probe.stopped


async def test_one_call_too_many_is_refused_at_once_and_the_server_recovers() -> None:
    gate = asyncio.Event()

    async def wait(_: object) -> fusion_pb2.FuseResponse:
        await gate.wait()
        return fusion_pb2.FuseResponse()

    async with serving(Probe(wait), max_concurrent_calls=2) as server, channel(server) as ch:
        held = [asyncio.ensure_future(stub(ch).Fuse(REQUEST, timeout=10)) for _ in range(2)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        errors = [await failure(stub(ch).Fuse(REQUEST, timeout=10)) for _ in range(20)]
        assert time.monotonic() - started < 2
        assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert "max_concurrent_calls is 2" in errors[0].details()
        raised = status.decode("RESOURCE_EXHAUSTED", errors[0].details(), trailer(errors[0]))
        assert raised.retry_after_s == pytest.approx(0.1)
        assert await health(ch, "readiness") == health_pb2.HealthCheckResponse.SERVING
        gate.set()
        await asyncio.gather(*held)
        await stub(ch).Fuse(REQUEST, timeout=10)


async def test_work_whose_deadline_has_passed_never_runs() -> None:
    worker, release, ran = Worker("test", max_queue=10), threading.Event(), []

    async def queue(request: fusion_pb2.FuseRequest) -> fusion_pb2.FuseResponse:
        if request.model_id == "first":
            await worker.run(release.wait)
        else:
            await worker.run(ran.append, request.model_id)
        return fusion_pb2.FuseResponse()

    async with serving(Probe(queue)) as server, channel(server) as ch:
        first = asyncio.ensure_future(stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="first"), timeout=20))
        await asyncio.sleep(0.1)
        late = stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="late"), timeout=0.2)
        given_up = stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="given up"), timeout=20)
        assert (await failure(late)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        given_up.cancel()
        await asyncio.sleep(0.2)
        release.set()
        await first
        await stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="in time"), timeout=20)
    worker.close()
    assert ran == ["in time"]


async def test_a_full_worker_queue_refuses() -> None:
    worker, release = Worker("test", max_queue=1), threading.Event()

    async def queue(_: object) -> fusion_pb2.FuseResponse:
        await worker.run(release.wait)
        return fusion_pb2.FuseResponse()

    async with serving(Probe(queue)) as server, channel(server) as ch:
        first = asyncio.ensure_future(stub(ch).Fuse(REQUEST, timeout=20))
        await asyncio.sleep(0.1)
        error = await failure(stub(ch).Fuse(REQUEST, timeout=20))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_queue is 1" in error.details()
        release.set()
        await first
    worker.close()


async def test_a_call_without_a_deadline_gets_one() -> None:
    async def sleep(_: object) -> fusion_pb2.FuseResponse:
        assert calls.current().remaining_s() <= 0.3
        await asyncio.sleep(30)
        raise AssertionError

    async with serving(Probe(sleep), default_deadline_s=0.3) as server, channel(server) as ch:
        error = await failure(stub(ch).Fuse(REQUEST))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "default_deadline_s, 0.3 s" in error.details()


async def test_the_deadline_of_the_caller_reaches_the_work() -> None:
    seen = []

    async def look(_: object) -> fusion_pb2.FuseResponse:
        seen.append(calls.current().remaining_s())
        return fusion_pb2.FuseResponse()

    async with serving(Probe(look)) as server, channel(server) as ch:
        await stub(ch).Fuse(REQUEST, timeout=7)
    assert 5 < seen[0] < 7.5


async def test_a_cancelled_call_stops_its_work_and_frees_its_place() -> None:
    stopped = asyncio.Event()

    async def wait(_: object) -> fusion_pb2.FuseResponse:
        try:
            await asyncio.sleep(30)
        finally:
            stopped.set()
        raise AssertionError

    probe = Probe(wait)
    async with serving(probe, max_concurrent_calls=1) as server, channel(server) as ch:
        call = stub(ch).Fuse(REQUEST, timeout=30)
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.wait_for(stopped.wait(), 5)
        probe.behaviour = empty
        await asyncio.sleep(0.1)
        await stub(ch).Fuse(REQUEST, timeout=5)
        cancelled = server.telemetry.calls.labels("/xscene.v1.FusionService/Fuse", "CANCELLED")
        assert cancelled._value.get() == 1


async def test_errors_carry_their_status_class_fields_and_trace() -> None:
    async def refuse(_: object) -> fusion_pb2.FuseResponse:
        raise InvalidInput.at("items[3].embeddings[1]", "5 values, the bundle has 256")

    trace = "0af7651916cd43dd8448eb211c80319c"
    async with serving(Probe(refuse)) as server, channel(server) as ch:
        metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
        error = await failure(stub(ch).Fuse(REQUEST, metadata=metadata))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        packed = status_pb2.Status.FromString(trailer(error))
        info = error_details_pb2.ErrorInfo()
        assert packed.details[0].Unpack(info)
        assert (info.domain, info.reason, info.metadata["trace_id"]) == ("xscene", "INVALID_INPUT", trace)
        raised = status.decode(error.code().name, error.details(), trailer(error))
        assert type(raised) is InvalidInput
        assert raised.violations[0].field == "items[3].embeddings[1]"


async def test_a_class_below_its_status_comes_back_as_itself() -> None:
    async def refuse(_: object) -> fusion_pb2.FuseResponse:
        raise ModelMismatch("a is not b")

    async with serving(Probe(refuse)) as server, channel(server) as ch:
        error = await failure(stub(ch).Fuse(REQUEST))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert type(status.decode(error.code().name, "", trailer(error))) is ModelMismatch


async def test_an_unforeseen_fault_tells_nothing_but_its_trace_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def break_(_: object) -> fusion_pb2.FuseResponse:
        raise KeyError("secret of the house")

    probe = Probe(break_)
    async with serving(probe) as server, channel(server) as ch:
        with caplog.at_level(logging.ERROR):
            error = await failure(stub(ch).Fuse(REQUEST))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()
        assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)
        probe.behaviour = empty
        await stub(ch).Fuse(REQUEST)


async def test_a_stream_is_guarded_like_a_call() -> None:
    async def refuse(_: object) -> fusion_pb2.FuseResponse:
        raise ModelMismatch("at the end")

    async with serving(Probe(refuse), default_deadline_s=0.1) as server, channel(server) as ch:
        answers = trainer_pb2_grpc.TrainerServiceStub(ch).WatchRun(trainer_pb2.WatchRunRequest(offset=1))
        assert [answer.offset for answer in [await answers.read(), await answers.read()]] == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answers.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_method_is_unimplemented() -> None:
    async with serving(Probe()) as server, channel(server) as ch:
        error = await failure(ch.unary_unary("/xscene.v1.Nothing/At")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_draining_ends_every_accepted_call_with_its_answer() -> None:
    started = 0

    async def slow(_: object) -> fusion_pb2.FuseResponse:
        nonlocal started
        started += 1
        await asyncio.sleep(0.3)
        return fusion_pb2.FuseResponse()

    server = Server(Probe(slow), ServerSettings(metrics_port=0, drain_timeout_s=10))
    await server.start()
    async with channel(server) as ch:

        async def client() -> list[str]:
            seen = []
            while True:
                try:
                    await stub(ch).Fuse(REQUEST, timeout=10)
                    seen.append("OK")
                except grpc.aio.AioRpcError as error:
                    return [*seen, error.code().name]

        clients = [asyncio.create_task(client()) for _ in range(32)]
        await asyncio.sleep(1)
        await server.drain()
        codes = [code for seen in await asyncio.gather(*clients) for code in seen]
    # A call that has arrived and not begun may be cancelled by gRPC; clients try it again.
    assert set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert codes.count("OK") == started > 32


async def test_two_servers_never_share_a_port() -> None:
    async with serving(Probe()) as server:
        second = Server(Probe(), ServerSettings(port=server.port, metrics_port=0))
        with pytest.raises(SettingsInvalid, match=str(server.port)):
            await second.start()


async def test_health_can_be_watched_across_a_drain() -> None:
    server = Server(Probe(), ServerSettings(metrics_port=0))
    await server.start()
    async with channel(server) as ch:
        watch = health_pb2_grpc.HealthStub(ch).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        draining = asyncio.create_task(server.drain())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await draining


async def test_an_old_connection_is_renewed_without_a_failed_call() -> None:
    peers = set()

    class Seen(Probe):
        async def Fuse(self, request: object, context: grpc.aio.ServicerContext) -> fusion_pb2.FuseResponse:
            peers.add(context.peer())
            return fusion_pb2.FuseResponse()

    async with serving(Seen(), max_connection_age_s=1.0) as server, channel(server) as ch:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            await stub(ch).Fuse(REQUEST, timeout=5)
            await asyncio.sleep(0.01)
    assert len(peers) >= 2


async def test_reflection_lists_the_services() -> None:
    async with serving(Probe()) as server, channel(server) as ch:
        ask = ch.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        call.cancel()
    assert {"xscene.v1.FusionService", "grpc.health.v1.Health"} <= names


async def test_calls_that_were_given_up_leave_nothing_in_a_queue() -> None:
    worker, release = Worker("test", max_queue=4), threading.Event()

    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    async def queue(request: fusion_pb2.FuseRequest) -> fusion_pb2.FuseResponse:
        if request.model_id == "first":
            await worker.run(release.wait)
        else:
            await worker.run(lambda _: None, Big())
        return fusion_pb2.FuseResponse()

    async with serving(Probe(queue)) as server, channel(server) as ch:
        first = asyncio.ensure_future(stub(ch).Fuse(fusion_pb2.FuseRequest(model_id="first"), timeout=20))
        await asyncio.sleep(0.1)
        for _ in range(20):
            calls_ = [stub(ch).Fuse(REQUEST, timeout=20) for _ in range(3)]
            await asyncio.sleep(0.02)
            for call in calls_:
                call.cancel()
        await asyncio.sleep(0.3)
        gc.collect()
        assert Big.alive == 0
        release.set()
        await first
    worker.close()


class Watched(Probe):
    """WatchRun lasts until its caller leaves."""

    async def WatchRun(self, request: object, context: object) -> AsyncIterator[trainer_pb2.WatchRunResponse]:
        yield trainer_pb2.WatchRunResponse(log="x")
        await asyncio.sleep(60)


async def test_streams_never_take_the_place_of_calls_and_have_a_limit_of_their_own() -> None:
    async with (
        serving(Watched(), max_concurrent_calls=2, max_open_streams=3) as server,
        channel(server) as ch,
    ):
        trainer = trainer_pb2_grpc.TrainerServiceStub(ch)
        watches = [trainer.WatchRun(trainer_pb2.WatchRunRequest()) for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).log == "x"
        await stub(ch).Fuse(REQUEST, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await trainer.WatchRun(trainer_pb2.WatchRunRequest()).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "max_open_streams is 3" in caught.value.details()
        watches[0].cancel()
        await asyncio.sleep(0.2)
        assert (await trainer.WatchRun(trainer_pb2.WatchRunRequest()).read()).log == "x"
        cancelled = server.telemetry.calls.labels("/xscene.v1.TrainerService/WatchRun", "CANCELLED")
        assert cancelled._value.get() == 1


async def test_a_drain_ends_streams_at_once_with_a_status_that_says_to_ask_again() -> None:
    server = Server(Watched(), ServerSettings(metrics_port=0, drain_timeout_s=20))
    await server.start()
    async with channel(server) as ch:
        watch = trainer_pb2_grpc.TrainerServiceStub(ch).WatchRun(trainer_pb2.WatchRunRequest())
        assert (await watch.read()).log == "x"
        started = time.monotonic()
        draining = asyncio.create_task(server.drain())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        await draining
        assert time.monotonic() - started < 10
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "draining" in caught.value.details()


async def test_a_metrics_port_that_is_taken_is_named(free_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port))
        other.listen()
        with pytest.raises(SettingsInvalid, match=f"metrics_port: 127.0.0.1:{free_port}"):
            await Server(Probe(), ServerSettings(metrics_port=free_port)).start()
