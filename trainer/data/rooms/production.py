"""Making a data set on all cores: resumable workers, the manifest, and what it cost."""

from __future__ import annotations

import json
import resource
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.readers.documents import read_json
from trainer.data.rooms.captures import Recipe
from trainer.data.rooms.extras import CAD, write_models
from trainer.data.rooms.families import Split
from trainer.data.rooms.library import ATTRIBUTION, Library, open_library
from trainer.data.rooms.making import (
    PARTIAL,
    SCANS,
    damaged_files,
    recipe_to_json,
    scan_digest,
    scan_names,
)
from trainer.data.rooms.package import sha256_of
from trainer.data.rooms.places import Place
from trainer.data.rooms.scannet import write_lists
from trainer.data.workers import Answer, locked, work_through
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.files import replace_file, sweep

SCHEMA = "rooms/1"
MANIFEST, RECIPE = "manifest.json", "recipe.json"
# Ids have four digits, as ScanNet's.
MAX_PLACES = 10_000
RENDERING = ("render views", "render scan", "load")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make, and where."""

    out: Path
    furniture: Path
    count: int
    recipe: Recipe
    workers: int = 1
    lock_timeout_s: float = 30.0
    """How long to wait for another run that writes to the same place."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_PLACES:
            raise LimitExceeded.of("count", value=self.count, limit=MAX_PLACES, unit="places")
        if self.workers < 1:
            raise InvalidInput.at("workers", f"{self.workers}, needs at least 1")

    def places(self) -> list[Place]:
        """The places of the data set."""
        return [Place(seed=self.recipe.seed, index=index) for index in range(self.count)]

    def scans(self) -> dict[str, Place]:
        """Every scan and its place."""
        return {name: place for place in self.places() for name in scan_names(place, self.recipe)}


@dataclass
class Report:
    """What making cost, in processor seconds, those of children and of the renderer's threads included."""

    num_scans: int = 0
    device: str = ""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    total_s: float = 0.0

    @property
    def rooms_per_cpu_hour(self) -> float:
        """Scans made for each hour of one core."""
        return 3600.0 * self.num_scans / self.total_s if self.total_s else 0.0

    def shares(self) -> list[tuple[str, float, float]]:
        """Each step with its seconds a room and its share of the whole; starting is what is left over."""
        steps = sorted(self.seconds.items(), key=lambda item: -item[1])
        rest = self.total_s - sum(self.seconds.values())
        whole, rooms = max(self.total_s, 1e-9), max(self.num_scans, 1)
        return [(name, spent / rooms, spent / whole) for name, spent in (*steps, ("start and finish", rest))]

    @property
    def rendering_share(self) -> float:
        """Share of the whole that the renderer took."""
        return sum(self.seconds[name] for name in RENDERING) / max(self.total_s, 1e-9)


def make(order: Order, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Make what of the data set is not there or is damaged, then write its lists and its manifest."""
    library = open_library(order.furniture)
    with locked(order.out, order.lock_timeout_s) as lock:
        _claim(order, library)
        wanted = order.scans()
        missing = _missing(order, wanted)
        places = sorted({wanted[name].index for name in missing})
        before = _cpu_s()
        report = Report(num_scans=len(missing))
        if places:
            _run_workers(order, places, report, progress, lock)
        _finish(order, library)
    report.total_s = _cpu_s() - before
    return report


def _claim(order: Order, library: Library) -> None:
    """Refuse a folder that holds another data set, and clear what a killed run left half written."""
    folder = order.out / SCANS
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {"schema": SCHEMA, "recipe": recipe_to_json(order.recipe), "furniture": library.digest()}
    path = order.out / RECIPE
    if not path.exists():
        replace_file(path, _text(recipe))
    elif (there := read_json(path).plain) != recipe:
        differs = sorted(key for key in recipe if there.get(key) != recipe[key])
        raise InvalidInput.at("out", f"{order.out} holds rooms of another {', '.join(differs)}")
    sweep(order.out)
    for partial in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(partial)


def _missing(order: Order, wanted: Iterable[str]) -> list[str]:
    """Scans that are not there; one of which any file is damaged is removed, and so is made anew."""
    known, missing = _listed(order.out), []
    for name in wanted:
        folder = order.out / SCANS / name
        if folder.exists() and damaged_files(folder, known.get(name)):
            shutil.rmtree(folder)
        if not folder.exists():
            missing.append(name)
    return missing


def _listed(out: Path) -> dict[str, str]:
    """Digests of scans by the manifest, which is written anew where it is damaged itself."""
    try:
        return {name: digest.text() for name, digest in read_json(out / MANIFEST)["scans"].fields()}
    except (InvalidInput, NotFound):
        return {}


def _run_workers(
    order: Order, places: Sequence[int], report: Report, progress: Callable[[int, int], None], lock: int
) -> None:
    num_done = 0

    def done(ready: Answer, answer: Answer) -> None:
        nonlocal num_done
        report.device, num_done = ready["device"], num_done + 1
        for step, seconds in answer["seconds"].items():
            report.seconds[step] += seconds
        progress(num_done, len(places))

    job = {
        "recipe": recipe_to_json(order.recipe),
        "furniture": str(order.furniture.absolute()),
        "out": str(order.out.absolute()),
    }
    items = [str(index) for index in places]
    work_through(
        items,
        module="trainer.data.rooms",
        job=job,
        num_workers=order.workers,
        done=done,
        held_open=(lock,),
    )


def _finish(order: Order, library: Library) -> None:
    """Write models, lists and manifest from what is there; the manifest comes last and holds no times."""
    wanted = order.scans()
    write_lists(order.out, ((name, place.split) for name, place in wanted.items()))
    shutil.copyfile(order.furniture / ATTRIBUTION, order.out / ATTRIBUTION)
    used = {
        entry["cad"]["asset_id"]
        for name in wanted
        for entry in json.loads((order.out / SCANS / name / "extras" / "objects.json").read_text())
        if "cad" in entry
    }
    assets = {asset_id: library[asset_id] for asset_id in sorted(used)}
    write_models(order.out / CAD, assets, library)
    manifest = {
        **json.loads((order.out / RECIPE).read_text()),
        "count": order.count,
        "scans": {name: scan_digest(order.out / SCANS / name) for name in wanted},
        "splits": {
            split: [name for name, place in wanted.items() if place.split is split] for split in Split
        },
        "cad": {asset.slug: sha256_of(order.out / CAD / f"{asset.slug}.ply") for asset in assets.values()},
    }
    replace_file(order.out / MANIFEST, _text(manifest))


def check(out: Path) -> list[str]:
    """Files of a data set that are missing or are not what its manifest says."""
    path = out / MANIFEST
    if not path.is_file():
        raise InvalidInput.at("out", f"{out} holds no {MANIFEST}: run rooms make to its end")
    manifest = read_json(path).plain
    faults = [f"{CAD}/{n}.ply" for n, d in manifest["cad"].items() if _digest(out / CAD / f"{n}.ply") != d]
    for name, digest in manifest["scans"].items():
        faults += [f"{SCANS}/{name}/{file}" for file in damaged_files(out / SCANS / name, digest)]
    return faults


def _text(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _digest(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)
