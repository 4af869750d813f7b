"""The compressor backwards in time: what its gradients run on."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from mixtools.dsp.compiled import GRID, VANISHED, kernel
from mixtools.dsp.compressor import ATTACK, HARD_KNEE, KNEE, LEVEL_FLOOR, MAKEUP, RELEASE, SLOPE, THRESHOLD
from mixtools.dsp.decibels import exp2_of_fraction, log2_of_bits, log2_of_mantissa
from mixtools.dsp.lanes import fetch

FLAT = 1e-18
"""A slope that stands in for a ratio of 1: too small for the gain to differ from 1, but the detector, which scales with
it, branches as it does at the ratios above, so that the gradient is the derivative on that side."""

_LN2 = math.log(2.0)

_LINE = 16
"""float32 samples in a cache line."""


@njit(fastmath={"contract", "reassoc"}, error_model="numpy")
def _add_products(gradients, k, last, column, values):
    """Add a stretch's sum to its two control points, every sample's share by how near it is."""
    total = 0.0
    later = 0.0
    for j in range(GRID):
        total += values[j]
        later += values[j] * (j * (1.0 / GRID))
    gradients[min(k, last), column] += total - later
    gradients[min(k + 1, last), column] += later


@kernel
def compress_adjoint(key, x, dy, dkey, dx, coefficients, trail, gradients):
    """Gradients of x (written to dx), key (added to dkey) and the coefficients (points, 6), given those of y.

    Of what `compressor.compress` does from sample 0, with a steady makeup: the first point's. Stretch by stretch from
    the last, each computed forwards once more from what `trail` holds. dx and dkey may be the same array.
    """
    channels, n = x.shape
    last = coefficients.shape[0] - 1
    makeup = coefficients[0, MAKEUP]
    level = np.empty(GRID)
    bits = level.view(np.int64)
    loudest = np.empty(GRID)
    louder = np.zeros(GRID)
    shape = np.empty(GRID)
    bend = np.empty(GRID)
    rise = np.empty(GRID)
    slope = np.empty(GRID)
    target = np.empty(GRID)
    attack = np.empty(GRID)
    release = np.empty(GRID)
    smoothing = np.empty(GRID)
    rising = np.zeros(GRID)
    before = np.empty(GRID)
    held = np.empty(GRID)
    gain = np.empty(GRID)
    gain_bits = gain.view(np.int64)
    push = np.zeros(GRID)
    into = np.zeros(GRID)
    dover = np.empty(GRID)
    products = np.empty(GRID)
    raised = np.zeros(GRID)
    carry = 0.0
    for k in range((n - 1) // GRID, -1, -1):
        i = k * GRID
        m = min(n - i, GRID)
        begin = coefficients[min(k, last)]
        end = coefficients[min(k + 1, last)]
        for c in range(channels):
            for j in range(i - GRID, i, _LINE):
                fetch(key[c], j)
                fetch(dx[c], j)
                fetch(dy[c], j)
        row = key[0]
        loudest[:] = 0.0
        louder[:] = 0.0
        for j in range(m):
            loudest[j] = row[i + j]
        if channels == 2:
            row = key[1]
            for j in range(m):
                other = np.float64(row[i + j])
                louder[j] = 1.0 if abs(other) > abs(loudest[j]) else 0.0
                loudest[j] = other if abs(other) > abs(loudest[j]) else loudest[j]
        for j in range(GRID):
            level[j] = max(abs(loudest[j]), LEVEL_FLOOR)
        for j in range(GRID):
            exponent, mantissa = log2_of_bits(bits[j])
            bits[j] = mantissa
            target[j] = np.float64(exponent)
        for j in range(GRID):
            t = j * (1.0 / GRID)
            threshold = begin[THRESHOLD] + t * (end[THRESHOLD] - begin[THRESHOLD])
            knee = begin[KNEE] + t * (end[KNEE] - begin[KNEE])
            slope[j] = begin[SLOPE] + t * (end[SLOPE] - begin[SLOPE])
            attack[j] = begin[ATTACK] + t * (end[ATTACK] - begin[ATTACK])
            release[j] = begin[RELEASE] + t * (end[RELEASE] - begin[RELEASE])
            over = target[j] + log2_of_mantissa(level[j]) - threshold
            bent = min(max(over + 0.5 * knee, 0.0), knee)
            part = bent / knee
            shape[j] = 0.5 * bent * part + max(over - 0.5 * knee, 0.0)
            target[j] = slope[j] * shape[j]
            # (over + knee / 2)^2 / (2 knee) rises with over by bent / knee, and with the knee by half of that times
            # the rest of it. A hard knee's corner counts as below it.
            step = 1.0 if over > 0.0 else 0.0
            rise[j] = part if knee > HARD_KNEE else step
            bend[j] = 0.5 * part * (1.0 - part)
        y = trail[k]
        for j in range(m):
            before[j] = y
            up = attack[j] * y + (1.0 - attack[j]) * target[j]
            down = release[j] * y + (1.0 - release[j]) * target[j]
            y = up if target[j] > y else down
            held[j] = y
        for j in range(m, GRID):
            before[j] = 0.0
            held[j] = 0.0
        for j in range(GRID):
            rising[j] = 1.0 if target[j] > before[j] else 0.0
            smoothing[j] = attack[j] if target[j] > before[j] else release[j]
            octaves = makeup - held[j]
            power = np.rint(octaves)
            gain[j] = exp2_of_fraction(octaves - power)
            gain_bits[j] += np.int64(power) << 52
        push[:] = 0.0
        for c in range(channels):
            source = x[c]
            given = dy[c]
            out = dx[c]
            for j in range(m):
                slant = given[i + j] * gain[j]
                push[j] -= _LN2 * slant * source[i + j]
                out[i + j] = slant
        if abs(carry) < VANISHED:
            carry = 0.0
        for j in range(m - 1, -1, -1):
            carry += push[j]
            into[j] = carry
            carry *= smoothing[j]
        for j in range(m, GRID):
            into[j] = 0.0
        for j in range(GRID):
            raised[j] -= push[j]
        for j in range(GRID):
            products[j] = rising[j] * into[j] * (before[j] - target[j])
        _add_products(gradients, k, last, ATTACK, products)
        for j in range(GRID):
            products[j] = (1.0 - rising[j]) * into[j] * (before[j] - target[j])
        _add_products(gradients, k, last, RELEASE, products)
        for j in range(GRID):
            into[j] *= 1.0 - smoothing[j]
            products[j] = into[j] * shape[j]
        _add_products(gradients, k, last, SLOPE, products)
        for j in range(GRID):
            into[j] *= slope[j]
            products[j] = into[j] * bend[j]
        _add_products(gradients, k, last, KNEE, products)
        for j in range(GRID):
            dover[j] = into[j] * rise[j]
            products[j] = -dover[j]
        _add_products(gradients, k, last, THRESHOLD, products)
        for j in range(GRID):
            heard = abs(loudest[j]) > LEVEL_FLOOR
            dover[j] = dover[j] / (_LN2 * loudest[j]) if heard else 0.0
        for c in range(channels):
            out = dkey[c]
            for j in range(m):
                out[i + j] += dover[j] * (louder[j] if c == 1 else 1.0 - louder[j])
    for j in range(GRID):
        gradients[0, MAKEUP] += raised[j]
