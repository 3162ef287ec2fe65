"""The wheel holds the client's package and nothing else, and works where nothing else is installed."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from tests.contract.tree import ROOT, copied, own_files, packages, replace, run

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(1200)]

BUILD_TIMEOUT_S = 300.0
INSTALL_TIMEOUT_S = 600.0
LEGAL = ("LICENSE", "NOTICE")
SOURCES = ("pyproject.toml", "README.md", *LEGAL, *packages())


def built(tree: Path) -> Path:
    """The wheel of a copy of the tree."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    result = run(*command, cwd=tree, timeout_s=BUILD_TIMEOUT_S)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def strangers(wheel: Path) -> list[str]:
    """Files of a wheel that belong neither to the package nor to the wheel's own records."""
    folders = (name.partition("/")[0] for name in members(wheel))
    return sorted(name for name in set(folders) if name != "xscene" and not name.endswith(".dist-info"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(copied(tmp_path_factory.mktemp("wheel"), *SOURCES))


def test_the_wheel_holds_the_one_package_whole(wheel: Path) -> None:
    assert strangers(wheel) == []
    tracked = {name for name in own_files() if name.startswith("xscene/")}
    assert {name for name in members(wheel) if name.startswith("xscene/")} == tracked
    assert {"xscene/py.typed", "xscene/v1/scene_pb2.pyi"} <= tracked


def test_the_wheel_carries_licence_and_notice(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for legal in LEGAL:
            (name,) = (name for name in archive.namelist() if name.endswith(f"/licenses/{legal}"))
            assert archive.read(name) == (ROOT / legal).read_bytes()


def test_a_package_that_slips_into_the_wheel_is_noticed(tmp_path: Path) -> None:
    tree = copied(tmp_path, *SOURCES)
    replace(tree / "pyproject.toml", 'include = ["xscene*"]', 'include = ["xscene*", "fusion*"]')
    assert strangers(built(tree)) == ["fusion"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel alone."""
    place = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "env", cwd=place, timeout_s=INSTALL_TIMEOUT_S).returncode == 0
    programs = place / "env" / "bin"
    pip = (programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
    result = run(*pip, wheel, cwd=place, timeout_s=INSTALL_TIMEOUT_S)
    assert result.returncode == 0, result.stdout + result.stderr
    return programs


def test_the_client_works_in_a_fresh_environment_without_torch(installed: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "import xscene.client, xscene.cli\n"
        "assert 'site-packages' in xscene.client.__file__\n"
        "assert [n for n in ('torch', 'structlog', 'prometheus_client', 'pytest') if find_spec(n)] == []\n"
    )
    result = run(installed / "python", "-W", "error", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert run(installed / "python", "-m", "pip", "check", cwd=tmp_path).returncode == 0


def test_the_command_line_answers_in_a_fresh_environment(installed: Path, tmp_path: Path) -> None:
    result = run(installed / "xscene", "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "doctor" in result.stdout
