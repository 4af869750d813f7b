"""What was done to every track, in words that a musician uses."""

from __future__ import annotations

import numpy as np

from mixtools.controls import EQ_BANDS, Curve, side
from mixtools.mix import Insert, Mix, Track

REGIONS = ((120.0, "bottom"), (400.0, "body"), (1500.0, "middle"), (5000.0, "presence"), (float("inf"), "air"))
"""What a band is called, by its frequency in Hz."""

SHOWN_EQ_DB = 1.0
MOST_BANDS = 3
SHOWN_COMPRESSION_DB = 0.5
SHOWN_SEND_DB = -40.0
LOW_CUT_DB = -10.0


def lines(equal: Mix, found: Mix, compressed_db: dict[int, float], settled: set[int]) -> list[str]:
    """A line for every track of a mix; levels are against the equal-loudness mix, and relative to the other tracks'.

    `compressed_db` is what compressors take off peaks, by the track's number; those that are settled say only that.
    """
    before = {track.file: _fader(track) for track in equal.tracks}
    changes = [_fader(track) - before[track.file] for track in found.tracks]
    free = [change for i, change in enumerate(changes) if i not in settled]
    middle = float(np.median(free)) if free else 0.0
    told = []
    for i, track in enumerate(found.tracks):
        name = track.file.rpartition(".")[0] or track.file
        if i in settled:
            told.append(f"{name}: as it is")
            continue
        words = [f"{changes[i] - middle:+.1f} dB", _place(track), *_equaliser(track)]
        if compressed_db.get(i, 0.0) >= SHOWN_COMPRESSION_DB:
            words.append(f"{compressed_db[i]:.0f} dB of compression" if compressed_db[i] >= 1 else "light compression")
        words += [
            f"{bus} {level:.0f} dB"
            for bus, level in sorted(track.sends.items())
            if not isinstance(level, Curve) and level > SHOWN_SEND_DB
        ]
        told.append(f"{name}: {', '.join(words)}")
    return told


def master_line(found: Mix) -> str:
    """The same of the master, before its loudness."""
    words = _bands(found.master.chain)
    return f"master: {', '.join(words)}" if words else "master: as it is"


def _fader(track: Track) -> float:
    gains = [insert.settings["gain_db"] for insert in track.chain if insert.effect == "gain"]
    return sum(gain for gain in gains if not isinstance(gain, Curve))


def _place(track: Track) -> str:
    for insert in reversed(track.chain):
        if insert.effect == "pan":
            return side(insert.settings["pan"])
    return side(0.5)


def _equaliser(track: Track) -> list[str]:
    return _bands(track.chain)


def _bands(chain: list[Insert]) -> list[str]:
    found = []
    for insert in chain:
        if insert.effect != "parametric_eq":
            continue
        settings = insert.settings
        for band in EQ_BANDS:
            gain, hz = settings[f"{band}_gain_db"], settings[f"{band}_freq_hz"]
            if not isinstance(gain, Curve) and not isinstance(hz, Curve) and abs(gain) >= SHOWN_EQ_DB:
                found.append((band, gain, hz))
    kept = sorted(sorted(found, key=lambda each: -abs(each[1]))[:MOST_BANDS], key=lambda each: each[2])
    return [_band(*each) for each in kept]


def _band(band: str, gain_db: float, hz: float) -> str:
    at = f"{hz / 1000:.2g} kHz" if hz >= 1000 else f"{hz:.0f} Hz"
    if band == "low_shelf" and gain_db <= LOW_CUT_DB:
        return f"low cut at {at}"
    region = next(name for top, name in REGIONS if hz < top)
    side = {"low_shelf": "below", "high_shelf": "above"}.get(band, "at")
    return f"{region} {gain_db:+.1f} dB {side} {at}"
