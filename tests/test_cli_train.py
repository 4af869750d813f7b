"""`mixtools train mix` and `mixtools mix --model`: from a folder of songs to a mix, as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from cli_helpers import RATE, assert_unchanged, noise, python, read, run, snapshot, song, write
from safetensors import safe_open
from safetensors.numpy import save_file

from mixtools import levels, synth_song
from mixtools.cli import manpage, training
from mixtools.cli.main import app
from mixtools.files.checkpoints import read_checkpoint
from mixtools.files.mixfile import read_mix
from mixtools.files.models import bundled, open_model
from mixtools.files.weights import ABOUT, read_model
from mixtools.tasks.automix.model import Model

SMALL = ("--batch", "2", "--seconds", "2", "--excerpts", "4", "--held-out", "1", "--width", "16", "--rate", "16000")
HEARD = 16000
FOUR = "4"


def learn(*arguments: str | Path, steps: str = FOUR, corpus: str | Path = "songs"):
    """A tiny training."""
    return run("train", "mix", corpus, "--steps", steps, "--threads", "1", *SMALL, *arguments)


def refused_training(line: str, *arguments: str | Path, corpus: str | Path = "songs") -> None:
    """A training that has to end in this one line, and leave everything as it was."""
    before = snapshot()
    result = learn("-q", *arguments, corpus=corpus)
    assert (result.code, result.out, result.err) == (2, b"", f"mixtools: {line}\n")
    assert_unchanged(before)


def mixed(*arguments: str | Path, stems: str = "stems"):
    """A mix that has to work."""
    result = run("mix", stems, *arguments)
    assert result.code == 0, result.err
    return result


def loudest(stems: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    names = sorted(stems, key=lambda name: -float(np.mean(stems[name] ** 2)))[:number]
    return {name: stems[name] for name in names}


def songs(folder: Path, number: int = 4, seconds: float = 3.0, mixed: bool = True) -> None:
    """Songs of three stems, each by an artist of its own."""
    for k in range(number):
        made = loudest(synth_song(40 + k, seconds, HEARD, 8).stems, 3)
        home = folder / f"Artist {k} - Song"
        for name, samples in made.items():
            write(home / "stems" / name, samples, HEARD)
        if mixed:
            sides = np.array([[0.2, 0.5], [0.4, 0.4], [0.5, 0.2]])
            mix = sum(side[:, None] * x for side, x in zip(sides, made.values(), strict=True))
            write(home / "mix.wav", mix.astype(np.float32), HEARD)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of songs, a folder of stems, and `whole`, a training of four steps."""
    folder = tmp_path_factory.mktemp("train")
    songs(folder / "songs")
    for name, samples in synth_song(11, 5.0, RATE, 8).stems.items():
        write(folder / "stems" / name, samples)
    before = os.getcwd()
    os.chdir(folder)
    try:
        result = learn("-o", "whole", "--json")
    finally:
        os.chdir(before)
    assert result.code == 0, result.err
    (folder / "told.json").write_bytes(result.out)
    (folder / "told.txt").write_text(result.err)
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(request, tmp_path, monkeypatch):
    if "place" in request.fixturenames:
        found = request.getfixturevalue("place")
        shutil.copytree(found, tmp_path, dirs_exist_ok=True, copy_function=os.link)
    monkeypatch.chdir(tmp_path)


def heard(path):
    return levels(read(path), soundfile.info(path).samplerate)


def test_a_training_leaves_its_folder_and_a_model(place):
    told = Path("told.txt").read_text().splitlines()
    assert told[0] == (
        "mixtools: songs: 3 songs to learn from, 1 song to validate on; dmc-basic with 0.6 million parameters"
    )
    assert told[1].startswith("mixtools: step 1 of 4: loss ") and told[1].endswith(" left")
    assert told[2].startswith("mixtools: step 4 of 4: loss ") and "lowest validation" in told[2]
    assert told[3].startswith("mixtools: whole/model.safetensors: the weights of step 4, validation ")
    assert told[3].endswith("; 4 steps in T s") and len(told) == 4
    facts = json.loads(Path("told.json").read_text())
    assert (facts["steps"], facts["new_steps"], facts["best_step"], facts["skipped"]) == (4, 4, 4, [])
    with open("whole/log.csv", encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    tensors, about = read_model("whole/model.safetensors")
    assert about["figures"] == {"step": 4, "validation": facts["validation"]}
    assert (about["task"], about["kind"], about["corpus"]) == ("mix", "dmc-basic", "songs")
    best, record = read_checkpoint("whole", "best")
    assert all(np.array_equal(tensors[name], best[name]) for name in best) and tensors.keys() == best.keys()
    assert about["network"] == record["about"]["network"]


def test_a_resumed_training_comes_to_the_same_weights(place):
    assert learn("-o", "broken", steps="2").code == 0
    result = learn("-o", "broken", "--resume")
    assert result.code == 0 and "; 2 steps in T s" in result.err
    for folder in ("whole", "broken"):
        Path(f"{folder}.sum").write_text(read_checkpoint(folder, "last")[1]["sha256"])
    assert Path("whole.sum").read_text() == Path("broken.sum").read_text()


def test_an_interrupt_says_how_to_go_on(place, monkeypatch):
    plain = training.line_of

    def interrupting(now):
        os.kill(os.getpid(), signal.SIGINT)
        return plain(now)

    monkeypatch.setattr(training, "line_of", interrupting)
    result = learn("-o", "broken")
    assert result.code == 130
    last = result.err.splitlines()[-1]
    assert last == (
        "mixtools: interrupted; broken keeps step 2 of 4, to be resumed from; the same command with --resume goes on"
    )
    assert not Path("broken/model.safetensors").exists()
    monkeypatch.setattr(training, "line_of", plain)
    assert learn("-o", "broken", "--resume").code == 0
    assert Path("broken/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_a_finished_training_says_so_and_can_be_exported(place):
    before = snapshot("whole")
    result = learn("-o", "whole", "--resume", "--export", "mine.safetensors")
    assert result.code == 0
    assert "mixtools: whole is finished: 4 steps are done; give more --steps, or another folder\n" in result.err
    assert Path("mine.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert snapshot("whole") == before


def test_a_training_is_not_overwritten(place):
    refused_training("whole holds a training; give --resume to go on with it, or another folder", "-o", "whole")
    result = learn("-o", "whole", "--resume", "--learning-rate", "0.1")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "mixtools: whole: last: training.rate is 0.0003 there and 0.1 here; give what it was trained with, or another "
        "folder",
    )


def test_where_it_may_write(place):
    Path("there.safetensors").touch()
    line = "there.safetensors exists; give --force to overwrite it, or another name"
    refused_training(line, "-o", "new", "--export", "there.safetensors")
    line = "--export is m.pt; give a name that ends in .safetensors"
    refused_training(line, "-o", "new", "--export", "m.pt")
    refused_training("stems/kick.wav is a file; give a folder", "-o", "stems/kick.wav")
    refused_training("no/run: no does not exist; create it first", "-o", "no/run")


def test_a_full_disk_is_one_line(place, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = learn("-o", "new")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("mixtools: new/") and "No space left" in result.err
    assert not list(Path("new").glob("*.safetensors"))


@pytest.mark.parametrize("target", ["-16", "-23"])
def test_a_model_mixes_at_a_loudness(place, target):
    model = ("--model", "whole/model.safetensors")
    result = mixed(*model, "--target-lufs", target, "--write-mix", "m.yaml", "-v")
    assert result.err.startswith("mixtools: mixed by whole/model.safetensors: 8 stems, -v says what was done and why\n")
    assert "dmc-basic with the encoder small, trained at 16000 Hz" in result.err
    assert "mixtools: kick.wav: gain: gain_db " in result.err
    found = heard("mix.wav")
    assert found.integrated_lufs == pytest.approx(float(target), abs=0.5) and found.true_peak_dbtp <= -1.0
    assert "mixed_by: model model.safetensors" in Path("m.yaml").read_text()
    assert {track.file for track in read_mix("m.yaml").tracks} == {path.name for path in Path("stems").iterdir()}
    mixed("-p", "m.yaml", "-o", "again.wav")
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes()


def test_the_order_of_stems_and_the_number_of_threads_change_nothing(place):
    names = sorted(map(str, Path("stems").iterdir()))
    assert run("mix", *names, "-q", "--model", "whole/model.safetensors", "-o", "a.wav").code == 0
    assert run("mix", *names[::-1], "-q", "--model", "whole", "-o", "b.wav", "--threads", "1").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes(), "from the folder, too"


def test_a_model_is_not_written_over(place):
    before = snapshot()
    model = "whole/model.safetensors"
    result = run("mix", "stems", "-q", "--model", model, "--write-mix", model, "--force")
    line = f"mixtools: {model} is an input of this run; give another name for the output\n"
    assert (result.code, result.err) == (2, line)
    assert_unchanged(before)


def test_a_full_model_begins_with_a_basic_one(place):
    begin = ("--weights", "whole/model.safetensors")
    result = learn("-o", "full", "--kind", "dmc-full", *begin, steps="1")
    assert result.code == 0, result.err
    facts = json.loads(mixed("--model", "full", "--write-mix", "f.yaml", "--json").out)
    assert facts["integrated_lufs"] == pytest.approx(-16.0, abs=0.5)
    effects = [insert.effect for insert in read_mix("f.yaml").tracks[0].chain]
    assert {"gain", "parametric_eq", "compressor", "convolution", "pan"} <= set(effects)
    line = "whole/model.safetensors is a model; only dmc-full begins with one, a dmc-basic; give VGGish's weights"
    refused_training(line, "-o", "new", *begin)


def test_weights_to_begin_with(place):
    save_file({"features.0.weight": np.zeros((2, 2), np.float32)}, "v.safetensors")
    line = "v.safetensors: the encoder is small; give the encoder vggish to begin with VGGish"
    refused_training(line, "-o", "new", "--weights", "v.safetensors")
    line = "none.pth does not exist; give a safetensors file or a PyTorch checkpoint of tensors by name"
    refused_training(line, "-o", "new", "--weights", "none.pth")


def test_silent_stems_and_one_stem(place):
    write("stems/rest.wav", np.zeros((1, RATE), np.float32))
    mixed("--model", "whole")
    assert heard("mix.wav").integrated_lufs == pytest.approx(-16.0, abs=0.5)
    mixed("--model", "whole", "-o", "rest.wav", stems="stems/rest.wav")
    assert not read("rest.wav").any()
    write("low.wav", noise(24000, 1), 8000)
    mixed("--model", "whole", "-o", "one.wav", stems="low.wav")
    assert heard("one.wav").integrated_lufs == pytest.approx(-16.0, abs=0.5)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("--model is for mixes without a mix file; give it, or -p", ("-p", "m.yaml")),
        ("--baseline and --model both say how to mix; give one", ("--baseline", "mono")),
        ("--expert and --model both say how to mix; give one", ("--expert",)),
        ("--split-stereo is for --baseline sum; a model treats a stereo stem as one", ("--split-stereo",)),
    ],
)
def test_what_makes_no_sense_with_a_model_is_refused(line, arguments):
    song()
    result = run("mix", "stems", "-q", "--model", "m.safetensors", *arguments)
    assert (result.code, result.err) == (2, f"mixtools: {line}\n")


def header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


GIVE = "give a model that `mixtools train` wrote"
UNSAID = f"m.safetensors holds weights, and does not say what of; {GIVE}"
NO_JSON = f"m.safetensors is damaged, its header is no JSON; {GIVE}"
ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, f"m.safetensors does not exist; {GIVE}"),
        (b"", f"m.safetensors is no model; {GIVE}"),
        (b"\x80\x02hello", f"m.safetensors is no model; {GIVE}"),
        (b"RIFF1234{WAVE", "m.safetensors: its header is 3761405300998293842 bytes"),
        (header(b"{nonsense"), NO_JSON),
        (header(b"{" * 100000), NO_JSON),
        (header(b"{}"), UNSAID),
        (header(b'{"__metadata__":7}'), UNSAID),
        (header(b'{"__metadata__":{"mixtools":"["}}'), NO_JSON),
        (
            header(b'{"__metadata__":{"mixtools":"[]"}}'),
            f"m.safetensors holds weights, and does not say what of; {GIVE}",
        ),
        (header(b'{"__metadata__":{"mixtools":"{}"}}'), "m.safetensors holds nothing"),
        (
            header(b'{"__metadata__":{"mixtools":"{}"},"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
            f"m.safetensors is damaged or no safetensors file; {GIVE}",
        ),
        (
            header(b'{"__metadata__":{"mixtools":"{}"},' + ONE + b"}") + b"1234",
            "m.safetensors: about.network is missing; give a mixing model",
        ),
        (
            header(b'{"__metadata__":{"mixtools":"{\\"task\\": \\"emulate\\"}"},' + ONE + b"}") + b"1234",
            "m.safetensors is a model for emulate; give one that `mixtools train mix` wrote",
        ),
    ],
)
def test_what_is_no_model_is_refused(content, line):
    song()
    if content is not None:
        Path("m.safetensors").write_bytes(content)
    before = snapshot()
    result = run("mix", "stems", "-q", "--model", "m.safetensors")
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith(f"mixtools: {line}") and result.err.count("\n") == 1, result.err
    assert snapshot() == before


def test_models_that_do_not_fit_are_refused(place):
    tensors, about = read_model("whole/model.safetensors")
    plain = {name: tensor.numpy() for name, tensor in tensors.items()}
    about["network"]["width"] = 16384
    save_file(plain, "m.safetensors", {ABOUT: json.dumps(about)})
    result = run("mix", "stems", "-q", "--model", "m.safetensors")
    assert result.code == 2 and result.err.startswith(
        "mixtools: m.safetensors: controller.post_processor.0.weight is 16"
    )
    with open("huge.safetensors", "wb") as file:
        file.write(header(b"{}"))
        file.truncate(5 << 30)
    result = run("mix", "stems", "-q", "--model", "huge.safetensors")
    assert (result.code, result.err) == (
        2,
        f"mixtools: huge.safetensors is 5368709120 bytes; {GIVE} of at most 4294967296\n",
    )
    Path("empty").mkdir()
    result = run("mix", "stems", "-q", "--model", "empty")
    assert (result.code, result.err) == (2, "mixtools: empty/best.json does not exist; give the folder of a training\n")


@pytest.mark.parametrize("name", ["nonsense", ""])
def test_names_that_no_bundled_model_has(name):
    song()
    result = run("mix", "stems", "-q", "--model", name)
    there = " or ".join(bundled("mix")) or "a file"
    assert result.code == 2 and "neither a file nor a model that comes with mixtools; give" in result.err
    assert any(word in result.err for word in there.split(" or ")) and result.err.count("\n") == 1


def test_bundled_models_can_be_read():
    assert bundled("mix") == ["dmc", "dmc-full"]
    for name in bundled("mix"):
        tensors, about = open_model(name, "mix")
        kind = Model.load(tensors, about, name).net.spec.kind
        assert about["kind"] == f"dmc-{kind}" and name == {"basic": "dmc", "full": "dmc-full"}[kind]


def test_the_bundled_full_model_sets_whole_channels():
    song(frames=4 * RATE)
    mixed("--model", "dmc-full", "-o", "full.wav", "--write-mix", "full.yaml", "-q")
    for track in read_mix("full.yaml").tracks:
        effects = [insert.effect for insert in track.chain]
        assert {"parametric_eq", "compressor", "convolution", "gain", "pan"} <= set(effects)
    assert levels(read("full.wav"), RATE).integrated_lufs == pytest.approx(-16.0, abs=0.5)


def test_what_cannot_be_learned_from(tmp_path):
    refused_training(f"{tmp_path}/nowhere does not exist; give a folder of songs", "-o", "new", corpus="nowhere")
    Path("empty").mkdir()
    result = learn("-o", "new", corpus="empty")
    assert (result.code, result.err.count("\n")) == (2, 1) and "empty holds no songs" in result.err
    for name in ("one_input.wav", "one_target.wav"):
        write(f"pairs/{name}", noise(16000), HEARD)
    line = "pairs holds recordings of a device (layout pair-names); give songs with their stems"
    refused_training(line, "-o", "new", corpus="pairs")
    songs(Path("single"), 1)
    line = "single has too few artists to validate on some (1 song); give --validation CORPUS, which may be the same"
    refused_training(line, "-o", "new", corpus="single")
    line = "single: none of its 1 song has at most 2 stems; give more with --stems"
    refused_training(line, "-o", "new", "--stems", "2", corpus="single")
    line = "--mix is wet, and single has no such mix; there are mix"
    refused_training(line, "-o", "new", "--mix", "wet", corpus="single")
    result = learn("-o", "new", "--seconds", "9", "--validation", "single", corpus="single")
    assert result.code == 2 and "no recording is 9 s long, the longest has 3.00 s" in result.err
    result = learn("-o", "new2", "--family", "balancd", corpus="single")
    assert result.code == 2 and "balanced" in result.err


def test_files_that_cannot_be_used_are_named_once(tmp_path):
    songs(Path("songs"), 2, mixed=False)
    bad = Path("songs/Artist 0 - Song/stems/zz.wav")
    bad.write_bytes(b"nothing")
    result = learn("-o", "new", "--validation", "songs", "--family", "balanced", "--json", steps="2")
    assert result.code == 0, result.err
    assert result.err.count("zz.wav") == 1 and "warning: " in result.err
    assert len(json.loads(result.out)["skipped"]) == 1


def test_dry_run_writes_nothing(place):
    before = snapshot()
    result = learn("-o", "new", "--dry-run", "--kind", "dmc-full")
    assert result.code == 0 and snapshot() == before
    assert result.out.decode().splitlines() == [
        "would train dmc-full with the encoder small: 4 steps of 2 excerpts",
        "of 2 s at 16000 Hz with up to 6 stems",
        "from songs (layout stems): 3 songs, and 1 song to validate on",
        "would write new and new/model.safetensors",
    ]


def test_of_processes_that_train_together_one_says_what_it_would_do(place, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = learn("-o", "new", "--dry-run")
    assert (result.code, result.out, result.err) == (0, b"", "")


def test_synthesised_songs_and_a_device_that_is_not_there(place):
    import torch

    assert learn("-o", "new", "--dry-run", corpus="synth:7").code == 0
    if not torch.cuda.is_available():
        refused_training("--device is cuda, but there is none; give cpu or auto", "-o", "new", "--device", "cuda")


def test_the_header_says_what_a_model_is(place):
    with safe_open("whole/model.safetensors", "np") as file:
        assert json.loads(file.metadata()[ABOUT])["network"]["kind"] == "basic"


def test_what_is_left_out_is_as_the_help_says():
    from mixtools.tasks.train.mix import BATCH, LEARNING_RATE, MOST_STEMS, SECONDS

    options = {parameter.name: parameter for parameter in dict(leaves())["train mix"].params}
    assert f"{BATCH['basic']} for dmc-basic and {BATCH['full']} for dmc-full" in options["batch"].help
    assert f"{MOST_STEMS['basic']} for dmc-basic and {MOST_STEMS['full']} for dmc-full" in options["stems"].help
    assert float(options["learning_rate"].default) == LEARNING_RATE
    assert float(options["seconds"].default) == SECONDS


def leaves():
    return manpage.commands(typer.main.get_command(app))


def test_every_option_says_what_it_is_and_help_is_light():
    for name, command in leaves():
        for parameter in command.params:
            assert parameter.help or parameter.name == "help", f"{name} {parameter.name}"
            assert parameter.param_type_name != "option" or parameter.is_flag or parameter.metavar
    code = (
        "import sys\nfrom mixtools.cli.main import run\nrun(['train', 'mix', '--help'])\n"
        "print({'torch', 'numba', 'numpy', 'scipy', 'safetensors'} & set(sys.modules))"
    )
    assert python(code).endswith("set()\n")


def test_train_alone_says_what_there_is():
    result = run("train")
    assert result.code == 0 and b"mix" in result.out


def test_a_network_plays_the_channels_that_a_model_sets(place, tmp_path):
    """Learned with, found again in the folder of the training, and written into the mix file, which gives the same."""
    full = tmp_path / "full"
    learned = run(
        "train", "mix", "songs", "--kind", "dmc-full", "--channel", "channel", "-o", full, "--steps", "1",
        "--batch", "1", "--seconds", "1", "--excerpts", "1", "--held-out", "1", "--width", "8", "--threads", "1", "-q",
    )  # fmt: skip
    assert learned.code == 0, learned.err
    mix_file, out, again = (tmp_path / name for name in ("m.yaml", "m.wav", "again.wav"))
    mixed("--model", full, "-o", out, "--write-mix", mix_file)
    chains = [track.chain for track in read_mix(mix_file).tracks]
    assert all([i.effect for i in chain] == ["gain", "neural", "gain", "pan"] for chain in chains)
    assert set(chains[0][1].controls["set"]) == {"parametric_eq", "compressor", "convolution"}
    mixed("-p", mix_file, "-o", again)
    assert out.read_bytes() == again.read_bytes()
    for arguments, words in (
        (("--channel", "channel"), "--channel plays what a model sets; give one with --model"),
        (("--model", full, "--channel", "optical"), "optical is no model of the console's whole channel"),
        (("--model", full, "--rate", "48000"), "--channel works at 44100 Hz, and the session is at 48000 Hz"),
        (("--model", "whole", "--channel", "channel"), "whole is a dmc-basic; leave it"),
    ):
        result = run("mix", "stems", "-o", tmp_path / "x.wav", *arguments)
        assert result.code == 2 and words in result.err, result.err
    result = run("train", "mix", "songs", "--channel", "channel", "-o", tmp_path / "y")
    assert "--channel plays what a dmc-full model sets" in result.err
