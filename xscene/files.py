"""Files and directories that a crash leaves whole or absent, and the digests of files."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

# A leading dot: no name of content, so nothing takes what a crash leaves behind for content.
STAGING_PREFIX, STAGING_SUFFIX = ".", ".tmp"
NONCE_LENGTH = 32


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file and have it on disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file aside and give it its name, over the one that had it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _aside(path)
    try:
        write_file(staging, data)
        staging.replace(path)
        sync_directory(path.parent)
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_directory(target: Path) -> Iterator[Path]:
    """An empty directory aside, which takes the target's name and place when the block has filled it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = _aside(target)
    staging.mkdir()
    try:
        yield staging
        sync_directory(staging)
        if target.exists():
            # No name can be given over a directory that holds files, so the old one steps aside first.
            target.replace(_aside(target))
        staging.replace(target)
        sync_directory(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sweep(target.parent, target.name)


def sweep(directory: Path, name: str | None = None) -> None:
    """Remove what interrupted writers left aside, of one name or of all; for whoever alone writes it."""
    wanted = "*" if name is None else glob.escape(name)
    for left in directory.glob(f"{STAGING_PREFIX}{wanted}.{'?' * NONCE_LENGTH}{STAGING_SUFFIX}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _aside(target: Path) -> Path:
    return target.with_name(f"{STAGING_PREFIX}{target.name}.{uuid.uuid4().hex}{STAGING_SUFFIX}")
