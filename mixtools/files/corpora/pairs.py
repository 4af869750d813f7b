"""The layouts in which recordings of a device come: what went in, what came out, and how its controls stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mixtools.controls import shown
from mixtools.errors import ParameterError
from mixtools.files.corpora.folders import SPLITS, Folder, Skipped
from mixtools.files.corpora.items import Pair
from mixtools.files.corpora.metadata import control_value, read_table
from mixtools.files.excerpts import printable

LA2A_CONTROLS = ("limit", "peak_reduction")
"""The LA-2A's switch (0 compress, 1 limit) and its knob, 0 to 100."""

_SIGNALTRAIN_TARGET = re.compile(r"target_(\d+)_([^_]+(?:_[^_]+)*?)((?:__-?[\d.]+)+)")
_TABLE_SUFFIXES = (".csv", ".yaml", ".yml")
_OTHER_COLUMNS = ("input", "target", "file", "name", "split", "controls")

_INPUT = re.compile(r"(?<![^\W_])inputs?(?![^\W_])", re.IGNORECASE)


def signaltrain(root: Folder, _: Skipped) -> Iterator[Pair]:
    """SignalTrain LA2A (Zenodo 3824876): Train, Val, Test / input_N_.wav and target_N_LA2A_2c__SWITCH__PEAK.wav.

    Both kinds of names, 2c and 3c, hold two values.
    """
    for folder in root.walk():
        audio = folder.audio
        for name, target in audio.items():
            match = _SIGNALTRAIN_TARGET.fullmatch(name)
            source = audio.get(f"input_{match[1]}_") if match else None
            if source is None:
                continue
            values = [float(text) for text in match[3].split("__")[1:] if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", text)]
            names = LA2A_CONTROLS if len(values) == 2 else tuple(f"control_{i + 1}" for i in range(len(values)))
            yield Pair(_below(root, folder, name), source, target, dict(zip(names, values, strict=True)), folder.split)


def listed_pairs(root: Folder, skipped: Skipped) -> Iterator[Pair]:
    """A CSV or YAML table with columns input and target, files in this folder; further columns are controls.

    A column `split` says which split, `file` or `name` what the pair is called; a YAML row may hold its controls
    under `controls`.
    """
    for path in root.files.values():
        if path.suffix.lower() not in _TABLE_SUFFIXES:
            continue
        try:
            rows = read_table(path)
        except ParameterError as error:
            skipped.setdefault(path, str(error))
            continue
        for i, row in enumerate(rows or ()):
            yield _listed(row, f"{printable(path)}: pair {i + 1}", root.path)


def _listed(row: dict[str, Any], where: str, folder: Path) -> Pair:
    source, target = (_inside(row[key], f"{where}: {key}", folder) for key in ("input", "target"))
    controls = row.get("controls") or {}
    if not isinstance(controls, dict):
        raise ParameterError(f"{where}: controls is {shown(controls)}; give a column, or a mapping, of control values")
    further = {key: value for key, value in row.items() if key not in _OTHER_COLUMNS and value not in ("", None)}
    values = {str(key): control_value(value, f"{where}: {shown(key)}") for key, value in (controls | further).items()}
    split = str(row.get("split") or "").strip().lower()
    if split and split not in SPLITS:
        raise ParameterError(f"{where}: split is {shown(split)}; give train, validation or test")
    name = row.get("file") or row.get("name") or row["target"]
    return Pair(str(name), source, target, values, SPLITS.get(split))


def _inside(value: Any, where: str, folder: Path) -> Path:
    """A file named in a table, which must not lead out of the table's folder."""
    path = PurePosixPath(str(value).strip().replace("\\", "/"))
    if not isinstance(value, str) or not value.strip() or path.is_absolute() or ".." in path.parts or "\0" in value:
        raise ParameterError(f"{where} is {shown(value)}; give the name of a file in {printable(folder)}")
    return folder / path


def paired_folders(root: Folder, _: Skipped) -> Iterator[Pair]:
    """Folders `input` and `target` side by side, with files of the same names."""
    for folder in root.walk():
        for name, inputs in folder.folders.items():
            if not _INPUT.fullmatch(name):
                continue
            targets = folder.folders.get(_as_target(name))
            yield from _matched(root, folder, inputs.audio, targets.audio if targets else {}, lambda key: key)


def paired_names(root: Folder, _: Skipped) -> Iterator[Pair]:
    """Files whose names differ in one word, `input` and `target`: take1_input.wav, target.wav, Input_03.wav."""
    for folder in root.walk():
        sources = {name: path for name, path in folder.audio.items() if _INPUT.search(name)}
        yield from _matched(root, folder, sources, folder.audio, _as_target)


def _matched(
    root: Folder, folder: Folder, inputs: dict[str, Path], targets: dict[str, Path], partner: Callable[[str], str]
) -> Iterator[Pair]:
    for name, source in inputs.items():
        target = targets.get(partner(name))
        if target is not None:
            yield Pair(_below(root, folder, name), source, target, split=folder.split)


def _as_target(name: str) -> str:
    """The name with `target` for `input`, in the same case."""

    def word(match: re.Match) -> str:
        found = match[0]
        target = "targets" if found[-1] in "sS" else "target"
        return target.upper() if found.isupper() else target.title() if found[0].isupper() else target

    return _INPUT.sub(word, name, count=1)


def _below(root: Folder, folder: Folder, name: str) -> str:
    return (folder.path / name).relative_to(root.path).as_posix()
