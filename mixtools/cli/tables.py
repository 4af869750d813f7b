"""Measures for machines and for people: JSON, CSV, and a table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

Row = Mapping[str, Any]

GAP = 3
"""Spaces between the columns of a table."""

LONGEST_NAME = 30
"""In a terminal; longer ones are folded."""


TABLE2_TITLES = {"spectral": "spectral", "envelope": "PMF", "stereo": "stereo", "loudness": "loudness"}
"""The groups of the relative errors, as the paper's Table II has them."""


def percent(value: float | None) -> str:
    """A share for people."""
    return "–" if value is None else f"{100 * value:.2f} %"


def flat(row: Row, before: str = "") -> dict[str, Any]:
    """Nested measures as one level: `group.feature`, and `group.feature_1` and so on for lists."""
    result: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{before}{key}.")
        elif isinstance(value, (list, tuple)):
            result |= {f"{before}{key}_{i}": item for i, item in enumerate(value, 1)}
        else:
            result[before + key] = value
    return result


def write_json(rows: Sequence[Row], single: bool) -> None:
    """One object for one file, else a list of them."""
    print(json.dumps(rows[0] if single and rows else rows, indent=2, allow_nan=False))


def write_yaml(rows: Sequence[Row], single: bool) -> None:
    """One mapping for one file, else a list of them."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 1 << 30
    yaml.dump(rows[0] if single and rows else list(rows), sys.stdout)


def write_series(name: str, series: Mapping[str, Any], heading: bool) -> None:
    """Columns of numbers, one line per frame under the file's name; what is undefined is empty."""
    import numpy as np

    writer = csv.writer(sys.stdout, lineterminator="\n")
    if heading:
        writer.writerow(["file", *series])
    for values in zip(*(column.tolist() for column in series.values()), strict=True):
        writer.writerow([name, *(value if np.isfinite(value) else "" for value in values)])


def write_csv(rows: Iterable[Row]) -> None:
    """A heading, and one line per row; what is undefined is empty."""
    writer = None
    for row in rows:
        line = flat(row)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(line), lineterminator="\n", restval="", extrasaction="ignore")
            writer.writeheader()
        writer.writerow({key: "" if value is None else value for key, value in line.items()})


def write_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str = "",
    left: Sequence[int] = (0,),
    stream: TextIO | None = None,
) -> None:
    """A table for people, on stdout unless `stream` is another; numbers stand to the right, texts to the left.

    Where that is a terminal, columns that it has no room for come below, in tables of their own, and texts are
    wrapped; elsewhere the table is as wide as it has to be.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    stream = stream or sys.stdout
    room = Console(file=stream).width if stream.isatty() else None
    texts = left[1:]
    widths = [_width(column, room) for column in zip(head, *rows, strict=True)]
    needed = sum(widths) + GAP * (len(widths) - 1)
    # Written by print: rich would flush stdout, and has ideas of its own about broken pipes.
    written = io.StringIO()
    width = room or max(needed, len(title), 1)
    console = Console(file=written, highlight=False, width=width, force_terminal=stream.isatty())
    parts = [range(len(head))] if texts or room is None else _parts(widths, room)
    if title:
        console.print(Text(title, style="bold"))
    for part in parts:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for i in part:
            justify = "left" if i in left else "right"
            width = None if i in texts else widths[i]
            table.add_column(Text(head[i]), justify=justify, overflow="fold", width=width)
        for row in rows:
            table.add_row(*(Text(row[i]) for i in part))
        console.print(table)
        console.print()
    print(written.getvalue(), end="", file=stream)


def _width(column: Sequence[str], room: int | None) -> int:
    """How wide a column, its heading first, has to be: in a terminal long names are folded."""
    from rich.cells import cell_len

    widest = max(cell_len(line) for cell in column for line in cell.split("\n"))
    return widest if room is None else min(widest, LONGEST_NAME)


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """Which columns stand in one table after the other, so that each fits; the first, the names, in all of them."""
    parts: list[list[int]] = []
    used = room
    for i, width in enumerate(widths[1:], 1):
        if not parts or used + GAP + width > room:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += GAP + width
    return parts
