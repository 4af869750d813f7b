"""How well and how fast mixes are fitted: the paper's figure, ours, and the bar, on audio that no fit has seen.

python tests/bench/fit.py [quick] [songs=5] [stereo|individual|gain|mastered|time|real ...]     all but real by default

The songs are synthesised; every fit hears the first 30 s of 45, and is measured on the rest. `quick` takes 2 songs of
6 stems and hears 10 s of 15. `real` needs MIXTOOLS_AUDIO, a folder of recordings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from measures import WATCH

sys.path.insert(0, str(Path(__file__).parent.parent))

import fit_truth
from fit_truth import Truth, residual_db

from mixtools import features, relative_errors, render, synth_song
from mixtools.measure.catalogue import TABLE2_GROUP
from mixtools.synth import STYLES, Song
from mixtools.synth.score import FEWEST_STEMS
from mixtools.tasks.fit import Options, fit
from mixtools.tasks.recordings import ArrayRecording, padded

RATE = 44100
STEREO_S, INDIVIDUAL_S = 1.0, 0.5
"""How long the reverbs of the two models are."""

LONGEST_WHOLE_S = 60
"""Of longer songs excerpts are fitted, as anybody would."""

CONTROL_BARS = {"gain_db": 0.1, "pan": 0.01, "delay_samples": 1.0, "dry_db": 0.5, "wet_db": 1.0}
REAL_BARS = {"individual-bus": -8.5, "console": -10.0}


@dataclass(frozen=True)
class Size:
    """How much is fitted, and how much of it is heard."""

    songs: int = 5
    stems: tuple[int, int] = (10, 20)
    heard_s: int = 30
    whole_s: int = 45

    def song(self, i: int) -> Song:
        """The i-th song, each in another style: the first of its seeds in which no stem begins only after `heard_s`."""
        fewest, most = self.stems
        stems = fewest + round((most - fewest) * i / max(self.songs - 1, 1))
        return next(
            song for song in self._songs(100 * (i + 1), stems, STYLES[i % len(STYLES)]) if self._all_heard(song)
        )

    def _songs(self, seed: int, stems: int, style: str) -> Iterator[Song]:
        while True:
            song = synth_song(seed, self.whole_s, RATE, max(stems, FEWEST_STEMS), style)
            yield replace(song, stems=dict(list(song.stems.items())[:stems]))
            seed += 1

    def _all_heard(self, song: Song) -> bool:
        heard = self.heard_s * song.rate
        stems = fit_truth.mono_stems(song).values()
        return all(np.square(stem[:, :heard]).mean() > 0.25 * np.square(stem[:, heard:]).mean() for stem in stems)


@dataclass(frozen=True)
class Outcome:
    """A fit, measured: dB relative to the mix, and total relative errors of the 23 features, heard and unseen."""

    seconds: float
    heard_db: float
    unseen_db: float
    heard_error: float | None
    unseen_error: float | None
    controls: dict[str, float]

    def __str__(self) -> str:
        controls = "".join(f", {name} {value:.3g}" for name, value in self.controls.items())
        return (
            f"{self.seconds:6.1f} s, residual {self.heard_db:6.1f} dB, unseen {self.unseen_db:6.1f} dB, "
            f"features {percent(self.heard_error)}, unseen {percent(self.unseen_error)}{controls}"
        )


class FileRecording:
    """A file that is read where it is asked for."""

    def __init__(self, path: Path):
        self._file = soundfile.SoundFile(path)
        self.channels, self.frames = self._file.channels, self._file.frames

    def read(self, start: int, frames: int) -> np.ndarray:
        return padded(self._between, self.channels, self.frames, start, frames)

    def _between(self, first: int, last: int) -> np.ndarray:
        self._file.seek(first)
        return self._file.read(last - first, "float32", always_2d=True).T


def fitted(truth: Truth, size: Size, options: Options) -> tuple[Outcome, object]:
    """A fit of the first `heard_s`, rendered and measured on all of the mix."""
    recordings = {name: ArrayRecording(stem) for name, stem in truth.stems.items()}
    began = time.perf_counter()
    found = fit(recordings, ArrayRecording(truth.target), truth.rate, replace(options, end_s=size.heard_s))
    seconds = time.perf_counter() - began
    for warning in found.warnings:
        print(f"      warning: {warning}")
    estimate = rendered(found, truth)
    heard, unseen = slice(0, size.heard_s * truth.rate), slice(size.heard_s * truth.rate, None)
    controls = {}
    if truth.mix is not None and options.model == "stereo-bus":
        controls = fit_truth.worst(fit_truth.compare_controls(truth, found.mix, found.responses, heard.stop))
    outcome = Outcome(
        seconds,
        *(residual_db(estimate[:, part], truth.target[:, part]) for part in (heard, unseen)),
        *(feature_error(estimate[:, part], truth.target[:, part], truth.rate) for part in (heard, unseen)),
        controls,
    )
    return outcome, found


def rendered(found, truth: Truth) -> np.ndarray:
    responses = {name: (response, truth.rate) for name, response in found.responses.items()}
    return render(found.mix, truth.stems, truth.rate, responses=responses, end=truth.target.shape[1], threads=2)


def feature_error(estimate: np.ndarray, target: np.ndarray, rate: int) -> float | None:
    measured = (features(np.ascontiguousarray(x), rate, [TABLE2_GROUP]) for x in (estimate, target))
    return relative_errors(*measured)["total"]


def percent(error: float | None) -> str:
    return "undefined" if error is None else f"{100 * error:.2f} %"


def mean_percent(errors: list[float | None]) -> float:
    return 100 * float(np.mean([np.nan if error is None else error for error in errors]))


def bar(what: str, paper: str, measured: float, unit: str, limit: float) -> None:
    """One line of the table: what the paper has, what was measured, and the most that is allowed."""
    verdict = "met" if measured <= limit else "MISSED"
    print(f"  {what:<72} paper {paper:>7}   measured {measured:8.3g} {unit:<3} bar {limit:6g} {unit:<3} {verdict}")


def each_song(size: Size, truths, options: Options, title: str) -> list[Outcome]:
    print(title)
    outcomes = []
    for i in range(size.songs):
        truth = truths(size.song(i), i)
        outcome, _ = fitted(truth, size, options)
        print(f"    song {i + 1}, {len(truth.stems):2} stems: {outcome}", flush=True)
        outcomes.append(outcome)
    return outcomes


def stereo(size: Size) -> None:
    options = Options(model="stereo-bus", reverb_s=STEREO_S)
    own = each_song(size, lambda song, i: fit_truth.own_mix(song, i), options, "stereo bus, our console")
    foreign = each_song(size, lambda song, i: fit_truth.foreign_mix(song, i), options, "stereo bus, foreign engine")
    bar("features, our console, mean", "6.94 %", mean_percent([o.unseen_error for o in own]), "%", 0.5)
    bar("features, foreign engine, mean", "6.94 %", mean_percent([o.unseen_error for o in foreign]), "%", 1.5)
    bar("unseen residual, our console, worst", "-", max(o.unseen_db for o in own), "dB", -40.0)
    for name, limit in CONTROL_BARS.items():
        bar(f"{name} off by at most, our console, where the stem has energy", "-", *_worst_of(own, name), limit)


def _worst_of(outcomes: list[Outcome], name: str) -> tuple[float, str]:
    unit = "dB" if name.endswith("_db") else ""
    return max(outcome.controls[name] for outcome in outcomes), unit


def individual(size: Size) -> None:
    options = Options(model="individual-bus", reverb_s=INDIVIDUAL_S)
    own, foreign = (
        each_song(
            size,
            lambda song, i, make=make: make(song, i, "individual-bus", INDIVIDUAL_S),
            options,
            f"individual bus, {name}",
        )
        for make, name in ((fit_truth.own_mix, "our console"), (fit_truth.foreign_mix, "foreign engine"))
    )
    bar("features, our console, mean", "69.4 %", mean_percent([o.unseen_error for o in own]), "%", 1.0)
    bar("features, foreign engine, mean", "69.4 %", mean_percent([o.unseen_error for o in foreign]), "%", 1.0)
    bar(f"unseen residual, foreign engine, {size.stems[0]} stems", "-", foreign[0].unseen_db, "dB", -35.0)


def gain(size: Size) -> None:
    """The baseline beside `numpy.linalg.lstsq`, by what an impulse in each stem makes of the mix."""
    print("gain mix of the foreign engine's stereo bus")
    agreements, errors = [], []
    for i in range(size.songs):
        truth = fit_truth.foreign_mix(size.song(i), i)
        outcome, found = fitted(truth, size, Options(model="gain", align=False))
        heard = size.heard_s * truth.rate
        columns = np.concatenate([stem[:, :heard] for stem in truth.stems.values()]).T.astype(np.float64)
        target = truth.target[:, :heard].T.astype(np.float32).astype(np.float64)
        independent = np.linalg.lstsq(columns, target, rcond=None)[0]
        agreement = np.abs(impulse_gains(found, truth) - independent).max() / np.abs(independent).max()
        print(f"    song {i + 1}, {len(truth.stems):2} stems: {outcome}, from lstsq {agreement:.1e}", flush=True)
        agreements.append(agreement)
        errors.append(outcome.heard_error)
    bar("largest difference from numpy.linalg.lstsq", "-", max(agreements), "", 1e-6)
    print(f"  features, heard, mean: paper 23.7 %, measured {mean_percent(errors):.3g} %")


def impulse_gains(found, truth: Truth) -> np.ndarray:
    """Left and right amplitude of every stem in a mix of nothing but gains, (stems, 2)."""
    silence = {name: np.zeros((1, 1)) for name in truth.stems}
    return np.stack([render(found.mix, silence | {name: np.ones((1, 1))}, RATE, end=1)[:, 0] for name in truth.stems])


def mastered(size: Size) -> None:
    print("compressors on tracks and a limiter on the master, our console")
    gains = []
    for i in range(size.songs):
        truth = fit_truth.mastered(size.song(i), i, INDIVIDUAL_S)
        linear, _ = fitted(truth, size, Options(model="individual-bus", reverb_s=INDIVIDUAL_S))
        console, _ = fitted(truth, size, Options(model="console", reverb_s=INDIVIDUAL_S))
        gains.append(console.unseen_db - linear.unseen_db)
        print(f"    song {i + 1}, {len(truth.stems):2} stems, linear:  {linear}")
        print(f"    song {i + 1}, {len(truth.stems):2} stems, console: {console}", flush=True)
    bar("unseen residual, console less best linear fit, mean", "-", float(np.mean(gains)), "dB", -12.0)
    bar("unseen residual, console less best linear fit, worst", "-", max(gains), "dB", -12.0)


def timed(size: Size) -> None:
    """Whole processes, start and imports included: seconds, and the most memory they held."""
    print("seconds and memory of a stereo bus fit with a 1 s impulse response")
    scale = size.heard_s / 30
    took = {}
    for stems, seconds in ((8, 30), (16, 15), (16, 30), (16, 60), (24, 300)):
        took[stems, seconds] = one_process(stems, round(scale * seconds))
        print(
            f"    {stems} stems x {scale * seconds:g} s: {took[stems, seconds][0]:.1f} s, "
            f"{took[stems, seconds][1]:.0f} MiB",
            flush=True,
        )
    bar("16 stems x 30 s", "-", took[16, 30][0], "s", 60.0)
    bar("twice the stems, times the time", "-", took[16, 30][0] / took[8, 30][0], "", 2.2)
    bar("twice the length, times the time", "-", took[16, 60][0] / took[16, 30][0], "", 2.2)
    bar("24 stems x 5 minutes", "-", took[24, 300][0], "s", 300.0)
    bar("24 stems x 5 minutes, memory", "-", took[24, 300][1], "MiB", 4096.0)


def one_process(stems: int, seconds: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        for step in ("write", "read"):
            words = [sys.executable, __file__, step, folder, str(stems), str(seconds)]
            done = subprocess.run([sys.executable, "-c", WATCH, *words], check=True, capture_output=True, text=True)
        took, kilobytes = done.stdout.split()
        return float(took), int(kilobytes) / 1024


def write_session(folder: Path, stems: int, seconds: int) -> None:
    truth = fit_truth.own_mix(synth_song(100, seconds, RATE, stems), 0)
    for name, audio in {**truth.stems, "../mix.wav": truth.target}.items():
        (folder / "stems").mkdir(exist_ok=True)
        soundfile.write(folder / "stems" / name, audio.T, RATE, "FLOAT")


def fit_session(folder: Path, options: Options):
    paths = sorted((folder / "stems").iterdir())
    (mix,) = folder.glob("mix.*")
    rate = soundfile.info(mix).samplerate
    return fit({path.name: FileRecording(path) for path in paths}, FileRecording(mix), rate, options)


def real(size: Size) -> None:
    if "MIXTOOLS_AUDIO" not in os.environ:
        print("real: skipped; give MIXTOOLS_AUDIO=FOLDER")
        return
    print("a released, mastered record, validated on alternate blocks of 5 s")
    session = Path(os.environ["MIXTOOLS_AUDIO"]) / "multitrack" / "caesium_cc0_24k"
    for model, limit in REAL_BARS.items():
        began = time.perf_counter()
        report = fit_session(session, Options(model=model, validate=True)).report
        print(f"    {model}: {time.perf_counter() - began:.1f} s, residual {report['residual_db']:.1f} dB", flush=True)
        bar(f"unseen residual, {model}", "-", report["unseen_residual_db"], "dB", limit)


BENCHES = {
    "stereo": stereo,
    "individual": individual,
    "gain": gain,
    "mastered": mastered,
    "time": timed,
    "real": real,
}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] in (["write"], ["read"]):
        folder, stems, seconds = Path(words[1]), int(words[2]), int(words[3])
        if words[0] == "write":
            write_session(folder, stems, seconds)
        else:
            fit_session(folder, Options(reverb_s=STEREO_S, start_s=0.0 if seconds <= LONGEST_WHOLE_S else None))
        return
    size = Size(songs=2, stems=(6, 6), heard_s=10, whole_s=15) if "quick" in words else Size()
    for word in words:
        if word.startswith("songs="):
            size = replace(size, songs=int(word.removeprefix("songs=")))
    asked = [word for word in words if word != "quick" and not word.startswith("songs=")]
    unknown = [word for word in asked if word not in BENCHES]
    if unknown:
        sys.exit(f"fit.py: {unknown[0]} is not a bench; give {', '.join(BENCHES)}")
    for name in asked or [name for name in BENCHES if name != "real"]:
        BENCHES[name](size)


if __name__ == "__main__":
    main()
