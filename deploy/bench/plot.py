"""A picture of the text encoder's CPU efficiency: bars of each server, marks of the goals."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from deploy.bench import cases, figures
from deploy.bench.goals import TEXT_EFFICIENCY
from deploy.bench.samples import Record

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 36, 28
BAR_WIDTH = 44
TOP_VALUE = 1.2
GRID = (0.2, 0.4, 0.6, 0.8, 1.0)
COLOURS = {cases.SERVED: "#1f6feb", "pytriton": "#57903f", "mosec": "#b35900"}
GOAL_COLOUR = "#c00"


def efficiency_svg(record: Record) -> str:
    """An SVG of every server that was measured."""
    shapes = [*_grid(), *_bars(record), *_legend(record)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img">'
    )
    title = "<title>Bare CPU time per sentence over the server's, by number of callers</title>"
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, title, background, *shapes, "</svg>"]) + "\n"


def _y(value: float) -> float:
    """Where a value lies; what is beyond the scale lies at its end."""
    return round(HEIGHT - BOTTOM - min(value, TOP_VALUE) / TOP_VALUE * (HEIGHT - TOP - BOTTOM), 1)


def _grid() -> Iterator[str]:
    for value in GRID:
        y = _y(value)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#333">{value:.1f}</text>'


def _bars(record: Record) -> Iterator[str]:
    cells = record.cells(cases.TEXT)
    step = (WIDTH - LEFT - RIGHT) / max(len(cells), 1)
    for index, cell in enumerate(cells):
        middle = LEFT + (index + 0.5) * step
        place = f'x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle"'
        yield f'<text {place} fill="#333">{escape(cell)}</text>'
        servers = _servers(record, cell)
        half = len(servers) * BAR_WIDTH / 2
        for rank, server in enumerate(servers):
            yield from _bar(record, cell, server, middle - half + rank * BAR_WIDTH)
        y = _y(TEXT_EFFICIENCY[cell])
        ends = f'x1="{middle - half - 8:.0f}" x2="{middle + half + 8:.0f}"'
        yield f'<line {ends} y1="{y}" y2="{y}" stroke="{GOAL_COLOUR}" stroke-dasharray="5 3"/>'


def _bar(record: Record, cell: str, server: str, x: float) -> Iterator[str]:
    bare, served = (record.of(cases.TEXT, cell, target) for target in (cases.BARE, server))
    found = figures.efficiency(bare, served)
    if found is None:
        return
    y, bottom, middle = _y(found.median), HEIGHT - BOTTOM, x + BAR_WIDTH / 2
    yield (
        f'<rect x="{x + 2:.0f}" y="{y}" width="{BAR_WIDTH - 4}" height="{bottom - y:.1f}" '
        f'fill="{COLOURS[server]}"/>'
    )
    spread = f'y1="{_y(found.low)}" y2="{_y(found.high)}"'
    yield f'<line x1="{middle:.0f}" x2="{middle:.0f}" {spread} stroke="#000"/>'
    yield (
        f'<text x="{middle:.0f}" y="{bottom - 6}" text-anchor="middle" fill="#fff">{found.median:.2f}</text>'
    )


def _servers(record: Record, cell: str) -> list[str]:
    return [server for server in COLOURS if server in record.targets(cases.TEXT, cell)]


def _legend(record: Record) -> Iterator[str]:
    servers = {server for cell in record.cells(cases.TEXT) for server in _servers(record, cell)}
    x = LEFT
    for server in (each for each in COLOURS if each in servers):
        yield f'<rect x="{x}" y="10" width="12" height="12" fill="{COLOURS[server]}"/>'
        yield f'<text x="{x + 17}" y="20" fill="#333">{escape(server)}</text>'
        x += 90
    yield f'<line x1="{x}" x2="{x + 20}" y1="16" y2="16" stroke="{GOAL_COLOUR}" stroke-dasharray="5 3"/>'
    yield f'<text x="{x + 26}" y="20" fill="#333">goal; black: least and greatest of the rounds</text>'
