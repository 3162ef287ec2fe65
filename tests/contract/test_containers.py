"""Each entry point imports where only the packages of its own extra are installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contract import closure_probe, torch_probe
from tests.contract.tree import ROOT, copied, packages, plant, project, replace, run
from xscene.services import SERVICES
from xscene.serving import process

SERVED = sorted(
    name
    for name, info in SERVICES.items()
    if (ROOT / info.package.replace(".", "/") / "__main__.py").is_file()
)
CLIENT = ("xscene.cli", "xscene.client", "xscene.geometry")


def declared(extra: str) -> list[str]:
    """What pyproject.toml asks for: the bare install, and an extra beside it."""
    table = project()["project"]
    return [*table["dependencies"], *(table["optional-dependencies"][extra] if extra else ())]


def wanted(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def distributions(extra: str) -> set[str]:
    """Every distribution that an install with this extra brings, dependencies of dependencies too."""
    waiting = [Requirement(text) for text in declared(extra)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        found = waiting.pop()
        key = (canonicalize_name(found.name), frozenset(found.extras))
        if key in seen:
            continue
        seen.add(key)
        if key[0] == "xscene":
            waiting += [Requirement(text) for name in found.extras for text in declared(name)]
            continue
        required = (Requirement(text) for text in metadata.requires(found.name) or ())
        waiting += [item for item in required if wanted(item, found.extras)]
    return {name for name, _ in seen} - {"xscene"}


def importable(extra: str) -> set[str]:
    """Top-level names of the packages that an install with this extra brings."""
    installed = distributions(extra)
    owners = metadata.packages_distributions()
    return {name for name, owned_by in owners.items() if installed & {canonicalize_name(o) for o in owned_by}}


def imported(tree: Path, extra: str, own: set[str], *modules: str) -> subprocess.CompletedProcess[str]:
    """Import modules of a tree where `own` and the packages of an extra are all there is."""
    names = ",".join(sorted(own | importable(extra)))
    code = Path(closure_probe.__file__).read_text()
    return run(sys.executable, "-c", code, names, *modules, cwd=tree)


def started(tree: Path, *command: str, **env: str) -> str:
    """OpenMP's policy at the first import of torch in `python -m command`."""
    code = Path(torch_probe.__file__).read_text()
    result = run(sys.executable, "-c", code, *command, cwd=tree, env=env)
    assert result.returncode == torch_probe.REACHED, result.stderr
    return result.stdout


@pytest.mark.parametrize("service", SERVED)
def test_a_service_imports_with_its_own_extra_alone(service: str) -> None:
    package = SERVICES[service].package
    own = {"xscene", package.partition(".")[0]}
    result = imported(ROOT, service, own, f"{package}.__main__", f"{package}.app")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_imports_with_the_bare_install_alone(module: str) -> None:
    result = imported(ROOT, "", {"xscene"}, module)
    assert result.returncode == 0, result.stderr


def test_the_allowed_packages_are_those_of_the_extra() -> None:
    assert {"grpc", "google", "numpy", "typer", "rich", "pygments"} <= importable("")
    assert importable("") & {"torch", "structlog", "prometheus_client", "hypothesis", "pytest"} == set()
    assert importable("fusion") - importable("") >= {"torch", "sympy", "safetensors", "structlog"}
    assert importable("fusion") & {"hypothesis", "psutil", "opentelemetry", "pytest"} == set()
    assert importable("dev") > importable("fusion") | importable("otel")


@pytest.mark.parametrize(
    ("file", "line", "extra", "module", "culprit"),
    [
        ("fusion/app.py", "import hypothesis", "fusion", "fusion.app", "hypothesis"),
        ("fusion/__main__.py", "import psutil", "fusion", "fusion.__main__", "psutil"),
        ("fusion/app.py", "import deploy.stack", "fusion", "fusion.app", "deploy"),
        ("xscene/client/__init__.py", "import torch", "", "xscene.client", "torch"),
        ("xscene/cli.py", "import structlog", "", "xscene.cli", "structlog"),
        ("xscene/geometry/__init__.py", "import fusion", "", "xscene.geometry", "fusion"),
    ],
)
def test_a_package_beyond_the_extra_is_named(
    tmp_path: Path, file: str, line: str, extra: str, module: str, culprit: str
) -> None:
    assert find_spec(culprit) is not None
    tree = copied(tmp_path, *packages())
    plant(tree / file, line)
    result = imported(tree, extra, {"xscene", extra}, module)
    assert result.returncode == 1
    assert f"No module named '{culprit}'" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("service", SERVED)
def test_a_service_has_openmp_wait_passively_before_torch_is_imported(service: str) -> None:
    assert started(ROOT, SERVICES[service].package, "--help") == "PASSIVE"


def test_the_operators_commands_have_openmp_wait_passively_too(tmp_path: Path) -> None:
    assert started(ROOT, "deploy", "bundle", "init", "--out", str(tmp_path / "small")) == "PASSIVE"
    assert started(ROOT, "deploy.reference", "--check") == "PASSIVE"


def test_the_policy_that_an_operator_chose_is_kept() -> None:
    assert started(ROOT, "fusion", "--help", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_an_entry_point_that_forgets_to_prepare_is_noticed(tmp_path: Path) -> None:
    tree = copied(tmp_path, "xscene", "fusion")
    replace(tree / "fusion/__main__.py", "    process.prepare()\n", "")
    assert started(tree, "fusion", "--help") == "unset"


def test_preparing_after_torch_was_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(RuntimeError, match="torch was imported before"):
        process.prepare()
