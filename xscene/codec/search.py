"""Searches for scenes and objects, and pairs of objects of two scenes, on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xscene.codec.arrays import decode_embeddings, encode_embedding
from xscene.codec.content import (
    decode_object_content,
    decode_scene_content,
    encode_object_content,
    encode_scene_content,
)
from xscene.codec.fields import (
    CALIBRATION,
    MODALITY,
    STRATEGY,
    decode_model_id,
    decode_name,
    decode_names,
    decode_number,
    decode_optional_count,
    join,
)
from xscene.codec.filters import decode_filter, encode_filter
from xscene.codec.limits import Limits
from xscene.codec.poses import decode_box, encode_box
from xscene.codec.scenes import decode_model, decode_scene, encode_model, encode_scene
from xscene.errors import InvalidInput
from xscene.types import (
    Calibration,
    Degradation,
    Embedding,
    MatchQuery,
    Modality,
    ObjectContent,
    ObjectHit,
    ObjectHits,
    ObjectMatch,
    ObjectMatches,
    ObjectQuery,
    PairScore,
    SceneContent,
    SceneHit,
    SceneHits,
    SceneQuery,
    SearchOptions,
    SearchReport,
    Space,
    Strategy,
)
from xscene.v1 import common_pb2, scene_pb2

Pair = tuple[Modality, Modality]


def decode_options(message: scene_pb2.SearchOptions, path: str, limits: Limits) -> SearchOptions:
    """How to search."""
    return SearchOptions(
        targets=MODALITY.decode_all(message.targets, join(path, "targets")),
        strategy=STRATEGY.decode(message.strategy, join(path, "strategy"), default=Strategy.COMBINED),
        weights=_decode_weights(message.weights, join(path, "weights")),
        limit=decode_optional_count(message.limit, join(path, "limit"), limits.max_search_limit, "hits"),
        min_score=_decode_min_score(message, path),
    )


def encode_options(options: SearchOptions) -> scene_pb2.SearchOptions:
    """How to search."""
    return scene_pb2.SearchOptions(
        targets=MODALITY.encode_all(options.targets),
        strategy=STRATEGY.encode(options.strategy),
        weights=[
            scene_pb2.PairWeight(query=MODALITY.encode(query), target=MODALITY.encode(target), weight=weight)
            for (query, target), weight in options.weights.items()
        ],
        limit=options.limit or 0,
        min_score=options.min_score,
    )


def _decode_weights(messages: Sequence[scene_pb2.PairWeight], path: str) -> Mapping[Pair, float]:
    weights: dict[Pair, float] = {}
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        query = MODALITY.decode(message.query, join(where, "query"))
        pair = query, MODALITY.decode(message.target, join(where, "target"))
        if pair in weights:
            raise InvalidInput.at(where, f"{pair[0]} to {pair[1]} is there already")
        weights[pair] = decode_number(message.weight, join(where, "weight"), low=0)
    return weights


def _decode_min_score(
    message: scene_pb2.SearchOptions | scene_pb2.MatchObjectsRequest, path: str
) -> float | None:
    if not message.HasField("min_score"):
        return None
    return decode_number(message.min_score, join(path, "min_score"))


def _decode_query_vectors(
    message: scene_pb2.SearchScenesRequest | scene_pb2.SearchObjectsRequest,
    content: SceneContent | ObjectContent,
    space: Space,
    limits: Limits,
) -> tuple[Embedding, ...]:
    """Ready vectors; with the content they must name at least one modality, and none twice."""
    embeddings = decode_embeddings(message.embeddings, "embeddings", limits, space=space)
    for index, embedding in enumerate(embeddings):
        if embedding.modality in content.modalities:
            raise InvalidInput.at(
                f"embeddings[{index}].modality", f"{embedding.modality} is already in content"
            )
    if not embeddings and not content.modalities:
        raise InvalidInput.at("content", "empty, needs at least one modality, or embeddings")
    if embeddings and not message.model_id:
        raise InvalidInput.at("model_id", "empty, needed with embeddings")
    return embeddings


def decode_search_scenes_request(message: scene_pb2.SearchScenesRequest, limits: Limits) -> SceneQuery:
    """Asks for scenes."""
    content = decode_scene_content(message.content, "content", limits)
    return SceneQuery(
        content=content,
        embeddings=_decode_query_vectors(message, content, Space.SCENE, limits),
        model_id=decode_model_id(message.model_id, "model_id"),
        options=decode_options(message.options, "options", limits),
        filter=decode_filter(message.filter, "filter", limits),
    )


def encode_search_scenes_request(query: SceneQuery) -> scene_pb2.SearchScenesRequest:
    """Asks for scenes."""
    return scene_pb2.SearchScenesRequest(
        content=encode_scene_content(query.content),
        embeddings=[encode_embedding(embedding) for embedding in query.embeddings],
        model_id=query.model_id,
        options=encode_options(query.options),
        filter=encode_filter(query.filter),
    )


def decode_search_objects_request(message: scene_pb2.SearchObjectsRequest, limits: Limits) -> ObjectQuery:
    """Asks for objects."""
    content = decode_object_content(message.content, "content", limits)
    return ObjectQuery(
        content=content,
        embeddings=_decode_query_vectors(message, content, Space.OBJECT, limits),
        model_id=decode_model_id(message.model_id, "model_id"),
        options=decode_options(message.options, "options", limits),
        filter=decode_filter(message.filter, "filter", limits),
        labels=decode_names(message.labels, "labels", limits.max_labels, limits),
    )


def encode_search_objects_request(query: ObjectQuery) -> scene_pb2.SearchObjectsRequest:
    """Asks for objects."""
    return scene_pb2.SearchObjectsRequest(
        content=encode_object_content(query.content),
        embeddings=[encode_embedding(embedding) for embedding in query.embeddings],
        model_id=query.model_id,
        options=encode_options(query.options),
        filter=encode_filter(query.filter),
        labels=query.labels,
    )


def _decode_known(numbers: Sequence[int], path: str) -> tuple[Modality, ...]:
    return tuple(modality for modality in MODALITY.find_all(numbers, path) if modality)


def decode_degraded(messages: Sequence[common_pb2.Degradation], path: str) -> tuple[Degradation, ...]:
    """What was left out of an answer."""
    found = [
        (MODALITY.find(message.modality, f"{path}[{index}].modality"), message.reason)
        for index, message in enumerate(messages)
    ]
    return tuple(Degradation(modality=modality, reason=reason) for modality, reason in found if modality)


def encode_degraded(degraded: Iterable[Degradation]) -> list[common_pb2.Degradation]:
    """What was left out of an answer."""
    return [
        common_pb2.Degradation(modality=MODALITY.encode(left_out.modality), reason=left_out.reason)
        for left_out in degraded
    ]


def _decode_calibration(number: int, path: str) -> Calibration | None:
    return CALIBRATION.find(number, path) if number else None


def _encode_calibration(calibration: Calibration | None) -> str | None:
    return None if calibration is None else CALIBRATION.encode(calibration)


def _decode_report(message: scene_pb2.SearchReport, path: str) -> SearchReport:
    return SearchReport(
        model=decode_model(message.model, join(path, "model")),
        strategy=STRATEGY.find(message.strategy, join(path, "strategy")),
        calibration=_decode_calibration(message.calibration, join(path, "calibration")),
        query_modalities=_decode_known(message.query_modalities, join(path, "query_modalities")),
        degraded=decode_degraded(message.degraded, join(path, "degraded")),
    )


def _encode_report(report: SearchReport) -> scene_pb2.SearchReport:
    return scene_pb2.SearchReport(
        model=encode_model(report.model),
        strategy=None if report.strategy is None else STRATEGY.encode(report.strategy),
        calibration=_encode_calibration(report.calibration),
        query_modalities=MODALITY.encode_all(report.query_modalities),
        degraded=encode_degraded(report.degraded),
    )


def _decode_pairs(messages: Sequence[scene_pb2.PairScore], path: str) -> tuple[PairScore, ...]:
    pairs = []
    for index, message in enumerate(messages):
        query = MODALITY.find(message.query, f"{path}[{index}].query")
        target = MODALITY.find(message.target, f"{path}[{index}].target")
        if query is not None and target is not None:
            pair = PairScore(query=query, target=target, cosine=message.cosine, evidence=message.evidence)
            pairs.append(pair)
    return tuple(pairs)


def _encode_pairs(pairs: Iterable[PairScore]) -> list[scene_pb2.PairScore]:
    return [
        scene_pb2.PairScore(
            query=MODALITY.encode(pair.query),
            target=MODALITY.encode(pair.target),
            cosine=pair.cosine,
            evidence=pair.evidence,
        )
        for pair in pairs
    ]


def _decode_scene_hit(message: scene_pb2.SceneHit, path: str) -> SceneHit:
    return SceneHit(
        scene=decode_scene(message.scene, join(path, "scene")),
        score=message.score,
        pairs=_decode_pairs(message.pairs, join(path, "pairs")),
        missing=_decode_known(message.missing, join(path, "missing")),
    )


def decode_search_scenes_response(message: scene_pb2.SearchScenesResponse) -> SceneHits:
    """Scenes found."""
    return SceneHits(
        hits=tuple(_decode_scene_hit(hit, f"hits[{index}]") for index, hit in enumerate(message.hits)),
        report=_decode_report(message.report, "report"),
    )


def encode_search_scenes_response(hits: SceneHits) -> scene_pb2.SearchScenesResponse:
    """Scenes found."""
    return scene_pb2.SearchScenesResponse(
        hits=[
            scene_pb2.SceneHit(
                scene=encode_scene(hit.scene),
                score=hit.score,
                pairs=_encode_pairs(hit.pairs),
                missing=MODALITY.encode_all(hit.missing),
            )
            for hit in hits.hits
        ],
        report=_encode_report(hits.report),
    )


def _decode_object_hit(message: scene_pb2.ObjectHit, path: str) -> ObjectHit:
    return ObjectHit(
        scene_id=message.scene_id,
        object_id=message.object_id,
        label=message.label,
        box=decode_box(message.box, join(path, "box")) if message.HasField("box") else None,
        score=message.score,
        pairs=_decode_pairs(message.pairs, join(path, "pairs")),
        missing=_decode_known(message.missing, join(path, "missing")),
    )


def decode_search_objects_response(message: scene_pb2.SearchObjectsResponse) -> ObjectHits:
    """Objects found."""
    return ObjectHits(
        hits=tuple(_decode_object_hit(hit, f"hits[{index}]") for index, hit in enumerate(message.hits)),
        report=_decode_report(message.report, "report"),
    )


def encode_search_objects_response(hits: ObjectHits) -> scene_pb2.SearchObjectsResponse:
    """Objects found."""
    return scene_pb2.SearchObjectsResponse(
        hits=[
            scene_pb2.ObjectHit(
                scene_id=hit.scene_id,
                object_id=hit.object_id,
                label=hit.label,
                box=None if hit.box is None else encode_box(hit.box),
                score=hit.score,
                pairs=_encode_pairs(hit.pairs),
                missing=MODALITY.encode_all(hit.missing),
            )
            for hit in hits.hits
        ],
        report=_encode_report(hits.report),
    )


def decode_match_objects_request(message: scene_pb2.MatchObjectsRequest, limits: Limits) -> MatchQuery:
    """Names two scenes whose objects are to be paired."""
    return MatchQuery(
        source_scene_id=decode_name(message.source_scene_id, "source_scene_id", limits),
        target_scene_id=decode_name(message.target_scene_id, "target_scene_id", limits),
        source_modalities=MODALITY.decode_all(message.source_modalities, "source_modalities"),
        target_modalities=MODALITY.decode_all(message.target_modalities, "target_modalities"),
        min_score=_decode_min_score(message, ""),
    )


def encode_match_objects_request(query: MatchQuery) -> scene_pb2.MatchObjectsRequest:
    """Names two scenes whose objects are to be paired."""
    return scene_pb2.MatchObjectsRequest(
        source_scene_id=query.source_scene_id,
        target_scene_id=query.target_scene_id,
        source_modalities=MODALITY.encode_all(query.source_modalities),
        target_modalities=MODALITY.encode_all(query.target_modalities),
        min_score=query.min_score,
    )


def decode_match_objects_response(message: scene_pb2.MatchObjectsResponse) -> ObjectMatches:
    """Objects paired one to one."""
    return ObjectMatches(
        matches=tuple(
            ObjectMatch(
                source_object_id=match.source_object_id,
                target_object_id=match.target_object_id,
                score=match.score,
                pairs=_decode_pairs(match.pairs, f"matches[{index}].pairs"),
            )
            for index, match in enumerate(message.matches)
        ),
        unmatched_source_ids=tuple(message.unmatched_source_ids),
        unmatched_target_ids=tuple(message.unmatched_target_ids),
        model=decode_model(message.model, "model"),
        calibration=_decode_calibration(message.calibration, "calibration"),
    )


def encode_match_objects_response(matches: ObjectMatches) -> scene_pb2.MatchObjectsResponse:
    """Objects paired one to one."""
    return scene_pb2.MatchObjectsResponse(
        matches=[
            scene_pb2.ObjectMatch(
                source_object_id=match.source_object_id,
                target_object_id=match.target_object_id,
                score=match.score,
                pairs=_encode_pairs(match.pairs),
            )
            for match in matches.matches
        ],
        unmatched_source_ids=matches.unmatched_source_ids,
        unmatched_target_ids=matches.unmatched_target_ids,
        model=encode_model(matches.model),
        calibration=_encode_calibration(matches.calibration),
    )
