"""The console's channel as something to imitate: settings at random, and what it makes of many short sounds, fast."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft

from mixtools.controls import EQ_BANDS, ROOMS
from mixtools.dsp.biquads import cascade, in_lanes
from mixtools.dsp.compiled import kernel
from mixtools.dsp.compressor import HARD_KNEE, KNEE, MAKEUP, compress, detector, stretches
from mixtools.dsp.convolution import kept_window
from mixtools.dsp.lanes import LANES
from mixtools.dsp.parametric_eq import biquad
from mixtools.dsp.rooms import room_response
from mixtools.errors import ParameterError, nearest
from mixtools.presets import PRESETS, Settings, Slot, Strip

PROCESSORS = {"equaliser": "parametric_eq", "compressor": "compressor", "reverb": "convolution"}
"""What the thesis calls the three, and the effects that they are."""

TASKS = (*PROCESSORS, "combined")

INERT = {
    "parametric_eq": lambda name: 0.0 if name.endswith("gain_db") else None,
    "compressor": {"ratio": 1.0, "makeup_db": 0.0}.get,
    "convolution": {"wet": 0.0, "dry": 1.0}.get,
}
"""Which controls stand where, so that an effect does nothing; the others may stand anywhere."""

PART = 4096
"""Samples in a partition of a response: transforms of twice as many stay in the processor's cache."""

PRESET = "dmc"


def channel() -> Strip:
    """The three processors of the papers' channel, which may trade places."""
    return Strip(shuffled=PRESETS[PRESET].track.shuffled, log=False)


@dataclass(frozen=True)
class Drawn:
    """Settings of many channels: values of every control by effect and name, (count,) each, and places in an order.

    `orders` (count,) are numbers of `Strip.orders`; of a choice, the values are numbers of options.
    """

    values: dict[str, dict[str, np.ndarray]]
    orders: np.ndarray


class Channel:
    """The console's EQ, compressor and reverb at one rate, set by vectors of units (as `Strip.to_vector` has them)."""

    def __init__(self, rate: int, shuffle: bool = False) -> None:
        self.strip, self.rate, self.shuffle = channel(), rate, shuffle
        self.labels = self.strip.labels(shuffle)

    def draw(self, rng: np.random.Generator, tasks: list[str]) -> np.ndarray:
        """Units (count, controls), every control drawn uniformly; a task other than `combined` has one effect work."""
        for task in tasks:
            if task not in TASKS:
                raise ParameterError(f"the task is {task}; give {nearest(task, TASKS)}")
        count = len(tasks)
        columns: list[np.ndarray] = []
        for slot in self.strip.slots:
            idle = np.array([task != "combined" and PROCESSORS[task] != slot.effect for task in tasks])
            for control in slot.varied:
                if control.kind == "number":
                    low, high = slot.span(control.name, self.rate)
                    values = low + rng.random(count) * (high - low)
                    rest = INERT[slot.effect](control.name)
                    values = values if rest is None else np.where(idle, rest, values)
                    columns.append(_to_units(values, low, high, control.log))
                else:
                    options = len(slot.choices[control.name])
                    columns += list(np.eye(options)[rng.integers(options, size=count)].T)
        if self.shuffle:
            orders = len(self.strip.orders)
            columns += list(np.eye(orders)[rng.integers(orders, size=count)].T)
        return np.stack(columns, axis=1)

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Columns of controls that belong together by name: an effect's, and of an equaliser a band's."""
        found: dict[tuple[str, str], list[int]] = {}
        for column, label in enumerate(self.labels):
            effect, _, name = label.partition(".")
            if name:
                band = next((band for band in EQ_BANDS if name.startswith(f"{band}_")), "")
                found.setdefault((effect, band), []).append(column)
        return tuple(map(tuple, found.values()))

    def settings(self, units: np.ndarray) -> Settings:
        """One channel's settings (controls,) as the console takes them."""
        return self.strip.from_vector(units, self.rate, self.shuffle)

    def drawn(self, units: np.ndarray) -> Drawn:
        """Every control's value, from units (count, controls)."""
        columns = iter(np.asarray(units, np.float64).T)
        values: dict[str, dict[str, np.ndarray]] = {}
        for slot in self.strip.slots:
            own = values[slot.effect] = {}
            for control in slot.varied:
                if control.kind == "number":
                    low, high = slot.span(control.name, self.rate)
                    own[control.name] = _from_units(next(columns), low, high, control.log)
                else:
                    options = [next(columns) for _ in slot.choices[control.name]]
                    own[control.name] = np.argmax(options, axis=0)
            own |= {name: np.full(len(units), value) for name, value in slot.held.items()}
        orders = np.argmax(list(columns), axis=0) if self.shuffle else np.zeros(len(units), int)
        return Drawn(values, orders)

    def process(self, x: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Sounds (count, n), each through a channel of its own: (count, 2, n) float32, as the console renders them."""
        drawn = self.drawn(units)
        equalisers, compressors = self._equalisers(drawn), self._compressors(drawn)
        reverb = drawn.values["convolution"]
        y = np.empty((len(x), 2, x.shape[1]), np.float32)
        for i, sound in enumerate(np.asarray(x, np.float32)):
            now = np.ascontiguousarray(sound[None])
            for place in self.strip.orders[drawn.orders[i]]:
                effect = self.strip.shuffled[place].effect
                if effect == "parametric_eq":
                    now = _equalised(now, equalisers[i])
                elif effect == "compressor":
                    now = _compressed(now, compressors[i : i + 1])
                else:
                    room, decay, wet, dry = (reverb[name][i] for name in ("ir", "decay", "wet", "dry"))
                    now = _reverberated(now, int(room), self.rate, float(decay), np.float32(wet), np.float32(dry))
            y[i] = now
        return y

    def _equalisers(self, drawn: Drawn) -> np.ndarray:
        """Coefficients (count, 5, lanes) as the cascade takes them."""
        eq = drawn.values["parametric_eq"]
        bands = [name.removesuffix("_gain_db") for name in eq if name.endswith("_gain_db")]
        sections = [biquad(b, eq[f"{b}_gain_db"], eq[f"{b}_freq_hz"], eq[f"{b}_q"], self.rate) for b in bands]
        return np.stack([in_lanes(one) for one in np.stack(sections, axis=1)])

    def _compressors(self, drawn: Drawn) -> np.ndarray:
        values = drawn.values["compressor"]
        values = {"knee_db": np.zeros(len(drawn.orders)), **values}
        coefficients = detector(values, self.rate)
        coefficients[:, KNEE] = HARD_KNEE
        return coefficients


def discrete(strip: Strip) -> list[tuple[int, int]]:
    """Where in the control vector one of several stands: first column and number of columns of each choice."""
    found, at = [], 0
    for slot in strip.slots:
        for control in slot.varied:
            width = len(slot.choices.get(control.name, " "))
            if width > 1:
                found.append((at, width))
            at += width
    return found


def named_slots(strip: Strip) -> dict[str, Slot]:
    """The strip's slots by what the thesis calls them."""
    effects = {slot.effect: slot for slot in strip.slots}
    return {name: effects[effect] for name, effect in PROCESSORS.items()}


def _to_units(values: np.ndarray, low: float, high: float, log: bool) -> np.ndarray:
    return np.log(values / low) / np.log(high / low) if log else (values - low) / (high - low)


def _from_units(units: np.ndarray, low: float, high: float, log: bool) -> np.ndarray:
    units = np.clip(units, 0.0, 1.0)
    return np.clip(low * (high / low) ** units if log else low + units * (high - low), low, high)


_DELAYS = np.stack([2.0 * np.arange(LANES)[::-1], np.zeros(LANES)])


def _equalised(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    for source, target in zip(x, y, strict=True):
        cascade(source, target, coefficients, _DELAYS, np.zeros((2, LANES)), 0)
    return y


def _compressed(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    makeup = coefficients[:, MAKEUP].copy()
    compress(x, x, y, coefficients, 0, makeup, np.zeros(1), np.empty(stretches(x.shape[1])))
    return y


def _reverberated(x: np.ndarray, room: int, rate: int, decay: float, wet: np.float32, dry: np.float32) -> np.ndarray:
    """A mono or stereo sound from its beginning on; what comes after its end is left out."""
    n = x.shape[1]
    if wet == 0.0:
        return np.broadcast_to(x * dry, (2, n))
    count = -(-n // PART)
    work = _work(count, len(x))
    work.samples[:, PART : PART + n] = x
    work.samples[:, PART + n :] = 0.0
    windows = np.lib.stride_tricks.sliding_window_view(work.samples, 2 * PART, axis=1)[:, ::PART]
    _parted(scipy.fft.rfft(windows), work.heard)
    _accumulate(work.spectra, work.heard, *_partitions(room, rate, decay, count), wet)
    y = scipy.fft.irfft(work.spectra, overwrite_x=True)[..., PART:].reshape(2, -1)[:, :n]
    for side in range(2):
        y[side] += x[min(side, len(x) - 1)] * dry
    return y


class _Work(NamedTuple):
    """Memory that is used again and again: fresh pages cost as much as the arithmetic."""

    samples: np.ndarray
    heard: np.ndarray
    spectra: np.ndarray


_memory = threading.local()


def _work(count: int, channels: int) -> _Work:
    """For so many partitions, in this thread."""
    found = getattr(_memory, "work", None)
    if found is None or found.spectra.shape[1] != count or len(found.samples) != channels:
        bins = PART + 1
        found = _memory.work = _Work(
            np.zeros((channels, (count + 1) * PART), np.float32),
            np.empty((2, channels, count, bins), np.float32),
            np.empty((2, count, bins), np.complex64),
        )
    return found


def _partitions(room: int, rate: int, decay: float, most: int) -> tuple[np.ndarray, int, np.ndarray]:
    """A room's response shortened by decay: spectra of all of it, how many of them stay whole, and those that fade.

    Spectra are (real and imaginary, 2, partitions, bins).
    """
    response, spectra = _room(room, rate)
    window = kept_window(response.shape[1], decay)
    fading = int(np.searchsorted(window[::-1], 1.0))
    whole = min((len(window) - fading) // PART, most)
    last = min(-(-len(window) // PART), most)
    blocks = np.zeros((2, last - whole, 2 * PART), np.float32)
    for k in range(whole, last):
        piece = slice(k * PART, min((k + 1) * PART, len(window)))
        blocks[:, k - whole, : piece.stop - piece.start] = response[:, piece] * window[piece]
    return spectra, whole, _planar(blocks)


@lru_cache(maxsize=32)
def _room(room: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A room's response (2, taps), and the spectra (real and imaginary, 2, partitions, bins) of all of it."""
    response = room_response(ROOMS[room], rate).astype(np.float32)
    count = -(-response.shape[1] // PART)
    blocks = np.zeros((2, count, 2 * PART), np.float32)
    for k in range(count):
        piece = response[:, k * PART : (k + 1) * PART]
        blocks[:, k, : piece.shape[1]] = piece
    return response, _planar(blocks)


def _planar(blocks: np.ndarray) -> np.ndarray:
    """Spectra of blocks (2, count, n), real and imaginary parts apart."""
    spectra = scipy.fft.rfft(blocks) if blocks.size else np.zeros((*blocks.shape[:2], PART + 1), np.complex64)
    return np.stack([spectra.real, spectra.imag])


@kernel
def _parted(spectra, parts):
    """Real and imaginary parts beside each other: so the products run in vector registers."""
    channels, count, bins = spectra.shape
    for c in range(channels):
        for k in range(count):
            for b in range(bins):
                parts[0, c, k, b] = spectra[c, k, b].real
                parts[1, c, k, b] = spectra[c, k, b].imag


@kernel
def _accumulate(spectra, heard, responses, whole, fading, gain):
    """spectra[side, j] = gain times the sum over k of heard[:, side or 0, j - k] times partition k.

    The first `whole` partitions are those of `responses`, the others `fading`.
    """
    sides, count, bins = spectra.shape
    partitions = whole + fading.shape[2]
    real = np.empty(bins, np.float32)
    imaginary = np.empty(bins, np.float32)
    for side in range(sides):
        source = min(side, heard.shape[1] - 1)
        for j in range(count):
            real[:] = 0.0
            imaginary[:] = 0.0
            for k in range(min(j + 1, partitions)):
                a, b = heard[0, source, j - k], heard[1, source, j - k]
                if k < whole:
                    c, d = responses[0, side, k], responses[1, side, k]
                else:
                    c, d = fading[0, side, k - whole], fading[1, side, k - whole]
                for i in range(bins):
                    real[i] += a[i] * c[i] - b[i] * d[i]
                    imaginary[i] += a[i] * d[i] + b[i] * c[i]
            for i in range(bins):
                spectra[side, j, i] = complex(gain * real[i], gain * imaginary[i])
