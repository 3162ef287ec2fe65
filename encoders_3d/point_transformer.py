"""A transformer over the points of one object, in scales of ever fewer and larger groups."""

# B clouds, N points, G groups, K neighbours, C channels, F output width

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders_3d.grouping import farthest_points, nearest_points, rows_at, within
from xscene.errors import InvalidInput

MLP_RATIO = 4


@dataclass(frozen=True, kw_only=True)
class PointTransformerConfig:
    """Sizes of each scale, finest first."""

    num_groups: tuple[int, int, int] = (512, 256, 64)
    num_neighbours: tuple[int, int, int] = (48, 24, 24)
    widths: tuple[int, int, int] = (96, 192, 384)
    depths: tuple[int, int, int] = (5, 5, 5)
    radii: tuple[float, float, float] = (0.24, 0.48, 0.96)
    """Groups attend to those whose centres are closer than this; the object has radius 1."""
    num_heads: int = 6
    stem_width: int = 128

    def __post_init__(self) -> None:
        for name, sizes in (
            ("num_groups", self.num_groups),
            ("num_neighbours", self.num_neighbours),
            ("widths", self.widths),
            ("depths", self.depths),
            ("stem_width", (self.stem_width,)),
            ("num_heads", (self.num_heads,)),
        ):
            if min(sizes) < 1:
                raise InvalidInput.at(name, f"{min(sizes)}, at least 1 is needed")
        for width in self.widths:
            if width % self.num_heads:
                raise InvalidInput.at("widths", f"{width} is no multiple of {self.num_heads} heads")
        for scale, (groups, count) in enumerate(
            zip(self.num_groups[:-1], self.num_neighbours[1:], strict=True)
        ):
            if max(count, self.num_groups[scale + 1]) > groups:
                needed = max(count, self.num_groups[scale + 1])
                raise InvalidInput.at("num_groups", f"{groups} at scale {scale}, the next needs {needed}")

    @property
    def least_points(self) -> int:
        """Points that a cloud must have."""
        return max(self.num_groups[0], self.num_neighbours[0])


STANDARD = PointTransformerConfig()
COMPACT = PointTransformerConfig(
    num_groups=(256, 64, 16),
    num_neighbours=(16, 16, 8),
    widths=(32, 64, 128),
    depths=(2, 2, 1),
    num_heads=4,
    stem_width=16,
)


class PointTransformer(nn.Module):
    """Points in groups around farthest points, groups in larger groups, attention inside each scale.

    The feature is the mean plus the maximum over the groups of the coarsest scale.
    """

    def __init__(self, config: PointTransformerConfig = STANDARD) -> None:
        super().__init__()
        self.config = config
        stem = config.stem_width
        fine, middle, coarse = config.widths
        self.embeddings = nn.ModuleList(
            [
                GroupEmbedding(3, (stem, 2 * stem), 4 * stem, fine),
                GroupEmbedding(fine, (fine, fine), middle, middle),
                GroupEmbedding(middle, (middle, middle), coarse, coarse),
            ]
        )
        self.scales = nn.ModuleList(
            Scale(width, depth, config.num_heads, radius)
            for width, depth, radius in zip(config.widths, config.depths, config.radii, strict=True)
        )
        self.norm = nn.LayerNorm(coarse)

    def forward(self, xyz_BN3: Tensor) -> Tensor:
        """Features [B, F] of clouds of at least as many points as there are groups."""
        if xyz_BN3.ndim != 3 or xyz_BN3.shape[1] < self.config.least_points or xyz_BN3.shape[2] != 3:
            wanted = f"[any, at least {self.config.least_points}, 3]"
            raise InvalidInput.at("points", f"shape {list(xyz_BN3.shape)}, needs {wanted}")
        tokens_BGC: Tensor | None = None
        for embedding, scale, num_groups, num_neighbours in zip(
            self.embeddings, self.scales, self.config.num_groups, self.config.num_neighbours, strict=True
        ):
            centres_BG3 = rows_at(xyz_BN3, farthest_points(xyz_BN3, num_groups))
            members_BGK = nearest_points(centres_BG3, xyz_BN3, num_neighbours)
            if tokens_BGC is None:
                grouped = rows_at(xyz_BN3, members_BGK) - centres_BG3[:, :, None]
            else:
                grouped = rows_at(tokens_BGC, members_BGK)
            tokens_BGC = scale(embedding(grouped), centres_BG3)
            xyz_BN3 = centres_BG3
        tokens_BGC = self.norm(tokens_BGC)
        feature_BF: Tensor = tokens_BGC.mean(dim=1) + tokens_BGC.amax(dim=1)
        return feature_BF


class GroupEmbedding(nn.Module):
    """One token for each group: the maximum over its members, each seen beside the maximum of all."""

    def __init__(self, in_width: int, member_widths: tuple[int, int], hidden: int, out_width: int) -> None:
        super().__init__()
        first, second = member_widths
        self.member = PointwiseMlp(in_width, first, second)
        self.group = PointwiseMlp(2 * second, hidden, out_width)

    def forward(self, grouped_BGKC: Tensor) -> Tensor:
        """Tokens [B, G, C]."""
        member = self.member(grouped_BGKC)
        whole = member.amax(dim=2, keepdim=True).expand_as(member)
        token_BGC: Tensor = self.group(torch.cat([whole, member], dim=-1)).amax(dim=2)
        return token_BGC


class PointwiseMlp(nn.Module):
    """Linear, batch norm, ReLU, linear, on the last dimension."""

    def __init__(self, in_width: int, hidden: int, out_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(in_width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.project = nn.Linear(hidden, out_width)

    def forward(self, values: Tensor) -> Tensor:
        """Values of the output width."""
        rows = functional.relu(self.norm(self.expand(values.flatten(0, -2))))
        projected: Tensor = self.project(rows).unflatten(0, values.shape[:-1])
        return projected


class Scale(nn.Module):
    """The attention blocks of one scale."""

    def __init__(self, width: int, depth: int, num_heads: int, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.position = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))

    def forward(self, tokens_BGC: Tensor, centres_BG3: Tensor) -> Tensor:
        """Tokens [B, G, C] that have seen those around them."""
        position_BGC = self.position(centres_BG3)
        near_B1GG = within(centres_BG3, self.radius)[:, None]
        for block in self.blocks:
            tokens_BGC = block(tokens_BGC + position_BGC, near_B1GG)
        return tokens_BGC


class Block(nn.Module):
    """Attention and an MLP, each after a norm and beside a shortcut."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(), nn.Linear(MLP_RATIO * width, width)
        )

    def forward(self, x_BGC: Tensor, near_B1GG: Tensor) -> Tensor:
        """Tokens of the same shape."""
        x_BGC = x_BGC + self._attended(self.norm1(x_BGC), near_B1GG)
        seen_BGC: Tensor = x_BGC + self.mlp(self.norm2(x_BGC))
        return seen_BGC

    def _attended(self, x_BGC: Tensor, near_B1GG: Tensor) -> Tensor:
        shape = (*x_BGC.shape[:2], 3, self.num_heads, -1)
        query, key, value = self.qkv(x_BGC).view(shape).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=near_B1GG)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected
