"""The synthetic scene as MultiScan stores it, three scans of two places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.fixtures_scene import SyntheticScene, synthetic_scene
from tests.layout_files import column_major, label_table, picture, ply, rgb, shifted, turned, write, xyz

SCANS = ("scene_00000_00", "scene_00000_01", "scene_00010_00")
FRAMES = (0, 20, 100)
# Numbers of objects as annotated; that of the cabinet is in no order.
OBJECT_IDS = (4, 9, 2)
LABELS = ("floor.1", "wall.2", "wall_cabinet.3")
POSES_FROM_MESH = shifted(0.3, -0.7, 0.2) @ turned(35)


def write_multiscan(root: Path) -> SyntheticScene:
    """All scans; poses are those of another frame, look along -z, and are scaled as a whole."""
    scene = synthetic_scene()
    for scan_id in SCANS:
        write_scan(root / "scenes" / scan_id, scan_id, scene)
    files = root / "files"
    write(files / "train_scans.txt", f"{SCANS[0]}\n{SCANS[1]}\n")
    for split in ("val", "test"):
        write(files / f"{split}_scans.txt", f"{SCANS[2]}\nscene_00011_00\n")
    write(files / "scannetv2-labels.combined.tsv", label_table())
    sentence = {"scan_id": SCANS[0], "target_id": 2, "utterance": "The cabinet is before the wall."}
    write(files / "sceneverse" / "ssg_ref_rel2_template.json", [sentence])
    return scene


def write_scan(folder: Path, scan_id: str, scene: SyntheticScene) -> None:
    write_mesh(folder / f"{scan_id}.ply", scene)
    objects = [{"objectId": number, "label": label} for number, label in zip(OBJECT_IDS, LABELS, strict=True)]
    objects.append({"objectId": 30, "label": "remove"})
    write(folder / f"{scan_id}.annotations.json", {"scanId": scan_id, "objects": objects})
    write(folder / f"{scan_id}.align.json", {"coordinate_transform": column_major(POSES_FROM_MESH)})
    camera = scene.intrinsics
    intrinsics = camera.matrix().T.reshape(-1).tolist()
    streams = [
        {"type": "depth_camera", "resolution": [24, 32], "intrinsics": intrinsics},
        {"type": "color_camera", "resolution": [camera.height, camera.width], "intrinsics": intrinsics},
    ]
    write(folder / f"{scan_id}.json", {"streams": streams})
    lines = []
    for number, pose in zip(FRAMES, scene.camera_to_world, strict=True):
        write(folder / "sequence" / f"frame-{number}.color.jpg", picture(64, 48, "JPEG"))
        flipped = POSES_FROM_MESH @ pose @ np.diag((1, -1, -1, 1)) if np.isfinite(pose).all() else pose
        lines.append({"frame_id": number, "transform": column_major(4 * flipped), "intrinsics": intrinsics})
    write(folder / "poses.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n")
    write(folder / "frame_ids.txt", "\n".join(str(number) for number in FRAMES) + "\n")


def write_mesh(path: Path, scene: SyntheticScene) -> None:
    """Faces carry the objects, and vertices their normals beside the colours."""
    normals = {name: np.zeros(1127, dtype="f4") for name in ("nx", "ny", "nz")}
    owners = np.array(OBJECT_IDS, dtype="i4")[scene.instance_ids[scene.faces[:, 0]]]
    face = {"objectId": owners, "partId": np.ones(len(owners), dtype="i4")}
    write(path, ply({**xyz(scene.vertices), **normals, **rgb(scene.colors)}, scene.faces, face))
