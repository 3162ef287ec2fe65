"""Bundles that are whole: their identity, and what comes back from them."""

import hashlib
import json
import os
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.tiny_bundle import WRITTEN_AT, content, with_section, with_tensor
from xscene.errors import BundleInvalid
from xscene.nn.bundle import model_version, open_bundle
from xscene.nn.bundle_writer import SectionContent, write_bundle
from xscene.nn.manifest import BackboneRef

GOLDEN_MODEL_ID = "3963aac2b7688bf9f77c892127d1508645252528d91a43ba725b8d22a5f02b77"


@pytest.fixture
def directory(tmp_path) -> Path:
    write_bundle(content(), tmp_path / "tiny")
    return tmp_path / "tiny"


def model_id_of(tmp_path, whole) -> str:
    target = tmp_path / "other"
    shutil.rmtree(target, ignore_errors=True)
    return write_bundle(whole, target).model_id


def slow_model_id(whole) -> str:
    """The identity as docs/bundles.md defines it, written from the content and not from files."""
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
    parts = [b"xscene bundle identity 1"]
    for name in sorted(set(whole.sections) - {"calibration"}):
        section = whole.sections[name]
        settings_ = {
            "backbone_digest": section.backbone.digest if section.backbone else None,
            "config": section.config,
            "num_tensors": len(section.tensors),
            "preprocessing": section.preprocessing,
            "schema": section.schema,
            "section": name,
        }
        parts.append(json.dumps(settings_, separators=(",", ":"), sort_keys=True).encode())
        for key in sorted(section.tensors):
            tensor = section.tensors[key]
            shape = "[" + ",".join(str(size) for size in tensor.shape) + "]"
            raw = tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
            parts += [key.encode(), names[tensor.dtype].encode(), shape.encode(), raw]
    return hashlib.sha256(b"".join(struct.pack("<Q", len(part)) + part for part in parts)).hexdigest()


def test_model_id_is_the_documented_digest(tmp_path):
    bundle = write_bundle(content(), tmp_path / "tiny")
    assert bundle.model_id == slow_model_id(content())


def test_model_id_of_a_known_bundle_never_changes(tmp_path):
    assert write_bundle(content(), tmp_path / "tiny").model_id == GOLDEN_MODEL_ID


@pytest.mark.parametrize(
    "changed",
    [
        content(name="other"),
        content(notes="another note"),
        content(metrics={"recall_at_1": 0.75}),
        content(parents=()),
        content(trained=False),
        content(created_at=datetime(2026, 1, 1, tzinfo=UTC)),
        content(sections={k: v for k, v in content().sections.items() if k != "calibration"}),
        with_tensor("calibration", "knots", torch.ones(5)),
        with_section("calibration", config={"pairs": 3}),
        with_section("image", backbone=BackboneRef(name="renamed", digest="ab" * 32)),
    ],
)
def test_model_id_is_kept_by_what_does_not_shape_the_vectors(tmp_path, changed):
    assert model_id_of(tmp_path, changed) == model_id_of(tmp_path, content())


@pytest.mark.parametrize(
    "changed",
    [
        with_tensor("image", "bias", torch.tensor([0.25, np.nextafter(np.float32(-0.5), np.float32(0))])),
        with_tensor("image", "weight", content().sections["image"].tensors["weight"].reshape(3, 2)),
        with_tensor("image", "steps", torch.tensor(7, dtype=torch.int32)),
        with_tensor("fusion", "one_more", torch.zeros(1)),
        with_section("fusion", tensors={"v": torch.ones(2)}),
        with_section("image", preprocessing={"mean": [0.5, 0.25], "size_px": 225}),
        with_section("image", backbone=BackboneRef(name="tiny", digest="ac" * 32)),
        with_section("image", backbone=None),
        with_section("image", config={"widths": [3, 2], "slope": 0.2}),
        with_section("image", schema="image/2"),
        content(sections={"image": content().sections["image"]}),
    ],
)
def test_model_id_is_changed_by_all_that_shapes_the_vectors(tmp_path, changed):
    assert model_id_of(tmp_path, changed) != model_id_of(tmp_path, content())


def test_calibration_has_a_digest_of_its_own(tmp_path):
    digests = {
        write_bundle(whole, tmp_path / str(i)).manifest.calibration_digest
        for i, whole in enumerate((content(), with_tensor("calibration", "knots", torch.ones(3))))
    }
    assert len(digests) == 2
    assert None not in digests


def test_the_version_is_the_first_sixty_bits_in_decimal():
    assert model_version("0" * 14 + "f" + "e" * 49) == "15"
    assert model_version("f" * 64) == "1152921504606846975"
    assert int(model_version("f" * 64)) < 2**63


def test_a_bundle_comes_back_as_it_was_written(directory):
    bundle = open_bundle(directory)
    wanted = content()
    for name, section in wanted.sections.items():
        tensors = bundle.tensors(name)
        assert set(tensors) == set(section.tensors)
        assert all(torch.equal(tensors[key], value) for key, value in section.tensors.items())
        assert all(tensors[key].dtype == value.dtype for key, value in section.tensors.items())
        found = bundle.section(name, schema=section.schema)
        assert (found.config, found.preprocessing) == (section.config, section.preprocessing)
        assert found.backbone == section.backbone
    manifest = bundle.manifest
    for field in ("name", "preset", "width", "trained", "metrics", "notes", "parents"):
        assert getattr(manifest, field) == getattr(wanted, field)
    assert datetime.fromisoformat(manifest.created_at) == WRITTEN_AT
    assert bundle.model_version == model_version(manifest.model_id)
    assert bundle.num_parameters("image") == 6 + 2 + 2 + 1


def test_files_can_be_read_by_whom_the_umask_allows(directory):
    allowed = 0o666 & ~(mask := os.umask(0))
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {allowed}


def test_tensors_that_share_memory_and_views_are_written_whole(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    section = SectionContent(schema="fusion/1", config={}, tensors={"a": base, "b": base.T, "c": base[1]})
    found = write_bundle(content(sections={"fusion": section}), tmp_path / "b").tensors("fusion")
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base.T)
    assert torch.equal(found["c"], base[1])


def test_a_tensor_longer_than_one_chunk_is_verified_to_its_end(tmp_path):
    big = torch.zeros(3 * 1024 * 1024)
    written = write_bundle(with_tensor("fusion", "w", big), tmp_path / "b")
    assert written.model_id == slow_model_id(with_tensor("fusion", "w", big))
    big[-1] = torch.inf
    with pytest.raises(BundleInvalid, match="section fusion: tensor w: holds numbers that are not finite"):
        write_bundle(with_tensor("fusion", "w", big), tmp_path / "c")


def test_a_section_that_is_not_there_is_answered_with_those_that_are(directory):
    with pytest.raises(
        BundleInvalid, match=r"bundle tiny: section text: .* it has calibration, fusion, image"
    ):
        open_bundle(directory).tensors("text")


def test_a_section_of_another_schema_is_refused(directory):
    with pytest.raises(BundleInvalid, match="section image: unknown schema image/1, this code reads image/2"):
        open_bundle(directory).section("image", schema="image/2")


def linear_bundle(tmp_path, tensors):
    section = SectionContent(schema="fusion/1", config={}, tensors=tensors)
    return write_bundle(content(sections={"fusion": section}), tmp_path / "linear")


def test_a_module_takes_its_section(tmp_path):
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    linear_bundle(tmp_path, source.state_dict()).load_module_strict(target, "fusion")
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.ones(2, 3)}, "missing tensors: bias"),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(2), "b": torch.ones(1), "a": torch.ones(1)},
            "unexpected tensors: a, b",
        ),
        (
            {"weight": torch.ones(3, 2), "bias": torch.ones(2)},
            r"tensor weight is float32 \[3, 2\], the module has float32 \[2, 3\]",
        ),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(2).double()},
            r"tensor bias is float64 \[2\], the module has float32 \[2\]",
        ),
    ],
)
def test_a_section_that_does_not_fit_leaves_the_module_alone(tmp_path, tensors, message):
    module = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(BundleInvalid, match=f"bundle linear: section fusion: {message}"):
        linear_bundle(tmp_path, tensors).load_module_strict(module, "fusion")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
