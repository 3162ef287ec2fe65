"""A prepared scene on disk: a directory of `scene.json` and `arrays.safetensors`, written whole or not."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput, PreparedInvalid
from xscene.files import file_digest, replaced_directory, write_file
from xscene.geometry.frames import Frame, Points
from xscene.prepared.arrays import (
    CAD_COLORED,
    CAD_COLORS,
    Arrays,
    TensorFile,
    encode,
    join,
    require_header,
    require_input,
)
from xscene.prepared.records import NO_OBJECT, SCENE_FORMAT, SCENE_VERSION, FileRecord, SceneRecord
from xscene.prepared.schema import dump, read

SCENE_FILE, ARRAYS_FILE = "scene.json", "arrays.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneCloud:
    """The thinned cloud in the aligned frame: points (N,3), colours (N,3), object of each point (N,)."""

    points: Points
    colors: NDArray[np.uint8] | None
    object_ids: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """What the tensor file of a scene is to hold."""

    cloud: SceneCloud
    views: Sequence[bytes] = ()
    crops: Sequence[bytes] = ()
    """For each sighting one of each level, the tightest first."""
    floorplans: Sequence[bytes] = ()
    cad: NDArray[np.float32] | None = None
    """Surface points (C,K,3) in the models' own frames."""
    cad_colors: Sequence[NDArray[np.uint8] | None] = ()
    """Colours (K,3) of each model's points, None for those without; none at all for models without."""

    def arrays(self) -> Arrays:
        """The arrays by name."""
        named = {
            **join(self.views, "views"),
            **join(self.crops, "crops"),
            **join(self.floorplans, "floorplans"),
        }
        if len(self.cloud.points):
            named["cloud.points"] = self.cloud.points.xyz.astype(np.float32)
            named["cloud.object_ids"] = self.cloud.object_ids.astype(np.int32, copy=False)
            if self.cloud.colors is not None:
                named["cloud.colors"] = self.cloud.colors
        if self.cad is not None:
            named["cad.points"] = self.cad
        known = [colors for colors in self.cad_colors if colors is not None]
        if known:
            none = np.zeros_like(known[0])
            named[CAD_COLORS] = np.stack([none if colors is None else colors for colors in self.cad_colors])
            named[CAD_COLORED] = np.array([colors is not None for colors in self.cad_colors])
        return named


def write_scene(directory: Path, record: SceneRecord, content: Content) -> SceneRecord:
    """Write a scene into the directory of its name, over one that is there; returns the record as written."""
    if directory.name != record.scene_id:
        raise InvalidInput.at("directory", f"is named {directory.name!r}, needs {record.scene_id!r}")
    if content.cloud.points.frame is not Frame.ALIGNED:
        raise InvalidInput.at("cloud", f"in frame {content.cloud.points.frame}, needs {Frame.ALIGNED}")
    arrays = content.arrays()
    require_input(arrays, record)
    _require_object_points(record, content.cloud.object_ids)
    data = encode(arrays, record.scene_id)
    arrays_file = FileRecord(sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))
    written = dataclasses.replace(record, arrays=arrays_file)
    with replaced_directory(directory) as staging:
        write_file(staging / ARRAYS_FILE, data)
        write_file(staging / SCENE_FILE, dump(written))
    return written


def _require_object_points(record: SceneRecord, object_ids: NDArray[np.int32]) -> None:
    """Every object has a point, and every point an object of the scene or none."""
    found, known = set(np.unique(object_ids).tolist()) - {NO_OBJECT}, set(record.object_ids)
    if found != known:
        raise InvalidInput.at(
            "cloud.object_ids", f"differ from the objects of the scene in {sorted(found ^ known)[:8]}"
        )


class Scene:
    """A prepared scene, read piece by piece; it may be handed to another process."""

    def __init__(self, directory: Path, record: SceneRecord, sha256: str) -> None:
        self.directory = directory
        self.record = record
        self.sha256 = sha256
        """Of scene.json, which holds the digest of the arrays."""
        self._file = TensorFile(directory / ARRAYS_FILE)

    def cloud(self) -> SceneCloud:
        """The thinned cloud; empty for a scene without one."""
        if not self.record.num_points:
            none = Points(np.zeros((0, 3), dtype=np.float32), Frame.ALIGNED)
            return SceneCloud(points=none, colors=None, object_ids=np.zeros(0, dtype=np.int32))
        return SceneCloud(
            points=Points(self._file.array("cloud.points"), Frame.ALIGNED),
            colors=None if self.record.color_sums is None else self._file.array("cloud.colors"),
            object_ids=self._file.array("cloud.object_ids"),
        )

    def views(self, rows: Sequence[int] | None = None) -> list[bytes]:
        """Encoded pictures of some views, or of all."""
        return self._pictures("views", len(self.record.views), rows)

    def floorplans(self, rows: Sequence[int] | None = None) -> list[bytes]:
        """Encoded floorplans, some or all."""
        return self._pictures("floorplans", len(self.record.floorplans), rows)

    def crops(self, sightings: Sequence[int] | None = None) -> list[bytes]:
        """Encoded crops of some sightings, or of all: those of each level, the tightest first."""
        levels, count = self.record.num_crop_levels, len(self.record.sightings)
        wanted = range(count) if sightings is None else sightings
        rows = [row * levels + level for row in wanted for level in range(levels)]
        return self._pictures("crops", count * levels, rows)

    def cad(self, row: int) -> Points:
        """Surface points of the model of this row of the record, in the model's own frame."""
        return Points(self._model("cad.points", row), Frame.CANONICAL)

    def cad_colors(self, row: int) -> NDArray[np.uint8] | None:
        """Colours (K,3) of those points, where the model has some."""
        if not (self._has_cad_colors and self._model(CAD_COLORED, row)):
            return None
        return self._model(CAD_COLORS, row)

    @cached_property
    def _has_cad_colors(self) -> bool:
        return CAD_COLORS in self._file.header()[0]

    def _model(self, name: str, row: int) -> NDArray[Any]:
        if not 0 <= row < len(self.record.cad):
            raise InvalidInput.at("row", f"{row}, the scene has {len(self.record.cad)} models")
        part: NDArray[Any] = self._file.rows(name, row, row + 1)[0]
        return part

    @cached_property
    def sightings_of(self) -> dict[int, list[int]]:
        """Rows of sightings by object, the one with most votes first; objects without one are left out."""
        found: dict[int, list[int]] = {}
        for row, sighting in enumerate(self.record.sightings):
            found.setdefault(sighting.object_id, []).append(row)
        return found

    def verify(self) -> None:
        """Refuse a tensor file that is not the one that was written."""
        path, wanted = self._file.path, self.record.arrays
        where = f"scene {self.record.scene_id}: {path.name}"
        if not path.is_file():
            raise PreparedInvalid(f"{where}: torn, there is no such file")
        if (size := path.stat().st_size) != wanted.num_bytes:
            what = "torn" if size < wanted.num_bytes else "tampered"
            raise PreparedInvalid(f"{where}: {what}, {size} bytes, needs {wanted.num_bytes}")
        if (digest := file_digest(path)) != wanted.sha256:
            raise PreparedInvalid(f"{where}: tampered, SHA-256 is {digest}, needs {wanted.sha256}")
        try:
            require_header(self._file, self.record)
        except PreparedInvalid as error:
            raise PreparedInvalid(f"scene {self.record.scene_id}: {error.message}") from error

    def _pictures(self, group: str, count: int, rows: Sequence[int] | None) -> list[bytes]:
        wanted = list(range(count)) if rows is None else list(rows)
        if strangers := [row for row in wanted if not 0 <= row < count]:
            raise InvalidInput.at(group, f"row {strangers[0]}, the scene has {count}")
        return self._file.pictures(group, wanted)


def open_scene(directory: Path, *, sha256: str | None = None, verify: bool = True) -> Scene:
    """The scene of a directory; refused where it is torn, tampered with, foreign or newer than this code.

    With a digest, `scene.json` must have it. Without `verify` the arrays are trusted to be those written.
    """
    if not directory.is_dir():
        raise PreparedInvalid(f"scene {directory.name}: torn, there is no such directory")
    try:
        record, data = read(
            directory / SCENE_FILE, SceneRecord, format_name=SCENE_FORMAT, version=SCENE_VERSION
        )
    except PreparedInvalid as error:
        raise PreparedInvalid(f"scene {directory.name}: {error.message}") from error
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise PreparedInvalid(
            f"scene {directory.name}: {SCENE_FILE}: tampered, SHA-256 is {digest}, needs {sha256}"
        )
    if record.scene_id != directory.name:
        raise PreparedInvalid(f"scene {directory.name}: {SCENE_FILE}: is of scene {record.scene_id}")
    scene = Scene(directory, record, digest)
    if verify:
        scene.verify()
    return scene
