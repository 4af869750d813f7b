"""What every reference effect is: a stateful processor, and a pure function made from it."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from mixtools.controls import EFFECTS, Curve, plain_number
from mixtools.dsp.compiled import GRID, kernel
from mixtools.errors import ParameterError, nearest


class Processor(ABC):
    """One effect on one strip: audio goes in block by block, in blocks of any size, and the bits never change.

    `process` takes (channels, n) and gives (channels_out, n), `latency` samples late. `start` is the session time of
    the first input sample, in samples: automation is anchored to it.
    """

    effect: ClassVar[str]
    latency: int = 0
    boost_db: float = 0.0
    """At most this much louder comes out than goes in."""
    pause: int = 0
    """At most this many samples of silence lie in what comes out after the input has ended."""

    def __init__(self, rate: float, channels: int, dtype: Any = np.float32, start: int = 0, **controls: Any):
        self.rate = rate
        self.channels = channels
        self.channels_out = channels
        self.dtype = np.dtype(dtype)
        self.position = start
        self.notes: list[str] = []
        self.controls = EFFECTS[self.effect].defaults | controls
        self.automated = any(isinstance(value, Curve) for value in self.controls.values())
        self._steady = None if self.automated else self.coefficients(self._values(np.zeros(1)))
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Set up state, `latency`, `boost_db`, `pause` and `channels_out`."""

    def tail(self, decay_db: float) -> int:
        """Samples after the end of its input until what still comes out has fallen by this much."""
        return 0

    def coefficients(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Coefficients (points, …) from every numeric control's values (points,) at as many control points.

        They are linear in time between control points.
        """
        return np.zeros((1, 0))

    def process(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Process the next block, (channels, n), into `out` where it is given."""
        n = x.shape[1]
        if n == 0:
            return np.zeros((self.channels_out, 0), self.dtype)
        coefficients, phase = self.at(n)
        y = self.run_into(out, np.ascontiguousarray(x, dtype=self.dtype), coefficients, phase)
        self.position += n
        return y

    def run_into(self, out: np.ndarray | None, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        """As `run`; effects that can write straight into `out` do."""
        y = self.run(x, coefficients, phase)
        if out is None:
            return y
        out[:] = y
        return out

    @abstractmethod
    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        """Process (channels, n); the first sample stands `phase` samples behind the first control point."""

    def highest(self, name: str) -> float:
        """A control's largest value, automated or not."""
        value = self.controls[name]
        return max(v for _, v in value.points) if isinstance(value, Curve) else value

    def at(self, n: int, shift: int = 0) -> tuple[np.ndarray, int]:
        """Coefficients over the next n samples, and the place of the first among the control points.

        `shift` is for effects that act on the signal in more than one place: the session's time there, against
        `position`.
        """
        position = self.position + shift
        if self._steady is not None:
            return self._steady, position % GRID
        first = position // GRID
        last = (position + n - 1) // GRID + 1
        seconds = np.arange(first, last + 1) * (GRID / self.rate)
        return self.coefficients(self._values(seconds)), position - first * GRID

    def _values(self, seconds: np.ndarray) -> dict[str, np.ndarray]:
        effect = EFFECTS[self.effect]
        return {
            control.name: (
                self.controls[control.name].at(seconds, control)
                if isinstance(self.controls[control.name], Curve)
                else np.full(len(seconds), self.controls[control.name], dtype=np.float64)
            )
            for control in effect.controls
            if control.kind == "number"
        }


def checked(effect: str, controls: dict[str, Any], where: str | None = None) -> dict[str, Any]:
    """Check keyword arguments against the effect's declaration; breakpoints may be given as a list of pairs."""
    declared = EFFECTS[effect]
    where = where or effect
    result = {}
    for name, value in controls.items():
        if name not in declared.names:
            raise ParameterError(f"{where}: {name} is not known; did you mean {nearest(name, declared.names)}?")
        if declared[name].kind == "file" and isinstance(value, tuple):
            result[name] = value
            continue
        if isinstance(value, (list, tuple)):
            value = Curve(tuple(tuple(plain_number(x) for x in point) for point in value))
        value = plain_number(value)
        result[name] = declared[name].check(value, f"{where}.{name}")
    return result


def as_block(x: np.ndarray) -> np.ndarray:
    """Audio as (channels, n), float32 or float64, checked."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise ParameterError(f"the audio is {x.dtype}; give float32 or float64")
    x = x[None] if x.ndim == 1 else x
    if x.ndim != 2 or x.shape[0] not in (1, 2):
        raise ParameterError(f"the audio has shape {x.shape}; give (n,), (1, n) or (2, n)")
    if not np.isfinite(x).all():
        raise ParameterError("the audio holds NaN or infinity; give finite samples")
    return x


def run_whole(processor: Processor, x: np.ndarray, tail: int = 0) -> np.ndarray:
    """Process (channels, n) at once, latency taken out, `tail` samples longer."""
    silence = np.zeros((x.shape[0], processor.latency + tail), x.dtype)
    return processor.process(np.concatenate([x, silence], axis=1))[:, processor.latency :]


def pure(processor: type[Processor]) -> Callable[..., np.ndarray]:
    """The effect as a pure function `(x, rate, **controls)`; its signature comes from the control table."""
    declared = EFFECTS[processor.effect]

    def function(x: np.ndarray, rate: float, *, tail_s: float = 0.0, **controls: Any) -> np.ndarray:
        block = as_block(x)
        if not (math.isfinite(rate) and rate > 0):
            raise ParameterError(f"{processor.effect}: the rate is {rate}; give a sample rate in Hz")
        given = checked(processor.effect, controls)
        for control in declared.controls:
            if control.default is None and control.name not in given:
                raise ParameterError(f"{processor.effect}: {control.name} is missing; give {control.range}")
        return run_whole(processor(rate, block.shape[0], block.dtype, **given), block, round(tail_s * rate))

    parameter = inspect.Parameter
    function.__signature__ = inspect.Signature(
        [
            parameter("x", parameter.POSITIONAL_OR_KEYWORD),
            parameter("rate", parameter.POSITIONAL_OR_KEYWORD),
            parameter("tail_s", parameter.KEYWORD_ONLY, default=0.0),
            *(
                parameter(c.name, parameter.KEYWORD_ONLY, default=parameter.empty if c.default is None else c.default)
                for c in declared.controls
            ),
        ]
    )
    function.__name__ = function.__qualname__ = processor.effect
    function.__module__ = processor.__module__
    lines = [
        declared.help,
        "",
        "x: (n,), (1, n) or (2, n), float32 or float64; gives (channels, n), latency taken out, and tail_s more.",
        "Every automatable control may be [[seconds, value], ...].",
        "",
        *(f"{control.name}: {control.help} {control.range}." for control in declared.controls),
        *("A file control takes (samples, rate)." for control in declared.controls if control.kind == "file"),
    ]
    function.__doc__ = "\n".join(lines)
    return function


def amplitude(db: np.ndarray | float) -> np.ndarray | float:
    """dB as an amplitude; 0 dB is exactly 1."""
    return 10.0 ** (db / 20.0)


@kernel
def ramp_values(ramps, phase, fraction, values):
    """values[c, i] from ramps[:, c], linear between control points, `fraction` of a sample late."""
    for c in range(values.shape[0]):
        for i in range(values.shape[1]):
            k = (phase + i) // GRID
            t = (phase + i - k * GRID + fraction) * (1.0 / GRID)
            values[c, i] = ramps[k, c] + t * (ramps[k + 1, c] - ramps[k, c])


@kernel
def multiply_ramps(x, y, ramps, phase):
    """y[c, i] = x[c or 0, i] times ramps[:, c], linear between control points."""
    n = x.shape[1]
    last = ramps.shape[0] - 1
    for c in range(y.shape[0]):
        source = min(c, x.shape[0] - 1)
        i = 0
        while i < n:
            k = (phase + i) // GRID
            offset = (phase + i) - k * GRID
            stop = min(n, i + GRID - offset)
            begin = ramps[min(k, last), c]
            step = (ramps[min(k + 1, last), c] - begin) * (1.0 / GRID)
            for j in range(i, stop):
                y[c, j] = x[source, j] * (begin + step * (offset + j - i))
            i = stop


def ramped(x: np.ndarray, ramps: np.ndarray, phase: int, out: np.ndarray | None = None) -> np.ndarray:
    """Multiply (channels, n) by gains (points, channels_out); a mono signal spreads to all of them."""
    if len(ramps) == 1:
        return np.multiply(x, ramps[0][:, None].astype(x.dtype), out=out)
    y = np.empty((ramps.shape[1], x.shape[1]), x.dtype)
    multiply_ramps(x, y, ramps, phase)
    if out is None:
        return y
    out[:] = y
    return out


class Fader(Processor):
    """An effect that is nothing but a gain per channel: `coefficients` gives the gains."""

    def run(self, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        return ramped(x, coefficients, phase)

    def run_into(self, out: np.ndarray | None, x: np.ndarray, coefficients: np.ndarray, phase: int) -> np.ndarray:
        return ramped(x, coefficients, phase, out)
