"""`mixtools fit` through its real entry point: the mix file it writes remakes the mix, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
import typer
from cli_helpers import (
    RATE,
    REPOSITORY,
    assert_unchanged,
    command,
    environment,
    noise,
    process,
    read,
    refused,
    run,
    snapshot,
    song,
    write,
)
from cli_helpers import done as done_by

from mixtools.cli.main import app
from mixtools.files.mixfile import read_mix
from mixtools.tasks import fit as task

FRAMES = 2 * RATE
GAINS = {"kick.wav": 0.5, "bass.wav": 0.7, "keys.wav": -1.2}
"""Amplitudes of the stems in the mix."""

GAIN = ("--model", "gain")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mixed(stems: dict[str, np.ndarray], gains: dict[str, float] = GAINS) -> np.ndarray:
    """The stems at their gains, (2, n)."""
    frames = max(stem.shape[1] for stem in stems.values())
    total = np.zeros((2, frames))
    for name, stem in stems.items():
        total[:, : stem.shape[1]] += gains[name] * stem.astype(float)
    return total.astype(np.float32)


@pytest.fixture
def stems() -> dict[str, np.ndarray]:
    """stems/ and the mix.wav that was made of them, in a folder of its own, and the stems' samples."""
    stems = song(frames=FRAMES)
    write("record/mix.wav", mixed(stems))
    return stems


def done(*arguments: str | Path, new: tuple[str, ...] = ("mix.yaml",), **options: Any):
    return done_by(*arguments, new=new, of="fit", **options)


def residual_db(rest: np.ndarray, whole: np.ndarray) -> float:
    return 10 * np.log10(np.sum(rest.astype(float) ** 2) / np.sum(whole.astype(float) ** 2))


def told(*arguments: str | Path, new: tuple[str, ...] = ("mix.yaml",), stdin: bytes = b"") -> dict[str, Any]:
    """What a quiet run says in JSON."""
    return json.loads(done(*arguments, "-q", "--json", new=new, stdin=stdin).out)


# What is written


def test_the_mix_file_remakes_the_mix(stems):
    result = done("stems", "record/mix.wav", *GAIN)
    assert result.out == b""
    assert run("mix", "stems", "-p", "mix.yaml", "-q").code == 0
    expected = mixed(stems)
    assert residual_db(read("mix.wav")[:, :FRAMES] - expected, expected) < -100


def test_the_gains_are_those_of_the_mix(stems):
    tracks = {track["file"]: track for track in told("stems", "record/mix.wav", *GAIN)["tracks"]}
    assert tracks.keys() == GAINS.keys()
    for name, gain in GAINS.items():
        assert tracks[name]["gain_db"] == pytest.approx(20 * np.log10(abs(gain)), abs=0.01)
        assert tracks[name]["inverted"] == (gain < 0)
        assert tracks[name]["pan"] == pytest.approx(0.5, abs=0.01)
        assert tracks[name]["eq_db"] is None and tracks[name]["reverb_db"] is None


def test_rendering_has_the_bytes_of_mix(stems):
    parts = tuple(f"parts/{name}" for name in stems)
    outputs = ("--render", "estimate.wav", "--stems-out", "parts")
    done("stems", "record/mix.wav", *GAIN, *outputs, new=("mix.yaml", "estimate.wav", *parts))
    assert run("mix", "stems", "-p", "mix.yaml", "-q", "-o", "again.wav", "--stems-out", "again").code == 0
    assert Path("again.wav").read_bytes() == Path("estimate.wav").read_bytes()
    for part in parts:
        assert Path("again", Path(part).name).read_bytes() == Path(part).read_bytes()


def test_rendering_with_a_reverb_has_the_bytes_of_mix(stems):
    wet = 0.1 * noise(400, 2, seed=4, level=1.0)
    mix = mixed(stems)
    for channel in range(2):
        mix[channel] += np.convolve(stems["kick.wav"][0], wet[channel])[:FRAMES]
    write("record/wet.wav", mix)
    quick = ("--reverb-seconds", "0.05", "--steps", "2")
    new = ("a.yaml", "a.reverb.wav", "a.wav", "rest.wav")
    done("stems", "record/wet.wav", *quick, "-o", "a.yaml", "--render", "a.wav", "--residual", "rest.wav", new=new)
    assert soundfile.info("a.reverb.wav").subtype == "FLOAT"
    assert run("mix", "stems", "-p", "a.yaml", "-q", "-o", "again.wav").code == 0
    assert Path("again.wav").read_bytes() == Path("a.wav").read_bytes()
    np.testing.assert_array_equal(read("rest.wav"), mix - read("a.wav")[:, :FRAMES])


def test_bits_are_for_what_is_rendered(stems):
    arguments = ("--bits", "16", "--render", "a.wav", "--residual", "rest.wav")
    done("stems", "record/mix.wav", *GAIN, *arguments, new=("mix.yaml", "a.wav", "rest.wav"))
    assert soundfile.info("a.wav").subtype == "PCM_16"
    assert soundfile.info("rest.wav").subtype == "FLOAT"


@pytest.mark.parametrize("frames", [FRAMES // 2, 3 * FRAMES // 2], ids=["shorter", "longer"])
def test_the_residual_is_what_the_estimate_lacks_and_as_long_as_the_mix(stems, frames):
    mix = np.zeros((2, frames), np.float32)
    mix[:, :FRAMES] = mixed(stems)[:, :frames]
    mix += noise(frames, 2, seed=8, level=0.01)
    write("other.wav", mix)
    new = ("mix.yaml", "rest.wav", "estimate.wav")
    done("stems", "other.wav", *GAIN, "--residual", "rest.wav", "--render", "estimate.wav", new=new)
    estimate = np.zeros_like(mix)
    held = read("estimate.wav")[:, :frames]
    estimate[:, : held.shape[1]] = held
    np.testing.assert_array_equal(read("rest.wav"), mix - estimate)


def test_a_second_run_gives_the_same_bytes(stems):
    arguments = ("stems", "record/mix.wav", "--model", "eq", "--steps", "3", "--end", "1", "--force")
    done(*arguments)
    first = Path("mix.yaml").read_bytes()
    done(*arguments)
    assert Path("mix.yaml").read_bytes() == first


def test_the_mix_file_on_stdout_is_that_of_the_file(stems):
    done("stems", "record/mix.wav", *GAIN)
    before = snapshot()
    result = run("fit", "stems", "record/mix.wav", *GAIN, "-q", "-o", "-")
    assert (result.code, result.err) == (0, "")
    assert_unchanged(before)
    there, kept = (text.decode().replace(" -q -o -", "") for text in (result.out, Path("mix.yaml").read_bytes()))
    assert there == kept


def test_the_mix_on_stdin(stems):
    expected = told("stems", "record/mix.wav", *GAIN)["tracks"]
    data = Path("record/mix.wav").read_bytes()
    assert told("stems", "-", *GAIN, "-o", "b.yaml", new=("b.yaml",), stdin=data)["tracks"] == expected


def test_responses_beside_a_mix_file_on_stdout_go_where_assets_says(stems):
    quick = ("--reverb-seconds", "0.05", "--steps", "1", "--end", "1")
    result = done("stems", "record/mix.wav", *quick, "-o", "-", "--assets", "irs", new=("irs/mix.reverb.wav",))
    again = run("mix", "stems", "-p", "-", "--assets", "irs", "-q", stdin=result.out)
    assert again.code == 0, again.err


def test_a_mix_file_finds_responses_in_another_folder(stems):
    Path("irs").mkdir()
    quick = ("--reverb-seconds", "0.05", "--steps", "1", "--end", "1")
    where = ("-o", "record/fit.yaml", "--assets", "irs")
    done("stems", "record/mix.wav", *quick, *where, new=("record/fit.yaml", "irs/fit.reverb.wav"))
    assert run("mix", "stems", "-p", "record/fit.yaml", "-q").code == 0


def test_the_mix_file_says_where_it_came_from(stems):
    done("stems", "record/mix.wav", *GAIN)
    mix = read_mix("mix.yaml")
    assert mix.sample_rate == RATE
    assert mix.notes["made"]["command"] == "mixtools fit stems record/mix.wav --model gain"
    kept = mix.notes["report"]
    assert (kept["model"], kept["method"]) == ("gain", "solve")
    assert kept["residual_db"] < -60 and 0 <= kept["features"]["total"] < 0.001
    assert [line.split(",")[0] for line in kept["tracks"]] == sorted(GAINS)


# What is said


def test_json_has_the_whole_report_and_what_was_written(stems):
    found = told("stems", "record/mix.wav", *GAIN, "--render", "a.wav", new=("mix.yaml", "a.wav"))
    assert {"residual_db", "unseen_residual_db", "loss", "features", "tracks"} <= found.keys()
    assert (found["output"], found["render"], found["responses"]) == ("mix.yaml", "a.wav", [])
    assert found["sample_rate"] == RATE and found["seconds"] == 2.0
    assert found["features"]["total"] < 0.001 and found["unseen_residual_db"] is None
    assert found["interrupted"] is False


def test_people_get_a_table_and_the_figures(stems):
    lines = done("stems", "record/mix.wav", *GAIN).err.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.split() and line.split()[0] in GAINS}
    assert list(rows) == sorted(GAINS)
    assert rows["kick.wav"][1] == "-6.02" and rows["keys.wav"][1] == "+1.58"
    assert "inverted" in rows["keys.wav"] and "inverted" not in rows["kick.wav"]
    assert any(line.startswith("mixtools: residual -") for line in lines)
    assert any("feature errors: spectral " in line and "; total " in line for line in lines)
    assert lines[-1] == "mixtools: mix.yaml: gain, 3 tracks; in T s"


def test_quiet_says_nothing(stems):
    assert done("stems", "record/mix.wav", *GAIN, "-q").err == ""


def test_validating_measures_what_was_not_seen():
    song(frames=6 * RATE)
    write("record.wav", noise(6 * RATE, 2, seed=7))
    result = done("stems", "record.wav", *GAIN, "--validate", "--json")
    assert json.loads(result.out)["unseen_residual_db"] > -1.0
    assert "dB on audio that the fit did not see" in result.err
    assert "mixtools: warning: " in result.err, "the mix has nothing to do with the stems"


def test_a_dry_run_writes_nothing(stems):
    before = snapshot()
    arguments = ("--model", "individual-bus", "--render", "a.wav", "--stems-out", "parts", "-o", "b.yaml")
    result = run("fit", "stems", "record/mix.wav", *arguments, "--dry-run")
    assert result.code == 0, result.err
    assert_unchanged(before)
    lines = result.out.decode().splitlines()
    assert lines[0] == "would fit 3 stems to record/mix.wav, 0:02.0 at 44100 Hz: individual-bus, solve"
    expected = ["b.yaml", "b.bass.wav", "b.keys.wav", "b.kick.wav", "a.wav", "parts/bass.wav"]
    assert lines[1:7] == [f"would write {name}" for name in expected]
    facts = json.loads(run("fit", "stems", "record/mix.wav", *arguments, "--dry-run", "--json").out)
    assert facts["stems"] == sorted(GAINS) and facts["render"] == "a.wav"


# Unequal material


def test_a_mono_mix(stems):
    write("mono.wav", mixed({name: stem[:1] for name, stem in stems.items()})[:1])
    found = told("stems/kick.wav", "stems/bass.wav", "mono.wav", *GAIN)
    assert {track["file"] for track in found["tracks"]} == {"kick.wav", "bass.wav"}
    assert found["residual_db"] < 0
    assert run("mix", "stems/kick.wav", "stems/bass.wav", "-p", "mix.yaml", "-q").code == 0


def test_unequal_rates_and_lengths(stems):
    """A tone can be resampled without loss, wherever it lies below both halves of the rates."""
    time_s = np.arange(48000) / 48000
    write("stems/tone.wav", (0.5 * np.sin(2 * np.pi * 1000 * time_s))[None].astype(np.float32), 48000)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    mix = mixed(stems)
    mix[:, :RATE] += (0.25 * tone).astype(np.float32)
    write("record/more.wav", mix)
    result = done("stems", "record/more.wav", *GAIN, "--json")
    assert "mixtools: tone.wav: 48000 Hz, resampled to 44100 Hz\n" in result.err
    gains = {track["file"]: track["gain_db"] for track in json.loads(result.out)["tracks"]}
    assert gains["tone.wav"] == pytest.approx(20 * np.log10(0.25), abs=0.05)
    assert gains["bass.wav"] == pytest.approx(20 * np.log10(0.7), abs=0.05)


def test_a_mix_of_another_rate_is_resampled(stems):
    result = done("stems", "record/mix.wav", *GAIN, "--rate", "22050", "--json")
    assert "mixtools: bass.wav, keys.wav, kick.wav: 44100 Hz, resampled to 22050 Hz\n" in result.err
    assert "mixtools: record/mix.wav: 44100 Hz, resampled to 22050 Hz\n" in result.err
    found = json.loads(result.out)
    assert found["sample_rate"] == 22050 and found["residual_db"] < -40
    assert read_mix("mix.yaml").sample_rate == 22050


def test_a_mix_shorter_than_the_reverb_is_warned_of(stems):
    write("short.wav", mixed(stems)[:, : RATE // 2])
    result = done("stems", "short.wav", "--steps", "1", new=("mix.yaml", "mix.reverb.wav"))
    assert "mixtools: warning: " in result.err


def test_split_stereo_gives_two_tracks_to_a_stereo_stem(stems):
    rows = told("stems", "record/mix.wav", *GAIN, "--split-stereo")["tracks"]
    assert sorted((row["file"], row["channel"]) for row in rows) == [
        ("bass.wav", "both"),
        ("keys.wav", "left"),
        ("keys.wav", "right"),
        ("kick.wav", "both"),
    ]


def test_synthesised_stems():
    assert run("mix", "synth:7", "--baseline", "sum", "-q", "-o", "sum.wav").code == 0
    found = told("synth:7", "sum.wav", *GAIN)
    assert found["residual_db"] < -60


# What is refused


REFUSED = {
    "a model": (("--model", "sterio-bus"), "--model is sterio-bus; give stereo-bus"),
    "a method": (("--method", "guess"), "--method is guess; give solve, descent"),
    "a loss": (("--loss", "mrstft"), "--loss is mrstft; give mr-stft"),
    "a device": (("--device", "gpu"), "--device is gpu; give cpu"),
    "a reverb that is no number": (("--reverb-seconds", "nan"), "--reverb-seconds is nan; give 0.05 to 10"),
    "a reverb too long": (("--reverb-seconds", "11"), "--reverb-seconds is 11; give 0.05 to 10"),
    "a reverb for none": (
        (*GAIN, "--reverb-seconds", "1"),
        "--reverb-seconds is for models with a reverb, not gain; leave it out, or give stereo-bus, individual-bus, "
        "console",
    ),
    "automation": (
        ("--automation", "1"),
        "--automation is for --model console, not stereo-bus; leave it out, or give that model",
    ),
    "automation that is no number": (("--automation", "nan"), "--automation is nan; give 0.1 to 600"),
    "pruning": (
        (*GAIN, "--prune", "0.1"),
        "--prune finds nothing to remove from --model gain; leave it out, or give another model",
    ),
    "pruning by no number": (("--prune", "nan"), "--prune is nan; give 0 to 60"),
    "descent": (
        (*GAIN, "--method", "descent"),
        "--method descent is not for --model gain, which is solved at once; give --method solve",
    ),
    "no steps": (("--steps", "0"), "--steps is 0; give 1 to 1000000"),
    "half a step": (("--steps", "0.5"), "--steps is 0.5; give a whole number, 1 to 1000000"),
    "a start after the end": (
        ("--start", "1", "--end", "0.5"),
        "--end is 0.5, --start 1; give an end after the start",
    ),
    "a start after the mix": (
        ("--start", "2"),
        "--start is 2, but record/mix.wav ends at 2 s; give an earlier start",
    ),
    "a part too short": (
        ("--start", "1", "--end", "1.05"),
        "--start and --end leave 0.05 s of record/mix.wav; give 0.1 s or more",
    ),
    "a time": (
        ("--start", "nan"),
        "--start is nan; give seconds, minutes:seconds or hours:minutes:seconds, 0 to 24 h",
    ),
    "no place for a reverb": (
        ("-o", "-"),
        "-o - leaves no place for the impulse responses of stereo-bus; give --assets DIR",
    ),
    "two on stdout": (
        (*GAIN, "-o", "-", "--render", "-"),
        "-o - writes to stdout, and so does --render -; give one of them another place",
    ),
    "json and a mix file on stdout": (
        (*GAIN, "-o", "-", "--json"),
        "--json writes to stdout, and so does -o -; give one of them another place",
    ),
    "a folder that is not there": (
        (*GAIN, "-o", "there/mix.yaml"),
        "there/mix.yaml: the folder there does not exist; create it, or give another name",
    ),
    "an output that is an input": (
        (*GAIN, "--render", "stems/kick.wav", "--force"),
        "stems/kick.wav is an input of this run; give another name for the output",
    ),
    "an output that is the mix": (
        (*GAIN, "--residual", "record/mix.wav", "--force"),
        "record/mix.wav is an input of this run; give another name for the output",
    ),
    "two outputs of one name": (
        (*GAIN, "--render", "a.wav", "--residual", "./a.wav"),
        "./a.wav would be written twice; give every output its own name",
    ),
    "an output that takes a response's place": (
        ("--render", "mix.reverb.wav"),
        "mix.reverb.wav would be written twice; give every output its own name",
    ),
    "bits": ((*GAIN, "--render", "a.wav", "--bits", "12"), "--bits is 12; give 16, 24 or 32f"),
    "a format": ((*GAIN, "--render", "a.mp3"), "a.mp3: give a name that ends in .wav or .flac"),
}


@pytest.mark.parametrize(("arguments", "line"), REFUSED.values(), ids=REFUSED)
def test_refused_before_any_work(stems, arguments, line):
    with mock.patch.object(task, "fit", side_effect=AssertionError("the work has begun")):
        refused(line, "stems", "record/mix.wav", *arguments, of="fit")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mix.yaml", GAIN),
        ("mix.reverb.wav", ()),
        ("mix.kick.wav", ("--model", "individual-bus")),
        ("a.wav", (*GAIN, "--render", "a.wav")),
        ("rest.wav", (*GAIN, "--residual", "rest.wav")),
        ("parts/kick.wav", (*GAIN, "--stems-out", "parts")),
    ],
)
def test_what_is_there_stays_without_force(stems, name, arguments):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine")
    line = f"{name} exists; give --force to overwrite it, or another name"
    with mock.patch.object(task, "fit", side_effect=AssertionError("the work has begun")):
        refused(line, "stems", "record/mix.wav", *arguments, of="fit")


def test_force_writes_again(stems):
    Path("mix.yaml").write_text("mine")
    done("stems", "record/mix.wav", *GAIN, "--force")
    assert len(read_mix("mix.yaml").tracks) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(stems):
    Path("locked").mkdir(mode=0o555)
    line = "locked/mix.yaml: could not be written: Permission denied"
    refused(line, "stems", "record/mix.wav", *GAIN, "-o", "locked/mix.yaml", code=1, of="fit")


def test_no_mix(stems):
    line = "MIX is missing; give the stems and then their mix, as in: mixtools fit stems mix.wav"
    refused(line, "stems", of="fit")


def test_the_mix_is_not_there(stems):
    refused("gone.wav does not exist; give a WAV, FLAC, AIFF, OGG or MP3 file", "stems", "gone.wav", *GAIN, of="fit")


def test_the_mix_is_a_folder(stems):
    line = "stems is a folder; give the finished mix, a file, after the stems"
    refused(line, "record/mix.wav", "stems", *GAIN, of="fit")


def test_the_mix_is_among_the_stems(stems):
    write("stems/mix.wav", mixed(stems))
    line = "stems/mix.wav is one of the stems, too; move it elsewhere, or name the stems one by one"
    refused(line, "stems", "stems/mix.wav", *GAIN, of="fit")


def test_no_stems(stems):
    Path("empty").mkdir()
    line = "empty: holds no audio; give a folder of WAV, FLAC, AIFF, OGG or MP3 files"
    refused(line, "empty", "record/mix.wav", *GAIN, code=3, of="fit")


def test_text_for_audio(stems):
    Path("words.wav").write_text("boom")
    line = "words.wav: is not audio that can be read; give WAV, FLAC, AIFF, OGG or MP3"
    refused(line, "stems", "words.wav", *GAIN, code=3, of="fit")
    refused(line, "words.wav", "record/mix.wav", *GAIN, code=3, of="fit")


def test_stdin_holds_no_audio(stems):
    refused("stdin: is empty; give a WAV, FLAC, AIFF, OGG or MP3 file", "stems", "-", *GAIN, code=3, of="fit")


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        (np.zeros((2, RATE), np.float32), "is silent; give the mix that the stems were made into"),
        (noise(RATE // 20, 2), "is 0.050 s long; give a mix of 0.1 s or more"),
    ],
    ids=["silent", "short"],
)
def test_a_mix_that_tells_nothing(stems, samples, line):
    write("bad.wav", samples)
    refused(f"bad.wav: {line}", "stems", "bad.wav", *GAIN, code=3, of="fit")


def test_a_part_that_tells_nothing(stems):
    mix = mixed(stems)
    mix[:, RATE:] = 0.0
    write("half.wav", mix)
    line = "half.wav: is silent from 1.5 to 2 s; give the mix that the stems were made into"
    refused(line, "stems", "half.wav", *GAIN, "--start", "1.5", code=3, of="fit")


def test_a_stem_that_is_not_finite_is_found_before_any_work(stems):
    samples = stems["kick.wav"].copy()
    samples[0, 7] = np.nan
    write("stems/kick.wav", samples, force=True)
    line = "stems/kick.wav: sample 7 (at 0.000 s) is not a number; give audio without NaN or infinite samples"
    with mock.patch.object(task, "fit", side_effect=AssertionError("the work has begun")):
        refused(line, "stems", "record/mix.wav", *GAIN, code=3, of="fit")


# Interrupts


def interrupted_after(seconds: float, *arguments: str) -> tuple[int, str]:
    """A run that is interrupted once it has begun to work."""
    run = subprocess.Popen(command("fit", *arguments), stderr=subprocess.PIPE, env=environment())
    time.sleep(seconds)
    run.send_signal(signal.SIGINT)
    return run.wait(timeout=60), run.stderr.read().decode()


def test_an_interrupted_fit_writes_the_best_so_far(stems):
    """What the task gives back when it was interrupted is written whole, and the exit code says so."""
    real = task.fit

    def cut_short(*arguments: Any) -> Any:
        fitted = real(*arguments)
        fitted.interrupted = True
        return fitted

    with mock.patch.object(task, "fit", cut_short):
        result = done("stems", "record/mix.wav", *GAIN, "--render", "a.wav", new=("mix.yaml", "a.wav"), code=130)
    assert result.err.splitlines()[-1] == "mixtools: interrupted: the best so far is in mix.yaml"
    assert len(read_mix("mix.yaml").tracks) == 3


@posix
def test_an_interrupt_leaves_all_or_nothing(stems):
    before = snapshot()
    code, err = interrupted_after(6.0, "stems", "record/mix.wav", "--method", "descent", "--reverb-seconds", "0.1")
    assert code == 130, err
    assert "Traceback" not in err
    if err.endswith("mixtools: interrupted: the best so far is in mix.yaml\n"):
        found = read_mix("mix.yaml")
        assert len(found.tracks) == 3
        # The reverb is let in late: the best so far may be without.
        assert Path("mix.reverb.wav").is_file() == bool(found.buses)
    else:
        assert err.endswith("mixtools: interrupted; nothing was written\n")
        assert_unchanged(before)


# The declarations


@pytest.mark.parametrize(("option", "words"), [("--model", "MODELS"), ("--method", "METHODS"), ("--loss", "LOSSES")])
def test_the_help_names_the_words_of_the_task(option, words):
    parameters = typer.main.get_command(app).commands["fit"].params
    metavar = next(parameter.metavar for parameter in parameters if option in parameter.opts)
    assert metavar == "|".join(getattr(task, words))


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_makefile_fits_every_song_of_a_folder(tmp_path):
    for name, suffix in (("one", "wav"), ("two", "flac")):
        stems = song(f"finished/{name}/stems", frames=RATE)
        write(f"finished/{name}/mix.{suffix}", 0.5 * mixed(stems), bits="24")
    song("finished/unfinished/stems", frames=RATE)
    Path("examples").mkdir()
    shutil.copy(REPOSITORY / "examples" / "Makefile", "examples")
    shutil.copy(REPOSITORY / ".venv.mk", ".")
    settings = ("FINISHED=../finished", "FITFLAGS=--model gain", f"BIN={Path(sys.executable).parent}", "INSTALLED=")
    make = ["make", "-C", "examples", "fits", *settings]
    done = subprocess.run(make, capture_output=True, text=True, timeout=120, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("examples/out/fits").iterdir()) == ["one.yaml", "two.yaml"]
    again = subprocess.run(make, capture_output=True, text=True, timeout=60, env=environment(), check=True)
    assert "mixtools fit" not in again.stdout


def test_it_runs_as_a_process(stems):
    result = process("fit", "stems", "record/mix.wav", *GAIN, "-q", "-o", "-")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(b"mixtools: 1\n")
