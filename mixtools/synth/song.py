"""A song from a seed: multitrack stems to try, train and test on."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from mixtools.controls import SAMPLE_RATE, shown
from mixtools.dsp.noise import generator
from mixtools.errors import ParameterError, nearest
from mixtools.synth.instruments import SOUNDS
from mixtools.synth.score import (
    FEWEST_STEMS,
    MOST_STEMS,
    STEPS,
    Score,
    choose_parts,
    compose,
    pick,
    write_part,
)
from mixtools.synth.styles import LEVELS_DB, PARTS, STYLES, Part

LONGEST_S = 3600
_FADE_S = 0.02


@dataclass(eq=False)
class Song:
    """A multitrack recording: float32 stems (channels, n) of one length by file name, and the role of each.

    `tempo` is in bpm; `sections` are (seconds, name) of what begins when.
    """

    name: str
    seed: int
    style: str
    tempo: float
    key: str
    rate: int
    sections: tuple[tuple[float, str], ...]
    stems: dict[str, np.ndarray]
    roles: dict[str, str]


def synth_song(
    seed: int, seconds: float = 30.0, rate: int = 44100, stems: int | None = None, style: str | None = None
) -> Song:
    """Synthesise a song; the same arguments give the same bits, and another seed gives another song.

    Style and number of stems are drawn from the seed unless given. A stem sounds the same however many others play.
    """
    _check(seed, seconds, stems, style)
    rate = SAMPLE_RATE.check(rate, "rate")
    score = compose(seed, seconds, style)
    n = max(1, round(seconds * rate))
    names = sorted(choose_parts(score, stems))
    return Song(
        name=f"{score.style_name}-{score.tempo}bpm-{score.key}-{seed:04d}",
        seed=seed,
        style=score.style_name,
        tempo=float(score.tempo),
        key=score.key,
        rate=rate,
        sections=tuple((score.time(section.first * STEPS), section.name) for section in score.sections),
        stems={f"{name}.wav": _record(score, name, PARTS[name], n, rate) for name in names},
        roles={f"{name}.wav": PARTS[name].role for name in names},
    )


def _record(score: Score, name: str, part: Part, n: int, rate: int) -> np.ndarray:
    """Perform a part and bring its peak to a recording level, (channels, n)."""
    family = part.family or name
    choices = score.style.sounds.get(family, part.sounds)
    sound = SOUNDS[pick(generator(score.seed, f"sound {family}"), choices)]
    rng = generator(score.seed, f"recording {name}")
    audio = sound.perform(write_part(score, name, part, sound, n / rate), n, rng, rate)
    fade = min(n, round(_FADE_S * rate))
    audio[:, n - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    peak = 10.0 ** (rng.uniform(*LEVELS_DB[part.role]) / 20.0)
    audio *= np.float32(peak / (max(audio.max(), -audio.min()) + 1e-9))
    return audio


def _check(seed: int, seconds: float, stems: int | None, style: str | None) -> None:
    if not _is(Integral, seed) or seed < 0:
        raise ParameterError(f"seed is {shown(seed)}; give a whole number, 0 or above")
    if not _is(Real, seconds) or not 0 < seconds <= LONGEST_S:
        raise ParameterError(f"seconds is {shown(seconds)}; give more than 0, at most {LONGEST_S}")
    if stems is not None and not (_is(Integral, stems) and FEWEST_STEMS <= stems <= MOST_STEMS):
        raise ParameterError(f"stems is {shown(stems)}; give a whole number, {FEWEST_STEMS} to {MOST_STEMS}")
    if style is not None and style not in STYLES:
        raise ParameterError(f"style is {shown(style)}; give {nearest(style, STYLES)}")


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
