"""Strategies for the domain types, each value such that its request is valid."""

from datetime import UTC

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xscene import types

WIDTH = 3

letters = st.characters(codec="utf-8", exclude_categories=["Cc"])
names = st.text(letters, min_size=1, max_size=8)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
sentences = st.text(letters | st.sampled_from("\t\n\r"), max_size=20).filter(
    lambda text: any(letter.isprintable() and not letter.isspace() for letter in text)
)
several_texts = st.lists(sentences, max_size=2).map(tuple)
several_names = st.lists(names, max_size=3, unique=True).map(tuple)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)
doubles = st.floats(-1e6, 1e6)
moments = st.datetimes(timezones=st.just(UTC))
counts, longs = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
maybe_limits, modalities = st.none() | st.integers(1, 1000), st.sampled_from(types.Modality)
several_modalities = st.lists(modalities, max_size=3, unique=True).map(tuple)
model_ids = st.text("0123456789abcdef", min_size=64, max_size=64)
metadata = st.dictionaries(names, words, max_size=2)


def build(kind, **fields):
    return st.builds(kind, **{k: v if hasattr(v, "example") else st.just(v) for k, v in fields.items()})


def some(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


def floats(*shape):
    return arrays(np.float32, shape, elements=singles)


def vectors():
    return floats(WIDTH).filter(np.any)


@st.composite
def shifts(draw):
    """Poses without a turn, which come back bit by bit; turns are compared elsewhere, with a tolerance."""
    matrix = np.eye(4)
    matrix[:3, 3] = draw(arrays(np.float64, 3, elements=doubles))
    return matrix


@st.composite
def clouds(draw, frame=None):
    num_points = draw(st.integers(1, 4))
    return types.PointCloud(
        points=draw(floats(num_points, 3)),
        colors=draw(st.none() | arrays(np.uint8, (num_points, 3))),
        frame=frame or draw(st.sampled_from(types.Frame)),
        up_axis=types.UpAxis.Y if frame else draw(st.sampled_from(types.UpAxis)),
    )


marks = st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
encoded = st.builds(bytes.__add__, marks, st.binary(max_size=40))
sides = st.integers(1, 3)
pixels = st.tuples(sides, sides, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))
intrinsics = build(
    types.Intrinsics,
    **dict.fromkeys(("fx", "fy"), st.floats(1, 1e4)),
    **dict.fromkeys(("cx", "cy"), doubles),
    **dict.fromkeys(("width", "height"), st.integers(2, 4000)),
)


maybe_names = st.just("") | names


def images(frame_ids=maybe_names):
    camera = {"frame_id": frame_ids, "camera_to_world": st.none() | shifts()}
    return st.one_of(
        build(types.Image, encoded=encoded, intrinsics=st.none() | intrinsics, **camera),
        build(types.Image, pixels=pixels, **camera),
    )


@st.composite
def meshes(draw):
    mark = {types.MeshFormat.GLB: b"glTF", types.MeshFormat.PLY: b"ply\n", types.MeshFormat.OBJ: b"v 0 0 0\n"}
    kind = draw(st.sampled_from(types.MeshFormat))
    tail = draw(st.binary(max_size=40)).replace(b"\0", b"1")
    return types.Mesh(
        data=mark[kind] + tail,
        format=kind,
        up_axis=draw(st.sampled_from(types.UpAxis)),
        unit_m=draw(st.floats(1e-3, 1e3)),
    )


boxes = build(types.ObjectBox, pose=shifts(), size=arrays(np.float64, 3, elements=st.floats(0, 1e3)))
image_boxes = st.tuples(*[st.integers(0, 2)] * 2, *[st.integers(3, 2**32 - 1)] * 2).map(
    lambda b: types.ImageBox(left=b[0], top=b[1], right=b[2], bottom=b[3])
)
masks = st.just(b"") | st.binary(max_size=9).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail)


def regions(frame_ids):
    return build(types.FrameRegion, frame_id=frame_ids, box=image_boxes, mask_png=masks)


any_views, any_clouds = st.one_of(images(), regions(names)), clouds()


def objects(object_ids=names, views=any_views, points=any_clouds, num_points=5):
    indices = st.integers(1, 4).flatmap(
        lambda size: arrays(np.uint32, size, elements=st.integers(0, num_points - 1))
    )
    return build(
        types.SceneObject,
        object_id=object_ids,
        label=maybe_names,
        box=st.none() | boxes,
        point_indices=(st.none() | indices) if num_points else None,
        points=st.none() | points,
        views=some(views),
        mesh=st.none() | meshes(),
        referrals=several_texts,
    )


several_images = st.lists(images(), max_size=2, unique_by=lambda image: image.frame_id or id(image)).map(
    tuple
)
scene_contents = build(
    types.SceneContent,
    texts=several_texts,
    images=several_images,
    floorplan=st.none() | images(),
    point_cloud=st.none() | clouds(),
    mesh=st.none() | meshes(),
)
object_contents = build(
    types.ObjectContent,
    texts=several_texts,
    images=several_images,
    point_cloud=st.none() | clouds(),
    mesh=st.none() | meshes(),
)
geo_points = build(types.GeoPoint, latitude_deg=st.floats(-90, 90), longitude_deg=st.floats(-180, 180))
circles = st.sampled_from([(None, None)]) | st.tuples(geo_points, st.floats(1e-3, 1e6))


@st.composite
def filters(draw):
    near, radius_m = draw(circles)
    times = sorted(draw(st.lists(moments, min_size=2, max_size=2, unique=True)))
    return types.SceneFilter(
        scene_ids=draw(several_names),
        place_ids=draw(several_names),
        labels=draw(several_names),
        captured_from=times[0] if draw(st.booleans()) else None,
        captured_before=times[1] if draw(st.booleans()) else None,
        latest_only=draw(st.booleans()),
        near=near,
        radius_m=radius_m,
        required_modalities=draw(several_modalities),
        metadata=draw(metadata),
    )


any_modes = st.sampled_from(types.IngestMode)


def headers(modes=any_modes):
    return build(
        types.SceneHeader,
        scene_id=names,
        place_id=maybe_names,
        captured_at=st.none() | moments,
        revision=longs,
        mode=modes,
        labels=several_names,
        location=st.none() | geo_points,
        metadata=metadata,
    )


models = build(types.ModelInfo, model_id=model_ids, bundle=names, trained=st.booleans())
outcomes = build(
    types.ModalityOutcome,
    modality=modalities,
    state=st.sampled_from(types.ModalityState),
    reason=words,
    **dict.fromkeys(("num_received", "num_kept"), longs),
)
scenes = build(
    types.Scene,
    header=headers(st.just(types.IngestMode.REPLACE)),
    modalities=some(outcomes),
    num_objects=counts,
    latest=st.booleans(),
    model=models,
)


def embeddings(space):
    one = build(types.Embedding, modality=modalities, space=space, values=vectors())
    return st.lists(one, max_size=3, unique_by=lambda e: (e.modality, e.space)).map(tuple)


options = build(
    types.SearchOptions,
    targets=several_modalities,
    strategy=st.sampled_from(types.Strategy),
    weights=st.dictionaries(st.tuples(modalities, modalities), st.floats(0, 100, width=32), max_size=2),
    limit=maybe_limits,
    min_score=st.none() | singles,
)


def askable(query):
    """Something is asked, and no modality comes both as content and as a vector."""
    ready = {embedding.modality for embedding in query.embeddings}
    return (ready or query.content.modalities) and not ready & set(query.content.modalities)


scene_queries = build(
    types.SceneQuery,
    content=scene_contents,
    embeddings=embeddings(types.Space.SCENE),
    model_id=model_ids,
    options=options,
    filter=filters(),
).filter(askable)
object_queries = build(
    types.ObjectQuery,
    content=object_contents,
    embeddings=embeddings(types.Space.OBJECT),
    model_id=model_ids,
    options=options,
    filter=filters(),
    labels=several_names,
).filter(askable)
pair_scores = build(types.PairScore, query=modalities, target=modalities, cosine=singles, evidence=singles)
degraded = some(build(types.Degradation, modality=modalities, reason=words))
calibrations = st.sampled_from([None, *types.Calibration])
reports = build(
    types.SearchReport,
    model=models,
    strategy=st.sampled_from(types.Strategy),
    calibration=calibrations,
    query_modalities=several_modalities,
    degraded=degraded,
)
scored = {"score": singles, "pairs": some(pair_scores)}
scene_hits = build(types.SceneHit, scene=scenes, missing=several_modalities, **scored)
object_hits = build(
    types.ObjectHit,
    scene_id=names,
    object_id=names,
    label=maybe_names,
    box=st.none() | boxes,
    missing=several_modalities,
    **scored,
)
matches = build(
    types.ObjectMatches,
    matches=some(build(types.ObjectMatch, source_object_id=names, target_object_id=names, **scored)),
    unmatched_source_ids=several_names,
    unmatched_target_ids=several_names,
    model=models,
    calibration=calibrations,
)
beliefs = build(types.SceneBelief, scene_id=names, place_id=names, probability=singles)
localize_options = build(
    types.LocalizeOptions,
    filter=filters(),
    targets=several_modalities,
    memory=st.none() | st.floats(0.125, 1, width=32),
    limit=maybe_limits,
)
reindex_ids = st.text("abcz019-", min_size=1, max_size=64)
reindexes = build(
    types.Reindex,
    reindex_id=reindex_ids,
    state=st.sampled_from(types.RunState),
    from_model_id=model_ids,
    to_model_id=model_ids,
    **dict.fromkeys(("num_scenes", "num_done", "num_failed"), longs),
    created_at=moments,
    updated_at=moments,
    error=words,
)


@st.composite
def tables(draw, kind, values, kinds, num_objects=4):
    """Rows of some objects with one vector each, for modalities that differ."""
    made = []
    for modality in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique=True)):
        rows = draw(st.lists(st.integers(0, num_objects - 1), min_size=1, unique=True).map(sorted))
        fields = {"rows": np.array(rows, np.uint32), values: draw(floats(len(rows), WIDTH))}
        made.append(kind(modality=modality, **fields))
    return tuple(made)


object_tables = tables(types.ObjectEmbeddings, "embeddings", list(types.Modality))
fuse_items = st.dictionaries(modalities.filter(lambda m: m != "fused"), vectors(), min_size=1, max_size=4)
object_kinds = [types.Modality(name) for name in ("text", "image", "point_cloud", "mesh")]
fused_items = build(
    types.FusedItem,
    fused=vectors(),
    weights=st.dictionaries(modalities, st.floats(0, 1, width=32), max_size=3),
)
four_names = st.lists(names, min_size=4, max_size=4, unique=True).map(tuple)


@st.composite
def records(draw):
    """Scenes whose objects point only at what is there."""
    frame = draw(st.sampled_from(types.Frame))
    frames = tuple(
        draw(build(types.Image, encoded=encoded, frame_id=name))
        for name in draw(st.lists(names, max_size=2, unique=True))
    )
    cloud = draw(st.none() | clouds(frame))
    views = images()
    if frames:
        views = st.one_of(views, regions(st.sampled_from([image.frame_id for image in frames])))
    content = types.SceneContent(
        texts=draw(several_texts),
        images=frames,
        floorplan=draw(st.none() | images()),
        point_cloud=cloud,
        mesh=draw(st.none() | meshes()),
    )
    ids = draw(st.lists(names, min_size=0 if content.modalities else 1, max_size=2, unique=True))
    num_points = len(cloud) if cloud else 0
    several = tuple(draw(objects(st.just(name), views, clouds(frame), num_points)) for name in ids)
    return types.SceneRecord(header=draw(headers()), content=content, objects=several)


REQUESTS = {
    "get_scene": names,
    "list_scenes": build(types.SceneListing, filter=filters(), page_size=maybe_limits, page_token=words),
    "delete_scene": names,
    "search_scenes": scene_queries,
    "search_objects": object_queries,
    "match_objects": build(
        types.MatchQuery,
        source_scene_id=names,
        target_scene_id=names,
        source_modalities=several_modalities,
        target_modalities=several_modalities,
        min_score=st.none() | singles,
    ),
    "embed": st.one_of(scene_contents, object_contents).filter(lambda content: content.modalities),
    "start_reindex": build(types.ReindexOrder, reindex_id=reindex_ids, bundle=names),
    "fuse": build(
        types.FuseQuery,
        items=st.lists(fuse_items, min_size=1, max_size=3).map(tuple),
        model_id=st.just("") | model_ids,
    ),
    "embed_objects": build(
        types.ObjectsQuery,
        object_ids=four_names,
        features=tables(types.ObjectFeatures, "features", object_kinds),
        locations=st.none() | floats(4, 6),
        model_id=st.just("") | model_ids,
    ),
}
RESPONSES = {
    "ingest_scene": build(
        types.IngestOutcome,
        scene_id=names,
        revision=longs,
        model=models,
        outcomes=some(outcomes),
        num_objects=counts,
    ),
    "get_scene": scenes,
    "list_scenes": build(types.ScenePage, scenes=some(scenes), next_page_token=words),
    "delete_scene": counts,
    "search_scenes": build(types.SceneHits, hits=some(scene_hits), report=reports),
    "search_objects": build(types.ObjectHits, hits=some(object_hits), report=reports),
    "match_objects": matches,
    "localize": build(
        types.Belief,
        observation=longs,
        beliefs=some(beliefs),
        unknown_probability=singles,
        model=models,
        degraded=degraded,
    ),
    "embed": build(
        types.EmbedResult,
        embeddings=embeddings(st.sampled_from(types.Space)),
        model=models,
        degraded=degraded,
    ),
    "start_reindex": reindexes,
    "get_reindex": reindexes,
    "watch_reindex": build(types.ReindexEvent, offset=longs, reindex=reindexes, log=words),
    "cancel_reindex": reindexes,
    "fuse": build(types.FuseResult, items=some(fused_items), model=models),
}
