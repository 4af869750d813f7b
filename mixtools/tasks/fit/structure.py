"""Reading a console's settings off the filters that were solved for, and bringing them home by Gauss-Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor
from torch.fft import irfft, rfft

from mixtools.tasks.fit.filters import Solver
from mixtools.tasks.fit.strips import NEPER, Settings, Strips, Tangent

DEEPEST_DB = -40.0
"""Of a band relative to the loudest, when it is read off."""

GAIN = 1.1
"""Two steps in a row that make the residual's energy smaller by less than this factor are the last."""

TINY = 1e-30
"""What keeps silence from being divided by."""

FAR = 1e-4
"""Of the mix's energy: a residual from which on steps are solved for finely."""

ROUGH, FINE = 1e-2, 1e-3
"""What a step's conjugate gradients bring their residual's square down to."""

STANDSTILL = 1.05
"""One by less than this is."""

NOTHING = 1e-8
"""Of the mix's energy: a residual that is worth no further step."""

EARLY = 64
"""Taps of the shared response that the dry path could nearly be made of."""

EVERY = 4
"""Of the frequencies, one in so many is looked at for the dense part of the preconditioner."""

SMOOTH = 1e-8
"""How strongly a band is drawn to its neighbours, relative to what the stem says of all bands together: what the stem
has no energy in follows them, and so does the gauge."""

LIKELY_DB = 6.0
"""How far neighbouring bands are expected to differ."""

ALIKE = 10.0
"""Samples of a residual that say the same thing: what is not explained is music, not noise."""


def read_off(strips: Strips, solver: Solver, filters: Tensor, rounds: int = 6) -> Settings:
    """Settings that come near to filters (2, stems, taps), every frequency weighted by the stem's energy there."""
    filters = filters.double()
    weights = torch.stack([solver.power(side) for side in range(2)]).double()
    heard, peaks = filters.abs().amax(0).max(-1)
    peaks = torch.where(heard > 0.0, peaks, strips.lead)
    delay = peaks.double() - strips.lead
    away = (torch.arange(strips.taps) - peaks[:, None]).abs() / strips.eq_half
    turns = strips.turns(delay)
    direct = rfft(filters * (1.5 - away).clamp(0.0, 1.0), strips.points) * turns.conj()
    sides, eq = _bands_of(strips, direct.real, weights)
    settings = Settings(sides, eq, delay, torch.full_like(delay, 0.1), torch.zeros(2, strips.reverb).double())
    if not strips.reverb:
        return strips.in_gauge(settings)
    spectra = rfft(filters, strips.points)
    for _ in range(rounds):
        dry = settings.sides[..., None] * strips.curves(settings.eq) * turns
        rest = spectra - dry
        sent = settings.send[:, None] * dry
        heard = (weights * sent.abs() ** 2).sum(1)
        room = irfft((weights * sent.conj() * rest).sum(1) / (heard + 1e-3 * heard.mean() + TINY), strips.points)
        room = room[:, : strips.reverb]
        room[:, 0] = 0.0
        wet = dry * rfft(room, strips.points)[:, None]
        send = (weights * (wet.conj() * rest).real).sum((0, 2)) / (weights * wet.abs() ** 2).sum((0, 2)).clamp(
            min=1e-30
        )
        settings = strips.in_gauge(replace(settings, room=room, send=send.clamp(min=1e-4)))
        # What is left once the reverb is taken out says more of the dry path.
        wetness = 1.0 + settings.send[:, None] * rfft(settings.room, strips.points)[:, None]
        plain = spectra * wetness.conj() / (wetness.abs() ** 2 + 1e-2) * turns.conj()
        sides, eq = _bands_of(strips, plain.real, weights)
        settings = strips.in_gauge(replace(settings, sides=sides, eq=eq))
    return settings


def _bands_of(strips: Strips, curves: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sides (2, stems) and gains (stems, bands) whose products come nearest to real curves (2, stems, frequencies)."""
    grams = torch.einsum("bf,cif,df->cibd", strips.bands, weights, strips.bands)
    own = grams.diagonal(dim1=-2, dim2=-1)
    grams = grams + torch.diag_embed(1e-4 * own + 1e-9 * own.sum(-1, keepdim=True) + 1e-30)
    rights = torch.einsum("cif,bf->cib", curves * weights, strips.bands)
    sides = torch.linalg.solve(grams, rights).sum(-1)
    for _ in range(20):
        total = (sides[..., None, None] ** 2 * grams).sum(0) + TINY * torch.eye(len(strips.bands))
        amplitudes = torch.linalg.solve(total, (sides[..., None] * rights).sum(0))
        along = torch.einsum("ib,cibd,id->ci", amplitudes, grams, amplitudes).clamp(min=1e-30)
        sides = (rights * amplitudes).sum(-1) / along
    sign = torch.sign((amplitudes * total.diagonal(dim1=-2, dim2=-1)).sum(-1))
    amplitudes, sides = amplitudes * sign[:, None], sides * sign
    highest = amplitudes.amax(-1, keepdim=True).clamp(min=1e-30)
    return sides, torch.log(amplitudes.clamp(min=highest * 10 ** (DEEPEST_DB / 20))) / NEPER


class GaussNewton:
    """Least squares of the mix over settings: each step solves the linearised problem by conjugate gradients."""

    def __init__(self, strips: Strips, solver: Solver, counted: Tensor | None = None, hold: Collection[str] = ()):
        self.strips, self.solver, self.data = strips, solver, solver.data
        self.hold = tuple(hold)
        self.counted = self.data.counted if counted is None else counted
        self.energy = max(float((self.data.target * self.counted).double().square().sum()), 1e-30)

    def loss(self, settings: Settings) -> float:
        """The residual's energy relative to the mix's."""
        left = self.data.residual(self.strips.filters(settings), self.counted)
        return float(left.double().square().sum()) / self.energy

    def run(
        self,
        settings: Settings,
        steps: int,
        inner: int,
        progress: Callable[[float], None] = lambda share: None,
        keep: Callable[[Settings], None] = lambda settings: None,
        nothing: float = NOTHING,
        standstill: float = STANDSTILL,
    ) -> Settings:
        """Step until nothing is left or little gained, at most so many times; `keep` hears of every better place."""
        keep(settings)
        damping = 1e-3
        best, small = self.loss(settings), 0
        for step in range(steps if best > NOTHING else 0):
            progress(step / steps)
            move = self._step(settings, damping, inner, best)
            share = 1.0
            for _ in range(3):
                tried = _legal(settings.plus(move, share))
                loss = self.loss(tried)
                if loss < best:
                    break
                share *= 0.3
            if loss >= best:
                damping *= 10
                if damping > 10:
                    break
                continue
            improved, best = best / loss, loss
            small = small + 1 if improved < GAIN else 0
            settings = self.strips.in_gauge(tried)
            keep(settings)
            damping = max(damping * (0.1 if share == 1.0 else 2.0), 1e-6)
            if small == 2 or improved < standstill or best < nothing:
                break
        progress(1.0)
        return settings

    def _free(self, move: Settings) -> Settings:
        """A change without that of the settings that are held."""
        return replace(move, **{name: torch.zeros_like(getattr(move, name)) for name in self.hold})

    def _step(self, settings: Settings, damping: float, inner: int, loss: float) -> Settings:
        tangent = Tangent(self.strips, settings)
        points = self.strips.points
        noise = loss * self.energy / float(self.counted.sum())
        scaled = _Scaled(self.strips, self.solver, tangent, damping, noise)
        left = self.data.correlated(self.data.residual(self.strips.filters(settings), self.counted))
        rest = tangent.adjoint(rfft(left, points)).plus(scaled.drawn(settings), -1.0)
        move = Settings(*(torch.zeros_like(getattr(rest, name)) for name in ("sides", "eq", "delay", "send", "room")))
        through = direction = self._free(scaled.inverse(self._free(rest)))
        product = first = rest.dot(through)
        for _ in range(inner):
            image = self.data.filtered(self.strips.cut(tangent.forward(direction))) * self.counted
            turned = tangent.adjoint(rfft(self.data.correlated(image), points))
            turned = turned.plus(scaled.damped(direction)).plus(scaled.drawn(direction))
            length = product / max(direction.dot(turned), 1e-300)
            move = move.plus(direction, length)
            rest = rest.plus(turned, -length)
            through = self._free(scaled.inverse(self._free(rest)))
            new = rest.dot(through)
            if new <= (ROUGH if loss > FAR else FINE) * first:
                break
            direction = through.plus(direction, new / product)
            product = new
        return move


def _legal(settings: Settings) -> Settings:
    return replace(settings, eq=settings.eq.clamp(-90.0, 60.0), send=settings.send.clamp(min=0.0))


class _Scaled:
    """The preconditioner of a Gauss-Newton step.

    The strips' own numbers and the first taps of the shared response, which can take each other's place, are solved
    for together and densely, from the stems' cross-spectra; the later taps frequency by frequency.
    """

    def __init__(self, strips: Strips, solver: Solver, tangent: Tangent, damping: float, noise: float):
        self.strips = strips
        settings = tangent.settings
        self.stems, self.bands = settings.eq.shape
        size = self.bands + 4
        numbers = self.stems * size
        self.early = min(EARLY, strips.reverb)
        fisher = torch.zeros(numbers + 2 * self.early, numbers + 2 * self.early, dtype=torch.float64)
        few = slice(None, None, EVERY)
        radians = torch.arange(0, strips.points // 2 + 1, EVERY) * (2 * torch.pi / strips.points)
        lags = torch.exp(-1j * radians[:, None] * torch.arange(self.early)).to(torch.complex64)
        heard = []
        for c in range(2):
            matrices = solver.matrices(c)
            wet = tangent.wet[c] if strips.reverb else torch.ones(1)
            slopes = torch.zeros(self.stems, size, len(radians), dtype=torch.complex64)
            slopes[:, c] = (tangent.unit * wet)[:, few]
            common = (tangent.sides[c] * tangent.turns * wet)[:, few]
            slopes[:, 2:-2] = common[:, None] * tangent.slope.float()[..., None] * tangent.bands[:, few]
            slopes[:, -2] = (tangent.sides[c] * tangent.later * wet)[:, few]
            if strips.reverb:
                slopes[:, -1] = (tangent.sides[c] * tangent.unit * tangent.rooms[c])[:, few]
            own = fisher[:numbers, :numbers].view(self.stems, size, self.stems, size)
            for i in range(self.stems):
                for j in range(i, self.stems):
                    block = ((slopes[i].conj() * matrices[few, i, j]) @ slopes[j].T).real.double()
                    own[i, :, j, :] += block
                    if i != j:
                        own[j, :, i, :] += block.T
            if strips.reverb:
                sent = tangent.sides[c] * tangent.unit * settings.send.float()[:, None]
                images = torch.einsum("fij,jf->if", matrices, sent)
                heard.append((sent.conj() * images).sum(0).real.double())
                place = slice(numbers + c * self.early, numbers + (c + 1) * self.early)
                fisher[place, place] = ((lags.conj() * heard[c].float()[few, None]).T @ lags).real.double()
                across = ((slopes.conj() * images[:, None, few]) @ lags).real.double().reshape(numbers, self.early)
                fisher[:numbers, place], fisher[place, :numbers] = across, across.T
        fisher *= 2.0 * EVERY / strips.points
        own = fisher.diagonal()[:numbers].clone()
        steps = torch.diff(torch.eye(self.bands, dtype=torch.float64), dim=0)
        total = own.view(self.stems, size)[:, 2:-2].sum(1)
        self.smooth = (SMOOTH * total + ALIKE * noise / LIKELY_DB**2)[:, None, None] * (steps.T @ steps)
        for i in range(self.stems):
            place = slice(i * size + 2, i * size + 2 + self.bands)
            fisher[place, place] += self.smooth[i]
        self.weight = damping * own + 1e-12 * own.max() + TINY
        diagonal = fisher.diagonal()
        diagonal[:numbers] += self.weight
        self.numbers = numbers
        if strips.reverb:
            self.heard = torch.stack(heard)
            self.room_weight = damping * float(self.heard.mean())
            self.plain = noise / max(float(settings.room.square().mean()), TINY)
            diagonal[numbers:] += self.room_weight + self.plain
            self.heard = self.heard + 0.1 * self.heard.mean() + self.room_weight + self.plain
            # No response begins with its first sample: that one is the dry path's.
            for first in (numbers, numbers + self.early):
                fisher[first], fisher[:, first], fisher[first, first] = 0.0, 0.0, 1.0
        diagonal += 1e-9 * diagonal
        self.factor = torch.linalg.cholesky(fisher)

    def _packed(self, s: Settings) -> Tensor:
        return torch.cat([s.sides.T, s.eq, s.delay[:, None], s.send[:, None]], dim=1).reshape(-1)

    def _settings(self, packed: Tensor, room: Tensor) -> Settings:
        rows = packed.reshape(self.stems, -1)
        return Settings(rows[:, :2].T, rows[:, 2:-2], rows[:, -2], rows[:, -1], room)

    def inverse(self, s: Settings) -> Settings:
        early = s.room[:, : self.early].clone()
        early[:, :1] = 0.0
        packed = torch.cholesky_solve(torch.cat([self._packed(s), early.reshape(-1)])[:, None], self.factor)[:, 0]
        room = s.room
        if self.strips.reverb:
            late = room.clone()
            late[:, : self.early] = 0.0
            room = irfft(rfft(late, self.strips.points) / self.heard, self.strips.points)[:, : self.strips.reverb]
            room = room.clone()
            room[:, : self.early] = packed[self.numbers :].reshape(2, -1)
        return self._settings(packed[: self.numbers], room)

    def damped(self, s: Settings) -> Settings:
        """What the damping adds to the normal equations."""
        return self._settings(
            self._packed(s) * self.weight, s.room * self.room_weight if self.strips.reverb else s.room
        )

    def drawn(self, s: Settings) -> Settings:
        """What drawing bands to their neighbours, and the response to silence, adds to the normal equations."""
        sides, delay, send = (torch.zeros_like(x) for x in (s.sides, s.delay, s.send))
        eq = torch.einsum("ibd,id->ib", self.smooth, s.eq)
        return Settings(sides, eq, delay, send, self.plain * s.room if self.strips.reverb else s.room)
