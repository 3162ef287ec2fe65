"""Localisation and embedding without storage, on the wire."""

from __future__ import annotations

from xscene.codec.arrays import decode_embeddings, encode_embedding
from xscene.codec.content import (
    decode_object_content,
    decode_scene_content,
    encode_object_content,
    encode_scene_content,
    require_any,
)
from xscene.codec.fields import MODALITY, SPACE, decode_number, decode_optional_count, join
from xscene.codec.filters import decode_filter, encode_filter
from xscene.codec.limits import Limits
from xscene.codec.scenes import decode_model, encode_model
from xscene.codec.search import decode_degraded, encode_degraded
from xscene.errors import InvalidInput
from xscene.types import Belief, EmbedResult, LocalizeOptions, ObjectContent, SceneBelief, SceneContent
from xscene.v1 import scene_pb2


def decode_localize_request(
    message: scene_pb2.LocalizeRequest, index: int, limits: Limits
) -> LocalizeOptions | SceneContent:
    """The message at this index of a stream: options, as the first one only, or an observation."""
    path = f"messages[{index}]"
    part = message.WhichOneof("part")
    if part == "observation":
        path = join(path, part)
        return require_any(decode_scene_content(message.observation, path, limits), path)
    if part is None:
        raise InvalidInput.at(join(path, "part"), "missing, needs options or observation")
    if index:
        raise InvalidInput.at(join(path, part), "options belong into the first message")
    return _decode_localize_options(message.options, join(path, part), limits)


def _decode_localize_options(
    message: scene_pb2.LocalizeOptions, path: str, limits: Limits
) -> LocalizeOptions:
    return LocalizeOptions(
        filter=decode_filter(message.filter, join(path, "filter"), limits),
        targets=MODALITY.decode_all(message.targets, join(path, "targets")),
        memory=decode_number(message.memory, join(path, "memory"), low=0, high=1) or None,
        limit=decode_optional_count(message.limit, join(path, "limit"), limits.max_search_limit, "beliefs"),
    )


def encode_localize_request(part: LocalizeOptions | SceneContent) -> scene_pb2.LocalizeRequest:
    """One message of a localisation."""
    if isinstance(part, SceneContent):
        return scene_pb2.LocalizeRequest(observation=encode_scene_content(part))
    return scene_pb2.LocalizeRequest(
        options=scene_pb2.LocalizeOptions(
            filter=encode_filter(part.filter),
            targets=MODALITY.encode_all(part.targets),
            memory=part.memory or 0.0,
            limit=part.limit or 0,
        )
    )


def decode_localize_response(message: scene_pb2.LocalizeResponse) -> Belief:
    """The belief after one observation."""
    return Belief(
        observation=message.observation,
        beliefs=tuple(
            SceneBelief(scene_id=belief.scene_id, place_id=belief.place_id, probability=belief.probability)
            for belief in message.beliefs
        ),
        unknown_probability=message.unknown_probability,
        model=decode_model(message.model, "model"),
        degraded=decode_degraded(message.degraded, "degraded"),
    )


def encode_localize_response(belief: Belief) -> scene_pb2.LocalizeResponse:
    """The belief after one observation."""
    return scene_pb2.LocalizeResponse(
        observation=belief.observation,
        beliefs=[
            scene_pb2.SceneBelief(scene_id=one.scene_id, place_id=one.place_id, probability=one.probability)
            for one in belief.beliefs
        ],
        unknown_probability=belief.unknown_probability,
        model=encode_model(belief.model),
        degraded=encode_degraded(belief.degraded),
    )


def decode_embed_request(message: scene_pb2.EmbedRequest, limits: Limits) -> SceneContent | ObjectContent:
    """What to embed."""
    kind = message.WhichOneof("content")
    if kind == "scene":
        return require_any(decode_scene_content(message.scene, kind, limits), kind)
    if kind == "object":
        return require_any(decode_object_content(message.object, kind, limits), kind)
    raise InvalidInput.at("content", "missing, needs scene or object")


def encode_embed_request(content: SceneContent | ObjectContent) -> scene_pb2.EmbedRequest:
    """What to embed."""
    if isinstance(content, SceneContent):
        return scene_pb2.EmbedRequest(scene=encode_scene_content(content))
    return scene_pb2.EmbedRequest(object=encode_object_content(content))


def decode_embed_response(message: scene_pb2.EmbedResponse) -> EmbedResult:
    """Embeddings of what was sent."""
    known = [
        embedding
        for index, embedding in enumerate(message.embeddings)
        if MODALITY.find(embedding.modality, f"embeddings[{index}].modality")
        and SPACE.find(embedding.space, f"embeddings[{index}].space")
    ]
    return EmbedResult(
        embeddings=decode_embeddings(known, "embeddings", Limits.none()),
        model=decode_model(message.model, "model"),
        degraded=decode_degraded(message.degraded, "degraded"),
    )


def encode_embed_response(result: EmbedResult) -> scene_pb2.EmbedResponse:
    """Embeddings of what was sent."""
    return scene_pb2.EmbedResponse(
        embeddings=[encode_embedding(embedding) for embedding in result.embeddings],
        model=encode_model(result.model),
        degraded=encode_degraded(result.degraded),
    )
