"""Preparing a data set on all cores: resumable, and with the scans that could not be prepared named."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.catalogue import add_reader, built_in
from trainer.data.preparation.scenes import prepare_scan
from trainer.data.preparation.settings import Settings
from trainer.data.readers.listings import require_one_split
from trainer.data.scans import Dataset, ScanEntry
from trainer.data.workers import Answer, locked, work_through
from xscene.errors import InvalidInput, PreparedInvalid
from xscene.files import file_digest, replace_file, sweep
from xscene.prepared.dataset import (
    ATTRIBUTION_FILE,
    DATASET_FILE,
    SCENES,
    DatasetRecord,
    SceneEntry,
    merged_color_sums,
    open_dataset,
    write_dataset,
)
from xscene.prepared.features import BackboneRecord
from xscene.prepared.records import SceneRecord, Split, require_name
from xscene.prepared.scene import SCENE_FILE, Scene, open_scene


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prepare, how, and where to."""

    name: str
    root: Path
    out: Path
    reader: Path | None = None
    """A Python file of the user's own with a function `register`."""
    settings: Settings = field(default_factory=Settings)
    workers: int = 1
    limit: int | None = None
    """Most scans, the first by id; None for all. Scenes of others that are there stay in the list."""
    lock_timeout_s: float = 30.0
    """How long to wait for another run that writes to the same place."""

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("limit", 1 if self.limit is None else self.limit)):
            if value < 1:
                raise InvalidInput.at(name, f"{value}, needs at least 1")

    def dataset(self) -> Dataset:
        """The data set, opened by its reader."""
        registry = built_in()
        if self.reader is not None:
            add_reader(registry, self.reader)
        return registry.open(self.name, self.root)

    def to_json(self) -> Answer:
        """What a worker needs to know."""
        return {
            "name": self.name,
            "root": str(self.root.absolute()),
            "out": str(self.out.absolute()),
            "reader": None if self.reader is None else str(self.reader.absolute()),
            "settings": self.settings.to_json(),
        }

    @classmethod
    def from_json(cls, job: Answer) -> Order:
        """The order of a worker."""
        return cls(
            name=job["name"],
            root=Path(job["root"]),
            out=Path(job["out"]),
            reader=None if job["reader"] is None else Path(job["reader"]),
            settings=Settings.from_json(job["settings"]),
        )


@dataclass
class Report:
    """What came of a run."""

    num_made: int = 0
    num_kept: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    """Scans that could not be prepared, each with the reason."""


def prepare(order: Order, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Prepare what is not there yet, then write the list of scenes; scans that fail are left out of it."""
    dataset = order.dataset()
    listed = dataset.entries()
    _require_list(listed, order.name)
    entries = listed[: order.limit]
    report = Report()
    with locked(order.out, order.lock_timeout_s) as lock:
        before = _claim(order)
        total = len(entries)

        def done(_: Answer, answer: Answer) -> None:
            if "fault" in answer:
                report.faults[answer["scan_id"]] = answer["fault"]
            elif answer["made"]:
                report.num_made += 1
            else:
                report.num_kept += 1
            progress(report.num_made + report.num_kept + len(report.faults), total)

        def lost(scan_id: str, reason: str) -> None:
            done({}, {"scan_id": scan_id, "fault": reason})

        work_through(
            [entry.scan_id for entry in entries],
            module="trainer.data.preparation",
            job=order.to_json(),
            num_workers=order.workers,
            done=done,
            lost=lost,
            held_open=(lock,),
        )
        report.faults = dict(sorted(report.faults.items()))
        _finish(order, before, listed, report)
    return report


def _require_list(entries: Sequence[ScanEntry], name: str) -> None:
    """Refuse ids that name no directory or come twice, and a place that lies in two splits."""
    for entry in entries:
        require_name(entry.scan_id, "scan_id")
    if len({entry.scan_id for entry in entries}) < len(entries):
        twice, _ = Counter(entry.scan_id for entry in entries).most_common(1)[0]
        raise InvalidInput.at("scan_id", f"{name} lists {twice} twice")
    require_one_split(((f"place {entry.place_id}", entry.split) for entry in entries), name)


def _claim(order: Order) -> DatasetRecord:
    """Refuse a place that holds other data or other settings, and clear what a killed run left aside."""
    wanted = order.settings.to_json()
    if not (order.out / DATASET_FILE).exists():
        if strangers := sorted(p.name for p in order.out.iterdir() if not p.name.startswith(".")):
            raise InvalidInput.at("out", f"{order.out} holds other files: {', '.join(strangers[:4])}")
        fresh = DatasetRecord(name=order.name, complete=False, settings=wanted)
        return write_dataset(order.out, fresh).record
    there = open_dataset(order.out, allow_incomplete=True).record
    if there.name != order.name:
        raise InvalidInput.at("out", f"{order.out} holds data set {there.name}, not {order.name}")
    for name in sorted(set(wanted) | set(there.settings)):
        if there.settings.get(name) != wanted.get(name):
            raise InvalidInput.at(
                name, f"{order.out} was prepared with {there.settings.get(name)}, not {wanted.get(name)}"
            )
    for directory in (order.out, order.out / SCENES):
        sweep(directory)
    return there


def prepare_entry(order: Order, dataset: Dataset, entry: ScanEntry) -> bool:
    """Prepare one scan unless its scene is there, whole, newer and of these settings; says whether it did."""
    scenes, scan = order.out / SCENES, dataset.open(entry)
    with contextlib.suppress(PreparedInvalid):
        record = open_scene(scenes / entry.scan_id).record
        made = scenes / entry.scan_id / SCENE_FILE
        if _is_of(record, order, entry) and not _changed_since(scan.sources(), made):
            return False
    prepare_scan(scan, order.name, scenes, order.settings)
    return True


def _is_of(record: SceneRecord, order: Order, entry: ScanEntry) -> bool:
    """Whether a scene is of these settings, and where the data set lists it now."""
    there = (record.settings_digest, record.dataset, record.place_id, record.split, record.is_reference)
    listed = (entry.place_id, Split(entry.split), entry.is_reference)
    return there == (order.settings.digest(), order.name, *listed)


def _changed_since(sources: Iterable[Path], made: Path) -> bool:
    """Whether any file or folder was written, put there or taken away after a file was made."""
    made_ns = made.stat().st_mtime_ns
    found = (path for source in sources if source.exists() for path in (source, *_below(source)))
    return any(_changed_ns(path) > made_ns for path in found)


def _below(source: Path) -> Iterator[Path]:
    """Files and folders, through links too; a folder to which several lead is looked into once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(source, followlinks=True):
        status = Path(folder).stat()
        if (key := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(key)
        yield from (Path(folder, name) for name in (*folders, *files))


def _changed_ns(path: Path) -> int:
    """When a file, or what a link leads to, was changed last."""
    # Not the time that a file says it was written, which copies and archives bring along.
    led_to = path.stat().st_ctime_ns if path.exists() else 0
    return max(path.lstat().st_ctime_ns, led_to)


def _finish(order: Order, before: DatasetRecord, entries: Sequence[ScanEntry], report: Report) -> None:
    """Write the list of scenes, which comes last and holds no times."""
    for scan_id in report.faults:
        # A scene that was whole once and is not any more must not outlive its own fault.
        shutil.rmtree(order.out / SCENES / scan_id, ignore_errors=True)
    asked = entries[: order.limit]
    others = entries[len(asked) :]
    made = [entry.scan_id for entry in asked if entry.scan_id not in report.faults]
    scenes = {name: open_scene(order.out / SCENES / name, verify=False) for name in made}
    scenes |= _still_there(order, before, others)
    listed = {name: SceneEntry.of(scene) for name, scene in scenes.items()}
    skipped = {*report.faults, *(entry.scan_id for entry in others if entry.scan_id in before.skipped)}
    record = DatasetRecord(
        name=order.name,
        complete=True,
        settings=order.settings.to_json(),
        color_sums=merged_color_sums([scene.record for scene in scenes.values()]),
        attribution_sha256=copy_attribution(order.root, order.out),
        scenes=listed,
        skipped=tuple(sorted(skipped)),
        backbones=_still_true(before, listed),
    )
    write_dataset(order.out, record)


def _still_there(order: Order, before: DatasetRecord, others: Iterable[ScanEntry]) -> dict[str, Scene]:
    """Scenes of earlier runs that a limit leaves alone."""
    found = {}
    for entry in others:
        if (known := before.scenes.get(entry.scan_id)) is None:
            continue
        with contextlib.suppress(PreparedInvalid):
            path = order.out / SCENES / entry.scan_id
            scene = open_scene(path, sha256=known.sha256, verify=False)
            if _is_of(scene.record, order, entry):
                found[entry.scan_id] = scene
    return found


def _still_true(before: DatasetRecord, listed: dict[str, SceneEntry]) -> dict[str, BackboneRecord]:
    """Stored features of scenes that are as they were."""
    same = {name for name, entry in listed.items() if before.scenes.get(name) == entry}
    kept = {
        name: dataclasses.replace(backbone, scenes={s: d for s, d in backbone.scenes.items() if s in same})
        for name, backbone in before.backbones.items()
    }
    return {name: backbone for name, backbone in kept.items() if backbone.scenes}


def copy_attribution(source: Path, out: Path) -> str | None:
    """Pass authors and licences on, where a data set names them; returns the file's digest."""
    path = source / ATTRIBUTION_FILE
    if not path.is_file():
        return None
    replace_file(out / ATTRIBUTION_FILE, path.read_bytes())
    return file_digest(out / ATTRIBUTION_FILE)
