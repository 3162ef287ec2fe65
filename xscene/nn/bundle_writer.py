"""Writing bundles: all or nothing, and never over another one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from xscene.errors import AlreadyExists, BundleInvalid, InvalidInput, NotFound
from xscene.files import file_digest, sync_directory, write_file
from xscene.nn.bundle import Bundle, identities, open_bundle
from xscene.nn.manifest import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    SECTIONS,
    BackboneRef,
    Json,
    Manifest,
    Section,
    canonical,
    load_json,
    parse,
    seal,
    to_json,
)


@dataclass(frozen=True, kw_only=True)
class SectionContent:
    """What one section is to hold."""

    schema: str
    config: Mapping[str, Json]
    tensors: Mapping[str, Tensor]
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    backbone: BackboneRef | None = None


@dataclass(frozen=True, kw_only=True)
class BundleContent:
    """What a bundle is to hold."""

    name: str
    preset: str
    width: int
    trained: bool
    sections: Mapping[str, SectionContent]
    metrics: Mapping[str, Json] = field(default_factory=dict)
    notes: str = ""
    parents: tuple[str, ...] = ()
    created_at: datetime | None = None
    """None: now."""


def write_bundle(content: BundleContent, directory: Path) -> Bundle:
    """Write a bundle; one that is there with the same content is kept, any other is refused."""
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    # A leading dot: not a bundle's name, so nothing takes what a crash leaves behind for a bundle.
    staging = directory.parent / f".{directory.name}.{uuid.uuid4().hex}.tmp"
    staging.mkdir()
    try:
        manifest = _fill(staging, content)
        return _standing(directory, manifest) or _publish(staging, directory, manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fill(staging: Path, content: BundleContent) -> Manifest:
    """Write all files of the bundle and have them on disk."""
    if unknown := sorted(set(content.sections) - set(SECTIONS)):
        raise InvalidInput.at("sections", f"unknown {', '.join(unknown)}; known are {', '.join(SECTIONS)}")
    try:
        sections = {name: _write_section(staging, name, each) for name, each in content.sections.items()}
        manifest = _manifest(staging, content, sections)
    except BundleInvalid as error:
        raise BundleInvalid(f"bundle {content.name}: {error}") from error
    text = json.dumps(to_json(manifest), indent=2, sort_keys=True) + "\n"
    write_file(staging / MANIFEST_FILE, text.encode("ascii"))
    sync_directory(staging)
    return manifest


def _write_section(staging: Path, name: str, content: SectionContent) -> Section:
    """Write the tensors of a section."""
    path = staging / f"{name}.safetensors"
    # Cloned, because tensors that share memory cannot be saved side by side.
    tensors = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in content.tensors.items()
    }
    write_file(path, save(tensors))
    return Section(
        schema=content.schema,
        file=path.name,
        sha256=file_digest(path),
        num_bytes=path.stat().st_size,
        config=content.config,
        preprocessing=content.preprocessing,
        backbone=content.backbone,
    )


def _manifest(staging: Path, content: BundleContent, sections: Mapping[str, Section]) -> Manifest:
    """The sealed manifest, taken through the reader's checks."""
    model_id, calibration_digest = identities(staging, sections)
    fields: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "name": content.name,
        "preset": content.preset,
        "width": content.width,
        "trained": content.trained,
        "model_id": model_id,
        "calibration_digest": calibration_digest,
        "sections": {name: dataclasses.asdict(section) for name, section in sections.items()},
        "metrics": content.metrics,
        "notes": content.notes,
        "parents": content.parents,
        "created_at": (content.created_at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
    }
    # Through JSON, so that digests and checks are of what a reader will see.
    fields = {name: load_json(canonical(value, name), name) for name, value in fields.items()}
    return parse({**fields, "manifest_digest": seal(fields)})


def _standing(directory: Path, manifest: Manifest) -> Bundle | None:
    """The bundle that is there already, if it is the same; only created_at may differ."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    try:
        standing = open_bundle(directory)
    except (BundleInvalid, NotFound) as error:
        raise AlreadyExists(f"{directory.name} is there and is no valid bundle: {error}") from error
    differing = [
        name
        for name, value in to_json(manifest).items()
        if name not in ("created_at", "manifest_digest") and value != to_json(standing.manifest)[name]
    ]
    if differing:
        raise AlreadyExists(f"bundle {directory.name} is there and differs in {', '.join(differing)}")
    return standing


def _publish(staging: Path, directory: Path, manifest: Manifest) -> Bundle:
    """Give the finished directory its name, which fails where another writer was first."""
    try:
        staging.replace(directory)
    except OSError:
        if standing := _standing(directory, manifest):
            return standing
        raise
    sync_directory(directory.parent)
    return Bundle(directory, manifest)
