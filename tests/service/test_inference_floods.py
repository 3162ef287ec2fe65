"""Requests of the largest size that are made to cost far more: memory, and time of the event loop."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from deploy.stack import free_port
from tests.contract.tree import ROOT
from tests.memory import RESET_PEAK
from tests.service.toy_models import write_bundle
from tests.service.toy_service import TIMEOUT_S
from xscene.services import INFERENCE

MIB = 1 << 20
NUM_BYTES = 60 * MIB
MAX_GROWTH_BYTES = 300 * MIB
"""The message as gRPC reads it, its bytes, and two copies of them; a reading by protobuf takes up to 3 GB."""
MAX_WAIT_S = 1.0
"""Of it gRPC takes up to 0.4 s for so large a message; a reading by protobuf takes up to 7."""
UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]

PROGRAM = """
import sys
from tests.service.toy_models import ToyFactory
from xscene.serving import server
from xscene.serving.encoder import EncoderService, EncoderSettings

def make(given):
    return EncoderService("text", given, ToyFactory("identity_int32", "identity_bytes"))

sys.exit(server.run("text", EncoderSettings, make, sys.argv[1:], {}))
"""


@dataclass(frozen=True)
class Flood:
    """How a request ended, and what it did to the service meanwhile."""

    code: grpc.StatusCode
    details: str
    growth_bytes: int
    """Of memory, at the peak."""
    longest_wait_s: float
    """Of a probe."""


@dataclass
class Flooded:
    """A service in a process of its own, and a connection for probes beside the one for requests."""

    process: subprocess.Popen[bytes]
    channel: grpc.Channel
    probes: grpc.Channel

    def status(self, name: str) -> int:
        """A size in /proc, in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) * 1024

    def stream(self) -> grpc.StreamStreamMultiCallable:
        """The call for many requests, which takes their bytes."""
        return self.channel.stream_stream(
            f"/{INFERENCE}/ModelStreamInfer",
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )

    def flood(self, data: bytes) -> Flood:
        """Send a request, and probe until it is answered."""
        infer = self.channel.unary_unary(f"/{INFERENCE}/ModelInfer", response_deserializer=len)
        live = service_pb2_grpc.GRPCInferenceServiceStub(self.probes).ServerLive
        assert live(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
        Path(f"/proc/{self.process.pid}/clear_refs").write_text(RESET_PEAK)
        before, longest_s = self.status("VmRSS"), 0.0
        call = infer.future(data, timeout=TIMEOUT_S)
        while not call.done():
            started = time.monotonic()
            assert live(pb.ServerLiveRequest(), timeout=TIMEOUT_S).live
            longest_s = max(longest_s, time.monotonic() - started)
            time.sleep(0.005)
        return Flood(call.code(), call.details(), self.status("VmHWM") - before, longest_s)


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    folder, port = tmp_path_factory.mktemp("bundles"), free_port()
    write_bundle(folder, "toy")
    flags = ["--port", str(port), "--metrics-port", "0", "--bundles-dir", str(folder), "--bundles", "toy"]
    command = [sys.executable, "-c", PROGRAM, *flags]
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process,
        grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel,
        grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as probes,
    ):
        try:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(probes)
            asked = pb.ServerReadyRequest()
            while not stub.ServerReady(asked, wait_for_ready=True, timeout=TIMEOUT_S).ready:
                time.sleep(0.05)
            yield Flooded(process, channel, probes)
        finally:
            process.kill()


def varint(value: int) -> bytes:
    found = b""
    while value >= 128:
        value, found = value >> 7, found + bytes([value & 127 | 128])
    return found + bytes([value])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(datatype: str, size: int, contents: bytes = b"") -> bytes:
    """An input with such contents, in a request for a model that takes it."""
    head = pb.ModelInferRequest.InferInputTensor(name="values", datatype=datatype, shape=[size])
    head_and_contents = head.SerializeToString() + (field(5, contents) if contents else b"")
    return field(1, f"identity_{datatype.lower()}".encode()) + field(5, head_and_contents)


HALF = NUM_BYTES // 2
FLOODS: dict[str, Callable[[], bytes]] = {
    "empty inputs": lambda: field(1, b"identity_int32") + b"\x2a\x00" * HALF,
    "empty raw contents": lambda: tensor("INT32", 1) + b"\x3a\x00" * HALF,
    "empty outputs": lambda: tensor("INT32", 1) + b"\x32\x00" * HALF,
    "parameters": lambda: tensor("INT32", 1) + b"\x22\x00" * HALF,
    "unknown fields": lambda: tensor("INT32", 1) + b"\xf8\x07\x01" * (NUM_BYTES // 3),
    "a shape": lambda: field(1, b"identity_int32") + field(5, field(3, b"\x01" * NUM_BYTES)),
    "packed numbers": lambda: tensor("INT32", NUM_BYTES, field(2, b"\x01" * NUM_BYTES)),
    "unpacked numbers": lambda: tensor("INT32", HALF, b"\x10\x01" * HALF),
    "numbers of another type": lambda: tensor("INT32", HALF, b"\x18\x01" * HALF),
    "empty texts": lambda: tensor("BYTES", 1, b"\x42\x00" * HALF),
    "empty texts as numbers": lambda: tensor("INT32", 1, b"\x42\x00" * HALF),
    "empty contents": lambda: field(5, b"\x2a\x00" * HALF),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_refused_before_anything_is_made_of_it(flooded: Flooded, name: str) -> None:
    flood = flooded.flood(FLOODS[name]())
    assert flood.code is grpc.StatusCode.INVALID_ARGUMENT, flood.details
    assert "the limit is" in flood.details
    assert flood.growth_bytes < MAX_GROWTH_BYTES
    assert flood.longest_wait_s < MAX_WAIT_S


@pytest.mark.parametrize("name", ["empty inputs", "packed numbers"])
def test_what_was_refused_is_let_go_of(flooded: Flooded, name: str) -> None:
    data = FLOODS[name]()
    flooded.flood(data)
    before = flooded.status("VmRSS")
    for _ in range(4):
        assert flooded.flood(data).code is grpc.StatusCode.INVALID_ARGUMENT
    assert flooded.status("VmRSS") - before < NUM_BYTES


LARGEST: dict[str, Callable[[], bytes]] = {
    "raw numbers": lambda: tensor("INT32", NUM_BYTES // 4) + field(7, bytes(NUM_BYTES)),
    "typed numbers": lambda: tensor("INT32", 4 * MIB - 5, field(2, b"\x01" * (4 * MIB - 5))),
    "one text": lambda: tensor("BYTES", 1, field(8, bytes(NUM_BYTES))),
    "many texts": lambda: tensor("BYTES", 65536, field(8, b"ab") * 65536),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_request_that_is_right_is_answered(flooded: Flooded, name: str) -> None:
    flood = flooded.flood(LARGEST[name]())
    assert flood.code is grpc.StatusCode.OK, flood.details
    assert flood.longest_wait_s < MAX_WAIT_S


def test_a_flood_of_values_on_a_stream_fails_alone(flooded: Flooded) -> None:
    infer = flooded.stream()
    small = tensor("INT32", 1, field(2, b"\x01"))
    flood, good = infer(iter([FLOODS["packed numbers"](), small]), timeout=TIMEOUT_S)
    assert "bytes of numbers in a typed field" in flood.error_message
    assert not good.error_message


def test_a_flood_of_fields_ends_its_stream(flooded: Flooded) -> None:
    with pytest.raises(grpc.RpcError, match="the limit is") as caught:
        list(flooded.stream()(iter([FLOODS["empty inputs"]()]), timeout=TIMEOUT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
