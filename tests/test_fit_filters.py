"""The least squares under `fit`: convolutions against numpy's, solutions against `lstsq`, and a mix made level."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from conftest import error_db

from mixtools.tasks.fit import filters as module
from mixtools.tasks.fit.filters import Excerpted, Solver
from mixtools.tasks.fit.whitening import Whitened, whitening
from mixtools.tasks.recordings import ArrayRecording

RATE = 8000
TAPS, LEAD = 50, 7
FRAMES = 6000
WHOLE = [(0, FRAMES)]
PIECES = [(-40, 900), (1500, 1501), (2000, 5200), (5900, 6300)]
"""Before the beginning, one sample alone, and beyond the end too."""


def noise(seed: int, channels: int = 1, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


def some_filters(seed: int, stems: int) -> np.ndarray:
    """(2, stems, TAPS), the later taps the smaller."""
    return np.random.default_rng([seed, 1]).standard_normal((2, stems, TAPS)) * 10 ** (-np.arange(TAPS) / TAPS)


def by_numpy(stems: list[np.ndarray], filters: np.ndarray, first: int, last: int) -> np.ndarray:
    """Samples first to last of what filters make of stems that are silent outside, (2, last - first), float64."""
    made = np.zeros((2, last - first))
    for side in range(2):
        for stem, own in zip(stems, filters[side], strict=True):
            x = stem[min(side, len(stem) - 1)].astype(np.float64)
            around = np.pad(np.convolve(x, own), (1000, 1000))
            made[side] += around[1000 + LEAD + first : 1000 + LEAD + last]
    return made


def design(stems: list[np.ndarray], side: int, frames: int = FRAMES) -> np.ndarray:
    """Columns of all stems at all delays, (frames, stems * TAPS)."""
    columns = []
    for stem in stems:
        x = np.pad(stem[min(side, len(stem) - 1)].astype(np.float64), (TAPS, TAPS))
        columns += [x[TAPS + LEAD - k : TAPS + LEAD - k + frames] for k in range(TAPS)]
    return np.stack(columns, axis=1)


def excerpted(stems, target, ranges=WHOLE) -> Excerpted:
    return Excerpted([ArrayRecording(stem) for stem in stems], ArrayRecording(target), ranges, TAPS, LEAD)


def solved(stems, target, **keywords) -> np.ndarray:
    return Solver(excerpted(stems, target), RATE).solve(**keywords).numpy().astype(np.float64)


def small_transforms(monkeypatch, size: int = 256) -> None:
    monkeypatch.setattr(module, "_transform", lambda taps, stems, length: size)


STEMS = {"mono": (1, 1, 1), "stereo": (2, 2), "mixed": (1, 2, 1)}
all_stems = pytest.mark.parametrize("channels", STEMS.values(), ids=STEMS)


@all_stems
@pytest.mark.parametrize("ranges", [WHOLE, PIECES], ids=["whole", "pieces"])
@pytest.mark.parametrize("size", [None, 256, 4096])
def test_filtering_is_convolution(channels, ranges, size, monkeypatch):
    if size:
        small_transforms(monkeypatch, size)
    stems = [noise(i, count) for i, count in enumerate(channels)]
    filters = some_filters(1, len(stems))
    data = excerpted(stems, noise(9, 2), ranges)
    made = data.filtered(torch.from_numpy(filters).float()).numpy()
    assert sum(stop - at for at, stop in data.places) == sum(stop - start for start, stop in ranges)
    for segment, (at, stop) in enumerate(data.places):
        expected = by_numpy(stems, filters, at, stop)
        assert np.abs(made[:, segment, : stop - at] - expected).max() < 1e-5 * np.abs(filters).sum()


@all_stems
@pytest.mark.parametrize("size", [None, 256])
def test_correlating_is_the_adjoint_of_filtering(channels, size, monkeypatch):
    if size:
        small_transforms(monkeypatch, size)
    stems = [noise(i, count) for i, count in enumerate(channels)]
    data = excerpted(stems, noise(9, 2), PIECES)
    filters = torch.from_numpy(some_filters(2, len(stems))).float()
    signals = torch.from_numpy(noise(3, 2, data.counted.numel())).reshape(2, *data.counted.shape) * data.counted
    there = float((data.filtered(filters).double() * signals).sum())
    back = float((data.correlated(signals).double() * filters).sum())
    scale = float(data.filtered(filters).norm() * signals.norm())
    assert abs(there - back) < 1e-6 * scale


def test_correlating_is_the_normal_equations_right_side():
    stems, target = [noise(0), noise(1, 2)], noise(9, 2)
    data = excerpted(stems, target)
    found = data.correlated(data.target).numpy()
    for side in range(2):
        expected = design(stems, side).T @ target[side].astype(np.float64)
        assert error_db(found[side].ravel(), expected) < -100


def test_only_what_is_asked_for_counts():
    data = excerpted([noise(0)], noise(9, 2), PIECES)
    assert float(data.counted.sum()) == sum(stop - start for start, stop in PIECES)
    odd = data.where(lambda samples: samples % 2 == 1)
    assert float(odd.sum()) == sum(n % 2 for start, stop in PIECES for n in range(start, stop))
    assert not (odd * (1 - data.counted)).any()


@all_stems
@pytest.mark.parametrize("noisy", [0.0, 0.03])
def test_agrees_with_numpy(channels, noisy):
    stems = [noise(i, count) for i, count in enumerate(channels)]
    filters = some_filters(4, len(stems))
    target = by_numpy(stems, filters, 0, FRAMES)
    target = (target + noisy * target.std() * noise(8, 2)).astype(np.float32)
    found = solved(stems, target)
    for side in range(2):
        expected = np.linalg.lstsq(design(stems, side), target[side].astype(np.float64))[0]
        assert error_db(found[side].ravel(), expected) < -60
        assert noisy or error_db(found[side].ravel(), filters[side].ravel()) < -60


def test_coloured_stems_of_very_unequal_levels_are_solved_for():
    stems = [10.0 ** (-i) * scipy.signal.lfilter([1.0], [1.0, -0.8], noise(i)).astype(np.float32) for i in range(3)]
    filters = some_filters(5, 3) * 10.0 ** np.arange(3)[:, None]
    target = by_numpy(stems, filters, 0, FRAMES).astype(np.float32)
    found = solved(stems, target, steps=(15, 60))
    assert error_db(by_numpy(stems, found, 0, FRAMES), target) < -70
    for i in range(3):
        assert error_db(found[:, i], filters[:, i]) < -50, i


def test_a_stem_that_was_recorded_quietly_is_solved_for_as_well():
    stems = [noise(i) for i in range(3)]
    target = by_numpy(stems, some_filters(13, 3), 0, FRAMES).astype(np.float32)
    levels = np.array([1.0, 1e-1, 1e-3])
    alike = solved(stems, target)
    quiet = solved([(g * stem).astype(np.float32) for g, stem in zip(levels, stems, strict=True)], target)
    assert error_db(quiet * levels[:, None], alike) < -60


@pytest.mark.parametrize("gain", [1.0, -1.0, 0.5])
def test_duplicates_share_and_do_not_explode(gain):
    one, other = noise(0), noise(1)
    filters = some_filters(6, 2)
    target = by_numpy([one, other], filters, 0, FRAMES).astype(np.float32)
    found = solved([one, other, (gain * one).astype(np.float32)], target)
    # A ridge relative to each stem's own energy: the parts that the two play in the mix are alike.
    assert error_db(found[:, 0], filters[:, 0] / 2) < -50
    assert error_db(gain * found[:, 2], filters[:, 0] / 2) < -50
    assert error_db(found[:, 1], filters[:, 1]) < -60


@pytest.mark.parametrize("level", [0.0, 1e-7])
def test_silent_stems_get_next_to_no_filter(level):
    one = noise(0)
    filters = some_filters(7, 1)
    target = by_numpy([one], filters, 0, FRAMES).astype(np.float32)
    found = solved([one, (level * noise(1)).astype(np.float32)], target)
    assert error_db(found[:, 0], filters[:, 0]) < -60
    part = by_numpy([level * noise(1)], found[:, 1:], 0, FRAMES)
    assert np.square(part).sum() < 1e-9 * np.square(target, dtype=np.float64).sum()
    assert np.square(found[:, 1]).sum() < np.square(found[:, 0]).sum()


@pytest.mark.parametrize("stems", [[np.zeros((1, FRAMES), np.float32)] * 2, [noise(0)]], ids=["stems", "mix"])
def test_silence_gives_no_filters(stems):
    target = np.zeros((2, FRAMES), np.float32) if len(stems) == 1 else noise(9, 2)
    assert np.abs(solved(stems, target)).max() < 1e-6


def test_a_return_of_another_stem_does_not_explode():
    one = noise(0)
    back = scipy.signal.lfilter(some_filters(8, 1)[0, 0], [1.0], one).astype(np.float32)
    target = np.concatenate([one + 0.5 * back, 0.2 * one + back])
    found = solved([one, back], target)
    assert error_db(by_numpy([one, back], found, 0, FRAMES)[:, TAPS:-TAPS], target[:, TAPS:-TAPS]) < -50
    assert np.square(found).sum() < 10.0


def test_the_size_of_the_transforms_does_not_matter(monkeypatch):
    stems = [noise(0), noise(1, 2)]
    target = by_numpy(stems, some_filters(10, 2), 0, FRAMES).astype(np.float32) + 0.1 * noise(8, 2)
    found = []
    for size in (256, 1024, 8192):
        small_transforms(monkeypatch, size)
        found.append(Solver(excerpted(stems, target, PIECES), RATE).solve().numpy())
    assert error_db(found[0], found[2]) < -60
    assert error_db(found[1], found[2]) < -60


def test_what_does_not_count_has_no_say():
    stems = [noise(0), noise(1)]
    target = by_numpy(stems, some_filters(11, 2), 0, FRAMES).astype(np.float32)
    spoilt = target.copy()
    spoilt[:, 2000:3000] += 100 * noise(5, 2, 1000)
    found = []
    for mix in (target, spoilt):
        data = excerpted(stems, mix)
        counted = data.where(lambda samples: (samples < 2000) | (samples >= 3000))
        found.append(Solver(data, RATE).solve(counted=counted).numpy())
    assert (found[0] == found[1]).all()
    assert error_db(found[0], some_filters(11, 2)) < -60


def test_progress_goes_from_nothing_to_nearly_all():
    shares = []
    solved([noise(0)], noise(9, 2), progress=shares.append)
    assert shares == sorted(shares) and shares[0] == 0.0 and 0.0 < shares[-1] < 1.0


def test_cross_spectra_are_what_one_stem_has_of_another():
    one = noise(0, frames=120_000)
    filters = some_filters(12, 1)[0, 0, :6]
    other = scipy.signal.lfilter(filters, [1.0], one).astype(np.float32)
    data = excerpted([one, other], noise(9, 2), [(30_000, 90_000)])
    matrices = Solver(data, RATE).matrices(0).numpy()
    energy = np.square(one[:, 30_000:90_000], dtype=np.float64).sum()
    assert np.isclose(matrices[:, 0, 0].real.mean(), energy, rtol=0.02)
    response = np.fft.rfft(filters, data.points)
    assert np.abs(matrices[:, 0, 1] / matrices[:, 0, 0] - response).max() < 0.1 * np.abs(response).max()
    assert np.allclose(matrices, matrices.conj().transpose(0, 2, 1))
    ends = matrices[[0, -1], 0, 1]
    assert (np.abs(ends.imag) < 1e-6 * np.abs(ends)).all(), "real signals have real spectra there"


def octave_levels(x: np.ndarray) -> np.ndarray:
    """Power per Hz in octaves from 62.5 Hz on, in dB."""
    frequencies, power = scipy.signal.welch(x, RATE, nperseg=2048)
    edges = 62.5 * 2.0 ** np.arange(7)
    inside = [power[(low <= frequencies) & (frequencies < high)] for low, high in zip(edges, edges[1:], strict=False)]
    return 10 * np.log10([band.mean() for band in inside])


def test_whitening_makes_a_coloured_noise_level():
    coloured = scipy.signal.lfilter([1.0, 0.5], [1.0, -1.6, 0.7], noise(0, 2, 80_000)).astype(np.float32)
    taps = whitening(ArrayRecording(coloured), [(0, 30_000), (40_000, 80_000)])
    white = Whitened(ArrayRecording(coloured), taps).read(0, 80_000)
    assert np.ptp(octave_levels(coloured[0])) > 15
    for channel in white:
        assert np.ptp(octave_levels(channel)) < 1.0


def test_whitening_predicts_every_sample_from_those_before():
    coloured = scipy.signal.lfilter([1.0], [1.0, -1.2, 0.5], noise(0, 1, 40_000)).astype(np.float32)
    taps = whitening(ArrayRecording(coloured), [(0, 40_000)])
    x = np.pad(coloured[0].astype(np.float64), (len(taps) - 1, len(taps) - 1))
    rows = np.lib.stride_tricks.sliding_window_view(x, len(taps))[:, ::-1]
    predicted = np.linalg.lstsq(rows[:, 1:], rows[:, 0])[0]
    assert np.allclose(taps, [1.0, *-predicted], atol=1e-4)


def test_whitening_of_silence_and_of_nothing_changes_nothing():
    assert (whitening(ArrayRecording(np.zeros((2, 5000), np.float32)), [(0, 5000)]) == [1.0]).all()
    assert (whitening(ArrayRecording(noise(0)), []) == [1.0]).all()


def test_a_whitened_recording_reads_alike_from_anywhere():
    taps = whitening(ArrayRecording(noise(0)), WHOLE)
    recording = Whitened(ArrayRecording(noise(0)), taps)
    whole = recording.read(-100, FRAMES + 300)
    expected = np.convolve(np.pad(noise(0)[0].astype(np.float64), (100, 200)), taps)[: FRAMES + 300]
    assert error_db(whole[0], expected) < -120
    assert error_db(recording.read(1234, 500), whole[:, 1334:1834]) < -120
