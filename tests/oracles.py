"""What every effect is, as plain float64 Python: written to be read and compared with the papers, not to be fast."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

CENTRES = (30, 60, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


def gain(x, rate, gain_db, invert):
    return (-1.0 if invert else 1.0) * 10 ** (gain_db / 20) * np.asarray(x, np.float64)


def pan(x, rate, pan, law):
    def laws(p):
        linear = (1 - p, p)
        power = (math.cos(math.pi * p / 2), math.cos(math.pi * (1 - p) / 2))
        return {
            "balance": (min(1, 2 * (1 - p)), min(1, 2 * p)),
            "linear": linear,
            "constant_power": power,
            "compromise": tuple(math.sqrt(max(0.0, a * b)) for a, b in zip(linear, power, strict=True)),
        }[law]

    left, right = laws(pan)
    if len(x) == 2:
        left, right = (min(1.0, a / c) for a, c in zip((left, right), laws(0.5), strict=True))
    return np.array([left * x[0], right * x[-1]])


def rbj(kind, gain_db, freq, q, rate):
    """The cookbook's coefficients as printed: b0 b1 b2 a0 a1 a2."""
    A = 10 ** (gain_db / 40)
    w0 = 2 * math.pi * min(freq, 0.45 * rate) / rate
    cos, alpha = math.cos(w0), math.sin(w0) / (2 * q)
    root = 2 * math.sqrt(A) * alpha
    if kind == "peak":
        return 1 + alpha * A, -2 * cos, 1 - alpha * A, 1 + alpha / A, -2 * cos, 1 - alpha / A
    if kind == "low":
        return (
            A * ((A + 1) - (A - 1) * cos + root),
            2 * A * ((A - 1) - (A + 1) * cos),
            A * ((A + 1) - (A - 1) * cos - root),
            (A + 1) + (A - 1) * cos + root,
            -2 * ((A - 1) + (A + 1) * cos),
            (A + 1) + (A - 1) * cos - root,
        )
    return (
        A * ((A + 1) + (A - 1) * cos + root),
        -2 * A * ((A - 1) + (A + 1) * cos),
        A * ((A + 1) + (A - 1) * cos - root),
        (A + 1) - (A - 1) * cos + root,
        2 * ((A - 1) - (A + 1) * cos),
        (A + 1) - (A - 1) * cos - root,
    )


def biquad(x, b0, b1, b2, a0, a1, a2):
    y = []
    x1 = x2 = y1 = y2 = 0.0
    for value in x:
        out = (b0 * value + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2) / a0
        x1, x2, y1, y2 = value, x1, out, y1
        y.append(out)
    return y


def parametric_eq(x, rate, **controls):
    kinds = {"low_shelf": "low", "high_shelf": "high"}
    out = []
    for channel in x:
        y = channel.tolist()
        for band in ("low_shelf", "band1", "band2", "band3", "band4", "high_shelf"):
            settings = (controls[f"{band}_{name}"] for name in ("gain_db", "freq_hz", "q"))
            y = biquad(y, *rbj(kinds.get(band, "peak"), *settings, rate))
        out.append(y)
    return np.array(out)


def graphic_eq(x, rate, **controls):
    """Linear-phase FIR by the inverse discrete cosine sum of the piecewise linear curve, convolved directly."""
    half = round(2048 / 44100 * rate / 2)
    centres = [hz for hz in CENTRES if hz <= 0.45 * rate]
    levels = [10 ** (controls[f"band{hz}_gain_db"] / 20) for hz in centres]
    curve = np.interp(np.arange(half + 1) * rate / (2 * half), centres, levels)
    k = np.arange(1, half)
    taps = []
    for n in range(-half, half + 1):
        total = (
            curve[0] + curve[half] * math.cos(math.pi * n) + 2 * (curve[1:half] * np.cos(math.pi * k * n / half)).sum()
        )
        taps.append(total / (2 * half) * (0.5 if abs(n) == half else 1.0))
    return np.array([np.convolve(channel, taps)[half : half + len(channel)] for channel in x])


def compressor(x, rate, threshold_db, ratio, attack_ms, release_ms, knee_db, makeup_db, lookahead_ms):
    """Section 4.2.3 of the thesis, with the quadratic knee of Giannoulis et al. 2012."""
    a_attack = math.exp(-1 / (attack_ms / 1000 * rate))
    a_release = math.exp(-1 / (release_ms / 1000 * rate))
    ahead = round(lookahead_ms / 1000 * rate)
    y_l = 0.0
    gains = []
    for n in range(x.shape[1]):
        x_g = max(20 * math.log10(max(abs(channel[n]), 1e-30)) for channel in x)
        x_g = max(x_g, -120.0)
        over = x_g - threshold_db
        if 2 * over <= -knee_db:
            y_g = x_g
        elif 2 * over < knee_db:
            y_g = x_g + (1 / ratio - 1) * (over + knee_db / 2) ** 2 / (2 * knee_db)
        else:
            y_g = threshold_db + over / ratio
        x_l = x_g - y_g
        a = a_attack if x_l > y_l else a_release
        y_l = a * y_l + (1 - a) * x_l
        gains.append(10 ** ((makeup_db - y_l) / 20))
    # Looking ahead: the sample at n meets the gain of n + ahead; beyond the end the detector sees silence.
    for _ in range(ahead):
        x_l = 0.0
        y_l = a_release * y_l
        gains.append(10 ** ((makeup_db - y_l) / 20))
    return x * np.array(gains[ahead:])


def convolution(x, response, rate, wet, dry, predelay_ms):
    n = x.shape[1]
    delay = round(predelay_ms / 1000 * rate)
    channels = max(len(x), len(response))
    out = []
    for c in range(channels):
        dry_signal = x[min(c, len(x) - 1)]
        wet_signal = np.zeros(n)
        full = np.convolve(dry_signal, response[min(c, len(response) - 1)])[: max(0, n - delay)]
        wet_signal[delay : delay + len(full)] = full
        out.append(wet * wet_signal + dry * dry_signal)
    return np.array(out)


@cache
def kernel(t, half):
    """Kaiser-windowed sinc at distance t from its middle."""
    if abs(t) >= half:
        return 0.0
    sinc = 1.0 if t == 0 else math.sin(math.pi * t) / (math.pi * t)
    return sinc * float(np.i0(8.0 * math.sqrt(1 - (t / half) ** 2)))


@cache
def kernel_taps(first, half):
    weights = [kernel(first + k, half) for k in range(2 * half)]
    return weights, sum(weights)


def fractional(signal, n, delay, half):
    """signal delayed by `delay` samples, at sample n."""
    if delay == math.floor(delay):
        at = n - int(delay)
        return signal[at] if 0 <= at < len(signal) else 0.0
    first = math.floor(delay) - half + 1
    weights, total = kernel_taps(first - delay, half)
    value = 0.0
    for k, weight in enumerate(weights):
        at = n - first - k
        if 0 <= at < len(signal):
            value += weight / total * signal[at]
    return value


def delay(x, rate, time_ms, feedback, wet, dry, damping_hz):
    samples = time_ms / 1000 * rate
    around = max(samples, 1.0)
    a = math.exp(-2 * math.pi * damping_hz / rate)
    out = []
    for channel in x:
        echoes: list[float] = []
        low = 0.0
        for n in range(len(channel)):
            back = fractional(echoes, n, around, min(16, math.floor(around))) if n else 0.0
            low = (1 - a) * feedback * back + a * low
            echoes.append(fractional(channel, n, samples, min(16, math.floor(samples) + 1)) + low)
        out.append(wet * np.array(echoes) + dry * channel)
    return np.array(out)


def saturation(x, rate, drive_db, mix, bias):
    """Interpolate by four, bend, low-pass with the same kernel, keep every fourth value."""
    if drive_db == 0 or mix == 0:
        return x
    k = 10 ** (drive_db / 20) - 1
    span = (math.tanh(k * (1 + bias)) + math.tanh(k * (1 - bias))) / 2
    phase_sums = [sum(kernel(q - p / 4, 16) for q in range(-17, 18)) for p in range(4)]
    down = [kernel(j / 4, 16) / (1.0 if j % 4 == 0 else phase_sums[-j % 4] / phase_sums[0]) for j in range(-64, 65)]
    down = np.array(down) / sum(down)
    out = []
    for channel in x:
        n = len(channel)
        padded = np.concatenate([np.zeros(64), channel, np.zeros(64)])
        fine = []
        for i in range(16, len(padded) - 17):
            for p in range(4):
                if p == 0:
                    value = padded[i]
                else:
                    value = sum(kernel(q - p / 4, 16) * padded[i + q] for q in range(-15, 17)) / phase_sums[p]
                fine.append((math.tanh(k * (value + bias)) - math.tanh(k * bias)) / span)
        fine = np.array(fine)
        y = np.array([(down * fine[4 * (i + 48) - 64 : 4 * (i + 48) + 65]).sum() for i in range(n)])
        out.append(mix * y + (1 - mix) * channel)
    return np.array(out)


TRUE_PEAK = np.array(
    [
        # ITU-R BS.1770-4, annex 2, the table's four columns.
        [0.0017089843750, 0.0109863281250, -0.0196533203125, 0.0332031250000, -0.0594482421875, 0.1373291015625]
        + [0.9721679687500, -0.1022949218750, 0.0476074218750, -0.0266113281250, 0.0148925781250, -0.0083007812500],
        [-0.0291748046875, 0.0292968750000, -0.0517578125000, 0.0891113281250, -0.1665039062500, 0.4650878906250]
        + [0.7797851562500, -0.2003173828125, 0.1015625000000, -0.0582275390625, 0.0330810546875, -0.0189208984375],
        [-0.0189208984375, 0.0330810546875, -0.0582275390625, 0.1015625000000, -0.2003173828125, 0.7797851562500]
        + [0.4650878906250, -0.1665039062500, 0.0891113281250, -0.0517578125000, 0.0292968750000, -0.0291748046875],
        [-0.0083007812500, 0.0148925781250, -0.0266113281250, 0.0476074218750, -0.1022949218750, 0.9721679687500]
        + [0.1373291015625, -0.0594482421875, 0.0332031250000, -0.0196533203125, 0.0109863281250, 0.0017089843750],
    ]
)


def true_peaks(x):
    """At every sample, the largest of it and of the four interpolated values that end there."""
    peaks = np.abs(x).max(axis=0)
    for channel in x:
        for phase in TRUE_PEAK:
            peaks = np.maximum(peaks, np.abs(np.convolve(channel, phase)[: len(channel)]))
    return peaks


def limiter(x, rate, ceiling_db, release_ms, stages=2):
    """Windowed minimum, recovery, moving average; twice. Returns as many samples as it gets, in place."""
    ceiling = 10 ** (ceiling_db / 20) * (1 - 1e-6)
    width = max(1, round(0.0015 * rate))
    window = width + 11
    back = math.exp(-1 / (release_ms / 1000 * rate))
    n = x.shape[1]
    y = np.concatenate([x, np.zeros((len(x), stages * (window - 1)))], axis=1)
    for _ in range(stages):
        peaks = true_peaks(y)
        wanted = [min(1.0, ceiling / p) if p > 0 else 1.0 for p in peaks]
        recovered = 1.0
        reductions = []
        for i in range(len(wanted)):
            lowest = min(wanted[max(0, i - window + 1) : i + 1])
            recovered = min(lowest, 1 - back * (1 - recovered))
            reductions.append(math.ceil((1 - recovered) * 2**40) / 2**40)
        gain = [1 - sum(reductions[max(0, i - width + 1) : i + 1]) / width for i in range(len(wanted))]
        y = np.concatenate([np.zeros((len(x), window - 1)), y], axis=1)[:, : y.shape[1]] * gain
    return y[:, stages * (window - 1) :][:, :n]
