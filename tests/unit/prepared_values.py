"""Prepared scenes of random content, for tests of the format and of what reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.data.preparation.clouds import color_sums
from xscene.geometry.frames import Frame, Points
from xscene.geometry.projection import Intrinsics
from xscene.prepared.dataset import SCENES, DatasetRecord, SceneEntry, merged_color_sums, write_dataset
from xscene.prepared.records import (
    CadRecord,
    FloorplanRecord,
    ObjectRecord,
    ReferralRecord,
    SceneRecord,
    Sighting,
    SourceReport,
    Split,
    ViewRecord,
    object_presence,
    scene_presence,
)
from xscene.prepared.scene import Content, SceneCloud, open_scene, write_scene
from xscene.types.vocabulary import Modality

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
LENS = Intrinsics(fx=50.0, fy=50.0, cx=31.5, cy=23.5, width=64, height=48)


SOURCE = SourceReport(
    num_vertices=99,
    num_objects=2,
    small_object_ids=(),
    num_views=3,
    untracked_view_ids=("2",),
    num_referrals=2,
)


def an_object(object_id: int, present: tuple[Modality, ...]) -> ObjectRecord:
    """An object anywhere."""
    return ObjectRecord(
        object_id=object_id,
        label="chair",
        nyu40=5,
        asset_id=None,
        mean=(0.0, 1.0, 2.0),
        size=(1.0, 1.0, 1.0),
        num_vertices=60,
        box=None,
        present=present,
    )


def made(
    scene_id: str = "room00",
    *,
    num_points: int = 12,
    object_ids: tuple[int, ...] = (3, 7),
    num_views: int = 2,
    seen: tuple[int, ...] = (7,),
    said: tuple[int, ...] = (3, 3),
    modelled: tuple[int, ...] = (7,),
    num_plans: int = 1,
    colored: bool = True,
    seed: int = 0,
    split: Split = Split.TRAIN,
) -> tuple[SceneRecord, Content]:
    """A scene of random content, and all that a record says of it."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(num_points, 3)).astype(np.float32)
    colors = generator.integers(0, 256, (num_points, 3), dtype=np.uint8) if colored else None
    ids = np.resize(np.array([*object_ids, -1], dtype=np.int32), num_points)
    sightings = tuple(Sighting(object_id=o, view_id="0", votes=9, box_px=(1, 2, 3, 4)) for o in seen)
    referrals = tuple(ReferralRecord(text=f"é {o}", target_id=o, anchor_ids=(), relation="") for o in said)
    cad = tuple(
        CadRecord(object_id=o, model_id="m", aligned_from_canonical=EYE, scale=(1.0, 2.0, 3.0))
        for o in modelled
    )
    views = tuple(
        ViewRecord(view_id=str(v), camera_to_aligned=EYE, intrinsics=LENS) for v in range(num_views)
    )
    plans = tuple(FloorplanRecord(style=f"s{p}", pixels_from_aligned=None) for p in range(num_plans))
    sums = color_sums(colors)
    has = object_presence(object_ids, referrals=referrals, sightings=sightings, cad=cad)
    objects = tuple(an_object(o, p) for o, p in zip(object_ids, has, strict=True))
    record = SceneRecord(
        scene_id=scene_id, place_id="place", dataset="made",
        split=split, is_reference=True, label="office", aligned_from_raw=EYE,
        settings_digest="0" * 64,
        present=scene_presence(
            referrals=referrals, views=views, floorplans=plans, num_points=num_points, cad=cad
        ),
        num_points=num_points, color_sums=sums, objects=objects, views=views, num_crop_levels=3,
        sightings=sightings, floorplans=plans, cad=cad, num_cad_points=4, referrals=referrals, rescan=None,
        source=SOURCE,
    )  # fmt: skip

    content = Content(
        cloud=SceneCloud(points=Points(points, Frame.ALIGNED), colors=colors, object_ids=ids),
        views=pictures(generator, num_views),
        crops=pictures(generator, 3 * len(seen)),
        floorplans=pictures(generator, num_plans),
        cad=generator.normal(size=(len(cad), 4, 3)).astype(np.float32) if cad else None,
    )
    return record, content


def pictures(generator: np.random.Generator, count: int) -> list[bytes]:
    """Bytes that stand for encoded pictures."""
    return [generator.bytes(int(generator.integers(1, 40))) for _ in range(count)]


def made_dataset(root: Path, *scene_ids: str) -> Path:
    """A small data set of such scenes."""
    scenes = {}
    records = []
    for at, scene_id in enumerate(scene_ids or ("room00", "room01")):
        record, content = made(scene_id, seed=at)
        records.append(write_scene(root / SCENES / scene_id, record, content))
        scenes[scene_id] = SceneEntry.of(open_scene(root / SCENES / scene_id))
    write_dataset(
        root,
        DatasetRecord(
            name="made", complete=True, settings={"voxel_m": 0.02}, scenes=scenes,
            color_sums=merged_color_sums(records),
        ),
    )  # fmt: skip
    return root
