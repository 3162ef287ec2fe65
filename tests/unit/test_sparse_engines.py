"""Engines are chosen by name, never exchanged in silence, and the native one builds whole or not at all."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from encoders_3d.sparse import native_library
from encoders_3d.sparse.__main__ import app
from encoders_3d.sparse.engines import select_engine
from encoders_3d.sparse.native_engine import NativeEngine
from xscene.errors import ExtraMissing, InvalidInput, NotFound, PreconditionFailed, Unsupported

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def built() -> NativeEngine:
    if native_library.compiler() is None:
        pytest.skip("needs a C++ compiler")
    native_library.build()
    return NativeEngine()


def test_auto_takes_the_native_engine_where_it_is_built(
    built: NativeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        engine = select_engine()
    assert engine.description == f"native ({built.instruction_set})"
    assert caplog.records[-1].__dict__["engine"] == engine.description


def test_auto_says_why_it_is_torch_where_native_is_not_built(tmp_path: Path) -> None:
    engine = select_engine(cache_dir=tmp_path)
    assert engine.description == "torch (native: not built, python -m encoders_3d.sparse build makes it)"


@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "cuda")]
)
def test_auto_is_torch_where_native_offers_nothing(dtype: torch.dtype, device: str) -> None:
    assert select_engine(dtype=dtype, device=device).description == "torch"


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, "cpu"), (torch.float32, "cuda")])
def test_native_is_never_exchanged_for_another(built: NativeEngine, dtype: torch.dtype, device: str) -> None:
    assert built.name == "native"
    wanted = f"{str(dtype).removeprefix('torch.')} on {device}"
    with pytest.raises(Unsupported, match=f"engine native offers float32 on cpu, not {wanted}"):
        select_engine("native", dtype=dtype, device=device)


def test_native_asked_for_and_not_built_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="engine native: not built"):
        select_engine("native", cache_dir=tmp_path)


def test_minkowskiengine_asked_for_and_absent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    with pytest.raises(ExtraMissing, match=r"^engine minkowski needs .* pip install 'xscene\[minkowski\]'$"):
        select_engine("minkowski")


def test_an_unknown_engine_is_refused_with_those_known() -> None:
    with pytest.raises(InvalidInput, match="engine: 'cuda' is none of auto, torch, native, minkowski"):
        select_engine("cuda")


def test_an_unknown_instruction_set_is_refused_with_those_known(built: NativeEngine) -> None:
    assert built.name == "native"
    with pytest.raises(InvalidInput, match="instruction_set: 'sse9' is none of auto, baseline, avx2, avx512"):
        NativeEngine(instruction_set="sse9")


def test_an_instruction_set_that_the_processor_lacks_is_refused(
    built: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        def __init__(self, *_: object) -> None:
            self.xscene_instruction_set = lambda: 0

    assert built.name == "native"
    monkeypatch.setattr(native_library, "load", Old)
    with pytest.raises(Unsupported, match="this processor has baseline, not avx2"):
        NativeEngine(instruction_set="avx2")


def test_a_library_of_other_source_is_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "native.cpp"
    changed.write_text(native_library.SOURCE.read_text() + "// changed\n")
    before = native_library.library_path(tmp_path)
    monkeypatch.setattr(native_library, "SOURCE", changed)
    assert native_library.library_path(tmp_path) != before


def test_a_source_that_does_not_compile_leaves_nothing(
    built: NativeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built.name == "native"
    broken = tmp_path / "native.cpp"
    broken.write_text("int main( {\n")
    monkeypatch.setattr(native_library, "SOURCE", broken)
    with pytest.raises(PreconditionFailed, match=r"could not build the native engine: .*error"):
        native_library.build(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_torn_library_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    native_library.library_path(tmp_path).write_bytes(b"\x7fELF torn")
    with pytest.raises(PreconditionFailed, match="the native engine cannot be loaded"):
        native_library.load(tmp_path)
    assert select_engine(cache_dir=tmp_path).description.startswith("torch (native: the native engine cannot")


def test_without_a_compiler_build_says_that_torch_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = CliRunner().invoke(app, ["build", "--cache-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert result.output.strip() == "no C++ compiler: the native engine is not built, engine auto is torch"
    with pytest.raises(NotFound, match="no C\\+\\+ compiler: no-such-compiler is not installed"):
        native_library.build(tmp_path)


def test_the_command_shows_every_engine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "encoders_3d.sparse", "show", "--cache-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["auto", "torch", "native", "minkowski"]
    assert lines[0] == "auto: torch (native: not built, python -m encoders_3d.sparse build makes it)"
    assert lines[2] == "native: engine native: not built, python -m encoders_3d.sparse build makes it"
