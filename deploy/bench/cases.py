"""What is measured: groups of cells, and in each cell the targets that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.bench import workloads
from deploy.bench.jobs import Job

TEXT, IMAGE, EMPTY, PAYLOAD, YARDSTICKS = "text", "image", "empty", "payload", "yardsticks"
GROUPS = (TEXT, IMAGE, EMPTY, PAYLOAD, YARDSTICKS)
PEERS = ("pytriton", "mosec")

# Names of the processes that are started.
CLIENT, REFERENCE, ECHO, RUNTIME, SERVED = "client", "reference", "echo", "runtime", "xscene"
IMAGE_SERVER = "xscene-image"
# Names of targets.
BARE, TORCH, NULL = "bare", "torch alone", "null model"
PLAIN, RAW, OWN = "plain bytes", "raw contents, stock client", "raw contents, our client"
SHARED, TYPED = "shared memory", "typed contents"
MACHINE = "machine"

NUM_CALLERS = {"1 caller": 1, "8 callers": 8, "32 callers": 32}
EMPTY_CELLS = ("1 caller", "8 callers")
PAYLOADS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cloud, rgb as uint8": (workloads.CLOUD, (PLAIN, RAW, OWN, SHARED, TYPED)),
    "cloud, rgb as float32": (workloads.CLOUD_FLOAT, (PLAIN, RAW, OWN, SHARED, TYPED)),
    "1080p JPEG": (workloads.JPEG, (PLAIN, RAW, OWN)),
    "1080p RGB": (workloads.PIXELS, (PLAIN, RAW, OWN, SHARED)),
}
CLOUD_CELLS = tuple(PAYLOADS)[:2]
SGEMM_1, SGEMM_2, MEMCPY, PLAIN_RPC = "sgemm, 1 thread", "sgemm, 2 threads", "memcpy", "plain-bytes RPC"
CELLS: Mapping[str, tuple[str, ...]] = {
    TEXT: tuple(NUM_CALLERS),
    IMAGE: tuple(NUM_CALLERS),
    EMPTY: EMPTY_CELLS,
    PAYLOAD: tuple(PAYLOADS),
    YARDSTICKS: (SGEMM_1, SGEMM_2, MEMCPY, PLAIN_RPC),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One target in one cell: who works, and whose CPU time is counted."""

    group: str
    cell: str
    target: str
    worker: str
    measured: str
    job: Job


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of it all is wanted, and for how long."""

    groups: Sequence[str] = GROUPS
    peers: Sequence[str] = PEERS
    seconds: float = 3.0
    max_batch: int = 32
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Of each server, by the name of its process."""
    token: str = ""


def cases(choice: Choice) -> Iterator[Case]:
    """Every case of the chosen groups."""
    makers = {TEXT: _text, IMAGE: _image, EMPTY: _empty, PAYLOAD: _payload, YARDSTICKS: _yardsticks}
    for group in GROUPS:
        if group in choice.groups:
            yield from makers[group](choice)


def _case(group: str, cell: str, target: str, measured: str, job: Job) -> Case:
    worker = REFERENCE if measured == REFERENCE else CLIENT
    return Case(group=group, cell=cell, target=target, worker=worker, measured=measured, job=job)


def _text(choice: Choice) -> Iterator[Case]:
    for cell, num_callers in NUM_CALLERS.items():
        yield from _bare(choice, TEXT, cell, choice.max_batch)
        for server in (SERVED, *choice.peers):
            job = Job(
                kind="text_http" if server == "mosec" else "text",
                seconds=choice.seconds,
                num_callers=num_callers,
                address=choice.addresses.get(server, ""),
                # Triton adds a dimension for the batch that it makes.
                shape=(1, 1) if server == "pytriton" else (1,),
            )
            yield _case(TEXT, cell, server, server, job)


def _image(choice: Choice) -> Iterator[Case]:
    for cell, num_callers in NUM_CALLERS.items():
        yield from _bare(choice, IMAGE, cell, workloads.MAX_BATCH_IMAGES)
        job = Job(
            kind=IMAGE,
            seconds=choice.seconds,
            num_callers=num_callers,
            address=choice.addresses.get(IMAGE_SERVER, ""),
        )
        yield _case(IMAGE, cell, SERVED, IMAGE_SERVER, job)


def _bare(choice: Choice, model: str, cell: str, max_batch: int) -> Iterator[Case]:
    """A model without a server, at a batch of as many items as there are callers."""
    batch = min(NUM_CALLERS[cell], max_batch)
    for target, kind in ((BARE, "embed"), (TORCH, "forward")):
        job = Job(kind=kind, seconds=choice.seconds, batch=batch, payload=model)
        yield _case(model, cell, target, REFERENCE, job)


def _empty(choice: Choice) -> Iterator[Case]:
    for cell in EMPTY_CELLS:
        for target, kind, server in (
            (BARE, "bytes", ECHO),
            (SERVED, "bytes", RUNTIME),
            (NULL, "raw", RUNTIME),
        ):
            yield _case(EMPTY, cell, target, server, _call(choice, kind, server, workloads.EMPTY, cell))


def _payload(choice: Choice) -> Iterator[Case]:
    kinds = {PLAIN: "bytes", RAW: "raw", OWN: "own", SHARED: "shared", TYPED: "typed"}
    for cell, (name, targets) in PAYLOADS.items():
        for target in targets:
            server = ECHO if target == PLAIN else RUNTIME
            yield _case(PAYLOAD, cell, target, server, _call(choice, kinds[target], server, name))


def _call(choice: Choice, kind: str, server: str, payload: str, cell: str = "1 caller") -> Job:
    return Job(
        kind=kind,
        seconds=choice.seconds,
        num_callers=NUM_CALLERS[cell],
        address=choice.addresses.get(server, ""),
        token=choice.token if server == RUNTIME else "",
        payload=payload,
    )


def _yardsticks(choice: Choice) -> Iterator[Case]:
    for cell, kind, num_threads in ((SGEMM_1, "sgemm", 1), (SGEMM_2, "sgemm", 2), (MEMCPY, "memcpy", 1)):
        job = Job(kind=kind, seconds=choice.seconds, num_threads=num_threads)
        yield _case(YARDSTICKS, cell, MACHINE, REFERENCE, job)
    yield _case(YARDSTICKS, PLAIN_RPC, MACHINE, ECHO, _call(choice, "bytes", ECHO, workloads.CLOUD))


def programs(choice: Choice) -> set[str]:
    """Names of the processes that the chosen cases need."""
    return {name for case in cases(choice) for name in (case.worker, case.measured)}
