"""Structured3D: rooms of designed houses, rendered; a scan is one room.

Shapes: H and W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.annotations import NYU40, ObjectFiles, majority, nyu40_or_none
from trainer.data.readers.documents import read_json
from trainer.data.readers.files import grey_pixels, numbers, picture_size, read_text
from trainer.data.readers.limits import SCAN_LIMITS, ScanLimits
from trainer.data.readers.listings import folder, listed_splits, present, require_one_split
from trainer.data.readers.ply import PlyFile, read_ply
from trainer.data.readers.snapshots import (
    MM_PER_M,
    Snapshot,
    camera,
    depth_image,
    picture_bytes,
    tracked_pose,
)
from trainer.data.scans import (
    NO_OBJECT,
    Dataset,
    DepthImage,
    FloorplanDrawing,
    Referral,
    Registry,
    Scan,
    ScanEntry,
    ScannedObject,
    ScannedSurface,
    View,
)
from xscene.errors import InvalidInput
from xscene.geometry.frames import Floats, Frame, Matrix, Points
from xscene.geometry.projection import Intrinsics

NAME = "structured3d"
ROOM = re.compile(r"(?P<house>scene_[0-9]+)_(?P<room>[0-9]+)")
# Of pictures and of meshes.
BACKGROUND = 65535
NUM_POSE_NUMBERS = (11, 12)
FLOORPLAN_STYLE = "structured3d"


class Structured3dDataset(Dataset):
    """A folder with `scans` and `files`."""

    name = NAME

    def __init__(self, root: Path, *, limits: ScanLimits = SCAN_LIMITS) -> None:
        self.limits = limits
        self._houses, self._files = folder(root, "scans"), folder(root, "files")
        self.object_files = ObjectFiles(self._files, limits)

    def entries(self) -> tuple[ScanEntry, ...]:
        """Listed rooms that are there."""
        lists = listed_splits(self._files, self.limits)
        # Rooms of a house share its furniture.
        houses = ((f"house {_house_and_room(one)[0]}", split) for one, split in lists.items())
        require_one_split(houses, NAME)
        entries = [ScanEntry(scan_id=one, place_id=one, split=split) for one, split in lists.items()]
        return present(entries, {one: self._mesh(one).parent for one in lists}, NAME)

    def _mesh(self, scan_id: str) -> Path:
        house, room = _house_and_room(scan_id)
        return self._houses / house / "3D_rendering" / room / "room_mesh.ply"

    def open(self, entry: ScanEntry) -> Structured3dScan:
        """A scan of this data set."""
        house, _ = _house_and_room(entry.scan_id)
        return Structured3dScan(entry, self._houses / house, self._mesh(entry.scan_id), self)


def _house_and_room(scan_id: str) -> tuple[str, str]:
    match = ROOM.fullmatch(scan_id)
    if match is None:
        raise InvalidInput.at(NAME, f"{scan_id} is no id of a room, such as scene_00000_485142")
    return match["house"], match["room"]


class Structured3dScan(Scan):
    """A room."""

    def __init__(self, entry: ScanEntry, house: Path, mesh: Path, data_set: Structured3dDataset) -> None:
        self.entry, self._house, self._mesh, self._data_set = entry, house, mesh, data_set
        _, self._room = _house_and_room(entry.scan_id)

    def surface(self) -> ScannedSurface:
        """The mesh whole, with what belongs to no object."""
        mesh = self._read_mesh()
        return ScannedSurface(
            points=Points(mesh.positions(), Frame.RAW),
            colors=mesh.colors(),
            object_ids=_known_ids(mesh.property("object_id")),
            faces=mesh.faces,
        )

    def objects(self) -> tuple[ScannedObject, ...]:
        """Objects of the class that most of their vertices have; classless ones are left out."""
        mesh = self._read_mesh()
        classes = majority(_known_ids(mesh.property("object_id")), mesh.property("nyu40id"))
        return tuple(
            ScannedObject(object_id=one, label=NYU40[known - 1], nyu40=known)
            for one, number in sorted(classes.items())
            if one != NO_OBJECT and (known := nyu40_or_none(number)) is not None
        )

    def sources(self) -> tuple[Path, ...]:
        """What is of this scan, and what the data set says of objects."""
        return (
            self._mesh.parent,
            self._house / "2D_rendering" / self._room,
            self._house / "annotation_3d.json",
            self._house / "floorplans" / f"{self._room}.png",
            *self._data_set.object_files.paths,
        )

    def referrals(self) -> tuple[Referral, ...]:
        """SceneVerse's sentences, whose targets `obj2tgid.json` ties to objects, where it ties one alone."""
        path = self._house / "2D_rendering" / self._room / "obj2tgid.json"
        if not path.exists():
            return ()
        tied: dict[int, list[int]] = {}
        for name, target in read_json(path, max_bytes=self._data_set.limits.max_json_bytes).fields():
            if not name.isdecimal():
                raise InvalidInput.at(path.name, f"{name[:80]!r} is no id of an object")
            tied.setdefault(target.integer(), []).append(int(name))
        said = self._data_set.object_files.referrals.get(self.entry.scan_id, ())
        return tuple(
            replace(one, target_id=tied[one.target_id][0])
            for one in said
            if len(tied.get(one.target_id, ())) == 1
        )

    def scene_label(self) -> str:
        """Kind of room; empty where the annotation does not name the room."""
        path = self._house / "annotation_3d.json"
        if not path.exists():
            return ""
        semantics = read_json(path, max_bytes=self._data_set.limits.max_json_bytes)["semantics"]
        for one in semantics.items():
            if one["ID"].integer() == int(self._room):
                return one["type"].text().strip()
        return ""

    def views(self) -> Sequence[View]:
        """Perspective pictures of the furnished room."""
        path = self._house / "2D_rendering" / self._room / "perspective" / "full"
        found = [one for one in path.iterdir() if one.name.isdecimal()] if path.is_dir() else []
        found.sort(key=lambda one: int(one.name))
        return tuple(Structured3dView(one.name, one, self._data_set.limits) for one in found)

    def floorplans(self) -> tuple[FloorplanDrawing, ...]:
        """The room's plan, where it was drawn."""
        path = self._house / "floorplans" / f"{self._room}.png"
        if not path.exists():
            return ()
        data = picture_bytes(path, self._data_set.limits)
        return (FloorplanDrawing(style=FLOORPLAN_STYLE, encoded=data),)

    def _read_mesh(self) -> PlyFile:
        return read_ply(self._mesh, limits=self._data_set.limits.ply)


@dataclass(eq=False)
class Structured3dView(Snapshot):
    """A rendered picture."""

    view_id: str
    path: Path
    limits: ScanLimits

    def color(self) -> bytes:
        """A PNG."""
        return self._picture("rgb_rawlight.png")

    def depth(self) -> DepthImage | None:
        """Depth as rendered, where it was downloaded."""
        if not (self.path / "depth.png").exists():
            return None
        return depth_image(self._numbers("depth.png"), self.intrinsics)

    def object_pixels(self) -> NDArray[np.int32] | None:
        """Objects as rendered, where they were downloaded."""
        if not (self.path / "instance.png").exists():
            return None
        return _known_ids(self._numbers("instance.png"))

    def read_pose(self) -> Matrix:
        """From the place in millimetres, where it looks, and what is up."""
        values = self._camera()
        with np.errstate(invalid="ignore", divide="ignore"):
            forward = _unit(values[3:6])
            right = _unit(np.cross(forward, _unit(values[6:9])))
            pose = np.eye(4)
            pose[:3] = np.stack([right, np.cross(forward, right), forward, values[:3] / MM_PER_M], axis=1)
        return tracked_pose(pose, f"{self.view_id}/camera_pose.txt")

    def read_intrinsics(self) -> Intrinsics:
        """From half the angles of view."""
        width, height = picture_size(self.color(), self.view_id, max_pixels=self.limits.max_picture_pixels)
        half_x, half_y = np.tan(self._camera()[9:11]).tolist()
        where = f"{self.view_id}/camera_pose.txt"
        if not (half_x > 0 and half_y > 0):
            raise InvalidInput.at(where, "needs half angles of view between 0 and 90 degrees")
        return camera(
            where,
            Intrinsics,
            fx=width / 2 / half_x,
            fy=height / 2 / half_y,
            cx=width / 2,
            cy=height / 2,
            width=width,
            height=height,
        )

    def _camera(self) -> Floats:
        name = "camera_pose.txt"
        text = read_text(self.path / name, max_bytes=self.limits.max_text_bytes)
        found = numbers(text, f"{self.view_id}/{name}")
        if len(found) not in NUM_POSE_NUMBERS:
            raise InvalidInput.at(f"{self.view_id}/{name}", f"{len(found)} numbers, needs 11 or 12")
        return found

    def _picture(self, name: str) -> bytes:
        return picture_bytes(self.path / name, self.limits)

    def _numbers(self, name: str) -> NDArray[np.int32]:
        return grey_pixels(
            self._picture(name), f"{self.view_id}/{name}", max_pixels=self.limits.max_picture_pixels
        )


def _unit(vector: Floats) -> Floats:
    """The vector (3,) at length 1; not a number where it has none."""
    return np.asarray(vector / np.linalg.norm(vector))


def _known_ids(found: NDArray[np.generic]) -> NDArray[np.int32]:
    """Ids with NO_OBJECT for the background, whose id is the largest of 16 bits, or negative."""
    ids = found.astype(np.int64)
    return np.where((ids < 0) | (ids >= BACKGROUND), NO_OBJECT, ids).astype(np.int32)


def register(registry: Registry) -> None:
    """Make Structured3D known."""
    registry.register(NAME, Structured3dDataset)
