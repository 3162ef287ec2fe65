"""The projection head: sizes, layers and what it refuses."""

import numpy as np
import pytest
import torch

from xscene.errors import InvalidInput
from xscene.nn.heads import ProjectionHead


@pytest.mark.parametrize(
    ("widths", "num_parameters"),
    [
        ((384, 384, 768), 222_528),
        ((1536, 1536, 768), 1_772_544),
        ((1536, 768, 768), 886_656),
        ((768, 768, 768), 591_744),
        ((512, 512, 768), 329_216),
    ],
)
def test_parameter_counts_are_the_published_ones(widths, num_parameters):
    assert sum(p.numel() for p in ProjectionHead(*widths).parameters()) == num_parameters


def test_the_head_is_what_its_layers_say():
    torch.manual_seed(0)
    head = ProjectionHead(6, 8, 4).double()
    # An affine part of its own, else the norm's scale and shift would go untested.
    torch.nn.init.normal_(head.norm.weight)
    torch.nn.init.normal_(head.norm.bias)
    w = {name: value.numpy() for name, value in head.state_dict().items()}
    for x in np.random.default_rng(0).normal(size=(5, 6)):
        hidden = np.maximum(w["expand.weight"] @ x + w["expand.bias"], 0)
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-12) * w["norm.weight"] + w["norm.bias"]
        out = w["project.weight"] @ hidden + w["project.bias"]
        got = head(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(got, out / np.linalg.norm(out), rtol=1e-10)


def test_outputs_have_norm_one_over_any_leading_shape():
    out = ProjectionHead(6, 8, 4)(torch.randn(2, 3, 6))
    assert out.shape == (2, 3, 4)
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(2, 3))


def test_a_feature_of_zeros_gives_numbers():
    assert ProjectionHead(6, 8, 4)(torch.zeros(1, 6)).isfinite().all()


def test_dropout_acts_in_training_only():
    head = ProjectionHead(64, 64, 16, dropout=0.5)
    x = torch.randn(4, 64)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((7, 8, 4), "in_width: 7 is odd"),
        ((6, 7, 4), "hidden_width: 7 is odd"),
        ((6, 8, 5), "out_width: 5 is odd"),
        ((0, 8, 4), "in_width: 0, at least 2"),
        ((6, 2, 4), "hidden_width: 2, at least 4"),
        ((6, 8, -2), "out_width: -2, at least 2"),
    ],
)
def test_odd_and_tiny_widths_are_refused_by_name(widths, message):
    with pytest.raises(InvalidInput, match=message):
        ProjectionHead(*widths)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_is_no_share_is_refused(dropout):
    with pytest.raises(InvalidInput, match=r"dropout: .* is not in \[0, 1\)"):
        ProjectionHead(6, 8, 4, dropout=dropout)
