"""The source tree, copies of it that a test may break, and processes that run in one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TIMEOUT_S = 60.0
# Set by the test run itself, or by whoever runs it: a process under test must not depend on them.
UNSET = ("CI", "OMP_WAIT_POLICY", "PYTEST_ADDOPTS", "FORCE_COLOR")


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def own_files(suffix: str = "") -> list[str]:
    """Files of the project, by their path from the root: all that git does not ignore."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").stdout
    return sorted(
        name for name in set(listed.split("\0")) if name.endswith(suffix) and (ROOT / name).is_file()
    )


def packages(tree: Path = ROOT) -> set[str]:
    """Top-level packages of a tree that hold the product's code."""
    folders = {path.parent.name for path in tree.glob("[!.]*/*.py")}
    return folders - {"tests", "protos", "docs"}


def copied(target: Path, *names: str) -> Path:
    """A copy of some files and folders of the tree."""
    for name in names:
        source, place = ROOT / name, target / name
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
    return target


def plant(path: Path, line: str) -> None:
    """Add a line to the end of a file, which is made where there is none."""
    with path.open("a") as file:
        file.write(f"{line}\n")


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that a file holds."""
    text = path.read_text()
    assert old in text, f"{path.name} does not hold {old!r}"
    path.write_text(text.replace(old, new))


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with a clean environment, in the tree or in a copy."""
    kept = {name: value for name, value in os.environ.items() if not unwanted(name)}
    plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | plain | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def unwanted(variable: str) -> bool:
    """Whether a variable of this process is kept from the processes under test."""
    return variable in UNSET or variable.startswith("XSCENE_")
