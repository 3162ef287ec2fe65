"""What a process must settle before anything heavy is imported."""

from __future__ import annotations

import ctypes
import os
import sys

# Names and numbers of glibc's malloc.h; 32 MiB is the most that it takes for the second.
M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES = -1, 256 << 20
M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES = -3, 32 << 20
M_ARENA_MAX, MAX_ARENAS = -8, 1


def prepare() -> None:
    """Have OpenMP threads sleep while they wait, and memory stay; must run before torch is imported.

    Spinning threads take the cores that other processes and the next batch need: on shared cores
    they cost several times the throughput. A value that the operator set is left alone.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before the process was prepared")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_memory()


def _keep_memory() -> None:
    """Have glibc keep what was freed: giving megabytes back after each message costs more than the copy.

    The arenas that it makes for threads heed no threshold: what a network frees goes back heap by heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_ARENA_MAX, MAX_ARENAS)
