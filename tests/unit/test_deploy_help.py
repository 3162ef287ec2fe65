"""Every command of the operator explains itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from deploy.__main__ import app


def leaves(command: object, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    commands = getattr(command, "commands", None)
    if commands is None:
        yield words
    else:
        for name, each in commands.items():
            yield from leaves(each, *words, name)


COMMANDS = list(leaves(get_command(app)))


def test_commands_of_all_kinds_are_found() -> None:
    assert {("up",), ("serve",), ("rooms", "make"), ("bench", "serving")} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_tells_what_it_does_with_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    # The command for data sets goes without its name.
    said = " ".join(["xscene" if words == ("doctor",) else "python -m deploy", *words])
    assert f"Example: {said.removesuffix(' dataset')}" in " ".join(result.output.split())
