"""A trained controller as an engine: it listens to stems and records, and answers with a mix that a person can edit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mixtools.controls import EFFECTS
from mixtools.errors import ParameterError
from mixtools.mix import Bus, Insert, Master, Mix, Track
from mixtools.nets.foresight import Controls, Foreseen, Heard, Record, blended, foresee, hear_record, hear_stems
from mixtools.nets.restoring import refuse_misfit
from mixtools.nets.transfer import Spec, TransferController
from mixtools.presets import Strip
from mixtools.tasks.automix.levels import levels_of
from mixtools.tasks.excerpts import Range, choose_excerpts
from mixtools.tasks.recordings import Recording

if TYPE_CHECKING:
    from torch import Tensor

MOST_S, PIECE_S = 40.0, 8.0
"""What of stems and of a record is listened to."""

DIGITS = 6


class Controller:
    """A transfer model with weights."""

    def __init__(self, net: TransferController, about: Mapping[str, Any] | None = None) -> None:
        self.net = net.eval()
        self.about = dict(about or {})

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], about: Any, where: str) -> Controller:
        """The controller of a checkpoint: its tensors, and what its record says it is about.

        Neither is trusted: a `ParameterError` names the first thing that does not fit.
        """
        if not isinstance(about, dict) or "network" not in about:
            raise ParameterError(f"{where}: about.network is missing; give a transfer model")
        spec = Spec.of(about["network"], f"{where}: about.network")
        rate = (about.get("data") or {}).get("rate") if isinstance(about.get("data"), dict) else None
        if not isinstance(rate, int) or isinstance(rate, bool) or not 8000 <= rate <= 192_000:
            raise ParameterError(f"{where}: about.data.rate is {rate}; give a transfer model, whose rate is in Hz")
        with torch.device("meta"):
            wanted = TransferController(spec, rate).state_dict()
        refuse_misfit(wanted, tensors, where, "give a transfer model")
        net = TransferController(spec, rate)
        net.load_state_dict(dict(tensors))
        return cls(net, about)

    def mix(
        self,
        stems: Mapping[str, Recording],
        references: Sequence[Recording],
        rate: int,
        weights: Sequence[float] | None = None,
        ranges: Sequence[Range] | None = None,
        reference_ranges: Sequence[Sequence[Range]] | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> Mix:
        """A mix of stems like records, all at a rate; the same whatever order the stems come in.

        `weights` are of the references, alike unless given. `ranges` are what of the stems is listened to, and
        `reference_ranges` what of each reference; unless given, where stems or records are loud. Loudness is not
        settled: the master ends with the console's own dynamics.
        """
        names = sorted(stems)
        if not names:
            raise ParameterError("there are no stems; give at least one")
        ordered = {name: stems[name] for name in names}
        heard_ranges = list(ranges) if ranges is not None else choose_excerpts(ordered, None, rate, MOST_S, PIECE_S)
        levels = levels_of(ordered, rate, heard_ranges)
        heard = self.hear(ordered, levels.lift_db, levels.against_db, rate, heard_ranges)
        progress(0.5)
        record = self.listen(references, rate, weights, reference_ranges)
        progress(0.9)
        with torch.inference_mode():
            controls = self.net(heard, record)[-1]
        progress(1.0)
        return self.written(names, levels.lift_db, controls, rate)

    def hear(
        self,
        stems: Mapping[str, Recording],
        lift_db: Mapping[str, float],
        told_db: Mapping[str, float],
        rate: int,
        ranges: Sequence[Range],
    ) -> Heard:
        """What the network hears of stems, after they are lifted to one loudness, one range after the other."""
        audio = []
        for name, stem in stems.items():
            gain = np.float32(10.0 ** (lift_db[name] / 20.0))
            audio.append(self._read(stem, rate, ranges) * gain)
        return hear_stems(audio, [told_db[name] for name in stems], self.net.rate)

    def listen(
        self,
        references: Sequence[Recording],
        rate: int,
        weights: Sequence[float] | None = None,
        ranges: Sequence[Sequence[Range]] | None = None,
    ) -> Record:
        """What the network hears of references, as one."""
        if not references:
            raise ParameterError("there are no references; give at least one")
        weights = [1.0] * len(references) if weights is None else list(weights)
        if len(weights) != len(references):
            raise ParameterError(
                f"there are {len(weights)} weights and {len(references)} references; give one for each"
            )
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in weights) or not sum(weights):
            raise ParameterError("the weights are not usable; give numbers from 0, and one above 0")
        records = []
        for number, reference in enumerate(references):
            chosen = ranges[number] if ranges is not None else None
            if chosen is None:
                chosen = choose_excerpts({"": reference}, reference, rate, MOST_S, PIECE_S)
            audio = self._read(reference, rate, chosen)
            if not np.any(audio):
                raise ParameterError(f"reference {number + 1} is silent; give one that can be heard")
            records.append(hear_record(audio, self.net.rate))
        return blended(records, weights)

    def foreseen(self, heard: Heard, controls: Controls) -> Foreseen:
        """What the network expects of its mix."""
        with torch.inference_mode():
            return foresee(heard, self.net.console, controls, self.net.rate)

    def _read(self, recording: Recording, rate: int, ranges: Sequence[Range]) -> np.ndarray:
        """Ranges one after the other, (channels, n) at the model's rate."""
        pieces = [recording.read(first, last - first) for first, last in ranges]
        audio = np.concatenate(pieces, axis=1) if pieces else np.zeros((recording.channels, 1), np.float32)
        if rate != self.net.rate:
            import soxr

            audio = np.ascontiguousarray(soxr.resample(audio.T, rate, self.net.rate, "HQ").T)
        return audio

    def written(self, names: Sequence[str], lift_db: Mapping[str, float], controls: Controls, rate: int) -> Mix:
        """Controls of one song as a mix, as a person would write it down; gains that level stems are part of faders."""
        console = self.net.console
        tracks = []
        for name, units in zip(names, controls.tracks[0].double().numpy(), strict=True):
            settings = console.track.from_vector(units, self.net.rate)
            chain = [_written(insert) for insert in settings.chain]
            fader = EFFECTS["gain"]["gain_db"]
            lifted = chain[0].controls["gain_db"] + lift_db[name]
            chain[0].controls["gain_db"] = round(min(max(lifted, fader.low), fader.high), DIGITS)
            sends = {bus: float(f"{level_db:.{DIGITS}g}") for bus, level_db in settings.sends.items()}
            tracks.append(Track(name, chain=chain, sends=sends))
        buses = {bus: Bus(chain=_plain(strip, self.net.rate)) for bus, strip in console.buses.items()}
        master = console.master.from_vector(controls.master[0].double().numpy(), self.net.rate)
        return Mix(tracks, buses, Master([_written(insert) for insert in master.chain]), rate).check()


def _plain(strip: Strip, rate: float) -> list[Insert]:
    """A strip in which nothing varies."""
    return [_written(insert) for insert in strip.from_vector(np.zeros(len(strip.labels())), rate).chain]


def _written(insert: Insert) -> Insert:
    given = {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in insert.controls.items()
    }
    return Insert(insert.effect, given)
