"""Reindexing on the wire."""

from __future__ import annotations

from xscene.codec.fields import (
    RUN_STATE,
    decode_name,
    decode_reindex_id,
    decode_run_state,
    decode_time,
    encode_time,
    join,
    require,
)
from xscene.codec.limits import Limits
from xscene.types import Reindex, ReindexEvent, ReindexOrder
from xscene.v1 import scene_pb2


def decode_reindex(message: scene_pb2.Reindex, path: str) -> Reindex:
    """Progress of a reindex."""
    require(message, "created_at", path)
    require(message, "updated_at", path)
    return Reindex(
        reindex_id=decode_reindex_id(message.reindex_id, join(path, "reindex_id")),
        state=decode_run_state(message.state, join(path, "state")),
        from_model_id=message.from_model_id,
        to_model_id=message.to_model_id,
        num_scenes=message.num_scenes,
        num_done=message.num_done,
        num_failed=message.num_failed,
        created_at=decode_time(message.created_at, join(path, "created_at")),
        updated_at=decode_time(message.updated_at, join(path, "updated_at")),
        error=message.error,
    )


def encode_reindex(reindex: Reindex) -> scene_pb2.Reindex:
    """Progress of a reindex."""
    return scene_pb2.Reindex(
        reindex_id=reindex.reindex_id,
        state=RUN_STATE.encode(reindex.state),
        from_model_id=reindex.from_model_id,
        to_model_id=reindex.to_model_id,
        num_scenes=reindex.num_scenes,
        num_done=reindex.num_done,
        num_failed=reindex.num_failed,
        created_at=encode_time(reindex.created_at),
        updated_at=encode_time(reindex.updated_at),
        error=reindex.error,
    )


def decode_start_reindex_request(message: scene_pb2.StartReindexRequest, limits: Limits) -> ReindexOrder:
    """Asks for a reindex."""
    return ReindexOrder(
        reindex_id=decode_reindex_id(message.reindex_id, "reindex_id"),
        bundle=decode_name(message.bundle, "bundle", limits),
    )


def encode_start_reindex_request(order: ReindexOrder) -> scene_pb2.StartReindexRequest:
    """Asks for a reindex."""
    return scene_pb2.StartReindexRequest(reindex_id=order.reindex_id, bundle=order.bundle)


def decode_start_reindex_response(message: scene_pb2.StartReindexResponse) -> Reindex:
    """The reindex that was started."""
    return decode_reindex(message.reindex, "reindex")


def encode_start_reindex_response(reindex: Reindex) -> scene_pb2.StartReindexResponse:
    """The reindex that was started."""
    return scene_pb2.StartReindexResponse(reindex=encode_reindex(reindex))


def decode_get_reindex_request(message: scene_pb2.GetReindexRequest) -> str:
    """The id of the reindex asked for."""
    return decode_reindex_id(message.reindex_id, "reindex_id")


def encode_get_reindex_request(reindex_id: str) -> scene_pb2.GetReindexRequest:
    """Asks for a reindex's progress."""
    return scene_pb2.GetReindexRequest(reindex_id=reindex_id)


def decode_get_reindex_response(message: scene_pb2.GetReindexResponse) -> Reindex:
    """The reindex asked for."""
    return decode_reindex(message.reindex, "reindex")


def encode_get_reindex_response(reindex: Reindex) -> scene_pb2.GetReindexResponse:
    """The reindex asked for."""
    return scene_pb2.GetReindexResponse(reindex=encode_reindex(reindex))


def decode_watch_reindex_request(message: scene_pb2.WatchReindexRequest) -> tuple[str, int]:
    """The id of the reindex, and the first event wanted."""
    return decode_reindex_id(message.reindex_id, "reindex_id"), message.offset


def encode_watch_reindex_request(reindex_id: str, offset: int = 0) -> scene_pb2.WatchReindexRequest:
    """Asks for a reindex's events from an offset on."""
    return scene_pb2.WatchReindexRequest(reindex_id=reindex_id, offset=offset)


def decode_watch_reindex_response(message: scene_pb2.WatchReindexResponse) -> ReindexEvent:
    """A step of a reindex."""
    return ReindexEvent(
        offset=message.offset, reindex=decode_reindex(message.reindex, "reindex"), log=message.log
    )


def encode_watch_reindex_response(event: ReindexEvent) -> scene_pb2.WatchReindexResponse:
    """A step of a reindex."""
    return scene_pb2.WatchReindexResponse(
        offset=event.offset, reindex=encode_reindex(event.reindex), log=event.log
    )


def decode_cancel_reindex_request(message: scene_pb2.CancelReindexRequest) -> str:
    """The id of the reindex to stop."""
    return decode_reindex_id(message.reindex_id, "reindex_id")


def encode_cancel_reindex_request(reindex_id: str) -> scene_pb2.CancelReindexRequest:
    """Names a reindex to stop."""
    return scene_pb2.CancelReindexRequest(reindex_id=reindex_id)


def decode_cancel_reindex_response(message: scene_pb2.CancelReindexResponse) -> Reindex:
    """The reindex after the request."""
    return decode_reindex(message.reindex, "reindex")


def encode_cancel_reindex_response(reindex: Reindex) -> scene_pb2.CancelReindexResponse:
    """The reindex after the request."""
    return scene_pb2.CancelReindexResponse(reindex=encode_reindex(reindex))
