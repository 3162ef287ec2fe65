"""ScanNet, and data sets in its layout: scans, annotations of others, and the extras of furnished rooms.

Shapes: V vertices.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.annotations import majority
from trainer.data.readers.documents import MAX_JSON_BYTES, Value, read_json
from trainer.data.readers.files import numbers, read_keyed, read_lines
from trainer.data.readers.labels import LabelTable, read_labels
from trainer.data.readers.ply import PLY_LIMITS, PlyLimits, read_ply
from trainer.data.readers.scan2cad import match_models, placed_models
from trainer.data.readers.scannet_extras import Extras
from trainer.data.readers.scannet_frames import FRAME_OPTIONS, INTRINSICS, FrameOptions, scan_views
from trainer.data.scans import (
    NO_OBJECT,
    CadModel,
    Dataset,
    FloorplanDrawing,
    LayoutEdges,
    Referral,
    RescanLink,
    Scan,
    ScanEntry,
    ScannedObject,
    ScannedSurface,
    Split,
    View,
)
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.frames import Frame, Matrix, Points, align, rigid

SCAN_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
FOLDERS = ("scans", "scans_test")
LISTS = {split: f"scannetv2_{split}.txt" for split in Split}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScanNetOptions:
    """Where files lie below the root, or its folder `files`, and how they are read."""

    scan2cad: str = "scan2cad_full_annotations.json"
    shapenet: str = "ShapeNetCore.v2"
    layouts: str = "scenecad"
    referrals: str = "sceneverse/ssg_ref_rel2_template.json"
    labels: str = "scannetv2-labels.combined.tsv"
    exports: str = "scannet_2d"
    cad_min_thickness_m: float = 0.01
    """Boxes are at least as thick where models are matched, so that a picture or a mat can be."""
    max_json_bytes: int = MAX_JSON_BYTES
    ply: PlyLimits = PLY_LIMITS
    frames: FrameOptions = FRAME_OPTIONS


OPTIONS = ScanNetOptions()


class ScanNet(Dataset):
    """ScanNet in a folder: `scans/`, lists of splits, and what else is there of its companions."""

    def __init__(self, root: Path, *, name: str = "scannet", options: ScanNetOptions = OPTIONS) -> None:
        self.name = name
        self.root = root
        self.options = options

    def entries(self) -> tuple[ScanEntry, ...]:
        """Every listed scan that is there, ordered by id."""
        listed = self._listed()
        if not listed:
            raise NotFound(f"{self.root.name}: lists no scans; looked for {', '.join(LISTS.values())}")
        present = [scan_id for scan_id in sorted(listed) if self.folder(scan_id).is_dir()]
        if not present:
            raise NotFound(f"{self.root.name}: holds none of the {len(listed)} scans that its lists name")
        if missing := len(listed) - len(present):
            _log.warning("listed scans are missing", extra={"dataset": self.name, "num_missing": missing})
        return tuple(self._entries(present, listed))

    def _listed(self) -> dict[str, Split]:
        found: dict[str, Split] = {}
        for split, name in LISTS.items():
            path = self.path(name)
            for scan_id in read_lines(path) if path.exists() else ():
                if not SCAN_ID.fullmatch(scan_id):
                    raise InvalidInput.at(path.name, f"{scan_id[:80]!r} is no id of a scan")
                if scan_id in found:
                    raise InvalidInput.at(path.name, f"{scan_id} is in {found[scan_id]} too")
                found[scan_id] = split
        return found

    def _entries(self, scan_ids: Sequence[str], listed: Mapping[str, Split]) -> Iterator[ScanEntry]:
        places: dict[str, Split] = {}
        for scan_id in scan_ids:
            place, split = self._place(scan_id, listed[scan_id]), listed[scan_id]
            is_reference = place not in places
            if places.setdefault(place, split) is not split:
                raise InvalidInput.at(LISTS[split], f"place {place} is in {places[place]} too")
            yield ScanEntry(scan_id=scan_id, place_id=place, split=split, is_reference=is_reference)

    def _place(self, scan_id: str, split: Split) -> str:
        extras = self.extras(scan_id)
        if not extras.exists:
            return scan_id.rpartition("_")[0] or scan_id
        place, said = extras.place()
        if said != split:
            raise InvalidInput.at(f"{scan_id}/extras/scene.json", f"split {said}, the lists say {split}")
        return place

    def open(self, entry: ScanEntry) -> ScanNetScan:
        """A scan of this data set."""
        return ScanNetScan(self, entry)

    def folder(self, scan_id: str) -> Path:
        """Where a scan lies."""
        folders = [self.root / name / scan_id for name in FOLDERS]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def extras(self, scan_id: str) -> Extras:
        """What only furnished rooms have."""
        return Extras(self.folder(scan_id) / "extras", self.root, self.options.max_json_bytes)

    def json(self, path: Path) -> Value:
        """A JSON file within the limit."""
        return read_json(path, max_bytes=self.options.max_json_bytes)

    def path(self, name: str) -> Path:
        """A file or folder of the data set, in `files` or beside it."""
        inner = self.root / "files" / name
        return inner if inner.exists() else self.root / name

    @cached_property
    def labels(self) -> LabelTable | None:
        """The table of labels, where it is there."""
        path = self.path(self.options.labels)
        return read_labels(path) if path.exists() else None

    @cached_property
    def annotations(self) -> Mapping[str, Value]:
        """Models laid over scans, by scan."""
        path = self.path(self.options.scan2cad)
        return {entry["id_scan"].text(): entry for entry in self.json(path).items()} if path.exists() else {}

    @cached_property
    def sentences(self) -> Mapping[str, Sequence[Referral]]:
        """Sentences about objects, by scan."""
        path, found = self.path(self.options.referrals), dict[str, list[Referral]]()
        for said in self.json(path).items() if path.exists() else ():
            # Their target is an id of the aggregation: one less than what pictures of instances hold.
            referral = Referral(text=said["utterance"].text(), target_id=said["target_id"].integer())
            found.setdefault(said["scan_id"].text(), []).append(referral)
        return found


class ScanNetScan(Scan):
    """A scan in ScanNet's layout."""

    def __init__(self, dataset: ScanNet, entry: ScanEntry) -> None:
        self.entry = entry
        self._dataset = dataset
        self._folder = dataset.folder(entry.scan_id)
        self._extras = dataset.extras(entry.scan_id)

    def surface(self) -> ScannedSurface:
        """The mesh with its true colours."""
        mesh = read_ply(self._file("_vh_clean_2.ply"), limits=self._dataset.options.ply)
        points = Points(mesh.positions(), Frame.RAW)
        return ScannedSurface(
            points=points, colors=mesh.colors(), object_ids=self._object_ids(len(points)), faces=mesh.faces
        )

    def vertex_nyu40(self) -> NDArray[np.uint16] | None:
        """NYU40 id of each vertex (V,), 0 for none; None where the scan has no labels."""
        path = self._file("_vh_clean_2.labels.ply")
        if not path.exists():
            return None
        labels = read_ply(path, limits=self._dataset.options.ply).property("label")
        if labels.dtype != np.uint16:
            raise InvalidInput.at(path.name, f"its labels are {labels.dtype}, needs ushort")
        return labels

    def objects(self) -> tuple[ScannedObject, ...]:
        """All objects, ordered by id; those of furnished rooms also where no vertex shows them."""
        if self._extras.exists:
            return self._extras.objects()
        nyu40 = self._nyu40()
        return tuple(
            ScannedObject(object_id=at, label=group["label"].text(), nyu40=nyu40.get(at))
            for at, group in sorted(self._groups.items())
        )

    def sources(self) -> tuple[Path, ...]:
        """The scan's folder; for all but furnished rooms also what others say of the scan."""
        if self._extras.exists:
            return (self._folder,)
        data, options, scan_id = self._dataset, self._dataset.options, self.entry.scan_id
        shared = (options.labels, options.scan2cad, options.referrals)
        exports = data.path(options.exports)
        apart = (data.path(options.layouts) / f"{scan_id}.json", exports / scan_id, exports / INTRINSICS)
        return self._folder, *apart, *map(data.path, shared)

    def aligned_from_raw(self) -> Matrix:
        """`axisAlignment`; the identity where the scan has none, as those for test."""
        facts = read_keyed(self._file(".txt"))
        if "axisAlignment" not in facts.values:
            return np.eye(4)
        where = f"{facts.name}: axisAlignment"
        # Some lines hold the key twice.
        words = facts.text("axisAlignment").split()[-16:]
        return rigid(numbers(" ".join(words), where, 16).reshape(4, 4), where)

    def scene_label(self) -> str:
        """`sceneType`."""
        return read_keyed(self._file(".txt")).values.get("sceneType", "")

    def views(self) -> Sequence[View]:
        """Exported frames, else those of the stream."""
        options = self._dataset.options
        exports = self._dataset.path(options.exports)
        return scan_views(self._folder, self.entry.scan_id, exports, options=options.frames)

    def referrals(self) -> tuple[Referral, ...]:
        """Sentences of the extras, else of SceneVerse."""
        if self._extras.exists:
            return self._extras.referrals()
        return tuple(self._dataset.sentences.get(self.entry.scan_id, ()))

    def floorplans(self) -> tuple[FloorplanDrawing, ...]:
        """Plans of the extras."""
        return self._extras.floorplans() if self._extras.exists else ()

    def layout(self) -> LayoutEdges | None:
        """Edges of SceneCAD, whose corners have y up."""
        path = self._dataset.path(self._dataset.options.layouts) / f"{self.entry.scan_id}.json"
        if not path.exists():
            return None
        found = self._dataset.json(path)
        x, y, z = found["verts"].numbers((None, 3)).T
        edges = found["edges"].integers((None, 2))
        if edges.size and not 0 <= edges.min() <= edges.max() < len(x):
            raise InvalidInput.at(path.name, f"edges join corners {edges.min()} to {edges.max()} of {len(x)}")
        return LayoutEdges(
            corners=Points(np.stack([x, -z, y], axis=1), Frame.RAW), edges=edges.astype(np.int32)
        )

    def cad_models(self) -> tuple[CadModel, ...]:
        """Models of the extras, else those of Scan2CAD, each at the object that it overlaps the most."""
        if self._extras.exists:
            return self._extras.cad_models()
        annotation = self._dataset.annotations.get(self.entry.scan_id)
        if annotation is None:
            return ()
        options = self._dataset.options
        surface, aligned_from_raw = self.surface(), self.aligned_from_raw()
        aligned = align(surface.points, aligned_from_raw)
        ids = np.unique(surface.object_ids[surface.object_ids != NO_OBJECT]).tolist()
        matched = match_models(
            placed_models(annotation, self._dataset.path(options.shapenet)),
            {at: aligned.take(surface.object_ids == at) for at in ids},
            aligned_from_raw,
            min_thickness_m=options.cad_min_thickness_m,
        )
        # Left out only now: an object is not to get a model that fits it less.
        found = tuple(model for model in matched if model.path.is_file())
        if missing := len(matched) - len(found):
            _log.warning("models are missing", extra={"scan": self.entry.scan_id, "num_missing": missing})
        return found

    def rescan_link(self) -> RescanLink | None:
        """The reference as the extras know it; ScanNet itself does not align rescans."""
        return self._extras.rescan_link() if self._extras.exists else None

    def _file(self, ending: str) -> Path:
        return self._folder / f"{self.entry.scan_id}{ending}"

    @cached_property
    def _groups(self) -> Mapping[int, Value]:
        """Groups of segments by object; none where the scan has no annotation, as those for test."""
        paths = [self._file(f"{part}.aggregation.json") for part in ("", "_vh_clean")]
        path = next((path for path in paths if path.exists()), None)
        found: dict[int, Value] = {}
        for group in self._dataset.json(path)["segGroups"].items() if path else ():
            at = group["objectId"].integer()
            if at in found or not 0 <= at < np.iinfo(np.int32).max:
                raise InvalidInput.at(
                    f"{group.where}.objectId", f"{at} is negative, too large or given twice"
                )
            found[at] = group
        return found

    def _object_ids(self, num_vertices: int) -> NDArray[np.int32]:
        """Object of each vertex (V,); a segment of two objects is the last one's."""
        if not self._groups:
            return np.full(num_vertices, NO_OBJECT, dtype=np.int32)
        path = self._file("_vh_clean_2.0.010000.segs.json")
        segments = self._dataset.json(path)["segIndices"].integers()
        if len(segments) != num_vertices:
            raise InvalidInput.at(path.name, f"{len(segments)} segment ids for {num_vertices} vertices")
        known, inverse = np.unique(segments, return_inverse=True)
        owners = np.full(len(known), NO_OBJECT, dtype=np.int32)
        for at, group in self._groups.items():
            owners[np.isin(known, group["segments"].integers())] = at
        found: NDArray[np.int32] = owners[inverse]
        return found

    def _nyu40(self) -> dict[int, int]:
        """What most labelled vertices of an object say, else what the table says of its name."""
        table = self._dataset.labels.nyu40 if self._dataset.labels else {}
        found = {
            at: table[name] for at, group in self._groups.items() if (name := group["label"].text()) in table
        }
        labels = self.vertex_nyu40()
        if labels is None:
            return found
        object_ids = self._object_ids(len(labels))
        voting = (object_ids != NO_OBJECT) & (labels > 0)
        return found | majority(object_ids[voting], labels[voting])
