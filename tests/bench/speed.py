"""How fast the reference effects are: medians of interleaved rounds, as ratios to named peers, one thread.

python tests/bench/speed.py [ROUNDS]     (or make -C tests bench)
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import pedalboard
import scipy.signal

from mixtools.dsp import PROCESSORS
from mixtools.dsp.console import Chain, Console
from mixtools.dsp.parametric_eq import biquad
from mixtools.dsp.source import ArraySource
from mixtools.mix import Insert, Mix, Track

RATE = 44100
SECONDS = 60

EQ = {
    "low_shelf_gain_db": 3.0,
    "band1_gain_db": -4.0,
    "band2_gain_db": 2.0,
    "band3_gain_db": 5.0,
    "high_shelf_gain_db": -3.0,
}
COMPRESSOR = {"threshold_db": -25.0, "ratio": 4.0, "attack_ms": 5.0, "release_ms": 100.0}
STRIP = [Insert("gain", {"gain_db": -3.0}), Insert("parametric_eq", EQ), Insert("compressor", COMPRESSOR)]
STRIP.append(Insert("pan", {"pan": 0.3}))


def ours(*inserts):
    return lambda x: Chain(list(inserts), RATE, 1).process(x[None])


def board(*plugins):
    # Pedalboard has no panner: its strip does without, which is in its favour.
    chain = pedalboard.Pedalboard(list(plugins))
    return lambda x: chain(x, RATE)


def pedalboard_eq():
    return [
        pedalboard.LowShelfFilter(80, 3.0, 0.707),
        pedalboard.PeakFilter(200, -4.0, 0.707),
        pedalboard.PeakFilter(1000, 2.0, 0.707),
        pedalboard.PeakFilter(4000, 5.0, 0.707),
        pedalboard.HighShelfFilter(10000, -3.0, 0.707),
    ]


def sosfilt():
    values = PROCESSORS["parametric_eq"](RATE, 1, **EQ).controls
    sections = []
    for band in ("low_shelf", "band1", "band2", "band3", "high_shelf"):
        settings = (np.array([values[f"{band}_{name}"]]) for name in ("gain_db", "freq_hz", "q"))
        b0, b1, b2, a1, a2 = biquad(band, *settings, RATE)[0]
        sections.append([b0, b1, b2, 1.0, a1, a2])
    return lambda x: scipy.signal.sosfilt(np.array(sections), x)


def convolution(response):
    return lambda x: PROCESSORS["convolution"](RATE, 1, ir=(response[None], RATE)).process(x[None])


def console(threads):
    def run(x):
        tracks = [Track(str(i), chain=[Insert("parametric_eq", EQ)]) for i in range(8)]
        sources = [ArraySource(x[None]) for _ in tracks]
        for _ in Console(Mix(tracks), sources, RATE, threads=threads).blocks(0, len(x)):
            pass

    return run


def eight(function):
    return lambda x: [function(x) for _ in range(8)]


def race(title: str, contestants: dict, x: np.ndarray, rounds: int, bars: dict[str, float]) -> None:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for function in contestants.values():
        function(x)
    for _ in range(rounds):
        for name, function in contestants.items():
            began = time.perf_counter()
            function(x)
            times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    print(f"{title}: mixtools {medians['mixtools']:.1f} ms")
    for name, median in medians.items():
        if name != "mixtools":
            bar = f"   (bar {bars[name]:g})" if name in bars else ""
            print(f"    {name:28s} {median:7.1f} ms   {median / medians['mixtools']:5.2f} times as long{bar}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal(SECONDS * RATE)).astype(np.float32)
    taps = 2 * RATE
    response = (rng.standard_normal(taps) * np.exp(-np.arange(taps) / 20000)).astype(np.float32)
    print(f"{SECONDS} s mono at {RATE} Hz, float32, one thread, medians of {rounds} rounds")
    race(
        "channel strip: gain, 5-band EQ, compressor, pan",
        {"mixtools": ours(*STRIP), "pedalboard": board(pedalboard.Gain(-3), *pedalboard_eq(), pedalboard_compressor())},
        x,
        rounds,
        {"pedalboard": 2.5},
    )
    race(
        "5-band EQ",
        {"mixtools": ours(STRIP[1]), "scipy.signal.sosfilt": sosfilt(), "pedalboard": board(*pedalboard_eq())},
        x,
        rounds,
        {"scipy.signal.sosfilt": 1.5, "pedalboard": 4.0},
    )
    race(
        "compressor",
        {"mixtools": ours(STRIP[2]), "pedalboard": board(pedalboard_compressor())},
        x,
        rounds,
        {"pedalboard": 1.4},
    )
    race(
        "convolution with 2 s",
        {
            "mixtools": convolution(response),
            "scipy.signal.oaconvolve": lambda x: scipy.signal.oaconvolve(x, response),
            "scipy.signal.fftconvolve": lambda x: scipy.signal.fftconvolve(x, response),
            "pedalboard": board(pedalboard.Convolution(response, 1.0, RATE)),
        },
        x,
        rounds,
        {"scipy.signal.oaconvolve": 1.8},
    )
    race(
        "console, 8 tracks of 5-band EQ, 2 threads",
        {
            "mixtools": console(2),
            "mixtools, 1 thread": console(1),
            "scipy.signal.sosfilt": eight(sosfilt()),
            "pedalboard": eight(board(*pedalboard_eq())),
        },
        x,
        rounds,
        {},
    )


def pedalboard_compressor():
    return pedalboard.Compressor(-25.0, 4.0, 5.0, 100.0)


if __name__ == "__main__":
    main()
