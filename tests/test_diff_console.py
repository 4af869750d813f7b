"""The differentiable console: the reference's sound, whole and from the presets, and gradients to all of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import audio, error_db
from twin_checks import BAR_DB

from mixtools import PRESETS, Mix, render
from mixtools.diff import console
from mixtools.errors import ParameterError
from mixtools.mix import Bus, Insert, Track

RATE = 44100
FRAMES = 20000

MIX = {
    "mixtools": 1,
    "tracks": [
        {
            "file": "kick.wav",
            "output": "drums",
            "chain": [
                {"gain": {"gain_db": -3.2, "invert": True}},
                {"compressor": {"threshold_db": -18, "ratio": 4, "attack_ms": 8, "release_ms": 120}},
                {"pan": {"pan": 0.3}},
            ],
            "sends": {"room": -14},
        },
        {
            "file": "snare.wav",
            "output": "drums",
            "chain": [
                {"gain": {"gain_db": 2.0}},
                {"compressor": {"threshold_db": -30, "ratio": 2, "knee_db": 6}},
                {"pan": {"pan": 0.8}},
            ],
            "sends": {"room": -6},
        },
        {
            "file": "bass.wav",
            "offset_ms": 1.3,
            "chain": [{"parametric_eq": {"low_shelf_gain_db": 2.5, "band2_gain_db": -4}}, {"gain": {"gain_db": -2}}],
        },
        {"file": "keys.wav", "channel": "left", "offset_ms": -2.0, "chain": [{"pan": {"pan": 0.0}}]},
        {"file": "keys.wav", "channel": "side", "mute": True},
        {"file": "keys.wav", "chain": [{"gain": {"gain_db": [[0, -6], [0.2, 0]]}}], "sends": {"room": -20}},
    ],
    "buses": {
        "drums": {"chain": [{"compressor": {"threshold_db": -12, "ratio": 2}}]},
        "room": {"chain": [{"convolution": {"ir": "small_room"}}, {"gain": {"gain_db": -3}}], "output": "drums"},
    },
    "master": {"chain": [{"parametric_eq": {"high_shelf_gain_db": 1.0}}]},
}


def stems(dtype=np.float64) -> dict[str, np.ndarray]:
    channels = {"kick.wav": 1, "snare.wav": 1, "bass.wav": 1, "keys.wav": 2}
    return {name: audio(seed, c, FRAMES, dtype) for seed, (name, c) in enumerate(channels.items())}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(samples) for name, samples in arrays.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mix_sounds_like_the_reference(dtype):
    mix = Mix.from_plain(MIX)
    expected = render(mix, stems(), RATE, end=FRAMES)
    found = console.render(mix, tensors(stems(dtype)), RATE, frames=FRAMES).numpy()
    assert error_db(found, expected) < BAR_DB


def test_solo_and_muted_buses():
    mix = Mix.from_plain(MIX)
    mix.tracks[0].solo = True
    mix.buses["room"].mute = True
    expected = render(mix, stems(), RATE, end=FRAMES)
    assert error_db(console.render(mix, tensors(stems()), RATE).numpy(), expected) < BAR_DB


def test_values_replace_numbers_one_per_item():
    mix = Mix.from_plain(MIX)
    batch = {name: torch.stack([x, 0.5 * x]) for name, x in tensors(stems()).items()}
    path = "tracks[0].chain[1].compressor.threshold_db"
    found = console.render(mix, batch, RATE, {path: torch.tensor([-18.0, -40.0], dtype=torch.float64)})
    for item, threshold in enumerate([-18.0, -40.0]):
        mix.tracks[0].chain[1].controls["threshold_db"] = threshold
        expected = render(mix, {name: x[item].numpy() for name, x in batch.items()}, RATE, end=FRAMES)
        assert error_db(found[item].numpy(), expected) < BAR_DB


def test_every_number_of_a_mix_can_be_learned_and_written_back():
    mix = Mix.from_plain(MIX)
    values = {path: value.requires_grad_() for path, value in console.controls_of(mix).items()}
    assert "tracks[0].sends.room" in values and "buses.drums.chain[0].compressor.ratio" in values
    assert "tracks[5].chain[0].gain.gain_db" not in values, "it moves"
    console.render(mix, tensors(stems()), RATE, values).square().mean().backward()
    heard = [path for path in values if not path.startswith("tracks[4]")]
    assert all(values[path].grad is None or torch.isfinite(values[path].grad) for path in heard)
    moved = [path for path in heard if values[path].grad is not None and values[path].grad != 0]
    assert len(moved) > 20
    changed = console.with_controls(mix, {"tracks[1].chain[0].gain.gain_db": torch.tensor(-7.5)})
    assert changed.tracks[1].chain[0].controls["gain_db"] == -7.5
    assert mix.tracks[1].chain[0].controls["gain_db"] == 2.0


def test_gradients_of_the_whole_console_are_those_of_finite_differences():
    mix = Mix.from_plain(MIX)
    sound = tensors(stems())
    target = torch.from_numpy(audio(9, 2, FRAMES))

    def loss(values):
        return (console.render(mix, sound, RATE, values) - target).square().mean()

    paths = [
        "tracks[0].chain[0].gain.gain_db",
        "tracks[1].chain[1].compressor.ratio",
        "tracks[2].chain[0].parametric_eq.band2_freq_hz",
        "tracks[1].sends.room",
        "buses.drums.chain[0].compressor.threshold_db",
        "master.chain[0].parametric_eq.high_shelf_gain_db",
    ]
    values = {path: value.requires_grad_() for path, value in console.controls_of(mix).items() if path in paths}
    loss(values).backward()
    for path in paths:
        step = 1e-4 * max(1.0, abs(float(values[path].detach())))
        beside = [loss({path: values[path].detach() + sign * step}) for sign in (1, -1)]
        slope = float(beside[0] - beside[1]) / (2 * step)
        assert float(values[path].grad) == pytest.approx(slope, rel=1e-3, abs=1e-9), path


def preset_units(strip, rng, shape):
    """Unit vectors, and the settings that they stand for, song by song and strip by strip."""
    units = np.empty((*shape, len(strip.labels())))
    settings = {}
    for index in np.ndindex(*shape):
        settings[index] = strip.sample(rng, RATE)
        units[index] = strip.to_vector(settings[index], RATE)
    return torch.from_numpy(units), settings


@pytest.mark.parametrize("name", ["diffmst", "dmc", "colonel"])
def test_presets_sound_like_the_reference(name):
    preset, rng = PRESETS[name], np.random.default_rng(3)
    songs, tracks = 2, 3
    x = np.stack([[audio(10 * song + t, 1, FRAMES) for t in range(tracks)] for song in range(songs)])
    units, settings = preset_units(preset.track, rng, (songs, tracks))
    master_units, master = preset_units(preset.master, rng, (songs,))
    buses = {bus: preset_units(strip, rng, (songs,)) for bus, strip in preset.buses.items()}
    found = console.preset_console(
        preset, torch.from_numpy(x), RATE, units, master_units, {bus: pair[0] for bus, pair in buses.items()}
    )
    for song in range(songs):
        mix = Mix(
            [Track(f"{t}.wav", chain=settings[song, t].chain, sends=settings[song, t].sends) for t in range(tracks)]
        )
        mix.master.chain = master[(song,)].chain
        mix.buses = {bus: Bus(chain=drawn[(song,)].chain) for bus, (_, drawn) in buses.items()}
        expected = render(mix, {f"{t}.wav": x[song, t] for t in range(tracks)}, RATE, end=FRAMES)
        assert error_db(found[song].numpy(), expected) < BAR_DB


def test_absent_tracks_are_silent():
    preset, rng = PRESETS["diffmst"], np.random.default_rng(4)
    x = torch.from_numpy(np.stack([audio(t, 1, FRAMES) for t in range(3)]))
    units, _ = preset_units(preset.track, rng, (3,))
    master, _ = preset_units(preset.master, rng, ())
    buses = {bus: preset_units(strip, rng, ())[0] for bus, strip in preset.buses.items()}
    two = console.preset_console(preset, x[:2], RATE, units[:2], master, buses)
    padded = console.preset_console(preset, x, RATE, units, master, buses, present=torch.tensor([True, True, False]))
    assert error_db(padded.numpy(), two.numpy()) < -200


def test_wrong_vectors_and_missing_stems_are_refused():
    preset = PRESETS["diffmst"]
    x = torch.zeros(2, 1, 100)
    with pytest.raises(ParameterError, match=r"the control vectors have shape \(2, 5\); give \(\.\.\., \d+\)"):
        console.preset_console(preset, x, RATE, torch.zeros(2, 5))
    units = torch.full((2, len(preset.track.labels())), math.nan)
    with pytest.raises(ParameterError, match="hold NaN or infinity; give numbers from 0 to 1"):
        console.preset_console(preset, x, RATE, units)
    mix = Mix([Track("a.wav", chain=[Insert("gain", {})])])
    with pytest.raises(ParameterError, match="a.wav, which is not among the stems"):
        console.render(mix, {}, RATE)
