"""Settings and the filters they are: what the console renders, slopes by finite differences, settings found again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import error_db

from mixtools import Track, render
from mixtools.tasks.fit.estimate import Problem, Strip
from mixtools.tasks.fit.filters import Excerpted, Solver
from mixtools.tasks.fit.linear import Linear
from mixtools.tasks.fit.strips import Settings, Strips, Tangent
from mixtools.tasks.fit.structure import GaussNewton, read_off
from mixtools.tasks.recordings import ArrayRecording

RATE = 16000
STEMS = 4
REVERB = 800
FIELDS = [field.name for field in dataclasses.fields(Settings)]


def noise(seed: int, channels: int = 1, frames: int = 6 * RATE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


def some_settings(seed: int, reverb: int = REVERB, latest: float = 200.0) -> Settings:
    """A console in the gauge; every other stem inverted, and every other delay between samples."""
    rng = np.random.default_rng(seed)
    bands = len(Strips(RATE, 2000, 400, 4096, 0).bands)
    pan = rng.uniform(0.05, 0.95, STEMS)
    sides = np.minimum(1.0, 2.0 * np.stack([1 - pan, pan])) * 10 ** (rng.uniform(-10, 3, STEMS) / 20)
    delay = np.floor(rng.uniform(0, latest, STEMS)) + np.where(np.arange(STEMS) % 2, rng.uniform(0.2, 0.8, STEMS), 0.0)
    eq = rng.uniform(-9, 6, (STEMS, bands))
    eq[:, 5] = 0.0
    room = rng.standard_normal((2, reverb)) * 10 ** (-3 * np.arange(reverb) / max(reverb, 1))
    room[:, :1] = 0.0
    room /= np.sqrt(max((room**2).sum(), 1e-30))
    send = 10 ** (rng.uniform(-15, -3, STEMS) / 20) * (reverb > 0)
    parts = sides * np.array([1, -1, 1, -1]), eq, delay, send, room
    return Settings(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


def linear(stems: list[np.ndarray], target: np.ndarray, reverb_s: float) -> Linear:
    strips = [Strip(f"{i}.wav", "both", ArrayRecording(stem)) for i, stem in enumerate(stems)]
    ranges = [(0, target.shape[1])]
    return Linear(Problem(strips, ArrayRecording(target), RATE, ranges), reverb_s, lambda share: None)


def rendered(fitter: Linear, settings: Settings, stems: list[np.ndarray], end: int) -> np.ndarray:
    estimate = fitter.estimate(settings)
    held = {key: (response, RATE) for key, response in estimate.responses.items()}
    named = {f"{i}.wav": stem for i, stem in enumerate(stems)}
    return render(estimate.mix(RATE), named, RATE, responses=held, end=end)


@pytest.mark.parametrize("reverb", [REVERB, 0])
@pytest.mark.parametrize("channels", [1, 2])
def test_filters_are_the_console_s_impulse_responses(channels, reverb):
    settings = some_settings(1, reverb)
    fitter = linear([noise(i, channels, RATE) for i in range(STEMS)], noise(9, 2, RATE), reverb / RATE)
    shapes = fitter.shapes
    expected = shapes.filters(settings).numpy()
    for i in range(STEMS):
        stems = [np.zeros((channels, RATE)) for _ in range(STEMS)]
        stems[i][:, 4000] = 1.0
        heard = rendered(fitter, settings, stems, RATE)
        start = 4000 - shapes.lead
        assert error_db(heard[:, start : start + shapes.taps], expected[:, i]) < -80
        heard[:, start : start + shapes.taps] = 0.0
        assert np.abs(heard).max() < 1e-4 * np.abs(expected[:, i]).max(), "it is all in the taps"


def given(track: Track) -> dict[str, dict[str, float]]:
    return {insert.effect: insert.controls for insert in track.chain}


def test_settings_a_console_cannot_have_become_some_it_can():
    fitter = linear([noise(i, 1, RATE) for i in range(STEMS)], noise(9, 2, RATE), 0.0)
    settings = some_settings(2, 0)
    plain = given(fitter.estimate(settings).tracks[0])
    settings.eq[0] += 60.0
    settings.sides[:, 0] *= 10 ** (-60 / 20)
    settings.sides[:, 1] = torch.tensor([-0.5, 0.01])
    settings.eq[2, 3] = -300.0
    settings.sides[:, 3] = 0.0
    estimate = fitter.estimate(settings)
    estimate.mix(RATE)
    found = [given(track) for track in estimate.tracks]
    for band, db in plain["graphic_eq"].items():
        level = found[0]["graphic_eq"][band] + found[0]["gain"]["gain_db"]
        assert level == pytest.approx(db + plain["gain"]["gain_db"], abs=1e-6), band
    assert found[1]["gain"]["invert"] and found[1]["pan"]["pan"] == 0.0


@pytest.mark.parametrize("reverb", [REVERB, 0])
def test_the_gauge_leaves_the_filters_alone(reverb):
    strips = Strips(RATE, 3000, 372, 8192, reverb)
    settings = some_settings(3, reverb)
    settings.eq += 3.0 * torch.arange(STEMS)[:, None] - 4.0
    settings = dataclasses.replace(settings, room=5.0 * settings.room)
    gauged = strips.in_gauge(settings)
    assert error_db(strips.filters(gauged).numpy(), strips.filters(settings).numpy()) < -110
    assert gauged.eq[:, strips.gauge].abs().max() < 1e-12
    if reverb:
        assert float(gauged.room.square().sum()) == pytest.approx(1.0)
    again = strips.in_gauge(gauged)
    assert all(torch.allclose(getattr(again, name), getattr(gauged, name)) for name in FIELDS)


def some_move(seed: int, reverb: int, only: str | None = None) -> Settings:
    rng = np.random.default_rng([seed, 5])
    shapes = some_settings(0, reverb)
    move = {name: torch.from_numpy(rng.standard_normal(getattr(shapes, name).shape)) for name in FIELDS}
    return Settings(**{name: value * (only in (None, name)) for name, value in move.items()})


@pytest.mark.parametrize(("only", "reverb"), [*((name, REVERB) for name in [None, *FIELDS]), (None, 0)])
def test_slopes_are_those_of_finite_differences(only, reverb):
    strips = Strips(RATE, 3000, 372, 8192, reverb)
    # Of delays, a whole one has a slope on each side: none here is whole.
    settings = some_settings(4, reverb)
    settings.delay[:] = torch.tensor([3.3, 0.5, 17.8, -2.4])
    move = some_move(4, reverb, only)
    h = 1e-5
    expected = (strips.spectra(settings.plus(move, h)) - strips.spectra(settings.plus(move, -h))) / (2 * h)
    found = Tangent(strips, settings).forward(move)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(("only", "reverb"), [*((name, REVERB) for name in [None, *FIELDS]), (None, 0)])
def test_the_adjoint_of_the_slopes_is_one(only, reverb):
    strips = Strips(RATE, 3000, 372, 8192, reverb)
    tangent = Tangent(strips, some_settings(5, reverb))
    move = some_move(6, reverb, only)
    signal = torch.from_numpy(np.random.default_rng(7).standard_normal((2, STEMS, strips.taps))).float()
    change = strips.cut(tangent.forward(move))
    there = float((change.double() * signal).sum())
    back = move.dot(tangent.adjoint(torch.fft.rfft(signal, strips.points)))
    assert abs(there - back) < 1e-5 * float(change.norm() * signal.norm())


@pytest.fixture(scope="module")
def made() -> tuple[Settings, list[np.ndarray], np.ndarray]:
    """Settings, stems that are coloured noise of their own, and the mix that the console makes of them."""
    settings = some_settings(8)
    stems = [noise(i) for i in range(STEMS)]
    for i, stem in enumerate(stems):
        stem[:, 1:] += (0.6 - 0.3 * i) * stem[:, :-1]
    fitter = linear(stems, np.zeros((2, stems[0].shape[1]), np.float32), REVERB / RATE)
    return settings, stems, rendered(fitter, settings, stems, stems[0].shape[1])


def differences(found: Settings, true: Settings) -> dict[str, float]:
    """The largest of each: gain and EQ in dB, pan, delay in samples, send in dB, and the room's relative error."""
    gains = [20 * torch.log10(s.sides.abs().amax(0)) for s in (found, true)]
    pans = [s.sides.abs()[1] / s.sides.abs().sum(0) for s in (found, true)]
    assert (torch.sign(found.sides.sum(0)) == torch.sign(true.sides.sum(0))).all()
    return {
        "gain": float((gains[0] - gains[1]).abs().max()),
        "pan": float((pans[0] - pans[1]).abs().max()),
        "eq": float((found.eq - true.eq).abs().max()),
        "delay": float((found.delay - true.delay).abs().max()),
        "send": float((found.send / true.send).log10().abs().max()) * 20 if true.room.numel() else 0.0,
        "room": float((found.room - true.room).norm() / true.room.norm()) if true.room.numel() else 0.0,
    }


def test_settings_of_dry_strips_are_read_off_their_filters():
    settings = some_settings(10, 0)
    settings.delay.floor_()
    fitter = linear([noise(i, 1, RATE) for i in range(STEMS)], noise(9, 2, RATE), 0.0)
    off = differences(read_off(fitter.shapes, fitter.solver, fitter.shapes.filters(settings)), settings)
    assert off["gain"] < 0.1 and off["pan"] < 0.001 and off["eq"] < 0.5 and off["delay"] == 0.0, off


def test_settings_with_a_reverb_are_read_off_roughly(made):
    settings, stems, target = made
    fitter = linear(stems, target, REVERB / RATE)
    true = fitter.shapes.filters(settings)
    found = read_off(fitter.shapes, fitter.solver, true)
    left = fitter.shapes.filters(found) - true
    for i in range(STEMS):
        assert float(left[:, i].norm()) < 0.5 * float(true[:, i].norm())
    off = differences(found, settings)
    assert off["pan"] < 0.1 and off["delay"] < 1.0, off


def test_the_loss_is_the_residual_of_what_the_console_renders(made):
    settings, stems, target = made
    fitter = linear(stems, target, REVERB / RATE)
    strips = Excerpted(
        [ArrayRecording(stem) for stem in stems], ArrayRecording(target), [(0, target.shape[1])], 3000, 372
    )
    other = some_settings(9)
    shapes = Strips(RATE, 3000, 372, strips.points, REVERB)
    loss = GaussNewton(shapes, Solver(strips, RATE)).loss(other)
    left = target.astype(np.float64) - rendered(fitter, other, stems, target.shape[1])
    assert loss == pytest.approx(np.square(left).sum() / np.square(target, dtype=np.float64).sum(), rel=1e-3)


def test_settings_come_home(made):
    settings, stems, target = made
    fitter = linear(stems, target, REVERB / RATE)
    filters = fitter.solver.solve((20,))
    newton = GaussNewton(fitter.shapes, fitter.solver)
    kept, shares = [], []
    start = read_off(fitter.shapes, fitter.solver, filters)
    found = newton.run(start, 14, 20, shares.append, lambda better: kept.append(newton.loss(better)))
    assert newton.loss(found) < 1e-6
    assert kept == sorted(kept, reverse=True) and kept[-1] == newton.loss(found)
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    off = differences(found, settings)
    assert off["gain"] < 0.05 and off["pan"] < 0.002 and off["delay"] < 0.05, off
    assert off["eq"] < 0.3 and off["send"] < 0.2 and off["room"] < 0.02, off


def test_settings_that_are_true_stay(made):
    settings, stems, target = made
    fitter = linear(stems, target, REVERB / RATE)
    found = GaussNewton(fitter.shapes, fitter.solver).run(settings, 3, 20)
    off = differences(found, settings)
    assert max(off.values()) < 0.02, off
