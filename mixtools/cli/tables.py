"""Measures for machines and for people: JSON, CSV, and a table."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


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


def write_csv(rows: Iterable[Row]) -> None:
    """A heading, and one line per row; what is undefined is empty."""
    writer = None
    for row in rows:
        line = flat(row)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(line), lineterminator="\n", restval="", extrasaction="ignore")
            writer.writeheader()
        writer.writerow({key: "" if value is None else value for key, value in line.items()})


def write_table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table for people, as wide as it has to be where stdout is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if terminal else 400)
    console.print(table)
