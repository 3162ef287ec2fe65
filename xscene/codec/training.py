"""Training runs and the bundles made of them, on the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.protobuf.struct_pb2 import Struct, Value

from xscene.codec.fields import (
    RUN_STATE,
    check_count,
    decode_name,
    decode_names,
    decode_number,
    decode_optional_count,
    decode_run_state,
    decode_time,
    encode_time,
    join,
    require,
)
from xscene.codec.limits import Limits
from xscene.codec.scenes import decode_model, encode_model
from xscene.errors import InvalidInput
from xscene.types import (
    Json,
    Publication,
    PublishOrder,
    PublishOutcome,
    Run,
    RunCheckpoint,
    RunConfig,
    RunEvent,
    RunListing,
    RunMetrics,
    RunOrder,
    RunPage,
)
from xscene.types.training import MAX_INT_BITS
from xscene.v1 import trainer_pb2

_RUN_ID = re.compile(r"[a-z0-9-]{1,64}")
_BUNDLE = re.compile(r"(?!\.)[a-z0-9._-]{1,64}")
_NO_LIMITS = Limits.none()


def decode_run_id(run_id: str, path: str) -> str:
    """A run's name."""
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidInput.at(path, f"{run_id[:80]!r}, needs 1 to 64 characters of a-z0-9-")
    return run_id


def decode_bundle(bundle: str, path: str) -> str:
    """A bundle's name, which is that of its directory."""
    if not _BUNDLE.fullmatch(bundle):
        raise InvalidInput.at(
            path, f"{bundle[:80]!r}, needs 1 to 64 characters of a-z0-9._-, the first not a dot"
        )
    return bundle


def decode_run_config(message: trainer_pb2.RunConfig, path: str, limits: Limits) -> RunConfig:
    """What to train."""
    parent_path, overrides_path = join(path, "parent_run_id"), join(path, "overrides")
    check_count(message.overrides.ByteSize(), overrides_path, limits.max_override_bytes, "bytes")
    return RunConfig(
        recipe=decode_name(message.recipe, join(path, "recipe"), limits),
        datasets=decode_names(message.datasets, join(path, "datasets"), limits.max_datasets, limits),
        parent_run_id=message.parent_run_id and decode_run_id(message.parent_run_id, parent_path),
        seed=message.seed,
        overrides=_decode_mapping(message.overrides, overrides_path, 1, limits),
    )


def _decode_mapping(message: Struct, path: str, depth: int, limits: Limits) -> dict[str, Json]:
    check_count(depth, path, limits.max_override_depth, "levels")
    return {
        decode_name(key, path, limits): _decode_json(value, f'{path}["{key}"]', depth, limits)
        for key, value in message.fields.items()
    }


def _decode_json(message: Value, path: str, depth: int, limits: Limits) -> Json:
    """A value inside a mapping or list of this depth."""
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _decode_mapping(message.struct_value, path, depth + 1, limits)
    if kind == "list_value":
        check_count(depth + 1, path, limits.max_override_depth, "levels")
        return [
            _decode_json(item, f"{path}[{index}]", depth + 1, limits)
            for index, item in enumerate(message.list_value.values)
        ]
    if kind == "number_value":
        return _whole(decode_number(message.number_value, path))
    if kind == "string_value":
        return message.string_value
    if kind == "bool_value":
        return message.bool_value
    if kind is None:
        raise InvalidInput.at(path, "unset, needs a value")
    return None


def _whole(number: float) -> int | float:
    """The whole number that a caller wrote, which the wire knows only as a double."""
    return int(number) if number.is_integer() and abs(number) < 1 << MAX_INT_BITS else number


def encode_run_config(config: RunConfig) -> trainer_pb2.RunConfig:
    """What to train."""
    return trainer_pb2.RunConfig(
        recipe=config.recipe,
        datasets=config.datasets,
        parent_run_id=config.parent_run_id,
        seed=config.seed,
        overrides=_encode_mapping(config.overrides),
    )


def _encode_mapping(overrides: Mapping[str, Json]) -> Struct:
    message = Struct()
    message.update(overrides)
    return message


def decode_run(message: trainer_pb2.Run, path: str) -> Run:
    """A run of an answer."""
    for name in ("config", "created_at", "updated_at"):
        require(message, name, path)
    return Run(
        run_id=decode_run_id(message.run_id, join(path, "run_id")),
        config=decode_run_config(message.config, join(path, "config"), _NO_LIMITS),
        state=decode_run_state(message.state, join(path, "state")),
        created_at=decode_time(message.created_at, join(path, "created_at")),
        updated_at=decode_time(message.updated_at, join(path, "updated_at")),
        step=message.step,
        num_steps=message.num_steps,
        metrics=dict(message.metrics),
        error=message.error,
        next_offset=message.next_offset,
    )


def encode_run(run: Run) -> trainer_pb2.Run:
    """A run of an answer."""
    return trainer_pb2.Run(
        run_id=run.run_id,
        config=encode_run_config(run.config),
        state=RUN_STATE.encode(run.state),
        created_at=encode_time(run.created_at),
        updated_at=encode_time(run.updated_at),
        step=run.step,
        num_steps=run.num_steps,
        metrics=run.metrics,
        error=run.error,
        next_offset=run.next_offset,
    )


def decode_create_run_request(message: trainer_pb2.CreateRunRequest, limits: Limits) -> RunOrder:
    """Asks for a run."""
    require(message, "config", "")
    return RunOrder(
        run_id=decode_run_id(message.run_id, "run_id"),
        config=decode_run_config(message.config, "config", limits),
    )


def encode_create_run_request(order: RunOrder) -> trainer_pb2.CreateRunRequest:
    """Asks for a run."""
    return trainer_pb2.CreateRunRequest(run_id=order.run_id, config=encode_run_config(order.config))


def decode_create_run_response(message: trainer_pb2.CreateRunResponse) -> Run:
    """The run that was created, or was there already."""
    return decode_run(message.run, "run")


def encode_create_run_response(run: Run) -> trainer_pb2.CreateRunResponse:
    """The run that was created, or was there already."""
    return trainer_pb2.CreateRunResponse(run=encode_run(run))


def decode_get_run_request(message: trainer_pb2.GetRunRequest) -> str:
    """The id of the run asked for."""
    return decode_run_id(message.run_id, "run_id")


def encode_get_run_request(run_id: str) -> trainer_pb2.GetRunRequest:
    """Asks for a run."""
    return trainer_pb2.GetRunRequest(run_id=run_id)


def decode_get_run_response(message: trainer_pb2.GetRunResponse) -> Run:
    """The run asked for."""
    return decode_run(message.run, "run")


def encode_get_run_response(run: Run) -> trainer_pb2.GetRunResponse:
    """The run asked for."""
    return trainer_pb2.GetRunResponse(run=encode_run(run))


def decode_list_runs_request(message: trainer_pb2.ListRunsRequest, limits: Limits) -> RunListing:
    """Asks for a page of runs."""
    check_count(len(message.page_token.encode()), "page_token", limits.max_page_token_bytes, "bytes")
    return RunListing(
        states=RUN_STATE.decode_all(message.states, "states"),
        page_size=decode_optional_count(message.page_size, "page_size", limits.max_page_size, "runs"),
        page_token=message.page_token,
    )


def encode_list_runs_request(listing: RunListing) -> trainer_pb2.ListRunsRequest:
    """Asks for a page of runs."""
    return trainer_pb2.ListRunsRequest(
        states=RUN_STATE.encode_all(listing.states),
        page_size=listing.page_size or 0,
        page_token=listing.page_token,
    )


def decode_list_runs_response(message: trainer_pb2.ListRunsResponse) -> RunPage:
    """A page of runs."""
    return RunPage(
        runs=tuple(decode_run(run, f"runs[{index}]") for index, run in enumerate(message.runs)),
        next_page_token=message.next_page_token,
    )


def encode_list_runs_response(page: RunPage) -> trainer_pb2.ListRunsResponse:
    """A page of runs."""
    return trainer_pb2.ListRunsResponse(
        runs=[encode_run(run) for run in page.runs], next_page_token=page.next_page_token
    )


def decode_watch_run_request(message: trainer_pb2.WatchRunRequest) -> tuple[str, int]:
    """The id of the run, and the first event wanted."""
    return decode_run_id(message.run_id, "run_id"), message.offset


def encode_watch_run_request(run_id: str, offset: int = 0) -> trainer_pb2.WatchRunRequest:
    """Asks for a run's events from an offset on."""
    return trainer_pb2.WatchRunRequest(run_id=run_id, offset=offset)


def decode_watch_run_response(message: trainer_pb2.WatchRunResponse) -> RunEvent:
    """Something that happened in a run."""
    require(message, "time", "")
    kind = message.WhichOneof("event")
    metrics, checkpoint = message.metrics, message.checkpoint
    return RunEvent(
        offset=message.offset,
        time=decode_time(message.time, "time"),
        state=decode_run_state(message.state, "state") if kind == "state" else None,
        log=message.log if kind == "log" else None,
        metrics=RunMetrics(step=metrics.step, values=dict(metrics.values)) if kind == "metrics" else None,
        checkpoint=(
            RunCheckpoint(step=checkpoint.step, best=checkpoint.best) if kind == "checkpoint" else None
        ),
    )


def encode_watch_run_response(event: RunEvent) -> trainer_pb2.WatchRunResponse:
    """Something that happened in a run."""
    return trainer_pb2.WatchRunResponse(
        offset=event.offset,
        time=encode_time(event.time),
        state=None if event.state is None else RUN_STATE.encode(event.state),
        log=event.log,
        metrics=None if event.metrics is None else _encode_metrics(event.metrics),
        checkpoint=None if event.checkpoint is None else _encode_checkpoint(event.checkpoint),
    )


def _encode_metrics(metrics: RunMetrics) -> trainer_pb2.MetricsEvent:
    return trainer_pb2.MetricsEvent(step=metrics.step, values=metrics.values)


def _encode_checkpoint(checkpoint: RunCheckpoint) -> trainer_pb2.CheckpointEvent:
    return trainer_pb2.CheckpointEvent(step=checkpoint.step, best=checkpoint.best)


def decode_cancel_run_request(message: trainer_pb2.CancelRunRequest) -> str:
    """The id of the run to stop."""
    return decode_run_id(message.run_id, "run_id")


def encode_cancel_run_request(run_id: str) -> trainer_pb2.CancelRunRequest:
    """Names a run to stop."""
    return trainer_pb2.CancelRunRequest(run_id=run_id)


def decode_cancel_run_response(message: trainer_pb2.CancelRunResponse) -> Run:
    """The run after the request."""
    return decode_run(message.run, "run")


def encode_cancel_run_response(run: Run) -> trainer_pb2.CancelRunResponse:
    """The run after the request."""
    return trainer_pb2.CancelRunResponse(run=encode_run(run))


def decode_publish_bundle_request(message: trainer_pb2.PublishBundleRequest) -> PublishOrder:
    """Asks for a bundle of a finished run."""
    return PublishOrder(
        run_id=decode_run_id(message.run_id, "run_id"), bundle=decode_bundle(message.bundle, "bundle")
    )


def encode_publish_bundle_request(order: PublishOrder) -> trainer_pb2.PublishBundleRequest:
    """Asks for a bundle of a finished run."""
    return trainer_pb2.PublishBundleRequest(run_id=order.run_id, bundle=order.bundle)


def decode_publish_bundle_response(message: trainer_pb2.PublishBundleResponse) -> Publication:
    """The bundle, and what each service did with it."""
    return Publication(
        model=decode_model(message.model, "model"),
        outcomes=tuple(
            PublishOutcome(service=outcome.service, loaded=outcome.loaded, reason=outcome.reason)
            for outcome in message.outcomes
        ),
    )


def encode_publish_bundle_response(publication: Publication) -> trainer_pb2.PublishBundleResponse:
    """The bundle, and what each service did with it."""
    return trainer_pb2.PublishBundleResponse(
        model=encode_model(publication.model),
        outcomes=[
            trainer_pb2.PublishOutcome(service=outcome.service, loaded=outcome.loaded, reason=outcome.reason)
            for outcome in publication.outcomes
        ],
    )
