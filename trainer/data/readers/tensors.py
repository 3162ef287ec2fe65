"""Files of arrays: torch's under an allow-list, and numpy's; nothing in them is ever run."""

from __future__ import annotations

import io
import math
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.readers.archives import ARCHIVE_LIMITS, open_archive
from trainer.data.readers.files import file_bytes, read_bytes, shown
from xscene.errors import InvalidInput, LimitExceeded

MAX_TENSOR_BYTES = 8 << 30
ZIP_START = b"PK\3\4"
NUMBERS = "biufc"
SIGNED = ("Int8", "Int16", "Int32", "Int64")
NUMBER_TYPES = ("Bool", *SIGNED, *(f"U{kind}" for kind in SIGNED), "Float16", "Float32", "Float64")
# What torch raises at files that are torn, by the place where they are.
TORN = (
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OSError,
    MemoryError,
    AssertionError,
    ImportError,
)
# Torch keeps what it allows in one table of the process.
_ALLOWING = threading.Lock()

Allowed: TypeAlias = Callable[..., Any] | tuple[Callable[..., Any], str]


def allowed() -> list[Allowed]:
    """What a torch file may hold beyond torch's own: numpy arrays and numbers of both numpy generations."""
    from numpy._core import multiarray

    makers = (multiarray._reconstruct, multiarray.scalar)
    return [
        *makers,
        *((maker, f"numpy.core.multiarray.{maker.__name__}") for maker in makers),
        np.ndarray,
        np.dtype,
        *(getattr(np.dtypes, f"{kind}DType") for kind in NUMBER_TYPES),
    ]


def read_torch(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> Any:
    """What a torch file holds: tensors, arrays of numbers, texts, numbers, lists, tuples and dicts of them.

    Refuses a file with anything else before it is made, and one whose tensors are larger than the limit.
    """
    file_bytes(path, max_bytes=max_bytes)
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP_START)) == ZIP_START
    if is_zip:
        limits = replace(
            ARCHIVE_LIMITS, max_bytes=max_bytes, max_member_bytes=max_bytes, max_total_bytes=max_bytes
        )
        open_archive(path, limits=limits)
    try:
        with _ALLOWING, torch.serialization.safe_globals(allowed()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidInput.at(path.name, f"holds what may not be loaded: {_reason(error)}") from error
    except TORN as error:
        raise InvalidInput.at(path.name, f"is no torch file, or a torn one: {_reason(error)}") from error
    _check(found, path.name, max_bytes)
    return found


def _reason(error: BaseException) -> str:
    """What is wrong, without torch's advice on how to load it all the same."""
    text = str(error.__context__ or error).partition(" Please ")[0]
    return shown(next(iter(text.splitlines()), type(error).__name__))


def _check(found: Any, name: str, max_bytes: int) -> None:
    """Refuses objects in arrays, and arrays that are larger than what the file can hold."""
    seen: set[int] = set()
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
        elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in NUMBERS:
            raise InvalidInput.at(name, f"holds an array of {value.dtype}, needs numbers")
        # A tensor may repeat one number without end.
        elif isinstance(value, torch.Tensor | np.ndarray) and value.nbytes > max_bytes:
            raise LimitExceeded.of(name, value=value.nbytes, limit=max_bytes, unit="bytes")


def array_of(value: Any, where: str, shape: tuple[int | None, ...], kinds: str) -> NDArray[Any]:
    """A tensor or array as an array of this shape and of one of these kinds of numbers."""
    try:
        found = value.detach().numpy() if isinstance(value, torch.Tensor) else value
    except (TypeError, RuntimeError) as error:
        raise InvalidInput.at(where, f"is a tensor of {value.dtype}, which numpy does not have") from error
    if not isinstance(found, np.ndarray):
        raise InvalidInput.at(where, f"is a {type(value).__name__}, needs an array")
    fits = found.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype.kind not in kinds:
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        raise InvalidInput.at(
            where, f"shape {list(found.shape)} of {found.dtype}, needs [{sides}] of {kinds}"
        )
    return found


def read_npz(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by name."""
    limits = replace(
        ARCHIVE_LIMITS, max_bytes=max_bytes, max_member_bytes=max_bytes, max_total_bytes=max_bytes
    )
    archive = open_archive(path, limits=limits)
    return {
        name.removesuffix(".npy"): npy_of(archive.read(name), f"{path.name}/{name}")
        for name in archive.members
    }


def read_npy(path: Path, *, max_bytes: int = MAX_TENSOR_BYTES) -> NDArray[Any]:
    """An array of numbers."""
    return npy_of(read_bytes(path, max_bytes=max_bytes), path.name)


def npy_of(data: bytes, where: str) -> NDArray[Any]:
    """The array of numbers that numpy's file format holds; refuses objects, and a shape that does not fit."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, kind = read(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError) as error:
        raise InvalidInput.at(where, f"is no array file: {_reason(error)}") from error
    if kind.kind not in NUMBERS:
        raise InvalidInput.at(where, f"holds an array of {kind}, needs numbers")
    left = len(data) - stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != left:
        raise InvalidInput.at(where, f"{left} bytes for shape {list(shape)} of {kind}")
    values = np.frombuffer(data, dtype=kind, offset=stream.tell())
    return values.reshape(shape, order="F" if by_columns else "C").copy()
