"""The synthetic scene as ARKitScenes stores it: two videos of one visit, and two of none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fixtures_scene import SyntheticScene, synthetic_scene
from tests.layout_files import label_table, millimetres, picture, ply, png16, rgb, turned, write, xyz

VIDEOS = ("41098139", "41098140", "40753679", "42444474")
# Names of pictures, and the times that their poses and intrinsics bear.
TIMES = (("9.999", "9.9991", "9.998"), ("100.120", "100.1207", "100.121"), ("100.250", "100.25", "100.250"))


def write_arkitscenes(root: Path) -> SyntheticScene:
    """All videos and the files of the whole data set."""
    scene = synthetic_scene()
    for video in VIDEOS:
        write_video(root / "scans" / video, video, scene)
    rows = [(VIDEOS[1], "382147", "Training"), (VIDEOS[0], "382147", "Training")]
    rows += [(VIDEOS[2], "NA", "Training"), (VIDEOS[3], "421069", "Validation"), ("1", "NA", "Training")]
    lines = [",".join(row) for row in rows]
    write(root / "files" / "3dod_train_val_splits.csv", "\n".join(["video_id,visit_id,fold", *lines, ""]))
    write(root / "files" / "scannetv2-labels.combined.tsv", label_table())
    sentence = {"scan_id": VIDEOS[0], "target_id": 1, "utterance": "The cabinet is before the television."}
    write(root / "files" / "sceneverse" / "ssg_ref_rel2_template.json", [sentence])
    return scene


def write_video(folder: Path, video: str, scene: SyntheticScene) -> None:
    write(
        folder / f"{video}_3dod_mesh.ply", ply({**xyz(scene.vertices), **rgb(scene.colors)}, scene.faces, {})
    )
    write(folder / f"{video}_3dod_annotation.json", {"data": annotated()})
    frames = folder / f"{video}_frames"
    lines = []
    camera = scene.intrinsics
    pincam = f"{camera.width} {camera.height} {camera.fx:.6f} {camera.fy:.6f} {camera.cx} {camera.cy}"
    for (name, of_pose, of_camera), pose, depth in zip(
        TIMES, scene.camera_to_world, scene.depth, strict=True
    ):
        write(frames / "lowres_wide" / f"{video}_{name}.png", picture(64, 48, "PNG"))
        write(frames / "lowres_depth" / f"{video}_{name}.png", png16(millimetres(depth)))
        write(frames / "lowres_wide_intrinsics" / f"{video}_{of_camera}.pincam", pincam)
        # The third picture has no pose: the device had lost its way.
        if np.isfinite(pose).all():
            lines.append(f"{of_pose} {motion_text(pose)}")
    # Poses come far more often than pictures.
    lines.append(f"55.5 {motion_text(scene.camera_to_world[0])}")
    write(frames / "lowres_wide.traj", "\n".join(lines) + "\n")


def annotated() -> list[dict]:
    """A box around the cabinet, one around the wall, and a turned one in the cabinet's upper half."""
    return [
        box("cabinet", (0, 1, 0.3), (0.64, 0.64, 0.64), 0),
        box("tv_monitor", (0, 2, 1.2), (4, 0.02, 2.4), 0),
        box("washer", (0, 1, 0.55), (0.5, 0.5, 0.2), 45),
    ]


def box(label: str, centre: tuple, size: tuple, degrees: float) -> dict:
    """Axes stand in rows."""
    axes = turned(degrees)[:3, :3].T.reshape(-1).tolist()
    described = {"centroid": list(centre), "axesLengths": list(size), "normalizedAxes": axes}
    return {"label": label, "segments": {"obbAligned": described}}


def motion_text(camera_to_world: np.ndarray) -> str:
    """Axis times angle and shift of the way from world to camera."""
    matrix = np.linalg.inv(camera_to_world)
    rotation = matrix[:3, :3]
    angle = np.arccos((np.trace(rotation) - 1) / 2)
    skew = rotation - rotation.T
    axis = np.array((skew[2, 1], skew[0, 2], skew[1, 0])) / (2 * np.sin(angle))
    return " ".join(f"{number:.9f}" for number in (*(axis * angle), *matrix[:3, 3]))
