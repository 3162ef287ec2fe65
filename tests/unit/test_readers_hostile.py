"""Whatever a file of a data set is replaced with is refused in words or read, and nothing else happens."""

import os
import pickle
import re
import sys
from pathlib import Path

import pytest

from tests import layout_files
from tests.fixtures_arkitscenes import VIDEOS, write_arkitscenes
from tests.fixtures_multiscan import SCANS, write_multiscan
from tests.fixtures_rscan import RESCAN, write_rscan
from tests.fixtures_scannet import SCAN, write_dataset, write_export, write_layout, write_scan2cad
from tests.fixtures_structured3d import ROOMS, write_structured3d
from trainer.data.catalogue import built_in
from xscene.errors import NotFound, XSceneError

LAYOUTS = {
    "3rscan": (write_rscan, RESCAN),
    "multiscan": (write_multiscan, SCANS[0]),
    "arkitscenes": (write_arkitscenes, VIDEOS[0]),
    "structured3d": (write_structured3d, ROOMS[0]),
}
GARBAGE = (b"", b"\0\xff\xfe" * 20, b"{}", b'[{"a": null}]', b"nan " * 16, b"9" * 400)
READS = ("surface", "objects", "views", "referrals", "rescan_link", "scene_label", "floorplans", "cad_models")
OF_A_VIEW = ("camera_to_world", "intrinsics", "color", "depth", "object_pixels")


def entry_of(dataset, scan_id):
    return next((entry for entry in dataset.entries() if entry.scan_id == scan_id), None)


def read_all(name, root, scan_id):
    """What was refused, by the message, of all that a scan has."""
    refused = []

    def attempt(read):
        try:
            return read()
        except XSceneError as error:
            refused.append(error.message)
            return None

    dataset = built_in().open(name, root)
    entry = attempt(lambda: entry_of(dataset, scan_id))
    if entry is None:
        return refused
    scan = dataset.open(entry)
    found = {what: attempt(getattr(scan, what)) for what in READS}
    for view in (found["views"] or ())[:1]:
        for what in OF_A_VIEW:
            attempt(lambda view=view, what=what: (got := getattr(view, what), callable(got) and got()))
    return refused


def files_of(root, scan_id):
    """Files of the whole data set, and those of the scan that its first view needs."""
    house = scan_id.rpartition("_")[0] if scan_id in ROOMS else scan_id
    paths = [path for path in root.rglob("*") if path.is_file()]
    paths = [path for path in paths if "files" in path.parts or house in path.parts]
    other = ("20", "100", "490854", "10")
    seen = [path for path in paths if not set(path.parts) & set(other)]
    return [
        path
        for path in seen
        if not any(part in path.name for part in ("-20.", "-100.", "00020.", "00100.", "_100."))
    ]


def test_all_layouts_are_built_in():
    assert built_in().names() == tuple(sorted((*LAYOUTS, "rooms", "scannet")))


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_file_can_do_more_than_be_refused(tmp_path, name):
    write, scan_id = LAYOUTS[name]
    write(tmp_path)
    assert read_all(name, tmp_path, scan_id) == []
    files, refusals = files_of(tmp_path, scan_id), {}
    assert len(files) >= 9
    for path in files:
        kept = path.read_bytes()
        for garbage in (*GARBAGE, kept[: len(kept) // 2]):
            path.write_bytes(garbage)
            refusals.setdefault(path, []).extend(read_all(name, tmp_path, scan_id))
        path.write_bytes(kept)
    # Each is read, so each can be refused, but for pictures that are passed on as they are.
    passed_on = {path for path in files if not refusals[path]}
    assert {path.parent.name for path in passed_on} <= {"floorplans", "lowres_depth", "lowres_wide", scan_id}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("scannet", "scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt"),
        ("3rscan", "3RScan.json, train_scans.txt, val_scans.txt, test_scans.txt"),
        ("multiscan", "train_scans.txt, val_scans.txt, test_scans.txt"),
        ("arkitscenes", "3dod_train_val_splits.csv, train_scans.txt, val_scans.txt, test_scans.txt"),
        ("structured3d", "train_scans.txt, val_scans.txt, test_scans.txt"),
    ],
)
def test_a_folder_without_lists_says_which_files_were_looked_for(tmp_path, name, files):
    with pytest.raises(NotFound, match=f"lists no scans; looked for {re.escape(files)}$"):
        built_in().open(name, tmp_path).entries()


@pytest.mark.parametrize("name", LAYOUTS)
def test_scans_and_views_pass_to_other_processes(tmp_path, name):
    write, scan_id = LAYOUTS[name]
    write(tmp_path)
    dataset = built_in().open(name, tmp_path)
    scan = dataset.open(entry_of(dataset, scan_id))
    view = scan.views()[0]
    again, seen = pickle.loads(pickle.dumps((scan, view)))
    assert again.entry == scan.entry
    assert (again.surface().points.xyz == scan.surface().points.xyz).all()
    assert (seen.color(), seen.intrinsics) == (view.color(), view.intrinsics)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_pipe_is_not_waited_for(tmp_path, name):
    write, scan_id = LAYOUTS[name]
    write(tmp_path)
    meshes = [path for path in tmp_path.rglob("*") if path.suffix in (".obj", ".ply") and path.is_file()]
    assert meshes
    for path in meshes:
        path.unlink()
        os.mkfifo(path)
    assert any("is no plain file" in message for message in read_all(name, tmp_path, scan_id))


def write_companions(root):
    """ScanNet with all that others say of it."""
    scene = write_dataset(root)
    write_export(root / "scannet_2d", scene, instances=True)
    write_scan2cad(root / "files/scan2cad_full_annotations.json", scene)
    write_layout(root / f"files/scenecad/{SCAN}.json", scene)
    said = [{"scan_id": SCAN, "target_id": 2, "utterance": "the cabinet"}]
    layout_files.write(root / "files/sceneverse/ssg_ref_rel2_template.json", said)


def test_whatever_a_scan_is_read_from_is_among_its_sources(tmp_path):
    opened: list[Path] = []
    layouts = LAYOUTS | {"scannet": (write_companions, SCAN)}

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | Path):
            opened.append(Path(arguments[0]))

    # A hook of the interpreter stays until the end, when it notes for nobody.
    sys.addaudithook(note)
    for name, (write, scan_id) in layouts.items():
        root = tmp_path / name
        write(root)
        dataset = built_in().open(name, root)
        scan = dataset.open(entry_of(dataset, scan_id))
        opened.clear()
        for what in (*READS, "layout"):
            getattr(scan, what)()
        for view in scan.views():
            for read in (view.color, view.depth, view.object_pixels) if view.is_tracked else ():
                read()
        found = {path for path in opened if path.is_relative_to(root)}
        assert len(found) > (18 if name == "scannet" else 4)
        sources = scan.sources()
        assert [path for path in found if not any(path.is_relative_to(source) for source in sources)] == []
