"""The trials of finished searches as a table, `trials.parquet`, and as the journal that it was.

Every trial comes back with its number, state, values, parameters and their distributions, reports,
notes and times; studies with their names, directions and notes. What a journal says besides is
lost: which process did what, and the order in which studies took turns.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from harness.errors import StoreError
from harness.files import make_folder, replacing
from harness.results.frozen import INDEX, flush
from harness.results.records import OtherFormatError, StudiesIndex, StudyFacts
from harness.results.store import TUNING_FOLDER

if TYPE_CHECKING:
    import pyarrow as pa

TRIALS_TABLE = "trials.parquet"
JOURNAL = "journal.log"
"""What `Tuning.storage` says of where trials lie by default."""

TEXT = ("params", "distributions", "reports", "user_attrs", "system_attrs", "values")
"""Columns that hold JSON."""


def freeze_searches(folder: Path) -> None:
    """Turns the journal of the searches in a results folder into its table of trials.

    The journal is removed when the table gives back what it holds.

    Raises:
        StoreError: the table does not.
    """
    journal = folder / TUNING_FOLDER / JOURNAL
    if not journal.is_file():
        return
    table = folder / TRIALS_TABLE
    known = _read_journal(journal)
    _write_table(table, known)
    if _read_table(table) != known:
        raise StoreError(
            f"{table} does not give back what {journal} holds: nothing was removed. This is a bug "
            "in the harness, please report it."
        )
    journal.unlink()


def thaw_searches(folder: Path) -> None:
    """Makes the journal of frozen searches again, where there is none, for a search to go on.

    Raises:
        StoreError: the table of trials is damaged, or of another format.
    """
    table, journal = folder / TRIALS_TABLE, folder / TUNING_FOLDER / JOURNAL
    if journal.is_file() or not table.is_file():
        return
    try:
        studies = _read_table(table)
    except OtherFormatError as problem:
        raise StoreError(f"{table} {problem}") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise StoreError(
            f"{table} is damaged: {problem}. Restore it, or remove it to search anew."
        ) from None
    make_folder(journal.parent)
    with replacing(journal) as staging:
        _write_journal(staging, studies)


Studies = list[tuple[StudyFacts, list[FrozenTrial]]]


def _read_journal(journal: Path) -> Studies:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [
        (
            StudyFacts(
                name=study.study_name,
                directions=tuple(direction.value for direction in study.directions),
                user_attrs=study.user_attrs,
                system_attrs=study.system_attrs,
            ),
            [_nameless(trial) for trial in storage.get_all_trials(study._study_id)],
        )
        for study in storage.get_all_studies()
    ]


def _nameless(trial: FrozenTrial) -> FrozenTrial:
    """Leaves out the number that only the storage knows a trial by."""
    trial._trial_id = trial.number
    return trial


def _write_journal(journal: Path, studies: Studies) -> None:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    for facts, trials in studies:
        directions = [StudyDirection(value) for value in facts.directions]
        study = storage.create_new_study(directions, facts.name)
        for name, value in facts.user_attrs.items():
            storage.set_study_user_attr(study, name, value)
        for name, value in facts.system_attrs.items():
            storage.set_study_system_attr(study, name, value)
        for trial in trials:
            storage.create_new_trial(study, template_trial=trial)


def _write_table(path: Path, studies: Studies) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(facts.name, trial) for facts, trials in studies for trial in trials]
    table = pa.Table.from_pylist(rows, schema=_schema())
    index = StudiesIndex(studies=tuple(facts for facts, _ in studies))
    table = table.replace_schema_metadata({INDEX: json.dumps(index.as_json()).encode()})
    with replacing(path) as staging:
        pq.write_table(table, staging, compression="zstd")
        flush(staging)


def _read_table(path: Path) -> Studies:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    index = StudiesIndex.read((table.schema.metadata or {}).get(INDEX, b"{}"))
    trials: dict[str, list[FrozenTrial]] = {facts.name: [] for facts in index.studies}
    for row in table.to_pylist():
        trials[row["study"]].append(_trial(row))
    return [(facts, trials[facts.name]) for facts in index.studies]


def _schema() -> pa.Schema:
    import pyarrow as pa

    text = {name: pa.string() for name in TEXT}
    times = {"started": pa.string(), "completed": pa.string()}
    return pa.schema(
        {"study": pa.string(), "trial": pa.int32(), "state": pa.string(), **text, **times}
    )


def _row(study: str, trial: FrozenTrial) -> dict[str, Any]:
    kinds = trial.distributions
    content = {
        "values": trial.values,
        # as the storage holds them: choices by their position
        "params": {n: kinds[n].to_internal_repr(value) for n, value in trial.params.items()},
        "distributions": {n: distribution_to_json(kind) for n, kind in kinds.items()},
        "reports": {str(step): value for step, value in trial.intermediate_values.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
    }
    started, completed = trial.datetime_start, trial.datetime_complete
    return {
        "study": study,
        "trial": trial.number,
        "state": trial.state.name,
        **{name: json.dumps(content[name]) for name in TEXT},
        "started": started.isoformat() if started else None,
        "completed": completed.isoformat() if completed else None,
    }


def _trial(row: dict[str, Any]) -> FrozenTrial:
    content = {name: json.loads(row[name]) for name in TEXT}
    kinds = {n: json_to_distribution(text) for n, text in content["distributions"].items()}
    return FrozenTrial(
        number=row["trial"],
        trial_id=row["trial"],
        state=TrialState[row["state"]],
        value=None,
        values=content["values"],
        datetime_start=row["started"] and datetime.fromisoformat(row["started"]),
        datetime_complete=row["completed"] and datetime.fromisoformat(row["completed"]),
        params={n: kinds[n].to_external_repr(value) for n, value in content["params"].items()},
        distributions=kinds,
        user_attrs=content["user_attrs"],
        system_attrs=content["system_attrs"],
        intermediate_values={int(step): value for step, value in content["reports"].items()},
    )
