"""Learning to mix like a record: what is learned from, both regimes, and going on."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixtools.diff.stereo_loss import stereo_distance
from mixtools.errors import ParameterError
from mixtools.files.checkpoints import TrainingFolder, read_checkpoint
from mixtools.files.corpora import open_corpus
from mixtools.files.writing import write_audio
from mixtools.measure.audio_features import audio_feature_loss
from mixtools.measure.loudness import LoudnessMeter
from mixtools.nets.dmc import balanced_loudness
from mixtools.nets.foresight import CONSOLES, hear_record
from mixtools.nets.restoring import OPTIMISER
from mixtools.nets.training import Training
from mixtools.nets.transfer import Spec, TransferController, rendered
from mixtools.tasks.recordings import ArrayRecording
from mixtools.tasks.train.transfer import (
    METHODS,
    Data,
    Lessons,
    Pairs,
    collated,
    loss_of,
    new_controller,
    papers_training,
    rendered_loss,
    start_from,
    train_transfer,
    varied,
)
from mixtools.tasks.transfer.controller import Controller

RATE = 16000
DATA = Data(seconds=1.5, rate=RATE, least_stems=3, most_stems=5)
SMALL = Spec(width=32, layers=1, rounds=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two songs of four stems as a folder, which is read much faster than songs are synthesised."""
    from mixtools.synth import synth_song

    folder = tmp_path_factory.mktemp("songs")
    for number in range(2):
        song = synth_song(number, 6.0, RATE, stems=8)
        loud = sorted(song.stems, key=lambda name: -np.sum(song.stems[name] ** 2))[:4]
        (folder / f"song{number}" / "stems").mkdir(parents=True)
        total = sum(np.broadcast_to(song.stems[name], (2, song.stems[name].shape[1])) for name in loud)
        for name in loud:
            write_audio(folder / f"song{number}" / "stems" / name, 0.3 * song.stems[name], RATE)
        write_audio(folder / f"song{number}" / "mix.wav", np.float32(0.3 * total), RATE)
    return open_corpus(str(folder))


@pytest.fixture(scope="module")
def records():
    """Noise of two colours, mono and stereo."""
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((2, 4 * RATE)).astype(np.float32)
    dark = np.stack([np.convolve(x, np.ones(16) / 4.0, "same") for x in noise]).astype(np.float32)
    return [ArrayRecording(0.2 * dark), ArrayRecording(0.1 * noise[:1])]


def lessons(corpus, method, count=2, recordings=(), **other) -> Lessons:
    return Lessons(corpus, replace(DATA, method=method, **other), count, recordings)


def controller(seed=0) -> TransferController:
    return new_controller(SMALL, RATE, seed)


def test_data_that_cannot_be_are_refused():
    for given, said in (
        ({"method": "record"}, "method is record; give records"),
        ({"families": ("lrc",)}, "families holds lrc; give lcr"),
        ({"families": ()}, "families is empty"),
        ({"seconds": 0.1}, "seconds is 0.1; give 0.5 to 60"),
        ({"rate": 7999}, "rate is 7999; give 8000"),
        ({"most_stems": 0}, "most_stems is 0"),
        ({"least_stems": 17}, "least_stems is 17; give 1 to most_stems"),
        ({"records": 1.5}, "records is 1.5; give 0 to 1"),
        ({"varied": float("nan")}, "varied is nan; give 0 to 1"),
        ({"apart": 0}, "apart is 0"),
    ):
        with pytest.raises(ParameterError, match=re.escape(said)):
            Data(**given)


@pytest.mark.parametrize("method", METHODS)
def test_lessons_follow_from_their_number(method, corpus, records):
    one, other = (Pairs(lessons(corpus, method, 3, records), 2, 7) for _ in range(2))
    other(0)
    for a, b in zip(one(4), other(4), strict=True):
        for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
            assert torch.equal(x, y)
    assert not torch.equal(one(4).heard.spectrograms[0, 0], one(5).heard.spectrograms[0, 0])


def test_numbers_of_stems_differ(corpus, records):
    pairs = Pairs(lessons(corpus, "foreseen", 2, records, least_stems=1), 2)
    assert len({int(n) for k in range(6) for n in pairs(k).heard.present.sum(dim=1)}) > 1


def test_records_come_from_where_they_are_said_to(corpus, records):
    only = lessons(corpus, "foreseen", 4, records, records=1.0, varied=0.0)
    widths = {round(float(only.records[k].width), 1) for k in range(4)}
    assert widths <= {0.0, 1.0}
    mixes = lessons(corpus, "foreseen", 4, records, records=0.0, varied=0.0)
    assert all(torch.equal(mixes.records[k].bark, hear_record(mixes.finished(k), RATE).bark) for k in range(2))


def test_finished_mixes_of_songs_without_one_are_loud_and_limited():
    corpus = open_corpus("synth:4")
    (audio,) = [lessons(corpus, "foreseen", 1).finished(0)]
    meter = LoudnessMeter(RATE, 2)
    meter.add(audio)
    assert -17.0 < meter.integrated_lufs < -8.9
    assert np.abs(audio).max() <= 10.0 ** (-1.0 / 20.0) + 1e-6
    assert np.std(audio[0] - audio[1]) > 0.0


def test_records_are_varied(records):
    audio = records[0].read(0, 2 * RATE)
    found = [hear_record(varied(audio, RATE, np.random.default_rng(k)), RATE) for k in range(6)]
    assert np.std([float(record.width) for record in found]) > 0.2
    assert np.std([float(record.imbalance) for record in found]) > 0.02
    assert all(bool(torch.isfinite(record.bark).all()) for record in found)


def test_a_random_mix_of_the_same_song_could_be_found(corpus):
    """Method 1: with the controls that it was made by, the target comes out."""
    made = lessons(corpus, "same-song")
    lesson = made.stems[0]
    from mixtools.dsp.noise import generator
    from mixtools.tasks.train.transfer import random_controls

    count = lesson.heard.present.shape[1]
    controls = random_controls(made.console, count, RATE, generator(0, "mix 0"))
    found = rendered(made.console, lesson.audio, lesson.heard, controls, RATE)
    found = balanced_loudness(found, RATE, lesson.target)
    # Compressors and the room remember the first half.
    assert float(stereo_distance(found, lesson.target)) < 1.0
    other = random_controls(made.console, count, RATE, generator(0, "mix 1"))
    far = balanced_loudness(rendered(made.console, lesson.audio, lesson.heard, other, RATE), RATE, lesson.target)
    assert float(stereo_distance(found, lesson.target)) < 0.7 * float(stereo_distance(far, lesson.target))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method, corpus, records):
    net = controller()
    batch = Pairs(lessons(corpus, method, 2, records), 2)(0)
    loss = loss_of(net, method)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    found = []
    for _ in range(14):
        terms = loss(net, batch)
        optimiser.zero_grad()
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        found.append(float(terms["judged"].detach()))
    assert found[-1] < {"same-song": 0.95, "records": 0.8, "foreseen": 0.7}[method] * found[0]


def test_the_loss_of_a_rendered_mix_is_the_measure_s(corpus, records):
    net = controller()
    batch = Pairs(lessons(corpus, "records", 2, records), 2)(0)
    with torch.no_grad():
        controls = net(batch.heard, batch.record)[-1]
        found = rendered_loss(net, batch, controls)
        mixes = rendered(net.console, batch.audio, batch.heard, controls, RATE)
    for k, mix in enumerate(mixes.numpy()):
        expected = audio_feature_loss(hear_record(mix, RATE).features, batch.record.features)["total"][k]
        assert float(found[k]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_it_comes_to_the_same(method, corpus, records, tmp_path):
    plan = Training(4, rate=1e-3, validate_every=2, save_every=1, clip_norm=1.0)

    def run(folder, steps, resume=False):
        made = [lessons(corpus, method, 2, records, seed=k) for k in (0, 1)]
        storage = TrainingFolder(tmp_path / folder, resume)
        return train_transfer(controller(), *made, replace(plan, steps=steps), storage, 1)

    run("whole", 3)
    run("parts", 1)
    state = run("parts", 3, resume=True)
    assert state.step == 3
    (one, _), (other, record) = (read_checkpoint(tmp_path / name, "last") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()
    weights = {name: x for name, x in other.items() if not name.startswith(OPTIMISER)}
    model = Controller.load(weights, record["about"], "m")
    assert model.net.spec == SMALL and model.net.rate == RATE


def test_one_method_goes_on_from_the_other():
    net, other = controller(0), controller(1)
    start_from(net, other.state_dict(), "m")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    wider = new_controller(replace(SMALL, width=64), RATE)
    with pytest.raises(ParameterError, match="m: .* give a transfer model of the same console, width and layers"):
        start_from(net, wider.state_dict(), "m")


def test_what_does_not_belong_together_is_refused(corpus, records, tmp_path):
    plan = papers_training("foreseen", 1)
    storage = TrainingFolder(tmp_path / "x")
    good = lessons(corpus, "foreseen", 1, records)
    for bad, said in (
        (lessons(corpus, "records", 1, records), "method is records for what is held out; give foreseen for both"),
        (lessons(corpus, "foreseen", 1, records, rate=22050), "rate is 22050 in the data; give 16000, the model's"),
        (Lessons(corpus, good.data, 1, (), CONSOLES["diffmst"]), "console is diffmst in the data; give transfer"),
    ):
        with pytest.raises(ParameterError, match=re.escape(said)):
            train_transfer(controller(), good, bad, plan, storage, 1)


def test_batches_hold_songs_of_different_sizes(corpus, records):
    made = lessons(corpus, "records", 2, records)
    one, other = made.pair(0, 0), made.pair(1, 1)
    few = made._thinned(other.heard, other.audio, 3)
    batch = collated([one, other._replace(heard=few[0], audio=few[1])])
    assert batch.heard.powers.shape[-1] == batch.audio.shape[1] == batch.heard.present.shape[1]
    assert batch.heard.present.sum() == one.heard.present.sum() + few[0].present.sum()
