"""The interface through which scans of any data set come in, and the registry of data sets.

A data set of your own is one file: a subclass of `Dataset` that lists its scans, a subclass of
`Scan` that reads one, and a function `register` that takes a `Registry`. Whatever a scan lacks keeps
the default, which says that it is not there. Coordinates are metres with z up. Reading is lazy:
nothing is opened before its method is called. A file that is wrong raises InvalidInput, and the
message names the file.

Shapes: V vertices, F faces, H and W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xscene.errors import AlreadyExists, InvalidInput, NotFound
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Floats, Frame, Matrix, Points, require_frame, rigid
from xscene.geometry.projection import Intrinsics

NO_OBJECT = -1


class Split(StrEnum):
    """What a scan may be used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class ScanEntry:
    """A scan in the list of its data set."""

    scan_id: str
    place_id: str
    """Scans of one place have it in common; a place lies in one split whole."""
    split: Split
    is_reference: bool = True
    """False for a rescan, which is compared with its place's reference."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScannedSurface:
    """The cloud of a scan in its raw frame, with what is known of each vertex."""

    points: Points
    """Vertices (V,3)."""
    colors: NDArray[np.uint8] | None
    """True colours (V,3), never those of a label palette."""
    object_ids: NDArray[np.int32]
    """Object of each vertex (V,); NO_OBJECT for none."""
    faces: NDArray[np.int32] | None = None
    """Triangles (F,3); None for a bare cloud."""

    def __post_init__(self) -> None:
        require_frame(self.points, Frame.RAW)
        count = len(self.points)
        if self.object_ids.shape != (count,):
            raise InvalidInput.at("object_ids", f"shape {list(self.object_ids.shape)}, needs [{count}]")
        if self.colors is not None and self.colors.shape != (count, 3):
            raise InvalidInput.at("colors", f"shape {list(self.colors.shape)}, needs [{count}, 3]")
        if self.faces is not None and len(self.faces):
            low, high = int(self.faces.min()), int(self.faces.max())
            if low < 0 or high >= count:
                raise InvalidInput.at("faces", f"name vertices {low} to {high} of {count}")


@dataclass(frozen=True, kw_only=True)
class ScannedObject:
    """An object of a scan; its vertices are those of the surface that carry its id."""

    object_id: int
    label: str
    nyu40: int | None = None
    box: OrientedBox | None = None
    """Where the data set gives one of its own, in the frame that the box says."""
    asset_id: str | None = None
    """The model that the object truly is, where the data set knows; splits may not share it."""


class View(ABC):
    """One posed picture of a scan."""

    view_id: str
    """Unique in its scan; numbers sort as numbers."""
    camera_to_world: Matrix
    """Pose (4,4) in the raw frame; not finite where tracking was lost."""
    intrinsics: Intrinsics
    """Of the colour picture."""

    @property
    def is_tracked(self) -> bool:
        """Whether the pose can be used."""
        return bool(np.isfinite(self.camera_to_world).all())

    @abstractmethod
    def color(self) -> bytes:
        """The picture as encoded: JPEG, PNG or WebP."""

    def depth(self) -> DepthImage | None:
        """Depth, where it was measured."""
        return None

    def object_pixels(self) -> NDArray[np.int32] | None:
        """Object of each pixel (H,W), NO_OBJECT for none, where the data set draws them."""
        return None


@dataclass(frozen=True, eq=False)
class DepthImage:
    """Depth (H,W) in metres, 0 for a hole, with the intrinsics of its own size."""

    metres: NDArray[np.float32]
    intrinsics: Intrinsics


@dataclass(frozen=True, kw_only=True)
class Referral:
    """A sentence about one object, which may name others."""

    text: str
    target_id: int
    anchor_ids: tuple[int, ...] = ()
    relation: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class FloorplanDrawing:
    """A plan from above, as an encoded picture."""

    style: str
    encoded: bytes
    pixels_from_aligned: NDArray[np.float64] | None = None
    """Column and row (3,3) of a point in the aligned frame, where known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayoutEdges:
    """Walls, floor and ceiling as line segments, for data sets whose floorplan must be drawn."""

    corners: Points
    edges: NDArray[np.int32]
    """Pairs of corners (E,2)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CadModel:
    """A CAD model that stands for an object; the file is in the model's canonical frame."""

    object_id: int
    model_id: str
    path: Path
    raw_from_canonical: Matrix
    """Pose (4,4), without scale."""
    scale: Floats = field(default_factory=lambda: np.ones(3))
    """Along the model's own axes (3,), applied before the pose."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectMotion:
    """An object in a rescan and where it was in the reference."""

    object_id: int
    reference_object_id: int
    reference_from_scan: Matrix
    """Rigid motion (4,4) between raw frames that takes the object back."""
    moved: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class RescanLink:
    """How a rescan lies in its reference, and what changed."""

    reference_scan_id: str
    reference_from_scan: Matrix
    """Rigid (4,4), between raw frames."""
    motions: tuple[ObjectMotion, ...] = ()
    added_ids: tuple[int, ...] = ()
    removed_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rigid(self.reference_from_scan, "reference_from_scan")


class Scan(ABC):
    """One scan, read piece by piece."""

    entry: ScanEntry

    @abstractmethod
    def surface(self) -> ScannedSurface:
        """The cloud with colours and objects."""

    @abstractmethod
    def objects(self) -> tuple[ScannedObject, ...]:
        """All objects, ordered by id."""

    def sources(self) -> tuple[Path, ...]:
        """Files and folders whose change means that the scan has to be prepared again; may not be there."""
        return ()

    def aligned_from_raw(self) -> Matrix:
        """Rigid (4,4) that turns walls along x and y; the identity where the data set has none."""
        return np.eye(4)

    def scene_label(self) -> str:
        """What kind of room it is; empty where unknown."""
        return ""

    def views(self) -> Sequence[View]:
        """Posed pictures in the order they were taken."""
        return ()

    def referrals(self) -> tuple[Referral, ...]:
        """Sentences about objects."""
        return ()

    def floorplans(self) -> tuple[FloorplanDrawing, ...]:
        """Plans that come with the data set."""
        return ()

    def layout(self) -> LayoutEdges | None:
        """Edges of walls, from which a plan can be drawn."""
        return None

    def cad_models(self) -> tuple[CadModel, ...]:
        """Models that stand for objects, at most one for each object."""
        return ()

    def rescan_link(self) -> RescanLink | None:
        """For a rescan, its reference."""
        return None


class Dataset(ABC):
    """A data set on disk."""

    name: str
    """The name of the registry, kept in prepared scenes."""

    @abstractmethod
    def entries(self) -> tuple[ScanEntry, ...]:
        """Every scan, ordered by id."""

    @abstractmethod
    def open(self, entry: ScanEntry) -> Scan:
        """A scan of this data set."""

    def scans(self, split: Split | None = None) -> Iterator[Scan]:
        """Scans one by one, of one split or all."""
        return (self.open(entry) for entry in self.entries() if split in (None, entry.split))


DatasetFactory: TypeAlias = Callable[[Path], Dataset]


@dataclass(frozen=True)
class Registry:
    """Data sets by name."""

    _factories: dict[str, DatasetFactory] = field(default_factory=dict, init=False)

    def register(self, name: str, factory: DatasetFactory) -> None:
        """Make a data set known; the factory takes the directory that it lies in."""
        if name in self._factories:
            raise AlreadyExists(f"data set {name} is already registered")
        self._factories[name] = factory

    def names(self) -> tuple[str, ...]:
        """Names of all data sets, sorted."""
        return tuple(sorted(self._factories))

    def open(self, name: str, root: Path) -> Dataset:
        """The data set of this name in a directory."""
        if name not in self._factories:
            known = ", ".join(self.names()) or "none"
            raise NotFound(f"data set {name!r} is not registered; known: {known}")
        if not root.is_dir():
            raise NotFound(f"{root} is no directory, so it cannot hold {name}")
        return self._factories[name](root)
