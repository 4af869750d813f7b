"""The differentiable twins of everything but biquads and dynamics: sound, gradients, kinks, and what is refused."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import audio, error_db
from torch.autograd import gradcheck
from twin_checks import BAR_DB, curve_tensor, drawn_controls, drawn_curve, stacked, twin_error_db

from mixtools import diff
from mixtools.controls import EFFECTS, PAN_LAWS, Curve
from mixtools.diff.effect import grid_points
from mixtools.diff.fft import convolved
from mixtools.dsp import EFFECT_FUNCTIONS
from mixtools.dsp.convolution import impulse_response
from mixtools.dsp.interpolation import HALF, interpolation, interpolation_slope
from mixtools.errors import ParameterError

HERE = ("gain", "pan", "graphic_eq", "convolution", "reverb", "delay", "saturation")
SETTINGS = 200
WITHOUT_GRADIENT = {"decay", "predelay_ms"}
"""Rounded to whole samples."""

effects = pytest.mark.parametrize("effect", HERE)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """A second thread would only wait for signals as short as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def short(effect: str, controls: dict[str, Any], rng: np.random.Generator, rate: int) -> dict[str, Any]:
    """Settings whose effect is heard within some thousand samples, and quickly; now and then as they were."""
    if effect == "convolution":
        sides, taps = rng.integers(1, 3), rng.integers(1, 3000)
        response = rng.standard_normal((sides, taps)) * np.exp(-np.arange(taps) / 500)
        files = ("small_room", "plate", (response, rate), (response.astype(np.float32), 32000))
        controls["ir"] = files[rng.integers(len(files))]
    if "predelay_ms" in controls:
        controls["predelay_ms"] /= 10
    if effect == "delay" and rng.integers(10):
        controls["time_ms"] /= rng.choice([20.0, 200.0, 5000.0])
    if effect == "reverb" and rng.integers(100):
        for k in range(1, 13):
            controls[f"band{k}_decay_s"] = min(controls[f"band{k}_decay_s"], 0.2)
    return controls


def settings(effect: str, seed: int) -> tuple[int, int, type, dict[str, Any]]:
    """Rate, channels, precision and controls."""
    rng = np.random.default_rng(seed)
    rate, channels, dtype = (44100, 48000)[seed % 2], 1 + seed // 2 % 2, (np.float32, np.float64)[seed // 4 % 2]
    return rate, channels, dtype, short(effect, drawn_controls(effect, rng), rng, rate)


@effects
def test_the_twin_is_the_reference(effect):
    for seed in range(SETTINGS):
        rate, channels, dtype, controls = settings(effect, seed)
        error = twin_error_db(effect, controls, rate, channels, dtype, n=3000, seed=seed)
        assert error < (BAR_DB if dtype is np.float32 else -220.0), (controls, rate, channels)


@effects
def test_curves_move_as_the_references_do(effect):
    automatable = [c for c in EFFECTS[effect].controls if c.kind == "number" and c.automatable]
    for seed in range(40):
        rate, channels, dtype, controls = settings(effect, seed)
        rng = np.random.default_rng(seed)
        for control in automatable:
            if rng.integers(3):
                controls[control.name] = drawn_curve(control, 3000 / rate, rng)
        error = twin_error_db(effect, controls, rate, channels, dtype, n=3000, seed=seed)
        assert error < (BAR_DB if dtype is np.float32 else -220.0), (controls, rate, channels)
        as_tensors = {
            name: curve_tensor(value, EFFECTS[effect][name], 3000, rate) if isinstance(value, Curve) else value
            for name, value in controls.items()
        }
        x = torch.from_numpy(audio(seed, channels, 3000, dtype))
        twin = getattr(diff, effect)
        assert torch.equal(twin(x, rate, **as_tensors), twin(x, rate, **controls))


def test_saturation_of_what_stops_loudly_under_a_moving_curve():
    rng = np.random.default_rng(0)
    for seed, n in enumerate((640, 650, 703)):
        x = 0.8 * rng.standard_normal((1, n))
        drive = Curve(((0.0, 0.0), (2 * n / 44100, 40.0)))
        expected = EFFECT_FUNCTIONS["saturation"](x, 44100, drive_db=drive, bias=0.2)
        found = diff.saturation(torch.from_numpy(x), 44100, drive_db=drive, bias=0.2).numpy()
        assert error_db(found, expected) < -200, seed


@effects
def test_a_batch_is_its_items(effect):
    rng = np.random.default_rng(1)
    items = [short(effect, drawn_controls(effect, rng), rng, 44100) for _ in range(6)]
    x = torch.from_numpy(np.stack([audio(seed, 2, 2000) for seed in range(6)]))
    same = {name: items[0][name] for name in items[0] if EFFECTS[effect][name].kind not in ("number", "switch")}
    found = getattr(diff, effect)(x.reshape(2, 3, 2, 2000), 44100, **_shaped(stacked(items, effect), (2, 3)))
    for item, controls in enumerate(items):
        alone = getattr(diff, effect)(x[item], 44100, **controls | same)
        assert error_db(found.reshape(6, *found.shape[2:])[item].numpy(), alone.numpy()) < -250


def test_threads_change_no_bit():
    x = torch.from_numpy(np.stack([audio(seed, 2, 2000, np.float32) for seed in range(5)]))
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        sound = x.clone().requires_grad_()
        times = torch.tensor([0.3, 1.0, 2.5, 7.0, 20.0], requires_grad=True)
        y = diff.delay(sound, 44100, time_ms=times, feedback=0.8)
        y.square().sum().backward()
        found.append((y, sound.grad, times.grad))
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def _shaped(controls: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    return {k: v.reshape(shape) if isinstance(v, torch.Tensor) else v for k, v in controls.items()}


def inner(effect: str, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Values of a control away from its ends."""
    control = EFFECTS[effect][name]
    units = rng.uniform(0.2, 0.8, shape)
    return torch.tensor(np.vectorize(control.from_unit)(units)).requires_grad_()


@pytest.mark.parametrize("moving", [False, True], ids=["steady", "moving"])
@pytest.mark.parametrize("channels", [1, 2])
@effects
def test_gradients_are_those_of_finite_differences(effect, channels, moving):
    n, rate = 90, 8000
    rng = np.random.default_rng(2)
    fixed: dict[str, Any] = {}
    if effect == "reverb":
        # Whichever step is taken, the slowest band stays the slowest and just as long.
        fixed = {"band12_decay_s": 0.08, "predelay_ms": 1.0}
    if effect == "convolution":
        fixed = {"ir": (rng.standard_normal((2, 40)), rate), "predelay_ms": 1.0, "decay": 0.7}
    x = torch.tensor(rng.uniform(-0.9, 0.9, (2, channels, n)), requires_grad=True)
    names, values = [], []
    for control in EFFECTS[effect].controls:
        if control.kind != "number" or control.name in fixed or control.name in WITHOUT_GRADIENT:
            continue
        curve = moving and control.automatable and control.name != "dry"
        value = inner(effect, control.name, rng, (2, grid_points(n)) if curve else (2,))
        if control.name == "time_ms":
            value = torch.tensor([1.27, 3.11], dtype=torch.float64, requires_grad=True)
        if control.name.endswith("decay_s"):
            value = torch.tensor(rng.uniform(0.05, 0.07, 2), requires_grad=True)
        names.append(control.name)
        values.append(value)

    def function(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return getattr(diff, effect)(x, rate, **fixed, **dict(zip(names, values, strict=True)))

    assert gradcheck(function, (x, *values))


@pytest.mark.parametrize("law", PAN_LAWS)
def test_gradients_of_every_pan_law(law):
    rng = np.random.default_rng(3)
    for channels in (1, 2):
        x = torch.tensor(rng.uniform(-0.9, 0.9, (3, channels, 5)), requires_grad=True)
        p = torch.tensor([0.013, 0.31, 0.92], dtype=torch.float64, requires_grad=True)
        assert gradcheck(lambda x, p: diff.pan(x, 8000, pan=p, law=law), (x, p))


KINKS = [
    *(("pan", {"law": law}, "pan", value, side) for law in PAN_LAWS for value, side in ((0, 1), (0.5, 1), (1, -1))),
    ("saturation", {"drive_db": 9.0, "bias": 0.2}, "mix", 0.0, 1),
    ("saturation", {"drive_db": 9.0, "bias": 0.2}, "mix", 1.0, -1),
    ("saturation", {"drive_db": 9.0}, "bias", 0.0, 1),
    *(("delay", {"feedback": 0.5}, "time_ms", samples / 8, 1) for samples in (0, 1, 2, 5, 15, 16, 17, 40)),
    *(("delay", {"time_ms": 1.3}, "feedback", value, side) for value, side in ((0.0, 1), (0.95, -1))),
    *(("delay", {"time_ms": 1.3, "feedback": 0.9}, "damping_hz", value, s) for value, s in ((200.0, 1), (20000.0, -1))),
    *(("reverb", {"band12_decay_s": 2.0}, "band3_gain", value, side) for value, side in ((0.0, 1), (1.0, -1))),
    *(("reverb", {}, "width", value, side) for value, side in ((0.0, 1), (1.0, -1))),
    *(("graphic_eq", {}, "band500_gain_db", value, side) for value, side in ((-60.0, 1), (0.0, 1), (12.0, -1))),
    *(
        ("convolution", {"ir": "plate"}, name, value, side)
        for name in ("wet", "dry")
        for value, side in ((0, 1), (1, -1))
    ),
    *(("gain", {}, "gain_db", value, side) for value, side in ((-96.0, 1), (48.0, -1))),
]


@pytest.mark.parametrize(("effect", "controls", "name", "value", "side"), KINKS)
@pytest.mark.parametrize("channels", [1, 2])
def test_at_kinks_and_ends_the_gradient_is_a_one_sided_derivative(effect, controls, name, value, side, channels):
    x = torch.from_numpy(audio(5, channels, 400))
    weights = torch.from_numpy(np.random.default_rng(6).standard_normal((2, 400)))

    def total(number: Any) -> torch.Tensor:
        return (getattr(diff, effect)(x, 8000, **controls, **{name: number}) * weights).sum()

    here = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    total(here).backward()
    step = 1e-5 * side * max(1.0, abs(value))
    # Two steps, so that the curvature cancels.
    slope = float((4 * total(value + step) - total(value + 2 * step) - 3 * total(here.detach())) / (2 * step))
    assert float(here.grad) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_drive_of_0_db_asks_for_nothing():
    """The curve bends with the square of the drive, so that its slope there is 0."""
    x = torch.from_numpy(audio(5, 1, 400)).requires_grad_()
    controls = {"drive_db": 0.0, "mix": 0.5, "bias": 0.2}
    values = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in controls.items()}
    y = diff.saturation(x, 44100, **values)
    assert torch.equal(y, x)
    y.sum().backward()
    assert all(value.grad == 0 for value in values.values())
    assert (x.grad == 1).all()
    near = [diff.saturation(x.detach(), 44100, drive_db=step).sum() for step in (1e-4, 2e-4)]
    assert abs(float(near[1] - near[0]) / 1e-4) < 1e-2


SOUNDS = {
    "silence": torch.zeros(2, 2, 700),
    "full scale": torch.ones(2, 2, 700) * torch.tensor([1.0, -1.0]).repeat(350),
}


@pytest.mark.parametrize("sound", SOUNDS)
@effects
def test_no_gradient_is_infinite(effect, sound):
    for seed in range(25):
        rng = np.random.default_rng(seed)
        controls = short(effect, drawn_controls(effect, rng), rng, 44100)
        for channels in (1, 2):
            x = SOUNDS[sound][:, :channels].clone().requires_grad_()
            values = {
                name: torch.full((2,), value, dtype=torch.float64, requires_grad=True)
                for name, value in controls.items()
                if EFFECTS[effect][name].kind == "number"
            }
            y = getattr(diff, effect)(x, 44100, **controls | values)
            y.square().sum().backward()
            found = {"x": x.grad} | {name: v.grad for name, v in values.items() if name not in WITHOUT_GRADIENT}
            for name, gradient in found.items():
                if gradient is None:
                    assert effect == "graphic_eq", name
                else:
                    assert torch.isfinite(gradient).all(), (name, controls)


@effects
def test_gradients_in_float32_are_those_in_float64(effect):
    rng = np.random.default_rng(7)
    controls = {c.name: c.from_unit(rng.uniform(0.3, 0.7)) for c in EFFECTS[effect].controls if c.kind == "number"}
    if effect == "delay":
        controls["time_ms"] = 2.3
    fixed = {"ir": "small_room"} if effect == "convolution" else {}
    weights = torch.from_numpy(rng.standard_normal((2, 3000)))
    found = {}
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(audio(8, 2, 3000)).to(dtype).requires_grad_()
        values = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in controls.items()
        }
        (getattr(diff, effect)(x, 44100, **fixed, **values) * weights.to(dtype)).sum().backward()
        found[dtype] = [x.grad, *(v.grad for name, v in values.items() if name not in WITHOUT_GRADIENT)]
        assert found[dtype][0].dtype == dtype
    for narrow, wide in zip(*found.values(), strict=True):
        assert (narrow - wide).abs().max() < 2e-4 * wide.abs().max() + 1e-4


@pytest.mark.parametrize("taps", [1, 2, 40, 700, 5000])
@pytest.mark.parametrize("n", [1, 37, 5000, 9000])
def test_convolution_in_blocks_is_convolution(n, taps):
    rng = np.random.default_rng([n, taps])
    x, h = rng.standard_normal((2, 1, n)), rng.standard_normal((2, 2, taps))
    weights = rng.standard_normal((2, 2, n))
    tensors = [torch.tensor(each, requires_grad=True) for each in (x, h)]
    y = convolved(*tensors)
    (y * torch.from_numpy(weights)).sum().backward()
    to_x, to_h = np.zeros_like(x), np.zeros_like(h)
    for item in range(2):
        for side in range(2):
            expected = np.convolve(x[item, 0], h[item, side])[:n]
            assert np.abs(y[item, side].detach().numpy() - expected).max() < 1e-10
            back = weights[item, side, ::-1]
            to_x[item, 0] += np.convolve(back, h[item, side])[:n][::-1]
            reached = np.convolve(back, x[item, 0])[:n][::-1][:taps]
            to_h[item, side, : len(reached)] = reached
    assert np.abs(tensors[0].grad.numpy() - to_x).max() < 1e-9
    assert np.abs(tensors[1].grad.numpy() - to_h).max() < 1e-9


def test_a_response_can_be_learned():
    rng = np.random.default_rng(9)
    x = torch.from_numpy(audio(0, 1, 600)).expand(2, 3, 1, 600)
    responses = torch.tensor(rng.standard_normal((2, 3, 2, 50)), requires_grad=True)
    y = diff.convolution(x, 8000, ir=responses)
    for index in np.ndindex(2, 3):
        expected = EFFECT_FUNCTIONS["convolution"](x[index].numpy(), 8000, ir=(responses[index].detach().numpy(), 8000))
        assert error_db(y[index].detach().numpy(), expected) < -250
    small = torch.tensor(rng.standard_normal((2, 1, 8)), requires_grad=True)
    assert gradcheck(lambda ir: diff.convolution(x[0, :2, :, :40], 8000, ir=ir, decay=0.6, predelay_ms=0.3), (small,))
    shared = torch.tensor(rng.standard_normal((1, 8)), requires_grad=True)
    assert gradcheck(lambda ir: diff.convolution(x[0, :, :, :40], 8000, ir=ir), (shared,))
    room = torch.from_numpy(impulse_response("plate", 8000))
    assert torch.equal(diff.convolution(x, 8000, ir=room), diff.convolution(x, 8000, ir="plate"))


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        (torch.zeros(3, 50), r"convolution.ir has shape \(3, 50\), torch.float32; give floats \(1 or 2, taps\)"),
        (torch.zeros(3, 1, 50), r"convolution.ir has shape \(3, 1, 50\)"),
        (torch.zeros(2, 0), r"convolution.ir has shape \(2, 0\)"),
        (torch.zeros(1, 5, dtype=torch.int64), "torch.int64; give floats"),
        (torch.full((1, 5), math.nan), "convolution.ir holds NaN or infinity; give finite samples"),
        ("cellar", "convolution.ir is cellar; give .*small_room"),
        ((np.zeros((1, 0)), 8000), "convolution.ir holds no samples"),
    ],
)
def test_wrong_responses_are_refused(ir, message):
    with pytest.raises(ParameterError, match=message):
        diff.convolution(torch.zeros(2, 1, 100), 8000, ir=ir)


@pytest.mark.parametrize("half", [1, 3, HALF])
def test_slope_of_the_taps(half):
    for delay in (half + 0.0, half + 0.3, half + 0.999, 40.5):
        first, taps = interpolation(delay + 1e-7, half)
        assert first == interpolation(delay, half)[0]
        slope = (taps - interpolation(delay, half)[1]) / 1e-7
        assert np.abs(interpolation_slope(delay, half) - slope).max() < 1e-5


@pytest.mark.parametrize("effect", list(diff.TWINS))
def test_signatures_are_the_control_table(effect):
    parameters = inspect.signature(getattr(diff, effect)).parameters
    keywords = {k: p.default for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    missing = inspect.Parameter.empty
    assert list(parameters)[:2] == ["x", "rate"]
    assert keywords == {c.name: missing if c.default is None else c.default for c in EFFECTS[effect].controls}
    assert getattr(diff, effect).__doc__


def test_every_effect_here_has_a_twin():
    assert set(HERE) <= set(diff.TWINS) <= set(EFFECT_FUNCTIONS)


GRID_OF_100 = r"\(2, 3\)"


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"gain_db": 49.0}, "gain.gain_db is 49; give -96 to 48"),
        ({"gain_db": math.nan}, "gain.gain_db is nan; give -96 to 48"),
        ({"gain_db": torch.tensor([0.0, math.nan])}, "gain.gain_db is nan; give -96 to 48"),
        ({"gain_db": torch.tensor([0.0, -97.0])}, "gain.gain_db is -97; give -96 to 48"),
        (
            {"gain_db": torch.zeros(3)},
            rf"gain.gain_db has shape \(3,\); give a number, or a tensor \(2,\), or {GRID_OF_100} to move it",
        ),
        ({"gain_db": torch.zeros(2, 7)}, rf"gain.gain_db has shape \(2, 7\); .*{GRID_OF_100} to move it"),
        ({"invert": torch.zeros(2, 3)}, r"gain.invert has shape \(2, 3\); give a number, or a tensor \(2,\)$"),
        ({"gain_db": "loud"}, "gain.gain_db is loud; give -96 to 48"),
        ({"gain_dB": 3.0}, "gain: gain_dB is not known; did you mean gain_db"),
        ({"invert": 1.0}, "gain.invert is 1; give true or false"),
        ({"gain_db": Curve(((0.0, 99.0),))}, r"gain.gain_db\[0\]\[1\] is 99; give -96 to 48"),
    ],
)
def test_wrong_controls_are_refused(controls, message):
    with pytest.raises(ParameterError, match=message):
        diff.gain(torch.zeros(2, 1, 100), 44100, **controls)


@pytest.mark.parametrize(
    ("x", "rate", "message"),
    [
        (torch.zeros(100), 44100, r"gain: the audio has shape \(100,\); give \(..., 1 or 2, n\)"),
        (torch.zeros(3, 100), 44100, r"gain: the audio has shape \(3, 100\)"),
        (torch.zeros(1, 0), 44100, r"gain: the audio has shape \(1, 0\); give some samples"),
        (
            torch.zeros(1, 100, dtype=torch.float16),
            44100,
            "gain: the audio is torch.float16; give a float32 or float64",
        ),
        (np.zeros((1, 100)), 44100, "gain: the audio is ndarray; give a float32 or float64 tensor"),
        (torch.zeros(1, 100), math.nan, "gain: the rate is nan; give a sample rate in Hz"),
        (torch.zeros(1, 100), 0, "gain: the rate is 0; give a sample rate in Hz"),
    ],
)
def test_wrong_audio_is_refused(x, rate, message):
    with pytest.raises(ParameterError, match=message):
        diff.gain(x, rate)


def test_what_is_fixed_cannot_move_and_what_is_needed_must_be_given():
    x = torch.zeros(1, 100)
    with pytest.raises(ParameterError, match="delay.time_ms is a list; it cannot be automated"):
        diff.delay(x, 44100, time_ms=Curve(((0.0, 1.0), (1.0, 2.0))))
    with pytest.raises(ParameterError, match=r"delay.time_ms has shape \(3,\)"):
        diff.delay(x, 44100, time_ms=torch.ones(grid_points(100)))
    with pytest.raises(ParameterError, match="convolution.ir is missing; give a file"):
        diff.convolution(x, 44100)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@effects
def test_on_a_gpu_sound_and_gradients_are_the_cpus(effect):
    for seed in range(10):
        rate, channels, dtype, controls = settings(effect, seed)
        numbers = [name for name, value in controls.items() if EFFECTS[effect][name].kind == "number"]
        found = {}
        for device in ("cpu", "cuda"):
            x = torch.from_numpy(audio(seed, channels, 3000, dtype)).to(device).requires_grad_()
            values = {
                name: torch.tensor(controls[name], dtype=torch.float64, device=device, requires_grad=True)
                for name in numbers
            }
            y = getattr(diff, effect)(x, rate, **controls | values)
            y.square().sum().backward()
            gradients = [v.grad for v in values.values() if v.grad is not None]
            found[device] = [y.detach().cpu(), x.grad.cpu(), *(g.cpu() for g in gradients)]
        bound = 1e-5 if dtype is np.float32 else 1e-9
        for near, far in zip(found["cpu"], found["cuda"], strict=True):
            assert (near - far).abs().max() <= bound * max(1.0, float(near.abs().max()))
