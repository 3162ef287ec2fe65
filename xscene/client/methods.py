"""The calls that the clients make: name, and how question and answer cross the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

from xscene import codec
from xscene.codec.fields import join
from xscene.errors import InvalidInput, XSceneError
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
    Publication,
    PublishOrder,
    Reindex,
    ReindexEvent,
    ReindexOrder,
    Run,
    RunEvent,
    RunListing,
    RunOrder,
    RunPage,
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
    """One RPC: a question of type Q, an answer of type A; streams encode or decode each message.

    `text_field` is the field that the only text of a question goes to, where the question does not say.
    """

    name: str
    encode: Callable[[Q], Any]
    decode: Callable[[Any], A]
    text_field: str = ""

    def question(self, asked: Q) -> Any:
        """The message that asks."""
        try:
            return self.encode(asked)
        except UnicodeEncodeError:
            self._refuse_torn(asked)
            raise

    def questions(self, asked: Q) -> Iterator[Any]:
        """The messages of a stream that together ask; refused before any of them is sent."""
        self._refuse_torn(asked)
        messages: Iterator[Any] = self.encode(asked)
        return messages

    def answer(self, message: Any) -> A:
        """What a message says; one that cannot be right is no fault of the caller."""
        try:
            return self.decode(message)
        except InvalidInput as error:
            raise XSceneError(f"the answer of {self.name} is not valid: {error.message}") from error

    def _refuse_torn(self, asked: Q) -> None:
        """Refuses half of a surrogate pair, which Python's texts can hold and UTF-8 cannot."""
        for path, text in _texts(asked, ""):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                torn = f"character {text[error.start]!a} at {error.start} is half of a surrogate pair"
                raise InvalidInput.at(self.text_field or path, torn) from None


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with its path; a key stands under the path of its mapping."""
    if isinstance(value, str):
        yield path, value
    for part_path, part in _parts(value, path):
        yield from _texts(part, part_path)


def _parts(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield path, key
            yield f'{path}["{key}"]', item
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif is_dataclass(value):
        yield from ((join(path, field.name), getattr(value, field.name)) for field in fields(value))


GET_SCENE: Method[str, Scene] = Method(
    "GetScene", codec.encode_get_scene_request, codec.decode_get_scene_response, "scene_id"
)
LIST_SCENES: Method[SceneListing, ScenePage] = Method(
    "ListScenes", codec.encode_list_scenes_request, codec.decode_list_scenes_response
)
DELETE_SCENE: Method[str, int] = Method(
    "DeleteScene", codec.encode_delete_scene_request, codec.decode_delete_scene_response, "scene_id"
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
    "GetReindex", codec.encode_get_reindex_request, codec.decode_get_reindex_response, "reindex_id"
)
CANCEL_REINDEX: Method[str, Reindex] = Method(
    "CancelReindex", codec.encode_cancel_reindex_request, codec.decode_cancel_reindex_response, "reindex_id"
)
WATCH_REINDEX: Method[tuple[str, int], ReindexEvent] = Method(
    "WatchReindex",
    lambda watched: codec.encode_watch_reindex_request(*watched),
    codec.decode_watch_reindex_response,
    "reindex_id",
)
LOCALIZE: Method[LocalizeOptions | SceneContent, Belief] = Method(
    "Localize", codec.encode_localize_request, codec.decode_localize_response
)
INGEST_SCENE: Method[SceneRecord, IngestOutcome] = Method(
    "IngestScene", codec.encode_ingest_scene_requests, codec.decode_ingest_scene_response
)
FUSE: Method[FuseQuery, FuseResult] = Method("Fuse", codec.encode_fuse_request, codec.decode_fuse_response)

CREATE_RUN: Method[RunOrder, Run] = Method(
    "CreateRun", codec.encode_create_run_request, codec.decode_create_run_response
)
GET_RUN: Method[str, Run] = Method(
    "GetRun", codec.encode_get_run_request, codec.decode_get_run_response, "run_id"
)
LIST_RUNS: Method[RunListing, RunPage] = Method(
    "ListRuns", codec.encode_list_runs_request, codec.decode_list_runs_response
)
WATCH_RUN: Method[tuple[str, int], RunEvent] = Method(
    "WatchRun",
    lambda watched: codec.encode_watch_run_request(*watched),
    codec.decode_watch_run_response,
    "run_id",
)
CANCEL_RUN: Method[str, Run] = Method(
    "CancelRun", codec.encode_cancel_run_request, codec.decode_cancel_run_response, "run_id"
)
PUBLISH_BUNDLE: Method[PublishOrder, Publication] = Method(
    "PublishBundle", codec.encode_publish_bundle_request, codec.decode_publish_bundle_response
)


def embed_objects(num_objects: int) -> Method[ObjectsQuery, ObjectsResult]:
    """EmbedObjects; the rows of its answer are checked against the number of objects asked about."""
    return Method(
        "EmbedObjects",
        codec.encode_embed_objects_request,
        lambda answer: codec.decode_embed_objects_response(answer, num_objects),
    )
