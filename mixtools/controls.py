"""Every control of every effect, declared once.

Validation, keyword arguments, random sampling, network scaling, the command line and the
tables of the man pages are all derived from `EFFECTS`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixtools.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np

SILENCE_DB = -96.0
"""Where gains in dB begin: the lowest `gain_db` and the lowest send."""


@dataclass(frozen=True)
class Control:
    """One control: a number with a range, a switch, a choice, a whole number, a file, or a model's settings."""

    name: str
    help: str
    default: Any
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    kind: str = "number"
    choices: tuple[str, ...] = ()
    automatable: bool = True

    def check(self, value: Any, where: str) -> Any:
        """Return the value in the control's own type, or raise a `ParameterError` that names `where`."""
        if isinstance(value, Curve):
            return self._check_curve(value, where)
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise ParameterError(f"{where} is {unquoted(value)}; give true or false")
            return value
        if self.kind == "choice":
            if value not in self.choices:
                raise ParameterError(f"{where} is {shown(value)}; give one of {', '.join(self.choices)}")
            return value
        if self.kind == "file":
            if not isinstance(value, str) or not value:
                raise ParameterError(f"{where} is {shown(value)}; give the name of a file")
            return value
        if self.kind == "settings":
            return _checked_settings(value, where)
        return self._check_number(value, where)

    def _check_number(self, value: Any, where: str) -> float | int:
        whole = self.kind == "whole"
        usable = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not usable or (whole and value != int(value) if usable and math.isfinite(value) else False):
            words = "a whole number, " if whole else ""
            raise ParameterError(f"{where} is {unquoted(value)}; give {words}{self.range}")
        if not self.low <= value <= self.high:
            raise ParameterError(f"{where} is {shown(value)}; give {self.range}")
        return int(value) if whole else float(value)

    def _check_curve(self, curve: Curve, where: str) -> Curve:
        if not self.automatable or self.kind != "number":
            raise ParameterError(f"{where} is a list; it cannot be automated, give one value")
        points = []
        for i, (seconds, value) in enumerate(curve.points):
            if not (_is_number(seconds) and 0 <= seconds < math.inf):
                raise ParameterError(f"{where}[{i}][0] is {shown(seconds)}; give a time in seconds, 0 or later")
            if points and seconds <= points[-1][0]:
                raise ParameterError(
                    f"{where}[{i}][0] is {shown(seconds)}; give a time after {shown(points[-1][0])}, the one before"
                )
            points.append((float(seconds), self._check_number(value, f"{where}[{i}][1]")))
        if not points:
            raise ParameterError(f"{where} is an empty list; give {self.range}, or [[seconds, value], ...]")
        return Curve(tuple(points))

    @property
    def range(self) -> str:
        """The legal values, in words: `0.03 to 250`."""
        if self.kind == "switch":
            return "true or false"
        if self.kind == "choice":
            return ", ".join(self.choices)
        if self.kind == "file":
            return "a file"
        if self.kind == "settings":
            return "a mapping"
        return f"{shown(self.low)} to {shown(self.high)}"

    def to_unit(self, value: float, low: float | None = None, high: float | None = None) -> float:
        """Scale a value to 0…1 over its range (or a narrower one), logarithmically where the control is."""
        low, high = self._span(low, high)
        if high <= low:
            return 0.0
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def from_unit(self, unit: float, low: float | None = None, high: float | None = None) -> float:
        """The inverse of `to_unit`, never outside the range."""
        low, high = self._span(low, high)
        if high <= low:
            return low
        value = low * (high / low) ** unit if self.log else low + unit * (high - low)
        return min(max(float(value), low), high)

    def _span(self, low: float | None, high: float | None) -> tuple[float, float]:
        return (self.low if low is None else low), (self.high if high is None else high)


@dataclass(frozen=True)
class Curve:
    """Breakpoints of an automated control: ((seconds, value), …), joined in the control's own scale."""

    points: tuple[tuple[float, float], ...]

    def at(self, seconds: np.ndarray, control: Control) -> np.ndarray:
        """The control's value at each time, float64; held before the first and after the last breakpoint."""
        import numpy as np

        times = np.array([p[0] for p in self.points], dtype=np.float64)
        values = np.array([p[1] for p in self.points], dtype=np.float64)
        if control.log:
            return np.clip(np.exp(np.interp(seconds, times, np.log(values))), control.low, control.high)
        return np.interp(seconds, times, values)


@dataclass(frozen=True)
class Effect:
    """An effect's name, what it does, and its controls in order."""

    name: str
    help: str
    controls: tuple[Control, ...]

    def __getitem__(self, name: str) -> Control:
        for control in self.controls:
            if control.name == name:
                return control
        raise KeyError(name)

    @property
    def names(self) -> list[str]:
        return [control.name for control in self.controls]

    @property
    def defaults(self) -> dict[str, Any]:
        return {control.name: control.default for control in self.controls}


MOST_SETTINGS = 256


def _checked_settings(value: Any, where: str, grouped: bool = True) -> dict[str, Any]:
    """Names with numbers or words, perhaps in groups; whether they are any model's is not known here."""
    if not isinstance(value, dict) or len(value) > MOST_SETTINGS:
        raise ParameterError(f"{where} is {shown(value)}; give a mapping of at most {MOST_SETTINGS} controls")
    for name, item in value.items():
        if not isinstance(name, str) or not name:
            raise ParameterError(f"{where} holds {shown(name)}, which is no name; give a control's name")
        if isinstance(item, dict) and grouped:
            _checked_settings(item, f"{where}.{name}", grouped=False)
        elif not isinstance(item, str) and not (_is_number(item) and math.isfinite(item)):
            raise ParameterError(f"{where}.{name} is {shown(item)}; give a number or a word")
    return dict(value)


def plain_number(value: Any) -> Any:
    """A numpy scalar as Python's own; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def shown(value: Any) -> str:
    """A value as it stands in an error line: short, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if not math.isfinite(value) else f"{value:.10g}"
    if isinstance(value, Curve):
        return "a list"
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def side(pan: Any) -> str:
    """A value of a pan in words, such as `35 % left`."""
    if isinstance(pan, Curve):
        return f"{side(pan.points[0][1])}, moving"
    percent = round(200.0 * abs(pan - 0.5))
    return "centre" if percent == 0 else f"{percent} % {'left' if pan < 0.5 else 'right'}"


def unquoted(value: Any) -> str:
    """As `shown`, where a number or a truth value is wanted: a text that looks like one is called what it is."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?|true|false", value.strip()):
        return f"the text '{shown(value)}' (in quotes)"
    return shown(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fixed(*args: Any, **kwargs: Any) -> Control:
    return Control(*args, automatable=False, **kwargs)


def _switch(name: str, help: str, default: bool = False) -> Control:
    return _fixed(name, help, default, kind="switch")


def _gain_db(name: str, low: float, high: float, help: str) -> Control:
    return Control(name, help, 0.0, low, high)


def _wet_dry(wet: float = 1.0, dry: float = 0.0) -> tuple[Control, Control]:
    return (
        Control("wet", "Amplitude of the processed signal.", wet, 0.0, 1.0),
        Control("dry", "Amplitude of the unprocessed signal.", dry, 0.0, 1.0),
    )


_PREDELAY = _fixed("predelay_ms", "Silence before the wet signal begins.", 0.0, 0.0, 500.0)

EQ_BANDS = ("low_shelf", "band1", "band2", "band3", "band4", "high_shelf")
_EQ_FREQUENCIES = {
    "low_shelf": (20.0, 2000.0, 80.0),
    "band1": (20.0, 22000.0, 200.0),
    "band2": (20.0, 22000.0, 1000.0),
    "band3": (20.0, 22000.0, 4000.0),
    "band4": (20.0, 22000.0, 10000.0),
    "high_shelf": (500.0, 22000.0, 10000.0),
}

GRAPHIC_CENTRES_HZ = (30, 60, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)

REVERB_CENTRES_HZ = tuple(16000.0 / 2 ** (11 - k) for k in range(12))

HIGHEST_FREQUENCY = 0.45
"""Of the sample rate: no equaliser band lies above it."""

ROOMS = ("small_room", "medium_room", "large_room", "hall", "plate")
"""The bundled impulse responses."""

PAN_LAWS = ("balance", "linear", "constant_power", "compromise")


def _eq_controls() -> tuple[Control, ...]:
    controls = []
    for band in EQ_BANDS:
        low, high, default = _EQ_FREQUENCIES[band]
        words = band.replace("band", "band ") if band.startswith("band") else "the " + band.replace("_", " ")
        controls += [
            _gain_db(f"{band}_gain_db", -24.0, 24.0, f"Gain of {words}; 0 leaves the signal untouched."),
            Control(f"{band}_freq_hz", f"Frequency of {words}.", default, low, high, log=True),
            Control(f"{band}_q", f"Q of {words}.", 0.707, 0.1, 10.0, log=True),
        ]
    return tuple(controls)


def _reverb_controls() -> tuple[Control, ...]:
    controls = []
    for k, centre in enumerate(REVERB_CENTRES_HZ, 1):
        words = f"octave band at {centre:.0f} Hz"
        controls.append(_fixed(f"band{k}_gain", f"Amplitude of the {words}.", 1.0, 0.0, 1.0))
    for k, centre in enumerate(REVERB_CENTRES_HZ, 1):
        words = f"octave band at {centre:.0f} Hz"
        decay = 1.5 if centre <= 1000 else round(1.5 * (1000 / centre) ** 0.35, 2)
        controls.append(_fixed(f"band{k}_decay_s", f"Time to fall by 60 dB, {words}.", decay, 0.05, 10.0, log=True))
    return (
        *controls,
        *_wet_dry(),
        _PREDELAY,
        _fixed("width", "0: both sides alike (mono reverb); 1: independent sides.", 1.0, 0.0, 1.0),
        _fixed("seed", "Which noise; the same seed gives the same bits.", 0, 0, 2**31 - 1, kind="whole"),
    )


_DECLARED = (
    Effect(
        "gain",
        "A fader, and the polarity switch.",
        (
            _gain_db("gain_db", SILENCE_DB, 48.0, "Gain."),
            _switch("invert", "Flip the polarity."),
        ),
    ),
    Effect(
        "pan",
        "Places a mono strip between left and right; on a stereo strip every law is a balance.",
        (
            Control("pan", "0 is left, 0.5 the centre, 1 right.", 0.5, 0.0, 1.0),
            _fixed(
                "law",
                "balance: both sides 1 at the centre, the far side fades; linear: L = 1-p, R = p; "
                "constant_power: L = cos(pi p / 2), R = sin(pi p / 2); compromise: the root of linear times "
                "constant_power (-4.5 dB).",
                "balance",
                kind="choice",
                choices=PAN_LAWS,
            ),
        ),
    ),
    Effect(
        "parametric_eq",
        "Six bands of RBJ cookbook biquads in cascade. "
        f"Frequencies are limited to {HIGHEST_FREQUENCY} of the sample rate.",
        _eq_controls(),
    ),
    Effect(
        "graphic_eq",
        "Ten octave bands, a linear-phase FIR whose transfer curve is linear between the centres and flat "
        f"beyond them. Bands above {HIGHEST_FREQUENCY} of the sample rate are left out.",
        # -60 rather than -48: the colonel console's own range must fit into the effect's.
        tuple(
            _gain_db(f"band{hz}_gain_db", -60.0, 12.0, f"Gain of the octave band at {hz} Hz.")
            for hz in GRAPHIC_CENTRES_HZ
        ),
    ),
    Effect(
        "compressor",
        "Feed-forward, log domain, smooth branching detector; on stereo one detector fed by the louder channel.",
        (
            Control("threshold_db", "Level above which the gain is reduced.", 0.0, -80.0, 0.0),
            Control("ratio", "dB of input per dB of output above the threshold.", 2.0, 1.0, 20.0, log=True),
            Control("attack_ms", "Time constant of a rising gain reduction.", 5.0, 0.03, 250.0, log=True),
            Control("release_ms", "Time constant of a falling gain reduction.", 100.0, 5.0, 3000.0, log=True),
            Control("knee_db", "Width of the quadratic soft knee; 0 is a hard knee.", 0.0, 0.0, 24.0),
            _gain_db("makeup_db", -12.0, 24.0, "Gain after compression."),
            _fixed("lookahead_ms", "How far the detector sees ahead of the audio.", 0.0, 0.0, 20.0),
        ),
    ),
    Effect(
        "convolution",
        "Convolves with an impulse response: a WAV beside the mix file, or a bundled room.",
        (
            _fixed(
                "ir",
                f"A WAV or FLAC, mono or stereo, any rate; or the name of a bundled room: {', '.join(ROOMS)}.",
                None,
                kind="file",
            ),
            _fixed("decay", "Part of the impulse response that is kept, faded out at its end.", 1.0, 0.01, 1.0),
            *_wet_dry(),
            _PREDELAY,
        ),
    ),
    Effect(
        "reverb",
        "Parametric reverberation without a file: noise shaped by twelve octave-band gains and decay times.",
        _reverb_controls(),
    ),
    Effect(
        "delay",
        "Echoes: a fractional delay line with damped feedback.",
        (
            _fixed("time_ms", "Time between echoes, fractions of a sample too.", 350.0, 0.0, 2000.0),
            Control("feedback", "Amplitude of each echo relative to the one before.", 0.3, 0.0, 0.95),
            *_wet_dry(),
            Control(
                "damping_hz",
                "Corner of the one-pole low-pass that every further echo goes through.",
                8000.0,
                200.0,
                20000.0,
                log=True,
            ),
        ),
    ),
    Effect(
        "saturation",
        "tanh drive that leaves full scale where it is, 4 times oversampled; transparent at 0 dB of drive.",
        (
            Control("drive_db", "Drive; small signals rise by about this much.", 0.0, 0.0, 48.0),
            Control("mix", "0 is the clean signal, 1 the saturated one.", 1.0, 0.0, 1.0),
            Control("bias", "Shifts the operating point: even harmonics.", 0.0, 0.0, 0.5),
        ),
    ),
    Effect(
        "limiter",
        "Look-ahead true-peak limiter: the BS.1770 true peak never exceeds the ceiling, the gain never exceeds 1.",
        (
            Control("ceiling_db", "Highest true peak of the output, dBTP.", -1.0, -24.0, 0.0),
            Control("release_ms", "Time constant of the gain's recovery.", 100.0, 5.0, 1000.0, log=True),
        ),
    ),
    Effect(
        "neural",
        "An emulated channel or device: `mixtools emulate --list` shows models and their controls.",
        (
            _fixed("model", "A model file beside the mix file, or the name of a bundled model.", None, kind="file"),
            _fixed("set", "The model's own controls, by name.", {}, kind="settings"),
        ),
    ),
)

EFFECTS: dict[str, Effect] = {effect.name: effect for effect in _DECLARED}
"""All effects by name."""

SEND = Control("send_db", "Level of a track or bus into a bus, after the chain.", SILENCE_DB, SILENCE_DB, 24.0)
OFFSET_MS = _fixed("offset_ms", "Moves the stem in time; fractions of a sample too.", 0.0, -3_600_000.0, 3_600_000.0)
CHANNELS = ("both", "left", "right", "mid", "side")
CHANNEL = _fixed("channel", "Which part of a stereo stem is used.", "both", kind="choice", choices=CHANNELS)
SAMPLE_RATE = _fixed("sample_rate", "Session rate in Hz.", 44100, 8000, 192000, kind="whole")
