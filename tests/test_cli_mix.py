"""`mixtools mix` through its real entry point: what comes out is what was asked for, bit for bit."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import (
    RATE,
    SUM,
    SUMMED,
    command,
    done,
    environment,
    noise,
    process,
    python,
    read,
    run,
    snapshot,
    song,
    summing,
    total,
    write,
    yaml,
)
from conftest import error_db

from mixtools.files.mixfile import read_mix
from mixtools.files.reading import AudioFile
from mixtools.files.riff import Bext

QUIET_DB = -90.0

CONSOLE = """\
sample_rate: 44100
tracks:
  - file: kick.wav              # the loud one
    output: drums
    chain:
      - gain: {gain_db: -3.2}
      - compressor: {threshold_db: -18, ratio: 4, attack_ms: 8, release_ms: 120, lookahead_ms: 1}
      - pan: {pan: 0.3}
    sends: {room: -14}
  - file: bass.wav
    offset_ms: 1.3
    chain:
      - parametric_eq: {low_shelf_gain_db: 2.5}
      - gain: {gain_db: [[0, -6], [0.1, 0]]}
  - file: keys.wav
    channel: left               # one of two
    chain: [{delay: {time_ms: 11.3, feedback: 0.4, dry: 1}}]
    sends: {room: -6}
  - file: keys.wav
    channel: right
    chain: [{pan: {pan: 1}}]
buses:
  drums:
    chain: [{saturation: {drive_db: 6}}]
  room:
    chain: [{convolution: {ir: room.wav}}]
    output: drums
"""
MASTERED = CONSOLE + "master:\n  chain: [{limiter: {ceiling_db: -6}}]\n"

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stems() -> dict[str, np.ndarray]:
    return song()


@pytest.fixture
def room() -> np.ndarray:
    """A short stereo impulse response beside the mix file."""
    decay = 10 ** (-60 / 20 * np.arange(2000) / 2000)
    return read(write("room.wav", noise(2000, 2, seed=9, level=0.5) * decay.astype(np.float32)))


def sums(*stems: np.ndarray) -> np.ndarray:
    """A sum as a float file holds it, (2, n)."""
    return np.sum([np.broadcast_to(stem, (2, stem.shape[1])) for stem in stems], axis=0, dtype=float).astype(np.float32)


def bytes_of(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """The mix on stdout."""
    result = run("mix", "-q", *summing("mix", arguments), "-o", "-", stdin=stdin)
    assert (result.code, result.err) == (0, "")
    return result.out


# The mix


def test_without_a_mix_file_the_stems_are_summed(stems):
    result = done("stems")
    np.testing.assert_array_equal(read("mix.wav"), total(stems))
    info = soundfile.info("mix.wav")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "FLOAT", RATE, 2)
    assert result.out == b""
    assert result.err.startswith(SUMMED + "mixtools: mix.wav: 0:00.1 at 44100 Hz, 32-bit float, peak ")


def test_the_last_line_says_what_was_made():
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4 * RATE) / RATE)
    write("stems/left.wav", np.stack([tone, tone]).astype(np.float32))
    write("stems/right.wav", np.zeros((1, 100), np.float32))
    result = done("stems")
    assert result.err == (
        f"{SUMMED}mixtools: mix.wav: 0:04.0 at 44100 Hz, 32-bit float, peak -6.0 dBFS, -6.0 LUFS; 2 tracks in T s\n"
    )


def test_the_last_line_calls_nothing_silence_that_is_not(stems):
    """Too short for a loudness is not silent."""
    assert "silence" not in done("stems").err
    write("quiet/rest.wav", np.zeros((1, RATE), np.float32))
    assert "silence" in done("quiet", "-o", "quiet.wav", new=("quiet.wav",)).err


def test_one_track_is_not_called_tracks():
    write("stems/kick.wav", noise(1000))
    assert "; 1 track in" in done("stems").err


def test_a_mix_file(stems, room):
    result = done("stems", "-p", yaml(MASTERED))
    assert result.err.startswith("mixtools: mix.wav: ") and result.err.count("\n") == 1
    mix = read("mix.wav")
    assert mix.shape[1] > 4410 + 500
    assert 0 < np.abs(mix).max() <= 10 ** (-6 / 20)


def test_the_mix_file_on_stdin(stems, room):
    done("stems", "-p", yaml(MASTERED))
    expected = Path("mix.wav").read_bytes()
    done("stems", "-p", "-", "-o", "again.wav", stdin=Path("mix.yaml").read_bytes(), new=("again.wav",))
    assert Path("again.wav").read_bytes() == expected


def test_stdout_gets_the_bytes_of_the_file(stems, room):
    mix_file = yaml(MASTERED)
    done("stems", "-p", mix_file)
    assert bytes_of("stems", "-p", mix_file) == Path("mix.wav").read_bytes()


def test_a_second_run_gives_the_same_bytes(stems, room):
    mix_file = yaml(MASTERED)
    for name, bits in (("32.wav", "32f"), ("16.wav", "16"), ("24.flac", "24")):
        first, second = (
            done("stems", "-p", mix_file, "--bits", bits, "-o", f"{i}{name}", new=(f"{i}{name}",)) and f"{i}{name}"
            for i in range(2)
        )
        assert Path(first).read_bytes() == Path(second).read_bytes()


def test_the_old_mix_stays_without_force(stems):
    Path("mix.wav").write_bytes(b"old")
    result = run("mix", "stems", *SUM, "-q")
    assert (result.code, result.err) == (2, "mixtools: mix.wav exists; give --force to overwrite it, or another name\n")
    assert Path("mix.wav").read_bytes() == b"old"
    done("stems", "--force")
    np.testing.assert_array_equal(read("mix.wav"), total(stems))


def test_force_writes_every_output_again(stems, room):
    arguments = ("stems", "-p", yaml(MASTERED), "--stems-out", "parts", "--write-mix", "new.yaml")
    parts = ("parts/bass.wav", "parts/keys.wav", "parts/keys_2.wav", "parts/bus_drums.wav")
    done(*arguments, new=("mix.wav", "new.yaml", *parts))
    before = snapshot()
    done(*arguments, "--force", new=("mix.wav", "new.yaml", *parts))
    after = snapshot()
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {"new.yaml"}


@posix
def test_an_output_behind_a_link(stems):
    Path("real").mkdir()
    Path("mix.wav").symlink_to("real/mix.wav")
    done("stems", new=("real/mix.wav",))
    assert Path("mix.wav").is_symlink()
    np.testing.assert_array_equal(read("real/mix.wav"), total(stems))


# Parts


def test_what_feeds_the_master_sums_to_the_mix(stems, room):
    parts = ("bass.wav", "keys.wav", "keys_2.wav", "bus_drums.wav")
    made = tuple(f"parts/{part}" for part in parts)
    done("stems", "-p", yaml(CONSOLE), "--stems-out", "parts", new=("mix.wav", *made))
    mix = read("mix.wav", "float64")
    added = sum(read(name, "float64") for name in made)
    assert np.abs(added - mix).max() <= np.spacing(np.float32(np.abs(mix).max()))
    assert {soundfile.info(name).subtype for name in made} == {"FLOAT"}


def test_parts_are_those_before_the_master(stems, room):
    parts = ("bass.wav", "keys.wav", "keys_2.wav", "bus_drums.wav")
    made = tuple(f"parts/{part}" for part in parts)
    done("stems", "-p", yaml(CONSOLE), "--end", "0.1")
    done("stems", "-p", yaml(MASTERED), "-o", "m.wav", "--stems-out", "parts", "--end", "0.1", new=("m.wav", *made))
    added = sum(read(name, "float64") for name in made)
    np.testing.assert_allclose(added, read("mix.wav"), atol=1e-7)
    assert np.abs(read("m.wav") - read("mix.wav")).max() > 0.01


def test_parts_in_a_folder_that_is_there(stems):
    Path("parts").mkdir()
    Path("parts/notes.txt").write_text("mine")
    done("stems", "--stems-out", "parts", new=("mix.wav", *(f"parts/{name}" for name in stems)))
    for name, samples in stems.items():
        np.testing.assert_array_equal(read(f"parts/{name}"), np.broadcast_to(samples, (2, samples.shape[1])))


# Time


def cut(start: float | None, end: float | None) -> slice:
    return slice(*(None if seconds is None else round(seconds * RATE) for seconds in (start, end)))


@pytest.mark.parametrize(("start", "end"), [(0.02, None), (None, 0.07), (0.03, 0.0512), (0.099, 0.13)])
@pytest.mark.parametrize(("bits", "dtype"), [("32f", "float32"), ("16", "int16")])
def test_a_part_has_the_bits_of_the_whole(stems, room, start, end, bits, dtype):
    mix_file = yaml(MASTERED)
    times = [*(("--start", start) if start is not None else ()), *(("--end", end) if end is not None else ())]
    whole = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--bits", bits, "--end", "0.2")), dtype)
    if end is None:
        times += ["--end", "0.2"]
    part = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--bits", bits, *times)), dtype)
    np.testing.assert_array_equal(part, whole[:, cut(start, end or 0.2)])


def test_a_part_across_blocks_has_the_bits_of_the_whole(room):
    song(frames=round(1.6 * RATE))
    mix_file = yaml(MASTERED)
    whole = read(io.BytesIO(bytes_of("stems", "-p", mix_file)))
    part = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--start", "0:01.45", "--end", "0:0:1.55")))
    np.testing.assert_array_equal(part, whole[:, cut(1.45, 1.55)])


def test_a_part_from_a_start_ends_where_the_whole_does(stems, room):
    mix_file = yaml(MASTERED)
    whole = read(io.BytesIO(bytes_of("stems", "-p", mix_file)))
    part = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--start", "0.05")))
    np.testing.assert_array_equal(part, whole[:, cut(0.05, None)])


def test_end_beyond_the_stems_is_silence(stems):
    done("stems", "--end", "0.2")
    mix = read("mix.wav")
    assert mix.shape == (2, 8820)
    assert not mix[:, 4410:].any()


def test_tail(stems, room):
    mix_file = yaml(MASTERED)
    whole = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--end", "1")))
    for tail in (0, 0.01, 0.5):
        part = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--tail", tail)))
        longest = 4410 + 57 + 1  # 1.3 ms later, and the interpolation's own length
        assert longest <= part.shape[1] - round(tail * RATE) <= longest + 40
        np.testing.assert_array_equal(part, whole[:, : part.shape[1]])


TAILS = {
    "convolution": "convolution: {ir: room.wav, dry: 1}",
    "bundled room": "convolution: {ir: small_room, dry: 1}",
    "reverb": f"reverb: {{dry: 1, {', '.join(f'band{k}_decay_s: 0.1' for k in range(1, 13))}}}",
    "delay": "delay: {time_ms: 40, feedback: 0.5, dry: 1}",
    "delay with long pauses": "delay: {time_ms: 1900, feedback: 0.01, dry: 1}",
}


@pytest.mark.parametrize("insert", TAILS.values(), ids=TAILS)
def test_a_mix_ends_where_its_tail_cannot_be_heard(stems, room, insert):
    mix_file = yaml(f"tracks:\n  - file: kick.wav\n    chain: [{{{insert}}}]\n")
    mix = read(io.BytesIO(bytes_of("stems", "-p", mix_file)))
    longer = read(io.BytesIO(bytes_of("stems", "-p", mix_file, "--tail", mix.shape[1] / RATE + 3)))
    limit = 10 ** (QUIET_DB / 20)
    assert mix.shape[1] > 4410
    assert np.abs(mix[:, -1]).max() >= limit
    assert np.abs(longer[:, mix.shape[1] :]).max() < limit
    np.testing.assert_array_equal(mix, longer[:, : mix.shape[1]])


def test_silent_stems_keep_their_length():
    write("stems/rest.wav", np.zeros((1, 4410), np.float32))
    done("stems")
    assert read("mix.wav").shape == (2, 4410)


# Formats


@pytest.mark.parametrize(
    ("name", "options", "subtype", "step"),
    [
        ("mix.wav", (), "FLOAT", 0),
        ("mix.wav", ("--bits", "32f"), "FLOAT", 0),
        ("mix.wav", ("--bits", "24"), "PCM_24", 2**-23),
        ("mix.wav", ("--bits", "16"), "PCM_16", 2**-15),
        ("mix.flac", (), "PCM_24", 2**-23),
        ("mix.flac", ("--bits", "16"), "PCM_16", 2**-15),
        ("MIX.WAV", (), "FLOAT", 0),
    ],
)
def test_bits(stems, name, options, subtype, step):
    done("stems", "-o", name, *options, new=(name,))
    assert soundfile.info(name).subtype == subtype
    error = read(name, "float64") - total(stems)
    assert np.abs(error).max() <= 1.5 * step
    if step:
        assert 0.3 < error.std() / step < 0.7, "rounding and triangular dither: half a step"


def test_stems_of_unequal_rate_length_and_bits():
    kick = write("stems/kick.wav", noise(4410, 1, seed=1), bits="16")
    bass = write("stems/bass.flac", noise(8820, 2, seed=2), bits="24")
    write("stems/keys.wav", noise(2400, 2, seed=3), 48000)
    result = done("stems")
    assert result.err.splitlines()[1:-1] == ["mixtools: keys.wav: 48000 Hz, resampled to 44100 Hz"]
    mix = read("mix.wav", "float64")
    assert mix.shape == (2, 8820)
    assert soundfile.info("mix.wav").samplerate == RATE
    np.testing.assert_array_equal(mix[:, 4410:], read(bass, "float64")[:, 4410:])
    others = read(bass, "float64")[:, :4410] + read(kick, "float64")
    assert np.abs(mix[:, :4410] - others)[:, 2300:].max() < 1e-9
    assert 0.05 < (mix[:, :4410] - others)[:, :2205].std() < 0.2


def test_rate():
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 2) / RATE)
    write("stems/tone.wav", tone[None].astype(np.float32))
    result = done("stems", "--rate", "48000")
    assert "mixtools: tone.wav: 44100 Hz, resampled to 48000 Hz\n" in result.err
    assert " at 48000 Hz, " in result.err
    mix = read("mix.wav", "float64")
    assert soundfile.info("mix.wav").samplerate == 48000
    assert mix.shape == (2, 24000)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(24000) / 48000)
    assert error_db(mix[0, 2000:-2000], expected[2000:-2000]) < -110


@pytest.mark.parametrize(("option", "expected"), [((), 48000), (("--rate", "8000"), 8000)])
def test_the_rate_of_the_mix_file_and_the_one_asked_for(stems, option, expected):
    done("stems", "-p", yaml("sample_rate: 48000\ntracks: [{file: kick.wav}]"), *option, "-q")
    assert soundfile.info("mix.wav").samplerate == expected


def test_a_limited_frequency_is_said():
    write("stems/kick.wav", noise(1600), 16000)
    result = done(
        "stems",
        *(
            "-p",
            yaml("tracks:\n  - file: kick.wav\n    chain: [{parametric_eq: {band4_gain_db: 3, band3_gain_db: 3}}]"),
        ),
    )
    assert result.err.splitlines()[:-1] == [
        "mixtools: mix.yaml: tracks[0].chain[0].parametric_eq.band4_freq_hz is 10000; "
        "limited to 7200, 0.45 of the sample rate"
    ]


# Clipping


def loud() -> None:
    for name in ("kick", "bass"):
        samples = np.full((1, 100), 0.4, np.float32)
        samples[0, :7] = 0.8
        write(f"stems/{name}.wav", samples)


@pytest.mark.parametrize("bits", ["16", "24"])
def test_clipping_is_said_loudly(bits):
    loud()
    result = done("stems", "--bits", bits)
    assert result.err.splitlines()[1] == (
        "mixtools: warning: mix.wav: 14 SAMPLES CLIPPED, the loudest by 4.1 dB; "
        "lower the master by 4.1 dB, limit it, or give --bits 32f"
    )
    assert read("mix.wav").max() > 0.9999


def test_float_does_not_clip():
    loud()
    result = done("stems")
    assert "CLIPPED" not in result.err
    assert read("mix.wav").max() == np.float32(1.6)


def test_clipped_parts_are_said_too():
    write("stems/kick.wav", np.full((1, 10), 2.0, np.float32))
    result = done("stems", "--bits", "24", "--stems-out", "parts", new=("mix.wav", "parts/kick.wav"))
    assert "mixtools: warning: parts/kick.wav: 20 SAMPLES CLIPPED, the loudest by 6.0 dB; " in result.err


def test_clipped_flac_is_not_told_to_be_float():
    loud()
    result = done("stems", "-o", "mix.flac", new=("mix.flac",))
    assert "mixtools: warning: mix.flac: 14 SAMPLES CLIPPED, the loudest by 4.1 dB; " in result.err
    assert "--bits 32f" not in result.err


# What is said


def test_dry_run(stems):
    before = snapshot()
    result = run("mix", "stems", *SUM, "--dry-run")
    assert (result.code, result.err) == (0, SUMMED)
    assert result.out.decode() == (
        "would write mix.wav: at most 0:00.1 at 44100 Hz, 32-bit float\nfrom 3 tracks: bass.wav, keys.wav, kick.wav\n"
    )
    assert snapshot() == before


def test_dry_run_of_everything(stems, room):
    mix_file = yaml(MASTERED)
    before = snapshot()
    outputs = ("-o", "mix.flac", "--stems-out", "parts", "--write-mix", "new.yaml")
    result = run("mix", "stems", "-p", mix_file, *outputs, "--end", "65", "--rate", "48000", "--dry-run", "-q")
    assert (result.code, result.err) == (0, "")
    assert result.out.decode() == (
        "would write mix.flac: 1:05.0 at 48000 Hz, 24 bit\n"
        "from 4 tracks: kick.wav, bass.wav, keys.wav, keys.wav\n"
        "would write parts/bass.wav\n"
        "would write parts/keys.wav\n"
        "would write parts/keys_2.wav\n"
        "would write parts/bus_drums.wav\n"
        "would write new.yaml\n"
    )
    assert snapshot() == before


@pytest.mark.parametrize(("options", "length"), [((), 0.1), (("--end", "0.05"), 0.05)], ids=["", "--end"])
def test_dry_run_as_json(stems, options, length):
    before = snapshot()
    result = run("mix", *summing("mix", ("stems", "--dry-run", "--json", "-q", *options)))
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == {
        "output": "mix.wav",
        "mix_file": None,
        "stems": ["bass.wav", "keys.wav", "kick.wav"],
        "missing": [],
        "unnamed": [],
        "sample_rate": RATE,
        "bits": "32f",
        "stems_out": [],
        "write_mix": None,
        "seconds": pytest.approx(length),
        "may_end_earlier": not options,
    }
    assert snapshot() == before


def test_json():
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    write("stems/tone.wav", np.stack([tone, tone]).astype(np.float32))
    write("stems/rest.wav", np.zeros((1, RATE), np.float32))
    mix_file = yaml("tracks: [{file: tone.wav, chain: [{gain: {gain_db: 12}}]}, {file: gone.wav}]")
    result = done(
        *("stems", "-p", mix_file, "--missing", "skip", "--json", "-q", "--bits", "24"),
        *("--stems-out", "parts", "--write-mix", "new.yaml"),
        new=("mix.wav", "new.yaml", "parts/tone.wav"),
    )
    assert result.err == ""
    summary = json.loads(result.out)
    taken = summary.pop("seconds_taken")
    assert 0 < taken < 60
    peak = np.abs(tone.astype(np.float32)).max() * 10 ** (12 / 20)
    assert summary == {
        "output": "mix.wav",
        "mix_file": "mix.yaml",
        "stems": ["tone.wav"],
        "missing": ["gone.wav"],
        "unnamed": ["rest.wav"],
        "sample_rate": RATE,
        "bits": "24",
        "seconds": 1.0,
        "samples": RATE,
        "peak_dbfs": pytest.approx(20 * np.log10(peak), abs=1e-4),
        "integrated_lufs": pytest.approx(-6.02 + 12, abs=0.05),
        "clipped_samples": 2 * int(np.count_nonzero(np.abs(tone) * 10 ** (12 / 20) > 1)),
        "stems_out": ["parts/tone.wav"],
        "write_mix": "new.yaml",
    }


def test_json_of_silence():
    write("stems/rest.wav", np.zeros((1, 100), np.float32))
    summary = json.loads(done("stems", "--json", "-q").out)
    assert (summary["peak_dbfs"], summary["integrated_lufs"], summary["clipped_samples"]) == (None, None, 0)


def test_quiet(stems):
    result = done("stems", "-p", yaml("tracks: [{file: kick.wav}, {file: gone.wav}]"), "--missing", "skip", "-q")
    assert (result.out, result.err) == (b"", "")


def test_verbose(stems, room):
    result = done("stems", "-p", yaml(MASTERED.replace("offset_ms: 1.3", "mute: true")), "-v")
    assert result.err.splitlines()[:-1] == [
        "mixtools: kick.wav: gain, compressor, pan -> drums, sends to room",
        "mixtools: bass.wav: parametric_eq, gain -> master, muted",
        "mixtools: keys.wav: delay -> master, sends to room",
        "mixtools: keys.wav: pan -> master",
        "mixtools: drums: saturation -> master",
        "mixtools: room: convolution -> drums",
        "mixtools: master: limiter",
    ]


# Which stems


def test_missing_skip(stems):
    mix_file = yaml("tracks: [{file: kick.wav}, {file: gone.wav}, {file: keys.wav}, {file: bass.wav}]")
    result = done("stems", "-p", mix_file, "--missing", "skip")
    assert result.err.splitlines()[:-1] == [
        "mixtools: warning: mix.yaml: gone.wav is not among the stems; its track is left out"
    ]
    np.testing.assert_array_equal(read("mix.wav"), total(stems))


TRACKS = "tracks: [{file: kick.wav, chain: [{pan: {pan: 0}}]}, {file: bass.wav, chain: [{gain: {gain_db: -6}}]}]"


def test_map(stems):
    done("stems", "-p", yaml(TRACKS), "-q")
    os.rename("stems/kick.wav", "stems/kick_02.wav")
    os.rename("stems/bass.wav", "stems/my bass [2].wav")
    maps = ("--map", "kick_02.wav=kick.wav", "--map", "my bass [2].wav=bass.wav")
    assert bytes_of("stems", "-p", "mix.yaml", *maps) == Path("mix.wav").read_bytes()


def test_map_with_one_wildcard(stems):
    done("stems", "-p", yaml(TRACKS), "-q")
    for name in stems:
        os.rename(f"stems/{name}", f"stems/{name.replace('.wav', '_02.wav')}")
    assert bytes_of("stems", "-p", "mix.yaml", "--map", "*_02.wav=*.wav") == Path("mix.wav").read_bytes()


def test_map_with_two_wildcards():
    for name in ("big-kick.wav", "low-bass.wav"):
        write(f"stems/{name}", noise(1000))
    mix_file = yaml("tracks: [{file: kick_big.wav}, {file: bass_low.wav}]")
    result = run("mix", "-q", "stems", "-p", mix_file, "--map", "*-*.wav=*_*.wav")
    assert (result.code, snapshot().get("mix.wav")) == (2, None)
    mix_file = yaml("tracks: [{file: big_kick.wav}, {file: low_bass.wav}]")
    done("stems", "-p", mix_file, "--map", "*-*.wav=*_*.wav")
    np.testing.assert_array_equal(read("mix.wav"), sums(noise(1000), noise(1000)))


def test_map_shares_a_stem_between_tracks(stems):
    """The mix may have had two microphones where this take has one."""
    mix_file = yaml("tracks: [{file: in.wav, chain: [{pan: {pan: 0}}]}, {file: kick.wav, chain: [{pan: {pan: 1}}]}]")
    done("stems", "-p", mix_file, "--map", "kick.wav=in.wav")
    np.testing.assert_array_equal(read("mix.wav"), sums(stems["kick.wav"]))


def test_mute_and_solo(stems):
    def mix(*tracks: str) -> np.ndarray:
        return read(io.BytesIO(bytes_of("stems", "-p", yaml("tracks:\n" + "".join(f"  - {{{t}}}\n" for t in tracks)))))

    kick, bass = stems["kick.wav"], stems["bass.wav"]
    muted = mix("file: kick.wav", "file: bass.wav, mute: true", "file: keys.wav, mute: true")
    np.testing.assert_array_equal(muted, sums(kick))
    soloed = mix("file: kick.wav, solo: true", "file: bass.wav, solo: true", "file: keys.wav")
    np.testing.assert_array_equal(soloed, sums(bass, kick))
    both = mix("file: kick.wav, solo: true, mute: true", "file: bass.wav, solo: true", "file: keys.wav")
    np.testing.assert_array_equal(both, sums(bass))


def test_a_muted_bus_is_not_heard(stems):
    text = "tracks: [{file: kick.wav, output: drums}, {file: bass.wav}]\nbuses: {drums: {mute: true}}\n"
    mix = read(io.BytesIO(bytes_of("stems", "-p", yaml(text))))
    np.testing.assert_array_equal(mix, sums(stems["bass.wav"]))


def test_files_instead_of_a_folder(stems):
    done("stems")
    expected = Path("mix.wav").read_bytes()
    names = [f"stems/{name}" for name in stems]
    assert bytes_of(*names) == expected
    assert bytes_of(*reversed(names)) == expected
    done("stems/kick.wav", "-o", "one.wav", new=("one.wav",))
    np.testing.assert_array_equal(read("one.wav"), sums(stems["kick.wav"]))


def test_the_order_of_tracks_does_not_matter(stems, room):
    mix_file = yaml(MASTERED)
    head, *tracks = MASTERED[: MASTERED.index("buses:")].split("  - file")
    turned = head + "".join(f"  - file{track}" for track in reversed(tracks)) + MASTERED[MASTERED.index("buses:") :]
    assert turned != MASTERED
    assert bytes_of("stems", "-p", mix_file) == bytes_of("stems", "-p", yaml(turned, "turned.yaml"))


def test_the_order_of_a_folder_does_not_matter(stems):
    done("stems")
    for name in ("keys.wav", "bass.wav", "kick.wav"):
        write(f"other/{name}", stems[name])
    Path("other/.hidden.wav").write_text("not audio")
    Path("other/notes.txt").write_text("not audio")
    assert bytes_of("other") == Path("mix.wav").read_bytes()


def test_threads_change_no_bit(stems, room):
    mix_file = yaml(MASTERED)
    assert bytes_of("stems", "-p", mix_file, "--threads", "1") == bytes_of("stems", "-p", mix_file, "--threads", "2")


def test_split_stereo(stems):
    done("stems")
    done(
        *("stems", "--split-stereo", "-o", "split.wav", "--write-mix", "split.yaml"),
        new=("split.wav", "split.yaml"),
    )
    np.testing.assert_array_equal(read("split.wav"), read("mix.wav"))
    mix = read_mix("split.yaml")
    assert [(track.file, track.channel, track.chain and track.chain[0].controls) for track in mix.tracks] == [
        ("bass.wav", "both", []),
        ("keys.wav", "left", {"pan": 0.0}),
        ("keys.wav", "right", {"pan": 1.0}),
        ("kick.wav", "both", []),
    ]


# Impulse responses and written mix files


def test_assets(stems, room):
    done("stems", "-p", yaml(MASTERED))
    expected = Path("mix.wav").read_bytes()
    Path("irs").mkdir()
    os.rename("room.wav", "irs/room.wav")
    assert bytes_of("stems", "-p", "mix.yaml", "--assets", "irs") == expected
    assert bytes_of("stems", "-p", "-", "--assets", "irs", stdin=Path("mix.yaml").read_bytes()) == expected


def test_responses_are_beside_the_mix_file(stems, room):
    done("stems", "-p", yaml(MASTERED))
    Path("mixes").mkdir()
    os.rename("room.wav", "mixes/room.wav")
    os.rename("mix.yaml", "mixes/mix.yaml")
    assert bytes_of("stems", "-p", "mixes/mix.yaml") == Path("mix.wav").read_bytes()


def test_a_written_mix_file_makes_the_same_bits(stems, room):
    mix_file = yaml("# for the record\n" + MASTERED)
    done("stems", "-p", mix_file, "--write-mix", "new.yaml", new=("mix.wav", "new.yaml"))
    assert bytes_of("stems", "-p", "new.yaml") == Path("mix.wav").read_bytes()
    written = Path("new.yaml").read_text()
    for comment in ("# for the record", "# the loud one", "# one of two"):
        assert comment in written
    old, new = read_mix(mix_file), read_mix("new.yaml")
    assert new.notes.pop("made")["by"].startswith("mixtools ")
    assert new == old


def test_a_mix_file_without_one_to_start_from(stems):
    done("stems", "--write-mix", "new.yaml", new=("mix.wav", "new.yaml"))
    lines = Path("new.yaml").read_text().splitlines()
    assert lines[:6] == [
        "mixtools: 1",
        "sample_rate: 44100",
        "tracks:",
        "  - file: bass.wav",
        "  - file: keys.wav",
        "  - file: kick.wav",
    ]
    assert bytes_of("stems", "-p", "new.yaml") == Path("mix.wav").read_bytes()


def test_the_written_mix_file_says_what_made_it(stems):
    arguments = ["mix", "stems", *SUM, "--write-mix", "new mix.yaml", "-q"]
    assert run(*arguments).code == 0
    assert read_mix("new mix.yaml").notes["made"]["command"] == shlex.join(["mixtools", *arguments])


def test_the_written_mix_file_keeps_the_rate_that_was_asked_for(stems):
    mix_file = yaml("tracks: [{file: kick.wav, chain: [{delay: {time_ms: 1.7, dry: 1}}]}]")
    arguments = ("--rate", "48000", "--write-mix", "new.yaml")
    done("stems", "-p", mix_file, *arguments, new=("mix.wav", "new.yaml"))
    assert bytes_of("stems", "-p", "new.yaml") == Path("mix.wav").read_bytes()


def test_the_mix_file_is_rewritten_in_place_with_force(stems, room):
    mix_file = yaml(MASTERED)
    done("stems", "-p", mix_file, "--write-mix", mix_file, "--force", new=("mix.wav", mix_file))
    assert "# the loud one" in Path(mix_file).read_text()
    assert bytes_of("stems", "-p", mix_file) == Path("mix.wav").read_bytes()


def test_responses_are_copied_to_another_folder(stems, room):
    mix_file = yaml(MASTERED)
    Path("record").mkdir()
    made = ("mix.wav", "record/again.yaml", "record/again.room.wav")
    done("stems", "-p", mix_file, "--write-mix", "record/again.yaml", new=made)
    assert Path("record/again.room.wav").read_bytes() == Path("room.wav").read_bytes()
    os.rename("room.wav", "gone.wav")
    assert bytes_of("stems", "-p", "record/again.yaml") == Path("mix.wav").read_bytes()


def test_copied_responses_of_one_name_stay_two(stems):
    for folder, sign in (("a", 1), ("b", -0.5)):
        write(f"{folder}/room.wav", np.full((1, 1), sign, np.float32))
    mix_file = yaml(
        "tracks:\n"
        "  - {file: kick.wav, chain: [{convolution: {ir: a/room.wav}}]}\n"
        "  - {file: bass.wav, chain: [{convolution: {ir: b/room.wav}}]}\n"
    )
    Path("record").mkdir()
    result = run("mix", "-q", "stems", "-p", mix_file, "--write-mix", "record/again.yaml")
    assert (result.code, result.err) == (0, "")
    assert bytes_of("stems", "-p", "record/again.yaml") == Path("mix.wav").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
def test_names_that_are_not_unicode():
    samples = write("kick.wav", noise(100))
    Path("stems").mkdir()
    os.rename(samples, os.fsencode("stems") + b"/caf\xe9.wav")
    assert run("mix", "-q", "stems", *SUM, "--write-mix", "new.yaml").code == 0
    assert bytes_of("stems", "-p", "new.yaml") == Path("mix.wav").read_bytes()


def test_a_mapped_mix_is_written_with_its_stems(stems):
    mix_file = yaml("tracks: [{file: drum.wav, chain: [{gain: {gain_db: -6}}]}, {file: gone.wav}]   # mine\n")
    arguments = ("--map", "kick.wav=drum.wav", "--missing", "skip", "--write-mix", "new.yaml")
    done("stems", "-p", mix_file, *arguments, new=("mix.wav", "new.yaml"))
    assert [track.file for track in read_mix("new.yaml").tracks] == ["kick.wav"]
    assert bytes_of("stems", "-p", "new.yaml") == Path("mix.wav").read_bytes()


def test_the_written_mix_file_on_stdout(stems, room):
    result = run("mix", "-q", "stems", "-p", yaml(MASTERED), "--write-mix", "-")
    assert (result.code, result.err) == (0, "")
    assert bytes_of("stems", "-p", "-", stdin=result.out) == Path("mix.wav").read_bytes()


# What files say about themselves


def test_time_stamp_and_tags_where_stems_agree():
    tags = {"artist": "The Band", "album": "Größe"}
    stamp = Bext("reel", "desk", "7", "2024-02-29", "12:00:00", 3 * RATE, "A=PCM")
    write("stems/kick.wav", noise(4410), bext=stamp, tags=tags | {"title": "kick"})
    write("stems/bass.wav", noise(4410), bext=stamp, tags=tags | {"title": "bass"})
    done("stems")
    with AudioFile("mix.wav") as file:
        assert (file.bext, file.tags) == (stamp, tags)
    done("stems", "-o", "mix.flac", new=("mix.flac",))
    with AudioFile("mix.flac") as file:
        assert file.tags == tags


def test_a_later_start_is_a_later_time():
    stamp = Bext("reel", time_reference=3 * RATE)
    write("stems/kick.wav", noise(4410), bext=stamp)
    done("stems", "--start", "0.05", "--stems-out", "parts", new=("mix.wav", "parts/kick.wav"))
    for name in ("mix.wav", "parts/kick.wav"):
        with AudioFile(name) as file:
            assert file.bext == Bext("reel", time_reference=3 * RATE + 2205)


def test_a_time_is_the_same_at_another_rate():
    write("stems/kick.wav", noise(4410), bext=Bext(time_reference=3 * 44100))
    write("stems/bass.wav", noise(4800), 48000, bext=Bext(time_reference=3 * 48000))
    done("stems", "--rate", "96000", "--start", "0.05")
    with AudioFile("mix.wav") as file:
        assert file.bext == Bext(time_reference=3 * 96000 + 4800)


def test_fields_that_differ_are_left_out():
    write("stems/kick.wav", noise(4410), bext=Bext("kick", "desk", time_reference=5), tags={"artist": "A"})
    write("stems/bass.wav", noise(4410), bext=Bext("bass", "desk", time_reference=5), tags={"artist": "B"})
    done("stems")
    with AudioFile("mix.wav") as file:
        assert (file.bext, file.tags) == (Bext("", "desk", time_reference=5), {})


@pytest.mark.parametrize("other", [Bext(time_reference=6), None], ids=["another time", "no time"])
def test_times_that_differ_are_left_out(other):
    write("stems/kick.wav", noise(4410), bext=Bext(time_reference=5), tags={"artist": "A"})
    write("stems/bass.wav", noise(4410), bext=other)
    done("stems")
    with AudioFile("mix.wav") as file:
        assert (file.bext, file.tags) == (None, {})


def test_only_the_stems_in_the_mix_have_a_say():
    stamp = Bext("reel", time_reference=5)
    write("stems/kick.wav", noise(4410), bext=stamp, tags={"artist": "A"})
    write("stems/bass.wav", noise(4410))
    done("stems", "-p", yaml("tracks: [{file: kick.wav}]"))
    with AudioFile("mix.wav") as file:
        assert (file.bext, file.tags) == (stamp, {"artist": "A"})


def test_a_time_beyond_what_a_file_can_say():
    write("stems/kick.wav", noise(4410), bext=Bext("reel", time_reference=2**64 - 1))
    done("stems", "--start", "0.05")
    assert read("mix.wav").shape == (2, 2205)


# Processes


def test_a_real_pipe(stems, room):
    done("stems", "-p", yaml(MASTERED), "-q")
    result = process("mix", "stems", "-p", "-", "-o", "-", stdin=Path("mix.yaml").read_bytes())
    assert result.code == 0
    assert result.out == Path("mix.wav").read_bytes()
    assert result.err.startswith("mixtools: stdout: 0:0") and result.err.count("\n") == 1


@posix
def test_nobody_reads_the_pipe(stems):
    before = snapshot()
    with subprocess.Popen(
        command("mix", "stems", *SUM, "--end", "5", "-o", "-", "-q"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        assert writer.stdout.read(4) == b"RIFF"
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 0
    assert snapshot() == before


@posix
@pytest.mark.parametrize("threads", ["1", "2"])
def test_ctrl_c_leaves_nothing(stems, room, threads):
    mix_file = yaml(MASTERED)
    before = snapshot()
    arguments = ("-p", mix_file, "--end", "3600", "--stems-out", "parts", "--write-mix", "new.yaml")
    running = subprocess.Popen(
        command("mix", "-q", *summing("mix", ("stems", *arguments)), "--threads", threads),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while not any(part.stat().st_size > 100_000 for part in Path().glob(".mix.wav.*.part")):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, out, err.decode()) == (130, b"", "mixtools: interrupted; nothing was written\n")
    assert snapshot() == before


def test_help_and_version_load_nothing_heavy():
    heavy = "{'torch', 'numba', 'numpy', 'scipy', 'soundfile', 'soxr', 'ruamel'}"
    loaded = python(
        "import contextlib, io, sys\n"
        "from mixtools.cli.main import run\n"
        "for line in ([], ['--help'], ['mix', '--help'], ['--version'], ['mix'], ['mix', '--end', 'y'], ['mox']):\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "        run(line)\n"
        f"    print(line, sorted({heavy} & sys.modules.keys()))\n"
    )
    assert [line.rpartition("[")[2] for line in loaded.splitlines()] == ["]"] * 7, loaded


def test_rendering_never_loads_torch(stems, room):
    mix_file = yaml(MASTERED)
    loaded = python(
        "import sys\n"
        "from mixtools.cli.main import run\n"
        f"assert run(['mix', 'stems', '-q', '-p', {mix_file!r}, '--write-mix', 'new.yaml', '--bits', '16']) == 0\n"
        "print(sorted({'torch', 'numba'} & sys.modules.keys()))\n"
    )
    assert loaded == "['numba']\n"


def test_version():
    import mixtools

    assert run("--version") == run("--version")
    assert run("--version").out.decode() == f"mixtools {mixtools.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX terminal")
def test_a_bar_on_a_terminal_only(stems):
    import pty

    master, terminal = pty.openpty()
    result = process("mix", "stems", *SUM, "--end", "30", "-o", os.devnull, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(master, 65536):
            shown += block
    except OSError:  # Linux says that the other end is closed this way
        pass
    os.close(master)
    assert result.code == 0
    assert b"mixing" in shown
    assert "mixing" not in process("mix", "stems", *SUM, "-o", os.devnull).err


def test_a_mix_file_on_stdout_leaves_its_responses_where_assets_says(stems, tmp_path):
    write("irs/room.wav", noise(300, 2))
    mix_file = yaml("tracks: [{file: kick.wav, chain: [{convolution: {ir: room.wav}}]}]")
    result = done("stems", "-p", mix_file, "--assets", "irs", "--write-mix", "-", "-q")
    assert b"{ir: room.wav}" in result.out
    again = done(
        *("stems", "-p", "-", "--assets", "irs", "-o", "again.wav", "-q"), stdin=result.out, new=("again.wav",)
    )
    assert again.out == b""
    assert Path("mix.wav").read_bytes() == Path("again.wav").read_bytes()


def test_a_copied_response_and_the_mix_cannot_be_one_file(stems):
    write("irs/room.wav", noise(300, 2))
    mix_file = yaml("tracks: [{file: kick.wav, chain: [{convolution: {ir: room.wav}}]}]")
    before = snapshot()
    result = run(
        *("mix", "stems", "-p", mix_file, "--assets", "irs", "--force"),
        *("--write-mix", "again.yaml", "-o", "again.room.wav"),
    )
    assert result.code == 2
    assert "again.room.wav would be written twice; give every output its own name\n" in result.err
    assert snapshot() == before


def test_a_start_in_a_tail_that_has_died_writes_nothing():
    write("stems/kick.wav", noise(1000))
    mix_file = yaml("tracks: [{file: kick.wav, chain: [{reverb: {wet: 0.001}}]}]")
    before = snapshot()
    result = run("mix", "stems", "-p", mix_file, "--start", "2", "-q")
    assert (result.code, result.err) == (
        2,
        "mixtools: --start is 2, where the mix is over; its tail cannot be heard any more; start earlier\n",
    )
    assert snapshot() == before


def test_parts_have_dithers_of_their_own():
    for name in "abcd":
        write(f"stems/{name}.wav", np.full((1, 20000), 0.1, np.float32))
    done("stems", "--stems-out", "parts", "--bits", "16", "-q",
         new=("mix.wav", *(f"parts/{name}.wav" for name in "abcd")))  # fmt: skip
    errors = [read(f"parts/{name}.wav")[0] - np.float32(0.1) for name in "abcd"]
    correlations = np.corrcoef(errors)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.05


def test_the_rate_is_that_of_most_stems_not_of_most_tracks():
    for name in ("a", "b", "c"):
        write(f"stems/{name}.wav", noise(500))
    for name in ("d", "e"):
        write(f"stems/{name}.wav", noise(500, 2), rate=48000)
    result = done("stems", "--split-stereo", "--json", "-q")
    assert json.loads(result.out)["sample_rate"] == 44100


def test_an_unusable_file_that_nobody_names_is_left_alone(stems):
    Path("stems/notes.wav").write_text("not audio")
    result = done("stems", "-p", yaml("tracks: [{file: kick.wav}]"))
    assert "warning: mix.yaml has no track for bass.wav, keys.wav, notes.wav; not in the mix\n" in result.err
    assert run("mix", "stems", *SUM, "-o", "sum.wav", "-q").code == 3


def test_a_dry_run_finds_bad_samples(stems):
    samples = noise(500)
    samples[0, 100] = np.nan
    write("stems/bad.wav", samples)
    before = snapshot()
    result = run("mix", "stems", *SUM, "--dry-run", "-q")
    assert result.code == 3 and "sample 100" in result.err
    assert snapshot() == before


def test_a_song_folder_with_a_folder_of_stems_inside_is_said(stems):
    Path("stems").rename("inner")
    write("song/mix.wav", noise(100))
    Path("inner").rename("song/stems")
    result = done("song")
    inner = Path("song") / "stems"
    assert result.err.startswith(
        f"mixtools: warning: song holds a folder of stems, which is left alone; give {inner} to mix those\n"
    )
