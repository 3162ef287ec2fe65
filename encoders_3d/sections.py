"""Sections of a bundle read into the sizes of networks, every value checked."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from xscene.errors import BundleInvalid, InvalidInput
from xscene.nn.bundle import Bundle
from xscene.nn.manifest import Json

T = TypeVar("T")


def to_json(value: Any) -> dict[str, Json]:
    """The fields of a dataclass of numbers and tuples of numbers."""
    fields = dataclasses.asdict(value)
    return {name: list(each) if isinstance(each, tuple) else each for name, each in fields.items()}


def parsed(cls: type[T], given: Mapping[str, Json], bundle: Bundle, section: str, what: str) -> T:
    """The dataclass of these fields, no more and no fewer, each of its type and length."""
    hints = typing.get_type_hints(cls)
    if set(given) != set(hints):
        found, wanted = (", ".join(sorted(names)) or "nothing" for names in (given, hints))
        raise bundle.invalid(section, f"{what} has {found}; needed: {wanted}")
    try:
        return cls(**{name: _value(given[name], hints[name], f"{what} {name}") for name in hints})
    except (BundleInvalid, InvalidInput) as error:
        raise bundle.invalid(section, error.message) from error


def _value(given: Json, hint: Any, where: str) -> Any:
    """A number, or a tuple of as many numbers as its type has."""
    kinds = typing.get_args(hint)
    if not kinds:
        return _number(given, hint, where)
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(kinds):
        raise BundleInvalid(f"{where} is {given}, needed: {len(kinds)} numbers")
    return tuple(_number(each, kind, where) for each, kind in zip(given, kinds, strict=True))


def _number(given: Json, kind: type, where: str) -> int | float:
    """JSON true is no number, and sizes are above zero."""
    if kind is int:
        if type(given) is not int or given < 1:
            raise BundleInvalid(f"{where} is {given}, needed: whole numbers above 0")
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise BundleInvalid(f"{where} is {given}, needed: finite numbers")
    return float(given)
