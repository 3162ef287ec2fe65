"""The page that tells what a record says: tables, goals, and what to be careful with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from deploy.bench import cases, figures, workloads
from deploy.bench.figures import Figure
from deploy.bench.goals import goals
from deploy.bench.samples import Record, Sample

RECORD_FILE = "serving.json"
EFFICIENCY_PLOT = "efficiency.svg"
TARGETS = (cases.BARE, cases.TORCH, cases.SERVED, *cases.PEERS, cases.NULL)
PATHS = (cases.PLAIN, cases.RAW, cases.OWN, cases.SHARED, cases.TYPED)

INTRODUCTION = """\
# Benchmarks of serving

Measured {date}, commit `{commit}`, {num_rounds} rounds of {seconds:g} s, with

```sh
{command}
```

The machine is shared and noisy: trust ratios, which compare what was measured within seconds of each
other, more than rates and times. A figure is the median over the rounds; in brackets its least and
greatest value; behind them, for ratios, the quartiles. How all this is measured: [README.md](README.md).
All samples: [{record_file}]({record_file}).

Made up are: the sentences (from templates, a fixed seed), the clouds (random points), the image (shades
with noise), and the weights of the heads (random; the backbone's are the published ones). None of this
changes what is computed.
"""
TEXT_NOTE = """\
Each caller sends one sentence, waits for its embedding, and sends the next. `bare` is the text model in
one process, sentences to embeddings, at a batch of as many sentences as there are callers, at most
{max_batch}, padded by the same rule; `torch alone` is the same without tokenising and without making the
answer's arrays. Efficiency is bare CPU time per sentence over the server's CPU time per request, children
included, round by round. Every server runs the same model code on one torch thread, and was seen to give
the same embedding to within 1e-4. Batches wait at most {window_ms:g} ms; ours longer while callers it expects
keep coming, which is how it works. Callers of xscene and
PyTriton are tritonclient over gRPC, of mosec aiohttp over HTTP.
"""
IMAGE_NOTE = """\
Each caller sends one JPEG of {width}x{height} pixels, waits for its embedding, and sends the next. `bare` is
the image model in one process, files to embeddings, decoding and resizing included, at a batch of as many
pictures as there are callers, at most {max_batch_images}; `torch alone` is the network without decoding and
without making the answer's arrays. Efficiency is bare CPU time per picture over the server's CPU time per
request, round by round, at the same largest batch. Larger batches cost more on a CPU, not less: their feature
maps do not fit into the caches.
"""
EMPTY_NOTE = """\
`bare` is a grpc.aio server that answers bytes with none; `xscene` is the same handler behind our runtime,
with a token checked, a deadline, metrics and logging on, traces off. `null model` is a ModelInfer of one
number through the batcher. Callers give a deadline to all of them, a token to ours.
"""
PAYLOAD_NOTE = """\
One caller; the model ignores what it gets. `plain bytes` sends the same bytes to the bare grpc.aio
server. `our client` is `xscene.oip`, through which the gateway asks the encoders: it makes the message
with one copy of the tensors. `stock client` is tritonclient, which makes three, before the time is taken
and in it. Shared memory is written anew for every call. The cloud has {num_points:,} points.
"""


def page(record: Record, record_file: str = RECORD_FILE) -> str:
    """The whole page."""
    facts = {"num_rounds": _num_rounds(record), "record_file": record_file}
    parts = [
        INTRODUCTION.format(**{**facts, **record.plan, **record.run}),
        _goals(record),
        *_text(record),
        *_image(record),
        *_empty(record),
        *_payload(record),
        *_machine(record),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _num_rounds(record: Record) -> int:
    return 1 + max((sample.round for sample in record.samples), default=-1)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    ruled = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in ruled)


def shown(found: Figure | None, digits: int = 2) -> str:
    """A figure with its extremes."""
    if found is None:
        return "-"
    median, low, high = (f"{value:,.{digits}f}" for value in (found.median, found.low, found.high))
    return f"{median} ({low}..{high})"


def shown_whole(found: Figure | None) -> str:
    """A figure with its extremes and quartiles."""
    if found is None:
        return "-"
    return f"{shown(found)}, {found.quartile_1:.2f}..{found.quartile_3:.2f}"


def _goals(record: Record) -> str:
    lines = [(goal.what, goal.wanted, shown_whole(goal.measured), goal.verdict) for goal in goals(record)]
    return "## Goals\n\n" + table(("figure", "goal", "measured", "verdict"), lines)


def _text(record: Record) -> list[str]:
    if not record.cells(cases.TEXT):
        return []
    note = TEXT_NOTE.format(**record.plan)
    parts = ["## Text encoder\n", note, f"![CPU efficiency by number of callers]({EFFICIENCY_PLOT})\n"]
    return [*parts, *_encoder_tables(record, cases.TEXT, "sentence")]


def _image(record: Record) -> list[str]:
    if not record.cells(cases.IMAGE):
        return []
    note = IMAGE_NOTE.format(
        width=workloads.PICTURE_WIDTH,
        height=workloads.PICTURE_HEIGHT,
        max_batch_images=workloads.MAX_BATCH_IMAGES,
    )
    return ["## Image encoder\n", note, *_encoder_tables(record, cases.IMAGE, "picture")]


def _encoder_tables(record: Record, group: str, item: str) -> list[str]:
    columns: Columns = {
        "per second": (lambda sample: sample.items_per_s, 0),
        "p50 ms": (lambda sample: sample.p50_ms, 1),
        "p99 ms": (lambda sample: sample.p99_ms, 1),
        f"CPU ms per {item}": (lambda sample: sample.cpu_ms_per_item, 2),
    }
    return _tables(record, group, TARGETS, columns, ("CPU efficiency", figures.efficiency))


def _empty(record: Record) -> list[str]:
    if not record.cells(cases.EMPTY):
        return []
    columns: Columns = {
        "per second": (lambda sample: sample.items_per_s, 0),
        "p50 ms": (lambda sample: sample.p50_ms, 2),
        "server CPU ms per call": (lambda sample: sample.cpu_ms_per_item, 3),
    }
    compare = (
        "CPU over bare",
        lambda bare, ours: figures.ratio(ours, bare, lambda sample: sample.cpu_ms_per_item),
    )
    return ["## Empty RPC\n", EMPTY_NOTE, *_tables(record, cases.EMPTY, TARGETS, columns, compare)]


def _payload(record: Record) -> list[str]:
    if not record.cells(cases.PAYLOAD):
        return []
    columns: Columns = {
        "p50 ms": (lambda sample: sample.p50_ms, 2),
        "p90 ms": (lambda sample: sample.p90_ms, 2),
        "server CPU ms per call": (lambda sample: sample.cpu_ms_per_item, 2),
    }
    compare = (
        "p50 over plain bytes",
        lambda plain, ours: figures.ratio(ours, plain, lambda sample: sample.p50_ms),
    )
    note = PAYLOAD_NOTE.format(num_points=workloads.NUM_POINTS)
    return ["## Payloads\n", note, *_tables(record, cases.PAYLOAD, PATHS, columns, compare)]


Rounds = dict[int, Sample]
Columns = dict[str, tuple[Callable[[Sample], float], int]]


def _tables(
    record: Record,
    group: str,
    targets: Sequence[str],
    columns: Columns,
    compare: tuple[str, Callable[[Rounds, Rounds], Figure | None]],
) -> list[str]:
    """A table for each cell; the first target is what the others are compared with."""
    parts = []
    for cell in record.cells(group):
        reference = record.of(group, cell, targets[0])
        lines = []
        for target in targets:
            if found := record.of(group, cell, target):
                values = [shown(figures.over_rounds(found, value), n) for value, n in columns.values()]
                lines.append((target, *values, shown_whole(compare[1](reference, found))))
        parts.append(f"### {cell}\n\n" + table(("", *columns, compare[0]), lines))
    return parts


def _machine(record: Record) -> list[str]:
    parts = ["## Machine\n", table(("", ""), _facts(record))]
    units: Columns = {
        cases.SGEMM_1: (lambda sample: _per_s(sample, 2 * workloads.SGEMM_SIZE**3), 1),
        cases.SGEMM_2: (lambda sample: _per_s(sample, 2 * workloads.SGEMM_SIZE**3), 1),
        cases.MEMCPY: (lambda sample: _per_s(sample, workloads.COPY_BYTES), 1),
        cases.PLAIN_RPC: (lambda sample: sample.p50_ms, 2),
    }
    names = {
        cases.SGEMM_1: "GFLOP/s",
        cases.SGEMM_2: "GFLOP/s",
        cases.MEMCPY: "GB/s copied",
        cases.PLAIN_RPC: "ms p50, 3.0 MB",
    }
    lines = []
    for cell in record.cells(cases.YARDSTICKS):
        value, digits = units[cell]
        found = figures.over_rounds(record.of(cases.YARDSTICKS, cell, cases.MACHINE), value)
        lines.append((cell, shown(found, digits), names[cell]))
    if lines:
        parts += [
            "Yardsticks, measured in the same rounds:\n",
            table(("yardstick", "measured", "unit"), lines),
        ]
    return parts


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    for name, value in record.plan["machine"].items():
        yield name.replace("_", " "), str(value)
    for name, value in record.run.get("peers", {}).items():
        yield name, value
    for name in ("load_before", "load_after"):
        averages = (f"{value:.2f}" for value in record.run.get(name, ()))
        yield f"load averages {name.removeprefix('load_')} (1, 5, 15 min)", ", ".join(averages)


def _per_s(sample: Sample, amount: float) -> float:
    """Billions in a second."""
    return sample.num_calls * amount / sample.wall_s / 1e9
