"""The text encoder on a real backbone, asked by a stock client of the Open Inference Protocol."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from rich.console import Console
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from deploy.bundles import PRESETS, PresetName, init_bundle
from deploy.demo.calls import SENTENCES, rank_sentences
from encoders_1d.app import Settings, make
from encoders_1d.model import TextFactory, TextModel
from tests.service.probe import serving_in_thread
from tests.text_backbones import BACKBONES_DIR, CPU, LIMITS, minilm_directory, request, run
from xscene.errors import SettingsInvalid
from xscene.serving.server import Server

WORDS = ["a", "sofa", "round", "table", "under", "the", "window", "bookshelf", "and", "two", "chairs"]
ALL = ("features", "truncated", "scene_embedding", "object_embedding")
WIDTHS = {"features": 384, "scene_embedding": 256, "object_embedding": 256}
RANDOM = np.random.default_rng(5)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    minilm_directory()
    folder = tmp_path_factory.mktemp("bundles")
    for seed, name in enumerate(("one", "two")):
        init_bundle(PRESETS[PresetName.SMALL], folder / name, name=name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[Server]:
    given = Settings(
        port=0,
        metrics_port=0,
        bundles_dir=bundles,
        bundles=("one", "two"),
        allow_untrained=True,
        backbones_dir=BACKBONES_DIR,
        max_items=32,
        max_text_bytes=4096,
        device="cpu",
    )
    with serving_in_thread(lambda: make(given), given) as running:
        yield running


@pytest.fixture(scope="module")
def bare(bundles: Path) -> dict[str, TextModel]:
    """The models without a server."""
    factory = TextFactory(BACKBONES_DIR, LIMITS, CPU)
    loaded = {name: factory.load("text", bundles / name) for name in ("one", "two")}
    return {name: model for name, model in loaded.items() if isinstance(model, TextModel)}


def sentence(num_words: int) -> str:
    return " ".join(RANDOM.choice(WORDS, size=num_words))


def infer(
    server: Server,
    texts: list[str],
    outputs: tuple[str, ...] = ALL,
    group_ends: list[int] | None = None,
    version: str = "",
) -> dict[str, np.ndarray]:
    inputs = []
    for name, values in request(texts, group_ends).items():
        inputs.append(InferInput(name, list(values.shape), "BYTES" if name == "text" else "INT32"))
        inputs[-1].set_data_from_numpy(values)
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        wanted = [InferRequestedOutput(name) for name in outputs]
        result = client.infer("text", inputs, model_version=version, outputs=wanted)
        return {name: result.as_numpy(name) for name in outputs}


def test_served_embeddings_are_those_of_the_bare_model_alone_and_in_any_batch(
    server: Server, bare: dict[str, TextModel]
) -> None:
    requests = [[sentence(int(n)) for n in RANDOM.integers(1, 40, size=size)] for size in (1, 1, 2, 7, 1, 16)]
    requests.append([sentence(400)])
    ask = partial(infer, server, version=bare["one"].version)
    with ThreadPoolExecutor(len(requests)) as callers:
        together = list(callers.map(ask, requests))
    alone = [ask(texts) for texts in requests]
    for texts, *served in zip(requests, together, alone, strict=True):
        wanted = run(bare["one"], texts, *ALL)
        for found in served:
            assert (
                found["truncated"].tolist()
                == wanted["truncated"].tolist()
                == [len(texts[0]) > 1000] * len(texts)
            )
            for name, width in WIDTHS.items():
                assert found[name].shape == (len(texts), width)
                np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)
                np.testing.assert_allclose(np.linalg.norm(found[name], axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(600)
def test_memory_stays_flat_over_ten_thousand_calls(server: Server) -> None:
    process, texts = psutil.Process(), [sentence(number) for number in range(1, 9)]

    def ask(count: int) -> None:
        with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            for number in range(count):
                text = np.array([b"" if number % 10 == 9 else texts[number % 8].encode()], object)
                given = InferInput("text", [1], "BYTES")
                given.set_data_from_numpy(text)
                if number % 10 == 9:
                    with pytest.raises(InferenceServerException, match="empty"):
                        client.infer("text", [given])
                else:
                    client.infer("text", [given])

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(ask, [150] * 8))
        before = process.memory_info().rss
        list(callers.map(ask, [1250] * 8))
    assert process.memory_info().rss - before < 16 << 20


def test_groups_have_a_row_each_and_only_what_is_asked_for_comes(
    server: Server, bare: dict[str, TextModel]
) -> None:
    texts, ends = [sentence(5) for _ in range(5)], [1, 4, 5]
    found = infer(server, texts, group_ends=ends)
    scene = infer(server, texts, ("scene_embedding",), ends)
    wanted = run(bare["two"], texts, *ALL, group_ends=ends)
    assert {name: len(rows) for name, rows in found.items()} == {
        "features": 3,
        "truncated": 3,
        "scene_embedding": 3,
        "object_embedding": 5,
    }
    assert set(scene) == {"scene_embedding"}
    np.testing.assert_allclose(scene["scene_embedding"], wanted["scene_embedding"], atol=1e-5)
    np.testing.assert_allclose(found["object_embedding"], wanted["object_embedding"], atol=1e-5)


def test_versions_differ_in_their_heads_and_share_their_features(
    server: Server, bare: dict[str, TextModel]
) -> None:
    texts = ["a sofa under the window"]
    one, two = (infer(server, texts, version=bare[name].version) for name in ("one", "two"))
    last = infer(server, texts)
    np.testing.assert_array_equal(one["features"], two["features"])
    np.testing.assert_array_equal(last["scene_embedding"], two["scene_embedding"])
    assert np.abs(one["scene_embedding"] - two["scene_embedding"]).max() > 0.01


@pytest.mark.parametrize(
    ("texts", "ends", "message"),
    [
        (["a", "b", "c", "\x1b"], None, r"text\[3\]: control character"),
        (["a", ""], None, r"text\[1\]: empty, needs words"),
        (["a"] * 33, None, "text: 33 texts, the limit is 32"),
        (["a" * 4097], None, r"text\[0\]: 4097 bytes, the limit is 4096"),
        (["a", "b"], [2, 2], r"group_ends\[1\]: 2, needs more than 2"),
    ],
)
def test_a_faulty_request_is_its_callers_fault_and_no_others(
    server: Server, texts: list[str], ends: list[int] | None, message: str
) -> None:
    with ThreadPoolExecutor(2) as callers:
        bad = callers.submit(infer, server, texts, group_ends=ends)
        assert len(callers.submit(infer, server, ["a sofa"]).result()) == len(ALL)
    with pytest.raises(InferenceServerException, match=message) as caught:
        bad.result()
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_metadata_names_the_limits_and_the_backbone(server: Server) -> None:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        metadata = client.get_model_metadata("text")
        config = client.get_model_config("text").config
    assert {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs} == {
        "features": ("FP32", [-1, 384]),
        "truncated": ("BOOL", [-1]),
        "scene_embedding": ("FP32", [-1, 256]),
        "object_embedding": ("FP32", [-1, 256]),
    }
    shown = {name: value.string_value for name, value in config.parameters.items()}
    assert (shown["backbone"], shown["max_tokens"], shown["max_items"]) == ("minilm-l6-v2", "256", "32")
    assert (shown["trained"], shown["bundle"], shown["device"]) == ("false", "two", "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu9", "'tpu9' is none of auto, cpu"),
        ("meta", "'meta' is none of auto, cpu"),
        ("cuda:99", "cuda:99 is not there"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"device: {message}"):
        make(Settings(device=name))


def test_the_number_of_threads_is_the_settings(bundles: Path) -> None:
    before = torch.get_num_threads()
    try:
        make(Settings(num_threads=2, device="cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_service_without_its_backbone_ends_with_one_sentence(bundles: Path, tmp_path: Path) -> None:
    flags = ["--bundles-dir", str(bundles), "--bundles", "one", "--allow-untrained", "true", "--port", "0"]
    command = [sys.executable, "-m", "encoders_1d", *flags, "--backbones-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (
        "backbone minilm-l6-v2: model.safetensors, config.json, tokenizer.json missing"
        in done.stderr + done.stdout
    )
    assert "Traceback" not in done.stderr


def test_the_demo_ranks_by_meaning(server: Server) -> None:
    out = io.StringIO()
    rank_sentences(f"127.0.0.1:{server.port}", Console(file=out, width=120))
    rows = [line.strip("│ ").split("│")[0].strip() for line in out.getvalue().splitlines() if "│" in line]
    assert set(SENTENCES) == set(rows)
    assert rows[0] == "the couch in front of the television"
    assert rows.index("an invoice for office supplies") > 5
    assert "bundle two are untrained" in " ".join(out.getvalue().split())
