"""The page about furnished rooms: what they hold, and how far shortcuts and frozen features get in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.bench.report import table
from trainer.data.probes.census import Overlaps, SplitCounts
from trainer.data.probes.gallery import SceneOutcome
from trainer.data.probes.study import Settings, Study
from trainer.data.probes.trials import Outcome, Share
from xscene.errors import NotFound

RECORD_FILE, PAGE_FILE = "rooms.json", "rooms.md"

INTRODUCTION = """\
# What furnished rooms are worth

Measured {date}, commit `{commit}`, with

```sh
{command}
```

on rooms that are made and prepared anew by

```sh
python -m deploy rooms make --count {num_places} --seed {seed} --out var/rooms
python -m deploy prepare rooms --root var/rooms --out var/prepared/rooms
```

The rooms are synthetic: no figure here says how a model does on real scans. Probes
choose among the {scans} scans of the test split, {places} places in {threes} look-alike threes; nothing was
tuned on them. All figures: [rooms.json](rooms.json).
"""
SHARES = """\
A figure is the share of queries; in brackets its interval of 95%, from {num_draws} draws of whole threes with
replacement; behind it what a random ranking gives. `*` marks a figure whose whole interval lies above chance.
Ties are counted as a random order among equals.
"""
SCENES = """\
`three`: the first answer is a scan of the right look-alike three. `place in three`: only scans of the right
three may be chosen, and one of the right place is right. `place, same furniture`: only the two places of a
three that hold the same furniture, arranged otherwise. A three shares outline, openings and paint: whoever
always finds the three and guesses within it reaches R@1 {guess:.1%} for a scene, so R@1 has to be read beside
the last two columns.

Colours are compared by their mean or by 512 bins; `balanced` takes exposure and white balance out by
dividing each channel by its mean. Footprints are what walls, or points, enclose from above, at the best of
four quarter turns. Words weigh by their rarity in the sentences of the training split; a cloud's words are
its labels. Counts are of objects that a view shows, that a sentence is about, or that the scan holds.
"""
COUNTS = """\
Furniture only; walls, floor, doors and windows are left out. Seen is a piece of at least {min_pixels} pixels
in one view of 640x480, scanned one of at least {min_vertices} vertices.
"""
FEATURES = """\
MobileNetV2, trained on ImageNet and never on rooms; the nearest neighbour by cosine. A crop is the tightest
of a piece's best view. For categories, queries are crops of the test split and the gallery is those of the
training split, which share no piece of furniture. For all else both are of the test split. The same piece is
sought in another view among such views of all pieces, many of which are of the same model; the same model in
rooms of other threes. No view is in its own gallery, and where the same scan is sought, nor are the views of
its place's other scan.
"""


def page(found: Study, run: Mapping[str, Any], settings: Settings) -> str:
    """The whole page."""
    seen, bootstrap = settings.seen, settings.bootstrap
    num_places = sum(each.places for each in found.counts.values())
    parts = [
        INTRODUCTION.format(**run, **found.gallery, num_places=num_places),
        "## What they hold\n",
        COUNTS.format(min_pixels=seen.min_pixels, min_vertices=seen.min_vertices),
        _counts(found),
        overlap_words(found.overlaps),
        "## Shortcuts\n",
        SHARES.format(num_draws=f"{bootstrap.num_draws:,}"),
        SCENES.format(guess=found.gallery["threes"] / found.gallery["scans"]),
        "### A scene, from one modality to another\n",
        scene_table(found.shortcuts["scene"]),
        "### A place in its other scan\n",
        scene_table(found.shortcuts["rescan"]),
        "## Frozen features\n",
        FEATURES,
        _furniture(found),
        scene_table(found.neighbours.rooms),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def origin(data: Path) -> dict[str, Any]:
    """What a folder of rooms was made from."""
    path = data / "recipe.json"
    if not path.is_file():
        raise NotFound(f"{data} holds no {path.name}, so it is no folder of furnished rooms")
    made = json.loads(path.read_text())
    return {"seed": made["recipe"]["seed"], "furniture": made["furniture"]}


def record(found: Study, run: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """All of it as plain values."""
    return {"schema": 1, "run": dict(run), "settings": asdict(settings), "study": asdict(found)}


def shown(share: Share) -> str:
    """A share with its interval and chance, in per cent."""
    mark = " *" if share.is_above_chance else ""
    value, low, high, chance = (
        f"{100 * each:.1f}" for each in (share.value, share.low, share.high, share.chance)
    )
    return f"{value} ({low}..{high}), {chance}{mark}"


def scene_table(found: Mapping[str, SceneOutcome]) -> str:
    """Outcomes of probes that seek a scene."""
    header = ("probe", "queries", "gallery", "R@1", "R@5", "three", "place in three", "place, same furniture")
    lines = [
        (
            name,
            str(each.wanted.num_queries),
            str(each.wanted.gallery),
            shown(each.wanted.first),
            shown(each.wanted.five),
            shown(each.look_alikes.first),
            shown(each.among_look_alikes.first),
            shown(each.among_same_furniture.first) if each.among_same_furniture else "-",
        )
        for name, each in found.items()
    ]
    return table(header, lines)


def _counts(found: Study) -> str:
    rows: dict[str, Callable[[SplitCounts], str]] = {
        "places": lambda c: str(c.places),
        "look-alike threes": lambda c: str(c.look_alike_sets),
        "scans": lambda c: str(c.scans),
        "partial scans": lambda c: f"{c.partial:.0%}",
        "kinds of room, places": lambda c: ", ".join(f"{kind} {num}" for kind, num in c.kinds.items()),
        "pieces a scan: mean, least..most": lambda c: _spread(c.pieces_a_room),
        "pieces": lambda c: f"{c.pieces:,}",
        "families": lambda c: str(c.families),
        "assets": lambda c: str(c.assets),
        "CAD models": lambda c: str(c.models),
        "seen in a view": lambda c: f"{c.in_a_view:.1%}",
        "scanned": lambda c: f"{c.in_the_scan:.1%}",
        "neither": lambda c: f"{c.in_neither:.1%}",
        "sentences a scan: mean, least..most": lambda c: _spread(c.referrals_a_room),
        "pieces that a sentence is about": lambda c: f"{c.told:.1%}",
        "vertices a scan: median, least..most": lambda c: _spread(c.vertices_a_scan, 0),
    }
    lines = [[name, *(shown(each) for each in found.counts.values())] for name, shown in rows.items()]
    return table(("", *(str(split) for split in found.counts)), lines)


def overlap_words(found: Overlaps) -> str:
    """What splits share, which is to be nothing."""
    names = {"assets": "assets", "models": "CAD models", "places": "places", "look_alike_sets": "threes"}
    shared = {words: getattr(found, name) for name, words in names.items()}
    if not any(shared.values()):
        return f"No two splits share {_listed(shared)}.\n"
    faults = (f"{len(each)} {words}, such as {each[0]}" for words, each in shared.items() if each)
    return f"**Splits share what they must not**: {'; '.join(faults)}.\n"


def _furniture(found: Study) -> str:
    named = found.neighbours.categories
    outcomes = {
        f"category, of {named.categories}": named.outcome,
        "same piece, another view": found.neighbours.instances,
        "same model, another three": found.neighbours.models,
    }
    header = ("probe", "queries", "gallery", "R@1", "R@5")
    lines = [(name, *_outcome(each)) for name, each in outcomes.items()]
    rest = (
        f"Always saying the most frequent category of the training split is right for {named.majority:.1%}"
        f" of the queries.\nThe mean over categories is {named.mean_over_categories:.1%},"
        f" chance {1 / named.categories:.1%}.\n"
    )
    return table(header, lines) + "\n" + rest


def _outcome(each: Outcome) -> tuple[str, str, str, str]:
    return f"{each.num_queries:,}", f"{each.gallery:,}", shown(each.first), shown(each.five)


def _spread(spread: tuple[float, int, int], digits: int = 1) -> str:
    middle, low, high = spread
    return f"{middle:,.{digits}f}, {low:,}..{high:,}"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
