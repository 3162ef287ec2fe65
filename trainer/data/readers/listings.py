"""Where a data set keeps its scans, and which scans it lists for what."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainer.data.readers.files import read_lines
from trainer.data.readers.limits import ScanLimits
from trainer.data.scans import ScanEntry, Split
from xscene.errors import InvalidInput, NotFound

log = logging.getLogger(__name__)

LISTS = {split: f"{split}_scans.txt" for split in (Split.TRAIN, Split.VAL, Split.TEST)}
# Ids become names of folders.
SCAN_ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def folder(root: Path, name: str) -> Path:
    """The folder of this name, or the data set's own where there is none."""
    return root / name if (root / name).is_dir() else root


def listed_splits(files: Path, limits: ScanLimits) -> dict[str, Split]:
    """What the lists of splits say of each scan.

    A scan listed for validation and for test counts for validation.
    """
    found: dict[str, Split] = {}
    for split, name in LISTS.items():
        path = files / name
        for scan_id in read_lines(path, max_bytes=limits.max_text_bytes) if path.exists() else ():
            known = found.setdefault(checked_id(scan_id, path.name), split)
            if known is Split.TRAIN and split is not known:
                raise InvalidInput.at(path.name, f"scan {scan_id} is listed for {known} as well")
    return found


def checked_id(scan_id: str, where: str) -> str:
    """A scan's id that is fit for the name of a folder."""
    if not SCAN_ID.fullmatch(scan_id):
        raise InvalidInput.at(where, f"{scan_id[:80]!r} is no id of a scan")
    return scan_id


def require_one_split(groups: Iterable[tuple[str, Split]], data_set: str) -> None:
    """Refuses a group, such as a place, that lies in two splits."""
    splits: dict[str, Split] = {}
    for group, split in groups:
        if splits.setdefault(group, split) is not split:
            raise InvalidInput.at(data_set, f"{group} lies in splits {splits[group]} and {split}")


def present(
    entries: Iterable[ScanEntry], folders: Mapping[str, Path], data_set: str, *other_lists: str
) -> tuple[ScanEntry, ...]:
    """Entries whose folder is there, ordered by id; refuses a place that lies in two splits."""
    listed = sorted(entries, key=lambda entry: entry.scan_id)
    if not listed:
        looked_for = ", ".join((*other_lists, *LISTS.values()))
        raise NotFound(f"{data_set}: lists no scans; looked for {looked_for}")
    require_one_split(((f"place {entry.place_id}", entry.split) for entry in listed), data_set)
    found = tuple(entry for entry in listed if folders[entry.scan_id].is_dir())
    if not found:
        raise NotFound(f"{data_set}: none of {len(listed)} listed scans is there")
    if len(found) < len(listed):
        log.warning(
            "listed scans are missing",
            extra={"dataset": data_set, "num_missing": len(listed) - len(found)},
        )
    return found
