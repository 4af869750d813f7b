"""How sound automatic mixes are, and how near they come to finished ones: the papers' Tables 12 and 13, and the bars.

python tests/bench/automix.py [songs=100] [model=NAME|FILE ...] [vggish=FILE] [minutes=10]
                              [sound|dry|near|real|time|direct ...]

All benches run unless some are named. `sound` checks the mixes of synthesised songs; `dry` compares every method with
mixes of faders and pans only, by families of rules that nothing was trained on (Table 12); `near` does so with EQ,
compression and reverb (Table 13); `real` compares with the record of MIXTOOLS_AUDIO; `time` takes a whole process on 24
stems of 4 minutes. `direct` trains the papers' network from stems straight to their mix, and a console of faders and
pans, on the same songs for so many minutes of CPU each, and compares them. Models are compared besides the expert,
those that come with mixtools unless named. Frechet distances are over the feature vectors, or over VGGish's embeddings
where its weights are given.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from measures import WATCH

from mixtools import Gaussian, features, frechet_distance, levels, render, sum_difference_mr_stft, synth_song
from mixtools.dsp.console import Console
from mixtools.files.checkpoints import TrainingFolder
from mixtools.files.corpora import open_corpus
from mixtools.files.models import bundled, open_model
from mixtools.measure.features import vector
from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Mix
from mixtools.nets.dmc import Spec
from mixtools.nets.training import Progress
from mixtools.nets.wave_u_net import DirectMixer
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.expert import LEAD_LUFS, Engineered, Expert
from mixtools.tasks.automix.mastering import mastered
from mixtools.tasks.automix.model import Model
from mixtools.tasks.automix.rules import LEADS, MANNERS
from mixtools.tasks.automix.supervision import supervised
from mixtools.tasks.loudnorm import normalise
from mixtools.tasks.mix import equal_gain
from mixtools.tasks.recordings import ArrayRecording, Playing
from mixtools.tasks.train.families import DRY, EFFECTS, FAMILIES, HELD_OUT, mixed_by
from mixtools.tasks.train.mix import (
    Data,
    Lessons,
    Mixer,
    nearness,
    new_console,
    papers_training,
    sound_of,
    train_mixer,
)

RATE = 44100
SECONDS = 10.0
THREADS = 2
TARGET_LUFS = -16.0
INPUTS, DIRECT_CHANNELS = 8, 24


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


@dataclass(frozen=True)
class Asked:
    songs: int
    minutes: float
    models: dict[str, Model]
    vggish: str | None


def engineered(model: Model | None, expert: Expert, keep_levels: bool = False) -> Engineered:
    """As `mixtools mix` does it."""
    if model is None:
        return expert.mix(keep_levels=keep_levels)
    return supervised(expert, model.mix(expert.stems, expert.rate, expert.ranges), keep_levels=keep_levels)


def sound(asked: Asked) -> None:
    for name, model in {"expert": None, **asked.models}.items():
        checked(name, model, asked.songs)


def checked(mixer: str, model: Model | None, songs: int) -> None:
    """What every mix has to be, whatever it is like."""
    print(f"{mixer}: mixes of {songs} synthesised songs of 8 to 24 stems, {SECONDS:g} s")
    failed: dict[str, list[str]] = {}

    def expect(what: str, song: str, holds: bool) -> None:
        failed.setdefault(what, [])
        if not holds:
            failed[what].append(song)

    for i in range(songs):
        song = synth_song(5000 + i, SECONDS, RATE, 8 + i % 17)
        expert = Expert(recordings(song.stems), RATE, threads=THREADS)
        found = engineered(model, expert)
        mix = finished(found.mix, song.stems, RATE)
        heard = played(mix, song.stems, RATE)
        level = levels(heard, RATE)
        expect("loudness within 0.5 LU", song.name, abs(level.integrated_lufs - TARGET_LUFS) <= 0.5)
        expect("true peak under -1 dBTP", song.name, level.true_peak_dbtp <= -1.0)
        expect("nothing clips", song.name, float(np.abs(heard).max()) <= 1.0)
        expect("correlation above 0", song.name, float((heard[0] * heard[1]).sum()) > 0.0)
        turned = Expert(recordings(dict(reversed(song.stems.items()))), RATE, threads=THREADS)
        expect("the same mix in any order", song.name, engineered(model, turned).mix == found.mix)
        lead = next((role for role in LEADS if role in found.roles.values()), None)
        for track in mix.tracks:
            alone = played(Mix([track], mix.buses, sample_rate=RATE), song.stems, RATE)
            role = found.roles[track.file]
            wanted = LEAD_LUFS + (0.0 if role == lead else MANNERS[role].level_lu)
            lufs = loudness(alone, RATE)
            expect("no stem 20 LU below its role", f"{song.name} {track.file}", lufs is None or lufs > wanted - 20.0)
            if role in (lead, "bass") and len(song.stems[track.file]) == 1:
                # Without the room, whose two sides are never quite alike for a tone.
                plain = played(Mix([replace(track, sends={})], sample_rate=RATE), song.stems, RATE)
                left, right = (float(np.square(side).sum()) for side in plain)
                aside = abs(right - left) / max(left + right, 1e-30)
                expect("lead and bass within 5 % of the centre", f"{song.name} {track.file}", aside <= 0.05)
    for what, songs_that_failed in failed.items():
        shown = "all" if not songs_that_failed else f"{len(songs_that_failed)} failed"
        bar(what, shown, "all", not songs_that_failed)
        for name in songs_that_failed[:5]:
            print(f"      {name}")


def methods(stems: dict[str, np.ndarray], rate: int, seed: int, models: dict[str, Model]) -> dict[str, Mix]:
    found = {name: baseline(name, recordings(stems), rate, seed) for name in ("mono", "random", "equal-loudness")}
    found["sum"] = equal_gain({name: len(stem) for name, stem in stems.items()})
    expert = Expert(recordings(stems), rate, threads=THREADS)
    for name, model in {"expert": None, **models}.items():
        found[name] = engineered(model, expert).mix
        found[f"{name} --keep-levels"] = engineered(model, expert, keep_levels=True).mix
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


def dry(asked: Asked) -> None:
    print(f"{asked.songs} songs, mixed with faders and pans by rules that nothing was trained on")
    table(asked, DRY)


def near(asked: Asked) -> None:
    print(f"{asked.songs} songs, mixed with EQ, compression and reverb by rules that nothing was trained on")
    table(asked, EFFECTS)


def table(asked: Asked, effects: tuple[str, ...]) -> None:
    distances: dict[str, list[float]] = {}
    vectors: dict[str, list[np.ndarray]] = {}
    embedded = embedding(asked.vggish)
    for i in range(asked.songs):
        song = synth_song(7000 + i, SECONDS, RATE, 8 + i % 9)
        family = FAMILIES[HELD_OUT[i % len(HELD_OUT)]]
        goal = played(mixed_by(family, song.stems, song.roles, RATE, i, effects), song.stems, RATE)
        found = methods(song.stems, RATE, i, asked.models)
        goal, results = compared(found, song.stems, goal[:, : round(SECONDS * RATE)], RATE)
        vectors.setdefault("target", []).extend(embedded(goal))
        for name, (heard, distance) in results.items():
            distances.setdefault(name, []).append(distance)
            vectors.setdefault(name, []).extend(embedded(heard))
    print(f"    {'':<24} {'stereo MR-STFT':>16} {'to random':>10} {'Frechet':>10}")
    scale = 1.0 if asked.vggish else np.maximum(np.std(vectors["target"], axis=0), 1e-6)
    fits = {name: Gaussian.of(np.array(found) / scale) for name, found in vectors.items()}
    random = np.mean(distances["random"])
    for name, found in distances.items():
        distance = frechet_distance(fits[name], fits["target"])
        print(f"    {name:<24} {np.mean(found):16.3f} {np.mean(found) / random:10.3f} {distance:10.2f}", flush=True)


def embedding(vggish: str | None):
    """What Frechet distances are over: a mix (2, n) to vectors."""
    if vggish is None:
        return lambda mix: [vector(features(mix, RATE))]
    import soxr

    from mixtools.files.weights import read_weights
    from mixtools.nets.vggish import RATE_HZ, VGGish

    net = VGGish.load(read_weights(vggish), vggish)
    return lambda mix: net.embed(soxr.resample(mix.mean(axis=0), RATE, RATE_HZ, "HQ"))


def real(asked: Asked) -> None:
    if "MIXTOOLS_AUDIO" not in os.environ:
        print("real: skipped; give MIXTOOLS_AUDIO=FOLDER")
        return
    folder = Path(os.environ["MIXTOOLS_AUDIO"]) / "multitrack" / "caesium_cc0_24k"
    stems = {
        p.name: soundfile.read(p, dtype="float32", always_2d=True)[0].T for p in sorted((folder / "stems").iterdir())
    }
    target, rate = soundfile.read(folder / "mix.flac", dtype="float32", always_2d=True)
    _, results = compared(methods(stems, rate, 0, asked.models), stems, target.T, rate)
    print("a released record, stereo MR-STFT")
    for name, (_, distance) in results.items():
        print(f"    {name:<24} {distance:.3f}")


def timed(asked: Asked) -> None:
    print("24 stems of 4 minutes, whole process")
    with tempfile.TemporaryDirectory() as folder:
        stems = Path(folder) / "stems"
        stems.mkdir()
        for name, samples in synth_song(1, 240.0, RATE, 24).stems.items():
            soundfile.write(stems / name, samples.T, RATE, "PCM_24")
        for name, limit in {"expert": 30.0, **dict.fromkeys(asked.models, 60.0)}.items():
            words = [sys.executable, "-m", "mixtools", "mix", str(stems), "-o", f"{folder}/mix.wav", "-q", "--force"]
            words += [] if name == "expert" else ["--model", name]
            done = subprocess.run([sys.executable, "-c", WATCH, *words], check=True, capture_output=True, text=True)
            seconds, kilobytes = map(float, done.stdout.split())
            bar(name, f"{seconds:.1f} s", f"{limit:g} s", seconds <= limit)
            print(f"    {kilobytes / 1024:.0f} MiB")


def direct(asked: Asked) -> None:
    print(f"{asked.songs} songs of at most {INPUTS} stems, mixed as for `dry`; {asked.minutes:g} minutes of CPU each")
    data = Data(4.0, 22050, INPUTS, balanced=0.0, apart=2)
    held_out = replace(data, families=HELD_OUT, apart=64, seed=1)
    lessons = Lessons(open_corpus("synth:5"), data, 640)
    compared = Lessons(open_corpus("synth:71"), held_out, asked.songs)
    examples = [compared.example(i) for i in range(asked.songs)]
    torch.manual_seed(0)
    nets = {
        "direct": DirectMixer(INPUTS, DIRECT_CHANNELS, "told"),
        "console": new_console(Spec("basic", "small", 512), data.rate),
    }
    for name, net in nets.items():
        steps = trained(net, lessons, asked.minutes)
        found = nearness(lambda stems, rate, net=net: sound_of(net, stems, data), examples, data.rate)
        size = sum(p.numel() for p in net.parameters()) / 1e6
        print(f"    {name:<10} {size:6.1f} million, {steps:5} steps of 8 {found.ratio:10.3f} of random", flush=True)


def trained(net: Mixer, lessons: Lessons, minutes: float) -> int:
    """Train for so long; gives how many steps that were."""
    began, steps = time.process_time(), 0

    def watched(now: Progress) -> None:
        nonlocal steps
        steps = now.step
        if time.process_time() - began > 60.0 * minutes:
            raise KeyboardInterrupt

    config = replace(papers_training("basic", 10**6, batch=8), validate_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train_mixer(net, lessons, lessons, config, TrainingFolder(f"{folder}/run"), 8, progress=watched)
        except KeyboardInterrupt:
            if time.process_time() - began <= 60.0 * minutes:
                raise
    return steps


BENCHES = {"sound": sound, "dry": dry, "near": near, "real": real, "time": timed, "direct": direct}


def opened(name: str) -> Model:
    tensors, about = open_model(name, "mix")
    return Model.load(tensors, about, name)


def main() -> None:
    songs, minutes, vggish = 100, 10.0, None
    asked, models = [], []
    for word in sys.argv[1:]:
        option, _, value = word.partition("=")
        if option == "songs":
            songs = int(value)
        elif option == "minutes":
            minutes = float(value)
        elif option == "model":
            models.append(value)
        elif option == "vggish":
            vggish = value
        elif word in BENCHES:
            asked.append(word)
        else:
            sys.exit(f"automix.py: {word} is not a bench; give {', '.join(BENCHES)}")
    given = Asked(songs, minutes, {name: opened(name) for name in models or bundled("mix")}, vggish)
    for name in asked or BENCHES:
        BENCHES[name](given)


if __name__ == "__main__":
    main()
