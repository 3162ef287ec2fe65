"""What the linter cannot say: sizes, names of modules, where the environment is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from tests.contract.tree import ROOT, own_files

GENERATED = "xscene/v1/"
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 40
MAX_TEST_FILE_LINES, MAX_TEST_FUNCTION_LINES = 450, 60
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
ENVIRONMENT = {"environ", "environb", "getenv", "putenv"}
# The entry point of a process hands the environment down; what must precede imports is set here.
READS_ENVIRONMENT = {"xscene/serving/process.py"}
Functions = ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: str, text: str) -> list[str]:
    """What is wrong with a Python file, each with its place."""
    module = ast.parse(text)
    rules = (sizes, names, environment, prints)
    return [f"{path}:{fault}" for rule in rules for fault in rule(path, text, module)]


def sizes(path: str, text: str, module: ast.Module) -> Iterator[str]:
    tests = path.startswith("tests/")
    max_file = MAX_TEST_FILE_LINES if tests else MAX_FILE_LINES
    max_function = MAX_TEST_FUNCTION_LINES if tests else MAX_FUNCTION_LINES
    num_lines = len(text.splitlines())
    if num_lines > max_file:
        yield f"{num_lines}: a file has at most {max_file} lines"
    for node in ast.walk(module):
        if not isinstance(node, Functions):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > max_function:
            yield f"{node.lineno}: {node.name} has {length} lines, a function has at most {max_function}"


def names(path: str, _: str, module: ast.Module) -> Iterator[str]:
    for part in PurePath(path).with_suffix("").parts:
        if EMPTY_NAMES & {part, *part.split("_")}:
            yield f"1: {part} names no thing of the domain"
    if not (ast.get_docstring(module) or "").strip():
        yield "1: the module has no docstring"


def environment(path: str, _: str, module: ast.Module) -> Iterator[str]:
    if path.startswith("tests/") or path.endswith("/__main__.py") or path in READS_ENVIRONMENT:
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and named(node.value) == "os":
            yield f"{node.lineno}: os.{node.attr} is for entry points"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name in ENVIRONMENT:
                    yield f"{node.lineno}: os.{alias.name} is for entry points"


def prints(_: str, __: str, module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and named(node.func) == "print":
            yield f"{node.lineno}: print"


def named(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_every_file_of_ours_keeps_to_the_style() -> None:
    files = [path for path in own_files(".py") if not path.startswith(GENERATED)]
    assert {"xscene/errors.py", "fusion/app.py", "tests/contract/test_style.py"} <= set(files)
    assert [fault for path in files for fault in faults(path, (ROOT / path).read_text())] == []


def long_function(num_lines: int) -> str:
    return '"""A module."""\ndef plant():\n' + "    x = 1\n" * (num_lines - 1)


def long_file(num_lines: int) -> str:
    return '"""A module."""\n' + "x = 1\n" * (num_lines - 1)


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("xscene/a.py", long_file(401), "401: a file has at most 400 lines"),
        ("tests/unit/test_a.py", long_file(451), "451: a file has at most 450 lines"),
        ("fusion/a.py", long_function(41), "2: plant has 41 lines, a function has at most 40"),
        ("tests/unit/test_a.py", long_function(61), "2: plant has 61 lines, a function has at most 60"),
        ("xscene/a.py", "import os\n", "1: the module has no docstring"),
        ("xscene/a.py", '"""   """\n', "1: the module has no docstring"),
        ("deploy/utils.py", '"""A module."""\n', "1: utils names no thing of the domain"),
        ("xscene/base/a.py", '"""A module."""\n', "1: base names no thing of the domain"),
        (
            "tests/unit/tensor_helpers.py",
            '"""A module."""\n',
            "1: tensor_helpers names no thing of the domain",
        ),
        ("fusion/a.py", '"""A module."""\nx = os.environ["X"]\n', "2: os.environ is for entry points"),
        ("fusion/a.py", '"""A module."""\nx = os.getenv("X")\n', "2: os.getenv is for entry points"),
        ("fusion/a.py", '"""A module."""\nfrom os import environ\n', "2: os.environ is for entry points"),
        ("fusion/a.py", '"""A module."""\nprint("x")\n', "2: print"),
    ],
)
def test_a_planted_fault_is_named_with_its_place(path: str, text: str, fault: str) -> None:
    assert faults(path, text) == [f"{path}:{fault}"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("xscene/a.py", long_file(400)),
        ("fusion/a.py", long_function(40)),
        ("tests/unit/test_a.py", long_function(60)),
        ("fusion/__main__.py", '"""A module."""\nx = os.environ\n'),
        ("xscene/serving/process.py", '"""A module."""\nos.environ.setdefault("X", "1")\n'),
        ("deploy/a.py", '"""A module."""\nx = "print(1)"\nconsole.print(x)\n'),
    ],
)
def test_what_is_allowed_is_no_fault(path: str, text: str) -> None:
    assert faults(path, text) == []
