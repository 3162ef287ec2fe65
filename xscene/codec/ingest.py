"""The stream of an ingest: a scene to messages, and messages back to the scene's items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from xscene.codec.clouds import cloud_layout, decode_cloud, describe_cloud, pack_points
from xscene.codec.content import (
    check_indices_size,
    decode_mesh,
    decode_object,
    describe_mesh,
    encode_object,
    pack_indices,
)
from xscene.codec.fields import Data, check_count, decode_optional_name, decode_text, join
from xscene.codec.limits import Limits
from xscene.codec.pictures import check_picture_size, decode_image, describe_image, picture_data
from xscene.codec.scenes import decode_header, encode_header
from xscene.errors import InvalidInput
from xscene.types import (
    FrameRegion,
    Image,
    IngestItem,
    ItemKind,
    Mesh,
    PointCloud,
    SceneHeader,
    SceneObject,
    SceneRecord,
)
from xscene.v1 import scene_pb2

DEFAULT_CHUNK_BYTES = 2 << 20


def encode_ingest_scene_requests(
    record: SceneRecord, *, chunk_bytes: int = DEFAULT_CHUNK_BYTES
) -> Iterator[scene_pb2.IngestSceneRequest]:
    """The messages of an ingest, made one by one; fields larger than a chunk follow in chunks."""
    if chunk_bytes < 1:
        raise InvalidInput.at("chunk_bytes", f"{chunk_bytes}, needs at least 1")
    yield scene_pb2.IngestSceneRequest(header=encode_header(record.header))
    num_items = 0
    for num_items, item in enumerate(_items(record, chunk_bytes), start=1):  # noqa: B007 - counted for the end
        message = _describe_item(item)
        data = _item_data(item)
        if len(data) > chunk_bytes:
            message.payload_bytes = len(data)
            yield scene_pb2.IngestSceneRequest(item=message)
            for start in range(0, len(data), chunk_bytes):
                yield scene_pb2.IngestSceneRequest(chunk=bytes(data[start : start + chunk_bytes]))
        else:
            _set_data(message, data)
            yield scene_pb2.IngestSceneRequest(item=message)
    yield scene_pb2.IngestSceneRequest(end=scene_pb2.IngestEnd(num_items=num_items))


def _items(record: SceneRecord, chunk_bytes: int) -> Iterator[IngestItem]:
    content = record.content
    for text in content.texts:
        yield IngestItem(kind=ItemKind.TEXT, value=text)
    for image in content.images:
        yield IngestItem(kind=ItemKind.IMAGE, value=image)
    if content.floorplan is not None:
        yield IngestItem(kind=ItemKind.FLOORPLAN, value=content.floorplan)
    if content.point_cloud is not None:
        yield IngestItem(kind=ItemKind.POINT_CLOUD, value=content.point_cloud)
    if content.mesh is not None:
        yield IngestItem(kind=ItemKind.MESH, value=content.mesh)
    for item in record.objects:
        yield from _object_items(item, chunk_bytes)


def _object_items(item: SceneObject, chunk_bytes: int) -> Iterator[IngestItem]:
    """The object with what is small, then its large parts as items of their own."""
    num_inline = _num_inline_views(item.views, chunk_bytes)
    far: list[tuple[ItemKind, Image | FrameRegion | PointCloud | Mesh]] = [
        (ItemKind.IMAGE, view) for view in item.views[num_inline:]
    ]
    inline = replace(item, views=item.views[:num_inline])
    if item.points is not None and item.points.num_bytes > chunk_bytes:
        inline = replace(inline, points=None)
        far.append((ItemKind.POINT_CLOUD, item.points))
    if item.mesh is not None and item.mesh.num_bytes > chunk_bytes:
        inline = replace(inline, mesh=None)
        far.append((ItemKind.MESH, item.mesh))
    yield IngestItem(kind=ItemKind.OBJECT, value=inline)
    for kind, value in far:
        assert not isinstance(value, FrameRegion)
        yield IngestItem(kind=kind, value=value, object_id=item.object_id)


def _num_inline_views(views: tuple[Image | FrameRegion, ...], chunk_bytes: int) -> int:
    """How many views go with the object: what fits, and all up to the last region.

    Only crops can be items of their own, which are added behind the views that came with the object.
    """
    num_bytes = 0
    regions = [index for index, view in enumerate(views) if isinstance(view, FrameRegion)]
    last_region = max(regions, default=-1)
    for index, view in enumerate(views):
        num_bytes += view.num_bytes
        if num_bytes > chunk_bytes and index > last_region:
            return index
    return len(views)


def _describe_item(item: IngestItem) -> scene_pb2.IngestItem:
    """The item's message without its large field."""
    message = scene_pb2.IngestItem(object_id=item.object_id)
    match item.value:
        case str(text):
            message.text = text
        case Image() as image:
            getattr(message, item.kind).CopyFrom(describe_image(image))
        case PointCloud() as cloud:
            message.point_cloud.CopyFrom(describe_cloud(cloud))
        case Mesh() as mesh:
            message.mesh.CopyFrom(describe_mesh(mesh))
        case SceneObject() as instance:
            message.object.CopyFrom(encode_object(replace(instance, point_indices=None)))
    return message


def _item_data(item: IngestItem) -> Data:
    match item.value:
        case Image() as image:
            return picture_data(image)
        case PointCloud() as cloud:
            return pack_points(cloud)
        case Mesh() as mesh:
            return mesh.data
        case SceneObject() as instance:
            return pack_indices(instance)
    return b""


def _set_data(message: scene_pb2.IngestItem, data: Data) -> None:
    match ItemKind(message.WhichOneof("content")):
        case ItemKind.IMAGE | ItemKind.FLOORPLAN as kind:
            image = getattr(message, kind)
            getattr(image, image.WhichOneof("picture")).data = bytes(data)
        case ItemKind.POINT_CLOUD:
            message.point_cloud.points.data = bytes(data)
        case ItemKind.MESH:
            message.mesh.data = bytes(data)
        case ItemKind.OBJECT:
            message.object.point_indices = bytes(data)


def decode_ingest_item(
    message: scene_pb2.IngestItem, path: str, limits: Limits, data: Data | None = None
) -> IngestItem:
    """One item; `data` stands in for its large field when that came in chunks."""
    kind = _item_kind(message, path)
    where = join(path, kind)
    value: str | Image | PointCloud | Mesh | SceneObject
    match kind:
        case ItemKind.TEXT:
            value = decode_text(message.text, where, limits.max_text_bytes)
        case ItemKind.IMAGE | ItemKind.FLOORPLAN:
            value = decode_image(getattr(message, kind), where, limits, data)
        case ItemKind.POINT_CLOUD:
            value = decode_cloud(message.point_cloud, where, limits, data)
        case ItemKind.MESH:
            value = decode_mesh(message.mesh, where, limits, data)
        case ItemKind.OBJECT:
            value = decode_object(message.object, where, limits, data)
    object_id = decode_optional_name(message.object_id, join(path, "object_id"), limits)
    if object_id and kind in (ItemKind.OBJECT, ItemKind.FLOORPLAN):
        raise InvalidInput.at(join(path, "object_id"), f"set, needs to be empty for {kind}")
    return IngestItem(kind=kind, value=value, object_id=object_id)


def _item_kind(message: scene_pb2.IngestItem, path: str) -> ItemKind:
    kind = message.WhichOneof("content")
    if kind is None:
        raise InvalidInput.at(join(path, "content"), "missing, needs text, image, point_cloud or another")
    return ItemKind(kind)


def _check_payload(message: scene_pb2.IngestItem, path: str, limits: Limits) -> None:
    """Refuses an announced large field by what its item says, before any of it arrives."""
    kind = _item_kind(message, path)
    num_bytes = message.payload_bytes
    where = join(path, kind)
    match kind:
        case ItemKind.TEXT:
            raise InvalidInput.at(join(path, "payload_bytes"), f"{num_bytes}, but a text has no chunks")
        case ItemKind.IMAGE | ItemKind.FLOORPLAN:
            image = getattr(message, kind)
            check_picture_size(image, num_bytes, where, limits)
            own = image.compressed.data or image.raw.data
        case ItemKind.POINT_CLOUD:
            cloud_layout(message.point_cloud.points, num_bytes, join(where, "points"), limits)
            own = message.point_cloud.points.data
        case ItemKind.MESH:
            check_count(num_bytes, join(where, "data"), limits.max_mesh_bytes, "bytes")
            own = message.mesh.data
        case ItemKind.OBJECT:
            check_indices_size(num_bytes, join(where, "point_indices"), limits)
            own = message.object.point_indices
    if own:
        raise InvalidInput.at(
            join(path, "payload_bytes"), f"{num_bytes}, but {len(own)} bytes are in the item itself"
        )


@dataclass(frozen=True, kw_only=True)
class _Announced:
    """An item whose large field is on its way."""

    message: scene_pb2.IngestItem
    path: str
    data: bytearray = field(default_factory=bytearray)

    @property
    def num_missing(self) -> int:
        """Bytes still to come."""
        return self.message.payload_bytes - len(self.data)


class IngestAssembler:
    """Turns the messages of one ingest into items as they complete.

    Holds one item at a time, and of that no more than has arrived. Errors name the message by its
    index in the stream. `header` is set after the first message.
    """

    def __init__(self, limits: Limits) -> None:
        self.header: SceneHeader | None = None
        self._limits = limits
        self._num_messages = 0
        self._num_items = 0
        self._num_bytes = 0
        self._announced: _Announced | None = None
        self._ended = False

    def feed(self, message: scene_pb2.IngestSceneRequest) -> tuple[IngestItem, ...]:
        """Takes the next message; gives the item that it completes, if any."""
        path = f"messages[{self._num_messages}]"
        self._num_messages += 1
        part = message.WhichOneof("part")
        if part is None:
            raise InvalidInput.at(join(path, "part"), "missing, needs header, item, chunk or end")
        path = join(path, part)
        if self._ended:
            raise InvalidInput.at(path, "comes after the end")
        if part == "header":
            self._take_header(message.header, path)
            return ()
        if self.header is None:
            raise InvalidInput.at(path, "comes before the header")
        if part == "end":
            self._take_end(message.end, path)
            return ()
        return (
            self._take_item(message.item, path) if part == "item" else self._take_chunk(message.chunk, path)
        )

    def finish(self) -> None:
        """Checks that nothing is missing when the stream has ended."""
        if self.header is None:
            raise InvalidInput.at("messages", "the stream ended without a header")
        self._require_complete("messages", "the stream ended")
        if not self._ended:
            raise InvalidInput.at("messages", "the stream broke off: it has no end")

    def _take_header(self, message: scene_pb2.SceneHeader, path: str) -> None:
        if self.header is not None:
            raise InvalidInput.at(path, "a second header; messages[0] has the one that counts")
        self._add_bytes(message.ByteSize(), path)
        self.header = decode_header(message, path, self._limits)

    def _take_end(self, message: scene_pb2.IngestEnd, path: str) -> None:
        self._require_complete(path, "the end comes")
        if message.num_items != self._num_items:
            raise InvalidInput.at(
                join(path, "num_items"), f"{message.num_items}, but {self._num_items} items came"
            )
        self._ended = True

    def _take_item(self, message: scene_pb2.IngestItem, path: str) -> tuple[IngestItem, ...]:
        self._require_complete(path, "another item comes")
        self._num_items += 1
        check_count(self._num_items, path, self._limits.max_scene_items, "items in this ingest")
        self._add_bytes(message.ByteSize() + message.payload_bytes, path)
        if not message.payload_bytes:
            return (decode_ingest_item(message, path, self._limits),)
        _check_payload(message, path, self._limits)
        self._announced = _Announced(message=message, path=path)
        return ()

    def _take_chunk(self, chunk: bytes, path: str) -> tuple[IngestItem, ...]:
        announced = self._announced
        if announced is None:
            raise InvalidInput.at(path, "no item awaits a chunk")
        if not chunk:
            raise InvalidInput.at(path, "0 bytes")
        check_count(len(chunk), path, self._limits.max_chunk_bytes, "bytes")
        if len(chunk) > announced.num_missing:
            raise InvalidInput.at(
                path, f"{len(chunk)} bytes, {announced.path} lacks only {announced.num_missing}"
            )
        announced.data.extend(chunk)
        if announced.num_missing:
            return ()
        self._announced = None
        return (decode_ingest_item(announced.message, announced.path, self._limits, announced.data),)

    def _require_complete(self, path: str, event: str) -> None:
        if self._announced is not None:
            announced = self._announced
            raise InvalidInput.at(
                path,
                f"{event}, but {announced.path} lacks {announced.num_missing} of the"
                f" {announced.message.payload_bytes} bytes it announced",
            )

    def _add_bytes(self, num_bytes: int, path: str) -> None:
        """Counts announced bytes as well, so that what cannot fit is refused before it is sent."""
        self._num_bytes += num_bytes
        check_count(self._num_bytes, path, self._limits.max_scene_bytes, "bytes in this ingest")
