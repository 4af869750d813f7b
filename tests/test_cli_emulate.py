"""`mixtools emulate` and `mixtools train emulate`: from recordings to a model to audio, as a user meets them."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import soundfile
import torch
from cli_helpers import RATE, assert_unchanged, done, noise, read, refused, run, snapshot, write
from conftest import error_db
from test_emulate import console_model

from mixtools.files.checkpoints import read_checkpoint
from mixtools.files.models import bundled, open_model
from mixtools.files.weights import packed
from mixtools.tasks.emulate.export import KEY, meaning
from mixtools.tasks.emulate.model import Model

SETTINGS = {"compressor": {"ratio": 4.0, "threshold_db": -30.0}, "convolution": {"wet": 0.4, "ir": "plate"}}
SET = [
    word
    for name, value in {"compressor.ratio": 4, "compressor.threshold_db": -30, "convolution.wet": 0.4}.items()
    for word in ("--set", f"{name}={value}")
] + ["--set", "convolution.ir=plate"]


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: console_model(kind) for kind in ("strip", "tcn-10", "wave-u-net-16")}


@pytest.fixture
def place(tmp_path, monkeypatch, models):
    """A folder with two models, three recordings, controls, and recordings of a device that doubles and clips."""
    monkeypatch.chdir(tmp_path)
    for kind in ("strip", "tcn-10"):
        model = models[kind]
        about = {"task": "emulate", "network": model.spec.plain(), **model.about}
        (tmp_path / f"{kind}.safetensors").write_bytes(packed(model.net.state_dict(), about))
    write("in/mono.wav", noise(30000, 1, seed=1))
    write("in/stereo.flac", noise(20000, 2, seed=2), bits="24")
    write("other.wav", noise(12345, 1, seed=3), 48000)
    (tmp_path / "controls.yaml").write_text("compressor:\n  ratio: 4\n  threshold_db: -30\nconvolution.ir: plate\n")
    for k, gain in enumerate((0.2, 0.4, 0.8)):
        x = noise(30000, 1, seed=10 + k)
        write(f"pairs/{k}_input.wav", x)
        write(f"pairs/{k}_target.wav", np.tanh(gain * 4.0 * x))
    return tmp_path


def emulated(*arguments, **more):
    return done(*arguments, of="emulate", **more)


def test_a_file_goes_through_at_its_settings(place, models):
    emulated("in/mono.wav", "-m", "strip.safetensors", *SET, "-o", "out.wav", new=("out.wav",))
    x = read("in/mono.wav")
    model = models["strip"]
    expected = model.whole(x, model.units(SETTINGS)[None])[0]
    assert error_db(read("out.wav"), expected) < -100
    emulated("in/mono.wav", "-m", "tcn-10.safetensors", *SET, "-o", "tcn.wav", new=("tcn.wav",))
    model = models["tcn-10"]
    assert error_db(read("tcn.wav"), model.whole(x, model.units(SETTINGS)[None])[0]) < -100


def test_set_goes_over_the_file_of_controls(place):
    one = "in/mono.wav", "-m", "strip.safetensors"
    emulated(*one, *SET, "-o", "a.wav", new=("a.wav",))
    emulated(*one, "-p", "controls.yaml", "--set", "convolution.wet=0.4", "-o", "b.wav", new=("b.wav",))
    emulated(*one, "-p", "-", "-o", "c.wav", new=("c.wav",), stdin=b"compressor: {ratio: 2}")
    assert np.array_equal(read("a.wav"), read("b.wav"))
    assert not np.array_equal(read("a.wav"), read("c.wav"))


def test_files_keep_their_length_rate_and_channels(place):
    result = emulated("in", "other.wav", "-m", "strip.safetensors", "-o", "out", new=tuple(
        f"out/{name}" for name in ("mono.wav", "stereo.flac", "other.wav")), )  # fmt: skip
    assert result.err.count("in T s") == 3
    for name, frames, rate, channels in (
        ("mono.wav", 30000, RATE, 2),
        ("stereo.flac", 20000, RATE, 2),
        ("other.wav", 12345, 48000, 2),
    ):
        found = soundfile.info(f"out/{name}")
        assert (found.frames, found.samplerate, found.channels) == (frames, rate, channels)


def test_pipes_and_machines(place):
    given = (place / "in/mono.wav").read_bytes()
    result = emulated("-", "-m", "strip.safetensors", "-o", "-", stdin=given, new=())
    assert soundfile.read(io.BytesIO(result.out))[0].shape == (30000, 2)
    told = json.loads(emulated("in/mono.wav", "-m", "strip.safetensors", "-o", "o.wav", "--json", new=("o.wav",)).out)
    assert (told["output"], told["channels"], told["bits"]) == ("o.wav", 2, "32f")
    plan = emulated("in/mono.wav", "-m", "strip.safetensors", "-o", "p.wav", "--dry-run", new=()).out.decode()
    assert plan == "would write p.wav: 0:00.7 at 44100 Hz, 2 channels\n"


def test_what_can_be_set_is_listed(place):
    shown = emulated("--list", "-m", "strip.safetensors", new=()).out.decode()
    assert "compressor.attack_ms" in shown and "0.03 to 30" in shown
    told = json.loads(emulated("--list", "-m", "strip.safetensors", "--json", new=()).out)
    by_name = {control["name"]: control for control in told["controls"]}
    assert by_name["compressor.ratio"]["low"] == 1.0 and "plate" in by_name["convolution.ir"]["choices"]
    assert {row["model"] for row in json.loads(emulated("--list", "--json", new=()).out)} == set(bundled("emulate"))


@pytest.mark.parametrize(
    "line, arguments",
    [
        ("FILES is missing; give audio files, or one of --evaluate, --list, --export", []),
        ("-o is missing; give the name of a file or a folder, or - for stdout", ["in/mono.wav"]),
        ("--list puts no audio through the model, but FILES is given; give one of them", ["in/mono.wav", "--list"]),
        ("--evaluate and --list are two things to do; give one", ["--evaluate", "in", "--list"]),
        ("--csv is for --evaluate, without --json; give --json alone for what was done", ["--list", "--csv"]),
        ("- is there twice; stdin can be read once", ["-", "-p", "-", "-o", "x.wav"]),
    ],
)
def test_contradictions_are_refused(line, arguments, place):
    refused(line, *arguments, of="emulate")


@pytest.mark.parametrize(
    "line, arguments",
    [
        ("--set: compresor.ratio is not known; give compressor.ratio", ["--set", "compresor.ratio=4"]),
        ("--set: compressor.ratio is 40; give 1 to 10", ["--set", "compressor.ratio=40"]),
        ("--set: compressor.ratio is nan; give 1 to 10", ["--set", "compressor.ratio=nan"]),
        ("--set: compressor.ratio is much; give 1 to 10", ["--set", "compressor.ratio=much"]),
        (
            "--set: convolution.ir is cave; give one of small_room, medium_room, large_room, hall, plate",
            ["--set", "convolution.ir=cave"],
        ),
        (
            "--set is compressor.ratio; give a control and its value, as in compressor.ratio=4",
            ["--set", "compressor.ratio"],
        ),
        ("no.yaml is not there; give a file of controls", ["-p", "no.yaml"]),
        ("-: precision is bfloat16; give float32: only TCNs have another", ["--precision", "bfloat16"]),
    ],
)
def test_settings_that_were_not_trained_are_refused(line, arguments, place):
    line = line.removeprefix("-: ")
    refused(line, "in/mono.wav", "-m", "strip.safetensors", "-o", "x.wav", *arguments, of="emulate")


def test_bad_files_of_controls_are_refused(place):
    for text, words in (
        ("- 1", "bad.yaml is a list; give a mapping of controls"),
        ("compressor: {ratio: [1, 2]}", "bad.yaml: compressor.ratio is a list; give 1 to 10"),
        ("compressor: {speed: 1}", "bad.yaml: compressor.speed is not known; give "),
        ("1: 2", "bad.yaml: 1 is no name"),
    ):
        (place / "bad.yaml").write_text(text)
        before = snapshot()
        result = run("emulate", "in/mono.wav", "-m", "strip.safetensors", "-p", "bad.yaml", "-o", "x.wav")
        assert result.code == 2 and words in result.err, result.err
        assert_unchanged(before)


def test_models_of_another_kind_are_refused(place):
    (place / "cut.safetensors").write_bytes((place / "strip.safetensors").read_bytes()[:1000])
    tensors, about = open_model("strip.safetensors", "emulate")
    (place / "mix.safetensors").write_bytes(packed(tensors, {**about, "task": "mix"}))
    (place / "less.safetensors").write_bytes(packed(dict(list(tensors.items())[1:]), about))
    for name, words in (
        ("cut.safetensors", "cut.safetensors"),
        ("mix.safetensors", "is a model for mix; give one that `mixtools train emulate` wrote"),
        ("less.safetensors", "less.safetensors: "),
        ("nothing", "neither a file nor a model that comes with mixtools"),
        ("in/mono.wav", "in/mono.wav"),
    ):
        before = snapshot()
        result = run("emulate", "in/mono.wav", "-m", name, "-o", "x.wav")
        assert result.code == 2 and words in result.err, result.err
        assert result.err.count("\n") == 1
        assert_unchanged(before)


def test_how_near_a_model_comes(place):
    told = emulated("--evaluate", "in/mono.wav", "-m", "strip.safetensors", "--settings", "2", "--json", new=())
    table = json.loads(told.out)
    assert list(table) == ["equaliser", "compressor", "reverb", "combined"]
    assert all(list(row) == ["mae", "esr", "mcd", "mr_stft"] for row in table.values())
    csv = emulated("--evaluate", "in", "-m", "strip.safetensors", "--settings", "1", "--csv", new=()).out.decode()
    assert csv.splitlines()[0] == "task,mae,esr,mcd,mr_stft"


@pytest.mark.parametrize("kind", ["strip", "tcn-10", "wave-u-net-16"])
def test_torchscript_gives_the_same_samples(kind, place, models):
    model = models[kind]
    about = {"task": "emulate", "network": model.spec.plain(), **model.about}
    (place / "m.safetensors").write_bytes(packed(model.net.state_dict(), about))
    emulated("-m", "m.safetensors", "--export", "m.pt", new=("m.pt",))
    extra = {f"{KEY}.json": ""}
    script = torch.jit.load("m.pt", _extra_files=extra)
    assert json.loads(extra[f"{KEY}.json"]) == meaning(model)
    units = model.units(SETTINGS)
    for frames in (70000, 20001):
        x = noise(frames, 1, seed=4)
        found = script(torch.from_numpy(x)[None], torch.from_numpy(units).float()[None])[0].numpy()
        assert error_db(found, model.whole(x, units[None])[0]) < -90


@pytest.mark.parametrize("kind", ["strip"])
def test_onnx_gives_the_same_samples(kind, place, models):
    runtime = pytest.importorskip("onnxruntime")
    emulated("-m", f"{kind}.safetensors", "--export", "m.onnx", new=("m.onnx",))
    session = runtime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    model = models[kind]
    assert json.loads(session.get_modelmeta().custom_metadata_map[KEY]) == meaning(model)
    units = model.units(SETTINGS)
    for frames in (70000, 20001):
        x = noise(frames, 1, seed=4)
        found = session.run(None, {"audio": x[None], "controls": units[None].astype(np.float32)})[0][0]
        assert error_db(found, model.whole(x, units[None])[0]) < -80


def test_a_console_model_is_trained_and_resumed(place):
    small = ("--network", "tcn-10", "--batch", "1", "--held-out", "1", "--seconds", "0.4", "--threads", "1", "-q")
    sounds = ("in/mono.wav", "--validation", "in/stereo.flac")
    for more in (["--steps", "1"], ["--steps", "2", "--resume"]):
        result = run("train", "emulate", "console", *sounds, "-o", "a", *small, *more)
        assert result.code == 0, result.err
    result = run("train", "emulate", "console", *sounds, "-o", "b", "--steps", "2", *small, "--json")
    assert result.code == 0 and json.loads(result.out)["steps"] == 2
    ends = [read_checkpoint(folder, "last")[0] for folder in "ab"]
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    emulated("in/mono.wav", "-m", "a", "-o", "x.wav", new=("x.wav",))
    result = run("train", "emulate", "console", *sounds, "-o", "c", *small, "--network", "tcn-20", "--weights", "a")
    assert (result.code, "a has another kind; give a model of this network" in result.err) == (2, True)
    assert not os.path.exists("c")


def test_a_device_model_is_trained_and_measured(place):
    learn = ("train", "emulate", "device", "pairs", "-o", "d", "--steps", "2", "--batch", "2", "--held-out", "2")
    result = run(*learn, "--seconds", "0.3", "--threads", "1", "-v")
    assert result.code == 0, result.err
    assert "0 samples late" in result.err and "split by time" in result.err
    told = json.loads(emulated("--evaluate", "pairs", "-m", "d", "--json", new=()).out)
    assert list(told) == ["model", "unchanged", "static filter"]
    assert told["static filter"]["pooled_esr"] < told["unchanged"]["pooled_esr"]
    assert {"mae", "esr_deviation", "pieces"} <= set(told["model"])
    emulated("in/stereo.flac", "-m", "d", "-o", "x.wav", new=("x.wav",))
    assert read("x.wav").shape == (2, 20000)
    for arguments, words in (
        (("pairs", "--split", "settings"), "give at least 3 to keep some apart"),
        (("in",), "holds no songs and no recordings of a device"),
        (("pairs", "--seconds", "900"), "--seconds is 900; give 0.1 to 600"),
        (("pairs", "--seconds", "10"), "no part to learn from is 10 s long"),
    ):
        result = run("train", "emulate", "device", *arguments, "-o", "e", "-q")
        assert result.code == 2 and words in result.err, result.err


def test_words_of_options_are_those_of_the_library():
    """The command line says them without importing torch."""
    from mixtools.cli import emulate, emulators, train_emulate_console, train_emulate_device
    from mixtools.nets.emulator import KINDS
    from mixtools.nets.inference import PRECISIONS
    from mixtools.tasks.emulate.console import PROCESSORS
    from mixtools.tasks.train.devices import SPLITS
    from mixtools.tasks.train.emulate import BATCH, LOSSES

    assert (tuple(KINDS), tuple(LOSSES), BATCH) == (emulators.NETWORKS, emulators.LOSSES, emulators.BATCH)
    assert tuple(PRECISIONS) == emulate.PRECISIONS
    assert tuple(PROCESSORS) == train_emulate_console.PROCESSORS
    assert tuple(SPLITS) == train_emulate_device.SPLITS
