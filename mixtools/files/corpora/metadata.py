"""What is written beside the audio of a corpus, by whoever: read strictly, and only when it is small."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from mixtools.controls import shown
from mixtools.errors import ParameterError
from mixtools.files.corpora.folders import Skipped
from mixtools.files.corpora.items import About
from mixtools.files.excerpts import printable
from mixtools.files.mixfile import plain_tree

LARGEST_BYTES = 1 << 20
"""MedleyDB's longest is 20 kB."""


def describe_medleydb(path: Path, skipped: Skipped) -> About:
    """Instruments of stems and raw files by name, and the bleed, from a song's `_METADATA.yaml`; none if it is broken.

    Bittner et al., MedleyDB, ISMIR 2014: stems are a mapping S01, S02, … each with its raw files R01, R02, …
    """
    try:
        tree = _mapping(read_yaml(path))
    except ParameterError as error:
        skipped.setdefault(path, str(error))
        return About()
    roles: dict[str, str] = {}
    for stem in _mapping(tree.get("stems")).values():
        for entry in (_mapping(stem), *map(_mapping, _mapping(_mapping(stem).get("raw")).values())):
            name, instrument = entry.get("filename"), entry.get("instrument")
            if isinstance(instrument, list):
                instrument = ", ".join(map(str, instrument))
            if isinstance(name, str) and isinstance(instrument, str):
                roles[Path(name).stem] = instrument
    return About(roles, {"yes": True, "no": False}.get(str(tree.get("has_bleed")).lower()))


def read_yaml(path: Path) -> Any:
    """A small YAML file as plain dicts, lists and scalars."""
    text = _read_text(path)
    try:
        return plain_tree(text, printable(path))
    except ParameterError as error:
        raise ParameterError(f"{str(error).partition(';')[0]}; mend it or leave it out") from None


def read_table(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a CSV or YAML table of pairs; None where a file is no such table."""
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(_read_text(path)), restkey="more", restval="")
        try:
            fields = [name.strip().lower() for name in reader.fieldnames or ()]
            if not {"input", "target"} <= set(fields):
                return None
            reader.fieldnames = fields
            return list(reader)
        except csv.Error as error:
            raise ParameterError(f"{printable(path)}: is not CSV ({error}); mend it or leave it out") from None
    rows = read_yaml(path)
    if not isinstance(rows, list) or not rows:
        return None
    tables = [isinstance(row, dict) and {"input", "target"} <= set(row) for row in rows]
    return rows if all(tables) else None


def control_value(value: Any, where: str) -> float | str:
    """A control's setting: a finite number, or a word."""
    if isinstance(value, bool):
        return float(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        if isinstance(value, str) and value.strip():
            return value.strip()
        raise ParameterError(f"{where} is {shown(value)}; give a number or a word") from None
    if not math.isfinite(number):
        raise ParameterError(f"{where} is {shown(value)}; give a finite number")
    return number


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ParameterError(f"{printable(path)}: cannot be read: {error.strerror}; leave it out") from None
    if len(data) > LARGEST_BYTES:
        raise ParameterError(f"{printable(path)}: is larger than {LARGEST_BYTES // 2**20} MiB; leave it out")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{printable(path)}: is not UTF-8 text (byte {error.start}); leave it out") from None


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
