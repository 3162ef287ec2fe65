"""Furnished rooms end to end: real furniture, the real renderer, workers that are killed half way."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plyfile
import psutil
import pytest
from PIL import Image

from trainer.data.rooms.library import open_library
from trainer.data.rooms.making import PARTIAL, SCANS
from trainer.data.rooms.pictures import picture
from trainer.data.rooms.production import MANIFEST, check
from trainer.data.workers import LOCK_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
COUNT, SEED = 3, 11
FETCHED = ROOT / "var/furniture"
MIN_SEEN_PX = 150


def rooms(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", "rooms", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def made(out: Path, furniture: Path, *, workers: int = 2) -> str:
    result = rooms("make", *arguments(out, furniture), "--workers", str(workers), "--report")
    assert result.returncode == 0, result.stderr
    return result.stdout


def arguments(out: Path, furniture: Path) -> list[str]:
    settings = {"out": out, "furniture": furniture, "count": COUNT, "seed": SEED, "rescan-share": 1}
    return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def furniture(tmp_path_factory) -> Path:
    """The library that was fetched into the tree, else one that is fetched now."""
    if (FETCHED / "library.json").is_file():
        return FETCHED
    folder = tmp_path_factory.mktemp("furniture")
    result = rooms("fetch-furniture", "--furniture", str(folder))
    if result.returncode and "apt-get" in result.stderr:
        pytest.skip("no furniture to be had")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def data(furniture, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("rooms") / "data"
    report = made(out, furniture)
    assert "rooms per CPU-hour" in report
    return out


def scans(data: Path) -> list[Path]:
    return sorted((data / SCANS).iterdir())


def objects(scan: Path) -> list[dict]:
    return json.loads((scan / "extras/objects.json").read_text())


def test_the_library_knows_authors_and_licences_of_all_furniture(furniture):
    library = open_library(furniture)
    assert len(library.assets) >= 250
    assert {asset.family for asset in library.assets} >= {"chair", "bar stool", "sofa", "bed", "plant"}
    text = (furniture / "ATTRIBUTION.md").read_text()
    assert all(f"| {asset.asset_id} |" in text for asset in library.assets)
    assert all("not stated" not in asset.licence for asset in library.assets)


def test_every_scan_has_the_files_of_scannet(data):
    assert [scan.name for scan in scans(data)] == [
        f"scene{i:04d}_{j:02d}" for i in range(COUNT) for j in (0, 1)
    ]
    for scan in scans(data):
        for suffix in ("_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json", ".txt"):
            assert (scan / f"{scan.name}{suffix}").is_file()
        for folder, ending in (("color", "jpg"), ("depth", "png"), ("pose", "txt"), ("instance-filt", "png")):
            names = sorted(int(path.stem) for path in (scan / "data" / folder).glob(f"*.{ending}"))
            assert names == list(range(0, 200, 20))
        mesh = plyfile.PlyData.read(scan / f"{scan.name}_vh_clean_2.ply")
        assert len(mesh["vertex"]) > 30_000
        assert np.stack(mesh["face"]["vertex_indices"]).max() < len(mesh["vertex"])
    assert (data / "scannetv2_train.txt").read_text().split() == [scan.name for scan in scans(data)]


def test_a_cloud_is_of_another_light_than_the_pictures_more_often_than_not(data):
    scenes = [json.loads((scan / "extras/scene.json").read_text()) for scan in scans(data)]
    same = [scene["light"] == scene["scan_light"] for scene in scenes]
    assert sum(same) < len(same) / 2


def test_depth_projected_by_its_pose_lies_on_the_mesh(data):
    for scan in scans(data)[::2]:
        mesh = plyfile.PlyData.read(scan / f"{scan.name}_vh_clean_2.ply")["vertex"]
        cells = {tuple(c) for c in np.floor(np.stack([mesh[a] for a in "xyz"], axis=1) / 0.1).astype(int)}
        lens = np.loadtxt(scan / "intrinsics.txt")
        shares = []
        for number in (0, 40, 120):
            with Image.open(scan / f"data/depth/{number}.png") as image:
                depth = np.asarray(image) / 1000
            pose = np.loadtxt(scan / f"data/pose/{number}.txt")
            rows, columns = np.nonzero(depth)
            pixels = np.stack([columns, rows, np.ones_like(rows)])[:, ::97]
            points = np.linalg.inv(lens[:3, :3]) @ pixels * depth[rows, columns][::97]
            world = (pose[:3, :3] @ points).T + pose[:3, 3]
            near = [
                any(
                    (*(c + shift),) in cells
                    for shift in np.stack(np.meshgrid(*[(-1, 0, 1)] * 3), -1).reshape(-1, 3)
                )
                for c in np.floor(world / 0.1).astype(int)
            ]
            shares.append(np.mean(near))
        # A partial scan lacks some of what the pictures show.
        assert np.median(shares) > 0.6, shares


def test_pictures_and_scan_show_the_furniture(data):
    for scan in scans(data):
        furniture = [entry for entry in objects(scan) if "key" in entry]
        assert len(furniture) >= 8
        seen = [entry for entry in furniture if max(entry["view_pixels"].values(), default=0) >= MIN_SEEN_PX]
        scanned = [entry for entry in furniture if entry["num_vertices"] >= 20]
        assert len(seen) >= 0.8 * len(furniture)
        assert len(scanned) >= 0.7 * len(furniture)
        for number in range(0, 200, 20):
            shown = [e for e in furniture if e["view_pixels"].get(str(number), 0) >= MIN_SEEN_PX]
            assert shown, f"{scan.name}: view {number} shows no furniture"


def test_a_share_of_objects_has_another_model_of_its_family(data):
    entries = [entry for scan in scans(data) for entry in objects(scan) if "cad" in entry]
    same = [entry["cad"]["same_model"] for entry in entries]
    assert 0.2 < np.mean(same) < 0.9
    for entry in entries:
        assert (data / entry["cad"]["file"]).is_file()
        assert entry["cad"]["same_model"] == (entry["cad"]["asset_id"] == entry["asset_id"])


def test_each_scan_has_floorplans_and_at_least_twenty_sentences(data):
    for scan in scans(data):
        assert len(list((scan / "extras").glob("floorplan_*.png"))) == 2
        assert len(json.loads((scan / "extras/referrals.json").read_text())) >= 20
        assert picture(scan).width == 1600


def test_all_files_match_their_digests_and_a_changed_one_is_named(data, tmp_path):
    assert check(data) == []
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    victim = scans(copy)[0] / "extras/referrals.json"
    victim.write_text(victim.read_text() + " ")
    assert check(copy) == [victim.relative_to(copy).as_posix()]


def started(out, furniture):
    """A run with one worker, which goes on in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy", "rooms", "make", *arguments(out, furniture), "--workers", "1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(data, furniture, tmp_path):
    out = tmp_path / "data"
    process = started(out, furniture)
    deadline = time.monotonic() + 120
    while not (out / SCANS / "scene0000_00").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The worker too, in the middle of what it writes.
    while not list((out / SCANS).glob(f"{PARTIAL}*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    for each in (process.pid, *(child.pid for child in children)):
        os.kill(each, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=10)
    assert not (out / MANIFEST).exists()
    first = (out / SCANS / "scene0000_00").stat().st_mtime_ns
    made(out, furniture)
    assert (out / SCANS / "scene0000_00").stat().st_mtime_ns == first
    assert not list((out / SCANS).glob(f"{PARTIAL}*"))
    assert (out / MANIFEST).read_text() == (data / MANIFEST).read_text()
    assert check(out) == []
    assert "nothing was made" in made(out, furniture)


def test_a_worker_that_outlives_its_run_keeps_the_next_one_waiting(data, furniture, tmp_path):
    out = tmp_path / "data"
    process = started(out, furniture)
    deadline = time.monotonic() + 120
    while not list((out / SCANS).glob(f"{PARTIAL}*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    with (out / LOCK_FILE).open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    made(out, furniture)
    assert (out / MANIFEST).read_text() == (data / MANIFEST).read_text()
    assert check(out) == []


def test_another_number_of_workers_gives_the_same_bytes(data, furniture, tmp_path):
    made(tmp_path / "data", furniture, workers=1)
    assert (tmp_path / "data" / MANIFEST).read_text() == (data / MANIFEST).read_text()
