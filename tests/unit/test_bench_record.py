"""Samples on disk, going on with them, the order of rounds, and the page that is made of them."""

from __future__ import annotations

import random
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.bench import cases, goals, machine, plot, report, rounds, samples, workloads
from deploy.bench.app import app
from deploy.bench.cases import Choice
from deploy.bench.report import RECORD_FILE
from deploy.bench.samples import Record, Sample
from xscene.errors import PreconditionFailed

NUM_ROUNDS = 3
# CPU ms of an item by target: what the figures below are worked out from.
CPU_MS = {
    cases.BARE: 4.0,
    cases.TORCH: 3.8,
    cases.SERVED: 4.5,
    "pytriton": 6.0,
    "mosec": 4.4,
    cases.NULL: 8.0,
}
P50_MS = {cases.PLAIN: 5.0, cases.RAW: 7.0, cases.OWN: 6.0, cases.SHARED: 2.5, cases.TYPED: 200.0}


def plan(**given: Any) -> dict[str, Any]:
    fixed: dict[str, Any] = {
        "commit": "0123456789ab",
        "seconds": 1.0,
        "window_ms": 5.0,
        "max_batch": 32,
        "seed": 1,
        "cells": {group: list(cells) for group, cells in cases.CELLS.items()},
        "machine": {"cpu": "a CPU", "cores": 2},
    }
    return fixed | given


def made(choice: Choice) -> Iterator[Sample]:
    """Samples as a run gives them, with times that are known."""
    for number in range(NUM_ROUNDS):
        for case in cases.cases(choice):
            items = case.job.batch
            cpu_ms = CPU_MS.get(case.target, 1.0)
            yield Sample(
                group=case.group,
                cell=case.cell,
                target=case.target,
                round=number,
                num_calls=100,
                items_per_call=items,
                wall_s=1.0,
                server_cpu_s=cpu_ms * 100 * items / 1e3,
                client_cpu_s=0.1,
                p50_ms=P50_MS.get(case.target, 5.0),
                p90_ms=9.0,
                p99_ms=12.0,
                load_1min=0.5,
            )


def record(choice: Choice | None = None) -> Record:
    run = {
        "command": "python -m deploy bench serving",
        "date": "2026-11-21T09:00+00:00",
        "load_before": [0.1, 0.2, 0.3],
        "peers": {"mosec": "mosec 0.9.8"},
    }
    return Record(plan=plan(), run=run, samples=list(made(choice or Choice())))


def test_a_record_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    before = record()
    samples.save(before, tmp_path / "sub" / "serving.json")
    assert samples.load(tmp_path / "sub" / "serving.json") == before


def test_a_record_without_samples_is_a_record(tmp_path: Path) -> None:
    samples.save(Record(plan=plan()), tmp_path / "serving.json")
    assert samples.load(tmp_path / "serving.json") == Record(plan=plan())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "plan": {}, "run": {}, "samples": [{}]}'])
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "serving.json").write_text(text)
    with pytest.raises(PreconditionFailed, match=r"serving\.json: no record"):
        samples.load(tmp_path / "serving.json")


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text('{"schema": 99}')
    with pytest.raises(PreconditionFailed, match="schema 99, this code reads 1"):
        samples.load(tmp_path / "serving.json")


def test_going_on_with_what_was_measured_differently_is_refused(tmp_path: Path) -> None:
    samples.save(record(), tmp_path / "serving.json")
    assert samples.resumed(tmp_path / "serving.json", plan()) == record()
    with pytest.raises(
        PreconditionFailed, match=r"commit was 0123456789ab, is ffff; seconds was 1.0, is 3.0"
    ):
        samples.resumed(tmp_path / "serving.json", plan(commit="ffff", seconds=3.0))


def test_a_record_knows_what_it_lacks() -> None:
    found = record()
    assert found.has((cases.TEXT, "8 callers", cases.SERVED, 2))
    assert not found.has((cases.TEXT, "8 callers", cases.SERVED, 3))


def test_a_round_has_every_case_once_and_keeps_a_cell_together() -> None:
    every = list(cases.cases(Choice()))
    ordered = list(rounds.order(every, 0))
    assert len(ordered) == len(every)
    assert sorted(map(repr, ordered)) == sorted(map(repr, every))
    cells = [(case.group, case.cell) for case in ordered]
    changes = sum(a != b for a, b in pairwise(cells))
    assert changes == len(set(cells)) - 1


def test_rounds_differ_in_order_and_can_be_repeated() -> None:
    every = list(cases.cases(Choice()))
    assert list(rounds.order(every, 1)) == list(rounds.order(every, 1))
    assert list(rounds.order(every, 1)) != list(rounds.order(every, 2))


def test_only_what_the_chosen_groups_need_is_started() -> None:
    assert cases.programs(Choice(groups=(cases.EMPTY,))) == {"client", "echo", "runtime"}
    assert cases.programs(Choice(groups=(cases.TEXT,), peers=("mosec",))) == {
        "client",
        "reference",
        "xscene",
        "mosec",
    }
    assert cases.programs(Choice()) == {
        *("client", "reference", "echo", "runtime", "xscene", "xscene-image"),
        *cases.PEERS,
    }


def test_a_target_that_computes_something_else_is_refused() -> None:
    answers = rounds.Answers()
    answers.compare("text", "bare", [0.1, 0.2])
    answers.compare("text", "xscene", [0.1, 0.20005])
    answers.compare("text", "torch alone", [])
    answers.compare("image", "bare", [0.7, 0.7, 0.7])
    with pytest.raises(PreconditionFailed, match=r"mosec and bare differ by 0\.01, the limit is 1e-04"):
        answers.compare("text", "mosec", [0.1, 0.21])
    with pytest.raises(PreconditionFailed, match="mosec gave 1 values, bare 2"):
        answers.compare("text", "mosec", [0.1])


def test_goals_are_judged_by_what_was_measured() -> None:
    found = {goal.what: (goal.wanted, goal.verdict) for goal in goals.goals(record())}
    assert found["text, 1 caller: CPU efficiency"] == ("≥ 0.80", "pass")  # 4.0 / 4.5 = .89
    assert found["text, 8 callers: CPU efficiency"] == ("≥ 0.85", "pass")
    assert found["text, 32 callers: CPU efficiency"] == ("≥ 0.90", "miss")
    assert found["image, 8 callers: CPU efficiency"] == ("≥ 0.90", "miss")
    assert found["text, 8 callers: efficiency as a share of pytriton's"] == ("≥ 1.00", "pass")
    assert found["text, 8 callers: efficiency as a share of mosec's"] == ("≥ 0.95", "pass")
    assert found["empty RPC, 1 caller: server CPU over bare gRPC's"] == ("≤ 1.50", "pass")
    assert found["cloud, rgb as uint8: raw contents, our client, p50 over plain bytes'"] == ("≤ 1.50", "pass")
    assert found["cloud, rgb as uint8: shared memory, p50 over plain bytes'"] == ("≤ 0.40", "miss")


def test_a_goal_whose_rounds_fall_on_both_sides_says_so() -> None:
    found = record(Choice(groups=(cases.EMPTY,)))
    slow = [
        replace(each, server_cpu_s=each.server_cpu_s * 2)
        if each.target == cases.SERVED and each.round == 1
        else each
        for each in found.samples
    ]
    verdicts = [goal.verdict for goal in goals.goals(replace(found, samples=slow))]
    assert verdicts == ["pass, rounds on both sides"] * 2


def test_a_peer_that_was_not_measured_is_no_pass() -> None:
    found = record(Choice(groups=(cases.TEXT,), peers=()))
    verdicts = {goal.what: goal.verdict for goal in goals.goals(found)}
    assert verdicts["text, 1 caller: efficiency as a share of mosec's"] == "not measured"
    assert verdicts["text, 1 caller: CPU efficiency"] == "pass"


def test_groups_that_were_not_measured_have_neither_goals_nor_sections() -> None:
    page = report.page(record(Choice(groups=(cases.EMPTY,))))
    assert "## Empty RPC" in page
    assert "## Text encoder" not in page
    assert "text, 1 caller" not in page


def test_the_page_tells_figures_goals_and_circumstances() -> None:
    page = report.page(record())
    assert "commit `0123456789ab`, 3 rounds of 1 s" in page
    assert "python -m deploy bench serving\n" in page
    assert "| xscene | 100 (100..100) | 5.0 (5.0..5.0) | 12.0 (12.0..12.0) | 4.50 (4.50..4.50) |" in page
    assert "| text, 32 callers: CPU efficiency | ≥ 0.90 | 0.89 (0.89..0.89), 0.89..0.89 | miss |" in page
    assert "| typed contents | 200.00 (200.00..200.00) |" in page
    assert "40.00 (40.00..40.00), 40.00..40.00 |" in page
    assert "| load averages before (1, 5, 15 min) | 0.10, 0.20, 0.30 |" in page
    # 100 products of 1024 x 1024 matrices in a second.
    assert "| sgemm, 1 thread | 214.7 (214.7..214.7) | GFLOP/s |" in page


def test_every_table_has_as_many_cells_in_each_line() -> None:
    lines = report.page(record()).splitlines()
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|"), below


def test_the_picture_is_well_formed_and_has_a_bar_for_each_server() -> None:
    root = ET.fromstring(plot.efficiency_svg(record()))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text == "0.89"] == ["0.89"] * 3
    assert [text for text in texts if text == "0.67"] == ["0.67"] * 3
    assert {"xscene", "pytriton", "mosec", "32 callers"} <= set(texts)


def test_the_page_can_be_written_anew_from_the_samples(tmp_path: Path) -> None:
    samples.save(record(), tmp_path / RECORD_FILE)
    result = CliRunner().invoke(app, ["page", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "serving.md").read_text() == report.page(record())
    assert (tmp_path / report.EFFICIENCY_PLOT).exists()


def test_an_unknown_group_or_peer_is_refused_by_name(tmp_path: Path) -> None:
    for flag, value in (("--only", "text,speed"), ("--peers", "speed")):
        result = CliRunner().invoke(app, ["serving", flag, value, "--out", str(tmp_path)])
        assert result.exit_code == 2
        assert "speed is none of" in " ".join(result.output.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_sentences_are_fixed_distinct_and_of_mixed_length() -> None:
    texts = workloads.sentences()
    assert len(set(texts)) == workloads.NUM_SENTENCES
    assert texts[0].startswith("We scanned a large wooden wardrobe along the wall, a small wooden sofa under")
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] < 16
    assert lengths[-1] > 60


def test_batches_walk_through_all_sentences_and_repeat_none() -> None:
    texts = [text for index in range(8) for text in workloads.batch(index, 32)]
    assert len(set(texts)) == workloads.NUM_SENTENCES
    assert workloads.batch(8, 32) == workloads.batch(0, 32)
    size = random.Random(0).randint(33, 99)
    assert len(set(workloads.batch(3, size))) == size


@pytest.mark.parametrize(
    ("name", "num_bytes"),
    [
        (workloads.CLOUD, 3_000_000),
        (workloads.CLOUD_FLOAT, 4_800_000),
        (workloads.PIXELS, 1080 * 1920 * 3),
        (workloads.EMPTY, 4),
    ],
)
def test_payloads_are_as_large_as_they_are_said_to_be(name: str, num_bytes: int) -> None:
    assert len(workloads.as_bytes(workloads.payload(name))) == num_bytes


def test_what_a_run_writes_is_no_change_of_what_it_measures(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    (tmp_path / "docs" / "benchmarks").mkdir(parents=True)
    (tmp_path / "docs" / "benchmarks" / "serving.json").touch()
    clean = machine.commit()
    assert len(clean) == 12
    (tmp_path / "docs" / "other.md").touch()
    assert machine.commit() == f"{clean}+changes"
