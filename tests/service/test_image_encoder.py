"""The image encoder on a real backbone, asked by a stock client of the Open Inference Protocol."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from deploy.bundles import PRESETS, PresetName, init_bundle
from encoders_2d.app import Settings, limits, make
from encoders_2d.model import VisionFactory, VisionModel
from tests.image_backbones import BACKBONES_DIR, CPU, encoded, mobilenet_directory, picture, request, run
from tests.memory import growth_below
from tests.service.probe import serving_in_thread
from xscene.errors import SettingsInvalid
from xscene.serving.server import Server

ALL = ("cls", "patch_mean", "patches", "scene_embedding", "object_embedding")
TYPES = {"image": "BYTES", "pixels": "UINT8", "boxes": "INT32", "group_ends": "INT32"}
ROOT = Path(__file__).resolve().parents[2]
FILES = [encoded(picture(seed, 320, 240), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP", "JPEG"))]
Request = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mobilenet_directory()
    folder = tmp_path_factory.mktemp("bundles")
    for seed, name in enumerate(("one", "two")):
        init_bundle(PRESETS[PresetName.SMALL], folder / name, name=name, seed=seed)
    return folder


def settings_of(bundles: Path) -> Settings:
    return Settings(
        port=0,
        metrics_port=0,
        bundles_dir=bundles,
        bundles=("one", "two"),
        allow_untrained=True,
        backbones_dir=BACKBONES_DIR,
        max_items=8,
        max_image_bytes=1 << 20,
        max_image_pixels=1 << 20,
        device="cpu",
    )


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[Server]:
    given = settings_of(bundles)
    with serving_in_thread(lambda: make(given), given) as running:
        yield running


@pytest.fixture(scope="module")
def bare(bundles: Path) -> dict[tuple[str, str], VisionModel]:
    """The models without a server."""
    factory = VisionFactory(BACKBONES_DIR, limits(settings_of(bundles)), CPU)
    loaded = {
        (name, bundle): factory.load(name, bundles / bundle)
        for name in ("image", "floorplan")
        for bundle in ("one", "two")
    }
    return {key: model for key, model in loaded.items() if isinstance(model, VisionModel)}


def infer(
    server: Server,
    tensors: Request,
    outputs: tuple[str, ...] = ALL,
    *,
    model: str = "image",
    version: str = "",
) -> Request:
    inputs = []
    for name, values in tensors.items():
        inputs.append(InferInput(name, list(values.shape), TYPES[name]))
        inputs[-1].set_data_from_numpy(values)
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        wanted = [InferRequestedOutput(name) for name in outputs]
        result = client.infer(model, inputs, model_version=version, outputs=wanted)
        return {name: result.as_numpy(name) for name in outputs}


def assert_near(found: Request, wanted: Request) -> None:
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        # Features of this backbone go up to 6, embeddings have length 1.
        np.testing.assert_allclose(found[name], rows, atol=1e-4 if name == "patches" else 1e-5, err_msg=name)


def test_served_embeddings_are_those_of_the_bare_model_alone_and_in_any_batch(
    server: Server, bare: dict[tuple[str, str], VisionModel]
) -> None:
    boxes = [(0, 0, 320, 240), (10, 20, 100, 200), (0, 0, 64, 64)]
    requests = [
        request(FILES[:1]),
        request(FILES[1:2]),
        request(FILES),
        request(FILES, group_ends=[1, 4]),
        request(FILES[:3], boxes),
        request(np.stack([picture(7), picture(8)])),
        request(np.stack([picture(7), picture(8)]), [(4, 4, 40, 40), (0, 0, 64, 48)], [2]),
    ]
    with ThreadPoolExecutor(len(requests)) as callers:
        together = list(callers.map(partial(infer, server), requests))
    for tensors, found in zip(requests, together, strict=True):
        wanted = run(bare["image", "two"], tensors, *ALL)
        assert_near(found, wanted)
        assert_near(infer(server, tensors), wanted)
        for name in ("scene_embedding", "object_embedding"):
            np.testing.assert_allclose(np.linalg.norm(found[name], axis=1), 1, atol=1e-5)


def test_groups_have_a_row_each_and_every_other_output_one_for_each_picture(server: Server) -> None:
    found = infer(server, request(FILES, group_ends=[3, 4]))
    assert {name: rows.shape for name, rows in found.items()} == {
        "cls": (4, 1280),
        "patch_mean": (4, 1280),
        "patches": (4, 49, 1280),
        "scene_embedding": (2, 256),
        "object_embedding": (4, 256),
    }
    assert set(infer(server, request(FILES), ("cls",))) == {"cls"}


def test_a_floorplan_has_a_cls_and_a_scene_embedding_of_its_own(
    server: Server, bare: dict[tuple[str, str], VisionModel]
) -> None:
    names = ("cls", "scene_embedding")
    found = infer(server, request(FILES), names, model="floorplan")
    assert_near(found, run(bare["floorplan", "two"], request(FILES), *names))
    images = infer(server, request(FILES), names)
    np.testing.assert_allclose(found["cls"], images["cls"], atol=1e-5)
    assert np.abs(found["scene_embedding"] - images["scene_embedding"]).max() > 0.01


def test_versions_differ_in_their_heads_and_share_their_features(
    server: Server, bare: dict[tuple[str, str], VisionModel]
) -> None:
    tensors = request(FILES[:1])
    one, two = (infer(server, tensors, version=bare["image", name].version) for name in ("one", "two"))
    np.testing.assert_array_equal(one["cls"], two["cls"])
    np.testing.assert_array_equal(infer(server, tensors)["scene_embedding"], two["scene_embedding"])
    assert np.abs(one["scene_embedding"] - two["scene_embedding"]).max() > 0.01


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb() -> bytes:
    """A PNG of 12000 x 12000 black pixels in less than half a megabyte."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(12_000 * 3 + 1)) for _ in range(12_000)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp_bomb() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


GOOD = FILES[:3]
NOT_A_PICTURE = r"image\[3\]: is none of JPEG, PNG, WebP"
FAULTS: dict[str, tuple[Request, str]] = {
    "bomb": (request([*GOOD, bomb()]), r"image\[3\]: 144000000 pixels \(12000x12000\), the limit is 1048576"),
    "webp bomb": (request([*GOOD, webp_bomb()]), r"image\[3\]: \d+ pixels \(16383x16383\), the limit is"),
    "bytes": (request([*GOOD, bytes(2 << 20)]), r"image\[3\]: 2097152 bytes, the limit is 1048576"),
    "empty": (request([*GOOD, b""]), r"image\[3\]: is empty"),
    "truncated jpeg": (request([*GOOD, FILES[0][:2000]]), r"image\[3\]: damaged JPEG: "),
    "truncated png": (request([*GOOD, FILES[1][:2000]]), r"image\[3\]: damaged PNG: "),
    "truncated webp": (request([*GOOD, FILES[2][:1000]]), r"image\[3\]: damaged WebP: "),
    "gif": (request([*GOOD, encoded(picture(1), "GIF")]), NOT_A_PICTURE),
    "tiff": (request([*GOOD, encoded(picture(1), "TIFF")]), NOT_A_PICTURE),
    "bmp": (request([*GOOD, encoded(picture(1), "BMP")]), NOT_A_PICTURE),
    "text": (request([*GOOD, b"<svg/>"]), NOT_A_PICTURE),
    "animated png": (request([*GOOD, animation("PNG")]), r"image\[3\]: an animated PNG"),
    "animated webp": (request([*GOOD, animation("WEBP")]), r"image\[3\]: an animated WebP"),
    "tiny": (request([*GOOD, encoded(picture(1, 8, 6))]), r"image\[3\]: 8x6 pixels, a side needs 8"),
    "many": (request(FILES * 3), "image: 12 pictures, the limit is 8"),
    "none": (request([]), "image: is empty"),
    "no input": ({}, "inputs: image or pixels is needed, neither is there"),
    "both": (request(GOOD) | request(picture(1)[None]), "inputs: image or pixels is needed, both are there"),
    "pixels": (request(np.zeros((1, 2000, 1000, 3), np.uint8)), r"pixels\[0\]: 2000000 pixels \(1000x2000\)"),
    "grey pixels": (request(np.zeros((1, 20, 20, 1), np.uint8)), r"input 'pixels': shape \[1, 20, 20, 1\]"),
    "boxes": (request(GOOD, [(0, 0, 8, 8)]), "boxes: 1 boxes, there are 3 pictures"),
    "box": (
        request(GOOD[:1], [(0, 0, 321, 8)]),
        r"boxes\[0\]: \[0, 0, 321, 8\] is no box in a picture of 320x240",
    ),
    "box order": (request(GOOD[:1], [(9, 9, 3, 30)]), r"boxes\[0\]: \[9, 9, 3, 30\] is no box"),
    "groups": (request(GOOD, group_ends=[2]), r"group_ends\[0\]: 2, the last group must end at 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_its_callers_fault_and_no_others(server: Server, fault: str) -> None:
    tensors, message = FAULTS[fault]
    # A bomb would take 400 MB and more; what the good request takes is counted with it.
    with growth_below(96 << 20), ThreadPoolExecutor(2) as callers:
        bad = callers.submit(infer, server, tensors, ("cls",))
        good = callers.submit(infer, server, request(FILES[:1]), ("cls",))
        with pytest.raises(InferenceServerException, match=message) as caught:
            bad.result()
        assert good.result()["cls"].shape == (1, 1280)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_server_ready()


def test_a_floorplan_takes_no_groups(server: Server) -> None:
    with pytest.raises(InferenceServerException, match="'group_ends': is none of image, pixels, boxes"):
        infer(server, request(FILES, group_ends=[4]), ("cls",), model="floorplan")


def test_metadata_names_the_limits_and_the_backbone(server: Server) -> None:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        metadata = client.get_model_metadata("image")
        config = client.get_model_config("floorplan").config
    assert {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs} == {
        "cls": ("FP32", [-1, 1280]),
        "patch_mean": ("FP32", [-1, 1280]),
        "patches": ("FP32", [-1, 49, 1280]),
        "scene_embedding": ("FP32", [-1, 256]),
        "object_embedding": ("FP32", [-1, 256]),
    }
    shown = {name: value.string_value for name, value in config.parameters.items()}
    assert (shown["backbone"], shown["max_items"], shown["max_image_pixels"]) == (
        "mobilenet-v2",
        "8",
        "1048576",
    )
    assert (shown["trained"], shown["bundle"], shown["device"]) == ("false", "two", "cpu")


@pytest.mark.parametrize("name", ["tpu9", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"device: '?{name}"):
        make(Settings(device=name))


def test_a_service_without_its_backbone_ends_with_one_sentence(bundles: Path, tmp_path: Path) -> None:
    flags = ["--bundles-dir", str(bundles), "--bundles", "one", "--allow-untrained", "true", "--port", "0"]
    command = [sys.executable, "-m", "encoders_2d", *flags, "--backbones-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "backbone mobilenet-v2: model.safetensors, config.json missing" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_answer_is_sent_or_refused_up_to_the_last_byte(bundles: Path) -> None:
    exact = 2 * 49 * 1280 * 4 + 2 * 1280 * 4 + 512
    for limit, fits in ((exact, True), (exact - 1, False)):
        given = replace(settings_of(bundles), max_message_bytes=limit, bundles=("one",))
        with serving_in_thread(lambda given=given: make(given), given) as running:
            tensors = request(FILES[:2])
            if fits:
                assert infer(running, tensors, ("patches", "cls"))["patches"].shape == (2, 49, 1280)
                continue
            with pytest.raises(InferenceServerException, match=r"outputs: .* bytes of the answer") as caught:
                infer(running, tensors, ("patches", "cls"))
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
