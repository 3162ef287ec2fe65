"""Scenes on the wire: headers, what is stored, and the calls that get, list and delete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xscene.codec.fields import (
    INGEST_MODE,
    MODALITY,
    MODALITY_STATE,
    check_count,
    decode_metadata,
    decode_model_id,
    decode_name,
    decode_names,
    decode_optional_count,
    decode_optional_name,
    decode_optional_time,
    encode_time,
    join,
    require,
)
from xscene.codec.filters import decode_filter, decode_geo_point, encode_filter, encode_geo_point
from xscene.codec.limits import Limits
from xscene.types import (
    IngestMode,
    IngestOutcome,
    ModalityOutcome,
    ModelInfo,
    Scene,
    SceneHeader,
    SceneListing,
    ScenePage,
)
from xscene.v1 import common_pb2, scene_pb2

_NO_LIMITS = Limits.none()


def decode_header(message: scene_pb2.SceneHeader, path: str, limits: Limits) -> SceneHeader:
    """Names a scene; what the caller left out stays out."""
    mode = INGEST_MODE.decode(message.mode, join(path, "mode"), default=IngestMode.REPLACE)
    return _decode_header(message, path, limits, mode)


def _decode_header(
    message: scene_pb2.SceneHeader, path: str, limits: Limits, mode: IngestMode
) -> SceneHeader:
    location = None
    if message.HasField("location"):
        location = decode_geo_point(message.location, join(path, "location"))
    return SceneHeader(
        scene_id=decode_name(message.scene_id, join(path, "scene_id"), limits),
        place_id=decode_optional_name(message.place_id, join(path, "place_id"), limits),
        captured_at=decode_optional_time(message, "captured_at", path),
        revision=message.revision,
        mode=mode,
        labels=decode_names(message.labels, join(path, "labels"), limits.max_labels, limits),
        location=location,
        metadata=decode_metadata(message.metadata, join(path, "metadata"), limits),
    )


def encode_header(header: SceneHeader) -> scene_pb2.SceneHeader:
    """Names a scene."""
    return scene_pb2.SceneHeader(
        scene_id=header.scene_id,
        place_id=header.place_id,
        captured_at=encode_time(header.captured_at),
        revision=header.revision,
        mode=INGEST_MODE.encode(header.mode),
        labels=header.labels,
        location=None if header.location is None else encode_geo_point(header.location),
        metadata=header.metadata,
    )


def decode_model(message: common_pb2.ModelInfo, path: str) -> ModelInfo:
    """The model that an answer was made with."""
    model_id = decode_model_id(message.model_id, join(path, "model_id"))
    return ModelInfo(model_id=model_id, bundle=message.bundle, trained=message.trained)


def encode_model(model: ModelInfo) -> common_pb2.ModelInfo:
    """The model that an answer was made with."""
    return common_pb2.ModelInfo(model_id=model.model_id, bundle=model.bundle, trained=model.trained)


def _decode_outcomes(messages: Sequence[scene_pb2.ModalityOutcome], path: str) -> tuple[ModalityOutcome, ...]:
    outcomes = []
    for index, message in enumerate(messages):
        modality = MODALITY.find(message.modality, f"{path}[{index}].modality")
        state = MODALITY_STATE.find(message.state, f"{path}[{index}].state")
        if modality is not None and state is not None:
            outcome = ModalityOutcome(
                modality=modality,
                state=state,
                reason=message.reason,
                num_received=message.num_received,
                num_kept=message.num_kept,
            )
            outcomes.append(outcome)
    return tuple(outcomes)


def _encode_outcomes(outcomes: Iterable[ModalityOutcome]) -> list[scene_pb2.ModalityOutcome]:
    return [
        scene_pb2.ModalityOutcome(
            modality=MODALITY.encode(outcome.modality),
            state=MODALITY_STATE.encode(outcome.state),
            reason=outcome.reason,
            num_received=outcome.num_received,
            num_kept=outcome.num_kept,
        )
        for outcome in outcomes
    ]


def decode_scene(message: scene_pb2.Scene, path: str) -> Scene:
    """A stored scene."""
    require(message, "header", path)
    return Scene(
        header=_decode_header(message.header, join(path, "header"), _NO_LIMITS, IngestMode.REPLACE),
        modalities=_decode_outcomes(message.modalities, join(path, "modalities")),
        num_objects=message.num_objects,
        latest=message.latest,
        model=decode_model(message.model, join(path, "model")),
    )


def encode_scene(scene: Scene) -> scene_pb2.Scene:
    """A stored scene, without the mode of its header."""
    header = encode_header(scene.header)
    header.ClearField("mode")
    return scene_pb2.Scene(
        header=header,
        modalities=_encode_outcomes(scene.modalities),
        num_objects=scene.num_objects,
        latest=scene.latest,
        model=encode_model(scene.model),
    )


def decode_ingest_scene_response(message: scene_pb2.IngestSceneResponse) -> IngestOutcome:
    """What became of an ingest."""
    return IngestOutcome(
        scene_id=message.scene_id,
        revision=message.revision,
        model=decode_model(message.model, "model"),
        outcomes=_decode_outcomes(message.outcomes, "outcomes"),
        num_objects=message.num_objects,
    )


def encode_ingest_scene_response(outcome: IngestOutcome) -> scene_pb2.IngestSceneResponse:
    """What became of an ingest."""
    return scene_pb2.IngestSceneResponse(
        scene_id=outcome.scene_id,
        revision=outcome.revision,
        model=encode_model(outcome.model),
        outcomes=_encode_outcomes(outcome.outcomes),
        num_objects=outcome.num_objects,
    )


def decode_get_scene_request(message: scene_pb2.GetSceneRequest, limits: Limits) -> str:
    """The id of the scene asked for."""
    return decode_name(message.scene_id, "scene_id", limits)


def encode_get_scene_request(scene_id: str) -> scene_pb2.GetSceneRequest:
    """Asks for a scene."""
    return scene_pb2.GetSceneRequest(scene_id=scene_id)


def decode_get_scene_response(message: scene_pb2.GetSceneResponse) -> Scene:
    """The scene asked for."""
    return decode_scene(message.scene, "scene")


def encode_get_scene_response(scene: Scene) -> scene_pb2.GetSceneResponse:
    """The scene asked for."""
    return scene_pb2.GetSceneResponse(scene=encode_scene(scene))


def decode_list_scenes_request(message: scene_pb2.ListScenesRequest, limits: Limits) -> SceneListing:
    """Asks for a page of scenes."""
    check_count(len(message.page_token.encode()), "page_token", limits.max_page_token_bytes, "bytes")
    return SceneListing(
        filter=decode_filter(message.filter, "filter", limits),
        page_size=decode_optional_count(message.page_size, "page_size", limits.max_page_size, "scenes"),
        page_token=message.page_token,
    )


def encode_list_scenes_request(listing: SceneListing) -> scene_pb2.ListScenesRequest:
    """Asks for a page of scenes."""
    return scene_pb2.ListScenesRequest(
        page_size=listing.page_size or 0,
        page_token=listing.page_token,
        filter=encode_filter(listing.filter),
    )


def decode_list_scenes_response(message: scene_pb2.ListScenesResponse) -> ScenePage:
    """A page of scenes."""
    return ScenePage(
        scenes=tuple(decode_scene(scene, f"scenes[{index}]") for index, scene in enumerate(message.scenes)),
        next_page_token=message.next_page_token,
    )


def encode_list_scenes_response(page: ScenePage) -> scene_pb2.ListScenesResponse:
    """A page of scenes."""
    return scene_pb2.ListScenesResponse(
        scenes=[encode_scene(scene) for scene in page.scenes], next_page_token=page.next_page_token
    )


def decode_delete_scene_request(message: scene_pb2.DeleteSceneRequest, limits: Limits) -> str:
    """The id of the scene to delete."""
    return decode_name(message.scene_id, "scene_id", limits)


def encode_delete_scene_request(scene_id: str) -> scene_pb2.DeleteSceneRequest:
    """Names a scene to delete."""
    return scene_pb2.DeleteSceneRequest(scene_id=scene_id)


def decode_delete_scene_response(message: scene_pb2.DeleteSceneResponse) -> int:
    """How many objects went with the scene."""
    return message.num_objects


def encode_delete_scene_response(num_objects: int) -> scene_pb2.DeleteSceneResponse:
    """How many objects went with the scene."""
    return scene_pb2.DeleteSceneResponse(num_objects=num_objects)
