"""One worker that prepares scans: takes ids line by line, and answers when each is written.

Started by `python -m deploy prepare`: the first line it reads is what to prepare, as JSON.
"""

from __future__ import annotations

import logging
import os


def main() -> None:
    """Serve lines until there are no more."""
    # Workers share the cores between them, so each calculates on one.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from trainer.data.preparation.production import Order, prepare_entry
    from trainer.data.workers import Station, log_to_stderr
    from xscene.errors import XSceneError

    station = Station.opened()
    log_to_stderr()
    # What there is to say of the list is said by whoever started this worker.
    logging.disable()
    try:
        order = Order.from_json(station.job)
        dataset = order.dataset()
        entries = {entry.scan_id: entry for entry in dataset.entries()}
    except XSceneError as error:
        station.answer({"error": error.message})
        raise SystemExit(1) from None
    logging.disable(logging.NOTSET)
    station.answer({})
    for scan_id in station.items():
        try:
            made = prepare_entry(order, dataset, entries[scan_id])
        except XSceneError as error:
            station.answer({"scan_id": scan_id, "fault": error.message})
        # A reader of the user's own may raise anything, and one scan must not end the others.
        except Exception as error:  # noqa: BLE001
            station.answer({"scan_id": scan_id, "fault": f"{type(error).__name__}: {error}"})
        else:
            station.answer({"scan_id": scan_id, "made": made})


if __name__ == "__main__":
    main()
