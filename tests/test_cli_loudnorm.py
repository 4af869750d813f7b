"""`mixtools loudnorm` through its real entry point: what it reaches, what it leaves alone, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import oracles
import pyloudnorm
import pytest
import soundfile
import soxr
from cli_helpers import (
    RATE,
    assert_unchanged,
    command,
    done,
    environment,
    noise,
    process,
    python,
    read,
    refused,
    run,
    snapshot,
    write,
)
from conftest import audio

from mixtools.controls import EFFECTS
from mixtools.files.reading import AudioFile
from mixtools.files.riff import Bext
from mixtools.files.writing import open_writer
from mixtools.measure.levels import levels
from mixtools.measure.targets import TARGETS
from mixtools.synth import synth_song

KINDS = "WAV, FLAC, AIFF, OGG or MP3"
TOO_SHORT = "shorter than 400 ms, too short to have a loudness"
TOO_QUIET = "below -70 LUFS throughout, too quiet to have a loudness"
LOUDEST_BEYOND_6_DB = "more would take over 6 dB of limiting; give a lower target, or compress it first"
NULLS = {
    "integrated_lufs": None,
    "momentary_max_lufs": None,
    "short_term_max_lufs": None,
    "range_lu": None,
    "sample_peak_dbfs": None,
    "true_peak_dbtp": None,
}

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to work in, and one beside it for what is kept from stdin."""
    (tmp_path / "here").mkdir()
    (tmp_path / "spool").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spool"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    yield
    assert list((tmp_path / "spool").iterdir()) == []


@cache
def stems(seed: int = 1) -> dict[str, np.ndarray]:
    """A synthesised song of three seconds."""
    song = synth_song(seed, seconds=3, stems=8)
    assert song.rate == RATE
    return song.stems


@cache
def music(channels: int = 2, rate: int = RATE, seed: int = 1) -> np.ndarray:
    """The song's sum, float32; its true peak is near full scale, its loudness near -13 LUFS."""
    stereo = sum(np.broadcast_to(stem, (2, stem.shape[1])) for stem in stems(seed).values())
    resampled = soxr.resample(stereo.T, RATE, rate).T if rate != RATE else stereo
    return (resampled if channels == 2 else resampled.mean(axis=0, keepdims=True)).astype(np.float32)


def file_of(name: str, bits: str = "32f", gain_db: float = 0.0, rate: int = RATE, channels: int = 2, **options) -> Path:
    return write(name, music(channels, rate) * np.float32(10 ** (gain_db / 20)), rate, bits, **options)


def lufs(x: np.ndarray, rate: int = RATE) -> float:
    """Integrated loudness by another's meter."""
    return pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(np.asarray(x, np.float64).T)


def true_peak_db(x: np.ndarray) -> float:
    """The true peak as the oracle has it, past the end too."""
    return 20 * np.log10(oracles.true_peaks(np.pad(np.asarray(x, np.float64), ((0, 0), (0, 12)))).max())


def beyond(x: np.ndarray, rate: int, ceiling_db: float, db: float) -> float:
    """A target so many dB louder than what fits under the ceiling without a limiter."""
    return round(lufs(x, rate) + ceiling_db - true_peak_db(x) + db, 3)


def assert_constant(y: np.ndarray, x: np.ndarray) -> float:
    """y is x times a constant, to the rounding of float32; which one, in dB."""
    assert y.shape == x.shape
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    constant = (x * y).sum() / (x * x).sum()
    np.testing.assert_allclose(y, constant * x, rtol=2e-7, atol=1e-38)
    return 20 * np.log10(constant)


def assert_scaled(output: str, source: str, gain_db: float) -> None:
    assert assert_constant(read(output), read(source)) == pytest.approx(gain_db, abs=1e-6)


def facts(*arguments: str | Path, new: tuple[str, ...], code: int = 0) -> dict | list:
    """What a run says about itself."""
    return json.loads(done(*arguments, "--json", "-q", of="loudnorm", new=new, code=code).out)


def silence(name: str, bits: str = "32f", frames: int = RATE) -> Path:
    """Silence; without dither, which is not."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, np.zeros(frames), RATE, {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}[bits])
    return Path(name)


# The target


FILES = [
    ("in.wav", "32f", 2, 44100),
    ("in.wav", "16", 1, 44100),
    ("in.wav", "24", 2, 48000),
    ("in.wav", "32f", 1, 8000),
    ("in.wav", "24", 2, 96000),
    ("in.flac", "16", 2, 48000),
    ("in.flac", "24", 1, 44100),
]


@pytest.mark.parametrize(("source", "bits", "channels", "rate"), FILES)
@pytest.mark.parametrize(("output", "kept"), [("out.wav", "32f"), ("out.wav", "16"), ("out.flac", "24")])
@pytest.mark.parametrize("limiting", [False, True], ids=["linear", "limited"])
def test_the_target_is_reached_under_the_ceiling(source, bits, channels, rate, output, kept, limiting):
    file_of(source, bits, -2.0, rate, channels)
    x = read(source)
    target = beyond(x, rate, -1.5, 2.0) if limiting else -23
    done(source, "-o", output, "-t", target, "--true-peak", "-1.5", "--bits", kept, of="loudnorm", new=(output,))
    y = read(output, "float64")
    assert y.shape == x.shape
    assert lufs(y, rate) == pytest.approx(target, abs=0.1)
    assert levels(y, rate).integrated_lufs == pytest.approx(target, abs=0.1)
    assert true_peak_db(y) <= -1.5
    with soundfile.SoundFile(output) as file:
        assert (file.samplerate, file.subtype) == (rate, {"32f": "FLOAT"}.get(kept, f"PCM_{kept}"))
    if not limiting and kept == "32f":
        assert_constant(y, x)


def test_what_is_said_of_a_gain():
    file_of("in.wav")
    x = music()
    result = done("in.wav", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    gain = -16 - lufs(x)
    assert (result.out, result.err) == (
        b"",
        f"mixtools: out.wav: -16.0 LUFS, true peak {true_peak_db(x) + gain:+.1f} dBTP "
        f"(was {lufs(x):.1f} LUFS, {true_peak_db(x):+.1f} dBTP); {gain:+.1f} dB\n",
    )
    assert_scaled("out.wav", "in.wav", gain)


def test_what_is_said_of_limiting():
    file_of("in.wav")
    result = done("in.wav", "-o", "out.wav", "-t", "-11", of="loudnorm", new=("out.wav",))
    found = re.search(
        r"out.wav: -11.0 LUFS, true peak -1.0 dBTP \(.*\); \+(.*) dB, limited by up to (.*) dB\n", result.err
    )
    gain, limiting = map(float, found.groups())
    assert gain > -11 - lufs(music())
    assert limiting == pytest.approx(true_peak_db(music()) + gain + 1, abs=0.1)


def test_limiting_is_the_consoles_limiter():
    file_of("in.wav", rate=8000, channels=1)
    plan = facts("in.wav", "-o", "out.wav", "-t", beyond(music(1, 8000), 8000, -1, 2), new=("out.wav",))
    louder = music(1, 8000) * 10 ** (plan["gain_db"] / 20)
    expected = oracles.limiter(louder, 8000, -1.0, EFFECTS["limiter"]["release_ms"].default)
    np.testing.assert_allclose(read("out.wav"), expected, atol=2e-6)


def test_beyond_6_db_of_limiting_the_file_stays_below():
    file_of("in.wav")
    result = done("in.wav", "-o", "out.wav", "-t", "-2", of="loudnorm", new=("out.wav",), code=1)
    y = read("out.wav")
    assert true_peak_db(y) <= -1
    said, warned = result.err.splitlines()
    assert f"out.wav: {lufs(y):.1f} LUFS, true peak -1.0 dBTP" in said
    assert f"; {5 - true_peak_db(music()):+.1f} dB, limited by up to 6.0 dB" in said
    assert warned == f"mixtools: warning: out.wav: {-2 - lufs(y):.1f} LU below -2: {LOUDEST_BEYOND_6_DB}"


def test_the_most_limiting_is_used_before_a_target_is_missed():
    file_of("in.wav")
    most = facts("in.wav", "-o", "out.wav", "-t", "0", new=("out.wav",), code=1)
    reached = most["after"]["integrated_lufs"]
    assert most["limiting_db"] == pytest.approx(6, abs=1e-9)
    assert most["missed_lu"] == pytest.approx(-reached, abs=1e-9)
    met = facts("in.wav", "-o", "met.wav", "-t", f"{reached - 0.1:.4f}", new=("met.wav",))
    assert met["missed_lu"] == 0 and 5.5 < met["limiting_db"] <= 6


def test_lower_takes_the_gain_back():
    file_of("in.wav")
    result = done("in.wav", "-o", "out.wav", "-t", "-10", "--peak", "lower", of="loudnorm", new=("out.wav",))
    gain = assert_constant(read("out.wav"), music())
    assert true_peak_db(read("out.wav")) == pytest.approx(-1, abs=1e-4)
    assert true_peak_db(read("out.wav")) <= -1
    missed = -10 - (lufs(music()) + gain)
    assert result.err.endswith(f"mixtools: out.wav: {missed:.1f} LU below -10, so that no peak exceeds the ceiling\n")


def test_ignore_lets_the_peak_pass():
    file_of("in.wav")
    done("in.wav", "-o", "out.wav", "-t", "-5", "--peak", "ignore", of="loudnorm", new=("out.wav",))
    assert_scaled("out.wav", "in.wav", -5 - lufs(music()))
    assert true_peak_db(read("out.wav")) > 3


def test_samples_that_clip_are_counted():
    file_of("in.wav")
    result = done(
        *("in.wav", "-o", "out.wav", "-t", "-5", "--peak", "ignore", "--bits", "16"), of="loudnorm", new=("out.wav",)
    )
    loudest = 20 * np.log10(np.abs(music()).max()) - 5 - lufs(music())
    clipped = int((np.abs(music()) * 10 ** ((-5 - lufs(music())) / 20) > 1).sum())
    assert result.err.splitlines()[1] == (
        f"mixtools: warning: out.wav: {clipped} SAMPLES CLIPPED, the loudest by {loudest:.1f} dB; "
        f"lower the target by {np.ceil(loudest * 10) / 10:.1f} LU, or give --bits 32f"
    )


def test_a_ceiling_that_is_met_without_a_limiter_needs_none():
    file_of("in.wav")
    ceiling = -16 - lufs(music()) + true_peak_db(music()) + 0.001
    plan = facts("in.wav", "-o", "out.wav", "-t", "-16", "--true-peak", f"{ceiling:.6f}", new=("out.wav",))
    assert (plan["limiting_db"], plan["missed_lu"]) == (0, 0)
    assert_constant(read("out.wav"), music())


def test_a_peak_exactly_at_the_ceiling():
    """Whatever is left of rounding, it is no negative limiting."""
    file_of("in.wav")
    before = json.loads(run("loudnorm", "in.wav", "--measure", "--json").out)
    for ceiling in np.array([-1e-5, -5e-6, 0, 5e-6, 1e-5]) + before["true_peak_dbtp"] - 20 - before["integrated_lufs"]:
        plan = facts("in.wav", "-o", "out.wav", "-t", "-20", f"--true-peak={ceiling:.9f}", "--force", new=("out.wav",))
        assert plan["limiting_db"] >= 0
        assert true_peak_db(read("out.wav")) <= ceiling + 1e-6


def test_infrasound_that_limiting_makes_inaudible():
    """K-weighting hardly hears 1 Hz: at -24 dBTP it is below the absolute gate."""
    write("in.wav", np.sin(2 * np.pi * np.arange(80000) / 8000)[None], 8000)
    result = done(
        *("in.wav", "-o", "out.wav", "-t", "-60", "--true-peak", "-24"), of="loudnorm", new=("out.wav",), code=1
    )
    assert "out.wav: no loudness left, true peak -24.0 dBTP" in result.err


@pytest.mark.parametrize("preset", TARGETS)
def test_presets(preset):
    file_of("in.wav", gain_db=-3)
    done("in.wav", "-o", "out.wav", "--preset", preset, of="loudnorm", new=("out.wav",))
    assert lufs(read("out.wav")) == pytest.approx(TARGETS[preset].lufs, abs=0.03)
    assert true_peak_db(read("out.wav")) <= TARGETS[preset].true_peak_dbtp


def test_numbers_win_over_a_preset():
    file_of("in.wav")
    plan = facts("in.wav", "-o", "a.wav", "--preset", "atsc", "-t", "-12", new=("a.wav",))
    assert plan["after"]["integrated_lufs"] == pytest.approx(-12, abs=0.03)
    assert plan["after"]["true_peak_dbtp"] <= -2
    plan = facts("in.wav", "-o", "b.wav", "--preset", "atsc", "--true-peak", "0", "-t", "-12", new=("b.wav",))
    assert -0.1 < plan["after"]["true_peak_dbtp"] <= 0
    plan = facts("in.wav", "-o", "c.wav", "--true-peak", "-12", "--preset", "atsc", new=("c.wav",))
    assert plan["after"]["integrated_lufs"] == pytest.approx(-24, abs=0.03)
    assert plan["after"]["true_peak_dbtp"] <= -12


def test_dual_mono_is_3_lu_louder():
    file_of("in.wav", channels=1)
    done("in.wav", "-o", "out.wav", "-t", "-23", "--dual-mono", of="loudnorm", new=("out.wav",))
    y = read("out.wav")
    assert lufs(np.concatenate([y, y])) == pytest.approx(-23, abs=1e-3)
    file_of("stereo.wav")
    one, other = (run("loudnorm", "stereo.wav", "--measure", *more).out for more in ((), ("--dual-mono",)))
    assert one == other


def test_very_loud_float_files():
    write("in.wav", 1e30 * music())
    done("in.wav", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    assert lufs(read("out.wav")) == pytest.approx(-16, abs=1e-3)


# Measuring


def test_measuring_one_file():
    file_of("in.wav")
    before = snapshot()
    result = run("loudnorm", "in.wav", "--measure", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert list(found) == ["file", "seconds", "sample_rate", "channels", *NULLS]
    assert (found["file"], found["seconds"], found["sample_rate"], found["channels"]) == ("in.wav", 3.0, RATE, 2)
    assert found["integrated_lufs"] == pytest.approx(lufs(music()), abs=1e-4)
    assert found["sample_peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(music()).max()), abs=1e-6)
    assert found["true_peak_dbtp"] == pytest.approx(true_peak_db(music()), abs=1e-4)
    assert_unchanged(before)


def test_measuring_a_folder():
    file_of("songs/b.wav")
    file_of("songs/a.flac", "24", -6)
    silence("songs/c.wav")
    result = run("loudnorm", "songs", "--measure", "--json")
    found = json.loads(result.out)
    assert [row["file"] for row in found] == [os.path.join("songs", name) for name in ("a.flac", "b.wav", "c.wav")]
    assert {key: found[2][key] for key in NULLS} == NULLS
    assert found[1]["integrated_lufs"] - found[0]["integrated_lufs"] == pytest.approx(6, abs=1e-3)
    rows = list(csv.DictReader(io.StringIO(run("loudnorm", "songs", "--measure", "--csv").out.decode())))
    assert rows == [{key: "" if value is None else str(value) for key, value in row.items()} for row in found]
    single = run("loudnorm", "songs/b.wav", "--measure", "--json")
    assert json.loads(single.out) == found[1]


def test_a_folder_of_one_file_is_a_list():
    file_of("songs/a.wav")
    assert isinstance(json.loads(run("loudnorm", "songs", "--measure", "--json").out), list)


def test_the_table():
    write("a.wav", np.tile(0.5 * np.sin(2 * np.pi * 1000 / RATE * np.arange(4 * RATE)), (2, 1)))
    silence("b.wav")
    lines = run("loudnorm", "a.wav", "b.wav", "--measure").out.decode().splitlines()
    head, _, one, other = (line for line in lines if line.strip())
    columns = ["file", "length", "LUFS", "momentary max", "short-term max", "range LU", "peak dBFS", "true peak dBTP"]
    assert re.split(r"  +", head) == columns
    assert one.split() == ["a.wav", "0:04.0", "-6.0", "-6.0", "-6.0", "0.0", "-6.0", "-6.0"]
    assert other.split() == ["b.wav", "0:01.0", *"––––––"]


def test_what_a_short_file_lacks():
    write("half.wav", noise(RATE // 2))
    write("blink.wav", noise(RATE // 10))
    half, blink = json.loads(run("loudnorm", "half.wav", "blink.wav", "--measure", "--json").out)
    assert [key for key, value in half.items() if value is None] == ["short_term_max_lufs", "range_lu"]
    assert [key for key, value in blink.items() if value is None] == list(NULLS)[:4]


def test_measuring_the_sum():
    for name, samples in stems().items():
        write(f"stems/{name}", samples)
    result = run("loudnorm", "stems", "--measure", "--together", "--json")
    found = json.loads(result.out)
    assert (found["file"], found["channels"], found["seconds"]) == ("sum of 8", 2, 3.0)
    assert found["integrated_lufs"] == pytest.approx(lufs(music()), abs=1e-4)
    assert found["true_peak_dbtp"] == pytest.approx(true_peak_db(music()), abs=1e-4)


def test_measuring_goes_on_after_a_bad_file():
    file_of("a.wav")
    Path("b.wav").write_text("boom")
    result = run("loudnorm", "b.wav", "a.wav", "c.wav", "--measure", "--csv")
    assert result.code == 1
    assert result.err == (
        f"mixtools: b.wav: is not audio that can be read; give {KINDS}\n"
        f"mixtools: c.wav does not exist; give a {KINDS} file\n"
    )
    assert [line.partition(",")[0] for line in result.out.decode().splitlines()] == ["file", "a.wav"]


def test_measuring_nothing_but_bad_files():
    Path("songs").mkdir()
    Path("songs/b.wav").write_text("boom")
    result = run("loudnorm", "songs", "--measure", "--json")
    assert (result.code, json.loads(result.out)) == (1, [])
    assert run("loudnorm", "songs", "--measure").out == b""


# Stems


def test_together_keeps_the_balance():
    for name, samples in stems().items():
        write(f"stems/{name}", samples)
    result = done("stems", "--together", "-t", "-20", "-o", "level", of="loudnorm", new=level_of(stems()))
    gain = -20 - lufs(music())
    for name, samples in stems().items():
        assert assert_constant(read(f"level/{name}"), samples) == pytest.approx(gain, abs=1e-6)
    total = sum(np.broadcast_to(read(f"level/{name}"), music().shape).astype(np.float64) for name in stems())
    assert lufs(total) == pytest.approx(-20, abs=1e-3)
    told = result.err.splitlines()
    assert told[:8] == [f"mixtools: level/{name}: {gain:+.1f} dB" for name in sorted(stems())]
    assert told[8].startswith("mixtools: the sum of 8 files: -20.0 LUFS, true peak ") and len(told) == 9


def level_of(names, folder: str = "level") -> tuple[str, ...]:
    return tuple(os.path.join(folder, name) for name in names)


def test_together_lowers_rather_than_limits():
    for name, samples in stems().items():
        write(f"stems/{name}", samples)
    result = done("stems", "--together", "-t", "-8", "-o", "level", of="loudnorm", new=level_of(stems()))
    total = sum(np.broadcast_to(read(f"level/{name}"), music().shape).astype(np.float64) for name in stems())
    assert true_peak_db(total) == pytest.approx(-1, abs=1e-3)
    missed = -8 - lufs(total)
    assert result.err.endswith(f"mixtools: warning: {missed:.1f} LU below -8, so that no peak exceeds the ceiling\n")


def test_together_refuses_to_limit():
    file_of("in.wav")
    refused(
        "--together with --peak limit would change the balance; give --peak lower or ignore",
        *("in.wav", "--together", "--peak", "limit", "-o", "level"),
        of="loudnorm",
    )


def test_together_at_other_rates_and_lengths():
    """The sum is that of `mix`: resampled to the most common rate, mono on both sides, silence after the end."""
    write("stems/a.wav", noise(2 * 48000, 2, seed=1), 48000)
    write("stems/b.wav", noise(48000, 1, seed=2), 48000)
    write("stems/c.wav", noise(3 * 44100, 1, seed=3), 44100)
    plan = facts("stems", "--together", "-o", "level", new=level_of(["a.wav", "b.wav", "c.wav"]))
    for name in "abc":
        assert_scaled(f"level/{name}.wav", f"stems/{name}.wav", plan["gain_db"])
    done("level", "-q")
    assert lufs(read("mix.wav"), 48000) == pytest.approx(-16, abs=0.01)
    assert [item["output"] for item in plan["files"]] == [f"level/{name}.wav" for name in "abc"]


def test_together_no_stem_exceeds_the_ceiling():
    """Two stems that nearly cancel: their sum is low, they are not."""
    x = music()
    write("stems/a.wav", x)
    write("stems/b.wav", -0.9 * x)
    done("stems", "--together", "-t", "-14", "-o", "level", of="loudnorm", new=level_of(["a.wav", "b.wav"]))
    assert true_peak_db(read("level/a.wav")) == pytest.approx(-1, abs=1e-3)
    assert assert_constant(read("level/a.wav"), x) == pytest.approx(assert_constant(read("level/b.wav"), -0.9 * x))


def test_together_no_stem_of_another_rate_exceeds_the_ceiling():
    """Clicks lose most of their height in a lower rate's sum, but not in their own file."""
    clicks = np.zeros((1, 2 * 96000), np.float32)
    clicks[0, 5000::9601] = 0.9
    write("stems/a.wav", noise(2 * 48000, 2), 48000)
    write("stems/b.wav", noise(2 * 48000, 2, seed=1), 48000)
    write("stems/c.wav", clicks, 96000)
    done("stems", "--together", "-t", "0", "-o", "level", of="loudnorm", new=level_of(["a.wav", "b.wav", "c.wav"]))
    assert true_peak_db(read("level/c.wav")) == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [((noise(1000), noise(1000)), TOO_SHORT), ((noise(RATE), -noise(RATE)), "silence")],
    ids=["short", "cancelled"],
)
def test_together_without_a_loudness(samples, reason):
    for name, stem in zip("ab", samples, strict=True):
        write(f"stems/{name}.wav", stem)
    result = done("stems", "--together", "-o", "level", of="loudnorm", new=level_of(["a.wav", "b.wav"]))
    assert result.err == "".join(f"mixtools: stems/{name}.wav: {reason}; passed through unchanged\n" for name in "ab")
    for name in "ab":
        assert Path(f"level/{name}.wav").read_bytes() == Path(f"stems/{name}.wav").read_bytes()


def test_together_is_all_or_nothing():
    """One bad stem, or one output that is there: a level of the others would be another sum's."""
    for name in "ab":
        write(f"stems/{name}.wav", noise(RATE))
    write("level/b.wav", noise(10))
    there = "level/b.wav exists; give --force to overwrite it, or another name"
    refused(there, "stems", "--together", "-o", "level", of="loudnorm")
    Path("stems/c.wav").write_text("boom")
    bad = f"stems/c.wav: is not audio that can be read; give {KINDS}"
    refused(bad, "stems", "--together", "-o", "new", of="loudnorm", code=3)


# What has no loudness


@pytest.mark.parametrize(
    ("suffix", "bits"), [(".wav", "16"), (".wav", "24"), (".wav", "32f"), (".flac", "16"), (".flac", "24")]
)
def test_silence_passes_unchanged(suffix, bits):
    silence(f"in{suffix}", bits)
    result = done(f"in{suffix}", "-o", f"out{suffix}", of="loudnorm", new=(f"out{suffix}",))
    assert result.err == f"mixtools: in{suffix}: silence; passed through unchanged\n"
    assert Path(f"out{suffix}").read_bytes() == Path(f"in{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("samples", "reason"),
    [(noise(round(0.399 * RATE)), TOO_SHORT), (noise(1), TOO_SHORT), (noise(RATE, level=1e-4), TOO_QUIET)],
    ids=["short", "one sample", "quiet"],
)
def test_what_has_no_loudness_passes_unchanged(samples, reason):
    write("in.wav", samples)
    result = done("in.wav", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    assert result.err == f"mixtools: in.wav: {reason}; passed through unchanged\n"
    assert Path("out.wav").read_bytes() == Path("in.wav").read_bytes()


def test_400_ms_are_enough():
    write("in.wav", noise(round(0.4 * RATE)))
    done("in.wav", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    assert lufs(read("out.wav")) == pytest.approx(-16, abs=0.01)


def test_silence_to_another_kind_of_file():
    silence("in.flac", "16")
    done("in.flac", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    np.testing.assert_array_equal(read("out.wav"), np.zeros((1, RATE)))
    result = done("in.flac", "-o", "-", "--json", "--dry-run", of="loudnorm", new=())
    assert json.loads(result.out)["unchanged"] == "silence"


def test_silence_among_music():
    file_of("songs/a.wav")
    silence("songs/b.wav")
    result = done("songs", "-o", "even", of="loudnorm", new=("even/a.wav", "even/b.wav"))
    assert result.err.splitlines()[1] == "mixtools: songs/b.wav: silence; passed through unchanged"
    assert lufs(read("even/a.wav")) == pytest.approx(-16, abs=0.01)
    assert Path("even/b.wav").read_bytes() == Path("songs/b.wav").read_bytes()


def test_what_is_too_short_and_clips():
    write("in.wav", noise(1000, level=2.0))
    result = done("in.wav", "-o", "out.wav", "--bits", "16", of="loudnorm", new=("out.wav",))
    assert re.search(
        r"SAMPLES CLIPPED, the loudest by 6.0 dB; lower it by 6.\d dB first, or give --bits 32f", result.err
    )


# Names


def test_folders_in_folders_out():
    file_of("songs/a.wav")
    file_of("songs/b.flac", "16")
    music_ = music().T
    soundfile.write("songs/c.mp3", 0.5 * music_, RATE)
    soundfile.write("songs/d.ogg", 0.5 * music_, RATE)
    soundfile.write("songs/e.aiff", 0.5 * music_, RATE)
    file_of("other/f.WAV.wav")
    Path("songs/notes.txt").write_text("loud")
    names = ("a.wav", "b.flac", "c.wav", "d.wav", "e.wav", "f.WAV.wav")
    done("songs", "other/f.WAV.wav", "-o", "even", of="loudnorm", new=level_of(names, "even"))
    for name in names:
        assert lufs(read(f"even/{name}")) == pytest.approx(-16, abs=0.05)


def test_one_file_into_a_folder():
    file_of("in.wav")
    Path("there").mkdir()
    done("in.wav", "-o", "there", of="loudnorm", new=("there/in.wav",))
    done("in.wav", "-o", "new/", of="loudnorm", new=("new/in.wav",))
    assert Path("there/in.wav").read_bytes() == Path("new/in.wav").read_bytes()


@pytest.mark.parametrize(
    "named", [("a/x.wav", "b/x.wav"), ("a/x.wav", "a/x.mp3"), ("a/x.wav", "a"), ("a/x.wav", "a/x.wav")], ids=" ".join
)
def test_two_inputs_that_would_be_one_output(named):
    file_of("a/x.wav")
    file_of("b/x.wav")
    soundfile.write("a/x.mp3", 0.5 * music().T, RATE)
    refused("even/x.wav would be written twice; give every output its own name", *named, "-o", "even", of="loudnorm")


IS_INPUT = "is an input of this run; give another name for the output"


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize("output", ["songs/a.wav", "songs/../songs/a.wav", "link.wav", "folder/a.wav"])
def test_the_output_is_the_input(output, force):
    file_of("songs/a.wav")
    Path("link.wav").symlink_to("songs/a.wav")
    Path("folder").symlink_to("songs")
    refused(f"{output} {IS_INPUT}", "songs/a.wav", "-o", output, *force, of="loudnorm")


@pytest.mark.parametrize("folder", ["songs", "songs/", "folder"])
def test_the_output_folder_is_the_input_folder(folder):
    file_of("songs/a.wav")
    Path("folder").symlink_to("songs")
    refused(f"{Path(folder) / 'a.wav'} {IS_INPUT}", "songs", "-o", folder, "--force", of="loudnorm")


def test_the_output_exists():
    file_of("in.wav")
    write("out.wav", noise(10))
    refused("out.wav exists; give --force to overwrite it, or another name", "in.wav", "-o", "out.wav", of="loudnorm")
    done("in.wav", "-o", "out.wav", "--force", of="loudnorm", new=("out.wav",))
    assert lufs(read("out.wav")) == pytest.approx(-16, abs=0.01)


def test_one_output_of_several_exists():
    for name in "ab":
        file_of(f"songs/{name}.wav")
    write("even/a.wav", noise(10))
    result = done("songs", "-o", "even", "-q", of="loudnorm", new=("even/b.wav",), code=1)
    assert result.err == "mixtools: even/a.wav exists; give --force to overwrite it, or another name\n"


BAD_OUTPUTS = {
    "missing/out.wav": "missing/out.wav: the folder missing does not exist; create it, or give another name",
    "missing/new/": "missing/new: the folder missing does not exist; create it",
    "out.mp3": "out.mp3: give a name that ends in .wav or .flac",
    "out": "out: give a name that ends in .wav or .flac",
    "in.wav/": "in.wav is a file; give a folder for -o",
    "": "-o is empty; give the name of a file or a folder, or - for stdout",
}


@pytest.mark.parametrize("source", ["in.wav", "in.mp3"])
@pytest.mark.parametrize("output", BAD_OUTPUTS)
def test_outputs_that_cannot_be(source, output):
    """Silence too, which would only be copied."""
    write("in.wav", noise(RATE))
    soundfile.write("in.mp3", np.zeros(RATE), RATE)
    refused(BAD_OUTPUTS[output], source, "-o", output, of="loudnorm")


def test_a_bad_output_is_found_before_the_file_is_read():
    """What is wrong with the samples is found while measuring."""
    samples = noise(RATE)
    samples[0, -1] = np.nan
    write("in.wav", samples)
    write("out.wav", noise(10))
    refused("out.wav exists; give --force to overwrite it, or another name", "in.wav", "-o", "out.wav", of="loudnorm")
    refused(
        "out.flac: FLAC holds 16 or 24 bits; give --bits 24",
        *("in.wav", "-o", "out.flac", "--bits", "32f"),
        of="loudnorm",
    )


def test_several_files_and_one_name():
    file_of("a.wav")
    file_of("b.wav")
    write("out.wav", noise(10))
    refused("out.wav is a file; give a folder for -o", "a.wav", "b.wav", "-o", "out.wav", of="loudnorm")
    refused("-o - takes one file, and several are given; name a folder", "a.wav", "b.wav", "-o", "-", of="loudnorm")


def test_a_folder_that_nothing_comes_to_lie_in_goes_again():
    Path("songs").mkdir()
    Path("songs/a.wav").write_text("boom")
    before = snapshot()
    assert run("loudnorm", "songs", "-o", "even").code == 1
    assert_unchanged(before)


# Pipes


def test_stdin_to_stdout():
    file_of("in.wav")
    done("in.wav", "-o", "out.wav", of="loudnorm", new=("out.wav",))
    result = done("-", "-o", "-", stdin=Path("in.wav").read_bytes(), of="loudnorm", new=())
    assert result.out == Path("out.wav").read_bytes()
    assert result.err.startswith("mixtools: stdout: -16.0 LUFS, true peak ")


def test_stdin_into_a_folder():
    file_of("in.flac", "16")
    file_of("other.wav")
    named = ("-", "other.wav", "-o", "even")
    done(*named, stdin=Path("in.flac").read_bytes(), of="loudnorm", new=("even/stdin.wav", "even/other.wav"))
    assert lufs(read("even/stdin.wav")) == pytest.approx(-16, abs=0.01)


def test_silence_from_stdin_to_stdout():
    silence("in.wav", "16")
    result = done("-", "-o", "-", stdin=Path("in.wav").read_bytes(), of="loudnorm", new=())
    np.testing.assert_array_equal(read(io.BytesIO(result.out)), np.zeros((1, RATE)))
    assert result.err == "mixtools: stdin: silence; passed through unchanged\n"


def test_a_length_that_the_writer_of_the_pipe_did_not_know():
    """As ffmpeg writes WAV into a pipe."""
    write("in.wav", music(), bits="16")
    data = Path("in.wav").read_bytes()
    at = data.index(b"data")
    unknown = b"\xff" * 4
    piped = data[:4] + unknown + data[8 : at + 4] + unknown + data[at + 8 :]
    done("-", "-o", "out.wav", stdin=piped, of="loudnorm", new=("out.wav",))
    assert read("out.wav").shape == music().shape


@pytest.mark.parametrize("arguments", [("--measure",), ("-o", "out.wav"), ("-o", "even/"), ("-o", "-")], ids=" ".join)
@pytest.mark.parametrize(
    ("given", "line"),
    [
        (b"", f"stdin: is empty; give a {KINDS} file"),
        (b"boom", f"stdin: is not audio that can be read; give {KINDS}"),
    ],
    ids=["empty", "text"],
)
def test_stdin_is_no_audio(given, line, arguments):
    refused(line, "-", *arguments, stdin=given, code=3, of="loudnorm")


def test_stdin_twice():
    file_of("in.wav")
    data = Path("in.wav").read_bytes()
    refused("- is there twice; stdin can be read once", "-", "-", "-o", "even", stdin=data, of="loudnorm")


def test_the_next_name_after_stdin_is_wrong():
    file_of("in.wav")
    line = "a file's name is empty; give an audio file, a folder, or - for stdin"
    refused(line, "-", "", "-o", "even", stdin=Path("in.wav").read_bytes(), of="loudnorm")


@posix
def test_a_real_pipe():
    file_of("in.wav")
    mixed = process("mix", "in.wav", "--baseline", "sum", "-o", "-", "-q")
    result = process("loudnorm", "-", "-o", "-", "-q", stdin=mixed.out)
    assert (result.code, result.err) == (0, "")
    assert lufs(read(io.BytesIO(result.out))) == pytest.approx(-16, abs=0.01)


# Batches


def test_a_bad_file_among_good_ones():
    for name in "ad":
        file_of(f"songs/{name}.wav")
    Path("songs/b.wav").write_text("boom")
    broken = music().copy()
    broken[1, 100_000] = np.nan
    write("songs/c.wav", broken)
    named = ("songs", "songs/gone.wav", "-o", "even", "-q")
    result = done(*named, of="loudnorm", new=("even/a.wav", "even/d.wav"), code=1)
    assert result.err == (
        f"mixtools: songs/b.wav: is not audio that can be read; give {KINDS}\n"
        "mixtools: songs/c.wav: sample 100000 (at 2.268 s) is not a number; "
        "give audio without NaN or infinite samples\n"
        f"mixtools: songs/gone.wav does not exist; give a {KINDS} file\n"
    )


@pytest.mark.parametrize(
    ("name", "line", "code"),
    [
        ("gone.wav", f"gone.wav does not exist; give a {KINDS} file", 2),
        ("text.wav", f"text.wav: is not audio that can be read; give {KINDS}", 3),
        ("eight.wav", "eight.wav: has 8 channels; give mono or stereo", 3),
        ("empty.wav", f"empty.wav: is empty; give a {KINDS} file", 3),
        ("nothing.wav", "nothing.wav: has no samples; give a file that holds some", 3),
        ("bare", f"bare: holds no audio; give a folder of {KINDS} files", 3),
    ],
)
@pytest.mark.parametrize("arguments", [("-o", "out.wav"), ("--measure",)], ids=["-o", "--measure"])
def test_a_single_bad_input(name, line, code, arguments):
    Path("text.wav").write_text("boom")
    write("eight.wav", noise(100, 8))
    Path("empty.wav").touch()
    write("nothing.wav", noise(0))
    Path("bare").mkdir()
    refused(line, name, *arguments, code=code, of="loudnorm")


def test_a_cut_file_leaves_nothing_half_written():
    soundfile.write("in.flac", music().T, RATE)
    os.truncate("in.flac", os.path.getsize("in.flac") // 2)
    before = snapshot()
    result = run("loudnorm", "in.flac", "-o", "out.wav")
    assert (result.code, result.out) == (3, b"")
    assert "in.flac: " in result.err and "copy it again" in result.err
    assert_unchanged(before)


@pytest.mark.parametrize("bits", ["16", "32f"])
def test_jobs_change_nothing(bits):
    for i in range(4):
        file_of(f"songs/{i}.wav", gain_db=-3.0 * i)
    told = []
    for jobs in "14":
        new = tuple(f"even{jobs}/{i}.wav" for i in range(4))
        result = done("songs", "-o", f"even{jobs}", "-t", "-11", "--bits", bits, "-j", jobs, of="loudnorm", new=new)
        told.append(result.err.replace(f"even{jobs}", "even"))
    assert told[0] == told[1]
    for i in range(4):
        assert Path(f"even1/{i}.wav").read_bytes() == Path(f"even4/{i}.wav").read_bytes()


def test_missed_targets_in_a_batch_are_failures():
    file_of("songs/a.wav")
    file_of("songs/b.wav", gain_db=-20)
    result = done("songs", "-o", "even", "-t", "-3", of="loudnorm", new=("even/a.wav", "even/b.wav"), code=1)
    assert result.err.count(LOUDEST_BEYOND_6_DB) == 2


# What is said


def test_quiet():
    file_of("in.wav")
    result = done("in.wav", "-o", "out.wav", "-t", "0", "-q", of="loudnorm", new=("out.wav",), code=1)
    assert (result.out, result.err) == (b"", "")


def test_what_was_done_as_json():
    file_of("in.wav")
    plan = facts("in.wav", "-o", "out.wav", new=("out.wav",))
    assert list(plan) == ["file", "output", "gain_db", "limiting_db", "missed_lu", "unchanged", "before", "after"]
    assert (plan["file"], plan["output"], plan["unchanged"]) == ("in.wav", "out.wav", None)
    found = json.loads(run("loudnorm", "out.wav", "--measure", "--json").out)
    assert plan["after"] == pytest.approx({key: found[key] for key in plan["after"]}, abs=1e-5)


def test_dry_run():
    file_of("songs/a.wav")
    silence("songs/b.wav")
    for output in ("new", "out/new"):
        Path("out").mkdir(exist_ok=True)
        result = done("songs", "-o", output, "--dry-run", of="loudnorm", new=())
        assert result.err == ""
        one, other = result.out.decode().splitlines()
        assert one.startswith(f"would write {output}/a.wav: -16.0 LUFS, true peak ")
        assert other == "would write songs/b.wav: silence; passed through unchanged"
    assert done("songs/a.wav", "-o", "one/", "--dry-run", of="loudnorm", new=()).out.startswith(
        b"would write one/a.wav"
    )
    assert done("songs/a.wav", "-o", "-", "--dry-run", of="loudnorm", new=()).out.startswith(b"would write stdout: ")


def test_a_dry_run_as_json_is_json_and_true():
    file_of("in.wav")
    planned = facts("in.wav", "-o", "out.wav", "-t", "-11", "--dry-run", new=())
    assert planned == facts("in.wav", "-o", "out.wav", "-t", "-11", new=("out.wav",))


def test_a_dry_run_finds_what_is_wrong():
    file_of("in.wav")
    write("out.wav", noise(10))
    refused(
        "out.wav exists; give --force to overwrite it, or another name",
        *("in.wav", "-o", "out.wav", "--dry-run"),
        of="loudnorm",
    )
    refused(BAD_OUTPUTS["missing/new/"], "in.wav", "-o", "missing/new/", "--dry-run", of="loudnorm")


def test_tags_and_time_stamps_are_carried():
    stamp = Bext("reel", "desk", "7", "2024-02-29", "12:00:00", 3 * RATE, "A=PCM")
    tags = {"artist": "The Band", "album": "Größe", "title": "Kick"}
    file_of("in.wav", bext=stamp, tags=tags)
    for output, target, bext in (("out.wav", "-16", stamp), ("limited.wav", "-11", stamp), ("out.flac", "-16", None)):
        done("in.wav", "-o", output, "-t", target, of="loudnorm", new=(output,))
        with AudioFile(output) as file:
            assert (file.bext, file.tags) == (bext, tags)


def test_rewriting_changes_no_byte():
    file_of("in.wav")
    outputs = []
    for name in ("a.wav", "b.wav"):
        done("in.wav", "-o", name, "-t", "-11", "--bits", "16", of="loudnorm", new=(name,))
        outputs.append(Path(name).read_bytes())
    assert outputs[0] == outputs[1]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
@pytest.mark.parametrize("arguments", [("--measure", "--csv"), ("-o", "new", "--dry-run")], ids=" ".join)
def test_names_that_are_not_unicode(arguments):
    Path("songs").mkdir()
    os.rename(write("in.wav", noise(RATE)), os.fsencode("songs") + b"/caf\xe9.wav")
    result = process("loudnorm", "songs", *arguments)
    assert (result.code, result.err) == (0, "")
    assert b"caf\\udce9.wav" in result.out


def test_a_full_disk_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    file_of("in.wav")
    result = process("loudnorm", "in.wav", "-o", "/dev/full", "-q")
    assert (result.code, result.err) == (1, "mixtools: /dev/full: could not be written: No space left on device\n")


SOUNDS = {
    "a click": np.eye(1, RATE, RATE // 2, dtype=np.float32),
    "a square wave": np.sign(np.sin(np.arange(2 * RATE) / 30))[None].astype(np.float32),
    "an offset": np.full((2, 2 * RATE), 0.9, np.float32),
    "bursts": audio(3, 2, 2 * RATE, np.float32),
    "a million": 1e6 * noise(RATE, 2),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_extremes_end_well(sound):
    write("in.wav", SOUNDS[sound])
    result = run("loudnorm", "in.wav", "-t", "-9", "-o", "out.wav", "--json", "-q")
    assert result.code in (0, 1), result.err
    assert b"NaN" not in result.out and b"Infinity" not in result.out
    y = read("out.wav")
    assert np.isfinite(y).all() and y.shape == SOUNDS[sound].shape
    if json.loads(result.out)["unchanged"] is None:
        assert true_peak_db(y) <= -1.0 + 1e-6


# Bad command lines


LINES = {
    ("-t", "nan"): "--target is nan; give -60 to 0",
    ("-t", "3"): "--target is 3; give -60 to 0",
    ("-t", "-61"): "--target is -61; give -60 to 0",
    ("-t", "-inf"): "--target is -inf; give -60 to 0",
    ("-t", "loud"): "--target is loud; give a number, -60 to 0",
    ("-t", ""): "--target is empty; give a number, -60 to 0",
    ("--true-peak", "1"): "--true-peak is 1; give -24 to 0",
    ("--true-peak", "nan"): "--true-peak is nan; give -24 to 0",
    ("--true-peak", "-1dB"): "--true-peak is -1dB; give a number, -24 to 0",
    ("--preset", "podcasts"): "--preset is podcasts; give podcast",
    ("--preset", "EBU"): "--preset is EBU; give ebu, atsc, streaming, quiet-streaming, podcast, speech",
    ("--preset", ""): "--preset is empty; give ebu, atsc, streaming, quiet-streaming, podcast, speech",
    ("--bits", "8"): "--bits is 8; give 16, 24 or 32f",
    ("-j", "0"): "--jobs is 0; give 1 to 1024",
    ("--peak", "lowr"): "--peak is lowr; give lower",
    ("--csv",): "--csv is for --measure; give --json for what was done",
    ("--measure",): "--measure writes no audio, but -o names some; give one of them",
}


@pytest.mark.parametrize("arguments", LINES, ids=" ".join)
def test_bad_command_lines(arguments):
    file_of("in.wav")
    refused(LINES[arguments], "in.wav", "-o", "out.wav", *arguments, of="loudnorm")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "-o is missing; give the name of a file or a folder, or --measure"),
        (("--measure", "-t", "-9"), "--measure changes nothing, but --target says how to; give one of them"),
        (("--measure", "--force"), "--measure changes nothing, but --force says how to; give one of them"),
        (("--measure", "--csv", "--json"), "--csv and --json both write to stdout; give one"),
        (("-o", "-", "--json"), "--json writes to stdout, and so does -o -; give one of them another place"),
    ],
)
def test_contradictions(arguments, line):
    file_of("in.wav")
    refused(line, "in.wav", *arguments, of="loudnorm")


# Processes


def _being_written(pattern: str) -> bool:
    return any(part.stat().st_size > 100_000 for part in Path().glob(pattern))


@posix
@pytest.mark.parametrize(
    ("names", "jobs", "told"),
    [
        (("long.wav",), "1", "interrupted; nothing was written"),
        (("a.wav", "long.wav"), "1", "interrupted; 1 file of 2 written, the others not"),
        (("a.wav", "long.wav"), "2", "interrupted; 1 file of 2 written, the others not"),
    ],
    ids=["one", "two in turn", "two at once"],
)
def test_ctrl_c_leaves_nothing_half_done(names, jobs, told):
    write("a.wav", noise(RATE))
    write("long.wav", np.tile(music(), 120))
    new = {f"even/{name}" for name in names if name != "long.wav"}
    before = snapshot()
    running = subprocess.Popen(
        command("loudnorm", *names, "-t", "-10", "-o", "even/", "-q", "-j", jobs),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while not (_being_written("even/.long.wav.*.part") and all(Path(name).exists() for name in new)):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, out, err.decode()) == (130, b"", f"mixtools: {told}\n")
    assert {name for name in snapshot() if os.path.isfile(name)} == {*before} | new
    assert Path("even").exists() == bool(new)


@posix
def test_ctrl_c_while_stdin_is_kept():
    running = subprocess.Popen(
        command("loudnorm", "-", "-o", "out.wav"),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        running.stdin.write(bytes(3 << 20))
        running.stdin.flush()
        deadline = time.monotonic() + 30
        while not any(Path(tempfile.gettempdir()).glob("mixtools-*")):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        assert running.stderr.read() == b"mixtools: interrupted; nothing was written\n"
    finally:
        running.kill()
        running.communicate()
    assert snapshot() == {}


@posix
def test_memory_does_not_grow_with_length():
    """Ten times the audio, within 8 MB: the audio alone is 17 MB more."""
    peaks = []
    for minutes in (1, 10):
        block = noise(60 * 8000)
        with open_writer("in.wav", 8000, 1, force=True) as writer:
            for _ in range(minutes):
                writer.write(block)
        peaks.append(
            int(
                python(
                    "import resource\n"
                    "from mixtools.cli.main import run\n"
                    "run('loudnorm in.wav -o out.wav -t -10 --force -q'.split())\n"
                    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
                )
            )
        )
    assert peaks[1] - peaks[0] < 8_000
