"""What is known of scenes and objects: sentences, pictures, clouds and meshes.

Shapes: P points, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame, UpAxis, rigid
from xscene.geometry.projection import Intrinsics
from xscene.types.values import (
    Float32Array,
    Uint8Array,
    Uint32Array,
    Value,
    require_array,
    require_several,
)
from xscene.types.vocabulary import ImageFormat, MeshFormat, Modality


@dataclass(frozen=True, kw_only=True, eq=False)
class PointCloud(Value):
    """Points (P,3) float32 in metres, colours (P,3) uint8 where known, and the frame they are in."""

    points: Float32Array
    colors: Uint8Array | None = None
    frame: Frame = Frame.RAW
    up_axis: UpAxis = UpAxis.Z

    def __post_init__(self) -> None:
        require_array(self.points, np.float32, (None, 3), "points")
        if self.colors is not None:
            require_array(self.colors, np.uint8, (len(self.points), 3), "colors")

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def from_arrays(
        cls,
        points: ArrayLike,
        colors: ArrayLike | None = None,
        *,
        frame: Frame = Frame.RAW,
        up_axis: UpAxis = UpAxis.Z,
    ) -> Self:
        """A cloud of any numbers (P,3) and colours (P,3) from 0 to 255."""
        checked = None if colors is None else np.asarray(colors)
        if checked is not None and checked.dtype != np.uint8:
            # A cast would turn colours from 0 to 1 into black without a word.
            if not (np.issubdtype(checked.dtype, np.integer) and _within_byte(checked)):
                raise InvalidInput.at("colors", "need whole numbers from 0 to 255")
            checked = checked.astype(np.uint8)
        return cls(points=np.asarray(points, np.float32), colors=checked, frame=frame, up_axis=up_axis)

    @property
    def num_bytes(self) -> int:
        """Size of the numbers."""
        return self.points.nbytes + (0 if self.colors is None else self.colors.nbytes)


def _within_byte(colors: NDArray[np.integer]) -> bool:
    return colors.size == 0 or (int(colors.min()) >= 0 and int(colors.max()) <= 255)


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(Value):
    """A picture, either encoded (JPEG, PNG or WebP) or as RGB pixels (H,W,3) uint8, and its camera.

    `camera_to_world` (4,4) takes camera coordinates (x right, y down, z forward) to the world, metres.
    """

    encoded: bytes = b""
    pixels: Uint8Array | None = None
    frame_id: str = ""
    camera_to_world: NDArray[np.float64] | None = None
    intrinsics: Intrinsics | None = None

    def __post_init__(self) -> None:
        if bool(self.encoded) == (self.pixels is not None):
            raise InvalidInput.at("encoded", "needs either encoded bytes or pixels")
        if self.pixels is not None:
            require_array(self.pixels, np.uint8, (None, None, 3), "pixels")
        elif self.format is None:
            raise InvalidInput.at("encoded", f"{len(self.encoded)} bytes that are no JPEG, PNG or WebP")
        if self.camera_to_world is not None:
            require_array(self.camera_to_world, np.float64, (4, 4), "camera_to_world")

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        frame_id: str = "",
        camera_to_world: ArrayLike | None = None,
        intrinsics: Intrinsics | None = None,
    ) -> Self:
        """A picture as it lies on disk."""
        pose = None if camera_to_world is None else rigid(camera_to_world, "camera_to_world")
        encoded = Path(path).read_bytes()
        return cls(encoded=encoded, frame_id=frame_id, camera_to_world=pose, intrinsics=intrinsics)

    @property
    def format(self) -> ImageFormat | None:
        """Encoding of the bytes; None for pixels."""
        return ImageFormat.of(self.encoded)

    @property
    def num_bytes(self) -> int:
        """Size of the bytes or pixels."""
        return len(self.encoded) if self.pixels is None else self.pixels.nbytes


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A mesh file; `unit_m` is metres per unit of the file."""

    data: bytes
    format: MeshFormat
    up_axis: UpAxis = UpAxis.Z
    unit_m: float = 1.0

    @classmethod
    def from_file(cls, path: str | Path, *, up_axis: UpAxis = UpAxis.Z, unit_m: float = 1.0) -> Self:
        """A mesh as it lies on disk; its format is told from its bytes."""
        data = Path(path).read_bytes()
        found = MeshFormat.of(data)
        if found is None:
            raise InvalidInput.at("data", f"{len(data)} bytes that are no GLB, PLY or OBJ")
        return cls(data=data, format=found, up_axis=up_axis, unit_m=unit_m)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return len(self.data)


@dataclass(frozen=True, kw_only=True)
class ImageBox:
    """A rectangle in a picture, pixels: left <= column < right, top <= row < bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True)
class FrameRegion:
    """A part of a frame of the scene; `mask_png` is a one-channel PNG as large as the box, or empty."""

    frame_id: str
    box: ImageBox
    mask_png: bytes = b""

    @property
    def num_bytes(self) -> int:
        """Size of the mask."""
        return len(self.mask_png)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectBox(Value):
    """Where an object is, in the frame of its scene's cloud, metres.

    `pose` (4,4) float64 takes the box's own coordinates, whose origin is its middle, to that frame;
    `size` (3,) float64 holds the full edge lengths.
    """

    pose: NDArray[np.float64]
    size: NDArray[np.float64]

    def __post_init__(self) -> None:
        require_array(self.pose, np.float64, (4, 4), "pose")
        require_array(self.size, np.float64, (3,), "size")

    @classmethod
    def of(cls, box: OrientedBox) -> Self:
        """The box without the name of its frame."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = box.rotation, box.centre
        return cls(pose=pose, size=box.size.astype(np.float64))

    def oriented(self, frame: Frame) -> OrientedBox:
        """The box in the frame that the scene's cloud is in."""
        return OrientedBox(self.pose[:3, 3], self.size, self.pose[:3, :3], frame)


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneObject(Value):
    """One instance in a scene.

    Its points are `points`, else those of the scene's cloud at `point_indices` (P,) uint32. Views come
    best first: a picture of the object alone, or a part of one of the scene's frames.
    """

    object_id: str
    label: str = ""
    box: ObjectBox | None = None
    point_indices: Uint32Array | None = None
    points: PointCloud | None = None
    views: tuple[Image | FrameRegion, ...] = ()
    mesh: Mesh | None = None
    referrals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_several(self.views, "views")
        require_several(self.referrals, "referrals")
        if self.point_indices is not None:
            require_array(self.point_indices, np.uint32, (None,), "point_indices")


class _Content:
    """What the contents of scenes and of objects share: each field is one modality."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What is there, in the order of the fields."""
        return tuple(
            _MODALITY_OF_FIELD[field.name]
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) not in (None, ())
        )


_MODALITY_OF_FIELD = {
    "texts": Modality.TEXT,
    "images": Modality.IMAGE,
    "floorplan": Modality.FLOORPLAN,
    "point_cloud": Modality.POINT_CLOUD,
    "mesh": Modality.MESH,
}


@dataclass(frozen=True, kw_only=True)
class SceneContent(_Content):
    """What is known of a scene, or asked about one; any subset."""

    texts: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    floorplan: Image | None = None
    point_cloud: PointCloud | None = None
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        require_several(self.texts, "texts")
        require_several(self.images, "images")


@dataclass(frozen=True, kw_only=True)
class ObjectContent(_Content):
    """What is known of one object, without its neighbours; any subset."""

    texts: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    point_cloud: PointCloud | None = None
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        require_several(self.texts, "texts")
        require_several(self.images, "images")
