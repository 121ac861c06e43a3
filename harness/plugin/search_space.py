"""What a search may vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class SearchSpace:
    """What a search may vary among the settings of a backbone, head or transfer strategy.

    Attributes:
        distributions: returns Optuna distributions by parameter name; imports Optuna inside.
        settle: one value per parameter → the settings they stand for. By default a parameter is
            named like the setting it gives; a head may turn `layers` and `width` into `hidden`.
    """

    distributions: Callable[[], Mapping[str, BaseDistribution]]
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
