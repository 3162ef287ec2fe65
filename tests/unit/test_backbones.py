"""The backbone registry: names are unique, and a wrong one is answered with the right ones."""

import dataclasses
from pathlib import Path

import pytest
from torch import nn

from xscene.errors import AlreadyExists, InvalidInput, NotFound
from xscene.nn.backbones import Backbone, Registry


def load_linear(_weights: Path) -> nn.Module:
    return nn.Linear(4, 8)


def entry(name: str, **changes) -> Backbone:
    fields = {
        "kind": "image",
        "widths": {"cls": 8},
        "loader": load_linear,
        "licence": "Apache-2.0",
        "preprocessing": {"size_px": 224, "mean": (0.485, 0.456, 0.406)},
        "digest": "ab" * 32,
    }
    return Backbone(name=name, **(fields | changes))


def test_an_entry_comes_back_as_it_was_registered():
    registry, backbone = Registry(), entry("tiny")
    registry.register(backbone)
    assert registry.get("tiny") is backbone
    assert registry.get("tiny").loader(Path()).out_features == backbone.widths["cls"]


def test_names_are_sorted_and_can_be_narrowed_to_a_kind():
    registry = Registry()
    for backbone in (entry("b"), entry("a"), entry("words", kind="text")):
        registry.register(backbone)
    assert registry.names() == ("a", "b", "words")
    assert registry.names("image") == ("a", "b")


def test_an_unknown_name_is_answered_with_the_known_ones():
    registry = Registry()
    with pytest.raises(NotFound, match="backbone 'x' is not registered; known: none"):
        registry.get("x")
    registry.register(entry("b"))
    registry.register(entry("a"))
    with pytest.raises(NotFound, match="known: a, b"):
        registry.get("x")


def test_a_name_is_taken_once():
    registry, first = Registry(), entry("tiny")
    registry.register(first)
    with pytest.raises(AlreadyExists, match="backbone tiny is already registered"):
        registry.register(entry("tiny", licence="MIT"))
    assert registry.get("tiny") is first


def test_registries_share_nothing():
    Registry().register(entry("tiny"))
    assert Registry().names() == ()


def test_an_entry_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry("tiny").licence = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": ""}, "licence: is empty"),
        ({"widths": {}}, "widths: names no output"),
        ({"widths": {"cls": 0}}, r"widths\[cls\]: 0, at least 1"),
        ({"digest": "b0353104"}, "digest: 'b0353104' is not 64 hex digits"),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused_by_field(changes, message):
    with pytest.raises(InvalidInput, match=message):
        entry("tiny", **changes)


def test_users_may_bring_weights_of_their_own():
    assert entry("own", digest=None).digest is None
