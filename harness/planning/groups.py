"""Groups of rows, as a protocol's rules have them: of all datasets of a benchmark together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin.protocol import BenchmarkRows, ProtocolRules
from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from harness.data.dataset_loader import DatasetLoader

Groups = Sequence[str | None]
"""Of every row of a dataset in one run; None where the row has no role in it."""


class Grouping:
    """Answers which group a row is in, run by run; asked of the protocol once, then kept.

    Args:
        loader: of the datasets.
        rules: of the protocol.
        datasets: all that the benchmark trains on, tests on or starts from.
        tested: those that it tests on.
    """

    def __init__(
        self,
        loader: DatasetLoader,
        rules: ProtocolRules,
        datasets: Iterable[str],
        tested: Sequence[str],
    ) -> None:
        self._loader, self._rules = loader, rules
        self._datasets, self._tested = tuple(datasets), tuple(tested)
        self._by_run: dict[int, dict[str, Groups]] = {}

    @property
    def is_own(self) -> bool:
        """Whether the protocol groups rows by something else than their reduced formula."""
        return type(self._rules).group is not ProtocolRules.group

    @cached_property
    def rows(self) -> BenchmarkRows:
        """The rows of all single datasets, these in the order of their names."""
        tested = self._parts(self._tested)
        names = sorted({*self._parts(self._datasets), *tested})
        spec = self._loader.property_of(self._tested[0])
        data = [self._loader[name] for name in names]
        return BenchmarkRows(
            tuple(name for name, own in zip(names, data, strict=True) for _ in own.ids),
            tuple(crystal for own in data for crystal in own.crystals),
            np.concatenate(
                [own.targets if own.property == spec else np.full(len(own), np.nan) for own in data]
            ),
            np.repeat([name in tested for name in names], [len(own) for own in data]),
        )

    def of(self, dataset: str, run: int) -> Groups:
        """Returns the group of every row of a dataset, which may be composite."""
        whole = self._loader[dataset]
        if not self.is_own:
            return whole.formulas
        groups = self._by_run.setdefault(run, {})
        if dataset not in groups:
            if not groups:
                groups |= self._ask(run)
            if dataset not in groups:
                groups[dataset] = self._joined(dataset, groups)
        return groups[dataset]

    def _parts(self, names: Iterable[str]) -> set[str]:
        return {part for name in names for part in self._loader.parts(name)}

    def _joined(self, dataset: str, groups: dict[str, Groups]) -> Groups:
        whole = self._loader[dataset]
        joined: list[str | None] = [None] * len(whole)
        for part in self._loader.parts(dataset):
            for position, name in zip(whole.positions_of(part), groups[part], strict=True):
                joined[position] = name
        return tuple(joined)

    def _ask(self, run: int) -> dict[str, Groups]:
        """Asks the protocol for the groups of a run; returns them by single dataset."""
        names = call(
            self._rules.group,
            self.rows,
            run,
            action=f"grouping the rows for run {run}",
            returns=Sequence,
        )
        self._check(names, run)
        groups: dict[str, list[str | None]] = {}
        for dataset, name in zip(self.rows.datasets, names, strict=True):
            groups.setdefault(dataset, []).append(name)
        return {dataset: tuple(own) for dataset, own in groups.items()}

    def _check(self, names: Groups, run: int) -> None:
        """Refuses what is no grouping, and one that tears twins apart.

        Raises:
            PluginError: names the method that made it.
        """
        who = f"{type(self._rules).__qualname__}.group"
        rows = self.rows
        if len(names) != len(rows.datasets):
            raise Breach(
                self._rules.group,
                f"{who} gave {len(names)} groups for {len(rows.datasets)} rows in run {run}: "
                "expected one per row, None for a row without a role.",
            )
        of_formula: dict[str, str] = {}
        for formula, name in zip(rows.formulas, names, strict=True):
            if name is not None and not isinstance(name, str):
                raise Breach(
                    self._rules.group,
                    f"{who} gave {name!r} in run {run}: expected the name of a group, or None.",
                )
            twins = name is not None and of_formula.setdefault(formula, name) != name
            if twins and self._rules.leak_free:
                raise Breach(
                    self._rules.group,
                    f"{who} has rows of the reduced formula {formula} in two groups in run "
                    f"{run}, {of_formula[formula]!r} and {name!r}: twins could be on two "
                    "sides, although the protocol promises to be leak-free. Give all of them "
                    "one group, or those that must be out of the way None.",
                )
