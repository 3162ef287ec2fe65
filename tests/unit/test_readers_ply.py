"""PLY files: every form is read as another reader reads it, and nothing torn or lying is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.allocation import allocates_at_most
from tests.fixtures_scene import synthetic_scene
from tests.ply_files import ply
from trainer.data.readers.ply import PlyLimits, ply_of, read_ply
from trainer.data.rooms.ply import PlyMesh, write_ply
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.ply.header import TYPES

NUMPY = {name: kind for name, kind in TYPES.items() if name.isalpha()}
TRIANGLE = """ply
format ascii 1.0
comment by hand
obj_info nothing
element vertex 3
property float x
property float y
property double z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
property ushort objectId
end_header
0 0 0 1 2 3
1 0 0.25 4 5 6
0 1 -1e-3 7 8 255
3 0 1 2 65535
"""


def rows(count, kinds, seed=0):
    rng = np.random.default_rng(seed)
    table = np.empty(count, dtype=[(f"p{at}", kind) for at, kind in enumerate(kinds)])
    for at, kind in enumerate(kinds):
        limits = (-1e6, 1e6) if kind[0] == "f" else (np.iinfo(kind).min, int(np.iinfo(kind).max) + 1)
        table[f"p{at}"] = (
            rng.uniform(*limits, count) if kind[0] == "f" else rng.integers(*limits, count, dtype=np.int64)
        )
    return table


def written(table, polygons, marks, form):
    """The vertices of a table, and faces with marks and weights."""
    kinds = {kind: name for name, kind in NUMPY.items()}
    properties = tuple(f"{kinds[table.dtype[name].str[1:]]} {name}" for name in table.dtype.names)
    faces = [(mark, polygon, mark / 4) for polygon, mark in zip(polygons, marks, strict=True)]
    face = (("short mark", "list uchar uint vertex_index", "double weight"), faces)
    return ply(form, {"vertex": (properties, table.tolist()), "face": face})


@settings(deadline=None)
@given(
    form=st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]),
    kinds=st.lists(st.sampled_from(sorted(NUMPY.values())), min_size=1, max_size=6),
    polygons=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=6), max_size=6),
    seed=st.integers(0, 9),
)
def test_every_form_holds_the_same_numbers(form, kinds, polygons, seed):
    table = rows(5, kinds, seed)
    marks = [7 * at - 9 for at in range(len(polygons))]
    found = ply_of(written(table, polygons, marks, form), "some.ply")
    assert list(found.vertex) == list(table.dtype.names)
    for name in table.dtype.names:
        assert found.vertex[name].dtype == table.dtype[name]
        np.testing.assert_array_equal(found.vertex[name], table[name])
    fans = [
        ((polygon[0], *pair), mark)
        for polygon, mark in zip(polygons, marks, strict=True)
        for pair in pairwise(polygon[1:])
    ]
    assert found.faces.tolist() == [list(triangle) for triangle, _ in fans]
    assert found.face["mark"].tolist() == [mark for _, mark in fans]
    assert found.face["weight"].tolist() == [mark / 4 for _, mark in fans]


@pytest.mark.parametrize("text", [False, True])
def test_another_writers_file_is_read(tmp_path, text):
    scene = synthetic_scene()
    vertex = np.empty(
        1127, dtype=[("x", "f4"), ("y", "f4"), ("z", "f4"), ("objectId", "u2"), ("NYU40", "u1")]
    )
    for at, axis in enumerate("xyz"):
        vertex[axis] = scene.vertices[:, at]
    vertex["objectId"], vertex["NYU40"] = scene.instance_ids + 1, 40 - scene.instance_ids
    face = np.empty(1960, dtype=[("vertex_indices", "i4", (3,))])
    face["vertex_indices"] = scene.faces
    elements = [plyfile.PlyElement.describe(vertex, "vertex"), plyfile.PlyElement.describe(face, "face")]
    plyfile.PlyData(elements, text=text).write(tmp_path / "scene.ply")
    found = read_ply(tmp_path / "scene.ply")
    np.testing.assert_allclose(found.positions(), scene.vertices, atol=1e-6)
    np.testing.assert_array_equal(found.property("objectId"), scene.instance_ids + 1)
    np.testing.assert_array_equal(found.property("NYU40"), 40 - scene.instance_ids)
    np.testing.assert_array_equal(found.faces, scene.faces)
    assert found.colors() is None


def test_a_file_by_hand_is_read():
    found = ply_of(TRIANGLE.replace("\n", "\r\n").encode(), "hand.ply")
    np.testing.assert_array_equal(found.positions(), [(0, 0, 0), (1, 0, 0.25), (0, 1, -1e-3)])
    assert found.positions().dtype == np.float64
    assert found.colors().tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 255]]
    assert found.face["objectId"].tolist() == [65535]


def test_a_cloud_has_no_faces():
    text = TRIANGLE[: TRIANGLE.index("element face")] + "end_header\n" + "0 0 0 1 2 3\n" * 3
    assert ply_of(text.encode(), "cloud.ply").faces is None


@pytest.fixture
def mesh(tmp_path):
    path = tmp_path / "mesh.ply"
    write_ply(path, PlyMesh(np.zeros((3, 3), "f4"), np.zeros((3, 3), "u1"), np.array([[0, 1, 2]], "i4")))
    return path


def test_a_file_that_was_cut_off_anywhere_is_refused(mesh):
    data = mesh.read_bytes()
    for cut in range(len(data)):
        with pytest.raises(InvalidInput, match=r"^mesh\.ply: "):
            ply_of(data[:cut], "mesh.ply")
    with pytest.raises(InvalidInput, match="1 bytes follow its last row"):
        ply_of(data + b"\0", "mesh.ply")


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_by_its_name(data):
    polygons = [(0, 1, 2), (0, 1, 2, 3)]
    form = data.draw(st.sampled_from(["ascii", "binary_little_endian"]))
    damaged = bytearray(written(rows(5, ["f4", "u1"]), polygons, (1, 2), form))
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    fault = ""
    try:
        ply_of(bytes(damaged), "damaged.ply")
    except InvalidInput as error:
        fault = error.message
    assert fault == "" or fault.startswith("damaged.ply")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ply\n", "plx\n", "is no PLY file"),
        ("element vertex 3", "element vertex 4", "it ends within its rows of vertex"),
        ("element face 1", "element face 2", "it ends within its rows of face|its elements need"),
        ("element face 1", "element face 0", "5 numbers follow its last row"),
        ("element vertex", "element point", "has no vertices"),
        ("list uchar int vertex_indices", "list uchar float vertex_indices", "are float32, needed: whole"),
        ("vertex_indices", "corners", "have no list vertex_indices or vertex_index"),
        ("property uchar red", "property list uchar int seen", "its vertices have the list 'seen'"),
        ("3 0 1 2 65535", "3 0 1 3 65535", "face corner 3, there are 3 vertices"),
        ("3 0 1 2 65535", "3 0 1 -1 65535", "face corner -1, the first vertex is 0"),
        ("3 0 1 2 65535", "2 0 1 65535", "face 0 has 2 corners, needs 3 or more"),
        ("3 0 1 2 65535", "3 0 1 2 65536", "65536 is no uint16"),
        ("3 0 1 2 65535", "3 0 1 1.5 65535", "1.5 is no int32"),
        ("3 0 1 2 65535", "3 0 1 2", "it ends within its rows of face"),
        ("3 0 1 2 65535", "3 0 1 2 65535 9", "1 numbers follow its last row"),
        ("3 0 1 2 65535", "3 zero 1 2 65535", "its rows are not all numbers"),
        ("0 0 0 1 2 3", "0 0 0 1 2 nan", "nan is no uint8"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(old, new, message):
    assert old in TRIANGLE
    with pytest.raises(InvalidInput, match=rf"^hand\.ply.*({message})"):
        ply_of(TRIANGLE.replace(old, new, 1).encode(), "hand.ply")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e39"])
def test_coordinates_that_are_not_finite_are_refused(number):
    found = ply_of(TRIANGLE.replace("1 0 0.25", f"{number} 0 0.25").encode(), "hand.ply")
    with pytest.raises(InvalidInput, match=r"^hand\.ply: vertex 1 is not finite"):
        found.positions()


def test_what_is_missing_is_named():
    found = ply_of(TRIANGLE.encode(), "hand.ply")
    with pytest.raises(InvalidInput, match=r"^hand\.ply: its vertices have no objectId"):
        found.property("objectId")
    for old, new, message in (
        ("property uchar red", "property uchar r", "have no red"),
        ("property uchar red", "property float red", "its colours are float32, needs uchar"),
    ):
        with pytest.raises(InvalidInput, match=message):
            ply_of(TRIANGLE.replace(old, new).encode(), "hand.ply").colors()


@pytest.mark.parametrize("element", ["vertex 3", "face 1"])
@pytest.mark.parametrize("count", [4, 40_000_000, 10**18])
def test_a_header_that_promises_more_is_refused_before_anything_is_allocated(mesh, element, count):
    name = element.split()[0]
    mesh.write_bytes(mesh.read_bytes().replace(element.encode(), f"{name} {count}".encode()))
    with allocates_at_most(1 << 20):
        with pytest.raises(InvalidInput, match=r"^mesh\.ply"):
            read_ply(mesh)


def test_limits_are_named_with_the_value(mesh):
    for limits, message in (
        (PlyLimits(max_vertices=2), r"mesh\.ply: 3 vertices, the limit is 2"),
        (PlyLimits(max_faces=0), r"mesh\.ply: 1 faces, the limit is 0"),
        (PlyLimits(max_bytes=10), r"mesh\.ply: \d+ bytes, the limit is 10"),
    ):
        with pytest.raises(LimitExceeded, match=message):
            read_ply(mesh, limits=limits)
    with pytest.raises(InvalidInput, match="PLY without end_header in its first 50 bytes"):
        read_ply(mesh, limits=PlyLimits(max_header_bytes=50))
    fan = written(rows(5, ["f4"]), [(0, 1, 2, 3, 4)], (1,), "ascii")
    with pytest.raises(LimitExceeded, match="3 faces, the limit is 2"):
        ply_of(fan, "fan.ply", limits=PlyLimits(max_faces=2))
    with pytest.raises(NotFound, match=r"^other\.ply: there is no such file"):
        read_ply(mesh.with_name("other.ply"))


def test_a_large_mesh_takes_a_few_times_its_size(tmp_path):
    path, count = tmp_path / "large.ply", 200_000
    points = np.zeros((count, 3), "f4")
    faces = np.arange(3 * count, dtype="i4").reshape(-1, 3) % count
    write_ply(path, PlyMesh(points, np.zeros((count, 3), "u1"), faces))
    with allocates_at_most(6 * path.stat().st_size):
        assert len(read_ply(path).faces) == count
