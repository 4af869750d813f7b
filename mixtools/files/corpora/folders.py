"""Listing a corpus's folder: every file once, however links go, and no further than is sensible."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixtools.errors import ParameterError
from mixtools.files.excerpts import printable
from mixtools.files.reading import AUDIO_SUFFIXES

DEEPEST = 12
MOST_ENTRIES = 1_000_000

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

Skipped = dict[Path, str]
"""Files that cannot be used, each with one line that names it and says why."""


@dataclass(frozen=True)
class Folder:
    """A folder's files and folders by name, hidden ones left out."""

    path: Path
    files: dict[str, Path]
    folders: dict[str, Folder]
    split: str | None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def audio(self) -> dict[str, Path]:
        """The audio files by name without ending, or with it where two share the one without."""
        paths = [path for path in self.files.values() if path.suffix.lower() in AUDIO_SUFFIXES]
        stems = [path.stem for path in paths]
        return {path.stem if stems.count(path.stem) == 1 else path.name: path for path in paths}

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()


def scan(root: Path, skipped: Skipped) -> Folder:
    """List a folder and what is below it; nothing is opened. A folder that links lead to twice is listed once."""
    root = root.absolute()
    seen: set[tuple[int, int]] = set()
    entries = 0

    def folder(path: Path, split: str | None, depth: int) -> Folder:
        nonlocal entries
        files: dict[str, Path] = {}
        below: list[os.DirEntry] = []
        try:
            with os.scandir(path) as found:
                for entry in found:
                    entries += 1
                    if entries > MOST_ENTRIES:
                        raise ParameterError(
                            f"{printable(root)} holds more than {MOST_ENTRIES} files and folders; give a smaller folder"
                        )
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    if _is_folder(entry):
                        below.append(entry)
                    else:
                        files[entry.name] = path / entry.name
        except OSError as error:
            skipped.setdefault(
                path, f"{printable(path)}: cannot be listed: {error.strerror}; give a folder that can be"
            )
        folders = {}
        for entry in sorted(below, key=lambda entry: (entry.is_symlink(), entry.name)):
            try:
                state = entry.stat()
            except OSError:
                continue
            place = (state.st_dev, state.st_ino)
            if depth < DEEPEST and place not in seen:
                seen.add(place)
                own = SPLITS.get(entry.name.lower(), split)
                folders[entry.name] = folder(path / entry.name, own, depth + 1)
        return Folder(path, dict(sorted(files.items())), dict(sorted(folders.items())), split)

    try:
        state = root.stat()
    except OSError:
        raise ParameterError(f"{printable(root)} does not exist; give a folder of songs") from None
    if not root.is_dir():
        raise ParameterError(f"{printable(root)} is not a folder; give a folder of songs")
    seen.add((state.st_dev, state.st_ino))
    return folder(root, SPLITS.get(root.name.lower()), 0)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
