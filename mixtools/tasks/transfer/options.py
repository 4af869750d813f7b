"""What can be asked of a transfer; nothing heavy is imported, so that the command line can name it."""

from __future__ import annotations

from dataclasses import dataclass

from mixtools.controls import Control, shown
from mixtools.errors import ParameterError

ASPECTS = {
    "levels": "faders",
    "eq": "equalisers",
    "dynamics": "compressors and the limiter's ceiling",
    "stereo": "pans",
    "reverb": "sends",
}
"""What `--amount` can be given for one by one, and what each is about."""

AMOUNT = Control("--amount", "How far to go from the start to what was found.", 1.0, 0.0, 1.0)
STEPS = Control("--steps", "Most rounds of the search; 0 keeps the start.", 16, 0, 1000, kind="whole")
WEIGHT = Control("--weight", "What a reference counts beside others.", 1.0, 1e-3, 1e3)


@dataclass(frozen=True)
class Amount:
    """How far to go from the start, 0 to 1: in all, and by aspect."""

    overall: float = 1.0
    levels: float = 1.0
    eq: float = 1.0
    dynamics: float = 1.0
    stereo: float = 1.0
    reverb: float = 1.0

    def __post_init__(self) -> None:
        for name in ("overall", *ASPECTS):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0.0 <= value <= 1.0:
                raise ParameterError(f"amount.{name} is {shown(value)}; give {AMOUNT.range}")

    def of(self, aspect: str) -> float:
        return float(self.overall * getattr(self, aspect))
