"""PLY files: faces of any corners in every way they are written, colours, and files that lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders_3d.meshes import decode_mesh
from encoders_3d.surfaces import Surface
from tests.allocation import allocates_at_most
from tests.ply_files import BIG, LITTLE, TEXT, ply
from tests.points import MESHES
from xscene.errors import InvalidInput, LimitExceeded
from xscene.ply.header import Limits, ply_header
from xscene.ply.rows import rows_of

MIB = 1 << 20
XYZ = ("float x", "float y", "float z")
CORNERS = ("list uchar int vertex_indices",)
TRIANGLE = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
FACE = [([0, 1, 2],)]


def decode(data: bytes) -> Surface:
    return decode_mesh("mesh[2]", data, MESHES)


def mesh(order: str = LITTLE, vertex=(XYZ, TRIANGLE), face=(CORNERS, FACE), **others) -> bytes:
    return ply(order, {**others, "vertex": vertex, "face": face})


@settings(deadline=None)
@given(
    st.sampled_from([TEXT, LITTLE, BIG]),
    st.lists(st.integers(0, 7), min_size=1, max_size=12).filter(lambda sizes: max(sizes) > 2),
    st.sampled_from(["uchar", "int", "uint"]),
    st.sampled_from(["uchar", "ushort", "int", "uint"]),
    st.integers(0, 99),
)
def test_faces_of_any_corners_are_fans_from_their_first(order, sizes, count_type, corner_type, seed):
    random = np.random.default_rng(seed)
    places = random.random((9, 3)).astype(np.float32)
    faces = [random.permutation(9)[:size].tolist() for size in sizes]
    notes = [random.integers(0, 9, 2).tolist() if number % 3 else [] for number in range(len(faces))]
    properties = (
        "ushort kind",
        f"list {count_type} {corner_type} vertex_index",
        "uchar flag",
        "list uchar float note",
    )
    rows = [(number, face, 7, note) for number, (face, note) in enumerate(zip(faces, notes, strict=True))]
    vertices = [(5, *place) for place in places.tolist()]
    data = mesh(
        order,
        vertex=(("uchar skipped", *XYZ), vertices),
        face=(properties, rows),
        camera=(("double focal", "list uchar int ids"), [(1.5, [1, 2, 3]), (2.5, [])]),
    )
    wanted = [[face[0], face[step], face[step + 1]] for face in faces for step in range(1, len(face) - 1)]
    (part,) = decode(data).parts
    np.testing.assert_array_equal(part.triangles, places.astype(np.float64)[wanted])


@pytest.mark.parametrize("order", [TEXT, LITTLE, BIG])
@pytest.mark.parametrize(
    ("kind", "colors", "wanted"),
    [
        ("uchar", [(1, 2, 3), (4, 5, 6), (255, 0, 7)], [(1, 2, 3), (4, 5, 6), (255, 0, 7)]),
        ("float", [(0.0, 1.0, 0.5)] * 3, [(0, 255, 128)] * 3),
        ("double", [(0.2, 0.4, 1.0)] * 3, [(51, 102, 255)] * 3),
    ],
)
def test_colours_of_vertices_are_bytes_or_floats_to_one(order, kind, colors, wanted):
    properties = (*XYZ, *(f"{kind} {name}" for name in ("red", "green", "blue")))
    rows = [(*place, *color) for place, color in zip(TRIANGLE, colors, strict=True)]
    (part,) = decode(mesh(order, vertex=(properties, rows))).parts
    np.testing.assert_array_equal(part.paint.corner_colors, [wanted])


def test_colours_of_faces_are_those_of_all_their_triangles():
    properties = (*CORNERS, "uchar red", "uchar green", "uchar blue")
    rows = [([0, 1, 2], 1, 2, 3), ([0, 1, 2, 0], 4, 5, 6)]
    (part,) = decode(mesh(face=(properties, rows))).parts
    np.testing.assert_array_equal(part.paint.corner_colors[:, 1], [(1, 2, 3), (4, 5, 6), (4, 5, 6)])


@pytest.mark.parametrize("corner", ["uchar", "uint", "int"])
@pytest.mark.parametrize("sizes", [(), (2, 0), (2, 2)])
def test_faces_of_fewer_than_three_corners_are_no_triangles(corner, sizes):
    data = mesh(face=((f"list uchar {corner} vertex_index",), [([0] * size,) for size in sizes]))
    with pytest.raises(InvalidInput, match=r"^mesh\[2\]: has no faces$"):
        decode(data)


def colored(order: str, kind: str, value: float) -> bytes:
    properties = (*XYZ, f"{kind} red", f"{kind} green", f"{kind} blue")
    return mesh(order, vertex=(properties, [(*place, 0, value, 0) for place in TRIANGLE]))


@pytest.mark.parametrize("order", [TEXT, LITTLE])
@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("float", np.nan, "colour nan, needed: finite numbers from 0 to 1"),
        ("float", np.inf, "colour inf, needed"),
        ("double", 1e30, r"colour 1e\+30, needed"),
        ("float", -0.5, "colour -0.5, needed"),
        ("float", 255.0, "colour 255, needed"),
        ("ushort", 300, "colours are uint16, needed: uchar, or floats from 0 to 1"),
        ("int", 3, "colours are int32, needed"),
    ],
)
def test_colours_that_are_none_are_refused_by_name(order, kind, value, message):
    with pytest.raises(InvalidInput, match=rf"^mesh\[2\]: PLY that cannot be decoded: {message}"):
        decode(colored(order, kind, float(value) if kind in ("float", "double") else value))


POLYGON = ([0, 1, 2] * 85,)


@pytest.mark.parametrize(
    ("face", "num_faces"),
    [
        ((CORNERS, [POLYGON] * 900), 900 * 253),
        ((CORNERS, [*[POLYGON] * 900, ([0, 1, 2],)]), 900 * 253 + 1),
        ((("list uint int i",), [([0] * 250_000,)]), 249_998),
    ],
)
def test_triangles_are_counted_before_any_is_made(face, num_faces):
    data = mesh(face=face)
    message = rf"^mesh\[2\]: {num_faces} faces, the limit is 3000$"
    with allocates_at_most(MIB // 2), pytest.raises(LimitExceeded, match=message):
        decode(data)


def test_elements_that_are_passed_over_cost_nothing():
    data = mesh(junk=(("uchar a",), [(0,)] * 900_000))
    with allocates_at_most(MIB // 2):
        assert len(decode(data).areas) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (mesh() + b"\0", "1 bytes follow its last row"),
        (mesh(TEXT) + b"1 2", "2 numbers follow its last row"),
        (mesh()[:-1], "it ends within its rows of face"),
        (mesh(TEXT)[:-4], "it ends within its rows of face"),
        (mesh(TEXT, face=(CORNERS, [([0, 1, 2],), ([0, 1],)])) + b"x", "its rows are not all numbers"),
        (mesh(TEXT, face=(CORNERS, [([0, 1, 2.5],)])), "2.5 is no int32"),
        (mesh(TEXT).replace(b"3 0 1 2", b"2.5 0 1"), "2.5 is no uint8"),
        (mesh(TEXT).replace(b"3 0 1 2", b"nan 0 1"), "nan is no uint8"),
        (mesh(TEXT).replace(b"3 0 1 2", b"inf 0 1"), "inf is no uint8"),
        (mesh(TEXT).replace(b"3 0 1 2", b"1e300 0"), "it ends within its rows of face"),
        (mesh(TEXT).replace(b"3 0 1 2", b"-3 0 1 2"), "a list has -3 members"),
        (mesh(face=(CORNERS, [([0, 1, 3],)])), "face corner 3, there are 3 vertices"),
        (mesh(face=(("list uchar float vertex_index",), FACE)), "corners of faces are float32"),
        (mesh(face=(("uchar flag",), [(1,)])), "its faces have no list of corners"),
        (mesh(vertex=(XYZ[:2], [(0.0, 0.0)] * 3)), "each vertex needs a number z"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(data, message):
    with pytest.raises(InvalidInput, match=rf"^mesh\[2\]: PLY that cannot be decoded: {message}"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (mesh(vertex=((*XYZ, "float x"), [])), "PLY names property 'x' twice"),
        (
            mesh(face=(("list float int vertex_index",), [])),
            "PLY property 'list float int vertex_index' is not",
        ),
        (mesh(junk=(("list uchar int a",), [([],)] * 6000)), "6001 lists of all elements, the limit is 6000"),
    ],
)
def test_headers_that_promise_what_cannot_be_are_refused_by_name(data, message):
    with pytest.raises(InvalidInput, match=rf"^mesh\[2\]: {message}"):
        decode(data)


HEADER = """ply
format ascii 1.0
comment by hand
obj_info nothing
element vertex 3
property float x
property uchar red
element face 1
property list uchar int vertex_indices
end_header
"""
ROWS = b"0 1\n1 2\n2 3\n3 0 1 2\n"
LIMITS = Limits(max_header_bytes=4096, max_vertices=9, max_faces=9)


def test_a_header_by_hand_is_read():
    for text in (HEADER, HEADER.replace("\n", " \r\n"), HEADER.replace("by hand", "de la m\xeame main")):
        data = text.encode() + ROWS
        header = ply_header("hand.ply", data, LIMITS)
        assert (header.order, header.num_bytes, header.names_texture) == ("", len(data) - len(ROWS), False)
        vertex, face = rows_of(data, header).values()
        assert (vertex.column("x").tolist(), vertex.column("red").tolist()) == ([0, 1, 2], [1, 2, 3])
        assert face.list_lengths["vertex_indices"].tolist() == [3]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ply\n", "plx\n", "is no PLY file"),
        ("end_header", "end", "PLY without end_header in its first 4096 bytes"),
        ("ascii", "binary_middle_endian", "PLY format 'binary_middle_endian 1.0' is none of ascii 1.0, "),
        ("format ascii 1.0\n", "", "PLY format '' is none of"),
        ("obj_info nothing", "format ascii 1.0", "PLY header line 'format ascii 1.0' is not understood"),
        ("element vertex 3", "element vertex -3", "PLY header line 'element vertex -3' is not understood"),
        ("element face", "element vertex", "PLY names an element twice"),
        ("property uchar red", "property float x", "PLY names property 'x' twice"),
        ("property float x", "property half x", "PLY property 'half x' is not understood"),
        ("list uchar int", "list float int", "PLY property 'list float int vertex_indices' is not"),
        ("property list uchar int vertex_indices\n", "", "PLY element 'face' has no properties"),
        ("element vertex 3", "element vertex 10", "10 vertices, the limit is 9"),
        ("element face 1", "element face 10", "10 faces, the limit is 9"),
        ("element face 1", "element face 9", "PLY has 20 bytes behind its header, its elements need 28"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(old, new, message):
    assert old in HEADER
    with pytest.raises(InvalidInput, match=rf"^hand\.ply: {message}"):
        ply_header("hand.ply", HEADER.replace(old, new, 1).encode() + ROWS, LIMITS)
