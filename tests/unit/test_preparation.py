"""Preparation of one scan, compared with the slow way and with what is known of the synthetic scene."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fixtures_scans import CABINET, CUBE_TEXT, MadeScan, MadeView, made_scan
from tests.fixtures_scene import COLORS
from trainer.data.preparation.clouds import color_sums, thinned
from trainer.data.preparation.floorplans import draw
from trainer.data.preparation.models import MODEL_LIMITS, read_model, surface_points
from trainer.data.preparation.pictures import decoded, fitting, grown_box
from trainer.data.preparation.scenes import prepare_scan
from trainer.data.preparation.settings import Settings
from trainer.data.preparation.sightings import best_sightings
from trainer.data.scans import DepthImage
from xscene.errors import InvalidInput, LimitExceeded
from xscene.geometry.frames import Frame, Points
from xscene.geometry.projection import project
from xscene.prepared.records import NO_OBJECT
from xscene.prepared.scene import Scene, open_scene
from xscene.types.vocabulary import Modality

SETTINGS = Settings(min_votes=10, border_px=0)


def prepared(folder: Path, settings: Settings = SETTINGS, **options: object) -> tuple[MadeScan, Scene]:
    scan = made_scan(folder / "raw", **options)
    prepare_scan(scan, "made", folder / "scenes", settings)
    return scan, open_scene(folder / "scenes" / "room00")


def test_a_scan_with_everything_becomes_a_scene_with_everything(tmp_path):
    _, scene = prepared(tmp_path)
    record = scene.record
    assert record.present == (
        Modality.TEXT,
        Modality.IMAGE,
        Modality.FLOORPLAN,
        Modality.POINT_CLOUD,
        Modality.MESH,
    )
    assert [each.label for each in record.objects] == ["floor", "wall", "cabinet"]
    assert record.objects[CABINET].present == (
        Modality.TEXT,
        Modality.IMAGE,
        Modality.POINT_CLOUD,
        Modality.MESH,
    )
    assert (record.label, record.split, record.place_id) == ("office", "train", "place0")
    assert record.source.untracked_view_ids == ("40",)
    # The lamp is no object of the scan, so a sentence about it is left out.
    assert (len(record.referrals), record.source.num_referrals) == (3, 4)


def test_a_scan_with_nothing_but_a_cloud_has_nothing_else(tmp_path):
    scan = made_scan(tmp_path / "raw", colored=False, walls=False, models=False)
    bare = type("Bare", (MadeScan,), {"views": lambda _: (), "referrals": lambda _: ()})
    bare_scan = bare(**{f.name: getattr(scan, f.name) for f in dataclasses.fields(scan)})
    prepare_scan(bare_scan, "made", tmp_path, SETTINGS)
    scene = open_scene(tmp_path / "room00")
    assert scene.record.present == (Modality.POINT_CLOUD,)
    assert scene.record.color_sums is None
    assert scene.cloud().colors is None
    assert scene.crops() == scene.views() == scene.floorplans() == []


def test_locations_are_means_and_sizes_of_all_vertices_in_the_aligned_frame(tmp_path):
    scan, scene = prepared(tmp_path)
    surface, turn = scan.surface(), scan.aligned_from_raw()
    for each in scene.record.objects:
        own = surface.points.xyz[surface.object_ids == each.object_id]
        aligned = np.array([turn[:3, :3] @ point + turn[:3, 3] for point in own])
        np.testing.assert_allclose(each.mean, aligned.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(each.size, aligned.max(axis=0) - aligned.min(axis=0), atol=1e-9)
        assert each.num_vertices == len(own)
    box = scene.record.objects[CABINET].box
    np.testing.assert_allclose(box.centre, (0.5, -0.5, 0.4), atol=1e-9)
    np.testing.assert_allclose(box.size, (0.6, 0.6, 0.6), atol=1e-9)


@pytest.mark.parametrize(("fewest", "kept"), [(245, [0, 1, 2]), (246, [0, 1]), (442, [])])
def test_objects_of_too_few_vertices_are_left_out_and_their_points_belong_to_none(tmp_path, fewest, kept):
    settings = dataclasses.replace(SETTINGS, min_object_vertices=fewest)
    _, scene = prepared(tmp_path, settings)
    assert list(scene.record.object_ids) == kept
    assert set(scene.cloud().object_ids.tolist()) - {NO_OBJECT} == set(kept)
    assert scene.record.source.small_object_ids == tuple(i for i in range(3) if i not in kept)
    if CABINET not in kept:
        assert scene.record.referrals == scene.record.cad == ()


@given(
    cells=st.lists(st.tuples(*[st.integers(-3, 3)] * 3, st.integers(-1, 2)), min_size=1, max_size=40),
    voxel_m=st.sampled_from([0.02, 0.05, 0.3]),
)
def test_thinning_keeps_the_first_point_of_each_object_in_each_voxel(cells, voxel_m):
    points = np.array([cell[:3] for cell in cells]) * 0.021 + 0.001
    ids = np.array([cell[3] for cell in cells], dtype=np.int32)
    first: dict[tuple, int] = {}
    for row, (point, object_id) in enumerate(zip(points, ids, strict=True)):
        first.setdefault((*np.floor(point / voxel_m).astype(int), object_id), row)
    kept = thinned(Points(points, Frame.ALIGNED), ids, Settings(voxel_m=voxel_m))
    assert kept.tolist() == sorted(first.values())


def test_colour_sums_are_those_of_a_loop():
    colors = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    sums = color_sums(colors)
    for channel in range(3):
        column = [int(row[channel]) for row in colors]
        assert sums.sums[channel] == sum(column)
        assert sums.squares[channel] == sum(value * value for value in column)


def test_votes_of_drawn_objects_are_their_pixels(tmp_path):
    scan, scene = prepared(tmp_path)
    drawn = {view.view_id: view.object_pixels() for view in scan.views()}
    assert len(scene.record.sightings) >= 5
    for sighting in scene.record.sightings:
        rows, columns = np.nonzero(drawn[sighting.view_id] == sighting.object_id)
        assert sighting.votes == len(rows)
        assert sighting.box_px == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    votes = [s.votes for s in scene.record.sightings if s.object_id == CABINET]
    assert votes == sorted(votes, reverse=True)


def test_votes_of_points_are_those_that_the_depth_does_not_hide(tmp_path):
    scan, scene = prepared(tmp_path, draws_objects=False)
    cloud, turn = scene.cloud(), scan.aligned_from_raw()
    raw = Points((cloud.points.xyz - turn[:3, 3]) @ turn[:3, :3], Frame.RAW)
    views = {view.view_id: view for view in scan.views()}
    for sighting in scene.record.sightings:
        view = views[sighting.view_id]
        seen = project(
            raw, view.camera_to_world, view.intrinsics, view.depth().metres, threshold=0.05, border_px=0
        )
        mine = seen.visible & (cloud.object_ids == sighting.object_id)
        assert abs(sighting.votes - mine.sum()) <= 2
    assert {s.object_id for s in scene.record.sightings} == {0, 1, 2}


def test_the_border_is_one_of_the_picture_whatever_the_size_of_the_depth(tmp_path):
    scan = made_scan(tmp_path, draws_objects=False)
    surface, whole = scan.surface(), scan.views()[0]

    class Halved(MadeView):
        def depth(self):
            depth = super().depth()
            return DepthImage(depth.metres[::4, ::4], depth.intrinsics.resized(16, 12))

    view = Halved(**vars(whole))
    settings = dataclasses.replace(SETTINGS, border_px=5)
    found = best_sightings([view], surface.points, surface.object_ids, (0, 1, 2), settings)
    small = view.depth()
    pose = view.camera_to_world
    in_picture = project(surface.points, pose, view.intrinsics, threshold=0, border_px=5).visible
    in_depth = project(
        surface.points, pose, small.intrinsics, small.metres, threshold=0.05, border_px=0
    ).visible
    votes = {at: int((in_picture & in_depth & (surface.object_ids == at)).sum()) for at in range(3)}
    assert {each.object_id: each.votes for each in found} == {a: v for a, v in votes.items() if v >= 10}
    assert len(found) >= 2
    # A border of 5 pixels of the depth would leave two rows of twelve.
    assert max(each.box_px[3] for each in found) > 4 * (12 - 5) + 1


def test_without_depth_the_cabinet_hides_what_is_behind_it(tmp_path):
    scan = made_scan(tmp_path, draws_objects=False, has_depth=False)
    surface = scan.surface()
    view = scan.views()[0]

    def votes(settings: Settings) -> dict[int, int]:
        found = best_sightings([view], surface.points, surface.object_ids, (0, 1, 2), settings)
        return {each.object_id: each.votes for each in found}

    open_, hidden = votes(dataclasses.replace(SETTINGS, occlusion_cell_px=1)), votes(SETTINGS)
    everything = project(
        surface.points, view.camera_to_world, view.intrinsics, threshold=0.0, border_px=0
    ).visible
    assert hidden[1] < open_[1] <= (everything & (surface.object_ids == 1)).sum()
    assert hidden[CABINET] > 50


def test_only_the_best_views_are_kept_and_faint_ones_are_not(tmp_path):
    _, one = prepared(tmp_path / "one", dataclasses.replace(SETTINGS, num_crop_views=1))
    assert [len(rows) for rows in one.sightings_of.values()] == [1, 1, 1]
    _, none = prepared(tmp_path / "none", dataclasses.replace(SETTINGS, min_votes=10_000))
    assert none.record.sightings == ()
    assert Modality.IMAGE not in none.record.objects[0].present


def test_crops_show_their_object_and_grow_by_level(tmp_path):
    _, scene = prepared(tmp_path)
    row = scene.sightings_of[CABINET][0]
    levels = [np.asarray(Image.open(io.BytesIO(crop)).convert("RGB")) for crop in scene.crops([row])]
    assert [level.shape for level in levels] == [(224, 224, 3)] * 3
    near = [(np.abs(level.astype(int) - COLORS[CABINET]).max(axis=-1) < 30).mean() for level in levels]
    assert near[0] > 0.7
    assert near[0] > near[1] > near[2]


@pytest.mark.parametrize(
    ("box", "share", "grown"),
    [
        ((10, 10, 20, 30), 0.0, (10, 10, 20, 30)),
        ((10, 10, 20, 30), 0.2, (8, 6, 22, 34)),
        ((0, 40, 64, 48), 0.4, (0, 37, 64, 48)),
    ],
)
def test_a_box_grows_by_its_own_sides_within_the_picture(box, share, grown):
    assert grown_box(box, share, (64, 48)) == grown


def test_views_lie_far_apart_carry_their_pose_and_skip_lost_tracking(tmp_path):
    scan, scene = prepared(tmp_path)
    assert sorted(each.view_id for each in scene.record.views) == ["0", "20"]
    views = {view.view_id: view for view in scan.views()}
    for kept, encoded in zip(scene.record.views, scene.views(), strict=True):
        view = views[kept.view_id]
        np.testing.assert_allclose(kept.pose(), scan.aligned_from_raw() @ view.camera_to_world, atol=1e-12)
        assert (encoded, kept.intrinsics) == (view.color(), view.intrinsics)


def test_of_many_views_those_that_are_looked_at_are_evenly_spread(tmp_path):
    scan = made_scan(tmp_path / "raw")
    view = scan.views()[0]
    many = [dataclasses.replace(view, view_id=str(at)) for at in range(30)]
    crowded = type("Crowded", (MadeScan,), {"views": lambda _: many})
    crowded_scan = crowded(**{f.name: getattr(scan, f.name) for f in dataclasses.fields(scan)})
    settings = dataclasses.replace(SETTINGS, max_frames=4, num_views=30)
    prepare_scan(crowded_scan, "made", tmp_path, settings)
    record = open_scene(tmp_path / "room00").record
    assert {each.view_id for each in record.views} == {"0", "10", "19", "29"}
    assert {each.view_id for each in record.sightings} <= {"0", "10", "19", "29"}
    assert record.source.num_views == 30


def test_large_views_are_reduced_with_their_intrinsics(tmp_path):
    _, scene = prepared(tmp_path, dataclasses.replace(SETTINGS, max_view_px=32))
    for view, encoded in zip(scene.record.views, scene.views(), strict=True):
        assert Image.open(io.BytesIO(encoded)).size == (32, 24)
        assert view.intrinsics == made_scan(tmp_path / "b").scene.intrinsics.resized(32, 24)


def test_pictures_that_are_too_large_or_none_are_refused_by_name():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    with pytest.raises(LimitExceeded, match="view 7: 1200 pixels, the limit is 1199"):
        decoded(buffer.getvalue(), "view 7", 1199)
    for torn in (b"", b"GIF89a", buffer.getvalue()[:60]):
        with pytest.raises(InvalidInput, match="view 7: is no picture that can be read"):
            decoded(torn, "view 7", 1200)
    assert fitting(Image.new("RGB", (400, 3)), 100).size == (100, 2)


def test_a_model_is_read_with_its_polygons_cut_and_glb_is_turned_up(tmp_path):
    path = tmp_path / "cube.obj"
    path.write_text(CUBE_TEXT)
    assert read_model(path).area_m2 == pytest.approx(6.0)
    (tmp_path / "cube.glb").write_bytes(trimesh.load(path).export(file_type="glb"))
    corners = read_model(tmp_path / "cube.glb").parts[0].triangles.reshape(-1, 3)
    # The file has y up, and the cube stood on z 0 from -0.5 to 0.5 along y.
    np.testing.assert_allclose(corners.min(axis=0), (-0.5, -1, -0.5), atol=1e-6)
    np.testing.assert_allclose(corners.max(axis=0), (0.5, 0, 0.5), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.obj", "v 0 0 x\n", "a.obj"),
        ("a.obj", "v 0 0 0\n", "a.obj"),
        ("a.obj", "v 0 0 0\nf 1 2 3\n", "a.obj: OBJ that cannot be decoded"),
        ("a.obj", "mtllib ../../../x.mtl\n" + CUBE_TEXT, "'../../../x.mtl' lies elsewhere than the model"),
        ("a.obj", "mtllib /etc/passwd\n" + CUBE_TEXT, "'/etc/passwd' lies elsewhere than the model"),
        ("a.stl", "solid", r"a.stl: is none of GLB, PLY, OBJ, but STL"),
    ],
)
def test_a_broken_model_is_refused_by_name(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_model(tmp_path / name)


def test_a_models_texture_may_lie_in_the_folder_beside_and_is_bounded(tmp_path):
    path = tmp_path / "chair/models/model.obj"
    path.parent.mkdir(parents=True)
    with_texture = re.sub(r"(?m)^f (.) (.) (.) (.)$", r"f \1/1 \2/1 \3/1 \4/1", CUBE_TEXT)
    path.write_text(f"mtllib m.mtl\nvt 0 0\nusemtl red\n{with_texture}")
    path.with_name("m.mtl").write_text("newmtl red\nmap_Kd ../images/red.png\n")
    bare = surface_points(read_model(path), "chair", SETTINGS)
    assert bare.colors is None
    (tmp_path / "chair/images").mkdir()
    Image.new("RGB", (4, 4), (250, 10, 10)).save(tmp_path / "chair/images/red.png")
    painted = surface_points(read_model(path), "chair", SETTINGS)
    np.testing.assert_array_equal(painted.xyz, bare.xyz)
    assert np.unique(painted.colors, axis=0).tolist() == [[250, 10, 10]]
    with pytest.raises(LimitExceeded, match=r"red.png: 16 pixels, the limit is 15"):
        read_model(path, dataclasses.replace(MODEL_LIMITS, max_texture_pixels=15))


def test_a_models_points_are_the_same_in_every_scene_and_in_its_own_frame(tmp_path):
    _, scene = prepared(tmp_path)
    points = scene.cad(0)
    assert (len(points), points.frame) == (1024, Frame.CANONICAL)
    again = surface_points(read_model(tmp_path / "raw/cube.obj"), "cube", SETTINGS)
    np.testing.assert_array_equal(points.xyz, again.xyz)
    assert scene.cad_colors(0) is None
    on_face = np.isclose(np.abs(points.xyz[:, :2]), 0.5).any(axis=1) | np.isin(points.xyz[:, 2], (0, 1))
    assert on_face.all()
    (model,) = scene.record.cad
    placed = np.array(model.aligned_from_canonical) @ np.array((0, 0, 0.5 * model.scale[2], 1))
    np.testing.assert_allclose(placed[:3], scene.record.objects[CABINET].box.centre, atol=1e-9)


@pytest.mark.parametrize("text", [None, "v 0 0 x\n", "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n"])
def test_a_model_that_cannot_be_read_is_absent_and_named(tmp_path, caplog, text):
    scan = made_scan(tmp_path / "raw")
    path = tmp_path / "raw/cube.obj"
    path.unlink() if text is None else path.write_text(text)
    prepare_scan(scan, "made", tmp_path, SETTINGS)
    record = open_scene(tmp_path / "room00").record
    assert (record.cad, Modality.MESH in record.present, len(record.objects)) == ((), False, 3)
    (said,) = caplog.records
    assert (said.message, said.scan, said.num_broken) == ("models cannot be read", "room00", 1)
    assert said.models.startswith("cube (cube.obj: ")


def test_a_floorplan_is_dark_on_white_and_its_matrix_points_at_what_it_shows(tmp_path):
    _, scene = prepared(tmp_path)
    (plan,) = scene.record.floorplans
    pixels = np.asarray(Image.open(io.BytesIO(scene.floorplans()[0])).convert("L"))
    matrix = np.array(plan.pixels_from_aligned)

    def at(x: float, y: float) -> int:
        column, row, _ = np.rint(matrix @ (x, y, 1)).astype(int)
        return int(pixels[row, column])

    # Raw (x, y) lies at (1.5 - y, x - 0.5): a wall's middle, the cabinet's, and the free floor.
    assert at(-0.5, -0.5) < 40
    assert 40 < at(0.5, -0.5) < 220
    assert at(2.5, 0.5) == 255
    margin = SETTINGS.floorplan_margin_px
    for edge in (
        pixels[: margin - 2],
        pixels[-margin + 2 :],
        pixels[:, : margin - 2],
        pixels[:, -margin + 2 :],
    ):
        assert (edge == 255).all()
    assert max(pixels.shape) <= 4 * SETTINGS.floorplan_px_per_m + 2 * margin + 1


def test_a_plan_is_drawn_of_models_alone_and_of_nothing_not_at_all(tmp_path):
    _, furnished = prepared(tmp_path / "a", walls=False)
    assert [each.style for each in furnished.record.floorplans] == ["drawn"]
    assert draw(None, (), np.eye(4), SETTINGS) is None


def test_a_large_building_fits_the_largest_plan(tmp_path):
    layout = made_scan(tmp_path).layout()
    wide = dataclasses.replace(layout, corners=Points(layout.corners.xyz * 100, Frame.RAW))
    plan = draw(wide, (), np.eye(4), SETTINGS)
    assert max(Image.open(io.BytesIO(plan.encoded)).size) <= SETTINGS.max_floorplan_px + 1


def test_a_rescan_says_what_it_is_of(tmp_path):
    _, scene = prepared(tmp_path, rescan_of="room09")
    rescan = scene.record.rescan
    assert (rescan.reference_scene_id, rescan.added_ids, rescan.removed_ids) == ("room09", (1,), (7,))
    assert [each.object_id for each in rescan.motions] == [CABINET]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["voxel=1"], "voxel=1: needs NAME=VALUE"),
        (["voxel_m"], "voxel_m: needs NAME=VALUE"),
        (["voxel_m=x"], "voxel_m: is 'x', needs float"),
        (["voxel_m=0"], "voxel_m: 0.0, needs a finite number of more than 0"),
        (["voxel_m=inf"], "voxel_m: inf"),
        (["crop_growth=-0.1"], "crop_growth: -0.1, needs a finite number of at least 0"),
        (["jpeg_quality=101"], "jpeg_quality: 101, needs at most 100"),
        (["num_cad_points=6000"], "num_cad_points: 6000, needs at most num_surface_points, 5000"),
    ],
)
def test_a_wrong_setting_is_named(words, message):
    with pytest.raises(InvalidInput, match=message):
        Settings.from_words(words)


def test_settings_come_back_from_their_words_and_from_json():
    told = Settings.from_words(["voxel_m=0.05", "num_views=7"])
    assert told == Settings(voxel_m=0.05, num_views=7) == Settings.from_json(told.to_json())
    assert told.digest() != Settings().digest() == Settings(voxel_m=0.02).digest()
