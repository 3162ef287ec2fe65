"""docs/data.md lists every setting of preparation with its true default, and its examples run."""

from __future__ import annotations

import dataclasses
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
