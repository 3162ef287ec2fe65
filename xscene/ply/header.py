"""What the header of a PLY file promises, checked against the bytes that are there."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from xscene.errors import InvalidInput, LimitExceeded

TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
ORDERS = {"ascii 1.0": "", "binary_little_endian 1.0": "<", "binary_big_endian 1.0": ">"}
VERTEX, FACE = "vertex", "face"
_BEGIN = re.compile(rb"ply[ \t]*\r?\n")
_END = re.compile(rb"\nend_header[ \t]*\r?\n")
# A value and what parts it from the next; the last may have nothing behind it.
_TEXT_BYTES = 2
# As many as a number of 64 bits may have.
_MAX_COUNT_DIGITS = 20
# Of corners, and of what files say of them beside that.
_LISTS_A_FACE = 2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most of everything that a file may have."""

    max_header_bytes: int
    max_vertices: int
    max_faces: int
    """Triangles too, into which faces of more corners are cut."""


@dataclass(frozen=True)
class Property:
    """A number of each row, or a list of them; types are numpy's, without their byte order."""

    name: str
    kind: str
    length_kind: str = ""
    """Of a list's length; empty for a single number."""


@dataclass(frozen=True)
class Element:
    """What its rows hold."""

    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def num_lists(self) -> int:
        """Lists of each row."""
        return sum(bool(each.length_kind) for each in self.properties)

    def least_bytes(self, order: str) -> int:
        """Bytes of all rows if all lists are empty."""
        if not order:
            return max(self.count * len(self.properties) * _TEXT_BYTES - 1, 0)
        return self.count * sum(np.dtype(each.length_kind or each.kind).itemsize for each in self.properties)


@dataclass(frozen=True)
class Header:
    """How the rows are written, what they are, and where they begin."""

    order: str
    """Of bytes, as numpy has it; empty for text."""
    elements: tuple[Element, ...]
    num_bytes: int
    names_texture: bool
    """Whether a comment names a file of the texture."""


def ply_header(field: str, data: bytes, limits: Limits) -> Header:
    """The header of a file whose counts keep the limits and fit the bytes that are there."""
    if not _BEGIN.match(data):
        raise InvalidInput.at(field, "is no PLY file")
    end = _END.search(data, 0, limits.max_header_bytes)
    if end is None:
        raise InvalidInput.at(field, f"PLY without end_header in its first {limits.max_header_bytes} bytes")
    words = [line.split() for line in data[: end.start()].decode("ascii", "replace").splitlines()[1:]]
    elements, order = _parsed(field, words)
    _check_counts(field, elements, limits)
    needed = sum(element.least_bytes(order) for element in elements)
    if needed > len(data) - end.end():
        there = f"has {len(data) - end.end()} bytes behind its header"
        raise InvalidInput.at(field, f"PLY {there}, its elements need {needed}")
    names_texture = any(line[:2] == ["comment", "TextureFile"] for line in words)
    return Header(order, elements, end.end(), names_texture)


def _check_counts(field: str, elements: tuple[Element, ...], limits: Limits) -> None:
    counts = {element.name: element.count for element in elements}
    if len(counts) != len(elements):
        raise InvalidInput.at(field, "PLY names an element twice")
    num_lists = sum(element.count * element.num_lists for element in elements)
    for value, limit, unit in (
        (counts.get(VERTEX, 0), limits.max_vertices, "vertices"),
        (counts.get(FACE, 0), limits.max_faces, "faces"),
        (num_lists, _LISTS_A_FACE * limits.max_faces, "lists of all elements"),
    ):
        if value > limit:
            raise LimitExceeded.of(field, value=value, limit=limit, unit=unit)
    for element in elements:
        if element.count and not element.properties:
            raise InvalidInput.at(field, f"PLY element {element.name[:80]!r} has no properties")


def _parsed(field: str, lines: list[list[str]]) -> tuple[tuple[Element, ...], str]:
    """The elements, and the order of their bytes."""
    elements: list[tuple[str, int, dict[str, Property]]] = []
    found_format = ""
    for line in lines:
        match line:
            case ["format", *rest] if not (elements or found_format):
                found_format = " ".join(rest)
            case ["element", name, count] if count.isdecimal() and len(count) <= _MAX_COUNT_DIGITS:
                elements.append((name, int(count), {}))
            case ["property", *rest] if elements and rest:
                one = _property(field, rest)
                if elements[-1][2].setdefault(one.name, one) is not one:
                    raise InvalidInput.at(field, f"PLY names property {one.name[:80]!r} twice")
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise InvalidInput.at(field, f"PLY header line {' '.join(line)[:80]!r} is not understood")
    if found_format not in ORDERS:
        raise InvalidInput.at(field, f"PLY format {found_format[:80]!r} is none of {', '.join(ORDERS)}")
    made = tuple(Element(name, count, tuple(each.values())) for name, count, each in elements)
    return made, ORDERS[found_format]


def _property(field: str, words: list[str]) -> Property:
    match words:
        case ["list", length, kind, name] if kind in TYPES and TYPES.get(length, "f")[0] != "f":
            return Property(name, TYPES[kind], TYPES[length])
        case [kind, name] if kind in TYPES:
            return Property(name, TYPES[kind])
    raise InvalidInput.at(field, f"PLY property {' '.join(words)[:80]!r} is not understood")
