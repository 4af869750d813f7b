"""Record a virtual optical compressor at a grid of its knobs: python device.py pairs [AUDIO.wav ...]

`mixtools train emulate device pairs/` learns it. Without audio, synthesised songs go through it.
"""

import csv
import sys
from itertools import product
from pathlib import Path

import numpy as np

from mixtools import read_audio, synth_song, write_audio
from mixtools.synth.optical import RATE, optical_compressor

SECONDS = 12

folder = Path(sys.argv[1])
if folder.exists():
    sys.exit(f"{folder} exists; give a new folder")
folder.mkdir(parents=True)
rng = np.random.default_rng(0)


def sound(number: int) -> np.ndarray:
    """What goes in at one setting: some seconds of recordings, or of a synthesised song's stems one after the other."""
    if len(sys.argv) > 2:
        x, rate = read_audio(sys.argv[2 + number % (len(sys.argv) - 2)])
        if rate != RATE:
            sys.exit(f"{sys.argv[2 + number % (len(sys.argv) - 2)]} is at {rate} Hz; give audio at {RATE} Hz")
        return x[0, : SECONDS * RATE]
    stems = list(synth_song(900 + number, seconds=4, stems=8).stems.values())
    pieces = [stems[k][0] for k in rng.permutation(len(stems))[:3]]
    levels = 10.0 ** (rng.uniform(-18.0, 0.0, len(pieces)) / 20.0)
    return np.concatenate([g * x / max(np.abs(x).max(), 1e-3) for g, x in zip(levels, pieces, strict=True)])


rows = []
for number, (reduction, emphasis) in enumerate(product(range(0, 101, 10), (0.0, 0.5, 1.0))):
    x = sound(number).astype(np.float32)
    names = [f"{number:02d}_{side}.wav" for side in ("input", "target")]
    for name, samples in zip(names, (x, optical_compressor(x, RATE, reduction, emphasis)), strict=True):
        write_audio(folder / name, samples[None], RATE)
    rows.append({"input": names[0], "target": names[1], "reduction": reduction, "emphasis": emphasis})
with open(folder / "pairs.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
print(f"{len(rows)} settings in {folder}/")
