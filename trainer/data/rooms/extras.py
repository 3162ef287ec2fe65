"""What a scan has beyond ScanNet: floorplans, CAD models with poses, changes, sentences, asset ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.rooms.captures import Capture
from trainer.data.rooms.library import Asset, Library
from trainer.data.rooms.placing import Piece
from trainer.data.rooms.ply import PlyMesh, ply_bytes
from trainer.data.rooms.scannet import FRAME_STEP
from trainer.data.rooms.shells import Shell
from trainer.data.rooms.stages import Instance
from xscene.files import replace_file, sweep
from xscene.geometry.frames import Frame, Matrix, inverse

CAD = "cad"


def write_extras(folder: Path, capture: Capture, reference: Capture | None) -> None:
    """All extras of a scan; the reference is the place's first scan, for those that come later."""
    folder.mkdir()
    _write(folder / "scene.json", _scene(capture))
    _write(folder / "objects.json", [_object(capture, at) for at in range(len(capture.parts))])
    _write(folder / "referrals.json", _referrals(capture))
    for style, drawing in capture.drawings.items():
        drawing.image.save(folder / f"floorplan_{style}.png")
    plans = {style: _rows(drawing.pixels_from_aligned) for style, drawing in capture.drawings.items()}
    _write(folder / "floorplans.json", {"pixels_from_aligned": plans})
    if reference is not None:
        _write(folder / "rescan.json", rescan(capture, reference))


def _scene(capture: Capture) -> dict[str, Any]:
    place, shell = capture.place, capture.room.shell
    return {
        "scan_id": capture.scan_id,
        "place_id": place.name,
        "set": place.number,
        "kin": place.kin,
        "split": place.split,
        "room": capture.room.programme.name,
        "light": capture.room.light.name,
        "scan_light": capture.scan_light.name,
        "partial": capture.partial,
        "outline_aligned": _rows(_aligned_outline(capture, shell)),
        "height_m": shell.height,
        "openings": [asdict(opening) for opening in shell.openings],
        "raw_from_room": _rows(capture.raw_from_room),
        "aligned_from_raw": _rows(capture.aligned_from_room @ inverse(capture.raw_from_room)),
    }


def _aligned_outline(capture: Capture, shell: Shell) -> Matrix:
    turn = capture.aligned_from_room
    corners: Matrix = shell.outline @ turn[:2, :2].T + turn[:2, 3]
    return corners


def _object(capture: Capture, at: int) -> dict[str, Any]:
    """An object with its size in the scan and in the views; a piece of furniture with its models too."""
    part = capture.parts[at]
    pixels = {
        str(number * FRAME_STEP): count
        for number, view in enumerate(capture.views)
        if (count := int(np.count_nonzero(view.frame.ids == at + 1)))
    }
    found: dict[str, Any] = {
        "object_id": at,
        "label": part.label,
        "nyu40": part.nyu40,
        "num_vertices": int(np.count_nonzero(capture.scan.objects == at)),
        "view_pixels": pixels,
    }
    return found | _furniture(capture, part.piece) if part.piece else found


def _furniture(capture: Capture, piece: Piece) -> dict[str, Any]:
    model = capture.models[piece.key]
    pose = capture.raw_from_room @ piece.footprint.matrix()
    # CAD that stands in for another piece is stretched to its size.
    scale = np.array(piece.asset.size_m) / np.array(model.size_m)
    box = piece.footprint.box(Frame.RAW).moved(capture.aligned_from_room, frame=Frame.ALIGNED)
    return {
        "key": piece.key,
        "asset_id": piece.asset.asset_id,
        "size_m": list(piece.asset.size_m),
        "raw_from_canonical": _rows(pose),
        "box_aligned": {
            "centre": box.centre.tolist(),
            "size": box.size.tolist(),
            "rotation": _rows(np.asarray(box.rotation)),
        },
        "stands_on": None if piece.support is None else capture.object_id(piece.support),
        "cad": {
            "asset_id": model.asset_id,
            "file": f"{CAD}/{model.slug}.ply",
            "same_model": model == piece.asset,
            "scale": scale.tolist(),
        },
    }


def _referrals(capture: Capture) -> list[dict[str, Any]]:
    return [
        {
            "scan_id": capture.scan_id,
            "target_id": capture.object_id(said.fact.target),
            "utterance": said.text,
            "relation": said.fact.relation,
            "anchor_ids": [capture.object_id(key) for key in said.fact.anchors],
        }
        for said in capture.referrals
    ]


def rescan(capture: Capture, reference: Capture) -> dict[str, Any]:
    """What changed since the first scan of the place, with true transforms between raw frames."""
    now, then = _ids(capture.parts), _ids(reference.parts)
    poses = {piece.key: piece.footprint.matrix() for piece in capture.room.pieces}
    old_poses = {piece.key: piece.footprint.matrix() for piece in reference.room.pieces}
    room_from_raw = inverse(capture.raw_from_room)
    return {
        "reference": reference.scan_id,
        "reference_from_scan": _rows(reference.raw_from_room @ room_from_raw),
        "objects": [
            {
                "object_id": now[key],
                "reference_object_id": then[key],
                "moved": not np.array_equal(poses[key], old_poses[key]),
                "reference_from_scan": _rows(
                    reference.raw_from_room @ old_poses[key] @ inverse(poses[key]) @ room_from_raw
                ),
            }
            for key in sorted(now.keys() & then.keys())
        ],
        "added": [now[key] for key in sorted(now.keys() - then.keys())],
        "removed": [then[key] for key in sorted(then.keys() - now.keys())],
    }


def _ids(parts: Sequence[Instance]) -> dict[str, int]:
    return {part.piece.key: at for at, part in enumerate(parts) if part.piece}


def write_models(folder: Path, assets: Mapping[str, Asset], library: Library) -> None:
    """CAD models in their canonical frames, each once; a file that is as it should be is left."""
    folder.mkdir(exist_ok=True)
    sweep(folder)
    for asset in assets.values():
        path, shape = folder / f"{asset.slug}.ply", library.baked(asset).shape
        data = ply_bytes(PlyMesh(shape.vertices, shape.colors, shape.faces))
        if not (path.is_file() and path.read_bytes() == data):
            replace_file(path, data)


def _rows(matrix: Matrix) -> list[list[float]]:
    return [[float(number) for number in row] for row in matrix]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
