"""Which networks can imitate a channel or a device, as plain data, and what all of them have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from torch import Tensor, nn

from mixtools.controls import shown
from mixtools.errors import ParameterError, nearest
from mixtools.nets.hyper_strip import FRAME, HyperStrip, Shape
from mixtools.nets.tcn import TCN
from mixtools.nets.wave_u_net import ConditionedWaveUNet

KINDS = {
    "strip": "Filter, gain and filter drawn by networks from the controls: ours.",
    "tcn-10": "The thesis's temporal convolutional network, one stack of ten blocks: 290k parameters, 325 ms.",
    "tcn-20": "Two stacks: 528k parameters, 650 ms.",
    "tcn-30": "Three stacks: 764k parameters, 974 ms.",
    "wave-u-net-8": "The thesis's Wave-U-Net-6-8: 23 million parameters, 217 ms.",
    "wave-u-net-16": "The thesis's Wave-U-Net-6-16: 9 million parameters, 464 ms.",
}
"""Every kind of network, and what it is."""

MOST_CONTROLS, MOST_OUTPUTS, MOST_TAPS, MOST_RESPONSES = 256, 2, 1 << 18, 64


class Emulator(Protocol):
    """A network: sounds (b, 1, n) and controls (b, controls) to sounds (b, outputs, n - before - after)."""

    before: int
    after: int

    def __call__(self, x: Tensor, controls: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Spec:
    """What a network is, as plain data.

    kind: one of `KINDS`. controls: how many there are. choices: where in them one of several stands (first column,
    number of columns). groups, long and taps are those of `hyper_strip.Shape`, for the kind `strip`; causal is for
    TCNs.
    """

    kind: str
    controls: int
    choices: tuple[tuple[int, int], ...] = ()
    outputs: int = 1
    rate: int = 44100
    causal: bool = False
    long: tuple[bool, bool] = (False, True)
    taps: int = 49152
    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ParameterError(f"kind is {shown(self.kind)}; give {nearest(str(self.kind), KINDS)}")
        ranges = {
            "controls": (int(self.kind == "strip"), MOST_CONTROLS),
            "outputs": (1, MOST_OUTPUTS),
            "rate": (8000, 192_000),
            "taps": (FRAME, MOST_TAPS),
        }
        for name, (low, high) in ranges.items():
            if not _is_whole(getattr(self, name)) or not low <= getattr(self, name) <= high:
                raise ParameterError(f"{name} is {shown(getattr(self, name))}; give a whole number, {low} to {high}")
        if self.taps % FRAME:
            raise ParameterError(f"taps is {self.taps}; give a multiple of {FRAME}")
        if not isinstance(self.causal, bool) or (self.causal and not self.kind.startswith("tcn")):
            raise ParameterError(f"causal is {shown(self.causal)}; give false, or true with a TCN")
        if len(self.long) != 2 or not all(isinstance(one, bool) for one in self.long):
            raise ParameterError("long is not two truth values; give false or true for each of the two filters")
        columns = [column for group in self.groups for column in group]
        if not all(self.groups) or not all(_is_whole(one) and 0 <= one < self.controls for one in columns):
            raise ParameterError("groups does not hold columns of the controls; give lists of them")
        if len(set(columns)) < len(columns):
            raise ParameterError("groups holds a column twice; give each at most once")
        responses = 1
        for first, count in self.choices:
            if not (_is_whole(first) and _is_whole(count) and first >= 0 and 2 <= count <= self.controls - first):
                raise ParameterError(f"choices holds {shown(first)}, {shown(count)}; give columns of the controls")
            responses *= count
        if responses > MOST_RESPONSES:
            raise ParameterError(f"choices has {responses} combinations; give at most {MOST_RESPONSES}")

    def plain(self) -> dict[str, Any]:
        return {name: list(map(_listed, value)) if isinstance(value, tuple) else value for name, value in self._items()}

    def _items(self) -> list[tuple[str, Any]]:
        return list(asdict(self).items())

    @classmethod
    def of(cls, found: Any, where: str) -> Spec:
        """A spec from what a file holds."""
        names = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or set(found) != set(names):
            raise ParameterError(f"{where} does not hold {', '.join(names)}; give a model of a channel or a device")
        give = "give a model of a channel or a device"
        long, choices, groups = found["long"], found["choices"], found["groups"]
        if not all(isinstance(one, list) and len(one) <= MOST_CONTROLS for one in (long, choices, groups)):
            raise ParameterError(f"{where}.long, choices or groups is no list; {give}")
        if not all(isinstance(one, list) and len(one) == 2 for one in choices):
            raise ParameterError(f"{where}.choices does not hold pairs; {give}")
        if not all(isinstance(one, list) and len(one) <= MOST_CONTROLS for one in groups):
            raise ParameterError(f"{where}.groups does not hold lists; {give}")
        try:
            nested = {"choices": tuple(map(tuple, choices)), "groups": tuple(map(tuple, groups))}
            return cls(**{**found, **nested, "long": tuple(long)})
        except ParameterError as error:
            raise ParameterError(f"{where}.{error}") from None

    def network(self) -> nn.Module:
        """The network without weights that mean anything, an `Emulator`."""
        if self.kind.startswith("tcn"):
            return TCN(self.controls, int(self.kind[4:]) // 10, self.outputs, self.causal)
        if self.kind == "strip":
            shape = Shape(self.controls, self.choices, self.groups, self.outputs, self.taps, self.long)
            return HyperStrip(shape, self.rate)
        channels, kernel = {"wave-u-net-8": (32, 8), "wave-u-net-16": (16, 16)}[self.kind]
        return ConditionedWaveUNet(self.controls, self.outputs, channels, kernel)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
