"""Real multitracks, where MIXTOOLS_AUDIO names a folder of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixtools import levels
from mixtools.cli.main import run
from mixtools.errors import ExitStatus
from mixtools.files.mixfile import read_mix, write_mix
from mixtools.mix import Bus, Insert, Master, Mix, Track

FOLDER = Path(os.environ.get("MIXTOOLS_AUDIO", "/nowhere"))
SONGS = sorted(path.parent for path in FOLDER.glob("multitrack/*/stems"))

pytestmark = [pytest.mark.audio, pytest.mark.skipif(not SONGS, reason="MIXTOOLS_AUDIO names no multitracks")]


def a_whole_console(song: Path) -> Mix:
    names = sorted(path.name for path in (song / "stems").iterdir())
    tracks = [
        Track(
            name,
            chain=[
                Insert("gain", {"gain_db": -6.0}),
                Insert("parametric_eq", {"low_shelf_gain_db": -3.0, "band2_gain_db": 2.0, "high_shelf_gain_db": 1.5}),
                Insert("compressor", {"threshold_db": -24.0, "ratio": 3.0, "knee_db": 6.0}),
                Insert("pan", {"pan": [[0, 0.3], [20, 0.7]] if i % 2 else 0.5}),
            ],
            sends={"room": -16.0},
            output="group" if i % 3 == 0 else "master",
        )
        for i, name in enumerate(names)
    ]
    buses = {
        "group": Bus(chain=[Insert("saturation", {"drive_db": 3.0})]),
        "room": Bus(chain=[Insert("convolution", {"ir": "medium_room"})]),
    }
    return Mix(tracks, buses, Master([Insert("compressor", {"threshold_db": -12.0}), Insert("limiter")]))


@pytest.mark.parametrize("song", SONGS, ids=[song.name for song in SONGS])
def test_a_song_renders_and_a_slice_is_its_slice(song, tmp_path, capsys):
    write_mix(a_whole_console(song), tmp_path / "mix.yaml")
    common = [str(song / "stems"), "-p", str(tmp_path / "mix.yaml"), "-q"]
    assert run(["mix", *common, "-o", str(tmp_path / "mix.wav"), "--json"]) is ExitStatus.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts["peak_dbfs"] <= -1.0 and -40 < facts["integrated_lufs"] < -8
    part = [*common, "-o", str(tmp_path / "part.wav"), "--start", "3", "--end", "5.5", "--threads", "1"]
    assert run(["mix", *part]) is ExitStatus.DONE
    whole, rate = soundfile.read(tmp_path / "mix.wav", dtype="float32")
    slice_, _ = soundfile.read(tmp_path / "part.wav", dtype="float32")
    assert np.array_equal(slice_, whole[3 * rate : round(5.5 * rate)])


@pytest.mark.parametrize("song", SONGS, ids=[song.name for song in SONGS])
def test_the_sum_is_the_exact_sum(song, tmp_path):
    assert (
        run(["mix", str(song / "stems"), "--baseline", "sum", "-o", str(tmp_path / "sum.wav"), "-q"]) is ExitStatus.DONE
    )
    mixed, rate = soundfile.read(tmp_path / "sum.wav", dtype="float32")
    total = np.zeros(mixed.shape)
    for path in sorted((song / "stems").iterdir()):
        stem, stem_rate = soundfile.read(path, dtype="float32", always_2d=True)
        if stem_rate != rate:
            pytest.skip("its stems have several rates")
        total[: len(stem)] += stem
    assert np.array_equal(mixed, total.astype(np.float32))


@pytest.mark.parametrize("song", SONGS, ids=[song.name for song in SONGS])
def test_the_expert_mixes_it_soundly(song, tmp_path, capsys):
    arguments = ["mix", str(song / "stems"), "-o", str(tmp_path / "mix.wav"), "--write-mix", str(tmp_path / "mix.yaml")]
    assert run([*arguments, "-q", "--json"]) is ExitStatus.DONE
    facts = json.loads(capsys.readouterr().out)
    mixed, rate = soundfile.read(tmp_path / "mix.wav", dtype="float32")
    heard = levels(mixed.T, rate)
    assert abs(heard.integrated_lufs + 16.0) <= 0.5 and heard.true_peak_dbtp <= -1.0
    assert (mixed[:, 0] * mixed[:, 1]).sum() > 0.0
    for track in read_mix(tmp_path / "mix.yaml").tracks:
        pans = [insert.controls["pan"] for insert in track.chain if insert.effect == "pan"]
        assert not pans or facts["roles"][track.file] not in ("kick", "bass", "lead_vocal")
