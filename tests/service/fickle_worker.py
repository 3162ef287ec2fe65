"""A worker for tests: each item says what it does."""

from __future__ import annotations

import os
import signal
import sys

from trainer.data.workers import Station


def main() -> None:
    station = Station.opened()
    station.answer({"greeting": station.job["greeting"], "pid": os.getpid()})
    for item in station.items():
        if item == "exit":
            sys.exit(3)
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "talk":
            sys.stdout.write("as I was saying\n")
            sys.stdout.flush()
            os.write(1, b"and a library too")
        if item == "fail":
            station.answer({"error": "no such thing"})
        station.answer({"item": item, "pid": os.getpid()})


if __name__ == "__main__":
    main()
