"""`mixtools train transfer`, and `mixtools transfer --model`: from songs and records to a mix, as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import noise, read, run, snapshot, write

from mixtools.files.mixfile import read_mix
from mixtools.files.models import bundled

RATE = 16000
SMALL = (
    "--batch=1", "--excerpts=2", "--held-out=1", "--seconds=2", f"--rate={RATE}", "--width=32", "--threads=1",
    "--references=records", "-q",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Stems, a record, and a training of two steps."""
    folder = tmp_path_factory.mktemp("train_transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for i, name in enumerate(("kick", "bass", "keys")):
            write(f"stems/{name}.wav", noise(3 * RATE, 1 + i % 2, seed=i), RATE)
        write("records/one.wav", noise(4 * RATE, 2, seed=9), RATE)
        result = run("train", "transfer", "synth:5", "-o", "whole", "--steps", "2", *SMALL)
        assert result.code == 0, result.err
        yield folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def test_a_training_that_was_stopped_comes_to_the_same_model():
    assert run("train", "transfer", "synth:5", "-o", "broken", "--steps", "1", *SMALL).code == 0
    Path("broken/model.safetensors").unlink()
    result = run("train", "transfer", "synth:5", "-o", "broken", "--steps", "2", "--resume", *SMALL)
    assert result.code == 0, result.err
    assert Path("broken/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_a_controller_mixes(place):
    words = "transfer", "stems", "records/one.wav", "--model", "whole/model.safetensors", "--engine", "controller"
    result = run(*words, "--json", "-o", "a.wav", "--force")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["engine"] == "controller" and told["rounds"] == 0
    assert told["losses"]["start"] == told["losses"]["result"]
    assert np.abs(read("a.wav")).max() > 0.01
    effects = {insert.effect for track in read_mix("a.yaml").tracks for insert in track.chain}
    assert effects >= {"gain", "parametric_eq", "compressor", "pan"}
    assert len(told["tracks"]) == 4, "what was done to every track, and to the master"
    assert run("mix", "stems", "-p", "a.yaml", "-q", "-o", "again.wav", "--force").code == 0
    assert Path("again.wav").read_bytes() == Path("a.wav").read_bytes()


def test_the_search_goes_on_from_its_answer():
    words = "transfer", "stems", "records/one.wav", "--model", "whole", "--steps", "1", "--force", "-o", "b.wav"
    result = run(*words, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["engine"] == "both" and told["losses"]["result"]["total"] <= told["losses"]["start"]["total"]
    assert "from the answer of whole: 3 stems like records/one.wav" in result.err


def test_one_method_goes_on_from_another():
    words = "--weights", "whole/model.safetensors", "--method", "records", "--steps", "1"
    result = run("train", "transfer", "synth:5", "-o", "more", *words, *SMALL)
    assert result.code == 0, result.err
    result = run("train", "transfer", "synth:5", "-o", "other", *words, "--kind", "diff-mst", *SMALL)
    assert result.code == 2 and result.err == (
        "mixtools: whole/model.safetensors has another console, hears, rounds; give a model of this kind and width\n"
    )


def test_the_papers_model_can_be_trained():
    words = "--kind", "diff-mst", "--method", "same-song", "--steps", "1"
    assert run("train", "transfer", "synth:5", "-o", "paper", *words, *SMALL).code == 0


def test_a_dry_run_writes_nothing():
    before = snapshot()
    result = run("train", "transfer", "synth:5", "-o", "planned", "--references", "records", "--dry-run")
    assert result.code == 0 and b"records: records/one.wav\nwould write planned and planned/model" in result.out
    assert snapshot() == before


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("--method is first; give foreseen, records, same-song", ("--method", "first")),
        ("--kind is best; give mst, diff-mst", ("--kind", "best")),
        ("nowhere does not exist", ("--references", "nowhere")),
        ("families holds louder", ("--family", "louder")),
        ("--width is 7; give 32 to 1024", ("--width", "7")),
        ("width is 40; give a multiple of 32", ("--width", "40")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(line, arguments):
    result = run("train", "transfer", "synth:5", "-q", "-o", "no", *arguments)
    assert result.code == 2 and result.err.startswith(f"mixtools: {line}") and result.err.count("\n") == 1, result.err
    assert not Path("no").exists()


def test_a_mixing_model_is_no_controller():
    words = (
        "--steps=1",
        "--batch=1",
        "--excerpts=1",
        "--held-out=1",
        "--width=16",
        f"--rate={RATE}",
        "--seconds=2",
        "-q",
    )
    assert run("train", "mix", "synth:5", "-o", "mixer", *words).code == 0
    result = run("transfer", "stems", "records/one.wav", "-q", "--model", "mixer/model.safetensors", "-o", "c.wav")
    assert result.code == 2 and result.err == (
        "mixtools: mixer/model.safetensors is a model for mix; give one that `mixtools train transfer` wrote\n"
    )


def test_a_controller_comes_with_mixtools():
    assert bundled("transfer") == ["mst"]
    result = run("transfer", "stems", "records/one.wav", "--dry-run", "--engine", "both")
    assert result.out.startswith(b"would mix 3 stems at 16000 Hz like records/one.wav: both, mst\n")
    result = run("transfer", "stems", "records/one.wav", "--dry-run")
    assert result.out.startswith(b"would mix 3 stems at 16000 Hz like records/one.wav: optimise\n")
