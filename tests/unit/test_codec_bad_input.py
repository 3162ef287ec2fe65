"""Requests that can never succeed, each refused under the path of the field that is wrong."""

import numpy as np
import pytest

from xscene import codec
from xscene.codec import Limits
from xscene.errors import InvalidInput, LimitExceeded, SettingsInvalid
from xscene.types import SceneHeader
from xscene.v1 import content_pb2, fusion_pb2, scene_pb2

NAN, INF = float("nan"), float("inf")
JPEG, PNG = b"\xff\xd8\xff\xe0 jpeg", b"\x89PNG\r\n\x1a\n png"
MODEL = "0123456789abcdef" * 4
PICTURE = {"compressed": {"data": JPEG}}
CLOUD = {
    "points": {
        "point_stride": 12,
        "fields": [{"name": name, "offset": 4 * axis, "type": 7} for axis, name in enumerate("xyz")],
        "data": bytes(12),
    }
}


def vector(modality=1, values=(1.0, 2.0), space=0):
    return {"modality": modality, "space": space, "values": values}


def scenes(**changes):
    fields = {"content": {"texts": ["a kitchen"]}} | changes
    return codec.decode_search_scenes_request, scene_pb2.SearchScenesRequest(**fields)


def objects(**changes):
    fields = {"content": {"texts": ["a chair"]}} | changes
    return codec.decode_search_objects_request, scene_pb2.SearchObjectsRequest(**fields)


def asked(content):
    return scenes(content=content)


def vectors(*embeddings, **changes):
    fields = {"content": None, "embeddings": embeddings, "model_id": MODEL} | changes
    return scenes(**fields)


def options(**changes):
    return scenes(options=scene_pb2.SearchOptions(**changes))


def filtered(**changes):
    return scenes(filter=content_pb2.SceneFilter(**changes))


def matched(**changes):
    fields = {"source_scene_id": "a", "target_scene_id": "b"} | changes
    return codec.decode_match_objects_request, scene_pb2.MatchObjectsRequest(**fields)


def localized(index=0, **part):
    def decode(message, limits):
        return codec.decode_localize_request(message, index, limits)

    return decode, scene_pb2.LocalizeRequest(**part)


def embedded(**content):
    return codec.decode_embed_request, scene_pb2.EmbedRequest(**content)


def listed(**changes):
    return codec.decode_list_scenes_request, scene_pb2.ListScenesRequest(**changes)


def fused(*items, **changes):
    request = fusion_pb2.FuseRequest(items=[{"embeddings": item} for item in items], **changes)
    return codec.decode_fuse_request, request


def tensor(*shape, fill=0.5, kind=1, data=None):
    values = np.full(shape, fill, "<f4").tobytes() if data is None else data
    return {"data_type": kind, "shape": shape, "data": values}


def in_context(**changes):
    fields = {
        "object_ids": ["a", "b"],
        "features": [{"modality": 2, "rows": [0, 1], "features": tensor(2, 3)}],
    } | changes
    return codec.decode_embed_objects_request, fusion_pb2.EmbedObjectsRequest(**fields)


def features(rows=(0, 1), table=None, modality=2):
    return in_context(
        features=[{"modality": modality, "rows": rows, "features": table or tensor(len(rows), 3)}]
    )


def instance(**changes):
    def decode(message, limits):
        return codec.decode_object(message, "object", limits)

    return decode, content_pb2.SceneObject(**{"object_id": "chair-1"} | changes)


def region(frame_id="7", box=(0, 0, 4, 4), mask_png=b""):
    left, top, right, bottom = box
    corners = {"left": left, "top": top, "right": right, "bottom": bottom}
    return instance(views=[{"region": {"frame_id": frame_id, "box": corners, "mask_png": mask_png}}])


def mesh(**changes):
    return asked({"mesh": {"data": b"glTF"} | changes})


BAD = [
    # Texts
    (asked({"texts": ["a", ""]}), "content.texts[1]", "empty"),
    (asked({"texts": [" \n\t"]}), "content.texts[0]", "blank"),
    (asked({"texts": ["a\0b"]}), "content.texts[0]", "control character '\\x00' at 1"),
    (asked({"texts": ["\t\n\r", "a\x1b[2J"]}), "content.texts[0]", "blank"),
    (
        asked({"texts": ["one\ttwo\r\nthree", "a\x1b[2J"]}),
        "content.texts[1]",
        "control character '\\x1b' at 1",
    ),
    (asked({"texts": ["\u200b \u200e"]}), "content.texts[0]", "blank"),
    # Content
    (asked({}), "content", "empty, needs at least one modality"),
    (asked({"images": [{}]}), "content.images[0].picture", "missing"),
    (
        asked({"images": [PICTURE | {"frame_id": "7"}, PICTURE, PICTURE | {"frame_id": "7"}]}),
        "content.images[2]",
        "7 is already at [0]",
    ),
    (asked({"floorplan": {"compressed": {}}}), "content.floorplan.compressed.data", "0 bytes"),
    (asked({"point_cloud": {}}), "content.point_cloud.points", "missing"),
    # Meshes
    (mesh(data=b""), "content.mesh.data", "0 bytes"),
    (mesh(data=b"PK\3\4\0"), "content.mesh.data", "no GLB, PLY or OBJ"),
    (mesh(format=2), "content.mesh.format", "ply, but the bytes are glb"),
    (mesh(format=9), "content.mesh.format", "9"),
    (mesh(unit_m=-1), "content.mesh.unit_m", "-1"),
    (mesh(unit_m=NAN), "content.mesh.unit_m", "nan"),
    (mesh(up_axis=4), "content.mesh.up_axis", "4"),
    # Ready vectors
    (vectors(vector(), model_id=""), "model_id", "needed with embeddings"),
    (vectors(vector(), model_id="abc"), "model_id", "'abc', needs 64 digits"),
    (vectors(vector(), model_id=MODEL.upper()), "model_id", "needs 64 digits"),
    (vectors(vector(modality=0)), "embeddings[0].modality", "unset"),
    (vectors(vector(modality=12)), "embeddings[0].modality", "12"),
    (vectors(vector(space=2)), "embeddings[0].space", "object, needs scene"),
    (vectors(vector(space=5)), "embeddings[0].space", "5"),
    (vectors(vector(values=[])), "embeddings[0].values", "empty"),
    (vectors(vector(values=[0.0, 0.0])), "embeddings[0].values", "all 2 numbers are 0"),
    (
        vectors(vector(values=[1, NAN, INF])),
        "embeddings[0].values",
        "2 of 3 numbers are not finite, the first at 1",
    ),
    (
        vectors(vector(), vector(modality=2, values=[1])),
        "embeddings[1].values",
        "1 numbers, the first vector has 2",
    ),
    (vectors(vector(), vector()), "embeddings[1].modality", "text is already at [0]"),
    (vectors(vector(), content={"texts": ["a"]}), "embeddings[0].modality", "text is already in content"),
    (vectors(*[vector()] * 15), "embeddings", "15 embeddings, the limit is 14"),
    (
        objects(embeddings=[vector(modality=2, space=1)], model_id=MODEL),
        "embeddings[0].space",
        "scene, needs object",
    ),
    # How to search
    (options(targets=[0]), "options.targets[0]", "unset"),
    (options(targets=[7, 1, 7]), "options.targets[2]", "fused is already at [0]"),
    (options(strategy=17), "options.strategy", "17"),
    (options(limit=1001), "options.limit", "1001 hits, the limit is 1000"),
    (options(limit=2**32 - 1), "options.limit", "4294967295 hits"),
    (options(min_score=NAN), "options.min_score", "nan"),
    (options(weights=[{"query": 1, "target": 0}]), "options.weights[0].target", "unset"),
    (
        options(weights=[{"query": 1, "target": 7, "weight": -1}]),
        "options.weights[0].weight",
        "-1, needs at least 0",
    ),
    (options(weights=[{"query": 1, "target": 7, "weight": INF}]), "options.weights[0].weight", "inf"),
    (
        options(weights=[{"query": 1, "target": 7}] * 2),
        "options.weights[1]",
        "text to fused is there already",
    ),
    # Which scenes count
    (filtered(scene_ids=["a", ""]), "filter.scene_ids[1]", "empty"),
    (filtered(place_ids=["a", "a"]), "filter.place_ids[1]", "a is already at [0]"),
    (filtered(labels=["a\x7f"]), "filter.labels[0]", "control character"),
    (filtered(required_modalities=[99]), "filter.required_modalities[0]", "99"),
    (filtered(radius_m=3), "filter.near", "missing"),
    (filtered(near={}), "filter.radius_m", "needs metres with near"),
    (filtered(near={}, radius_m=-1), "filter.radius_m", "-1"),
    (filtered(near={}, radius_m=INF), "filter.radius_m", "inf"),
    (filtered(near={"latitude_deg": 91}, radius_m=1), "filter.near.latitude_deg", "91, needs -90 to 90"),
    (filtered(near={"longitude_deg": NAN}, radius_m=1), "filter.near.longitude_deg", "nan"),
    (filtered(captured_from={"nanos": -1}), "filter.captured_from.nanos", "-1"),
    (filtered(captured_before={"seconds": 1 << 40}), "filter.captured_before.seconds", "1099511627776"),
    (
        filtered(captured_from={"seconds": 5}, captured_before={"seconds": 5}),
        "filter.captured_before",
        "nothing",
    ),
    (filtered(metadata={"": "x"}), "filter.metadata", "empty"),
    (filtered(metadata={"k": "\0"}), 'filter.metadata["k"]', "NUL"),
    (objects(labels=["a", "a"]), "labels[1]", "a is already at [0]"),
    # Other calls
    (matched(source_scene_id=""), "source_scene_id", "empty"),
    (matched(target_scene_id="a\0"), "target_scene_id", "control character"),
    (matched(source_modalities=[8]), "source_modalities[0]", "8"),
    (matched(target_modalities=[1, 1]), "target_modalities[1]", "text is already at [0]"),
    (matched(min_score=INF), "min_score", "inf"),
    (listed(page_size=1001), "page_size", "1001 scenes, the limit is 1000"),
    (listed(page_token="t" * 1025), "page_token", "1025 bytes, the limit is 1024"),
    (localized(), "messages[0].part", "missing"),
    (localized(observation={}), "messages[0].observation", "empty"),
    (localized(3, options={}), "messages[3].options", "first message"),
    (localized(options={"memory": 1.5}), "messages[0].options.memory", "1.5, needs 0 to 1"),
    (localized(options={"memory": NAN}), "messages[0].options.memory", "nan"),
    (localized(options={"limit": 9999}), "messages[0].options.limit", "9999 beliefs"),
    (localized(2, observation={"texts": [""]}), "messages[2].observation.texts[0]", "empty"),
    (embedded(), "content", "missing"),
    (embedded(scene={}), "scene", "empty"),
    (embedded(object={}), "object", "empty"),
    (embedded(object={"images": [{"raw": {"width": 1}}]}), "object.images[0].raw.encoding", "''"),
    # Objects
    (instance(object_id=""), "object.object_id", "empty"),
    (instance(label="a\nb"), "object.label", "control character"),
    (instance(box={}), "object.box.size", "missing"),
    (instance(box={"size": {"y": -1}}), "object.box.size.y", "-1"),
    (instance(box={"size": {"x": NAN}}), "object.box.size.x", "nan"),
    (instance(box={"size": {}, "pose": {"position": {"z": INF}}}), "object.box.pose.position.z", "inf"),
    (instance(point_indices=bytes(7)), "object.point_indices", "7 bytes, not a multiple of the 4"),
    (instance(points=CLOUD | {"frame": 8}), "object.points.frame", "8"),
    (instance(views=[{}]), "object.views[0].source", "missing"),
    (instance(views=[{"region": {"frame_id": "7"}}]), "object.views[0].region.box", "missing"),
    (region(frame_id=""), "object.views[0].region.frame_id", "empty"),
    (region(box=(4, 0, 4, 4)), "object.views[0].region.box.right", "4, needs more than left, 4"),
    (region(box=(0, 5, 4, 4)), "object.views[0].region.box.bottom", "4, needs more than top, 5"),
    (region(mask_png=JPEG), "object.views[0].region.mask_png", "no PNG"),
    (instance(referrals=["a", " "]), "object.referrals[1]", "blank"),
    # Fusing
    (fused(), "items", "empty"),
    (fused([vector()], []), "items[1].embeddings", "empty"),
    (fused([vector()], [vector(), vector()]), "items[1].embeddings[1].modality", "text is already at [0]"),
    (fused([vector(modality=7)]), "items[0].embeddings[0].modality", "fused"),
    (fused([vector(modality=0)]), "items[0].embeddings[0].modality", "unset"),
    (fused([vector(space=2)]), "items[0].embeddings[0].space", "object, needs scene"),
    (fused([vector(), vector(modality=2, values=[NAN])]), "items[0].embeddings[1].values", "not finite"),
    (
        fused([vector()], [vector(values=[1] * 3)]),
        "items[1].embeddings[0].values",
        "3 numbers, the first vector has 2",
    ),
    (fused([vector()], model_id="x"), "model_id", "'x'"),
    # Objects in context
    (in_context(object_ids=[]), "object_ids", "empty"),
    (in_context(object_ids=["a", "a"]), "object_ids[1]", "a is already at [0]"),
    (in_context(features=[]), "features", "empty"),
    (in_context(locations=tensor(2, 5)), "locations.shape", "[2, 5], needs [2, 6]"),
    (in_context(locations=tensor(2, 6, fill=NAN)), "locations.data", "2 of 2 rows are not finite"),
    (in_context(locations=tensor(2, 6, kind=2)), "locations.data_type", "2, needs DATA_TYPE_FLOAT32"),
    (in_context(locations=tensor(2, 6, kind=0)), "locations.data_type", "0"),
    (in_context(locations=tensor(2, 6, data=bytes(47))), "locations.data", "47 bytes, shape [2, 6] needs 48"),
    (features(modality=3), "features[0].modality", "floorplan, needs one of text, image"),
    (features(modality=0), "features[0].modality", "unset"),
    (features(rows=()), "features[0].rows", "empty"),
    (features(rows=(1, 0)), "features[0].rows[1]", "0 after 1, needs ascending rows"),
    (features(rows=(1, 1)), "features[0].rows[1]", "1 after 1"),
    (features(rows=(0, 2)), "features[0].rows[1]", "2, there are 2 objects"),
    (features(rows=(0, 1, 2)), "features[0].rows", "3 rows, the limit is 2"),
    (features(table=tensor(3, 3)), "features[0].features.shape", "[3, 3], needs [2, any]"),
    (features(table=tensor(2, 0)), "features[0].features.shape", "at least one number"),
    (features(table={"data_type": 1, "shape": [2, -3]}), "features[0].features.shape", "[2, -3]"),
    (
        features(table={"data_type": 1, "shape": [2, 1 << 62], "data": b"1234"}),
        "features[0].features.data",
        "4 bytes, shape [2, 4611686018427387904] needs",
    ),
    (features(table=tensor(2, 3, fill=INF)), "features[0].features.data", "2 of 2 rows are not finite"),
]


@pytest.mark.parametrize(("call", "field", "words"), BAD, ids=[f"{n}-{row[1]}" for n, row in enumerate(BAD)])
def test_a_bad_request_names_the_field_that_is_wrong(call, field, words):
    decode, message = call
    with pytest.raises(InvalidInput) as caught:
        decode(type(message).FromString(message.SerializeToString()), Limits())
    assert [violation.field for violation in caught.value.violations] == [field]
    assert words in caught.value.violations[0].description


PAST_LIMITS = [
    (asked({"texts": ["a" * 9]}), {"max_text_bytes": 8}, "content.texts[0]: 9 bytes, the limit is 8"),
    (asked({"texts": ["\u00e9" * 5]}), {"max_text_bytes": 8}, "content.texts[0]: 10 bytes, the limit is 8"),
    (asked({"texts": ["a", "b"]}), {"max_texts": 1}, "content.texts: 2 texts, the limit is 1"),
    (asked({"images": [PICTURE] * 3}), {"max_images": 2}, "content.images: 3 images, the limit is 2"),
    (mesh(), {"max_mesh_bytes": 3}, "content.mesh.data: 4 bytes, the limit is 3"),
    (
        vectors(vector(values=[1] * 5)),
        {"max_embedding_width": 4},
        "embeddings[0].values: 5 numbers, the limit is 4",
    ),
    (filtered(scene_ids=["a", "b"]), {"max_filter_values": 1}, "filter.scene_ids: 2 names, the limit is 1"),
    (
        filtered(metadata={"a": "", "b": ""}),
        {"max_metadata_entries": 1},
        "filter.metadata: 2 entries, the limit is 1",
    ),
    (
        filtered(metadata={"a": "bc"}),
        {"max_metadata_value_bytes": 1},
        'filter.metadata["a"]: 2 bytes, the limit is 1',
    ),
    (matched(source_scene_id="abc"), {"max_name_bytes": 2}, "source_scene_id: 3 bytes, the limit is 2"),
    (objects(labels=["a", "b"]), {"max_labels": 1}, "labels: 2 names, the limit is 1"),
    (instance(views=[{"crop": PICTURE}] * 2), {"max_views": 1}, "object.views: 2 views, the limit is 1"),
    (instance(point_indices=bytes(8)), {"max_points": 1}, "object.point_indices: 2 points, the limit is 1"),
    (
        region(mask_png=PNG),
        {"max_image_bytes": 5},
        "object.views[0].region.mask_png: 12 bytes, the limit is 5",
    ),
    (fused([vector()], [vector()]), {"max_items": 1}, "items: 2 items, the limit is 1"),
    (in_context(), {"max_objects": 1}, "object_ids: 2 names, the limit is 1"),
    (features(), {"max_embedding_width": 2}, "features[0].features.shape: 3 numbers a row, the limit is 2"),
]


@pytest.mark.parametrize(("call", "limits", "message"), PAST_LIMITS, ids=[row[2] for row in PAST_LIMITS])
def test_every_limit_names_field_value_and_limit(call, limits, message):
    decode, request = call
    with pytest.raises(LimitExceeded) as caught:
        decode(request, Limits(**limits))
    assert str(caught.value) == message


@pytest.mark.parametrize("reindex_id", ["", "Nightly", "a" * 65, "a/b", "a\n"])
def test_a_reindex_needs_a_plain_name(reindex_id):
    with pytest.raises(InvalidInput, match=r"reindex_id: .* needs 1 to 64"):
        codec.decode_get_reindex_request(scene_pb2.GetReindexRequest(reindex_id=reindex_id))


def test_what_is_left_out_has_the_defaults_of_the_protos():
    decode, request = scenes()
    query = decode(request, Limits())
    assert (query.options.strategy, query.options.limit, query.options.min_score) == ("combined", None, None)
    assert query.filter == type(query.filter)()
    assert codec.decode_list_scenes_request(scene_pb2.ListScenesRequest(), Limits()).page_size is None


def test_the_least_score_may_be_zero():
    decode, request = options(min_score=0)
    assert decode(request, Limits()).options.min_score == 0


def test_a_text_of_the_greatest_length_is_accepted_and_a_megabyte_is_not():
    decode, request = asked({"texts": ["a" * (16 << 10)]})
    assert len(decode(request, Limits()).content.texts[0]) == 16384
    decode, request = asked({"texts": ["a" * (1 << 20)]})
    with pytest.raises(LimitExceeded, match="1048576 bytes, the limit is 16384"):
        decode(request, Limits())


def test_a_limit_below_one_is_refused():
    with pytest.raises(SettingsInvalid, match="max_points: 0, needs at least 1"):
        Limits(max_points=0)


def test_an_answer_is_not_held_to_the_limits_of_requests():
    header = scene_pb2.SceneHeader(scene_id="s" * 1000, labels=[str(n) for n in range(100)])
    message = scene_pb2.GetSceneResponse(scene=scene_pb2.Scene(header=header))
    assert isinstance(codec.decode_get_scene_response(message).header, SceneHeader)


def test_an_answer_of_another_modality_is_not_taken_for_the_fused_one():
    answer = fusion_pb2.FuseResponse(items=[{"fused": vector(modality=1, space=1)}])
    with pytest.raises(InvalidInput, match=r"items\[0\].fused.modality: text, needs fused"):
        codec.decode_fuse_response(answer)
