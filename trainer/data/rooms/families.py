"""Families of furniture: which models belong together, how people call them, and their split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from trainer.data.rooms.catalogue import Model
from xscene.errors import InvalidInput

MIN_SPLIT_ASSETS = 6
HELD_OUT_SHARE = 0.2
Range = tuple[float, float]
ANY: Range = (0.0, 9.0)


class Split(StrEnum):
    """Which rooms a place, and a model, are for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of furniture and the rule that says which models are of it."""

    name: str
    nyu40: int
    names: str
    """What the catalogue may call it: a pattern for the whole name."""
    words: tuple[str, ...] = ()
    """What else people call it."""
    categories: str = ".*"
    width_m: Range = ANY
    depth_m: Range = ANY
    height_m: Range = ANY
    elevation_m: Range = ANY

    def takes(self, model: Model) -> bool:
        """Whether a model is of this family."""
        ranges = (self.width_m, self.depth_m, self.height_m, self.elevation_m)
        values = (*model.size_m, model.elevation_m)
        return (
            re.fullmatch(self.names, model.name) is not None
            and re.fullmatch(self.categories, model.category) is not None
            and all(low <= value <= high for value, (low, high) in zip(values, ranges, strict=True))
        )


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="chair",
            nyu40=5,
            names="Chair|Oak chair|Chair with cushion|Folding chair|Plastic chair|Osaka chair",
            words=("seat",),
            categories="Living room",
            width_m=(0, 0.66),
            height_m=(0.7, 1.25),
        ),
        Family(
            name="office chair",
            nyu40=5,
            names="Chair|Armchair|Class seat",
            words=("desk chair",),
            categories="Office",
            width_m=(0, 0.9),
        ),
        Family(
            name="armchair",
            nyu40=5,
            names="Armchair|Modern armchair|Winchester armchair",
            words=("easy chair", "lounge chair"),
            categories="Living room",
            width_m=(0.5, 1.2),
            depth_m=(0.5, 1.1),
        ),
        Family(
            name="children's chair",
            nyu40=5,
            names="Child chair|Children chair",
            words=("small chair",),
        ),
        Family(
            name="sofa",
            nyu40=6,
            names="(Clear |Winchester |Burlap )?[Ss]ofa|Sofa . seats|Couch|Futon couch|Convertible sofa BZ",
            words=("couch", "settee"),
            depth_m=(0, 1.1),
        ),
        Family(
            name="corner sofa", nyu40=6, names="Corner sofa|Couch", words=("corner couch",), depth_m=(1.2, 2)
        ),
        Family(
            name="bed",
            nyu40=4,
            names="Bed|Iron bed|Captain's bed|Day bed|Child bed",
            height_m=(0.3, 1.3),
        ),
        Family(name="bunk bed", nyu40=4, names="Bunk bed|Mezzanine bed", words=("high bed",)),
        Family(name="crib", nyu40=4, names="Crib|Baby bed", words=("cot",)),
        Family(name="night stand", nyu40=32, names="Bedside table", words=("bedside table",)),
        Family(
            name="wardrobe",
            nyu40=3,
            names="Wardrobe|Cupboard",
            words=("closet",),
            categories="Bedroom",
        ),
        Family(name="dresser", nyu40=17, names="Chest|Dresser with drawers", words=("chest of drawers",)),
        Family(name="dressing table", nyu40=17, names="Dressing table", words=("vanity table",)),
        Family(name="changing table", nyu40=17, names="Changing table"),
        Family(
            name="bookshelf",
            nyu40=10,
            names="Bookcase|Shelves|Full bookcase|Vertical shelves",
            words=("bookcase", "shelf"),
            width_m=(0, 2.6),
        ),
        Family(name="tv stand", nyu40=3, names="TV stand|Television cabinet", words=("television cabinet",)),
        Family(name="tv", nyu40=25, names="TV|TV 16:9|Wall flat TV", words=("television",)),
        Family(
            name="desk",
            nyu40=14,
            names="Desk|Desk table|Wooden desk|Wooden (alder |teak )?table|Technical table",
            words=("work table", "writing desk"),
            categories="Office",
            depth_m=(0, 1.25),
        ),
        Family(
            name="table",
            nyu40=7,
            names="Table|Oak table|Round table|Black table|Glass table|Folding table|Table on trestles"
            "|Table with tablecloth",
            words=("dining table",),
            categories="Living room",
            height_m=(0.7, 0.8),
        ),
        Family(
            name="coffee table",
            nyu40=7,
            names="Coffee table|Table",
            words=("low table",),
            height_m=(0.4, 0.56),
        ),
        Family(name="bar table", nyu40=7, names="Bar table", words=("high table",)),
        Family(name="children's table", nyu40=7, names="Children table", words=("small table",)),
        Family(
            name="bar stool",
            nyu40=5,
            names="Stool|Bar stool|Bar chair",
            words=("high stool",),
            height_m=(0.7, 1.2),
        ),
        Family(name="stool", nyu40=5, names="Stool|Piano bench", height_m=(0.3, 0.6)),
        Family(name="bean bag", nyu40=5, names="Puff", words=("pouffe",)),
        Family(
            name="plant",
            nyu40=40,
            names="Plant|Little plant|Cactus|Decorative plant|Orchids|Bamboo|Indoor plant|Spathiphyllum"
            "|Yucca|Spider plant|White lily|Tulips|Flowers|Ficus|Bonsai tree",
            words=("potted plant",),
            categories="Living room",
        ),
        Family(name="vase", nyu40=40, names="Vase|Old jar", words=("pot",), height_m=(0.15, 1)),
        Family(
            name="table lamp",
            nyu40=35,
            names="Lamp|Little lamp|Desk lamp|Pedestal vase lamp",
            words=("reading lamp", "small lamp"),
            height_m=(0.3, 0.85),
            elevation_m=(0, 0.1),
        ),
        Family(
            name="floor lamp",
            nyu40=35,
            names="Lamp|Street lamp",
            words=("standing lamp",),
            height_m=(1.2, 2.6),
            width_m=(0, 0.5),
        ),
        Family(
            name="ceiling lamp",
            nyu40=35,
            names="Lamp|Hanging light|Pendant lamp|Ceiling lamp|Fluorescent light",
            words=("hanging lamp", "ceiling light"),
            elevation_m=(1.5, 9),
        ),
        Family(
            name="radiator",
            nyu40=39,
            names="Radiator",
            words=("heater",),
            depth_m=(0, 0.26),
            elevation_m=(0, 0.3),
        ),
        Family(
            name="towel radiator",
            nyu40=39,
            names="Radiator",
            words=("towel heater",),
            elevation_m=(0.31, 1),
        ),
        Family(
            name="cabinet",
            nyu40=3,
            names="Lower cabinet|Drawers cabinet|Small lower cabinet|Lower corner cabinet|Island",
            words=("kitchen cabinet", "base cabinet"),
        ),
        Family(
            name="upper cabinet",
            nyu40=3,
            names="Upper cabinet|Small upper cabinet|Glass door cabinet",
            words=("wall cabinet",),
            elevation_m=(1.2, 2),
        ),
        Family(name="tall cabinet", nyu40=3, names="High cabinet", words=("oven cabinet",)),
        Family(name="filing cabinet", nyu40=3, names="Filing cabinet", words=("file cabinet",)),
        Family(
            name="refrigerator",
            nyu40=24,
            names="Refrigerator|Large fridge|Fridge",
            words=("fridge",),
        ),
        Family(name="stove", nyu40=38, names="Large stove|Propane stove", words=("cooker",)),
        Family(name="kitchen sink", nyu40=34, names="Sink cabinet|Sink", words=("sink",)),
        Family(
            name="washbasin",
            nyu40=34,
            names="Washbasin|Vanity|Small lavatory",
            words=("bathroom sink", "basin"),
            categories="Bathroom",
        ),
        Family(name="bathtub", nyu40=36, names="Bath|Corner bathtub|Island bath", words=("tub",)),
        Family(name="toilet", nyu40=33, names="Toilets unit", words=("lavatory",)),
        Family(name="bidet", nyu40=38, names="Bidet"),
        Family(name="shower", nyu40=38, names="Shower stall", words=("shower cabin",)),
        Family(
            name="washing machine",
            nyu40=38,
            names="Washing machine|Clothes washing machine|Dryer machine",
            words=("washer",),
        ),
        Family(name="laundry basket", nyu40=40, names="Clothes basket", words=("hamper",)),
        Family(
            name="trash can",
            nyu40=39,
            names="Dustbin|Bullet trash can|Recycling bin",
            words=("waste bin", "rubbish bin"),
        ),
        Family(name="piano", nyu40=39, names="Upright piano"),
        Family(name="fireplace", nyu40=38, names="Fireplace", height_m=(0, 1.2)),
        Family(name="aquarium", nyu40=40, names="Aquarium", words=("fish tank",)),
        Family(
            name="computer", nyu40=40, names="Laptop|Apple iBook|Apple iMac .*", words=("personal computer",)
        ),
        Family(name="printer", nyu40=40, names="Inkjet printer and scanner"),
        Family(name="telephone", nyu40=40, names="Phone", words=("phone",)),
        Family(
            name="box",
            nyu40=29,
            names="Box|Crate|Cardboard box|Open cardboard box|Trunck",
            words=("container",),
            categories="Miscellaneous",
        ),
        Family(
            name="bag", nyu40=37, names="Suitcase|Backpack|Briefcase|Handbag", words=("piece of luggage",)
        ),
        Family(
            name="toy",
            nyu40=40,
            names="Teddy bear|Rocking horse|Toy train|Car model|Xylophone|Doll house|Basketball|Soccer ball",
            words=("plaything",),
        ),
        Family(
            name="bowl",
            nyu40=40,
            names="Bowl|Apples|Bowl with fruits|Bowl with salad",
            words=("dish",),
        ),
        Family(
            name="kitchen appliance",
            nyu40=40,
            names="Mixer|Coffee brewer|Blender|Microwave|Coffee maker|Coffee machine|Toaster|Cooker"
            "|Small oven|Deep fryer|Kitchen scale|Stone grill device|Bread box",
            words=("kitchen device",),
        ),
        Family(
            name="stereo",
            nyu40=39,
            names="Radio|Mini stereo|MP3 base|MP3 station|Stereo amplifier|Speaker",
            words=("music player",),
        ),
        Family(name="fan", nyu40=40, names="Table fan|Rigged fan", words=("ventilator",)),
        Family(name="whiteboard", nyu40=30, names="White board"),
        Family(name="water cooler", nyu40=40, names="Water cooler", words=("water dispenser",)),
        Family(name="clothes rack", nyu40=39, names="Clothes rack"),
        Family(name="ladder", nyu40=39, names="Step ladder|Small step ladder", words=("step ladder",)),
        Family(name="towel rack", nyu40=27, names="Towel rack", words=("towel rail",), height_m=(0.3, 1)),
    )
}


def family_of(model: Model) -> Family | None:
    """The family of a model; None where no rule takes it, and two rules must never take it."""
    found = [family for family in FAMILIES.values() if family.takes(model)]
    if len(found) > 1:
        names = " and ".join(family.name for family in found)
        raise InvalidInput.at(model.asset_id, f"is taken by the rules of {names}")
    return found[0] if found else None


def split_assets(asset_ids: Iterable[str], *, min_assets: int = MIN_SPLIT_ASSETS) -> dict[str, Split]:
    """The split of each asset of one family; a family of few is for training alone.

    The order is that of a digest of the ids, so that no seed moves an asset to another split.
    """
    order = sorted(asset_ids, key=lambda asset: hashlib.sha256(asset.encode()).digest())
    if len(order) < min_assets:
        return dict.fromkeys(order, Split.TRAIN)
    num_held_out = max(1, round(len(order) * HELD_OUT_SHARE))
    splits = [Split.VAL] * num_held_out + [Split.TEST] * num_held_out
    splits += [Split.TRAIN] * (len(order) - len(splits))
    return dict(zip(order, splits, strict=True))
