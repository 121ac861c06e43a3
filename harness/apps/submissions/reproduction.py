"""Baselines of a submission, fitted again: their heads are in closed form, so that costs little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError
from harness.planning.planner import plan_baselines
from harness.plugin.cell import BASELINE
from harness.results.store import Store
from harness.training.plan_executor import execute
from harness.training.run_context import RunContext
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.benchmark import Benchmark
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry
    from harness.results.records import PlannedCell

SAME = 1e-6
"""Relative difference between predictions of one closed form on two machines."""


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    Attributes:
        reproduced: keys of the cells whose predictions are the same.
        differences: one line each.
        unchecked: why some could not be fitted again.
    """

    reproduced: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


class _Quiet(RunContext):
    """A run that observers do not hear of: it is nobody's result."""

    def tell(self, hook: str, event: object) -> None:
        """Tells nobody."""


def reproduce_baselines(
    store: Store,
    benchmark: Benchmark,
    registry: Registry,
    locations: Locations,
    compared: Sequence[str],
) -> Reproduction:
    """Fits the baselines in closed form again, and compares their predictions with those stored.

    Args:
        store: the submission.
        benchmark: as it was run.
        registry: where names are looked up.
        locations: where data are looked for.
        compared: keys of the cells whose rows are known to be those of the data here.
    """
    plan = store.read_plan()
    cells = [cell for cell in plan.cells if cell.transfer == BASELINE and cell.key in compared]
    if not cells:
        return Reproduction()
    by_key = {cell.key: cell for cell in cells}
    with TemporaryDirectory() as folder:
        again = Store.create(Path(folder))
        try:
            planned = plan_baselines(_narrowed(benchmark, cells), registry, locations)
            scorings = tuple(own for own in planned.scorings if own.key in by_key)
            needed = {stage.key for own in scorings for stage in own.chain}
            stages = tuple(stage for stage in planned.stages if stage.key in needed)
            wanted = replace(planned, scorings=scorings, stages=stages)
            execute(_Quiet(wanted, again, registry, StopSignal()))
        except HarnessError as problem:
            return Reproduction(unchecked=(f"baselines: {str(problem).splitlines()[0]}",))
        lines = {own.key: _compare(by_key[own.key], store, again) for own in scorings}
        return Reproduction(
            tuple(key for key, line in lines.items() if line is None),
            tuple(line for line in lines.values() if line is not None),
        )


def _narrowed(benchmark: Benchmark, cells: Sequence[PlannedCell]) -> Benchmark:
    """Leaves out datasets that no cell needs: those that are not here are none of them."""
    trained, tested = ({getattr(cell, side) for cell in cells} for side in ("train_on", "test_on"))
    return benchmark.model_copy(
        update={
            "train_on": tuple(name for name in benchmark.train_on if name in trained),
            "test_on": tuple(name for name in benchmark.test_on if name in tested),
        }
    )


def _compare(cell: PlannedCell, store: Store, again: Store) -> str | None:
    """Returns the first difference between predictions, or None."""
    here, there = (one.read_predictions(cell.key) for one in (again, store))
    return next(_different(cell.title, here, there), None)


def _different(title: str, here: pd.DataFrame, there: pd.DataFrame) -> Iterator[str]:
    both = here.merge(there, on=["run", "part", "id"], suffixes=("", "_sent"))
    same = np.isclose(both["prediction"], both["prediction_sent"], rtol=SAME, equal_nan=True)
    for _, row in both[~same].iterrows():
        yield (
            f"{title}, run {row['run']}: {row['prediction_sent']:.6g} is predicted for the row "
            f"{row['id']!r} of {row['part']}, the baseline gives {row['prediction']:.6g}"
        )
