"""Vectors and dense arrays.

Shapes: D embedding width, M rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xscene.codec.fields import MODALITY, SPACE, check_count, join
from xscene.codec.limits import Limits
from xscene.errors import InvalidInput
from xscene.types import Embedding, Modality, Space
from xscene.types.values import Float32Array, Uint32Array
from xscene.v1 import common_pb2

_DTYPES: dict[common_pb2.DataType, np.dtype[Any]] = {
    common_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    common_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    common_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    common_pb2.DATA_TYPE_UINT32: np.dtype("<u4"),
    common_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


def check_finite(values: NDArray[Any], path: str, unit: str = "values") -> None:
    """Refuses rows that are not finite; names the first and how many there are."""
    if np.isfinite(values).all():
        return
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    raise InvalidInput.at(path, f"{len(bad)} of {len(values)} {unit} are not finite, the first at {bad[0]}")


def decode_vector(values: Collection[float], path: str, limits: Limits) -> Float32Array:
    """A vector (D,) that has a direction."""
    if not values:
        raise InvalidInput.at(path, "empty, needs numbers")
    check_count(len(values), path, limits.max_embedding_width, "numbers")
    vector = np.fromiter(values, np.float32, len(values))
    check_finite(vector, path, "numbers")
    if not vector.any():
        raise InvalidInput.at(path, f"all {len(vector)} numbers are 0, needs a direction")
    return vector


def decode_tensor(
    tensor: common_pb2.Tensor, path: str, dtype: type[np.generic], shape: Sequence[int | None]
) -> NDArray[Any]:
    """A view of the array's bytes, of this type and shape, finite; None stands for any length."""
    wanted = np.dtype(dtype).newbyteorder("<")
    if _DTYPES.get(tensor.data_type) != wanted:
        known = common_pb2.DataType.Name(_NUMBERS[wanted])
        raise InvalidInput.at(join(path, "data_type"), f"{tensor.data_type}, needs {known}")
    got = tuple(tensor.shape)
    fits = len(got) == len(shape) and all(
        size >= 0 and size == (size if want is None else want) for size, want in zip(got, shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("any" if want is None else str(want) for want in shape)
        raise InvalidInput.at(join(path, "shape"), f"{list(got)}, needs [{sizes}]")
    num_bytes = math.prod(got) * wanted.itemsize
    if len(tensor.data) != num_bytes:
        raise InvalidInput.at(
            join(path, "data"), f"{len(tensor.data)} bytes, shape {list(got)} needs {num_bytes}"
        )
    array = np.frombuffer(tensor.data, wanted).reshape(got)
    if array.dtype.kind == "f":
        check_finite(array, join(path, "data"), "rows")
    return array


def encode_tensor(array: NDArray[Any]) -> common_pb2.Tensor:
    """An array as bytes, C order, little-endian."""
    wire = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return common_pb2.Tensor(data_type=_NUMBERS[wire.dtype], shape=wire.shape, data=wire.tobytes())


def decode_rows(rows: Collection[int], num_objects: int, path: str) -> Uint32Array:
    """Indices (M,) of objects, ascending."""
    check_count(len(rows), path, num_objects, "rows")
    if not rows:
        raise InvalidInput.at(path, "empty, needs rows")
    indices = np.fromiter(rows, np.uint32, len(rows))
    falls = np.flatnonzero(indices[1:] <= indices[:-1])
    if len(falls):
        at = int(falls[0]) + 1
        raise InvalidInput.at(f"{path}[{at}]", f"{indices[at]} after {indices[at - 1]}, needs ascending rows")
    if indices[-1] >= num_objects:
        raise InvalidInput.at(f"{path}[{len(rows) - 1}]", f"{indices[-1]}, there are {num_objects} objects")
    return indices


def decode_embedding(
    message: common_pb2.Embedding, path: str, limits: Limits, *, space: Space | None = None
) -> Embedding:
    """One vector; where a space is expected, it may be left out but not be another one."""
    modality = MODALITY.decode(message.modality, join(path, "modality"))
    found = SPACE.decode(message.space, join(path, "space"), default=space)
    if space is not None and found is not space:
        raise InvalidInput.at(join(path, "space"), f"{found}, needs {space}")
    return Embedding(
        modality=modality, space=found, values=decode_vector(message.values, join(path, "values"), limits)
    )


def decode_embeddings(
    messages: Sequence[common_pb2.Embedding], path: str, limits: Limits, *, space: Space | None = None
) -> tuple[Embedding, ...]:
    """Vectors of one width, none of one modality and space twice."""
    check_count(len(messages), path, len(Modality) * len(Space), "embeddings")
    found: dict[tuple[Modality, Space], int] = {}
    embeddings: list[Embedding] = []
    for index, message in enumerate(messages):
        embedding = decode_embedding(message, f"{path}[{index}]", limits, space=space)
        first = found.setdefault((embedding.modality, embedding.space), index)
        if first != index:
            raise InvalidInput.at(
                f"{path}[{index}].modality", f"{embedding.modality} is already at [{first}]"
            )
        embeddings.append(embedding)
        check_width(len(embedding.values), len(embeddings[0].values), f"{path}[{index}].values")
    return tuple(embeddings)


def check_width(width: int, wanted: int, path: str) -> None:
    """Refuses a vector of another width than the first of its request."""
    if width != wanted:
        raise InvalidInput.at(path, f"{width} numbers, the first vector has {wanted}")


def encode_embedding(embedding: Embedding) -> common_pb2.Embedding:
    """One vector."""
    return common_pb2.Embedding(
        modality=MODALITY.encode(embedding.modality),
        space=SPACE.encode(embedding.space),
        values=embedding.values.tolist(),
    )
