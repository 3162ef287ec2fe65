"""Training runs as they are ordered, listed, watched and published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from xscene.errors import InvalidInput, LimitExceeded
from xscene.types.scenes import ModelInfo, require_aware
from xscene.types.values import require_count, require_several
from xscene.types.vocabulary import RunState

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What JSON can say; all numbers travel as doubles."""

# Parsers of messages stop at 100 nested messages, and one level of JSON takes three.
MAX_JSON_DEPTH = 30
# Doubles hold whole numbers of so many bits exactly.
MAX_INT_BITS = 53
_EVENTS = ("state", "log", "metrics", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What to train: a recipe, its data sets, and the fields of the recipe to change.

    With `parent_run_id` the run starts from the best checkpoint of that one.
    """

    recipe: str
    datasets: tuple[str, ...] = ()
    parent_run_id: str = ""
    seed: int = 0
    overrides: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_several(self.datasets, "datasets")
        require_count(self.seed, "seed", low=0, num_bits=64)
        require_json(dict(self.overrides), "overrides")


def require_json(value: object, path: str, depth: int = 0) -> None:
    """Refuses what JSON cannot say, or doubles cannot hold; lists and mappings count as levels."""
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int | float):
        _require_number(value, path)
        return
    if depth == MAX_JSON_DEPTH:
        raise LimitExceeded.of(path, value=depth + 1, limit=MAX_JSON_DEPTH, unit="levels")
    for part_path, part in _parts(value, path):
        require_json(part, part_path, depth + 1)


def _require_number(value: float, path: str) -> None:
    if isinstance(value, int):
        if value.bit_length() > MAX_INT_BITS:
            raise LimitExceeded.of(path, value=value.bit_length(), limit=MAX_INT_BITS, unit="bits")
    elif not math.isfinite(value):
        raise InvalidInput.at(path, f"{value}, needs a finite number")


def _parts(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Items of a list or a mapping, each with its path."""
    if isinstance(value, list):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput.at(path, f"key {key!r} is no text")
            yield f'{path}["{key}"]', item
    else:
        known = "None, a bool, a number, a str, a list or a dict"
        raise InvalidInput.at(path, f"{type(value).__name__}, needs {known}")


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """Asks for a run; the name makes a retry create nothing twice."""

    run_id: str
    config: RunConfig


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run: `step` of `num_steps` optimizer steps are done.

    `metrics` holds the latest value of each; one that diverged is not finite. `next_offset` is the offset
    after the last event.
    """

    run_id: str
    config: RunConfig
    state: RunState
    created_at: datetime
    updated_at: datetime
    step: int = 0
    num_steps: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    next_offset: int = 0

    def __post_init__(self) -> None:
        require_aware(self.created_at, "created_at")
        require_aware(self.updated_at, "updated_at")


@dataclass(frozen=True, kw_only=True)
class RunListing:
    """Asks for a page of runs in one of these states, or in any; without a size the server's default."""

    states: tuple[RunState, ...] = ()
    page_size: int | None = None
    page_token: str = ""

    def __post_init__(self) -> None:
        require_several(self.states, "states")
        require_count(self.page_size, "page_size")


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Runs, newest first; an empty token says that this was the last page."""

    runs: tuple[Run, ...]
    next_page_token: str = ""


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """Values measured after an optimizer step, by name; one that diverged is not finite."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunCheckpoint:
    """A checkpoint was written after an optimizer step; `best` so far, or not."""

    step: int
    best: bool


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """One thing that happened in a run, and so one of the last four; offsets count from 0 without gaps."""

    offset: int
    time: datetime
    state: RunState | None = None
    log: str | None = None
    metrics: RunMetrics | None = None
    checkpoint: RunCheckpoint | None = None

    def __post_init__(self) -> None:
        require_aware(self.time, "time")
        given = [name for name in _EVENTS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise InvalidInput.at("event", f"{found}, needs one of {', '.join(_EVENTS)}")


@dataclass(frozen=True, kw_only=True)
class PublishOrder:
    """Asks for the best checkpoint of a run to become the bundle of this name."""

    run_id: str
    bundle: str


@dataclass(frozen=True, kw_only=True)
class PublishOutcome:
    """What one service did with a bundle; `reason` says why it has not loaded it."""

    service: str
    loaded: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A bundle that was written, and what each service did with it."""

    model: ModelInfo
    outcomes: tuple[PublishOutcome, ...]
