"""ARKitScenes as released for object detection: meshes of a tablet, and oriented boxes around furniture.

Shapes: V vertices.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from trainer.data.readers.annotations import ObjectFiles, oriented_box
from trainer.data.readers.documents import Value, read_json
from trainer.data.readers.files import grey_pixels, numbers, read_lines, read_text
from trainer.data.readers.limits import SCAN_LIMITS, ScanLimits
from trainer.data.readers.listings import checked_id, folder, listed_splits, present
from trainer.data.readers.ply import read_ply
from trainer.data.readers.snapshots import (
    Snapshot,
    camera,
    depth_image,
    lost_pose,
    picture_bytes,
    tracked_pose,
)
from trainer.data.scans import (
    NO_OBJECT,
    Dataset,
    DepthImage,
    Referral,
    Registry,
    Scan,
    ScanEntry,
    ScannedObject,
    ScannedSurface,
    Split,
    View,
)
from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats, Frame, Matrix, Points, inverse
from xscene.geometry.projection import Intrinsics

log = logging.getLogger(__name__)

NAME = "arkitscenes"
VISITS = "3dod_train_val_splits.csv"
FOLDS = {"Training": Split.TRAIN, "Validation": Split.VAL}
NO_VISIT = "NA"
SCANNET_LABELS = {"washer": "washing machine", "tv_monitor": "tv", "build_in_cabinet": "cabinet"}
"""Where a class has another name than in ScanNet."""
MS_PER_S = 1000
# Pictures, poses and intrinsics of one moment differ by the rounding of their names.
NEIGHBOURS_MS = (0, -1, 1)

Found = TypeVar("Found")


class ArkitDataset(Dataset):
    """A folder with `scans` and `files`."""

    name = NAME

    def __init__(self, root: Path, *, limits: ScanLimits = SCAN_LIMITS) -> None:
        self.limits = limits
        self._scans, self._files = folder(root, "scans"), folder(root, "files")
        self.object_files = ObjectFiles(self._files, limits)

    def entries(self) -> tuple[ScanEntry, ...]:
        """Videos that are there; the first of a visit is its place's reference."""
        visits = {scan_id: (place, split) for scan_id, place, split in self._visits()}
        lists = listed_splits(self._files, self.limits)
        lists = lists or {scan_id: split for scan_id, (_, split) in visits.items()}
        references: dict[str, str] = {}
        for scan_id, (place, _) in visits.items():
            if scan_id in lists and (self._scans / scan_id).is_dir():
                references.setdefault(place, scan_id)
        entries = []
        for scan_id, split in lists.items():
            place = visits[scan_id][0] if scan_id in visits else scan_id
            is_reference = references.get(place, scan_id) == scan_id
            entries.append(ScanEntry(scan_id=scan_id, place_id=place, split=split, is_reference=is_reference))
        folders = {entry.scan_id: self._scans / entry.scan_id for entry in entries}
        return present(entries, folders, NAME, VISITS)

    def _visits(self) -> Iterator[tuple[str, str, Split]]:
        """Id, place and split of each video, in the order of the file."""
        path = self._files / VISITS
        if not path.exists():
            return
        rows = csv.DictReader(read_text(path, max_bytes=self.limits.max_text_bytes).splitlines())
        for number, row in enumerate(rows, start=2):
            where = f"{path.name}, line {number}"
            scan_id, visit, fold = (row.get(key) or "" for key in ("video_id", "visit_id", "fold"))
            if fold not in FOLDS or not visit:
                raise InvalidInput.at(where, f"needs video_id, visit_id and one of {', '.join(FOLDS)}")
            checked_id(scan_id, where)
            yield scan_id, scan_id if visit == NO_VISIT else f"visit_{visit}", FOLDS[fold]

    def open(self, entry: ScanEntry) -> ArkitScan:
        """A scan of this data set."""
        return ArkitScan(entry, self._scans / entry.scan_id, self)


class ArkitScan(Scan):
    """A video and the mesh that was made of it."""

    def __init__(self, entry: ScanEntry, path: Path, data_set: ArkitDataset) -> None:
        self.entry, self._path, self._data_set = entry, path, data_set

    def surface(self) -> ScannedSurface:
        """The mesh; a vertex belongs to the last box that holds it."""
        mesh = read_ply(self._path / f"{self.entry.scan_id}_3dod_mesh.ply", limits=self._limits.ply)
        points = Points(mesh.positions(), Frame.RAW)
        ids = np.full(len(points), NO_OBJECT, dtype=np.int32)
        for one in self.objects():
            if one.box is not None:
                ids[one.box.contains(points)] = one.object_id
        return ScannedSurface(points=points, colors=mesh.colors(), object_ids=ids, faces=mesh.faces)

    def objects(self) -> tuple[ScannedObject, ...]:
        """Boxes of the annotation, numbered from 1 in its order; labels are ScanNet's."""
        path = self._path / f"{self.entry.scan_id}_3dod_annotation.json"
        found = read_json(path, max_bytes=self._limits.max_json_bytes)["data"].items()
        return tuple(self._object(number, one) for number, one in enumerate(found, start=1))

    def _object(self, number: int, one: Value) -> ScannedObject:
        known = one["label"].text()
        label = SCANNET_LABELS.get(known, known)
        return ScannedObject(
            object_id=number,
            label=label,
            nyu40=self._data_set.object_files.nyu40(label),
            box=oriented_box(one["segments"]["obbAligned"]),
        )

    def views(self) -> Sequence[View]:
        """Pictures in the order of their time; one without pose or intrinsics counts as lost."""
        frames = self._path / f"{self.entry.scan_id}_frames"
        colors = self._timed(frames / "lowres_wide", "png")
        if not colors:
            return ()
        depths = self._timed(frames / "lowres_depth", "png")
        cameras = self._timed(frames / "lowres_wide_intrinsics", "pincam")
        poses = self._poses(frames / "lowres_wide.traj")
        if num_missing := sum(_at(cameras, time_ms) is None for time_ms in colors):
            extra = {"scan": self.entry.scan_id, "num_missing": num_missing}
            log.warning("intrinsics of pictures are missing", extra=extra)
        return tuple(
            ArkitView(
                path.stem.removeprefix(f"{self.entry.scan_id}_"),
                path,
                _at(depths, time_ms),
                _at(cameras, time_ms),
                _at(poses, time_ms),
                self._limits,
            )
            for time_ms, path in sorted(colors.items())
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

    def _timed(self, folder_path: Path, suffix: str) -> dict[int, Path]:
        """Files of a folder by their time in milliseconds."""
        name = re.compile(rf"{re.escape(self.entry.scan_id)}_([0-9]+\.[0-9]+)\.{suffix}")
        found = folder_path.iterdir() if folder_path.is_dir() else ()
        matched = ((name.fullmatch(path.name), path) for path in found)
        return {_milliseconds(match.group(1), path.name): path for match, path in matched if match}

    def _poses(self, path: Path) -> dict[int, tuple[str, Floats]]:
        """Where each line stands, and its axis, angle and shift, by its time in milliseconds."""
        poses: dict[int, tuple[str, Floats]] = {}
        for number, line in enumerate(read_lines(path, max_bytes=self._limits.max_text_bytes), start=1):
            where = f"{path.name}, line {number}"
            poses[_milliseconds(line.split()[0], where)] = (where, numbers(line, where, 7)[1:])
        return poses


@dataclass(eq=False)
class ArkitView(Snapshot):
    """A picture as it was taken, whichever way the device was held."""

    view_id: str
    path: Path
    depth_path: Path | None
    camera_path: Path | None
    motion: tuple[str, Floats] | None
    limits: ScanLimits

    def color(self) -> bytes:
        """A PNG."""
        return picture_bytes(self.path, self.limits)

    def depth(self) -> DepthImage | None:
        """Depth as the device measured it."""
        if self.depth_path is None:
            return None
        data = picture_bytes(self.depth_path, self.limits)
        pixels = grey_pixels(data, self.depth_path.name, max_pixels=self.limits.max_picture_pixels)
        return depth_image(pixels, self.intrinsics)

    def read_pose(self) -> Matrix:
        """The file leads from world to camera; without intrinsics the picture is of no use either."""
        if self.motion is None or self.camera_path is None:
            return lost_pose()
        where, numbers_of_line = self.motion
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = rotation_about(numbers_of_line[:3])
        camera_from_world[:3, 3] = numbers_of_line[3:]
        checked = tracked_pose(camera_from_world, where)
        return inverse(checked, where) if np.isfinite(checked).all() else checked

    def read_intrinsics(self) -> Intrinsics:
        """Width, height, fx, fy, cx and cy."""
        if self.camera_path is None:
            raise InvalidInput.at(self.path.name, "has no .pincam file of its time")
        where = self.camera_path.name
        text = read_text(self.camera_path, max_bytes=self.limits.max_text_bytes)
        width, height, fx, fy, cx, cy = numbers(text, where, 6).tolist()
        if not (width.is_integer() and height.is_integer()):
            raise InvalidInput.at(where, f"size {width} x {height}, needs whole numbers")
        return camera(where, Intrinsics, fx=fx, fy=fy, cx=cx, cy=cy, width=int(width), height=int(height))


def rotation_about(axis_angle: Floats) -> Matrix:
    """The rotation (3,3) about an axis (3,) by its length in radians."""
    angle = float(np.linalg.norm(axis_angle))
    if angle == 0:
        return np.eye(3)
    x, y, z = axis_angle / angle
    across = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)))
    rotation: Matrix = np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * (across @ across)
    return rotation


def _milliseconds(text: str, where: str) -> int:
    """A time in seconds, to three decimals."""
    seconds = float(numbers(text, where, 1)[0])
    if not np.isfinite(seconds):
        raise InvalidInput.at(where, f"time {seconds}, needs a finite number")
    return round(seconds * MS_PER_S)


def _at(timed: Mapping[int, Found], time_ms: int) -> Found | None:
    """What is of that time, or else of a neighbouring millisecond."""
    return next((timed[near] for by in NEIGHBOURS_MS if (near := time_ms + by) in timed), None)


def register(registry: Registry) -> None:
    """Make ARKitScenes known."""
    registry.register(NAME, ArkitDataset)
