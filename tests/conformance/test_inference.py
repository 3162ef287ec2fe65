"""Inference with the stock clients: for threads, for asyncio, and on streams."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as sync
import tritonclient.grpc.aio as aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.conformance.cases import Spoken

MIB = 1 << 20
ARRAYS = {
    "identity_fp32": np.linspace(-1, 1, 100_000, dtype=np.float32),
    "identity_int32": np.array([-(2**31), 0, 2**31 - 1], np.int32),
    "identity_bool": np.array([True, False, True]),
    "identity_bytes": np.array([b"", "Büro".encode(), b"\0\xff", b"x" * MIB], object),
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
}


def given(values: np.ndarray, name: str = "values", *, client: Any = sync) -> Any:
    made = client.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    made.set_data_from_numpy(values)
    return made


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.fixture
def client(server: Spoken) -> Iterator[sync.InferenceServerClient]:
    with sync.InferenceServerClient(server.address) as client:
        yield client


@pytest.mark.parametrize("model", ARRAYS)
def test_values_come_back_as_they_were(client: sync.InferenceServerClient, model: str) -> None:
    values = ARRAYS[model]
    copy = client.infer(model, [given(values)], request_id="a").as_numpy("copy")
    assert (copy.dtype, copy.shape) == (values.dtype, values.shape)
    assert copy.tolist() == values.tolist()


@pytest.mark.parametrize("model", ["identity_fp32", "identity_bytes", "matrix"])
def test_no_values_come_back_as_none(client: sync.InferenceServerClient, model: str) -> None:
    values = ARRAYS[model][:0]
    assert client.infer(model, [given(values)]).as_numpy("copy").shape == values.shape


def test_the_answer_names_request_model_and_version(
    server: Spoken, client: sync.InferenceServerClient
) -> None:
    version = server.version("shift")
    answer = client.infer("shift", [given(ints(1))], version, request_id="r 1").get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("r 1", "shift", version)


def test_only_the_outputs_asked_for_come_in_the_order_asked_for(client: sync.InferenceServerClient) -> None:
    inputs = [given(ints(5, 6, 7, 8), "left"), given(ints(1, 1, 1, 1), "right")]
    wanted = [sync.InferRequestedOutput("difference"), sync.InferRequestedOutput("sum")]
    both = client.infer("add_sub", inputs, outputs=wanted)
    assert both.as_numpy("sum").tolist() == [6, 7, 8, 9]
    assert both.as_numpy("difference").tolist() == [4, 5, 6, 7]
    one = client.infer("add_sub", inputs, outputs=wanted[:1])
    assert [output.name for output in one.get_response().outputs] == ["difference"]
    assert one.as_numpy("sum") is None


def test_many_calls_at_once_each_get_their_own_answer(client: sync.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(64):
        client.async_infer(
            "identity_int32",
            [given(ints(number))],
            lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    found = [answers.get(timeout=20) for _ in range(64)]
    assert [error for _, error in found if error] == []
    ids = {int(result.get_response().id): result.as_numpy("copy").tolist() for result, _ in found}
    assert ids == {number: [number] for number in range(64)}


def test_a_client_timeout_is_a_passed_deadline_and_harms_nobody_else(
    client: sync.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("sleepy", [given(ints(600))], client_timeout=0.2)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert client.infer("sleepy", [given(ints(0))]).as_numpy("copy").tolist() == [0]


def test_a_call_can_be_cancelled(client: sync.InferenceServerClient) -> None:
    ended: queue.Queue[Any] = queue.Queue()
    call = client.async_infer("sleepy", [given(ints(400))], lambda result, error: ended.put(error))
    time.sleep(0.1)
    call.cancel()
    assert "Locally cancelled" in str(ended.get(timeout=10))
    assert client.infer("identity_int32", [given(ints(1))]).as_numpy("copy").tolist() == [1]


async def test_the_client_for_asyncio_does_the_same(server: Spoken) -> None:
    async with aio.InferenceServerClient(server.address) as client:
        assert await client.is_server_ready()
        calls = [client.infer("identity_int32", [given(ints(n), client=aio)]) for n in range(20)]
        answers = await asyncio.gather(*calls)
        assert [answer.as_numpy("copy").tolist() for answer in answers] == [[n] for n in range(20)]
        with pytest.raises(InferenceServerException) as caught:
            await client.infer("nope", [given(ints(1), client=aio)])
        assert caught.value.status() == "StatusCode.NOT_FOUND"
        sleeping = asyncio.ensure_future(client.infer("sleepy", [given(ints(400), client=aio)]))
        await asyncio.sleep(0.1)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping


def streamed(client: sync.InferenceServerClient, *requests: tuple[str, np.ndarray], **options: Any) -> list:
    """Answers or errors of a stream, as they came."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    try:
        for number, (model, values) in enumerate(requests):
            client.async_stream_infer(model, [given(values)], request_id=str(number), **options)
        return [answers.get(timeout=20) for _ in requests]
    finally:
        client.stop_stream()


def test_a_stream_answers_every_request_in_order(client: sync.InferenceServerClient) -> None:
    found = streamed(client, *(("identity_int32", ints(number)) for number in range(100)))
    assert [int(answer.get_response().id) for answer in found] == list(range(100))
    assert [answer.as_numpy("copy").tolist() for answer in found] == [[number] for number in range(100)]


def test_a_slow_request_of_a_stream_is_not_overtaken(client: sync.InferenceServerClient) -> None:
    found = streamed(client, ("sleepy", ints(200)), ("identity_int32", ints(1)))
    assert [answer.as_numpy("copy").tolist() for answer in found] == [[200], [1]]


def test_a_bad_request_of_a_stream_fails_alone(client: sync.InferenceServerClient) -> None:
    good = ("identity_int32", ints(1))
    found = streamed(client, good, ("nope", ints(1)), ("poisonous", ints(13)), good)
    assert [isinstance(answer, InferenceServerException) for answer in found] == [False, True, True, False]
    assert "nope" in str(found[1])


@pytest.mark.parametrize("asked", [False, True])
def test_every_answer_of_a_stream_says_that_it_is_the_last_of_its_request(
    client: sync.InferenceServerClient, asked: bool
) -> None:
    (answer,) = streamed(client, ("identity_int32", ints(1)), enable_empty_final_response=asked)
    assert answer.get_response().parameters["triton_final_response"].bool_param


async def test_a_stream_for_asyncio_can_be_left(server: Spoken) -> None:
    async def requests() -> Any:
        for number in range(10):
            yield {"model_name": "identity_int32", "inputs": [given(ints(number), client=aio)]}
        await asyncio.Event().wait()

    async with aio.InferenceServerClient(server.address) as client:
        answers, found = client.stream_infer(requests()), []
        async for result, error in answers:
            assert error is None
            found.append(result.as_numpy("copy").tolist())
            if len(found) == 10:
                break
        answers.cancel()
        assert found == [[number] for number in range(10)]
        assert await client.is_server_live()
