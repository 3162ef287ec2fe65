"""The machine and the source that a run was made with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from deploy.stack import ROOT

# Of all instruction sets, those that decide how fast matrices are multiplied.
INSTRUCTION_SETS = re.compile(
    r"\b(?:sse4_2|avx|avx2|fma|avx512f|avx512_bf16|avx512_vnni|amx_tile|asimd|sve)\b"
)
PACKAGES = ("torch", "transformers", "tokenizers", "grpcio", "protobuf", "numpy", "tritonclient")


def facts() -> dict[str, str | int | float]:
    """CPU, instruction sets, cores, memory, system, and the versions that computed."""
    text = _cpuinfo()
    named = re.search(r"model name\s*:\s*(.+)", text)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return {
        "cpu": named[1] if named else platform.processor() or platform.machine(),
        "instruction_sets": " ".join(dict.fromkeys(INSTRUCTION_SETS.findall(text))) or "unknown",
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": versions,
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def commit() -> str:
    """The commit of the tree, with `+changes` where more than what is measured differs from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    # A run that goes on has written its own record.
    changes = _git("status", "--porcelain", "--", ".", ":!docs/benchmarks")
    return f"{head}+changes" if head and changes else head or "unknown"


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return result.stdout.strip()


def load() -> tuple[float, float, float]:
    """Load averages of 1, 5 and 15 minutes."""
    return os.getloadavg()
