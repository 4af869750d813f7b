"""Beyond linear: compressors on tracks, and equaliser, compressor and limiter on the master.

The linear fit comes first. What it leaves is then searched for gains that move as a limiter or a compressor would move
them, over a grid of settings whose gains are compared with the residual in closed form; the linear part is solved for
again on stems that are compressed so, and a mix whose limiter is undone; and everything descends together through the
differentiable console at last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.signal import oaconvolve, welch
from torch import Tensor

from mixtools.controls import EFFECTS, Curve
from mixtools.dsp import limiter
from mixtools.dsp.compiled import GRID
from mixtools.dsp.true_peak import TAPS, highest_peaks
from mixtools.mix import Insert, Master, Track
from mixtools.tasks.excerpts import Range
from mixtools.tasks.fit.descent import response_names
from mixtools.tasks.fit.desk import COMPRESSOR, LIMITER, Playback
from mixtools.tasks.fit.desk_descent import DeskDescent
from mixtools.tasks.fit.estimate import Estimate, Problem, Progress, Strip
from mixtools.tasks.fit.linear import Linear, possible
from mixtools.tasks.fit.search import cheapest, descended
from mixtools.tasks.fit.strips import NEPER, Settings
from mixtools.tasks.fit.structure import ALIKE, GaussNewton
from mixtools.tasks.recordings import ArrayRecording

BELOW_PEAK_DB = 6.0, 12.0, 18.0, 26.0
RATIOS = 2.0, 5.0
ATTACKS_MS = 2.0, 15.0
RELEASES_MS = 60.0, 300.0
KNEE_DB = 3.0
"""Where the search for a compressor begins; thresholds are below the strip's peak."""

DRIVES_DB = 0.0, 1.5, 3.0, 5.0, 8.0
LIMITER_RELEASES_MS = 60.0, 250.0
"""The same for the limiter; its ceiling begins at the mix's own true peak."""

WORTH = 0.01
"""Of the residual's energy: what a strip's compressor has to explain to be there."""

WORTH_OF_MASTER = 0.03
"""The same for the master's compressor and limiter, which fit a little to anything."""

PROMISING = 0.25
"""Of what it has to explain: what a place of the grid has to, to be worth a search around it."""

STEADY_DB = 3.0
"""How far automation is expected to move."""

REST_S = 0.12
"""The length of such responses: longer ones say less of what they were not fitted to (a record's unseen blocks)."""

FRAME = 512
"""Samples over which automation stands still."""

AUTOMATIONS = 4
"""Steps that breakpoints are found in."""

WEIGHT_TAPS = 512
"""Of the filter that a strip is listened to through."""

ROUNDS = 3
MOVES, PRODUCTS = 3, 12
"""Rounds of the search, and Gauss-Newton steps in each."""

STEPS = 60


class Dynamics(Playback):
    """A desk with compressors and a limiter, fitted to one excerpt of a problem, from a linear one."""

    def __init__(self, problem: Problem, excerpt: Range, reverb_s: float, linear: Linear, settings: Settings):
        super().__init__(problem, excerpt, reverb_s, settings, linear.colour)
        self.linear = linear

    def search(self, progress: Progress) -> None:
        """Find what moves, in rounds: limiter, compressors, and the linear part again."""
        for number in range(ROUNDS):
            equalised = self.equalised()
            self.search_limiter(self.summed(self.compressed(equalised)))
            progress((number + 0.3) / ROUNDS)
            self.search_compressors(equalised)
            if number:
                self.search_master(self.summed(self.compressed(equalised)))
            progress((number + 0.6) / ROUNDS)
            if self.desk.moves:
                self.refit()
            progress((number + 1) / ROUNDS)

    def search_limiter(self, mix: np.ndarray) -> None:
        """A limiter, and how hard it is driven, for a mix before the master; kept where it explains enough."""
        desk = self.desk
        without = self.energy(self.wanted - self.white(self.mastered(mix)))
        if desk.master is not None:
            mix = mix * self.gains(mix, desk.master)

        def cost(values: Mapping[str, float]) -> float:
            driven = mix * np.float32(10.0 ** (values["drive_db"] / 20.0))
            limited = limiter(driven, self.rate, **{name: values[name] for name in LIMITER})
            return self.energy(self.wanted - self.white(limited))

        if desk.limiter is None:
            peak = 20.0 * math.log10(max(_true_peak(self.target), 1e-3))
            ceiling = EFFECTS["limiter"]["ceiling_db"]
            start = cheapest(
                [
                    {"drive_db": drive, "ceiling_db": min(max(peak, ceiling.low), ceiling.high), "release_ms": release}
                    for drive, release in itertools.product(DRIVES_DB, LIMITER_RELEASES_MS)
                ],
                cost,
            )
        else:
            start = {"drive_db": desk.drive_db, **desk.limiter}
        ranges = {"drive_db": (-24.0, 24.0)} | {name: _range("limiter", name) for name in LIMITER}
        best, least = descended(start, cost, ranges)
        if desk.limiter is not None or least < (1.0 - WORTH_OF_MASTER) * without:
            desk.drive_db = best.pop("drive_db")
            desk.limiter = best

    def search_compressors(self, equalised: list[np.ndarray]) -> None:
        """A compressor wherever one explains enough of what is left, one strip after the other."""
        desk = self.desk
        stems = self.compressed(equalised)
        before = self.summed(stems)
        scale = np.float32(10.0 ** (desk.drive_db / 20.0))
        left = self.white(self.unlimited(before) - before * scale)
        for i, (plain, stem) in enumerate(zip(equalised, stems, strict=True)):
            dry, now = self.white(scale * self.sides(plain, i)), self.white(scale * self.sides(stem, i))
            loud = where_loud(now, left)
            parts = filtered_by(loud, dry), filtered_by(loud, left + now)
            enough = WORTH * self.energy(filtered_by(loud, left))
            settings, gained, level = self.search_compressor(plain, *parts, desk.compressors[i], enough)
            if gained > enough:
                desk.compressors[i] = settings
                desk.settings.sides[:, i] *= level
                left = left + now - level * dry * self.gains(plain, settings)

    def search_master(self, before: np.ndarray) -> None:
        """A compressor on the master, where one explains enough."""
        desk = self.desk
        now, desk.master = desk.master, None
        scale = np.float32(10.0 ** (desk.drive_db / 20.0))
        dry, wanted = self.white(before * scale), self.white(self.unlimited(before))
        enough = WORTH_OF_MASTER * self.energy(wanted - dry)
        settings, gained, level = self.search_compressor(before, dry, wanted, now, enough)
        if gained > enough:
            desk.master = settings
            desk.drive_db += 20.0 * math.log10(level)

    def search_compressor(
        self,
        key: np.ndarray,
        dry: np.ndarray,
        wanted: np.ndarray,
        now: dict[str, float] | None,
        enough: float,
    ) -> tuple[dict[str, float], float, float]:
        """The best compressor for a signal `key` whose part `dry` is wanted to become `wanted`: its settings, the
        energy it explains more of than a steady gain does, and the gain that goes with it. What promises far less than
        `enough` is not refined."""
        frames = self.n // GRID
        dry, wanted = (x[:, : frames * GRID].astype(np.float64) for x in (dry, wanted))
        energies, products = (x.sum(0).reshape(frames, GRID).sum(1) for x in (dry * dry, dry * wanted))
        steady = products.sum() ** 2 / max(energies.sum(), 1e-30)

        def level(values: Mapping[str, float]) -> tuple[float, float]:
            gains = self.gains(key, values)[GRID // 2 :: GRID][:frames].astype(np.float64)
            return max(float((products * gains).sum()), 1e-30), max(float((energies * gains**2).sum()), 1e-30)

        def cost(values: Mapping[str, float]) -> float:
            product, energy = level(values)
            return -(product**2) / energy

        peak = 20.0 * math.log10(max(float(np.abs(key).max()), 1e-3))
        lowest, highest = _range("compressor", "threshold_db")
        grid = [
            {
                "threshold_db": min(max(peak - below, lowest), highest),
                "ratio": ratio,
                "attack_ms": attack,
                "release_ms": release,
                "knee_db": KNEE_DB,
            }
            for below, ratio, attack, release in itertools.product(BELOW_PEAK_DB, RATIOS, ATTACKS_MS, RELEASES_MS)
        ]
        best = cheapest(grid if now is None else [now, *grid], cost)
        least = cost(best)
        if -least - steady > PROMISING * enough:
            best, least = descended(best, cost, {name: _range("compressor", name) for name in COMPRESSOR})
        product, energy = level(best)
        return best, -least - steady, product / energy

    def refit(self) -> None:
        """The linear part anew, against the mix as it was before the limiter: with equalisers as if compressors came
        first, which nearly is the same, then levels, sends and reverb on stems as they come out of both."""
        equalised = self.equalised()
        faded = self.compressed(equalised)
        gains = [
            np.divide(y, x, out=np.ones_like(x), where=np.abs(x) > 1e-6) for x, y in zip(equalised, faded, strict=True)
        ]
        self._refitted([x * gain for x, gain in zip(self.stems, gains, strict=True)], ("delay",))
        self._refitted(self.compressed(), ("delay", "eq"))

    def _refitted(self, stems: list[np.ndarray], hold: tuple[str, ...]) -> None:
        """Solve for what is not held, and keep it where it is better."""
        desk, before = self.desk, self.left()
        target = self.unlimited(self.summed(self.compressed())) / np.float32(10.0 ** (desk.drive_db / 20.0))
        strips = [
            Strip(strip.file, strip.channel, ArrayRecording(stem))
            for strip, stem in zip(self.problem.strips, stems, strict=True)
        ]
        problem = Problem(strips, ArrayRecording(target - self.rest), self.rate, self.ranges)
        linear = Linear(problem, self.reverb_s, lambda share: None, len(self.colour) - 1)
        kept = desk.settings
        flat = {name: torch.zeros_like(getattr(kept, name)) for name in hold}
        found = GaussNewton(linear.shapes, linear.solver, hold=hold).run(replace(kept, **flat), MOVES, PRODUCTS)
        desk.settings = possible(replace(found, **{name: getattr(kept, name) for name in hold}))
        if self.left() > before:
            desk.settings = kept

    def explain_rest(self) -> None:
        """A response for each channel of each stem to both sides: what other effects did."""
        desk = self.desk
        before = self.summed(self.compressed())
        scale = np.float32(10.0 ** (desk.drive_db / 20.0))
        parts = [
            (i, channel, Strip(strip.file, channel, ArrayRecording(stem[c : c + 1])))
            for i, (strip, stem) in enumerate(zip(self.problem.strips, self.stems, strict=True))
            for c, channel in enumerate(("left", "right") if len(stem) == 2 else (strip.channel,))
        ]
        target = ArrayRecording(self.unlimited(before) / scale - before)
        linear = Linear(
            Problem([strip for *_, strip in parts], target, self.rate, self.ranges),
            min(self.reverb_s, REST_S),
            lambda share: None,
        )
        filters = linear.solver.solve().numpy()
        for (i, channel, strip), response in zip(parts, filters.transpose(1, 0, 2), strict=True):
            desk.rests.append((i, channel, np.ascontiguousarray(response)))
            heard = oaconvolve(strip.recording.read(0, self.n), response, axes=1)
            self.rest += heard[:, linear.lead : linear.lead + self.n].astype(np.float32)

    def automate(self, seconds: float) -> None:
        """Gains that move, with a breakpoint every so many seconds: least squares of the mix before the limiter."""
        for _ in range(AUTOMATIONS):
            self._automate(seconds)

    def _automate(self, seconds: float) -> None:
        """One linearised step."""
        desk = self.desk
        stems = self.compressed()
        before = self.summed(stems)
        scale = np.float32(10.0 ** (desk.drive_db / 20.0))
        left = self.white(self.unlimited(before) - before * scale)
        frames = self.n // FRAME
        parts = np.empty((len(stems), 2, frames * FRAME), np.float32)
        for i, stem in enumerate(stems):
            part = scale * self.sides(stem, i)
            if desk.settings.room.shape[1]:
                sent = oaconvolve(part, desk.settings.room.float().numpy(), axes=1)[:, : self.n]
                part = part + float(desk.settings.send[i]) * sent
            parts[i] = self.white(part)[:, : frames * FRAME]
        framed = parts.reshape(len(stems), 2, frames, FRAME).transpose(2, 0, 1, 3).reshape(frames, len(stems), -1)
        grams = framed @ framed.transpose(0, 2, 1)
        wanted = left[:, : frames * FRAME].reshape(2, frames, FRAME).transpose(1, 0, 2).reshape(frames, -1, 1)
        rights = (framed @ wanted)[..., 0]
        knots = np.arange(self.lead / self.rate, self.n / self.rate + seconds, seconds)
        times = (np.arange(frames) + 0.5) * (FRAME / self.rate)
        hats = np.stack([np.interp(times, knots, row) for row in np.eye(len(knots))], axis=1)
        # A gain of g dB adds about g / 8.69 of the part that it moves.
        slopes = np.einsum("fk,fij,fl->ikjl", hats, grams, hats, optimize=True) * NEPER**2
        size = len(stems) * len(knots)
        matrix = slopes.reshape(size, size)
        matrix[np.diag_indices(size)] += ALIKE * self.energy(left) / max(self.counted.sum(), 1.0) / STEADY_DB**2
        right = (hats.T @ rights).T.reshape(size) * NEPER
        desk.knots_s = (knots * self.rate + self.first) / self.rate
        moves = np.linalg.solve(matrix, right).reshape(len(stems), -1)
        desk.automation_db = np.clip(moves if desk.automation_db is None else desk.automation_db + moves, -24.0, 12.0)
        every = np.arange(self.n) / self.rate
        faders = [np.interp(every, knots, moves) for moves in desk.automation_db]
        self.faders = (10.0 ** (np.array(faders) / 20.0)).astype(np.float32)

    def descend(self, steps: int | None, loss: Callable[[Tensor], Tensor] | None, progress: Progress) -> None:
        """Everything together through the differentiable console, towards the whitened mix or as `loss` of the excerpt
        says; the best place met stays, when interrupted too. Where nothing moves there is nothing to gain by it, unless
        steps are asked for."""
        if steps is None and not self.desk.moves:
            return
        DeskDescent(self).run(STEPS if steps is None else steps, loss, progress)

    def estimate(self) -> Estimate:
        """The desk as a console."""
        desk = self.desk
        estimate = self.linear.estimate(desk.settings)
        for track, settings in zip(estimate.tracks, desk.compressors, strict=True):
            if settings is not None:
                track.chain.insert(1, Insert("compressor", dict(settings)))
        if desk.automation_db is not None:
            for track, moves in zip(estimate.tracks, desk.automation_db, strict=True):
                controls = next(insert.controls for insert in track.chain if insert.effect == "gain")
                steady = controls["gain_db"]
                low, high = _range("gain", "gain_db")
                points = zip(desk.knots_s.tolist(), np.clip(steady + moves, low, high).tolist(), strict=True)
                controls["gain_db"] = Curve(tuple((time, db) for time, db in points if time >= 0.0))
        chain = []
        if desk.eq_db is not None:
            bands = {f"band{hz}_gain_db": float(db) for hz, db in zip(self.bands, desk.eq_db, strict=True)}
            chain.append(Insert("graphic_eq", bands))
        if desk.master is not None:
            chain.append(Insert("compressor", dict(desk.master)))
        if desk.drive_db:
            chain.append(Insert("gain", {"gain_db": desk.drive_db}))
        if desk.limiter is not None:
            chain.append(Insert("limiter", dict(desk.limiter)))
        estimate.master = Master(chain)
        for (i, channel, response), key in zip(desk.rests, self.keys(), strict=True):
            strip = self.problem.strips[i]
            delay = estimate.tracks[i].offset_ms - self.problem.ms(self.linear.lead)
            entry = Track(strip.file, channel, delay, chain=[Insert("convolution", {"ir": key})])
            estimate.tracks.append(entry)
            estimate.whose.append(i)
            estimate.responses[key] = response
        return estimate

    def keys(self) -> list[str]:
        """Names of the rests' responses."""
        entries = [Track(self.problem.strips[i].file, channel) for i, channel, _ in self.desk.rests]
        return response_names(entries)


def where_loud(part: np.ndarray, left: np.ndarray) -> np.ndarray:
    """A filter (taps,) that lets through where a part (2, n) is loud beside what is left: P / (P + L) of their power
    spectra. A change of the part shows there; elsewhere are only the others."""
    powers = [welch(x, nperseg=WEIGHT_TAPS, axis=1)[1].sum(0) for x in (part, left)]
    level = max(float(powers[0].max()), 1e-30)
    share = powers[0] / (powers[0] + powers[1] + 1e-9 * level)
    return np.fft.fftshift(np.fft.irfft(share, WEIGHT_TAPS)) * np.hanning(WEIGHT_TAPS)


def filtered_by(taps: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A signal (2, n) through a filter whose delay is taken back."""
    return oaconvolve(x, taps[None].astype(np.float32), mode="same", axes=1)


def _true_peak(x: np.ndarray) -> float:
    return highest_peaks(np.pad(x, ((0, 0), (TAPS - 1, 0))), 0.0, 0.0)[1]


def _range(effect: str, name: str) -> tuple[float, float]:
    control = EFFECTS[effect][name]
    return control.low, control.high
