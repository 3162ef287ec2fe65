"""The synthetic scene as files of OpenScene, Mask3D and Chat-Scene's preparation."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from tests.fixtures_scannet import SCAN, aligned_points
from tests.fixtures_scene import INSTANCE_NAMES, SCANNET_IDS, SyntheticScene
from xscene.geometry.projection import project

FEATURE_WIDTH = 8
# The order in which Mask3D finds them, unlike that of the truth.
FOUND = (2, 0, 1)
SCORES = (0.97, 0.91, 0.85)
CLASSES = {0: 1, 1: 0, 2: 2}


def seen_points(scene: SyntheticScene) -> np.ndarray:
    """Which points the first two frames see."""
    masks = [
        project(
            scene.points(),
            scene.camera_to_world[at],
            scene.intrinsics,
            scene.depth[at],
            threshold=0.25,
            border_px=1,
        ).visible
        for at in range(2)
    ]
    return masks[0] | masks[1]


def write_openscene(root: Path, scene: SyntheticScene) -> None:
    """Point files and features of one teacher."""
    points, features = root / "scannet_3d/train", root / "scannet_multiview_lseg"
    points.mkdir(parents=True)
    features.mkdir()
    labels = np.array([CLASSES[at] for at in range(3)], dtype=np.float64)[scene.instance_ids]
    cloud = (scene.vertices, scene.colors / 127.5 - 1, labels)
    torch.save(cloud, points / f"{SCAN}_vh_clean_2.pth")
    seen = torch.from_numpy(seen_points(scene))
    for part in range(5):
        rows = torch.arange(int(seen.sum()) * FEATURE_WIDTH).reshape(-1, FEATURE_WIDTH) % 97 + part
        torch.save({"feat": rows.half(), "mask_full": seen}, features / f"{SCAN}_{part}.pt")


def write_mask3d(root: Path, scene: SyntheticScene, *, by_folder: bool = False, ranks=(0, 1, 2)) -> Path:
    """Predictions under the given ranks; the index file is given back."""
    out = root / "mask3d_out/train"
    masks = out / "pred_mask" / SCAN if by_folder else out / "pred_mask"
    masks.mkdir(parents=True)
    lines = []
    for rank, instance, score in zip(ranks, FOUND, SCORES, strict=True):
        name = f"{rank}.txt" if by_folder else f"{SCAN}_{rank}.txt"
        np.savetxt(masks / name, scene.instance_ids == instance, fmt="%d")
        lines.append(f"pred_mask/{SCAN}_{rank}.txt {SCANNET_IDS[instance]} {score}")
    index = out / f"{SCAN}.txt"
    index.write_text("\n".join(lines) + "\n")
    return index


def attributes(scene: SyntheticScene, order: tuple[int, ...]) -> dict:
    """Labels and boxes of the aligned points, in some order of objects."""
    points, rows = aligned_points(scene), []
    for at in order:
        own = points[scene.instance_ids == at]
        low, high = own.min(axis=0), own.max(axis=0)
        rows.append([*((low + high) / 2), *(high - low)])
    locs = torch.tensor(np.array(rows), dtype=torch.float32)
    return {SCAN: {"objects": [INSTANCE_NAMES[at] for at in order], "locs": locs}}


def write_annotations(root: Path, scene: SyntheticScene) -> Path:
    """Instance lists, the aligned cloud, attributes and features of objects."""
    for name in ("mask3d_inst_seg", "mask3d_ins_data/pcd_all", "annotations"):
        (root / name).mkdir(parents=True)
    labels = [INSTANCE_NAMES[at] for at in FOUND]
    segments = [np.flatnonzero(scene.instance_ids == at).tolist() for at in FOUND]
    listed = [{"label": label, "segments": rows} for label, rows in zip(labels, segments, strict=True)]
    torch.save(listed, root / f"mask3d_inst_seg/{SCAN}.pt")
    cloud = (aligned_points(scene), scene.colors.astype(np.float64), labels, segments)
    torch.save(cloud, root / f"mask3d_ins_data/pcd_all/{SCAN}.pth")
    folder = root / "annotations"
    torch.save(attributes(scene, FOUND), folder / "scannet_mask3d_train_attributes.pt")
    torch.save(attributes(scene, (0, 1, 2)), folder / "scannet_train_attributes.pt")
    vectors = {f"{SCAN}_{at:02}": torch.full((1024,), float(at)) for at in range(3)}
    torch.save(vectors, folder / "scannet_mask3d_uni3d_feats.pt")
    return folder


def as_numpy_1(path: Path) -> None:
    """Rename numpy's functions inside a torch file to what its first generation called them."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def write_pickled(path: Path, value: object) -> None:
    """A torch file whose pickle holds anything."""
    torch.save({"x": 1}, path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, pickle.dumps(value, protocol=2) if name.endswith("data.pkl") else data)
