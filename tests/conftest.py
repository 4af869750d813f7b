"""What all tests share: closeness in dB, and seeded test audio."""

from __future__ import annotations

import os
import signal

import numpy as np

# A shell's background jobs ignore Ctrl-C, and what they start inherits that: tests that interrupt would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A pipe that nobody reads breaks elsewhere where Python does not buffer; users' Pythons do.
os.environ.pop("PYTHONUNBUFFERED", None)


def error_db(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the expected signal's peak, in dB."""
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    peak = np.abs(expected).max()
    error = np.abs(np.asarray(actual, np.float64) - expected).max()
    return -np.inf if error == 0 else 20 * np.log10(error / peak)


def audio(seed: int, channels: int, n: int, dtype=np.float64) -> np.ndarray:
    """Noise bursts, a gliding tone, silence and a loud click: what brings out attack, release, ringing and gates."""
    rng = np.random.default_rng(seed)
    time = np.arange(n) / n
    envelope = np.repeat(rng.choice([0.0, 0.01, 0.2, 0.9], size=8), -(-n // 8))[:n]
    x = envelope * rng.standard_normal((channels, n)) * 0.4
    x += 0.3 * np.sin(2 * np.pi * np.cumsum(0.001 + 0.2 * time**2)) * (time > 0.3)
    x[:, n // 3] += 0.8
    x[:, -n // 10 :] = 0.0
    return x.astype(dtype)
