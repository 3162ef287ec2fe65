"""Answers of a newer server: words that this version does not know cost their own entry, not the answer."""

import numpy as np
import pytest

from xscene import codec
from xscene.codec import Limits
from xscene.errors import InvalidInput
from xscene.types import Calibration, IngestMode, Modality, ModalityState, RunState, Strategy
from xscene.v1 import fusion_pb2, scene_pb2, trainer_pb2

NEW = 77
MODEL = {"model_id": "ab" * 32, "bundle": "next", "trained": True}
TIMES = {"created_at": {"seconds": 1}, "updated_at": {"seconds": 2}}
PAIRS = [
    {"query": 1, "target": NEW},
    {"query": NEW, "target": 1},
    {"query": 1, "target": 2, "cosine": 0.5},
]


def vector(modality, space=1):
    return {"modality": modality, "space": space, "values": [1.0, 2.0]}


def table(*rows):
    values = np.ones((len(rows), 2), np.float32)
    return {"data_type": 1, "shape": values.shape, "data": values.tobytes()}


def test_an_ingest_tells_of_the_modalities_that_are_known():
    outcomes = [
        {"modality": NEW, "state": 1},
        {"modality": 1, "state": 1},
        {"modality": 2, "state": NEW},
        {"modality": 3, "state": 2},
    ]
    answer = scene_pb2.IngestSceneResponse(outcomes=outcomes, model=MODEL, num_objects=3)
    outcome = codec.decode_ingest_scene_response(answer)
    assert [(one.modality, one.state) for one in outcome.outcomes] == [
        (Modality.TEXT, ModalityState.STORED),
        (Modality.FLOORPLAN, ModalityState.PENDING),
    ]
    assert outcome.num_objects == 3


def test_a_search_tells_of_the_pairs_and_modalities_that_are_known():
    hit = {
        "scene": {"header": {"scene_id": "a", "mode": NEW}},
        "score": 2,
        "pairs": PAIRS,
        "missing": [NEW, 3],
    }
    report = {
        "model": MODEL,
        "strategy": NEW,
        "calibration": NEW,
        "query_modalities": [1, NEW, NEW + 1, 2],
        "degraded": [{"modality": NEW, "reason": "x"}, {"modality": 5, "reason": "down"}],
    }
    found = codec.decode_search_scenes_response(scene_pb2.SearchScenesResponse(hits=[hit], report=report))
    assert found.hits[0].scene.header.mode is IngestMode.REPLACE
    assert [(pair.query, pair.target, pair.cosine) for pair in found.hits[0].pairs] == [
        ("text", "image", 0.5)
    ]
    assert found.hits[0].missing == (Modality.FLOORPLAN,)
    assert (found.report.strategy, found.report.calibration) == (None, None)
    assert found.report.query_modalities == (Modality.TEXT, Modality.IMAGE)
    assert [(left.modality, left.reason) for left in found.report.degraded] == [(Modality.MESH, "down")]


def test_the_words_of_an_answer_that_are_known_are_told():
    report = {"model": MODEL, "strategy": 1, "calibration": 2}
    found = codec.decode_search_objects_response(scene_pb2.SearchObjectsResponse(report=report)).report
    assert (found.strategy, found.calibration) == (Strategy.FUSED, Calibration.Z_SCORE)


def test_objects_and_their_matches_tell_of_what_is_known():
    hit = {"scene_id": "a", "object_id": "b", "pairs": PAIRS, "missing": [NEW]}
    answer = scene_pb2.SearchObjectsResponse(hits=[hit], report={"strategy": 2})
    found = codec.decode_search_objects_response(answer).hits[0]
    assert (len(found.pairs), found.missing) == (1, ())
    match = {"source_object_id": "a", "target_object_id": "b", "pairs": PAIRS}
    matches = codec.decode_match_objects_response(
        scene_pb2.MatchObjectsResponse(matches=[match], calibration=NEW)
    )
    assert (len(matches.matches[0].pairs), matches.calibration) == (1, None)


def test_embeddings_of_new_modalities_or_spaces_are_left_out():
    sent = [vector(NEW), vector(1), vector(2, NEW), vector(7), *(vector(NEW) for _ in range(20))]
    answer = scene_pb2.EmbedResponse(embeddings=sent, degraded=[{"modality": NEW}])
    found = codec.decode_embed_response(answer)
    assert [embedding.modality for embedding in found.embeddings] == [Modality.TEXT, Modality.FUSED]
    assert found.degraded == ()


def test_fused_vectors_tell_the_shares_that_are_known():
    weights = [{"modality": NEW, "weight": 0.25}, {"modality": 1, "weight": 0.75}]
    answer = fusion_pb2.FuseResponse(items=[{"fused": vector(7), "weights": weights}])
    assert codec.decode_fuse_response(answer).items[0].weights == {Modality.TEXT: 0.75}
    objects = [
        {"modality": NEW, "rows": [9], "embeddings": table(9)},
        {"modality": 7, "rows": [0, 2], "embeddings": table(0, 2)},
    ]
    result = codec.decode_embed_objects_response(
        fusion_pb2.EmbedObjectsResponse(objects=objects, summary=vector(6)), 3
    )
    assert [(one.modality, one.rows.tolist()) for one in result.objects] == [(Modality.FUSED, [0, 2])]


def test_a_new_state_of_long_work_counts_as_running():
    run = {"run_id": "a", "config": {"recipe": "scene"}, "state": NEW, **TIMES}
    answer = trainer_pb2.ListRunsResponse(runs=[run, run | {"state": 3}])
    states = [one.state for one in codec.decode_list_runs_response(answer).runs]
    assert states == [RunState.RUNNING, RunState.SUCCEEDED]
    event = trainer_pb2.WatchRunResponse(time={"seconds": 1}, state=NEW)
    assert codec.decode_watch_run_response(event).state is RunState.RUNNING
    reindex = {"reindex_id": "a", "state": NEW, **TIMES}
    answer = scene_pb2.GetReindexResponse(reindex=reindex)
    assert codec.decode_get_reindex_response(answer).state is RunState.RUNNING


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"outcomes": [{"modality": 0, "state": 1}]}, r"outcomes\[0\].modality: unset"),
        ({"outcomes": [{"modality": 1, "state": 1}, {"modality": 1}]}, r"outcomes\[1\].state: unset"),
    ],
)
def test_a_word_that_is_not_set_is_no_new_word(answer, field):
    with pytest.raises(InvalidInput, match=field):
        codec.decode_ingest_scene_response(scene_pb2.IngestSceneResponse(**answer))


def test_a_known_word_that_comes_twice_among_new_ones_is_refused():
    report = {"strategy": 1, "query_modalities": [1, NEW, NEW, 1]}
    with pytest.raises(InvalidInput, match=r"report.query_modalities\[3\]: text is already at \[0\]"):
        codec.decode_search_scenes_response(scene_pb2.SearchScenesResponse(report=report))


def test_requests_are_held_to_the_words_that_are_known():
    content = {"texts": ["a kitchen"]}
    for changes, field in (
        ({"options": {"strategy": NEW}}, "options.strategy: 77"),
        ({"options": {"targets": [NEW]}}, r"options.targets\[0\]: 77"),
        ({"options": {"weights": [{"query": 1, "target": NEW}]}}, r"options.weights\[0\].target: 77"),
        ({"embeddings": [vector(NEW)]}, r"embeddings\[0\].modality: 77"),
    ):
        request = scene_pb2.SearchScenesRequest(content=content, model_id="ab" * 32, **changes)
        with pytest.raises(InvalidInput, match=field):
            codec.decode_search_scenes_request(request, Limits())
    header = scene_pb2.IngestSceneRequest(header={"scene_id": "a", "mode": NEW})
    with pytest.raises(InvalidInput, match=r"messages\[0\].header.mode: 77"):
        codec.IngestAssembler(Limits()).feed(header)
