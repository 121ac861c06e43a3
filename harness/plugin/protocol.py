"""Protocols, how rows are split, scaled, selected on and scored: what a plugin hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from harness.plugin.function import Function
from harness.plugin.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.crystal import Crystal


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
    """Target ↔ what the model is trained on: y = (log10(target + offset) − mean) / std.

    For a property on a linear scale: y = (target − mean) / std.

    Attributes:
        offset: 1 in the published protocol, 0 in the strict one, in the property's unit; none on a
            linear scale.
        mean: mean of log10(target + offset), or of the target, over the rows it was fitted on.
        std: population standard deviation (ddof 0) of the same.
    """

    offset: float | None
    mean: float
    std: float

    @classmethod
    def fit(cls, targets: Floats, offset: float | None) -> Scaler:
        """Fits mean and std; a std of zero (all targets equal) becomes 1."""
        y = cls(offset, mean=0.0, std=1.0).encode(targets)
        return cls(offset, float(y.mean()), float(y.std()) or 1.0)

    def encode(self, targets: Floats) -> Floats:
        """Targets in the property's unit → scaled targets."""
        import numpy as np

        y = targets if self.offset is None else np.log10(targets + self.offset)
        return np.asarray((y - self.mean) / self.std)

    def decode(self, scaled: Floats) -> Floats:
        """Scaled targets → targets in the property's unit."""
        import numpy as np

        y = np.asarray(scaled) * self.std + self.mean
        if self.offset is None:
            return y
        with np.errstate(over="ignore"):
            return np.asarray(10.0**y - self.offset)


Resampling = Literal["random splits", "folds", "groups"]
"""How runs share rows: every one splits anew; folds test every row once, in turn; or every run
leaves out another group."""


@dataclass(frozen=True, eq=False)
class BenchmarkRows:
    """The rows of all single datasets of a benchmark, one dataset after another.

    Attributes:
        datasets: the dataset that each row is of.
        crystals: one per row.
        targets: in the unit of the property that the benchmark is about; NaN in datasets of another
            property, which transfers start from.
        tested: whether a row's dataset is tested on.
    """

    datasets: tuple[str, ...]
    crystals: tuple[Crystal, ...]
    targets: Floats
    tested: NDArray[np.bool_]

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formula of each row."""
        return tuple(crystal.formula for crystal in self.crystals)


class ProtocolRules(ABC):
    """How rows are split, scaled, selected on and scored."""

    leak_free: bool
    """Promises that no test row has another role. The core then keeps every group (see `group`) on
    one side, lets source stages leave out groups of test sets, and stops a run that would break the
    promise."""

    selection: str | None
    """Name of the metric on validation rows that chooses the epoch; the property's own where none.
    A source stage on another property, for which it makes no sense, takes that property's own."""

    offset: float
    """Offset of the scaler's logarithm; without effect on a property with a linear scale."""

    scaler_stage: Literal["first", "last"]
    """Which stage of a chain gives the scaler that decodes predictions; of those stages that go on
    with one head, thus on one property."""

    keep_other_properties: bool = False
    """Whether source stages on another property than the target's keep rows of test groups: they
    then know the crystals, but not what is asked of them. Tables say so."""

    view: str = ""
    """Short name of a variant (as `as-published`), shown beside the protocol's name."""

    resampling: Resampling = "random splits"
    """How runs share rows, which the texts of tests between configurations name."""

    seed_by_run: bool = True
    """Whether `split` is given another seed in every run. Folds, which cut one shuffle of the rows
    in another place in every run, need the same seed in all."""

    may_test_nothing: bool = False
    """Whether a run may have no test rows in a dataset. It is not scored there (n/a); without this,
    an empty side is an error."""

    def name_runs(self, runs: int, rows: BenchmarkRows) -> Sequence[str]:
        """Checks the number of runs, and names what each of them tests; no names unless overridden.

        Args:
            runs: as the benchmark has it; run r is 1 … runs.
            rows: of all datasets of the benchmark.

        Returns:
            One name per run, or nothing.

        Raises:
            BenchmarkError: the number of runs does not fit; says which numbers do.
        """
        return ()

    def group(self, rows: BenchmarkRows, run: int) -> Sequence[str | None]:
        """Groups the rows of all datasets together; by reduced formula unless overridden.

        Under a leak-free protocol no group is on two sides: of a split, between the datasets of a
        composite one, and along a chain of stages, whose sources leave out the groups of test rows.
        Groups may differ from run to run: where a run is to leave out all rows with an element,
        these are one group in that run. If leak-free, rows of one reduced formula have one group,
        or none.

        Args:
            rows: of all datasets of the benchmark.
            run: 1, 2, …

        Returns:
            One name per row; None for a row that has no role in this run.
        """
        return rows.formulas

    @abstractmethod
    def split(self, groups: Sequence[str], run: int, seed: int) -> Split:
        """Splits the rows of one dataset (never a composite one; those follow their parts).

        Args:
            groups: of each row that has one, in file order; see `group`.
            run: 1, 2, …
            seed: derived from the benchmark's root seed, the dataset's name and the run (without
                the run where `seed_by_run` is False).

        Returns:
            Positions in `groups`.
        """

    @abstractmethod
    def scaler_rows(self, split: Split) -> Indices:
        """Row positions on which the scaler is fitted."""

    def labels(self, targets: Floats, own: Scaler, decoder: Scaler) -> Floats:
        """The labels that training and scoring see; the true ones unless overridden.

        Args:
            targets: true targets of rows of one (part of a) dataset, in the property's unit.
            own: that part's own scaler.
            decoder: the scaler that decodes predictions.
        """
        return targets


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
