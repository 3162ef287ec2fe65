"""What is known of scenes and objects, on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from xscene.codec.clouds import decode_cloud, encode_cloud
from xscene.codec.fields import (
    MESH_FORMAT,
    UP_AXIS,
    Data,
    check_count,
    check_unique,
    decode_name,
    decode_number,
    decode_optional_name,
    decode_texts,
    join,
    require,
)
from xscene.codec.limits import Limits
from xscene.codec.pictures import decode_image, encode_image
from xscene.codec.poses import decode_box, encode_box
from xscene.errors import InvalidInput
from xscene.geometry.frames import UpAxis
from xscene.types import (
    FrameRegion,
    Image,
    ImageBox,
    ImageFormat,
    Mesh,
    MeshFormat,
    ObjectContent,
    PointCloud,
    SceneContent,
    SceneObject,
)
from xscene.types.values import Uint32Array
from xscene.v1 import content_pb2

INDEX_BYTES = 4
T = TypeVar("T", SceneContent, ObjectContent)


def decode_mesh(message: content_pb2.Mesh, path: str, limits: Limits, data: Data | None = None) -> Mesh:
    """A mesh file, its format told by its bytes; `data` stands in when it came in chunks."""
    data = message.data if data is None else data
    where = join(path, "data")
    if not data:
        raise InvalidInput.at(where, "0 bytes, needs a mesh")
    check_count(len(data), where, limits.max_mesh_bytes, "bytes")
    data = bytes(data)
    found = MeshFormat.of(data)
    if found is None:
        raise InvalidInput.at(where, f"{len(data)} bytes that are no GLB, PLY or OBJ")
    declared = MESH_FORMAT.decode(message.format, join(path, "format"), default=found)
    if declared is not found:
        raise InvalidInput.at(join(path, "format"), f"{declared}, but the bytes are {found}")
    unit_m = decode_number(message.unit_m, join(path, "unit_m"), low=0)
    up_axis = UP_AXIS.decode(message.up_axis, join(path, "up_axis"), default=UpAxis.Z)
    return Mesh(data=data, format=found, up_axis=up_axis, unit_m=unit_m or 1.0)


def encode_mesh(mesh: Mesh) -> content_pb2.Mesh:
    """A mesh file."""
    message = describe_mesh(mesh)
    message.data = mesh.data
    return message


def describe_mesh(mesh: Mesh) -> content_pb2.Mesh:
    """The mesh's message without its data."""
    return content_pb2.Mesh(
        format=MESH_FORMAT.encode(mesh.format), up_axis=UP_AXIS.encode(mesh.up_axis), unit_m=mesh.unit_m
    )


def decode_region(message: content_pb2.FrameRegion, path: str, limits: Limits) -> FrameRegion:
    """A part of a frame; whether the frame is there, and holds the box, is seen with the whole scene."""
    require(message, "box", path)
    box = message.box
    for low, high in (("left", "right"), ("top", "bottom")):
        if getattr(box, low) >= getattr(box, high):
            raise InvalidInput.at(
                join(path, f"box.{high}"), f"{getattr(box, high)}, needs more than {low}, {getattr(box, low)}"
            )
    check_count(len(message.mask_png), join(path, "mask_png"), limits.max_image_bytes, "bytes")
    if message.mask_png and ImageFormat.of(message.mask_png) is not ImageFormat.PNG:
        raise InvalidInput.at(join(path, "mask_png"), f"{len(message.mask_png)} bytes that are no PNG")
    return FrameRegion(
        frame_id=decode_name(message.frame_id, join(path, "frame_id"), limits),
        box=ImageBox(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
        mask_png=message.mask_png,
    )


def encode_region(region: FrameRegion) -> content_pb2.FrameRegion:
    """A part of a frame."""
    box = region.box
    return content_pb2.FrameRegion(
        frame_id=region.frame_id,
        box=content_pb2.ImageBox(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
        mask_png=region.mask_png,
    )


def decode_view(message: content_pb2.ObjectView, path: str, limits: Limits) -> Image | FrameRegion:
    """One view of an object."""
    source = message.WhichOneof("source")
    if source == "crop":
        return decode_image(message.crop, join(path, source), limits)
    if source == "region":
        return decode_region(message.region, join(path, source), limits)
    raise InvalidInput.at(join(path, "source"), "missing, needs crop or region")


def encode_view(view: Image | FrameRegion) -> content_pb2.ObjectView:
    """One view of an object."""
    if isinstance(view, Image):
        return content_pb2.ObjectView(crop=encode_image(view))
    return content_pb2.ObjectView(region=encode_region(view))


def check_indices_size(num_bytes: int, path: str, limits: Limits) -> None:
    """Refuses point indices of that many bytes."""
    if num_bytes % INDEX_BYTES:
        raise InvalidInput.at(path, f"{num_bytes} bytes, not a multiple of the {INDEX_BYTES} of one index")
    check_count(num_bytes // INDEX_BYTES, path, limits.max_points, "points")


def _decode_indices(data: Data, path: str, limits: Limits) -> Uint32Array | None:
    check_indices_size(len(data), path, limits)
    return np.frombuffer(data, "<u4") if data else None


def decode_object(
    message: content_pb2.SceneObject, path: str, limits: Limits, data: Data | None = None
) -> SceneObject:
    """One instance; `data` stands in for its point indices when they came in chunks."""
    data = message.point_indices if data is None else data
    views_path = join(path, "views")
    check_count(len(message.views), views_path, limits.max_views, "views")
    return SceneObject(
        object_id=decode_name(message.object_id, join(path, "object_id"), limits),
        label=decode_optional_name(message.label, join(path, "label"), limits),
        box=decode_box(message.box, join(path, "box")) if message.HasField("box") else None,
        point_indices=_decode_indices(data, join(path, "point_indices"), limits),
        points=_optional_cloud(message, "points", path, limits),
        views=tuple(
            decode_view(view, f"{views_path}[{index}]", limits) for index, view in enumerate(message.views)
        ),
        mesh=_optional_mesh(message, path, limits),
        referrals=decode_texts(message.referrals, join(path, "referrals"), limits),
    )


def encode_object(item: SceneObject) -> content_pb2.SceneObject:
    """One instance."""
    return content_pb2.SceneObject(
        object_id=item.object_id,
        label=item.label,
        box=None if item.box is None else encode_box(item.box),
        point_indices=bytes(pack_indices(item)),
        points=None if item.points is None else encode_cloud(item.points),
        views=[encode_view(view) for view in item.views],
        mesh=None if item.mesh is None else encode_mesh(item.mesh),
        referrals=item.referrals,
    )


def pack_indices(item: SceneObject) -> Data:
    """The object's point indices, little-endian."""
    if item.point_indices is None:
        return b""
    return np.ascontiguousarray(item.point_indices, "<u4").view(np.uint8).data


def decode_scene_content(message: content_pb2.SceneContent, path: str, limits: Limits) -> SceneContent:
    """What is known of a scene; may be empty."""
    floorplan = None
    if message.HasField("floorplan"):
        floorplan = decode_image(message.floorplan, join(path, "floorplan"), limits)
    return SceneContent(
        texts=decode_texts(message.texts, join(path, "texts"), limits),
        images=_decode_images(message.images, join(path, "images"), limits),
        floorplan=floorplan,
        point_cloud=_optional_cloud(message, "point_cloud", path, limits),
        mesh=_optional_mesh(message, path, limits),
    )


def encode_scene_content(content: SceneContent) -> content_pb2.SceneContent:
    """What is known of a scene."""
    return content_pb2.SceneContent(
        texts=content.texts,
        images=[encode_image(image) for image in content.images],
        floorplan=None if content.floorplan is None else encode_image(content.floorplan),
        point_cloud=None if content.point_cloud is None else encode_cloud(content.point_cloud),
        mesh=None if content.mesh is None else encode_mesh(content.mesh),
    )


def decode_object_content(message: content_pb2.ObjectContent, path: str, limits: Limits) -> ObjectContent:
    """What is known of one object; may be empty."""
    return ObjectContent(
        texts=decode_texts(message.texts, join(path, "texts"), limits),
        images=_decode_images(message.images, join(path, "images"), limits),
        point_cloud=_optional_cloud(message, "point_cloud", path, limits),
        mesh=_optional_mesh(message, path, limits),
    )


def encode_object_content(content: ObjectContent) -> content_pb2.ObjectContent:
    """What is known of one object."""
    return content_pb2.ObjectContent(
        texts=content.texts,
        images=[encode_image(image) for image in content.images],
        point_cloud=None if content.point_cloud is None else encode_cloud(content.point_cloud),
        mesh=None if content.mesh is None else encode_mesh(content.mesh),
    )


def require_any(content: T, path: str) -> T:
    """Refuses content without any modality."""
    if not content.modalities:
        raise InvalidInput.at(path, "empty, needs at least one modality")
    return content


def _decode_images(messages: Sequence[content_pb2.Image], path: str, limits: Limits) -> tuple[Image, ...]:
    check_count(len(messages), path, limits.max_images, "images")
    images = tuple(
        decode_image(message, f"{path}[{index}]", limits) for index, message in enumerate(messages)
    )
    check_frame_ids(images, path)
    return images


def check_frame_ids(images: Sequence[Image], path: str) -> None:
    """Refuses two pictures of one name; pictures without a name are no two of one."""
    check_unique([image.frame_id or index for index, image in enumerate(images)], path)


def _optional_cloud(
    message: content_pb2.SceneContent | content_pb2.ObjectContent | content_pb2.SceneObject,
    name: str,
    path: str,
    limits: Limits,
) -> PointCloud | None:
    if not message.HasField(name):
        return None
    return decode_cloud(getattr(message, name), join(path, name), limits)


def _optional_mesh(
    message: content_pb2.SceneContent | content_pb2.ObjectContent | content_pb2.SceneObject,
    path: str,
    limits: Limits,
) -> Mesh | None:
    return decode_mesh(message.mesh, join(path, "mesh"), limits) if message.HasField("mesh") else None
