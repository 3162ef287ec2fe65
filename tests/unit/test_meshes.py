"""Meshes: surfaces sampled by area with their colours, and files that lie about their size."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders_3d.meshes import decode_mesh, num_scene_points
from encoders_3d.surfaces import Paint, Part, Surface
from tests.layout_files import encoded
from tests.points import (
    MESHES,
    box,
    exported,
    glb,
    glb_of,
    one_mesh,
    painted_box,
    png,
    textured_square,
    tree_of,
)
from xscene.errors import InvalidInput, LimitExceeded, NotFound

MIB = 1 << 20
SQUARE = """v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
"""


def decode(data: bytes, **limits: int) -> Surface:
    return decode_mesh("mesh[2]", data, replace(MESHES, **limits))


def flat(triangles: np.ndarray) -> Surface:
    edges = triangles[:, 1:] - triangles[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    return Surface([Part(triangles, Paint())], areas)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 400), st.integers(0, 99))
def test_each_face_gets_its_share_of_points_and_they_lie_on_it(num_faces, num_points, seed):
    random = np.random.default_rng(seed)
    # One face a height, so that a point tells which it is from; some have no area.
    triangles = random.uniform(-1, 1, (num_faces, 3, 3))
    triangles[:, :, 2] = np.arange(num_faces)[:, None]
    lines = np.flatnonzero(random.random(num_faces) < 0.3)
    triangles[lines[lines > 0], 2] = triangles[lines[lines > 0], 1]
    surface = flat(triangles)
    points, colors = surface.sample(num_points, seed)
    assert points.shape == (num_points, 3)
    assert colors is None
    counts = np.bincount(np.rint(points[:, 2]).astype(int), minlength=num_faces)
    # One draw in each equal share of the area: a face gets what it has coming, give or take one at each end.
    np.testing.assert_allclose(counts, num_points * surface.areas / surface.area_m2, atol=2)
    for point in points.astype(np.float64):
        corners = triangles[round(point[2])][:, :2]
        inside = np.linalg.lstsq(np.r_[corners.T, [[1, 1, 1]]], np.r_[point[:2], 1], rcond=None)[0]
        assert inside.min() > -1e-5


def test_points_are_spread_evenly_over_a_face():
    square = flat(np.array([[[0, 0, 0], [2, 0, 0], [0, 1, 0]]], float))
    points = square.sample(40_000)[0]
    np.testing.assert_allclose(points.mean(axis=0), [2 / 3, 1 / 3, 0], atol=0.01)
    np.testing.assert_allclose((points[:, 0] < 1).mean(), 0.75, atol=0.01)


def test_the_same_seed_gives_the_same_points_and_another_seed_others():
    surface = decode(exported(painted_box(), "ply"))
    one, again, other = (surface.sample(50, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("kind", ["glb", "ply", "obj"])
def test_every_format_gives_the_surface_in_metres_with_z_up(kind):
    surface = decode(exported(box((1.0, 2.0, 0.5)), kind))
    assert surface.area_m2 == pytest.approx(7.0)
    points, colors = surface.sample(4000)
    extent = np.ptp(points, axis=0)
    # GLB has y up by its standard, so what was written as y is z here.
    np.testing.assert_allclose(extent, (1.0, 0.5, 2.0) if kind == "glb" else (1.0, 2.0, 0.5), atol=1e-5)
    assert colors is None


def test_glb_is_turned_and_not_mirrored():
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 2, 0.5]], [[0, 1, 2]], process=False)
    (part,) = decode(exported(mesh, "glb")).parts
    np.testing.assert_allclose(part.triangles[0], [[0, 0, 0], [1, 0, 0], [0, -0.5, 2]], atol=1e-7)


@pytest.mark.parametrize("kind", ["glb", "ply", "obj"])
def test_colours_of_vertices_are_mixed_over_faces(kind):
    points, colors = decode(exported(painted_box(), kind)).sample(3000)
    share = points[:, 0] + 0.5
    np.testing.assert_allclose(colors[:, 0], 255 * share, atol=1.01)
    np.testing.assert_allclose(colors[:, 2], 255 * (1 - share), atol=1.01)
    assert (colors[:, 1] == 0).all()


def test_colours_of_a_texture_are_where_its_picture_lies():
    pixels = np.zeros((8, 4, 3), np.uint8)
    pixels[:4, :, 0], pixels[4:, :, 1], pixels[:, 2:, 2] = 200, 100, 50
    points, colors = decode(exported(textured_square(pixels), "glb")).sample(2000)
    right, far = points[:, 0] > 0.5, points[:, 2] > 0.5
    np.testing.assert_array_equal(colors[:, 0], np.where(far, 200, 0))
    np.testing.assert_array_equal(colors[:, 1], np.where(far, 0, 100))
    np.testing.assert_array_equal(colors[:, 2], np.where(right, 50, 0))


def test_a_material_of_one_colour_colours_all_of_it():
    mesh = box()
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[10, 20, 30, 255])
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    assert set(map(tuple, decode(exported(mesh, "glb")).sample(100)[1].tolist())) == {(10, 20, 30)}


def test_every_placed_instance_counts_and_one_part_without_colours_leaves_all_without():
    scene = trimesh.Scene()
    scene.add_geometry(painted_box(), geom_name="a", node_name="one")
    shift = trimesh.transformations.translation_matrix((10, 0, 0))
    scene.graph.update("two", matrix=shift, geometry="a")
    surface = decode(exported(scene, "glb"))
    assert surface.area_m2 == pytest.approx(14.0)
    points, colors = surface.sample(1000)
    assert (points[:, 0] > 9).mean() == pytest.approx(0.5, abs=0.01)
    assert colors is not None
    scene.add_geometry(box(), geom_name="b")
    assert decode(exported(scene, "glb")).sample(1000)[1] is None


def test_a_scene_needs_points_by_its_area_and_too_much_of_it_is_refused():
    surface = decode(exported(box(), "ply"))
    assert num_scene_points("m", surface, 0.04, MESHES) == 17_500
    assert num_scene_points("m", surface, 1.0, MESHES) == 1024
    with pytest.raises(
        LimitExceeded, match=r"m: 28000000 points for 7 m² in voxels of 0.001 m, the limit is"
    ):
        num_scene_points("m", surface, 0.001, MESHES)


def ply(header: str, body: bytes = b"") -> bytes:
    return f"ply\n{header}\nend_header\n".encode() + body


def accessors(**change: object) -> bytes:
    """A box as GLB, its first accessor changed."""
    tree, binary = tree_of(exported(box(), "glb"))
    tree["accessors"][0] |= change
    return glb(tree, binary)


def changed(**parts: object) -> bytes:
    tree, binary = tree_of(exported(box(), "glb"))
    return glb(tree | parts, binary)


def pictured(picture: bytes) -> bytes:
    view = {"buffer": 0, "byteOffset": 0, "byteLength": len(picture)}
    tree = {"buffers": [{"byteLength": len(picture)}], "bufferViews": [view], "images": [{"bufferView": 0}]}
    return glb(tree, picture)


NOTE = b"\0\0\0\3tEXta\0b" + zlib.crc32(b"tEXta\0b").to_bytes(4, "big")
LONG_PNG = png(4, 4)[:33] + NOTE * 70 + png(4, 4)[33:]
BINARY = "format binary_little_endian 1.0"
XYZ = "property float x\nproperty float y\nproperty float z"
FACE = "property list uchar int vertex_indices"
POLYGON = b"\xff" + bytes(4 * 255)
NAN_OBJ = b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n"
FAULTS = {
    "empty": (b"", "is empty"),
    "text": (b"hello there", "is none of GLB, PLY, OBJ, but unknown"),
    "zip": (b"PK\x03\x04" + bytes(60), "is none of GLB, PLY, OBJ, but a zip archive"),
    "large": (b"v 0 0 0\n" * (MIB // 8) + b"v", f"{MIB + 1} bytes, the limit is {MIB}"),
    "glb cut short": (exported(box(), "glb")[:-8], "GLB version 2 of .* bytes, got .* bytes"),
    "glb header alone": (b"glTF\x02\0\0\0", "GLB of 8 bytes"),
    "glb chunk past the end": (
        glb({})[:12] + b"\xff\xff\xff\x7fJSON" + glb({})[20:],
        "chunk of 2147483647 b",
    ),
    "glb json": (glb(b"{nope"), "GLB whose JSON cannot be read"),
    "glb deep json": (glb(b"[" * 200_000), "GLB whose JSON cannot be read"),
    "glb list": (glb(b"[1]"), "GLB whose JSON is no object"),
    "glb of no types": (glb({"meshes": [3]}), "GLB whose JSON is no glTF"),
    "glb buffer elsewhere": (
        changed(buffers=[{"uri": "/etc/passwd", "byteLength": 4}]),
        r"buffers\[0\] lies out",
    ),
    "glb image elsewhere": (changed(images=[{"uri": "http://x/y.png"}]), r"images\[0\] lies outside"),
    "glb buffer too long": (
        changed(buffers=[{"byteLength": 1 << 40}]),
        r"buffers\[0\] of 1099511627776 bytes",
    ),
    "glb view too long": (
        changed(bufferViews=[{"buffer": 0, "byteLength": 10**9}]),
        r"bufferViews\[0\] ends at byte 1000000000",
    ),
    "glb accessor too long": (accessors(count=10**9), r"accessors\[0\] of 1000000000 elements needs"),
    "glb accessor without buffer": (
        glb({"accessors": [{"count": 10**9, "componentType": 5126, "type": "VEC3"}]}),
        r"accessors\[0\] is sparse or has no buffer",
    ),
    "glb negative count": (accessors(count=-1), "GLB whose JSON is no glTF: -1 is no whole"),
    "glb draco": (changed(extensionsRequired=["KHR_draco_mesh_compression"]), "uses extension KHR_draco"),
    "glb hidden extension": (
        changed(nodes=[{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {}}}]),
        "uses extension EXT_mesh_gpu_instancing",
    ),
    "glb loop of nodes": (
        changed(nodes=[{"children": [1]}, {"children": [0]}], scenes=[{"nodes": [0]}]),
        "nodes are no trees",
    ),
    "glb shared nodes": (changed(nodes=[{"children": [1, 1]}, {"mesh": 0}]), "nodes are no trees"),
    "glb node that is not there": (changed(scenes=[{"nodes": [9]}]), "names a node past its"),
    "glb instances": (changed(nodes=[{"mesh": 0}] * 300), "3600 faces, the limit is 3000"),
    "glb many nodes": (changed(nodes=[{}] * 20_000), "20000 nodes, the limit is 16384"),
    "glb picture bomb": (
        pictured(png(20_000, 20_000)),
        r"images\[0\]: \d+ pixels \(\d+x\d+\), the limit is 65536",
    ),
    "glb picture that only warns": (
        pictured(png(12_000, 12_000)),
        r"images\[0\]: \d+ pixels \(\d+x\d+\), the limit is 65536",
    ),
    "glb large picture": (
        pictured(png(300, 300)),
        r"images\[0\]: 90000 pixels .*, the limit is 65536",
    ),
    "glb tiff": (pictured(b"II*\0" + bytes(40)), r"images\[0\]: is none of JPEG, PNG, WebP"),
    "glb nothing": (glb({"scenes": [{"nodes": []}], "scene": 0}), "."),
    "ply without end": (b"ply\nformat ascii 1.0\n", "PLY without end_header"),
    "ply format": (ply("format ebcdic 1.0\nelement vertex 1"), "PLY format 'ebcdic 1.0' is none of"),
    "ply header": (ply(f"{BINARY}\nelement vertex -1\n{XYZ}"), "PLY header line 'element vertex -1'"),
    "ply property": (ply(f"{BINARY}\nelement vertex 1\nproperty quad x"), "PLY property 'quad x' is not"),
    "ply vertices": (
        ply(f"{BINARY}\nelement vertex 4000000000\n{XYZ}"),
        "4000000000 vertices, the limit is 3000",
    ),
    "ply faces": (ply(f"{BINARY}\nelement face 99999\n{FACE}"), "99999 faces, the limit is 3000"),
    "ply bytes": (
        ply(f"{BINARY}\nelement vertex 9\n{XYZ}", bytes(12)),
        "PLY has 12 bytes .*, its elements need 108",
    ),
    "ply other element": (
        ply(f"{BINARY}\nelement vertex 0\n{XYZ}\nelement junk 1099511627776\nproperty char a"),
        "its elements need 1099511627776",
    ),
    "ply long list": (
        ply(
            f"{BINARY}\nelement vertex 0\n{XYZ}\nelement face 1\nproperty list uint int i",
            b"\xff\xff\xff\x7f",
        ),
        ".",
    ),
    "ply twice": (ply(f"{BINARY}\nelement vertex 1\nelement vertex 1"), "PLY names an element twice"),
    "ply texture": (ply(f"comment TextureFile a.png\n{BINARY}"), "PLY names a texture file"),
    "ply points alone": (exported(trimesh.PointCloud(np.eye(3)), "ply"), "has no faces"),
    "obj materials": (
        b"mtllib ../../x.mtl\n" + exported(box(), "obj"),
        "OBJ names materials of another file",
    ),
    "obj vertices": (b"v 0 0 0\n" * 3001, "3001 vertices, the limit is 3000"),
    "obj polygon": (b"v 0 0 0\nf" + b" 1" * 3100, "3099 faces, the limit is 3000|3098 faces"),
    "ply polygons": (
        ply(f"{BINARY}\nelement vertex 3\n{XYZ}\nelement face 20\n{FACE}", bytes(36) + POLYGON * 20),
        "5060 faces, the limit is 3000",
    ),
    "obj corner from the end": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 9 9 9\n", "corner below 1"),
    "obj corner before the first": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 7\nf 1/1 2/1 0/1\n", "corner below 1"),
    "obj vertices of two numbers": (b"v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "vertices of 2 numbers, needed: 3"),
    "obj line that goes on": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 \\\n-1\n", "goes on in the next"),
    "ply corner below the first": (
        ply(
            f"format ascii 1.0\nelement vertex 3\n{XYZ}\nelement face 1\n{FACE}",
            b"0 0 0\n1 0 0\n0 1 0\n3 0 1 -1\n",
        ),
        "face corner -1, the first vertex is 0",
    ),
    "ply count of too many digits": (
        ply(f"{BINARY}\nelement vertex {'9' * 5000}\n{XYZ}"),
        "header line 'element",
    ),
    "glb corner below the first": (
        glb_of(np.array([0, 1, -1], np.int8), meshes=one_mesh(indices=1)),
        r"accessors\[1\] holds no indices",
    ),
    "glb corner past the last": (
        glb_of(np.array([0, 1, 3], np.uint8), meshes=one_mesh(indices=1)),
        r"names vertex 3, there are 3",
    ),
    "glb colours of fewer vertices": (
        glb_of(np.ones((2, 3), np.float32), meshes=one_mesh(attributes={"COLOR_0": 1})),
        "has shape",
    ),
    "glb colours that are no numbers": (
        glb_of(np.full((3, 3), np.nan, np.float32), meshes=one_mesh(attributes={"COLOR_0": 1})),
        "not finite",
    ),
    "glb primitives": (
        glb_of(
            meshes=[*one_mesh(), {"primitives": one_mesh()[0]["primitives"] * 200}], nodes=[{"mesh": 1}] * 100
        ),
        "20000 placed primitives, the limit is 16384",
    ),
    "glb pictures": (glb_of(images=[{"bufferView": 0}] * 20_000), "20000 pictures, the limit is 16384"),
    "glb picture of countless parts": (pictured(LONG_PNG), "parts of a PNG besides its pixels"),
    "obj without faces": (b"v 0 0 0\nv 1 0 0\n", "."),
    "obj past its vertices": (b"v 0 0 0\nf 1 2 3\n", "."),
    "no area": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "has no area in any of its 1 faces"),
    "not a number": (NAN_OBJ, "holds numbers that are not finite"),
    "too large": (b"v 0 0 0\nv 1e200 0 0\nv 0 1e200 0\nf 1 2 3\n", "is too large for its area"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_refused_by_name_and_costs_no_memory(name):
    data, message = FAULTS[name]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=rf"mesh\[2\]: .*({message})") as caught:
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.violations[0].field == "mesh[2]"
    assert peak < 32 * MIB


def test_a_place_far_from_the_origin_costs_a_mesh_no_digits():
    near = box((1.0, 2.0, 0.5))
    far = near.copy().apply_translation((5_000_000, 4_000_000, 0))
    one_, other = (decode(exported(each, "obj")).sample(3000)[0] for each in (near, far))
    np.testing.assert_allclose(other - (5_000_000, 4_000_000, 0), one_, atol=1e-6)


@settings(deadline=None)
@given(st.sampled_from(["glb", "ply", "obj"]), st.data())
def test_a_damaged_file_is_a_surface_or_the_callers_fault(kind, data):
    content = bytearray(exported(painted_box(), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with np.errstate(all="ignore"):
        for damaged in (bytes(content), bytes(content[:cut])):
            with contextlib.suppress(InvalidInput):
                assert np.isfinite(decode(damaged).sample(20)[0]).all()


@pytest.mark.parametrize("color", ["nan 0 0", "0 1e30 0", "0 0 255", "0 -1 0"])
def test_colours_of_obj_are_refused_past_one(color):
    good = b"v 0 0 0 0 1 0\nv 1 0 0 0 1 0\nv 0 1 0 %s\nf 1 2 3\n"
    assert decode(good % b"0 .5 1").sample(9)[1] is not None
    with pytest.raises(InvalidInput, match=r"OBJ that cannot be decoded: colour .*, needed: finite numbers"):
        decode(good % color.encode())


def read_from(**files: bytes):
    def read(name: str) -> bytes:
        if name == "too_large.png":
            raise LimitExceeded.of(name, value=2, limit=1, unit="pixels")
        if name.replace(".", "_") not in files:
            raise NotFound(name)
        return files[name.replace(".", "_")]

    return read


def test_an_obj_has_the_colours_of_the_files_that_it_names():
    text = "mtllib a.mtl\n" + SQUARE + "usemtl wood\nf 1/1 2/2 3/3\nusemtl blue\nf 1/1 3/3 4/4\n"
    wood = encoded(Image.new("RGB", (2, 2), (200, 100, 50)), "PNG")
    files = read_from(a_mtl=b"newmtl wood\nmap_Kd wood.png\nnewmtl blue\nKd 0 0 1\n", wood_png=wood)
    points, colors = decode_mesh("mesh", text.encode(), MESHES, files).sample(400)
    below = points[:, 1] < points[:, 0]
    assert {tuple(color) for color in colors[below].tolist()} == {(200, 100, 50)}
    assert {tuple(color) for color in colors[~below].tolist()} == {(0, 0, 255)}


@pytest.mark.parametrize(
    "materials",
    [None, b"newmtl wood\nNs 4\n", b"newmtl wood\nmap_Kd gone.png\n", b"newmtl other\nKd 1 1 1\n"],
)
def test_an_obj_of_whose_colours_nothing_is_known_has_none(materials):
    text = "mtllib a.mtl\n" + SQUARE + "usemtl wood\nf 1/1 2/2 3/3\n"
    files = read_from(**({} if materials is None else {"a_mtl": materials}))
    assert decode_mesh("mesh", text.encode(), MESHES, files).sample(9)[1] is None
    assert decode((SQUARE + "f 1/1 2/2 3/3\n").encode()).sample(9)[1] is None


def test_what_is_wrong_with_a_named_file_is_told():
    text = "mtllib a.mtl\n" + SQUARE + "usemtl wood\nf 1/1 2/2 3/3\n"
    files = read_from(a_mtl=b"newmtl wood\nmap_Kd too_large.png\n")
    with pytest.raises(LimitExceeded, match=r"too_large.png: 2 pixels, the limit is 1"):
        decode_mesh("mesh", text.encode(), MESHES, files)
