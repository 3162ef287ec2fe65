"""The calls that the clients make: name, and how question and answer cross the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from xscene import codec
from xscene.types import (
    Belief,
    EmbedResult,
    FuseQuery,
    FuseResult,
    IngestOutcome,
    LocalizeOptions,
    MatchQuery,
    ObjectContent,
    ObjectHits,
    ObjectMatches,
    ObjectQuery,
    ObjectsQuery,
    ObjectsResult,
    Reindex,
    ReindexEvent,
    ReindexOrder,
    Scene,
    SceneContent,
    SceneHits,
    SceneListing,
    ScenePage,
    SceneQuery,
    SceneRecord,
)

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """One RPC: a question of type Q, an answer of type A; streams encode or decode each message."""

    name: str
    encode: Callable[[Q], Any]
    decode: Callable[[Any], A]


GET_SCENE: Method[str, Scene] = Method(
    "GetScene", codec.encode_get_scene_request, codec.decode_get_scene_response
)
LIST_SCENES: Method[SceneListing, ScenePage] = Method(
    "ListScenes", codec.encode_list_scenes_request, codec.decode_list_scenes_response
)
DELETE_SCENE: Method[str, int] = Method(
    "DeleteScene", codec.encode_delete_scene_request, codec.decode_delete_scene_response
)
SEARCH_SCENES: Method[SceneQuery, SceneHits] = Method(
    "SearchScenes", codec.encode_search_scenes_request, codec.decode_search_scenes_response
)
SEARCH_OBJECTS: Method[ObjectQuery, ObjectHits] = Method(
    "SearchObjects", codec.encode_search_objects_request, codec.decode_search_objects_response
)
MATCH_OBJECTS: Method[MatchQuery, ObjectMatches] = Method(
    "MatchObjects", codec.encode_match_objects_request, codec.decode_match_objects_response
)
EMBED: Method[SceneContent | ObjectContent, EmbedResult] = Method(
    "Embed", codec.encode_embed_request, codec.decode_embed_response
)
START_REINDEX: Method[ReindexOrder, Reindex] = Method(
    "StartReindex", codec.encode_start_reindex_request, codec.decode_start_reindex_response
)
GET_REINDEX: Method[str, Reindex] = Method(
    "GetReindex", codec.encode_get_reindex_request, codec.decode_get_reindex_response
)
CANCEL_REINDEX: Method[str, Reindex] = Method(
    "CancelReindex", codec.encode_cancel_reindex_request, codec.decode_cancel_reindex_response
)
WATCH_REINDEX: Method[tuple[str, int], ReindexEvent] = Method(
    "WatchReindex",
    lambda watched: codec.encode_watch_reindex_request(*watched),
    codec.decode_watch_reindex_response,
)
LOCALIZE: Method[LocalizeOptions | SceneContent, Belief] = Method(
    "Localize", codec.encode_localize_request, codec.decode_localize_response
)
INGEST_SCENE: Method[SceneRecord, IngestOutcome] = Method(
    "IngestScene", codec.encode_ingest_scene_requests, codec.decode_ingest_scene_response
)
FUSE: Method[FuseQuery, FuseResult] = Method("Fuse", codec.encode_fuse_request, codec.decode_fuse_response)


def embed_objects(num_objects: int) -> Method[ObjectsQuery, ObjectsResult]:
    """EmbedObjects; the rows of its answer are checked against the number of objects asked about."""
    return Method(
        "EmbedObjects",
        codec.encode_embed_objects_request,
        lambda answer: codec.decode_embed_objects_response(answer, num_objects),
    )
