"""How much memory and time long and large work takes: hours of audio, gigabytes of output, thousands of files.

python tests/bench/memory.py [CASE ...]     all unless named; up to 50 GiB, sparse where the disk can

session-10, session-60   64 mono stems of 10 minutes or an hour at 48 kHz, with EQ, compressor, pan and a reverb send
rf64                     an hour at 192 kHz: an output of 5.5 GB, which `loudnorm --measure` reads again
stems                    a folder of 1,000 stems, mixed by rules, summed, and measured
files                    `features --csv --jobs 2` of 10,000 files
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from mixtools import Bus, Insert, Master, Mix, Track, synth_song, write_audio, write_mix

RATE = 48000
STEMS = 64


def silent_wav(path: Path, seconds: int, rate: int = RATE) -> None:
    """A mono float WAV of silence with a click per minute, written sparsely."""
    size = 4 * rate * seconds
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 3, 1, rate, 4 * rate, 4, 32) + b"data" + struct.pack("<I", size))
        for second in range(0, seconds, 60):
            file.seek(44 + 4 * rate * second)
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


def timed(what: str, line: str, stdout: str | None = None) -> None:
    """Run a command in the working folder, and print what it took."""
    began = time.perf_counter()
    with open(stdout or os.devnull, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "mixtools", *line.split()], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    print(f"{what}: exit {process.returncode}, {usage.ru_maxrss / 1024:.0f} MiB, {took:.0f} s", flush=True)


def session(minutes: int) -> None:
    Path("stems").mkdir()
    for i in range(STEMS):
        silent_wav(Path(f"stems/{i:02d}.wav"), 60 * minutes)
    write_mix(console(), "mix.yaml")
    what = f"{STEMS} mono stems x {minutes} min at {RATE} Hz"
    timed(what, "mix stems -p mix.yaml -o mix.wav -q")


def rf64() -> None:
    Path("stems").mkdir()
    for i in range(2):
        silent_wav(Path(f"stems/{i}.wav"), 3600, 192_000)
    timed("an hour at 192 kHz", "mix stems --baseline sum -o mix.wav -q")
    about = soundfile.info("mix.wav")
    print(f"  {Path('mix.wav').stat().st_size / 1e9:.1f} GB, {about.format}, {about.frames} frames", flush=True)
    timed("  measured", "loudnorm mix.wav --measure --json")


def thousand_stems() -> None:
    Path("stems").mkdir()
    made = list(synth_song(7, 5.0, 44100, 20).stems.items())
    rng = np.random.default_rng(0)
    for i in range(1000):
        name, samples = made[i % len(made)]
        samples = np.roll(samples, rng.integers(44100), axis=-1)
        write_audio(f"stems/{Path(name).stem}_{i:04d}.wav", samples, 44100, "24")
    timed("1,000 stems of 5 s, by rules", "mix stems -o rules.wav --write-mix rules.yaml -q")
    timed("  summed", "mix stems --baseline sum -o sum.wav -q")
    timed("  measured", "loudnorm stems --measure --csv", stdout="measures.csv")


def thousands_of_files() -> None:
    Path("files").mkdir()
    made = list(synth_song(7, 2.0, 44100, 20).stems.values())
    for i in range(10_000):
        if i < len(made):
            write_audio(f"files/{i:05d}.wav", made[i], 44100, "16")
        else:
            shutil.copyfile(f"files/{i % len(made):05d}.wav", f"files/{i:05d}.wav")
    timed("features of 10,000 files of 2 s", "features files --csv --jobs 2 -q", stdout="features.csv")
    rows = Path("features.csv").read_bytes().count(b"\n") - 1
    print(f"  {rows} rows", flush=True)


CASES = {
    "session-10": lambda: session(10),
    "session-60": lambda: session(60),
    "rf64": rf64,
    "stems": thousand_stems,
    "files": thousands_of_files,
}


def main() -> None:
    for word in set(sys.argv[1:]) - set(CASES):
        sys.exit(f"memory.py: {word} is not a case; give {', '.join(CASES)}")
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            CASES[name]()
            os.chdir("/")


if __name__ == "__main__":
    main()
