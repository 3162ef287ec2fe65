"""Requests of inference out of their bytes: as protobuf reads them, without its copies."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from xscene.errors import LimitExceeded
from xscene.serving.inference import wire

MAX_HEADER_BYTES = 4096
RAW = [b"", b"x", bytes(200), bytes(range(256)) * 300]


def request(contents: list[bytes]) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="cloud", model_version="7", id="a" * 300)
    made.parameters["priority"].int64_param = 3
    for index, data in enumerate(contents):
        made.inputs.add(name=f"input{index}", datatype="UINT8", shape=[len(data)])
        made.raw_input_contents.append(data)
    made.outputs.add(name="embedding")
    return made


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field, the slow way."""
    size, length = len(value), b""
    while size >= 128:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def contents_of(data: bytes) -> tuple[pb.ModelInferRequest, list[bytes]]:
    """The same, the slow way."""
    message = pb.ModelInferRequest.FromString(data)
    contents = list(message.raw_input_contents)
    del message.raw_input_contents[:]
    return message, contents


def read(data: bytes) -> tuple[pb.ModelInferRequest, list[bytes]]:
    found = parse(data)
    message = pb.ModelInferRequest()
    message.CopyFrom(found.message)
    for tensor, typed in zip(message.inputs, found.typed_contents, strict=True):
        assert not tensor.HasField("contents")
        if typed is not None:
            tensor.contents.MergeFromString(typed)
    return message, [bytes(each) for each in found.raw_contents]


def parse(data: bytes) -> wire.InferRequest:
    return wire.parse(data, MAX_HEADER_BYTES)


def test_raw_contents_lie_where_they_came() -> None:
    data = request(RAW).SerializeToString()
    found = parse(data)
    assert [bytes(each) for each in found.raw_contents] == RAW
    assert all(each.obj is data for each in found.raw_contents)
    assert not found.message.raw_input_contents


def typed_input(*contents: dict[str, Any]) -> bytes:
    """An input whose contents come in parts."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="typed", shape=[-1, 42, 2**40])
    tensor.parameters["x"].string_param = "*"
    parts = [
        pb.ModelInferRequest.InferInputTensor(contents=pb.InferTensorContents(**each)) for each in contents
    ]
    return b"".join(part.SerializeToString() for part in (*parts, tensor))


TYPED = [{"int_contents": [1, -1]}, {"bytes_contents": [b"", b"x" * 200]}, {"fp32_contents": [0.5] * 50}, {}]


@given(st.lists(st.binary(max_size=300), max_size=5), st.randoms(use_true_random=False))
def test_fields_in_any_order_are_read_as_protobuf_reads_them(contents: list[bytes], random: Random) -> None:
    fields = [
        pb.ModelInferRequest(model_name="other").SerializeToString(),
        pb.ModelInferRequest(raw_input_contents=[b"more"]).SerializeToString(),
        request(contents).SerializeToString(),
        pb.ModelInferRequest(model_version="8").SerializeToString(),
        *(field(5, typed_input(*random.sample(TYPED, size))) for size in range(3)),
    ]
    random.shuffle(fields)
    data = b"".join(fields)
    assert read(data) == contents_of(data)


def test_typed_contents_are_not_read() -> None:
    data = field(5, field(5, b"\xff")) + field(5, b"") + field(5, field(5, b"\x08") + field(5, b"\x01"))
    assert [None if each is None else bytes(each) for each in parse(data).typed_contents] == [
        b"\xff",
        None,
        b"\x08\x01",
    ]


UNKNOWN = [
    b"\xf8\x07\x05",  # field 127, a number
    b"\xf9\x07" + bytes(8),  # field 127, eight bytes
    b"\xfa\x07\x03abc",  # field 127, bytes
    b"\xfb\x07\xfc\x07",  # field 127, a group
    b"\xfb\x07\x3a\x01x\x2a\x00\xfb\x07\xfc\x07\xfc\x07",  # groups, with a field as of raw contents
    b"\xfd\x07" + bytes(4),  # field 127, four bytes
    b"\x3a\x80\x80\x00",  # raw contents with a length of three bytes that says 0
    b"\xba\x80\x80\x80\x00\x01x",  # raw contents with a tag of five bytes
    b"\x38\x05",  # raw contents that are a number
]


@pytest.mark.parametrize("extra", UNKNOWN)
def test_fields_of_other_kinds_are_left_to_protobuf(extra: bytes) -> None:
    whole = request(RAW).SerializeToString()
    inside = field(5, extra + typed_input(*TYPED) + extra)
    for data in (whole + extra, extra + whole, inside, extra * 100 + inside * 3 + whole):
        assert read(data) == contents_of(data)


@pytest.mark.parametrize(
    "torn",
    [
        b"\xfc\x07",  # a group that ends only
        b"\xfb\x07\x3a\x01x",  # a group that begins only
        b"\x3f\x00",  # a kind of field that there is not
        b"\xba\x80\x80\x80\x80\x00\x01x",  # a tag of six bytes
        b"\xba\x80\x80\x80\x70\x01x",  # a tag past four bytes
        b"\x3a" + b"\x80" * 10 + b"\x00",  # a length of eleven bytes
        b"\x00\x01",  # field 0
    ],
)
def test_what_protobuf_refuses_is_refused(torn: bytes) -> None:
    for data in (torn, request(RAW).SerializeToString() + torn, torn + field(7, b"x"), field(5, torn)):
        with pytest.raises(DecodeError):
            contents_of(data)
        with pytest.raises(DecodeError):
            parse(data)


def test_many_contents_are_read() -> None:
    data = request([b"x"] * 100).SerializeToString() + field(7, b"x") * 300
    assert read(data) == contents_of(data)


@pytest.mark.parametrize(
    "fields",
    {
        "names": field(1, b"x" * 4096),
        "empty inputs": field(5, b"") * 2049,
        "fields of an input": field(5, field(3, b"\x01") * 1366),
        "contents of an input": field(5, field(5, b"") * 2049),
        "raw contents": field(7, b"") * 2049,
        "unknown numbers": b"\xf8\x07\x05" * 1366,
        "a group": b"\xfb\x07" + b"\x38\x05" * 2048 + b"\xfc\x07",
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_no_value_has_a_limit(fields: tuple[str, bytes]) -> None:
    with pytest.raises(LimitExceeded, match=r"request: \d+ bytes or more .* the limit is 4096") as caught:
        parse(fields[1])
    assert caught.value.status == "INVALID_ARGUMENT"
    assert parse(field(7, bytes(1 << 20)) + field(5, field(5, bytes(1 << 20)))).num_typed_bytes == 1 << 20


def test_a_torn_request_is_refused_wherever_protobuf_refuses_it() -> None:
    data = request([b"", bytes(200)]).SerializeToString() + field(5, typed_input(*TYPED))
    for end in range(len(data)):
        try:
            wanted = contents_of(data[:end])
        except DecodeError:
            with pytest.raises(DecodeError):
                read(data[:end])
        else:
            assert read(data[:end]) == wanted


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_as_protobuf_does(data: bytes) -> None:
    try:
        wanted = contents_of(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            read(data)
    else:
        assert read(data) == wanted
