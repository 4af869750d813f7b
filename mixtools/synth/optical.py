"""A virtual device to learn from: an optical compressor with two knobs, whose release depends on what it has done.

A lamp behind the output lights a photocell, which turns the input down. The cell answers fast to light, and forgets
slowly what it has seen: the longer and the brighter, the slower. What comes out goes through a valve. It imitates no
particular device; it has what makes such devices hard to learn.
"""

from __future__ import annotations

import math

import numpy as np

from mixtools.controls import Control
from mixtools.dsp.compiled import kernel
from mixtools.errors import ParameterError

CONTROLS = {
    control.name: control
    for control in (
        Control("reduction", "How hard the lamp is driven, from nothing to a great deal.", 50.0, 0.0, 100.0),
        Control("emphasis", "How much more the lamp sees of what is above 1 kHz.", 0.0, 0.0, 1.0),
    )
}

RATE = 44100
"""Of its recordings."""

ATTACK_S = 0.008
FADE_S = 0.06
"""Of the cell's fast part: half of the reduction is gone after this."""

LEARN_S = 0.25
"""In which its memory fills."""

FORGET_S = 0.4, 4.0
"""In which it empties: little that was seen, and much."""

EMPHASIS_HZ = 1000.0
MOST_EMPHASIS_DB = 12.0
DRIVE = 1.2
"""Of the valve; 1 is hardly heard."""


def optical_compressor(x: np.ndarray, rate: float, reduction: float = 50.0, emphasis: float = 0.0) -> np.ndarray:
    """What comes out (n,), float32, of what goes in (n,)."""
    values = {"reduction": reduction, "emphasis": emphasis}
    for name, value in values.items():
        values[name] = CONTROLS[name].check(value, name)
    if np.ndim(x) != 1 or not np.isfinite(x).all():
        raise ParameterError(f"the sound has shape {np.shape(x)} or is not finite; give samples (n,)")
    steps = [-math.expm1(-1.0 / (seconds * rate)) for seconds in (ATTACK_S, FADE_S, LEARN_S)]
    more = values["emphasis"] * (10.0 ** (MOST_EMPHASIS_DB / 20.0) - 1.0)
    corner = math.exp(-2.0 * math.pi * EMPHASIS_HZ / rate)
    drive = 10.0 ** ((values["reduction"] - 60.0) / 20.0) * 8.0 if values["reduction"] > 0.0 else 0.0
    return _optical(np.asarray(x, np.float64), drive, more, corner, *steps, *FORGET_S, rate)


@kernel
def _optical(x, drive, more, corner, attack, fade, learn, forget_little, forget_much, rate):
    y = np.empty(x.size, np.float32)
    light = 0.0
    memory = 0.0
    low = 0.0
    out = 0.0
    for i in range(x.size):
        # The lamp sees what came out a sample ago.
        low = corner * low + (1.0 - corner) * out
        seen = max(0.0, abs(out + more * (out - low)) * drive - 0.2)
        light += (attack if seen > light else fade) * (seen - light)
        if light > memory:
            memory += learn * (light - memory)
        else:
            slowness = forget_little + (forget_much - forget_little) * memory / (1.0 + memory)
            memory += (light - memory) / (slowness * rate)
        out = x[i] / (1.0 + 0.6 * light + 0.6 * memory)
        y[i] = np.tanh(DRIVE * out) / DRIVE
    return y
