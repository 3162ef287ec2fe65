"""A bundle of a few numbers, and ways to damage it."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime

import torch

from xscene.nn.bundle_writer import BundleContent, SectionContent
from xscene.nn.manifest import BackboneRef, seal

WRITTEN_AT = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def content(**changes) -> BundleContent:
    image = SectionContent(
        schema="image/1",
        config={"widths": [3, 2], "slope": 0.1},
        tensors={
            "weight": torch.tensor([[1.0, -2.0, 0.5], [0.0, 4.0, 8.0]]),
            "bias": torch.tensor([0.25, -0.5]),
            "half": torch.tensor([1.5, 3.0], dtype=torch.bfloat16),
            "steps": torch.tensor(7),
        },
        preprocessing={"mean": [0.5, 0.25], "size_px": 224},
        backbone=BackboneRef(name="tiny", digest="ab" * 32),
    )
    fusion = SectionContent(schema="fusion/1", config={}, tensors={"w": torch.ones(2)})
    calibration = SectionContent(schema="calibration/1", config={}, tensors={"knots": torch.zeros(3)})
    fields = {
        "name": "tiny",
        "preset": "small",
        "width": 2,
        "trained": True,
        "sections": {"image": image, "fusion": fusion, "calibration": calibration},
        "metrics": {"recall_at_1": 0.5},
        "notes": "a note",
        "parents": ("cd" * 32,),
        "created_at": WRITTEN_AT,
    }
    return BundleContent(**(fields | changes))


def with_section(name, **changes) -> BundleContent:
    whole = content()
    section = dataclasses.replace(whole.sections[name], **changes)
    return dataclasses.replace(whole, sections={**whole.sections, name: section})


def with_tensor(section, name, tensor) -> BundleContent:
    return with_section(section, tensors={**content().sections[section].tensors, name: tensor})


def edit(directory, change, *, sealed=True) -> None:
    """Change the manifest, and by default seal it again as a careful forger would."""
    path = directory / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    if sealed:
        fields["manifest_digest"] = seal(fields)
    path.write_text(json.dumps(fields))


def replace_file(directory, section, data) -> None:
    """Change a tensor file, with its size and digest made to fit."""
    (directory / f"{section}.safetensors").write_bytes(data)
    sums = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
    edit(directory, lambda fields: fields["sections"][section].update(sums))


def flip(path, position, bit=0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)
