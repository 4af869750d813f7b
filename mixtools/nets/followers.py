"""Followers: states that go after a curve of the signal's level, rising at one rate and falling at another.

They are recursions with a branch at every sample, so that they run in a kernel, forwards and backwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixtools.diff.recursion import contiguous, recursion
from mixtools.dsp.compiled import kernel

LOWEST, HIGHEST, KNOTS = -14.0, 6.0, 41
"""Octaves of level (0 is full scale) between which curves have their knots; beyond, they go on as they end."""

_STEPS = (KNOTS - 1) / (HIGHEST - LOWEST)


def followed(level: Tensor, curves: Tensor, rise: Tensor, fall: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of all followers (b, n), and where they end (b, followers).

    level (b, n) in octaves; curves (b, followers, knots), what each goes after at every level; rise and fall
    (b, followers), the share of the way that it goes in a sample; states (b, followers), where they begin.
    """
    ends = torch.empty(states.shape, dtype=torch.float64)
    return recursion(_Followed, level, curves, rise, fall, states, ends), ends


@kernel
def _follow(level, curve, rise, fall, state, track, total):
    """One follower: its way into `track`, added to `total`; gives where it ends."""
    last = curve.size - 2
    for i in range(level.size):
        place = (np.float64(level[i]) - LOWEST) * _STEPS
        k = min(max(np.int64(place), 0), last)
        wanted = curve[k] + (place - k) * (curve[k + 1] - curve[k])
        rate = rise if wanted > state else fall
        state += rate * (wanted - state)
        track[i] = state
        total[i] += state
    return state


@kernel
def _follow_back(level, curve, rise, fall, start, track, gradient, to_level, to_curve, to_rates):
    """The adjoint of `_follow`; adds to what it is given, but for the gradient of the start, which it returns."""
    last = curve.size - 2
    held = 0.0
    for i in range(level.size - 1, -1, -1):
        held += np.float64(gradient[i])
        before = np.float64(track[i - 1]) if i > 0 else start
        place = (np.float64(level[i]) - LOWEST) * _STEPS
        k = min(max(np.int64(place), 0), last)
        part = place - k
        slope = curve[k + 1] - curve[k]
        wanted = curve[k] + part * slope
        rising = wanted > before
        rate = rise if rising else fall
        to_rates[0 if rising else 1] += held * (wanted - before)
        to_wanted = held * rate
        to_curve[k] += to_wanted * (1.0 - part)
        to_curve[k + 1] += to_wanted * part
        to_level[i] += to_wanted * slope * _STEPS
        held *= 1.0 - rate
    return held


class _Followed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, level: Tensor, curves: Tensor, rise: Tensor, fall: Tensor, states: Tensor, ends: Tensor
    ) -> Tensor:
        arrays = [contiguous(level), *(contiguous(x.double()) for x in (curves, rise, fall, states))]
        x, c, up, down, start = arrays
        track = np.empty((*c.shape[:2], x.shape[1]), np.float32)
        total = np.zeros(x.shape, np.float32)
        for b in range(c.shape[0]):
            for f in range(c.shape[1]):
                ends[b, f] = _follow(x[b], c[b, f], up[b, f], down[b, f], start[b, f], track[b, f], total[b])
        ctx.arrays = (*arrays, track)
        ctx.types = [tensor.dtype for tensor in (level, curves, rise, fall, states)]
        return torch.from_numpy(total).to(level.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, c, up, down, start, track = ctx.arrays
        g = contiguous(gradient)
        to_level, to_curves = np.zeros_like(x), np.zeros_like(c)
        to_rates, to_start = np.zeros((2, *up.shape)), np.zeros_like(start)
        for b in range(c.shape[0]):
            for f in range(c.shape[1]):
                rates = np.zeros(2)
                to_start[b, f] = _follow_back(
                    x[b], c[b, f], up[b, f], down[b, f], start[b, f], track[b, f], g[b], to_level[b], to_curves[b, f],
                    rates,
                )  # fmt: skip
                to_rates[:, b, f] = rates
        found = (to_level, to_curves, *to_rates, to_start)
        return (*(torch.from_numpy(a).to(kind) for a, kind in zip(found, ctx.types, strict=True)), None)
