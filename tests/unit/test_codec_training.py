"""Orders to a trainer that can never succeed, its answers, and what JSON becomes on the wire."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings

from tests.unit import training_values as values
from xscene import codec, types
from xscene.codec import Limits
from xscene.errors import InvalidInput, LimitExceeded, SettingsInvalid
from xscene.v1 import trainer_pb2

NAN, INF = float("nan"), float("inf")
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
RUN = types.Run(
    run_id="night-1",
    config=types.RunConfig(recipe="scene"),
    state=types.RunState.RUNNING,
    created_at=NOW,
    updated_at=NOW,
)


def created(run_id="night-1", **changes):
    config = {"recipe": "scene"} | changes
    return codec.decode_create_run_request, trainer_pb2.CreateRunRequest(run_id=run_id, config=config)


def overridden(**overrides):
    return created(overrides=overrides)


def listed(**fields):
    return codec.decode_list_runs_request, trainer_pb2.ListRunsRequest(**fields)


def nested(depth):
    """A mapping of this many levels."""
    return {"k": nested(depth - 1)} if depth > 1 else {"k": 1}


BAD = [
    (created(run_id=""), "run_id", "'', needs 1 to 64 characters of a-z0-9-"),
    (created(run_id="Night 1"), "run_id", "'Night 1', needs 1 to 64 characters of a-z0-9-"),
    (created(run_id="a\n"), "run_id", "'a\\n', needs 1 to 64 characters of a-z0-9-"),
    (created(run_id="a" * 65), "run_id", f"'{'a' * 65}', needs 1 to 64 characters of a-z0-9-"),
    (created(recipe=""), "config.recipe", "empty, needs a name"),
    (created(recipe="a\0"), "config.recipe", "control character '\\x00' at 1"),
    (created(datasets=["a", ""]), "config.datasets[1]", "empty, needs a name"),
    (created(datasets=["a", "b", "a"]), "config.datasets[2]", "a is already at [0]"),
    (created(parent_run_id="A"), "config.parent_run_id", "'A', needs 1 to 64 characters of a-z0-9-"),
    (overridden(lr=NAN), 'config.overrides["lr"]', "nan, needs a finite number"),
    (overridden(a={"b": [0, -INF]}), 'config.overrides["a"]["b"][1]', "-inf, needs a finite number"),
    (overridden(**{"": 1}), "config.overrides", "empty, needs a name"),
    (overridden(a={"\n": 1}), 'config.overrides["a"]', "control character '\\n' at 0"),
    (created(overrides=Struct(fields={"a": {}})), 'config.overrides["a"]', "unset, needs a value"),
    (listed(states=[1, 9]), "states[1]", "9, needs one of RUN_STATE_QUEUED"),
    (listed(states=[0]), "states[0]", "unset, needs one of RUN_STATE_QUEUED"),
    (listed(states=[2, 2]), "states[1]", "running is already at [0]"),
]


@pytest.mark.parametrize(("call", "field", "description"), BAD, ids=[row[1] for row in BAD])
def test_every_fault_of_an_order_is_named_by_its_field(call, field, description):
    decode, request = call
    with pytest.raises(InvalidInput) as caught:
        decode(request, Limits())
    (violation,) = caught.value.violations
    assert violation.field == field
    assert violation.description.startswith(description)


PAST_LIMITS = [
    (created(recipe="abcd"), {"max_name_bytes": 3}, "config.recipe: 4 bytes, the limit is 3"),
    (created(datasets=["a", "b"]), {"max_datasets": 1}, "config.datasets: 2 names, the limit is 1"),
    (
        overridden(key=1),
        {"max_name_bytes": 2, "max_override_bytes": 99},
        "config.recipe: 5 bytes, the limit is 2",
    ),
    (overridden(a="b" * 90), {"max_override_bytes": 90}, "config.overrides: 99 bytes, the limit is 90"),
    (overridden(a={"b": 1}), {"max_override_depth": 1}, 'config.overrides["a"]: 2 levels, the limit is 1'),
    (overridden(a=[1]), {"max_override_depth": 1}, 'config.overrides["a"]: 2 levels, the limit is 1'),
    (
        overridden(a=[[], {"b": []}]),
        {"max_override_depth": 3},
        'config.overrides["a"][1]["b"]: 4 levels, the limit is 3',
    ),
    (listed(page_size=9), {"max_page_size": 8}, "page_size: 9 runs, the limit is 8"),
    (listed(page_token="é" * 5), {"max_page_token_bytes": 9}, "page_token: 10 bytes, the limit is 9"),
]


@pytest.mark.parametrize(("call", "limits", "message"), PAST_LIMITS, ids=[row[2] for row in PAST_LIMITS])
def test_every_limit_names_field_value_and_limit(call, limits, message):
    decode, request = call
    with pytest.raises(LimitExceeded) as caught:
        decode(request, Limits(**limits))
    assert str(caught.value) == message


def test_what_is_at_its_limit_is_accepted():
    decode, request = created(datasets=["a", "b"], overrides={"a": {"b": [1]}})
    size = request.config.overrides.ByteSize()
    limits = Limits(max_datasets=2, max_override_depth=3, max_override_bytes=size, max_name_bytes=5)
    assert decode(request, limits).config.overrides == {"a": {"b": [1]}}
    decode, request = overridden(**nested(8))
    assert decode(request, Limits()).config.overrides == nested(8)


def test_a_run_without_a_config_is_refused():
    with pytest.raises(InvalidInput, match="config: missing"):
        codec.decode_create_run_request(trainer_pb2.CreateRunRequest(run_id="a"), Limits())


@pytest.mark.parametrize("name", ["max_datasets", "max_override_bytes", "max_override_depth", "max_points"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(SettingsInvalid, match=f"{name}: 0, needs at least 1"):
        Limits(**{name: 0})


@pytest.mark.parametrize("call", ["get_run", "watch_run", "cancel_run", "publish_bundle"])
@pytest.mark.parametrize("run_id", ["", "Nightly", "a" * 65, "a/b", "a_b", "../a"])
def test_a_run_needs_a_plain_name_in_every_call(call, run_id):
    kind = "".join(part.title() for part in call.split("_"))
    request = getattr(trainer_pb2, f"{kind}Request")(run_id=run_id)
    with pytest.raises(InvalidInput, match=r"run_id: .* needs 1 to 64 characters of a-z0-9-"):
        getattr(codec, f"decode_{call}_request")(request)


@pytest.mark.parametrize("bundle", ["", ".", "..", ".a", "A", "a/b", "a b", "a\n", "é", "a" * 65])
def test_a_bundle_needs_the_name_of_a_plain_directory(bundle):
    request = trainer_pb2.PublishBundleRequest(run_id="a", bundle=bundle)
    with pytest.raises(InvalidInput, match=r"bundle: .* 1 to 64 characters of a-z0-9\._-, the first not a d"):
        codec.decode_publish_bundle_request(request)


@pytest.mark.parametrize("bundle", ["a", "a" * 64, "scene-2026.01_b", "-", "a.."])
def test_a_plain_directory_names_a_bundle(bundle):
    request = trainer_pb2.PublishBundleRequest(run_id="a", bundle=bundle)
    assert codec.decode_publish_bundle_request(request).bundle == bundle


@given(values.configs)
@settings(max_examples=50, deadline=None)
def test_overrides_are_the_json_that_protobuf_itself_writes(config):
    message = codec.encode_create_run_request(types.RunOrder(run_id="a", config=config)).config
    assert json.loads(json_format.MessageToJson(message.overrides)) == config.overrides


def test_whole_numbers_stay_whole_as_far_as_doubles_go():
    largest = (1 << 53) - 1
    given_numbers = {"epochs": 3, "least": -largest, "lr": 0.5, "huge": 2.0**53, "vast": 1e300, "on": True}
    config = types.RunConfig(recipe="scene", overrides=given_numbers)
    message = codec.encode_create_run_request(types.RunOrder(run_id="a", config=config))
    found = codec.decode_create_run_request(message, Limits()).config.overrides
    assert found == given_numbers
    assert {key: type(value) for key, value in found.items()} == {
        "epochs": int,
        "least": int,
        "lr": float,
        "huge": float,
        "vast": float,
        "on": bool,
    }


UNSAYABLE = [
    ({"a": NAN}, 'overrides["a"]: nan, needs a finite number'),
    ({"a": {"b": [0, INF]}}, 'overrides["a"]["b"][1]: inf, needs a finite number'),
    ({"a": 1 << 53}, 'overrides["a"]: 54 bits, the limit is 53'),
    ({"a": [-(10**6000)]}, 'overrides["a"][0]: 19932 bits, the limit is 53'),
    ({"a": (1, 2)}, 'overrides["a"]: tuple, needs None, a bool'),
    ({"a": np.int64(1)}, 'overrides["a"]: int64, needs None, a bool'),
    ({"a": b"x"}, 'overrides["a"]: bytes, needs None, a bool'),
    ({1: 2}, "overrides: key 1 is no text"),
    ({"a": {None: 2}}, 'overrides["a"]: key None is no text'),
    (nested(31), "overrides" + '["k"]' * 30 + ": 31 levels, the limit is 30"),
]


@pytest.mark.parametrize(("overrides", "message"), UNSAYABLE, ids=[row[1][:40] for row in UNSAYABLE])
def test_what_json_cannot_say_is_refused_where_it_is_made(overrides, message):
    with pytest.raises(InvalidInput) as caught:
        types.RunConfig(recipe="scene", overrides=overrides)
    assert str(caught.value).startswith(message)


def test_a_mapping_inside_itself_is_refused():
    loop = {}
    loop["k"] = loop
    with pytest.raises(LimitExceeded, match="31 levels, the limit is 30"):
        types.RunConfig(recipe="scene", overrides=loop)


def test_the_deepest_json_arrives_in_every_answer():
    run = replace(RUN, config=types.RunConfig(recipe="scene", overrides=nested(30)))
    wire = codec.encode_list_runs_response(types.RunPage(runs=(run,))).SerializeToString()
    assert codec.decode_list_runs_response(trainer_pb2.ListRunsResponse.FromString(wire)).runs == (run,)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: types.RunConfig(recipe="a", datasets="rooms"), "datasets"),
        (lambda: types.RunConfig(recipe="a", seed=-1), "seed"),
        (lambda: types.RunConfig(recipe="a", seed=1 << 64), "seed"),
        (lambda: types.RunListing(states=types.RunState.FAILED), "states"),
        (lambda: types.RunListing(page_size=0), "page_size"),
        (lambda: types.RunEvent(offset=0, time=NOW), "event"),
        (lambda: types.RunEvent(offset=0, time=NOW, log="", state=types.RunState.QUEUED), "event"),
        (lambda: types.RunEvent(offset=0, time=datetime(2026, 1, 1), log=""), "time"),
        (lambda: replace(RUN, created_at=datetime(2026, 1, 1)), "created_at"),
        (lambda: replace(RUN, updated_at=datetime(2026, 1, 1)), "updated_at"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused(make, field):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize("left_out", ["config", "created_at", "updated_at"])
def test_an_answer_without_what_every_run_has_is_refused(left_out):
    answer = codec.encode_get_run_response(RUN)
    answer.run.ClearField(left_out)
    with pytest.raises(InvalidInput, match=f"run.{left_out}: missing"):
        codec.decode_get_run_response(answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"log": "x"}, "time: missing"),
        ({"time": {"seconds": 1}}, "event: nothing, needs one of state, log, metrics, checkpoint"),
        ({"time": {"seconds": 1}, "state": 0}, "state: unset"),
        ({"time": {"nanos": -1}, "log": "x"}, "time.nanos: -1"),
    ],
)
def test_an_event_that_says_nothing_is_refused(answer, message):
    with pytest.raises(InvalidInput, match=message):
        codec.decode_watch_run_response(trainer_pb2.WatchRunResponse(**answer))


def test_an_event_is_what_the_protos_say():
    time = {"seconds": 1767323045, "nanos": 6000}
    message = trainer_pb2.WatchRunResponse(offset=7, time=time, metrics={"step": 3, "values": {"loss": 0.5}})
    event = types.RunEvent(offset=7, time=NOW, metrics=types.RunMetrics(step=3, values={"loss": 0.5}))
    assert codec.decode_watch_run_response(message) == event
    assert codec.encode_watch_run_response(event) == message


def test_a_loss_that_diverged_is_told_as_it_is():
    run = replace(RUN, metrics={"loss": NAN, "norm": INF})
    found = codec.decode_get_run_response(codec.encode_get_run_response(run)).metrics
    assert np.isnan(found["loss"])
    assert found["norm"] == INF


def test_an_answer_is_not_held_to_the_limits_of_orders():
    config = types.RunConfig(
        recipe="r" * 1000, datasets=tuple(map(str, range(100))), overrides={"a": "b" * 70_000} | nested(20)
    )
    run = replace(RUN, config=config)
    assert codec.decode_create_run_response(codec.encode_create_run_response(run)) == run
