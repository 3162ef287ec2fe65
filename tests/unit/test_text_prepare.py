"""Texts of a request: every fault has its name, groups end where they should, passes pad little."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders_1d.prepare import GROUPS, Limits, decode_texts, join_groups, passes
from tests.allocation import allocates_at_most
from xscene.errors import InvalidInput, LimitExceeded

LIMITS = Limits(max_items=4, max_text_bytes=20)


def decode(*texts: bytes) -> list[str]:
    return decode_texts(np.array([*texts, b""], np.object_)[:-1], LIMITS)


def refused(message: str, *texts: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(*texts)
    assert caught.value.message == message


def test_texts_come_back_as_they_were_written():
    texts = ["a chair", "Tür\tund\nFenster\r", "椅子", "👩‍🚀", "x" * 20]
    assert decode(*(text.encode() for text in texts[:4])) == texts[:4]
    assert decode(texts[4].encode()) == texts[4:]


def test_a_request_without_texts_is_refused():
    refused("text: is empty, at least one text is needed")


def test_too_many_texts_name_the_limit():
    refused("text: 5 texts, the limit is 4", *[b"a"] * 5)


def test_a_text_that_is_too_long_is_named_with_its_bytes():
    refused("text[1]: 21 bytes, the limit is 20", b"a", b"x" * 21)
    with pytest.raises(LimitExceeded):
        decode(b"x" * 21)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "empty, needs words"),
        (b" \t\n", "blank, needs words"),
        ("\u200b\u00a0".encode(), "blank, needs words"),
        ("\u0301 \ufe0f\ufffd".encode(), "blank, needs words"),
        (b"caf\xe9", "is not UTF-8: unexpected end of data at byte 3"),
        (b"\xff chair", "is not UTF-8: invalid start byte at byte 0"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is not UTF-8: invalid continuation byte at byte 0"),
        (b"a\0b", "control character '\\x00' at 1"),
        (b"\x1b[31mred", "control character '\\x1b' at 0"),
        (b"del\x7f", "control character '\\x7f' at 3"),
    ],
)
def test_a_text_that_is_none_is_the_callers_fault(text, fault):
    refused(f"text[2]: {fault}", b"a", b"b", text)
    with pytest.raises(InvalidInput) as caught:
        decode(text)
    assert [violation.field for violation in caught.value.violations] == ["text[0]"]


def ends(*values: int, num_items: int = 5) -> list[int]:
    return GROUPS.decode(np.array(values, np.int32), num_items)


def test_groups_are_joined_by_single_spaces():
    assert join_groups(["a", "b c", "d", "e ", "f"], ends(2, 3, 5)) == ["a b c", "d", "e  f"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "group_ends: is empty, at least one group is needed"),
        ((0, 5), "group_ends[0]: 0, needs more than 0: a group holds at least one text"),
        ((2, 2, 5), "group_ends[1]: 2, needs more than 2: a group holds at least one text"),
        ((3, 2, 5), "group_ends[1]: 2, needs more than 3: a group holds at least one text"),
        ((-1, 5), "group_ends[0]: -1, needs more than 0: a group holds at least one text"),
        ((2, 6), "group_ends[1]: 6, there are 5 texts"),
        ((2, 4), "group_ends[1]: 4, the last group must end at 5, the last text"),
        ((1, 2, 3, 4, 5, 5), "group_ends: 6 groups, there are 5 texts"),
    ],
)
def test_group_ends_that_cannot_be_are_named(values, message):
    with pytest.raises(InvalidInput) as caught:
        ends(*values)
    assert caught.value.message == message


@pytest.mark.parametrize("max_groups", [None, 4])
def test_more_group_ends_than_can_be_are_refused_before_anything_is_made_of_them(max_groups):
    many = np.ones(1_000_000, np.int32)
    with allocates_at_most(100_000), pytest.raises(InvalidInput, match="1000000 groups"):
        GROUPS.decode(many, 5, max_groups=max_groups)


def cost(lengths: list[int], split: list[list[int]], pass_tokens: int) -> int:
    return sum(pass_tokens + len(rows) * max(lengths[row] for row in rows) for rows in split)


def splits(lengths: list[int]) -> list[list[list[int]]]:
    """Every way to cut the texts, sorted by length, into passes."""
    ordered = sorted(range(len(lengths)), key=lengths.__getitem__)
    inner = range(1, len(lengths))
    return [
        [ordered[start:end] for start, end in pairwise([0, *cuts, len(lengths)])]
        for num_cuts in range(len(lengths))
        for cuts in combinations(inner, num_cuts)
    ]


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


@given(LENGTHS, st.integers(0, 40))
def test_passes_hold_every_text_once_at_the_least_cost(lengths, pass_tokens):
    found = passes(lengths, pass_tokens)
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert cost(lengths, found, pass_tokens) == min(
        cost(lengths, split, pass_tokens) for split in splits(lengths)
    )


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300), st.integers(1, 64))
def test_padding_is_less_than_the_passes_that_it_saves(lengths, pass_tokens):
    found = passes(lengths, pass_tokens)
    padding = cost(lengths, found, 0) - sum(lengths)
    assert padding <= pass_tokens * (len(set(lengths)) - len(found))


def test_texts_of_one_length_are_one_pass_and_a_long_one_stays_alone():
    assert passes([7, 7, 7], 24) == [[0, 1, 2]]
    assert passes([8, 250, 9, 10], 24) == [[0, 2, 3], [1]]
    assert passes([], 24) == []
