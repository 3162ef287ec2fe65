"""Counts of furnished rooms: what splits hold, and that they share nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest

from tests.unit.rooms_captures import captured, turned
from tests.unit.rooms_furniture import box_library
from trainer.data.probes.census import Piece, Room, Seen, counts, overlaps, read_rooms
from trainer.data.rooms.captures import Recipe, cad_models
from trainer.data.rooms.composer import Furnishings
from trainer.data.rooms.extras import write_extras
from trainer.data.rooms.places import Changes, Kin, Place, first_room, next_room
from trainer.data.scans import Split
from xscene.errors import InvalidInput, NotFound

NUM_PLACES = 300


def piece(label="chair", asset="a", model="a", vertices=100, pixels=1000, told=True):
    return Piece(
        label=label, asset_id=asset, model_id=model, num_vertices=vertices, most_pixels=pixels, is_told=told
    )


def room(scan_id, split, *pieces, three=0, kind="office", partial=False):
    return Room(
        scan_id=scan_id,
        place_id=scan_id[:-3],
        look_alikes=three,
        furniture=scan_id[:-3],
        kind=kind,
        split=split,
        partial=partial,
        num_vertices=sum(each.num_vertices for each in pieces),
        num_referrals=2,
        pieces=pieces,
    )


def test_counts_are_of_each_split_alone():
    unseen = piece("bed", "b", "c", vertices=49, pixels=499, told=False)
    rooms = [
        room("p_00", Split.TRAIN, piece(), unseen),
        room("p_01", Split.TRAIN, piece(), partial=True),
        room("q_00", Split.TEST, piece("sofa", "s", "s"), three=8, kind="kitchen"),
    ]
    found = counts(rooms, Seen())
    assert set(found) == {Split.TRAIN, Split.TEST}
    train = found[Split.TRAIN]
    assert (train.places, train.scans, train.scanned_twice, train.look_alike_sets) == (1, 2, 1, 1)
    assert (train.families, train.assets, train.models, train.pieces) == (2, 2, 2, 3)
    assert train.pieces_a_room == (1.5, 1, 2)
    assert (train.in_a_view, train.in_the_scan, train.in_neither) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert (train.told, train.partial) == pytest.approx((2 / 3, 1 / 2))
    assert train.vertices_a_scan == (124.5, 100, 149)
    assert found[Split.TEST].kinds == {"kitchen": 1}


@pytest.mark.parametrize("limit", ["min_pixels", "min_vertices"])
def test_a_piece_of_the_least_size_is_seen_and_one_below_is_not(limit):
    rooms = [room("p_00", Split.TRAIN, piece(vertices=7, pixels=7))]
    of = {"min_pixels": "in_a_view", "min_vertices": "in_the_scan"}[limit]
    assert getattr(counts(rooms, Seen(**{limit: 7}))[Split.TRAIN], of) == 1
    assert getattr(counts(rooms, Seen(**{limit: 8}))[Split.TRAIN], of) == 0
    with pytest.raises(InvalidInput, match=f"{limit}: 0, needs at least 1"):
        Seen(**{limit: 0})


def test_whatever_two_splits_share_is_named():
    clean = [
        room("p_00", Split.TRAIN, piece(asset="a", model="b")),
        room("q_00", Split.TEST, piece(asset="c", model="d"), three=1),
    ]
    assert not any(vars(overlaps(clean)).values())
    other = room("p_01", Split.VAL, piece(asset="c", model="b"))
    found = overlaps([*clean, other])
    assert (found.assets, found.models, found.places, found.look_alike_sets) == (("c",), ("b",), ("p",), (0,))


def test_rooms_are_read_from_the_extras_of_their_scans(tmp_path):
    library = box_library(tmp_path / "library")
    place = Place(seed=0, index=0)
    made = first_room(place, library, Furnishings())
    capture = captured(library, 0, made, turned(30, (1, 2, 0.1)), turned(90, (0.5, 0, 0)))
    scan = tmp_path / "data" / "scans" / capture.scan_id
    scan.mkdir(parents=True)
    write_extras(scan / "extras", capture, None)
    (found,) = read_rooms(tmp_path / "data")
    assert (found.scan_id, found.place_id, found.look_alikes) == (capture.scan_id, place.name, place.number)
    assert [each.asset_id for each in found.pieces] == [each.asset.asset_id for each in made.pieces]
    assert [each.num_vertices for each in found.pieces] == [3] * len(made.pieces)
    assert found.num_vertices == len(capture.scan.objects)
    assert found.furniture == "set 0"
    told = {capture.object_id(said.fact.target) for said in capture.referrals}
    assert sum(each.is_told for each in found.pieces) == len(told)
    numbers = {each["object_id"] for each in json.loads((scan / "extras" / "objects.json").read_text())}
    first = min(numbers - set(range(len(numbers) - len(made.pieces))))
    pixels = max(int(np.count_nonzero(view.frame.ids == first + 1)) for view in capture.views)
    assert found.pieces[0].most_pixels == pixels


def test_a_folder_without_rooms_is_refused(tmp_path):
    with pytest.raises(NotFound, match="holds no furnished rooms"):
        read_rooms(tmp_path)


def test_neither_a_place_nor_a_three_lies_in_two_splits():
    places = [Place(seed=11, index=index) for index in range(NUM_PLACES)]
    threes = {}
    for place in places:
        threes.setdefault(place.number, set()).add(place.split)
    assert all(len(splits) == 1 for splits in threes.values())
    assert [sum(place.split == split for place in places) for split in Split] == [240, 30, 30]
    assert len({place.name for place in places}) == NUM_PLACES


def test_neither_furniture_nor_its_models_lie_in_two_splits(tmp_path):
    library = box_library(tmp_path / "library")
    held = {split: set() for split in Split}
    others = []
    # One three of each split.
    for seed, index in (
        (seed, 3 * three + at) for seed, three in ((0, 0), (1, 3), (2, 8)) for at in range(3)
    ):
        place = Place(seed=seed, index=index)
        first = first_room(place, library, Furnishings())
        later = next_room(place, 1, first, library, Furnishings(), Changes())
        for made in (first, later):
            models = cad_models(place, made, Recipe(), library)
            held[Split(place.split)] |= {each.asset.asset_id for each in made.pieces}
            held[Split(place.split)] |= {model.asset_id for model in models.values()}
            others += [models[each.key] != each.asset for each in made.pieces]
    train, val, test = held.values()
    assert not train & val
    assert not train & test
    assert not val & test
    assert min(map(len, held.values())) > 10
    assert 0.2 < mean(others) < 0.6


def test_look_alikes_share_furniture_only_where_it_was_arranged_anew(tmp_path):
    library = box_library(tmp_path / "library")
    first = Place(seed=11, index=24)
    made = {
        kin: first_room(replace(first, index=24 + at), library, Furnishings()) for at, kin in enumerate(Kin)
    }
    assets = {kin: [each.asset.asset_id for each in each_room.pieces] for kin, each_room in made.items()}
    spots = {
        kin: {(each.key, each.footprint.x, each.footprint.y) for each in each_room.pieces}
        for kin, each_room in made.items()
    }
    assert set(assets[Kin.REARRANGED]) <= set(assets[Kin.FIRST])
    assert sorted(assets[Kin.REFURNISHED]) != sorted(assets[Kin.FIRST])
    assert not spots[Kin.FIRST] & spots[Kin.REARRANGED]
