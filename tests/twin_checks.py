"""What the tests of the differentiable twins share: random settings, the comparison with the reference, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from conftest import audio, error_db

from mixtools import diff
from mixtools.controls import EFFECTS, Control, Curve
from mixtools.diff.effect import curve_points
from mixtools.dsp import EFFECT_FUNCTIONS

BAR_DB = -100.0


def drawn(control: Control, rng: np.random.Generator) -> Any:
    """A value anywhere in a control's range, often at one of its ends or at its default."""
    if control.kind == "switch":
        return bool(rng.integers(2))
    if control.kind == "choice":
        return str(rng.choice(control.choices))
    if control.kind == "whole":
        return int(rng.integers(control.low, min(control.high, 1000) + 1))
    corner = rng.integers(8)
    if corner < 3:
        return (control.low, control.high, control.default)[corner]
    return control.from_unit(float(rng.uniform()))


def drawn_controls(effect: str, rng: np.random.Generator) -> dict[str, Any]:
    """Every control of an effect but files, at random."""
    return {c.name: drawn(c, rng) for c in EFFECTS[effect].controls if c.kind != "file"}


def drawn_curve(control: Control, seconds: float, rng: np.random.Generator) -> Curve:
    """A few breakpoints."""
    times = np.sort(rng.uniform(0, seconds, 4))
    return Curve(tuple((float(t), drawn(control, rng)) for t in times))


def stacked(controls: list[dict[str, Any]], effect: str) -> dict[str, Any]:
    """One value per item for all numbers and switches; choices and whole numbers as the first item has them."""
    together: dict[str, Any] = {}
    for name in controls[0]:
        kind = EFFECTS[effect][name].kind
        values = [item[name] for item in controls]
        if kind == "number":
            together[name] = torch.tensor(values, dtype=torch.float64)
        else:
            together[name] = torch.tensor(values) if kind == "switch" else values[0]
    return together


def twin_error_db(
    effect: str,
    controls: dict[str, Any],
    rate: int,
    channels: int,
    dtype=np.float64,
    n: int = 6000,
    seed: int = 0,
    **more,
) -> float:
    """How far the twin is from the reference on one signal, relative to the output's peak."""
    x = audio(seed, channels, n, dtype)
    expected = EFFECT_FUNCTIONS[effect](x.astype(np.float64), rate, **controls, **more)
    found = getattr(diff, effect)(torch.from_numpy(x), rate, **controls, **more).numpy()
    if not np.abs(expected).max() > 0:
        return -np.inf if not np.abs(found).max() > 1e-12 else 0.0
    return error_db(found, expected)


def curve_tensor(curve: Curve, control: Control, n: int, rate: float) -> torch.Tensor:
    """A curve as a tensor on the control grid, that gradients can be asked of."""
    return curve_points(curve, control, n, rate).clone().requires_grad_()
