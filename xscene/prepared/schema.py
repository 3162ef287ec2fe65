"""The strict way between frozen records and JSON files of a named and versioned format."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from xscene.errors import PreparedInvalid, XSceneError

MAX_JSON_BYTES = 256 << 20
Record = TypeVar("Record")
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def dump(record: Any) -> bytes:
    """A record as readable JSON, the same bytes for the same record."""
    return (json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read(path: Path, kind: type[Record], *, format_name: str, version: int) -> tuple[Record, bytes]:
    """The record of a file, and the file's bytes; a newer or foreign format is refused by its name."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise PreparedInvalid(f"{path.name}: {size} bytes, the limit is {MAX_JSON_BYTES}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise PreparedInvalid(f"{path.name}: torn, there is no such file") from None
    return parse(data, kind, path.name, format_name=format_name, version=version), data


def parse(data: bytes, kind: type[Record], where: str, *, format_name: str, version: int) -> Record:
    """The record that bytes hold."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PreparedInvalid(f"{where}: torn or not JSON: {error}") from error
    found = value if isinstance(value, dict) else {}
    require_format(found.get("format"), found.get("version"), where, format_name, version)
    record: Record = decoded(kind, value, where)
    return record


def require_format(found: object, version: object, where: str, wanted: str, newest: int) -> None:
    """Refuse another format, and a version that this code does not know."""
    if found != wanted:
        raise PreparedInvalid(f"{where}: format is {str(found)[:80]!r}, needs {wanted!r}")
    if isinstance(version, int) and not isinstance(version, bool) and version > newest:
        raise PreparedInvalid(f"{where}: {wanted} version {version} is newer than {newest}, the newest known")
    if version != newest or isinstance(version, bool):
        raise PreparedInvalid(
            f"{where}: {wanted} version {str(version)[:80]} is unknown, this reads {newest}"
        )


def decoded(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as this type, with no key too many and none too few."""
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _any_of(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is dict:
        _require(isinstance(value, dict), value, where, "an object")
        return {key: decoded(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    return _plain(kind, value, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, where, "an object")
    hints = _hints(kind)
    if missing := sorted(set(hints) - set(value)):
        raise PreparedInvalid(f"{where}: missing keys: {', '.join(missing)}")
    if unknown := sorted(set(value) - set(hints)):
        raise PreparedInvalid(f"{where}: unknown keys: {', '.join(unknown)}")
    fields = {name: decoded(hint, value[name], f"{where}.{name}") for name, hint in hints.items()}
    try:
        return kind(**fields)
    except PreparedInvalid:
        raise
    except XSceneError as error:
        raise PreparedInvalid(f"{where}: {error}") from error


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _any_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value as the first of the types that takes it."""
    if value is None and type(None) in kinds:
        return None
    wanted = [kind for kind in kinds if kind is not type(None)]
    for kind in wanted[:-1]:
        try:
            return decoded(kind, value, where)
        except PreparedInvalid:
            continue
    return decoded(wanted[-1], value, where)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _require(isinstance(value, list), value, where, "a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _require(len(value) == len(kinds), f"{len(value)} entries", where, f"{len(kinds)} entries")
    return tuple(
        decoded(kind, each, f"{where}[{at}]")
        for at, (kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _plain(kind: type[Any], value: Any, where: str) -> Any:
    if issubclass(kind, StrEnum):
        known = [member.value for member in kind]
        _require(value in known, value, where, f"one of {', '.join(known)}")
        return kind(value)
    is_bool = isinstance(value, bool)
    fits = (
        is_bool
        if kind is bool
        else not is_bool and isinstance(value, (int, float) if kind is float else kind)
    )
    _require(fits, value, where, _WORDS[kind])
    return float(value) if kind is float else value


def _require(holds: bool, found: object, where: str, wanted: str) -> None:
    if not holds:
        raise PreparedInvalid(f"{where}: is {str(found)[:80]!r}, needs {wanted}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
