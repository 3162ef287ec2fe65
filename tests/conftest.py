"""Shared by all tests: the process is prepared first, and every skip must be allowed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.skips import Skips
from xscene.serving import process

process.prepare()


def pytest_configure(config: pytest.Config) -> None:
    allowed = Path(__file__).with_name("allowed_skips.txt").read_text()
    config.pluginmanager.register(Skips(allowed, enforce=bool(os.environ.get("CI"))))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
