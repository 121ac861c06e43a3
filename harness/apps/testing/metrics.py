"""Cases of metrics: their direction, their values, and what they leave alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.testing.cases import Cases
from harness.apps.testing.promises import broken, promise, skip
from harness.apps.testing.properties import LOG_PROPERTY
from harness.plugin.metric import MetricSpec

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats

ROWS = 200
REPEATS = 20
ERRORS_DECADES = (0.0, 0.05, 0.3, 1.0)
"""Spreads of log10 of the ratio of prediction and target, from perfect to useless."""


class MetricCases(Cases):
    """What a metric promises.

    Attributes:
        known_values: (targets, predictions, value) with both in the property's unit, worked out by
            other means; a metric that needs a log scale is given their logarithms.
        value_tolerance: relative and absolute, for `known_values`.
    """

    spec_type = MetricSpec
    known_values: Sequence[tuple[Sequence[float], Sequence[float], float]] = ()
    value_tolerance = 1e-9

    def _line(self, spec: MetricSpec) -> str:
        return spec.title

    def test_unit_and_direction_are_declared(self, spec: MetricSpec) -> None:
        """The unit is text and the direction a boolean."""
        promise(
            isinstance(spec.unit, str) and isinstance(spec.higher_is_better, bool),
            "`unit` is text and `higher_is_better` a boolean",
            f"unit = {spec.unit!r}, higher_is_better = {spec.higher_is_better!r}",
            "declare both",
        )

    def test_value_is_one_number(self, spec: MetricSpec) -> None:
        """The value for ordinary predictions is one finite number."""
        value = self._value(spec, _targets(), _predictions(0.3, 0))
        promise(
            bool(np.isfinite(value)),
            "ordinary predictions have a finite value",
            str(value),
            "see which step of the function is not finite",
        )

    def test_perfect_predictions_are_best(self, spec: MetricSpec) -> None:
        """No prediction scores better than the targets themselves."""
        best = self._value(spec, _targets(), _targets())
        for error in ERRORS_DECADES[1:]:
            for repeat in range(REPEATS):
                value = self._value(spec, _targets(), _predictions(error, repeat))
                # Rounding may put a perfect correlation a bit below 1.
                if not _at_least_as_good(best, value, spec):
                    broken(
                        "perfect predictions have the best value",
                        f"{best:g} for them, and {value:g}, which is better, for predictions off "
                        f"by {error:g} decades",
                        "turn `higher_is_better` round, or mend the function",
                    )

    def test_worse_predictions_are_worse(self, spec: MetricSpec) -> None:
        """On average, larger errors give worse values, in the declared direction."""
        means = []
        for error in ERRORS_DECADES:
            values = [self._value(spec, _targets(), _predictions(error, k)) for k in range(REPEATS)]
            means.append(float(np.mean(values)))
        ordered = all(_at_least_as_good(a, b, spec) for a, b in pairwise(means))
        differs = means[0] != means[-1]
        promise(
            ordered and differs,
            f"{'lower' if spec.higher_is_better else 'higher'} values for larger errors",
            ", ".join(
                f"{m:g} for {e:g} decades" for e, m in zip(ERRORS_DECADES, means, strict=True)
            ),
            "turn `higher_is_better` round, or mend the function",
        )

    def test_order_of_rows_does_not_matter(self, spec: MetricSpec) -> None:
        """The same rows in another order have the same value."""
        targets, predictions = _targets(), _predictions(0.3, 0)
        order = np.random.default_rng(1).permutation(ROWS)
        first = self._value(spec, targets, predictions)
        second = self._value(spec, targets[order], predictions[order])
        promise(
            bool(np.isclose(first, second, rtol=1e-9, atol=1e-12)),
            "the value does not depend on the order of rows",
            f"{first!r}, and {second!r} in another order",
            "look for code that pairs rows with their neighbours",
        )

    def test_inputs_are_left_alone(self, spec: MetricSpec) -> None:
        """The function does not change the arrays that it is given."""
        targets, predictions = _targets(), _predictions(0.3, 0)
        self._value(spec, targets, predictions)
        promise(
            np.array_equal(targets, _targets())
            and np.array_equal(predictions, _predictions(0.3, 0)),
            "targets and predictions stay as they are",
            "the function changed one of them",
            "work on copies (`np.log10(x)`, not `np.log10(x, out=x)` or `x /= y`)",
        )

    def test_few_rows_are_no_error(self, spec: MetricSpec) -> None:
        """No row, one row and two equal rows have a value, which may be NaN."""
        for rows in ([], [3.0], [3.0, 3.0]):
            targets = np.array(rows, dtype=np.float64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, on means of nothing
                try:
                    self._value(spec, targets, targets * 1.5)
                except (ArithmeticError, ValueError, IndexError) as problem:
                    broken(
                        "sets too small for the metric have the value NaN",
                        f"{len(rows)} row(s) raised {type(problem).__name__}: {problem}",
                        "return float('nan') where there is nothing to compute",
                    )

    def test_known_values(self, spec: MetricSpec) -> None:
        """The metric has the values that its author worked out by other means."""
        if not self.known_values:
            skip("no `known_values` given: list (targets, predictions, value) worked out by hand")
        for targets, predictions, expected in self.known_values:
            value = self._value(spec, np.array(targets, float), np.array(predictions, float))
            near = np.isclose(
                value,
                expected,
                rtol=self.value_tolerance,
                atol=self.value_tolerance,
                equal_nan=True,
            )
            promise(
                bool(near),
                f"{expected!r} for targets {list(targets)} and predictions {list(predictions)}",
                repr(value),
                "mend the function, or the known value",
            )

    def _value(self, spec: MetricSpec, targets: Floats, predictions: Floats) -> float:
        if spec.needs == "log":
            targets, predictions = map(LOG_PROPERTY.to_scale, (targets, predictions))
        value: Any = spec.function(targets, predictions)
        promise(
            isinstance(value, float),
            "the value is a float",
            f"a {type(value).__name__}: {value!r}",
            "return float(…)",
        )
        return float(value)


def _targets() -> Floats:
    return np.asarray(10 ** np.random.default_rng(0).normal(1.0, 0.6, ROWS))


def _predictions(error_decades: float, repeat: int) -> Floats:
    noise = np.random.default_rng(repeat + 1).normal(0.0, 1.0, ROWS)
    return np.asarray(_targets() * 10 ** (error_decades * noise))


def _at_least_as_good(a: float, b: float, spec: MetricSpec, rounding: float = 1e-12) -> bool:
    """Whether value `a` is as good as `b` or better; NaN is never."""
    return a >= b - rounding if spec.higher_is_better else a <= b + rounding
