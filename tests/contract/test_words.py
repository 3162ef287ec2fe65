"""Files of the project speak of the project alone: no paths of a machine, no addresses of a registry."""

from __future__ import annotations

import re

import pytest

from tests.contract.tree import ROOT, own_files

# Each pattern is spelt so that it does not match itself. The second part: files that may hold it.
FORBIDDEN: tuple[tuple[str, frozenset[str]], ...] = (
    (r"/wor[k]/", frozenset()),
    (r"/tmp/bas[h]", frozenset()),
    (r"(?:/home/|/User[s]/)[a-z]", frozenset()),
    (r"\.\./share[d]\b", frozenset()),
    (r"\bshare[d]/(?:design|prototypes)\b", frozenset()),
    (r"/\.librar[y]\b", frozenset()),
    (r"\b(?:extra-)?index-ur[l]\b", frozenset({"Makefile"})),
    (r"\bdownload\.pytorc[h]\.org\b", frozenset({"Makefile"})),
    (r"\bpyp[i]\.(?:org|python\.org)\b", frozenset()),
    (r"\bpythonhoste[d]\.org\b", frozenset()),
    (r"\bnpmj[s]\.(?:org|com)\b", frozenset()),
    (r"\b(?:artifactor[y]|nexu[s])\.[a-z]", frozenset()),
    (r"\bproxy\.golan[g]\.org\b", frozenset()),
)


def found(path: str, text: str) -> list[str]:
    """Forbidden words of a file, each with its line."""
    return [
        f"{path}:{number}: {match.group()}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, allowed in FORBIDDEN
        if path not in allowed
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]


def text_of(path: str) -> str:
    """What a file says; nothing where it is not text."""
    data = (ROOT / path).read_bytes()
    return "" if b"\0" in data else data.decode()


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    files = own_files()
    assert {"Makefile", "pyproject.toml", ".gitignore", "docs/settings.md"} <= set(files)
    assert [word for path in files for word in found(path, text_of(path))] == []


@pytest.mark.parametrize(
    "planted",
    [
        "see /wor" + "k/main/x.py",
        "log: /tmp/bas" + "h_jobs.0/x",
        "open('/hom" + "e/someone/x')",
        "[design](../share" + "d/design/x.md)",
        "as share" + "d/prototypes says",
        "pip install --index-ur" + "l https://mirror.example",
        "extra-index-ur" + "l = https://mirror.example",
        "https://pyp" + "i.org/simple",
        "https://files.pythonhoste" + "d.org/x.whl",
        '"resolved": "https://registry.npmj' + 's.org/x"',
        "https://download.pytorc" + "h.org/whl/cpu",
        "https://artifactor" + "y.example.com/x",
    ],
)
def test_a_planted_word_is_named_with_its_line(planted: str) -> None:
    (word, *_) = found("docs/planted.md", f"A page.\n{planted}\n")
    assert word.startswith("docs/planted.md:2: ")


def test_the_makefile_alone_may_name_an_index() -> None:
    line = "pip install --index-ur" + "l https://download.pytorc" + "h.org/whl/cpu torch"
    assert found("Makefile", line) == []
    assert len(found(".ci/run", line)) == 2


def test_plain_words_are_left_alone() -> None:
    assert found("docs/page.md", "network/x, the shared part, work/ in progress, an index, index_url") == []
