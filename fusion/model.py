"""The fusion model: any non-empty subset of a scene's embeddings to one vector."""

# B batch, M members, D embedding width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from xscene.errors import InvalidInput
from xscene.nn.bundle import Bundle
from xscene.nn.bundle_writer import SectionContent
from xscene.nn.heads import ProjectionHead

SECTION = "fusion"
SCHEMA = "fusion/1"
MEMBERS = ("text", "image", "floorplan", "point_cloud", "mesh", "objects")


class FusionModel(nn.Module):
    """A learned share for each member, renormalised over those present, then a projection head.

    The shares are the softmax of one scalar a member, all equal at the start. An absent member takes
    no part: whatever stands in its row, NaN too, changes nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.logit_M = nn.Parameter(torch.ones(len(MEMBERS)))
        self.head = ProjectionHead(width, width, width)

    def forward(self, z_BMD: Tensor, present_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Fused unit vectors [B, D] and shares [B, M]; every row needs a member that is present."""
        unit_BMD = _unit(torch.where(present_BM[..., None], z_BMD, 0.0))
        logit_BM = self.logit_M.expand(present_BM.shape).masked_fill(~present_BM, -torch.inf)
        weight_BM = torch.softmax(logit_BM, dim=-1)
        return self.head((weight_BM[..., None] * unit_BMD).sum(dim=-2)), weight_BM

    @torch.inference_mode()
    def fuse(self, z_BMD: Tensor, present_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Fused vectors [B, D] and shares [B, M] in float32; faults are named by item and member."""
        device = self.logit_M.device
        z_BMD = z_BMD.to(device, torch.float32)
        present_BM = present_BM.to(device, torch.bool)
        self._check(z_BMD, present_BM)
        with torch.autocast(device.type, enabled=False):
            fused_BD, weight_BM = self(z_BMD, present_BM)
        return fused_BD, weight_BM

    def fuse_arrays(
        self, items: Sequence[Mapping[str, ArrayLike]]
    ) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
        """Fused vectors [B, D] and each item's shares, from each item's vectors [D] by member."""
        if not items:
            raise InvalidInput.at("items", "is empty, at least one item is needed")
        z_BMD = np.zeros((len(items), len(MEMBERS), self.width), np.float32)
        present_BM = np.zeros(z_BMD.shape[:2], np.bool_)
        for row, item in enumerate(items):
            if not item:
                raise InvalidInput.at(f"items[{row}].embeddings", "is empty, at least one is needed")
            for position, (member, values) in enumerate(item.items()):
                field = f"items[{row}].embeddings[{position}]"
                column = _column(field, member)
                z_BMD[row, column] = _vector(field, member, values, self.width)
                present_BM[row, column] = True
        fused_BD, weight_BM = self.fuse(torch.from_numpy(z_BMD), torch.from_numpy(present_BM))
        shares = weight_BM.cpu().tolist()
        weights = [
            {member: share[MEMBERS.index(member)] for member in item}
            for item, share in zip(items, shares, strict=True)
        ]
        return fused_BD.cpu().numpy(), weights

    def section(self) -> SectionContent:
        """The model as a section of a bundle."""
        return SectionContent(schema=SCHEMA, config=_config(self.width), tensors=self.state_dict())

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> FusionModel:
        """The model of a bundle, ready for inference."""
        section = bundle.section(SECTION, schema=SCHEMA)
        wanted = _config(bundle.manifest.width)
        for key in sorted({*wanted, *section.config}):
            if section.config.get(key) != wanted.get(key):
                description = f"config {key} is {section.config.get(key)}, needed: {wanted.get(key)}"
                raise bundle.invalid(SECTION, description)
        model = cls(bundle.manifest.width)
        bundle.load_module_strict(model, SECTION)
        return model.eval()

    def _check(self, z_BMD: Tensor, present_BM: Tensor) -> None:
        """Refuse shapes that do not fit, items with nothing, vectors without a direction."""
        wanted = (len(MEMBERS), self.width)
        if z_BMD.ndim != 3 or tuple(z_BMD.shape[1:]) != wanted:
            raise InvalidInput.at(
                "z_BMD", f"shape {list(z_BMD.shape)}, needed: [B, {wanted[0]}, {wanted[1]}]"
            )
        if present_BM.shape != z_BMD.shape[:2]:
            raise InvalidInput.at(
                "present_BM", f"shape {list(present_BM.shape)}, needed: {list(z_BMD.shape[:2])}"
            )
        for row in (~present_BM.any(dim=1)).nonzero().flatten().tolist():
            raise InvalidInput.at(f"items[{row}]", f"nothing is present, of {', '.join(MEMBERS)}")
        faults_BM = present_BM & ~_has_direction(z_BMD)
        for row, column in faults_BM.nonzero().tolist():
            fault = (
                "norm is 0" if z_BMD[row, column].isfinite().all() else "holds numbers that are not finite"
            )
            raise InvalidInput.at(f"items[{row}].{MEMBERS[column]}", fault)


def _config(width: int) -> dict[str, Any]:
    """What a section of this schema says of itself."""
    return {"members": list(MEMBERS), "width": width}


def _unit(z_BMD: Tensor) -> Tensor:
    """Rows of norm 1; rows of zeros stay."""
    # Scaled first, because the squares of very long and very short vectors leave float32.
    scale = z_BMD.detach().abs().amax(dim=-1, keepdim=True)
    return nn.functional.normalize(z_BMD / torch.where(scale > 0, scale, 1.0), dim=-1)


def _has_direction(z_BMD: Tensor) -> Tensor:
    """Which vectors are finite and not zero."""
    return z_BMD.isfinite().all(dim=-1) & (z_BMD != 0).any(dim=-1)


def _column(field: str, member: str) -> int:
    """The place of a member."""
    if member not in MEMBERS:
        raise InvalidInput.at(field, f"{member} cannot be fused; members are {', '.join(MEMBERS)}")
    return MEMBERS.index(member)


def _vector(field: str, member: str, values: ArrayLike, width: int) -> NDArray[np.float32]:
    """A caller's vector [D], checked."""
    given = np.asarray(values)
    if given.ndim != 1 or given.dtype.kind not in "fiu":
        wanted = f"numbers of shape [{width}]"
        raise InvalidInput.at(
            field, f"{given.dtype} of shape {list(given.shape)}, needed: {wanted} ({member})"
        )
    if given.size != width:
        raise InvalidInput.at(field, f"{given.size} values, the bundle has {width} ({member})")
    with np.errstate(over="ignore"):
        vector = given.astype(np.float32)
    if not np.isfinite(vector).all():
        raise InvalidInput.at(field, f"holds numbers that are not finite in float32 ({member})")
    if not vector.any():
        raise InvalidInput.at(field, f"norm is 0 ({member})")
    return vector
