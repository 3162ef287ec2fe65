"""What stands in which kind of room, and where: the furniture programmes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Where(StrEnum):
    """How a piece of furniture finds its place."""

    WALL = "wall"
    """With its back against a wall; at its own height where it hangs."""
    CORNER = "corner"
    """Against a wall, at one of its ends."""
    FACING = "facing"
    """In front of another piece, turned towards it."""
    BEFORE = "before"
    """In front of another piece, turned the same way."""
    AROUND = "around"
    """At any side of another piece, turned towards it."""
    BESIDE = "beside"
    """To the left or right of another piece, turned the same way; else against a wall."""
    ABOVE = "above"
    """On the wall above another piece."""
    MIDDLE = "middle"
    """Away from the walls."""
    TOP = "top"
    """Standing on another piece."""
    CEILING = "ceiling"


@dataclass(frozen=True, kw_only=True)
class Want:
    """A wish for furniture: one of these families, so many of them, in this share of rooms."""

    families: tuple[str, ...]
    where: Where
    near: tuple[str, ...] = ()
    """Families of the other piece."""
    count: tuple[int, int] = (1, 1)
    share: float = 1.0
    max_width_m: float = 9.0
    height_m: tuple[float, float] = (0.0, 9.0)
    same_model: bool = False
    """Whether all of them are of one model, as chairs at a table are."""


@dataclass(frozen=True, kw_only=True)
class Programme:
    """A kind of room: its sizes and its furniture, the first pieces first."""

    name: str
    scene_type: str
    """What ScanNet calls it."""
    sizes: tuple[str, ...]
    windows: tuple[int, int]
    wants: tuple[Want, ...]
    core: tuple[str, ...]
    """Families without which it is no such room."""
    held_out: bool = True
    """Whether validation and test have it too: only where enough of its families have a split."""


def _want(
    families: str,
    where: Where,
    near: str = "",
    *,
    count: tuple[int, int] = (1, 1),
    share: float = 1.0,
    max_width_m: float = 9.0,
    height_m: tuple[float, float] = (0.0, 9.0),
    same_model: bool = False,
) -> Want:
    """A wish whose families are written with bars between them; a repeated one is as much more likely."""
    return Want(
        families=tuple(families.split("|")),
        where=where,
        near=tuple(near.split("|")) if near else (),
        count=count,
        share=share,
        max_width_m=max_width_m,
        height_m=height_m,
        same_model=same_model,
    )


SMALL_TOPS = "coffee table|bookshelf|desk|table|dresser|night stand|tv stand|cabinet|filing cabinet"
LARGE_PLANT, SMALL_PLANT = (0.58, 2.0), (0.0, 0.58)

_LAMP = _want("ceiling lamp", Where.CEILING)
_RADIATOR = _want("radiator", Where.WALL, share=0.6)
_BIN = _want("trash can", Where.CORNER, share=0.5)
_GREEN = _want("plant", Where.CORNER, share=0.7, height_m=LARGE_PLANT)
_POTS = _want("plant", Where.TOP, SMALL_TOPS, share=0.7, count=(1, 2), height_m=SMALL_PLANT)
_VASES = _want("vase", Where.TOP, SMALL_TOPS, share=0.6, count=(1, 2), height_m=(0, 0.6))
_TABLE_LAMPS = _want("table lamp", Where.TOP, SMALL_TOPS, share=0.8, count=(1, 2))
_BOXES = _want("box", Where.CORNER, share=0.4, count=(1, 2))

PROGRAMMES: Mapping[str, Programme] = {
    programme.name: programme
    for programme in (
        Programme(
            name="living room",
            scene_type="Living room / Lounge",
            sizes=("middle", "large"),
            windows=(1, 3),
            core=("sofa|corner sofa",),
            wants=(
                _want("sofa|sofa|corner sofa", Where.WALL),
                _want("coffee table", Where.BEFORE, "sofa|corner sofa", share=0.9),
                _want("tv stand", Where.WALL, share=0.7),
                _want("armchair", Where.AROUND, "coffee table", count=(1, 2)),
                _want("bookshelf", Where.WALL, count=(1, 2)),
                _want("piano", Where.WALL, share=0.15),
                _want("fireplace", Where.WALL, share=0.2),
                _want("aquarium", Where.TOP, "tv stand|dresser|bookshelf", share=0.15),
                _want("tv", Where.TOP, "tv stand", share=0.9),
                _want("stereo", Where.TOP, SMALL_TOPS, share=0.5),
                _want("floor lamp", Where.CORNER, share=0.4),
                _want("plant", Where.CORNER, count=(1, 2), height_m=LARGE_PLANT),
                _RADIATOR,
                _POTS,
                _VASES,
                _TABLE_LAMPS,
                _want("bowl", Where.TOP, "coffee table", share=0.4),
                _BOXES,
                _LAMP,
            ),
        ),
        Programme(
            name="bedroom",
            scene_type="Bedroom / Hotel",
            sizes=("middle",),
            windows=(1, 2),
            core=("bed",),
            wants=(
                _want("bed", Where.WALL),
                _want("night stand", Where.BESIDE, "bed", count=(1, 2), same_model=True),
                _want("wardrobe", Where.WALL, share=0.8),
                _want("desk", Where.WALL, share=0.5, max_width_m=1.7),
                _want("chair", Where.FACING, "desk", share=0.8),
                _want("dresser|bookshelf|dressing table", Where.WALL, share=0.8),
                _want("bookshelf", Where.WALL, share=0.6),
                _want("crib", Where.WALL, share=0.15),
                _want("armchair", Where.CORNER, share=0.6),
                _RADIATOR,
                _GREEN,
                _TABLE_LAMPS,
                _POTS,
                _VASES,
                _want("bag", Where.CORNER, share=0.4),
                _want("clothes rack", Where.WALL, share=0.2),
                _BOXES,
                _LAMP,
            ),
        ),
        Programme(
            name="office",
            scene_type="Office",
            sizes=("middle", "middle", "large"),
            windows=(1, 3),
            core=("desk",),
            wants=(
                _want("desk", Where.WALL, count=(1, 3), max_width_m=1.95),
                _want("office chair|chair", Where.FACING, "desk", count=(1, 3), same_model=True),
                _want("bookshelf", Where.WALL, count=(1, 2)),
                _want("filing cabinet", Where.WALL, share=0.5, count=(1, 2)),
                _want("whiteboard", Where.WALL, share=0.3),
                _want("water cooler", Where.CORNER, share=0.3),
                _want("armchair", Where.CORNER, share=0.4),
                _want("computer", Where.TOP, "desk", count=(1, 2)),
                _want("telephone", Where.TOP, "desk", share=0.5),
                _want("printer", Where.TOP, "desk|filing cabinet|bookshelf", share=0.4),
                _want("table lamp", Where.TOP, "desk", count=(1, 2)),
                _POTS,
                _GREEN,
                _RADIATOR,
                _want("fan", Where.TOP, "desk|bookshelf", share=0.2),
                _want("vase", Where.TOP, "desk|bookshelf", share=0.4, height_m=(0, 0.6)),
                _BIN,
                _BOXES,
                _LAMP,
            ),
        ),
        Programme(
            name="dining room",
            scene_type="Dining Room",
            sizes=("middle",),
            windows=(1, 3),
            core=("table", "chair"),
            wants=(
                _want("table", Where.MIDDLE),
                _want("chair", Where.AROUND, "table", count=(3, 6), same_model=True),
                _want("dresser|bookshelf", Where.WALL),
                _want("bookshelf", Where.WALL, share=0.4),
                _want("armchair", Where.CORNER, share=0.4),
                _want("bowl", Where.TOP, "table", share=0.8),
                _VASES,
                _want("vase", Where.TOP, "table", share=0.5, height_m=(0, 0.6)),
                _GREEN,
                _GREEN,
                _POTS,
                _want("table lamp", Where.TOP, "bookshelf|dresser", share=0.6),
                _RADIATOR,
                _want("floor lamp", Where.CORNER, share=0.3),
                _LAMP,
            ),
        ),
        Programme(
            name="kitchen",
            scene_type="Kitchen",
            sizes=("small", "middle"),
            windows=(1, 2),
            core=("cabinet",),
            wants=(
                _want("cabinet", Where.WALL),
                _want("kitchen sink", Where.BESIDE, "cabinet"),
                _want("stove", Where.BESIDE, "cabinet|kitchen sink"),
                _want("cabinet", Where.BESIDE, "cabinet|kitchen sink|stove", count=(2, 4)),
                _want("refrigerator", Where.WALL),
                _want("tall cabinet", Where.WALL, share=0.3),
                _want("upper cabinet", Where.ABOVE, "cabinet|kitchen sink", count=(1, 3), same_model=True),
                _want("washing machine", Where.WALL, share=0.3),
                _want("table", Where.MIDDLE, share=0.8, max_width_m=1.7),
                _want("chair", Where.AROUND, "table", count=(2, 4), same_model=True),
                _want("bar stool", Where.CORNER, share=0.6, count=(1, 2), same_model=True),
                _want("kitchen appliance", Where.TOP, "cabinet|table", count=(1, 3)),
                _want("bowl", Where.TOP, "table|cabinet", share=0.7),
                _want("vase", Where.TOP, "table|cabinet", share=0.5, height_m=(0, 0.6)),
                _want("plant", Where.TOP, "table|cabinet", share=0.5, height_m=SMALL_PLANT),
                _GREEN,
                _BIN,
                _RADIATOR,
                _LAMP,
            ),
        ),
        Programme(
            name="children's room",
            scene_type="Bedroom / Hotel",
            sizes=("middle",),
            windows=(1, 2),
            core=("bed|bunk bed|crib",),
            wants=(
                _want("bed|bed|bunk bed|crib", Where.WALL, max_width_m=1.5),
                _want("wardrobe", Where.WALL, share=0.6),
                _want("desk", Where.WALL, share=0.7, max_width_m=1.45),
                _want("chair", Where.FACING, "desk"),
                _want("bookshelf", Where.WALL, share=0.9, max_width_m=1.3),
                _want("children's table", Where.MIDDLE, share=0.5),
                _want("children's chair", Where.AROUND, "children's table", count=(1, 3), same_model=True),
                _want("changing table", Where.WALL, share=0.2),
                _want("bean bag", Where.CORNER, share=0.4),
                _want("box", Where.CORNER, share=0.8, count=(1, 2)),
                _want("toy", Where.CORNER, count=(2, 4)),
                _want("toy", Where.TOP, "bookshelf|desk|dresser|children's table", count=(1, 2)),
                _want("table lamp", Where.TOP, "desk|bookshelf"),
                _want("plant", Where.TOP, "desk|bookshelf", share=0.5, height_m=SMALL_PLANT),
                _want("armchair", Where.CORNER, share=0.4),
                _want("plant", Where.CORNER, share=0.4, height_m=LARGE_PLANT),
                _RADIATOR,
                _LAMP,
            ),
        ),
        Programme(
            name="bathroom",
            scene_type="Bathroom",
            sizes=("small",),
            windows=(0, 1),
            core=("toilet", "washbasin"),
            held_out=False,
            wants=(
                _want("bathtub|bathtub|shower", Where.WALL),
                _want("washbasin", Where.WALL),
                _want("toilet", Where.WALL),
                _want("bidet", Where.WALL, share=0.3),
                _want("washing machine", Where.WALL, share=0.6),
                _want("laundry basket", Where.CORNER, share=0.6),
                _want("towel rack", Where.WALL, share=0.6),
                _want("towel radiator|radiator", Where.WALL, share=0.8),
                _BIN,
                _want("stool", Where.CORNER, share=0.4),
                _want("plant", Where.CORNER, share=0.5, height_m=(0.3, 1.2)),
                _want("plant", Where.TOP, "washing machine", share=0.5, height_m=SMALL_PLANT),
                _LAMP,
            ),
        ),
    )
}
