"""Labels of ScanNet: the table of raw categories, and NYU40 ids as the benchmark's twenty classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import read_table
from xscene.errors import InvalidInput

SCANNET20_FROM_NYU40 = (*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39)
NO_CLASS = 255
NUM_NYU40 = 41


def scannet20(nyu40: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Classes 0 to 19 of NYU40 ids, in any shape; NO_CLASS for all that the benchmark leaves out."""
    table = np.full(NUM_NYU40 + 1, NO_CLASS, dtype=np.uint8)
    table[list(SCANNET20_FROM_NYU40)] = np.arange(len(SCANNET20_FROM_NYU40))
    known = (nyu40 >= 0) & (nyu40 < NUM_NYU40)
    return table[np.where(known, nyu40, NUM_NYU40)]


@dataclass(frozen=True)
class LabelTable:
    """What `scannetv2-labels.combined.tsv` says; where a name or an id has several rows, the first counts."""

    nyu40: Mapping[str, int]
    """By raw category, as objects are labelled."""
    categories: Mapping[int, str]
    """By raw id, as predictions are numbered."""


def read_labels(path: Path) -> LabelTable:
    """The table of labels; cells without a number leave their id out."""
    nyu40: dict[str, int] = {}
    categories: dict[int, str] = {}
    for number, row in enumerate(read_table(path), start=2):
        missing = {"id", "raw_category", "category", "nyu40id"} - row.keys()
        if missing:
            raise InvalidInput.at(f"{path.name}, line {number}", f"has no {', '.join(sorted(missing))}")
        if row["nyu40id"].isdecimal():
            nyu40.setdefault(row["raw_category"], int(row["nyu40id"]))
        if row["id"].isdecimal():
            categories.setdefault(int(row["id"]), row["category"])
    return LabelTable(nyu40, categories)
