"""The console: sums, sends, buses, latency, slices, threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import audio, error_db

from mixtools import dsp
from mixtools.dsp.console import Chain, Console
from mixtools.dsp.source import ArraySource
from mixtools.errors import ParameterError
from mixtools.mix import Bus, Insert, Master, Mix, Track
from mixtools.tasks.mix import render

RATE = 44100
STEMS = {f"{i}.wav": 0.4 * audio(i, 1 + i % 2, 20000, np.float32) for i in range(5)}


def busy_mix() -> Mix:
    """Every kind of strip, every kind of latency, automation, a sub-group that sends, a bus into a bus."""
    moving = [[0.0, 0.2], [0.3, 0.9]]
    eq = Insert("parametric_eq", {"band1_gain_db": 5.0})
    return Mix(
        [
            Track(
                "0.wav",
                chain=[eq, Insert("limiter"), Insert("pan", {"pan": moving})],
                sends={"room": -10.0},
                output="drums",
            ),
            Track("1.wav", chain=[eq], output="drums"),
            Track("2.wav", offset_ms=3.3),
            Track("3.wav", offset_ms=-7.0, channel="mid"),
            Track(
                "4.wav", chain=[Insert("graphic_eq", {"band60_gain_db": -10.0})], sends={"room": [[0, -40], [0.2, 0]]}
            ),
        ],
        {
            "drums": Bus(
                chain=[Insert("compressor", {"threshold_db": -20.0, "lookahead_ms": 2.0})], sends={"echo": -6.0}
            ),
            "room": Bus(chain=[Insert("convolution", {"ir": "small_room"})], output="echo"),
            "echo": Bus(chain=[Insert("delay", {"time_ms": 3.3})]),
        },
        Master([Insert("saturation", {"drive_db": 3.0}), Insert("limiter")]),
    ).check()


def rendered(mix: Mix, stems=STEMS, start=0, end=20000, **options) -> np.ndarray:
    mix = mix.check()
    console = Console(mix, [ArraySource(stems[t.file]) for t in mix.tracks], RATE, **options)
    return np.concatenate(list(console.blocks(start, end)), axis=1)


def test_a_neutral_console_gives_the_exact_sum():
    expected = sum(np.broadcast_to(stem, (2, 20000)).astype(np.float64) for stem in STEMS.values())
    neutral = [Insert(effect) for effect in ("gain", "pan", "parametric_eq", "graphic_eq", "compressor", "saturation")]
    for chain in ([], neutral):
        mix = Mix([Track(name, chain=list(chain)) for name in STEMS])
        assert np.array_equal(rendered(mix), expected.astype(np.float32))


def test_one_stem_on_a_neutral_console_keeps_its_bits():
    assert np.array_equal(rendered(Mix([Track("1.wav")])), STEMS["1.wav"])


@pytest.mark.parametrize("options", [{"threads": 2}, {"threads": 5, "block": 777}, {"block": 1000}, {"block": 64}])
def test_threads_and_blocks_never_change_a_bit(options):
    assert np.array_equal(rendered(busy_mix(), **options), rendered(busy_mix()))


def test_a_block_of_one_sample_is_enough():
    assert np.array_equal(rendered(busy_mix(), block=1, end=40), rendered(busy_mix(), end=40))


def test_a_slice_is_that_slice_of_the_whole():
    whole = rendered(busy_mix(), end=30000)
    for start, end in ((0, 1), (4321, 12345), (19999, 20001), (29000, 30000)):
        assert np.array_equal(rendered(busy_mix(), start=start, end=end), whole[:, start:end])


def test_the_order_of_the_tracks_does_not_matter():
    mix = busy_mix()
    turned = Mix(mix.tracks[::-1], mix.buses, mix.master)
    assert np.array_equal(rendered(turned), rendered(mix))


def test_every_path_is_compensated():
    """One impulse through chains of very different latency arrives on one sample."""
    stems = {name: np.zeros((1, 3000), np.float32) for name in "abcd"}
    for stem in stems.values():
        stem[0, 1000] = 0.125
    quiet = {"threshold_db": 0.0, "lookahead_ms": 20.0}
    mix = Mix(
        [
            Track("a"),
            Track("b", chain=[Insert("graphic_eq", {"band30_gain_db": -0.001})], sends={"dry_room": 0.0}),
            Track("c", chain=[Insert("limiter"), Insert("compressor", quiet)], output="group"),
            Track("d", output="group"),
        ],
        {
            "group": Bus(chain=[Insert("limiter")], sends={"dry_room": 0.0}),
            "dry_room": Bus(chain=[Insert("convolution", {"ir": "hall", "wet": 0.0, "dry": 1.0})]),
        },
        Master([Insert("limiter", {"ceiling_db": 0.0})]),
    )
    y = rendered(mix, stems, end=3000)
    assert y[0].argmax() == 1000
    assert y[0, 1000] == pytest.approx(7 * 0.125, abs=1e-4)
    assert np.abs(np.delete(y[0], 1000)).max() < 1e-4


def test_automation_stays_in_place_behind_latency():
    """A fader that jumps from -96 dB to 0 dB does so at the same sample after any latency."""
    stems = {"a": np.ones((1, 20000), np.float32)}
    fader = Insert("gain", {"gain_db": [[0.2, -96.0], [0.2 + 64 / RATE, 0.0]]})
    straight = rendered(Mix([Track("a", chain=[fader])]), stems)
    late = [Insert("graphic_eq", {"band16000_gain_db": -0.0001}), Insert("compressor", {"lookahead_ms": 20.0}), fader]
    behind = rendered(Mix([Track("a", chain=late)]), stems)
    assert error_db(behind[:, 5000:15000], straight[:, 5000:15000]) < -80


def test_sends_are_after_the_chain_and_in_db():
    stems = {"a": audio(1, 1, 5000)}
    mix = Mix([Track("a", chain=[Insert("gain", {"gain_db": -6.0})], sends={"b": -20.0})], {"b": Bus()})
    expected = stems["a"] * 10 ** (-6 / 20) * (1 + 10 ** (-20 / 20))
    assert error_db(render(mix, stems, RATE)[:1], expected) < -200


def test_sub_groups_are_summed_before_their_chain():
    stems = {"a": audio(1, 1, 5000), "b": audio(2, 1, 5000)}
    squeeze = {"threshold_db": -30.0, "ratio": 8.0}
    mix = Mix([Track("a", output="g"), Track("b", output="g")], {"g": Bus(chain=[Insert("compressor", squeeze)])})
    expected = dsp.compressor(np.repeat(stems["a"] + stems["b"], 2, axis=0), RATE, **squeeze)
    assert error_db(render(mix, stems, RATE), expected) < -200


def test_mute_and_solo():
    names = list(STEMS)[:3]
    alone = {name: rendered(Mix([Track(name)])) for name in names}

    def tracks(**flags):
        return Mix([Track(name, **flags.get(f"t{i}", {})) for i, name in enumerate(names)])

    assert np.array_equal(rendered(tracks(t0={"solo": True})), alone["0.wav"])
    muted = rendered(tracks(t0={"mute": True}, t1={"mute": True}))
    assert np.array_equal(muted, alone["2.wav"])
    assert not rendered(tracks(t0={"solo": True, "mute": True})).any(), "mute wins, and solo silences the rest"
    mix = Mix([Track("1.wav", output="g"), Track("2.wav")], {"g": Bus(mute=True)})
    assert np.array_equal(rendered(mix), alone["2.wav"])


def test_channels():
    left, right = STEMS["1.wav"].astype(np.float64)
    expected = {"left": left, "right": right, "mid": (left + right) / 2, "side": (left - right) / 2}
    for channel, samples in expected.items():
        y = rendered(Mix([Track("1.wav", channel=channel)]))
        assert error_db(y, np.stack([samples, samples])) < -130
    with pytest.raises(ParameterError) as caught:
        rendered(Mix([Track("0.wav", channel="side")]))
    assert str(caught.value) == "tracks[0].channel is side, but the stem is mono; give both"


@pytest.mark.parametrize("samples", [0, 1, 100, -100, 25000, -25000])
def test_whole_offsets_move_without_a_change(samples):
    y = rendered(Mix([Track("0.wav", offset_ms=1000 * samples / RATE)]))[0]
    stem = STEMS["0.wav"][0]
    expected = np.zeros(20000, np.float32)
    if samples >= 0:
        expected[samples:] = stem[: max(0, 20000 - samples)]
    else:
        expected[:samples] = stem[-samples:]
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("samples", [0.5, 10.25, -10.25, 300.9])
def test_fractional_offsets(samples):
    n = np.arange(8000)
    stems = {"a": np.sin(0.8 * n)[None]}
    y = render(Mix([Track("a", offset_ms=1000 * samples / RATE)]), stems, RATE)[:, 400:7000]
    assert error_db(y, np.stack([np.sin(0.8 * (n - samples))[400:7000]] * 2)) < -75


def test_the_tail_is_rendered_until_it_cannot_be_heard():
    stems = {"a": np.zeros((1, 2000), np.float32)}
    stems["a"][0, 500] = 1.0
    echo = Insert("delay", {"time_ms": 100.0, "feedback": 0.5, "dry": 1.0, "damping_hz": 20000.0})
    y = render(Mix([Track("a", chain=[echo])]), stems, RATE)
    a = 0.5 * (1 - np.exp(-2 * np.pi * 20000 / RATE))
    echoes = 1 + int(np.floor(90 / (-20 * np.log10(a))))
    assert y.shape[1] == pytest.approx(500 + echoes * 4410, abs=20)
    assert np.abs(y[:, -1]).max() >= 10 ** (-90 / 20)
    assert render(Mix([Track("a", chain=[echo])]), stems, RATE, tail=0).shape[1] == 2000
    assert render(Mix([Track("a")]), stems, RATE).shape[1] == 2000, "never shorter than the longest stem"


def test_all_muted_is_silence_as_long_as_the_stems():
    y = render(Mix([Track("0.wav", mute=True)]), STEMS, RATE)
    assert y.shape == (2, 20000) and not y.any()


def test_what_feeds_the_master_adds_up_to_the_mix():
    mix = busy_mix()
    mix = Mix(mix.tracks, mix.buses)
    console = Console(mix.check(), [ArraySource(STEMS[t.file]) for t in mix.tracks], RATE)
    total = np.zeros((2, 20000))
    whole = np.zeros((2, 20000), np.float32)
    at = 0
    for block, parts in console.blocks_and_parts(0, 20000):
        n = block.shape[1]
        whole[:, at : at + n] = block
        for part in parts.values():
            total[:, at : at + n] += part
        at += n
    assert set(console.feeders) == {2, 3, 4, "drums", "echo"}
    assert np.array_equal(total.astype(np.float32), whole)


def test_float64_stems_are_rendered_in_float64():
    stems = {"a": audio(1, 1, 100)}
    assert render(Mix([Track("a")]), stems, RATE).dtype == np.float64


def test_a_model_that_nobody_gave_is_named():
    mix = Mix([Track("0.wav", chain=[Insert("neural", {"model": "la2a"})])])
    with pytest.raises(ParameterError) as caught:
        rendered(mix)
    assert str(caught.value) == "tracks[0].chain[0].neural.model is la2a, which is not there; give a model"


def test_a_console_renders_once():
    console = Console(Mix([Track("0.wav")]), [ArraySource(STEMS["0.wav"])], RATE)
    list(console.blocks(0, 100))
    with pytest.raises(RuntimeError, match="has rendered already"):
        list(console.blocks(0, 100))


def test_the_order_of_the_buses_does_not_matter():
    mix = busy_mix()
    turned = Mix(mix.tracks, dict(reversed(mix.buses.items())), mix.master)
    stems = {name: stem.astype(np.float64) for name, stem in STEMS.items()}
    assert np.array_equal(render(turned, stems, RATE, end=20000), render(mix, stems, RATE, end=20000))


def test_silence_between_echoes_is_not_the_end():
    """Four delays of two seconds in a row are silent for eight."""
    stems = {"a": np.ones((1, 1000), np.float32)}
    echo = Insert("delay", {"time_ms": 2000.0, "feedback": 0.0})
    y = render(Mix([Track("a", chain=[echo] * 4)]), stems, RATE)
    assert y.shape[1] == 8 * RATE + 1000
    assert np.array_equal(y[:, 8 * RATE :], np.ones((2, 1000)))


def test_a_fader_that_opens_late_is_waited_for():
    stems = {"a": np.ones((1, 1000), np.float32)}
    long = Insert("reverb", {f"band{k}_decay_s": 10.0 for k in range(1, 13)})
    fader = Insert("gain", {"gain_db": [[0, -96], [4.0, -96], [4.01, 20]]})
    y = render(Mix([Track("a", chain=[long, fader])]), stems, RATE)
    assert y.shape[1] > 8 * RATE


def test_a_tail_behind_gain_is_rendered_to_its_end():
    stems = {"a": np.zeros((1, 500), np.float32)}
    stems["a"][0, 100] = 0.01
    echo = Insert("delay", {"time_ms": 100.0, "feedback": 0.5, "damping_hz": 20000.0})
    y = render(Mix([Track("a", chain=[echo]), Track("b")], master=Master([Insert("gain", {"gain_db": 48.0})])),
               stems | {"b": np.zeros((1, 500), np.float32)}, RATE)  # fmt: skip
    a = 0.5 * (1 - np.exp(-2 * np.pi * 20000 / RATE))
    echoes = 1 + int(np.floor((90 + 48 - 40) / (-20 * np.log10(a))))
    assert y.shape[1] == pytest.approx(100 + echoes * 4410, abs=20)


@pytest.mark.parametrize(
    ("stem", "line"),
    [
        (np.zeros(10, np.int16), "a: the audio is int16; give float32 or float64"),
        (np.array([0.0, np.nan]), "a: the audio holds NaN or infinity; give finite samples"),
        (np.zeros((10, 2)), "a: the audio has shape (10, 2); give (n,), (1, n) or (2, n)"),
    ],
)
def test_stems_in_memory_are_checked(stem, line):
    with pytest.raises(ParameterError) as caught:
        render(Mix([Track("a")]), {"a": stem}, RATE)
    assert str(caught.value) == line


def test_controls_given_in_python_are_checked():
    with pytest.raises(ParameterError) as caught:
        Chain([Insert("gain", {"gain_dB": -6})], RATE, 1)
    assert str(caught.value) == "chain[0].gain: gain_dB is not known; did you mean gain_db?"
    moving = Insert("pan", {"pan": [(0, np.float32(0.25)), (1, 0.75)]})
    assert render(Mix([Track("0.wav", chain=[moving])]), STEMS, RATE).shape == (2, 20000)
