"""A PyTorch data set over any mix of prepared data sets, and the loader that draws from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex

from torch.utils.data import DataLoader, Dataset

from trainer.data.datasets.collation import Batch, collate
from trainer.data.datasets.samples import FEATURE, KEYS, SampleSettings, SceneReading
from trainer.data.datasets.sampling import Draw, Mixture, MixtureSampler, in_order
from xscene.errors import InvalidInput
from xscene.prepared.dataset import PreparedDataset, open_dataset
from xscene.prepared.features import GROUPS
from xscene.prepared.records import Split


class SceneDataset(Dataset[dict[str, Any]]):
    """Samples of prepared scenes by their draw, or by number in order, as validation takes them.

    Holds no open file, so workers may be forked or spawned. Each scene is verified by its digests when
    a process first reads it.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        keys: Sequence[str],
        *,
        split: Split | None = None,
        settings: SampleSettings | None = None,
        seed: int = 0,
    ) -> None:
        if not directories:
            raise InvalidInput.at("directories", "none given, needs at least one")
        self._sources = tuple(open_dataset(directory) for directory in directories)
        self._scene_ids = tuple(source.scene_ids(split) for source in self._sources)
        self._keys = tuple(keys)
        self._settings = settings or SampleSettings()
        self._seed = seed
        self._verified: set[tuple[int, int]] = set()
        for key in keys:
            self._require_known(key)

    def _require_known(self, key: str) -> None:
        if not key.startswith(FEATURE):
            if key not in KEYS:
                raise InvalidInput.at("keys", f"unknown {key!r}; known are {', '.join(KEYS)}")
            return
        backbone_id, slash, name = key.removeprefix(FEATURE).partition("/")
        known = {name for source in self._sources for name in source.record.backbones}
        if not (slash and name.partition(".")[0] in GROUPS and backbone_id in known):
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidInput.at(
                "keys", f"{key!r} needs to be {FEATURE}<backbone>/<group>.<output>; stored are {listed}"
            )

    @property
    def sources(self) -> tuple[PreparedDataset, ...]:
        """The prepared data sets."""
        return self._sources

    @property
    def sizes(self) -> tuple[int, ...]:
        """Scenes of each data set."""
        return tuple(len(ids) for ids in self._scene_ids)

    def __len__(self) -> int:
        return sum(self.sizes)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[draw] for draw in self._in_order)

    def __getitem__(self, at: Draw | SupportsIndex) -> dict[str, Any]:
        """The sample of a draw. A number has one epoch: what is random is the same each time."""
        draw = at if isinstance(at, Draw) else self._in_order[index(at)]
        return self._sample(draw)

    @cached_property
    def _in_order(self) -> list[Draw]:
        return in_order(self.sizes)

    def _sample(self, draw: Draw) -> dict[str, Any]:
        source = self._sources[draw.source]
        at = (draw.source, draw.row)
        verify = at not in self._verified
        scene = source.scene(self._scene_ids[draw.source][draw.row], verify=verify)
        self._verified.add(at)
        entropy = (self._seed, draw.epoch, draw.position)
        return SceneReading(source, scene, self._settings, entropy, verify).sample(self._keys)

    def mixed(self, weights: Sequence[float] | None = None, *, length: int | None = None) -> MixtureSampler:
        """Draws for training; without weights every scene is as likely as any other."""
        chosen = [float(size) for size in self.sizes] if weights is None else list(weights)
        return MixtureSampler(Mixture(self.sizes, tuple(chosen)), length=length, seed=self._seed)


def loader(
    dataset: SceneDataset,
    *,
    batch_size: int,
    sampler: MixtureSampler | None = None,
    num_workers: int = 0,
    drop_last: bool = False,
) -> DataLoader[Batch]:
    """Batches of an epoch; the same for any number of workers. Without a sampler each scene comes once."""
    order: Any = in_order(dataset.sizes) if sampler is None else sampler
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=order,
        num_workers=num_workers,
        collate_fn=collate,
        drop_last=drop_last,
        persistent_workers=False,
    )
