"""Text sections of bundles as `bundle init` makes them, and the bundle that the demo runs on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deploy.bundles import INITIALISERS, PRESETS, PresetName, app, init_bundle
from deploy.demo.calls import BUNDLE, ensure_bundle
from encoders_1d.backbones import registry
from encoders_1d.model import TextFactory, TextHeads, TextModel
from fusion.model import FusionModel
from tests.text_backbones import BACKBONES_DIR, CPU, LIMITS, minilm_directory, run, write_tiny
from xscene.files import file_digest
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, write_bundle

SMALL = PRESETS[PresetName.SMALL]


def init(*args):
    result = CliRunner().invoke(app, ["init", *(str(arg) for arg in args)])
    assert result.exit_code == 0, result.output
    return result


def test_a_small_bundle_stands_on_the_published_minilm_and_is_served(tmp_path):
    result = init("--out", tmp_path / "small")
    assert "of floorplan, fusion, image, objects, points, text, model_id" in result.stdout
    bundle, entry = open_bundle(tmp_path / "small"), registry().get("minilm-l6-v2")
    section = bundle.section("text")
    assert (section.backbone.name, section.backbone.digest) == (entry.name, entry.digest)
    assert section.config == {"feature_width": 384, "hidden_width": 384, "width": 256}
    assert bundle.num_parameters("text") == 2 * 123_712
    minilm_directory()
    model = TextFactory(BACKBONES_DIR, LIMITS, CPU).load("text", bundle.directory)
    assert isinstance(model, TextModel)
    assert run(model, ["a sofa"], "object_embedding")["object_embedding"].shape == (1, 256)


def test_a_crossover_bundle_has_texts_where_its_backbone_is_given(tmp_path):
    result = init("--preset", "crossover", "--out", tmp_path / "without")
    assert result.stderr == "left out: floorplan, image, text; no published digest of a backbone\n"
    assert set(open_bundle(tmp_path / "without").manifest.sections) == {"fusion", "points", "objects"}
    backbone = write_tiny(tmp_path / "blip")
    result = init("--preset", "crossover", "--out", tmp_path / "with", "--text-backbone", backbone)
    assert result.stderr == "left out: floorplan, image; no published digest of a backbone\n"
    bundle = open_bundle(tmp_path / "with")
    section = bundle.section("text")
    assert section.backbone.name == "blip-large"
    assert section.backbone.digest == file_digest(backbone / "model.safetensors")
    assert section.preprocessing == {
        "max_tokens": 512,
        "pooling": "cls",
        "normalised": False,
        "tokenizer_sha256": file_digest(backbone / "tokenizer.json"),
    }
    assert TextHeads.from_bundle(bundle).config == {"feature_width": 768, "hidden_width": 768, "width": 768}
    assert bundle.num_parameters("text") == 2 * 591_744


def test_a_small_bundle_is_made_for_the_published_weights_alone(tmp_path):
    flags = ["init", "--out", str(tmp_path / "a"), "--text-backbone", str(write_tiny(tmp_path / "tiny"))]
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 1
    assert "backbone minilm-l6-v2: model.safetensors has SHA-256" in result.stderr


def test_the_seed_makes_the_heads_and_both_heads_differ(tmp_path):
    made = [INITIALISERS["text"](SMALL, seed).tensors for seed in (1, 1, 2)]
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert not torch.equal(made[0]["scene.project.weight"], made[2]["scene.project.weight"])
    assert not torch.equal(made[0]["scene.project.weight"], made[0]["object.project.weight"])


def fusion_only(folder: Path, *, trained: bool) -> str:
    sections = {"fusion": FusionModel(SMALL.width).section()}
    content = BundleContent(
        name=BUNDLE, preset="small", width=SMALL.width, trained=trained, sections=sections
    )
    return write_bundle(content, folder / BUNDLE).model_id


def test_the_demos_bundle_is_made_once_and_anew_when_it_lacks_a_section(tmp_path):
    ensure_bundle(tmp_path)
    made = open_bundle(tmp_path / BUNDLE)
    assert set(made.manifest.sections) == set(INITIALISERS)
    created = json.loads((tmp_path / BUNDLE / "manifest.json").read_text())["created_at"]
    ensure_bundle(tmp_path)
    assert open_bundle(tmp_path / BUNDLE).manifest.created_at == created
    shutil.rmtree(tmp_path / BUNDLE)
    fusion_only(tmp_path, trained=False)
    ensure_bundle(tmp_path)
    assert open_bundle(tmp_path / BUNDLE).model_id == made.model_id


def test_a_trained_bundle_is_left_as_it_is(tmp_path):
    model_id = fusion_only(tmp_path, trained=True)
    ensure_bundle(tmp_path)
    assert open_bundle(tmp_path / BUNDLE).model_id == model_id


@pytest.mark.parametrize("preset", list(PresetName))
def test_every_preset_names_a_text_backbone_that_exists(preset):
    assert PRESETS[preset].text_backbone in registry().names("text")


def test_init_bundle_leaves_out_what_its_initialiser_leaves_out(tmp_path):
    initialisers = {**INITIALISERS, "image": lambda preset, seed: None}
    bundle = init_bundle(SMALL, tmp_path / "a", name="a", seed=0, initialisers=initialisers)
    assert set(bundle.manifest.sections) == set(INITIALISERS) - {"image"}
