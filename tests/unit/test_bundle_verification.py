"""Bundles that are torn, tampered with or unknown: each is refused, and the message says which."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tests.unit.tiny_bundle import content, edit, flip, replace_file, with_tensor
from xscene.errors import BundleInvalid, NotFound
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import write_bundle


@pytest.fixture
def directory(tmp_path) -> Path:
    write_bundle(content(), tmp_path / "tiny")
    return tmp_path / "tiny"


def refused(directory, message, **limits) -> str:
    with pytest.raises(BundleInvalid, match=message) as caught:
        open_bundle(directory, **limits)
    assert caught.value.message.startswith("bundle tiny: ")
    assert str(directory.parent) not in caught.value.message
    return caught.value.message


def test_a_directory_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="bundle none: there is no such directory"):
        open_bundle(tmp_path / "none")


def test_a_missing_manifest_is_torn(directory):
    (directory / "manifest.json").unlink()
    refused(directory, r"manifest\.json: torn, there is no such file")


def test_a_truncated_manifest_is_torn_wherever_it_ends(directory):
    whole = (directory / "manifest.json").read_bytes()
    for num_bytes in range(0, len(whole) - 1, 37):
        (directory / "manifest.json").write_bytes(whole[:num_bytes])
        refused(directory, r"manifest\.json: torn or not JSON")


def test_a_missing_tensor_file_is_torn(directory):
    (directory / "fusion.safetensors").unlink()
    refused(directory, r"section fusion: torn, file fusion\.safetensors is missing")


def test_a_truncated_tensor_file_is_torn(directory):
    path = directory / "fusion.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    refused(directory, f"section fusion: torn, .* has {size - 1} bytes, the manifest says {size}")


def test_a_longer_tensor_file_is_tampered(directory):
    with (directory / "fusion.safetensors").open("ab") as file:
        file.write(b"\0")
    refused(directory, "section fusion: tampered, .* bytes, the manifest says")


def test_an_extra_file_is_refused_by_name(directory):
    (directory / "weights.pt").write_bytes(b"")
    refused(directory, r"files that the manifest does not name: weights\.pt")


def test_a_link_in_place_of_a_file_is_refused(directory, tmp_path):
    path = directory / "fusion.safetensors"
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    refused(directory, r"section fusion: fusion\.safetensors is not a regular file")


def test_one_flipped_bit_in_a_tensor_file_is_tampering(directory):
    flip(directory / "image.safetensors", -1)
    refused(
        directory,
        r"section image: image\.safetensors: tampered, the manifest says [0-9a-f]{64}, the content gives",
    )


def test_a_flipped_bit_with_a_digest_made_to_fit_still_has_another_model_id(directory):
    data = bytearray((directory / "image.safetensors").read_bytes())
    data[-1] ^= 1
    replace_file(directory, "image", bytes(data))
    refused(directory, "model_id: tampered, the manifest says")


def test_changed_calibration_with_a_digest_made_to_fit_has_another_calibration_digest(directory):
    replace_file(directory, "calibration", save({"knots": torch.ones(3)}))
    refused(directory, "calibration_digest: tampered")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(model_id=f"{int(f['model_id'], 16) ^ 1:064x}"), "model_id: tampered"),
        (lambda f: f["sections"]["image"]["config"].update(slope=0.2), "model_id: tampered"),
        (lambda f: f["sections"]["image"]["preprocessing"].update(size_px=225), "model_id: tampered"),
        (lambda f: f["sections"]["image"]["backbone"].update(digest="ac" * 32), "model_id: tampered"),
        (lambda f: f["sections"]["image"].update(schema="image/2"), "model_id: tampered"),
        (lambda f: f["sections"]["calibration"]["config"].update(a=1), "calibration_digest: tampered"),
    ],
)
def test_a_changed_identity_is_tampering_even_when_sealed_again(directory, change, message):
    edit(directory, change)
    refused(directory, message)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update(trained=False),
        lambda f: f.update(notes="better than it is"),
        lambda f: f["metrics"].update(recall_at_1=0.99),
        lambda f: f.update(width=4),
    ],
)
def test_any_other_change_breaks_the_seal(directory, change):
    edit(directory, change, sealed=False)
    refused(directory, "manifest_digest: tampered")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused_or_means_the_same(directory, data):
    path = data.draw(st.sampled_from(sorted(directory.iterdir())))
    whole = path.read_bytes()
    manifest = open_bundle(directory).manifest
    flip(path, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7)))
    try:
        assert open_bundle(directory).manifest == manifest
        assert path.name == "manifest.json"
    except BundleInvalid:
        pass
    finally:
        path.write_bytes(whole)


def test_an_unknown_version_is_named_before_anything_else(directory):
    def change(fields):
        fields.update(schema_version=2, brand_new=True)
        del fields["notes"]

    edit(directory, change)
    refused(directory, "schema_version: unknown version 2, this code reads 1")


@pytest.mark.parametrize(
    "file",
    [
        "../fusion.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "fusion.pt",
        "",
        "fusion.safetensors\n",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(directory, file):
    edit(directory, lambda fields: fields["sections"]["fusion"].update(file=file))
    refused(directory, "section fusion: file: is .*, needed: a plain file name ending in .safetensors")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_pickle_is_refused_and_not_run(directory, tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "saved.pt")
    for data in (pickle.dumps(Trap()), (tmp_path / "saved.pt").read_bytes()):
        replace_file(directory, "fusion", data)
        refused(directory, r"section fusion: fusion\.safetensors is no safetensors file")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_refused_by_tensor(directory, value, dtype):
    replace_file(
        directory, "fusion", save({"fine": torch.ones(2), "w": torch.tensor([0, value], dtype=dtype)})
    )
    refused(directory, "section fusion: tensor w: holds numbers that are not finite")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_finite_numbers_are_taken(tmp_path, dtype):
    largest = torch.finfo(dtype).max
    whole = with_tensor("fusion", "w", torch.tensor([largest, -largest], dtype=dtype))
    assert write_bundle(whole, tmp_path / "b").tensors("fusion")["w"][0] == largest


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.ones(2).to(torch.float8_e5m2)}, "tensor w: dtype F8_E5M2, known are BF16, BOOL"),
        ({}, "holds no tensor"),
    ],
)
def test_tensor_files_that_cannot_be_used_are_refused(directory, tensors, message):
    replace_file(directory, "fusion", save(tensors))
    refused(directory, f"section fusion: .*{message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("notes"), "missing keys: notes"),
        (lambda f: f.update(extra=1, also=2), "unknown keys: also, extra"),
        (lambda f: f["sections"]["fusion"].pop("sha256"), "section fusion: missing keys: sha256"),
        (
            lambda f: f["sections"]["image"]["backbone"].update(url=""),
            "section image: backbone: unknown keys: url",
        ),
        (
            lambda f: f["sections"].update(audio=f["sections"].pop("fusion")),
            "sections: is 'audio', needed: one of",
        ),
        (lambda f: f["sections"].update(text=f["sections"]["fusion"]), "a file of one section only"),
        (lambda f: f["sections"].clear(), "sections: none besides calibration"),
        (lambda f: f["sections"].update(fusion=[]), "section fusion: is list, an object is needed"),
        (lambda f: f["sections"].pop("calibration"), "calibration_digest: stands exactly where"),
        (lambda f: f.update(width="2"), "width: is '2', needed: int"),
        (lambda f: f.update(width=True), "width: is 'True', needed: int"),
        (lambda f: f.update(width=0), "width: is '0', needed: at least 2"),
        (lambda f: f.update(trained=1), "trained: is '1', needed: bool"),
        (lambda f: f.update(schema_version="1"), "schema_version: is '1', needed: int"),
        (lambda f: f.update(name="../up"), "name: is '../up', needed: 1 to 64 of"),
        (lambda f: f.update(model_id="xyz"), "model_id: is 'xyz', needed: 64 hex digits"),
        (lambda f: f.update(parents=["xyz"]), "parents: is 'xyz', needed: 64 hex digits"),
        (lambda f: f.update(parents=[3]), "parents: is '3', needed: 64 hex digits"),
        (
            lambda f: f.update(created_at="yesterday"),
            "created_at: is 'yesterday', needed: an ISO 8601 time in UTC",
        ),
        (lambda f: f.update(created_at="2025-01-01T00:00:00"), "created_at: .* in UTC"),
        (lambda f: f["sections"]["fusion"].update(schema="fusion"), "section fusion: schema: is 'fusion'"),
        (lambda f: f["sections"]["fusion"].update(num_bytes=-1), "section fusion: num_bytes: is '-1'"),
    ],
)
def test_a_manifest_field_that_cannot_be_right_is_named(directory, change, message):
    edit(directory, change)
    refused(directory, message)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        "\ufeff{}",
    ],
)
def test_json_that_is_not_strict_is_refused(directory, text):
    (directory / "manifest.json").write_text(text)
    refused(directory, r"manifest\.json: torn or not JSON")


def test_a_manifest_that_is_no_object_is_refused(directory):
    (directory / "manifest.json").write_text("[]")
    refused(directory, "manifest: is list, an object is needed")


def test_limits_are_the_callers_and_are_named(directory):
    num_bytes = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    open_bundle(directory, max_bytes=num_bytes)
    refused(directory, f"{num_bytes} bytes, the limit is {num_bytes - 1}", max_bytes=num_bytes - 1)
    num_bytes = (directory / "manifest.json").stat().st_size
    open_bundle(directory, max_manifest_bytes=num_bytes)
    refused(directory, rf"manifest\.json: {num_bytes} bytes, the limit", max_manifest_bytes=num_bytes - 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_a_header_is_refused_when_all_digests_fit(directory, data):
    whole = (directory / "image.safetensors").read_bytes()
    header_bytes = 8 + int.from_bytes(whole[:8], "little")
    forged = bytearray(whole)
    forged[data.draw(st.integers(0, header_bytes - 1))] ^= 1 << data.draw(st.integers(0, 7))
    replace_file(directory, "image", bytes(forged))
    try:
        refused(directory, "section image: |model_id: tampered")
    finally:
        replace_file(directory, "image", whole)
