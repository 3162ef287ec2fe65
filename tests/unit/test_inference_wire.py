"""Requests of inference out of their bytes: as protobuf reads them, without its copies."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from xscene.serving.inference import wire

RAW = [b"", b"x", bytes(200), bytes(range(256)) * 300]


def request(contents: list[bytes]) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="cloud", model_version="7", id="a" * 300)
    made.parameters["priority"].int64_param = 3
    for index, data in enumerate(contents):
        made.inputs.add(name=f"input{index}", datatype="UINT8", shape=[len(data)])
        made.raw_input_contents.append(data)
    made.outputs.add(name="embedding")
    return made


def contents_of(data: bytes) -> tuple[pb.ModelInferRequest, list[bytes]]:
    """The same, the slow way."""
    message = pb.ModelInferRequest.FromString(data)
    contents = list(message.raw_input_contents)
    del message.raw_input_contents[:]
    return message, contents


def read(data: bytes) -> tuple[pb.ModelInferRequest, list[bytes]]:
    found = wire.parse(data)
    contents = [bytes(each) for each in found.raw_contents]
    message = pb.ModelInferRequest()
    message.CopyFrom(found.message)
    del message.raw_input_contents[:]
    return message, contents


def test_raw_contents_lie_where_they_came() -> None:
    data = request(RAW).SerializeToString()
    found = wire.parse(data)
    assert [bytes(each) for each in found.raw_contents] == RAW
    assert all(each.obj is data for each in found.raw_contents)
    assert not found.message.raw_input_contents


@given(st.lists(st.binary(max_size=300), max_size=5), st.randoms(use_true_random=False))
def test_fields_in_any_order_are_read_as_protobuf_reads_them(contents: list[bytes], random: object) -> None:
    whole = request(contents)
    fields = [
        part.SerializeToString()
        for part in (
            pb.ModelInferRequest(model_name="other"),
            pb.ModelInferRequest(raw_input_contents=[b"more"]),
            whole,
            pb.ModelInferRequest(model_version="8"),
        )
    ]
    random.shuffle(fields)  # type: ignore[attr-defined]
    data = b"".join(fields)
    assert read(data) == contents_of(data)


@pytest.mark.parametrize(
    "extra",
    [
        b"\xf8\x07\x05",  # field 127, a number
        b"\xf9\x07" + bytes(8),  # field 127, eight bytes
        b"\xfa\x07\x03abc",  # field 127, bytes
        b"\xfb\x07\xfc\x07",  # field 127, a group
        b"\x3a\x80\x80\x00",  # raw contents with a length of three bytes that says 0
    ],
)
def test_fields_of_other_kinds_are_left_to_protobuf(extra: bytes) -> None:
    for data in (request(RAW).SerializeToString() + extra, extra + request(RAW).SerializeToString()):
        assert read(data) == contents_of(data)


def test_many_contents_are_read() -> None:
    data = request([b"x"] * (wire.MAX_FIELDS + 1)).SerializeToString()
    assert read(data) == contents_of(data)


def test_a_torn_request_is_refused_wherever_protobuf_refuses_it() -> None:
    data = request([b"", bytes(200)]).SerializeToString()
    for end in range(len(data)):
        try:
            wanted = contents_of(data[:end])
        except DecodeError:
            with pytest.raises(DecodeError):
                wire.parse(data[:end])
        else:
            assert read(data[:end]) == wanted


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_as_protobuf_does(data: bytes) -> None:
    try:
        wanted = contents_of(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            wire.parse(data)
    else:
        assert read(data) == wanted
