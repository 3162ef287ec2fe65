"""The models of the points service: clouds, meshes and objects to features and joint embeddings."""

# N items, F feature width, D embedding width

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders_3d import objects, scenes
from encoders_3d.mesh_limits import MeshLimits
from encoders_3d.meshes import decode_mesh, num_scene_points
from encoders_3d.objects import ObjectEncoder
from encoders_3d.prepare import (
    CLOUD_ENDS,
    COLORS,
    POINTS,
    CloudLimits,
    ObjectLimits,
    VoxelCloud,
    at_item,
    decode_clouds,
    decode_objects,
    object_points,
    voxel_cloud,
)
from encoders_3d.scenes import SceneEncoder
from encoders_3d.sparse.engine import Engine
from xscene.errors import InvalidInput, LimitExceeded, NotFound
from xscene.nn.bundle import Bundle, open_bundle
from xscene.serving.models import ANY, Factory, Item, Job, Model, Tensors, TensorSpec

POINT_CLOUD, MESH, OBJECT_POINTS = "point_cloud", "mesh", "object_points"
FEATURES, SCENE, OBJECT = "features", "scene_embedding", "object_embedding"
OBJECT_SURFACE_POINTS = 5000
WARM_UP_POINTS = 4096
WARM_UP_VOXELS = 64


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all models of a service have in common."""

    engine: Engine
    device: torch.device
    clouds: CloudLimits
    objects: ObjectLimits
    meshes: MeshLimits
    max_batch_voxels: int
    max_batch_objects: int


@dataclass(frozen=True, eq=False)
class CloudItem:
    """A cloud and what is wanted of it."""

    cloud: VoxelCloud
    outputs: frozenset[str]
    cost: int
    """In voxels."""


@dataclass(frozen=True, eq=False)
class ObjectItem:
    """An object and what is wanted of it; its cost is in the unit of the model that it is for."""

    points: NDArray[np.float32]
    """(K,3), in the unit sphere."""
    outputs: frozenset[str]
    cost: int


Encoders = Mapping[str, nn.Module]
"""By the section that each is from."""


class PointsModel(Model):
    """One of the models of one bundle; encoders may be shared with the others."""

    sections: ClassVar[tuple[str, ...]]
    """What a bundle must have for the model."""
    object_head: ClassVar[str] = "points_head"

    def __init__(self, bundle: Bundle, encoders: Encoders, setup: Setup) -> None:
        self.version = bundle.model_version
        self.bundle = bundle.directory.name
        self.model_id = bundle.model_id
        self.trained = bundle.manifest.trained
        self.encoders = encoders
        self.width = bundle.manifest.width
        self.setup = setup
        self.max_batch_cost = setup.max_batch_voxels
        self.parameters = {"device": str(setup.device), **self._parameters()}

    @property
    def scenes(self) -> SceneEncoder:
        """The encoder of clouds."""
        encoder = self.encoders[scenes.SECTION]
        assert isinstance(encoder, SceneEncoder)
        return encoder

    @property
    def objects(self) -> ObjectEncoder:
        """The encoder of objects."""
        encoder = self.encoders[objects.SECTION]
        assert isinstance(encoder, ObjectEncoder)
        return encoder

    @abstractmethod
    def _parameters(self) -> dict[str, str]:
        """What the metadata shows."""

    def _cloud_item(self, cloud: VoxelCloud, outputs: frozenset[str]) -> CloudItem:
        """The item of a cloud that keeps the limit of voxels by its cost too."""
        cost, limit = self.scenes.cost_of(cloud), self.setup.clouds.max_voxels
        if cost > limit:
            apart = f"{len(cloud)} voxels so far apart that they cost as much as {cost} of a surface"
            advice = "leave out lone points, or send parts of it as clouds of their own"
            raise LimitExceeded.at(POINTS, f"{apart}, the limit is {limit}; {advice}")
        return CloudItem(cloud, outputs, cost)

    @torch.inference_mode()
    def forward(self, items: Sequence[Item]) -> Sequence[Mapping[str, NDArray[np.float32]]]:
        """The wanted outputs of each item: all clouds in one batch, all objects in another."""
        clouds = [item for item in items if isinstance(item, CloudItem)]
        singles = [item for item in items if isinstance(item, ObjectItem)]
        found: dict[Item, dict[str, NDArray[np.float32]]] = {}
        if clouds:
            features_NF = self.scenes([item.cloud for item in clouds], self.setup.engine)
            heads = {FEATURES: nn.Identity(), SCENE: self.scenes.head}
            found |= _outputs(clouds, features_NF, heads)
        if singles:
            features_NF = self.objects(torch.from_numpy(np.stack([item.points for item in singles])))
            heads = {FEATURES: nn.Identity(), OBJECT: self.objects.get_submodule(self.object_head)}
            found |= _outputs(singles, features_NF, heads)
        return [found[item] for item in items]

    def finish(self, job: Job, results: Sequence[Any]) -> Tensors:
        """The outputs of one request, a row for each item that gives one."""
        wanted: frozenset[str] = job.plan
        return {name: np.stack([each[name] for each in results if name in each]) for name in wanted}

    def warm_up(self) -> None:
        """Compute a made-up item of each kind."""
        random = np.random.default_rng(0)
        places = np.unique(random.integers(0, WARM_UP_VOXELS, (WARM_UP_POINTS, 3), np.int32), axis=0)
        items: list[Item] = []
        names = frozenset(spec.name for spec in self.outputs)
        if scenes.SECTION in self.sections:
            items.append(self._cloud_item(VoxelCloud(places, np.zeros(places.shape, np.uint8)), names))
        if objects.SECTION in self.sections:
            points = object_points(places, self.objects.constants.num_points)
            items.append(ObjectItem(points, names, 1))
        self.forward(items)


class PointCloudModel(PointsModel):
    """Whole scenes; several clouds of one request and of several go through the network together."""

    name = POINT_CLOUD
    # Some 300,000 points, which become voxels in about 10 ms, in 60 where they are strewn.
    light_bytes = 4 << 20
    sections = (scenes.SECTION,)
    inputs = (
        TensorSpec(name=POINTS, datatype="FP32", shape=(ANY, 3)),
        TensorSpec(name=COLORS, datatype="UINT8", shape=(ANY, 3), optional=True),
        TensorSpec(name=CLOUD_ENDS, datatype="INT32", shape=(ANY,), optional=True),
    )

    def __init__(self, bundle: Bundle, encoders: Encoders, setup: Setup) -> None:
        super().__init__(bundle, encoders, setup)
        self.outputs = (
            TensorSpec(name=FEATURES, datatype="FP32", shape=(ANY, self.scenes.feature_width)),
            TensorSpec(name=SCENE, datatype="FP32", shape=(ANY, self.width)),
        )

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Check and voxelise the clouds."""
        colors = inputs.get(COLORS)
        voxel_m = self.scenes.constants.voxel_m
        clouds = decode_clouds(inputs[POINTS], colors, inputs.get(CLOUD_ENDS), voxel_m, self.setup.clouds)
        self.scenes.check_colors(clouds)
        items = []
        for number, cloud in enumerate(clouds):
            with at_item(f"cloud[{number}]"):
                items.append(self._cloud_item(cloud, outputs))
        cost, limit = sum(item.cost for item in items), self.setup.clouds.max_points
        if cost > limit:
            raise LimitExceeded.of(POINTS, value=cost, limit=limit, unit="voxels by what the clouds cost")
        return Job(items=items, plan=outputs)

    def _parameters(self) -> dict[str, str]:
        return _scene_parameters(self.scenes, self.setup)


class MeshModel(PointsModel):
    """Points of the surface, encoded as a cloud and as an object."""

    name = MESH
    sections = (scenes.SECTION, objects.SECTION)
    object_head = "mesh_head"
    inputs = (TensorSpec(name=MESH, datatype="BYTES", shape=(ANY,)),)

    def __init__(self, bundle: Bundle, encoders: Encoders, setup: Setup) -> None:
        super().__init__(bundle, encoders, setup)
        self.outputs = tuple(
            TensorSpec(name=name, datatype="FP32", shape=(ANY, self.width)) for name in (SCENE, OBJECT)
        )

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Check and sample the meshes, one after the other: one decoded mesh at a time is in memory."""
        files, limit = inputs[MESH], self.setup.meshes.max_meshes
        if not len(files):
            raise InvalidInput.at(MESH, "is empty, at least one mesh is needed")
        if len(files) > limit:
            raise LimitExceeded.of(MESH, value=len(files), limit=limit, unit="meshes")
        items: list[Item] = []
        for number, data in enumerate(files):
            items += self._items(f"{MESH}[{number}]", data, outputs)
        return Job(items=items, plan=outputs)

    def _items(self, field: str, data: bytes, outputs: frozenset[str]) -> list[Item]:
        limits = self.setup.meshes
        surface = decode_mesh(field, data, limits)
        items: list[Item] = []
        with at_item(field):
            if SCENE in outputs:
                voxel_m = self.scenes.constants.voxel_m
                xyz, colors = surface.sample(num_scene_points(field, surface, voxel_m, limits))
                cloud = voxel_cloud(xyz, colors, voxel_m, self.setup.clouds)
                self.scenes.check_colors([cloud])
                items.append(self._cloud_item(cloud, frozenset({SCENE})))
            if OBJECT in outputs:
                points = object_points(
                    surface.sample(OBJECT_SURFACE_POINTS)[0], self.objects.constants.num_points
                )
                cost = -(-self.setup.max_batch_voxels // self.setup.max_batch_objects)
                items.append(ObjectItem(points, frozenset({OBJECT}), cost))
        return items

    def _parameters(self) -> dict[str, str]:
        limits = self.setup.meshes
        names = ("max_meshes", "max_mesh_bytes", "max_vertices", "max_faces", "max_texture_pixels")
        own = {name: str(getattr(limits, name)) for name in (*names, "max_surface_points")}
        frame = {"up_axis": "z; y in GLB", "unit": "m", "formats": "GLB, PLY, OBJ"}
        return {**_scene_parameters(self.scenes, self.setup), **own, **frame}


class ObjectPointsModel(PointsModel):
    """Single objects as points; their colours are checked and not looked at."""

    name = OBJECT_POINTS
    sections = (objects.SECTION,)
    inputs = (
        TensorSpec(name=POINTS, datatype="FP32", shape=(ANY, ANY, 3)),
        TensorSpec(name=COLORS, datatype="UINT8", shape=(ANY, ANY, 3), optional=True),
    )

    def __init__(self, bundle: Bundle, encoders: Encoders, setup: Setup) -> None:
        super().__init__(bundle, encoders, setup)
        self.max_batch_cost = setup.max_batch_objects
        self.outputs = (
            TensorSpec(name=FEATURES, datatype="FP32", shape=(ANY, self.objects.feature_width)),
            TensorSpec(name=OBJECT, datatype="FP32", shape=(ANY, self.width)),
        )

    def prepare(self, inputs: Tensors, outputs: frozenset[str]) -> Job:
        """Check, resample and normalise the objects."""
        num_points = self.objects.constants.num_points
        found = decode_objects(inputs[POINTS], inputs.get(COLORS), num_points, self.setup.objects)
        return Job(items=[ObjectItem(points, outputs, 1) for points in found], plan=outputs)

    def _parameters(self) -> dict[str, str]:
        limits = self.setup.objects
        names = ("max_objects", "max_points", "min_object_points")
        own = {name: str(getattr(limits, name)) for name in names}
        return {"num_points": str(self.objects.constants.num_points), **own}


MODELS: Mapping[str, type[PointsModel]] = {
    model.name: model for model in (PointCloudModel, MeshModel, ObjectPointsModel)
}


class PointsFactory(Factory):
    """Loads bundles; the models of one bundle share its encoders."""

    names = tuple(MODELS)

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._shared: WeakValueDictionary[tuple[str, str], nn.Module] = WeakValueDictionary()
        self._lock = threading.Lock()

    def load(self, name: str, directory: Path) -> Model:
        """A model of a bundle."""
        if name not in MODELS:
            raise InvalidInput.at("name", f"{name}, this service has {', '.join(MODELS)}")
        bundle = open_bundle(directory)
        needed = MODELS[name].sections
        if missing := [section for section in needed if section not in bundle.manifest.sections]:
            raise NotFound(f"bundle {directory.name}: it has no section {' and no section '.join(missing)}")
        encoders = {section: self._encoder(bundle, section) for section in needed}
        return MODELS[name](bundle, encoders, self._setup)

    def _encoder(self, bundle: Bundle, section: str) -> nn.Module:
        readers: dict[str, Callable[[Bundle], nn.Module]] = {
            scenes.SECTION: SceneEncoder.from_bundle,
            objects.SECTION: ObjectEncoder.from_bundle,
        }
        with self._lock:
            key = (bundle.model_id, section)
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = readers[section](bundle).to(self._setup.device)
            return shared


def _scene_parameters(encoder: SceneEncoder, setup: Setup) -> dict[str, str]:
    """What the metadata shows of everything that goes through the network of clouds."""
    limits = setup.clouds
    names = ("max_clouds", "max_points", "max_voxels", "max_extent_voxels")
    return {
        "engine": setup.engine.description,
        "voxel_m": str(encoder.constants.voxel_m),
        "colors": "needed" if encoder.needs_colors else "optional",
        **{name: str(getattr(limits, name)) for name in names},
    }


def _outputs(
    items: Sequence[Any], features_NF: Tensor, heads: Mapping[str, nn.Module]
) -> dict[Item, dict[str, NDArray[np.float32]]]:
    """The wanted outputs of each item, one row each."""
    results: dict[Item, dict[str, NDArray[np.float32]]] = {item: {} for item in items}
    for name, head in heads.items():
        rows = [row for row, item in enumerate(items) if name in item.outputs]
        if rows:
            for row, values in zip(rows, head(features_NF[rows]).cpu().numpy(), strict=True):
                results[items[row]][name] = values
    return results
