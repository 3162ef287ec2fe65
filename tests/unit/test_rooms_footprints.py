"""Upright boxes on the floor plan, compared with exact volumes, sampled points and a slow search."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.data.rooms import palettes
from trainer.data.rooms.footprints import Footprint, fits, in_outline, overlap, walk, wall_distance
from trainer.data.rooms.relations import gap_m
from xscene.geometry.boxes import oriented_iou
from xscene.geometry.frames import Frame

ELL = palettes.outline("ell", 4.0, 3.0)


def footprint(x=0.0, y=0.0, width=1.0, depth=1.0, yaw=0.0, low=0.0, high=1.0):
    return Footprint(x=x, y=y, width=width, depth=depth, yaw=yaw, low=low, high=high)


@st.composite
def footprints(draw):
    low = draw(st.floats(0, 2))
    return footprint(
        draw(st.floats(-1, 4)),
        draw(st.floats(-1, 4)),
        draw(st.floats(0.2, 2)),
        draw(st.floats(0.2, 2)),
        draw(st.floats(-4, 4)),
        low,
        low + draw(st.floats(0.1, 1.5)),
    )


@given(footprints(), footprints())
def test_two_boxes_overlap_where_they_share_volume(first, second):
    shared = oriented_iou(first.box(Frame.RAW), second.box(Frame.RAW))
    # Closer to touching than rounding can tell, either answer is right.
    assume(shared == 0 or shared > 1e-6)
    assert overlap(first, second) == overlap(second, first)
    if shared > 1e-6:
        assert overlap(first, second)
    elif overlap(first, second):
        shrunk = replace(first, width=first.width - 1e-3, depth=first.depth - 1e-3, high=first.high - 1e-3)
        assert not overlap(replace(shrunk, low=first.low + 1e-3), second)


@pytest.mark.parametrize("shape", list(palettes.OUTLINES))
def test_every_outline_is_counter_clockwise_and_starts_at_the_origin(shape):
    outline = palettes.outline(shape, 4.0, 3.0)
    nxt = np.roll(outline, -1, axis=0)
    assert (outline[:, 0] * nxt[:, 1] - outline[:, 1] * nxt[:, 0]).sum() > 0
    np.testing.assert_array_equal(outline.min(axis=0), (0, 0))
    np.testing.assert_array_equal(outline.max(axis=0), (4, 3))


@given(footprints(), st.sampled_from(sorted(palettes.OUTLINES)))
def test_a_rectangle_fits_where_all_of_its_points_lie_inside(box, shape):
    outline = palettes.outline(shape, 4.0, 3.0)
    share = np.linspace(-0.4999, 0.4999, 41)
    grid = np.stack(np.meshgrid(share, share), axis=-1).reshape(-1, 2) * (box.width, box.depth)
    points = grid @ np.stack(box.axes()) + (box.x, box.y)
    inside = in_outline(points, outline)
    if fits(box, outline):
        assert (inside | (wall_distance(points, outline) < 1e-3)).all()
    elif inside.all():
        # What sampling misses is a corner of the outline that reaches in between two samples.
        assert wall_distance(points, outline).min() < max(box.width, box.depth) / 20


def test_points_in_the_cut_of_an_ell_are_outside():
    points = np.array([(1.0, 1.0), (3.5, 2.5), (2.0, 2.9), (5.0, 1.0)])
    np.testing.assert_array_equal(in_outline(points, ELL), [True, False, True, False])


@given(footprints(), footprints())
def test_the_gap_between_rectangles_is_at_most_that_of_sampled_points(first, second):
    share = np.linspace(-0.5, 0.5, 9)
    grid = np.stack(np.meshgrid(share, share), axis=-1).reshape(-1, 2)
    points = grid * (first.width, first.depth) @ np.stack(first.axes()) + (first.x, first.y)
    assert gap_m(first, second) <= second.distance(points).min() + 1e-9
    assert math.isclose(gap_m(first, second), gap_m(second, first), abs_tol=1e-9)


def slow_walk(outline, blockers, start, cell_m, radius_m):
    low, high = outline.min(axis=0), outline.max(axis=0)
    counts = np.floor((high - low) / cell_m).astype(int)

    def free(i, j):
        point = low + (np.array((i, j)) + 0.5) * cell_m
        if not in_outline(point, outline) or wall_distance(point, outline) < radius_m:
            return False
        return all(blocker.distance(point) >= radius_m for blocker in blockers)

    cells = {(i, j) for i in range(counts[0]) for j in range(counts[1]) if free(i, j)}
    first = min(cells, key=lambda c: float(np.hypot(*(low + (np.array(c) + 0.5) * cell_m - start))))
    reached, waiting = {first}, deque([first])
    while waiting:
        i, j = waiting.popleft()
        for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if cell in cells and cell not in reached:
                reached.add(cell)
                waiting.append(cell)
    return reached


@pytest.mark.parametrize("width", [2.4, 3.2, 3.9])
def test_a_person_reaches_what_a_slow_search_reaches(width):
    barrier = [footprint(width / 2, 1.0, width, 0.3), footprint(1.0, 0.3, 0.4, 0.4, 0.5)]
    start = np.array((0.5, 0.4))
    found = walk(ELL, barrier, start, cell_m=0.1, radius_m=0.2)
    assert {tuple(cell) for cell in np.argwhere(found.reached)} == slow_walk(ELL, barrier, start, 0.1, 0.2)


def test_a_barrier_from_wall_to_wall_cuts_the_room_in_two():
    far = footprint(0.5, 2.5, 0.3, 0.3)
    open_floor = walk(ELL, [footprint(1.0, 1.2, 2.0, 0.3)], np.array((0.5, 0.4)))
    closed_floor = walk(ELL, [footprint(2.0, 1.2, 4.0, 0.3)], np.array((0.5, 0.4)))
    assert open_floor.beside(far)
    assert not closed_floor.beside(far)
    assert closed_floor.beside(footprint(3.0, 0.5, 0.3, 0.3))


def test_what_hangs_above_head_height_is_in_nobodys_way():
    lamp = footprint(2.0, 1.0, 4.0, 0.3, low=1.9, high=2.4)
    assert walk(ELL, [lamp], np.array((0.5, 0.4))).beside(footprint(0.5, 2.5, 0.3, 0.3))


def test_a_door_that_is_blocked_leaves_nothing_to_stand_on():
    blocked = walk(ELL, [footprint(0.7, 0.7, 1.6, 1.6)], np.array((0.5, 0.4)))
    assert len(blocked.stands()) == 0
    assert not blocked.beside(footprint(3.0, 0.5))
