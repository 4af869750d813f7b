"""Weights as files: read from what may be anything, and written as safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixtools.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_BYTES = 4 << 30
"""Of a file, and of all tensors that come from it."""

_GIVE = "give a safetensors file or a PyTorch checkpoint of tensors by name"
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


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file with these tensors; what shares memory is written each for itself."""
    from safetensors.torch import save

    return save({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()})


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"


def _start_of(path: str | Path) -> bytes:
    try:
        size = Path(path).stat().st_size
        if Path(path).is_dir():
            raise ParameterError(f"{path} is a folder; {_GIVE}")
        if not Path(path).is_file():
            raise ParameterError(f"{path} is no regular file; {_GIVE}")
        if size > LARGEST_BYTES:
            raise ParameterError(f"{path} is {size} bytes; {_GIVE} of at most {LARGEST_BYTES}")
        with open(path, "rb") as file:
            return file.read(9)
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist; {_GIVE}") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}; {_GIVE}") from None


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ParameterError(f"{path} is damaged or no safetensors file; {_GIVE}") from error


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
