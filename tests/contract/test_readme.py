"""What the pages say can be done: their commands exist, their code runs, their links lead somewhere."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from deploy import backbones
from deploy.demo import calls
from deploy.stack import Stack, free_port
from tests.contract import pages
from tests.contract.tree import BIN, ROOT, copied, own_files, packages, project, run
from xscene.services import SERVICES

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
MAX_README_LINES = 200
CLIENT = ("-c", "from xscene.cli import main; main()")
# Programs that are not the project's, and what its pages may ask of them.
FOREIGN = {"cd", "git", "pip"}
# Commands of `python -m deploy` that leave nothing behind but files.
HARMLESS = {"bundle", "token"}


def own_command(words: list[str]) -> list[str] | None:
    """How to start a command of the project from here; None where it is no such command."""
    name = Path(words[0]).name
    if name in ("python", "python3"):
        return [sys.executable, *words[1:]]
    if name == "xscene":
        return [sys.executable, *CLIENT, *words[1:]]
    if (BIN / name).exists():
        return [str(BIN / name), *words[1:]]
    return None


def is_script(name: str) -> bool:
    return name in own_files() and os.access(ROOT / name, os.X_OK)


@cache
def answered(*command: str) -> tuple[int, str, str]:
    result = run(*command, "--help")
    return result.returncode, result.stdout, result.stderr


def command_fault(words: list[str]) -> str:
    """Why a command of a page cannot be run as it stands there; empty where it can."""
    shown = " ".join(words)
    if words[0] in FOREIGN or words[0] == "make" or is_script(words[0]):
        return ""
    command = own_command(words)
    if command is None:
        return f"{shown}: unknown program"
    code, out, err = answered(*command)
    if code:
        return f"{shown}: exit code {code}: {err.strip()[-200:]}"
    flags = {word.partition("=")[0] for word in command if word.startswith("--")}
    unknown = sorted(flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", out))
    return f"{shown}: no such flag: {', '.join(unknown)}" if unknown else ""


def missing_targets(text: str) -> set[str]:
    """Targets of make that a page names and the Makefile has not."""
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return pages.make_targets(text) - set(phony.split())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Every service that exists, on free ports, with the demo's bundle."""
    folder = tmp_path_factory.mktemp("stack")
    for name in backbones.SOURCES:
        backbones.ensure(name, ROOT / backbones.CACHE_DIR)
    ports = {name: free_port() for name in SERVICES}
    with calls.whole_stack(folder, ROOT / backbones.CACHE_DIR, ports, "--metrics-port", "0") as running:
        yield running


def redirected(code: str, stack: Stack) -> str:
    """The code with the default ports replaced by those of the stack."""
    for member in stack.members:
        code = code.replace(f":{SERVICES[member.name].port}", f":{member.port}")
    return code


def python_blocks() -> list[tuple[str, str | None]]:
    """Python blocks of the README, each with the output that is shown right after it."""
    found = pages.blocks(README)
    shown = []
    for number, block in enumerate(found):
        if block.language != "python":
            continue
        after = found[number + 1] if number + 1 < len(found) else None
        is_output = after and after.language == "console" and not after.follows and "$ " not in after.text
        shown.append((block.text, after.text if after and is_output else None))
    return shown


def cells(line: str) -> str:
    return " ".join(line.replace("│", " ").replace("┃", " ").split())


def test_the_readme_is_short() -> None:
    assert 0 < len(README.splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", pages.page_names())
def test_targets_of_make_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    assert missing_targets(text) == set()


def test_make_knows_how_to_build_the_targets_that_the_readme_names() -> None:
    targets = sorted(pages.make_targets(README))
    assert {"up", "test"} <= set(targets)
    result = run("make", "-n", *targets)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", pages.page_names())
def test_commands_of_a_page_exist_with_all_their_flags(page: str) -> None:
    words = pages.commands((ROOT / page).read_text())
    assert [fault for command in words if (fault := command_fault(command))] == []


@pytest.mark.parametrize("page", pages.page_names())
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    assert pages.broken_links(page, (ROOT / page).read_text()) == []


def test_python_blocks_of_the_readme_run_and_print_what_is_shown(stack: Stack) -> None:
    shown = python_blocks()
    assert len(shown) >= 2
    assert any(output for _, output in shown)
    for code, output in shown:
        result = run(sys.executable, "-W", "error", "-c", redirected(code, stack))
        assert result.returncode == 0, result.stderr
        assert output is None or result.stdout == output


def test_the_first_result_in_the_readme_is_what_the_demo_shows(stack: Stack) -> None:
    out = io.StringIO()
    calls.show(stack, Console(file=out, width=120))
    printed = {cells(line) for line in out.getvalue().splitlines()}
    (block,) = (block for block in pages.blocks(README) if block.text.startswith("$ make up\n"))
    tables = [line for line in block.text.splitlines() if line.startswith("│")]
    results = [cells(line) for line in tables if "127.0.0.1" not in line]
    assert len(results) >= 2
    assert [line for line in results if line not in printed] == []


def test_commands_of_the_readme_that_make_files_work_and_can_be_repeated(tmp_path: Path) -> None:
    tree = copied(tmp_path, *packages())
    made = [
        words for words in pages.commands(README) if words[1:3] == ["-m", "deploy"] and words[3] in HARMLESS
    ]
    assert made
    for words in (*made, *made):
        result = run(*(own_command(words) or ()), cwd=tree)
        assert result.returncode == 0, result.stderr


def test_the_readmes_table_of_services_is_true() -> None:
    extras = project()["project"]["optional-dependencies"]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in README.splitlines()]
    table = {row[0]: row for row in rows if len(row) == 6 and row[0] in SERVICES}
    assert sorted(table) == sorted(SERVICES)
    for name, (_, port, rpcs, folder, extra, state) in table.items():
        info = SERVICES[name]
        assert (int(port), folder.replace("/", ".")) == (info.port, info.package)
        assert extra in extras
        assert state.endswith("planned") == (not (ROOT / folder / "__main__.py").is_file())
        assert "xscene" not in info.grpc_service or info.grpc_service in rpcs


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("python -m deploy nope", "exit code 2"),
        ("python -m deploy bundle init --nope 3", "exit code 2"),
        ("$ .venv/bin/python -m fusion --port 1 --nope 3", "no such flag: --nope"),
        ("xscene doctor --nope", "exit code 2"),
        ("python -m nowhere", "exit code 1"),
        ("planted-program up", "unknown program"),
        (".ci/planted", "unknown program"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, fault: str) -> None:
    page = f"```{'console' if line.startswith('$') else 'sh'}\n{line}\n```\n"
    (words,) = pages.commands(page)
    assert fault in command_fault(words)


def test_a_target_that_does_not_exist_is_noticed() -> None:
    page = (
        "Run `make planted` or `make up`.\n\n```sh\nmake fruit GPU=1\n```\n\n```console\n$ make docs\n```\n"
    )
    assert missing_targets(page) == {"planted", "fruit"}


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    text = (
        "# A page\n[file](docs/settings.md), [none](docs/planted.md), [there](#a-page), [nowhere](#planted), "
        "[table](docs/settings.md#tls), [gone](docs/settings.md#planted), [far](https://example.com)\n"
    )
    assert pages.broken_links("README.md", text) == [
        "README.md: docs/planted.md",
        "README.md: #planted",
        "README.md: docs/settings.md#planted",
    ]


def test_words_of_a_command_are_those_that_the_shell_sees() -> None:
    page = "```sh\nA=1 python -m x --a \\\n  'b c'  # why\ncd y && make z\n```\n"
    page += "\n```console\n$ make up\noutput\n```\n"
    assert pages.commands(page) == [
        ["python", "-m", "x", "--a", "b c"],
        ["cd", "y"],
        ["make", "z"],
        ["make", "up"],
    ]
