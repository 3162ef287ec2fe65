"""JSON files, whose values are checked where they are taken and say where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.readers.files import read_bytes, text_of
from xscene.errors import InvalidInput
from xscene.geometry.frames import Matrix

# Nested lists take up to 26 times their bytes in memory.
MAX_JSON_BYTES = 256 << 20
KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


@dataclass(frozen=True)
class Value:
    """A value of a JSON file, and its place in the file."""

    plain: Any
    where: str

    def __getitem__(self, key: str) -> Value:
        """A field that must be there."""
        found = self.get(key)
        if found is None:
            raise InvalidInput.at(self.where, f"has no {key}")
        return found

    def get(self, key: str) -> Value | None:
        """A field, or None where it is missing or null."""
        if not isinstance(self.plain, dict):
            raise self._is_not("an object")
        found = self.plain.get(key)
        return None if found is None else Value(found, self._place(key))

    def fields(self) -> Iterator[tuple[str, Value]]:
        """Names and values of an object."""
        if not isinstance(self.plain, dict):
            raise self._is_not("an object")
        return ((key, Value(found, self._place(key))) for key, found in self.plain.items())

    def items(self) -> Iterator[Value]:
        """Members of a list."""
        if not isinstance(self.plain, list):
            raise self._is_not("a list")
        return (Value(found, f"{self.where}[{at}]") for at, found in enumerate(self.plain))

    def text(self) -> str:
        """A text."""
        if not isinstance(self.plain, str):
            raise self._is_not("a text")
        return self.plain

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.plain, bool):
            raise self._is_not("a truth value")
        return self.plain

    def integer(self) -> int:
        """A whole number; some data sets write them as texts."""
        if isinstance(self.plain, str) and re.fullmatch("-?[0-9]{1,18}", self.plain):
            return int(self.plain)
        if not isinstance(self.plain, int) or isinstance(self.plain, bool):
            raise self._is_not("a whole number")
        return self.plain

    def number(self) -> float:
        """A finite number."""
        return float(self.numbers(()))

    def numbers(self, shape: tuple[int | None, ...]) -> Matrix:
        """Finite numbers of this shape; None stands for any length."""
        found = self._array(shape, "iuf", "numbers").astype(np.float64)
        if not np.isfinite(found).all():
            raise InvalidInput.at(self.where, "holds numbers that are not finite")
        return found

    def integers(self, shape: tuple[int | None, ...] = (None,)) -> NDArray[np.int64]:
        """Whole numbers of this shape; None stands for any length."""
        return self._array(shape, "i", "whole numbers").astype(np.int64)

    def _array(self, shape: tuple[int | None, ...], kinds: str, wanted: str) -> NDArray[Any]:
        try:
            found = np.array(self.plain)
        except (ValueError, OverflowError) as error:
            raise self._is_not(wanted) from error
        if found.size == 0 and found.ndim == len(shape):
            found = found.astype(np.int64)
        if found.dtype.kind not in kinds:
            raise self._is_not(wanted)
        fits = found.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, found.shape, strict=True)
        )
        if not fits:
            sides = ["any" if side is None else side for side in shape]
            raise InvalidInput.at(self.where, f"shape {list(found.shape)}, needs {sides}".replace("'", ""))
        return found

    def _place(self, key: str) -> str:
        return f"{self.where}: {key}" if self.where.endswith(".json") else f"{self.where}.{key}"

    def _is_not(self, wanted: str) -> InvalidInput:
        kind = KINDS.get(type(self.plain), str(self.plain)[:20])
        return InvalidInput.at(self.where, f"is {kind}, needs {wanted}")


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Value:
    """A JSON file whole."""
    return json_of(read_bytes(path, max_bytes=max_bytes), path.name)


def json_of(data: bytes, name: str) -> Value:
    """The JSON value that a file of this name holds."""
    try:
        return Value(json.loads(text_of(data, name)), name)
    except RecursionError as error:
        raise InvalidInput.at(name, "is nested too deeply") from error
    except ValueError as error:
        raise InvalidInput.at(name, f"is no JSON: {error}") from error


def json_lines(text: str, name: str) -> Iterator[Value]:
    """One JSON value a line; empty lines are left out."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield json_of(line.encode(), f"{name}, line {number}")
