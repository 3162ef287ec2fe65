"""The pages of the documentation, taken apart: blocks, commands, links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.contract.tree import ROOT

SHELLS = ("sh", "bash", "console")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SEPARATOR = re.compile(r"\s(?:&&|\|\||\||;)\s")
ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """A fenced block; `follows` is the text between the block before it and this one."""

    language: str
    text: str
    follows: str


def page_names() -> list[str]:
    """Every page, by its path from the root."""
    return sorted(
        path.relative_to(ROOT).as_posix() for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")
    )


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, end = [], 0
    for match in FENCE.finditer(text):
        found.append(Block(match[1], match[2], text[end : match.start()].strip()))
        end = match.end()
    return found


def commands(text: str) -> list[list[str]]:
    """The shell commands of a page, each as its words."""
    lines: list[str] = []
    for block in blocks(text):
        if block.language not in SHELLS:
            continue
        joined = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            joined = [line.removeprefix("$ ") for line in joined if line.startswith("$ ")]
        lines += joined
    parts = (shlex.split(part, comments=True) for line in lines for part in SEPARATOR.split(line))
    return [words for part in parts if (words := without_assignments(part))]


def without_assignments(words: list[str]) -> list[str]:
    """A command without the variables that are set before it."""
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


def make_targets(text: str) -> set[str]:
    """Targets of make that a page names, in its text or in a block."""
    named = set(re.findall(r"`make ([a-z][a-z-]*)[^`\n]*`", text))
    for words in commands(text):
        if words[0] == "make":
            named |= {word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)}
    return named


def links(text: str) -> list[str]:
    """Targets of a page's links that are not addresses elsewhere."""
    prose = FENCE.sub("", text)
    return [link for link in LINK.findall(prose) if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """Names under which the headings of a page can be linked."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(page: str, text: str) -> list[str]:
    """Links of a page whose file or heading is not there."""
    return [f"{page}: {link}" for link in links(text) if not leads_somewhere(page, text, link)]


def leads_somewhere(page: str, text: str, link: str) -> bool:
    """Whether a link's file is there, and holds the heading that the link names."""
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name
    if name and not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text() if name else text)
