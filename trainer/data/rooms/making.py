"""Making places: each scan is written aside and moved into place whole, so that a kill leaves no half."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.data.readers.documents import read_json
from trainer.data.rooms.captures import Capture, Clock, Recipe, capture
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.extras import write_extras
from trainer.data.rooms.library import Library
from trainer.data.rooms.package import sha256_of
from trainer.data.rooms.places import Changes, Place, first_room, next_room, num_scans
from trainer.data.rooms.rendering import Renderer
from trainer.data.rooms.scannet import write_scan
from trainer.data.rooms.scanning import Fusion, Sensor
from trainer.data.rooms.sentences import Speech
from xscene.errors import InvalidInput, NotFound

SCANS, DIGESTS = "scans", "digests.json"
PARTIAL = ".partial-"
PARTS = {
    "furnishings": Furnishings,
    "changes": Changes,
    "speech": Speech,
    "sensor": Sensor,
    "fusion": Fusion,
}


def scan_names(place: Place, recipe: Recipe) -> list[str]:
    """The scans that a place has."""
    return [f"{place.name}_{at:02d}" for at in range(num_scans(place, recipe.rescan_share))]


def make_place(place: Place, recipe: Recipe, library: Library, renderer: Renderer, out: Path) -> Clock:
    """Write the scans of a place that are not there yet; returns what each step cost."""
    clock = Clock()
    names = scan_names(place, recipe)
    with clock.step("compose"):
        room = first_room(place, library, recipe.furnishings)
    first = capture(place, 0, room, recipe, library, renderer, clock)
    _write(first, None, recipe, out, clock)
    for revision in range(1, len(names)):
        with clock.step("compose"):
            room = next_room(place, revision, room, library, recipe.furnishings, recipe.changes)
        later = capture(place, revision, room, recipe, library, renderer, clock)
        _write(later, first, recipe, out, clock)
    return clock


def _write(made: Capture, reference: Capture | None, recipe: Recipe, out: Path, clock: Clock) -> None:
    target = out / SCANS / made.scan_id
    if target.exists():
        return
    partial = out / SCANS / f"{PARTIAL}{made.scan_id}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with clock.step("write"):
        write_scan(partial, made, jpeg_quality=recipe.jpeg_quality)
        write_extras(partial / "extras", made, reference)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        digests = {path.relative_to(partial).as_posix(): sha256_of(path) for path in files}
        (partial / "extras" / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")
        partial.replace(target)


def scan_digest(folder: Path) -> str:
    """The digest of a scan: that of the list of its files' digests."""
    return sha256_of(folder / "extras" / DIGESTS)


def damaged_files(folder: Path, digest: str | None = None) -> list[str]:
    """Files of a scan that are missing or are not what they were when it was made.

    Where the list of digests is itself not the one of this digest, it alone is named.
    """
    path = folder / "extras" / DIGESTS
    try:
        digests = {name: value.text() for name, value in read_json(path).fields()}
    except (InvalidInput, NotFound):
        return [f"extras/{DIGESTS}"]
    if digest not in (None, scan_digest(folder)):
        return [f"extras/{DIGESTS}"]
    return [
        name
        for name, wanted in digests.items()
        if not (folder / name).is_file() or sha256_of(folder / name) != wanted
    ]


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `recipe_to_json` gave."""

    def tuples(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}

    parts = {name: kind(**tuples(values[name])) for name, kind in PARTS.items()}
    return Recipe(**tuples(values) | parts)
