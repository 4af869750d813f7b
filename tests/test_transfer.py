"""Mixing like a record: the search, what bounds it, and what is told of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixtools import Bus, Curve, Insert, Master, Mix, Track, format_mix, levels, parse_mix, render, synth_song
from mixtools.dsp.console import Console
from mixtools.errors import AudioError, ParameterError
from mixtools.measure.audio_features import AF_TERMS
from mixtools.synth import finished_mix
from mixtools.tasks.automix.baselines import baseline
from mixtools.tasks.automix.expert import Expert
from mixtools.tasks.recordings import ArrayRecording, Playing
from mixtools.tasks.transfer import engine
from mixtools.tasks.transfer.blending import blended
from mixtools.tasks.transfer.desk import Desk
from mixtools.tasks.transfer.dynamics import crest_db, finished
from mixtools.tasks.transfer.engine import mastered_as_wanted, transfer
from mixtools.tasks.transfer.goal import Reference, features_at, goal_of
from mixtools.tasks.transfer.options import ASPECTS, Amount
from mixtools.tasks.transfer.places import near_centre
from mixtools.tasks.transfer.search import Search
from mixtools.tasks.transfer.session import Session
from mixtools.tasks.transfer.sketch import Sketch, typical_of

RATE = 16000
SECONDS = 5.0
STEPS = 2


def recordings(stems):
    return {name: ArrayRecording(samples) for name, samples in stems.items()}


def goal_to(x, rate=RATE, name="record.wav", session_rate=RATE):
    return goal_of([Reference(name, ArrayRecording(x), rate)], session_rate)


@pytest.fixture(scope="module")
def song():
    return synth_song(5, SECONDS, RATE, 8)


@pytest.fixture(scope="module")
def record():
    other = synth_song(11, SECONDS, RATE, 8)
    return render(finished_mix(other), other.stems, RATE)


@pytest.fixture(scope="module")
def start(song):
    return Expert(recordings(song.stems), RATE).mix()


@pytest.fixture(scope="module")
def moved(song, start, record):
    return transfer(recordings(song.stems), RATE, goal_to(record), start.mix, roles=start.roles, steps=STEPS)


def power_db(mix, stems, name):
    track = next(track for track in mix.tracks if track.file == name)
    alone = Mix([Track(track.file, track.channel, track.offset_ms, chain=track.chain)])
    return 10 * np.log10(np.mean(np.square(render(alone, stems, RATE), dtype=np.float64)) + 1e-20)


def test_a_mix_comes_near_its_record(moved):
    before, after = moved.losses["start"], moved.losses["found"]
    assert set(after) == {*AF_TERMS, "total"}
    assert after["total"] < 0.5 * before["total"]
    assert after["total"] < moved.losses["equal-loudness"]["total"]


def test_what_is_found_is_a_mix_file(moved):
    assert parse_mix(format_mix(moved.found), "found").to_plain() == moved.found.to_plain()
    effects = {insert.effect for track in moved.found.tracks for insert in track.chain}
    assert effects <= {"parametric_eq", "compressor", "gain", "pan"}
    assert {insert.effect for insert in moved.found.master.chain} <= {"parametric_eq", "compressor"}


def test_no_stem_is_lost_and_no_polarity_turned(song, start, moved):
    changes = [power_db(moved.found, song.stems, n) - power_db(start.mix, song.stems, n) for n in song.stems]
    assert min(changes) - np.median(changes) > -14.0
    assert not any(i.settings["invert"] for _, i in moved.found.inserts() if i.effect == "gain")


def test_the_same_twice_in_any_order(song, start, record, moved):
    stems = recordings(dict(reversed(song.stems.items())))
    mix = Mix(list(reversed(start.mix.tracks)), start.mix.buses, start.mix.master, start.mix.sample_rate)
    again = transfer(stems, RATE, goal_to(record), mix, roles=start.roles, steps=STEPS)
    assert again.found == moved.found
    assert again.losses == moved.losses


def test_the_gain_of_a_record_does_not_matter(record):
    loud, quiet = goal_to(record), goal_to(record * np.float32(0.3))
    assert np.array_equal(loud.features.bark, quiet.features.bark)
    assert float(loud.features.width) == float(quiet.features.width)
    assert loud.lufs - quiet.lufs == pytest.approx(-20 * math.log10(0.3), abs=1e-3)


def test_amount_0_is_the_start_and_1_what_was_found(start, moved):
    assert moved.blended(Amount(0.0)) is start.mix
    assert moved.blended(Amount(**dict.fromkeys(ASPECTS, 0.0))) is start.mix
    assert moved.blended(Amount()) == moved.found


def test_half_way_is_between(song, moved):
    half = moved.blended(Amount(0.5))

    def faders(mix):
        return np.array([sum(i.settings["gain_db"] for i in t.chain if i.effect == "gain") for t in mix.tracks])

    assert faders(half) == pytest.approx((faders(moved.base) + faders(moved.found)) / 2, abs=0.01)
    assert np.isfinite(render(half, song.stems, RATE)).all()


def test_aspects_move_by_themselves(moved):
    still = moved.blended(Amount(levels=0.0, stereo=0.0))
    for track, base, found in zip(still.tracks, moved.base.tracks, moved.found.tracks, strict=True):
        for insert, old, new in zip(track.chain, base.chain, found.chain, strict=True):
            assert insert == (old if insert.effect in ("gain", "pan") else new)
    with pytest.raises(ParameterError, match=r"amount.eq is 1.5; give 0 to 1"):
        Amount(eq=1.5)


def test_a_band_and_a_compressor_that_were_not_there_come_slowly():
    def mix(eq, compressor):
        return Mix([Track("a.wav", chain=[Insert("parametric_eq", eq), Insert("compressor", compressor)])])

    old = mix({}, {"threshold_db": 0.0, "ratio": 1.0})
    new = mix({"band2_gain_db": 6.0, "band2_freq_hz": 3000.0}, {"threshold_db": -30.0, "ratio": 4.0})
    eq, compressor = (insert.settings for insert in blended(old, new, Amount(0.5)).tracks[0].chain)
    assert (eq["band2_gain_db"], eq["band2_freq_hz"]) == (3.0, 3000.0)
    assert (compressor["threshold_db"], compressor["ratio"]) == (-30.0, 2.0)


def test_mixes_that_differ_in_more_than_numbers_are_not_blended(start):
    with pytest.raises(ParameterError, match="differ in more than numbers"):
        blended(start.mix, Mix([Track("a.wav")]), Amount(0.5))


def test_no_steps_keep_the_start(song, start, record):
    result = transfer(recordings(song.stems), RATE, goal_to(record), start.mix, steps=0)
    assert result.found is start.mix and result.rounds == 0
    assert result.losses["found"] == result.losses["start"]


def test_locked_tracks_stay_as_they_are(song, start, record):
    name = sorted(song.stems)[1]
    result = transfer(recordings(song.stems), RATE, goal_to(record), start.mix, locked={name}, steps=1)
    tracks = [next(t for t in mix.tracks if t.file == name) for mix in (start.mix, result.found)]
    assert tracks[0] == tracks[1]
    assert result.found != start.mix
    assert any(line.endswith("as it is") for line in result.lines)


def test_it_stops_with_the_best_so_far(song, start, record):
    few = replace(start.mix, tracks=start.mix.tracks[:3])
    heard, stems, goal = [], recordings({t.file: song.stems[t.file] for t in few.tracks}), goal_to(record)
    stopped = transfer(stems, RATE, goal, few, progress=lambda *all: heard.append(all), stop=lambda: True)
    assert stopped.rounds == 1 and stopped.stopped
    assert heard[0][0] == 1 and heard[0][2] == pytest.approx(stopped.losses["found"]["total"])

    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted = transfer(stems, RATE, goal, few, progress=interrupt)
    assert interrupted.stopped and interrupted.found == stopped.found


def test_a_search_that_is_not_near_goes_on_from_a_place_aside(song, start, record, monkeypatch):
    few = replace(start.mix, tracks=start.mix.tracks[:3])
    stems, goal = recordings({t.file: song.stems[t.file] for t in few.tracks}), goal_to(record)
    begun, climb = [], engine._Engine.climb

    def watched(self, best, *rest):
        begun.append(best)
        return climb(self, best, *rest)

    monkeypatch.setattr(engine._Engine, "climb", watched)
    monkeypatch.setattr("mixtools.tasks.transfer.search.ITERATIONS", 20)
    monkeypatch.setattr(engine, "CLIMB", 2)
    monkeypatch.setattr(engine, "AGAIN", 1)
    monkeypatch.setattr(engine, "NEAR", 0.0)
    result = transfer(stems, RATE, goal, few, steps=4)
    assert not begun[0].x.any()
    assert len(begun) == 3 if result.rounds == 4 else (len(begun), result.rounds) == (2, 3)
    assert all(np.abs(begun[k].x - begun[k - 1].x).max() > 0.5 for k in range(1, len(begun)))
    begun.clear()
    monkeypatch.setattr(engine, "NEAR", math.inf)
    once = transfer(stems, RATE, goal, few, steps=4)
    assert len(begun) == 1 and once.rounds == 2
    assert result.losses["found"]["total"] <= 1.05 * once.losses["found"]["total"]


def test_what_leads_and_carries_goes_only_a_little_aside():
    tracks = [Track(f"{name}.wav", chain=[Insert("pan", {"pan": pan})]) for name, pan in (("a", 1.0), ("b", 0.45))]
    found = near_centre(Mix([*tracks, Track("c.wav")]), {"a.wav": "kick", "b.wav": "lead_vocal", "c.wav": "bass"})
    assert [[i.controls["pan"] for i in track.chain] for track in found.tracks] == [[0.62], [0.45], []]
    assert near_centre(Mix(tracks), {"a.wav": "guitar"}) == Mix(tracks)


def test_its_own_mix_is_found_again(song, start):
    wanted = render(start.mix, song.stems, RATE, tail=0)
    result = transfer(recordings(song.stems), RATE, goal_to(wanted), start.mix, roles=start.roles, steps=STEPS)
    assert result.losses["found"]["total"] <= 2e-3
    equal = baseline("equal-loudness", recordings(song.stems), RATE)
    result = transfer(recordings(song.stems), RATE, goal_to(wanted), equal, roles=start.roles, steps=3)
    assert result.losses["found"]["total"] <= 2e-3


def test_the_end_is_as_loud_as_the_record_under_its_ceiling(song, record, moved):
    def console(mix):
        return Console(mix, [Playing(ArrayRecording(song.stems[track.file])) for track in mix.tracks], RATE)

    final = mastered_as_wanted(moved.found, console, moved)
    heard = levels(render(final.mix, song.stems, RATE), RATE)
    assert heard.true_peak_dbtp <= -1.0
    assert heard.integrated_lufs == pytest.approx(moved.target_lufs, abs=0.5 + final.plan.missed_lu)
    assert [insert.effect for insert in final.mix.master.chain].count("limiter") <= 1


def test_lines_are_what_a_musician_reads(moved):
    assert len(moved.lines) == len(moved.found.tracks) + 1
    assert all(" dB" in line for line in moved.lines)
    assert moved.lines[-1].startswith("master: ")


@pytest.mark.parametrize("channels", [1])
def test_a_second_of_a_record_is_enough(song, start, record, channels):
    goal = goal_to(record[:channels, RATE : 2 * RATE])
    assert channels == 2 or float(goal.features.width) == 0.0
    result = transfer(recordings(song.stems), RATE, goal, start.mix, steps=1)
    assert result.losses["found"]["total"] < result.losses["start"]["total"]


def test_records_that_tell_nothing_are_refused(record):
    with pytest.raises(AudioError, match=r"^record.wav: is silent; give a record that can be heard$"):
        goal_to(np.zeros((2, RATE), np.float32))
    with pytest.raises(AudioError, match=r"^record.wav: 0.1 s are to be heard; give 0.4 s or more$"):
        goal_to(record[:, : RATE // 10])
    with pytest.raises(ParameterError, match="there is no reference; give at least one record"):
        goal_of([], RATE)
    with pytest.raises(ParameterError, match="weight is 0; give 0.001 to 1000"):
        goal_of([Reference("a.wav", ArrayRecording(record), RATE, weight=0.0)], RATE)


def test_records_are_averaged_by_weight(record):
    other = synth_song(12, SECONDS, RATE, 8)
    x = render(finished_mix(other), other.stems, RATE)
    both = goal_of([Reference("a", ArrayRecording(record), RATE, 3.0), Reference("b", ArrayRecording(x), RATE)], RATE)
    one, two = goal_to(record), goal_to(x)
    assert both.features.crest_db == pytest.approx(
        0.75 * one.features.crest_db + 0.25 * two.features.crest_db, abs=1e-4
    )
    middle = 0.75 * np.log(one.features.bark) + 0.25 * np.log(two.features.bark)
    assert np.log(both.features.bark)[0, :10] == pytest.approx(middle[0, :10], abs=1e-3)


def test_only_what_both_have_is_compared(record):
    assert goal_to(record, session_rate=48000).rate == RATE
    assert goal_to(record, rate=96000, session_rate=48000).rate == 48000


def test_one_stem_and_silent_ones(song, record):
    name = sorted(song.stems)[0]
    silent = np.zeros((1, round(SECONDS * RATE)), np.float32)
    mix = Mix([Track(name), Track("silence.wav")])
    stems = recordings({name: song.stems[name], "silence.wav": silent})
    result = transfer(stems, RATE, goal_to(record), mix, steps=2)
    assert result.losses["found"]["total"] < result.losses["start"]["total"]
    assert next(track for track in result.found.tracks if track.file == "silence.wav") == mix.tracks[1]
    nothing = transfer({"silence.wav": ArrayRecording(silent)}, RATE, goal_to(record), Mix([Track("silence.wav")]))
    assert nothing.rounds == 0 and math.isinf(nothing.losses["found"]["total"])


def test_a_desk_at_its_start_is_the_start(song, start):
    desk = Desk(start.mix)
    expected = render(start.mix, song.stems, RATE, tail=0)
    assert (
        np.abs(render(desk.set(desk.start()), song.stems, RATE, tail=0) - expected).max()
        < 1e-2 * np.abs(expected).max()
    )


def test_a_limiter_that_ended_the_start_is_replaced():
    mix = Mix(
        [Track("a.wav")], master=Master([Insert("saturation"), Insert("gain", {"gain_db": 3.0}), Insert("limiter")])
    )
    effects = [insert.effect for insert in Desk(mix).mix.master.chain]
    assert effects == ["saturation", "parametric_eq", "compressor"]


def test_automation_is_heard_where_it_is():
    x = np.random.default_rng(0).standard_normal((1, 40 * RATE)).astype(np.float32) * 0.1
    fader = Curve(((0.0, -20.0), (40.0, 0.0)))
    mix = Mix([Track("a.wav", chain=[Insert("gain", {"gain_db": fader})])], {"b": Bus()}, sample_rate=RATE)
    session = Session({"a.wav": ArrayRecording(x)}, RATE, most_s=10.0)
    whole = render(mix, {"a.wav": x}, RATE)
    expected = np.concatenate([whole[:, a:b] for a, b in session.ranges], axis=1)
    heard = session.rendered(mix)
    assert len(session.ranges) > 1
    assert np.sqrt(np.mean((heard - expected) ** 2)) < 0.01 * np.sqrt(np.mean(expected**2))


def test_parts_may_be_louder_than_the_whole():
    x = np.random.default_rng(0).standard_normal((1, 40 * RATE)).astype(np.float32) * 0.1
    x[:, 15 * RATE :] *= 0.5
    session = Session({"a.wav": ArrayRecording(x)}, RATE, most_s=10.0)
    assert session.louder_lu(Mix([Track("a.wav")])) == pytest.approx(-10 * math.log10((15 + 0.25 * 25) / 40), abs=0.2)
    assert Session({"a.wav": ArrayRecording(x)}, RATE, most_s=40.0).louder_lu(Mix([Track("a.wav")])) == 0.0


def test_a_mix_of_ones_own_may_have_groups_and_other_effects(song, record):
    names = sorted(song.stems)
    tracks = [Track(name, output="group" if i % 2 else "master") for i, name in enumerate(names)]
    tracks[0].chain = [Insert("pan", {"pan": [[0, 0.2], [5, 0.8]]}), Insert("saturation", {"drive_db": 3.0})]
    tracks[1].sends = {"hall": -12.0}
    buses = {"group": Bus(chain=[Insert("compressor")]), "hall": Bus(chain=[Insert("convolution", {"ir": "hall"})])}
    own = Mix(tracks, buses, Master([Insert("saturation")])).check()
    result = transfer(recordings(song.stems), RATE, goal_to(record), own, steps=1)
    assert result.losses["found"]["total"] < result.losses["start"]["total"]
    found = result.found.tracks[0]
    assert [insert.controls.get("pan") for insert in found.chain if insert.effect == "pan"] == [
        Curve(((0.0, 0.2), (5.0, 0.8)))
    ]
    assert set(result.found.buses) == {"group", "hall"}
    assert result.found.master.chain[0] == Insert("saturation")


def test_a_start_of_other_stems_is_refused(song, record):
    with pytest.raises(ParameterError, match=r"^tracks\[0\].file is x.wav, which is not among the stems; give it$"):
        transfer(recordings(song.stems), RATE, goal_to(record), Mix([Track("x.wav")]))


def test_the_sketch_foresees_what_is_heard(song, start, record):
    session = Session(recordings(song.stems), RATE)
    desk, goal = Desk(start.mix), goal_to(record)
    search = Search(Sketch(desk, session, goal.rate), goal, start.roles, dict.fromkeys(AF_TERMS, math.inf))
    origin = np.zeros(len(search.low))
    x = session.rendered(desk.set(search.controls(origin)))
    search.correct(origin, features_at(x, RATE, goal.rate), crest_db(x), typical_of(x, RATE, goal.rate))
    elsewhere = np.clip(np.random.default_rng(1).standard_normal(len(origin)) * 0.7, search.low, search.high)
    heard = features_at(session.rendered(desk.set(search.controls(elsewhere))), RATE, goal.rate)
    with torch.no_grad():
        seen, _ = search.sketch.features(search.moving(elsewhere))
    seen = {name: value + search.offsets.get(name, 0.0) for name, value in seen.items()}
    compared = heard.bark > 0.0
    assert np.sqrt(np.mean((seen["bark"].numpy()[compared] - np.log(heard.bark[compared])) ** 2)) < 0.12
    assert float(torch.exp(seen["width"])) == pytest.approx(float(heard.width), rel=0.15)
    assert float(seen["imbalance"]) == pytest.approx(float(heard.imbalance), abs=0.03)


def test_the_masters_dynamics_bring_a_crest_factor():
    x = np.random.default_rng(3).standard_normal((2, 4 * RATE)) * 0.05
    burst = 0.8 * np.sin(2 * np.pi * 200 * np.arange(RATE // 200) / RATE)
    for at in range(RATE // 10, 4 * RATE, RATE):
        x[:, at : at + len(burst)] += burst
    x = x.astype(np.float32)
    wanted = float(crest_db(x).mean()) - 6.0
    done = finished(x, RATE, wanted, -20.0)
    assert float(crest_db(done.audio).mean()) == pytest.approx(wanted, abs=0.5)
    assert finished(x, RATE, 60.0, -40.0).ceiling_db is None
