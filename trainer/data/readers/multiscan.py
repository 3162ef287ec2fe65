"""MultiScan: reconstructed rooms whose faces carry objects, scanned several times each.

The raw frame is that of the mesh, which is aligned already; poses are brought into it. Shapes: V vertices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.annotations import ObjectFiles, by_object, oriented_box
from trainer.data.readers.documents import Value, json_lines, read_json
from trainer.data.readers.files import read_text
from trainer.data.readers.limits import SCAN_LIMITS, ScanLimits
from trainer.data.readers.listings import folder, listed_splits, present
from trainer.data.readers.ply import PlyFile, read_ply
from trainer.data.readers.snapshots import Snapshot, camera, lost_pose, picture_bytes, tracked_pose
from trainer.data.scans import (
    NO_OBJECT,
    Dataset,
    Referral,
    Registry,
    Scan,
    ScanEntry,
    ScannedObject,
    ScannedSurface,
    View,
)
from xscene.errors import InvalidInput
from xscene.geometry.frames import Frame, Matrix, Points, inverse, matrix_from_numbers
from xscene.geometry.projection import Intrinsics

NAME = "multiscan"
SCAN_ID = re.compile(r"(?P<place>.+)_(?P<number>[0-9]+)")
FRAME = re.compile(r"frame-([0-9]{1,9})\.color\.jpg")
COLOR_STREAM = "color_camera"
# Cameras of the files look along -z with y up.
FLIPPED_Y_Z = np.diag((1.0, -1.0, -1.0, 1.0))
REMOVED = "remove"


class MultiscanDataset(Dataset):
    """A folder with `scenes` and `files`."""

    name = NAME

    def __init__(self, root: Path, *, limits: ScanLimits = SCAN_LIMITS) -> None:
        self.limits = limits
        self._scans, self._files = folder(root, "scenes"), folder(root, "files")
        self.object_files = ObjectFiles(self._files, limits)

    def entries(self) -> tuple[ScanEntry, ...]:
        """Listed scans that are there; the lowest number of a place is its reference."""
        entries: list[ScanEntry] = []
        seen: set[str] = set()
        for scan_id, split in sorted(listed_splits(self._files, self.limits).items()):
            match = SCAN_ID.fullmatch(scan_id)
            if match is None:
                raise InvalidInput.at(NAME, f"{scan_id} does not end with the number of a scan")
            place, folder_there = match["place"], (self._scans / scan_id).is_dir()
            is_reference = folder_there and place not in seen
            seen |= {place} if folder_there else set()
            entries.append(ScanEntry(scan_id=scan_id, place_id=place, split=split, is_reference=is_reference))
        return present(entries, {entry.scan_id: self._scans / entry.scan_id for entry in entries}, NAME)

    def open(self, entry: ScanEntry) -> MultiscanScan:
        """A scan of this data set."""
        return MultiscanScan(entry, self._scans / entry.scan_id, self)


class MultiscanScan(Scan):
    """A scan."""

    def __init__(self, entry: ScanEntry, path: Path, data_set: MultiscanDataset) -> None:
        self.entry, self._path, self._data_set = entry, path, data_set

    def surface(self) -> ScannedSurface:
        """The mesh; a vertex belongs to the object of the last face that has it."""
        mesh = read_ply(self._path / f"{self.entry.scan_id}.ply", limits=self._limits.ply)
        return ScannedSurface(
            points=Points(mesh.positions(), Frame.RAW),
            colors=mesh.colors(),
            object_ids=_vertex_ids(mesh, self._removed_ids()),
            faces=mesh.faces,
        )

    def objects(self) -> tuple[ScannedObject, ...]:
        """Annotated objects, without those that stand for what was to be removed."""
        return tuple(
            ScannedObject(
                object_id=number,
                label=label,
                nyu40=self._data_set.object_files.nyu40(label),
                box=None if (obb := one.get("obb")) is None else oriented_box(obb),
            )
            for number, one in sorted(self._annotated().items())
            if not _is_removed(label := _label(one))
        )

    def views(self) -> Sequence[View]:
        """Extracted frames; a frame without a pose counts as one whose tracking was lost."""
        folder_path = self._path / "sequence"
        names = [found.name for found in folder_path.iterdir()] if folder_path.is_dir() else []
        numbers = sorted((match.group(1) for name in names if (match := FRAME.fullmatch(name))), key=int)
        if not numbers:
            return ()
        stream, align, poses = self._stream(), self._mesh_from_poses(), self._poses()
        return tuple(
            MultiscanView(
                number,
                folder_path / f"frame-{number}.color.jpg",
                poses.get(int(number)),
                align,
                stream,
                self._limits,
            )
            for number in numbers
        )

    def sources(self) -> tuple[Path, ...]:
        """What is of this scan, and what the data set says of objects."""
        return self._path, *self._data_set.object_files.paths

    def referrals(self) -> tuple[Referral, ...]:
        """SceneVerse's sentences, whose target is an object's id."""
        return self._data_set.object_files.referrals.get(self.entry.scan_id, ())

    @property
    def _limits(self) -> ScanLimits:
        return self._data_set.limits

    def _json(self, name: str) -> Value:
        return read_json(self._path / name, max_bytes=self._limits.max_json_bytes)

    def _annotated(self) -> dict[int, Value]:
        described = self._json(f"{self.entry.scan_id}.annotations.json")["objects"]
        return by_object(described.items(), "objectId")

    def _removed_ids(self) -> list[int]:
        return [number for number, one in self._annotated().items() if _is_removed(_label(one))]

    def _mesh_from_poses(self) -> Matrix:
        """From the frame of the poses to that of the mesh (4,4)."""
        value = self._json(f"{self.entry.scan_id}.align.json")["coordinate_transform"]
        matrix = matrix_from_numbers(value.numbers((16,)), order="column", field=value.where)
        return inverse(matrix, value.where)

    def _stream(self) -> Value:
        """What is said of the colour camera."""
        recorded = self._json(f"{self.entry.scan_id}.json")["streams"]
        for stream in recorded.items():
            if stream["type"].text() == COLOR_STREAM:
                return stream
        raise InvalidInput.at(recorded.where, f"has no {COLOR_STREAM}")

    def _poses(self) -> dict[int, Value]:
        """Lines of `poses.jsonl` by frame."""
        path = self._path / "poses.jsonl"
        text = read_text(path, max_bytes=self._limits.max_json_bytes)
        return {line["frame_id"].integer(): line for line in json_lines(text, path.name)}


@dataclass(eq=False)
class MultiscanView(Snapshot):
    """An extracted frame."""

    view_id: str
    path: Path
    line: Value | None
    mesh_from_poses: Matrix
    stream: Value
    limits: ScanLimits

    def color(self) -> bytes:
        """A JPEG."""
        return picture_bytes(self.path, self.limits)

    def read_pose(self) -> Matrix:
        """Lost where the line is missing or its numbers are not finite."""
        if self.line is None:
            return lost_pose()
        value = self.line["transform"]
        matrix = matrix_from_numbers(_numbers(value), order="column", field=value.where)
        if matrix[3, 3] == 0 or not np.isfinite(matrix).all():
            return lost_pose()
        pose = matrix @ FLIPPED_Y_Z / matrix[3, 3]
        return self.mesh_from_poses @ tracked_pose(pose, value.where)

    def read_intrinsics(self) -> Intrinsics:
        """The frame's own, or the stream's for a frame without a line."""
        source = self.stream if self.line is None else self.line
        value = source["intrinsics"]
        height, width = self.stream["resolution"].integers((None,))[:2].tolist()
        matrix = value.numbers((9,)).reshape(3, 3).T
        return camera(value.where, Intrinsics.from_matrix, matrix, width=width, height=height)


def _numbers(value: Value) -> list[float]:
    """Numbers of a pose, which may be infinite or none."""
    plain = value.plain
    if not isinstance(plain, list) or not all(type(one) in (int, float) for one in plain):
        raise InvalidInput.at(value.where, "is no list of numbers")
    return [float(one) for one in plain]


def _label(one: Value) -> str:
    """`wall_cabinet.3` is a wall cabinet."""
    return one["label"].text().partition(".")[0].replace("_", " ").strip()


def _is_removed(label: str) -> bool:
    return label.lower().startswith(REMOVED)


def _vertex_ids(mesh: PlyFile, removed: list[int]) -> NDArray[np.int32]:
    """Object of each vertex (V,); of equal claims on a vertex the last face's counts."""
    if mesh.faces is None or "objectId" not in mesh.face:
        raise InvalidInput.at(mesh.name, "its faces have no objectId")
    of_faces = mesh.face["objectId"].astype(np.int32)
    of_faces[(of_faces <= 0) | np.isin(of_faces, removed)] = NO_OBJECT
    ids = np.full(len(mesh.property("x")), NO_OBJECT, dtype=np.int32)
    # Where an index is repeated, numpy keeps the last value.
    ids[mesh.faces.reshape(-1)] = np.repeat(of_faces, 3)
    return ids


def register(registry: Registry) -> None:
    """Make MultiScan known."""
    registry.register(NAME, MultiscanDataset)
