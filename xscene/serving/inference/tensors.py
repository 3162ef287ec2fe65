"""Tensors of the Open Inference Protocol: messages to arrays and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb  # type: ignore[import-untyped, unused-ignore]

from xscene.errors import InvalidInput, LimitExceeded
from xscene.serving.inference import wire
from xscene.serving.inference.shared_memory import Place, Region
from xscene.serving.inference.wire import Buffer, InferRequest
from xscene.serving.models import ANY, DTYPES, Model, Tensors, TensorSpec

Message = Any  # the protocol's messages come without types
FindRegion = Callable[[str], Region]
BYTES = "BYTES"
PREFIX = struct.Struct("<I")
"""Length of a value of a BYTES tensor, which stands before it."""
MAX_SIZE_BYTES = 2**63 - 1
REGION = "shared_memory_region"
REGION_BYTES = "shared_memory_byte_size"
REGION_OFFSET = "shared_memory_offset"
CONTENTS: Mapping[str, tuple[str, np.dtype[Any]]] = {
    "BOOL": ("bool_contents", np.dtype(np.bool_)),
    "UINT8": ("uint_contents", np.dtype(np.uint32)),
    "UINT16": ("uint_contents", np.dtype(np.uint32)),
    "UINT32": ("uint_contents", np.dtype(np.uint32)),
    "UINT64": ("uint64_contents", np.dtype(np.uint64)),
    "INT8": ("int_contents", np.dtype(np.int32)),
    "INT16": ("int_contents", np.dtype(np.int32)),
    "INT32": ("int_contents", np.dtype(np.int32)),
    "INT64": ("int64_contents", np.dtype(np.int64)),
    "FP32": ("fp32_contents", np.dtype(np.float32)),
    "FP64": ("fp64_contents", np.dtype(np.float64)),
    BYTES: ("bytes_contents", DTYPES[BYTES]),
}
"""Typed field that carries a datatype, and the type of its numbers; FP16 has none."""
TYPED_FIELDS: Mapping[int, str] = {
    field.number: field.name for field in pb.InferTensorContents.DESCRIPTOR.fields
}
STRINGS_TAG = wire.tag_of(pb.InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER)


@dataclass(frozen=True, kw_only=True)
class TensorLimits:
    """What one tensor may hold."""

    max_strings: int
    max_typed_bytes: int
    max_tensor_bytes: int


@dataclass(frozen=True)
class Wanted:
    """An output that a request asks for, and where it is to be written."""

    spec: TensorSpec
    place: Place | None


def decode_inputs(asked: InferRequest, model: Model, find: FindRegion, limits: TensorLimits) -> Tensors:
    """The tensors of a request, checked against what the model takes."""
    specs = {spec.name: spec for spec in model.inputs}
    raw = iter(asked.raw_contents) if len(asked.raw_contents) else None
    inputs: dict[str, NDArray[Any]] = {}
    for message, typed in zip(asked.message.inputs, asked.typed_contents, strict=True):
        spec = _known(f"input {message.name!r}", message.name, specs, inputs)
        inputs[spec.name] = _Input(message, typed, spec, find, limits).array(raw)
    missing = [spec.name for spec in model.inputs if not spec.optional and spec.name not in inputs]
    if missing:
        raise InvalidInput.at("inputs", f"{', '.join(missing)} missing; the model takes {', '.join(specs)}")
    if raw is not None and (num_more := sum(1 for _ in raw)):
        raise InvalidInput.at("raw_input_contents", f"{num_more} more than there are inputs for")
    return inputs


def decode_outputs(request: Message, model: Model, find: FindRegion) -> Sequence[Wanted]:
    """The outputs that a request asks for; all of the model's when it names none."""
    specs = {spec.name: spec for spec in model.outputs}
    wanted: dict[str, Wanted] = {}
    for message in request.outputs:
        field = f"output {message.name!r}"
        spec = _known(field, message.name, specs, wanted)
        if "classification" in message.parameters:
            raise InvalidInput.at(field, "classification is not offered, ask for the tensor")
        wanted[spec.name] = Wanted(spec, _place(message.parameters, field, find))
    return list(wanted.values()) or [Wanted(spec, None) for spec in model.outputs]


def encode(request: Message, model: Model, wanted: Sequence[Wanted], outputs: Tensors) -> Message:
    """The answer to a request; outputs for shared memory are written there."""
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    response.parameters["model_id"].string_param = model.model_id
    response.parameters["bundle"].string_param = model.bundle
    response.parameters["trained"].bool_param = model.trained
    for want in wanted:
        spec = want.spec
        values = np.asarray(outputs[spec.name], DTYPES[spec.datatype])
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=values.shape)
        data = _joined(values) if spec.datatype == BYTES else values.tobytes()
        if want.place is not None:
            want.place.write(data)
            # The contents are counted by position, so that an output elsewhere has an empty one.
            data = b""
        response.raw_output_contents.append(data)
    return response


def _known(field: str, name: str, specs: Mapping[str, TensorSpec], seen: Mapping[str, object]) -> TensorSpec:
    if name not in specs:
        raise InvalidInput.at(field, f"is none of {', '.join(specs)}")
    if name in seen:
        raise InvalidInput.at(field, "is there twice")
    return specs[name]


class _Input:
    """One input of a request."""

    def __init__(
        self,
        message: Message,
        typed: Buffer | None,
        spec: TensorSpec,
        find: FindRegion,
        limits: TensorLimits,
    ) -> None:
        self._message = message
        self._typed = typed
        self._spec = spec
        self._find = find
        self._limits = limits
        self._field = f"input {spec.name!r}"
        self._shape = self._checked_shape()
        self._num = math.prod(self._shape)

    def array(self, raw: Iterator[Any] | None) -> NDArray[Any]:
        """Its values, from wherever they are."""
        if self._spec.datatype == BYTES and self._num > self._limits.max_strings:
            raise LimitExceeded.of(
                self._field, value=self._num, limit=self._limits.max_strings, unit="values"
            )
        buffer = self._buffer(raw)
        if buffer is None:
            values = self._from_contents()
        elif self._spec.datatype == BYTES:
            values = self._from_strings(buffer)
        else:
            values = self._from_bytes(buffer)
        return values.reshape(self._shape)

    def _checked_shape(self) -> tuple[int, ...]:
        message, spec = self._message, self._spec
        if message.datatype != spec.datatype:
            raise InvalidInput.at(
                self._field, f"datatype {message.datatype!r}, the model takes {spec.datatype}"
            )
        shape = tuple(message.shape)
        fits = len(shape) == len(spec.shape) and all(
            size >= 0 and takes in (ANY, size) for takes, size in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InvalidInput.at(self._field, f"shape {list(shape)}, the model takes {_shown(spec.shape)}")
        num_bytes = math.prod(max(size, 1) for size in shape) * DTYPES[spec.datatype].itemsize
        if num_bytes > MAX_SIZE_BYTES:
            raise LimitExceeded.of(
                f"{self._field} shape", value=num_bytes, limit=MAX_SIZE_BYTES, unit="bytes"
            )
        return shape

    def _buffer(self, raw: Iterator[Any] | None) -> Any:
        """The bytes of the tensor; None when its values are in a typed field."""
        place = _place(self._message.parameters, self._field, self._find)
        if place is None and raw is None:
            return None
        if self._typed is not None:
            source = "raw_input_contents" if place is None else "shared memory"
            raise InvalidInput.at(self._field, f"has contents, which cannot go with {source}")
        if place is not None:
            return place.read(self._limits.max_tensor_bytes)
        assert raw is not None
        data = next(raw, None)
        if data is None:
            raise InvalidInput.at(self._field, "raw_input_contents holds nothing for it")
        return data

    def _from_bytes(self, buffer: Any) -> NDArray[Any]:
        dtype = DTYPES[self._spec.datatype]
        needed = self._num * dtype.itemsize
        if len(buffer) != needed:
            raise InvalidInput.at(
                self._field, f"shape {list(self._shape)} needs {needed} bytes, got {len(buffer)}"
            )
        if self._spec.datatype == "BOOL" and (np.frombuffer(buffer, np.uint8) > 1).any():
            raise InvalidInput.at(self._field, "a BOOL is one byte, 0 or 1")
        values = np.frombuffer(buffer, dtype)
        # Where a tensor begins in a message is chance, and not all that computes takes odd addresses.
        return values if values.flags.aligned else values.copy()

    def _from_strings(self, buffer: Any) -> NDArray[Any]:
        texts: list[bytes] = []
        view, position, end = memoryview(buffer), 0, len(buffer)
        for index in range(self._num):
            start = position + PREFIX.size
            if start > end:
                raise InvalidInput.at(f"{self._spec.name}[{index}]", "its length is cut off")
            (num_bytes,) = PREFIX.unpack_from(view, position)
            position = start + num_bytes
            if position > end:
                raise InvalidInput.at(
                    f"{self._spec.name}[{index}]", f"{num_bytes} bytes long, {end - start} are left"
                )
            texts.append(bytes(view[start:position]))
        if position != end:
            raise InvalidInput.at(self._field, f"{end - position} bytes after the last value")
        values = np.empty(self._num, object)
        values[:] = texts
        return values

    def _from_contents(self) -> NDArray[Any]:
        if self._spec.datatype not in CONTENTS:
            raise InvalidInput.at(self._field, f"{self._spec.datatype} travels in raw_input_contents only")
        typed = b"" if self._typed is None else self._typed
        try:
            given = self._strings(typed) if self._spec.datatype == BYTES else self._numbers(typed)
        except DecodeError:
            raise InvalidInput.at(self._field, "its contents are no InferTensorContents") from None
        name, wide = CONTENTS[self._spec.datatype]
        if len(given) != self._num:
            raise InvalidInput.at(
                self._field, f"shape {list(self._shape)} needs {self._num} values, {name} has {len(given)}"
            )
        values = np.fromiter(given, wide, self._num)
        narrow = values.astype(DTYPES[self._spec.datatype])
        if narrow.dtype != wide and (beyond := values[narrow != values]).size:
            raise InvalidInput.at(self._field, f"{beyond[0]} is no {self._spec.datatype}")
        return narrow

    def _numbers(self, typed: Buffer) -> Sequence[Any]:
        if len(typed) > self._limits.max_typed_bytes:
            unit = "bytes of numbers in a typed field (raw_input_contents takes more)"
            raise LimitExceeded.of(
                self._field, value=len(typed), limit=self._limits.max_typed_bytes, unit=unit
            )
        contents = pb.InferTensorContents.FromString(typed)
        name, _ = CONTENTS[self._spec.datatype]
        for field, _ in contents.ListFields():
            self._check_belongs(field.name)
        given: Sequence[Any] = getattr(contents, name)
        return given

    def _strings(self, typed: Buffer) -> Sequence[bytes]:
        found: list[bytes] = []
        for index, (tag, _, start, stop) in enumerate(wire.fields(typed)):
            if index == self._limits.max_strings:
                unit = "values or more"
                raise LimitExceeded.of(self._field, value=index + 1, limit=index, unit=unit)
            if tag == STRINGS_TAG:
                found.append(bytes(typed[start:stop]))
            else:
                self._check_belongs(TYPED_FIELDS.get(tag >> 3))
        return found

    def _check_belongs(self, field: str | None) -> None:
        """Refuse values in a typed field of another datatype; fields that nobody knows say nothing."""
        name, _ = CONTENTS[self._spec.datatype]
        if field not in (None, name):
            raise InvalidInput.at(self._field, f"{self._spec.datatype} belongs in {name}, not in {field}")


def _shown(shape: Sequence[int]) -> str:
    return "[" + ", ".join("any" if size == ANY else str(size) for size in shape) + "]"


def _place(parameters: Any, field: str, find: FindRegion) -> Place | None:
    """Where in shared memory a tensor is, if it is there."""
    if REGION not in parameters:
        return None
    if REGION_BYTES not in parameters:
        raise InvalidInput.at(field, f"{REGION} needs {REGION_BYTES}")
    offset = parameters[REGION_OFFSET].int64_param if REGION_OFFSET in parameters else 0
    region = find(parameters[REGION].string_param)
    return region.place(field, offset, parameters[REGION_BYTES].int64_param)


def _joined(values: NDArray[Any]) -> bytes:
    """Values of a BYTES tensor, each after its length."""
    return b"".join(part for value in values.flat for part in (PREFIX.pack(len(value)), value))
