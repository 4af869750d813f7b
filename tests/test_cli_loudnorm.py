"""`mixtools loudnorm` through its real entry point: what it reaches, what it leaves alone, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import oracles
import pyloudnorm
import pytest
import soundfile
from cli_helpers import (
    Result,
    assert_unchanged,
    command,
    environment,
    noise,
    process,
    read,
    refused,
    run,
    snapshot,
    write,
)
from conftest import audio

from mixtools import levels, normalise, synth_song
from mixtools.errors import ParameterError
from mixtools.files.riff import Bext, read_header
from mixtools.measure.targets import TARGETS

RATE = 44100
KINDS = "WAV, FLAC, AIFF, OGG or MP3"

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def music(channels: int = 2, rate: int = RATE, seconds: float = 4.0, seed: int = 5) -> np.ndarray:
    """A synthesised song, its peak at -6 dBFS: as lively as a mix that was never limited."""
    stems = synth_song(seed, seconds=seconds, stems=8, rate=rate).stems.values()
    mix = sum(np.broadcast_to(stem, (2, stem.shape[1])) for stem in stems)[:channels]
    return (0.5 * mix / np.abs(mix).max()).astype(np.float32)


def steady(channels: int = 2, rate: int = RATE, seconds: float = 4.0, level: float = 0.1) -> np.ndarray:
    return noise(round(seconds * rate), channels, seed=1, level=level)


def lufs(x: np.ndarray, rate: int) -> float:
    """Loudness by an independent meter."""
    return pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(x.T.astype(np.float64))


def peak_dbtp(x: np.ndarray) -> float:
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 11)))
    return 20 * math.log10(oracles.true_peaks(padded).max())


def loudnorm(*arguments: str | Path, code: int = 0, new: tuple[str, ...] = (), stdin: bytes = b"") -> Result:
    """A run that ends in this code, writes the files `new`, and leaves all others as they were."""
    before = snapshot()
    result = run("loudnorm", *arguments, stdin=stdin)
    assert result.code == code, f"{result.code}: {result.err}"
    after = snapshot()
    assert {name for name in after.keys() - before.keys() if after[name] is not None} <= {*new} <= after.keys()
    assert {name for name in before if after[name] != before[name]} <= {*new}
    return result


# What it reaches


@pytest.mark.parametrize("bits, suffix", [("32f", "wav"), ("24", "wav"), ("16", "wav"), ("24", "flac"), ("16", "flac")])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_target_is_met_without_limiting(channels, bits, suffix):
    x = music(channels)
    write("in.wav", x)
    out = f"out.{suffix}"
    result = loudnorm("in.wav", "-t", "-30", "-o", out, "--bits", bits, new=(out,))
    y = read(out)
    assert lufs(y, RATE) == pytest.approx(-30, abs=0.05)
    assert f"mixtools: {out}: -30.0 LUFS, true peak " in result.err and "limited" not in result.err
    if bits == "32f":
        loud = np.abs(x) > 1e-3
        gains = y[loud].astype(np.float64) / x[loud]
        np.testing.assert_allclose(gains, np.median(gains), rtol=2e-7)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_target_is_met_after_limiting_under_the_ceiling(rate, channels):
    x = music(channels, rate)
    write("in.wav", x, rate)
    before = lufs(x, rate)
    target = before + 6.0 - 1.0 + 3.0  # the peak is at -6 dBFS: about 3 dB of limiting
    result = loudnorm("in.wav", "-t", f"{target:.2f}", "-o", "out.wav", new=("out.wav",))
    y = read("out.wav")
    assert y.shape == x.shape
    assert lufs(y, rate) == pytest.approx(target, abs=0.1)
    assert peak_dbtp(y) <= -1.0
    assert "limited by up to " in result.err


@pytest.mark.parametrize("bits", ["16", "24"])
def test_dither_does_not_lift_the_true_peak_over_the_ceiling(bits):
    write("in.wav", music())
    for peak in ("limit", "lower"):
        run("loudnorm", "in.wav", "-t", "-12", "--peak", peak, "--bits", bits, "-o", "out.wav", "--force", "-q")
        assert -1.01 < peak_dbtp(read("out.wav")) <= -1.0


def test_more_than_6_db_of_limiting_is_never_done():
    x = music()
    write("in.wav", x)
    result = loudnorm("in.wav", "-t", "-3", "-o", "out.wav", "--json", code=1, new=("out.wav",))
    facts = json.loads(result.out)
    y = read("out.wav")
    reached = lufs(y, RATE)
    assert facts["limiting_db"] == pytest.approx(6.0)
    assert facts["missed_lu"] == pytest.approx(-3 - reached, abs=1e-3) and facts["missed_lu"] > 0.1
    assert peak_dbtp(y) <= -1.0
    assert (
        f"mixtools: warning: out.wav: {-3 - reached:.1f} LU below -3: more would take over 6 dB of limiting; "
        "give a lower target, or compress it first\n" in result.err
    )


def test_peaks_can_be_left_or_lowered():
    x = music()
    write("in.wav", x)
    loudnorm("in.wav", "-t", "-5", "--peak", "ignore", "-o", "ignored.wav", new=("ignored.wav",))
    assert lufs(read("ignored.wav"), RATE) == pytest.approx(-5, abs=0.01)
    assert peak_dbtp(read("ignored.wav")) > 0
    result = loudnorm("in.wav", "-t", "-5", "--peak", "lower", "-o", "lowered.wav", new=("lowered.wav",))
    y = read("lowered.wav")
    assert peak_dbtp(y) == pytest.approx(-1.0, abs=1e-3) and peak_dbtp(y) <= -1.0
    below = -5 - lufs(y, RATE)
    assert f"lowered.wav: {below:.1f} LU below -5, so that no peak exceeds the ceiling" in result.err
    integers = loudnorm("in.wav", "-t", "-5", "--peak", "ignore", "--bits", "16", "-o", "c.wav", new=("c.wav",))
    assert "SAMPLES CLIPPED" in integers.err


@pytest.mark.parametrize("name", TARGETS)
def test_presets(name):
    write("in.wav", steady(level=0.02))
    loudnorm("in.wav", "--preset", name, "-o", "out.wav", new=("out.wav",))
    assert lufs(read("out.wav"), RATE) == pytest.approx(TARGETS[name].lufs, abs=0.1)


def test_a_target_and_a_true_peak_win_over_a_preset():
    write("in.wav", music())
    loudnorm("in.wav", "--preset", "ebu", "-t", "-15", "--true-peak", "-3", "-o", "out.wav", new=("out.wav",))
    y = read("out.wav")
    assert lufs(y, RATE) == pytest.approx(-15, abs=0.1)
    assert -3.01 < peak_dbtp(y) <= -3.0


def test_dual_mono_counts_3_lu_more():
    write("in.wav", steady(1))
    loudnorm("in.wav", "-t", "-20", "--dual-mono", "-o", "out.wav", new=("out.wav",))
    assert lufs(read("out.wav"), RATE) == pytest.approx(-20 - 10 * math.log10(2), abs=0.02)


def test_a_whole_array_from_python():
    x = music()
    assert levels(normalise(x, RATE, -14), RATE).integrated_lufs == pytest.approx(-14, abs=0.1)
    assert levels(normalise(x[0], RATE, -24), RATE).integrated_lufs == pytest.approx(-24, abs=0.01)
    silence = np.zeros((2, RATE), np.float32)
    np.testing.assert_array_equal(normalise(silence, RATE), silence)
    with pytest.raises(ParameterError, match="give finite samples"):
        normalise(np.full((1, 100), np.nan), RATE)


# What has no loudness


def test_what_has_no_loudness_is_passed_through_unchanged_and_named():
    write("in/silence.wav", np.zeros((2, RATE), np.float32))
    write("in/short.wav", steady(seconds=0.399))
    write("in/faint.wav", steady(level=1e-5))
    write("in/music.wav", steady())
    soundfile.write("in/quiet.flac", np.zeros((RATE, 1)), RATE, subtype="PCM_16")
    names = [f"{name}.wav" for name in ("faint", "music", "short", "silence")] + ["quiet.flac"]
    result = loudnorm("in", "-o", "out", new=tuple(f"out/{name}" for name in names))
    for name in set(names) - {"music.wav"}:
        assert Path("out", name).read_bytes() == Path("in", name).read_bytes(), name
    assert "mixtools: in/silence.wav: silence; passed through unchanged\n" in result.err
    assert (
        "mixtools: in/short.wav: shorter than 400 ms, too short to have a loudness; passed through unchanged\n"
        in result.err
    )
    assert (
        "mixtools: in/faint.wav: below -70 LUFS throughout, too quiet to have a loudness; passed through unchanged\n"
        in result.err
    )
    assert lufs(read("out/music.wav"), RATE) == pytest.approx(-16, abs=0.1)


def test_unchanged_samples_in_another_format():
    x = steady(seconds=0.3)
    write("in.wav", x)
    loudnorm("in.wav", "--bits", "24", "-o", "out.flac", new=("out.flac",))
    np.testing.assert_allclose(read("out.flac"), x, atol=3 / 2**23)


# Measuring


def test_measures_of_one_file_and_of_several():
    write("a.wav", steady(1))
    write("b.wav", np.zeros((2, RATE), np.float32))
    one = json.loads(loudnorm("a.wav", "--measure", "--json").out)
    assert one["integrated_lufs"] == pytest.approx(lufs(read("a.wav"), RATE), abs=1e-3)
    assert one["true_peak_dbtp"] == pytest.approx(peak_dbtp(read("a.wav")), abs=1e-6)
    assert (one["file"], one["seconds"], one["sample_rate"], one["channels"]) == ("a.wav", 4.0, RATE, 1)
    several = json.loads(loudnorm("b.wav", "a.wav", "--measure", "--json").out)
    assert [row["file"] for row in several] == ["b.wav", "a.wav"] and several[1] == one
    assert several[0]["integrated_lufs"] is None and several[0]["true_peak_dbtp"] is None
    folder = json.loads(loudnorm(".", "--measure", "--json").out)
    assert [row["file"] for row in folder] == ["a.wav", "b.wav"]
    rows = list(csv.DictReader(io.StringIO(loudnorm("a.wav", "b.wav", "--measure", "--csv").out.decode())))
    assert float(rows[0]["integrated_lufs"]) == one["integrated_lufs"]
    assert rows[1]["integrated_lufs"] == "" and rows[1]["file"] == "b.wav"
    table = loudnorm("a.wav", "b.wav", "--measure").out.decode().splitlines()
    assert table[0].split()[:3] == ["file", "length", "LUFS"]
    assert table[2].split()[:3] == ["a.wav", "0:04.0", f"{one['integrated_lufs']:.1f}"]
    assert set(table[3].split()[2:]) == {"–"}


def test_measures_of_a_sum():
    write("a.wav", steady(1))
    write("b.wav", steady(2, seconds=3))
    found = json.loads(loudnorm("a.wav", "b.wav", "--measure", "--together", "--json").out)
    total = np.tile(read("a.wav"), (2, 1)).astype(np.float64)
    total[:, : 3 * RATE] += read("b.wav")
    assert found["file"] == "sum of 2"
    assert found["integrated_lufs"] == pytest.approx(lufs(total, RATE), abs=0.01)


# Stems together


def test_stems_keep_their_balance():
    stems = {"a.wav": steady(1, level=0.3), "b.wav": music(2, seconds=3), "c.wav": steady(2, level=0.001)}
    for name, samples in stems.items():
        write(Path("stems", name), samples)
    result = loudnorm("stems", "--together", "-t", "-20", "-o", "out", new=tuple(f"out/{name}" for name in stems))
    total = np.zeros((2, 4 * RATE))
    gains = []
    for name, samples in stems.items():
        y = read(f"out/{name}")
        loud = np.abs(samples) > 0.1 * np.abs(samples).max()
        gains.append(np.median(y[loud].astype(np.float64) / samples[loud]))
        total[:, : y.shape[1]] += y
    np.testing.assert_allclose(gains, gains[0], rtol=1e-6)
    assert lufs(total, RATE) == pytest.approx(-20, abs=0.05)
    assert "mixtools: the sum of 3 files: -20.0 LUFS, true peak " in result.err


def test_stems_of_other_rates_are_summed_at_the_commonest():
    for name, rate in (("a.wav", 48000), ("b.wav", 44100), ("c.wav", 44100)):
        write(Path("stems", name), music(2, rate, seed=len(name)), rate)
    loudnorm("stems", "--together", "-t", "-30", "-o", "out", new=("out/a.wav", "out/b.wav", "out/c.wav"))
    found = json.loads(loudnorm("out", "--together", "--measure", "--json").out)
    assert found["integrated_lufs"] == pytest.approx(-30, abs=1e-3)
    assert found["sample_rate"] == 44100
    assert soundfile.info("out/a.wav").samplerate == 48000


def test_no_stem_nor_their_sum_exceeds_the_ceiling():
    write("stems/a.wav", steady(level=0.9))
    write("stems/b.wav", -read("stems/a.wav") + steady(level=0.01))
    result = loudnorm("stems", "--together", "-t", "-10", "-o", "out", new=("out/a.wav", "out/b.wav"))
    assert peak_dbtp(read("out/a.wav")) == pytest.approx(-1.0, abs=0.2)
    assert max(peak_dbtp(read(f"out/{name}.wav")) for name in "ab") <= -1.0
    assert "LU below -10, so that no peak exceeds the ceiling" in result.err
    loudnorm("stems", "--together", "--peak", "ignore", "-t", "-20", "-o", "loud", new=("loud/a.wav", "loud/b.wav"))
    assert peak_dbtp(read("loud/a.wav")) > 0


# Many files


def test_folders_in_and_folders_out():
    write("in/a.wav", steady())
    soundfile.write("in/b.flac", steady().T, RATE)
    soundfile.write("in/c.aiff", steady().T, RATE)
    soundfile.write("in/d.ogg", steady().T, RATE)
    new = ("out/a.wav", "out/b.flac", "out/c.wav", "out/d.wav")
    loudnorm("in", "-o", "out", "--jobs", "1", new=new)
    alone = snapshot("out")
    loudnorm("in", "-o", "out", "--jobs", "4", "--force", new=new)
    assert snapshot("out") == alone
    assert soundfile.info("out/b.flac").subtype == "PCM_24"
    for name in new:
        assert lufs(read(name), RATE) == pytest.approx(-16, abs=0.1)


def test_one_file_into_a_folder():
    write("a.wav", steady())
    Path("there").mkdir()
    loudnorm("a.wav", "-o", "there", new=("there/a.wav",))
    loudnorm("a.wav", "-o", "made/", new=("made/a.wav",))


def test_a_bad_file_does_not_stop_the_others():
    write("in/a.wav", steady())
    Path("in/b.wav").write_bytes(b"no audio at all")
    write("in/c.wav", steady())
    result = loudnorm("in", "-o", "out", code=1, new=("out/a.wav", "out/c.wav"))
    assert "mixtools: in/b.wav: is not audio that can be read; give " + KINDS in result.err
    assert len(json.loads(loudnorm("in", "--measure", "--json", code=1).out)) == 2


def test_outputs_that_are_there_are_kept():
    write("in/a.wav", steady())
    write("in/b.wav", steady())
    write("out/a.wav", steady(level=0.5))
    result = loudnorm("in", "-o", "out", code=1, new=("out/b.wav",))
    assert "mixtools: out/a.wav exists; give --force to overwrite it, or another name\n" in result.err
    loudnorm("in", "-o", "out", "--force", new=("out/a.wav", "out/b.wav"))


def test_a_dry_run_says_all_and_writes_nothing():
    write("in/a.wav", music())
    write("in/b.wav", np.zeros((1, RATE), np.float32))
    result = loudnorm("in", "-t", "-12", "-o", "out", "--dry-run")
    first, second = result.out.decode().splitlines()
    assert first.startswith("would write out/a.wav: -12.0 LUFS, true peak -1.0 dBTP (was ")
    assert ", limited by up to " in first
    assert second == "would write in/b.wav: silence; passed through unchanged"
    assert not Path("out").exists()


def test_tags_and_time_stamps_are_carried():
    bext = Bext(description="take 3", time_reference=12345)
    write("in.wav", steady(), tags={"title": "Song", "artist": "Someone"}, bext=bext)
    loudnorm("in.wav", "-o", "out.wav", new=("out.wav",))
    with open("out.wav", "rb") as file:
        assert read_header(file).bext == bext
    with soundfile.SoundFile("out.wav") as file:
        assert (file.title, file.artist) == ("Song", "Someone")


# Pipes


def test_a_pipe_in_and_a_pipe_out():
    write("in.wav", steady())
    through = loudnorm("-", "-t", "-20", "-o", "-", "-q", stdin=Path("in.wav").read_bytes())
    assert through.err == ""
    assert lufs(read(io.BytesIO(through.out)), RATE) == pytest.approx(-20, abs=0.01)
    loudnorm("in.wav", "-t", "-20", "-o", "out.wav", new=("out.wav",))
    assert Path("out.wav").read_bytes() == through.out
    measured = json.loads(loudnorm("-", "--measure", "--json", stdin=through.out).out)
    assert (measured["file"], round(measured["integrated_lufs"], 2)) == ("stdin", -20.0)


def test_stdin_is_not_kept(tmp_path, monkeypatch):
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    loudnorm("-", "--measure", stdin=b"no audio", code=3)
    loudnorm("-", "--measure", stdin=b"", code=3)
    write("in.wav", steady())
    loudnorm("-", "--measure", stdin=Path("in.wav").read_bytes())
    assert not list(spools.iterdir())


@posix
def test_an_interrupt_leaves_nothing_half_written():
    for index in range(6):
        write(f"in/{index}.wav", steady(seconds=30))
    before = snapshot()
    arguments = command("loudnorm", "in", "-o", "out", "--jobs", "1", "-q")
    with subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE) as running:
        ended = time.monotonic() + 60
        while not Path("out/1.wav").exists() and time.monotonic() < ended:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    whole = sorted(name for name in snapshot().keys() - before.keys() if name != "out")
    if running.returncode == 0:
        pytest.skip("it was done before the interrupt came")
    assert running.returncode == 130
    assert err.decode() == f"mixtools: interrupted; {len(whole)} files of 6 written, the others not\n"
    assert whole == [f"out/{index}.wav" for index in range(len(whole))]
    for name in whole:
        assert lufs(read(name), RATE) == pytest.approx(-16, abs=0.1)


@posix
def test_memory_does_not_grow_with_the_file():
    code = (
        "import resource, sys; from mixtools.cli.main import run; run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for minutes in (1, 20):
        write("long.wav", np.tile(steady(1, 8000, 60), (1, minutes)), 8000, force=True)
        arguments = ["loudnorm", "long.wav", "-t", "-12", "-o", "out.wav", "--force", "-q"]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    file_kilobytes = 20 * 60 * 8000 * 4 / 1024
    assert peaks[1] - peaks[0] < 0.5 * file_kilobytes, f"{peaks} KiB; {resource.getpagesize()} B pages"


# What it refuses


IN = ("in.wav", "-o", "out.wav")
REFUSED = {
    ("in.wav",): "-o is missing; give the name of a file or a folder, or --measure",
    ("in.wav", "--measure", "-o", "out.wav"): "--measure writes no audio, but -o names some; give one of them",
    ("in.wav", "--measure", "-t", "-16"): "--measure changes nothing, but --target says how to; give one of them",
    ("in.wav", "--measure", "--force"): "--measure changes nothing, but --force says how to; give one of them",
    (*IN, "--peak", "lowr"): "--peak is lowr; give lower",
    (*IN, "--csv"): "--csv is for --measure; give --json for what was done",
    ("in.wav", "--measure", "--csv", "--json"): "--csv and --json both write to stdout; give one",
    ("in.wav", "-o", "-", "--json"): "--json writes to stdout, and so does -o -; give one of them another place",
    ("in.wav", "in.wav", "-o", "-"): "-o - takes one file, and several are given; name a folder",
    (*IN, "-t", "nan"): "--target is nan; give -60 to 0",
    (*IN, "-t", "3"): "--target is 3; give -60 to 0",
    (*IN, "-t", "loud"): "--target is loud; give a number, -60 to 0",
    (*IN, "-t", ""): "--target is empty; give a number, -60 to 0",
    (*IN, "--true-peak", "0.1"): "--true-peak is 0.1; give -24 to 0",
    (*IN, "--preset", "strem"): "--preset is strem; give streaming",
    (*IN, "--preset", ""): "--preset is empty; give ebu, atsc, streaming, quiet-streaming, podcast, speech",
    (*IN, "--jobs", "0"): "--jobs is 0; give 1 to 1024",
    (*IN, "--bits", "20"): "--bits is 20; give 16, 24 or 32f",
    (*IN, "--together", "--peak", "limit"): (
        "--together with --peak limit would change the balance; give --peak lower or ignore"
    ),
    ("in.wav", "-o", "out.mp3"): "out.mp3: give a name that ends in .wav or .flac",
    ("in.wav", "-o", "gone/out.wav"): "gone/out.wav: the folder gone does not exist; create it, or give another name",
    ("in.wav", "other.wav", "-o", "gone/out"): "gone/out: the folder gone does not exist; create it",
    ("in.wav", "other.wav", "-o", "other.wav"): "other.wav is a file; give a folder for -o",
    ("in.wav", "-o", "in.wav", "--force"): "in.wav is an input of this run; give another name for the output",
    ("in.wav", "-o", "link.wav", "--force"): "link.wav is an input of this run; give another name for the output",
    ("in.wav", "-o", ".", "--force"): "in.wav is an input of this run; give another name for the output",
    ("in.wav", "twin/in.aiff", "-o", "out"): "out/in.wav would be written twice; give every output its own name",
    ("gone.wav", "-o", "out.wav"): f"gone.wav does not exist; give a {KINDS} file",
    ("", "-o", "out.wav"): "a file's name is empty; give an audio file, a folder, or - for stdin",
    ("-", "-", "-o", "out"): "- is there twice; stdin can be read once",
    ("empty", "-o", "out"): f"empty: holds no audio; give a folder of {KINDS} files",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_bad_command_lines(arguments):
    write("in.wav", steady(seconds=0.5))
    write("other.wav", steady(seconds=0.5))
    Path("twin").mkdir()
    Path("empty").mkdir()
    soundfile.write("twin/in.aiff", steady(seconds=0.5).T, RATE)
    Path("link.wav").symlink_to("in.wav")
    refused(REFUSED[arguments], *arguments, of="loudnorm", code=3 if arguments[0] == "empty" else 2)


def test_bad_files():
    Path("text.wav").write_text("no audio")
    refused(
        f"text.wav: is not audio that can be read; give {KINDS}", "text.wav", "-o", "out.wav", of="loudnorm", code=3
    )
    write("in.wav", np.full((1, RATE), np.nan, np.float32))
    before = snapshot()
    result = run("loudnorm", "in.wav", "-o", "out.wav")
    assert (result.code, "is not a number; give audio without NaN" in result.err) == (3, True)
    assert_unchanged(before)


def test_a_full_disk_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    write("in.wav", steady())
    result = process("loudnorm", "in.wav", "-o", "/dev/full", "-q")
    assert (result.code, result.err) == (1, "mixtools: /dev/full: could not be written: No space left on device\n")


def test_extremes_end_well():
    sounds = {
        "click": np.eye(1, RATE, RATE // 2, dtype=np.float32),
        "square": np.sign(np.sin(np.arange(2 * RATE) / 30))[None].astype(np.float32),
        "offset": np.full((2, 2 * RATE), 0.9, np.float32),
        "bursts": audio(3, 2, 2 * RATE, np.float32),
        "huge": 1e6 * steady(seconds=1),
    }
    for name, samples in sounds.items():
        write(f"{name}.wav", samples)
        result = run("loudnorm", f"{name}.wav", "-t", "-9", "-o", f"out-{name}.wav", "--json")
        assert result.code in (0, 1), f"{name}: {result.err}"
        assert b"NaN" not in result.out and b"Infinity" not in result.out, name
        facts = json.loads(result.out)
        y = read(f"out-{name}.wav")
        assert np.isfinite(y).all() and y.shape == samples.shape
        if facts["unchanged"] is None:
            assert peak_dbtp(y) <= -1.0 + 1e-6, name
            assert facts["missed_lu"] >= 0
