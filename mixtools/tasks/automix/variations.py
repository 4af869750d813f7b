"""Different mixes that are equally sound: a mix is not one answer."""

from __future__ import annotations

from mixtools.dsp.noise import generator
from mixtools.tasks.automix.rules import LEADS, MANNERS, Taste

LEVELS_LU = 1.5
"""How far a role's level may be from the table; leads and bass move half as far."""

STEADY = *LEADS, "bass", "kick"

WIDTHS = 0.75, 1.25
COMPRESSIONS = 0.6, 1.6
SENDS_DB = -4.0, 4.0
ROOMS = "small_room", "medium_room", "large_room"
PLATES = "plate", "hall"


def taste(seed: int, number: int) -> Taste:
    """The taste of one variation: the same seed and number give the same taste, whatever other variations there are.

    Sides are swapped in every second one.
    """
    rng = generator(seed, f"variation {number}")
    levels = {role: float(rng.uniform(-LEVELS_LU, LEVELS_LU)) for role in sorted(MANNERS)}
    return Taste(
        levels_lu={role: level / 2 if role in STEADY else level for role, level in levels.items()},
        mirrored=number % 2 == 0,
        width=float(rng.uniform(*WIDTHS)),
        compression=float(rng.uniform(*COMPRESSIONS)),
        sends_db=float(rng.uniform(*SENDS_DB)),
        spaces={"room": ROOMS[rng.integers(len(ROOMS))], "plate": PLATES[rng.integers(len(PLATES))]},
    )
