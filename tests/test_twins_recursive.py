"""The twins with recursions: the same sound as the reference, and gradients that are those of a plain loop."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from conftest import audio, error_db
from twin_checks import BAR_DB, curve_tensor, drawn_controls, drawn_curve, twin_error_db

from mixtools import diff
from mixtools.controls import EFFECTS, EQ_BANDS
from mixtools.diff.effect import grid_points
from mixtools.dsp import EFFECT_FUNCTIONS

RECURSIVE = ("parametric_eq", "compressor", "limiter")
RATE = 44100
FIXED = ("lookahead_ms",)
GENTLE = {
    "threshold_db": (0.3, 0.7),
    "attack_ms": (0.0, 0.6),
    "release_ms": (0.0, 0.6),
    "ceiling_db": (0.3, 0.8),
}
"""Parts of ranges in which a short signal feels the control."""

effects = pytest.mark.parametrize("effect", RECURSIVE)
precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def learned(effect: str) -> list[str]:
    """The controls that have gradients."""
    return [control.name for control in EFFECTS[effect].controls if control.name not in FIXED]


def stacked(controls: list[dict[str, float]]) -> dict[str, torch.Tensor]:
    """One value per item; all controls of these effects are numbers."""
    return {name: torch.tensor([item[name] for item in controls], dtype=torch.float64) for name in controls[0]}


def gentle(effect: str, seed: int, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Every learned control somewhere inside its range."""
    rng = np.random.default_rng(seed)
    settings = {}
    for name in learned(effect):
        units = rng.uniform(*GENTLE.get(name, (0.2, 0.8)), size=shape)
        values = [EFFECTS[effect][name].from_unit(unit) for unit in units.flat]
        settings[name] = torch.tensor(values, dtype=torch.float64).reshape(shape).requires_grad_()
    return settings


def noise(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@effects
@precisions
def test_as_the_reference(effect, dtype):
    rng = np.random.default_rng(1)
    for seed in range(200):
        controls = drawn_controls(effect, rng)
        error = twin_error_db(effect, controls, (44100, 48000)[seed // 2 % 2], 1 + seed % 2, dtype, n=2500, seed=seed)
        assert error < BAR_DB, controls


@effects
@precisions
def test_as_the_reference_where_controls_move(effect, dtype):
    rng = np.random.default_rng(2)
    n = 2500
    for seed in range(40):
        rate = (44100, 48000)[seed % 2]
        controls = drawn_controls(effect, rng)
        for name in rng.choice(learned(effect), 2, replace=False):
            controls[name] = drawn_curve(EFFECTS[effect][name], n / rate, rng)
        assert twin_error_db(effect, controls, rate, 1 + seed // 2 % 2, dtype, n=n, seed=seed) < BAR_DB, controls


@effects
def test_a_tensor_on_the_control_grid_is_a_curve(effect):
    rng = np.random.default_rng(3)
    n = 1500
    x = torch.from_numpy(audio(3, 2, n))
    for name in learned(effect):
        curve = drawn_curve(EFFECTS[effect][name], n / RATE, rng)
        points = curve_tensor(curve, EFFECTS[effect][name], n, RATE)
        others = {other: value.item() for other, value in gentle(effect, 3, ()).items() if other != name}
        of_curve = getattr(diff, effect)(x, RATE, **{name: curve}, **others)
        of_tensor = getattr(diff, effect)(x, RATE, **{name: points}, **others)
        assert torch.equal(of_curve, of_tensor.detach())


@effects
def test_every_item_of_a_batch_has_its_own_controls(effect):
    rng = np.random.default_rng(4)
    controls = [drawn_controls(effect, rng) for _ in range(6)]
    x = torch.from_numpy(np.stack([audio(seed, 2, 2000) for seed in range(6)])).reshape(2, 3, 2, 2000)
    together = stacked(controls)
    y = getattr(diff, effect)(x, RATE, **{name: value.reshape(2, 3) for name, value in together.items()})
    for index, single in enumerate(controls):
        item = divmod(index, 3)
        expected = getattr(diff, effect)(x[item], RATE, **single).numpy()
        assert not expected.any() or error_db(y[item].numpy(), expected) < -200


@effects
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("moving", [False, True], ids=["steady", "moving"])
def test_gradients_are_finite_differences(effect, channels, moving):
    n = 150
    for seed in range(1 if moving else 2):
        controls = gentle(effect, seed, (2, grid_points(n)) if moving else (2,))
        x = noise(seed, 2, channels, n)

        def run(x, *values, names=tuple(controls)):
            return getattr(diff, effect)(x, RATE, **dict(zip(names, values, strict=True)))

        assert torch.autograd.gradcheck(lambda *values, x=x, run=run: run(x.detach(), *values), [*controls.values()])
        assert torch.autograd.gradcheck(run, (x, *controls.values()), fast_mode=True)


def test_gradients_with_lookahead_are_finite_differences():
    n = 150
    ahead = torch.tensor([0.0, 0.5], dtype=torch.float64)
    for shape in [(2,), (2, grid_points(n))]:
        controls = gentle("compressor", 5, shape)

        def run(x, *values, names=tuple(controls)):
            return diff.compressor(x, RATE, lookahead_ms=ahead, **dict(zip(names, values, strict=True)))

        assert torch.autograd.gradcheck(run, (noise(5, 2, 2, n), *controls.values()))


def test_a_lookahead_longer_than_the_audio():
    x = audio(0, 1, 300)
    controls = {"threshold_db": -40.0, "lookahead_ms": 20.0}
    y = diff.compressor(torch.from_numpy(x), RATE, **controls).numpy()
    assert error_db(y, EFFECT_FUNCTIONS["compressor"](x, RATE, **controls)) < BAR_DB


def biquad_loop(x: torch.Tensor, kind: str, gain_db: torch.Tensor, freq: torch.Tensor, q: torch.Tensor):
    """The cookbook's difference equation in direct form I."""
    big_a, w = 10 ** (gain_db / 40), 2 * math.pi * freq / RATE
    alpha, cos = torch.sin(w) / (2 * q), torch.cos(w)
    if kind.startswith("band"):
        b = 1 + alpha * big_a, -2 * cos, 1 - alpha * big_a
        a = 1 + alpha / big_a, -2 * cos, 1 - alpha / big_a
    else:
        sign = -1 if kind == "high_shelf" else 1
        root = 2 * big_a.sqrt() * alpha
        p, m = big_a + 1, big_a - 1
        b = big_a * (p - sign * m * cos + root), 2 * sign * big_a * (m - sign * p * cos)
        b = *b, big_a * (p - sign * m * cos - root)
        a = p + sign * m * cos + root, -2 * sign * (m + sign * p * cos), p + sign * m * cos - root
    y: list[torch.Tensor] = []
    zero = torch.zeros((), dtype=torch.float64)
    for n in range(len(x)):
        x1, x2 = (x[n - k] if n >= k else zero for k in (1, 2))
        y1, y2 = (y[n - k] if n >= k else zero for k in (1, 2))
        y.append((b[0] * x[n] + b[1] * x1 + b[2] * x2 - a[1] * y1 - a[2] * y2) / a[0])
    return torch.stack(y)


def compressor_loop(x, threshold_db, ratio, attack_ms, release_ms, knee_db, makeup_db):
    """Section 4.2.3 of the thesis in decibels, sample by sample, with branches."""
    held = torch.zeros((), dtype=torch.float64)
    y = []
    for sample in x.unbind(-1):
        level = 20 * torch.log10(sample.abs().max().clamp(min=1e-6))
        over = level - threshold_db
        if 2 * over <= -knee_db:
            wanted = 0 * over
        elif 2 * over < knee_db:
            wanted = (1 - 1 / ratio) * (over + knee_db / 2) ** 2 / (2 * knee_db)
        else:
            wanted = (1 - 1 / ratio) * over
        smoothing = torch.exp(-1000 / ((attack_ms if wanted > held else release_ms) * RATE))
        held = smoothing * held + (1 - smoothing) * wanted
        y.append(sample * 10 ** ((makeup_db - held) / 20))
    return torch.stack(y, dim=-1)


def assert_same_gradients(found, expected, wanted, weight):
    gradients = torch.autograd.grad((found * weight).sum(), wanted)
    plain = torch.autograd.grad((expected * weight).sum(), wanted)
    for gradient, other in zip(gradients, plain, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-8, atol=1e-10 * float(other.abs().max()))


def test_gradients_of_the_equaliser_are_those_of_a_plain_loop():
    n = 1300
    controls = gentle("parametric_eq", 6, ())
    x = noise(6, 1, n)
    y = x[0]
    for band in EQ_BANDS:
        y = biquad_loop(y, band, *(controls[f"{band}_{name}"] for name in ("gain_db", "freq_hz", "q")))
    found = diff.parametric_eq(x, RATE, **controls)[0]
    assert error_db(found.detach().numpy(), y.detach().numpy()) < -200
    assert_same_gradients(found, y, [x, *controls.values()], torch.linspace(-1, 1, n, dtype=torch.float64))


def test_gradients_of_the_compressor_are_those_of_a_plain_loop():
    n = 700
    controls = gentle("compressor", 7, ())
    envelope = torch.linspace(0, 5, n, dtype=torch.float64).sin() ** 2
    x = (noise(7, 2, n).detach() * envelope).requires_grad_()
    y = compressor_loop(x, **controls)
    found = diff.compressor(x, RATE, **controls)
    assert error_db(found.detach().numpy(), y.detach().numpy()) < -200
    weight = torch.linspace(-1, 1, n, dtype=torch.float64)
    assert_same_gradients(found, y, [x, *controls.values()], weight)


def test_long_curves_have_the_gradients_of_short_ones():
    """What a part of the signal before silence has to do with the gradients does not depend on what follows."""
    n = 700
    for effect in RECURSIVE:
        long = gentle(effect, 8, (grid_points(3 * n),))
        x = noise(8, 1, n)
        y = getattr(diff, effect)(torch.cat([x, x.detach()[:, :0].new_zeros(1, 2 * n)], dim=1), RATE, **long)
        short = {name: value[: grid_points(n)] for name, value in long.items()}
        weight = torch.cat([torch.linspace(-1, 1, n - 200), torch.zeros(200)])
        assert_same_gradients(y[:, :n], getattr(diff, effect)(x, RATE, **short), [x, *long.values()], weight)


@effects
def test_gradients_are_finite_everywhere(effect):
    rng = np.random.default_rng(9)
    n = 400
    signals = {
        "silence": np.zeros((2, n)),
        "full scale": np.sign(np.sin(np.arange(n) * 0.3))[None].repeat(2, axis=0),
        "one click": np.eye(2, n, 100),
        "very faint": 1e-30 * audio(9, 2, n),
        "music": audio(9, 2, n),
    }
    for trial in range(40):
        controls = stacked([drawn_controls(effect, rng)] * len(signals))
        for name in learned(effect):
            controls[name].requires_grad_()
        dtype = (torch.float32, torch.float64)[trial % 2]
        x = torch.from_numpy(np.stack(list(signals.values()))).to(dtype).requires_grad_()
        y = getattr(diff, effect)(x, (44100, 8000, 192000)[trial % 3], **controls)
        assert torch.isfinite(y).all()
        y.square().sum().backward()
        assert torch.isfinite(x.grad).all()
        for name in learned(effect):
            assert torch.isfinite(controls[name].grad).all(), name


def ramp(n: int) -> np.ndarray:
    """Makes a number of a signal that every sample has a part in."""
    return np.linspace(0.5, 1.5, n)


def gradient(effect: str, x: np.ndarray, controls: dict[str, float], name: str) -> float:
    value = torch.tensor(controls[name], dtype=torch.float64, requires_grad=True)
    y = getattr(diff, effect)(torch.from_numpy(x), RATE, **{**controls, name: value})
    (y * torch.from_numpy(ramp(x.shape[1]))).sum().backward()
    return float(value.grad)


def one_sided(effect: str, x: np.ndarray, controls: dict[str, float], name: str, step: float) -> list[float]:
    """The same derivative from below and from above, of the oracle."""

    def at(value: float) -> float:
        settings = {"lookahead_ms": 0.0} if effect == "compressor" else {}
        return float(
            (getattr(oracles, effect)(x, RATE, **settings, **{**controls, name: value}) * ramp(x.shape[1])).sum()
        )

    here = controls[name]
    sides = [step] if name == "knee_db" and here == 0.0 else [-step, step]
    return [(at(here + side) - at(here)) / side for side in sides]


CORNER = {"threshold_db": 20 * math.log10(0.25), "ratio": 4.0, "attack_ms": 1.0, "release_ms": 20.0, "knee_db": 0.0}
CORNER |= {"makeup_db": 0.0}
MUSIC = audio(10, 2, 600)
STEADY = np.full((1, 600), 0.25)
KINKS = [
    pytest.param(STEADY, CORNER, id="level at the corner of a hard knee"),
    pytest.param(
        STEADY, {**CORNER, "knee_db": 6.0, "threshold_db": CORNER["threshold_db"] + 3}, id="threshold just met"
    ),
    pytest.param(MUSIC, {**CORNER, "threshold_db": -40.0}, id="hard knee"),
    pytest.param(MUSIC, {**CORNER, "threshold_db": -40.0, "ratio": 1.0}, id="ratio 1"),
    pytest.param(MUSIC, {**CORNER, "threshold_db": -40.0, "ratio": 1.0, "knee_db": 12.0}, id="ratio 1, soft knee"),
    pytest.param(MUSIC, {**CORNER, "threshold_db": -30.0, "release_ms": 5.0, "attack_ms": 5.0}, id="attack as release"),
    pytest.param(np.zeros((1, 600)), CORNER, id="silence"),
    pytest.param(np.ones((2, 600)), {**CORNER, "threshold_db": 0.0}, id="full scale"),
    pytest.param(MUSIC, {**CORNER, "threshold_db": 0.0}, id="neutral"),
]


@pytest.mark.parametrize(("x", "controls"), KINKS)
def test_gradients_at_the_compressor_s_kinks_are_one_sided(x, controls):
    for name in controls:
        found = gradient("compressor", x, controls, name)
        sides = one_sided("compressor", x, controls, name, 1e-7)
        assert any(abs(found - side) <= 1e-4 * max(1.0, abs(side)) for side in sides), (name, found, sides)


def test_gradients_of_an_equaliser_that_does_nothing():
    controls = {control.name: control.default for control in EFFECTS["parametric_eq"].controls}
    assert np.array_equal(diff.parametric_eq(torch.from_numpy(MUSIC), RATE).numpy(), MUSIC)
    for name in controls:
        found = gradient("parametric_eq", MUSIC, controls, name)
        sides = one_sided("parametric_eq", MUSIC, controls, name, 1e-3)
        assert found == pytest.approx(np.mean(sides), rel=1e-4, abs=1e-8)
        assert (abs(found) > 1e-8) == name.endswith("_gain_db")


def test_the_louder_channel_has_the_detector_s_gradient():
    x = torch.tensor([[0.5] * 50, [-0.9] * 50], dtype=torch.float64, requires_grad=True)
    y = diff.compressor(x, RATE, threshold_db=-30.0, attack_ms=0.03)
    y[0, -1].backward()
    assert torch.all(x.grad[0, :-1] == 0)
    assert torch.all(x.grad[1, -5:] > 0), "more of a negative sample is less of a level"


def test_a_peak_that_just_meets_the_ceiling_has_no_part_in_its_gradient():
    controls = {"ceiling_db": -6.0, "release_ms": 50.0}
    met = 10 ** (-6.0 / 20) * (1 - 1e-6)
    for level, heard in ((met * (1 - 1e-9), False), (met * (1 + 1e-9), True)):
        x = np.zeros((1, 600))
        x[0, 200] = level
        found = gradient("limiter", x, controls, "ceiling_db")
        below, above = one_sided("limiter", x, controls, "ceiling_db", 1e-5)
        assert found == pytest.approx(below if heard else above, rel=1e-3, abs=1e-6)
        assert (abs(found) > 0) == heard


def test_the_graph_keeps_no_signal_but_input_and_output():
    n = 50000
    x = torch.zeros(1, 1, n, requires_grad=True)
    for effect in ("parametric_eq", "compressor"):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t) or t, lambda t: t):
            y = getattr(diff, effect)(x, RATE, **{learned(effect)[0]: -6.0})
        assert sum(t.numel() for t in saved if t.numel() >= n) == n
        marks = y.grad_fn
        while not hasattr(marks, "marks") and not hasattr(marks, "trails"):
            marks = marks.next_functions[0][0]
        kept = marks.marks if effect == "parametric_eq" else marks.trails
        assert sum(mark.nbytes for mark in kept) < 0.15 * x.nbytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@effects
def test_on_a_gpu(effect):
    controls = gentle(effect, 11, (2,))
    x = noise(11, 2, 2, 2000)
    weight = torch.linspace(-1, 1, 2000, dtype=torch.float64)
    here = getattr(diff, effect)(x, RATE, **controls)
    there = getattr(diff, effect)(x.cuda(), RATE, **controls)
    assert there.is_cuda
    assert error_db(there.detach().cpu().numpy(), here.detach().numpy()) < -200
    assert_same_gradients(there.cpu(), here, [x, *controls.values()], weight)


def test_the_oracle_agrees():
    for effect in RECURSIVE:
        controls = drawn_controls(effect, np.random.default_rng(12))
        x = audio(12, 2, 1200)
        found = getattr(diff, effect)(torch.from_numpy(x), RATE, **controls).numpy()
        assert error_db(found, getattr(oracles, effect)(x, RATE, **controls)) < -140
