"""Metadata, configuration, statistics, repository and shared memory with the stock client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as sync
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

from tests.conformance.cases import Spoken, region
from tests.conformance.test_inference import given, ints
from tests.service.toy_models import SIGNATURES

WAIT_S = 20
ALL = set(SIGNATURES)


@pytest.fixture
def client(server: Spoken) -> Iterator[sync.InferenceServerClient]:
    with sync.InferenceServerClient(server.address) as client:
        yield client


def test_server_and_models_are_live_and_ready(client: sync.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert all(client.is_model_ready(name) for name in ALL)


def test_the_server_names_itself_and_its_extensions(
    client: sync.InferenceServerClient, server: Spoken
) -> None:
    found = client.get_server_metadata()
    assert found.name == {"ours": "xscene-text", "triton": "triton"}[server.name]
    assert found.version
    assert {"model_repository", "model_configuration", "statistics", "system_shared_memory"} <= set(
        found.extensions
    )


@pytest.mark.parametrize("name", ["add_sub", "identity_bytes", "matrix"])
def test_metadata_and_configuration_give_the_tensors_of_a_model(
    client: sync.InferenceServerClient, server: Spoken, name: str
) -> None:
    inputs, outputs, _ = SIGNATURES[name]
    found = client.get_model_metadata(name)
    assert (found.name, list(found.versions)) == (name, [server.version(name)])
    for specs, tensors in ((inputs, found.inputs), (outputs, found.outputs)):
        wanted = [(spec.name, spec.datatype, spec.shape) for spec in specs]
        assert [(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors] == wanted
    config = client.get_model_config(name).config
    assert (config.name, config.max_batch_size) == (name, 0)
    assert [(each.name, each.optional) for each in config.input] == [
        (spec.name, spec.optional) for spec in inputs
    ]
    assert [tuple(each.dims) for each in config.output] == [spec.shape for spec in outputs]


def counted(client: sync.InferenceServerClient, name: str) -> tuple[int, ...]:
    (found,) = client.get_inference_statistics(name).model_stats
    times = found.inference_stats
    assert times.success.ns >= times.compute_infer.ns
    assert sum(batch.compute_infer.count for batch in found.batch_stats) == found.execution_count
    return found.inference_count, times.success.count, times.fail.count, times.queue.count


def test_statistics_count_answers_and_failures(server: Spoken, client: sync.InferenceServerClient) -> None:
    client.infer("poisonous", [given(ints(1))])
    before = counted(client, "poisonous")
    for _ in range(3):
        client.infer("poisonous", [given(ints(1))])
    with pytest.raises(InferenceServerException):
        client.infer("poisonous", [given(ints(13))])
    gained = [now - then for now, then in zip(counted(client, "poisonous"), before, strict=True)]
    # Triton counts the errors that a Python model answers with among its answers.
    assert gained == {"ours": [3, 3, 1, 3], "triton": [4, 4, 0, 4]}[server.name]
    assert {found.name for found in client.get_inference_statistics().model_stats} >= {"poisonous"}


def states(client: sync.InferenceServerClient) -> dict[str, str]:
    return {row.name: row.state for row in client.get_model_repository_index().models}


def test_a_model_is_unloaded_and_loaded_again(client: sync.InferenceServerClient) -> None:
    assert states(client) == dict.fromkeys(ALL, "READY")
    client.unload_model("shift")
    until = time.monotonic() + WAIT_S
    while states(client) != dict.fromkeys(ALL, "READY") | {"shift": "UNAVAILABLE"}:
        assert time.monotonic() < until
    assert not client.is_model_ready("shift")
    assert client.is_model_ready("identity_int32")
    client.load_model("shift")
    assert client.is_model_ready("shift")
    assert states(client) == dict.fromkeys(ALL, "READY")
    assert client.infer("shift", [given(ints(4))]).as_numpy("copy").tolist() == [4]


def placed(tensor: Any, name: str, num_bytes: int, offset: int = 0) -> Any:
    tensor.set_shared_memory(name, num_bytes, offset)
    return tensor


def test_tensors_travel_through_shared_memory_both_ways(
    server: Spoken, client: sync.InferenceServerClient
) -> None:
    left, right = ints(5, 6, 7, 8), ints(1, 2, 3, 4)
    with region(server, 64, left, right) as (name, handle):
        inputs = [sync.InferInput("left", [4], "INT32"), sync.InferInput("right", [4], "INT32")]
        placed(inputs[0], name, 16), placed(inputs[1], name, 16, 16)
        wanted = [
            placed(sync.InferRequestedOutput("sum"), name, 16, 32),
            sync.InferRequestedOutput("difference"),
        ]
        answer = client.infer("add_sub", inputs, outputs=wanted)
        inside = shared_memory.get_contents_as_numpy(handle, np.int32, [4], 32)
        assert inside.tolist() == [6, 8, 10, 12]
        del inside
        assert answer.as_numpy("difference").tolist() == [4, 4, 4, 4]


def test_texts_travel_through_shared_memory(server: Spoken, client: sync.InferenceServerClient) -> None:
    texts = np.array([b"", b"meeting room", b"\0"], object)
    joined = serialize_byte_tensor(texts)
    num_bytes = len(joined.item())
    with region(server, 128, joined) as (name, handle):
        text = placed(sync.InferInput("values", [3], "BYTES"), name, num_bytes)
        wanted = placed(sync.InferRequestedOutput("copy"), name, num_bytes, 64)
        client.infer("identity_bytes", [text], outputs=[wanted])
        inside = shared_memory.get_contents_as_numpy(handle, np.object_, [3], 64)
        assert inside.tolist() == texts.tolist()


def test_regions_are_listed_until_they_are_unregistered(
    server: Spoken, client: sync.InferenceServerClient
) -> None:
    with region(server, 64) as (name, _):
        found = client.get_system_shared_memory_status(name).regions[name]
        assert (found.name, found.key, found.offset, found.byte_size) == (name, f"/{name}", 0, 64)
        client.unregister_system_shared_memory(name)
        assert name not in client.get_system_shared_memory_status().regions
        with pytest.raises(InferenceServerException) as caught:
            client.infer("identity_int32", [placed(sync.InferInput("values", [4], "INT32"), name, 16)])
        assert caught.value.status() == "StatusCode.NOT_FOUND"
