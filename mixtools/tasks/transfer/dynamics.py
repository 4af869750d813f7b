"""The master's compressor and limiter: what brings a mix to a crest factor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixtools.controls import EFFECTS
from mixtools.dsp import compressor, limiter
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Insert
from mixtools.tasks.automix.options import CEILING_DBTP
from mixtools.tasks.automix.rules import MANNERS
from mixtools.tasks.transfer.desk import Desk, master_compressor, squeezed
from mixtools.tasks.transfer.session import Session

LIMITED_DB, MOST_LIMITED_DB = 4.5, 12.0
"""What the limiter takes off peaks by itself, and what at most, for a record's crest factor that the compressor does
not reach: a record as dense as that was limited as much."""

MOST_SQUEEZED_DB = 12.0
"""What the master's compressor does at most, at peaks."""

MAKEUP = EFFECTS["compressor"]["makeup_db"]

LEVEL_LUFS = -28.0
"""Where a mix is limited on trial, so that every ceiling is within the limiter's range."""

QUIETER_LU = 1.0
"""A mix may stay this much below the loudness of a record whose crest factor it has already."""

EAGER = 1.5
"""A compressor does less at short peaks than it is set to."""

ROUNDS = 6
NEAR_DB = 0.05


@dataclass(frozen=True, eq=False)
class Finished:
    """Parts of a mix with the master's dynamics; the ceiling is in dB above the loudness, None where it needs none.

    `free_crest_db` is the crest factor of left and right before, `limited_db` by how much the limiter lowers peaks.
    """

    audio: np.ndarray
    ceiling_db: float | None
    free_crest_db: np.ndarray
    peak_db: float
    squeeze_db: float
    limited_db: float = 0.0


def squeeze(desk: Desk, session: Session, amount_db: float, roles: Mapping[str, str]) -> None:
    """Let tracks' compressors take so much more off their peaks, or less, and give back the power that goes with it."""
    mix = session.in_its_time(desk.mix)
    for k, i in enumerate(desk.free):
        places = desk.places[k]
        chain = mix.tracks[i].chain
        x = session.through(chain[: places.compressor], session.placed(mix.tracks[i]))
        old = chain[places.compressor]
        new = squeezed(old, amount_db, decibels(np.abs(x).max()), MANNERS[roles.get(mix.tracks[i].file, "other")])
        before, after = (_power(session.cut(session.through([insert], x))) for insert in (old, new))
        if new is not old:
            given = new.settings["makeup_db"] + 10.0 * math.log10(before / after)
            new.controls["makeup_db"] = float(f"{min(max(given, MAKEUP.low), MAKEUP.high):.3g}")
            desk.mix.tracks[i].chain[places.compressor] = new


def compressed_db(compressor: Insert, peak_db: float) -> float:
    """What a compressor takes off a peak in the end, by its static curve above the knee."""
    settings = compressor.settings
    return max(0.0, peak_db - settings["threshold_db"]) * (1.0 - 1.0 / settings["ratio"])


def decibels(amplitude: float) -> float:
    return 20.0 * math.log10(max(float(amplitude), 1e-9))


def _power(x: np.ndarray) -> float:
    return max(float(np.mean(np.square(x, dtype=np.float64))), 1e-20)


def crest_db(x: np.ndarray) -> np.ndarray:
    """Of every channel, in dB; 0 for silence."""
    return np.array([decibels(np.abs(side).max()) - decibels(math.sqrt(_power(side))) for side in x])


def finished(x: np.ndarray, rate: int, wanted_db: float, target_lufs: float) -> Finished:
    """Compress and limit parts of a mix (2, n) so that their crest factor, in the mean of both sides, is as wanted.

    The limiter goes first, as far as it is not heard, and the compressor takes what is left. A mix whose peaks are
    lower already stays as it is, below what its loudness in the end leaves for peaks.
    """
    free = crest_db(x)
    peak = decibels(np.abs(x).max(initial=0.0))
    squeeze, y = 0.0, x
    for _ in range(ROUNDS):
        over = max(float(crest_db(y).mean()) - wanted_db, _too_high_db(y, rate, target_lufs) - QUIETER_LU)
        excess = over - LIMITED_DB
        if abs(excess) < 0.25 or (excess < 0.0 and squeeze == 0.0) or (excess > 0.0 and squeeze >= MOST_SQUEEZED_DB):
            break
        squeeze = min(max(squeeze + EAGER * excess, 0.0), MOST_SQUEEZED_DB)
        y = compressor(x, rate, **master_compressor(squeeze, peak)) if squeeze else x
    loudness = _lufs(y, rate)
    if loudness is None:
        return Finished(y, None, free, peak, squeeze)
    level = np.ascontiguousarray(y * np.float32(10.0 ** ((LEVEL_LUFS - loudness) / 20.0)))
    limited, ceiling, by_db = _limited(level, rate, wanted_db, CEILING_DBTP - target_lufs)
    return Finished(limited, ceiling, free, peak, squeeze, by_db)


def _lufs(x: np.ndarray, rate: int) -> float | None:
    meter = LoudnessMeter(rate, len(x))
    meter.add(x)
    return meter.integrated_lufs


def _too_high_db(x: np.ndarray, rate: int, target_lufs: float) -> float:
    """How far the peaks of a mix would be above the ceiling at its loudness."""
    found = _lufs(x, rate)
    return -math.inf if found is None else decibels(np.abs(x).max(initial=0.0)) + target_lufs - found - CEILING_DBTP


def _limited(level: np.ndarray, rate: int, wanted_db: float, room_db: float) -> tuple[np.ndarray, float | None, float]:
    """Parts of a mix limited to a crest factor, and to peaks no further above the loudness that is left than the room.

    And the ceiling above that loudness, None where no limiter is needed, and by how much peaks are lowered. The room is
    not worth as much limiting as the crest factor: a mix can be quieter.
    """
    control = EFFECTS["limiter"]["ceiling_db"]
    peak = decibels(np.abs(level).max())
    if float(crest_db(level).mean()) <= wanted_db and peak <= room_db + LEVEL_LUFS:
        return level, None, 0.0
    rms_db = float(np.mean([decibels(math.sqrt(_power(side))) for side in level]))

    def held(for_crest: float, for_room: float) -> float:
        ceiling = min(max(for_crest, peak - MOST_LIMITED_DB), max(for_room, peak - LIMITED_DB - 1.0))
        return min(max(ceiling, control.low), control.high)

    ceiling = held(rms_db + wanted_db, room_db + LEVEL_LUFS)
    for _ in range(ROUNDS):
        y = limiter(level, rate, ceiling_db=ceiling)
        loudness = _lufs(y, rate)
        after = LEVEL_LUFS if loudness is None else loudness
        following = held(ceiling + wanted_db - float(crest_db(y).mean()), room_db + after)
        if abs(following - ceiling) < NEAR_DB:
            break
        ceiling = following
    return y, ceiling - after, max(0.0, peak - ceiling)
