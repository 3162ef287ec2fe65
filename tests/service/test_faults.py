"""The fusion service in a process of its own, under what a hostile or unlucky network does to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.bundles import PRESETS, PresetName, init_bundle
from deploy.stack import free_port
from tests.credentials import token_entry, write_tokens
from xscene.client import Connection, health
from xscene.v1 import common_pb2, fusion_pb2, fusion_pb2_grpc

MIB = 1 << 20
METADATA = (("authorization", "Bearer secret"),)
EMBEDDING = common_pb2.Embedding(modality=common_pb2.MODALITY_TEXT, values=[1.0] * 256)
REQUEST = fusion_pb2.FuseRequest(items=[fusion_pb2.FuseItem(embeddings=[EMBEDDING])])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    init_bundle(PRESETS[PresetName.SMALL], folder / "small", name="small", seed=0)
    write_tokens(folder.parent / "tokens.json", token_entry("secret", "reader"))
    return folder


class Process:
    """The running service, its port and what it wrote."""

    def __init__(self, port: int, popen: subprocess.Popen, log: Path) -> None:
        self.port, self.popen, self.log = port, popen, log
        self.address = f"127.0.0.1:{port}"

    def rss_bytes(self) -> int:
        return psutil.Process(self.popen.pid).memory_info().rss

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def answers(self) -> bool:
        with grpc.insecure_channel(self.address) as channel:
            stub = fusion_pb2_grpc.FusionServiceStub(channel)
            return len(stub.Fuse(REQUEST, metadata=METADATA, timeout=10).items) == 1


@contextmanager
def service(bundles: Path, *flags: str) -> Iterator[Process]:
    port, log = free_port(), bundles.parent / f"log-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "fusion", "--port", str(port), "--metrics-port", "0"]
    command += ["--bundles-dir", str(bundles), "--allow-untrained", "true", "--log-level", "INFO"]
    command += ["--tokens", str(bundles.parent / "tokens.json"), *flags]
    with log.open("wb") as out:
        popen = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        process = Process(port, popen, log)
        until = time.monotonic() + 60
        while not health.check(Connection(address=process.address)).ready:
            assert popen.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        popen.terminate()
        popen.wait(30)


@pytest.fixture(scope="module")
def running(bundles: Path) -> Iterator[Process]:
    with service(bundles, "--max-message-bytes", str(2 * MIB), "--handshake-timeout-s", "1") as process:
        yield process


def test_garbage_on_fifty_sockets_harms_nobody(running: Process) -> None:
    with grpc.insecure_channel(running.address) as channel:
        stub = fusion_pb2_grpc.FusionServiceStub(channel)
        sockets = []
        for number in range(50):
            garbage = socket.create_connection(("127.0.0.1", running.port))
            sockets.append(garbage)
            if number % 3 == 0:
                garbage.sendall(os.urandom(4096))
            elif number % 3 == 1:
                garbage.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(512))
            assert len(stub.Fuse(REQUEST, metadata=METADATA, timeout=10).items) == 1
        before = psutil.Process(running.popen.pid).num_fds()
        time.sleep(2.5)
        for garbage in sockets:
            garbage.close()
        assert running.answers()
        # Those that never became a connection were closed by the server, not only by this test.
        assert psutil.Process(running.popen.pid).num_fds() < before - 10


async def test_callers_without_a_credential_cannot_fill_memory(bundles: Path) -> None:
    payload = b"\0" * (30 * MIB)
    with service(bundles) as process:
        before = process.peak_bytes()

        async def ask() -> str:
            options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(process.address, options) as channel:
                call = channel.unary_unary("/xscene.v1.FusionService/Fuse")(payload, timeout=30)
                return (await call.code()).name

        codes = await asyncio.gather(*(ask() for _ in range(12)))
        assert set(codes) == {"UNAUTHENTICATED"}
        assert process.peak_bytes() - before < 60 * MIB
        assert process.answers()


def test_an_oversized_message_is_refused_by_its_size(running: Process) -> None:
    with grpc.insecure_channel(running.address) as channel:
        fuse = channel.unary_unary("/xscene.v1.FusionService/Fuse")
        with pytest.raises(grpc.RpcError) as caught:
            fuse(b"\0" * (3 * MIB), metadata=METADATA, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in caught.value.details()
    assert running.answers()


def test_a_compressed_bomb_is_stopped_while_it_expands(running: Process) -> None:
    before = running.peak_bytes()
    with grpc.insecure_channel(running.address, [("grpc.max_send_message_length", -1)]) as channel:
        fuse = channel.unary_unary("/xscene.v1.FusionService/Fuse")
        with pytest.raises(grpc.RpcError) as caught:
            fuse(b"\0" * (300 * MIB), metadata=METADATA, timeout=60, compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.answers()
    assert running.peak_bytes() - before < 30 * MIB


def test_bytes_that_are_no_message_are_the_callers_fault(running: Process) -> None:
    with grpc.insecure_channel(running.address) as channel:
        fuse = channel.unary_unary("/xscene.v1.FusionService/Fuse")
        for payload in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x7f", b"\x12" + b"\x80" * 20):
            with pytest.raises(grpc.RpcError) as caught:
                fuse(payload, metadata=METADATA, timeout=20)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert running.answers()


async def _hammer(address: str, codes: Counter, num_clients: int = 8) -> None:
    """Ask until the server is gone."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = fusion_pb2_grpc.FusionServiceStub(channel)

        async def client() -> None:
            while True:
                try:
                    await stub.Fuse(REQUEST, metadata=METADATA, timeout=20)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1
                    return

        await asyncio.gather(*(client() for _ in range(num_clients)))


async def test_sigterm_under_load_loses_no_accepted_call(bundles: Path) -> None:
    codes: Counter = Counter()
    with service(bundles) as process:
        load = asyncio.create_task(_hammer(process.address, codes))
        await asyncio.sleep(2)
        process.popen.send_signal(signal.SIGTERM)
        await asyncio.wait_for(load, 30)
        assert await asyncio.to_thread(process.popen.wait, 30) == 0
        log = process.log.read_text()
    assert set(codes) <= {"OK", "UNAVAILABLE", "CANCELLED"}
    stopped = json.loads(log.splitlines()[-1])
    assert stopped["event"] == "stopped"
    # What the server counted as answered, the clients got.
    assert stopped["num_answered"] == codes["OK"] > 100


SLOW_START = """
import asyncio, sys, time
from tests.service.probe import Probe
from xscene.serving import server
from xscene.serving.settings import ServerSettings
from xscene.serving.worker import Worker

class Slow(Probe):
    async def start(self, telemetry):
        self.worker = Worker("test", 1)
        if sys.argv[1] == "warming":
            await asyncio.to_thread(time.sleep, 60)

    async def Fuse(self, request, context):
        await self.worker.run(time.sleep, 60)

server.run("fusion", ServerSettings, lambda given: Slow(), sys.argv[2:], {})
"""


@pytest.mark.parametrize("when", ["warming", "computing"])
def test_sigterm_ends_the_process_in_time_whatever_its_threads_do(when: str) -> None:
    port = free_port()
    flags = ["--port", str(port), "--metrics-port", "0", "--drain-timeout-s", "1"]
    command = [sys.executable, "-c", SLOW_START, when, *flags]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as popen:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(30)
            stub = health_pb2_grpc.HealthStub(channel)
            check = health_pb2.HealthCheckRequest(service="liveness")
            assert stub.Check(check, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
            call = None
            if when == "computing":
                call = fusion_pb2_grpc.FusionServiceStub(channel).Fuse.future(REQUEST, timeout=60)
                time.sleep(0.5)
            started = time.monotonic()
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(20) == 0
            assert time.monotonic() - started < 10
            if call is not None:
                assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_memory_stays_flat_over_ten_thousand_calls(bundles: Path) -> None:
    with service(bundles) as process:
        async with grpc.aio.insecure_channel(process.address) as channel:
            stub = fusion_pb2_grpc.FusionServiceStub(channel)

            codes: Counter = Counter()

            async def ask(count: int) -> None:
                for number in range(count):
                    if number % 10 == 9:  # refused calls must not leave anything behind either
                        call = stub.Fuse(fusion_pb2.FuseRequest(), metadata=METADATA, timeout=20)
                    elif number % 10 == 8:
                        call = stub.Fuse(REQUEST, timeout=20)
                    else:
                        call = stub.Fuse(REQUEST, metadata=METADATA, timeout=20)
                    codes[(await call.code()).name] += 1

            await asyncio.gather(*(ask(400) for _ in range(5)))
            before = process.rss_bytes()
            await asyncio.gather(*(ask(2000) for _ in range(5)))
            assert process.rss_bytes() - before < 6 * MIB
            assert codes == {"OK": 9600, "INVALID_ARGUMENT": 1200, "UNAUTHENTICATED": 1200}
