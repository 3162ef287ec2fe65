"""What all domain values share: equality by content, checked arrays and sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput

Float32Array = NDArray[np.float32]
Uint8Array = NDArray[np.uint8]
Uint32Array = NDArray[np.uint32]


class Value:
    """Base of dataclasses that hold arrays: equal when all fields are, arrays number by number."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _same_fields(self, other)

    # Arrays cannot be hashed, so neither can what compares by them.
    __hash__ = None  # type: ignore[assignment]


def require_array(
    values: NDArray[Any], dtype: type[np.generic], shape: tuple[int | None, ...], field: str
) -> None:
    """Refuses an array of another type or shape; None stands for any length."""
    if values.dtype != dtype:
        raise InvalidInput.at(field, f"type {values.dtype}, needs {np.dtype(dtype)}")
    fits = values.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, values.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InvalidInput.at(field, f"shape {list(values.shape)}, needs [{wanted}]")


def require_several(values: object, field: str) -> None:
    """Refuses a lone item where several belong; a string would be taken letter by letter."""
    if not isinstance(values, tuple):
        raise InvalidInput.at(field, f"{type(values).__name__}, needs a tuple")


def require_count(count: int | None, field: str, *, low: int = 1, num_bits: int = 32) -> None:
    """Refuses a count that is too small, or larger than the message's field can hold."""
    if count is not None and not low <= count < 1 << num_bits:
        raise InvalidInput.at(field, f"{count}, needs {low} to {(1 << num_bits) - 1}")


def _same_fields(one: Any, other: Any) -> bool:
    return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        both = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        return both and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if is_dataclass(one) and type(one) is type(other):
        return _same_fields(one, other)
    return bool(one == other)
