"""The reference effects and the console that chains them, in numba: what renders."""

from mixtools.dsp.compressor import Compressor, compressor
from mixtools.dsp.convolution import Convolution, convolution
from mixtools.dsp.delay import Delay, delay
from mixtools.dsp.effect import Processor
from mixtools.dsp.gain import Gain, gain
from mixtools.dsp.graphic_eq import GraphicEq, graphic_eq
from mixtools.dsp.limiter import Limiter, limiter
from mixtools.dsp.pan import Pan, pan
from mixtools.dsp.parametric_eq import ParametricEq, parametric_eq
from mixtools.dsp.reverb import Reverb, reverb
from mixtools.dsp.saturation import Saturation, saturation

PROCESSORS: dict[str, type[Processor]] = {
    processor.effect: processor
    for processor in (
        Gain,
        Pan,
        ParametricEq,
        GraphicEq,
        Compressor,
        Convolution,
        Reverb,
        Delay,
        Saturation,
        Limiter,
    )
}
"""Every effect that can be rendered, by name."""

EFFECT_FUNCTIONS = {
    function.__name__: function
    for function in (
        gain,
        pan,
        parametric_eq,
        graphic_eq,
        compressor,
        convolution,
        reverb,
        delay,
        saturation,
        limiter,
    )
}
"""The same as pure functions `(x, rate, **controls)`."""

__all__ = ["EFFECT_FUNCTIONS", "PROCESSORS", "Processor", *EFFECT_FUNCTIONS]
