"""What stands in examples/ is run, at small size; which songs it takes up, with a mixtools that only says so."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import noise, write

from mixtools import read_audio, synth_song
from mixtools.files.mixfile import read_mix

EXAMPLES = Path(__file__).parents[1] / "examples"
BIN = Path(sys.executable).parent
SECONDS = 1.0
TINY = "--batch 1 --seconds 1 --excerpts 2 --held-out 1 --width 16 --rate 16000 --threads 1"

SAYS_SO = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in *broken*) exit 3 ;; esac
while [ $# -gt 0 ]; do
    case $1 in -o | --write-mix) [ "$2" = - ] || wc -l < "$CALLS" > "$2" ;; esac
    shift
done
"""
"""A mixtools that notes how it was called; what it writes tells one call from another."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")


def script(*arguments: object, fails: bool = False, **variables: object) -> str:
    """Run a script of examples/ here: what it prints on both outputs."""
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(
        [str(argument) for argument in arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def stems(folder: str | Path, seed: int = 7, names: tuple[str, ...] = ("kick.wav", "bass.wav", "organ.wav")) -> None:
    """Some stems of a song, in short."""
    song = synth_song(seed, seconds=SECONDS, stems=10, style="rock")
    for name in names:
        write(Path(folder) / name, song.stems[name][:, : int(SECONDS * song.rate)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A place of one's own with the examples in it."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("out", "songs", "stems"))
    shutil.copy(EXAMPLES.parent / ".venv.mk", tmp_path)
    monkeypatch.chdir(tmp_path / "examples")
    return tmp_path / "examples"


@pytest.fixture
def called(here, monkeypatch):
    """Stands in for mixtools, and gives a function that tells what it was asked for since the last time."""
    path, calls = here / "bin" / "mixtools", here / "calls"
    path.parent.mkdir()
    path.write_text(SAYS_SO)
    path.chmod(0o755)
    monkeypatch.setenv("CALLS", str(calls))

    def called() -> list[str]:
        lines = sorted(calls.read_text().splitlines()) if calls.exists() else []
        calls.write_text("")
        return [re.sub(r" --(force|threads \d+|jobs \d+)", "", line) for line in lines]

    return called


def make(*arguments: str, bin_folder: Path | str = "bin", **options) -> str:
    return script("make", f"BIN={bin_folder}", "INSTALLED=", *arguments, **options)


def age() -> None:
    """A while passes: where the clock of files is coarse, what is done next is newer all the same."""
    for path in Path().rglob("*"):
        status = path.stat()
        os.utime(path, (status.st_atime - 10, status.st_mtime - 10))


def edit(path: str | Path) -> None:
    with open(path, "a") as file:
        file.write("# edited\n")


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def songs_to_make() -> None:
    touch(*(f"songs/{name}/{stem}.wav" for name in ("one", "two", "own") for stem in ("kick", "bass")))
    touch("songs/own/mix.yaml", "record.wav")


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@needs_make
def test_make_does_every_song_once(called):
    songs_to_make()
    make("-j4", "measures", "REF=record.wav")
    names = ("one", "own", "two")
    outputs = [f"out/{folder}/{name}.wav" for folder in ("batch", "like", "master") for name in names]
    assert called() == sorted(
        [
            f"features {' '.join(outputs)} --group loudness,stereo --csv",
            *(f"loudnorm out/batch/{name}.wav --preset streaming -o out/master/{name}.wav" for name in names),
            "mix songs/one -o out/batch/one.wav",
            "mix songs/two -o out/batch/two.wav",
            "mix songs/own -p songs/own/mix.yaml -o out/batch/own.wav",
            *(f"mix songs/{name} -p out/like/{name}.yaml -o out/like/{name}.wav" for name in names),
            *(f"transfer songs/{name} record.wav -o - --write-mix out/like/found/{name}.yaml.new" for name in names),
        ]
    )
    assert all(Path(output).exists() for output in outputs)
    make("-j4", "measures", "REF=record.wav")
    assert called() == []


@needs_make
@pytest.mark.parametrize(
    ("change", "flags", "again"),
    [
        ("edit songs/own/mix.yaml", "", {"mix own", "loudnorm own", "features"}),
        ("unlink songs/own/mix.yaml", "", {"mix own", "loudnorm own", "features"}),
        ("edit out/like/one.yaml", "", {"like one", "features"}),
        ("unlink out/like/one.yaml", "", {"like one", "features"}),
        ("edit songs/one/kick.wav", "", {"mix one", "loudnorm one", "transfer one", "like one", "features"}),
        ("unlink songs/one/kick.wav", "", {"mix one", "loudnorm one", "transfer one", "like one", "features"}),
        ("", "MASTERFLAGS=--preset ebu", {"loudnorm one", "loudnorm two", "loudnorm own", "features"}),
        ("", "LIKEFLAGS=--amount 0.5", {f"{what} {n}" for what in ("transfer", "like") for n in ("one", "two", "own")}),
    ],
)
def test_make_does_again_only_what_changed(called, change, flags, again):
    songs_to_make()
    every = ("-j4", "measures", "REF=record.wav")
    make(*every)
    called()
    age()
    what, _, path = change.partition(" ")
    {"edit": edit, "unlink": os.unlink, "": lambda path: None}[what](path)
    make(*every, *filter(None, [flags]))

    def short(call: str) -> str:
        verb, target = call.split()[:2]
        verb = "like" if "-p out/like" in call else verb
        return verb if verb == "features" else f"{verb} {Path(target).stem}"

    assert {short(call) for call in called()} == again | {"features"}
    make(*every, *filter(None, [flags]))
    assert called() == []


@needs_make
def test_make_keeps_mix_files_that_were_edited(called):
    songs_to_make()
    make("-j4", "like", "REF=record.wav")
    first = {path.name: path.read_text() for path in Path("out/like").glob("*.yaml")}
    age()
    edit("out/like/one.yaml")
    age()
    shutil.copy("record.wav", "other.wav")
    said = make("-j4", "like", "REF=other.wav")
    assert "out/like/one.yaml was edited and stays; out/like/found/one.yaml is what was found now\n" in said
    assert said.count("edited") == 1
    assert Path("out/like/one.yaml").read_text() == first["one.yaml"] + "# edited\n"
    for name in ("two.yaml", "own.yaml"):
        found = Path("out/like", name).read_text()
        assert found != first[name] and found == Path("out/like/found", name).read_text()
    make("clean")
    assert sorted(path.name for path in Path("out").rglob("*") if path.is_file()) == sorted([*first, *first])


@needs_make
def test_a_song_that_fails_does_not_keep_make_from_the_others(called):
    songs_to_make()
    touch("songs/broken/kick.wav")
    make("-k", "-j4", "masters", fails=True)
    assert sorted(path.stem for path in Path("out/master").iterdir()) == ["one", "own", "two"]
    called()
    make("-k", "masters", fails=True)
    assert called() == ["mix songs/broken -o out/batch/broken.wav"]


@needs_make
def test_make_with_mixtools(here):
    stems("songs/one")
    stems("record", 8)
    make("-j2", "measures", "REF=record/organ.wav", "LIKEFLAGS=--steps 0 -q", bin_folder=BIN)
    with open("out/measures.csv", encoding="utf-8") as file:
        measured = {row["file"]: float(row["loudness.integrated_lufs"]) for row in csv.DictReader(file)}
    assert list(measured) == [f"out/{folder}/one.wav" for folder in ("batch", "like", "master")]
    assert measured["out/master/one.wav"] == pytest.approx(-14.0, abs=0.1)
    assert len(read_mix("out/like/one.yaml").tracks) == 3


def test_pipelines(here):
    stems("some stems")
    said = script("./pipelines.sh", "some stems", "out")
    made = {"by_loudness.csv", "dry.wav", "ebu.flac", "master.wav", "podcast.flac", "rules.yaml"}
    assert {path.name for path in Path("out").iterdir()} == made
    levels = [float(line.split(",")[1]) for line in Path("out/by_loudness.csv").read_text().splitlines()]
    assert len(levels) == 3 and levels == sorted(levels, reverse=True)
    if shutil.which("jq"):
        assert said.splitlines()[-1] in ("out/master.wav", "out/dry.wav")


def songs_to_learn_from() -> None:
    """Two mixed songs, and one to mix."""
    stems("stems")
    for k in range(2):
        for name in ("stems/kick.wav", "stems/bass.wav", "mix.wav"):
            write(f"songs/Artist {k} - Song/{name}", noise(16000, 1 + (name == "mix.wav"), seed=k), 16000)


def test_training_goes_on_where_it_was(here):
    songs_to_learn_from()
    line = "./train.sh", "songs", "stems"
    script(*line, STEPS=1, FLAGS=TINY)
    said = script(*line, STEPS=2, FLAGS=TINY)
    assert "step 2 of 2" in said and "; 1 step in " in said
    assert len(Path("run/log.csv").read_text().splitlines()) == 1 + 2
    assert "mixed_by: model model.safetensors" in Path("run/mix.yaml").read_text()
    assert soundfile.info("run/mix.wav").channels == 2


def test_training_in_two_processes(here):
    songs_to_learn_from()
    said = script("./train.sh", "songs", "stems", GPUS=2, STEPS=1, FLAGS=f"--device cpu {TINY}")
    assert said.count("1 song to learn from") == 1
    assert json.loads(Path("run/last.json").read_text())["training"]["processes"] == 2
    assert Path("run/mix.wav").exists()


def songs_to_list() -> None:
    touch(*(f"songs/{name}/kick.wav" for name in ("one", "with a space", "own", "broken")), "songs/own/mix.yaml")
    Path("songs.txt").write_text("songs/one/\nsongs/with a space\nsongs/own/\nsongs/broken/\n")


@pytest.mark.parametrize("spread", ["xargs -n 1 -P 4", "parallel -j 4"])
def test_a_cluster_does_what_is_left(called, spread):
    if shutil.which(spread.split()[0]) is None:
        pytest.skip("needs GNU parallel")
    songs_to_list()
    every = f"seq 4 | {spread} ./cluster.sh songs.txt out"
    path = {"PATH": f"bin:{os.environ['PATH']}"}
    script("bash", "-o", "pipefail", "-c", every, fails=True, **path)
    names = ("one", "with a space", "own")
    assert called() == sorted(
        [
            *(f"loudnorm out/{name}.wav --preset streaming -o out/{name}.master.wav" for name in names),
            "mix songs/broken/ -o out/broken.wav --write-mix out/broken.yaml",
            "mix songs/one/ -o out/one.wav --write-mix out/one.yaml",
            "mix songs/own/ -p songs/own/mix.yaml -o out/own.wav --write-mix out/own.yaml",
            "mix songs/with a space -o out/with a space.wav --write-mix out/with a space.yaml",
        ]
    )
    os.unlink("out/own.master.wav")
    os.rename("songs/broken", "songs/mended")
    Path("songs.txt").write_text(Path("songs.txt").read_text().replace("broken", "mended"))
    script("bash", "-o", "pipefail", "-c", every, REF="record.wav", **path)
    assert called() == [
        "loudnorm out/mended.wav --preset streaming -o out/mended.master.wav",
        "loudnorm out/own.wav --preset streaming -o out/own.master.wav",
        "transfer songs/mended/ record.wav -o out/mended.wav --write-mix out/mended.yaml",
    ]


def test_a_cluster_refuses_what_it_cannot_tell_apart(called):
    Path("songs.txt").write_text("a/song\nb/song/\nc/other\n")
    path = {"PATH": f"bin:{os.environ['PATH']}"}
    said = script("./cluster.sh", "songs.txt", "out", SLURM_ARRAY_TASK_ID=2, fails=True, **path)
    assert said == "songs.txt names several songs song; rename a folder\n"
    assert "line 9 of songs.txt names no song" in script("./cluster.sh", "songs.txt", "out", "9", fails=True, **path)
    assert called() == []


def test_a_task_of_a_cluster(here):
    stems("songs/a song")
    Path("songs.txt").write_text("songs/a song\n")
    script("./cluster.sh", "songs.txt", "out", SLURM_ARRAY_TASK_ID=1, SLURM_CPUS_PER_TASK=1)
    assert {path.name for path in Path("out").iterdir()} == {"a song.wav", "a song.yaml", "a song.master.wav"}


def test_library_example_runs():
    said = script(sys.executable, EXAMPLES / "library.py")
    assert said.splitlines()[0] == "voice (2, 176400) float32"


def test_learning_example_finds_the_mix():
    said = script(sys.executable, EXAMPLES / "learn.py")
    before, after = re.findall(r"error (?:before|after): (-?\d+) dB", said)
    assert int(after) < int(before) - 25


def test_a_device_is_recorded_at_a_grid_of_its_knobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rate = 44100
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, rate)).astype(np.float32)
    write("sound.wav", sound, rate)
    said = script(sys.executable, EXAMPLES / "device.py", "pairs", "sound.wav")
    assert said == "33 settings in pairs/\n"
    with open("pairs/pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    heard = {}
    for row in rows:
        before, after = (read_audio(f"pairs/{row[name]}")[0] for name in ("input", "target"))
        np.testing.assert_array_equal(before, read_audio("sound.wav")[0])
        heard[float(row["reduction"]), float(row["emphasis"])] = float(np.mean(after**2))
    assert len(heard) == 33
    assert heard[100.0, 0.0] < 0.5 * heard[50.0, 0.0] < 0.5 * heard[0.0, 0.0], "more reduction, less is left"
    assert "pairs exists; give a new folder" in script(sys.executable, EXAMPLES / "device.py", "pairs", fails=True)
