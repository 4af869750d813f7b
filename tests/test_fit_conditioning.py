"""Stems that cannot be told apart are said to be, others are not, and the uncertainty is that of least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, fftconvolve, lfilter

from mixtools.dsp.rooms import room_response
from mixtools.synth import synth_song
from mixtools.tasks.fit.conditioning import Conditioning, telling_apart

RATE = 44100
SECONDS = 15


def noise(seed: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, SECONDS * RATE)).astype(np.float32)


def told(stems: dict[str, np.ndarray]) -> Conditioning:
    return telling_apart(list(stems.values()), [(0, SECONDS * RATE)], RATE, list(stems))


def notes(stems: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: stem.note for name, stem in told(stems).stems.items() if stem.note}


@pytest.fixture(scope="module")
def song() -> dict[str, np.ndarray]:
    return synth_song(1, SECONDS, RATE, 8).stems


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_the_stems_of_a_song_are_told_apart(seed):
    conditioning = told(synth_song(seed, SECONDS, RATE, 14).stems)
    assert [stem.note for stem in conditioning.stems.values()] == [None] * 14
    assert all(stem.unique_db > -3.0 for stem in conditioning.stems.values())


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.1])
def test_the_same_stem_twice(song, gain):
    found = notes(song | {"again.wav": np.float32(gain) * song["snare.wav"]})
    assert found == {
        "again.wav": "cannot be told apart from snare.wav",
        "snare.wav": "cannot be told apart from again.wav",
    }


def test_a_mono_fold_down_of_a_stem_of_equal_sides(song):
    stem = song["snare.wav"][:1]
    found = notes({"mono.wav": stem, "stereo.wav": np.concatenate([stem, stem]), "bass.wav": song["bass.wav"]})
    assert set(found) == {"mono.wav", "stereo.wav"}


@pytest.mark.parametrize("room", ["small_room", "large_room"])
@pytest.mark.parametrize("source", ["shaker.wav", "gtr_picked.wav"])
def test_a_reverb_return_is_a_filtered_copy(song, room, source):
    wet = fftconvolve(song[source][:1], room_response(room, RATE), axes=1)[:, : SECONDS * RATE].astype(np.float32)
    assert notes(song | {"return.wav": wet}) == {"return.wav": f"is a filtered copy of {source}"}
    assert notes({"a return.wav": wet} | song) == {"a return.wav": f"is a filtered copy of {source}"}


def test_an_equalised_copy(song):
    bright = lfilter(*butter(2, 2000 / (RATE / 2), "high"), song["snare.wav"]).astype(np.float32)
    assert notes(song | {"bright.wav": bright}) == {"bright.wav": "is a filtered copy of snare.wav"}


@pytest.mark.parametrize("gain", [1.0, -0.5])
def test_a_bus_beside_its_members(gain):
    stems = {f"{i}.wav": noise(i) for i in range(4)}
    stems["bus.wav"] = np.float32(gain) * (stems["0.wav"] + 0.8 * stems["1.wav"] + 0.6 * stems["2.wav"])
    conditioning = told(stems)
    found = notes(stems)
    assert set(found) == {"0.wav", "1.wav", "2.wav", "bus.wav"}
    if gain > 0:
        assert found["bus.wav"] == "is the sum of 0.wav, 1.wav, 2.wav"
        assert found["0.wav"] == "cannot be told apart from bus.wav"
    assert conditioning.stems["bus.wav"].unique_db < -30.0
    assert conditioning.stems["3.wav"].unique_db == pytest.approx(0.0, abs=0.1)


def test_what_a_stem_has_of_its_own_is_its_part_orthogonal_to_the_others():
    a, b, own = noise(1), noise(2), noise(3)
    stem = told({"a.wav": a, "b.wav": b, "c.wav": a - 2 * b + 0.5 * own}).stems["c.wav"]
    assert stem.unique_db == pytest.approx(10 * np.log10(0.25 / 5.25), abs=0.1)
    assert stem.note is None


def test_silent_stems_are_said_to_be(song):
    found = told(song | {"nothing.wav": np.zeros_like(song["snare.wav"]), "hiss.wav": 1e-7 * noise(1)})
    assert found.stems["nothing.wav"].note == found.stems["hiss.wav"].note == "silent"
    assert found.stems["nothing.wav"].unique_db is None
    assert found.sure_db(1e-4)["nothing.wav"] is None
    assert [stem.note for name, stem in found.stems.items() if name in song] == [None] * len(song)


def test_all_silent_and_none_at_all():
    silence = np.zeros((1, RATE), np.float32)
    found = telling_apart([silence, silence], [(0, RATE)], RATE, ["a", "b"])
    assert [stem.note for stem in found.stems.values()] == ["silent", "silent"]
    assert telling_apart([silence], [], RATE, ["a"]).stems["a"].note == "silent"
    assert telling_apart([], [(0, RATE)], RATE, []).stems == {}


def test_two_stems_that_sound_once_and_together_are_not_copies():
    time = np.arange(SECONDS * RATE) / RATE
    burst = ((time > 5) & (time < 5.4)).astype(np.float32)
    assert notes({"a.wav": noise(1) * burst, "b.wav": noise(2) * burst, "c.wav": noise(3)}) == {}


def test_sure_db_is_the_spread_of_least_squares_gains():
    """Gains of coloured stems under coloured noise, estimated many times over."""
    rng = np.random.default_rng(7)
    filters = butter(2, 0.1)
    n, rate = 20000, 4000
    first, shared = (lfilter(*filters, rng.standard_normal(n)) for _ in range(2))
    stems = np.array([first, 0.7 * first + 0.7 * shared])
    residuals = lfilter(*filters, rng.standard_normal((400, n)))
    errors = residuals @ np.linalg.pinv(stems)
    found = telling_apart(list(stems[:, None].astype(np.float32)), [(0, n)], rate, ["a", "b"])
    power = float((residuals**2).mean())
    for i, sure in enumerate(found.sure_db(power).values()):
        assert sure == pytest.approx(8.686 * errors[:, i].std(), rel=0.15)
    quiet = found.sure_db(power, {"a": 0.5, "b": 1.0})
    assert quiet["a"] == pytest.approx(2.0 * found.sure_db(power)["a"])
