"""GLB files: what their scene shows, in its place and its colours."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from encoders_3d.meshes import decode_mesh
from encoders_3d.surfaces import Surface
from tests.points import MESHES, glb_of, one_mesh


def decode(data: bytes) -> Surface:
    return decode_mesh("mesh[2]", data, MESHES)


def color(data: bytes) -> list[int]:
    """The colour of a mesh that has one."""
    colors = decode(data).sample(50)[1]
    (found,) = np.unique(colors, axis=0).tolist()
    return found


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.float32, [0.5, 0.25, 1.0]),
        (np.uint8, [128, 64, 255]),
        (np.uint16, [32768, 16384, 65535]),
        (np.uint16, [32768, 16384, 65535, 0]),
    ],
)
def test_colours_of_glb_may_be_of_any_width(dtype, values):
    colors = np.array([values] * 3, dtype)
    assert color(glb_of(colors, meshes=one_mesh(attributes={"COLOR_0": 1}))) == [128, 64, 255]


def test_colours_of_vertices_are_multiplied_by_those_of_the_material():
    colors = np.array([[128, 64, 255, 255]] * 3, np.uint8)
    for factor, wanted in (([1, 1, 1, 1], [128, 64, 255]), ([0.5, 0, 1, 1], [64, 0, 255])):
        materials = [{"pbrMetallicRoughness": {"baseColorFactor": factor}}]
        meshes = one_mesh(attributes={"COLOR_0": 1}, material=0)
        assert color(glb_of(colors, meshes=meshes, materials=materials)) == wanted
    assert color(glb_of(colors, meshes=meshes, materials=[{}])) == [128, 64, 255]


def quarters() -> bytes:
    """Red and green above blue and white."""
    pixels = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("dtype", "values"), [(np.float32, [0.9, 0.1]), (np.uint8, [230, 25]), (np.uint16, [59000, 6500])]
)
def test_places_in_a_texture_may_be_of_any_width_and_in_any_set(dtype, values):
    here, elsewhere = np.array([values] * 3, dtype), np.array([[0.1, 0.9]] * 3, np.float32)
    for number, order in ((0, (here, elsewhere)), (1, (elsewhere, here))):
        texture = {"index": 0, "texCoord": number}
        found = glb_of(
            *order,
            picture=quarters(),
            images=[{"bufferView": 3}],
            textures=[{"source": 0}],
            materials=[{"pbrMetallicRoughness": {"baseColorTexture": texture}}],
            meshes=one_mesh(attributes={"TEXCOORD_0": 1, "TEXCOORD_1": 2}, material=0),
        )
        assert color(found) == [0, 255, 0]


@pytest.mark.parametrize(("mode", "area_m2"), [(4, 0.5), (5, 1.0), (6, 0.5 + 0.5)])
def test_triangles_come_in_three_orders(mode, area_m2):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    if mode == 6:
        corners = corners[[0, 1, 3, 2]]
    surface = decode(glb_of(corners, meshes=one_mesh(attributes={"POSITION": 1}, mode=mode)))
    assert surface.area_m2 == pytest.approx(area_m2)


def test_only_what_the_scene_shows_counts_and_without_scenes_all_does():
    nodes = [{"mesh": 0}, {"children": [2]}, {"mesh": 0}]
    for scenes, area_m2 in (([{"nodes": [0]}, {"nodes": [1]}], 0.5), ([{"nodes": [0, 1]}], 1.0), ([], 1.0)):
        assert decode(glb_of(nodes=nodes, scenes=scenes)).area_m2 == pytest.approx(area_m2)


def test_a_node_is_scaled_then_turned_then_shifted():
    half = 0.5**0.5
    node = {"mesh": 0, "translation": [5, 0, 0], "rotation": [0, 0, half, half], "scale": [2, 3, 1]}
    (part,) = decode(glb_of(nodes=[{"children": [1]}, node])).parts
    np.testing.assert_allclose(part.triangles[0], [[5, 0, 0], [5, 0, 2], [2, 0, 0]], atol=1e-6)


def test_many_nodes_in_a_chain_and_many_meshes_take_no_square_of_the_time():
    num = 8000
    chain = [{"children": [number + 1]} for number in range(num - 1)] + [{"mesh": 0}]
    chain[num // 2]["mesh"] = 0
    lists = [{"primitives": []} for _ in range(40_000)] + one_mesh()
    started = time.process_time()
    assert decode(glb_of(nodes=chain)).area_m2 == pytest.approx(1.0)
    nodes = [{"mesh": 40_000}] * 500 + [{"mesh": 0}] * 12_000
    assert decode(glb_of(nodes=nodes, meshes=lists, scenes=[])).area_m2 == pytest.approx(250)
    # The square of either number took more than 10 seconds.
    assert time.process_time() - started < 5
