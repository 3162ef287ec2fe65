"""How each call ends, and that the table of differences from Triton says the same."""

from __future__ import annotations

import pytest

from tests.conformance.cases import Case, Spoken
from tests.conformance.management import METADATA, REPOSITORY, SHARED_MEMORY
from tests.conformance.requests import INFER
from tests.contract.tree import ROOT

CASES = [*INFER, *METADATA, *REPOSITORY, *SHARED_MEMORY]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_call_ends_as_it_should(server: Spoken, case: Case) -> None:
    outcome, details = case.outcome(server)
    assert outcome == getattr(case, server.name), details
    if server.name == "ours":
        assert case.says in details


def rows() -> dict[str, tuple[str, str]]:
    """The table of the page: call, ours, Triton's."""
    lines = (ROOT / "docs/conformance.md").read_text().splitlines()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return {call: (ours, triton) for call, ours, triton, _ in cells[2:]}


def test_the_page_lists_every_difference_and_no_other() -> None:
    assert rows() == {case.name: (case.ours, case.triton) for case in CASES if case.ours != case.triton}
