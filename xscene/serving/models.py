"""What an encoder gives to the runtime: models that prepare, compute and finish requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ANY = -1
"""A dimension of any size."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Numpy's types by their names in the Open Inference Protocol; BYTES are arrays of `bytes`."""

Tensors = Mapping[str, NDArray[Any]]


def num_bytes(tensors: Tensors) -> int:
    """Bytes of what tensors hold, those of BYTES included."""
    return sum(
        sum(map(len, array.flat)) if array.dtype == np.object_ else array.nbytes for array in tensors.values()
    )


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class Item(Protocol):
    """One thing to compute; items of one model are computed together, up to a cost."""

    @property
    def cost(self) -> int:
        """In the model's unit: tokens, pixels or voxels."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that was validated: its items, and what `finish` needs to know."""

    items: Sequence[Item]
    plan: Any = None


class Model(ABC):
    """One model at one version; its phases run on different threads."""

    name: str
    version: str
    """Decimal of the first 15 hex digits of the model_id."""
    bundle: str
    model_id: str
    trained: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str]
    """Shown in the metadata beside model_id, bundle and trained: limits, backbone, engine."""
    max_batch_cost: int
    """Cost of the items that are computed together; a single item may cost more."""
    light_bytes: int = 0
    """Inputs up to so many bytes are prepared at once: where nobody else asks, by the computing thread."""

    @abstractmethod
    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Validate and decode one request; only `outputs` are wanted. Called on several threads."""

    @abstractmethod
    def forward(self, items: Sequence[Item]) -> Sequence[Any]:
        """One result for each item, which may come from several requests. Called on one thread."""

    @abstractmethod
    def warm_up(self) -> None:
        """Compute once, so that the first caller does not pay for it."""

    @abstractmethod
    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        """The outputs of one request, from its items' results. Called on two threads."""


class Factory(ABC):
    """Makes the models of one service; backbones are shared between bundles that use the same one."""

    names: tuple[str, ...]

    @abstractmethod
    def load(self, name: str, directory: Path) -> Model:
        """The model `name` of the bundle in `directory`, verified and ready; called off the event loop."""
