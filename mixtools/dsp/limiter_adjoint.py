"""The limiter backwards in time: what its gradients run on."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import GRID, kernel
from mixtools.dsp.limiter import CEILING, RECOVERING, RELEASE
from mixtools.dsp.true_peak import PHASES, TAPS


@kernel
def limiter_adjoint(x, dy, dx, peaks, gain, trail, ages, coefficients, width, gradients):
    """Gradients of x and of the coefficients (points, 2), given those of y, of one stage of the limiter.

    x, dy and dx (channels, n); peaks, gain, trail and ages as `limiter_gain` had them, with the stage's latency behind
    the last sample. The gradient goes to the peak that each gain came from, and of that to its loudest interpolation.
    """
    channels, n = x.shape
    late = peaks.size - n
    last = coefficients.shape[0] - 1
    wanted = np.zeros(peaks.size)
    summed = np.zeros(n + 1)
    for i in range(n):
        summed[i + 1] = summed[i]
        for c in range(channels):
            summed[i + 1] += np.float64(dy[c, i]) * x[c, i]
            dx[c, i] = dy[c, i] * gain[i + late]
    carry = 0.0
    for i in range(peaks.size - 1, -1, -1):
        k = i // GRID
        t = (i - k * GRID) * (1.0 / GRID)
        begin = min(k, last)
        end = min(k + 1, last)
        averaged = (summed[max(min(i - late + width, n), 0)] - summed[max(i - late, 0)]) / width
        here = averaged + carry
        if ages[i] == RECOVERING:
            release = coefficients[begin, RELEASE] + t * (coefficients[end, RELEASE] - coefficients[begin, RELEASE])
            change = here * ((trail[i - 1] if i > 0 else 1.0) - 1.0)
            gradients[begin, RELEASE] += (1.0 - t) * change
            gradients[end, RELEASE] += t * change
            carry = release * here
        else:
            wanted[i - ages[i]] += here
            carry = 0.0
        ceiling = coefficients[begin, CEILING] + t * (coefficients[end, CEILING] - coefficients[begin, CEILING])
        if peaks[i] > ceiling and wanted[i] != 0.0:
            gradients[begin, CEILING] += (1.0 - t) * wanted[i] / peaks[i]
            gradients[end, CEILING] += t * wanted[i] / peaks[i]
            _add_to_peak(x, dx, i, -wanted[i] * ceiling / (peaks[i] * peaks[i]))


@kernel
def _add_to_peak(x, dx, i, change):
    """Add the gradient of the true peak that ends at sample i to the samples it is made of."""
    channels, n = x.shape
    highest = 0.0
    loudest = 0
    phase = -1
    for c in range(channels):
        value = np.float64(x[c, i]) if i < n else 0.0
        if abs(value) > abs(highest):
            highest = value
            loudest = c
            phase = -1
        for p in range(PHASES.shape[0]):
            value = 0.0
            for k in range(max(i - n + 1, 0), min(TAPS, i + 1)):
                value += PHASES[p, k] * x[c, i - k]
            if abs(value) > abs(highest):
                highest = value
                loudest = c
                phase = p
    change = change if highest > 0.0 else -change
    if phase < 0:
        dx[loudest, i] += change
        return
    for k in range(max(i - n + 1, 0), min(TAPS, i + 1)):
        dx[loudest, i - k] += PHASES[phase, k] * change
