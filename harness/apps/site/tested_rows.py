"""The rows that cells were tested on, and what else these were used for.

Many cells are tested on the same rows and have stages in common, so both are read and counted once;
in pandas, the same for every cell took a third of the time that a site takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.site.html_tables import compact_json
from harness.planning.ledger import ROLES

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from harness.apps.site.results import LeaderboardCell, Results
    from harness.plugin.arrays import Indices

Sizes = Sequence[tuple[str, str, float]]
"""Part, role, and how many rows of the part had the role, per run."""


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows that were tested, whatever was predicted of them.

    Attributes:
        runs: one per row: the run that tested it.
        materials: (part, id, formula) of all of them, each once.
        of_row: one per row: its position among `materials`.
        runs_of_each: one per material: how many runs tested it.
        by_name: one per material: its place by part and id.
        sizes: how many rows of each part were tested.
        beginnings: of lines that cells have in common, by what these cells have as targets.
    """

    runs: Indices
    materials: Sequence[tuple[str, str, str]]
    of_row: Indices
    runs_of_each: Indices
    by_name: Indices
    sizes: Sizes
    beginnings: dict[bytes, list[str]] = field(default_factory=dict)

    @cached_property
    def packed_materials(self) -> str:
        """The materials as a page holds them."""
        return compact_json([list(material) for material in self.materials])

    @classmethod
    def of(cls, tested: pd.DataFrame, formulas: Mapping[tuple[str, str], str]) -> RowSet:
        """Takes them from predictions.

        Args:
            tested: rows of `Store.read_predictions`.
            formulas: by (part, id).
        """
        names = list(zip(tested["part"], tested["id"], strict=True))
        positions = {name: position for position, name in enumerate(dict.fromkeys(names))}
        runs = tested["run"].to_numpy(dtype=np.int64)
        of_row = np.array([positions[name] for name in names], dtype=np.int64)
        once = np.unique(runs * len(positions) + of_row)
        return cls(
            runs,
            [(*name, formulas.get(name, "")) for name in positions],
            of_row,
            np.bincount(once % len(positions), minlength=len(positions)),
            np.argsort([positions[name] for name in sorted(positions)]),
            _sizes(tested.assign(role="test")),
        )


@dataclass(frozen=True, eq=False)
class CellRows:
    """The predictions of a cell.

    Attributes:
        frame: rows of `Store.read_predictions`, of scored runs.
        rows: which these are.
    """

    frame: pd.DataFrame
    rows: RowSet


@dataclass(frozen=True, eq=False)
class _Uses:
    """What a ledger says, each (run, row, role) once; rows and roles are numbers."""

    runs: Indices
    rows: Indices
    roles: Indices
    sizes: Sizes


class RowUses:
    """Reads predictions and ledgers of one leaderboard.

    Args:
        results: of the leaderboard.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._row_sets: dict[tuple[Any, ...], RowSet] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._formulas: dict[tuple[str, str], str] = {}

    def tested(self, cell: LeaderboardCell) -> CellRows | None:
        """Returns the predictions of scored runs; None where they are not there."""
        leaderboard = self._results.leaderboard
        scored = self._results.entries[leaderboard.metrics[0], "all"][cell.name].runs
        if not scored or not cell.store.has_predictions(cell.planned.key):
            return None
        frame = cell.store.read_predictions(cell.planned.key)
        (runs,) = leaderboard.values_of(cell.name, "all", ("run",))
        known = np.isin(frame["run"].to_numpy(), runs)
        if not known.all():
            frame = frame[known]
        same = tuple(
            values.tobytes() if values.dtype != object else tuple(values)
            for values in (frame[name].to_numpy() for name in ("run", "part", "id"))
        )
        if same not in self._row_sets:
            formulas = self._formulas if self._stages else {}  # known once these are read
            self._row_sets[same] = RowSet.of(frame, formulas)
        return CellRows(frame, self._row_sets[same])

    def sizes(self, cell: LeaderboardCell) -> Sequence[Sizes] | None:
        """Returns how many rows the stages of a cell, and the choice of its settings, used.

        Returns:
            One entry per stage of the chain, then one for the choice of settings, if there was
            one; None where the ledger of a stage was not kept.
        """
        uses = self._uses_of(cell)
        return None if uses is None else [own.sizes for own in uses]

    def conflicts(self, cell: LeaderboardCell, tested: RowSet) -> dict[str, int]:
        """Counts, summed over runs, the test rows of a cell that have another role: by role.

        See `role_report.conflicts`, which lists them.
        """
        uses = self._uses_of(cell) or ()
        numbers = [
            self._numbers.setdefault(material[:2], len(self._numbers))
            for material in tested.materials
        ]
        last = max(int(runs.max(initial=0)) for runs in (tested.runs, *(own.runs for own in uses)))
        are_tested = np.zeros((last + 1, len(self._numbers)), dtype=bool)
        are_tested[tested.runs, np.array(numbers, dtype=np.int64)[tested.of_row]] = True
        found: set[tuple[int, int, int]] = set()
        for own in uses:
            both = are_tested[own.runs, own.rows]
            columns = (values[both].tolist() for values in (own.runs, own.rows, own.roles))
            found.update(zip(*columns, strict=True))
        counts = np.bincount([role for _, _, role in found], minlength=len(ROLES)).tolist()
        return {role: n for role, n in zip(ROLES[:-1], counts, strict=False) if n}

    def _uses_of(self, cell: LeaderboardCell) -> Sequence[_Uses] | None:
        uses = [self._stages.get((cell.store.folder, key)) for key in cell.planned.chain]
        known = [own for own in uses if own is not None]
        if len(known) < len(uses):
            return None
        if cell.planned.tuned:
            known.append(self._read(cell.store.read_tuning_ledger(cell.planned.key)))
        return known

    @cached_property
    def _stages(self) -> Mapping[tuple[Path, str], _Uses]:
        """What every stage used rows for, where its ledger is, by folder and key."""
        stores = {
            (c.store.folder, key): c.store for c in self._results.cells for key in c.planned.chain
        }
        return {
            place: self._read(store.read_ledger(place[1]))
            for place, store in stores.items()
            if store.has_ledger(place[1])
        }

    def _read(self, ledger: pd.DataFrame) -> _Uses:
        import pandas as pd

        of_part, parts = pd.factorize(ledger["part"])
        of_id, ids = pd.factorize(ledger["id"])
        of_role, roles = pd.factorize(ledger["role"])
        _, first, of_row = np.unique(
            of_part * len(ids) + of_id, return_index=True, return_inverse=True
        )
        names = zip(parts[of_part[first]], ids[of_id[first]], strict=True)
        groups = dict(zip(names, ledger["group"].to_numpy()[first], strict=True))
        self._formulas.update(groups)
        numbers = [self._numbers.setdefault(row, len(self._numbers)) for row in groups]
        runs = ledger["run"].to_numpy(dtype=np.int64)
        uses = (runs * len(groups) + of_row) * len(roles) + of_role
        once = np.sort(np.unique(uses, return_index=True)[1])
        known = [ROLES.index(role) if role in ROLES else len(ROLES) for role in roles]
        counted = Counter(zip(of_part[once].tolist(), of_role[once].tolist(), strict=True))
        number_of_runs = len(np.unique(runs))
        return _Uses(
            runs[once],
            np.array(numbers, dtype=np.int64)[of_row[once]],
            np.array(known, dtype=np.int64)[of_role[once]],
            [(parts[p], roles[r], n / number_of_runs) for (p, r), n in counted.items()],
        )


def _sizes(used: pd.DataFrame) -> Sizes:
    """How many rows of each part had which role, per run that is there."""
    once = used.drop_duplicates(["run", "part", "id", "role"])
    runs = used["run"].nunique()
    counted = Counter(zip(once["part"], once["role"], strict=True))
    return [(part, role, number_of / runs) for (part, role), number_of in counted.items()]
