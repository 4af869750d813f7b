"""Biquads in cascade backwards in time: what the gradients of an equaliser run on.

Signals between the sections are not kept. The way forward leaves a mark of its state at every piece, and the way back
computes a piece once more while it is in cache.
"""

from __future__ import annotations

import numpy as np

from mixtools.dsp.biquads import cascade_automated
from mixtools.dsp.compiled import GRID, TINY, VANISHED, kernel
from mixtools.dsp.lanes import (
    LANES,
    bottom,
    load,
    multiply,
    multiply_add,
    shift_in,
    shift_out,
    store,
    top,
    where_between,
)

PIECE = 512
"""Samples, a multiple of the control grid's."""

_BEHIND = 2 * (LANES - 1)
_REGISTERS = 4


def marks_of_cascade(n: int) -> np.ndarray:
    """Where `cascade_marked` leaves its marks of n samples."""
    return np.empty((-(-(n + _BEHIND) // PIECE) * _REGISTERS, LANES))


@kernel
def cascade_marked(x, y, coefficients, marks):
    """As `biquads.cascade`, on the whole of a signal, with what is in the registers written to marks at every piece.

    Before its start and after its end the signal is 0, which needs no lane to be idle: section k's sample in row r is
    r - 2 k, wherever that is.
    """
    n = x.size
    b0 = load(coefficients, 0)
    c1 = load(coefficients, 1)
    c2 = load(coefficients, 2)
    a1 = load(coefficients, 3)
    a2 = load(coefficients, 4)
    zero = multiply(b0, load(np.zeros((1, LANES)), 0))
    s = zero
    u = zero
    before = zero
    now = zero
    for begin in range(0, n + _BEHIND, GRID):
        s = where_between(s, -TINY, TINY, zero, s)
        u = where_between(u, -TINY, TINY, zero, u)
        if begin % PIECE == 0:
            mark = begin // PIECE * _REGISTERS
            store(marks, mark, s)
            store(marks, mark + 1, u)
            store(marks, mark + 2, before)
            store(marks, mark + 3, now)
        for r in range(begin, min(begin + GRID, n + _BEHIND)):
            into = shift_in(before, np.float64(x[r]) if r < n else 0.0)
            before = now
            now = multiply_add(b0, into, s)
            t = multiply_add(c1, into, u)
            u = multiply_add(a2, s, multiply(c2, into))
            s = multiply_add(a1, s, t)
            if r >= _BEHIND:
                y[r - _BEHIND] = bottom(now)


@kernel
def cascade_adjoint(x, dy, dx, coefficients, marks, gradients):
    """Gradients of x and of the coefficients (5, 8), given those of y, of what `cascade_marked` does.

    Of a section y = b0 x + s, s' = c1 x - a1 s + u, u' = c2 x - a2 s, and of v and w, the gradients of s' and u':
    dx = b0 dy + c1 v + c2 w, and those of s and u are dy - a1 v - a2 w and v. The sections run from the bottom lane up,
    each two samples behind, so that every row meets the row of the way forward that it belongs to.
    """
    n = x.size
    b0 = load(coefficients, 0)
    c1 = load(coefficients, 1)
    c2 = load(coefficients, 2)
    a1 = load(coefficients, 3)
    a2 = load(coefficients, 4)
    zero = multiply(b0, load(np.zeros((1, LANES)), 0))
    inputs = np.empty((PIECE, LANES))
    states = np.empty((PIECE, LANES))
    v = zero
    w = zero
    later = zero
    latest = zero
    db0 = zero
    dc1 = zero
    dc2 = zero
    da1 = zero
    da2 = zero
    rows = n + _BEHIND
    for piece in range((rows - 1) // PIECE, -1, -1):
        first = piece * PIECE
        mark = piece * _REGISTERS
        s = load(marks, mark)
        u = load(marks, mark + 1)
        before = load(marks, mark + 2)
        now = load(marks, mark + 3)
        for begin in range(first, min(first + PIECE, rows), GRID):
            s = where_between(s, -TINY, TINY, zero, s)
            u = where_between(u, -TINY, TINY, zero, u)
            for r in range(begin, min(begin + GRID, rows)):
                into = shift_in(before, np.float64(x[r]) if r < n else 0.0)
                store(inputs, r - first, into)
                store(states, r - first, s)
                before = now
                now = multiply_add(b0, into, s)
                t = multiply_add(c1, into, u)
                u = multiply_add(a2, s, multiply(c2, into))
                s = multiply_add(a1, s, t)
        for r in range(min(first + PIECE, rows) - 1, first - 1, -1):
            if r & (GRID - 1) == 0:
                v = where_between(v, -VANISHED, VANISHED, zero, v)
                w = where_between(w, -VANISHED, VANISHED, zero, w)
            g = shift_out(later, np.float64(dy[r - _BEHIND]) if r >= _BEHIND else 0.0)
            later = latest
            into = load(inputs, r - first)
            s = load(states, r - first)
            latest = multiply_add(b0, g, multiply_add(c1, v, multiply(c2, w)))
            db0 = multiply_add(g, into, db0)
            dc1 = multiply_add(v, into, dc1)
            dc2 = multiply_add(w, into, dc2)
            da1 = multiply_add(v, s, da1)
            da2 = multiply_add(w, s, da2)
            t = multiply_add(a2, w, g)
            w = v
            v = multiply_add(a1, v, t)
            if r < n:
                dx[r] = top(latest)
    store(gradients, 0, db0)
    store(gradients, 1, dc1)
    store(gradients, 2, dc2)
    store(gradients, 3, da1)
    store(gradients, 4, da2)


def out_of_lanes(gradients: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Gradients (5, 8) of `biquads.in_lanes`' coefficients as those of the sections (sections, 5) they came from."""
    db0, dc1, dc2, dminus_a1, dminus_a2 = gradients[:, ::-1][:, : len(sections)]
    b0, _, _, a1, a2 = sections.T
    return np.stack([db0 - a1 * dc1 - a2 * dc2, dc1, dc2, -dminus_a1 - b0 * dc1, -dminus_a2 - b0 * dc2], axis=1)


def marks_of_automated(n: int, sections: int) -> np.ndarray:
    """Where `cascade_automated_marked` leaves its marks of n samples."""
    return np.empty((-(-n // PIECE), sections, 2))


@kernel
def cascade_automated_marked(x, y, coefficients, marks):
    """`biquads.cascade_automated` on the whole of a signal, with its states written to marks at every piece."""
    state = np.zeros(marks.shape[1:])
    for piece in range(marks.shape[0]):
        first = piece * PIECE
        stop = min(first + PIECE, x.size)
        marks[piece] = state
        cascade_automated(x[first:stop], y[first:stop], coefficients[first // GRID :], state, 0)


@kernel
def cascade_automated_adjoint(x, dy, dx, coefficients, marks, gradients):
    """Gradients of x and of the coefficients (points, sections, 5), given those of y, of `cascade_automated_marked`.

    Of a section y = b0 x + s, s' = b1 x - a1 y + u, u' = b2 x - a2 y, and of v and w, the gradients of s' and u':
    g = dy - a1 v - a2 w is that of y and of s, v that of u, and dx = b0 g + b1 v + b2 w.
    """
    sections = coefficients.shape[1]
    signals = np.empty((sections + 1, PIECE))
    state = np.empty(marks.shape[1:])
    adjoint = np.zeros(marks.shape[1:])
    g = np.empty(PIECE)
    v = np.empty(PIECE)
    w = np.empty(PIECE)
    sums = np.empty((5, 2))
    for piece in range(marks.shape[0] - 1, -1, -1):
        first = piece * PIECE
        m = min(PIECE, x.size - first)
        state[:] = marks[piece]
        for j in range(m):
            signals[0, j] = x[first + j]
            g[j] = dy[first + j]
        for k in range(sections):
            rows = coefficients[first // GRID :, k : k + 1]
            cascade_automated(signals[k, :m], signals[k + 1, :m], rows, state[k : k + 1], 0)
        for k in range(sections - 1, -1, -1):
            into = signals[k]
            out = signals[k + 1]
            for cell in range((m - 1) // GRID, -1, -1):
                begin = coefficients[first // GRID + cell, k]
                end = coefficients[first // GRID + cell + 1, k]
                start = cell * GRID
                stop = min(m, start + GRID)
                for j in range(2):
                    if abs(adjoint[k, j]) < VANISHED:
                        adjoint[k, j] = 0.0
                ahead = adjoint[k, 0]
                further = adjoint[k, 1]
                for j in range(stop - 1, start - 1, -1):
                    t = (j - start) * (1.0 / GRID)
                    v[j] = ahead
                    w[j] = further
                    a1 = begin[3] + t * (end[3] - begin[3])
                    a2 = begin[4] + t * (end[4] - begin[4])
                    here = (g[j] - a2 * further) - a1 * ahead
                    further = ahead
                    ahead = here
                    g[j] = here
                adjoint[k, 0] = ahead
                adjoint[k, 1] = further
                sums[:] = 0.0
                for j in range(start, stop):
                    t = (j - start) * (1.0 / GRID)
                    products = g[j] * into[j], v[j] * into[j], w[j] * into[j], v[j] * out[j], w[j] * out[j]
                    for c in range(5):
                        sums[c, 0] += products[c]
                        sums[c, 1] += t * products[c]
                for c in range(5):
                    sign = 1.0 if c < 3 else -1.0
                    gradients[first // GRID + cell, k, c] += sign * (sums[c, 0] - sums[c, 1])
                    gradients[first // GRID + cell + 1, k, c] += sign * sums[c, 1]
                for j in range(start, stop):
                    t = (j - start) * (1.0 / GRID)
                    b0 = begin[0] + t * (end[0] - begin[0])
                    b1 = begin[1] + t * (end[1] - begin[1])
                    b2 = begin[2] + t * (end[2] - begin[2])
                    g[j] = b0 * g[j] + b1 * v[j] + b2 * w[j]
        for j in range(m):
            dx[first + j] = g[j]
