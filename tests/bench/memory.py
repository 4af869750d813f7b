"""How much memory a render takes: 64 mono stems of 10 minutes at 48 kHz, and of an hour.

Every track has an equaliser, a compressor, a pan and a send to a room; the master has a compressor and a limiter.

python tests/bench/memory.py [MINUTES ...]     writes 7 GiB of stems per 10 minutes, sparse where the disk can
"""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mixtools import Bus, Insert, Master, Mix, Track, write_mix

RATE = 48000
STEMS = 64


def silent_wav(path: Path, seconds: int) -> None:
    """A mono float WAV of silence with a click per minute, written sparsely."""
    size = 4 * RATE * seconds
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 3, 1, RATE, 4 * RATE, 4, 32) + b"data" + struct.pack("<I", size))
        for second in range(0, seconds, 60):
            file.seek(44 + 4 * RATE * second)
            file.write(struct.pack("<f", 0.5))
        file.truncate(44 + size)


def console() -> Mix:
    chain = [
        Insert("parametric_eq", {"low_shelf_gain_db": -3.0, "band2_gain_db": 2.0, "high_shelf_gain_db": 2.0}),
        Insert("compressor", {"threshold_db": -24.0, "ratio": 3.0}),
        Insert("pan", {"pan": 0.4}),
    ]
    tracks = [Track(f"{i:02d}.wav", chain=chain, sends={"room": -16.0}) for i in range(STEMS)]
    master = Master([Insert("compressor", {"threshold_db": -12.0}), Insert("limiter")])
    return Mix(tracks, {"room": Bus(chain=[Insert("convolution", {"ir": "hall"})])}, master)


def main() -> None:
    minutes = [int(word) for word in sys.argv[1:]] or [10, 60]
    for length in minutes:
        with tempfile.TemporaryDirectory() as folder:
            stems = Path(folder) / "stems"
            stems.mkdir()
            for i in range(STEMS):
                silent_wav(stems / f"{i:02d}.wav", 60 * length)
            began = time.perf_counter()
            write_mix(console(), Path(folder) / "mix.yaml")
            command = [sys.executable, "-m", "mixtools", "mix", str(stems), "-p", str(Path(folder) / "mix.yaml")]
            command += ["-o", str(Path(folder) / "mix.wav"), "-q"]
            with subprocess.Popen(command) as process:
                _, status, usage = _wait(process)
            took = time.perf_counter() - began
            print(
                f"{STEMS} mono stems x {length} min at {RATE} Hz: exit {status}, {usage.ru_maxrss / 1024:.0f} MiB, "
                f"{took:.0f} s ({60 * length / took:.0f} times real time)"
            )


def _wait(process: subprocess.Popen) -> tuple[int, int, resource.struct_rusage]:
    pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return pid, process.returncode, usage


if __name__ == "__main__":
    main()
