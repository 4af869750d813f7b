"""Six bands of biquads in cascade, after the RBJ audio EQ cookbook."""

from __future__ import annotations

import math

import numpy as np

from mixtools.controls import EQ_BANDS, Curve
from mixtools.dsp.compiled import GRID, TINY, kernel
from mixtools.dsp.effect import DECAYED_DB, Processor, pure
from mixtools.dsp.lanes import LANES, last, load, multiply, multiply_add, shift_in, store, where_between

HIGHEST_FREQUENCY = 0.45
"""Of the sample rate."""


def biquad(band: str, gain_db: np.ndarray, freq_hz: np.ndarray, q: np.ndarray, rate: float) -> np.ndarray:
    """Cookbook coefficients b0, b1, b2, a1, a2 over a0, (points, 5) from (points,) controls."""
    a = 10.0 ** (gain_db / 40.0)
    w = 2.0 * np.pi * np.minimum(freq_hz, HIGHEST_FREQUENCY * rate) / rate
    cos = np.cos(w)
    alpha = np.sin(w) / (2.0 * q)
    if "shelf" not in band:
        b = (1.0 + alpha * a, -2.0 * cos, 1.0 - alpha * a)
        d = (1.0 + alpha / a, -2.0 * cos, 1.0 - alpha / a)
    else:
        side = 1.0 if band == "low_shelf" else -1.0
        slope = 2.0 * np.sqrt(a) * alpha
        up, down = a + 1.0, a - 1.0
        b = (
            a * (up - side * down * cos + slope),
            side * 2.0 * a * (down - side * up * cos),
            a * (up - side * down * cos - slope),
        )
        d = (
            up + side * down * cos + slope,
            side * -2.0 * (down + side * up * cos),
            up + side * down * cos - slope,
        )
    return np.stack([b[0] / d[0], b[1] / d[0], b[2] / d[0], d[1] / d[0], d[2] / d[0]], axis=-1)


# A section in state-space form: y = b0 x + s, s' = c1 x - a1 s + u, u' = c2 x - a2 s with c = b - a b0. The way from
# s to the next s is one multiply-add, half of what the transposed direct form takes.
_B0, _C1, _C2, _A1, _A2 = range(5)


@kernel
def cascade(x, y, coefficients, delays, state, position):
    """Up to eight sections on one channel, a section per lane, each lane two samples behind the one before it.

    Lane k's sample at iteration i is i - 2 k, so the first and last 14 iterations leave some lanes idle: nothing is
    in flight between calls, and blocks of any size give the same bits.
    """
    n = x.size
    depth = 2 * (LANES - 1)
    b0 = load(coefficients, 0)
    c1 = load(coefficients, 1)
    c2 = load(coefficients, 2)
    a1 = load(coefficients, 3)
    a2 = load(coefficients, 4)
    lag = load(delays, 0)
    zero = load(delays, 1)
    s = load(state, 0)
    u = load(state, 1)
    before = zero
    now = zero
    for i in range(n + depth):
        flush = (position + i) % GRID == 0
        if i < depth or i >= n:
            above = np.float64(i - n)
            upto = np.float64(i)
            if flush:
                s = where_between(lag, above, upto, where_between(s, -TINY, TINY, zero, s), s)
                u = where_between(lag, above, upto, where_between(u, -TINY, TINY, zero, u), u)
            into = shift_in(before, np.float64(x[i]) if i < n else 0.0)
            out = multiply_add(b0, into, s)
            t = multiply_add(c1, into, u)
            u = where_between(lag, above, upto, multiply_add(a2, s, multiply(c2, into)), u)
            s = where_between(lag, above, upto, multiply_add(a1, s, t), s)
        else:
            if flush:
                s = where_between(s, -TINY, TINY, zero, s)
                u = where_between(u, -TINY, TINY, zero, u)
            into = shift_in(before, np.float64(x[i]))
            out = multiply_add(b0, into, s)
            t = multiply_add(c1, into, u)
            u = multiply_add(a2, s, multiply(c2, into))
            s = multiply_add(a1, s, t)
        before = now
        now = out
        if i >= depth:
            value = last(out)
            y[i - depth] = value if abs(value) > TINY else 0.0
    store(state, 0, s)
    store(state, 1, u)


@kernel
def cascade_automated(x, y, coefficients, state, phase):
    """Sections (points, sections, 5) on one channel, coefficients linear between control points."""
    n = x.size
    sections = coefficients.shape[1]
    i = 0
    while i < n:
        k = (phase + i) // GRID
        offset = (phase + i) - k * GRID
        stop = min(n, i + GRID - offset)
        if offset == 0:
            for m in range(sections):
                for j in range(2):
                    if abs(state[m, j]) < TINY:
                        state[m, j] = 0.0
        for m in range(sections):
            begin = coefficients[k, m]
            end = coefficients[k + 1, m]
            s = state[m, 0]
            u = state[m, 1]
            for j in range(i, stop):
                t = (offset + j - i) * (1.0 / GRID)
                b0 = begin[0] + t * (end[0] - begin[0])
                b1 = begin[1] + t * (end[1] - begin[1])
                b2 = begin[2] + t * (end[2] - begin[2])
                a1 = begin[3] + t * (end[3] - begin[3])
                a2 = begin[4] + t * (end[4] - begin[4])
                value = x[j] if m == 0 else y[j]
                out = b0 * value + s
                s = b1 * value - a1 * out + u
                u = b2 * value - a2 * out
                y[j] = out
            state[m, 0] = s
            state[m, 1] = u
        i = stop


class ParametricEq(Processor):
    effect = "parametric_eq"

    def prepare(self) -> None:
        rate = self.rate
        moved = [b for b in self._active() if self.highest(f"{b}_freq_hz") > HIGHEST_FREQUENCY * rate]
        for band in moved:
            self.notes.append(
                f"{band}_freq_hz is {self.highest(f'{band}_freq_hz'):g}; "
                f"limited to {HIGHEST_FREQUENCY * rate:g}, 0.45 of the sample rate"
            )
        sections = len(self._active())
        self._state = np.zeros((self.channels, max(2, sections), LANES if not self.automated else 2))
        self._delays = np.stack([2.0 * np.arange(LANES), np.zeros(LANES)])
        if not self.automated:
            self._lanes = self._sections_in_lanes()
        self.tail = math.ceil(DECAYED_DB / 20 * math.log(10) * self._slowest_time_constant())

    def _active(self) -> list[str]:
        """The bands that do something: a band that stays at 0 dB is left out, hence exactly transparent."""
        gains = {band: self.controls[f"{band}_gain_db"] for band in EQ_BANDS}
        return [band for band, gain in gains.items() if isinstance(gain, Curve) or gain != 0.0]

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        bands = self._active()
        if not bands:
            return np.zeros((len(values["band1_q"]), 0, 5))
        return np.stack(
            [
                biquad(b, values[f"{b}_gain_db"], values[f"{b}_freq_hz"], values[f"{b}_q"], self.rate) for b in bands
            ],
            axis=1,
        )

    def _sections_in_lanes(self) -> np.ndarray:
        lanes = np.zeros((5, LANES))
        lanes[_B0] = 1.0
        for k, (b0, b1, b2, a1, a2) in enumerate(self._steady[0]):
            lanes[:, k] = b0, b1 - a1 * b0, b2 - a2 * b0, -a1, -a2
        return lanes

    def _slowest_time_constant(self) -> float:
        """In samples, from the poles: exact for steady bands, from the extremes of automated ones."""
        slowest = 0.0
        for band in self._active():
            corners = [
                biquad(band, *np.atleast_2d(gain, freq, q), self.rate)[0, 0]
                for gain in self._extremes(f"{band}_gain_db")
                for freq in self._extremes(f"{band}_freq_hz")
                for q in self._extremes(f"{band}_q")
            ]
            radius = max(np.abs(np.roots([1.0, c[3], c[4]])).max() for c in corners)
            slowest = max(slowest, -1.0 / math.log(radius) if radius > 0 else 0.0)
        return slowest

    def _extremes(self, name: str) -> tuple[float, ...]:
        value = self.controls[name]
        if isinstance(value, Curve):
            levels = [v for _, v in value.points]
            return min(levels), max(levels)
        return (value,)

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        if coefficients.shape[1] == 0:
            return x
        y = np.empty_like(x)
        for channel in range(self.channels):
            if self.automated:
                cascade_automated(x[channel], y[channel], coefficients, self._state[channel], phase)
            else:
                cascade(x[channel], y[channel], self._lanes, self._delays, self._state[channel], self.position)
        return y


parametric_eq = pure(ParametricEq)
