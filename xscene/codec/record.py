"""The items of an ingest joined into one scene, and what only the whole scene can tell.

Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xscene.codec.content import check_frame_ids
from xscene.codec.fields import check_count
from xscene.codec.limits import Limits
from xscene.errors import InvalidInput
from xscene.types import (
    FrameRegion,
    Image,
    IngestItem,
    ItemKind,
    Mesh,
    PointCloud,
    SceneContent,
    SceneHeader,
    SceneObject,
    SceneRecord,
)


@dataclass(kw_only=True)
class _Parts:
    """What has come so far of the scene, or of one object."""

    path: str
    named: SceneObject | None = None
    texts: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    clouds: list[PointCloud] = field(default_factory=list)
    num_points: int = 0
    floorplan: Image | None = None
    mesh: Mesh | None = None

    def add(self, item: IngestItem, limits: Limits) -> None:
        """Takes an item of any kind but an object."""
        match item.value:
            case str(text):
                self.texts.append(text)
                check_count(len(self.texts), f"{self.path}texts", limits.max_texts, "texts")
            case Image() as image:
                self._add_image(image, item.kind, limits)
            case PointCloud() as cloud:
                self.clouds.append(cloud)
                self.num_points += len(cloud)
                check_count(self.num_points, f"{self.path}point_cloud", limits.max_points, "points")
            case Mesh() as mesh:
                if self.mesh is not None:
                    raise InvalidInput.at(f"{self.path}mesh", "came already")
                self.mesh = mesh

    def _add_image(self, image: Image, kind: ItemKind, limits: Limits) -> None:
        if kind is ItemKind.FLOORPLAN:
            if self.floorplan is not None:
                raise InvalidInput.at(f"{self.path}floorplan", "came already")
            self.floorplan = image
            return
        self.images.append(image)
        check_count(len(self.images), f"{self.path}images", limits.max_images, "images")

    def cloud(self) -> PointCloud | None:
        """The clouds, joined in order."""
        return join_clouds(self.clouds, f"{self.path}point_cloud") if self.clouds else None


class SceneCollector:
    """Joins the items of one ingest; parts of an object may come before it, after it, or without it.

    Memory is bounded by `max_scene_bytes`, which the assembler keeps.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scene = _Parts(path="")
        self._objects: dict[str, _Parts] = {}

    def add(self, item: IngestItem) -> None:
        """Takes the next item."""
        if isinstance(item.value, SceneObject):
            parts = self._parts_of(item.value.object_id)
            if parts.named is not None:
                raise InvalidInput.at(f"{parts.path}object_id", "came already")
            parts.named = item.value
        elif item.object_id:
            self._parts_of(item.object_id).add(item, self._limits)
        else:
            self._scene.add(item, self._limits)

    def record(self, header: SceneHeader) -> SceneRecord:
        """The scene as a whole; refuses objects that point at what is not there."""
        content = SceneContent(
            texts=tuple(self._scene.texts),
            images=tuple(self._scene.images),
            floorplan=self._scene.floorplan,
            point_cloud=self._scene.cloud(),
            mesh=self._scene.mesh,
        )
        objects = tuple(
            _joined_object(object_id, parts, self._limits) for object_id, parts in self._objects.items()
        )
        if not content.modalities and not objects:
            raise InvalidInput.at("messages", "the stream has no items, needs at least one")
        check_frame_ids(content.images, "images")
        frames = {image.frame_id: image for image in content.images if image.frame_id}
        for item in objects:
            _check_views(item, frames)
            _check_points(item, content.point_cloud)
        return SceneRecord(header=header, content=content, objects=objects)

    def _parts_of(self, object_id: str) -> _Parts:
        parts = self._objects.setdefault(object_id, _Parts(path=f'objects["{object_id}"].'))
        check_count(len(self._objects), "objects", self._limits.max_objects, "objects")
        return parts


def join_clouds(clouds: Sequence[PointCloud], path: str) -> PointCloud:
    """One cloud of several, in order; all must be of one frame, and all with colours or none."""
    first = clouds[0]
    if len(clouds) == 1:
        return first
    for index, cloud in enumerate(clouds):
        if (cloud.frame, cloud.up_axis) != (first.frame, first.up_axis):
            raise InvalidInput.at(
                path,
                f"part {index} is {cloud.frame} with {cloud.up_axis} up,"
                f" part 0 {first.frame} with {first.up_axis} up",
            )
    colors = [cloud.colors for cloud in clouds if cloud.colors is not None]
    if colors and len(colors) < len(clouds):
        raise InvalidInput.at(path, f"{len(colors)} of {len(clouds)} parts have colours, needs all or none")
    return replace(
        first,
        points=np.concatenate([cloud.points for cloud in clouds]),
        colors=np.concatenate(colors) if colors else None,
    )


def _joined_object(object_id: str, parts: _Parts, limits: Limits) -> SceneObject:
    """The object with the parts that came as items of their own behind its own."""
    named = parts.named or SceneObject(object_id=object_id)
    if named.points is not None:
        parts.clouds.insert(0, named.points)
    if named.mesh is not None and parts.mesh is not None:
        raise InvalidInput.at(f"{parts.path}mesh", "came already")
    points = parts.cloud()
    joined = replace(
        named,
        points=points,
        views=(*named.views, *parts.images),
        mesh=named.mesh or parts.mesh,
        referrals=(*named.referrals, *parts.texts),
    )
    check_count(len(points or ()), f"{parts.path}points", limits.max_points, "points")
    check_count(len(joined.views), f"{parts.path}views", limits.max_views, "views")
    check_count(len(joined.referrals), f"{parts.path}referrals", limits.max_texts, "texts")
    return joined


def _check_views(item: SceneObject, frames: dict[str, Image]) -> None:
    """Regions must lie in a frame of the scene; encoded frames are measured where they are decoded."""
    for index, view in enumerate(item.views):
        if not isinstance(view, FrameRegion):
            continue
        path = f'objects["{item.object_id}"].views[{index}].region'
        frame = frames.get(view.frame_id)
        if frame is None:
            raise InvalidInput.at(f"{path}.frame_id", f"{view.frame_id!r} is no image of this ingest")
        if frame.pixels is None:
            continue
        height, width, _ = frame.pixels.shape
        if view.box.right > width or view.box.bottom > height:
            raise InvalidInput.at(
                f"{path}.box", f"ends at {view.box.right}x{view.box.bottom} px, the frame at {width}x{height}"
            )


def _check_points(item: SceneObject, cloud: PointCloud | None) -> None:
    path = f'objects["{item.object_id}"]'
    if item.point_indices is not None and item.points is None:
        if cloud is None:
            raise InvalidInput.at(f"{path}.point_indices", "given, but this ingest has no cloud of the scene")
        last = int(item.point_indices.max(initial=0))
        if last >= len(cloud):
            raise InvalidInput.at(f"{path}.point_indices", f"{last}, the cloud has {len(cloud)} points")
    if item.points is not None and cloud is not None:
        found = (item.points.frame, item.points.up_axis)
        if found != (cloud.frame, cloud.up_axis):
            raise InvalidInput.at(
                f"{path}.points",
                f"{found[0]} with {found[1]} up, the scene's cloud {cloud.frame} with {cloud.up_axis} up",
            )
