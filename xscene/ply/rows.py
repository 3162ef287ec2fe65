"""Rows of the elements of a PLY file, binary or text; lists may differ in length from row to row."""

# R rows of an element, P places

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xscene.ply.header import Element, Header, Property

# Numbers of a text are taken apart so many bytes at a time.
_TEXT_BYTES = 1 << 20
_SPACE = re.compile(rb"\s")
_STRUCTS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"}

Places = NDArray[np.int64]


class _Source(Protocol):
    """Numbers one after the other; a place is a byte of binary files, a number of texts."""

    unit: str
    num_places: int

    def size(self, kind: str) -> int:
        """Places of one number."""

    def take(self, kind: str, places_P: Places) -> NDArray[Any]:
        """The numbers at these places."""

    def all_are(self, value: int, kind: str, places_P: Places) -> bool:
        """Whether every number at these places is this one."""

    def reader(self, kind: str) -> Callable[[int], int]:
        """What reads a whole number at one place."""


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of an element; nothing is read before it is asked for."""

    source: _Source
    element: Element
    begin: int
    size: int
    """Of a row, where all have one size."""
    bases: list[Places]
    """(R,) each, where rows differ: places from which those of properties are counted."""
    offsets: dict[str, tuple[int, int]]
    """The base of each property, and how far behind it a number, or the first of a list, is."""
    list_lengths: dict[str, Places]
    """(R,) of each property that is a list."""

    def __len__(self) -> int:
        return self.element.count

    def places(self, name: str) -> Places:
        """Where a property of each row begins."""
        base, offset = self.offsets[name]
        if self.bases:
            return self.bases[base] + offset
        first = self.begin + offset
        return np.arange(first, first + self.size * self.element.count, self.size, dtype=np.int64)

    def column(self, name: str) -> NDArray[Any]:
        """A number of each row."""
        if name not in self.offsets or name in self.list_lengths:
            raise ValueError(f"each {self.element.name} needs a number {name}")
        return self.source.take(self.kind(name), self.places(name))

    def kind(self, name: str) -> str:
        """The type of a property, as numpy has it."""
        return next(each.kind for each in self.element.properties if each.name == name)


def rows_of(data: bytes, header: Header) -> dict[str, Rows]:
    """The rows of each element; the file must end with the last."""
    source = _Binary(data, header.order) if header.order else _Text(data, header.num_bytes)
    at, found = header.num_bytes if header.order else 0, {}
    for element in header.elements:
        try:
            found[element.name], at = _walk(source, element, at)
        except (IndexError, OverflowError, struct.error):
            at = source.num_places + 1
        if at > source.num_places:
            raise ValueError(f"it ends within its rows of {element.name[:80]}")
    if at < source.num_places:
        raise ValueError(f"{source.num_places - at} {source.unit} follow its last row")
    return found


def _walk(source: _Source, element: Element, at: int) -> tuple[Rows, int]:
    """The rows that begin at a place, and where they end."""
    if not element.count:
        none = np.zeros(0, np.int64)
        lists = {each.name: none for each in element.properties if each.length_kind}
        return Rows(source, element, 0, 1, [], {each.name: (0, 0) for each in element.properties}, lists), at
    offsets, lengths, size = _first_row(source, element, at)
    end = at + size * element.count
    if not lengths or end <= source.num_places:
        counts = {name: np.full(element.count, length) for name, length in lengths.items()}
        rows = Rows(source, element, at, size, [], offsets, counts)
        guessed = [each for each in element.properties if each.length_kind]
        if all(_all_alike(rows, each, lengths[each.name]) for each in guessed):
            return rows, end
    return _ragged(source, element, at)


def _first_row(
    source: _Source, element: Element, at: int
) -> tuple[dict[str, tuple[int, int]], dict[str, int], int]:
    """Offsets, lengths of lists, and the size of the first row."""
    offsets, lengths, begin = {}, {}, at
    for each in element.properties:
        length = 1
        if each.length_kind:
            length = lengths[each.name] = _natural(source.reader(each.length_kind)(at))
            at += source.size(each.length_kind)
        offsets[each.name] = (0, at - begin)
        at += length * source.size(each.kind)
    return offsets, lengths, at - begin


def _all_alike(rows: Rows, one: Property, length: int) -> bool:
    """Whether a list has this length in every row."""
    places = rows.places(one.name) - rows.source.size(one.length_kind)
    return rows.source.all_are(length, one.length_kind, places)


@dataclass(frozen=True, eq=False)
class _List:
    """A list of each row, while rows are walked."""

    name: str
    skip: int
    """Places between what is in front and its length."""
    length_size: int
    read: Callable[[int], int]
    size: int
    """Of a member."""
    firsts: array[int]
    lengths: array[int]


def _ragged(source: _Source, element: Element, at: int) -> tuple[Rows, int]:
    """Row by row, as lists of different lengths allow nothing faster."""
    offsets: dict[str, tuple[int, int]] = {}
    lists: list[_List] = []
    skip = 0
    for each in element.properties:
        size = source.size(each.kind)
        if each.length_kind:
            offsets[each.name] = (2 * len(lists) + 1, 0)
            length_size, read = source.size(each.length_kind), source.reader(each.length_kind)
            lists.append(_List(each.name, skip, length_size, read, size, array("q"), array("q")))
            skip = 0
        else:
            offsets[each.name] = (2 * len(lists), skip)
            skip += size
    begins = array("q")
    for _ in range(element.count):
        begins.append(at)
        for one in lists:
            length = _natural(one.read(at + one.skip))
            at += one.skip + one.length_size
            one.firsts.append(at)
            one.lengths.append(length)
            at += length * one.size
        at += skip
    bases = [np.array(begins, np.int64)]
    lengths = {}
    for one in lists:
        firsts, lengths[one.name] = np.array(one.firsts, np.int64), np.array(one.lengths, np.int64)
        bases += [firsts, firsts + one.size * lengths[one.name]]
    return Rows(source, element, 0, 0, bases, offsets, lengths), at


def _natural(length: int) -> int:
    if length < 0:
        raise ValueError(f"a list has {length} members")
    return length


class _Binary:
    """Bytes; numbers need not lie at whole multiples of their size."""

    unit = "bytes"

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order
        self.num_places = len(data)

    def size(self, kind: str) -> int:
        return np.dtype(kind).itemsize

    def take(self, kind: str, places_P: Places) -> NDArray[Any]:
        if not len(places_P):
            return np.zeros(0, kind)
        shape = (len(self._data) - self.size(kind) + 1,)
        # A number at every byte, of which those at the places are taken.
        every: NDArray[Any] = np.ndarray(shape, self._order + kind, self._data, 0, (1,))
        return every[places_P].astype(kind, copy=False)

    def all_are(self, value: int, kind: str, places_P: Places) -> bool:
        return bool((self.take(kind, places_P) == value).all())

    def reader(self, kind: str) -> Callable[[int], int]:
        if kind == "u1":
            return self._data.__getitem__
        unpack, data = struct.Struct(self._order + _STRUCTS[kind]).unpack_from, self._data
        return lambda at: int(unpack(data, at)[0])


class _Text:
    """Numbers of a text, parted by white space."""

    unit = "numbers"

    def __init__(self, data: bytes, begin: int) -> None:
        try:
            self._values = np.fromiter(map(float, chain.from_iterable(_words(data, begin))), np.float64)
        except ValueError:
            raise ValueError("its rows are not all numbers") from None
        self.num_places = len(self._values)

    def size(self, kind: str) -> int:
        return 1

    def take(self, kind: str, places_P: Places) -> NDArray[Any]:
        values = self._values[places_P]
        if kind[0] == "f":
            with np.errstate(over="ignore"):
                return values.astype(kind)
        limits = np.iinfo(kind)
        fits = (values >= limits.min) & (values <= limits.max) & (values == np.rint(values))
        if not fits.all():
            raise ValueError(f"{values[~fits][0]:g} is no {limits.dtype}")
        return values.astype(kind)

    def all_are(self, value: int, kind: str, places_P: Places) -> bool:
        return bool((self._values[places_P] == value).all())

    def reader(self, kind: str) -> Callable[[int], int]:
        def read(at: int) -> int:
            value = float(self._values.item(at))
            if not value.is_integer():
                raise ValueError(f"{value:g} is no {np.dtype(kind)}")
            return int(value)

        return read


def _words(text: bytes, start: int) -> Iterator[list[bytes]]:
    """The words of a text from there on, some of them at a time."""
    while start < len(text):
        space = _SPACE.search(text, start + _TEXT_BYTES)
        end = space.end() if space else len(text)
        yield text[start:end].split()
        start = end
