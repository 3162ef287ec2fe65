"""Imports modules where nothing but the standard library and the given packages can be found.

Arguments: the names of importable top-level packages, comma-separated, then the modules.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


class Narrowed:
    """A finder that does not find what is not installed in the container."""

    def __init__(self, finder: Any, installed: frozenset[str]) -> None:
        self._finder = finder
        self._installed = installed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What the finder finds, for installed packages."""
        if name.partition(".")[0] not in self._installed:
            return None
        return self._finder.find_spec(name, path, target)


def main() -> None:
    """Narrow every finder, then import."""
    installed = frozenset(sys.argv[1].split(",")) | sys.stdlib_module_names
    sys.meta_path[:] = [Narrowed(finder, installed) for finder in sys.meta_path]
    for name in sys.argv[2:]:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
