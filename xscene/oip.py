"""Client side of the Open Inference Protocol: tensors from any server that speaks it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient import utils  # type: ignore[import-untyped, unused-ignore]
from tritonclient.grpc import service_pb2 as pb  # type: ignore[import-untyped, unused-ignore]
from tritonclient.grpc import service_pb2_grpc

from xscene.codec import status
from xscene.errors import InvalidInput, XSceneError
from xscene.services import INFERENCE

Metadata = Sequence[tuple[str, str]]
Buffer = bytes | memoryview
RAW_CONTENTS_TAG = bytes([pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Outputs, and which model they are of; a server that is not ours tells only the version."""

    outputs: Mapping[str, NDArray[Any]]
    version: str
    model_id: str
    bundle: str
    trained: bool | None


@dataclass(frozen=True, kw_only=True)
class TensorForm:
    """A tensor that a model takes or gives; sizes of -1 are free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelForm:
    """A model's tensors, and the versions of it that are loaded."""

    versions: tuple[str, ...]
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """A model at a version, or without one, and whether it can be used."""

    name: str
    version: str
    ready: bool


class InferenceClient:
    """Calls over a channel that its owner makes and closes; errors are those of xscene."""

    def __init__(self, channel: grpc.aio.Channel, *, metadata: Metadata = ()) -> None:
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._infer: Any = channel.unary_unary(
            f"/{INFERENCE}/ModelInfer", bytes, pb.ModelInferResponse.FromString
        )
        self._metadata = tuple(metadata)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        version: str = "",
        request_id: str = "",
        timeout_s: float,
    ) -> Answer:
        """The wanted outputs of a model; all of them when none is named."""
        request = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
        for name, values in inputs.items():
            request.inputs.add(name=name, datatype=_datatype(name, values), shape=values.shape)
        for name in outputs:
            request.outputs.add(name=name)
        data = _joined(request, [_raw(values) for values in inputs.values()])
        return _answer(await self._call(self._infer, data, timeout_s), outputs)

    async def is_server_ready(self, *, timeout_s: float) -> bool:
        """Whether the server takes calls."""
        answer = await self._call(self._stub.ServerReady, pb.ServerReadyRequest(), timeout_s)
        return bool(answer.ready)

    async def is_model_ready(self, model: str, version: str = "", *, timeout_s: float) -> bool:
        """Whether a model, or one version of it, is loaded."""
        request = pb.ModelReadyRequest(name=model, version=version)
        return bool((await self._call(self._stub.ModelReady, request, timeout_s)).ready)

    async def describe(self, model: str, version: str = "", *, timeout_s: float) -> ModelForm:
        """A model's tensors and versions."""
        request = pb.ModelMetadataRequest(name=model, version=version)
        answer = await self._call(self._stub.ModelMetadata, request, timeout_s)
        return ModelForm(
            versions=tuple(answer.versions),
            inputs=tuple(_form(tensor) for tensor in answer.inputs),
            outputs=tuple(_form(tensor) for tensor in answer.outputs),
        )

    async def parameters(self, model: str, version: str = "", *, timeout_s: float) -> dict[str, str]:
        """What a model's configuration says beyond its tensors: identity and limits."""
        request = pb.ModelConfigRequest(name=model, version=version)
        answer = await self._call(self._stub.ModelConfig, request, timeout_s)
        return {name: value.string_value for name, value in answer.config.parameters.items()}

    async def index(self, *, timeout_s: float) -> list[IndexRow]:
        """Every model at every version."""
        answer = await self._call(self._stub.RepositoryIndex, pb.RepositoryIndexRequest(), timeout_s)
        return [
            IndexRow(name=row.name, version=row.version, ready=row.state == "READY") for row in answer.models
        ]

    async def load(self, model: str, bundle: str, *, timeout_s: float) -> None:
        """Load a model from a bundle; done when calls can use it."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        request.parameters["bundle"].string_param = bundle
        await self._call(self._stub.RepositoryModelLoad, request, timeout_s)

    async def unload(self, model: str, version: str = "", *, timeout_s: float) -> None:
        """Give a version back, or all; done when the calls that used it have ended."""
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        if version:
            request.parameters["version"].string_param = version
        await self._call(self._stub.RepositoryModelUnload, request, timeout_s)

    async def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            # The trailers are a mapping of names to text or bytes, which the type stubs do not know.
            trailers: Any = dict(error.trailing_metadata() or ())  # type: ignore[arg-type, unused-ignore]
            details = trailers.get(status.TRAILER)
            raise status.decode(error.code().name, error.details() or "", details) from None


def _datatype(name: str, values: NDArray[Any]) -> str:
    datatype: str | None = utils.np_to_triton_dtype(values.dtype)
    if datatype is None:
        raise InvalidInput.at(f"input {name!r}", f"arrays of {values.dtype} have no place in the protocol")
    return datatype


def _joined(request: Any, contents: Sequence[Buffer]) -> bytes:
    """A request with its raw contents, which protobuf would copy twice more."""
    parts: list[Buffer] = [request.SerializeToString()]
    for data in contents:
        parts += (RAW_CONTENTS_TAG, _varint(len(data)), data)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte have their highest bit set."""
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _raw(values: NDArray[Any]) -> Buffer:
    if values.dtype.kind not in "OS":
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    joined = utils.serialize_byte_tensor(values)
    return bytes(joined.item()) if joined.size else b""


def _answer(response: Any, wanted: Sequence[str]) -> Answer:
    if len(response.raw_output_contents) != len(response.outputs):
        raise XSceneError(
            f"the server sent {len(response.outputs)} outputs and the contents of "
            f"{len(response.raw_output_contents)}"
        )
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    outputs = {output.name: _values(output, raw) for output, raw in pairs}
    if missing := [name for name in wanted if name not in outputs]:
        raise XSceneError(f"the server sent no {', '.join(missing)}")
    told = response.parameters
    return Answer(
        outputs=outputs,
        version=response.model_version,
        model_id=told["model_id"].string_param if "model_id" in told else "",
        bundle=told["bundle"].string_param if "bundle" in told else "",
        trained=told["trained"].bool_param if "trained" in told else None,
    )


def _values(output: Any, raw: bytes) -> NDArray[Any]:
    dtype = utils.triton_to_np_dtype(output.datatype)
    try:
        if dtype is None:
            raise ValueError
        values = utils.deserialize_bytes_tensor(raw) if dtype is np.object_ else np.frombuffer(raw, dtype)
        return np.asarray(values).reshape(tuple(output.shape))
    except (ValueError, struct.error):
        raise XSceneError(
            f"the server's output {output.name!r} is no {output.datatype} of shape {list(output.shape)}"
        ) from None


def _form(tensor: Any) -> TensorForm:
    return TensorForm(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape))
