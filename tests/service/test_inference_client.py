"""The client side of the Open Inference Protocol: with our servicer, and with servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.service.toy_models import ToyFactory, write_bundle
from tests.service.toy_service import TIMEOUT_S, toys
from xscene.errors import DeadlineExceeded, InvalidInput, NotFound, NotReady, XSceneError
from xscene.oip import Answer, InferenceClient, TensorForm


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    write_bundle(tmp_path, "toy")
    return tmp_path


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("identity_fp32", np.linspace(0, 1, 7, dtype=np.float32)),
        ("identity_int32", np.arange(20, dtype=np.int32)[::2]),
        ("identity_bool", np.array([True, False])),
        ("identity_bytes", np.array([b"", b"a room", b"\0"], object)),
        ("identity_bytes", np.array([], object)),
        ("matrix", np.arange(12, dtype=np.float32).reshape(3, 4).T[:2, :].copy()),
        ("matrix", np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))),
    ],
)
async def test_arrays_come_back_as_they_were(bundles: Path, model: str, values: np.ndarray) -> None:
    async with toys(bundles, "toy", factory=ToyFactory(model)) as service:
        copy = (await service.client.infer(model, {"values": values}, timeout_s=TIMEOUT_S)).outputs["copy"]
        assert (copy.dtype, copy.shape, copy.tolist()) == (values.dtype, values.shape, values.tolist())


async def test_models_are_described_as_they_are(bundles: Path) -> None:
    async with toys(bundles, "toy", factory=ToyFactory("matrix", "add_sub")) as service:
        found = await service.client.describe("matrix", timeout_s=TIMEOUT_S)
        assert found.inputs == (TensorForm(name="values", datatype="FP32", shape=(-1, 3)),)
        assert found.versions == (service.toy("matrix").version,)
        left = np.arange(4, dtype=np.int32)
        answer = await service.client.infer(
            "add_sub", {"left": left}, ["difference"], version=service.toy("add_sub").version, timeout_s=5
        )
        assert list(answer.outputs) == ["difference"]


async def test_errors_are_those_that_the_server_raised(bundles: Path) -> None:
    async with toys(bundles, "toy") as service:
        with pytest.raises(InvalidInput) as caught:
            await service.ask("poisonous", -1)
        assert caught.value.violations[0].field == "values[0]"
        with pytest.raises(NotFound):
            await service.ask("nope", 1)
        with pytest.raises(DeadlineExceeded):
            await service.ask("sleepy", 500, timeout_s=0.1)


async def test_an_array_that_the_protocol_has_no_name_for_is_refused() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(InvalidInput, match="input 'values': arrays of complex64"):
            await InferenceClient(channel).infer("m", {"values": np.zeros(2, np.complex64)}, timeout_s=1)


async def test_a_server_that_is_away_is_not_ready(free_port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port}") as channel:
        with pytest.raises(NotReady):
            await InferenceClient(channel).index(timeout_s=5)


class Foreign(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that answers as it was told; its errors carry no details."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        if self._answer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return self._answer


@asynccontextmanager
async def foreign(answer: Any) -> AsyncIterator[InferenceClient]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Foreign(answer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield InferenceClient(channel)
    finally:
        await server.stop(None)


def answer(datatype: str, shape: list[int], *raw: bytes, name: str = "copy") -> Any:
    made = pb.ModelInferResponse(model_version="7")
    made.outputs.add(name=name, datatype=datatype, shape=shape)
    made.raw_output_contents.extend(raw)
    return made


async def test_a_foreign_server_is_understood() -> None:
    async with foreign(answer("INT32", [2], b"\1\0\0\0\2\0\0\0")) as client:
        found = await client.infer("m", {}, timeout_s=TIMEOUT_S)
    assert found.outputs["copy"].tolist() == [1, 2]
    assert Answer(**{**vars(found), "outputs": {}}) == Answer(
        outputs={}, version="7", model_id="", bundle="", trained=None
    )
    async with foreign(None) as client:
        with pytest.raises(NotFound, match="no such model"):
            await client.infer("m", {}, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (answer("INT32", [2], b"\0" * 7), r"'copy' is no INT32 of shape \[2\]"),
        (answer("INT32", [3], b"\0" * 8), r"'copy' is no INT32 of shape \[3\]"),
        (answer("NONSENSE", [1], b"\0" * 8), r"'copy' is no NONSENSE"),
        (answer("BYTES", [1], b"\5\0\0\0x"), r"'copy' is no BYTES"),
        (answer("INT32", [2]), "1 outputs and the contents of 0"),
        (answer("INT32", [1], b"\0" * 4, name="other"), "the server sent no copy"),
    ],
)
async def test_an_answer_that_does_not_fit_together_is_the_servers_fault(told: Any, why: str) -> None:
    async with foreign(told) as client:
        with pytest.raises(XSceneError, match=why) as caught:
            await client.infer("m", {}, ["copy"], timeout_s=TIMEOUT_S)
        assert caught.value.status == "INTERNAL"


async def test_a_cancelled_call_stays_a_cancellation(bundles: Path) -> None:
    async with toys(bundles, "toy") as service:
        asked = asyncio.create_task(service.ask("sleepy", 300))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
