"""A prepared data set: a directory of scenes and the file that lists them, its settings and statistics."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from xscene.errors import InvalidInput, NotFound, PreparedInvalid
from xscene.files import file_digest, replace_file
from xscene.geometry.frames import Frame
from xscene.prepared.features import BackboneRecord, FeatureFile, feature_path
from xscene.prepared.records import ColorSums, SceneRecord, Split, require_name
from xscene.prepared.scene import Scene, open_scene
from xscene.prepared.schema import dump, read
from xscene.types.vocabulary import Modality

DATASET_FORMAT, DATASET_VERSION = "xscene prepared data set", 1
DATASET_FILE, SCENES, ATTRIBUTION_FILE = "dataset.json", "scenes", "ATTRIBUTION.md"

Setting = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class SceneEntry:
    """A scene in the list of its data set."""

    sha256: str
    """Of its scene.json, which holds the digest of its arrays."""
    place_id: str
    split: Split
    label: str
    present: tuple[Modality, ...]
    num_objects: int

    @classmethod
    def of(cls, scene: Scene) -> SceneEntry:
        """The entry of a scene."""
        record = scene.record
        return cls(
            sha256=scene.sha256,
            place_id=record.place_id,
            split=record.split,
            label=record.label,
            present=record.present,
            num_objects=len(record.objects),
        )


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """All of a prepared data set but its scenes and features."""

    format: str = DATASET_FORMAT
    version: int = DATASET_VERSION
    name: str
    complete: bool
    """False until every scan that a run was asked for, by its limit, was taken in or skipped."""
    frame: Frame = Frame.ALIGNED
    settings: dict[str, Setting]
    color_sums: ColorSums | None = None
    """Over the thinned clouds of the training split; None where none of them has colours."""
    attribution_sha256: str | None = None
    scenes: dict[str, SceneEntry] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    """Scans that could not be prepared."""
    backbones: dict[str, BackboneRecord] = dataclasses.field(default_factory=dict)
    """Stored features, by backbone id."""
    digest: str = ""
    """SHA-256 of the canonical JSON of all other keys."""

    def __post_init__(self) -> None:
        require_name(self.name, "name")
        for scene_id in self.scenes:
            require_name(scene_id, "scenes")
        for backbone_id in self.backbones:
            require_name(backbone_id, "backbones")

    @property
    def settings_digest(self) -> str:
        """What scenes carry of the settings that they were prepared with."""
        return settings_digest(self.settings)

    def sealed(self) -> DatasetRecord:
        """The record with its true digest."""
        return dataclasses.replace(self, digest=self._digest())

    def require_seal(self) -> None:
        """Refuse a record that was changed after it was sealed."""
        if self.digest != (true := self._digest()):
            raise PreparedInvalid(
                f"{DATASET_FILE}: tampered, digest is {self.digest[:64]!r}, the content gives {true}"
            )

    def _digest(self) -> str:
        fields = dataclasses.asdict(self)
        del fields["digest"]
        return _canonical_digest(fields)


def settings_digest(settings: dict[str, Setting]) -> str:
    """SHA-256 of settings as canonical JSON."""
    return _canonical_digest(settings)


def _canonical_digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class PreparedDataset:
    """A prepared data set on disk; it may be handed to another process."""

    def __init__(self, directory: Path, record: DatasetRecord) -> None:
        self.directory = directory
        self.record = record

    def scene_ids(self, split: Split | None = None) -> tuple[str, ...]:
        """Ids of scenes, of one split or all, sorted."""
        return tuple(
            name for name, entry in sorted(self.record.scenes.items()) if split in (None, entry.split)
        )

    def scene(self, scene_id: str, *, verify: bool = True) -> Scene:
        """A scene of the list, which must be the very one that the list means."""
        entry = self.record.scenes.get(scene_id)
        if entry is None:
            raise NotFound(f"data set {self.record.name} has no scene {scene_id!r}")
        return open_scene(self.directory / SCENES / scene_id, sha256=entry.sha256, verify=verify)

    def features(self, scene: Scene, backbone_id: str, *, verify: bool = True) -> FeatureFile:
        """Stored features of a scene."""
        backbone = self.record.backbones.get(backbone_id)
        if backbone is None:
            known = ", ".join(self.record.backbones) or "none"
            raise NotFound(f"data set {self.record.name} has no features of {backbone_id!r}; it has {known}")
        wanted = backbone.scenes.get(scene.record.scene_id)
        if wanted is None:
            raise NotFound(f"scene {scene.record.scene_id} has no features of {backbone_id}")
        path = feature_path(self.directory, backbone_id, scene.record.scene_id)
        return FeatureFile.open(path, scene, backbone_id, backbone.digest, sha256=wanted if verify else None)

    def attribution(self) -> str:
        """Authors and licences of what the data set was made of; empty where none is asked for."""
        path = self.directory / ATTRIBUTION_FILE
        if self.record.attribution_sha256 is None:
            return ""
        if not path.is_file() or file_digest(path) != self.record.attribution_sha256:
            raise PreparedInvalid(f"{ATTRIBUTION_FILE}: missing or not the one that was written")
        return path.read_text(encoding="utf-8")

    def verify(self) -> None:
        """Read every file and refuse the first that is not what was written."""
        self.attribution()
        for scene_id in self.scene_ids():
            scene = self.scene(scene_id)
            for backbone_id, backbone in self.record.backbones.items():
                if scene_id in backbone.scenes:
                    self.features(scene, backbone_id)


def open_dataset(directory: Path, *, allow_incomplete: bool = False) -> PreparedDataset:
    """The data set of a directory; its scenes are verified when they are opened."""
    if not (directory / DATASET_FILE).is_file():
        raise NotFound(f"{directory} holds no {DATASET_FILE}, so it is no prepared data set")
    record, _ = read(
        directory / DATASET_FILE, DatasetRecord, format_name=DATASET_FORMAT, version=DATASET_VERSION
    )
    record.require_seal()
    if not (record.complete or allow_incomplete):
        raise PreparedInvalid(f"{directory.name}: preparation of {record.name} has not come to its end")
    return PreparedDataset(directory, record)


def write_dataset(directory: Path, record: DatasetRecord) -> PreparedDataset:
    """Write the file that lists the data set's scenes, over the one that is there."""
    sealed = record.sealed()
    replace_file(directory / DATASET_FILE, dump(sealed))
    return PreparedDataset(directory, sealed)


def record_features(
    dataset: PreparedDataset, backbone_id: str, backbone_digest: str, scenes: dict[str, str]
) -> PreparedDataset:
    """Add stored features to the list: for each scene, the digest that `write_features` gave."""
    if strangers := sorted(set(scenes) - set(dataset.record.scenes)):
        raise InvalidInput.at("scenes", f"{strangers[0]!r} is no scene of {dataset.record.name}")
    there = dataset.record.backbones.get(backbone_id)
    if there is not None and there.digest != backbone_digest:
        raise PreparedInvalid(
            f"features of {backbone_id} are of backbone {there.digest}, these are of {backbone_digest}"
        )
    merged = BackboneRecord(digest=backbone_digest, scenes={**(there.scenes if there else {}), **scenes})
    backbones = {**dataset.record.backbones, backbone_id: merged}
    return write_dataset(dataset.directory, dataclasses.replace(dataset.record, backbones=backbones))


def merged_color_sums(records: list[SceneRecord]) -> ColorSums | None:
    """Colour statistics of the training split."""
    parts = [r.color_sums for r in records if r.split is Split.TRAIN and r.color_sums is not None]
    return ColorSums.merged(parts) if any(part.num_points for part in parts) else None
