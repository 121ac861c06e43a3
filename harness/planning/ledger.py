"""The role ledger: what every row was used for, in every run, and whether that was allowed.

Roles: `scaler` (mean and std were fitted on it), `gradient` (trained on), `selection` (chose the
epoch), `tuning` (chose settings), `test` (scored). A protocol that promises to be leak-free is held
to it before anything is trained: no test row has another role in the chain that predicts it, no
group of a target's test rows has one either, and no source stage sees a group of any test set of
the benchmark. Groups are reduced formulas unless the protocol has others; these hold for every test
set of a chain, whichever dataset it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from harness.errors import LeakError
from harness.planning.plan import MemberOf

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from harness.data.dataset import Dataset
    from harness.planning.groups import Groups
    from harness.planning.plan import Plan, Scoring, StageNode
    from harness.planning.resolved import ResolvedProtocol

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Column = Sequence[str] | NDArray[np.generic]

ROLES = ("scaler", "gradient", "selection", "tuning", "test")
COLUMNS = ("run", "part", "id", "group", "role")

Row = tuple[str, str]
"""(part, id): what a row is called, whichever dataset it is reached through."""


def roles_of(member: MemberOf) -> Iterator[tuple[Dataset, Groups, str, Sequence[int]]]:
    """Yields (dataset, groups, role, row positions) of what a member of a stage does with its data.

    A head that is fitted in closed form has no epochs to select; `gradient` is then its fit.
    """
    for dataset, rows in member.fitted():
        yield dataset, rows.groups, "gradient", rows.train.tolist()
        if not member.stage.closed_form:
            yield dataset, rows.groups, "selection", rows.validation.tolist()
        yield dataset, rows.groups, "scaler", rows.scaler_rows.tolist()


def stage_ledger(stage: StageNode) -> pd.DataFrame:
    """Returns one row per run, dataset row and role of a stage; columns as `COLUMNS`."""
    import pandas as pd

    lines = [
        (rows_of.run, data.parts[row], data.ids[row], groups[row], role)
        for number, rows_of in enumerate(stage.members)
        for data, groups, role, rows in roles_of(MemberOf(stage, number))
        for row in rows
    ]
    return pd.DataFrame(list(dict.fromkeys(lines)), columns=list(COLUMNS))


def tuning_ledger(scoring: Scoring) -> pd.DataFrame:
    """Returns the rows that the settings of a scoring were chosen by; columns as `COLUMNS`."""
    import pandas as pd

    data = scoring.target
    lines = [
        (members[0].rows.run, data.parts[row], data.ids[row], members[0].rows.groups[row], "tuning")
        for members, rows in zip(scoring.sources, scoring.tuning, strict=True)
        for row in rows
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def test_rows(scoring: Scoring) -> pd.DataFrame:
    """Returns the rows that a scoring predicts: run, part, id, role `test`, target, overlap."""
    import pandas as pd

    return pd.DataFrame(test_columns(scoring))


def rows_frame(
    data: Dataset,
    runs: Sequence[int],
    rows: Sequence[Indices],
    labels: Sequence[Floats],
    overlap: Sequence[NDArray[np.bool_]],
) -> pd.DataFrame:
    """Returns test rows of a dataset, as `test_rows`; arguments as in `Scoring`."""
    import pandas as pd

    return pd.DataFrame(_columns(data, runs, rows, labels, overlap))


def test_columns(scoring: Scoring) -> dict[str, Column]:
    """Returns the columns of `test_rows`; pandas would take longer than all else about a cell."""
    own = (scoring.runs, scoring.rows, scoring.labels, scoring.overlap)
    return _columns(scoring.dataset, *own)


def _columns(
    data: Dataset,
    runs: Sequence[int],
    rows: Sequence[Indices],
    labels: Sequence[Floats],
    overlap: Sequence[NDArray[np.bool_]],
) -> dict[str, Column]:
    import numpy as np

    places = np.concatenate(rows).tolist()
    return {
        "run": np.repeat(np.array(runs, dtype=np.int32), [len(own) for own in rows]),
        "part": [data.parts[row] for row in places],
        "id": [data.ids[row] for row in places],
        "role": ["test"] * len(places),
        "target": np.concatenate(labels),
        "overlap": np.concatenate(overlap),
    }


def check_plan(plan: Plan) -> None:
    """Holds every leak-free protocol of a plan to its promise.

    Raises:
        LeakError: names the row, its two roles, the run and the stages.
    """
    tested = _test_groups(plan)
    checked: set[tuple[object, ...]] = set()
    uses = _Uses()
    for scoring in plan.scorings:
        protocol, target = scoring.protocol, scoring.target
        if not protocol.rules.leak_free:
            continue
        for stage in scoring.chain:
            looked_at = [
                data
                for data in stage.datasets
                if data is not target and not _may_keep(protocol, data, target)
            ]
            task = (stage.key, protocol.label, *map(id, looked_at))
            if task not in checked:
                checked.add(task)
                _check_sources(stage, looked_at, protocol, tested[protocol.label])
        for number in range(len(scoring.rows)):
            used = uses.before(scoring, number)
            _check_rows(scoring, number, used)
            if scoring.dataset is target or _has_own_groups(scoring):
                _check_groups(scoring, number, used)


def _test_groups(plan: Plan) -> dict[str, dict[int, dict[str | None, str]]]:
    """Per protocol and run: the groups of all test rows, each with a row to name in an error."""
    groups: dict[str, dict[int, dict[str | None, str]]] = {}
    for scoring in plan.scorings:
        of_protocol = groups.setdefault(scoring.protocol.label, {})
        for run, own, rows in zip(scoring.runs, scoring.groups, scoring.rows, strict=True):
            of_run = of_protocol.setdefault(run, {})
            for row in rows:
                of_run.setdefault(own[row], _name(scoring.dataset, row))
    return groups


def _has_own_groups(scoring: Scoring) -> bool:
    """Whether groups are others than reduced formulas."""
    return any(own is not scoring.dataset.formulas for own in scoring.groups)


@dataclass(frozen=True, eq=False)
class Use:
    """What was done with the rows of a dataset at one place, and so with their groups.

    Attributes:
        data: the dataset.
        where: as `in the stage …`.
        rows: by what a row is called, its first role.
        groups: by group, the first of its rows, and its role.
    """

    data: Dataset
    where: str
    rows: dict[Row, str]
    groups: dict[str | None, tuple[int, str]]

    @classmethod
    def of(
        cls,
        data: Dataset,
        where: str,
        groups: Groups,
        by_role: Iterable[tuple[str, Sequence[int]]],
    ) -> Use:
        """Looks through rows, by the roles that they had."""
        use = cls(data, where, {}, {})
        for role, rows in by_role:
            for row in rows:
                use.rows.setdefault(_row(data, row), role)
                use.groups.setdefault(groups[row], (row, role))
        return use


class _Uses:
    """What runs did before they are scored; looks through each member of a stage once."""

    def __init__(self) -> None:
        self._of_members: dict[tuple[str, int], list[Use]] = {}

    def before(self, scoring: Scoring, number: int) -> list[Use]:
        """All that a run of a scoring did, first to last."""
        sources = scoring.sources[number]
        found = [
            use
            for source in sources
            for member in source.line
            for use in self._of(member)
            if not _may_keep(scoring.protocol, use.data, scoring.target)
        ]
        if scoring.tuning:
            chosen_by = [("tuning", scoring.tuning[number].tolist())]
            where, groups = "in the choice of settings", sources[0].rows.groups
            found.append(Use.of(scoring.target, where, groups, chosen_by))
        return found

    def _of(self, member: MemberOf) -> list[Use]:
        key = (member.stage.key, member.index)
        if key not in self._of_members:
            where = f"in the stage {member.stage.title}"
            self._of_members[key] = [
                Use.of(data, where, groups, ((role, rows) for _, _, role, rows in roles))
                for (data, groups), roles in groupby(roles_of(member), key=itemgetter(0, 1))
            ]
        return self._of_members[key]


def _check_rows(scoring: Scoring, number: int, used: Sequence[Use]) -> None:
    for row in scoring.rows[number]:
        name = _row(scoring.dataset, row)
        for use in used:
            if (role := use.rows.get(name)) is not None:
                raise LeakError(
                    f"Leak in run {scoring.runs[number]}: the row {_name(scoring.dataset, row)} "
                    f"has the role 'test' in {_title(scoring)} and the role {role!r} {use.where}. "
                    f"{_culprit(scoring.protocol, role)}"
                )


def _check_groups(scoring: Scoring, number: int, used: Sequence[Use]) -> None:
    for row in scoring.rows[number]:
        group = scoring.groups[number][row]
        for use in used:
            if (known := use.groups.get(group)) is not None:
                other, role = known
                raise LeakError(
                    f"Leak in run {scoring.runs[number]}: the row {_name(scoring.dataset, row)} "
                    f"has the role 'test' in {_title(scoring)}, and {_name(use.data, other)}, of "
                    f"the {_same(group, use.data.formulas[other])}, the role {role!r} {use.where}: "
                    f"twins across the split. {_culprit(scoring.protocol, role)}"
                )


def _check_sources(
    stage: StageNode,
    looked_at: Sequence[Dataset],
    protocol: ResolvedProtocol,
    reserved: dict[int, dict[str | None, str]],
) -> None:
    """Looks for groups of test rows among what a stage does with some of its datasets."""
    for number, member in enumerate(stage.members):
        for data, groups, role, rows in roles_of(MemberOf(stage, number)):
            if not any(data is one for one in looked_at):
                continue
            for row in rows:
                group = groups[row]
                if (tested := reserved.get(member.run, {}).get(group)) is not None:
                    raise LeakError(
                        f"Leak in run {member.run}: the source stage {stage.title} uses "
                        f"{_name(data, row)} in the role {role!r}, and {tested}, of the "
                        f"{_same(group, data.formulas[row])}, has the role 'test'. "
                        f"{_culprit(protocol, role)}"
                    )


def _same(group: str | None, formula: str) -> str:
    """What two rows have in common."""
    return f"same formula {formula}" if group == formula else f"same group {group!r}"


def _may_keep(protocol: ResolvedProtocol, source: Dataset, target: Dataset) -> bool:
    """Whether a source may hold crystals of test rows, since it says nothing of their labels."""
    return protocol.rules.keep_other_properties and source.property != target.property


def _row(dataset: Dataset, row: int) -> Row:
    return dataset.parts[row], dataset.ids[row]


def _name(dataset: Dataset, row: int) -> str:
    return f"{dataset.ids[row]!r} of {dataset.parts[row]}"


def _title(scoring: Scoring) -> str:
    cell = scoring.cell
    return f"the cell {cell.transfer}: {cell.train_on} → {cell.test_on}"


def _culprit(protocol: ResolvedProtocol, role: str) -> str:
    promise = f"The protocol {protocol.ref.name!r} promises to be leak-free: "
    if role == "tuning":
        return promise + "choose settings with tuning.selection = 'per-run'."
    return promise + "mend its `split` or `scaler_rows`, or declare `leak_free = False`."
