"""Text backbones give what the bare networks give, and load nothing but what they should."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertModel, BlipConfig, BlipForImageTextRetrieval, PreTrainedTokenizerFast

from deploy.backbones import MINILM, SOURCES
from encoders_1d.backbones import (
    BLIP_LARGE,
    FEATURES,
    TextBackbone,
    Tokens,
    directory_digests,
    reference,
    registry,
    text_backbone,
    write_blip,
)
from tests.text_backbones import (
    TINY,
    VOCABULARY,
    minilm,
    minilm_directory,
    tiny_entry,
    tiny_network,
    write_tiny,
    write_tokenizer,
)
from xscene.errors import BundleInvalid, InvalidInput, ModelMismatch, PreconditionFailed

SENTENCES = [
    "a sofa under the window",
    "The meeting room with the ROUND table, 6 chairs and a whiteboard!",
    "Büro mit Schreibtisch; 椅子 👩‍🚀 e\u0301",
    "chair",
    "[SEP] is no end, [MASK] no gap",
    " ".join(f"the shelf number {n} stands beside the cabinet" for n in range(60)),
]


def features(backbone: TextBackbone, *texts: str) -> np.ndarray:
    """One text at a time, without padding."""
    with torch.inference_mode():
        return np.concatenate(
            [
                backbone(torch.tensor([list(tokens.ids)]), None).numpy()
                for tokens in backbone.tokenize(list(texts))
            ]
        )


@pytest.fixture(scope="module")
def bare() -> BertModel:
    return BertModel.from_pretrained(minilm_directory(), add_pooling_layer=False).eval()


@torch.inference_mode()
def test_minilm_gives_the_mean_over_tokens_of_the_bare_network_at_norm_one(bare):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(minilm_directory() / "tokenizer.json"))
    found = features(minilm(), *SENTENCES)
    for text, row in zip(SENTENCES, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=256, padding=False).input_ids
        hidden = bare(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
        mean = sum(hidden) / len(ids)
        np.testing.assert_allclose(row, mean / np.sqrt((mean * mean).sum()), atol=1e-5)


def test_minilm_has_meaning():
    words = ["sofa", "couch", "invoice", "cat", "kitten", "stock market"]
    sofa, couch, invoice, cat, kitten, stocks = features(minilm(), *words)
    assert sofa @ couch > sofa @ invoice + 0.4
    assert cat @ kitten == pytest.approx(0.788, abs=0.005)
    assert cat @ stocks == pytest.approx(0.190, abs=0.005)


def test_minilm_takes_256_tokens_and_says_what_it_cut():
    fits, longer = minilm().tokenize([" ".join(["chair"] * 254), " ".join(["chair"] * 255)])
    assert (len(fits.ids), fits.truncated) == (256, False)
    assert (len(longer.ids), longer.truncated) == (256, True)
    assert list(longer.ids) == list(fits.ids)


WORDS = ["sofa", "a", "e\u0301", "椅子", "un-believable,", "[SEP]", "[MASK]", "Σας", "\t"]


@given(st.lists(st.sampled_from(WORDS), min_size=1), st.integers(1, 2000), st.sampled_from([" ", "\n", ""]))
def test_a_long_text_has_the_tokens_of_the_whole_though_it_is_read_no_further_than_needed(
    words, repeats, space
):
    text = space.join(words * repeats)
    tokenizer = Tokenizer.from_file(str(minilm_directory() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.encode(text).ids
    found = minilm().tokenize(["a", text])[1]
    if len(ids) <= 256:
        assert found == Tokens(ids, truncated=False)
    else:
        assert found == Tokens([*ids[:255], ids[-1]], truncated=True)


def test_the_rest_of_a_long_text_is_not_looked_at(monkeypatch):
    seen = []
    encode = TextBackbone._encode
    monkeypatch.setattr(
        TextBackbone, "_encode", lambda self, texts: seen.extend(texts) or encode(self, texts)
    )
    assert minilm().tokenize(["chair " * 10_000])[0].truncated
    assert sum(map(len, seen)) <= 8 * 256


@torch.inference_mode()
def test_blip_gives_the_first_token_of_the_bare_network(tmp_path):
    backbone = tiny_entry().loader(write_tiny(tmp_path))
    bare = tiny_network()
    text = "The round TABLE under the window, a sofa"
    ids = [VOCABULARY.index(word) for word in ["[CLS]", "the", "round", "table", "under", "the", "window"]]
    ids += [1, VOCABULARY.index("a"), 1, VOCABULARY.index("[SEP]")]
    (tokens,) = backbone.tokenize([text])
    assert list(tokens.ids) == ids
    wanted = bare(input_ids=torch.tensor([ids])).last_hidden_state[0, 0].numpy()
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(features(backbone, text)[0], wanted, atol=1e-5)


def test_blip_as_published_has_bert_base_and_two_tokens_more():
    config = BLIP_LARGE.config
    assert (config["vocab_size"], config["max_position_embeddings"], BLIP_LARGE.max_tokens) == (
        30524,
        512,
        512,
    )
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]) == (
        12,
        12,
        768,
    )
    entry = registry().get("blip-large")
    assert (entry.widths, entry.digest) == ({FEATURES: 768}, None)
    assert reference(entry, None) is None


def test_what_the_registry_knows_is_what_is_fetched():
    entry, source = registry().get(MINILM), SOURCES[MINILM]
    assert entry.digest == source.digests["model.safetensors"]
    assert entry.preprocessing["tokenizer_sha256"] == source.digests["tokenizer.json"]
    assert entry.preprocessing["max_tokens"] == 256
    assert reference(entry, minilm_directory()) == reference(entry, None)


def edit_tensors(directory: Path, change) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda t: t.pop("encoder.layer.1.output.dense.bias"),
            "missing tensors: encoder.layer.1.output.dense.bias",
        ),
        (lambda t: t.update(extra=torch.ones(1)), "unknown tensors: extra"),
        (
            lambda t: t.update({"encoder.layer.2.output.dense.bias": torch.ones(32)}),
            "unknown tensors: encoder.layer.2.output.dense.bias",
        ),
        (
            lambda t: t.update({"embeddings.LayerNorm.bias": torch.ones(31)}),
            "tensor embeddings.LayerNorm.bias is torch.float32 [31], needed: torch.float32 [32]",
        ),
        (
            lambda t: t.update({"embeddings.LayerNorm.bias": torch.ones(32).half()}),
            "tensor embeddings.LayerNorm.bias is torch.float16 [32], needed: torch.float32 [32]",
        ),
    ],
)
def test_tensors_that_are_not_exactly_the_networks_are_named(tmp_path, change, fault):
    edit_tensors(write_tiny(tmp_path), change)
    with pytest.raises(BundleInvalid, match=f"^backbone tiny: {fault.replace('[', '.').replace(']', '.')}$"):
        tiny_entry().loader(tmp_path)


def test_a_network_of_another_form_is_refused_even_where_its_tensors_fit(tmp_path):
    config = write_tiny(tmp_path) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 8}))
    with pytest.raises(BundleInvalid, match=r"config\.json: num_attention_heads is 8, needed: 4"):
        tiny_entry().loader(tmp_path)
    config.write_text("[]")
    with pytest.raises(BundleInvalid, match=r"config\.json: is list, an object is needed"):
        tiny_entry().loader(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path, file):
    path = write_tiny(tmp_path) / file
    path.write_bytes(b"\x08")
    with pytest.raises(BundleInvalid, match=f"^backbone tiny: {file}"):
        tiny_entry().loader(tmp_path)
    path.unlink()
    with pytest.raises(PreconditionFailed, match=f"^backbone tiny: {file} missing in directory"):
        tiny_entry().loader(tmp_path)


def test_a_tokenizer_with_tokens_that_the_network_lacks_is_refused(tmp_path):
    path = write_tiny(tmp_path) / "tokenizer.json"
    fields = json.loads(path.read_text())
    fields["model"]["vocab"]["sofa"] = len(VOCABULARY) + 2
    path.write_text(json.dumps(fields))
    with pytest.raises(BundleInvalid, match=r"tokenizer\.json: token 21, the network has 21 tokens"):
        tiny_entry().loader(tmp_path)


def test_files_that_are_not_the_published_ones_are_refused_with_both_digests(tmp_path):
    found = directory_digests(tiny_entry(), write_tiny(tmp_path))
    for file, digests in (
        ("model.safetensors", {"digest": "ab" * 32}),
        ("tokenizer.json", {"tokenizer_digest": "ab" * 32}),
    ):
        entry = text_backbone("tiny", TINY, licence="none", **digests)
        with pytest.raises(
            ModelMismatch, match=f"{file} has SHA-256 {found[file]}, the published one has {'ab' * 32}"
        ):
            directory_digests(entry, tmp_path)


def original_state() -> dict[str, torch.Tensor]:
    """A checkpoint with the names of the original code: the text encoder among others."""
    state = {f"text_encoder.{name}": tensor for name, tensor in tiny_network().state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if "pooler" not in name}
    state["text_encoder.embeddings.position_ids"] = torch.arange(16)[None]
    others = (
        "visual_encoder.cls_token",
        "text_encoder_m.embeddings.LayerNorm.bias",
        "temp",
        "text_proj.bias",
    )
    return state | {name: torch.ones(3) for name in others}


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    write_tokenizer(tmp_path / "vocabulary.json")
    return tmp_path / "vocabulary.json"


def converted(source: Path, vocabulary: Path, out: Path) -> TextBackbone:
    out.mkdir()
    write_blip(str(source), vocabulary, TINY, out)
    loaded = tiny_entry().loader(out)
    assert isinstance(loaded, TextBackbone)
    return loaded


def test_an_original_checkpoint_becomes_a_backbone_that_gives_the_same(tmp_path, vocabulary):
    torch.save({"model": original_state(), "epoch": 3}, tmp_path / "model_large.pth")
    backbone = converted(tmp_path / "model_large.pth", vocabulary, tmp_path / "out")
    kept = tiny_entry().loader(write_tiny(tmp_path / "kept"))
    text = "a red chair under the window"
    np.testing.assert_array_equal(features(backbone, text), features(kept, text))
    (tokens,) = backbone.tokenize(["[ENC] a [DEC]"])
    assert list(tokens.ids) == [2, len(VOCABULARY) + 1, VOCABULARY.index("a"), len(VOCABULARY), 3]


def test_a_model_as_transformers_saves_it_becomes_a_backbone(tmp_path, vocabulary):
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BlipConfig(
        text_config=dict(TINY.config), vision_config={**vision, "image_size": 8, "patch_size": 4}
    )
    model = BlipForImageTextRetrieval(config).eval()
    model.save_pretrained(tmp_path / "whole")
    backbone = converted(tmp_path / "whole", vocabulary, tmp_path / "out")
    (tokens,) = backbone.tokenize(["the lamp"])
    with torch.inference_mode():
        wanted = model.text_encoder(input_ids=torch.tensor([list(tokens.ids)])).last_hidden_state[:, 0]
    np.testing.assert_allclose(features(backbone, "the lamp"), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "text_encoder.encoder.layer.0.output.dense.bias",
            "missing tensors: encoder.layer.0.output.dense.bias",
        ),
        ("text_encoder.encoder.layer.0.adapter.bias", "unknown tensors: encoder.layer.0.adapter.bias"),
    ],
)
def test_a_checkpoint_with_other_names_is_refused(tmp_path, vocabulary, name, fault):
    state = original_state()
    if state.pop(name, None) is None:
        state[name] = torch.ones(1)
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(BundleInvalid, match=fault):
        converted(tmp_path / "x.pth", vocabulary, tmp_path / "out")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, vocabulary):
    torch.save({"model": Path("x")}, tmp_path / "x.pth")
    with pytest.raises(InvalidInput, match=r"x\.pth is no checkpoint of tensors alone"):
        converted(tmp_path / "x.pth", vocabulary, tmp_path / "out")


def test_a_checkpoint_without_a_model_is_refused(tmp_path, vocabulary):
    torch.save({"weights": original_state()}, tmp_path / "x.pth")
    with pytest.raises(InvalidInput, match=r"x\.pth holds no state dict under the key model"):
        converted(tmp_path / "x.pth", vocabulary, tmp_path / "out")
