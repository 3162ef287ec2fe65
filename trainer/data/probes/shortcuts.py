"""Probes of the test gallery with cheap cues: how far one gets without understanding a room.

Shapes: Q queries, G gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from trainer.data.probes.cues import Cues, Source, footprint_iou, word_likeness
from trainer.data.probes.gallery import Member, SceneOutcome, find_rescan, find_scan
from trainer.data.probes.trials import Bootstrap
from xscene.geometry.frames import Floats, Matrix

Compare: TypeAlias = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Probe:
    """A cue and what it compares: queries with the gallery."""

    cue: str
    query: Source
    gallery: Source
    take: Callable[[Cues, Source], Any]
    compare: Compare

    @property
    def name(self) -> str:
        """The cue and its two sides."""
        return f"{self.cue}: {self.query} to {self.gallery}"

    def scores(self, cues: Sequence[Cues]) -> Matrix:
        """How alike each scan's query is to each scan of the gallery (G,G)."""
        queries = [self.take(each, self.query) for each in cues]
        gallery = [self.take(each, self.gallery) for each in cues]
        flat = [self.compare(one, other) for one, other in product(queries, gallery)]
        return np.array(flat, dtype=np.float64).reshape(len(cues), len(cues))


def probes(weights: Mapping[str, float]) -> dict[str, list[Probe]]:
    """The probes of both tasks; weights are those of words."""
    views, cloud, plan, said = Source.VIEWS, Source.CLOUD, Source.FLOORPLAN, Source.SENTENCES
    cues = _comparisons(weights)

    def listed(pairs: Iterable[tuple[str, Source, Source]]) -> list[Probe]:
        return [Probe(cue, query, gallery, *cues[cue]) for cue, query, gallery in pairs]

    colors = ("mean colour", "colour histogram", "balanced histogram")
    return {
        "scene": listed(
            [
                *((cue, views, cloud) for cue in colors),
                ("colour histogram", views, plan),
                ("footprint IoU", plan, cloud),
                ("object count", views, cloud),
                ("object count", said, cloud),
                ("bag of words", said, cloud),
            ]
        ),
        "rescan": listed(
            [
                *((cue, source, source) for source in (views, cloud) for cue in colors),
                ("footprint IoU", cloud, cloud),
                ("footprint IoU", plan, plan),
                ("object count", cloud, cloud),
                ("bag of words", cloud, cloud),
                ("bag of words", said, said),
            ]
        ),
    }


def shortcuts(
    cues: Sequence[Cues], members: Sequence[Member], weights: Mapping[str, float], bootstrap: Bootstrap
) -> dict[str, dict[str, SceneOutcome]]:
    """Outcomes by task and probe."""
    wanted = probes(weights)
    return {
        "scene": {
            probe.name: find_scan(probe.scores(cues), members, members, bootstrap)
            for probe in wanted["scene"]
        },
        "rescan": {
            probe.name: find_rescan(probe.scores(cues), members, bootstrap) for probe in wanted["rescan"]
        },
    }


def _near(one: Floats, other: Floats) -> float:
    return -float(np.abs(one - other).sum())


def _shared(one: Floats, other: Floats) -> float:
    """The part that two histograms share."""
    return float(np.minimum(one, other).sum())


def _comparisons(weights: Mapping[str, float]) -> dict[str, tuple[Callable[[Cues, Source], Any], Compare]]:
    """What each cue takes of a scan, and how two are compared."""
    return {
        "mean colour": (lambda cues, source: cues.means[source], _near),
        "colour histogram": (lambda cues, source: cues.histograms[source], _shared),
        "balanced histogram": (lambda cues, source: cues.balanced[source], _shared),
        "footprint IoU": (lambda cues, source: cues.footprints[source], footprint_iou),
        "object count": (lambda cues, source: cues.num_objects[source], lambda a, b: -abs(a - b)),
        "bag of words": (
            lambda cues, source: cues.words[source],
            lambda one, other: word_likeness(one, other, weights),
        ),
    }
