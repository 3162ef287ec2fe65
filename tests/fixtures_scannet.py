"""The synthetic scene in ScanNet's layout, with its streams, exports and the annotations of others."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fixtures_scene import (
    INSTANCE_NAMES,
    INTRINSICS,
    NYU40_IDS,
    SCANNET_IDS,
    SyntheticScene,
    synthetic_scene,
)
from trainer.data.rooms.ply import PlyMesh, write_ply

SCAN = "scene0000_00"
FRAME_STEP = 20
PALETTE = ((152, 223, 138), (174, 199, 232), (31, 119, 180))


def write_dataset(root: Path, *scan_ids: str, split: str = "train") -> SyntheticScene:
    """A data set of copies of the scene; the lists lie in `files`."""
    scene = synthetic_scene()
    for scan_id in scan_ids or (SCAN,):
        write_scan(root / "scans" / scan_id, scene)
    write_lists(root / "files", {split: scan_ids or (SCAN,)})
    return scene


def write_lists(folder: Path, splits: dict[str, tuple[str, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, scan_ids in splits.items():
        (folder / f"scannetv2_{split}.txt").write_text("".join(f"{name}\n" for name in scan_ids))
    header = "id\traw_category\tcategory\tcount\tnyu40id\teigen13id"
    names = zip(SCANNET_IDS, INSTANCE_NAMES, NYU40_IDS, strict=True)
    rows = [f"{at}\t{name}\t{name}\t9\t{nyu40}\t" for at, name, nyu40 in names]
    # A category may have several raw rows, and some ids are raw ones alone.
    rows += ["3\tfloor mat\tmat\t2\t20\t", "1163\tobject\tobject\t5\t\t"]
    (folder / "scannetv2-labels.combined.tsv").write_text("\n".join([header, *rows]) + "\n")


def write_scan(folder: Path, scene: SyntheticScene) -> None:
    """Mesh, labels in palette colours, segments, aggregation and facts."""
    folder.mkdir(parents=True)
    name = folder.name
    vertices, faces = scene.vertices.astype(np.float32), scene.faces.astype(np.int32)
    write_ply(folder / f"{name}_vh_clean_2.ply", PlyMesh(vertices, scene.colors, faces))
    labels = np.array(NYU40_IDS, dtype=np.uint16)[scene.instance_ids]
    palette = np.array(PALETTE, dtype=np.uint8)[scene.instance_ids]
    write_ply(folder / f"{name}_vh_clean_2.labels.ply", PlyMesh(vertices, palette, faces, labels))
    segments = f"{name}_vh_clean_2.0.010000.segs.json"
    plain = {"params": {}, "sceneId": name, "segIndices": scene.segment_ids.tolist()}
    (folder / segments).write_text(json.dumps(plain))
    (folder / f"{name}.aggregation.json").write_text(json.dumps(aggregation(name, scene)))
    (folder / f"{name}.txt").write_text(facts(scene))


def aggregation(name: str, scene: SyntheticScene) -> dict:
    groups = [
        {
            "id": at,
            "objectId": at,
            "segments": np.unique(scene.segment_ids[scene.instance_ids == at]).tolist(),
            "label": label,
        }
        for at, label in enumerate(INSTANCE_NAMES)
    ]
    return {
        "sceneId": f"scannet.{name}",
        "appId": "x",
        "segGroups": groups,
        "segmentsFile": f"scannet.{name}",
    }


def facts(scene: SyntheticScene, *, aligned: bool = True) -> str:
    numbers = " ".join(f"{number:.6f}" for number in scene.axis_alignment.flat)
    lines = [f"axisAlignment = {numbers} "] if aligned else []
    for kind in ("color", "depth"):
        lines += [f"{kind}Height = 48", f"{kind}Width = 64", f"fx_{kind} = 57.787061"]
    return "\n".join([*lines, "numColorFrames = 3", "sceneType = Apartment", ""])


def millimetres(scene: SyntheticScene, frame: int) -> np.ndarray:
    return np.rint(scene.depth[frame] * 1000).astype(np.uint16)


def jpeg(scene: SyntheticScene, frame: int) -> bytes:
    pixels = np.zeros((INTRINSICS.height, INTRINSICS.width, 3), dtype=np.uint8)
    pixels[..., frame] = 60 + 60 * (scene.pixel_instances[frame] + 1)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    return data.getvalue()


def matrix_text(matrix: np.ndarray) -> str:
    return "".join(" ".join(f"{number:f}" for number in row) + "\n" for row in matrix)


def intrinsic_matrix() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = INTRINSICS.matrix()
    return matrix


def write_frames(
    folder: Path, scene: SyntheticScene, *, numbers: tuple[int, ...] = (0, 20, 40), instances: bool = False
) -> None:
    """Folders color, depth, pose and, if asked for, instance-filt."""
    kinds = ["color", "depth", "pose", *(["instance-filt"] if instances else [])]
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
    for frame, number in enumerate(numbers):
        (folder / "color" / f"{number}.jpg").write_bytes(jpeg(scene, frame))
        Image.fromarray(millimetres(scene, frame)).save(folder / "depth" / f"{number}.png")
        (folder / "pose" / f"{number}.txt").write_text(matrix_text(scene.camera_to_world[frame]))
        if instances:
            ids = (scene.pixel_instances[frame] + 1).astype(np.uint8)
            # Drawn at twice the picture's size, as ids need not come at its size.
            Image.fromarray(ids.repeat(2, 0).repeat(2, 1)).save(folder / "instance-filt" / f"{number}.png")


def write_export(root: Path, scene: SyntheticScene, scan_id: str = SCAN, **more) -> None:
    """The export `scannet_2d`, with one camera for all."""
    write_frames(root / scan_id, scene, **more)
    (root / "intrinsics.txt").write_text(matrix_text(intrinsic_matrix()))


def write_scan_frames(folder: Path, scene: SyntheticScene, **more) -> None:
    """Frames in the scan's own folder, with cameras for colour and depth."""
    write_frames(folder / "data", scene, **more)
    (folder / "data/intrinsic").mkdir()
    for kind in ("color", "depth"):
        (folder / f"data/intrinsic/intrinsic_{kind}.txt").write_text(matrix_text(intrinsic_matrix()))


def sens_bytes(scene: SyntheticScene, *, num_imu: int = 0, repeat: int = 1) -> bytes:
    """The stream of the scene's frames, any number of times over."""
    camera = intrinsic_matrix().astype("<f4").tobytes()
    identity = np.eye(4, dtype="<f4").tobytes()
    name = b"synthetic"
    parts = [struct.pack("<IQ", 4, len(name)), name, camera, identity, camera, identity]
    parts.append(struct.pack("<iiIIIIf", 2, 1, 64, 48, 64, 48, 1000.0))
    num_frames = len(scene.depth) * repeat
    parts.append(struct.pack("<Q", num_frames))
    for at in range(num_frames):
        frame = at % len(scene.depth)
        color, depth = jpeg(scene, frame), zlib.compress(millimetres(scene, frame).tobytes())
        parts.append(scene.camera_to_world[frame].astype("<f4").tobytes())
        parts.append(struct.pack("<QQQQ", 2 * at, 2 * at + 1, len(color), len(depth)))
        parts += [color, depth]
    parts.append(struct.pack("<Q", num_imu))
    parts.append(struct.pack("<15dQ", *range(15), 7) * num_imu)
    return b"".join(parts)


def write_scan2cad(path: Path, scene: SyntheticScene, *, shift: float = 0.0, scan_scale: float = 1.0) -> None:
    """One model: the cabinet as a unit cube, turned by 90 degrees about z, in a world with y up."""
    world_from_raw = np.array(((1.0, 0, 0, 3), (0, 0, 1, -2), (0, -1, 0, 1), (0, 0, 0, 1)))
    cabinet = scene.vertices[scene.instance_ids == 2]
    middle = (cabinet.min(axis=0) + cabinet.max(axis=0)) / 2 + (shift, 0, 0)
    turn = np.array(((0.0, -1, 0), (1, 0, 0), (0, 0, 1)))
    translation = scan_scale * (world_from_raw[:3, :3] @ middle) + world_from_raw[:3, 3]
    model = {
        "sym": "__SYM_NONE",
        "catid_cad": "02933112",
        "id_cad": "cabinet1",
        "bbox": [0.5, 0.5, 0.5],
        "center": [0.0, 0.0, 0.0],
        "trs": {
            "translation": translation.tolist(),
            "rotation": quaternion_wxyz(world_from_raw[:3, :3] @ turn),
            "scale": [0.6 * scan_scale] * 3,
        },
    }
    far = {**model, "id_cad": "away", "trs": {**model["trs"], "translation": [90.0, 90.0, 90.0]}}
    worse_shift = translation + scan_scale * world_from_raw[:3, :3] @ (0.2, 0, 0)
    worse = {**model, "id_cad": "aside", "trs": {**model["trs"], "translation": worse_shift.tolist()}}
    trs = {
        "translation": world_from_raw[:3, 3].tolist(),
        "rotation": quaternion_wxyz(world_from_raw[:3, :3]),
        "scale": [scan_scale] * 3,
    }
    entry = {"id_scan": SCAN, "trs": trs, "n_aligned_models": 3, "aligned_models": [worse, far, model]}
    path.write_text(json.dumps([entry]))
    for name in ("cabinet1", "away", "aside"):
        file = path.parents[1] / "ShapeNetCore.v2/02933112" / name / "models/model_normalized.obj"
        file.parent.mkdir(parents=True)
        file.write_text("v -.5 -.5 -.5\nv .5 -.5 .5\nv .5 .5 .5\nf 1 2 3\n")


def quaternion_wxyz(rotation: np.ndarray) -> list[float]:
    """A rotation's quaternion, by the eigenvector of its symmetric matrix."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        (
            (xx + yy + zz, zy - yz, xz - zx, yx - xy),
            (zy - yz, xx - yy - zz, yx + xy, xz + zx),
            (xz - zx, yx + xy, yy - xx - zz, zy + yz),
            (yx - xy, xz + zx, zy + yz, zz - xx - yy),
        )
    )
    return np.linalg.eigh(symmetric)[1][:, -1].tolist()


def write_layout(path: Path, scene: SyntheticScene) -> np.ndarray:
    """The floor's outline as SceneCAD has it, with y up; the corners in the raw frame are given back."""
    raw = np.array(((-2.0, -2, 0), (2, -2, 0), (2, 2, 0), (-2, 2, 0.5)))
    y_up = np.stack([raw[:, 0], raw[:, 2], -raw[:, 1]], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    edges = [[0, 1], [1, 2], [2, 3], [3, 0]]
    path.write_text(json.dumps({"verts": y_up.tolist(), "edges": edges, "quads": [[0, 1, 2, 3]]}))
    return raw


def aligned_points(scene: SyntheticScene) -> np.ndarray:
    """Vertices in the aligned frame, the slow way."""
    return np.array([(scene.axis_alignment @ (*vertex, 1.0))[:3] for vertex in scene.vertices])
