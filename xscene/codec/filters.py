"""Which scenes count: places on Earth and filters."""

from __future__ import annotations

from collections.abc import Sequence

from xscene.codec.fields import (
    MODALITY,
    decode_metadata,
    decode_names,
    decode_number,
    decode_optional_time,
    encode_time,
    join,
    require,
)
from xscene.codec.limits import Limits
from xscene.errors import InvalidInput
from xscene.types import GeoPoint, SceneFilter
from xscene.v1 import content_pb2


def decode_geo_point(message: content_pb2.GeoPoint, path: str) -> GeoPoint:
    """A place on Earth."""
    latitude_deg = decode_number(message.latitude_deg, join(path, "latitude_deg"), low=-90, high=90)
    longitude_deg = decode_number(message.longitude_deg, join(path, "longitude_deg"), low=-180, high=180)
    return GeoPoint(latitude_deg=latitude_deg, longitude_deg=longitude_deg)


def encode_geo_point(point: GeoPoint) -> content_pb2.GeoPoint:
    """A place on Earth."""
    return content_pb2.GeoPoint(latitude_deg=point.latitude_deg, longitude_deg=point.longitude_deg)


def decode_filter(message: content_pb2.SceneFilter, path: str, limits: Limits) -> SceneFilter:
    """Which scenes count; without conditions, all."""
    captured_from = decode_optional_time(message, "captured_from", path)
    captured_before = decode_optional_time(message, "captured_before", path)
    if captured_from and captured_before and captured_from >= captured_before:
        raise InvalidInput.at(join(path, "captured_before"), "not after captured_from, so nothing can match")
    near, radius_m = _decode_circle(message, path)
    return SceneFilter(
        scene_ids=_names(message.scene_ids, join(path, "scene_ids"), limits),
        place_ids=_names(message.place_ids, join(path, "place_ids"), limits),
        labels=_names(message.labels, join(path, "labels"), limits),
        captured_from=captured_from,
        captured_before=captured_before,
        latest_only=message.latest_only,
        near=near,
        radius_m=radius_m,
        required_modalities=MODALITY.decode_all(
            message.required_modalities, join(path, "required_modalities")
        ),
        metadata=decode_metadata(message.metadata, join(path, "metadata"), limits),
    )


def _names(values: Sequence[str], path: str, limits: Limits) -> tuple[str, ...]:
    return decode_names(values, path, limits.max_filter_values, limits)


def _decode_circle(message: content_pb2.SceneFilter, path: str) -> tuple[GeoPoint | None, float | None]:
    radius_m = decode_number(message.radius_m, join(path, "radius_m"), low=0)
    if not message.HasField("near"):
        if radius_m:
            require(message, "near", path)
        return None, None
    if not radius_m:
        raise InvalidInput.at(join(path, "radius_m"), "0, needs metres with near")
    return decode_geo_point(message.near, join(path, "near")), radius_m


def encode_filter(scenes: SceneFilter) -> content_pb2.SceneFilter:
    """Which scenes count."""
    return content_pb2.SceneFilter(
        scene_ids=scenes.scene_ids,
        place_ids=scenes.place_ids,
        labels=scenes.labels,
        captured_from=encode_time(scenes.captured_from),
        captured_before=encode_time(scenes.captured_before),
        latest_only=scenes.latest_only,
        near=None if scenes.near is None else encode_geo_point(scenes.near),
        radius_m=scenes.radius_m or 0.0,
        required_modalities=MODALITY.encode_all(scenes.required_modalities),
        metadata=scenes.metadata,
    )
