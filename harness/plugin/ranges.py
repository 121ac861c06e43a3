"""What a search may vary: ranges and choices, as plugins declare and benchmark files write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 2**53
"""Numbers beyond it, either way, are none that a search can tell apart."""

MOST_STEPS = 10**9
"""From one end of a range to the other."""


@dataclass(frozen=True)
class Range:
    """Numbers from a lowest to a highest one; whole numbers where all that is given is whole.

    Attributes:
        low: the lowest.
        high: the highest.
        log: whether what counts is the ratio of two numbers, not their difference.
        step: from one number to the next; none: any number in between.

    Raises:
        ValueError: there is no such range.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        numbers = [self.low, self.high, *([] if self.step is None else [self.step])]
        if not all(map(_is_number, numbers)) or not isinstance(self.log, bool):
            raise ValueError(
                f"{self}: low, high and step are finite numbers up to 2^53, log is true or false"
            )
        if self.low > self.high:
            raise ValueError(f"{self}: low is above high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(f"{self}: log needs low > 0 and takes no step")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"{self}: step must be above 0")
        if self.step is not None and (self.high - self.low) / self.step > MOST_STEPS:
            raise ValueError(f"{self}: there are more than {MOST_STEPS:,} steps from low to high")


def _is_number(value: object) -> bool:
    """Whether it is one that a search may choose; true and false, infinity and NaN are not."""
    # NaN is not below anything; whole numbers of any length are compared.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values, in no order.

    Attributes:
        values: finite numbers up to 2^53, text, true or false.

    Raises:
        ValueError: there is none, or one is something else.
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if not values or not all(isinstance(v, bool | str) or _is_number(v) for v in values):
            raise ValueError("a choice is among finite numbers up to 2^53, text, true or false")
        object.__setattr__(self, "values", values)


Parameter = Range | Choice
"""What a search may choose a value from."""


def read_parameter(written: Any) -> Parameter | None:
    """Reads what a benchmark file says of a parameter.

    Args:
        written: `{ low = …, high = …, log = true, step = … }`, a list of choices, or one value.

    Returns:
        None for one value, which is not searched for.

    Raises:
        ValueError: it is no range and no choice, though written like one.
    """
    if isinstance(written, Mapping):
        try:
            return Range(**written)
        except TypeError as problem:  # a key that is missing, or that there is not
            raise ValueError(str(problem)) from None
    if isinstance(written, list | tuple):
        return Choice(*written)
    return None


@dataclass(frozen=True)
class SearchSpace:
    """What a search may vary among the settings of a backbone, head or transfer strategy.

    Attributes:
        parameters: by name.
        settle: one value per parameter → the settings they stand for. By default a parameter is
            named like the setting it gives; a head may turn `layers` and `width` into `hidden`.
    """

    parameters: Mapping[str, Range | Choice]
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict

    @classmethod
    def of(cls, declared: Space | None) -> SearchSpace:
        """Returns what a spec declares as one type; an empty space where it declares none."""
        return declared if isinstance(declared, SearchSpace) else cls(declared or {})


Space = SearchSpace | Mapping[str, Range | Choice]
"""What a spec declares: parameters named like the settings they give, or a `SearchSpace`."""
