"""Mix multitrack audio, and show the work.

The command line is one way in; this module is the other. Nothing heavy is imported until it is used.

>>> import numpy as np
>>> from mixtools import Insert, Mix, Track, render
>>> stems = {"kick.wav": np.ones(4, np.float32), "bass.wav": np.ones((1, 4), np.float32)}
>>> mix = Mix([Track("kick.wav", chain=[Insert("pan", {"pan": 0.0})]), Track("bass.wav")])
>>> render(mix, stems, 44100)
array([[2., 2., 2., 2.],
       [1., 1., 1., 1.]], dtype=float32)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "mixtools.controls": ("EFFECTS", "Control", "Curve"),
    "mixtools.dsp": (
        "compressor",
        "convolution",
        "delay",
        "gain",
        "graphic_eq",
        "limiter",
        "pan",
        "parametric_eq",
        "reverb",
        "saturation",
    ),
    "mixtools.dsp.console": ("Chain", "Console"),
    "mixtools.dsp.source": ("ArraySource",),
    "mixtools.errors": ("AudioError", "MixtoolsError", "OutputError", "ParameterError"),
    "mixtools.files.mixfile": ("format_mix", "parse_mix", "read_mix", "write_mix"),
    "mixtools.files.reading": ("read_audio",),
    "mixtools.files.writing": ("write_audio",),
    "mixtools.measure.audio_features": ("audio_feature_loss", "audio_features"),
    "mixtools.measure.distance": ("aligned", "esr", "mr_stft", "mss", "si_sdr_db", "sum_difference_mr_stft"),
    "mixtools.measure.features": ("Analyser", "features", "relative_errors"),
    "mixtools.measure.frechet": ("Gaussian", "frechet_distance"),
    "mixtools.measure.levels": ("LevelMeter", "levels"),
    "mixtools.mix": ("Bus", "Insert", "Master", "Mix", "Track"),
    "mixtools.presets": ("PRESETS",),
    "mixtools.synth": ("finished_mix", "synth_song"),
    "mixtools.tasks.loudnorm": ("normalise",),
    "mixtools.tasks.mix": ("equal_gain", "render"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mixtools' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
