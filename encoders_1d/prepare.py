"""Texts as they come: their checks, their groups, and the passes that pad them least."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any

from numpy.typing import NDArray

from xscene.errors import InvalidInput, LimitExceeded
from xscene.nn.groups import Ends

TEXT = "text"
GROUP_ENDS = "group_ends"
GROUPS = Ends(field=GROUP_ENDS, group="group", item="text")
# What stands for a character that could not be read.
REPLACEMENT = "\ufffd"
# Line breaks and tabs are in many a text; other control characters are in none.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes past which a request is refused."""

    max_items: int
    max_text_bytes: int


def decode_texts(texts_N: NDArray[Any], limits: Limits) -> list[str]:
    """The texts of a request; a fault is named by its item."""
    num_items = len(texts_N)
    if not num_items:
        raise InvalidInput.at(TEXT, "is empty, at least one text is needed")
    if num_items > limits.max_items:
        raise LimitExceeded.of(TEXT, value=num_items, limit=limits.max_items, unit="texts")
    return [_decode(f"{TEXT}[{index}]", data, limits) for index, data in enumerate(texts_N)]


def _decode(field: str, data: bytes, limits: Limits) -> str:
    """One text."""
    if len(data) > limits.max_text_bytes:
        raise LimitExceeded.of(field, value=len(data), limit=limits.max_text_bytes, unit="bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput.at(field, f"is not UTF-8: {error.reason} at byte {error.start}") from None
    if found := _CONTROL.search(text):
        raise InvalidInput.at(field, f"control character {found.group()!r} at {found.start()}")
    if not any(map(_is_sign, text)):
        raise InvalidInput.at(field, "blank, needs words" if text else "empty, needs words")
    return text


def _is_sign(character: str) -> bool:
    """Whether a tokenizer makes anything of it: of accents alone, and of what cannot be seen, it does not."""
    return (
        character.isprintable()
        and not character.isspace()
        and character != REPLACEMENT
        and unicodedata.category(character) != "Mn"
    )


def join_groups(texts: Sequence[str], ends: Sequence[int]) -> list[str]:
    """One text for each group: its texts with a space between them."""
    return [" ".join(texts[start:end]) for start, end in pairwise([0, *ends])]


def passes(lengths: Iterable[int], pass_tokens: int) -> list[list[int]]:
    """Positions of the texts that are padded together, as the cheapest split has them.

    Texts of a pass are as long as its longest, and each pass costs as much as `pass_tokens` tokens
    besides. So one more pass is made exactly where it saves more padding than that.
    """
    tokens = list(lengths)
    ordered = sorted(range(len(tokens)), key=tokens.__getitem__)
    runs = [list(run) for _, run in groupby(ordered, key=tokens.__getitem__)]
    counts = list(accumulate((len(run) for run in runs), initial=0))
    # cheapest[n]: cost of the n shortest lengths, and where the last pass of that split begins.
    cheapest = [(0, 0)]
    for end, run in enumerate(runs, start=1):
        length = tokens[run[0]]
        cheapest.append(
            min(
                (cheapest[start][0] + pass_tokens + (counts[end] - counts[start]) * length, start)
                for start in range(end)
            )
        )
    found: list[list[int]] = []
    end = len(runs)
    while end:
        start = cheapest[end][1]
        found.append(ordered[counts[start] : counts[end]])
        end = start
    return found[::-1]
