"""A trained model of a channel or a device: its controls, and what it makes of sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from mixtools.controls import EFFECTS, Control, shown
from mixtools.errors import ParameterError, nearest
from mixtools.nets.emulator import MOST_CONTROLS, Spec
from mixtools.nets.restoring import refuse_misfit
from mixtools.tasks.emulate.console import INERT, PRESET, PROCESSORS, Channel

if TYPE_CHECKING:
    from torch import Tensor

ORDER = "order"
_GIVE = "give a model of a channel or a device"
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Knob:
    """A control of a model: `control` says its range and default, `column` and `count` where it is in the vector."""

    control: Control
    column: int
    count: int = 1

    @property
    def name(self) -> str:
        return self.control.name

    def read(self, units: np.ndarray) -> str:
        """The value in units (controls,), in words."""
        if self.control.kind == "choice":
            return self.control.choices[int(units[self.column : self.column + self.count].argmax())]
        return f"{self.control.from_unit(float(units[self.column])):.4g}"

    def write(self, units: np.ndarray, value: Any, where: str) -> None:
        """Set units (controls,) to a value, which is checked."""
        value = self.control.check(value, where)
        if self.control.kind == "choice":
            units[self.column : self.column + self.count] = 0.0
            units[self.column + self.control.choices.index(value)] = 1.0
        else:
            units[self.column] = self.control.to_unit(value)


class Model:
    """A network with weights, and the controls that it was trained with."""

    def __init__(self, net: nn.Module, spec: Spec, about: Mapping[str, Any], where: str = "model") -> None:
        self.net, self.spec, self.about = net.eval(), spec, dict(about)
        self.idle = np.zeros(spec.controls)
        """The vector where nobody sets anything that is no knob."""
        self.knobs = {knob.name: knob for knob in self._knobs(where)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], about: Any, where: str) -> Model:
        """The model of a checkpoint: its tensors, and what its record says it is about (`files.models.open_model`).

        Neither is trusted: a `ParameterError` names the first thing that does not fit.
        """
        if not isinstance(about, dict) or "network" not in about:
            raise ParameterError(f"{where}: about.network is missing; {_GIVE}")
        spec = Spec.of(about["network"], f"{where}: about.network")
        with torch.device("meta"):
            net = spec.network()
        refuse_misfit(net.state_dict(), tensors, where, _GIVE)
        # What follows from the spec alone is in no file.
        net = spec.network()
        net.load_state_dict(dict(tensors), assign=True)
        return cls(net, spec, about, where)

    @property
    def rate(self) -> int:
        """The rate it was trained at, in Hz."""
        return self.spec.rate

    def units(self, settings: Mapping[str, Any] | None = None, where: str = "the controls") -> np.ndarray:
        """The control vector (controls,) of settings by knob; those that are not given have their defaults.

        Settings may be grouped: {"compressor": {"ratio": 4}} is {"compressor.ratio": 4}.
        """
        units = self.idle.copy()
        for knob in self.knobs.values():
            knob.write(units, knob.control.default, knob.name)
        for name, value in _flat({} if settings is None else settings, where).items():
            self.knob(name, where).write(units, value, f"{where}: {name}")
        return units

    def knob(self, name: str, where: str) -> Knob:
        """A control by name, or a `ParameterError` that names `where`."""
        if name not in self.knobs:
            known = f"give {nearest(name, self.knobs)}" if self.knobs else "this model has no controls"
            raise ParameterError(f"{where}: {shown(name)} is not known; {known}")
        return self.knobs[name]

    def whole(self, x: np.ndarray, units: np.ndarray) -> np.ndarray:
        """What it makes of short sounds (b, n) with units (b, controls), all at once: (b, outputs, n)."""
        with torch.inference_mode():
            sounds = pad(torch.from_numpy(np.asarray(x, np.float32))[:, None], (self.net.before, self.net.after))
            return self.net(sounds, torch.from_numpy(np.asarray(units)).float()).numpy()

    def _knobs(self, where: str) -> list[Knob]:
        if "console" in self.about:
            return self._knobs_of_console(self.about["console"], where)
        if "device" in self.about:
            return self._knobs_of_device(self.about["device"], where)
        raise ParameterError(f"{where}: about says neither console nor device; {_GIVE}")

    def _knobs_of_console(self, about: Any, where: str) -> list[Knob]:
        if not isinstance(about, dict) or about.get("preset") != PRESET or not isinstance(about.get("shuffle"), bool):
            raise ParameterError(f"{where}: about.console is not of the preset {PRESET}; {_GIVE}")
        only = about.get("only")
        if only is not None and (not isinstance(only, str) or only not in PROCESSORS):
            raise ParameterError(f"{where}: about.console.only is {shown(only)}; {_GIVE}")
        channel = Channel(self.spec.rate, about["shuffle"])
        if len(channel.labels) != self.spec.controls:
            raise ParameterError(f"{where}: about.network.controls is {self.spec.controls}; {_GIVE}")
        knobs, column = [], 0
        for slot in channel.strip.slots:
            for control in slot.varied:
                name, effect = f"{slot.effect}.{control.name}", EFFECTS[slot.effect]
                if control.kind == "number":
                    low, high = slot.span(control.name, self.spec.rate)
                    rest = INERT[slot.effect](control.name)
                    default = min(max(control.default if rest is None else rest, low), high)
                    own = Control(name, control.help, default, low, high, log=control.log)
                    width = 1
                else:
                    options = slot.choices[control.name]
                    own = Control(name, effect[control.name].help, options[0], kind="choice", choices=options)
                    width = len(options)
                knob = Knob(own, column, width)
                knob.write(self.idle, own.default, name)
                if only is None or PROCESSORS[only] == slot.effect:
                    knobs.append(knob)
                column += width
        if about["shuffle"]:
            names = {effect: name for name, effect in PROCESSORS.items()}
            effects = [names[slot.effect] for slot in channel.strip.shuffled]
            orders = tuple(" ".join(effects[k] for k in order) for order in channel.strip.orders)
            own = Control(ORDER, "In which order the processors stand.", orders[0], kind="choice", choices=orders)
            knobs.append(Knob(own, column, len(orders)))
        return knobs

    def _knobs_of_device(self, about: Any, where: str) -> list[Knob]:
        controls = about.get("controls") if isinstance(about, dict) else None
        if not isinstance(controls, list) or len(controls) > MOST_CONTROLS:
            raise ParameterError(f"{where}: about.device.controls is no list; {_GIVE}")
        knobs, column = [], 0
        for i, found in enumerate(controls):
            at = f"{where}: about.device.controls[{i}]"
            control = _control_of(found, at)
            width = len(control.choices) if control.kind == "choice" else 1
            knobs.append(Knob(control, column, width))
            column += width
        if max(column, 1) != self.spec.controls or len({knob.name for knob in knobs}) != len(knobs):
            raise ParameterError(f"{where}: about.device.controls are not those of the network; {_GIVE}")
        return knobs


def _control_of(found: Any, where: str) -> Control:
    """A device's control from what a file holds: a name, and low, high and default, or options."""
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ParameterError(f"{where} has no name; {_GIVE}")
    if "options" in found:
        options = found["options"]
        if (
            not isinstance(options, list)
            or not 2 <= len(options) <= MOST_CONTROLS
            or not all(isinstance(one, str) and one.isprintable() for one in options)
        ):
            raise ParameterError(f"{where}.options does not hold words; {_GIVE}")
        return Control(name, "A switch of the device.", options[0], kind="choice", choices=tuple(options))
    numbers = [found.get(key) for key in ("low", "high", "default")]
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in numbers):
        raise ParameterError(f"{where} has no low, high and default; {_GIVE}")
    low, high, default = map(float, numbers)
    if not (-1e9 <= low <= default <= high <= 1e9 and low < high):
        raise ParameterError(f"{where}: low, default and high are no range; {_GIVE}")
    return Control(name, "A control of the device.", default, low, high)


def _flat(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    if not isinstance(settings, Mapping):
        raise ParameterError(f"{where} is {shown(settings)}; give a mapping of controls, as in compressor.ratio: 4")
    for name, value in settings.items():
        if not isinstance(name, str):
            raise ParameterError(f"{where}: {shown(name)} is no name; give a control's name")
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return flat
