"""A scan in ScanNet's layout: mesh, labels, segments, aggregation, alignment and exported frames."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.rooms.captures import Capture
from trainer.data.rooms.families import FAMILIES, Split
from trainer.data.rooms.ply import PlyMesh, write_ply
from trainer.data.rooms.png import write_png
from trainer.data.rooms.stages import NYU40
from xscene.geometry.frames import Matrix, apply, inverse

FRAME_STEP = 20
NUM_NYU40 = 41
GOLDEN = 0.618034
LABELS_HEADER = ("id", "raw_category", "category", "count", "nyu40id", "nyu40class")
DEPTH_UNIT_M = 0.001


def write_scan(folder: Path, capture: Capture, *, jpeg_quality: int) -> None:
    """All files that ScanNet has of a scan, but the sensor stream, of which the frames are exported."""
    scan, name = capture.scan, capture.scan_id
    vertices = apply(capture.raw_from_room, scan.vertices).astype(np.float32)
    labels = np.array([part.nyu40 for part in capture.parts], dtype=np.uint16)[scan.objects]
    write_ply(folder / f"{name}_vh_clean_2.ply", PlyMesh(vertices, scan.colors, scan.faces))
    painted = PlyMesh(vertices, palette()[labels], scan.faces, labels)
    write_ply(folder / f"{name}_vh_clean_2.labels.ply", painted)
    segments = f"{name}_vh_clean_2.0.010000.segs.json"
    _write_json(
        folder / segments,
        {
            "params": {"kind": "cells of one object"},
            "sceneId": f"rooms.{name}",
            "segIndices": scan.segments.tolist(),
        },
    )
    aggregation = _aggregation(capture, segments)
    for file in (f"{name}.aggregation.json", f"{name}_vh_clean.aggregation.json"):
        _write_json(folder / file, aggregation)
    (folder / f"{name}.txt").write_text(_facts(capture))
    _write_frames(folder, capture, jpeg_quality)


def palette() -> NDArray[np.uint8]:
    """A colour (41,3) for each NYU40 label; black for none."""
    colors = [
        colorsys.hsv_to_rgb(at * GOLDEN % 1.0, 0.65, 0.6 + 0.4 * (at % 3) / 2) for at in range(NUM_NYU40)
    ]
    found = (np.array(colors) * 255).astype(np.uint8)
    found[0] = 0
    return found


def _aggregation(capture: Capture, segments_file: str) -> dict[str, Any]:
    """Which segments make up which object; objects that the scan does not hold are left out."""
    scan = capture.scan
    owners = np.full(int(scan.segments.max(initial=-1)) + 1, -1)
    owners[scan.segments] = scan.objects
    groups = []
    for at, part in enumerate(capture.parts):
        segments = np.flatnonzero(owners == at).tolist()
        if segments:
            groups.append({"id": at, "objectId": at, "segments": segments, "label": part.label})
    return {
        "sceneId": f"rooms.{capture.scan_id}",
        "appId": "rooms",
        "segGroups": groups,
        "segmentsFile": f"rooms.{segments_file}",
    }


def _facts(capture: Capture) -> str:
    """The scan's text file: alignment, sizes, focal lengths and kind of room."""
    camera = capture.intrinsics
    axis_alignment = capture.aligned_from_room @ inverse(capture.raw_from_room)
    facts: dict[str, object] = {"axisAlignment": " ".join(f"{number:.6f}" for number in axis_alignment.flat)}
    for kind in ("color", "depth"):
        facts |= {f"{kind}Height": camera.height, f"{kind}Width": camera.width}
        facts |= {f"fx_{kind}": camera.fx, f"fy_{kind}": camera.fy}
        facts |= {f"mx_{kind}": camera.cx, f"my_{kind}": camera.cy}
    facts |= {"numColorFrames": len(capture.views), "numDepthFrames": len(capture.views)}
    facts |= {"numIMUmeasurements": 0, "sceneType": capture.room.programme.scene_type}
    return "".join(f"{key} = {value}\n" for key, value in facts.items())


def _write_frames(folder: Path, capture: Capture, jpeg_quality: int) -> None:
    data = folder / "data"
    for kind in ("color", "depth", "pose", "instance-filt", "intrinsic"):
        (data / kind).mkdir(parents=True)
    for at, view in enumerate(capture.views):
        name = at * FRAME_STEP
        Image.fromarray(view.frame.rgb).save(data / "color" / f"{name}.jpg", quality=jpeg_quality)
        millimetres = np.rint(view.depth / DEPTH_UNIT_M).astype(np.uint16)
        write_png(data / "depth" / f"{name}.png", millimetres)
        write_png(data / "instance-filt" / f"{name}.png", view.frame.ids.astype(np.uint8))
        (data / "pose" / f"{name}.txt").write_text(_matrix(capture.raw_from_room @ view.pose))
    intrinsic = np.eye(4)
    intrinsic[:3, :3] = capture.intrinsics.matrix()
    for kind in ("color", "depth"):
        (data / "intrinsic" / f"intrinsic_{kind}.txt").write_text(_matrix(intrinsic))
        (data / "intrinsic" / f"extrinsic_{kind}.txt").write_text(_matrix(np.eye(4)))
    (folder / "intrinsics.txt").write_text(_matrix(intrinsic))


def _matrix(matrix: Matrix) -> str:
    return "".join(" ".join(f"{number:f}" for number in row) + "\n" for row in matrix)


def write_lists(root: Path, scans: Iterable[tuple[str, Split]]) -> None:
    """The lists of scans by split, and the table of labels."""
    members = sorted(scans)
    for split in Split:
        names = [name for name, of in members if of is split]
        (root / f"scannetv2_{split}.txt").write_text("".join(f"{name}\n" for name in names))
    labels = {**NYU40, **{family.name: family.nyu40 for family in FAMILIES.values()}}
    lines = ["\t".join(LABELS_HEADER)]
    for at, (label, nyu40) in enumerate(labels.items(), start=1):
        lines.append("\t".join((str(at), label, label, "1", str(nyu40), label)))
    (root / "scannetv2-labels.combined.tsv").write_text("\n".join(lines) + "\n")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, separators=(",", ":")))
