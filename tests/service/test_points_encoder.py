"""The points encoder asked by a stock client: every input and output, three engines, and bad input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from encoders_3d.app import Settings, make
from encoders_3d.model import PointsModel
from encoders_3d.sparse import native_library
from tests.points import blob, box, exported, glb, load, painted_box, png, room, run, write_points_bundle
from tests.service.probe import serving_in_thread
from xscene.errors import SettingsInvalid
from xscene.serving.server import Server

MIB = 1 << 20
# The requests below hold at most 20 MiB, and decoding them is bounded by the settings.
MAX_GROWTH_BYTES = 256 * MIB
SCENE, OBJECT, FEATURES = "scene_embedding", "object_embedding", "features"
Inputs = dict[str, np.ndarray]


def settings(folder: Path, **named: object) -> Settings:
    fixed: dict[str, object] = {
        "port": 0,
        "metrics_port": 0,
        "bundles_dir": folder,
        "bundles": ("one",),
        "allow_untrained": True,
        "device": "cpu",
        "max_points": 1_000_000,
        "max_voxels": 20_000,
        "max_mesh_bytes": 8 * MIB,
        "max_vertices": 50_000,
        "max_faces": 50_000,
        "max_texture_pixels": 1 << 20,
        "max_surface_points": 500_000,
    }
    return Settings(**fixed | named)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for seed, name in enumerate(("one", "two")):
        write_points_bundle(folder / name, seed=seed)
    return folder


@contextmanager
def served(folder: Path, **named: object) -> Iterator[Server]:
    given = settings(folder, **named)
    with serving_in_thread(lambda: make(given), given) as running:
        yield running


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[Server]:
    with served(bundles, bundles=("two", "one"), engine="torch") as running:
        yield running


@pytest.fixture(scope="module")
def native(bundles: Path) -> Iterator[Server]:
    if native_library.compiler() is None:
        pytest.skip("needs a C++ compiler")
    native_library.build()
    with served(bundles, engine="native") as running:
        yield running


@pytest.fixture(scope="module", params=["server", "native"])
def any_engine(request: pytest.FixtureRequest) -> Server:
    running = request.getfixturevalue(request.param)
    assert isinstance(running, Server)
    return running


@pytest.fixture(scope="module")
def bare(bundles: Path) -> dict[str, PointsModel]:
    """The models without a server."""
    return {name: load(bundles / "one", name) for name in ("point_cloud", "mesh", "object_points")}


def infer(server: Server, model: str, given: Inputs, *outputs: str) -> dict[str, np.ndarray]:
    inputs = []
    for name, values in given.items():
        inputs.append(InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)))
        inputs[-1].set_data_from_numpy(values)
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        wanted = [InferRequestedOutput(name) for name in outputs] or None
        result = client.infer(model, inputs, outputs=wanted)
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}


def cloud(num_points: int = 1500, seed: int = 0) -> Inputs:
    xyz, colors = room(num_points, seed)
    return {"points": xyz, "colors": colors}


def meshes(*files: bytes) -> Inputs:
    return {"mesh": np.array(files, object)}


REQUESTS: dict[str, tuple[str, Inputs]] = {
    "cloud": ("point_cloud", cloud()),
    "cloud without colours": ("point_cloud", {"points": room(700, 1)[0]}),
    "one point": ("point_cloud", {"points": np.zeros((1, 3), np.float32)}),
    "clouds": ("point_cloud", {**cloud(2000, 2), "cloud_ends": np.array([300, 301, 2000], np.int32)}),
    "objects": ("object_points", {"points": np.stack([blob(100, seed) for seed in range(3)])}),
    "objects with colours": (
        "object_points",
        {"points": blob(32)[None], "colors": np.zeros((1, 32, 3), np.uint8)},
    ),
    "meshes": ("mesh", meshes(*(exported(painted_box(), kind) for kind in ("glb", "ply", "obj")))),
    "mesh without colours": ("mesh", meshes(exported(box(), "ply"))),
}


def test_served_embeddings_are_those_of_the_bare_models_alone_and_in_any_batch(
    server: Server, bare: dict[str, PointsModel]
) -> None:
    with ThreadPoolExecutor(len(REQUESTS)) as callers:
        together = list(callers.map(lambda each: infer(server, *each), REQUESTS.values()))
    for (model, inputs), found in zip(REQUESTS.values(), together, strict=True):
        wanted = run(bare[model], inputs)
        assert set(found) == set(wanted) == {spec.name for spec in bare[model].outputs}
        for name, values in wanted.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], values, atol=1e-5)
            if name != FEATURES:
                np.testing.assert_allclose(np.linalg.norm(found[name], axis=1), 1, atol=1e-5)


def test_only_what_is_asked_for_comes(server: Server) -> None:
    assert set(infer(server, *REQUESTS["meshes"], OBJECT)) == {OBJECT}
    assert set(infer(server, *REQUESTS["clouds"], FEATURES)) == {FEATURES}


def test_every_engine_gives_the_same_embedding(native: Server, server: Server) -> None:
    wanted = infer(server, *REQUESTS["clouds"])[SCENE]
    found = infer(native, *REQUESTS["clouds"])[SCENE]
    with InferenceServerClient(f"127.0.0.1:{native.port}") as client:
        shown = client.get_model_config("point_cloud").config.parameters["engine"].string_value
    assert shown.startswith("native (")
    assert (found * wanted).sum(axis=1).min() >= 1 - 1e-5


def test_metadata_names_engine_voxels_and_limits(server: Server) -> None:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        metadata = client.get_model_metadata("point_cloud")
        config = client.get_model_config("point_cloud").config
        ready = {name: client.is_model_ready(name) for name in ("point_cloud", "mesh", "object_points")}
    assert {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs} == {
        "points": ("FP32", [-1, 3]),
        "colors": ("UINT8", [-1, 3]),
        "cloud_ends": ("INT32", [-1]),
    }
    shown = {name: value.string_value for name, value in config.parameters.items()}
    assert (shown["engine"], shown["voxel_m"], shown["max_voxels"]) == ("torch", "0.04", "20000")
    assert (shown["trained"], shown["bundle"], shown["device"]) == ("false", "one", "cpu")
    assert config.max_batch_size == 0
    assert all(ready.values())


def deep(points: np.ndarray, value: float) -> np.ndarray:
    changed = points.copy()
    changed[-1, -1] = value
    return changed


XYZ, COLORS = room(600)
HUGE_PLY = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 1900000000\n"
    b"property float x\nproperty float y\nproperty float z\nend_header\n"
)
POLYGONS = (
    (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
        b"property float x\nproperty float y\nproperty float z\n"
        b"element face 7000\nproperty list uchar int vertex_indices\nend_header\n"
    )
    + bytes(12)
    + (b"\xff" + bytes(4 * 255)) * 7000
)
BOMB = png(30_000, 30_000)
PICTURE = {
    "buffers": [{"byteLength": len(BOMB)}],
    "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": len(BOMB)}],
    "images": [{"bufferView": 0}],
}
NO_BUFFER = {"accessors": [{"count": 300_000_000, "componentType": 5126, "type": "VEC3"}]}
GOOD = exported(painted_box(), "ply")
BAD: dict[str, tuple[str, Inputs, str]] = {
    "no points": ("point_cloud", {"points": XYZ[:0]}, "points: is empty"),
    "points without width": ("point_cloud", {"points": XYZ[:, :2]}, r"shape \[600, 2\], the model takes"),
    "doubles": ("point_cloud", {"points": XYZ.astype(np.float64)}, "datatype 'FP64', the model takes FP32"),
    "nan": ("point_cloud", {"points": deep(XYZ, np.nan)}, "points: 1 values are not finite"),
    "infinity": ("point_cloud", {"points": deep(XYZ, np.inf)}, "points: 1 values are not finite"),
    "far apart": ("point_cloud", {"points": deep(XYZ, 3e38)}, r"cloud\[0\]: .* from the origin"),
    "wide": ("point_cloud", {"points": deep(XYZ, 1e4)}, r"cloud\[0\]: 250001 voxels of 0.04 m along z"),
    "many points": (
        "point_cloud",
        {"points": np.zeros((1_000_001, 3), np.float32)},
        "1000001 points, the limit",
    ),
    "many voxels": (
        "point_cloud",
        {"points": room(60_000, size_m=9)[0]},
        r"cloud\[0\]: \d+ voxels of 0.04 m, ",
    ),
    "lone voxels": (
        "point_cloud",
        {"points": np.indices((5, 5, 5)).reshape(3, -1).T.astype(np.float32) * 8},
        r"cloud\[0\]: 125 voxels so far apart that they cost as much as 32000 of .*, the limit is 20000",
    ),
    "fewer colours": (
        "point_cloud",
        {"points": XYZ, "colors": COLORS[:-1]},
        "colors: 599 rows, points have 600",
    ),
    "ends that fall": (
        "point_cloud",
        {"points": XYZ, "cloud_ends": np.array([400, 300, 600], np.int32)},
        r"cloud_ends\[1\]: 300, needs more than 400",
    ),
    "few object points": ("object_points", {"points": blob(31)[None]}, "31 points an object, at least 32"),
    "objects of one place": (
        "object_points",
        {"points": np.ones((2, 40, 3), np.float32)},
        r"points\[0\]: all",
    ),
    "nan object": ("object_points", {"points": deep(blob(40), np.nan)[None]}, r"points\[0\]: holds numbers"),
    "many objects": (
        "object_points",
        {"points": np.zeros((257, 40, 3), np.float32)},
        "257 objects, the limit",
    ),
    "empty mesh": ("mesh", meshes(GOOD, GOOD, b""), r"mesh\[2\]: is empty"),
    "zip": (
        "mesh",
        meshes(GOOD, b"PK\x03\x04" + bytes(99)),
        r"mesh\[1\]: is none of GLB, PLY, OBJ, but a zip",
    ),
    "ply of gigabytes": ("mesh", meshes(HUGE_PLY), r"mesh\[0\]: 1900000000 vertices, the limit is 50000"),
    "glb without buffer": (
        "mesh",
        meshes(glb(NO_BUFFER)),
        r"mesh\[0\]: GLB accessors\[0\] is sparse or has no",
    ),
    "picture of gigabytes": (
        "mesh",
        meshes(glb(PICTURE, BOMB)),
        r"mesh\[0\]: .*(pixels of textures|images\[0\])",
    ),
    "polygons": ("mesh", meshes(POLYGONS), r"mesh\[0\]: 1771000 faces, the limit is 50000"),
    "cut short": ("mesh", meshes(GOOD[:-40]), r"mesh\[0\]: PLY that cannot be decoded"),
    "no faces": ("mesh", meshes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"), r"mesh\[0\]: "),
    "no area": ("mesh", meshes(b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n"), r"mesh\[0\]: has no area"),
    "millimetres": (
        "mesh",
        meshes(exported(box((900, 2000, 400)), "ply")),
        r"mesh\[0\]: \d+ points for .* m²",
    ),
    "large file": (
        "mesh",
        meshes(b"v 0 0 0\n" * (MIB + 1)),
        r"mesh\[0\]: 8388616 bytes, the limit is 8388608",
    ),
}


class Peak:
    """The most memory that this process held while a block ran, above what it held before."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.growth_bytes = 0

    def __enter__(self) -> Peak:
        self._before = self._process.memory_info().rss
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.growth_bytes = max(self.growth_bytes, self._process.memory_info().rss - self._before)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_its_callers_fault_costs_little_and_harms_no_other(
    any_engine: Server, name: str
) -> None:
    server = any_engine
    model, inputs, message = BAD[name]
    with ThreadPoolExecutor(2) as callers, Peak() as peak:
        bad = callers.submit(infer, server, model, inputs)
        good = callers.submit(infer, server, *REQUESTS["one point"])
        assert good.result()[SCENE].shape == (1, 256)
        with pytest.raises(InferenceServerException, match=message) as caught:
            bad.result()
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert peak.growth_bytes < MAX_GROWTH_BYTES
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_server_ready()


def test_a_message_past_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    with Peak() as peak, pytest.raises(InferenceServerException) as caught:
        infer(server, "point_cloud", {"points": np.zeros((10_000_000, 3), np.float32)})
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    # The client's own copies of 120 MB are in the same process.
    assert peak.growth_bytes < 600 * MIB
    assert infer(server, *REQUESTS["one point"])[SCENE].shape == (1, 256)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"engine": "cuda"}, "engine: engine: 'cuda' is none of auto, torch, native, minkowski"),
        ({"engine": "native", "native_dir": Path("/nowhere")}, "engine: engine native: not built"),
        ({"device": "cuda:99"}, "device: cuda:99 is not there"),
        ({"device": "tpu"}, "device: 'tpu' is none of auto, cpu"),
    ],
)
def test_what_an_engine_or_this_machine_does_not_offer_is_refused(
    bundles: Path, named: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        make(settings(bundles, **named))
