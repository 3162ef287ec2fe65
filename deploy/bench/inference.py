"""Calls of the Open Inference Protocol, made with the client that NVIDIA ships."""

from __future__ import annotations

import os
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import (  # type: ignore[import-untyped, unused-ignore]
    InferInput,
    InferRequestedOutput,
    service_pb2,
    service_pb2_grpc,
)
from tritonclient.grpc.aio import InferenceServerClient  # type: ignore[import-untyped, unused-ignore]

from deploy.bench import workloads
from deploy.bench.callers import CALL_TIMEOUT_S, CHANNEL_OPTIONS, metadata
from deploy.bench.jobs import Job
from deploy.bench.workloads import NULL_MODEL, REGION_PREFIX, TEXT_OUTPUT
from xscene.oip import InferenceClient


class _Client:
    """A connection of the stock client."""

    def __init__(self, job: Job) -> None:
        self._client: Any = InferenceServerClient(job.address, channel_args=list(CHANNEL_OPTIONS))
        self._headers = metadata(job)

    async def _infer(self, model: str, inputs: list[Any], outputs: list[Any] | None = None) -> Any:
        return await self._client.infer(
            model, inputs, outputs=outputs, headers=self._headers, client_timeout=CALL_TIMEOUT_S
        )

    async def close(self) -> None:
        """Close the channel."""
        await self._client.close()


class EncoderCaller(_Client):
    """One sentence or picture in, its embedding out; a model's input has the model's name."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._model = job.kind
        self._outputs = [InferRequestedOutput(TEXT_OUTPUT)]
        shape = job.shape or (1,)
        self._inputs = [
            _input(self._model, "BYTES", np.array([value], np.object_).reshape(shape))
            for value in workloads.inputs(self._model)
        ]

    async def call(self, index: int) -> list[float]:
        """Encode an item."""
        chosen = self._inputs[index % len(self._inputs)]
        result = await self._infer(self._model, [chosen], self._outputs)
        values: list[float] = result.as_numpy(TEXT_OUTPUT).ravel().tolist()
        return values


class RawCaller(_Client):
    """A payload in `raw_input_contents`, as the stock client sends it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        inputs = workloads.payload(job.payload)
        self._inputs = [_input(name, datatype, array) for name, (datatype, array) in inputs.items()]

    async def call(self, index: int) -> list[float]:
        """Send the payload."""
        await self._infer(NULL_MODEL, self._inputs)
        return []


class OwnCaller:
    """A payload in `raw_input_contents`, as our own client sends it, the one that the gateway has."""

    def __init__(self, job: Job) -> None:
        self._channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
        self._client = InferenceClient(self._channel, metadata=tuple(metadata(job).items()))
        self._inputs = {name: array for name, (_, array) in workloads.payload(job.payload).items()}

    async def call(self, index: int) -> list[float]:
        """Send the payload."""
        await self._client.infer(NULL_MODEL, self._inputs, timeout_s=CALL_TIMEOUT_S)
        return []

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class SharedCaller(_Client):
    """A payload that is written into system shared memory for every call."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._arrays = [array for _, array in workloads.payload(job.payload).values()]
        num_bytes = sum(array.nbytes for array in self._arrays)
        self._memory = SharedMemory(create=True, size=num_bytes, name=f"{REGION_PREFIX}{os.getpid()}")
        self._views = list(_views(self._memory, self._arrays))
        self._inputs = list(self._region_inputs(job.payload))
        self._registered = False

    def _region_inputs(self, payload: str) -> Any:
        offset = 0
        for name, (datatype, array) in workloads.payload(payload).items():
            part = InferInput(name, list(array.shape), datatype)
            part.set_shared_memory(self._memory.name, array.nbytes, offset)
            offset += array.nbytes
            yield part

    async def call(self, index: int) -> list[float]:
        """Write the payload and say where it is."""
        if not self._registered:
            name = self._memory.name
            await self._client.register_system_shared_memory(
                name, f"/{name}", self._memory.size, headers=self._headers
            )
            self._registered = True
        for view, array in zip(self._views, self._arrays, strict=True):
            view[...] = array
        await self._infer(NULL_MODEL, self._inputs)
        return []

    async def close(self) -> None:
        """Give the region and the channel back."""
        if self._registered:
            await self._client.unregister_system_shared_memory(self._memory.name, headers=self._headers)
        self._views.clear()
        self._memory.close()
        self._memory.unlink()
        await super().close()


class TypedCaller:
    """A payload in the typed contents, which the stock client does not send: the message by itself."""

    def __init__(self, job: Job) -> None:
        self._channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = tuple(metadata(job).items())
        self._request: Any = service_pb2.ModelInferRequest(model_name=NULL_MODEL)
        for name, (datatype, array) in workloads.payload(job.payload).items():
            tensor = self._request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            field = {"FP32": "fp32_contents", "UINT8": "uint_contents"}[datatype]
            getattr(tensor.contents, field).extend(array.ravel().tolist())

    async def call(self, index: int) -> list[float]:
        """Send the payload."""
        await self._stub.ModelInfer(self._request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
        return []

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _input(name: str, datatype: str, array: NDArray[Any]) -> Any:
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def _views(memory: SharedMemory, arrays: list[NDArray[Any]]) -> Any:
    offset = 0
    for array in arrays:
        yield np.ndarray(array.shape, array.dtype, memory.buf, offset)
        offset += array.nbytes
