"""Look-ahead true-peak limiter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from mixtools.diff.effect import Values, side_by_side, twin
from mixtools.diff.recursion import contiguous, precise, recursion
from mixtools.dsp.limiter import CEILING, STAGES, at_rest, attack_samples, limiter_gain, limits
from mixtools.dsp.limiter_adjoint import limiter_adjoint
from mixtools.dsp.true_peak import TAPS, true_peaks


@twin
def limiter(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.limiter`. Where two peaks call for the same gain, the later one has the gradient.

    Controls that move stay after the audio's end as they are there. The rounding of gains counts as none.
    """
    points = max(value.shape[1] for value in values.values())
    coefficients = limits({name: value.expand(-1, points) for name, value in values.items()}, rate)
    for _ in range(STAGES):
        x = recursion(_Stage, x, coefficients, rate)
    return x


class _Stage(torch.autograd.Function):
    """x (batch, channels, n), coefficients (batch, points, 2)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, coefficients: torch.Tensor, rate: float) -> torch.Tensor:
        y = torch.empty(x.shape, dtype=x.dtype)
        source, numbers, out = contiguous(x), precise(coefficients), y.numpy()

        def work(item: int) -> None:
            _, gain, _, _ = _gains(source[item], numbers[item], rate)
            out[item] = source[item] * gain[len(gain) - x.shape[-1] :]

        side_by_side(work, len(source))
        ctx.save_for_backward(x, coefficients)
        ctx.rate = rate
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, coefficients = ctx.saved_tensors
        dx = torch.empty(x.shape, dtype=x.dtype)
        source, given, numbers, out = contiguous(x), contiguous(dy), precise(coefficients), dx.numpy()
        found = np.zeros_like(numbers)

        def work(item: int) -> None:
            gains = _gains(source[item], numbers[item], ctx.rate)
            width = attack_samples(ctx.rate)
            limiter_adjoint(source[item], given[item], out[item], *gains, numbers[item], width, found[item])

        side_by_side(work, len(source))
        return dx, torch.from_numpy(found).to(coefficients.dtype), None


def _gains(x: np.ndarray, coefficients: np.ndarray, rate: float) -> tuple[np.ndarray, ...]:
    """Peaks, gain, trail and ages of `limiter_gain`, with the stage's latency behind the last sample."""
    state = at_rest(rate)
    n = x.shape[1] + len(state[0]) - 1
    peaks, gain, trail, ages = np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.int32)
    true_peaks(np.pad(x, ((0, 0), (TAPS - 1, n - x.shape[1]))), coefficients[:, CEILING].min(), peaks)
    limiter_gain(peaks, gain, trail, ages, coefficients, 0, *state)
    return peaks, gain, trail, ages
