"""Nearest neighbours in the features of a frozen network: what furniture and rooms look like to it.

Shapes: N pictures, F feature width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from encoders_2d import backbones
from encoders_2d.backbones import CLS, JPEG_MARGIN, MOBILENET, ImageBackbone
from encoders_2d.prepare import Resizing
from trainer.data.probes.gallery import Member, SceneOutcome, find_rescan, find_views
from trainer.data.probes.trials import Bootstrap, Mask, Outcome, Trial
from xscene.prepared.scene import Scene

Features = NDArray[np.float32]
Label = Callable[["Look"], str]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A piece of furniture in its best view, and in another one if there is one."""

    scan: Member
    object_id: int
    label: str
    asset_id: str
    best: bytes
    other: bytes | None


@dataclass(frozen=True, kw_only=True)
class Categories:
    """Naming furniture that was never seen by the nearest of the furniture that was."""

    outcome: Outcome
    gallery_pieces: int
    categories: int
    """Of the queries; the gallery has others too."""
    majority: float
    """Share of queries of the gallery's most frequent name."""
    mean_over_categories: float


class FrozenNetwork:
    """MobileNetV2 as the image encoder has it: features of unit length."""

    def __init__(self, directory: Path, *, batch_pictures: int = 16) -> None:
        backbones.weights_digest(backbones.registry().get(MOBILENET), directory)
        loaded = backbones.registry().get(MOBILENET).loader(directory)
        assert isinstance(loaded, ImageBackbone)
        self._network = loaded
        self._batch_pictures = batch_pictures
        self._resizing = Resizing(side_px=loaded.recipe.side_px, jpeg_margin=JPEG_MARGIN)

    @torch.inference_mode()
    def features(self, pictures: Iterable[bytes]) -> Features:
        """Features (N,F) of encoded pictures, in batches."""
        found = [np.zeros((0, self._network.width), dtype=np.float32)]
        for batch in _batches(pictures, self._batch_pictures):
            squares = np.stack([self._resizing.square(_decoded(data), None) for data in batch])
            found.append(self._network(torch.from_numpy(squares))[CLS].numpy())
        whole = np.concatenate(found)
        unit: Features = whole / np.linalg.norm(whole, axis=1, keepdims=True)
        return unit


def looks(scene: Scene, member: Member) -> Iterator[Look]:
    """Each piece of furniture of a scene that a view shows."""
    for each in scene.record.objects:
        rows = scene.sightings_of.get(each.object_id, [])[:2]
        if each.asset_id is None or not rows:
            continue
        crops = [scene.crops([row])[0] for row in rows]
        yield Look(
            scan=member,
            object_id=each.object_id,
            label=each.label,
            asset_id=each.asset_id,
            best=crops[0],
            other=crops[1] if len(crops) > 1 else None,
        )


def categories(
    queries: Sequence[Look],
    gallery: Sequence[Look],
    query_features: Features,
    gallery_features: Features,
    bootstrap: Bootstrap,
) -> Categories:
    """The name of the nearest piece of the gallery, against the query's own."""
    right = _equal(queries, gallery, lambda look: look.label)
    scores = query_features @ gallery_features.T
    trial = Trial(scores=scores, right=right, allowed=np.ones_like(right), clusters=_threes(queries))
    names = [look.label for look in gallery]
    most_frequent = max(sorted(set(names)), key=names.count)
    correct = right[np.arange(len(queries)), scores.argmax(axis=1)]
    labels = np.array([look.label for look in queries])
    return Categories(
        outcome=trial.outcome(bootstrap),
        gallery_pieces=len(gallery),
        categories=len(set(labels)),
        majority=float(np.mean(labels == most_frequent)),
        mean_over_categories=float(np.mean([correct[labels == name].mean() for name in sorted(set(labels))])),
    )


def instances(queries: Sequence[Look], best: Features, other: Features, bootstrap: Bootstrap) -> Outcome:
    """The very same piece in another view of the same scan, among such views of all pieces.

    Every look has another view here; features (N,F) are of the best and of the other ones.
    """
    right = _equal(queries, queries, lambda look: f"{look.scan.scan_id} {look.object_id}")
    trial = Trial(scores=best @ other.T, right=right, allowed=np.ones_like(right), clusters=_threes(queries))
    return trial.outcome(bootstrap)


def models(queries: Sequence[Look], features: Features, bootstrap: Bootstrap) -> Outcome:
    """The same model of furniture in a room that is no look-alike of the query's."""
    trial = Trial(
        scores=features @ features.T,
        right=_equal(queries, queries, lambda look: look.asset_id),
        allowed=~_equal(queries, queries, lambda look: str(look.scan.look_alikes)),
        clusters=_threes(queries),
    )
    return trial.outcome(bootstrap)


def rooms(
    features: Sequence[Features], members: Sequence[Member], bootstrap: Bootstrap
) -> dict[str, SceneOutcome]:
    """Rooms by the features of their views, one array for each scan."""
    owners = [member for member, each in zip(members, features, strict=True) for _ in range(len(each))]
    views = np.concatenate(features)
    means = np.stack([each.mean(axis=0) for each in features])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    near = views @ views.T
    return {
        "same scan, view to views": find_views(near, owners, bootstrap),
        "rescan, view to views": find_rescan(near, owners, bootstrap),
        "rescan, mean view to mean views": find_rescan(means @ means.T, members, bootstrap),
    }


def _equal(queries: Sequence[Look], gallery: Sequence[Look], label: Label) -> Mask:
    one, other = (np.array([label(look) for look in side]) for side in (queries, gallery))
    found: Mask = np.equal.outer(one, other)
    return found


def _threes(queries: Sequence[Look]) -> list[Hashable]:
    return [look.scan.look_alikes for look in queries]


def _decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _batches(pictures: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    waiting = iter(pictures)
    while batch := list(islice(waiting, size)):
        yield batch
