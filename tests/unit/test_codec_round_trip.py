"""Every value survives the way to bytes and back, through every message of every call."""

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import codec_values as values
from tests.unit import training_values
from xscene import codec, types
from xscene.codec import Limits
from xscene.errors import InvalidInput
from xscene.v1 import fusion_pb2, scene_pb2, trainer_pb2

LIMITS = Limits()
REQUESTS = values.REQUESTS | training_values.REQUESTS
RESPONSES = values.RESPONSES | training_values.RESPONSES

slow_data = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def through_bytes(message):
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize("call", REQUESTS)
@slow_data
@given(data=st.data())
def test_requests_survive_the_wire(call, data):
    value = data.draw(REQUESTS[call])
    message = getattr(codec, f"encode_{call}_request")(value)
    assert getattr(codec, f"decode_{call}_request")(through_bytes(message), LIMITS) == value


@pytest.mark.parametrize("call", RESPONSES)
@slow_data
@given(data=st.data())
def test_responses_survive_the_wire(call, data):
    value = data.draw(RESPONSES[call])
    message = getattr(codec, f"encode_{call}_response")(value)
    assert getattr(codec, f"decode_{call}_response")(through_bytes(message)) == value


@slow_data
@given(
    values.tables(types.ObjectEmbeddings, "embeddings", list(types.Modality)), values.vectors(), values.models
)
def test_objects_in_context_survive_the_wire(tables, summary, model):
    result = types.ObjectsResult(objects=tables, summary=summary, model=model)
    message = codec.encode_embed_objects_response(result)
    assert codec.decode_embed_objects_response(through_bytes(message), 4) == result


@slow_data
@given(values.localize_options, values.scene_contents.filter(lambda content: content.modalities))
def test_a_localisation_survives_the_wire(options, observation):
    messages = [through_bytes(codec.encode_localize_request(part)) for part in (options, observation)]
    decoded = [codec.decode_localize_request(m, index, LIMITS) for index, m in enumerate(messages)]
    assert decoded == [options, observation]


@slow_data
@given(values.reindex_ids, values.longs)
def test_a_reindex_is_named_on_the_wire(reindex_id, offset):
    for call in ("get_reindex", "cancel_reindex"):
        message = getattr(codec, f"encode_{call}_request")(reindex_id)
        assert getattr(codec, f"decode_{call}_request")(through_bytes(message)) == reindex_id
    message = codec.encode_watch_reindex_request(reindex_id, offset)
    assert codec.decode_watch_reindex_request(through_bytes(message)) == (reindex_id, offset)


@slow_data
@given(training_values.run_ids, values.longs, training_values.bundles)
def test_a_run_and_a_bundle_are_named_on_the_wire(run_id, offset, bundle):
    for call in ("get_run", "cancel_run"):
        message = getattr(codec, f"encode_{call}_request")(run_id)
        assert getattr(codec, f"decode_{call}_request")(through_bytes(message)) == run_id
    message = codec.encode_watch_run_request(run_id, offset)
    assert codec.decode_watch_run_request(through_bytes(message)) == (run_id, offset)
    order = types.PublishOrder(run_id=run_id, bundle=bundle)
    message = codec.encode_publish_bundle_request(order)
    assert codec.decode_publish_bundle_request(through_bytes(message)) == order


@slow_data
@given(values.objects())
def test_an_object_survives_the_wire(item):
    assert codec.decode_object(through_bytes(codec.encode_object(item)), "object", LIMITS) == item


@slow_data
@given(values.records(), st.integers(1, 60))
def test_an_ingest_survives_the_wire_in_chunks_of_any_size(record, chunk_bytes):
    assembler, collector = codec.IngestAssembler(LIMITS), codec.SceneCollector(LIMITS)
    for message in codec.encode_ingest_scene_requests(record, chunk_bytes=chunk_bytes):
        assert len(message.chunk) <= chunk_bytes
        for item in assembler.feed(through_bytes(message)):
            collector.add(item)
    assembler.finish()
    assert collector.record(assembler.header) == record


@pytest.mark.parametrize("call", REQUESTS)
@slow_data
@given(data=st.data())
def test_damaged_bytes_are_refused_as_the_callers_fault_or_read(call, data):
    message = getattr(codec, f"encode_{call}_request")(data.draw(REQUESTS[call]))
    wire = bytearray(message.SerializeToString())
    places = st.integers(0, max(len(wire) - 1, 0))
    for at in data.draw(st.lists(places, max_size=min(len(wire), 4))):
        wire[at] = data.draw(st.integers(0, 255))
    try:
        damaged = type(message).FromString(bytes(wire))
    except DecodeError:
        return
    with contextlib.suppress(InvalidInput):
        getattr(codec, f"decode_{call}_request")(damaged, LIMITS)


def test_no_message_of_a_call_is_left_out():
    services = [
        scene_pb2.DESCRIPTOR.services_by_name["SceneService"],
        fusion_pb2.DESCRIPTOR.services_by_name["FusionService"],
        trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"],
    ]
    wanted = set()
    for service in services:
        for method in service.methods:
            snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name)
            wanted |= {
                f"{way}{snake}_{kind}" for way in ("encode", "decode") for kind in ("request", "response")
            }
    # The requests of an ingest make up one stream: an encoder of the whole, and an assembler.
    wanted -= {"encode_ingest_scene_request", "decode_ingest_scene_request"}
    assert wanted <= set(codec.__all__)
