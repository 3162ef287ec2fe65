"""A data set of the synthetic scene, read through the interface of scans; also a reader file of its own.

Its folder holds `scans.json`: a list of scans, each with its id, place, split, seed and, for some, a fault.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fixtures_scene import (
    COLORS,
    INSTANCE_NAMES,
    NYU40_IDS,
    SyntheticScene,
    synthetic_scene,
)
from trainer.data import scans
from trainer.data.scans import NO_OBJECT, Registry, ScanEntry, Split
from xscene.errors import InvalidInput
from xscene.geometry.boxes import OrientedBox
from xscene.geometry.frames import Frame, Points
from xscene.geometry.projection import Intrinsics

NAME = "made"
LIST = "scans.json"
CUBE = "cube.obj"
CABINET = 2
CUBE_TEXT = """\
v -0.5 -0.5 0
v 0.5 -0.5 0
v 0.5 0.5 0
v -0.5 0.5 0
v -0.5 -0.5 1
v 0.5 -0.5 1
v 0.5 0.5 1
v -0.5 0.5 1
f 4 3 2 1
f 5 6 7 8
f 1 2 6 5
f 2 3 7 6
f 3 4 8 7
f 4 1 5 8
"""


@dataclass(frozen=True)
class MadeView(scans.View):
    """A frame of the synthetic scene, as PNG."""

    view_id: str
    camera_to_world: np.ndarray
    intrinsics: Intrinsics
    metres: np.ndarray = field(repr=False)
    instances: np.ndarray = field(repr=False)
    draws_objects: bool = True
    has_depth: bool = True

    def color(self) -> bytes:
        palette = np.array((*COLORS, (0, 0, 0)), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(palette[self.instances]).save(buffer, "PNG")
        return buffer.getvalue()

    def depth(self) -> scans.DepthImage | None:
        image = scans.DepthImage(self.metres.astype(np.float32), self.intrinsics)
        return image if self.has_depth else None

    def object_pixels(self) -> np.ndarray | None:
        return self.instances.astype(np.int32) if self.draws_objects else None


@dataclass(frozen=True)
class MadeScan(scans.Scan):
    """The synthetic scene, moved and coloured by a seed; it has all modalities unless told otherwise."""

    entry: ScanEntry
    root: Path
    seed: int = 0
    fault: str = ""
    draws_objects: bool = True
    has_depth: bool = True
    colored: bool = True
    walls: bool = True
    models: bool = True
    rescan_of: str = ""

    @property
    def scene(self) -> SyntheticScene:
        return synthetic_scene()

    def surface(self) -> scans.ScannedSurface:
        if self.fault == "input":
            raise InvalidInput.at(f"{self.entry.scan_id}.ply", "ends early")
        if self.fault == "code":
            raise KeyError("vertex")
        if self.fault == "memory":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "talk":
            sys.stdout.write("this reader talks\n")
            sys.stdout.flush()
            logging.getLogger(__name__).warning("a reader warns", extra={"scan": self.entry.scan_id})
        scene = self.scene
        shade = np.random.default_rng(self.seed).integers(-20, 20, scene.colors.shape)
        colors = (scene.colors.astype(int) + shade).clip(0, 255).astype(np.uint8)
        return scans.ScannedSurface(
            points=Points(scene.vertices, Frame.RAW),
            colors=colors if self.colored else None,
            object_ids=scene.instance_ids.astype(np.int32),
            faces=scene.faces.astype(np.int32),
        )

    def objects(self) -> tuple[scans.ScannedObject, ...]:
        box = OrientedBox(np.array((0.0, 1.0, 0.3)), np.full(3, 0.6), np.eye(3), Frame.RAW)
        return tuple(
            scans.ScannedObject(object_id=at, label=name, nyu40=nyu40, box=box if at == CABINET else None)
            for at, (name, nyu40) in enumerate(zip(INSTANCE_NAMES, NYU40_IDS, strict=True))
        )

    def sources(self) -> tuple[Path, ...]:
        return self.root / "scans" / self.entry.scan_id, self.root / "gone"

    def aligned_from_raw(self) -> np.ndarray:
        return self.scene.axis_alignment

    def scene_label(self) -> str:
        return "office"

    def views(self) -> Sequence[scans.View]:
        scene = self.scene
        return [
            MadeView(
                str(at * 20),
                scene.camera_to_world[at],
                scene.intrinsics,
                scene.depth[at],
                np.where(scene.pixel_instances[at] < 0, NO_OBJECT, scene.pixel_instances[at]),
                self.draws_objects,
                self.has_depth,
            )
            for at in range(len(scene.camera_to_world))
        ]

    def referrals(self) -> tuple[scans.Referral, ...]:
        said = ("the cabinet before the wall", "a low cabinet", "what stands alone")
        about = tuple(
            scans.Referral(text=f"{t} {self.seed}", target_id=CABINET, anchor_ids=(1,)) for t in said
        )
        return (*about, scans.Referral(text="the lamp", target_id=9))

    def layout(self) -> scans.LayoutEdges | None:
        corners = np.array(((-2.0, -2, 0), (2, -2, 0), (2, 2, 0), (-2, 2, 0)))
        edges = np.array(((0, 1), (1, 2), (2, 3), (3, 0)), dtype=np.int32)
        return scans.LayoutEdges(corners=Points(corners, Frame.RAW), edges=edges) if self.walls else None

    def cad_models(self) -> tuple[scans.CadModel, ...]:
        pose = np.eye(4)
        pose[:3, 3] = (0.0, 1.0, 0.0)
        model = scans.CadModel(
            object_id=CABINET,
            model_id="cube",
            path=self.root / CUBE,
            raw_from_canonical=pose,
            scale=np.full(3, 0.6),
        )
        return (model,) if self.models else ()

    def rescan_link(self) -> scans.RescanLink | None:
        if not self.rescan_of:
            return None
        motion = scans.ObjectMotion(
            object_id=CABINET, reference_object_id=CABINET, reference_from_scan=np.eye(4), moved=False
        )
        return scans.RescanLink(
            reference_scan_id=self.rescan_of,
            reference_from_scan=np.eye(4),
            motions=(motion,),
            added_ids=(1,),
            removed_ids=(7,),
        )


class MadeDataset(scans.Dataset):
    """The scans of a folder's list."""

    name = NAME

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed = {each["scan_id"]: each for each in json.loads((root / LIST).read_text())}

    def entries(self) -> tuple[ScanEntry, ...]:
        logging.getLogger(__name__).warning("scans are listed", extra={"num_listed": len(self._listed)})
        return tuple(
            ScanEntry(
                scan_id=name,
                place_id=each["place_id"],
                split=Split(each["split"]),
                is_reference=not each.get("rescan_of"),
            )
            for name, each in sorted(self._listed.items())
        )

    def open(self, entry: ScanEntry) -> MadeScan:
        own = {
            k: v for k, v in self._listed[entry.scan_id].items() if k not in ("scan_id", "place_id", "split")
        }
        return MadeScan(entry, self._root, **own)


def made_folder(root: Path, count: int, **faults: str) -> Path:
    """A folder of scans room00, room01, ...; every fourth is for validation."""
    root.mkdir(parents=True, exist_ok=True)
    listed = []
    for at in range(count):
        name = f"room{at:02d}"
        place, split = (f"place{at // 4}", "train") if at % 4 < 3 else (f"place{at // 4}b", "val")
        own = {"scan_id": name, "place_id": place, "split": split, "seed": at}
        listed.append(own | ({"fault": faults[name]} if name in faults else {}))
    (root / LIST).write_text(json.dumps(listed))
    (root / CUBE).write_text(CUBE_TEXT)
    (root / "ATTRIBUTION.md").write_text("Made for tests.\n")
    return root


def made_scan(root: Path, **options: object) -> MadeScan:
    """One scan of such a folder."""
    entry = ScanEntry(scan_id="room00", place_id="place0", split=Split.TRAIN)
    made_folder(root, 1)
    return MadeScan(entry, root, **options)  # type: ignore[arg-type]


def register(registry: Registry) -> None:
    """Make the data set known, as a reader file does."""
    registry.register(NAME, MadeDataset)
