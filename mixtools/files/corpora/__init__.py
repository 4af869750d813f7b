"""Corpora of songs and of device recordings, in the layouts in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mixtools.errors import ParameterError, nearest
from mixtools.files.corpora import pairs, songs
from mixtools.files.corpora.corpus import (
    PAIRS,
    SONGS,
    SYNTH,
    Corpus,
    Kind,
    ListedCorpus,
    PairExcerpt,
    SongExcerpt,
    SynthCorpus,
)
from mixtools.files.corpora.folders import Folder, Skipped, scan
from mixtools.files.corpora.items import About, Pair, Song
from mixtools.files.excerpts import Excerpts, printable

__all__ = [
    "LAYOUTS",
    "About",
    "Corpus",
    "ListedCorpus",
    "Pair",
    "PairExcerpt",
    "Song",
    "SongExcerpt",
    "SynthCorpus",
    "open_corpus",
    "open_sounds",
]

FILES = "files"
"""What the layout is called of audio that lies in none."""


class Layout(NamedTuple):
    """How a corpus lies in its folder, what that looks like, and what finds its items."""

    name: str
    looks: str
    kind: Kind
    find: Callable[[Folder, Skipped], Iterator]


LAYOUTS = (
    Layout("signaltrain", "Train/input_138_.wav and target_138_LA2A_3c__0__0.wav", PAIRS, pairs.signaltrain),
    Layout("medleydb", "NAME/NAME_RAW, NAME_STEMS and NAME_MIX.wav", SONGS, songs.medleydb),
    Layout("enst-drums", "drummer_1/audio/kick and wet_mix", SONGS, songs.enst_drums),
    Layout("musdb18-hq", "train/SONG/mixture.wav and vocals.wav", SONGS, songs.musdb18),
    Layout("stems", "SONG/stems and SONG/mix.wav", SONGS, songs.songs_with_stems),
    Layout("table", "a CSV or YAML table with columns input and target", PAIRS, pairs.listed_pairs),
    Layout("pair-folders", "input/ and target/ with the same file names", PAIRS, pairs.paired_folders),
    Layout("pair-names", "take1_input.wav and take1_target.wav", PAIRS, pairs.paired_names),
    Layout("cambridge-mt", "SONG/ with a WAV per track", SONGS, songs.cambridge_mt),
)
"""From the most particular to the most general: the first that finds anything is taken."""


def open_corpus(argument: str | Path, layout: str | None = None) -> Corpus:
    """The songs or device recordings in a folder, in any known layout or in the one that is named; or `synth:SEED`.

    No audio is opened before the first excerpt is drawn.
    """
    if str(argument).startswith(SYNTH):
        return _synth_corpus(str(argument))
    names = [known.name for known in LAYOUTS]
    if layout is not None and layout not in names:
        raise ParameterError(f"layout is {layout}; give {nearest(layout, names)}")
    if not str(argument):
        raise ParameterError(f"CORPUS is empty; give a folder of songs, or {SYNTH}SEED")
    skipped: Skipped = {}
    root = scan(Path(argument), skipped)
    candidates = [known for known in LAYOUTS if layout in (None, known.name)]
    for known in candidates:
        items = list(known.find(root, skipped))
        if items:
            return ListedCorpus(printable(Path(argument)), known.name, known.kind, items, skipped, Excerpts())
    wanted = "; or ".join(f"{known.name} ({known.looks})" for known in candidates)
    raise ParameterError(
        f"{printable(Path(argument))} holds no songs and no recordings of a device; give {SYNTH}SEED, or a folder in"
        f" the layout {wanted}"
    )


def open_sounds(argument: str | Path, layout: str | None = None) -> Corpus:
    """Any audio to listen to: what `open_corpus` finds, else every audio file in a folder, or one file, by itself."""
    path = Path(argument)
    if str(argument).startswith(SYNTH) or not str(argument) or layout is not None:
        return open_corpus(argument, layout)
    skipped: Skipped = {}
    if path.is_file():
        files = {path.name: path}
    else:
        try:
            return open_corpus(argument)
        except ParameterError:
            folders = scan(path, skipped).walk()
            files = {
                printable(found.relative_to(path.absolute())): found for one in folders for found in one.audio.values()
            }
            if not files:
                raise
    items = [Song(name, {found.name: found}, {}) for name, found in sorted(files.items())]
    return ListedCorpus(printable(path), FILES, SONGS, items, skipped, Excerpts())


def _synth_corpus(argument: str) -> SynthCorpus:
    seed = argument.removeprefix(SYNTH)
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise ParameterError(f"{argument} names no corpus; give {SYNTH}SEED with a whole number, as in {SYNTH}7")
    return SynthCorpus((int(seed),))
