"""How near transferred mixes come to their records: the paper's loss, what lies outside it, and the bars.

python tests/bench/transfer.py [real|synth|own|many|time ...] [songs=WORD,...] [references=WORD,...] [steps=N]
                               [start=NAME|FILE]

`real` takes every stems folder and every record of MIXTOOLS_AUDIO whose names hold one of the words (all, unless
given), `synth` synthesised songs and finished mixes of others, `own` transfers mixes onto their own stems, `many`
compares 64 tracks with 16, and `time` takes 12 stems of 4 minutes. The search starts from the mix by rules, or from the
answer of the controller that `start` names, which is then measured, too.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from mixtools import features, levels, relative_errors, render, synth_song
from mixtools.dsp.console import Console
from mixtools.files.models import open_model
from mixtools.measure.audio_features import AF_TERMS, BARK_FFT, audio_feature_loss
from mixtools.measure.catalogue import TABLE2
from mixtools.measure.features import Measures
from mixtools.measure.filterbanks import bark
from mixtools.mix import Mix
from mixtools.synth import finished_mix
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.expert import Engineered, Expert
from mixtools.tasks.excerpts import Range, merged
from mixtools.tasks.loudnorm import normalise
from mixtools.tasks.recordings import ArrayRecording, Playing
from mixtools.tasks.transfer.controller import Controller
from mixtools.tasks.transfer.engine import Transferred, mastered_as_wanted, transfer
from mixtools.tasks.transfer.goal import Goal, Reference, features_at, goal_of, resampled
from mixtools.tasks.transfer.options import STEPS
from mixtools.tasks.transfer.places import near_centre

THREADS = 2
LUFS = -16.0
MATCH_DB, MATCH_TAPS = 24.0, 8191
WIDE = 0.05
"""From this width on a reference is wide."""

OFF_CENTRE = 0.02
LOST_DB = 20.0
NEGLIGIBLE = 1e-4

Stems = dict[str, np.ndarray]

CONTROLLER: Controller | None = None
"""Where the search starts."""


@dataclass
class Song:
    name: str
    stems: Stems
    rate: int
    recordings: dict[str, ArrayRecording]
    expert: Engineered
    equal: Mix
    equal_audio: np.ndarray
    expert_audio: np.ndarray
    equal_powers: dict[str, float]
    start_powers: dict[str, float]
    measured: dict[tuple[str, int], Measures] = field(default_factory=dict)


def song_of(name: str, stems: Stems, rate: int) -> Song:
    recordings = {file: ArrayRecording(x) for file, x in stems.items()}
    expert = Expert(recordings, rate, threads=THREADS).mix()
    equal = baseline("equal-loudness", recordings, rate)
    mixes = [render(mix, stems, rate, threads=THREADS, tail=0) for mix in (equal, expert.mix)]
    powers = [power(mix, stems, rate) for mix in (equal, expert.mix)]
    return Song(name, stems, rate, recordings, expert, equal, *mixes, *powers)


def read(path: Path) -> tuple[np.ndarray, int]:
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.ascontiguousarray(x.T), rate


def cut(x: np.ndarray, ranges: list[Range]) -> np.ndarray:
    return np.concatenate([x[:, first:last] for first, last in ranges], axis=1)


def others(ranges: list[Range], frames: int, rate: int) -> list[Range]:
    """What ranges leave out, pieces of a second or more."""
    ends = [0, *(place for pair in merged(ranges) for place in pair), frames]
    return [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if b - a >= rate]


def match_eq(x: np.ndarray, ranges: list[Range], rate: int, wanted: np.ndarray, its_rate: int) -> np.ndarray:
    """A mix with one equaliser each for middle and sides, and a balance, that make its mean spectra those wanted."""
    compared = min(rate, its_rate)
    wanted = resampled(wanted, its_rate, compared)
    x = resampled(x, rate, compared)
    parts = cut(x, [(a * compared // rate, b * compared // rate) for a, b in ranges])
    parts, wanted = (normalise(y, compared, LUFS, peak="ignore", dual_mono=True) for y in (parts, wanted))
    hz = np.linspace(0.0, compared / 2, BARK_FFT // 2 + 1)
    places = np.round(3 * bark(hz)).astype(int) + 3
    counts = np.maximum(np.bincount(places), 1)
    filled = np.unique(places)
    spectra = []
    for y in (parts, np.broadcast_to(wanted, (2, wanted.shape[1]))):
        sides = torch.from_numpy(np.stack([y[0] + y[1], y[0] - y[1]]).astype(np.float32))
        mean = (
            sides.stft(BARK_FFT, BARK_FFT // 4, window=torch.hann_window(BARK_FFT), return_complex=True).abs().mean(-1)
        )
        spectra.append([np.bincount(places, side) / counts for side in mean.numpy()])
    middles = (np.bincount(places, hz) / counts)[filled]
    filtered = []
    for side, was, goal in zip((x[0] + x[1], x[0] - x[1]), *spectra, strict=True):
        gain_db = 20.0 * np.log10(np.maximum(goal[filled], 1e-6) / np.maximum(was[filled], 1e-6))
        curve = np.interp(hz, middles, np.clip(gain_db, -MATCH_DB, MATCH_DB))
        taps = np.fft.irfft(10.0 ** (curve / 20.0))
        half = MATCH_TAPS // 2
        taps = np.roll(taps, half)[:MATCH_TAPS] * np.hanning(MATCH_TAPS)
        size = 1 << int(np.ceil(np.log2(len(side) + len(taps))))
        y = np.fft.irfft(np.fft.rfft(side, size) * np.fft.rfft(taps, size), size)
        filtered.append(y[half : half + len(side)])
    y = 0.5 * np.stack([filtered[0] + filtered[1], filtered[0] - filtered[1]])
    powers = np.square(cut(y, [(a * compared // rate, b * compared // rate) for a, b in ranges])).mean(axis=1)
    goal = np.square(np.broadcast_to(wanted, (2, wanted.shape[1])), dtype=np.float64).mean(axis=1)
    gains = np.sqrt(goal / np.maximum(powers, 1e-12))
    return (y * gains[:, None]).astype(np.float32)


def measured(x: np.ndarray, rate: int, compared: int) -> Measures:
    x = normalise(resampled(x, rate, compared), compared, LUFS, peak="ignore", dual_mono=True)
    return features(x, compared, list(TABLE2))


def outside(found: Measures, wanted: Measures) -> float:
    """Mean relative error of Table II's features without its loudness group."""
    errors = relative_errors(found, wanted)["features"]
    return float(np.mean([e for name, e in errors.items() if not name.startswith("loudness.") and e is not None]))


def power(mix: Mix, stems: Stems, rate: int) -> dict[str, float]:
    """How loud every track is in a mix before its master and without its sends, in dB."""
    found = {}
    for track in mix.tracks:
        alone = Mix([replace(track, sends={})], sample_rate=rate)
        x = render(alone, {track.file: stems[track.file]}, rate, threads=THREADS, tail=0)
        found[track.file] = 10.0 * np.log10(max(float(np.mean(np.square(x, dtype=np.float64))), 1e-20))
    return found


def relative(a: dict[str, float], b: dict[str, float]) -> np.ndarray:
    """By how much levels differ, but for one gain for all of them."""
    names = [name for name in a if a[name] > -120.0 and b[name] > -120.0]
    change = np.array([a[name] - b[name] for name in names])
    return change - np.median(change) if len(change) else np.zeros(1)


def opener(song: Song):
    return lambda mix: Console(
        mix, [Playing(song.recordings[track.file]) for track in mix.tracks], song.rate, threads=THREADS
    )


@dataclass
class Row:
    """What was found for a pair."""

    name: str
    losses: dict[str, dict[str, float]]
    held_out: dict[str, float]
    outside: dict[str, float]
    level_change_db: float
    panned: float
    wide: bool
    lost: int
    short_lu: float
    seconds: float


def answer(song: Song, goal: Goal, wanted: np.ndarray, its_rate: int) -> Mix | None:
    """The controller's mix of a song like a record; None without a controller."""
    if CONTROLLER is None:
        return None
    heard = ArrayRecording(resampled(wanted, its_rate, song.rate))
    ranges = [(a * song.rate // its_rate, b * song.rate // its_rate) for a, b in goal.ranges[0]]
    mix = CONTROLLER.mix(song.recordings, [heard], song.rate, reference_ranges=[ranges])
    return near_centre(mix, song.expert.roles)


def pair(song: Song, name: str, wanted: np.ndarray, its_rate: int, steps: int) -> tuple[Row, Transferred, Goal]:
    began = time.process_time()
    goal = goal_of([Reference(name, ArrayRecording(wanted), its_rate)], song.rate)
    answered = answer(song, goal, wanted, its_rate)
    start = answered or song.expert.mix
    result = transfer(song.recordings, song.rate, goal, start, roles=song.expert.roles, steps=steps, threads=THREADS)
    done = mastered_as_wanted(result.found, opener(song), result)
    final = done.mix
    seconds = time.process_time() - began
    heard = render(final, song.stems, song.rate, threads=THREADS, tail=0)
    compared = goal.rate
    matched = match_eq(song.equal_audio, result.ranges, song.rate, cut(wanted, goal.ranges[0]), its_rate)
    audio = {
        "equal loudness": (song.equal_audio, song.rate),
        "match EQ": (matched, min(song.rate, its_rate)),
        "expert": (song.expert_audio, song.rate),
        "transfer": (heard, song.rate),
    }
    if answered is not None:
        audio["controller"] = render(answered, song.stems, song.rate, threads=THREADS, tail=0), song.rate
    losses, held_out, errors = {}, {}, {}
    measured_target = measured(wanted, its_rate, compared)
    rest = others(result.ranges, song.equal_audio.shape[1], song.rate)
    rest_of_it = others(goal.ranges[0], wanted.shape[1], its_rate)
    target = features_at(
        cut(wanted, rest_of_it) if sum(b - a for a, b in rest_of_it) > 5 * its_rate else wanted, its_rate, compared
    )
    for method, (x, rate) in audio.items():
        at = [(a * rate // song.rate, b * rate // song.rate) for a, b in result.ranges]
        losses[method] = goal.loss(features_at(cut(x, at), rate, compared))
        if rest:
            at = [(a * rate // song.rate, b * rate // song.rate) for a, b in rest]
            found = features_at(cut(x, at), rate, compared)
            held_out[method] = float(audio_feature_loss(found, target)["total"]) if found else np.nan
        if (method, compared) not in song.measured or method in ("match EQ", "transfer", "controller"):
            song.measured[method, compared] = measured(x, rate, compared)
        errors[method] = outside(song.measured[method, compared], measured_target)
    now = power(result.found, song.stems, song.rate)
    pans = [
        next((insert.controls["pan"] for insert in track.chain if insert.effect == "pan"), 0.5)
        for track in result.found.tracks
    ]
    row = Row(
        f"{song.name} -> {name}",
        losses,
        held_out,
        errors,
        float(np.median(np.abs(relative(now, song.equal_powers)))),
        float(np.mean([abs(pan - 0.5) > OFF_CENTRE for pan in pans])),
        float(goal.features.width) >= WIDE,
        int((relative(now, song.equal_powers) < -LOST_DB).sum()),
        done.plan.missed_lu,
        seconds,
    )
    return row, result, goal


def shown(row: Row) -> None:
    losses = row.losses
    print(f"{row.name}  ({row.seconds:.0f} s of CPU)")
    for method, terms in losses.items():
        words = " ".join(f"{name} {terms[name]:.4f}" for name in AF_TERMS)
        rest = row.held_out.get(method, np.nan)
        print(f"    {method:<15} {terms['total']:.4f}  rest {rest:.4f}  outside {row.outside[method]:.3f}   {words}")
    worse = [name for name in AF_TERMS if losses["transfer"][name] > losses["equal loudness"][name] + NEGLIGIBLE]
    print(
        f"    levels moved by {row.level_change_db:.1f} dB, {100 * row.panned:.0f} % off centre"
        f"{' (wide)' if row.wide else ''}, {row.lost} lost, {row.short_lu:.1f} LU below the record"
        f"{', WORSE: ' + ' '.join(worse) if worse else ''}",
        flush=True,
    )


def bar(what: str, measured: str, limit: str, met: bool) -> None:
    print(f"  {what:<64} {measured:>14}   bar {limit:<14} {'met' if met else 'MISSED'}", flush=True)


def summed(rows: list[Row]) -> None:
    if not rows:
        return
    methods = list(rows[0].losses)
    means = {m: float(np.mean([row.losses[m]["total"] for row in rows])) for m in methods}
    kept = [row for row in rows if row.held_out]
    rest = {m: float(np.nanmean([row.held_out[m] for row in kept])) if kept else np.nan for m in methods}
    out = {m: float(np.mean([row.outside[m] for row in rows])) for m in methods}
    print(f"\n{len(rows)} pairs, means")
    print(f"    {'':<15} {'AF analysed':>12} {'not analysed':>13} {'outside':>8}")
    for m in methods:
        print(f"    {m:<15} {means[m]:12.4f} {rest[m]:13.4f} {out[m]:8.3f}")
    mine = "transfer"
    if "controller" in means:
        bar("AF loss, controller alone", f"{means['controller']:.4f}", "0.06", means["controller"] <= 0.06)
    bar("AF loss, analysed sections", f"{means[mine]:.4f}", "0.01", means[mine] <= 0.01)
    bar(
        "AF loss, sections not analysed",
        f"{rest[mine]:.4f}",
        "0.04, match EQ",
        rest[mine] <= min(0.04, rest["match EQ"]),
    )
    best = min(out["match EQ"], out["equal loudness"])
    bar("features outside the loss", f"{out[mine]:.3f}", f"{best:.3f}", out[mine] < best)
    worse = sum(
        row.losses[mine][name] > row.losses["equal loudness"][name] + NEGLIGIBLE for row in rows for name in AF_TERMS
    )
    bar("terms worse than equal loudness's", str(worse), "0", worse == 0)
    changes = [row.level_change_db for row in rows]
    median = float(np.median(changes))
    bar("median change of level against equal loudness, median pair", f"{median:.1f} dB", "1.5 dB", median >= 1.5)
    print(f"    of the pair that changes least, {min(changes):.1f} dB")
    panned = min((row.panned for row in rows if row.wide), default=1.0)
    bar("tracks off centre where the reference is wide, least", f"{100 * panned:.0f} %", "50 %", panned > 0.5)
    lost = sum(row.lost for row in rows)
    bar("stems lost", str(lost), "0", lost == 0)
    short = max(row.short_lu for row in rows)
    bar("loudness below the record's, most", f"{short:.1f} LU", "0.5 LU", short <= 0.5)


def real_songs(words: list[str]) -> Iterator[Song]:
    for folder in sorted((Path(os.environ["MIXTOOLS_AUDIO"]) / "multitrack").iterdir()):
        if any(word in folder.name for word in words) or not words:
            read_stems = {path.name: read(path) for path in sorted((folder / "stems").iterdir())}
            rate = next(iter(read_stems.values()))[1]
            yield song_of(folder.name, {name: x for name, (x, _) in read_stems.items()}, rate)


def real(asked: dict[str, list[str]], steps: int) -> None:
    if "MIXTOOLS_AUDIO" not in os.environ:
        print("real: skipped; give MIXTOOLS_AUDIO=FOLDER")
        return
    folder = Path(os.environ["MIXTOOLS_AUDIO"]) / "references"
    words = asked["references"]
    paths = [path for path in sorted(folder.iterdir()) if any(word in path.name for word in words) or not words]
    rows = []
    for song in real_songs(asked["songs"]):
        for path in paths:
            rows.append(pair(song, path.stem, *read(path), steps)[0])
            shown(rows[-1])
    summed(rows)


def synth(asked: dict[str, list[str]], steps: int) -> None:
    rows = []
    for seed in range(4):
        made = synth_song(8000 + seed, 40.0, 44100, 8 + 4 * seed)
        song = song_of(f"synth:{8000 + seed}", made.stems, 44100)
        other = synth_song(8100 + seed, 40.0, 44100, 12)
        wanted = render(finished_mix(other), other.stems, 44100, tail=0)
        rows.append(pair(song, f"mix of synth:{8100 + seed}", wanted, 44100, steps)[0])
        shown(rows[-1])
    summed(rows)


def own(asked: dict[str, list[str]], steps: int) -> None:
    """A mix of the same stems as the reference."""
    worst = 0.0
    for seed in range(3):
        made = synth_song(8200 + seed, 40.0, 44100, 10)
        song = song_of(f"synth:{8200 + seed}", made.stems, 44100)
        wanted = render(finished_mix(made), made.stems, 44100, tail=0)
        row, _, _ = pair(song, "its own mix", wanted, 44100, steps)
        shown(row)
        worst = max(worst, row.losses["transfer"]["total"])
    bar("AF loss of a mix onto its own stems, worst", f"{worst:.4f}", "0.002", worst <= 0.002)


def many(asked: dict[str, list[str]], steps: int) -> None:
    found = {}
    for count in (16, 64):
        totals = []
        for seed in range(2):
            made = synth_song(8300 + seed, 20.0, 44100, 16)
            stems = dict(made.stems)
            for extra in range(1, count // 16):
                more = synth_song(8300 + seed + 100 * extra, 20.0, 44100, 16).stems
                stems |= {f"{extra}_{name}": x for name, x in more.items()}
            other = synth_song(8400 + seed, 20.0, 44100, 12)
            wanted = render(finished_mix(other), other.stems, 44100, tail=0)
            song = song_of(f"{len(stems)} tracks", stems, 44100)
            row, _, _ = pair(song, f"mix of synth:{8400 + seed}", wanted, 44100, steps)
            shown(row)
            totals.append(row.losses["transfer"]["total"])
        found[count] = float(np.mean(totals))
    bar("AF loss, 64 tracks", f"{found[64]:.4f}", f"{found[16]:.4f}, 16's", found[64] <= found[16] + NEGLIGIBLE)


def timed(asked: dict[str, list[str]], steps: int) -> None:
    """From stems in memory to the finished mix; the command adds its start and reading and writing files."""
    made = synth_song(1, 240.0, 44100, 12)
    other = synth_song(2, 60.0, 44100, 12)
    wanted = render(finished_mix(other), other.stems, 44100, tail=0)
    recordings = {name: ArrayRecording(x) for name, x in made.stems.items()}
    began, cpu = time.perf_counter(), time.process_time()
    expert = Expert(recordings, 44100, threads=THREADS).mix()
    goal = goal_of([Reference("ref", ArrayRecording(wanted), 44100)], 44100)
    start = expert.mix
    if CONTROLLER is not None:
        start = CONTROLLER.mix(recordings, [ArrayRecording(wanted)], 44100)
    result = transfer(recordings, 44100, goal, start, roles=expert.roles, steps=steps, threads=THREADS)

    def console(mix: Mix) -> Console:
        return Console(mix, [Playing(recordings[track.file]) for track in mix.tracks], 44100, threads=THREADS)

    final = mastered_as_wanted(result.found, console, result).mix
    heard = render(final, made.stems, 44100, threads=THREADS)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"    {wall:.1f} s, {cpu:.1f} s of CPU, {levels(heard, 44100).integrated_lufs:.1f} LUFS, {result.rounds} rounds"
    )
    bar("12 stems of 4 minutes", f"{wall:.1f} s", "90 s", wall <= 90.0)
    bar("memory, with the stems and the mix in it", f"{memory:.0f} MiB", "3072 MiB", memory <= 3072)


BENCHES = {"real": real, "synth": synth, "own": own, "many": many, "time": timed}


def opened(name: str) -> Controller:
    tensors, about = open_model(name, "transfer")
    return Controller.load(tensors, about, name)


def main() -> None:
    global CONTROLLER
    start = "rules"
    asked: dict[str, list[str]] = {"songs": [], "references": []}
    steps, chosen = STEPS.default, []
    torch.set_num_threads(1)
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        if name in asked and value:
            asked[name] = value.split(",")
        elif name == "steps":
            steps = int(value)
        elif name == "start":
            start = value
        elif word in BENCHES:
            chosen.append(word)
        else:
            sys.exit(f"transfer.py: {word} is not a bench; give {', '.join(BENCHES)}")
    CONTROLLER = None if start == "rules" else opened(start)
    for name in chosen or BENCHES:
        BENCHES[name](asked, steps)


if __name__ == "__main__":
    main()
