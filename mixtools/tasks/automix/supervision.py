"""A model's mix as it may leave the house: no stem lost, the lead and the bass in the centre, to anybody's taste."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mixtools.controls import EFFECTS
from mixtools.mix import Insert, Mix
from mixtools.tasks.automix.expert import Engineer, Engineered, Expert, typed
from mixtools.tasks.automix.rules import LEADS, Taste

MOST_OFF_LU = 10.0
"""How far a stem may be from where its role usually is, after the usual distance of all."""

CENTRED = *LEADS, "bass"


def supervised(
    expert: Expert, decided: Mix, taste: Taste | None = None, keep_levels: bool = False, locked: Mix | None = None
) -> Engineered:
    """What a model decided about all stems; tracks that `locked` has stay as they are there.

    Of the taste, levels, width and sides count.
    """
    return _Supervisor(expert, decided, taste or Taste(), keep_levels, locked).engineered()


class _Supervisor(Engineer):
    def __init__(self, expert: Expert, decided: Mix, taste: Taste, keep_levels: bool, locked: Mix | None):
        super().__init__(expert, taste, keep_levels, locked)
        self.decided = {track.file: track.chain for track in decided.tracks}

    def strips(self, targets: Mapping[str, float]) -> dict[str, tuple[list[Insert], dict[str, float]]]:
        chains = {name: [Insert(i.effect, dict(i.controls)) for i in self.decided[name]] for name in self.free}
        unplaced = {name: [i for i in chain if i.effect != "pan"] for name, chain in chains.items()}
        found = self.expert.processed_lufs(unplaced)
        usual = [found[name] - targets[name] for name in chains if found[name] is not None]
        shift = float(np.median(usual)) if usual else 0.0
        for name, chain in chains.items():
            self._level(name, chain, found[name], targets[name], shift)
            self._place(name, chain)
        return {name: (chain, {}) for name, chain in chains.items()}

    def _level(self, name: str, chain: list[Insert], lufs: float | None, target: float, shift: float) -> None:
        """Move a fader where taste, the lock or the role's usual loudness ask for it."""
        if lufs is None:
            return
        if self.keep_levels:
            moved = self.sounding[name].lufs - lufs
        else:
            taste_lu = (self.taste.levels_lu or {}).get(self.roles[name], 0.0)
            off = lufs + taste_lu - target - shift
            moved = taste_lu + min(max(off, -MOST_OFF_LU), MOST_OFF_LU) - off - shift
            if abs(off) > MOST_OFF_LU:
                side = "above" if off > 0 else "below"
                self.decide(name, "level", f"{abs(off):.1f} LU {side} its role, brought to {MOST_OFF_LU:g} LU")
        fader = [insert for insert in chain if insert.effect == "gain"][-1]
        control = EFFECTS["gain"]["gain_db"]
        fader.controls["gain_db"] = typed(min(max(fader.controls["gain_db"] + moved, control.low), control.high))

    def _place(self, name: str, chain: list[Insert]) -> None:
        for insert in chain:
            if insert.effect == "pan":
                aside = (insert.controls["pan"] - 0.5) * self.taste.width * (-1.0 if self.taste.mirrored else 1.0)
                if self.roles[name] == self.lead or self.roles[name] in CENTRED:
                    if abs(aside) >= 0.005:
                        self.decide(name, "centre", f"not {abs(aside) * 200:.0f} % aside: {self.roles[name]}")
                    aside = 0.0
                insert.controls["pan"] = typed(min(max(0.5 + aside, 0.0), 1.0))
