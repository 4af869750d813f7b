"""Logarithm and power of two that the compiler vectorises: libm's would be called once per sample.

Both are exact to below -180 dB of their result, and log2(1) and exp2(0) are exact.
"""

from __future__ import annotations

import math

import numpy as np

from mixtools.dsp.compiled import inlined

DB_PER_OCTAVE = 20.0 * math.log10(2.0)
"""dB in a factor of two of amplitude."""

_ROOT_HALF_BITS = np.float64(math.sqrt(0.5)).view(np.int64)
_L1, _L3, _L5, _L7, _L9 = (2.0 / math.log(2.0) / k for k in (1, 3, 5, 7, 9))
_E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9 = (math.log(2.0) ** k / math.factorial(k) for k in range(1, 10))


@inlined
def log2_of_bits(bits):
    """The exponent k and the bits of m where value = m 2^k and m is in [sqrt(1/2), sqrt(2)); positive values only."""
    k = (bits - _ROOT_HALF_BITS) >> 52
    return k, bits - (k << 52)


@inlined
def log2_of_mantissa(m):
    """log2(m) for m in [sqrt(1/2), sqrt(2)), by the series of artanh."""
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return s * (_L1 + z * (_L3 + z * (_L5 + z * (_L7 + z * _L9))))


@inlined
def exp2_of_fraction(f):
    """2^f for f in [-1/2, 1/2], by the series of exp."""
    return 1.0 + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * (_E6 + f * (_E7 + f * (_E8 + f * _E9))))))))
