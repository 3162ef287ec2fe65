"""All that is measured of a data set of rooms: counts, shortcuts, nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.probes import neighbours
from trainer.data.probes.census import Overlaps, Room, Seen, SplitCounts, counts, overlaps, read_rooms
from trainer.data.probes.cues import cues_of, word_weights, words_of
from trainer.data.probes.gallery import Member, SceneOutcome
from trainer.data.probes.neighbours import Categories, FrozenNetwork, Look, looks
from trainer.data.probes.shortcuts import shortcuts
from trainer.data.probes.trials import Bootstrap, Outcome
from trainer.data.scans import Split
from xscene.errors import PreconditionFailed
from xscene.prepared.dataset import PreparedDataset, open_dataset
from xscene.prepared.records import Split as PreparedSplit
from xscene.prepared.scene import Scene

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study counts, and how it draws its intervals."""

    seen: Seen = field(default_factory=Seen)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What frozen features find."""

    categories: Categories
    instances: Outcome
    models: Outcome
    rooms: Mapping[str, SceneOutcome]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found."""

    counts: Mapping[Split, SplitCounts]
    overlaps: Overlaps
    gallery: Mapping[str, int]
    """Scans, places and threes that the probes of rooms choose from."""
    shortcuts: Mapping[str, Mapping[str, SceneOutcome]]
    neighbours: Neighbours


@dataclass(frozen=True, eq=False)
class _Split:
    """The prepared scenes of one split, opened one by one."""

    dataset: PreparedDataset
    members: Sequence[Member]

    def scene(self, member: Member) -> Scene:
        """The scene of a scan."""
        return self.dataset.scene(member.scan_id)

    def looks(self) -> list[Look]:
        """All furniture that a view shows."""
        return [look for member in self.members for look in looks(self.scene(member), member)]


def study(
    data: Path,
    prepared: Path,
    network: FrozenNetwork,
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> Study:
    """Measure a folder of rooms, and the scenes that were prepared from it: test against train."""
    rooms, dataset = read_rooms(data), open_dataset(prepared)
    train, test = (_split(dataset, rooms, split) for split in (PreparedSplit.TRAIN, PreparedSplit.TEST))
    said = [train.scene(member).record.referrals for member in train.members]
    weights = word_weights([words_of(each.text for each in sentences) for sentences in said])
    cues = []
    for at, member in enumerate(test.members):
        cues.append(cues_of(test.scene(member)))
        progress(at + 1, len(test.members))
    return Study(
        counts=counts(rooms, settings.seen),
        overlaps=overlaps(rooms),
        gallery={
            "scans": len(test.members),
            "places": len({member.place_id for member in test.members}),
            "threes": len({member.look_alikes for member in test.members}),
        },
        shortcuts=shortcuts(cues, test.members, weights, settings.bootstrap),
        neighbours=_neighbours(train, test, network, settings.bootstrap),
    )


def _split(dataset: PreparedDataset, rooms: Sequence[Room], split: PreparedSplit) -> _Split:
    """The scenes of a split, which must be those of the rooms."""
    wanted = [room for room in rooms if room.split == split.value]
    found = dataset.scene_ids(split)
    if differing := sorted({room.scan_id for room in wanted} ^ set(found)):
        raise PreconditionFailed(
            f"split {split}: rooms and prepared scenes differ in {len(differing)} scans: {differing[0]}"
        )
    if not wanted:
        raise PreconditionFailed(f"no rooms of split {split}; 27 places or more have all splits")
    members = [
        Member(
            scan_id=room.scan_id,
            place_id=room.place_id,
            look_alikes=room.look_alikes,
            furniture=room.furniture,
        )
        for room in wanted
    ]
    return _Split(dataset, members)


def _neighbours(train: _Split, test: _Split, network: FrozenNetwork, bootstrap: Bootstrap) -> Neighbours:
    known, queries = train.looks(), test.looks()
    best = network.features(look.best for look in queries)
    twice = [at for at, look in enumerate(queries) if look.other is not None]
    other = network.features(look.other for look in queries if look.other is not None)
    views = [network.features(test.scene(member).views()) for member in test.members]
    of_known = network.features(look.best for look in known)
    return Neighbours(
        categories=neighbours.categories(queries, known, best, of_known, bootstrap),
        instances=neighbours.instances([queries[at] for at in twice], best[twice], other, bootstrap),
        models=neighbours.models(queries, best, bootstrap),
        rooms=neighbours.rooms(views, test.members, bootstrap),
    )
