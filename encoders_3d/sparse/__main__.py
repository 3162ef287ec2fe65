"""Sets the native engine up: `python -m encoders_3d.sparse --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xscene.errors import XSceneError
from xscene.serving import process

DEFAULT_CACHE_DIR = Path(__file__).parents[2] / "var" / "native"
CacheDir = Annotated[Path, typer.Option(help="Where the compiled library lies.")]

app = typer.Typer(help="The engines of sparse convolution.", no_args_is_help=True, add_completion=False)


@app.command()
def build(cache_dir: CacheDir = DEFAULT_CACHE_DIR) -> None:
    """Compile the native engine unless it is there; without a compiler the torch engine is used, and told.

    Example: python -m encoders_3d.sparse build
    """
    from encoders_3d.sparse import native_library

    if native_library.compiler() is None:
        Console().print("no C++ compiler: the native engine is not built, engine auto is torch")
        return
    path = native_library.build(cache_dir)
    Console().print(f"native engine: {path}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def show(cache_dir: CacheDir = DEFAULT_CACHE_DIR) -> None:
    """Say which engines work here, and which one auto takes.

    Example: python -m encoders_3d.sparse show
    """
    from encoders_3d.sparse.engines import ENGINES, select_engine

    for name in ENGINES:
        try:
            text = select_engine(name, cache_dir=cache_dir).description
        except XSceneError as error:
            text = error.message
        Console().print(f"{name}: {text}", soft_wrap=True, markup=False, highlight=False)


def main() -> None:
    """The command line, with faults in one sentence."""
    process.prepare()
    try:
        app()
    except XSceneError as error:
        Console(stderr=True).print(error.message, soft_wrap=True, markup=False, highlight=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
