"""`mixtools features` through its real entry point: what it measures, how it compares, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pickle
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ruamel.yaml
from cli_helpers import (
    Result,
    assert_unchanged,
    command,
    environment,
    process,
    refused,
    run,
    snapshot,
    write,
)
from conftest import audio

from mixtools.measure.catalogue import GROUPS, TABLE2, TABLE2_GROUP
from mixtools.measure.distance import ALIGNED

RATE = 44100
KINDS = "WAV, FLAC, AIFF, OGG or MP3"
FACTS = ["file", "seconds", "sample_rate", "channels"]
TERMS = ["rms", "crest", "bark", "width", "imbalance"]
HALF_DB = 20 * math.log10(0.5)

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sound(seed: int = 0, seconds: float = 4.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    return 0.5 * audio(seed, channels, round(seconds * rate), np.float32)


@pytest.fixture
def mix() -> np.ndarray:
    """mix.wav, 4 s, and its samples."""
    samples = sound()
    write("mix.wav", samples)
    return samples


def measured(*arguments: str | Path, code: int = 0, stdin: bytes = b"") -> Result:
    """A quiet run that leaves every file as it was, and says nothing when all is well."""
    before = snapshot()
    result = run("features", "-q", *arguments, stdin=stdin)
    assert result.code == code, f"{result.code}: {result.err}"
    assert code != 0 or result.err == ""
    assert_unchanged(before)
    return result


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def strict(text: bytes) -> Any:
    """What JSON says; NaN and Infinity are not JSON."""
    return json.loads(text, parse_constant=_refuse)


def numbers(*arguments: str | Path, stdin: bytes = b"") -> Any:
    return strict(measured(*arguments, "--json", stdin=stdin).out)


def lines(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.out.decode())))


def columns(result: Result) -> list[str]:
    return result.out.decode().splitlines()[0].split(",")


# One file


def test_json_is_an_object_with_every_group(mix):
    found = numbers("mix.wav")
    assert list(found) == [*FACTS, *GROUPS]
    assert [found[name] for name in FACTS] == ["mix.wav", 4.0, RATE, 2]
    assert {group: list(found[group]) for group in GROUPS} == {
        name: [feature.name for feature in group.features] for name, group in GROUPS.items()
    }
    peak = 20 * math.log10(float(np.abs(mix).max()))
    assert found["loudness"]["sample_peak_dbfs"] == pytest.approx(peak, abs=1e-9)
    assert -40 < found["loudness"]["integrated_lufs"] < 0


def test_yaml_says_what_json_does(mix):
    loaded = ruamel.yaml.YAML(typ="safe").load(measured("mix.wav", "--yaml").out)
    assert loaded == numbers("mix.wav")


def test_csv_is_json_in_one_line():
    write("silence.wav", np.zeros((1, RATE), np.float32))
    result = measured("silence.wav", "--csv")
    assert result.out.count(b"\n") == 2
    (line,) = lines(result)
    found = numbers("silence.wav")
    assert line["file"] == "silence.wav"
    assert line["loudness.integrated_lufs"] == "" and found["loudness"]["integrated_lufs"] is None
    assert [line[f"spectral.bark_db_{i}"] for i in (1, 24)] == ["", ""]
    assert "spectral.bark_db_25" not in line
    assert float(line["envelope.centroid"]) == found["envelope"]["centroid"] == 0


def test_the_table_has_every_feature_and_its_number(mix):
    text = measured("mix.wav").out.decode()
    rows = {tuple(line.split()[:2]) for line in text.splitlines() if line.strip()}
    loudness = numbers("mix.wav")["loudness"]
    for feature in GROUPS["loudness"].features:
        assert (feature.name, f"{loudness[feature.name]:.4g}") in rows
        assert feature.help in text
    for group in GROUPS.values():
        assert group.help in text.splitlines()


def test_the_table_of_silence_has_dashes():
    write("silence.wav", np.zeros((2, RATE), np.float32))
    text = measured("silence.wav", "--group", "loudness").out.decode()
    assert [line.split()[1] for line in text.splitlines()[3:] if line.strip()] == ["–"] * 10


def test_stdin(mix):
    found = numbers("-", stdin=Path("mix.wav").read_bytes())
    assert found == numbers("mix.wav") | {"file": "stdin"}


# Several files


@pytest.fixture
def folder() -> list[str]:
    """Four files of different lengths, the longest first, in a folder of other things."""
    names = ["a.wav", "b.wav", "c.wav", "d.wav"]
    for i, name in enumerate(names):
        write(f"mixes/{name}", sound(i, 4.0 / (i + 1), channels=1 + i % 2))
    Path("mixes/notes.txt").write_text("loud")
    Path("mixes/.hidden.wav").write_text("no")
    return [str(Path("mixes") / name) for name in names]


def test_a_folder_gives_a_list_in_the_order_of_names(folder):
    found = numbers("mixes")
    assert [row["file"] for row in found] == folder
    assert found == [numbers(name) for name in folder]
    assert ruamel.yaml.YAML(typ="safe").load(measured("mixes", "--yaml").out) == found


def test_several_files_keep_their_order(folder):
    asked = [folder[2], folder[0], folder[2]]
    assert [row["file"] for row in numbers(*asked)] == asked
    assert [row["file"] for row in lines(measured(*asked, "--csv"))] == asked


def test_a_folder_of_one_is_still_a_list(mix):
    write("one/mix.wav", mix)
    assert [row["file"] for row in numbers("one")] == [str(Path("one/mix.wav"))]


@pytest.mark.parametrize("form", [("--json",), ("--csv",), ("--yaml",), ("--frames",), ()], ids=" ".join)
def test_jobs_never_change_a_byte(folder, form):
    one, four = (measured("mixes", "--jobs", jobs, *form).out for jobs in ("1", "4"))
    assert one == four and one


def test_several_files_make_a_table_per_group(folder):
    tables = measured("mixes", "--group", "loudness,stereo").out.decode().strip().split("\n\n")
    assert [table.split()[0] for table in tables] == ["loudness", "stereo"]
    for table in tables:
        assert [line.split()[0] for line in table.splitlines()[2:]] == folder


def test_a_bad_file_among_good_ones_is_named(folder):
    Path("mixes/b.wav").write_text("boom")
    result = measured("mixes", "gone.wav", "--csv", code=1)
    assert result.err == (
        f"mixtools: {folder[1]}: is not audio that can be read; give {KINDS}\n"
        f"mixtools: gone.wav does not exist; give a {KINDS} file\n"
    )
    assert [row["file"] for row in lines(result)] == [folder[0], *folder[2:]]


def test_only_bad_files_still_make_json():
    Path("a.wav").write_text("boom")
    assert strict(measured("a.wav", "gone.wav", "--json", code=1).out) == []


# Groups


def test_groups(mix):
    for asked in (("--group", "stereo,loudness"), ("--group", "loudness", "--group", "stereo")):
        assert list(numbers("mix.wav", *asked)) == [*FACTS, "loudness", "stereo"]
    whole = numbers("mix.wav")
    assert numbers("mix.wav", "--group", "stereo")["stereo"] == whole["stereo"]


def test_table2_is_the_named_subset_of_23(mix):
    found = numbers("mix.wav", "--group", TABLE2_GROUP)
    subset = {f"{group}.{f.name}" for group, features in TABLE2.items() for f in features}
    assert {f"{group}.{name}" for group in GROUPS if group in found for name in found[group]} == subset
    assert len(subset) == 23


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ("stero", "--group is stero; give stereo"),
        ("stereo,tabel2", "--group is tabel2; give table2"),
        ("", f"--group is empty; give {', '.join(GROUPS)}, table2"),
        ("stereo,", f"--group is empty; give {', '.join(GROUPS)}, table2"),
    ],
)
def test_unknown_groups(mix, group, line):
    refused(line, "mix.wav", f"--group={group}", of="features")


# Frames


def test_frames_are_a_series_per_file(folder):
    result = measured(folder[0], folder[1], "--frames")
    rows = lines(result)
    assert columns(result)[:2] == ["file", "time_s"]
    assert sorted({row["file"] for row in rows}) == folder[:2]
    for name in folder[:2]:
        times = [float(row["time_s"]) for row in rows if row["file"] == name]
        assert times == sorted(set(times))
        np.testing.assert_allclose(np.diff(times), np.diff(times)[0], rtol=1e-6)
        assert 0 < times[0] < 0.05


def test_frames_are_empty_before_the_first_window_has_ended(mix):
    rows = lines(measured("mix.wav", "--frames", "--group", "loudness"))
    for column, window_s in (("momentary_max_lufs", 0.4), ("short_term_max_lufs", 3.0)):
        name = column if column in rows[0] else column.replace("_max", "")
        filled = [float(row["time_s"]) for row in rows if row[name]]
        empty = [float(row["time_s"]) for row in rows if not row[name]]
        assert max(empty) < min(filled)
        assert min(filled) == pytest.approx(window_s, abs=0.11)


def test_frames_have_the_columns_of_their_groups(mix):
    for name, group in GROUPS.items():
        if series := {feature.name for feature in group.features if feature.series}:
            found = columns(measured("mix.wav", "--frames", "--group", name))
            assert found[:2] == ["file", "time_s"]
            assert {column.replace("_lufs", "_max_lufs") for column in found[2:]} | {*found[2:]} >= series
            assert len(found) == 2 + len(series)


def test_frames_of_groups_without_any(mix):
    refused(
        "--group envelope, diffmst has no values per frame; give spectral, loudness or stereo",
        *("mix.wav", "--frames", "--group", "envelope,diffmst"),
        of="features",
    )


# Against a reference


def means(errors: dict[str, Any]) -> tuple[dict[str, float], float]:
    """The means of Table II by hand: of every group, and of all 23."""
    listed = errors["features"]
    groups = {
        group: sum(listed[f"{group}.{feature.name}"] for feature in features) / len(features)
        for group, features in TABLE2.items()
    }
    return groups, sum(listed.values()) / 23


def test_a_file_against_itself_is_0_everywhere(mix):
    found = numbers("mix.wav", "--against", "mix.wav")["against"]
    errors = found["relative_errors"]
    assert {*errors["features"].values(), *errors["groups"].values(), errors["total"]} == {0}
    for loss in found["audio_feature_loss"].values():
        assert loss == dict.fromkeys([*TERMS, "total"], 0)
    assert found["aligned"] == dict.fromkeys(ALIGNED, 0) | {"si_sdr_db": None}


def test_half_the_gain_changes_what_it_should(mix):
    write("half.wav", 0.5 * mix)
    found = numbers("half.wav", "--against", "mix.wav")
    loudness = numbers("mix.wav")["loudness"]
    errors = found["against"]["relative_errors"]
    moved = {name: error for name, error in errors["features"].items() if error > 1e-9}
    assert moved.keys() == {
        "envelope.centroid",
        "envelope.spread",
        "loudness.integrated_lufs",
        "loudness.sample_peak_dbfs",
    }
    assert moved["envelope.spread"] == pytest.approx(0.5, rel=1e-9)
    for name in ("integrated_lufs", "sample_peak_dbfs"):
        assert moved[f"loudness.{name}"] == pytest.approx(-HALF_DB / max(abs(loudness[name]), 6.0), rel=1e-4)
    groups, total = means(errors)
    assert errors["groups"] == pytest.approx(groups, rel=1e-12)
    assert errors["total"] == pytest.approx(total, rel=1e-12)
    for loss in found["against"]["audio_feature_loss"].values():
        assert loss == pytest.approx(dict.fromkeys([*TERMS, "total"], 0), abs=1e-9)
    aligned = found["against"]["aligned"]
    assert aligned["mae"] == pytest.approx(0.5 * np.abs(mix.astype(float)).mean(), rel=1e-9)
    assert aligned["esr"] == pytest.approx(0.25, rel=1e-9)


def test_the_loss_is_the_sum_of_its_terms(mix):
    write("other.wav", sound(5))
    for loss in numbers("other.wav", "--against", "mix.wav")["against"]["audio_feature_loss"].values():
        assert loss["total"] == pytest.approx(sum(loss[term] for term in TERMS), rel=1e-12)
        assert loss["total"] > 0


def test_another_rate_is_compared_at_the_references(mix):
    write("fast.wav", sound(rate=48000), 48000)
    result = run("features", "fast.wav", "--against", "mix.wav", "--json")
    assert result.err == "mixtools: fast.wav: 48000 Hz, compared at the reference's 44100 Hz\n"
    found = strict(result.out)
    assert found["sample_rate"] == 48000
    assert found["against"]["aligned"]["mae"] > 0


def test_mono_against_stereo_is_that_of_two_equal_channels(mix):
    write("mono.wav", mix[:1])
    write("twice.wav", mix[[0, 0]])
    mono, twice = (numbers(name, "--against", "mix.wav")["against"] for name in ("mono.wav", "twice.wav"))
    assert mono["aligned"] == twice["aligned"]
    assert mono["audio_feature_loss"]["guarded"] == pytest.approx(twice["audio_feature_loss"]["guarded"], rel=1e-6)
    assert mono["relative_errors"]["features"]["stereo.width"] == 1.0
    both_mono = numbers("mono.wav", "--against", "mono.wav")["against"]["aligned"]
    assert both_mono["sum_difference_mr_stft"] is None and both_mono["mae"] == 0


def test_other_lengths_are_compared_by_sample_only_when_told(mix):
    write("short.wav", mix[:, : 3 * RATE])
    assert numbers("short.wav", "--against", "mix.wav")["against"]["aligned"] == dict.fromkeys(ALIGNED)
    result = run("features", "short.wav", "--against", "mix.wav", "--aligned", "--json")
    assert result.err == "mixtools: short.wav: compared up to 0:03.0, where the shorter one ends\n"
    assert strict(result.out)["against"]["aligned"] == dict.fromkeys(ALIGNED, 0) | {"si_sdr_db": None}


@pytest.mark.parametrize(("file", "reference"), [("silence.wav", "mix.wav"), ("mix.wav", "silence.wav")])
def test_silence_against_music_is_null(mix, file, reference):
    write("silence.wav", np.zeros_like(mix))
    found = numbers(file, "--against", reference)["against"]
    assert found["relative_errors"]["total"] is None
    assert found["relative_errors"]["features"]["loudness.integrated_lufs"] is None
    assert found["audio_feature_loss"] == dict.fromkeys(("guarded", "paper"), dict.fromkeys([*TERMS, "total"]))
    assert (found["aligned"]["esr"] is None) == (reference == "silence.wav")
    assert found["aligned"]["si_sdr_db"] is None
    assert found["aligned"]["mae"] > 0
    assert "–" in measured(file, "--against", reference).out.decode()


def test_csv_has_the_same_columns_whatever_is_null(mix):
    """The first file, which has no loss and no metrics, must not take the others' columns away."""
    write("all/0_silence.wav", np.zeros((2, RATE), np.float32))
    write("all/1_mix.wav", mix)
    result = measured("all", "--against", "mix.wav", "--csv")
    silence, same = lines(result)
    for column in ("against.audio_feature_loss.guarded.total", "against.aligned.mae"):
        assert (silence[column], same[column]) == ("", "0.0")
    assert columns(result) == columns(measured("mix.wav", "--against", "mix.wav", "--csv"))


def test_comparisons_are_laid_out_like_table_2(mix):
    write("half.wav", 0.5 * mix)
    tables = measured("half.wav", "mix.wav", "--against", "mix.wav").out.decode().split("\n\n")
    title, head, _, half, same = tables[0].splitlines()
    assert title == "Relative errors against mix.wav"
    assert head.split() == ["spectral", "PMF", "stereo", "loudness", "total"]
    assert same.split()[1::2] == ["0.00"] * 5
    total = numbers("half.wav", "--against", "mix.wav")["against"]["relative_errors"]["total"]
    assert half.split()[-2:] == [f"{100 * total:.2f}", "%"]
    assert len(tables[1].splitlines()) == 2 + 23


def test_files_compared_side_by_side_say_what_they_say_in_turn(mix):
    names = [f"{i}.wav" for i in range(6)]
    for name in names:
        write(name, sound(int(name[0]) + 1, seconds=1.0))
    alone = measured(*names, "--against", "mix.wav", "--json", "--jobs", "1").out
    for _ in range(3):
        assert measured(*names, "--against", "mix.wav", "--json", "--jobs", "6").out == alone


def test_groups_beside_a_reference(mix):
    found = numbers("mix.wav", "--against", "mix.wav", "--group", "stereo")
    assert list(found) == [*FACTS, "stereo", "against"]
    assert len(found["against"]["relative_errors"]["features"]) == 23


# Sets


@pytest.fixture
def sets() -> None:
    """Two folders of mixes; those of one are quieter."""
    for i in range(4):
        write(f"loud/{i}.wav", sound(i))
        write(f"quiet/{i}.wav", 0.25 * sound(i))


def distance(*arguments: str | Path) -> float:
    return numbers("--set", *arguments)["frechet_distance"]


def test_the_distance_between_sets(sets):
    assert distance("loud", "--set", "loud") == pytest.approx(0, abs=1e-9)
    assert distance("loud", "--set", "quiet") == pytest.approx(distance("quiet", "--set", "loud"), rel=1e-6)
    found = numbers("--set", "loud", "--set", "quiet")
    assert found == {
        "sets": ["loud", "quiet"],
        "embedding": "features",
        "vectors": [4, 4],
        "frechet_distance": pytest.approx(found["frechet_distance"]),
    }
    # 12 dB are 4 of loudness and of peak, whose scale is 3, and the same in log2 of the spread, whose scale is 0.5.
    assert found["frechet_distance"] == pytest.approx(3 * 4.0**2, rel=0.05)
    assert measured("--set", "loud", "--set", "quiet").out.decode() == (
        f"Fréchet distance: {found['frechet_distance']:.4g}\n"
    )


def test_few_vectors_are_warned_of(sets):
    line = "mixtools: warning: {}: 4 vectors of 47 numbers say little about how they vary; give more audio\n"
    assert run("features", "--set", "loud", "--set", "quiet").err == line.format("loud") + line.format("quiet")


def test_a_set_that_is_too_short_or_silent(sets):
    write("brief/a.wav", sound(seconds=1.0))
    write("brief/b.wav", np.zeros((2, 4 * RATE), np.float32))
    refused(
        "brief: holds too little sound for a Fréchet distance (0 vectors); give more files",
        *("--set", "loud", "--set", "brief"),
        code=3,
        of="features",
    )


def test_a_bad_file_in_a_set_is_named(sets):
    Path("loud/4.wav").write_text("boom")
    result = measured("--set", "loud", "--set", "quiet", "--json", code=1)
    assert result.err == f"mixtools: {Path('loud/4.wav')}: is not audio that can be read; give {KINDS}\n"
    assert strict(result.out)["vectors"] == [4, 4]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A VGGish that has learned nothing, in half precision, to be smaller."""
    torch = pytest.importorskip("torch")
    from mixtools.nets.vggish import VGGish

    torch.manual_seed(0)
    state = {name: parameter.half() for name, parameter in VGGish().state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "vggish.pth"
    torch.save(state, path)
    yield path
    path.unlink()


def test_the_distance_over_a_vggish(sets, weights):
    found = numbers("--set", "loud", "--set", "quiet", "--vggish", weights)
    assert found["embedding"] == str(weights)
    assert found["vectors"] == [16, 16]
    assert found["frechet_distance"] > 0
    assert distance("loud", "--set", "loud", "--vggish", weights) < 1e-6 * found["frechet_distance"]


class _Touch:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return open, ("harmed", "w")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "w.pth does not exist; give a safetensors file or a PyTorch checkpoint of tensors by name"),
        (b"hello", "w.pth holds no weights; give a safetensors file or a PyTorch checkpoint of tensors by name"),
        (
            pickle.dumps({"features.0.weight": _Touch()}, protocol=2),
            "w.pth asks for io.open to be run, which was not done; "
            "give a safetensors file or a PyTorch checkpoint of tensors by name and nothing else",
        ),
    ],
    ids=["missing", "text", "code"],
)
def test_bad_weights(sets, content, line):
    pytest.importorskip("torch")
    if content is not None:
        Path("w.pth").write_bytes(content)
    refused(line, "--set", "loud", "--set", "quiet", "--vggish", "w.pth", of="features")


# Any audio

EDGES = {
    "one sample": (np.full((2, 1), 0.5), RATE),
    "10 ms": (sound(seconds=0.01), RATE),
    "silence": (np.zeros((2, RATE)), RATE),
    "nearly silent": (np.full((2, RATE), 1e-40), RATE),
    "far too loud": (1e30 * sound(seconds=1.0), RATE),
    "an offset": (np.full((2, RATE), 0.5), RATE),
    "one side": (np.array([[1.0], [0.0]]) * sound(seconds=1.0), RATE),
    "opposite sides": (np.array([[1.0], [-1.0]]) * sound(seconds=1.0, channels=1), RATE),
    "mono": (sound(seconds=1.0, channels=1), RATE),
    "8 kHz": (sound(rate=8000), 8000),
    "192 kHz": (sound(seconds=0.5, rate=192000), 192000),
}


@pytest.mark.parametrize("edge", EDGES)
def test_any_audio_gives_numbers_or_null(edge):
    """Nothing is NaN or infinite, however it is asked for; and every form can be written."""
    samples, rate = EDGES[edge]
    write("edge.wav", samples.astype(np.float32), rate)
    write("ref.wav", sound(3, 1.0))
    found = numbers("edge.wav")
    assert found["sample_rate"] == rate and found["channels"] == len(samples)
    errors = numbers("edge.wav", "--against", "edge.wav", "--aligned")["against"]["relative_errors"]
    assert errors["total"] == 0
    for file, reference in (("edge.wav", "ref.wav"), ("ref.wav", "edge.wav")):
        numbers(file, "--against", reference, "--aligned")
    for form in ("--csv", "--frames"):
        text = measured("edge.wav", form).out.decode().lower()
        assert "nan" not in text.split() and ",nan" not in text and "inf" not in text
    assert "nan" not in measured("edge.wav").out.decode().split()


# Bad input

CONFLICTS = {
    (): "FILES is missing; give audio files, a folder, or - for stdin",
    ("gone.wav",): f"gone.wav does not exist; give a {KINDS} file",
    ("",): "a file's name is empty; give an audio file, a folder, or - for stdin",
    ("-", "-"): "- is there twice; stdin can be read once",
    ("-", "--against", "-"): "- is there twice; stdin can be read once",
    ("mix.wav", "--json", "--csv"): "--json and --csv both write to stdout; give one",
    ("mix.wav", "--frames", "--yaml"): "--yaml and --frames both write to stdout; give one",
    ("mix.wav", "--frames", "--against", "mix.wav"): "--frames and --against cannot be had together; give one",
    ("mix.wav", "--aligned"): "--aligned is for --against; give the reference with it",
    ("mix.wav", "--vggish", "w.pth"): "--vggish is for --set; give two folders with it",
    ("mix.wav", "--against", "mixes"): "mixes is a folder; give one file to compare with",
    ("mix.wav", "--against", "gone.wav"): f"gone.wav does not exist; give a {KINDS} file",
    ("mix.wav", "--jobs", "0"): "--jobs is 0; give 1 to 1024",
    ("--set", "mixes"): "--set is there 1 time; give two folders",
    ("--set", "mixes", "--set", "mixes", "--set", "mixes"): "--set is there 3 times; give two folders",
    ("--set", "mixes", "--set", "mixes", "mix.wav"): "FILES and --set cannot be had together; give one",
    ("--set", "mixes", "--set", "mixes", "--aligned"): "--aligned and --set cannot be had together; give one",
    ("--set", "mixes", "--set", "mixes", "--csv"): "--csv is not for --set; give --json or --yaml",
    ("--set", "mixes", "--set", "gone"): f"gone does not exist; give a folder of {KINDS} files",
    ("--set", "mixes", "--set", "mix.wav"): f"mix.wav is not a folder; give a folder of {KINDS} files",
}


@pytest.mark.parametrize(("arguments", "line"), CONFLICTS.items(), ids=map(" ".join, CONFLICTS))
def test_command_lines_that_mean_nothing(mix, arguments, line):
    write("mixes/mix.wav", mix)
    refused(line, *arguments, of="features")


def test_a_bad_file_on_its_own(mix):
    Path("bad.wav").write_text("boom")
    line = f"bad.wav: is not audio that can be read; give {KINDS}"
    refused(line, "bad.wav", of="features", code=3)
    refused(line, "mix.wav", "--against", "bad.wav", of="features", code=3)
    refused(f"stdin: is empty; give a {KINDS} file", "-", of="features", code=3)
    write("nan.wav", np.full((1, RATE), np.nan, np.float32))
    line = "nan.wav: sample 0 (at 0.000 s) is not a number; give audio without NaN or infinite samples"
    refused(line, "nan.wav", of="features", code=3)


@pytest.mark.parametrize("option", [(), ("--against", "mix.wav")], ids=["files", "against"])
def test_a_folder_without_audio(mix, option):
    Path("empty").mkdir()
    Path("empty/notes.txt").write_text("nothing")
    refused(
        f"empty: holds no audio (1 other file); give a folder of {KINDS} files", "empty", *option, of="features", code=3
    )


# Terminals and pipes


@posix
def test_a_table_fits_its_terminal(folder):
    """Columns that there is no room for come below, and no name or number is broken."""
    import fcntl
    import pty
    import struct
    import termios

    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {name: value for name, value in environment().items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        command("features", "-q", "mixes", "--group", "loudness"),
        env=variables | {"TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
    ) as running:
        os.close(terminal)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert running.returncode == 0
    found = shown.decode().splitlines()
    assert max(map(len, found)) <= 80
    words = [word for line in found for word in line.split()]
    names = [feature.name for feature in GROUPS["loudness"].features]
    assert [word for word in words if word in names] == names
    assert words.count(folder[0]) == words.count("loudness") > 1
    peak = numbers(folder[0])["loudness"]["sample_peak_dbfs"]
    assert f"{peak:.4g}" in words


def test_markup_in_a_name_is_not_markup(mix):
    write("[red]a[bold].wav", mix)
    assert "[red]a[bold].wav" in measured("[red]a[bold].wav", "--against", "mix.wav").out.decode()


@posix
@pytest.mark.parametrize("form", [("--csv",), ("--frames",), ()], ids=["csv", "frames", "table"])
def test_nobody_reads_the_pipe(mix, form):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = process("features", "mix.wav", "-q", *form, stdout=writing)
    finally:
        os.close(writing)
    assert (result.code, result.err) == (0, "")


@posix
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c(jobs):
    write("long.wav", np.tile(sound(), (1, 10)))
    before = snapshot()
    running = subprocess.Popen(
        command("features", "-q", *["long.wav"] * 200, "--jobs", jobs, "--frames"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert running.stdout.readline().startswith(b"file,time_s,")
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, err.decode()) == (130, "mixtools: interrupted; nothing was written\n")
    assert_unchanged(before)


def test_features_never_load_torch(mix):
    code = (
        "import sys; from mixtools.cli.main import run; "
        "code = run(['features', '-q', 'mix.wav', '--against', 'mix.wav', '--csv']); "
        "print(code == 0 and 'torch' not in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [command()[0], "-c", code], env=environment(), capture_output=True, timeout=60, check=False, text=True
    )
    assert done.stderr == "True\n"
