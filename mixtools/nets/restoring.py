"""What a checkpoint must agree with before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixtools.controls import shown
from mixtools.errors import ParameterError

OPTIMISER = "optimiser/"
"""How the names of tensors begin that are no weights."""


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put a checkpoint's weights into a model; raises a `ParameterError` that names the first that does not fit."""
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(OPTIMISER)}
    refuse_misfit(model.state_dict(), weights, where)
    model.load_state_dict(weights)


def refuse_misfit(
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    where: str,
    give: str = "give a checkpoint of this model",
) -> None:
    """Say which tensor is not as wanted: missing, of another shape or type, not finite, or one too many."""
    for name, like in wanted.items():
        if name not in found:
            raise ParameterError(f"{where}: {name} is missing; {give}")
        if _kind(found[name]) != _kind(like):
            raise ParameterError(f"{where}: {name} is {_kind(found[name])}; {give}, where it is {_kind(like)}")
        if not finite(found[name]):
            raise ParameterError(f"{where}: {name} holds values that are no finite numbers; {give}")
    for name in found:
        if name not in wanted:
            raise ParameterError(f"{where}: {name} is not part of this model; {give}")


def _kind(x: Tensor) -> str:
    return f"{' x '.join(map(str, x.shape)) or 'a single'} {str(x.dtype).removeprefix('torch.')}"


def finite(x: Tensor) -> bool:
    """Whether all values are numbers."""
    return not x.is_floating_point() or bool(torch.isfinite(x).all())


def refuse_difference(found: Any, wanted: Any, path: str, where: str) -> None:
    """Say where plain data first differs from what is wanted."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in {**wanted, **found}:
            refuse_difference(found.get(name), wanted.get(name), f"{path}.{name}", where)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, pair in enumerate(zip(found, wanted, strict=True)):
            refuse_difference(*pair, f"{path}[{i}]", where)
    elif type(found) is not type(wanted) or found != wanted:
        raise ParameterError(
            f"{where}: {path} is {shown(found)} there and {shown(wanted)} here; give what it was trained with, "
            "or another folder"
        )
