"""The last descent of a desk: everything that it has, together, through the differentiable console."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from mixtools.controls import EFFECTS
from mixtools.diff import TWINS
from mixtools.diff.fft import convolved
from mixtools.tasks.fit.descent import local_level
from mixtools.tasks.fit.desk import COMPRESSOR, LIMITER, Playback
from mixtools.tasks.fit.estimate import Progress
from mixtools.tasks.fit.strips import Settings

SPEED = 0.01
"""Adam's, in units of each control's own scale; it falls to a tenth over the last half."""


class DeskDescent:
    """The desk's numbers as parameters: how far each has gone from where it started, in its own scale."""

    def __init__(self, playback: Playback):
        self.of = playback
        desk, settings = playback.desk, playback.desk.settings
        stereo = any(len(stem) == 2 for stem in playback.stems)
        stems = [np.broadcast_to(stem, (2, playback.n)) if stereo else stem for stem in playback.stems]
        self.x = torch.from_numpy(np.stack(stems))
        self.active = [i for i, compressor in enumerate(desk.compressors) if compressor is not None]
        self.wanted = torch.from_numpy(playback.wanted)
        self.counted = torch.from_numpy(playback.counted)
        self.colour = torch.from_numpy(playback.colour[::-1].copy()).float()
        self.room_level = torch.from_numpy(local_level(settings.room.numpy(), playback.rate)).float()
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
