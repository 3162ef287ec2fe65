"""The import contracts hold, know every package, and each of them can be broken."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.tree import BIN, ROOT, copied, packages, plant, project, run

LAYERS = "deploy > trainer > services > xscene"
XSCENE, SERVING, NN = "Inside xscene", "Inside xscene.serving", "Inside xscene.nn"
TEXT, IMAGE, FUSION, DEPLOY = "Inside encoders_1d", "Inside encoders_2d", "Inside fusion", "Inside deploy"
POINTS, SPARSE = "Inside encoders_3d", "Inside encoders_3d.sparse"
TRAINER, DATA, ROOMS = "Inside trainer", "Inside trainer.data", "Inside trainer.data.rooms"
READERS, PLY = "Inside trainer.data.readers", "Inside xscene.ply"
PREPARED, PREPARATION = "Inside xscene.prepared", "Inside trainer.data.preparation"
SAMPLES, NO_TORCH_EITHER = "Inside trainer.data.datasets", "Preparation is free of torch"
PROBES = "Inside trainer.data.probes"
NO_TORCH = "Client and runtime are free of torch"
NO_SERVER = "The client needs no server"
NO_GRPC = "Models and the domain are free of gRPC and of messages"
NO_MESSAGES = "Messages stay at the border"
ONE_MODULE = "One importing module each"

# File, line that is added to it, contracts that then break.
VIOLATIONS = (
    ("xscene/types/values.py", "import fusion", {LAYERS}),
    ("fusion/models.py", "import deploy", {LAYERS}),
    ("xscene/codec/arrays.py", "import xscene.serving.worker", {XSCENE, NO_SERVER}),
    ("xscene/geometry/boxes.py", "import xscene.types", {XSCENE}),
    ("xscene/extra.py", '"""A new module."""', {XSCENE}),
    ("xscene/serving/settings.py", "import xscene.serving.server", {SERVING}),
    ("xscene/serving/extra.py", '"""A new module."""', {SERVING}),
    ("xscene/nn/manifest.py", "import xscene.nn.bundle", {NN}),
    ("xscene/nn/extra.py", '"""A new module."""', {NN}),
    ("xscene/ply/header.py", "import xscene.ply.rows", {PLY}),
    ("xscene/ply/extra.py", '"""A new module."""', {PLY}),
    ("fusion/model.py", "import grpc", {NO_GRPC}),
    ("fusion/model.py", "import fusion.models", {FUSION}),
    ("fusion/extra.py", '"""A new module."""', {FUSION}),
    ("encoders_1d/prepare.py", "import encoders_1d.model", {TEXT, NO_GRPC}),
    ("encoders_1d/extra.py", '"""A new module."""', {TEXT}),
    ("encoders_2d/prepare.py", "import encoders_2d.model", {IMAGE, NO_GRPC}),
    ("xscene/pictures.py", "import xscene.types", {XSCENE}),
    ("encoders_2d/extra.py", '"""A new module."""', {IMAGE}),
    ("encoders_2d/heads.py", "import encoders_1d.model", {LAYERS, NO_GRPC}),
    ("fusion/app.py", "import qdrant_client", {ONE_MODULE}),
    ("encoders_1d/model.py", "import tritonclient", {ONE_MODULE}),
    ("encoders_3d/prepare.py", "import encoders_3d.model", {POINTS, NO_GRPC}),
    ("encoders_3d/extra.py", '"""A new module."""', {POINTS}),
    ("encoders_3d/glb_header.py", "import trimesh", {ONE_MODULE}),
    ("encoders_3d/app.py", "import xscene.v1.scene_pb2", {NO_MESSAGES}),
    ("encoders_3d/sparse/tensor.py", "import encoders_3d.sparse.layers", {SPARSE}),
    ("encoders_3d/sparse/extra.py", '"""A new module."""', {SPARSE}),
    ("encoders_3d/sparse/layers.py", "import MinkowskiEngine", {ONE_MODULE}),
    ("encoders_3d/sparse/unet.py", "import fusion", {LAYERS}),
    ("fusion/models.py", "import trainer.data", {LAYERS}),
    ("trainer/data/rooms/ply.py", "import deploy", {LAYERS}),
    ("trainer/extra.py", '"""A new module."""', {TRAINER}),
    ("trainer/data/extra.py", '"""A new module."""', {DATA}),
    ("trainer/data/scans.py", "import trainer.data.readers.ply", {DATA}),
    ("trainer/data/readers/scannet.py", "import trainer.data.rooms", {DATA}),
    ("trainer/data/readers/extra.py", '"""A new module."""', {READERS}),
    ("trainer/data/readers/ply.py", "import trainer.data.readers.scannet", {READERS}),
    ("trainer/data/readers/rscan.py", "import trainer.data.readers.multiscan", {READERS}),
    ("trainer/data/rooms/extra.py", '"""A new module."""', {ROOMS}),
    ("trainer/data/rooms/shapes.py", "import trainer.data.rooms.models", {ROOMS}),
    ("trainer/data/rooms/shapes.py", "import trimesh", {ONE_MODULE}),
    ("trainer/data/rooms/pictures.py", "import moderngl", {ONE_MODULE}),
    ("trainer/data/rooms/ply.py", "import xscene.v1.scene_pb2", {NO_MESSAGES}),
    ("deploy/tokens.py", "import deploy.demo.calls", {DEPLOY}),
    ("deploy/extra.py", '"""A new module."""', {DEPLOY}),
    ("deploy/stack.py", "import xscene.v1.fusion_pb2", {NO_MESSAGES}),
    ("xscene/client/connection.py", "import torch", {NO_TORCH}),
    ("xscene/client/connection.py", "import structlog", {NO_SERVER}),
    ("xscene/prepared/records.py", "import xscene.prepared.scene", {PREPARED}),
    ("xscene/prepared/extra.py", '"""A new module."""', {PREPARED}),
    ("xscene/types/values.py", "import xscene.prepared.records", {XSCENE}),
    ("xscene/files.py", "import torch", {NO_TORCH_EITHER}),
    ("trainer/data/preparation/models.py", "import torch", {NO_TORCH_EITHER}),
    ("trainer/data/preparation/models.py", "import trainer.data.preparation.scenes", {PREPARATION}),
    ("trainer/data/preparation/extra.py", '"""A new module."""', {PREPARATION}),
    ("trainer/data/datasets/collation.py", "import trainer.data.datasets.dataset", {SAMPLES}),
    ("trainer/data/datasets/extra.py", '"""A new module."""', {SAMPLES}),
    ("trainer/data/datasets/dataset.py", "import trainer.data.preparation.production", {DATA}),
    ("trainer/data/probes/cues.py", "import trainer.data.probes.study", {PROBES}),
    ("trainer/data/probes/extra.py", '"""A new module."""', {PROBES}),
)


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "lint-imports", "--no-cache", "--no-logo", cwd=tree)


def broken(output: str) -> set[str]:
    # A contract with exceptions says so: NAME BROKEN (2 ignored imports).
    return set(re.findall(r"^(.+) BROKEN(?: \(.+\))?$", output, re.MULTILINE))


def test_every_import_contract_is_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(("file", "line", "expected"), VIOLATIONS)
def test_a_planted_import_breaks_its_contract(
    tmp_path: Path, file: str, line: str, expected: set[str]
) -> None:
    tree = copied(tmp_path, "pyproject.toml", *packages())
    plant(tree / file, line)
    result = lint(tree)
    assert result.returncode == 1
    assert broken(result.stdout) == expected
    culprit = Path(file).stem if file.endswith("extra.py") else file.removesuffix(".py").replace("/", ".")
    assert culprit in result.stdout.partition("Broken contracts")[2]


def test_every_contract_was_seen_broken() -> None:
    contracts = {contract["name"] for contract in project()["tool"]["importlinter"]["contracts"]}
    assert contracts == set[str]().union(*(expected for _, _, expected in VIOLATIONS))


def unlisted(tree: Path) -> set[str]:
    """Packages of a tree that one of the tools does not look at."""
    tools = project()["tool"]
    return packages(tree) - (set(tools["importlinter"]["root_packages"]) & set(tools["mypy"]["packages"]))


def test_every_package_of_the_tree_is_under_contract_and_type_checked() -> None:
    assert {"xscene", "fusion", "deploy"} <= packages()
    assert unlisted(ROOT) == set()


def test_a_new_package_that_is_not_listed_is_noticed(tmp_path: Path) -> None:
    tree = copied(tmp_path, *packages())
    (tree / "planted").mkdir()
    plant(tree / "planted/model.py", '"""A new module."""')
    assert unlisted(tree) == {"planted"}
