"""One worker that makes rooms: takes numbers of places line by line, and answers when each is written.

Started by `python -m deploy rooms make`: the first line it reads is what to make, as JSON.
"""

from __future__ import annotations

import os
from pathlib import Path


def main() -> None:
    """Serve lines until there are no more."""
    # Workers share the cores between them, so each draws and calculates on one.
    for name in ("LP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from trainer.data.rooms.library import open_library
    from trainer.data.rooms.making import make_place, recipe_from_json
    from trainer.data.rooms.places import Place
    from trainer.data.rooms.rendering import Renderer
    from trainer.data.workers import Station
    from xscene.errors import XSceneError

    station = Station.opened()
    job = station.job
    recipe = recipe_from_json(job["recipe"])
    try:
        library = open_library(Path(job["furniture"]))
        with Renderer() as renderer:
            station.answer({"device": renderer.device})
            for line in station.items():
                place = Place(seed=recipe.seed, index=int(line))
                clock = make_place(place, recipe, library, renderer, Path(job["out"]))
                station.answer({"index": place.index, "seconds": clock.seconds})
    except XSceneError as error:
        station.answer({"error": error.message})
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
