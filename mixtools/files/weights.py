"""Weights as files: read from what may be anything, and written as safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BYTES = 4 << 30
"""Of a file, and of all tensors that come from it."""

LARGEST_HEADER_BYTES = 1 << 20
"""Of a model, whose tensors are counted in hundreds."""

ABOUT = "mixtools"
"""Where a model says in its header what it is, as JSON."""

_GIVE = "give a safetensors file or a PyTorch checkpoint of tensors by name"
_GIVE_MODEL = "give a model that `mixtools train` wrote"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name, from a safetensors file or a PyTorch checkpoint; code in a file is never run."""
    start = _start_of(path)
    if _is_safetensors(start):
        state = _read_safetensors(path)
    elif start.startswith(_ZIP):
        _check_archive(path)
        state = _read_checkpoint(path)
    elif start.startswith(_PICKLE):
        state = _read_checkpoint(path)
    else:
        raise ParameterError(f"{path} holds no weights; {_GIVE}")
    return _checked(state, path)


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name, from a safetensors file and from no other kind."""
    if not _is_safetensors(_start_of(path)):
        raise ParameterError(f"{path} is damaged or no safetensors file; give one")
    return _checked(_read_safetensors(path), path)


def read_model(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and what they are about, from a file whose content `packed` made of both."""
    if not _is_safetensors(_start_of(path, _GIVE_MODEL)):
        raise ParameterError(f"{path} is no model; {_GIVE_MODEL}")
    about = _about(path)
    return _checked(_read_safetensors(path, _GIVE_MODEL), path), about


def says_what_it_is(path: str | Path) -> bool:
    """Whether a file of weights is a model of `packed`, and no other weights."""
    if not _is_safetensors(_start_of(path)):
        return False
    try:
        _about(path)
    except ParameterError:
        return False
    return True


def packed(tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> bytes:
    """The content of a safetensors file with these tensors, and with what they are about, plain data, in its header.

    What shares memory is written each for itself.
    """
    from safetensors.torch import save

    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return save(own, None if about is None else {ABOUT: json.dumps(about, allow_nan=False)})


def _about(path: str | Path) -> dict[str, Any]:
    """What the header of a safetensors file says the model is."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST_HEADER_BYTES:
                raise ParameterError(
                    f"{path}: its header is {size} bytes; {_GIVE_MODEL}, with at most {LARGEST_HEADER_BYTES}"
                )
            header = json.loads(file.read(size))
        given = header.get("__metadata__")
        text = given.get(ABOUT) if isinstance(given, dict) else None
        about = None if text is None else json.loads(text)
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}; {_GIVE_MODEL}") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ParameterError(f"{path} is damaged, its header is no JSON; {_GIVE_MODEL}") from None
    if not isinstance(about, dict):
        raise ParameterError(f"{path} holds weights, and does not say what of; {_GIVE_MODEL}")
    return about


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"


def _start_of(path: str | Path, give: str = _GIVE) -> bytes:
    try:
        size = Path(path).stat().st_size
        if Path(path).is_dir():
            raise ParameterError(f"{path} is a folder; {give}")
        if not Path(path).is_file():
            raise ParameterError(f"{path} is no regular file; {give}")
        if size > LARGEST_BYTES:
            raise ParameterError(f"{path} is {size} bytes; {give} of at most {LARGEST_BYTES}")
        with open(path, "rb") as file:
            return file.read(9)
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist; {give}") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}; {give}") from None


def _read_safetensors(path: str | Path, give: str = _GIVE) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ParameterError(f"{path} is damaged or no safetensors file; {give}") from error


def _read_checkpoint(path: str | Path) -> Any:
    import warnings

    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # about oddities of a file that is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged or hostile fails anywhere in the reader, in any way
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise ParameterError(
                f"{path} asks for {code[1]} to be run, which was not done; {_GIVE} and nothing else"
            ) from None
        raise ParameterError(f"{path} is damaged or no PyTorch checkpoint; {_GIVE}") from error


def _check_archive(path: str | Path) -> None:
    """Refuse what would unpack to more than it may: PyTorch itself never compresses."""
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        raise ParameterError(f"{path} is damaged or no PyTorch checkpoint; {_GIVE}") from None
    if unpacked > LARGEST_BYTES:
        raise ParameterError(f"{path} unpacks to {unpacked} bytes; {_GIVE} of at most {LARGEST_BYTES}")


def _checked(state: Any, path: str | Path) -> dict[str, Tensor]:
    import torch

    if not isinstance(state, dict) or not state:
        found = "nothing" if state == {} else f"a {type(state).__name__}"
        raise ParameterError(f"{path} holds {found}; {_GIVE}")
    size = 0
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise ParameterError(f"{path}: {name!r} is no plain tensor with a name; {_GIVE}")
        size += tensor.numel() * tensor.element_size()  # a view can be larger than what it views
    if size > LARGEST_BYTES:
        raise ParameterError(f"{path}: its tensors take {size} bytes; {_GIVE} of at most {LARGEST_BYTES}")
    return dict(state)
