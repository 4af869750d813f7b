"""What all twins share: controls from the table, batches, the control grid, and threads for the kernels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from mixtools.controls import EFFECTS, Control, Curve, shown
from mixtools.dsp.compiled import GRID
from mixtools.errors import ParameterError, nearest

Values = dict[str, Any]
"""Numbers as tensors (batch, points), one point where steady; choices, files and whole numbers as they are."""

ROUNDING = 1e-6
"""Of a value: more than a float32 can be off by."""


def grid_points(n: int) -> int:
    """Control points that n samples reach over: one every 64 samples, from the first sample to beyond the last."""
    return max(n - 1, 0) // GRID + 2


def curve_points(curve: Curve, control: Control, n: int, rate: float) -> torch.Tensor:
    """Breakpoints as values on the control grid, (points,) float64."""
    return torch.from_numpy(curve.at(np.arange(grid_points(n)) * (GRID / rate), control))


def twin(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A pure function `(x, rate, **controls)` of one that takes x (batch, channels, n), the rate, and `Values`.

    The effect has the function's name, and its signature comes from the control table. x is (..., channels, n), mono
    or stereo, float32 or float64. A control is a number, or a tensor that fits the dimensions before the channels, one
    value per item; an automatable one may have one more dimension, its values on the control grid (`grid_points(n)`).
    """
    declared = EFFECTS[function.__name__]

    def effect(x: torch.Tensor, rate: float, **controls: Any) -> torch.Tensor:
        check_audio(x, rate, declared.name)
        items = x.shape[:-2]
        values = {
            control.name: _value(controls.pop(control.name, control.default), control, x, rate, declared.name)
            for control in declared.controls
        }
        for name in controls:
            known = nearest(name, declared.names)
            raise ParameterError(f"{declared.name}: {name} is not known; did you mean {known}?")
        if math.prod(x.shape) == 0:
            raise ParameterError(f"{declared.name}: the audio has shape {tuple(x.shape)}; give some samples")
        y = function(x.reshape(-1, *x.shape[-2:]), rate, values)
        return y.reshape(*items, *y.shape[-2:])

    parameter = inspect.Parameter
    effect.__signature__ = inspect.Signature(
        [
            parameter("x", parameter.POSITIONAL_OR_KEYWORD),
            parameter("rate", parameter.POSITIONAL_OR_KEYWORD),
            *(
                parameter(c.name, parameter.KEYWORD_ONLY, default=parameter.empty if c.default is None else c.default)
                for c in declared.controls
            ),
        ]
    )
    effect.__name__ = effect.__qualname__ = declared.name
    effect.__module__ = function.__module__
    effect.__doc__ = function.__doc__
    return effect


def check_audio(x: torch.Tensor, rate: float, where: str) -> None:
    """Refuse what is no audio (..., 1 or 2, n)."""
    if not isinstance(x, torch.Tensor) or x.dtype not in (torch.float32, torch.float64):
        found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise ParameterError(f"{where}: the audio is {found}; give a float32 or float64 tensor")
    if x.ndim < 2 or x.shape[-2] not in (1, 2):
        raise ParameterError(f"{where}: the audio has shape {tuple(x.shape)}; give (..., 1 or 2, n)")
    if not (math.isfinite(rate) and rate > 0):
        raise ParameterError(f"{where}: the rate is {rate}; give a sample rate in Hz")


def _value(value: Any, control: Control, x: torch.Tensor, rate: float, where: str) -> Any:
    """A control as the twin's inner function takes it."""
    name = f"{where}.{control.name}"
    if value is None:
        raise ParameterError(f"{name} is missing; give {control.range}")
    if control.kind == "file" and not isinstance(value, str):
        return _spread_response(value, x, name) if isinstance(value, torch.Tensor) else value
    if control.kind not in ("number", "switch"):
        return control.check(value, name)
    items = x.shape[:-2]
    if isinstance(value, torch.Tensor):
        return _spread(value, control, x, name)
    if isinstance(value, Curve):
        if not control.automatable:
            raise ParameterError(f"{name} is a list; it cannot be automated, give one value")
        points = curve_points(control.check(value, name), control, x.shape[-1], rate)
        return points.to(device=x.device, dtype=precise(x)).expand(math.prod(items), -1)
    kind = torch.bool if control.kind == "switch" else precise(x)
    return torch.tensor(control.check(value, name), dtype=kind, device=x.device).expand(math.prod(items), 1)


def _spread_response(value: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
    """Samples (1 or 2, taps) for all items, or as (batch, 1 or 2, taps) those of each."""
    if value.ndim == 2:
        return value
    try:
        return value.expand(*x.shape[:-2], *value.shape[-2:]).reshape(-1, *value.shape[-2:])
    except RuntimeError:
        give = f"(1 or 2, taps), or such for each of {tuple(x.shape[:-2])}"
        raise ParameterError(f"{name} has shape {tuple(value.shape)}; give {give}") from None


def _spread(value: torch.Tensor, control: Control, x: torch.Tensor, name: str) -> torch.Tensor:
    items, n = x.shape[:-2], x.shape[-1]
    moving = control.kind == "number" and control.automatable and value.ndim == len(items) + 1
    points = grid_points(n) if moving else 1
    wanted = (*items, points)
    shape = value.shape if moving else (*value.shape, 1)
    try:
        spread = value.reshape(shape).expand(wanted)
    except RuntimeError:
        give = f"{tuple(items)}, or {(*items, grid_points(n))} to move it" if control.automatable else f"{tuple(items)}"
        raise ParameterError(f"{name} has shape {tuple(value.shape)}; give a number, or a tensor {give}") from None
    spread = spread.reshape(-1, points)
    if control.kind == "switch":
        return spread.to(torch.bool)
    wide = spread.to(device=x.device, dtype=precise(x))
    # A float32 at the end of the range may lie beyond it by a rounding: it counts as the end, and keeps its gradient.
    inside = wide.detach().clamp(control.low, control.high)
    outside = ~((wide.detach() - inside).abs() <= ROUNDING * inside.abs())  # so that NaN is outside, too
    if bool(outside.any()):
        raise ParameterError(f"{name} is {shown(float(wide.detach()[outside][0]))}; give {control.range}")
    return wide + (inside - wide.detach())


def precise(x: torch.Tensor) -> torch.dtype:
    """The type that coefficients are computed in: float64, but where the device has none (MPS)."""
    return torch.float32 if x.device.type == "mps" else torch.float64


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="mixtools-diff")


def side_by_side(work: Callable[[int], None], items: int) -> None:
    """Call `work(item)` for every item, on as many threads as torch may use: kernels release the GIL.

    The threads are ours, not numba's, so that two Python threads may train at once.
    """
    workers = min(torch.get_num_threads(), items)
    if workers <= 1:
        for item in range(items):
            work(item)
        return
    for _ in _pool(workers).map(work, range(items)):
        pass


def moving(values: Iterable[torch.Tensor]) -> bool:
    """Whether any of the controls has more than one point."""
    return any(value.shape[1] > 1 for value in values)
