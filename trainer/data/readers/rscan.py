"""3RScan: rooms scanned again after things had moved, each rescan aligned with its reference.

Shapes: V vertices.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.annotations import ObjectFiles, by_object, majority, nyu40_or_none, oriented_box
from trainer.data.readers.documents import Value, read_json
from trainer.data.readers.limits import SCAN_LIMITS, ScanLimits
from trainer.data.readers.listings import checked_id, folder, listed_splits, present
from trainer.data.readers.nearest import nearest_rows
from trainer.data.readers.obj import ObjMesh, read_obj
from trainer.data.readers.ply import PlyFile, read_ply
from trainer.data.readers.rscan_motions import MAX_SHIFT_M, rescan_link
from trainer.data.readers.rscan_sequence import sequence_views
from trainer.data.scans import (
    NO_OBJECT,
    Dataset,
    Referral,
    Registry,
    RescanLink,
    Scan,
    ScanEntry,
    ScannedObject,
    ScannedSurface,
    Split,
    View,
)
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Floats, Frame, Points

log = logging.getLogger(__name__)

NAME = "3rscan"
PLACES, OBJECTS = "3RScan.json", "objects.json"
MESH, LABELS = "mesh.refined.v2.obj", "labels.instances.annotated.v2.ply"
SEGMENTS, GROUPS = "mesh.refined.0.010000.segs.v2.json", "semseg.v2.json"
SPLITS = {"train": Split.TRAIN, "validation": Split.VAL, "val": Split.VAL, "test": Split.TEST}
# What the files have 0 for.
UNLABELLED = 0


@dataclass(frozen=True, kw_only=True)
class RscanRules:
    """What the reader takes for granted."""

    max_shift_m: float = MAX_SHIFT_M
    """Rescans lie no further from their reference; millimetres taken for metres would."""
    match_radius_m: float = 0.02
    """Vertices of mesh and labels that are one lie no further apart."""


class RscanDataset(Dataset):
    """A folder with `scans` and `files`, or with everything side by side."""

    name = NAME

    def __init__(
        self, root: Path, *, limits: ScanLimits = SCAN_LIMITS, rules: RscanRules = RscanRules()
    ) -> None:
        self.limits, self.rules = limits, rules
        self._scans, self._files = folder(root, "scans"), folder(root, "files")
        self.object_files = ObjectFiles(self._files, limits)

    def entries(self) -> tuple[ScanEntry, ...]:
        """Scans that are there, of those that `3RScan.json` names, or the lists of splits without it."""
        if (self._files / PLACES).exists():
            entries = list(self._placed())
        else:
            lists = listed_splits(self._files, self.limits)
            entries = [ScanEntry(scan_id=one, place_id=one, split=split) for one, split in lists.items()]
        folders = {entry.scan_id: self._scans / entry.scan_id for entry in entries}
        return present(entries, folders, NAME, PLACES)

    def _placed(self) -> Iterator[ScanEntry]:
        for place in self._places.items():
            reference, kind = place["reference"].text(), place["type"].text()
            if kind not in SPLITS:
                raise InvalidInput.at(place["type"].where, f"{kind!r}, needs one of {', '.join(SPLITS)}")
            ids = [reference, *(rescan["reference"].text() for rescan in place["scans"].items())]
            for scan_id in ids:
                yield ScanEntry(
                    scan_id=checked_id(scan_id, place.where),
                    place_id=reference,
                    split=SPLITS[kind],
                    is_reference=scan_id == reference,
                )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that speak of all scans, whether they are there or not."""
        return self._files / PLACES, self._files / OBJECTS

    @cached_property
    def _places(self) -> Value:
        return read_json(self._files / PLACES, max_bytes=self.limits.max_json_bytes)

    @cached_property
    def _rescans(self) -> Mapping[str, Value]:
        """What is said of each rescan."""
        if not (self._files / PLACES).exists():
            return {}
        rescans = (rescan for place in self._places.items() for rescan in place["scans"].items())
        return {rescan["reference"].text(): rescan for rescan in rescans}

    @cached_property
    def labels(self) -> Mapping[str, Mapping[int, str]]:
        """Label of each object of each scan, as `objects.json` has them."""
        path = self._files / OBJECTS
        if not path.exists():
            return {}
        return {
            scan["scan"].text(): {
                one: said["label"].text() for one, said in by_object(scan["objects"].items(), "id").items()
            }
            for scan in read_json(path, max_bytes=self.limits.max_json_bytes)["scans"].items()
        }

    def open(self, entry: ScanEntry) -> RscanScan:
        """A scan of this data set."""
        return RscanScan(entry, self._scans / entry.scan_id, self)

    def link(self, scan: RscanScan) -> RescanLink | None:
        """How a rescan lies in its reference; None for a reference, and where it is held back for a test."""
        rescan = self._rescans.get(scan.entry.scan_id)
        if rescan is None or rescan.get("transform") is None:
            return None
        reference_id = scan.entry.place_id
        reference = RscanScan(
            ScanEntry(scan_id=reference_id, place_id=reference_id, split=scan.entry.split),
            self._scans / reference_id,
            self,
        )
        return rescan_link(
            rescan, reference_id, scan.boxes(), (scan.ids(), reference.ids()), self.rules.max_shift_m
        )


class RscanScan(Scan):
    """A scan; poses and vertices are in its own frame, also those of a rescan."""

    def __init__(self, entry: ScanEntry, path: Path, data_set: RscanDataset) -> None:
        self.entry, self._path, self._data_set = entry, path, data_set

    def surface(self) -> ScannedSurface:
        """The textured mesh with objects from the labels file; that file's colours are a palette."""
        mesh = read_obj(self._path / MESH, self._limits) if (self._path / MESH).exists() else None
        labels = self._labels
        if mesh is not None:
            points, ids = Points(mesh.points, Frame.RAW), self._mesh_ids(mesh, labels)
            return ScannedSurface(points=points, colors=mesh.colors, object_ids=ids, faces=mesh.faces)
        if labels is None:
            raise NotFound(f"{self.entry.scan_id}: has neither {MESH} nor {LABELS}")
        return ScannedSurface(
            points=Points(labels.positions(), Frame.RAW),
            colors=None,
            object_ids=_object_ids(labels.property("objectId")),
            faces=labels.faces,
        )

    def objects(self) -> tuple[ScannedObject, ...]:
        """Objects of the annotation; none for scans that are held back for a test."""
        labels, boxes = self._object_labels(), self.boxes()
        file = self._labels if labels else None
        classes: dict[int, int] = {}
        if file is not None and "NYU40" in file.vertex:
            classes = majority(_object_ids(file.property("objectId")), file.property("NYU40"))
        return tuple(
            ScannedObject(
                object_id=one,
                label=labels[one],
                nyu40=nyu40_or_none(classes.get(one, UNLABELLED)),
                box=boxes.get(one),
            )
            for one in sorted(labels)
        )

    def views(self) -> Sequence[View]:
        """Frames of the sequence."""
        return sequence_views(self._path, self._limits)

    def sources(self) -> tuple[Path, ...]:
        """What is of this scan, what the data set says of objects, and those of the reference."""
        reference = self._path.with_name(self.entry.place_id) / GROUPS
        return self._path, reference, *self._data_set.object_files.paths, *self._data_set.paths

    def referrals(self) -> tuple[Referral, ...]:
        """SceneVerse's sentences, whose target is an object's id."""
        return self._data_set.object_files.referrals.get(self.entry.scan_id, ())

    def rescan_link(self) -> RescanLink | None:
        """Where `3RScan.json` has it."""
        return self._data_set.link(self)

    @property
    def _limits(self) -> ScanLimits:
        return self._data_set.limits

    @cached_property
    def _groups(self) -> dict[int, Value]:
        """Groups of segments by object."""
        path = self._path / GROUPS
        if not path.exists():
            return {}
        groups = read_json(path, max_bytes=self._limits.max_json_bytes)["segGroups"]
        return by_object(groups.items(), "objectId", "id")

    def boxes(self) -> dict[int, OrientedBox]:
        """Box of each object that has one."""
        return {
            one: oriented_box(obb)
            for one, group in self._groups.items()
            if (obb := group.get("obb")) is not None
        }

    def ids(self) -> frozenset[int]:
        """Objects that the annotation names."""
        return frozenset(self._object_labels())

    def _object_labels(self) -> dict[int, str]:
        own = {one: group["label"].text() for one, group in self._groups.items()}
        return own | dict(self._data_set.labels.get(self.entry.scan_id, {}))

    @cached_property
    def _labels(self) -> PlyFile | None:
        """The labels file, which is a text and slow to read."""
        path = self._path / LABELS
        return read_ply(path, limits=self._limits.ply) if path.exists() else None

    def _mesh_ids(self, mesh: ObjMesh, labels: PlyFile | None) -> NDArray[np.int32]:
        """Object of each vertex (V,) of the mesh."""
        if labels is None:
            return self._segment_ids(len(mesh.points))
        ids, positions = _object_ids(labels.property("objectId")), labels.positions()
        radius_m = self._data_set.rules.match_radius_m
        if _same_order(mesh.points, positions, radius_m):
            return ids
        rows, _ = nearest_rows(mesh.points, positions, radius_m=radius_m)
        matched = rows >= 0
        if not matched.any():
            raise InvalidInput.at(
                f"{self.entry.scan_id}/{LABELS}", f"no vertex of {MESH} lies within {radius_m} m of it"
            )
        unmatched = int((~matched).sum())
        log.warning(
            "labels matched by position",
            extra={"scan": self.entry.scan_id, "vertices": len(rows), "unmatched": unmatched},
        )
        return np.where(matched, ids[rows], NO_OBJECT).astype(np.int32)

    def _segment_ids(self, num_vertices: int) -> NDArray[np.int32]:
        """Object of each vertex by its segment; none where either file is missing."""
        ids, path = np.full(num_vertices, NO_OBJECT, dtype=np.int32), self._path / SEGMENTS
        if not (groups := self._groups) or not path.exists():
            return ids
        segments = read_json(path, max_bytes=self._limits.max_json_bytes)["segIndices"].integers()
        if len(segments) != num_vertices:
            raise InvalidInput.at(
                f"{self.entry.scan_id}/{SEGMENTS}", f"{len(segments)} segments of {num_vertices} vertices"
            )
        for one, group in groups.items():
            ids[np.isin(segments, group["segments"].integers())] = one
        return ids


def _object_ids(found: NDArray[np.generic]) -> NDArray[np.int32]:
    ids = found.astype(np.int32)
    return np.where(ids == UNLABELLED, NO_OBJECT, ids).astype(np.int32)


def _same_order(first: Floats, second: Floats, radius_m: float) -> bool:
    """Whether two lists of vertices are the same, one by one."""
    return len(first) == len(second) and bool((np.linalg.norm(first - second, axis=1) <= radius_m).all())


def register(registry: Registry) -> None:
    """Make 3RScan known."""
    registry.register(NAME, RscanDataset)
