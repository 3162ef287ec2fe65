"""Recall with ties, chance and intervals, beside the same worked out the slow way."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.probes.gallery import Member, find_rescan, find_scan, find_views
from trainer.data.probes.trials import Bootstrap, Share, Trial, interval, recall
from xscene.errors import InvalidInput

DRAWS = Bootstrap(num_draws=200)


def recall_of_all_orders(scores, right, k):
    """Recall over every order of the gallery that the scores allow."""
    orders = [
        order
        for order in permutations(range(len(scores)))
        if all(scores[one] >= scores[other] for one, other in pairwise(order))
    ]
    return np.mean([any(right[at] for at in order[:k]) for order in orders])


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 7))
def test_recall_is_that_of_all_orders_in_which_equals_may_come(entries, k):
    scores = np.array([score for score, _ in entries], dtype=float)
    right = np.array([flag for _, flag in entries])
    if not right.any():
        right[0] = True
    assert recall(scores, right, k) == pytest.approx(recall_of_all_orders(scores, right, k))


def test_chance_is_what_equal_scores_give():
    right = np.zeros((4, 10), dtype=bool)
    right[:, 3] = True
    trial = Trial(
        scores=np.where(right, 1.0, 0.0), right=right, allowed=np.ones_like(right), clusters=[0, 0, 1, 1]
    )
    found = trial.outcome(DRAWS)
    assert found.first == Share(1.0, 1.0, 1.0, pytest.approx(0.1))
    assert found.five.chance == pytest.approx(0.5)
    assert (found.num_queries, found.gallery) == (4, 10)


def test_what_may_not_be_chosen_is_neither_right_nor_in_the_way():
    scores = np.array([[9.0, 5.0, 1.0]])
    right = np.array([[True, False, True]])
    allowed = np.array([[False, True, True]])
    trial = Trial(scores=scores, right=right, allowed=allowed, clusters=["a"])
    assert trial.outcome(DRAWS).first == Share(0.0, 0.0, 0.0, 0.5)
    assert trial.outcome(DRAWS).five.value == 1.0


def test_queries_without_a_right_answer_are_not_counted():
    right = np.array([[True, False], [False, False]])
    trial = Trial(
        scores=np.ones((2, 2)), right=right, allowed=np.ones((2, 2), dtype=bool), clusters=["a", "b"]
    )
    assert trial.outcome(DRAWS).num_queries == 1
    with pytest.raises(InvalidInput, match="no query has a right answer"):
        Trial(
            scores=np.ones((1, 2)), right=right[1:], allowed=np.ones((1, 2), dtype=bool), clusters=["b"]
        ).outcome(DRAWS)


def test_an_interval_of_clusters_is_wider_than_one_of_queries():
    values = [1.0] * 20 + [0.0] * 20
    by_query = interval(values, list(range(40)), Bootstrap())
    by_cluster = interval(values, [at // 10 for at in range(40)], Bootstrap())
    assert by_cluster == (0.0, 1.0)
    # Four standard errors of a mean of 40 coins.
    assert by_query[1] - by_query[0] == pytest.approx(4 * 0.5 / 40**0.5, abs=0.05)
    assert by_query == interval(values, list(range(40)), Bootstrap())


def test_figures_above_chance_have_their_whole_interval_above_it():
    assert Share(0.5, 0.2, 0.8, 0.1).is_above_chance
    assert not Share(0.5, 0.1, 0.8, 0.1).is_above_chance


def test_no_draws_are_refused():
    with pytest.raises(InvalidInput, match="num_draws: 0, needs at least 1"):
        Bootstrap(num_draws=0)


def members(*triples):
    """Places a and b hold the same furniture."""
    return [
        Member(scan_id=scan, place_id=place, look_alikes=three, furniture=place.replace("b", "a"))
        for scan, place, three in triples
    ]


# Two threes; place a is scanned twice.
SCANS = members(("a0", "a", 0), ("a1", "a", 0), ("b0", "b", 0), ("c0", "c", 1))
REFURNISHED = members(("d0", "d", 0))


def test_a_scan_is_sought_among_all_and_its_place_among_its_three():
    scores = np.eye(4)
    # The second scan of place a is mistaken for the first.
    scores[1] = (1.0, 0.5, 0.0, 0.0)
    found = find_scan(scores, SCANS, SCANS, DRAWS)
    assert found.wanted.first.value == pytest.approx(3 / 4)
    assert found.wanted.first.chance == pytest.approx(1 / 4)
    assert found.look_alikes.first.value == 1.0
    assert found.look_alikes.first.chance == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)
    assert found.among_look_alikes.first.value == 1.0
    assert found.among_look_alikes.first.chance == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)


def test_a_rescan_is_sought_by_places_that_have_one_and_never_in_itself():
    scores = np.zeros((4, 4))
    np.fill_diagonal(scores, 9.0)
    scores[0, 1], scores[1, 2] = 1.0, 1.0
    found = find_rescan(scores, SCANS, DRAWS)
    assert (found.wanted.num_queries, found.wanted.gallery) == (2, 3)
    assert found.wanted.first.value == pytest.approx(1 / 2)
    assert found.wanted.first.chance == pytest.approx(1 / 3)
    assert found.look_alikes.first.value == 1.0
    assert found.among_look_alikes.first.chance == pytest.approx(1 / 2)


def test_views_are_sought_in_their_own_scan_without_themselves_and_without_the_other_scan():
    views = members(("a0", "a", 0), ("a0", "a", 0), ("a1", "a", 0), ("b0", "b", 0), ("b0", "b", 0))
    found = find_views(np.zeros((5, 5)), views, DRAWS)
    # The lone view of a1 has nothing to find; each of a0 chooses among one right and two wrong ones,
    # each of b0 among one right and three wrong ones.
    assert (found.wanted.num_queries, found.wanted.gallery) == (4, 4)
    assert found.wanted.first.value == pytest.approx((1 / 3 + 1 / 3 + 1 / 4 + 1 / 4) / 4)


def test_an_arrangement_is_sought_among_places_of_the_same_furniture():
    found = find_scan(np.zeros((5, 5)), [*SCANS, *REFURNISHED], [*SCANS, *REFURNISHED], DRAWS)
    # a0, a1 and b0 choose among themselves; c0 and d0 have nothing to be mistaken for.
    assert found.among_same_furniture.num_queries == 3
    assert found.among_same_furniture.gallery == 3
    assert found.among_same_furniture.first.value == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)
    alone = find_scan(np.zeros((2, 2)), SCANS[2:], SCANS[2:], DRAWS)
    assert alone.among_same_furniture is None
