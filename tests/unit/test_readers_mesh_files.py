"""OBJ meshes, PGM pictures, nearest points and majorities: read exactly, refused by name, bounded."""

import itertools
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.layout_files import encoded, pgm16, picture, write
from trainer.data.readers.annotations import majority
from trainer.data.readers.limits import SCAN_LIMITS, ScanLimits
from trainer.data.readers.nearest import nearest_rows
from trainer.data.readers.obj import read_obj
from trainer.data.readers.pgm import pgm_pixels
from trainer.data.readers.ply import PlyLimits
from trainer.data.readers.rscan_sequence import sequence_views
from xscene.errors import InvalidInput, LimitExceeded, XSceneError

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def obj(tmp_path, text, **limits):
    path = write(tmp_path / "mesh.obj", text)
    return read_obj(path, ScanLimits(ply=PlyLimits(**limits)))


def test_a_polygon_becomes_a_fan_and_numbers_may_count_back(tmp_path):
    mesh = obj(tmp_path, SQUARE + "# a comment\n\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\nf -4 -3 -2\n")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.colors is None


def test_vertices_may_bring_their_colours(tmp_path):
    mesh = obj(tmp_path, "v 0 0 0 1 0 0.5\nv 1 0 0 0 1 0\nv 0 1 0 0.2 0.4 0.6\nf 1 2 3\n")
    assert mesh.colors.tolist() == [[255, 0, 128], [0, 255, 0], [51, 102, 153]]


CORNERS = ("{0}", "{0}/{1}", "{0}/{1}/9", "{0}//9", "-{0}/{1}", "{0}/", "{0}/{1}/")
words = st.one_of(
    st.tuples(st.just("v"), st.sampled_from(["0 {0} .5", "1e-1 {0} -{0}", "0 1 2 3", "0 0 {0} .5 .5 1"])),
    st.tuples(st.just("vt"), st.sampled_from(["0.{0} 1", "0.5 0.{0} 0"])),
    st.tuples(st.just("f"), st.lists(st.sampled_from(CORNERS), min_size=3, max_size=5).map(" ".join)),
    st.tuples(st.sampled_from(["vn", "#", "vtx", "v1", ""]), st.just("1 2")),
)
runs = st.lists(
    st.tuples(words, st.integers(1, 70), st.sampled_from(["\n", " \n", "\r\n"])), min_size=1, max_size=6
)


@given(runs, st.booleans())
def test_many_lines_at_once_are_what_one_by_one_they_are(tmp_path_factory, runs, mixed):
    lines = ["v 0 0 0\n", "v 1 0 0\n", "v 1 1 0\n", "vt 0 0\n"]
    positions, faces = [[0, 0, 0], [1, 0, 0], [1, 1, 0]], []
    for (kind, form), count, end in runs:
        for at in range(count):
            # One line of another form among those that are alike.
            plain = (
                "f 1 2 3" if mixed and kind == "f" and at == 40 else f"{kind} {form.format(at % 3 + 1, 1)}"
            )
            lines.append(plain + end)
            if kind == "v":
                positions.append([float(word) for word in plain.split()[1:4]])
            if kind == "f":
                numbers = [int(word.partition("/")[0]) for word in plain.split()[1:]]
                rows = [number - 1 if number > 0 else len(positions) + number for number in numbers]
                faces += [[rows[0], *pair] for pair in itertools.pairwise(rows[1:])]
    path = write(tmp_path_factory.mktemp("obj") / "mesh.obj", "".join(lines))
    if any(kind == "v" and len(form.split()) == 6 for (kind, form), _, _ in runs):
        with pytest.raises(InvalidInput, match="vertices have colours"):
            read_obj(path, SCAN_LIMITS)
        return
    mesh = read_obj(path, SCAN_LIMITS)
    assert mesh.points.tolist() == np.array(positions, dtype=np.float32).tolist()
    assert mesh.faces.tolist() == faces


@pytest.mark.parametrize(
    ("line", "limits", "said"),
    [
        ("f 1 2 3x", {}, "line 104: cannot be read: 'f 1 2 3x'"),
        ("f 1 2", {}, "line 104"),
        ("f 1 2 0", {}, "line 104"),
        (f"f 1 2 {10**30}", {}, "its faces name vertices of which there are 3"),
        ("f 1 2 4", {}, "its faces name vertices of which there are 3"),
        ("f 1 2 3", {"max_faces": 150}, "faces: 151 triangles, the limit is 150"),
    ],
)
def test_a_wrong_line_among_many_that_are_alike_is_named(tmp_path, line, limits, said):
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\n" + "f 1 2 3\n" * 100 + line + "\n" + "f 1 2 3\n" * 100
    with pytest.raises((InvalidInput, LimitExceeded), match=said):
        obj(tmp_path, text, **limits)


@pytest.mark.parametrize("line", ["v", "v 0 0", "v 0 0 x", "v 0,0 0 0", "vt", "vt 0"])
@pytest.mark.parametrize("others", [0, 100])
def test_a_wrong_point_among_many_is_named(tmp_path, line, others):
    right = f"{line.split()[0]} 0 0 0\n" * others
    with pytest.raises(InvalidInput, match=f"line {others + 1}: cannot be read: '{line}'"):
        obj(tmp_path, right + f"{line}\n" * (1 if others else 50) + right)


def texture(tmp_path, name, values):
    pixels = np.array(values, dtype=np.uint8)
    write(tmp_path / name, encoded(Image.fromarray(pixels), "PNG"))


def test_each_material_has_its_texture_and_v_counts_from_the_bottom(tmp_path):
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    texture(tmp_path, "first.png", [[red, green], [blue, white]])
    texture(tmp_path, "second.png", [[(1, 2, 3)]])
    write(tmp_path / "m.mtl", "newmtl a\nmap_Kd first.png\nnewmtl b\nmap_Kd -clamp on second.png\n")
    points = "".join(f"v {at} 0 0\n" for at in range(8))
    uvs = "vt 0.1 0.9\nvt 0.9 0.9\nvt 0.1 0.1\nvt 1 0\n"
    faces = "usemtl a\nf 1/1 2/2 3/3\nf 2/2 3/3 4/4\nusemtl b\nf 5/1 6/2 7/3\nusemtl gone\nf 7/3 6/2 8/1\n"
    mesh = obj(tmp_path, f"mtllib m.mtl\n{points}{uvs}{faces}")
    assert mesh.colors[:7].tolist() == [list(one) for one in (red, green, blue, white, *[(1, 2, 3)] * 3)]
    # No texture reaches the last vertex.
    assert mesh.colors[7].tolist() == np.rint(mesh.colors[:7].mean(axis=0)).tolist()


@pytest.mark.parametrize(
    ("uv", "texel"),
    [((0, 1), 0), ((1, 0), 3), ((1.25, 0.75), 0), ((-0.25, 0.75), 1), ((0.25, 3.25), 2), ((7.75, -1.75), 3)],
)
def test_a_texture_repeats_beyond_its_edges(tmp_path, uv, texel):
    texels = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)]
    texture(tmp_path, "a.png", [texels[:2], texels[2:]])
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd a.png\n")
    mesh = obj(tmp_path, f"mtllib m.mtl\n{SQUARE}vt {uv[0]} {uv[1]}\nusemtl a\nf 1/1 2/1 3/1\n")
    assert tuple(mesh.colors[0]) == texels[texel]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v 0 0\n", r"mesh.obj, line 1: cannot be read: 'v 0 0'"),
        ("v 0 0 x\n", r"line 1: cannot be read"),
        ("v 0 0 nan\n", r"mesh.obj: has vertices that are not finite"),
        (SQUARE + "f 1 2\n", r"line 5: cannot be read: 'f 1 2'"),
        (SQUARE + "f 0 1 2\n", r"line 5"),
        (SQUARE + "f -5 1 2\n", r"line 5"),
        (SQUARE + f"f 1 2 {10**30}\n", r"line 5"),
        (SQUARE + "f 1 2 5\n", r"its faces name vertices of which there are 4"),
        (SQUARE + "f 1/1 2/1 3/1\n", r"its faces name texture points of which there are 0"),
        (SQUARE + "vt 1\n", r"line 5"),
        ("v 0 0 0 1 1 1\nv 1 1 1\n", r"1 of 2 vertices have colours"),
        ("v 0 0 0 2 0 0\n", r"has colours that are not between 0 and 1"),
        ("mtllib ../secret.mtl\n" + SQUARE, r"'../secret.mtl' is no file beside it"),
        ("mtllib /etc/passwd\n" + SQUARE, r"is no file beside it"),
    ],
)
def test_a_broken_mesh_is_named(tmp_path, text, said):
    with pytest.raises(InvalidInput, match=said):
        obj(tmp_path, text)


def test_a_texture_may_not_lie_elsewhere_and_must_be_a_picture(tmp_path):
    write(tmp_path / "m.mtl", "newmtl a\nmap_Kd ../t.png\n")
    text = f"mtllib m.mtl\n{SQUARE}vt 0 0\nusemtl a\nf 1/1 2/1 3/1\n"
    with pytest.raises(InvalidInput, match=r"m.mtl: '../t.png' is no file beside it"):
        obj(tmp_path, text)
    write(tmp_path / "m.mtl", "newmtl a\nmap_Kd t.png\n")
    data = picture(64, 64, "PNG")
    write(tmp_path / "t.png", data[: len(data) // 2])
    with pytest.raises(InvalidInput, match=r"t.png: cannot be decoded"):
        obj(tmp_path, text)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_bytes": 10}, r"mesh.obj: 57 bytes, the limit is 10"),
        ({"max_vertices": 3}, r"mesh.obj: vertices: 4 rows, the limit is 3"),
        ({"max_faces": 2}, r"mesh.obj: faces: 3 triangles, the limit is 2"),
    ],
)
def test_a_mesh_past_a_limit_is_refused(tmp_path, limits, said):
    text = SQUARE + "f 1 2 3\nf 1 2 3\nf 1 2 3\n" + "#"
    assert len(text) == 57
    with pytest.raises(LimitExceeded, match=said):
        obj(tmp_path, text, **limits)


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_numbers_of_a_pgm_come_out_as_they_are(values):
    # Whatever the largest number is said to be, nothing is stretched.
    for most in (65535, 10000, 256):
        found = pgm_pixels(pgm16(values, most), "depth.pgm", max_pixels=100)
        assert np.array_equal(found, values)


def test_a_pgm_may_hold_comments_and_single_bytes():
    data = b"P5 # made by hand\n# twice\n2 1\n255\n\x01\xff"
    assert pgm_pixels(data, "x", max_pixels=2).tolist() == [[1, 255]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no binary PGM"),
        (b"P2\n1 1\n255\n1", "is no binary PGM"),
        (b"P5\n1 1\n65536\n\0\0", "largest number 65536, needs 1 to 65535"),
        (b"P5\n1 1\n0\n\0", "largest number 0"),
        (b"P5\n2 2\n65535\n" + bytes(7), "2x2 pixels need 8 bytes, got 7"),
        (b"P5\n2 2\n65535\n" + bytes(9), "2x2 pixels need 8 bytes, got 9"),
        (b"P5\n999999999 999999999\n65535\n", "pixels, the limit is 100"),
    ],
)
def test_a_broken_pgm_is_named(data, said):
    with pytest.raises(InvalidInput, match=f"depth.pgm: .*{said}"):
        pgm_pixels(data, "depth.pgm", max_pixels=100)


coordinates = st.floats(-2, 2, width=32)
clouds = st.integers(1, 40).flatmap(lambda count: arrays.arrays(np.float32, (count, 3), elements=coordinates))


@given(queries=clouds, points=clouds, radius_m=st.sampled_from([0.05, 0.4, 5.0]))
def test_the_nearest_point_is_the_one_a_full_search_finds(queries, points, radius_m):
    rows, distances = nearest_rows(queries, points, radius_m=radius_m)
    apart = np.linalg.norm(queries[:, None].astype(np.float64) - points[None], axis=2)
    expected = np.where(apart.min(axis=1) <= radius_m, apart.min(axis=1), np.inf)
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    assert np.array_equal(rows >= 0, np.isfinite(expected))
    for query, row in enumerate(rows):
        if row >= 0:
            assert apart[query, row] == pytest.approx(apart[query].min())


def test_nearest_points_of_nothing_are_none():
    nothing, one = np.zeros((0, 3)), np.zeros((1, 3))
    assert nearest_rows(one, nothing, radius_m=1.0)[0].tolist() == [-1]
    assert nearest_rows(nothing, one, radius_m=1.0)[0].tolist() == []


def test_points_that_no_grid_holds_are_refused():
    with pytest.raises(InvalidInput, match="points: span"):
        nearest_rows(np.zeros((1, 3)), np.array([(0, 0, 0), (1e9, 0, 0)]), radius_m=0.02)
    with pytest.raises(LimitExceeded, match="points: 11 in one cell, the limit is 10"):
        nearest_rows(np.zeros((1, 3)), np.zeros((11, 3)), radius_m=0.02, max_cell_points=10)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 4)), min_size=1, max_size=30))
def test_the_majority_is_what_counting_by_hand_says(pairs):
    ids, classes = np.array(pairs).T
    found = majority(ids, classes)
    for one in set(ids.tolist()):
        votes = [label for other, label in pairs if other == one]
        assert found[one] == min(set(votes), key=lambda label: (-votes.count(label), label))
    assert found.keys() == set(ids.tolist())


def test_a_sequence_is_read_a_frame_at_a_time(tmp_path):
    frame = np.random.default_rng(0).integers(0, 9000, (480, 640))
    with zipfile.ZipFile(tmp_path / "sequence.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_info.txt", "m_frames.size = 60\n")
        for number in range(60):
            archive.writestr(f"frame-{number:06}.color.jpg", picture(64, 48, "JPEG"))
            archive.writestr(f"frame-{number:06}.depth.pgm", pgm16(frame))
    tracemalloc.start()
    try:
        views = sequence_views(tmp_path, SCAN_LIMITS)
        assert len({view.color() for view in views}) == 1
        for view in views:
            view.files.read(f"frame-{view.view_id}.depth.pgm")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All frames together are 37 MB.
    assert peak_bytes < 8 << 20


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sequence.zip", "w") as archive:
        archive.writestr("_info.txt", "m_frames.size = 0\n")
        archive.writestr("../frame-000000.color.jpg", b"")
    with pytest.raises(XSceneError, match=r"sequence.zip: member .* leads out of the archive"):
        sequence_views(tmp_path, SCAN_LIMITS)
