"""Composes a song: form, harmony, melody and the notes of every part, in seconds and MIDI pitches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle, islice

import numpy as np

from mixtools.dsp.noise import generator
from mixtools.synth.instruments import Sound
from mixtools.synth.notes import Note
from mixtools.synth.styles import (
    FORMS,
    MINOR_SCALES,
    PARTS,
    PLAYS,
    RHYTHMS,
    SCALES,
    SECTIONS,
    STYLES,
    SYLLABLES,
    Part,
    Style,
)

FEWEST_STEMS, MOST_STEMS = 8, 24

STEPS = 16
"""Steps in a bar: sixteenths."""

_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_STROKES = {"X": 1.0, "x": 0.75, "g": 0.42, "C": 1.0, "m": 0.6}
_USUAL_STROKE = 0.8
_LEGATO = 0.95
_BARS_IN_PHRASE = 4
_POWER_CHORD_CENTRE = 46


@dataclass(frozen=True)
class Section:
    """A stretch of the song: what it is, its first bar, and its length in bars."""

    name: str
    first: int
    bars: int


@dataclass(frozen=True)
class Tone:
    """A note of a melody: step in the phrase, steps long, scale degree from the tonic, and syllable."""

    step: int
    steps: int
    degree: int
    syllable: str


@dataclass(frozen=True)
class Score:
    """What all parts of a song agree on."""

    seed: int
    style_name: str
    tempo: int
    tonic: int
    scale: str
    swing: float
    seventh: bool
    sections: tuple[Section, ...]
    progressions: dict[str, tuple[int, ...]]
    melodies: dict[str, tuple[Tone, ...]]

    @property
    def style(self) -> Style:
        return STYLES[self.style_name]

    @property
    def key(self) -> str:
        return _NAMES[self.tonic] + ("m" if self.scale in MINOR_SCALES else "")

    @property
    def step_s(self) -> float:
        return 60.0 / self.tempo / 4

    def time(self, step: int) -> float:
        """When a step of the song begins, in seconds."""
        return (step + (self.swing if step % 2 else 0.0)) * self.step_s

    def pitch(self, degree: int) -> int:
        """The MIDI pitch of a scale degree counted from the lowest tonic."""
        octave, step = divmod(degree, 7)
        return self.tonic + 12 * octave + SCALES[self.scale][step]

    def degree_near(self, pitch: int) -> int:
        """The degree of the tonic nearest to a pitch."""
        return 7 * round((pitch - self.tonic) / 12)

    def chord(self, section: Section, bar: int) -> tuple[int, ...]:
        """The scale degrees of a bar's chord, root first."""
        progression = self.progressions[section.name]
        root = progression[(bar - section.first) % len(progression)]
        return tuple(root + 2 * k for k in range(4 if self.seventh else 3))

    def voicing(self, chord: tuple[int, ...], centre: int) -> tuple[int, ...]:
        """A chord with every tone in the octave around a pitch, low to high."""
        return tuple(sorted({_nearest(self.pitch(degree), centre) for degree in chord}))

    def ladder(self, chord: tuple[int, ...], centre: int, rung: int) -> int:
        """The chord's tones one above the other, from the root near a pitch upwards."""
        octave, third = divmod(rung, 3)
        root = _nearest(self.pitch(chord[0]), centre)
        return root + self.pitch(chord[third]) - self.pitch(chord[0]) + 12 * octave


def _nearest(pitch: int, centre: int) -> int:
    return centre - 6 + (pitch - centre + 6) % 12


def compose(seed: int, seconds: float, style_name: str | None) -> Score:
    """Decide what all parts share."""
    rng = generator(seed, "song")
    name = style_name or tuple(STYLES)[rng.integers(len(STYLES))]
    style = STYLES[name]
    tempo = int(rng.integers(style.tempo[0], style.tempo[1] + 1))
    scale = pick(rng, style.scales)
    bars = max(1, int(np.ceil(seconds * tempo / 240)))
    return Score(
        seed=seed,
        style_name=name,
        tempo=tempo,
        tonic=int(rng.integers(12)),
        scale=scale,
        swing=float(rng.uniform(*style.swing)),
        seventh=bool(rng.random() < style.sevenths),
        sections=_form(FORMS[rng.integers(len(FORMS))].split(), bars),
        progressions={
            section: tuple(int(degree) - 1 for degree in pick(rng, style.progressions)) for section in SECTIONS
        },
        melodies={section: _melody(rng, 2 if section == "chorus" else 0) for section in SECTIONS},
    )


def choose_parts(score: Score, stems: int | None) -> list[str]:
    """The names of the parts that play: the style's core first, then what is usual, then anything."""
    rng = generator(score.seed, "parts")
    count = int(rng.integers(FEWEST_STEMS, MOST_STEMS + 1)) if stems is None else stems
    names = score.style.core.split()
    for groups in (score.style.usual.split(), _families()):
        for k in rng.permutation(len(groups)):
            names += [name for name in groups[k].split("+") if name not in names]
    return names[:count]


def _families() -> list[str]:
    """All parts, those of a family joined by `+`."""
    families: dict[str, list[str]] = {}
    for name, part in PARTS.items():
        families.setdefault(part.family or name, []).append(name)
    return ["+".join(names) for names in families.values()]


def pick(rng: np.random.Generator, words: str) -> str:
    """One of the words of a string."""
    choices = words.split()
    return choices[int(rng.integers(len(choices)))]


def _form(body: list[str], bars: int) -> tuple[Section, ...]:
    length = 8 if bars >= 56 else 4 if bars >= 18 else 2 if bars >= 6 else 1
    count = -(-bars // length)
    if count < 4:
        names = ["chorus", "verse", "chorus"][:count]
    else:
        middle = list(islice(cycle(body), count - 2))
        names = ["intro", *middle, "outro"] if "chorus" in middle else ["intro", *middle[1:], "chorus", "outro"]
    return tuple(Section(name, k * length, min(length, bars - k * length)) for k, name in enumerate(names))


def _melody(rng: np.random.Generator, lift: int) -> tuple[Tone, ...]:
    """A phrase of four bars, A B A C, the rhythm of A the same each time."""
    first, second, last = rng.permutation(RHYTHMS.split())[:3]
    degree = lift + int(rng.integers(-1, 3))
    tones = []
    for bar, rhythm in enumerate((first, second, first, last)):
        for step, length, _ in strokes(str(rhythm)):
            degree += int(rng.choice((-3, -2, -1, 0, 1, 2, 3), p=(0.05, 0.15, 0.25, 0.14, 0.22, 0.12, 0.07)))
            degree = int(np.clip(degree, lift - 4, lift + 5))
            tones.append(Tone(bar * STEPS + step, length, degree, pick(rng, SYLLABLES)))
    return tuple(tones)


@lru_cache(maxsize=512)
def strokes(pattern: str) -> tuple[tuple[int, int, str], ...]:
    """Read a pattern: (step, steps long, character) of every note."""
    found = []
    for step, character in enumerate(pattern):
        if character == "-" and found:
            found[-1][1] += 1
        elif character not in ".-":
            found.append([step, 1, character])
    return tuple((step, length, character) for step, length, character in found)


def write_part(score: Score, name: str, part: Part, sound: Sound, seconds: float) -> list[Note]:
    """The notes of a part, in order; there is at least one."""
    shared = generator(score.seed, f"part {part.family or name}")
    own = generator(score.seed, f"playing {name}")
    patterns = score.style.patterns.get(part.family or name, part.patterns)
    part = replace(part, patterns=patterns, centre=sound.centre or part.centre)
    playing = _active_sections(shared, part.role, score)
    player = PLAYERS[part.player](score, part, sound, shared)
    notes = [
        note
        for section in score.sections
        if section.name in playing
        for bar in range(section.first, section.first + section.bars)
        for note in player(section, bar)
    ]
    loose_s = score.style.loose_ms / 1000
    lag_s = float(own.uniform(-0.5, 1.0)) * loose_s
    notes = sorted((_human(note, own, loose_s, lag_s) for note in notes), key=lambda note: note.start)
    heard = [note for note in notes if note.start < seconds - 0.05]
    return heard or [replace(notes[0], start=0.0)]


def _active_sections(rng: np.random.Generator, role: str, score: Score) -> set[str]:
    drawn = {name for name, chance in zip(SECTIONS, PLAYS[role], strict=True) if rng.random() < chance}
    present = {section.name for section in score.sections}
    return drawn & present or present & {"chorus"}


def _human(note: Note, rng: np.random.Generator, loose_s: float, lag_s: float) -> Note:
    start = max(0.0, note.start + lag_s + loose_s * float(rng.standard_normal()))
    velocity = float(np.clip(note.velocity * (1.0 + 0.09 * rng.standard_normal()), 0.1, 1.0))
    return replace(note, start=start, velocity=velocity)


Bar = Callable[[Section, int], list[tuple[int, int, str]]]
"""Of a bar in a section: step in the song, steps long, and character of every stroke."""

Player = Callable[[Section, int], list[Note]]
"""Of a bar in a section: its notes."""


def _bars(part: Part, rng: np.random.Generator) -> Bar:
    """Which strokes a part plays in a bar: its section's pattern, a fill at the end, an opening at the beginning."""
    patterns = {section: pick(rng, part.patterns) for section in SECTIONS}
    fills = {section: pick(rng, part.fills) if part.fills else "" for section in SECTIONS}
    fills_often = rng.random() < 0.8

    def bar_strokes(section: Section, bar: int) -> list[tuple[int, int, str]]:
        pattern = patterns[section.name]
        if fills[section.name] and fills_often and section.bars > 1 and bar == section.first + section.bars - 1:
            pattern = fills[section.name]
        if part.opening and bar == section.first:
            pattern = part.opening + pattern[1:]
        return [(bar * STEPS + step, length, character) for step, length, character in strokes(pattern)]

    return bar_strokes


def _note(score: Score, step: int, steps: int, mark: str, pitches: tuple[int, ...] = ()) -> Note:
    accent = 0.08 if step % 4 == 0 else 0.0
    velocity = min(1.0, _STROKES.get(mark, _USUAL_STROKE) + accent)
    return Note(score.time(step), _LEGATO * steps * score.step_s, velocity, pitches, mark)


def _hits(score: Score, part: Part, sound: Sound, rng: np.random.Generator) -> Player:
    bars = _bars(part, rng)
    return lambda section, bar: [_note(score, *stroke) for stroke in bars(section, bar)]


def _ladder(score: Score, part: Part, sound: Sound, rng: np.random.Generator) -> Player:
    bars = _bars(part, rng)
    vowel = pick(rng, "a u o")

    def play(section: Section, bar: int) -> list[Note]:
        chord = score.chord(section, bar)
        return [
            _note(score, step, steps, vowel, (score.ladder(chord, part.centre, int(rung)),))
            for step, steps, rung in bars(section, bar)
        ]

    return play


def _chords(score: Score, part: Part, sound: Sound, rng: np.random.Generator) -> Player:
    bars = _bars(part, rng)

    def play(section: Section, bar: int) -> list[Note]:
        chord = score.chord(section, bar)
        pitches = score.voicing(chord, part.centre)
        if sound.power_chords:
            root = _nearest(score.pitch(chord[0]), _POWER_CHORD_CENTRE)
            pitches = (root, root + 7, root + 12)
        return [_note(score, step, steps, mark, pitches) for step, steps, mark in bars(section, bar)]

    return play


def _sung(score: Score, part: Part, sound: Sound, rng: np.random.Generator) -> Player:
    home = score.degree_near(part.centre)

    def play(section: Section, bar: int) -> list[Note]:
        chord = score.chord(section, bar)
        start = (bar - section.first) % _BARS_IN_PHRASE * STEPS
        notes = []
        for tone in score.melodies[section.name]:
            if start <= tone.step < start + STEPS:
                degree = home + _consonant_degree(tone, chord) + part.shift
                step = bar * STEPS + tone.step - start
                notes.append(_note(score, step, tone.steps, tone.syllable, (score.pitch(degree),)))
        return notes

    return play


def _consonant_degree(tone: Tone, chord: tuple[int, ...]) -> int:
    """On the beat and at ends, the nearest tone of the chord; elsewhere the melody's own."""
    if tone.step % 4 and tone.steps < 4:
        return tone.degree
    return min(
        (tone.degree + move for move in (0, -1, 1) if (tone.degree + move - chord[0]) % 7 in (0, 2, 4)),
        key=lambda degree: abs(degree - tone.degree),
        default=tone.degree,
    )


PLAYERS = {"hits": _hits, "ladder": _ladder, "chords": _chords, "melody": _sung}
