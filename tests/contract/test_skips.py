"""A skip that nobody allowed fails a run of continuous integration, and every skip is listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.tree import copied, run

REASON = "needs a planted tool"
SKIPPED = f'''
import pytest

def test_works():
    pass

@pytest.mark.skip(reason="{REASON}")
def test_marked():
    pass
'''
INSIDE = f'''
import pytest

def test_inside():
    pytest.skip("{REASON}")
'''
FIXTURE = f'''
import pytest

@pytest.fixture
def tool():
    pytest.skip("{REASON}")

def test_with_tool(tool):
    pass
'''
MODULE = f'''
import pytest

pytest.skip("{REASON}", allow_module_level=True)
'''
LINE = f"tests/test_sample.py::test_marked: {REASON}"


def project_with(place: Path, sample: str, allowed: str = "") -> Path:
    """A project with this project's configuration of pytest and one module of tests."""
    tree = copied(
        place, "pyproject.toml", "tests/__init__.py", "tests/conftest.py", "tests/skips.py", "xscene"
    )
    (tree / "tests/allowed_skips.txt").write_text(f"# Allowed here.\n{allowed}\n")
    (tree / "tests/test_sample.py").write_text(sample)
    return tree


def outcome(tree: Path, *, ci: bool) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return run(*command, cwd=tree, env={"CI": "true"} if ci else {})


@pytest.mark.parametrize(
    ("sample", "where"),
    [
        (SKIPPED, "tests/test_sample.py::test_marked"),
        (INSIDE, "tests/test_sample.py::test_inside"),
        (FIXTURE, "tests/test_sample.py::test_with_tool"),
        (MODULE, "tests/test_sample.py"),
    ],
    ids=["mark", "call", "fixture", "module"],
)
def test_a_skip_that_is_not_allowed_fails_continuous_integration(
    tmp_path: Path, sample: str, where: str
) -> None:
    result = outcome(project_with(tmp_path, sample), ci=True)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout
    assert f"NOT ALLOWED: {where}: {REASON}" in result.stdout.splitlines()


def test_the_same_skip_elsewhere_is_only_listed(tmp_path: Path) -> None:
    result = outcome(project_with(tmp_path, SKIPPED), ci=False)
    assert result.returncode == pytest.ExitCode.OK, result.stdout
    assert f"NOT ALLOWED: {LINE}" in result.stdout.splitlines()


def test_an_allowed_skip_passes_continuous_integration_and_is_listed(tmp_path: Path) -> None:
    result = outcome(project_with(tmp_path, SKIPPED, LINE), ci=True)
    assert result.returncode == pytest.ExitCode.OK, result.stdout
    assert f"allowed: {LINE}" in result.stdout.splitlines()


def test_a_skip_is_allowed_for_one_reason_only(tmp_path: Path) -> None:
    result = outcome(project_with(tmp_path, SKIPPED, LINE.replace("planted", "different")), ci=True)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout


def test_a_run_without_skips_is_left_alone(tmp_path: Path) -> None:
    result = outcome(project_with(tmp_path, "def test_works():\n    pass\n", LINE), ci=True)
    assert result.returncode == pytest.ExitCode.OK, result.stdout
    assert "skipped tests" not in result.stdout
