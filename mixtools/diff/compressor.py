"""Feed-forward compressor with a smooth branching detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from mixtools.diff.effect import Values, side_by_side, twin
from mixtools.diff.ramps import interpolated
from mixtools.diff.recursion import contiguous, precise, recursion
from mixtools.dsp.compressor import HARD_KNEE, KNEE, MAKEUP, SLOPE, compress, detector, stretches
from mixtools.dsp.compressor_adjoint import FLAT, compress_adjoint


@twin
def compressor(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.compressor`. The lookahead is whole samples, and has no gradient.

    Where a lookahead lets the detector run on after the audio's end, controls that move stay as they are at the end.
    """
    ahead = [round(time_ms) for time_ms in (values["lookahead_ms"][:, 0] * rate / 1000).tolist()]
    moving = {name: value for name, value in values.items() if name != "lookahead_ms"}
    points = max(value.shape[1] for value in moving.values())
    coefficients = detector({name: value.expand(-1, points) for name, value in moving.items()}, rate)
    makeup = coefficients[..., MAKEUP]
    if values["makeup_db"].shape[1] == 1:
        return recursion(_Compress, x, coefficients, ahead)
    # The detector looks ahead, the makeup gain does not.
    compressed = recursion(_Compress, x, _without_makeup(coefficients), ahead)
    return compressed * torch.exp2(interpolated(makeup, x.shape[-1]))[:, None].to(x.dtype)


def _without_makeup(coefficients: torch.Tensor) -> torch.Tensor:
    return torch.cat([coefficients[..., :MAKEUP], torch.zeros_like(coefficients[..., MAKEUP:])], dim=-1)


class _Compress(torch.autograd.Function):
    """x (batch, channels, n), coefficients (batch, points, 6), and how many samples each item's detector is ahead."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, coefficients: torch.Tensor, ahead: list[int]) -> torch.Tensor:
        batch, _, n = x.shape
        y = torch.empty(x.shape, dtype=x.dtype)
        source, out = contiguous(x), y.numpy()
        numbers = [_usable(item, n + samples) for item, samples in zip(precise(coefficients), ahead, strict=True)]
        trails = [np.empty(stretches(n + samples)) for samples in ahead]

        def work(item: int) -> None:
            key, audio = _keyed(source[item], ahead[item])
            late = np.empty_like(key) if ahead[item] else out[item]
            compress(
                key, audio, late, numbers[item], 0, _makeup(numbers[item], key.shape[1]), np.zeros(1), trails[item]
            )
            if ahead[item]:
                out[item] = late[:, ahead[item] :]

        side_by_side(work, batch)
        ctx.save_for_backward(x, coefficients)
        ctx.numbers, ctx.trails, ctx.ahead = numbers, trails, ahead
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, coefficients = ctx.saved_tensors
        dx = torch.empty(x.shape, dtype=x.dtype)
        source, given, out = contiguous(x), contiguous(dy), dx.numpy()
        found = [np.zeros_like(item) for item in ctx.numbers]

        def work(item: int) -> None:
            samples = ctx.ahead[item]
            key, audio = _keyed(source[item], samples)
            tables = ctx.numbers[item], ctx.trails[item], found[item]
            if not samples:
                compress_adjoint(key, audio, given[item], out[item], out[item], *tables)
                return
            dkey, daudio = np.zeros_like(key), np.empty_like(key)
            compress_adjoint(key, audio, np.pad(given[item], ((0, 0), (samples, 0))), dkey, daudio, *tables)
            out[item] = dkey[:, :-samples] + daudio[:, samples:]

        side_by_side(work, len(source))
        points = coefficients.shape[1]
        gradients = np.stack([_held_back(item, points) for item in found])
        return dx, torch.from_numpy(gradients).to(coefficients.dtype), None


def _keyed(x: np.ndarray, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """What the detector hears and the audio that it acts on, (channels, n + ahead)."""
    if not ahead:
        return x, x
    return np.pad(x, ((0, 0), (0, ahead))), np.pad(x, ((0, 0), (ahead, 0)))


def _usable(coefficients: np.ndarray, n: int) -> np.ndarray:
    """As the kernels take them: no knee and no slope is 0, and those that move are held from their last point on."""
    held = coefficients.copy()
    if len(held) > 1:
        beyond = max(stretches(n) + 1 - len(held), 0)
        held = np.concatenate([held, np.repeat(held[-1:], beyond, axis=0)])
    held[:, KNEE] = np.maximum(held[:, KNEE], HARD_KNEE)
    held[:, SLOPE] = np.maximum(held[:, SLOPE], FLAT)
    return held


def _held_back(gradients: np.ndarray, points: int) -> np.ndarray:
    """Gradients of `_usable`'s points as those of the points it was given."""
    folded = gradients[:points].copy()
    folded[-1] += gradients[points:].sum(axis=0)
    return folded


def _makeup(coefficients: np.ndarray, n: int) -> np.ndarray:
    return np.full(1 if len(coefficients) == 1 else n, coefficients[0, MAKEUP])
