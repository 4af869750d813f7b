"""Channels and devices imitated: the console many times at once, models and their controls, recordings, tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import audio, error_db
from test_tcn import shaken

from mixtools.dsp.console import Chain
from mixtools.dsp.source import ArraySource
from mixtools.errors import AudioError, ParameterError
from mixtools.mix import Insert
from mixtools.tasks.emulate.console import PROCESSORS, TASKS, Channel, discrete
from mixtools.tasks.emulate.effect import Emulation
from mixtools.tasks.emulate.evaluation import AHEAD, Measured, best_fir, compared, plain, table_6, table_9, through
from mixtools.tasks.emulate.model import Model
from mixtools.tasks.emulate.running import channels_out, emulated
from mixtools.tasks.train.emulate import ConsoleData, console_about, new_network

RATE = 44100


def console_model(kind: str = "strip", shuffle: bool = False, only: str | None = None, rate: int = RATE) -> Model:
    data = ConsoleData(shuffle=shuffle, only=only, rate=rate)
    spec = data.spec(kind)
    return Model(shaken(new_network(spec)), spec, console_about(data))


@pytest.fixture(scope="module")
def strip() -> Model:
    return console_model()


@pytest.mark.parametrize("rate", [44100, 32000])
@pytest.mark.parametrize("shuffle", [False, True])
def test_many_channels_at_once_are_the_console_s(shuffle, rate):
    channel = Channel(rate, shuffle)
    units = channel.draw(np.random.default_rng(1), [*TASKS, *["combined"] * 8])
    x = np.concatenate([audio(seed, 1, 30000, np.float32) for seed in range(len(units))])
    for sound, one, found in zip(x, units, channel.process(x, units), strict=True):
        chain = Chain(channel.settings(one).chain, rate, 1)
        padded = np.concatenate([sound, np.zeros(chain.latency, np.float32)])[None]
        expected = np.broadcast_to(chain.process(padded)[:, chain.latency :], found.shape)
        assert error_db(found, expected) < -100


def test_a_task_leaves_the_other_processors_idle():
    channel = Channel(RATE)
    x = audio(1, 1, 20000, np.float32)
    for task, effect in PROCESSORS.items():
        units = channel.draw(np.random.default_rng(2), [task])
        chain = [insert for insert in channel.settings(units[0]).chain if insert.effect == effect]
        alone = Chain(chain, RATE, 1)
        expected = alone.process(np.pad(x, ((0, 0), (0, alone.latency))))[:, alone.latency :]
        found = channel.process(x, units)[0]
        assert error_db(found, np.broadcast_to(expected, found.shape)) < -100


def test_controls_are_drawn_uniformly_over_their_ranges():
    channel = Channel(RATE, shuffle=True)
    units = channel.draw(np.random.default_rng(3), ["combined"] * 2000)
    assert units.min() >= 0.0
    assert units.max() <= 1.0
    values = channel.drawn(units).values
    for effect, name, low, high in (
        ("parametric_eq", "band1_freq_hz", 200, 5000),
        ("compressor", "attack_ms", 0.03, 30.0),
        ("convolution", "decay", 0.1, 1.0),
    ):
        drawn = values[effect][name]
        assert drawn.mean() == pytest.approx((low + high) / 2, rel=0.05)
        assert drawn.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.1)
    assert np.bincount(values["convolution"]["ir"], minlength=5).min() > 300
    assert np.bincount(channel.drawn(units).orders, minlength=6).min() > 250
    assert discrete(channel.strip) == [(18, 5)]


def test_vectors_are_those_of_the_preset():
    channel = Channel(RATE, shuffle=True)
    for units in channel.draw(np.random.default_rng(4), ["combined"] * 5):
        again = channel.strip.to_vector(channel.settings(units), RATE, True)
        assert np.allclose(again, units, atol=1e-9)


def test_knobs_say_what_a_model_can_be_set_to(strip):
    names = list(strip.knobs)
    assert len(names) == 22
    assert strip.knobs["compressor.threshold_db"].control.range == "-60 to 0"
    units = strip.units({"compressor": {"ratio": 10}, "convolution.ir": "hall"})
    drawn = Channel(RATE).drawn(units[None])
    assert drawn.values["compressor"]["ratio"][0] == pytest.approx(10.0)
    assert drawn.values["convolution"]["ir"][0] == 3
    shuffled = console_model("tcn-10", shuffle=True)
    units = shuffled.units({"order": "reverb compressor equaliser"})
    order = Channel(RATE, True).strip.orders[Channel(RATE, True).drawn(units[None]).orders[0]]
    assert order == (2, 1, 0)
    only = console_model("tcn-10", only="compressor")
    assert {name.partition(".")[0] for name in only.knobs} == {"compressor"}


def test_a_model_at_rest_does_nothing_on_the_console(strip):
    """The defaults are those of the channel when nothing works."""
    x = audio(1, 1, 9000, np.float32)
    found = Channel(RATE).process(x, strip.units()[None])[0]
    assert error_db(found, np.broadcast_to(x, found.shape)) < -120


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"compressor.ratio": 99}, "c.yaml: compressor.ratio is 99; give 1 to 10"),
        ({"compressor": {"rato": 2}}, "c.yaml: compressor.rato is not known; give compressor.ratio"),
        ({"convolution.ir": "attic"}, "c.yaml: convolution.ir is attic; give one of small_room,"),
        ({"compressor.ratio": math.nan}, "c.yaml: compressor.ratio is nan; give 1 to 10"),
        ({"compressor.ratio": "4"}, "c.yaml: compressor.ratio is the text '4' (in quotes); give"),
        ({5: 1}, "c.yaml: 5 is no name"),
    ],
)
def test_controls_outside_the_trained_range_are_refused(strip, settings, words):
    with pytest.raises(ParameterError) as error:
        strip.units(settings, "c.yaml")
    assert words in str(error.value)


def device_about(**more):
    controls = [{"name": "peak", "low": 0.0, "high": 100.0, "default": 40.0}, {"name": "mode", "options": ["a", "b"]}]
    return {"device": {"controls": controls, **more}}


def test_models_of_anything_else_are_refused(strip):
    tensors, about = strip.net.state_dict(), {"network": strip.spec.plain(), **strip.about}
    assert Model.load(tensors, about, "m").knobs.keys() == strip.knobs.keys()
    for change, words in (
        ({"network": None}, "m: about.network does not hold kind,"),
        ({"console": {"preset": "diffmst", "shuffle": False}}, "m: about.console is not of the preset dmc"),
        ({"console": {"preset": "dmc", "shuffle": True, "only": None}}, "m: about.network.controls is 26"),
        ({"console": {"preset": "dmc", "shuffle": False, "only": []}}, "m: about.console.only is a list"),
    ):
        with pytest.raises(ParameterError) as error:
            Model.load(tensors, {**about, **change}, "m")
        assert words in str(error.value)
    with pytest.raises(ParameterError, match=r"m: about\.network is missing"):
        Model.load(tensors, {}, "m")
    with pytest.raises(ParameterError, match=r"m: about says neither console nor device"):
        Model.load(tensors, {"network": about["network"]}, "m")
    less = dict(list(tensors.items())[1:])
    with pytest.raises(ParameterError, match="is missing; give a model of a channel"):
        Model.load(less, about, "m")
    broken = {**tensors, "base.weight": tensors["base.weight"] * math.nan}
    with pytest.raises(ParameterError, match=r"m: base.weight holds values that are no finite numbers"):
        Model.load(broken, about, "m")


def test_devices_have_the_controls_of_their_recordings():
    from mixtools.nets.emulator import Spec

    spec = Spec("strip", 3, ((1, 2),), taps=1024)
    model = Model(spec.network(), spec, device_about())
    assert model.units({"peak": 25, "mode": "b"}).tolist() == [0.25, 0.0, 1.0]
    for i, (found, words) in enumerate(
        [
            ({"name": 5}, "has no name"),
            ({"name": "x", "options": ["a"]}, ".options does not hold words"),
            ({"name": "x", "low": 1, "high": 0, "default": 1}, "are no range"),
            ({"name": "x", "low": 1}, "has no low, high and default"),
        ]
    ):
        about = device_about()
        about["device"]["controls"][i % 2] = found
        with pytest.raises(ParameterError, match=rf"model: about.device.controls\[{i % 2}\].*{words}"):
            Model(spec.network(), spec, about)


def run(model: Model, x: np.ndarray, rate: int, settings=None, **more) -> np.ndarray:
    blocks = list(emulated(model, ArraySource(x), rate, model.units(settings), **more))
    empty = np.zeros((channels_out(model, len(x)), 0), np.float32)
    return np.concatenate([empty, *blocks], axis=1)


@pytest.mark.parametrize("kind", ["tcn-10", "strip"])
@pytest.mark.parametrize(
    ("channels", "rate", "n"), [(1, 44100, 30001), (2, 48000, 20000), (3, 22050, 9001), (1, 44100, 1), (2, 96000, 0)]
)
def test_what_comes_out_is_as_long_as_what_went_in_whatever_the_blocks(kind, channels, rate, n):
    model = console_model(kind)
    x = audio(1, channels, n, np.float32) if n > 100 else np.full((channels, n), 0.1, np.float32)
    whole = run(model, x, rate)
    assert whole.shape == (2 if channels == 1 else channels, n)
    if n > 100:
        assert error_db(run(model, x, rate, block=6000), whole) < -100


def test_a_recording_is_what_the_network_makes_of_it_without_delay():
    model = console_model("tcn-10")
    x = audio(2, 1, 20000, np.float32)
    units = model.units({"compressor.ratio": 3})
    assert error_db(run(model, x, RATE, {"compressor.ratio": 3}), model.whole(x, units[None])[0]) < -100


def test_other_rates_lose_no_time():
    """A model that passes everything on gives back what it got, at the same place, at any rate."""
    spec = ConsoleData().spec("tcn-10")
    net = new_network(spec).eval()
    with torch.no_grad():
        for block in net.blocks:
            for film in (block.film.scale, block.film.shift):
                film.weight.zero_()
                film.bias.zero_()
        net.out.weight.fill_(1.0 / 32)
        net.out.bias.zero_()
    model = Model(net, spec, console_about(ConsoleData()))
    time = np.arange(48000) / 48000
    x = (np.sin(2 * np.pi * 440 * time) * np.hanning(48000))[None].astype(np.float32)
    found = run(model, x, 48000, block=10000)
    assert error_db(found, np.repeat(x, 2, axis=0)) < -80


def test_broken_audio_is_refused(strip):
    x = np.full((1, 100), np.nan, np.float32)
    with pytest.raises(AudioError, match="NaN or infinity"):
        run(strip, x, RATE)


class Perfect:
    """A model that is the console."""

    about = console_about(ConsoleData())
    rate = RATE

    def whole(self, x, units):
        return Channel(RATE).process(x, units)


def sound(number: int) -> np.ndarray:
    return audio(number, 1, 12000, np.float32)[0]


def test_table_6_of_the_console_itself_is_nothing():
    found = table_6(Perfect(), sound, per_task=2)
    assert list(found) == list(TASKS)
    assert all(value < 1e-6 for one in plain(found).values() for value in one.values())


def test_table_6_of_a_model_is_seeded_and_says_how_far_off_it_is(strip):
    one, again = (table_6(strip, sound, per_task=5, seed=3, tasks=["equaliser"]) for _ in range(2))
    assert plain(one) == plain(again)
    assert plain(one).keys() == {"equaliser"}
    more = table_6(strip, sound, per_task=6, seed=3, tasks=["equaliser"])["equaliser"]
    assert more.count == 6
    assert plain(one)["equaliser"]["esr"] > 0.01
    assert set(plain(one)["equaliser"]) == {"mae", "esr", "mcd", "mr_stft"}


def test_silence_scores_one():
    y = audio(1, 2, 9000, np.float32)
    assert compared(np.zeros_like(y), y, RATE)["esr"] == pytest.approx(1.0, abs=1e-3)


def test_the_best_static_fit_is_a_device_s_filter():
    response = np.array([0.0, 0.5, 0.3, -0.2])
    pieces = []
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(4000).astype(np.float32)
        y = np.convolve(x, response)[:4000].astype(np.float32)
        pieces.append(Measured(x, y, np.zeros(1)))
    fit = best_fir(pieces, taps=128)
    figures, pooled = table_9(lambda x, units: through(fit, x), pieces, RATE)
    assert pooled < 1e-3
    assert figures.count == 3
    assert figures.deviation["esr"] < 1e-3
    unchanged = table_9(lambda x, units: x, pieces, RATE)[1]
    assert unchanged > 1.0


def test_the_static_fit_of_short_pieces_is_that_of_least_squares():
    """Of a device that is no filter, so that every equation counts; what went in before a piece is part of it."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(3000).astype(np.float32)
    y = np.tanh(np.convolve(x, [1.0, 0.4, 0.2])[:3000]).astype(np.float32)
    taps, pieces, rows, wanted = 80, [], [], []
    for start, n in ((0, 500), (900, 400), (2000, 300)):
        before = min(start, 600)
        pieces.append(Measured(x[start - before : start + n], y[start : start + n], np.zeros(1), before))
        padded = np.concatenate([np.zeros(taps), x])
        for i in range(start, start + n - AHEAD):
            rows.append(padded[i + AHEAD + 1 : i + AHEAD + 1 + taps][::-1])
            wanted.append(y[i])
    expected = np.linalg.lstsq(np.array(rows, np.float64), np.array(wanted, np.float64), rcond=None)[0]
    assert np.abs(best_fir(pieces, taps=taps) - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["strip", "tcn-10", "wave-u-net-16"])
def test_a_model_is_an_effect_of_the_console(kind):
    """In a chain behind others, in blocks of any size, in time; mono becomes stereo where the model has two sides."""
    model = console_model(kind)
    settings = {"compressor": {"ratio": 4.0, "threshold_db": -40.0}}
    frames = 150_000
    x = audio(5, 1, frames, np.float32)
    inserts = [Insert("gain", {"gain_db": -6.0}), Insert("neural", {"model": "m", "set": settings})]
    silence = np.zeros((1, 65536), np.float32)
    heard = 10 ** (-6.0 / 20) * np.concatenate([x, silence], axis=1)
    expected = model.whole(heard, model.units(settings)[None])[0][:, :frames]
    found = []
    for block in (frames, 12345):
        chain = Chain(inserts, RATE, 1, responses={"m": Emulation(model)})
        padded = np.concatenate([x, np.zeros((1, chain.latency), np.float32)], axis=1)
        made = [chain.process(padded[:, at : at + block]) for at in range(0, padded.shape[1], block)]
        found.append(np.concatenate(made, axis=1)[:, chain.latency :])
    assert np.array_equal(*found)
    assert error_db(found[0], expected) < -100
    assert chain.tail(90.0) > 0


def test_effects_of_models_say_what_is_wrong():
    model = Emulation(console_model())
    for rate, settings, words in (
        (48000, {}, "chain[0].neural.model works at 44100 Hz, and the session is at 48000 Hz; give --rate 44100"),
        (RATE, {"compressor.ratio": 90}, "chain[0].neural.set: compressor.ratio is 90; give 1 to 10"),
        (RATE, {"gain": 1}, "chain[0].neural.set: gain is not known; give "),
    ):
        with pytest.raises(ParameterError) as error:
            Chain([Insert("neural", {"model": "m", "set": settings})], rate, 1, responses={"m": model})
        assert words in str(error.value)
