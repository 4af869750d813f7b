"""Offsets and polarity of stems in mixes whose truth is known, and the parts of a mix that are fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import audio

from mixtools.controls import GRAPHIC_CENTRES_HZ
from mixtools.dsp.rooms import room_response
from mixtools.mix import Bus, Insert, Mix, Track
from mixtools.synth import synth_song
from mixtools.tasks.excerpts import alternate_blocks, choose_excerpts
from mixtools.tasks.fit.alignment import Alignment, align, common_offset
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording

RATE = 44100


def song(seed: int, stems: int = 8, seconds: float = 15.0) -> dict[str, np.ndarray]:
    parts = synth_song(seed, seconds, RATE, stems).stems
    return {name: part.mean(axis=0, keepdims=True, dtype=np.float32) for name, part in parts.items()}


def mixed(
    stems: dict[str, np.ndarray], seed: int, offsets: dict[str, float], flipped: tuple[str, ...] = ()
) -> np.ndarray:
    """A mix with random equalisers, pans, gains and sends to a room of a second; offsets in samples."""
    rng = np.random.default_rng(seed)
    tracks = []
    for name in stems:
        bands = {f"band{hz}_gain_db": float(rng.uniform(-6, 6)) for hz in GRAPHIC_CENTRES_HZ}
        gain = Insert("gain", {"gain_db": float(rng.uniform(-9, 3)), "invert": name in flipped})
        pan = Insert("pan", {"pan": float(rng.uniform(0.1, 0.9))})
        chain = [Insert("graphic_eq", bands), gain, pan]
        offset_ms = 1000.0 * offsets.get(name, 0.0) / RATE
        tracks.append(Track(name, offset_ms=offset_ms, chain=chain, sends={"reverb": float(rng.uniform(-18, -6))}))
    room = room_response("large_room", RATE)[:, :RATE]
    responses = {"reverb": (room / np.sqrt((room**2).sum()), RATE)}
    mix = Mix(tracks, {"reverb": Bus(chain=[Insert("convolution", {"ir": "reverb"})])})
    return render(mix, stems, RATE, responses=responses, end=next(iter(stems.values())).shape[1])


def found(stems: dict[str, np.ndarray], mix: np.ndarray, rate: int = RATE) -> Alignment:
    recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
    return align(recordings, ArrayRecording(mix), rate, [(0, mix.shape[1])])


@pytest.mark.parametrize("seed", [6, 21])
def test_nothing_that_was_not_moved_moves(seed):
    stems = song(seed)
    alignment = found(stems, mixed(stems, seed, {}))
    assert alignment.common == 0
    assert {name: placed.offset for name, placed in alignment.stems.items()} == dict.fromkeys(stems, 0.0)
    assert not any(placed.inverted for placed in alignment.stems.values())


def test_moved_and_flipped_stems_are_found_to_a_fraction_of_a_sample():
    stems = song(3)
    offsets = {"hats.wav": 4053.37, "pad.wav": -9863.45, "shaker.wav": -30844.67, "kick.wav": 700.0, "snare.wav": 0.37}
    flipped = ("hats.wav", "shaker.wav", "vox_lead.wav", "kick.wav")
    alignment = found(stems, mixed(stems, 3, offsets, flipped))
    assert alignment.common == 0
    for name, placed in alignment.stems.items():
        assert placed.inverted == (name in flipped), name
        assert placed.offset == pytest.approx(offsets.get(name, 0.0), abs=0.02), name
        assert placed.confidence > 0.3, name
    assert alignment.stems["kick.wav"].offset == 700.0


@pytest.mark.parametrize("seconds", [2.5, -2.5])
def test_a_mix_that_begins_before_or_after_the_stems(seconds):
    stems = song(51)
    moved = next(name for name in stems if "snare" in name)
    mix = mixed(stems, 51, {moved: 1234.0})
    shift = round(seconds * RATE)
    mix = np.pad(mix, ((0, 0), (shift, 0))) if shift > 0 else mix[:, -shift:]
    alignment = found(stems, mix)
    assert alignment.common == shift
    expected = {name: shift + (1234.0 if name == moved else 0.0) for name in stems}
    assert {name: placed.offset for name, placed in alignment.stems.items()} == expected


def test_a_common_offset_within_reach_of_every_stem_is_common():
    stems = song(53)
    mix = np.pad(mixed(stems, 53, {}), ((0, 0), (13000, 0)))
    alignment = found(stems, mix)
    assert alignment.common == 13000
    assert {placed.offset for placed in alignment.stems.values()} == {13000.0}


def test_silence_and_stems_that_are_not_in_the_mix_stay():
    stems = song(6)
    mix = mixed(stems, 6, {})
    extra = {"silent.wav": np.zeros_like(mix[:1]), "foreign.wav": song(99)["vox_lead.wav"]}
    alignment = found(stems | extra, mix)
    assert {placed.offset for placed in alignment.stems.values()} == {0.0}
    assert alignment.stems["silent.wav"].confidence == 0.0


def test_a_mix_of_something_else_moves_nothing():
    stems = song(6)
    alignment = found(stems, mixed(song(99), 9, {}))
    assert alignment.common == 0
    assert {placed.offset for placed in alignment.stems.values()} == {0.0}


@pytest.mark.parametrize("mix", [np.zeros((2, 4 * RATE), np.float32), np.zeros((1, 0), np.float32)])
def test_a_silent_or_empty_mix_moves_nothing(mix):
    alignment = found({"a.wav": audio(1, 1, 3 * RATE, np.float32)}, mix)
    assert (alignment.common, alignment.stems["a.wav"].offset, alignment.stems["a.wav"].confidence) == (0, 0.0, 0.0)


def test_one_stem_against_itself_moved_and_flipped():
    stem = song(6)["snare.wav"]
    moved = -np.pad(stem, ((0, 0), (321, 0)))
    placed = found({"snare.wav": stem}, moved).stems["snare.wav"]
    assert (placed.offset, placed.inverted) == (321.0, True)


def test_common_offset_stays_within_the_audio():
    stem = ArrayRecording(audio(1, 1, RATE // 2, np.float32))
    assert common_offset({"a.wav": stem}, stem, RATE) == 0


def test_a_short_mix_is_fitted_whole_and_a_part_as_asked():
    mix = ArrayRecording(np.ones((1, 50 * 100), np.float32))
    assert choose_excerpts({"a": mix}, mix, 100) == [(0, 5000)]
    assert choose_excerpts({"a": mix}, mix, 100, start=300, end=900) == [(300, 900)]
    assert choose_excerpts({"a": mix}, mix, 100, start=6000) == []


def test_a_long_mix_is_fitted_where_every_stem_is_heard():
    rate, seconds = 100, 300
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((3, rate * seconds)).astype(np.float32)
    time = np.arange(rate * seconds) / rate
    noise[1] *= (time > 200) & (time < 206)
    noise[2] *= 0.01 * ((time > 40) & (time < 45)) + 1.0 * ((time > 280) & (time < 284))
    stems = {str(i): ArrayRecording(part) for i, part in enumerate(noise)}
    target = ArrayRecording(noise.sum(axis=0, keepdims=True))
    ranges = choose_excerpts(stems, target, rate, most_s=40.0)
    assert ranges == choose_excerpts(stems, target, rate, most_s=40.0)
    assert sum(last - first for first, last in ranges) == 40 * rate
    assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:], strict=False))
    for low, high in ((201, 205), (281, 283)):
        assert any(first <= low * rate and last >= high * rate for first, last in ranges)


def test_silence_in_the_mix_is_no_excerpt():
    rate = 100
    stem = np.ones((1, 200 * rate), np.float32)
    mix = stem * (np.arange(200 * rate) >= 100 * rate)
    ranges = choose_excerpts({"a": ArrayRecording(stem)}, ArrayRecording(mix), rate, most_s=50.0)
    assert min(first for first, _ in ranges) >= 100 * rate


def test_alternate_blocks_share_out_every_sample_once():
    ranges = [(100, 2750), (3000, 3100), (5000, 6000)]
    fit, check = alternate_blocks(ranges, 100, 5.0)
    covered = np.zeros(6000, int)
    for first, last in fit + check:
        covered[first:last] += 1
    expected = np.zeros(6000, int)
    for first, last in ranges:
        expected[first:last] = 1
    assert np.array_equal(covered, expected)
    assert fit[0] == (100, 600)
    assert math.isclose(sum(b - a for a, b in fit), sum(b - a for a, b in check), rel_tol=0.3)
