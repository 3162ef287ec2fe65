"""docs/data.md lists every setting of preparation with its true default, and its examples run."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from trainer.data.preparation.packs import PackSettings
from trainer.data.preparation.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/data.md").read_text()


@pytest.mark.parametrize(("what", "cls"), [("preparation", Settings), ("packs", PackSettings)])
def test_every_setting_stands_in_the_docs_with_its_default(what, cls):
    table = PAGE.partition(f"<!-- settings of {what} -->")[2].partition("\n\n|")[2].partition("\n\n")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.MULTILINE))
    assert listed == {field.name: str(field.default) for field in dataclasses.fields(cls)}


def test_the_examples_of_reading_run_on_the_sample(monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "deploy/demo/sample" in code
    ]
    assert len(examples) == 2
    first, second = {}, {}
    exec(examples[0], first)
    assert len(first["cloud"].points) > 1000
    assert first["views"][0].startswith(b"\xff\xd8")
    exec(examples[1], second)
    assert second["batch"]["scene.points"].shape[1] == 3


def test_what_rooms_hold_is_what_was_counted():
    counts = json.loads((ROOT / "docs/benchmarks/rooms.json").read_text())["study"]["counts"]

    def spread(found: list[float]) -> str:
        mean, least, most = found
        return f"{mean:.1f}, {least}..{most}" if least < most else f"{mean}"

    rows = {
        "scans of places": lambda of: f"{of['scans']} of {of['places']}",
        "pieces a scan: mean, least..most": lambda of: spread(of["pieces_a_room"]),
        "families": lambda of: str(of["families"]),
        "assets, shared with no other split": lambda of: str(of["assets"]),
        "pieces seen in a view": lambda of: f"{of['in_a_view']:.1%}",
        "pieces neither seen nor scanned": lambda of: f"{of['in_neither']:.1%}",
        "sentences a scan": lambda of: spread(of["referrals_a_room"]),
        "pieces that a sentence is about": lambda of: f"{of['told']:.1%}",
    }
    for name, cell in rows.items():
        cells = " | ".join(cell(counts[split]) for split in ("train", "val", "test"))
        assert f"| {name} | {cells} |\n" in PAGE
