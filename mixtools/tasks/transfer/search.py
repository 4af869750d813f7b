"""Finding controls whose sketch is like the goal, near where they start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import minimize

from mixtools.measure.audio_features import AF_TERMS, GUARD, AudioFeatures
from mixtools.tasks.transfer import places
from mixtools.tasks.transfer.desk import LOWEST_SEND_DB, Controls
from mixtools.tasks.transfer.goal import Goal
from mixtools.tasks.transfer.sketch import Sketch

EMPHASIS = {"rms": 1.0, "crest": 3.0, "bark": 1.0, "width": 4.0, "imbalance": 40.0}
"""What the terms count here against the loss: small ones shall not be forgotten for the spectrum."""

PRIOR = 1e-5
"""What a change of one spread costs, beside the loss."""

SPREADS = {
    "faders_db": 4.0,
    "pans": 0.15,
    "eq_db": 4.0,
    "eq_octaves": 0.3,
    "sends_db": 4.0,
    "master_eq_db": 2.0,
    "master_eq_octaves": 0.3,
}
"""By how much controls are usually moved; a master equaliser that works harder than the tracks' makes a master."""

REACH = {
    "faders_db": 12.0,
    "pans": 1.0,
    "eq_db": 10.0,
    "eq_octaves": 1.0,
    "sends_db": 18.0,
    "master_eq_db": 8.0,
    "master_eq_octaves": 1.0,
}
"""The furthest that they are moved."""

MOST_EQ_DB = 12.0
HIGHEST_SEND_DB, HIGHEST_NEW_SEND_DB = -3.0, -6.0
CENTRED_SPREAD = 0.04
"""Of the pans of `places.CENTRED`."""

DRY = "kick", "bass"
DRY_SPREAD = 0.5

SOFT_DROP_DB, SOFT_RISE_DB = 6.0, 5.0
DROP = 2e-3
"""From so far under or over its balance at the start on, a stem that goes further costs this much per square of
3 dB."""

WORSE = 20.0
"""What a term costs that is further from the goal than the equal-loudness mix has it, for so much as it is."""

PARTS, TYPICAL = 0.1, 0.6
"""What the spectra of every few seconds, and the spectrum at most times, count beside the mean over all: what plays
once shall not make up for what is missing everywhere else."""

CREST_ROOM_DB = 7.0
"""What the master's compressor and limiter can take off a crest factor by themselves."""

ITERATIONS = 150

NAMES = tuple(SPREADS)


class Search:
    """Over the numbers of a sketch's desk, all in spreads from the start.

    `ease` is what keeps near the start and looks at more than the mean spectrum, against the loss itself.
    """

    def __init__(self, sketch: Sketch, goal: Goal, roles: Mapping[str, str], limits: Mapping[str, float]):
        """`limits` are terms of the loss that shall not be exceeded."""
        self.sketch, self.goal, self.limits = sketch, goal, limits
        self.start = sketch.start
        self.shapes = {name: getattr(self.start, name).shape for name in NAMES}
        files = [track.file for track in sketch.desk.tracks]
        self.spreads = {name: np.full(self.shapes[name], spread) for name, spread in SPREADS.items()}
        self.reach = {name: np.full(self.shapes[name], reach) for name, reach in REACH.items()}
        for k, file in enumerate(files):
            if roles.get(file) in places.CENTRED:
                self.spreads["pans"][k], self.reach["pans"][k] = CENTRED_SPREAD, places.REACH
            if roles.get(file) in DRY:
                self.spreads["sends_db"][k] *= DRY_SPREAD
        self.low, self.high = self._bounds()
        self.balance = torch.log(sketch.shares(*sketch.weights(self.moving(np.zeros(len(self.low))))[:2]) + 1e-20)
        with torch.no_grad():
            self.loudness = sketch.features(self.moving(np.zeros(len(self.low))))[0]["loudness"]
        self.ease = 1.0
        self.offsets: dict[str, torch.Tensor] = {}
        self.target = self._target()

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = {}, {}
        for name in NAMES:
            start = getattr(self.start, name)
            low[name], high[name] = start - self.reach[name], start + self.reach[name]
        low["pans"], high["pans"] = np.clip(low["pans"], 0.0, 1.0), np.clip(high["pans"], 0.0, 1.0)
        low["eq_db"] = np.maximum(low["eq_db"], np.minimum(-MOST_EQ_DB, self.start.eq_db))
        high["eq_db"] = np.minimum(high["eq_db"], np.maximum(MOST_EQ_DB, self.start.eq_db))
        low["sends_db"] = np.maximum(low["sends_db"], LOWEST_SEND_DB)
        fresh = self.start.sends_db <= LOWEST_SEND_DB
        most = np.minimum(high["sends_db"], np.maximum(HIGHEST_SEND_DB, self.start.sends_db))
        high["sends_db"] = np.where(fresh, HIGHEST_NEW_SEND_DB, most)
        for k in range(len(self.start.pans)):
            if self.sketch.desk.insert(k, "pan") is None:
                low["pans"][k] = high["pans"][k] = self.start.pans[k]
        still = ~self.sketch.desk.sendable()
        low["sends_db"][still] = high["sends_db"][still] = self.start.sends_db[still]
        return tuple(
            np.concatenate([((side[n] - getattr(self.start, n)) / self.spreads[n]).ravel() for n in NAMES])
            for side in (low, high)
        )

    def moving(self, x) -> Controls:
        """Controls as tensors, from a vector of spreads."""
        x = torch.as_tensor(x, dtype=torch.float64)
        found, at = {}, 0
        for name in NAMES:
            size = int(np.prod(self.shapes[name]))
            part = x[at : at + size].reshape(self.shapes[name])
            found[name] = torch.from_numpy(getattr(self.start, name)) + part * torch.from_numpy(self.spreads[name])
            at += size
        return Controls(**found)

    def controls(self, x: np.ndarray) -> Controls:
        """Numbers for the desk; one gain for all faders that may be moved makes the mix as loud as it began."""
        moved = self.moving(x)
        with torch.no_grad():
            louder = self.sketch.features(moved)[0]["loudness"] - self.loudness if self.sketch.fixed is None else 0.0
        found = {name: getattr(moved, name).numpy() for name in NAMES}
        return Controls(**found | {"faders_db": found["faders_db"] - float(louder)})

    def _target(self) -> dict[str, torch.Tensor]:
        wanted = self.goal.features
        floor = GUARD * wanted.bark.max()
        return {
            "rms": torch.from_numpy(np.asarray(wanted.rms)),
            "crest": torch.from_numpy(np.asarray(wanted.crest_db)),
            "bark": torch.from_numpy(np.log(np.maximum(wanted.bark, floor))),
            "floor": torch.tensor(np.log(floor)),
            "width": torch.tensor(float(wanted.width)),
            "imbalance": torch.tensor(float(wanted.imbalance)),
            "typical": torch.from_numpy(self.goal.typical),
        }

    def correct(self, x: np.ndarray, heard: AudioFeatures, crest_db: np.ndarray, typical: np.ndarray) -> None:
        """Put the sketch right by what was heard of these controls; the crest factor before the master's dynamics."""
        with torch.no_grad():
            found, _ = self.sketch.features(self.moving(x))
        truth = {
            "rms": np.log(np.maximum(heard.rms, 1e-12)),
            "crest": crest_db,
            "bark": np.log(np.maximum(heard.bark, 1e-12)),
            "width": np.log(max(float(heard.width), 1e-12)),
            "imbalance": heard.imbalance,
            "typical": typical,
        }
        self.offsets = {name: torch.as_tensor(value).double() - found[name] for name, value in truth.items()}

    def cost(self, x: torch.Tensor) -> torch.Tensor:
        found, shares = self.sketch.features(self.moving(x))
        found = {name: value + self.offsets.get(name, 0.0) for name, value in found.items()}
        target = self.target
        over = found["crest"] - target["crest"]
        squares = {
            "rms": ((torch.exp(found["rms"]) - target["rms"]) ** 2).mean(),
            "crest": (torch.relu(over - CREST_ROOM_DB) ** 2 + torch.relu(-over) ** 2).mean(),
            "bark": ((torch.maximum(found["bark"], target["floor"]) - target["bark"]) ** 2).mean(),
            "width": (torch.exp(found["width"]) - target["width"]) ** 2,
            "imbalance": (found["imbalance"] - target["imbalance"]) ** 2,
        }
        terms = {name: term.weight * squares[name] for name, term in AF_TERMS.items()}
        loss = sum(EMPHASIS[name] * term for name, term in terms.items())
        # The crest factor is the master's dynamics', which are not sketched.
        worse = sum(torch.relu(terms[name] - self.limits[name]) for name in terms if name != "crest")
        return loss + WORSE * worse + self.apart(found) + self.prior(x, shares)

    def apart(self, found: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How far the spectra of every few seconds, and that at most times, are from the goal's."""
        parts = found["parts"] + self.offsets.get("bark", 0.0)
        squares = ((torch.maximum(parts, self.target["floor"]) - self.target["bark"]) ** 2).mean(dim=(-2, -1))
        loss = PARTS * (found["heard"].detach() * squares).sum()
        loss = loss + TYPICAL * ((found["typical"] - self.target["typical"]) ** 2).mean()
        return self.ease * AF_TERMS["bark"].weight * loss

    def prior(self, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """What it costs to be elsewhere than at the start, and to lose a stem."""
        change = 10.0 / np.log(10.0) * (torch.log(shares + 1e-20) - self.balance)
        change = change - change.median()
        beyond = (torch.relu(-SOFT_DROP_DB - change) + torch.relu(change - SOFT_RISE_DB)) / 3.0
        return self.ease * PRIOR * (x**2).sum() + DROP * (beyond**2).sum()

    def true_cost(self, x: np.ndarray, loss: Mapping[str, float], typical: np.ndarray) -> float:
        """What is made small, of controls that were heard."""
        here = torch.from_numpy(x)
        terms = sum(EMPHASIS[name] * loss.get(name, np.inf) for name in AF_TERMS)
        terms += WORSE * sum(max(loss.get(name, np.inf) - self.limits[name], 0.0) for name in AF_TERMS)
        with torch.no_grad():
            found, shares = self.sketch.features(self.moving(here))
            found["typical"] = torch.as_tensor(typical)
            return float(terms + self.apart(found) + self.prior(here, shares))

    def improved(self, x: np.ndarray, radius: float = np.inf) -> np.ndarray:
        """The best controls by the sketch, from some on, no further than a radius in spreads from them."""
        low, high = np.maximum(self.low, x - radius), np.minimum(self.high, x + radius)

        def both(point: np.ndarray) -> tuple[float, np.ndarray]:
            here = torch.from_numpy(point.copy()).requires_grad_()
            value = self.cost(here)
            value.backward()
            return float(value.detach()), here.grad.numpy()

        found = minimize(
            both,
            np.clip(x, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": ITERATIONS, "maxcor": 20},
        )
        return found.x
