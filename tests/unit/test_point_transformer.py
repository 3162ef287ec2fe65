"""The object network: groups, golden sizes, and the whole of it beside the same written the slow way."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from encoders_3d.grouping import farthest_points, nearest_points, rows_at, within
from encoders_3d.point_transformer import COMPACT, STANDARD, PointTransformer, PointTransformerConfig
from xscene.errors import InvalidInput
from xscene.geometry.selection import farthest_point_sample

TINY = PointTransformerConfig(
    num_groups=(12, 6, 4),
    num_neighbours=(5, 4, 3),
    widths=(8, 12, 16),
    depths=(2, 1, 2),
    radii=(0.7, 0.9, 1.1),
    num_heads=2,
    stem_width=4,
)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_farthest_points_are_those_of_numpy_for_every_cloud(num_points, count, seed):
    random = np.random.default_rng(seed)
    # Few distinct places, so that distances are equal and points repeat.
    clouds = random.integers(0, 3, (3, num_points, 3)).astype(np.float64)
    starts = random.integers(0, num_points, 3)
    found = farthest_points(torch.from_numpy(clouds), count, torch.from_numpy(starts))
    for cloud, start, chosen in zip(clouds, starts, found, strict=True):
        wanted = farthest_point_sample(cloud, count, start=int(start), repeat=True)
        assert chosen.tolist() == wanted.tolist()


def test_neighbours_are_the_nearest_and_nearness_is_by_distance():
    xyz = torch.rand(2, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    centres = xyz[:, :7]
    found = nearest_points(centres, xyz, 5)
    near = within(centres, 0.5)
    for cloud in range(2):
        for group in range(7):
            distances = [math.dist(centres[cloud, group].tolist(), point) for point in xyz[cloud].tolist()]
            assert found[cloud, group].tolist() == sorted(range(30), key=distances.__getitem__)[:5]
            assert near[cloud, group].tolist() == [distance < 0.5 for distance in distances[:7]]
    np.testing.assert_array_equal(rows_at(xyz, found)[1, 2, 3], xyz[1, found[1, 2, 3]])


def linear(i: int, o: int, *, bias: bool = True) -> int:
    return i * o + o * bias


def counted(config: PointTransformerConfig) -> int:
    """Parameters by formula."""
    stem, widths = config.stem_width, config.widths
    norm = 2
    total = linear(3, stem) + norm * stem + linear(stem, 2 * stem)
    total += linear(4 * stem, 4 * stem) + norm * 4 * stem + linear(4 * stem, widths[0])
    for i, o in pairwise(widths):
        total += linear(i, i) + norm * i + linear(i, i) + linear(2 * i, o) + norm * o + linear(o, o)
    for w, depth in zip(widths, config.depths, strict=True):
        block = (
            2 * norm * w + linear(w, 3 * w, bias=False) + linear(w, w) + linear(w, 4 * w) + linear(4 * w, w)
        )
        total += linear(3, w) + linear(w, w) + depth * block
    return total + norm * widths[-1]


@pytest.mark.parametrize(("config", "golden"), [(STANDARD, 12_654_400), (COMPACT, 404_928)])
def test_networks_have_their_golden_sizes(config, golden):
    with torch.device("meta"):
        network = PointTransformer(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == golden == counted(config)


def test_the_standard_network_has_the_published_scales():
    assert (
        PointTransformerConfig(
            num_groups=(512, 256, 64),
            num_neighbours=(48, 24, 24),
            widths=(96, 192, 384),
            depths=(5, 5, 5),
            radii=(0.24, 0.48, 0.96),
            num_heads=6,
        )
        == STANDARD
    )


def numbers(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def gelu(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)(x)


def layer_norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def affine(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)


def slow_mlp(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    x = affine(x, weights, f"{name}.expand")
    scale = np.sqrt(weights[f"{name}.norm.running_var"] + 1e-5)
    x = (x - weights[f"{name}.norm.running_mean"]) / scale
    x = x * weights[f"{name}.norm.weight"] + weights[f"{name}.norm.bias"]
    return affine(np.maximum(x, 0), weights, f"{name}.project")


def slow_token(members: list[np.ndarray], weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    seen = [slow_mlp(member, weights, f"{name}.member") for member in members]
    whole = np.max(seen, axis=0)
    return np.max([slow_mlp(np.concatenate([whole, x]), weights, f"{name}.group") for x in seen], axis=0)


def slow_block(tokens, centres, radius, weights, name, heads):
    width = len(tokens[0])
    size = width // heads
    qkv = [affine(layer_norm(x, weights, f"{name}.norm1"), weights, f"{name}.qkv") for x in tokens]
    out = []
    for row, x in enumerate(tokens):
        near = [i for i in range(len(tokens)) if math.dist(centres[row], centres[i]) < radius]
        parts = []
        for head in range(heads):
            q, k, v = (
                [each[part * width + head * size : part * width + (head + 1) * size] for each in qkv]
                for part in range(3)
            )
            logits = np.array([q[row] @ k[i] / math.sqrt(size) for i in near])
            share = np.exp(logits) / np.exp(logits).sum()
            parts.append(sum(s * v[i] for s, i in zip(share, near, strict=True)))
        seen = x + affine(np.concatenate(parts), weights, f"{name}.proj")
        hidden = gelu(affine(layer_norm(seen, weights, f"{name}.norm2"), weights, f"{name}.mlp.0"))
        out.append(seen + affine(hidden, weights, f"{name}.mlp.2"))
    return out


def slow_feature(network: PointTransformer, points: np.ndarray) -> np.ndarray:
    """The feature of one cloud, group by group and token by token."""
    weights, config, tokens = numbers(network), network.config, None
    for scale in range(3):
        chosen = farthest_point_sample(points, config.num_groups[scale], start=0)
        centres, fresh = points[chosen], []
        for centre in centres:
            order = sorted(range(len(points)), key=lambda i: math.dist(centre, points[i]))
            near = order[: config.num_neighbours[scale]]
            members = [points[i] - centre for i in near] if tokens is None else [tokens[i] for i in near]
            fresh.append(slow_token(members, weights, f"embeddings.{scale}"))
        name = f"scales.{scale}"
        places = [
            affine(gelu(affine(centre, weights, f"{name}.position.0")), weights, f"{name}.position.2")
            for centre in centres
        ]
        tokens = fresh
        for block in range(config.depths[scale]):
            tokens = [token + place for token, place in zip(tokens, places, strict=True)]
            tokens = slow_block(
                tokens, centres, config.radii[scale], weights, f"{name}.blocks.{block}", config.num_heads
            )
        points = centres
    normed = np.array([layer_norm(token, weights, "norm") for token in tokens])
    return normed.mean(axis=0) + normed.max(axis=0)


def tiny(seed: int = 0) -> PointTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PointTransformer(TINY).double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.running_mean, std=0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@torch.inference_mode()
def test_features_are_those_of_the_network_written_the_slow_way():
    network = tiny()
    xyz = torch.rand(3, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    found = network(xyz).numpy()
    for cloud, feature in zip(xyz.numpy(), found, strict=True):
        np.testing.assert_allclose(feature, slow_feature(network, cloud), rtol=1e-10, atol=1e-10)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_every_parameter_learns():
    network = tiny().train()
    xyz = torch.rand(2, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    network(xyz).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_no_cloud_changes_another(seeds, salt):
    network = tiny()
    xyz = torch.stack(
        [
            torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s + salt))
            for s in seeds
        ]
    )
    with torch.inference_mode():
        together = network(xyz)
        for one, wanted in zip(xyz, together, strict=True):
            np.testing.assert_allclose(network(one[None])[0], wanted, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 11, 3), (2, 20, 4), (20, 3)])
def test_clouds_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInput, match=r"points: shape .*, needs \[any, at least 12, 3\]"):
        tiny()(torch.zeros(*shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_heads": 5}, "widths: 8 is no multiple of 5 heads"),
        ({"depths": (1, 0, 1)}, "depths: 0, at least 1 is needed"),
        ({"num_groups": (12, 3, 2)}, "num_groups: 3 at scale 1, the next needs 4"),
        ({"num_neighbours": (5, 13, 3)}, "num_groups: 12 at scale 0, the next needs 13"),
    ],
)
def test_sizes_that_give_no_network_are_refused(sizes, message):
    fields = {"num_groups": (12, 6, 4), "num_neighbours": (5, 4, 4), "widths": (8, 12, 16), "num_heads": 2}
    with pytest.raises(InvalidInput, match=message):
        PointTransformerConfig(**fields | sizes)
