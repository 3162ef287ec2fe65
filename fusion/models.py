"""The fusion models that are loaded, one for each bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.model import FusionModel
from xscene.errors import ModelMismatch, NotReady, SettingsInvalid
from xscene.nn.bundle import open_bundle
from xscene.types import FusedItem, FuseItem, FuseResult, Modality, ModelInfo


@dataclass(frozen=True)
class LoadedModel:
    """One bundle's model."""

    info: ModelInfo
    model: FusionModel

    def fuse(self, items: Sequence[FuseItem]) -> FuseResult:
        """The fused vector of each item, and the shares in it."""
        fused_BD, weights = self.model.fuse_arrays(
            [{modality.value: values for modality, values in item.items()} for item in items]
        )
        fused = (
            FusedItem(fused=row, weights={Modality(name): share for name, share in shares.items()})
            for row, shares in zip(fused_BD, weights, strict=True)
        )
        return FuseResult(items=tuple(fused), model=self.info)


class Models:
    """Bundles by model_id; a request that names none gets the one loaded last."""

    def __init__(self, *, allow_untrained: bool) -> None:
        self._allow_untrained = allow_untrained
        self._loaded: dict[str, LoadedModel] = {}

    def load(self, directory: Path) -> LoadedModel:
        """Verify a bundle and make its model."""
        bundle = open_bundle(directory)
        manifest = bundle.manifest
        if not manifest.trained and not self._allow_untrained:
            raise SettingsInvalid(
                f"bundle {directory.name} is untrained, its answers carry no meaning: set allow_untrained"
            )
        info = ModelInfo(model_id=manifest.model_id, bundle=directory.name, trained=manifest.trained)
        loaded = LoadedModel(info, FusionModel.from_bundle(bundle))
        # Loaded again, it is the one loaded last.
        self._loaded.pop(info.model_id, None)
        self._loaded[info.model_id] = loaded
        return loaded

    def find(self, model_id: str) -> LoadedModel:
        """The model with this id, or for an empty id the one loaded last."""
        if not self._loaded:
            raise NotReady("no bundle is loaded")
        if not model_id:
            return next(reversed(self._loaded.values()))
        if model_id not in self._loaded:
            there = ", ".join(self._loaded)
            raise ModelMismatch(f"model_id: {model_id} is not loaded here; loaded: {there}")
        return self._loaded[model_id]
