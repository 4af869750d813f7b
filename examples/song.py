"""Write the stems of a synthesised song into a folder: python song.py stems [SEED]"""

import sys
from pathlib import Path

from mixtools import synth_song, write_audio

folder = Path(sys.argv[1])
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 7
song = synth_song(seed, seconds=20, stems=10, style="rock")
folder.mkdir(parents=True, exist_ok=True)
for name, samples in song.stems.items():
    write_audio(folder / name, samples, song.rate, "24", force=True)
print(f"{song.name}: {len(song.stems)} stems in {folder}/")
