"""Samples put together as one batch: what is ragged lies end to end, with the ends beside it.

Shapes: B scenes, O objects of all scenes together. `<key>.ends` (B,) says where the rows of each scene end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

Sample = Mapping[str, Any]
Batch = dict[str, Any]
PRESENT = "present."


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of samples of the same keys.

    Arrays are joined along their first axis, lists of bytes or text end to end. A number or text of a
    whole scene is one entry of a list, and presence of scenes one mask (B,).
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    keys = list(samples[0])
    assert all(list(sample) == keys for sample in samples), "samples of one data set have the same keys"
    batch: Batch = {}
    for key in keys:
        values = [sample[key] for sample in samples]
        batch.update(_joined(key, values))
    return batch


def _joined(key: str, values: list[Any]) -> Batch:
    first = values[0]
    if isinstance(first, bool | np.bool_):
        return {key: torch.tensor([bool(value) for value in values])}
    if isinstance(first, np.ndarray):
        # A copy, as torch warns of arrays that cannot be written to.
        filled = [value for value in values if len(value)] or values[:1]
        joined = {key: torch.from_numpy(np.concatenate(filled))}
        return joined | {f"{key}.ends": _ends(values)}
    if isinstance(first, list):
        return {key: [item for value in values for item in value], f"{key}.ends": _ends(values)}
    return {key: values}


def _ends(values: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(np.cumsum([len(value) for value in values], dtype=np.int64))
