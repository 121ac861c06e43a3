"""What the rows of finished results were used for, cell by cell and row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.planning.ledger import ROLES
from harness.plugin.cell import CELL

if TYPE_CHECKING:
    import pandas as pd

    from harness.results.store import Store


NAMES = {"tuning": "settings"}
"""Columns of cells that would be taken for a role."""


def conflicts(ledger: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Finds test rows that have another role too.

    Args:
        ledger: rows of all stages of a chain, columns as `COLUMNS`.
        tested: test rows, with the columns `run`, `part` and `id`.

    Returns:
        Columns `run`, `part`, `id`, `role`: one line per test row and other role.
    """
    keys = ["run", "part", "id"]
    other = ledger[[*keys, "role"]].drop_duplicates()
    return tested[keys].drop_duplicates().merge(other, on=keys)


def role_counts(store: Store) -> pd.DataFrame:
    """Counts, for every cell of finished results, what its rows were used for.

    Returns:
        One row per cell: head, transfer, settings (how they were found), protocol, train_on,
        test_on; rows per run (mean) that were tested (`test`) and that had each other role in the
        chain; and `test and <role>`: how many test rows, summed over runs, had that role too.

    Raises:
        StoreError: nothing was run in that folder, or a file of it is missing or damaged.
    """
    import pandas as pd

    rows = []
    for cell in store.read_plan().cells:
        if not store.has_predictions(cell.key):
            continue
        tested = store.read_predictions(cell.key)
        used = pd.concat([store.read_ledger(stage) for stage in cell.chain])
        if cell.tuned:
            used = pd.concat([used, store.read_tuning_ledger(cell.key)])
        used = used[["run", "part", "id", "role"]].drop_duplicates()
        runs = tested["run"].nunique()
        both = conflicts(used, tested)["role"].value_counts()
        row = {NAMES.get(name, name): getattr(cell, name) for name in ("head", *CELL[2:])}
        row["test"] = len(tested) / runs
        for role in ROLES[:-1]:
            row[role] = int((used["role"] == role).sum()) / runs
        for role in ROLES[:-1]:
            row[f"test and {role}"] = int(both.get(role, 0))
        rows.append(row)
    return pd.DataFrame(rows)


def roles_of_row(store: Store, row_id: str) -> pd.DataFrame:
    """Returns what one row was used for: part, id, role, stage, and the runs.

    Raises:
        StoreError: nothing was run in that folder, or a file of it is missing or damaged.
    """
    import pandas as pd

    cells = [cell for cell in store.read_plan().cells if store.has_predictions(cell.key)]
    found = []
    for stage in sorted({stage for cell in cells for stage in cell.chain}):
        used = store.read_ledger(stage)
        title = store.stage_record(stage).title
        found.append(used[used["id"] == row_id].assign(stage=f"{title} {stage[:6]}"))
    for cell in cells:
        if cell.tuned:
            used = store.read_tuning_ledger(cell.key)
            place = f"choice of settings: {cell.head}, {cell.transfer}"
            found.append(used[used["id"] == row_id].assign(stage=place))
        tested = store.read_predictions(cell.key).assign(role="test")
        place = f"{cell.head}, {cell.transfer}: {cell.train_on} → {cell.test_on}"
        found.append(tested[tested["id"] == row_id].assign(stage=place))
    columns = ["part", "id", "role", "stage"]
    if not found:
        return pd.DataFrame(columns=[*columns, "runs"])
    grouped = pd.concat(found).groupby(columns, sort=False)["run"]
    runs = grouped.agg(lambda own: " ".join(map(str, sorted(set(own)))))
    return runs.rename("runs").reset_index()
