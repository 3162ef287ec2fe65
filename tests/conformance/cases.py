"""Calls of the Open Inference Protocol and how they end, with us and with Triton."""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import shared_memory

OK = "OK"
TIMEOUT_S = 30
INT = "identity_int32"
STRING = "identity_bytes"


class Spoken:
    """A server that speaks the protocol."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def version(self, model: str) -> str:
        (version,) = self.stub.ModelMetadata(pb.ModelMetadataRequest(name=model)).versions
        return version

    def infer(self, *arguments: Any, **options: Any) -> pb.ModelInferResponse:
        return self.stub.ModelInfer(request(*arguments, **options), timeout=TIMEOUT_S)


Call = Callable[[Spoken], Any]


@dataclass(frozen=True)
class Case:
    """A call and its outcome: a status, or what the call makes of the answer."""

    name: str
    call: Call
    ours: str
    triton: str
    says: str = ""
    """Part of our message."""

    def outcome(self, server: Spoken) -> tuple[str, str]:
        try:
            answer = self.call(server)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return (answer if isinstance(answer, str) else OK), ""


def tensor(name: str, datatype: str, *shape: int, contents: Any = None, **parameters: Any) -> dict[str, Any]:
    """An input; parameters are whole numbers or texts."""
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if contents is not None:
        made["contents"] = pb.InferTensorContents(**contents)
    return made | {"parameters": chosen(parameters)}


def chosen(parameters: dict[str, Any]) -> dict[str, pb.InferParameter]:
    kinds = {int: "int64_param", str: "string_param", bool: "bool_param"}
    return {key: pb.InferParameter(**{kinds[type(value)]: value}) for key, value in parameters.items()}


def values(size: int = 2, datatype: str = "INT32", **more: Any) -> dict[str, Any]:
    return tensor("values", datatype, size, **more)


def output(name: str = "copy", **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": chosen(parameters)}


def raw(*numbers: int) -> bytes:
    return np.array(numbers, np.int32).tobytes()


def strings(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def request(
    model: str,
    inputs: Sequence[dict[str, Any]],
    contents: Sequence[bytes] = (),
    outputs: Sequence[dict[str, Any]] = (),
    version: str = "",
    request_id: str = "",
    **parameters: Any,
) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    made.inputs.extend(pb.ModelInferRequest.InferInputTensor(**each) for each in inputs)
    made.raw_input_contents.extend(contents)
    made.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(**each) for each in outputs)
    for key, value in chosen(parameters).items():
        made.parameters[key].CopyFrom(value)
    return made


@contextmanager
def region(server: Spoken, num_bytes: int = 64, *arrays: np.ndarray) -> Iterator[tuple[str, Any]]:
    """A registered region of shared memory; its name and the client's handle."""
    name = f"xscene-conformance-{uuid.uuid4().hex}"
    handle = shared_memory.create_shared_memory_region(name, f"/{name}", num_bytes, create_only=True)
    try:
        shared_memory.set_shared_memory_region(handle, list(arrays))
        server.stub.SystemSharedMemoryRegister(registration(name, f"/{name}", num_bytes=num_bytes))
        yield name, handle
    finally:
        unregister(server, name)
        shared_memory.destroy_shared_memory_region(handle)


def unregister(server: Spoken, name: str) -> None:
    """Triton may hold a region for a moment after the answer of the call that used it; ours may not."""
    until = time.monotonic() + (TIMEOUT_S if server.name == "triton" else 0)
    while True:
        try:
            server.stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name=name))
            return
        except grpc.RpcError as error:
            if "currently in use" not in error.details() or time.monotonic() >= until:
                raise
        time.sleep(0.01)


def registration(name: str, key: str, *, offset: int = 0, num_bytes: int = 64) -> Any:
    return pb.SystemSharedMemoryRegisterRequest(name=name, key=key, offset=offset, byte_size=num_bytes)


def place(name: str, num_bytes: int, offset: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"shared_memory_region": name, "shared_memory_byte_size": num_bytes}
    return made if offset is None else made | {"shared_memory_offset": offset}


def infers(*arguments: Any, **options: Any) -> Call:
    return lambda server: server.infer(*arguments, **options)


def one(**more: Any) -> Call:
    """A request that is right but for what is changed."""
    return infers(INT, [values()], [raw(1, 2)], **more)


BAD = "INVALID_ARGUMENT"
