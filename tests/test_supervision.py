"""What a model decides, and what becomes of it before anybody hears it."""

import numpy as np
import pytest

from mixtools.measure.loudness import LoudnessMeter
from mixtools.mix import Insert, Mix, Track
from mixtools.synth import synth_song
from mixtools.tasks.automix.expert import Expert
from mixtools.tasks.automix.rules import Taste
from mixtools.tasks.automix.supervision import MOST_OFF_LU, supervised
from mixtools.tasks.mix import render
from mixtools.tasks.recordings import ArrayRecording

RATE = 22050


@pytest.fixture(scope="module")
def stems():
    return synth_song(3, 6.0, RATE, stems=8).stems


@pytest.fixture(scope="module")
def expert(stems):
    return Expert({name: ArrayRecording(audio) for name, audio in stems.items()}, RATE)


def decision(expert, pan=0.8, **gains_db):
    """As a model writes it: the expert's levels, but for some stems, and everything on one side."""
    usual = {track.file: track.chain for track in expert.mix().mix.tracks}
    tracks = []
    for name, chain in usual.items():
        fader = next(i.controls["gain_db"] for i in chain if i.effect == "gain")
        key = name.removesuffix(".wav")
        tracks.append(
            Track(
                name,
                chain=[
                    *(Insert(i.effect, dict(i.controls)) for i in chain if i.effect not in ("gain", "pan")),
                    Insert("gain", {"gain_db": fader + gains_db.get(key, 0.0)}),
                    Insert("pan", {"pan": pan}),
                ],
            )
        )
    return Mix(tracks, sample_rate=RATE)


def lufs(mix, stems, name, rate=RATE):
    """How loud a stem is in a mix, as one strip in the centre."""
    track = next(track for track in mix.tracks if track.file == name)
    alone = Mix([Track(name, chain=[i for i in track.chain if i.effect != "pan"])], sample_rate=rate)
    meter = LoudnessMeter(rate, 2)
    meter.add(render(alone, stems, rate))
    return meter.integrated_lufs


def pans(found):
    return {track.file: next(i.controls["pan"] for i in track.chain if i.effect == "pan") for track in found.mix.tracks}


def test_what_is_sound_stays_but_for_what_has_to_stand_in_the_centre(expert, stems):
    decided = decision(expert)
    found = supervised(expert, decided)
    for name in stems:
        assert lufs(found.mix, stems, name) == pytest.approx(lufs(decided, stems, name), abs=0.05)
    placed = pans(found)
    for name, role in found.roles.items():
        assert placed[name] == (0.5 if role in ("bass", "lead_vocal") else 0.8), role


def test_a_stem_that_is_lost_comes_back_and_one_that_shouts_goes_back(expert, stems):
    names = [name.removesuffix(".wav") for name in sorted(stems)]
    lost, shouting = names[1], names[4]
    decided = decision(expert, **{lost: -30.0, shouting: 25.0})
    found = supervised(expert, decided)
    usual = expert.mix().mix
    off = {name: lufs(found.mix, stems, name) - lufs(usual, stems, name) for name in stems}
    middle = np.median(list(off.values()))
    assert off[f"{lost}.wav"] - middle == pytest.approx(-MOST_OFF_LU, abs=0.1)
    assert off[f"{shouting}.wav"] - middle == pytest.approx(MOST_OFF_LU, abs=0.1)
    said = [str(one) for one in found.decisions if one.rule == "level"]
    assert len(said) == 2 and any(f"{lost}.wav: level: " in line and "below its role" in line for line in said)


def test_taste_moves_levels_and_sides(expert, stems):
    decided = decision(expert, pan=0.7)
    roles = supervised(expert, decided).roles
    drums = next(role for role in roles.values() if role in ("hats", "snare", "keys", "guitar"))
    found = supervised(expert, decided, Taste(levels_lu={drums: 2.0}, mirrored=True, width=1.5))
    for name, role in roles.items():
        moved = lufs(found.mix, stems, name) - lufs(decided, stems, name)
        assert moved == pytest.approx(2.0 if role == drums else 0.0, abs=0.05)
        assert pans(found)[name] == pytest.approx(0.5 if role in ("bass", "lead_vocal") else 0.2)


def test_levels_are_kept_where_that_is_asked_for(expert, stems):
    found = supervised(expert, decision(expert, kick=5.0), keep_levels=True)
    for name, audio in stems.items():
        meter = LoudnessMeter(RATE, len(audio), dual_mono=True)
        meter.add(audio)
        assert lufs(found.mix, stems, name) == pytest.approx(meter.integrated_lufs, abs=0.1)


def test_what_is_locked_stays_and_the_others_come_to_its_level(expert, stems):
    name = sorted(stems)[0]
    decided = decision(expert)
    usual = next(track for track in expert.mix().mix.tracks if track.file == name)
    fader = next(i.controls["gain_db"] for i in usual.chain if i.effect == "gain")
    settled = Track(
        name, chain=[*(i for i in usual.chain if i.effect != "gain"), Insert("gain", {"gain_db": fader - 6.0})]
    )
    found = supervised(expert, decided, locked=Mix([settled], sample_rate=RATE))
    assert next(track for track in found.mix.tracks if track.file == name) == settled
    for other in sorted(stems)[1:]:
        assert lufs(found.mix, stems, other) == pytest.approx(lufs(decided, stems, other) - 6.0, abs=1.0)
