"""Items of a request in groups: where each ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from xscene.errors import InvalidInput, LimitExceeded


@dataclass(frozen=True, kw_only=True)
class Ends:
    """An input that says where each group of items ends, ascending, the last at the last item."""

    field: str
    group: str
    """What a group is called."""
    item: str

    def decode(self, ends_G: NDArray[Any], num_items: int, *, max_groups: int | None = None) -> list[int]:
        """The ends; a fault is named by its group."""
        num_groups = len(ends_G)
        if not num_groups:
            raise InvalidInput.at(self.field, f"is empty, at least one {self.group} is needed")
        if max_groups is not None and num_groups > max_groups:
            raise LimitExceeded.of(self.field, value=num_groups, limit=max_groups, unit=f"{self.group}s")
        if num_groups > num_items:
            counts = f"{num_groups} {self.group}s, there are {num_items} {self.item}s"
            raise InvalidInput.at(self.field, counts)
        ends: list[int] = ends_G.tolist()
        for index, (start, end) in enumerate(pairwise([0, *ends])):
            if end <= start:
                least = f"needs more than {start}: a {self.group} holds at least one {self.item}"
                raise self._at(index, f"{end}, {least}")
            if end > num_items:
                raise self._at(index, f"{end}, there are {num_items} {self.item}s")
        if ends[-1] != num_items:
            last = f"the last {self.group} must end at {num_items}, the last {self.item}"
            raise self._at(len(ends) - 1, f"{ends[-1]}, {last}")
        return ends

    def _at(self, index: int, description: str) -> InvalidInput:
        return InvalidInput.at(f"{self.field}[{index}]", description)
