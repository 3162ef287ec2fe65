"""The points models: embeddings of any batch, engines that agree, shared encoders, sections that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.bundles import PRESETS, PresetName, _networks
from encoders_3d.model import PointsFactory, PointsModel
from encoders_3d.objects import ObjectConstants, ObjectEncoder
from encoders_3d.point_transformer import PointTransformerConfig
from encoders_3d.prepare import voxel_cloud
from encoders_3d.scenes import CloudConstants, SceneEncoder
from encoders_3d.sparse.scene_resnet import SceneResNet, SceneResNetConfig
from encoders_3d.sparse.tensor import SparseTensor
from encoders_3d.sparse.torch_engine import TorchEngine
from tests.points import (
    CLOUDS,
    SMALL,
    blob,
    box,
    exported,
    load,
    painted_box,
    room,
    run,
    setup,
    without_presence,
    write_points_bundle,
)
from tests.unit.sparse_reference import engine_of
from xscene.errors import BundleInvalid, InvalidInput, NotFound
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, write_bundle

SCENE, OBJECT, FEATURES = "scene_embedding", "object_embedding", "features"
TINY_SCENES = SceneResNetConfig(
    in_channels=4, stem_width=4, widths=(4, 6, 8, 10), num_blocks=(1, 1, 1, 1), out_channels=12
)
TINY_OBJECTS = PointTransformerConfig(
    num_groups=(32, 8, 4), num_neighbours=(8, 4, 4), widths=(8, 12, 16), depths=(1, 1, 1), num_heads=2
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_points_bundle(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture(scope="module")
def models(bundle) -> dict[str, PointsModel]:
    factory = PointsFactory(setup())
    return {name: factory.load(name, bundle) for name in factory.names}


def clouds(*sizes: int, colored: bool = True) -> dict[str, np.ndarray]:
    parts = [room(size, seed) for seed, size in enumerate(sizes)]
    inputs = {"points": np.concatenate([xyz for xyz, _ in parts])}
    if colored:
        inputs["colors"] = np.concatenate([colors for _, colors in parts])
    return {**inputs, "cloud_ends": np.cumsum(sizes).astype(np.int32)}


def meshes(*files: bytes) -> dict[str, np.ndarray]:
    return {"mesh": np.array(files, object)}


@torch.inference_mode()
def test_a_cloud_is_the_head_of_the_network_of_its_voxels(models):
    model, (xyz, colors) = models["point_cloud"], room(3000)
    found = run(model, {"points": xyz, "colors": colors})
    rows: dict[tuple[int, ...], list[float]] = {}
    for point, color in zip(xyz.astype(np.float64), colors, strict=True):
        channels = [(value / 255 - 0.5) / 0.25 for value in color.tolist()]
        rows.setdefault(tuple(np.floor(point / 0.04).astype(int)), [*channels, 1.0])
    coordinates = torch.tensor([(0, *place) for place in rows], dtype=torch.int32)
    x = SparseTensor.of(torch.tensor(list(rows.values())), coordinates, TorchEngine())
    feature = model.scenes.network(x)
    np.testing.assert_allclose(found[FEATURES], feature, atol=1e-5)
    np.testing.assert_allclose(found[SCENE], model.scenes.head(feature), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found[SCENE], axis=1), 1, atol=1e-6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=4), st.booleans())
def test_no_cloud_changes_another(models, sizes, colored):
    inputs = clouds(*sizes, colored=colored)
    together = run(models["point_cloud"], inputs)
    for number, (start, end) in enumerate(
        zip([0, *inputs["cloud_ends"][:-1]], inputs["cloud_ends"], strict=True)
    ):
        one = {name: each[start:end] for name, each in inputs.items() if name != "cloud_ends"}
        for name, values in run(models["point_cloud"], one).items():
            np.testing.assert_allclose(values[0], together[name][number], atol=1e-5)


def test_clouds_with_and_without_colours_share_a_batch(models):
    model = models["point_cloud"]
    wanted = frozenset([SCENE])
    jobs = [model.prepare(clouds(800, colored=colored), wanted) for colored in (True, False)]
    mixed = model.forward([item for job in jobs for item in job.items])
    for job, result in zip(jobs, mixed, strict=True):
        np.testing.assert_allclose(model.forward(job.items)[0][SCENE], result[SCENE], atol=1e-5)
    assert np.abs(mixed[0][SCENE] - mixed[1][SCENE]).max() > 1e-3


def test_the_shape_of_a_cloud_without_colours_is_seen_from_the_first_layer_on():
    encoder, seen = tiny_points().eval(), []
    encoder.network.conv1[0].register_forward_hook(lambda _, __, out: seen.append(out.features))
    encoder([voxel_cloud(room(900)[0], None, 0.1, CLOUDS)], TorchEngine())
    assert seen[0].std(dim=0).min() > 1e-3


@torch.inference_mode()
def test_the_network_of_clouds_takes_no_part_in_autocast(models):
    encoder, made = models["point_cloud"].scenes, [voxel_cloud(*room(900), 0.04, CLOUDS)]
    wanted = encoder(made, TorchEngine())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(encoder(made, TorchEngine()), wanted, rtol=0, atol=0)


@torch.inference_mode()
def test_a_cloud_far_away_is_the_same_cloud_and_shares_a_batch():
    encoder, (xyz, colors) = tiny_points(voxel_m=0.125).eval(), room(900)
    # Sums that float32 holds exactly, and whole lattices of 192 voxels apart: 98 km.
    near = np.rint(xyz * 32).astype(np.float32) / 32
    both = [voxel_cloud(each, colors, 0.125, CLOUDS) for each in (near, near + np.float32(24 * 4096))]
    found = encoder(both, TorchEngine())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_the_native_engine_gives_the_embedding_of_the_reference(bundle, models, name):
    native = load(bundle, "point_cloud", engine_of(name))
    inputs = clouds(2000, 500)
    found, wanted = (run(model, inputs, SCENE)[SCENE] for model in (native, models["point_cloud"]))
    assert (found * wanted).sum(axis=1).min() >= 1 - 1e-5
    one = {name: each[:2000] for name, each in inputs.items() if name != "cloud_ends"}
    np.testing.assert_allclose(run(native, one, SCENE)[SCENE][0], found[0], atol=1e-6)
    assert native.parameters["engine"].startswith("native")


@torch.inference_mode()
def test_an_object_is_the_head_of_the_network_of_its_points(models):
    model = models["object_points"]
    inputs = {"points": np.stack([blob(100, seed) for seed in range(3)])}
    job = model.prepare(inputs, frozenset([FEATURES, OBJECT]))
    assert [item.points.shape for item in job.items] == [(1024, 3)] * 3
    found = run(model, inputs)
    for row, item in enumerate(job.items):
        feature = model.objects.network(torch.from_numpy(item.points)[None])
        np.testing.assert_allclose(found[FEATURES][row], feature[0], atol=1e-5)
        np.testing.assert_allclose(found[OBJECT][row], model.objects.points_head(feature)[0], atol=1e-5)


def test_a_mesh_is_a_cloud_of_its_surface_and_an_object_with_a_head_of_its_own(models):
    model = models["mesh"]
    found = run(model, meshes(exported(painted_box(), "ply"), exported(box((1, 1, 1)), "obj")))
    job = model.prepare(meshes(exported(painted_box(), "ply")), frozenset([SCENE, OBJECT]))
    cloud, single = job.items
    xyz = (cloud.cloud.coordinates + np.float32(0.5)) * np.float32(0.04)
    scene = run(models["point_cloud"], {"points": xyz, "colors": cloud.cloud.colors}, SCENE)[SCENE]
    assert scene[0] @ found[SCENE][0] > 1 - 1e-5
    with torch.inference_mode():
        feature = model.objects.network(torch.from_numpy(single.points)[None])
        np.testing.assert_allclose(found[OBJECT][0], model.objects.mesh_head(feature)[0], atol=1e-5)
    assert [values.shape for values in found.values()] == [(2, 256), (2, 256)]


def test_only_what_is_wanted_is_computed(models):
    data = meshes(exported(painted_box(), "ply"))
    for output, section in ((SCENE, "scenes"), (OBJECT, "objects")):
        job = models["mesh"].prepare(data, frozenset([output]))
        assert len(job.items) == 1
        assert set(models["mesh"].forward(job.items)[0]) == {output}
        assert hasattr(job.items[0], "cloud") == (section == "scenes")
    job = models["point_cloud"].prepare(clouds(50, 60), frozenset([FEATURES]))
    assert [set(each) for each in models["point_cloud"].forward(job.items)] == [{FEATURES}] * 2


def test_clouds_cost_their_voxels_and_objects_their_share_of_a_batch(models):
    cloud, single = (
        models["mesh"].prepare(meshes(exported(painted_box(), "ply")), frozenset([SCENE, OBJECT])).items
    )
    assert (cloud.cost, single.cost) == (len(cloud.cloud.coordinates), 12_500)
    assert models["mesh"].max_batch_cost == 50_000
    assert models["object_points"].max_batch_cost == 4
    (item,) = models["object_points"].prepare({"points": blob(40)[None]}, frozenset([OBJECT])).items
    assert item.cost == 1


def test_outputs_are_as_the_metadata_says_and_warming_up_computes(models):
    inputs = {
        "point_cloud": clouds(100),
        "object_points": {"points": blob(40)[None], "colors": np.zeros((1, 40, 3), np.uint8)},
        "mesh": meshes(exported(painted_box(), "glb")),
    }
    for name, model in models.items():
        model.warm_up()
        found = run(model, inputs[name])
        assert {key: (each.dtype, each.shape) for key, each in found.items()} == {
            spec.name: (np.float32, (1, *spec.shape[1:])) for spec in model.outputs
        }


def test_a_mesh_of_any_size_is_the_same_object(models):
    small = b"v 1 0 0\nv 3 0 0\nv 1 2 1\nf 1 2 3\n"
    huge = b"v 1e50 0 0\nv 3e50 0 0\nv 1e50 2e50 1e50\nf 1 2 3\n"
    far = b"v 8000001 9000000 0\nv 8000003 9000000 0\nv 8000001 9000002 1\nf 1 2 3\n"
    found = run(models["mesh"], meshes(small, huge, far), OBJECT)[OBJECT]
    np.testing.assert_allclose(found[1:], found[[0, 0]], atol=1e-4)


def test_a_mesh_of_no_size_is_the_callers_fault(models):
    thin = b"v 0 0 0\nv 1e160 0 0\nv 0 1e-10 0\nf 1 2 3\n"
    with pytest.raises(InvalidInput, match=r"mesh\[0\]: are too far apart"):
        run(models["mesh"], meshes(thin), OBJECT)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "mesh: is empty, at least one mesh is needed"),
        ((b"",) * 5, "mesh: 5 meshes, the limit is 4"),
        ((exported(painted_box(), "ply"), b"PK\x03\x04"), r"mesh\[1\]: is none of GLB, PLY, OBJ, but a zip"),
        ((exported(box((60, 1, 1)), "ply"),), r"mesh\[0\]: 605000 points for 242 m²"),
    ],
)
def test_a_faulty_mesh_refuses_its_request_by_name(models, files, message):
    with pytest.raises(InvalidInput, match=message):
        run(models["mesh"], meshes(*files))


def test_a_network_of_colours_alone_refuses_what_has_none(tmp_path):
    content = SceneEncoder(replace(TINY_SCENES, in_channels=3), CloudConstants(voxel_m=0.1), 8).section()
    made = bundle_of(tmp_path, points=content, objects=tiny_objects().section())
    model = load(made, "point_cloud")
    assert model.parameters["colors"] == "needed"
    assert run(model, clouds(100))[SCENE].shape == (1, 8)
    with pytest.raises(
        InvalidInput, match="colors: no colours, which the bundle's network of 3 channels needs"
    ):
        run(model, clouds(100, colored=False))
    with pytest.raises(InvalidInput, match=r"mesh\[0\]: no colours, which"):
        run(load(made, "mesh"), meshes(exported(box(), "ply")))


def tiny_objects() -> ObjectEncoder:
    return ObjectEncoder(TINY_OBJECTS, ObjectConstants(num_points=64), 8)


def bundle_of(folder: Path, **sections) -> Path:
    content = BundleContent(name="odd", preset="test", width=8, trained=False, sections=sections)
    return write_bundle(content, folder / "odd").directory


def test_models_of_one_bundle_share_its_encoders_and_bundles_do_not(tmp_path, bundle):
    factory = PointsFactory(setup())
    mesh, cloud, single = (factory.load(name, bundle) for name in ("mesh", "point_cloud", "object_points"))
    assert mesh.scenes is cloud.scenes
    assert mesh.objects is single.objects
    other = factory.load("point_cloud", write_points_bundle(tmp_path / "two", seed=1))
    assert other.scenes is not cloud.scenes
    assert other.version != cloud.version


def test_a_bundle_without_a_section_has_the_other_models(tmp_path):
    points = write_points_bundle(tmp_path / "one", "points")
    factory = PointsFactory(setup())
    assert factory.load("point_cloud", points).name == "point_cloud"
    for name in ("mesh", "object_points"):
        with pytest.raises(NotFound, match="bundle one: it has no section objects"):
            factory.load(name, points)
    with pytest.raises(InvalidInput, match="name: text, this service has point_cloud, mesh, object_points"):
        factory.load("text", points)


def test_a_model_says_what_it_is(models):
    shown = models["point_cloud"].parameters
    assert (shown["engine"], shown["voxel_m"], shown["colors"]) == ("torch", "0.04", "optional")
    assert (shown["max_points"], shown["max_voxels"], shown["device"]) == ("20000", "5000", "cpu")
    assert models["mesh"].parameters["up_axis"] == "z; y in GLB"
    assert models["object_points"].parameters["min_object_points"] == "32"


def size(section: object) -> int:
    return sum(tensor.numel() for name, tensor in section.tensors.items() if "running" not in name)


@pytest.mark.parametrize(
    ("preset", "points", "scene_head", "objects", "object_head"),
    [
        (PresetName.SMALL, 1_004_160, 66_176, 404_928, 25_024),
        (PresetName.CROSSOVER, 70_554_816, 329_216, 12_654_400, 222_528),
    ],
)
def test_presets_have_their_golden_sizes(preset, points, scene_head, objects, object_head):
    scene, single = _networks(PRESETS[preset])
    width = PRESETS[preset].width
    with torch.device("meta"):
        encoder = SceneEncoder(scene, CloudConstants(voxel_m=0.02), width)
        other = ObjectEncoder(single, ObjectConstants(), width)
    assert [
        sum(parameter.numel() for parameter in module.parameters())
        for module in (encoder.network, encoder.head, other.network, other.points_head, other.mesh_head)
    ] == [points, scene_head, objects, object_head, object_head]


def test_the_published_network_has_colours_alone_and_the_small_one_their_presence():
    assert _networks(without_presence())[0].in_channels == 3
    assert _networks(SMALL)[0].in_channels == 4


def tiny_points(voxel_m: float = 0.1) -> SceneEncoder:
    return SceneEncoder(TINY_SCENES, CloudConstants(voxel_m=voxel_m), 8)


def with_config(**change):
    section = tiny_points().section()
    return replace(section, config={**section.config, **change})


def with_constants(**change):
    section = tiny_points().section()
    return replace(section, preprocessing={**section.preprocessing, **change})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            replace(tiny_points().section(), schema="points/2"),
            "unknown schema points/2, this code reads points/1",
        ),
        (with_config(depth=3), "config has depth, in_channels, .*; needed: in_channels"),
        (with_config(stem_width=True), "config stem_width is True, needed: whole numbers above 0"),
        (with_config(stem_width=0), "config stem_width is 0, needed: whole numbers above 0"),
        (with_config(widths=[4, 6, 8]), r"config widths is .*, needed: 4 numbers"),
        (with_config(widths="4688"), r"config widths is 4688, needed: 4 numbers"),
        (with_config(in_channels=5), "config: in_channels: 5, needs 3 colours, or 4 with their presence"),
        (with_config(out_channels=14), r"tensor .* is float32 .*, the module has"),
        (with_constants(voxel_m=0), "voxel_m: 0.0, needs more than 0"),
        (with_constants(color_std=[1, 0, 1]), "color_std: 0.0, needs more than 0"),
        (with_constants(color_mean=[1, 0]), "preprocessing color_mean is .*, needed: 3 numbers"),
        (with_constants(voxel_m="0.1"), "preprocessing voxel_m is 0.1, needed: finite numbers"),
    ],
)
def test_a_section_of_clouds_that_does_not_fit_is_refused(tmp_path, section, message):
    with pytest.raises(BundleInvalid, match=f"^bundle odd: section points: {message}"):
        SceneEncoder.from_bundle(open_bundle(bundle_of(tmp_path, points=section)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocessing": {"num_points": 31}}, "config: num_points: 31, the network needs 32"),
        ({"preprocessing": {}}, "preprocessing has nothing; needed: num_points"),
        (
            {"config": {**tiny_objects().section().config, "num_heads": 3}},
            "widths: 8 is no multiple of 3 heads",
        ),
        ({"tensors": {"network.norm.bias": torch.ones(16)}}, "missing tensors: "),
    ],
)
def test_a_section_of_objects_that_does_not_fit_is_refused(tmp_path, changes, message):
    section = replace(tiny_objects().section(), **changes)
    with pytest.raises(BundleInvalid, match=f"^bundle odd: section objects: {message}"):
        ObjectEncoder.from_bundle(open_bundle(bundle_of(tmp_path, objects=section)))


def test_a_section_comes_back_from_its_bundle_as_it_was(tmp_path):
    encoder, single = tiny_points(), tiny_objects()
    made = open_bundle(bundle_of(tmp_path, points=encoder.section(), objects=single.section()))
    for module, other in (
        (encoder, SceneEncoder.from_bundle(made)),
        (single, ObjectEncoder.from_bundle(made)),
    ):
        assert module.constants == other.constants
        assert module.network.config == other.network.config
        assert not other.training
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])


def test_the_scene_network_learns_through_its_encoder():
    encoder = tiny_points().train()
    made = [voxel_cloud(*room(400, seed), 0.1, CLOUDS) for seed in range(3)]
    encoder.head(encoder(made, TorchEngine())).sum().backward()
    assert isinstance(encoder.network, SceneResNet)
    kernel = encoder.network.conv1[0].kernel
    assert kernel.grad is not None
    assert kernel.grad.abs().sum() > 0
