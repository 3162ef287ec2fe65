"""Runs the points encoder: `python -m encoders_3d --help`."""

from __future__ import annotations

import os
import sys

from xscene.serving import process


def main() -> int:
    """Prepare the process, then import what needs torch, then serve."""
    process.prepare()
    from encoders_3d.app import run

    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    raise SystemExit(main())
