"""The scans that probes choose from: whose place and look-alike three each is of, and what may be chosen.

Shapes: Q queries, G gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.probes.trials import Bootstrap, Mask, Outcome, Trial
from xscene.geometry.frames import Floats


@dataclass(frozen=True, kw_only=True)
class Member:
    """What an entry of a gallery belongs to."""

    scan_id: str
    place_id: str
    look_alikes: int
    furniture: str
    """Members with the same name show the same furniture."""


@dataclass(frozen=True, kw_only=True)
class SceneOutcome:
    """How a cue finds a scene, its three, and the place within the three."""

    wanted: Outcome
    look_alikes: Outcome
    """Any scan of the three is right."""
    among_look_alikes: Outcome
    """Only scans of the own three may be chosen; those of the own place are right."""
    among_same_furniture: Outcome | None
    """Only places with the same furniture, arranged otherwise; None where no query has such a place."""


def find_scan(
    scores: Floats, queries: Sequence[Member], gallery: Sequence[Member], bootstrap: Bootstrap
) -> SceneOutcome:
    """The same scan, known from another modality, by scores (Q,G)."""
    same = _same(queries, gallery, "scan_id")
    return _outcome(scores, queries, gallery, same, np.ones_like(same), bootstrap)


def find_rescan(scores: Floats, members: Sequence[Member], bootstrap: Bootstrap) -> SceneOutcome:
    """The same place in another scan, by scores (G,G) of scans, or of views, with each other."""
    others = ~_same(members, members, "scan_id")
    return _outcome(scores, members, members, _same(members, members, "place_id"), others, bootstrap)


def find_views(scores: Floats, members: Sequence[Member], bootstrap: Bootstrap) -> SceneOutcome:
    """Another view of the same scan, by scores (G,G) of views; the place's other scan is left out."""
    scan = _same(members, members, "scan_id")
    allowed = (scan | ~_same(members, members, "place_id")) & ~np.eye(len(members), dtype=bool)
    return _outcome(scores, members, members, scan, allowed, bootstrap)


def _outcome(
    scores: Floats,
    queries: Sequence[Member],
    gallery: Sequence[Member],
    right: Mask,
    allowed: Mask,
    bootstrap: Bootstrap,
) -> SceneOutcome:
    place, three = (_same(queries, gallery, name) for name in ("place_id", "look_alikes"))
    # Those of a three are alike by design, so they are drawn together.
    clusters = [query.look_alikes for query in queries]
    # Whoever has nothing to find is no query of the other two either.
    askable = (right & allowed).any(axis=1, keepdims=True)

    same = allowed & three & _same(queries, gallery, "furniture")
    arranged = askable & (same & ~place).any(axis=1, keepdims=True)

    def made(is_right: Mask, may_be: Mask) -> Outcome:
        trial = Trial(scores=scores, right=is_right, allowed=may_be, clusters=clusters)
        return trial.outcome(bootstrap)

    return SceneOutcome(
        wanted=made(right, allowed),
        look_alikes=made(three & askable, allowed),
        among_look_alikes=made(place & askable, allowed & three),
        among_same_furniture=made(place & arranged, same) if (place & arranged & same).any() else None,
    )


def _same(queries: Sequence[Member], gallery: Sequence[Member], name: str) -> Mask:
    one, other = ([getattr(each, name) for each in members] for members in (queries, gallery))
    found: Mask = np.equal.outer(np.array(one), np.array(other))
    return found
