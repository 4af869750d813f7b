"""One filter per stem and side that makes the mix: linear least squares over excerpts, by conjugate gradients.

A mix that is linear and does not change is y_c = sum over stems of h_ic * x_ic for each side c: a mono stem feeds both
sides, a stereo stem each side its own. Over the samples that count (w = 1) the best filters solve (X' W X + L) h =
X' W y. The products with X and X' are convolutions and correlations, done in overlapping transforms of the excerpts
whose spectra are kept; the preconditioner inverts the stems' smoothed cross-spectral matrix at every frequency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.fft import irfft, rfft
from torch.nn.functional import conv1d, pad

from mixtools.diff.effect import side_by_side
from mixtools.dsp.compiled import kernel
from mixtools.tasks.recordings import Recording

PARTS = 16
"""Pieces of the frequency range that threads take."""

SMALLEST = 14
"""Bits of a transform that is worth its overheads."""

RIDGES = 1e-2, 1e-6
"""Highest and lowest ridge, relative to a stem's own energy: what stems that cannot be told apart share by."""

RIDGE_OF_RESIDUAL = 0.1
"""The ridge relative to the share of the mix that is not explained: a tenth did best on a mastered record's unseen
blocks, and vanishes where the mix is explained."""

FALL_DB = 55.0
"""What is expected of a response: a fall by so much from its direct sound to its last tap. The ridge grows as it falls,
so that late taps are not made of the rest of the music; a record's unseen blocks come out 0.9 dB better."""

DIRECT_S = 0.05
"""Nothing is expected to fall within so long after the first tap."""

QUIETEST = 1e-10
"""Of the loudest stem's energy: a stem below it is as good as silent, and gets next to no filter."""

LOAD = 0.1
"""Of a stem's mean power: what the preconditioner adds at every frequency. Less of it lets conjugate gradients spend
their first steps on what cannot be heard, more of it leaves the music's peaks in their way; measured between 1e-7 and
1e4, a tenth converges fastest."""

ENOUGH = 1e-5
"""Conjugate gradients stop where the preconditioned residual of the normal equations has fallen to this."""


class Excerpted:
    """Stems and a mix over parts of their time, ready to be filtered by `taps` taps of which `lead` look ahead.

    Filters are (2, stems, taps) float32; tap k delays by k - lead samples. What counts of the mix is in `counted`:
    (segments, step) of 0 and 1.
    """

    def __init__(
        self,
        stems: Sequence[Recording],
        target: Recording,
        ranges: Iterable[tuple[int, int]],
        taps: int,
        lead: int,
    ):
        self.taps, self.lead = taps, lead
        ranges = list(ranges)
        self.size = _transform(taps, len(stems), sum(stop - start for start, stop in ranges))
        self.step = self.size - taps + 1
        self.places = [
            (at, min(at + self.step, stop)) for start, stop in ranges for at in range(start, stop, self.step)
        ]
        self.stereo = [stem.channels == 2 for stem in stems]
        first = np.cumsum([0, *(stem.channels for stem in stems)])
        self.spectra = np.empty((2, first[-1], len(self.places), self.size // 2 + 1), np.float32)
        """Real and imaginary parts, apart for the kernels' sake, of every channel of every stem: (2, rows, segments,
        frequencies)."""
        self.rows = np.stack([first[:-1], first[:-1] + np.array(self.stereo)])
        """Where each side's part of each stem is among them, (2, stems)."""
        before = taps - 1 - lead
        for stem, row in zip(stems, first[:-1], strict=True):
            for segment, (at, _) in enumerate(self.places):
                window = torch.from_numpy(stem.read(at - before, self.size))
                self.spectra[:, row : row + stem.channels, segment] = _apart(rfft(window))
        self.target = torch.zeros(2, len(self.places), self.step)
        for segment, (at, stop) in enumerate(self.places):
            self.target[:, segment, : stop - at] = torch.from_numpy(target.read(at, stop - at))
        self.counted = self.where(lambda samples: np.ones(len(samples)))

    def thinned(self, every: int) -> Excerpted:
        """One segment in so many."""
        few = copy(self)
        few.spectra = np.ascontiguousarray(self.spectra[:, :, ::every])
        few.places, few.counted = self.places[::every], self.counted[::every]
        few.target = self.target[:, ::every].contiguous()
        return few

    @property
    def count(self) -> int:
        return len(self.stereo)

    @property
    def points(self) -> int:
        """The transform that filters of so many taps are preconditioned in."""
        return min(self.size, 1 << (2 * self.taps - 1).bit_length())

    def where(self, counts: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """Weights (segments, step) from what `counts(sample numbers)` gives; nothing outside the ranges."""
        chosen = torch.zeros(len(self.places), self.step)
        for row, (at, stop) in zip(chosen, self.places, strict=True):
            row[: stop - at] = torch.from_numpy(np.asarray(counts(np.arange(at, stop)), np.float32))
        return chosen

    def filtered(self, filters: Tensor) -> Tensor:
        """What filters make of the stems, (2, segments, step)."""
        own = _apart(rfft(filters, self.size))
        total = np.zeros((2, 2, *self.spectra.shape[2:]), np.float32)
        self._in_parts(lambda first, last: _add_products(own, self.spectra, self.rows, total, first, last))
        return irfft(_together(total), self.size)[..., self.taps - 1 :]

    def correlated(self, signals: Tensor) -> Tensor:
        """The adjoint of `filtered`: signals (2, segments, step) with the stems, (2, stems, taps)."""
        spectra = _apart(rfft(pad(signals, (self.taps - 1, 0))))
        found = np.zeros((2, 2, self.count, spectra.shape[-1]), np.float32)
        self._in_parts(lambda first, last: _add_correlations(spectra, self.spectra, self.rows, found, first, last))
        return irfft(_together(found), self.size)[..., : self.taps]

    def residual(self, filters: Tensor, counted: Tensor | None = None) -> Tensor:
        """The mix less what filters make, where it counts."""
        return (self.target - self.filtered(filters)) * (self.counted if counted is None else counted)

    def cross_spectra(self, side: int) -> Tensor:
        """The stems' smoothed cross-spectral matrices (frequencies, stems, stems) at `points`, complex64.

        In units of the normal equations: their diagonal is a stem's power over all that counts.
        """
        rows = self.rows[side]
        fold = self.size // self.points
        matrices = torch.empty(self.points // 2 + 1, self.count, self.count, dtype=torch.complex64)

        def fill(i: int) -> None:
            found = np.zeros((2, self.count - i, self.spectra.shape[-1]), np.float32)
            _add_cross_spectra(self.spectra, rows[i], rows[i:], found)
            smooth = _smoothed(torch.from_numpy(found), fold)
            matrices[:, i, i:] = smooth.T
            matrices[:, i:, i] = smooth.T.conj()

        side_by_side(fill, self.count)
        return matrices * (float(self.counted.sum()) / (len(self.places) * self.size))

    def _in_parts(self, work: Callable[[int, int], None]) -> None:
        edges = np.linspace(0, self.spectra.shape[-1], PARTS + 1).astype(int)
        side_by_side(lambda part: work(edges[part], edges[part + 1]), PARTS)


def _transform(taps: int, stems: int, length: int) -> int:
    """The size of the transforms, a power of two: the least work."""
    smallest = max((2 * taps - 1).bit_length(), SMALLEST)
    sizes = [1 << bits for bits in range(smallest, smallest + 4)]
    return min(sizes, key=lambda size: (stems + math.ceil(length / (size - taps + 1))) * size * math.log2(size))


def _apart(spectra: Tensor) -> np.ndarray:
    """Real and imaginary parts, (2, ...)."""
    return np.stack([spectra.real.numpy(), spectra.imag.numpy()])


def _together(parts: np.ndarray) -> Tensor:
    return torch.complex(torch.from_numpy(parts[0]), torch.from_numpy(parts[1]))


@kernel
def _add_products(own, spectra, rows, total, first, last):
    """total[c, s] += own[c, i] * spectra[rows[c, i], s] at frequencies first to last; a mono stem is read once."""
    for s in range(total.shape[2]):
        for i in range(rows.shape[1]):
            left, right = rows[0, i], rows[1, i]
            for f in range(first, last):
                x, y = spectra[0, left, s, f], spectra[1, left, s, f]
                a, b = own[0, 0, i, f], own[1, 0, i, f]
                total[0, 0, s, f] += a * x - b * y
                total[1, 0, s, f] += a * y + b * x
                if left != right:
                    x, y = spectra[0, right, s, f], spectra[1, right, s, f]
                a, b = own[0, 1, i, f], own[1, 1, i, f]
                total[0, 1, s, f] += a * x - b * y
                total[1, 1, s, f] += a * y + b * x


@kernel
def _add_correlations(signals, spectra, rows, found, first, last):
    """found[c, i] += signals[c, s] * the conjugate of spectra[rows[c, i], s] at frequencies first to last."""
    for i in range(rows.shape[1]):
        left, right = rows[0, i], rows[1, i]
        for s in range(signals.shape[2]):
            for f in range(first, last):
                x, y = spectra[0, left, s, f], spectra[1, left, s, f]
                a, b = signals[0, 0, s, f], signals[1, 0, s, f]
                found[0, 0, i, f] += a * x + b * y
                found[1, 0, i, f] += b * x - a * y
                if left != right:
                    x, y = spectra[0, right, s, f], spectra[1, right, s, f]
                a, b = signals[0, 1, s, f], signals[1, 1, s, f]
                found[0, 1, i, f] += a * x + b * y
                found[1, 1, i, f] += b * x - a * y


@kernel
def _add_cross_spectra(spectra, one, rows, found):
    """found[j] += the conjugate of spectra[one] * spectra[rows[j]], over all segments."""
    for j in range(len(rows)):
        row = rows[j]
        for s in range(spectra.shape[2]):
            for f in range(spectra.shape[3]):
                a, b = spectra[0, one, s, f], spectra[1, one, s, f]
                x, y = spectra[0, row, s, f], spectra[1, row, s, f]
                found[0, j, f] += a * x + b * y
                found[1, j, f] += a * y - b * x


def _smoothed(parts: Tensor, fold: int) -> Tensor:
    """Averages over about two points of a grid `fold` times coarser: lags beyond the filters do not matter."""
    weights = torch.bartlett_window(4 * fold + 1, periodic=False)[1:-1]
    weights = (weights / weights.sum())[None, None]
    half = weights.shape[-1] // 2
    parts = pad(parts, (half, half), mode="reflect")
    # Below zero and above half the rate a spectrum goes on with the sign of its imaginary part turned.
    parts[1, :, :half] *= -1
    parts[1, :, -half:] *= -1
    smooth = [conv1d(part[:, None], weights, stride=fold)[:, 0].contiguous() for part in parts]
    return torch.complex(*smooth)


class Solver:
    """Solves for filters over the samples that count."""

    def __init__(self, excerpted: Excerpted, rate: float):
        self.data = excerpted
        sides = range(2 if any(excerpted.stereo) else 1)
        self._matrices = [excerpted.cross_spectra(side) for side in sides]
        energy = torch.stack([self.power(side).mean(-1) for side in range(2)])
        self._floor = max(QUIETEST * float(energy.max()), 1e-20)
        self._energy = energy
        late = (torch.arange(excerpted.taps) - excerpted.lead - DIRECT_S * rate).clamp(min=0.0) / excerpted.taps
        self.expected = 10.0 ** (-FALL_DB / 20.0 * late)
        """Amplitudes that responses are expected to have, (taps)."""
        self._set_ridge(RIDGES[0])

    def _set_ridge(self, ridge: float) -> None:
        self._ridges = ridge * self._energy + self._floor
        self._inverses = [self._inverse(side) for side in range(len(self._matrices))]

    def thinned(self, every: int) -> Solver:
        """The same for one segment in so many, as if its cross-spectra were those of all."""
        few = copy(self)
        few.data = self.data.thinned(every)
        share = float(few.data.counted.sum() / self.data.counted.sum().clamp(min=1.0))
        few._matrices = [matrices * share for matrices in self._matrices]
        return few

    def matrices(self, side: int) -> Tensor:
        """The stems' smoothed cross-spectra for a side, (frequencies, stems, stems)."""
        return self._matrices[min(side, len(self._matrices) - 1)]

    def power(self, side: int) -> Tensor:
        """The stems' smoothed power spectra for a side, (stems, frequencies)."""
        return self.matrices(side).diagonal(dim1=-2, dim2=-1).real.T

    def _inverse(self, side: int) -> Tensor:
        matrices = self.matrices(side).clone()
        own = matrices.diagonal(dim1=-2, dim2=-1)
        own += LOAD * own.real.mean(0) + self._ridges[side]
        return torch.linalg.inv(matrices)

    def _precondition(self, right: Tensor) -> Tensor:
        spectra = rfft(self.expected * right, self.data.points)
        solved = [
            (self._inverses[min(side, len(self._inverses) - 1)] @ spectra[side].T[..., None])[..., 0].T
            for side in range(2)
        ]
        return self.expected * irfft(torch.stack(solved), self.data.points)[..., : self.data.taps]

    def _normal(self, filters: Tensor, counted: Tensor) -> Tensor:
        """The normal equations' left side."""
        drawn = self._ridges[..., None] * filters / self.expected**2
        return self.data.correlated(self.data.filtered(filters) * counted) + drawn

    def solve(
        self,
        steps: Sequence[int] = (15, 30),
        counted: Tensor | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> Tensor:
        """Filters (2, stems, taps), each side on its own; a few steps first, whose residual sets the ridge for more."""
        counted = self.data.counted if counted is None else counted
        filters = torch.zeros(2, self.data.count, self.data.taps)
        energy = max(float((self.data.target * counted).double().square().sum()), 1e-30)
        residual = 1.0
        done = 0
        for stage in steps:
            ridge = min(max(RIDGE_OF_RESIDUAL * residual, RIDGES[1]), RIDGES[0])
            self._set_ridge(ridge)
            filters = self._conjugate_gradients(
                filters, stage, counted, lambda step, done=done: progress((done + step) / sum(steps))
            )
            done += stage
            residual = float(self.data.residual(filters, counted).double().square().sum()) / energy
        return filters

    def _conjugate_gradients(
        self, filters: Tensor, steps: int, counted: Tensor, progress: Callable[[int], None]
    ) -> Tensor:
        left = self.data.correlated(self.data.residual(filters, counted))
        left -= self._ridges[..., None] * filters / self.expected**2
        through = direction = self._precondition(left)
        product = first = _dots(left, through).clamp(min=1e-300)
        for step in range(steps):
            progress(step)
            image = self._normal(direction, counted)
            length = (product / _dots(direction, image).clamp(min=1e-300))[:, None, None].float()
            filters = filters + length * direction
            left = left - length * image
            through = self._precondition(left)
            new = _dots(left, through)
            if bool((new <= ENOUGH**2 * first).all()):
                break
            direction = through + (new / product)[:, None, None].float() * direction
            product = new.clamp(min=1e-300)
        return filters


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of each side, float64."""
    return (a.double() * b.double()).sum((-2, -1))
