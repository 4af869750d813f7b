"""Line charts as SVG: axes with their units, one line per sound, and gaps where there is no value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40
"""Room around the lines, for numbers and units."""


@dataclass(frozen=True)
class Axis:
    """From where to where, with marks and what stands at them; `log` for frequencies."""

    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    title: str
    log: bool = False

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, 0 at the low end and 1 at the high one."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(values), math.log(low), math.log(high)
        return (values - low) / (high - low)


FREQUENCIES = Axis(
    20.0,
    20000.0,
    tuple(
        (hz, f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}")
        for hz in (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)
    ),
    "Hz",
    log=True,
)

NICE = 1.0, 2.0, 3.0, 5.0, 6.0, 10.0


def even(low: float, high: float, title: str, most: int = 8) -> Axis:
    """An axis with round marks, widened to the next ones."""
    step = next(
        unit * 10.0**power for power in range(-3, 7) for unit in NICE if (high - low) / (unit * 10.0**power) <= most
    )
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    marks = tuple((k * step, f"{k * step:.6g}") for k in range(first, last + 1))
    return Axis(first * step, last * step, marks, title)


def minutes(seconds: float) -> Axis:
    """Time from the beginning, in minutes and seconds."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    step = next((each for each in steps if seconds / each <= 10), steps[-1])
    marks = tuple((float(at), f"{at // 60}:{at % 60:02}") for at in range(0, math.floor(seconds) + 1, step))
    return Axis(0.0, max(seconds, 0.1), marks, "min:s")


@dataclass
class Chart:
    """Lines in a frame; `kind` names it for the page's own script and style."""

    kind: str
    x: Axis
    y: Axis
    width: int = 860
    height: int = 260
    lines: list[str] = field(default_factory=list)

    def _points(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across, up = self.x.share(np.asarray(x, np.float64)), self.y.share(np.asarray(y, np.float64))
        return (
            LEFT + across * (self.width - LEFT - RIGHT),
            self.height - BOTTOM - np.clip(up, -0.5, 1.5) * (self.height - TOP - BOTTOM),
        )

    def draw(self, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, style: str) -> None:
        """A line; not where a value is not finite."""
        y = np.asarray(y, np.float64)
        with np.errstate(invalid="ignore"):
            across, up = self._points(np.asarray(x), np.where(np.isfinite(y), y, np.nan))
        path, pen = [], "M"
        for one, other in zip(across, up, strict=True):
            if math.isfinite(other):
                path.append(f"{pen}{one:.1f} {other:.1f}")
                pen = "L"
            else:
                pen = "M"
        self.lines.append(f'<path class="{style}" d="{"".join(path)}"/>')

    def svg(self, label: str) -> str:
        """`label` is for those who cannot see it."""
        right, foot = self.width - RIGHT, self.height - BOTTOM
        parts = []
        for value, text in self.x.marks:
            at = float(self._points(np.array([value]), np.array([self.y.low]))[0][0])
            parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{foot}"/>')
            parts.append(f'<text class="mark" x="{at:.1f}" y="{foot + 15}" text-anchor="middle">{escape(text)}</text>')
        for value, text in self.y.marks:
            at = float(self._points(np.array([self.x.low]), np.array([value]))[1][0])
            parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
            parts.append(f'<text class="mark" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        middle = TOP + 0.5 * (foot - TOP)
        parts.append(f'<text class="unit" x="{right}" y="{foot + 32}" text-anchor="end">{escape(self.x.title)}</text>')
        parts.append(
            f'<text class="unit" transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.title)}</text>"
        )
        clip = f"inside-{self.kind}"
        frame = f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{foot - TOP}"/>'
        return (
            f'<svg class="chart {self.kind}" viewBox="0 0 {self.width} {self.height}" role="img"'
            f' aria-label="{escape(label)}" data-left="{LEFT}" data-right="{right}" data-low="{self.x.low:g}"'
            f' data-high="{self.x.high:.6g}"><clipPath id="{clip}">{frame}</clipPath>{"".join(parts)}'
            f'<g clip-path="url(#{clip})">{"".join(self.lines)}</g></svg>'
        )
