"""What a process must settle before anything heavy is imported."""

from __future__ import annotations

import os
import sys


def prepare() -> None:
    """Have OpenMP threads sleep while they wait; must run before torch is imported.

    Spinning threads take the cores that other processes and the next batch need: on shared cores
    they cost several times the throughput. A value that the operator set is left alone.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported before the process was prepared")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
