"""Beyond linear: compressors, a limiter and faders that move are found, and explain what no filter can."""

from __future__ import annotations

import numpy as np
import pytest
from fit_truth import residual_db

from mixtools import Curve, Insert, Mix, Track, compressor, render, synth_song
from mixtools.mix import Master
from mixtools.tasks.fit import Options, fit
from mixtools.tasks.fit.desk import Playback
from mixtools.tasks.fit.search import descended
from mixtools.tasks.recordings import ArrayRecording

RATE = 16000
SECONDS = 8.0
REVERB_S = 0.05


@pytest.fixture(scope="module")
def stems() -> dict[str, np.ndarray]:
    song = synth_song(3, SECONDS, rate=RATE, stems=8)
    chosen = ("bass.wav", "kick.wav", "piano.wav", "vox_lead.wav")
    names = [name for name in chosen if name in song.stems] or sorted(song.stems)[:4]
    return {name: song.stems[name].mean(0, keepdims=True) for name in names}


def compressed(mix: Mix) -> list[str]:
    return [t.file for t in mix.tracks if any(insert.effect == "compressor" for insert in t.chain)]


def fitted(stems, target, **options):
    recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
    return fit(recordings, ArrayRecording(target), RATE, Options(reverb_s=REVERB_S, **options))


def rendered(found, stems, frames: int) -> np.ndarray:
    responses = {key: (response, RATE) for key, response in found.responses.items()}
    return render(found.mix, stems, RATE, responses=responses, end=frames)


def gains(stems) -> list[Track]:
    return [
        Track(name, chain=[Insert("gain", {"gain_db": -4.0 + 2 * i}), Insert("pan", {"pan": 0.3 + 0.15 * i})])
        for i, name in enumerate(stems)
    ]


@pytest.fixture(scope="module")
def mastered(stems):
    """A mix with one hard compressor and a limiter that works, and its two fits."""
    tracks = gains(stems)
    last = list(stems)[-1]
    peak_db = 20 * np.log10(np.abs(stems[last]).max())
    squeeze = {"threshold_db": float(peak_db - 18), "ratio": 5.0, "attack_ms": 8.0, "release_ms": 150.0}
    tracks[-1].chain.insert(0, Insert("compressor", squeeze))
    dry = render(Mix(tracks), stems, RATE, end=round(SECONDS * RATE))
    drive = 5.0 - 20 * np.log10(np.abs(dry).max())
    master = Master([Insert("gain", {"gain_db": float(drive)}), Insert("limiter", {"ceiling_db": -1.0})])
    target = render(Mix(tracks, master=master), stems, RATE, end=round(SECONDS * RATE))
    linear = fitted(stems, target, model="individual-bus")
    console = fitted(stems, target, model="console", steps=80)
    return target, last, linear, console


def test_a_mastered_mix_is_explained_far_better_than_by_any_filters(stems, mastered):
    target, _, linear, console = mastered
    found = residual_db(rendered(console, stems, target.shape[1]), target)
    assert found < residual_db(rendered(linear, stems, target.shape[1]), target) - 12.0
    assert console.report["residual_db"] == pytest.approx(found, abs=0.1)


def test_the_limiter_and_the_compressed_stem_are_found(mastered):
    _, last, _, console = mastered
    (limiter,) = (insert for insert in console.mix.master.chain if insert.effect == "limiter")
    assert limiter.controls["ceiling_db"] == pytest.approx(-1.0, abs=0.3)
    assert last in compressed(console.mix)


def test_a_linear_mix_gets_neither_compressor_nor_limiter(stems):
    target = render(Mix(gains(stems)), stems, RATE, end=round(SECONDS * RATE)) * np.float32(0.5)
    console = fitted(stems, target, model="console")
    assert console.report["residual_db"] < -50.0
    assert not compressed(console.mix)
    assert not any(insert.effect in ("compressor", "limiter") for insert in console.mix.master.chain)


def test_a_fader_that_moves_becomes_breakpoints(stems):
    tracks = gains(stems)
    moved = tracks[-1].chain[0]
    moved.controls["gain_db"] = Curve(((0.0, -6.0), (SECONDS, 6.0)))
    target = render(Mix(tracks), stems, RATE, end=round(SECONDS * RATE)) * np.float32(0.5)
    steady = fitted(stems, target, model="console", steps=1)
    moving = fitted(stems, target, model="console", steps=1, automation_s=2.0)
    frames = target.shape[1]
    before, after = (residual_db(rendered(found, stems, frames), target) for found in (steady, moving))
    assert after < before - 6.0
    (insert,) = (i for i in moving.mix.tracks[-1].chain if i.effect == "gain")
    points = dict(insert.controls["gain_db"].points)
    assert points[6.0] - points[2.0] == pytest.approx(6.0, abs=1.0)
    moving.mix.check()


def test_what_filters_to_one_side_cannot_explain_is_explained_by_responses_to_both():
    rng = np.random.default_rng(1)
    stems = {f"{i}.wav": rng.standard_normal((2, 6 * RATE)).astype(np.float32) * 0.1 for i in range(2)}
    crossed = sum(stem + 0.7 * np.roll(stem[::-1], 40, axis=1) for stem in stems.values())
    console = fitted(stems, crossed, model="console")
    assert console.report["residual_db"] < -25.0
    assert {track.channel for track in console.mix.tracks} == {"both", "left", "right"}


@pytest.mark.parametrize("knee_db", [0.0, 6.0])
def test_the_search_hears_the_console_s_compressor(knee_db):
    """A hard knee once gave gains that are no numbers, and the search the end of every range."""
    key = np.random.default_rng(1).standard_normal((2, 6000)).astype(np.float32) * 0.2
    settings = {"threshold_db": -30.0, "ratio": 4.0, "attack_ms": 3.0, "release_ms": 60.0, "knee_db": knee_db}
    playback = object.__new__(Playback)
    playback.rate, playback.n = RATE, 6000
    np.testing.assert_allclose(key * playback.gains(key, settings), compressor(key, RATE, **settings), atol=1e-6)


def test_the_simplex_finds_what_trades_for_each_other():
    """Threshold and ratio along a narrow valley."""

    def cost(values):
        threshold, ratio = values["threshold_db"], values["ratio"]
        return 1.0 + (threshold * (1.0 - 1.0 / ratio) + 15.0) ** 2 + 0.01 * (threshold + 20.0) ** 2

    ranges = {"threshold_db": (-80.0, 0.0), "ratio": (1.0, 20.0)}
    found, least = descended({"threshold_db": -6.0, "ratio": 2.0}, cost, ranges)
    assert found["threshold_db"] == pytest.approx(-20.0, abs=0.5) and found["ratio"] == pytest.approx(4.0, rel=0.1)
    assert least == pytest.approx(1.0, abs=1e-3)
    edge, _ = descended({"threshold_db": 0.0, "ratio": 20.0}, lambda v: v["threshold_db"] + v["ratio"], ranges)
    assert edge["threshold_db"] == -80.0 and edge["ratio"] == pytest.approx(1.0, abs=0.01)
