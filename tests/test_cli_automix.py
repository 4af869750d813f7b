"""`mixtools mix` without a mix file: what the automatic mixer does as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import RATE, done, noise, python, read, refused, refused_with, run, snapshot, song, write, yaml

from mixtools import levels, synth_song
from mixtools.files.mixfile import read_mix

MIXED = "mixtools: mixed by rules: {} stems, -v says what was done and why\n"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stems():
    """A song of eight stems, five seconds."""
    made = synth_song(11, 5.0, RATE, 8)
    for name, samples in made.stems.items():
        write(f"stems/{name}", samples)
    return made


def heard(path):
    return levels(read(path), soundfile.info(path).samplerate)


def test_without_a_mix_file_the_stems_are_mixed(stems):
    result = done("stems", "--expert", "--write-mix", "mix.yaml", new=("mix.wav", "mix.yaml"))
    assert result.err.startswith(MIXED.format(8) + "mixtools: mix.wav: 0:0") and result.err.count("\n") == 2
    found = heard("mix.wav")
    assert found.integrated_lufs == pytest.approx(-16.0, abs=0.1) and found.true_peak_dbtp <= -1.0
    plain = run("mix", "stems", "-q", "-o", "again.wav")
    assert (plain.code, plain.err) == (0, "")
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes(), "so it is without --expert"


def test_the_mix_file_makes_the_same_bytes(stems):
    done("stems", "--expert", "--write-mix", "mix.yaml", new=("mix.wav", "mix.yaml"))
    done("stems", "-p", "mix.yaml", "-o", "again.wav", new=("again.wav",))
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes()
    text = Path("mix.yaml").read_text()
    assert "mixed_by: expert" in text and "kick.wav: level: " in text


def test_the_order_of_the_files_does_not_matter(stems):
    names = sorted(map(str, Path("stems").iterdir()))
    assert run("mix", *names, "-q", "-o", "a.wav").code == 0
    assert run("mix", *names[::-1], "-q", "-o", "b.wav", "--threads", "1").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_verbose_says_which_rule_did_what(stems):
    result = done("stems", "--expert", "-v")
    assert "mixtools: kick.wav: role: kick, named\n" in result.err
    assert "mixtools: kick.wav: centre: by its role\n" in result.err
    assert "mixtools: master: loudness: " in result.err


def test_as_json(stems):
    facts = json.loads(done("stems", "--expert", "--json", "-q").out)
    assert facts["roles"] == stems.roles
    assert "kick.wav: role: kick, named" in facts["rules"] and facts["integrated_lufs"] == pytest.approx(-16, abs=0.1)


def test_a_role_may_be_given_for_many(stems):
    (backing, *_) = (name for name in stems.stems if name not in ("kick.wav", "bass.wav"))
    facts = json.loads(done("stems", "--expert", "--role", f"effects={backing}", "--json", "-q").out)
    assert facts["roles"][backing] == "effects" and f"{backing}: role: effects, given" in facts["rules"]
    many = json.loads(
        done("stems", "--expert", "--role", "other=*.wav", "--json", "-q", "-o", "o.wav", new=("o.wav",)).out
    )
    assert set(many["roles"].values()) == {"other"}


@pytest.mark.parametrize("target", ["-23", "-12"])
def test_the_loudness_that_is_asked_for(stems, target):
    done("stems", "--expert", "--target-lufs", target)
    found = heard("mix.wav")
    assert found.integrated_lufs == pytest.approx(float(target), abs=0.5) and found.true_peak_dbtp <= -1.0


@pytest.mark.parametrize("name", ["mono", "random", "equal-loudness"])
def test_baselines(stems, name):
    result = done("stems", "--baseline", name, "--write-mix", "b.yaml", new=("mix.wav", "b.yaml"))
    assert result.err.startswith(f"mixtools: mixed as the {name} baseline\n")
    assert heard("mix.wav").integrated_lufs == pytest.approx(-16.0, abs=0.1)
    left, right = read("mix.wav")
    assert np.array_equal(left, right) == (name == "mono")
    done("stems", "--baseline", name, "-o", "again.wav", new=("again.wav",))
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes()


def test_seeds_make_random_mixes_differ(stems):
    for seed in "12":
        done("stems", "--baseline", "random", "--seed", seed, "-o", f"{seed}.wav", new=(f"{seed}.wav",))
    assert Path("1.wav").read_bytes() != Path("2.wav").read_bytes()


def test_a_sum_may_have_a_loudness(stems):
    done("stems", "--baseline", "sum", "--target-lufs", "-20")
    assert heard("mix.wav").integrated_lufs == pytest.approx(-20.0, abs=0.1)


def test_variations_are_numbered_and_each_has_its_mix_file(stems):
    new = tuple(f"out/take_{i}.{ending}" for i in (1, 2) for ending in ("wav", "yaml"))
    Path("out").mkdir()
    facts = json.loads(done("stems", "--expert", "--variations", "2", "-o", "out/take.wav", "--json", new=new).out)
    assert [fact["output"] for fact in facts] == ["out/take_1.wav", "out/take_2.wav"]
    assert read_mix("out/take_1.yaml") != read_mix("out/take_2.yaml")
    for i in "12":
        assert heard(f"out/take_{i}.wav").integrated_lufs == pytest.approx(-16.0, abs=0.1)
        done("stems", "-p", f"out/take_{i}.yaml", "-o", f"{i}.wav", new=(f"{i}.wav",))
        assert Path(f"{i}.wav").read_bytes() == Path(f"out/take_{i}.wav").read_bytes()


def test_a_variation_that_is_there_stops_all_before_any_work(stems):
    Path("mix_2.yaml").touch()
    line = "mix_2.yaml exists; give --force to overwrite it, or another name"
    refused(line, "stems", "--expert", "--variations", "2")


def test_locked_tracks_stay(stems):
    lock = yaml("tracks: [{file: kick.wav, chain: [{gain: {gain_db: 3}}]}, {file: gone.wav}]", "lock.yaml")
    result = done("stems", "--expert", "--lock", lock, "--write-mix", "m.yaml", new=("mix.wav", "m.yaml"))
    assert "warning: lock.yaml: gone.wav is not among the stems; its track is left out" in result.err
    mix = read_mix("m.yaml")
    kick = next(track for track in mix.tracks if track.file == "kick.wav")
    assert [(insert.effect, insert.controls) for insert in kick.chain] == [("gain", {"gain_db": 3.0})]
    assert {track.file for track in mix.tracks} == set(stems.stems)


def test_a_locked_track_brings_its_impulse_response(stems):
    write("elsewhere/room.wav", noise(500, 2, level=0.05))
    lock = yaml("tracks: [{file: kick.wav, chain: [{convolution: {ir: room.wav, dry: 1}}]}]", "elsewhere/lock.yaml")
    new = ("mix.wav", "m.yaml", "m.room.wav")
    done("stems", "--expert", "--lock", lock, "--write-mix", "m.yaml", new=new)
    done("stems", "-p", "m.yaml", "-o", "again.wav", new=("again.wav",))
    assert Path("again.wav").read_bytes() == Path("mix.wav").read_bytes()


def test_keeping_levels_changes_no_balance(stems):
    done("stems", "--expert", "--keep-levels", "--write-mix", "m.yaml", new=("mix.wav", "m.yaml"))
    for track in read_mix("m.yaml").tracks:
        (gain,) = (insert.controls["gain_db"] for insert in track.chain if insert.effect == "gain")
        assert abs(gain) < 8, "no more than compressors took"


def test_dry_run_writes_nothing_and_says_what_would_be(stems):
    before = snapshot()
    result = run("mix", "stems", "--dry-run", "--variations", "2", "-q")
    assert (result.code, result.err) == (0, "") and snapshot() == before
    assert result.out.decode().count("would write mix_") == 4


def test_silent_stems_are_said_to_be(stems):
    write("stems/rest.wav", np.zeros((1, RATE), np.float32))
    result = done("stems", "--expert")
    assert "warning: rest.wav: silent, or too quiet to have a loudness; left as it is" in result.err


def test_nothing_but_silence():
    write("stems/rest.wav", np.zeros((1, RATE), np.float32))
    result = done("stems", "--expert")
    assert "has no loudness to bring to -16 LUFS: silence" in result.err
    assert not read("mix.wav").any()


def test_rates_and_lengths_that_differ(stems):
    write("stems/vox.wav", noise(60000, 2, seed=5), rate=32000)
    result = done("stems", "--expert")
    assert result.err.count("vox.wav: 32000 Hz, resampled to 44100 Hz") == 1
    assert heard("mix.wav").integrated_lufs == pytest.approx(-16.0, abs=0.1)


def test_an_output_that_is_there_stops_it_before_any_work(stems):
    Path("mix.wav").touch()
    refused("mix.wav exists; give --force to overwrite it, or another name", "stems", "--expert")


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("--baseline is for mixes without a mix file; give it, or -p", ("-p", "m.yaml", "--baseline", "mono")),
        ("--lock is for mixes without a mix file; give it, or -p", ("-p", "m.yaml", "--lock", "m.yaml")),
        ("--keep-levels is not for baselines; give it, or --baseline", ("--baseline", "mono", "--keep-levels")),
        ("--target-lufs is 3; give -60 to 0", ("--expert", "--target-lufs", "3")),
        ("--variations is 0; give 1 to 99", ("--expert", "--variations", "0")),
        ("--role is kick; give ROLE=STEM, such as kick=bass.wav", ("--expert", "--role", "kick")),
        ("--role makes kick.wav both kick and snare; give one", ("--role", "kick=kick.wav", "--role", "snare=k*")),
        (
            "--split-stereo is for --baseline sum; the expert treats a stereo stem as one",
            ("--expert", "--split-stereo"),
        ),
        ("--variations writes numbered files; give -o and --write-mix names", ("--variations", "2", "-o", "-")),
        ("none.yaml is not there; give a mix file", ("--expert", "--lock", "none.yaml")),
    ],
)
def test_what_makes_no_sense_is_refused(line, arguments):
    song()
    yaml("tracks: [{file: kick.wav}]", "m.yaml")
    extra = () if "-p" in arguments or "--baseline" in arguments or "--expert" in arguments else ("--expert",)
    refused(line, "stems", *arguments, *extra)


def test_typing_mistakes_are_met_with_the_nearest():
    song()
    refused_with(["--baseline is mon", "mono"], "stems", "--baseline", "mon")
    refused_with(["--role is kik=kick.wav", "kick"], "stems", "--expert", "--role", "kik=kick.wav")
    refused_with(["no stem is called kik.wav", "kick.wav"], "stems", "--expert", "--role", "kick=kik.wav")


def test_mixing_does_not_need_torch(stems):
    code = "import sys\nfrom mixtools.cli.main import run\nrun(['mix', 'stems', '-q'])\nprint('torch' in sys.modules)"
    assert python(code) == "False\n"
    assert Path("mix.wav").exists()
