"""Features of frozen backbones, stored beside the scenes that they are of.

A file is `features/<backbone id>/<scene>.safetensors`. Its tensors are named `<group>.<output>` and have
one row for each member of the group, in the order of the scene's record; D is any width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput, PreparedInvalid
from xscene.files import file_digest, replace_file
from xscene.prepared.arrays import TensorFile, with_metadata
from xscene.prepared.records import SceneRecord, require_name
from xscene.prepared.scene import Scene
from xscene.prepared.schema import require_format

FEATURE_FORMAT, FEATURE_VERSION = "xscene stored features", 1
FEATURES = "features"
GROUPS = ("views", "crops", "floorplans", "referrals", "objects", "cad")
_DTYPES = ("float16", "float32")


@dataclass(frozen=True, kw_only=True)
class BackboneRecord:
    """A backbone and the scenes that have features of it, each with the digest of its file."""

    digest: str
    """Of the backbone's own weights."""
    scenes: dict[str, str]


def feature_path(directory: Path, backbone_id: str, scene_id: str) -> Path:
    """Where features of a scene lie."""
    require_name(backbone_id, "backbone_id")
    return directory / FEATURES / backbone_id / f"{scene_id}.safetensors"


def num_rows(record: SceneRecord) -> dict[str, int]:
    """How many rows the tensors of each group have."""
    counts = {group: len(getattr(record, group)) for group in GROUPS if group != "crops"}
    return counts | {"crops": len(record.sightings) * record.num_crop_levels}


def write_features(
    directory: Path,
    scene: Scene,
    backbone_id: str,
    backbone_digest: str,
    tensors: Mapping[str, NDArray[Any]],
) -> str:
    """Store features (rows,D) of a scene of the data set in a directory; returns the file's digest."""
    if not tensors:
        raise InvalidInput.at("tensors", "none given, needs at least one")
    for name, tensor in tensors.items():
        _require_rows(name, tensor, scene.record)
    metadata = {
        "format": FEATURE_FORMAT,
        "version": FEATURE_VERSION,
        "scene_id": scene.record.scene_id,
        "arrays_sha256": scene.record.arrays.sha256,
        "backbone_id": backbone_id,
        "backbone_digest": backbone_digest,
    }
    data = with_metadata(tensors, metadata)
    replace_file(feature_path(directory, backbone_id, scene.record.scene_id), data)
    return hashlib.sha256(data).hexdigest()


def _require_rows(name: str, tensor: NDArray[Any], record: SceneRecord) -> None:
    group, _, output = name.partition(".")
    rows = num_rows(record)
    if group not in rows or not output:
        raise InvalidInput.at(name, f"needs to be <group>.<output>, with a group of {', '.join(rows)}")
    if tensor.ndim != 2 or tensor.shape[0] != rows[group]:
        raise InvalidInput.at(name, f"shape {list(tensor.shape)}, needs [{rows[group]}, any]")
    if str(tensor.dtype) not in _DTYPES:
        raise InvalidInput.at(name, f"type {tensor.dtype}, needs one of {', '.join(_DTYPES)}")
    if not np.isfinite(tensor).all():
        raise InvalidInput.at(name, "holds numbers that are not finite")


class FeatureFile:
    """Stored features of one scene, read tensor by tensor."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.names = names
        self._file = TensorFile(path)

    @classmethod
    def open(
        cls, path: Path, scene: Scene, backbone_id: str, backbone_digest: str, *, sha256: str | None = None
    ) -> FeatureFile:
        """The features of a scene; refused where they are torn, or of another scene or backbone."""
        where = f"features of {backbone_id}: {path.name}"
        if not path.is_file():
            raise PreparedInvalid(f"{where}: torn, there is no such file")
        if sha256 is not None and (digest := file_digest(path)) != sha256:
            raise PreparedInvalid(f"{where}: tampered, SHA-256 is {digest}, needs {sha256}")
        header, metadata = TensorFile(path).header()
        require_format(
            metadata.get("format"), metadata.get("version"), where, FEATURE_FORMAT, FEATURE_VERSION
        )
        wanted = {
            "scene_id": scene.record.scene_id,
            "arrays_sha256": scene.record.arrays.sha256,
            "backbone_id": backbone_id,
            "backbone_digest": backbone_digest,
        }
        for key, value in wanted.items():
            if metadata.get(key) != value:
                raise PreparedInvalid(f"{where}: {key} is {metadata.get(key)!r}, needs {value!r}")
        rows = num_rows(scene.record)
        for name, (_, shape) in header.items():
            count = rows.get(name.partition(".")[0])
            if len(shape) != 2 or shape[0] != count:
                raise PreparedInvalid(f"{where}: {name} has shape {list(shape)}, needs [{count}, any]")
        return cls(path, tuple(sorted(header)))

    def tensor(self, name: str) -> NDArray[Any]:
        """The features (rows,D) of this name."""
        if name not in self.names:
            raise InvalidInput.at("name", f"is {name!r}, the file has {', '.join(self.names)}")
        return self._file.array(name)
