"""The text model: sentences, or groups of them, to backbone features and joint embeddings."""

# B texts of a pass, T tokens, F feature width, D embedding width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders_1d import backbones, prepare
from encoders_1d.backbones import FEATURES, TOKENIZER_DIGEST, TOKENIZER_FILE, TextBackbone
from encoders_1d.prepare import GROUP_ENDS, TEXT
from xscene.errors import InvalidInput, NotFound
from xscene.nn.backbone_files import WEIGHTS_FILE, Shared, check_made_with
from xscene.nn.backbones import Constant, Registry
from xscene.nn.bundle import Bundle, open_bundle
from xscene.nn.bundle_writer import SectionContent
from xscene.nn.devices import Compute, on_device
from xscene.nn.heads import ProjectionHead
from xscene.nn.manifest import BackboneRef, Json
from xscene.serving.models import ANY, Factory, Item, Job, Model, Tensors, TensorSpec

NAME = "text"
SECTION = "text"
SCHEMA = "text/1"
SCENE, OBJECT, TRUNCATED = "scene_embedding", "object_embedding", "truncated"
GROUPED = frozenset({FEATURES, TRUNCATED, SCENE})
"""Outputs that have a row for each group, where there are groups."""
INPUTS = (
    TensorSpec(name=TEXT, datatype="BYTES", shape=(ANY,)),
    TensorSpec(name=GROUP_ENDS, datatype="INT32", shape=(ANY,), optional=True),
)
PAD_ID = 0
WARM_UP_TEXT = "a round table under the window"


class TextHeads(nn.Module):
    """One projection head for each of the two spaces."""

    def __init__(self, *, feature_width: int, hidden_width: int, width: int) -> None:
        super().__init__()
        self.config: dict[str, Json] = {
            "feature_width": feature_width,
            "hidden_width": hidden_width,
            "width": width,
        }
        self.scene = ProjectionHead(feature_width, hidden_width, width)
        self.object = ProjectionHead(feature_width, hidden_width, width)

    def section(self, backbone: BackboneRef, preprocessing: Mapping[str, Constant]) -> SectionContent:
        """The heads as a section of a bundle, with the backbone that they were made for."""
        return SectionContent(
            schema=SCHEMA,
            config=self.config,
            tensors=self.state_dict(),
            preprocessing=preprocessing,
            backbone=backbone,
        )

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextHeads:
        """The heads of a bundle, ready for inference."""
        config = dict(bundle.section(SECTION, schema=SCHEMA).config)
        feature_width, hidden_width = config.get("feature_width"), config.get("hidden_width")
        if type(feature_width) is not int or type(hidden_width) is not int:
            raise bundle.invalid(SECTION, "config: feature_width and hidden_width must be numbers")
        width = bundle.manifest.width
        try:
            heads = cls(feature_width=feature_width, hidden_width=hidden_width, width=width)
        except InvalidInput as error:
            raise bundle.invalid(SECTION, f"config: {error}") from error
        if config != heads.config:
            raise bundle.invalid(SECTION, f"config is {config}, needed: {heads.config}")
        bundle.load_module_strict(heads, SECTION)
        return heads.eval().requires_grad_(False)


@dataclass(frozen=True)
class TextItem:
    """A tokenised text and what is wanted of it."""

    ids: Sequence[int]
    outputs: frozenset[str]

    @property
    def cost(self) -> int:
        """Tokens."""
        return len(self.ids)


@dataclass(frozen=True)
class Plan:
    """How the outputs of a request are put together."""

    places: Mapping[str, Sequence[int]]
    """Of each computed output: the item of each row."""
    truncated: NDArray[np.bool_] | None
    """None where it is not wanted."""


@dataclass(frozen=True, kw_only=True)
class Limits(prepare.Limits):
    """Sizes of requests and of computations."""

    max_batch_tokens: int
    pass_tokens: int


class TextModel(Model):
    """The heads of one bundle on a backbone that it may share with others."""

    name = NAME
    inputs = INPUTS
    light_bytes = 16 * 1024

    def __init__(
        self, bundle: Bundle, backbone: TextBackbone, heads: TextHeads, limits: Limits, compute: Compute
    ) -> None:
        self.version = bundle.model_version
        self.bundle = bundle.directory.name
        self.model_id = bundle.model_id
        self.trained = bundle.manifest.trained
        self.backbone = backbone
        self.heads = heads.to(compute.device)
        self.max_batch_cost = limits.max_batch_tokens
        self._limits = limits
        self._compute = compute
        width = bundle.manifest.width
        self.outputs = (
            TensorSpec(name=FEATURES, datatype="FP32", shape=(ANY, backbone.width)),
            TensorSpec(name=TRUNCATED, datatype="BOOL", shape=(ANY,)),
            TensorSpec(name=SCENE, datatype="FP32", shape=(ANY, width)),
            TensorSpec(name=OBJECT, datatype="FP32", shape=(ANY, width)),
        )
        self.parameters = _parameters(bundle, backbone, limits, compute)

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Check, group and tokenise the texts that the wanted outputs need."""
        rows = self._rows(inputs, outputs)
        # A text that stands on several rows is computed once.
        texts = list(dict.fromkeys(text for each in rows.values() for text in each))
        tokens = dict(zip(texts, self.backbone.tokenize(texts), strict=True))
        truncated = np.array([tokens[text].truncated for text in rows.pop(TRUNCATED, ())], np.bool_)
        wanted: dict[str, set[str]] = {}
        for name, each in rows.items():
            for text in each:
                wanted.setdefault(text, set()).add(name)
        items = [TextItem(tokens[text].ids, frozenset(names)) for text, names in wanted.items()]
        position = {text: index for index, text in enumerate(wanted)}
        places = {name: [position[text] for text in each] for name, each in rows.items()}
        return Job(items=items, plan=Plan(places, truncated if TRUNCATED in outputs else None))

    @torch.inference_mode()
    def forward(self, items: Sequence[Item]) -> Sequence[Mapping[str, NDArray[np.float32]]]:
        """The wanted outputs of each text, one row each."""
        texts = [item for item in items if isinstance(item, TextItem)]
        device = self._compute.device
        feature_NF = torch.empty(len(texts), self.backbone.width, device=device)
        for rows in prepare.passes((item.cost for item in texts), self._limits.pass_tokens):
            ids_BT, mask_BT = pad([texts[row].ids for row in rows], device)
            with self._compute.autocast():
                feature_BF = self.backbone(ids_BT, mask_BT)
            feature_NF[rows] = feature_BF.float()
        results: list[dict[str, NDArray[np.float32]]] = [{} for _ in texts]
        for name, network in ((FEATURES, None), (SCENE, self.heads.scene), (OBJECT, self.heads.object)):
            rows = [row for row, item in enumerate(texts) if name in item.outputs]
            if rows:
                value_BD = feature_NF[rows] if network is None else network(feature_NF[rows])
                for row, value_D in zip(rows, value_BD.cpu().numpy(), strict=True):
                    results[row][name] = value_D
        return results

    def warm_up(self) -> None:
        """Compute a short text and a long one."""
        tokens = self.backbone.tokenize([WARM_UP_TEXT, WARM_UP_TEXT * self.backbone.recipe.max_tokens])
        self.forward([TextItem(each.ids, frozenset((FEATURES, SCENE, OBJECT))) for each in tokens])

    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        """The outputs of one request."""
        plan: Plan = job.plan
        outputs: dict[str, NDArray[Any]] = {
            name: np.stack([results[place][name] for place in places]) for name, places in plan.places.items()
        }
        if plan.truncated is not None:
            outputs[TRUNCATED] = plan.truncated
        return outputs

    def _rows(self, inputs: Tensors, outputs: frozenset[str]) -> dict[str, list[str]]:
        """The text of each row of each wanted output."""
        singles = prepare.decode_texts(inputs[TEXT], self._limits)
        if GROUP_ENDS not in inputs:
            return dict.fromkeys(sorted(outputs), singles)
        ends = prepare.GROUPS.decode(inputs[GROUP_ENDS], len(singles))
        joined = prepare.join_groups(singles, ends)
        return {name: joined if name in GROUPED else singles for name in sorted(outputs)}


def pad(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Token ids [B, T], and which of them are no padding; None where all are."""
    lengths = [len(each) for each in ids]
    longest = max(lengths)
    ids_BT = on_device(torch.tensor([[*each, *[PAD_ID] * (longest - len(each))] for each in ids]), device)
    if min(lengths) == longest:
        return ids_BT, None
    length_B1 = on_device(torch.tensor(lengths), device)[:, None]
    return ids_BT, (torch.arange(longest, device=device) < length_B1).long()


class TextFactory(Factory):
    """Loads bundles; those on the same backbone share one in memory."""

    names = (NAME,)

    def __init__(
        self, backbones_dir: Path, limits: Limits, compute: Compute, registry: Registry | None = None
    ) -> None:
        self._backbones_dir = backbones_dir
        self._limits = limits
        self._compute = compute
        self._registry = registry or backbones.registry()
        self._shared = Shared(TextBackbone, compute.device)

    def load(self, name: str, directory: Path) -> Model:
        """The text model of a bundle."""
        if name != NAME:
            raise InvalidInput.at("name", f"{name}, this service has {NAME}")
        bundle = open_bundle(directory)
        if SECTION not in bundle.manifest.sections:
            raise NotFound(f"bundle {directory.name}: it has no section {SECTION}")
        heads = TextHeads.from_bundle(bundle)
        backbone = self._backbone(bundle)
        if heads.config["feature_width"] != backbone.width:
            found = f"config feature_width is {heads.config['feature_width']}"
            raise bundle.invalid(SECTION, f"{found}, the backbone has {backbone.width}")
        return TextModel(bundle, backbone, heads, self._limits, self._compute)

    def _backbone(self, bundle: Bundle) -> TextBackbone:
        """The backbone that a bundle names, if its files are those that the bundle was made with."""
        section = bundle.section(SECTION, schema=SCHEMA)
        if section.backbone is None:
            raise bundle.invalid(SECTION, "names no backbone")
        entry = self._registry.get(section.backbone.name)
        directory = self._backbones_dir / entry.name
        found = backbones.directory_digests(entry, directory)
        tokenizer, made_with = found[TOKENIZER_FILE], section.preprocessing.get(TOKENIZER_DIGEST)
        files = {
            WEIGHTS_FILE: (found[WEIGHTS_FILE], section.backbone.digest),
            TOKENIZER_FILE: (tokenizer, made_with),
        }
        needed = {**entry.preprocessing, TOKENIZER_DIGEST: tokenizer}
        check_made_with(bundle, SECTION, entry, files, needed)
        return self._shared.get(entry, directory, tuple(found.values()))


def _parameters(bundle: Bundle, backbone: TextBackbone, limits: Limits, compute: Compute) -> dict[str, str]:
    """What the metadata shows."""
    reference = bundle.section(SECTION).backbone
    assert reference is not None
    return {
        "backbone": reference.name,
        "backbone_digest": reference.digest,
        "device": str(compute.device),
        "precision": compute.precision,
        "max_items": str(limits.max_items),
        "max_text_bytes": str(limits.max_text_bytes),
        "max_tokens": str(backbone.recipe.max_tokens),
        "pooling": backbone.recipe.pooling,
    }
