"""Distances to one target that is come back to: the values of `measure.distance`, several times as fast to descend.

The target's spectra are kept, and the gradient is made frame by frame together with the value; torch's own way back
through `stft` and `abs` takes six times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.fft import irfft, rfft
from torch.nn.functional import pad

from mixtools.measure.arrays import Resolution, magnitudes, root
from mixtools.measure.distance import LOWEST_MAGNITUDE, MR_STFT, MSS
from mixtools.measure.frames import hann

SAMPLES_AT_A_TIME = 1 << 19
"""Of all frames that are transformed together."""

Slopes = tuple[torch.Tensor, ...]


def mss_to(target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """`measure.distance.mss` to a target (2, n), as a function of the estimate."""
    distances = [_Spectrogram(target, resolution, _difference) for resolution in MSS]
    return lambda estimate: sum(d.count_of(d.sums(estimate)[0]) for d in distances)


def mr_stft_to(target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """`measure.distance.mr_stft` to a target (2, n), as a function of the estimate."""
    distances = [_Spectrogram(target, resolution, _squares_and_logarithms) for resolution in MR_STFT]

    def distance(estimate: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for d in distances:
            error, logs = d.sums(estimate)
            total = total + root(error / d.energy) + d.count_of(logs)
        return total / len(distances)

    return distance


def time_to(target: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The mean square of what a target (2, n) and the estimate differ by."""
    return lambda estimate: torch.mean((estimate - target) ** 2)


TOWARDS = {"mss": mss_to, "mr-stft": mr_stft_to, "time": time_to}
"""The losses by their names on the command line."""


class _Spectrogram:
    """The target's magnitudes at one resolution, and sums over what the estimate's differ from them by.

    `compare(p, q)` gives the terms of each sum, and its slopes by p.
    """

    def __init__(
        self,
        target: torch.Tensor,
        resolution: Resolution,
        compare: Callable[[torch.Tensor, torch.Tensor], tuple[list[torch.Tensor], Slopes]],
    ):
        self.resolution, self.compare = resolution, compare
        self.window = torch.from_numpy(hann(resolution.window)).to(target)
        with torch.no_grad():
            (spectra,) = magnitudes(target, resolution)
        self.magnitudes = spectra.transpose(-1, -2).contiguous()
        self.energy = torch.sum(self.magnitudes.clip(min=LOWEST_MAGNITUDE) ** 2)

    def sums(self, estimate: torch.Tensor) -> tuple[torch.Tensor, ...]:
        half = self.resolution.size // 2
        # Reflected where there is enough to reflect, as in `measure.arrays.magnitudes`.
        mode = "reflect" if estimate.shape[-1] > half else "constant"
        return _Sums.apply(pad(estimate, (half, half), mode=mode), self)

    def count_of(self, total: torch.Tensor) -> torch.Tensor:
        """A sum as the mean over all bins of all frames."""
        return total / math.prod(self.magnitudes.shape)


def _difference(p: torch.Tensor, q: torch.Tensor) -> tuple[list[torch.Tensor], Slopes]:
    difference = p - q
    return [difference.abs()], (difference.sign(),)


def _squares_and_logarithms(p: torch.Tensor, q: torch.Tensor) -> tuple[list[torch.Tensor], Slopes]:
    heard = p > LOWEST_MAGNITUDE
    p, q = p.clip(min=LOWEST_MAGNITUDE), q.clip(min=LOWEST_MAGNITUDE)
    difference, logarithm = p - q, torch.log(p / q)
    return [difference**2, logarithm.abs()], (2.0 * difference * heard, logarithm.sign() / p * heard)


class _Sums(torch.autograd.Function):
    """The sums of a `_Spectrogram` for a padded signal (channels, n), each a scalar."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, to: _Spectrogram) -> tuple[torch.Tensor, ...]:
        size, hop, length = to.resolution.size, to.resolution.hop, to.resolution.window
        # Only magnitudes are wanted, so that the window need not be moved to the middle of the transform.
        first = (size - length) // 2
        frames = padded[:, first : padded.shape[1] - (size - length - first)].unfold(-1, length, hop)
        count = frames.shape[1]
        parts = -(-length // hop)
        step = max(1, SAMPLES_AT_A_TIME // (size * len(padded)))
        totals: list[Any] = []
        gradients: list[torch.Tensor] = []
        for at in range(0, count, step):
            spectra = rfft(frames[:, at : at + step] * to.window, size)
            p = spectra.abs()
            terms, slopes = to.compare(p, to.magnitudes[:, at : at + step])
            sums = [term.sum(dtype=torch.float64 if p.device.type != "mps" else None) for term in terms]
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
            if not ctx.needs_input_grad[0]:
                continue
            if not gradients:
                # Room for the last frame's hops, which may reach past the end; nothing but zeros does.
                shape = (len(padded), max(padded.shape[1], first + (count - 1 + parts) * hop))
                gradients = [padded.new_zeros(shape) for _ in slopes]
            held = spectra.shape[1]
            spectra /= p.clip(min=torch.finfo(p.dtype).tiny)
            # The inverse transform counts every bin twice but the first and the last.
            spectra[..., 1:-1] *= 0.5
            for gradient, slope in zip(gradients, slopes, strict=True):
                pieces = irfft(spectra * slope, size, norm="forward")[..., :length] * to.window
                pieces = pad(pieces, (0, parts * hop - length)).reshape(len(padded), held, parts, hop)
                for part in range(parts):
                    begin = first + (at + part) * hop
                    gradient[:, begin : begin + held * hop] += pieces[:, :, part].reshape(len(padded), -1)
        ctx.save_for_backward(*(gradient[:, : padded.shape[1]] for gradient in gradients))
        return tuple(total.to(padded.dtype) for total in totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *weights: torch.Tensor) -> tuple[torch.Tensor, None]:
        return sum(weight * gradient for weight, gradient in zip(weights, ctx.saved_tensors, strict=True)), None
