"""What every metric is written on: numpy arrays in small pieces of float64, torch tensors whole and with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Array = Any
"""A numpy array or a torch tensor."""

SAMPLES_AT_A_TIME = 1 << 18
"""Of all channels together; float64 temporaries of this size stay in cache."""


@dataclass(frozen=True)
class Resolution:
    """Of a short-time spectrum, all in samples: FFT size, hop, and length of the Hann window."""

    size: int
    hop: int
    window: int


def namespace(*arrays: Array) -> Any:
    """The functions that belong to the arrays' kind, by their names in the array API standard."""
    from array_api_compat import array_namespace

    return array_namespace(*arrays)


def like(values: Array, x: Array) -> Array:
    """The values as an array of x's kind, type and device."""
    from array_api_compat import device

    return namespace(x).asarray(values, dtype=x.dtype, device=device(x))


def wide(x: Array) -> Array:
    """A numpy array as float64, a tensor as it is."""
    from array_api_compat import is_numpy_array

    return x.astype("float64", copy=False) if is_numpy_array(x) else x


def root(x: Array) -> Array:
    """The square root of what is never negative; its gradient at 0 is 0, not infinite."""
    xp = namespace(x)
    positive = x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def stretches(*signals: Array, history: int = 0) -> Iterator[tuple[Array, ...]]:
    """Equally long signals (..., n) in pieces, the same of each at a time; a tensor is one piece.

    Every piece begins with the `history` samples before it; before the start is silence.
    """
    from array_api_compat import is_torch_array

    shape = signals[0].shape
    n = shape[-1]
    step = n if is_torch_array(signals[0]) else max(SAMPLES_AT_A_TIME * n // max(signals[0].size, 1), 1)
    for start in range(0, n, max(step, 1)):
        before = min(history, start)
        pieces = [wide(x[..., start - before : start + step]) for x in signals]
        if before < history:
            xp = namespace(*pieces)
            silence = like([[0.0] * (history - before)], pieces[0])[0]
            pieces = [
                xp.concat([xp.broadcast_to(silence, (*x.shape[:-1], history - before)), x], axis=-1) for x in pieces
            ]
        yield tuple(pieces)


def magnitudes(x: Array, resolution: Resolution) -> Iterator[Array]:
    """|STFT| of a signal (..., n) in pieces (..., bins, frames): 1 + n // hop frames in all, for a tensor in one piece.

    Frames are centred on the multiples of the hop. The ends are reflected; a signal of at most size / 2 is too short
    for that and is surrounded by zeros instead. The window stands in the middle of the frame. Nothing is normalised.
    """
    from array_api_compat import is_torch_array

    from mixtools.measure.frames import hann

    window = hann(resolution.window)
    if is_torch_array(x):
        yield _of_tensor(x, resolution, window)
    else:
        yield from _of_numpy(x, resolution, window)


def _of_tensor(x: Array, resolution: Resolution, window: Array) -> Array:
    size, n = resolution.size, x.shape[-1]
    spectra = x.reshape(-1, n).stft(
        size,
        resolution.hop,
        resolution.window,
        like(window, x),
        center=True,
        pad_mode="reflect" if n > size // 2 else "constant",
        return_complex=True,
    )
    return spectra.abs().reshape(*x.shape[:-1], *spectra.shape[-2:])


def _of_numpy(x: Array, resolution: Resolution, window: Array) -> Iterator[Array]:
    import numpy as np
    from scipy.fft import rfft

    from mixtools.measure.frames import Framer

    channels = x.reshape(-1, x.shape[-1])
    framer = Framer(resolution.size, resolution.hop, len(channels), centred=True)
    # Only the magnitude is wanted, so that the window need not be moved to the middle of the transform.
    start = (resolution.size - resolution.window) // 2
    step = resolution.hop * max(SAMPLES_AT_A_TIME // (len(channels) * resolution.size), 1)

    def spectra(frames: np.ndarray) -> np.ndarray:
        parts = rfft(frames[..., start : start + resolution.window] * window, resolution.size)
        values = np.sqrt(np.square(parts.real) + np.square(parts.imag)).swapaxes(-1, -2)
        return values.reshape(*x.shape[:-1], *values.shape[-2:])

    for at in range(0, channels.shape[-1], step):
        frames = framer.add(wide(channels[:, at : at + step]))
        if frames.shape[1]:
            yield spectra(frames)
    yield spectra(framer.finish())
