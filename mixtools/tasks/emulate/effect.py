"""A model as an effect of the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mixtools.tasks.emulate.model import Model
from mixtools.tasks.emulate.running import Running, channels_out


class Emulation:
    """A model, as `dsp.neural` takes it."""

    def __init__(self, model: Model) -> None:
        self.model, self.rate = model, model.rate
        running = Running(model, 1, model.units())
        self.late, self.rings = running.late, running.rings

    def outputs(self, channels: int) -> int:
        return channels_out(self.model, channels)

    def stream(self, channels: int, settings: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        return Running(self.model, channels, self.model.units(settings, "set")).feed
