"""When each stem begins in the mix, and whether its polarity was flipped.

Music repeats itself and stems resemble each other, so a stem's own correlation with the mix has many peaks. Here the
stems explain the mix together: a short FIR per stem, all solved at once from correlations, and a stem moves only where
what the others leave of the mix says so clearly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mixtools.tasks.excerpts import Range
from mixtools.tasks.fit.conditioning import as_one_channel
from mixtools.tasks.recordings import Recording

REACH_S = 1.0
"""A stem is looked for this far from where all of them begin together."""

COMMON_REACH_S = 60.0
BAND_HZ = 14000
"""Offsets are searched at about this rate: hats need the treble, and the time goes with the square of it."""

COMMON_BAND_HZ = 6000
DIRECT_S = 0.0022
"""Half the length of the FIR that stands for a stem's direct path."""

BLOCK_S = 4.0
CLEARER = 1.6
"""A stem moves where it then explains this many times as much of the mix."""

LOUDER_THAN_CHANCE = 10.0
"""And where that is this many times what it explains at an average lag. Stems that are in a mix have 8, drowned in
reverb, to thousands; strangers mostly 1, and up to 40 where they play in time with it."""

LOUDER_THAN_STRANGERS = 50.0
"""Stems that stand out less than this stay where all begin, rather than a few samples beside it."""

RIDGE = 1e-3
PHASE_DOUBT = 5e-4
"""What reverbs leave of a phase's standard error, in radians at a stem's root-mean-square frequency: a bass is sure to
a tenth of a sample, hats to a thousandth."""

FINE_WINDOW = 16384
FINE_BATCH = 64
SNAP = 0.02
"""Offsets this close to a whole sample are whole, and so are those that are less sure than their distance from it."""

DOUBTS = 5.0
"""How many standard errors an offset may be wrong."""


@dataclass(frozen=True)
class Placed:
    """Where a stem is in the mix: moved by `offset` samples (positive is later), its polarity, and how clear that is.

    Confidence 0 means nothing is known (the stem is silent or cannot be heard), 1 that no other place comes close.
    """

    offset: float = 0.0
    inverted: bool = False
    confidence: float = 0.0


@dataclass(frozen=True)
class Alignment:
    """`common` is the sample of the mix where unmoved stems begin; the offset of each of `stems` includes it."""

    common: int
    stems: dict[str, Placed]


def align(
    stems: Mapping[str, Recording],
    target: Recording,
    rate: int,
    ranges: list[Range],
    progress: Callable[[float], None] = lambda share: None,
) -> Alignment:
    """Find every stem within a second of where they all begin, from the mix's `ranges`; in doubt nothing moves."""
    common = common_offset(stems, target, rate)
    progress(0.2)
    found = _found(stems, target, rate, ranges, common, lambda share: progress(0.2 + 0.7 * share))
    home = _home(*found[:2], found[3], common)
    if home != common:
        common = home
        found = _found(stems, target, rate, ranges, common, lambda share: progress(0.9))
    offsets, unsure, inverted, confidence = found
    progress(1.0)
    return Alignment(
        common,
        {
            name: Placed(_settled(offset, doubt, common), bool(flipped), float(sure)) if sure else Placed(float(common))
            for name, offset, doubt, flipped, sure in zip(stems, offsets, unsure, inverted, confidence, strict=True)
        },
    )


def _found(
    stems: Mapping[str, Recording],
    target: Recording,
    rate: int,
    ranges: list[Range],
    common: int,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, how unsure they are in samples, whether polarity is flipped, and confidences, (stems,) each."""
    lags, confidence, outstanding = _Coarse(stems, target, rate, ranges, common).search(progress)
    offsets, unsure, inverted = _refined(list(stems.values()), target, ranges, common + lags, confidence > 0.0)
    unsure = np.where(outstanding, unsure, np.maximum(unsure, DIRECT_S * rate / DOUBTS))
    return offsets, unsure, inverted, confidence


def _home(offsets: np.ndarray, unsure: np.ndarray, confidence: np.ndarray, common: int) -> int:
    """The whole sample where most stems begin, by confidence; `common` where no other place has most of them."""
    weights: dict[int, float] = {}
    for offset, doubt, sure in zip(offsets, unsure, confidence, strict=True):
        if abs(offset - round(offset)) <= max(SNAP, DOUBTS * doubt) and DOUBTS * doubt < 1.0:
            weights[round(offset)] = weights.get(round(offset), 0.0) + sure
    best = max(weights, key=lambda place: weights[place], default=common)
    return best if weights.get(best, 0.0) > 0.5 * confidence.sum() else common


def _settled(offset: float, unsure: float, common: int) -> float:
    """An offset that may be no offset is none, and one that may be a whole number of samples is one."""
    doubt = max(SNAP, DOUBTS * unsure)
    for whole in (common, round(offset)):
        if abs(offset - whole) <= doubt and (whole == common or doubt < 0.5):
            return float(whole)
    return float(offset)


def common_offset(stems: Mapping[str, Recording], target: Recording, rate: int) -> int:
    """The sample of the mix at which the stems begin, when that is further than `REACH_S` away; else 0.

    Every stem's whitened correlation with the whole mix, squared and relative to its mean over all lags, summed: stems
    vote with the same weight, and whatever their polarity.
    """
    import scipy.fft

    longest = max((stem.frames for stem in stems.values()), default=0)
    if not longest or not target.frames:
        return 0
    factor = _factor(rate, COMMON_BAND_HZ) * (2 if max(longest, target.frames) > 120 * rate else 1)
    reach = int(min(COMMON_REACH_S * rate, max(longest, target.frames) - rate)) // factor
    near = int(REACH_S * rate) // factor
    if reach <= near:
        return 0
    size = scipy.fft.next_fast_len(-(-longest // factor) + -(-target.frames // factor), real=True)
    heard = _whitened(scipy.fft.rfft(_decimated(target, factor, 0, target.frames), size))
    votes = np.zeros(2 * reach + 1)
    for stem in stems.values():
        spectrum = _whitened(scipy.fft.rfft(_decimated(stem, factor, 0, stem.frames), size))
        correlation = scipy.fft.irfft(heard * spectrum.conj(), size)
        squares = _around(correlation, reach).astype(np.float64) ** 2
        if squares.any():
            votes += squares / squares.mean()
    votes = _box(votes, max(1, round(DIRECT_S / 2 * rate / factor)))
    best = int(np.argmax(votes)) - reach
    at_home = votes[reach - near : reach + near + 1].max()
    if abs(best) <= near or votes[best + reach] <= CLEARER * at_home:
        return 0
    return best * factor


class _Coarse:
    """Correlations of all stems with each other and with the mix, at a low rate, and what FIRs explain of the mix.

    Everything is zero outside the ranges, so that the normal equations stay positive definite. Spectra are weighted by
    the inverse of the mix's, smoothed: every octave of the mix counts.
    """

    def __init__(self, stems: Mapping[str, Recording], target: Recording, rate: int, ranges: list[Range], common: int):
        import scipy.fft

        self.factor = _factor(rate, BAND_HZ)
        low = rate / self.factor
        self.reach = int(REACH_S * low)
        self.half = max(2, round(DIRECT_S * low))
        self.most = 2 * self.reach + 2 * self.half + 1
        block = int(BLOCK_S * low)
        self.size = scipy.fft.next_fast_len(block + 2 * self.most, real=True)
        count, sides = len(stems), target.channels
        bins = self.size // 2 + 1
        self.between = np.zeros((bins, count, count), np.complex64)
        self.with_mix = np.zeros((bins, count, sides), np.complex64)
        mix_power = np.zeros(bins)
        for first, last in ranges:
            frames = (last - first) // self.factor
            own = np.array(
                [_decimated(stem, self.factor, first - common, frames * self.factor) for stem in stems.values()]
            ).reshape(count, frames)
            mixed = _decimated(target, self.factor, first, frames * self.factor, together=False)
            both = np.pad(np.concatenate([own, mixed]), ((0, 0), (self.most, self.most + block)))
            for at in range(0, frames, block):
                piece = both[:count, self.most + at : self.most + min(at + block, frames)]
                around = both[:, at : at + block + 2 * self.most]
                # Delaying by `most` puts lag 0 at sample 0 of the circular correlation.
                pieces = scipy.fft.rfft(np.pad(piece, ((0, 0), (self.most, 0))), self.size).T
                arounds = scipy.fft.rfft(around, self.size).T
                crossed = pieces.conj()[:, :, None] * arounds[:, None, :]
                self.between += crossed[:, :, :count]
                self.with_mix += crossed[:, :, count:]
                mix_power += (np.abs(arounds[:, count:]) ** 2).sum(axis=1)
        weight = 1.0 / np.maximum(_smooth(mix_power, round(60.0 * self.size / low)), 1e-5 * mix_power.max() + 1e-30)
        self.between *= weight[:, None, None].astype(np.float32)
        self.with_mix *= weight[:, None, None].astype(np.float32)
        powers = np.einsum("fss->sf", self.between.real).astype(np.float64)
        self.powers = np.array([_smooth(np.maximum(p, 0.0), round(60.0 * self.size / low)) for p in powers])
        self.tables = scipy.fft.irfft(self.between.transpose(1, 2, 0), self.size)
        self.mix_tables = scipy.fft.irfft(self.with_mix.transpose(1, 2, 0), self.size)
        energies = self.tables[range(count), range(count), 0]
        self.heard = energies > 1e-10 * max(energies.max(initial=0.0), 1e-30)

    def search(self, progress: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets in samples of the full rate, confidences, and which stems stand out, (stems,) each."""
        count = len(self.heard)
        lags = np.zeros(count, int)
        confidence = np.zeros(count)
        if not self.heard.any():
            return lags * self.factor, confidence, self.heard
        middle = self.reach
        for done in range(count + 4):
            gains = self.gains(lags)
            here = gains[np.arange(count), lags + middle]
            best = gains.argmax(axis=1)
            peak = gains[np.arange(count), best]
            away = np.abs(best - middle - lags) > self.half
            second = self._second(gains, best)
            chance = np.median(gains, axis=1)
            clear = (
                self.heard
                & away
                & (peak > CLEARER * here)
                & (peak > 1.2 * second)
                & (peak > LOUDER_THAN_CHANCE * chance)
            )
            progress(min(1.0, done / (count + 4)))
            if not clear.any():
                break
            won = np.where(clear, peak - here, 0.0)
            moving = won >= 0.5 * won.max()
            lags[moving] = best[moving] - middle
        rivals = np.maximum(self._second(gains, lags + middle), LOUDER_THAN_CHANCE * chance)
        known = self.heard & (here > LOUDER_THAN_CHANCE * chance)
        confidence = np.where(known, np.clip(1.0 - rivals / np.maximum(here, 1e-30), 0.01, 1.0), 0.0)
        return lags * self.factor, confidence, here > LOUDER_THAN_STRANGERS * chance

    def _second(self, gains: np.ndarray, best: np.ndarray) -> np.ndarray:
        """The largest gain that is not within a direct path's length of the best."""
        lags = np.arange(gains.shape[1])
        outside = np.abs(lags[None] - best[:, None]) > 3 * self.half
        return np.where(outside, gains, 0.0).max(axis=1)

    def gains(self, lags: np.ndarray) -> np.ndarray:
        """What each stem would explain at every lag of what the others leave of the mix, (stems, 2 reach + 1).

        That is the energy of a short FIR's correlation with the stem whitened, summed over the mix's channels.
        """
        import scipy.fft

        firs = self.solve(lags)
        count, sides, taps = firs.shape
        placed = np.zeros((count, sides, self.size), np.float32)
        for stem in range(count):
            at = (np.arange(taps) - self.half + lags[stem]) % self.size
            placed[stem][:, at] = firs[stem]
        responses = scipy.fft.rfft(placed).transpose(2, 0, 1)
        # The mix is sum of H_j S_j: its cross-spectrum with stem i is sum of H_j S_ij.
        left = self.with_mix - np.matmul(self.between, responses)
        left += np.einsum("fss->fs", self.between)[:, :, None] * responses
        floor = 1e-4 * self.powers.max(axis=1, keepdims=True) + 1e-30
        white = (left.transpose(1, 2, 0) / np.sqrt(np.maximum(self.powers, floor))[:, None, :]).astype(np.complex64)
        correlations = scipy.fft.irfft(white, self.size)
        return np.array([_box((_around(each, self.reach) ** 2).sum(axis=0), self.half // 2) for each in correlations])

    def solve(self, lags: np.ndarray) -> np.ndarray:
        """Least-squares FIRs of all stems at once, centred on `lags`, (stems, channels, taps)."""
        import scipy.linalg

        count = len(lags)
        taps = np.arange(-self.half, self.half + 1)
        places = lags[:, None] + taps
        apart = places[:, None, :, None] - places[None, :, None, :]
        index = np.arange(count)
        normal = self.tables[index[:, None, None, None], index[None, :, None, None], apart % self.size]
        normal = normal.transpose(0, 2, 1, 3).reshape(count * len(taps), -1).astype(np.float64)
        diagonal = normal.diagonal().copy()
        normal[np.diag_indices_from(normal)] += RIDGE * diagonal + 1e-9 * diagonal.max()
        right = self.mix_tables[index[:, None], :, places % self.size].reshape(count * len(taps), -1)
        firs = scipy.linalg.solve(normal, right.astype(np.float64), assume_a="pos", overwrite_a=True)
        return firs.reshape(count, len(taps), -1).transpose(0, 2, 1)


def _refined(
    stems: list[Recording], target: Recording, ranges: list[Range], offsets: np.ndarray, heard: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets to fractions of a sample, their standard errors, and flips of polarity, at the full rate.

    From the joint transfer functions of the stems moved by whole samples.
    H = (S_xx + ridge)^-1 S_xy per frequency, over windows of `FINE_WINDOW`, holds linear-phase equalisers and early
    reflections whole; its direct path is the peak of what it makes of the whitened stem.
    """
    whole = np.round(offsets).astype(int)
    count = len(stems)
    index = np.flatnonzero(heard)
    refined, unsure, inverted = offsets.astype(float), np.zeros(count), np.zeros(count, bool)
    if not index.size:
        return refined, unsure, inverted
    spectra, crossed = _fine_spectra([stems[i] for i in index], target, ranges, whole[index])
    powers = np.einsum("fss->fs", spectra).real
    ridge = 1e-4 * powers.max(axis=1, keepdims=True) + 1e-9 * powers.max(axis=0) + 1e-30
    lifted = spectra + np.eye(len(index)) * ridge[:, None, :]
    transfer = np.linalg.solve(lifted, crossed)
    for place, i in enumerate(index):
        delay, unsure[i], sign = _direct_path(transfer[:, place], powers[:, place])
        refined[i] = whole[i] + delay
        inverted[i] = sign < 0
    return refined, unsure, inverted


def _fine_spectra(
    stems: list[Recording], target: Recording, ranges: list[Range], whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Welch's cross-spectra of the stems moved by whole samples, (bins, stems, stems), and with the mix."""
    import scipy.fft

    size, hop = FINE_WINDOW, FINE_WINDOW // 2
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    bins, count = size // 2 + 1, len(stems)
    spectra = np.zeros((bins, count, count), np.complex128)
    crossed = np.zeros((bins, count, target.channels), np.complex128)
    for first, last in ranges:
        for at in range(first, max(last - hop, first + 1), FINE_BATCH * hop):
            frames = min(FINE_BATCH * hop, max(last - at, 1)) + hop
            blocks = [as_one_channel(s.read(at - o, frames)) for s, o in zip(stems, whole, strict=True)]
            both = np.concatenate([np.array(blocks), target.read(at, frames)])
            both = np.pad(both, ((0, 0), (0, -frames % hop)))
            framed = np.lib.stride_tricks.sliding_window_view(both, size, axis=1)[:, ::hop]
            transformed = scipy.fft.rfft(framed * window).transpose(2, 0, 1)
            mine = np.ascontiguousarray(transformed[:, :count].conj())
            product = np.matmul(mine, transformed.transpose(0, 2, 1))
            spectra += product[:, :, :count]
            crossed += product[:, :, count:]
    return spectra, crossed


def _direct_path(transfer: np.ndarray, power: np.ndarray) -> tuple[float, float, int]:
    """Delay in samples, its uncertainty and its sign of a path, from transfer functions (bins, channels) and the stem's
    power spectrum.

    The phase of the windowed direct path is a line through its frequencies, weighted by what the stem has there.
    """
    import scipy.fft

    size = 2 * (len(power) - 1)
    floor = 1e-6 * power.max() + 1e-30
    white = np.sqrt(power / np.maximum(_smooth(power, 40), floor))
    responses = scipy.fft.irfft(transfer * white[:, None], size, axis=0)
    together = responses.sum(axis=1)
    reach = 64
    near = np.concatenate([together[-reach:], together[: reach + 1]])
    peak = int(np.argmax(np.abs(near))) - reach
    sign = 1 if near[peak + reach] >= 0 else -1
    half = 32
    taps = np.hanning(2 * half + 3)[1:-1]
    direct = np.zeros(size)
    direct[(np.arange(-half, half + 1)) % size] = sign * taps * together[(np.arange(-half, half + 1) + peak) % size]
    response = scipy.fft.rfft(direct)
    omega = 2.0 * np.pi * np.arange(len(power)) / size
    weights = np.abs(response) ** 2
    weights[omega > 0.9 * np.pi] = 0.0
    if not weights.any():
        return float(peak), np.inf, sign
    delay = 0.0
    for _ in range(3):
        phase = np.angle(response * np.exp(1j * omega * delay))
        delay -= (weights * omega * phase).sum() / (weights * omega**2).sum()
    phase = np.angle(response * np.exp(1j * omega * delay))
    spread = (weights * phase**2).sum() / weights.sum()
    independent = weights.sum() ** 2 / (weights**2).sum() * 2 * half / size
    sure = np.sqrt(spread / max(independent, 1.0) * weights.sum() / (weights * omega**2).sum())
    own_omega = np.sqrt((power * omega**2).sum() / max(power.sum(), 1e-300))
    return peak + float(delay), float(max(sure, PHASE_DOUBT / max(own_omega, 1e-6))), sign


def _factor(rate: int, band: int) -> int:
    return max(1, round(rate / band))


def _decimated(recording: Recording, factor: int, start: int, frames: int, together: bool = True) -> np.ndarray:
    """Every `factor`-th sample from `start` on of the low-passed audio: (n,), or (channels, n) if not `together`."""
    from scipy.signal import firwin, upfirdn

    half = 12 * factor
    taps = firwin(2 * half + 1, 0.9 / factor) if factor > 1 else np.eye(1, 2 * half + 1, half)[0]
    taps = taps.astype(np.float32)
    chunk = factor * (1 << 18)
    pieces = []
    for at in range(0, max(frames, 1), chunk):
        count = min(chunk, frames - at) // factor
        audio = recording.read(start + at - half, count * factor + 2 * half)
        audio = as_one_channel(audio) if together else audio
        pieces.append(upfirdn(taps, audio, down=factor, axis=-1)[..., 24 : 24 + count])
    return np.concatenate(pieces, axis=-1)


def _whitened(spectrum: np.ndarray) -> np.ndarray:
    power = np.abs(spectrum) ** 2
    smooth = _smooth(power, max(3, len(power) // 200))
    return spectrum / np.sqrt(np.maximum(smooth, 1e-6 * smooth.max() + 1e-30))


def _smooth(power: np.ndarray, width: int) -> np.ndarray:
    from scipy.ndimage import uniform_filter1d

    return uniform_filter1d(power, max(1, width), mode="nearest")


def _box(x: np.ndarray, half: int) -> np.ndarray:
    """Sums over 2 half + 1 neighbours."""
    sums = np.cumsum(np.pad(x.astype(np.float64), (half + 1, half)))
    return sums[2 * half + 1 :] - sums[: -2 * half - 1]


def _around(correlation: np.ndarray, reach: int) -> np.ndarray:
    """Lags from -reach to reach of a circular correlation, the last axis."""
    return np.concatenate([correlation[..., -reach:], correlation[..., : reach + 1]], axis=-1)
