"""Runs the reference process with memory kept and threads asleep, as the services' processes do."""

from __future__ import annotations

import json
import sys

from xscene.serving import process


def main() -> None:
    """Prepare the process, then import what needs torch, then work."""
    process.prepare()
    from deploy.bench.bare import Reference
    from deploy.bench.jobs import answer

    answer(Reference(json.loads(sys.argv[1])).work)


if __name__ == "__main__":
    main()
