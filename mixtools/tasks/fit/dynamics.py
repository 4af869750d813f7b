"""Beyond linear: compressors on tracks, and equaliser, compressor and limiter on the master.

The linear fit comes first. What it leaves is then searched for gains that move as a limiter or a compressor would move
them, over a grid of settings whose gains are compared with the residual in closed form; the linear part is solved for
again on stems that are compressed so, and a mix whose limiter is undone; and everything descends together through the
differentiable console at last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.signal import oaconvolve
from torch import Tensor
from torch.nn.functional import conv1d, pad

from mixtools.controls import EFFECTS, Curve
from mixtools.diff import TWINS
from mixtools.diff.effect import side_by_side
from mixtools.diff.fft import convolved
from mixtools.dsp import graphic_eq, limiter
from mixtools.dsp.compiled import GRID
from mixtools.dsp.compressor import MAKEUP, compress, detector, stretches
from mixtools.dsp.graphic_eq import usable_bands
from mixtools.dsp.interpolation import interpolation
from mixtools.dsp.true_peak import TAPS, highest_peaks
from mixtools.mix import Insert, Master, Track
from mixtools.tasks.fit.descent import local_level, response_names
from mixtools.tasks.fit.estimate import Estimate, Problem, Progress, Strip
from mixtools.tasks.fit.excerpts import Range
from mixtools.tasks.fit.linear import Linear, possible
from mixtools.tasks.fit.recordings import ArrayRecording
from mixtools.tasks.fit.strips import NEPER, Settings
from mixtools.tasks.fit.structure import ALIKE, GaussNewton

COMPRESSOR = "threshold_db", "ratio", "attack_ms", "release_ms", "knee_db"
LIMITER = "ceiling_db", "release_ms"
"""What is fitted of each; the makeup is the strip's own gain."""

BELOW_PEAK_DB = 6.0, 12.0, 18.0, 26.0
RATIOS = 2.0, 5.0
ATTACKS_MS = 2.0, 15.0
RELEASES_MS = 60.0, 300.0
KNEE_DB = 3.0
"""Where the search for a compressor begins; thresholds are below the strip's peak."""

DRIVES_DB = 0.0, 1.5, 3.0, 5.0, 8.0
LIMITER_RELEASES_MS = 60.0, 250.0
"""The same for the limiter; its ceiling begins at the mix's own true peak."""

SPANS: dict[str, float] = {
    "threshold_db": 3.0,
    "ratio": -1.4,
    "attack_ms": -2.0,
    "release_ms": -2.0,
    "knee_db": 3.0,
    "drive_db": 1.0,
    "ceiling_db": 0.2,
}
"""The first steps of the search in each number; a negative one is a factor."""

HALVINGS = 3

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

LEAST_GAIN = 0.05
"""A limiter's gain below this is not undone."""

ROUNDS = 3
MOVES, PRODUCTS = 3, 12
"""Rounds of the search, and Gauss-Newton steps in each."""

STEPS = 60
SPEED = 0.01
"""Adam's, in units of each control's own scale; it falls to a tenth over the last half."""


@dataclass
class Desk:
    """Everything that moves: the linear settings, a compressor per strip (None: no compressor), and the master's."""

    settings: Settings
    compressors: list[dict[str, float] | None]
    drive_db: float = 0.0
    master: dict[str, float] | None = None
    limiter: dict[str, float] | None = None
    eq_db: np.ndarray | None = None
    rests: list[tuple[int, str, np.ndarray]] = field(default_factory=list)
    """Responses (2, taps) that a strip's channel is heard through besides: (strip, channel, response)."""
    knots_s: np.ndarray | None = None
    automation_db: np.ndarray | None = None
    """Gains on top of the steady ones at `knots_s`, (strips, knots)."""

    @property
    def moves(self) -> bool:
        return self.limiter is not None or self.master is not None or any(c is not None for c in self.compressors)


class Dynamics:
    """A console with compressors and a limiter, fitted to one excerpt of a problem in `first` to `last`."""

    def __init__(self, problem: Problem, excerpt: Range, reverb_s: float, linear: Linear, settings: Settings):
        self.problem, self.linear, self.reverb_s = problem, linear, reverb_s
        self.rate = problem.rate
        first, last = excerpt
        self.lead = GRID * math.ceil((round(reverb_s * self.rate) + self.rate) / GRID)
        self.first, self.n = first - self.lead, last - first + self.lead
        self.target = np.broadcast_to(problem.target.read(self.first, self.n), (2, self.n)).astype(np.float32)
        self.counted = np.zeros(self.n, np.float32)
        for start, stop in problem.ranges:
            self.counted[max(start - self.first, self.lead) : max(stop - self.first, 0)] = 1.0
        self.stems = [
            _delayed(strip.moved.read(self.first, self.n), float(delay))
            for strip, delay in zip(problem.strips, settings.delay, strict=True)
        ]
        edges = np.flatnonzero(np.diff(self.counted, prepend=0.0, append=0.0))
        self.ranges = [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        """Where it counts."""
        self.heard = (self.target * self.counted)[:, self.lead :]
        self.bands = usable_bands(self.rate)
        self.desk = Desk(settings, [None] * len(self.stems))
        self.rest = np.zeros((2, self.n), np.float32)
        """What the desk's rests make of the stems."""
        self.faders: np.ndarray | None = None
        """What the desk's automation multiplies the stems with, (strips, n)."""
        self.listen(linear.colour)

    def listen(self, colour: np.ndarray) -> None:
        """Compare what is made with the mix through a whitening filter."""
        self.colour = colour
        self.wanted = self.white(self.target)

    def white(self, x: np.ndarray) -> np.ndarray:
        """Whitened, and silent where it does not count."""
        full = oaconvolve(x, self.colour[None], axes=1)[:, : self.n]
        return full.astype(np.float32) * self.counted

    def energy(self, x: np.ndarray) -> float:
        return float(np.square(x, dtype=np.float64).sum())

    def equalised(self) -> list[np.ndarray]:
        eq = self.desk.settings.eq.numpy()
        out: list[Any] = [None] * len(self.stems)

        def work(i: int) -> None:
            gains = {f"band{hz}_gain_db": float(db) for hz, db in zip(self.bands, np.clip(eq[i], -60, 12), strict=True)}
            out[i] = graphic_eq(self.stems[i], self.rate, **gains)

        side_by_side(work, len(self.stems))
        return out

    def compressed(self, equalised: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """The stems as they come out of equaliser, compressor and a fader that moves."""
        stems = self.equalised() if equalised is None else equalised
        pairs = zip(stems, self.desk.compressors, strict=True)
        stems = [x if settings is None else x * self.gains(x, settings) for x, settings in pairs]
        return [x if self.faders is None else x * self.faders[i] for i, x in enumerate(stems)]

    def gains(self, key: np.ndarray, settings: Mapping[str, float]) -> np.ndarray:
        """What a compressor multiplies (channels, n) with, (n,) float32."""
        values = EFFECTS["compressor"].defaults | dict(settings)
        numbers = detector({k: np.array([float(v)]) for k, v in values.items() if k != "lookahead_ms"}, self.rate)
        out = np.empty((1, self.n), np.float32)
        trail = np.empty(stretches(self.n))
        compress(key, np.ones((1, self.n), np.float32), out, numbers, 0, numbers[:, MAKEUP], np.zeros(1), trail)
        return out[0]

    def sides(self, stem: np.ndarray, i: int) -> np.ndarray:
        """A strip's part on both sides before sends, (2, n)."""
        return (self.desk.settings.sides[:, i].float().numpy()[:, None] * stem).astype(np.float32)

    def summed(self, stems: list[np.ndarray]) -> np.ndarray:
        """The mix before the master, (2, n)."""
        settings = self.desk.settings
        dry, sent = np.zeros((2, self.n), np.float32), np.zeros((2, self.n), np.float32)
        for i, stem in enumerate(stems):
            part = self.sides(stem, i)
            dry += part
            sent += float(settings.send[i]) * part
        if settings.room.shape[1]:
            dry += oaconvolve(sent, settings.room.float().numpy(), axes=1)[:, : self.n]
        return dry + self.rest

    def mastered(self, x: np.ndarray) -> np.ndarray:
        desk = self.desk
        if desk.master is not None:
            x = x * self.gains(x, desk.master)
        x = x * np.float32(10.0 ** (desk.drive_db / 20.0))
        return x if desk.limiter is None else limiter(x, self.rate, **desk.limiter)

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
            start = _least(
                [
                    {"drive_db": drive, "ceiling_db": min(max(peak, ceiling.low), ceiling.high), "release_ms": release}
                    for drive, release in itertools.product(DRIVES_DB, LIMITER_RELEASES_MS)
                ],
                cost,
            )
        else:
            start = {"drive_db": desk.drive_db, **desk.limiter}
        ranges = {"drive_db": (-24.0, 24.0)} | {name: _range("limiter", name) for name in LIMITER}
        best, least = _refined(start, cost, ranges)
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
            enough = WORTH * self.energy(left)
            settings, gained, level = self.search_compressor(plain, dry, left + now, desk.compressors[i], enough)
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

        if now is None:
            peak = 20.0 * math.log10(max(float(np.abs(key).max()), 1e-3))
            lowest, highest = _range("compressor", "threshold_db")
            now = _least(
                [
                    {
                        "threshold_db": min(max(peak - below, lowest), highest),
                        "ratio": ratio,
                        "attack_ms": attack,
                        "release_ms": release,
                        "knee_db": KNEE_DB,
                    }
                    for below, ratio, attack, release in itertools.product(
                        BELOW_PEAK_DB, RATIOS, ATTACKS_MS, RELEASES_MS
                    )
                ],
                cost,
            )
        best, least = now, cost(now)
        if -least - steady > PROMISING * enough:
            best, least = _refined(now, cost, {name: _range("compressor", name) for name in COMPRESSOR})
        product, energy = level(best)
        return best, -least - steady, product / energy

    def unlimited(self, before: np.ndarray) -> np.ndarray:
        """The mix with the limiter's gain undone, by what it does to the mix before it."""
        desk = self.desk
        x = before if desk.master is None else before * self.gains(before, desk.master)
        gain = np.ones(self.n, np.float32) if desk.master is None else self.gains(before, desk.master)
        if desk.limiter is not None:
            driven = x * np.float32(10.0 ** (desk.drive_db / 20.0))
            limited = limiter(driven, self.rate, **desk.limiter)
            box = np.ones(33)
            products = np.convolve((driven * limited).sum(0).astype(np.float64), box, "same")
            energies = np.convolve(np.square(driven).sum(0).astype(np.float64), box, "same")
            gain = gain * np.where(energies > 1e-12, products / np.maximum(energies, 1e-12), 1.0)
        return (self.target / np.maximum(gain, LEAST_GAIN)).astype(np.float32)

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

    def left(self) -> float:
        """What the desk does not explain, of the mix's energy."""
        mix = self.mastered(self.summed(self.compressed()))
        return self.energy(self.wanted - self.white(mix)) / max(self.energy(self.wanted), 1e-30)

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
        _Descent(self).run(STEPS if steps is None else steps, loss, progress)

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


class _Descent:
    """The desk's numbers as parameters: how far each has gone from where it started, in its own scale."""

    def __init__(self, dynamics: Dynamics):
        self.of = dynamics
        desk, settings = dynamics.desk, dynamics.desk.settings
        stereo = any(len(stem) == 2 for stem in dynamics.stems)
        stems = [np.broadcast_to(stem, (2, dynamics.n)) if stereo else stem for stem in dynamics.stems]
        self.x = torch.from_numpy(np.stack(stems))
        self.active = [i for i, compressor in enumerate(desk.compressors) if compressor is not None]
        self.wanted = torch.from_numpy(dynamics.wanted)
        self.counted = torch.from_numpy(dynamics.counted)
        self.colour = torch.from_numpy(dynamics.colour[::-1].copy()).float()
        self.room_level = torch.from_numpy(local_level(settings.room.numpy(), dynamics.rate)).float()
        self.eq_db = torch.zeros(settings.eq.shape[1]) if desk.eq_db is None else torch.from_numpy(desk.eq_db).float()
        self.theta = {
            "sides": torch.zeros(settings.sides.shape),
            "eq": torch.zeros(settings.eq.shape),
            "send": torch.zeros(settings.send.shape),
            "room": torch.zeros(settings.room.shape),
            "compressors": torch.zeros(len(COMPRESSOR), len(self.active)),
            "master_eq": torch.zeros(settings.eq.shape[1]),
            "master": torch.zeros(len(COMPRESSOR)),
            "drive": torch.zeros(()),
            "limiter": torch.zeros(len(LIMITER)),
        }

    def controls(self) -> dict[str, Any]:
        """Everything by name, as tensors; compressor and limiter as their twins take them."""
        desk, theta = self.of.desk, self.theta
        settings = desk.settings
        band = EFFECTS["graphic_eq"].controls[0]
        found: dict[str, Any] = {
            "sides": settings.sides.float() * torch.exp(theta["sides"]),
            "eq": (settings.eq.float() + 10.0 * theta["eq"]).clamp(band.low, band.high),
            "send": settings.send.float() * torch.exp(theta["send"]),
            "room": settings.room.float() + self.room_level * theta["room"],
            "master_eq": (self.eq_db + 10.0 * theta["master_eq"]).clamp(band.low, band.high),
            "drive_db": desk.drive_db + 10.0 * theta["drive"],
        }
        if self.active:
            start = [[desk.compressors[i][name] for i in self.active] for name in COMPRESSOR]
            found["compressors"] = _gone("compressor", COMPRESSOR, start, theta["compressors"])
        if desk.master is not None:
            start = [[desk.master[name]] for name in COMPRESSOR]
            found["master"] = _gone("compressor", COMPRESSOR, start, theta["master"][:, None])
        if desk.limiter is not None:
            start = [[desk.limiter[name]] for name in LIMITER]
            found["limiter"] = _gone("limiter", LIMITER, start, theta["limiter"][:, None])
        return found

    def render(self) -> Tensor:
        """The mix, (2, n)."""
        of, found = self.of, self.controls()
        bands = [f"band{hz}_gain_db" for hz in of.bands]
        y = TWINS["graphic_eq"](self.x, of.rate, **dict(zip(bands, found["eq"].unbind(1), strict=True)))
        if self.active:
            strips = list(y.unbind(0))
            squeezed = TWINS["compressor"](y[self.active], of.rate, **found["compressors"])
            for place, strip in zip(self.active, squeezed, strict=True):
                strips[place] = strip
            y = torch.stack(strips)
        if of.faders is not None:
            y = y * torch.from_numpy(of.faders)[:, None]
        both = y.expand(-1, 2, -1)
        x = torch.einsum("ci,icn->cn", found["sides"], both)
        if found["room"].shape[1]:
            sent = torch.einsum("ci,icn->cn", found["sides"] * found["send"], both)
            x = x + convolved(sent[None], found["room"][None])[0]
        x = x + torch.from_numpy(of.rest)
        x = TWINS["graphic_eq"](x[None], of.rate, **dict(zip(bands, found["master_eq"][:, None], strict=True)))
        if "master" in found:
            x = TWINS["compressor"](x, of.rate, **found["master"])
        x = x * 10.0 ** (found["drive_db"] / 20.0)
        if "limiter" in found:
            x = TWINS["limiter"](x, of.rate, **found["limiter"])
        return x[0]

    def distance(self, loss: Callable[[Tensor], Tensor] | None) -> Tensor:
        y = self.render()
        if loss is not None:
            return loss(y[:, self.of.lead :] * self.counted[self.of.lead :])
        white = conv1d(pad(y[:, None], (len(self.colour) - 1, 0)), self.colour[None, None])[:, 0] * self.counted
        return (white - self.wanted).square().sum() / self.wanted.square().sum().clamp(min=1e-30)

    def run(self, steps: int, loss: Callable[[Tensor], Tensor] | None, progress: Progress) -> None:
        adam = torch.optim.Adam([theta.requires_grad_() for theta in self.theta.values()], lr=SPEED)
        best, kept = math.inf, dict(self.theta)
        try:
            for step in range(steps + 1):
                value = self.distance(loss)
                if float(value.detach()) < best:
                    best = float(value.detach())
                    kept = {name: theta.detach().clone() for name, theta in self.theta.items()}
                if step == steps:
                    break
                for group in adam.param_groups:
                    group["lr"] = SPEED * min(1.0, 0.1 ** (2.0 * step / steps - 1.0))
                adam.zero_grad(set_to_none=True)
                value.backward()
                adam.step()
                progress(step / steps)
        finally:
            self.theta = {name: theta.detach() for name, theta in kept.items()}
            self.write()

    def write(self) -> None:
        """What was found, back on the desk."""
        found, desk = self.controls(), self.of.desk
        linear = (found[name].double() for name in ("sides", "eq", "send", "room"))
        sides, eq, send, room = linear
        desk.settings = Settings(sides, eq, desk.settings.delay, send, room)
        desk.drive_db = float(found["drive_db"])
        desk.eq_db = found["master_eq"].double().numpy()
        for place, i in enumerate(self.active):
            desk.compressors[i] = {name: float(found["compressors"][name][place]) for name in COMPRESSOR}
        if desk.master is not None:
            desk.master = {name: float(value) for name, value in found["master"].items()}
        if desk.limiter is not None:
            desk.limiter = {name: float(value) for name, value in found["limiter"].items()}


def _gone(effect: str, names: Sequence[str], start: Sequence[Sequence[float]], theta: Tensor) -> dict[str, Tensor]:
    """Controls (items) that have gone `theta` (names, items) from where they started, kept in their ranges."""
    values = {}
    for name, begin, step in zip(names, start, theta.double(), strict=True):
        control = EFFECTS[effect][name]
        begin = torch.tensor(begin, dtype=torch.float64)
        value = begin * torch.exp(2.0 * step) if control.log else begin + 10.0 * step
        values[name] = value.clamp(control.low, control.high)
    return values


def _delayed(x: np.ndarray, samples: float) -> np.ndarray:
    """A signal moved as the console moves it, as long as before."""
    first, taps = interpolation(samples)
    n = x.shape[1]
    y = oaconvolve(x, taps[None], axes=1)
    y = np.pad(y, ((0, 0), (max(first, 0), 0)))[:, max(-first, 0) :]
    return np.ascontiguousarray(y[:, :n], np.float32)


def _true_peak(x: np.ndarray) -> float:
    return highest_peaks(np.pad(x, ((0, 0), (TAPS - 1, 0))), 0.0, 0.0)[1]


def _range(effect: str, name: str) -> tuple[float, float]:
    control = EFFECTS[effect][name]
    return control.low, control.high


Cost = Callable[[Mapping[str, float]], float]


def _least(grid: list[dict[str, float]], cost: Cost) -> dict[str, float]:
    """The first of the cheapest."""
    costs = [0.0] * len(grid)

    def work(k: int) -> None:
        costs[k] = cost(grid[k])

    side_by_side(work, len(grid))
    return grid[int(np.argmin(costs))]


def _refined(
    start: dict[str, float], cost: Cost, ranges: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, float], float]:
    """Pattern search: each number in turn up and down while that helps, by steps that halve from round to round."""
    best, least = dict(start), cost(start)
    for halving in range(HALVINGS):
        for name, (low, high) in ranges.items():
            span = SPANS[name]
            step = abs(span) ** (0.5**halving) if span < 0 else span * 0.5**halving
            for sign in (1, -1):
                while True:
                    value = best[name] * step**sign if span < 0 else best[name] + sign * step
                    tried = best | {name: min(max(value, low), high)}
                    found = cost(tried) if tried != best else math.inf
                    if found >= least:
                        break
                    best, least = tried, found
    return best, least
