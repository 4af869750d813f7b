"""The paper's descent: what it computes is what the console renders, and it goes down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import audio, error_db

from mixtools import Bus, Insert, Mix, Track, mr_stft, mss, render
from mixtools.diff.losses import TOWARDS
from mixtools.tasks.fit import descent
from mixtools.tasks.fit.descent import Descent

RATE = 22050
FILES = ["drums.wav", "bass.wav", "keys.wav"]


def song(n=2 * RATE, channels=(2, 1, 1), seed=30):
    return [audio(seed + i, count, n) for i, count in enumerate(channels)]


def rendered(model: Descent, stems, n, files=FILES, **how):
    tracks, buses, responses = model.tracks(files, **how)
    mix = Mix(tracks, buses)
    held = {key: (response, RATE) for key, response in responses.items()}
    return render(mix, dict(zip(files, stems, strict=True)), RATE, responses=held, end=n)


@pytest.mark.parametrize("law", ["linear", "balance"])
@pytest.mark.parametrize("bypass", [True, False])
@pytest.mark.parametrize("architecture", ["stereo-bus", "individual-bus", "eq"])
def test_the_console_renders_what_the_model_computes(architecture, bypass, law):
    stems = song()
    model = Descent(stems, audio(9, 2, 2 * RATE), RATE, architecture, taps=3000, device="cpu", bypass=bypass)
    # Some steps away from the beginning, so that nothing is at a default.
    model.run(4, rates=(0.3,))
    assert error_db(rendered(model, stems, 2 * RATE, law=law), model.mix()) < -90


def test_the_fresh_parameters_are_those_of_the_paper():
    stems = [audio(i, 1, 2000) for i in range(200)]
    files = [f"{i}.wav" for i in range(200)]
    model = Descent(stems, audio(9, 2, 2000), 44100, "stereo-bus", taps=4000, device="cpu", bypass=False)
    tracks, buses, responses = model.tracks(files)
    given = [{insert.effect: insert.controls for insert in track.chain} for track in tracks]
    bands = np.array([list(effects["graphic_eq"].values()) for effects in given])
    assert bands.shape == (200, 10)
    sigmoid = 1 / (1 + np.exp([1.0, -1.0]))
    assert np.allclose([bands.min(), bands.max()], 20 * np.log10(sigmoid), atol=0.1)
    gains = np.array([effects["gain"]["gain_db"] for effects in given])
    assert np.allclose([gains.min(), gains.max()], [-0.915, 0.828], atol=0.05)
    pans = np.array([effects["pan"]["pan"] for effects in given])
    assert np.isclose(pans.std(), 0.5e-3, rtol=0.2) and abs(pans.mean() - 0.5) < 2e-4
    assert all(effects["pan"]["law"] == "linear" for effects in given)
    sends = np.array([track.sends["reverb"] for track in tracks])
    assert np.allclose([sends.min(), sends.max()], 20 * np.log10(1 / (1 + np.exp([0.3, -0.3]))), atol=0.1)
    assert np.isclose(responses["reverb"].var(), 1e-6, rtol=0.05)
    assert buses == {"reverb": Bus(chain=[Insert("convolution", {"ir": "reverb"})])}


def test_the_sum_has_the_gradient_that_finite_differences_have():
    generator = torch.Generator().manual_seed(2)

    def noise(*shape):
        return torch.randn(shape, dtype=torch.complex128, generator=generator)

    stems = [noise(2, 3, 5), noise(1, 3, 5)]
    transfer = noise(2, 2, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda functions: descent._Sum.apply(functions, stems), (transfer,))


@pytest.mark.parametrize("n", [60, 700, 30_000])
@pytest.mark.parametrize("name, metric", [("mss", mss), ("mr-stft", mr_stft)])
def test_losses_to_a_target_are_those_of_measure(name, metric, n):
    target = torch.from_numpy(audio(5, 2, n))
    estimate = (0.7 * target + torch.from_numpy(audio(6, 2, n)).flip(-1)).requires_grad_()
    ours, theirs = TOWARDS[name](target)(estimate), metric(estimate, target)
    assert abs(float(ours.detach()) / float(theirs.detach()) - 1) < 1e-12
    slopes = [torch.autograd.grad(value, estimate)[0].numpy() for value in (ours, theirs)]
    assert error_db(*slopes) < -200


@pytest.mark.parametrize("name", list(TOWARDS))
def test_losses_are_calm_at_the_target_and_in_silence(name):
    for target in (torch.from_numpy(audio(5, 2, 5000)), torch.zeros(2, 5000, dtype=torch.float64)):
        for estimate in (target.clone(), torch.zeros_like(target)):
            estimate.requires_grad_()
            loss = TOWARDS[name](target)(estimate)
            assert (float(loss.detach()) < 1e-12) == torch.equal(estimate, target)
            assert torch.isfinite(torch.autograd.grad(loss, estimate)[0]).all()


def every_parameter(model, step):
    """The loss's gradient in one direction through all parameters, by backward and by central differences."""
    strips = model._strips
    directions = {name: torch.randn_like(value) for name, value in strips.theta.items()}
    loss_of = model.loss_to(model._target)
    loss = loss_of(model._mix())
    slopes = torch.autograd.grad(loss, strips.parameters())
    backward = sum((slope * d).sum() for slope, d in zip(slopes, directions.values(), strict=True))
    _, middle = strips.state()
    values = []
    for sign in (1, -1):
        strips.load((False, {name: value + sign * step * directions[name] for name, value in middle.items()}))
        with torch.no_grad():
            values.append(loss_of(model._mix()))
    return float(backward), float((values[0] - values[1]) / (2 * step))


@pytest.mark.parametrize("architecture", ["stereo-bus", "individual-bus", "eq", "given"])
def test_gradients_of_all_parameters(architecture):
    torch.manual_seed(0)
    stems, target = song(4000), audio(9, 2, 4000)
    start = None
    if architecture == "given":
        fresh = Descent(stems, target, RATE, "stereo-bus", taps=500, device="cpu", bypass=False)
        start, architecture = fresh.tracks(FILES), "stereo-bus"
    model = Descent(
        stems,
        target,
        RATE,
        architecture,
        taps=500,
        device="cpu",
        loss="time",
        bypass=False,
        start=start,
        dtype=torch.float64,
    )
    backward, difference = every_parameter(model, 1e-6)
    assert abs(backward - difference) < 1e-6 * abs(backward)


def test_the_descent_finds_levels_and_places():
    stems = song(RATE, (1, 1, 1))
    tracks = [
        Track(name, chain=[Insert("gain", {"gain_db": level}), Insert("pan", {"pan": pan, "law": "linear"})])
        for name, level, pan in zip(FILES, (-12.0, -6.0, -9.0), (0.2, 0.5, 0.9), strict=True)
    ]
    target = render(Mix(tracks), dict(zip(FILES, stems, strict=True)), RATE, end=RATE)
    model = Descent(stems, target, RATE, "eq", device="cpu")
    model.run(0)
    before = model.best
    model.run(300, rates=(3e-2, 3e-3))
    assert model.best < 0.05 * before
    for track, true in zip(model.tracks(FILES)[0], tracks, strict=True):
        equaliser, gain, pan = (insert.controls for insert in track.chain)
        true_gain, true_pan = (insert.controls for insert in true.chain)
        assert abs(gain["gain_db"] + equaliser["band1000_gain_db"] - true_gain["gain_db"]) < 0.5
        assert abs(pan["pan"] - true_pan["pan"]) < 0.02


@pytest.mark.parametrize("architecture", ["stereo-bus", "individual-bus"])
def test_a_reverb_that_is_let_in_at_the_first_plateau_lowers_the_loss(architecture):
    stems = song(RATE, (1, 1))
    response = np.zeros((2, 800))
    response[0, 300], response[1, 700] = 0.5, -0.4
    target = sum(np.stack([np.convolve(stem[0], side)[:RATE] for side in response]) for stem in stems) + sum(stems)
    dry, wet = (Descent(stems, target, RATE, a, taps=800, device="cpu", loss="time") for a in ("eq", architecture))
    dry.run(400, rates=(1e-2,), patience=20)
    assert wet._strips.bypassed
    wet.run(400, rates=(1e-2,), patience=20)
    assert not wet._strips.bypassed
    assert wet.best < 0.5 * dry.best


def test_every_plateau_lowers_the_rate_and_the_first_lets_the_reverb_in():
    met = []

    class Watched(Descent):
        def _mix(self):
            met.append(self._strips.bypassed)
            return super()._mix()

    stems, target = song(4000), audio(9, 2, 4000)
    # A loss that nothing changes is a plateau from its first step on.
    flat = {"device": "cpu", "loss": lambda estimate, target: 0.0 * estimate.sum() + 1.0}
    model = Watched(stems, target, RATE, "stereo-bus", taps=100, **flat)
    model.run(1000, patience=5)
    assert met == 6 * [True] + 18 * [False]
    assert model.steps == 20

    # A third of the steps without a plateau does so too.
    met.clear()
    Watched(stems, target, RATE, "stereo-bus", taps=100, device="cpu").run(12)
    assert met == 5 * [True] + 9 * [False]


def test_the_same_seed_gives_the_same_bits_and_another_other_ones():
    stems, target = song(), audio(9, 2, 2 * RATE)

    def made(seed):
        model = Descent(stems, target, RATE, "stereo-bus", taps=1000, seed=seed, device="cpu", bypass=False)
        model.run(5)
        return model.tracks(FILES)

    (tracks, _, responses), (again, _, responses_again), (others, _, _) = made(1), made(1), made(2)
    assert tracks == again
    assert np.array_equal(responses["reverb"], responses_again["reverb"])
    assert tracks != others


@pytest.mark.parametrize("law", ["linear", "balance"])
@pytest.mark.parametrize("architecture", ["stereo-bus", "individual-bus", "eq"])
def test_a_start_is_where_it_starts(architecture, law):
    stems, target = song(), audio(9, 2, 2 * RATE)
    first = Descent(stems, target, RATE, architecture, taps=1000, device="cpu", bypass=False)
    first.run(4, rates=(0.3,))
    start = first.tracks(FILES, law=law)
    second = Descent(stems, target, RATE, device="cpu", start=start)
    assert error_db(second.mix(), first.mix()) < -100
    tracks, buses, responses = second.tracks(law=law)
    assert buses == start[1]
    assert all(error_db(responses[key], start[2][key]) < -120 for key in start[2])
    for track, given in zip(tracks, start[0], strict=True):
        assert (track.file, track.channel) == (given.file, given.channel)
        for insert, other in zip(track.chain, given.chain, strict=True):
            assert insert.effect == other.effect
            assert insert.settings == pytest.approx(other.settings, abs=1e-4)


def test_a_start_is_refined_in_what_it_has():
    """Two entries of a file, dry and through a response of its own, moved in time, as the solver writes them."""
    n = RATE
    stems = song(n, (1, 1))
    response = 0.2 * np.random.default_rng(1).standard_normal((2, 400)) * np.exp(-np.arange(400) / 80)
    tracks = [
        Track("a.wav", offset_ms=2.3, chain=[Insert("gain", {"gain_db": -8.0, "invert": True}), Insert("pan")]),
        Track("a.wav", offset_ms=-5.0, chain=[Insert("convolution", {"ir": "a"})]),
        Track("b.wav", chain=[Insert("graphic_eq", {"band250_gain_db": 9.0}), Insert("pan", {"pan": 0.0})]),
    ]
    files = dict(zip(["a.wav", "b.wav"], stems, strict=True))
    target = render(Mix(tracks), files, RATE, responses={"a": (response, RATE)}, end=n)
    entries = [stems[0], stems[0], stems[1]]
    exact = Descent(entries, target, RATE, device="cpu", start=(tracks, {}, {"a": response}), loss="time")
    assert error_db(exact.mix(), target) < -90

    tracks[0].chain[0].controls["gain_db"] = -9.0
    rough = (tracks, {}, {"a": 1.1 * response})
    model = Descent(entries, target, RATE, device="cpu", start=rough, loss="time")
    model.run(0)
    before = model.best
    model.run(200, rates=(1e-2, 1e-3), patience=10)
    assert model.best < 1e-3 * before
    found, buses, responses = model.tracks(law="balance")
    assert [track.offset_ms for track in found] == [2.3, -5.0, 0.0]
    assert [[insert.effect for insert in track.chain] for track in found] == [
        ["gain", "pan"],
        ["convolution"],
        ["graphic_eq", "gain", "pan"],
    ]
    assert found[0].chain[0].controls["invert"] and abs(found[0].chain[0].controls["gain_db"] + 8.0) < 0.1
    assert not buses and list(responses) == ["a"]


def test_a_start_without_a_part_has_none_afterwards():
    with pytest.raises(ValueError, match=r"drums\.wav has other effects"):
        Descent(song(4000)[:1], audio(9, 2, 4000), RATE, start=([Track(FILES[0], chain=[Insert("delay")])], {}, {}))


def test_an_excerpt_hears_what_came_before_it():
    stems = song()
    lead, n = RATE // 2, RATE
    whole = Descent(stems, audio(9, 2, 2 * RATE), RATE, "stereo-bus", taps=5000, device="cpu", bypass=False)
    excerpt = Descent(stems, audio(9, 2, n), RATE, "stereo-bus", taps=5000, device="cpu", bypass=False, lead=lead)
    assert error_db(excerpt.mix(), whole.mix()[:, lead : lead + n]) < -110


def test_what_the_mask_hides_has_no_say():
    stems, target = song(), audio(9, 2, 2 * RATE)
    mask = np.arange(2 * RATE) % RATE < RATE // 2
    other = np.where(mask, target, audio(10, 2, 2 * RATE))
    made = []
    for heard in (target, other):
        model = Descent(stems, heard, RATE, "eq", device="cpu")
        model.run(3, mask=mask)
        made.append(model.tracks(FILES)[0])
    assert made[0] == made[1]


def test_an_interruption_leaves_the_best_so_far():
    model = Descent(song(), audio(9, 2, 2 * RATE), RATE, "eq", device="cpu", loss="time")

    def stop(share):
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.run(10, progress=stop)
    assert model.steps == 5
    with torch.no_grad():
        assert float(model.loss_to(model._target)(model._mix())) == pytest.approx(model.best, rel=1e-6)


def test_keys_of_responses_are_told_apart():
    tracks = [Track("a/kick.wav"), Track("a_kick.flac"), Track("hall.wav"), Track("keys.wav", "left")]
    assert descent.response_names(tracks) == ["a_kick", "a_kick_2", "hall_2", "keys_left"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same_mix():
    stems, target = song(), audio(9, 2, 2 * RATE)
    mixes = [Descent(stems, target, RATE, taps=3000, device=d, bypass=False).mix() for d in ("cpu", "cuda")]
    assert error_db(mixes[1], mixes[0]) < -100
