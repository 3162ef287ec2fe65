"""The tensor file of a prepared scene: names, types and shapes, written and read in parts.

Shapes: N points, C CAD models of K surface points, G encoded pictures of a group in B bytes together.
Pictures of a group lie one after the other in `<group>.bytes`; `<group>.ends` says where each ends.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xscene.errors import InvalidInput, PreparedInvalid
from xscene.geometry.frames import Frame
from xscene.prepared.records import SCENE_FORMAT, SCENE_VERSION, SceneRecord
from xscene.prepared.schema import require_format

Arrays = Mapping[str, NDArray[Any]]
Header = dict[str, tuple[str, tuple[int, ...]]]
FRAMES = {"cloud.points": Frame.ALIGNED, "cad.points": Frame.CANONICAL}
CAD_COLORS, CAD_COLORED = "cad.colors", "cad.is_colored"
# One key alone: the order of several in the file is not fixed.
METADATA_KEY = "xscene"
_ANY = -1


def encode(arrays: Arrays, scene_id: str) -> bytes:
    """A tensor file, the same bytes for the same arrays, in which every array of points names its frame."""
    frames = {name: frame for name, frame in FRAMES.items() if name in arrays}
    return with_metadata(
        arrays, {"format": SCENE_FORMAT, "version": SCENE_VERSION, "scene_id": scene_id, "frames": frames}
    )


def with_metadata(arrays: Arrays, metadata: Mapping[str, Any]) -> bytes:
    """A tensor file that carries metadata."""
    data = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(data, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def expected(record: SceneRecord, given: Container[str] = ()) -> Header:
    """Type and shape of each array of a scene; -1 stands for any length.

    Colours of models may be given or not.
    """
    points = record.num_points
    wanted: Header = {}
    if points:
        wanted = {"cloud.points": ("F32", (points, 3)), "cloud.object_ids": ("I32", (points,))}
    if points and record.color_sums is not None:
        wanted["cloud.colors"] = ("U8", (points, 3))
    groups = {
        "views": len(record.views),
        "crops": len(record.sightings) * record.num_crop_levels,
        "floorplans": len(record.floorplans),
    }
    for group, count in groups.items():
        if count:
            wanted[f"{group}.ends"] = ("I64", (count,))
            wanted[f"{group}.bytes"] = ("U8", (_ANY,))
    if record.cad:
        wanted["cad.points"] = ("F32", (len(record.cad), record.num_cad_points, 3))
        if CAD_COLORS in given:
            wanted[CAD_COLORS] = ("U8", (len(record.cad), record.num_cad_points, 3))
            wanted[CAD_COLORED] = ("BOOL", (len(record.cad),))
    return wanted


def join(pictures: Sequence[bytes], group: str) -> dict[str, NDArray[Any]]:
    """The two arrays of a group of encoded pictures; none for no pictures."""
    if not pictures:
        return {}
    ends = np.cumsum([len(picture) for picture in pictures], dtype=np.int64)
    return {f"{group}.ends": ends, f"{group}.bytes": np.frombuffer(b"".join(pictures), dtype=np.uint8)}


class TensorFile:
    """A tensor file that is opened for each reading, so that it may cross into other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def header(self) -> tuple[Header, dict[str, Any]]:
        """Type and shape of each array, and the metadata."""
        with _opened(self.path) as file:
            found: Header = {}
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                found[name] = (part.get_dtype(), tuple(part.get_shape()))
            try:
                metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
            except ValueError:
                metadata = {}
        return found, metadata if isinstance(metadata, dict) else {}

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        with _opened(self.path) as file:
            whole: NDArray[Any] = file.get_tensor(name)
        return whole

    def pictures(self, group: str, rows: Sequence[int]) -> list[bytes]:
        """Some encoded pictures of a group; no other bytes are read."""
        if not rows:
            return []
        with _opened(self.path) as file:
            ends = file.get_tensor(f"{group}.ends")
            content = file.get_slice(f"{group}.bytes")
            self._require_ends(group, ends, content.get_shape()[0])
            starts = np.concatenate([[0], ends[:-1]])
            return [content[int(starts[row]) : int(ends[row])].tobytes() for row in rows]

    def rows(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Rows of an array, from the first to before the last."""
        with _opened(self.path) as file:
            part: NDArray[Any] = file.get_slice(name)[first:last]
        return part

    def _require_ends(self, group: str, ends: NDArray[np.int64], num_bytes: int) -> None:
        if (np.diff(ends, prepend=0) <= 0).any() or int(ends[-1]) != num_bytes:
            raise PreparedInvalid(
                f"{self.path.name}: {group}.ends need to ascend to {num_bytes}, the number of bytes"
            )


def require_header(file: TensorFile, record: SceneRecord) -> None:
    """Refuse a file of another scene or format, or with arrays other than those of the record."""
    where = file.path.name
    found, metadata = file.header()
    scene_id, wanted = record.scene_id, expected(record, found)
    require_format(metadata.get("format"), metadata.get("version"), where, SCENE_FORMAT, SCENE_VERSION)
    if metadata.get("scene_id") != scene_id:
        raise PreparedInvalid(
            f"{where}: is of scene {str(metadata.get('scene_id'))[:140]!r}, needs {scene_id!r}"
        )
    require_arrays(found, wanted, where)
    for name, frame in FRAMES.items():
        tag = (metadata.get("frames") or {}).get(name)
        if name in wanted and tag != frame:
            raise PreparedInvalid(f"{where}: {name} is in frame {tag}, needs {frame}")


def require_arrays(found: Header, wanted: Header, where: str) -> None:
    """Refuse a missing array, one too many, and any of another type or shape."""
    if missing := sorted(set(wanted) - set(found)):
        raise PreparedInvalid(f"{where}: missing arrays: {', '.join(missing)}")
    if unknown := sorted(set(found) - set(wanted)):
        raise PreparedInvalid(f"{where}: unknown arrays: {', '.join(unknown)}")
    for name, (dtype, shape) in wanted.items():
        got_dtype, got = found[name]
        fits = len(got) == len(shape) and all(w in (_ANY, g) for w, g in zip(shape, got, strict=True))
        if got_dtype != dtype or not fits:
            words = ", ".join("any" if want == _ANY else str(want) for want in shape)
            raise PreparedInvalid(f"{where}: {name} is {got_dtype} {list(got)}, needs {dtype} [{words}]")


def require_input(arrays: Arrays, record: SceneRecord) -> None:
    """Refuse arrays that a scene's record does not describe, before they are written."""
    names = {"bool": "BOOL", "float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8"}
    found = {name: (names.get(str(a.dtype), str(a.dtype)), tuple(a.shape)) for name, a in arrays.items()}
    try:
        require_arrays(found, expected(record, arrays), "arrays")
    except PreparedInvalid as error:
        raise InvalidInput(error.message) from error
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise InvalidInput.at(name, "holds numbers that are not finite")


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise PreparedInvalid(f"{path.name}: torn, there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise PreparedInvalid(f"{path.name}: torn or no tensor file: {error}") from error
