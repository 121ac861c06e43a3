"""Splits, scalers and labels of every dataset and run, as a protocol's rules have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import BenchmarkError, DataError
from harness.planning.groups import Grouping, Groups
from harness.plugin.protocol import ProtocolRules, Scaler, Split
from harness.plugin.seeds import derive_seed
from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.data.dataset_loader import DatasetLoader
    from harness.plugin.arrays import Floats, Indices


class Splits:
    """Answers, for one protocol, what each run may do with each row; computed once, then kept.

    A single dataset's split depends on the root seed, its own rows with their groups and the run,
    on nothing else: unless a protocol groups rows by what others there are, adding a dataset or a
    run changes no other. A composite dataset follows its parts.

    Args:
        loader: of the datasets.
        rules: of the protocol.
        seed: the root seed.
        datasets: all that the benchmark trains on, tests on or starts from.
        tested: those that it tests on.

    Attributes:
        grouping: of the protocol.
    """

    def __init__(
        self,
        loader: DatasetLoader,
        rules: ProtocolRules,
        seed: int,
        datasets: Iterable[str],
        tested: Sequence[str],
    ) -> None:
        self._loader = loader
        self._rules = rules
        self._seed = seed
        self.grouping = Grouping(loader, rules, datasets, tested)
        self._splits: dict[tuple[str, int], Split] = {}

    def of(self, dataset: str, run: int) -> Split:
        """Returns the split of a dataset for a run, as row positions."""
        key = (dataset, run)
        if key not in self._splits:
            parts = self._loader.parts(dataset)
            self._splits[key] = (
                self._single(dataset, run) if parts == (dataset,) else self._joint(dataset, run)
            )
        return self._splits[key]

    def _single(self, dataset: str, run: int) -> Split:
        of_rows = self.grouping.of(dataset, run)
        rows = np.array([row for row, name in enumerate(of_rows) if name is not None], np.int64)
        groups = tuple(name for name in of_rows if name is not None)
        by_run = (run,) if self._rules.seed_by_run else ()
        seed = derive_seed(self._seed, "split", dataset, *by_run)
        action = f"splitting the dataset {dataset!r} for run {run}"

        def ask() -> Split:
            try:
                split: Split = call(
                    self._rules.split, groups, run, seed, action=action, returns=Split
                )
            except DataError as problem:
                raise DataError(f"The dataset {dataset!r} cannot be split: {problem}") from None
            _check_split(split, len(groups), self._rules)
            return Split(**{side: rows[own.astype(np.int64)] for side, own in vars(split).items()})

        split, again = ask(), ask()
        if any(
            not np.array_equal(rows, getattr(again, side)) for side, rows in vars(split).items()
        ):
            name = type(self._rules).__qualname__
            raise Breach(
                self._rules.split,
                f"{name}.split gave other rows when it was asked again for {dataset!r}, run {run}: "
                "it must depend on its arguments alone.",
            )
        return split

    def _joint(self, dataset: str, run: int) -> Split:
        whole = self._loader[dataset]
        sides: dict[str, list[Indices]] = {"train": [], "validation": [], "test": []}
        for part in self._loader.parts(dataset):
            positions = whole.positions_of(part)
            split = self.of(part, run)
            for side, rows in sides.items():
                rows.append(positions[getattr(split, side)])
        joined = Split(**{side: np.concatenate(rows) for side, rows in sides.items()})
        if not self._rules.leak_free:
            return joined
        return self._without_twins(joined, self.grouping.of(dataset, run))

    @staticmethod
    def _without_twins(split: Split, groups: Groups) -> Split:
        """Keeps every group on one side of a joint split.

        Test goes before validation, and that before training; rows in the way are left out.
        """
        test = {groups[row] for row in split.test}
        validation = [row for row in split.validation if groups[row] not in test]
        held_out = test | {groups[row] for row in validation}
        train = [row for row in split.train if groups[row] not in held_out]
        return Split(
            np.array(train, dtype=np.int64), np.array(validation, dtype=np.int64), split.test
        )

    def check(self, dataset: str, run: int, **sides: Indices) -> None:
        """Refuses a split with an empty side.

        Raises:
            DataError: names the dataset, the run and the side.
        """
        for side, rows in sides.items():
            if not len(rows):
                size = len(self._loader[dataset])
                raise DataError(
                    f"No {side} rows are left for {dataset!r} in run {run}: it has {size} rows, "
                    "too few for this split, or all of them belong to groups that must be left "
                    "out, or the protocol gives none. Use a larger dataset, or take it out of the "
                    "benchmark."
                )

    def tests(self, dataset: str, runs: Sequence[int]) -> dict[int, Indices]:
        """Returns the test rows of those runs that have any, by their position in `runs`.

        Raises:
            DataError: a run has none and the protocol does not allow that, or no run has any.
        """
        found = {}
        for number, run in enumerate(runs):
            test = self.of(dataset, run).test
            if len(test):
                found[number] = test
            elif not self._rules.may_test_nothing:
                self.check(dataset, run, test=test)
        if not found:
            raise DataError(
                f"No run has test rows in {dataset!r}: none of its {len(self._loader[dataset])} "
                "rows is in a group that is left out. Leave out other groups, or take it out of "
                "test_on."
            )
        return found

    def scaler(self, dataset: str, split: Split) -> Scaler:
        """Fits the scaler of a dataset for a run with this split."""
        data = self._loader[dataset]
        offset = self._rules.offset if data.property.is_log else None
        return Scaler.fit(data.targets[self.scaler_rows(split)], offset)

    def scaler_rows(self, split: Split) -> Indices:
        """Returns the rows on which that scaler is fitted."""
        rows: Indices = call(
            self._rules.scaler_rows,
            split,
            action="choosing the rows of the scaler",
            returns=np.ndarray,
        )
        return rows

    def labels(self, dataset: str, run: int, decoder: Scaler) -> Floats:
        """Returns the target of every row as the protocol lets it be seen through `decoder`."""
        whole = self._loader[dataset]
        labels = np.empty(len(whole))
        for part in self._loader.parts(dataset):
            scaler = self.scaler(part, self.of(part, run))
            positions = whole.positions_of(part)
            labels[positions] = call(
                self._rules.labels,
                whole.targets[positions],
                scaler,
                decoder,
                action=f"labelling the dataset {part!r}",
                returns=np.ndarray,
            )
        return labels


def with_validation(split: Split) -> Split:
    """Returns a split whose validation rows are training rows, in the order of the dataset.

    Raises:
        BenchmarkError: validation rows are test rows, as in the published protocol.
    """
    if np.intersect1d(split.validation, split.test).size:
        raise BenchmarkError(
            "fit_on = 'train+validation': the validation rows of the protocol are test rows. "
            "Leave it out, or use a protocol that keeps the two apart."
        )
    both = np.union1d(split.train, split.validation)
    return Split(both, split.validation[:0], split.test)


def _check_split(split: Split, size: int, rules: ProtocolRules) -> None:
    """Refuses what is no split of that many rows.

    Raises:
        PluginError: names the method that made it.
    """
    for side, rows in vars(split).items():
        array = isinstance(rows, np.ndarray) and rows.ndim == 1
        whole = array and (rows.dtype.kind in "iu" or not len(rows))  # none: see `Splits.check`
        if not whole or (len(rows) and not 0 <= rows.min() <= rows.max() < size):
            raise Breach(
                rules.split,
                f"{type(rules).__qualname__}.split gave {rows!r} as {side} rows: expected a numpy "
                f"array of row positions, whole numbers from 0 to {size - 1}.",
            )
        if len(np.unique(rows)) < len(rows):
            twice = int(np.flatnonzero(np.bincount(rows) > 1)[0])
            raise Breach(
                rules.split,
                f"{type(rules).__qualname__}.split names the row {twice} twice among its {side} "
                "rows: expected every row once.",
            )
