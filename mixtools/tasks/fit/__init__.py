"""Remaking a mix from its stems: the console settings that made it, and how well they do."""

from mixtools.tasks.fit.fitting import LOSSES, METHODS, MODELS, Fitted, Options, fit

__all__ = ["LOSSES", "METHODS", "MODELS", "Fitted", "Options", "fit"]
