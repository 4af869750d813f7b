"""What a fit can be asked for; nothing heavy is imported, so that the command line can name it."""

from __future__ import annotations

from dataclasses import dataclass

from mixtools.errors import ParameterError, nearest

MODELS = "stereo-bus", "individual-bus", "gain", "eq", "console"
METHODS = "solve", "descent"
LOSSES = "mss", "mr-stft", "time"
WITH_REVERB = "stereo-bus", "individual-bus", "console"


@dataclass(frozen=True)
class Options:
    """What is looked for, and how. Times are in seconds of the mix; `start_s` and `end_s` bound what is fitted.

    The loss is that of descent: `mss` as in the paper, but `time` for the console model, unless given.
    """

    model: str = "stereo-bus"
    method: str = "solve"
    reverb_s: float = 1.0
    start_s: float | None = None
    end_s: float | None = None
    loss: str | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    validate: bool = False
    align: bool = True
    automation_s: float | None = None
    prune_db: float | None = None
    split_stereo: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.loss is None:
            object.__setattr__(self, "loss", "time" if self.model == "console" and self.method == "solve" else "mss")
        for name, words in (("model", MODELS), ("method", METHODS), ("loss", LOSSES)):
            value = getattr(self, name)
            if value not in words:
                raise ParameterError(f"{name} is {value}; give {nearest(str(value), words)}")

    @property
    def has_reverb(self) -> bool:
        return self.model in WITH_REVERB


DEFAULTS = Options()
