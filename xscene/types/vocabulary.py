"""The closed sets of words that the domain speaks in."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Modality(StrEnum):
    """A kind of input, or of stored vector."""

    TEXT = "text"
    IMAGE = "image"
    FLOORPLAN = "floorplan"
    POINT_CLOUD = "point_cloud"
    MESH = "mesh"
    OBJECTS = "objects"
    """Summary of a scene's objects; computed."""
    FUSED = "fused"
    """One vector made of all that is present; computed."""


class Space(StrEnum):
    """The two vector spaces of a bundle; vectors of different spaces are never compared."""

    SCENE = "scene"
    OBJECT = "object"


class Strategy(StrEnum):
    """How several scores become one."""

    FUSED = "fused"
    """One search with the fused query vector."""
    COMBINED = "combined"
    """Weighted sum of the calibrated evidence of all pairs that are present."""
    RRF = "rrf"
    """Reciprocal rank fusion."""
    MAX = "max"
    """The best pair counts."""


class Calibration(StrEnum):
    """Where evidence values come from."""

    FITTED = "fitted"
    """Log-likelihood ratios fitted on validation pairs: thresholds are comparable."""
    Z_SCORE = "z_score"
    """z-scores within one answer, as the bundle has no calibration."""


class ModalityState(StrEnum):
    """How far a modality of a scene has come."""

    STORED = "stored"
    PENDING = "pending"
    """Kept, and embedded as soon as its encoder answers."""
    FAILED = "failed"


class RunState(StrEnum):
    """State of long work."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class IngestMode(StrEnum):
    """What an ingest does to a scene that is there already."""

    REPLACE = "replace"
    MERGE = "merge"


class ItemKind(StrEnum):
    """What one item of an ingest holds."""

    TEXT = "text"
    IMAGE = "image"
    FLOORPLAN = "floorplan"
    POINT_CLOUD = "point_cloud"
    MESH = "mesh"
    OBJECT = "object"


class ImageFormat(StrEnum):
    """Encodings of pictures that are accepted."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"

    @classmethod
    def of(cls, encoded: bytes) -> Self | None:
        """The format that the first bytes tell, if it is one of these."""
        if encoded[:3] == b"\xff\xd8\xff":
            return cls("jpeg")
        if encoded[:8] == b"\x89PNG\r\n\x1a\n":
            return cls("png")
        return cls("webp") if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP" else None


class MeshFormat(StrEnum):
    """File formats of meshes that are accepted."""

    GLB = "glb"
    PLY = "ply"
    OBJ = "obj"

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """The format that the first bytes tell; OBJ has no mark of its own, so any text counts as one."""
        if data[:4] == b"glTF":
            return cls("glb")
        if data[:4] in (b"ply\n", b"ply\r"):
            return cls("ply")
        return cls("obj") if data and b"\0" not in data[:1024] else None
