"""The task `fit`: mixes whose truth is known are remade, and what cannot be known is said."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from conftest import audio
from fit_truth import Truth, compare_controls, own_mix, residual_db, worst

from mixtools import Mix, ParameterError, render
from mixtools.dsp.rooms import room_response
from mixtools.synth import synth_song
from mixtools.tasks.fit import Fitted, Options, fit
from mixtools.tasks.recordings import ArrayRecording

RATE = 16000
SECONDS = 6
FRAMES = SECONDS * RATE
REVERB_S = 0.1
FILES = "bass.wav", "kick.wav", "pad.wav", "snare.wav", "vox_lead.wav"


@functools.cache
def song() -> dict[str, np.ndarray]:
    stems = synth_song(3, float(SECONDS), RATE, 8).stems
    return {name: stems[name] for name in FILES}


@functools.cache
def truth(model: str = "stereo-bus") -> Truth:
    """Mono stems and a mix by our console, with delays of up to 20 ms, some between samples."""
    whole = replace(synth_song(3, 1.0, RATE, 8), stems=song())
    made = own_mix(whole, 1, "individual-bus" if model == "individual-bus" else "stereo-bus", REVERB_S)
    if model == "stereo-bus" or model == "individual-bus":
        return made
    tracks = [replace(track, sends={}) for track in made.mix.tracks]
    if model == "gain":
        kept = [[insert for insert in track.chain if insert.effect != "graphic_eq"] for track in tracks]
        tracks = [replace(track, offset_ms=0.0, chain=chain) for track, chain in zip(tracks, kept, strict=True)]
    mix = Mix(tracks, sample_rate=RATE)
    return Truth(made.stems, RATE, render(mix, made.stems, RATE, end=FRAMES), mix)


def fitted(stems, target, progress=lambda what, share: None, **options) -> Fitted:
    recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
    options = Options(**{"reverb_s": REVERB_S} | options)
    return fit(recordings, ArrayRecording(target), RATE, options, progress)


def rendered(found: Fitted, stems, n: int, rate: int = RATE) -> np.ndarray:
    held = {key: (response, rate) for key, response in found.responses.items()}
    return render(found.mix, stems, rate, responses=held, end=n)


def left_db(found: Fitted, stems, target, seconds: tuple[float, float] = (0.0, 1e9)) -> float:
    """The residual between two moments, by rendering the mix again."""
    n = target.shape[1]
    part = slice(*(min(round(s * RATE), n) for s in seconds))
    return residual_db(rendered(found, stems, n)[:, part], np.broadcast_to(target, (2, n))[:, part])


def noise_like(x: np.ndarray, db: float) -> np.ndarray:
    """White noise at a level relative to a signal's."""
    noise = np.random.default_rng(0).standard_normal(x.shape)
    return noise * np.sqrt(np.square(x).mean()) * 10.0 ** (db / 20.0)


def lines(found: Fitted) -> dict[str, dict]:
    return {line["file"]: line for line in found.report["tracks"]}


@functools.cache
def plain(model: str) -> Fitted:
    made = truth(model)
    return fitted(made.stems, made.target, model=model)


@pytest.mark.parametrize(
    ("model", "most_db"), [("stereo-bus", -50.0), ("eq", -50.0), ("individual-bus", -30.0), ("gain", -100.0)]
)
def test_a_mix_is_remade(model, most_db):
    made, found = truth(model), plain(model)
    residual = left_db(found, made.stems, made.target)
    assert residual < most_db
    # What is nearly nothing differs by how it was rounded.
    assert max(found.report["residual_db"], -100.0) == pytest.approx(max(residual, -100.0), abs=0.01)
    assert found.warnings == [] and not found.interrupted


@pytest.mark.parametrize("model", ["stereo-bus", "eq", "gain"])
def test_controls_are_found_again(model):
    made, found = truth(model), plain(model)
    off = worst(compare_controls(made, found.mix, found.responses))
    assert off["gain_db"] < 0.1 and off["pan"] < 0.01 and off["delay_samples"] < 1.0, off
    assert len(found.mix.tracks) == len(FILES)


def test_responses_are_in_the_gauge():
    found = plain("stereo-bus")
    assert list(found.responses) == ["reverb"]
    response = found.responses["reverb"]
    assert response.shape == (2, round(REVERB_S * RATE)) and response.dtype == np.float32
    assert float(np.square(response, dtype=np.float64).sum()) == pytest.approx(1.0, abs=1e-4)
    assert (response[:, 0] == 0.0).all()
    for line in found.report["tracks"]:
        assert line["eq_db"][5] == pytest.approx(0.0, abs=1e-9), "0 dB at 1 kHz"


def test_an_individual_bus_has_a_response_for_every_stem():
    found = plain("individual-bus")
    assert len(found.responses) == len(FILES) and len(found.mix.tracks) == 2 * len(FILES)
    assert all(response.shape[0] == 2 for response in found.responses.values())


def test_the_report_says_what_the_mix_has():
    found = plain("stereo-bus")
    report = found.report
    assert (report["model"], report["method"], report["sample_rate"]) == ("stereo-bus", "solve", RATE)
    assert report["seconds"] == SECONDS and report["fitted"] == [[0.0, SECONDS]]
    assert report["unseen_residual_db"] is None
    assert np.isfinite(report["loss"]) and 0.0 <= report["features"]["total"] < 5.0
    assert [line["file"] for line in report["tracks"]] == list(FILES)
    for line, track in zip(report["tracks"], found.mix.tracks, strict=True):
        given = {insert.effect: insert.settings for insert in track.chain}
        assert line["gain_db"] == given["gain"]["gain_db"] and line["pan"] == given["pan"]["pan"]
        assert line["delay_ms"] == track.offset_ms and line["note"] is None
        assert 0.0 <= line["sure_db"] < 0.1


def test_the_same_call_gives_the_same_mix():
    made = truth()
    again = fitted(made.stems, made.target)
    assert again.mix == plain("stereo-bus").mix and again.report == plain("stereo-bus").report
    assert all((again.responses[key] == plain("stereo-bus").responses[key]).all() for key in again.responses)


def test_what_comes_in_another_order_is_fitted_alike():
    made = truth("gain")
    turned = {name: made.stems[name] for name in reversed(FILES)}
    assert fitted(turned, made.target, model="gain").mix == plain("gain").mix


def test_a_mono_mix():
    made = truth("eq")
    centred = [[i for i in track.chain if i.effect != "pan"] for track in made.mix.tracks]
    mix = Mix([replace(track, chain=chain) for track, chain in zip(made.mix.tracks, centred, strict=True)])
    target = render(mix, made.stems, RATE, end=FRAMES)[:1]
    found = fitted(made.stems, target, model="eq")
    assert left_db(found, made.stems, target) < -50
    assert all(line["pan"] == pytest.approx(0.5, abs=1e-3) for line in found.report["tracks"])


def test_stereo_stems_are_linked_or_split():
    stems = {name: song()[name] for name in FILES}
    tracks = [replace(track, offset_ms=0.0) for track in truth("gain").mix.tracks]
    target = render(Mix(tracks), stems, RATE, end=FRAMES)
    linked = fitted(stems, target, model="gain")
    assert left_db(linked, stems, target) < -100
    split = fitted(stems, target, model="gain", split_stereo=True)
    assert left_db(split, stems, target) < -100
    assert {line["channel"] for line in split.report["tracks"] if stems[line["file"]].shape[0] == 2} == {
        "left",
        "right",
    }


def test_stems_of_unequal_length_and_one_that_is_longer_than_the_mix():
    made = truth()
    stems = {name: stem[:, : (3 + i) * RATE] for i, (name, stem) in enumerate(made.stems.items())}
    stems["pad.wav"] = np.concatenate([made.stems["pad.wav"]] * 2, axis=1)
    held = {key: (response, RATE) for key, response in made.responses.items()}
    target = render(made.mix, stems, RATE, responses=held, end=FRAMES)
    found = fitted(stems, target)
    assert left_db(found, stems, target) < -50
    assert found.report["seconds"] == SECONDS


def test_one_stem_only():
    made = truth()
    stems = {"vox_lead.wav": made.stems["vox_lead.wav"]}
    mix = replace(made.mix, tracks=[track for track in made.mix.tracks if track.file in stems])
    held = {key: (response, RATE) for key, response in made.responses.items()}
    target = render(mix, stems, RATE, responses=held, end=FRAMES)
    found = fitted(stems, target)
    assert left_db(found, stems, target) < -60
    line = lines(found)["vox_lead.wav"]
    assert line["gain_db"] == pytest.approx(mix.tracks[0].chain[1].controls["gain_db"], abs=0.1)


@pytest.mark.parametrize("model", ["stereo-bus", "individual-bus"])
def test_a_silent_stem_is_reported_and_leaves_the_rest_alone(model):
    made = truth(model)
    stems = made.stems | {"zero.wav": np.zeros((1, FRAMES), np.float32)}
    found = fitted(stems, made.target, model=model)
    assert left_db(found, stems, made.target) < plain(model).report["residual_db"] + 1.0
    assert [warning for warning in found.warnings if warning.startswith("zero.wav: silent")]
    line = lines(found)["zero.wav"]
    others = [other["gain_db"] for name, other in lines(found).items() if name != "zero.wav"]
    assert min(others) <= line["gain_db"] <= max(others) and line["sure_db"] is None and line["delay_ms"] == 0.0
    assert "silent" in line["note"]


@pytest.mark.parametrize("model", ["eq", "stereo-bus", "individual-bus", "gain"])
def test_a_stem_that_is_next_to_silent_where_the_fit_listens_is_not_blown_up(model):
    made = truth("gain")
    late = made.stems["pad.wav"].copy()
    late[:, : FRAMES // 2] *= 1e-5
    stems = made.stems | {"pad.wav": late}
    target = render(made.mix, stems, RATE, end=FRAMES) + noise_like(made.target, -10.0)
    found = fitted(stems, target, model=model, end_s=0.45 * FRAMES / RATE, align=False, steps=0)
    line = lines(found)["pad.wav"]
    others = [other["gain_db"] for name, other in lines(found).items() if name != "pad.wav"]
    assert min(others) <= line["gain_db"] <= max(others) and "in what was fitted" in line["note"]
    assert left_db(found, stems, target) < -5


@pytest.mark.parametrize("model", ["stereo-bus", "individual-bus", "gain"])
def test_silence_is_no_mistake(model):
    made = truth("gain")
    silent = {name: np.zeros_like(stem[:, : 2 * RATE]) for name, stem in made.stems.items()}
    target = made.target[:, : 2 * RATE]
    of_nothing = fitted(silent, target, model=model, steps=0)
    assert of_nothing.report["residual_db"] == pytest.approx(0.0, abs=1e-6)
    assert len(of_nothing.warnings) >= len(FILES)
    of_silence = fitted(made.stems, np.zeros_like(target), model=model, steps=0)
    assert of_silence.report["residual_db"] is None
    assert np.abs(rendered(of_silence, made.stems, 2 * RATE)).max() < 1e-4


@pytest.mark.parametrize(("model", "sign"), [("stereo-bus", -1.0), ("individual-bus", 1.0), ("individual-bus", -1.0)])
def test_duplicates_are_reported_and_share(model, sign):
    made = truth()
    stems = made.stems | {"pad_2.wav": (sign * made.stems["pad.wav"]).astype(np.float32)}
    found = fitted(stems, made.target, model=model)
    assert left_db(found, stems, made.target) < -30
    for one, other in (("pad.wav", "pad_2.wav"), ("pad_2.wav", "pad.wav")):
        assert any(warning.startswith(f"{one}: cannot be told apart from {other}") for warning in found.warnings)
        line = lines(found)[one]
        assert line["sure_db"] is None and other in line["note"]
    alone, *both = (lines(f)[name] for f, name in [(plain("stereo-bus"), "pad.wav"), (found, one), (found, other)])
    assert both[0]["inverted"] == (both[1]["inverted"] ^ (sign < 0))
    # Together they play what the one did, and neither plays much more than that.
    together = sum(10 ** (line["gain_db"] / 20) for line in both)
    assert 20 * np.log10(together) == pytest.approx(alone["gain_db"], abs=2.0)


def test_the_reverb_return_of_a_stem_is_reported():
    made = truth("gain")
    response = room_response("small_room", RATE)
    voice = made.stems["vox_lead.wav"][0]
    back = np.stack([np.convolve(voice, side)[:FRAMES] for side in response]).astype(np.float32)
    stems = made.stems | {"vox_return.wav": back}
    found = fitted(stems, (made.target + 0.5 * back).astype(np.float32), model="gain")
    assert lines(found)["vox_return.wav"]["note"] == "is a filtered copy of vox_lead.wav"
    assert [warning for warning in found.warnings if warning.startswith("vox_return.wav: is a filtered copy")]
    assert left_db(found, stems, made.target + 0.5 * back) < -60


@pytest.mark.parametrize("model", ["stereo-bus", "individual-bus", "gain"])
def test_a_mix_of_something_else_is_said_to_be(model):
    made = truth()
    other = synth_song(11, float(SECONDS), RATE, 8).stems.values()
    target = sum(np.broadcast_to(stem.mean(axis=0), (2, FRAMES)) for stem in other).astype(np.float32)
    found = fitted(made.stems, target, model=model, steps=0)
    assert found.report["unseen_residual_db"] > -1.0
    assert [warning for warning in found.warnings if "does not seem to be made of these stems" in warning]


@pytest.mark.parametrize("seconds", [(0.0, 0.25), (2.0, 2.1)])
def test_a_mix_that_is_shorter_than_the_reverb(seconds):
    made = truth()
    start, stop = (round(s * RATE) for s in seconds)
    target = made.target[:, start:stop].copy()
    found = fitted(made.stems, target, reverb_s=1.0)
    assert found.warnings[0].startswith("the mix is shorter than the reverb")
    assert found.report["reverb_s"] == (stop - start) / RATE
    assert np.isfinite(rendered(found, made.stems, stop - start)).all()


@pytest.mark.parametrize("later", [2 * RATE, -2 * RATE])
def test_a_mix_in_another_place(later):
    made = truth()
    moved = np.pad(made.target, ((0, 0), (later, 0))) if later > 0 else made.target[:, -later:]
    found = fitted(made.stems, np.ascontiguousarray(moved))
    assert left_db(found, made.stems, moved) < -35
    for track, true in zip(found.mix.tracks, made.mix.tracks, strict=True):
        assert track.offset_ms == pytest.approx(true.offset_ms + later * 1000 / RATE, abs=1000 / RATE)


def test_polarity_and_an_offset_of_one_stem_are_found():
    made = truth()
    stems = made.stems | {"kick.wav": -made.stems["kick.wav"]}
    lead = RATE // 4
    stems["vox_lead.wav"] = np.pad(stems["vox_lead.wav"], ((0, 0), (lead, 0)))
    found = fitted(stems, made.target)
    assert left_db(found, stems, made.target) < -50
    assert [name for name, line in lines(found).items() if line["inverted"]] == ["kick.wav"]
    true = {track.file: track.offset_ms for track in made.mix.tracks}
    assert lines(found)["vox_lead.wav"]["delay_ms"] == pytest.approx(true["vox_lead.wav"] - 250.0, abs=1000 / RATE)
    aligned = fitted(stems, made.target, align=False, steps=0)
    assert left_db(aligned, stems, made.target) > -20, "what is off by more than the filters reach has to be looked for"


def test_validation_is_on_what_was_not_fitted():
    made = truth()
    found = fitted(made.stems, made.target, validate=True)
    assert found.report["unseen_residual_db"] < -45
    assert found.mix == plain("stereo-bus").mix, "it is fitted to everything in the end"


def test_many_unknowns_remake_what_they_saw_and_not_the_rest():
    made = truth()
    noise = (made.target + 0.3 * made.target.std() * audio(1, 2, FRAMES)).astype(np.float32)
    found = fitted(made.stems, noise, model="individual-bus", reverb_s=0.3, validate=True)
    assert found.report["unseen_residual_db"] > found.report["residual_db"]


def test_only_a_part_is_fitted():
    made = truth()
    target = made.target.copy()
    target[:, 5 * RATE :] = audio(2, 2, RATE)
    found = fitted(made.stems, target, start_s=1.0, end_s=5.0)
    assert found.report["fitted"] == [[1.0, 5.0]]
    assert left_db(found, made.stems, target, (1.0, 5.0)) < -50
    seen = round(1.0 * RATE), round(5.0 * RATE)
    rest = np.ones(FRAMES, bool)
    rest[slice(*seen)] = False
    unseen = residual_db(rendered(found, made.stems, FRAMES)[:, rest], target[:, rest])
    assert found.report["unseen_residual_db"] == pytest.approx(unseen, abs=0.01)


def test_a_part_that_is_not_there():
    made = truth()
    with pytest.raises(ParameterError, match=r"start_s is 9, but what can be fitted ends at 6 s; start earlier"):
        fitted(made.stems, made.target, start_s=9.0)


def test_of_a_long_song_excerpts_are_fitted_and_the_rest_is_the_test():
    rate, seconds = 8000, 90
    rng = np.random.default_rng(0)
    envelopes = np.repeat(rng.choice([0.0, 0.3, 1.0], (3, seconds)), rate, axis=1)
    stems = {
        f"{i}.wav": (0.1 * e * rng.standard_normal(e.size)).astype(np.float32)[None] for i, e in enumerate(envelopes)
    }
    target = sum(stem * np.array([[1.0], [0.5 * i]]) for i, stem in enumerate(stems.values())).astype(np.float32)
    recordings = {name: ArrayRecording(stem) for name, stem in stems.items()}
    found = fit(recordings, ArrayRecording(target), rate, Options(model="eq", align=False))
    pieces = found.report["fitted"]
    assert sum(last - first for first, last in pieces) <= 60.0 < seconds
    made = rendered(found, stems, target.shape[1], rate)
    rest = np.ones(target.shape[1], bool)
    for first, last in pieces:
        rest[round(first * rate) : round(last * rate)] = False
    unseen = residual_db(made[:, rest], target[:, rest])
    assert found.report["unseen_residual_db"] == pytest.approx(unseen, abs=0.1)
    assert unseen < -50


def test_descent_comes_near_and_says_how_near():
    made = truth()
    found = fitted(made.stems, made.target, method="descent", steps=40)
    residual = left_db(found, made.stems, made.target)
    assert residual < -5.0 and found.report["residual_db"] == pytest.approx(residual, abs=0.01)
    assert found.report["method"] == "descent"
    for track, true in zip(found.mix.tracks, made.mix.tracks, strict=True):
        assert track.offset_ms == pytest.approx(true.offset_ms, abs=1.0), "stems were moved to where they belong"


class Interrupting:
    """Presses Ctrl-C once a stage has come so far."""

    def __init__(self, stage: str, share: float):
        self.stage, self.share = stage, share

    def __call__(self, what: str, share: float) -> None:
        if what == self.stage and share >= self.share:
            self.stage = "nothing"
            raise KeyboardInterrupt


def test_an_interruption_leaves_the_best_so_far():
    made = truth()
    found = fitted(made.stems, made.target, Interrupting("solving", 0.5))
    assert found.interrupted
    residual = left_db(found, made.stems, made.target)
    assert plain("stereo-bus").report["residual_db"] < residual < -3.0
    assert found.report["residual_db"] == pytest.approx(residual, abs=0.01)
    found.mix.check()


@pytest.mark.parametrize(("stage", "share"), [("aligning", 0.0), ("solving", 0.1)])
def test_an_interruption_before_anything_was_found_is_one(stage, share):
    made = truth()
    with pytest.raises(KeyboardInterrupt):
        fitted(made.stems, made.target, Interrupting(stage, share))


def test_progress_is_told():
    heard: list[tuple[str, float]] = []
    made = truth("eq")
    fitted(made.stems, made.target, lambda what, share: heard.append((what, share)), model="eq", steps=0)
    assert {"aligning", "solving", "checking"} <= {what for what, _ in heard}
    assert all(0.0 <= share <= 1.0 for _, share in heard)


@pytest.mark.parametrize(
    ("option", "word", "meant"),
    [("model", "stero-bus", "stereo-bus"), ("method", "solved", "solve"), ("loss", "mr_stft", "mr-stft")],
)
def test_a_wrong_word_is_refused_with_the_right_one(option, word, meant):
    with pytest.raises(ParameterError, match=f"^{option} is {word}; give .*{meant}"):
        Options(**{option: word})


def test_every_loss_that_can_be_asked_for_is_there():
    from mixtools.diff.losses import TOWARDS
    from mixtools.tasks.fit import LOSSES

    assert tuple(TOWARDS) == LOSSES
