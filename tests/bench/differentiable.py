"""How fast the differentiable console is, and how much memory its graph takes, as ratios to dasp-pytorch.

Diff-MST's console: 16 mono tracks of 5 s at 44.1 kHz through gain, six-band EQ, compressor and pan, a stereo master
through EQ and compressor; the mix, and the gradients of all controls.

python tests/bench/differentiable.py [ROUNDS]     (or make -C tests bench)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dasp_pytorch.functional as dasp
import torch
from speed import race

from mixtools import diff
from mixtools.controls import EQ_BANDS
from mixtools.presets import PRESETS

RATE = 44100
TRACKS = 16
SAMPLES = 5 * RATE
SPEED_BAR = 15.0
MEMORY_BAR = 0.25

Settings = dict[str, dict[str, torch.Tensor]]


def drawn(strip, count: int, generator: torch.Generator) -> Settings:
    """Settings of so many strips over the preset's ranges, that gradients are asked of."""
    settings: Settings = {}
    for slot in strip.slots:
        if slot.effect in ("gain", "parametric_eq", "compressor", "pan"):
            values = settings.setdefault(slot.effect, {})
            for control in slot.varied:
                low, high = slot.span(control.name, RATE)
                units = 0.05 + 0.9 * torch.rand(count, generator=generator)
                values[control.name] = (low + units * (high - low)).requires_grad_()
    return settings


def mixtools_console(tracks: torch.Tensor, strips: Settings, master: Settings) -> torch.Tensor:
    x = tracks[:, None]
    x = diff.gain(x, RATE, **strips["gain"])
    x = diff.parametric_eq(x, RATE, **strips["parametric_eq"])
    x = diff.compressor(x, RATE, **strips["compressor"])
    x = diff.pan(x, RATE, law="compromise", **strips["pan"])
    mix = x.sum(dim=0, keepdim=True)
    mix = diff.parametric_eq(mix, RATE, **master["parametric_eq"])
    return diff.compressor(mix, RATE, **master["compressor"])


def dasp_eq(x: torch.Tensor, values: dict[str, torch.Tensor]) -> torch.Tensor:
    names = ("low_shelf", "band0", "band1", "band2", "band3", "high_shelf")
    parts = (("gain_db", "gain_db"), ("freq_hz", "cutoff_freq"), ("q", "q_factor"))
    renamed = {
        f"{theirs}_{their_part}": values[f"{ours}_{part}"]
        for ours, theirs in zip(EQ_BANDS, names, strict=True)
        for part, their_part in parts
    }
    return dasp.parametric_eq(x, RATE, **renamed)


def dasp_compressor(x: torch.Tensor, values: dict[str, torch.Tensor]) -> torch.Tensor:
    others = {name: value for name, value in values.items() if name != "makeup_db"}
    return dasp.compressor(x, RATE, **others, makeup_gain_db=values["makeup_db"])


def dasp_console(tracks: torch.Tensor, strips: Settings, master: Settings) -> torch.Tensor:
    x = tracks[:, None]
    x = dasp.gain(x, RATE, **strips["gain"])
    x = dasp_eq(x, strips["parametric_eq"])
    x = dasp_compressor(x, strips["compressor"])
    x = dasp.stereo_panner(x.view(1, len(tracks), -1), RATE, strips["pan"]["pan"])
    mix = x.sum(dim=2)
    return dasp_compressor(dasp_eq(mix, master["parametric_eq"]), master["compressor"])


CONSOLES = {"mixtools": mixtools_console, "dasp-pytorch": dasp_console}


def work(console, gradients: bool):
    """Forward, and backward where gradients are asked for, on (tracks, n)."""
    generator = torch.Generator().manual_seed(0)
    preset = PRESETS["diffmst"]
    strips, master = drawn(preset.track, TRACKS, generator), drawn(preset.master, 1, generator)
    away = torch.randn(1, 2, SAMPLES, generator=generator)

    def run(tracks: torch.Tensor) -> None:
        with torch.set_grad_enabled(gradients):
            mix = console(tracks, strips, master)
        if gradients:
            mix.backward(away[..., : tracks.shape[1]])

    return run


def noise(samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(TRACKS, samples, generator=torch.Generator().manual_seed(1))


def print_extra_memory(name: str) -> None:
    """How far a run of its own raises this process's memory, in MiB; Linux tells."""
    torch.set_num_threads(2)
    run = work(CONSOLES[name], gradients=True)
    tracks = noise(SAMPLES)
    run(tracks[:, :1000])
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mib("VmRSS")
    run(tracks)
    print(_status_mib("VmHWM") - before)


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def extra_memory(name: str) -> float:
    # Freed blocks go back at once, so that none of the short run before is used again.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, "--memory", name], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        print_extra_memory(sys.argv[2])
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{TRACKS} tracks of {SAMPLES // RATE} s at {RATE} Hz, float32, medians of {rounds} rounds")
    tracks = noise(SAMPLES)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for title, gradients in (("forward", False), ("forward and backward", True)):
            contestants = {name: work(console, gradients) for name, console in CONSOLES.items()}
            bars = {"dasp-pytorch": SPEED_BAR} if gradients and threads == 2 else {}
            race(f"{title}, {threads} thread{'s' * (threads > 1)}", contestants, tracks, rounds, bars)
    if Path("/proc/self/clear_refs").exists():
        memory = {name: extra_memory(name) for name in CONSOLES}
        print(f"extra memory, forward and backward: mixtools {memory['mixtools']:.0f} MiB")
        share = memory["mixtools"] / memory["dasp-pytorch"]
        print(f"    dasp-pytorch {memory['dasp-pytorch']:.0f} MiB   ours is {share:.2f} of it   (bar {MEMORY_BAR:g})")


if __name__ == "__main__":
    main()
