"""The gain mix: exact where it can be, and calm where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import audio

from mixtools import Mix, render
from mixtools.tasks.fit.gain import Gains, gain_tracks, solve_gains

RATE = 44100


def by_lstsq(stems, target):
    """Both sides by numpy's own least squares over the whole length."""
    sides = [
        np.linalg.lstsq(np.array([stem[min(c, len(stem) - 1)] for stem in stems]).T, target[c], rcond=None)[0]
        for c in range(2)
    ]
    return np.array(sides).T


def song(seed, channels, n=150_000):
    return [audio(seed + i, count, n) for i, count in enumerate(channels)]


@pytest.mark.parametrize("channels", [(1,), (1, 1, 1, 1), (2, 1, 2), (2, 2)])
def test_agrees_with_numpy(channels):
    stems = song(3, channels)
    target = audio(99, 2, stems[0].shape[1]) + sum(0.3 * (i + 1) * stem for i, stem in enumerate(stems))
    assert np.abs(solve_gains(stems, target) - by_lstsq(stems, target)).max() < 1e-9


def test_agrees_with_numpy_on_stems_that_are_nearly_alike():
    stems = song(3, (1, 1))
    stems.append(stems[0] + 1e-5 * audio(50, 1, stems[0].shape[1]))
    target = audio(99, 2, stems[0].shape[1])
    expected = by_lstsq(stems, target)
    assert np.abs(expected).max() > 100, "the case is a hard one"
    assert np.abs(solve_gains(stems, target) / expected - 1).max() < 1e-6


@pytest.mark.parametrize("channels", [(1, 1, 1), (1, 2, 1)])
def test_finds_what_made_the_mix(channels):
    stems = song(5, channels)
    amplitudes = np.array([[0.5, 0.2], [-0.7, 0.1], [0.0, 1.3]])
    target = sum(a[:, None] * stem for a, stem in zip(amplitudes, stems, strict=True))
    assert np.abs(solve_gains(stems, target) - amplitudes).max() < 1e-12


def test_stems_that_cannot_be_told_apart_share_the_gain_and_silent_ones_have_none():
    kick, bass = song(8, (1, 1))
    stems = [kick, bass, kick.copy(), -bass, np.zeros_like(kick)]
    amplitudes = solve_gains(stems, np.concatenate([0.8 * kick + 0.2 * bass, 0.6 * kick]))
    assert np.abs(amplitudes - [[0.4, 0.3], [0.1, 0.0], [0.4, 0.3], [-0.1, 0.0], [0.0, 0.0]]).max() < 1e-9


def test_only_what_the_mask_shows_is_heard():
    stems = song(11, (1, 2))
    n = stems[0].shape[1]
    mask = np.arange(n) // 20_000 % 2 == 0
    target = 0.5 * stems[0] + 0.25 * stems[1]
    target[:, ~mask] = audio(12, 2, n)[:, ~mask]
    assert np.abs(solve_gains(stems, target, mask) - [[0.5, 0.5], [0.25, 0.25]]).max() < 1e-12


def test_blocks_of_any_size_give_the_same_gains():
    stems = song(13, (1, 2))
    target = audio(14, 2, stems[0].shape[1])
    gains = Gains([1, 2])
    for part in np.split(np.arange(stems[0].shape[1]), [7, 10_000, 130_001]):
        gains.add([stem[:, part] for stem in stems], target[:, part])
    assert np.abs(gains.solve() - solve_gains(stems, target)).max() < 1e-10


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "amplitudes",
    [(0.5, 0.5), (0.9, 0.2), (0.1, 3.0), (-0.4, -0.7), (0.5, -0.25), (-2.0, 0.3), (0.8, 0.0), (0.0, -0.6), (0.0, 0.0)],
)
def test_the_strips_render_to_the_amplitudes(channels, amplitudes):
    stem = audio(21, channels, 20_000)
    tracks = gain_tracks("stem.wav", channels, amplitudes)
    rendered = render(Mix(tracks), {"stem.wav": stem}, RATE, end=stem.shape[1])
    expected = np.array(amplitudes)[:, None] * stem
    # A stem without amplitude stands at the lowest gain, -96 dB.
    floor = 10 ** (-96 / 20) * np.abs(stem).max() if not any(amplitudes) else 0.0
    assert np.abs(rendered - expected).max() <= 1e-6 + floor


def test_sides_of_one_sign_need_one_strip_and_of_two_signs_two():
    assert [len(gain_tracks("a.wav", 1, pair)) for pair in [(0.3, 0.9), (-0.3, -0.9), (0.3, -0.9)]] == [1, 1, 2]
    inverted = [track.chain[0].controls["invert"] for track in gain_tracks("a.wav", 1, (0.3, -0.9))]
    assert inverted == [False, True]
    # What lies below the lowest gain is no reason for a second strip.
    assert len(gain_tracks("a.wav", 1, (0.3, -1e-6))) == 1
