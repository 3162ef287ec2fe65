"""A gateway that keeps scenes in memory, on the real runtime and codec: the other end for client tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np

from xscene import codec, errors
from xscene.serving.server import Service
from xscene.serving.telemetry import Telemetry
from xscene.types import (
    Belief,
    Calibration,
    Embedding,
    EmbedResult,
    IngestOutcome,
    LocalizeOptions,
    Modality,
    ModalityOutcome,
    ModalityState,
    ModelInfo,
    ObjectHit,
    ObjectHits,
    ObjectMatch,
    ObjectMatches,
    Reindex,
    ReindexEvent,
    RunState,
    Scene,
    SceneBelief,
    SceneHit,
    SceneHits,
    ScenePage,
    SceneRecord,
    SearchReport,
    Space,
    Strategy,
)
from xscene.v1 import scene_pb2_grpc

MODEL = ModelInfo(model_id="ab" * 32, bundle="twin", trained=True)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REPORT = SearchReport(
    model=MODEL, strategy=Strategy.COMBINED, calibration=Calibration.FITTED, query_modalities=(Modality.TEXT,)
)
PAGE_SIZE = 2


class TwinGateway(Service, scene_pb2_grpc.SceneServiceServicer):
    """`failures` says how many of the next calls answer UNAVAILABLE."""

    name = "gateway"

    def __init__(self) -> None:
        self.records: dict[str, SceneRecord] = {}
        self.failures = 0
        self.num_ingests = 0

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        scene_pb2_grpc.add_SceneServiceServicer_to_server(self, server)
        return ("xscene.v1.SceneService",)

    async def start(self, telemetry: Telemetry) -> None: ...

    async def stop(self) -> None: ...

    def _fail_sometimes(self) -> None:
        if self.failures:
            self.failures -= 1
            raise errors.NotReady("away for a moment")

    def _scene(self, scene_id: str) -> Scene:
        if scene_id not in self.records:
            raise errors.NotFound(f"scene {scene_id} is not there")
        record = self.records[scene_id]
        outcomes = tuple(
            ModalityOutcome(modality=m, state=ModalityState.STORED) for m in record.content.modalities
        )
        return Scene(
            header=record.header.resolved(NOW),
            modalities=outcomes,
            num_objects=len(record.objects),
            latest=True,
            model=MODEL,
        )

    async def IngestScene(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        self.num_ingests += 1
        limits = codec.Limits()
        assembler, collector = codec.IngestAssembler(limits), codec.SceneCollector(limits)
        async for message in request_iterator:
            for item in assembler.feed(message):
                collector.add(item)
            if self.failures and self.num_ingests <= self.failures:
                raise errors.NotReady("away in the middle of a stream")
        assembler.finish()
        assert assembler.header is not None
        record = collector.record(assembler.header)
        self.records[record.header.scene_id] = record
        scene = self._scene(record.header.scene_id)
        return codec.encode_ingest_scene_response(
            IngestOutcome(
                scene_id=record.header.scene_id,
                revision=scene.header.revision,
                model=MODEL,
                outcomes=scene.modalities,
                num_objects=scene.num_objects,
            )
        )

    async def GetScene(self, request: Any, context: Any) -> Any:
        self._fail_sometimes()
        scene_id = codec.decode_get_scene_request(request, codec.Limits())
        return codec.encode_get_scene_response(self._scene(scene_id))

    async def ListScenes(self, request: Any, context: Any) -> Any:
        listing = codec.decode_list_scenes_request(request, codec.Limits())
        names = sorted(name for name in self.records if name > listing.page_token)
        size = listing.page_size or PAGE_SIZE
        page = names[:size]
        token = page[-1] if len(names) > size else ""
        scenes = tuple(self._scene(name) for name in page)
        return codec.encode_list_scenes_response(ScenePage(scenes=scenes, next_page_token=token))

    async def DeleteScene(self, request: Any, context: Any) -> Any:
        scene_id = codec.decode_delete_scene_request(request, codec.Limits())
        record = self.records.pop(scene_id, None)
        return codec.encode_delete_scene_response(0 if record is None else len(record.objects))

    async def SearchScenes(self, request: Any, context: Any) -> Any:
        query = codec.decode_search_scenes_request(request, codec.Limits())
        names = sorted(self.records)[: query.options.limit]
        hits = tuple(SceneHit(scene=self._scene(name), score=1.0 - i / 8) for i, name in enumerate(names))
        return codec.encode_search_scenes_response(SceneHits(hits=hits, report=REPORT))

    async def SearchObjects(self, request: Any, context: Any) -> Any:
        codec.decode_search_objects_request(request, codec.Limits())
        hits = tuple(
            ObjectHit(scene_id=name, object_id=item.object_id, score=0.5, label=item.label)
            for name, record in sorted(self.records.items())
            for item in record.objects
        )
        return codec.encode_search_objects_response(ObjectHits(hits=hits, report=REPORT))

    async def MatchObjects(self, request: Any, context: Any) -> Any:
        query = codec.decode_match_objects_request(request, codec.Limits())
        source, target = (self.records[n].objects for n in (query.source_scene_id, query.target_scene_id))
        matches = tuple(
            ObjectMatch(source_object_id=a.object_id, target_object_id=b.object_id, score=1.0)
            for a, b in zip(source, target, strict=False)
        )
        return codec.encode_match_objects_response(
            ObjectMatches(
                matches=matches,
                unmatched_source_ids=(),
                unmatched_target_ids=(),
                model=MODEL,
                calibration=Calibration.FITTED,
            )
        )

    async def Localize(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        index = number = 0
        async for message in request_iterator:
            part = codec.decode_localize_request(message, index, codec.Limits())
            index += 1
            if isinstance(part, LocalizeOptions):
                continue
            beliefs = (SceneBelief(scene_id="a", place_id="a", probability=0.75),)
            belief = Belief(observation=number, beliefs=beliefs, unknown_probability=0.25, model=MODEL)
            yield codec.encode_localize_response(belief)
            number += 1

    async def Embed(self, request: Any, context: Any) -> Any:
        content = codec.decode_embed_request(request, codec.Limits())
        values = np.ones(4, np.float32)
        embeddings = tuple(
            Embedding(modality=m, space=Space.SCENE, values=values) for m in content.modalities
        )
        return codec.encode_embed_response(EmbedResult(embeddings=embeddings, model=MODEL))

    async def StartReindex(self, request: Any, context: Any) -> Any:
        order = codec.decode_start_reindex_request(request, codec.Limits())
        return codec.encode_start_reindex_response(_reindex(order.reindex_id, RunState.QUEUED))

    async def GetReindex(self, request: Any, context: Any) -> Any:
        name = codec.decode_get_reindex_request(request)
        return codec.encode_get_reindex_response(_reindex(name, RunState.RUNNING))

    async def CancelReindex(self, request: Any, context: Any) -> Any:
        name = codec.decode_cancel_reindex_request(request)
        return codec.encode_cancel_reindex_response(_reindex(name, RunState.CANCELLED))

    async def WatchReindex(self, request: Any, context: Any) -> AsyncIterator[Any]:
        name, start = codec.decode_watch_reindex_request(request)
        for offset in range(start, 6):
            state = RunState.SUCCEEDED if offset == 5 else RunState.RUNNING
            event = ReindexEvent(offset=offset, reindex=_reindex(name, state), log=f"step {offset}")
            yield codec.encode_watch_reindex_response(event)
            if offset % 2 == 1 and offset != 5:
                raise errors.NotReady("the connection is old")


def _reindex(name: str, state: RunState) -> Reindex:
    return Reindex(
        reindex_id=name,
        state=state,
        from_model_id="ab" * 32,
        to_model_id="cd" * 32,
        num_scenes=3,
        num_done=1,
        num_failed=0,
        created_at=NOW,
        updated_at=NOW,
    )
