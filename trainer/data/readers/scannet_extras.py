"""What furnished rooms have beyond ScanNet's files: place, assets, models, plans, sentences, changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from trainer.data.readers.documents import Value, read_json
from trainer.data.readers.files import MAX_PICTURE_BYTES, read_bytes
from trainer.data.scans import CadModel, FloorplanDrawing, ObjectMotion, Referral, RescanLink, ScannedObject
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame


@dataclass(frozen=True)
class Extras:
    """The folder `extras/` of a scan."""

    folder: Path
    root: Path
    """The data set's folder, from which models are named."""
    max_json_bytes: int

    @property
    def exists(self) -> bool:
        """Whether the scan has extras."""
        return (self.folder / "scene.json").exists()

    def _json(self, name: str) -> Value:
        return read_json(self.folder / name, max_bytes=self.max_json_bytes)

    def place(self) -> tuple[str, str]:
        """Place and split."""
        scene = self._json("scene.json")
        return scene["place_id"].text(), scene["split"].text()

    @cached_property
    def _objects(self) -> Mapping[int, Value]:
        return {entry["object_id"].integer(): entry for entry in self._json("objects.json").items()}

    def objects(self) -> tuple[ScannedObject, ...]:
        """All objects, also those that the scan did not reach."""
        return tuple(_object(at, entry) for at, entry in sorted(self._objects.items()))

    def cad_models(self) -> tuple[CadModel, ...]:
        """Models of furniture."""
        return tuple(
            CadModel(
                object_id=at,
                model_id=cad["asset_id"].text(),
                path=self._inside(cad["file"]),
                raw_from_canonical=entry["raw_from_canonical"].numbers((4, 4)),
                scale=cad["scale"].numbers((3,)),
            )
            for at, entry in sorted(self._objects.items())
            if (cad := entry.get("cad"))
        )

    def _inside(self, file: Value) -> Path:
        name = PurePosixPath(file.text())
        if name.is_absolute() or ".." in name.parts:
            raise InvalidInput.at(file.where, f"{str(name)[:80]!r} leads out of the data set")
        return self.root / name

    def referrals(self) -> tuple[Referral, ...]:
        """Sentences about objects."""
        return tuple(
            Referral(
                text=said["utterance"].text(),
                target_id=said["target_id"].integer(),
                anchor_ids=tuple(said["anchor_ids"].integers().tolist()),
                relation=said["relation"].text(),
            )
            for said in self._json("referrals.json").items()
        )

    def floorplans(self, *, max_bytes: int = MAX_PICTURE_BYTES) -> tuple[FloorplanDrawing, ...]:
        """A plan of each style, ordered by style."""
        plans = self._json("floorplans.json")["pixels_from_aligned"]
        return tuple(
            FloorplanDrawing(
                style=style,
                encoded=read_bytes(
                    self.folder / f"floorplan_{PurePosixPath(style).name}.png", max_bytes=max_bytes
                ),
                pixels_from_aligned=matrix.numbers((3, 3)),
            )
            for style, matrix in sorted(plans.fields())
        )

    def rescan_link(self) -> RescanLink | None:
        """The reference, for a rescan."""
        if not (path := self.folder / "rescan.json").exists():
            return None
        found = self._json(path.name)
        return RescanLink(
            reference_scan_id=found["reference"].text(),
            reference_from_scan=found["reference_from_scan"].numbers((4, 4)),
            motions=tuple(_motion(entry) for entry in found["objects"].items()),
            added_ids=tuple(found["added"].integers().tolist()),
            removed_ids=tuple(found["removed"].integers().tolist()),
        )


def _object(at: int, entry: Value) -> ScannedObject:
    box, asset = entry.get("box_aligned"), entry.get("asset_id")
    return ScannedObject(
        object_id=at,
        label=entry["label"].text(),
        nyu40=entry["nyu40"].integer(),
        box=None if box is None else _box(box),
        asset_id=None if asset is None else asset.text(),
    )


def _box(box: Value) -> OrientedBox:
    centre, size = (box[key].numbers((3,)) for key in ("centre", "size"))
    return OrientedBox(centre, size, box["rotation"].numbers((3, 3)), Frame.ALIGNED)


def _motion(entry: Value) -> ObjectMotion:
    return ObjectMotion(
        object_id=entry["object_id"].integer(),
        reference_object_id=entry["reference_object_id"].integer(),
        reference_from_scan=entry["reference_from_scan"].numbers((4, 4)),
        moved=entry["moved"].flag(),
    )
