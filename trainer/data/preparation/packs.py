"""Packs: a few prepared scenes made small, as a prepared data set that can travel with a repository."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.preparation.clouds import color_sums, thinned
from trainer.data.preparation.pictures import decoded, fitting, jpeg
from trainer.data.preparation.settings import Settings, Words, require_range
from xscene.errors import AlreadyExists, InvalidInput, LimitExceeded
from xscene.files import replaced_directory
from xscene.geometry.frames import Frame, Points
from xscene.prepared.dataset import (
    ATTRIBUTION_FILE,
    DATASET_FILE,
    SCENES,
    DatasetRecord,
    PreparedDataset,
    SceneEntry,
    Setting,
    merged_color_sums,
    open_dataset,
    settings_digest,
    write_dataset,
)
from xscene.prepared.records import SceneRecord, Sighting, ViewRecord
from xscene.prepared.scene import Content, Scene, SceneCloud, open_scene, write_scene

LARGEST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class PackSettings(Words):
    """How small the parts of a pack are made."""

    voxel_m: float = 0.06
    num_views: int = 10
    max_view_px: int = 384
    num_crop_views: int = 2
    max_crop_px: int = 128
    num_cad_points: int = 512
    jpeg_quality: int = 70
    max_picture_pixels: int = 1 << 26

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require_range(name, value)


def write_pack(
    source: Path, scene_ids: Sequence[str], out: Path, *, max_bytes: int, settings: PackSettings
) -> int:
    """Write the pack, over one that is there, and return its size; one past the limit is not written."""
    dataset = open_dataset(source)
    if not scene_ids:
        raise InvalidInput.at("scenes", "none given, needs at least one")
    if len(set(scene_ids)) < len(scene_ids):
        raise InvalidInput.at("scenes", "a scene is named twice")
    _require_pack_or_nothing(out)
    with replaced_directory(out.absolute()) as staging:
        parts = _fill(staging, dataset, sorted(scene_ids), settings)
        num_bytes = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        if num_bytes > max_bytes:
            largest = ", ".join(
                f"{name} {size / 2**20:.1f} MiB" for name, size in parts.most_common(LARGEST_NAMED)
            )
            raise LimitExceeded.of(
                f"pack, its largest parts {largest}", value=num_bytes, limit=max_bytes, unit="bytes"
            )
    return num_bytes


def _require_pack_or_nothing(out: Path) -> None:
    """Refuse to write over what is no pack: scans and hours of preparation may stand behind it."""
    if not (out.exists() and any(out.iterdir())):
        return
    if not (out / DATASET_FILE).is_file():
        raise AlreadyExists(f"{out} is there and is no prepared data set")
    if (
        not _prefixed(PackSettings()).keys()
        <= open_dataset(out, allow_incomplete=True).record.settings.keys()
    ):
        raise AlreadyExists(f"{out} is there and is a prepared data set, but no pack")


def _fill(
    staging: Path, dataset: PreparedDataset, scene_ids: Sequence[str], settings: PackSettings
) -> Counter[str]:
    """Write all files of the pack; returns the bytes that each kind of content takes."""
    described: dict[str, Setting] = {**dataset.record.settings, **_prefixed(settings)}
    parts: Counter[str] = Counter()
    records = []
    for scene_id in scene_ids:
        record, content = smaller(dataset.scene(scene_id), settings, settings_digest(described))
        for name, array in content.arrays().items():
            parts[name.partition(".")[0]] += array.nbytes
        records.append(write_scene(staging / SCENES / scene_id, record, content))
    if dataset.attribution():
        # Byte by byte, as its digest goes along.
        shutil.copyfile(dataset.directory / ATTRIBUTION_FILE, staging / ATTRIBUTION_FILE)
    scenes = {name: SceneEntry.of(open_scene(staging / SCENES / name)) for name in scene_ids}
    write_dataset(
        staging,
        DatasetRecord(
            name=dataset.record.name,
            complete=True,
            settings=described,
            color_sums=merged_color_sums(records),
            attribution_sha256=dataset.record.attribution_sha256,
            scenes=scenes,
        ),
    )
    return parts


def _prefixed(settings: PackSettings) -> dict[str, Setting]:
    return {f"pack.{name}": value for name, value in asdict(settings).items()}


def smaller(scene: Scene, settings: PackSettings, digest: str) -> tuple[SceneRecord, Content]:
    """A scene with fewer points, and with fewer and smaller pictures."""
    cloud = _thinner(scene.cloud(), scene.record, settings)
    views, encoded_views = _views(scene, settings)
    rows = [row for those in scene.sightings_of.values() for row in those[: settings.num_crop_views]]
    sightings: tuple[Sighting, ...] = tuple(scene.record.sightings[row] for row in rows)
    num_cad_points = min(settings.num_cad_points, scene.record.num_cad_points)
    record = replace(
        scene.record,
        settings_digest=digest,
        num_points=len(cloud.points),
        color_sums=color_sums(cloud.colors),
        views=views,
        sightings=sightings,
        num_cad_points=num_cad_points,
    )
    # The points of a model were chosen far from each other, one after the other: the first cover it too.
    models = [scene.cad(row).xyz[:num_cad_points] for row in range(len(record.cad))]
    colors = [scene.cad_colors(row) for row in range(len(record.cad))]
    content = Content(
        cloud=cloud,
        views=encoded_views,
        crops=[_small(crop, settings.max_crop_px, settings) for crop in scene.crops(rows)],
        floorplans=scene.floorplans(),
        cad=np.stack(models) if models else None,
        cad_colors=[None if each is None else each[:num_cad_points] for each in colors],
    )
    return record, content


def _thinner(cloud: SceneCloud, record: SceneRecord, settings: PackSettings) -> SceneCloud:
    limits = Settings(voxel_m=settings.voxel_m)
    kept = thinned(cloud.points, cloud.object_ids, limits) if record.num_points else slice(0)
    return SceneCloud(
        points=Points(cloud.points.xyz[kept], Frame.ALIGNED),
        colors=None if cloud.colors is None else cloud.colors[kept],
        object_ids=cloud.object_ids[kept],
    )


def _views(scene: Scene, settings: PackSettings) -> tuple[tuple[ViewRecord, ...], list[bytes]]:
    """The first views, which were chosen far from each other, and intrinsics that fit their new size."""
    kept = scene.record.views[: settings.num_views]
    records, encoded = [], []
    for view, picture in zip(kept, scene.views(range(len(kept))), strict=True):
        image = _opened(picture, view.view_id, settings)
        small = fitting(image, settings.max_view_px)
        same = small.size == image.size
        fitted = view.intrinsics if same else view.intrinsics.resized(*small.size)
        records.append(replace(view, intrinsics=fitted))
        encoded.append(jpeg(small, settings.jpeg_quality))
    return tuple(records), encoded


def _small(picture: bytes, max_side_px: int, settings: PackSettings) -> bytes:
    return jpeg(fitting(_opened(picture, "crop", settings), max_side_px), settings.jpeg_quality)


def _opened(picture: bytes, where: str, settings: PackSettings) -> Image.Image:
    return decoded(picture, where, settings.max_picture_pixels)
