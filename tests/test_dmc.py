"""The differentiable mixing console: its networks, what it learns from, and the mixes that it gives."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import error_db
from safetensors.torch import load_file, save_file

from mixtools.diff.stereo_loss import stereo_distance
from mixtools.dsp.convolution import kept_window
from mixtools.dsp.rooms import room_response
from mixtools.errors import ParameterError
from mixtools.files.checkpoints import TrainingFolder, read_checkpoint
from mixtools.files.corpora import open_corpus
from mixtools.files.writing import write_audio
from mixtools.measure.distance import sum_difference_mr_stft
from mixtools.measure.loudness import LoudnessMeter
from mixtools.nets import dmc
from mixtools.nets.dmc import LEVELS, Controller, MixingConsole, Songs, Spec, balanced_loudness, patches_of, processed
from mixtools.nets.restoring import load_weights
from mixtools.nets.training import Training
from mixtools.nets.vggish import VGGish
from mixtools.nets.wave_u_net import DirectMixer, WaveUNet
from mixtools.presets import PRESETS
from mixtools.synth import synth_song
from mixtools.tasks.automix.model import Model
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording
from mixtools.tasks.train import families
from mixtools.tasks.train.families import FAMILIES, HELD_OUT, TRAINED, mixed_by
from mixtools.tasks.train.mix import (
    Data,
    Lessons,
    at_loudness,
    collated,
    distance_to,
    lesson,
    loss_of,
    nearness,
    new_console,
    papers_training,
    roughly_balanced,
    sound_of,
    train_mixer,
)

AUDIO = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))
RATE = 22050
DATA = Data(seconds=2.0, rate=RATE, most_stems=10)


@pytest.fixture(scope="module")
def song():
    return synth_song(3, 6.0, RATE, stems=8)


@pytest.fixture(scope="module")
def stems(song):
    """Four seconds in which most play, mono and stereo."""
    found = {name: audio[:, RATE : 5 * RATE].copy() for name, audio in song.stems.items()}
    assert {len(audio) for audio in found.values()} == {1, 2}
    return found


@pytest.fixture(scope="module")
def target(song, stems):
    mix = mixed_by(FAMILIES["balanced"], stems, song.roles, RATE, 1)
    return at_loudness(render(mix, stems, RATE, end=4 * RATE), RATE)


def console(kind="basic", seed=0, **other) -> MixingConsole:
    """A small one whose controls differ from stem to stem."""
    torch.manual_seed(seed)
    net = MixingConsole(Spec(kind=kind, width=32, **other), RATE)
    with torch.no_grad():
        net.controller.post_processor[-1].weight *= 6.0
        net.controller.encoder.embeddings.weight *= 6.0
    return net.eval()


def batch(*songs: dict[str, np.ndarray], target: np.ndarray | None = None) -> Songs:
    target = np.ones((2, next(iter(songs[0].values())).shape[1]), np.float32) if target is None else target
    return collated([lesson(stems, target, DATA) for stems in songs])


def units_of(net: MixingConsole, songs: Songs) -> torch.Tensor:
    with torch.no_grad():
        return net.controller(songs.patches, songs.present, songs.levels_db)


def reordered(songs: Songs, order: list[int]) -> Songs:
    return songs._replace(
        **{name: getattr(songs, name)[:, order] for name in ("stems", "stereo", "present", "patches", "levels_db")}
    )


@pytest.mark.parametrize("kind", ["basic", "full"])
def test_a_stem_gets_the_same_controls_in_whatever_order_and_company_of_padding(stems, kind):
    net = console(kind)
    songs = batch(stems)
    units = units_of(net, songs)
    order = [3, 0, 6, 1, 5, 7, 2, 4]
    assert torch.allclose(units_of(net, reordered(songs, order)), units[:, order], atol=1e-6)
    few = dict(list(stems.items())[:3])
    both = batch(few, stems)
    assert both.present.sum(dim=1).tolist() == [3, 8]
    together = units_of(net, both)
    assert torch.allclose(together[1], units[0], atol=1e-6)
    assert torch.allclose(together[0, :3], units_of(net, batch(few))[0], atol=1e-6)
    assert units.std(dim=1).max() > 0.01, "all stems are set alike"


def test_a_stem_is_set_by_what_else_there_is(stems):
    net = console()
    alone = units_of(net, batch(dict(list(stems.items())[:1])))[0, 0]
    assert (alone - units_of(net, batch(stems))[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["basic", "full"])
@pytest.mark.parametrize("training", [False, True])
def test_silence_and_absence_give_numbers(stems, kind, training):
    silent = {name: np.zeros_like(audio) for name, audio in stems.items()}
    one_silent = {**dict(list(stems.items())[:2]), "nothing.wav": np.zeros((1, 4 * RATE), np.float32)}
    net = console(kind).train(training)
    for songs in (batch(silent), batch(one_silent, dict(list(stems.items())[:1]))):
        mixes = net(songs)
        loss_of(RATE, "told")(net, songs._replace(target=torch.randn_like(mixes))).backward()
        assert torch.isfinite(mixes).all()
        for parameter in net.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    assert net(batch(silent)).abs().max() == 0.0


def test_gradients_reach_every_control_of_the_full_strip(stems, target):
    strip = PRESETS["dmc"].track
    torch.manual_seed(1)
    songs = batch(stems, target=target)
    net = MixingConsole(Spec(kind="full", width=8), RATE)
    units = 0.2 + 0.6 * torch.rand(*songs.present.shape, len(strip.labels()))
    # What lies above half the rate does nothing.
    units[..., strip.labels().index("parametric_eq.high_shelf_freq_hz")] = 0.05
    units.requires_grad_()
    stereo_distance(net.mixed(songs, units), songs.target).backward()
    reached = (units.grad[0].abs().sum(dim=0) > 0).tolist()
    assert not [label for label, there in zip(strip.labels(), reached, strict=True) if not there]
    assert torch.isfinite(units.grad).all()


@pytest.mark.parametrize("label", ["gain.gain_db", "parametric_eq.band2_gain_db", "convolution.wet", "pan.pan"])
def test_the_slope_of_a_full_strip_is_that_of_the_sound(label):
    strip = PRESETS["dmc"].track
    torch.manual_seed(2)
    x = 0.1 * torch.randn(1, 1, 4000, dtype=torch.float64)
    weights = torch.randn(1, 2, 4000, dtype=torch.float64)
    units = (0.3 + 0.4 * torch.rand(1, len(strip.labels()), dtype=torch.float64)).requires_grad_()
    at = strip.labels().index(label)

    def value(u):
        return (processed(strip, x, RATE, u) * weights).sum()

    value(units).backward()
    step = torch.zeros_like(units)
    step[0, at] = 1e-5
    slope = float((value(units.detach() + step) - value(units.detach() - step)) / 2e-5)
    assert float(units.grad[0, at]) == pytest.approx(slope, rel=1e-4)


def test_polarity_and_room_are_heard_hard_and_learned_soft():
    strip = PRESETS["dmc"].track
    columns = {label: i for i, label in enumerate(strip.labels())}
    x = torch.zeros(1, 1, 3000)
    x[..., 0] = 1.0
    units = torch.full((1, len(columns)), 0.5)
    units[0, columns["compressor.ratio"]] = 0.0
    units[0, columns["gain.invert"]] = 0.2
    turned = units.clone()
    turned[0, columns["gain.invert"]] = 0.7
    assert torch.equal(processed(strip, x, RATE, turned), -processed(strip, x, RATE, units))
    hall, wider = units.clone(), units.clone()
    hall[0, columns["convolution.ir=hall"]] = 0.6
    wider[0, columns["convolution.ir=hall"]] = 0.9
    assert torch.equal(processed(strip, x, RATE, hall), processed(strip, x, RATE, wider))
    rooms = ("small_room", "hall")
    decay = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    found = dmc._response(rooms, torch.tensor([[0.2, 0.6]], dtype=torch.float64), decay, RATE)
    response = room_response("hall", RATE)
    window = kept_window(response.shape[1], 0.4)
    assert error_db(found.detach()[0, :, : len(window)].numpy(), response[:, : len(window)] * window) < -120
    assert not found.detach()[0, :, len(window) :].any()
    (found**2).sum().backward()
    assert decay.grad > 0


@pytest.mark.parametrize("kind", ["basic", "full"])
@pytest.mark.parametrize("levels", LEVELS)
def test_the_mix_of_a_model_sounds_as_its_own_console(stems, kind, levels):
    net = console(kind, levels=levels)
    model = Model(net)
    recordings = {name: ArrayRecording(audio) for name, audio in stems.items()}
    frames = 4 * RATE
    mix = model.mix(recordings, RATE, [(0, frames)], even=False)
    heard = collated([lesson(stems, np.zeros((2, frames), np.float32), Data(4.0, RATE, levels=levels))])
    with torch.no_grad():
        expected = net(heard)[0].numpy()
    assert error_db(render(mix, stems, RATE, end=frames), expected) < -60
    assert {insert.effect for track in mix.tracks for insert in track.chain} == (
        {"gain", "pan"} if kind == "basic" else {"gain", "parametric_eq", "compressor", "convolution", "pan"}
    )


def test_a_model_mixes_whatever_it_is_given(stems):
    model = Model(console())
    recordings = {name: ArrayRecording(audio) for name, audio in stems.items()}
    mix = model.mix(recordings, RATE)
    assert model.mix(dict(reversed(recordings.items())), RATE) == mix
    silent = {f"{i}.wav": ArrayRecording(np.zeros((1, RATE), np.float32)) for i in range(3)}
    assert not render(model.mix(silent, RATE), {name: np.zeros((1, RATE), np.float32) for name in silent}, RATE).any()
    one = model.mix({"a.wav": ArrayRecording(stems[min(stems)])}, RATE)
    assert len(one.tracks) == 1
    short = model.mix({"a.wav": ArrayRecording(np.full((2, 10), 0.1, np.float32))}, RATE)
    assert len(short.tracks) == 1
    many = {f"{i}.wav": ArrayRecording(stems[min(stems)] * 0.9**i) for i in range(200)}
    assert len(model.mix(many, RATE, [(0, RATE)]).tracks) == 200
    with pytest.raises(ParameterError, match="no stems"):
        model.mix({}, RATE)


@pytest.mark.parametrize("kind", ["basic", "full"])
def test_both_sides_are_about_as_loud(stems, kind):
    net = console(kind, levels="same")
    with torch.no_grad():
        net.controller.post_processor[-1].bias[-1] = -1.5
    model = Model(net)
    recordings = {name: ArrayRecording(audio) for name, audio in stems.items()}
    one_sided, even = (model.mix(recordings, RATE, even=even) for even in (False, True))

    def lean_db(mix):
        energy = (render(mix, stems, RATE).astype(np.float64) ** 2).sum(axis=1)
        return abs(10 * np.log10(energy[0] / energy[1]))

    def pans(mix):
        return np.array([track.chain[-1].controls["pan"] for track in mix.tracks])

    assert (pans(one_sided) < 0.5).all()
    assert np.allclose(np.abs(pans(even) - 0.5), np.abs(pans(one_sided) - 0.5), atol=1e-5)
    assert lean_db(even) < min(2.0, lean_db(one_sided))


def test_levelled_stems_make_the_same_mix_however_they_were_recorded(stems):
    model = Model(console(levels="same"))
    quiet = {name: audio * np.float32(10.0 ** (-0.1 * i)) for i, (name, audio) in enumerate(stems.items())}
    mixes = [model.mix({n: ArrayRecording(a) for n, a in given.items()}, RATE) for given in (stems, quiet)]
    a, b = (render(mix, given, RATE) for mix, given in zip(mixes, (stems, quiet), strict=True))
    assert error_db(a, b) < -40


def test_a_network_that_is_told_hears_how_loud_stems_were_against_each_other_and_nothing_else(stems):
    model = Model(console(levels="told"))
    loudest = min(stems)

    def units(gains_db):
        heard = {name: audio * np.float32(10.0 ** (gains_db.get(name, 0.0) / 20.0)) for name, audio in stems.items()}
        return units_of(model.net, batch(heard))

    plain = units({})
    assert torch.allclose(units(dict.fromkeys(stems, -6.0)), plain, atol=1e-4)
    assert not torch.allclose(units({loudest: -6.0}), plain, atol=1e-3)


def test_roughly_balanced_stems_are_near_their_mix(stems, song):
    mix = mixed_by(FAMILIES["balanced"], stems, song.roles, RATE, 1, families.DRY)
    faders_db = {track.file: track.chain[0].controls["gain_db"] for track in mix.tracks}
    careless = []
    for seed in range(40):
        found = roughly_balanced(stems, mix, np.random.default_rng(seed))
        off_db = [20 * np.log10(np.abs(found[n]).max() / np.abs(stems[n]).max()) - faders_db[n] for n in stems]
        careless.append(np.std(off_db))
    assert 1.0 < np.mean(careless) < 5.0
    assert max(careless) < 12.0


def test_weights_come_back_and_others_are_refused(tmp_path, stems):
    net = console("full")
    about = {"network": net.spec.plain(), "data": {"rate": RATE}}
    tensors = net.state_dict()
    save_file(tensors, tmp_path / "a.safetensors")
    model = Model.load(load_file(tmp_path / "a.safetensors"), about, "here")
    recordings = {name: ArrayRecording(audio) for name, audio in stems.items()}
    assert model.mix(recordings, RATE) == Model(net).mix(recordings, RATE)

    def refused(tensors=tensors, network=None, data=None, **changes):
        network = {**about["network"], **changes} if network is None else network
        with pytest.raises(ParameterError) as caught:
            Model.load(tensors, {"network": network, "data": about["data"] if data is None else data}, "here")
        return str(caught.value)

    bias = "controller.post_processor.9.bias"
    assert bias in tensors
    assert f"{bias} is missing" in refused({k: v for k, v in tensors.items() if k != bias})
    assert f"{bias} is 3 float32" in refused({**tensors, bias: torch.zeros(3)})
    assert "no finite numbers" in refused({**tensors, bias: torch.full_like(tensors[bias], math.nan)})
    assert "more is not part" in refused({**tensors, "more": torch.zeros(1)})
    assert "here: about.network.kind is ful; give full" in refused(kind="ful").replace("did you mean ", "give ")
    assert "here: about.network.width is 1000000000; give a whole number" in refused(width=10**9)
    assert "encoder" in refused(encoder=["small"])
    assert "does not hold kind, encoder" in refused(network={"kind": "full"})
    assert "rate" in refused(data={"rate": "fast"})
    assert "rate" in refused(data=7)
    for wrong in (None, [], {"data": {}}):
        with pytest.raises(ParameterError, match="network is missing"):
            Model.load(tensors, wrong, "here")


def test_encoders():
    small = Controller(2)
    assert sum(p.numel() for p in small.encoder.parameters()) < 2e6
    hidden = [layer for layer in small.post_processor if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in hidden] == [2048, 2048, 2048, 2] and hidden[0].in_features == 256
    with torch.device("meta"):
        published = Controller(2, "vggish")
    # The thesis's table 11 says 89 million of DMC-basic.
    assert 75e6 < sum(p.numel() for p in published.parameters()) < 92e6
    torch.manual_seed(0)
    state = {name: torch.randn(x.shape) * 0.01 for name, x in VGGish().state_dict().items()}
    net = MixingConsole(Spec(encoder="vggish", width=4), RATE)
    dmc.start_from_vggish(net, state, "vggish.pt")
    assert torch.equal(net.controller.encoder.embeddings[0].weight, state["embeddings.0.weight"])
    assert all(parameter.requires_grad for parameter in net.parameters())
    x = np.random.default_rng(0).standard_normal((1, 3 * 16000)).astype(np.float32)
    expected = VGGish.load(state).embed(x).mean(axis=0)
    with torch.no_grad():
        assert np.allclose(net.controller.embed(patches_of(x, 16000)[None])[0], expected, atol=1e-5)
    with pytest.raises(ParameterError, match="the encoder is small"):
        dmc.start_from_vggish(console(), state, "vggish.pt")


def test_a_full_model_begins_where_a_basic_one_ended(stems):
    basic, full = console(), console("full", seed=1)
    dmc.start_from_basic(full, basic.state_dict(), "basic")
    songs = batch(stems)
    known, units = units_of(basic, songs), units_of(full, songs)
    assert full.strip.labels()[-2:] == ["gain2.gain_db", "pan.pan"]
    assert torch.allclose(units[..., -2:], known, atol=1e-6)
    with pytest.raises(ParameterError, match="basic: controller.* give a model with the encoder small, 32 wide"):
        dmc.start_from_basic(full, MixingConsole(Spec(width=8), RATE).state_dict(), "basic")


def test_patches_are_of_the_channels_mean_and_at_least_one():
    x = np.random.default_rng(0).standard_normal((2, 5 * RATE)).astype(np.float32)
    assert patches_of(x, RATE).shape == (5, 96, 64)
    assert torch.allclose(patches_of(x, RATE), patches_of(x.mean(axis=0, keepdims=True), RATE))
    assert patches_of(x[:, :100], RATE).shape == (1, 96, 64)
    assert patches_of(x[:, :0], RATE).shape == (1, 96, 64)


def test_the_loss_is_the_papers(stems, target):
    songs = batch(stems, target=target)
    with torch.no_grad():
        mixes = console()(songs)
        found = float(stereo_distance(mixes, songs.target))
        assert found == pytest.approx(float(sum_difference_mr_stft(mixes[0].numpy(), target)), rel=1e-4)
        assert float(stereo_distance(mixes, songs.target, 4)) == pytest.approx(found, rel=0.02)
        two = stereo_distance(torch.cat([mixes, mixes * 0.5]), torch.cat([songs.target] * 2))
        half = stereo_distance(mixes * 0.5, songs.target)
        assert float(two) == pytest.approx((found + float(half)) / 2, rel=1e-5)
        swapped = stereo_distance(mixes.flip(1), songs.target)
        assert float(swapped) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("n", [1, 200, 700, 3001])
def test_the_losss_slope_is_that_of_its_value(n, stride):
    torch.manual_seed(0)
    mixes = torch.randn(2, 2, n, dtype=torch.float64)
    mixes[1, 1] = mixes[1, 0]
    targets = torch.randn(2, 2, n, dtype=torch.float64)
    if n > 1:
        mixes[1] += 0.01 * targets[1]
    mixes.requires_grad_()
    stereo_distance(mixes, targets, stride).backward()
    way = torch.randn_like(mixes)
    step = 1e-7
    with torch.no_grad():
        values = [stereo_distance(mixes + sign * step * way, targets, stride) for sign in (1, -1)]
    slope = float(values[0] - values[1]) / (2 * step)
    assert float((mixes.grad * way).sum()) == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_the_loss_of_the_target_itself_and_of_silence_has_finite_slopes():
    target = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0))
    for mix in (target.clone(), torch.zeros_like(target)):
        mix.requires_grad_()
        stereo_distance(mix, target).backward()
        assert torch.isfinite(mix.grad).all()
    silent = torch.zeros_like(target)
    mix = target.clone().requires_grad_()
    stereo_distance(mix, silent).backward()
    assert torch.isfinite(mix.grad).all()


def test_a_mono_target_does_not_drown_the_others():
    rng = np.random.default_rng(3)
    mono = torch.from_numpy(np.repeat(rng.standard_normal((1, 1, 8000)), 2, axis=1) * 0.1).float()
    wide = torch.from_numpy(rng.standard_normal((1, 2, 8000)) * 0.1).float()
    assert float(stereo_distance(mono, mono)) == pytest.approx(0.0, abs=1e-6)
    assert 1.0 < float(stereo_distance(wide, mono)) < 60.0
    nearer, further = (float(stereo_distance(mono + level * wide, mono)) for level in (0.01, 0.1))
    assert nearer < further


def test_mixes_are_brought_to_the_targets_loudness(target):
    x = torch.from_numpy(target)[None]
    noise = 0.01 * torch.randn(1, 2, x.shape[-1], generator=torch.Generator().manual_seed(0))
    found = balanced_loudness(noise, RATE, x)
    ungated = []
    for audio in (found, x):
        meter = LoudnessMeter(RATE, 2)
        meter.add(audio[0].numpy())
        ungated.append(meter.integrated_lufs_after(0.0))
    assert ungated[0] == pytest.approx(ungated[1], abs=1.0)
    assert torch.allclose(balanced_loudness(3.0 * x, RATE, x), x, rtol=1e-4, atol=1e-7)
    assert torch.isfinite(balanced_loudness(torch.zeros_like(x), RATE, x)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_families_mix(family, song, stems):
    mix = mixed_by(FAMILIES[family], stems, song.roles, RATE, 5)
    assert mix == mixed_by(FAMILIES[family], dict(reversed(stems.items())), song.roles, RATE, 5)
    assert mix != mixed_by(FAMILIES[family], stems, song.roles, RATE, 6)
    heard = render(mix, stems, RATE)
    assert np.isfinite(heard).all() and np.abs(heard).max() > 0.01
    dry = mixed_by(FAMILIES[family], stems, song.roles, RATE, 5, families.DRY)
    assert {insert.effect for track in dry.tracks for insert in track.chain} == {"gain", "pan"}
    assert mixed_by(FAMILIES[family], stems, {}, RATE, 5).tracks


def test_every_family_mixes_a_song_in_its_own_way(song, stems):
    """Otherwise holding some out would prove nothing."""

    def mixed(family):
        return render(mixed_by(FAMILIES[family], stems, song.roles, RATE, 1, families.DRY), stems, RATE)

    mixes = {family: mixed(family) for family in FAMILIES}
    for one in HELD_OUT:
        for other in TRAINED:
            assert distance_to(mixes[one], mixes[other], RATE) > 0.25, (one, other)
    assert set(HELD_OUT) | set(TRAINED) == set(FAMILIES) and not set(HELD_OUT) & set(TRAINED)


def test_lessons_follow_from_their_number():
    corpus = open_corpus("synth:5")
    made = [Lessons(corpus, DATA, 3, kept)[1] for kept in (0, 1 << 30)]
    assert torch.equal(made[0].target, made[1].target) and torch.equal(made[0].patches, made[1].patches)
    kept = Lessons(corpus, DATA, 3)
    assert kept[1] is kept[1]
    assert 1 <= len(kept[1].stems) <= DATA.most_stems
    meter = LoudnessMeter(RATE, 2)
    meter.add(kept[1].target.numpy())
    assert meter.integrated_lufs == pytest.approx(-16.0, abs=0.01)
    with pytest.raises(IndexError):
        kept[3]
    with pytest.raises(ParameterError, match="families holds lrc"):
        Data(families=("lrc",))


def test_songs_with_a_mix_are_learned_from_theirs(tmp_path, song, stems, target):
    folder = tmp_path / "corpus" / "song"
    (folder / "stems").mkdir(parents=True)
    for name, audio in stems.items():
        write_audio(folder / "stems" / name, audio, RATE)
    write_audio(folder / "mix.wav", target, RATE)
    lessons = Lessons(open_corpus(tmp_path / "corpus"), Data(4.0, RATE), 1)
    assert distance_to(lessons[0].target.numpy(), target, RATE) < 0.05


def test_a_training_is_resumed_as_if_it_had_not_ended(tmp_path):
    corpus = open_corpus("synth:5")
    lessons, held_out = Lessons(corpus, DATA, 4), Lessons(corpus, DATA, 1)
    spec = Spec(width=16)

    def run(folder, steps, resume=False):
        config = Training(steps, rate=1e-3, validate_every=2, save_every=2)
        net = new_console(spec, RATE)
        train_mixer(net, lessons, held_out, config, TrainingFolder(tmp_path / folder, resume), batch=2)
        return read_checkpoint(tmp_path / folder, "last")

    whole, record = run("whole", 4)
    run("broken", 2)
    again, _ = run("broken", 4, resume=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert record["about"]["data"]["families"] == list(TRAINED)
    weights, record = read_checkpoint(tmp_path / "whole", "best")
    assert Model.load(weights, record["about"], "best").net.spec == spec
    load_weights(MixingConsole(spec, RATE), weights, "best")
    with open(tmp_path / "whole" / "log.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    with pytest.raises(ParameterError, match="levels"):
        net = new_console(Spec(levels="raw"), RATE)
        train_mixer(net, lessons, held_out, Training(1), TrainingFolder(tmp_path / "other"), batch=2)


def test_it_learns_a_balance(stems, song):
    """Given the same song again and again, it comes much nearer than random mixes, and ends better than it began."""
    torch.manual_seed(0)
    mix = mixed_by(FAMILIES["balanced"], stems, song.roles, RATE, 1, families.DRY)
    wanted = at_loudness(render(mix, stems, RATE, end=4 * RATE), RATE)
    songs = collated([lesson(stems, wanted, Data(4.0, RATE))])
    net = MixingConsole(Spec(width=64, dropout=0.0), RATE)
    loss = loss_of(RATE, "told")
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    first = None
    for _ in range(40):
        optimiser.zero_grad()
        value = loss(net, songs)
        value.backward()
        optimiser.step()
        first = first or float(value.detach())
    assert float(value.detach()) < 0.6 * first
    model = Model(net)

    def mixer(given, rate):
        return model.mix({name: ArrayRecording(audio) for name, audio in given.items()}, rate, [(0, 4 * rate)])

    found = nearness(mixer, [(stems, wanted)], RATE)
    assert found.ratio < 0.6
    assert nearness(lambda given, rate: wanted, [(stems, wanted)], RATE).distance == pytest.approx(0.0, abs=1e-6)


def test_the_papers_schedule():
    basic, full = papers_training("basic", 1000), papers_training("full", 1000)
    assert (basic.rate, basic.rate_factor, basic.rate_patience, basic.stop_patience) == (3e-4, 0.5, 200, 500)
    assert (basic.validate_every, full.validate_every) == (6, 50)


@pytest.mark.parametrize("n", [1, 100, 4096, 10007])
@pytest.mark.parametrize("features", [None, 5])
def test_a_wave_u_net_gives_as_much_as_it_takes(n, features):
    torch.manual_seed(0)
    net = WaveUNet(3, 2, channels=2, features=features)
    condition = None if features is None else torch.randn(2, features)
    x = torch.randn(2, 3, n)
    y = net(x, condition)
    assert y.shape == (2, 2, n)
    assert torch.isfinite(y).all()
    if condition is not None and n > 1:
        assert not torch.equal(y, net(x, condition + 1.0))


def test_the_direct_mixer_has_the_size_of_the_papers_and_a_fixed_number_of_inputs(stems):
    with torch.device("meta"):
        assert sum(p.numel() for p in DirectMixer().parameters()) == pytest.approx(83e6, rel=0.02)
        thesis = sum(p.numel() for p in WaveUNet(features=6).parameters())
        with_lstm = sum(p.numel() for p in WaveUNet(lstm=True).parameters())
    assert thesis < with_lstm
    net = DirectMixer(8, channels=2)
    songs = batch(stems)
    assert net(songs).shape == (1, 2, 4 * RATE)
    with pytest.raises(ParameterError, match="a song has 8 stems; give at most 4"):
        DirectMixer(4, channels=2)(songs)
    loss_of(RATE, "told")(net, songs._replace(target=torch.randn(1, 2, 4 * RATE))).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_the_direct_mixer_is_trained_and_measured_as_the_console_is(tmp_path, stems, target):
    data = Data(1.0, RATE, most_stems=8, levels="same")
    lessons = Lessons(open_corpus("synth:5"), data, 2)
    config = Training(2, validate_every=1, save_every=1)
    net = DirectMixer(8, channels=2)
    train_mixer(net, lessons, lessons, config, TrainingFolder(tmp_path / "run"), batch=2)
    assert read_checkpoint(tmp_path / "run", "best")[1]["about"]["network"]["kind"] == "direct"
    found = nearness(lambda given, rate: sound_of(net, given, data), [(stems, target)], RATE)
    assert math.isfinite(found.ratio)
    console_sound = sound_of(console(), stems, data)
    assert console_sound.shape == target.shape


@pytest.mark.audio
@pytest.mark.skipif(not (AUDIO / "multitrack").is_dir(), reason="needs MIXTOOLS_AUDIO")
@pytest.mark.parametrize("kind", ["basic", "full"])
def test_real_songs_are_learned_from_and_mixed(kind):
    data = Data(5.0, 44100, most_stems=8)
    lessons = Lessons(open_corpus(AUDIO / "multitrack"), data, 2)
    torch.manual_seed(0)
    net = MixingConsole(Spec(kind=kind, width=32), 44100)
    loss_of(44100, "told")(net, collated([lessons[0], lessons[1]])).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    model = Model(net)
    for number in range(2):
        stems, target = lessons.example(number)
        frames = target.shape[1]
        recordings = {name: ArrayRecording(audio) for name, audio in stems.items()}
        mix = model.mix(recordings, 44100, [(0, frames)], even=False)
        assert error_db(render(mix, stems, 44100, end=frames), sound_of(net, stems, data)) < -60
        assert distance_to(target, target, 44100) == 0.0
