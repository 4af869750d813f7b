"""Learning channels and devices: examples by number, recordings lined up and split, losses, and killed trainings."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from conftest import audio

from mixtools.errors import AudioError, ParameterError
from mixtools.files.checkpoints import TrainingFolder, read_checkpoint
from mixtools.files.corpora import open_corpus
from mixtools.nets.emulator import Spec
from mixtools.tasks.emulate.console import Channel
from mixtools.tasks.emulate.model import Model
from mixtools.tasks.train.devices import DeviceData, DeviceExamples, Recordings, latency_of
from mixtools.tasks.train.devices import held_out_of as held_out_of_device
from mixtools.tasks.train.emulate import (
    Batch,
    ConsoleData,
    ConsoleExamples,
    console_about,
    held_out_of,
    loss_of,
    new_network,
    stft_distance,
    train_emulator,
    usual_training,
)
from mixtools.tasks.train.sounds import Sounds, augmented

RATE = 16000


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two songs of three stems each."""
    root = tmp_path_factory.mktemp("songs")
    for song in range(2):
        (root / f"song{song}" / "stems").mkdir(parents=True)
        for stem in range(3):
            x = audio(10 * song + stem, 1 + stem % 2, 8 * RATE)
            soundfile.write(root / f"song{song}" / "stems" / f"{stem}.wav", 0.5 * x.T, RATE, subtype="FLOAT")
    return open_corpus(root)


def test_sounds_follow_from_their_numbers(songs):
    one, again = (Sounds([songs], 4000, RATE, 1) for _ in range(2))
    expected = [one(k) for k in (0, 1, 7)]
    for k, x in zip((7, 1, 0), expected[::-1], strict=True):
        assert np.array_equal(again(k), x)
        assert x.shape == (4000,)
        assert np.abs(x).max() <= 1.0 + 1e-6
    assert one(3, 500).shape == (500,)
    other = Sounds([songs], 4000, RATE, 2)(0)
    assert not np.array_equal(expected[0], other)


def test_sounds_are_excerpts_that_play_unless_they_are_augmented(songs):
    plain = Sounds([songs], 4000, RATE, 1, augment=False)
    assert min(np.sqrt(np.mean(plain(k) ** 2)) for k in range(20)) > 1e-3


def test_every_augmentation_happens():
    x = 0.5 * np.sin(np.arange(6000) / 7).astype(np.float32)
    mixed = turned = noisy = holed = gapped = scaled = 0
    for seed in range(120):
        asked = []
        y = augmented(x.copy(), lambda asked=asked: asked.append(1) or x[::-1], np.random.default_rng(seed))
        assert np.isfinite(y).all()
        assert np.abs(y).max() <= 1.0 + 1e-6
        mixed += bool(asked)
        zeros = y == 0.0
        gap = max((len(run) for run in "".join("z" if z else "." for z in zeros).split(".")), default=0)
        gapped += gap > 200
        holed += gap <= 200 and zeros.mean() > 0.02
        if not asked and not zeros.any():
            gain = float(y @ x / (x @ x))
            noisy += np.abs(y - gain * x).max() > 1e-5
            turned += gain < 0
            scaled += abs(abs(gain) - 1) > 0.01
    assert min(mixed, turned, noisy, holed, gapped, scaled) > 0


def test_examples_of_the_console_are_the_console(songs):
    data = ConsoleData(0.25, RATE, shuffle=True, augment=False)
    examples = ConsoleExamples([songs], data, 2)
    short, long = examples(0), examples(1)
    assert short.sounds.shape == (16, 1, 500)
    assert long.sounds.shape == (2, 1, 4000)
    assert long.targets.shape == (2, 2, 4000)
    assert long.controls.shape == (2, len(Channel(RATE, True).labels)) == (2, 32)
    expected = Channel(RATE, True).process(long.sounds[:, 0].numpy(), long.controls.double().numpy())
    assert np.allclose(long.targets.numpy(), expected, atol=1e-4 * np.abs(expected).max())
    for one, other in zip(examples(1), ConsoleExamples([songs], data, 2)(1), strict=True):
        assert torch.equal(one, other)


def test_one_processor_alone(songs):
    data = ConsoleData(0.1, RATE, only="reverb", augment=False)
    batch = ConsoleExamples([songs], data, 8, short=False)(0)
    labels = Channel(RATE).labels
    gains = [i for i, label in enumerate(labels) if "gain_db" in label]
    assert (batch.controls[:, gains] == 0.5).all()
    assert batch.controls[:, labels.index("convolution.wet")].std() > 0.05


def test_losses():
    batch = Batch(torch.zeros(2, 1, 3000), torch.zeros(2, 1), torch.randn(2, 2, 3000))
    seen = []

    def forward(x, controls):
        seen.append(x.shape)
        return torch.zeros(2, 2, 3000 - 300)

    for name in ("mae", "relative", "esr"):
        found = loss_of(name, 200, 100)(forward, batch)
        value = float(found["relative"] if isinstance(found, dict) else found)
        wanted = batch.targets[..., 200:2900]
        expected = float(wanted.abs().mean()) if name == "mae" else 1.0
        assert value == pytest.approx(expected, rel=0.01)
    assert float(loss_of("mae", 200, 100, warm=500)(forward, batch)) == pytest.approx(
        float(batch.targets[..., 500:2900].abs().mean()), rel=1e-5
    )
    with pytest.raises(ParameterError, match="loss is mse; give"):
        loss_of("mse")


def test_the_spectral_loss_is_the_metric_of_every_side():
    from mixtools.measure.distance import MR_STFT, mr_stft

    found, wanted = torch.randn(2, 2, 2, 6000).unbind(0)
    settings = tuple(replace(one, hop=one.hop * 6) for one in MR_STFT)
    sides = [mr_stft(found[b, c], wanted[b, c], settings) for b in range(2) for c in range(2)]
    assert float(stft_distance(found, wanted)) == pytest.approx(float(sum(sides)) / 4, rel=1e-3)


@pytest.mark.parametrize("kind", ["strip"])
def test_a_killed_training_goes_on_as_if_it_had_not_been(songs, tmp_path, kind):
    data = ConsoleData(1.0 if kind == "tcn-10" else 0.25, RATE, only="equaliser")
    spec = replace(data.spec(kind), taps=1024)
    config = replace(usual_training(kind, 2), validate_every=1, save_every=1)

    def trained(folder, steps, resume=False):
        examples, held_out = ConsoleExamples([songs], data, 1, short=kind == "strip"), held_out_of([songs], data, 1, 1)
        storage = TrainingFolder(folder, resume)
        plan = replace(config, steps=steps)
        loss = "relative" if kind == "strip" else "mae"
        return train_emulator(
            new_network(spec), spec, examples, held_out, plan, storage, loss, console_about(data)
        )  # fmt: skip

    whole = trained(tmp_path / "whole", 2)
    trained(tmp_path / "parts", 1)
    parts = trained(tmp_path / "parts", 2, resume=True)
    assert whole.step == parts.step == 2
    assert whole.lowest == parts.lowest
    tensors = [read_checkpoint(tmp_path / folder, "last")[0] for folder in ("whole", "parts")]
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name
    weights, record = read_checkpoint(tmp_path / "parts", "best")
    model = Model.load(weights, record["about"], "parts")
    assert model.rate == RATE
    assert all(name.startswith("parametric_eq") for name in model.knobs)
    with open(tmp_path / "parts" / "log.csv", encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


def test_examples_must_be_longer_than_a_network_hears(songs, tmp_path):
    data = ConsoleData(0.5, RATE)
    spec = data.spec("tcn-10")
    examples = ConsoleExamples([songs], data, 1, short=False)
    with pytest.raises(ParameterError, match=r"examples are 0\.50 s long; give tcn-10 more than 0\.90 s"):
        train_emulator(
            new_network(spec),
            spec,
            examples,
            [],
            usual_training("tcn-10", 1),
            TrainingFolder(tmp_path / "x"),
            "mae",
            {},
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"only": "chorus"}, "only is chorus; give"),
        ({"alone": 2.0}, "alone is 2; give 0 to 1"),
        ({"seconds": 0.0}, "seconds is 0; give 0.05 to 30"),
        ({"rate": 4000}, "rate is 4000; give 8000 to 192000"),
    ],
)
def test_console_data_that_makes_no_sense(change, words):
    with pytest.raises(ParameterError) as error:
        ConsoleData(**change)
    assert words in str(error.value)


def device(x: np.ndarray, drive: float, latency: int) -> np.ndarray:
    """A device with a knob: it saturates, turns the signal upside down, and is late."""
    y = -np.tanh((1.0 + drive) * x)
    return np.concatenate([np.zeros(max(latency, 0)), y])[max(-latency, 0) :][: len(x)]


def write_pairs(folder, settings, n=2 * RATE, latency=37, rate=RATE):
    folder.mkdir()
    rows = ["input,target,drive"]
    for i, drive in enumerate(settings):
        x = audio(i, 1, n)[0] + 0.01 * np.random.default_rng(i).standard_normal(n)
        soundfile.write(folder / f"in{i}.wav", x, rate, subtype="FLOAT")
        soundfile.write(folder / f"out{i}.wav", device(x, drive, latency), rate, subtype="FLOAT")
        rows.append(f"in{i}.wav,out{i}.wav,{drive}")
    (folder / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("latency", [0, 37, -60, 3000])
def test_recordings_are_lined_up_and_turned_round(tmp_path, latency):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [0.0, 2.0, 5.0], latency=latency))
    recordings = Recordings(corpus, DeviceData(0.3))
    assert recordings.split == "time"
    for one in recordings.recordings:
        assert (one.latency, one.inverted) == (latency, True)
        x = recordings.input(one, 4000, 8000)
        drive = 5.0 * one.units[0]
        assert np.abs(recordings.target(one, 4000, 8000) - np.tanh((1.0 + drive) * x)).max() < 1e-5


def test_latency_is_found_through_a_filter_and_a_gain_that_moves():
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.standard_normal(60000)) * 0.01
    x -= np.convolve(x, np.ones(999) / 999, "same")
    y = np.convolve(x, np.exp(-np.arange(200) / 20.0))[:60000] * (0.3 + 0.2 * np.sin(np.arange(60000) / 5000))
    assert abs(latency_of(x, np.roll(-y, -96), 2000)[0] + 96) <= 1
    assert latency_of(x, np.roll(-y, -96), 2000)[1]
    assert latency_of(np.zeros(100), np.zeros(100), 50) == (0, False)


def test_settings_and_times_are_kept_apart(tmp_path):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [float(k) for k in range(8)], RATE))
    by_settings = Recordings(corpus, DeviceData(0.3))
    assert by_settings.split == "settings"
    parts = {name: {part.recording.units for part in part} for name, part in by_settings.parts.items()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 8
    assert by_settings.controls == [{"name": "drive", "low": 0.0, "high": 7.0, "default": 4.0}]
    by_time = Recordings(corpus, DeviceData(0.3, split="time"))
    for number, one in enumerate(by_time.recordings):
        places = [by_time.parts[name][number] for name in ("train", "validation", "test")]
        assert places[0].stop == places[1].start
        assert places[1].stop == places[2].start
        assert (places[0].start, places[2].stop) == (0, one.frames)
    blocks = Recordings(corpus, DeviceData(0.3, split="blocks"))
    for one in blocks.recordings:
        own = sorted((p for part in blocks.parts.values() for p in part if p.recording is one), key=lambda p: p.start)
        assert (own[0].start, own[-1].stop) == (0, one.frames)
        assert all(a.stop == b.start for a, b in zip(own, own[1:], strict=False))
    pieces = list(by_time.measured("test", most_s=0.1))
    assert all(len(one.inputs) == one.before + part.frames for part, one in pieces)
    assert pieces[0][1].before == pieces[0][0].start
    assert sum(part.frames for part, _ in pieces) == sum(part.frames for part in by_time.parts["test"])


def test_examples_of_a_device(tmp_path):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [float(k) for k in range(7)], RATE))
    recordings = Recordings(corpus, DeviceData(0.3))
    examples = DeviceExamples(recordings, 4)
    batch = examples(3)
    assert batch.sounds.shape == batch.targets.shape == (4, 1, 4800)
    assert batch.controls.shape == (4, 1)
    assert all(torch.equal(a, b) for a, b in zip(batch, DeviceExamples(recordings, 4)(3), strict=True))
    drive = 6.0 * batch.controls[:, :, None]
    assert torch.allclose(batch.targets, torch.tanh((1.0 + drive) * batch.sounds), atol=1e-4)
    mixed = DeviceExamples(Recordings(corpus, DeviceData(0.3, mixup=0.4)), 4)(3)
    assert not torch.equal(mixed.sounds, batch.sounds)
    spec = recordings.spec("strip")
    assert (spec.controls, spec.outputs, spec.rate) == (1, 1, RATE)
    model = Model(spec.network(), spec, recordings.about())
    assert model.knobs["drive"].control.range == "0 to 6"


def test_a_device_can_be_trained(tmp_path):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [0.0, 3.0], RATE))
    recordings = Recordings(corpus, DeviceData(0.3))
    examples = DeviceExamples(recordings, 2)
    spec = replace(recordings.spec("strip"), taps=1024)
    held_out = held_out_of_device(recordings, 1, 2)
    config = replace(usual_training("strip", 2), validate_every=1)
    storage = TrainingFolder(tmp_path / "run")
    state = train_emulator(new_network(spec), spec, examples, held_out, config, storage, "esr", recordings.about())
    assert state.step == 2
    tensors, record = read_checkpoint(tmp_path / "run", "best")
    assert Model.load(tensors, record["about"], "run").knobs.keys() == {"drive"}


def test_snapshots_have_no_controls(tmp_path):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [1.0], RATE))
    recordings = Recordings(corpus, DeviceData(0.3))
    assert recordings.controls == []
    spec = recordings.spec("strip")
    model = Model(spec.network(), spec, recordings.about())
    assert not model.knobs
    with pytest.raises(ParameterError, match="drive is not known; this model has no controls"):
        model.units({"drive": 1.0})


def rewritten(folder, name, samples, rate=RATE):
    soundfile.write(folder / name, samples, rate, subtype="FLOAT")


def test_recordings_that_cannot_be_learned_from(tmp_path):
    def opened(name, change):
        folder = write_pairs(tmp_path / name, [0.0, 1.0])
        change(folder)
        return Recordings(open_corpus(folder), DeviceData(0.3))

    noise = 0.1 * np.random.default_rng(1).standard_normal(5 * RATE)
    with pytest.raises(ParameterError, match=r"in1|out1.*input and target are 2\.00 and 5\.00 s long"):
        opened("long", lambda folder: rewritten(folder, "out1.wav", noise))
    with pytest.raises(ParameterError, match="the rate is 22050 Hz and of others 16000; give pairs of one rate"):
        opened("rate", lambda folder: rewritten(folder, "out1.wav", noise[: 2 * RATE], 22050))
    with pytest.raises(AudioError, match="the target is only silence"):
        opened("silent", lambda folder: rewritten(folder, "out1.wav", np.zeros(2 * RATE)))
    with pytest.raises(ParameterError, match="no part to learn from is 20 s long"):
        folder = write_pairs(tmp_path / "short", [0.0, 1.0])
        DeviceExamples(Recordings(open_corpus(folder), DeviceData(20.0)), 2)
    with pytest.raises(ParameterError, match="has 2 settings of the controls; give at least 3"):
        Recordings(open_corpus(tmp_path / "short"), DeviceData(0.3, split="settings"))
    with pytest.raises(ParameterError, match="split is place; give"):
        DeviceData(split="place")


def test_songs_are_no_device(songs):
    with pytest.raises(ParameterError, match="holds no recordings of a device"):
        Recordings(songs, DeviceData())


def test_sounds_can_come_from_recordings_of_a_device(tmp_path):
    corpus = open_corpus(write_pairs(tmp_path / "pairs", [0.0], 8 * RATE))
    assert Sounds([corpus], 1000, RATE, 0)(0).shape == (1000,)


def test_specs_follow_the_data():
    groups = (0, 1), (2, 3, 4), (5, 6, 7), (8, 9, 10), (11, 12), (13, 14, 15, 16, 17), tuple(range(18, 26))
    assert ConsoleData().spec("strip") == Spec("strip", 26, ((18, 5),), 2, groups=groups)
    assert ConsoleData(shuffle=True).spec("strip").groups == groups
    assert ConsoleData().spec("tcn-10").groups == ()
    assert ConsoleData(shuffle=True).spec("strip").long == (True, True)
