"""Single fields: texts, names, numbers, times and enums, each error under the path of its field."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from xscene import types
from xscene.codec.limits import Limits
from xscene.errors import InvalidInput, LimitExceeded
from xscene.types.scenes import require_aware
from xscene.v1 import common_pb2, content_pb2, scene_pb2

E = TypeVar("E", bound=StrEnum)

Data: TypeAlias = bytes | bytearray | memoryview
"""A message's large field: its own, or gathered from chunks."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_S = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_MAX_S = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# The text encoder refuses the same, so that what is taken here is not refused there.
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
_REINDEX_ID = re.compile(r"[a-z0-9-]{1,64}")


class Vocabulary(Generic[E]):
    """The two spellings of a closed set of words: MODALITY_TEXT on the wire is Modality.TEXT."""

    def __init__(self, wire: EnumTypeWrapper, members: type[E], prefix: str) -> None:
        self._wire_names = {member: f"{prefix}_{member.name}" for member in members}
        self._members = {wire.Value(name): member for member, name in self._wire_names.items()}

    def decode(self, number: int, path: str, *, default: E | None = None) -> E:
        """The word; the unset number is the default, and refused where there is none."""
        member = self._members.get(number, None if number else default)
        if member is None:
            known = ", ".join(self._wire_names.values())
            raise InvalidInput.at(path, f"{number or 'unset'}, needs one of {known}")
        return member

    def find(self, number: int, path: str, *, default: E | None = None) -> E | None:
        """The word of an answer; None for a number that only a newer server knows."""
        if number and number not in self._members:
            return None
        return self.decode(number, path, default=default)

    def find_all(self, numbers: Iterable[int], path: str, field: str = "") -> tuple[E | None, ...]:
        """The words of an answer, none of them twice; None where `find` gives it."""
        found = tuple(self.find(number, f"{path}[{index}]{field}") for index, number in enumerate(numbers))
        check_unique([index if word is None else word for index, word in enumerate(found)], path, field)
        return found

    def decode_all(self, numbers: Iterable[int], path: str, field: str = "") -> tuple[E, ...]:
        """The words, none of them twice; `field` is the rest of each one's path."""
        members = tuple(
            self.decode(number, f"{path}[{index}]{field}") for index, number in enumerate(numbers)
        )
        check_unique(members, path, field)
        return members

    def encode(self, member: E) -> str:
        """The name on the wire, which messages take in place of the number."""
        return self._wire_names[member]

    def encode_all(self, members: Iterable[E]) -> list[str]:
        """The names on the wire."""
        return [self.encode(member) for member in members]


MODALITY = Vocabulary(common_pb2.Modality, types.Modality, "MODALITY")
SPACE = Vocabulary(common_pb2.Space, types.Space, "SPACE")
UP_AXIS = Vocabulary(common_pb2.UpAxis, types.UpAxis, "UP_AXIS")
FRAME = Vocabulary(common_pb2.FrameKind, types.Frame, "FRAME_KIND")
RUN_STATE = Vocabulary(common_pb2.RunState, types.RunState, "RUN_STATE")
MESH_FORMAT = Vocabulary(content_pb2.MeshFormat, types.MeshFormat, "MESH_FORMAT")
INGEST_MODE = Vocabulary(scene_pb2.IngestMode, types.IngestMode, "INGEST_MODE")
MODALITY_STATE = Vocabulary(scene_pb2.ModalityState, types.ModalityState, "MODALITY_STATE")
STRATEGY = Vocabulary(scene_pb2.Strategy, types.Strategy, "STRATEGY")
CALIBRATION = Vocabulary(scene_pb2.Calibration, types.Calibration, "CALIBRATION")


def join(path: str, name: str) -> str:
    """The path of a field of the message at this path; the root's path is empty."""
    return f"{path}.{name}" if path else name


def require(message: Message, name: str, path: str) -> None:
    """Refuses a message whose field of this name is not set."""
    if not message.HasField(name):
        raise InvalidInput.at(join(path, name), "missing")


def check_count(count: int, path: str, limit: int, unit: str) -> None:
    """Refuses more than the limit."""
    if count > limit:
        raise LimitExceeded.of(path, value=count, limit=limit, unit=unit)


def check_unique(values: Collection[object], path: str, field: str = "") -> None:
    """Refuses a value that is there twice; `field` is the rest of each one's path."""
    if len(set(values)) == len(values):
        return
    first: dict[object, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            raise InvalidInput.at(f"{path}[{index}]{field}", f"{value} is already at [{first[value]}]")


def decode_run_state(number: int, path: str) -> types.RunState:
    """How far long work of an answer has come; a state that only a newer server knows counts as running."""
    return RUN_STATE.find(number, path) or types.RunState.RUNNING


def decode_text(text: str, path: str, max_bytes: int) -> str:
    """A sentence: within the limit, not blank, without control characters but tabs and line breaks."""
    check_count(len(text.encode()), path, max_bytes, "bytes")
    if found := _CONTROL_IN_TEXT.search(text):
        raise InvalidInput.at(path, f"control character {found.group()!r} at {found.start()}")
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise InvalidInput.at(path, "blank, needs words" if text else "empty, needs words")
    return text


def decode_texts(texts: Collection[str], path: str, limits: Limits) -> tuple[str, ...]:
    """Sentences."""
    check_count(len(texts), path, limits.max_texts, "texts")
    return tuple(
        decode_text(text, f"{path}[{index}]", limits.max_text_bytes) for index, text in enumerate(texts)
    )


def decode_name(name: str, path: str, limits: Limits) -> str:
    """An id, label or key: 1 byte to the limit, no control characters."""
    if not name:
        raise InvalidInput.at(path, "empty, needs a name")
    return decode_optional_name(name, path, limits)


def decode_optional_name(name: str, path: str, limits: Limits) -> str:
    """A name that may be empty."""
    check_count(len(name.encode()), path, limits.max_name_bytes, "bytes")
    if found := _CONTROL.search(name):
        raise InvalidInput.at(path, f"control character {found.group()!r} at {found.start()}")
    return name


def decode_names(names: Collection[str], path: str, max_count: int, limits: Limits) -> tuple[str, ...]:
    """Names, none of them twice."""
    check_count(len(names), path, max_count, "names")
    checked = tuple(decode_name(name, f"{path}[{index}]", limits) for index, name in enumerate(names))
    check_unique(checked, path)
    return checked


def decode_metadata(metadata: Mapping[str, str], path: str, limits: Limits) -> dict[str, str]:
    """The caller's own keys; values may be empty."""
    check_count(len(metadata), path, limits.max_metadata_entries, "entries")
    for key, value in metadata.items():
        decode_name(key, path, limits)
        check_count(len(value.encode()), f'{path}["{key}"]', limits.max_metadata_value_bytes, "bytes")
        if "\0" in value:
            raise InvalidInput.at(f'{path}["{key}"]', f"NUL character at {value.index(chr(0))}")
    return dict(metadata)


def decode_model_id(model_id: str, path: str) -> str:
    """A model's digest, or nothing."""
    if model_id and not _MODEL_ID.fullmatch(model_id):
        raise InvalidInput.at(path, f"{model_id[:80]!r}, needs 64 digits of 0-9a-f")
    return model_id


def decode_reindex_id(reindex_id: str, path: str) -> str:
    """A reindex's name."""
    if not _REINDEX_ID.fullmatch(reindex_id):
        raise InvalidInput.at(path, f"{reindex_id[:80]!r}, needs 1 to 64 characters of a-z0-9-")
    return reindex_id


def decode_number(value: float, path: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from low to high."""
    if not math.isfinite(value):
        raise InvalidInput.at(path, f"{value}, needs a finite number")
    if not low <= value <= high:
        wanted = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise InvalidInput.at(path, f"{value:g}, needs {wanted}")
    return value


def decode_optional_count(count: int, path: str, limit: int, unit: str) -> int | None:
    """A count, or None for 0: the server's default."""
    check_count(count, path, limit, unit)
    return count or None


def decode_time(stamp: Timestamp, path: str) -> datetime:
    """A moment to the microsecond; what is finer is cut off."""
    if not _MIN_S <= stamp.seconds <= _MAX_S:
        raise InvalidInput.at(f"{path}.seconds", f"{stamp.seconds}, needs the years 1 to 9999")
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidInput.at(f"{path}.nanos", f"{stamp.nanos}, needs 0 to 999999999")
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def decode_optional_time(message: Message, name: str, path: str) -> datetime | None:
    """The moment in the field of this name, if it is set."""
    return decode_time(getattr(message, name), join(path, name)) if message.HasField(name) else None


def encode_time(moment: datetime | None) -> Timestamp | None:
    """A moment as messages hold it."""
    if moment is None:
        return None
    require_aware(moment, "time")
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
