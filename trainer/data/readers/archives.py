"""Zip files, whose members are read into memory one at a time; nothing is unpacked to disk.

The directory at the end of the file is held against the limits before any member is read. An archive
keeps no file open, so that it may pass to other processes.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainer.data.readers.files import file_bytes, shown
from xscene.errors import InvalidInput, LimitExceeded, NotFound

ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Records at the end of the file, the second of archives past 4 GiB or 65535 members, and before each member.
END, END_BYTES, MAX_COMMENT_BYTES = b"PK\5\6", 22, 0xFFFF
LARGE_END, LARGE_END_BYTES, LOCATOR_BYTES = b"PK\6\6", 56, 20
LOCAL, LOCAL_BYTES = b"PK\3\4", 30
SMALL_BYTES = 1 << 20
# A directory entry holds 46 bytes, a name and extras; no writer of data sets needs more.
MAX_ENTRY_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may hold."""

    max_bytes: int = 64 << 30
    max_members: int = 200_000
    max_member_bytes: int = 1 << 30
    max_total_bytes: int = 256 << 30
    max_ratio: int = 200
    """Bytes of a member for each one in the file; members of less than 1 MiB may have more."""


ARCHIVE_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """Where a member lies, and what its bytes must come to."""

    offset: int
    packed_bytes: int
    num_bytes: int
    crc: int
    deflated: bool


@dataclass(frozen=True, eq=False)
class Archive:
    """An archive that kept to its limits."""

    path: Path
    members: Mapping[str, Member]

    def read(self, name: str) -> bytes:
        """A member whole."""
        where = f"{self.path.name}/{name}"
        if (member := self.members.get(name)) is None:
            raise NotFound(f"{where}: there is no such member")
        with self.path.open("rb") as file:
            file.seek(member.offset)
            head = file.read(LOCAL_BYTES)
            if len(head) < LOCAL_BYTES or not head.startswith(LOCAL):
                raise InvalidInput.at(where, "lies elsewhere than the archive says")
            file.seek(sum(struct.unpack_from("<HH", head, 26)), 1)
            data = _unpacked(file.read(member.packed_bytes), member, where)
        if len(data) != member.num_bytes or zlib.crc32(data) != member.crc:
            raise InvalidInput.at(where, "differs from what the archive says of it")
        return data


def _unpacked(packed: bytes, member: Member, where: str) -> bytes:
    if not member.deflated:
        return packed
    try:
        return inflated(packed, member.num_bytes, raw=True)
    except zlib.error as error:
        raise InvalidInput.at(where, f"cannot be unpacked: {error}") from error


def inflated(packed: bytes, num_bytes: int, *, raw: bool = False) -> bytes:
    """What was deflated, cut off one byte past the length that it should have."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
    return stream.decompress(packed, num_bytes + 1)


def open_archive(path: Path, *, limits: ArchiveLimits = ARCHIVE_LIMITS) -> Archive:
    """A zip file, refused where its directory is past a limit or names members that could harm."""
    size = file_bytes(path, max_bytes=limits.max_bytes)
    _check_directory(path, size, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            found = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise InvalidInput.at(path.name, f"is no zip file: {error}") from error
    members: dict[str, Member] = {}
    for info in found:
        _check_member(info, path.name, limits)
        if info.filename in members:
            raise InvalidInput.at(path.name, f"has member {shown(info.filename)} twice")
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        members[info.filename] = Member(
            info.header_offset, info.compress_size, info.file_size, info.CRC, deflated
        )
    _check_total(members, path.name, size, limits)
    return Archive(path, members)


def _check_directory(path: Path, size: int, limits: ArchiveLimits) -> None:
    """Refuses too many members before memory is taken for them."""
    with path.open("rb") as file:
        file.seek(max(0, size - END_BYTES - MAX_COMMENT_BYTES - LOCATOR_BYTES - LARGE_END_BYTES))
        tail = file.read()
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < END_BYTES:
        raise InvalidInput.at(path.name, "is no zip file, or was cut off")
    count, num_bytes = struct.unpack_from("<HI", tail, at + 10)
    large = at - LOCATOR_BYTES - LARGE_END_BYTES
    if large >= 0 and tail.startswith(LARGE_END, large):
        count, num_bytes = struct.unpack_from("<QQ", tail, large + 32)
    # The count is a claim; the bytes of the directory bound how many it can be.
    if count > limits.max_members or num_bytes > limits.max_members * MAX_ENTRY_BYTES:
        raise LimitExceeded.of(path.name, value=count, limit=limits.max_members, unit="members")


def _check_member(info: zipfile.ZipInfo, archive: str, limits: ArchiveLimits) -> None:
    where = f"{archive}/{info.filename[:80]}"
    parts = PurePosixPath(info.filename).parts
    if info.filename.startswith("/") or ".." in parts or set(info.filename) & set("\\:\0"):
        raise InvalidInput.at(archive, f"member {shown(info.filename)} leads out of the archive")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidInput.at(where, "is a link")
    if info.flag_bits & ENCRYPTED:
        raise InvalidInput.at(where, "is encrypted")
    if info.compress_type not in METHODS:
        raise InvalidInput.at(where, f"packed by method {info.compress_type}, needs stored or deflated")
    if info.file_size > limits.max_member_bytes:
        raise LimitExceeded.of(where, value=info.file_size, limit=limits.max_member_bytes, unit="bytes")
    if info.file_size > max(SMALL_BYTES, limits.max_ratio * info.compress_size):
        ratio = info.file_size // max(info.compress_size, 1)
        raise LimitExceeded.of(where, value=ratio, limit=limits.max_ratio, unit="bytes for each packed one")


def _check_total(members: Mapping[str, Member], name: str, size: int, limits: ArchiveLimits) -> None:
    if len(members) > limits.max_members:
        raise LimitExceeded.of(name, value=len(members), limit=limits.max_members, unit="members")
    if (total := sum(member.num_bytes for member in members.values())) > limits.max_total_bytes:
        raise LimitExceeded.of(name, value=total, limit=limits.max_total_bytes, unit="bytes")
    if (packed := sum(member.packed_bytes for member in members.values())) > size:
        raise InvalidInput.at(name, f"members of {packed} bytes overlap in a file of {size}")
