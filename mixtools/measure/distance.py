"""Every metric between two aligned signals: a, the estimate, and b, the reference, (..., n) with time last.

Both are numpy arrays or both torch tensors. One number comes back for all channels together, and for a whole batch
where one is given. Gradients are finite everywhere, at silence and at a equal to b too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mixtools.errors import ParameterError
from mixtools.measure.arrays import Array, Resolution, magnitudes, namespace, root, stretches, wide

if TYPE_CHECKING:
    import numpy as np

MR_STFT = (Resolution(512, 50, 240), Resolution(1024, 120, 600), Resolution(2048, 240, 1200))
"""Yamamoto et al. 2020; the window of 120 in the thesis's Table 5 is a misprint."""

DIFFMST_MR_STFT = tuple(Resolution(size, size // 2, size) for size in (512, 2048, 8192))
"""Vanka et al. 2024, section 2.6."""

MSS = tuple(Resolution(size, size // 4, size) for size in (2048, 512, 128))
"""Colonel & Reiss 2021, who leave the hop open: the quarter of DDSP (Engel et al. 2020), whose loss they take."""

WRIGHT_PRE_EMPHASIS = 0.85
"""The coefficient of Wright & Välimäki 2020, for 44.1 kHz."""

LOWEST_MAGNITUDE = 1e-4
"""Spectra are raised to this before they are compared, as in auraloss."""

SILENCE_POWER = 1e-12
"""A reference whose mean square is below -120 dB counts as silent: nothing is related to less."""

SI_SDR_LIMIT_DB = 200.0
"""Beyond it, the two are the same but for a gain, or have nothing in common."""

MCD_COEFFICIENTS = 25


def mae(a: Array, b: Array) -> Array:
    """Mean absolute error."""
    xp = namespace(a, b)
    return sum(xp.sum(xp.abs(p - q)) for p, q in stretches(a, b)) / math.prod(b.shape)


def esr(a: Array, b: Array, pre_emphasis: float = 0.0, dc: bool = False) -> Array:
    """Error-to-signal ratio, of both through 1 - `pre_emphasis` z^-1, and with `dc` plus that of their offsets.

    The thesis divides by n - 1 once more than its own words do (equation 4.19); the ratio of energies is meant. The
    offsets are compared as by Wright & Välimäki 2020: before the pre-emphasis, one per channel.
    """
    xp = namespace(a, b)
    n, size = b.shape[-1], math.prod(b.shape)
    error = emphasised = energy = offset = 0.0
    for p, q in stretches(a, b, history=1):
        difference = p - q
        error = error + xp.sum((difference[..., 1:] - pre_emphasis * difference[..., :-1]) ** 2)
        emphasised = emphasised + xp.sum((q[..., 1:] - pre_emphasis * q[..., :-1]) ** 2)
        if dc:
            energy = energy + xp.sum(q[..., 1:] ** 2)
            offset = offset + xp.sum(difference[..., 1:], axis=-1) / n
    ratio = error / size / xp.clip(emphasised / size, min=SILENCE_POWER)
    return ratio + xp.mean(offset**2) / xp.clip(energy / size, min=SILENCE_POWER) if dc else ratio


def si_sdr_db(a: Array, b: Array) -> Array:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), -200 to 200; higher is nearer.

    Offsets are taken away per channel; one gain for all channels keeps their balance part of the comparison.
    """
    xp = namespace(a, b)
    n = b.shape[-1]
    means = [sum(xp.sum(p, axis=-1, keepdims=True) for (p,) in stretches(x)) / n for x in (a, b)]

    def centred() -> Iterator[tuple[Array, Array]]:
        return ((p - means[0], q - means[1]) for p, q in stretches(a, b))

    product = energy = residual = 0.0
    for p, q in centred():
        product = product + xp.sum(p * q)
        energy = energy + xp.sum(q * q)
    gain = product / xp.where(energy > 0, energy, 1.0)
    for p, q in centred():
        residual = residual + xp.sum((p - gain * q) ** 2)
    target = gain**2 * energy
    widest = 10.0 ** (SI_SDR_LIMIT_DB / 10.0)
    inside = (target < widest * residual) & (residual < widest * target)
    ratio = xp.where(inside, target, 1.0) / xp.where(inside, residual, 1.0)
    limit = xp.where(target > residual, SI_SDR_LIMIT_DB, -SI_SDR_LIMIT_DB)
    return xp.where(inside, 10.0 * xp.log10(ratio), limit)


def mcd(a: Array, b: Array, rate: float) -> Array:
    """Mel cepstral distortion with 25 coefficients (thesis, equations 4.20 and 4.21).

    Their mean over frames is over all n of them (n - 1 is printed), their sum over j (k is printed) from 0 to 24. Which
    MFCCs is left open: librosa's in dB, whose distances have the size of the thesis's tables, several hundreds.
    """
    from mixtools.measure.cepstra import mfcc

    xp = namespace(a, b)
    difference = mfcc(a, rate, MCD_COEFFICIENTS) - mfcc(b, rate, MCD_COEFFICIENTS)
    return 10.0 * math.sqrt(2.0) / math.log(10.0) * xp.mean(root(xp.sum(difference**2, axis=-2)))


def mr_stft(a: Array, b: Array, settings: tuple[Resolution, ...] = MR_STFT) -> Array:
    """Multi-resolution STFT distance: spectral convergence plus mean difference of log magnitudes, averaged.

    Thesis, equations 4.22 to 4.24, with N all bins of all frames: what its implementation, auraloss, computes.
    """
    xp = namespace(a, b)
    total = 0.0
    for resolution in settings:
        error = energy = logs = count = 0.0
        for p, q in zip(magnitudes(a, resolution), magnitudes(b, resolution), strict=True):
            p, q = xp.clip(p, min=LOWEST_MAGNITUDE), xp.clip(q, min=LOWEST_MAGNITUDE)
            error = error + xp.sum((p - q) ** 2)
            energy = energy + xp.sum(q**2)
            logs = logs + xp.sum(xp.abs(xp.log(p / q)))
            count += math.prod(q.shape)
        total = total + root(error / energy) + logs / count
    return total / len(settings)


def sum_difference_mr_stft(a: Array, b: Array) -> Array:
    """DMC's stereo distance: MR-STFT of L + R plus MR-STFT of L - R, of signals (..., 2, n).

    Thesis, equation 5.3. auraloss.freq.SumAndDifferenceSTFTLoss returns half of it.
    """
    a_sum, b_sum = (wide(x[..., 0, :]) + wide(x[..., 1, :]) for x in (a, b))
    distance = mr_stft(a_sum, b_sum)
    del a_sum, b_sum
    a_difference, b_difference = (wide(x[..., 0, :]) - wide(x[..., 1, :]) for x in (a, b))
    return distance + mr_stft(a_difference, b_difference)


def mss(a: Array, b: Array, settings: tuple[Resolution, ...] = MSS, log_weight: float = 0.0) -> Array:
    """Multi-scale spectrogram distance: mean differences of magnitudes, summed over the resolutions.

    Colonel & Reiss 2021 compare linear magnitudes only. DDSP adds the difference of their logarithms with weight 1, and
    so does Diff-MST with its own resolutions.
    """
    xp = namespace(a, b)
    total = 0.0
    for resolution in settings:
        differences = count = 0.0
        for p, q in zip(magnitudes(a, resolution), magnitudes(b, resolution), strict=True):
            differences = differences + xp.sum(xp.abs(p - q))
            if log_weight:
                logs = xp.log(xp.clip(p, min=LOWEST_MAGNITUDE) / xp.clip(q, min=LOWEST_MAGNITUDE))
                differences = differences + log_weight * xp.sum(xp.abs(logs))
            count += math.prod(q.shape)
        total = total + differences / count
    return total


@dataclass(frozen=True)
class Metric:
    """A metric between aligned files: `measure(a, b, rate)` of two numpy arrays (channels, n), or None."""

    name: str
    help: str
    equation: str
    source: str
    undefined: str
    measure: Callable[[np.ndarray, np.ndarray, float], float | None]


def _esr_of_sound(a: np.ndarray, b: np.ndarray, rate: float) -> float | None:
    power = sum((q * q).sum() for (q,) in stretches(b)) / b.size
    return esr(a, b) if power >= SILENCE_POWER else None


def _si_sdr_within_limits(a: np.ndarray, b: np.ndarray, rate: float) -> float | None:
    value = si_sdr_db(a, b)
    return value if abs(value) < SI_SDR_LIMIT_DB else None


def _sum_difference_of_stereo(a: np.ndarray, b: np.ndarray, rate: float) -> float | None:
    return sum_difference_mr_stft(a, b) if len(b) == 2 else None


_DECLARED = (
    Metric(
        "mae",
        "Mean absolute error of the samples.",
        "mean |a - b|",
        "Steinmetz 2020, eq. 4.17",
        "",
        lambda a, b, rate: mae(a, b),
    ),
    Metric(
        "esr",
        "Error-to-signal ratio: energy of the difference over energy of the reference, all channels together.",
        "sum (a - b)^2 / sum b^2",
        "Steinmetz 2020, eq. 4.19",
        "when the mean square of the reference is below -120 dB",
        _esr_of_sound,
    ),
    Metric(
        "mcd",
        "Mel cepstral distortion: mean distance of 25 MFCCs (128 mel bands in dB, frames of 2048 samples, hop 512).",
        "10 sqrt(2) / ln 10 * mean over frames of sqrt(sum over j = 0..24 of (C_a,j - C_b,j)^2)",
        "Steinmetz 2020, eq. 4.20 and 4.21",
        "",
        mcd,
    ),
    Metric(
        "mr_stft",
        "Multi-resolution STFT distance: FFT 512, 1024 and 2048, hop 50, 120 and 240, window 240, 600 and 1200.",
        "mean over resolutions of ||A - B|| / ||B|| + mean |ln A - ln B|, A and B magnitudes of at least 1e-4",
        "Steinmetz 2020, eq. 4.22 to 4.24; Yamamoto et al. 2020",
        "",
        lambda a, b, rate: mr_stft(a, b),
    ),
    Metric(
        "sum_difference_mr_stft",
        "Stereo distance that left and right may be swapped under: MR-STFT of the sum and of the difference.",
        "mr_stft(a_L + a_R, b_L + b_R) + mr_stft(a_L - a_R, b_L - b_R)",
        "Steinmetz et al. 2021, section 2.3; Steinmetz 2020, eq. 5.3",
        "when both files are mono",
        _sum_difference_of_stereo,
    ),
    Metric(
        "si_sdr_db",
        "Scale-invariant signal-to-distortion ratio without offsets, one gain for all channels; higher is nearer.",
        "10 log10(||g b||^2 / ||a - g b||^2), g = <a, b> / ||b||^2",
        "Le Roux et al. 2019",
        "beyond 200 dB: when the two are the same but for a gain; and below -200 dB: when either is silent",
        _si_sdr_within_limits,
    ),
)

ALIGNED: dict[str, Metric] = {metric.name: metric for metric in _DECLARED}
"""What is measured between two files that hold the same content, by name."""


def aligned(a: np.ndarray, b: np.ndarray, rate: float) -> dict[str, float | None]:
    """Every metric of `ALIGNED` between two numpy signals (channels, n) of one length; mono beside stereo is spread."""
    import numpy as np

    if a.shape[-1] != b.shape[-1]:
        raise ParameterError(f"{a.shape[-1]} samples are compared with {b.shape[-1]}; give signals of one length")
    if not b.size:
        return dict.fromkeys(ALIGNED)
    a, b = np.broadcast_arrays(a, b)
    values = {name: metric.measure(a, b, rate) for name, metric in ALIGNED.items()}
    return {name: None if value is None else float(value) for name, value in values.items()}
