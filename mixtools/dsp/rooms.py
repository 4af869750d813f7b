"""The five bundled impulse responses: synthesised from seeds, so that a mix file can name a room without a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mixtools.controls import REVERB_CENTRES_HZ, ROOMS
from mixtools.dsp.noise import shaped_noise


@dataclass(frozen=True)
class Room:
    """Decay times at 125 Hz, 1 kHz and 8 kHz, when the first reflection and the diffuse tail come, how many early
    reflections there are, and how loud the tail is against them."""

    decay_s: tuple[float, float, float]
    first_ms: float
    tail_ms: float
    reflections: int
    tail: float
    seed: int


_ROOMS = dict(
    zip(
        ROOMS,
        (
            Room((0.35, 0.3, 0.2), 2.0, 8.0, 14, 0.6, 101),
            Room((0.8, 0.7, 0.4), 6.0, 20.0, 18, 0.7, 102),
            Room((1.5, 1.3, 0.7), 11.0, 35.0, 22, 0.8, 103),
            Room((2.8, 2.4, 1.1), 20.0, 55.0, 24, 0.9, 104),
            Room((2.4, 1.8, 1.0), 0.5, 1.0, 0, 1.0, 105),
        ),
        strict=True,
    )
)


@lru_cache(maxsize=32)
def room_response(name: str, rate: int) -> np.ndarray:
    """A bundled room's impulse response, float64 (2, taps), of unit energy in the mean of both sides."""
    room = _ROOMS[name]
    octaves = np.log2(np.array([125.0, 1000.0, 8000.0]))
    bands = np.log2(np.array(REVERB_CENTRES_HZ))
    decays = np.interp(bands, octaves, room.decay_s)
    tail = shaped_noise(np.ones(12), decays, width=1.0, seed=room.seed, rate=rate)
    start = round(room.tail_ms * rate / 1000)
    response = np.zeros((2, start + tail.shape[1]))
    response[:, start:] = room.tail * tail
    random = np.random.RandomState(room.seed)
    times = np.sort(random.uniform(room.first_ms, 3.0 * room.tail_ms, room.reflections))
    level = np.sqrt(1.0 - room.tail**2) / max(1.0, np.sqrt(room.reflections / 2.0))
    for time_ms in times:
        side = random.uniform(0.2, 0.8)
        size = level * random.choice((-1.0, 1.0)) * (room.first_ms / time_ms) ** 0.5
        at = round(time_ms * rate / 1000)
        response[:, at] += size * 2.0 * np.array([1.0 - side, side])
    response = response[:, round(room.first_ms * rate / 1000) :] if room.reflections else response
    return response / np.sqrt((response**2).sum() / 2.0)
