"""The differentiable twins: the effects and the console of `dsp`, as torch functions that gradients flow through."""

from mixtools.diff.gain import gain

TWINS = {function.__name__: function for function in (gain,)}
"""Every effect that has a twin, by name: functions `(x, rate, **controls)`."""

__all__ = ["TWINS", *TWINS]
