"""Gains that move along the control grid."""

from __future__ import annotations

import torch

from mixtools.dsp.compiled import GRID


def interpolated(points: torch.Tensor, n: int, grid: int = GRID) -> torch.Tensor:
    """Values (..., points) on the control grid as values at every sample, (..., n), linear in between."""
    weight = torch.arange(grid, dtype=points.dtype, device=points.device) / grid
    begin, end = points[..., :-1, None], points[..., 1:, None]
    return (begin + weight * (end - begin)).flatten(-2)[..., :n]


def ramped(x: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """x (batch, channels, n) times gains (batch, 1 or channels out, points); a mono signal spreads to all of them."""
    if gains.shape[-1] == 1:
        return x * gains.to(x.dtype)
    return x * interpolated(gains, x.shape[-1]).to(x.dtype)
