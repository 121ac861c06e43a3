"""Protocols, how rows are split, scaled, selected on and scored: what a plugin hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.plugin.function import Function
from harness.plugin.settings import Settings

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices


@dataclass(frozen=True, eq=False)
class Split:
    """Row positions of one run.

    Attributes:
        train: rows to fit.
        validation: rows that choose the epoch.
        test: rows to score.
    """

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class Scaler:
    """Target ↔ what the model is trained on: y = (log10(κ + offset) − mean) / std.

    Attributes:
        offset: 1 in the published protocol, 0 in the strict one; W/(m·K).
        mean: mean of log10(κ + offset) over the rows it was fitted on.
        std: population standard deviation (ddof 0) of the same.
    """

    offset: float
    mean: float
    std: float

    @classmethod
    def fit(cls, kappa: Floats, offset: float) -> Scaler:
        """Fits mean and std; a std of zero (all targets equal) becomes 1."""
        import numpy as np

        y = np.log10(kappa + offset)
        return cls(offset, float(y.mean()), float(y.std()) or 1.0)

    def encode(self, kappa: Floats) -> Floats:
        """κ in W/(m·K) → scaled target."""
        import numpy as np

        return np.asarray((np.log10(kappa + self.offset) - self.mean) / self.std)

    def decode(self, scaled: Floats) -> Floats:
        """Scaled target → κ in W/(m·K)."""
        import numpy as np

        with np.errstate(over="ignore"):
            return np.asarray(10.0 ** (np.asarray(scaled) * self.std + self.mean) - self.offset)


class ProtocolRules(ABC):
    """How rows are split, scaled, selected on and scored."""

    leak_free: bool
    """Promises that no test row has another role. The core then keeps every group (reduced
    formula) on one side, lets source stages leave out groups of test sets, and stops a run that
    would break the promise."""

    selection: str
    """Name of the metric on validation rows that chooses the epoch."""

    offset: float
    """Offset of the scaler's logarithm."""

    scaler_stage: Literal["first", "last"]
    """Which stage of a chain gives the scaler that decodes predictions."""

    view: str = ""
    """Short name of a variant (as `as-published`), shown beside the protocol's name."""

    @abstractmethod
    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        """Splits the rows of one dataset (never a composite one; those follow their parts).

        Args:
            formulas: reduced formula of each row, in file order.
            run: 1, 2, …
            seed: derived from the benchmark's root seed, the dataset's name and the run.
        """

    @abstractmethod
    def scaler_rows(self, split: Split) -> Indices:
        """Row positions on which the scaler is fitted."""

    def labels(self, kappa: Floats, own: Scaler, decoder: Scaler) -> Floats:
        """The labels (W/(m·K)) that training and scoring see; the true ones unless overridden.

        Args:
            kappa: true targets of rows of one (part of a) dataset.
            own: that part's own scaler.
            decoder: the scaler that decodes predictions.
        """
        return kappa


@dataclass(frozen=True)
class ProtocolSpec:
    """A protocol by name.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        make: settings → rules.
    """

    name: str
    summary: str
    settings: type[Settings] = Settings
    make: Function[Callable[[Any], ProtocolRules]] = Function()
