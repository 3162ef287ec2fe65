"""Calls about the server, its models and its shared memory, and how they end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.conformance.cases import (
    BAD,
    INT,
    OK,
    Call,
    Case,
    Spoken,
    one,
    output,
    place,
    raw,
    region,
    registration,
    values,
)

MISSING, UNIMPLEMENTED = "NOT_FOUND", "UNIMPLEMENTED"
NUMBERS = np.arange(4, dtype=np.int32)
WAIT_S = 20


def calls(method: str, message: Any) -> Call:
    return lambda server: getattr(server.stub, method)(message)


def ready(name: str, version: str = "") -> Call:
    def call(server: Spoken) -> str:
        answer = server.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))
        return "ready" if answer.ready else "not ready"

    return call


def unloaded(then: Call) -> Call:
    """A call when no version of the model `shift` is loaded."""

    def call(server: Spoken) -> Any:
        server.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="shift"))
        until = time.monotonic() + WAIT_S
        while ready("shift")(server) == "ready":
            assert time.monotonic() < until
            time.sleep(0.05)
        try:
            return then(server)
        finally:
            server.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="shift"))

    return call


def shift(server: Spoken, version: str = "") -> Any:
    return server.infer("shift", [values()], [raw(1, 2)], version=version)


def versioned_shift(server: Spoken) -> Any:
    """A version is asked for that was loaded before."""
    version = server.version("shift")
    return unloaded(lambda server: shift(server, version))(server)


def loading(name: str, repository: str = "", **parameters: str) -> Call:
    message = pb.RepositoryModelLoadRequest(model_name=name, repository_name=repository)
    for key, value in parameters.items():
        message.parameters[key].string_param = value
    return calls("RepositoryModelLoad", message)


def placed(num_bytes: int = 16, offset: int | None = None, *contents: bytes, typed: bool = False) -> Call:
    """A request with its input in shared memory."""

    def call(server: Spoken) -> Any:
        given = {"int_contents": [1, 2, 3, 4]} if typed else None
        with region(server, 64, NUMBERS) as (name, _):
            return server.infer(INT, [values(4, contents=given, **place(name, num_bytes, offset))], contents)

    return call


def answered(num_bytes: int) -> Call:
    """A request whose output is to be written to shared memory."""

    def call(server: Spoken) -> Any:
        with region(server, 64, NUMBERS) as (name, _):
            outputs = [output(**place(name, num_bytes, 32))]
            return server.infer(INT, [values(4, **place(name, 16))], outputs=outputs)

    return call


def registered(**changed: Any) -> Call:
    """A second registration of an object that is there."""

    def call(server: Spoken) -> None:
        with region(server) as (name, _):
            wanted = {"name": f"{name}-again", "key": f"/{name}"} | changed
            wanted["name"] = wanted["name"] or name
            try:
                server.stub.SystemSharedMemoryRegister(registration(**wanted))
            finally:
                server.stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())

    return call


def region_without_size(server: Spoken) -> Any:
    with region(server) as (name, _):
        return server.infer(INT, [values(4, shared_memory_region=name)])


def statistics(name: str, version: str = "") -> Call:
    return calls("ModelStatistics", pb.ModelStatisticsRequest(name=name, version=version))


def unloading(name: str) -> Call:
    return calls("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name))


METADATA = [
    Case("ModelReady of a model", ready(INT), "ready", "ready"),
    Case("ModelReady of an unknown model", ready("nope"), "not ready", "not ready"),
    Case("ModelReady of an unknown version", ready(INT, "9"), "not ready", "not ready"),
    Case("ModelReady of a version that is no number", ready(INT, "abc"), BAD, BAD),
    Case("ModelReady of an unloaded model", unloaded(ready("shift")), "not ready", "not ready"),
    Case(
        "ModelMetadata of an unknown model",
        calls("ModelMetadata", pb.ModelMetadataRequest(name="nope")),
        MISSING,
        MISSING,
    ),
    Case(
        "ModelMetadata of an unknown version",
        calls("ModelMetadata", pb.ModelMetadataRequest(name=INT, version="9")),
        MISSING,
        MISSING,
    ),
    Case(
        "ModelConfig of an unknown model",
        calls("ModelConfig", pb.ModelConfigRequest(name="nope")),
        MISSING,
        MISSING,
    ),
    Case("ModelStatistics of an unknown model", statistics("nope"), MISSING, BAD),
    Case("ModelStatistics of an unknown version", statistics(INT, "9"), MISSING, BAD),
    Case("TraceSetting", calls("TraceSetting", pb.TraceSettingRequest()), UNIMPLEMENTED, OK),
    Case("LogSettings", calls("LogSettings", pb.LogSettingsRequest()), UNIMPLEMENTED, OK),
]
REPOSITORY = [
    Case("a model that is unloaded", unloaded(shift), "UNAVAILABLE", MISSING, "no version of model shift"),
    Case("a version that is unloaded", versioned_shift, "UNAVAILABLE", "UNAVAILABLE"),
    Case("unloading again", unloaded(unloading("shift")), OK, OK),
    Case("unloading an unknown model", unloading("nope"), MISSING, OK, "'nope' is none of"),
    Case("loading an unknown model", loading("nope"), MISSING, "INTERNAL", "'nope' is none of"),
    Case("loading again", loading("shift"), OK, OK),
    Case(
        "loading with an unknown parameter", loading("shift", nonsense="x"), BAD, BAD, "the call takes bundle"
    ),
    Case("loading from a named repository", loading("shift", "other"), UNIMPLEMENTED, UNIMPLEMENTED),
]
SHARED_MEMORY = [
    Case("an input in shared memory", placed(), OK, OK),
    Case("an output to shared memory", answered(16), OK, OK),
    Case(
        "an output larger than its place",
        answered(15),
        BAD,
        "INTERNAL",
        "16 bytes, its place in shared memory 15",
    ),
    Case(
        "an unknown region",
        one(outputs=[output(**place("nope", 8))]),
        MISSING,
        MISSING,
        "'nope' is not registered",
    ),
    Case("a place beyond the region", placed(16, 56), BAD, BAD, "16 bytes at offset 56"),
    Case("a negative offset", placed(16, -1), BAD, BAD, "offset -1"),
    Case("a place of a wrong size", placed(20), BAD, BAD, "needs 16 bytes, got 20"),
    Case("a region without a size", region_without_size, BAD, BAD, "needs shared_memory_byte_size"),
    Case("raw contents beside shared memory", placed(16, None, raw(1, 2, 3, 4)), BAD, OK),
    Case("typed contents beside shared memory", placed(16, None, typed=True), BAD, BAD),
    Case("a region registered again", registered(name=""), "ALREADY_EXISTS", "ALREADY_EXISTS"),
    Case("a part of an object, from any offset", registered(offset=1, num_bytes=63), OK, "INTERNAL"),
    Case("a region beyond its object", registered(num_bytes=65), BAD, "INTERNAL", "the object has 64 bytes"),
    Case("a region of an overflowing offset", registered(offset=2**63), BAD, "INTERNAL"),
    Case("a region of no bytes", registered(num_bytes=0), BAD, "INTERNAL"),
    Case(
        "a key that is no object",
        registered(key="/xscene-nope"),
        MISSING,
        "INTERNAL",
        "no shared memory object",
    ),
    Case(
        "the status of an unknown region",
        calls("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="nope")),
        MISSING,
        MISSING,
    ),
    Case(
        "unregistering an unknown region",
        calls("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="nope")),
        OK,
        OK,
    ),
    Case(
        "CudaSharedMemoryStatus",
        calls("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
        UNIMPLEMENTED,
        OK,
    ),
    Case(
        "CudaSharedMemoryRegister",
        calls("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="x", byte_size=4)),
        UNIMPLEMENTED,
        BAD,
    ),
    Case(
        "CudaSharedMemoryUnregister",
        calls("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest()),
        UNIMPLEMENTED,
        OK,
    ),
]
