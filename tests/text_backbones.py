"""Text backbones for tests: the fetched one, and one of a few random numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import BlipTextConfig, BlipTextModel

from deploy.backbones import MINILM, ensure
from encoders_1d.backbones import Recipe, TextBackbone, reference, registry, text_backbone
from encoders_1d.model import Limits, TextFactory, TextHeads, TextModel
from xscene.nn.backbones import Backbone, Registry
from xscene.nn.bundle_writer import BundleContent, write_bundle
from xscene.nn.devices import Compute

BACKBONES_DIR = Path(__file__).resolve().parents[1] / "var" / "backbones"
WORDS = [
    "a",
    "bed",
    "chair",
    "door",
    "floor",
    "lamp",
    "red",
    "round",
    "small",
    "table",
    "the",
    "under",
    "wall",
    "window",
]
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
TINY = Recipe(
    family="blip",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": len(VOCABULARY) + 2,
        "max_position_embeddings": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
    max_tokens=16,
    pooling="cls",
    normalised=False,
    unused=(
        r"embeddings\.position_ids",
        r"pooler\.dense\.(weight|bias)",
        r"encoder\.layer\.\d+\.crossattention\..+",
    ),
)
LIMITS = Limits(max_items=64, max_text_bytes=4096, max_batch_tokens=2048, pass_tokens=24)
CPU = Compute(torch.device("cpu"))


@cache
def minilm_directory() -> Path:
    """The fetched files; fetched where they are not."""
    return ensure(MINILM, BACKBONES_DIR)[0]


@cache
def minilm() -> TextBackbone:
    """The fetched network."""
    loaded = registry().get(MINILM).loader(minilm_directory())
    assert isinstance(loaded, TextBackbone)
    return loaded


def write_tokenizer(path: Path) -> None:
    """Uncased BERT's tokenizer with a vocabulary of a few words."""
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    # As in many a published file; a backbone must not take these for its own.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))


def tiny_network(seed: int = 0) -> BlipTextModel:
    """BLIP's text network with random weights, with everything that transformers puts into it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BlipTextModel(BlipTextConfig(**TINY.config, initializer_range=0.5))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def write_tiny(directory: Path, seed: int = 0) -> Path:
    """A directory as transformers writes it."""
    tiny_network(seed).save_pretrained(directory)
    write_tokenizer(directory / "tokenizer.json")
    return directory


def tiny_entry(name: str = "tiny") -> Backbone:
    """The registry's entry of the tiny network."""
    return text_backbone(name, TINY, licence="none")


def registry_of(*entries: Backbone) -> Registry:
    """A registry of these entries."""
    found = Registry()
    for entry in entries:
        found.register(entry)
    return found


def write_text_bundle(
    directory: Path, entry: Backbone, backbone_dir: Path | None, *, width: int = 8, seed: int = 0
) -> Path:
    """A bundle of untrained heads on a backbone."""
    made_for = reference(entry, backbone_dir)
    assert made_for is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        feature_width = entry.widths["features"]
        heads = TextHeads(feature_width=feature_width, hidden_width=feature_width, width=width)
    content = BundleContent(
        name=directory.name,
        preset="test",
        width=width,
        trained=False,
        sections={"text": heads.section(*made_for)},
    )
    return write_bundle(content, directory).directory


def tiny_model(folder: Path, limits: Limits = LIMITS) -> TextModel:
    """A model on the tiny network, written to a folder and loaded from there."""
    entry = tiny_entry()
    backbone_dir = write_tiny(folder / "backbones" / "tiny")
    bundle = write_text_bundle(folder / "bundles" / "one", entry, backbone_dir)
    loaded = TextFactory(folder / "backbones", limits, CPU, registry_of(entry)).load("text", bundle)
    assert isinstance(loaded, TextModel)
    return loaded


def run(
    model: TextModel, texts: list[str], *outputs: str, group_ends: list[int] | None = None
) -> dict[str, np.ndarray]:
    """One request through all phases, alone."""
    job = model.prepare(request(texts, group_ends), frozenset(outputs))
    return dict(model.finish(job, model.forward(job.items) if job.items else []))


def request(texts: list[str], group_ends: list[int] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a request."""
    tensors: dict[str, np.ndarray] = {"text": np.array([text.encode() for text in texts], np.object_)}
    if group_ends is not None:
        tensors["group_ends"] = np.array(group_ends, np.int32)
    return tensors
