"""Small made-up results, for tests of where and how they are kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.plugin.cell import CELL
from harness.results.records import (
    DatasetFacts,
    PlanFile,
    PlannedCell,
    ResultLine,
    StageFacts,
)
from harness.results.store import Store

COLUMNS: dict[str, Any] = dict.fromkeys(CELL, "x") | {"train_on": "D", "test_on": "D"}
LEDGER = pd.DataFrame({"run": [1], "part": ["D"], "id": ["a"], "group": ["A"], "role": ["scaler"]})
HISTORY = {"train_loss": [[0.5, None], [0.25, 0.5]], "score": [[1.0, 2.0], [0.5, None]]}


@pytest.fixture(scope="session")
def made_up() -> SimpleNamespace:
    """Makes small results, and reads them in a form that can be compared."""
    return SimpleNamespace(
        LEDGER=LEDGER,
        HISTORY=HISTORY,
        key=key,
        line=line,
        facts=facts,
        rows=rows,
        complete=complete,
        content=content,
    )


def key(number: int) -> str:
    return f"{number:016x}"


def line(run: int, score: float = 0.5, cell: str = "k") -> ResultLine:
    scores = {"n": 1, "failed": 0, "mape": score}
    return ResultLine(
        **COLUMNS,
        key=cell,
        run=run,
        scores={"all": scores, "overlap-free": scores},
        stage="a",
        train_rows=2,
        epochs=1,
        best_epoch=1,
        skipped_updates=0,
        datasets={"D": DatasetFacts(digest="d", rows=3)},
    )


def facts(**changes: Any) -> StageFacts:
    """What is known of a stage."""
    known = dict.fromkeys(StageFacts.model_fields, None) | {
        "format": 1,
        "title": "t",
        "dataset": "D",
        "dataset_digest": "d",
        "dataset_rows": 3,
        "model": {},
        "freeze": [],
        "adapters": [],
        "new_head": False,
        "stack": [],
        "protocol": "strict",
        "runs": [1],
        "train_rows": [2],
        "validation_rows": [1],
        "scalers": [{"mean": 0.0, "std": 1.0}],
        "parent_members": [],
        "groups": [],
        "alongside": [],
        "member_epochs": 1,
        "seconds": 0.5,
        "environment": {},
    }
    return StageFacts(**(known | changes))


def rows(predictions: list[float], std_log: list[float] | None = None) -> pd.DataFrame:
    """Predicted rows of one run."""
    frame = pd.DataFrame(
        {
            "run": np.ones(len(predictions), dtype=np.int32),
            "part": "D",
            "id": [f"row-{n}" for n in range(len(predictions))],
            "role": "test",
            "target": 1.0,
            "overlap": [n % 2 == 0 for n in range(len(predictions))],
            "prediction": np.array(predictions, dtype=np.float64),
        }
    )
    return frame if std_log is None else frame.assign(std_log=std_log)


def complete(
    store: Store,
    predictions: list[pd.DataFrame],
    histories: list[Any],
    tuned: bool = False,
    weights: bool = False,
) -> Store:
    """Writes a complete leaderboard of one run: a cell and a stage per entry."""
    cells = []
    for number, (frame, history) in enumerate(zip(predictions, histories, strict=True)):
        name = key(number)
        tuning = "tuned" if tuned else "default"
        columns = COLUMNS | {"head": f"h{number}", "tuning": tuning}
        cells.append(PlannedCell(key=name, **columns, leak_free=True, chain=(name,)))
        store.write_stage(name, {"w": torch.zeros(1)}, facts(history=history), LEDGER)
        if not weights:
            store.weights_path(name).unlink()
        store.write_predictions(name, frame)
        if tuned:
            store.write_tuning_ledger(name, LEDGER.assign(role="tuning"))
        store.append_results([line(1, cell=name).model_copy(update=columns)])
    store.write_plan(
        PlanFile(
            benchmark={
                "name": "made-up",
                "title": "",
                "summary": "",
                "runs": 1,
                "seed": 0,
                "metrics": ["mape"],
                "test_on": ["D"],
                "training": {},
                "training_on": {},
                "rows": {"D": 3},
            },
            datasets={},
            cells=tuple(cells),
        )
    )
    return store


def content(store: Store) -> dict[str, Any]:
    """All that is read from a results folder, in a form that can be compared."""
    plan = store.read_plan()
    found: dict[str, Any] = {"plan": plan, "lines": store.read_results()}
    for cell in plan.cells:
        found[f"rows {cell.key}"] = _comparable(store.read_predictions(cell.key))
        if cell.tuned:
            found[f"tuning {cell.key}"] = _comparable(store.read_tuning_ledger(cell.key))
    for name in plan.stages:
        found[f"record {name}"] = store.stage_record(name)
        found[f"ledger {name}"] = _comparable(store.read_ledger(name))
    return found


def _comparable(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: [repr(value) for value in frame[name].tolist()] for name in frame.columns}
