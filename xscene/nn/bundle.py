"""Bundles on disk: opening, verifying and loading a directory of a manifest and tensor files."""

from __future__ import annotations

import contextlib
import hashlib
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from xscene.errors import BundleInvalid, NotFound
from xscene.files import file_digest
from xscene.nn.manifest import (
    CALIBRATION,
    MANIFEST_FILE,
    MAX_BUNDLE_BYTES,
    MAX_MANIFEST_BYTES,
    Manifest,
    Section,
    canonical,
    load_json,
    parse,
    seal,
    to_json,
)

_IDENTITY_DOMAIN = b"xscene bundle identity 1"
_CHUNK_BYTES = 4 << 20
_LENGTH_BYTES = 8
# Float dtypes map to the unsigned view and the exponent bits, which are all set where a number is not finite.
_EXPONENTS: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
_DTYPES = frozenset({*_EXPONENTS, "I64", "I32", "I16", "I8", "U8", "BOOL"})


class _Sink(Protocol):
    """The part of a hash that takes bytes."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""


@dataclass(frozen=True)
class _Span:
    """A tensor's place in its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start_byte: int
    num_bytes: int


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; its directory is never changed in place, so tensors are read when asked for."""

    directory: Path
    manifest: Manifest

    @property
    def model_id(self) -> str:
        """Identity of everything that decides what the vectors are."""
        return self.manifest.model_id

    @property
    def model_version(self) -> str:
        """The identity as an integer version."""
        return model_version(self.manifest.model_id)

    def section(self, name: str, *, schema: str | None = None) -> Section:
        """A section that must be there, and of this schema if one is given."""
        found = self.manifest.sections.get(name)
        if found is None:
            there = ", ".join(sorted(self.manifest.sections))
            raise self.invalid(name, f"the bundle has none, it has {there}")
        if schema is not None and found.schema != schema:
            raise self.invalid(name, f"unknown schema {found.schema}, this code reads {schema}")
        return found

    def tensors(self, section: str, *, device: str = "cpu") -> dict[str, Tensor]:
        """The tensors of a section, by name."""
        path = self.directory / self.section(section).file
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def num_parameters(self, section: str) -> int:
        """How many numbers the tensors of a section hold."""
        return sum(math.prod(span.shape) for span in _spans(self.directory / self.section(section).file))

    def load_module_strict(self, module: nn.Module, section: str) -> None:
        """Copy a section into a module of exactly its names, shapes and dtypes."""
        found, wanted = self.tensors(section), module.state_dict()
        if missing := sorted(set(wanted) - set(found)):
            raise self.invalid(section, f"missing tensors: {', '.join(missing)}")
        if unexpected := sorted(set(found) - set(wanted)):
            raise self.invalid(section, f"unexpected tensors: {', '.join(unexpected)}")
        for name, tensor in found.items():
            has, needs = _form(tensor), _form(wanted[name])
            if has != needs:
                raise self.invalid(section, f"tensor {name} is {has}, the module has {needs}")
        module.load_state_dict(found, strict=True)

    def invalid(self, section: str, description: str) -> BundleInvalid:
        """An error that names bundle and section."""
        return BundleInvalid(f"bundle {self.directory.name}: section {section}: {description}")


def model_version(model_id: str) -> str:
    """The model_id as the integer version that model repositories take: its first 60 bits, decimal."""
    return str(int(model_id[:15], 16))


def open_bundle(
    directory: Path,
    *,
    max_bytes: int = MAX_BUNDLE_BYTES,
    max_manifest_bytes: int = MAX_MANIFEST_BYTES,
) -> Bundle:
    """The bundle in a directory, after every byte of it was verified."""
    if not directory.is_dir():
        raise NotFound(f"bundle {directory.name}: there is no such directory")
    try:
        manifest = _read_manifest(directory / MANIFEST_FILE, max_manifest_bytes)
        _check_files(directory, manifest, max_bytes)
        _check_identity(directory, manifest)
    except BundleInvalid as error:
        raise BundleInvalid(f"bundle {directory.name}: {error}") from error
    except OSError as error:
        raise BundleInvalid(f"bundle {directory.name}: cannot be read: {error.strerror}") from error
    return Bundle(directory, manifest)


def identity(directory: Path, sections: Mapping[str, Section]) -> str:
    """SHA-256 over settings and tensors of the sections, which are checked to be finite on the way."""
    digest = hashlib.sha256()
    _feed(digest, _IDENTITY_DOMAIN)
    for name in sorted(sections):
        section = sections[name]
        with _named(f"section {name}"):
            spans = _spans(directory / section.file)
            settings = {
                "section": name,
                "schema": section.schema,
                "config": section.config,
                "preprocessing": section.preprocessing,
                "backbone_digest": section.backbone.digest if section.backbone else None,
                "num_tensors": len(spans),
            }
            _feed(digest, canonical(settings, "settings"))
            with (directory / section.file).open("rb") as file:
                for span in spans:
                    _feed_tensor(digest, file, span)
    return digest.hexdigest()


def identities(directory: Path, sections: Mapping[str, Section]) -> tuple[str, str | None]:
    """model_id over all sections but calibration, and the digest of calibration where there is one."""
    model = {name: section for name, section in sections.items() if name != CALIBRATION}
    calibration = {name: section for name, section in sections.items() if name == CALIBRATION}
    return identity(directory, model), identity(directory, calibration) if calibration else None


def _read_manifest(path: Path, max_bytes: int) -> Manifest:
    """The manifest of a bundle, its fields checked."""
    if not path.is_file() or path.is_symlink():
        raise BundleInvalid(f"{path.name}: torn, there is no such file")
    num_bytes = path.stat().st_size
    if num_bytes > max_bytes:
        raise BundleInvalid(f"{path.name}: {num_bytes} bytes, the limit is {max_bytes}")
    return parse(load_json(path.read_bytes(), path.name))


def _check_files(directory: Path, manifest: Manifest, max_bytes: int) -> None:
    """The files are those of the manifest, whole and unchanged."""
    present = {path.name: path.lstat() for path in directory.iterdir()}
    wanted = {section.file for section in manifest.sections.values()}
    if extra := sorted(set(present) - wanted - {MANIFEST_FILE}):
        raise BundleInvalid(f"files that the manifest does not name: {', '.join(extra)}")
    for name, section in manifest.sections.items():
        found = present.get(section.file)
        with _named(f"section {name}"):
            if found is None:
                raise BundleInvalid(f"torn, file {section.file} is missing")
            if not stat.S_ISREG(found.st_mode):
                raise BundleInvalid(f"{section.file} is not a regular file")
            if found.st_size != section.num_bytes:
                what = "torn" if found.st_size < section.num_bytes else "tampered"
                sizes = f"{found.st_size} bytes, the manifest says {section.num_bytes}"
                raise BundleInvalid(f"{what}, {section.file} has {sizes}")
    num_bytes = sum(section.num_bytes for section in manifest.sections.values())
    if num_bytes > max_bytes:
        raise BundleInvalid(f"tensor files: {num_bytes} bytes, the limit is {max_bytes}")
    for name, section in manifest.sections.items():
        with _named(f"section {name}"):
            _check_same(section.file, file_digest(directory / section.file), section.sha256)


def _check_identity(directory: Path, manifest: Manifest) -> None:
    """The identities are those of the content, and the manifest is as it was written."""
    model_id, calibration_digest = identities(directory, manifest.sections)
    _check_same("model_id", model_id, manifest.model_id)
    _check_same("calibration_digest", calibration_digest, manifest.calibration_digest)
    _check_same("manifest_digest", seal(to_json(manifest)), manifest.manifest_digest)


def _check_same(where: str, found: str | None, wanted: str | None) -> None:
    """Refuse content whose digest is not the one of the manifest."""
    if found != wanted:
        raise BundleInvalid(f"{where}: tampered, the manifest says {wanted}, the content gives {found}")


def _spans(path: Path) -> list[_Span]:
    """The tensors of a file by name; the header is validated by safetensors first."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise BundleInvalid(f"{path.name} is no safetensors file: {error}") from error
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = load_json(file.read(header_bytes), path.name)
    assert isinstance(header, dict)
    spans = [
        _Span(name, entry["dtype"], tuple(entry["shape"]), first + _LENGTH_BYTES + header_bytes, last - first)
        for name, entry in sorted(header.items())
        if name != "__metadata__"
        for first, last in [entry["data_offsets"]]
    ]
    if not spans:
        raise BundleInvalid(f"{path.name} holds no tensor")
    for span in spans:
        if span.dtype not in _DTYPES:
            raise BundleInvalid(
                f"tensor {span.name}: dtype {span.dtype}, known are {', '.join(sorted(_DTYPES))}"
            )
    return spans


def _feed_tensor(digest: _Sink, file: BinaryIO, span: _Span) -> None:
    """Hash a tensor in chunks; a number that is not finite is refused."""
    _feed(digest, span.name.encode())
    _feed(digest, span.dtype.encode())
    _feed(digest, canonical(span.shape))
    digest.update(span.num_bytes.to_bytes(_LENGTH_BYTES, "little"))
    file.seek(span.start_byte)
    for start in range(0, span.num_bytes, _CHUNK_BYTES):
        chunk = file.read(min(_CHUNK_BYTES, span.num_bytes - start))
        if not _is_finite(chunk, span.dtype):
            raise BundleInvalid(f"tensor {span.name}: holds numbers that are not finite")
        digest.update(chunk)


def _feed(digest: _Sink, part: bytes) -> None:
    """Hash a part after its length, so that no two sequences of parts run together alike."""
    digest.update(len(part).to_bytes(_LENGTH_BYTES, "little"))
    digest.update(part)


def _is_finite(chunk: bytes, dtype: str) -> bool:
    """Whether no float of the chunk is infinite or NaN."""
    if dtype not in _EXPONENTS:
        return True
    view, exponent = _EXPONENTS[dtype]
    bits = np.frombuffer(chunk, view)
    return not bool(((bits & bits.dtype.type(exponent)) == exponent).any())


def _form(tensor: Tensor) -> str:
    """Dtype and shape of a tensor, in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the place in front of what is wrong with it."""
    try:
        yield
    except BundleInvalid as error:
        raise BundleInvalid(f"{where}: {error}") from error
