"""The vision models: heads, views and groups, and results that no other picture can change."""

from dataclasses import replace
from math import erf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders_2d.backbones import image_backbone
from encoders_2d.heads import ImageHeads
from encoders_2d.model import VisionFactory, VisionModel
from tests.image_backbones import (
    CPU,
    LIMITS,
    TINY,
    encoded,
    picture,
    registry_of,
    request,
    run,
    tiny_factory,
    tiny_model,
    write_image_bundle,
)
from xscene.errors import (
    BundleInvalid,
    InvalidInput,
    LimitExceeded,
    ModelMismatch,
    NotFound,
    PreconditionFailed,
)
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, SectionContent, write_bundle
from xscene.nn.devices import Compute

ALL = ("cls", "patch_mean", "patches", "scene_embedding", "object_embedding")
FILES = [encoded(picture(seed)) for seed in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def factory(folder) -> VisionFactory:
    return tiny_factory(folder)[0]


@pytest.fixture(scope="module")
def model(factory, folder) -> VisionModel:
    return factory.load("image", folder / "bundles" / "one")


@pytest.fixture(scope="module")
def floorplan(factory, folder) -> VisionModel:
    return factory.load("floorplan", folder / "bundles" / "one")


def weights_of(module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def slow_head(head, feature: np.ndarray) -> np.ndarray:
    """Linear, ReLU, LayerNorm, Linear, unit length, in float64."""
    weights = weights_of(head)
    hidden = np.maximum(weights["expand.weight"] @ feature + weights["expand.bias"], 0)
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-12)
    hidden = hidden * weights["norm.weight"] + weights["norm.bias"]
    out = weights["project.weight"] @ hidden + weights["project.bias"]
    return out / np.sqrt((out * out).sum())


def slow_frame(frame, cls: np.ndarray, patch_mean: np.ndarray) -> np.ndarray:
    """Linear, exact GELU, Linear, in float64."""
    weights = weights_of(frame)
    hidden = weights["expand.weight"] @ np.concatenate([cls, patch_mean]) + weights["expand.bias"]
    hidden = np.array([0.5 * each * (1 + erf(each / np.sqrt(2))) for each in hidden])
    return weights["project.weight"] @ hidden + weights["project.bias"]


def slow_scenes(model, features, ends) -> list[np.ndarray]:
    """The frame MLP of each view, the mean over the views of a group, the head of the mean."""
    views = [
        slow_frame(model.heads.frame, cls, mean)
        for cls, mean in zip(features["cls"], features["patch_mean"], strict=True)
    ]
    scenes, start = [], 0
    for end in ends:
        scenes.append(slow_head(model.heads.scene, sum(views[start:end]) / (end - start)))
        start = end
    return scenes


def test_every_view_alone_goes_through_the_frame_mlp_and_both_heads(model):
    found = run(model, request(FILES), *ALL)
    np.testing.assert_allclose(found["scene_embedding"], slow_scenes(model, found, range(1, 7)), atol=1e-5)
    objects = [slow_head(model.heads.object, cls) for cls in found["cls"]]
    np.testing.assert_allclose(found["object_embedding"], objects, atol=1e-5)
    np.testing.assert_allclose(found["patch_mean"], found["patches"].mean(axis=1), atol=1e-6)
    assert np.abs(found["scene_embedding"] - found["object_embedding"]).max() > 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_group_is_the_mean_of_its_views(model, sizes):
    ends = np.cumsum(sizes).tolist()
    files = [FILES[index % 6] for index in range(ends[-1])]
    found = run(model, request(files, group_ends=ends), *ALL)
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(ALL, ends[-1]) | {
        "scene_embedding": len(ends)
    }
    np.testing.assert_allclose(found["scene_embedding"], slow_scenes(model, found, ends), atol=1e-5)
    alone = run(model, request(files), *ALL)
    for name in set(ALL) - {"scene_embedding"}:
        np.testing.assert_allclose(found[name], alone[name], atol=1e-6)


def test_the_order_of_views_and_their_batches_do_not_matter(model):
    forth = run(model, request(FILES, group_ends=[6]), "scene_embedding")
    back = run(model, request(FILES[::-1], group_ends=[6]), "scene_embedding")
    np.testing.assert_allclose(forth["scene_embedding"], back["scene_embedding"], atol=1e-5)
    job = model.prepare(request(FILES, group_ends=[6]), frozenset(["scene_embedding"]))
    parts = [result for item in job.items for result in model.forward([item])]
    split = model.finish(job, parts)
    np.testing.assert_allclose(forth["scene_embedding"], split["scene_embedding"], atol=1e-5)


def test_a_floorplan_is_the_head_of_its_cls_without_the_frame_mlp(model, floorplan):
    found = run(floorplan, request(FILES), "cls", "scene_embedding")
    np.testing.assert_allclose(found["cls"], run(model, request(FILES), "cls")["cls"], atol=1e-6)
    wanted = [slow_head(model.heads.scene, cls) for cls in found["cls"]]
    np.testing.assert_allclose(found["scene_embedding"], wanted, atol=1e-5)


def test_both_models_hold_one_backbone_and_a_second_bundle_the_same(factory, folder, model, floorplan):
    entry = image_backbone("tiny", TINY, licence="none")
    second = write_image_bundle(folder / "bundles" / "two", entry, folder / "backbones" / "tiny", seed=1)
    other = factory.load("image", second)
    assert model.backbone is floorplan.backbone is other.backbone
    assert other.version != model.version
    same = run(model, request(FILES), *ALL), run(other, request(FILES), *ALL)
    np.testing.assert_array_equal(same[0]["cls"], same[1]["cls"])
    assert np.abs(same[0]["scene_embedding"] - same[1]["scene_embedding"]).max() > 0.01


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_a_picture_is_the_same_alone_and_in_any_batch(model, chosen):
    jobs = [model.prepare(request([FILES[index]]), frozenset(ALL)) for index in chosen]
    together = model.forward([item for job in jobs for item in job.items])
    for index, job, result in zip(chosen, jobs, together, strict=True):
        alone = run(model, request([FILES[index]]), *ALL)
        for name, rows in model.finish(job, [result]).items():
            np.testing.assert_allclose(rows, alone[name], atol=1e-5)


def test_outputs_are_as_the_metadata_says(model, floorplan):
    for each, shapes in (
        (model, [(32,), (32,), (4, 32), (8,), (8,)]),
        (floorplan, [(32,), (8,)]),
    ):
        found = run(each, request(FILES), *(spec.name for spec in each.outputs))
        assert [spec.shape[1:] for spec in each.outputs] == shapes
        for spec in each.outputs:
            assert found[spec.name].dtype == np.float32
            assert found[spec.name].shape == (6, *spec.shape[1:])
    assert [spec.name for spec in model.inputs] == ["image", "pixels", "boxes", "group_ends"]
    assert [spec.name for spec in floorplan.inputs] == ["image", "pixels", "boxes"]
    assert model.parameters["num_patches"] == "4"


@pytest.mark.parametrize("output", ALL)
def test_only_what_is_wanted_is_computed(model, output):
    job = model.prepare(request(FILES[:2]), frozenset([output]))
    results = model.forward(job.items)
    assert [set(result) for result in results] == [{output}] * 2
    assert set(model.finish(job, results)) == {output}


def test_a_batch_may_want_different_things_of_each_picture(model):
    one = model.prepare(request(FILES[:1]), frozenset(["cls"]))
    two = model.prepare(request(FILES[1:2]), frozenset(["object_embedding", "patches"]))
    results = model.forward([*one.items, *two.items])
    assert [set(result) for result in results] == [{"cls"}, {"object_embedding", "patches"}]
    np.testing.assert_allclose(results[0]["cls"], run(model, request(FILES[:1]), "cls")["cls"][0], atol=1e-5)


def test_a_picture_that_stands_twice_is_computed_once(model):
    job = model.prepare(request([FILES[0], FILES[1], FILES[0]]), frozenset(["cls"]))
    assert len(job.items) == 2
    assert [item.cost for item in job.items] == [1, 1]
    found = model.finish(job, model.forward(job.items))["cls"]
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_an_answer_that_cannot_be_sent_is_refused_before_anything_is_decoded(tmp_path):
    model = tiny_model(tmp_path, limits=replace(LIMITS, max_answer_bytes=1500))
    nothing = request([b"", b"", b""])
    message = r"^outputs: 1792 bytes of the answer for 3 pictures, the limit is 1500$"
    with pytest.raises(LimitExceeded, match=message):
        model.prepare(nothing, frozenset(["patches"]))
    with pytest.raises(LimitExceeded, match="1792 bytes of the answer for 2 pictures"):
        model.prepare(request([b"", b""], group_ends=[2]), frozenset(["patches", "cls"]))
    assert run(model, request(FILES[:2]), "patches")["patches"].nbytes == 1024


def test_crossover_heads_have_the_published_sizes():
    heads = ImageHeads(feature_width=1536, frame_width=1536, hidden_width=768, width=768)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in heads.named_children()}
    assert sizes == {"scene": 886_656, "frame": 7_080_960, "object": 886_656}
    assert heads.floorplan().scene is heads.scene


def bundle_with(folder, name, **changes) -> SectionContent:
    """The tiny bundle with its section `image` changed."""
    tiny = open_bundle(folder / "bundles" / "one")
    section = tiny.section("image")
    given = {
        "schema": section.schema,
        "config": section.config,
        "tensors": tiny.tensors("image"),
        "preprocessing": section.preprocessing,
        "backbone": section.backbone,
    }
    content = SectionContent(**(given | changes))
    made = BundleContent(name=name, preset="test", width=8, trained=False, sections={"image": content})
    return write_bundle(made, folder / "bundles" / name).directory


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("a", {"schema": "image/2"}, BundleInvalid, "unknown schema image/2"),
        (
            "b",
            {"config": {"width": 8}},
            BundleInvalid,
            "config: needs the numbers feature_width, frame_width",
        ),
        ("c", {"backbone": None}, BundleInvalid, "names no backbone"),
        ("d", {"preprocessing": {"side_px": 28}}, BundleInvalid, "preprocessing is .* backbone tiny has"),
        ("e", {"tensors": {"x": torch.zeros(1)}}, BundleInvalid, "missing tensors"),
    ],
)
def test_a_section_that_does_not_fit_is_named(factory, folder, name, changes, error, message):
    with pytest.raises(error, match=f"bundle {name}: section image: {message}"):
        factory.load("image", bundle_with(folder, name, **changes))


def test_a_floorplan_with_a_scene_head_of_its_own_is_refused(factory, folder):
    tiny = open_bundle(folder / "bundles" / "one")
    made = {}
    for name in ("image", "floorplan"):
        section, tensors = tiny.section(name), tiny.tensors(name)
        if name == "floorplan":
            tensors["scene.project.bias"] = tensors["scene.project.bias"] + 1e-3
        made[name] = SectionContent(
            schema=section.schema,
            config=section.config,
            tensors=tensors,
            preprocessing=section.preprocessing,
            backbone=section.backbone,
        )
    content = BundleContent(name="apart", preset="test", width=8, trained=False, sections=made)
    directory = write_bundle(content, folder / "bundles" / "apart").directory
    alone = replace(content, name="alone", sections={"floorplan": made["floorplan"]})
    assert factory.load("floorplan", write_bundle(alone, folder / "bundles" / "alone").directory)
    message = r"bundle apart: section floorplan: scene\.project\.bias must be those of section image"
    for name in ("image", "floorplan"):
        with pytest.raises(BundleInvalid, match=message):
            factory.load(name, directory)


@pytest.mark.parametrize(
    ("size", "value", "message"),
    [("width", 6, "width is 6, the bundle's is 8"), ("hidden_width", 3, "hidden_width: 3, at least 4")],
)
def test_sizes_that_cannot_be_are_named(factory, folder, size, value, message):
    config = dict(open_bundle(folder / "bundles" / "one").section("image").config) | {size: value}
    with pytest.raises(BundleInvalid, match=f"section image: config: {message}"):
        factory.load("image", bundle_with(folder, f"size-{size}", config=config))


def test_a_bundle_made_with_other_weights_is_refused(factory, folder):
    reference = open_bundle(folder / "bundles" / "one").section("image").backbone
    bundle = bundle_with(folder, "other", backbone=replace(reference, digest="1" * 64))
    with pytest.raises(
        ModelMismatch, match=r"made with model\.safetensors of backbone tiny with SHA-256 1{64}"
    ):
        factory.load("image", bundle)


def test_heads_for_features_of_another_width_are_refused(factory, folder):
    config = {"feature_width": 16, "frame_width": 24, "hidden_width": 16, "width": 8}
    bundle = bundle_with(folder, "wide", config=config, tensors=ImageHeads(**config).state_dict())
    with pytest.raises(BundleInvalid, match="config feature_width is 16, the backbone has 32"):
        factory.load("image", bundle)


def test_a_model_that_is_not_there_is_not_found(factory, folder, tmp_path):
    with pytest.raises(NotFound, match="it has no section floorplan"):
        factory.load("floorplan", bundle_with(folder, "imageonly"))
    with pytest.raises(InvalidInput, match="name: text, this service has image, floorplan"):
        factory.load("text", folder)
    empty = VisionFactory(tmp_path, LIMITS, CPU, registry_of(image_backbone("tiny", TINY, licence="none")))
    with pytest.raises(PreconditionFailed, match=r"backbone tiny: model\.safetensors, config\.json missing"):
        empty.load("image", folder / "bundles" / "one")


def test_warming_up_computes_what_callers_may_want(model, floorplan):
    model.warm_up()
    floorplan.warm_up()


def test_a_lower_precision_is_told_and_gives_nearly_the_same(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    factory, bundle = tiny_factory(tmp_path / "one")
    low_factory, low_bundle = tiny_factory(tmp_path / "two", LIMITS, Compute(CPU.device, "bfloat16"))
    whole, low = factory.load("image", bundle), low_factory.load("image", low_bundle)
    assert (whole.parameters["precision"], low.parameters["precision"]) == ("float32", "bfloat16")
    tensors = request([encoded(picture(seed, 60, 40), "PNG") for seed in range(3)])
    wanted, found = (run(model, tensors, "cls")["cls"] for model in (whole, low))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
