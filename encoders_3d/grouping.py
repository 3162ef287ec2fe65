"""Groups of points: farthest points that cover a cloud, and the nearest neighbours of each."""

# B clouds, N points, G groups, K neighbours, C channels

from __future__ import annotations

import torch
from torch import Tensor

EXACT = "donot_use_mm_for_euclid_dist"


def farthest_points(xyz_BN3: Tensor, count: int, start_B: Tensor | None = None) -> Tensor:
    """Indices [B, G] of points, each as far as can be from those chosen before it; ties go to the lower.

    The first is point 0 where no other is named. No point is chosen twice; past the last they
    come again in the same order.
    """
    num_clouds, num_points = xyz_BN3.shape[:2]
    rows = torch.arange(num_clouds, device=xyz_BN3.device)
    current = torch.zeros_like(rows) if start_B is None else start_B
    columns = [column.contiguous() for column in xyz_BN3.unbind(-1)]
    nearest = torch.full_like(columns[0], torch.inf)
    chosen = torch.empty(num_clouds, min(count, num_points), dtype=torch.int64, device=rows.device)
    for step in range(chosen.shape[1]):
        chosen[:, step] = current
        squares = [(column - column[rows, current, None]).square_() for column in columns]
        torch.minimum(nearest, squares[0] + squares[1] + squares[2], out=nearest)
        # Below every distance, so that duplicates of chosen points still come before chosen points.
        nearest[rows, current] = -1.0
        current = nearest.argmax(dim=1)
    order = torch.arange(count, device=rows.device) % chosen.shape[1]
    return chosen[:, order]


def nearest_points(centres_BG3: Tensor, xyz_BN3: Tensor, count: int) -> Tensor:
    """Indices [B, G, K] of the points nearest to each centre, nearest first."""
    distance_BGN = torch.cdist(centres_BG3, xyz_BN3, compute_mode=EXACT)
    return distance_BGN.topk(count, dim=-1, largest=False).indices


def within(centres_BG3: Tensor, radius: float) -> Tensor:
    """Which centres [B, G, G] lie closer together than the radius; each to itself."""
    return torch.cdist(centres_BG3, centres_BG3, compute_mode=EXACT) < radius


def rows_at(values_BNC: Tensor, index: Tensor) -> Tensor:
    """The rows of each cloud at indices [B, ...]."""
    clouds = torch.arange(len(index), device=index.device).view(-1, *[1] * (index.ndim - 1))
    return values_BNC[clouds, index]
