"""The text model: rows, groups, truncation, and results that no other text in the batch can change."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deploy.backbones import MINILM
from encoders_1d.backbones import reference, registry, text_backbone
from encoders_1d.model import TextFactory, TextHeads, TextModel
from tests.text_backbones import (
    BACKBONES_DIR,
    CPU,
    LIMITS,
    TINY,
    WORDS,
    minilm_directory,
    registry_of,
    request,
    run,
    tiny_entry,
    tiny_model,
    write_text_bundle,
    write_tiny,
)
from xscene.errors import BundleInvalid, InvalidInput, ModelMismatch, NotFound, PreconditionFailed
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, SectionContent, write_bundle
from xscene.nn.devices import Compute

ALL = ("features", "truncated", "scene_embedding", "object_embedding")
TEXTS = ["a lamp", "the red chair under the small window", "door", "a round table", "the bed"]
LONG = " ".join(["chair"] * 15)
"""One token more than the tiny network takes."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> TextModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def minilm_model(tmp_path_factory) -> TextModel:
    minilm_directory()
    bundle = write_text_bundle(tmp_path_factory.mktemp("b") / "one", registry().get(MINILM), None)
    return TextFactory(BACKBONES_DIR, LIMITS, CPU).load("text", bundle)


def slow_head(head: torch.nn.Module, feature: np.ndarray) -> np.ndarray:
    """Linear, ReLU, LayerNorm, Linear, unit length, number by number in float64."""
    weights = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    hidden = np.maximum(weights["expand.weight"] @ feature + weights["expand.bias"], 0)
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-12)
    hidden = hidden * weights["norm.weight"] + weights["norm.bias"]
    out = weights["project.weight"] @ hidden + weights["project.bias"]
    return out / np.sqrt((out * out).sum())


@torch.inference_mode()
def slow_features(model: TextModel, texts: list[str]) -> np.ndarray:
    """One text at a time, without padding."""
    tokens = model.backbone.tokenize(texts)
    return np.concatenate([model.backbone(torch.tensor([list(t.ids)]), None).numpy() for t in tokens])


def test_embeddings_are_the_heads_of_the_features(model):
    found = run(model, TEXTS, *ALL)
    np.testing.assert_allclose(found["features"], slow_features(model, TEXTS), atol=1e-5)
    for row, feature in enumerate(found["features"].astype(np.float64)):
        scene, single = found["scene_embedding"][row], found["object_embedding"][row]
        np.testing.assert_allclose(scene, slow_head(model.heads.scene, feature), atol=1e-5)
        np.testing.assert_allclose(single, slow_head(model.heads.object, feature), atol=1e-5)
        assert np.abs(scene - single).max() > 0.1


def test_outputs_are_as_the_metadata_says(model):
    found = run(model, TEXTS, *ALL)
    assert set(found) == {spec.name for spec in model.outputs}
    for spec in model.outputs:
        assert found[spec.name].dtype == (np.bool_ if spec.datatype == "BOOL" else np.float32)
        assert found[spec.name].shape == (len(TEXTS), *spec.shape[1:])
    assert [spec.shape[1:] for spec in model.outputs] == [(32,), (), (8,), (8,)]
    assert [(spec.name, spec.datatype, spec.optional) for spec in model.inputs] == [
        ("text", "BYTES", False),
        ("group_ends", "INT32", True),
    ]


def test_a_group_is_one_text_of_its_sentences_and_objects_stay_single(model):
    found = run(model, TEXTS, *ALL, group_ends=[2, 3, 5])
    joined = [f"{TEXTS[0]} {TEXTS[1]}", TEXTS[2], f"{TEXTS[3]} {TEXTS[4]}"]
    scenes, singles = run(model, joined, *ALL), run(model, TEXTS, *ALL)
    for name in ("features", "truncated", "scene_embedding"):
        np.testing.assert_allclose(found[name], scenes[name], atol=1e-5)
    np.testing.assert_allclose(found["object_embedding"], singles["object_embedding"], atol=1e-5)
    mean = singles["features"][3:].mean(axis=0)
    assert np.abs(found["features"][2] - mean).max() > 0.01


def ids(model: TextModel, *texts: str) -> list[list[int]]:
    return [list(tokens.ids) for tokens in model.backbone.tokenize(list(texts))]


@pytest.mark.parametrize(
    ("output", "computed"),
    [
        ("object_embedding", ["a lamp", "the bed", "door"]),
        ("scene_embedding", ["a lamp the bed", "door"]),
        ("features", ["a lamp the bed", "door"]),
        ("truncated", []),
    ],
)
def test_only_what_is_wanted_is_computed(model, output, computed):
    job = model.prepare(request(["a lamp", "the bed", "door"], [2, 3]), frozenset([output]))
    assert [list(item.ids) for item in job.items] == ids(model, *computed)
    assert [item.outputs for item in job.items] == [frozenset([output])] * len(computed)
    results = model.forward(job.items) if job.items else []
    assert [set(result) for result in results] == [{output}] * len(computed)
    assert set(model.finish(job, results)) == {output}


def test_a_text_that_stands_twice_is_computed_once(model):
    texts = ["door", "a lamp", "door"]
    job = model.prepare(request(texts, [1, 3]), frozenset(ALL))
    assert [list(item.ids) for item in job.items] == ids(model, "door", "a lamp door", "a lamp")
    singles = run(model, texts, "object_embedding")["object_embedding"]
    np.testing.assert_array_equal(singles[0], singles[2])


def test_truncation_is_told_of_each_row_and_changes_nothing_else(model):
    fits = LONG.removesuffix(" chair")
    found = run(model, [fits, LONG, "a lamp"], "truncated", "features")
    assert found["truncated"].tolist() == [False, True, False]
    np.testing.assert_allclose(found["features"][0], found["features"][1], atol=1e-5)
    grouped = run(model, [fits, "a lamp", "door"], "truncated", group_ends=[2, 3])
    assert grouped["truncated"].tolist() == [True, False]


def test_items_cost_their_tokens(model):
    job = model.prepare(request(["a lamp", LONG]), frozenset(["features"]))
    assert [item.cost for item in job.items] == [4, 16]


@given(st.lists(st.integers(1, 18), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_no_text_changes_another(model, lengths, random):
    texts = [" ".join(random.choice(WORDS) for _ in range(length)) for length in lengths]
    job = model.prepare(request(texts), frozenset(ALL))
    together = model.forward(job.items)
    for item, result in zip(job.items, together, strict=True):
        (alone,) = model.forward([item])
        assert set(alone) == set(result) == {"features", "scene_embedding", "object_embedding"}
        for name, values in alone.items():
            np.testing.assert_allclose(result[name], values, atol=1e-5)


def test_minilm_gives_the_same_alone_and_in_any_batch(minilm_model):
    texts = [" ".join(["the round table beside a sofa"] * n) for n in (1, 60, 2, 1, 9, 30, 4)]
    texts += ["sofa", "invoice"]
    together = run(minilm_model, texts, *ALL)
    assert together["truncated"].tolist() == [n == 1 for n in range(9)]
    np.testing.assert_allclose(together["features"], slow_features(minilm_model, texts), atol=1e-5)
    for row, text in enumerate(texts):
        for name, values in run(minilm_model, [text], *ALL).items():
            np.testing.assert_allclose(values[0], together[name][row], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together["features"], axis=1), 1, atol=1e-5)


def test_a_lower_precision_is_told_and_gives_nearly_the_same(tmp_path, minilm_model):
    bundle = write_text_bundle(tmp_path / "one", registry().get(MINILM), None)
    low = TextFactory(BACKBONES_DIR, LIMITS, Compute(CPU.device, "bfloat16")).load("text", bundle)
    assert (minilm_model.parameters["precision"], low.parameters["precision"]) == ("float32", "bfloat16")
    wanted, found = run(minilm_model, TEXTS, "features"), run(low, TEXTS, "features")
    cosines = (unit(wanted["features"]) * unit(found["features"])).sum(axis=1)
    assert found["features"].dtype == np.float32
    assert 0.999 < cosines.min() < 1 - 1e-6


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_warming_up_computes_the_longest_text_and_both_heads(model):
    seen: list[tuple[int, ...]] = []
    networks = (model.backbone, model.heads.scene, model.heads.object)
    hooks = [
        each.register_forward_hook(lambda _, given, __: seen.append(given[0].shape)) for each in networks
    ]
    model.warm_up()
    for hook in hooks:
        hook.remove()
    assert seen == [(2, TINY.max_tokens), (2, 32), (2, 32)]


@pytest.mark.parametrize(
    ("texts", "ends", "message"),
    [
        (["a", "b", "c", "a\0"], None, "text[3]: control character '\\x00' at 1"),
        (["a", " "], None, "text[1]: blank, needs words"),
        (["a"] * 65, None, "text: 65 texts, the limit is 64"),
        (["a" * 4097], None, "text[0]: 4097 bytes, the limit is 4096"),
        (["a", "b"], [1], "group_ends[0]: 1, the last group must end at 2, the last text"),
    ],
)
def test_a_faulty_item_refuses_its_request_by_name(model, texts, ends, message):
    with pytest.raises(InvalidInput) as caught:
        run(model, texts, *ALL, group_ends=ends)
    assert caught.value.message == message


def factory(folder: Path, *names: str) -> TextFactory:
    return TextFactory(folder / "backbones", LIMITS, CPU, registry_of(*map(tiny_entry, names)))


def test_bundles_share_one_backbone_in_memory_and_keep_their_own_heads(tmp_path):
    backbone_dir = write_tiny(tmp_path / "backbones" / "tiny")
    write_tiny(tmp_path / "backbones" / "other", seed=1)
    made = factory(tmp_path, "tiny", "other")
    bundles = [
        write_text_bundle(tmp_path / "one", tiny_entry(), backbone_dir, width=8, seed=1),
        write_text_bundle(tmp_path / "two", tiny_entry(), backbone_dir, width=12, seed=2),
        write_text_bundle(tmp_path / "three", tiny_entry("other"), tmp_path / "backbones" / "other"),
    ]
    one, two, three = (made.load("text", bundle) for bundle in bundles)
    assert one.backbone is two.backbone is not three.backbone
    assert one.version != two.version
    found = [run(each, ["a lamp"], "features", "scene_embedding") for each in (one, two, three)]
    np.testing.assert_array_equal(found[0]["features"], found[1]["features"])
    assert [each["scene_embedding"].shape for each in found] == [(1, 8), (1, 12), (1, 8)]


def test_a_model_says_what_it_is(model):
    assert (model.name, model.bundle, model.trained) == ("text", "one", False)
    assert model.version == str(int(model.model_id[:15], 16))
    assert model.max_batch_cost == LIMITS.max_batch_tokens
    shown = model.parameters
    assert (shown["backbone"], shown["max_tokens"], shown["pooling"]) == ("tiny", "16", "cls")
    assert (shown["max_items"], shown["max_text_bytes"], shown["device"]) == ("64", "4096", "cpu")


def test_a_bundle_made_with_another_backbone_is_refused_with_both_digests(tmp_path):
    write_tiny(tmp_path / "backbones" / "tiny", seed=1)
    other = write_tiny(tmp_path / "other", seed=2)
    bundle = write_text_bundle(tmp_path / "one", tiny_entry(), other)
    digest = open_bundle(bundle).section("text").backbone.digest
    with pytest.raises(
        ModelMismatch, match=rf"model\.safetensors of backbone tiny with SHA-256 {digest}, the one here"
    ):
        factory(tmp_path, "tiny").load("text", bundle)


def test_a_bundle_made_with_another_tokenizer_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "backbones" / "tiny")
    bundle = write_text_bundle(tmp_path / "one", tiny_entry(), folder)
    fields = json.loads((folder / "tokenizer.json").read_text())
    fields["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    with pytest.raises(ModelMismatch, match=r"made with tokenizer\.json of backbone tiny"):
        factory(tmp_path, "tiny").load("text", bundle)


def test_a_bundle_whose_backbone_is_not_there_says_which(tmp_path):
    bundle = write_text_bundle(tmp_path / "one", tiny_entry(), write_tiny(tmp_path / "x"))
    with pytest.raises(
        PreconditionFailed, match=r"backbone tiny: model\.safetensors, config\.json, tokenizer\.json missing"
    ):
        factory(tmp_path, "tiny").load("text", bundle)
    with pytest.raises(NotFound, match="backbone 'tiny' is not registered; known: other"):
        factory(tmp_path, "other").load("text", bundle)


def test_another_pooling_than_the_bundles_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "backbones" / "tiny")
    mean = text_backbone("tiny", replace(TINY, pooling="mean"), licence="none")
    bundle = write_text_bundle(tmp_path / "one", mean, folder)
    with pytest.raises(
        BundleInvalid, match=r"section text: preprocessing is .*'mean'.*backbone tiny has .*'cls'"
    ):
        factory(tmp_path, "tiny").load("text", bundle)


def bundle_of(folder: Path, backbone_dir: Path, width: int = 8, **changes) -> Path:
    """A bundle whose text section has some fields of its own."""
    ref, preprocessing = reference(tiny_entry(), backbone_dir)
    heads = TextHeads(feature_width=32, hidden_width=32, width=8)
    section = replace(heads.section(ref, preprocessing), **changes)
    content = BundleContent(name="odd", preset="test", width=width, trained=False, sections={"text": section})
    return write_bundle(content, folder / "odd").directory


SIZES = {"feature_width": 32, "hidden_width": 32, "width": 8}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schema": "text/2"}, "unknown schema text/2, this code reads text/1"),
        ({"backbone": None}, "names no backbone"),
        ({"config": {"width": 8}}, "config: feature_width and hidden_width must be numbers"),
        (
            {"config": SIZES | {"hidden_width": True}},
            "config: feature_width and hidden_width must be numbers",
        ),
        ({"config": SIZES | {"hidden_width": 3}}, "config: hidden_width: 3, at least 4 is needed"),
        ({"config": SIZES | {"layers": 2}}, "config is .*'layers': 2.*, needed: "),
        ({"config": SIZES | {"width": 6}}, "config is .*'width': 6.*, needed: "),
        (
            {"width": 6, "config": SIZES | {"width": 6}},
            r"tensor object.project.bias is float32 \[8\], the module has",
        ),
        ({"tensors": {"scene.norm.bias": torch.ones(16)}}, "missing tensors: object.expand.bias, "),
        ({"preprocessing": {}}, None),
    ],
)
def test_a_section_that_does_not_fit_is_refused(tmp_path, changes, fault):
    folder = write_tiny(tmp_path / "backbones" / "tiny")
    bundle = bundle_of(tmp_path, folder, **changes)
    wanted = ModelMismatch if fault is None else BundleInvalid
    with pytest.raises(wanted, match=f"^bundle odd: section text: {fault or 'made with tokenizer.json'}"):
        factory(tmp_path, "tiny").load("text", bundle)


def test_heads_for_features_of_another_width_are_refused(tmp_path):
    folder = write_tiny(tmp_path / "backbones" / "tiny")
    heads = TextHeads(feature_width=30, hidden_width=30, width=8)
    bundle = bundle_of(tmp_path, folder, config=heads.config, tensors=heads.state_dict())
    with pytest.raises(BundleInvalid, match="config feature_width is 30, the backbone has 32"):
        factory(tmp_path, "tiny").load("text", bundle)


def test_a_bundle_without_texts_and_a_model_of_another_name_are_refused(tmp_path):
    sections = {"fusion": SectionContent(schema="fusion/1", config={}, tensors={"w": torch.ones(2)})}
    content = BundleContent(name="none", preset="test", width=8, trained=False, sections=sections)
    bundle = write_bundle(content, tmp_path / "none").directory
    with pytest.raises(NotFound, match="bundle none: it has no section text"):
        factory(tmp_path, "tiny").load("text", bundle)
    with pytest.raises(InvalidInput, match="name: image, this service has text"):
        factory(tmp_path, "tiny").load("image", bundle)
