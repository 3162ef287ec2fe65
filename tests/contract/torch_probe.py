"""Runs a module as `python -m` does, up to its first import of torch, and writes OpenMP's policy then.

Arguments: the module, then its own arguments.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

REACHED = 75


class Watch:
    """A finder that ends the process where torch is asked for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing; report at torch."""
        if name == "torch":
            sys.stdout.write(os.environ.get("OMP_WAIT_POLICY", "unset"))
            sys.stdout.flush()
            os._exit(REACHED)


def main() -> None:
    """Watch, then run the module with the arguments that are left."""
    sys.meta_path.insert(0, Watch())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
