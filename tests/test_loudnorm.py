"""Bringing arrays to a target loudness: the library behind `mixtools loudnorm`."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from conftest import audio

from mixtools.dsp.source import ArraySource
from mixtools.measure.levels import levels
from mixtools.tasks import loudnorm
from mixtools.tasks.loudnorm import Sum, changed, measure, normalise, plan, plan_together

RATE = 44100


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return audio(5, 2, 2 * RATE)


class ShyingSource(ArraySource):
    """Gives less than it is asked for, as a pipe may."""

    def read(self, n: int) -> np.ndarray:
        return super().read(min(n, 777))


def whole(blocks) -> np.ndarray:
    return np.concatenate(list(blocks), axis=1)


def test_normalise_is_one_gain(x):
    y = normalise(x, RATE, -30.0)
    gain = 10 ** ((-30 - levels(x, RATE).integrated_lufs) / 20)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, (x * gain).astype(np.float32))
    assert levels(y, RATE).integrated_lufs == pytest.approx(-30, abs=1e-3)


@pytest.mark.parametrize("above_db", [0.5, 3.0])
def test_normalise_limits(x, above_db):
    before = levels(x, RATE)
    target = before.integrated_lufs - before.true_peak_dbtp - 1 + above_db
    y = normalise(x, RATE, target)
    assert levels(y, RATE).integrated_lufs == pytest.approx(target, abs=0.1)
    assert 20 * np.log10(oracles.true_peaks(np.pad(y.astype(float), ((0, 0), (0, 12)))).max()) <= -1
    assert y.shape == x.shape


def test_a_mono_signal_needs_no_channels(x):
    np.testing.assert_array_equal(normalise(x[0], RATE), normalise(x[:1], RATE))


@pytest.mark.parametrize("silent", [np.zeros((1, RATE)), np.full((2, 100), 0.5), np.full((1, RATE), 1e-5)])
def test_what_has_no_loudness_stays(silent):
    np.testing.assert_array_equal(normalise(silent, RATE), silent.astype(np.float32))


def test_block_size_never_changes_a_sample(x, monkeypatch):
    expected = whole(changed(ArraySource(x), RATE, 6.0, -3.0))
    np.testing.assert_array_equal(whole(changed(ShyingSource(x), RATE, 6.0, -3.0)), expected)
    monkeypatch.setattr(loudnorm, "BLOCK", 4096)
    np.testing.assert_array_equal(whole(changed(ArraySource(x), RATE, 6.0, -3.0)), expected)


@pytest.mark.parametrize("n", [1, 10, 200, 5000])
def test_limited_audio_is_as_long_and_in_place(n):
    short = audio(3, 2, n)
    expected = oracles.limiter((short * 10 ** (6 / 20)), RATE, -3.0, 100.0)
    np.testing.assert_allclose(whole(changed(ArraySource(short), RATE, 6.0, -3.0)), expected, atol=2e-6)


def test_progress_reaches_the_end_of_every_pass(x):
    shares = []
    measure(ArraySource(x), RATE, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_plan_that_is_carried_out_has_the_levels_it_predicts(x):
    before = levels(x, RATE)
    for target in (-30.0, before.integrated_lufs - before.true_peak_dbtp + 2):
        found = plan(lambda: ArraySource(x), RATE, target, -1.0)
        after = levels(whole(found.carried_out(ArraySource(x), RATE, -1.0)), RATE)
        assert vars(found.predicted) == pytest.approx(vars(after), abs=1e-4, nan_ok=False)
        assert found.before == before


def test_a_sum_of_unequal_sources():
    mono, stereo = audio(1, 1, 300), audio(2, 2, 1000)
    total = Sum([ArraySource(mono), ArraySource(stereo)])
    assert (total.channels, total.frames) == (2, 1000)
    expected = stereo.copy()
    expected[:, :300] += mono
    np.testing.assert_array_equal(whole([total.read(n) for n in (250, 600, 400)]), expected)


def test_together_is_the_gain_of_the_sum(x):
    y = audio(6, 1, RATE)
    total = x.copy()
    total[:, :RATE] += y
    found = plan_together([lambda: ArraySource(x), lambda: ArraySource(y)], RATE, -30.0, -1.0)
    assert found.gain_db == pytest.approx(plan(lambda: ArraySource(total), RATE, -30.0, -1.0).gain_db, abs=1e-9)


def test_quiet_parts_that_pass_the_absolute_gate_on_the_way():
    """Half of it below -70 LUFS, which the gain brings above: one measurement misses the target by more than 2 LU."""
    noise = np.random.default_rng(0).standard_normal((1, 16 * RATE))
    x = noise * np.repeat(10 ** (np.array([-68, -66, -74, -76]) / 20), 4 * RATE)
    found = plan(lambda: ArraySource(x), RATE, -20.0, -1.0)
    reached = levels(normalise(x, RATE, -20.0), RATE).integrated_lufs
    assert reached == pytest.approx(-20, abs=0.05)
    assert found.predicted.integrated_lufs == pytest.approx(reached, abs=1e-4)
