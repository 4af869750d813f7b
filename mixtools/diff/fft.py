"""Long convolutions, in blocks whose spectra are made again on the way back: nothing but the signals is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.fft import irfft, rfft

SMALLEST = 1 << 12
"""Samples that are worth a transform."""


def convolved(x: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """x (batch, channels, n) through responses (1 or batch, 1 or 2, taps): (batch, 1 or 2, n), in x's type.

    A mono signal spreads to two responses, one response serves both channels.
    """
    return _Convolution.apply(x, response[..., : x.shape[-1]].to(x))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, response)
        n = x.shape[-1]
        size, step = _block(n, response.shape[-1])
        spectrum = rfft(response, size)
        y = x.new_zeros(*torch.broadcast_shapes(x.shape[:-1], response.shape[:-1]), n)
        for start in range(0, n, step):
            # Overlap-add: what is left of each block's end falls into the next blocks.
            block = irfft(rfft(x[..., start : start + step], size) * spectrum, size)
            y[..., start : start + size] += block[..., : n - start]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, response = ctx.saved_tensors
        n, taps = x.shape[-1], response.shape[-1]
        size, step = _block(n, taps)
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        conjugate = rfft(response, size).conj()
        products = conjugate.new_zeros(conjugate.shape)
        for start in range(0, n, step):
            # Both gradients are correlations with as much of the output as the block reaches.
            reached = rfft(gradient[..., start : start + step + taps - 1], size)
            if to_x is not None:
                spectrum = (reached * conjugate).sum_to_size(*x.shape[:-1], conjugate.shape[-1])
                to_x[..., start : start + step] = irfft(spectrum, size)[..., : min(step, n - start)]
            if ctx.needs_input_grad[1]:
                heard = rfft(x[..., start : start + step], size)
                products += (reached * heard.conj()).sum_to_size(products.shape)
        to_response = irfft(products, size)[..., :taps] if ctx.needs_input_grad[1] else None
        return to_x, to_response


def _block(n: int, taps: int) -> tuple[int, int]:
    """The size of the transforms, a power of two, and how many samples of the signal go into each: the least work."""
    whole = (n + taps - 2).bit_length()
    bits = range(min((max(2 * taps, SMALLEST) - 1).bit_length(), whole), whole + 1)
    best = min(bits, key=lambda b: -(-n // ((1 << b) - taps + 1)) * (1 << b) * b)
    return 1 << best, (1 << best) - taps + 1
