"""`python -m deploy prepare` in processes of its own: kills, faults, workers, packs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import fixtures_scans
from tests.fixtures_scans import LIST, made_folder
from trainer.data.preparation.packs import PackSettings, write_pack
from trainer.data.preparation.production import Order, prepare
from trainer.data.workers import LOCK_FILE
from xscene.errors import AlreadyExists, InvalidInput, LimitExceeded, Overloaded
from xscene.prepared.dataset import open_dataset, record_features

ROOT = Path(__file__).resolve().parents[2]
READER = Path(fixtures_scans.__file__)
SETTINGS = ("--set", "min_votes=10", "--set", "border_px=0", "--set", "num_surface_points=300")
FEWER = ("--set", "num_cad_points=64", "--set", "crop_px=32")


def command(root: Path, out: Path, *more: str) -> list[str]:
    words = ["prepare", "made", "--root", root, "--out", out, "--reader", READER, *SETTINGS, *FEWER, *more]
    return [sys.executable, "-m", "deploy", *map(str, words)]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file but the lock."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK_FILE
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return made_folder(tmp_path_factory.mktemp("raw"), 8)


@pytest.fixture(scope="module")
def prepared(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    result = run(*command(root, out, "--workers", "1"))
    assert result.returncode == 0, result.stderr
    assert "8 scenes made now, 0 were there, 0 skipped" in result.stdout
    return out


def test_all_scans_are_prepared_with_their_splits_and_attribution(prepared):
    dataset = open_dataset(prepared)
    dataset.verify()
    assert dataset.scene_ids("val") == ("room03", "room07")
    assert dataset.attribution() == "Made for tests.\n"
    assert dataset.record.color_sums.num_points == sum(
        dataset.scene(name).record.num_points for name in dataset.scene_ids("train")
    )


def test_three_workers_give_the_same_bytes_as_one(root, prepared, tmp_path):
    result = run(*command(root, tmp_path / "out", "--workers", "3"))
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "out") == contents(prepared)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(root, prepared, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(root, out, "--workers", "2"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("scenes/room*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    # The parent alone: its workers end by themselves, and until then no other run starts.
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in out.glob("scenes/room*/scene.json")}
    assert 1 <= len(first) < 8
    assert not open_dataset(out, allow_incomplete=True).record.complete
    result = run(*command(root, out, "--workers", "2"))
    assert result.returncode == 0, result.stderr
    assert "0 skipped" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert contents(out) == contents(prepared)


def test_ctrl_c_ends_all_processes_and_keeps_what_was_made(root, prepared, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(root, out, "--workers", "2"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("scenes/room*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert run(*command(root, out)).returncode == 0
    assert contents(out) == contents(prepared)


def test_a_finished_data_set_is_kept_and_a_changed_scene_is_made_anew(root, tmp_path):
    out = tmp_path / "out"
    assert run(*command(root, out, "--limit", "2")).returncode == 0
    before = contents(out)
    victim = out / "scenes/room01/arrays.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1])
    result = run(*command(root, out, "--limit", "2"))
    assert "1 scenes made now, 1 were there, 0 skipped" in result.stdout, result.stderr
    assert contents(out) == before
    result = run(sys.executable, "-m", "deploy", "prepare", "check", str(out))
    assert "2 scenes are as they were written" in result.stdout
    victim.unlink()
    result = run(sys.executable, "-m", "deploy", "prepare", "check", str(out))
    assert result.returncode == 1
    assert result.stderr == "error: scene room01: arrays.safetensors: torn, there is no such file\n"


def test_a_limit_leaves_the_scenes_of_earlier_runs_in_the_list(tmp_path):
    root = made_folder(tmp_path / "raw", 5, room03="input")
    out = tmp_path / "out"
    prepare(order(root, out))
    whole = open_dataset(out)
    digests = dict.fromkeys(whole.record.scenes, "0" * 64)
    record_features(whole, "frozen", "1" * 64, digests)
    before = contents(out)
    report = prepare(order(root, out, limit=1))
    assert (report.num_made, report.num_kept) == (0, 1)
    assert contents(out) == before
    # What the data set lists no more, or lists elsewhere, and what is torn goes all the same.
    listed = json.loads((root / LIST).read_text())
    listed[2] |= {"place_id": "elsewhere"}
    (root / LIST).write_text(json.dumps(listed[:3] + listed[4:]))
    (out / "scenes/room04/scene.json").write_text("{}")
    prepare(order(root, out, limit=1))
    there = open_dataset(out).record
    assert (sorted(there.scenes), there.skipped) == (["room00", "room01"], ())
    assert sorted(there.backbones["frozen"].scenes) == ["room00", "room01"]


def test_a_scan_is_prepared_again_where_its_files_have_changed(root, tmp_path):
    root = made_folder(tmp_path / "raw", 3)
    for name in ("room00", "room01", "room02"):
        (root / "scans" / name).mkdir(parents=True)
        (root / "scans" / name / "notes.txt").touch()
    prepare(order(root, tmp_path / "out"))
    before = contents(tmp_path / "out")
    # A copy may bring an old time of writing along.
    os.utime(root / "scans/room01/notes.txt", (0, 0))
    (root / "scans/room02/notes.txt").unlink()
    report = prepare(order(root, tmp_path / "out"))
    assert (report.num_made, report.num_kept) == (2, 1)
    assert contents(tmp_path / "out") == before
    assert prepare(order(root, tmp_path / "out")).num_kept == 3


def test_a_scan_is_prepared_again_where_what_a_link_leads_to_has_changed(tmp_path):
    root = made_folder(tmp_path / "raw", 3)
    for name in ("room00", "room01", "room02"):
        disk, scan = tmp_path / "disk" / name, root / "scans" / name
        for folder in (disk, scan):
            folder.mkdir(parents=True)
        (disk / "0.jpg").touch()
        (disk / "round").symlink_to(disk)
        (scan / "data").symlink_to(disk)
        (tmp_path / f"{name}.txt").touch()
        (scan / "notes.txt").symlink_to(tmp_path / f"{name}.txt")
        (scan / "broken").symlink_to("nothing")
    prepare(order(root, tmp_path / "out"))
    (tmp_path / "disk/room01/0.jpg").write_text("corrected")
    (tmp_path / "room02.txt").write_text("corrected")
    report = prepare(order(root, tmp_path / "out"))
    assert (report.num_made, report.num_kept) == (2, 1)


def test_broken_scans_are_named_and_the_others_prepared(tmp_path):
    root = made_folder(tmp_path / "raw", 6, room01="input", room02="code", room04="memory", room05="talk")
    out = tmp_path / "out"
    result = run(*command(root, out, "--workers", "2"))
    assert result.returncode == 1
    assert "3 scenes made now, 0 were there, 3 skipped" in result.stdout
    assert "skipped room01: room01.ply: ends early" in result.stderr
    assert "skipped room02: KeyError: 'vertex'" in result.stderr
    assert "skipped room04: a worker ended early, exit code -9" in result.stderr
    # Said once, whatever the number of workers, and with what it is about.
    assert result.stderr.count("warning: scans are listed num_listed=6\n") == 1
    assert result.stderr.count("warning: a reader warns scan=room05\n") == 1
    there = ["room00", "room03", "room05"]
    assert sorted(path.name for path in (out / "scenes").iterdir()) == there
    dataset = open_dataset(out)
    assert (list(dataset.scene_ids()), dataset.record.skipped) == (there, ("room01", "room02", "room04"))
    # Mended, they are taken in beside the others.
    made_folder(root, 6)
    result = run(*command(root, out))
    assert (result.returncode, "3 scenes made now, 3 were there" in result.stdout) == (0, True)
    assert open_dataset(out).record.skipped == ()


def order(root: Path, out: Path, **options: object) -> Order:
    return Order(name="made", root=root, out=out, reader=READER, **options)  # type: ignore[arg-type]


def test_other_settings_other_data_and_other_files_are_refused_by_name(root, prepared, tmp_path):
    with pytest.raises(InvalidInput, match=r"border_px: .* was prepared with 0, not 10"):
        prepare(order(root, prepared))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").touch()
    with pytest.raises(InvalidInput, match=r"holds other files: cat.png"):
        prepare(order(root, tmp_path / "photos"))
    result = run(sys.executable, "-m", "deploy", "prepare", "nothing", "--root", str(root), "--out", "x")
    assert result.returncode == 1
    assert "data set 'nothing' is not registered; known: " in result.stderr


def test_two_runs_do_not_write_to_one_place(root, tmp_path):
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    with (out / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Overloaded, match=r"another run has been writing to"):
            prepare(order(root, out, lock_timeout_s=0.2))


def test_a_scan_whose_id_names_no_directory_is_refused_before_anything_is_written(tmp_path):
    root = made_folder(tmp_path / "raw", 1)
    listed = json.loads((root / LIST).read_text())
    (root / LIST).write_text(json.dumps([listed[0] | {"scan_id": "../up"}]))
    with pytest.raises(InvalidInput, match=r"scan_id: is '../up'"):
        prepare(order(root, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


TWICE = """
from tests.fixtures_scans import MadeDataset

class Twice(MadeDataset):
    def entries(self):
        return super().entries() * 2

def register(registry):
    registry.register("made", Twice)
"""


def test_a_list_that_leaks_between_splits_or_repeats_a_scan_is_refused_before_anything_is_written(tmp_path):
    root = made_folder(tmp_path / "raw", 2)
    (tmp_path / "twice.py").write_text(TWICE)
    with pytest.raises(InvalidInput, match="scan_id: made lists room00 twice"):
        prepare(Order(name="made", root=root, out=tmp_path / "out", reader=tmp_path / "twice.py"))
    listed = json.loads((root / LIST).read_text())
    (root / LIST).write_text(json.dumps([listed[0], listed[1] | {"split": "val"}]))
    with pytest.raises(InvalidInput, match="made: place place0 lies in splits train and val"):
        prepare(order(root, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_pack_is_a_small_prepared_data_set_of_the_same_kind(prepared, tmp_path):
    out = tmp_path / "pack"
    words = [
        "pack",
        str(prepared),
        "--scenes",
        "room03, room00",
        "--out",
        str(out),
        "--set",
        "max_view_px=32",
    ]
    result = run(sys.executable, "-m", "deploy", "prepare", *words, "--set", "max_view_px=32")
    assert result.returncode == 0, result.stderr
    assert "2 scenes, 0." in result.stdout
    packed, whole = open_dataset(out), open_dataset(prepared)
    packed.verify()
    assert packed.attribution() == whole.attribution()
    assert packed.scene_ids() == ("room00", "room03")
    assert packed.record.settings["pack.max_view_px"] == 32
    small, large = packed.scene("room00"), whole.scene("room00")
    assert small.record.present == large.record.present
    assert small.record.object_ids == large.record.object_ids
    assert small.record.num_points < large.record.num_points
    assert small.record.referrals == large.record.referrals
    for view, encoded in zip(small.record.views, small.views(), strict=True):
        image = Image.open(io.BytesIO(encoded))
        assert (image.format, image.size) == ("JPEG", (view.intrinsics.width, view.intrinsics.height))
        assert max(image.size) == 32
    assert all(len(rows) <= 2 for rows in small.sightings_of.values())
    again = tmp_path / "again"
    write_pack(
        prepared, ["room00", "room03"], again, max_bytes=1 << 20, settings=PackSettings(max_view_px=32)
    )
    assert contents(again) == contents(out)


def test_a_pack_past_its_limit_is_not_written_and_its_largest_parts_are_named(prepared, tmp_path):
    scene = open_dataset(prepared).scene("room00")
    crops = sum(len(crop) for crop in scene.crops()) / 2**20
    with pytest.raises(LimitExceeded, match=rf"crops {crops:.1f} MiB.* bytes, the limit is 100"):
        write_pack(prepared, ["room00"], tmp_path / "pack", max_bytes=100, settings=PackSettings())
    assert list(tmp_path.iterdir()) == []


def test_a_pack_is_not_written_over_other_files(prepared, tmp_path):
    (tmp_path / "cat.png").touch()
    with pytest.raises(AlreadyExists, match=r"is there and is no prepared data set"):
        write_pack(prepared, ["room00"], tmp_path, max_bytes=1 << 20, settings=PackSettings())
    assert (tmp_path / "cat.png").is_file()
    whole = contents(prepared)
    with pytest.raises(AlreadyExists, match=r"is a prepared data set, but no pack"):
        write_pack(prepared, ["room00"], prepared, max_bytes=1 << 20, settings=PackSettings())
    assert contents(prepared) == whole
    for scenes, words in (([], "none given"), (["room00"] * 2, "named twice")):
        with pytest.raises(InvalidInput, match=words):
            write_pack(prepared, scenes, tmp_path / "x", max_bytes=1 << 20, settings=PackSettings())


def test_a_pack_is_written_over_a_pack_and_keeps_every_byte_of_the_attribution(tmp_path):
    root = made_folder(tmp_path / "raw", 2)
    (root / "ATTRIBUTION.md").write_bytes("Gemacht für Versuche.\r\n".encode())
    prepare(order(root, tmp_path / "out"))
    for scenes in (["room00", "room01"], ["room01"]):
        write_pack(tmp_path / "out", scenes, tmp_path / "pack", max_bytes=1 << 20, settings=PackSettings())
    packed = open_dataset(tmp_path / "pack")
    packed.verify()
    assert packed.scene_ids() == ("room01",)
