"""Repeated k-fold cross-validation with whole groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from harness.plugin import (
    BenchmarkError,
    BenchmarkRows,
    DataError,
    Settings,
    Split,
    derive_seed,
)
from harness_strict.sides import LeakFreeRules, divide


class FoldSettings(Settings):
    """Settings of `k-fold`.

    Attributes:
        folds: parts that a dataset is cut into; each is tested once per repeat.
        validation: share of the rows that are not tested, to select on.
        keep: share of the training rows that is trained on, for learning curves; as in `strict`.
    """

    folds: int = Field(default=5, ge=2)
    validation: float = Field(default=0.1, gt=0, lt=1)
    keep: float = Field(default=1.0, gt=0, le=1)


class FoldRules(LeakFreeRules):
    """Run r tests fold (r − 1) mod k of repeat (r − 1) div k; otherwise as `strict`."""

    resampling = "folds"
    seed_by_run = False

    def __init__(self, settings: FoldSettings) -> None:
        self.settings = settings

    def name_runs(self, runs: int, rows: BenchmarkRows) -> Sequence[str]:
        """Names repeat and fold.

        Raises:
            BenchmarkError: the runs do not make whole repeats.
        """
        folds = self.settings.folds
        if runs % folds:
            below = runs // folds * folds
            near = f"{below} or {below + folds}" if below else f"{folds}"
            raise BenchmarkError(
                f"runs = {runs}: the protocol 'k-fold' with folds = {folds} needs a multiple of "
                f"{folds}, so that every row is tested equally often; {near}, for instance."
            )
        return [f"repeat {run // folds + 1}, fold {run % folds + 1}" for run in range(runs)]

    def split(self, groups: Sequence[str], run: int, seed: int) -> Split:
        """Tests one fold, and draws validation rows from the others.

        In an order that the seed and the repeat decide, each group goes to the fold with the fewest
        rows so far. So folds differ by the rows of the largest group at most.

        Args:
            groups: of each row.
            run: decides repeat and fold.
            seed: the same in all runs.

        Raises:
            DataError: fewer groups than folds, or than three.
        """
        folds, sizes = self.settings.folds, Counter(groups)
        if len(sizes) < max(folds, 3):
            raise DataError(
                f"The protocol 'k-fold' with folds = {folds} needs rows of at least "
                f"{max(folds, 3)} different groups; the number of groups among the {len(groups)} "
                f"rows is {len(sizes)}. Use a larger dataset, or fewer folds."
            )
        repeat, fold = divmod(run - 1, folds)
        filled, tested = [0] * folds, set()
        for name in sorted(sizes, key=lambda name: derive_seed(seed, "folds", repeat, name)):
            smallest = filled.index(min(filled))
            filled[smallest] += sizes[name]
            if smallest == fold:
                tested.add(name)
        inner = derive_seed(seed, "validation", run)
        return divide(
            groups, frozenset(tested), inner, self.settings.validation, self.settings.keep
        )
