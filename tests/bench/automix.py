"""How sound automatic mixes are, and how near they come to finished ones: the papers' Tables 12 and 13, and the bars.

python tests/bench/automix.py [songs=100] [sound|near|real|time ...]     all unless named

`sound` checks the expert's mixes of synthesised songs, `near` compares every method with finished mixes of held-out
families, `real` with the record of MIXTOOLS_AUDIO, `time` takes a whole process on 24 stems of 4 minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from measures import WATCH

from mixtools import Gaussian, features, frechet_distance, levels, render, sum_difference_mr_stft, synth_song
from mixtools.dsp.console import Console
from mixtools.measure.features import vector
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Mix
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.expert import LEAD_LUFS, Expert
from mixtools.tasks.automix.mastering import mastered
from mixtools.tasks.automix.rules import LEADS, MANNERS
from mixtools.tasks.loudnorm import normalise
from mixtools.tasks.mix import equal_gain
from mixtools.tasks.recordings import ArrayRecording, Playing

RATE = 44100
SECONDS = 10.0
THREADS = 2
TARGET_LUFS = -16.0


def recordings(stems: dict[str, np.ndarray]) -> dict[str, ArrayRecording]:
    return {name: ArrayRecording(samples) for name, samples in stems.items()}


def played(mix: Mix, stems: dict[str, np.ndarray], rate: int) -> np.ndarray:
    return render(mix, stems, rate, threads=THREADS)


def loudness(x: np.ndarray, rate: int) -> float | None:
    meter = LoudnessMeter(rate, len(x), dual_mono=True)
    meter.add(np.ascontiguousarray(x))
    return meter.integrated_lufs


def finished(mix: Mix, stems: dict[str, np.ndarray], rate: int) -> Mix:
    def console(mix: Mix) -> Console:
        return Console(mix, [Playing(ArrayRecording(stems[t.file])) for t in mix.tracks], rate, threads=THREADS)

    return mastered(mix, console, TARGET_LUFS).mix


def bar(what: str, measured: str, limit: str, met: bool) -> None:
    print(f"  {what:<64} {measured:>14}   bar {limit:<12} {'met' if met else 'MISSED'}", flush=True)


def sound(songs: int) -> None:
    """What every mix has to be, whatever it is like."""
    print(f"the expert's mixes of {songs} synthesised songs of 8 to 24 stems, {SECONDS:g} s")
    failed: dict[str, list[str]] = {}

    def expect(what: str, song: str, holds: bool) -> None:
        failed.setdefault(what, [])
        if not holds:
            failed[what].append(song)

    for i in range(songs):
        song = synth_song(5000 + i, SECONDS, RATE, 8 + i % 17)
        expert = Expert(recordings(song.stems), RATE, threads=THREADS)
        found = expert.mix()
        mix = finished(found.mix, song.stems, RATE)
        heard = played(mix, song.stems, RATE)
        level = levels(heard, RATE)
        expect("loudness within 0.5 LU", song.name, abs(level.integrated_lufs - TARGET_LUFS) <= 0.5)
        expect("true peak under -1 dBTP", song.name, level.true_peak_dbtp <= -1.0)
        expect("nothing clips", song.name, float(np.abs(heard).max()) <= 1.0)
        expect("correlation above 0", song.name, float((heard[0] * heard[1]).sum()) > 0.0)
        turned = Expert(recordings(dict(reversed(song.stems.items()))), RATE, threads=THREADS).mix().mix
        expect("the same mix in any order", song.name, turned == found.mix)
        lead = next((role for role in LEADS if role in found.roles.values()), None)
        for track in mix.tracks:
            alone = played(Mix([track], mix.buses, sample_rate=RATE), song.stems, RATE)
            role = found.roles[track.file]
            wanted = LEAD_LUFS + (0.0 if role == lead else MANNERS[role].level_lu)
            lufs = loudness(alone, RATE)
            expect("no stem 20 LU below its role", f"{song.name} {track.file}", lufs is None or lufs > wanted - 20.0)
            if role in (lead, "bass") and len(song.stems[track.file]) == 1:
                # Without the room, whose two sides are never quite alike for a tone.
                dry = played(Mix([replace(track, sends={})], sample_rate=RATE), song.stems, RATE)
                left, right = (float(np.square(side).sum()) for side in dry)
                aside = abs(right - left) / max(left + right, 1e-30)
                expect("lead and bass within 5 % of the centre", f"{song.name} {track.file}", aside <= 0.05)
    for what, songs_that_failed in failed.items():
        shown = "all" if not songs_that_failed else f"{len(songs_that_failed)} failed"
        bar(what, shown, "all", not songs_that_failed)
        for name in songs_that_failed[:5]:
            print(f"      {name}")


def methods(stems: dict[str, np.ndarray], rate: int, seed: int) -> dict[str, Mix]:
    found = {"sum": equal_gain({name: len(stem) for name, stem in stems.items()})}
    found |= {name: baseline(name, recordings(stems), rate, seed) for name in ("mono", "equal-loudness", "random")}
    expert = Expert(recordings(stems), rate, threads=THREADS)
    found["expert"] = expert.mix().mix
    found["expert --keep-levels"] = expert.mix(keep_levels=True).mix
    return found


def compared(found: dict[str, Mix], stems: dict[str, np.ndarray], target: np.ndarray, rate: int):
    """Each method's mix and its stereo MR-STFT distance to the target, both at one loudness."""
    n = target.shape[1]
    goal = normalise(target, rate, TARGET_LUFS, peak="ignore")
    results = {}
    for name, mix in found.items():
        heard = normalise(render(mix, stems, rate, end=n, threads=THREADS), rate, TARGET_LUFS, peak="ignore")
        results[name] = heard, float(sum_difference_mr_stft(heard, goal))
    return goal, results


def near(songs: int) -> None:
    from mixtools.tasks.train.families import FAMILIES, HELD_OUT, mixed_by

    print(f"{songs} songs whose mixes follow rules that nothing was trained on")
    distances: dict[str, list[float]] = {}
    vectors: dict[str, list[np.ndarray]] = {}
    for i in range(songs):
        song = synth_song(7000 + i, SECONDS, RATE, 8 + i % 9)
        family = FAMILIES[HELD_OUT[i % len(HELD_OUT)]]
        target = played(mixed_by(family, song.stems, song.roles, RATE, i), song.stems, RATE)[:, : round(SECONDS * RATE)]
        goal, results = compared(methods(song.stems, RATE, i), song.stems, target, RATE)
        vectors.setdefault("target", []).append(vector(features(goal, RATE)))
        for name, (heard, distance) in results.items():
            distances.setdefault(name, []).append(distance)
            vectors.setdefault(name, []).append(vector(features(heard, RATE)))
    print(f"    {'':<24} {'stereo MR-STFT':>16} {'to random':>10} {'Frechet':>10}")
    scale = np.maximum(np.std(vectors["target"], axis=0), 1e-6)
    fits = {name: Gaussian.of(np.array(found) / scale) for name, found in vectors.items()}
    random = np.mean(distances["random"])
    for name, found in distances.items():
        distance = frechet_distance(fits[name], fits["target"])
        print(f"    {name:<24} {np.mean(found):16.3f} {np.mean(found) / random:10.3f} {distance:10.1f}")


def real(_: int) -> None:
    if "MIXTOOLS_AUDIO" not in os.environ:
        print("real: skipped; give MIXTOOLS_AUDIO=FOLDER")
        return
    folder = Path(os.environ["MIXTOOLS_AUDIO"]) / "multitrack" / "caesium_cc0_24k"
    stems = {
        p.name: soundfile.read(p, dtype="float32", always_2d=True)[0].T for p in sorted((folder / "stems").iterdir())
    }
    target, rate = soundfile.read(folder / "mix.flac", dtype="float32", always_2d=True)
    _, results = compared(methods(stems, rate, 0), stems, target.T, rate)
    print("a released record, stereo MR-STFT")
    for name, (_, distance) in results.items():
        print(f"    {name:<24} {distance:.3f}")


def timed(_: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        song = synth_song(1, 240.0, RATE, 24)
        for name, samples in song.stems.items():
            soundfile.write(Path(folder) / name, samples.T, RATE, "PCM_24")
        words = [sys.executable, "-m", "mixtools", "mix", folder, "-o", f"{folder}/../mixed.wav", "-q", "--force"]
        done = subprocess.run([sys.executable, "-c", WATCH, *words], check=True, capture_output=True, text=True)
        seconds, kilobytes = done.stdout.split()
        Path(f"{folder}/../mixed.wav").unlink()
    bar("24 stems of 4 minutes, whole process", f"{float(seconds):.1f} s", "30 s", float(seconds) <= 30.0)
    print(f"    {int(kilobytes) / 1024:.0f} MiB")


BENCHES = {"sound": sound, "near": near, "real": real, "time": timed}


def main() -> None:
    songs = 100
    asked = []
    for word in sys.argv[1:]:
        if word.startswith("songs="):
            songs = int(word.removeprefix("songs="))
        elif word in BENCHES:
            asked.append(word)
        else:
            sys.exit(f"automix.py: {word} is not a bench; give {', '.join(BENCHES)}")
    for name in asked or BENCHES:
        BENCHES[name](songs)


if __name__ == "__main__":
    main()
