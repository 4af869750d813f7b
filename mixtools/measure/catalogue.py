"""Every feature, declared once as data: the command's columns, its man page and the comparisons are derived from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mixtools.errors import ParameterError, nearest

BARK_BANDS = 24


@dataclass(frozen=True)
class Feature:
    """One feature: a number, or `size` of them, with its equation, its source, and when it is null.

    A feature of Table II has the smallest |b| that a relative error |a - b| / max(|b|, floor) divides by, and why.
    In the feature vector it counts as value / scale, or as log2(max(value, floor)) / scale: 1 is clearly audible.
    `series` says that there is a value per frame, too.
    """

    name: str
    help: str
    equation: str
    source: str
    undefined: str = ""
    table2: bool = False
    floor: float | None = None
    floor_why: str = ""
    scale: float | None = None
    log: bool = False
    size: int = 1
    series: bool = False


@dataclass(frozen=True)
class Group:
    """Features that are measured together."""

    name: str
    help: str
    features: tuple[Feature, ...]


_TZANETAKIS = "Tzanetakis et al. 2007"
_WILSON_2014 = "Wilson & Fazenda 2014"
_WILSON_2016 = "Wilson & Fazenda 2016"
_PEETERS = "Peeters 2004"
_LIBROSA = "McFee et al. 2015, librosa"
_BS1770 = "ITU-R BS.1770-4"
_DIFF_MST = "Vanka et al. 2024, Diff-MST"

_NO_FRAME = "Null when no frame of 46 ms is whole, or all are silent."
_SILENT = "Null for silence."
_EQUAL = "Null when all samples are equal."
_BELOW_GATE = "Null when nothing is louder than -70 LUFS, or the audio is shorter than 400 ms."
_NO_LOUDNESS = "Null where the integrated loudness is."

_SPECTRAL = Group(
    "spectral",
    "The shape of the spectrum of (left + right) / 2: means over the frames that are at most 60 dB below the loudest.",
    (
        Feature(
            "centroid_hz",
            "Centre of gravity of the magnitude spectrum.",
            "c = sum f m / sum m, m = |X(f)|",
            _PEETERS,
            _NO_FRAME,
            table2=True,
            floor=20.0,
            floor_why="lower than what is heard",
            scale=0.25,
            log=True,
            series=True,
        ),
        Feature(
            "spread_hz",
            "Standard deviation of frequency under the magnitude spectrum.",
            "s = sqrt(sum (f - c)^2 m / sum m)",
            _PEETERS,
            _NO_FRAME,
            table2=True,
            floor=20.0,
            floor_why="one bin of the spectrum",
            scale=0.25,
            log=True,
            series=True,
        ),
        Feature(
            "skewness",
            "Whether the spectrum leans below or above its centroid.",
            "sum (f - c)^3 m / (s^3 sum m)",
            _PEETERS,
            _NO_FRAME,
            table2=True,
            floor=0.1,
            floor_why="0 for a flat spectrum",
            scale=0.5,
            series=True,
        ),
        Feature(
            "kurtosis",
            "How far the spectrum's tails reach; 3 for a normal distribution.",
            "sum (f - c)^4 m / (s^4 sum m)",
            _PEETERS,
            _NO_FRAME,
            table2=True,
            floor=1.0,
            floor_why="no kurtosis is smaller",
            scale=0.5,
            log=True,
            series=True,
        ),
        Feature(
            "rolloff_85_hz",
            "The frequency below which 85 % of the magnitude lies.",
            "the first f where the sum of m up to f is at least 0.85 sum m",
            _LIBROSA,
            _NO_FRAME,
            table2=True,
            floor=20.0,
            floor_why="one bin of the spectrum",
            scale=0.25,
            log=True,
            series=True,
        ),
        Feature(
            "rolloff_95_hz",
            "The frequency below which 95 % of the magnitude lies.",
            "the first f where the sum of m up to f is at least 0.95 sum m",
            _LIBROSA,
            _NO_FRAME,
            table2=True,
            floor=20.0,
            floor_why="one bin of the spectrum",
            scale=0.25,
            log=True,
            series=True,
        ),
        Feature(
            "flatness",
            "How much the power spectrum is like white noise, 1, and how little like a tone, 0.",
            "exp(mean ln m^2) / mean m^2, no m^2 smaller than 1e-12 of the frame's largest",
            _LIBROSA,
            _NO_FRAME,
            table2=True,
            floor=1e-3,
            floor_why="white noise has 0.56, all music is near 0",
            scale=1.0,
            log=True,
            series=True,
        ),
        Feature(
            "entropy",
            "Shannon entropy of the power spectrum, from 0, one bin, to 1, equal power in all bins.",
            "-sum p log2 p / log2(bins), p = m^2 / sum m^2",
            "Misra et al. 2004",
            _NO_FRAME,
            series=True,
        ),
        Feature(
            "crest",
            "How far the strongest bin stands above the mean magnitude.",
            "max m / mean m",
            _PEETERS,
            _NO_FRAME,
            series=True,
        ),
        Feature(
            "flux",
            "How much the spectrum's shape changes from frame to frame, from 0 to 1.41.",
            "|u(t) - u(t - 1)|, u = m / sqrt(sum m^2)",
            _PEETERS,
            "Null when no two successive frames of 46 ms, 23 ms apart, hold sound.",
            series=True,
        ),
        Feature(
            "bark_db",
            "Level in 24 Bark bands from 20 Hz to 20 kHz over all frames; a full-scale sine amid a band is -3 dB.",
            "10 log10 of the sum of w(f) P(f), P the mean power spectrum scaled so that its sum is the mean square, "
            "w triangles whose edges are equally far in z = 26.81 f / (1960 + f) - 0.53",
            "Traunmueller 1990",
            "Null in bands that are silent or reach above half the sample rate, and everywhere when no frame is whole.",
            scale=3.0,
            size=BARK_BANDS,
        ),
    ),
)

_LOUDNESS = Group(
    "loudness",
    "Level, loudness and how they vary.",
    (
        Feature(
            "integrated_lufs",
            "Gated loudness of the whole.",
            "-0.691 + 10 log10 of the mean K-weighted power of 400 ms blocks above the gates",
            _BS1770,
            _BELOW_GATE,
            table2=True,
            floor=6.0,
            floor_why="a level near 0 is no small level",
            scale=3.0,
        ),
        Feature(
            "range_lu",
            "How much the short-term loudness varies.",
            "95th minus 10th percentile of the gated short-term loudness",
            "EBU Tech 3342",
            "Null when nothing is louder than -70 LUFS, or the audio is shorter than 3 s.",
            table2=True,
            floor=1.0,
            floor_why="0 for steady sounds",
            scale=3.0,
        ),
        Feature(
            "momentary_max_lufs",
            "The largest loudness of any 400 ms.",
            "max of -0.691 + 10 log10 of the K-weighted power of 400 ms",
            "EBU Tech 3341",
            "Null for silence, or when the audio is shorter than 400 ms.",
            series=True,
        ),
        Feature(
            "short_term_max_lufs",
            "The largest loudness of any 3 s.",
            "max of -0.691 + 10 log10 of the K-weighted power of 3 s",
            "EBU Tech 3341",
            "Null for silence, or when the audio is shorter than 3 s.",
            series=True,
        ),
        Feature(
            "true_peak_dbtp",
            "The largest value, between samples too.",
            "20 log10 max |x| after interpolation by 4",
            f"{_BS1770}, annex 2",
            _SILENT,
        ),
        Feature(
            "sample_peak_dbfs",
            "The largest sample.",
            "20 log10 max |x|",
            _WILSON_2016,
            _SILENT,
            table2=True,
            floor=6.0,
            floor_why="most mixes peak near 0 dB",
            scale=3.0,
        ),
        Feature(
            "rms_dbfs",
            "Level of all channels together; a full-scale square wave is 0 dB.",
            "10 log10 mean x^2",
            _WILSON_2016,
            _SILENT,
        ),
        Feature(
            "crest_100ms_db",
            "Peak over RMS of all channels: the mean over windows of 100 ms at most 60 dB below the loudest.",
            "mean of 20 log10(max |x| / sqrt(mean x^2))",
            _WILSON_2016,
            "Null for silence, or when the audio is shorter than 100 ms.",
            table2=True,
            floor=3.0,
            floor_why="a sine has 3 dB, a square wave 0",
            scale=2.0,
        ),
        Feature(
            "crest_1s_db",
            "Peak over RMS of all channels: the mean over windows of 1 s at most 60 dB below the loudest.",
            "mean of 20 log10(max |x| / sqrt(mean x^2))",
            _WILSON_2016,
            "Null for silence, or when the audio is shorter than 1 s.",
            table2=True,
            floor=3.0,
            floor_why="a sine has 3 dB, a square wave 0",
            scale=2.0,
        ),
        Feature(
            "top_1_db_percent",
            "Share of the samples that are within 1 dB, give or take 0.0002 dB, of the sample peak.",
            "100 (samples where |x| >= 10^(-1/20) max |x|) / samples",
            _WILSON_2016,
            _SILENT,
            table2=True,
            floor=0.05,
            floor_why="half a millisecond of every second; mixes that were not limited have a few samples",
            scale=1.0,
            log=True,
        ),
    ),
)

_STEREO = Group(
    "stereo",
    "How the sound is spread between left and right; a mono file has width 0, imbalance 0, correlation 1, panning 0.",
    (
        Feature(
            "width",
            "Energy of the difference of left and right over that of their sum.",
            "sum (L - R)^2 / sum (L + R)^2",
            _DIFF_MST,
            "Null for silence, and when left and right cancel.",
            table2=True,
            floor=0.01,
            floor_why="0 for mono",
            scale=1.0,
            log=True,
        ),
        Feature(
            "imbalance",
            "Left/right ratio, from -1, left only, to 1, right only.",
            "(sum R^2 - sum L^2) / (sum R^2 + sum L^2)",
            _DIFF_MST,
            _SILENT,
            table2=True,
            floor=0.1,
            floor_why="0 in the middle; 0.1 is 0.9 dB",
            scale=0.2,
        ),
        Feature(
            "correlation",
            "Correlation of left and right, from -1 to 1.",
            "sum L R / sqrt(sum L^2 sum R^2)",
            "Phase correlation meters; not about the mean",
            "Null when a channel is silent.",
        ),
        *(
            Feature(
                name,
                f"RMS of the stereo panning spectrum {where}: the mean over frames at most 60 dB below the loudest.",
                "sqrt(mean S^2), S = (1 - 2 |L R*| / (|L|^2 + |R|^2)) sign(|R| - |L|), 0 in bins more than 120 dB "
                "below the frame's strongest",
                _TZANETAKIS,
                _NO_FRAME,
                table2=True,
                floor=0.01,
                floor_why="0 for mono",
                scale=0.5,
                log=True,
                series=True,
            )
            for name, where in (
                ("panning_all", "over all bins"),
                ("panning_low", "below 250 Hz"),
                ("panning_mid", "from 250 Hz to 2.5 kHz"),
                ("panning_high", "from 2.5 kHz up"),
            )
        ),
    ),
)

_ENVELOPE = Group(
    "envelope",
    "The probability mass function of the sample values of all channels together; full scale is 1.",
    (
        Feature(
            "centroid",
            "Mean of the sample values.",
            "c = sum x p(x)",
            _WILSON_2014,
            "Null for no samples.",
            table2=True,
            floor=0.01,
            floor_why="0 but for an offset; 0.01 is -40 dB",
            scale=0.01,
        ),
        Feature(
            "spread",
            "Standard deviation of the sample values.",
            "s = sqrt(sum (x - c)^2 p(x))",
            _WILSON_2014,
            "Null for no samples.",
            table2=True,
            floor=1e-3,
            floor_why="-60 dB",
            scale=0.5,
            log=True,
        ),
        Feature(
            "skewness",
            "Whether the larger samples are negative or positive.",
            "sum (x - c)^3 p(x) / s^3",
            _WILSON_2014,
            _EQUAL,
            table2=True,
            floor=0.5,
            floor_why="0 for symmetric waves",
            scale=0.5,
        ),
        Feature(
            "kurtosis",
            "How rare the large samples are; 3 for noise, 1.5 for a sine.",
            "sum (x - c)^4 p(x) / s^4",
            _WILSON_2014,
            _EQUAL,
            table2=True,
            floor=1.0,
            floor_why="no kurtosis is smaller",
            scale=0.5,
            log=True,
        ),
        Feature(
            "flatness",
            "How evenly the samples use the range from -peak to peak.",
            "geometric over arithmetic mean of p in 201 bins; empty bins count as 1e-12, or one would make it 0",
            _WILSON_2014,
            _SILENT,
        ),
    ),
)

_AT_LOUDNESS = "of the signal at -16 LUFS"

_DIFFMST = Group(
    "diffmst",
    "The audio features of Diff-MST, of the signal brought to -16 LUFS; a mono file counts as two equal channels.",
    (
        Feature(
            "rms",
            f"RMS of left and right, {_AT_LOUDNESS}.",
            "sqrt(mean x^2)",
            f"{_DIFF_MST}, equation 3",
            _NO_LOUDNESS,
            size=2,
        ),
        Feature(
            "crest_db",
            "Peak over RMS of left and right.",
            "20 log10(max |x| / sqrt(mean x^2))",
            f"{_DIFF_MST}, equation 4",
            f"{_NO_LOUDNESS[:-1]}, and for a silent channel.",
            size=2,
        ),
        Feature(
            "width",
            "Energy of the difference of left and right over that of their sum.",
            "sum (L - R)^2 / sum (L + R)^2",
            f"{_DIFF_MST}, equation 6",
            f"{_NO_LOUDNESS[:-1]}, and when left and right cancel.",
        ),
        Feature(
            "imbalance",
            "Left/right balance, from -1, left only, to 1, right only.",
            "(sum R^2 - sum L^2) / (sum R^2 + sum L^2)",
            f"{_DIFF_MST}, equation 7",
            _NO_LOUDNESS,
        ),
        *(
            Feature(
                name,
                f"Bark spectrum of {of} in 24 bands, {_AT_LOUDNESS}, natural logarithm.",
                "ln sum w(f) mean |X(f)|, Hann windows of 32768 samples, 8192 apart; w as in spectral.bark_db",
                f"{_DIFF_MST}, equation 5",
                f"{_NO_LOUDNESS[:-1]}, and in bands that are silent or above half the sample rate.",
                size=BARK_BANDS,
            )
            for name, of in (("bark_sum", "left + right"), ("bark_difference", "left - right"))
        ),
    ),
)

GROUPS: dict[str, Group] = {group.name: group for group in (_SPECTRAL, _LOUDNESS, _STEREO, _ENVELOPE, _DIFFMST)}

TABLE2: dict[str, tuple[Feature, ...]] = {
    name: tuple(feature for feature in GROUPS[name].features if feature.table2)
    for name in ("spectral", "envelope", "stereo", "loudness")
}
"""The 23 features of Colonel & Reiss 2021, Table II, in its groups."""

TABLE2_GROUP = "table2"
"""What names Table II's features among the groups."""


def chosen(groups: Iterable[str] | None) -> dict[str, tuple[Feature, ...]]:
    """The features that the named groups hold together, by group; every feature when no groups are given."""
    names = tuple(GROUPS if groups is None else groups)
    for name in names:
        if name not in (*GROUPS, TABLE2_GROUP):
            raise ParameterError(f"group is {name!r}; give {nearest(name, (*GROUPS, TABLE2_GROUP))}")
    features = {
        name: tuple(f for f in group.features if name in names or (TABLE2_GROUP in names and f.table2))
        for name, group in GROUPS.items()
    }
    return {name: those for name, those in features.items() if those}


def in_four_digits(value: float | None) -> str:
    """A feature's value for people."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
