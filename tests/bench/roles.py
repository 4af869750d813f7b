"""How well stems are recognised by their sound; measures the table it is done by, too.

python tests/bench/roles.py table     prints the table for mixtools/tasks/automix/recognition.py
python tests/bench/roles.py           tries the table on songs it does not know (or make -C tests bench)

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
UNSEEN_SEEDS = range(9100, 9112)
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

LEAST_SPREADS = dict.fromkeys(TRAITS, 0.5) | dict.fromkeys(("sub", "low", "mid", "high", "air", "top"), 3.0)
LEAST_SPREADS |= {"flat": 3.0, "clear": 1.0, "pitch": 0.6, "fall": 4.0, "held": 1.2, "change": 1.2, "glide": 1.0, "hiss": 1.0}
"""Added to what was measured (their squares are), as other recordings differ more than those of one synthesiser."""

REAL_WEIGHT = 0.6
REAL_DOUBT = 2.0
"""Of n real stems in a kind, all together weigh REAL_WEIGHT n / (n + REAL_DOUBT), the synthesised ones the rest."""

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
        [(path.parent.parent.name, path.name, "", table_role(role) if known else "", sound)] if sound.character else []
    )


def table(synth: list[Heard], real: list[Heard]) -> Kinds:
    """Centres and spreads per kind; a real stem counts for that kind of its role that it is most like."""
    traits: dict[str, list[np.ndarray]] = {}
    roles: dict[str, str] = {}
    for _, _, kind, role, sound in synth:
        traits.setdefault(kind, []).append(traits_of(sound.character))
        roles[kind] = role
    order = sorted(roles, key=lambda kind: ((*ROLES, VOICE).index(roles[kind]), kind))
    first = _kinds(order, roles, traits, {})
    joined: dict[str, list[np.ndarray]] = {}
    for _, _, _, role, sound in real:
        if role in roles.values():
            own = np.where(np.array(first.roles) == role, first.likelihoods(traits_of(sound.character)), -np.inf)
            joined.setdefault(first.names[int(np.argmax(own))], []).append(traits_of(sound.character))
    return _kinds(order, roles, traits, joined)


def _kinds(order, roles, traits, joined) -> Kinds:
    floors = np.array([LEAST_SPREADS[name] for name in TRAITS])
    centres, spreads = [], []
    for kind in order:
        x, y = np.array(traits[kind]), np.array(joined.get(kind, np.zeros((0, len(TRAITS)))))
        share = REAL_WEIGHT * len(y) / (len(y) + REAL_DOUBT)
        weights = np.concatenate([np.full(len(x), (1.0 - share) / len(x)), np.full(len(y), share / max(len(y), 1))])
        values = np.concatenate([x, y])
        centres.append(weights @ values)
        spreads.append(np.sqrt(weights @ (values - centres[-1]) ** 2 + floors**2))
    return Kinds(tuple(order), tuple(roles[kind] for kind in order), np.array(centres), np.array(spreads))


def formatted(kinds: Kinds) -> str:
    """The table that `parsed` reads."""
    name, role = (max(map(len, words)) for words in (kinds.names, kinds.roles))
    cells = np.char.add(np.char.mod("%.1f~", kinds.centres), np.char.mod("%.1f", kinds.spreads))
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
        for left_out in sorted({song for song, *_ in real}):
            kinds = table(synth, [stem for stem in real if stem[0] != left_out])
            report(
                f"real, without {left_out}",
                [(r, told(kinds, s)) for song, _, _, r, s in real if song == left_out and r],
            )
        return
    with Pool(PROCESSES) as pool:
        unseen = [stem for song in pool.map(synthesised, UNSEEN_SEEDS, chunksize=1) for stem in song]
    report("synthesised, unseen", [(role, told(KINDS, sound)) for *_, role, sound in unseen])
    if real:
        report("real, some in the table", [(role, told(KINDS, sound)) for *_, role, sound in real if role])


if __name__ == "__main__":
    main()
