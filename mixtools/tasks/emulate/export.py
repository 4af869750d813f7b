"""Models for other programs: ONNX and TorchScript, with what their controls mean."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mixtools.errors import ParameterError
from mixtools.nets.portable import BLOCK, portable, scanned_follow, scripted_follow
from mixtools.tasks.emulate.model import Model

FORMATS = {".onnx": "ONNX", ".pt": "TorchScript"}
"""By how a file's name ends."""

OPSET = 20
KEY = "mixtools"
"""Under which the meaning of the controls stands in a file, as JSON."""


def packed(model: Model, suffix: str) -> bytes:
    """A file that takes `audio` (1, 1, n) at the model's rate and `controls` (1, controls), and gives (1, outputs, n).

    Controls are units from 0 to 1; the file says where each stands, its range, and whether it is logarithmic.
    """
    net = copy.deepcopy(model.net).requires_grad_(False)
    example = torch.zeros(1, 1, BLOCK + 1), torch.from_numpy(model.units()).float()[None]
    with torch.no_grad(), _silence():
        return (_onnx if suffix == ".onnx" else _torchscript)(net, example, json.dumps(meaning(model)))


def meaning(model: Model) -> dict[str, Any]:
    """What somebody has to know who runs a model without mixtools."""
    controls = []
    for knob in model.knobs.values():
        facts: dict[str, Any] = {"name": knob.name, "column": knob.column}
        if knob.control.kind == "choice":
            facts["choices"] = list(knob.control.choices)
        else:
            facts |= {"low": knob.control.low, "high": knob.control.high, "logarithmic": knob.control.log}
        controls.append(facts | {"default": knob.control.default})
    return {"sample_rate": model.rate, "outputs": model.spec.outputs, "idle": model.idle.tolist(), "controls": controls}


def _torchscript(net: torch.nn.Module, example: tuple[Tensor, Tensor], about: str) -> bytes:
    traced = torch.jit.trace(portable(net, torch.jit.script(scripted_follow)), example, check_trace=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={f"{KEY}.json": about})
    return buffer.getvalue()


def _onnx(net: torch.nn.Module, example: tuple[Tensor, Tensor], about: str) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ParameterError(f"ONNX needs the package {error.name}; install mixtools[export], or export .pt") from None
    length = torch.export.Dim("samples", min=2)
    program = torch.onnx.export(
        portable(net, scanned_follow),
        example,
        dynamo=True,
        input_names=["audio", "controls"],
        output_names=["output"],
        dynamic_shapes={"audio": {2: length}, "controls": None},
        opset_version=OPSET,
        verbose=False,
    )
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, about
    return proto.SerializeToString()


@contextmanager
def _silence() -> Iterator[None]:
    """Exporters say much about themselves."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(before)
