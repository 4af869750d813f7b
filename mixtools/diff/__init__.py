"""The differentiable twins: the effects and the console of `dsp`, as torch functions that gradients flow through."""

from mixtools.diff.compressor import compressor
from mixtools.diff.convolution import convolution
from mixtools.diff.delay import delay
from mixtools.diff.gain import gain
from mixtools.diff.graphic_eq import graphic_eq
from mixtools.diff.limiter import limiter
from mixtools.diff.pan import pan
from mixtools.diff.parametric_eq import parametric_eq
from mixtools.diff.reverb import reverb
from mixtools.diff.saturation import saturation

TWINS = {
    function.__name__: function
    for function in (gain, pan, parametric_eq, graphic_eq, compressor, limiter, convolution, reverb, delay, saturation)
}
"""Every effect that has a twin, by name: functions `(x, rate, **controls)`."""

__all__ = ["TWINS", *TWINS]
