"""What a stem sounds like: the measures that an automatic mixer decides by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mixtools.measure.frames import hann
from mixtools.measure.loudness import LoudnessMeter
from mixtools.tasks.excerpts import Range
from mixtools.tasks.recordings import Recording

BANDS_HZ = np.array(
    [25.0, 31.5, 40.0, 50.0, 63.0, 80.0, 100.0, 125.0, 160.0, 200.0, 250.0, 315.0, 400.0, 500.0, 630.0, 800.0, 1000.0]
    + [1250.0, 1600.0, 2000.0, 2500.0, 3150.0, 4000.0, 5000.0, 6300.0, 8000.0, 10000.0, 12500.0, 16000.0]
)
"""Nominal middles of third-octave bands; the exact ones are 1000 Hz times powers of 10^0.1."""

HIGHEST_OF_RATE = 0.45
"""Bands whose middle lies above this part of the rate are empty."""

ACTIVE_DB = 40.0
"""A stem sounds where it is at most this far below its loudest."""

SILENT_PEAK = 1e-6

ENVELOPE_S = 0.1
BANDS_FRAME_S = 0.2
EAR_FRAME_S = 0.08
SLOT_S = 0.005
PIECE_S = 10.0

REGIONS_HZ = (0.0, 90.0, 250.0, 1000.0, 3000.0, 7000.0, math.inf)
"""Where the spectrum is cut for `Character`."""

LEAST_SHARE = 1e-3
"""A region has at least this part of the energy: how much less is the recording's, not the instrument's."""

PITCH_HZ = 40.0, 1000.0
TONES_HZ = 40.0, 4000.0
"""What the pitch is looked for in."""

CLEAR = 0.6
"""How like itself a period later a sound with a pitch is."""

GLIDE_CENTS = 120.0
"""A pitch that moves further from one frame to the next is another note."""

FEWEST_STEPS = 5

ONSET_DB = 8.0
"""The power of 5 ms rises by this within 45 ms where something is struck."""

ONSET_APART_S = 0.06
FALL_S = 0.12
LONGEST_RISE_S = 0.15
AROUND_S = 0.5
HELD_DB = 20.0


@dataclass(frozen=True)
class Character:
    """What a sound is like, whatever its level, over the frames that sound; the louder one is, the more it counts.

    `regions_db` is the energy between `REGIONS_HZ` relative to all, `centre_oct` the middle of the spectrum in octaves
    above 1 kHz. `clarity` is 1 for a single pitch, and `glide_cents` how far that moves in 40 ms. `onsets_per_s` counts
    attacks, `fall_db` is how much is lost 120 ms after one; `held` the share of time within 20 dB of the loudest
    around; and `change_db` how far the bands move about their means.
    """

    regions_db: tuple[float, ...]
    centre_oct: float
    clarity: float
    glide_cents: float
    onsets_per_s: float
    fall_db: float
    held: float
    change_db: float


@dataclass(frozen=True, eq=False)
class Sound:
    """A stem over the excerpts, levels in dBFS; None, zeros and no character where it is silent.

    `lufs` is gated loudness, a mono stem as both loudspeakers play it; None also for less than 400 ms. `rms_db` is that
    of the 0.1 s that are within 40 dB of the loudest, `crest_db` the peak above it. `powers` is the mean power in
    `BANDS_HZ` while it sounds, the mean of both channels, (bands,); `envelope` the energy of every 0.1 s, (frames,);
    `sounding` the share of time it sounds. `width` is the difference's part of the energy, 0 for mono and 1 for one
    channel against the other; `balance_db` the right channel above the left, 0 for mono.
    """

    lufs: float | None
    peak_db: float | None
    rms_db: float | None
    crest_db: float | None
    powers: np.ndarray
    envelope: np.ndarray
    sounding: float
    width: float
    balance_db: float
    character: Character | None


def listen(
    recordings: Mapping[str, Recording],
    rate: int,
    ranges: list[Range],
    threads: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Sound]:
    """How every stem sounds over the ranges."""
    sounds: dict[str, Sound] = {}
    with ThreadPoolExecutor(max(1, threads)) as pool:
        heard = pool.map(lambda recording: _heard(recording, rate, ranges), recordings.values())
        for name, sound in zip(recordings, heard, strict=True):
            sounds[name] = sound
            progress(len(sounds) / len(recordings))
    return sounds


def _heard(recording: Recording, rate: int, ranges: list[Range]) -> Sound:
    """Piece by piece, so that long ranges take no more memory than short ones."""
    meter = LoudnessMeter(rate, recording.channels, dual_mono=True)
    ear = _Ear(rate, recording.channels)
    size = round(PIECE_S / ENVELOPE_S) * max(1, round(ENVELOPE_S * rate))
    for first, last in ranges:
        for at in range(first, last, size):
            x = recording.read(at, min(size, last - at))
            meter.add(x)
            ear.add(x)
    return replace(ear.sound(), lufs=meter.integrated_lufs if ear.peak > SILENT_PEAK else None)


class _Ear:
    """Takes pieces of audio (channels, n), and keeps per frame what the measures are made of."""

    def __init__(self, rate: int, channels: int):
        self._rate, self._channels = rate, channels
        self.peak = 0.0
        self._energies = np.zeros((2, 2))
        self._envelopes: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._slots: list[np.ndarray] = []
        self._bands: list[np.ndarray] = []
        self._views: list[np.ndarray] = []
        self._frames = _Frames(rate, BANDS_FRAME_S)
        self._ear_frames = _Frames(rate, EAR_FRAME_S)
        self._weights = band_weights(self._frames.hz, rate)
        self._pitch = _Pitch(self._ear_frames)

    def add(self, x: np.ndarray) -> None:
        self.peak = max(self.peak, float(np.max(np.abs(x), initial=0.0)))
        left, right = x[0], x[-1]
        self._energies += [[_energy(left), _energy(right)], [_energy(left + right) / 4, _energy(left - right) / 4]]
        envelope, sizes = _framed_energy(x, max(1, round(ENVELOPE_S * self._rate)))
        self._envelopes.append(envelope)
        self._sizes.append(sizes)
        self._slots.append(np.divide(*_framed_energy(x, max(1, round(SLOT_S * self._rate)))))
        self._bands.append(sum(self._frames.powers(channel) @ self._weights for channel in x) / self._channels)
        self._views.append(self._seen(0.5 * (left + right) if _energy(left + right) >= _energy(left - right) else left))

    def _seen(self, x: np.ndarray) -> np.ndarray:
        """Per frame: power in the third-octave bands, clarity and pitch, (frames, bands + 2)."""
        powers = self._ear_frames.powers(x)
        return np.column_stack([powers @ self._pitch.weights, *self._pitch(powers)])

    def sound(self) -> Sound:
        envelope = _joined(self._envelopes)
        if self.peak <= SILENT_PEAK:
            zeros = np.zeros(len(BANDS_HZ))
            return Sound(None, None, None, None, zeros, np.zeros(len(envelope)), 0.0, 0.0, 0.0, None)
        means = envelope / _joined(self._sizes)
        active = means >= means.max() * 10.0 ** (-ACTIVE_DB / 10.0)
        power = envelope[active].sum() / _joined(self._sizes)[active].sum()
        peak_db, rms_db = 20.0 * math.log10(self.peak), 10.0 * math.log10(power)
        (left, right), (middle, side) = self._energies
        return Sound(
            lufs=None,
            peak_db=peak_db,
            rms_db=rms_db,
            crest_db=peak_db - rms_db,
            powers=_mean_of_active(np.concatenate(self._bands)),
            envelope=envelope,
            sounding=float(active.mean()),
            width=float(side / (middle + side)),
            balance_db=10.0 * math.log10((right + 1e-9 * (left + right)) / (left + 1e-9 * (left + right))),
            character=self._character(),
        )

    def _character(self) -> Character:
        views = np.concatenate(self._views)
        bands, clarity, pitch = views[:, :-2], views[:, -2], views[:, -1]
        powers = np.maximum(bands.sum(axis=1), 1e-30)
        active = powers >= powers.max() * 10.0 ** (-ACTIVE_DB / 10.0)
        weights = np.sqrt(np.where(active, powers, 0.0))
        weights /= weights.sum()
        shares = bands / powers[:, None]
        total = weights @ shares
        regions = [
            10.0 * math.log10(max(float(total[(low <= BANDS_HZ) & (high > BANDS_HZ)].sum()), LEAST_SHARE))
            for low, high in zip(REGIONS_HZ, REGIONS_HZ[1:], strict=False)
        ]
        shapes = 10.0 * np.log10(np.maximum(shares, 1e-4))
        clear = active & (clarity > CLEAR)
        steps = 1200.0 * np.abs(np.diff(pitch))
        gliding = clear[1:] & clear[:-1] & (steps < GLIDE_CENTS)
        return Character(
            regions_db=tuple(regions),
            centre_oct=float(total @ np.log2(BANDS_HZ / 1000.0) / max(total.sum(), 1e-30)),
            clarity=float(weights @ clarity),
            glide_cents=float(np.mean(steps[gliding])) if gliding.sum() >= FEWEST_STEPS else 0.0,
            change_db=float(np.sqrt((weights @ (shapes - weights @ shapes) ** 2).mean())),
            **_strokes(_joined(self._slots)),
        )


class _Frames:
    """Overlapping frames of so many seconds, and their power spectra, (frames, bins), in powers of the signal."""

    def __init__(self, rate: int, seconds: float):
        import scipy.fft

        self.rate = rate
        self.size = scipy.fft.next_fast_len(max(16, round(seconds * rate)), real=True)
        self.hop = max(1, round(0.5 * seconds * rate))
        window = hann(self.size)
        self.window = (window * math.sqrt(2.0 / (self.size * float((window**2).sum())))).astype(np.float32)
        self.hz = np.arange(self.size // 2 + 1) * (rate / self.size)

    def powers(self, x: np.ndarray) -> np.ndarray:
        import scipy.fft

        if len(x) < self.size:
            x = np.pad(x, (0, self.size - len(x)))
        frames = np.lib.stride_tricks.sliding_window_view(x, self.size)[:: self.hop] * self.window
        spectra = scipy.fft.rfft(frames)
        powers = np.square(spectra.real)
        powers += np.square(spectra.imag)
        return powers


class _Pitch:
    """Clarity and pitch of frames, after their autocorrelation, and the bands that ears tell sounds apart by."""

    def __init__(self, frames: _Frames):
        import scipy.fft

        self._size = frames.size
        self._rate = frames.rate
        self.weights = band_weights(frames.hz, frames.rate)
        self.tones = (frames.hz >= TONES_HZ[0]) & (frames.hz <= TONES_HZ[1])
        window = scipy.fft.irfft(np.abs(scipy.fft.rfft(frames.window)), self._size)
        low, high = PITCH_HZ
        self._shortest = max(2, int(frames.rate / high))
        self._longest = min(int(frames.rate / low), self._size // 2 - 2)
        self._window = (window / window[0]).astype(np.float32)

    def __call__(self, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clarity, and pitch in octaves above 1 Hz: the shortest period nearly as clear as the clearest."""
        import scipy.fft

        amplitudes = np.where(self.tones, np.sqrt(powers), np.float32(0.0))
        alike = scipy.fft.irfft(amplitudes, self._size)[:, : self._longest + 2]
        alike /= np.maximum(alike[:, :1], np.float32(1e-12)) * np.maximum(self._window[: self._longest + 2], 0.2)
        inner = alike[:, self._shortest : self._longest + 1]
        before, after = alike[:, self._shortest - 1 : self._longest], alike[:, self._shortest + 1 : self._longest + 2]
        peaks = np.where((inner >= before) & (inner >= after), inner, np.float32(0.0))
        clearest = peaks.max(axis=1)
        place = np.argmax(peaks >= np.maximum(0.85 * clearest, np.float32(1e-6))[:, None], axis=1)
        row = np.arange(len(alike))
        a, b, c = before[row, place], inner[row, place], after[row, place]
        bend = 0.5 * (a - c) / np.minimum(a - 2.0 * b + c, np.float32(-1e-9))
        lag = self._shortest + place + np.clip(bend, -0.5, 0.5)
        return np.clip(clearest, 0.0, 1.0), np.log2(self._rate / lag)


def band_weights(hz: np.ndarray, rate: int) -> np.ndarray:
    """How much of each bin at evenly spaced frequencies lies in each third-octave band, (bins, bands) float32."""
    middles = 1000.0 * 10.0 ** (0.1 * np.arange(-16, 13))
    low, high = middles * 10.0**-0.05, middles * 10.0**0.05
    half = 0.5 * (hz[1] - hz[0])
    shared = np.minimum(hz[:, None] + half, high) - np.maximum(hz[:, None] - half, low)
    weights = np.clip(shared / (2.0 * half), 0.0, 1.0)
    return np.where(HIGHEST_OF_RATE * rate >= BANDS_HZ, weights, 0.0).astype(np.float32)


def _energy(x: np.ndarray) -> float:
    return float(np.einsum("i,i->", x, x, dtype=np.float64))


def _framed_energy(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The energy, mean of the channels, of every `size` samples and of the rest, and how many samples these are."""
    n = x.shape[1]
    starts = np.arange(0, n, size)
    whole = n // size * size
    energies = np.zeros(len(starts))
    energies[: n // size] = np.einsum("cfs,cfs->f", *[x[:, :whole].reshape(len(x), -1, size)] * 2)
    energies[n // size :] = np.sum(np.square(x[:, whole:], dtype=np.float64))
    return energies / len(x), np.minimum(size, n - starts)


def _joined(series: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *series])


def _mean_of_active(bands: np.ndarray) -> np.ndarray:
    powers = bands.sum(axis=1)
    return bands[powers >= powers.max() * 10.0 ** (-ACTIVE_DB / 10.0)].mean(axis=0, dtype=np.float64)


def _strokes(powers: np.ndarray) -> dict[str, float]:
    """Onsets and what comes after them, from the power of every 5 ms."""
    levels = 10.0 * np.log10(np.maximum(powers / max(powers.max(initial=0.0), 1e-30), 1e-6))
    ahead, fall, apart, around = (round(s / SLOT_S) for s in (LONGEST_RISE_S, FALL_S, ONSET_APART_S, AROUND_S))
    loudest = _sliding_max(levels, around)
    active = loudest > -ACTIVE_DB
    jumps = np.zeros(len(levels))
    jumps[4:] = levels[4:] - _trailing_min(levels, 6)[:-4]
    rising = (jumps >= ONSET_DB) & (jumps >= _sliding_max(jumps, apart)) & (levels > -ACTIVE_DB)
    onsets = np.flatnonzero(rising)
    onsets = onsets[np.diff(onsets, prepend=-apart) >= apart // 2]
    falls = []
    for onset in onsets:
        rise = levels[onset : onset + ahead]
        top = onset + int(np.argmax(rise >= rise.max() - 1.0))
        falls.append(levels[top] - levels[min(top + fall, len(levels) - 1)])
    return {
        "onsets_per_s": len(onsets) / max(float(active.sum()) * SLOT_S, SLOT_S),
        "fall_db": float(np.mean(np.clip(falls, -6.0, 40.0))) if falls else 0.0,
        "held": float(np.mean(levels[active] > loudest[active] - HELD_DB)) if active.any() else 0.0,
    }


def _sliding_max(x: np.ndarray, size: int) -> np.ndarray:
    import scipy.ndimage

    return scipy.ndimage.maximum_filter1d(x, size) if x.size else x


def _trailing_min(x: np.ndarray, size: int) -> np.ndarray:
    """The least of the `size` values up to each."""
    import scipy.ndimage

    return scipy.ndimage.minimum_filter1d(x, size, origin=(size - 1) // 2) if x.size else x
