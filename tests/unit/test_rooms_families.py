"""Families of furniture: no model in the wrong one, and splits that no seed moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.rooms import families
from trainer.data.rooms.catalogue import Model
from trainer.data.rooms.families import FAMILIES, Family, Split, family_of, split_assets
from trainer.data.rooms.programmes import PROGRAMMES
from trainer.data.rooms.relations import FRONTED
from xscene.errors import InvalidInput


def model(name, category="Living room", size=(0.5, 0.5, 0.9), elevation_m=0.0):
    width, depth, height = size
    return Model(
        asset_id=f"Test#{name}",
        name=name,
        category=category,
        width_m=width,
        depth_m=depth,
        height_m=height,
        elevation_m=elevation_m,
        drop_on_top_m=None,
        rotation=np.eye(3),
        archive="a",
        path="p",
        author="x",
        licence="y",
    )


@pytest.mark.parametrize(
    ("item", "family"),
    [
        (model("Stool", "Kitchen", (0.4, 0.4, 0.8)), "bar stool"),
        (model("Stool", size=(0.4, 0.4, 0.46)), "stool"),
        (model("Chair"), "chair"),
        (model("Chair", "Office", (0.6, 0.6, 1.0)), "office chair"),
        (model("Armchair", "Office", (0.6, 0.6, 1.05)), "office chair"),
        (model("Armchair", size=(0.9, 0.8, 0.8)), "armchair"),
        (model("Couch", size=(2.0, 0.9, 0.85)), "sofa"),
        (model("Couch", size=(2.3, 1.6, 0.87)), "corner sofa"),
        (model("Table", size=(1.4, 0.9, 0.75)), "table"),
        (model("Table", size=(1.0, 0.7, 0.53)), "coffee table"),
        (model("Lamp", "Lights", (0.3, 0.3, 0.4)), "table lamp"),
        (model("Lamp", "Lights", (0.4, 0.4, 1.43)), "floor lamp"),
        (model("Lamp", "Lights", (0.5, 0.5, 0.6), 1.87), "ceiling lamp"),
        (model("Box", "Miscellaneous"), "box"),
        (model("Box", "Office", (2.1, 0.5, 1.7)), None),
        (model("Hospital bed", "Bedroom"), None),
        (model("Table tennis", "Miscellaneous"), None),
        (model("Wheelchair", "Miscellaneous"), None),
    ],
)
def test_a_model_is_of_the_family_that_people_would_say(item, family):
    found = family_of(item)
    assert (found.name if found else None) == family


def test_a_model_that_two_rules_take_is_refused(monkeypatch):
    twin = Family(name="twin", nyu40=5, names="Chair")
    monkeypatch.setattr(families, "FAMILIES", {**FAMILIES, "twin": twin})
    with pytest.raises(InvalidInput, match=r"^Test#Chair: is taken by the rules of chair and twin$"):
        family_of(model("Chair"))


@given(st.sets(st.text("abcdef", min_size=1), max_size=30))
def test_families_of_few_are_for_training_and_others_are_held_out_in_part(assets):
    splits = split_assets(assets)
    assert set(splits) == assets
    counts = {split: list(splits.values()).count(split) for split in Split}
    if len(assets) < 6:
        assert counts[Split.TRAIN] == len(assets)
    else:
        assert counts[Split.VAL] == counts[Split.TEST] >= 1
        assert counts[Split.TRAIN] >= len(assets) / 2


def test_the_order_of_assets_moves_none_to_another_split():
    names = [f"asset {at}" for at in range(20)]
    assert split_assets(names) == split_assets(reversed(names))


def test_programmes_and_fronts_name_families_that_exist():
    named = {
        family
        for programme in PROGRAMMES.values()
        for want in programme.wants
        for family in (*want.families, *want.near)
    }
    cores = {
        family for programme in PROGRAMMES.values() for core in programme.core for family in core.split("|")
    }
    assert named | cores | FRONTED <= set(FAMILIES)
    assert {family.nyu40 for family in FAMILIES.values()} <= set(range(1, 41))
