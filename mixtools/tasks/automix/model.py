"""A trained model as a mixer: it listens to stems, and gives a mix that a person can edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mixtools.controls import EFFECTS
from mixtools.errors import ParameterError
from mixtools.mix import Insert, Mix, Track
from mixtools.nets.dmc import MixingConsole, Spec, patches_of
from mixtools.nets.restoring import refuse_misfit
from mixtools.tasks.automix.levels import levels_of
from mixtools.tasks.excerpts import Range, choose_excerpts
from mixtools.tasks.recordings import Recording

if TYPE_CHECKING:
    from torch import Tensor

MOST_S, PIECE_S = 40.0, 8.0
"""What of a song is listened to."""

DIGITS = 6


class Model:
    """A mixing console with weights."""

    def __init__(self, net: MixingConsole, about: Mapping[str, Any] | None = None) -> None:
        self.net = net.eval()
        self.about = dict(about or {})

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], about: Any, where: str) -> Model:
        """The model of a checkpoint: its tensors, and what its record says it is about (`files.read_checkpoint`).

        Neither is trusted: a `ParameterError` names the first thing that does not fit.
        """
        if not isinstance(about, dict) or "network" not in about:
            raise ParameterError(f"{where}: about.network is missing; give a mixing model")
        spec = Spec.of(about["network"], f"{where}: about.network")
        rate = (about.get("data") or {}).get("rate") if isinstance(about.get("data"), dict) else None
        if not isinstance(rate, int) or isinstance(rate, bool) or not 8000 <= rate <= 192_000:
            raise ParameterError(f"{where}: about.data.rate is {rate}; give a mixing model, whose rate is in Hz")
        with torch.device("meta"):
            net = MixingConsole(spec, rate)
        refuse_misfit(net.state_dict(), tensors, where, "give a mixing model")
        net.load_state_dict(dict(tensors), assign=True)
        return cls(net, about)

    def mix(
        self,
        stems: Mapping[str, Recording],
        rate: int,
        ranges: Sequence[Range] | None = None,
        progress: Callable[[float], None] = lambda share: None,
        even: bool = True,
    ) -> Mix:
        """A mix of stems at a rate, without loudness on its master; the same whatever order they come in.

        `ranges` are what is listened to; unless given, they are where every stem is loud. With `even`, sides are
        exchanged so that both are about as loud: the loss hears how far from the centre a stem is, and not on which
        side, so that a model may have put all stems on one.
        """
        stems = dict(sorted(stems.items()))
        names = list(stems)
        if not names:
            raise ParameterError("there are no stems; give at least one")
        heard = list(ranges) if ranges is not None else choose_excerpts(stems, None, rate, MOST_S, PIECE_S)
        levels = levels_of(stems, rate, heard)
        gains_db = dict.fromkeys(names, 0.0) if self.net.spec.levels == "raw" else levels.lift_db
        embeddings = []
        for done, name in enumerate(names, 1):
            embeddings.append(self._embedding(stems[name], rate, heard, gains_db[name]))
            progress(done / len(names))
        with torch.inference_mode():
            present = torch.ones(1, len(names), dtype=torch.bool)
            against = torch.tensor([[levels.against_db[name] for name in names]])
            units = self.net.controller.decide(torch.stack(embeddings)[None], present, against)[0]
        numbers = units.double().numpy()
        if even:
            before_db = np.array([gains_db[name] - levels.lift_db[name] for name in names])
            numbers = self._evened(numbers, before_db)
        tracks = [self._track(name, gains_db[name], each) for name, each in zip(names, numbers, strict=True)]
        return Mix(tracks, sample_rate=rate).check()

    def _embedding(self, stem: Recording, rate: int, ranges: Sequence[Range], gain_db: float) -> Tensor:
        gain = np.float32(10.0 ** (gain_db / 20.0))
        pieces = [patches_of(stem.read(first, last - first) * gain, rate) for first, last in ranges]
        patches = torch.cat(pieces) if pieces else patches_of(np.zeros((1, 1), np.float32), rate)
        with torch.inference_mode():
            return self.net.controller.embed(patches[None])[0]

    def _evened(self, units: np.ndarray, before_db: np.ndarray) -> np.ndarray:
        """Controls (stems, controls) with pans mirrored, the heaviest first, each to the side that has less by then."""
        units = units.copy()
        pan = self.net.strip.labels().index("pan.pan")
        faders_db = before_db + [
            sum(insert.controls["gain_db"] for insert in self.net.settings(each).chain if insert.effect == "gain")
            for each in units
        ]
        weights = 10.0 ** (faders_db / 10.0) * np.abs(units[:, pan] - 0.5)
        balance = 0.0
        for k in np.argsort(-weights, kind="stable"):
            side = np.sign(units[k, pan] - 0.5)
            if side * balance > 0.0:
                units[k, pan] = 1.0 - units[k, pan]
                side = -side
            balance += side * weights[k]
        return units

    def _track(self, name: str, level: float, units: np.ndarray) -> Track:
        """A strip as a person would write it down; the gain that levels the stem is part of its first gain."""
        chain = []
        for insert in self.net.settings(units).chain:
            given = {key: _written(value) for key, value in insert.controls.items()}
            if insert.effect == "gain" and not any(other.effect == "gain" for other in chain):
                control = EFFECTS["gain"]["gain_db"]
                given["gain_db"] = _written(min(max(given["gain_db"] + level, control.low), control.high))
            chain.append(Insert(insert.effect, given))
        return Track(name, chain=chain)


def _written(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
