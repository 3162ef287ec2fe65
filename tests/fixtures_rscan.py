"""The synthetic scene as 3RScan stores it: a reference, and a rescan in which the cabinet was moved."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fixtures_scene import INSTANCE_NAMES, NYU40_IDS, SyntheticScene, synthetic_scene
from tests.layout_files import (
    column_major,
    encoded,
    matrix_text,
    millimetres,
    pgm16,
    picture,
    ply,
    rgb,
    shifted,
    turned,
    write,
    xyz,
)
from xscene.geometry.projection import Intrinsics

REFERENCE, RESCAN = "4acaebcc-6c10-2a2a-858b-29c7e4fb410d", "754e884c-ea24-2175-8b34-cead19d4198d"
TEST_REFERENCE, TEST_RESCAN = "aaaaaaaa-0000-2a2a-858b-29c7e4fb410d", "bbbbbbbb-0000-2a2a-858b-29c7e4fb410d"
REFERENCE_FROM_RESCAN = shifted(0.5, -0.2, 0.05)
# The cabinet turns about its own middle, and moves.
CABINET_MOTION = shifted(0.4, 0.0, 0.0) @ shifted(0, 1, 0) @ turned(30) @ shifted(0, -1, 0)
RESCAN_FROM_REFERENCE_CABINET = np.linalg.inv(REFERENCE_FROM_RESCAN) @ CABINET_MOTION
PALETTE = np.array(((174, 199, 232), (255, 127, 14), (44, 160, 44)))
TEXTURE_PX, TEXTURE_ROW_PX = 64, 20
CABINET = 2


def write_rscan(root: Path, *, depth_step: int = 2, zipped: bool = False) -> SyntheticScene:
    """Both scans and the files of the whole data set; depth keeps every so manieth pixel."""
    scene = synthetic_scene()
    cabinet = scene.instance_ids == CABINET
    back = np.linalg.inv(REFERENCE_FROM_RESCAN)
    moved = scene.vertices + back[:3, 3]
    moved[cabinet] = (
        scene.vertices[cabinet] @ RESCAN_FROM_REFERENCE_CABINET[:3, :3].T
        + RESCAN_FROM_REFERENCE_CABINET[:3, 3]
    )
    for scan_id, vertices, frame in ((REFERENCE, scene.vertices, np.eye(4)), (RESCAN, moved, back)):
        folder = root / "scans" / scan_id
        write_mesh(folder, scene, vertices)
        write_labels(folder, scene, vertices)
        write_groups(folder, scan_id, scene, vertices)
        write_sequence(folder, scene, frame, depth_step=depth_step, zipped=zipped)
    for scan_id in (TEST_REFERENCE, TEST_RESCAN):
        write_mesh(root / "scans" / scan_id, scene, scene.vertices)
    write_files(root / "files")
    return scene


def write_mesh(folder: Path, scene: SyntheticScene, vertices: np.ndarray) -> None:
    """A texture of one band a colour, and texture points in the middle of each."""
    image = Image.new("RGB", (TEXTURE_PX, TEXTURE_PX))
    for instance in range(3):
        color = tuple(int(one) for one in scene.colors[scene.instance_ids == instance][0])
        top = instance * TEXTURE_ROW_PX
        image.paste(color, (0, top, TEXTURE_PX, top + TEXTURE_ROW_PX))
    write(folder / "mesh.refined_0.png", encoded(image, "PNG"))
    write(folder / "mesh.refined.mtl", "newmtl material_0\nKd 1 1 1\nmap_Kd mesh.refined_0.png\n")
    lines = ["mtllib mesh.refined.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices)]
    bands = [1 - (instance + 0.5) * TEXTURE_ROW_PX / TEXTURE_PX for instance in range(3)]
    lines += [f"vt 0.5 {v:.6f}" for v in bands] + ["usemtl material_0"]
    for face in scene.faces:
        lines.append("f " + " ".join(f"{row + 1}/{scene.instance_ids[row] + 1}" for row in face))
    write(folder / "mesh.refined.v2.obj", "\n".join(lines) + "\n")


def write_labels(
    folder: Path, scene: SyntheticScene, vertices: np.ndarray, order: np.ndarray | None = None
) -> None:
    """Vertices in another order have no faces."""
    rows = np.arange(len(vertices)) if order is None else order
    instances = scene.instance_ids[rows]
    nyu40 = np.array(NYU40_IDS, dtype=np.uint8)[instances]
    columns = {
        **xyz(vertices[rows]),
        **rgb(PALETTE[instances]),
        "objectId": (instances + 1).astype("u2"),
        "globalId": (instances + 10).astype("u2"),
        "NYU40": nyu40,
        "Eigen13": nyu40,
        "RIO27": nyu40,
    }
    faces = scene.faces if order is None else scene.faces[:0]
    write(folder / "labels.instances.annotated.v2.ply", ply(columns, faces, {}, ascii_text=True))


def write_groups(folder: Path, scan_id: str, scene: SyntheticScene, vertices: np.ndarray) -> None:
    """Segments, and groups of them with boxes whose axes stand in rows."""
    write(folder / "mesh.refined.0.010000.segs.v2.json", {"segIndices": scene.segment_ids.tolist()})
    groups = []
    for instance, name in enumerate(INSTANCE_NAMES):
        mine = scene.instance_ids == instance
        turn = turned(30)[:3, :3] if scan_id == RESCAN and instance == CABINET else np.eye(3)
        along = vertices[mine] @ turn
        middle = (along.min(axis=0) + along.max(axis=0)) / 2
        box = {
            "centroid": (turn @ middle).tolist(),
            "axesLengths": np.ptp(along, axis=0).tolist(),
            "normalizedAxes": turn.T.reshape(-1).tolist(),
        }
        segments = np.unique(scene.segment_ids[mine]).tolist()
        groups.append(
            {"id": instance + 1, "objectId": instance + 1, "label": name, "segments": segments, "obb": box}
        )
    write(folder / "semseg.v2.json", {"scan_id": scan_id, "segGroups": groups})


def info(scene: SyntheticScene, depth_step: int) -> str:
    color = scene.intrinsics
    depth = Intrinsics(
        fx=color.fx / depth_step,
        fy=color.fy / depth_step,
        cx=color.cx / depth_step,
        cy=color.cy / depth_step,
        width=color.width // depth_step,
        height=color.height // depth_step,
    )
    lines = ["m_versionNumber = 4", "m_sensorName = StructureSensor", "m_depthShift = 1000"]
    for name, camera in (("color", color), ("depth", depth)):
        matrix = np.eye(4)
        matrix[:3, :3] = camera.matrix()
        text = " ".join(f"{number:.6f}" for number in matrix.reshape(-1))
        lines += [f"m_{name}Width = {camera.width}", f"m_{name}Height = {camera.height}"]
        lines += [f"m_calibration{name.capitalize()}Intrinsic = {text}"]
        lines += [f"m_calibration{name.capitalize()}Extrinsic = {' '.join(['1 0 0 0'] * 4)}"]
    return "\n".join([*lines, "m_frames.size = 3", ""])


def write_sequence(
    folder: Path, scene: SyntheticScene, frame: np.ndarray, *, depth_step: int, zipped: bool
) -> None:
    """Frames 0, 20 and 100, the last of which lost its tracking."""
    files: dict[str, bytes] = {"_info.txt": info(scene, depth_step).encode()}
    for number, pose, depth in zip((0, 20, 100), scene.camera_to_world, scene.depth, strict=True):
        name = f"frame-{number:06}"
        moved = frame @ pose if np.isfinite(pose).all() else pose
        files[f"{name}.color.jpg"] = picture(64, 48, "JPEG")
        files[f"{name}.depth.pgm"] = pgm16(millimetres(depth)[::depth_step, ::depth_step])
        files[f"{name}.pose.txt"] = matrix_text(moved).encode()
    if not zipped:
        for name, data in files.items():
            write(folder / "sequence" / name, data)
        return
    with zipfile.ZipFile(folder / "sequence.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_files(files: Path) -> None:
    rescan = {
        "reference": RESCAN,
        "transform": column_major(REFERENCE_FROM_RESCAN),
        "nonrigid": [],
        "removed": [7],
        "rigid": [
            {
                "instance_reference": CABINET + 1,
                "instance_rescan": CABINET + 1,
                "symmetry": 0,
                "transform": column_major(RESCAN_FROM_REFERENCE_CABINET),
            }
        ],
    }
    places = [
        {"reference": REFERENCE, "type": "train", "ambiguity": [], "scans": [rescan]},
        {"reference": TEST_REFERENCE, "type": "test", "scans": [{"reference": TEST_RESCAN}]},
        {"reference": "cccccccc-0000-2a2a-858b-29c7e4fb410d", "type": "validation", "scans": []},
    ]
    write(files / "3RScan.json", places)
    names = {REFERENCE: INSTANCE_NAMES, RESCAN: (*INSTANCE_NAMES, "bag")}
    scans = [
        {
            "scan": scan_id,
            "objects": [
                {"id": str(number), "global_id": "1", "label": name, "ply_color": "#aec7e8", "attributes": {}}
                for number, name in enumerate(known, start=1)
            ],
        }
        for scan_id, known in names.items()
    ]
    write(files / "objects.json", {"scans": scans})
    sentence = {"scan_id": REFERENCE, "target_id": "3", "utterance": "The cabinet is before the wall."}
    write(files / "sceneverse" / "ssg_ref_rel2_template.json", [sentence])
