"""The stream of an ingest: its order, its sizes, and what only the whole scene can tell."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from xscene.codec import IngestAssembler, Limits, SceneCollector, encode_ingest_scene_requests, join_clouds
from xscene.errors import InvalidInput, LimitExceeded
from xscene.types import (
    Frame,
    FrameRegion,
    Image,
    ImageBox,
    IngestItem,
    IngestMode,
    ItemKind,
    Mesh,
    MeshFormat,
    PointCloud,
    SceneContent,
    SceneHeader,
    SceneObject,
    SceneRecord,
    UpAxis,
)
from xscene.v1 import scene_pb2

JPEG = b"\xff\xd8\xff\xe0 jpeg"
HEADER = {"header": {"scene_id": "lab"}}
XYZ = [{"name": name, "offset": 4 * axis, "type": 7} for axis, name in enumerate("xyz")]


def cloud(num_points=3, **changes):
    return PointCloud(points=np.arange(3 * num_points, dtype=np.float32).reshape(-1, 3), **changes)


def item(payload_bytes=0, object_id="", **content):
    return {"item": {"payload_bytes": payload_bytes, "object_id": object_id, **content}}


def announced(payload_bytes, stride=12, **changes):
    return item(payload_bytes, point_cloud={"points": {"point_stride": stride, "fields": XYZ}}, **changes)


def chunk(num_bytes):
    return {"chunk": bytes(num_bytes)}


def feed(*parts, limits=None, end=True):
    """All items of a stream that is complete."""
    if end:
        parts = (*parts, {"end": {"num_items": sum("item" in part for part in parts)}})
    assembler = IngestAssembler(limits or Limits())
    items = []
    for part in parts:
        items.extend(assembler.feed(scene_pb2.IngestSceneRequest(**part)))
    assembler.finish()
    return items


def joined(*items, limits=None):
    collector = SceneCollector(limits or Limits())
    for one in items:
        collector.add(one)
    return collector.record(SceneHeader(scene_id="lab"))


def refused(call, *args, **kwargs):
    with pytest.raises(InvalidInput) as caught:
        call(*args, **kwargs)
    return caught.value


BAD_STREAMS = [
    ([{}], "messages[0].part", "missing"),
    ([item(text="a")], "messages[0].item", "before the header"),
    ([chunk(3)], "messages[0].chunk", "before the header"),
    ([{"header": {}}], "messages[0].header.scene_id", "empty"),
    ([{"header": {"scene_id": "a", "mode": 7}}], "messages[0].header.mode", "7"),
    (
        [{"header": {"scene_id": "a", "captured_at": {"nanos": -5}}}],
        "messages[0].header.captured_at.nanos",
        "-5",
    ),
    ([{"header": {"scene_id": "a", "labels": ["x", "x"]}}], "messages[0].header.labels[1]", "already"),
    (
        [{"header": {"scene_id": "a", "location": {"latitude_deg": 99}}}],
        "messages[0].header.location.latitude_deg",
        "99",
    ),
    ([HEADER, HEADER], "messages[1].header", "a second header"),
    ([HEADER, chunk(1)], "messages[1].chunk", "no item awaits"),
    ([HEADER, item(text="a"), chunk(1)], "messages[2].chunk", "no item awaits"),
    ([HEADER, item()], "messages[1].item.content", "missing"),
    ([HEADER, item(5)], "messages[1].item.content", "missing"),
    ([HEADER, item(text="")], "messages[1].item.text", "empty"),
    ([HEADER, item(5, text="hello")], "messages[1].item.payload_bytes", "a text has no chunks"),
    ([HEADER, item(object_id="a\n", text="b")], "messages[1].item.object_id", "control"),
    (
        [HEADER, item(object_id="a", object={"object_id": "b"})],
        "messages[1].item.object_id",
        "needs to be empty for object",
    ),
    ([HEADER, item(image={})], "messages[1].item.image.picture", "missing"),
    ([HEADER, item(9, image={})], "messages[1].item.image.picture", "missing"),
    ([HEADER, item(9, image={"raw": {"encoding": "rgb8"}})], "messages[1].item.image.raw.width", "0 px"),
    (
        [HEADER, item(9, mesh={"data": b"glTF"})],
        "messages[1].item.payload_bytes",
        "9, but 4 bytes are in the item",
    ),
    ([HEADER, item(9, object={"object_id": "a"})], "messages[1].item.object.point_indices", "9 bytes"),
    (
        [HEADER, announced(25)],
        "messages[1].item.point_cloud.points.data",
        "25 bytes, 3 points of 12 bytes need 36",
    ),
    ([HEADER, announced(24, stride=0)], "messages[1].item.point_cloud.points.point_stride", "0 bytes"),
    ([HEADER, announced(24), chunk(0)], "messages[2].chunk", "0 bytes"),
    (
        [HEADER, announced(24), chunk(12), chunk(13)],
        "messages[3].chunk",
        "13 bytes, messages[1].item lacks only 12",
    ),
    (
        [HEADER, announced(24), item(text="a")],
        "messages[2].item",
        "messages[1].item lacks 24 of the 24 bytes",
    ),
    (
        [HEADER, announced(24), {"chunk": np.full(6, np.nan, "<f4").tobytes()}],
        "messages[1].item.point_cloud.points.data",
        "2 of 2 points are not finite",
    ),
    (
        [HEADER, item(4, image={"compressed": {}}), {"chunk": b"GIF8"}],
        "messages[1].item.image.compressed.data",
        "no JPEG",
    ),
]


@pytest.mark.parametrize(
    ("parts", "field", "words"), BAD_STREAMS, ids=[f"{n}-{r[1]}" for n, r in enumerate(BAD_STREAMS)]
)
def test_a_bad_stream_names_the_message_and_the_field(parts, field, words):
    error = refused(feed, *parts)
    assert error.violations[0].field == field
    assert words in error.violations[0].description


@pytest.mark.parametrize(
    ("parts", "limits", "message"),
    [
        ([announced(24), chunk(9)], {"max_chunk_bytes": 8}, "messages[2].chunk: 9 bytes, the limit is 8"),
        (
            [announced(36)],
            {"max_points": 2},
            "messages[1].item.point_cloud.points.data: 3 points, the limit is 2",
        ),
        ([item(9, mesh={})], {"max_mesh_bytes": 8}, "messages[1].item.mesh.data: 9 bytes, the limit is 8"),
        (
            [item(9, image={"compressed": {}})],
            {"max_image_bytes": 8},
            "messages[1].item.image.compressed.data: 9 bytes, the limit is 8",
        ),
        (
            [item(8, object={"object_id": "a"})],
            {"max_points": 1},
            "messages[1].item.object.point_indices: 2 points, the limit is 1",
        ),
        (
            [item(text="a"), item(text="b")],
            {"max_scene_items": 1},
            "messages[2].item: 2 items in this ingest, the limit is 1",
        ),
        (
            [item(1 << 60, mesh={})],
            {},
            "messages[1].item: 1152921504606846993 bytes in this ingest, the limit is 1073741824",
        ),
        (
            [item(text="a" * 50)],
            {"max_scene_bytes": 40},
            "messages[1].item: 57 bytes in this ingest, the limit is 40",
        ),
    ],
)
def test_a_stream_past_a_limit_is_refused_when_it_announces_so(parts, limits, message):
    error = refused(feed, HEADER, *parts, limits=Limits(**limits))
    assert isinstance(error, LimitExceeded)
    assert str(error) == message


def test_items_complete_as_their_last_chunk_arrives():
    assembler = IngestAssembler(Limits())
    sent = [HEADER, item(text="a"), announced(24), chunk(20), chunk(4)]
    completed = [len(assembler.feed(scene_pb2.IngestSceneRequest(**part))) for part in sent]
    assert completed == [0, 1, 0, 0, 1]
    assert assembler.header.scene_id == "lab"


def test_an_announced_size_takes_no_memory_before_it_arrives():
    assembler = IngestAssembler(Limits())
    assembler.feed(scene_pb2.IngestSceneRequest(**HEADER))
    tracemalloc.start()
    assembler.feed(scene_pb2.IngestSceneRequest(**announced(96_000_000)))
    assembler.feed(scene_pb2.IngestSceneRequest(**chunk(1000)))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000


def test_a_large_cloud_goes_in_chunks_and_is_read_without_another_copy():
    points = cloud(200_000)
    record = SceneRecord(header=SceneHeader(scene_id="lab"), content=SceneContent(point_cloud=points))
    messages = list(encode_ingest_scene_requests(record, chunk_bytes=1 << 20))
    assert [len(message.chunk) for message in messages] == [0, 0, 1 << 20, 1 << 20, 302_848, 0]
    assert messages[1].item.payload_bytes == 2_400_000
    assembler = IngestAssembler(Limits())
    (found,) = [one for message in messages for one in assembler.feed(message)]
    assert found.value == points
    assert not found.value.points.flags.owndata


def test_a_small_scene_takes_one_message_an_item():
    record = SceneRecord(
        header=SceneHeader(scene_id="lab"),
        content=SceneContent(texts=("a", "b"), images=(Image(encoded=JPEG),)),
        objects=(SceneObject(object_id="chair", points=cloud(), views=(Image(encoded=JPEG),)),),
    )
    parts = [message.item.WhichOneof("content") for message in encode_ingest_scene_requests(record)]
    assert parts == [None, "text", "text", "image", "object", None]


def test_views_keep_their_order_however_the_object_travels():
    crops = [Image(encoded=JPEG + bytes(size)) for size in (1, 30, 2, 40)]
    region = FrameRegion(frame_id="7", box=ImageBox(left=0, top=0, right=1, bottom=1))
    views = (crops[0], crops[1], region, *crops[2:])
    record = SceneRecord(
        header=SceneHeader(scene_id="lab"),
        content=SceneContent(images=(Image(encoded=JPEG, frame_id="7"),), point_cloud=cloud(6)),
        objects=(SceneObject(object_id="chair", views=views, point_indices=indices(*range(6))),),
    )
    messages = list(encode_ingest_scene_requests(record, chunk_bytes=20))
    alone = [message for message in messages if message.item.object_id]
    assert [message.item.payload_bytes for message in alone] == [0, len(JPEG) + 40]
    assembler, collector = IngestAssembler(Limits()), SceneCollector(Limits())
    for message in messages:
        for one in assembler.feed(message):
            collector.add(one)
    assert collector.record(assembler.header) == record


def test_a_chunk_of_no_bytes_cannot_be_asked_for():
    record = SceneRecord(header=SceneHeader(scene_id="lab"), content=SceneContent())
    assert "chunk_bytes: 0" in str(refused(list, encode_ingest_scene_requests(record, chunk_bytes=0)))


def text(words, object_id=""):
    return IngestItem(kind=ItemKind.TEXT, value=words, object_id=object_id)


def image(frame_id="", kind=ItemKind.IMAGE, **picture):
    return IngestItem(kind=kind, value=Image(frame_id=frame_id, **picture or {"encoded": JPEG}))


def points(value, object_id=""):
    return IngestItem(kind=ItemKind.POINT_CLOUD, value=value, object_id=object_id)


def mesh(object_id=""):
    value = Mesh(data=b"glTF", format=MeshFormat.GLB)
    return IngestItem(kind=ItemKind.MESH, value=value, object_id=object_id)


def named(object_id="chair", **parts):
    return IngestItem(kind=ItemKind.OBJECT, value=SceneObject(object_id=object_id, **parts))


def region(frame_id, right=4, bottom=4):
    return FrameRegion(frame_id=frame_id, box=ImageBox(left=0, top=0, right=right, bottom=bottom))


def indices(*values):
    return np.array(values, np.uint32)


def test_clouds_of_one_scene_are_joined_in_order():
    record = joined(points(cloud(2)), points(cloud(3)))
    assert record.content.point_cloud.points.tolist() == cloud(2).points.tolist() + cloud(3).points.tolist()


def test_colours_are_joined_with_their_points():
    colors = np.arange(6, dtype=np.uint8).reshape(2, 3)
    parts = [cloud(2, colors=colors), cloud(2, colors=colors + 100)]
    assert join_clouds(parts, "cloud").colors.tolist() == [
        [0, 1, 2],
        [3, 4, 5],
        [100, 101, 102],
        [103, 104, 105],
    ]


def test_parts_of_an_object_may_come_before_it_after_it_or_without_it():
    record = joined(
        text("first", "chair"),
        named(referrals=("own",), label="chair"),
        mesh("chair"),
        points(cloud(), "table"),
    )
    chair, table = record.objects
    assert (chair.label, chair.referrals, chair.mesh.format) == ("chair", ("own", "first"), MeshFormat.GLB)
    assert table == SceneObject(object_id="table", points=cloud())


@pytest.mark.parametrize(
    ("items", "field", "words"),
    [
        ([], "messages", "no items"),
        ([image(kind=ItemKind.FLOORPLAN)] * 2, "floorplan", "came already"),
        ([mesh(), mesh()], "mesh", "came already"),
        ([image("7"), image(), image(), image("7")], "images[3]", "7 is already at [0]"),
        ([points(cloud()), points(cloud(frame=Frame.ALIGNED))], "point_cloud", "part 1 is aligned with z up"),
        ([points(cloud()), points(cloud(up_axis=UpAxis.Y))], "point_cloud", "part 1 is raw with y up"),
        (
            [points(cloud()), points(cloud(colors=np.zeros((3, 3), np.uint8)))],
            "point_cloud",
            "1 of 2 parts have colours",
        ),
        ([named(), named()], 'objects["chair"].object_id', "came already"),
        ([named(mesh=mesh().value), mesh("chair")], 'objects["chair"].mesh', "came already"),
        ([named(views=(region("7"),))], 'objects["chair"].views[0].region.frame_id', "'7' is no image"),
        (
            [image("7", pixels=np.zeros((4, 3, 3), np.uint8)), named(views=(region("7"),))],
            'objects["chair"].views[0].region.box',
            "ends at 4x4 px, the frame at 3x4",
        ),
        ([named(point_indices=indices(0))], 'objects["chair"].point_indices', "no cloud"),
        (
            [points(cloud(3)), named(point_indices=indices(0, 3, 1))],
            'objects["chair"].point_indices',
            "3, the cloud has 3 points",
        ),
        (
            [points(cloud()), named(points=cloud(frame=Frame.CANONICAL))],
            'objects["chair"].points',
            "canonical with z up, the scene's cloud raw with z up",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(items, field, words):
    error = refused(joined, *items)
    assert error.violations[0].field == field
    assert words in error.violations[0].description


@pytest.mark.parametrize(
    ("items", "limits", "message"),
    [
        ([text("a"), text("b")], {"max_texts": 1}, "texts: 2 texts, the limit is 1"),
        ([image(), image()], {"max_images": 1}, "images: 2 images, the limit is 1"),
        ([points(cloud(2)), points(cloud(2))], {"max_points": 3}, "point_cloud: 4 points, the limit is 3"),
        ([named("a"), named("b")], {"max_objects": 1}, "objects: 2 objects, the limit is 1"),
        (
            [named(points=cloud(2)), points(cloud(2), "chair")],
            {"max_points": 3},
            'objects["chair"].points: 4 points, the limit is 3',
        ),
        (
            [named(referrals=("a",)), text("b", "chair")],
            {"max_texts": 1},
            'objects["chair"].referrals: 2 texts, the limit is 1',
        ),
        (
            [named(views=(Image(encoded=JPEG),)), replace(image(), object_id="chair")],
            {"max_views": 1},
            'objects["chair"].views: 2 views, the limit is 1',
        ),
    ],
)
def test_limits_hold_for_the_sum_of_what_came_in_parts(items, limits, message):
    assert str(refused(joined, *items, limits=Limits(**limits))) == message


def test_a_region_in_the_whole_of_its_frame_is_accepted():
    pixels = np.zeros((4, 4, 3), np.uint8)
    record = joined(image("7", pixels=pixels), named(views=(region("7"),)))
    assert record.objects[0].views == (region("7"),)


def test_the_mode_of_the_header_is_kept():
    message, end = encode_ingest_scene_requests(
        SceneRecord(header=SceneHeader(scene_id="lab", mode=IngestMode.MERGE), content=SceneContent())
    )
    assembler = IngestAssembler(Limits())
    assembler.feed(message)
    assert assembler.header.mode is IngestMode.MERGE
    assert end.end.num_items == 0


END = {"end": {"num_items": 1}}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "messages: the stream ended without a header"),
        ([HEADER, item(text="a")], "messages: the stream broke off: it has no end"),
        ([HEADER, announced(24), chunk(12)], "messages: the stream ended, but messages[1].item lacks 12"),
        (
            [HEADER, announced(24), chunk(12), END],
            "messages[3].end: the end comes, but messages[1].item lacks",
        ),
        ([HEADER, END], "messages[1].end.num_items: 1, but 0 items came"),
        ([HEADER, item(text="a"), END, END], "messages[3].end: comes after the end"),
        ([HEADER, item(text="a"), END, item(text="b")], "messages[3].item: comes after the end"),
        ([END], "messages[0].end: comes before the header"),
    ],
)
def test_only_a_stream_with_its_end_is_whole(parts, message):
    assert str(refused(feed, *parts, end=False)).startswith(message)
