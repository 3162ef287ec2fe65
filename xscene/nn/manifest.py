"""The manifest of a bundle: its frozen types, and the strict way from and to JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from xscene.errors import BundleInvalid

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_BUNDLE_BYTES = 4 << 30
CALIBRATION = "calibration"
SECTIONS = ("text", "image", "floorplan", "points", "objects", "fusion", CALIBRATION)

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

_DIGEST = "[0-9a-f]{64}"
_PATTERNS = {
    "name": ("[a-z0-9_-][a-z0-9._-]{0,63}", "1 to 64 of [a-z0-9._-], not starting with a dot"),
    "preset": ("[a-z0-9_-]{1,64}", "1 to 64 of [a-z0-9_-]"),
    "schema": ("[a-z0-9_]+/[1-9][0-9]*", "a name and a version such as fusion/1"),
    "file": (r"[a-z0-9_-]+\.safetensors", "a plain file name ending in .safetensors"),
    "sha256": (_DIGEST, "64 hex digits"),
    "digest": (_DIGEST, "64 hex digits"),
    "model_id": (_DIGEST, "64 hex digits"),
    "calibration_digest": (_DIGEST, "64 hex digits"),
    "manifest_digest": (_DIGEST, "64 hex digits"),
}


@dataclass(frozen=True, kw_only=True)
class BackboneRef:
    """The frozen backbone that a section was trained on."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One tensor file and what is needed to use it."""

    schema: str
    file: str
    sha256: str
    num_bytes: int
    config: Mapping[str, Json]
    preprocessing: Mapping[str, Json]
    backbone: BackboneRef | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a bundle says about itself."""

    schema_version: int
    name: str
    preset: str
    width: int
    trained: bool
    model_id: str
    calibration_digest: str | None
    sections: Mapping[str, Section]
    metrics: Mapping[str, Json]
    notes: str
    parents: tuple[str, ...]
    created_at: str
    manifest_digest: str


def canonical(value: Json, where: str = "value") -> bytes:
    """The one byte string that stands for a JSON value."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleInvalid(f"{where}: cannot be JSON: {error}") from error


def load_json(data: bytes, where: str) -> Json:
    """A JSON value; repeated keys, numbers that are not finite and other encodings are refused."""
    try:
        value: Json = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct)
        canonical(value)
    except (ValueError, RecursionError, BundleInvalid) as error:
        raise BundleInvalid(f"{where}: torn or not JSON: {error}") from error
    return value


def seal(fields: Mapping[str, Json]) -> str:
    """The `manifest_digest` over all other fields."""
    return hashlib.sha256(canonical({k: v for k, v in fields.items() if k != "manifest_digest"})).hexdigest()


def to_json(manifest: Manifest) -> dict[str, Json]:
    """The manifest as JSON fields."""
    return {**dataclasses.asdict(manifest), "parents": list(manifest.parents)}


def parse(value: Json) -> Manifest:
    """The manifest, every field checked; its digest is not."""
    version = value.get("schema_version") if isinstance(value, dict) else None
    if _is_int(version) and version != SCHEMA_VERSION:
        raise BundleInvalid(f"schema_version: unknown version {version}, this code reads {SCHEMA_VERSION}")
    fields = _fields(value, Manifest, "")
    fields["sections"] = {
        name: _section(section, f"section {name}: ") for name, section in fields["sections"].items()
    }
    for parent in fields["parents"]:
        _require(
            isinstance(parent, str) and re.fullmatch(_DIGEST, parent), "parents", parent, "64 hex digits"
        )
    fields["parents"] = tuple(fields["parents"])
    manifest = Manifest(**fields)
    _require(manifest.schema_version == SCHEMA_VERSION, "schema_version", version, str(SCHEMA_VERSION))
    _require(manifest.width >= 2, "width", manifest.width, "at least 2")
    _require(_is_utc(manifest.created_at), "created_at", manifest.created_at, "an ISO 8601 time in UTC")
    _check_sections(manifest)
    return manifest


def _section(value: Json, where: str) -> Section:
    """One section of the manifest."""
    fields = _fields(value, Section, where)
    _require(fields["num_bytes"] >= 0, f"{where}num_bytes", fields["num_bytes"], "at least 0")
    if fields["backbone"] is not None:
        fields["backbone"] = BackboneRef(**_fields(fields["backbone"], BackboneRef, f"{where}backbone: "))
    return Section(**fields)


def _check_sections(manifest: Manifest) -> None:
    """Section names are known, one holds a model, no two share a file."""
    for name in manifest.sections:
        _require(name in SECTIONS, "sections", name, f"one of {', '.join(SECTIONS)}")
    if not set(manifest.sections) - {CALIBRATION}:
        raise BundleInvalid(f"sections: none besides {CALIBRATION}, at least one is needed")
    files = [section.file for section in manifest.sections.values()]
    for file in files:
        _require(files.count(file) == 1, "sections", file, "a file of one section only")
    if (CALIBRATION in manifest.sections) != (manifest.calibration_digest is not None):
        raise BundleInvalid(f"calibration_digest: stands exactly where there is a section {CALIBRATION}")


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "str": str,
    "bool": bool,
    "str | None": (str, type(None)),
    "tuple[str, ...]": list,
    "BackboneRef | None": (dict, type(None)),
}


def _fields(value: Json, cls: type[Any], where: str) -> dict[str, Any]:
    """The fields of `cls`, no more and no fewer, each of its JSON type and pattern."""
    if not isinstance(value, dict):
        raise BundleInvalid(f"{where or 'manifest: '}is {type(value).__name__}, an object is needed")
    types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    if missing := sorted(set(types) - set(value)):
        raise BundleInvalid(f"{where}missing keys: {', '.join(missing)}")
    if unknown := sorted(set(value) - set(types)):
        raise BundleInvalid(f"{where}unknown keys: {', '.join(unknown)}")
    for name, kind in types.items():
        found = value[name]
        right = _is_int(found) if kind == "int" else isinstance(found, _JSON_TYPES.get(kind, dict))
        _require(right, where + name, found, kind if kind in _JSON_TYPES else "an object")
        if isinstance(found, str) and name in _PATTERNS and (cls is not BackboneRef or name == "digest"):
            pattern, wanted = _PATTERNS[name]
            _require(re.fullmatch(pattern, found), where + name, found, wanted)
    return dict(value)


def _require(holds: object, where: str, found: Json, wanted: str) -> None:
    """Refuse a field that does not hold what is wanted."""
    if not holds:
        raise BundleInvalid(f"{where}: is {str(found)[:80]!r}, needed: {wanted}")


def _is_int(value: object) -> bool:
    """JSON true is no number, although Python's bool is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_utc(text: str) -> bool:
    """Whether the text is a time with offset zero."""
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        return False
    return offset is not None and not offset


def _distinct(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object whose keys are all different."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return value
