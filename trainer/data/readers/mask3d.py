"""Objects that Mask3D found, and what Chat-Scene's preparation made of them.

Masks may overlap, so a vertex may be of several objects. Rows of found objects and of true ones are
in different orders: they are matched by place, never by number.

Shapes: N vertices, K vertices of an object, D feature width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import MAX_TEXT_BYTES, read_bytes, read_lines, shown
from trainer.data.readers.tensors import MAX_TENSOR_BYTES, array_of, read_torch
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.geometry.boxes import AxisAlignedBoxes
from xscene.geometry.frames import Frame, Points

MAX_OBJECTS = 100


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object that Mask3D found."""

    rank: int
    """In the list of all by score; ranks of those that were dropped are missing."""
    label_id: int
    """ScanNet's raw id."""
    score: float
    vertices: NDArray[np.int64]
    """Indices (K,) into the mesh, ascending."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A named set of vertices."""

    label: str
    vertices: NDArray[np.int64]
    """Indices (K,)."""


@dataclass(frozen=True, eq=False)
class SegmentedCloud:
    """A cloud in the aligned frame with its objects; not for projection, which needs the raw frame."""

    points: Points
    colors: NDArray[np.uint8]
    """(N,3)"""
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Objects of a scan by row, as many labels as boxes."""

    labels: tuple[str, ...]
    boxes: AxisAlignedBoxes
    """Around the aligned points, by midpoint and size."""


def read_found(
    index: Path,
    num_vertices: int,
    *,
    min_score: float = 0.0,
    max_objects: int = 100_000,
    max_mask_bytes: int = MAX_TEXT_BYTES,
) -> tuple[FoundObject, ...]:
    """The objects that an index file `<scan>.txt` lists, in its order.

    Masks lie where the index says, `pred_mask/<scan>_<rank>.txt`, or one folder a scan deeper,
    `pred_mask/<scan>/<rank>.txt`.
    """
    lines = read_lines(index)
    if len(lines) > max_objects:
        raise LimitExceeded.of(index.name, value=len(lines), limit=max_objects, unit="objects")
    found = []
    for number, line in enumerate(lines, start=1):
        path, rank, label_id, score = _listed(index, f"{index.name}, line {number}", line)
        if score >= min_score:
            vertices = _mask(path, num_vertices, max_mask_bytes)
            found.append(FoundObject(rank, label_id, score, vertices))
    return tuple(found)


def _listed(index: Path, where: str, line: str) -> tuple[Path, int, int, float]:
    try:
        name, label_id, score = line.split()
        label, likely = int(label_id), float(score)
    except ValueError as error:
        raise InvalidInput.at(where, f"{shown(line)}, needs a mask's file, a label id and a score") from error
    flat = PurePosixPath(name)
    scan, _, rank = flat.stem.rpartition("_")
    if flat.is_absolute() or ".." in flat.parts or not (scan and rank.isdecimal()):
        raise InvalidInput.at(where, f"{shown(name)} names no mask below the index")
    if not math.isfinite(likely):
        raise InvalidInput.at(where, f"score {likely}, needs a finite number")
    paths = [index.parent / flat, index.parent / flat.parent / scan / f"{rank}{flat.suffix}"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise NotFound(f"{where}: there is neither {flat.name} nor {scan}/{rank}{flat.suffix}")
    return path, int(rank), label, likely


def _mask(path: Path, num_vertices: int, max_bytes: int) -> NDArray[np.int64]:
    words = read_bytes(path, max_bytes=max_bytes).split()
    if len(words) != num_vertices:
        raise InvalidInput.at(path.name, f"{len(words)} vertices, the mesh has {num_vertices}")
    if not set(words) <= {b"0", b"1"}:
        raise InvalidInput.at(path.name, "holds more than 0 and 1")
    return np.flatnonzero(np.array(words) == b"1")


def read_segments(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> tuple[Segment, ...]:
    """A file `mask3d_inst_seg/<scan>.pt`."""
    found = read_torch(path, max_bytes=max_bytes)
    if not isinstance(found, list):
        raise InvalidInput.at(path.name, "needs a list of objects")
    segments = []
    for at, entry in enumerate(found):
        where = f"{path.name}[{at}]"
        if not isinstance(entry, dict) or not {"label", "segments"} <= entry.keys():
            raise InvalidInput.at(where, "needs a label and segments")
        segments.append(_segment(entry["label"], entry["segments"], where))
    return tuple(segments)


def _segment(label: Any, vertices: Any, where: str, num_vertices: int | None = None) -> Segment:
    if not isinstance(label, str):
        raise InvalidInput.at(where, f"label is a {type(label).__name__}, needs a text")
    try:
        found = np.array(vertices if len(vertices) else np.zeros(0, np.int64))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput.at(where, "segments are no list of vertices") from error
    found = array_of(found, where, (None,), "i").astype(np.int64)
    most = np.inf if num_vertices is None else num_vertices
    if found.size and not 0 <= found.min() <= found.max() < most:
        raise InvalidInput.at(where, f"names vertices {found.min()} to {found.max()} of {num_vertices}")
    return Segment(label, found)


def read_segmented_cloud(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> SegmentedCloud:
    """A file `pcd_all/<scan>.pth`."""
    found = read_torch(path, max_bytes=max_bytes)
    if not isinstance(found, tuple | list) or len(found) != 4:
        raise InvalidInput.at(path.name, "needs a tuple of points, colours, labels and segments")
    coords, colors, labels, segments = found
    coords = array_of(coords, f"{path.name}: points", (None, 3), "f")
    if not np.isfinite(coords).all():
        raise InvalidInput.at(f"{path.name}: points", "holds numbers that are not finite")
    colors = array_of(colors, f"{path.name}: colours", (len(coords), 3), "fiu")
    if not ((colors >= 0) & (colors <= 255)).all():
        raise InvalidInput.at(f"{path.name}: colours", "not all within 0 and 255")
    if not isinstance(labels, list) or not isinstance(segments, list) or len(labels) != len(segments):
        raise InvalidInput.at(path.name, "needs a list of labels and one of segments, of one length")
    return SegmentedCloud(
        Points(coords, Frame.ALIGNED),
        np.rint(colors).astype(np.uint8),
        tuple(
            _segment(label, vertices, f"{path.name}[{at}]", len(coords))
            for at, (label, vertices) in enumerate(zip(labels, segments, strict=True))
        ),
    )


def read_attributes(
    path: Path, *, max_objects: int = MAX_OBJECTS, max_bytes: int = MAX_TENSOR_BYTES
) -> dict[str, ObjectTable]:
    """A file `scannet_..._attributes.pt` by scan; labels past the rows of boxes are cut off."""
    found = read_torch(path, max_bytes=max_bytes)
    return {
        scan: _attributes(entry, f"{path.name}: {scan}", max_objects) for scan, entry in _scans(found, path)
    }


def _scans(found: Any, path: Path) -> Iterator[tuple[str, Any]]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidInput.at(path.name, "needs a dict by scan")
    return iter(found.items())


def _attributes(entry: Any, where: str, max_objects: int) -> ObjectTable:
    if not isinstance(entry, dict) or not {"objects", "locs"} <= entry.keys():
        raise InvalidInput.at(where, "needs objects and locs")
    labels, rows = entry["objects"], array_of(entry["locs"], f"{where}: locs", (None, 6), "f")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InvalidInput.at(f"{where}: objects", "needs a list of texts")
    # A scan without objects has rows of zeros.
    rows = rows if labels else rows[:0]
    if len(rows) not in (len(labels), min(len(labels), max_objects)):
        raise InvalidInput.at(
            where, f"{len(rows)} boxes for {len(labels)} objects, of which {max_objects} count"
        )
    try:
        boxes = AxisAlignedBoxes(rows[:max_objects, :3], rows[:max_objects, 3:], Frame.ALIGNED)
    except InvalidInput as error:
        raise InvalidInput.at(where, error.message) from error
    return ObjectTable(tuple(labels[: len(boxes)]), boxes)


def read_object_features(
    path: Path, *, max_bytes: int = MAX_TENSOR_BYTES
) -> dict[str, Mapping[int, NDArray[np.float32]]]:
    """A file of vectors (D,) under `<scan>_<row>`, by scan and row; they are not normalised."""
    vectors: dict[str, dict[int, NDArray[np.float32]]] = {}
    width: int | None = None
    for key, value in _scans(read_torch(path, max_bytes=max_bytes), path):
        where = f"{path.name}: {key[:80]}"
        scan, row = split_key(key, where)
        vector = array_of(value, where, (width,), "f").astype(np.float32)
        if not np.isfinite(vector).all():
            raise InvalidInput.at(where, "holds numbers that are not finite")
        width = len(vector)
        vectors.setdefault(scan, {})[row] = vector
    return dict(vectors)


def object_key(scan_id: str, row: int) -> str:
    """The key of an object: at least two digits, as `scene0000_00_07` and `scene0000_00_107`."""
    return f"{scan_id}_{row:02}"


def split_key(key: str, where: str = "key") -> tuple[str, int]:
    """Scan and row; the scan's own id holds underscores too."""
    scan, _, row = key.rpartition("_")
    if not (scan and row.isdecimal()):
        raise InvalidInput.at(where, f"{shown(key)} is no <scan>_<row>")
    return scan, int(row)
