"""The papers' consoles as data: which effects in which order, over which ranges.

`colonel` is Colonel & Reiss 2021, `dmc` Steinmetz et al. 2021 (ranges of pymixconsole), `diffmst` the ISMIR 2024
paper. Random sampling and the normalised control vector that networks read and write live here too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mixtools.controls import EFFECTS, ROOMS, SEND, SILENCE_DB, Control
from mixtools.errors import ParameterError
from mixtools.mix import Insert

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class BelowNyquist:
    """A limit that follows the sample rate: this many Hz below half of it."""

    hz: float

    def at(self, rate: float) -> float:
        return rate / 2 - self.hz


@dataclass(frozen=True)
class Slot:
    """One effect of a preset: the controls that vary with their ranges, and those held at a value."""

    effect: str
    ranges: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)

    @property
    def varied(self) -> list[Control]:
        """The controls that vary, in declared order."""
        wanted = self.ranges.keys() | self.choices.keys() | self.probabilities.keys()
        return [control for control in EFFECTS[self.effect].controls if control.name in wanted]

    def span(self, name: str, rate: float) -> tuple[float, float]:
        """A control's range at a sample rate; never inverted, never outside the effect's own range."""
        control = EFFECTS[self.effect][name]
        low, high = (limit.at(rate) if isinstance(limit, BelowNyquist) else limit for limit in self.ranges[name])
        high = min(max(high, control.low), control.high)
        return min(max(low, control.low), high), high


@dataclass(frozen=True)
class Strip:
    """A chain of slots, of which the `shuffled` ones may trade places, and sends with their ranges in dB.

    `log` says how the paper draws logarithmic controls: in their own scale, or uniformly.
    """

    before: tuple[Slot, ...] = ()
    shuffled: tuple[Slot, ...] = ()
    after: tuple[Slot, ...] = ()
    sends: dict[str, tuple[float, float]] = field(default_factory=dict)
    log: bool = True

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (*self.before, *self.shuffled, *self.after)

    @property
    def orders(self) -> list[tuple[int, ...]]:
        """Every order of the shuffled slots; the first is the declared one."""
        return list(itertools.permutations(range(len(self.shuffled))))

    def chain(self, inserts: list[Insert], order: int = 0) -> list[Insert]:
        """Put inserts that stand in declared order into one of the `orders`."""
        start, count = len(self.before), len(self.shuffled)
        body = [inserts[start + k] for k in self.orders[order]]
        return [*inserts[:start], *body, *inserts[start + count :]]

    def sample(
        self, seed: int | np.random.Generator, rate: float, shuffle: bool = False, log: bool | None = None
    ) -> Settings:
        """Draw every varied control at random; `log` draws logarithmic ones in their own scale."""
        import numpy as np

        log = self.log if log is None else log
        rng = np.random.default_rng(seed)
        inserts = []
        for slot in self.slots:
            drawn = dict(slot.held)
            for control in slot.varied:
                if control.kind == "number":
                    low, high = slot.span(control.name, rate)
                    unit = float(rng.random())
                    drawn[control.name] = (
                        control.from_unit(unit, low, high) if log else min(low + unit * (high - low), high)
                    )
                elif control.kind == "switch":
                    drawn[control.name] = bool(rng.random() < slot.probabilities[control.name])
                else:
                    choices = slot.choices[control.name]
                    drawn[control.name] = choices[int(rng.integers(len(choices)))]
            inserts.append(Insert(slot.effect, drawn))
        sends = {bus: float(rng.uniform(low, high)) for bus, (low, high) in self.sends.items()}
        order = int(rng.integers(len(self.orders))) if shuffle else 0
        return Settings(self.chain(inserts, order), sends, order)

    def labels(self, shuffle: bool = False) -> list[str]:
        """What each element of the control vector is; repeated effects are numbered."""
        names = []
        seen: dict[str, int] = {}
        for slot in self.slots:
            seen[slot.effect] = seen.get(slot.effect, 0) + 1
            label = slot.effect if seen[slot.effect] == 1 else f"{slot.effect}{seen[slot.effect]}"
            for control in slot.varied:
                options = slot.choices.get(control.name)
                names += [f"{label}.{control.name}={o}" for o in options] if options else [f"{label}.{control.name}"]
        names += [f"send.{bus}" for bus in self.sends]
        return names + [f"order={order}" for order in self.orders] if shuffle else names

    def to_vector(self, settings: Settings, rate: float, shuffle: bool = False) -> np.ndarray:
        """The normalised control vector, float64 in 0…1: numbers in their own scale, switches 0 or 1, choices and the
        order one-hot."""
        import numpy as np

        vector: list[float] = []
        for slot, insert in zip(self.slots, self.declared(settings), strict=True):
            for control in slot.varied:
                value = insert.settings[control.name]
                if control.kind == "number":
                    vector.append(control.to_unit(value, *slot.span(control.name, rate)))
                elif control.kind == "switch":
                    vector.append(float(value))
                else:
                    vector += [float(value == option) for option in slot.choices[control.name]]
        vector += [SEND.to_unit(settings.sends[bus], *span) for bus, span in self.sends.items()]
        if shuffle:
            vector += [float(k == settings.order) for k in range(len(self.orders))]
        return np.array(vector)

    def from_vector(self, vector: np.ndarray, rate: float, shuffle: bool = False) -> Settings:
        """The inverse of `to_vector`; values outside 0…1 are clipped, the largest of a one-hot group wins."""
        import numpy as np

        vector = np.asarray(vector, dtype=np.float64)
        expected = len(self.labels(shuffle))
        if vector.shape != (expected,):
            raise ParameterError(f"the control vector has shape {vector.shape}; give ({expected},)")
        if not np.isfinite(vector).all():
            raise ParameterError("the control vector holds NaN or infinity; give numbers from 0 to 1")
        units = iter(np.clip(vector, 0.0, 1.0))
        inserts = []
        for slot in self.slots:
            controls = dict(slot.held)
            for control in slot.varied:
                if control.kind == "number":
                    controls[control.name] = control.from_unit(float(next(units)), *slot.span(control.name, rate))
                elif control.kind == "switch":
                    controls[control.name] = bool(next(units) >= 0.5)
                else:
                    options = slot.choices[control.name]
                    controls[control.name] = options[int(np.argmax([next(units) for _ in options]))]
            inserts.append(Insert(slot.effect, controls))
        sends = {bus: SEND.from_unit(float(next(units)), *span) for bus, span in self.sends.items()}
        order = int(np.argmax(list(units))) if shuffle else 0
        return Settings(self.chain(inserts, order), sends, order)

    def declared(self, settings: Settings) -> list[Insert]:
        """The inserts of some settings, back in declared order."""
        start, count = len(self.before), len(self.shuffled)
        inserts = list(settings.chain)
        for place, k in enumerate(self.orders[settings.order]):
            inserts[start + k] = settings.chain[start + place]
        assert len(inserts) == start + count + len(self.after)
        return inserts


@dataclass
class Settings:
    """One drawing of a strip: its chain, its sends, and which of the strip's orders it stands in."""

    chain: list[Insert]
    sends: dict[str, float] = field(default_factory=dict)
    order: int = 0


@dataclass(frozen=True)
class Preset:
    """A paper's console: a strip for every track, one for the master, and one for each bus that tracks send to."""

    name: str
    help: str
    track: Strip
    master: Strip = field(default_factory=Strip)
    buses: dict[str, Strip] = field(default_factory=dict)


def _eq(gain_db: float, q: tuple[float, float], frequencies: dict[str, tuple[Any, Any]], shelf_q: bool) -> Slot:
    ranges: dict[str, tuple[Any, Any]] = {}
    held = {}
    for band, span in frequencies.items():
        ranges[f"{band}_gain_db"] = (-gain_db, gain_db)
        ranges[f"{band}_freq_hz"] = span
        if shelf_q or "shelf" not in band:
            ranges[f"{band}_q"] = q
        else:
            held[f"{band}_q"] = 0.707
    return Slot("parametric_eq", ranges, held)


def _colonel_strip(after: tuple[Slot, ...], sends: dict[str, tuple[float, float]]) -> Strip:
    return Strip(
        (
            Slot("graphic_eq", {c.name: (-60.0, 0.0) for c in EFFECTS["graphic_eq"].controls}),
            # The paper's gain is an unbounded signed amplitude, drawn near 1: the range is ours.
            Slot("gain", {"gain_db": (-24.0, 12.0)}, probabilities={"invert": 0.2}),
            Slot("pan", {"pan": (0.0, 1.0)}, {"law": "linear"}),
            *after,
        ),
        sends=sends,
    )


_COLONEL = Preset(
    "colonel",
    "Colonel & Reiss 2021, stereo bus: graphic EQ, signed gain, linear pan, a send to one shared stereo convolution.",
    _colonel_strip((), {"reverb": (SILENCE_DB, 0.0)}),
    buses={"reverb": Strip((Slot("convolution", choices={"ir": ROOMS}),))},
)

_COLONEL_INDIVIDUAL = Preset(
    "colonel_individual",
    "Colonel & Reiss 2021, individual buses: the same strip with two convolutions per track, one for each side.",
    _colonel_strip((Slot("convolution", held={"wet": 1.0, "dry": 1.0}, choices={"ir": ROOMS}),), {}),
)

_DMC = Preset(
    "dmc",
    "Steinmetz et al. 2021: gain, polarity, EQ, compressor and reverb in fixed or shuffled order, fader, pan.",
    Strip(
        (Slot("gain", {"gain_db": (-24.0, 24.0)}, probabilities={"invert": 0.2}),),
        (
            _eq(
                24.0,
                (0.1, 10.0),
                {
                    "low_shelf": (20.0, 1000.0),
                    "band1": (200.0, 5000.0),
                    "band2": (500.0, 6000.0),
                    "band3": (2000.0, 10000.0),
                    "high_shelf": (8000.0, 20000.0),
                },
                shelf_q=False,
            ),
            Slot(
                "compressor",
                {
                    "threshold_db": (-60.0, 0.0),
                    "ratio": (1.0, 10.0),
                    "attack_ms": (0.03, 30.0),
                    "release_ms": (50.0, 3000.0),
                    "makeup_db": (-12.0, 12.0),
                },
            ),
            Slot(
                "convolution",
                {"decay": (0.1, 1.0), "wet": (0.0, 1.0), "dry": (0.0, 1.0)},
                choices={"ir": ROOMS},
            ),
        ),
        (Slot("gain", {"gain_db": (-24.0, 24.0)}), Slot("pan", {"pan": (0.0, 1.0)})),
        log=False,
    ),
)


def _diffmst_strip(last: tuple[Slot, ...], sends: dict[str, tuple[float, float]]) -> Strip:
    return Strip(
        (
            Slot("gain", {"gain_db": (-48.0, 48.0)}),
            _eq(
                12.0,
                (0.1, 5.0),
                {
                    "low_shelf": (20.0, 2000.0),
                    "band1": (80.0, 2000.0),
                    "band2": (2000.0, 8000.0),
                    "band3": (8000.0, 12000.0),
                    "band4": (12000.0, BelowNyquist(1000.0)),
                    "high_shelf": (6000.0, BelowNyquist(1000.0)),
                },
                shelf_q=True,
            ),
            Slot(
                "compressor",
                {
                    "threshold_db": (-60.0, 0.0),
                    "ratio": (1.0, 10.0),
                    "attack_ms": (5.0, 250.0),
                    "release_ms": (10.0, 250.0),
                    "knee_db": (3.0, 12.0),
                    "makeup_db": (0.0, 6.0),
                },
            ),
            *last,
        ),
        sends=sends,
    )


_DIFFMST = Preset(
    "diffmst",
    "Diff-MST 2024: gain, six-band EQ, compressor, pan and a reverb send; EQ, compressor and faders on the master.",
    _diffmst_strip((Slot("pan", {"pan": (0.0, 1.0)}, {"law": "compromise"}),), {"reverb": (-80.0, 12.0)}),
    _diffmst_strip((Slot("gain", {"gain_db": (-48.0, 48.0)}),), {}),
    {"reverb": Strip((Slot("reverb"),))},
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (_COLONEL, _COLONEL_INDIVIDUAL, _DMC, _DIFFMST)}
"""The papers' consoles by name."""
