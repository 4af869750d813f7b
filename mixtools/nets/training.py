"""The training loop of all learning commands: killed at any moment, it goes on as if it had not been."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixtools.controls import shown
from mixtools.errors import MixtoolsError, ParameterError
from mixtools.nets.batches import seed_everything
from mixtools.nets.processes import World
from mixtools.nets.restoring import OPTIMISER, finite, load_weights, refuse_difference, refuse_misfit

Forward = Callable[..., Any]
"""A model as a loss may use it: called, and nothing else."""

_MOMENTS = "step", "exp_avg", "exp_avg_sq"
_NOT_COMPARED = "steps", "save_every"
"""What a resumed training may have another value of: neither changes what a step does."""

_RANGES = {
    "steps": (1, 10**9),
    "seed": (0, 2**63 - 1),
    "rate": (0.0, 1.0),
    "betas": (0.0, 1.0 - 1e-9),
    "eps": (1e-30, 1.0),
    "weight_decay": (0.0, 1e6),
    "accumulate": (1, 10**6),
    "clip_norm": (1e-30, 1e30),
    "validate_every": (1, 10**9),
    "save_every": (1, 10**9),
    "rate_factor": (1e-6, 1.0),
    "rate_patience": (0, 10**9),
    "lowest_rate": (0.0, 1.0),
    "threshold": (0.0, 1.0),
    "stop_patience": (0, 10**9),
}
_PRECISIONS = "float32", "bfloat16"


@dataclass(frozen=True)
class Training:
    """What a training does; counts of patience are in validations, and more than so many in vain have a consequence.

    A validation is better when it is lower by a share `threshold` of the best. `bfloat16` is for the model alone:
    losses are computed from float32, and weights are kept in what they are.
    """

    steps: int
    seed: int = 0
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    accumulate: int = 1
    clip_norm: float | None = None
    precision: str = "float32"
    validate_every: int = 1000
    save_every: int = 1000
    rate_factor: float = 0.1
    rate_patience: int = 10
    lowest_rate: float = 0.0
    threshold: float = 1e-4
    stop_patience: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            values = getattr(self, name)
            for value in values if name == "betas" else (values,):
                optional = name in ("clip_norm", "stop_patience") and value is None
                if not (optional or _is_number(value, type(low)) and low <= value <= high):
                    whole = "a whole number, " if isinstance(low, int) else ""
                    raise ParameterError(f"{name} is {shown(value)}; give {whole}{shown(low)} to {shown(high)}")
        if self.precision not in _PRECISIONS:
            raise ParameterError(f"precision is {shown(self.precision)}; give one of {', '.join(_PRECISIONS)}")


@dataclass
class State:
    """How far a training is, and what it decides with. Random numbers need no state: they follow from seed and step."""

    rate: float
    step: int = 0
    seconds: float = 0.0
    lowest: float | None = None
    """The best validation, whose weights are kept."""
    reference: float | None = None
    """The last validation that was better by the threshold."""
    in_vain: int = 0
    in_vain_at_rate: int = 0

    def learn(self, validation: float, config: Training) -> bool:
        """Adapt to a validation, as PyTorch's ReduceLROnPlateau does; says whether it is the lowest so far."""
        lowest = self.lowest is None or validation < self.lowest
        if lowest:
            self.lowest = validation
        if self.reference is None or validation < self.reference - config.threshold * abs(self.reference):
            self.reference = validation
            self.in_vain = self.in_vain_at_rate = 0
        else:
            self.in_vain += 1
            self.in_vain_at_rate += 1
        if self.in_vain_at_rate > config.rate_patience:
            self.rate = min(self.rate, max(self.rate * config.rate_factor, config.lowest_rate))
            self.in_vain_at_rate = 0
        return lowest

    def finished(self, config: Training) -> bool:
        """Whether all steps are done, or too many validations were in vain."""
        return self.step >= config.steps or (config.stop_patience is not None and self.in_vain > config.stop_patience)

    @classmethod
    def of(cls, found: Any, where: str) -> State:
        """A state from what a file holds."""
        names = {field.name: field.type for field in fields(cls)}
        if not isinstance(found, dict) or found.keys() != names.keys():
            raise ParameterError(f"{where}: state does not hold {', '.join(names)}; give an undamaged checkpoint")
        for name, kind in names.items():
            value = found[name]
            usable = _is_number(value, int) and value >= 0 if kind == "int" else _is_number(value, float)
            if not (usable or (value is None and "None" in kind)):
                raise ParameterError(f"{where}: state.{name} is {shown(value)}; give an undamaged checkpoint")
        return cls(**found)


@dataclass(frozen=True)
class Progress:
    """Where a training is; speed and remaining time are those since it was started or resumed."""

    step: int
    steps: int
    loss: float
    lowest_validation: float | None
    steps_per_s: float
    remaining_s: float


class Storage(Protocol):
    """Where a training is kept, `mixtools.files.checkpoints.TrainingFolder` for one; only rank 0 uses it."""

    name: str

    def open(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the record that were saved as `last`, or None for a new training."""

    def save(self, kind: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Keep them as `last` or as `best`, in place of what was kept as that, at once or not at all."""

    def keep_log(self, step: int) -> None:
        """Forget the rows of later steps: they come again."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One more row, by column."""

    def close(self) -> None:
        """The training is over, for now."""


def train(
    model: nn.Module,
    loss: Callable[[Forward, Any], Tensor | Mapping[str, Tensor]],
    batch: Callable[[int], Any],
    config: Training,
    storage: Storage,
    about: Mapping[str, Any],
    validate: Callable[[nn.Module], float] | None = None,
    world: World | None = None,
    progress: Callable[[Progress], None] = lambda now: None,
) -> State:
    """Train a model from where its storage says it is, to the last step or until validations stay in vain.

    batch: makes the batch of a number, always the same; the batches of a step are numbered through over processes and
    accumulation, so that two processes see what one sees with twice the accumulation, or with batches twice as large.
    loss: calls the model it is given, and gives a mean over the batch, alone or as "loss" among the terms to log.
    about: what the model is, plain data; a training can only be resumed with the same. validate: a number that is
    better when lower, of the model in eval mode, every so many steps and after the last; means over processes count.
    An interrupt ends it after the step that is being done, with a `KeyboardInterrupt` that says what was saved.
    """
    loop = _Loop(model, loss, batch, config, storage, about, validate, world or World())
    try:
        return _trained(loop, progress)
    finally:
        if loop.world.rank == 0:
            storage.close()


def _trained(loop: _Loop, progress: Callable[[Progress], None]) -> State:
    config = loop.config
    loop.restore()
    began, first = time.monotonic() - loop.state.seconds, loop.state.step
    session = time.monotonic()
    with _interrupts(loop.reminder) as interrupts:
        while not loop.state.finished(config):
            mean_loss, interrupted = loop.advance(began, interrupts)
            speed = (loop.state.step - first) / max(time.monotonic() - session, 1e-9)
            left = (config.steps - loop.state.step) / speed
            if loop.world.rank == 0:
                progress(Progress(loop.state.step, config.steps, mean_loss, loop.state.lowest, speed, left))
            if interrupted and not loop.state.finished(config):
                raise KeyboardInterrupt(f"interrupted; {loop.reminder()}")
    return loop.state


class _Loop:
    """One training: the model, its optimiser, and its state."""

    def __init__(self, model, loss, batch, config, storage, about, validate, world):
        self.model: nn.Module = model.to(world.device)
        self.loss, self.batch, self.validate = loss, batch, validate
        self.config, self.storage, self.world = config, storage, world
        self.state = State(config.rate)
        self.saved_step: int | None = None
        plan = {name: value for name, value in asdict(config).items() if name not in _NOT_COMPARED}
        # As it will be read again: tuples are lists in JSON.
        self.record = json.loads(json.dumps({"about": about, "training": {**plan, "processes": world.size}}))
        self.learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.Adam(
            self.learned.values(), config.rate, config.betas, config.eps, config.weight_decay
        )

    def restore(self) -> None:
        """Go on from the last checkpoint if there is one, on all processes from what rank 0 finds."""
        found = self._found()
        where = f"{self.storage.name}: last"
        if found is not None:
            tensors, record = found
            for part in self.record:
                refuse_difference(record.get(part), self.record[part], part, where)
            self.state = State.of(record.get("state"), where)
            load_weights(self.model, tensors, where)
            self._restore_optimiser(tensors, where)
            self.saved_step = self.state.step
        if self.world.rank == 0:
            self.storage.keep_log(self.state.step)
        self.forward, self.unsynchronised = self._forward()

    def _found(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        found, error = None, None
        if self.world.rank == 0:
            try:
                found = self.storage.open()
            except MixtoolsError as caught:
                error = caught
        if self.world.size > 1:
            import safetensors.torch

            tensors, record = found or ({}, None)
            header = json.dumps([record, error and str(error)]).encode()
            record, message = json.loads(self.world.share(header))
            if message is not None:
                raise error or ParameterError(message)
            content = self.world.share(safetensors.torch.save(tensors))
            return None if record is None else (safetensors.torch.load(content), record)
        if error is not None:
            raise error
        return found

    def _restore_optimiser(self, tensors: Mapping[str, Tensor], where: str) -> None:
        # A parameter that had no gradient yet has no moments.
        names = [name for name in self.learned if any(_moment(name, kind) in tensors for kind in _MOMENTS)]
        wanted = {
            _moment(name, kind): torch.zeros(()) if kind == "step" else self.learned[name]
            for name in names
            for kind in _MOMENTS
        }
        refuse_misfit(wanted, {k: v for k, v in tensors.items() if k.startswith(OPTIMISER)}, where)
        for name in names:
            self.optimiser.state[self.learned[name]] = {
                kind: tensors[_moment(name, kind)].clone().to("cpu" if kind == "step" else self.world.device)
                for kind in _MOMENTS
            }

    def _forward(self) -> tuple[Forward, Callable[[], AbstractContextManager]]:
        """The model as the loss calls it, and the context in which processes do not exchange gradients yet."""
        forward, unsynchronised = self.model, nullcontext
        if self.world.size > 1:
            devices = [self.world.device] if self.world.device.type == "cuda" else None
            forward = DistributedDataParallel(self.model, devices)
            unsynchronised = forward.no_sync
        if self.config.precision == "float32":
            return forward, unsynchronised

        def mixed(*inputs: Any, **named: Any) -> Any:
            with torch.autocast(self.world.device.type, torch.bfloat16):
                y = forward(*inputs, **named)
            return _mapped(y, lambda x: x.float() if x.dtype == torch.bfloat16 else x)

        return mixed, unsynchronised

    def advance(self, began: float, interrupts: list[int]) -> tuple[float, bool]:
        """One step, validated, logged and saved when it is time: its loss, and whether to end after it."""
        state, config = self.state, self.config
        terms, interrupted = self._step(interrupts)
        state.step += 1
        state.seconds = time.monotonic() - began
        row = {"step": state.step, "seconds": round(state.seconds, 3), "rate": state.rate, **terms, "validation": None}
        lowest = False
        if self.validate is not None and (state.step % config.validate_every == 0 or state.step == config.steps):
            row["validation"] = self._validation()
            lowest = state.learn(row["validation"], config)
        if self.world.rank == 0:
            self.storage.log(row)
        # The best first: if it ends between the two, the step is done again and both are saved.
        if lowest:
            self._save("best", self.model.state_dict())
        if state.step % config.save_every == 0 or interrupted or state.finished(config):
            self._save("last", {**self.model.state_dict(), **self._moments()})
            self.saved_step = state.step
        return terms["loss"], interrupted

    def _step(self, interrupts: list[int]) -> tuple[dict[str, float], bool]:
        """Gradients of all batches of a step, and the optimiser's answer: mean terms, and whether to end after it."""
        accumulate = self.config.accumulate
        self.model.train()
        self.optimiser.zero_grad()
        for group in self.optimiser.param_groups:
            group["lr"] = self.state.rate
        sums: dict[str, Tensor] = {}
        for micro in range(accumulate):
            number = (self.state.step * accumulate + micro) * self.world.size + self.world.rank
            seed_everything(self.config.seed, number)
            values = _mapped(self.batch(number), lambda x: x.to(self.world.device))
            with nullcontext() if micro == accumulate - 1 else self.unsynchronised():
                found = self.loss(self.forward, values)
                terms = found if isinstance(found, Mapping) else {"loss": found}
                (terms["loss"] / accumulate).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach() / accumulate
        limit = math.inf if self.config.clip_norm is None else self.config.clip_norm
        sums["gradient_norm"] = nn.utils.clip_grad_norm_(self.learned.values(), limit)
        *means, interrupted = self.world.mean([*map(float, sums.values()), float(bool(interrupts))])
        means = dict(zip(sums, means, strict=True))
        for name, value in means.items():
            self._refuse_unusable(name.replace("_", " "), value, self.state.step + 1)
        self.optimiser.step()
        return means, interrupted > 0

    def _validation(self) -> float:
        self.model.eval()
        seed_everything(self.config.seed)
        with torch.no_grad():
            (value,) = self.world.mean([float(self.validate(self.model))])
        self._refuse_unusable("validation", value, self.state.step)
        return value

    def _moments(self) -> dict[str, Tensor]:
        return {
            _moment(name, kind): tensor
            for name, parameter in self.learned.items()
            for kind, tensor in self.optimiser.state.get(parameter, {}).items()
        }

    def _save(self, kind: str, tensors: Mapping[str, Tensor]) -> None:
        if self.world.rank == 0:
            for name, tensor in tensors.items():
                if not finite(tensor):
                    self._refuse_unusable(name, math.nan, self.state.step)
            self.storage.save(kind, tensors, {**self.record, "state": asdict(self.state)})

    def _refuse_unusable(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            give = "give a lower learning rate, clip the gradient, or look at the data"
            raise MixtoolsError(f"step {step}: the {name} is {value}; {give}; {self.reminder()}")

    def reminder(self) -> str:
        """What is kept, for a person who has to stop here."""
        if self.saved_step is None:
            return "nothing was saved"
        return f"{self.storage.name} keeps step {self.saved_step} of {self.config.steps}, to be resumed from"


@contextmanager
def _interrupts(reminder: Callable[[], str]) -> Iterator[list[int]]:
    """The signals to end that came so far; a second Ctrl-C is not waited with."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt(f"interrupted; {reminder()}")
        came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Tensors in tuples, lists and dictionaries through a function; all else as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _mapped(item, function) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        items: Iterable[Any] = (_mapped(item, function) for item in value)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _moment(name: str, kind: str) -> str:
    return f"{OPTIMISER}{name}/{kind}"


def _is_number(value: Any, kind: type) -> bool:
    kinds = (int,) if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
