"""Floorplans drawn from walls and CAD models: dark on white, from above, x to the right and y up.

Shapes: C corners, E edges, F faces of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from encoders_3d.surfaces import Surface
from trainer.data.preparation.pictures import png
from trainer.data.preparation.settings import Settings
from trainer.data.scans import LayoutEdges
from xscene.geometry.frames import Floats, Frame, Matrix, align, apply

STYLE = "drawn"
OUTLINE_PX = 3
WALL_COLOR, FURNITURE_COLOR, OUTLINE_COLOR = "#101010", "#a0a0a0", "#505050"


@dataclass(frozen=True, eq=False)
class PlacedModel:
    """A model, the scale along its own axes (3,), and its pose (4,4) in the aligned frame."""

    surface: Surface
    scale: Floats
    aligned_from_canonical: Matrix

    def triangles(self) -> Matrix:
        """Corners of faces (F,3,3) in the aligned frame."""
        corners = np.concatenate([part.triangles for part in self.surface.parts]).reshape(-1, 3)
        return apply(self.aligned_from_canonical, corners * self.scale).reshape(-1, 3, 3)


@dataclass(frozen=True, eq=False)
class DrawnFloorplan:
    """A plan as PNG, and the matrix (3,3) that gives column and row of a point."""

    encoded: bytes
    pixels_from_aligned: Matrix


def draw(
    layout: LayoutEdges | None,
    models: Sequence[PlacedModel],
    aligned_from_raw: Matrix,
    settings: Settings,
) -> DrawnFloorplan | None:
    """The plan of what is known of a room; None where neither walls nor models are."""
    corners, edges = _walls(layout, aligned_from_raw)
    placed = [model.triangles() for model in models]
    everything = [corners[edges.reshape(-1), :2], *(faces[..., :2].reshape(-1, 2) for faces in placed)]
    if not sum(len(part) for part in everything):
        return None
    matrix, size_px = _frame(np.concatenate(everything), settings)
    image = Image.new("RGB", size_px, "white")
    pen = ImageDraw.Draw(image)
    # What stands low is drawn first, so that a table does not cover what is on it.
    for faces in sorted(placed, key=lambda faces: float(faces[..., 2].min())):
        triangles = [[(x, y) for x, y in face] for face in _pixels(faces, matrix).tolist()]
        # Filled after all edges were drawn thick: what stays of those is the outline.
        for triangle in triangles:
            pen.line([*triangle, triangle[0]], fill=OUTLINE_COLOR, width=OUTLINE_PX)
        for triangle in triangles:
            pen.polygon(triangle, fill=FURNITURE_COLOR)
    for start, end in _pixels(corners, matrix)[edges].tolist():
        pen.line([(*start,), (*end,)], fill=WALL_COLOR, width=settings.floorplan_line_px)
    return DrawnFloorplan(png(image), matrix)


def _walls(layout: LayoutEdges | None, aligned_from_raw: Matrix) -> tuple[Matrix, Matrix]:
    """Corners (C,3) in the aligned frame and edges (E,2)."""
    if layout is None:
        return np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64)
    in_raw = layout.corners.frame is Frame.RAW
    corners = align(layout.corners, aligned_from_raw) if in_raw else layout.corners
    return corners.xyz.astype(np.float64), layout.edges.astype(np.int64)


def _frame(points: Matrix, settings: Settings) -> tuple[Matrix, tuple[int, int]]:
    """Matrix (3,3) and size of a picture that shows all points (N,2) within a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = settings.floorplan_margin_px
    room_px = max(settings.max_floorplan_px - 2 * margin, 1)
    scale = min(settings.floorplan_px_per_m, room_px / max(float((high - low).max()), 1e-6))
    width, height = (np.ceil((high - low) * scale).astype(int) + 2 * margin + 1).tolist()
    matrix = np.array(
        ((scale, 0.0, margin - low[0] * scale), (0.0, -scale, margin + high[1] * scale), (0.0, 0.0, 1.0))
    )
    return matrix, (width, height)


def _pixels(points: Matrix, matrix: Matrix) -> Matrix:
    found: Matrix = points[..., :2] @ matrix[:2, :2].T + matrix[:2, 2]
    return found
