"""The projection head that maps backbone features to the joint space."""

# B batch, I input width, D output width

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from xscene.errors import InvalidInput

LAYER_NORM_EPS = 1e-12


class ProjectionHead(nn.Module):
    """Linear, ReLU, LayerNorm, dropout, Linear, then L2 normalisation.

    The hidden layer is `hidden_width // 2` wide.
    """

    def __init__(self, in_width: int, hidden_width: int, out_width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        _check_widths(in_width, hidden_width, out_width)
        if not 0.0 <= dropout < 1.0:
            raise InvalidInput.at("dropout", f"{dropout} is not in [0, 1)")
        half = hidden_width // 2
        self.expand = nn.Linear(in_width, half)
        self.norm = nn.LayerNorm(half, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(half, out_width)

    def forward(self, x_BI: Tensor) -> Tensor:
        """Unit vectors [..., D] of features [..., I]."""
        hidden = self.dropout(self.norm(functional.relu(self.expand(x_BI))))
        return functional.normalize(self.project(hidden), dim=-1)


def _check_widths(in_width: int, hidden_width: int, out_width: int) -> None:
    """Refuse widths that give no head, or a norm over a single number."""
    for field, width, least in (
        ("in_width", in_width, 2),
        ("hidden_width", hidden_width, 4),
        ("out_width", out_width, 2),
    ):
        if width < least:
            raise InvalidInput.at(field, f"{width}, at least {least} is needed")
        if width % 2:
            raise InvalidInput.at(field, f"{width} is odd, widths of a head are even")
