"""The frozen text networks: what each is made of, and how it is loaded from its directory."""

# B texts, T tokens, F feature width

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from xscene.errors import BundleInvalid, InvalidInput
from xscene.nn.backbone_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_config,
    check_files,
    digests,
    loading,
    picked,
)
from xscene.nn.backbones import Backbone, Constant, Registry
from xscene.nn.manifest import BackboneRef, load_json

TOKENIZER_FILE = "tokenizer.json"
FILES = (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE)
FEATURES = "features"
TOKENIZER_DIGEST = "tokenizer_sha256"
# What BLIP puts behind BERT's vocabulary: the first token of its decoder and of its matching encoder.
BLIP_TOKENS = ("[DEC]", "[ENC]")
BLIP_PREFIX = "text_encoder."
# More than most texts have.
CHARS_PER_TOKEN = 8

MINILM_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_TOKENIZER_DIGEST = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What turns the files of a directory into a text network."""

    family: Literal["bert", "blip"]
    config: Mapping[str, int | float | str]
    """Entries of config.json that decide what the network computes."""
    max_tokens: int
    pooling: Literal["mean", "cls"]
    normalised: bool
    unused: tuple[str, ...]
    """Patterns of tensors that a file may hold and that features do not need."""

    @property
    def preprocessing(self) -> dict[str, Constant]:
        """How texts become features."""
        return {"max_tokens": self.max_tokens, "pooling": self.pooling, "normalised": self.normalised}


MINILM = Recipe(
    family="bert",
    config={
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
    max_tokens=256,
    pooling="mean",
    normalised=True,
    unused=(r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)"),
)
BLIP_LARGE = Recipe(
    family="blip",
    config={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 30524,
        "max_position_embeddings": 512,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
    max_tokens=512,
    pooling="cls",
    normalised=False,
    unused=(
        r"embeddings\.position_ids",
        r"pooler\.dense\.(weight|bias)",
        # Only the text mode is used, which looks at no picture.
        r"encoder\.layer\.\d+\.crossattention\..+",
    ),
)


@dataclass(frozen=True)
class Tokens:
    """A text as the network takes it, special tokens included."""

    ids: Sequence[int]
    truncated: bool


class TextBackbone(nn.Module):
    """A frozen network and its tokenizer."""

    def __init__(self, network: nn.Module, tokenizer: Tokenizer, recipe: Recipe) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.recipe = recipe
        self.width = int(recipe.config["hidden_size"])
        self._tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text; of one that is too long, the first that fit."""
        # No further than that is a long text looked at: its words cost time, wanted or not.
        num_chars = CHARS_PER_TOKEN * self.recipe.max_tokens
        found: dict[int, Tokens] = {}
        while left := [index for index in range(len(texts)) if index not in found]:
            heads = [_head(texts[index], num_chars) for index in left]
            for index, head, ids in zip(left, heads, self._encode(heads), strict=True):
                if len(head) == len(texts[index]) or len(ids) > self.recipe.max_tokens:
                    found[index] = self._cut(ids)
            num_chars *= 4
        return [found[index] for index in range(len(texts))]

    def _encode(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Features [B, F]; without a mask nothing is padding."""
        hidden_BTF = self.network(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        if self.recipe.pooling == "cls":
            feature_BF = hidden_BTF[:, 0]
        elif mask_BT is None:
            feature_BF = hidden_BTF.mean(dim=1)
        else:
            weight_BT1 = mask_BT[..., None].to(hidden_BTF.dtype)
            feature_BF = (hidden_BTF * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)
        return nn.functional.normalize(feature_BF, dim=-1) if self.recipe.normalised else feature_BF

    def _cut(self, ids: Sequence[int]) -> Tokens:
        if len(ids) <= self.recipe.max_tokens:
            return Tokens(ids, truncated=False)
        return Tokens([*ids[: self.recipe.max_tokens - 1], ids[-1]], truncated=True)


def _head(text: str, num_chars: int) -> str:
    """The first words, whose tokens are those that they have in the whole text; all where no word ends."""
    if len(text) <= num_chars:
        return text
    end = max(text.rfind(space, 0, num_chars) for space in " \n")
    return text[:end] if end > 0 else text


def text_backbone(
    name: str, recipe: Recipe, *, licence: str, digest: str | None = None, tokenizer_digest: str | None = None
) -> Backbone:
    """A registry's entry; digests are given where there is one published file."""
    known = {} if tokenizer_digest is None else {TOKENIZER_DIGEST: tokenizer_digest}
    return Backbone(
        name=name,
        kind="text",
        widths={FEATURES: int(recipe.config["hidden_size"])},
        loader=partial(load_backbone, name, recipe),
        licence=licence,
        preprocessing={**recipe.preprocessing, **known},
        digest=digest,
    )


def registry() -> Registry:
    """The text backbones that bundles may name."""
    entries = Registry()
    entries.register(
        text_backbone(
            "minilm-l6-v2",
            MINILM,
            licence="Apache-2.0",
            digest=MINILM_DIGEST,
            tokenizer_digest=MINILM_TOKENIZER_DIGEST,
        )
    )
    entries.register(text_backbone("blip-large", BLIP_LARGE, licence="BSD-3-Clause"))
    return entries


def reference(entry: Backbone, directory: Path | None) -> tuple[BackboneRef, dict[str, Constant]] | None:
    """What a bundle says of the backbone it was made with; None where nothing tells its digest.

    The digests are those of the files in `directory`, else the published ones.
    """
    if directory is not None:
        found = directory_digests(entry, directory)
        preprocessing = {**entry.preprocessing, TOKENIZER_DIGEST: found[TOKENIZER_FILE]}
        return BackboneRef(name=entry.name, digest=found[WEIGHTS_FILE]), preprocessing
    if entry.digest is None:
        return None
    return BackboneRef(name=entry.name, digest=entry.digest), dict(entry.preprocessing)


def directory_digests(entry: Backbone, directory: Path) -> dict[str, str]:
    """SHA-256 of weights and tokenizer; where there are published ones, they must be those."""
    check_files(entry.name, directory, FILES)
    tokenizer = entry.preprocessing.get(TOKENIZER_DIGEST)
    return digests(entry.name, directory, {WEIGHTS_FILE: entry.digest, TOKENIZER_FILE: tokenizer})


def load_backbone(name: str, recipe: Recipe, directory: Path) -> TextBackbone:
    """The network in a directory of config.json, model.safetensors and tokenizer.json."""
    check_files(name, directory, FILES)
    with loading(name):
        check_config(load_json((directory / CONFIG_FILE).read_bytes(), CONFIG_FILE), recipe.config)
        network = _network(recipe)
        network.load_state_dict(picked(load_file(directory / WEIGHTS_FILE), network, recipe.unused))
        return TextBackbone(network, _tokenizer(directory / TOKENIZER_FILE, recipe), recipe)


def write_blip(source: str, vocabulary: Path, recipe: Recipe, directory: Path) -> None:
    """Write the text part of a BLIP model: of an original checkpoint file, or of a directory or hub id.

    `vocabulary` is the tokenizer.json of uncased BERT. No published checkpoint could be opened when
    this was written; names are checked one by one, and any surprise is an error that names it.
    """
    state = _checkpoint(Path(source)) if Path(source).is_file() else _pretrained(source)
    state = {
        name.removeprefix(BLIP_PREFIX): tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if name.startswith(BLIP_PREFIX)
    }
    tensors = picked(state, _network(recipe), recipe.unused)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS_FILE)
    config = {**recipe.config, "model_type": "blip_text_model", "is_decoder": False}
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer = _read_tokenizer(vocabulary)
    tokenizer.add_special_tokens(list(BLIP_TOKENS))
    tokenizer.save(str(directory / TOKENIZER_FILE))
    # A vocabulary that does not fit is found now, not when a service starts.
    _tokenizer(directory / TOKENIZER_FILE, recipe)


def _checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of an original checkpoint; nothing but tensors is unpickled."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise InvalidInput.at("source", f"{path.name} is no checkpoint of tensors alone: {error}") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InvalidInput.at("source", f"{path.name} holds no state dict under the key model")
    return state


def _pretrained(source: str) -> dict[str, Tensor]:
    """The tensors of a BLIP model for image-text matching, from a directory or a hub."""
    from transformers import BlipForImageTextRetrieval

    loader: Any = BlipForImageTextRetrieval
    try:
        model, report = loader.from_pretrained(source, output_loading_info=True)
    except OSError as error:
        first = str(error).partition("\n")[0]
        raise InvalidInput.at("source", f"{source} is no file, directory or hub id: {first}") from error
    if missing := sorted(key for key in report["missing_keys"] if key.startswith(BLIP_PREFIX)):
        raise BundleInvalid(f"{source}: missing tensors: {', '.join(missing)}")
    state: dict[str, Tensor] = model.state_dict()
    return state


def _network(recipe: Recipe) -> nn.Module:
    """The network with random weights."""
    # Takes seconds to import, and commands that only read digests need none of it.
    from transformers import BertConfig, BertModel, BlipTextConfig, BlipTextModel

    config: dict[str, Any] = dict(recipe.config)
    if recipe.family == "bert":
        return BertModel(BertConfig(**config), add_pooling_layer=False)
    return BlipTextModel(BlipTextConfig(**config, is_decoder=False), add_pooling_layer=False)


def _read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer as its file has it."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises nothing narrower.
        raise BundleInvalid(f"{path.name} is no tokenizer: {error}") from error


def _tokenizer(path: Path, recipe: Recipe) -> Tokenizer:
    """The tokenizer of a network; padding and truncation of its file are not ours."""
    tokenizer = _read_tokenizer(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    highest, vocab_size = max(tokenizer.get_vocab().values()), int(recipe.config["vocab_size"])
    if highest >= vocab_size:
        raise BundleInvalid(f"{path.name}: token {highest}, the network has {vocab_size} tokens")
    return tokenizer
