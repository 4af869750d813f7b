"""How fast loudness and features are measured: medians of interleaved rounds, as ratios to named peers.

python tests/bench/measures.py [ROUNDS]     (or make -C tests bench)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import auraloss
import numpy as np
import pyloudnorm
import torch
from speed import race

from mixtools import synth_song, write_audio
from mixtools.measure.distance import MR_STFT, mr_stft
from mixtools.measure.loudness import LoudnessMeter
from mixtools.measure.peaks import PeakMeter

RATE = 48000
BLOCK = 65536

WATCH = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Run by a small process: what it starts would count this one's memory as its own."""


def song(seconds: int) -> np.ndarray:
    """A synthesised stereo song of 30 s, repeated, float32."""
    stems = synth_song(7, seconds=30, rate=RATE).stems.values()
    mix = sum(np.broadcast_to(stem, (2, stem.shape[1])) for stem in stems).astype(np.float32)
    return np.tile(0.4 * mix / np.abs(mix).max(), (1, -(-seconds * RATE // mix.shape[1])))[:, : seconds * RATE]


def metered(*meters):
    def run(x):
        for meter in [make() for make in meters]:
            for at in range(0, x.shape[1], BLOCK):
                meter.add(x[:, at : at + BLOCK])
            getattr(meter, "integrated_lufs", None)

    return run


def pyloudnorm_meter(x):
    pyloudnorm.Meter(RATE).integrated_loudness(x.T)


def command(*words):
    def run(x):
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return run


def with_gradients(distance):
    """A distance between two tensors, forward and backward to the first."""

    def run(x):
        a = torch.from_numpy(x[:, : 10 * RATE]).clone().requires_grad_()
        distance(a, torch.from_numpy(x[:, 10 * RATE : 20 * RATE])).backward()

    return run


def auraloss_mr_stft():
    sizes, hops, windows = zip(*((r.size, r.hop, r.window) for r in MR_STFT), strict=True)
    loss = auraloss.freq.MultiResolutionSTFTLoss(sizes, hops, windows)
    return lambda a, b: loss(a[None], b[None])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    x = song(600)
    loudness = lambda: LoudnessMeter(RATE, 2)  # noqa: E731
    print(f"10 minutes stereo at {RATE} Hz, one thread, medians of {rounds} rounds")
    race(
        "integrated loudness of decoded audio",
        {
            "mixtools": metered(loudness),
            "pyloudnorm": pyloudnorm_meter,
            "mixtools, true peak too": metered(loudness, lambda: PeakMeter(2)),
        },
        x,
        rounds,
        {"pyloudnorm": 15.0},
    )
    torch.set_num_threads(2)
    race(
        "MR-STFT of 10 s stereo, forward and backward, 2 threads",
        {"mixtools": with_gradients(mr_stft), "auraloss": with_gradients(auraloss_mr_stft())},
        x,
        rounds,
        {"auraloss": 1.0},
    )
    one_core = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    os.environ |= one_core
    with tempfile.TemporaryDirectory() as folder:
        ten, four = Path(folder) / "ten.wav", Path(folder) / "four.wav"
        write_audio(ten, x, RATE, "24")
        mixtools = [sys.executable, "-m", "mixtools"]
        contestants = {"mixtools": command(*mixtools, "loudnorm", str(ten), "--measure")}
        if shutil.which("ffmpeg"):
            measure = ["-af", "ebur128=peak=true", "-f", "null", "-"]
            contestants["ffmpeg ebur128"] = command("ffmpeg", "-nostats", "-i", str(ten), *measure)
        race("everything EBU R 128 asks for, from a 24-bit file", contestants, x, rounds, {"ffmpeg ebur128": 1.0})
        write_audio(four, x[:, : 240 * RATE], RATE, "24")
        watched = [sys.executable, "-c", WATCH, *mixtools, "features", str(four), "--json"]
        seconds, kilobytes = subprocess.run(watched, check=True, capture_output=True, text=True).stdout.split()
        print(
            f"all features of a 4-minute song: {float(seconds):.1f} s (bar 10), {int(kilobytes) >> 10} MiB (bar 1024)"
        )


if __name__ == "__main__":
    main()
