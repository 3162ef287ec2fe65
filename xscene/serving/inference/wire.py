"""Requests of inference out of their bytes, with the raw tensors where they lie.

Protobuf copies `raw_input_contents` twice before anybody sees them. Here they are cut out of the
request first, and protobuf reads only what is left; a message that is not plainly so is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2 as pb  # type: ignore[import-untyped, unused-ignore]

Message = Any  # the protocol's messages come without types
RAW_CONTENTS_TAG = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2
LENGTH_DELIMITED = 2
# More fields than models have tensors: protobuf reads those faster than a loop does.
MAX_FIELDS = 256
MAX_VARINT_BYTES = 10


@dataclass(frozen=True)
class InferRequest:
    """A request and its raw tensors, which the message no longer holds."""

    message: Message
    raw_contents: Sequence[Any]
    """Buffers, in the order of the inputs."""


def parse(data: bytes) -> InferRequest:
    """A ModelInferRequest; raises protobuf's DecodeError for what is none."""
    try:
        rest, contents = _cut(data)
    except _NotPlain:
        message = pb.ModelInferRequest.FromString(data)
        return InferRequest(message, message.raw_input_contents)
    return InferRequest(pb.ModelInferRequest.FromString(rest), contents)


class _NotPlain(Exception):
    """The message has other than a few length-delimited fields, or is torn."""


def _cut(data: bytes) -> tuple[bytes, list[memoryview]]:
    """All fields but the raw contents, and these."""
    view, position, end = memoryview(data), 0, len(data)
    rest: list[memoryview] = []
    contents: list[memoryview] = []
    for _ in range(MAX_FIELDS):
        if position == end:
            return b"".join(rest), contents
        tag, after_tag = _varint(data, position)
        if tag & 7 != LENGTH_DELIMITED:
            raise _NotPlain
        num_bytes, start = _varint(data, after_tag)
        stop = start + num_bytes
        if stop > end:
            raise _NotPlain
        if tag == RAW_CONTENTS_TAG:
            contents.append(view[start:stop])
        else:
            rest.append(view[position:stop])
        position = stop
    raise _NotPlain


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position after it."""
    value = 0
    for index, byte in enumerate(data[position : position + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise _NotPlain
