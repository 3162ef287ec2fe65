"""Rows of a PLY file's elements, binary and ascii; lists may differ in length from row to row.

Shapes: R rows of an element, L members of all its lists of one name.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.errors import InvalidInput


@dataclass(frozen=True)
class Property:
    """A number of each row, or a list of them; types are numpy's without byte order."""

    name: str
    kind: str
    length_kind: str = ""
    """Type of a list's length; empty for a single number."""


@dataclass(frozen=True)
class Element:
    """What an element's rows hold."""

    name: str
    count: int
    properties: tuple[Property, ...]

    def having(self, added: Property, file: str) -> Element:
        """The element with one more property."""
        if added.name in {known.name for known in self.properties}:
            raise InvalidInput.at(file, f"element {self.name} has property {added.name} twice")
        return replace(self, properties=(*self.properties, added))

    def min_row_bytes(self, *, ascii_text: bool) -> int:
        """Bytes of a row whose lists are empty."""
        if ascii_text:
            return 2 * len(self.properties)
        return sum(np.dtype(one.length_kind or one.kind).itemsize for one in self.properties)


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of all rows, one after the other: their lengths (R,) and members (L,)."""

    lengths: NDArray[np.int64]
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns of an element."""

    scalars: dict[str, NDArray[Any]] = field(default_factory=dict)
    lists: dict[str, Lists] = field(default_factory=dict)


def binary_rows(data: bytes, elements: Sequence[Element], order: str, file: str) -> list[Rows]:
    """Rows of all elements; refuses data that ends early or goes on."""
    rows, at = [], 0
    for element in elements:
        found, at = _binary(data, at, element, order, file)
        rows.append(found)
    if at != len(data):
        raise InvalidInput.at(file, f"{len(data) - at} bytes follow its last row")
    return rows


def _binary(data: bytes, at: int, element: Element, order: str, file: str) -> tuple[Rows, int]:
    if not element.count:
        return _nothing(element), at
    row = _row_type(data, at, element, order, file)
    if at + element.count * row.itemsize <= len(data):
        table = np.frombuffer(data, dtype=row, count=element.count, offset=at)
        if _uniform(table, element):
            return _columns(table, element), at + table.nbytes
    return _ragged(data, at, element, order, file)


def _row_type(data: bytes, at: int, element: Element, order: str, file: str) -> np.dtype[Any]:
    """What all rows are, if their lists are as long as those of the first."""
    fields: list[Any] = []
    for number, one in enumerate(element.properties):
        if one.length_kind:
            length, at = _length(data, at, order + one.length_kind, element.name, file)
            fields.append((f"length{number}", order + one.length_kind))
            fields.append((f"value{number}", order + one.kind, (length,)))
            at += length * np.dtype(one.kind).itemsize
        else:
            fields.append((f"value{number}", order + one.kind))
            at += np.dtype(one.kind).itemsize
        if at > len(data):
            raise _early(element.name, file)
    return np.dtype(fields)


def _length(data: bytes, at: int, kind: str, element: str, file: str) -> tuple[int, int]:
    """The length of a list, and where its members begin."""
    size = np.dtype(kind).itemsize
    if at + size > len(data):
        raise _early(element, file)
    length = int(np.frombuffer(data, dtype=kind, count=1, offset=at)[0])
    if length < 0:
        raise InvalidInput.at(file, f"a list of {element} has {length} members")
    return length, at + size


def _early(element: str, file: str) -> InvalidInput:
    return InvalidInput.at(file, f"ends within its rows of {element}")


def _uniform(table: NDArray[Any], element: Element) -> bool:
    lengths = [f"length{at}" for at, one in enumerate(element.properties) if one.length_kind]
    return all(bool((table[name] == table[name][0]).all()) for name in lengths)


def _columns(table: NDArray[Any], element: Element) -> Rows:
    found = Rows()
    for at, one in enumerate(element.properties):
        values = table[f"value{at}"].astype(one.kind)
        if one.length_kind:
            found.lists[one.name] = Lists(table[f"length{at}"].astype(np.int64), values.reshape(-1))
        else:
            found.scalars[one.name] = values
    return found


def _nothing(element: Element) -> Rows:
    found = Rows()
    for one in element.properties:
        if one.length_kind:
            found.lists[one.name] = Lists(np.zeros(0, np.int64), np.zeros(0, one.kind))
        else:
            found.scalars[one.name] = np.zeros(0, one.kind)
    return found


def _ragged(data: bytes, at: int, element: Element, order: str, file: str) -> tuple[Rows, int]:
    """Row by row, as lists of different lengths allow nothing faster."""
    lengths = [array("q") for _ in element.properties]
    members = [bytearray() for _ in element.properties]
    for _ in range(element.count):
        for number, one in enumerate(element.properties):
            length = 1
            if one.length_kind:
                length, at = _length(data, at, order + one.length_kind, element.name, file)
            end = at + length * np.dtype(one.kind).itemsize
            if end > len(data):
                raise _early(element.name, file)
            lengths[number].append(length)
            members[number] += data[at:end]
            at = end
    found = Rows()
    for number, one in enumerate(element.properties):
        values = np.frombuffer(members[number], dtype=order + one.kind).astype(one.kind)
        if one.length_kind:
            found.lists[one.name] = Lists(np.array(lengths[number], dtype=np.int64), values)
        else:
            found.scalars[one.name] = values
    return found, at


def ascii_rows(lines: Iterable[bytes], elements: Sequence[Element], file: str) -> list[Rows]:
    """Rows of all elements, one a line; refuses a text that ends early or goes on."""
    filled = (line for line in lines if not line.isspace())
    rows = [_ascii(list(itertools.islice(filled, element.count)), element, file) for element in elements]
    if next(filled, None) is not None:
        raise InvalidInput.at(file, "lines follow its last row")
    return rows


def _ascii(lines: Sequence[bytes], element: Element, file: str) -> Rows:
    if len(lines) < element.count:
        raise _early(element.name, file)
    if not lines:
        return _nothing(element)
    # Whole numbers of 32 bits are exact in float64.
    widths = np.fromiter((len(line.split()) for line in lines), dtype=np.int64, count=len(lines))
    try:
        values = np.fromiter((float(word) for line in lines for word in line.split()), dtype=np.float64)
    except ValueError as error:
        raise InvalidInput.at(file, f"its rows of {element.name} are not all numbers") from error
    return _split(values, widths, element, file)


def _split(values: NDArray[np.float64], widths: NDArray[np.int64], element: Element, file: str) -> Rows:
    """Columns of rows that are so many words wide (R,)."""
    ends = np.cumsum(widths)
    at = ends - widths
    found = Rows()
    for one in element.properties:
        lengths = np.ones(len(widths), dtype=np.int64)
        if one.length_kind:
            lengths = _taken(values, at, lengths, ends, element, file)
            lengths = _cast(lengths, one.length_kind, element, file).astype(np.int64)
            at = at + 1
            if lengths.min() < 0:
                raise InvalidInput.at(file, f"a list of {element.name} has {lengths.min()} members")
        taken = _cast(_taken(values, at, lengths, ends, element, file), one.kind, element, file)
        at = at + lengths
        if one.length_kind:
            found.lists[one.name] = Lists(lengths, taken)
        else:
            found.scalars[one.name] = taken
    if (at != ends).any():
        raise InvalidInput.at(file, f"row {int((at != ends).argmax())} of {element.name} is too long")
    return found


def _taken(
    values: NDArray[np.float64],
    at: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ends: NDArray[np.int64],
    element: Element,
    file: str,
) -> NDArray[Any]:
    """The next words of each row, so many for each."""
    if (short := at + lengths > ends).any():
        raise InvalidInput.at(file, f"row {int(short.argmax())} of {element.name} is too short")
    offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    taken: NDArray[np.float64] = values[np.repeat(at, lengths) + offsets]
    return taken


def _cast(values: NDArray[Any], kind: str, element: Element, file: str) -> NDArray[Any]:
    if kind[0] == "f":
        with np.errstate(over="ignore"):
            return values.astype(kind)
    limits = np.iinfo(kind)
    fits = (values >= limits.min) & (values <= limits.max) & (values == np.rint(values))
    if not fits.all():
        wrong = values[int(fits.argmin())]
        raise InvalidInput.at(file, f"{wrong:g} of {element.name} is no {limits.dtype}")
    return values.astype(kind)
