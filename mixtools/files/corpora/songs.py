"""The layouts in which songs are published: each finds its songs in a listing of folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mixtools.files.corpora.folders import Folder, Skipped
from mixtools.files.corpora.items import About, Song
from mixtools.files.corpora.metadata import describe_medleydb

MUSDB_MIX = "mixture"

_ENST_MIXES = {"dry_mix": "dry", "wet_mix": "wet"}
_ENST_NO_MICROPHONES = (*_ENST_MIXES, "accompaniment")

_MIX_WORDS = {"mix": "mix", "mixdown": "mix", "mixture": "mix", "master": "master", "mastered": "master"}
_WORDS_OF_MIXES = {*_MIX_WORDS, "full", "final", "stereo", "rough", "unmastered", "song", "preview"}


def songs_with_stems(root: Folder, _: Skipped) -> Iterator[Song]:
    """A folder per song, with `stems/` in it and a mix beside that."""
    for folder in root.walk():
        stems = folder.folders.get("stems")
        if stems is not None and stems.audio:
            artist = _artist(folder.name, " - ")
            yield Song(folder.name, stems.audio, _mixes(folder, folder.name), artist=artist, split=folder.split)


def medleydb(root: Folder, skipped: Skipped) -> Iterator[Song]:
    """MedleyDB: NAME/NAME_RAW, NAME/NAME_STEMS, NAME/NAME_MIX.wav, and NAME_METADATA.yaml anywhere below the root.

    The artist is the name's first part: the one in the metadata differs between songs of one artist
    (LizNelson_Rainfall is by "Liz Nelson & Jennifer Davies").
    """
    suffix = "_METADATA.yaml"
    metadata = {
        name.removesuffix(suffix): path
        for folder in root.walk()
        for name, path in folder.files.items()
        if name.endswith(suffix)
    }
    for folder in root.walk():
        name = folder.name
        raw, stems = (_audio_in(folder, f"{name}_{kind}") for kind in ("RAW", "STEMS"))
        if raw or stems:
            mix = folder.audio.get(f"{name}_MIX")
            mixes = {"mix": mix} if mix else {}
            describe = partial(describe_medleydb, metadata[name], skipped) if name in metadata else About
            yield Song(name, stems, mixes, raw, _artist(name, "_"), folder.split, describe)


def enst_drums(root: Folder, _: Skipped) -> Iterator[Song]:
    """ENST-Drums: drummer_N/audio/MICROPHONE/PASSAGE.wav, and the mixes of each passage in dry_mix and wet_mix.

    The dry mix, gain and panning only, is the first: it is what 003 (5.5) trains on. No artist is given,
    as there (5.3.1) every split has passages of all drummers.
    """
    for drummer in root.walk():
        audio = drummer.folders.get("audio")
        if audio is None or not _ENST_MIXES.keys() & audio.folders.keys():
            continue
        kinds = {kind: audio.folders[name].audio for name, kind in _ENST_MIXES.items() if name in audio.folders}
        microphones = {name: folder.audio for name, folder in audio.folders.items() if name not in _ENST_NO_MICROPHONES}
        for passage in sorted({passage for mixes in kinds.values() for passage in mixes}):
            stems = {name: files[passage] for name, files in microphones.items() if passage in files}
            mixes = {kind: files[passage] for kind, files in kinds.items() if passage in files}
            if stems:
                describe = partial(About, {name: name for name in stems}, True)
                yield Song(f"{drummer.name}/{passage}", stems, mixes, split=drummer.split, describe=describe)


def musdb18(root: Folder, _: Skipped) -> Iterator[Song]:
    """MUSDB18-HQ: train or test / Artist - Title / mixture, vocals, bass, drums and other .wav."""
    for folder in root.walk():
        stems = dict(folder.audio)
        mix = stems.pop(MUSDB_MIX, None)
        if mix is not None and stems:
            describe = partial(About, {name: name for name in stems}, False)
            artist = _artist(folder.name, " - ")
            yield Song(folder.name, stems, {"mix": mix}, artist=artist, split=folder.split, describe=describe)


def cambridge_mt(root: Folder, _: Skipped) -> Iterator[Song]:
    """Cambridge-MT downloads: a folder of WAVs per song, as in Artist_Title_Full; a mix is inside or beside it."""
    parents = [(None, root)]
    while parents:
        parent, folder = parents.pop(0)
        parents += [(folder, below) for below in folder.folders.values()]
        if parent is None:
            continue
        mixes = _mixes(folder, folder.name)
        stems = {name: path for name, path in folder.audio.items() if path not in mixes.values()}
        if len(stems) >= 2:
            mixes = mixes or _mixes(parent, folder.name, named=True)
            artist = _artist(folder.name, "_") if folder.name.endswith("_Full") else _artist(folder.name, " - ")
            yield Song(folder.name, stems, mixes, artist=artist, split=folder.split)


def _audio_in(folder: Folder, name: str) -> dict[str, Path]:
    return folder.folders[name].audio if name in folder.folders else {}


def _artist(name: str, between: str) -> str | None:
    artist, _, title = name.partition(between)
    return artist.strip() if artist.strip() and title else None


def _mixes(folder: Folder, song: str, named: bool = False) -> dict[str, Path]:
    """The finished mixes among a folder's files: those called mix or master, and no more than that and the song's name.

    `named` takes only files with the song's name in theirs.
    """
    own = set(_words(song)) - _WORDS_OF_MIXES
    found: dict[str, Path] = {}
    for name, path in folder.audio.items():
        words = set(_words(name))
        kinds = [kind for word, kind in _MIX_WORDS.items() if word in words]
        if kinds and words <= own | _WORDS_OF_MIXES and (own <= words or not named):
            found.setdefault(kinds[0], path)
    return dict(sorted(found.items(), key=lambda item: item[0] != "mix"))


def _words(name: str) -> list[str]:
    """The words of a name, numbers left out: `TheBand_Song_Full` is the, band, song, full."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+", name)]
