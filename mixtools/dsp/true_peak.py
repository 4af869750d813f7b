"""Peaks between samples, as ITU-R BS.1770-4 annex 2 finds them."""

from __future__ import annotations

import numpy as np

from mixtools.dsp.compiled import GRID, kernel

TAPS = 12

_HALF_OF_PHASES = (
    (
        0.0017089843750,
        0.0109863281250,
        -0.0196533203125,
        0.0332031250000,
        -0.0594482421875,
        0.1373291015625,
        0.9721679687500,
        -0.1022949218750,
        0.0476074218750,
        -0.0266113281250,
        0.0148925781250,
        -0.0083007812500,
    ),
    (
        -0.0291748046875,
        0.0292968750000,
        -0.0517578125000,
        0.0891113281250,
        -0.1665039062500,
        0.4650878906250,
        0.7797851562500,
        -0.2003173828125,
        0.1015625000000,
        -0.0582275390625,
        0.0330810546875,
        -0.0189208984375,
    ),
)

PHASES = np.array([*_HALF_OF_PHASES, *(row[::-1] for row in reversed(_HALF_OF_PHASES))])
"""The recommendation's four phases, (4, 12). Used at every rate: at higher ones it oversamples more than enough."""

HIGHEST_GAIN = float(np.abs(PHASES).sum(axis=1).max())
"""No interpolated value is larger than this times the largest sample under the filter."""


@kernel
def true_peaks(x, quiet, peaks):
    """The largest of a sample and the four interpolated values that end at it, over all channels.

    x (channels, n + 11) begins with 11 samples of history; peaks (n,). Stretches of 64 samples whose true peak cannot
    exceed `quiet` get their sample peaks only.
    """
    n = peaks.size
    values = np.empty(GRID)
    i = 0
    while i < n:
        m = min(GRID, n - i)
        for j in range(m):
            peaks[i + j] = 0.0
        for c in range(x.shape[0]):
            largest = 0.0
            for j in range(m + TAPS - 1):
                largest = max(largest, abs(np.float64(x[c, i + j])))
            for j in range(m):
                peaks[i + j] = max(peaks[i + j], abs(np.float64(x[c, i + j + TAPS - 1])))
            if largest * HIGHEST_GAIN <= quiet:
                continue
            for p in range(4):
                values[:] = 0.0
                for k in range(TAPS):
                    for j in range(m):
                        values[j] += PHASES[p, k] * x[c, i + j + TAPS - 1 - k]
                for j in range(m):
                    peaks[i + j] = max(peaks[i + j], abs(values[j]))
        i += m


@kernel
def highest_peaks(x, sample_peak, true_peak):
    """The largest sample and true peak of x (channels, n + 11), or those given; x begins with 11 samples of history.

    Stretches that cannot exceed what was found already are not interpolated.
    """
    values = np.empty(GRID)
    n = x.shape[1] - (TAPS - 1)
    for c in range(x.shape[0]):
        for i in range(0, n, GRID):
            m = min(GRID, n - i)
            largest = 0.0
            for j in range(m + TAPS - 1):
                largest = max(largest, abs(np.float64(x[c, i + j])))
            sample_peak = max(sample_peak, largest)
            if largest * HIGHEST_GAIN <= true_peak:
                continue
            true_peak = max(true_peak, largest)
            for p in range(4):
                values[:] = 0.0
                for k in range(TAPS):
                    for j in range(m):
                        values[j] += PHASES[p, k] * x[c, i + j + TAPS - 1 - k]
                for j in range(m):
                    true_peak = max(true_peak, abs(values[j]))
    return sample_peak, true_peak
