"""What a mix does not need is removed, what it needs is not, and the bill is never higher than was granted."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import cli_helpers
import numpy as np
import pytest

from mixtools import Bus, Insert, Master, Track, render
from mixtools.dsp.graphic_eq import usable_bands
from mixtools.files.mixfile import read_mix
from mixtools.tasks.fit import Options, fit
from mixtools.tasks.fit.estimate import Estimate
from mixtools.tasks.fit.pruning import pruned
from mixtools.tasks.recordings import ArrayRecording

RATE = 16000
SECONDS = 4
FRAMES = SECONDS * RATE
NAMES = "bass.wav", "kick.wav", "pad.wav", "vox.wav"
UNEXPLAINED = 1e-3


def noise(seed: int, channels: int = 1, frames: int = FRAMES, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


STEMS = {name: noise(seed) for seed, name in enumerate(NAMES)}
ROOM = noise(9, 2, RATE // 10) * np.exp(-6.0 * np.linspace(0.0, 1.0, RATE // 10, dtype=np.float32))


def eq(seed: int, db: float = 6.0) -> Insert:
    gains = np.random.default_rng(seed).uniform(-db, db, 10)
    bands = usable_bands(RATE)
    return Insert("graphic_eq", {f"band{hz}_gain_db": float(x) for hz, x in zip(bands, gains, strict=False)})


def gain(db: float, invert: bool = False) -> Insert:
    return Insert("gain", {"gain_db": db, "invert": invert})


def pan(place: float) -> Insert:
    return Insert("pan", {"pan": place})


def desk() -> Estimate:
    """A mix that needs all that is in it."""
    tracks = [
        Track(
            name,
            offset_ms=5.3 * i,
            chain=[eq(i), gain(-3.0 - i, i == 1), pan(0.15 + 0.2 * i)],
            sends={"reverb": -6.0},
        )
        for i, name in enumerate(NAMES)
    ]
    buses = {"reverb": Bus(chain=[Insert("convolution", {"ir": "reverb"})])}
    return Estimate(tracks, [0, 1, 2, 3], buses, responses={"reverb": ROOM})


def rendered(estimate: Estimate, stems: dict[str, np.ndarray] = STEMS) -> np.ndarray:
    responses = {key: (response, RATE) for key, response in estimate.responses.items()}
    return render(estimate.mix(RATE), stems, RATE, responses=responses, end=max(x.shape[1] for x in stems.values()))


def made(truth: Estimate, stems: dict[str, np.ndarray] = STEMS, unexplained: float = UNEXPLAINED) -> np.ndarray:
    """A mix of the stems, and something that no estimate explains."""
    whole = rendered(truth, stems)
    return whole + noise(99, 2, whole.shape[1], unexplained)


def tried(estimate: Estimate, target: np.ndarray, db: float, stems: dict[str, np.ndarray] = STEMS, **options):
    """What is left, what was removed, and by how many dB the residual has risen over all that was fitted."""
    recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
    before = deepcopy(estimate)
    ranges = [(0, target.shape[1])]
    found, words = pruned(estimate, recordings, ArrayRecording(target), RATE, ranges, db, **options)
    assert estimate.mix(RATE) == before.mix(RATE)
    energies = [np.sum((target - rendered(each, stems).astype(float)) ** 2) + 1e-20 for each in (before, found)]
    return found, words, 10 * np.log10(energies[1] / energies[0])


def effects(track: Track) -> list[str]:
    return [insert.effect for insert in track.chain]


def test_what_does_nothing_goes_and_the_rest_stays():
    truth = desk()
    bass, kick, pad, vox = truth.tracks
    bass.chain.pop(0)
    pad.chain.pop(2)
    kick.sends = {}
    vox.chain.pop(1)
    estimate = deepcopy(truth)
    estimate.tracks[0].chain.insert(0, eq(20, 0.02))
    estimate.tracks[2].chain.append(pan(0.5001))
    estimate.tracks[1].sends = {"reverb": -70.0}
    estimate.tracks[3].chain.insert(1, gain(0.005))
    found, words, rise = tried(estimate, made(truth), 0.5)
    assert words == [
        "bass.wav: graphic_eq",
        "kick.wav: send to reverb",
        "pad.wav: pan",
        "vox.wav: gain",
    ]
    assert rise < 0.5
    assert [effects(track) for track in found.tracks] == [effects(track) for track in truth.tracks]
    assert [track.sends for track in found.tracks] == [track.sends for track in truth.tracks]
    assert [track.offset_ms for track in found.tracks] == [track.offset_ms for track in truth.tracks]
    assert found.buses == truth.buses and found.whose == [0, 1, 2, 3]


def test_a_mix_that_needs_all_it_has_loses_nothing():
    truth = desk()
    found, words, rise = tried(truth, made(truth), 0.5)
    assert words == [] and rise == 0.0
    assert found.mix(RATE) == truth.mix(RATE)


@pytest.mark.parametrize("db", [0.05, 0.3, 1.0, 3.0])
def test_all_removals_together_cost_less_than_was_granted(db):
    truth = desk()
    for i, track in enumerate(truth.tracks):
        track.sends["reverb"] = -40.0 - 10.0 * i
        track.chain[0] = eq(i, 0.02 + 0.1 * i)
        track.chain[2] = pan(0.5 + 0.002 * 2**i)
    target = made(truth)
    _, words, rise = tried(truth, target, db)
    assert 0.0 < rise < db
    assert 0 < len(words) < 12


def test_the_bill_is_that_of_all_that_was_fitted():
    """Stems are a little louder in the 10 s that costs are measured on, and all that is unexplained is there, too."""
    seconds = 30
    loud = np.where(np.arange(seconds * RATE) < 10 * RATE, 1.1, 1.0).astype(np.float32)
    stems = {name: loud * noise(seed, frames=seconds * RATE) for seed, name in enumerate(NAMES)}
    truth = desk()
    for i, track in enumerate(truth.tracks):
        track.sends["reverb"] = -40.0 - 2.0 * i
        track.chain[0] = eq(i, 0.02 + 0.04 * i)
        track.chain[2] = pan(0.5 + 0.001 * 2**i)
    target = rendered(truth, stems)
    target[:, : 10 * RATE] += noise(99, 2, 10 * RATE, UNEXPLAINED)
    _, words, rise = tried(truth, target, 1.0, stems)
    assert len(words) > 2 and 0.0 < rise < 1.0


def test_more_is_removed_the_more_is_granted():
    """At last all but the gain that turns a polarity: 15 effects and sends, and the bus."""
    truth = desk()
    for i, track in enumerate(truth.tracks):
        track.sends["reverb"] = -35.0 - 5.0 * i
    target = made(truth)
    counts = [len(tried(truth, target, db)[1]) for db in (0.0, 0.1, 1.0, 6.0, 60.0)]
    assert counts[0] == 0 and counts[-1] == 16
    assert counts == sorted(counts) and len(set(counts)) >= 4


def test_a_bus_nobody_sends_to_goes_with_its_response():
    truth = desk()
    for track in truth.tracks:
        track.sends = {}
    estimate = desk()
    for track in estimate.tracks:
        track.sends = {"reverb": -75.0}
    found, words, _ = tried(estimate, made(truth), 0.5)
    assert words == [*(f"{name}: send to reverb" for name in NAMES), "reverb (bus)"]
    assert found.buses == {} and found.responses == {}


def test_a_wet_entry_that_is_not_heard_goes_with_its_response():
    estimate = replace(desk(), buses={})
    for i, track in enumerate(list(estimate.tracks)):
        track.sends = {}
        key = track.file.split(".")[0]
        estimate.tracks.append(Track(track.file, offset_ms=-10.0, chain=[Insert("convolution", {"ir": key})]))
        estimate.responses[key] = np.float32(1e-4 if i == 2 else 1.0) * ROOM
    del estimate.responses["reverb"]
    estimate.whose = [0, 1, 2, 3, 0, 1, 2, 3]
    found, words, rise = tried(estimate, made(estimate), 0.5)
    assert words == ["pad.wav: second entry"] and rise < 0.5
    assert found.whose == [0, 1, 2, 3, 0, 1, 3]
    assert [track.file for track in found.tracks] == [*NAMES, "bass.wav", "kick.wav", "vox.wav"]
    assert found.responses.keys() == {"bass", "kick", "vox"}


def test_a_turned_polarity_stays():
    truth = Estimate([Track("kick.wav", chain=[gain(0.0, True)]), Track("pad.wav", chain=[gain(0.0)])], [0, 1])
    found, words, _ = tried(truth, made(truth), 0.5)
    assert words == ["pad.wav: gain"]
    assert [effects(track) for track in found.tracks] == [["gain"], []]


def test_the_gain_takes_over_the_level_of_an_effect_that_goes():
    level = Insert("graphic_eq", {f"band{hz}_gain_db": -5.0 for hz in usable_bands(RATE)})
    law = Insert("pan", {"pan": 0.5, "law": "constant_power"})
    chains = [level, gain(-2.0), pan(0.2)], [gain(-2.0), law]
    tracks = [Track(name, chain=list(chain)) for name, chain in zip(NAMES, chains, strict=False)]
    estimate = Estimate(tracks, [0, 1])
    found, words, rise = tried(estimate, made(estimate), 0.1)
    assert words == ["bass.wav: graphic_eq", "kick.wav: pan"] and rise < 0.1
    gains = [track.chain[0].controls["gain_db"] for track in found.tracks]
    assert gains == pytest.approx([-7.0, -2.0 - 10 * np.log10(2)], abs=0.01)


def test_a_limiter_that_never_works_goes_and_a_compressor_that_does_stays():
    estimate = desk()
    compressor = Insert("compressor", {"threshold_db": -30.0, "ratio": 4.0})
    idle = Insert("compressor", {"threshold_db": 0.0, "ratio": 4.0, "knee_db": 0.0})
    estimate.tracks[0].chain.insert(1, compressor)
    estimate.tracks[1].chain.insert(1, idle)
    estimate.master = Master([gain(3.0), Insert("limiter", {"ceiling_db": 0.0})])
    target = made(estimate)
    assert np.abs(target).max() < 0.99
    found, words, rise = tried(estimate, target, 0.5)
    assert words == ["kick.wav: compressor", "master: limiter"] and rise < 0.5
    assert effects(found.tracks[0]) == ["graphic_eq", "compressor", "gain", "pan"]
    assert [insert.effect for insert in found.master.chain] == ["gain"]


def test_a_stem_that_sounds_only_elsewhere_keeps_what_it_has():
    """Costs are measured on 10 s, and here every 2 s have a stem of their own."""
    frames = 24 * RATE
    stems = {}
    for i in range(12):
        stems[f"{i:02}.wav"] = np.zeros((1, frames), np.float32)
        stems[f"{i:02}.wav"][:, 2 * i * RATE : 2 * (i + 1) * RATE] = noise(i, frames=2 * RATE)
    truth = Estimate([Track(name, chain=[gain(-9.0), pan(0.3)]) for name in stems], list(range(12)))
    _, words, rise = tried(truth, made(truth, stems), 0.5, stems)
    assert words == [] and rise == 0.0


def test_a_silent_stem_keeps_its_gain():
    stems = STEMS | {"vox.wav": np.zeros((1, FRAMES), np.float32)}
    truth = desk()
    found, words, rise = tried(truth, made(truth, stems), 0.5, stems)
    assert words == ["vox.wav: graphic_eq", "vox.wav: pan", "vox.wav: send to reverb"] and rise == 0.0
    assert found.tracks[3].chain == [truth.tracks[3].chain[1]]


def test_a_mix_that_is_explained_exactly_loses_what_does_nothing_at_all():
    truth = desk()
    truth.tracks[2].chain[0] = Insert("graphic_eq", {})
    assert tried(truth, made(truth, unexplained=0.0), 0.5)[1] == ["pad.wav: graphic_eq"]


def test_threads_change_nothing():
    truth = desk()
    for track in truth.tracks:
        track.sends["reverb"] = -45.0
    target = made(truth)
    one, many = (tried(truth, target, 0.5, threads=threads) for threads in (1, 3))
    assert one[0].mix(RATE) == many[0].mix(RATE) and one[1] == many[1]


def test_a_fit_is_pruned():
    truth = replace(desk(), buses={})
    for track in truth.tracks:
        track.sends = {}
    truth.tracks[2].chain.pop(0)
    truth.tracks[3].chain.pop(2)
    recordings = {name: ArrayRecording(stem) for name, stem in STEMS.items()}
    target = ArrayRecording(made(truth))
    whole, lean = (fit(recordings, target, RATE, Options(model="eq", prune_db=db)) for db in (None, 0.5))
    assert whole.report["pruned"] is None
    assert lean.report["pruned"] == ["pad.wav: graphic_eq", "vox.wav: pan"]
    assert [effects(track) for track in lean.mix.tracks] == [effects(track) for track in truth.tracks]
    assert lean.report["residual_db"] < whole.report["residual_db"] + 0.5
    assert lean.report["tracks"][2]["eq_db"] is None and lean.report["tracks"][3]["pan"] == 0.5


def test_the_command_says_what_was_pruned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = Estimate([Track(name, chain=[gain(-3.0), pan(0.2)]) for name in NAMES[:2]], [0, 1])
    stems = {name: STEMS[name] for name in NAMES[:2]}
    for name, stem in stems.items():
        cli_helpers.write(f"stems/{name}", stem, RATE)
    cli_helpers.write("record.wav", made(truth, stems), RATE)
    result = cli_helpers.run("fit", "stems", "record.wav", "--model", "eq", "--prune", "0.5", "--json")
    assert result.code == 0
    assert "mixtools: pruned: bass.wav: graphic_eq, kick.wav: graphic_eq\n" in result.err
    assert json.loads(result.out)["pruned"] == ["bass.wav: graphic_eq", "kick.wav: graphic_eq"]
    assert read_mix("mix.yaml").notes["report"]["pruned"] == ["bass.wav: graphic_eq", "kick.wav: graphic_eq"]
