"""Bad input to `mixtools mix`: one line that says where, what was found and what to give instead, the right exit code,
no output left behind and every input as it was."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import (
    RATE,
    SUM,
    SUMMED,
    command,
    done,
    environment,
    noise,
    process,
    read,
    refused,
    refused_with,
    run,
    snapshot,
    song,
    summing,
    total,
    write,
    yaml,
)

KINDS = "WAV, FLAC, AIFF, OGG or MP3"
BUSES = "buses: {room: {}, drums: {}}\n"
EFFECT_NAMES = (
    "gain, pan, parametric_eq, graphic_eq, compressor, convolution, reverb, delay, saturation, limiter, neural"
)
MIB = 1 << 20

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is there on Linux only")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kick() -> np.ndarray:
    """A folder `stems` with one short mono stem."""
    return read(write("stems/kick.wav", noise(1000)))


def track(keys: str) -> str:
    return f"tracks:\n  - {{file: kick.wav, {keys}}}\n"


def chain(insert: str) -> str:
    return f"tracks:\n  - file: kick.wav\n    chain:\n      - {insert}\n"


# Stems


def test_empty_folder():
    Path("stems").mkdir()
    refused(f"stems: holds no audio; give a folder of {KINDS} files", "stems", code=3)


def test_folder_without_audio():
    Path("stems").mkdir()
    Path("stems/notes.txt").write_text("loud")
    refused(f"stems: holds no audio (1 other file); give a folder of {KINDS} files", "stems", code=3)


def test_missing_folder():
    refused(f"stems does not exist; give a folder of {KINDS} files", "stems")


def test_missing_file_among_files(kick):
    refused(f"stems/bass.wav does not exist; give a {KINDS} file", "stems/kick.wav", "stems/bass.wav")


def test_folder_among_files(kick):
    refused("stems is a folder among other stems; give one folder, or only files", "stems/kick.wav", "stems")


def test_two_files_of_one_name(kick):
    write("other/kick.wav", noise(1000))
    refused(
        "other/kick.wav has the same name as stems/kick.wav; give every stem its own name",
        "stems/kick.wav",
        "other/kick.wav",
    )


def test_text_called_wav():
    Path("stems").mkdir()
    Path("stems/kick.wav").write_text("boom\n")
    refused(f"stems/kick.wav: is not audio that can be read; give {KINDS}", "stems", code=3)


def test_truncated_wav(kick):
    write("stems/bass.wav", noise(RATE))
    os.truncate("stems/bass.wav", os.path.getsize("stems/bass.wav") - 4 * RATE // 2)
    refused(
        "stems/bass.wav: ends after 0.50 s of the 1.00 s its header promises; copy it again",
        "stems",
        code=3,
    )


@pytest.mark.parametrize(("value", "found"), [(np.nan, "not a number"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_samples_that_are_not_finite(kick, value, found):
    samples = noise(2 * RATE)
    samples[0, 66150] = value
    write("stems/bass.wav", samples)
    refused(
        f"stems/bass.wav: sample 66150 (at 1.500 s) is {found}; give audio without NaN or infinite samples",
        *("stems", "--write-mix", "new.yaml", "--stems-out", "parts"),
        code=3,
    )


def test_failure_leaves_the_old_mix_under_force(kick):
    write("stems/bass.wav", np.full((1, 100), np.nan, np.float32))
    write("mix.wav", noise(10))
    refused(
        "stems/bass.wav: sample 0 (at 0.000 s) is not a number; give audio without NaN or infinite samples",
        *("stems", "--force"),
        code=3,
    )


def test_file_of_no_bytes(kick):
    Path("stems/bass.wav").touch()
    refused(f"stems/bass.wav: is empty; give a {KINDS} file", "stems", code=3)


def test_file_of_no_samples(kick):
    write("stems/bass.wav", noise(0))
    refused("stems/bass.wav: has no samples; give a file that holds some", "stems", code=3)


def test_one_sample_is_enough():
    write("stems/click.wav", np.full((1, 1), 0.5, np.float32))
    done("stems")
    np.testing.assert_array_equal(read("mix.wav"), [[0.5], [0.5]])


def test_eight_channels():
    write("stems/kick.wav", noise(100, 8))
    refused("stems/kick.wav: has 8 channels; give mono or stereo", "stems", code=3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(kick):
    os.chmod("stems/kick.wav", 0)
    refused("stems/kick.wav: cannot be read: Permission denied; give a file that can be", "stems", code=3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_folder(kick):
    os.chmod("stems", 0)
    try:
        refused(
            f"stems: cannot be read: Permission denied; give a folder of {KINDS} files",
            "stems",
            code=3,
        )
    finally:
        os.chmod("stems", 0o755)


@pytest.mark.skipif(os.name != "posix", reason="POSIX file names")
def test_a_name_of_two_lines_makes_an_error_of_one():
    Path("stems").mkdir()
    Path("stems/a\nb.wav").write_text("boom")
    refused_with(["b.wav", "is not audio that can be read"], "stems", code=3)


@pytest.mark.skipif(os.name != "posix", reason="POSIX devices")
def test_a_device_is_no_stem(kick):
    """Stems are read from files only, so the line must not offer stdin."""
    refused_with(["- does not exist"], "-")
    refused_with(["/dev/null is a pipe or a device; give a"], "stems/kick.wav", "/dev/null", but="or -")


# Outputs


IS_INPUT = "is an input of this run; give another name for the output"


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize("name", ["stems/kick.wav", "stems/../stems/kick.wav", "link.wav", "folder/kick.wav"])
@pytest.mark.parametrize("option", ["-o", "--write-mix"])
def test_output_is_a_stem(kick, option, name, force):
    Path("link.wav").symlink_to("stems/kick.wav")
    Path("folder").symlink_to("stems")
    refused(f"{name} {IS_INPUT}", "stems", option, name, *force)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize("folder", ["stems", "folder"])
def test_stems_out_is_the_folder_of_stems(kick, folder, force):
    Path("folder").symlink_to("stems")
    refused(f"{folder}/kick.wav {IS_INPUT}", "stems", "--stems-out", folder, *force)


@pytest.mark.parametrize("name", ["room.wav", "mix.yaml"])
def test_output_is_another_input(kick, name):
    write("room.wav", noise(10))
    mix_file = yaml(chain("convolution: {ir: room.wav}"))
    refused(f"{name} {IS_INPUT}", "stems", "-p", mix_file, "-o", name, "--force")


def test_the_mix_file_is_written_over_an_impulse_response(kick):
    write("room.wav", noise(10))
    mix_file = yaml(chain("convolution: {ir: room.wav}"))
    refused(f"room.wav {IS_INPUT}", "stems", "-p", mix_file, "--write-mix", "room.wav", "--force")


def test_output_is_a_stem_of_its_own_folder(kick, monkeypatch):
    monkeypatch.chdir("stems")
    done(".")
    refused(f"mix.wav {IS_INPUT}", ".")
    refused(f"mix.wav {IS_INPUT}", ".", "--force")


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize(
    "outputs",
    [
        ("-o", "same.wav", "--write-mix", "same.wav"),
        ("-o", "parts/kick.wav", "--stems-out", "parts"),
        ("--write-mix", "parts/kick.wav", "--stems-out", "parts"),
    ],
    ids=" ".join,
)
def test_two_outputs_under_one_name(kick, force, outputs):
    Path("parts").mkdir()
    refused_with([next(name for name in outputs if name.endswith(".wav"))], "stems", *outputs, *force)


def test_output_exists(kick):
    write("mix.wav", noise(10))
    refused("mix.wav exists; give --force to overwrite it, or another name", "stems")


@pytest.mark.parametrize("option", ["--write-mix", "--stems-out"])
def test_other_output_exists(kick, option):
    Path("old").mkdir()
    Path("old/kick.wav").write_text("old")
    name = "old/kick.wav" if option == "--write-mix" else "old"
    refused_with(["old/kick.wav exists; give --force to overwrite it"], "stems", option, name, but="another -o")


def test_output_in_a_missing_folder(kick):
    refused(
        "new/mix.wav: the folder new does not exist; create it, or give another name",
        *("stems", "-o", "new/mix.wav"),
    )


def test_other_output_in_a_missing_folder(kick):
    refused("new/parts: the folder new does not exist; create it", "stems", "--stems-out", "new/parts")
    refused_with(
        ["new/mix.yaml: the folder new does not exist; create it"],
        *("stems", "--write-mix", "new/mix.yaml"),
        but="another -o",
    )


@pytest.mark.parametrize(("option", "name"), [("-o", "out.wav"), ("-o", "out"), ("--write-mix", "out")])
def test_output_is_a_folder(kick, option, name):
    Path(name).mkdir()
    refused(f"{name} is a folder; give the name of a file in it", "stems", option, name)


def test_output_of_an_unknown_kind(kick):
    refused("mix.mp3: give a name that ends in .wav or .flac", "stems", "-o", "mix.mp3")
    refused("mix: give a name that ends in .wav or .flac", "stems", "-o", "mix")


def test_stems_out_is_a_file(kick):
    Path("parts").touch()
    refused("parts is a file; give a folder for --stems-out", "stems", "--stems-out", "parts")


def test_float_flac(kick):
    refused("mix.flac: FLAC holds 16 or 24 bits; give --bits 24", "stems", "-o", "mix.flac", "--bits", "32f")


def test_a_later_refusal_removes_the_folder_of_stems(kick):
    Path("mix.yaml").write_text("old")
    refused_with(["mix.yaml exists"], "stems", "--stems-out", "parts", "--write-mix", "mix.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bits", "12"),
        ("--bits", "32f", "-o", "mix.flac"),
        ("-o", "mix.mp3"),
        ("-o", "new/mix.wav"),
        ("-o", "folder.wav"),
        ("-o", "old.wav"),
        ("-o", "stems/kick.wav"),
        ("--write-mix", "old.wav"),
        ("--stems-out", "old.wav"),
        ("--stems-out", "stems"),
        ("--rate", "7000"),
    ],
    ids=" ".join,
)
def test_dry_run_refuses_what_a_run_would(kick, arguments):
    Path("folder.wav").mkdir()
    Path("old.wav").touch()
    before = snapshot()
    dry = run("mix", "-q", *summing("mix", ("stems", *arguments)), "--dry-run")
    assert snapshot() == before
    wet = run("mix", "-q", *summing("mix", ("stems", *arguments)))
    assert wet.code == 2
    assert (dry.code, dry.err) == (wet.code, wet.err)


def limited() -> None:
    """No file of this process may grow beyond 1 MiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))


@pytest.mark.skipif(os.name != "posix", reason="limits are a POSIX thing")
@pytest.mark.parametrize(("output", "shown"), [("mix.wav", "mix.wav"), ("mix.flac", "mix.flac"), ("-", "stdout")])
def test_full_disk(output, shown):
    write("stems/kick.wav", noise(RATE))
    before = snapshot()
    more = () if output == "-" else ("--stems-out", "parts", "--write-mix", "new.yaml")
    result = process("mix", "-q", "stems", *SUM, "--tail", "9", "--bits", "24", "-o", output, *more, preexec_fn=limited)
    assert result.err in (
        f"mixtools: {shown}: could not be written: File too large\n",
        "mixtools: parts/kick.wav: could not be written: File too large\n",
    )
    assert (result.code, result.out) == (1, b"")
    assert snapshot() == before


@on_linux
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("mix", "stems", *SUM, "-q", "-o", "-"), "stdout"),
        (("mix", "stems", *SUM, "-q", "-o", "/dev/full"), "/dev/full"),
    ],
    ids=["stdout", "file"],
)
def test_full_device(kick, arguments, shown):
    before = snapshot()
    with open("/dev/full", "wb") as full:
        result = process(*arguments, stdout=full)
    assert (result.err, result.code) == (f"mixtools: {shown}: could not be written: No space left on device\n", 1)
    assert snapshot() == before


@on_linux
@pytest.mark.parametrize("arguments", [("mix", "stems", *SUM, "-q", "--json"), ("--help",)], ids=["--json", "--help"])
def test_words_for_a_full_device(kick, arguments):
    with open("/dev/full", "wb") as full:
        result = process(*arguments, stdout=full)
    assert (result.err, result.code) == ("mixtools: stdout: could not be written: No space left on device\n", 1)


def closed(redirection: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A run without one of its three streams."""
    shell = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command("mix", *summing("mix", arguments))]
    return subprocess.run(shell, env=environment(), capture_output=True, timeout=60, check=False)


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
class TestClosedStreams:
    def test_without_stdout_a_file_is_written(self, kick):
        result = closed(">&-", "stems", "-q")
        assert (result.returncode, result.stderr) == (0, b"")
        assert read("mix.wav").shape == (2, 1000)

    def test_without_stdout_nothing_can_go_there(self, kick):
        result = closed(">&-", "stems", "-q", "-o", "-")
        assert b"Traceback" not in result.stderr
        assert result.stderr.startswith(b"mixtools: stdout") and result.stderr.count(b"\n") == 1
        assert result.returncode == 1

    def test_without_stderr_words_do_not_go_to_stdout(self, kick):
        result = closed("2>&-", "stems", "-o", "-")
        assert result.returncode == 0
        assert result.stdout[:4] == b"RIFF"

    def test_without_stdin_there_is_no_mix_file(self, kick):
        result = closed("<&-", "stems", "-q", "-p", "-")
        assert b"Traceback" not in result.stderr
        assert result.stderr.startswith(b"mixtools: stdin") and result.stderr.count(b"\n") == 1
        assert result.returncode == 2


# The mix file as a file


def test_mix_file_missing(kick):
    refused("mix.yaml is not there; give a mix file", "stems", "-p", "mix.yaml")


def test_mix_file_is_a_folder(kick):
    refused("stems is a folder; give a mix file", "stems", "-p", "stems")


@pytest.mark.parametrize("data", [b"mixtools: 1\n# \xff", "mixtools: 1\n".encode("utf-16")], ids=["latin", "utf-16"])
def test_mix_file_is_not_utf_8(kick, data):
    Path("mix.yaml").write_bytes(data)
    at = data.index(b"\xff")
    refused(f"mix.yaml is not UTF-8 text (byte {at}); give a mix file", "stems", "-p", "mix.yaml")
    refused(f"stdin is not UTF-8 text (byte {at}); give a mix file", "stems", "-p", "-", stdin=data)


def test_mix_file_is_audio(kick):
    refused_with(["stems/kick.wav is not UTF-8 text"], "stems", "-p", "stems/kick.wav")


def test_mix_file_is_too_large(kick):
    data = b"mixtools: 1\n" + b"#" * 16 * MIB
    Path("mix.yaml").write_bytes(data)
    refused("mix.yaml is larger than 16 MiB; give a mix file", "stems", "-p", "mix.yaml")
    refused("stdin is larger than 16 MiB; give a mix file", "stems", "-p", "-", stdin=data)


def test_nothing_on_stdin(kick):
    refused("stdin: the document is empty; give a mapping with mixtools: 1 and tracks", "stems", "-p", "-")


def billion_laughs() -> str:
    lines = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


DOCUMENTS = {
    "tag that runs code": (
        "mixtools: 1\ntracks: !!python/object/apply:os.system ['touch owned']\n",
        "line 2, column 9: tags are not taken (tag:yaml.org,2002:python/object/apply:os.system); leave it out",
    ),
    "own tag": ("!mix {mixtools: 1}", "line 1, column 1: tags are not taken (!mix); leave it out"),
    "tag on a number": (
        "mixtools: !!int 1\n",
        "line 1, column 11: tags are not taken (tag:yaml.org,2002:int); leave it out",
    ),
    "alias bomb": (
        billion_laughs(),
        "line 1, column 4: anchors and aliases are not taken (*a); write the value out",
    ),
    "alias": (
        "mixtools: 1\ntracks: [&t {file: kick.wav}, *t]\n",
        "line 2, column 10: anchors and aliases are not taken (*t); write the value out",
    ),
    "deep nesting": (
        "mixtools: 1\ntracks: " + "[" * 100_000,
        "line 2, column 29: nested deeper than 20 levels; give a mix file",
    ),
    "deep nesting in blocks": (
        "".join(" " * i + "a:\n" for i in range(100)),
        "line 21, column 21: nested deeper than 20 levels; give a mix file",
    ),
    "repeated top key": (
        "mixtools: 1\ntracks: [{file: kick.wav}]\ntracks: [{file: kick.wav}]\n",
        "line 3, column 1: tracks is there twice; keep one",
    ),
    "repeated track key": (
        "mixtools: 1\ntracks:\n  - file: kick.wav\n    file: bass.wav\n",
        "line 4, column 5: file is there twice; keep one",
    ),
    "repeated control": (
        "mixtools: 1\n" + chain("gain: {gain_db: 1, gain_db: 2}"),
        "line 5, column 28: gain_db is there twice; keep one",
    ),
    "two documents": (
        "mixtools: 1\ntracks: [{file: kick.wav}]\n---\nmixtools: 1\n",
        "line 3, column 1: a second document begins; give one mix to a file",
    ),
    "a list as a key": (
        "mixtools: 1\n? [a]\n: 2\n",
        "line 2, column 3: a key is a list or a mapping; give a word",
    ),
    "a list": ("- kick.wav\n", "the document is a list; give a mapping with mixtools: 1 and tracks"),
    "a word": ("kick.wav\n", "the document is kick.wav; give a mapping with mixtools: 1 and tracks"),
    "nothing": ("# later\n", "the document is empty; give a mapping with mixtools: 1 and tracks"),
    "version missing": (
        "tracks: [{file: kick.wav}]\n",
        "mixtools is missing; give mixtools: 1, the format version",
    ),
    "version 2": ("mixtools: 2\ntracks: [{file: kick.wav}]\n", "mixtools is 2; give 1, the format version"),
    "version true": ("mixtools: true\ntracks: [{file: kick.wav}]\n", "mixtools is true; give 1, the format version"),
}


@pytest.mark.parametrize(("text", "line"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents(kick, text, line):
    Path("mix.yaml").write_text(text)
    refused(f"mix.yaml: {line}", "stems", "-p", "mix.yaml")


@pytest.mark.parametrize("text", ["tracks: [{file: kick.wav}", "tracks: a: b", "tracks:\n\t- file: kick.wav", "a\0b"])
def test_not_yaml(kick, text):
    Path("mix.yaml").write_text(f"mixtools: 1\n{text}\n")
    refused_with(["mix.yaml"], "stems", "-p", "mix.yaml")


# What the mix file says

KEYS = {
    "mster: {}": ("mster", "master"),
    "trakcs: []": ("trakcs", "tracks"),
    "tracks: [{file: kick.wav, chanel: left}]": ("tracks[0].chanel", "channel"),
    "tracks: [{file: kick.wav}, {file: kick.wav, ofset_ms: 3}]": ("tracks[1].ofset_ms", "offset_ms"),
    "buses: {room: {chian: []}}": ("buses.room.chian", "chain"),
    "buses: {room: {solo: true}}": ("buses.room.solo", "mute, output, chain, sends"),
    "master: {chains: []}": ("master.chains", "chain"),
    "tracks: [{file: kick.wav, chain: [{compresor: {}}]}]": ("tracks[0].chain[0].compresor", "compressor"),
    "tracks: [{file: kick.wav, chain: [gain, {eq: {}}]}]": ("tracks[0].chain[1].eq", EFFECT_NAMES),
    "tracks: [{file: kick.wav, chain: [gian]}]": ("tracks[0].chain[0].gian", "gain"),
    "buses: {room: {chain: [{compressor: {atack_ms: 3}}]}}": ("buses.room.chain[0].compressor.atack_ms", "attack_ms"),
    "master: {chain: [{limiter: {ceiling: -1}}]}": ("master.chain[0].limiter.ceiling", "ceiling_db"),
    "3: 4": ("3", "mixtools, sample_rate, tracks, buses, master, made, report"),
}


@pytest.mark.parametrize(("text", "key", "nearest"), [(text, *said) for text, said in KEYS.items()], ids=KEYS)
def test_unknown_keys(kick, text, key, nearest):
    tracks = "" if "tracks:" in text else "tracks: [{file: kick.wav}]\n"
    mix_file = yaml(tracks + text)
    refused(f"mix.yaml: {key} is not known; did you mean {nearest}?", "stems", "-p", mix_file)


TYPES = {
    "tracks: {file: kick.wav}": "tracks is a mapping; give a list of tracks",
    "tracks: []": "tracks is empty; give at least one {file: NAME}",
    "tracks: [kick.wav]": "tracks[0] is kick.wav; give a mapping with a file",
    "tracks: [{}]": "tracks[0].file is missing; give the name of a stem",
    "tracks: [{file: 3}]": "tracks[0].file is 3; give the name of a stem",
    track("mute: 1"): "tracks[0].mute is 1; give true or false",
    track("solo: no"): "tracks[0].solo is no; give true or false",
    track("chain: gain"): "tracks[0].chain is gain; give a list of effects",
    track("chain: {gain: {}}"): "tracks[0].chain is a mapping; give a list of effects",
    track("chain: [3]"): "tracks[0].chain[0] is 3; give one effect, as in - gain: {gain_db: -3}",
    track("sends: [room]") + BUSES: "tracks[0].sends is a list; give bus names and dB",
    track("sends: {room: }") + BUSES: "tracks[0].sends.room is empty; give -96 to 24",
    track("sends: {room: loud}") + BUSES: "tracks[0].sends.room is loud; give -96 to 24",
    track("channel: [left]"): "tracks[0].channel is a list; give one of both, left, right, mid, side",
    track("channel: lefft"): "tracks[0].channel is lefft; give one of both, left, right, mid, side",
    track("offset_ms: soon"): "tracks[0].offset_ms is soon; give -3600000 to 3600000",
    track("") + "buses: [room]": "buses is a list; give a mapping of bus names",
    track("") + "buses: {1: {}}": "buses has the name 1; give a word other than master",
    track("") + "buses: {master: {}}": "buses has the name master; give a word other than master",
    track("") + "buses: {room: dry}": "buses.room is dry; give a mapping with a chain",
    track("") + "master: [gain]": "master is a list; give a mapping with a chain",
    track("") + "sample_rate: 44.1k": "sample_rate is 44.1k; give a whole number, 8000 to 192000",
    track("") + "sample_rate: 44100.5": "sample_rate is 44100.5; give a whole number, 8000 to 192000",
    chain("gain: -3"): "tracks[0].chain[0].gain is -3; give a mapping of controls",
    chain("gain: {gain_db: loud}"): "tracks[0].chain[0].gain.gain_db is loud; give -96 to 48",
    chain("gain: {gain_db: -3 dB}"): "tracks[0].chain[0].gain.gain_db is -3 dB; give -96 to 48",
    chain("gain: {gain_db: true}"): "tracks[0].chain[0].gain.gain_db is true; give -96 to 48",
    chain("gain: {gain_db: }"): "tracks[0].chain[0].gain.gain_db is empty; give -96 to 48",
    chain("gain: {gain_db: {}}"): "tracks[0].chain[0].gain.gain_db is a mapping; give -96 to 48",
    chain("gain: {invert: 1}"): "tracks[0].chain[0].gain.invert is 1; give true or false",
    chain("pan: {law: linaer}"): (
        "tracks[0].chain[0].pan.law is linaer; give one of balance, linear, constant_power, compromise"
    ),
    chain("reverb: {seed: 1.5}"): "tracks[0].chain[0].reverb.seed is 1.5; give a whole number, 0 to 2147483647",
    chain("convolution: {}"): "tracks[0].chain[0].convolution.ir is missing; give a file",
    chain("convolution: {ir: 3}"): "tracks[0].chain[0].convolution.ir is 3; give the name of a file",
    chain(""): "tracks[0].chain[0] has 0 effects; give one, each behind its own dash",
    chain("{}"): "tracks[0].chain[0] has 0 effects; give one, each behind its own dash",
    chain("{gain: {}, pan: {}}"): "tracks[0].chain[0] has 2 effects; give one, each behind its own dash",
}


@pytest.mark.parametrize(("text", "line"), TYPES.items(), ids=[line.split(";")[0] for line in TYPES.values()])
def test_wrong_types(kick, text, line):
    refused(f"mix.yaml: {line}", "stems", "-p", yaml(text))


QUOTED = {
    "version": ("mixtools: '1'\ntracks: [{file: kick.wav}]\n", "mixtools"),
    "number": ("mixtools: 1\n" + chain("gain: {gain_db: '-3'}"), "tracks[0].chain[0].gain.gain_db"),
    "whole number": ("mixtools: 1\n" + chain("reverb: {seed: '1'}"), "tracks[0].chain[0].reverb.seed"),
    "switch": ("mixtools: 1\n" + track("mute: 'true'"), "tracks[0].mute"),
}


@pytest.mark.parametrize(("text", "key"), QUOTED.values(), ids=QUOTED)
def test_a_quoted_value_is_called_text(kick, text, key):
    """What is found must not look like what is asked for: `gain_db is -3; give -96 to 48` helps nobody."""
    Path("mix.yaml").write_text(text)
    refused_with([f"mix.yaml: {key} is", "text"], "stems", "-p", "mix.yaml")


RANGES = {
    chain("gain: {gain_db: .nan}"): "tracks[0].chain[0].gain.gain_db is nan; give -96 to 48",
    chain("gain: {gain_db: .inf}"): "tracks[0].chain[0].gain.gain_db is inf; give -96 to 48",
    chain("gain: {gain_db: -.inf}"): "tracks[0].chain[0].gain.gain_db is -inf; give -96 to 48",
    chain("gain: {gain_db: 48.1}"): "tracks[0].chain[0].gain.gain_db is 48.1; give -96 to 48",
    chain("gain: {gain_db: -97}"): "tracks[0].chain[0].gain.gain_db is -97; give -96 to 48",
    chain("gain: {gain_db: 1e999}"): "tracks[0].chain[0].gain.gain_db is inf; give -96 to 48",
    chain("compressor: {attack_ms: 300}"): "tracks[0].chain[0].compressor.attack_ms is 300; give 0.03 to 250",
    chain("compressor: {ratio: 0}"): "tracks[0].chain[0].compressor.ratio is 0; give 1 to 20",
    chain("reverb: {seed: -1}"): "tracks[0].chain[0].reverb.seed is -1; give 0 to 2147483647",
    track("sends: {room: 25}") + BUSES: "tracks[0].sends.room is 25; give -96 to 24",
    track("sends: {room: .nan}") + BUSES: "tracks[0].sends.room is nan; give -96 to 24",
    track("offset_ms: .nan"): "tracks[0].offset_ms is nan; give -3600000 to 3600000",
    track("offset_ms: 1e300"): "tracks[0].offset_ms is 1e+300; give -3600000 to 3600000",
    track("offset_ms: -3600001"): "tracks[0].offset_ms is -3600001; give -3600000 to 3600000",
    track("") + "sample_rate: 7999": "sample_rate is 7999; give 8000 to 192000",
    track("") + "sample_rate: 0": "sample_rate is 0; give 8000 to 192000",
    track("") + "sample_rate: .nan": "sample_rate is nan; give 8000 to 192000",
}


@pytest.mark.parametrize(("text", "line"), RANGES.items(), ids=[line.split(";")[0] for line in RANGES.values()])
def test_out_of_range(kick, text, line):
    refused(f"mix.yaml: {line}", "stems", "-p", yaml(text))


def test_a_number_too_long_to_be_one(kick):
    mix_file = yaml(chain(f"gain: {{gain_db: {'1' * 5000}}}"))
    refused(f"mix.yaml: line 5, column 25: {'1' * 40} is not a number", "stems", "-p", mix_file)


def test_the_largest_offset_is_silence(kick):
    done("stems", "-p", yaml(track("offset_ms: 3600000")), "--end", "0.01")
    assert not read("mix.wav").any()


AUTOMATION = {
    "compressor: {lookahead_ms: [[0, 1], [1, 2]]}": (
        "compressor.lookahead_ms is a list; it cannot be automated, give one value"
    ),
    "pan: {law: [[0, linear]]}": "pan.law is a list; it cannot be automated, give one value",
    "gain: {invert: [[0, true]]}": "gain.invert is a list; it cannot be automated, give one value",
    "convolution: {ir: [room.wav]}": "convolution.ir[0] is room.wav; give a pair [seconds, value]",
    "gain: {gain_db: [[0, 1], [2, 3], [1, 2]]}": "gain.gain_db[2][0] is 1; give a time after 2, the one before",
    "gain: {gain_db: [[0, 1], [0, 3]]}": "gain.gain_db[1][0] is 0; give a time after 0, the one before",
    "gain: {gain_db: [[-1, 1]]}": "gain.gain_db[0][0] is -1; give a time in seconds, 0 or later",
    "gain: {gain_db: [[.nan, 1]]}": "gain.gain_db[0][0] is nan; give a time in seconds, 0 or later",
    "gain: {gain_db: [[.inf, 1]]}": "gain.gain_db[0][0] is inf; give a time in seconds, 0 or later",
    "gain: {gain_db: [[0, 1], [1, 300]]}": "gain.gain_db[1][1] is 300; give -96 to 48",
    "gain: {gain_db: [[0, .nan]]}": "gain.gain_db[0][1] is nan; give -96 to 48",
    "gain: {gain_db: [[0, loud]]}": "gain.gain_db[0][1] is loud; give -96 to 48",
    "gain: {gain_db: [0, 1]}": "gain.gain_db[0] is 0; give a pair [seconds, value]",
    "gain: {gain_db: [[0, 1, 2]]}": "gain.gain_db[0] is a list; give a pair [seconds, value]",
    "gain: {gain_db: []}": "gain.gain_db is an empty list; give -96 to 48, or [[seconds, value], ...]",
}


@pytest.mark.parametrize(("insert", "line"), AUTOMATION.items(), ids=AUTOMATION)
def test_bad_automation(kick, insert, line):
    refused(f"mix.yaml: tracks[0].chain[0].{line}", "stems", "-p", yaml(chain(insert)))


def test_an_exact_repeat(kick):
    refused(
        "mix.yaml: tracks[1] repeats tracks[0] (kick.wav); remove one, or give them different channels or chains",
        *("stems", "-p", yaml("tracks: [{file: kick.wav}, {file: kick.wav, channel: both, chain: []}]")),
    )


def test_the_same_file_twice():
    keys = read(write("stems/keys.wav", noise(1000, 2)))
    done("stems", "-p", yaml("tracks: [{file: keys.wav, channel: right}, {file: keys.wav, channel: left}]"))
    expected = keys.astype(np.float64).sum(axis=0).astype(np.float32)
    np.testing.assert_array_equal(read("mix.wav"), np.stack([expected, expected]))


ROUTES = {
    track("sends: {room: -6}"): "tracks[0].sends.room is not a bus; give a bus under buses",
    track("sends: {rom: -6}") + BUSES: "tracks[0].sends.rom is not a bus; give room",
    track("sends: {hall: -6}") + BUSES: "tracks[0].sends.hall is not a bus; give room, drums",
    track("sends: {master: -6}") + BUSES: "tracks[0].sends.master is not a bus; give room, drums",
    track("output: drums"): "tracks[0].output is drums; give master",
    track("output: drum") + BUSES: "tracks[0].output is drum; give drums",
    track("output: 3") + BUSES: "tracks[0].output is 3; give master, room, drums",
    track("") + "buses: {a: {sends: {b: 0}}}": "buses.a.sends.b is not a bus; give a",
    track("") + "buses: {a: {output: b}}": "buses.a.output is b; give master, a",
    track("") + "buses: {a: {sends: {b: 0}}, b: {output: c}, c: {sends: {a: 0}}}": (
        "buses.a feeds itself: a -> b -> c -> a; remove a send or change an output on the way"
    ),
    track("") + "buses: {a: {sends: {a: -6}}}": (
        "buses.a feeds itself: a -> a; remove a send or change an output on the way"
    ),
}


@pytest.mark.parametrize(("text", "line"), ROUTES.items(), ids=[line.split(";")[0] for line in ROUTES.values()])
def test_routes_that_lead_nowhere(kick, text, line):
    refused(f"mix.yaml: {line}", "stems", "-p", yaml(text))


def test_a_bus_that_is_its_own_output(kick):
    refused_with(
        ["mix.yaml: buses.a", "output"],
        *("stems", "-p", yaml(track("") + "buses: {a: {output: a}}")),
        but="remove one of these sends",
    )


@pytest.mark.parametrize("channel", ["left", "right", "side"])
def test_a_side_of_a_mono_stem(kick, channel):
    refused(
        f"mix.yaml: tracks[0].channel is {channel}, but the stem is mono; give both",
        *("stems", "-p", yaml(track(f"channel: {channel}"))),
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            "model: tube",
            "model is tube, but there is no tube; give a model beside the mix file, --assets DIR, or one of ",
        ),
        ("model: kick.wav, set: [1]", "set[0] is 1; give a pair"),
        ("model: kick.wav, set: {a: [1]}", "set.a is a list; give a number or a word"),
        ("model: kick.wav, set: {a: {b: {c: 1}}}", "set.a.b is a mapping; give a number or a word"),
        ("set: {}", "model is missing; give a file"),
    ],
)
def test_models_that_cannot_be_used(kick, settings, line):
    refused_with([f"mix.yaml: tracks[0].chain[0].neural.{line}"], "stems", "-p", yaml(chain(f"neural: {{{settings}}}")))


@pytest.mark.parametrize(
    "text",
    [
        'tracks: [{file: "kick\\nsnare.wav"}]',
        'tracks: [{file: kick.wav}]\nbuses: {"a\\nb": {chian: []}}',
        'tracks: [{file: kick.wav, "a\\nb": 1}]',
        chain('convolution: {ir: "a\\nb.wav"}'),
    ],
    ids=["file", "bus", "key", "response"],
)
def test_no_error_takes_two_lines(kick, text):
    refused_with(["mix.yaml: "], "stems", "-p", yaml(text))


# Impulse responses

ROOMS = "small_room, medium_room, large_room, hall, plate"


@pytest.mark.parametrize(
    ("where", "options"), [("mixes/room.wav", ()), ("irs/room.wav", ("--assets", "irs"))], ids=["beside", "--assets"]
)
def test_missing_response(kick, where, options):
    mix_file = yaml(chain("convolution: {ir: room.wav}"), "mixes/mix.yaml")
    refused(
        f"{mix_file}: tracks[0].chain[0].convolution.ir is room.wav, but there is no {where}; "
        f"give a file beside the mix file, --assets DIR, or one of {ROOMS}",
        *("stems", "-p", mix_file, *options),
    )


def test_response_is_text(kick):
    Path("room.wav").write_text("boom")
    refused(
        f"room.wav: is not audio that can be read; give {KINDS}",
        *("stems", "-p", yaml(chain("convolution: {ir: room.wav}"))),
        code=3,
    )


def test_response_is_not_finite(kick):
    write("room.wav", np.full((1, 10), np.nan, np.float32))
    refused(
        "room.wav: sample 0 (at 0.000 s) is not a number; give audio without NaN or infinite samples",
        *("stems", "-p", yaml(chain("convolution: {ir: room.wav}"))),
        code=3,
    )


def test_response_is_too_long(kick):
    write("room.wav", np.zeros((1, 121 * 8000), np.float32), 8000)
    refused(
        "room.wav: is 121.0 s long; give at most 120 s",
        *("stems", "-p", yaml(chain("convolution: {ir: room.wav}"))),
        code=3,
    )


# Names


def test_spaces_and_any_letters():
    samples = read(write("meine Spuren/Große Trommel 大太鼓.wav", noise(100)))
    write("meine Mixe/Räume/große Halle.wav", np.ones((1, 1), np.float32))
    mix_file = yaml(
        "tracks:\n  - file: Große Trommel 大太鼓.wav\n    chain: [{convolution: {ir: Räume/große Halle.wav}}]\n",
        "meine Mixe/der Mix ü.yaml",
    )
    result = done("meine Spuren", "-p", mix_file, "-o", "meine Mixe/ü ü.wav", new=("meine Mixe/ü ü.wav",))
    assert result.err.startswith("mixtools: meine Mixe/ü ü.wav: ")
    np.testing.assert_allclose(read("meine Mixe/ü ü.wav")[:, :100], np.tile(samples, (2, 1)), atol=1e-7)


def test_composed_and_decomposed_names_are_the_same():
    on_disk = unicodedata.normalize("NFD", "größe é.wav")
    in_file = unicodedata.normalize("NFC", "größe é.wav")
    assert on_disk != in_file
    samples = read(write(f"stems/{on_disk}", noise(100)))
    done("stems", "-p", yaml(f"tracks: [{{file: {in_file}}}]"))
    np.testing.assert_array_equal(read("mix.wav"), np.tile(samples, (2, 1)))


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take both names for one")
def test_both_of_two_names_that_differ_in_composition_are_heard():
    stems = {unicodedata.normalize(form, "é.wav"): noise(100, seed=i) for i, form in enumerate(("NFC", "NFD"))}
    for name, samples in stems.items():
        write(f"stems/{name}", samples)
    done("stems")
    np.testing.assert_array_equal(read("mix.wav"), total(stems))


# Stems and the mix file together


def test_the_mix_file_names_an_absent_stem(kick):
    mix_file = yaml("tracks: [{file: kick.wav}, {file: kik.wav}]")
    refused(
        "mix.yaml: tracks[1].file is kik.wav, which is not among the stems; "
        "give kick.wav, --map NEW=OLD, or --missing skip",
        *("stems", "-p", mix_file),
    )
    assert done("stems", "-p", mix_file, "--missing", "skip").err.splitlines()[:-1] == [
        "mixtools: warning: mix.yaml: kik.wav is not among the stems; its track is left out"
    ]
    np.testing.assert_array_equal(read("mix.wav"), np.tile(kick, (2, 1)))


def test_a_stem_the_mix_file_does_not_name(kick):
    write("stems/bass.wav", noise(100))
    write("stems/snare.wav", noise(100))
    result = done("stems", "-p", yaml("tracks: [{file: kick.wav}]"))
    assert result.err.splitlines()[:-1] == [
        "mixtools: warning: mix.yaml has no track for bass.wav, snare.wav; not in the mix"
    ]
    np.testing.assert_array_equal(read("mix.wav"), np.tile(kick, (2, 1)))


def test_all_stems_are_missing(kick):
    refused(
        "mix.yaml: tracks names no stem that is there; give --map NEW=OLD, or another folder",
        *("stems", "-p", yaml("tracks: [{file: a.wav}, {file: b.wav}]"), "--missing", "skip"),
    )


MAPS = {
    "kick.wav": "--map is kick.wav; give NEW=OLD, the stem's name and the mix file's name for it",
    "=drum.wav": "--map is =drum.wav; give NEW=OLD, the stem's name and the mix file's name for it",
    "kick.wav=": "--map is kick.wav=; give NEW=OLD, the stem's name and the mix file's name for it",
    "k*.wav=drum.wav": "--map is k*.wav=drum.wav; give as many * on one side as on the other",
    "snare.wav=drum.wav": (
        "--map is snare.wav=drum.wav, but no stem is called snare.wav; give NEW=OLD with NEW one of kick.wav"
    ),
    "drum.wav=kick.wav": "--map is drum.wav=kick.wav, but no stem is called drum.wav; did you mean kick.wav=drum.wav?",
    "kick.wav=drums.wav": "--map is kick.wav=drums.wav, but no track's file is drums.wav; give drum.wav",
    "k*.wav=dr*.wav": "--map is k*.wav=dr*.wav, but no track's file is drick.wav; give drum.wav",
}


@pytest.mark.parametrize(("entry", "line"), MAPS.items(), ids=MAPS)
def test_bad_maps(kick, entry, line):
    refused(line, "stems", "-p", yaml("tracks: [{file: drum.wav}]"), "--map", entry)


def test_two_stems_for_one_track(kick):
    write("stems/snare.wav", noise(100))
    refused_with(
        ["--map", "drum.wav"],
        *(
            "stems",
            "-p",
            yaml("tracks: [{file: drum.wav}]"),
            "--map",
            "kick.wav=drum.wav",
            "--map",
            "snare.wav=drum.wav",
        ),
    )


def test_map_without_a_mix_file():
    song()
    refused_with(["--map"], "stems", "--map", "kick.wav=bass.wav", but="None")


# The command line


def test_no_arguments_give_the_help():
    result = run()
    assert (result.code, result.err) == (0, "")
    assert b"Usage: mixtools" in result.out and b"mix " in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mox", "stems"), ["mox", "mix"]),
        (("--frobnicate",), ["--frobnicate"]),
        (("mix",), ["STEMS"]),
        (("mix", "stems", "--ouput", "a.wav"), ["--ouput", "--output"]),
        (("mix", "stems", "-o"), ["-o"]),
        (("mix", "stems", "--missing", "maybe"), ["--missing", "maybe", "error", "skip"]),
        (("mix", "stems", "--force=yes"), ["--force"]),
    ],
)
def test_bad_command_lines(kick, arguments, words):
    before = snapshot()
    result = run(*arguments)
    assert result.err.startswith("mixtools: ") and result.err.count("\n") == 1
    assert [word for word in words if word not in result.err] == []
    assert (result.code, result.out) == (2, b"")
    assert snapshot() == before


@pytest.mark.parametrize("option", ["--start", "--end", "--tail"])
@pytest.mark.parametrize(
    "time", ["nan", "-1", "inf", "abc", "1:xx", "1:2:3:4", "90000", "1:-5", ":5", "1e400", "1:75", "1:60:00"]
)
def test_bad_times(kick, option, time):
    refused(
        f"{option} is {time}; give seconds, minutes:seconds or hours:minutes:seconds, 0 to 24 h",
        *("stems", f"{option}={time}"),
    )


@pytest.mark.parametrize("end", ["1", "0.5", "0"])
def test_the_end_is_not_after_the_start(kick, end):
    refused(f"--end is {end}, --start 1; give an end after the start", "stems", "--start", "1", "--end", end)


def test_end_and_tail(kick):
    refused("--end and --tail both say where the mix stops; give one", "stems", "--end", "1", "--tail", "1")


@pytest.mark.parametrize(
    "arguments", [("--start", "1"), ("--start", "1", "--tail", "0"), ("--end", "0.000001")], ids=" ".join
)
def test_a_mix_of_no_samples(kick, arguments):
    """No command reads a file without samples, so none should write one."""
    refused_with([arguments[0]], "stems", *arguments)


@pytest.mark.parametrize("bits", ["12", "32", "f", "32F"])
def test_bad_bits(kick, bits):
    refused(f"--bits is {bits}; give 16, 24 or 32f", "stems", "--bits", bits)


@pytest.mark.parametrize("rate", ["7000", "0", "-44100", "192001", "abc", "44100.5", "nan"])
def test_bad_rate(kick, rate):
    refused_with([rate, "--rate", "8000 to 192000"], "stems", f"--rate={rate}")


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_bad_threads(kick, threads):
    refused_with([threads, "--threads", "give", "1 to 1024"], "stems", f"--threads={threads}")


def test_json_and_the_mix_on_stdout(kick):
    refused("--json writes to stdout, and so does -o -; give one of them another place", "stems", "--json", "-o", "-")


@pytest.mark.parametrize("other", [("--json",), ("-o", "-")], ids=" ".join)
def test_the_mix_file_and_more_on_stdout(kick, other):
    refused_with(["stdout", "--write-mix -", " ".join(other)], "stems", "--write-mix", "-", *other)


def test_split_stereo_with_a_mix_file(kick):
    refused(
        "--split-stereo is for mixes without a mix file; give it, or -p",
        *("stems", "--split-stereo", "-p", yaml("tracks: [{file: kick.wav}]")),
    )


def test_notes_before_an_error_stay_notes(kick):
    result = run("mix", "stems", *SUM, "-o", "mix.mp3")
    assert result.err == f"{SUMMED}mixtools: mix.mp3: give a name that ends in .wav or .flac\n"


def test_a_header_that_lies(kick):
    """Sizes in headers are claims, not facts."""
    data = bytearray(Path("stems/kick.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0x10000000)
    Path("stems/kick.wav").write_bytes(data)
    refused_with(["stems/kick.wav", "of the 1521.74 s its header promises"], "stems", code=3)
