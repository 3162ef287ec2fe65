"""The trained parts of the image encoder: the frame MLP and the heads of the two spaces."""

# B rows, F feature width, D embedding width

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from xscene.errors import InvalidInput
from xscene.nn.bundle import Bundle
from xscene.nn.bundle_writer import SectionContent
from xscene.nn.heads import ProjectionHead
from xscene.nn.manifest import BackboneRef, Json

IMAGE, FLOORPLAN = "image", "floorplan"
SCHEMAS: Mapping[str, str] = {IMAGE: "image/1", FLOORPLAN: "floorplan/1"}


_SCENE_HEAD = "scene."


class FrameMlp(nn.Module):
    """Linear, GELU, Linear: CLS and mean patch of a view to one vector, as wide as either."""

    def __init__(self, feature_width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(2 * feature_width, hidden_width)
        self.project = nn.Linear(hidden_width, feature_width)

    def forward(self, cls_BF: Tensor, patch_mean_BF: Tensor) -> Tensor:
        """Vectors [B, F] of views."""
        both = torch.cat([cls_BF, patch_mean_BF], dim=-1)
        projected: Tensor = self.project(functional.gelu(self.expand(both)))
        return projected


class FloorplanHeads(nn.Module):
    """The scene head alone: a floorplan's CLS goes through it as a view's vector does."""

    section_name = FLOORPLAN

    def __init__(self, *, feature_width: int, hidden_width: int, width: int) -> None:
        super().__init__()
        self.config: dict[str, Json] = {
            "feature_width": feature_width,
            "hidden_width": hidden_width,
            "width": width,
        }
        self.scene = ProjectionHead(feature_width, hidden_width, width)

    def views(self, cls_BF: Tensor, patch_mean_BF: Tensor) -> Tensor:
        """What the scene head takes of each picture."""
        return cls_BF

    def section(self, backbone: BackboneRef, preprocessing: Mapping[str, Json]) -> SectionContent:
        """The heads as a section of a bundle, with the backbone that they were made for."""
        return SectionContent(
            schema=SCHEMAS[self.section_name],
            config=self.config,
            tensors=self.state_dict(),
            preprocessing=preprocessing,
            backbone=backbone,
        )


class ImageHeads(FloorplanHeads):
    """The frame MLP, the scene head, and the object head on the CLS of a crop."""

    section_name = IMAGE

    def __init__(self, *, feature_width: int, frame_width: int, hidden_width: int, width: int) -> None:
        super().__init__(feature_width=feature_width, hidden_width=hidden_width, width=width)
        self.config["frame_width"] = frame_width
        self.frame = FrameMlp(feature_width, frame_width)
        self.object = ProjectionHead(feature_width, hidden_width, width)

    def views(self, cls_BF: Tensor, patch_mean_BF: Tensor) -> Tensor:
        """What the scene head takes of each picture."""
        vector_BF: Tensor = self.frame(cls_BF, patch_mean_BF)
        return vector_BF

    def floorplan(self) -> FloorplanHeads:
        """The heads of floorplans, which share the scene head."""
        sizes = {name: self.config[name] for name in _SIZES[FLOORPLAN]}
        with torch.device("meta"):
            shared = FloorplanHeads(**sizes)  # type: ignore[arg-type]
        shared.scene = self.scene
        return shared


_SIZES: Mapping[str, tuple[str, ...]] = {
    IMAGE: ("feature_width", "frame_width", "hidden_width", "width"),
    FLOORPLAN: ("feature_width", "hidden_width", "width"),
}


def heads_of(bundle: Bundle, name: str) -> FloorplanHeads:
    """The heads of a bundle's section `image` or `floorplan`, ready for inference."""
    config = dict(bundle.section(name, schema=SCHEMAS[name]).config)
    sizes = {size: value for size, value in config.items() if type(value) is int}
    if set(config) != set(_SIZES[name]) or sizes != config:
        raise bundle.invalid(name, f"config: needs the numbers {', '.join(_SIZES[name])}")
    if sizes["width"] != bundle.manifest.width:
        raise bundle.invalid(
            name, f"config: width is {sizes['width']}, the bundle's is {bundle.manifest.width}"
        )
    made: type[FloorplanHeads] = ImageHeads if name == IMAGE else FloorplanHeads
    try:
        heads = made(**sizes)
    except InvalidInput as error:
        raise bundle.invalid(name, f"config: {error}") from error
    bundle.load_module_strict(heads, name)
    _check_shared(bundle)
    return heads.eval().requires_grad_(False)


def _check_shared(bundle: Bundle) -> None:
    """Refuse a bundle whose floorplans would go through another scene head than its views."""
    if not {IMAGE, FLOORPLAN} <= set(bundle.manifest.sections):
        return
    views = {name: tensor for name, tensor in bundle.tensors(IMAGE).items() if name.startswith(_SCENE_HEAD)}
    plans = bundle.tensors(FLOORPLAN)
    others = [name for name in views if name not in plans or not torch.equal(views[name], plans[name])]
    if others:
        shared = f"{', '.join(sorted(others))} must be those of section {IMAGE}"
        raise bundle.invalid(FLOORPLAN, f"{shared}, both have one scene head")
