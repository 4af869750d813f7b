"""Which stems a fit can tell apart, and how sure it can be of each one's gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixtools.tasks.excerpts import Range
from mixtools.tasks.recordings import ArrayRecording, Recording

WINDOW_S = 3.0
"""Longer than most reverbs: a shorter window sees only part of a reverb return beside what caused it."""

FEWEST_WINDOWS = 12
"""Unrelated stems seem coherent by 1 over the number of windows; shorter audio takes shorter windows."""

MOST_CHANCE = 0.7
"""Stems that would seem this coherent by chance, as they sound together in too few windows, are not compared."""

BATCH = 4
RIGHT_WEIGHT = np.float32(0.7)
SILENT_DB = -100.0
SAME_DB = -30.0
"""What a stem has of its own, beside one that sounds the same up to its gain, is below this part of it."""

COPY_SHARE = 0.8
"""Of a stem's energy, how much is coherent with another stem of which it is a filtered copy. The bundled rooms' returns
of synthesised stems have 0.85 to 1, other stems of a song, synthesised or recorded, at most 0.4."""

SUM_DB = -20.0
"""What a stem has of its own beside all others together, where it is their sum."""

MEMBER_SHARE = 1e-3
LOWEST_BAND_HZ = 62.5


@dataclass(frozen=True)
class Telling:
    """How far a stem can be told from the others: `unique_db` is its energy that no gains of the others in octave bands
    make, relative to all of it (None for silence); `note` says what it cannot be told from, and why."""

    unique_db: float | None
    note: str | None
    power: float = 0.0
    samples: float = 0.0


@dataclass(frozen=True)
class Conditioning:
    """What is known of each stem, by name."""

    stems: dict[str, Telling]

    def sure_db(self, residual_power: float, gains: dict[str, float] | None = None) -> dict[str, float | None]:
        """The standard error of each stem's gain in dB, None where it has nothing of its own.

        8.69 sqrt(R / (g^2 U n)): the residual's mean square R against that of the stem's unique part U, at its gain g
        in the mix (1 unless given), over n independent samples. These are 2 B T, of T seconds at an equivalent
        bandwidth B = (sum of P)^2 / sum of P^2 of the stem's power spectrum P, so the residual is taken to lie where
        the stem does, and not to be made of it.
        """
        sure: dict[str, float | None] = {}
        for name, stem in self.stems.items():
            gain = 1.0 if gains is None else gains[name]
            unique = 0.0 if stem.unique_db is None else stem.power * 10.0 ** (stem.unique_db / 10.0) * gain**2
            known = unique > 0.0 and stem.samples > 0.0 and stem.note is None
            sure[name] = 20.0 / math.log(10.0) * math.sqrt(residual_power / (unique * stem.samples)) if known else None
        return sure


def telling_apart(
    stems: Sequence[Recording | np.ndarray], ranges: list[Range], rate: int, names: Sequence[str]
) -> Conditioning:
    """Find stems that are silent, the same up to gain and polarity, filtered copies or sums of others in `ranges`."""
    recordings = [ArrayRecording(stem) if isinstance(stem, np.ndarray) else stem for stem in stems]
    count = len(recordings)
    seconds = sum(last - first for first, last in ranges) / rate
    if not count or seconds <= 0.0:
        return Conditioning({name: Telling(None, "silent") for name in names})
    spectra, energies, windows, step_hz = _cross_spectra(recordings, ranges, rate)
    heard = energies > energies.max() * 10.0 ** (SILENT_DB / 10.0)
    notes: list[str | None] = [None if loud else "silent" for loud in heard]
    unique = np.zeros(count)
    index = np.flatnonzero(heard)
    spectra = np.ascontiguousarray(spectra[:, index][:, :, index])
    powers = np.einsum("fss->fs", spectra).real.astype(np.float64)
    bands = _bands(spectra, powers, step_hz)
    unique[index] = _unique(bands)
    same = _same(bands)
    copies = _copies(spectra, coherent_shares(spectra, powers, windows[:, index]), same)
    heard_names = [names[i] for i in index]
    for place, i in enumerate(index):
        twins = np.flatnonzero(same[place])
        others = [j for j in range(len(index)) if j != place and not same[place, j]]
        if twins.size:
            notes[i] = f"cannot be told apart from {heard_names[twins[0]]}"
        elif place in copies:
            notes[i] = f"is a filtered copy of {heard_names[copies[place]]}"
        elif unique[i] < 10.0 ** (SUM_DB / 10.0) and others:
            notes[i] = _sum_note(bands, place, heard_names)
    samples = np.zeros(count)
    samples[index] = 2.0 * seconds * step_hz * powers.sum(axis=0) ** 2 / (powers**2).sum(axis=0)
    floor = 10.0 ** (SILENT_DB / 10.0)
    length = seconds * rate
    return Conditioning(
        {
            name: Telling(
                10.0 * math.log10(max(unique[i], floor)) if heard[i] else None,
                notes[i],
                float(energies[i] / length),
                float(samples[i]),
            )
            for i, name in enumerate(names)
        }
    )


def as_one_channel(block: np.ndarray) -> np.ndarray:
    """One signal that stands for a stem, (channels, n) to (n,): of unequal sides, so that they never cancel wholly."""
    return block[0] if len(block) == 1 else block[0] + RIGHT_WEIGHT * block[1]


def _cross_spectra(
    recordings: list[Recording], ranges: list[Range], rate: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Welch's cross-spectra at every second frequency (bins, stems, stems), the energies of the stems (stems,) and of
    each window (windows, stems), and the bins' distance in Hz.

    Adding the two halves of a windowed frame gives every second frequency of its transform.
    """
    import scipy.fft

    total = sum(last - first for first, last in ranges)
    window_samples = min(WINDOW_S * rate, 2.0 * total / (FEWEST_WINDOWS + 1))
    size = 2 * scipy.fft.next_fast_len(max(8, round(window_samples / 2)), real=True)
    hop = size // 2
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
    count = len(recordings)
    spectra = np.zeros((hop // 2 + 1, count, count), np.complex64)
    energies = np.zeros(count)
    windows = []
    for first, last in ranges:
        # Half a window before and after: every sample of the range then counts the same.
        starts = range(first - hop, last, hop)
        for at in range(0, len(starts), BATCH):
            batch = starts[at : at + BATCH]
            audio = np.empty((count, (len(batch) + 1) * hop), np.float32)
            low, high = max(first - batch[0], 0), min(last - batch[0], audio.shape[1])
            for i, recording in enumerate(recordings):
                audio[i] = as_one_channel(recording.read(batch[0], audio.shape[1]))
            audio[:, :low] = 0.0
            audio[:, high:] = 0.0
            energies += (audio[:, hop:].astype(np.float64) ** 2).sum(axis=1)
            halves = audio.reshape(count, -1, hop)
            folded = halves[:, :-1] * window[:hop] + halves[:, 1:] * window[hop:]
            windows.append(np.einsum("swn,swn->ws", folded, folded))
            transformed = scipy.fft.rfft(folded).transpose(2, 0, 1)
            spectra += np.matmul(transformed.conj(), transformed.transpose(0, 2, 1))
    return spectra, energies, np.concatenate(windows), rate / hop


def _bands(spectra: np.ndarray, powers: np.ndarray, step_hz: float) -> np.ndarray:
    """Correlations at lag zero of the stems in octave bands, (bands, stems, stems), float64."""
    top = (len(spectra) - 1) * step_hz
    octaves = max(1, math.ceil(math.log2(max(2.0, top / LOWEST_BAND_HZ))))
    edges = [0, *(round(LOWEST_BAND_HZ * 2.0**k / step_hz) for k in range(octaves)), len(spectra)]
    edges = sorted({min(edge, len(spectra)) for edge in edges})
    bands = np.array([spectra[a:b].real.sum(axis=0, dtype=np.float64) for a, b in zip(edges, edges[1:], strict=False)])
    for band, (a, b) in zip(bands, zip(edges, edges[1:], strict=False), strict=True):
        np.fill_diagonal(band, powers[a:b].sum(axis=0))
    return bands


def _unique(bands: np.ndarray) -> np.ndarray:
    """Each stem's share of energy that no gains of the others in these bands make, (stems,).

    1 / (C^-1)_ii is what is left of stem i when all others are projected out of it; C_ii times that of C is the
    variance inflation factor.
    """
    energies = np.einsum("bss->bs", bands)
    left = np.zeros_like(energies)
    for band, correlation in enumerate(bands):
        scale = np.sqrt(np.maximum(energies[band], 0.0))
        index = np.flatnonzero(scale > 1e-5 * scale.max(initial=0.0))
        if not index.size:
            continue
        unit = correlation[np.ix_(index, index)] / np.outer(scale[index], scale[index])
        inverse = np.linalg.inv(unit + 1e-7 * np.eye(len(index)))
        left[band, index] = energies[band, index] / inverse.diagonal()
    return np.clip(left.sum(axis=0) / np.maximum(energies.sum(axis=0), 1e-300), 0.0, 1.0)


def _same(bands: np.ndarray) -> np.ndarray:
    """Which pairs are each other's multiple in every band where they have energy, (stems, stems)."""
    total = bands.sum(axis=0)
    energy = total.diagonal()
    unlike = 1.0 - total**2 / np.maximum(np.outer(energy, energy), 1e-300)
    same = unlike < 10.0 ** (SAME_DB / 10.0)
    np.fill_diagonal(same, False)
    return same


def _coherent_by_chance(windows: np.ndarray) -> np.ndarray:
    """The coherence unrelated stems are expected to show, (stems, stems), from energies of windows, (windows, stems).

    Of phases at random, the mean of |sum of A* B|^2 is the sum of |A|^2 |B|^2; doubled, because what sounds once is in
    two windows.
    """
    energies = windows.astype(np.float64)
    totals = np.maximum(energies.sum(axis=0), 1e-300)
    return 2.0 * (energies / totals).T @ (energies / totals)


def coherent_shares(spectra: np.ndarray, powers: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """How much of stem i's energy a filter makes from stem j, (i, j): coherence weighted by i's power spectrum.

    Where b is what chance gives, (coherence - b) / (1 - b); 0 for pairs that sound together in too few windows to tell.
    """
    floors = 1e-9 * powers.max(axis=0)
    shares = np.empty((powers.shape[1],) * 2)
    for j in range(powers.shape[1]):
        explained = np.abs(spectra[:, :, j]) ** 2 / np.maximum(powers[:, j : j + 1], floors[j])
        shares[:, j] = explained.sum(axis=0) / powers.sum(axis=0)
    chance = _coherent_by_chance(windows)
    usable = np.minimum(chance, MOST_CHANCE)
    return np.where(chance <= MOST_CHANCE, np.maximum(shares - usable, 0.0) / (1.0 - usable), 0.0)


def _copies(spectra: np.ndarray, shares: np.ndarray, same: np.ndarray) -> dict[int, int]:
    """The stem that each filtered copy was made from.

    Coherence does not say which of two is the copy: it is the one that comes out of a causal filter of the other.
    """
    import scipy.fft

    powers = np.einsum("fss->fs", spectra).real
    shares = np.where(same | np.eye(len(shares), dtype=bool), 0.0, shares)
    copies: dict[int, int] = {}
    for i in range(len(shares)):
        for j in np.argsort(-shares[i]):
            if shares[i, j] < COPY_SHARE:
                break
            causal = []
            for source, made in ((i, j), (j, i)):
                # spectra[:, a, b] is conj(A) B: what b has of a.
                ridge = powers[:, source] + 1e-4 * powers[:, source].max()
                response = scipy.fft.irfft(spectra[:, source, made] / ridge) ** 2
                middle = len(response) // 2
                causal.append(response[1:middle].sum() / max(response[1:].sum(), 1e-300))
            if causal[1] >= causal[0] and int(j) not in copies:
                copies[i] = int(j)
                break
    return copies


def _sum_note(bands: np.ndarray, place: int, names: list[str]) -> str:
    """What a stem is that gains of the others make: the sum of the fewest that do, or one of a sum's parts.

    Of a sum and its parts each is made of the others. The sum is what all others are added to with one sign, or, where
    a polarity hides that, the loudest of them.
    """
    total = bands.sum(axis=0)
    own = total[place, place]
    others = [j for j in range(len(names)) if j != place]
    chosen: list[int] = []
    weights = np.zeros(0)
    while others:
        left = total[others, place] - (total[np.ix_(others, chosen)] @ weights if chosen else 0.0)
        best = others[int(np.argmax(left**2 / np.maximum(total.diagonal()[others], 1e-300)))]
        others.remove(best)
        chosen.append(best)
        inner = total[np.ix_(chosen, chosen)]
        weights = np.linalg.solve(inner + 1e-9 * np.diag(inner.diagonal()), total[chosen, place])
        if own - weights @ total[chosen, place] < own * 10.0 ** (SUM_DB / 10.0):
            break
    made = [j for j, w in zip(chosen, weights, strict=True) if w**2 * total[j, j] > MEMBER_SHARE * own]
    signs = {w > 0.0 for j, w in zip(chosen, weights, strict=True) if j in made}
    if len(made) > 1 and len(signs) == 1 and (signs == {True} or own >= max(total[j, j] for j in made)):
        return f"is the sum of {', '.join(names[j] for j in sorted(made))}"
    return f"cannot be told apart from {names[max(made or chosen, key=lambda j: total[j, j])]}"
