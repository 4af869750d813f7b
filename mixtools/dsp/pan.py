"""Places a mono strip between left and right; on a stereo strip every law is a balance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mixtools.dsp.effect import Fader, pure


def pan_gains(pan: Any, law: str) -> Any:
    """Left and right amplitudes of a mono strip, (..., 2), of an array or a tensor.

    Slopes are finite everywhere, and one-sided at the ends and at the corner of `balance`.
    """
    xp = array_namespace(pan)
    linear = xp.stack([1.0 - pan, pan], axis=-1)
    if law == "balance":
        return _held(pan, 2.0 * linear)
    if law == "linear":
        return linear
    # Each side by its distance from the end where it is 0: exactly 0 there, and both exactly alike at the centre.
    power = xp.sin(0.5 * math.pi * linear)
    if law == "constant_power":
        return power
    product = linear * power
    # Close to its end the product is pi / 2 linear^2, which a root of 0 would have no slope for.
    sounds = product > 0.0
    return xp.where(sounds, xp.sqrt(xp.where(sounds, product, 1.0)), math.sqrt(0.5 * math.pi) * linear)


def balance_gains(pan: Any, law: str) -> Any:
    """Left and right amplitudes of a stereo strip: the law's gains over those at the centre, never above 1."""
    xp = array_namespace(pan)
    return _held(pan, pan_gains(pan, law) / pan_gains(xp.full_like(pan, 0.5), law))


def _held(pan: Any, gains: Any) -> Any:
    """The far side's gain, and 1 on the near side; the centre has the slope towards the right."""
    xp = array_namespace(pan)
    far = xp.stack([pan >= 0.5, pan < 0.5], axis=-1)
    return xp.where(far, gains, 1.0)


class Pan(Fader):
    effect = "pan"

    def prepare(self) -> None:
        self.channels_out = 2

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        gains = pan_gains if self.channels == 1 else balance_gains
        return gains(values["pan"], self.controls["law"])


pan = pure(Pan)
