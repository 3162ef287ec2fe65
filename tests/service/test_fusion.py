"""The fusion service on an untrained bundle, reached through the client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy.bundles import PRESETS, PresetName, init_bundle
from fusion.app import Fusion, Settings
from fusion.model import FusionModel
from tests.credentials import Authority, token_entry, write_tokens
from tests.service.probe import serving, serving_in_thread
from xscene import errors
from xscene.client import AsyncFusionClient, Connection
from xscene.nn.bundle import Bundle
from xscene.types import Modality, ObjectFeatures, ObjectsQuery
from xscene.v1 import common_pb2, fusion_pb2, fusion_pb2_grpc

WIDTH = 256
RANDOM = np.random.default_rng(3)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    preset = PRESETS[PresetName.SMALL]
    return {
        name: init_bundle(preset, folder / name, name=name, seed=i) for i, name in enumerate(("one", "two"))
    }


@pytest.fixture
def settings(bundles: dict[str, Bundle]) -> Settings:
    folder = bundles["one"].directory.parent
    return Settings(
        port=0, metrics_port=0, bundles_dir=folder, bundles=("one", "two"), allow_untrained=True, max_items=8
    )


def vector() -> np.ndarray:
    return RANDOM.normal(size=WIDTH).astype(np.float32)


async def test_any_subset_is_fused_as_the_bare_model_does(
    settings: Settings, bundles: dict[str, Bundle]
) -> None:
    members = [m for m in Modality if m is not Modality.FUSED]
    subsets = [RANDOM.choice(len(members), size=n, replace=False) for n in (1, 2, 3, 4, 5, 6)]
    items = [{members[i]: vector() for i in subset} for subset in subsets]
    async with serving(Fusion(settings), settings) as server:
        async with AsyncFusionClient(Connection(address=f"127.0.0.1:{server.port}")) as client:
            together = await client.fuse(items, model_id=bundles["one"].model_id)
            alone = [await client.fuse([item], model_id=bundles["one"].model_id) for item in items]
    bare, weights = FusionModel.from_bundle(bundles["one"]).fuse_arrays(items)
    assert together.model.model_id == bundles["one"].model_id
    assert together.model.trained is False
    for row, item in enumerate(together.items):
        np.testing.assert_allclose(item.fused, bare[row], atol=1e-6)
        np.testing.assert_allclose(alone[row].items[0].fused, item.fused, atol=1e-6)
        assert item.weights == pytest.approx(weights[row])
        assert sum(item.weights.values()) == pytest.approx(1)
        assert np.linalg.norm(item.fused) == pytest.approx(1, abs=1e-5)


async def test_a_request_without_a_model_gets_the_one_loaded_last_and_an_unknown_one_is_refused(
    settings: Settings, bundles: dict[str, Bundle]
) -> None:
    async with serving(Fusion(settings), settings) as server:
        async with AsyncFusionClient(Connection(address=f"127.0.0.1:{server.port}")) as client:
            result = await client.fuse([{Modality.TEXT: vector()}])
            assert (result.model.bundle, result.model.model_id) == ("two", bundles["two"].model_id)
            with pytest.raises(errors.ModelMismatch, match=bundles["one"].model_id):
                await client.fuse([{Modality.TEXT: vector()}], model_id="0" * 64)
            query = ObjectsQuery(
                object_ids=("a",),
                features=(
                    ObjectFeatures(
                        modality=Modality.TEXT, rows=np.zeros(1, np.uint32), features=vector()[None]
                    ),
                ),
            )
            with pytest.raises(errors.Unsupported, match="bundle two has no network"):
                await client.embed_objects(query)


def _embedding(modality: int, numbers: list[float]) -> common_pb2.Embedding:
    return common_pb2.Embedding(modality=modality, space=common_pb2.SPACE_SCENE, values=numbers)


def _request(*items: list[common_pb2.Embedding]) -> fusion_pb2.FuseRequest:
    return fusion_pb2.FuseRequest(items=[fusion_pb2.FuseItem(embeddings=item) for item in items])


TEXT, IMAGE, FUSED = common_pb2.MODALITY_TEXT, common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_FUSED
GOOD = [1.0] * WIDTH
BAD = [
    (_request(), "items"),
    (_request([]), "items[0].embeddings"),
    (_request([_embedding(TEXT, GOOD)], [_embedding(TEXT, [])]), "items[1].embeddings[0]"),
    (_request([_embedding(TEXT, GOOD[:5])]), "items[0].embeddings[0]"),
    (_request([_embedding(0, GOOD)]), "items[0].embeddings[0].modality"),
    (_request([_embedding(99, GOOD)]), "items[0].embeddings[0].modality"),
    (_request([_embedding(FUSED, GOOD)]), "items[0].embeddings[0].modality"),
    (_request([_embedding(TEXT, GOOD), _embedding(TEXT, GOOD)]), "items[0].embeddings[1].modality"),
    (_request([_embedding(TEXT, GOOD), _embedding(IMAGE, [1.0] * 9)]), "items[0].embeddings[1]"),
    (_request([_embedding(TEXT, [float("nan")] * WIDTH)]), "items[0].embeddings[0].values"),
    (_request([_embedding(TEXT, [float("inf"), *GOOD[1:]])]), "items[0].embeddings[0].values"),
    (_request([_embedding(TEXT, [0.0] * WIDTH)]), "items[0].embeddings[0]"),
    (_request(*[[_embedding(TEXT, GOOD)]] * 9), "items"),
]


@pytest.fixture(scope="module")
def running(bundles: dict[str, Bundle]) -> Iterator[int]:
    folder = bundles["one"].directory.parent
    given = Settings(
        port=0, metrics_port=0, bundles_dir=folder, bundles=("one",), allow_untrained=True, max_items=8
    )
    with serving_in_thread(lambda: Fusion(given), given) as server:
        yield server.port


@pytest.mark.parametrize(("request_", "field"), BAD)
def test_bad_input_is_refused_by_field_and_the_service_lives_on(
    running: int, request_: fusion_pb2.FuseRequest, field: str
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running}") as channel:
        stub = fusion_pb2_grpc.FusionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Fuse(request_, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith(field)
        assert len(stub.Fuse(_request([_embedding(TEXT, GOOD)]), timeout=10).items) == 1


async def test_tls_and_token_from_end_to_end(settings: Settings, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path, "server")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert)
    tokens = write_tokens(tmp_path / "tokens.json", token_entry("secret", "reader"))
    secured = replace(settings, tls_cert=cert, tls_key=key, tokens=tokens)
    async with serving(Fusion(secured), secured) as server:
        address = f"localhost:{server.port}"
        item = {Modality.IMAGE: vector()}
        async with AsyncFusionClient(Connection(address=address, ca_cert=ca, token="secret")) as client:
            assert len((await client.fuse([item])).items) == 1
        async with AsyncFusionClient(Connection(address=address, ca_cert=ca, token="guess")) as client:
            with pytest.raises(errors.Unauthenticated):
                await client.fuse([item])
        plain = Connection(address=f"127.0.0.1:{server.port}", token="secret", max_attempts=1)
        async with AsyncFusionClient(plain) as client:
            with pytest.raises(errors.NotReady):
                await client.fuse([item])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bundles", "none"], "bundle none: there is no such directory"),
        (["--allow-untrained", "false"], "is untrained"),
        (["--host", "0.0.0.0"], "set tokens, or allow_anonymous"),
        (["--tokens", "missing.json"], "cannot read missing.json"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_line(
    bundles: dict[str, Bundle], flags: list[str], words: str
) -> None:
    folder = str(bundles["one"].directory.parent)
    command = [sys.executable, "-m", "fusion", "--port", "0", "--bundles-dir", folder, "--bundles", "one"]
    command += ["--allow-untrained", "true", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
