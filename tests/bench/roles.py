"""How well stems are recognised by their sound; measures the table it is done by, too.

python tests/bench/roles.py table     prints the table for mixtools/tasks/automix/recognition.py
python tests/bench/roles.py           tries the table on songs it does not know

Real stems under MIXTOOLS_AUDIO/multitrack take part where there are some, by the role their name tells.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile

from mixtools import synth_song
from mixtools.synth.styles import PARTS
from mixtools.tasks.automix.hearing import Sound, listen
from mixtools.tasks.automix.recognition import KINDS, LEAST_SURE, TRAITS, VOICE, Kinds, traits_of
from mixtools.tasks.automix.roles import KIT, ROLES, VOICES, role_named
from mixtools.tasks.recordings import ArrayRecording

TABLE_SEEDS = range(9000, 9024)
UNSEEN_SEEDS = range(9300, 9312)
SECONDS = 16.0
PROCESSES = 2

KIND_OF_PART = {
    "overheads": "overheads",
    "claps": "claps",
    "snaps": "claps",
    "shaker": "shaker",
    "tambourine": "shaker",
    "congas": "congas",
    "cowbell": "block",
    "bass_synth": "bass",
    "gtr_left": "strummed",
    "gtr_right": "strummed",
    "gtr_wide": "strummed",
    "gtr_acoustic": "acoustic",
    "gtr_picked": "picked",
    "gtr_lead": "solo",
    "lead": "solo",
    "bells": "mallets",
    "strings": "pad",
    "vox_lead": "singer",
    "vox_double": "singer",
    "bgv_1": "singer",
    "bgv_2": "singer",
    "bgv_3": "choir",
    "bgv_4": "choir",
}
"""Parts whose sounds are of one kind; any other part is a kind of its own, and all of a kit together are `kit`."""

LEAST_SPREADS = dict.fromkeys(("sub", "low", "high", "air", "top"), 2.0) | {"centre": 0.35, "clear": 0.7, "glide": 0.7}
LEAST_SPREADS |= {"onsets": 0.35, "fall": 2.8, "held": 0.8, "change": 0.8}
"""How far recordings of one role differ at least; what synthesised ones differ by is far less."""

SYNTH_PART = 0.5
"""Of these spreads, the part that is added to a synthesised kind's own (their squares are)."""

ANYTHING_SPREAD = 1.2
"""What is like no kind, but not impossible for any sound, is `other`: all kinds together, this much wider."""

RECORDED = "recorded"

WHOLE = "sub", "low", "high", "air", "top", "fall"
"""Traits in dB, given without decimals."""

CENTRAL = {"kick", "snare", "bass", VOICE}
EXACT = {*KIT, "bass", "guitar", "keys", "pad", "lead", VOICE}

Heard = tuple[str, str, str, str, Sound]
"""Song, stem, kind, role as the table has it, and the sound."""


def table_role(role: str) -> str:
    return VOICE if role in VOICES else role


def synthesised(seed: int) -> list[Heard]:
    song = synth_song(seed, SECONDS, stems=24)
    n = next(iter(song.stems.values())).shape[1]
    stems = dict(song.stems)
    kit = [np.broadcast_to(x, (2, n)) for name, x in stems.items() if song.roles[name] in set(KIT) - {"percussion"}]
    if len(kit) > 1:
        stems["kit.wav"] = sum(kit)
    sounds = listen({name: ArrayRecording(x) for name, x in stems.items()}, song.rate, [(0, n)])
    heard = []
    for name, sound in sounds.items():
        part = name.removesuffix(".wav")
        role = PARTS[part].role if part in PARTS else "drums"
        heard.append((song.name, name, KIND_OF_PART.get(part, part), table_role(role), sound))
    return [stem for stem in heard if stem[-1].character]


def recorded(path: Path) -> list[Heard]:
    role = role_named(path.name)
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    sound = listen({path.name: ArrayRecording(x.T)}, rate, [(0, len(x))])[path.name]
    known = role is not None and role not in ("effects", "other") and "synth" not in path.name
    return (
        [(path.parent.parent.name, path.name, RECORDED, table_role(role) if known else "", sound)]
        if sound.character
        else []
    )


def table(synth: list[Heard], real: list[Heard]) -> Kinds:
    """Centres and spreads of each kind of synthesised stems, and of the real ones of each role."""
    least = np.array([LEAST_SPREADS[name] for name in TRAITS])
    traits: dict[tuple[str, str], list[np.ndarray]] = {}
    for _, _, kind, role, sound in [*synth, *real]:
        if role:
            traits.setdefault((role, kind), []).append(traits_of(sound.character))
    rows = sorted(traits, key=lambda row: ((*ROLES, VOICE).index(row[0]), row[1]))
    centres = np.array([np.mean(traits[row], axis=0) for row in rows])
    parts = np.array([1.0 if kind == RECORDED else SYNTH_PART for _, kind in rows])
    spreads = np.hypot([np.std(traits[row], axis=0) for row in rows], parts[:, None] * least)
    around = ANYTHING_SPREAD * np.sqrt(centres.var(axis=0) + (spreads**2).mean(axis=0))
    return Kinds(
        (*(kind for _, kind in rows), "anything"),
        (*(role for role, _ in rows), "other"),
        np.vstack([centres, centres.mean(axis=0)]),
        np.vstack([spreads, around]),
    )


def formatted(kinds: Kinds) -> str:
    """The table that `parsed` reads."""
    name, role = (max(map(len, words)) for words in (kinds.names, kinds.roles))
    round_ones = np.array([trait in WHOLE for trait in TRAITS])
    cells = np.where(
        round_ones,
        np.char.add(np.char.mod("%.0f~", kinds.centres), np.char.mod("%.0f", np.maximum(kinds.spreads, 1.0))),
        np.char.add(np.char.mod("%.1f~", kinds.centres), np.char.mod("%.1f", np.maximum(kinds.spreads, 0.1))),
    )
    width = [max(map(len, column)) for column in cells.T]
    return "\n".join(
        f"{kind:{name}} {its_role:{role}} " + " ".join(f"{c:>{w}}" for c, w in zip(row, width, strict=True))
        for kind, its_role, row in zip(kinds.names, kinds.roles, cells, strict=True)
    )


def told(kinds: Kinds, sound: Sound) -> str:
    shares = kinds.shares(traits_of(sound.character))
    role = max(shares, key=shares.__getitem__)
    return role if shares[role] >= LEAST_SURE else "other"


def report(title: str, pairs: list[tuple[str, str]]) -> None:
    """Pairs of what is right and what was told."""
    exact = [right == said for right, said in pairs if right in EXACT]
    central = [(right if right in CENTRAL else "") == (said if said in CENTRAL else "") for right, said in pairs]
    print(f"{title}: {len(pairs)} stems, role {np.mean(exact):.1%}, kick/snare/bass/voice/none {np.mean(central):.1%}")
    for right in sorted({right for right, _ in pairs}):
        said = Counter(s for r, s in pairs if r == right)
        print(f"  {right:14}", ", ".join(f"{role} {count}" for role, count in said.most_common()))


def real_stems() -> list[Heard]:
    folder = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))
    return [stem for path in sorted(folder.glob("multitrack/*/stems/*")) for stem in recorded(path)]


def main() -> None:
    real = real_stems()
    if sys.argv[1:] == ["table"]:
        with Pool(PROCESSES) as pool:
            synth = [stem for song in pool.map(synthesised, TABLE_SEEDS, chunksize=1) for stem in song]
        print(formatted(table(synth, real)))
        alone = []
        for left_out in sorted({song for song, *_ in real}):
            kinds = table(synth, [stem for stem in real if stem[0] != left_out])
            alone += [(role, told(kinds, sound)) for song, _, _, role, sound in real if song == left_out and role]
        if alone:
            report("real, each song by the others", alone)
        return
    with Pool(PROCESSES) as pool:
        unseen = [stem for song in pool.map(synthesised, UNSEEN_SEEDS, chunksize=1) for stem in song]
    report("synthesised, unseen", [(role, told(KINDS, sound)) for *_, role, sound in unseen])
    if real:
        report("real, some in the table", [(role, told(KINDS, sound)) for *_, role, sound in real if role])


if __name__ == "__main__":
    main()
