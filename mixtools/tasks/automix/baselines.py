"""The mixes that automatic ones are compared with; the sum of the stems as they are is `tasks.mix.equal_gain`."""

from __future__ import annotations

from collections.abc import Mapping

from mixtools.dsp.noise import generator
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Insert, Mix, Track
from mixtools.tasks.recordings import Recording

RANDOM_GAIN_DB = 12.0
EQUAL_LUFS = -48.0
BLOCK = 65536


def baseline(name: str, stems: Mapping[str, Recording], rate: int, seed: int = 0) -> Mix:
    """The mix that a baseline makes of stems, without loudness on its master.

    `random` draws each stem's numbers from the seed and the stem's name, so that other stems do not change them.
    """
    return Mix([_TRACKS[name](stem, stems[stem], rate, seed) for stem in sorted(stems)], sample_rate=rate).check()


def _mono(name: str, stem: Recording, rate: int, seed: int) -> Track:
    return Track(name, "mid" if stem.channels == 2 else "both")


def _random(name: str, stem: Recording, rate: int, seed: int) -> Track:
    rng = generator(seed, f"random mix {name}")
    gain_db, pan = rng.uniform(-RANDOM_GAIN_DB, RANDOM_GAIN_DB), rng.uniform(0.0, 1.0)
    return Track(
        name,
        chain=[
            Insert("gain", {"gain_db": float(f"{gain_db:.4g}")}),
            Insert("pan", {"pan": float(f"{pan:.3g}"), "law": "linear"}),
        ],
    )


def _equally_loud(name: str, stem: Recording, rate: int, seed: int) -> Track:
    meter = LoudnessMeter(rate, stem.channels, dual_mono=True)
    for at in range(0, stem.frames, BLOCK):
        meter.add(stem.read(at, min(BLOCK, stem.frames - at)))
    lufs = meter.integrated_lufs
    return Track(name, chain=[] if lufs is None else [Insert("gain", {"gain_db": float(f"{EQUAL_LUFS - lufs:.5g}")})])


_TRACKS = {"mono": _mono, "random": _random, "equal-loudness": _equally_loud}
