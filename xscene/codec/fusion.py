"""Fusing, and objects in context, on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xscene.codec.arrays import (
    check_width,
    decode_embedding,
    decode_embeddings,
    decode_rows,
    decode_tensor,
    encode_embedding,
    encode_tensor,
)
from xscene.codec.fields import MODALITY, check_count, decode_model_id, decode_names, decode_number, join
from xscene.codec.limits import Limits
from xscene.codec.scenes import decode_model, encode_model
from xscene.errors import InvalidInput
from xscene.types import (
    Embedding,
    FusedItem,
    FuseItem,
    FuseQuery,
    FuseResult,
    Modality,
    ObjectEmbeddings,
    ObjectFeatures,
    ObjectsQuery,
    ObjectsResult,
    Space,
)
from xscene.types.values import Float32Array
from xscene.v1 import common_pb2, fusion_pb2

OBJECT_MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.POINT_CLOUD, Modality.MESH)


def decode_fuse_request(message: fusion_pb2.FuseRequest, limits: Limits) -> FuseQuery:
    """Items to fuse, all vectors of one width."""
    if not message.items:
        raise InvalidInput.at("items", "empty, needs at least one")
    check_count(len(message.items), "items", limits.max_items, "items")
    items: list[FuseItem] = []
    width: int | None = None
    for index, item in enumerate(message.items):
        vectors = _decode_fuse_item(item, f"items[{index}]", limits)
        found = len(next(iter(vectors.values())))
        width = width or found
        check_width(found, width, f"items[{index}].embeddings[0].values")
        items.append(vectors)
    return FuseQuery(items=tuple(items), model_id=decode_model_id(message.model_id, "model_id"))


def _decode_fuse_item(message: fusion_pb2.FuseItem, path: str, limits: Limits) -> FuseItem:
    where = join(path, "embeddings")
    if not message.embeddings:
        raise InvalidInput.at(where, "empty, needs at least one")
    embeddings = decode_embeddings(message.embeddings, where, limits, space=Space.SCENE)
    for index, embedding in enumerate(embeddings):
        if embedding.modality is Modality.FUSED:
            raise InvalidInput.at(f"{where}[{index}].modality", "fused, which is what is made here")
    return {embedding.modality: embedding.values for embedding in embeddings}


def encode_fuse_request(query: FuseQuery) -> fusion_pb2.FuseRequest:
    """Items to fuse."""
    return fusion_pb2.FuseRequest(
        model_id=query.model_id, items=[_encode_fuse_item(item) for item in query.items]
    )


def _encode_fuse_item(item: FuseItem) -> fusion_pb2.FuseItem:
    return fusion_pb2.FuseItem(
        embeddings=[_encode_scene_vector(modality, vector) for modality, vector in item.items()]
    )


def _encode_scene_vector(modality: Modality, vector: Float32Array) -> common_pb2.Embedding:
    return encode_embedding(Embedding(modality=modality, space=Space.SCENE, values=vector))


def _decode_scene_vector(message: common_pb2.Embedding, modality: Modality, path: str) -> Float32Array:
    """The vector of an answer, which must be of this modality."""
    embedding = decode_embedding(message, path, Limits.none(), space=Space.SCENE)
    if embedding.modality is not modality:
        raise InvalidInput.at(join(path, "modality"), f"{embedding.modality}, needs {modality}")
    return embedding.values


def decode_fuse_response(message: fusion_pb2.FuseResponse) -> FuseResult:
    """Fused vectors."""
    return FuseResult(
        items=tuple(_decode_fused(item, f"items[{index}]") for index, item in enumerate(message.items)),
        model=decode_model(message.model, "model"),
    )


def _decode_fused(message: fusion_pb2.FusedItem, path: str) -> FusedItem:
    return FusedItem(
        fused=_decode_scene_vector(message.fused, Modality.FUSED, join(path, "fused")),
        weights=_decode_weights(message.weights, join(path, "weights")),
    )


def _decode_weights(messages: Sequence[fusion_pb2.ModalityWeight], path: str) -> Mapping[Modality, float]:
    modalities = MODALITY.find_all((message.modality for message in messages), path, ".modality")
    return {
        modality: decode_number(message.weight, f"{path}[{index}].weight", low=0)
        for index, (modality, message) in enumerate(zip(modalities, messages, strict=True))
        if modality
    }


def encode_fuse_response(result: FuseResult) -> fusion_pb2.FuseResponse:
    """Fused vectors."""
    return fusion_pb2.FuseResponse(
        model=encode_model(result.model),
        items=[
            fusion_pb2.FusedItem(
                fused=_encode_scene_vector(Modality.FUSED, item.fused),
                weights=[
                    fusion_pb2.ModalityWeight(modality=MODALITY.encode(modality), weight=weight)
                    for modality, weight in item.weights.items()
                ],
            )
            for item in result.items
        ],
    )


def decode_embed_objects_request(message: fusion_pb2.EmbedObjectsRequest, limits: Limits) -> ObjectsQuery:
    """The objects of one scene."""
    if not message.object_ids:
        raise InvalidInput.at("object_ids", "empty, needs at least one")
    object_ids = decode_names(message.object_ids, "object_ids", limits.max_objects, limits)
    locations = None
    if message.HasField("locations"):
        locations = decode_tensor(message.locations, "locations", np.float32, (len(object_ids), 6))
    return ObjectsQuery(
        object_ids=object_ids,
        features=_decode_features(message.features, len(object_ids), limits),
        locations=locations,
        model_id=decode_model_id(message.model_id, "model_id"),
    )


def _decode_features(
    messages: Sequence[fusion_pb2.ObjectFeatures], num_objects: int, limits: Limits
) -> tuple[ObjectFeatures, ...]:
    if not messages:
        raise InvalidInput.at("features", "empty, needs at least one modality")
    modalities = MODALITY.decode_all((message.modality for message in messages), "features", ".modality")
    features = []
    for index, (modality, message) in enumerate(zip(modalities, messages, strict=True)):
        path = f"features[{index}]"
        if modality not in OBJECT_MODALITIES:
            known = ", ".join(OBJECT_MODALITIES)
            raise InvalidInput.at(join(path, "modality"), f"{modality}, needs one of {known}")
        rows = decode_rows(message.rows, num_objects, join(path, "rows"))
        values = _decode_table(message.features, len(rows), join(path, "features"), limits)
        features.append(ObjectFeatures(modality=modality, rows=rows, features=values))
    return tuple(features)


def _decode_table(message: common_pb2.Tensor, num_rows: int, path: str, limits: Limits) -> Float32Array:
    """One vector for each row."""
    table = decode_tensor(message, path, np.float32, (num_rows, None))
    if table.shape[1] == 0:
        raise InvalidInput.at(join(path, "shape"), f"{list(table.shape)}, needs at least one number a row")
    check_count(table.shape[1], join(path, "shape"), limits.max_embedding_width, "numbers a row")
    return table


def encode_embed_objects_request(query: ObjectsQuery) -> fusion_pb2.EmbedObjectsRequest:
    """The objects of one scene."""
    return fusion_pb2.EmbedObjectsRequest(
        model_id=query.model_id,
        object_ids=query.object_ids,
        locations=None if query.locations is None else encode_tensor(query.locations),
        features=[
            fusion_pb2.ObjectFeatures(
                modality=MODALITY.encode(item.modality),
                rows=item.rows.tolist(),
                features=encode_tensor(item.features),
            )
            for item in query.features
        ],
    )


def decode_embed_objects_response(
    message: fusion_pb2.EmbedObjectsResponse, num_objects: int
) -> ObjectsResult:
    """Instance embeddings of the objects that were sent, and the summary of their scene."""
    modalities = MODALITY.find_all((item.modality for item in message.objects), "objects", ".modality")
    objects = []
    for index, (modality, item) in enumerate(zip(modalities, message.objects, strict=True)):
        if modality is None:
            continue
        path = f"objects[{index}]"
        rows = decode_rows(item.rows, num_objects, join(path, "rows"))
        table = _decode_table(item.embeddings, len(rows), join(path, "embeddings"), Limits.none())
        objects.append(ObjectEmbeddings(modality=modality, rows=rows, embeddings=table))
    return ObjectsResult(
        objects=tuple(objects),
        summary=_decode_scene_vector(message.summary, Modality.OBJECTS, "summary"),
        model=decode_model(message.model, "model"),
    )


def encode_embed_objects_response(result: ObjectsResult) -> fusion_pb2.EmbedObjectsResponse:
    """Instance embeddings and the summary of the scene."""
    return fusion_pb2.EmbedObjectsResponse(
        model=encode_model(result.model),
        objects=[
            fusion_pb2.ObjectEmbeddings(
                modality=MODALITY.encode(item.modality),
                rows=item.rows.tolist(),
                embeddings=encode_tensor(item.embeddings),
            )
            for item in result.objects
        ],
        summary=_encode_scene_vector(Modality.OBJECTS, result.summary),
    )
