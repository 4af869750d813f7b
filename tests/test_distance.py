"""Metrics between two signals: against plain implementations, auraloss and librosa, on numpy and torch alike."""

from __future__ import annotations

import math
import subprocess
import sys

import auraloss
import librosa
import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import audio

from mixtools.errors import ParameterError
from mixtools.measure import distance
from mixtools.measure.arrays import Resolution, magnitudes, stretches
from mixtools.measure.audio_features import AF_TERMS, WIDEST, AudioFeatures, audio_feature_loss, audio_features
from mixtools.measure.distance import (
    ALIGNED,
    DIFFMST_MR_STFT,
    MR_STFT,
    MSS,
    aligned,
    esr,
    mae,
    mcd,
    mr_stft,
    mss,
    si_sdr_db,
    sum_difference_mr_stft,
)
from mixtools.measure.filterbanks import bark_filterbank
from mixtools.measure.frechet import Gaussian, frechet_distance

RATE = 44100
RESOLUTIONS = [*MR_STFT, *MSS, Resolution(512, 256, 512)]
SMALL = (Resolution(32, 8, 20), Resolution(16, 8, 16))


@pytest.fixture(scope="module")
def pair():
    """A stereo signal and another that resembles it."""
    b = audio(1, 2, 30000)
    return 0.8 * b + 0.05 * audio(2, 2, 30000) + 0.01, b


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces so short that every metric is put together from many."""
    monkeypatch.setattr("mixtools.measure.arrays.SAMPLES_AT_A_TIME", 5000)


def stft_by_hand(x: np.ndarray, size: int, hop: int, window: int) -> np.ndarray:
    """|STFT| of (n,) as (frames, bins): reflected, windowed and transformed one frame at a time."""
    half = size // 2
    padded = np.pad(x, half, mode="reflect" if len(x) > half else "constant")
    taper = np.zeros(size)
    for i in range(window):
        taper[(size - window) // 2 + i] = math.sin(math.pi * i / window) ** 2
    return np.array([np.abs(np.fft.rfft(padded[k * hop : k * hop + size] * taper)) for k in range(1 + len(x) // hop)])


def whole(x, resolution):
    return np.concatenate([np.asarray(piece) for piece in magnitudes(x, resolution)], axis=-1)


@pytest.mark.parametrize("n", [1, 100, 256, 257, 5000])
@pytest.mark.parametrize("resolution", [Resolution(512, 50, 240), Resolution(256, 128, 256)])
def test_spectra_are_those_of_the_definition(n, resolution, short_pieces):
    x = audio(3, 2, max(n, 10))[:, :n]
    expected = np.stack([stft_by_hand(y, resolution.size, resolution.hop, resolution.window).T for y in x])
    assert np.allclose(whole(x, resolution), expected, rtol=1e-9, atol=1e-11)
    assert np.allclose(whole(torch.from_numpy(x), resolution), expected, rtol=1e-9, atol=1e-11)


def loss_of_auraloss(settings, dtype=torch.float64, **weights):
    """auraloss's distance over some resolutions, with windows of the signals' own precision."""
    sizes = [r.size for r in settings], [r.hop for r in settings], [r.window for r in settings]
    theirs = auraloss.freq.MultiResolutionSTFTLoss(*sizes, **weights)
    for stft in theirs.stft_losses:
        stft.window = torch.hann_window(stft.win_length, dtype=dtype)
    return theirs


def test_pieces_join_to_the_whole():
    x = np.arange(24.0).reshape(2, 12)
    joined = np.concatenate([piece[..., 2:] for (piece,) in stretches(x, history=2)], axis=-1)
    assert np.array_equal(joined, x)


def test_mae_and_esr_by_hand(pair, short_pieces):
    a, b = pair
    error = [[a[c, i] - b[c, i] for i in range(a.shape[1])] for c in range(2)]
    assert mae(a, b) == pytest.approx(np.mean(np.abs(error)), rel=1e-12)
    assert esr(a, b) == pytest.approx(np.square(error).sum() / np.square(b).sum(), rel=1e-12)
    emphasis = [1.0, -distance.WRIGHT_PRE_EMPHASIS]
    shaped = [np.array([np.convolve(x, emphasis)[:-1] for x in signals]) for signals in (error, b)]
    emphasised = np.square(shaped[0]).sum() / np.square(shaped[1]).sum()
    assert esr(a, b, pre_emphasis=0.85) == pytest.approx(emphasised, rel=1e-12)
    offset = np.mean(np.mean(error, axis=1) ** 2) / np.mean(b**2)
    assert esr(a, b, pre_emphasis=0.85, dc=True) == pytest.approx(emphasised + offset, rel=1e-12)


def test_si_sdr_by_hand(pair, short_pieces):
    a, b = pair
    estimate, reference = ((x - x.mean(axis=1, keepdims=True)).ravel() for x in pair)
    projection = np.dot(estimate, reference) / np.dot(reference, reference) * reference
    expected = 20 * math.log10(np.linalg.norm(projection) / np.linalg.norm(estimate - projection))
    assert si_sdr_db(a, b) == pytest.approx(expected, rel=1e-12)
    assert si_sdr_db(-3.0 * a + 0.2, b) == pytest.approx(expected, rel=1e-9)
    loss = auraloss.time.SISDRLoss(eps=0.0)
    mono = [torch.from_numpy(x[:1]) for x in pair]
    assert si_sdr_db(a[:1], b[:1]) == pytest.approx(-loss(*mono).item(), rel=1e-9)


def test_si_sdr_of_noise_of_known_level():
    rng = np.random.default_rng(0)
    b, noise = rng.standard_normal((2, 200_000))
    assert si_sdr_db(b + 0.01 * noise, b) == pytest.approx(40.0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_mcd_is_that_of_librosas_cepstra(pair, rate, short_pieces):
    a, b = pair
    cepstra = [
        librosa.feature.mfcc(y=x.astype(np.float64), sr=rate, n_mfcc=25, pad_mode="reflect", dtype=np.float64)
        for x in pair
    ]
    distances = np.sqrt(np.square(cepstra[0] - cepstra[1]).sum(axis=-2))
    assert mcd(a, b, rate) == pytest.approx(6.14185 * distances.mean(), rel=1e-5)


def test_mcd_of_a_gain_is_in_the_zeroth_coefficient_alone():
    b = np.random.default_rng(4).standard_normal((1, 20000))
    gain_db = 3.0
    expected = 10 * math.sqrt(2) / math.log(10) * math.sqrt(128) * gain_db
    assert mcd(b * 10 ** (gain_db / 20), b, RATE) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("settings", [MR_STFT, DIFFMST_MR_STFT, RESOLUTIONS], ids=["published", "diffmst", "many"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mr_stft_is_that_of_auraloss(pair, settings, dtype, short_pieces):
    tensors = [torch.from_numpy(x).to(dtype)[None] for x in pair]
    expected = loss_of_auraloss(settings, dtype)(*tensors).item()
    assert mr_stft(*tensors, settings).item() == pytest.approx(expected, rel=1e-5)
    assert mr_stft(*(t[0].numpy() for t in tensors), settings) == pytest.approx(expected, rel=1e-5)


def test_gradients_of_mr_stft_are_those_of_auraloss(pair):
    b = torch.from_numpy(pair[1])[None]
    gradients = []
    for measure in (mr_stft, loss_of_auraloss(MR_STFT)):
        a = torch.from_numpy(pair[0])[None].clone().requires_grad_()
        measure(a, b).backward()
        gradients.append(a.grad)
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-9 * gradients[1].abs().max())


def test_mr_stft_by_hand(pair, short_pieces):
    expected = 0.0
    for r in MR_STFT:
        spectra = [
            np.maximum([stft_by_hand(y, r.size, r.hop, r.window) for y in x], distance.LOWEST_MAGNITUDE) for x in pair
        ]
        expected += np.linalg.norm(spectra[1] - spectra[0]) / np.linalg.norm(spectra[1]) / 3
        expected += np.mean(np.abs(np.log(spectra[0]) - np.log(spectra[1]))) / 3
    assert mr_stft(*pair) == pytest.approx(expected, rel=1e-9)


def test_stereo_distance_is_twice_that_of_auraloss_and_does_not_know_left_from_right(pair):
    a, b = pair
    theirs = auraloss.freq.SumAndDifferenceSTFTLoss([512, 1024, 2048], [50, 120, 240], [240, 600, 1200])
    theirs.mrstft = loss_of_auraloss(MR_STFT)
    expected = 2 * theirs(*(torch.from_numpy(x)[None] for x in pair)).item()
    assert sum_difference_mr_stft(a, b) == pytest.approx(expected, rel=1e-5)
    assert sum_difference_mr_stft(a[::-1], b) == pytest.approx(sum_difference_mr_stft(a, b), rel=1e-12)


def test_mss_by_hand_and_as_diffmst_weighs_it(pair):
    spectra = [[np.array([stft_by_hand(y, r.size, r.hop, r.window) for y in x]) for x in pair] for r in MSS]
    assert mss(*pair) == pytest.approx(sum(np.mean(np.abs(a - b)) for a, b in spectra), rel=1e-9)
    tensors = [torch.from_numpy(x)[None] for x in pair]
    theirs = loss_of_auraloss(DIFFMST_MR_STFT, w_sc=0.0, w_lin_mag=1.0)
    assert mss(*pair, DIFFMST_MR_STFT, log_weight=1.0) == pytest.approx(3 * theirs(*tensors).item(), rel=1e-4)


MEASURES = {
    "mae": mae,
    "esr": esr,
    "esr with everything": lambda a, b: esr(a, b, 0.85, True),
    "si_sdr_db": si_sdr_db,
    "mcd": lambda a, b: mcd(a, b, 8000),
    "mr_stft": mr_stft,
    "small mr_stft": lambda a, b: mr_stft(a, b, SMALL),
    "sum_difference": sum_difference_mr_stft,
    "mss": lambda a, b: mss(a, b, MSS, 1.0),
    "guarded AF": lambda a, b: audio_feature_loss(audio_features(a, 8000), audio_features(b, 8000))["total"],
    "AF": lambda a, b: audio_feature_loss(audio_features(a, 8000), audio_features(b, 8000), False)["total"],
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_numpy_and_torch_agree(measure, pair, short_pieces):
    tensors = [torch.from_numpy(x) for x in pair]
    assert measure(*tensors).item() == pytest.approx(float(measure(*pair)), rel=1e-9)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_gradients_are_finite_at_silence_and_at_no_error(measure):
    silence, sound = torch.zeros(2, 3000), torch.from_numpy(audio(5, 2, 3000, np.float32))
    for a, b in (
        (silence, sound),
        (sound, silence),
        (silence, silence),
        (sound, sound),
        (sound[:1].expand(2, -1),) * 2,
    ):
        a, b = (x.clone().requires_grad_() for x in (a, b))
        value = measure(a, b)
        value.backward()
        assert value.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all()


@pytest.mark.parametrize("measure", [m for name, m in MEASURES.items() if name != "si_sdr_db"])
def test_no_error_is_zero(measure, pair):
    assert measure(pair[1], pair[1]) == 0.0


GRADIENTS = {
    "mae": mae,
    "esr": lambda a, b: esr(a, b, 0.85, True),
    "si_sdr_db": si_sdr_db,
    "mcd": lambda a, b: mcd(a, b, 8000),
    "mr_stft": lambda a, b: mr_stft(a, b, SMALL),
    "sum_difference": lambda a, b: sum_difference_mr_stft(a, b),
    "mss": lambda a, b: mss(a, b, SMALL, 1.0),
    "AF": MEASURES["AF"],
}


@pytest.mark.parametrize("measure", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_are_right(measure):
    rng = np.random.default_rng(6)
    a, b = (torch.from_numpy(rng.standard_normal((2, 40)) * 0.3).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(measure, (a, b), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_aligned_holds_every_metric_as_plain_numbers(pair):
    a, b = pair
    values = aligned(a.astype(np.float32), b.astype(np.float32), RATE)
    assert list(values) == list(ALIGNED)
    assert all(type(value) is float for value in values.values())
    assert values["mr_stft"] == pytest.approx(mr_stft(a, b), rel=1e-4)


def test_aligned_spreads_mono_beside_stereo(pair):
    a, b = pair
    assert aligned(a[:1], b, RATE) == aligned(a[[0, 0]], b, RATE)
    assert aligned(a, b[:1], RATE) == aligned(a, b[[0, 0]], RATE)
    mono = aligned(a[:1], b[:1], RATE)
    assert mono["sum_difference_mr_stft"] is None
    both = aligned(a[[0, 0]], b[[0, 0]], RATE)
    assert all(mono[name] == pytest.approx(both[name], rel=1e-9) for name in mono if mono[name] is not None)


def test_aligned_is_null_where_the_table_says(pair):
    _, b = pair
    silence = np.zeros_like(b)
    same = aligned(b, b, RATE)
    assert same.pop("si_sdr_db") is None and set(same.values()) == {0.0}
    assert [name for name, value in aligned(b, silence, RATE).items() if value is None] == ["esr", "si_sdr_db"]
    assert [name for name, value in aligned(silence, b, RATE).items() if value is None] == ["si_sdr_db"]
    for values in (aligned(b, silence, RATE), aligned(silence, b, RATE), aligned(silence, silence, RATE)):
        assert all(value is None or math.isfinite(value) for value in values.values())
    assert set(aligned(b[:, :0], b[:, :0], RATE).values()) == {None}
    assert all(value is None or math.isfinite(value) for value in aligned(b[:, 100:101], b[:, 7:8], RATE).values())


def test_aligned_wants_one_length(pair):
    with pytest.raises(ParameterError, match="30000 samples are compared with 29999; give signals of one length"):
        aligned(pair[0], pair[1][:, :-1], RATE)


def test_declarations_are_complete_and_light():
    for table in (ALIGNED, AF_TERMS):
        assert all(entry.name == name and entry.help.endswith(".") for name, entry in table.items())
    script = (
        "import sys, mixtools.measure.distance, mixtools.measure.audio_features\n"
        "assert not {'torch', 'numba', 'scipy', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def features_by_hand(x: np.ndarray, rate: float) -> dict:
    """Equations 3 to 7, (2, n)."""
    left, right = x
    rms = [math.sqrt(np.mean(y**2)) for y in x]
    bank = bark_filterbank(16385, rate)
    spectra = [stft_by_hand(y, 32768, 8192, 32768).mean(axis=0) for y in (left + right, left - right)]
    return {
        "rms": rms,
        "crest": [20 * math.log10(np.max(np.abs(y)) / r) for y, r in zip(x, rms, strict=True)],
        "bark": [[float(np.dot(band, spectrum)) for band in bank] for spectrum in spectra],
        "width": np.mean((left - right) ** 2) / np.mean((left + right) ** 2),
        "imbalance": (np.mean(right**2) - np.mean(left**2)) / (np.mean(right**2) + np.mean(left**2)),
    }


def test_audio_features_by_hand(short_pieces):
    a, b = audio(7, 2, 50000), 0.7 * audio(8, 2, 50000)
    expected, reference = features_by_hand(a, RATE), features_by_hand(b, RATE)
    found, other = audio_features(a, RATE), audio_features(b, RATE)
    assert np.allclose(found.rms, expected["rms"], rtol=1e-12)
    assert np.allclose(found.crest_db, expected["crest"], rtol=1e-12)
    assert np.allclose(found.bark, expected["bark"], rtol=1e-9)
    assert found.width == pytest.approx(expected["width"], rel=1e-10)
    assert found.imbalance == pytest.approx(expected["imbalance"], rel=1e-10)

    weights = {"rms": 0.1, "crest": 0.001, "bark": 0.1, "width": 1.0, "imbalance": 1.0}
    floor = 1e-4 * np.max(reference["bark"])
    logs = {
        True: [np.log(np.maximum(x["bark"], floor)) for x in (expected, reference)],
        False: [np.log(np.array(x["bark"]) + 1e-8) for x in (expected, reference)],
    }
    for guarded, (log_a, log_b) in logs.items():
        terms = {
            name: weight * np.mean(np.square(np.subtract(expected[name], reference[name])))
            for name, weight in weights.items()
        }
        terms["bark"] = weights["bark"] * np.mean((log_a - log_b) ** 2)
        loss = audio_feature_loss(found, other, guarded)
        assert {name: float(value) for name, value in loss.items() if name != "total"} == pytest.approx(terms, rel=1e-9)
        assert loss["total"] == pytest.approx(sum(terms.values()), rel=1e-9)


def test_scaled_features_are_those_of_the_scaled_signal():
    x = audio(9, 2, 40000)
    scaled, expected = audio_features(x, RATE).scaled(0.3), audio_features(0.3 * x, RATE)
    for name in ("rms", "crest_db", "bark", "width", "imbalance"):
        assert np.allclose(getattr(scaled, name), getattr(expected, name), rtol=1e-10)
    batch = audio_features(np.stack([x, x]), RATE).scaled(np.array([0.3, 2.0]))
    assert np.allclose(batch.bark[0], scaled.bark) and np.allclose(batch.rms[1], 2.0 * audio_features(x, RATE).rms)


def test_a_gain_moves_the_terms_as_predicted():
    b = audio_features(audio(10, 2, 40000), RATE)
    gain = 10 ** (-6 / 20)
    loss = audio_feature_loss(b.scaled(gain), b)
    assert loss["rms"] == pytest.approx(0.1 * np.mean(((1 - gain) * b.rms) ** 2))
    assert 0.9 * 0.1 * math.log(gain) ** 2 < loss["bark"] <= 0.1 * math.log(gain) ** 2 + 1e-12
    assert loss["crest"] == loss["width"] == loss["imbalance"] == 0.0


def test_mono_counts_as_two_equal_channels():
    x = audio(11, 1, 40000)
    mono, stereo = audio_features(x, RATE).plain(), audio_features(x[[0, 0]], RATE).plain()
    assert mono == stereo
    assert mono["width"] == mono["imbalance"] == 0.0
    assert mono["bark_difference"] == [None] * 24


def test_plain_features_are_null_where_undefined():
    silent = audio_features(np.zeros((2, 5000)), RATE).plain()
    assert silent["rms"] == [0.0, 0.0] and silent["crest_db"] == [None, None]
    assert silent["width"] is silent["imbalance"] is None
    x = audio(12, 1, 40000)
    opposite = audio_features(np.concatenate([x, -x]), RATE)
    assert opposite.width == WIDEST and opposite.plain()["width"] is None
    one_sided = audio_features(np.concatenate([x, 0.0 * x]), RATE).plain()
    assert one_sided["crest_db"][1] is None and one_sided["width"] == pytest.approx(1.0)
    assert one_sided["imbalance"] == -1.0
    low = audio_features(audio(13, 2, 40000), 8000).plain()
    assert low["bark_sum"][-1] is None and None not in low["bark_sum"][:15]


def test_features_from_sums_are_those_of_the_signal():
    x = audio(14, 2, 40000)
    whole_array = audio_features(x, RATE)
    sums = AudioFeatures.from_sums(
        (x**2).sum(axis=1), (x[0] * x[1]).sum(), np.abs(x).max(axis=1), whole_array.bark, x.shape[1]
    )
    assert audio_feature_loss(sums, whole_array)["total"] == pytest.approx(0.0, abs=1e-20)


def test_frechet_distance_of_full_rank_is_the_textbooks():
    rng = np.random.default_rng(15)
    p, q = (Gaussian.of(rng.standard_normal((60, 8)) @ rng.standard_normal((8, 8)) + shift) for shift in (0.0, 0.5))
    expected = (
        np.sum((p.mean - q.mean) ** 2)
        + np.trace(p.covariance + q.covariance)
        - 2 * np.trace(scipy.linalg.sqrtm(p.covariance @ q.covariance)).real
    )
    assert frechet_distance(p, q) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(q, p) == pytest.approx(frechet_distance(p, q), rel=1e-12)


def test_frechet_distance_of_diagonal_covariances():
    p = Gaussian(np.zeros(3), np.diag([1.0, 4.0, 0.0]), 10)
    q = Gaussian(np.array([1.0, 0.0, 2.0]), np.diag([9.0, 1.0, 0.25]), 10)
    assert frechet_distance(p, q) == pytest.approx(5.0 + 4.0 + 1.0 + 0.25, rel=1e-12)


def test_frechet_distance_of_fewer_vectors_than_dimensions():
    vectors = np.random.default_rng(16).standard_normal((5, 40))
    p, q = Gaussian.of(vectors), Gaussian.of(vectors + 0.1)
    assert frechet_distance(p, p) == pytest.approx(0.0, abs=1e-20)
    assert frechet_distance(p, q) == pytest.approx(40 * 0.01, rel=1e-9)
    r = Gaussian.of(np.random.default_rng(17).standard_normal((4, 40)))
    assert 0 < frechet_distance(p, r) == pytest.approx(frechet_distance(r, p), rel=1e-9)


def test_gaussian_is_numpys_and_wants_two_vectors():
    vectors = np.random.default_rng(18).standard_normal((30, 4))
    found = Gaussian.of(vectors)
    assert np.allclose(found.covariance, np.cov(vectors.T)) and np.allclose(found.mean, vectors.mean(axis=0))
    assert found.n == 30
    with pytest.raises(ParameterError, match="at least 2, found 1"):
        Gaussian.of(vectors[:1])
