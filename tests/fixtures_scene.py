"""The synthetic scene behind all fixtures: a floor, a wall and a cabinet, seen by three cameras.

Shapes: V vertices, F faces, K frames, H and W pixels of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xscene.geometry.frames import Frame, Points
from xscene.geometry.projection import Intrinsics

Floats = NDArray[np.float64]

INTRINSICS = Intrinsics(fx=57.787061, fy=57.787061, cx=31.5, cy=23.5, width=64, height=48)
AXIS_ALIGNMENT_ROWS = ((0, -1, 0, 1.5), (1, 0, 0, -0.5), (0, 0, 1, 0.1), (0, 0, 0, 1))
INSTANCE_NAMES = ("floor", "wall", "cabinet")
NYU40_IDS = (2, 1, 3)
SCANNET_IDS = (3, 1, 7)
COLORS = ((180, 170, 160), (200, 200, 210), (120, 60, 30))
EYES = ((0.0, -1.8, 1.2), (-1.2, -1.5, 1.3))
TARGET = (0.0, 1.2, 0.4)
VERTICES_PER_SEGMENT = 60
CABINET_LOW, CABINET_HIGH = (-0.3, 0.7, 0.0), (0.3, 1.3, 0.6)


@dataclass(frozen=True, eq=False)
class Rectangle:
    """A flat grid of vertices: an origin and two edges, each cut into the same number of cells."""

    instance: int
    origin: tuple[float, float, float]
    first_edge: tuple[float, float, float]
    second_edge: tuple[float, float, float]
    cells: int

    def grid(self) -> tuple[Floats, NDArray[np.int64]]:
        """Vertices and faces, two triangles a cell."""
        side = self.cells + 1
        steps = np.linspace(0.0, 1.0, side)
        first, second = (axis.reshape(-1, 1) for axis in np.meshgrid(steps, steps, indexing="ij"))
        vertices = np.array(self.origin) + first * self.first_edge + second * self.second_edge
        corner = (np.arange(self.cells)[:, None] * side + np.arange(self.cells)).reshape(-1)
        lower = np.stack([corner, corner + side, corner + 1], axis=1)
        upper = np.stack([corner + 1, corner + side, corner + side + 1], axis=1)
        return vertices, np.concatenate([lower, upper])

    def hit(self, eye: Floats, rays: Floats) -> Floats:
        """Length along each ray at which it meets the rectangle, inf where it does not; rays (H,W,3)."""
        first, second = np.array(self.first_edge), np.array(self.second_edge)
        normal = np.cross(first, second)
        towards = rays @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            length = ((np.array(self.origin) - eye) @ normal) / towards
            place = eye + length[..., None] * rays - self.origin
        along = np.stack([place @ edge / (edge @ edge) for edge in (first, second)], axis=-1)
        inside = (length > 0) & np.all((along >= 0) & (along <= 1), axis=-1)
        return np.where(inside, length, np.inf)


def rectangles() -> list[Rectangle]:
    """Floor, wall and the cabinet's five faces; a cabinet stands on the floor, so it has no bottom."""
    return [
        Rectangle(0, (-2, -2, 0), (4, 0, 0), (0, 4, 0), cells=20),
        Rectangle(1, (-2, 2, 0), (4, 0, 0), (0, 0, 2.4), cells=20),
        Rectangle(2, (-0.3, 0.7, 0.6), (0.6, 0, 0), (0, 0.6, 0), cells=6),
        Rectangle(2, (-0.3, 0.7, 0), (0, 0.6, 0), (0, 0, 0.6), cells=6),
        Rectangle(2, (0.3, 0.7, 0), (0, 0.6, 0), (0, 0, 0.6), cells=6),
        Rectangle(2, (-0.3, 0.7, 0), (0.6, 0, 0), (0, 0, 0.6), cells=6),
        Rectangle(2, (-0.3, 1.3, 0), (0.6, 0, 0), (0, 0, 0.6), cells=6),
    ]


def look_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Floats:
    """Camera-to-world pose with x right, y down, z towards the target."""
    forward = np.subtract(target, eye)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, np.array(eye)], axis=1)
    return pose


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """Vertices with colours and ids, faces, and the frames that see them; frame 2 lost its tracking."""

    vertices: Floats  # (V,3) metres, raw frame
    faces: NDArray[np.int64]  # (F,3)
    colors: NDArray[np.uint8]  # (V,3)
    instance_ids: NDArray[np.int64]  # (V,)
    segment_ids: NDArray[np.int64]  # (V,)
    axis_alignment: Floats  # (4,4)
    intrinsics: Intrinsics
    camera_to_world: Floats  # (K,4,4)
    depth: Floats  # (K,H,W) metres, 0 is a hole
    pixel_instances: NDArray[np.int64]  # (K,H,W), -1 is a hole

    def points(self) -> Points:
        """The vertices, tagged with the frame that they are in."""
        return Points(self.vertices, Frame.RAW)

    def object_points(self, instance: int) -> Points:
        """The vertices of one object."""
        return Points(self.vertices[self.instance_ids == instance], Frame.RAW)


def ray_cast(pose: Floats, intrinsics: Intrinsics) -> tuple[Floats, NDArray[np.int64]]:
    """Depth (H,W) and instance ids (H,W) of what a camera sees."""
    rows, columns = np.mgrid[: intrinsics.height, : intrinsics.width]
    x = (columns - intrinsics.cx) / intrinsics.fx
    y = (rows - intrinsics.cy) / intrinsics.fy
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    surfaces = rectangles()
    lengths = np.stack([surface.hit(pose[:3, 3], rays) for surface in surfaces])
    seen = np.isfinite(lengths).any(axis=0)
    instances = np.array([surface.instance for surface in surfaces])[lengths.argmin(axis=0)]
    return np.where(seen, lengths.min(axis=0), 0.0), np.where(seen, instances, -1)


def synthetic_scene() -> SyntheticScene:
    """Builds the scene; the same every time."""
    grids = [(surface.instance, *surface.grid()) for surface in rectangles()]
    starts = np.cumsum([0, *(len(vertices) for _, vertices, _ in grids)])
    instance_ids = np.concatenate([np.full(len(vertices), instance) for instance, vertices, _ in grids])
    index_in_object = np.concatenate([np.arange(count) for count in np.bincount(instance_ids)])
    poses = [look_at(eye, TARGET) for eye in EYES]
    frames = [ray_cast(pose, INTRINSICS) for pose in poses]
    lost = (np.zeros_like(frames[0][0]), np.full_like(frames[0][1], -1))
    return SyntheticScene(
        vertices=np.concatenate([vertices for _, vertices, _ in grids]),
        faces=np.concatenate(
            [faces + start for (_, _, faces), start in zip(grids, starts[:-1], strict=True)]
        ),
        colors=np.array(COLORS, dtype=np.uint8)[instance_ids],
        instance_ids=instance_ids,
        segment_ids=100 * (instance_ids + 1) + index_in_object // VERTICES_PER_SEGMENT,
        axis_alignment=np.array(AXIS_ALIGNMENT_ROWS, dtype=np.float64),
        intrinsics=INTRINSICS,
        camera_to_world=np.stack([*poses, np.full((4, 4), -np.inf)]),
        depth=np.stack([depth for depth, _ in [*frames, lost]]),
        pixel_instances=np.stack([instances for _, instances in [*frames, lost]]),
    )
