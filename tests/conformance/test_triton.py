"""The oracle: the whole suite against a real Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import triton
from tests.conformance.conftest import ADDRESS
from tests.contract.tree import ROOT


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(1200)
def test_the_suite_passes_on_a_real_triton(tmp_path: Path, free_port: int) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "tests/conformance",
    ]
    try:
        with triton.serving(tmp_path, free_port) as address:
            result = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | {ADDRESS: address},
                capture_output=True,
                text=True,
                check=False,
            )
    except triton.TritonMissingError as error:
        pytest.skip(str(error))
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout
