"""The controller of mixing style transfer: what it hears and foresees, its networks, and the mixes that it gives."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch
from conftest import error_db
from safetensors.torch import save

from mixtools.diff.console import preset_console
from mixtools.errors import ParameterError
from mixtools.measure.audio_features import audio_features
from mixtools.measure.loudness import LoudnessMeter
from mixtools.nets.foresight import (
    CONSOLES,
    FINE,
    Controls,
    at_record_loudness,
    blended,
    foresee,
    foreseen_loss,
    hear_record,
    hear_stems,
)
from mixtools.nets.transfer import Spec, TransferController, rendered, sides_of
from mixtools.synth import synth_song
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording
from mixtools.tasks.train.transfer import Lesson, audio_of, chosen, collated, levelled, random_controls
from mixtools.tasks.transfer.controller import Controller

RATE = 22050
SMALL = Spec(width=32, layers=1, rounds=2)
ABOUT = {"network": SMALL.plain(), "data": {"rate": RATE}}


@pytest.fixture(scope="module")
def stems():
    """Three seconds in which most play, mono and stereo."""
    song = synth_song(3, 6.0, RATE, stems=8)
    found = {name: audio[:, RATE : 4 * RATE].copy() for name, audio in list(song.stems.items())[:7]}
    assert {len(audio) for audio in found.values()} == {1, 2}
    return found


@pytest.fixture(scope="module")
def record():
    """Something wide, bright and not quite in the middle."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((2, 4 * RATE))
    dark = np.stack([np.convolve(x, np.ones(12) / 4.0, "same") for x in noise])
    left, right = dark + 0.3 * noise
    return np.float32(0.1 * np.tanh(np.stack([left + 0.4 * right, 0.8 * right])))


@pytest.fixture(scope="module")
def heard(stems):
    return hear_stems(*of(stems), RATE)


def of(stems):
    levels, told_db = levelled(stems, RATE)
    return list(levels.values()), told_db


def network(spec=SMALL, seed=0, scale=3.0) -> TransferController:
    """One whose controls differ from stem to stem."""
    torch.manual_seed(seed)
    net = TransferController(spec, RATE).eval()
    with torch.no_grad():
        for head in (net.track_head, net.master_head):
            head[-1].weight.mul_(scale)
    return net


def recordings(stems):
    return {name: ArrayRecording(audio) for name, audio in stems.items()}


def answer(net, heard, record) -> Controls:
    with torch.inference_mode():
        return net(heard, hear_record(record, RATE))[-1]


def test_a_model_fits_into_what_may_ship():
    net = TransferController(Spec(), 44100)
    assert 2e6 < len(save(net.state_dict())) < 8e6


@pytest.mark.parametrize("spec", [SMALL, Spec("diffmst", "spectra", 32, 1, 1)], ids=["ours", "paper"])
def test_the_order_of_stems_does_not_matter(spec, stems, heard, record):
    net = network(spec)
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    one, other = answer(net, heard, record), answer(net, chosen(heard, order), record)
    assert torch.allclose(one.tracks[:, order], other.tracks, atol=2e-5)
    assert torch.allclose(one.master, other.master, atol=2e-5)
    assert one.tracks[0].std(dim=0).max() > 1e-3


def test_stems_that_are_not_there_change_nothing(heard, record):
    net = network()
    few = chosen(heard, torch.tensor([1, 3]))
    alone = answer(net, few, record)
    like = hear_record(record, RATE)
    nothing = torch.zeros(1, 2, 0)
    batch = collated([Lesson(one, like, torch.zeros(1, one.present.shape[1], 2, 0), nothing) for one in (few, heard)])
    with torch.inference_mode():
        together = net(batch.heard, batch.record)[-1]
    assert torch.allclose(together.tracks[:1, :2], alone.tracks, atol=2e-5)
    assert torch.allclose(together.master[:1], alone.master, atol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_any_number_of_stems(count, stems, record):
    many = dict(itertools.islice(((f"{k} {name}", x) for k in range(6) for name, x in stems.items()), count))
    mix = Controller(network()).mix(recordings(many), [ArrayRecording(record)], RATE)
    assert [track.file for track in mix.tracks] == sorted(many)
    assert np.isfinite(render(mix, many, RATE, end=RATE)).all()


def test_an_untrained_model_does_little():
    torch.manual_seed(0)
    net = TransferController(Spec(), 44100)
    strip = CONSOLES["transfer"].track.from_vector((0.5 + 0.5 * torch.tanh(net.track_start)).numpy(), 44100)
    gain, equaliser, compressor, pan = strip.chain
    assert gain.controls["gain_db"] == pytest.approx(0.0, abs=1e-5)
    assert all(abs(v) < 1e-5 for name, v in equaliser.controls.items() if name.endswith("gain_db"))
    assert compressor.controls["ratio"] < 1.5
    assert pan.controls["pan"] == pytest.approx(0.69, abs=0.01)


def test_stems_take_turns_in_which_side_they_go_to(heard):
    own = heard.powers[0, :2].diagonal(dim1=-2, dim2=-1).sum(dim=0).clamp(min=0.0).sqrt()
    pitch = (own * torch.arange(FINE)[:, None]).sum(dim=0) / own.sum(dim=0)
    assert sides_of(heard)[0, torch.argsort(pitch)].tolist() == [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_foreseen_is_what_comes(seed, stems, heard):
    console = CONSOLES["transfer"]
    controls = random_controls(console, len(stems), RATE, np.random.default_rng(seed))
    # The master's dynamics are not foreseen.
    names = console.master.labels()
    controls.master[:, names.index("compressor.ratio")] = 0.0
    controls.master[:, names.index("limiter.ceiling_db")] = 1.0
    levels, _ = levelled(stems, RATE)
    found = hear_record(rendered(console, audio_of(levels), heard, controls, RATE)[0].numpy(), RATE)
    foreseen = foresee(heard, console, controls, RATE)
    sounds = found.bark > 1e-3 * found.bark.amax()
    assert torch.log(foreseen.bark / found.bark)[sounds].square().mean().sqrt() < 0.45
    assert float(foreseen.width) == pytest.approx(float(found.width), abs=0.08)
    assert float(foreseen.imbalance) == pytest.approx(float(found.imbalance), abs=0.15)
    assert float(foreseen_loss(foreseen, found)) < 0.05


@pytest.mark.parametrize("console", CONSOLES)
def test_the_plain_sum_is_foreseen_as_it_was_measured(console, stems, heard):
    """Half-way faders are 0 dB on both consoles, and equalisers at 0 dB do nothing."""
    preset = CONSOLES[console]
    track = torch.full((1, len(stems), len(preset.track.labels())), 0.5)
    places = {name: preset.track.labels().index(name) for name in ("compressor.ratio", "send.reverb")}
    for place in places.values():
        track[..., place] = 0.0
    labels = preset.master.labels()
    master = torch.full((1, len(labels)), 0.5)
    levels, _ = of(stems)
    whole = sum(np.broadcast_to(stem, (2, stem.shape[1])) for stem in levels)
    measured = hear_record(whole, RATE)
    foreseen = foresee(heard, preset, Controls(track, master), RATE)
    loud = measured.bark[:, 0] > 1e-3 * measured.bark.amax()
    apart = torch.log(foreseen.bark[:, 0] / measured.bark[:, 0])[loud]
    # Stereo stems keep their level at the centre, mono ones lose what the law takes.
    assert (apart - apart.mean()).abs().max() < 0.35
    assert float(foreseen.imbalance) == pytest.approx(float(measured.imbalance), abs=0.05)


def test_the_paper_s_console_is_the_paper_s(stems):
    """Mono stems come out as they do of `diff.console.preset_console`."""
    preset = CONSOLES["diffmst"]
    levels, _ = levelled({name: stem[:1, :RATE] for name, stem in stems.items()}, RATE)
    heard = hear_stems(list(levels.values()), [0.0] * len(levels), RATE)
    controls = random_controls(preset, len(stems), RATE, np.random.default_rng(0))
    audio = audio_of(levels)
    rooms = {"reverb": torch.zeros(1, 0)}
    expected = preset_console(preset, audio[:, :, :1], RATE, controls.tracks, controls.master, rooms)
    found = rendered(preset, audio, heard, controls, RATE)
    assert error_db(found[0].numpy(), expected[0].numpy()) < -90


def test_a_mix_file_renders_to_what_was_learned_from(stems, heard, record):
    net = network(scale=6.0)
    model = Controller(net)
    mix = model.mix(recordings(stems), [ArrayRecording(record)], RATE)
    levels, told_db = levelled(stems, RATE)
    controls = answer(net, heard, record)
    with torch.inference_mode():
        expected = rendered(net.console, audio_of(levels), heard, controls, RATE)[0].numpy()
    found = render(mix, stems, RATE, end=expected.shape[1])
    assert error_db(found, expected) < -70
    assert [insert.effect for insert in mix.tracks[0].chain] == ["gain", "parametric_eq", "compressor", "pan"]
    assert [insert.effect for insert in mix.master.chain] == ["parametric_eq", "compressor", "limiter"]


def test_the_same_mix_twice_in_any_order_and_however_loud_the_record_is(stems, record):
    model = Controller(network())
    first = model.mix(recordings(stems), [ArrayRecording(record)], RATE).to_plain()
    backwards = dict(reversed(recordings(stems).items()))
    assert model.mix(backwards, [ArrayRecording(record)], RATE).to_plain() == first
    quiet = model.mix(recordings(stems), [ArrayRecording(record / 8.0)], RATE)
    as_loud = model.mix(recordings(stems), [ArrayRecording(record)], RATE)
    assert error_db(*(render(one, stems, RATE, end=RATE) for one in (quiet, as_loud))) < -60


def test_records_of_any_kind(stems, record):
    model = Controller(network())
    for reference in (record[:1], record[:, :RATE], np.repeat(record, 4, axis=1)):
        mix = model.mix(recordings(stems), [ArrayRecording(np.ascontiguousarray(reference))], RATE)
        assert np.isfinite(render(mix, stems, RATE, end=RATE)).all()
    stem = next(iter(stems.values()))
    model.mix(recordings(stems), [ArrayRecording(stem)], RATE)


def test_another_rate_than_the_model_s(stems, record):
    import soxr

    model = Controller(network())
    double = {name: np.ascontiguousarray(soxr.resample(x.T, 1, 2).T) for name, x in stems.items()}
    reference = np.ascontiguousarray(soxr.resample(record.T, 1, 2).T)
    mix = model.mix(recordings(double), [ArrayRecording(reference)], 2 * RATE)
    assert mix.sample_rate == 2 * RATE
    alike = model.mix(recordings(stems), [ArrayRecording(record)], RATE)
    gains = [[track.chain[0].controls["gain_db"] for track in one.tracks] for one in (mix, alike)]
    assert np.allclose(*gains, atol=0.5)


def test_weights_of_records(stems, record):
    model = Controller(network())
    other = np.random.default_rng(0).standard_normal((2, 2 * RATE)).astype(np.float32) * 0.1
    both = [ArrayRecording(record), ArrayRecording(other)]
    alone, single = model.listen(both, RATE, [1.0, 0.0]), model.listen(both[:1], RATE)
    assert torch.allclose(alone.bark, single.bark, rtol=1e-5)
    assert float(alone.width) == pytest.approx(float(single.width))
    middle = model.listen(both, RATE)
    assert float(single.width) < float(middle.width) < float(model.listen(both[1:], RATE).width)
    for weights, said in (
        ([1.0], "1 weights and 2 references; give one for each"),
        ([0.0, 0.0], "not usable"),
        ([1.0, math.nan], "not usable"),
    ):
        with pytest.raises(ParameterError, match=said):
            model.listen(both, RATE, weights)


def test_silence(stems, record):
    model = Controller(network())
    silent = {**stems, "a": np.zeros_like(next(iter(stems.values())))}
    mix = model.mix(recordings(silent), [ArrayRecording(record)], RATE)
    assert np.isfinite(render(mix, silent, RATE, end=RATE)).all()
    nothing = {name: np.zeros((1, RATE), np.float32) for name in "ab"}
    model.mix(recordings(nothing), [ArrayRecording(record)], RATE)
    with pytest.raises(ParameterError, match="reference 2 is silent; give one that can be heard"):
        model.mix(recordings(stems), [ArrayRecording(record), ArrayRecording(0.0 * record)], RATE)
    with pytest.raises(ParameterError, match="there are no references"):
        model.mix(recordings(stems), [], RATE)
    with pytest.raises(ParameterError, match="there are no stems"):
        model.mix({}, [ArrayRecording(record)], RATE)


def test_gradients_reach_all_that_is_learned(heard, record):
    torch.manual_seed(0)
    net = TransferController(SMALL, RATE)
    other = hear_record(record, RATE)
    rounds = net(heard, other)
    sum(foreseen_loss(foresee(heard, net.console, one, RATE), other).sum() for one in rounds).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


def test_mixes_as_loud_as_records_with_gradients(record):
    x = torch.from_numpy(np.stack([record, 0.01 * record, 0.0 * record])).double().requires_grad_()
    y = at_record_loudness(x, RATE)
    for mix in y.detach().numpy()[:2]:
        meter = LoudnessMeter(RATE, 2)
        meter.add(mix)
        assert meter.integrated_lufs == pytest.approx(-16.0, abs=0.01)
    assert not y[2].any()
    # A louder mix is as loud.
    (audio_features(y, RATE).rms.sum()).backward()
    assert abs(float((x.grad * x.detach()).sum())) < 1e-3 * float((x.grad * x.detach()).abs().sum())


def test_what_does_not_fit_is_refused():
    net = network()
    good = net.state_dict()
    Controller.load(good, ABOUT, "m")
    for about, said in (
        (None, "m: about.network is missing; give a transfer model"),
        ({**ABOUT, "network": {"console": "transfer"}}, "m: about.network does not hold console, hears"),
        ({**ABOUT, "network": {**SMALL.plain(), "width": 33}}, "m: about.network.width is 33; give a multiple of 32"),
        ({**ABOUT, "network": {**SMALL.plain(), "width": 10**9}}, "width is 1000000000; give a whole number"),
        ({**ABOUT, "network": {**SMALL.plain(), "rounds": 99}}, "rounds is 99; give a whole number, 1 to 16"),
        ({**ABOUT, "network": {**SMALL.plain(), "console": "x"}}, "console is x; give diffmst"),
        ({**ABOUT, "network": {**SMALL.plain(), "hears": "spectra"}}, "rounds is 2; give 1 where nothing is foreseen"),
        ({**ABOUT, "data": {}}, "m: about.data.rate is None"),
        ({**ABOUT, "data": 3}, "m: about.data.rate is None"),
        ({**ABOUT, "data": {"rate": 1}}, "m: about.data.rate is 1; give a transfer model, whose rate is in Hz"),
    ):
        with pytest.raises(ParameterError, match=re.escape(said)):
            Controller.load(good, about, "m")
    first = next(iter(good))
    for tensors, said in (
        ({k: v for k, v in good.items() if k != first}, f"m: {first} is missing"),
        ({**good, first: good[first] * math.nan}, "holds values that are no finite numbers"),
        ({**good, first: good[first][:1]}, "give a transfer model, where it is"),
        ({**good, "more": good[first]}, "m: more is not part of this model"),
    ):
        with pytest.raises(ParameterError, match=re.escape(said)):
            Controller.load(tensors, ABOUT, "m")


def test_blending_one_record_is_that_record(record):
    one = hear_record(record, RATE)
    for found, expected in zip(blended([one], [3.0]), one, strict=True):
        assert torch.allclose(found, expected, rtol=1e-5)
