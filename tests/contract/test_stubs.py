"""The stubs are what the protos give, and every proto says who may call and what a field means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tests.contract.tree import BIN, ROOT, copied, plant, replace, run
from xscene.v1 import annotations_pb2

FRESH = "stubs are up to date\n"


def check_stubs(tree: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "protos/generate.py", "--check", cwd=tree)


def without_role(protos: Path, scratch: Path) -> list[str]:
    """RPCs of the protos that do not say which role they need."""
    out = scratch / "protos.binpb"
    sources = sorted(str(path) for path in protos.rglob("*.proto"))
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}", f"--descriptor_set_out={out}", *sources]
    assert protoc.main(arguments) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    role: Any = annotations_pb2.required_role
    return [
        f"{service.name}.{method.name}"
        for file in files
        for service in file.service
        for method in service.method
        if not method.options.Extensions[role]
    ]


def test_the_stubs_are_what_the_protos_give() -> None:
    result = check_stubs(ROOT)
    assert (result.returncode, result.stdout) == (0, FRESH), result.stderr


def test_a_changed_proto_and_a_changed_a_missing_and_a_foreign_stub_are_stale(tmp_path: Path) -> None:
    tree = copied(tmp_path, "protos", "xscene/v1")
    stubs = tree / "xscene/v1"
    plant(tree / "protos/xscene/v1/common.proto", "message Planted {}")
    plant(stubs / "fusion_pb2.pyi", "Planted = 1")
    (stubs / "scene_pb2_grpc.py").unlink()
    plant(stubs / "left_over_pb2.py", "")
    result = check_stubs(tree)
    assert result.returncode == 1
    assert result.stdout == (
        "stale: common_pb2.py, common_pb2.pyi, fusion_pb2.pyi, left_over_pb2.py, scene_pb2_grpc.py\n"
    )


def test_generating_makes_stale_stubs_fresh(tmp_path: Path) -> None:
    tree = copied(tmp_path, "protos", "xscene/v1")
    plant(tree / "protos/xscene/v1/common.proto", "message Planted {}")
    assert run(sys.executable, "protos/generate.py", cwd=tree).returncode == 0
    assert check_stubs(tree).stdout == FRESH
    assert "class Planted" in (tree / "xscene/v1/common_pb2.pyi").read_text()


def test_every_rpc_names_the_role_that_it_needs(tmp_path: Path) -> None:
    assert without_role(ROOT / "protos", tmp_path) == []


def test_an_rpc_without_a_role_is_noticed(tmp_path: Path) -> None:
    protos = copied(tmp_path, "protos") / "protos"
    fusion, trainer = protos / "xscene/v1/fusion.proto", protos / "xscene/v1/trainer.proto"
    replace(fusion, "option (required_role) = ROLE_READER;", "")
    replace(trainer, "ROLE_ADMIN;", "ROLE_UNSPECIFIED;")
    missing = without_role(protos, tmp_path)
    assert {"FusionService.Fuse", "FusionService.EmbedObjects", "TrainerService.CreateRun"} <= set(missing)
    assert "TrainerService.GetRun" not in missing


def test_the_protos_pass_their_linter() -> None:
    result = run(BIN / "buf", "lint", "protos")
    assert result.returncode == 0, result.stdout + result.stderr


PLANTED_SERVICE = """
// A service.
service PlantedService {
  rpc Run(RunRequest) returns (RunResponse);
}
// Question.
message RunRequest {}
// Answer.
message RunResponse {}
"""


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("// A message.\nmessage Planted {\n  int32 count = 1;\n}", 'Field "count"'),
        ("message Planted {}", 'Message "Planted"'),
        ("// An enum.\nenum Planted {\n  PLANTED_UNSPECIFIED = 0;\n}", 'Enum value "PLANTED_UNSPECIFIED"'),
        (PLANTED_SERVICE, 'RPC "Run"'),
    ],
)
def test_what_has_no_comment_is_refused(tmp_path: Path, planted: str, complaint: str) -> None:
    tree = copied(tmp_path, "protos")
    plant(tree / "protos/xscene/v1/common.proto", planted)
    result = run(BIN / "buf", "lint", "protos", cwd=tree)
    assert result.returncode == 100
    lines = result.stdout.splitlines()
    assert [line for line in lines if complaint in line and "non-empty comment" in line], result.stdout
    assert len(lines) == 1
