"""Between a start and what was found: how far to go, in all and by aspect."""

from __future__ import annotations

from typing import Any

from mixtools.controls import EFFECTS, EQ_BANDS, SEND, Control, Curve
from mixtools.errors import ParameterError
from mixtools.mix import Insert, Mix
from mixtools.tasks.transfer.options import Amount

ASPECT_OF = {"gain": "levels", "parametric_eq": "eq", "compressor": "dynamics", "pan": "stereo"}
DIGITS = 4


def blended(start: Mix, found: Mix, amount: Amount) -> Mix:
    """A mix that has gone so far from a start to another that differs in numbers only: same tracks, effects and sends.

    Gains and pans go straight, frequencies, times and ratios by octaves. A band at 0 dB has no frequency to come from,
    and a compressor that did nothing no threshold: those are the found ones at once, and their strength comes slowly.
    """
    if _shape(start) != _shape(found):
        raise ParameterError("the mixes differ in more than numbers; give a start with the same tracks and effects")
    mix = Mix.from_plain(found.to_plain())
    strips = zip(start.strips(), mix.strips(), strict=True)
    for (_, old), (_, new) in strips:
        for a, b in zip(old.chain, new.chain, strict=True):
            b.controls = _insert(a, b, amount)
        share = amount.of("reverb")
        for bus, level in getattr(new, "sends", {}).items():
            new.sends[bus] = _between(old.sends[bus], level, SEND, share)
    return mix.check()


def _shape(mix: Mix) -> list[Any]:
    return [
        (where, getattr(strip, "file", None), [i.effect for i in strip.chain], sorted(getattr(strip, "sends", {})))
        for where, strip in mix.strips()
    ]


def _insert(a: Insert, b: Insert, amount: Amount) -> dict[str, Any]:
    if a.controls == b.controls or b.effect not in ASPECT_OF:
        return b.controls
    share = amount.of(ASPECT_OF[b.effect])
    if share == 0.0:
        return dict(a.controls)
    if share == 1.0:
        return b.controls
    begin, end = a.settings, b.settings
    if b.effect == "compressor" and begin["ratio"] == 1.0:
        begin = end | {"ratio": 1.0, "makeup_db": begin["makeup_db"]}
    if b.effect == "parametric_eq":
        for band in EQ_BANDS:
            if begin[f"{band}_gain_db"] == 0.0:
                begin = begin | {name: end[name] for name in (f"{band}_freq_hz", f"{band}_q")}
    names = [name for name in EFFECTS[b.effect].names if name in a.controls or name in b.controls]
    return {name: _between(begin[name], end[name], EFFECTS[b.effect][name], share) for name in names}


def _between(a: Any, b: Any, control: Control, share: float) -> Any:
    """What is no number, or moves by itself, is the found one."""
    if share == 0.0:
        return a
    if a == b or share == 1.0 or control.kind != "number" or isinstance(a, Curve) or isinstance(b, Curve):
        return b
    low, high = control.to_unit(a), control.to_unit(b)
    return float(f"{control.from_unit(low + share * (high - low)):.{DIGITS}g}")
