"""How near a model comes: tables 6 and 9 of the thesis, for any model and any audio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixtools.dsp.noise import generator
from mixtools.errors import AudioError
from mixtools.measure.distance import SILENCE_POWER, esr, mae, mcd, mr_stft
from mixtools.tasks.emulate.console import TASKS, Channel
from mixtools.tasks.emulate.model import Model

PER_TASK = 64
"""Settings that every task of table 6 is measured at."""

TOGETHER = 4
"""Sounds that go through a network at once."""

METRICS = "mae", "esr", "mcd", "mr_stft"


@dataclass(frozen=True)
class Figures:
    """Means over examples, and the standard deviations between them, by metric."""

    mean: dict[str, float]
    deviation: dict[str, float]
    count: int

    @classmethod
    def of(cls, found: Sequence[Mapping[str, float]]) -> Figures:
        columns = {name: np.array([one[name] for one in found]) for name in METRICS}
        means = {name: float(values.mean()) for name, values in columns.items()}
        return cls(means, {name: float(values.std()) for name, values in columns.items()}, len(found))


def compared(found: np.ndarray, wanted: np.ndarray, rate: int) -> dict[str, float]:
    """The thesis's metrics of one example (channels, n), all channels together; 25 coefficients for MCD."""
    values = {
        "mae": mae(found, wanted),
        "esr": esr(found, wanted),
        "mcd": mcd(found, wanted, rate),
        "mr_stft": mr_stft(found, wanted),
    }
    return {name: float(value) for name, value in values.items()}


def table_6(
    model: Model,
    sound: Callable[[int], np.ndarray],
    per_task: int = PER_TASK,
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Figures]:
    """How near a model of the console comes in each task, at seeded random settings.

    sound: audio that was not learned from, by number, (n,) at the model's rate. The figures of one sound do not depend
    on how many there are.
    """
    about = model.about["console"]
    channel = Channel(model.rate, about["shuffle"])
    wanted = [task for task in tasks if about.get("only") in (None, task)]
    found: dict[str, Figures] = {}
    for place, task in enumerate(wanted):
        values: list[dict[str, float]] = []
        for first in range(0, per_task, TOGETHER):
            numbers = range(first, min(first + TOGETHER, per_task))
            units = np.concatenate([channel.draw(generator(seed, f"{task} {k}"), [task]) for k in numbers])
            sounds = np.stack([sound(k) for k in numbers])
            targets = channel.process(sounds, units)
            made = model.whole(sounds, units)
            values += [compared(*pair, model.rate) for pair in zip(made, targets, strict=True) if _is_heard(pair[1])]
            progress((place + numbers.stop / per_task) / len(wanted))
        found[task] = Figures.of(values)
    return found


def plain(figures: Mapping[str, Figures]) -> dict[str, dict[str, float]]:
    """Means by task and metric, as JSON has them."""
    return {task: dict(one.mean) for task, one in figures.items()}


def _is_heard(x: np.ndarray) -> bool:
    """Silence has no error-to-signal ratio."""
    return float(np.mean(np.square(x, dtype=np.float64))) >= SILENCE_POWER


@dataclass(frozen=True)
class Measured:
    """A piece of a device's recordings: what went in (before + n,), what came out (n,), and units (controls,).

    What went in begins `before` samples earlier: a device remembers.
    """

    inputs: np.ndarray
    targets: np.ndarray
    units: np.ndarray
    before: int = 0


def table_9(
    made: Callable[[np.ndarray, np.ndarray], np.ndarray], pieces: Iterable[Measured], rate: int
) -> tuple[Figures, float]:
    """Means and deviations over a device's pieces, and the ESR of all of them pooled.

    made: what to measure makes of an input (n,) at units (controls,), (n,): a model, or one of the baselines.
    """
    values = []
    error = energy = 0.0
    for piece in pieces:
        found = made(piece.inputs, piece.units)[piece.before :]
        if _is_heard(piece.targets):
            values.append(compared(found[None], piece.targets[None], rate))
        error += float(np.sum(np.square(found - piece.targets, dtype=np.float64)))
        energy += float(np.sum(np.square(piece.targets, dtype=np.float64)))
    return Figures.of(values), error / max(energy, SILENCE_POWER)


AHEAD = 64
"""Taps of the static fit that lie before the direct sound: recordings are lined up to a sample only."""


RIDGES = 1e-9, 1e-4, 1e-2
"""Shares of the input's power that hold a static fit back where nothing was played."""


def best_fir(pieces: Iterable[Measured], held_out: Sequence[Measured] = (), taps: int = 4096) -> np.ndarray:
    """The static linear fit (taps,) of least squares over all pieces together: what a model must be better than.

    What went in before a piece is heard, so that the fit is exact however short the pieces are (see `through`). The
    ridge is the one that does best on `held_out`, the smallest where there are none.
    """
    from scipy.linalg import solve
    from scipy.signal import fftconvolve

    first_row, cross = np.zeros(taps), np.zeros(taps)
    begins, ends = [], []
    for piece in pieces:
        n = len(piece.targets) - AHEAD
        if n <= 0:
            continue
        history = np.concatenate([np.zeros(taps), np.asarray(piece.inputs, np.float64)])
        # x[taps - 1 + i] is what the direct tap of the fit meets at target i, behind it all that the others meet.
        x = history[piece.before + 1 + AHEAD : piece.before + taps + AHEAD + n]
        now, y = x[taps - 1 :], np.asarray(piece.targets[:n], np.float64)
        first_row += fftconvolve(x, now[::-1])[n - 1 : n - 1 + taps][::-1]
        cross += fftconvolve(x, y[::-1])[n - 1 : n - 1 + taps][::-1]
        begins.append(np.append(x[: taps - 1][::-1], 0.0))
        ends.append(x[n - 1 : n - 1 + taps][::-1])
    if not begins:
        raise AudioError("no recording is long enough for a static fit; give longer ones")
    before, last = np.array(begins), np.array(ends)
    moved = before.T @ before - last.T @ last
    power = np.empty((taps, taps))
    power[0] = first_row
    for k in range(taps - 1):
        power[k + 1, 1:] = power[k, :-1] + moved[k, :-1]
        power[k + 1, 0] = first_row[k + 1]
    power = np.triu(power) + np.triu(power, 1).T
    fits = []
    for ridge in RIDGES if held_out else RIDGES[:1]:
        held = power + np.eye(taps) * (ridge * first_row[0] + 1e-12)
        fits.append(solve(held, cross, assume_a="pos", overwrite_a=True))

    def error(fit: np.ndarray) -> float:
        differences = (through(fit, one.inputs)[one.before :] - one.targets for one in held_out)
        return sum(float(np.sum(np.square(x, dtype=np.float64))) for x in differences)

    return min(fits, key=error)


def through(response: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A sound (n,) through the fit that `best_fir` makes."""
    from scipy.signal import fftconvolve

    return fftconvolve(x, response)[AHEAD : AHEAD + len(x)].astype(np.float32)
