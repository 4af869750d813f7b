"""Echoes: a fractional delay line with damped feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from mixtools.diff.effect import Values, side_by_side, twin
from mixtools.diff.recursion import contiguous, precise, recursion
from mixtools.dsp.delay import direct_reading, echo, echo_coefficients, loop_reading
from mixtools.dsp.delay_adjoint import echo_adjoint, to_taps
from mixtools.dsp.interpolation import HALF, filtered, interpolation, interpolation_slope

TAPS = 2 * HALF


@twin
def delay(x: torch.Tensor, rate: float, values: Values) -> torch.Tensor:
    """See `mixtools.dsp.delay`. The gradient of `time_ms` is that of reading between samples, at a whole number of
    samples the slope towards longer times."""
    delays = values["time_ms"][:, 0] * rate / 1000
    direct_firsts, direct = _readings(delays, direct_reading)
    loop_firsts, loop = _readings(delays, loop_reading)
    firsts = list(zip(direct_firsts, loop_firsts, strict=True))
    return recursion(_Echoes, x, direct, loop, echo_coefficients(values, rate), firsts)


def _readings(delays: torch.Tensor, reading: Callable[[float], tuple[float, int]]) -> tuple[list[int], torch.Tensor]:
    """The delay of the first tap, and the taps (batch, TAPS) with their slopes by the delays (batch,) of all items."""
    firsts, rows = [], []
    for samples, number in zip(delays, delays.tolist(), strict=True):
        at, half = reading(number)
        first, taps = interpolation(at, half)
        slope = interpolation_slope(at, half) * (at == number)
        nothing = samples - samples.detach()
        row = torch.from_numpy(taps).to(samples) + nothing * torch.from_numpy(slope).to(samples)
        firsts.append(first)
        rows.append(pad(row, (0, TAPS - len(taps))))
    return firsts, torch.stack(rows)


class _Echoes(torch.autograd.Function):
    """x (batch, channels, n), taps (batch, TAPS), coefficients (batch, points, 4), first taps' delays per item.

    The wet signal is made again on the way back, so that nothing but the input is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        direct: torch.Tensor,
        loop: torch.Tensor,
        coefficients: torch.Tensor,
        firsts: list[tuple[int, int]],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, direct, loop, coefficients)
        ctx.firsts = firsts
        audio, taps = contiguous(x), (precise(direct), precise(loop), precise(coefficients))
        y = np.empty_like(audio)

        def work(item: int) -> None:
            for c in range(audio.shape[1]):
                _echoed(audio[item, c], y[item, c], firsts[item], *(each[item] for each in taps))

        side_by_side(work, len(audio))
        return torch.from_numpy(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *coefficients = ctx.saved_tensors
        audio, to_y, taps = contiguous(x), contiguous(gradient), [precise(each) for each in coefficients]
        to_x = np.empty_like(audio)
        to = [np.zeros_like(each) for each in taps]
        timed = any(ctx.needs_input_grad[1:3])

        def work(item: int) -> None:
            own, found = [each[item] for each in taps], [each[item] for each in to]
            for c in range(audio.shape[1]):
                found_here = _adjoint(audio[item, c], to_y[item, c], to_x[item, c], ctx.firsts[item], *own, timed)
                for total, value in zip(found, found_here, strict=True):
                    total += value

        side_by_side(work, len(audio))
        return torch.from_numpy(to_x), *(torch.from_numpy(each) for each in to), None


def _echoed(
    x: np.ndarray,
    y: np.ndarray,
    firsts: tuple[int, int],
    direct: np.ndarray,
    loop: np.ndarray,
    coefficients: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Write one channel's echoes into y (n,); the input and the wet signal, with as much silence before as is read."""
    silence = np.zeros(max(firsts) + TAPS - 1)
    past, wet = np.concatenate([silence.astype(x.dtype), x]), np.zeros(len(silence) + len(x))
    echo(past, wet, y, direct, firsts[0], loop, firsts[1], coefficients, 0, np.zeros(1))
    return past, wet


def _adjoint(
    x: np.ndarray,
    to_y: np.ndarray,
    to_x: np.ndarray,
    firsts: tuple[int, int],
    direct: np.ndarray,
    loop: np.ndarray,
    coefficients: np.ndarray,
    timed: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write one channel's gradient into to_x (n,); those of both readings' taps, where `timed`, and of coefficients."""
    n = len(x)
    past, wet = _echoed(x, np.empty_like(x), firsts, direct, loop, coefficients)
    silent = len(past) - n
    back = silent - firsts[1]
    fed = filtered(wet[None, back - TAPS + 1 : back + n], loop)[0]
    to_wet, to_fed = np.zeros(n + silent + 1), np.zeros(n + silent + 1)
    to = np.zeros_like(coefficients)
    taps = direct, firsts[0], loop, firsts[1]
    echo_adjoint(x, wet[silent:], fed, to_y, *taps, coefficients, to_wet, to_fed, to_x, to)
    to_direct, to_loop = np.zeros(TAPS), np.zeros(TAPS)
    if timed:
        to_taps(past, to_wet[:n], firsts[0], to_direct)
        to_taps(wet, to_fed[:n], firsts[1], to_loop)
    return to_direct, to_loop, to
