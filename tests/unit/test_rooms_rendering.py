"""The renderer, by the real graphics library: colour, depth and ids of shapes whose place is known."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data.rooms.cameras import look
from trainer.data.rooms.palettes import Light
from trainer.data.rooms.rendering import Renderer, Stage
from trainer.data.rooms.shapes import cuboid, joined
from xscene.errors import PreconditionFailed
from xscene.geometry.frames import Frame, Points
from xscene.geometry.projection import Intrinsics, project

LENS = Intrinsics(fx=100, fy=110, cx=70.5, cy=40.5, width=160, height=120)
DAY = Light(name="day", ambient=(1.0, 1.0, 1.0), lamp=(0, 0, 0), day=(0, 0, 0))
LAMP = Light(name="lamp", ambient=(0.2, 0.2, 0.2), lamp=(1, 1, 1), day=(0, 0, 0))


@pytest.fixture(scope="module")
def renderer():
    try:
        with Renderer() as found:
            yield found
    except PreconditionFailed:
        pytest.skip("no EGL")


def stage(*shapes, lamp_at=(0.0, 0.0, 2.4)):
    ids = np.repeat(np.arange(1, len(shapes) + 1), [len(shape.vertices) for shape in shapes])
    return Stage(
        shape=joined(shapes),
        ids=ids.astype(np.uint16),
        lamp_at=np.array(lamp_at),
        windows=[],
        contact=np.ones((4, 4), dtype=np.float32),
        origin=np.array((-1.0, -1.0)),
    )


def test_depth_and_ids_are_those_of_a_slow_ray_cast(renderer):
    boxes = [
        ((2.0, -0.5, 0.0), (2.4, 0.3, 1.0)),
        ((1.5, 0.4, 0.5), (1.8, 0.9, 1.6)),
        ((4, -3, -1), (4.2, 3, 3)),
    ]
    renderer.load(stage(*(cuboid(low, high, (200, 100, 50)) for low, high in boxes)))
    pose = look(np.array((0.1, 0.2, 1.2)), 0.1, 0.15, 0.05)
    frame = renderer.render(pose, LENS, DAY, (1, 1, 1))
    rows, columns = np.indices(frame.depth.shape)
    rays = (
        np.stack(
            [(columns - LENS.cx) / LENS.fx, (rows - LENS.cy) / LENS.fy, np.ones_like(rows, dtype=float)],
            axis=-1,
        )
        @ pose[:3, :3].T
    )
    nearest, ids = np.full(frame.depth.shape, np.inf), np.zeros(frame.depth.shape, dtype=int)
    for number, (low, high) in enumerate(boxes, start=1):
        ends = np.stack([(np.array(side) - pose[:3, 3]) / rays for side in (low, high)])
        enters, leaves = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
        hit = (enters < leaves) & (enters > 0) & (enters < nearest)
        nearest[hit], ids[hit] = enters[hit], number
    # Where a ray passes within rounding of an edge, either side may be drawn.
    assert (frame.ids == ids).mean() > 0.995
    same = (frame.ids == ids) & (ids > 0)
    np.testing.assert_allclose(frame.depth[same], nearest[same], atol=2e-4)
    assert (frame.depth[frame.ids == 0] == 0).all()
    assert set(np.unique(frame.ids)) == {0, 1, 2, 3} or set(np.unique(frame.ids)) == {1, 2, 3}


def test_a_point_is_drawn_where_projection_says(renderer):
    small = cuboid((2.98, 0.48, 1.48), (3.02, 0.52, 1.52), (255, 0, 0))
    renderer.load(stage(small))
    pose = look(np.array((0.0, 0.0, 1.0)), 0.0, 0.0)
    rows, columns = np.nonzero(renderer.render(pose, LENS, DAY, (1, 1, 1)).ids)
    point = Points(np.array([(3.0, 0.5, 1.5)]), Frame.RAW)
    found = project(point, pose, LENS, threshold=0, border_px=0)
    assert abs(rows.mean() - found.rows[0]) <= 1
    assert abs(columns.mean() - found.columns[0]) <= 1


def test_colours_keep_under_full_light_and_follow_the_gain(renderer):
    renderer.load(stage(cuboid((2, -3, -2), (2.1, 3, 4), (200, 100, 50))))
    pose = look(np.array((0.0, 0.0, 1.0)), 0.0, 0.0)
    plain = renderer.render(pose, LENS, DAY, (1.25, 1.25, 1.25)).rgb[60, 80].astype(int)
    np.testing.assert_allclose(plain, (200, 100, 50), atol=2)
    red = renderer.render(pose, LENS, DAY, (1.25, 0.3125, 1.25)).rgb[60, 80].astype(int)
    np.testing.assert_allclose(red, (200, 50, 50), atol=2)


def test_a_table_throws_a_shadow_on_the_floor_below_it(renderer):
    floor = cuboid((-2, -2, -0.1), (2, 2, 0), (200, 200, 200))
    board = cuboid((-0.4, -0.4, 0.7), (0.4, 0.4, 0.75), (200, 200, 200))
    pose = look(np.array((-2.5, 0.0, 0.5)), 0.0, 0.25)
    renderer.load(stage(floor))
    open_floor = renderer.render(pose, LENS, LAMP, (1, 1, 1))
    renderer.load(stage(floor, board))
    shaded = renderer.render(pose, LENS, LAMP, (1, 1, 1))
    under = project(Points(np.array([(0.0, 0.0, 0.0)]), Frame.RAW), pose, LENS, threshold=0, border_px=0)
    beside = project(Points(np.array([(0.0, 1.2, 0.0)]), Frame.RAW), pose, LENS, threshold=0, border_px=0)
    spots = [(int(each.rows[0]), int(each.columns[0])) for each in (under, beside)]
    assert shaded.ids[spots[0]] == 1
    assert shaded.rgb[spots[0]].mean() < 0.8 * open_floor.rgb[spots[0]].mean()
    np.testing.assert_array_equal(shaded.rgb[spots[1]], open_floor.rgb[spots[1]])


def test_the_same_stage_gives_the_same_bytes(renderer):
    renderer.load(stage(cuboid((2, -1, 0), (3, 1, 1), (10, 200, 30))))
    pose = look(np.array((0.0, 0.0, 1.0)), 0.2, 0.1)
    first, second = (renderer.render(pose, LENS, LAMP, (1, 1, 1)) for _ in range(2))
    assert first.rgb.tobytes() == second.rgb.tobytes()
    assert first.depth.tobytes() == second.depth.tobytes()
