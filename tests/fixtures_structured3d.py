"""The synthetic scene as Structured3D stores it: two rooms of a house, and one of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fixtures_scene import NYU40_IDS, SyntheticScene, ray_cast, synthetic_scene
from tests.layout_files import millimetres, picture, ply, png16, rgb, write, xyz
from xscene.geometry.projection import Intrinsics

ROOMS = ("scene_00000_485142", "scene_00000_490854", "scene_03000_12")
VIEWS = ("2", "10", "100")
OBJECT_IDS = (0, 65535, 17)
HALF_X, HALF_Y = 0.5059, 0.3932
# Half-angles of view, as the files have them, make focal lengths that are no whole numbers.
CAMERA = Intrinsics(fx=32 / np.tan(HALF_X), fy=24 / np.tan(HALF_Y), cx=32, cy=24, width=64, height=48)


def write_structured3d(root: Path) -> SyntheticScene:
    """All rooms; the wall is background, and a few vertices of the cabinet bear another class."""
    scene = synthetic_scene()
    for scan_id in ROOMS:
        house, _, room = scan_id.rpartition("_")
        write_room(root / "scans" / house, room, scene)
    for house in ("scene_00000", "scene_03000"):
        semantics = [
            {"ID": 485142, "type": "living room ", "planeID": [0]},
            {"ID": 7, "type": "door", "planeID": [1]},
        ]
        write(root / "scans" / house / "annotation_3d.json", {"semantics": semantics})
    # SceneVerse numbers objects on its own; two of its targets are tied to no object or to several.
    sentences = [
        {"scan_id": ROOMS[0], "target_id": target, "utterance": f"Sentence {target}."} for target in (1, 2, 3)
    ]
    write(root / "files" / "sceneverse" / "ssg_ref_rel2_template.json", sentences)
    tied = {"17": "1", "0": 2, "5": 2}
    write(root / "scans" / "scene_00000" / "2D_rendering" / "485142" / "obj2tgid.json", tied)
    write(root / "files" / "train_scans.txt", f"{ROOMS[0]}\n{ROOMS[1]}\n")
    write(root / "files" / "val_scans.txt", f"{ROOMS[2]}\nscene_03000_13\n")
    return scene


def write_room(house: Path, room: str, scene: SyntheticScene) -> None:
    classes = np.array(NYU40_IDS, dtype="i4")[scene.instance_ids]
    classes[-100:] = 14
    ids = np.array(OBJECT_IDS, dtype="i4")[scene.instance_ids]
    vertex = {**xyz(scene.vertices), **rgb(scene.colors), "object_id": ids, "nyu40id": classes}
    write(house / "3D_rendering" / room / "room_mesh.ply", ply(vertex, scene.faces, {}))
    write(house / "floorplans" / f"{room}.png", picture(40, 30, "PNG"))
    for name, pose in zip(VIEWS, scene.camera_to_world, strict=True):
        folder = house / "2D_rendering" / room / "perspective" / "full" / name
        write(folder / "rgb_rawlight.png", picture(64, 48, "PNG"))
        write(folder / "camera_pose.txt", camera_text(pose))
        if np.isfinite(pose).all():
            # The middle column looks along walls, which it never meets.
            with np.errstate(invalid="ignore"):
                depth, instances = ray_cast(pose, CAMERA)
            write(folder / "depth.png", png16(millimetres(depth)))
            known = np.array((*OBJECT_IDS, 65535))[instances]
            write(folder / "instance.png", png16(known))


def camera_text(pose: np.ndarray) -> str:
    """Place in millimetres, where it looks, what is up (neither of length 1), half-angles, and a 1."""
    forward, up = 2.5 * pose[:3, 2], -0.5 * pose[:3, 1]
    values = (*(1000 * pose[:3, 3]), *forward, *up, HALF_X, HALF_Y, 1)
    return " ".join(f"{number:.9f}" for number in values) + "\n"
