"""The delay's adjoint: what a gradient at its output says about its input, its taps and its coefficients."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import GRID, kernel
from mixtools.dsp.delay import DAMPING, DRY, FEEDBACK, WET


@kernel
def echo_adjoint(x, wet, fed, gradient, direct, direct_first, loop, loop_first, coefficients, to_wet, to_fed, to_x, to):
    """Gradients of one channel of `echo`, from `gradient` (n,), x (n,) and the wet signal (n,).

    `fed` (n,) is the wet signal through the loop's taps. `to_wet` and `to_fed` (n + reach,) take the gradients to the
    wet signal and to `fed`, 0 beyond n; `to_x` (n,) and `to` (points, 4) those to the input and to the coefficients.

    low[n] = (1 - a) f fed[n] + a low[n - 1] is what a sample of `wet` adds to the direct sound. Backwards, its
    gradient is g[n] = to_wet[n] + a[n + 1] g[n + 1]; `fed` gets (1 - a) f g[n], which the loop's taps hand to earlier
    samples.
    """
    n = gradient.size
    last = coefficients.shape[0] - 1
    low = np.empty(n + 1)
    low[0] = 0.0
    for i in range(n):
        k = i // GRID
        t = (i - k * GRID) * (1.0 / GRID)
        begin = coefficients[min(k, last)]
        end = coefficients[min(k + 1, last)]
        back = (begin[FEEDBACK] + t * (end[FEEDBACK] - begin[FEEDBACK])) * fed[i]
        low[i + 1] = back + (begin[DAMPING] + t * (end[DAMPING] - begin[DAMPING])) * (low[i] - back)
    carried = 0.0
    sums = np.empty(GRID)
    stop = n
    while stop > 0:
        k = (stop - 1) // GRID
        start = max(k * GRID, stop - loop_first)
        m = stop - start
        sums[:] = 0.0
        for tap in range(loop.size):
            at = start + loop_first + tap
            for j in range(m):
                sums[j] += loop[tap] * to_fed[at + j]
        begin = coefficients[min(k, last)]
        end = coefficients[min(k + 1, last)]
        to_begin = to[min(k, last)]
        to_end = to[min(k + 1, last)]
        for j in range(m - 1, -1, -1):
            i = start + j
            t = (i - k * GRID) * (1.0 / GRID)
            feedback = begin[FEEDBACK] + t * (end[FEEDBACK] - begin[FEEDBACK])
            damping = begin[DAMPING] + t * (end[DAMPING] - begin[DAMPING])
            to_wet[i] = (begin[WET] + t * (end[WET] - begin[WET])) * gradient[i] + sums[j]
            to_low = to_wet[i] + carried
            carried = damping * to_low
            to_fed[i] = feedback * (to_low - carried)
            to_feedback = fed[i] * (to_low - carried)
            to_damping = (low[i] - feedback * fed[i]) * to_low
            to_begin[FEEDBACK] += (1.0 - t) * to_feedback
            to_end[FEEDBACK] += t * to_feedback
            to_begin[DAMPING] += (1.0 - t) * to_damping
            to_end[DAMPING] += t * to_damping
            to_begin[WET] += (1.0 - t) * gradient[i] * wet[i]
            to_end[WET] += t * gradient[i] * wet[i]
            to_begin[DRY] += (1.0 - t) * gradient[i] * x[i]
            to_end[DRY] += t * gradient[i] * x[i]
        stop = start
    for start in range(0, n, GRID):
        k = start // GRID
        m = min(GRID, n - start)
        begin = coefficients[min(k, last), DRY]
        step = (coefficients[min(k + 1, last), DRY] - begin) * (1.0 / GRID)
        for j in range(m):
            sums[j] = (begin + j * step) * gradient[start + j]
        for tap in range(direct.size):
            at = start + direct_first + tap
            for j in range(m):
                sums[j] += direct[tap] * to_wet[at + j]
        for j in range(m):
            to_x[start + j] = sums[j]


@kernel
def to_taps(past, gradient, first, to):
    """to[tap] = sum over i of gradient[i] past[i - first - tap]; past ends with its last sample, silence before it."""
    n = gradient.size
    offset = past.size - n - first
    sums = np.zeros((to.size, GRID))
    for start in range(0, n, GRID):
        m = min(GRID, n - start)
        for tap in range(to.size):
            at = start + offset - tap
            row = sums[tap]
            for j in range(m):
                row[j] += gradient[start + j] * past[at + j]
    for tap in range(to.size):
        to[tap] = sums[tap].sum()
