"""Cheap cues on made scenes: colours, footprints and words, each against what was put in."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.unit.prepared_values import made
from trainer.data.probes.cues import (
    BINS,
    CELL_M,
    SIDE_CELLS,
    Source,
    cloud_footprint,
    cues_of,
    enclosed,
    footprint_iou,
    histogram,
    plan_footprint,
    word_likeness,
    word_weights,
    words_of,
)
from trainer.data.probes.gallery import Member
from trainer.data.probes.shortcuts import probes, shortcuts
from trainer.data.probes.trials import Bootstrap
from xscene.geometry.frames import Frame, Points
from xscene.prepared.records import FloorplanRecord
from xscene.prepared.scene import SceneCloud, open_scene, write_scene

PX_PER_M = 20.0
MARGIN_PX = 7


def encoded(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def plan(width_m: float, depth_m: float) -> Image.Image:
    """Thin walls, a table inside that does not matter."""
    size = (round(width_m * PX_PER_M), round(depth_m * PX_PER_M))
    image = Image.new("RGB", (size[0] + 2 * MARGIN_PX, size[1] + 2 * MARGIN_PX), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((MARGIN_PX, MARGIN_PX, MARGIN_PX + size[0] - 1, MARGIN_PX + size[1] - 1), outline="black")
    pen.rectangle((30, 30, 40, 50), outline="#d0d0d0")
    return image


def walls(width_m: float, depth_m: float, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points along four walls, 2 cm apart, and none inside."""
    x, y = np.arange(0, width_m, 0.02), np.arange(0, depth_m, 0.02)
    points = [
        *((at, side, 1.0) for at in x for side in (0.0, depth_m)),
        *((side, at, 1.0) for at in y for side in (0.0, width_m)),
    ]
    return np.add(points, (*shift, 0.0))


def a_scene(folder, scene_id, color, size_m, words):
    """A scene of one colour in views and cloud, with a plan of its size."""
    record, content = made(scene_id, num_plans=1, num_views=2)
    xyz = walls(*size_m, shift=(3.0, -1.0)).astype(np.float32)
    colors = np.tile(np.array(color, dtype=np.uint8), (len(xyz), 1))
    ids = np.resize(np.array([3, 7], dtype=np.int32), len(xyz))
    matrix = ((PX_PER_M, 0.0, 0.0), (0.0, -PX_PER_M, 0.0), (0.0, 0.0, 1.0))
    record = replace(
        record,
        num_points=len(xyz),
        floorplans=(FloorplanRecord(style="line", pixels_from_aligned=matrix),),
        referrals=tuple(replace(each, text=words) for each in record.referrals),
    )
    content = replace(
        content,
        cloud=SceneCloud(points=Points(xyz, Frame.ALIGNED), colors=colors, object_ids=ids),
        views=[encoded(Image.new("RGB", (64, 48), color))] * 2,
        floorplans=[encoded(plan(*size_m))],
    )
    write_scene(folder / scene_id, record, content)
    return open_scene(folder / scene_id)


def test_cues_are_what_the_scene_is_made_of(tmp_path):
    found = cues_of(a_scene(tmp_path, "one", (255, 128, 0), (4.0, 3.0), "the small Chair"))
    for source in (Source.VIEWS, Source.CLOUD):
        np.testing.assert_allclose(found.means[source], (1.0, 128 / 255, 0.0))
        assert found.histograms[source].max() == 1.0
    assert found.words[Source.SENTENCES] == {"the", "small", "chair"}
    assert found.words[Source.CLOUD] == {"chair"}
    # Two objects in the cloud, one of them in a view, one told about.
    assert list(found.num_objects.values()) == [1, 2, 1]
    area_m2 = {source: each.sum() * CELL_M**2 for source, each in found.footprints.items()}
    assert area_m2 == pytest.approx({Source.FLOORPLAN: 12.0, Source.CLOUD: 12.0}, abs=0.8)
    assert footprint_iou(*found.footprints.values()) > 0.94


def test_a_histogram_counts_as_a_loop_does():
    colors = np.random.default_rng(0).random((200, 3)) * 1.2
    slow = np.zeros((BINS, BINS, BINS))
    for color in colors:
        slow[tuple(min(int(channel * BINS), BINS - 1) for channel in color)] += 1
    np.testing.assert_allclose(histogram(colors), slow.reshape(-1) / 200)


def test_footprints_are_the_same_wherever_the_room_lies_and_however_it_is_turned():
    here, there = cloud_footprint(walls(5, 2)), cloud_footprint(walls(5, 2, shift=(40.0, -7.0)))
    assert footprint_iou(here, there) > 0.95
    assert footprint_iou(here, cloud_footprint(walls(2, 5))) > 0.95
    assert footprint_iou(here, cloud_footprint(walls(3, 3))) < 0.7


def test_a_plan_larger_than_the_footprint_is_cut_not_refused():
    side_m = SIDE_CELLS * CELL_M * 1.2
    matrix = np.array(((PX_PER_M, 0, 0), (0, -PX_PER_M, 0), (0, 0, 1)))
    assert plan_footprint(plan(side_m, side_m), matrix).all()


def test_what_ink_encloses_is_found_by_walking_from_the_border():
    ink = np.zeros((5, 7), dtype=bool)
    ink[1:4, 1:5] = True
    ink[2, 2:4] = False
    ink[0, 6] = True
    filled = ink.copy()
    filled[2, 2:4] = True
    np.testing.assert_array_equal(enclosed(ink), filled)
    ink[2, 4] = False
    np.testing.assert_array_equal(enclosed(ink), ink)


def test_rare_words_weigh_more_and_words_of_every_text_nothing():
    documents = [words_of(["the chair"]), words_of(["the bed"]), words_of(["the chair, a piano"])]
    weights = word_weights(documents)
    assert weights["the"] == 0
    assert weights["piano"] > weights["chair"] > 0
    assert word_likeness(documents[0], documents[0], weights) == pytest.approx(1.0)
    assert word_likeness(documents[0], documents[1], weights) == 0
    assert 0 < word_likeness(documents[0], documents[2], weights) < 1
    assert word_likeness(frozenset({"unheard"}), documents[0], weights) == 0


def test_every_cue_finds_the_scenes_that_differ_in_it(tmp_path):
    scenes = [
        a_scene(tmp_path, "one", (250, 30, 30), (4.0, 3.0), "a red chair"),
        a_scene(tmp_path, "two", (30, 30, 250), (6.0, 2.5), "a blue sofa"),
    ]
    members = [
        Member(scan_id=name, place_id=name, look_alikes=at, furniture=name)
        for at, name in enumerate(scene.record.scene_id for scene in scenes)
    ]
    cues = [cues_of(scene) for scene in scenes]
    for probe in probes({})["scene"]:
        scores = probe.scores(cues)
        differs = probe.cue in ("mean colour", "footprint IoU") or probe.name.endswith("views to cloud")
        if differs and probe.cue not in ("object count", "balanced histogram"):
            assert (scores.argmax(axis=1) == (0, 1)).all(), probe.name
    # No place was scanned twice here, so the twins of both scenes are added as rescans.
    twice = [replace(each, scan_id=f"{each.scan_id}_01") for each in members]
    found = shortcuts([*cues, *cues], [*members, *twice], {}, Bootstrap(num_draws=50))
    assert found["rescan"]["mean colour: cloud to cloud"].wanted.first.value == 1.0
    assert found["rescan"]["object count: cloud to cloud"].wanted.first.value == pytest.approx(1 / 3)
    assert found["scene"]["mean colour: views to cloud"].wanted.first.value == pytest.approx(1 / 2)
