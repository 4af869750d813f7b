"""Diff-MST's audio features and their loss (Vanka et al. 2024, equations 3 to 8), on numpy arrays and torch tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mixtools.measure.arrays import Array, Resolution, like, magnitudes, namespace, root, stretches, wide

BARK_FFT = 32768
BARK_HOP = 8192

WIDEST = 1e12
"""The width of L = -R, whose sum is silent."""

GUARD = 1e-4
"""Bands below this part of the reference's largest count as that large."""

EPSILON = 1e-8
"""What the paper adds to bands before the logarithm; the guard is never below it."""


@dataclass(frozen=True)
class Term:
    """One term of the loss: the weighted mean squared difference of a feature."""

    name: str
    weight: float
    help: str


AF_TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("rms", 0.1, "Root mean square per channel."),
        Term("crest", 0.001, "Crest factor per channel: peak over RMS, in dB."),
        Term("bark", 0.1, "Natural logarithms of 24 Bark bands of L + R and of L - R, magnitudes averaged over time."),
        Term("width", 1.0, "Energy of L - R over energy of L + R."),
        Term("imbalance", 1.0, "Energy of the right channel minus that of the left, over their sum."),
    )
}
"""The terms of equation 8 with their weights, by name."""


@dataclass(frozen=True)
class AudioFeatures:
    """Of stereo signals (..., 2, n); finite everywhere, and 0 where silence leaves them undefined.

    rms and crest_db (..., 2) per channel, bark (..., 2, 24) of L + R and L - R before the logarithm, width and
    imbalance (...).
    """

    rms: Array
    crest_db: Array
    bark: Array
    width: Array
    imbalance: Array

    @classmethod
    def from_sums(cls, energies: Array, cross: Array, peaks: Array, bands: Array, n: int) -> AudioFeatures:
        """From sums of squares (..., 2) and of L R (...), peaks (..., 2) and bands (..., 2, 24), over n samples."""
        xp = namespace(energies, cross, peaks, bands)
        rms = root(energies / n)
        audible = (energies > 0) & (peaks > 0)
        ratio = xp.where(audible, peaks, 1.0) / xp.where(audible, rms, 1.0)
        left, right = energies[..., 0], energies[..., 1]
        both = left + right
        middle, side = xp.clip(both + 2.0 * cross, min=0.0), xp.clip(both - 2.0 * cross, min=0.0)
        narrower = side < WIDEST * middle
        return cls(
            rms=rms,
            crest_db=20.0 * xp.log10(ratio),
            bark=bands,
            width=xp.where(
                narrower,
                side / xp.where(narrower, middle, 1.0),
                xp.where(both > 0, WIDEST, 0.0),
            ),
            imbalance=(right - left) / xp.where(both > 0, both, 1.0),
        )

    def scaled(self, gain: Array | float) -> AudioFeatures:
        """The features of the signals times a positive gain: a number, or one (...) for each."""
        gain = like(gain, self.rms)
        return replace(self, rms=self.rms * gain[..., None], bark=self.bark * gain[..., None, None])

    def plain(self) -> dict[str, list[float | None] | float | None]:
        """One signal's features as plain numbers, Bark bands as natural logarithms; None where undefined."""
        import math

        rms, crest_db = self.rms.tolist(), self.crest_db.tolist()
        bark_sum, bark_difference = [[math.log(x) if x > 0 else None for x in bands] for bands in self.bark.tolist()]
        silent = not any(rms)
        width = float(self.width)
        return {
            "rms": rms,
            "crest_db": [crest if level > 0 else None for crest, level in zip(crest_db, rms, strict=True)],
            "width": None if silent or width >= WIDEST else width,
            "imbalance": None if silent else float(self.imbalance),
            "bark_sum": bark_sum,
            "bark_difference": bark_difference,
        }


def audio_features(x: Array, rate: float) -> AudioFeatures:
    """Features of signals (..., 2, n), or of mono ones (..., 1, n) that count as two equal channels."""
    from mixtools.measure.filterbanks import bark_filterbank

    xp = namespace(x)
    n = x.shape[-1]
    x = xp.broadcast_to(x, (*x.shape[:-2], 2, n))
    energies = cross = 0.0
    peaks = []
    for (piece,) in stretches(x):
        energies = energies + xp.sum(piece**2, axis=-1)
        cross = cross + xp.sum(piece[..., 0, :] * piece[..., 1, :], axis=-1)
        peaks.append(xp.max(xp.abs(piece), axis=-1))
    left, right = wide(x[..., 0, :]), wide(x[..., 1, :])
    spectra = [_mean_magnitudes(y) for y in (left + right, left - right)]
    bank = like(bark_filterbank(BARK_FFT // 2 + 1, rate), spectra[0])
    bands = xp.matmul(xp.stack(spectra, axis=-2), xp.permute_dims(bank, (1, 0)))
    return AudioFeatures.from_sums(energies, cross, xp.max(xp.stack(peaks), axis=0), bands, n)


def _mean_magnitudes(x: Array) -> Array:
    xp = namespace(x)
    total, frames = 0.0, 0
    for piece in magnitudes(x, Resolution(BARK_FFT, BARK_HOP, BARK_FFT)):
        total = total + xp.sum(piece, axis=-1)
        frames += piece.shape[-1]
    return total / frames


def audio_feature_loss(a: AudioFeatures, b: AudioFeatures, guarded: bool = True) -> dict[str, Array]:
    """The weighted terms of equation 8 and their sum as `total`, (...) each, between an estimate and a reference.

    Both are brought to one loudness first, with `AudioFeatures.scaled`. Guarded, bands are at least 1e-4 of the
    reference's largest; else the logarithm is that of the paper, ln(x + 1e-8).
    """
    xp = namespace(a.bark, b.bark)
    if guarded:
        floor = xp.clip(GUARD * xp.max(b.bark, axis=(-2, -1), keepdims=True), min=EPSILON)
        bark = xp.log(xp.maximum(a.bark, floor) / xp.maximum(b.bark, floor))
    else:
        bark = xp.log((a.bark + EPSILON) / (b.bark + EPSILON))
    squares = {
        "rms": xp.mean((a.rms - b.rms) ** 2, axis=-1),
        "crest": xp.mean((a.crest_db - b.crest_db) ** 2, axis=-1),
        "bark": xp.mean(bark**2, axis=(-2, -1)),
        "width": (a.width - b.width) ** 2,
        "imbalance": (a.imbalance - b.imbalance) ** 2,
    }
    terms = {name: term.weight * squares[name] for name, term in AF_TERMS.items()}
    return {**terms, "total": sum(terms.values())}
