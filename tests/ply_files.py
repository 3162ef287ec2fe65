"""PLY files of any elements, written number by number."""

from __future__ import annotations

import struct

TEXT, LITTLE, BIG = "ascii", "binary_little_endian", "binary_big_endian"
CODES = {
    "char": "b",
    "uchar": "B",
    "short": "h",
    "ushort": "H",
    "int": "i",
    "uint": "I",
    "float": "f",
    "double": "d",
}

Elements = dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]]


def ply(order: str, elements: Elements) -> bytes:
    """A file of these properties and rows; a list is a list."""
    lines, body = ["ply", f"format {order} 1.0"], b""
    for name, (properties, rows) in elements.items():
        lines += [f"element {name} {len(rows)}", *(f"property {each}" for each in properties)]
        for row in rows:
            body += b"".join(written(order, *each) for each in zip(properties, row, strict=True))
            body += b"\n" if order == TEXT else b""
    return "\n".join([*lines, "end_header\n"]).encode() + body


def written(order: str, text: str, value: object) -> bytes:
    kinds = text.split()[:-1]
    numbers = [len(value), *value] if kinds[0] == "list" else [value]
    if order == TEXT:
        return "".join(f"{number!r} " for number in numbers).encode()
    codes = (
        CODES[kinds[-1]] * len(numbers)
        if kinds[0] != "list"
        else CODES[kinds[1]] + CODES[kinds[2]] * len(value)
    )
    return struct.pack((">" if order == BIG else "<") + codes, *numbers)
