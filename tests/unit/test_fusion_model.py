"""The fusion model against a slow reference, and every fault of a caller by its place."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.model import MEMBERS, FusionModel
from xscene.errors import BundleInvalid, InvalidInput
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, write_bundle

WIDTH = 16
M = len(MEMBERS)


def make_model() -> FusionModel:
    torch.manual_seed(7)
    model = FusionModel(WIDTH)
    torch.nn.init.normal_(model.logit_M)
    torch.nn.init.normal_(model.head.norm.weight)
    return model.eval()


MODEL = make_model()


def slow_fuse(model, item):
    """One item, in double precision, a member at a time."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    logits = {member: w["logit_M"][MEMBERS.index(member)] for member in item}
    total = sum(np.exp(logit) for logit in logits.values())
    weights = {member: np.exp(logit) / total for member, logit in logits.items()}
    mixed = np.zeros(WIDTH)
    for member, vector in item.items():
        numbers = np.asarray(vector, np.float64)
        mixed += weights[member] * numbers / np.sqrt(sum(x * x for x in numbers))
    hidden = np.maximum(w["head.expand.weight"] @ mixed + w["head.expand.bias"], 0)
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-12)
    hidden = hidden * w["head.norm.weight"] + w["head.norm.bias"]
    out = w["head.project.weight"] @ hidden + w["head.project.bias"]
    return out / np.linalg.norm(out), weights


def random_items(rng, num_items):
    items = []
    for _ in range(num_items):
        chosen = rng.permutation(M)[: rng.integers(1, M + 1)]
        items.append({MEMBERS[i]: rng.normal(size=WIDTH).astype(np.float32) for i in chosen})
    return items


def tensors_of(items, absent=0.0):
    z, present = torch.full((len(items), M, WIDTH), absent), torch.zeros(len(items), M, dtype=torch.bool)
    for row, item in enumerate(items):
        for member, vector in item.items():
            z[row, MEMBERS.index(member)] = torch.from_numpy(vector)
            present[row, MEMBERS.index(member)] = True
    return z, present


def test_parameters_are_one_scalar_a_member_and_the_head():
    assert sum(p.numel() for p in FusionModel(768).parameters()) == 591_744 + 6


def test_members_stand_in_their_fixed_order():
    assert MEMBERS == ("text", "image", "floorplan", "point_cloud", "mesh", "objects")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_any_subset_agrees_with_the_slow_reference(seed, num_items):
    items = random_items(np.random.default_rng(seed), num_items)
    fused, weights = MODEL.fuse_arrays(items)
    assert fused.shape == (num_items, WIDTH)
    assert fused.dtype == np.float32
    for item, vector, shares in zip(items, fused, weights, strict=True):
        wanted, wanted_shares = slow_fuse(MODEL, item)
        np.testing.assert_allclose(vector, wanted, atol=1e-5)
        assert shares == pytest.approx(wanted_shares, abs=1e-6)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_untrained_shares_are_equal_among_those_present():
    _, weights = FusionModel(WIDTH).fuse_arrays([{"text": np.ones(WIDTH), "mesh": np.ones(WIDTH)}])
    assert weights == [{"text": 0.5, "mesh": 0.5}]


def test_a_member_alone_has_all_the_weight():
    _, weights = MODEL.fuse_arrays([{"mesh": np.ones(WIDTH)}])
    assert weights == [{"mesh": 1.0}]


@pytest.mark.parametrize("absent", [float("nan"), float("inf"), 1e30])
def test_an_absent_member_changes_nothing_whatever_its_row_holds(absent):
    items = random_items(np.random.default_rng(1), 8)
    wanted, wanted_weights = MODEL.fuse(*tensors_of(items))
    got, weights = MODEL.fuse(*tensors_of(items, absent))
    assert torch.equal(got, wanted)
    assert torch.equal(weights, wanted_weights)
    assert (weights[~tensors_of(items)[1]] == 0).all()


def test_an_absent_nan_reaches_no_gradient():
    items = random_items(np.random.default_rng(2), 8)
    z, present = tensors_of(items, float("nan"))
    z.requires_grad_()
    model = make_model()
    model(z, present)[0][:, 0].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert z.grad.isfinite().all()
    assert (z.grad[~present] == 0).all()
    assert (z.grad[present] != 0).any()


def test_an_item_fares_alike_alone_and_in_a_batch():
    items = random_items(np.random.default_rng(3), 33)
    together, _ = MODEL.fuse_arrays(items)
    alone = np.concatenate([MODEL.fuse_arrays([item])[0] for item in items])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_the_order_of_a_callers_members_changes_nothing_but_the_order_of_the_answer():
    item = {member: np.random.default_rng(i).normal(size=WIDTH) for i, member in enumerate(MEMBERS)}
    turned = dict(reversed(item.items()))
    (fused, [weights]), (other, [other_weights]) = MODEL.fuse_arrays([item]), MODEL.fuse_arrays([turned])
    assert np.array_equal(fused, other)
    assert weights == other_weights
    assert list(other_weights) == list(turned)


@pytest.mark.parametrize("scale", [1e-44, 1e-25, 1e20, 1e38])
def test_the_length_of_a_vector_does_not_count(scale):
    direction = np.where(np.arange(WIDTH) % 3 == 0, 1.0, -1.0)
    other = np.random.default_rng(4).normal(size=WIDTH)
    wanted, _ = MODEL.fuse_arrays([{"text": direction, "image": other}])
    got, _ = MODEL.fuse_arrays([{"text": direction * scale, "image": other}])
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_inference_is_in_float32_under_autocast_too():
    items = random_items(np.random.default_rng(5), 4)
    wanted, _ = MODEL.fuse(*tensors_of(items))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = MODEL.fuse(*tensors_of(items))
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


GOOD = np.ones(WIDTH)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "items: is empty"),
        ([{"text": GOOD}, {}], r"items\[1\]\.embeddings: is empty"),
        (
            [{"text": GOOD}, {"text": GOOD, "image": np.ones(5)}],
            r"items\[1\]\.embeddings\[1\]: 5 values, the bundle has 16 \(image\)",
        ),
        ([{"text": np.ones((1, WIDTH))}], r"items\[0\]\.embeddings\[0\]: float64 of shape \[1, 16\]"),
        (
            [{"text": np.array(["a"] * WIDTH)}],
            r"items\[0\]\.embeddings\[0\]: <U1 of shape \[16\], needed: numbers",
        ),
        ([{"fused": GOOD}], r"items\[0\]\.embeddings\[0\]: fused cannot be fused; members are text, image"),
        (
            [{"mesh": GOOD * np.nan}],
            r"items\[0\]\.embeddings\[0\]: holds numbers that are not finite.*\(mesh\)",
        ),
        (
            [{"mesh": GOOD * 1e300}],
            r"items\[0\]\.embeddings\[0\]: holds numbers that are not finite in float32",
        ),
        ([{"text": GOOD, "mesh": GOOD * 0}], r"items\[0\]\.embeddings\[1\]: norm is 0 \(mesh\)"),
    ],
)
def test_a_callers_fault_is_named_by_item_and_embedding(items, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        MODEL.fuse_arrays(items)
    assert caught.value.violations


def fault_nothing(z, present):
    present[2] = False
    return r"items\[2\]: nothing is present"


def fault_zero(z, present):
    z[1, 3] = 0
    return r"items\[1\]\.point_cloud: norm is 0"


def fault_nan(z, present):
    z[3, 5, 2] = torch.nan
    return r"items\[3\]\.objects: holds numbers that are not finite"


@pytest.mark.parametrize("fault", [fault_nothing, fault_zero, fault_nan])
def test_a_fault_in_the_tensors_is_named_by_item_and_member(fault):
    z, present = torch.ones(4, M, WIDTH), torch.ones(4, M, dtype=torch.bool)
    message = fault(z, present)
    with pytest.raises(InvalidInput, match=message):
        MODEL.fuse(z, present)


@pytest.mark.parametrize(
    ("z_shape", "present_shape", "message"),
    [
        ((2, M, WIDTH + 1), (2, M), r"z_BMD: shape \[2, 6, 17\], needed: \[B, 6, 16\]"),
        ((2, M - 1, WIDTH), (2, M), r"z_BMD: shape \[2, 5, 16\]"),
        ((M, WIDTH), (M,), r"z_BMD: shape \[6, 16\]"),
        ((2, M, WIDTH), (3, M), r"present_BM: shape \[3, 6\], needed: \[2, 6\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(z_shape, present_shape, message):
    with pytest.raises(InvalidInput, match=message):
        MODEL.fuse(torch.ones(z_shape), torch.ones(present_shape, dtype=torch.bool))


def write(directory, **changes):
    section = dataclasses.replace(MODEL.section(), **changes)
    content = BundleContent(name="b", preset="p", width=WIDTH, trained=False, sections={"fusion": section})
    return write_bundle(content, directory)


def test_a_model_comes_back_from_its_bundle_bit_for_bit(tmp_path):
    write(tmp_path / "b")
    model = FusionModel.from_bundle(open_bundle(tmp_path / "b"))
    assert not model.training
    items = random_items(np.random.default_rng(6), 5)
    assert np.array_equal(model.fuse_arrays(items)[0], MODEL.fuse_arrays(items)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "fusion/2"}, "section fusion: unknown schema fusion/2, this code reads fusion/1"),
        ({"config": {"members": list(MEMBERS), "width": 8}}, "config width is 8, needed: 16"),
        ({"config": {"members": list(MEMBERS[::-1]), "width": WIDTH}}, "config members is .*, needed: "),
        ({"config": {"members": list(MEMBERS)}}, "config width is None, needed: 16"),
        ({"config": MODEL.section().config | {"gate": 1}}, "config gate is 1, needed: None"),
    ],
)
def test_a_section_that_this_model_cannot_be_is_refused(tmp_path, changes, message):
    bundle = write(tmp_path / "b", **changes)
    with pytest.raises(BundleInvalid, match=message):
        FusionModel.from_bundle(bundle)
