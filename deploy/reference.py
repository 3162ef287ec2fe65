"""The tables of docs/ that come from code: settings, metrics and errors; `--check` fails when stale."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from xscene import errors
from xscene.serving import process, telemetry
from xscene.serving.settings import ServerSettings, rows

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- begin generated -->\n", "<!-- end generated -->\n"


def table(header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    ruled = [header, tuple("---" for _ in header), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in ruled)


def settings_classes() -> dict[str, type[ServerSettings]]:
    """The settings class of each service that exists."""
    process.prepare()
    from encoders_1d.app import Settings as TextSettings
    from encoders_2d.app import Settings as ImageSettings
    from encoders_3d.app import Settings as PointsSettings
    from fusion.app import Settings as FusionSettings

    return {"text": TextSettings, "image": ImageSettings, "points": PointsSettings, "fusion": FusionSettings}


def settings() -> str:
    """Settings that all services share, then those of each."""
    shared = {row.name for row in rows(ServerSettings, "fusion")}
    header = ("setting", "default", "meaning")
    parts = ["## Every service\n\n"]
    parts.append(
        table(
            header, ((f"`{r.flag}`", _code(r.default), r.description) for r in rows(ServerSettings, "fusion"))
        )
    )
    for name, cls in settings_classes().items():
        own = [r for r in rows(cls, name) if r.name not in shared or r.name == "port"]
        parts.append(f"\n## {name}\n\n`XSCENE_{name.upper()}_*`\n\n")
        parts.append(table(header, ((f"`{r.flag}`", _code(r.default), r.description) for r in own)))
    return "".join(parts)


def metrics() -> str:
    """Every metric with its labels and unit."""
    return table(
        ("metric", "kind", "labels", "unit", "meaning"),
        (
            (f"`{m.name}`", m.kind.__name__.lower(), ", ".join(m.labels), m.unit, m.description)
            for m in telemetry.METRICS
        ),
    )


def error_tree() -> str:
    """Every class of error with its status."""
    classes = [
        cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.XSceneError)
    ]
    lines = (
        (f"`{cls.__name__}`", f"`{cls.status}`", f"`{cls.reason()}`", (cls.__doc__ or "").strip())
        for cls in classes
    )
    return table(("class", "status", "reason", "meaning"), lines)


PAGES = {"settings.md": settings, "metrics.md": metrics, "errors.md": error_tree}


def refreshed(text: str, generated: str) -> str:
    """The page with its generated part replaced."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit("a page has lost its marks of the generated part")
    return pattern.sub(lambda _: f"{BEGIN}\n{generated}\n{END}", text, count=1)


def stale_pages(folder: Path) -> list[str]:
    """Pages whose generated part is not what the code gives."""
    texts = {name: (folder / name).read_text() for name in PAGES}
    return [name for name, text in texts.items() if refreshed(text, PAGES[name]()) != text]


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


def main() -> int:
    """Write the pages, or compare with `--check`; 1 when one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    if parser.parse_args().check:
        names = stale_pages(DOCS)
        sys.stdout.write(f"stale: {', '.join(names)}; run make docs\n" if names else "docs are up to date\n")
        return int(bool(names))
    for name, make in PAGES.items():
        path = DOCS / name
        path.write_text(refreshed(path.read_text(), make()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
