"""The tables of docs/ are what the code says, and a service refuses a setting that is not in them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path

import pytest
from prometheus_client import Counter

from deploy import reference
from tests.contract.tree import ROOT, copied, run
from xscene import errors
from xscene.services import SERVICES
from xscene.serving import process, telemetry
from xscene.serving.settings import setting
from xscene.serving.telemetry import MetricRow

USAGE = 2


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the pages, in a process that was prepared when the tests began."""
    monkeypatch.setattr(process, "prepare", lambda: None)
    folder = copied(tmp_path, "docs") / "docs"
    for name, generate in reference.PAGES.items():
        page = folder / name
        page.write_text(reference.refreshed(page.read_text(), generate()))
    return folder


def without_row(page: Path, cell: str) -> None:
    lines = page.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"| `{cell}` |")]
    assert len(kept) == len(lines) - 1
    page.write_text("".join(kept))


def start(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "fusion", *flags, env=env)


def test_the_tables_of_the_docs_are_what_the_code_says() -> None:
    result = run(sys.executable, "-m", "deploy.reference", "--check")
    assert (result.returncode, result.stdout) == (0, "docs are up to date\n"), result.stderr


def test_pages_that_were_just_written_are_not_stale(docs: Path) -> None:
    assert reference.stale_pages(docs) == []


@pytest.mark.parametrize(
    ("page", "cell"),
    [("metrics.md", "xscene_ready"), ("settings.md", "--tls-client-ca"), ("errors.md", "ModelMismatch")],
)
def test_a_missing_row_makes_its_page_stale(docs: Path, page: str, cell: str) -> None:
    without_row(docs / page, cell)
    assert reference.stale_pages(docs) == [page]


def test_an_undocumented_metric_makes_its_page_stale(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = MetricRow("xscene_planted_total", Counter, ("kind",), "plants", "Plants.")
    monkeypatch.setattr(telemetry, "METRICS", (*telemetry.METRICS, row))
    assert reference.stale_pages(docs) == ["metrics.md"]


def test_an_undocumented_setting_makes_its_page_stale(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = reference.settings_classes()
    own = [("max_plants", int, setting(3, "Plants at a time.", low=1))]
    planted = make_dataclass("Planted", own, bases=(classes["fusion"],), frozen=True, kw_only=True)
    monkeypatch.setattr(reference, "settings_classes", lambda: classes | {"fusion": planted})
    assert reference.stale_pages(docs) == ["settings.md"]


def test_an_undocumented_error_makes_its_page_stale(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Planted(errors.NotFound):
        """A plant that is not there."""

    monkeypatch.setattr(errors, "Planted", Planted, raising=False)
    assert reference.stale_pages(docs) == ["errors.md"]


@pytest.mark.usefixtures("docs")
def test_every_service_of_the_tree_has_its_settings_documented() -> None:
    assert sorted(reference.settings_classes()) == sorted(
        name
        for name, info in SERVICES.items()
        if (ROOT / info.package.replace(".", "/") / "__main__.py").is_file()
    )


def test_an_unknown_variable_stops_the_service_with_one_sentence() -> None:
    result = start(XSCENE_FUSION_NOPE="1")
    assert (result.returncode, result.stdout) == (USAGE, "")
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("fusion: XSCENE_FUSION_NOPE is not a setting of fusion")


def test_an_unknown_flag_stops_the_service_and_is_named() -> None:
    result = start("--nope", "1")
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert result.stderr.splitlines()[-1] == "python -m fusion: error: unrecognized arguments: --nope 1"
    assert "Traceback" not in result.stderr


def test_the_variable_of_another_service_is_left_alone() -> None:
    result = start("--help", XSCENE_TEXT_PORT="1")
    assert result.returncode == 0, result.stderr
    assert "XSCENE_FUSION_MAX_ITEMS" in result.stdout
