"""`mixtools transfer`: stems and a record, as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import done, noise, read, refused, run, snapshot, write

from mixtools import features, levels, synth_song
from mixtools.files.mixfile import read_mix
from mixtools.files.stems import AudioFile
from mixtools.tasks.transfer.search import Search

RATE = 22050
STEMS = 8
QUICK = "--steps", "1", "--engine", "optimise"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Eight stems of five seconds, and records: another song's mix, and a bright, narrow, hard one."""
    folder = tmp_path_factory.mktemp("transfer")
    for name, samples in synth_song(11, 5.0, RATE, STEMS).stems.items():
        write(folder / "stems" / name, samples, RATE)
    other = synth_song(4, 8.0, RATE, 10)
    sides = {name: (0.7, 0.3) if i % 2 else (0.35, 0.65) for i, name in enumerate(sorted(other.stems))}
    mixed = sum(np.outer(sides[name], samples.mean(axis=0)) for name, samples in other.stems.items())
    write(folder / "records" / "wide.wav", (0.5 * mixed / np.abs(mixed).max()).astype(np.float32), RATE)
    hard = np.tanh(6.0 * np.diff(mixed.mean(axis=0), append=0.0) / np.abs(mixed).max())
    write(folder / "records" / "hard.wav", (0.8 * np.stack([hard, 0.95 * hard])).astype(np.float32), RATE)
    return folder


@pytest.fixture(autouse=True)
def place(material, tmp_path, monkeypatch):
    """A folder of its own, from which the stems and the records are seen."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stems").symlink_to(material / "stems")
    (tmp_path / "records").symlink_to(material / "records")
    return tmp_path


def transferred(*arguments, new=("mix.wav", "mix.yaml"), **more):
    return done("stems", "records/wide.wav", *QUICK, *arguments, new=new, of="transfer", **more)


def test_the_mix_is_like_the_record_and_its_file_makes_it_again():
    result = run("transfer", "stems", "records/wide.wav", *QUICK, "--steps", "2", "--json", "--stems-out", "parts")
    assert result.code == 0, result.err
    assert len(list(Path("parts").iterdir())) >= STEMS
    told = json.loads(result.out)
    losses = told["losses"]
    assert losses["result"]["total"] < 0.5 * losses["start"]["total"]
    assert set(told["features"]) == {"equal loudness", "start", "result", "reference"}
    mix, record = (levels(read(path), RATE) for path in ("mix.wav", "records/wide.wav"))
    assert mix.integrated_lufs == pytest.approx(record.integrated_lufs, abs=0.5) and mix.true_peak_dbtp <= -0.99
    with AudioFile("mix.wav") as file:
        assert file.frames >= 5 * RATE
    assert len(told["tracks"]) == STEMS + 1 and told["tracks"][-1].startswith("master: ")
    for line in told["tracks"]:
        assert f"mixtools: {line}\n" in result.err
    assert "references: [records/wide.wav]" in Path("mix.yaml").read_text()
    assert run("mix", "stems", "-p", "mix.yaml", "-q", "-o", "again.wav").code == 0
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes()
    apart = (
        features(read("mix.wav"), RATE)["stereo"]["width"] - features(read("records/wide.wav"), RATE)["stereo"]["width"]
    )
    assert abs(apart) < 0.05


def test_neither_order_nor_threads_nor_the_records_loudness_matter():
    names = sorted(map(str, Path("stems").iterdir()))
    quiet = read("records/wide.wav") * np.float32(0.25)
    write("quiet/wide.wav", quiet, RATE)
    assert run("transfer", *names, "records/wide.wav", *QUICK, "-q", "--target-lufs", "-18", "-o", "a.wav").code == 0
    again = "-q", "--target-lufs", "-18", "--threads", "1", "-o", "b.wav"
    assert run("transfer", *names[::-1], "quiet/wide.wav", *QUICK, *again).code == 0
    a, b = (read_mix(name) for name in ("a.yaml", "b.yaml"))
    for x, y in zip(a.tracks, b.tracks, strict=True):
        assert x.file == y.file and [i.controls for i in x.chain] == [i.controls for i in y.chain]
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_an_amount_of_nothing_is_the_start_and_aspects_are_left_alone():
    assert run("mix", "stems", "-q", "-o", "start.wav", "--write-mix", "start.yaml").code == 0
    start = read_mix("start.yaml")
    transferred("-q", "--amount", "0")
    assert read_mix("mix.yaml").tracks == start.tracks
    transferred("-q", "--stereo", "0", "-o", "b.wav", new=("b.wav", "b.yaml"))
    found = read_mix("b.yaml")
    assert found.tracks != start.tracks

    def pans(mix):
        return [next((i.settings["pan"] for i in t.chain if i.effect == "pan"), 0.5) for t in mix.tracks]

    assert pans(found) == pytest.approx(pans(start))


def test_what_a_mix_file_settles_stays():
    name = sorted(path.name for path in Path("stems").iterdir())[0]
    Path("lock.yaml").write_text(f"mixtools: 1\ntracks:\n  - file: {name}\n    chain: [{{gain: {{gain_db: -9}}}}]\n")
    result = transferred("--lock", "lock.yaml")
    track = next(track for track in read_mix("mix.yaml").tracks if track.file == name)
    assert [(insert.effect, insert.controls) for insert in track.chain] == [("gain", {"gain_db": -9})]
    assert f"mixtools: {name.removesuffix('.wav')}: as it is\n" in result.err


def test_it_starts_from_a_mix_file():
    transferred("-q", "-o", "a.wav", new=("a.wav", "a.yaml"))
    result = transferred("--from", "a.yaml", "--json")
    losses = json.loads(result.out)["losses"]
    assert losses["result"]["total"] <= losses["start"]["total"] < losses["equal loudness"]["total"]
    assert result.err.startswith("mixtools: from a.yaml: 8 stems like records/wide.wav\n")
    names = [track.file for track in read_mix("mix.yaml").tracks]
    assert names == sorted(path.name for path in Path("stems").iterdir())


def test_several_records_are_averaged():
    facts = {}
    for name, weights in {"wide": (1, 0.001), "both": (1, 1), "hard": (0.001, 1)}.items():
        words = [f"--weight={weight}" for weight in weights]
        result = run(
            "transfer",
            "stems",
            "records/wide.wav",
            "records/hard.wav",
            *words,
            "--steps",
            "0",
            "--engine",
            "optimise",
            "-o",
            f"{name}.wav",
            "--json",
        )
        assert result.code == 0, result.err
        facts[name] = json.loads(result.out)["features"]["reference"]["width"]
    assert facts["both"] == pytest.approx((facts["wide"] + facts["hard"]) / 2, rel=0.01)
    result = run("transfer", "stems", "records", "--steps", "0", "--engine", "optimise", "-o", "folder.wav", "--json")
    assert json.loads(result.out)["features"]["reference"]["width"] == pytest.approx(facts["both"], rel=1e-6)


@pytest.mark.parametrize("record", ["mono", "stem"])
def test_records_of_any_kind(record):
    path = "record.wav"
    if record == "stem":
        path = str(sorted(Path("stems").iterdir())[-1])
    else:
        samples = read("records/wide.wav")
        write(path, samples[:1], RATE)
    result = done("stems", path, *QUICK, new=("mix.wav", "mix.yaml"), of="transfer")
    assert np.isfinite(read("mix.wav")).all() and np.abs(read("mix.wav")).max() > 0.01, result.err


def test_an_interrupt_writes_the_best_so_far(monkeypatch):
    improved = Search.improved
    calls = []

    def interrupted(self, *arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return improved(self, *arguments, **more)

    monkeypatch.setattr(Search, "improved", interrupted)
    result = transferred("--steps", "9", code=130)
    assert result.err.endswith("mixtools: interrupted: the best so far is in mix.wav\n")
    assert np.abs(read("mix.wav")).max() > 0.01 and read_mix("mix.yaml").tracks


def test_a_dry_run_says_what_would_be_done():
    result = done("stems", "records/wide.wav", "--dry-run", "-o", "x.flac", new=(), of="transfer")
    said = result.out.decode()
    assert said.startswith("would mix 8 stems at 22050 Hz like records/wide.wav: ")
    assert said.endswith("would write x.flac\nwould write x.yaml\n")


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("REF is missing; give the stems and then a record, as in: mixtools transfer stems ref.wav", ("stems",)),
        ("nothing.wav does not exist", ("stems", "nothing.wav")),
        ("--weight is given 1 times for 2 REF; give it once for each", ("stems", "a.wav", "b.wav", "--weight", "1")),
        ("--weight is -1; give 0.001 to 1000", ("stems", "a.wav", "--weight", "-1")),
        ("--amount is 2; give 0 to 1", ("stems", "a.wav", "--amount", "2")),
        ("--steps is many; give a whole number, 0 to 1000", ("stems", "a.wav", "--steps", "many")),
        ("--engine is magic; give optimise, controller, both", ("stems", "a.wav", "--engine", "magic")),
        (
            "--model names a controller, and --engine optimise has none; leave one out",
            ("stems", "a.wav", "--model", "x", "--engine", "optimise"),
        ),
        (
            "--from is where the search starts, and so is the controller's answer; leave one out",
            ("stems", "a.wav", "--from", "m.yaml", "--engine", "both"),
        ),
        (
            "--ref-end is 1, --ref-start 2; give an end after the start",
            ("stems", "a.wav", "--ref-start", "2", "--ref-end", "1"),
        ),
        (
            "--ref-start is 99, but records/wide.wav ends at 8 s; give an earlier start",
            ("stems", "records/wide.wav", "--ref-start", "99"),
        ),
        ("--start is 99, but the stems end at 5 s; start earlier", ("stems", "records/wide.wav", "--start", "99")),
        ("-o - and --json write to stdout; give one of them a place", ("stems", "a.wav", "-o", "-", "--json")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(line, arguments):
    before = snapshot()
    result = run("transfer", "-q", *arguments)
    assert result.code in (2, 3) and result.err.startswith(f"mixtools: {line}"), result.err
    assert result.err.count("\n") == 1
    assert snapshot() == before


def test_records_that_cannot_be_heard_are_refused():
    write("silent.wav", np.zeros((2, RATE), np.float32), RATE)
    refused("silent.wav: is silent; give a record", "stems", "silent.wav", code=3, of="transfer")
    write("short.wav", noise(100, 2), RATE)
    refused("short.wav: is 0.005 s long; give a mix of 0.1 s or more", "stems", "short.wav", code=3, of="transfer")
    Path("text.wav").write_text("no audio")
    before = snapshot()
    result = run("transfer", "-q", "stems", "text.wav")
    assert result.code == 3 and "text.wav" in result.err and result.err.count("\n") == 1
    assert snapshot() == before


def test_outputs_that_are_there_stop_it_before_any_work():
    Path("mix.yaml").write_text("mine\n")
    before = snapshot()
    result = run("transfer", "-q", "stems", "records/wide.wav")
    assert result.code == 2 and "mix.yaml" in result.err and "--force" in result.err
    assert snapshot() == before
