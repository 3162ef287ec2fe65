"""What a sample holds under each key, read from one prepared scene.

Shapes: N points, O objects, K points of an object, C objects with a CAD model, V views, S sightings,
L crop levels, F floorplans, R sentences, P pixels of a side, D width of a feature. Keys:

    scene.points      float32 (N,3)       the cloud, augmented
    scene.colors      uint8 (N,3)         zeros where `present.scene.colors` is false
    scene.object_ids  int32 (N,)          -1 for no object
    scene.views       V encoded pictures, or uint8 (V,P,P,3) with picture_px; the same for
    scene.floorplans  F                   and
    object.crops      S times L           in the order of the sightings, the tightest level first
    scene.referrals   R sentences
    object.points     float32 (O,K,3)     drawn from the object's points
    object.colors     uint8 (O,K,3)       of those
    object.locations  float32 (O,6)       mean and size, turned as the scene is
    object.cad        float32 (C,K,3)     surface points in the models' own frames
    object.cad_colors uint8 (C,K,3)       of those; zeros where `present.cad.colors` (C,) is false
    feature.<backbone>/<group>.<output>   float32 (rows,D), stored: a row for each member of the group
                                          that the sample has; none where none are stored

What belongs to objects says to which: `object.crops.object` (S times L,), `object.cad.object` (C,) and
`scene.referrals.object` (R,) hold places among the sample's objects, -1 for one that it does not have, and
so does `<key>.object` of their features. Every sample has `scene_id`, `place_id`,
`dataset`, `object.ids` (O,), `object.labels` (O), `present.scene.<modality>` and
`present.object.<modality>` (O,); an object has text where the sample has a sentence about it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.datasets.augmentation import (
    Augmentation,
    augmented_cloud,
    rotated,
    without_colors,
    yaw_rotation,
)
from xscene.errors import InvalidInput, NotFound
from xscene.geometry.frames import Matrix
from xscene.prepared.dataset import PreparedDataset
from xscene.prepared.records import MODALITIES, OBJECT_MODALITIES
from xscene.prepared.scene import Scene, SceneCloud
from xscene.types.vocabulary import Modality

FEATURE = "feature."


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """How much of a scene a sample holds; None for all."""

    max_objects: int | None = 150
    max_views: int | None = 10
    max_referrals: int | None = 10
    """Drawn anew for each sample."""
    max_crop_views: int | None = None
    """Views of each object, those with most votes."""
    num_object_points: int = 1024
    num_cad_points: int | None = None
    """The first of each model, which are far apart; needed where data sets have differently many."""
    picture_px: int | None = None
    """Side that pictures are decoded and resized to; None leaves them encoded."""
    augmentation: Augmentation | None = None
    missing: dict[Modality, float] | None = None
    """Probability that a modality of the scene is withheld; one that is present is always left.

    Sentences go with the scene's; points, crops and models of objects stay.
    """

    def __post_init__(self) -> None:
        for name in (
            "max_objects",
            "max_views",
            "max_referrals",
            "max_crop_views",
            "num_object_points",
            "num_cad_points",
            "picture_px",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput.at(name, f"{value}, needs at least 1")
        for modality, probability in (self.missing or {}).items():
            if modality not in MODALITIES or not 0 <= probability <= 1:
                raise InvalidInput.at(f"missing.{modality}", f"{probability}, needs 0 to 1 of a modality")


class SceneReading:
    """One scene being read for one sample; each kind of content has random numbers of its own."""

    def __init__(
        self,
        dataset: PreparedDataset,
        scene: Scene,
        settings: SampleSettings,
        entropy: tuple[int, ...],
        verify: bool,
    ) -> None:
        self._dataset = dataset
        self._scene = scene
        self._settings = settings
        self._entropy = entropy
        self._verify = verify

    def sample(self, keys: Sequence[str]) -> dict[str, Any]:
        """What is held under each key, with identity and presence."""
        record, rows = self._scene.record, self._object_rows
        objects = [record.objects[row] for row in rows]
        found: dict[str, Any] = {
            "scene_id": record.scene_id,
            "place_id": record.place_id,
            "dataset": self._dataset.record.name,
            "object.ids": np.array([each.object_id for each in objects], dtype=np.int64),
            "object.labels": [each.label for each in objects],
        }
        for modality in MODALITIES:
            found[f"present.scene.{modality}"] = modality in self.present
        for modality in OBJECT_MODALITIES:
            mask = np.array([modality in each.present for each in objects], dtype=np.bool_)
            found[f"present.object.{modality}"] = mask
        # Of the sentences that a scene has, a sample holds a few.
        said = {record.referrals[row].target_id for row in self._rows["referrals"]}
        found["present.object.text"] = np.array([each.object_id in said for each in objects], dtype=np.bool_)
        for key in keys:
            found |= self.feature(key) if key.startswith(FEATURE) else READERS[key](self)
        return found

    @cached_property
    def present(self) -> frozenset[Modality]:
        """Modalities of the scene that the sample has, after some were withheld."""
        there = list(self._scene.record.present)
        generator = self._generator("missing")
        # All numbers are drawn, so that what one modality's probability is changes no other.
        chances = dict(zip(MODALITIES, generator.random(len(MODALITIES)), strict=True))
        missing = self._settings.missing or {}
        left = [m for m in there if chances[m] >= missing.get(m, 0.0)]
        if there and not left:
            left = [there[int(generator.integers(len(there)))]]
        return frozenset(left)

    @cached_property
    def _object_rows(self) -> list[int]:
        count, limit = len(self._scene.record.objects), self._settings.max_objects
        return self._drawn(count, limit, "objects")

    @cached_property
    def _place_of(self) -> dict[int, int]:
        """Row in the sample of each object id."""
        ids = self._scene.record.object_ids
        return {ids[row]: place for place, row in enumerate(self._object_rows)}

    @cached_property
    def _cloud(self) -> SceneCloud:
        return self._scene.cloud()

    @cached_property
    def _yaw(self) -> Matrix:
        how = self._settings.augmentation
        return yaw_rotation(self._generator("yaw")) if how and how.yaw else np.eye(3)

    @cached_property
    def _withholds_colors(self) -> bool:
        how = self._settings.augmentation
        return how is not None and without_colors(self._generator("colors"), how.colors_missing)

    @property
    def _has_colors(self) -> bool:
        return self._scene.record.color_sums is not None and not self._withholds_colors

    @cached_property
    def _scene_cloud(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Points of the scene as the sample has them, and the rows of the cloud that they were."""
        if Modality.POINT_CLOUD not in self.present:
            return np.zeros((0, 3), dtype=np.float32), np.zeros(0, dtype=np.int64)
        turned = rotated(self._cloud.points.xyz.astype(np.float32), self._yaw)
        how = self._settings.augmentation
        if how is None:
            return turned, np.arange(len(turned))
        return augmented_cloud(turned, self._generator("cloud"), how)

    def points(self) -> dict[str, Any]:
        """The cloud."""
        return {"scene.points": self._scene_cloud[0]}

    def colors(self) -> dict[str, Any]:
        """The cloud's colours, and whether they are true."""
        rows = self._scene_cloud[1]
        return {
            "scene.colors": self._color_rows(rows),
            "present.scene.colors": self._has_colors and len(rows) > 0,
        }

    def object_ids(self) -> dict[str, Any]:
        """The object of each point of the cloud."""
        return {"scene.object_ids": self._cloud.object_ids[self._scene_cloud[1]]}

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        """Rows of the scene's record that the sample has, by group of stored features."""
        record, limits = self._scene.record, self._settings
        num_views, num_referrals = (
            len(members) if modality in self.present else 0
            for modality, members in ((Modality.IMAGE, record.views), (Modality.TEXT, record.referrals))
        )
        plans = len(record.floorplans) if Modality.FLOORPLAN in self.present else 0
        sightings = self._scene.sightings_of
        return {
            "views": self._drawn(num_views, limits.max_views, "views"),
            "floorplans": list(range(plans)),
            "referrals": self._drawn(num_referrals, limits.max_referrals, "referrals"),
            "objects": self._object_rows,
            "crops": [
                row for each in self._place_of for row in sightings.get(each, [])[: limits.max_crop_views]
            ],
            "cad": [row for row, model in enumerate(record.cad) if model.object_id in self._place_of],
        }

    def _owners(self, group: str) -> NDArray[np.int64] | None:
        """Place among the sample's objects of that which each row of a group belongs to."""
        record = self._scene.record
        if group == "crops":
            owners = [record.sightings[row].object_id for row in self._rows[group]]
            ids = [each for each in owners for _ in range(record.num_crop_levels)]
        elif group == "cad":
            ids = [record.cad[row].object_id for row in self._rows[group]]
        elif group == "referrals":
            ids = [record.referrals[row].target_id for row in self._rows[group]]
        else:
            return None
        return np.array([self._place_of.get(each, -1) for each in ids], dtype=np.int64)

    def views(self) -> dict[str, Any]:
        """Views of the scene: the first, which cover it best, or with augmentation any of them."""
        return {"scene.views": self._pictures(self._scene.views(self._rows["views"]))}

    def floorplans(self) -> dict[str, Any]:
        """All floorplans."""
        return {"scene.floorplans": self._pictures(self._scene.floorplans(self._rows["floorplans"]))}

    def referrals(self) -> dict[str, Any]:
        """Sentences, and the object that each is about."""
        said = [self._scene.record.referrals[row].text for row in self._rows["referrals"]]
        return {"scene.referrals": said, "scene.referrals.object": self._owners("referrals")}

    @cached_property
    def _object_point_rows(self) -> NDArray[np.int64]:
        """Rows (O,K) of the cloud."""
        count = self._settings.num_object_points
        generator = self._generator("object points")
        ids = self._scene.record.object_ids
        picked = [
            _resampled(np.flatnonzero(self._cloud.object_ids == ids[row]), count, generator)
            for row in self._object_rows
        ]
        return np.stack(picked) if picked else np.zeros((0, count), dtype=np.int64)

    def object_points(self) -> dict[str, Any]:
        """Points of each object, drawn with repeats only where it has too few."""
        clouds = self._cloud.points.xyz[self._object_point_rows].astype(np.float32)
        turned = rotated(clouds, self._yaw) if clouds.size else clouds
        return {"object.points": self._each_turned(turned, "object yaw")}

    def object_colors(self) -> dict[str, Any]:
        """Colours of those points."""
        rows = self._object_point_rows
        colors = self._color_rows(rows.reshape(-1)).reshape(*rows.shape, 3)
        return {"object.colors": colors, "present.object.colors": np.full(len(rows), self._has_colors)}

    def locations(self) -> dict[str, Any]:
        """Mean and size of each object; sizes of turned objects are those of their turned points."""
        record = self._scene.record
        rows = np.zeros((len(self._object_rows), 6), dtype=np.float32)
        turned = self._settings.augmentation is not None and self._settings.augmentation.yaw
        for place, row in enumerate(self._object_rows):
            each = record.objects[row]
            size = np.array(each.size)
            if turned:
                own = rotated(self._cloud.points.xyz[self._cloud.object_ids == each.object_id], self._yaw)
                size = np.ptp(own, axis=0)
            rows[place] = (*(self._yaw @ np.array(each.mean)), *size)
        return {"object.locations": rows}

    def crops(self) -> dict[str, Any]:
        """Crops of the objects' best views."""
        crops = self._pictures(self._scene.crops(self._rows["crops"]))
        return {"object.crops": crops, "object.crops.object": self._owners("crops")}

    def cad(self) -> dict[str, Any]:
        """Surface points of the objects' models."""
        clouds = [self._scene.cad(row).xyz[: self._num_cad_points] for row in self._rows["cad"]]
        found = np.array(clouds, dtype=np.float32).reshape(-1, self._num_cad_points, 3)
        return {"object.cad": self._each_turned(found, "cad yaw"), "object.cad.object": self._owners("cad")}

    def cad_colors(self) -> dict[str, Any]:
        """Colours of those points, and which models have some."""
        withheld = self._withholds_colors
        found = [None if withheld else self._scene.cad_colors(row) for row in self._rows["cad"]]
        colors = np.zeros((len(found), self._num_cad_points, 3), dtype=np.uint8)
        for row, each in enumerate(found):
            if each is not None:
                colors[row] = each[: self._num_cad_points]
        present = np.array([each is not None for each in found], dtype=np.bool_)
        return {"object.cad_colors": colors, "present.cad.colors": present}

    @cached_property
    def _num_cad_points(self) -> int:
        stored, wanted = self._scene.record.num_cad_points, self._settings.num_cad_points
        if wanted is not None and wanted > stored:
            raise InvalidInput.at("num_cad_points", f"{wanted}, {self._scene.record.scene_id} has {stored}")
        return wanted or stored

    def feature(self, key: str) -> dict[str, Any]:
        """Stored features of those members of a group that the sample has."""
        backbone_id, _, name = key.removeprefix(FEATURE).partition("/")
        group = name.partition(".")[0]
        found: dict[str, Any] = {key: self._stored(backbone_id, name, group)}
        if (owners := self._owners(group)) is not None:
            found[f"{key}.object"] = owners if len(found[key]) else owners[:0]
        return found

    def _stored(self, backbone_id: str, name: str, group: str) -> NDArray[np.float32]:
        try:
            file = self._dataset.features(self._scene, backbone_id, verify=self._verify)
        except NotFound:
            return np.zeros((0, 0), dtype=np.float32)
        rows = self._rows[group]
        if group == "crops":
            levels = self._scene.record.num_crop_levels
            rows = [row * levels + level for row in rows for level in range(levels)]
        return file.tensor(name)[rows].astype(np.float32)

    def _color_rows(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        colors = self._cloud.colors
        if colors is None or not self._has_colors:
            return np.zeros((len(rows), 3), dtype=np.uint8)
        return colors[rows]

    def _each_turned(self, clouds: NDArray[np.float32], purpose: str) -> NDArray[np.float32]:
        how = self._settings.augmentation
        if how is None or not how.object_yaw or not len(clouds):
            return clouds
        generator = self._generator(purpose)
        return np.stack([rotated(cloud, yaw_rotation(generator)) for cloud in clouds])

    def _pictures(self, encoded: list[bytes]) -> list[bytes] | NDArray[np.uint8]:
        side = self._settings.picture_px
        if side is None:
            return encoded
        decoded = [_resized(picture, side) for picture in encoded]
        return np.stack(decoded) if decoded else np.zeros((0, side, side, 3), dtype=np.uint8)

    def _drawn(self, count: int, limit: int | None, purpose: str) -> list[int]:
        """Rows, ascending: all of them, or as many as the limit allows."""
        if limit is None or count <= limit:
            return list(range(count))
        if self._settings.augmentation is None and purpose == "views":
            # Without augmentation the first: they were chosen to cover the room.
            return list(range(limit))
        return sorted(self._generator(purpose).permutation(count)[:limit].tolist())

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng((*self._entropy, *purpose.encode()))


def _resampled(rows: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.choice(rows, count, replace=len(rows) < count)


def _resized(encoded: bytes, side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded)) as image:
        square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(square)


READERS: dict[str, Callable[[SceneReading], dict[str, Any]]] = {
    "scene.points": SceneReading.points,
    "scene.colors": SceneReading.colors,
    "scene.object_ids": SceneReading.object_ids,
    "scene.views": SceneReading.views,
    "scene.floorplans": SceneReading.floorplans,
    "scene.referrals": SceneReading.referrals,
    "object.points": SceneReading.object_points,
    "object.colors": SceneReading.object_colors,
    "object.locations": SceneReading.locations,
    "object.crops": SceneReading.crops,
    "object.cad": SceneReading.cad,
    "object.cad_colors": SceneReading.cad_colors,
}
KEYS = tuple(READERS)
