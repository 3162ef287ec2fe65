"""Sentences about rooms: each is true, each points at one piece alone, and both are checked anew here."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tests.unit.rooms_furniture import box_library
from trainer.data.rooms import palettes
from trainer.data.rooms.composer import Furnishings, Room
from trainer.data.rooms.families import FAMILIES, Split
from trainer.data.rooms.footprints import Footprint
from trainer.data.rooms.places import Place, first_room
from trainer.data.rooms.placing import Piece
from trainer.data.rooms.programmes import PROGRAMMES, Where
from trainer.data.rooms.relations import Relation, confusable, facts
from trainer.data.rooms.sentences import PHRASES, Speech, refer
from trainer.data.rooms.shells import OpeningKind, make_shell
from trainer.data.rooms.streams import stream


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return box_library(tmp_path_factory.mktemp("furniture") / "library")


@pytest.fixture(scope="module")
def rooms(library):
    return [first_room(Place(seed=5, index=index), library, Furnishings()) for index in range(0, 45, 3)]


def piece(library, key, family, x, y, yaw=0.0, where=Where.MIDDLE, low=0.0, support=None):
    asset = library.of(family, Split.TRAIN)[0]
    width, depth, height = asset.size_m
    box = Footprint(x=x, y=y, width=width, depth=depth, yaw=yaw, low=low, high=low + height)
    return Piece(key=key, asset=asset, footprint=box, where=where, support=support)


def room(*pieces):
    shell = make_shell(stream("shell"), "large", num_windows=0)
    return Room(programme=PROGRAMMES["office"], shell=shell, pieces=pieces, light=palettes.LIGHTS[0])


def said(found):
    return {(fact.target, fact.relation, fact.anchors) for fact in found}


@pytest.mark.parametrize(
    ("yaw", "right", "front"),
    [(0.0, (1, 0), (0, -1)), (math.pi / 2, (0, 1), (1, 0)), (math.pi, (-1, 0), (0, 1))],
)
def test_left_and_right_are_those_of_one_who_faces_the_front(library, yaw, right, front):
    # One who faces a sofa whose front looks to -y stands at -y and looks to +y: +x is to the right.
    sofa = piece(library, "sofa", "sofa", 2.0, 2.0, yaw)
    spot = np.array((2.0, 2.0))
    beside = spot + 1.5 * np.array(right)
    before = spot + 1.2 * np.array(front)
    scene = room(
        sofa,
        piece(library, "box", "box", *beside),
        piece(library, "bin", "trash can", *(spot - 1.5 * np.array(right))),
        piece(library, "toy", "toy", *before),
    )
    found = said(facts(scene))
    assert ("box", Relation.RIGHT, ("sofa",)) in found
    assert ("bin", Relation.LEFT, ("sofa",)) in found
    assert ("toy", Relation.BEFORE, ("sofa",)) in found
    assert ("box", Relation.LEFT, ("sofa",)) not in found
    assert ("box", Relation.BEFORE, ("sofa",)) not in found


def test_a_piece_without_a_front_has_no_left_and_right(library):
    found = facts(room(piece(library, "table", "table", 2, 2), piece(library, "box", "box", 3.3, 2)))
    assert not {Relation.LEFT, Relation.RIGHT, Relation.BEFORE} & {fact.relation for fact in found}
    assert ("box", Relation.BESIDE, ("table",)) in said(found)


def test_what_is_true_of_two_of_a_name_singles_out_neither(library):
    table = piece(library, "table", "table", 2, 2)
    chairs = [piece(library, "a", "chair", 1.0, 2), piece(library, "b", "chair", 3.0, 2)]
    found = said(facts(room(table, *chairs)))
    assert not {("a", Relation.BESIDE, ("table",)), ("b", Relation.BESIDE, ("table",))} & found
    assert ("a", Relation.ONLY, ()) not in found
    assert ("table", Relation.ONLY, ()) in found


def test_an_office_chair_is_a_chair_too_but_not_the_other_way_round(library):
    assert "office chair" in confusable("chair")
    assert "chair" not in confusable("office chair")
    found = said(facts(room(piece(library, "a", "chair", 1, 1), piece(library, "b", "office chair", 3, 3))))
    assert ("a", Relation.ONLY, ()) not in found
    assert ("b", Relation.ONLY, ()) in found


def test_what_stands_on_one_of_two_desks_is_told_by_one_of_them(library):
    desks = [piece(library, "d1", "desk", 1, 1), piece(library, "d2", "desk", 3, 3)]
    lamp = piece(library, "lamp", "table lamp", 1, 1, where=Where.TOP, low=0.74, support="d1")
    (on,) = (fact for fact in facts(room(*desks, lamp)) if fact.relation is Relation.ON)
    assert (on.target, on.anchors, on.anchor_is_one_of_several) == ("lamp", ("d1",), True)


def test_the_one_between_two_others_is_found(library):
    pieces = [
        piece(library, "bed", "bed", 1, 1),
        piece(library, "box", "box", 2, 2),
        piece(library, "sofa", "sofa", 3, 3),
    ]
    found = said(facts(room(*pieces)))
    assert ("box", Relation.BETWEEN, ("bed", "sofa")) in found
    assert ("bed", Relation.BETWEEN, ("box", "sofa")) not in found


def slow_holds_alone(scene, fact, points):
    """The meaning of a relation to the room itself, or to all pieces of the same name."""
    target = scene.piece(fact.target)
    walls, spots = scene.shell.walls(), points(target.footprint)
    rivals = [
        points(other.footprint)
        for other in scene.pieces
        if other.asset.family in confusable(target.asset.family) and other.key != target.key
    ]
    sills = {
        kind: [
            walls[each.wall].at((each.start + each.end) / 2)
            for each in scene.shell.openings
            if each.kind is kind
        ]
        for kind in OpeningKind
    }

    def near(from_spots, goals):
        return min(float(np.linalg.norm(from_spots - goal, axis=1).min()) for goal in goals)

    to_wall = min(float(((spots - wall.start) @ wall.inward).min()) for wall in walls)
    to_door, doors = near(spots, sills[OpeningKind.DOOR]), sills[OpeningKind.DOOR]
    size = float(np.prod(target.asset.size_m))
    sizes = [
        float(np.prod(other.asset.size_m))
        for other in scene.pieces
        if other.asset.family in confusable(target.asset.family) and other.key != target.key
    ]
    # Bounds are wider than those of the relations by more than the grid of points misses.
    return {
        Relation.CORNER: lambda: near(spots, scene.shell.outline) < 1.0,
        Relation.MIDDLE: lambda: to_wall > 1.0,
        Relation.DOOR: lambda: to_door < 1.5,
        Relation.WINDOW: lambda: near(spots, sills[OpeningKind.WINDOW]) < 2.0,
        Relation.CEILING: lambda: target.footprint.high > scene.shell.height - 0.05,
        Relation.ONLY: lambda: not rivals,
        Relation.NEAREST_DOOR: lambda: all(to_door < near(rival, doors) for rival in rivals),
        Relation.FARTHEST_DOOR: lambda: all(to_door > near(rival, doors) for rival in rivals),
        Relation.LARGEST: lambda: all(size > other for other in sizes),
    }[fact.relation]()


def slow_holds(scene, fact):
    """The meaning of a relation, from the boxes' points and axes alone."""
    target = scene.piece(fact.target)
    box = target.footprint
    inside = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 11)] * 2), axis=-1).reshape(-1, 2)

    def points(footprint):
        rotation = np.array(
            (
                (math.cos(footprint.yaw), -math.sin(footprint.yaw)),
                (math.sin(footprint.yaw), math.cos(footprint.yaw)),
            )
        )
        spots = inside * (footprint.width, footprint.depth)
        return spots @ rotation.T + (footprint.x, footprint.y)

    if not fact.anchors:
        return slow_holds_alone(scene, fact, points)
    anchor = scene.piece(fact.anchors[0]).footprint
    there, here = points(anchor), points(box)
    gap = np.linalg.norm(there[:, None] - here[None], axis=2).min()
    offset = np.array((box.x - anchor.x, box.y - anchor.y))
    front = np.array((math.sin(anchor.yaw), -math.cos(anchor.yaw)))
    right = np.array((math.cos(anchor.yaw), math.sin(anchor.yaw)))
    ahead, aside = float(offset @ front), float(offset @ right)
    return {
        Relation.ON: abs(box.low - anchor.high) < 0.02 and gap == pytest.approx(0, abs=0.05),
        Relation.ABOVE: box.low >= anchor.high,
        Relation.BESIDE: gap <= 0.8,
        Relation.BEFORE: ahead > anchor.depth / 2,
        Relation.RIGHT: aside > anchor.width / 2,
        Relation.LEFT: aside < -anchor.width / 2,
        Relation.BETWEEN: lies_between(scene, fact),
    }[fact.relation]


def lies_between(scene, fact):
    """Nearer to each of the two than they are to each other, when there are two."""
    if len(fact.anchors) != 2:
        return False
    box, *ends = (scene.piece(key).footprint for key in (fact.target, *fact.anchors))
    apart = math.hypot(ends[0].x - ends[1].x, ends[0].y - ends[1].y)
    return all(math.hypot(box.x - end.x, box.y - end.y) < apart for end in ends)


def test_every_sentence_is_true_by_geometry(rooms):
    checked = Counter()
    for scene in rooms:
        for referral in refer(stream("sentences"), scene, Speech()):
            assert slow_holds(scene, referral.fact), referral
            checked[referral.fact.relation] += 1
    assert {Relation.ON, Relation.BESIDE, Relation.BEFORE, Relation.LEFT, Relation.RIGHT} <= set(checked)
    assert len(checked) >= 12


def test_no_fact_holds_for_another_piece_of_the_same_name(rooms):
    for scene in rooms:
        found = facts(scene)
        by_meaning = {}
        for fact in found:
            family = scene.piece(fact.target).asset.family
            anchors = tuple(scene.piece(key).asset.family for key in fact.anchors)
            by_meaning.setdefault((family, fact.relation, anchors), set()).add(fact.target)
        assert all(len(targets) == 1 for targets in by_meaning.values())


def test_a_room_has_at_least_twenty_sentences_about_some_of_its_pieces(rooms):
    for scene in rooms:
        referrals = refer(stream("sentences", 1), scene, Speech())
        assert len(referrals) >= 20
        assert len({referral.text for referral in referrals}) == len(referrals)
        assert len({referral.fact.target for referral in referrals}) < len(scene.pieces)


def test_sentences_name_their_target_by_one_of_its_names(rooms):
    for scene in rooms:
        for referral in refer(stream("sentences", 2), scene, Speech()):
            family = FAMILIES[scene.piece(referral.fact.target).asset.family]
            assert any(word in referral.text for word in (family.name, *family.words)), referral


def test_every_relation_is_said_in_more_than_one_way():
    assert set(PHRASES) == set(Relation)
    assert all(len(set(phrases)) >= 2 for phrases in PHRASES.values())


def test_fewer_sentences_come_where_fewer_are_wanted(rooms):
    assert len(refer(stream("few"), rooms[0], Speech(num_referrals=5))) == 5
