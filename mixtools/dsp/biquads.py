"""Biquads in cascade: the recursion that every equaliser and weighting filter runs on."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import GRID, TINY, kernel
from mixtools.dsp.lanes import LANES, bottom, load, multiply, multiply_add, shift_in, store, where_between

# A section in state-space form: y = b0 x + s, s' = c1 x - a1 s + u, u' = c2 x - a2 s with c = b - a b0. The way from
# s to the next s is one multiply-add, half of what the transposed direct form takes.


def in_lanes(sections: np.ndarray) -> np.ndarray:
    """Sections (sections, 5) of b0, b1, b2, a1, a2 as `cascade` takes them: (5, 8) of b0, c1, c2, -a1, -a2."""
    coefficients = np.zeros((5, LANES))
    coefficients[0] = 1.0
    for k, (b0, b1, b2, a1, a2) in enumerate(sections):
        coefficients[:, LANES - 1 - k] = b0, b1 - a1 * b0, b2 - a2 * b0, -a1, -a2
    return coefficients


@kernel
def cascade(x, y, coefficients, delays, state, position):
    """Up to eight sections on one channel, from the top lane down, each two samples behind the one before it.

    Section k's sample at iteration i is i - 2 k, so the first and last 14 iterations leave some lanes idle: nothing is
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
    i = 0
    while i < n + depth:
        filling = i < depth
        stop = min(depth, n + depth) if filling else (n if i < n else n + depth)
        if filling or i >= n:
            for j in range(i, stop):
                above = np.float64(j - n)
                upto = np.float64(j)
                if (position + j) & (GRID - 1) == 0:
                    s = where_between(lag, above, upto, where_between(s, -TINY, TINY, zero, s), s)
                    u = where_between(lag, above, upto, where_between(u, -TINY, TINY, zero, u), u)
                into = shift_in(before, np.float64(x[j]) if j < n else 0.0)
                before = now
                now = multiply_add(b0, into, s)
                t = multiply_add(c1, into, u)
                u = where_between(lag, above, upto, multiply_add(a2, s, multiply(c2, into)), u)
                s = where_between(lag, above, upto, multiply_add(a1, s, t), s)
                if j >= depth:
                    y[j - depth] = bottom(now)
        else:
            for j in range(i, stop):
                if (position + j) & (GRID - 1) == 0:
                    s = where_between(s, -TINY, TINY, zero, s)
                    u = where_between(u, -TINY, TINY, zero, u)
                into = shift_in(before, np.float64(x[j]))
                before = now
                now = multiply_add(b0, into, s)
                t = multiply_add(c1, into, u)
                u = multiply_add(a2, s, multiply(c2, into))
                s = multiply_add(a1, s, t)
                y[j - depth] = bottom(now)
        i = stop
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


class BiquadCascade:
    """Fixed sections (sections, 5) of b0, b1, b2, a1, a2, at most eight, on (channels, n) block by block.

    Float64 state and coefficients whatever the audio's type.
    """

    def __init__(self, sections: np.ndarray, channels: int, start: int = 0):
        self._coefficients = in_lanes(sections)
        self._delays = np.stack([2.0 * np.arange(LANES)[::-1], np.zeros(LANES)])
        self._state = np.zeros((channels, 2, LANES))
        self._position = start

    def process(self, x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        for c in range(len(x)):
            cascade(x[c], y[c], self._coefficients, self._delays, self._state[c], self._position)
        self._position += x.shape[1]
        return y


class AutomatedBiquadCascade:
    """Sections whose coefficients (points, sections, 5) move along the control grid."""

    def __init__(self, sections: int, channels: int):
        self._state = np.zeros((channels, sections, 2))

    def process(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        y = np.empty_like(x)
        for c in range(len(x)):
            cascade_automated(x[c], y[c], coefficients, self._state[c], phase)
        return y
