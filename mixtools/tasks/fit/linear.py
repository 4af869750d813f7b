"""The linear models: gains alone, strips with an equaliser, strips with a shared reverb, and a response for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mixtools.controls import EFFECTS, SEND
from mixtools.dsp.graphic_eq import fir_length, usable_bands
from mixtools.mix import Bus, Insert, Track
from mixtools.tasks.fit.descent import REVERB, response_names
from mixtools.tasks.fit.estimate import Estimate, Problem, Progress
from mixtools.tasks.fit.filters import Excerpted, Solver
from mixtools.tasks.fit.gain import Gains, balance_for, decibels, gain_tracks
from mixtools.tasks.fit.strips import Settings, Strips
from mixtools.tasks.fit.structure import GaussNewton, read_off
from mixtools.tasks.fit.whitening import ORDER, Whitened, whitening

BLOCK = 1 << 18

LATEST_S = 0.03
"""How much later than where it was placed a stem's direct sound may be."""

WHOLE = 0.002
"""A delay so close to a whole sample is one."""

STEPS = 15, 45
"""Of conjugate gradients, for filters that are the result."""

EXPLAINED = 0.01
"""Of the whitened mix's energy: filters that leave more than that are not all there is to the mix."""

LEAST_ORDER = 1
"""Of the whitening filter where not all is explained."""

FIRST_STEPS = (20,)
"""The same, for filters that settings are read off."""

MOVES = 14
"""Gauss-Newton steps at most, and products with the stems in each."""
PRODUCTS = 20

THIN, FEWEST = 3, 5
"""Of the segments, one in so many is heard by the first Gauss-Newton steps; there are so many at least."""

NEAR = 1e-5
"""Of the mix's energy: what those may leave."""

SLOW = 1.5
"""A step of those that gains less than this factor is their last."""

_BAND = EFFECTS["graphic_eq"].controls[0]


def fit_gains(problem: Problem) -> Estimate:
    """Barchiesi & Reiss 2010: one amplitude per stem and side, by least squares."""
    gains = Gains([strip.recording.channels for strip in problem.strips])
    for start, stop in problem.ranges:
        for at in range(start, stop, BLOCK):
            n = min(BLOCK, stop - at)
            stems = [strip.moved.read(at, n) for strip in problem.strips]
            gains.add(stems, np.broadcast_to(problem.target.read(at, n), (2, n)))
    tracks, whose = [], []
    for i, (strip, amplitudes) in enumerate(zip(problem.strips, gains.solve(), strict=True)):
        for track in gain_tracks(strip.file, strip.recording.channels, amplitudes):
            track.channel, track.offset_ms = strip.channel, problem.ms(strip.offset)
            tracks.append(track)
            whose.append(i)
    return Estimate(tracks, whose)


class Linear:
    """Filters, and settings read off them and brought home, for the parts of a problem."""

    def __init__(self, problem: Problem, reverb_s: float, progress: Progress, order: int | None = None):
        self.problem = problem
        self.reverb = round(reverb_s * problem.rate)
        self.lead = fir_length(problem.rate) // 2
        self._progress = progress
        self._load(ORDER if order is None else order)
        if order is None and self._residual(self.first) > EXPLAINED:
            self._load(LEAST_ORDER)

    def _load(self, order: int) -> None:
        """Solve for first filters, stems and mix through a whitening filter of an order.

        Where filters explain the mix, white is best: everything counts alike, however quiet. Where they do not, what
        is left is about as loud as the mix at every frequency, and only what is loud can be brought down.
        """
        problem = self.problem
        self.colour = whitening(problem.target, problem.ranges, order)
        taps = self.reverb + 2 * self.lead + round(LATEST_S * problem.rate)
        stems = [Whitened(strip.moved, self.colour) for strip in problem.strips]
        self.data = Excerpted(stems, Whitened(problem.target, self.colour), problem.ranges, taps, self.lead)
        self.solver = Solver(self.data, problem.rate)
        self.shapes = Strips(problem.rate, taps, self.lead, self.data.points, self.reverb)
        self.first = self.solver.solve(FIRST_STEPS, progress=lambda share: self._progress(0.25 * share))

    def _residual(self, filters: torch.Tensor) -> float:
        left = self.data.residual(filters).double().square().sum()
        return float(left / self.data.target.double().square().sum().clamp(min=1e-30))

    def structured(self, keep: Callable[[Estimate], None]) -> Settings:
        """Gain, pan, equaliser, delay, and with a reverb one shared response and sends; `keep` hears of each step."""
        settings = read_off(self.shapes, self.solver, self.first)
        every = min(THIN, len(self.data.places) // FEWEST)
        if every > 1:
            # Far from home a part of the segments shows the way as well.
            newton = GaussNewton(self.shapes, self.solver.thinned(every))
            settings = newton.run(
                settings,
                MOVES,
                PRODUCTS,
                lambda share: self._progress(0.25 + 0.25 * share),
                nothing=NEAR,
                standstill=SLOW,
            )
        settings = GaussNewton(self.shapes, self.solver).run(
            settings,
            MOVES,
            PRODUCTS,
            lambda share: self._progress(0.5 + 0.5 * share),
            lambda found: keep(self.estimate(found)),
        )
        return possible(settings)

    def individual(self) -> Estimate:
        """A response of its own for each strip: what can be read off it as a dry strip, and a second entry for the
        rest."""
        filters = self.solver.solve(STEPS, progress=lambda share: self._progress(0.25 + 0.75 * share))
        plain = Strips(self.problem.rate, self.data.taps, self.lead, self.data.points, 0)
        settings = possible(read_off(plain, self.solver, filters))
        rest = filters - plain.filters(settings)
        estimate = self.estimate(settings)
        keys = response_names(estimate.tracks)
        for i, (strip, key) in enumerate(zip(self.problem.strips, keys, strict=True)):
            chain = [Insert("convolution", {"ir": key})]
            offset = self.problem.ms(strip.offset - self.lead)
            estimate.tracks.append(Track(strip.file, strip.channel, offset, chain=chain))
            estimate.whose.append(i)
            estimate.responses[key] = rest[:, i].numpy().copy()
        return estimate

    def estimate(self, settings: Settings) -> Estimate:
        """The console that has such settings."""
        settings = possible(settings)
        problem, tracks = self.problem, []
        for i, strip in enumerate(problem.strips):
            delay = float(settings.delay[i])
            delay = round(delay) if abs(delay - round(delay)) < WHOLE else delay
            left, right = settings.sides[:, i].tolist()
            eq = {
                f"band{hz}_gain_db": float(db)
                for hz, db in zip(usable_bands(problem.rate), settings.eq[i], strict=True)
            }
            loudest = max(abs(left), abs(right))
            chain = [
                Insert("graphic_eq", eq),
                Insert("gain", {"gain_db": decibels(loudest), "invert": left + right < 0.0}),
                Insert("pan", {"pan": balance_for(abs(left), abs(right))}),
            ]
            track = Track(strip.file, strip.channel, problem.ms(strip.offset + delay), chain=chain)
            if settings.room.numel() and settings.send[i] > 0.0:
                track.sends = {REVERB: decibels(float(settings.send[i]), SEND.low, SEND.high)}
            tracks.append(track)
        estimate = Estimate(tracks, list(range(len(tracks))))
        if any(track.sends for track in tracks):
            estimate.buses = {REVERB: Bus(chain=[Insert("convolution", {"ir": REVERB})])}
            estimate.responses = {REVERB: settings.room.float().numpy()}
        return estimate


def possible(settings: Settings) -> Settings:
    """Settings that a console can have: sides of one sign, and gains of the equaliser within its range."""
    sides, eq = settings.sides.clone(), settings.eq.clone()
    sign = torch.sign(sides.sum(0))
    sides = torch.where(sides * sign > 0.0, sides, torch.zeros_like(sides))
    too_high = (eq.amax(1) - _BAND.high).clamp(min=0.0)
    eq = (eq - too_high[:, None]).clamp(_BAND.low, _BAND.high)
    return Settings(sides * 10.0 ** (too_high / 20.0), eq, settings.delay, settings.send, settings.room)
