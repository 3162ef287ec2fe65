"""System shared memory: regions that belong to the credential that registered them.

Data are copied out of a region before they are checked and into it when they are final. A mapping
would save the copy, but its owner may change the data after they were checked, or cut the object
short, which ends a process that has it mapped.
"""

from __future__ import annotations

import os
import stat
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xscene.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unsupported,
)

DIRECTORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies
MAX_KEY_CHARS = 255
# Opening what is no shared memory must neither wait nor lead elsewhere.
OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Region:
    """A part of a shared memory object; closed when nobody refers to it any more."""

    def __init__(self, name: str, key: str, offset: int, num_bytes: int, file: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.num_bytes = num_bytes
        self._file = file
        weakref.finalize(self, os.close, file)

    def place(self, field: str, offset: int, num_bytes: int) -> Place:
        """A part of the region that a tensor is in."""
        if offset < 0 or num_bytes < 0 or offset + num_bytes > self.num_bytes:
            raise InvalidInput.at(
                field,
                f"{num_bytes} bytes at offset {offset} of shared memory region {self.name!r}, "
                f"which has {self.num_bytes} bytes",
            )
        return Place(self, field, offset, num_bytes)

    def read(self, offset: int, num_bytes: int) -> NDArray[np.uint8] | None:
        """A copy of the bytes; None when the object is shorter than it was."""
        data = np.empty(num_bytes, np.uint8)
        num_read = os.preadv(self._file, [data.data], self.offset + offset) if num_bytes else 0
        return data if num_read == num_bytes else None

    def write(self, offset: int, data: bytes) -> bool:
        """Copy bytes into the object; False when it may only be read or has no room."""
        try:
            return os.pwrite(self._file, data, self.offset + offset) == len(data)
        except OSError:
            return False


@dataclass(frozen=True)
class Place:
    """Where in shared memory a tensor is, or is to be written."""

    region: Region
    field: str
    offset: int
    num_bytes: int

    def read(self, max_bytes: int) -> NDArray[np.uint8]:
        """A copy of the tensor's bytes."""
        if self.num_bytes > max_bytes:
            raise LimitExceeded.of(self.field, value=self.num_bytes, limit=max_bytes, unit="bytes")
        data = self.region.read(self.offset, self.num_bytes)
        if data is None:
            raise InvalidInput.at(
                self.field, f"the object of shared memory region {self.region.name!r} became shorter"
            )
        return data

    def write(self, data: bytes) -> None:
        """Copy the tensor's bytes to their place."""
        if len(data) > self.num_bytes:
            raise InvalidInput.at(
                self.field, f"the tensor has {len(data)} bytes, its place in shared memory {self.num_bytes}"
            )
        if not self.region.write(self.offset, data):
            raise InvalidInput.at(self.field, f"shared memory region {self.region.name!r} cannot be written")


class Regions:
    """The regions that are registered; nobody sees those of another credential."""

    def __init__(self, *, enabled: bool, prefix: str, max_regions: int) -> None:
        self.enabled = enabled
        self._prefix = prefix
        self._max_regions = max_regions
        self._regions: dict[tuple[str, str], Region] = {}

    def register(self, owner: str, name: str, key: str, offset: int, num_bytes: int) -> None:
        """Make a part of a shared memory object known by a name."""
        self._check_enabled()
        if not name:
            raise InvalidInput.at("name", "is empty")
        if (owner, name) in self._regions:
            raise AlreadyExists(f"name: shared memory region {name!r} is registered")
        if len(self._regions) >= self._max_regions:
            raise Overloaded(
                f"{len(self._regions)} shared memory regions are registered, "
                f"the limit max_shared_memory_regions is {self._max_regions}"
            )
        file = _open_file(self._checked(key))
        self._regions[owner, name] = _region(file, name, key, offset, num_bytes)

    def unregister(self, owner: str, name: str) -> None:
        """Forget a region, or with an empty name all of the owner's."""
        self._check_enabled()
        for known in [known for known in self._regions if known[0] == owner and name in ("", known[1])]:
            del self._regions[known]

    def status(self, owner: str, name: str) -> list[Region]:
        """The owner's region of this name, or with an empty name all of them."""
        self._check_enabled()
        if name:
            return [self.find(owner, name)]
        return [region for (known, _), region in self._regions.items() if known == owner]

    def find(self, owner: str, name: str) -> Region:
        """A region of the owner's."""
        self._check_enabled()
        region = self._regions.get((owner, name))
        if region is None:
            raise NotFound(f"shared memory region {name!r} is not registered")
        return region

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Unsupported("shared memory is off; the setting shared_memory turns it on")

    def _checked(self, key: str) -> str:
        bare = key.lstrip("/")
        if not bare.startswith(self._prefix):
            raise PermissionDenied(f"key: keys must begin with {self._prefix!r}")
        if "/" in bare or "\0" in bare or bare in (".", "..") or len(bare) > MAX_KEY_CHARS:
            raise InvalidInput.at("key", "is no name of a shared memory object")
        return bare


def _region(file: int, name: str, key: str, offset: int, num_bytes: int) -> Region:
    region, found = Region(name, key, offset, num_bytes, file), os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput.at("key", "is no shared memory object")
    if num_bytes <= 0 or offset + num_bytes > found.st_size:
        raise InvalidInput.at(
            "byte_size", f"{num_bytes} bytes at offset {offset}, the object has {found.st_size} bytes"
        )
    return region


def _open_file(key: str) -> int:
    try:
        return os.open(DIRECTORY / key, os.O_RDWR | OPEN_FLAGS)
    except PermissionError:
        pass
    except OSError:
        raise NotFound(f"key: there is no shared memory object {key!r}") from None
    try:
        return os.open(DIRECTORY / key, os.O_RDONLY | OPEN_FLAGS)
    except OSError:
        raise PermissionDenied(f"key: the service may not open shared memory object {key!r}") from None
