"""Sentences that point at furniture: true relations in several phrasings, with other words for the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.data.rooms.composer import Room
from trainer.data.rooms.families import FAMILIES
from trainer.data.rooms.relations import Fact, Relation, facts
from trainer.data.rooms.streams import Stream, pick, shuffled

# {t} stands for the piece, {a} and {b} for what it is told by; the article is part of these.
PHRASES: Mapping[Relation, Sequence[str]] = {
    Relation.ON: ("{t} on {a}", "{t} that stands on {a}", "{t} on top of {a}", "on {a} there is {t}"),
    Relation.ABOVE: ("{t} above {a}", "{t} on the wall over {a}", "over {a} hangs {t}"),
    Relation.BESIDE: ("{t} next to {a}", "{t} beside {a}", "{t} close to {a}", "near {a} is {t}"),
    Relation.LEFT: (
        "{t} to the left of {a}",
        "facing {a}, {t} on its left",
        "left of {a} you find {t}",
    ),
    Relation.RIGHT: (
        "{t} to the right of {a}",
        "facing {a}, {t} on its right",
        "right of {a} you find {t}",
    ),
    Relation.BEFORE: ("{t} in front of {a}", "{t} standing before {a}", "in front of {a} is {t}"),
    Relation.BETWEEN: ("{t} between {a} and {b}", "between {a} and {b} stands {t}"),
    Relation.CORNER: ("{t} in the corner", "{t} standing in a corner of the room", "in the corner is {t}"),
    Relation.MIDDLE: ("{t} in the middle of the room", "{t} away from all walls"),
    Relation.DOOR: ("{t} near the door", "{t} by the entrance", "next to the door is {t}"),
    Relation.WINDOW: ("{t} under the window", "{t} below a window", "under the window stands {t}"),
    Relation.CEILING: ("{t} hanging from the ceiling", "{t} on the ceiling"),
    Relation.NEAREST_DOOR: ("{t} closest to the door", "{t} nearest to the entrance"),
    Relation.FARTHEST_DOOR: ("{t} farthest from the door", "{t} at the far end from the entrance"),
    Relation.LARGEST: ("the largest {w}", "the biggest {w} in the room"),
    Relation.ONLY: ("the only {w} in the room", "the room's one {w}"),
}
LEADS = ("", "", "", "look for ", "this is ", "I mean ")


@dataclass(frozen=True, kw_only=True)
class Referral:
    """A sentence about one piece, and the fact that makes it true."""

    text: str
    fact: Fact


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How much is said about a room."""

    num_referrals: int = 24
    mentioned_share: float = 0.8
    """Share of the pieces that sentences are about; the others stay unmentioned as targets."""


def refer(rng: Stream, room: Room, settings: Speech) -> list[Referral]:
    """Sentences about some of the pieces, none twice, in turns between them."""
    known = facts(room)
    targets = shuffled(rng, sorted({fact.target for fact in known}))
    targets = targets[: max(1, round(settings.mentioned_share * len(targets)))]
    queues = {key: shuffled(rng, [fact for fact in known if fact.target == key]) for key in targets}
    found: dict[str, Referral] = {}
    # Facts come round again in other words where there are fewer of them than sentences wanted.
    for turn in range(settings.num_referrals):
        for key in targets:
            if len(found) == settings.num_referrals:
                return list(found.values())
            fact = queues[key][turn % len(queues[key])]
            text = _said(rng, room, fact)
            found.setdefault(text, Referral(text=text, fact=fact))
    return list(found.values())


def _said(rng: Stream, room: Room, fact: Fact) -> str:
    phrase = pick(rng, PHRASES[fact.relation])
    target = _word(rng, room, fact.target)
    article = "one of the" if fact.anchor_is_one_of_several else "the"
    anchors = [_anchor(_word(rng, room, key), article) for key in fact.anchors]
    names = dict(zip("ab", anchors, strict=False))
    body = phrase.format(t=f"the {target}", w=target, **names)
    lead = pick(rng, LEADS) if phrase.startswith(("{t}", "the")) else ""
    return lead + body


def _anchor(word: str, article: str) -> str:
    return f"the {word}" if article == "the" else f"one of the {_plural(word)}"


def _plural(word: str) -> str:
    if word.endswith(("ch", "sh", "s", "x")):
        return f"{word}es"
    return f"{word[:-1]}ves" if word.endswith("shelf") else f"{word}s"


def _word(rng: Stream, room: Room, key: str) -> str:
    """A name for a piece: mostly that of its family, else another word for it."""
    family = room.piece(key).asset.family
    return pick(rng, (family, family, *FAMILIES[family].words))
