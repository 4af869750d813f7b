"""Loudness after ITU-R BS.1770-4 and EBU R 128 (Tech 3341, Tech 3342), block by block in bounded memory."""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp.compiled import TINY, kernel
from mixtools.dsp.lanes import multiply, multiply_add, paired, parted

ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
RANGE_GATE_LU = -20.0
RANGE_PERCENT = 10, 95
OFFSET_LUFS = -0.691
SLOT_S = 0.01
"""Momentary and short-term windows move by this much: Tech 3341's bursts stand anywhere, and have to be met."""
SLOTS_IN_A_HOP = 10
SLOTS_IN_A_BLOCK = 40
"""400 ms, a gating block and the momentary window."""
SLOTS_IN_SHORT_TERM = 300


def k_weighting(rate: float) -> np.ndarray:
    """The recommendation's shelf and high-pass, (2, 5), at any rate; its own coefficients at 48 kHz.

    The analogue prototypes behind the published coefficients, after B. De Man's derivation.
    """
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q = 0.7071752369554196
    high = 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = (
        (high + band * k / q + k * k) / a0,
        2.0 * (k * k - high) / a0,
        (high - band * k / q + k * k) / a0,
        2.0 * (k * k - 1.0) / a0,
        (1.0 - k / q + k * k) / a0,
    )
    k = math.tan(math.pi * 38.13547087602444 / rate)
    q = 0.5003270373238773
    a0 = 1.0 + k / q + k * k
    high_pass = (1.0, -2.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0)
    return np.array([shelf, high_pass])


def k_power(hz: np.ndarray, rate: float) -> np.ndarray:
    """What K-weighting multiplies the power of each frequency with."""
    z = np.exp(-2j * np.pi * np.asarray(hz) / rate)
    gains = np.ones_like(z)
    for b0, b1, b2, a1, a2 in k_weighting(rate):
        gains *= (b0 + b1 * z + b2 * z * z) / (1.0 + a1 * z + a2 * z * z)
    return np.abs(gains) ** 2


@kernel
def weighted_energies(x, sections, state, ends, energies):
    """Add the energy of x (channels, n) after two biquads to energies, one per stretch that ends at `ends`.

    Both channels side by side (a mono signal twice, and halved), in state-space form, whose way from one state to the
    next is a single multiply-add. state: (4, 2).
    """
    b0, b1, b2, a1, a2 = sections[0]
    d0, d1, d2, e1, e2 = sections[1]
    from_input = paired(b0, b0)
    input_to_s = paired(b1 - a1 * b0, b1 - a1 * b0)
    input_to_u = paired(b2 - a2 * b0, b2 - a2 * b0)
    s_to_s = paired(-a1, -a1)
    s_to_u = paired(-a2, -a2)
    from_between = paired(d0, d0)
    between_to_v = paired(d1 - e1 * d0, d1 - e1 * d0)
    between_to_w = paired(d2 - e2 * d0, d2 - e2 * d0)
    v_to_v = paired(-e1, -e1)
    v_to_w = paired(-e2, -e2)
    left = x[0]
    right = x[x.shape[0] - 1]
    share = 0.5 * x.shape[0]
    s = paired(state[0, 0], state[0, 1])
    u = paired(state[1, 0], state[1, 1])
    v = paired(state[2, 0], state[2, 1])
    w = paired(state[3, 0], state[3, 1])
    begin = 0
    for k in range(ends.size):
        energy = paired(0.0, 0.0)
        for i in range(begin, ends[k]):
            value = paired(np.float64(left[i]), np.float64(right[i]))
            between = multiply_add(from_input, value, s)
            t = multiply_add(input_to_s, value, u)
            u = multiply_add(s_to_u, s, multiply(input_to_u, value))
            s = multiply_add(s_to_s, s, t)
            weighted = multiply_add(from_between, between, v)
            t = multiply_add(between_to_v, between, w)
            w = multiply_add(v_to_w, v, multiply(between_to_w, between))
            v = multiply_add(v_to_v, v, t)
            energy = multiply_add(weighted, weighted, energy)
        begin = ends[k]
        one, other = parted(energy)
        energies[k] += share * (one + other)
    state[0, 0], state[0, 1] = parted(s)
    state[1, 0], state[1, 1] = parted(u)
    state[2, 0], state[2, 1] = parted(v)
    state[3, 0], state[3, 1] = parted(w)


def loudness_of(power: float) -> float:
    """LUFS of a mean square after weighting, summed over the channels."""
    return OFFSET_LUFS + 10.0 * math.log10(power)


def power_of(lufs: float) -> float:
    """The inverse of `loudness_of`."""
    return 10.0 ** ((lufs - OFFSET_LUFS) / 10.0)


class LoudnessMeter:
    """Takes mono or stereo audio (channels, n) in blocks of any size, and keeps one power per 10 ms.

    `dual_mono` counts a mono signal as what two loudspeakers make of it, 3 LU louder.
    """

    def __init__(self, rate: float, channels: int, dual_mono: bool = False):
        self._rate = rate
        self._weight = 2.0 if dual_mono and channels == 1 else 1.0
        self._sections = k_weighting(rate)
        self._state = np.zeros((4, 2))
        self._position = 0
        self._energies: list[np.ndarray] = []
        self._open = 0.0

    def add(self, x: np.ndarray) -> None:
        n = x.shape[1]
        ends = self._slot_ends(n)
        energies = np.zeros(len(ends) + 1)
        weighted_energies(x, self._sections, self._state, np.append(ends, n), energies)
        self._state[np.abs(self._state) < TINY] = 0.0
        energies[0] += self._open
        self._open = energies[-1]
        self._energies.append(energies[:-1])
        self._position += n

    def _slot_ends(self, n: int) -> np.ndarray:
        """Where 10 ms are over within the next n samples."""
        slot = SLOT_S * self._rate
        ends = np.rint(np.arange(int(self._position / slot), int((self._position + n) / slot) + 2) * slot)
        ends = ends.astype(np.int64) - self._position
        return ends[(ends > 0) & (ends <= n)]

    def _powers(self, slots: int, step: int) -> np.ndarray:
        """The mean power of every whole window of so many 10 ms, `step` apart."""
        self._energies = [np.concatenate([np.zeros(0), *self._energies])]
        window = np.full(slots, self._weight / (slots * SLOT_S * self._rate))
        energies = self._energies[0]
        return np.convolve(energies, window, mode="valid")[::step] if len(energies) >= slots else np.zeros(0)

    @property
    def integrated_lufs(self) -> float | None:
        """Gated loudness; None when nothing is louder than the absolute gate, or the audio is shorter than 400 ms."""
        return self.integrated_lufs_after(0.0)

    def integrated_lufs_after(self, gain_db: float) -> float | None:
        """What it would be after a gain, which moves blocks across the absolute gate."""
        blocks = self._powers(SLOTS_IN_A_BLOCK, SLOTS_IN_A_HOP) * 10.0 ** (gain_db / 10.0)
        loud = blocks[blocks > power_of(ABSOLUTE_GATE_LUFS)]
        if not loud.size:
            return None
        gate = power_of(loudness_of(loud.mean()) + RELATIVE_GATE_LU)
        return loudness_of(loud[loud > gate].mean())

    @property
    def range_lu(self) -> float | None:
        """Loudness range (Tech 3342); None when no 3 s are louder than the absolute gate."""
        windows = self._powers(SLOTS_IN_SHORT_TERM, SLOTS_IN_A_HOP)
        loud = windows[windows > power_of(ABSOLUTE_GATE_LUFS)]
        if not loud.size:
            return None
        gate = power_of(loudness_of(loud.mean()) + RANGE_GATE_LU)
        low, high = np.percentile(loud[loud > gate], RANGE_PERCENT, method="nearest")
        return loudness_of(high) - loudness_of(low)

    @property
    def momentary_max_lufs(self) -> float | None:
        """The loudest 400 ms; None for silence and for less than 400 ms."""
        return _highest(self._powers(SLOTS_IN_A_BLOCK, 1))

    @property
    def short_term_max_lufs(self) -> float | None:
        """The loudest 3 s; None for silence and for less than 3 s."""
        return _highest(self._powers(SLOTS_IN_SHORT_TERM, 1))

    def momentary_lufs(self) -> np.ndarray:
        """Loudness of 400 ms ending 0.4 s, 0.41 s, … into the audio; minus infinity where there is silence."""
        return _series(self._powers(SLOTS_IN_A_BLOCK, 1))

    def short_term_lufs(self) -> np.ndarray:
        """Loudness of 3 s ending 3 s, 3.01 s, … into the audio; minus infinity where there is silence."""
        return _series(self._powers(SLOTS_IN_SHORT_TERM, 1))


def _highest(powers: np.ndarray) -> float | None:
    highest = powers.max(initial=0.0)
    return loudness_of(highest) if highest > 0.0 else None


def _series(powers: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return OFFSET_LUFS + 10.0 * np.log10(powers)
