"""Tensors against references made in other ways, and bytes that nobody would send in good faith."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from tests.service.toy_models import ToyFactory, copied, write_bundle
from tests.service.toy_service import TIMEOUT_S, toys
from xscene.errors import InvalidInput, LimitExceeded, XSceneError
from xscene.serving.inference import TensorLimits, tensors, wire
from xscene.serving.models import DTYPES, Model

LIMITS = TensorLimits(max_strings=100, max_typed_bytes=1000, max_tensor_bytes=1000)
MIB = 1 << 20
NUMBERS = [name for name in DTYPES if name != "BYTES"]
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Signature:
    """The part of a model that tensors are checked against."""

    name, version, model_id, bundle, trained = "m", "1", "0" * 64, "b", True

    def __init__(self, datatype: str) -> None:
        self.inputs, self.outputs, _ = copied(datatype)


def model(datatype: str) -> Model:
    return Signature(datatype)  # type: ignore[return-value]


def no_region(name: str) -> Any:
    raise AssertionError(name)


def message(datatype: str, shape: Any, raw: bytes | None = None, **contents: Any) -> Any:
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="values", datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request


def decode(datatype: str, request: Any, limits: TensorLimits = LIMITS) -> np.ndarray:
    asked = wire.parse(request.SerializeToString(), 1000)
    return tensors.decode_inputs(asked, model(datatype), no_region, limits)["values"]


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes())


@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda name: st.tuples(st.just(name), arrays.arrays(DTYPES[name], st.integers(0, 9)))
    )
)
def test_numbers_travel_bit_by_bit_both_ways(given: tuple[str, np.ndarray]) -> None:
    datatype, values = given
    assert same(decode(datatype, message(datatype, values.shape, values.tobytes())), values)
    signature = model(datatype)
    wanted = tensors.decode_outputs(pb.ModelInferRequest(), signature, no_region)
    answer = tensors.encode(pb.ModelInferRequest(), signature, wanted, {"copy": values})
    assert list(answer.raw_output_contents) == [values.tobytes()]
    assert (answer.outputs[0].datatype, tuple(answer.outputs[0].shape)) == (datatype, values.shape)


@given(
    st.sampled_from(sorted(set(TYPED) - {"BYTES"})).flatmap(
        lambda name: st.tuples(st.just(name), arrays.arrays(DTYPES[name], st.integers(1, 9)))
    )
)
def test_typed_fields_give_the_same_numbers(given: tuple[str, np.ndarray]) -> None:
    datatype, values = given
    assert same(
        decode(datatype, message(datatype, values.shape, **{TYPED[datatype]: values.tolist()})), values
    )


@given(st.lists(st.binary(max_size=20), max_size=9))
def test_texts_travel_as_the_stock_client_writes_and_reads_them(texts: list[bytes]) -> None:
    values = np.array(texts, object)
    joined = serialize_byte_tensor(values)
    raw = joined.item() if joined.size else b""
    found = decode("BYTES", message("BYTES", [len(texts)], raw))
    assert found.tolist() == texts
    assert all(type(text) is bytes for text in found)
    assert decode("BYTES", message("BYTES", [len(texts)], bytes_contents=texts)).tolist() == texts
    wanted = tensors.decode_outputs(pb.ModelInferRequest(), model("BYTES"), no_region)
    answer = tensors.encode(pb.ModelInferRequest(), model("BYTES"), wanted, {"copy": values})
    assert deserialize_bytes_tensor(answer.raw_output_contents[0]).tolist() == texts


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.binary(max_size=64),
    st.sampled_from(sorted(DTYPES)),
)
def test_any_shape_with_any_bytes_is_decoded_or_refused(shape: list[int], raw: bytes, datatype: str) -> None:
    request, why = message(datatype, shape, raw), ""
    try:
        assert decode(datatype, request).shape == tuple(shape)
    except InvalidInput as error:
        why = error.message
    assert not why or "values" in why


@given(st.binary(max_size=300))
def test_any_bytes_as_a_message_are_decoded_or_refused(raw: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(raw)
    except DecodeError:
        return
    try:
        decode("INT32", request)
    except XSceneError:
        return
    assert request.inputs[0].name == "values"


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [("INT8", "int_contents", 128), ("INT16", "int_contents", -32769), ("UINT8", "uint_contents", 256)],
)
def test_a_number_that_its_type_cannot_hold_is_refused(datatype: str, field: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=f"input 'values': {value} is no {datatype}"):
        decode(datatype, message(datatype, [2], **{field: [1, value]}))


def test_half_precision_travels_in_raw_contents_only() -> None:
    with pytest.raises(InvalidInput, match="FP16 travels in raw_input_contents only"):
        decode("FP16", message("FP16", [1], fp32_contents=[1.0]))


def test_texts_are_limited_before_anything_is_made_of_them() -> None:
    with pytest.raises(LimitExceeded, match="input 'values': 101 values, the limit is 100"):
        decode("BYTES", message("BYTES", [101], b"\0\0\0\0" * 101))
    assert decode("BYTES", message("BYTES", [100], b"\0\0\0\0" * 100)).tolist() == [b""] * 100


def test_texts_in_a_typed_field_are_limited_whatever_the_shape_says() -> None:
    assert decode("BYTES", message("BYTES", [100], bytes_contents=[b""] * 100)).tolist() == [b""] * 100
    with pytest.raises(InvalidInput, match="needs 2 values, bytes_contents has 100"):
        decode("BYTES", message("BYTES", [2], bytes_contents=[b""] * 100))
    with pytest.raises(LimitExceeded, match="input 'values': 101 values or more, the limit is 100"):
        decode("BYTES", message("BYTES", [2], bytes_contents=[b""] * 101))


@pytest.mark.parametrize(
    ("datatype", "field", "num_values"), [("INT32", "int_contents", 998), ("FP64", "fp64_contents", 125)]
)
def test_numbers_in_a_typed_field_are_limited_by_their_bytes(
    datatype: str, field: str, num_values: int
) -> None:
    values = [1] * (num_values - 1)
    assert decode(datatype, message(datatype, [len(values)], **{field: values})).tolist() == values
    why = r"input 'values': 100\d bytes of numbers in a typed field .* the limit is 1000"
    with pytest.raises(LimitExceeded, match=why):
        decode(datatype, message(datatype, [2], **{field: [*values, 1]}))


# Field 2 of the contents, as encoders of old and those that write value by value send it.
ONES = {"unpacked": b"\x10\x01" * 3, "packed": b"\x12\x03\x01\x01\x01", "in parts": b"\x12\x01\x01" * 3}
UNKNOWN = b"\xf8\x07\x05\xfa\x07\x01x"


@pytest.mark.parametrize("ones", ONES.values(), ids=ONES)
def test_typed_numbers_are_read_however_they_are_written(ones: bytes) -> None:
    request = message("INT32", [3])
    request.inputs[0].contents.MergeFromString(UNKNOWN + ones)
    assert decode("INT32", request).tolist() == [1, 1, 1]


def test_unknown_fields_beside_texts_are_passed_over() -> None:
    request = message("BYTES", [1], bytes_contents=[b"a"])
    request.inputs[0].contents.MergeFromString(UNKNOWN)
    assert decode("BYTES", request).tolist() == [b"a"]


@pytest.mark.parametrize(("datatype", "shape"), [("INT32", 1), ("BYTES", 1), ("INT32", 0)])
def test_contents_that_are_torn_are_the_callers_fault(datatype: str, shape: int) -> None:
    tensor = message(datatype, [shape]).inputs[0].SerializeToString() + b"\x2a\x01\x42"
    asked = wire.parse(b"\x2a" + bytes([len(tensor)]) + tensor, 1000)
    with pytest.raises(InvalidInput, match="input 'values': its contents are no InferTensorContents"):
        tensors.decode_inputs(asked, model(datatype), no_region, LIMITS)


@pytest.mark.parametrize("datatype", ["BYTES", "FP32"])
def test_a_shape_alone_takes_no_memory(datatype: str) -> None:
    request = message(datatype, [2**40], b"\0" * 16)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            decode(datatype, request, replace(LIMITS, max_strings=2**50))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_numbers_are_not_copied_from_raw_contents() -> None:
    assert not decode("FP32", message("FP32", [4], b"\0" * 16)).flags.owndata


async def test_a_message_over_the_limit_is_refused_and_the_service_lives_on(tmp_path: Path) -> None:
    write_bundle(tmp_path, "toy")
    async with toys(
        tmp_path, "toy", factory=ToyFactory("identity_fp32", "shift"), max_message_bytes=MIB
    ) as service:
        cloud = np.zeros(2 * MIB, np.float32)
        with pytest.raises(XSceneError) as caught:
            await service.client.infer("identity_fp32", {"values": cloud}, timeout_s=TIMEOUT_S)
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        assert await service.copy("shift", 1) == [1]


async def test_one_text_too_many_is_refused_by_the_setting(tmp_path: Path) -> None:
    write_bundle(tmp_path, "toy")
    async with toys(tmp_path, "toy", factory=ToyFactory("identity_bytes"), max_strings=3) as service:
        for num_texts in (3, 4):
            texts = {"values": np.array([b"x"] * num_texts, object)}
            call = service.client.infer("identity_bytes", texts, timeout_s=TIMEOUT_S)
            if num_texts == 3:
                assert (await call).outputs["copy"].tolist() == [b"x"] * 3
            else:
                with pytest.raises(LimitExceeded, match="4 values, the limit is 3"):
                    await call
