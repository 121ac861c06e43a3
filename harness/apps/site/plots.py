"""Geometry of the plots: from numbers to ticks and paths; the templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats

WIDTH, HEIGHT = 440, 320
SQUARE_HEIGHT = 430
STRIP_HEIGHT = 120
LEFT, RIGHT, TOP, BOTTOM = 74, 12, 12, 48
"""Margins of the frame, in units of the drawing."""

LOG_FROM_RATIO = 30.0
"""A curve whose largest value is this many times its smallest has a logarithmic axis."""

LOG_STEPS = (
    (2.5, (1.0,)),
    (0.7, (1.0, 2.0, 5.0)),
    (0.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)),
)
"""Where ticks stand in a decade, by the decades that a logarithmic axis exceeds."""

TICKS = 5
POINTS = 100
"""Points to which a curve is thinned: what 440 units of width can show."""

MARGIN = 0.04
"""Share of the axis left free on either side."""


@dataclass(frozen=True)
class Axis:
    """Values to positions.

    Attributes:
        title: what it shows, with the unit.
        low, high: its ends, as values.
        start, end: its ends, as positions.
        log: whether it is logarithmic.
        whole: whether its values are whole numbers.
    """

    title: str
    low: float
    high: float
    start: float
    end: float
    log: bool
    whole: bool = False

    def place(self, values: Floats) -> Floats:
        """Returns positions; values beyond the ends lie on them."""
        x = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        low, high = self.low, self.high
        if self.log:
            x, low, high = np.log10(x), math.log10(low), math.log10(high)
        return np.asarray(self.start + (x - low) / (high - low) * (self.end - self.start))

    @cached_property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Positions and labels."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        if self.log:
            decades = math.log10(self.high / self.low)
            steps = next(steps for least, steps in LOG_STEPS if decades > least)
            found = LogLocator(subs=steps, numticks=20).tick_values(self.low, self.high)
        else:
            locator = MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10], integer=self.whole)
            found = locator.tick_values(self.low, self.high)
        reach = 1e-9 * (self.high - self.low)
        values = [float(value) for value in found if self.low - reach <= value <= self.high + reach]
        return tuple(
            (round(float(self.place(np.array(value))), 1), f"{value:.6g}") for value in values
        )


@dataclass(frozen=True)
class Mark:
    """Something drawn: an SVG path and what it is.

    Attributes:
        style: a class of the style sheet.
        path: SVG path data.
        label: for the legend; empty if it needs none.
    """

    style: str
    path: str
    label: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        name: unique on its page.
        title: what it shows, for those who do not see it too.
        x, y: its axes.
        marks: in drawing order.
        note: what the reader must know, below.
        height: of the drawing; `WIDTH` wide.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    note: str = ""
    height: int = HEIGHT

    @property
    def legend(self) -> tuple[Mark, ...]:
        """Marks that need an explanation."""
        return tuple(mark for mark in self.marks if mark.label)


def make_axis(
    title: str, values: Floats, start: float, end: float, *, log: bool | None = None
) -> Axis:
    """Makes an axis that holds all finite values.

    Args:
        title: what it shows.
        values: those to hold.
        start: position of the low end.
        end: position of the high end.
        log: whether it is logarithmic; decided by the values unless given.
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if log is None:
        log = bool(
            len(finite) and finite.min() > 0 and finite.max() > LOG_FROM_RATIO * finite.min()
        )
    if log:
        finite = finite[finite > 0]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 2.0)
    if log:
        reach = max(math.log10(high / low) * MARGIN, 0.02)
        return Axis(title, low / 10**reach, high * 10**reach, start, end, True)
    reach = (high - low) * MARGIN or abs(high) * MARGIN or 1.0
    return Axis(title, low - reach, high + reach, start, end, False)


def frame_x(title: str, values: Floats, *, log: bool | None = None) -> Axis:
    """Makes the horizontal axis of a plot."""
    return make_axis(title, values, LEFT, WIDTH - RIGHT, log=log)


def frame_y(title: str, values: Floats, height: int = HEIGHT, *, log: bool | None = None) -> Axis:
    """Makes the vertical axis of a plot."""
    return make_axis(title, values, height - BOTTOM, TOP, log=log)


def dots(x: Floats, y: Floats) -> str:
    """Returns a path of lines of no length: the style's line caps make them dots or squares."""
    return "".join([f"M{a} {b}h0" for a, b in zip(_texts(x), _texts(y), strict=True)])


def line(x: Floats, y: Floats) -> str:
    """Returns a path through points, interrupted where one is not finite."""
    path, joined = [], False
    for a, b, here in zip(_texts(x), _texts(y), np.isfinite(y).tolist(), strict=True):
        if here:
            path.append(f"{'L' if joined else 'M'}{a} {b}")
        joined = here
    return "".join(path)


def thin(length: int) -> Floats:
    """Returns the positions, of a curve of that length, that are drawn: every k-th and the last."""
    step = max(1, math.ceil(length / POINTS))
    return np.unique(np.append(np.arange(0, length, step), length - 1))


def draw_strip(name: str, title: str, unit: str, values: Sequence[float], low: float, high: float,
               mean: float) -> Plot:  # fmt: skip
    """Draws the runs of a cell on one axis, with their mean and its interval.

    Args:
        name: of the plot.
        title: of the metric.
        unit: of the metric.
        values: one per run.
        low: end of the interval of the mean; NaN where there is none.
        high: likewise.
        mean: over the runs.
    """
    x = frame_x(title + (f", {unit}" if unit else ""), np.array([*values, low, high]), log=False)
    y = Axis("", 0.0, 3.0, STRIP_HEIGHT - BOTTOM, TOP, False)
    up, middle = (float(y.place(np.array(v))) for v in (2.2, 1.0))
    marks = [Mark("run", dots(x.place(np.array(values)), np.full(len(values), up)), "one run")]
    if math.isfinite(low) and math.isfinite(high):
        a, b = (_short(float(x.place(np.array(v)))) for v in (low, high))
        ends = f"M{a} {middle - 5}V{middle + 5}M{b} {middle - 5}V{middle + 5}"
        marks.append(Mark("interval", f"M{a} {middle}H{b}{ends}", "95 % interval of the mean"))
    if math.isfinite(mean):
        at = _short(float(x.place(np.array(mean))))
        marks.append(Mark("mean", f"M{at} {middle}h0", "mean"))
    return Plot(name, f"{title}: every run, the mean and its interval", x, y, tuple(marks),
                height=STRIP_HEIGHT)  # fmt: skip


def _texts(positions: Floats) -> list[str]:
    """Positions with one decimal at most: those of a drawing, looked up, and any other."""
    tenths = 10 * positions
    nearest = np.rint(tenths)
    # what lies in the middle between two is left to `_short`, which sees all digits
    plain = (nearest >= 0) & (nearest < len(TENTHS)) & (np.abs(tenths - nearest) < NEAR_MIDDLE)
    found = np.where(plain, nearest, -1).astype(np.int64).tolist()
    return [
        TENTHS[tenth] if tenth >= 0 else _short(position)
        for tenth, position in zip(found, positions.tolist(), strict=True)
    ]


def _short(value: float) -> str:
    """A position with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


TENTHS = tuple(_short(tenth / 10) for tenth in range(10 * max(WIDTH, SQUARE_HEIGHT)))
NEAR_MIDDLE = 0.4999999
