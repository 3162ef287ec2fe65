"""Peak memory of one contender in one case, in processes of its own."""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from deploy.stack import ROOT
from xscene.errors import PreconditionFailed
from xscene.serving import process

SMALL_VOXELS = 500
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
TIMEOUT_S = 600.0
# How blocks lie in memory differs from process to process, and the peak with it by up to a half.
NUM_PROCESSES = 3


def measure(network: str, num_voxels: int, engine: str, num_threads: int, *, training: bool) -> int | None:
    """Bytes above what the network and its input take, of a cold run; None where they cannot be read.

    The median of several processes.
    """
    if not STATUS.exists():
        return None
    flags = [network, str(num_voxels), engine, str(num_threads), *(["--training"] if training else [])]
    command = [sys.executable, "-m", "deploy.bench.peaks", *flags]
    return int(median(_peak_bytes(command) for _ in range(NUM_PROCESSES)))


def _peak_bytes(command: Sequence[str]) -> int:
    result = subprocess.run(  # noqa: S603 - our own module
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if result.returncode:
        raise PreconditionFailed(f"{' '.join(command[2:])}: {result.stderr.strip()[-300:]}")
    peak: int = json.loads(result.stdout)
    return peak


def main() -> int:
    """Run the case once and say how much memory it took."""
    process.prepare()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("num_voxels", type=int)
    parser.add_argument("engine")
    parser.add_argument("num_threads", type=int)
    parser.add_argument("--training", action="store_true")
    given = parser.parse_args()
    import torch

    from deploy.bench.sparse import Case, cold_run

    torch.set_num_threads(given.num_threads)
    made = [
        cold_run(Case(network=given.network, num_voxels=size, training=given.training), given.engine)
        for size in (SMALL_VOXELS, given.num_voxels)
    ]
    # A small run first: code, buffers of threads and gradients belong to the network, not to the case.
    made[0]()
    # Making the voxels may have taken more than the case will, and left it in the allocator.
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_REFS.write_text(RESET_PEAK)
    before = _kib("VmRSS")
    made[1]()
    sys.stdout.write(f"{(_kib('VmHWM') - before) * 1024}\n")
    return 0


def _kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    raise SystemExit(main())
