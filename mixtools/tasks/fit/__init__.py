"""Remaking a mix from its stems: the console settings that made it, and how well they do."""

from importlib import import_module
from typing import Any

from mixtools.tasks.fit.options import LOSSES, METHODS, MODELS, WITH_REVERB, Options

__all__ = ["LOSSES", "METHODS", "MODELS", "WITH_REVERB", "Fitted", "Options", "fit"]


def __getattr__(name: str) -> Any:
    if name not in ("Fitted", "fit"):
        raise AttributeError(f"module 'mixtools.tasks.fit' has no attribute {name!r}")
    return getattr(import_module("mixtools.tasks.fit.fitting"), name)
