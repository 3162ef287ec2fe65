"""Every skipped test is listed at the end; in CI a skip that is not allowed fails the run."""

from __future__ import annotations

import pytest


class Skips:
    """Collects skips and compares them with the lines `test id: reason` that are allowed."""

    def __init__(self, allowed: str, *, enforce: bool) -> None:
        lines = (line.strip() for line in allowed.splitlines())
        self._allowed = {line for line in lines if line and not line.startswith("#")}
        self._enforce = enforce
        self._found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self._found.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self._found.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")

    def refused(self) -> list[str]:
        return [line for line in self._found if line not in self._allowed]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._enforce and self.refused():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._found:
            return
        terminalreporter.section("skipped tests")
        for line in self._found:
            mark = "allowed" if line in self._allowed else "NOT ALLOWED"
            terminalreporter.write_line(f"{mark}: {line}")
