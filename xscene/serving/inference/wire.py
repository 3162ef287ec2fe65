"""Requests of inference out of their bytes, with the tensors' values where they lie.

Protobuf copies raw tensors twice, and makes eighty bytes of an empty input's two, before anybody
sees them. Values are cut out of the request first, and protobuf reads only what is left, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb  # type: ignore[import-untyped, unused-ignore]

from xscene.errors import LimitExceeded

Message = Any  # the protocol's messages come without types
Buffer = bytes | memoryview
Span = tuple[int, int]
VARINT, FIXED_64, LENGTH_DELIMITED, GROUP, GROUP_END, FIXED_32 = range(6)
NUM_BYTES = {FIXED_64: 8, GROUP: 0, GROUP_END: 0, FIXED_32: 4}
MORE = 0x80
"""Set in the bytes of a number that another follows."""
MAX_VARINT_BYTES = 10
MAX_TAG = 2**32 - 1
MAX_TAG_BYTES = 5
IN_GROUP = 0
"""Stands for the tags of a group's fields, which mean nothing outside it; no field has this tag."""


def tag_of(number: int) -> int:
    """The tag of a length-delimited field."""
    return number << 3 | LENGTH_DELIMITED


INPUTS_TAG = tag_of(pb.ModelInferRequest.INPUTS_FIELD_NUMBER)
RAW_CONTENTS_TAG = tag_of(pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER)
CONTENTS_TAG = tag_of(pb.ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER)


@dataclass(frozen=True)
class InferRequest:
    """A request and its tensors' values, which the message does not hold."""

    message: Message
    raw_contents: Sequence[memoryview]
    """In the order of the inputs."""
    typed_contents: Sequence[Buffer | None]
    """Of each input, the InferTensorContents that it has, not read yet."""

    @property
    def num_typed_bytes(self) -> int:
        """Size of all typed contents."""
        return sum(len(contents) for contents in self.typed_contents if contents is not None)


def parse(data: bytes, max_header_bytes: int) -> InferRequest:
    """A ModelInferRequest; raises protobuf's DecodeError for what is none."""
    view, cutter = memoryview(data), _Cutter(data, max_header_bytes)
    rest, inputs, raw = cutter.cut((0, len(data)), INPUTS_TAG, RAW_CONTENTS_TAG)
    message = pb.ModelInferRequest.FromString(rest)
    typed: list[Buffer | None] = []
    for span in inputs:
        rest, contents, _ = cutter.cut(span, CONTENTS_TAG)
        message.inputs.add().MergeFromString(rest)
        # A message that comes in parts is their concatenation.
        parts = [view[start:stop] for start, stop in contents]
        typed.append(b"".join(parts) if len(parts) > 1 else next(iter(parts), None))
    return InferRequest(message, [view[start:stop] for start, stop in raw], typed)


def fields(data: Buffer, span: Span | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Of each field its tag, and where it, its value and what is after it begin."""
    position, end = span or (0, len(data))
    depth = 0
    while position < end:
        start = position
        # Nearly every tag and many a length is one byte, and the loop waits for this.
        tag, value = data[start], start + 1
        if tag >= MORE:
            tag, value = _varint(data, start, end)
            if value - start > MAX_TAG_BYTES or tag > MAX_TAG:
                raise DecodeError("a tag is too large")
        kind = tag & 7
        if kind == LENGTH_DELIMITED:
            if value < end and (num_bytes := data[value]) < MORE:
                value += 1
            else:
                num_bytes, value = _varint(data, value, end)
            position = value + num_bytes
        elif kind == VARINT:
            _, position = _varint(data, value, end)
        elif kind in NUM_BYTES:
            position = value + NUM_BYTES[kind]
        else:
            raise DecodeError("a field is of no known kind")
        if position > end:
            raise DecodeError("a field is cut off")
        yield (IN_GROUP if depth else tag), start, value, position
        depth += (kind == GROUP) - (kind == GROUP_END)


class _Cutter:
    """Cuts values out of messages; all that is no value has one limit."""

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._data = data
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def cut(self, span: Span, first: int, second: int = IN_GROUP) -> tuple[bytes, list[Span], list[Span]]:
        """A message without the fields of two tags, and where the values of these are."""
        rest: list[bytes] = []
        values: tuple[list[Span], list[Span]] = ([], [])
        for tag, start, value, stop in fields(self._data, span):
            left = tag == IN_GROUP or tag not in (first, second)
            self._num_bytes += (stop if left else value) - start
            if self._num_bytes > self._max_bytes:
                unit = "bytes or more beside its tensors' values"
                raise LimitExceeded.of("request", value=self._num_bytes, limit=self._max_bytes, unit=unit)
            if left:
                rest.append(self._data[start:stop])
            else:
                values[tag == second].append((value, stop))
        return b"".join(rest), *values


def _varint(data: Buffer, position: int, end: int) -> Span:
    """A number of seven bits a byte, and the position after it."""
    value = 0
    for index in range(min(MAX_VARINT_BYTES, end - position)):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < MORE:
            return value, position + index + 1
    raise DecodeError("a number is cut off")
