"""The domain types: equal by content, refuse what cannot be right, easy to make."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from xscene import types
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox
from xscene.types.values import Value

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


def cloud(**changes):
    return types.PointCloud.from_arrays(changes.pop("points", [[1, 2, 3], [4, 5, 6]]), **changes)


def test_values_with_arrays_are_equal_when_all_numbers_are():
    assert cloud(colors=[[1, 2, 3], [4, 5, 6]]) == cloud(colors=[[1, 2, 3], [4, 5, 6]])
    assert types.SceneContent(point_cloud=cloud()) == types.SceneContent(point_cloud=cloud())


@pytest.mark.parametrize(
    "other",
    [
        cloud(points=[[1, 2, 3], [4, 5, 7]]),
        cloud(points=[[1, 2, 3]]),
        cloud(colors=[[1, 2, 3], [4, 5, 6]]),
        cloud(frame=types.Frame.ALIGNED),
        "a cloud",
    ],
)
def test_values_that_differ_anywhere_are_not_equal(other):
    assert cloud() != other


def test_arrays_inside_tuples_and_mappings_count_for_equality():
    one, same, other = ({types.Modality.TEXT: np.array([x], np.float32)} for x in (1, 1, 2))
    assert types.FuseQuery(items=(one,)) == types.FuseQuery(items=(same,))
    assert types.FuseQuery(items=(one,)) != types.FuseQuery(items=(other,))
    assert types.FuseQuery(items=(one,)) != types.FuseQuery(items=(one, one))


def test_values_with_arrays_cannot_be_hashed():
    assert isinstance(cloud(), Value)
    with pytest.raises(TypeError, match="unhashable"):
        hash(cloud())


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: types.PointCloud(points=np.zeros((4, 3))), "points"),
        (lambda: types.PointCloud(points=np.zeros((4, 2), np.float32)), "points"),
        (lambda: cloud(colors=np.zeros((1, 3), np.uint8)), "colors"),
        (lambda: cloud(colors=[[0, 0, 256], [0, 0, 0]]), "colors"),
        (lambda: cloud(colors=[[0.5, 0.5, 0.5], [1, 1, 1]]), "colors"),
        (types.Image, "encoded"),
        (lambda: types.Image(encoded=PNG, pixels=np.zeros((1, 1, 3), np.uint8)), "encoded"),
        (lambda: types.Image(encoded=b"BM a bitmap"), "encoded"),
        (lambda: types.Image(pixels=np.zeros((2, 2), np.uint8)), "pixels"),
        (lambda: types.Image(encoded=PNG, camera_to_world=np.eye(3)), "camera_to_world"),
        (lambda: types.SceneContent(texts="a kitchen"), "texts"),
        (lambda: types.SceneContent(images=types.Image(encoded=PNG)), "images"),
        (lambda: types.SceneHeader(scene_id="a", captured_at=datetime(2026, 1, 1)), "captured_at"),
        (lambda: types.SceneHeader(scene_id="a", revision=-1), "revision"),
        (lambda: types.SceneHeader(scene_id="a", revision=1 << 64), "revision"),
        (lambda: types.SearchOptions(limit=0), "limit"),
        (lambda: types.SearchOptions(limit=-1), "limit"),
        (lambda: types.LocalizeOptions(limit=1 << 32), "limit"),
        (lambda: types.SceneListing(page_size=-5), "page_size"),
        (lambda: types.Embedding.of(types.Modality.TEXT, types.Space.SCENE, [[1, 2]]), "values"),
        (
            lambda: types.ObjectFeatures(
                modality=types.Modality.TEXT,
                rows=np.arange(2, dtype=np.uint32),
                features=np.zeros((3, 4), np.float32),
            ),
            "features",
        ),
    ],
)
def test_a_value_that_cannot_be_right_names_its_field(make, field):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_cloud_takes_whole_numbers_as_colours():
    made = cloud(points=np.ones((2, 3)), colors=np.array([[0, 128, 255]] * 2, np.int64))
    assert made.points.dtype == np.float32
    assert made.colors.tolist() == [[0, 128, 255]] * 2
    assert (len(made), made.num_bytes) == (2, 30)


def test_pictures_and_meshes_are_read_from_disk_as_they_lie_there(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    image = types.Image.from_file(tmp_path / "a.png", frame_id="7", camera_to_world=np.eye(4))
    mesh = types.Mesh.from_file(tmp_path / "b.ply", unit_m=0.01)
    assert (image.encoded, image.format, image.num_bytes) == (PNG, types.ImageFormat.PNG, 16)
    assert (mesh.format, mesh.unit_m, mesh.num_bytes) == (types.MeshFormat.PLY, 0.01, 21)


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\1\2\3")
    with pytest.raises(InvalidInput, match="JPEG, PNG or WebP"):
        types.Image.from_file(tmp_path / "a")
    with pytest.raises(InvalidInput, match="GLB, PLY or OBJ"):
        types.Mesh.from_file(tmp_path / "a")


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (b"\xff\xd8\xff\xe0", types.ImageFormat.JPEG),
        (PNG, types.ImageFormat.PNG),
        (b"RIFF\x10\0\0\0WEBPVP8 ", types.ImageFormat.WEBP),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"GIF89a", None),
        (b"", None),
    ],
)
def test_a_pictures_format_is_told_from_its_first_bytes(first, found):
    assert types.ImageFormat.of(first) is found


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (b"glTF\x02\0\0\0", types.MeshFormat.GLB),
        (b"ply\r\nformat", types.MeshFormat.PLY),
        (b"# made by hand\nv 0 0 0\n", types.MeshFormat.OBJ),
        (b"PK\x03\x04\0\0", None),
        (b"", None),
    ],
)
def test_a_meshs_format_is_told_from_its_first_bytes(first, found):
    assert types.MeshFormat.of(first) is found


def test_content_names_its_modalities_in_order():
    assert types.SceneContent().modalities == ()
    content = types.SceneContent(texts=("a",), floorplan=types.Image(encoded=PNG), point_cloud=cloud())
    assert content.modalities == ("text", "floorplan", "point_cloud")
    assert types.ObjectContent(images=(types.Image(encoded=PNG),)).modalities == (types.Modality.IMAGE,)


def test_a_header_is_completed_from_what_it_says():
    header = types.SceneHeader(scene_id="a")
    done = header.resolved(MOMENT)
    assert (done.place_id, done.captured_at) == ("a", MOMENT)
    assert done.revision == round(MOMENT.timestamp() * 1e6)
    assert done.resolved(MOMENT + timedelta(days=1)) == done


def test_a_header_keeps_what_the_caller_said():
    header = types.SceneHeader(scene_id="a", place_id="b", revision=7, captured_at=MOMENT)
    assert header.resolved(MOMENT + timedelta(days=1)) == header


def test_a_capture_before_1970_counts_as_revision_zero():
    assert types.SceneHeader(scene_id="a").resolved(datetime(1960, 1, 1, tzinfo=UTC)).revision == 0


def test_revisions_do_not_depend_on_the_time_zone():
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    header = types.SceneHeader(scene_id="a")
    assert header.resolved(east).revision == header.resolved(MOMENT).revision


def test_a_box_comes_back_in_the_frame_of_its_scene():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    box = OrientedBox(np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), turn, types.Frame.ALIGNED)
    back = types.ObjectBox.of(box).oriented(types.Frame.ALIGNED)
    assert back.frame is types.Frame.ALIGNED
    assert (back.centre.tolist(), back.size.tolist()) == ([1, 2, 3], [4, 5, 6])
    assert (back.rotation == turn).all()


def test_only_three_states_end_a_run():
    ended = {state for state in types.RunState if state.ended}
    assert ended == {types.RunState.SUCCEEDED, types.RunState.FAILED, types.RunState.CANCELLED}


def test_values_can_be_changed_by_copy_only():
    header = types.SceneHeader(scene_id="a")
    with pytest.raises(AttributeError):
        header.scene_id = "b"
    assert replace(header, scene_id="b").scene_id == "b"
